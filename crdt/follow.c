/* Rows follow their parents; see follow.h. */
#include "crdt/follow.h"

#include <stdlib.h>
#include <string.h>

#include "crdt/rowrefs.h"
#include "proto/check.h"
#include "proto/mem.h"

static int follower_add(struct p2p_follow *follow, const struct p2p_follower *like, const void *key,
			size_t len)
{
	struct p2p_follower *grown;
	size_t cap;

	if (follow->count == follow->cap) {
		cap = follow->cap ? follow->cap * 2 : 64;
		grown = p2p_realloc(follow->items, cap * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		follow->items = grown;
		follow->cap = cap;
	}
	grown = &follow->items[follow->count++];
	*grown = *like;
	grown->at = follow->keys.len;
	grown->len = len;
	p2p_buf_put(&follow->keys, key, len);
	return p2p_buf_error(&follow->keys);
}

/* --- before ----------------------------------------------------------------------------------- */

struct gather {
	struct p2p_settle *settle;
	size_t mover;
	int64_t number; /* that it shows */
	unsigned depth;
};

static int child_gather(void *ctx, struct p2p_target *child, uint32_t reference, const void *key,
			size_t len)
{
	struct gather *gather = ctx, below = *gather;
	const struct p2p_table *table = child->table;
	uint32_t column = table->references[reference].column;
	struct p2p_follower follower = {.table = table->number,
					.reference = reference,
					.mover = gather->mover};
	int rc = 0;

	/* named by its parent, it has its parent's number, and children of its own */
	below.depth++;
	if (table->lone_number && column == table->key[0] && below.depth < P2P_REFERENCE_DEPTH_MAX)
		rc = p2p_settle_children(child, gather->number, child_gather, &below);
	if (rc)
		return rc;
	if ((table->columns[column].flags & P2P_COLUMN_KEY) || child->uniques.columns[column])
		return p2p_settle_lift(child, key, len);
	return follower_add(gather->settle->follow, &follower, key, len);
}

static int by_number(const void *a, const void *b)
{
	const struct gather *x = a, *y = b;

	return (x->number > y->number) - (x->number < y->number);
}

struct gathers {
	struct gather *items; /* owned; by number */
	size_t count;
};

static void *gather_of(void *ctx, int64_t number)
{
	struct gathers *all = ctx;
	struct gather wanted = {.number = number};

	return bsearch(&wanted, all->items, all->count, sizeof(wanted), by_number);
}

static int gathers_run(struct p2p_target *target, struct gathers *all, int64_t *numbers)
{
	struct p2p_settle_many many = {.numbers = numbers,
				       .count = all->count,
				       .wanted = gather_of,
				       .each = child_gather,
				       .ctx = all};
	size_t i;

	qsort(all->items, all->count, sizeof(*all->items), by_number);
	for (i = 0; i < all->count; i++)
		numbers[i] = all->items[i].number;
	return p2p_settle_children_many(target, &many);
}

/* It stood in the table until this transaction: its children stand there still. */
static bool was_lifted(struct p2p_target *target, const struct p2p_claimant *at)
{
	uint8_t bytes[P2P_CLAIMANT_KEY_BYTES];
	struct p2p_buf key;

	p2p_claimant_key(&key, bytes, &at->identity);
	return p2p_settle_lifted(target, &key);
}

static int moving_begin(struct p2p_target *target, struct p2p_claimants *list)
{
	struct p2p_settle *settle = target->settle;
	struct gathers all = {p2p_calloc(list->count, sizeof(*all.items)), 0};
	int64_t *numbers = p2p_calloc(list->count, sizeof(*numbers));
	size_t i;
	int rc = all.items && numbers ? 0 : P2P_ENOMEM;

	settle->refs.moving = list;
	settle->refs.moving_table = target->table;
	for (i = 0; i < list->count && !rc; i++) {
		/* what a row that is not in the table would show may stand for another one there */
		if (!list->items[i].in_table && !was_lifted(target, &list->items[i]))
			continue;
		all.items[all.count].settle = settle;
		all.items[all.count].mover = i;
		all.items[all.count++].number = list->items[i].shown;
	}
	if (!rc)
		rc = gathers_run(target, &all, numbers);
	settle->refs.moving = NULL;
	p2p_free(all.items);
	p2p_free(numbers);
	return rc;
}

/* --- after ------------------------------------------------------------------------------------ */

static int child_follow(struct p2p_settle *settle, const struct p2p_follower *at, int64_t number)
{
	struct p2p_table *table = p2p_store_table_by_number(settle->store, at->table);
	struct p2p_rowwork *work = &settle->work;
	struct p2p_value key[P2P_KEY_COLUMNS_MAX], value = {.type = P2P_INTEGER, .integer = number};
	struct p2p_target *target;
	int rc = settle->target(settle->ctx, table, &target);

	if (!rc)
		rc = p2p_rowwork_load_key(work, target, settle->follow->keys.data + at->at,
					  at->len);
	if (rc || (work->state.flags & P2P_ROW_PARKED))
		return rc; /* it left with another column */
	p2p_cells_set(&work->cells, table->references[at->reference].column, &value);
	rc = p2p_rowwork_key(work, target, key);
	if (!rc)
		rc = p2p_apptable_update(&target->app, key, &work->cells);
	if (rc > 0)
		return P2P_ECORRUPT; /* a number where there was one, and no constraint on it */
	target->rows++;
	if (!rc)
		rc = p2p_rowwork_hashes(work, target, key, false);
	return rc ? rc : p2p_rowwork_save(work, target);
}

/* A row that is parked, or shows something else: what it claims has another number in it. */
static int below_reclaim(struct p2p_target *target, const void *key, size_t len);

int p2p_follow_reclaim(void *ctx, uint32_t number, const void *key, size_t len)
{
	struct p2p_settle *settle = ctx;
	struct p2p_table *table = p2p_store_table_by_number(settle->store, number);
	struct p2p_rowwork *work = &settle->work;
	struct p2p_target *target;
	bool shown;
	int rc;

	if (!table || table->state != P2P_TABLE_LIVE)
		return 0;
	rc = settle->target(settle->ctx, table, &target);
	if (!rc && table->lone_number && !table->generated_identity)
		rc = below_reclaim(target, key, len);
	if (rc || !target->uniques.count)
		return rc;
	rc = p2p_rowwork_load_key(work, target, key, len);
	if (rc || !p2p_numbers_complete(table, &work->state))
		return rc;
	shown = !(work->state.flags & P2P_ROW_PARKED);
	rc = p2p_settle_free_kept(target, &work->key);
	if (!rc)
		rc = p2p_rowwork_gather(work, target, shown);
	if (!rc)
		rc = p2p_rowrefs_load(work, target, shown);
	if (!rc)
		rc = p2p_settle_claim(target, work, shown);
	return rc ? rc : p2p_settle_ask(target, &work->key, false);
}

static int kept_reclaim(struct p2p_target *target, const struct p2p_claimant *at)
{
	uint8_t bytes[P2P_CLAIMANT_KEY_BYTES];
	struct p2p_plan_row row = {.table = target->table->number};
	struct p2p_plan_view view;
	struct p2p_buf key;

	p2p_claimant_key(&key, bytes, &at->identity);
	row.key = key.data;
	row.len = key.len;
	p2p_settle_view(target->settle, &view);
	return view.children(view.ctx, &row, false, p2p_follow_reclaim, target->settle);
}

/* Of a row that is named by its parent: it has another number, too. */
static int below_reclaim(struct p2p_target *target, const void *key, size_t len)
{
	struct p2p_plan_row row = {.table = target->table->number};
	struct p2p_plan_view view;
	struct p2p_buf copy;
	int rc;

	if (!target->child_count)
		return 0;
	p2p_buf_init(&copy, P2P_RECORD_BYTES_MAX);
	p2p_buf_put(&copy, key, len);
	rc = p2p_buf_error(&copy);
	row.key = copy.data;
	row.len = copy.len;
	p2p_settle_view(target->settle, &view);
	if (!rc)
		rc = view.children(view.ctx, &row, false, p2p_follow_reclaim, target->settle);
	p2p_buf_deinit(&copy);
	return rc;
}

static int moving_end(struct p2p_target *target, const struct p2p_claimants *list)
{
	struct p2p_settle *settle = target->settle;
	size_t i;
	int rc = 0;

	for (i = 0; i < settle->follow->count && !rc; i++) {
		const struct p2p_follower *at = &settle->follow->items[i];

		p2p_require(at->mover < list->count);
		rc = child_follow(settle, at, list->items[at->mover].target);
	}
	for (i = 0; i < list->count && !rc; i++)
		rc = kept_reclaim(target, &list->items[i]);
	return rc ? rc : p2p_settle_ask_waiting(target);
}

int p2p_follow_moving(void *ctx, struct p2p_claimants *list, bool done)
{
	struct p2p_target *target = ctx;
	struct p2p_follow *follow = target->settle->follow;
	int rc;

	if (!target->child_count)
		return 0;
	if (!done) {
		follow->count = 0;
		p2p_buf_reset(&follow->keys);
		return moving_begin(target, list);
	}
	rc = moving_end(target, list);
	follow->count = 0;
	return rc;
}
