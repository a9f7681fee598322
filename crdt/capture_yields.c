/* Yields: what an application wrote takes no row out of the table that it sees; see
 * capture_private.h.
 *
 * A row that is kept out comes back when a value is freed, and may be earlier than what the table
 * shows. So, of a table that was written and has such rows, it is planned what would be unique
 * (crdt/plan.h). While a row that the table shows would not be, every row that is kept out and
 * shares a value with it yields that. A row that was given a number keeps it: every other that
 * claims it yields.
 *
 * A yield goes into the turn of the youngest change that it gives way to, after that row. */
#include <stdlib.h>
#include <string.h>

#include "crdt/capture_private.h"
#include "crdt/claimants.h"
#include "proto/check.h"
#include "proto/limits.h"
#include "proto/mem.h"

struct yielding {
	struct p2p_capture *capture;
	struct p2p_table *table;
	struct p2p_buf kept;  /* encoded identities of rows that are kept out, after lengths */
	struct p2p_buf temps; /* of rows that show temporary numbers */
	size_t kept_count;
	bool parents; /* rows that its rows refer to are captured: who claims what may change */
	bool more;    /* a row yielded that did not before */
};

/* --- one row ---------------------------------------------------------------------------------- */

/* turn: the yield is not earlier. */
static int row_yield(struct yielding *y, const void *key, size_t len, const struct p2p_id *id,
		     p2p_ordinal turn)
{
	struct p2p_overlay_row *row;
	bool looked;
	uint32_t i;
	int rc = p2p_capture_take(y->capture, y->table, key, len, &row);

	for (i = 0; !rc && i < row->yield_count; i++)
		if (!row->yields[i].stamp && row->yield_turn >= turn &&
		    p2p_id_cmp(&row->yields[i].constraint, id) == 0)
			return 0;
	if (!rc)
		rc = p2p_overlay_yield(row, id, 0);
	if (rc)
		return rc;
	if (row->yield_turn < turn)
		row->yield_turn = turn;
	/* nobody looked whether the table still has it */
	looked = p2p_overlay_kept_out(row) || (row->provisional && row->scan == y->capture->scan);
	p2p_capture_provisional_set(y->capture, row, true);
	if (!looked) {
		row->scan = y->capture->scan - 1;
		y->capture->displaced_due = true;
	}
	y->more = true;
	return 0;
}

/* The youngest change of a row that is not frozen; for one that is: the first turn, which is
 * younger. */
static p2p_ordinal row_turn(const struct p2p_overlay_row *row)
{
	p2p_ordinal turn = 1;
	uint32_t i;

	if (!row)
		return turn;
	if (row->life > turn)
		turn = row->life;
	for (i = 0; i < row->state.cell_count && row->ordinals; i++)
		if (row->ordinals[i] > turn)
			turn = row->ordinals[i];
	return turn;
}

/* --- values ----------------------------------------------------------------------------------- */

/* A claim of a row that is kept out. */
struct claim {
	const struct p2p_plan_row *row;
	const struct p2p_plan_claim *claim;
};

struct claims {
	struct claim *items; /* owned; by hash */
	size_t count;
};

static int by_hash(const void *a, const void *b)
{
	const struct claim *x = a, *y = b;

	return p2p_id_cmp(&x->claim->hash, &y->claim->hash);
}

static int claims_collect(struct claims *claims, const struct p2p_plan *plan)
{
	const struct p2p_plan_row *row;
	size_t i, j, count = 0;

	for (i = 0; (row = p2p_plan_known(plan, i)) != NULL; i++)
		count += row->claim_count;
	claims->items = p2p_calloc(count + 1, sizeof(*claims->items));
	if (!claims->items)
		return P2P_ENOMEM;
	for (i = 0; (row = p2p_plan_known(plan, i)) != NULL; i++) {
		for (j = 0; j < row->claim_count && row->live && !row->shown; j++) {
			claims->items[claims->count].row = row;
			claims->items[claims->count++].claim = &row->claims[j];
		}
	}
	if (claims->count)
		qsort(claims->items, claims->count, sizeof(*claims->items), by_hash);
	return 0;
}

/* Those that share a claim with a row that would be pushed out. */
static int claim_yield(struct yielding *y, const struct claims *claims,
		       const struct p2p_plan_claim *claim, p2p_ordinal turn)
{
	struct claim key = {.claim = claim};
	const struct claim *at, *end = claims->items + claims->count;
	int rc = 0;

	at = bsearch(&key, claims->items, claims->count, sizeof(*claims->items), by_hash);
	while (at && at > claims->items && by_hash(at - 1, &key) == 0)
		at--;
	for (; at && at < end && by_hash(at, &key) == 0 && !rc; at++)
		rc = row_yield(y, at->row->key, at->row->len, &at->claim->constraint, turn);
	return rc;
}

static int pushed_yield(struct yielding *y, const struct p2p_plan *plan)
{
	const struct p2p_plan_row *row;
	struct claims claims = {NULL, 0};
	p2p_ordinal turn;
	size_t i, j;
	int rc = 0;

	for (i = 0; i < p2p_plan_count(plan) && !rc; i++) {
		row = p2p_plan_at(plan, i);
		if (!row->live || !row->shown || row->unique)
			continue;
		if (!claims.items)
			rc = claims_collect(&claims, plan);
		turn = row_turn(
			p2p_overlay_find(&y->capture->overlay, row->table, row->key, row->len));
		for (j = 0; j < row->claim_count && !rc; j++)
			rc = claim_yield(y, &claims, &row->claims[j], turn);
	}
	p2p_free(claims.items);
	return rc;
}

/* A row that was known before has left values, or may have. */
static bool row_frees(const struct yielding *y, const struct p2p_uniques *uniques,
		      const struct p2p_overlay_row *row)
{
	uint32_t i;

	if (row->unpark || row->new_life || !row->ordinals)
		return true;
	for (i = 0; i < y->table->column_count; i++) {
		uint32_t slot = y->table->columns[i].slot;

		if (uniques->columns[i] && slot < row->state.cell_count && row->ordinals[slot])
			return true;
	}
	return false;
}

/* Is it enough to ask about rows that are new? Nothing was freed then. */
static bool only_new(const struct yielding *y, const struct p2p_uniques *uniques)
{
	const struct p2p_overlay_row *row = y->capture->overlay.first;
	size_t i, count = 0;

	for (i = 0; i < uniques->count; i++)
		if (uniques->items[i].index)
			return false; /* it may read what is generated from any column */
	for (; row && !y->parents; row = row->next_row) {
		if (row->table != y->table->number || !row->provisional ||
		    p2p_overlay_kept_out(row))
			continue;
		if (row->in_file || row->frozen_length) {
			if (row_frees(y, uniques, row))
				return false;
		} else if (++count > y->kept_count) {
			return false;
		}
	}
	return !y->parents;
}

static int new_plan(const struct yielding *y, struct p2p_plan *plan)
{
	const struct p2p_overlay_row *row = y->capture->overlay.first;
	int rc = 0;

	for (; row && !rc; row = row->next_row)
		if (row->table == y->table->number && row->provisional && !row->in_file &&
		    !row->frozen_length)
			rc = p2p_plan_row(plan, row->table, row->key, row->key_len);
	return rc ? rc : p2p_plan_run(plan);
}

static int kept_plan(const struct yielding *y, struct p2p_plan *plan)
{
	struct p2p_reader reader;
	const uint8_t *key;
	size_t len;
	int rc = 0;

	p2p_reader_init(&reader, y->kept.data, y->kept.len);
	while (!rc && p2p_reader_left(&reader)) {
		key = p2p_read_bytes(&reader, P2P_RECORD_BYTES_MAX, &len);
		rc = p2p_plan_row(plan, y->table->number, key, len);
	}
	return rc ? rc : p2p_plan_run(plan);
}

/* Every round but the last makes a row yield something that it did not, or later. */
static int values_rounds(struct yielding *y, const struct p2p_plan_view *view, bool new)
{
	struct p2p_plan *plan;
	int rc;

	do {
		y->more = false;
		rc = p2p_plan_new(view, &plan);
		if (rc)
			return rc;
		rc = new ? new_plan(y, plan) : kept_plan(y, plan);
		if (!rc)
			rc = pushed_yield(y, plan);
		p2p_plan_free(plan);
	} while (y->more && !rc);
	return rc;
}

static int values_yield(struct yielding *y)
{
	struct capture_view view;
	struct p2p_plan_view plan;
	bool new, many = y->kept_count > P2P_YIELD_ROWS_MAX;
	int rc = p2p_capture_view_init(&view, y->capture, y->table);

	p2p_capture_view_plan(&view, &plan);
	if (!rc && view.uniques.count) {
		new = only_new(y, &view.uniques);
		if (!new &&many)
			p2p_log(y->capture->config.log, P2P_LOG_WARN, "crdt",
				"table %s: too many rows wait to look who gets a freed value",
				y->table->name);
		rc = values_rounds(y, &plan, new || many);
	}
	p2p_capture_view_deinit(&view);
	return rc;
}

/* --- numbers ---------------------------------------------------------------------------------- */

/* The number that a complete row claims. P2P_ENOENT. */
static int row_number(struct yielding *y, const void *key, size_t len, int64_t *out)
{
	struct p2p_capture *capture = y->capture;
	const struct p2p_overlay_row *row =
		p2p_overlay_find(&capture->overlay, y->table->number, key, len);
	int rc;

	if (row) {
		*out = row->number;
		return p2p_rowstate_alive(&row->state) ? 0 : P2P_ENOENT;
	}
	rc = p2p_store_row_get(capture->config.store, y->table, key, len, &capture->state, out);
	return rc || p2p_numbers_complete(y->table, &capture->state) ? rc : P2P_ENOENT;
}

static int number_yield(struct yielding *y, const void *key, size_t len)
{
	uint32_t slot = capture_number_slot(y->table);
	const struct p2p_overlay_row *given;
	int64_t number;
	int rc = row_number(y, key, len, &number);

	if (rc)
		return rc == P2P_ENOENT ? 0 : rc;
	given = p2p_overlay_find_number(&y->capture->overlay, y->table->number, number);
	if (!given || !given->provisional || given->number != number || !given->ordinals ||
	    !given->ordinals[slot] || (given->key_len == len && memcmp(given->key, key, len) == 0))
		return 0;
	return row_yield(y, key, len, &y->table->id, given->ordinals[slot]);
}

/* Whoever claims a number that another row shows is kept out, or shows a temporary one. */
static int numbers_yield(struct yielding *y, const struct p2p_buf *rows)
{
	struct p2p_reader reader;
	const uint8_t *key;
	size_t len;
	int rc = 0;

	p2p_reader_init(&reader, rows->data, rows->len);
	while (!rc && p2p_reader_left(&reader)) {
		key = p2p_read_bytes(&reader, P2P_RECORD_BYTES_MAX, &len);
		rc = number_yield(y, key, len);
	}
	return rc;
}

/* --- tables ----------------------------------------------------------------------------------- */

static int kept_add(void *ctx, const void *key, size_t len)
{
	struct yielding *y = ctx;

	p2p_buf_put_bytes(&y->kept, key, len);
	y->kept_count++;
	return p2p_buf_error(&y->kept);
}

static int temp_add(void *ctx, const void *key, size_t len, int64_t shown)
{
	struct yielding *y = ctx;

	(void)shown;
	p2p_buf_put_bytes(&y->temps, key, len);
	return p2p_buf_error(&y->temps);
}

static int table_yield(struct p2p_capture *capture, struct p2p_table *table, bool parents)
{
	struct yielding y = {.capture = capture, .table = table, .parents = parents};
	int rc;

	p2p_buf_init(&y.kept, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&y.temps, P2P_RECORD_BYTES_MAX);
	rc = p2p_store_parked_each(capture->config.store, table, kept_add, &y);
	if (!rc && table->generated_identity)
		rc = p2p_store_temp_each(capture->config.store, table, temp_add, &y);
	if (!rc && table->generated_identity)
		rc = numbers_yield(&y, &y.kept);
	if (!rc && table->generated_identity)
		rc = numbers_yield(&y, &y.temps);
	if (!rc && y.kept.len && table->has_unique)
		rc = values_yield(&y);
	p2p_buf_deinit(&y.kept);
	p2p_buf_deinit(&y.temps);
	return rc;
}

/* Rows of a table that it refers to are about to be frozen. */
static bool parents_touched(const struct p2p_capture *capture, const struct p2p_table *table,
			    const bool *touched)
{
	uint32_t i;

	for (i = 0; i < table->reference_count; i++) {
		const struct p2p_table *parent =
			p2p_capture_parent(capture, table, table->references[i].column);

		if (parent && touched[parent->number])
			return true;
	}
	return false;
}

static int tables_yield(struct p2p_capture *capture, bool *touched, uint32_t most)
{
	struct p2p_store *store = capture->config.store;
	const struct p2p_overlay_row *row;
	size_t i;
	int rc = 0;

	for (row = capture->overlay.first; row; row = row->next_row)
		if (row->provisional && row->table <= most)
			touched[row->table] = true;
	for (i = 0; i < p2p_store_table_count(store) && !rc; i++) {
		struct p2p_table *table = p2p_store_table(store, i);

		bool parents =
			table->state == P2P_TABLE_LIVE && parents_touched(capture, table, touched);

		if (table->state == P2P_TABLE_LIVE && (parents || touched[table->number]))
			rc = table_yield(capture, table, parents);
	}
	return rc;
}

int p2p_capture_yields(struct p2p_capture *capture)
{
	struct p2p_store *store = capture->config.store;
	uint32_t most = 0;
	bool any = false, *touched;
	size_t i;
	int rc = capture->provisional ? p2p_store_out_any(store, &any) : 0;

	if (rc || !any)
		return rc;
	for (i = 0; i < p2p_store_table_count(store); i++)
		if (p2p_store_table(store, i)->number > most)
			most = p2p_store_table(store, i)->number;
	touched = p2p_calloc((size_t)most + 1, sizeof(*touched));
	if (!touched)
		return P2P_ENOMEM;
	rc = tables_yield(capture, touched, most);
	p2p_free(touched);
	return rc;
}

/* --- into records and back -------------------------------------------------------------------- */

int p2p_capture_yields_put(struct p2p_capture *capture, const struct p2p_overlay_row *row,
			   p2p_ordinal ordinal, struct p2p_record *record)
{
	uint32_t i;

	p2p_buf_reset(&capture->yields);
	for (i = 0; i < row->yield_count && row->yield_turn == ordinal; i++)
		if (!row->yields[i].stamp)
			p2p_buf_put(&capture->yields, row->yields[i].constraint.bytes,
				    P2P_ID_BYTES);
	record->yields = capture->yields.data;
	record->yield_count = capture->yields.len / P2P_ID_BYTES;
	return p2p_buf_error(&capture->yields);
}

int p2p_capture_yields_fold(struct p2p_capture *capture, const struct p2p_table *table,
			    const struct p2p_overlay_row *row)
{
	struct p2p_rowref ref = {table, row->key, row->key_len};
	struct p2p_store_yield yield;
	uint32_t i;
	int rc = 0;

	for (i = 0; i < row->yield_count && !rc; i++) {
		yield.constraint = row->yields[i].constraint;
		yield.stamp = row->yields[i].stamp;
		yield.replica = capture->own;
		rc = p2p_store_yield_put(capture->config.store, &ref, &yield);
	}
	return rc;
}
