/* The handshake: who is there, and which keys protect the session. Bytes in, bytes out; no sockets,
 * no clock. docs/protocol-session.md#handshake is the specification.
 *
 *	initiator						responder
 *	preface, message 1 (e, versions)	->		looks for the secret; none: silence
 *					<-		message 2 (e, ee, s, es, identity)
 *	message 3 (s, se, psk, identity)	->
 *
 * A stranger, who has none of the secrets, is never sent a byte. */
#ifndef P2P_TRANSPORT_HANDSHAKE_H
#define P2P_TRANSPORT_HANDSHAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"
#include "proto/env.h"
#include "proto/error.h"
#include "proto/ident.h"
#include "proto/limits.h"
#include "transport/noise.h"
#include "transport/preface.h"

/* Who we are: secrets in here are wiped with p2p_self_wipe(). */
struct p2p_self {
	uint8_t sign_secret[64]; /* Ed25519, as libsodium keeps it: seed and public key */
	struct p2p_key node;	 /* its public key: the name of the node */
	uint8_t noise_secret[P2P_KEY_BYTES];
	struct p2p_key noise;	/* X25519 */
	struct p2p_id instance; /* random, one per start of the process */
};

void p2p_self_wipe(struct p2p_self *identity);

/* A secret that opens sessions, shared by those who may meet under it. */
struct p2p_secret {
	enum p2p_kind kind;
	uint64_t id; /* chosen by the owner, told back in the result; not on the wire */
	uint8_t bytes[P2P_KEY_BYTES];
};

struct p2p_handshake_config {
	const struct p2p_self *local; /* borrowed for the life of the handshake, as all here */
	const struct p2p_hash *mesh;
	const struct p2p_env *env;
	const uint32_t *versions; /* of messages, that we speak; 1 to P2P_VERSIONS_MAX, none 0 */
	size_t version_count;
	const char *software; /* name and version, for people; at most P2P_SOFTWARE_MAX bytes */
	/* Responder: copies at most max secrets of the kind to out, returns their number. At most
	 * P2P_EPOCH_KEYS_MAX for members, P2P_INVITE_KEYS_MAX for the others. */
	size_t (*secrets)(void *ctx, enum p2p_kind kind, struct p2p_secret *out, size_t max);
	/* Responder, NULL allowed: false if this tag was seen before (a replay). Asked only for
	 * tags that match a secret. */
	bool (*fresh)(void *ctx, const uint8_t tag[P2P_PREFACE_TAG_BYTES]);
	void *ctx;
};

/* What a finished handshake has proved. */
struct p2p_peer {
	struct p2p_key node;
	struct p2p_key noise;
	struct p2p_id instance;
	enum p2p_kind kind;
	uint64_t secret_id;
	uint32_t version;
	char software[P2P_SOFTWARE_MAX + 1]; /* claimed by the peer; printable ASCII */
};

enum p2p_handshake_state {
	P2P_HANDSHAKE_PREFACE,	 /* responder: waits for preface and message 1 */
	P2P_HANDSHAKE_MESSAGE_2, /* initiator: waits for it */
	P2P_HANDSHAKE_MESSAGE_3, /* responder: waits for it */
	P2P_HANDSHAKE_FINISHED,
	P2P_HANDSHAKE_FAILED,
};

struct p2p_handshake {
	const struct p2p_handshake_config *config; /* borrowed */
	enum p2p_handshake_state state;
	bool initiator;
	struct p2p_secret secret;
	struct p2p_peer peer;
	struct p2p_noise noise;
	struct p2p_buf in;
	size_t received_bytes;
	char text[160]; /* why it failed, for people */
};

/* Starts as responder (secret NULL), or as initiator: then preface and message 1 are appended to
 * out. P2P_ENOMEM, P2P_ETOOBIG. Deinit in any case. */
int p2p_handshake_init(struct p2p_handshake *handshake, const struct p2p_handshake_config *config,
		       const struct p2p_secret *secret, struct p2p_buf *out) P2P_MUST_CHECK;
/* Wipes all secrets. */
void p2p_handshake_deinit(struct p2p_handshake *handshake);

/* Takes bytes from the peer; *out_used says how many (fewer than len only when it finished: the
 * rest belongs to the session). What is to be sent is appended to out, also when it fails.
 * Returns 0 (more is needed), P2P_HANDSHAKE_DONE, or why it failed: P2P_EAUTH, P2P_EPROTO,
 * P2P_ETOOBIG, P2P_EVERSION, P2P_ENOMEM; handshake->text says more. */
#define P2P_HANDSHAKE_DONE 1
int p2p_handshake_feed(struct p2p_handshake *handshake, const uint8_t *data, size_t len,
		       size_t *out_used, struct p2p_buf *out) P2P_MUST_CHECK;
/* Whether the tag was verified: the other side has one of our secrets (or has seen it used). */
bool p2p_handshake_known(const struct p2p_handshake *handshake);
/* The keys of the session, after P2P_HANDSHAKE_DONE, once. The caller wipes them. */
void p2p_handshake_split(struct p2p_handshake *handshake, struct p2p_noise_cipher *out_send,
			 struct p2p_noise_cipher *out_receive);

#endif
