/* loops: one whole join-and-sync, repeated with a fault at each place where one can strike.
 *
 * A calm run of the story counts its allocations, its operations of disks, its sends and its bytes;
 * then it runs again for each of them: the allocation fails, the operation of the disk fails, the
 * machine stops there, the link ends there, the send is refused. Each run must come to its end by
 * itself once the fault is over (see journey.h), and leave nothing behind. */
#include <getopt.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/node.h"
#include "tests/sim/pool.h"
#include "tests/sim/journey.h"

#define SEED		1
#define STICKY_MS	3000
#define STICKY_COUNT	50
#define RUN_SECONDS_MAX 120
#define OTHER_OFFSETS	16 /* of the bytes that begin or end no frame, one in so many is drawn */

// clang-format off
#define KINDS(X)                                                                                   \
	X(MEMORY_ONCE, "an allocation fails")                                                      \
	X(MEMORY_STICKY, "50 allocations in a row fail")                                           \
	X(IO_ONCE, "an operation of the disk fails: EIO")                                          \
	X(IO_STICKY, "the disk fails for 3 s: EIO")                                                \
	X(FULL_ONCE, "a write fails: ENOSPC")                                                      \
	X(FULL_STICKY, "all writes fail for 3 s: ENOSPC")                                          \
	X(BUSY_ONCE, "a lock is refused: BUSY")                                                    \
	X(BUSY_STICKY, "all locks are refused for 3 s: BUSY")                                      \
	X(KILL, "kill -9 inside of an operation that changes something")                           \
	X(POWER, "power cut inside of an operation that changes something")                        \
	X(CUT, "a link ends after so many bytes")                                                  \
	X(REFUSED, "a link refuses a send")                                                        \
	X(BYTEWISE, "all links hand up one byte after the other")
// clang-format on

enum kind {
#define X(name, text) name,
	KINDS(X)
#undef X
		KIND_COUNT
};

static const char *const kind_names[] = {
#define X(name, text) text,
	KINDS(X)
#undef X
};

struct place {
	uint8_t kind, host, end; /* end: of a link */
	uint64_t number;	 /* of what fails, from 1; a link's */
	uint64_t offset;	 /* in what a link carries */
};

/* What the calm run saw. */
struct seen {
	uint8_t *ops[JOURNEY_HOSTS]; /* owned: the kind of each operation */
	uint64_t op_count[JOURNEY_HOSTS], op_cap[JOURNEY_HOSTS], changes[JOURNEY_HOSTS],
		node_changes[JOURNEY_HOSTS];
	uint64_t allocations, sends, links, bytes, looks, virtual_ms;
	int64_t sqlite_bytes; /* SQLite's own, when nothing is open */
};

struct loops {
	struct seen seen;
	struct place *places; /* owned */
	uint64_t count, cap;
	uint64_t failures[KIND_COUNT], runs[KIND_COUNT];
	/* options */
	uint64_t stride, first, jobs, memory;
	int verbose;
	bool one;
	/* the run */
	uint64_t random;	   /* of offsets: the world's own would make another story of it */
	const struct place *place; /* NULL: the calm run */
	bool over;		   /* what follows is not the story's: no faults there */
};

/* --- places ----------------------------------------------------------------------------------- */

static void *grow(void *array, uint64_t *cap, size_t size)
{
	*cap = *cap ? *cap * 2 : 1024;
	array = realloc(array, *cap * size);
	if (!array) {
		(void)fprintf(stderr, "loops: out of memory\n");
		exit(2);
	}
	return array;
}

static void add_place(struct loops *loops, struct place place)
{
	if (loops->count == loops->cap)
		loops->places = grow(loops->places, &loops->cap, sizeof(*loops->places));
	loops->places[loops->count++] = place;
}

static void add_kind(struct loops *loops, enum kind kind, size_t host, uint64_t number)
{
	add_place(loops,
		  (struct place){.kind = (uint8_t)kind, .host = (uint8_t)host, .number = number});
}

static void add_disk(struct loops *loops, size_t host)
{
	const struct seen *seen = &loops->seen;
	uint64_t i;

	for (i = 1; i <= seen->op_count[host]; i++) {
		enum faultdisk_op op = seen->ops[host][i - 1];

		add_kind(loops, IO_ONCE, host, i);
		add_kind(loops, IO_STICKY, host, i);
		if (op == FAULTDISK_WRITE) {
			add_kind(loops, FULL_ONCE, host, i);
			add_kind(loops, FULL_STICKY, host, i);
		} else if (op == FAULTDISK_LOCK) {
			add_kind(loops, BUSY_ONCE, host, i);
			add_kind(loops, BUSY_STICKY, host, i);
		}
	}
	for (i = 1; i <= seen->node_changes[host]; i++)
		add_kind(loops, KILL, host, i);
	for (i = 1; i <= seen->changes[host]; i++)
		add_kind(loops, POWER, host, i);
}

/* Those of the links are there already: see sent(). */
static void add_places(struct loops *loops)
{
	uint64_t i;

	for (i = 1; i <= loops->seen.allocations; i += loops->memory) {
		add_kind(loops, MEMORY_ONCE, 0, i);
		add_kind(loops, MEMORY_STICKY, 0, i);
	}
	for (i = 0; i < JOURNEY_HOSTS; i++)
		add_disk(loops, i);
	for (i = 1; i <= loops->seen.sends; i++)
		add_kind(loops, REFUSED, 0, i);
	add_kind(loops, BYTEWISE, 0, 1);
}

/* --- what the calm run tells -------------------------------------------------------------------
 */

static void add_cut(struct loops *loops, uint64_t link, unsigned int end, uint64_t offset)
{
	add_place(loops, (struct place){.kind = CUT,
					.end = (uint8_t)end,
					.number = link,
					.offset = offset});
}

/* Where the frame at the beginning of data ends (transport/secure.h); 0: there is none. */
static size_t frame_end(const uint8_t *data, size_t len)
{
	size_t end = len < 2 ? 0 : 2 + (size_t)(data[0] << 8 | data[1]);

	return end > len ? 0 : end;
}

/* Cuts before and after each frame, in and after its head, and at some other bytes. */
static void sent(void *ctx, uint64_t link, unsigned int end, uint64_t offset, const uint8_t *data,
		 size_t len)
{
	struct loops *loops = ctx;
	size_t at = 0, next = 0, i;

	loops->seen.bytes += len;
	for (i = 0; i < len; i++) {
		if (i == next) {
			at = i;
			next += frame_end(data + i, len - i);
		}
		if (i - at <= 2 || i + 1 == next || i + 1 == len ||
		    sim_next(&loops->random) % OTHER_OFFSETS == 0)
			add_cut(loops, link, end, offset + i);
	}
}

static void note_operation(struct seen *seen, size_t host, enum faultdisk_op op)
{
	if (seen->op_count[host] == seen->op_cap[host])
		seen->ops[host] = grow(seen->ops[host], &seen->op_cap[host], 1);
	seen->ops[host][seen->op_count[host]++] = (uint8_t)op;
}

static void lift(struct sim *sim, void *ctx, uint64_t arg)
{
	struct faultdisk *disk = ctx;

	(void)sim;
	(void)arg;
	disk->fail_after = 0;
}

static void counts(void *ctx, enum faultdisk_op op)
{
	struct sim_host *host = ctx;
	struct sim *sim = host->sim;
	struct loops *loops = sim->exact.ctx;

	if (loops->over)
		return;
	if (!loops->place)
		note_operation(&loops->seen, host->index, op);
	else if (host->disk.fail_sticky && host->disk.operations == host->disk.fail_after)
		sim_at(sim, sim->now_ms + STICKY_MS, lift, &host->disk, 0);
}

/* --- one run ---------------------------------------------------------------------------------- */

static int io_code(enum faultdisk_op op)
{
	return op == FAULTDISK_LOCK ? SQLITE_IOERR_LOCK : 0;
}

static void arm_disk(const struct loops *loops, struct sim_host *host)
{
	const struct place *place = loops->place;
	struct faultdisk *disk = &host->disk;

	switch ((enum kind)place->kind) {
	case KILL:
	case POWER:
		disk->crash_after = place->number;
		disk->crash_who = FAULTDISK_NODE | (place->kind == POWER ? FAULTDISK_APP : 0);
		return;
	case IO_ONCE:
	case IO_STICKY:
		disk->fail_code = io_code(loops->seen.ops[host->index][place->number - 1]);
		break;
	case FULL_ONCE:
	case FULL_STICKY:
		disk->fail_code = SQLITE_FULL;
		disk->fail_ops = 1u << FAULTDISK_WRITE;
		break;
	case BUSY_ONCE:
	case BUSY_STICKY:
		disk->fail_ops = 1u << FAULTDISK_LOCK;
		break;
	case MEMORY_ONCE:
	case MEMORY_STICKY:
	case CUT:
	case REFUSED:
	case BYTEWISE:
	case KIND_COUNT:
		return;
	}
	disk->fail_after = place->number;
	disk->fail_sticky = place->kind == IO_STICKY || place->kind == FULL_STICKY ||
			    place->kind == BUSY_STICKY;
}

static void ready(void *ctx, struct sim_host *host)
{
	struct loops *loops = ctx;

	host->disk.counts = counts;
	if (loops->place && loops->place->host == host->index)
		arm_disk(loops, host);
}

/* What a verb may say when such a fault strikes. */
static bool may_say(enum kind kind, int code)
{
	switch (kind) {
	case MEMORY_ONCE:
	case MEMORY_STICKY:
		return code == P2P_ENOMEM;
	case IO_ONCE:
	case IO_STICKY:
	case KILL:
	case POWER:
		return code == P2P_EIO || code == P2P_EBUSY;
	case FULL_ONCE:
	case FULL_STICKY:
		return code == P2P_EFULL;
	case BUSY_ONCE:
	case BUSY_STICKY:
		return code == P2P_EBUSY;
	case CUT:
	case REFUSED:
	case BYTEWISE:
	case KIND_COUNT:
		break;
	}
	return false;
}

static void refused(void *ctx, struct sim_host *host, int code)
{
	const struct loops *loops = ctx;

	if (!loops->place || !may_say((enum kind)loops->place->kind, code))
		sim_fail(host->sim, "host %zu: a verb failed with %d (%s)", host->index, code,
			 p2p_node_strerror(code));
}

static void arm(struct sim *sim, const struct place *place)
{
	struct sim_exact *exact = &sim->exact;

	if (place->kind == MEMORY_ONCE || place->kind == MEMORY_STICKY) {
		exact->refuse_at = place->number;
		exact->refuse_count = place->kind == MEMORY_ONCE ? 1 : STICKY_COUNT;
	} else if (place->kind == CUT) {
		exact->cut_link = place->number;
		exact->cut_end = place->end;
		exact->cut_offset = place->offset;
	} else if (place->kind == REFUSED) {
		exact->full_at = place->number;
	} else if (place->kind == BYTEWISE) {
		exact->bytewise = true;
	}
}

/* The fault was there: else this place proves nothing. */
static void check_struck(struct sim *sim, const struct place *place)
{
	const struct faultdisk *disk = &sim->hosts[place->host].disk;
	uint64_t struck = sim->exact.struck, op;

	if (place->kind == BYTEWISE)
		return;
	for (op = 0; op < FAULTDISK_OPS; op++)
		struck += disk->failed[op];
	if (place->kind == KILL || place->kind == POWER)
		struck += disk->crash_after == 0;
	if (!struck)
		sim_fail(sim, "the fault did not strike");
}

/* A sanitizer says at exit where it comes from. */
static void check_memory(const struct loops *loops)
{
	int64_t sqlite = sqlite3_memory_used() - loops->seen.sqlite_bytes;

	if (!sim_memory_live() && (!loops->place || !sqlite))
		return;
	(void)fprintf(stderr, "loops: never freed: %llu bytes of the nodes, %lld of SQLite\n",
		      (unsigned long long)sim_memory_live(), (long long)sqlite);
	exit(3);
}

static void take_counts(struct loops *loops, const struct sim *sim)
{
	struct seen *seen = &loops->seen;
	size_t i;

	seen->allocations = sim->exact.allocations;
	seen->sends = sim->exact.sends;
	seen->links = sim->stats.links;
	seen->looks = sim->stats.looks;
	seen->virtual_ms = sim->now_ms;
	for (i = 0; i < sim->count; i++) {
		seen->changes[i] = sim->hosts[i].disk.changes;
		seen->node_changes[i] = sim->hosts[i].disk.node_changes;
	}
}

static void disarm(struct sim *sim)
{
	size_t i;

	memset(&sim->exact, 0, sizeof(sim->exact));
	for (i = 0; i < sim->count; i++) {
		sim->hosts[i].disk.counts = NULL;
		sim->hosts[i].disk.fail_after = 0;
		sim->hosts[i].disk.crash_after = 0;
	}
}

static void run(struct loops *loops, struct sim *sim, const struct place *place, uint64_t number)
{
	const struct journey journey = {ready, refused, loops};

	loops->place = place;
	loops->over = false;
	sim_begin(sim, SEED, loops->verbose);
	(void)snprintf(sim->repeat, sizeof(sim->repeat),
		       "loops --memory %llu --place %llu --verbose 2",
		       (unsigned long long)loops->memory, (unsigned long long)number);
	sim->calm = true;
	sim->exact.ctx = loops;
	if (place)
		arm(sim, place);
	else
		sim->exact.sent = sent;
	sim_check_init(sim);
	journey_run(sim, &journey);
	loops->over = true;
	if (place)
		check_struck(sim, place);
	else
		take_counts(loops, sim);
	disarm(sim);
	sim_check_end(sim);
	sim_check_deinit(sim);
	sim_end(sim);
	check_memory(loops);
}

static const char *describe(const struct loops *loops, const struct place *place)
{
	static const char *const ops[FAULTDISK_OPS] = {"open", "read",	 "write", "truncate",
						       "sync", "delete", "lock",  "map"};
	static char text[200];
	bool disk = place->kind >= IO_ONCE && place->kind <= BUSY_STICKY;

	if (place->kind == CUT)
		(void)snprintf(text, sizeof(text), "link %llu, end %u, byte %llu",
			       (unsigned long long)place->number, place->end,
			       (unsigned long long)place->offset);
	else
		(void)snprintf(text, sizeof(text), "host %u, number %llu %s", place->host,
			       (unsigned long long)place->number,
			       disk ? ops[loops->seen.ops[place->host][place->number - 1]] : "");
	return text;
}

static void run_one(void *ctx, uint64_t item, struct sim_stats *sum)
{
	struct loops *loops = ctx;
	uint64_t number = loops->first + item * loops->stride;
	struct sim *sim = calloc(1, sizeof(*sim));

	if (!sim)
		exit(2);
	run(loops, sim, &loops->places[number], number);
	sim_stats_add(sum, &sim->stats);
	free(sim);
}

static void failed_one(void *ctx, uint64_t item, bool too_long)
{
	struct loops *loops = ctx;
	uint64_t number = loops->first + item * loops->stride;
	const struct place *place = &loops->places[number];

	loops->failures[place->kind]++;
	(void)printf("FAILED place %llu%s: %s: %s\n", (unsigned long long)number,
		     too_long ? " (too long)" : "", kind_names[place->kind],
		     describe(loops, place));
	(void)fflush(stdout);
}

/* --- the program ------------------------------------------------------------------------------ */

static void run_calm(struct loops *loops)
{
	struct sim *sim = calloc(1, sizeof(*sim));
	int verbose = loops->verbose;

	if (!sim)
		exit(2);
	loops->verbose = loops->one ? 0 : verbose;
	loops->seen.sqlite_bytes = sqlite3_memory_used();
	run(loops, sim, NULL, 0);
	loops->seen.sqlite_bytes = sqlite3_memory_used();
	loops->verbose = verbose;
	free(sim);
	add_places(loops);
}

static void print_calm(const struct loops *loops)
{
	const struct seen *seen = &loops->seen;
	size_t i;

	(void)printf("the story: %llu ms, %llu allocations, %llu sends and %llu bytes on %llu "
		     "links, %llu looks of an eye;\n",
		     (unsigned long long)seen->virtual_ms, (unsigned long long)seen->allocations,
		     (unsigned long long)seen->sends, (unsigned long long)seen->bytes,
		     (unsigned long long)seen->links, (unsigned long long)seen->looks);
	for (i = 0; i < JOURNEY_HOSTS; i++)
		(void)printf("host %zu: %llu operations of the disk, %llu of them change "
			     "something;\n",
			     i, (unsigned long long)seen->op_count[i],
			     (unsigned long long)seen->changes[i]);
	(void)printf("%llu places\n", (unsigned long long)loops->count);
}

static void count_runs(struct loops *loops, uint64_t count)
{
	uint64_t i;

	for (i = 0; i < count; i++)
		loops->runs[loops->places[loops->first + i * loops->stride].kind]++;
}

static void report(const struct loops *loops, const struct sim_pool *pool)
{
	size_t i;

	for (i = 0; i < KIND_COUNT; i++)
		(void)printf("%8llu  %s: %llu failed\n", (unsigned long long)loops->runs[i],
			     kind_names[i], (unsigned long long)loops->failures[i]);
	for (i = 0; i < SIM_CODES; i++)
		if (pool->sum.refused[i])
			(void)printf("%llu verbs were refused and repeated: %s\n",
				     (unsigned long long)pool->sum.refused[i],
				     p2p_node_strerror(-(int)i));
	(void)printf("%llu places in %.1f s (%.1f/s), %.1f h of virtual time, %llu starts, %llu "
		     "connections, %llu looks of an eye, %llu checks\n",
		     (unsigned long long)pool->done, pool->seconds,
		     (double)pool->done / pool->seconds, (double)pool->sum.virtual_ms / 3600000.0,
		     (unsigned long long)pool->sum.starts, (unsigned long long)pool->sum.links,
		     (unsigned long long)pool->sum.looks, (unsigned long long)pool->sum.checks);
	(void)printf("%llu passed, %llu failed\n", (unsigned long long)pool->done,
		     (unsigned long long)pool->failures);
}

/* Figures for docs/reliability.md, where P2P_RELIABILITY says. */
static void write_figures(const struct loops *loops, const struct sim_pool *pool)
{
	const char *folder = getenv("P2P_RELIABILITY");
	char path[500];
	FILE *file;
	size_t i;

	if (!folder)
		return;
	(void)snprintf(path, sizeof(path), "%s/loops.json", folder);
	file = fopen(path, "w");
	if (!file) {
		perror(path);
		exit(2);
	}
	(void)fprintf(file,
		      "{\"title\": \"Fault loops over one whole join-and-sync\", \"command\": "
		      "\"build/tests/sim/loops --stride %llu --memory %llu --jobs %llu\", "
		      "\"figures\": [",
		      (unsigned long long)loops->stride, (unsigned long long)loops->memory,
		      (unsigned long long)loops->jobs);
	for (i = 0; i < KIND_COUNT; i++)
		(void)fprintf(file, "[\"places: %s\", %llu], ", kind_names[i],
			      (unsigned long long)loops->runs[i]);
	(void)fprintf(file,
		      "[\"places of the story\", %llu], [\"places that ran clean\", %llu], "
		      "[\"places that failed\", %llu], [\"seconds\", %.0f], "
		      "[\"starts of nodes\", %llu], [\"looks of a reader at a file\", %llu]], "
		      "\"not_tested\": [\"files that are not SQLite's (identity, secret, mark) do "
		      "not fail here\", \"links are cut at all bytes that begin or end a frame and "
		      "at one in %d of the others\"]}\n",
		      (unsigned long long)loops->count, (unsigned long long)pool->done,
		      (unsigned long long)pool->failures, pool->seconds,
		      (unsigned long long)pool->sum.starts, (unsigned long long)pool->sum.looks,
		      OTHER_OFFSETS);
	if (fclose(file) != 0) {
		perror(path);
		exit(2);
	}
}

static void usage(void)
{
	(void)printf("loops --all | --stride N [--first N] | --place N [--memory N] [--jobs N] "
		     "[--verbose 0..4]\n"
		     "Repeats one join-and-sync with a fault at each place where one can strike, "
		     "at every Nth of them, or at one.\n"
		     "--memory N: of the allocations only each Nth.\n");
}

static bool parse(struct loops *loops, int argc, char **argv)
{
	static const struct option longs[] = {
		{"all", no_argument, NULL, 'a'},	   {"stride", required_argument, NULL, 's'},
		{"first", required_argument, NULL, 'f'},   {"place", required_argument, NULL, 'p'},
		{"jobs", required_argument, NULL, 'j'},	   {"memory", required_argument, NULL, 'm'},
		{"verbose", required_argument, NULL, 'v'}, {NULL, 0, NULL, 0}};
	int option;

	while ((option = getopt_long(argc, argv, "as:f:p:j:m:v:", longs, NULL)) != -1) {
		if (option == 'a')
			loops->stride = 1;
		else if (option == 's')
			loops->stride = strtoull(optarg, NULL, 10);
		else if (option == 'f' || option == 'p')
			loops->first = strtoull(optarg, NULL, 10);
		else if (option == 'm')
			loops->memory = strtoull(optarg, NULL, 10);
		else if (option == 'j')
			loops->jobs = strtoull(optarg, NULL, 10);
		else if (option == 'v')
			loops->verbose = atoi(optarg);
		else
			return false;
		if (option == 'p') {
			loops->one = true;
			loops->stride = UINT32_MAX;
		}
	}
	return optind == argc && loops->stride && loops->memory && loops->jobs &&
	       loops->jobs <= SIM_JOBS_MAX;
}

int main(int argc, char **argv)
{
	static struct loops loops = {.jobs = 1, .memory = 1, .random = SEED};
	struct sim_pool pool = {.seconds_max = RUN_SECONDS_MAX,
				.run = run_one,
				.failed = failed_one,
				.ctx = &loops};
	size_t i;

	if (!parse(&loops, argc, argv)) {
		usage();
		return 2;
	}
	if (sodium_init() < 0)
		return 2;
	sim_memory_install_sqlite();
	sim_install();
	run_calm(&loops);
	print_calm(&loops);
	if (loops.first >= loops.count) {
		(void)printf("there is no place %llu\n", (unsigned long long)loops.first);
		return 2;
	}
	pool.count = loops.one ? 1 : (loops.count - loops.first + loops.stride - 1) / loops.stride;
	pool.jobs = loops.jobs;
	count_runs(&loops, pool.count);
	sim_pool_run(&pool);
	report(&loops, &pool);
	write_figures(&loops, &pool);
	for (i = 0; i < JOURNEY_HOSTS; i++)
		free(loops.seen.ops[i]);
	free(loops.places);
	return pool.failures ? 1 : 0;
}
