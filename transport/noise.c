/* The Noise Protocol Framework; see noise.h. Section numbers are those of revision 34,
 * https://noiseprotocol.org/noise.html */
#include "transport/noise.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "proto/check.h"

#define HASH_BLOCK_BYTES 128 /* BLOCKLEN of BLAKE2b, for HMAC */
#define PATTERN_NAME_MAX 24

_Static_assert(P2P_NOISE_KEY_BYTES == crypto_scalarmult_BYTES, "DHLEN");
_Static_assert(P2P_NOISE_KEY_BYTES == crypto_aead_chacha20poly1305_ietf_KEYBYTES, "cipher key");
_Static_assert(P2P_NOISE_TAG_BYTES == crypto_aead_chacha20poly1305_ietf_ABYTES, "cipher tag");
_Static_assert(P2P_NOISE_HASH_BYTES == crypto_generichash_BYTES_MAX, "HASHLEN");

// clang-format off
const struct p2p_noise_pattern p2p_noise_xxpsk3 = {
	.name = "XXpsk3",
	.psk = true,
	.message_count = 3,
	.messages = {
		{P2P_NOISE_E},
		{P2P_NOISE_E, P2P_NOISE_EE, P2P_NOISE_S, P2P_NOISE_ES},
		{P2P_NOISE_S, P2P_NOISE_SE, P2P_NOISE_PSK},
	},
};
// clang-format on

/* --- hash functions (4.3) --------------------------------------------------------------------- */

struct part {
	const void *data;
	size_t len;
};

static void hash_parts(uint8_t out[P2P_NOISE_HASH_BYTES], const struct part *parts, size_t count)
{
	crypto_generichash_state state;
	size_t i;

	p2p_require(crypto_generichash_init(&state, NULL, 0, P2P_NOISE_HASH_BYTES) == 0);
	for (i = 0; i < count; i++)
		p2p_require(crypto_generichash_update(&state, parts[i].data, parts[i].len) == 0);
	p2p_require(crypto_generichash_final(&state, out, P2P_NOISE_HASH_BYTES) == 0);
	sodium_memzero(&state, sizeof(state));
}

/* HMAC of RFC 2104 over BLAKE2b; the key is never longer than a block here. */
static void hmac(uint8_t out[P2P_NOISE_HASH_BYTES], const uint8_t key[P2P_NOISE_HASH_BYTES],
		 const struct part *data, const struct part *more)
{
	uint8_t inner[HASH_BLOCK_BYTES], outer[HASH_BLOCK_BYTES], digest[P2P_NOISE_HASH_BYTES];
	size_t i;

	memset(inner, 0x36, sizeof(inner));
	memset(outer, 0x5c, sizeof(outer));
	for (i = 0; i < P2P_NOISE_HASH_BYTES; i++) {
		inner[i] ^= key[i];
		outer[i] ^= key[i];
	}
	hash_parts(digest, (struct part[]){{inner, sizeof(inner)}, *data, *more}, 3);
	hash_parts(out, (struct part[]){{outer, sizeof(outer)}, {digest, sizeof(digest)}}, 2);
	sodium_memzero(inner, sizeof(inner));
	sodium_memzero(outer, sizeof(outer));
	sodium_memzero(digest, sizeof(digest));
}

/* HKDF(ck, input) with count (2 or 3) outputs. An output may be ck itself. */
static void hkdf(const uint8_t ck[P2P_NOISE_HASH_BYTES], const void *input, size_t len,
		 uint8_t (*out)[P2P_NOISE_HASH_BYTES], uint8_t count)
{
	const struct part none = {"", 0};
	uint8_t temp[P2P_NOISE_HASH_BYTES], i;

	p2p_require(count == 2 || count == 3);
	hmac(temp, ck, &(struct part){input, len}, &none);
	for (i = 1; i <= count; i++) {
		struct part last = {i == 1 ? "" : (const char *)out[i - 2],
				    i == 1 ? 0 : P2P_NOISE_HASH_BYTES};

		hmac(out[i - 1], temp, &last, &(struct part){&i, 1});
	}
	sodium_memzero(temp, sizeof(temp));
}

/* --- CipherState (5.1) ------------------------------------------------------------------------ */

static void cipher_nonce(uint8_t out[12], uint64_t nonce)
{
	size_t i;

	memset(out, 0, 4);
	for (i = 0; i < 8; i++)
		out[4 + i] = (uint8_t)(nonce >> (8 * i));
}

int p2p_noise_encrypt(struct p2p_noise_cipher *cipher, const uint8_t *ad, size_t ad_len,
		      const uint8_t *in, size_t len, uint8_t *out)
{
	uint8_t nonce[12];

	if (!cipher->has_key) {
		if (len)
			memmove(out, in, len);
		return 0;
	}
	if (cipher->nonce == UINT64_MAX)
		return P2P_ESTATE;
	cipher_nonce(nonce, cipher->nonce++);
	p2p_require(crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, in, len, ad, ad_len, NULL,
							      nonce, cipher->key) == 0);
	return 0;
}

int p2p_noise_decrypt(struct p2p_noise_cipher *cipher, const uint8_t *ad, size_t ad_len,
		      const uint8_t *in, size_t len, uint8_t *out)
{
	uint8_t nonce[12];

	if (!cipher->has_key) {
		if (len)
			memmove(out, in, len);
		return 0;
	}
	if (cipher->nonce == UINT64_MAX)
		return P2P_ESTATE;
	if (len < P2P_NOISE_TAG_BYTES)
		return P2P_EAUTH;
	cipher_nonce(nonce, cipher->nonce);
	if (crypto_aead_chacha20poly1305_ietf_decrypt(out, NULL, NULL, in, len, ad, ad_len, nonce,
						      cipher->key) != 0)
		return P2P_EAUTH;
	cipher->nonce++;
	return 0;
}

void p2p_noise_rekey(struct p2p_noise_cipher *cipher)
{
	static const uint8_t zeros[P2P_NOISE_KEY_BYTES];
	uint8_t out[P2P_NOISE_KEY_BYTES + P2P_NOISE_TAG_BYTES], nonce[12];

	p2p_require(cipher->has_key);
	cipher_nonce(nonce, UINT64_MAX);
	p2p_require(crypto_aead_chacha20poly1305_ietf_encrypt(out, NULL, zeros, sizeof(zeros), NULL,
							      0, NULL, nonce, cipher->key) == 0);
	memcpy(cipher->key, out, sizeof(cipher->key));
	sodium_memzero(out, sizeof(out));
}

void p2p_noise_cipher_wipe(struct p2p_noise_cipher *cipher)
{
	sodium_memzero(cipher, sizeof(*cipher));
}

/* --- SymmetricState (5.2) --------------------------------------------------------------------- */

static void mix_hash(struct p2p_noise *noise, const void *data, size_t len)
{
	hash_parts(noise->h, (struct part[]){{noise->h, sizeof(noise->h)}, {data, len}}, 2);
}

static void cipher_init(struct p2p_noise_cipher *cipher, const uint8_t key[P2P_NOISE_HASH_BYTES])
{
	memcpy(cipher->key, key, sizeof(cipher->key)); /* a longer hash is truncated */
	cipher->nonce = 0;
	cipher->has_key = true;
}

static void mix_key(struct p2p_noise *noise, const void *input, size_t len)
{
	uint8_t out[2][P2P_NOISE_HASH_BYTES];

	hkdf(noise->ck, input, len, out, 2);
	memcpy(noise->ck, out[0], sizeof(noise->ck));
	cipher_init(&noise->cipher, out[1]);
	sodium_memzero(out, sizeof(out));
}

static void mix_key_and_hash(struct p2p_noise *noise, const void *input, size_t len)
{
	uint8_t out[3][P2P_NOISE_HASH_BYTES];

	hkdf(noise->ck, input, len, out, 3);
	memcpy(noise->ck, out[0], sizeof(noise->ck));
	mix_hash(noise, out[1], sizeof(out[1]));
	cipher_init(&noise->cipher, out[2]);
	sodium_memzero(out, sizeof(out));
}

static size_t sealed_len(const struct p2p_noise *noise, size_t len)
{
	return len + (noise->cipher.has_key ? P2P_NOISE_TAG_BYTES : 0);
}

static int encrypt_and_hash(struct p2p_noise *noise, const void *in, size_t len,
			    struct p2p_buf *out)
{
	size_t sealed = sealed_len(noise, len);
	uint8_t *at = p2p_buf_reserve(out, sealed);
	int rc;

	if (!at)
		return p2p_buf_error(out);
	rc = p2p_noise_encrypt(&noise->cipher, noise->h, sizeof(noise->h), in, len, at);
	if (rc)
		return rc;
	out->len += sealed;
	mix_hash(noise, at, sealed);
	return 0;
}

/* out has room for what len sealed bytes hold. */
static int decrypt_and_hash(struct p2p_noise *noise, const uint8_t *in, size_t len, uint8_t *out)
{
	uint8_t h[P2P_NOISE_HASH_BYTES];
	int rc;

	/* the hash covers the sealed bytes, which are gone afterwards if out is in */
	hash_parts(h, (struct part[]){{noise->h, sizeof(noise->h)}, {in, len}}, 2);
	rc = p2p_noise_decrypt(&noise->cipher, noise->h, sizeof(noise->h), in, len, out);
	if (!rc)
		memcpy(noise->h, h, sizeof(h));
	return rc;
}

/* --- HandshakeState (5.3) --------------------------------------------------------------------- */

/* h is the protocol's name, padded to a hash or hashed; ck begins as h. */
static void init_symmetric(struct p2p_noise *noise, const char *pattern)
{
	char name[sizeof("Noise_") + PATTERN_NAME_MAX + sizeof("_25519_ChaChaPoly_BLAKE2b")];
	size_t len;

	p2p_require(strlen(pattern) <= PATTERN_NAME_MAX);
	(void)snprintf(name, sizeof(name), "Noise_%s_25519_ChaChaPoly_BLAKE2b", pattern);
	len = strlen(name);
	p2p_require(len <= P2P_NOISE_HASH_BYTES);
	memset(noise->h, 0, sizeof(noise->h));
	memcpy(noise->h, name, len);
	memcpy(noise->ck, noise->h, sizeof(noise->ck));
}

static bool copy_key(uint8_t to[P2P_NOISE_KEY_BYTES], const uint8_t *from)
{
	if (from)
		memcpy(to, from, P2P_NOISE_KEY_BYTES);
	return from != NULL;
}

static void mix_known(struct p2p_noise *noise, bool of_initiator, enum p2p_noise_token token)
{
	bool mine = noise->initiator == of_initiator;

	if (token == P2P_NOISE_END)
		return;
	if (token == P2P_NOISE_S) {
		p2p_require(mine ? noise->has_s : noise->has_rs);
		mix_hash(noise, mine ? noise->s_public : noise->rs, P2P_NOISE_KEY_BYTES);
		return;
	}
	p2p_require(token == P2P_NOISE_E);
	p2p_require(mine ? noise->has_e : noise->has_re);
	mix_hash(noise, mine ? noise->e_public : noise->re, P2P_NOISE_KEY_BYTES);
	if (noise->pattern->psk)
		mix_key(noise, mine ? noise->e_public : noise->re, P2P_NOISE_KEY_BYTES);
}

void p2p_noise_init(struct p2p_noise *noise, const struct p2p_noise_config *config)
{
	p2p_require(config->pattern != NULL);
	memset(noise, 0, sizeof(*noise));
	noise->pattern = config->pattern;
	noise->initiator = config->initiator;
	init_symmetric(noise, config->pattern->name);
	noise->has_s = copy_key(noise->s, config->s);
	noise->has_e = copy_key(noise->e, config->e);
	noise->has_rs = copy_key(noise->rs, config->rs);
	noise->has_re = copy_key(noise->re, config->re);
	noise->has_psk = copy_key(noise->psk, config->psk);
	if (noise->has_s)
		p2p_require(crypto_scalarmult_base(noise->s_public, noise->s) == 0);
	if (noise->has_e)
		p2p_require(crypto_scalarmult_base(noise->e_public, noise->e) == 0);
	mix_hash(noise, config->prologue, config->prologue_len);
	mix_known(noise, true, config->pattern->initiator_known);
	mix_known(noise, false, config->pattern->responder_known);
}

/* P2P_EAUTH if the result is all zero: libsodium refuses points of small order. */
static int mix_dh(struct p2p_noise *noise, const uint8_t *secret, const uint8_t *public)
{
	uint8_t shared[P2P_NOISE_KEY_BYTES];
	int rc = 0;

	if (crypto_scalarmult(shared, secret, public) == 0)
		mix_key(noise, shared, sizeof(shared));
	else
		rc = P2P_EAUTH;
	sodium_memzero(shared, sizeof(shared));
	return rc;
}

/* The tokens that both sides treat alike: keys were exchanged, mix what follows from them. */
static int mix_token(struct p2p_noise *noise, enum p2p_noise_token token)
{
	/* the first letter is the initiator's key, the second the responder's */
	bool first_e = token == P2P_NOISE_EE || token == P2P_NOISE_ES;
	bool second_e = token == P2P_NOISE_EE || token == P2P_NOISE_SE;
	bool mine_e = noise->initiator ? first_e : second_e;
	bool theirs_e = noise->initiator ? second_e : first_e;

	if (token == P2P_NOISE_PSK) {
		p2p_require(noise->has_psk);
		mix_key_and_hash(noise, noise->psk, sizeof(noise->psk));
		return 0;
	}
	p2p_require(mine_e ? noise->has_e : noise->has_s);
	p2p_require(theirs_e ? noise->has_re : noise->has_rs);
	return mix_dh(noise, mine_e ? noise->e : noise->s, theirs_e ? noise->re : noise->rs);
}

static int write_token(struct p2p_noise *noise, enum p2p_noise_token token, struct p2p_buf *out)
{
	if (token == P2P_NOISE_S) {
		p2p_require(noise->has_s);
		return encrypt_and_hash(noise, noise->s_public, sizeof(noise->s_public), out);
	}
	if (token != P2P_NOISE_E)
		return mix_token(noise, token);
	p2p_require(noise->has_e);
	p2p_buf_put(out, noise->e_public, sizeof(noise->e_public));
	mix_hash(noise, noise->e_public, sizeof(noise->e_public));
	if (noise->pattern->psk)
		mix_key(noise, noise->e_public, sizeof(noise->e_public));
	return p2p_buf_error(out);
}

static int read_token(struct p2p_noise *noise, enum p2p_noise_token token,
		      struct p2p_reader *reader)
{
	const uint8_t *at;
	size_t len;

	if (token == P2P_NOISE_S) {
		len = sealed_len(noise, sizeof(noise->rs));
		at = p2p_read(reader, len);
		noise->has_rs = true;
		return at ? decrypt_and_hash(noise, at, len, noise->rs) : P2P_EPROTO;
	}
	if (token != P2P_NOISE_E)
		return mix_token(noise, token);
	at = p2p_read(reader, sizeof(noise->re));
	if (!at)
		return P2P_EPROTO;
	noise->has_re = copy_key(noise->re, at);
	mix_hash(noise, noise->re, sizeof(noise->re));
	if (noise->pattern->psk)
		mix_key(noise, noise->re, sizeof(noise->re));
	return 0;
}

static int noise_fail(struct p2p_noise *noise, int code)
{
	const struct p2p_noise_pattern *pattern = noise->pattern;

	p2p_noise_wipe(noise);
	noise->pattern = pattern;
	noise->failed = true;
	return code;
}

static const uint8_t *noise_tokens(const struct p2p_noise *noise)
{
	p2p_require(noise->step < noise->pattern->message_count);
	return noise->pattern->messages[noise->step];
}

int p2p_noise_write(struct p2p_noise *noise, const void *payload, size_t len, struct p2p_buf *out)
{
	size_t i, before = out->len;
	const uint8_t *tokens;
	int rc = 0;

	if (noise->failed)
		return P2P_ESTATE;
	p2p_require(p2p_noise_my_turn(noise));
	tokens = noise_tokens(noise);
	for (i = 0; !rc && i < P2P_NOISE_TOKENS_MAX && tokens[i] != P2P_NOISE_END; i++)
		rc = write_token(noise, tokens[i], out);
	if (!rc)
		rc = encrypt_and_hash(noise, payload, len, out);
	if (!rc && out->len - before > P2P_NOISE_MESSAGE_MAX)
		rc = P2P_ETOOBIG;
	if (rc) {
		out->len = before;
		return noise_fail(noise, rc);
	}
	noise->step++;
	return 0;
}

int p2p_noise_read(struct p2p_noise *noise, const uint8_t *message, size_t len,
		   struct p2p_buf *payload)
{
	struct p2p_reader reader;
	const uint8_t *tokens;
	size_t i, left, tag;
	uint8_t *at;
	int rc = 0;

	if (noise->failed)
		return P2P_ESTATE;
	p2p_require(!p2p_noise_finished(noise));
	p2p_require(!p2p_noise_my_turn(noise));
	if (len > P2P_NOISE_MESSAGE_MAX)
		return noise_fail(noise, P2P_ETOOBIG);
	tokens = noise_tokens(noise);
	p2p_reader_init(&reader, message, len);
	for (i = 0; !rc && i < P2P_NOISE_TOKENS_MAX && tokens[i] != P2P_NOISE_END; i++)
		rc = read_token(noise, tokens[i], &reader);
	if (rc)
		return noise_fail(noise, rc);
	left = p2p_reader_left(&reader);
	tag = sealed_len(noise, 0);
	if (left < tag)
		return noise_fail(noise, P2P_EPROTO);
	at = p2p_buf_reserve(payload, left - tag);
	if (!at)
		return noise_fail(noise, p2p_buf_error(payload));
	rc = decrypt_and_hash(noise, message + reader.pos, left, at);
	if (rc)
		return noise_fail(noise, rc);
	payload->len += left - tag;
	noise->step++;
	return 0;
}

bool p2p_noise_finished(const struct p2p_noise *noise)
{
	return !noise->failed && noise->step == noise->pattern->message_count;
}

bool p2p_noise_my_turn(const struct p2p_noise *noise)
{
	return !p2p_noise_finished(noise) && noise->initiator == (noise->step % 2 == 0);
}

void p2p_noise_split(struct p2p_noise *noise, struct p2p_noise_cipher *out_send,
		     struct p2p_noise_cipher *out_receive)
{
	uint8_t out[2][P2P_NOISE_HASH_BYTES], h[P2P_NOISE_HASH_BYTES];
	const struct p2p_noise_pattern *pattern = noise->pattern;

	p2p_require(p2p_noise_finished(noise));
	hkdf(noise->ck, "", 0, out, 2);
	cipher_init(noise->initiator ? out_send : out_receive, out[0]);
	cipher_init(noise->initiator ? out_receive : out_send, out[1]);
	sodium_memzero(out, sizeof(out));
	memcpy(h, noise->h, sizeof(h));
	p2p_noise_wipe(noise);
	noise->pattern = pattern;
	noise->failed = true; /* a second use would reuse nonces */
	memcpy(noise->h, h, sizeof(h));
}

void p2p_noise_wipe(struct p2p_noise *noise)
{
	sodium_memzero(noise, sizeof(*noise));
}
