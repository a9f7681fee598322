/* Token bucket: so many a second, so many at once. Time is passed in. */
#ifndef P2P_DISCOVERY_BUCKET_H
#define P2P_DISCOVERY_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/env.h"

struct p2p_bucket {
	uint64_t level; /* thousandths of a token */
	uint64_t at_ms;
};

/* Starts full. */
void p2p_bucket_init(struct p2p_bucket *bucket, struct p2p_time now, uint32_t burst);
/* Takes one token; false if there is none. rate: tokens in a second, over 0. */
bool p2p_bucket_take(struct p2p_bucket *bucket, struct p2p_time now, uint32_t rate, uint32_t burst);
/* Milliseconds until there is a token; 0: now. */
uint64_t p2p_bucket_wait_ms(const struct p2p_bucket *bucket, struct p2p_time now, uint32_t rate);

#endif
