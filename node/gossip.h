/* Which membership records a peer has: a set of 16-byte prefixes of their hashes. */
#ifndef P2P_NODE_GOSSIP_H
#define P2P_NODE_GOSSIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"

#define P2P_PREFIX_BYTES 16

struct p2p_gossip {
	uint8_t (*known)[P2P_PREFIX_BYTES]; /* owned, sorted */
	size_t count, cap;
	bool heard; /* the peer's list has arrived: now we know what it lacks */
	bool dirty; /* records came since the last look */
};

void p2p_gossip_init(struct p2p_gossip *gossip);
void p2p_gossip_deinit(struct p2p_gossip *gossip);
bool p2p_gossip_knows(const struct p2p_gossip *gossip, const uint8_t *hash);
/* Adds a prefix. P2P_ENOMEM; P2P_ETOOBIG over P2P_RECORDS_MAX. */
int p2p_gossip_learn(struct p2p_gossip *gossip, const uint8_t *hash) P2P_MUST_CHECK;

#endif
