/* Temporary numbers for the rows that lost theirs: in the order of row ids, each the next lower
 * free number from the derived one (crdt/numbers.h).
 *
 * Found for the rows that are given and for those that they stand in the way of, or leave room to:
 * the run of used numbers around them. Nothing is written. */
#ifndef P2P_CRDT_LOSERS_H
#define P2P_CRDT_LOSERS_H

#include "crdt/claimants.h"

struct p2p_losers {
	struct p2p_numbers *numbers; /* borrowed */
	struct p2p_claimants list;   /* after find(): sorted by row id, targets set */
	struct p2p_claimants more;   /* found to be among them */
	struct p2p_rowstate state;
	struct p2p_buf key;
	int64_t *slots; /* owned: numbers given out, open addressing; 0 is empty */
	size_t mask;
};

void p2p_losers_init(struct p2p_losers *losers, struct p2p_numbers *numbers);
void p2p_losers_deinit(struct p2p_losers *losers);
int p2p_losers_add(struct p2p_losers *losers, const struct p2p_claimant *at) P2P_MUST_CHECK;
/* The row that shows this temporary number, if any. */
int p2p_losers_add_at(struct p2p_losers *losers, int64_t number) P2P_MUST_CHECK;
int p2p_losers_find(struct p2p_losers *losers) P2P_MUST_CHECK;

#endif
