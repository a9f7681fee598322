/* A row finds its place; see rowwork.h. */
#include "crdt/rowwork.h"

#include <string.h>

#include "crdt/parked.h"
#include "crdt/rowrefs.h"
#include "crdt/settle.h"
#include "crdt/valuekeys.h"
#include "proto/check.h"
#include "proto/mem.h"

void p2p_rowwork_init(struct p2p_rowwork *work)
{
	memset(work, 0, sizeof(*work));
	p2p_buf_init(&work->key, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&work->values, P2P_RECORD_BYTES_MAX);
	p2p_rowstate_init(&work->state);
	p2p_cells_init(&work->cells);
	p2p_cells_init(&work->stored);
	p2p_buf_init(&work->targets, P2P_RECORD_BYTES_MAX);
}

void p2p_rowwork_deinit(struct p2p_rowwork *work)
{
	p2p_buf_deinit(&work->key);
	p2p_buf_deinit(&work->values);
	p2p_rowstate_deinit(&work->state);
	p2p_cells_deinit(&work->cells);
	p2p_cells_deinit(&work->stored);
	p2p_buf_deinit(&work->targets);
	p2p_free(work->refs);
}

static int rowwork_fetch(struct p2p_rowwork *work, struct p2p_target *target)
{
	int rc = p2p_cells_reset(&work->cells, target->table->column_count);

	work->number = 0;
	p2p_buf_reset(&work->values);
	if (!rc)
		rc = p2p_rowrefs_reset(work, target->table);
	if (!rc)
		rc = p2p_store_row_get(target->store, target->table, work->key.data, work->key.len,
				       &work->state, &work->number);
	if (rc == P2P_ENOENT) {
		work->state.causal_length = 0;
		work->state.flags = 0;
		work->state.stamp = 0;
		work->state.replica = 0;
		work->state.cell_count = 0; /* the memory is used again */
		return 0;
	}
	/* columns may have come since the row was last written */
	if (!rc && p2p_rowstate_alive(&work->state))
		rc = p2p_rowstate_resize(&work->state, target->table->slot_count);
	return rc;
}

int p2p_rowwork_load(struct p2p_rowwork *work, struct p2p_target *target,
		     const struct p2p_identity *identity)
{
	int rc;

	work->identity = *identity;
	p2p_buf_reset(&work->key);
	p2p_identity_put(&work->key, identity);
	rc = p2p_buf_error(&work->key);
	return rc ? rc : rowwork_fetch(work, target);
}

int p2p_rowwork_load_key(struct p2p_rowwork *work, struct p2p_target *target, const void *key,
			 size_t key_len)
{
	struct p2p_reader reader;
	int rc;

	p2p_buf_reset(&work->key);
	p2p_buf_put(&work->key, key, key_len);
	rc = p2p_buf_error(&work->key);
	if (rc)
		return rc;
	p2p_reader_init(&reader, work->key.data, work->key.len);
	p2p_identity_read(&reader, &work->identity);
	if (reader.failed || p2p_reader_left(&reader))
		return P2P_ECORRUPT;
	return rowwork_fetch(work, target);
}

int p2p_rowwork_save(struct p2p_rowwork *work, struct p2p_target *target)
{
	p2p_require(work->state.causal_length > 0);
	return p2p_store_row_put(target->store, target->table, work->key.data, work->key.len,
				 &work->state, work->number);
}

int p2p_rowwork_key(struct p2p_rowwork *work, struct p2p_target *target, struct p2p_value *key)
{
	struct p2p_rowref row = {target->table, work->key.data, work->key.len};

	if (!target->table->generated_identity)
		return p2p_refs_key_values(&target->settle->refs, target->table, &work->identity,
					   key);
	memset(key, 0, sizeof(*key));
	key->type = P2P_INTEGER;
	return p2p_refs_own_number(&target->settle->refs, &row, work->number, &key->integer);
}

int p2p_rowwork_remove(struct p2p_rowwork *work, struct p2p_target *target)
{
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	bool complete = p2p_numbers_complete(target->table, &work->state);
	int rc;

	p2p_require(p2p_rowstate_alive(&work->state));
	rc = p2p_checks_touch(target, &work->key);
	if (!rc)
		rc = p2p_settle_dies(target, work);
	if (rc)
		return rc;
	if (work->state.flags & P2P_ROW_PARKED) {
		rc = p2p_parked_drop(work, target);
	} else {
		rc = p2p_rowwork_key(work, target, key);
		if (!rc)
			rc = p2p_apptable_delete(&target->app, key);
		target->rows++;
	}
	if (rc || !complete || !target->table->generated_identity)
		return rc;
	rc = p2p_numbers_forget(&target->numbers, work->key.data, work->key.len);
	return rc ? rc : p2p_numbers_check(&target->numbers, &work->identity, work->number);
}

static bool column_is_number(const struct p2p_table *table, uint32_t column)
{
	return table->generated_identity && column == table->key[0];
}

/* Encodes what is set, so that it outlives the statement or the record that it was borrowed from.
 */
static int cells_own(struct p2p_rowwork *work, struct p2p_target *target)
{
	struct p2p_buf encoded;
	int rc;

	p2p_buf_init(&encoded, P2P_RECORD_BYTES_MAX);
	p2p_parked_encode(&encoded, target->table, &work->cells);
	rc = p2p_buf_error(&encoded);
	if (rc) {
		p2p_buf_deinit(&encoded);
		return rc;
	}
	p2p_buf_deinit(&work->values);
	work->values = encoded;
	rc = p2p_cells_reset(&work->cells, target->table->column_count);
	return rc ? rc : p2p_parked_decode(&work->values, target->table, &work->cells);
}

int p2p_rowwork_gather(struct p2p_rowwork *work, struct p2p_target *target, bool in_table)
{
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	uint32_t i;
	int rc;

	if (!in_table) {
		if (work->values.len)
			return 0; /* done already */
		rc = p2p_store_parked_get(target->store, target->table, work->key.data,
					  work->key.len, &work->values);
		if (rc == P2P_ENOENT)
			return 0; /* nothing is known of its values */
		return rc ? rc : p2p_parked_decode(&work->values, target->table, &work->cells);
	}
	rc = p2p_rowwork_key(work, target, key);
	if (!rc)
		rc = p2p_apptable_read(&target->app, key, &work->stored);
	for (i = 0; i < target->table->column_count && !rc; i++)
		if (work->stored.set[i] && !work->cells.set[i] &&
		    !column_is_number(target->table, i))
			p2p_cells_set(&work->cells, i, &work->stored.values[i]);
	if (!rc)
		rc = cells_own(work, target);
	p2p_store_row_done(target->store);
	return rc == P2P_ENOENT ? P2P_ECORRUPT : rc;
}

/* The values as bound, or, where it may have stored others (an
 * affinity, a default), as read back. all: also the columns that were not written. */
int p2p_rowwork_hashes(struct p2p_rowwork *work, struct p2p_target *target,
		       const struct p2p_value *key, bool all)
{
	const struct p2p_hash_key *hash_key = p2p_store_hash_key(target->store);
	const struct p2p_table *table = target->table;
	const struct p2p_value *values = work->cells.values;
	bool read = false;
	uint32_t i;
	int rc = 0;

	p2p_require(work->state.cell_count >= table->slot_count);
	for (i = 0; i < table->column_count && !read; i++) {
		if (table->columns[i].slot == UINT32_MAX || column_is_number(table, i))
			continue;
		if (work->cells.set[i])
			read = p2p_apptable_converts(&target->app, i, &values[i]);
		else
			read = all;
	}
	if (read) {
		rc = p2p_apptable_read(&target->app, key, &work->stored);
		values = work->stored.values;
	}
	for (i = 0; i < table->column_count && !rc; i++) {
		uint32_t slot = table->columns[i].slot;

		if (slot == UINT32_MAX || column_is_number(table, i))
			continue;
		if (work->cells.set[i] || all)
			work->state.cells[slot].hash = p2p_value_hash(hash_key, &values[i]);
	}
	if (read)
		p2p_store_row_done(target->store);
	if (!rc)
		rc = p2p_checks_touch(target, &work->key);
	return rc == P2P_ENOENT ? P2P_ECORRUPT : rc;
}

/* Key columns that no cell was written for have the identity's values, as the column stores them.
 */
static int cells_fill_key(struct p2p_rowwork *work, struct p2p_target *target,
			  struct p2p_value *key)
{
	const struct p2p_table *table = target->table;
	char text[P2P_NUMBER_TEXT_BYTES];
	uint32_t i;
	int rc = p2p_rowwork_key(work, target, key);

	for (i = 0; i < table->key_count && !rc; i++) {
		uint32_t column = table->key[i];
		struct p2p_value value = key[i];

		if (work->cells.set[column] && !table->generated_identity &&
		    table->columns[column].reference == P2P_REFERENCE_NONE)
			continue;
		rc = p2p_value_as_stored(&value, table->columns[column].affinity, text);
		p2p_require(value.bytes != (const uint8_t *)text); /* it has its affinity */
		p2p_cells_set(&work->cells, column, &value);
	}
	return rc;
}

/* The number is taken: the row stands under another until the projection finds who has it. */
static int rowwork_interim(struct p2p_rowwork *work, struct p2p_target *target, int64_t *start)
{
	int rc;

	if (*start == 0) {
		struct p2p_id row_id;

		p2p_identity_row_id(&row_id, &work->identity, &target->table->id);
		*start = p2p_numbers_derived(&row_id);
		rc = p2p_numbers_touch(&target->numbers, work->number);
		if (rc)
			return rc;
	} else {
		*start = p2p_numbers_next(*start);
	}
	rc = p2p_numbers_interim(&target->numbers, *start, start);
	return rc ? rc : p2p_numbers_note(&target->numbers, work->key.data, work->key.len, *start);
}

/* The number that this row would stand at is another's: it is parked at present and has an entry
 * for it, or an INSERT OR REPLACE of the application pushed it out through a UNIQUE index and
 * nobody noticed yet. What comes for the other one must not be written into this one. */
static int number_lent(struct p2p_rowwork *work, struct p2p_target *target, int64_t number,
		       bool *out)
{
	const struct p2p_id *table = &target->table->id;
	struct p2p_identity other;
	struct p2p_id own_id, other_id;
	struct p2p_buf key;
	int rc;

	*out = false;
	if (!target->table->generated_identity)
		return 0;
	if (target->table->has_unique) {
		rc = p2p_claimants_at(&target->numbers, number, &other);
		if (!rc) {
			p2p_identity_row_id(&own_id, &work->identity, table);
			p2p_identity_row_id(&other_id, &other, table);
			*out = p2p_id_cmp(&own_id, &other_id) != 0;
		}
		return rc == P2P_ENOENT ? 0 : rc;
	}
	p2p_buf_init(&key, P2P_RECORD_BYTES_MAX);
	rc = p2p_numbers_temp_at(&target->numbers, number, &key);
	*out = rc == 0 &&
	       (key.len != work->key.len || memcmp(key.data, work->key.data, key.len) != 0);
	p2p_buf_deinit(&key);
	return rc == P2P_ENOENT ? 0 : rc;
}

/* Nor must a row stand under a key of another that was pushed out unnoticed: nobody would find that
 * one gone. */
static int key_lent(struct p2p_rowwork *work, struct p2p_target *target,
		    const struct p2p_value *key, bool *out)
{
	struct p2p_rowref own = {target->table, work->key.data, work->key.len};

	if (!target->table->key_references || !target->table->has_unique)
		return number_lent(work, target, key[0].integer, out);
	return p2p_refs_key_taken(&target->settle->refs, target->table, key, &own, out);
}

/* Somebody else stands at the row's own number, or is known to. */
static int number_taken(struct p2p_rowwork *work, struct p2p_target *target, bool *out)
{
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	struct sqlite3_stmt *stmt;
	int rc = p2p_rowwork_key(work, target, key);

	if (!rc)
		rc = number_lent(work, target, key[0].integer, out);
	if (rc || *out)
		return rc;
	rc = p2p_store_app_row(target->store, target->table, key, &stmt);
	p2p_store_row_done(target->store);
	*out = rc == 0;
	return rc == P2P_ENOENT ? 0 : rc;
}

int p2p_rowwork_number(struct p2p_rowwork *work, struct p2p_target *target)
{
	int64_t start = 0;
	bool taken = target->table->generated_identity;
	int rc = taken ? number_taken(work, target, &taken) : 0;

	while (!rc && taken) {
		rc = rowwork_interim(work, target, &start);
		if (!rc)
			rc = number_taken(work, target, &taken);
	}
	return rc;
}

/* 0, or what stops it. */
static int insert_once(struct p2p_rowwork *work, struct p2p_target *target, struct p2p_value *key)
{
	bool lent = false;
	int rc = cells_fill_key(work, target, key);

	if (rc == P2P_ENOENT)
		return P2P_ECORRUPT; /* whoever calls knows that its parents have numbers */
	if (!rc)
		rc = key_lent(work, target, key, &lent);
	if (rc)
		return rc;
	return lent ? P2P_APPTABLE_TAKEN : p2p_apptable_insert(&target->app, &work->cells);
}

/* Nobody wrote these, and the table filled in a number: it means nobody, and follows nobody. Its
 * values were read back. */
static int refs_filled_in(struct p2p_rowwork *work, const struct p2p_table *table)
{
	uint32_t i;
	int rc = 0;

	for (i = 0; i < work->ref_count && !rc; i++) {
		const struct p2p_column *column = &table->columns[i];

		if (column->reference == P2P_REFERENCE_NONE || (column->flags & P2P_COLUMN_KEY) ||
		    work->cells.set[i] || work->stored.values[i].type != P2P_INTEGER)
			continue;
		rc = p2p_rowrefs_set(work, i, P2P_REFCELL_LOOSE, NULL, 0);
	}
	return rc;
}

int p2p_rowwork_insert(struct p2p_rowwork *work, struct p2p_target *target)
{
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	int64_t start = 0;
	int rc = insert_once(work, target, key);

	while (rc == P2P_APPTABLE_TAKEN && target->table->generated_identity) {
		rc = rowwork_interim(work, target, &start);
		if (!rc)
			rc = insert_once(work, target, key);
	}
	if (rc)
		return rc;
	target->rows++;
	rc = p2p_rowwork_hashes(work, target, key, true);
	if (!rc)
		rc = refs_filled_in(work, target->table);
	if (!rc)
		rc = p2p_rowrefs_keep(work, target, false);
	if (!rc && (work->state.flags & P2P_ROW_PARKED)) {
		target->numbers.noted = true; /* its author gives it a permanent number now */
		rc = p2p_parked_drop(work, target);
	}
	work->state.flags &= (uint8_t)~P2P_ROW_PARKED;
	return rc;
}

/* Something is set whose column has to do with a UNIQUE constraint. */
static bool touches_unique(const struct p2p_rowwork *work, const struct p2p_target *target)
{
	uint32_t i;

	for (i = 0; i < work->cells.count; i++)
		if (work->cells.set[i] && target->uniques.columns[i])
			return true;
	return false;
}

/* A row that waits must not be taken for the one that shows its number. */
static int number_own(struct p2p_rowwork *work, struct p2p_target *target)
{
	int64_t shown, start = 0;
	bool other;
	int rc;

	if (!target->table->generated_identity)
		return 0;
	rc = p2p_numbers_shown(&target->numbers, work->key.data, work->key.len, work->number,
			       &shown);
	if (!rc)
		rc = p2p_claimants_other(&target->numbers, shown, &work->identity, &other);
	return rc || !other ? rc : rowwork_interim(work, target, &start);
}

static bool refs_any(const struct p2p_rowwork *work)
{
	uint32_t i;

	for (i = 0; i < work->ref_count; i++)
		if (work->refs[i].kind != P2P_REFCELL_UNSET)
			return true;
	return false;
}

/* A shown row, at once. Others that share its claims are looked at by the plan. */
static int update_shown(struct p2p_rowwork *work, struct p2p_target *target)
{
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	bool asked = false;
	int rc = p2p_settle_gates(target);

	if (!rc && target->gates.claims && touches_unique(work, target)) {
		asked = true;
		rc = p2p_settle_free_stored(target, &work->key, &target->settle->child);
	}
	if (!rc && p2p_valuekeys_touched(target, &work->cells)) {
		asked = true;
		rc = p2p_valuekeys_ask(target, &work->key);
	}
	if (!rc)
		rc = p2p_rowwork_key(work, target, key);
	if (!rc && p2p_cells_any(&work->cells))
		rc = p2p_apptable_update(&target->app, key, &work->cells);
	if (rc)
		return rc;
	target->rows++;
	rc = p2p_rowwork_hashes(work, target, key, false);
	if (!rc)
		rc = p2p_rowrefs_keep(work, target, false);
	return rc || !asked ? rc : p2p_settle_ask(target, work->key.data, work->key.len);
}

static int place_shown(struct p2p_rowwork *work, struct p2p_target *target)
{
	bool ready;
	int rc;

	if (!p2p_cells_any(&work->cells) && !refs_any(work))
		return 0;
	rc = p2p_rowrefs_ready(work, target, &ready);
	if (!rc && work->ref_count)
		rc = p2p_valuekeys_ready(target, work, false, &ready);
	if (!rc && ready)
		rc = update_shown(work, target);
	else if (!rc)
		rc = P2P_APPTABLE_REFUSED;
	return rc <= 0 ? rc : p2p_settle_hold(target, work, true);
}

static int place_new(struct p2p_rowwork *work, struct p2p_target *target)
{
	bool ready;
	int rc = p2p_rowrefs_ready(work, target, &ready);

	/* a FOREIGN KEY may be part of the key, which its identity says */
	if (!rc && ready && work->ref_count && !target->table->generated_identity)
		rc = p2p_rowrefs_key(work, target);
	if (!rc && work->ref_count)
		rc = p2p_valuekeys_ready(target, work, true, &ready);
	if (!rc)
		rc = ready ? p2p_rowwork_insert(work, target) : P2P_APPTABLE_REFUSED;
	if (rc > 0) {
		rc = number_own(work, target);
		return rc ? rc : p2p_settle_hold(target, work, false);
	}
	return rc ? rc : p2p_settle_came(target, work);
}

int p2p_rowwork_place(struct p2p_rowwork *work, struct p2p_target *target, bool in_table)
{
	int rc = 0;

	p2p_require(p2p_rowstate_alive(&work->state));
	p2p_require(work->state.cell_count >= target->table->slot_count);
	if (in_table)
		return place_shown(work, target);
	if (!p2p_numbers_complete(target->table, &work->state)) {
		rc = p2p_rowwork_gather(work, target, false);
		if (!rc)
			rc = p2p_rowrefs_load(work, target, false);
		return rc ? rc : p2p_parked_put(work, target, "unborn");
	}
	if (work->state.flags & P2P_ROW_PARKED) {
		rc = number_own(work, target);
		return rc ? rc : p2p_settle_hold(target, work, false);
	}
	return place_new(work, target);
}
