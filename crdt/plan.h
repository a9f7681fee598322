/* Which rows the tables show, as a function of the merged state (rules.md, projection 1 and 3):
 * planned over the rows that share a claim or a reference with what changed, without writing.
 *
 * UNIQUE: a row is unique if no unique row of lesser order shares a claim with it; its order is its
 * youngest claim, then its identity. FOREIGN KEY: of the unique rows the greatest set in which
 * every reference that hides points into the set. Rows are named by local table number and encoded
 * identity (p2p_identity_put()).
 *
 * The plan reads through a view, which merge has of the file (crdt/view.h) and capture of the file
 * under what it captured. What a view says must hold still while a plan runs. */
#ifndef P2P_CRDT_PLAN_H
#define P2P_CRDT_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"
#include "proto/ident.h"

struct p2p_plan;
struct p2p_hash_key;

/* A value tuple that a row claims. */
struct p2p_plan_claim {
	struct p2p_id hash;	  /* of constraint and canonical values */
	struct p2p_id constraint; /* id: what a yield names */
	uint32_t index;		  /* of the constraint in its table (crdt/unique.h) */
	struct p2p_clock clock;	  /* since when: of its youngest column, or of the yield */
	bool yielded;		  /* comes after any other of the same clock */
};

struct p2p_plan_ref {
	uint32_t slot;	/* of the child column */
	uint32_t table; /* of the parent */
	uint8_t *key;	/* owned by the plan: the parent's identity */
	size_t len;
	bool named; /* by value: any row that has this name; key is the one in the table, if any */
	struct p2p_id name;
	bool hides;   /* else it shows NULL or its default while the parent is not shown */
	bool instead; /* the next one stands in for it: one of both has to be shown */
};

struct p2p_plan_row {
	uint32_t table;
	uint8_t *key; /* owned by the plan */
	size_t len;
	/* filled in by the view */
	bool live;  /* complete: takes part */
	bool shown; /* stands in the table now */
	bool held;  /* is unique as far as the view knows; not shown rows say so by their claims */
	const char *refused;	       /* this file forbids it for another reason; or NULL */
	struct p2p_plan_claim *claims; /* owned by the plan */
	size_t claim_count;
	struct p2p_plan_ref *refs; /* owned by the plan */
	size_t ref_count;
	struct p2p_id *names; /* owned by the plan: by which others refer to it */
	size_t name_count;
	/* the plan's answer */
	bool unique, visible;
	bool touched; /* was asked about, or its answer is another than before */
	/* the plan's own */
	bool loaded, asked, queued, listed;
	size_t entry; /* index + 1 of the first of its claims, then names; 0: none */
	struct p2p_plan_row *chain;
};

typedef int (*p2p_plan_each)(void *ctx, uint32_t table, const void *key, size_t len);

struct p2p_plan_view {
	void *ctx;
	const struct p2p_hash_key *hash_key; /* who chooses identities must not choose buckets */
	/* Fills in what the view fills in; claims and refs by the functions below. */
	int (*load)(void *ctx, struct p2p_plan *plan, struct p2p_plan_row *row);
	/* Whether the row stands in the table; for rows that the plan knows nothing else of. */
	int (*shown)(void *ctx, const struct p2p_plan_ref *ref, bool *out);
	/* The row in the table that has the values of a claim, if there is one: calls each. */
	int (*holder)(void *ctx, const struct p2p_plan_row *row, const struct p2p_plan_claim *claim,
		      p2p_plan_each each, void *each_ctx);
	/* Rows with such a claim that the table's index does not know: those that are held, or
	 * those that are not. */
	int (*others)(void *ctx, uint32_t table, const struct p2p_id *hash, bool held,
		      p2p_plan_each each, void *each_ctx);
	/* Rows that refer to this one: those in the tables that show it, or those whose references
	 * the tables do not show. May name others, too. */
	int (*children)(void *ctx, const struct p2p_plan_row *row, bool in_table,
			p2p_plan_each each, void *each_ctx);
};

int p2p_plan_new(const struct p2p_plan_view *view, struct p2p_plan **out) P2P_MUST_CHECK;
void p2p_plan_free(struct p2p_plan *plan); /* NULL allowed */

/* For load. P2P_ENOMEM. */
int p2p_plan_claim_add(struct p2p_plan_row *row, const struct p2p_plan_claim *claim) P2P_MUST_CHECK;
int p2p_plan_name_add(struct p2p_plan_row *row, const struct p2p_id *name) P2P_MUST_CHECK;
/* ref: key is copied. */
int p2p_plan_ref_add(struct p2p_plan_row *row, const struct p2p_plan_ref *ref) P2P_MUST_CHECK;

/* What the plan is asked: a row that changed (its values, its clocks, its references, or it came);
 * a claim that a row had and has no more. */
int p2p_plan_row(struct p2p_plan *plan, uint32_t table, const void *key, size_t len) P2P_MUST_CHECK;
/* refused: why this file forbids it, static; NULL: it does not, as far as is known. */
int p2p_plan_row_as(struct p2p_plan *plan, uint32_t table, const void *key, size_t len,
		    const char *refused) P2P_MUST_CHECK;
int p2p_plan_freed(struct p2p_plan *plan, uint32_t table, const struct p2p_id *hash) P2P_MUST_CHECK;
int p2p_plan_run(struct p2p_plan *plan) P2P_MUST_CHECK;

/* The answer, in the order of identities within a table; only rows that are touched. NULL at the
 * end. */
size_t p2p_plan_count(const struct p2p_plan *plan);
const struct p2p_plan_row *p2p_plan_at(const struct p2p_plan *plan, size_t index);
/* All rows that were loaded, touched or not. NULL at the end. */
const struct p2p_plan_row *p2p_plan_known(const struct p2p_plan *plan, size_t index);
/* Whether a row will be shown: as planned, or as it is. */
int p2p_plan_will_show(struct p2p_plan *plan, const struct p2p_plan_ref *ref,
		       bool *out) P2P_MUST_CHECK;

#endif
