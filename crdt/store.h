/* The application's file: our connection to it, our tables in it, row states, vector, journal.
 *
 * Everything that must move with the rows lives here and moves in one transaction with them
 * (decisions 16): row states, the vector of merged remotes, `folded` (own seq and journal id whose
 * clocks are in here), parked and waiting state. Tables are plain SQL that SQLite 3.8.2 can read,
 * so that any program keeps working on the file. The connection runs with triggers and foreign_keys
 * off, CHECKs ignored, trusted_schema on (for JSON), synchronous=NORMAL, wal_autocheckpoint=0.
 *
 * Internal tables: p2p_meta(k,v), p2p_table, p2p_column, p2p_replica, p2p_journal(id,t,ms,k1,k2..),
 * p2p_vector, p2p_parked, p2p_waiting, p2p_temp, those of crdt/store_refs.h and one
 * p2p_row_<number> per table. */
#ifndef P2P_CRDT_STORE_H
#define P2P_CRDT_STORE_H

#include <stdbool.h>

#include "crdt/rowstate.h"
#include "crdt/schema.h"
#include "proto/env.h"
#include "proto/limits.h"
#include "proto/log.h"

struct sqlite3;
struct sqlite3_stmt;
struct p2p_store;

/* Format of the internal tables (decisions 58). */
#define P2P_STORE_FORMAT 1

struct p2p_store_config {
	const char *path; /* borrowed for the call */
	const struct p2p_env *env;
	const struct p2p_log *log; /* NULL allowed; both borrowed for the store's life */
	bool create;		   /* make the file when it is missing (join) */
};

/* Opens the file, switches it to WAL when it is not (*out_switched says so; may be NULL), refuses
 * what cannot work with an error that says what, why and what to do: missing (P2P_ENOENT),
 * read-only (P2P_EREADONLY), not SQLite (P2P_ENOTDB), locked for long (P2P_EBUSY), network file
 * system (P2P_EREFUSED, decisions 52), WAL impossible (P2P_EREFUSED), newer format (P2P_ENEWER),
 * full disk (P2P_EFULL). Does not create internal tables. */
int p2p_store_open(const struct p2p_store_config *config, struct p2p_store **out,
		   bool *out_switched, struct p2p_error *err) P2P_MUST_CHECK;
void p2p_store_close(struct p2p_store *store); /* NULL allowed */

struct sqlite3 *p2p_store_db(struct p2p_store *store); /* borrowed */
/* The file has our tables. */
bool p2p_store_enabled(const struct p2p_store *store);
/* Creates the internal tables if they are missing, inside the caller's transaction. */
int p2p_store_setup(struct p2p_store *store, struct p2p_error *err) P2P_MUST_CHECK;
/* Loads tables, columns, replicas into memory again; after open, setup, enable and rollback. */
int p2p_store_load(struct p2p_store *store, struct p2p_error *err) P2P_MUST_CHECK;
/* Takes triggers and internal tables out again: a plain file as before (one transaction). */
int p2p_store_unshare(struct p2p_store *store, struct p2p_error *err) P2P_MUST_CHECK;

/* Transactions. begin_write waits at most timeout_ms for the write lock (P2P_EBUSY). rollback never
 * fails and reloads nothing by itself; where SQLite has no memory for it (an index was made in the
 * transaction), the transaction ends at the next use of the store, or at settle, which say
 * P2P_ENOMEM until it did. After any error at commit: p2p_store_reopen() before further use. */
int p2p_store_begin_read(struct p2p_store *store, struct p2p_error *err) P2P_MUST_CHECK;
int p2p_store_begin_write(struct p2p_store *store, int timeout_ms,
			  struct p2p_error *err) P2P_MUST_CHECK;
int p2p_store_commit(struct p2p_store *store, struct p2p_error *err) P2P_MUST_CHECK;
void p2p_store_rollback(struct p2p_store *store);
int p2p_store_settle(struct p2p_store *store, struct p2p_error *err) P2P_MUST_CHECK;
int p2p_store_reopen(struct p2p_store *store, struct p2p_error *err) P2P_MUST_CHECK;
bool p2p_store_in_transaction(const struct p2p_store *store);

/* Settings (p2p_meta). get: P2P_ENOENT when unset; copies at most max bytes, P2P_ETOOBIG beyond. */
int p2p_store_meta_get(struct p2p_store *store, const char *key, void *out, size_t max,
		       size_t *out_len) P2P_MUST_CHECK;
int p2p_store_meta_set(struct p2p_store *store, const char *key, const void *value,
		       size_t len) P2P_MUST_CHECK;
int p2p_store_meta_get_u64(struct p2p_store *store, const char *key, uint64_t *out) P2P_MUST_CHECK;
int p2p_store_meta_set_u64(struct p2p_store *store, const char *key, uint64_t value) P2P_MUST_CHECK;

/* Replica ids <-> small numbers (from 1). number_of adds an unknown one (needs a write
 * transaction): P2P_ETOOBIG over P2P_REPLICAS_MAX. find: 0 when unknown. Small number 1 is not
 * special. */
int p2p_store_replica_number(struct p2p_store *store, const struct p2p_id *id,
			     uint32_t *out) P2P_MUST_CHECK;
uint32_t p2p_store_replica_find(const struct p2p_store *store, const struct p2p_id *id);
/* NULL for a number that was never given. */
const struct p2p_id *p2p_store_replica_id(const struct p2p_store *store, uint32_t number);

/* Key of the cell hashes of this file. */
const struct p2p_hash_key *p2p_store_hash_key(const struct p2p_store *store);

/* Replicated tables, in order of number; refused and local ones are not here. The array and what it
 * points to live until the next load. */
size_t p2p_store_table_count(const struct p2p_store *store);
struct p2p_table *p2p_store_table(struct p2p_store *store, size_t index);
struct p2p_table *p2p_store_table_by_id(struct p2p_store *store, const struct p2p_id *id);
struct p2p_table *p2p_store_table_by_number(struct p2p_store *store, uint32_t number);
struct p2p_table *p2p_store_table_by_name(struct p2p_store *store,
					  const char *name); /* ASCII case folded */

/* Rows that are in a table when it is enabled. */
enum p2p_present {
	P2P_PRESENT_NONE, /* there are none: a joiner's empty table */
	P2P_PRESENT_NOW,  /* journalled as written now */
	P2P_PRESENT_OLD,  /* journalled as older than anything: what the mesh has of a row wins */
};

/* Starts replicating a table (in a write transaction, after setup): gives it a number, slots and
 * triggers. Every row that is there is journalled as "present at enabling" (journal t = -number),
 * so that capture makes the first changesets of them. P2P_EREFUSED with the reason for a table that
 * cannot be; P2P_EEXIST when it is enabled. */
int p2p_store_enable(struct p2p_store *store, const char *name, enum p2p_present present,
		     struct p2p_error *err) P2P_MUST_CHECK;
/* What the mesh agreed on about a column when its table was enabled. */
struct p2p_choice {
	struct p2p_id column;
	uint32_t flags;	      /* P2P_COLUMN_COUNTER, P2P_COLUMN_NAMED */
	struct p2p_id parent; /* NAMED: table id */
};
struct p2p_enabling {
	const char *name; /* all borrowed for the call */
	enum p2p_present present;
	bool by_record; /* the mesh has it already: `generated` says its identities */
	bool generated;
	const struct p2p_choice *choices;
	size_t choice_count;
};
int p2p_store_enable_as(struct p2p_store *store, const struct p2p_enabling *enabling,
			struct p2p_error *err) P2P_MUST_CHECK;
/* Writes choices of a table that is enabled already; load afterwards. Unknown columns are passed
 * over. */
int p2p_store_choose(struct p2p_store *store, const struct p2p_table *table,
		     const struct p2p_choice *choices, size_t count) P2P_MUST_CHECK;
/* Stops: the triggers go. What is known of its rows stays, so that each is the same row when the
 * table is enabled again: then rows that were changed or added meanwhile are journalled, and rows
 * that are gone are forgotten, not deleted; the log has to be merged again to bring them back. A
 * table whose key is of another kind then begins anew. */
int p2p_store_disable(struct p2p_store *store, const char *name,
		      struct p2p_error *err) P2P_MUST_CHECK;
/* PRAGMA schema_version differs from the last check: reinstalls lost triggers, refreshes columns
 * (new ones get slots), returns in *out_rescan how many tables need p2p_store_rescan() because a
 * trigger was lost or the table was rebuilt; flags them in memory. Cheap when nothing changed. In a
 * write transaction, in which the rescan and the schema records have to follow: one that is rolled
 * back was no check. */
int p2p_store_check_schema(struct p2p_store *store, size_t *out_rescan,
			   struct p2p_error *err) P2P_MUST_CHECK;
/* The schema of the file, in a transaction of its snapshot, is not the one of the last check:
 * tables in memory do not say what columns there are. About 1 us. */
int p2p_store_schema_moved(struct p2p_store *store, bool *out) P2P_MUST_CHECK;
/* Compares every row of a table (NULL: all flagged by check_schema) with its row state and journals
 * the differing, new and missing keys. In a write transaction. *out_rows counts them. */
int p2p_store_rescan(struct p2p_store *store, const struct p2p_table *table, uint64_t *out_rows,
		     struct p2p_error *err) P2P_MUST_CHECK;
/* Rows that are known and no longer in the table: an INSERT OR REPLACE displaces rows through a
 * UNIQUE index without firing a DELETE trigger (design 4.1). A slice of the row states. */
struct p2p_missing {
	bool journal;	       /* their keys too, in a write transaction; else in a read one */
	uint64_t limit;	       /* row states to look at */
	struct p2p_buf *after; /* of this one, encoded identity, on; empty: the first. Moved on */
	uint64_t rows, looked; /* added to: missing, and states */
	bool end;	       /* there are no more */
};
int p2p_store_missing(struct p2p_store *store, struct p2p_table *table,
		      struct p2p_missing *slice) P2P_MUST_CHECK;
/* Remembers the schema record that is in force for a table. */
int p2p_store_set_schema(struct p2p_store *store, struct p2p_table *table,
			 const struct p2p_hash *schema) P2P_MUST_CHECK;

/* Row states. key: bytes of p2p_identity_put(). get: P2P_ENOENT when nothing is known; *out_number
 * (may be NULL) is the number that the row claims, generated identities only. */
int p2p_store_row_get(struct p2p_store *store, const struct p2p_table *table, const void *key,
		      size_t key_len, struct p2p_rowstate *out, int64_t *out_number) P2P_MUST_CHECK;
int p2p_store_row_put(struct p2p_store *store, const struct p2p_table *table, const void *key,
		      size_t key_len, const struct p2p_rowstate *state,
		      int64_t number) P2P_MUST_CHECK;
/* Live rows that claim a number, generated identities: calls each with the identity; a non-zero
 * result ends the walk and is returned. The row whose NUMBER identity is this number is among them
 * if it claims it. */
int p2p_store_claimants(struct p2p_store *store, const struct p2p_table *table, int64_t number,
			int (*each)(void *ctx, const struct p2p_identity *identity),
			void *ctx) P2P_MUST_CHECK;
/* Temporary numbers in force: table p2p_temp. shown_by: identity that shows `number` by a temporary
 * one (P2P_ENOENT: none). temp_get: the temporary number of a row (P2P_ENOENT). Any number can be
 * one for a while, also 0. */
int p2p_store_temp_by_number(struct p2p_store *store, const struct p2p_table *table, int64_t number,
			     struct p2p_buf *out_key) P2P_MUST_CHECK;
int p2p_store_temp_get(struct p2p_store *store, const struct p2p_table *table, const void *key,
		       size_t key_len, int64_t *out_shown) P2P_MUST_CHECK;
int p2p_store_temp_set(struct p2p_store *store, const struct p2p_table *table, const void *key,
		       size_t key_len, int64_t shown) P2P_MUST_CHECK;
int p2p_store_temp_drop(struct p2p_store *store, const struct p2p_table *table, const void *key,
			size_t key_len) P2P_MUST_CHECK;
int p2p_store_temp_each(struct p2p_store *store, const struct p2p_table *table,
			int (*each)(void *ctx, const void *key, size_t key_len, int64_t shown),
			void *ctx) P2P_MUST_CHECK;

/* Numbers that several rows claim, or one that shows another. */
int p2p_store_numbers_in_doubt(struct p2p_store *store, const struct p2p_table *table,
			       int (*each)(void *ctx, int64_t number), void *ctx) P2P_MUST_CHECK;

/* The greatest number of a table, at least 0: claimed by a live row, shown, or given by
 * AUTOINCREMENT. used: AUTOINCREMENT gives it to no other row, also when its row is gone; in a
 * write transaction. */
int p2p_store_number_top(struct p2p_store *store, const struct p2p_table *table,
			 int64_t *out) P2P_MUST_CHECK;
int p2p_store_number_used(struct p2p_store *store, const struct p2p_table *table,
			  int64_t number) P2P_MUST_CHECK;

/* Hash of what a DEFAULT with this text gives in a column of that affinity. A text of anybody's:
 * nothing of it reaches a file. P2P_ENOMEM. */
int p2p_store_default_of(const char *text, char affinity, const struct p2p_hash_key *key,
			 uint64_t *out) P2P_MUST_CHECK;
/* Hash of what a column holds in rows where nobody ever wrote it: its DEFAULT, or NULL. A column
 * that was added to a table is no change of its rows (design 4.5). */
int p2p_store_default_hash(struct p2p_store *store, struct p2p_table *table, uint32_t column,
			   uint64_t *out) P2P_MUST_CHECK;
/* Appends that value (p2p_value_put). */
int p2p_store_default_put(struct p2p_store *store, const struct p2p_table *table, uint32_t column,
			  struct p2p_buf *out) P2P_MUST_CHECK;
/* The same as a number: 0 when it is no INTEGER. */
int p2p_store_default_integer(struct p2p_store *store, struct p2p_table *table, uint32_t column,
			      int64_t *out) P2P_MUST_CHECK;
/* Is a cell other than what is known of it? hash: of what the table holds now. */
int p2p_store_cell_differs(struct p2p_store *store, struct p2p_table *table,
			   const struct p2p_rowstate *known, uint32_t column, uint64_t hash,
			   bool *out) P2P_MUST_CHECK;

/* Whether records of a table wait. */
int p2p_store_waiting_has(struct p2p_store *store, const struct p2p_id *table,
			  bool *out) P2P_MUST_CHECK;

/* Parked rows: alive, not in the table; cells is an encoded list of (varint slot, value). reason: a
 * short word ("unique", "unborn", "not null"). Empty cells remove. */
int p2p_store_parked_get(struct p2p_store *store, const struct p2p_table *table, const void *key,
			 size_t key_len, struct p2p_buf *out_cells) P2P_MUST_CHECK;
int p2p_store_parked_put(struct p2p_store *store, const struct p2p_table *table, const void *key,
			 size_t key_len, const struct p2p_buf *cells,
			 const char *reason) P2P_MUST_CHECK;
int p2p_store_parked_each(struct p2p_store *store, const struct p2p_table *table,
			  int (*each)(void *ctx, const void *key, size_t key_len),
			  void *ctx) P2P_MUST_CHECK;
/* For people: 0 when it cannot be read. */
uint64_t p2p_store_parked_count(struct p2p_store *store);
int p2p_store_parked_any(struct p2p_store *store, bool *out) P2P_MUST_CHECK;
/* Some row is parked, or shows a temporary number. */
int p2p_store_out_any(struct p2p_store *store, bool *out) P2P_MUST_CHECK;

/* Records that name a table or column this file does not have: kept durably (design 4.5). */
int p2p_store_waiting_put(struct p2p_store *store, const struct p2p_id *table,
			  const struct p2p_clock *clock, const struct p2p_hash *schema,
			  const void *record, size_t len) P2P_MUST_CHECK;
/* Forgets those of a table: they are merged again from the log. */
int p2p_store_waiting_drop(struct p2p_store *store, const struct p2p_id *table) P2P_MUST_CHECK;
uint64_t p2p_store_waiting_count(struct p2p_store *store);

/* Vector of what is merged into the rows of this file. head: hash of changeset seq. */
struct p2p_merged {
	struct p2p_id replica;
	uint64_t seq;
	struct p2p_hash head;
	struct p2p_hlc stamp;
};
int p2p_store_vector_set(struct p2p_store *store, const struct p2p_merged *entry) P2P_MUST_CHECK;
int p2p_store_vector_each(struct p2p_store *store,
			  int (*each)(void *ctx, const struct p2p_merged *entry),
			  void *ctx) P2P_MUST_CHECK;
/* Own changes: seq and journal id up to which row states are folded into this file. */
int p2p_store_folded_get(struct p2p_store *store, uint64_t *out_seq,
			 int64_t *out_journal) P2P_MUST_CHECK;
int p2p_store_folded_set(struct p2p_store *store, uint64_t seq, int64_t journal) P2P_MUST_CHECK;

/* Journal. max: greatest id (the last entry is always kept, so ids never start again). */
int p2p_store_journal_max(struct p2p_store *store, int64_t *out) P2P_MUST_CHECK;
struct p2p_journal_entry {
	int64_t id;
	int64_t ms; /* Unix, from the application's clock */
	uint32_t table;
	bool present; /* was there when the table was enabled */
	struct p2p_value
		key[P2P_KEY_COLUMNS_MAX]; /* key_count of the table; borrowed for the call */
};
/* Entries with id > after and <= upto in id order. */
int p2p_store_journal_each(struct p2p_store *store, int64_t after, int64_t upto,
			   int (*each)(void *ctx, const struct p2p_journal_entry *entry),
			   void *ctx) P2P_MUST_CHECK;
/* Deletes entries up to and including id, except the greatest of all. */
int p2p_store_journal_trim(struct p2p_store *store, int64_t upto) P2P_MUST_CHECK;

/* A row of the application's table by its key values: statement positioned on it, all non-generated
 * columns in slot-bearing declared order; P2P_ENOENT when there is none. The statement belongs to
 * the store, is reset by the next call or p2p_store_row_done(). */
int p2p_store_app_row(struct p2p_store *store, const struct p2p_table *table,
		      const struct p2p_value *key, struct sqlite3_stmt **out) P2P_MUST_CHECK;
void p2p_store_row_done(struct p2p_store *store);

/* Translates an SQLite result of the store's connection into P2P_E*, with text. */
int p2p_store_error(struct p2p_store *store, int sqlite_rc, struct p2p_error *err,
		    const char *what) P2P_MUST_CHECK;

#endif
