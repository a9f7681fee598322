/* One record into one row: which cells win, which life goes on; where the row then stands is found
 * by crdt/rowwork.h. */
#ifndef P2P_CRDT_ROWMERGE_H
#define P2P_CRDT_ROWMERGE_H

#include "crdt/merge.h"
#include "crdt/rowwork.h"
#include "crdt/schemamap.h"
#include "crdt/seen.h"

struct p2p_lost_cell;
struct p2p_counters;

/* A record on its way. All pointers are borrowed. */
struct p2p_rowmerge {
	struct p2p_store *store;
	struct p2p_merge_counts *counts;
	const struct p2p_record *record;
	struct p2p_clock clock;
	uint32_t replica; /* its small number */
	struct p2p_target *target;
	const struct p2p_schemamap *map;
	struct p2p_rowwork *work, *spare;
	struct p2p_buf *scratch;
	struct p2p_buf *texts; /* of numbers that are stored as text: room for all cells, or none */
	bool wait;	       /* something in it cannot be merged yet */
	bool changed, claimed; /* a cell, or the claim to the number, has a new clock */
	uint64_t claim_stamp;  /* of the claim before */
	uint32_t claim_replica;
	struct p2p_counters *counters; /* of the row (crdt/counters.h), for tables that have them */
	/* for crdt/conflicts.h */
	const struct p2p_authority *authority;
	const struct p2p_seen *seen; /* NULL: what loses is not listed (it was merged before) */
	struct p2p_lost_cell *lost;  /* room for P2P_COLUMNS_MAX */
	size_t lost_count;
};

/* Two values under one clock: *out says that the record's stays. */
int p2p_rowmerge_tie(struct p2p_rowmerge *m, uint32_t column, const struct p2p_value *value,
		     bool *out) P2P_MUST_CHECK;
/* The identity is one of this table, in its one form. */
int p2p_rowmerge_fits(struct p2p_rowmerge *m, bool *out) P2P_MUST_CHECK;
/* Merges the record; its identity fits. What no honest peer sends waits, as what is
 * not known here does: whether a changeset is taken must not depend on what came before it. */
int p2p_rowmerge_run(struct p2p_rowmerge *m) P2P_MUST_CHECK;

#endif
