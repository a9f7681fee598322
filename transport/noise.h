/* The Noise Protocol Framework, revision 34, with 25519, ChaChaPoly and BLAKE2b, on libsodium.
 *
 * Patterns are tables of tokens. The product uses one, XXpsk3; the tests run the patterns of the
 * published vectors through the same code. Names follow the specification: e and s are our keys,
 * re and rs the other side's, ck the chaining key, h the handshake hash. */
#ifndef P2P_TRANSPORT_NOISE_H
#define P2P_TRANSPORT_NOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"
#include "proto/error.h"

#define P2P_NOISE_KEY_BYTES    32
#define P2P_NOISE_HASH_BYTES   64
#define P2P_NOISE_TAG_BYTES    16
#define P2P_NOISE_MESSAGE_MAX  65535
#define P2P_NOISE_TOKENS_MAX   6
#define P2P_NOISE_MESSAGES_MAX 3

/* CipherState. */
struct p2p_noise_cipher {
	uint8_t key[P2P_NOISE_KEY_BYTES];
	uint64_t nonce; /* 2^64 - 1 is reserved, and never used for a message */
	bool has_key;
};

/* out has room for len + 16 bytes, and may be in. P2P_ESTATE: the nonces are used up. Without a key
 * the bytes are copied as they are. */
int p2p_noise_encrypt(struct p2p_noise_cipher *cipher, const uint8_t *ad, size_t ad_len,
		      const uint8_t *in, size_t len, uint8_t *out) P2P_MUST_CHECK;
/* in has len bytes, tag included; out has room for len - 16, and may be in. P2P_EAUTH; the nonce
 * does not move then. */
int p2p_noise_decrypt(struct p2p_noise_cipher *cipher, const uint8_t *ad, size_t ad_len,
		      const uint8_t *in, size_t len, uint8_t *out) P2P_MUST_CHECK;
/* Rekey() of the specification: the key moves on, the nonce stays. */
void p2p_noise_rekey(struct p2p_noise_cipher *cipher);
void p2p_noise_cipher_wipe(struct p2p_noise_cipher *cipher);

enum p2p_noise_token {
	P2P_NOISE_END,
	P2P_NOISE_E,
	P2P_NOISE_S,
	P2P_NOISE_EE,
	P2P_NOISE_ES,
	P2P_NOISE_SE,
	P2P_NOISE_SS,
	P2P_NOISE_PSK,
};

struct p2p_noise_pattern {
	const char *name; /* "XXpsk3": between "Noise_" and "_25519_ChaChaPoly_BLAKE2b" */
	/* What each side knows of the other before: END, E or S. */
	enum p2p_noise_token initiator_known, responder_known;
	bool psk;
	uint8_t message_count; /* the initiator writes the first, then they take turns */
	uint8_t messages[P2P_NOISE_MESSAGES_MAX][P2P_NOISE_TOKENS_MAX]; /* enum p2p_noise_token */
};

extern const struct p2p_noise_pattern p2p_noise_xxpsk3;

/* Keys may be NULL where the pattern does not need them; all are copied. */
struct p2p_noise_config {
	const struct p2p_noise_pattern *pattern; /* borrowed for the life of the state */
	bool initiator;
	const void *prologue;
	size_t prologue_len;
	const uint8_t *s;  /* our static secret key */
	const uint8_t *e;  /* our ephemeral secret key: fresh random, used for one handshake only */
	const uint8_t *rs; /* the other side's public keys, if known before */
	const uint8_t *re;
	const uint8_t *psk;
};

/* HandshakeState and SymmetricState. */
struct p2p_noise {
	const struct p2p_noise_pattern *pattern;
	struct p2p_noise_cipher cipher;
	uint8_t ck[P2P_NOISE_HASH_BYTES];
	uint8_t h[P2P_NOISE_HASH_BYTES];
	uint8_t s[P2P_NOISE_KEY_BYTES], s_public[P2P_NOISE_KEY_BYTES];
	uint8_t e[P2P_NOISE_KEY_BYTES], e_public[P2P_NOISE_KEY_BYTES];
	uint8_t rs[P2P_NOISE_KEY_BYTES], re[P2P_NOISE_KEY_BYTES];
	uint8_t psk[P2P_NOISE_KEY_BYTES];
	bool has_s, has_e, has_rs, has_re, has_psk;
	bool initiator;
	bool failed;  /* wiped; every call gives P2P_ESTATE */
	uint8_t step; /* message that is written or read next */
};

/* Our bug, not the peer's, if a key that the pattern needs is missing: aborts when it is used. */
void p2p_noise_init(struct p2p_noise *noise, const struct p2p_noise_config *config);
/* Our next message, with payload in it, appended to out. P2P_EAUTH: the other side's key is a bad
 * point; P2P_ESTATE: failed before; P2P_ENOMEM, P2P_ETOOBIG. Any error wipes the state. */
int p2p_noise_write(struct p2p_noise *noise, const void *payload, size_t len,
		    struct p2p_buf *out) P2P_MUST_CHECK;
/* The other side's next message; its payload is appended to payload. P2P_EPROTO: too short;
 * P2P_EAUTH: does not decrypt, or a bad point; otherwise as p2p_noise_write(). */
int p2p_noise_read(struct p2p_noise *noise, const uint8_t *message, size_t len,
		   struct p2p_buf *payload) P2P_MUST_CHECK;
bool p2p_noise_finished(const struct p2p_noise *noise);
/* Whether the next message is ours to write. */
bool p2p_noise_my_turn(const struct p2p_noise *noise);
/* Split(), once, of a finished handshake; the handshake hash stays, keys are wiped. */
void p2p_noise_split(struct p2p_noise *noise, struct p2p_noise_cipher *out_send,
		     struct p2p_noise_cipher *out_receive);
void p2p_noise_wipe(struct p2p_noise *noise);

#endif
