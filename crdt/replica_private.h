/* What the files of a replica share: replica.c (life, state), replica_identity.c (founding, the
 * replica id, the mark), replica_records.c (membership and schema records), replica_tables.c
 * (enable, disable, rescan), replica_adopt.c (tables of the mesh), replica_capture.c (local
 * changes), replica_fold.c (their row states), replica_merge.c (remote changes), replica_numbers.c
 * (permanent numbers), replica_log.c (the side log as the sync engine sees it), replica_verify.c.
 */
#ifndef P2P_CRDT_REPLICA_PRIVATE_H
#define P2P_CRDT_REPLICA_PRIVATE_H

#include "crdt/capture.h"
#include "crdt/mark.h"
#include "crdt/merge.h"
#include "crdt/replica.h"
#include "crdt/walfile.h"

struct sqlite3_stmt;

#define P2P_REPLICA_WAIT_MS  10000 /* for the lock of an application that is just writing */
#define P2P_AGAIN_TABLES_MAX 64	   /* more at once: all tables are looked at */

/* A walk over the log; see replica_again.c. */
struct p2p_again {
	struct p2p_id tables[P2P_AGAIN_TABLES_MAX];
	size_t table_count;
	bool active, all;
	struct p2p_vv todo; /* merged when it began */
	size_t at;	    /* entry of todo */
	uint64_t seq;	    /* next one of it */
};

/* Where a look for displaced rows stands: behind this row of this table. */
struct p2p_look {
	uint32_t table; /* number; 0: none is under way */
	struct p2p_buf after;
};

struct p2p_replica {
	struct p2p_replica_config config;
	char *db_path, *state_dir; /* owned */
	struct p2p_store *store;   /* owned, as all below */
	struct p2p_sidelog *sidelog;
	struct p2p_authority *authority;
	struct p2p_capture *capture; /* NULL until a member */
	struct p2p_merge *merge;
	struct p2p_sync *sync; /* NULL when offline */
	struct p2p_id id;      /* own; zero when there is none */
	struct p2p_mark mark;
	struct p2p_vv merged; /* rows; the own entry: frozen */
	struct p2p_vv told;   /* what own changesets named as dependencies */
	struct p2p_again again;
	struct p2p_dot *deps;		     /* owned: scratch */
	struct p2p_schema_ref *hello_tables; /* owned: scratch of p2p_replica_hello() */
	P2p__V1__SchemaRef *hello_refs;
	P2p__V1__SchemaRef **hello_list;
	struct sqlite3_stmt *data_version; /* owned */
	int64_t data_version_seen;
	size_t peers;	    /* live sessions */
	bool more;	    /* rows of an enabled table are still to be taken */
	bool unsynced;	    /* merged, the WAL not synced since */
	bool seal_due;	    /* there may be writes to seal: a session came up, or the own id was in
			       question */
	bool displaced_due; /* rows may have gone through a UNIQUE index, unseen */
	bool again_due;	    /* schema records came: what waited for them is merged again */
	bool numbers_due;   /* rows of ours may show temporary numbers */
	bool project_due;   /* own changes were folded without it: meta "project" */
	bool replicate_schema; /* for the mesh that is about to be founded */
	bool adopt_due;	       /* schema records came that are to be carried out */
	bool adopt_all;	       /* the application changed its schema: all of them */
	bool leave_id;	       /* a peer proved that this id went on elsewhere */
	bool broken;	  /* local trouble: what is in memory may not be what is in the files */
	bool broken_told; /* the owner ends the sessions */
	bool merge_alone; /* one group in a transaction: a later one is nonsense */
	bool look_now;	  /* somebody waits for what displaced_due finds */
	struct p2p_look look;
	struct p2p_time looked_at;     /* the last slice */
	struct p2p_time unsynced_at;   /* the first of these merges */
	struct p2p_time app_commit_at; /* last seen */
	struct p2p_time ready_at;      /* something can be merged since; 0: nothing */
	struct p2p_time beside_at;     /* last commit while a reader was there */
	struct p2p_time merged_at;     /* last commit of a merge */
	struct p2p_time numbers_at;    /* numbers_due since */
	struct p2p_time checkpoint_at; /* not again before */
	uint64_t hold_us[2];	       /* longest hold of the lock in this and the last minute */
	uint64_t hold_minute;
	const struct p2p_numbering *numbering; /* the next seal gives numbers; borrowed */
	bool numbering_more;		       /* it did not come to all */
	uint64_t adopted;    /* changes of schema records whose tables were looked at */
	bool refused_told;   /* that records were refused for want of room */
	uint64_t expired_ms; /* when old conflicts were dropped last */
	int last_error;
	char last_error_text[256];
};

/* replica.c */
/* Starts what a member has: capture, merge, sync. The file has our tables. */
int p2p_replica_begin(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;
void p2p_replica_end(struct p2p_replica *replica);
/* Reads the vector of the file and the own head again. */
int p2p_replica_load_vector(struct p2p_replica *replica) P2P_MUST_CHECK;
/* After a rollback of what changed tables: they are read again. An error breaks the replica. */
int p2p_replica_recover(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;
/* From now on nothing in memory is trusted; p2p_replica_whole() reads it anew. */
void p2p_replica_break(struct p2p_replica *replica);
/* 0 when nothing is broken, or it could be mended: everything is read again from the files, as at a
 * start. P2P_EIO while sessions are up (the owner is told to end them) or the files cannot be read:
 * tried again by the next call. First in every entry that works on the files. */
int p2p_replica_whole(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;
void p2p_replica_note_hold(struct p2p_replica *replica, uint64_t us);

/* replica_identity.c */
/* A member's file gets our tables and a number for the own replica, if it lacks them; decides by
 * the mark whether the id is still ours; writes the mark anew. */
int p2p_replica_take_place(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;
/* Leaves the id for a new one while running. No session may be up. */
int p2p_replica_change_id(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;
int p2p_replica_make_id(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;
int p2p_replica_setup_store(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;
void p2p_replica_mark_head(struct p2p_replica *replica);

/* replica_records.c */
/* Stores a packed Signed durably and tells the owner. 0, P2P_AUTHORITY_KNOWN or an error. */
int p2p_replica_keep_record(struct p2p_replica *replica, const void *raw, size_t len,
			    struct p2p_error *err) P2P_MUST_CHECK;

/* replica_tables.c */
/* A schema record in force for every table that is replicated here, made where there is none that
 * fits. Inside a write transaction. */
int p2p_replica_settle_schema(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;
/* Table and name that a schema record is of. P2P_EPROTO (of a later version), P2P_ENOMEM. */
int p2p_replica_record_table(const struct p2p_signed *record, struct p2p_id *out,
			     char name[256]) P2P_MUST_CHECK;
/* A transaction that changes the tables. begin: everything of the application is frozen and folded
 * before, so that nothing in memory is of the old tables. end commits if rc is 0, otherwise rolls
 * back; returns rc, or what went wrong then. */
int p2p_replica_change_begin(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;
int p2p_replica_change_end(struct p2p_replica *replica, int rc,
			   struct p2p_error *err) P2P_MUST_CHECK;
/* replica_adopt.c. Tables of the mesh that this file has and does not replicate yet. create: makes
 * missing ones. */
int p2p_replica_adopt_tables(struct p2p_replica *replica, bool create,
			     struct p2p_error *err) P2P_MUST_CHECK;
/* The same for records that are in force since it was done last. */
int p2p_replica_adopt_new(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;
/* The founder said that members carry out what schema records add. */
bool p2p_replica_carries(const struct p2p_replica *replica);
/* A person disabled the table. */
int p2p_replica_is_local(struct p2p_replica *replica, const struct p2p_id *table,
			 bool *out) P2P_MUST_CHECK;
/* replica_carry.c. In *out, which is true: the record has all indexes that the table has. */
int p2p_replica_indexes_fit(struct p2p_replica *replica, const struct p2p_hash *schema,
			    const struct p2p_table *table, bool *out) P2P_MUST_CHECK;
/* The mesh carries its schema, and a table of ours may lack what the record has. */
bool p2p_replica_can_grow(struct p2p_replica *replica, const struct p2p_signed *record,
			  const struct p2p_id *id);
/* Makes what is missing, or tells why not; tables are loaded anew. Only local trouble is an error.
 */
int p2p_replica_grow(struct p2p_replica *replica, const struct p2p_signed *record, const char *name,
		     struct p2p_error *err) P2P_MUST_CHECK;
/* The application may have changed its schema: tables in memory, slots, triggers and schema records
 * are of the file's from now on. Sets adopt_all when it had. No transaction may be open. */
int p2p_replica_check_schema(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;

/* replica_counters.c; all but news inside the transaction that changes the tables. */
/* Makes columns of tables that are replicated counters. */
int p2p_replica_count(struct p2p_replica *replica, const struct p2p_enable *wish,
		      struct p2p_error *err) P2P_MUST_CHECK;
/* A schema record says of columns that they are counters, and they are none here. */
int p2p_replica_counters_news(struct p2p_replica *replica, const struct p2p_signed *record,
			      bool *out) P2P_MUST_CHECK;
int p2p_replica_counters_learn(struct p2p_replica *replica, const struct p2p_signed *record,
			       struct p2p_error *err) P2P_MUST_CHECK;

/* replica_capture.c */
/* Nothing may be frozen now: the own replica is in question. */
bool p2p_replica_in_question(const struct p2p_replica *replica);
/* Captures and freezes, unless in question; *out_changesets counts (may be NULL). */
int p2p_replica_seal(struct p2p_replica *replica, size_t *out_changesets,
		     struct p2p_error *err) P2P_MUST_CHECK;

/* replica_fold.c */
/* A write transaction in which everything journalled is captured and folded. P2P_EBUSY: the lock is
 * taken, or the application is faster than we are. */
int p2p_replica_begin_fold(struct p2p_replica *replica, int timeout_ms,
			   struct p2p_error *err) P2P_MUST_CHECK;
/* Projects and commits it. */
int p2p_replica_end_fold(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;
/* The same, unless somebody reads: P2P_EBUSY, and nothing is left of it. Asked as late as can be,
 * after the projection: who begins to read before the commit cannot write in that transaction. */
int p2p_replica_end_fold_alone(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;
/* Commits what is folded without its projection: the next fold's is of everything. For when that
 * may meet rows that are not where they should be, which is about to be told. */
int p2p_replica_end_fold_later(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;
void p2p_replica_abort_fold(struct p2p_replica *replica);

/* replica_merge.c: p2p_body_reader_next() of ctx, as struct p2p_merge_source wants it. */
int p2p_replica_next_record(void *ctx, const uint8_t **out_data, size_t *out_len) P2P_MUST_CHECK;

/* replica_numbers.c: rows of ours that show a temporary number get a permanent one. */
/* After a commit of what was merged or folded. */
void p2p_replica_numbers_note(struct p2p_replica *replica);
/* beside: this is a moment to commit in the application's file, beside a reader or not; NULL: it is
 * none. *out_again_ms: until the next turn. */
int p2p_replica_numbers_turn(struct p2p_replica *replica, const bool *beside,
			     uint64_t *out_again_ms, struct p2p_error *err) P2P_MUST_CHECK;

/* replica_displaced.c: looks for rows that went without a trigger. One slice of a look, when the
 * application is at rest and all is folded. P2P_EBUSY: later. */
int p2p_replica_displaced_look(struct p2p_replica *replica, struct p2p_time now,
			       struct p2p_error *err) P2P_MUST_CHECK;
/* All of it at once: something is missed. */
int p2p_replica_displaced_all(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;
/* For somebody who waits: begins a fold and projects it, with a look where something is missed. */
int p2p_replica_begin_projected(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;
/* One is to come, or under way. */
bool p2p_replica_looking(const struct p2p_replica *replica);
/* ms until its next slice */
uint64_t p2p_replica_look_pause(const struct p2p_replica *replica, struct p2p_time now);

/* replica_again.c: changes of tables or columns that this file did not have when they came are
 * merged again from the log (design 4.5). */
/* Inside the transaction that brings the table or column. */
int p2p_replica_again_add(struct p2p_replica *replica, const struct p2p_id *table) P2P_MUST_CHECK;
/* What is left of it, after a start or a change of tables. */
int p2p_replica_again_load(struct p2p_replica *replica) P2P_MUST_CHECK;
/* Records wait of tables that are here: their schema record may have come after them. */
int p2p_replica_again_look(struct p2p_replica *replica, struct p2p_error *err) P2P_MUST_CHECK;
/* One slice; *out_more: there is another. P2P_EBUSY: not now. */
int p2p_replica_again_turn(struct p2p_replica *replica, bool *out_more,
			   struct p2p_error *err) P2P_MUST_CHECK;

/* replica_log.c */
/* As p2p_seen_stamp; ctx: the replica. */
int p2p_replica_stamp_of(void *ctx, const struct p2p_id *replica, uint64_t seq,
			 struct p2p_hlc *out) P2P_MUST_CHECK;
struct p2p_sync_log p2p_replica_sync_log(struct p2p_replica *replica);

/* replica_refs.c */
struct p2p_named_ref {
	char child[256], parent[256]; /* names as declared */
	struct p2p_choice choice;
};
/* Reads and checks what --ref says: wish->ref_count of them, owned by the caller. Errors as
 * p2p_replica_enable_as(). */
int p2p_replica_refs_read(struct p2p_replica *replica, const struct p2p_enable *wish,
			  struct p2p_named_ref **out, struct p2p_error *err) P2P_MUST_CHECK;

/* crdt/replica_order.c: the names of a wish with parents before children; refs: as many as it has;
 * out: room for count. */
int p2p_replica_order(struct p2p_replica *replica, const struct p2p_enable *wish,
		      const struct p2p_named_ref *refs, const char **out) P2P_MUST_CHECK;

#endif
