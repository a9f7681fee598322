/* The plan; see plan.h. */
#include "crdt/plan.h"

#include <stdlib.h>
#include <string.h>

#include "crdt/plan_private.h"
#include "crdt/value.h"
#include "proto/check.h"
#include "proto/mem.h"

/* --- rows ------------------------------------------------------------------------------------- */

int p2p_plan_new(const struct p2p_plan_view *view, struct p2p_plan **out)
{
	struct p2p_plan *plan = p2p_calloc(1, sizeof(*plan));

	if (!plan)
		return P2P_ENOMEM;
	plan->view = *view;
	*out = plan;
	return 0;
}

static void row_free(struct p2p_plan_row *row)
{
	size_t i;

	for (i = 0; i < row->ref_count; i++)
		p2p_free(row->refs[i].key);
	p2p_free(row->refs);
	p2p_free(row->claims);
	p2p_free(row->names);
	p2p_free(row->key);
	p2p_free(row);
}

void p2p_plan_free(struct p2p_plan *plan)
{
	size_t i;

	if (!plan)
		return;
	for (i = 0; i < plan->count; i++)
		row_free(plan->rows[i]);
	p2p_free(plan->rows);
	p2p_free(plan->buckets);
	p2p_free(plan->heap);
	p2p_free(plan->list);
	p2p_free(plan->entries);
	p2p_free(plan->groups);
	p2p_free(plan->freed);
	p2p_free(plan);
}

uint64_t p2p_plan_hash(const struct p2p_plan *plan, uint32_t table, const uint8_t *bytes,
		       size_t len)
{
	const struct p2p_value value = {.type = P2P_BLOB, .bytes = bytes, .len = len};

	return p2p_value_hash(plan->view.hash_key, &value) ^ table;
}

struct p2p_plan_row *p2p_plan_find(const struct p2p_plan *plan, uint32_t table, const void *key,
				   size_t len)
{
	struct p2p_plan_row *row;

	if (!plan->bucket_count)
		return NULL;
	row = plan->buckets[p2p_plan_hash(plan, table, key, len) & (plan->bucket_count - 1)];
	while (row && (row->table != table || row->len != len || memcmp(row->key, key, len) != 0))
		row = row->chain;
	return row;
}

static int buckets_grow(struct p2p_plan *plan)
{
	size_t count = plan->bucket_count ? plan->bucket_count * 4 : 64, i;
	struct p2p_plan_row **buckets = p2p_calloc(count, sizeof(*buckets)), **at;

	if (!buckets)
		return P2P_ENOMEM;
	for (i = 0; i < plan->count; i++) {
		struct p2p_plan_row *row = plan->rows[i];

		at = &buckets[p2p_plan_hash(plan, row->table, row->key, row->len) & (count - 1)];
		row->chain = *at;
		*at = row;
	}
	p2p_free(plan->buckets);
	plan->buckets = buckets;
	plan->bucket_count = count;
	return 0;
}

int p2p_plan_push(struct p2p_plan_rows *list, struct p2p_plan_row *row)
{
	struct p2p_plan_row **grown;
	size_t cap;

	if (list->count == list->cap) {
		cap = list->cap ? list->cap * 2 : 32;
		grown = p2p_realloc(list->items, cap * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		list->items = grown;
		list->cap = cap;
	}
	list->items[list->count++] = row;
	return 0;
}

static int row_add(struct p2p_plan *plan, uint32_t table, const void *key, size_t len,
		   struct p2p_plan_row **out)
{
	struct p2p_plan_rows rows = {plan->rows, plan->count, plan->cap};
	struct p2p_plan_row *row = p2p_calloc(1, sizeof(*row)), **at;
	int rc = row && plan->count < plan->bucket_count ? 0 : P2P_ENOMEM;

	if (row && rc)
		rc = buckets_grow(plan);
	if (!rc) {
		row->key = p2p_memdup(key, len);
		rc = row->key ? 0 : P2P_ENOMEM;
	}
	if (!rc)
		rc = p2p_plan_push(&rows, row);
	plan->rows = rows.items;
	plan->cap = rows.cap;
	if (rc) {
		if (row)
			row_free(row);
		return rc;
	}
	row->table = table;
	row->len = len;
	plan->count = rows.count;
	at = &plan->buckets[p2p_plan_hash(plan, table, key, len) & (plan->bucket_count - 1)];
	row->chain = *at;
	*at = row;
	*out = row;
	return 0;
}

/* --- claims ----------------------------------------------------------------------------------- */

int p2p_plan_claim_add(struct p2p_plan_row *row, const struct p2p_plan_claim *claim)
{
	struct p2p_plan_claim *grown =
		p2p_realloc(row->claims, (row->claim_count + 1) * sizeof(*grown));

	if (!grown)
		return P2P_ENOMEM;
	row->claims = grown;
	grown[row->claim_count++] = *claim;
	return 0;
}

int p2p_plan_ref_add(struct p2p_plan_row *row, const struct p2p_plan_ref *ref)
{
	struct p2p_plan_ref *grown = p2p_realloc(row->refs, (row->ref_count + 1) * sizeof(*grown));

	if (!grown)
		return P2P_ENOMEM;
	row->refs = grown;
	grown += row->ref_count;
	*grown = *ref;
	grown->key = ref->len ? p2p_memdup(ref->key, ref->len) : NULL;
	if (ref->len && !grown->key)
		return P2P_ENOMEM;
	row->ref_count++;
	return 0;
}

int p2p_plan_name_add(struct p2p_plan_row *row, const struct p2p_id *name)
{
	struct p2p_id *grown = p2p_realloc(row->names, (row->name_count + 1) * sizeof(*grown));

	if (!grown)
		return P2P_ENOMEM;
	row->names = grown;
	grown[row->name_count++] = *name;
	return 0;
}

int p2p_plan_get(struct p2p_plan *plan, uint32_t table, const void *key, size_t len,
		 struct p2p_plan_row **out)
{
	struct p2p_plan_row *row = p2p_plan_find(plan, table, key, len);
	int rc = 0;

	if (!row)
		rc = row_add(plan, table, key, len, &row);
	if (rc)
		return rc;
	*out = row;
	if (row->loaded)
		return 0;
	rc = plan->view.load(plan->view.ctx, plan, row);
	row->loaded = true;
	if (!row->live)
		row->held = false;
	row->unique = row->held;
	row->visible = row->shown;
	return rc || !row->live ? rc : p2p_plan_row_index(plan, row);
}

bool p2p_plan_named(const struct p2p_plan *plan, uint32_t table, const struct p2p_id *name)
{
	const struct p2p_plan_group *group = p2p_plan_group_find(plan, table, name);
	uint32_t at = group ? group->first_unique : 0;

	for (; at; at = plan->entries[at - 1].next_unique)
		if (plan->entries[at - 1].row->visible)
			return true;
	return false;
}

/* --- order ------------------------------------------------------------------------------------ */

static int claim_cmp(const struct p2p_plan_claim *a, const struct p2p_plan_claim *b)
{
	int rc = p2p_clock_cmp(&a->clock, &b->clock);

	return rc ? rc : (int)a->yielded - (int)b->yielded;
}

static const struct p2p_plan_claim *youngest(const struct p2p_plan_row *row)
{
	const struct p2p_plan_claim *found = NULL;
	size_t i;

	for (i = 0; i < row->claim_count; i++)
		if (!found || claim_cmp(&row->claims[i], found) > 0)
			found = &row->claims[i];
	return found;
}

static int key_cmp(const struct p2p_plan_row *a, const struct p2p_plan_row *b)
{
	size_t len = a->len < b->len ? a->len : b->len;
	int rc = memcmp(a->key, b->key, len);

	return rc ? rc : (a->len > b->len) - (a->len < b->len);
}

/* Rows without claims come first; they are in nobody's way. */
static int order_cmp(const struct p2p_plan_row *a, const struct p2p_plan_row *b)
{
	const struct p2p_plan_claim *x = youngest(a), *y = youngest(b);
	int rc = (x != NULL) - (y != NULL);

	if (!rc && x)
		rc = claim_cmp(x, y);
	return rc ? rc : key_cmp(a, b);
}

/* --- the queue: least order first ------------------------------------------------------------- */

static int queue_put(struct p2p_plan *plan, struct p2p_plan_row *row)
{
	struct p2p_plan_rows heap = {plan->heap, plan->heap_count, plan->heap_cap};
	size_t at = plan->heap_count, up;
	int rc;

	if (row->queued)
		return 0;
	rc = p2p_plan_push(&heap, row);
	plan->heap = heap.items;
	plan->heap_cap = heap.cap;
	if (rc)
		return rc;
	row->queued = true;
	plan->heap_count = heap.count;
	while (at) {
		up = (at - 1) / 2;
		if (order_cmp(plan->heap[up], row) <= 0)
			break;
		plan->heap[at] = plan->heap[up];
		at = up;
	}
	plan->heap[at] = row;
	return 0;
}

static struct p2p_plan_row *queue_take(struct p2p_plan *plan)
{
	struct p2p_plan_row *first = plan->heap[0], *last = plan->heap[--plan->heap_count];
	size_t at = 0, down;

	for (;;) {
		down = 2 * at + 1;
		if (down >= plan->heap_count)
			break;
		if (down + 1 < plan->heap_count &&
		    order_cmp(plan->heap[down + 1], plan->heap[down]) < 0)
			down++;
		if (order_cmp(last, plan->heap[down]) <= 0)
			break;
		plan->heap[at] = plan->heap[down];
		at = down;
	}
	plan->heap[at] = last;
	return first;
}

/* --- UNIQUE ----------------------------------------------------------------------------------- */

static int load_each(void *ctx, uint32_t table, const void *key, size_t len)
{
	struct p2p_plan_row *row;

	return p2p_plan_get(ctx, table, key, len, &row);
}

/* Rows that share the claim and are (held: or may be) in its way are loaded. */
static int sharers_load(struct p2p_plan *plan, const struct p2p_plan_row *row,
			const struct p2p_plan_claim *claim, bool held)
{
	struct p2p_plan_claim copy = *claim; /* loading does not move it, but who knows */
	struct p2p_plan_group *group;
	bool asked;
	int rc = p2p_plan_group_get(plan, row->table, &copy.hash, &group);

	if (rc)
		return rc;
	asked = held ? group->held : group->others;
	if (held)
		group->held = true;
	else
		group->others = true;
	if (asked)
		return 0;
	if (held)
		rc = plan->view.holder(plan->view.ctx, row, &copy, load_each, plan);
	return rc ? rc
		  : plan->view.others(plan->view.ctx, row->table, &copy.hash, held, load_each,
				      plan);
}

static int row_blocked(struct p2p_plan *plan, const struct p2p_plan_row *row, bool *out)
{
	size_t i;
	uint32_t at;
	int rc = 0;

	*out = false;
	for (i = 0; i < row->claim_count && !rc && !*out; i++) {
		const struct p2p_plan_group *group;

		rc = sharers_load(plan, row, &row->claims[i], true);
		group = rc ? NULL : p2p_plan_group_find(plan, row->table, &row->claims[i].hash);
		at = group ? group->first_unique : 0;
		for (; at && !*out; at = plan->entries[at - 1].next_unique) {
			const struct p2p_plan_row *other = plan->entries[at - 1].row;

			*out = other != row && other->unique && order_cmp(other, row) < 0;
		}
	}
	return rc;
}

/* Later rows that share a claim with one whose answer became another: those that it is in the way
 * of now, or that it was in the way of. */
static int queue_later(struct p2p_plan *plan, const struct p2p_plan_row *row,
		       const struct p2p_id *hash)
{
	const struct p2p_plan_group *group = p2p_plan_group_find(plan, row->table, hash);
	uint32_t at = !group ? 0 : row->unique ? group->first_unique : group->first;
	int rc = 0;

	while (at && !rc) {
		const struct p2p_plan_entry *entry = &plan->entries[at - 1];

		if (entry->row != row && entry->row->unique == row->unique &&
		    order_cmp(entry->row, row) > 0)
			rc = queue_put(plan, entry->row);
		at = row->unique ? entry->next_unique : entry->next;
	}
	return rc;
}

static int row_decide(struct p2p_plan *plan, struct p2p_plan_row *row)
{
	bool blocked = false;
	size_t i;
	int rc = row->live ? row_blocked(plan, row, &blocked) : 0;

	if (rc)
		return rc;
	/* one that changed may be in the way of others as before, but of other others */
	if (row->unique == (row->live && !blocked) && !(row->asked && row->unique))
		return 0;
	row->unique = row->live && !blocked;
	if (row->unique)
		p2p_plan_row_unique(plan, row);
	row->touched = true;
	for (i = 0; i < row->claim_count && !rc; i++) {
		rc = sharers_load(plan, row, &row->claims[i], row->unique);
		if (!rc)
			rc = queue_later(plan, row, &row->claims[i].hash);
	}
	return rc;
}

/* Those that are not unique and claim what was freed, or what a changed row claims. */
struct freed_each {
	struct p2p_plan *plan;
};

static int freed_queue(void *ctx, uint32_t table, const void *key, size_t len)
{
	struct freed_each *each = ctx;
	struct p2p_plan_row *row;
	int rc = p2p_plan_get(each->plan, table, key, len, &row);

	return rc || !row->live || row->unique ? rc : queue_put(each->plan, row);
}

static int freed_run(struct p2p_plan *plan, uint32_t table, const struct p2p_id *hash)
{
	struct freed_each each = {plan};
	struct p2p_plan_group *group;
	int rc = p2p_plan_group_get(plan, table, hash, &group);

	if (rc || group->freed)
		return rc;
	group->freed = group->others = true;
	return plan->view.others(plan->view.ctx, table, hash, false, freed_queue, &each);
}

static int unique_run(struct p2p_plan *plan)
{
	size_t i, asked = plan->count;
	int rc = 0;

	for (i = 0; i < plan->freed_count && !rc; i++)
		rc = freed_run(plan, plan->freed[i].table, &plan->freed[i].hash);
	for (i = 0; i < asked && !rc; i++) {
		struct p2p_plan_row *row = plan->rows[i];
		size_t j;

		for (j = 0; j < row->claim_count && row->touched && row->held && !rc; j++)
			rc = freed_run(plan, row->table, &row->claims[j].hash);
		if (!rc && row->touched)
			rc = queue_put(plan, row);
	}
	while (plan->heap_count && !rc) {
		struct p2p_plan_row *row = queue_take(plan);

		row->queued = false;
		rc = row_decide(plan, row);
	}
	return rc;
}

/* --- asking ----------------------------------------------------------------------------------- */

int p2p_plan_row_as(struct p2p_plan *plan, uint32_t table, const void *key, size_t len,
		    const char *refused)
{
	struct p2p_plan_row *row;
	int rc = p2p_plan_get(plan, table, key, len, &row);

	if (rc)
		return rc;
	row->touched = row->asked = true;
	if (!row->refused)
		row->refused = refused;
	return 0;
}

int p2p_plan_row(struct p2p_plan *plan, uint32_t table, const void *key, size_t len)
{
	return p2p_plan_row_as(plan, table, key, len, NULL);
}

int p2p_plan_freed(struct p2p_plan *plan, uint32_t table, const struct p2p_id *hash)
{
	struct p2p_plan_freed *grown;
	size_t cap;

	if (plan->freed_count == plan->freed_cap) {
		cap = plan->freed_cap ? plan->freed_cap * 2 : 32;
		grown = p2p_realloc(plan->freed, cap * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		plan->freed = grown;
		plan->freed_cap = cap;
	}
	plan->freed[plan->freed_count].table = table;
	plan->freed[plan->freed_count++].hash = *hash;
	return 0;
}

static int answer_cmp(const void *a, const void *b)
{
	const struct p2p_plan_row *const *x = a, *const *y = b;

	if ((*x)->table != (*y)->table)
		return (*x)->table < (*y)->table ? -1 : 1;
	return key_cmp(*x, *y);
}

int p2p_plan_run(struct p2p_plan *plan)
{
	struct p2p_plan_rows answer = {0};
	size_t i;
	int rc = unique_run(plan);

	if (!rc)
		rc = p2p_plan_foreign(plan);
	for (i = 0; i < plan->count && !rc; i++)
		if (plan->rows[i]->touched)
			rc = p2p_plan_push(&answer, plan->rows[i]);
	if (answer.count)
		qsort(answer.items, answer.count, sizeof(struct p2p_plan_row *), answer_cmp);
	p2p_free(plan->list);
	plan->list = answer.items;
	plan->list_count = answer.count;
	return rc;
}

size_t p2p_plan_count(const struct p2p_plan *plan)
{
	return plan->list_count;
}

const struct p2p_plan_row *p2p_plan_known(const struct p2p_plan *plan, size_t index)
{
	return index < plan->count ? plan->rows[index] : NULL;
}

const struct p2p_plan_row *p2p_plan_at(const struct p2p_plan *plan, size_t index)
{
	p2p_require(index < plan->list_count);
	return plan->list[index];
}
