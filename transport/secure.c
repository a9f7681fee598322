/* Sealed frames; see secure.h.
 *
 * P2P_TEST_PLAINTEXT makes a second library for tests alone, whose frames carry the plain bytes and
 * 16 zero bytes instead of the tag. A test that looks for application data in captured packets
 * runs once with it, to prove that it would find some; nothing of the product is linked to it. */
#include "transport/secure.h"

#include <sodium.h>
#include <string.h>

#include "proto/check.h"
#include "proto/limits.h"

_Static_assert(P2P_AEAD_TAG_BYTES == P2P_NOISE_TAG_BYTES, "one cipher");

void p2p_secure_init(struct p2p_secure *secure, struct p2p_noise_cipher *send,
		     struct p2p_noise_cipher *receive)
{
	p2p_require(send->has_key);
	p2p_require(receive->has_key);
	memset(secure, 0, sizeof(*secure));
	secure->send = *send;
	secure->receive = *receive;
	p2p_noise_cipher_wipe(send);
	p2p_noise_cipher_wipe(receive);
	p2p_buf_init(&secure->in, P2P_FRAME_HEADER_BYTES + P2P_FRAME_SEALED_MAX);
}

void p2p_secure_deinit(struct p2p_secure *secure)
{
	if (secure->in.data)
		sodium_memzero(secure->in.data, secure->in.cap);
	p2p_buf_deinit(&secure->in);
	p2p_noise_cipher_wipe(&secure->send);
	p2p_noise_cipher_wipe(&secure->receive);
}

#ifdef P2P_TEST_PLAINTEXT
static int seal_bytes(struct p2p_noise_cipher *cipher, uint8_t *bytes, size_t len)
{
	memset(bytes + len, 0, P2P_AEAD_TAG_BYTES);
	cipher->nonce++;
	return 0;
}

static int open_bytes(struct p2p_noise_cipher *cipher, uint8_t *bytes, size_t len)
{
	(void)bytes;
	(void)len;
	cipher->nonce++;
	return 0;
}
#else
static int seal_bytes(struct p2p_noise_cipher *cipher, uint8_t *bytes, size_t len)
{
	return p2p_noise_encrypt(cipher, NULL, 0, bytes, len, bytes);
}

static int open_bytes(struct p2p_noise_cipher *cipher, uint8_t *bytes, size_t len)
{
	return p2p_noise_decrypt(cipher, NULL, 0, bytes, len, bytes);
}
#endif

/* Both sides count frames, so both change the key after the same one. */
static void count_frame(struct p2p_noise_cipher *cipher)
{
	if (cipher->nonce % P2P_REKEY_FRAMES == 0)
		p2p_noise_rekey(cipher);
}

int p2p_secure_seal(struct p2p_secure *secure, uint8_t kind, const void *data, size_t len,
		    struct p2p_buf *out)
{
	size_t sealed = 1 + len + P2P_AEAD_TAG_BYTES;
	uint8_t *at;
	int rc;

	p2p_require(sealed <= P2P_FRAME_SEALED_MAX);
	at = p2p_buf_reserve(out, P2P_FRAME_HEADER_BYTES + sealed);
	if (!at)
		return p2p_buf_error(out);
	at[0] = (uint8_t)(sealed >> 8);
	at[1] = (uint8_t)sealed;
	at[2] = kind;
	if (len)
		memcpy(at + 3, data, len);
	rc = seal_bytes(&secure->send, at + P2P_FRAME_HEADER_BYTES, 1 + len);
	if (rc)
		return rc;
	out->len += P2P_FRAME_HEADER_BYTES + sealed;
	count_frame(&secure->send);
	return 0;
}

/* Moves bytes from *data until in holds wanted of them. */
static int fill(struct p2p_secure *secure, size_t wanted, const uint8_t **data, size_t *len)
{
	size_t take = wanted - secure->in.len;

	if (take > *len)
		take = *len;
	p2p_buf_put(&secure->in, *data, take);
	*data += take;
	*len -= take;
	return p2p_buf_error(&secure->in);
}

int p2p_secure_open(struct p2p_secure *secure, const uint8_t **data, size_t *len,
		    const uint8_t **out_plain, size_t *out_len)
{
	struct p2p_buf *in = &secure->in;
	size_t sealed;
	int rc = 0;

	if (secure->opened)
		p2p_buf_reset(in);
	secure->opened = 0;
	if (in->len < P2P_FRAME_HEADER_BYTES)
		rc = fill(secure, P2P_FRAME_HEADER_BYTES, data, len);
	if (rc || in->len < P2P_FRAME_HEADER_BYTES)
		return rc;
	sealed = (size_t)in->data[0] << 8 | in->data[1];
	if (sealed < 1 + P2P_AEAD_TAG_BYTES)
		return P2P_EPROTO;
	rc = fill(secure, P2P_FRAME_HEADER_BYTES + sealed, data, len);
	if (rc || in->len < P2P_FRAME_HEADER_BYTES + sealed)
		return rc;
	rc = open_bytes(&secure->receive, in->data + P2P_FRAME_HEADER_BYTES, sealed);
	if (rc)
		return rc;
	count_frame(&secure->receive);
	secure->opened = in->len;
	*out_plain = in->data + P2P_FRAME_HEADER_BYTES;
	*out_len = sealed - P2P_AEAD_TAG_BYTES;
	return P2P_SECURE_FRAME;
}
