/* Parked rows: alive in the merged state, kept out of the application's table for now.
 *
 * Reasons: "unborn" (an update came for a life whose birth is not here), "unique" (an earlier row
 * has a value), "fk" (a row that it refers to is not shown), "not null" (a constraint of this file
 * forbids a cell), "key" (its key is taken by a row that is not replicated); "pending" only within
 * a transaction. Nothing is lost: the cells are in p2p_parked, and p2p_ref, and go on merging. What
 * brings rows back is in crdt/settle.h. */
#ifndef P2P_CRDT_PARKED_H
#define P2P_CRDT_PARKED_H

#include "crdt/rowwork.h"

/* (varint slot, value) for each cell that is set; errors gather in buf. The number of a generated
 * identity is not among them. */
void p2p_parked_encode(struct p2p_buf *buf, const struct p2p_table *table,
		       const struct p2p_cells *cells);
/* Sets the cells that are not set yet; they borrow from buf. P2P_ECORRUPT. */
int p2p_parked_decode(const struct p2p_buf *buf, const struct p2p_table *table,
		      struct p2p_cells *cells) P2P_MUST_CHECK;
/* Parks the row with its cells and references, which are whole: sets flag and hashes. It is not in
 * the table. */
int p2p_parked_put(struct p2p_rowwork *work, struct p2p_target *target,
		   const char *reason) P2P_MUST_CHECK;
/* Forgets its cells. */
int p2p_parked_drop(struct p2p_rowwork *work, struct p2p_target *target) P2P_MUST_CHECK;

#endif
