/* Many runs in processes of their own, so that one that fails does not end the others. */
#ifndef P2P_TESTS_SIM_POOL_H
#define P2P_TESTS_SIM_POOL_H

#include <stdint.h>

#include "tests/sim/sim.h"

#define SIM_JOBS_MAX 64

struct sim_pool {
	uint64_t count, jobs;
	unsigned int seconds_max; /* of one run on a processor; it is ended then */
	/* Runs one, in a child; aborts or exits if it fails. Adds to the sums of that child. */
	void (*run)(void *ctx, uint64_t item, struct sim_stats *sum);
	/* Says what failed, in the parent. */
	void (*failed)(void *ctx, uint64_t item, bool too_long);
	void *ctx;
	/* out */
	struct sim_stats sum;
	uint64_t done, failures;
	double seconds;
};

/* Runs items 0 to count - 1. Aborts if the system has no processes or memory for it. */
void sim_pool_run(struct sim_pool *pool);

#endif
