/* The beginning and the end of one simulated world, for all programs that run some. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim.h"

#define WALL_BASE_MS 1700000000000ull

static uint64_t sqlite_seed;

static uint64_t wall_of_sqlite(void)
{
	int64_t skew_ms = sim_app_current ? sim_app_current->wall_skew_ms : 0;

	return sim_running ? sim_running->wall_base_ms + sim_running->now_ms + (uint64_t)skew_ms
			   : WALL_BASE_MS;
}

static void random_of_sqlite(void *out, size_t len)
{
	uint8_t *bytes = out;
	size_t i;

	for (i = 0; i < len; i++)
		bytes[i] = (uint8_t)sim_next(&sqlite_seed);
}

void sim_install(void)
{
	sim_memory_install();
	faultdisk_install(wall_of_sqlite, random_of_sqlite);
}

void sim_begin(struct sim *sim, uint64_t seed, int verbose)
{
	memset(sim, 0, sizeof(*sim));
	sim->seed = seed;
	(void)snprintf(sim->repeat, sizeof(sim->repeat), "sim --seed %llu --verbose 2",
		       (unsigned long long)seed);
	sim->random = seed * 0x2545f4914f6cdd1dull + 1;
	sim->now_ms = 1000;
	sim->wall_base_ms = WALL_BASE_MS;
	sim->verbose = verbose;
	sqlite_seed = sim->random;
	sqlite3_randomness(0, NULL); /* seeded anew by the VFS */
	(void)crypto_generichash_init(&sim->trace, NULL, 0, sizeof(sim->trace_hash));
	sim_running = sim;
}

static void check_hosts(struct sim *sim)
{
	size_t i;

	for (i = 0; i < sim->count; i++)
		if (sim->hosts[i].node)
			sim_check_host(&sim->hosts[i]);
	/* 32 MiB of a node are far above what the small histories here can need */
	if (sim_memory_live() > sim->count * (32u << 20))
		sim_fail(sim, "the nodes hold %llu bytes", (unsigned long long)sim_memory_live());
}

void sim_run_checked(struct sim *sim, uint64_t until_ms)
{
	while (sim->now_ms < until_ms) {
		uint64_t next = sim->now_ms + SIM_STEP_MS;

		sim_run(sim, next < until_ms ? next : until_ms);
		check_hosts(sim);
	}
}

void sim_end(struct sim *sim)
{
	size_t i;

	if (sim->hostile) {
		sim_hostile_end(sim);
		sim_host_deinit(&sim->hosts[sim->count]);
	}
	for (i = 0; i < sim->count; i++)
		sim_host_deinit(&sim->hosts[i]);
	sim->count = 0;
	sim_network_deinit(sim);
	/* datagrams under way */
	sim_run(sim, sim->now_ms + 10000);
	sim->stats.virtual_ms = sim->now_ms;
	(void)crypto_generichash_final(&sim->trace, sim->trace_hash, sizeof(sim->trace_hash));
	free(sim->heap);
	sim->heap = NULL;
	sim_running = NULL;
}
