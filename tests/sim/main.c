/* sim: whole meshes in virtual time, under faults, repeatable by seed.
 *
 * Each seed: a mesh is made and joined, applications write while faults strike, everything is
 * mended, and all nodes must become equal in time. See sim.h for what is real and what is not. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/node.h"
#include "tests/sim/pool.h"

#define JOIN_MS		 180000
#define SEEDS_MAX	 1000
#define SEED_SECONDS_MAX 60
#define QUESTION_MS	 12000 /* SYNC_PROOF_MS, and a little */
/* Five rounds of anti-entropy (15 s at most each), after dead sessions were noticed and dialled
 * again (15 s and 30 s). */
#define CONVERGE_MS  (5 * 15000 + 45000)
#define LONG_WAIT_MS 3000 /* between looks while only the time of a change is waited for */

struct options {
	uint64_t seed, count, jobs;
	uint64_t list[SEEDS_MAX]; /* of a file; then count of them */
	bool listed;
	int verbose;
	bool hash, hostile, constraints;
};

static void join_one(struct sim *sim, void *ctx, uint64_t arg)
{
	struct sim_host *host = &sim->hosts[arg];

	(void)ctx;
	host->asked = true;
	if (!sim_host_start(host))
		host->restart_at_ms = sim->now_ms + 500;
}

static bool all_joined(const struct sim *sim)
{
	size_t i;

	for (i = 0; i < sim->count; i++)
		if (!sim->hosts[i].node || !sim->hosts[i].joined)
			return false;
	return true;
}

/* The last host was honest until now. */
static void turn_one(struct sim *sim)
{
	struct sim_host *last = &sim->hosts[sim->count - 1];
	uint64_t writes;

	for (writes = sim_draw(sim, 4); writes; writes--)
		sim_app_write(last);
	sim_run_checked(sim, sim->now_ms + sim_draw(sim, 4000));
	sim->count--;
	sim_hostile_begin(sim, last);
}

static void make_mesh(struct sim *sim)
{
	uint64_t end;
	size_t i;

	sim->count = sim->plan.hosts + (sim->plan.hostile ? 1 : 0);
	for (i = 0; i < sim->count; i++)
		sim_host_init(sim, &sim->hosts[i], i);
	sim_host_found(&sim->hosts[0]);
	for (i = 0; i < 5; i++)
		sim_app_write(&sim->hosts[0]);
	sim->calm = !sim->plan.faults_while_joining;
	for (i = 1; i < sim->count; i++)
		sim_at(sim, sim->now_ms + 10 + sim_draw(sim, 2000), join_one, NULL, i);
	for (end = sim->now_ms + 5000; sim->now_ms < end && !all_joined(sim);)
		sim_run_checked(sim, sim->now_ms + SIM_STEP_MS);
	sim->calm = true;
	for (end = sim->now_ms + JOIN_MS; !all_joined(sim) && sim->now_ms < end;)
		sim_run_checked(sim, sim->now_ms + SIM_STEP_MS);
	if (!all_joined(sim))
		sim_fail(sim, "not every host could join");
	if (sim->plan.hostile)
		turn_one(sim);
}

/* The liar is still there: writes go through all the same. */
static void write_honestly(struct sim *sim)
{
	uint64_t before;
	unsigned int tries;
	size_t i;

	sim_run_checked(sim, sim->now_ms + 3000);
	for (i = 0; i < sim->count; i++) {
		before = sim->stats.commits;
		for (tries = 0; tries < 20 && sim->stats.commits == before; tries++) {
			sim_app_write(&sim->hosts[i]);
			sim_run_checked(sim, sim->now_ms + SIM_STEP_MS);
		}
		if (sim->stats.commits == before)
			sim_fail(sim, "host %zu cannot write", i);
	}
}

static void converge(struct sim *sim)
{
	uint64_t begin = sim->now_ms, limit = CONVERGE_MS, ahead = 0;
	char why[300] = "";
	size_t i;

	/* what was frozen by a clock too far ahead is taken when its time is near */
	for (i = 0; i < sim->count; i++)
		if ((uint64_t)sim->hosts[i].wall_ahead_max_ms > ahead)
			ahead = (uint64_t)sim->hosts[i].wall_ahead_max_ms;
	limit += ahead;
	while (!sim_check_level(sim, why, sizeof(why))) {
		if (sim->now_ms - begin > limit)
			sim_check_explain(sim);
		if (sim->now_ms - begin > limit)
			sim_fail(sim, "not level %llu ms after the last fault: %s",
				 (unsigned long long)(sim->now_ms - begin), why);
		if (sim->now_ms - begin > CONVERGE_MS)
			sim_run(sim, sim->now_ms + LONG_WAIT_MS);
		sim_run_checked(sim, sim->now_ms + SIM_STEP_MS);
	}
	if (!ahead && sim->now_ms - begin > sim->stats.heal_ms_max)
		sim->stats.heal_ms_max = sim->now_ms - begin;
	sim_note(sim, 1, "level after %llu ms", (unsigned long long)(sim->now_ms - begin));
}

/* What the liar said last may have put an own replica in question: then nothing is frozen until it
 * did not prove it. */
static void silence(struct sim *sim)
{
	sim_hostile_silence(sim);
	sim_run_checked(sim, sim->now_ms + QUESTION_MS);
	converge(sim);
}

static void constrain(struct sim *sim, uint64_t seed)
{
	sim->plan.constraints = true;
	sim->plan.enforced = seed % 2 == 0;
	sim->schema = sim_schema_constraints();
	sim->stats.constrained++;
}

static void run_seed(struct sim *sim, uint64_t seed, const struct options *options)
{
	sim_begin(sim, seed, options->verbose);
	sim_plan_draw(sim);
	if (options->hostile && sim->plan.hosts < SIM_HOSTS_MAX) {
		sim->plan.hostile = true;
		(void)snprintf(sim->repeat, sizeof(sim->repeat),
			       "sim --hostile --seed %llu --verbose 2", (unsigned long long)seed);
	}
	if (options->constraints)
		(void)snprintf(sim->repeat, sizeof(sim->repeat),
			       "sim --constraints%s --seed %llu --verbose 2",
			       options->hostile ? " --hostile" : "", (unsigned long long)seed);
	if (options->constraints)
		constrain(sim, seed);
	sim_check_init(sim);
	make_mesh(sim);
	sim->calm = false;
	sim_plan_start(sim);
	sim_run_checked(sim, sim->now_ms + sim->plan.storm_ms);
	sim_plan_heal(sim);
	if (sim->hostile) {
		sim_hostile_calm(sim);
		write_honestly(sim);
	}
	converge(sim);
	if (sim->hostile)
		silence(sim);
	sim_check_end(sim);
	sim_check_deinit(sim);
	sim_end(sim);
	if (!sim_memory_live())
		return;
	(void)fprintf(stderr, "sim: seed %llu: %llu bytes of the nodes were never freed\n",
		      (unsigned long long)seed, (unsigned long long)sim_memory_live());
	exit(3); /* a sanitizer says at exit where they come from */
}

/* --- the program ------------------------------------------------------------------------------ */

static void print_hash(const struct sim *sim)
{
	char hex[2 * sizeof(sim->trace_hash) + 1];

	(void)printf("%llu %s\n", (unsigned long long)sim->seed,
		     sodium_bin2hex(hex, sizeof(hex), sim->trace_hash, sizeof(sim->trace_hash)));
	(void)fflush(stdout);
}

static uint64_t seed_of(const struct options *options, uint64_t item)
{
	return options->listed ? options->list[item] : options->seed + item;
}

static void run_one(void *ctx, uint64_t item, struct sim_stats *sum)
{
	const struct options *options = ctx;
	struct sim *sim = malloc(sizeof(*sim));

	if (!sim)
		exit(2);
	run_seed(sim, seed_of(options, item), options);
	sim_stats_add(sum, &sim->stats);
	if (options->hash)
		print_hash(sim);
	free(sim);
}

static void failed_one(void *ctx, uint64_t item, bool too_long)
{
	(void)printf("FAILED seed %llu%s\n", (unsigned long long)seed_of(ctx, item),
		     too_long ? " (too long)" : "");
}

/* Lines "SEED what it found"; "#" begins a comment. */
static bool read_seeds(struct options *options, const char *path)
{
	FILE *file = fopen(path, "r");
	char line[300];

	if (!file) {
		perror(path);
		return false;
	}
	options->listed = true;
	options->count = 0;
	while (fgets(line, sizeof(line), file))
		if (line[0] >= '0' && line[0] <= '9' && options->count < SEEDS_MAX)
			options->list[options->count++] = strtoull(line, NULL, 10);
	(void)fclose(file);
	return true;
}

static void usage(void)
{
	(void)printf(
		"sim [--seed N] [--count N] [--seeds FILE] [--jobs N] [--verbose 0..4] [--hash] "
		"[--hostile] [--constraints]\n"
		"Runs seeds N, N+1, ... of simulated meshes; a failing seed prints its reason, "
		"and repeats exactly.\n"
		"--verbose 1: crashes and starts; 2: faults and events; 3: SQL and logs; 4: "
		"bytes. --hash: the trace hash of each seed. --hostile: one member lies in "
		"each. --constraints: tables with references, constraints and a counter, too. "
		"$P2P_SIM_KEEP: a folder that gets the files of a failure.\n");
}

static bool parse(struct options *options, int argc, char **argv)
{
	static const struct option longs[] = {{"seed", required_argument, NULL, 's'},
					      {"count", required_argument, NULL, 'n'},
					      {"seeds", required_argument, NULL, 'f'},
					      {"jobs", required_argument, NULL, 'j'},
					      {"verbose", required_argument, NULL, 'v'},
					      {"hash", no_argument, NULL, 'h'},
					      {"hostile", no_argument, NULL, 'H'},
					      {"constraints", no_argument, NULL, 'C'},
					      {NULL, 0, NULL, 0}};
	int option;

	while ((option = getopt_long(argc, argv, "s:n:f:j:v:hHC", longs, NULL)) != -1) {
		if (option == 's')
			options->seed = strtoull(optarg, NULL, 10);
		else if (option == 'n')
			options->count = strtoull(optarg, NULL, 10);
		else if (option == 'f') {
			if (!read_seeds(options, optarg))
				return false;
		} else if (option == 'j')
			options->jobs = strtoull(optarg, NULL, 10);
		else if (option == 'v')
			options->verbose = atoi(optarg);
		else if (option == 'h')
			options->hash = true;
		else if (option == 'H')
			options->hostile = true;
		else if (option == 'C')
			options->constraints = true;
		else
			return false;
	}
	return optind == argc && options->count && options->jobs && options->jobs <= SIM_JOBS_MAX;
}

int main(int argc, char **argv)
{
	struct options options = {.seed = 1, .count = 1, .jobs = 1};
	struct sim_pool pool = {.seconds_max = SEED_SECONDS_MAX,
				.run = run_one,
				.failed = failed_one,
				.ctx = &options};

	if (!parse(&options, argc, argv)) {
		usage();
		return 2;
	}
	if (sodium_init() < 0)
		return 2;
	sim_install();
	pool.count = options.count;
	pool.jobs = options.jobs;
	sim_pool_run(&pool);
	sim_report(&pool.sum, pool.done, pool.failures, pool.seconds);
	(void)printf("%llu passed, %llu failed\n", (unsigned long long)pool.done,
		     (unsigned long long)pool.failures);
	return pool.failures ? 1 : 0;
}
