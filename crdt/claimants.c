/* Rows that claim a number; see claimants.h. */
#include "crdt/claimants.h"

#include <string.h>

#include "crdt/store_refs.h"
#include "proto/check.h"
#include "proto/mem.h"

void p2p_claimant_key(struct p2p_buf *out, uint8_t bytes[P2P_CLAIMANT_KEY_BYTES],
		      const struct p2p_identity *identity)
{
	/* A buffer over the stack: reserve() never grows it, the identity is small. */
	memset(out, 0, sizeof(*out));
	out->data = bytes;
	out->cap = out->max = P2P_CLAIMANT_KEY_BYTES;
	p2p_identity_put(out, identity);
	p2p_require(!out->error);
}

int p2p_claimant_identity(struct p2p_identity *out, const void *key, size_t len)
{
	struct p2p_reader reader;

	p2p_reader_init(&reader, key, len);
	p2p_identity_read(&reader, out);
	if (reader.failed || p2p_reader_left(&reader) || out->kind == P2P_IDENTITY_KEY)
		return P2P_ECORRUPT;
	return 0;
}

int p2p_claimants_add(struct p2p_claimants *list, const struct p2p_identity *identity)
{
	struct p2p_claimant *grown;
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

int p2p_claimants_copy(struct p2p_claimants *list, const struct p2p_claimant *at)
{
	int rc = p2p_claimants_add(list, &at->identity);

	if (!rc)
		list->items[list->count - 1] = *at;
	return rc;
}

static int claimants_collect(void *ctx, const struct p2p_identity *identity)
{
	if (identity->kind == P2P_IDENTITY_KEY)
		return P2P_ECORRUPT;
	return p2p_claimants_add(ctx, identity);
}

/* The row may have yielded its number. */
static int claimant_yield(struct p2p_numbers *numbers, const struct p2p_buf *key,
			  struct p2p_claimant *at)
{
	struct p2p_rowref row = {numbers->app->table, key->data, key->len};
	struct p2p_store_yield yield;
	const struct p2p_id *replica;
	struct p2p_clock clock;
	int rc = 0;

	at->yielded = false;
	if (!numbers->yields_known)
		rc = p2p_store_yield_any(numbers->app->store, numbers->app->table,
					 &numbers->yields);
	numbers->yields_known = rc == 0;
	if (rc || !numbers->yields)
		return rc;
	rc = p2p_store_yield_get(numbers->app->store, &row, &row.table->id, &yield);
	if (rc)
		return rc == P2P_ENOENT ? 0 : rc;
	replica = p2p_store_replica_id(numbers->app->store, yield.replica);
	if (!replica)
		return P2P_ECORRUPT;
	clock.stamp.value = yield.stamp;
	clock.replica = *replica;
	at->yielded = p2p_clock_cmp(&clock, &at->clock) >= 0;
	if (at->yielded)
		at->clock = clock;
	return 0;
}

int p2p_claimant_load(struct p2p_numbers *numbers, struct p2p_rowstate *state,
		      struct p2p_claimant *at, bool *out_complete)
{
	const struct p2p_table *table = numbers->app->table;
	uint8_t bytes[P2P_CLAIMANT_KEY_BYTES];
	const struct p2p_cellstate *cell;
	const struct p2p_id *replica;
	struct p2p_buf key;
	int rc;

	p2p_claimant_key(&key, bytes, &at->identity);
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
	rc = claimant_yield(numbers, &key, at);
	if (rc)
		return rc;
	at->in_table = !(state->flags & P2P_ROW_PARKED);
	p2p_identity_row_id(&at->row_id, &at->identity, &table->id);
	rc = p2p_numbers_temp(numbers, key.data, key.len, &at->shown);
	at->noted = rc == 0;
	if (rc == P2P_ENOENT)
		at->shown = at->claim;
	return rc == P2P_ENOENT ? 0 : rc;
}

int p2p_claimants_of(struct p2p_numbers *numbers, struct p2p_rowstate *state, int64_t number,
		     struct p2p_claimants *list)
{
	size_t i, first = list->count, kept = first;
	bool complete;
	int rc;

	rc = p2p_store_claimants(numbers->app->store, numbers->app->table, number,
				 claimants_collect, list);
	for (i = first; i < list->count && !rc; i++) {
		rc = p2p_claimant_load(numbers, state, &list->items[i], &complete);
		if (!rc && complete && list->items[i].claim == number)
			list->items[kept++] = list->items[i];
	}
	list->count = kept;
	return rc;
}

int p2p_claimant_cmp(const struct p2p_claimant *a, const struct p2p_claimant *b)
{
	int rc = p2p_clock_cmp(&a->clock, &b->clock);

	if (!rc)
		rc = (int)a->yielded - (int)b->yielded;
	return rc ? rc : p2p_id_cmp(&a->row_id, &b->row_id);
}

static int somebody(void *ctx, const struct p2p_identity *identity)
{
	(void)ctx;
	(void)identity;
	return 1;
}

int p2p_claimants_any(struct p2p_numbers *numbers, struct p2p_rowstate *state, int64_t number,
		      bool *out)
{
	struct p2p_claimants list = {0};
	bool complete;
	size_t i;
	int rc = p2p_store_claimants(numbers->app->store, numbers->app->table, number, somebody,
				     NULL);

	*out = false;
	if (rc != 1)
		return rc;
	rc = p2p_store_claimants(numbers->app->store, numbers->app->table, number,
				 claimants_collect, &list);
	for (i = 0; i < list.count && !rc && !*out; i++) {
		rc = p2p_claimant_load(numbers, state, &list.items[i], &complete);
		*out = !rc && complete && list.items[i].claim == number;
	}
	p2p_free(list.items);
	return rc;
}

static bool is_moving(const struct p2p_claimants *moving, const struct p2p_id *row_id)
{
	size_t i;

	for (i = 0; moving && i < moving->count; i++)
		if (p2p_id_cmp(&moving->items[i].row_id, row_id) == 0)
			return true;
	return false;
}

/* --- who was found last ----------------------------------------------------------------------- */

#define HINTS 512

struct p2p_numbers_hint {
	bool known;
	int64_t number;
	struct p2p_identity identity;
};

static struct p2p_numbers_hint *hint_at(const struct p2p_numbers *numbers, int64_t number)
{
	return &numbers->hints[(uint64_t)number * 0x9e3779b97f4a7c15ull >> 55];
}

static void hint_set(struct p2p_numbers *numbers, int64_t number,
		     const struct p2p_identity *identity)
{
	struct p2p_numbers_hint *hint;

	if (!numbers->hints)
		numbers->hints = p2p_calloc(HINTS, sizeof(*numbers->hints));
	if (!numbers->hints)
		return; /* all are looked at the next time */
	hint = hint_at(numbers, number);
	hint->known = true;
	hint->number = number;
	hint->identity = *identity;
}

/* Which rows are looked for: in the table; or else, parked, one that would show the number; or any
 * of these. */
enum wanted { SHOWN, SHOWN_OR_PARKED, ANYBODY };

/* 1: the row that was found the last time claims the number still, and shows it: nobody else stands
 * there. */
static int hint_try(struct p2p_numbers *numbers, struct p2p_rowstate *state, int64_t number,
		    enum wanted wanted, struct p2p_claimant *out)
{
	const struct p2p_numbers_hint *hint = numbers->hints ? hint_at(numbers, number) : NULL;
	bool complete;
	int rc;

	if (!hint || !hint->known || hint->number != number)
		return 0;
	memset(out, 0, sizeof(*out));
	out->identity = hint->identity;
	rc = p2p_claimant_load(numbers, state, out, &complete);
	return rc ? rc
		  : complete && out->claim == number && out->shown == number &&
			       (out->in_table || wanted == ANYBODY);
}

/* Of the rows that claim the number the one that shows it, or else, parked, would. */
static int claimants_find(struct p2p_numbers *numbers, int64_t number, enum wanted wanted,
			  const struct p2p_claimants *moving, struct p2p_identity *out)
{
	struct p2p_claimants list = {0};
	struct p2p_rowstate state;
	struct p2p_claimant last;
	size_t i;
	int rc;

	p2p_rowstate_init(&state);
	rc = hint_try(numbers, &state, number, wanted, &last);
	if (rc == 1 && !is_moving(moving, &last.row_id)) {
		*out = last.identity;
		p2p_rowstate_deinit(&state);
		return 0;
	}
	if (rc >= 0)
		rc = p2p_claimants_of(numbers, &state, number, &list);
	if (!rc)
		rc = P2P_ENOENT;
	for (i = 0; i < list.count && (rc == 0 || rc == P2P_ENOENT); i++) {
		const struct p2p_claimant *at = &list.items[i];

		if ((wanted == SHOWN && !at->in_table) || at->shown != number ||
		    is_moving(moving, &at->row_id) || (rc == 0 && !at->in_table))
			continue;
		*out = at->identity;
		rc = 0;
		if (at->in_table || wanted == ANYBODY)
			hint_set(numbers, number, &at->identity);
	}
	p2p_free(list.items);
	p2p_rowstate_deinit(&state);
	return rc;
}

/* The row with an entry for the number. *out_in_table: it stands there; a row that is kept out may
 * have been given an entry for a number at which an application then put another. */
static int noted_find(struct p2p_numbers *numbers, int64_t number, struct p2p_identity *out,
		      bool *out_in_table)
{
	struct p2p_rowstate state;
	struct p2p_buf key;
	int rc;

	p2p_buf_init(&key, P2P_RECORD_BYTES_MAX);
	p2p_rowstate_init(&state);
	rc = p2p_numbers_temp_at(numbers, number, &key);
	if (!rc)
		rc = p2p_claimant_identity(out, key.data, key.len);
	if (!rc) {
		rc = p2p_store_row_get(numbers->app->store, numbers->app->table, key.data, key.len,
				       &state, NULL);
		*out_in_table =
			!rc && p2p_rowstate_alive(&state) && !(state.flags & P2P_ROW_PARKED);
		rc = rc == P2P_ENOENT ? 0 : rc; /* died; its entry goes with the projection */
	}
	p2p_rowstate_deinit(&state);
	p2p_buf_deinit(&key);
	return rc;
}

/* The row that stands at the number; or else the one with an entry for it; or else, parked, one
 * that claims it. */
static int standing_find(struct p2p_numbers *numbers, int64_t number, bool parked,
			 const struct p2p_claimants *moving, struct p2p_identity *out)
{
	struct p2p_identity other;
	bool in_table = false;
	int rc = noted_find(numbers, number, out, &in_table), found;

	if ((rc && rc != P2P_ENOENT) || in_table)
		return rc;
	found = claimants_find(numbers, number, parked && rc ? SHOWN_OR_PARKED : SHOWN, moving,
			       &other);
	if (!found)
		*out = other;
	return found == P2P_ENOENT ? rc : found;
}

int p2p_claimants_at(struct p2p_numbers *numbers, int64_t number, struct p2p_identity *out)
{
	return standing_find(numbers, number, false, NULL, out);
}

static bool moving_find(const struct p2p_claimants *moving, int64_t number, bool in_table,
			struct p2p_identity *out)
{
	size_t i;

	for (i = 0; moving && i < moving->count; i++)
		if (moving->items[i].shown == number && moving->items[i].in_table == in_table) {
			*out = moving->items[i].identity;
			return true;
		}
	return false;
}

int p2p_claimants_shows(struct p2p_numbers *numbers, int64_t number,
			const struct p2p_claimants *moving, struct p2p_identity *out)
{
	int rc;

	if (moving_find(moving, number, true, out))
		return 0;
	rc = standing_find(numbers, number, true, moving, out);
	return rc == P2P_ENOENT && moving_find(moving, number, false, out) ? 0 : rc;
}

int p2p_claimants_other(struct p2p_numbers *numbers, int64_t number,
			const struct p2p_identity *self, bool *out)
{
	const struct p2p_id *table = &numbers->app->table->id;
	struct p2p_claimant own = {.shown = number};
	struct p2p_claimants list = {&own, 1, 1};
	struct p2p_identity found;
	struct p2p_id row_id;
	bool in_table;
	int rc = noted_find(numbers, number, &found, &in_table);

	p2p_identity_row_id(&own.row_id, self, table);
	if (!rc) {
		p2p_identity_row_id(&row_id, &found, table);
		*out = p2p_id_cmp(&row_id, &own.row_id) != 0;
		if (*out)
			return 0;
	}
	/* an entry of its own says nothing of who stands there */
	if (!rc || rc == P2P_ENOENT)
		rc = claimants_find(numbers, number, ANYBODY, &list, &found);
	*out = rc == 0;
	return rc == P2P_ENOENT ? 0 : rc;
}

int p2p_claimant_row_cmp(const void *a, const void *b)
{
	const struct p2p_claimant *x = a, *y = b;

	return p2p_id_cmp(&x->row_id, &y->row_id);
}

int p2p_claimant_note(struct p2p_numbers *numbers, struct p2p_claimant *at, int64_t shown)
{
	uint8_t bytes[P2P_CLAIMANT_KEY_BYTES];
	struct p2p_buf key;

	p2p_claimant_key(&key, bytes, &at->identity);
	at->noted = true;
	return p2p_numbers_note(numbers, key.data, key.len, shown);
}

int p2p_claimant_drop(struct p2p_numbers *numbers, struct p2p_claimant *at)
{
	uint8_t bytes[P2P_CLAIMANT_KEY_BYTES];
	struct p2p_buf key;

	p2p_claimant_key(&key, bytes, &at->identity);
	at->noted = false;
	return p2p_numbers_drop(numbers, key.data, key.len);
}
