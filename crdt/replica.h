/* One replica: file, side log, capture, merge, membership records and sync engine, wired together.
 *
 * The one door of crdt/ for node/. No sockets, no threads: the owner calls in from one thread,
 * passes messages and time in, and gets messages and events out. All work is cut into slices
 * (p2p_replica_step). */
#ifndef P2P_CRDT_REPLICA_H
#define P2P_CRDT_REPLICA_H

#include "crdt/authority.h"
#include "crdt/sidelog.h"
#include "crdt/store.h"
#include "crdt/sync.h"

struct p2p_replica;

struct p2p_replica_callbacks {
	void *ctx;
	/* As p2p_sync_callbacks.send. */
	int (*send)(void *ctx, p2p_sync_peer peer, enum p2p_class cls, enum p2p_message_type type,
		    const ProtobufCMessage *message);
	void (*event)(void *ctx, const struct p2p_sync_event *event);
	/* Rows of the application's table were changed by a merge. */
	void (*merged)(void *ctx, const struct p2p_id *replica, uint64_t seq, uint64_t rows);
	/* Records were added here (made or received): send them to the other sessions. raw
	 * borrowed. */
	void (*record)(void *ctx, const struct p2p_signed *record);
};

struct p2p_replica_config {
	const char *db_path;   /* all borrowed for the replica's life */
	const char *state_dir; /* exists */
	const struct p2p_env *env;
	const struct p2p_log *log;
	const struct p2p_signer *signer;
	struct p2p_replica_callbacks callbacks;
	bool create_db;		    /* join: make the file */
	uint32_t apply_interval_ms; /* how long a remote change may wait for a moment without
				       readers */
	bool offline; /* for CLI verbs without a node: no sync engine, no changes of state but asked
			 ones */
};

/* Opens file and log, loads records, decides by the mark whether the replica id is still mine
 * (decision 48), rebuilds the overlay. *out_switched: the file was switched to WAL. Errors as
 * p2p_store_open, p2p_sidelog_open. A file that is not a member opens too: p2p_replica_member() is
 * false. */
int p2p_replica_open(const struct p2p_replica_config *config, struct p2p_replica **out,
		     bool *out_switched, struct p2p_error *err) P2P_MUST_CHECK;
void p2p_replica_close(struct p2p_replica *replica); /* NULL allowed */

bool p2p_replica_member(
	const struct p2p_replica *replica); /* the genesis is known and I am in the mesh */
struct p2p_store *p2p_replica_store(struct p2p_replica *replica);
struct p2p_sidelog *p2p_replica_sidelog(struct p2p_replica *replica);
struct p2p_authority *p2p_replica_authority(struct p2p_replica *replica);
struct p2p_sync *p2p_replica_sync(struct p2p_replica *replica); /* NULL when offline or no member */
const struct p2p_id *p2p_replica_id(const struct p2p_replica *replica);

/* Makes a mesh of the file: genesis, own certificate. P2P_EEXIST: has one; P2P_EAUTH: is in one of
 * which this node is no member. */
int p2p_replica_found(struct p2p_replica *replica, const char *name,
		      struct p2p_error *err) P2P_MUST_CHECK;
/* Before found: the mesh will carry its schema (--replicate-schema): what schema records of members
 * add, tables, columns and indexes, is made in every file. P2P_EREFUSED: a mesh that exists was
 * founded without. */
int p2p_replica_replicate_schema(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;
/* Takes records in (joining: the genesis first, expected mesh set; later: gossip). Each is
 * verified, stored durably, told by callbacks.record. Schema records of tables that this file lacks
 * create the table when `create` (a joiner's new file). *out_new counts. P2P_EAUTH, P2P_EMESH,
 * P2P_EPROTO: the peer's fault, what was valid before it is kept. */
int p2p_replica_add_records(struct p2p_replica *replica, const P2p__V1__Signed *const *records,
			    size_t count, size_t *out_new, struct p2p_error *err) P2P_MUST_CHECK;
/* Same for one packed Signed that this node made. */
int p2p_replica_add_record(struct p2p_replica *replica, const void *raw, size_t len,
			   struct p2p_error *err) P2P_MUST_CHECK;
void p2p_replica_expect(struct p2p_replica *replica, const struct p2p_hash *mesh);
/* After a join's records: makes my replica id and certificate, creates and enables the mesh's
 * tables that this file lacks, and remembers that I am a member. Safe to call again. */
int p2p_replica_adopt(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;

/* Starts replicating tables (names NULL: all that can be). Existing rows become changesets.
 * refused(ctx, table) tells of those that cannot be when names is NULL; with names given a refusal
 * is P2P_EREFUSED and nothing changed. */
int p2p_replica_enable(struct p2p_replica *replica, const char *const *names, size_t count,
		       const char *const *exclude, size_t exclude_count,
		       struct p2p_error *err) P2P_MUST_CHECK;
/* The same for what is chosen beyond the tables. */
struct p2p_enable {
	const char *const *names; /* all borrowed for the call; NULL: all tables */
	size_t count;
	const char *const *exclude; /* of all tables */
	size_t exclude_count;
	/* "COLUMN=PARENT", or "TABLE.COLUMN=PARENT": columns that refer to rows of a table although
	 * no FOREIGN KEY says so. They follow a row that gets another number. */
	const char *const *refs;
	size_t ref_count;
	/* "COLUMN", or "TABLE.COLUMN": columns that are counters from now on, in the whole mesh;
	 * also of tables that are replicated already. */
	const char *const *counters;
	size_t counter_count;
};
/* With choices, tables that are replicated already are passed over; a choice that they do not have
 * is refused. P2P_EINVAL: not of that form, or ambiguous; P2P_ENOENT: no such table or column;
 * P2P_EREFUSED: it cannot be one; nothing was changed. */
int p2p_replica_enable_as(struct p2p_replica *replica, const struct p2p_enable *wish,
			  struct p2p_error *err) P2P_MUST_CHECK;
/* Only looks whether the choices can be made. No member need be. */
int p2p_replica_enable_check(struct p2p_replica *replica, const struct p2p_enable *wish,
			     struct p2p_error *err) P2P_MUST_CHECK;
int p2p_replica_disable(struct p2p_replica *replica, const char *const *names, size_t count,
			struct p2p_error *err) P2P_MUST_CHECK;
int p2p_replica_rescan(struct p2p_replica *replica, const char *const *names, size_t count,
		       uint64_t *out_rows, struct p2p_error *err) P2P_MUST_CHECK;
/* What was committed to the database survives a power cut afterwards (fdatasync of its WAL).
 * P2P_EIO, P2P_EFULL, P2P_EBUSY. */
int p2p_replica_harden(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;
/* Writes the lost side of a conflict back as a new local change. As p2p_conflicts_restore(), and
 * P2P_ESTATE, P2P_EBUSY. */
int p2p_replica_restore(struct p2p_replica *replica, int64_t conflict,
			struct p2p_error *err) P2P_MUST_CHECK;
/* Captures and freezes what is journalled (vector, wait, verify, before a session's first Changes).
 */
int p2p_replica_freeze(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;
/* Checks every stored signature, chain, clock and the projection; P2P_ECORRUPT names what is wrong.
 */
int p2p_replica_verify(struct p2p_replica *replica, uint64_t *out_changesets, uint64_t *out_rows,
		       struct p2p_error *err) P2P_MUST_CHECK;

/* The application may have committed (data_version moved, or the poll): captures; freezes and
 * announces when a peer is live. *out_changed: something was captured. */
int p2p_replica_poll(struct p2p_replica *replica, bool *out_changed,
		     struct p2p_error *err) P2P_MUST_CHECK;
/* What `looking` in the status says is done at the next step, not when the application rests. */
void p2p_replica_look_now(struct p2p_replica *replica);
/* PRAGMA data_version moved since the last call: about 1 us. */
bool p2p_replica_file_moved(struct p2p_replica *replica);
/* One bounded slice of merging, folding, WAL sync for acks, checkpointing, sync timers. Returns in
 * *out_next when to be called again at the latest. Local trouble (disk full, locked) is reported as
 * an error and retried by later calls; sessions stay. */
int p2p_replica_step(struct p2p_replica *replica, struct p2p_time *out_next,
		     struct p2p_error *err) P2P_MUST_CHECK;

/* Fills the Hello of a session. Arrays borrowed until the next call. */
int p2p_replica_hello(struct p2p_replica *replica, P2p__V1__Hello *out) P2P_MUST_CHECK;
int p2p_replica_peer_up(struct p2p_replica *replica, p2p_sync_peer peer, const struct p2p_key *node,
			const P2p__V1__Hello *hello) P2P_MUST_CHECK;
void p2p_replica_peer_down(struct p2p_replica *replica, p2p_sync_peer peer);
void p2p_replica_writable(struct p2p_replica *replica, p2p_sync_peer peer);
int p2p_replica_receive(struct p2p_replica *replica, p2p_sync_peer peer,
			const struct p2p_message *message) P2P_MUST_CHECK;

struct p2p_replica_status {
	struct p2p_hash digest;
	uint64_t seq;	  /* own head */
	uint64_t journal; /* local changes not frozen: journalled or provisional */
	uint64_t waiting, parked, conflicts;
	bool looking; /* rows that INSERT OR REPLACE pushed out are looked for, once a peer is up */
	bool numbering;		/* rows of ours that lost their number get another one */
	uint64_t merge_pending; /* changesets complete in the log, not merged */
	uint64_t hold_us_max;	/* longest hold of the write lock in the last minute */
	int last_error;		/* of step or poll; 0 when the last went well */
	char last_error_text[256];
};
int p2p_replica_status(struct p2p_replica *replica, struct p2p_replica_status *out) P2P_MUST_CHECK;
/* Number of rows of a replicated table as the application sees it. P2P_ENOENT: it dropped it, and
 * this was not noticed yet. */
int p2p_replica_table_rows(struct p2p_replica *replica, const struct p2p_table *table,
			   uint64_t *out) P2P_MUST_CHECK;
/* What waits of a table for a migration of its application, in words: "2 records wait for column
 * x"; empty: nothing. */
int p2p_replica_waits_for(struct p2p_replica *replica, const struct p2p_id *table, char *out,
			  size_t size) P2P_MUST_CHECK;
/* Tables of the mesh that this file never had, and that nobody disabled here. */
int p2p_replica_each_missing(struct p2p_replica *replica,
			     int (*each)(void *ctx, const struct p2p_id *table, const char *name),
			     void *ctx) P2P_MUST_CHECK;
/* Everything this vector names is merged (or frozen) here. */
bool p2p_replica_covers(struct p2p_replica *replica, const struct p2p_vv *need);
int p2p_replica_vector(struct p2p_replica *replica, struct p2p_vv *out) P2P_MUST_CHECK;

#endif
