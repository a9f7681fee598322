/* One whole join-and-sync, small and always the same: what loops.c repeats under each fault. */
#ifndef P2P_TESTS_SIM_JOURNEY_H
#define P2P_TESTS_SIM_JOURNEY_H

#include "tests/sim/sim.h"

#define JOURNEY_HOSTS 3

struct journey {
	/* A host's disk is there, and nothing has happened on it yet. */
	void (*ready)(void *ctx, struct sim_host *host);
	/* A verb of the user's failed with that code. */
	void (*refused)(void *ctx, struct sim_host *host, int code);
	void *ctx; /* borrowed */
};

/* In a world that has just begun: a mesh is made, shared, invited to, joined twice, written from
 * all sides at once, acknowledged, cut and met again, stopped and started. A verb of the user's
 * that fails is repeated. At the end all have merged the same. */
void journey_run(struct sim *sim, const struct journey *journey);

#endif
