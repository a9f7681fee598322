/* UNIQUE constraints of one table: what a row claims under them, and who holds it in the table.
 *
 * Constraint id: BLAKE2b-128 of the table id and the ids of the columns in order with their
 * collations; where the index is partial or has expressions, the texts of its terms and of its
 * WHERE in their place. The PRIMARY KEY counts as one where a column of it is a reference: a number
 * that is loose and one that is not can be equal.
 */
#ifndef P2P_CRDT_UNIQUE_H
#define P2P_CRDT_UNIQUE_H

#include "crdt/apptable.h"
#include "crdt/plan.h"
#include "crdt/store_refs.h"
#include "crdt/unique_index.h"

struct p2p_unique {
	struct p2p_id id;
	uint32_t *columns; /* owned: column indices; all that it reads, when it has an index */
	enum p2p_collation *collations; /* owned: of the index, beside columns */
	size_t count;
	struct sqlite3_stmt *find;	/* owned: key of the row that holds given values */
	struct p2p_unique_index *index; /* owned: one that is not plain; else NULL */
};

struct p2p_uniques {
	struct p2p_apptable *app; /* borrowed */
	struct p2p_unique *items; /* owned */
	size_t count;
	uint8_t *columns;	   /* owned: by column, whether a constraint has it */
	struct p2p_cells defaults; /* of those: what rows have that were never written there */
	struct p2p_buf default_bytes;
};

int p2p_uniques_init(struct p2p_uniques *uniques, struct p2p_apptable *app) P2P_MUST_CHECK;
void p2p_uniques_deinit(struct p2p_uniques *uniques);
/* Hash of what values claim under a constraint. *out_none: a column is NULL, so nothing. */
int p2p_uniques_hash(const struct p2p_uniques *uniques, size_t index, const struct p2p_cells *cells,
		     struct p2p_id *out, bool *out_none) P2P_MUST_CHECK;
/* What a row is claimed by: its state and values; yields of it. */
struct p2p_claimed {
	const struct p2p_rowstate *state;
	const struct p2p_cells *cells;
	const struct p2p_store_yield *yields;
	size_t yield_count;
};
/* What the row yielded of these constraints; out: room for all of them. */
int p2p_uniques_yields(const struct p2p_uniques *uniques, const struct p2p_rowref *row,
		       struct p2p_store_yield *out, size_t *out_count) P2P_MUST_CHECK;
/* Adds the row's claims. A value whose column was never written on its own is as old as the row. */
int p2p_uniques_claims(const struct p2p_uniques *uniques, const struct p2p_claimed *claimed,
		       struct p2p_plan_row *out) P2P_MUST_CHECK;
/* Key values of the row in the table that holds what these values claim, borrowed until the
 * constraint is asked again, which resets; NULL key: none. */
int p2p_uniques_find(struct p2p_uniques *uniques, size_t index, const struct p2p_cells *cells,
		     struct p2p_value *key, bool *out_found) P2P_MUST_CHECK;
void p2p_uniques_found(struct p2p_uniques *uniques, size_t index);

#endif
