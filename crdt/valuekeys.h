/* FOREIGN KEYs that are no references: of several columns, of TEXT, to a UNIQUE column. Their cells
 * are plain values: such a key keeps its row out of the table while no shown row has the values,
 * but it follows nobody.
 *
 * A tuple of values is named by its hash under the parent's columns, with their affinities and
 * collations. The row that waits has an entry in p2p_ref whose key is that name and whose slot is
 * P2P_SLOTS_MAX and more. */
#ifndef P2P_CRDT_VALUEKEYS_H
#define P2P_CRDT_VALUEKEYS_H

#include "crdt/settle.h"

/* A FOREIGN KEY of another table, or of its own, into this one. */
struct p2p_valuekey {
	struct p2p_table *table; /* the child; borrowed, like the target's */
	uint32_t foreign;
	struct sqlite3_stmt *children; /* owned; NULL until needed */
};

int p2p_valuekeys_init(struct p2p_target *target) P2P_MUST_CHECK;
void p2p_valuekeys_deinit(struct p2p_target *target);
/* Name of what a row refers to by one of its FOREIGN KEYs; its cells are whole. *out_none: nothing:
 * a NULL, or loose. */
int p2p_valuekeys_name(struct p2p_target *target, const struct p2p_rowwork *work, uint32_t foreign,
		       struct p2p_id *out, bool *out_none) P2P_MUST_CHECK;
/* Encoded identity of the row in the parent's table that has the values. P2P_ENOENT. */
int p2p_valuekeys_parent(struct p2p_target *target, const struct p2p_cells *cells, uint32_t foreign,
			 struct p2p_buf *out) P2P_MUST_CHECK;
/* *out: by none of its keys that are set, as far as it is known, does the row wait. */
int p2p_valuekeys_ready(struct p2p_target *target, const struct p2p_rowwork *work, bool whole,
			bool *out) P2P_MUST_CHECK;
/* Names that a row has for its children. */
int p2p_valuekeys_names(struct p2p_target *target, const struct p2p_cells *cells,
			int (*each)(void *ctx, const struct p2p_id *name),
			void *ctx) P2P_MUST_CHECK;
/* Rows in the tables that have the values of this one: by encoded identity. */
int p2p_valuekeys_children(struct p2p_target *target, const struct p2p_cells *cells,
			   p2p_plan_each each, void *ctx) P2P_MUST_CHECK;
/* Something is set that other rows may refer to. */
bool p2p_valuekeys_touched(const struct p2p_target *target, const struct p2p_cells *cells);
/* The plan is asked about the rows in the tables that have the values which this row has there. */
int p2p_valuekeys_ask(struct p2p_target *target, const struct p2p_buf *key) P2P_MUST_CHECK;
/* Writes or drops the entries of p2p_ref. */
int p2p_valuekeys_keep(struct p2p_target *target, struct p2p_rowwork *work,
		       bool parked) P2P_MUST_CHECK;

#endif
