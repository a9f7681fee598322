/* References: from the number that a table shows to the row that is meant, and back.
 *
 * A row of a table with a lone INTEGER PRIMARY KEY has a number while it is complete and alive,
 * parked or not: what it claims, or a temporary one (crdt/numbers.h); where its key is itself a
 * reference, the number of its parent. No two rows of a table have the same. */
#ifndef P2P_CRDT_REFS_H
#define P2P_CRDT_REFS_H

#include "crdt/claimants.h"
#include "crdt/store_refs.h"

struct p2p_refs {
	struct p2p_store *store; /* borrowed */
	/* What is known of the numbers of a table of generated identity; kept by the caller. */
	int (*numbers)(void *ctx, struct p2p_table *table, struct p2p_numbers **out);
	void *ctx;
	/* While numbers of a table move: who shows which, for p2p_temp does not say it. Borrowed.
	 */
	const struct p2p_claimants *moving;
	const struct p2p_table *moving_table;
	struct p2p_rowstate state; /* scratch */
};

void p2p_refs_init(struct p2p_refs *refs, struct p2p_store *store);
void p2p_refs_deinit(struct p2p_refs *refs);

/* What the table shows for a row of generated identity that claims a number. */
int p2p_refs_own_number(struct p2p_refs *refs, const struct p2p_rowref *row, int64_t claim,
			int64_t *out) P2P_MUST_CHECK;
/* Number of a row. P2P_ENOENT: it has none. *out_shown: the application's table has the row (as of
 * its row state). */
int p2p_refs_number(struct p2p_refs *refs, const struct p2p_rowref *row, int64_t *out,
		    bool *out_shown) P2P_MUST_CHECK;
/* The row that has a number: its encoded identity replaces out. P2P_ENOENT. */
int p2p_refs_at(struct p2p_refs *refs, struct p2p_table *table, int64_t number,
		struct p2p_buf *out) P2P_MUST_CHECK;
/* Values of the key columns as the table shows them, references as numbers, borrowed from the
 * identity's key. P2P_ENOENT: a parent has no number; P2P_EPROTO. */
int p2p_refs_key_values(struct p2p_refs *refs, const struct p2p_table *table,
			const struct p2p_identity *identity,
			struct p2p_value *values) P2P_MUST_CHECK;
/* Are the rows that name this one, by the references in its key, shown? */
int p2p_refs_key_shown(struct p2p_refs *refs, const struct p2p_table *table,
		       const struct p2p_identity *identity, bool *out) P2P_MUST_CHECK;
/* Number of the row that part `at` of a key refers to. P2P_ENOENT. */
int p2p_refs_part_number(struct p2p_refs *refs, const struct p2p_table *table, uint32_t at,
			 const struct p2p_key_part *part, int64_t *out) P2P_MUST_CHECK;
/* Encoded identity of the row of a table without generated identity that shows these key values. A
 * number can be a reference or be loose: what the row that is there says; for a row that is not
 * known, a reference if anybody has the number. P2P_IDENTITY_NULL_KEY. */
int p2p_refs_key_identity(struct p2p_refs *refs, const struct p2p_table *table,
			  const struct p2p_value *values, struct p2p_buf *out) P2P_MUST_CHECK;
/* Is another row than `own` known to show these key values? No two ever are: while one is, it is in
 * the table, or was pushed out of it unnoticed, and then nothing would tell of its end any more. */
int p2p_refs_key_taken(struct p2p_refs *refs, const struct p2p_table *table,
		       const struct p2p_value *values, const struct p2p_rowref *own,
		       bool *out) P2P_MUST_CHECK;
/* Of any table: P2P_ENOENT when nobody is known to show the key (generated identity). */
int p2p_refs_row_at(struct p2p_refs *refs, struct p2p_table *table, const struct p2p_value *values,
		    struct p2p_buf *out) P2P_MUST_CHECK;

/* Parent table of a reference of a loaded table; NULL never for one that the store settled. */
struct p2p_table *p2p_refs_parent(struct p2p_refs *refs, const struct p2p_reference *reference);

#endif
