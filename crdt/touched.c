/* Keys named by the journal; see touched.h. */
#include "crdt/touched.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "proto/mem.h"

#define TOUCHED_FIRST_CAP 256
#define TOUCHED_KEEP_CAP  4096
#define TOUCHED_KEYS_MAX  (1ull << 36)

void p2p_touched_init(struct p2p_touched *touched, const struct p2p_hash_key *hash_key)
{
	memset(touched, 0, sizeof(*touched));
	touched->hash_key = *hash_key;
	p2p_buf_init(&touched->keys, TOUCHED_KEYS_MAX);
}

void p2p_touched_deinit(struct p2p_touched *touched)
{
	p2p_free(touched->items);
	p2p_free(touched->buckets);
	p2p_buf_deinit(&touched->keys);
	touched->items = NULL;
	touched->buckets = NULL;
	touched->count = touched->cap = touched->bucket_count = 0;
}

void p2p_touched_clear(struct p2p_touched *touched)
{
	struct p2p_hash_key hash_key = touched->hash_key;

	if (touched->cap > TOUCHED_KEEP_CAP) {
		p2p_touched_deinit(touched);
		p2p_touched_init(touched, &hash_key);
		return;
	}
	touched->count = 0;
	p2p_buf_reset(&touched->keys);
	if (touched->buckets)
		memset(touched->buckets, 0, touched->bucket_count * sizeof(*touched->buckets));
}

static size_t touched_bucket(const struct p2p_touched *touched, uint32_t table, const void *key,
			     size_t key_len)
{
	uint8_t out[crypto_shorthash_BYTES];
	uint64_t hash;

	(void)crypto_shorthash(out, key, key_len, touched->hash_key.bytes); /* cannot fail */
	memcpy(&hash, out, sizeof(hash));
	return (size_t)(hash ^ table) & (touched->bucket_count - 1);
}

static void touched_link(struct p2p_touched *touched, size_t index)
{
	struct p2p_touch *item = &touched->items[index];
	size_t at =
		touched_bucket(touched, item->table, touched->keys.data + item->key, item->key_len);

	item->chain = touched->buckets[at];
	touched->buckets[at] = (uint32_t)index + 1;
}

static int touched_grow(struct p2p_touched *touched)
{
	size_t cap = touched->cap ? touched->cap * 2 : TOUCHED_FIRST_CAP, i;
	struct p2p_touch *items;
	uint32_t *buckets;

	if (cap > UINT32_MAX / 2)
		return P2P_ETOOBIG;
	items = p2p_realloc(touched->items, cap * sizeof(*items));
	if (!items)
		return P2P_ENOMEM;
	touched->items = items;
	buckets = p2p_calloc(cap, sizeof(*buckets));
	if (!buckets)
		return P2P_ENOMEM;
	p2p_free(touched->buckets);
	touched->buckets = buckets;
	touched->bucket_count = cap;
	touched->cap = cap;
	for (i = 0; i < touched->count; i++)
		touched_link(touched, i);
	return 0;
}

static struct p2p_touch *touched_find(struct p2p_touched *touched, const struct p2p_touch *entry,
				      const void *key)
{
	struct p2p_touch *item;
	uint32_t at;

	if (!touched->count)
		return NULL;
	at = touched->buckets[touched_bucket(touched, entry->table, key, entry->key_len)];
	for (; at; at = item->chain) {
		item = &touched->items[at - 1];
		if (item->table == entry->table && item->key_len == entry->key_len &&
		    memcmp(touched->keys.data + item->key, key, entry->key_len) == 0)
			return item;
	}
	return NULL;
}

int p2p_touched_add(struct p2p_touched *touched, const struct p2p_touch *entry, const void *key)
{
	struct p2p_touch *item = touched_find(touched, entry, key);
	int rc = 0;

	if (item) {
		item->last_id = entry->last_id;
		item->last_ms = entry->last_ms;
		return 0;
	}
	if (touched->count == touched->cap)
		rc = touched_grow(touched);
	if (rc)
		return rc;
	item = &touched->items[touched->count];
	*item = *entry;
	item->key = touched->keys.len;
	p2p_buf_put(&touched->keys, key, entry->key_len);
	rc = p2p_buf_error(&touched->keys);
	if (!rc)
		touched_link(touched, touched->count++);
	return rc;
}

static int by_last(const void *a, const void *b)
{
	const struct p2p_touch *x = a, *y = b;

	return (x->last_id > y->last_id) - (x->last_id < y->last_id);
}

void p2p_touched_sort(struct p2p_touched *touched)
{
	if (touched->count)
		qsort(touched->items, touched->count, sizeof(*touched->items), by_last);
}
