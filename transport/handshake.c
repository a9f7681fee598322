/* The handshake; see handshake.h and docs/protocol-session.md#handshake. */
#include "transport/handshake.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "proto/check.h"
#include "proto/message.h"

#define LENGTH_BYTES	   2 /* in front of each Noise message */
#define OPENING_BYTES	   (P2P_PREFACE_BYTES + LENGTH_BYTES)
#define PROLOGUE_BYTES	   (P2P_PREFACE_BYTES + P2P_HASH_BYTES + 2)
#define STATIC_DOMAIN	   "p2pnode/noise-static/1"
#define STATIC_INPUT_BYTES (sizeof(STATIC_DOMAIN) - 1 + P2P_HASH_BYTES + P2P_KEY_BYTES)

_Static_assert(sizeof(((struct p2p_self *)0)->sign_secret) == crypto_sign_SECRETKEYBYTES,
	       "an Ed25519 secret key as libsodium keeps it");
_Static_assert(P2P_EPOCH_KEYS_MAX <= P2P_INVITE_KEYS_MAX, "one array holds either");

/* What the two sides of a session are to one another; by the kind of secret. */
enum role { ROLE_MEMBER = 1, ROLE_JOINER = 2, ROLE_ADMITTER = 3 };

void p2p_self_wipe(struct p2p_self *identity)
{
	sodium_memzero(identity, sizeof(*identity));
}

static const char *state_name(enum p2p_handshake_state state)
{
	switch (state) {
	case P2P_HANDSHAKE_PREFACE:
		return "waiting for message 1";
	case P2P_HANDSHAKE_MESSAGE_2:
		return "waiting for message 2";
	case P2P_HANDSHAKE_MESSAGE_3:
		return "waiting for message 3";
	case P2P_HANDSHAKE_FINISHED:
		return "finished";
	case P2P_HANDSHAKE_FAILED:
		return "failed";
	}
	p2p_unreachable();
}

/* Each state is left for one other, or for FAILED. */
static void handshake_move(struct p2p_handshake *handshake, enum p2p_handshake_state to)
{
	static const enum p2p_handshake_state next[] = {
		[P2P_HANDSHAKE_PREFACE] = P2P_HANDSHAKE_MESSAGE_3,
		[P2P_HANDSHAKE_MESSAGE_2] = P2P_HANDSHAKE_FINISHED,
		[P2P_HANDSHAKE_MESSAGE_3] = P2P_HANDSHAKE_FINISHED,
		[P2P_HANDSHAKE_FINISHED] = P2P_HANDSHAKE_FAILED,
		[P2P_HANDSHAKE_FAILED] = P2P_HANDSHAKE_FAILED,
	};

	p2p_require(to == next[handshake->state] || to == P2P_HANDSHAKE_FAILED);
	handshake->state = to;
}

static int handshake_fail(struct p2p_handshake *handshake, int code, const char *text)
{
	(void)snprintf(handshake->text, sizeof(handshake->text), "handshake, %s: %s",
		       state_name(handshake->state), text);
	p2p_noise_wipe(&handshake->noise);
	sodium_memzero(&handshake->secret, sizeof(handshake->secret));
	handshake_move(handshake, P2P_HANDSHAKE_FAILED);
	return code;
}

/* --- Noise and its payloads ------------------------------------------------------------------- */

static void start_noise(struct p2p_handshake *handshake, const struct p2p_preface *preface,
			const uint8_t *ephemeral)
{
	uint8_t prologue[PROLOGUE_BYTES], psk[P2P_KEY_BYTES];
	bool member = preface->kind == P2P_KIND_MEMBER;
	struct p2p_noise_config config = {
		.pattern = &p2p_noise_xxpsk3,
		.initiator = handshake->initiator,
		.prologue = prologue,
		.prologue_len = sizeof(prologue),
		.s = handshake->config->local->noise_secret,
		.e = ephemeral,
		.psk = psk,
	};

	p2p_preface_pack(prologue, preface);
	memcpy(prologue + P2P_PREFACE_BYTES, handshake->config->mesh->bytes, P2P_HASH_BYTES);
	prologue[PROLOGUE_BYTES - 2] = member ? ROLE_MEMBER : ROLE_JOINER;
	prologue[PROLOGUE_BYTES - 1] = member ? ROLE_MEMBER : ROLE_ADMITTER;
	p2p_preface_psk(psk, handshake->secret.bytes);
	p2p_noise_init(&handshake->noise, &config);
	sodium_memzero(psk, sizeof(psk));
}

static void static_input(uint8_t out[STATIC_INPUT_BYTES], const struct p2p_hash *mesh,
			 const uint8_t *noise_key)
{
	const size_t at = sizeof(STATIC_DOMAIN) - 1;

	memcpy(out, STATIC_DOMAIN, at);
	memcpy(out + at, mesh->bytes, P2P_HASH_BYTES);
	memcpy(out + at + P2P_HASH_BYTES, noise_key, P2P_KEY_BYTES);
}

/* Appends length and Noise message with the payload. */
static int put_message(struct p2p_handshake *handshake, const ProtobufCMessage *payload,
		       struct p2p_buf *out)
{
	size_t at = out->len;
	struct p2p_buf packed;
	int rc;

	p2p_buf_init(&packed, P2P_HANDSHAKE_BYTES_MAX);
	rc = p2p_pack(&packed, payload);
	p2p_buf_put_u16(out, 0);
	if (!rc)
		rc = p2p_buf_error(out);
	if (!rc)
		rc = p2p_noise_write(&handshake->noise, packed.data, packed.len, out);
	p2p_buf_deinit(&packed);
	if (rc) {
		out->len = at;
		return rc;
	}
	p2p_require(out->len - at - LENGTH_BYTES <= P2P_HANDSHAKE_BYTES_MAX);
	out->data[at] = (uint8_t)((out->len - at - LENGTH_BYTES) >> 8);
	out->data[at + 1] = (uint8_t)(out->len - at - LENGTH_BYTES);
	return 0;
}

/* Our identity, in message 2 or 3. */
static int put_identity(struct p2p_handshake *handshake, uint32_t version, struct p2p_buf *out)
{
	const struct p2p_handshake_config *config = handshake->config;
	P2p__V1__HandshakeIdentity identity;
	uint8_t input[STATIC_INPUT_BYTES], signature[P2P_SIG_BYTES];
	char software[P2P_SOFTWARE_MAX + 1];
	uint32_t versions[P2P_VERSIONS_MAX];

	p2p__v1__handshake_identity__init(&identity);
	static_input(input, config->mesh, config->local->noise.bytes);
	p2p_require(crypto_sign_detached(signature, NULL, input, sizeof(input),
					 config->local->sign_secret) == 0);
	(void)snprintf(software, sizeof(software), "%s", config->software);
	memcpy(versions, config->versions, config->version_count * sizeof(versions[0]));
	identity.node = p2p_field(config->local->node.bytes, P2P_KEY_BYTES);
	identity.signature = p2p_field(signature, sizeof(signature));
	identity.instance = p2p_field(config->local->instance.bytes, P2P_ID_BYTES);
	identity.version = version;
	identity.software = software;
	if (!handshake->initiator) {
		identity.versions = versions;
		identity.n_versions = config->version_count;
	}
	return put_message(handshake, &identity.base, out);
}

/* A name from the peer: what is not printable ASCII becomes '?'. */
static void copy_software(char out[P2P_SOFTWARE_MAX + 1], const char *from)
{
	size_t i;

	for (i = 0; i < P2P_SOFTWARE_MAX && from[i]; i++)
		out[i] = from[i] >= 0x20 && from[i] < 0x7f ? from[i] : '?';
	out[i] = 0;
}

static bool speaks(const struct p2p_handshake_config *config, uint32_t version)
{
	size_t i;

	for (i = 0; i < config->version_count; i++)
		if (config->versions[i] == version)
			return true;
	return false;
}

static uint32_t greatest(const uint32_t *versions, size_t count)
{
	uint32_t max = 0;
	size_t i;

	for (i = 0; i < count; i++)
		if (versions[i] > max)
			max = versions[i];
	return max;
}

static int no_common_version(struct p2p_handshake *handshake, const uint32_t *theirs, size_t count)
{
	const struct p2p_handshake_config *config = handshake->config;
	uint32_t mine = greatest(config->versions, config->version_count);
	uint32_t their = greatest(theirs, count);
	char text[96];

	(void)snprintf(text, sizeof(text), "we speak version %u, the peer version %u: upgrade %s",
		       mine, their, mine < their ? "this node" : "the peer");
	return handshake_fail(handshake, P2P_EVERSION, text);
}

/* --- initiator -------------------------------------------------------------------------------- */

static int send_message_1(struct p2p_handshake *handshake, struct p2p_buf *out)
{
	const struct p2p_handshake_config *config = handshake->config;
	struct p2p_preface preface = {.kind = (uint8_t)handshake->secret.kind,
				      .major = P2P_WIRE_MAJOR};
	uint8_t ephemeral[P2P_KEY_BYTES], public[P2P_KEY_BYTES], packed[P2P_PREFACE_BYTES];
	P2p__V1__HandshakeOffer offer;
	uint32_t versions[P2P_VERSIONS_MAX];
	char software[P2P_SOFTWARE_MAX + 1];
	int rc;

	p2p__v1__handshake_offer__init(&offer);
	p2p_env_random(config->env, ephemeral, sizeof(ephemeral));
	p2p_require(crypto_scalarmult_base(public, ephemeral) == 0);
	p2p_preface_sign(&preface, handshake->secret.bytes, config->mesh, public);
	start_noise(handshake, &preface, ephemeral);
	sodium_memzero(ephemeral, sizeof(ephemeral));
	p2p_preface_pack(packed, &preface);
	p2p_buf_put(out, packed, sizeof(packed));
	memcpy(versions, config->versions, config->version_count * sizeof(versions[0]));
	(void)snprintf(software, sizeof(software), "%s", config->software);
	offer.versions = versions;
	offer.n_versions = config->version_count;
	offer.software = software;
	rc = put_message(handshake, &offer.base, out);
	return rc ? handshake_fail(handshake, rc, p2p_strerror(rc)) : 0;
}

/* Checks the identity in a decrypted payload of message 2 or 3, and takes it over. */
static int take_identity(struct p2p_handshake *handshake,
			 const P2p__V1__HandshakeIdentity *identity)
{
	const uint8_t *noise_key = handshake->noise.rs;
	struct p2p_peer *peer = &handshake->peer;
	uint8_t input[STATIC_INPUT_BYTES];
	struct p2p_signature signature;

	if (p2p_field_key(&peer->node, &identity->node) ||
	    p2p_field_signature(&signature, &identity->signature) ||
	    p2p_field_id(&peer->instance, &identity->instance))
		return handshake_fail(handshake, P2P_EPROTO, "an identity of a wrong size");
	static_input(input, handshake->config->mesh, noise_key);
	if (crypto_sign_verify_detached(signature.bytes, input, sizeof(input), peer->node.bytes))
		return handshake_fail(handshake, P2P_EAUTH, "the node key did not sign this");
	memcpy(peer->noise.bytes, noise_key, P2P_KEY_BYTES);
	copy_software(peer->software, identity->software);
	peer->kind = handshake->secret.kind;
	peer->secret_id = handshake->secret.id;
	return 0;
}

static int finish(struct p2p_handshake *handshake)
{
	p2p_require(p2p_noise_finished(&handshake->noise));
	sodium_memzero(&handshake->secret, sizeof(handshake->secret));
	handshake_move(handshake, P2P_HANDSHAKE_FINISHED);
	return P2P_HANDSHAKE_DONE;
}

static int take_message_2(struct p2p_handshake *handshake,
			  const P2p__V1__HandshakeIdentity *identity, struct p2p_buf *out)
{
	int rc = take_identity(handshake, identity);

	if (rc)
		return rc;
	if (identity->n_versions > P2P_VERSIONS_MAX)
		return handshake_fail(handshake, P2P_EPROTO, "too many versions");
	if (identity->version == 0)
		return no_common_version(handshake, identity->versions, identity->n_versions);
	if (!speaks(handshake->config, identity->version))
		return handshake_fail(handshake, P2P_EPROTO, "a version that was not offered");
	handshake->peer.version = identity->version;
	rc = put_identity(handshake, identity->version, out);
	return rc ? handshake_fail(handshake, rc, p2p_strerror(rc)) : finish(handshake);
}

/* --- responder -------------------------------------------------------------------------------- */

/* Finds the secret under which the tag was made; a copy in handshake->secret. */
static bool find_secret(struct p2p_handshake *handshake, const struct p2p_preface *preface,
			const uint8_t *ephemeral)
{
	const struct p2p_handshake_config *config = handshake->config;
	struct p2p_secret secrets[P2P_INVITE_KEYS_MAX];
	enum p2p_kind kind = (enum p2p_kind)preface->kind;
	size_t max = kind == P2P_KIND_MEMBER ? P2P_EPOCH_KEYS_MAX : P2P_INVITE_KEYS_MAX;
	size_t i, count = config->secrets(config->ctx, kind, secrets, max);
	bool found = false;

	p2p_require(count <= max);
	for (i = 0; i < count && !found; i++) {
		p2p_require(secrets[i].kind == kind);
		found = p2p_preface_check(preface, secrets[i].bytes, config->mesh, ephemeral);
		if (found)
			handshake->secret = secrets[i];
	}
	sodium_memzero(secrets, sizeof(secrets));
	return found && (!config->fresh || config->fresh(config->ctx, preface->tag));
}

/* Answers a peer that has the secret. A list without a common version is answered too, with
 * version 0 and our own list, so that the error can be told at both ends. */
static int answer_offer(struct p2p_handshake *handshake, const P2p__V1__HandshakeOffer *offer,
			struct p2p_buf *out)
{
	uint32_t version = 0;
	size_t i;
	int rc;

	if (offer->n_versions == 0 || offer->n_versions > P2P_VERSIONS_MAX)
		return handshake_fail(handshake, P2P_EPROTO, "a bad number of versions");
	for (i = 0; i < offer->n_versions; i++)
		if (offer->versions[i] > version && speaks(handshake->config, offer->versions[i]))
			version = offer->versions[i];
	copy_software(handshake->peer.software, offer->software);
	handshake->peer.version = version;
	rc = put_identity(handshake, version, out);
	if (rc)
		return handshake_fail(handshake, rc, p2p_strerror(rc));
	if (version == 0)
		return no_common_version(handshake, offer->versions, offer->n_versions);
	handshake_move(handshake, P2P_HANDSHAKE_MESSAGE_3);
	return 0;
}

static int take_offer(struct p2p_handshake *handshake, const uint8_t *message, size_t len,
		      struct p2p_buf *out)
{
	const ProtobufCMessage *offer;
	struct p2p_buf payload;
	void *arena;
	int rc;

	p2p_buf_init(&payload, P2P_HANDSHAKE_BYTES_MAX);
	rc = p2p_noise_read(&handshake->noise, message, len, &payload);
	if (!rc)
		rc = p2p_unpack(&p2p__v1__handshake_offer__descriptor, payload.data, payload.len,
				&offer, &arena);
	p2p_buf_deinit(&payload);
	if (rc)
		return handshake_fail(handshake, rc, "message 1 is malformed");
	rc = answer_offer(handshake, (const P2p__V1__HandshakeOffer *)offer, out);
	p2p_unpack_free(arena);
	return rc;
}

static int take_message_1(struct p2p_handshake *handshake, struct p2p_buf *out)
{
	const uint8_t *message = handshake->in.data + OPENING_BYTES;
	size_t len = handshake->in.len - OPENING_BYTES;
	uint8_t ephemeral[P2P_KEY_BYTES];
	struct p2p_preface preface;

	p2p_preface_unpack(&preface, handshake->in.data);
	if (!find_secret(handshake, &preface, message))
		return handshake_fail(handshake, P2P_EAUTH, "a stranger");
	if (preface.major != P2P_WIRE_MAJOR) {
		char text[96];

		(void)snprintf(text, sizeof(text), "we speak wire %u, the peer wire %u: upgrade %s",
			       P2P_WIRE_MAJOR, preface.major,
			       P2P_WIRE_MAJOR < preface.major ? "this node" : "the peer");
		return handshake_fail(handshake, P2P_EVERSION, text);
	}
	p2p_env_random(handshake->config->env, ephemeral, sizeof(ephemeral));
	start_noise(handshake, &preface, ephemeral);
	sodium_memzero(ephemeral, sizeof(ephemeral));
	return take_offer(handshake, message, len, out);
}

static int take_message_3(struct p2p_handshake *handshake,
			  const P2p__V1__HandshakeIdentity *identity)
{
	int rc = take_identity(handshake, identity);

	if (rc)
		return rc;
	if (identity->version != handshake->peer.version)
		return handshake_fail(handshake, P2P_EPROTO, "a version that was not chosen");
	return finish(handshake);
}

/* --- both ------------------------------------------------------------------------------------- */

/* Message 2 or 3, complete in handshake->in. */
static int take_identity_message(struct p2p_handshake *handshake, struct p2p_buf *out)
{
	const ProtobufCMessage *message;
	struct p2p_buf payload;
	void *arena;
	int rc;

	p2p_buf_init(&payload, P2P_HANDSHAKE_BYTES_MAX);
	rc = p2p_noise_read(&handshake->noise, handshake->in.data + LENGTH_BYTES,
			    handshake->in.len - LENGTH_BYTES, &payload);
	if (!rc)
		rc = p2p_unpack(&p2p__v1__handshake_identity__descriptor, payload.data, payload.len,
				&message, &arena);
	p2p_buf_deinit(&payload);
	if (rc)
		return handshake_fail(handshake, rc, p2p_strerror(rc));
	if (handshake->state == P2P_HANDSHAKE_MESSAGE_2)
		rc = take_message_2(handshake, (const P2p__V1__HandshakeIdentity *)message, out);
	else
		rc = take_message_3(handshake, (const P2p__V1__HandshakeIdentity *)message);
	p2p_unpack_free(arena);
	return rc;
}

static int take_message(struct p2p_handshake *handshake, struct p2p_buf *out)
{
	int rc = 0;

	switch (handshake->state) {
	case P2P_HANDSHAKE_PREFACE:
		rc = take_message_1(handshake, out);
		break;
	case P2P_HANDSHAKE_MESSAGE_2:
	case P2P_HANDSHAKE_MESSAGE_3:
		rc = take_identity_message(handshake, out);
		break;
	case P2P_HANDSHAKE_FINISHED:
	case P2P_HANDSHAKE_FAILED:
		p2p_unreachable();
	}
	p2p_buf_reset(&handshake->in);
	return rc;
}

/* How many bytes handshake->in must hold before the next step: the length first, then all. */
static size_t bytes_wanted(const struct p2p_handshake *handshake)
{
	size_t head = handshake->state == P2P_HANDSHAKE_PREFACE ? OPENING_BYTES : LENGTH_BYTES;
	const uint8_t *at;

	if (handshake->in.len < head)
		return head;
	at = handshake->in.data + head - LENGTH_BYTES;
	return head + ((size_t)at[0] << 8 | at[1]);
}

/* What can be said of a message by its first bytes: a stranger's are dropped early. */
static int check_start(struct p2p_handshake *handshake, size_t wanted)
{
	const struct p2p_buf *in = &handshake->in;

	if (handshake->received_bytes - in->len + wanted > P2P_HANDSHAKE_BYTES_MAX)
		return handshake_fail(handshake, P2P_ETOOBIG, "more than a handshake may have");
	if (handshake->state != P2P_HANDSHAKE_PREFACE || in->len == 0)
		return 0;
	if (in->data[0] < P2P_KIND_MEMBER || in->data[0] > P2P_KIND_PAIRING)
		return handshake_fail(handshake, P2P_EAUTH, "a stranger");
	if (in->len >= OPENING_BYTES && wanted < OPENING_BYTES + P2P_KEY_BYTES)
		return handshake_fail(handshake, P2P_EAUTH, "a stranger");
	return 0;
}

int p2p_handshake_init(struct p2p_handshake *handshake, const struct p2p_handshake_config *config,
		       const struct p2p_secret *secret, struct p2p_buf *out)
{
	p2p_require(config->local != NULL);
	p2p_require(config->version_count > 0);
	p2p_require(config->version_count <= P2P_VERSIONS_MAX);
	p2p_require(strlen(config->software) <= P2P_SOFTWARE_MAX);
	memset(handshake, 0, sizeof(*handshake));
	p2p_buf_init(&handshake->in, P2P_HANDSHAKE_BYTES_MAX);
	handshake->config = config;
	handshake->initiator = secret != NULL;
	handshake->state = P2P_HANDSHAKE_PREFACE;
	if (!secret)
		return 0;
	handshake->secret = *secret;
	handshake->state = P2P_HANDSHAKE_MESSAGE_2;
	return send_message_1(handshake, out);
}

void p2p_handshake_deinit(struct p2p_handshake *handshake)
{
	p2p_buf_deinit(&handshake->in);
	sodium_memzero(handshake, sizeof(*handshake));
}

int p2p_handshake_feed(struct p2p_handshake *handshake, const uint8_t *data, size_t len,
		       size_t *out_used, struct p2p_buf *out)
{
	size_t take, wanted;
	int rc = 0;

	*out_used = 0;
	p2p_require(handshake->state != P2P_HANDSHAKE_FINISHED);
	if (handshake->state == P2P_HANDSHAKE_FAILED)
		return P2P_ESTATE;
	while (!rc) { /* each round takes bytes or a message, or leaves */
		wanted = bytes_wanted(handshake);
		rc = check_start(handshake, wanted);
		if (rc)
			break;
		if (handshake->in.len == wanted) {
			rc = take_message(handshake, out);
			continue;
		}
		if (*out_used == len)
			return 0;
		take = wanted - handshake->in.len;
		if (take > len - *out_used)
			take = len - *out_used;
		p2p_buf_put(&handshake->in, data + *out_used, take);
		if (p2p_buf_error(&handshake->in))
			return handshake_fail(handshake, P2P_ENOMEM, p2p_strerror(P2P_ENOMEM));
		handshake->received_bytes += take;
		*out_used += take;
	}
	return rc;
}

bool p2p_handshake_known(const struct p2p_handshake *handshake)
{
	return handshake->state == P2P_HANDSHAKE_MESSAGE_3 ||
	       handshake->state == P2P_HANDSHAKE_FINISHED;
}

void p2p_handshake_split(struct p2p_handshake *handshake, struct p2p_noise_cipher *out_send,
			 struct p2p_noise_cipher *out_receive)
{
	p2p_require(handshake->state == P2P_HANDSHAKE_FINISHED);
	p2p_noise_split(&handshake->noise, out_send, out_receive);
}
