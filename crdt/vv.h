/* Version vector: replica id -> (highest contiguous seq, head hash, head stamp, log floor).
 *
 * Sorted by replica id; a hole is impossible by construction: an entry only moves by one, or is set
 * whole from durable state. Parker et al. 1983; the head hash makes forks visible (decisions 5). */
#ifndef P2P_CRDT_VV_H
#define P2P_CRDT_VV_H

#include <stdbool.h>

#include "proto/buf.h"
#include "proto/error.h"
#include "proto/ident.h"

struct p2p_vv_entry {
	struct p2p_id replica;
	uint64_t seq;	      /* 0: nothing */
	struct p2p_hash head; /* whole when known; from the wire only 8 bytes, rest zero */
	struct p2p_hlc stamp; /* of seq, 0 when unknown (from the wire) */
	uint64_t log_from;    /* lowest seq in the log, 0: nothing or unknown */
};

struct p2p_vv {
	struct p2p_vv_entry *entries; /* owned, sorted by replica */
	size_t count;
	size_t cap;
};

void p2p_vv_init(struct p2p_vv *vv);
void p2p_vv_deinit(struct p2p_vv *vv);
/* NULL when absent. Lives until the next put or remove. */
const struct p2p_vv_entry *p2p_vv_get(const struct p2p_vv *vv, const struct p2p_id *replica);
uint64_t p2p_vv_seq(const struct p2p_vv *vv, const struct p2p_id *replica); /* 0 when absent */
/* Sets or adds. P2P_ENOMEM; P2P_ETOOBIG over P2P_REPLICAS_MAX. */
int p2p_vv_put(struct p2p_vv *vv, const struct p2p_vv_entry *entry) P2P_MUST_CHECK;
/* Room, so that the next put of this replica's entry does not fail. Errors as of that. */
int p2p_vv_room(struct p2p_vv *vv, const struct p2p_id *replica) P2P_MUST_CHECK;
void p2p_vv_remove(struct p2p_vv *vv, const struct p2p_id *replica);
int p2p_vv_copy(struct p2p_vv *target, const struct p2p_vv *source) P2P_MUST_CHECK;
/* Digest over the sorted full entries with seq > 0: hasher "p2pnode/vector/1", then replica, seq,
 * 32-byte head. */
void p2p_vv_digest(const struct p2p_vv *vv, struct p2p_hash *out);
/* Text that `wait --for` accepts: "<base32 replica>:<seq>,..." ; parse refuses anything else
 * (P2P_EINVAL). */
void p2p_vv_text(const struct p2p_vv *vv, struct p2p_buf *out);
int p2p_vv_parse(struct p2p_vv *out, const char *text) P2P_MUST_CHECK;
/* Every entry of need is covered by have. */
bool p2p_vv_covers(const struct p2p_vv *have, const struct p2p_vv *need);

#endif
