/* Membership records as messages: the list of what we have, and batches of what a peer lacks. */
#ifndef P2P_NODE_RECORDS_H
#define P2P_NODE_RECORDS_H

#include "crdt/authority.h"
#include "node/gossip.h"

#define P2P_RECORDS_BATCH_MAX 64

struct p2p_records_batch {
	size_t indices[P2P_RECORDS_BATCH_MAX]; /* into the authority's records */
	size_t count;
	bool last;     /* says that this answers the peer's list */
	bool complete; /* nothing is left after it */
};

/* Replaces the content of out by a Members message with everything we have. P2P_ENOMEM,
 * P2P_ETOOBIG. */
int p2p_records_pack_members(struct p2p_buf *out,
			     const struct p2p_authority *authority) P2P_MUST_CHECK;
/* Replaces the content of out by a Records message with the next records that the peer lacks;
 * finish: with `last` once nothing is left. With batch->count 0 and not last there is nothing to
 * send and out is empty. P2P_ENOMEM, P2P_ETOOBIG. */
int p2p_records_pack(struct p2p_buf *out, const struct p2p_authority *authority,
		     const struct p2p_gossip *gossip, bool finish,
		     struct p2p_records_batch *batch) P2P_MUST_CHECK;
/* The batch was sent: the peer knows these now. */
int p2p_records_sent(const struct p2p_records_batch *batch, const struct p2p_authority *authority,
		     struct p2p_gossip *gossip) P2P_MUST_CHECK;

#endif
