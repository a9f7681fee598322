/* Items by key; see index.h. */
#include "crdt/index.h"

#include <sodium.h>
#include <string.h>

#include "proto/check.h"
#include "proto/mem.h"

#define INDEX_FIRST_CAP 16
#define INDEX_ITEMS_MAX (1u << 30)

void p2p_index_init(struct p2p_index *index, const struct p2p_hash_key *key, size_t key_at,
		    size_t key_len)
{
	memset(index, 0, sizeof(*index));
	index->key = *key;
	index->key_at = key_at;
	index->key_len = key_len;
}

void p2p_index_deinit(struct p2p_index *index)
{
	p2p_free(index->items);
	p2p_free(index->slots);
	memset(index, 0, sizeof(*index));
}

void p2p_index_clear(struct p2p_index *index)
{
	index->count = 0;
	if (index->slots)
		memset(index->slots, 0, index->slot_count * sizeof(*index->slots));
}

static const uint8_t *key_of(const struct p2p_index *index, const void *item)
{
	return (const uint8_t *)item + index->key_at;
}

/* The slot that holds the item with this key, or the free one where it would be put. */
static size_t slot_of(const struct p2p_index *index, const void *key)
{
	uint8_t out[crypto_shorthash_BYTES];
	uint64_t hash;
	size_t at;

	(void)crypto_shorthash(out, key, index->key_len, index->key.bytes); /* cannot fail */
	memcpy(&hash, out, sizeof(hash));
	/* half of the slots are free: the walk ends */
	for (at = (size_t)hash & (index->slot_count - 1); index->slots[at];
	     at = (at + 1) & (index->slot_count - 1))
		if (memcmp(key_of(index, index->items[index->slots[at] - 1]), key,
			   index->key_len) == 0)
			break;
	return at;
}

static int slots_grow(struct p2p_index *index, size_t slot_count)
{
	uint32_t *slots = p2p_calloc(slot_count, sizeof(*slots));
	size_t i;

	if (!slots)
		return P2P_ENOMEM;
	p2p_free(index->slots);
	index->slots = slots;
	index->slot_count = slot_count;
	for (i = 0; i < index->count; i++)
		slots[slot_of(index, key_of(index, index->items[i]))] = (uint32_t)i + 1;
	return 0;
}

int p2p_index_reserve(struct p2p_index *index, size_t more)
{
	size_t cap = index->cap ? index->cap : INDEX_FIRST_CAP;
	void **grown;

	if (more <= index->cap - index->count)
		return 0;
	if (more > INDEX_ITEMS_MAX - index->count)
		return P2P_ETOOBIG;
	while (cap - index->count < more)
		cap *= 2;
	if (cap > index->slot_count / 2 && slots_grow(index, cap * 2))
		return P2P_ENOMEM;
	grown = p2p_realloc(index->items, cap * sizeof(*grown));
	if (!grown)
		return P2P_ENOMEM;
	index->items = grown;
	index->cap = cap;
	return 0;
}

void p2p_index_put(struct p2p_index *index, void *item)
{
	size_t at;

	p2p_require(index->count < index->cap);
	at = slot_of(index, key_of(index, item));
	p2p_require(index->slots[at] == 0);
	index->items[index->count++] = item;
	index->slots[at] = (uint32_t)index->count;
}

void *p2p_index_find(const struct p2p_index *index, const void *key)
{
	size_t at;

	if (!index->count)
		return NULL;
	at = slot_of(index, key);
	return index->slots[at] ? index->items[index->slots[at] - 1] : NULL;
}
