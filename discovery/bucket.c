/* Token bucket; see bucket.h. */
#include "discovery/bucket.h"

#include "proto/check.h"

#define TOKEN 1000u

void p2p_bucket_init(struct p2p_bucket *bucket, struct p2p_time now, uint32_t burst)
{
	p2p_require(burst > 0);
	bucket->level = (uint64_t)burst * TOKEN;
	bucket->at_ms = now.ms;
}

bool p2p_bucket_take(struct p2p_bucket *bucket, struct p2p_time now, uint32_t rate, uint32_t burst)
{
	uint64_t passed = now.ms > bucket->at_ms ? now.ms - bucket->at_ms : 0;
	uint64_t full = (uint64_t)burst * TOKEN;

	p2p_require(rate > 0);
	/* the product cannot overflow: time that is longer than it takes to fill counts as that */
	if (passed > full / rate + 1)
		passed = full / rate + 1;
	bucket->level += passed * rate;
	if (bucket->level > full)
		bucket->level = full;
	bucket->at_ms = now.ms;
	if (bucket->level < TOKEN)
		return false;
	bucket->level -= TOKEN;
	return true;
}

uint64_t p2p_bucket_wait_ms(const struct p2p_bucket *bucket, struct p2p_time now, uint32_t rate)
{
	uint64_t needed, ready;

	p2p_require(rate > 0);
	if (bucket->level >= TOKEN)
		return 0;
	needed = (TOKEN - bucket->level + rate - 1) / rate;
	ready = bucket->at_ms + needed;
	return ready > now.ms ? ready - now.ms : 0;
}
