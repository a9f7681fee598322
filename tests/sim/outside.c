/* Clock, randomness and control socket of a simulated node, in place of node/node_env.c and
 * node/control.c. */
#include <string.h>

#include "node/node.h"
#include "node/node_env.h"
#include "tests/sim/sim.h"

#define JITTER_MS 23

static struct p2p_time env_now(void *ctx)
{
	struct p2p_time now = {sim_host_now(ctx)};

	return now;
}

static uint64_t env_wall_ms(void *ctx)
{
	const struct sim_host *host = ctx;

	return host->sim->wall_base_ms + sim_host_now(host) + (uint64_t)host->wall_skew_ms;
}

static void env_random(void *ctx, void *out, size_t len)
{
	struct sim_host *host = ctx;
	uint8_t *bytes = out;
	size_t i;

	if (host->sim->plain && len == sizeof(uint32_t)) { /* a jitter: each host has its own */
		uint32_t jitter = (uint32_t)host->index * JITTER_MS;

		memcpy(out, &jitter, sizeof(jitter));
		return;
	}
	for (i = 0; i < len; i++)
		bytes[i] = (uint8_t)sim_next(&host->random);
	if (host->sim->plain && len == P2P_ID_BYTES)
		bytes[0] = (uint8_t)(host->index << 4 | (bytes[0] & 15));
}

void p2p_node_env_init(struct p2p_env *env)
{
	env->ctx = sim_host_current;
	env->now = env_now;
	env->wall_ms = env_wall_ms;
	env->random = env_random;
}

int p2p_control_open(struct p2p_node *node, struct p2p_error *err)
{
	(void)node;
	(void)err;
	return 0;
}

void p2p_control_close(struct p2p_control *control)
{
	(void)control;
}
