/* One of the application's tables as merge writes it: whole rows, changed columns, numbers.
 *
 * Values go in and come out by column index (struct p2p_table.columns). Statements are prepared
 * once and kept; they name the columns that they write, so that a column which a changeset does not
 * know gets its default from SQLite. What a constraint forbids is an outcome, never an error.
 *
 * Triggers of the application that keep what is not replicated run with each write
 * (crdt/triggers.h). One that fails is no outcome: the row is written without it. */
#ifndef P2P_CRDT_APPTABLE_H
#define P2P_CRDT_APPTABLE_H

#include <stdbool.h>

#include "crdt/store.h"

/* Values of one row by column index. */
struct p2p_cells {
	struct p2p_value *values; /* owned; what they point to is borrowed, see who fills them */
	uint8_t *set;		  /* owned: 1 where there is a value */
	uint32_t count;		  /* columns of the table */
	uint32_t cap;
};

void p2p_cells_init(struct p2p_cells *cells);
void p2p_cells_deinit(struct p2p_cells *cells);
/* Room for count columns, none set. P2P_ENOMEM. */
int p2p_cells_reset(struct p2p_cells *cells, uint32_t count) P2P_MUST_CHECK;
void p2p_cells_set(struct p2p_cells *cells, uint32_t column, const struct p2p_value *value);
bool p2p_cells_any(const struct p2p_cells *cells);

#define P2P_APPTABLE_STATEMENTS_MAX 16 /* column subsets kept prepared per table */

struct p2p_apptable_statement {
	struct sqlite3_stmt *stmt; /* owned */
	uint8_t *columns;	   /* owned: the set that it writes */
	bool insert;
	bool firing;   /* fires triggers of the application */
	uint64_t used; /* the least recent one makes room */
};

struct p2p_apptable {
	struct p2p_store *store; /* borrowed */
	struct p2p_table *table; /* borrowed until the store loads its tables again */
	struct p2p_apptable_statement statements[P2P_APPTABLE_STATEMENTS_MAX];
	size_t statement_count;
	uint64_t uses;
	struct sqlite3_stmt *remove; /* owned; NULL until needed */
	struct p2p_cells number;     /* a number alone */
	bool text_converted;	     /* the file is UTF-16: TEXT may come back changed */
	unsigned events;	     /* on which triggers of the application run */
	bool clauses; /* constraints of the table have ON CONFLICT clauses of their own */
};

/* After p2p_triggers_refresh(), where rows are to be written. */
int p2p_apptable_init(struct p2p_apptable *app, struct p2p_store *store,
		      struct p2p_table *table) P2P_MUST_CHECK;
void p2p_apptable_deinit(struct p2p_apptable *app);

/* Outcomes of the writes below, beside 0 and errors. */
#define P2P_APPTABLE_TAKEN   1 /* another row has the primary key */
#define P2P_APPTABLE_UNIQUE  2 /* a UNIQUE constraint or index */
#define P2P_APPTABLE_REFUSED 3 /* NOT NULL, a STRICT type, a CHECK, an expression that fails */

/* Writes the columns that are set; key columns must be. */
int p2p_apptable_insert(struct p2p_apptable *app, const struct p2p_cells *cells) P2P_MUST_CHECK;
/* key: values in key order, of the row as it is. Nothing set: nothing done. */
int p2p_apptable_update(struct p2p_apptable *app, const struct p2p_value *key,
			const struct p2p_cells *cells) P2P_MUST_CHECK;
/* 0 also when there is no such row. */
int p2p_apptable_delete(struct p2p_apptable *app, const struct p2p_value *key) P2P_MUST_CHECK;
/* Gives the row with number `from` the number `to`; generated identity only. Applications never
 * change numbers, and their triggers may not know how: they see the row go and come. */
int p2p_apptable_move(struct p2p_apptable *app, int64_t from, int64_t to) P2P_MUST_CHECK;
/* All stored columns of a row; values are borrowed until the next use of the store's row statement.
 * P2P_ENOENT. */
int p2p_apptable_read(struct p2p_apptable *app, const struct p2p_value *key,
		      struct p2p_cells *out) P2P_MUST_CHECK;
/* SQLite may store another value than this one in the column: read it back for its hash. */
bool p2p_apptable_converts(const struct p2p_apptable *app, uint32_t column,
			   const struct p2p_value *value);

/* SQL text: appends a name in double quotes, or a text as it is. */
void p2p_sql_name(struct p2p_buf *sql, const char *name);
void p2p_sql_text(struct p2p_buf *sql, const char *text);
/* An INSERT of the columns that are set; NULL: of all that are stored. Unless triggers are to fire
 * it is OR ABORT: the table's own ON CONFLICT REPLACE would delete other rows unseen. That would
 * also stand for the OR clauses in triggers (sqlite.org/lang_createtrigger.html). */
void p2p_sql_insert(struct p2p_buf *sql, const struct p2p_table *table, const uint8_t *set,
		    bool firing);
/* Prepares what sql holds, kept for long. P2P_ENOMEM, P2P_ETOOBIG, errors of SQLite. */
int p2p_sql_prepare(struct p2p_store *store, struct p2p_buf *sql,
		    struct sqlite3_stmt **out) P2P_MUST_CHECK;

#endif
