/* Time, chance and memory of the simulated world; see sim.h. */
#include <malloc.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/mem.h"
#include "tests/sim/sim.h"

#define ROUNDS_MAX 100000 /* in one millisecond */

struct sim *sim_running;

/* What applications see of their files, for whoever looks for the fault. */
static void keep_files(const struct sim *sim, const char *folder)
{
	char path[512];
	sqlite3_int64 size;
	unsigned char *data;
	FILE *file;
	size_t i;

	for (i = 0; i < sim->count; i++) {
		data = sqlite3_serialize(sim->hosts[i].app, "main", &size, 0);
		(void)snprintf(path, sizeof(path), "%s/%llu-%zu.db", folder,
			       (unsigned long long)sim->seed, i);
		file = data ? fopen(path, "w") : NULL;
		if (!file || fwrite(data, 1, (size_t)size, file) != (size_t)size ||
		    fclose(file) != 0)
			(void)fprintf(stderr, "sim: %s is not written\n", path);
		sqlite3_free(data);
	}
}

_Noreturn void sim_fail(struct sim *sim, const char *format, ...)
{
	va_list args;

	(void)fflush(stdout);
	(void)fprintf(stderr, "sim: seed %llu at %llu ms: ", (unsigned long long)sim->seed,
		      (unsigned long long)sim->now_ms);
	va_start(args, format);
	(void)vfprintf(stderr, format, args);
	va_end(args);
	(void)fprintf(stderr, "\nrepeat it with: %s\n", sim->repeat);
	if (getenv("P2P_SIM_KEEP"))
		keep_files(sim, getenv("P2P_SIM_KEEP"));
	abort();
}

void sim_trace_bytes(struct sim *sim, const void *data, size_t len)
{
	(void)crypto_generichash_update(&sim->trace, data, len);
}

/* Folders have another name in each run, and may be anywhere. */
static void without_folders(char *line)
{
	char *at, *begin, *end;

	while ((at = strstr(line, SIM_FOLDER)) != NULL) {
		end = at + strlen(SIM_FOLDER);
		while (*end && *end != '/' && *end != '\'')
			end++;
		for (begin = at; begin > line && begin[-1] != ' ' && begin[-1] != '\'';)
			begin--;
		*begin++ = '~';
		memmove(begin, end, strlen(end) + 1);
	}
}

void sim_note(struct sim *sim, int level, const char *format, ...)
{
	char line[600];
	va_list args;
	int len = snprintf(line, sizeof(line), "%8llu ", (unsigned long long)sim->now_ms);

	va_start(args, format);
	(void)vsnprintf(line + len, sizeof(line) - (size_t)len, format, args);
	va_end(args);
	without_folders(line);
	sim_trace_bytes(sim, line, strlen(line));
	if (sim->verbose >= level)
		(void)printf("%s\n", line);
}

/* --- chance ----------------------------------------------------------------------------------- */

/* splitmix64: small, and the same everywhere */
uint64_t sim_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

uint64_t sim_draw(struct sim *sim, uint64_t below)
{
	return below ? sim_next(&sim->random) % below : 0;
}

bool sim_chance(struct sim *sim, uint32_t per_10000)
{
	return sim_draw(sim, 10000) < per_10000;
}

const char *sim_fault_name(enum sim_fault fault)
{
	static const char *const names[] = {
#define X(name, text, what) text,
		SIM_FAULTS(X)
#undef X
	};

	return names[fault];
}

void sim_count(struct sim *sim, enum sim_fault fault)
{
	sim->stats.faults[fault]++;
	sim_note(sim, 2, "fault: %s", sim_fault_name(fault));
}

bool sim_strikes(struct sim *sim, enum sim_fault fault)
{
	if (sim->calm || !sim->plan.rate[fault] || !sim_chance(sim, sim->plan.rate[fault]))
		return false;
	sim_count(sim, fault);
	return true;
}

/* --- events: a heap by time, then by order ------------------------------------------------------
 */

static bool before(const struct sim_event *a, const struct sim_event *b)
{
	return a->due_ms < b->due_ms || (a->due_ms == b->due_ms && a->order < b->order);
}

static void swap(struct sim *sim, size_t a, size_t b)
{
	struct sim_event event = sim->heap[a];

	sim->heap[a] = sim->heap[b];
	sim->heap[b] = event;
}

static void sift_up(struct sim *sim, size_t at)
{
	while (at && before(&sim->heap[at], &sim->heap[(at - 1) / 2])) {
		swap(sim, at, (at - 1) / 2);
		at = (at - 1) / 2;
	}
}

static void sift_down(struct sim *sim, size_t at)
{
	for (;;) {
		size_t least = at, child = 2 * at + 1;

		if (child < sim->heap_count && before(&sim->heap[child], &sim->heap[least]))
			least = child;
		if (child + 1 < sim->heap_count && before(&sim->heap[child + 1], &sim->heap[least]))
			least = child + 1;
		if (least == at)
			return;
		swap(sim, at, least);
		at = least;
	}
}

void sim_at(struct sim *sim, uint64_t due_ms, void (*run)(struct sim *, void *ctx, uint64_t arg),
	    void *ctx, uint64_t arg)
{
	if (sim->heap_count == sim->heap_cap) {
		sim->heap_cap = sim->heap_cap ? sim->heap_cap * 2 : 256;
		sim->heap = realloc(sim->heap, sim->heap_cap * sizeof(*sim->heap));
		if (!sim->heap)
			sim_fail(sim, "out of memory");
	}
	sim->heap[sim->heap_count] = (struct sim_event){due_ms > sim->now_ms ? due_ms : sim->now_ms,
							sim->order++, run, ctx, arg};
	sift_up(sim, sim->heap_count++);
}

static struct sim_event pop(struct sim *sim)
{
	struct sim_event event = sim->heap[0];

	sim->heap[0] = sim->heap[--sim->heap_count];
	sift_down(sim, 0);
	return event;
}

static void nothing(struct sim *sim, void *ctx, uint64_t arg)
{
	(void)sim;
	(void)ctx;
	(void)arg;
}

void sim_forget(struct sim *sim, const void *ctx)
{
	size_t i;

	for (i = 0; i < sim->heap_count; i++)
		if (sim->heap[i].ctx == ctx)
			sim->heap[i].run = nothing;
}

/* --- running ---------------------------------------------------------------------------------- */

static uint64_t host_next(const struct sim_host *host)
{
	uint64_t next = host->dirty ? 0 : host->next_ms;

	if (!host->node)
		next = host->restart_at_ms ? host->restart_at_ms : UINT64_MAX;
	return next > host->paused_until_ms ? next : host->paused_until_ms;
}

static uint64_t next_time(const struct sim *sim)
{
	uint64_t next = sim->heap_count ? sim->heap[0].due_ms : UINT64_MAX;
	size_t i;

	for (i = 0; i < sim->count; i++)
		if (host_next(&sim->hosts[i]) < next)
			next = host_next(&sim->hosts[i]);
	return next > sim->now_ms ? next : sim->now_ms;
}

static void host_run(struct sim_host *host)
{
	struct sim *sim = host->sim;

	if (host->paused_until_ms > sim->now_ms)
		return;
	if (!host->node) {
		if (!host->restart_at_ms || host->restart_at_ms > sim->now_ms)
			return;
		host->restart_at_ms = 0;
		if (!sim_host_start(host))
			host->restart_at_ms = sim->now_ms + 500;
		return;
	}
	if (host->next_ms <= sim->now_ms || host->dirty)
		sim_host_turn(host);
}

/* Time must go on. */
static void check_progress(struct sim *sim, uint64_t *rounds, uint64_t now_ms)
{
	size_t i;

	if (now_ms != sim->now_ms)
		*rounds = 0;
	sim->now_ms = now_ms;
	if (++*rounds < ROUNDS_MAX)
		return;
	for (i = 0; i < sim->count; i++)
		if (host_next(&sim->hosts[i]) <= now_ms)
			sim_fail(sim, "time stands still: host %zu, next %llu, dirty %d, dead %u",
				 i, (unsigned long long)sim->hosts[i].next_ms, sim->hosts[i].dirty,
				 sim->hosts[i].disk.dead);
	sim_fail(sim, "time stands still: events");
}

void sim_run(struct sim *sim, uint64_t until_ms)
{
	uint64_t rounds = 0;
	size_t i;

	while (next_time(sim) <= until_ms) {
		check_progress(sim, &rounds, next_time(sim));
		while (sim->heap_count && sim->heap[0].due_ms <= sim->now_ms) {
			struct sim_event event = pop(sim);

			event.run(sim, event.ctx, event.arg);
		}
		for (i = 0; i < sim->count; i++)
			host_run(&sim->hosts[i]);
	}
	sim->now_ms = until_ms;
}

/* --- memory of the nodes ---------------------------------------------------------------------- */

static struct {
	bool inside;
	uint64_t live, peak;
	sqlite3_mem_methods sqlite; /* SQLite's own */
} memory;

bool sim_inside(bool inside)
{
	bool before_now = memory.inside;

	memory.inside = inside;
	return before_now;
}

static void count_up(const void *ptr)
{
	memory.live += malloc_usable_size((void *)(uintptr_t)ptr);
	if (memory.live > memory.peak)
		memory.peak = memory.live;
}

static bool exact_refuses(struct sim_exact *exact)
{
	uint64_t number = ++exact->allocations;

	if (!exact->refuse_at || number < exact->refuse_at ||
	    number >= exact->refuse_at + exact->refuse_count)
		return false;
	exact->struck++;
	return true;
}

static bool refuses(void)
{
	struct sim *sim = sim_running;

	if (memory.inside && sim && exact_refuses(&sim->exact))
		return true;
	if (!memory.inside || !sim || sim->calm || !sim->memory_fails ||
	    sim_draw(sim, sim->memory_one_in) != 0)
		return false;
	sim->memory_fails--;
	sim_count(sim, SIM_MEMORY);
	return true;
}

static void *count_malloc(size_t size)
{
	void *ptr = refuses() ? NULL : malloc(size);

	if (ptr)
		count_up(ptr);
	return ptr;
}

static void *count_realloc(void *old, size_t size)
{
	size_t before_now = old ? malloc_usable_size(old) : 0;
	void *ptr = refuses() ? NULL : realloc(old, size);

	if (ptr) {
		memory.live -= before_now;
		count_up(ptr);
	}
	return ptr;
}

static void count_free(void *ptr)
{
	memory.live -= malloc_usable_size(ptr);
	free(ptr);
}

void sim_memory_install(void)
{
	static const struct p2p_mem_hooks hooks = {count_malloc, count_realloc, count_free};

	p2p_mem_set_hooks(&hooks);
}

static void *sqlite_malloc(int size)
{
	return refuses() ? NULL : memory.sqlite.xMalloc(size);
}

static void *sqlite_realloc(void *old, int size)
{
	return refuses() ? NULL : memory.sqlite.xRealloc(old, size);
}

void sim_memory_install_sqlite(void)
{
	sqlite3_mem_methods methods;

	if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &memory.sqlite) != SQLITE_OK)
		abort();
	methods = memory.sqlite;
	methods.xMalloc = sqlite_malloc;
	methods.xRealloc = sqlite_realloc;
	if (sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) != SQLITE_OK)
		abort();
}

uint64_t sim_memory_live(void)
{
	return memory.live;
}

uint64_t sim_memory_peak(void)
{
	return memory.peak;
}
