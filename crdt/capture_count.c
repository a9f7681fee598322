/* Cells of counter columns on their way out; see capture_private.h and crdt/counters.h.
 *
 * What a row shows in such a column is what others added up, and the base, and our own running
 * total. Others' part is in the file and moves only with a merge, before which everything of ours
 * is frozen and folded. So our total is what the row shows less their part: never a difference that
 * could be taken twice. */
#include <string.h>

#include "crdt/capture_private.h"
#include "crdt/counters.h"
#include "proto/check.h"

static struct p2p_rowref row_of(const struct p2p_table *table, const struct p2p_overlay_row *row)
{
	struct p2p_rowref ref = {table, row->key, row->key_len};

	return ref;
}

/* The base that our total is added to: ours, if we wrote it last, else as in the file. */
static int base_add(struct p2p_capture *capture, struct p2p_table *table, uint32_t column,
		    const struct p2p_overlay_row *row, struct p2p_sum *sum)
{
	uint32_t slot = table->columns[column].slot;
	const struct p2p_counted *own = p2p_overlay_counted(row, slot, true, true);
	const struct p2p_counter *base = p2p_counters_base(&capture->counters, slot);
	int64_t number = 0;
	int rc = 0;

	if (own)
		number = own->number ? own->total : 0;
	else if (base)
		number = base->number ? base->total : 0;
	else
		rc = p2p_store_default_integer(capture->config.store, table, column, &number);
	p2p_sum_add(sum, number);
	return rc;
}

/* All of the cell but our own total. born: a birth begins with a base of 0. */
static int others_of(struct p2p_capture *capture, struct p2p_table *table, uint32_t column,
		     const struct p2p_overlay_row *row, bool born, struct p2p_sum *out)
{
	const struct p2p_rowref ref = row_of(table, row);
	const struct p2p_counters *counters = &capture->counters;
	size_t i;
	int rc = 0;

	memset(out, 0, sizeof(*out));
	p2p_counters_reset(&capture->counters);
	/* what the file has of an older life counts no more */
	if (row->state.causal_length == row->stored_length)
		rc = p2p_counters_load(&capture->counters, capture->config.store, &ref);
	for (i = 0; i < counters->count && !rc; i++) {
		const struct p2p_counter *at = &counters->items[i];

		if (at->slot == table->columns[column].slot && at->replica > 0 &&
		    at->replica != (int64_t)capture->own)
			p2p_sum_add(out, at->total);
	}
	return rc || born ? rc : base_add(capture, table, column, row, out);
}

/* Our own total before this changeset. */
static int64_t own_before(const struct p2p_capture *capture, const struct p2p_overlay_row *row,
			  uint32_t slot)
{
	const struct p2p_counted *frozen = p2p_overlay_counted(row, slot, false, true);
	const struct p2p_counters *counters = &capture->counters; /* others_of() */
	size_t i;

	if (frozen)
		return frozen->total;
	for (i = 0; i < counters->count; i++)
		if (counters->items[i].slot == slot &&
		    counters->items[i].replica == (int64_t)capture->own)
			return counters->items[i].total;
	return 0;
}

/* --- freezing --------------------------------------------------------------------------------- */

static int cell_count(struct p2p_capture *capture, struct p2p_table *table,
		      struct p2p_overlay_row *row, bool born, struct p2p_cell *cell)
{
	struct p2p_counted counted = {.slot = table->columns[cell->column].slot, .number = true};
	struct p2p_sum others;
	int rc;

	p2p_overlay_count_anew(row, counted.slot);
	if (cell->value.type != P2P_INTEGER || (born && row->present)) {
		counted.base = true;
		counted.number = cell->value.type == P2P_INTEGER;
		counted.total = counted.number ? cell->value.integer : 0;
		return p2p_overlay_count(row, &counted);
	}
	rc = others_of(capture, table, cell->column, row, born, &others);
	if (rc)
		return rc;
	cell->tag = P2P_CELL_COUNTER;
	cell->value.integer = counted.total = p2p_sum_rest(&others, cell->value.integer);
	memset(&others, 0, sizeof(others));
	p2p_sum_add(&others, own_before(capture, row, counted.slot));
	cell->added = p2p_sum_rest(&others, counted.total);
	rc = p2p_overlay_count(row, &counted);
	if (rc || !born)
		return rc;
	counted.base = true;
	counted.total = 0;
	return p2p_overlay_count(row, &counted);
}

int p2p_capture_count(struct p2p_capture *capture, struct p2p_table *table,
		      struct p2p_overlay_row *row, struct p2p_record *record)
{
	bool born = (record->flags & P2P_RECORD_BORN) != 0;
	size_t i;
	int rc = 0;

	for (i = 0; i < record->cell_count && table->counters && !rc; i++)
		if (table->columns[record->cells[i].column].flags & P2P_COLUMN_COUNTER)
			rc = cell_count(capture, table, row, born, &record->cells[i]);
	return rc;
}

/* A counter of a row that was deleted: what others had added up, as far as it was known here. */
static void cell_end(const struct p2p_capture *capture, uint32_t column, uint32_t slot,
		     struct p2p_record *record)
{
	const struct p2p_counters *counters = &capture->counters;
	struct p2p_cell *cell = &record->cells[record->cell_count];
	struct p2p_sum sum = {0, 0};
	bool any = false;
	size_t i;

	for (i = 0; i < counters->count; i++) {
		const struct p2p_counter *at = &counters->items[i];

		if (at->slot != slot || at->replica < 0 || at->replica == (int64_t)capture->own)
			continue;
		p2p_sum_add(&sum, at->total);
		any = true;
	}
	if (!any)
		return;
	memset(cell, 0, sizeof(*cell));
	cell->column = column;
	cell->tag = P2P_CELL_COUNTER;
	cell->value.type = P2P_INTEGER;
	cell->value.integer = p2p_sum_value(&sum);
	record->cell_count++;
}

int p2p_capture_count_end(struct p2p_capture *capture, struct p2p_table *table,
			  const struct p2p_overlay_row *row, struct p2p_record *record)
{
	const struct p2p_rowref ref = row_of(table, row);
	uint32_t i;
	int rc;

	/* what the file has of an older life counts no more */
	if (!table->counters || row->state.causal_length != row->stored_length + 1)
		return 0;
	rc = p2p_counters_load(&capture->counters, capture->config.store, &ref);
	for (i = 0; i < table->column_count && !rc; i++)
		if (table->columns[i].flags & P2P_COLUMN_COUNTER)
			cell_end(capture, i, table->columns[i].slot, record);
	return rc;
}

/* --- back from the log ------------------------------------------------------------------------ */

int p2p_capture_count_replay(struct p2p_capture *capture, struct p2p_table *table,
			     struct p2p_overlay_row *row, const struct p2p_counted_cell *from,
			     struct p2p_value *value)
{
	struct p2p_counted counted = {.slot = table->columns[from->column].slot, .number = true};
	struct p2p_sum sum;
	int rc;

	counted.stamp = from->stamp;
	if (from->tag != P2P_CELL_COUNTER) {
		counted.base = true;
		counted.number = value->type == P2P_INTEGER;
		counted.total = counted.number ? value->integer : 0;
		return p2p_overlay_count(row, &counted);
	}
	rc = others_of(capture, table, from->column, row, from->born, &sum);
	if (rc)
		return rc;
	counted.total = value->integer;
	p2p_sum_add(&sum, value->integer);
	value->integer = p2p_sum_value(&sum);
	rc = p2p_overlay_count(row, &counted);
	if (rc || !from->born)
		return rc;
	counted.base = true;
	counted.total = 0;
	return p2p_overlay_count(row, &counted);
}

/* --- fold ------------------------------------------------------------------------------------- */

/* Totals end at the edges of 64 bits: then the row may show what nobody else comes to. A fold that
 * is rolled back comes again: what the table shows is read, not remembered. */
static int shown_settle(struct p2p_capture *capture, struct p2p_table *table,
			struct p2p_overlay_row *row, uint32_t column)
{
	struct p2p_cellstate *cell = &row->state.cells[table->columns[column].slot];
	const struct p2p_hash_key *hash_key = p2p_store_hash_key(capture->config.store);
	const struct p2p_counted *own =
		p2p_overlay_counted(row, table->columns[column].slot, false, true);
	struct p2p_value key[P2P_KEY_COLUMNS_MAX], shown = {.type = P2P_INTEGER};
	struct capture_finder *finder;
	struct p2p_cells cells;
	struct p2p_sum sum;
	bool same = true;
	int rc;

	if (!own || own->stamp != cell->stamp ||
	    (own->total != INT64_MIN && own->total != INT64_MAX))
		return 0;
	rc = others_of(capture, table, column, row, false, &sum);
	p2p_sum_add(&sum, own->total);
	shown.integer = p2p_sum_value(&sum);
	p2p_cells_init(&cells);
	if (!rc)
		rc = p2p_capture_finder(capture, table, &finder);
	if (!rc)
		rc = p2p_capture_key(capture, table, row, key);
	if (!rc) {
		rc = p2p_apptable_read(&finder->app, key, &cells);
		same = rc || p2p_value_equal(&cells.values[column], &shown);
		p2p_store_row_done(capture->config.store);
		rc = rc == P2P_ENOENT ? 0 : rc; /* pushed out, and not noticed yet */
	}
	if (!rc && !same)
		rc = p2p_cells_reset(&cells, table->column_count);
	if (!rc && !same) {
		p2p_cells_set(&cells, column, &shown);
		rc = p2p_apptable_update(&finder->app, key, &cells);
	}
	p2p_cells_deinit(&cells);
	cell->hash = p2p_value_hash(hash_key, &shown);
	return rc > 0 ? P2P_ECORRUPT : rc; /* no constraint is on a counter alone */
}

int p2p_capture_count_fold(struct p2p_capture *capture, struct p2p_table *table,
			   struct p2p_overlay_row *row)
{
	struct p2p_store *store = capture->config.store;
	const struct p2p_rowref ref = row_of(table, row);
	size_t i;
	int rc = 0;

	if (!table->counters)
		return 0;
	if (row->state.causal_length != row->stored_length)
		rc = p2p_counters_drop(store, &ref);
	if (rc || !p2p_rowstate_alive(&row->state))
		return rc;
	for (i = 0; i < table->column_count && row->counted_count && !rc; i++)
		if (table->columns[i].flags & P2P_COLUMN_COUNTER)
			rc = shown_settle(capture, table, row, (uint32_t)i);
	for (i = 0; i < row->counted_count && !rc; i++) {
		const struct p2p_counted *at = &row->counted[i];
		struct p2p_counter counter = {.slot = at->slot, .number = at->number};

		p2p_require(at->stamp != 0); /* everything is frozen */
		counter.replica = at->base ? -(int64_t)capture->own : (int64_t)capture->own;
		counter.total = at->total;
		counter.stamp = at->stamp;
		rc = p2p_counters_put(store, &ref, &counter);
	}
	return rc;
}
