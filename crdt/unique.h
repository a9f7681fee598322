/* UNIQUE constraints of one table as merge meets them: who holds a value, and since when.
 *
 * Only plain ones over columns are looked into. A partial index, or one over expressions or
 * generated columns, is left to SQLite: a row that it stops is parked. */
#ifndef P2P_CRDT_UNIQUE_H
#define P2P_CRDT_UNIQUE_H

#include "crdt/apptable.h"
#include "crdt/numbers.h"

struct p2p_unique {
	uint32_t *columns; /* owned: column indices */
	size_t count;
	struct sqlite3_stmt *find; /* owned: key of the row that holds given values */
};

struct p2p_uniques {
	struct p2p_apptable *app; /* borrowed */
	struct p2p_unique *items; /* owned */
	size_t count;
};

int p2p_uniques_init(struct p2p_uniques *uniques, struct p2p_apptable *app) P2P_MUST_CHECK;
void p2p_uniques_deinit(struct p2p_uniques *uniques);
/* When the row came to hold the youngest of its values; zero when it holds none. A value whose
 * columns were never written on their own is as old as the row. */
int p2p_uniques_time(const struct p2p_uniques *uniques, const struct p2p_rowstate *state,
		     const struct p2p_cells *cells, struct p2p_clock *out) P2P_MUST_CHECK;
/* Appends the identities (p2p_identity_put, each after its varint length) of the rows in the table
 * that hold a value of `cells`; one may come twice. */
int p2p_uniques_holders(struct p2p_uniques *uniques, struct p2p_numbers *numbers,
			const struct p2p_cells *cells, struct p2p_buf *out) P2P_MUST_CHECK;

#endif
