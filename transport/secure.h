/* Sealed frames: what a session puts on its link after the handshake.
 *
 *	length u16 big-endian | ChaChaPoly ciphertext of that many bytes, tag included
 *
 * Each direction has its own key and counter; a frame that is lost, repeated, moved or altered does
 * not open, and that ends the session. */
#ifndef P2P_TRANSPORT_SECURE_H
#define P2P_TRANSPORT_SECURE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"
#include "proto/error.h"
#include "transport/noise.h"

struct p2p_secure {
	struct p2p_noise_cipher send, receive;
	struct p2p_buf in; /* a frame that is not complete, or the last one opened */
	size_t opened;	   /* bytes of in that belong to the frame handed out last */
};

/* Takes the keys over and wipes the originals. */
void p2p_secure_init(struct p2p_secure *secure, struct p2p_noise_cipher *send,
		     struct p2p_noise_cipher *receive);
void p2p_secure_deinit(struct p2p_secure *secure);

/* Appends one frame to out: kind, then len bytes (len + 1 at most P2P_FRAME_PLAIN_MAX). P2P_ENOMEM,
 * P2P_ETOOBIG: out is full; P2P_ESTATE. After an error nothing was sealed. */
int p2p_secure_seal(struct p2p_secure *secure, uint8_t kind, const void *data, size_t len,
		    struct p2p_buf *out) P2P_MUST_CHECK;
/* Takes bytes from *data, moving *data and *len on, up to the end of a frame. Returns 0 (all was
 * taken, more is needed), P2P_SECURE_FRAME (*out_plain and *out_len are the opened bytes, at
 * least 1, valid until the next call), P2P_EAUTH, P2P_EPROTO, P2P_ENOMEM, P2P_ESTATE. */
#define P2P_SECURE_FRAME 1
int p2p_secure_open(struct p2p_secure *secure, const uint8_t **data, size_t *len,
		    const uint8_t **out_plain, size_t *out_len) P2P_MUST_CHECK;

#endif
