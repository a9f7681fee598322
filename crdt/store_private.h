/* What the files of the store share: store.c (the connection), store_meta.c (settings, replicas),
 * store_tables.c (which tables), store_enable.c, store_triggers.c, store_rows.c (row states and
 * what goes with them), store_rescan.c, store_defaults.c. */
#ifndef P2P_CRDT_STORE_PRIVATE_H
#define P2P_CRDT_STORE_PRIVATE_H

#include <sys/types.h>

#include "crdt/store.h"

struct sqlite3;
struct sqlite3_stmt;
struct p2p_triggers;

/* Statements that are prepared once; texts in store_rows.c and store.c. */
enum p2p_store_sql {
	P2P_SQL_META_GET,
	P2P_SQL_META_SET,
	P2P_SQL_REPLICA_ADD,
	P2P_SQL_TEMP_GET,
	P2P_SQL_TEMP_AT,
	P2P_SQL_TEMP_SET,
	P2P_SQL_TEMP_DELETE,
	P2P_SQL_TEMP_EACH,
	P2P_SQL_PARKED_GET,
	P2P_SQL_PARKED_PUT,
	P2P_SQL_PARKED_DELETE,
	P2P_SQL_PARKED_EACH,
	P2P_SQL_PARKED_COUNT,
	P2P_SQL_OUT_ANY,
	P2P_SQL_REF_GET,
	P2P_SQL_REF_EACH,
	P2P_SQL_REF_PUT,
	P2P_SQL_REF_DROP,
	P2P_SQL_REF_CLEAR,
	P2P_SQL_REF_CHILDREN,
	P2P_SQL_REF_WAITING,
	P2P_SQL_REF_ANY,
	P2P_SQL_REF_ANY_TO,
	P2P_SQL_CLAIM_PUT,
	P2P_SQL_CLAIM_DROP,
	P2P_SQL_CLAIM_EACH,
	P2P_SQL_CLAIM_EACH_HELD,
	P2P_SQL_CLAIM_OF,
	P2P_SQL_CLAIM_HELD,
	P2P_SQL_CLAIM_ANY,
	P2P_SQL_YIELD_PUT,
	P2P_SQL_YIELD_GET,
	P2P_SQL_YIELD_CLEAR,
	P2P_SQL_YIELD_ANY,
	P2P_SQL_COUNTER_EACH,
	P2P_SQL_COUNTER_PUT,
	P2P_SQL_COUNTER_REBASE,
	P2P_SQL_COUNTER_CLEAR,
	P2P_SQL_WAITING_PUT,
	P2P_SQL_WAITING_HAS,
	P2P_SQL_WAITING_DROP,
	P2P_SQL_WAITING_COUNT,
	P2P_SQL_VECTOR_SET,
	P2P_SQL_VECTOR_EACH,
	P2P_SQL_JOURNAL_MAX,
	P2P_SQL_JOURNAL_EACH,
	P2P_SQL_JOURNAL_TRIM,
	P2P_SQL_SEEN_EACH,
	P2P_SQL_SEEN_SET,
	P2P_SQL_CONFLICT_PUT,
	P2P_SQL_CONFLICT_NUMBER,
	P2P_SQL_CONFLICT_NUMBERED,
	P2P_SQL_CONFLICT_REGAINED,
	P2P_SQL_CONFLICT_CHECKED,
	P2P_SQL_CONFLICT_CHECK,
	P2P_SQL_CONFLICT_MENDED,
	P2P_SQL_CONFLICT_TRIM,
	P2P_SQL_CONFLICT_EACH,
	P2P_SQL_CONFLICT_GET,
	P2P_SQL_CONFLICT_DROP,
	P2P_SQL_CONFLICT_COUNT,
	P2P_SQL_PARKED_TELL,
	P2P_SQL_CONFLICT_EXPIRE,
	P2P_SQL_SCHEMA_VERSION,
	P2P_SQL_TEMP_VERSION,
	P2P_SQL_COUNT
};

/* Statements of one table. NULL until needed. */
struct p2p_store_table {
	struct sqlite3_stmt *get, *put, *claimants, *app_row;
	bool rescan; /* a trigger was lost */
	bool gone;   /* the application dropped the table, and this was noted */
};

struct p2p_store {
	struct sqlite3 *db;	       /* owned */
	struct sqlite3_stmt *rollback; /* owned: made before a transaction is, see store.c */
	bool unended;		       /* a transaction whose rollback found no memory */
	char *path;		       /* owned */
	const struct p2p_env *env;
	const struct p2p_log *log;
	bool create;
	bool enabled;
	struct p2p_hash_key hash_key;
	struct p2p_table *tables;	/* owned, by number */
	struct p2p_store_table *extras; /* owned, beside tables */
	size_t table_count;
	struct p2p_id *replicas; /* owned: number - 1 is the index */
	uint32_t replica_count, replica_cap;
	int64_t schema_version; /* at the last check */
	bool schema_pending;	/* that check is part of the transaction that is open */
	struct sqlite3_stmt *statements[P2P_SQL_COUNT];
	struct sqlite3_stmt *row; /* that stands on a row; borrowed */
	struct p2p_buf scratch;
	struct p2p_triggers *triggers; /* owned; NULL until asked for (crdt/triggers.h) */
	/* crdt/walfile.c */
	struct sqlite3 *checkpointer; /* owned: the second connection, NULL until needed */
	int shm_fd;		      /* SQLite's: borrowed, checked at each use */
	dev_t shm_dev;
	ino_t shm_ino;
	bool shm_found;
};

/* How a column is declared, beyond its name. */
#define P2P_SQL_DECLARED(table, column)                                      \
	"SELECT type || '|' || \"notnull\" || '|' || ifnull(dflt_value, '')" \
	" FROM pragma_table_xinfo(" table ", 'main') WHERE name = " column " COLLATE NOCASE"

/* P2P_E* of an SQLite result. */
int p2p_store_code(int sqlite_rc) P2P_MUST_CHECK;
/* Prepared and reset. P2P_ENOMEM, errors of SQLite. */
int p2p_store_statement(struct p2p_store *store, enum p2p_store_sql which,
			struct sqlite3_stmt **out) P2P_MUST_CHECK;
/* The next row of a walk that is well so far (*rc 0). At its end, whatever ends it, the statement
 * is reset: false, and *rc says whether it came to the last row. */
bool p2p_store_next(struct p2p_store *store, struct sqlite3_stmt *stmt, int *rc) P2P_MUST_CHECK;
/* Steps once and resets: 0 or an error. */
int p2p_store_run(struct p2p_store *store, struct sqlite3_stmt *stmt,
		  const char *what) P2P_MUST_CHECK;
int p2p_store_exec(struct p2p_store *store, const char *sql, struct p2p_error *err) P2P_MUST_CHECK;
void p2p_store_forget(struct p2p_store *store);	       /* statements and tables in memory */
void p2p_store_forget_tables(struct p2p_store *store); /* and what belongs to them */
struct p2p_store_table *p2p_store_extra(struct p2p_store *store, const struct p2p_table *table);
void p2p_triggers_forget(struct p2p_store *store); /* with the connection */
int p2p_store_load_tables(struct p2p_store *store, struct p2p_error *err) P2P_MUST_CHECK;
int p2p_store_load_replicas(struct p2p_store *store) P2P_MUST_CHECK;

/* SQL text: appends a number. */
void p2p_sql_number(struct p2p_buf *sql, int64_t number);
/* Runs what sql holds, and frees it. */
int p2p_store_sql_run(struct p2p_store *store, struct p2p_buf *sql,
		      struct p2p_error *err) P2P_MUST_CHECK;
/* crdt/store_off.c. How rows of a table are named: another kind makes other rows of them. */
int p2p_store_key_kind(const struct p2p_table *table, struct p2p_buf *out) P2P_MUST_CHECK;
bool p2p_store_key_kind_is(const struct p2p_buf *kind, const void *bytes, size_t len);
/* A table that was disabled: its number and count of slots; *out_same: its kind of key is as it
 * was. P2P_ENOENT: it never was enabled. */
int p2p_store_off_find(struct p2p_store *store, struct p2p_table *table,
		       bool *out_same) P2P_MUST_CHECK;
int p2p_store_off_end(struct p2p_store *store, const struct p2p_table *table,
		      struct p2p_error *err) P2P_MUST_CHECK;
/* crdt/store_tables.c. Slots that the columns have; UINT32_MAX for those that have none. */
int p2p_store_slots_read(struct p2p_store *store, struct p2p_table *table) P2P_MUST_CHECK;
/* Columns that are new get slots. *out_new: there were some. */
int p2p_store_slots_give(struct p2p_store *store, struct p2p_table *table,
			 bool *out_new) P2P_MUST_CHECK;
/* crdt/store_enable.c: makes the table of row states of a table, if it is not there. */
int p2p_store_rows_make(struct p2p_store *store, const struct p2p_table *table,
			struct p2p_error *err) P2P_MUST_CHECK;
/* crdt/store_columns.c: columns that were dropped and added again get new slots: *out_again says
 * that there were some, whose changes have to be merged again. rebuilt: the order of the columns
 * says nothing. After slots are given. */
int p2p_store_columns_place(struct p2p_store *store, struct p2p_table *table, bool rebuilt,
			    bool *out_again) P2P_MUST_CHECK;
/* The application dropped a table. */
int p2p_store_gone(struct p2p_store *store, const struct p2p_table *table,
		   struct p2p_error *err) P2P_MUST_CHECK;
/* Nothing is known of the rows of a table any more. */
int p2p_store_forget_rows(struct p2p_store *store, uint32_t number,
			  struct p2p_error *err) P2P_MUST_CHECK;
/* A table that is on again, loaded: what is known and not in the table is forgotten, for the log
 * brings it back; what differs is journalled. */
int p2p_store_compare(struct p2p_store *store, struct p2p_table *table,
		      struct p2p_error *err) P2P_MUST_CHECK;
/* The three triggers of a table. make: anew. check: they are there as make makes them. */
int p2p_store_triggers_make(struct p2p_store *store, const struct p2p_table *table,
			    struct p2p_error *err) P2P_MUST_CHECK;
int p2p_store_triggers_drop(struct p2p_store *store, const struct p2p_table *table,
			    struct p2p_error *err) P2P_MUST_CHECK;
int p2p_store_triggers_check(struct p2p_store *store, const struct p2p_table *table,
			     bool *out_there) P2P_MUST_CHECK;
/* Finds the references of all loaded tables (crdt/store_refs.c). */
int p2p_store_references_settle(struct p2p_store *store) P2P_MUST_CHECK;
/* A table that is about to be enabled has a lone INTEGER PRIMARY KEY that is a FOREIGN KEY to a
 * replicated table's: its rows are named by their parents. */
bool p2p_store_is_extension(struct p2p_store *store, const struct p2p_table *table);
/* Journals every row of a table as present at enabling; old: as of the year 1970. */
int p2p_store_journal_present(struct p2p_store *store, const struct p2p_table *table, bool old,
			      struct p2p_error *err) P2P_MUST_CHECK;
/* Journals one key as written now. */
int p2p_store_journal_key(struct p2p_store *store, const struct p2p_table *table,
			  const struct p2p_value *key) P2P_MUST_CHECK;

#endif
