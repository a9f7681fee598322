/* Real time and randomness; see node_env.h. */
#include "node/node_env.h"

#include <sodium.h>
#include <time.h>

static uint64_t clock_ms(clockid_t id)
{
	struct timespec ts = {0};

	(void)clock_gettime(id, &ts); /* both clocks exist on every Linux: cannot fail */
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static struct p2p_time env_now(void *ctx)
{
	struct p2p_time now = {clock_ms(CLOCK_MONOTONIC)};

	(void)ctx;
	return now;
}

static uint64_t env_wall_ms(void *ctx)
{
	(void)ctx;
	return clock_ms(CLOCK_REALTIME);
}

static void env_random(void *ctx, void *out, size_t len)
{
	(void)ctx;
	randombytes_buf(out, len);
}

void p2p_node_env_init(struct p2p_env *env)
{
	env->ctx = NULL;
	env->now = env_now;
	env->wall_ms = env_wall_ms;
	env->random = env_random;
}
