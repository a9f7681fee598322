/* Clocks decide; see rowmerge.h. */
#include "crdt/rowmerge.h"

#include <string.h>

#include "crdt/conflicts.h"
#include "crdt/counters.h"
#include "crdt/rowrefs.h"
#include "crdt/settle.h"
#include "proto/check.h"

/* --- cells ----------------------------------------------------------------------------------- */

/* Clock of the record against a stored one. P2P_ECORRUPT: a replica number that was never given. */
static int clock_against(struct p2p_rowmerge *m, uint64_t stamp, uint32_t replica, int *out)
{
	const struct p2p_id *id;

	*out = (m->clock.stamp.value > stamp) - (m->clock.stamp.value < stamp);
	if (*out || m->replica == replica)
		return 0;
	id = p2p_store_replica_id(m->store, replica);
	if (!id)
		return P2P_ECORRUPT;
	*out = p2p_id_cmp(&m->clock.replica, id);
	return 0;
}

/* Same clock, another hash: two values under one clock (a forked or cloned replica). The greater
 * value stays. A value that SQLite converted on storing is compared as it is stored. */
static int cell_tie(struct p2p_rowmerge *m, uint32_t column, const struct p2p_value *value,
		    bool *out)
{
	struct p2p_rowwork *work = m->work, *spare = m->spare;
	struct p2p_value none;
	int rc = p2p_rowwork_load_key(spare, m->target, work->key.data, work->key.len);

	memset(&none, 0, sizeof(none));
	if (!rc)
		rc = p2p_rowwork_gather(spare, m->target, !(spare->state.flags & P2P_ROW_PARKED));
	if (rc)
		return rc;
	*out = p2p_value_cmp(value,
			     spare->cells.set[column] ? &spare->cells.values[column] : &none) > 0;
	return 0;
}

/* The value as this column stores it: what its row can be compared by while it is parked, too. */
static int cell_stored(struct p2p_rowmerge *m, uint32_t column, struct p2p_value *value)
{
	struct p2p_buf *texts = m->texts;
	uint8_t *text;
	int rc;

	if (!p2p_apptable_converts(&m->target->app, column, value))
		return 0;
	if (!texts->len && !p2p_buf_reserve(texts, m->record->cell_count * P2P_NUMBER_TEXT_BYTES))
		return p2p_buf_error(texts);
	text = p2p_buf_reserve(texts, P2P_NUMBER_TEXT_BYTES);
	p2p_require(text != NULL);
	rc = p2p_value_as_stored(value, m->target->table->columns[column].affinity, (char *)text);
	if (value->bytes == text)
		texts->len += P2P_NUMBER_TEXT_BYTES;
	return rc;
}

/* Merges one cell. The clock decides; then the value. */
static int cell_merge(struct p2p_rowmerge *m, uint32_t column, const struct p2p_cell *from,
		      const struct p2p_value *value)
{
	struct p2p_rowwork *work = m->work;
	struct p2p_cellstate *cell = &work->state.cells[m->target->table->columns[column].slot];
	bool wins = true;
	int order = 1, rc = 0;

	if (cell->stamp)
		rc = clock_against(m, cell->stamp, cell->replica, &order);
	if (rc)
		return rc;
	if (order < 0) {
		m->counts->cells_lost++;
		p2p_conflicts_note(m, column, from, value, true);
		return 0;
	}
	if (order == 0) {
		wins = cell->hash != p2p_value_hash(p2p_store_hash_key(m->store), value);
		if (wins)
			rc = cell_tie(m, column, value, &wins);
	}
	if (rc || !wins)
		return rc;
	if (order > 0 && cell->stamp)
		p2p_conflicts_note(m, column, from, value, false);
	cell->stamp = m->clock.stamp.value;
	cell->replica = m->replica;
	p2p_cells_set(&work->cells, column, value);
	m->counts->cells_won++;
	m->changed = true;
	return 0;
}

/* The same for two cells of a FOREIGN KEY column, one of which may be a reference, or loose. */
static int ref_tie(struct p2p_rowmerge *m, uint32_t column, bool *out)
{
	struct p2p_rowwork *work = m->work, *spare = m->spare;
	struct p2p_buf ours, theirs;
	size_t len;
	bool in_table;
	int rc = p2p_rowwork_load_key(spare, m->target, work->key.data, work->key.len);

	p2p_buf_init(&ours, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&theirs, P2P_RECORD_BYTES_MAX);
	in_table = !(spare->state.flags & P2P_ROW_PARKED);
	if (!rc)
		rc = p2p_rowwork_gather(spare, m->target, in_table);
	if (!rc)
		rc = p2p_rowrefs_load(spare, m->target, in_table);
	if (!rc)
		rc = p2p_rowrefs_rank(spare, column, &ours);
	if (!rc)
		rc = p2p_rowrefs_rank(work, column, &theirs);
	if (!rc) {
		len = ours.len < theirs.len ? ours.len : theirs.len;
		rc = memcmp(theirs.data, ours.data, len);
		*out = rc > 0 || (rc == 0 && theirs.len > ours.len);
		rc = 0;
	}
	p2p_buf_deinit(&ours);
	p2p_buf_deinit(&theirs);
	return rc;
}

/* A cell of a column of a FOREIGN KEY, as the record says it, into work. */
static int ref_take(struct p2p_rowmerge *m, uint32_t column, const struct p2p_cell *cell,
		    const struct p2p_value *value)
{
	bool reference = m->target->table->columns[column].reference != P2P_REFERENCE_NONE;
	enum p2p_refcell_kind kind = P2P_REFCELL_PLAIN;
	struct p2p_buf key;
	int rc;

	if (cell->tag == P2P_CELL_LOOSE || cell->tag == P2P_CELL_LOOSE_VALUE ||
	    (reference && value->type == P2P_INTEGER))
		kind = P2P_REFCELL_LOOSE;
	if (cell->tag != P2P_CELL_REFERENCE) {
		p2p_cells_set(&m->work->cells, column, value);
		return p2p_rowrefs_set(m->work, column, kind, NULL, 0);
	}
	p2p_buf_init(&key, P2P_RECORD_BYTES_MAX);
	p2p_identity_put(&key, &cell->reference);
	rc = p2p_buf_error(&key);
	if (!rc)
		rc = p2p_rowrefs_set(m->work, column, P2P_REFCELL_ROW, key.data, key.len);
	p2p_buf_deinit(&key);
	return rc;
}

static int ref_merge(struct p2p_rowmerge *m, uint32_t column, const struct p2p_cell *from,
		     const struct p2p_value *value)
{
	struct p2p_rowwork *work = m->work;
	struct p2p_cellstate *cell = &work->state.cells[m->target->table->columns[column].slot];
	bool wins = true;
	int order = 1, rc = 0;

	if (cell->stamp)
		rc = clock_against(m, cell->stamp, cell->replica, &order);
	if (rc)
		return rc;
	if (order < 0) {
		m->counts->cells_lost++;
		p2p_conflicts_note(m, column, from, value, true);
		return 0;
	}
	rc = ref_take(m, column, from, value);
	if (!rc && order == 0)
		rc = ref_tie(m, column, &wins);
	if (rc || !wins) {
		work->refs[column].kind = P2P_REFCELL_UNSET;
		work->cells.set[column] = 0;
		return rc;
	}
	if (order > 0 && cell->stamp)
		p2p_conflicts_note(m, column, from, value, false);
	cell->stamp = m->clock.stamp.value;
	cell->replica = m->replica;
	m->counts->cells_won++;
	m->changed = true;
	return 0;
}

/* The claim to a number. An equal clock with another number: the greater number. */
static int claim_merge(struct p2p_rowmerge *m, int64_t number)
{
	struct p2p_rowwork *work = m->work;
	const struct p2p_table *table = m->target->table;
	struct p2p_cellstate *cell = &work->state.cells[table->columns[table->key[0]].slot];
	struct p2p_value value;
	int order = 1, rc = 0;

	if (cell->stamp)
		rc = clock_against(m, cell->stamp, cell->replica, &order);
	if (rc || (order == 0 && number <= work->number))
		return rc;
	if (order < 0) {
		m->counts->cells_lost++;
		return 0;
	}
	memset(&value, 0, sizeof(value));
	value.type = P2P_INTEGER;
	value.integer = number;
	m->claim_stamp = cell->stamp;
	m->claim_replica = cell->replica;
	cell->stamp = m->clock.stamp.value;
	cell->replica = m->replica;
	cell->hash = p2p_value_hash(p2p_store_hash_key(m->store), &value);
	work->number = number;
	m->counts->cells_won++;
	m->changed = m->claimed = true;
	return 0;
}

/* A key column's cell tells how its value is written ('Key'); it must be the identity's value. */
static int key_cell_fits(struct p2p_rowmerge *m, const struct p2p_column *column,
			 const struct p2p_value *value, bool *out)
{
	struct p2p_key_part parts[P2P_KEY_COLUMNS_MAX];
	const struct p2p_identity *identity = &m->work->identity;
	struct p2p_buf *scratch = m->scratch;
	int rc = p2p_identity_key_parts(m->target->table, identity->key, identity->key_len, parts);

	if (rc)
		return rc;
	parts[column->key_pos].reference = false;
	parts[column->key_pos].value = *value;
	p2p_buf_reset(scratch);
	rc = p2p_identity_of_parts(scratch, m->target->table, parts);
	*out = rc == 0 && scratch->len == identity->key_len &&
	       memcmp(scratch->data, identity->key, identity->key_len) == 0;
	return rc == P2P_IDENTITY_NULL_KEY ? 0 : rc;
}

static int counter_cell(struct p2p_rowmerge *m, uint32_t column, const struct p2p_cell *cell)
{
	struct p2p_value value = cell->value;
	int rc;

	if (cell->tag != P2P_CELL_VALUE && cell->tag != P2P_CELL_COUNTER) {
		m->wait = true;
		return 0;
	}
	rc = cell->tag == P2P_CELL_VALUE ? cell_stored(m, column, &value) : 0;
	return rc ? rc : p2p_counters_merge(m, column, cell, &value);
}

static int record_cell(struct p2p_rowmerge *m, const struct p2p_cell *cell)
{
	const struct p2p_table *table = m->target->table;
	const struct p2p_column *column;
	struct p2p_value value = cell->value;
	uint32_t index;
	bool fits;
	int rc;

	if (cell->column >= m->map->count) {
		m->wait = true;
		return 0;
	}
	index = m->map->columns[cell->column];
	/* The application took the column out of its table: nothing to wait for. Should it come
	 * back, the log is walked again. */
	if (index == P2P_SCHEMAMAP_DROPPED)
		return 0;
	if (index != P2P_SCHEMAMAP_NONE && (table->columns[index].flags & P2P_COLUMN_COUNTER))
		return counter_cell(m, index, cell);
	if (index == P2P_SCHEMAMAP_NONE || cell->tag == P2P_CELL_COUNTER) {
		m->wait = true;
		return 0;
	}
	column = &table->columns[index];
	if ((cell->tag == P2P_CELL_REFERENCE || cell->tag == P2P_CELL_LOOSE) &&
	    column->reference == P2P_REFERENCE_NONE) {
		m->wait = true; /* its FOREIGN KEY is not (yet) here */
		return 0;
	}
	/* a key column that is a reference is said by the identity */
	if ((column->flags & P2P_COLUMN_KEY) && column->reference != P2P_REFERENCE_NONE)
		return 0;
	if (table->generated_identity && index == table->key[0]) {
		if (value.type == P2P_INTEGER)
			return claim_merge(m, value.integer);
		m->wait = true;
		return 0;
	}
	if (column->flags & P2P_COLUMN_KEY) {
		rc = key_cell_fits(m, column, &value, &fits);
		if (rc)
			return rc;
		if (!fits) {
			m->wait = true;
			return 0;
		}
	}
	rc = cell_stored(m, index, &value);
	if (rc)
		return rc;
	if (column->reference != P2P_REFERENCE_NONE || column->valued ||
	    cell->tag == P2P_CELL_LOOSE_VALUE)
		return m->work->ref_count ? ref_merge(m, index, cell, &value)
					  : cell_merge(m, index, cell, &value);
	return cell_merge(m, index, cell, &value);
}

static int record_cells(struct p2p_rowmerge *m)
{
	const struct p2p_record *record = m->record;
	bool claimed = false;
	size_t i;
	int rc = 0;

	for (i = 0; i < record->cell_count && !rc; i++) {
		rc = record_cell(m, &record->cells[i]);
		claimed |= !rc && m->target->table->generated_identity &&
			   record->cells[i].column < m->map->count &&
			   m->map->columns[record->cells[i].column] == m->target->table->key[0];
	}
	if (!rc && !claimed && record->identity.kind == P2P_IDENTITY_NUMBER &&
	    (record->flags & P2P_RECORD_BORN))
		rc = claim_merge(m, record->identity.number);
	return rc;
}

/* --- yields ----------------------------------------------------------------------------------- */

/* The greater stays. */
static int yield_merge(struct p2p_rowmerge *m, const uint8_t *id, bool *out_changed)
{
	struct p2p_rowref row = {m->target->table, m->work->key.data, m->work->key.len};
	struct p2p_store_yield yield;
	struct p2p_id constraint;
	int order = 1, rc = P2P_ENOENT;

	memcpy(constraint.bytes, id, P2P_ID_BYTES);
	if (m->target->gates.yields)
		rc = p2p_store_yield_get(m->store, &row, &constraint, &yield);
	if (!rc)
		rc = clock_against(m, yield.stamp, yield.replica, &order);
	if ((rc && rc != P2P_ENOENT) || order <= 0)
		return rc == P2P_ENOENT ? 0 : rc;
	yield.constraint = constraint;
	yield.stamp = m->clock.stamp.value;
	yield.replica = m->replica;
	m->target->gates.yields = m->target->numbers.yields = true;
	m->target->numbers.yields_known = true;
	*out_changed = true;
	return p2p_store_yield_put(m->store, &row, &yield);
}

/* Rows that it was in the way of may be shown in its place. */
static int record_yields(struct p2p_rowmerge *m)
{
	const struct p2p_record *record = m->record;
	struct p2p_target *target = m->target;
	bool changed = false;
	size_t i;
	int rc = record->yield_count ? p2p_settle_gates(target) : 0;

	for (i = 0; i < record->yield_count && !rc; i++)
		rc = yield_merge(m, record->yields + i * P2P_ID_BYTES, &changed);
	if (rc || !changed || !p2p_numbers_complete(target->table, &m->work->state))
		return rc;
	if (target->table->generated_identity)
		rc = p2p_numbers_touch(&target->numbers, m->work->number);
	if (!rc)
		rc = p2p_settle_free_stored(target, &m->work->key, &target->settle->child);
	return rc ? rc : p2p_settle_ask(target, m->work->key.data, m->work->key.len);
}

/* --- rows ------------------------------------------------------------------------------------ */

static void state_clock(struct p2p_rowmerge *m)
{
	m->work->state.stamp = m->clock.stamp.value;
	m->work->state.replica = m->replica;
}

/* A delete, or one more of a row that is dead already. */
static int row_dead(struct p2p_rowmerge *m)
{
	struct p2p_rowwork *work = m->work;
	struct p2p_rowstate *state = &work->state;
	int order = 1, rc = 0;

	if (m->record->causal_length == state->causal_length) {
		rc = clock_against(m, state->stamp, state->replica, &order);
		if (rc || order <= 0)
			return rc;
	} else if (p2p_rowstate_alive(state)) {
		rc = p2p_conflicts_life(m);
		if (!rc)
			rc = p2p_counters_end(m);
		if (!rc)
			rc = p2p_rowwork_remove(work, m->target);
		if (rc)
			return rc;
	}
	p2p_rowstate_deinit(state);
	p2p_rowstate_init(state);
	state->causal_length = m->record->causal_length;
	state_clock(m);
	return p2p_rowwork_save(work, m->target);
}

static void life_empty(struct p2p_rowwork *work, uint64_t causal_length)
{
	work->state.causal_length = causal_length;
	work->state.flags = 0;
	work->state.stamp = 0;
	work->state.replica = 0;
	work->state.cell_count = 0; /* the memory stays for the new ones */
	work->number = 0;
}

/* The state has no life of this causal length yet: an empty one begins. */
static int life_begin(struct p2p_rowmerge *m)
{
	struct p2p_rowwork *work = m->work;
	uint64_t causal_length = m->record->causal_length;
	int rc = 0;

	if (p2p_rowstate_alive(&work->state)) {
		rc = p2p_conflicts_life(m);
		if (!rc)
			rc = p2p_counters_end(m);
		/* Saved as dead first: whoever looks for a holder must not find the old claim. */
		if (!rc)
			rc = p2p_rowwork_remove(work, m->target);
		life_empty(work, causal_length - 1);
		if (!rc)
			rc = p2p_rowwork_save(work, m->target);
	}
	life_empty(work, causal_length);
	m->changed = true;
	return rc;
}

static int row_born(struct p2p_rowmerge *m)
{
	struct p2p_rowstate *state = &m->work->state;
	int order = 1, rc = 0;

	if (!(m->record->flags & P2P_RECORD_BORN))
		return 0;
	if (state->stamp)
		rc = clock_against(m, state->stamp, state->replica, &order);
	if (!rc && order > 0) {
		state_clock(m);
		m->changed = true;
	}
	if (!rc && !(state->flags & P2P_ROW_BORN)) {
		state->flags |= P2P_ROW_BORN;
		m->changed = true;
	}
	return rc;
}

/* The row claims another number than before, or the same one later: what its table shows stays
 * until the projection. A row that is kept out stands nowhere: an entry would take the number,
 * which has one, from the row that does stand there. */
static int claim_moved(struct p2p_rowmerge *m, int64_t before, bool in_table)
{
	struct p2p_rowwork *work = m->work;
	struct p2p_numbers *numbers = &m->target->numbers;
	int64_t shown;
	int rc = p2p_numbers_shown(numbers, work->key.data, work->key.len, before, &shown);

	if (!rc && shown != work->number && (in_table || shown != before))
		rc = p2p_numbers_note(numbers, work->key.data, work->key.len, shown);
	if (!rc)
		rc = p2p_numbers_touch(numbers, before);
	if (!rc)
		rc = p2p_numbers_touch(numbers, work->number);
	return rc || before == work->number ? rc : p2p_conflicts_number_left(m, before);
}

static int row_alive(struct p2p_rowmerge *m)
{
	struct p2p_rowwork *work = m->work;
	struct p2p_rowstate *state = &work->state;
	const struct p2p_table *table = m->target->table;
	bool complete = p2p_numbers_complete(table, state), in_table;
	int64_t number = work->number;
	uint64_t life = state->causal_length;
	int rc = 0;

	if (m->record->causal_length > life) {
		complete = false;
		rc = life_begin(m);
	}
	in_table = complete && !(state->flags & P2P_ROW_PARKED);
	if (!rc)
		rc = p2p_rowstate_resize(state, table->slot_count);
	if (!rc)
		rc = record_cells(m);
	if (!rc)
		rc = row_born(m);
	if (!rc)
		rc = record_yields(m);
	if (!rc)
		rc = p2p_conflicts_cells(m);
	if (!rc)
		rc = p2p_counters_show(m);
	if (rc || !m->changed)
		return rc;
	if (m->claimed && complete)
		rc = claim_moved(m, number, in_table);
	if (!rc)
		rc = p2p_rowwork_place(work, m->target, in_table);
	if (!rc && table->generated_identity && !complete && p2p_numbers_complete(table, state))
		rc = p2p_numbers_check(&m->target->numbers, &work->identity, work->number);
	return rc ? rc : p2p_rowwork_save(work, m->target);
}

int p2p_rowmerge_tie(struct p2p_rowmerge *m, uint32_t column, const struct p2p_value *value,
		     bool *out)
{
	return cell_tie(m, column, value, out);
}

int p2p_rowmerge_run(struct p2p_rowmerge *m)
{
	struct p2p_rowwork *work = m->work;
	int rc = p2p_rowwork_load(work, m->target, &m->record->identity);

	if (rc)
		return rc;
	if (m->record->causal_length < work->state.causal_length) {
		m->counts->cells_lost += m->record->cell_count;
		return p2p_conflicts_late(m);
	}
	return m->record->causal_length % 2 ? row_alive(m) : row_dead(m);
}

int p2p_rowmerge_fits(struct p2p_rowmerge *m, bool *out)
{
	const struct p2p_table *table = m->target->table;
	const struct p2p_identity *identity = &m->record->identity;
	struct p2p_key_part parts[P2P_KEY_COLUMNS_MAX];
	struct p2p_buf *scratch = m->scratch;
	uint32_t i;
	int rc;

	*out = table->generated_identity == (identity->kind != P2P_IDENTITY_KEY);
	if (!*out || table->generated_identity)
		return 0;
	*out = false;
	rc = p2p_identity_key_parts(table, identity->key, identity->key_len, parts);
	if (rc)
		return rc == P2P_EPROTO ? 0 : rc;
	for (i = 0; i < table->key_count; i++)
		if (parts[i].reference &&
		    table->columns[table->key[i]].reference == P2P_REFERENCE_NONE)
			return 0;
	p2p_buf_reset(scratch);
	rc = p2p_identity_of_parts(scratch, table, parts);
	*out = rc == 0 && scratch->len == identity->key_len &&
	       memcmp(scratch->data, identity->key, identity->key_len) == 0;
	return rc == P2P_IDENTITY_NULL_KEY ? 0 : rc;
}
