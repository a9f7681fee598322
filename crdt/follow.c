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

/* --- leaving ---------------------------------------------------------------------------------- */

struct leaving_row {
	struct p2p_target *target;
	size_t at, len; /* of its identity in keys */
};

/* A row that leaves its table, and those that leave with it: parents before their children. */
struct leaving {
	struct leaving_row *rows; /* owned */
	size_t count, cap;
	uint32_t *slots; /* owned: index + 1, by hash; at least twice as many as rows */
	size_t slot_count;
	struct p2p_buf keys;
	size_t now;	    /* whose children are looked at */
	struct p2p_buf key; /* of that one */
};

/* Where the row is, or would be put. */
static size_t leaving_slot(const struct leaving *leaving, const struct p2p_target *target,
			   const void *key, size_t len)
{
	const struct p2p_value value = {.type = P2P_BLOB, .bytes = key, .len = len};
	uint64_t hash = p2p_value_hash(p2p_store_hash_key(target->store), &value);
	size_t at = (size_t)(hash ^ target->table->number) & (leaving->slot_count - 1);

	while (leaving->slots[at]) {
		const struct leaving_row *row = &leaving->rows[leaving->slots[at] - 1];

		if (row->target == target && row->len == len &&
		    memcmp(leaving->keys.data + row->at, key, len) == 0)
			break;
		at = (at + 1) & (leaving->slot_count - 1);
	}
	return at;
}

static int leaving_grow(struct leaving *leaving)
{
	size_t cap = leaving->cap ? leaving->cap * 2 : 8, i;
	struct leaving_row *grown = p2p_realloc(leaving->rows, cap * sizeof(*grown));
	uint32_t *slots = p2p_calloc(2 * cap, sizeof(*slots));

	if (grown)
		leaving->rows = grown;
	if (!grown || !slots) {
		p2p_free(slots);
		return P2P_ENOMEM;
	}
	p2p_free(leaving->slots);
	leaving->cap = cap;
	leaving->slots = slots;
	leaving->slot_count = 2 * cap;
	for (i = 0; i < leaving->count; i++)
		slots[leaving_slot(leaving, grown[i].target, leaving->keys.data + grown[i].at,
				   grown[i].len)] = (uint32_t)i + 1;
	return 0;
}

static int leaving_add(struct leaving *leaving, struct p2p_target *target, const void *key,
		       size_t len)
{
	struct leaving_row *grown;
	int rc = leaving->count == leaving->cap ? leaving_grow(leaving) : 0;

	if (rc)
		return rc;
	leaving->slots[leaving_slot(leaving, target, key, len)] = (uint32_t)leaving->count + 1;
	grown = &leaving->rows[leaving->count++];
	grown->target = target;
	grown->at = leaving->keys.len;
	grown->len = len;
	p2p_buf_put(&leaving->keys, key, len);
	return p2p_buf_error(&leaving->keys);
}

static bool leaving_has(const struct leaving *leaving, const struct p2p_target *target,
			const void *key, size_t len)
{
	return leaving->slots[leaving_slot(leaving, target, key, len)] != 0;
}

/* What has the number in its key, or may not share it, cannot stay without it. */
static bool must_leave(const struct p2p_target *child, uint32_t reference)
{
	uint32_t column = child->table->references[reference].column;

	return (child->table->columns[column].flags & P2P_COLUMN_KEY) ||
	       child->uniques.columns[column];
}

/* The child stays, and is known to refer to this row whatever its cell shows. */
static int child_pin(struct leaving *leaving, struct p2p_target *child, uint32_t reference,
		     const void *key, size_t len)
{
	const struct p2p_table *table = child->table;
	const struct p2p_table *parent = leaving->rows[leaving->now].target->table;
	struct p2p_rowref row = {table, key, len};
	struct p2p_store_ref ref = {
		.slot = table->columns[table->references[reference].column].slot,
		.parent = parent->number,
		.key = leaving->key.data,
		.len = leaving->key.len};
	int rc = p2p_store_ref_put(child->store, &row, &ref);

	p2p_settle_refs_written(child, parent->number);
	return rc ? rc : p2p_settle_ask(child, key, len);
}

static int child_leave(void *ctx, struct p2p_target *child, uint32_t reference, const void *key,
		       size_t len)
{
	struct leaving *leaving = ctx;

	if (!must_leave(child, reference))
		return child_pin(leaving, child, reference, key, len);
	/* one without children ends its branch: found twice, it leaves once */
	if ((child->child_count || child == leaving->rows[0].target) &&
	    leaving_has(leaving, child, key, len))
		return 0;
	return leaving_add(leaving, child, key, len);
}

/* Children of the row, by the number that it shows. */
static int leaving_below(struct leaving *leaving)
{
	const struct leaving_row *at = &leaving->rows[leaving->now];
	struct p2p_target *target = at->target;
	struct p2p_rowref row = {.table = target->table};
	int64_t number;
	bool shown;
	int rc;

	if (!target->child_count)
		return 0;
	p2p_buf_reset(&leaving->key);
	p2p_buf_put(&leaving->key, leaving->keys.data + at->at, at->len);
	rc = p2p_buf_error(&leaving->key);
	row.key = leaving->key.data;
	row.len = leaving->key.len;
	if (!rc)
		rc = p2p_refs_number(&target->settle->refs, &row, &number, &shown);
	if (!rc && shown)
		rc = p2p_settle_children(target, number, child_leave, leaving);
	return rc == P2P_ENOENT ? 0 : rc;
}

/* first: 0, the row itself leaves, too; 1: its caller takes it out. */
static int leave(struct p2p_target *target, const void *key, size_t len, size_t first)
{
	struct leaving leaving = {.rows = NULL};
	size_t i;
	int rc;

	p2p_buf_init(&leaving.keys, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&leaving.key, P2P_RECORD_BYTES_MAX);
	rc = leaving_add(&leaving, target, key, len);
	p2p_settle_still_begin(target->settle);
	for (; leaving.now < leaving.count && !rc; leaving.now++)
		rc = leaving_below(&leaving);
	p2p_settle_still_end(target->settle);
	for (i = leaving.count; i > first && !rc; i--) {
		const struct leaving_row *at = &leaving.rows[i - 1];

		rc = p2p_settle_lift(at->target, leaving.keys.data + at->at, at->len);
	}
	p2p_buf_deinit(&leaving.keys);
	p2p_buf_deinit(&leaving.key);
	p2p_free(leaving.rows);
	p2p_free(leaving.slots);
	return rc;
}

int p2p_follow_leave(struct p2p_target *target, const struct p2p_buf *key)
{
	return target->child_count ? leave(target, key->data, key->len, 1) : 0;
}

/* --- before a move ---------------------------------------------------------------------------- */

struct gather {
	struct p2p_settle *settle;
	size_t mover;
	int64_t number; /* that it shows */
};

static int child_gather(void *ctx, struct p2p_target *child, uint32_t reference, const void *key,
			size_t len)
{
	struct gather *gather = ctx;
	struct p2p_follower follower = {.table = child->table->number,
					.reference = reference,
					.mover = gather->mover};

	if (must_leave(child, reference))
		return leave(child, key, len, 0);
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
		if (!list->items[i].in_table)
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
	return rc ? rc : p2p_settle_ask(target, work->key.data, work->key.len);
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
