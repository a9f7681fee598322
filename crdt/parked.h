/* Parked rows: alive in the merged state, kept out of the application's table for now.
 *
 * Reasons: "unborn" (an update came for a life whose birth is not here), "unique" (an earlier row
 * has a value), "not null" (a constraint of this file forbids a cell), "key" (its key is taken by a
 * row that is not replicated). Nothing is lost: the cells are in p2p_parked and go on merging.
 *
 * UNIQUE: of two rows that meet, the one whose youngest claim is earlier (then the lesser identity)
 * is in the table. Tried again at the end of each merge that touched the table, earliest first, so
 * that the rows shown do not depend on the order of arrival. Partial indexes and those over
 * expressions park whoever comes second; yields and FOREIGN KEYs are not projected yet. */
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
/* Parks the row with its cells: sets flag and hashes. It is not in the table. */
int p2p_parked_put(struct p2p_rowwork *work, struct p2p_target *target,
		   const char *reason) P2P_MUST_CHECK;
/* Forgets its cells. */
int p2p_parked_drop(struct p2p_rowwork *work, struct p2p_target *target) P2P_MUST_CHECK;
/* Makes room for a row (its cells are whole): parks the rows that hold its values if all of them
 * come later. P2P_PARKED_EARLIER: one is earlier, or none was found; nothing changed. */
#define P2P_PARKED_EARLIER 1
int p2p_parked_resolve(struct p2p_rowwork *work, struct p2p_target *target) P2P_MUST_CHECK;
/* Tries all parked rows of the table again. work is used. */
int p2p_parked_retry(struct p2p_rowwork *work, struct p2p_target *target) P2P_MUST_CHECK;

#endif
