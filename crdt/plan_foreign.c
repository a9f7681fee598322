/* FOREIGN KEY: the greatest set of unique rows whose references point into it; see plan.h.
 *
 * First everything that may become visible is taken to be: rows that were asked about, those that
 * became unique, and what refers to them and is hidden, again and again. Then whoever refers to a
 * row that is not visible goes, and is looked at by those that refer to it, until nothing goes. */
#include <string.h>

#include "crdt/plan_private.h"
#include "proto/mem.h"

struct foreign {
	struct p2p_plan *plan;
	struct p2p_plan_rows open;  /* to look below of */
	struct p2p_plan_rows check; /* whose references are to be looked at */
};

int p2p_plan_will_show(struct p2p_plan *plan, const struct p2p_plan_ref *ref, bool *out)
{
	const struct p2p_plan_row *row;

	*out = ref->named && p2p_plan_named(plan, ref->table, &ref->name);
	if (*out || !ref->len)
		return 0;
	row = p2p_plan_find(plan, ref->table, ref->key, ref->len);

	if (row && row->loaded) {
		*out = row->visible;
		return 0;
	}
	return plan->view.shown(plan->view.ctx, ref, out);
}

static bool may_show(const struct p2p_plan_row *row)
{
	return row->live && row->unique && !row->refused;
}

static int check_put(struct foreign *f, struct p2p_plan_row *row)
{
	if (row->listed)
		return 0;
	row->listed = true;
	return p2p_plan_push(&f->check, row);
}

/* Taken to be visible. */
static int open_put(struct foreign *f, struct p2p_plan_row *row)
{
	int rc = check_put(f, row);

	row->touched = true;
	row->visible = true;
	return rc ? rc : p2p_plan_push(&f->open, row);
}

static int below_open(void *ctx, uint32_t table, const void *key, size_t len)
{
	struct foreign *f = ctx;
	struct p2p_plan_row *row;
	int rc = p2p_plan_get(f->plan, table, key, len, &row);

	if (rc)
		return rc;
	row->touched |= row->shown; /* it shows something else for its parent */
	return row->visible || !may_show(row) ? 0 : open_put(f, row);
}

/* Rows that are touched begin as what UNIQUE left them. */
static int foreign_begin(struct foreign *f)
{
	struct p2p_plan *plan = f->plan;
	size_t i, count = plan->count;
	int rc = 0;

	for (i = 0; i < count && !rc; i++) {
		struct p2p_plan_row *row = plan->rows[i];

		if (!row->touched)
			continue;
		row->visible = may_show(row);
		if (!row->visible)
			rc = check_put(f, row);
		else
			rc = open_put(f, row);
	}
	for (i = 0; i < f->open.count && !rc; i++) {
		struct p2p_plan_row *row = f->open.items[i];

		if (!row->shown || row->asked)
			rc = plan->view.children(plan->view.ctx, row, false, below_open, f);
	}
	return rc;
}

static int row_stands(struct foreign *f, const struct p2p_plan_row *row, bool *out)
{
	size_t i;
	int rc = 0;

	*out = row->visible;
	for (i = 0; i < row->ref_count && *out && !rc; i++) {
		if (!row->refs[i].hides)
			continue;
		rc = p2p_plan_will_show(f->plan, &row->refs[i], out);
		if (!row->refs[i].instead)
			continue;
		i++;
		if (!rc && !*out)
			rc = p2p_plan_will_show(f->plan, &row->refs[i], out);
	}
	return rc;
}

/* A child that the plan takes to be visible is looked at (again). */
static int below_known(void *ctx, uint32_t table, const void *key, size_t len)
{
	struct foreign *f = ctx;
	struct p2p_plan_row *row = p2p_plan_find(f->plan, table, key, len);

	return row && row->visible ? check_put(f, row) : 0;
}

static int below_shown(void *ctx, uint32_t table, const void *key, size_t len)
{
	struct foreign *f = ctx;
	struct p2p_plan_row *row;
	int rc = p2p_plan_get(f->plan, table, key, len, &row);

	if (!rc)
		row->touched = true; /* at least it shows something else */
	return rc || !row->visible ? rc : check_put(f, row);
}

static int row_gone(struct foreign *f, struct p2p_plan_row *row)
{
	struct p2p_plan *plan = f->plan;
	int rc = plan->view.children(plan->view.ctx, row, false, below_known, f);

	row->touched = true;
	row->visible = false;
	/* one that was taken out for this is still named by what stands in the tables */
	if (!rc && (row->shown || row->asked))
		rc = plan->view.children(plan->view.ctx, row, true, below_shown, f);
	return rc;
}

static int foreign_prune(struct foreign *f)
{
	size_t i;
	bool stands;
	int rc = 0;

	for (i = 0; i < f->check.count && !rc; i++) {
		struct p2p_plan_row *row = f->check.items[i];
		bool was = row->visible;

		row->listed = false;
		rc = row_stands(f, row, &stands);
		if (!rc && !stands && (was || row->shown))
			rc = row_gone(f, row);
	}
	return rc;
}

int p2p_plan_foreign(struct p2p_plan *plan)
{
	struct foreign f = {.plan = plan};
	int rc = foreign_begin(&f);

	if (!rc)
		rc = foreign_prune(&f);
	p2p_free(f.open.items);
	p2p_free(f.check.items);
	return rc;
}
