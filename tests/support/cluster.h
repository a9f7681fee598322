/* Many replicas of one mesh in one process: real files and real SQL, messages packed and unpacked
 * as on a wire, time and randomness made here, so that a run can be repeated by its seed.
 *
 * Everything aborts the test with a text when it fails. */
#ifndef P2P_TESTS_SUPPORT_CLUSTER_H
#define P2P_TESTS_SUPPORT_CLUSTER_H

#include <stdbool.h>

#include "crdt/replica.h"

#define CLUSTER_NODES_MAX 64

struct cluster;

struct cluster_node {
	struct cluster *cluster;
	size_t index;
	char dir[96], path[128], state[128];
	uint8_t secret[64];
	struct p2p_signer signer;
	struct p2p_replica *replica; /* NULL: stopped */
	struct sqlite3 *app;	     /* what an application holds: knows nothing of us */
	struct p2p_time next;	     /* step again */
	uint64_t merged, events[P2P_SYNC_ANEW + 1]; /* counted */
	bool leaves; /* its sessions end: it takes a new replica id */
	int64_t clock_skew_ms;
	uint64_t bytes_sent, messages_sent;
};

/* One direction of a session. */
struct cluster_link {
	bool up;
	p2p_sync_peer handle; /* of `to` at `from` */
	uint64_t queued;      /* messages under way */
};

struct cluster_message {
	struct cluster_message *next;
	size_t from, to;
	uint64_t session, due_ms, order;
	uint8_t *data; /* owned */
	size_t len;
};

struct cluster {
	struct cluster_node nodes[CLUSTER_NODES_MAX];
	size_t count;
	struct cluster_link links[CLUSTER_NODES_MAX][CLUSTER_NODES_MAX]; /* from, to */
	uint64_t sessions[CLUSTER_NODES_MAX][CLUSTER_NODES_MAX];	 /* number of the session */
	struct cluster_message *messages;				 /* owned, by due time */
	uint64_t now_ms, wall_base_ms, random, order;
	uint64_t delay_ms; /* greatest, of a message */
	p2p_sync_peer handles;
	struct p2p_hash mesh;
	struct p2p_env env[CLUSTER_NODES_MAX];
	const char *verbose;
	/* Of the next draws of as many bytes as an id has, each begins like this one. */
	struct p2p_id draw;
	unsigned int draws;
	bool records_held; /* what nodes record is told by cluster_tell() only */
};

void cluster_init(struct cluster *cluster, uint64_t seed);
void cluster_deinit(struct cluster *cluster);
uint64_t cluster_random(struct cluster *cluster, uint64_t below);
/* The first node: its file is made by sql, all its tables are shared. */
void cluster_share(struct cluster *cluster, const char *sql);
/* One more, with a new file, admitted by the first; not connected. */
struct cluster_node *cluster_join(struct cluster *cluster);
/* A node that is stopped starts under another key; admitted: node 0 admits that. */
void cluster_rekey(struct cluster *cluster, size_t index, bool admitted);
/* Stops a node as a kill does (nothing is saved), and starts it again. */
void cluster_kill(struct cluster *cluster, size_t node);
void cluster_start(struct cluster *cluster, size_t node);
/* Copies a node's database and state aside, and back when it is stopped: a backup that is restored.
 * what: "db", "log" or "all". */
void cluster_save(struct cluster *cluster, size_t node);
void cluster_restore(struct cluster *cluster, size_t node, const char *what);
/* A stopped node's database becomes another file with the same content. */
void cluster_copy(struct cluster *cluster, size_t node);
/* All running nodes have all records, and adopt what they say of tables. */
void cluster_tell(struct cluster *cluster);
void cluster_connect(struct cluster *cluster, size_t a, size_t b);
void cluster_disconnect(struct cluster *cluster, size_t a, size_t b);
bool cluster_connected(const struct cluster *cluster, size_t a, size_t b);
/* Whole: all pairs. */
void cluster_connect_all(struct cluster *cluster);
/* As an application does it. try: 0 or SQLite's error. */
void cluster_sql(struct cluster *cluster, size_t node, const char *sql);
int cluster_try(struct cluster *cluster, size_t node, const char *sql);
/* All nodes look at their files, then work for so long in virtual time. */
void cluster_run(struct cluster *cluster, uint64_t ms);
/* Until all live nodes have the same vector and nothing is pending: true; false after limit_ms. */
bool cluster_settle(struct cluster *cluster, uint64_t limit_ms);
/* Rows of a query, values as SQLite's quote() writes them. Owned by the caller (free()). */
char *cluster_rows(struct cluster *cluster, size_t node, const char *sql);
/* Every table's rows are equal on all live nodes; prints the first difference. */
bool cluster_equal(struct cluster *cluster);
/* Fails the process with a text. */
_Noreturn void cluster_fail(const char *what, int rc, const char *text);

#endif
