/* In-process links: two ends joined by two bounded queues of bytes. Deterministic: nothing moves
 * until somebody pumps, so a simulator decides what arrives when, and in which pieces.
 *
 * A wire holds many pairs and pumps them all in the order of their making; it frees a pair when
 * both ends are closed. Pump functions must not be called from inside an event of a link. */
#ifndef P2P_TRANSPORT_PAIR_H
#define P2P_TRANSPORT_PAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"
#include "transport/link.h"

struct p2p_wire;
struct p2p_pair;

/* P2P_ENOMEM. Free with p2p_wire_free(), which closes what is open: ends that have not been closed
 * by their user must not be touched afterwards. */
int p2p_wire_new(struct p2p_wire **out_wire) P2P_MUST_CHECK;
void p2p_wire_free(struct p2p_wire *wire); /* NULL allowed */

/* Makes two joined ends, borrowed from the wire until each is closed with p2p_link_close(). Each
 * direction holds capacity_bytes and one chunk at most. out_pair may be NULL; it lives until both
 * ends are closed and the wire was pumped. P2P_ENOMEM. */
int p2p_wire_pair(struct p2p_wire *wire, size_t capacity_bytes, struct p2p_link *out_ends[2],
		  struct p2p_pair **out_pair) P2P_MUST_CHECK;

/* One round: hands over what every pair held when the round came to it, in chunks of at most
 * chunk_bytes (1 to P2P_LINK_CHUNK_MAX). Returns whether anything moved. */
bool p2p_wire_pump(struct p2p_wire *wire, size_t chunk_bytes);
/* Rounds until nothing moves, at most rounds_max. Returns whether it came to rest. */
bool p2p_wire_run(struct p2p_wire *wire, size_t chunk_bytes, unsigned int rounds_max);
/* Pairs that are not freed yet. */
size_t p2p_wire_count(const struct p2p_wire *wire);

/* For a simulator that moves bytes itself: a held pair is passed over by p2p_wire_pump(), and
 * not freed either. */
void p2p_pair_hold(struct p2p_pair *pair, bool held);
/* Bytes on their way to end `to` (0 or 1). */
size_t p2p_pair_waiting(const struct p2p_pair *pair, unsigned int to);
/* Hands at most len (1 to P2P_LINK_CHUNK_MAX) bytes, or the end of the stream, to end `to`; also
 * `writable` to the other end. Returns the bytes handed over. */
size_t p2p_pair_deliver(struct p2p_pair *pair, unsigned int to, size_t len);
/* Bytes waiting for end `to`, for tests that look or alter; valid until the next call. */
uint8_t *p2p_pair_bytes(struct p2p_pair *pair, unsigned int to, size_t *out_len);
/* Breaks the link as a pulled cable that was noticed: what is on its way is lost, and each end has
 * `closed` with P2P_ENET at the next pump. */
void p2p_pair_cut(struct p2p_pair *pair);

#endif
