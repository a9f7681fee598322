/* Entries of p2p_temp and what is left to project; see numbers.h. */
#include "crdt/numbers.h"

#include <string.h>

#include "proto/check.h"
#include "proto/mem.h"

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
	p2p_free(numbers->vacated);
	p2p_free(numbers->hints);
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
	return number <= P2P_NUMBERS_LOWEST ? -1 : number - 1;
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

static int count_temp(void *ctx, const void *key, size_t key_len, int64_t shown)
{
	struct p2p_numbers *numbers = ctx;

	(void)key;
	(void)key_len;
	(void)shown;
	numbers->temp_count++;
	return 0;
}

int p2p_numbers_load(struct p2p_numbers *numbers)
{
	int rc;

	if (numbers->loaded)
		return 0;
	numbers->temp_count = 0;
	rc = p2p_store_temp_each(numbers->app->store, numbers->app->table, count_temp, numbers);
	numbers->loaded = rc == 0;
	return rc;
}

int p2p_numbers_temp(struct p2p_numbers *numbers, const void *key, size_t key_len, int64_t *out)
{
	int rc = p2p_numbers_load(numbers);

	if (rc)
		return rc;
	if (!numbers->temp_count)
		return P2P_ENOENT;
	return p2p_store_temp_get(numbers->app->store, numbers->app->table, key, key_len, out);
}

int p2p_numbers_shown(struct p2p_numbers *numbers, const void *key, size_t key_len, int64_t claim,
		      int64_t *out)
{
	int rc = p2p_numbers_temp(numbers, key, key_len, out);

	if (rc != P2P_ENOENT)
		return rc;
	*out = claim;
	return 0;
}

static int push(int64_t **list, size_t *count, size_t *cap, int64_t number)
{
	int64_t *grown;
	size_t more;

	/* often the same number again and again */
	if (*count && (*list)[*count - 1] == number)
		return 0;
	if (*count == *cap) {
		more = *cap ? *cap * 2 : 64;
		grown = p2p_realloc(*list, more * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		*list = grown;
		*cap = more;
	}
	(*list)[(*count)++] = number;
	return 0;
}

int p2p_numbers_touch(struct p2p_numbers *numbers, int64_t number)
{
	return push(&numbers->touched, &numbers->touched_count, &numbers->touched_cap, number);
}

int p2p_numbers_vacate(struct p2p_numbers *numbers, int64_t number)
{
	if (number >= 0 || number < P2P_NUMBERS_LOWEST)
		return 0; /* no temporary number: interim only */
	return push(&numbers->vacated, &numbers->vacated_count, &numbers->vacated_cap, number);
}

static bool identity_same(const struct p2p_identity *a, const struct p2p_identity *b)
{
	if (a->kind != b->kind)
		return false;
	if (a->kind == P2P_IDENTITY_NUMBER)
		return a->number == b->number;
	return p2p_id_cmp(&a->id, &b->id) == 0;
}

static int other_claimant(void *ctx, const struct p2p_identity *identity)
{
	const struct p2p_identity *self = ctx;

	return identity_same(self, identity) ? 0 : 1;
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
	int rc = p2p_numbers_temp(numbers, key, key_len, &before);
	bool had = rc == 0;

	if (rc && rc != P2P_ENOENT)
		return rc;
	rc = p2p_store_temp_set(numbers->app->store, numbers->app->table, key, key_len, shown);
	if (!rc && !had)
		numbers->temp_count++;
	numbers->noted = true;
	return rc;
}

int p2p_numbers_drop(struct p2p_numbers *numbers, const void *key, size_t key_len)
{
	int64_t before;
	int rc = p2p_numbers_temp(numbers, key, key_len, &before);

	if (rc)
		return rc == P2P_ENOENT ? 0 : rc;
	rc = p2p_store_temp_drop(numbers->app->store, numbers->app->table, key, key_len);
	if (!rc)
		numbers->temp_count--;
	return rc;
}

int p2p_numbers_forget(struct p2p_numbers *numbers, const void *key, size_t key_len)
{
	int64_t shown;
	int rc = p2p_numbers_temp(numbers, key, key_len, &shown);

	if (rc)
		return rc == P2P_ENOENT ? 0 : rc;
	rc = p2p_numbers_vacate(numbers, shown);
	return rc ? rc : p2p_numbers_drop(numbers, key, key_len);
}

int p2p_numbers_temp_at(struct p2p_numbers *numbers, int64_t number, struct p2p_buf *key)
{
	int rc = p2p_numbers_load(numbers);

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
		rc = p2p_numbers_temp_at(numbers, at, &key);
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
