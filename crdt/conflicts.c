/* What lost in a merge; see conflicts.h. */
#include "crdt/conflicts.h"

#include <sqlite3.h>
#include <string.h>

#include "crdt/conflict_entry.h"
#include "crdt/counters.h"
#include "crdt/hlc.h"
#include "crdt/rowrefs.h"
#include "crdt/store_private.h"
#include "proto/check.h"

/* --- what lost ---------------------------------------------------------------------------------
 */

void p2p_conflicts_note(struct p2p_rowmerge *m, uint32_t column, const struct p2p_cell *from,
			const struct p2p_value *value, bool incoming)
{
	const struct p2p_cellstate *cell =
		&m->work->state.cells[m->target->table->columns[column].slot];
	struct p2p_lost_cell *lost;

	if (!m->seen ||
	    (!incoming && p2p_seen_covers(m->seen, m->replica, cell->replica, cell->stamp)))
		return;
	lost = &m->lost[m->lost_count++]; /* room for all columns: each comes once */
	lost->column = column;
	lost->incoming = incoming;
	lost->cell = from;
	lost->value = *value;
	lost->stamp = cell->stamp;
	lost->replica = cell->replica;
}

/* What the record says of the number of its row, whose life is over. false: nothing. */
static bool number_told(const struct p2p_rowmerge *m, int64_t *out)
{
	const struct p2p_table *table = m->target->table;
	size_t i;

	for (i = 0; i < m->record->cell_count; i++) {
		const struct p2p_cell *cell = &m->record->cells[i];

		if (cell->column < m->map->count &&
		    m->map->columns[cell->column] == table->key[0] &&
		    cell->value.type == P2P_INTEGER) {
			*out = cell->value.integer;
			return true;
		}
	}
	*out = m->work->identity.number;
	return m->work->identity.kind == P2P_IDENTITY_NUMBER;
}

/* The row's entry; its row is in spare. */
static int store_entry(struct p2p_rowmerge *m, struct p2p_conflict_entry *entry)
{
	struct p2p_conflict_place place = {m->authority, &m->work->key, &m->spare->number};
	const struct p2p_table *table = m->target->table;
	struct p2p_buf row;
	int64_t number;
	int rc;

	if (!entry->count)
		return 0;
	p2p_buf_init(&row, P2P_RECORD_BYTES_MAX);
	if (table->generated_identity && !p2p_rowstate_alive(&m->spare->state)) {
		place.number = number_told(m, &number) ? &number : NULL;
		rc = p2p_conflict_entry_number(table, place.number, &row);
	} else {
		rc = p2p_conflict_entry_row(m->spare, m->target, &row);
	}
	if (!rc)
		rc = p2p_conflict_entry_store(entry, &place, &row);
	p2p_buf_deinit(&row);
	return rc == P2P_ETOOBIG ? 0 : rc;
}

/* The row as it is in the store, into spare. One that an INSERT OR REPLACE pushed out is gone
 * already: nothing of it is there to be listed. */
static int load_stored(struct p2p_rowmerge *m)
{
	const struct p2p_table *table = m->target->table;
	struct p2p_rowwork *spare = m->spare;
	bool in_table;
	int rc = p2p_rowwork_load_key(spare, m->target, m->work->key.data, m->work->key.len);

	if (rc || !p2p_rowstate_alive(&spare->state))
		return rc;
	in_table = p2p_numbers_complete(table, &spare->state) &&
		   !(spare->state.flags & P2P_ROW_PARKED);
	rc = p2p_rowwork_gather(spare, m->target, in_table);
	if (!rc)
		rc = p2p_rowrefs_load(spare, m->target, in_table);
	return rc == P2P_ECORRUPT ? 0 : rc;
}

static int later_origin(const struct p2p_rowmerge *m, struct p2p_conflict_entry *entry,
			uint64_t stamp, uint32_t replica)
{
	const struct p2p_id *id = p2p_store_replica_id(m->store, replica);
	struct p2p_clock clock = {.stamp = {stamp}};

	if (!id)
		return P2P_ECORRUPT;
	clock.replica = *id;
	if (p2p_clock_cmp(&clock, &entry->origin) > 0)
		entry->origin = clock;
	return 0;
}

/* The record's side, which is kept in scratch, and the stored one. false: equal, or not there. */
static int sides_of(struct p2p_rowmerge *m, const struct p2p_lost_cell *lost,
		    struct p2p_conflict_side *record, struct p2p_conflict_side *stored,
		    bool *out_differ)
{
	const struct p2p_table *table = m->target->table;
	uint32_t reference = table->columns[lost->column].reference;
	int rc = p2p_conflict_side_cell(lost->cell, &lost->value,
					reference == P2P_REFERENCE_NONE
						? NULL
						: &table->references[reference],
					m->target, record, m->scratch);

	*out_differ = !rc && p2p_conflict_side_of(m->spare, m->target, lost->column, stored) &&
		      !p2p_conflict_side_equal(record, stored);
	return rc;
}

/* Those cells of which the record's side lost, or those of which the stored side did. */
static int cells_of(struct p2p_rowmerge *m, bool incoming)
{
	struct p2p_conflict_side record, stored;
	struct p2p_conflict_entry entry;
	bool differ;
	size_t i;
	int rc = p2p_conflict_entry_init(&entry, m->target, "cell");

	if (incoming)
		entry.origin = m->clock;
	for (i = 0; i < m->lost_count && !rc; i++) {
		const struct p2p_lost_cell *lost = &m->lost[i];

		if (lost->incoming != incoming)
			continue;
		rc = sides_of(m, lost, &record, &stored, &differ);
		if (rc || !differ)
			continue;
		rc = p2p_conflict_entry_lose(&entry, lost->column, incoming ? &record : &stored);
		if (!rc)
			rc = p2p_conflict_entry_keep(&entry, lost->column,
						     incoming ? &stored : &record);
		if (!rc && !incoming)
			rc = later_origin(m, &entry, lost->stamp, lost->replica);
	}
	if (!rc)
		rc = store_entry(m, &entry);
	p2p_conflict_entry_deinit(&entry);
	return rc;
}

int p2p_conflicts_cells(struct p2p_rowmerge *m)
{
	int rc;

	if (!m->lost_count)
		return 0;
	rc = load_stored(m);
	if (!rc)
		rc = cells_of(m, true);
	if (!rc)
		rc = cells_of(m, false);
	m->lost_count = 0;
	return rc;
}

/* What others counted: the cell's clock is only that of the youngest. */
static int unseen_counted(struct p2p_rowmerge *m, struct p2p_conflict_entry *entry)
{
	const struct p2p_counter *counter;
	size_t i;
	int rc = p2p_counters_of(m);

	for (i = 0; i < m->counters->count && !rc; i++) {
		counter = &m->counters->items[i];
		if (counter->replica > 0 &&
		    !p2p_seen_covers(m->seen, m->replica, (uint32_t)counter->replica,
				     counter->stamp))
			rc = later_origin(m, entry, counter->stamp, (uint32_t)counter->replica);
	}
	return rc;
}

/* The youngest cell that the record's author had not seen; entry->origin stays zero without one. */
static int unseen_origin(struct p2p_rowmerge *m, struct p2p_conflict_entry *entry)
{
	const struct p2p_rowstate *state = &m->work->state;
	uint32_t i;
	int rc = 0;

	for (i = 0; i < state->cell_count && !rc; i++) {
		const struct p2p_cellstate *cell = &state->cells[i];

		if (cell->stamp &&
		    !p2p_seen_covers(m->seen, m->replica, cell->replica, cell->stamp))
			rc = later_origin(m, entry, cell->stamp, cell->replica);
	}
	if (!rc && m->target->table->counters)
		rc = unseen_counted(m, entry);
	if (!rc && state->stamp &&
	    !p2p_seen_covers(m->seen, m->replica, state->replica, state->stamp))
		rc = later_origin(m, entry, state->stamp, state->replica);
	return rc;
}

/* Somebody gave the counter a value that the record's author had not seen. */
static bool base_unseen(const struct p2p_rowmerge *m, uint32_t column)
{
	const struct p2p_counter *base =
		p2p_counters_base(m->counters, m->target->table->columns[column].slot);

	return base && !p2p_seen_covers(m->seen, m->replica, (uint32_t)-base->replica, base->stamp);
}

/* What the record says that others had added up when its author deleted the row. */
static const struct p2p_cell *counter_told(const struct p2p_rowmerge *m, uint32_t column)
{
	size_t i;

	for (i = 0; m->record->causal_length % 2 == 0 && i < m->record->cell_count; i++) {
		const struct p2p_cell *cell = &m->record->cells[i];

		if (cell->column < m->map->count && m->map->columns[cell->column] == column)
			return cell;
	}
	return NULL;
}

/* What others added to the counter that the record's author had not seen. One who did not say what
 * he had seen: all of theirs who wrote since. */
static int64_t unseen_added(const struct p2p_rowmerge *m, uint32_t column)
{
	const struct p2p_cell *told = counter_told(m, column);
	uint32_t slot = m->target->table->columns[column].slot;
	struct p2p_sum seen = {0, 0}, now = {0, 0};
	size_t i;

	for (i = 0; i < m->counters->count; i++) {
		const struct p2p_counter *at = &m->counters->items[i];

		if (at->slot != slot || at->replica < 0 || at->replica == (int64_t)m->replica)
			continue;
		if (told || !p2p_seen_covers(m->seen, m->replica, (uint32_t)at->replica, at->stamp))
			p2p_sum_add(&now, at->total);
	}
	p2p_sum_add(&seen, told ? told->value.integer : 0);
	return p2p_sum_rest(&seen, p2p_sum_value(&now));
}

static int life_column(struct p2p_rowmerge *m, uint32_t column, struct p2p_conflict_entry *entry)
{
	const struct p2p_column *named = &m->target->table->columns[column];
	struct p2p_conflict_side side;

	if (named->slot == UINT32_MAX || !p2p_conflict_side_of(m->spare, m->target, column, &side))
		return 0;
	if (!(named->flags & P2P_COLUMN_COUNTER) || base_unseen(m, column))
		return p2p_conflict_entry_lose(entry, column, &side);
	p2p_conflict_entry_count(entry, column, unseen_added(m, column), side.value);
	return 0;
}

int p2p_conflicts_life(struct p2p_rowmerge *m)
{
	const struct p2p_table *table = m->target->table;
	struct p2p_conflict_entry entry;
	uint32_t i;
	int rc;

	if (!m->seen || !p2p_rowstate_alive(&m->work->state))
		return 0;
	rc = p2p_conflict_entry_init(&entry, m->target, "delete");
	if (!rc)
		rc = unseen_origin(m, &entry);
	if (!rc && entry.origin.stamp.value)
		rc = load_stored(m);
	for (i = 0; i < table->column_count && !rc && entry.origin.stamp.value; i++)
		rc = life_column(m, i, &entry);
	if (!rc)
		rc = store_entry(m, &entry);
	p2p_conflict_entry_deinit(&entry);
	return rc;
}

/* One cell of a record of a life that has ended. */
static int late_cell(struct p2p_rowmerge *m, const struct p2p_cell *cell,
		     struct p2p_conflict_entry *entry)
{
	const struct p2p_table *table = m->target->table;
	uint32_t column =
		cell->column < m->map->count ? m->map->columns[cell->column] : P2P_SCHEMAMAP_NONE;
	const struct p2p_reference *reference = NULL;
	struct p2p_conflict_side side;
	int rc;

	if (column >= table->column_count)
		return 0;
	if (table->columns[column].reference != P2P_REFERENCE_NONE)
		reference = &table->references[table->columns[column].reference];
	if (cell->tag == P2P_CELL_REFERENCE && !reference)
		return 0; /* its FOREIGN KEY is not here */
	if (cell->tag == P2P_CELL_COUNTER) {
		p2p_conflict_entry_count(entry, column, cell->added, NULL);
		return 0;
	}
	rc = p2p_conflict_side_cell(cell, &cell->value, reference, m->target, &side, m->scratch);
	return rc ? rc : p2p_conflict_entry_lose(entry, column, &side);
}

int p2p_conflicts_late(struct p2p_rowmerge *m)
{
	const struct p2p_record *record = m->record;
	struct p2p_conflict_entry entry;
	size_t i;
	int rc;

	if (!m->seen || record->causal_length % 2 == 0)
		return 0;
	rc = p2p_conflict_entry_init(&entry, m->target, "delete");
	entry.origin = m->clock;
	if (!rc)
		rc = load_stored(m);
	for (i = 0; i < record->cell_count && !rc; i++)
		rc = late_cell(m, &record->cells[i], &entry);
	if (!rc)
		rc = store_entry(m, &entry);
	p2p_conflict_entry_deinit(&entry);
	return rc;
}

/* --- what is parked ----------------------------------------------------------------------------
 */

int p2p_conflicts_youngest(const struct p2p_rowwork *work, const struct p2p_target *target,
			   struct p2p_clock *out)
{
	const struct p2p_rowstate *state = &work->state;
	uint64_t stamp = state->stamp;
	uint32_t replica = state->replica, i;
	const struct p2p_id *id;

	for (i = 0; i < state->cell_count; i++)
		if (state->cells[i].stamp > stamp) {
			stamp = state->cells[i].stamp;
			replica = state->cells[i].replica;
		}
	id = p2p_store_replica_id(target->store, replica);
	if (!id)
		return P2P_ECORRUPT;
	out->stamp.value = stamp;
	out->replica = *id;
	return 0;
}

static bool bind_text(sqlite3_stmt *stmt, int at, const char *text, size_t len)
{
	return sqlite3_bind_text64(stmt, at, text, len, SQLITE_STATIC, SQLITE_UTF8) == SQLITE_OK;
}

static int parked_tell(struct p2p_rowwork *work, struct p2p_target *target,
		       const struct p2p_buf *row, const struct p2p_buf *lost, const char *origin,
		       uint64_t ms)
{
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(target->store, P2P_SQL_PARKED_TELL, &stmt);

	if (rc)
		return rc;
	if (sqlite3_bind_int64(stmt, 1, target->table->number) != SQLITE_OK ||
	    sqlite3_bind_blob64(stmt, 2, work->key.data, work->key.len, SQLITE_STATIC) !=
		    SQLITE_OK ||
	    !bind_text(stmt, 3, (const char *)row->data, row->len) ||
	    !bind_text(stmt, 4, (const char *)lost->data, lost->len) ||
	    !bind_text(stmt, 5, origin, strlen(origin)) ||
	    sqlite3_bind_int64(stmt, 6, (int64_t)ms) != SQLITE_OK)
		return P2P_ENOMEM;
	return p2p_store_run(target->store, stmt, "list a parked row of");
}

int p2p_conflicts_parked(struct p2p_rowwork *work, struct p2p_target *target,
			 const struct p2p_authority *authority)
{
	const struct p2p_table *table = target->table;
	char origin[2 * P2P_KEY_BYTES + 1];
	struct p2p_clock clock;
	struct p2p_buf row;
	struct p2p_conflict_entry entry;
	struct p2p_conflict_side side;
	uint32_t i;
	int rc = p2p_conflict_entry_init(&entry, target, "");

	p2p_buf_init(&row, P2P_RECORD_BYTES_MAX);
	if (!rc)
		rc = p2p_conflicts_youngest(work, target, &clock);
	for (i = 0; i < table->column_count && !rc; i++)
		if (table->columns[i].slot != UINT32_MAX &&
		    p2p_conflict_side_of(work, target, i, &side))
			rc = p2p_conflict_entry_lose(&entry, i, &side);
	p2p_json_end_object(&entry.lost_json);
	if (!rc)
		rc = p2p_buf_error(&entry.lost);
	if (!rc)
		rc = p2p_conflict_entry_row(work, target, &row);
	if (!rc) {
		p2p_conflict_entry_origin(authority, &clock.replica, origin);
		rc = parked_tell(work, target, &row, &entry.lost, origin, p2p_hlc_ms(clock.stamp));
	}
	p2p_buf_deinit(&row);
	p2p_conflict_entry_deinit(&entry);
	/* one that is too big to be shown is not listed: it is parked all the same */
	return rc == P2P_ETOOBIG || rc == P2P_ENOENT ? 0 : rc;
}
