/* Indexes that are partial, or over expressions or generated columns: what a row claims under them
 * is found by SQLite itself, in a private database in memory that has the same table.
 *
 * The text of the index is only cut into its terms and its WHERE, never read. */
#ifndef P2P_CRDT_UNIQUE_INDEX_H
#define P2P_CRDT_UNIQUE_INDEX_H

#include "crdt/apptable.h"

struct p2p_unique_index;

struct p2p_index_text {
	const char *name; /* of the index */
	const char *sql;  /* CREATE INDEX; NULL: of a UNIQUE in CREATE TABLE */
};

/* 1: none that can be looked into; a row that it stops is parked. */
int p2p_unique_index_new(struct p2p_apptable *app, const struct p2p_index_text *text,
			 struct p2p_unique_index **out) P2P_MUST_CHECK;
void p2p_unique_index_free(struct p2p_unique_index *index); /* NULL allowed */
/* Columns that it has to do with: 1 by column. */
const uint8_t *p2p_unique_index_columns(const struct p2p_unique_index *index);
/* Adds what makes it another constraint than its columns do. */
void p2p_unique_index_id(const struct p2p_unique_index *index, struct p2p_hasher *hasher);
/* Appends the canonical values that a row claims. *out_none: nothing. */
int p2p_unique_index_tuple(struct p2p_unique_index *index, const struct p2p_cells *cells,
			   const struct p2p_cells *defaults, struct p2p_buf *out,
			   bool *out_none) P2P_MUST_CHECK;
/* Appends SQL that is true for rows that claim the same: its parameters are the terms. */
void p2p_unique_index_where(const struct p2p_unique_index *index, struct p2p_buf *sql);
/* Binds the values of the last tuple to a statement with that WHERE. */
int p2p_unique_index_bind(struct p2p_unique_index *index, struct sqlite3_stmt *find) P2P_MUST_CHECK;

#endif
