/* From the plan into the tables; see settle.h. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/conflicts.h"
#include "crdt/parked.h"
#include "crdt/rowrefs.h"
#include "crdt/settle.h"
#include "proto/check.h"
#include "proto/mem.h"

/* One plan and what comes of it. */
struct run {
	struct p2p_settle *settle;
	struct p2p_plan *plan;
	size_t refused; /* rows found to be forbidden, in this pass */
};

static const char *refused_reason(const struct p2p_plan_row *row)
{
	if (row->refused)
		return row->refused;
	return row->unique ? "fk" : "unique";
}

/* The row as it is, whole. */
static int row_take(struct p2p_target *target, const struct p2p_plan_row *row, bool in_table)
{
	struct p2p_rowwork *work = &target->settle->work;
	int rc = p2p_rowwork_load_key(work, target, row->key, row->len);

	if (!rc && !p2p_numbers_complete(target->table, &work->state))
		rc = P2P_ECORRUPT; /* the plan read it a moment ago */
	if (!rc)
		rc = p2p_rowwork_gather(work, target, in_table);
	return rc ? rc : p2p_rowrefs_load(work, target, in_table);
}

/* It is not in the table (any more): parked with the reason. */
static int row_park(struct run *run, struct p2p_target *target, const struct p2p_plan_row *row)
{
	struct p2p_rowwork *work = &run->settle->work;
	int rc = p2p_settle_claim(target, work, row->unique);

	if (!rc)
		rc = p2p_parked_put(work, target, refused_reason(row));
	if (!rc)
		rc = p2p_conflicts_parked(work, target, run->settle->authority);
	if (!rc)
		rc = p2p_checks_touch(target, &work->key);
	target->parked++;
	return rc ? rc : p2p_rowwork_save(work, target);
}

static int row_hide(struct run *run, struct p2p_target *target, const struct p2p_plan_row *row)
{
	struct p2p_rowwork *work = &run->settle->work;
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	int rc = row_take(target, row, true);

	if (!rc)
		rc = p2p_rowwork_key(work, target, key);
	if (!rc)
		rc = p2p_apptable_delete(&target->app, key);
	target->rows++;
	return rc ? rc : row_park(run, target, row);
}

/* What a reference column shows: the number of its row; NULL or its default while that is not
 * shown.
 */
static int ref_show(struct run *run, struct p2p_target *target, uint32_t column, bool *out_masked)
{
	struct p2p_rowwork *work = &run->settle->work;
	const struct p2p_table *table = target->table;
	const struct p2p_reference *reference =
		&table->references[table->columns[column].reference];
	struct p2p_rowref row = {p2p_refs_parent(&run->settle->refs, reference),
				 work->targets.data + work->refs[column].at,
				 work->refs[column].len};
	struct p2p_plan_ref ref = {.table = row.table->number,
				   .key = work->targets.data + work->refs[column].at,
				   .len = row.len};
	struct p2p_value value = {.type = P2P_NULL};
	bool shown;
	int rc = p2p_plan_will_show(run->plan, &ref, out_masked);

	if (rc)
		return rc;
	*out_masked = !*out_masked;
	if (*out_masked && reference->instead == P2P_INSTEAD_NUMBER) {
		value.type = P2P_INTEGER;
		value.integer = reference->number;
	} else if (!*out_masked) {
		value.type = P2P_INTEGER;
		rc = p2p_refs_number(&run->settle->refs, &row, &value.integer, &shown);
	}
	p2p_cells_set(&work->cells, column, &value);
	return rc == P2P_ENOENT ? P2P_ECORRUPT : rc;
}

static int refs_show(struct run *run, struct p2p_target *target, bool *out_masked)
{
	struct p2p_rowwork *work = &run->settle->work;
	uint32_t i;
	int rc = 0;

	*out_masked = false;
	for (i = 0; i < work->ref_count && !rc; i++) {
		if (work->refs[i].kind != P2P_REFCELL_ROW)
			continue;
		rc = ref_show(run, target, i, &work->refs[i].masked);
		*out_masked |= work->refs[i].masked;
	}
	return rc;
}

/* The indexes of the table know what a row claims, unless it shows something else. */
static int claims_shown(struct p2p_target *target, struct p2p_rowwork *work, bool masked)
{
	struct p2p_rowref row = {target->table, work->key.data, work->key.len};

	if (masked)
		return p2p_settle_claim(target, work, true);
	return target->gates.claims ? p2p_store_claim_drop(target->store, &row) : 0;
}

static int row_refuse(struct run *run, struct p2p_target *target, int outcome)
{
	struct p2p_settle *settle = run->settle;
	int rc = p2p_settle_ask(target, settle->work.key.data, settle->work.key.len);

	if (rc)
		return rc;
	settle->rows[settle->row_count - 1].refused = outcome == P2P_APPTABLE_TAKEN    ? "key"
						      : outcome == P2P_APPTABLE_UNIQUE ? "unique"
										       : "not null";
	run->refused++;
	return 0;
}

/* Rows that refer to one another come in one after the other: each finds the others' numbers. */
static int row_number(struct run *run, struct p2p_target *target, const struct p2p_plan_row *row)
{
	struct p2p_rowwork *work = &run->settle->work;
	int rc;

	if (!target->table->generated_identity)
		return 0;
	rc = p2p_rowwork_load_key(work, target, row->key, row->len);
	return rc ? rc : p2p_rowwork_number(work, target);
}

static int row_show(struct run *run, struct p2p_target *target, const struct p2p_plan_row *row)
{
	struct p2p_rowwork *work = &run->settle->work;
	bool masked;
	int rc = row_take(target, row, false);

	if (!rc)
		rc = refs_show(run, target, &masked);
	if (!rc)
		rc = p2p_rowwork_insert(work, target);
	if (rc > 0)
		return row_refuse(run, target, rc);
	if (!rc)
		rc = claims_shown(target, work, masked);
	return rc ? rc : p2p_rowwork_save(work, target);
}

enum pass { HIDE, MASK, NUMBER, SHOW, UNMASK, PASSES };

/* What the references of a shown row show from now on, as far as this pass has to do with it: the
 * cells that are set. */
static int refs_refresh(struct run *run, struct p2p_target *target, enum pass pass,
			bool *out_changed, bool *out_masked)
{
	struct p2p_rowwork *work = &run->settle->work;
	struct p2p_value before;
	bool masked;
	uint32_t i;
	int rc = 0;

	*out_changed = *out_masked = false;
	for (i = 0; i < work->ref_count && !rc; i++) {
		if (work->refs[i].kind != P2P_REFCELL_ROW)
			continue;
		before = work->cells.values[i];
		rc = ref_show(run, target, i, &masked);
		work->cells.set[i] = 0;
		if (!rc && masked == (pass == MASK)) {
			work->cells.set[i] = masked != work->refs[i].masked ||
					     p2p_value_cmp(&before, &work->cells.values[i]) != 0;
			work->refs[i].masked = masked;
		}
		*out_changed |= work->cells.set[i];
		*out_masked |= work->refs[i].masked;
	}
	return rc;
}

/* A shown row stays; what it shows for rows that come or go changes. */
static int row_refresh(struct run *run, struct p2p_target *target, const struct p2p_plan_row *row,
		       enum pass pass)
{
	struct p2p_rowwork *work = &run->settle->work;
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	bool masked = false, changed = false;
	int rc;

	if (!row->ref_count)
		return 0;
	rc = row_take(target, row, true);
	if (!rc && work->cells.count)
		memset(work->cells.set, 0, work->cells.count);
	if (!rc)
		rc = refs_refresh(run, target, pass, &changed, &masked);
	if (rc || !changed)
		return rc;
	rc = p2p_rowwork_key(work, target, key);
	if (!rc)
		rc = p2p_apptable_update(&target->app, key, &work->cells);
	if (rc > 0) {
		/* nobody forbids NULL there, and who held its values has left */
		return row_refuse(run, target, rc);
	}
	target->rows++;
	if (!rc)
		rc = p2p_rowwork_hashes(work, target, key, false);
	if (!rc)
		rc = p2p_rowrefs_keep(work, target, false);
	if (!rc)
		rc = p2p_rowwork_save(work, target);
	if (!rc && target->uniques.count)
		rc = row_take(target, row, true);
	return rc || !target->uniques.count ? rc : claims_shown(target, work, masked);
}

/* --- passes ----------------------------------------------------------------------------------- */

static int row_pass(struct run *run, const struct p2p_plan_row *row, enum pass pass)
{
	struct p2p_settle *settle = run->settle;
	struct p2p_table *table = p2p_store_table_by_number(settle->store, row->table);
	struct p2p_target *target;
	int rc;

	if (!row->live)
		return 0;
	rc = settle->target(settle->ctx, table, &target);
	if (rc)
		return rc;
	switch (pass) {
	case HIDE:
		if (row->shown && !row->visible)
			return row_hide(run, target, row);
		if (row->shown || row->visible)
			return 0;
		rc = row_take(target, row, false);
		return rc ? rc : row_park(run, target, row);
	case MASK:   /* before others take what it showed */
	case UNMASK: /* once its parents have their places */
		return row->shown && row->visible ? row_refresh(run, target, row, pass) : 0;
	case NUMBER:
		return !row->shown && row->visible ? row_number(run, target, row) : 0;
	case SHOW:
		return !row->shown && row->visible ? row_show(run, target, row) : 0;
	case PASSES:
		break;
	}
	return 0;
}

static int plan_make(struct run *run)
{
	struct p2p_settle *settle = run->settle;
	struct p2p_plan_view view;
	size_t i;
	int rc;

	p2p_settle_view(settle, &view);
	rc = p2p_plan_new(&view, &run->plan);
	for (i = 0; i < settle->row_count && !rc; i++) {
		const struct p2p_settle_row *row = &settle->rows[i];

		if (row->parent)
			continue;
		rc = p2p_plan_row_as(run->plan, row->table, settle->keys.data + row->at, row->len,
				     row->refused);
	}
	for (i = 0; i < settle->freed_count && !rc; i++)
		rc = p2p_plan_freed(run->plan, settle->freed[i].table, &settle->freed[i].hash);
	p2p_settle_still_begin(settle);
	if (!rc)
		rc = p2p_plan_run(run->plan);
	p2p_settle_still_end(settle);
	return rc;
}

/* A row was refused that others were shown for: the next plan looks at them, too. */
static int ask_again(struct run *run)
{
	struct p2p_settle *settle = run->settle;
	struct p2p_target *target;
	size_t i;
	int rc = 0;

	for (i = 0; i < p2p_plan_count(run->plan) && !rc; i++) {
		const struct p2p_plan_row *row = p2p_plan_at(run->plan, i);

		if (!row->live || !row->visible || !row->ref_count || row->asked)
			continue;
		rc = settle->target(settle->ctx,
				    p2p_store_table_by_number(settle->store, row->table), &target);
		if (!rc)
			rc = p2p_settle_ask(target, row->key, row->len);
	}
	return rc;
}

static int run_once(struct run *run)
{
	enum pass pass;
	size_t i;
	int rc = plan_make(run);

	run->refused = 0;
	for (pass = HIDE; pass < PASSES && !rc; pass++)
		for (i = 0; i < p2p_plan_count(run->plan) && !rc; i++)
			rc = row_pass(run, p2p_plan_at(run->plan, i), pass);
	if (!rc && run->refused)
		rc = ask_again(run);
	p2p_plan_free(run->plan);
	run->plan = NULL;
	return rc;
}

/* Rows that refer to one whose number came or went. */
static int run_reclaim(struct p2p_settle *settle)
{
	struct p2p_plan_view view;
	struct p2p_buf key;
	size_t i, count = settle->row_count;
	int rc = 0;

	p2p_settle_view(settle, &view);
	p2p_buf_init(&key, P2P_RECORD_BYTES_MAX);
	for (i = 0; i < count && !rc; i++) {
		struct p2p_plan_row row = {.table = settle->rows[i].table};

		if (!settle->rows[i].parent)
			continue;
		p2p_buf_reset(&key);
		p2p_buf_put(&key, settle->keys.data + settle->rows[i].at, settle->rows[i].len);
		rc = p2p_buf_error(&key);
		row.key = key.data;
		row.len = key.len;
		if (!rc)
			rc = view.children(view.ctx, &row, false, p2p_follow_reclaim, settle);
	}
	p2p_buf_deinit(&key);
	return rc;
}

int p2p_settle_run(struct p2p_settle *settle)
{
	struct run run = {.settle = settle};
	int rc = settle->row_count ? run_reclaim(settle) : 0;

	/* ends: every pass but the last finds a row more that this file forbids */
	do {
		if (rc || (!settle->row_count && !settle->freed_count))
			break;
		rc = run_once(&run);
	} while (!rc && run.refused);
	p2p_settle_clear(settle);
	return rc;
}

/* Rows that this file forbids, of those that the plan is asked about. */
static int check_refused(struct p2p_settle *settle)
{
	static const char sql[] =
		"SELECT reason = 'not null' OR reason = 'key' OR (reason = 'unique' AND EXISTS("
		"SELECT 1 FROM main.p2p_claim AS c WHERE c.t = p.t AND c.k = p.k AND c.held))"
		" FROM main.p2p_parked AS p WHERE t = ?1 AND k = ?2";
	sqlite3_stmt *stmt = NULL;
	size_t i;
	int rc = sqlite3_prepare_v2(p2p_store_db(settle->store), sql, -1, &stmt, NULL);

	for (i = 0; i < settle->row_count && rc == SQLITE_OK; i++) {
		struct p2p_settle_row *row = &settle->rows[i];

		rc = sqlite3_bind_int64(stmt, 1, row->table);
		if (rc == SQLITE_OK)
			rc = sqlite3_bind_blob64(stmt, 2, settle->keys.data + row->at, row->len,
						 SQLITE_STATIC);
		if (rc == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW &&
		    sqlite3_column_int(stmt, 0))
			row->refused = "forbidden";
		if (rc == SQLITE_OK)
			rc = sqlite3_reset(stmt);
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc == SQLITE_OK ? 0 : p2p_store_error(settle->store, rc, NULL, "read");
}

int p2p_settle_check(struct p2p_settle *settle, uint64_t *out_rows)
{
	struct run run = {.settle = settle};
	const struct p2p_plan_row *row;
	size_t i;
	int rc = check_refused(settle);

	if (!rc)
		rc = plan_make(&run);
	for (i = 0; !rc && i < p2p_plan_count(run.plan); i++) {
		row = p2p_plan_at(run.plan, i);
		*out_rows += row->live && row->shown != row->visible;
	}
	p2p_plan_free(run.plan);
	return rc;
}
