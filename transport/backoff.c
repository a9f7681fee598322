/* Waiting times between attempts; see backoff.h. */
#include "transport/backoff.h"

#include "proto/check.h"
#include "proto/limits.h"

void p2p_backoff_reset(struct p2p_backoff *backoff)
{
	backoff->failures = 0;
}

uint64_t p2p_backoff_next_ms(struct p2p_backoff *backoff, const struct p2p_env *env)
{
	uint64_t top = P2P_BACKOFF_MIN_MS, wait;
	uint32_t i, random;

	if (backoff->failures < UINT32_MAX)
		backoff->failures++;
	for (i = 0; i < backoff->failures && top < P2P_BACKOFF_MAX_MS; i++)
		top *= 2;
	if (top > P2P_BACKOFF_MAX_MS)
		top = P2P_BACKOFF_MAX_MS;
	/* the upper half of the doubled time, evenly: nodes that failed together part */
	p2p_env_random(env, &random, sizeof(random));
	wait = top / 2 + random % (top / 2 + 1);
	p2p_require(wait >= P2P_BACKOFF_MIN_MS);
	p2p_require(wait <= P2P_BACKOFF_MAX_MS);
	return wait;
}
