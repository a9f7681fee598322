/* Capture and freeze: what the application committed becomes signed changesets.
 *
 * Capture reads the journal and the journalled rows in one read snapshot of the application's file,
 * compares each row with what was last known of it (row state, cell hashes) and keeps the
 * difference as *provisional*: which cells changed and when, no values. Of several changes of one
 * cell the last one counts. Freeze reads the values, numbers, chains, signs and stores them durably
 * in the side log; only then may they be sent (decisions 1, 2, 16). Nothing here writes to the
 * application's file: that is fold(), inside a write transaction of the merge.
 *
 * State of rows that is newer than the file's row states stands in the overlay, in memory. After a
 * crash it is rebuilt from the side log (frozen) and the journal (the rest).
 *
 * Changes that are within a second of one another share a changeset and its stamp; those further
 * apart keep their own time. All changesets of one freeze are one atomic group, cut only where a
 * read snapshot ended and no later change took a cell along that was changed before. */
#ifndef P2P_CRDT_CAPTURE_H
#define P2P_CRDT_CAPTURE_H

#include "crdt/authority.h"
#include "crdt/sidelog.h"
#include "crdt/store.h"

struct p2p_capture;

struct p2p_capture_config {
	struct p2p_store *store; /* all borrowed for the capture's life */
	struct p2p_sidelog *sidelog;
	const struct p2p_authority *authority;
	const struct p2p_signer *signer;
	const struct p2p_env *env;
	const struct p2p_log *log;
	struct p2p_id replica; /* own; the store must have a number for it */
	struct p2p_hash mesh;
};

/* Rebuilds the overlay of frozen changes that are not folded yet. P2P_ECORRUPT when log and file do
 * not fit, P2P_ESTATE when the file does not know the replica. */
int p2p_capture_new(const struct p2p_capture_config *config, struct p2p_capture **out,
		    struct p2p_error *err) P2P_MUST_CHECK;
void p2p_capture_free(struct p2p_capture *capture); /* NULL allowed */
/* Tables or the store's connection were loaded anew, or the overlay is not to be trusted: rebuilt
 * at the next run. Provisional changes are found again in the journal. */
void p2p_capture_reset(struct p2p_capture *capture);

/* The snapshot has another schema than the store's tables: nothing was captured, for what is new
 * would pass for no change. Check the schema, then try again. */
#define P2P_CAPTURE_MOVED 1
/* Captures what is journalled. No transaction may be open. Ends where one read snapshot ended: a
 * commit boundary. *out_more: the rows of a table that was just enabled are taken in slices, and
 * there is another; freeze and fold before the next run. After an error the overlay is rebuilt by
 * the next run. P2P_CAPTURE_MOVED. */
int p2p_capture_run(struct p2p_capture *capture, bool *out_more,
		    struct p2p_error *err) P2P_MUST_CHECK;

/* Who gives permanent numbers: the member's place among all, so that two do not take the same. */
struct p2p_numbering {
	uint32_t members, rank;
	size_t most; /* rows at once */
};

struct p2p_freeze {
	const struct p2p_dot *deps; /* merged since the author's previous changeset; borrowed */
	size_t dep_count;
	uint64_t now_ms; /* stamps above it are lowered: nobody has seen them (decisions 42) */
	/* not NULL: own rows that show a temporary number get a permanent one */
	const struct p2p_numbering *numbering;
	size_t changesets;   /* out: made */
	size_t numbered;     /* out: rows that got a number */
	bool more;	     /* out: as of p2p_capture_run() */
	bool numbering_more; /* out: there are more than `most` */
};
/* Captures and freezes everything, durable on return. After a failed commit the side log was
 * reopened and heads are re-read; try again. P2P_CAPTURE_MOVED. */
int p2p_capture_freeze(struct p2p_capture *capture, struct p2p_freeze *freeze,
		       struct p2p_error *err) P2P_MUST_CHECK;

/* Journal id up to which everything is captured. */
int64_t p2p_capture_position(const struct p2p_capture *capture);
/* Rows whose changes are captured, not frozen; and into how many changesets they go. */
size_t p2p_capture_provisional(const struct p2p_capture *capture);
size_t p2p_capture_turns(const struct p2p_capture *capture);
/* Rows whose frozen changes are not folded into the file yet. */
size_t p2p_capture_unfolded(const struct p2p_capture *capture);
/* Rows have a number that they do not show until what they were given is folded. */
bool p2p_capture_numbering(const struct p2p_capture *capture);
/* Own head. */
const struct p2p_vv_entry *p2p_capture_head(const struct p2p_capture *capture);
/* The greatest stamp that this replica has merged; after every merge. */
void p2p_capture_observe(struct p2p_capture *capture, struct p2p_hlc stamp);

/* A row of a table changed; number: it may have another holder now (NULL: values only). */
typedef int (*p2p_capture_changed)(void *ctx, struct p2p_table *table, const int64_t *number);
/* Inside a write transaction of the store, everything frozen (no provisional rows): writes the
 * overlay into the row states, sets `folded`, trims the journal. changed (may be NULL) tells what
 * the caller must project again. fold_done() after the commit drops the overlay, or keeps it after
 * a rollback. */
int p2p_capture_fold(struct p2p_capture *capture, p2p_capture_changed changed, void *ctx,
		     struct p2p_error *err) P2P_MUST_CHECK;
void p2p_capture_fold_done(struct p2p_capture *capture, bool committed);

#endif
