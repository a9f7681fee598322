/* Items by a key that stands inside them, in memory: a hash table under a random key, so that
 * nobody who chooses the keys can make them collide (SipHash-2-4).
 *
 * The items also stand in a list, in the order in which they were put. Room is reserved first and
 * putting cannot fail, so that a change of several tables happens whole or not at all. */
#ifndef P2P_CRDT_INDEX_H
#define P2P_CRDT_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "crdt/value.h"
#include "proto/error.h"

struct p2p_index {
	struct p2p_hash_key key;
	size_t key_at, key_len; /* offset of the key in an item, and its bytes */
	void **items;		/* borrowed from the owner; the array is owned */
	size_t count, cap;
	uint32_t *slots;   /* owned: item number + 1, 0: free; at least twice as many as items */
	size_t slot_count; /* a power of two, or 0 */
};

void p2p_index_init(struct p2p_index *index, const struct p2p_hash_key *key, size_t key_at,
		    size_t key_len);
void p2p_index_deinit(struct p2p_index *index);
/* Forgets the items, keeps the room. */
void p2p_index_clear(struct p2p_index *index);
/* Room for `more` items on top of those that are there. P2P_ENOMEM; P2P_ETOOBIG over 2^30. */
int p2p_index_reserve(struct p2p_index *index, size_t more) P2P_MUST_CHECK;
/* There is room, and no item with this key. */
void p2p_index_put(struct p2p_index *index, void *item);
/* NULL when there is none. */
void *p2p_index_find(const struct p2p_index *index, const void *key);

#endif
