/* The preface: 18 clear bytes before the handshake that say under which secret it will run, to
 * those who have the secret and to nobody else (decisions 31).
 *
 *	kind u8 | wire major u8 | tag 16
 *
 * The tag covers the initiator's ephemeral key, so nothing repeats on the wire. */
#ifndef P2P_TRANSPORT_PREFACE_H
#define P2P_TRANSPORT_PREFACE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/ident.h"

#define P2P_PREFACE_BYTES     18
#define P2P_PREFACE_TAG_BYTES 16
/* Changes only when the handshake itself does; messages have versions of their own. */
#define P2P_WIRE_MAJOR 1

/* What the secret is. */
enum p2p_kind {
	P2P_KIND_MEMBER = 1,  /* an epoch secret of the mesh */
	P2P_KIND_TICKET = 2,  /* the secret of an invite */
	P2P_KIND_PAIRING = 3, /* reserved for short codes: the key that CPace gave */
};

struct p2p_preface {
	uint8_t kind; /* as received: may be no enum p2p_kind */
	uint8_t major;
	uint8_t tag[P2P_PREFACE_TAG_BYTES];
};

void p2p_preface_pack(uint8_t out[P2P_PREFACE_BYTES], const struct p2p_preface *preface);
void p2p_preface_unpack(struct p2p_preface *out, const uint8_t bytes[P2P_PREFACE_BYTES]);
/* Sets the tag for kind and major of the preface. ephemeral: the initiator's, from message 1. */
void p2p_preface_sign(struct p2p_preface *preface, const uint8_t secret[P2P_KEY_BYTES],
		      const struct p2p_hash *mesh, const uint8_t ephemeral[P2P_KEY_BYTES]);
/* Whether the tag was made with this secret; in constant time. */
bool p2p_preface_check(const struct p2p_preface *preface, const uint8_t secret[P2P_KEY_BYTES],
		       const struct p2p_hash *mesh, const uint8_t ephemeral[P2P_KEY_BYTES]);
/* The psk of the Noise session that follows. The caller wipes it. */
void p2p_preface_psk(uint8_t out[P2P_KEY_BYTES], const uint8_t secret[P2P_KEY_BYTES]);

#endif
