/* Merge: remote changesets become rows, in one transaction with their clocks and the vector
 * (rules.md).
 *
 * Idempotent, commutative, associative: applying a changeset into any state that contains it
 * changes nothing. Values are bit-exact. Foreign keys are off, and so are triggers, but for those
 * of the application that write only tables that are not replicated: they take effect for merged
 * rows (crdt/triggers.h). Numbers of rows with generated identity are projected at commit: the
 * earliest claim has its number, every other shows a temporary negative one, the same on every node
 * (crdt/numbers.h). Rows that a constraint keeps out are parked (crdt/parked.h).
 *
 * The merged state of a row is (causal length, born, clock of birth or death, clock and value of
 * each cell). The row clock is the greatest of the births or deletes of that causal length. A row
 * is shown when a record that says all of it was merged in its life and, with generated identity,
 * it claims a number. Columns that its records do not name have their default, and no clock.
 *
 * Cells of counter columns: crdt/counters.h. References and constraints: crdt/settle.h. A record
 * with a counter, a column, a reference or a key that is not here is merged as far as it can be and
 * kept whole in `waiting`, as one of an unknown table, schema record or kind is. */
#ifndef P2P_CRDT_MERGE_H
#define P2P_CRDT_MERGE_H

#include "crdt/authority.h"
#include "crdt/changeset.h"
#include "crdt/seen.h"
#include "crdt/sidelog.h"
#include "crdt/store.h"

struct p2p_merge;
struct p2p_target;

struct p2p_merge_config {
	struct p2p_store *store;	       /* all borrowed for the merge's life */
	const struct p2p_authority *authority; /* schema records by hash */
	const struct p2p_log *log;
	p2p_seen_stamp stamp_of; /* NULL: what loses is not listed */
	void *stamp_ctx;
};

struct p2p_merge_counts {
	uint64_t records;    /* read */
	uint64_t rows;	     /* of the application's table inserted, updated or deleted */
	uint64_t cells_won;  /* written */
	uint64_t cells_lost; /* older than, or concurrent with, what is here */
	uint64_t waiting;    /* kept for an unknown table or column */
	uint64_t parked;
};

int p2p_merge_new(const struct p2p_merge_config *config, struct p2p_merge **out) P2P_MUST_CHECK;
void p2p_merge_free(struct p2p_merge *merge); /* NULL allowed */

/* Inside the caller's write transaction (p2p_store_begin_write; journal captured and folded):
 * applies one changeset whose header and segments were verified before. next() gives its records
 * one after the other (p2p_body_reader_next). Moves the vector entry of header->replica. Malformed
 * records end with P2P_EPROTO: the caller rolls back and holds the replica. */
struct p2p_merge_source {
	const struct p2p_header *header;
	struct p2p_hash hash; /* of the header: the new head */
	void *ctx;
	int (*next)(void *ctx, const uint8_t **out_data, size_t *out_len);
	bool again; /* it was merged before, as far as it could be: the vector stays */
};
/* Rows may have gone from their tables unnoticed: applying and finishing are P2P_ECORRUPT where
 * another row would refer to one, and the caller looks for such rows. */
void p2p_merge_doubt(struct p2p_merge *merge, bool doubt);
int p2p_merge_apply(struct p2p_merge *merge, const struct p2p_merge_source *source,
		    struct p2p_merge_counts *counts, struct p2p_error *err) P2P_MUST_CHECK;
/* A number of a table may have another holder now (also from p2p_capture_fold()): projected by
 * finish(). */
int p2p_merge_touch_number(struct p2p_merge *merge, struct p2p_table *table,
			   int64_t number) P2P_MUST_CHECK;
/* Rows of a table may be shown again that were parked, or must give way: looked at by finish(). */
/* What the merge keeps of a table, until the next reset; for others who write rows. */
int p2p_merge_target(struct p2p_merge *merge, struct p2p_table *table,
		     struct p2p_target **out) P2P_MUST_CHECK;
int p2p_merge_touch_table(struct p2p_merge *merge, struct p2p_table *table) P2P_MUST_CHECK;
/* Every number of a table that may be shown where it should not, and its parked rows. */
int p2p_merge_touch_all(struct p2p_merge *merge, struct p2p_table *table) P2P_MUST_CHECK;
/* A column is a counter from now on: rows keep what they hold as what is added to. Everything is
 * folded; in a write transaction. */
int p2p_merge_count(struct p2p_merge *merge, struct p2p_table *table,
		    uint32_t column) P2P_MUST_CHECK;
/* Rows show temporary numbers that did not when this was asked last. After finish(). */
bool p2p_merge_renumbered(struct p2p_merge *merge);
/* Adds the rows that were written and parked since, by apply or finish. */
void p2p_merge_counts_take(struct p2p_merge *merge, struct p2p_merge_counts *counts);
/* Projects what apply and touch_number left to project; before the caller's commit. After a
 * rollback, before p2p_store_reopen() and after p2p_store_load() call p2p_merge_reset() instead: it
 * drops what is pending, statements and what is kept of tables. */
int p2p_merge_finish(struct p2p_merge *merge, struct p2p_error *err) P2P_MUST_CHECK;
void p2p_merge_reset(struct p2p_merge *merge);
/* Looks at everything that is kept out of the tables, and at every reference in them, as if nothing
 * had been decided before: *out_rows counts rows that are not where the rules put them. In a
 * transaction, after finish; writes nothing. */
int p2p_merge_check(struct p2p_merge *merge, uint64_t *out_rows,
		    struct p2p_error *err) P2P_MUST_CHECK;

#endif
