/* Capture and freeze: what the application committed becomes signed changesets.
 *
 * Capture reads the journal and the journalled rows in one read snapshot of the application's file,
 * compares each row with what was last known of it (row state, cell hashes) and keeps the
 * difference as *provisional*: per row the cells that changed, no values. Freeze reads the values,
 * numbers, chains, signs and stores them durably in the side log; only then may they be sent
 * (decisions 1, 2, 16). Nothing here writes to the application's file: that is fold(), inside a
 * write transaction of the merge.
 *
 * State of rows that is newer than the file's row states stands in the overlay, in memory. After a
 * crash it is rebuilt from the side log (frozen) and the journal (the rest). */
#ifndef P2P_CRDT_CAPTURE_H
#define P2P_CRDT_CAPTURE_H

#include "crdt/authority.h"
#include "crdt/sidelog.h"
#include "crdt/store.h"

struct p2p_capture;

struct p2p_capture_config {
	struct p2p_store *store; /* all borrowed for the capture's life */
	struct p2p_sidelog *sidelog;
	const struct p2p_signer *signer;
	const struct p2p_env *env;
	const struct p2p_log *log;
	struct p2p_id replica; /* own */
	struct p2p_hash mesh;
};

/* Rebuilds the overlay of frozen changes that are not folded yet. P2P_ECORRUPT when log and file do
 * not fit. */
int p2p_capture_new(const struct p2p_capture_config *config, struct p2p_capture **out,
		    struct p2p_error *err) P2P_MUST_CHECK;
void p2p_capture_free(struct p2p_capture *capture); /* NULL allowed */

/* Captures everything journalled. No transaction may be open. Ends where one read snapshot ended: a
 * commit boundary. P2P_EBUSY, P2P_EIO, P2P_ENOMEM: nothing changed. */
int p2p_capture_run(struct p2p_capture *capture, struct p2p_error *err) P2P_MUST_CHECK;
/* Captures and freezes everything. deps: entries merged since the author's previous changeset (may
 * be empty). now_limit_ms: stamps above it are lowered (the clock jumped back; nobody has seen
 * them). Durable on return. After a failed commit the side log was reopened and heads re-read; try
 * again. *out_changesets counts. */
int p2p_capture_freeze(struct p2p_capture *capture, const struct p2p_dot *deps, size_t dep_count,
		       size_t *out_changesets, struct p2p_error *err) P2P_MUST_CHECK;

/* Journal id up to which everything is captured. */
int64_t p2p_capture_position(const struct p2p_capture *capture);
/* Rows whose changes are captured, not frozen. */
size_t p2p_capture_provisional(const struct p2p_capture *capture);
/* Rows whose frozen changes are not folded into the file yet. */
size_t p2p_capture_unfolded(const struct p2p_capture *capture);
/* Own head. */
const struct p2p_vv_entry *p2p_capture_head(const struct p2p_capture *capture);
/* Greatest stamp that this replica has made or merged. observe() after every merge. */
struct p2p_hlc p2p_capture_clock(const struct p2p_capture *capture);
void p2p_capture_observe(struct p2p_capture *capture, struct p2p_hlc stamp);

/* Inside a write transaction of the store, everything frozen (no provisional rows): writes the
 * overlay into the row states, sets `folded`, trims the journal. Calls changed for each row whose
 * claim to a number changed, so that the caller can project numbers (may be NULL). fold_done()
 * after the commit drops the overlay, or keeps it after a rollback. */
int p2p_capture_fold(struct p2p_capture *capture,
		     int (*changed)(void *ctx, struct p2p_table *table, int64_t number), void *ctx,
		     struct p2p_error *err) P2P_MUST_CHECK;
void p2p_capture_fold_done(struct p2p_capture *capture, bool committed);

#endif
