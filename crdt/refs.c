/* References; see refs.h. */
#include "crdt/refs.h"

#include <string.h>

#include "proto/check.h"
#include "proto/limits.h"

/* Combinations of loose and not that are tried for a key with several references. */
#define KEY_TRIES_MAX 16

void p2p_refs_init(struct p2p_refs *refs, struct p2p_store *store)
{
	memset(refs, 0, sizeof(*refs));
	refs->store = store;
	p2p_rowstate_init(&refs->state);
}

void p2p_refs_deinit(struct p2p_refs *refs)
{
	p2p_rowstate_deinit(&refs->state);
	memset(refs, 0, sizeof(*refs));
}

struct p2p_table *p2p_refs_parent(struct p2p_refs *refs, const struct p2p_reference *reference)
{
	return p2p_store_table_by_id(refs->store, &reference->parent);
}

static struct p2p_table *key_parent(struct p2p_refs *refs, const struct p2p_table *table,
				    uint32_t key_pos)
{
	uint32_t at = table->columns[table->key[key_pos]].reference;

	return at == P2P_REFERENCE_NONE ? NULL : p2p_refs_parent(refs, &table->references[at]);
}

static int identity_read(struct p2p_identity *out, const void *key, size_t len)
{
	struct p2p_reader reader;

	p2p_reader_init(&reader, key, len);
	p2p_identity_read(&reader, out);
	return reader.failed || p2p_reader_left(&reader) ? P2P_ECORRUPT : 0;
}

/* --- row to number ---------------------------------------------------------------------------- */

static int number_at_depth(struct p2p_refs *refs, const struct p2p_rowref *row, unsigned depth,
			   int64_t *out, bool *out_shown);

/* Number of the row that a part of a key refers to. */
static int part_number(struct p2p_refs *refs, const struct p2p_table *parent,
		       const struct p2p_identity *target, unsigned depth, int64_t *out)
{
	struct p2p_rowref row = {.table = parent};
	struct p2p_buf key;
	bool shown;
	int rc;

	if (!parent)
		return P2P_ENOENT;
	p2p_buf_init(&key, P2P_RECORD_BYTES_MAX);
	p2p_identity_put(&key, target);
	rc = p2p_buf_error(&key);
	row.key = key.data;
	row.len = key.len;
	if (!rc)
		rc = number_at_depth(refs, &row, depth + 1, out, &shown);
	p2p_buf_deinit(&key);
	return rc;
}

/* A row that is named by its parent. */
static int extension_number(struct p2p_refs *refs, const struct p2p_rowref *row, unsigned depth,
			    int64_t *out)
{
	struct p2p_identity identity;
	struct p2p_key_part part;
	int rc = identity_read(&identity, row->key, row->len);

	if (!rc && identity.kind != P2P_IDENTITY_KEY)
		rc = P2P_ENOENT;
	if (!rc)
		rc = p2p_identity_key_parts(row->table, identity.key, identity.key_len, &part);
	if (rc)
		return rc == P2P_EPROTO ? P2P_ENOENT : rc;
	if (part.reference)
		return part_number(refs, key_parent(refs, row->table, 0), &part.target, depth, out);
	*out = part.value.integer;
	return part.value.type == P2P_INTEGER ? 0 : P2P_ENOENT;
}

int p2p_refs_own_number(struct p2p_refs *refs, const struct p2p_rowref *row, int64_t claim,
			int64_t *out)
{
	const struct p2p_claimants *moving = refs->moving_table == row->table ? refs->moving : NULL;
	struct p2p_identity identity;
	struct p2p_numbers *numbers;
	struct p2p_id row_id;
	size_t i;
	int rc = 0;

	if (moving)
		rc = p2p_claimant_identity(&identity, row->key, row->len);
	if (moving && !rc)
		p2p_identity_row_id(&row_id, &identity, &row->table->id);
	for (i = 0; moving && i < moving->count && !rc; i++)
		if (p2p_id_cmp(&moving->items[i].row_id, &row_id) == 0) {
			*out = moving->items[i].shown;
			return 0;
		}
	if (!rc)
		rc = refs->numbers(refs->ctx, (struct p2p_table *)(uintptr_t)row->table, &numbers);
	return rc ? rc : p2p_numbers_shown(numbers, row->key, row->len, claim, out);
}

static int number_at_depth(struct p2p_refs *refs, const struct p2p_rowref *row, unsigned depth,
			   int64_t *out, bool *out_shown)
{
	int64_t claim = 0;
	int rc;

	*out_shown = false;
	if (!row->table->lone_number || depth > P2P_REFERENCE_DEPTH_MAX)
		return P2P_ENOENT;
	rc = p2p_store_row_get(refs->store, row->table, row->key, row->len, &refs->state, &claim);
	if (rc)
		return rc;
	if (!p2p_numbers_complete(row->table, &refs->state))
		return P2P_ENOENT;
	*out_shown = !(refs->state.flags & P2P_ROW_PARKED);
	if (!row->table->generated_identity)
		return extension_number(refs, row, depth, out);
	return p2p_refs_own_number(refs, row, claim, out);
}

int p2p_refs_number(struct p2p_refs *refs, const struct p2p_rowref *row, int64_t *out,
		    bool *out_shown)
{
	return number_at_depth(refs, row, 0, out, out_shown);
}

int p2p_refs_part_number(struct p2p_refs *refs, const struct p2p_table *table, uint32_t at,
			 const struct p2p_key_part *part, int64_t *out)
{
	return part_number(refs, key_parent(refs, table, at), &part->target, 0, out);
}

int p2p_refs_key_values(struct p2p_refs *refs, const struct p2p_table *table,
			const struct p2p_identity *identity, struct p2p_value *values)
{
	struct p2p_key_part parts[P2P_KEY_COLUMNS_MAX];
	uint32_t i;
	int rc;

	if (!table->key_references)
		return p2p_identity_key_values(table, identity->key, identity->key_len, values);
	rc = p2p_identity_key_parts(table, identity->key, identity->key_len, parts);
	for (i = 0; i < table->key_count && !rc; i++) {
		values[i] = parts[i].value;
		if (!parts[i].reference)
			continue;
		memset(&values[i], 0, sizeof(values[i]));
		values[i].type = P2P_INTEGER;
		rc = part_number(refs, key_parent(refs, table, i), &parts[i].target, 0,
				 &values[i].integer);
	}
	return rc;
}

static int key_shown(struct p2p_refs *refs, const struct p2p_table *table,
		     const struct p2p_identity *identity, unsigned depth, bool *out);

static int named_shown(struct p2p_refs *refs, const struct p2p_table *table,
		       const struct p2p_identity *identity, unsigned depth, bool *out)
{
	struct p2p_buf key;
	int rc;

	*out = false;
	if (!table || depth > P2P_REFERENCE_DEPTH_MAX)
		return 0;
	p2p_buf_init(&key, P2P_RECORD_BYTES_MAX);
	p2p_identity_put(&key, identity);
	rc = p2p_buf_error(&key);
	if (!rc)
		rc = p2p_store_row_get(refs->store, table, key.data, key.len, &refs->state, NULL);
	p2p_buf_deinit(&key);
	*out = !rc && p2p_numbers_complete(table, &refs->state) &&
	       !(refs->state.flags & P2P_ROW_PARKED);
	if (*out)
		rc = key_shown(refs, table, identity, depth, out);
	return rc == P2P_ENOENT ? 0 : rc;
}

static int key_shown(struct p2p_refs *refs, const struct p2p_table *table,
		     const struct p2p_identity *identity, unsigned depth, bool *out)
{
	struct p2p_key_part parts[P2P_KEY_COLUMNS_MAX];
	uint32_t i;
	int rc;

	*out = true;
	if (!table->key_references)
		return 0;
	rc = p2p_identity_key_parts(table, identity->key, identity->key_len, parts);
	for (i = 0; i < table->key_count && !rc && *out; i++)
		if (parts[i].reference)
			rc = named_shown(refs, key_parent(refs, table, i), &parts[i].target,
					 depth + 1, out);
	return rc;
}

int p2p_refs_key_shown(struct p2p_refs *refs, const struct p2p_table *table,
		       const struct p2p_identity *identity, bool *out)
{
	return key_shown(refs, table, identity, 0, out);
}

/* --- number to row ---------------------------------------------------------------------------- */

static int at_depth(struct p2p_refs *refs, struct p2p_table *table, int64_t number, unsigned depth,
		    struct p2p_buf *out);

/* One way to read the numbers of a key: bit i of loose says that key column i is no reference. */
static int key_try(struct p2p_refs *refs, const struct p2p_table *table,
		   const struct p2p_value *values, uint32_t loose, unsigned depth,
		   struct p2p_buf *out)
{
	struct p2p_key_part parts[P2P_KEY_COLUMNS_MAX];
	struct p2p_buf targets[P2P_KEY_COLUMNS_MAX], bytes;
	struct p2p_identity identity = {.kind = P2P_IDENTITY_KEY};
	uint32_t i, used = 0;
	int rc = 0;

	for (i = 0; i < table->key_count && !rc; i++) {
		struct p2p_table *parent = key_parent(refs, table, i);

		parts[i].reference = false;
		parts[i].value = values[i];
		if (!parent || values[i].type != P2P_INTEGER || (loose & (1u << (i & 31))))
			continue;
		p2p_buf_init(&targets[used], P2P_RECORD_BYTES_MAX);
		rc = at_depth(refs, parent, values[i].integer, depth + 1, &targets[used++]);
		if (rc == P2P_ENOENT) {
			rc = 0; /* nobody has it: loose */
			continue;
		}
		parts[i].reference = true;
		if (!rc)
			rc = identity_read(&parts[i].target, targets[used - 1].data,
					   targets[used - 1].len);
	}
	p2p_buf_init(&bytes, P2P_RECORD_BYTES_MAX);
	if (!rc)
		rc = p2p_identity_of_parts(&bytes, table, parts);
	identity.key = bytes.data;
	identity.key_len = bytes.len;
	p2p_buf_reset(out);
	if (!rc)
		p2p_identity_put(out, &identity);
	p2p_buf_deinit(&bytes);
	while (used)
		p2p_buf_deinit(&targets[--used]);
	return rc ? rc : p2p_buf_error(out);
}

/* A row of this identity is complete and alive. *out_shown: and in the table. */
static int key_lives(struct p2p_refs *refs, const struct p2p_table *table,
		     const struct p2p_buf *key, bool *out, bool *out_shown)
{
	int rc = p2p_store_row_get(refs->store, table, key->data, key->len, &refs->state, NULL);

	*out = rc == 0 && p2p_numbers_complete(table, &refs->state);
	*out_shown = *out && !(refs->state.flags & P2P_ROW_PARKED);
	return rc == P2P_ENOENT ? 0 : rc;
}

/* *out_lives: some row of that key is known. */
static int key_identity(struct p2p_refs *refs, const struct p2p_table *table,
			const struct p2p_value *values, unsigned depth, struct p2p_buf *out,
			bool *out_lives)
{
	uint32_t loose, found = UINT32_MAX;
	bool lives, shown = false;
	int rc = 0;

	*out_lives = false;
	for (loose = 0; loose < KEY_TRIES_MAX && !rc && !shown; loose++) {
		rc = key_try(refs, table, values, loose, depth, out);
		if (!rc)
			rc = key_lives(refs, table, out, &lives, &shown);
		if (!rc && lives && (shown || found == UINT32_MAX))
			found = loose;
		if (!table->key_references || (loose >> table->key_count))
			break;
	}
	*out_lives = found != UINT32_MAX;
	if (rc || shown)
		return rc;
	return key_try(refs, table, values, found == UINT32_MAX ? 0 : found, depth, out);
}

static int at_depth(struct p2p_refs *refs, struct p2p_table *table, int64_t number, unsigned depth,
		    struct p2p_buf *out)
{
	struct p2p_value value = {.type = P2P_INTEGER, .integer = number};
	struct p2p_numbers *numbers;
	struct p2p_identity identity;
	bool lives = false;
	int rc;

	if (!table->lone_number || depth > P2P_REFERENCE_DEPTH_MAX)
		return P2P_ENOENT;
	if (!table->generated_identity) {
		rc = key_identity(refs, table, &value, depth, out, &lives);
		return rc || lives ? rc : P2P_ENOENT;
	}
	rc = refs->numbers(refs->ctx, table, &numbers);
	if (!rc)
		rc = p2p_claimants_shows(numbers, number,
					 refs->moving_table == table ? refs->moving : NULL,
					 &identity);
	if (rc)
		return rc;
	p2p_buf_reset(out);
	p2p_identity_put(out, &identity);
	return p2p_buf_error(out);
}

int p2p_refs_at(struct p2p_refs *refs, struct p2p_table *table, int64_t number, struct p2p_buf *out)
{
	return at_depth(refs, table, number, 0, out);
}

int p2p_refs_key_identity(struct p2p_refs *refs, const struct p2p_table *table,
			  const struct p2p_value *values, struct p2p_buf *out)
{
	bool lives;

	if (!table->key_references)
		return key_try(refs, table, values, 0, 0, out);
	return key_identity(refs, table, values, 0, out, &lives);
}

int p2p_refs_key_taken(struct p2p_refs *refs, const struct p2p_table *table,
		       const struct p2p_value *values, const struct p2p_rowref *own, bool *out)
{
	struct p2p_buf key;
	uint32_t loose;
	bool lives;
	int rc = 0;

	*out = false;
	p2p_buf_init(&key, P2P_RECORD_BYTES_MAX);
	for (loose = 0; loose < KEY_TRIES_MAX && !(loose >> table->key_count) && !rc && !*out;
	     loose++) {
		rc = key_try(refs, table, values, loose, 0, &key);
		if (!rc && (key.len != own->len || memcmp(key.data, own->key, own->len) != 0))
			rc = key_lives(refs, table, &key, &lives, out);
	}
	p2p_buf_deinit(&key);
	return rc;
}

int p2p_refs_row_at(struct p2p_refs *refs, struct p2p_table *table, const struct p2p_value *values,
		    struct p2p_buf *out)
{
	if (table->generated_identity)
		return p2p_refs_at(refs, table, values[0].integer, out);
	return p2p_refs_key_identity(refs, table, values, out);
}
