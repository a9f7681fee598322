/* One beacon: how it is sealed, and how it is opened with the secrets that we have.
 *
 * To strangers a beacon is 256 random bytes. The layout is in docs/protocol-discovery.md. No
 * sockets and no time in here. */
#ifndef P2P_DISCOVERY_BEACON_H
#define P2P_DISCOVERY_BEACON_H

#include <stddef.h>
#include <stdint.h>

#include "discovery/address.h"
#include "proto/error.h"
#include "proto/ident.h"
#include "proto/limits.h"

#define P2P_BEACON_NONCE_BYTES 24

enum p2p_beacon_kind {
	P2P_BEACON_HELLO = 1,	/* I am here (under the mesh's secret) */
	P2P_BEACON_GOODBYE = 2, /* I leave (under the mesh's secret) */
	P2P_BEACON_SEEK = 3,	/* I want to join (under a ticket's secret) */
	P2P_BEACON_ANSWER = 4,	/* I made that ticket, dial me (under the ticket's secret) */
};

struct p2p_beacon {
	enum p2p_beacon_kind kind;
	struct p2p_key key;	/* of the sender's node */
	struct p2p_id instance; /* of its start */
	uint16_t port;		/* TCP, on the host that the datagram came from; 0: none */
	uint64_t time_ms;	/* sender's; only orders the beacons of one instance */
	size_t addresses_count;
	struct p2p_address addresses[P2P_BEACON_ADDRESSES_MAX]; /* others that reach it */
};

/* What a secret is for. */
enum p2p_secret_kind {
	P2P_SECRET_EPOCH,  /* of the mesh; the first one in the list is the one we speak */
	P2P_SECRET_ISSUED, /* of an open ticket of ours: seekers under it are answered */
	P2P_SECRET_HELD,   /* of the ticket by which we join: we seek under it */
};

struct p2p_beacon_secret {
	enum p2p_secret_kind kind;
	uint64_t id; /* the owner's name for it, not 0; comes back with what was heard under it */
	uint8_t bytes[P2P_KEY_BYTES];
};

/* The keys derived from the secrets that we try, in the owner's order. */
struct p2p_beacon_ring {
	size_t count;
	struct p2p_beacon_secret keys[P2P_EPOCH_KEYS_MAX + P2P_INVITE_KEYS_MAX];
};

/* Seals under the beacon key of ring->keys. nonce: fresh random bytes for each call. */
void p2p_beacon_seal(uint8_t out[P2P_BEACON_BYTES], const struct p2p_beacon *beacon,
		     const struct p2p_beacon_secret *key, const struct p2p_hash *mesh,
		     const uint8_t nonce[P2P_BEACON_NONCE_BYTES]);
/* Opens with one key. P2P_EAUTH: not under this key, or altered; P2P_EVERSION: of a later format;
 * P2P_EPROTO: sealed by somebody with the secret, but nonsense. *out is set on 0 only. */
int p2p_beacon_open(struct p2p_beacon *out, const void *data, size_t len,
		    const struct p2p_beacon_secret *key,
		    const struct p2p_hash *mesh) P2P_MUST_CHECK;

/* Replaces all keys by those derived from secrets. P2P_EINVAL: over P2P_EPOCH_KEYS_MAX epochs or
 * P2P_INVITE_KEYS_MAX others, or an id 0; the ring is then as before. */
int p2p_beacon_ring_set(struct p2p_beacon_ring *ring, const struct p2p_beacon_secret *secrets,
			size_t count) P2P_MUST_CHECK;
void p2p_beacon_ring_wipe(struct p2p_beacon_ring *ring);
/* Tries every key: *out_key (borrowed from the ring) is the one that opened it. Errors as of
 * p2p_beacon_open(); P2P_EPROTO also for a kind that the key is not for (a hello under a ticket).
 */
int p2p_beacon_ring_open(const struct p2p_beacon_ring *ring, const struct p2p_hash *mesh,
			 const void *data, size_t len, struct p2p_beacon *out,
			 const struct p2p_beacon_secret **out_key) P2P_MUST_CHECK;
/* The first key of a kind, or NULL. */
const struct p2p_beacon_secret *p2p_beacon_ring_first(const struct p2p_beacon_ring *ring,
						      enum p2p_secret_kind kind);

#endif
