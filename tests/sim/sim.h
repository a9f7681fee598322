/* A whole mesh in one process: production nodes in a world that is made here.
 *
 * Each host runs the real node/ with everything below it (p2p_node_open() and so on). Only what is
 * outside of the program is replaced, at link time: libuv's handles (loop.c), TCP links and
 * multicast (network.c), clock and randomness (outside.c), the disk under SQLite
 * (support/faultdisk). Time is virtual, and all chance comes from one seed, so a seed repeats
 * exactly: the trace hash proves it.
 *
 * Everything aborts the run with a text when it fails (sim_fail). */
#ifndef P2P_TESTS_SIM_SIM_H
#define P2P_TESTS_SIM_SIM_H

#include <sodium.h>
#include <stdbool.h>
#include <uv.h>

#include "node/p2pnode.h"
#include "proto/env.h"
#include "tests/support/faultdisk.h"

#define SIM_HOSTS_MAX 16
#define SIM_PORT      7473
#define SIM_CODES     40
#define SIM_FOLDER    "p2p-sim-"
#define SIM_STEP_MS   250 /* between two checks */

// clang-format off
/* Name of the fault and what happens. One count each, at least once for each time it was injected. */
#define SIM_FAULTS(X)                                                                              \
	X(DELAY, "delay", "bytes of a link come late")                                             \
	X(LOSS, "loss", "a burst of packets of a link is lost and sent again later")               \
	X(DATAGRAM_LOSS, "datagram loss", "a beacon is lost")                                      \
	X(DATAGRAM_TWICE, "duplicate", "a beacon arrives twice")                                   \
	X(DATAGRAM_LATE, "reorder", "a beacon arrives after later ones")                           \
	X(CORRUPT, "corrupt", "a byte of a link or beacon is changed")                             \
	X(RESET, "reset", "a connection breaks, at any byte")                                      \
	X(STALL, "stall", "a link carries nothing for seconds")                                    \
	X(PARTITION, "partition", "hosts in two groups do not hear each other")                    \
	X(ONE_WAY, "one-way", "hosts of one group do not hear the other")                          \
	X(KILL, "kill", "kill -9 of a node between two operations")                                \
	X(CRASH_POINT, "crash point", "a node dies inside of an operation of the disk")            \
	X(POWER_CUT, "power cut", "a machine stops; what was not synced is lost, torn, reordered") \
	X(DISK_READ, "EIO on read", "a read of the disk fails")                                    \
	X(DISK_WRITE, "EIO on write", "a write, truncation or open of the disk fails")             \
	X(DISK_SYNC, "EIO on sync", "a sync of the disk fails")                                    \
	X(DISK_FULL, "disk full", "writes that make a file longer fail")                           \
	X(BUSY, "busy", "a lock of the disk is refused")                                           \
	X(MEMORY, "memory", "an allocation fails")                                                 \
	X(PAUSE, "pause", "a machine stands still and goes on")                                    \
	X(CLOCK_AHEAD, "clock ahead", "a clock jumps forward")                                     \
	X(CLOCK_BACK, "clock back", "a clock jumps backward")                                      \
	X(WATCH_LOST, "watch lost", "the system does not tell of a commit")                        \
	X(APP_READER, "reader", "an application holds a read snapshot for long")                   \
	X(APP_WRITER, "writer", "an application holds the write lock for long")                    \
	X(RESTART, "restart", "a node stops in order and starts again")                            \
	X(HOSTILE, "hostile", "a member lies, floods, forges or breaks off")                       \
	X(CLAIM, "claim", "a member certifies itself for the replica id of another")
// clang-format on

enum sim_fault {
#define X(name, text, what) SIM_##name,
	SIM_FAULTS(X)
#undef X
		SIM_FAULT_COUNT
};

struct sim;
struct sim_link;
struct hostile;
struct p2p_id;
struct p2p_vv_entry;
struct sim_packet;

#define SIM_TIMERS_MAX 64

struct sim_host {
	struct sim *sim;
	size_t index;
	char dir[96], db[128];
	struct faultdisk disk;
	uint64_t random; /* of the node */

	/* the loop */
	uv_loop_t loop;
	uv_timer_t *timers[SIM_TIMERS_MAX];
	size_t timer_count;
	uint64_t timer_order;
	uv_prepare_t *prepare;
	uv_idle_t *idle;
	uv_fs_event_t *watch;
	uv_handle_t *closing[SIM_TIMERS_MAX];
	size_t closing_count;
	void (*later[SIM_TIMERS_MAX])(void *ctx); /* of tcp and multicast, as closing handles */
	void *later_ctx[SIM_TIMERS_MAX];
	size_t later_count;
	uint64_t next_ms; /* it wants to run */
	bool dirty;	  /* it has to run now */

	/* the network */
	struct p2p_tcp *tcp;
	struct p2p_multicast *multicast;
	uint64_t boot; /* datagrams and dials of an earlier life are dropped */

	/* the node */
	p2p_node *node; /* NULL: does not run */
	bool stopped, joined, asked;
	bool founder;	     /* makes the mesh when it starts */
	int refused;	     /* the error of the last verb that failed */
	uint64_t private_ms; /* time that passed here alone, while dying */
	uint64_t paused_until_ms, restart_at_ms;
	uint64_t app_boot_ms; /* after a power cut the application starts then, if it writes */
	int64_t wall_skew_ms, wall_ahead_max_ms;
	uint64_t troubles, merges;

	/* the application */
	struct sqlite3 *app;  /* NULL: does not run */
	struct sqlite3 *eye;  /* of journey.c, NULL: closed */
	bool app_full_sync;   /* what COMMIT returned for survives a power cut */
	bool app_holds;	      /* in a transaction that an event ends */
	uint64_t hold_number; /* of the ledger; UINT64_MAX: it only reads */
	uint64_t hold_serial;
	uint64_t app_random;
	uint64_t ledger_next;
	uint8_t *ledger; /* owned: by number, 1: committed, 2: perhaps */
	size_t ledger_cap;
};

struct sim_event {
	uint64_t due_ms, order;
	void (*run)(struct sim *sim, void *ctx, uint64_t arg);
	void *ctx;
	uint64_t arg;
};

/* What a seed draws: see plan.c. */
struct sim_plan {
	size_t hosts;
	uint64_t storm_ms;
	uint32_t commits;		/* about so many, of all applications */
	uint64_t delay_ms;		/* greatest of a link, at rest */
	uint64_t delay_least_ms;	/* on top of that */
	uint32_t rate[SIM_FAULT_COUNT]; /* per 10 000 chances; or about so many in the storm */
	bool faults_while_joining;
	uint32_t herds;	    /* so many of 16 writes come from all hosts in the same millisecond */
	uint32_t big_texts; /* so many of 16 transactions have a value of many segments */
	bool hostile;	    /* one more host joins, and turns on the others */
	bool constraints; /* tables with references, constraints and a counter: property/sheet.h */
	bool enforced;	  /* no application leaves foreign_keys off */
};

/* Faults at exact places: loops.c. Numbers count from 1; 0: never. */
struct sim_exact {
	uint64_t refuse_at, refuse_count; /* allocations of the nodes */
	uint64_t full_at;		  /* a send that a link refuses */
	uint64_t cut_link, cut_offset;	  /* a link breaks after so many bytes of one end */
	unsigned int cut_end;
	bool bytewise; /* links hand up one byte after the other */
	/* Told of every send; NULL allowed. */
	void (*sent)(void *ctx, uint64_t link, unsigned int end, uint64_t offset,
		     const uint8_t *data, size_t len);
	void *ctx;
	/* counted */
	uint64_t allocations, sends, struck;
};

struct sim_stats {
	uint64_t faults[SIM_FAULT_COUNT];
	uint64_t commits, failed_commits, joins, starts, dials, links, datagrams, bytes;
	uint64_t virtual_ms, checks, changesets, rows, twin_rows;
	uint64_t heal_ms_max, memory_max, operations, looks, constrained;
	uint64_t refused[SIM_CODES]; /* verbs of the user's that failed, by -code; loops.c */
};

struct sim {
	uint64_t seed, random;
	uint64_t now_ms, wall_base_ms, order;
	bool calm;	       /* no faults are injected */
	uint32_t memory_fails; /* so many allocations fail, one in so many */
	uint64_t memory_one_in;
	struct sim_plan plan;
	struct sim_exact exact;
	struct sim_stats stats;
	struct sim_host hosts[SIM_HOSTS_MAX];
	size_t count;		 /* honest ones; the hostile one comes after them */
	struct hostile *hostile; /* owned; NULL: none (yet) */
	struct sim_event *heap;	 /* owned */
	size_t heap_count, heap_cap;
	bool deaf[SIM_HOSTS_MAX][SIM_HOSTS_MAX]; /* [who][of whom] */
	struct sim_link *links;			 /* all that live */
	char ticket[1024];
	char repeat[80];	       /* the command that repeats it */
	struct sim_registry *registry; /* of check.c */
	const char *schema;	       /* NULL: sim_schema */
	bool plain; /* chance makes no difference: jitter and ids are in the order of hosts */
	void (*told)(struct sim_host *host, const p2p_node_event *event); /* of a node; or NULL */
	crypto_generichash_state trace;
	uint8_t trace_hash[16];
	int verbose; /* 1: what happens; 2: and what nodes say; 3: and all that they log */
};

/* --- begin.c ---------------------------------------------------------------------------------- */

/* Once for the process. */
void sim_install(void);
/* An empty world; it is the one that runs until sim_end(), which takes all hosts away. */
void sim_begin(struct sim *sim, uint64_t seed, int verbose);
void sim_end(struct sim *sim);
/* As sim_run(), with the checks of all hosts every SIM_STEP_MS. */
void sim_run_checked(struct sim *sim, uint64_t until_ms);

/* --- world.c ---------------------------------------------------------------------------------- */

/* The one that runs: what is replaced at link time has no other way to know. */
extern struct sim *sim_running;

_Noreturn void sim_fail(struct sim *sim, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* A line of the trace: shown when verbose >= level, and part of the trace hash. */
void sim_note(struct sim *sim, int level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void sim_trace_bytes(struct sim *sim, const void *data, size_t len);
uint64_t sim_next(uint64_t *state);
uint64_t sim_draw(struct sim *sim, uint64_t below);
bool sim_chance(struct sim *sim, uint32_t per_10000);
/* Draws whether a fault that strikes by chance strikes now; counts it. */
bool sim_strikes(struct sim *sim, enum sim_fault fault);
void sim_count(struct sim *sim, enum sim_fault fault);
const char *sim_fault_name(enum sim_fault fault);
void sim_at(struct sim *sim, uint64_t due_ms, void (*run)(struct sim *, void *ctx, uint64_t arg),
	    void *ctx, uint64_t arg);
/* Drops events of a link that dies. */
void sim_forget(struct sim *sim, const void *ctx);
/* Runs hosts and events until then. */
void sim_run(struct sim *sim, uint64_t until_ms);
/* Allocations fail only while this is set: inside of a node. Returns what it was. */
bool sim_inside(bool inside);
uint64_t sim_memory_live(void);
uint64_t sim_memory_peak(void);
void sim_memory_install(void);
/* SQLite's allocations are among those that fail too. Before SQLite is used. */
void sim_memory_install_sqlite(void);

/* --- loop.c ----------------------------------------------------------------------------------- */

/* Timers, closings, idle work, until the host rests or has used its turn. */
void sim_host_turn(struct sim_host *host);
void sim_host_later(struct sim_host *host, void (*run)(void *ctx), void *ctx);
/* The system tells of a change of the WAL. */
void sim_host_watch(struct sim_host *host);

/* --- network.c -------------------------------------------------------------------------------- */

/* All links of a host end. silent: the others hear nothing of it (no power). */
void sim_network_cut(struct sim_host *host, bool silent);
/* The links between two hosts break, and what is under way on them is lost. */
void sim_network_break(struct sim_host *a, struct sim_host *b);
/* No fault has struck any of their links. */
bool sim_network_calm(const struct sim_host *a, const struct sim_host *b);
void sim_network_deinit(struct sim *sim);

/* --- host.c ----------------------------------------------------------------------------------- */

/* The host that is opened or runs just now. */
extern struct sim_host *sim_host_current;
struct sim_host *sim_host_of(const uv_loop_t *loop);
uint64_t sim_host_now(const struct sim_host *host);
void sim_host_init(struct sim *sim, struct sim_host *host, size_t index);
void sim_host_deinit(struct sim_host *host);
/* The first: makes the file, the tables, the mesh. */
void sim_host_found(struct sim_host *host);
/* Opens and starts the node, joining if it is no member. false: local trouble, try again. */
bool sim_host_start(struct sim_host *host);
/* power: the whole machine with its application; else kill -9 of the node alone. Then it is
 * started at the given time by sim_run(). */
void sim_host_crash(struct sim_host *host, bool power, uint64_t restart_at_ms);
/* Stops in order. */
void sim_host_stop(struct sim_host *host);
/* The disk has stopped in the middle of an operation: the rest of the crash. */
void sim_host_check_dead(struct sim_host *host);

/* --- app.c ------------------------------------------------------------------------------------ */

extern const char sim_schema[];
/* Whose application runs a statement just now: SQLite asks its clock. Or NULL. */
extern struct sim_host *sim_app_current;
/* With the tables of tests/property/sheet.h. */
const char *sim_schema_constraints(void);
void sim_app_open(struct sim_host *host);
void sim_app_close(struct sim_host *host);
/* One random transaction. */
void sim_app_write(struct sim_host *host);
/* These statements in one transaction, with a row of the ledger. false: it failed, perhaps after
 * all it was committed. */
bool sim_app_transaction(struct sim_host *host, const char *sql);
/* Holds a read snapshot or the write lock for a while. */
void sim_app_hold(struct sim_host *host, bool write, uint64_t ms);

/* --- hostile.c -------------------------------------------------------------------------------- */

/* The node of this host, which is not among the count any more, is replaced by a liar. */
void sim_hostile_begin(struct sim *sim, struct sim_host *host);
/* The storm is over: it goes on lying for a while, but signs nothing new. */
void sim_hostile_calm(struct sim *sim);
/* It stays, and says nothing any more. */
void sim_hostile_silence(struct sim *sim);
void sim_hostile_end(struct sim *sim);
/* Seq from which on this replica has two histories; UINT64_MAX: it has one. */
uint64_t sim_hostile_fork(const struct sim *sim, const struct p2p_id *replica);
/* The replica that has them; NULL: none. */
const struct p2p_id *sim_hostile_forked(const struct sim *sim);
/* Which of the two a vector names; 0: what is common. */
unsigned int sim_hostile_branch(const struct sim *sim, const struct p2p_vv_entry *entry);
bool sim_hostile_owns(const struct sim *sim, const struct p2p_id *replica);
/* Not all that is signed of it can be merged. */
bool sim_hostile_stuck(const struct sim *sim, const struct p2p_id *replica);
/* The beginning of its node's name, as events tell it; NULL: there is no such member. */
const char *sim_hostile_name(const struct sim *sim);

/* --- plan.c ----------------------------------------------------------------------------------- */

void sim_plan_draw(struct sim *sim);
/* Puts the storm's events into the future. */
void sim_plan_start(struct sim *sim);
/* Everything that is broken is mended. */
void sim_plan_heal(struct sim *sim);

/* --- report.c --------------------------------------------------------------------------------- */

void sim_stats_add(struct sim_stats *sum, const struct sim_stats *one);
void sim_report(const struct sim_stats *sum, uint64_t seeds, uint64_t failed, double seconds);

/* --- check.c ---------------------------------------------------------------------------------- */

void sim_check_init(struct sim *sim);
void sim_check_deinit(struct sim *sim);
/* Safety of one host, at any time at rest: its log against all that was ever seen, its vector, its
 * ledger. */
void sim_check_host(struct sim_host *host);
/* A merge was committed just now: what it shows is judged by the next sim_check_host(). */
void sim_check_merged(struct sim_host *host);
/* It has a new sync engine, which is told of what the files have while begins; then of each merge
 * and freeze. */
void sim_check_engine(struct sim_host *host, bool begins);
void sim_check_set_merged(struct sim_host *host, const struct p2p_vv_entry *entry);
/* Whether all hosts have merged the same and nothing is under way. */
bool sim_check_level(struct sim *sim, char *why, size_t size);
/* Says on stderr what each has. */
void sim_check_explain(struct sim *sim);
/* At the end: rows, clocks, ledgers, verify, integrity, the twin. */
void sim_check_end(struct sim *sim);
/* views.c: what one file shows is whole. Changesets are learned in the order of their numbers. */
struct sim_views;
struct p2p_stored;
struct p2p_vv;
struct sim_views *sim_views_new(void);
void sim_views_free(struct sim_views *views);
void sim_views_learn(struct sim *sim, struct sim_views *views, const struct p2p_stored *stored);
void sim_views_note(struct sim_host *host, struct sim_views *views, const struct p2p_vv *merged);
/* It has frozen its own replica up to there just now. */
struct p2p_id;
void sim_views_frozen(struct sim_host *host, struct sim_views *views, const struct p2p_id *replica,
		      uint64_t seq);
void sim_views_check(struct sim_host *host, struct sim_views *views);
/* manners.c: how honest nodes treat one another. */
struct sim_manners;
struct sim_manners *sim_manners_new(void);
void sim_manners_free(struct sim_manners *manners);
/* A line of a node's log. */
void sim_manners_log(struct sim_host *host, const char *text);
void sim_manners_engine(struct sim_host *host, struct sim_manners *manners);
void sim_manners_merged(struct sim_host *host, struct sim_manners *manners,
			const struct p2p_vv_entry *entry, bool frozen);
void sim_manners_check(struct sim_host *host, struct sim_manners *manners);
/* history.c: rows and clocks of all hosts against one another and against the twin. */
void sim_check_history(struct sim *sim);
/* The handle of a live session of host with that node. */
struct p2p_key;
bool sim_check_peer(struct sim_host *host, const struct p2p_key *key, uint32_t *out);

#endif
