/* Keys that a stretch of the journal names, each once: with its first entry, from which a new row's
 * identity is derived, and its last, whose time is the time of the change. */
#ifndef P2P_CRDT_TOUCHED_H
#define P2P_CRDT_TOUCHED_H

#include "crdt/value.h"
#include "proto/buf.h"

struct p2p_touch {
	uint32_t table; /* local number */
	uint32_t chain; /* index + 1 of the next one in the bucket */
	size_t key;	/* offset of the encoded identity in keys */
	size_t key_len;
	int64_t first_id, first_ms, last_id, last_ms;
	size_t old, old_len; /* identity of the row that showed a key with references; len 0: none
				did */
	uint32_t ordinal;    /* turn */
	bool present;	     /* the first entry: was there when the table was enabled */
};

struct p2p_touched {
	struct p2p_touch *items; /* owned */
	size_t count, cap;
	uint32_t *buckets; /* owned: index + 1 */
	size_t bucket_count;
	struct p2p_buf keys;
	struct p2p_hash_key hash_key; /* against keys chosen to collide */
};

void p2p_touched_init(struct p2p_touched *touched, const struct p2p_hash_key *hash_key);
void p2p_touched_deinit(struct p2p_touched *touched);
void p2p_touched_clear(struct p2p_touched *touched); /* keeps the memory of a small one */
/* entry: its key_len bytes at key are copied. In the order of the journal. P2P_ENOMEM, P2P_ETOOBIG.
 */
int p2p_touched_add(struct p2p_touched *touched, const struct p2p_touch *entry,
		    const void *key) P2P_MUST_CHECK;
/* In the order of their last entries; nothing may be added after it before a clear. */
void p2p_touched_sort(struct p2p_touched *touched);

#endif
