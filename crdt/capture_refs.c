/* References as capture meets them: numbers in the application's tables are mapped to the rows that
 * show them at that moment, in the overlay first, then in the file; see capture_private.h.
 *
 * A number that nobody shows is loose: its row is never kept out for it. What the application's
 * table shows of a row is known by the same way back. */
#include <stdlib.h>
#include <string.h>

#include "crdt/capture_private.h"
#include "crdt/claimants.h"
#include "crdt/store_refs.h"
#include "proto/check.h"
#include "proto/mem.h"

/* Combinations of loose and not that are tried for a key with several references. */
#define KEY_TRIES_MAX 16

static int at_depth(struct p2p_capture *capture, struct p2p_table *table, int64_t number,
		    unsigned depth, struct p2p_buf *out);

static struct p2p_table *reference_parent(const struct p2p_capture *capture,
					  const struct p2p_table *table, uint32_t column)
{
	uint32_t at = table->columns[column].reference;

	if (at == P2P_REFERENCE_NONE)
		return NULL;
	return p2p_store_table_by_id(capture->config.store, &table->references[at].parent);
}

struct p2p_table *p2p_capture_parent(const struct p2p_capture *capture,
				     const struct p2p_table *table, uint32_t column)
{
	struct p2p_table *parent = reference_parent(capture, table, column);

	return parent && parent->state == P2P_TABLE_LIVE ? parent : NULL;
}

static int identity_read(struct p2p_identity *out, const void *key, size_t len)
{
	struct p2p_reader reader;

	p2p_reader_init(&reader, key, len);
	p2p_identity_read(&reader, out);
	return reader.failed || p2p_reader_left(&reader) ? P2P_ECORRUPT : 0;
}

/* --- rows that are still to be captured ------------------------------------------------------- */

struct present_scan {
	struct p2p_capture *capture;
	uint32_t table;
};

static int present_entry(void *ctx, const struct p2p_journal_entry *entry)
{
	struct present_scan *scan = ctx;
	struct p2p_capture *capture = scan->capture;

	if (!entry->present || entry->table != scan->table || entry->key[0].type != P2P_INTEGER)
		return 0;
	p2p_buf_put(&capture->present_numbers, &entry->key[0].integer, sizeof(int64_t));
	return p2p_buf_error(&capture->present_numbers);
}

static int number_cmp(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static int present_load(struct p2p_capture *capture, const struct p2p_table *table)
{
	struct present_scan scan = {.capture = capture, .table = table->number};
	int64_t max = 0;
	int rc = p2p_store_journal_max(capture->config.store, &max);

	p2p_buf_reset(&capture->present_numbers);
	capture->present_table = table->number;
	if (!rc)
		rc = p2p_store_journal_each(capture->config.store, capture->position, max,
					    present_entry, &scan);
	if (!rc && capture->present_numbers.len)
		qsort(capture->present_numbers.data, capture->present_numbers.len / sizeof(int64_t),
		      sizeof(int64_t), number_cmp);
	return rc;
}

/* A row that was there when its table was enabled, and whose slice comes later (self-references,
 * cycles): its identity is known already. P2P_ENOENT. */
static int row_present_later(struct p2p_capture *capture, const struct p2p_table *table,
			     int64_t number, struct p2p_buf *out)
{
	struct p2p_identity identity;
	int rc = 0;

	if (!capture->slices || !table->generated_identity)
		return P2P_ENOENT;
	if (capture->present_table != table->number)
		rc = present_load(capture, table);
	if (rc)
		return rc;
	if (!capture->present_numbers.len ||
	    !bsearch(&number, capture->present_numbers.data,
		     capture->present_numbers.len / sizeof(int64_t), sizeof(int64_t), number_cmp))
		return P2P_ENOENT;
	memset(&identity, 0, sizeof(identity));
	identity.kind = P2P_IDENTITY_NUMBER;
	identity.number = number;
	p2p_buf_reset(out);
	p2p_identity_put(out, &identity);
	return p2p_buf_error(out);
}

/* --- number to row ---------------------------------------------------------------------------- */

int p2p_capture_lives(struct p2p_capture *capture, const struct p2p_table *table, const void *key,
		      size_t len, bool *out)
{
	const struct p2p_overlay_row *row =
		p2p_overlay_find(&capture->overlay, table->number, key, len);
	const struct p2p_rowstate *state = row ? &row->state : &capture->state;
	int rc = 0;

	if (!row)
		rc = p2p_store_row_get(capture->config.store, table, key, len, &capture->state,
				       NULL);
	*out = !rc && p2p_rowstate_alive(state) && !(state->flags & P2P_ROW_PARKED);
	return rc == P2P_ENOENT ? 0 : rc;
}

/* The rows that the numbers of a key show, where somebody does. */
struct key_targets {
	struct p2p_identity identities[P2P_KEY_COLUMNS_MAX];
	struct p2p_buf *owned[P2P_KEY_COLUMNS_MAX]; /* what they are decoded from */
	bool found[P2P_KEY_COLUMNS_MAX];
};

static int targets_find(struct p2p_capture *capture, const struct p2p_table *table,
			const struct p2p_value *values, unsigned depth, struct key_targets *t)
{
	uint32_t i;
	int rc = 0;

	memset(t, 0, sizeof(*t));
	for (i = 0; i < table->key_count && !rc; i++) {
		struct p2p_table *parent = p2p_capture_parent(capture, table, table->key[i]);

		if (!parent || values[i].type != P2P_INTEGER)
			continue;
		t->owned[i] = p2p_calloc(1, sizeof(*t->owned[i]));
		if (!t->owned[i])
			return P2P_ENOMEM;
		p2p_buf_init(t->owned[i], P2P_RECORD_BYTES_MAX);
		rc = at_depth(capture, parent, values[i].integer, depth + 1, t->owned[i]);
		t->found[i] = rc == 0;
		if (!rc)
			rc = identity_read(&t->identities[i], t->owned[i]->data, t->owned[i]->len);
		else if (rc == P2P_ENOENT)
			rc = 0; /* nobody: loose */
	}
	return rc;
}

static void targets_drop(struct key_targets *t)
{
	uint32_t i;

	for (i = 0; i < P2P_KEY_COLUMNS_MAX; i++) {
		if (t->owned[i])
			p2p_buf_deinit(t->owned[i]);
		p2p_free(t->owned[i]);
	}
}

/* One way to read the numbers: bit n of `loose` says that the n-th reference is none. false: there
 * is no such way. */
static bool key_parts(const struct p2p_table *table, const struct p2p_value *values,
		      const struct key_targets *t, uint32_t loose, struct p2p_key_part *parts)
{
	uint32_t i, n = 0;

	for (i = 0; i < table->key_count; i++) {
		memset(&parts[i], 0, sizeof(parts[i]));
		parts[i].value = values[i];
		if (!t->found[i])
			continue;
		parts[i].reference = n > 31 || !(loose & (1u << n));
		parts[i].target = t->identities[i];
		n++;
	}
	return n > 31 || loose < (1u << n);
}

static int key_put(struct p2p_buf *out, const struct p2p_table *table,
		   const struct p2p_key_part *parts)
{
	struct p2p_identity identity = {.kind = P2P_IDENTITY_KEY};
	struct p2p_buf bytes;
	int rc;

	p2p_buf_init(&bytes, P2P_RECORD_BYTES_MAX);
	rc = p2p_identity_of_parts(&bytes, table, parts);
	identity.key = bytes.data;
	identity.key_len = bytes.len;
	p2p_buf_reset(out);
	if (!rc)
		p2p_identity_put(out, &identity);
	p2p_buf_deinit(&bytes);
	return rc ? rc : p2p_buf_error(out);
}

static int key_at_depth(struct p2p_capture *capture, const struct p2p_table *table,
			const struct p2p_value *values, unsigned depth, struct p2p_buf *out,
			bool *out_lives)
{
	struct p2p_key_part parts[P2P_KEY_COLUMNS_MAX];
	struct key_targets targets;
	uint32_t loose;
	int rc = targets_find(capture, table, values, depth, &targets);

	*out_lives = false;
	for (loose = 0; loose < KEY_TRIES_MAX && !rc && !*out_lives; loose++) {
		if (!key_parts(table, values, &targets, loose, parts))
			break;
		rc = key_put(out, table, parts);
		if (!rc)
			rc = p2p_capture_lives(capture, table, out->data, out->len, out_lives);
	}
	if (!rc && !*out_lives) {
		(void)key_parts(table, values, &targets, 0, parts);
		rc = key_put(out, table, parts);
	}
	targets_drop(&targets);
	return rc;
}

int p2p_capture_key_identity(struct p2p_capture *capture, const struct p2p_table *table,
			     const struct p2p_value *values, struct p2p_buf *out, bool *out_lives)
{
	return key_at_depth(capture, table, values, 0, out, out_lives);
}

static int at_depth(struct p2p_capture *capture, struct p2p_table *table, int64_t number,
		    unsigned depth, struct p2p_buf *out)
{
	struct p2p_value value;
	bool lives;
	int rc;

	if (!table->lone_number || depth > P2P_REFERENCE_DEPTH_MAX)
		return P2P_ENOENT;
	if (table->generated_identity) {
		rc = p2p_capture_row_of_number(capture, table, number, out);
		return rc == P2P_ENOENT ? row_present_later(capture, table, number, out) : rc;
	}
	memset(&value, 0, sizeof(value));
	value.type = P2P_INTEGER;
	value.integer = number;
	rc = key_at_depth(capture, table, &value, depth, out, &lives);
	return rc || lives ? rc : P2P_ENOENT;
}

int p2p_capture_at(struct p2p_capture *capture, struct p2p_table *table, int64_t number,
		   struct p2p_buf *out)
{
	return at_depth(capture, table, number, 0, out);
}

/* --- row to number ---------------------------------------------------------------------------- */

static int values_at_depth(struct p2p_capture *capture, const struct p2p_table *table,
			   const struct p2p_identity *identity, unsigned depth,
			   struct p2p_value *values);

static int number_at_depth(struct p2p_capture *capture, struct p2p_table *table, const void *key,
			   size_t len, unsigned depth, int64_t *out)
{
	const struct p2p_overlay_row *row;
	struct capture_finder *finder;
	struct p2p_identity identity;
	struct p2p_value value;
	int64_t claim = 0;
	int rc = identity_read(&identity, key, len);

	if (!rc && (!table->lone_number || depth > P2P_REFERENCE_DEPTH_MAX))
		rc = P2P_ENOENT;
	if (rc)
		return rc;
	if (!table->generated_identity) {
		memset(&value, 0, sizeof(value));
		rc = values_at_depth(capture, table, &identity, depth, &value);
		*out = value.integer;
		return rc || value.type == P2P_INTEGER ? rc : P2P_ENOENT;
	}
	row = p2p_overlay_find(&capture->overlay, table->number, key, len);
	if (row) {
		*out = row->shown;
		return 0;
	}
	rc = p2p_store_row_get(capture->config.store, table, key, len, &capture->state, &claim);
	if (!rc)
		rc = p2p_capture_finder(capture, table, &finder);
	return rc ? rc : p2p_numbers_shown(&finder->numbers, key, len, claim, out);
}

static int values_at_depth(struct p2p_capture *capture, const struct p2p_table *table,
			   const struct p2p_identity *identity, unsigned depth,
			   struct p2p_value *values)
{
	struct p2p_key_part parts[P2P_KEY_COLUMNS_MAX];
	struct p2p_buf key;
	uint32_t i;
	int rc = p2p_identity_key_parts(table, identity->key, identity->key_len, parts);

	p2p_buf_init(&key, P2P_RECORD_BYTES_MAX);
	for (i = 0; i < table->key_count && !rc; i++) {
		struct p2p_table *parent = reference_parent(capture, table, table->key[i]);

		values[i] = parts[i].value;
		if (!parts[i].reference)
			continue;
		memset(&values[i], 0, sizeof(values[i]));
		values[i].type = P2P_INTEGER;
		p2p_buf_reset(&key);
		p2p_identity_put(&key, &parts[i].target);
		rc = p2p_buf_error(&key);
		if (!rc)
			rc = parent ? number_at_depth(capture, parent, key.data, key.len, depth + 1,
						      &values[i].integer)
				    : P2P_ENOENT;
	}
	p2p_buf_deinit(&key);
	return rc;
}

int p2p_capture_number_of(struct p2p_capture *capture, struct p2p_table *table, const void *key,
			  size_t len, int64_t *out)
{
	return number_at_depth(capture, table, key, len, 0, out);
}

int p2p_capture_key(struct p2p_capture *capture, const struct p2p_table *table,
		    const struct p2p_overlay_row *row, struct p2p_value *key)
{
	if (table->key_references)
		return values_at_depth(capture, table, &row->identity, 0, key);
	if (!table->generated_identity)
		return p2p_identity_key_values(table, row->identity.key, row->identity.key_len,
					       key);
	memset(key, 0, sizeof(*key));
	key->type = P2P_INTEGER;
	key->integer = row->shown;
	return 0;
}

/* --- cells ------------------------------------------------------------------------------------ */

/* Who a number of a parent means; many children in a row have the same one. */
static int cell_target(struct p2p_capture *capture, struct p2p_table *parent, int64_t number)
{
	struct capture_target *last = &capture->target;
	int rc;

	if (last->table == parent && last->number == number)
		return last->loose ? P2P_ENOENT : 0;
	last->table = NULL;
	rc = p2p_capture_at(capture, parent, number, &last->key);
	if (rc && rc != P2P_ENOENT)
		return rc;
	last->table = parent;
	last->number = number;
	last->loose = rc == P2P_ENOENT;
	return rc;
}

int p2p_capture_cell(struct p2p_capture *capture, const struct p2p_table *table,
		     struct p2p_overlay_row *row, struct p2p_cell *cell)
{
	struct p2p_table *parent = p2p_capture_parent(capture, table, cell->column);
	uint32_t slot = table->columns[cell->column].slot;
	int rc;

	if (table->columns[cell->column].reference == P2P_REFERENCE_NONE)
		return 0;
	if (cell->value.type != P2P_INTEGER)
		return p2p_overlay_ref(row, slot, P2P_OVERLAY_REF_ROW); /* no entry says more */
	rc = parent ? cell_target(capture, parent, cell->value.integer) : P2P_ENOENT;
	if (rc == P2P_ENOENT) {
		cell->tag = P2P_CELL_LOOSE;
		return p2p_overlay_ref(row, slot, P2P_OVERLAY_REF_LOOSE);
	}
	if (rc)
		return rc;
	/* The identity of a key is borrowed: it goes behind those of the row's other cells. */
	cell->tag = P2P_CELL_REFERENCE;
	cell->value.len = capture->target.key.len;
	cell->value.integer = (int64_t)capture->targets.len;
	p2p_buf_put(&capture->targets, capture->target.key.data, capture->target.key.len);
	rc = p2p_buf_error(&capture->targets);
	return rc ? rc : p2p_overlay_ref(row, slot, P2P_OVERLAY_REF_ROW);
}

int p2p_capture_cells_done(struct p2p_capture *capture, struct p2p_record *record)
{
	size_t i;
	int rc = 0;

	for (i = 0; i < record->cell_count && !rc; i++) {
		struct p2p_cell *cell = &record->cells[i];

		if (cell->tag == P2P_CELL_REFERENCE)
			rc = identity_read(&cell->reference,
					   capture->targets.data + cell->value.integer,
					   cell->value.len);
	}
	return rc;
}
