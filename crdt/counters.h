/* Counter columns: concurrent increments add up (design 4.2, rules.md).
 *
 * What is kept of a counter cell, in p2p_counter(t, k, slot, replica, total, stamp), for one life
 * of its row: a running total for each replica that counted, the one with the later stamp stays
 * (replica > 0: its small number); and the *base* that totals are added to: an ordinary value, as
 * every other cell has one, the greater clock stays (replica < 0: minus the number of its writer;
 * total NULL: it is no INTEGER). Births that count begin with a base of 0; rows that were there
 * when their table was enabled, or when their column became a counter, bring their value as base.
 * A cell that nobody wrote has its DEFAULT for a base.
 *
 * Shown is base + sum of totals, an INTEGER: one beyond 64 bits is shown as the least or greatest
 * there is. A base that is no INTEGER (NULL, a text, a REAL) adds nothing, and is shown itself
 * while it is the youngest of all that was written to the cell. The cell's clock is that of the
 * youngest. All of it is state: any order, and any number of times, gives the same. */
#ifndef P2P_CRDT_COUNTERS_H
#define P2P_CRDT_COUNTERS_H

#include "crdt/rowmerge.h"
#include "crdt/store_refs.h"

/* Sum of any number of 64 bit integers that memory can hold. */
struct p2p_sum {
	int64_t high; /* of 2^32 */
	uint64_t low;
};
void p2p_sum_add(struct p2p_sum *sum, int64_t number);
/* The least or greatest integer when it does not fit. */
int64_t p2p_sum_value(const struct p2p_sum *sum);
/* What has to be added to show this number; likewise. */
int64_t p2p_sum_rest(const struct p2p_sum *sum, int64_t shown);

/* One entry of p2p_counter. */
struct p2p_counter {
	uint32_t slot;
	int64_t replica; /* see above */
	bool number;	 /* false: a base that is no INTEGER */
	bool dirty;	 /* not in the file yet */
	int64_t total;
	uint64_t stamp;
};

/* Those of one row. */
struct p2p_counters {
	struct p2p_counter *items; /* owned */
	size_t count, cap;
	bool loaded, changed;
};

void p2p_counters_deinit(struct p2p_counters *counters);
/* Forgets them: another row. */
void p2p_counters_reset(struct p2p_counters *counters);
int p2p_counters_load(struct p2p_counters *counters, struct p2p_store *store,
		      const struct p2p_rowref *row) P2P_MUST_CHECK;
/* Base of a slot; NULL: nobody wrote an ordinary value. */
struct p2p_counter *p2p_counters_base(const struct p2p_counters *counters, uint32_t slot);
/* Writes one; a base replaces the one before. */
int p2p_counters_put(struct p2p_store *store, const struct p2p_rowref *row,
		     const struct p2p_counter *counter) P2P_MUST_CHECK;
/* The row's life ended. */
int p2p_counters_drop(struct p2p_store *store, const struct p2p_rowref *row) P2P_MUST_CHECK;

/* One cell of a counter column; value: of an ordinary one. */
int p2p_counters_merge(struct p2p_rowmerge *m, uint32_t column, const struct p2p_cell *cell,
		       const struct p2p_value *value) P2P_MUST_CHECK;
/* After all cells: writes what changed, and sets the cells to what is shown. */
int p2p_counters_show(struct p2p_rowmerge *m) P2P_MUST_CHECK;
/* The row that is merged begins another life, or dies. */
int p2p_counters_end(struct p2p_rowmerge *m) P2P_MUST_CHECK;
/* The entries of the row that is merged, loaded if need be. */
int p2p_counters_of(struct p2p_rowmerge *m) P2P_MUST_CHECK;

/* A column that rows have already becomes a counter: what they hold is their base. Everything is
 * folded; in a write transaction. */
int p2p_counters_take(struct p2p_target *target, struct p2p_rowwork *work,
		      uint32_t column) P2P_MUST_CHECK;

#endif
