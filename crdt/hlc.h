/* Hybrid logical clock (Kulkarni et al. 2014): 48 bits of Unix milliseconds, 16 bits of counter.
 *
 * Stamps of one replica strictly increase, and a stamp is greater than every stamp that its maker
 * had merged before: so `stamp <= stamp of (replica, seq)` says that a clock is covered (decisions
 * 13). */
#ifndef P2P_CRDT_HLC_H
#define P2P_CRDT_HLC_H

#include "proto/ident.h"

/* Greatest millisecond that fits: the year 10889. */
#define P2P_HLC_MS_MAX ((1ull << 48) - 1)

struct p2p_hlc p2p_hlc_of_ms(uint64_t ms); /* counter 0; clamps to P2P_HLC_MS_MAX */
uint64_t p2p_hlc_ms(struct p2p_hlc stamp);
/* The greatest causal length that a record with this clock may have. */
uint64_t p2p_hlc_lives(struct p2p_hlc stamp);

/* The stamp of a local change made at wall_ms after everything up to `last` was seen: greater than
 * last, and at least wall_ms. P2P_EINVAL when the clock is used up (last is the greatest stamp). */
int p2p_hlc_next(struct p2p_hlc *out, struct p2p_hlc last, uint64_t wall_ms) P2P_MUST_CHECK;

#endif
