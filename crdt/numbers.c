/* Projection of numbers; see numbers.h. */
#include "crdt/numbers.h"

#include <stdlib.h>
#include <string.h>

#include "proto/check.h"
#include "proto/mem.h"

#define NUMBERS_LOWEST	  (-2147483648ll)
#define NUMBERS_KEY_BYTES 64 /* identity of a generated row: at most 1 + 16 bytes */

/* A live row that takes part, and where it goes. */
struct claimant {
	struct p2p_identity identity; /* GENERATED or NUMBER: borrows nothing */
	struct p2p_id row_id;
	struct p2p_clock clock;
	int64_t claim, shown, target;
	bool in_table; /* not parked */
	bool noted;    /* has an entry in p2p_temp */
	bool loser;
	bool done;
};

struct claimants {
	struct claimant *items; /* owned */
	size_t count, cap;
};

void p2p_numbers_init(struct p2p_numbers *numbers, struct p2p_apptable *app,
		      const struct p2p_log *log)
{
	memset(numbers, 0, sizeof(*numbers));
	numbers->app = app;
	numbers->log = log;
}

void p2p_numbers_deinit(struct p2p_numbers *numbers)
{
	p2p_free(numbers->touched);
	memset(numbers, 0, sizeof(*numbers));
}

int64_t p2p_numbers_derived(const struct p2p_id *row_id)
{
	struct p2p_hasher hasher;
	uint8_t out[P2P_ID_BYTES];
	uint32_t word;

	p2p_hasher_init(&hasher, "p2pnode/temporary/1", sizeof(out));
	p2p_hasher_add(&hasher, row_id->bytes, sizeof(row_id->bytes));
	p2p_hasher_final(&hasher, out, sizeof(out));
	word = (uint32_t)out[0] << 24 | (uint32_t)out[1] << 16 | (uint32_t)out[2] << 8 | out[3];
	return -(1 + (int64_t)(word & 0x7fffffff));
}

int64_t p2p_numbers_next(int64_t number)
{
	return number <= NUMBERS_LOWEST ? -1 : number - 1;
}

bool p2p_numbers_complete(const struct p2p_table *table, const struct p2p_rowstate *state)
{
	uint32_t slot;

	if (!p2p_rowstate_alive(state) || !(state->flags & P2P_ROW_BORN))
		return false;
	if (!table->generated_identity)
		return true;
	slot = table->columns[table->key[0]].slot;
	return slot < state->cell_count && state->cells[slot].stamp != 0;
}

static void identity_key(struct p2p_buf *out, uint8_t bytes[NUMBERS_KEY_BYTES],
			 const struct p2p_identity *identity)
{
	/* A buffer over the stack: reserve() never grows it, the identity is small. */
	memset(out, 0, sizeof(*out));
	out->data = bytes;
	out->cap = out->max = NUMBERS_KEY_BYTES;
	p2p_identity_put(out, identity);
	p2p_require(!out->error);
}

static int identity_of(struct p2p_identity *out, const void *key, size_t len)
{
	struct p2p_reader reader;

	p2p_reader_init(&reader, key, len);
	p2p_identity_read(&reader, out);
	if (reader.failed || p2p_reader_left(&reader) || out->kind == P2P_IDENTITY_KEY)
		return P2P_ECORRUPT;
	return 0;
}

static bool identity_same(const struct p2p_identity *a, const struct p2p_identity *b)
{
	if (a->kind != b->kind)
		return false;
	if (a->kind == P2P_IDENTITY_NUMBER)
		return a->number == b->number;
	return p2p_id_cmp(&a->id, &b->id) == 0;
}

static int count_temp(void *ctx, const void *key, size_t key_len, int64_t shown)
{
	struct p2p_numbers *numbers = ctx;
	struct p2p_identity identity;
	struct p2p_id row_id;
	int rc = identity_of(&identity, key, key_len);

	if (rc)
		return rc;
	p2p_identity_row_id(&row_id, &identity, &numbers->app->table->id);
	numbers->temp_count++;
	numbers->displaced += shown != p2p_numbers_derived(&row_id);
	return 0;
}

static int numbers_load(struct p2p_numbers *numbers)
{
	int rc;

	if (numbers->loaded)
		return 0;
	numbers->temp_count = numbers->displaced = 0;
	rc = p2p_store_temp_each(numbers->app->store, numbers->app->table, count_temp, numbers);
	numbers->loaded = rc == 0;
	return rc;
}

/* Entry of p2p_temp; P2P_ENOENT. */
static int numbers_temp(struct p2p_numbers *numbers, const void *key, size_t key_len, int64_t *out)
{
	int rc = numbers_load(numbers);

	if (rc)
		return rc;
	if (!numbers->temp_count)
		return P2P_ENOENT;
	return p2p_store_temp_get(numbers->app->store, numbers->app->table, key, key_len, out);
}

int p2p_numbers_shown(struct p2p_numbers *numbers, const void *key, size_t key_len, int64_t claim,
		      int64_t *out)
{
	int rc = numbers_temp(numbers, key, key_len, out);

	if (rc != P2P_ENOENT)
		return rc;
	*out = claim;
	return 0;
}

int p2p_numbers_touch(struct p2p_numbers *numbers, int64_t number)
{
	size_t cap;
	int64_t *grown;

	/* often the same number again and again */
	if (numbers->touched_count && numbers->touched[numbers->touched_count - 1] == number)
		return 0;
	if (numbers->touched_count == numbers->touched_cap) {
		cap = numbers->touched_cap ? numbers->touched_cap * 2 : 64;
		grown = p2p_realloc(numbers->touched, cap * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		numbers->touched = grown;
		numbers->touched_cap = cap;
	}
	numbers->touched[numbers->touched_count++] = number;
	return 0;
}

static int other_claimant(void *ctx, const struct p2p_identity *identity)
{
	const struct p2p_identity *self = ctx;

	return self && identity_same(self, identity) ? 0 : 1;
}

int p2p_numbers_check(struct p2p_numbers *numbers, const struct p2p_identity *self, int64_t number)
{
	struct p2p_identity copy = *self;
	int rc;

	if (number < 0)
		return p2p_numbers_touch(numbers, number);
	rc = p2p_store_claimants(numbers->app->store, numbers->app->table, number, other_claimant,
				 &copy);
	return rc == 1 ? p2p_numbers_touch(numbers, number) : rc;
}

int p2p_numbers_note(struct p2p_numbers *numbers, const void *key, size_t key_len, int64_t shown)
{
	int64_t before = 0;
	int rc = numbers_temp(numbers, key, key_len, &before);
	bool had = rc == 0;

	if (rc && rc != P2P_ENOENT)
		return rc;
	if (!had && !shown)
		return 0;
	rc = p2p_store_temp_set(numbers->app->store, numbers->app->table, key, key_len, shown);
	if (rc)
		return rc;
	numbers->temp_count += (shown != 0);
	numbers->temp_count -= had;
	return 0;
}

int p2p_numbers_forget(struct p2p_numbers *numbers, const void *key, size_t key_len)
{
	size_t before = numbers->temp_count;
	int rc = p2p_numbers_note(numbers, key, key_len, 0);

	if (!rc && numbers->temp_count != before && numbers->displaced)
		numbers->recompute = true;
	return rc;
}

static int numbers_temp_taken(struct p2p_numbers *numbers, int64_t number, struct p2p_buf *key)
{
	int rc = numbers_load(numbers);

	if (rc)
		return rc;
	if (!numbers->temp_count)
		return P2P_ENOENT;
	p2p_buf_reset(key);
	return p2p_store_temp_by_number(numbers->app->store, numbers->app->table, number, key);
}

int p2p_numbers_interim(struct p2p_numbers *numbers, int64_t start, int64_t *out)
{
	struct p2p_buf key;
	int64_t at = start;
	size_t i;
	int rc = 0;

	p2p_buf_init(&key, P2P_RECORD_BYTES_MAX);
	/* of count + 1 numbers one is not in force */
	for (i = 0; i <= numbers->temp_count; i++) {
		rc = numbers_temp_taken(numbers, at, &key);
		if (rc)
			break;
		at = p2p_numbers_next(at);
	}
	p2p_buf_deinit(&key);
	if (rc != P2P_ENOENT)
		return rc ? rc : P2P_ECORRUPT;
	*out = at;
	return 0;
}

/* --- who claims a number --------------------------------------------------------------------- */

static int claimants_add(struct claimants *list, const struct p2p_identity *identity)
{
	struct claimant *grown;
	size_t cap;

	if (list->count == list->cap) {
		cap = list->cap ? list->cap * 2 : 16;
		grown = p2p_realloc(list->items, cap * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		list->items = grown;
		list->cap = cap;
	}
	memset(&list->items[list->count], 0, sizeof(*list->items));
	list->items[list->count++].identity = *identity;
	return 0;
}

static int claimants_collect(void *ctx, const struct p2p_identity *identity)
{
	if (identity->kind == P2P_IDENTITY_KEY)
		return P2P_ECORRUPT;
	return claimants_add(ctx, identity);
}

/* Fills in what the row state says. *out_complete: the row takes part. */
static int claimant_load(struct p2p_numbers *numbers, struct p2p_rowstate *state,
			 struct claimant *at, bool *out_complete)
{
	const struct p2p_table *table = numbers->app->table;
	uint8_t bytes[NUMBERS_KEY_BYTES];
	const struct p2p_cellstate *cell;
	const struct p2p_id *replica;
	struct p2p_buf key;
	int rc;

	identity_key(&key, bytes, &at->identity);
	rc = p2p_store_row_get(numbers->app->store, table, key.data, key.len, state, &at->claim);
	*out_complete = rc == 0 && p2p_numbers_complete(table, state);
	if (rc || !*out_complete)
		return rc == P2P_ENOENT ? 0 : rc;
	cell = &state->cells[table->columns[table->key[0]].slot];
	replica = p2p_store_replica_id(numbers->app->store, cell->replica);
	if (!replica)
		return P2P_ECORRUPT;
	at->clock.stamp.value = cell->stamp;
	at->clock.replica = *replica;
	at->in_table = !(state->flags & P2P_ROW_PARKED);
	p2p_identity_row_id(&at->row_id, &at->identity, &table->id);
	rc = numbers_temp(numbers, key.data, key.len, &at->shown);
	at->noted = rc == 0;
	if (rc == P2P_ENOENT)
		at->shown = at->claim;
	return rc == P2P_ENOENT ? 0 : rc;
}

/* Appends the complete live claimants of a number; first: index of the first one appended. */
static int claimants_of(struct p2p_numbers *numbers, struct p2p_rowstate *state, int64_t number,
			struct claimants *list, size_t *out_first)
{
	size_t i, kept = list->count;
	bool complete;
	int rc;

	*out_first = list->count;
	rc = p2p_store_claimants(numbers->app->store, numbers->app->table, number,
				 claimants_collect, list);
	for (i = *out_first; i < list->count && !rc; i++) {
		rc = claimant_load(numbers, state, &list->items[i], &complete);
		if (!rc && complete && list->items[i].claim == number)
			list->items[kept++] = list->items[i];
	}
	list->count = kept;
	return rc;
}

static int claim_cmp(const struct claimant *a, const struct claimant *b)
{
	int rc = p2p_clock_cmp(&a->clock, &b->clock);

	return rc ? rc : p2p_id_cmp(&a->row_id, &b->row_id);
}

static int numbers_claimed(struct p2p_numbers *numbers, struct p2p_rowstate *state, int64_t number,
			   bool *out)
{
	struct claimants list = {0};
	size_t first;
	int rc = p2p_store_claimants(numbers->app->store, numbers->app->table, number,
				     other_claimant, NULL);

	*out = false;
	if (rc != 1)
		return rc;
	rc = claimants_of(numbers, state, number, &list, &first);
	*out = list.count > 0;
	p2p_free(list.items);
	return rc;
}

int p2p_numbers_at(struct p2p_numbers *numbers, int64_t number, struct p2p_identity *out)
{
	struct claimants list = {0};
	struct p2p_rowstate state;
	struct p2p_buf key;
	size_t first, i;
	int rc;

	p2p_buf_init(&key, P2P_RECORD_BYTES_MAX);
	p2p_rowstate_init(&state);
	rc = numbers_temp_taken(numbers, number, &key);
	if (!rc)
		rc = identity_of(out, key.data, key.len);
	else if (rc == P2P_ENOENT)
		rc = claimants_of(numbers, &state, number, &list, &first);
	if (!rc && !key.len) {
		rc = P2P_ENOENT;
		for (i = 0; i < list.count; i++)
			if (list.items[i].in_table && list.items[i].shown == number) {
				*out = list.items[i].identity;
				rc = 0;
			}
	}
	p2p_free(list.items);
	p2p_rowstate_deinit(&state);
	p2p_buf_deinit(&key);
	return rc;
}

/* --- projection ------------------------------------------------------------------------------ */

/* A set of numbers, open addressing. */
struct taken {
	int64_t *slots; /* owned; 0 is empty: temporary numbers are negative */
	size_t mask, count;
};

static size_t taken_slot(const struct taken *taken, int64_t number)
{
	size_t at = (size_t)((uint64_t)number * 0x9e3779b97f4a7c15ull >> 20) & taken->mask;

	while (taken->slots[at] && taken->slots[at] != number)
		at = (at + 1) & taken->mask;
	return at;
}

/* Room for count numbers. */
static int taken_init(struct taken *taken, size_t count)
{
	size_t size = 16;

	while (size < count * 2)
		size *= 2;
	taken->slots = p2p_calloc(size, sizeof(*taken->slots));
	taken->mask = size - 1;
	taken->count = 0;
	return taken->slots ? 0 : P2P_ENOMEM;
}

struct projection {
	struct p2p_numbers *numbers;
	struct claimants list; /* rows that may have to change */
	struct p2p_rowstate state;
	struct p2p_buf key;
	bool full; /* temporary numbers of the whole table have to be found anew */
};

static int number_cmp(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static int row_id_cmp(const void *a, const void *b)
{
	const struct claimant *x = a, *y = b;

	return p2p_id_cmp(&x->row_id, &y->row_id);
}

static int target_cmp(const void *a, const void *b)
{
	const struct claimant *x = a, *y = b;

	if (x->loser != y->loser)
		return x->loser ? -1 : 1;
	return (x->target > y->target) - (x->target < y->target);
}

static void touched_sort(struct p2p_numbers *numbers)
{
	size_t i, kept = 0;

	qsort(numbers->touched, numbers->touched_count, sizeof(*numbers->touched), number_cmp);
	for (i = 0; i < numbers->touched_count; i++)
		if (!kept || numbers->touched[kept - 1] != numbers->touched[i])
			numbers->touched[kept++] = numbers->touched[i];
	numbers->touched_count = kept;
}

static int collect_temp(void *ctx, const void *key, size_t key_len, int64_t shown)
{
	struct p2p_identity identity;
	int rc = identity_of(&identity, key, key_len);

	(void)shown;
	return rc ? rc : claimants_add(ctx, &identity);
}

/* Removes entries of rows that take no part any more; all others are returned in list. */
static int project_sweep(struct projection *projection, struct claimants *list)
{
	struct p2p_numbers *numbers = projection->numbers;
	size_t i, kept = 0;
	int rc = p2p_store_temp_each(numbers->app->store, numbers->app->table, collect_temp, list);

	for (i = 0; i < list->count && !rc; i++) {
		struct claimant *at = &list->items[i];
		uint8_t bytes[NUMBERS_KEY_BYTES];
		struct p2p_buf key;
		bool complete;

		rc = claimant_load(numbers, &projection->state, at, &complete);
		if (rc)
			break;
		if (complete) {
			list->items[kept++] = *at;
			continue;
		}
		identity_key(&key, bytes, &at->identity);
		rc = p2p_numbers_note(numbers, key.data, key.len, 0);
		projection->full |= numbers->displaced > 0;
	}
	list->count = kept;
	return rc;
}

/* The loser's derived number, if nothing stands in its way. */
static int project_loser(struct projection *projection, struct claimant *at)
{
	struct p2p_numbers *numbers = projection->numbers;
	struct p2p_identity other;
	bool claimed;
	int rc;

	at->loser = true;
	at->target = p2p_numbers_derived(&at->row_id);
	rc = numbers_claimed(numbers, &projection->state, at->target, &claimed);
	if (rc)
		return rc;
	projection->full |= claimed;
	rc = numbers_temp_taken(numbers, at->target, &projection->key);
	if (rc == P2P_ENOENT)
		return 0;
	if (!rc)
		rc = identity_of(&other, projection->key.data, projection->key.len);
	if (!rc && !identity_same(&other, &at->identity))
		projection->full = true;
	return rc;
}

/* A temporary number stands where somebody claims one. */
static int project_negative(struct projection *projection, int64_t number)
{
	int rc;

	if (number >= 0)
		return 0;
	rc = numbers_temp_taken(projection->numbers, number, &projection->key);
	if (!rc || projection->numbers->displaced)
		projection->full = true;
	return rc == P2P_ENOENT ? 0 : rc;
}

static int project_number(struct projection *projection, int64_t number)
{
	struct claimants *list = &projection->list;
	size_t first, holder, i, kept;
	int rc = claimants_of(projection->numbers, &projection->state, number, list, &first);

	if (!rc)
		rc = project_negative(projection, number);
	for (holder = first, i = first; i < list->count; i++)
		if (claim_cmp(&list->items[i], &list->items[holder]) < 0)
			holder = i;
	for (kept = first, i = first; i < list->count && !rc; i++) {
		struct claimant at = list->items[i];

		if (i == holder)
			at.target = number;
		else
			rc = project_loser(projection, &at);
		if (at.shown != at.target || at.noted != at.loser)
			list->items[kept++] = at;
	}
	list->count = kept;
	return rc;
}

/* Two new losers want one number. */
static bool losers_meet(struct claimants *list)
{
	size_t i;

	if (list->count)
		qsort(list->items, list->count, sizeof(*list->items), target_cmp);
	for (i = 1; i < list->count; i++)
		if (list->items[i].loser && list->items[i - 1].loser &&
		    list->items[i].target == list->items[i - 1].target)
			return true;
	return false;
}

/* All losers of the table: those with an entry that did not just win, and the new ones. */
static int full_losers(struct projection *projection, struct claimants *losers)
{
	struct claimants *list = &projection->list;
	struct claimant *found;
	size_t i, kept = 0;
	int rc = project_sweep(projection, losers);

	if (rc)
		return rc;
	if (list->count)
		qsort(list->items, list->count, sizeof(*list->items), row_id_cmp);
	for (i = 0; i < losers->count; i++) {
		found = list->count ? bsearch(&losers->items[i], list->items, list->count,
					      sizeof(*list->items), row_id_cmp)
				    : NULL;
		if (!found)
			losers->items[kept++] = losers->items[i];
	}
	losers->count = kept;
	for (i = 0, kept = 0; i < list->count && !rc; i++) {
		if (!list->items[i].loser) {
			list->items[kept++] = list->items[i];
			continue;
		}
		rc = claimants_add(losers, &list->items[i].identity);
		if (!rc)
			losers->items[losers->count - 1] = list->items[i];
	}
	list->count = kept; /* holders only */
	if (losers->count)
		qsort(losers->items, losers->count, sizeof(*losers->items), row_id_cmp);
	return rc;
}

static int full_assign(struct projection *projection, struct claimant *at, struct taken *taken)
{
	uint64_t tries;
	bool claimed;
	int rc;

	at->loser = true;
	at->target = p2p_numbers_derived(&at->row_id);
	for (tries = 0; tries <= (uint64_t)-NUMBERS_LOWEST; tries++) {
		size_t slot = taken_slot(taken, at->target);

		if (!taken->slots[slot]) {
			rc = numbers_claimed(projection->numbers, &projection->state, at->target,
					     &claimed);
			if (rc)
				return rc;
			if (!claimed) {
				taken->slots[slot] = at->target;
				return 0;
			}
		}
		at->target = p2p_numbers_next(at->target);
	}
	return P2P_ETOOBIG; /* 2^31 rows without a number */
}

static int project_full(struct projection *projection)
{
	struct p2p_numbers *numbers = projection->numbers;
	struct claimants losers = {0};
	struct taken taken = {0};
	size_t i;
	int rc = full_losers(projection, &losers);

	if (!rc)
		rc = taken_init(&taken, losers.count);
	numbers->displaced = 0;
	for (i = 0; i < losers.count && !rc; i++) {
		struct claimant *at = &losers.items[i];

		rc = full_assign(projection, at, &taken);
		numbers->displaced += at->target != p2p_numbers_derived(&at->row_id);
		if (rc || (at->shown == at->target && at->noted))
			continue;
		rc = claimants_add(&projection->list, &at->identity);
		if (!rc)
			projection->list.items[projection->list.count - 1] = *at;
	}
	p2p_free(taken.slots);
	p2p_free(losers.items);
	return rc;
}

/* --- moving ---------------------------------------------------------------------------------- */

static int claimant_note(struct p2p_numbers *numbers, const struct claimant *at, int64_t shown)
{
	uint8_t bytes[NUMBERS_KEY_BYTES];
	struct p2p_buf key;

	identity_key(&key, bytes, &at->identity);
	return p2p_numbers_note(numbers, key.data, key.len, shown);
}

/* Moves to `to`; P2P_APPTABLE_TAKEN when something is there. */
static int claimant_move(struct p2p_numbers *numbers, struct claimant *at, int64_t to)
{
	int rc = 0;

	if (at->in_table && at->shown != to)
		rc = p2p_apptable_move(numbers->app, at->shown, to);
	if (rc == P2P_APPTABLE_UNIQUE || rc == P2P_APPTABLE_REFUSED)
		return P2P_ECORRUPT; /* only the number changes */
	if (!rc)
		at->shown = to;
	return rc;
}

/* Out of the way of others: numbers that nobody uses, from the lowest upwards. */
static int claimants_lift(struct p2p_numbers *numbers, struct claimants *list)
{
	int64_t scratch = INT64_MIN;
	size_t i, tries;
	int rc;

	for (i = 0; i < list->count; i++) {
		if (list->items[i].done)
			continue;
		rc = P2P_APPTABLE_TAKEN;
		/* only rows that claim such a number stand there: each stops one try */
		for (tries = 0; rc == P2P_APPTABLE_TAKEN && tries < SIZE_MAX; tries++)
			rc = claimant_move(numbers, &list->items[i], scratch++);
		if (rc)
			return rc;
	}
	return 0;
}

/* The number is held by a row that has no state: a write that no trigger saw. It stays where it is
 * until a rescan captures it; this row shows an interim number meanwhile. */
static int claimant_settle(struct p2p_numbers *numbers, struct claimant *at)
{
	int64_t number = p2p_numbers_derived(&at->row_id);
	int rc = P2P_APPTABLE_TAKEN;

	p2p_log(numbers->log, P2P_LOG_WARN, "crdt",
		"table %s: a number is held by a row that was not captured: rescan it",
		numbers->app->table->name);
	while (rc == P2P_APPTABLE_TAKEN) {
		rc = p2p_numbers_interim(numbers, number, &number);
		if (!rc)
			rc = claimant_move(numbers, at, number);
		if (rc == P2P_APPTABLE_TAKEN)
			number = p2p_numbers_next(number);
	}
	at->target = number;
	at->loser = true; /* as far as p2p_temp is concerned */
	numbers->displaced++;
	return rc;
}

static int claimants_move(struct p2p_numbers *numbers, struct claimants *list)
{
	bool pending = false;
	size_t i;
	int rc;

	/* Losers stand first: their numbers are free but for other losers', and they free theirs.
	 */
	for (i = 0; i < list->count; i++) {
		rc = claimant_move(numbers, &list->items[i], list->items[i].target);
		if (rc < 0)
			return rc;
		list->items[i].done = rc == 0;
		pending |= rc != 0;
	}
	if (!pending)
		return 0;
	rc = claimants_lift(numbers, list);
	for (i = 0; i < list->count && rc >= 0; i++) {
		if (list->items[i].done)
			continue;
		rc = claimant_move(numbers, &list->items[i], list->items[i].target);
		if (rc == P2P_APPTABLE_TAKEN)
			rc = claimant_settle(numbers, &list->items[i]);
	}
	return rc;
}

static int project_move(struct projection *projection)
{
	struct p2p_numbers *numbers = projection->numbers;
	struct claimants *list = &projection->list;
	size_t i;
	int rc = 0;

	if (list->count)
		qsort(list->items, list->count, sizeof(*list->items), target_cmp);
	/* Entries go first: a number stands once in p2p_temp. */
	for (i = 0; i < list->count && !rc; i++)
		if (list->items[i].noted)
			rc = claimant_note(numbers, &list->items[i], 0);
	if (!rc)
		rc = claimants_move(numbers, list);
	for (i = 0; i < list->count && !rc; i++)
		if (list->items[i].loser)
			rc = claimant_note(numbers, &list->items[i], list->items[i].target);
	return rc;
}

static int project_all(struct projection *projection)
{
	struct p2p_numbers *numbers = projection->numbers;
	struct claimants swept = {0};
	size_t i;
	int rc = numbers_load(numbers);

	if (!rc && numbers->sweep && numbers->temp_count)
		rc = project_sweep(projection, &swept);
	p2p_free(swept.items);
	for (i = 0; i < numbers->touched_count && !rc; i++)
		rc = project_number(projection, numbers->touched[i]);
	if (rc)
		return rc;
	/* A displaced row depends on all others. */
	if (numbers->displaced && projection->list.count)
		projection->full = true;
	if (projection->full || losers_meet(&projection->list))
		rc = project_full(projection);
	if (!rc)
		rc = project_move(projection);
	return rc;
}

int p2p_numbers_project(struct p2p_numbers *numbers)
{
	struct projection projection;
	int rc;

	if (!numbers->touched_count && !numbers->sweep && !numbers->recompute)
		return 0;
	touched_sort(numbers);
	memset(&projection, 0, sizeof(projection));
	projection.numbers = numbers;
	projection.full = numbers->recompute;
	p2p_rowstate_init(&projection.state);
	p2p_buf_init(&projection.key, P2P_RECORD_BYTES_MAX);
	rc = project_all(&projection);
	p2p_free(projection.list.items);
	p2p_rowstate_deinit(&projection.state);
	p2p_buf_deinit(&projection.key);
	if (!rc) {
		numbers->touched_count = 0;
		numbers->sweep = numbers->recompute = false;
	}
	return rc;
}
