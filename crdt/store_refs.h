/* What is kept beside row states, only where it is an exception: references that the application's
 * table does not show, claims of rows that it does not show, yields.
 *
 * p2p_ref(t, k, slot, pt, pk): the cell of row (t, k) in this slot is loose (pt = 0, pk empty; also
 * of rows in the table), or refers to row (pt, pk) and the table does not say so: its row is
 * parked, or it shows NULL or its default while the parent is not shown. A reference cell without
 * an entry refers to the row that shows its number; t and pt are local table numbers, k and pk
 * p2p_identity_put() of a row.
 *
 * p2p_claim(t, h, k, held): row (t, k), which the indexes of the table do not know, claims values:
 * h is p2p_claim_hash of constraint and values. held: nothing earlier has them; the row is kept out
 * for another reason, or shows something else in their place.
 *
 * p2p_yield(t, k, c, stamp, replica): the row yielded for constraint c. */
#ifndef P2P_CRDT_STORE_REFS_H
#define P2P_CRDT_STORE_REFS_H

#include "crdt/store.h"

/* A row of a table, by the encoded identity. All borrowed. */
struct p2p_rowref {
	const struct p2p_table *table;
	const uint8_t *key;
	size_t len;
};

struct p2p_store_ref {
	uint32_t slot;
	uint32_t parent; /* table number; 0: loose */
	const uint8_t *key;
	size_t len;
};

/* Entry of one cell: P2P_ENOENT. *out_parent 0: loose. out_key is replaced. */
int p2p_store_ref_get(struct p2p_store *store, const struct p2p_rowref *row, uint32_t slot,
		      uint32_t *out_parent, struct p2p_buf *out_key) P2P_MUST_CHECK;
/* Entries of a row, by slot; borrowed for the call. A non-zero result ends the walk. */
int p2p_store_ref_each(struct p2p_store *store, const struct p2p_rowref *row,
		       int (*each)(void *ctx, const struct p2p_store_ref *ref),
		       void *ctx) P2P_MUST_CHECK;
/* Replaces the cell's. */
int p2p_store_ref_put(struct p2p_store *store, const struct p2p_rowref *row,
		      const struct p2p_store_ref *ref) P2P_MUST_CHECK;
int p2p_store_ref_drop(struct p2p_store *store, const struct p2p_rowref *row,
		       uint32_t slot) P2P_MUST_CHECK;
/* Entries that refer to a row: each is called with the child's table number, identity and slot. The
 * walk must not write entries. */
int p2p_store_ref_children(struct p2p_store *store, const struct p2p_rowref *parent,
			   int (*each)(void *ctx, uint32_t table, const void *key, size_t len,
				       uint32_t slot),
			   void *ctx) P2P_MUST_CHECK;
/* Rows with entries that refer to any row of a table. As above. */
int p2p_store_ref_waiting(struct p2p_store *store, const struct p2p_table *parent,
			  int (*each)(void *ctx, uint32_t table, const void *key, size_t len,
				      uint32_t slot),
			  void *ctx) P2P_MUST_CHECK;
/* Rows of the table have entries; entries refer to rows of the table. */
int p2p_store_ref_any(struct p2p_store *store, const struct p2p_table *table, bool *out_of,
		      bool *out_to) P2P_MUST_CHECK;

int p2p_store_claim_put(struct p2p_store *store, const struct p2p_rowref *row,
			const struct p2p_id *hash, bool held) P2P_MUST_CHECK;
/* Forgets the row's. */
int p2p_store_claim_drop(struct p2p_store *store, const struct p2p_rowref *row) P2P_MUST_CHECK;
/* held: only those. The walk must not write claims. */
int p2p_store_claim_each(struct p2p_store *store, const struct p2p_table *table,
			 const struct p2p_id *hash, bool held,
			 int (*each)(void *ctx, const void *key, size_t len, bool held),
			 void *ctx) P2P_MUST_CHECK;
/* Hashes that a row claims. The walk must not write claims. */
int p2p_store_claim_of(struct p2p_store *store, const struct p2p_rowref *row,
		       int (*each)(void *ctx, const struct p2p_id *hash), void *ctx) P2P_MUST_CHECK;
/* The row's claims are held. */
int p2p_store_claim_held(struct p2p_store *store, const struct p2p_rowref *row,
			 bool *out) P2P_MUST_CHECK;
int p2p_store_claim_any(struct p2p_store *store, const struct p2p_table *table,
			bool *out) P2P_MUST_CHECK;

struct p2p_store_yield {
	struct p2p_id constraint; /* for the number: the table id */
	uint64_t stamp;
	uint32_t replica; /* small number */
};
int p2p_store_yield_put(struct p2p_store *store, const struct p2p_rowref *row,
			const struct p2p_store_yield *yield) P2P_MUST_CHECK;
/* Asked for one by one: a row may have any number, for constraints that nobody here knows.
 * P2P_ENOENT. */
int p2p_store_yield_get(struct p2p_store *store, const struct p2p_rowref *row,
			const struct p2p_id *constraint,
			struct p2p_store_yield *out) P2P_MUST_CHECK;
int p2p_store_yield_any(struct p2p_store *store, const struct p2p_table *table,
			bool *out) P2P_MUST_CHECK;

/* A new life, or none: references, claims and yields of the row go. */
int p2p_store_life_drop(struct p2p_store *store, const struct p2p_rowref *row) P2P_MUST_CHECK;

#endif
