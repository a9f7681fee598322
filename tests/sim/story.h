/* A story: a short run of a few hosts, A, B, C..., and the trace of what happened.
 *
 * The trace holds what matters to a reader and nothing that changes without a reason: no keys,
 * hashes or sizes; replica ids are the letters of their hosts. It is the same with every compiler.
 * stories.c tells the stories; trace.c puts into words what nodes say; story.c is the stage. */
#ifndef P2P_TESTS_SIM_STORY_H
#define P2P_TESTS_SIM_STORY_H

#include "node/node.h"
#include "proto/message.h"
#include "tests/sim/sim.h"

#define STORY_HOSTS_MAX	   4
#define STORY_REPLICAS_MAX 8
#define STORY_LOSSES_MAX   4
#define STORY_DIALS_MAX	   64

/* What becomes of a message that is lost. */
enum story_loss {
	STORY_ALONE,	 /* it is gone; the session stays */
	STORY_LINK,	 /* with the link, which breaks */
	STORY_KILLED,	 /* its sender is killed before it leaves */
	STORY_POWER_CUT, /* the machine of its sender stops before it leaves */
};

struct story_lost {
	size_t from, to;
	enum p2p_message_type type;
	enum story_loss how;
	bool due;
};

struct story_dial {
	uint32_t id;
	size_t from, to;
};

struct story {
	struct sim sim;
	char *text; /* owned: the trace, ends with zero */
	size_t len, cap;
	bool quiet; /* nothing goes into the trace */
	uint64_t begin_ms;
	struct p2p_key keys[STORY_HOSTS_MAX]; /* zero: not known yet */
	struct {
		struct p2p_id id;
		size_t host;
		uint64_t frozen;
	} replicas[STORY_REPLICAS_MAX];
	size_t replica_count;
	struct story_lost losses[STORY_LOSSES_MAX];
	size_t loss_count;
	struct story_dial dials[STORY_DIALS_MAX];
	size_t dial_count;
	unsigned int unsynced; /* copies of joiners that the disk does not take yet */
};

/* The one that runs. */
extern struct story *story_running;

/* --- story.c: what a story is made of --------------------------------------------------------- */

/* A mesh of so many hosts: A made it, all are members, all is quiet. */
void story_mesh(struct story *story, size_t hosts);
/* From here on there is a trace; now is 0 ms. */
void story_begin(struct story *story);
/* An application commits this SQL. */
void story_sql(struct story *story, char host, const char *sql);
void story_run(struct story *story, uint64_t ms);
/* Until all hosts have merged the same, at most ms. */
void story_level(struct story *story, uint64_t ms);
/* What this query shows at all hosts that run. */
void story_show(struct story *story, const char *sql);
/* A sentence of the teller's. */
void story_say(struct story *story, const char *text);
/* One more host, that joins. */
void story_join(struct story *story);
/* Two hosts do not hear each other, or do again. */
void story_apart(struct story *story, char a, char b);
void story_together(struct story *story, char a, char b);
void story_stop(struct story *story, char host);
void story_kill(struct story *story, char host);
void story_start(struct story *story, char host);
void story_clock(struct story *story, char host, int64_t minutes);
/* The next message of this type from one to the other is lost. */
void story_lose(struct story *story, char from, char to, enum p2p_message_type type,
		enum story_loss how);

/* So many times the disk does not sync the copy that a joiner has made. */
void story_unsynced(struct story *story, unsigned int times);

/* Runs one; at its end all must be level. Returns its trace, owned by the caller. */
char *story_tell(void (*tell)(struct story *story));

/* --- trace.c: what happened, in words --------------------------------------------------------- */

void story_line(struct story *story, const char *format, ...) __attribute__((format(printf, 2, 3)));
char story_letter(size_t host);
/* SIZE_MAX: nobody's. */
size_t story_host_of_key(struct story *story, const struct p2p_key *key);
/* What a node sends. lost: NULL, or what becomes of it. */
void story_message(struct story *story, size_t from, size_t to, const struct p2p_message *message,
		   const char *lost);
/* The engine was told that so much of a replica is in the tables: of the own one it is a freeze. */
void story_frozen(struct story *story, struct sim_host *host, const struct p2p_vv_entry *entry);
void story_event(struct sim_host *host, const p2p_node_event *event);
/* "A", or "A'" for a second replica id of that host. Static for up to 4 calls. */
const char *story_replica(struct story *story, const struct p2p_id *id);

#endif
