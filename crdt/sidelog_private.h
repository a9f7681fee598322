/* What the files of the side log share: sidelog.c (the connection), sidelog_changes.c (changesets),
 * sidelog_body.c (streams of records), sidelog_lists.c (records, peers, seeds, invites). */
#ifndef P2P_CRDT_SIDELOG_PRIVATE_H
#define P2P_CRDT_SIDELOG_PRIVATE_H

#include "crdt/sidelog.h"

struct sqlite3;
struct sqlite3_stmt;

enum sidelog_sql {
	SIDELOG_META_GET,
	SIDELOG_META_SET,
	SIDELOG_REPLICA_ADD,
	SIDELOG_REPLICA_HEAD,
	SIDELOG_CHANGE_PUT,
	SIDELOG_CHANGE_GET,
	SIDELOG_CHANGE_PROGRESS,
	SIDELOG_CHANGE_HAVE,
	SIDELOG_CHANGE_BODY,
	SIDELOG_CHANGE_BODY_SET,
	SIDELOG_CHANGE_DROP,
	SIDELOG_SEGMENT_PUT,
	SIDELOG_SEGMENT_GET,
	SIDELOG_SEGMENT_DROP,
	SIDELOG_NEXT_HAVE,
	SIDELOG_STAGED,
	SIDELOG_RECORD_PUT,
	SIDELOG_RECORD_EACH,
	SIDELOG_PEER_PUT,
	SIDELOG_PEER_EACH,
	SIDELOG_SEED_PUT,
	SIDELOG_SEED_EACH,
	SIDELOG_INVITE_PUT,
	SIDELOG_INVITE_EACH,
	SIDELOG_COUNT
};

/* One replica of the log, in memory as in the file. */
struct sidelog_replica {
	struct p2p_id id;
	struct p2p_vv_entry head; /* complete and contiguous */
};

struct p2p_sidelog {
	struct sqlite3 *db; /* owned */
	char *path;	    /* owned */
	const struct p2p_log *log;
	struct sqlite3_stmt *statements[SIDELOG_COUNT];
	struct sidelog_replica *replicas; /* owned: number - 1 is the index */
	size_t replica_count, replica_cap;
	bool touched; /* replicas in memory may be ahead of the file */
	bool doubt;   /* a commit failed: what is read may not be on the disk */
};

/* Changesets are numbered by replica number and seq. */
#define SIDELOG_SEQ_BITS 40
#define SIDELOG_SEQ_MAX	 ((1ull << SIDELOG_SEQ_BITS) - 1)

int sidelog_error(struct p2p_sidelog *log, int sqlite_rc, struct p2p_error *err,
		  const char *what) P2P_MUST_CHECK;
int sidelog_statement(struct p2p_sidelog *log, enum sidelog_sql which,
		      struct sqlite3_stmt **out) P2P_MUST_CHECK;
/* Steps once and resets: 0 or an error. */
int sidelog_run(struct p2p_sidelog *log, struct sqlite3_stmt *stmt,
		const char *what) P2P_MUST_CHECK;
/* Steps a query: 0 for a row, P2P_ENOENT, or an error; the caller resets. */
int sidelog_row(struct p2p_sidelog *log, struct sqlite3_stmt *stmt) P2P_MUST_CHECK;
/* Copies a blob of exactly len bytes. P2P_ECORRUPT. */
int sidelog_column(struct sqlite3_stmt *stmt, int column, void *out, size_t len) P2P_MUST_CHECK;

/* Opens the file again if that failed before. */
int sidelog_reconnect(struct p2p_sidelog *log, struct p2p_error *err) P2P_MUST_CHECK;
/* sidelog_changes.c */
int sidelog_load(struct p2p_sidelog *log) P2P_MUST_CHECK;
struct sidelog_replica *sidelog_find(struct p2p_sidelog *log, const struct p2p_id *id,
				     int64_t *out_number);
int sidelog_replica(struct p2p_sidelog *log, const struct p2p_id *id, int64_t *out_number,
		    struct sidelog_replica **out) P2P_MUST_CHECK;
/* Key of a changeset. P2P_ETOOBIG. */
int sidelog_key(int64_t number, uint64_t seq, int64_t *out) P2P_MUST_CHECK;
/* Segments of a body in the making: no header yet. */
int sidelog_put_early_segment(struct p2p_sidelog *log, int64_t key, uint32_t index,
			      const void *data, size_t len) P2P_MUST_CHECK;

#endif
