/* Waiting times between attempts: 0.25 s, doubling to 30 s, with jitter so that a room of nodes
 * does not come back in step. */
#ifndef P2P_TRANSPORT_BACKOFF_H
#define P2P_TRANSPORT_BACKOFF_H

#include <stdint.h>

#include "proto/env.h"

struct p2p_backoff {
	uint32_t failures; /* since the last success; zeroed is a valid start */
};

/* After a success, or when the network changed: the next wait is the shortest again. */
void p2p_backoff_reset(struct p2p_backoff *backoff);
/* Counts a failure; returns how long to wait, P2P_BACKOFF_MIN_MS to P2P_BACKOFF_MAX_MS. */
uint64_t p2p_backoff_next_ms(struct p2p_backoff *backoff, const struct p2p_env *env);

#endif
