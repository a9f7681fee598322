/* Runs in processes; see pool.h. */
#include "tests/sim/pool.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WAITING_FACTOR 10 /* of the clock's time, for each second of the processor's */

static double now_seconds(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* What the workers tell the parent, in shared memory. */
struct worker {
	pid_t pid;
	uint64_t item; /* that runs */
	uint64_t next; /* that it does then */
	uint64_t done;
	struct sim_stats sum;
};

/* Processor time, so that a busy machine fails nothing; and all the same an end to one that waits.
 */
static void limit(unsigned int seconds)
{
	const struct itimerval timer = {.it_value = {.tv_sec = seconds}};

	(void)setitimer(ITIMER_PROF, &timer, NULL);
	(void)alarm(WAITING_FACTOR * seconds);
}

static _Noreturn void work(const struct sim_pool *pool, struct worker *worker)
{
	while (worker->next < pool->count) {
		worker->item = worker->next;
		worker->next += pool->jobs;
		limit(pool->seconds_max);
		pool->run(pool->ctx, worker->item, &worker->sum);
		worker->done++;
	}
	(void)fflush(stdout);
	exit(0);
}

static void start_worker(const struct sim_pool *pool, struct worker *worker)
{
	pid_t pid;

	(void)fflush(stdout);
	pid = fork();
	if (pid < 0) {
		perror("fork");
		exit(2);
	}
	if (pid == 0)
		work(pool, worker);
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

static bool too_long(int status)
{
	return WIFSIGNALED(status) && (WTERMSIG(status) == SIGPROF || WTERMSIG(status) == SIGALRM);
}

static void run_all(struct sim_pool *pool, struct worker *workers)
{
	uint64_t live;
	int status;
	pid_t pid;

	for (live = 0; live < pool->jobs; live++) {
		workers[live].next = live;
		start_worker(pool, &workers[live]);
	}
	while (live && (pid = wait(&status)) > 0) {
		struct worker *worker = worker_of(workers, pool->jobs, pid);

		if (!worker)
			continue;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
			live--;
			continue;
		}
		pool->failures++;
		pool->failed(pool->ctx, worker->item, too_long(status));
		start_worker(pool, worker);
	}
}

void sim_pool_run(struct sim_pool *pool)
{
	double begin = now_seconds();
	struct worker *workers = mmap(NULL, pool->jobs * sizeof(*workers), PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t i;

	if (workers == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	run_all(pool, workers);
	for (i = 0; i < pool->jobs; i++) {
		sim_stats_add(&pool->sum, &workers[i].sum);
		pool->done += workers[i].done;
	}
	(void)munmap(workers, pool->jobs * sizeof(*workers));
	pool->seconds = now_seconds() - begin;
}
