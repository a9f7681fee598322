/* What the tables show is settled at the end of a merge transaction (p2p_merge_finish).
 *
 * A row whose references point at shown rows, whose INSERT or UPDATE meets no constraint and that
 * shares no claim with a row that is kept out is final at once. Every other is taken out of its
 * table and waits, parked as "pending", until the plan (crdt/plan.h) over all of them and their
 * neighbours says where they belong. It keeps its number, and who refers to it knows it by its
 * identity until then (p2p_follow_leave()): another row may stand at the number meanwhile. */
#ifndef P2P_CRDT_SETTLE_H
#define P2P_CRDT_SETTLE_H

#include "crdt/claimants.h"
#include "crdt/plan.h"
#include "crdt/refs.h"
#include "crdt/rowwork.h"

/* A row that the plan is asked about. */
struct p2p_settle_row {
	uint32_t table;
	size_t at, len;	     /* of its identity in keys */
	const char *refused; /* why this file forbids it; static */
	bool parent;	     /* its number came or went: only for those that refer to it */
};

struct p2p_settle_freed {
	uint32_t table;
	struct p2p_id hash;
};

struct p2p_settle {
	struct p2p_store *store;
	const struct p2p_authority *authority; /* borrowed: names who wrote what; may be NULL */
	struct p2p_refs refs;
	/* What the merge keeps of a table. */
	int (*target)(void *ctx, struct p2p_table *table, struct p2p_target **out);
	void *ctx;
	struct p2p_settle_row *rows; /* owned */
	size_t row_count, row_cap;
	struct p2p_settle_freed *freed; /* owned */
	size_t freed_count, freed_cap;
	struct p2p_buf keys;
	struct p2p_rowwork work, spare, child;
	uint32_t spare_table;		/* that spare was taken up from, for the view */
	uint64_t round;			/* since it was cleared, from 1 */
	uint64_t still, stills;		/* nothing is written while it is not 0 */
	struct p2p_child_column *shown; /* of which something is known until then */
	bool doubt;			/* rows may have gone from their tables unnoticed */
	struct p2p_follow *follow;	/* owned: crdt/follow.h */
};

int p2p_settle_init(struct p2p_settle *settle, struct p2p_store *store);
void p2p_settle_deinit(struct p2p_settle *settle);
/* Forgets what is pending. */
void p2p_settle_clear(struct p2p_settle *settle);

/* A row that is known to be in its table, under this number: is it? Asked only while rows may have
 * gone unnoticed (what REPLACE pushes out fires no trigger): nothing may refer to one that has.
 * P2P_ECORRUPT: no; whoever merges looks for such rows first. */
int p2p_settle_present(struct p2p_settle *settle, const struct p2p_table *table,
		       int64_t number) P2P_MUST_CHECK;

/* Finds out once in a transaction which side tables have to do with the table. */
int p2p_settle_gates(struct p2p_target *target) P2P_MUST_CHECK;
/* References of its rows to rows of table `parent` (0: none) were written. */
void p2p_settle_refs_written(struct p2p_target *target, uint32_t parent);

/* The plan will be asked about the row; the key is copied. */
int p2p_settle_ask(struct p2p_target *target, const void *key, size_t len) P2P_MUST_CHECK;
/* Rows that share what the row in work, whole, claimed in the table may come back. */
int p2p_settle_free_claims(struct p2p_target *target, struct p2p_rowwork *work) P2P_MUST_CHECK;
/* The same for the row as the file has it, if there is anybody; work is used. */
int p2p_settle_free_stored(struct p2p_target *target, const struct p2p_buf *key,
			   struct p2p_rowwork *work) P2P_MUST_CHECK;
/* Rows that share what p2p_claim says of the row may come back. */
int p2p_settle_free_kept(struct p2p_target *target, const struct p2p_buf *key) P2P_MUST_CHECK;
/* The row has a number now, or has none any more: what claims it by reference claims something
 * else.
 */
int p2p_settle_reclaim(struct p2p_target *target, const struct p2p_buf *key) P2P_MUST_CHECK;
/* A row that is parked, or shows something else for its parent: its claims anew. ctx: the settle.
 */
int p2p_follow_reclaim(void *ctx, uint32_t number, const void *key, size_t len) P2P_MUST_CHECK;
/* A shown row came or changed: is anybody concerned? Its cells are whole. */
int p2p_settle_came(struct p2p_target *target, struct p2p_rowwork *work) P2P_MUST_CHECK;
/* Parks a live row with what is set in work on top of what it has, until the plan. in_table: it
 * stands there, and leaves. Sets the state; does not save. work is not the settle's. */
int p2p_settle_hold(struct p2p_target *target, struct p2p_rowwork *work,
		    bool in_table) P2P_MUST_CHECK;
/* The same for the row as it is, if it is shown, and saves. Nothing shows its number any more. */
int p2p_settle_lift(struct p2p_target *target, const void *key, size_t len) P2P_MUST_CHECK;
/* The row in work is about to die, or is dead: claims are freed, what is kept beside it goes, and
 * children that show its number leave their tables. */
int p2p_settle_dies(struct p2p_target *target, struct p2p_rowwork *work) P2P_MUST_CHECK;
/* Claims of a parked row, or of one that shows NULL in place of its parent, anew. work is whole. */
int p2p_settle_claim(struct p2p_target *target, struct p2p_rowwork *work, bool held) P2P_MUST_CHECK;
/* Rows of children that show, or would show, their default for a row of this table: whoever has
 * that number concerns them. The first: those whose default this number is. */
int p2p_settle_waiting(struct p2p_target *target, int64_t number, p2p_plan_each each,
		       void *ctx) P2P_MUST_CHECK;
int p2p_settle_ask_waiting(struct p2p_target *target) P2P_MUST_CHECK;
/* All rows of a table that are kept out, and those that wait for its rows, are asked about. */
int p2p_settle_ask_all(struct p2p_target *target) P2P_MUST_CHECK;

/* The view of the file that plans have; ctx is the settle. */
void p2p_settle_view(struct p2p_settle *settle, struct p2p_plan_view *out);
/* Plans, and brings the tables in line. */
int p2p_settle_run(struct p2p_settle *settle) P2P_MUST_CHECK;

/* Plans, writes nothing, and adds the rows that are not where the plan has them. */
int p2p_settle_check(struct p2p_settle *settle, uint64_t *out_rows) P2P_MUST_CHECK;

/* The same for many numbers: `wanted` tells whether a number is one of them, and whom to call each
 * with (NULL: it is not). Reads each table without an index once. */
struct p2p_settle_many {
	const int64_t *numbers; /* borrowed */
	size_t count;
	void *(*wanted)(void *ctx, int64_t number);
	int (*each)(void *each_ctx, struct p2p_target *child, uint32_t reference, const void *key,
		    size_t len);
	void *ctx;
};
int p2p_settle_children_many(struct p2p_target *target,
			     const struct p2p_settle_many *many) P2P_MUST_CHECK;

/* From one to the other nothing is written into tables of the application: what was read of them
 * may be used again. */
void p2p_settle_still_begin(struct p2p_settle *settle);
void p2p_settle_still_end(struct p2p_settle *settle);
void p2p_settle_child_deinit(struct p2p_child_column *column);

/* Rows in the table's children that show `number`: each is called with the child's target, its
 * encoded identity and the index of the reference. None that is loose or shows something else. */
int p2p_settle_children(struct p2p_target *target, int64_t number,
			int (*each)(void *ctx, struct p2p_target *child, uint32_t reference,
				    const void *key, size_t len),
			void *ctx) P2P_MUST_CHECK;

#endif
