/* What lost in a merge, with both sides: table p2p_conflict and the view p2p_conflicts of the
 * application's file (design 4.4, R6).
 *
 * One entry for each row and changeset of which something lost: a cell to a concurrent write of
 * another node ("cell"), a row or its cells to a concurrent delete ("delete"). Only what its
 * overwriter had not seen is a conflict (crdt/seen.h). Equal values are none.
 *
 * One entry for each number that a row lost to another row ("number"): what it claimed, and, as
 * long as it is listed, what it has instead: a temporary number, then the one that its author gave
 * it. It goes if the row has its number after all.
 *
 * One entry for each row that breaks a CHECK constraint as it was merged ("check"), as long as it
 * does: crdt/checks.h.
 *
 * Local and bounded: at most P2P_CONFLICTS_MAX entries, none older than P2P_CONFLICT_AGE_MS. */
#ifndef P2P_CRDT_CONFLICTS_H
#define P2P_CRDT_CONFLICTS_H

#include "crdt/rowmerge.h"

struct p2p_claimant;

/* A cell of the record that is being merged, and a stored one, of which one lost. */
struct p2p_lost_cell {
	uint32_t column;
	bool incoming;		     /* the record's side lost */
	const struct p2p_cell *cell; /* the record's; borrowed */
	struct p2p_value value;	     /* of it, as the column stores it */
	uint64_t stamp;		     /* of the stored one */
	uint32_t replica;
};

/* Notes that one side of a cell lost; told by p2p_conflicts_cells(). */
void p2p_conflicts_note(struct p2p_rowmerge *m, uint32_t column, const struct p2p_cell *from,
			const struct p2p_value *value, bool incoming);
/* Writes what was noted of the record; its row is in the store as it was before. */
int p2p_conflicts_cells(struct p2p_rowmerge *m) P2P_MUST_CHECK;
/* The record ends a life of the row: lists the row if its author had not seen all of it. Before the
 * row is removed. */
int p2p_conflicts_life(struct p2p_rowmerge *m) P2P_MUST_CHECK;
/* The record is of a life that has ended: lists its cells. */
int p2p_conflicts_late(struct p2p_rowmerge *m) P2P_MUST_CHECK;

/* Clock of the youngest write of the row. P2P_ECORRUPT. */
int p2p_conflicts_youngest(const struct p2p_rowwork *work, const struct p2p_target *target,
			   struct p2p_clock *out) P2P_MUST_CHECK;
/* A row that a constraint keeps out of its table is listed as long as it is parked: what it holds,
 * as it was parked just now. authority NULL: origins are replica ids. */
int p2p_conflicts_parked(struct p2p_rowwork *work, struct p2p_target *target,
			 const struct p2p_authority *authority) P2P_MUST_CHECK;

/* The projection put a row under another number (p2p_numbers): one that it lost its own to, or its
 * own. ctx: the target. */
int p2p_conflicts_number(void *ctx, const struct p2p_claimant *at) P2P_MUST_CHECK;
/* The record takes its row's claim to number `before` back: listed if an earlier one to it is
 * there. A row that came together with that change was never seen under a temporary number. */
int p2p_conflicts_number_left(struct p2p_rowmerge *m, int64_t before) P2P_MUST_CHECK;

/* Entries, newest first, then parked rows (id 0). Texts are JSON, borrowed for the call. */
struct p2p_conflict {
	int64_t id;
	const char *kind, *table;
	const char *row, *kept, *lost; /* objects */
	const char *origin; /* node id in hexadecimal, or replica id if its node is not known */
	const char *time;   /* RFC 3339: when the lost side was written */
	const char *reason; /* "check": what SQLite says of it; else empty */
};
int p2p_conflicts_each(struct p2p_store *store,
		       int (*each)(void *ctx, const struct p2p_conflict *conflict),
		       void *ctx) P2P_MUST_CHECK;
uint64_t p2p_conflicts_count(struct p2p_store *store);
/* Drops what is too old. In a write transaction. */
int p2p_conflicts_expire(struct p2p_store *store) P2P_MUST_CHECK;
/* Writes the lost side of an entry into the application's table, as an application would, and
 * journals it; the entry goes. In a write transaction. P2P_ENOENT: no such entry; P2P_EREFUSED with
 * the reason: a constraint, or the table is not here. */
int p2p_conflicts_restore(struct p2p_store *store, struct p2p_merge *merge, int64_t id,
			  struct p2p_error *err) P2P_MUST_CHECK;

#endif
