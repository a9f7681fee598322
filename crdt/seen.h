/* What authors had seen when they wrote: up to which stamp of each other replica.
 *
 * A cell that a remote change overwrites was lost in a conflict exactly if the change's author had
 * not seen it. Headers say it (`deps`: merged since the author's previous changeset), so it is kept
 * up with each changeset that is merged, in the application's file and its transaction. */
#ifndef P2P_CRDT_SEEN_H
#define P2P_CRDT_SEEN_H

#include "crdt/changeset.h"
#include "crdt/store.h"

/* Stamp of a changeset that was merged, or made here. P2P_ENOENT: not known (any more). */
typedef int (*p2p_seen_stamp)(void *ctx, const struct p2p_id *replica, uint64_t seq,
			      struct p2p_hlc *out);

struct p2p_seen_entry {
	uint32_t author, other; /* small numbers */
	bool dirty;		/* not in the file yet */
	uint64_t stamp;
};

struct p2p_seen {
	struct p2p_seen_entry *entries; /* owned; by (author, other) */
	size_t count, cap;
	bool loaded, dirty;
};

void p2p_seen_init(struct p2p_seen *seen);
/* Also after a rollback: what is in memory may not be in the file. */
void p2p_seen_deinit(struct p2p_seen *seen);
/* Takes up what the author of a changeset had merged. Inside the write transaction that merges it.
 * stamp_of NULL: nothing is known. */
int p2p_seen_note(struct p2p_seen *seen, struct p2p_store *store, const struct p2p_header *header,
		  p2p_seen_stamp stamp_of, void *ctx) P2P_MUST_CHECK;
/* Writes what was noted; before the commit. */
int p2p_seen_save(struct p2p_seen *seen, struct p2p_store *store) P2P_MUST_CHECK;
/* The author has seen this write of another replica, or of its own. */
bool p2p_seen_covers(const struct p2p_seen *seen, uint32_t author, uint32_t other, uint64_t stamp);

#endif
