/* Totals and bases of counter cells; see counters.h. */
#include "crdt/counters.h"

#include <sqlite3.h>
#include <string.h>

#include "crdt/conflicts.h"
#include "crdt/store_private.h"
#include "proto/check.h"
#include "proto/mem.h"

/* --- sums ------------------------------------------------------------------------------------- */

void p2p_sum_add(struct p2p_sum *sum, int64_t number)
{
	uint64_t bits = (uint64_t)number;

	sum->low += bits & UINT32_MAX;
	sum->high += (int64_t)(bits >> 32) - (number < 0 ? (int64_t)1 << 32 : 0);
	sum->high += (int64_t)(sum->low >> 32);
	sum->low &= UINT32_MAX;
}

int64_t p2p_sum_value(const struct p2p_sum *sum)
{
	if (sum->high > INT32_MAX)
		return INT64_MAX;
	if (sum->high < INT32_MIN)
		return INT64_MIN;
	return sum->high * ((int64_t)1 << 32) + (int64_t)sum->low;
}

int64_t p2p_sum_rest(const struct p2p_sum *sum, int64_t shown)
{
	struct p2p_sum rest = {.high = -sum->high, .low = 0};

	/* -(high * 2^32 + low): the low half is taken off last, where nothing is lost */
	p2p_sum_add(&rest, shown);
	p2p_sum_add(&rest, -(int64_t)sum->low);
	return p2p_sum_value(&rest);
}

/* --- in the file ------------------------------------------------------------------------------ */

static int counter_statement(struct p2p_store *store, enum p2p_store_sql which,
			     const struct p2p_rowref *row, sqlite3_stmt **out)
{
	int rc = p2p_store_statement(store, which, out);

	if (rc)
		return rc;
	return sqlite3_bind_int64(*out, 1, row->table->number) == SQLITE_OK &&
			       sqlite3_bind_blob64(*out, 2, row->key, row->len, SQLITE_STATIC) ==
				       SQLITE_OK
		       ? 0
		       : P2P_ENOMEM;
}

void p2p_counters_deinit(struct p2p_counters *counters)
{
	p2p_free(counters->items);
	memset(counters, 0, sizeof(*counters));
}

void p2p_counters_reset(struct p2p_counters *counters)
{
	counters->count = 0;
	counters->loaded = counters->changed = false;
}

static int counters_add(struct p2p_counters *counters, struct p2p_counter **out)
{
	struct p2p_counter *grown;
	size_t cap;

	if (counters->count == counters->cap) {
		cap = counters->cap ? counters->cap * 2 : 8;
		grown = p2p_realloc(counters->items, cap * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		counters->items = grown;
		counters->cap = cap;
	}
	*out = &counters->items[counters->count++];
	memset(*out, 0, sizeof(**out));
	return 0;
}

static int counter_read(struct p2p_counters *counters, sqlite3_stmt *stmt)
{
	struct p2p_counter *counter;
	int rc = counters_add(counters, &counter);

	if (rc)
		return rc;
	counter->slot = (uint32_t)sqlite3_column_int64(stmt, 0);
	counter->replica = sqlite3_column_int64(stmt, 1);
	counter->number = sqlite3_column_type(stmt, 2) == SQLITE_INTEGER;
	counter->total = sqlite3_column_int64(stmt, 2);
	counter->stamp = (uint64_t)sqlite3_column_int64(stmt, 3);
	return counter->replica ? 0 : P2P_ECORRUPT;
}

int p2p_counters_load(struct p2p_counters *counters, struct p2p_store *store,
		      const struct p2p_rowref *row)
{
	sqlite3_stmt *stmt;
	int rc;

	p2p_counters_reset(counters);
	rc = counter_statement(store, P2P_SQL_COUNTER_EACH, row, &stmt);
	if (rc)
		return rc;
	while (p2p_store_next(store, stmt, &rc))
		rc = counter_read(counters, stmt);
	counters->loaded = rc == 0;
	return rc;
}

int p2p_counters_put(struct p2p_store *store, const struct p2p_rowref *row,
		     const struct p2p_counter *counter)
{
	sqlite3_stmt *stmt;
	bool ok;
	int rc = 0;

	if (counter->replica < 0) {
		rc = counter_statement(store, P2P_SQL_COUNTER_REBASE, row, &stmt);
		if (!rc && sqlite3_bind_int64(stmt, 3, counter->slot) != SQLITE_OK)
			rc = P2P_ENOMEM;
		if (!rc)
			rc = p2p_store_run(store, stmt, "replace the base of a counter of");
	}
	if (!rc)
		rc = counter_statement(store, P2P_SQL_COUNTER_PUT, row, &stmt);
	if (rc)
		return rc;
	ok = sqlite3_bind_int64(stmt, 3, counter->slot) == SQLITE_OK &&
	     sqlite3_bind_int64(stmt, 4, counter->replica) == SQLITE_OK &&
	     (counter->number ? sqlite3_bind_int64(stmt, 5, counter->total)
			      : sqlite3_bind_null(stmt, 5)) == SQLITE_OK &&
	     sqlite3_bind_int64(stmt, 6, (int64_t)counter->stamp) == SQLITE_OK;
	return ok ? p2p_store_run(store, stmt, "write a counter of") : P2P_ENOMEM;
}

int p2p_counters_drop(struct p2p_store *store, const struct p2p_rowref *row)
{
	sqlite3_stmt *stmt;
	int rc = counter_statement(store, P2P_SQL_COUNTER_CLEAR, row, &stmt);

	return rc ? rc : p2p_store_run(store, stmt, "drop counters of");
}

struct p2p_counter *p2p_counters_base(const struct p2p_counters *counters, uint32_t slot)
{
	size_t i;

	for (i = 0; i < counters->count; i++)
		if (counters->items[i].slot == slot && counters->items[i].replica < 0)
			return &counters->items[i];
	return NULL;
}

/* --- merging ---------------------------------------------------------------------------------- */

static struct p2p_rowref row_of(const struct p2p_rowmerge *m)
{
	struct p2p_rowref row = {m->target->table, m->work->key.data, m->work->key.len};

	return row;
}

int p2p_counters_of(struct p2p_rowmerge *m)
{
	const struct p2p_rowref row = row_of(m);

	return m->counters->loaded ? 0 : p2p_counters_load(m->counters, m->store, &row);
}

int p2p_counters_end(struct p2p_rowmerge *m)
{
	const struct p2p_rowref row = row_of(m);

	if (!m->target->table->counters)
		return 0;
	p2p_counters_reset(m->counters);
	m->counters->loaded = true;
	return p2p_counters_drop(m->store, &row);
}

/* The record's clock against another: < 0, 0, > 0. */
static int clock_against(const struct p2p_rowmerge *m, uint64_t stamp, uint32_t replica, int *out)
{
	const struct p2p_id *id = p2p_store_replica_id(m->store, replica);

	if (!id)
		return P2P_ECORRUPT;
	*out = (m->clock.stamp.value > stamp) - (m->clock.stamp.value < stamp);
	if (!*out)
		*out = p2p_id_cmp(&m->clock.replica, id);
	return 0;
}

/* The cell was written at the record's clock: the youngest stays. */
static int cell_written(struct p2p_rowmerge *m, uint32_t slot)
{
	struct p2p_cellstate *cell = &m->work->state.cells[slot];
	int order = 1, rc = 0;

	if (cell->stamp)
		rc = clock_against(m, cell->stamp, cell->replica, &order);
	if (rc || order <= 0)
		return rc;
	cell->stamp = m->clock.stamp.value;
	cell->replica = m->replica;
	m->changed = true;
	return 0;
}

static int counter_changed(struct p2p_rowmerge *m, struct p2p_counter *counter)
{
	counter->dirty = true;
	m->counters->changed = true;
	m->changed = true;
	m->counts->cells_won++;
	return cell_written(m, counter->slot);
}

static int total_merge(struct p2p_rowmerge *m, uint32_t slot, int64_t total)
{
	struct p2p_counters *counters = m->counters;
	struct p2p_counter *counter = NULL;
	uint64_t stamp = m->clock.stamp.value;
	size_t i;
	int rc = 0;

	for (i = 0; i < counters->count && !counter; i++)
		if (counters->items[i].slot == slot && counters->items[i].replica == m->replica)
			counter = &counters->items[i];
	/* two totals under one clock: a forked replica */
	if (counter &&
	    (counter->stamp > stamp || (counter->stamp == stamp && counter->total >= total))) {
		m->counts->cells_lost += counter->stamp > stamp;
		return 0;
	}
	if (!counter)
		rc = counters_add(counters, &counter);
	if (rc)
		return rc;
	counter->slot = slot;
	counter->replica = m->replica;
	counter->number = true;
	counter->total = total;
	counter->stamp = stamp;
	return counter_changed(m, counter);
}

/* Of two values under one clock what is no INTEGER wins, then the greater. */
static int base_tie(struct p2p_rowmerge *m, uint32_t column, const struct p2p_counter *base,
		    const struct p2p_value *value, bool *out)
{
	bool number = value->type == P2P_INTEGER;

	if (number != base->number)
		*out = !number;
	else if (number)
		*out = value->integer > base->total;
	else
		return p2p_rowmerge_tie(m, column, value, out);
	return 0;
}

/* written: by an application, as this value; NULL: a birth begins to count. */
static int base_merge(struct p2p_rowmerge *m, uint32_t column, const struct p2p_cell *written,
		      const struct p2p_value *value)
{
	uint32_t slot = m->target->table->columns[column].slot;
	struct p2p_counter *base = p2p_counters_base(m->counters, slot);
	bool wins = true;
	int order = 1, rc = 0;

	if (base)
		rc = clock_against(m, base->stamp, (uint32_t)-base->replica, &order);
	if (!rc && order < 0) {
		m->counts->cells_lost++;
		if (written)
			p2p_conflicts_note(m, column, written, value, true);
		return 0;
	}
	if (!rc && order == 0)
		rc = base_tie(m, column, base, value, &wins);
	if (rc || !wins)
		return rc;
	if (base && order > 0 && written)
		p2p_conflicts_note(m, column, written, value, false);
	if (!base)
		rc = counters_add(m->counters, &base);
	if (rc)
		return rc;
	base->slot = slot;
	base->replica = -(int64_t)m->replica;
	base->number = value->type == P2P_INTEGER;
	base->total = base->number ? value->integer : 0;
	base->stamp = m->clock.stamp.value;
	if (!base->number)
		p2p_cells_set(&m->work->cells, column, value); /* unless something is younger */
	return counter_changed(m, base);
}

int p2p_counters_merge(struct p2p_rowmerge *m, uint32_t column, const struct p2p_cell *cell,
		       const struct p2p_value *value)
{
	struct p2p_value zero = {.type = P2P_INTEGER};
	int rc = p2p_counters_of(m);

	if (rc)
		return rc;
	if (cell->tag != P2P_CELL_COUNTER)
		return base_merge(m, column, cell, value);
	rc = total_merge(m, m->target->table->columns[column].slot, cell->value.integer);
	if (!rc && (m->record->flags & P2P_RECORD_BORN))
		rc = base_merge(m, column, NULL, &zero);
	return rc;
}

/* --- showing ---------------------------------------------------------------------------------- */

/* The youngest that was written is a total. */
static bool total_is_youngest(const struct p2p_counters *counters, uint32_t slot,
			      const struct p2p_cellstate *cell)
{
	size_t i;

	for (i = 0; i < counters->count; i++)
		if (counters->items[i].slot == slot &&
		    counters->items[i].replica == (int64_t)cell->replica &&
		    counters->items[i].stamp == cell->stamp)
			return true;
	return false;
}

static int column_show(struct p2p_rowmerge *m, uint32_t column)
{
	const struct p2p_counters *counters = m->counters;
	struct p2p_table *table = m->target->table;
	uint32_t slot = table->columns[column].slot;
	struct p2p_cellstate *cell = &m->work->state.cells[slot];
	const struct p2p_counter *base = p2p_counters_base(counters, slot);
	struct p2p_value shown = {.type = P2P_INTEGER};
	struct p2p_sum sum = {0, 0};
	size_t i;
	int rc = 0;

	if (!cell->stamp ||
	    (base && !base->number && base->stamp == cell->stamp &&
	     base->replica == -(int64_t)cell->replica && !total_is_youngest(counters, slot, cell)))
		return 0; /* nobody wrote it, or it is shown as it was written */
	for (i = 0; i < counters->count; i++)
		if (counters->items[i].slot == slot && counters->items[i].number)
			p2p_sum_add(&sum, counters->items[i].total);
	if (!base)
		rc = p2p_store_default_integer(m->store, table, column, &shown.integer);
	if (rc)
		return rc;
	p2p_sum_add(&sum, shown.integer);
	shown.integer = p2p_sum_value(&sum);
	if (m->work->cells.set[column] ||
	    cell->hash != p2p_value_hash(p2p_store_hash_key(m->store), &shown))
		p2p_cells_set(&m->work->cells, column, &shown);
	return 0;
}

int p2p_counters_show(struct p2p_rowmerge *m)
{
	const struct p2p_table *table = m->target->table;
	const struct p2p_rowref row = row_of(m);
	struct p2p_counters *counters = m->counters;
	size_t i;
	int rc = 0;

	if (!counters->changed)
		return 0;
	for (i = 0; i < counters->count && !rc; i++) {
		if (counters->items[i].dirty)
			rc = p2p_counters_put(m->store, &row, &counters->items[i]);
		counters->items[i].dirty = false;
	}
	for (i = 0; i < table->column_count && !rc; i++)
		if (table->columns[i].flags & P2P_COLUMN_COUNTER)
			rc = column_show(m, (uint32_t)i);
	return rc;
}

/* --- a column becomes a counter --------------------------------------------------------------- */

static int base_take(struct p2p_target *target, struct p2p_rowwork *work, uint32_t column)
{
	const struct p2p_table *table = target->table;
	const struct p2p_rowref row = {table, work->key.data, work->key.len};
	uint32_t slot = table->columns[column].slot;
	const struct p2p_cellstate *cell = &work->state.cells[slot];
	struct p2p_counter base = {.slot = slot};
	int rc;

	if (slot >= work->state.cell_count || !cell->stamp)
		return 0;
	rc = p2p_rowwork_gather(work, target,
				p2p_numbers_complete(table, &work->state) &&
					!(work->state.flags & P2P_ROW_PARKED));
	if (rc)
		return rc == P2P_ECORRUPT ? 0 : rc; /* pushed out, and not captured yet */
	base.replica = -(int64_t)cell->replica;
	base.stamp = cell->stamp;
	if (work->cells.set[column] && work->cells.values[column].type == P2P_INTEGER) {
		base.number = true;
		base.total = work->cells.values[column].integer;
	}
	return p2p_counters_put(target->store, &row, &base);
}

int p2p_counters_take(struct p2p_target *target, struct p2p_rowwork *work, uint32_t column)
{
	struct p2p_store *store = target->store;
	sqlite3_stmt *stmt = NULL;
	struct p2p_buf sql;
	int rc, step;

	p2p_buf_init(&sql, 1024);
	p2p_sql_text(&sql, "SELECT k FROM main.p2p_row_");
	p2p_sql_number(&sql, target->table->number);
	rc = p2p_sql_prepare(store, &sql, &stmt);
	p2p_buf_deinit(&sql);
	while (!rc && (step = sqlite3_step(stmt)) != SQLITE_DONE) {
		if (step != SQLITE_ROW) {
			rc = p2p_store_error(store, step, NULL, "read");
			break;
		}
		rc = p2p_rowwork_load_key(work, target, sqlite3_column_blob(stmt, 0),
					  (size_t)sqlite3_column_bytes(stmt, 0));
		if (!rc && p2p_rowstate_alive(&work->state))
			rc = base_take(target, work, column);
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc;
}
