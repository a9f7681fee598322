/* sim: whole meshes in virtual time, under faults, repeatable by seed.
 *
 * Each seed: a mesh is made and joined, applications write while faults strike, everything is
 * mended, and all nodes must become equal in time. See sim.h for what is real and what is not. */
#include <getopt.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "node/node.h"
#include "tests/sim/sim.h"

#define JOIN_MS		 180000
#define SEEDS_MAX	 1000
#define SEED_SECONDS_MAX 60
#define STEP_MS		 250
#define QUESTION_MS	 12000 /* SYNC_PROOF_MS, and a little */
/* Five rounds of anti-entropy (15 s at most each), after dead sessions were noticed and dialled
 * again (15 s and 30 s). */
#define CONVERGE_MS (5 * 15000 + 45000)

struct options {
	uint64_t seed, count, jobs;
	uint64_t list[SEEDS_MAX]; /* of a file; then count of them */
	bool listed;
	int verbose;
	bool hash, hostile;
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

static void run_checked(struct sim *sim, uint64_t until_ms)
{
	while (sim->now_ms < until_ms) {
		uint64_t next = sim->now_ms + STEP_MS;

		sim_run(sim, next < until_ms ? next : until_ms);
		check_hosts(sim);
	}
}

/* The last host was honest until now. */
static void turn_one(struct sim *sim)
{
	struct sim_host *last = &sim->hosts[sim->count - 1];
	uint64_t writes;

	for (writes = sim_draw(sim, 4); writes; writes--)
		sim_app_write(last);
	run_checked(sim, sim->now_ms + sim_draw(sim, 4000));
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
		run_checked(sim, sim->now_ms + STEP_MS);
	sim->calm = true;
	for (end = sim->now_ms + JOIN_MS; !all_joined(sim) && sim->now_ms < end;)
		run_checked(sim, sim->now_ms + STEP_MS);
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

	run_checked(sim, sim->now_ms + 3000);
	for (i = 0; i < sim->count; i++) {
		before = sim->stats.commits;
		for (tries = 0; tries < 20 && sim->stats.commits == before; tries++) {
			sim_app_write(&sim->hosts[i]);
			run_checked(sim, sim->now_ms + STEP_MS);
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
		run_checked(sim, sim->now_ms + STEP_MS);
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
	run_checked(sim, sim->now_ms + QUESTION_MS);
	converge(sim);
}

static void run_seed(struct sim *sim, uint64_t seed, const struct options *options)
{
	sim_begin(sim, seed, options->verbose);
	sim_plan_draw(sim);
	if (options->hostile && sim->plan.hosts < SIM_HOSTS_MAX)
		sim->plan.hostile = sim->plan.forks = true;
	sim_check_init(sim);
	make_mesh(sim);
	sim->calm = false;
	sim_plan_start(sim);
	run_checked(sim, sim->now_ms + sim->plan.storm_ms);
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

static double now_seconds(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* What the workers tell the parent, in shared memory. */
struct worker {
	pid_t pid;
	uint64_t seed; /* that runs */
	uint64_t next; /* index of the one that it does then */
	uint64_t done;
	struct sim_stats sum;
};

static void print_hash(const struct sim *sim)
{
	char hex[2 * sizeof(sim->trace_hash) + 1];

	(void)printf("%llu %s\n", (unsigned long long)sim->seed,
		     sodium_bin2hex(hex, sizeof(hex), sim->trace_hash, sizeof(sim->trace_hash)));
	(void)fflush(stdout);
}

static _Noreturn void work(const struct options *options, struct worker *worker)
{
	struct sim *sim = malloc(sizeof(*sim));

	if (!sim)
		exit(2);
	while (worker->next < options->count) {
		worker->seed = options->listed ? options->list[worker->next]
					       : options->seed + worker->next;
		worker->next += options->jobs;
		(void)alarm(SEED_SECONDS_MAX);
		run_seed(sim, worker->seed, options);
		sim_stats_add(&worker->sum, &sim->stats);
		worker->done++;
		if (options->hash)
			print_hash(sim);
	}
	free(sim);
	(void)fflush(stdout);
	exit(0);
}

static void start_worker(const struct options *options, struct worker *worker)
{
	pid_t pid;

	(void)fflush(stdout);
	pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(2);
	}
	if (pid == 0)
		work(options, worker);
	worker->pid = pid;
}

static struct worker *worker_of(struct worker *workers, uint64_t count, pid_t pid)
{
	uint64_t i;

	for (i = 0; i < count; i++)
		if (workers[i].pid == pid)
			return &workers[i];
	return NULL;
}

/* Runs all seeds in processes of their own, so that one that fails does not end the others. Returns
 * how many failed. */
static uint64_t run_all(const struct options *options, struct worker *workers)
{
	uint64_t failed = 0, live, i;
	int status;
	pid_t pid;

	for (live = 0; live < options->jobs; live++) {
		workers[live].next = live;
		start_worker(options, &workers[live]);
	}
	while (live && (pid = wait(&status)) > 0) {
		struct worker *worker = worker_of(workers, options->jobs, pid);

		if (!worker)
			continue;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
			live--;
			continue;
		}
		failed++;
		(void)printf("FAILED seed %llu%s\n", (unsigned long long)worker->seed,
			     WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? " (too long)"
										: "");
		start_worker(options, worker);
	}
	for (i = 1; i < options->jobs; i++) {
		sim_stats_add(&workers[0].sum, &workers[i].sum);
		workers[0].done += workers[i].done;
	}
	return failed;
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
		"[--hostile]\n"
		"Runs seeds N, N+1, ... of simulated meshes; a failing seed prints its reason, "
		"and repeats exactly.\n"
		"--verbose 1: crashes and starts; 2: faults and events; 3: SQL and logs; 4: "
		"bytes. --hash: the trace hash of each seed. --hostile: one member lies in "
		"each.\n");
}

static bool parse(struct options *options, int argc, char **argv)
{
	static const struct option longs[] = {
		{"seed", required_argument, NULL, 's'},	   {"count", required_argument, NULL, 'n'},
		{"seeds", required_argument, NULL, 'f'},   {"jobs", required_argument, NULL, 'j'},
		{"verbose", required_argument, NULL, 'v'}, {"hash", no_argument, NULL, 'h'},
		{"hostile", no_argument, NULL, 'H'},	   {NULL, 0, NULL, 0}};
	int option;

	while ((option = getopt_long(argc, argv, "s:n:f:j:v:hH", longs, NULL)) != -1) {
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
		else
			return false;
	}
	return optind == argc && options->count && options->jobs && options->jobs <= 64;
}

int main(int argc, char **argv)
{
	struct options options = {.seed = 1, .count = 1, .jobs = 1};
	double begin = now_seconds();
	struct worker *workers;
	uint64_t failed;

	if (!parse(&options, argc, argv)) {
		usage();
		return 2;
	}
	workers = mmap(NULL, options.jobs * sizeof(*workers), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (workers == MAP_FAILED || sodium_init() < 0)
		return 2;
	sim_install();
	failed = run_all(&options, workers);
	sim_report(&workers[0].sum, workers[0].done, failed, now_seconds() - begin);
	(void)printf("%llu passed, %llu failed\n", (unsigned long long)workers[0].done,
		     (unsigned long long)failed);
	return failed ? 1 : 0;
}
