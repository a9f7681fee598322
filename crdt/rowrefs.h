/* References of a row on its way through a merge: what its cells refer to, beside the values that
 * the table shows for them (crdt/rowwork.h). By column; unused for tables without FOREIGN KEYs. */
#ifndef P2P_CRDT_ROWREFS_H
#define P2P_CRDT_ROWREFS_H

#include "crdt/rowwork.h"

/* A table has columns that this is about. */
static inline bool p2p_rowrefs_any(const struct p2p_table *table)
{
	return table->reference_count || table->foreign_count;
}

int p2p_rowrefs_reset(struct p2p_rowwork *work, const struct p2p_table *table) P2P_MUST_CHECK;
/* key: of ROW, copied. */
int p2p_rowrefs_set(struct p2p_rowwork *work, uint32_t column, enum p2p_refcell_kind kind,
		    const void *key, size_t len) P2P_MUST_CHECK;
/* Fills in what is not set, of a row whose values are gathered. in_table: it stands there. */
int p2p_rowrefs_load(struct p2p_rowwork *work, struct p2p_target *target,
		     bool in_table) P2P_MUST_CHECK;
/* *out: all rows that are referred to, as far as it is known here, are shown; then the cells have
 * their numbers. */
int p2p_rowrefs_ready(struct p2p_rowwork *work, struct p2p_target *target,
		      bool *out) P2P_MUST_CHECK;
/* Sets cells to what they claim: the number of the target; its identity, when it has none. Sets key
 * columns, too, that are not set. */
int p2p_rowrefs_claimed(struct p2p_rowwork *work, struct p2p_target *target) P2P_MUST_CHECK;
/* Sets key columns that are not set, of a table without generated identity, as the identity says
 * them. A parent without a number: its identity. */
int p2p_rowrefs_key(struct p2p_rowwork *work, struct p2p_target *target) P2P_MUST_CHECK;
/* Writes the entries of p2p_ref for what is set. parked: the row is not in the table. */
int p2p_rowrefs_keep(struct p2p_rowwork *work, struct p2p_target *target,
		     bool parked) P2P_MUST_CHECK;
/* What a reference shows while its row is not shown. Never what could collide with other rows. */
enum p2p_instead p2p_rowrefs_instead(const struct p2p_target *target,
				     const struct p2p_reference *reference);
/* The refcell as bytes that order cells under one clock. */
int p2p_rowrefs_rank(const struct p2p_rowwork *work, uint32_t column,
		     struct p2p_buf *out) P2P_MUST_CHECK;

#endif
