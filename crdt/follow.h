/* Rows follow their parents: when the numbers of rows move (crdt/projection.c), what refers to them
 * shows the new ones. */
#ifndef P2P_CRDT_FOLLOW_H
#define P2P_CRDT_FOLLOW_H

#include "crdt/settle.h"

/* A shown row whose column follows by a plain UPDATE. */
struct p2p_follower {
	uint32_t table;	    /* number of the child's */
	uint32_t reference; /* index there */
	size_t at, len;	    /* of its identity in keys */
	size_t mover;	    /* index in the list of who moves */
};

struct p2p_follow {
	struct p2p_follower *items; /* owned */
	size_t count, cap;
	struct p2p_buf keys;
};

/* The row is about to leave its table, or to lose its number: rows that show it refer to it from
 * now on by its identity (p2p_ref), and the plan is asked about them; those with the number in
 * their key or under UNIQUE leave their tables, with what refers to them. key is not the work's of
 * the settle. */
int p2p_follow_leave(struct p2p_target *target, const struct p2p_buf *key) P2P_MUST_CHECK;

/* As numbers->moving: list of rows of the target (ctx) with shown and target; before anything
 * moves, then, done, after it, with the targets that came of it. */
int p2p_follow_moving(void *ctx, struct p2p_claimants *list, bool done) P2P_MUST_CHECK;

#endif
