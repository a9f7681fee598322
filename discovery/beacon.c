/* Beacons; see beacon.h and docs/protocol-discovery.md#beacon. */
#include "discovery/beacon.h"

#include <sodium.h>
#include <string.h>

#include "proto/buf.h"
#include "proto/check.h"

#define BEACON_FORMAT	   1
#define BEACON_PLAIN_BYTES (P2P_BEACON_BYTES - P2P_BEACON_NONCE_BYTES - P2P_AEAD_TAG_BYTES)
#define BEACON_HOST_BYTES  16
#define BEACON_DOMAIN	   "p2pnode/beacon/1"

/* Associated data: the domain and the mesh, so that no byte of the beacon need repeat them. */
struct beacon_ad {
	uint8_t domain[sizeof(BEACON_DOMAIN) - 1];
	uint8_t mesh[P2P_HASH_BYTES];
};

_Static_assert(P2P_BEACON_NONCE_BYTES == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES, "nonce");
_Static_assert(P2P_AEAD_TAG_BYTES == crypto_aead_xchacha20poly1305_ietf_ABYTES, "tag");
_Static_assert(P2P_KEY_BYTES == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "key");
_Static_assert(sizeof(struct beacon_ad) == 16 + P2P_HASH_BYTES, "no padding");
_Static_assert(1 + 1 + 2 + 8 + P2P_KEY_BYTES + P2P_ID_BYTES + 1 +
			       P2P_BEACON_ADDRESSES_MAX * (1 + BEACON_HOST_BYTES + 2) <=
		       BEACON_PLAIN_BYTES,
	       "the content fits");

static void beacon_ad(struct beacon_ad *out, const struct p2p_hash *mesh)
{
	memcpy(out->domain, BEACON_DOMAIN, sizeof(out->domain));
	memcpy(out->mesh, mesh->bytes, sizeof(out->mesh));
}

static void put_number(uint8_t *out, uint64_t value, size_t bytes)
{
	size_t i;

	for (i = 0; i < bytes; i++)
		out[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

static void beacon_pack(uint8_t out[BEACON_PLAIN_BYTES], const struct p2p_beacon *beacon)
{
	uint8_t *at = out;
	size_t i;

	p2p_require(beacon->addresses_count <= P2P_BEACON_ADDRESSES_MAX);
	memset(out, 0, BEACON_PLAIN_BYTES);
	*at++ = BEACON_FORMAT;
	*at++ = (uint8_t)beacon->kind;
	put_number(at, beacon->port, 2);
	put_number(at + 2, beacon->time_ms, 8);
	at += 10;
	memcpy(at, beacon->key.bytes, P2P_KEY_BYTES);
	at += P2P_KEY_BYTES;
	memcpy(at, beacon->instance.bytes, P2P_ID_BYTES);
	at += P2P_ID_BYTES;
	*at++ = (uint8_t)beacon->addresses_count;
	for (i = 0; i < beacon->addresses_count; i++) {
		*at++ = (uint8_t)p2p_address_family(&beacon->addresses[i]);
		p2p_address_to_bytes(&beacon->addresses[i], at);
		put_number(at + BEACON_HOST_BYTES, p2p_address_port(&beacon->addresses[i]), 2);
		at += BEACON_HOST_BYTES + 2;
	}
	p2p_require(at <= out + BEACON_PLAIN_BYTES);
}

static int unpack_addresses(struct p2p_beacon *out, struct p2p_reader *reader)
{
	uint8_t host[BEACON_HOST_BYTES];
	unsigned int family;
	uint16_t port;
	size_t i;

	out->addresses_count = p2p_read_u8(reader);
	if (out->addresses_count > P2P_BEACON_ADDRESSES_MAX)
		return P2P_EPROTO;
	for (i = 0; i < out->addresses_count; i++) {
		family = p2p_read_u8(reader);
		p2p_read_into(reader, host, sizeof(host));
		port = p2p_read_u16(reader);
		if (p2p_address_from_bytes(&out->addresses[i], family, host, port))
			return P2P_EPROTO;
	}
	return p2p_reader_error(reader);
}

static int beacon_unpack(struct p2p_beacon *out, const uint8_t plain[BEACON_PLAIN_BYTES])
{
	struct p2p_reader reader;
	uint8_t kind;

	p2p_reader_init(&reader, plain, BEACON_PLAIN_BYTES);
	if (p2p_read_u8(&reader) != BEACON_FORMAT)
		return P2P_EVERSION;
	kind = p2p_read_u8(&reader);
	if (kind < P2P_BEACON_HELLO || kind > P2P_BEACON_ANSWER)
		return P2P_EPROTO;
	memset(out, 0, sizeof(*out));
	out->kind = (enum p2p_beacon_kind)kind;
	out->port = p2p_read_u16(&reader);
	out->time_ms = p2p_read_u64(&reader);
	p2p_read_into(&reader, out->key.bytes, P2P_KEY_BYTES);
	p2p_read_into(&reader, out->instance.bytes, P2P_ID_BYTES);
	/* what follows the addresses is left to additions that old readers may ignore */
	return unpack_addresses(out, &reader);
}

void p2p_beacon_seal(uint8_t out[P2P_BEACON_BYTES], const struct p2p_beacon *beacon,
		     const struct p2p_beacon_secret *key, const struct p2p_hash *mesh,
		     const uint8_t nonce[P2P_BEACON_NONCE_BYTES])
{
	uint8_t plain[BEACON_PLAIN_BYTES];
	struct beacon_ad ad;

	beacon_ad(&ad, mesh);
	beacon_pack(plain, beacon);
	memcpy(out, nonce, P2P_BEACON_NONCE_BYTES);
	(void)crypto_aead_xchacha20poly1305_ietf_encrypt(out + P2P_BEACON_NONCE_BYTES, NULL, plain,
							 sizeof(plain), (const unsigned char *)&ad,
							 sizeof(ad), NULL, nonce,
							 key->bytes); /* returns 0 */
	sodium_memzero(plain, sizeof(plain));
}

int p2p_beacon_open(struct p2p_beacon *out, const void *data, size_t len,
		    const struct p2p_beacon_secret *key, const struct p2p_hash *mesh)
{
	const uint8_t *bytes = data;
	uint8_t plain[BEACON_PLAIN_BYTES];
	struct p2p_beacon beacon;
	struct beacon_ad ad;
	int rc;

	if (len != P2P_BEACON_BYTES)
		return P2P_EAUTH;
	beacon_ad(&ad, mesh);
	if (crypto_aead_xchacha20poly1305_ietf_decrypt(
		    plain, NULL, NULL, bytes + P2P_BEACON_NONCE_BYTES, len - P2P_BEACON_NONCE_BYTES,
		    (const unsigned char *)&ad, sizeof(ad), bytes, key->bytes))
		return P2P_EAUTH;
	rc = beacon_unpack(&beacon, plain);
	sodium_memzero(plain, sizeof(plain));
	if (!rc)
		*out = beacon;
	return rc;
}

int p2p_beacon_ring_set(struct p2p_beacon_ring *ring, const struct p2p_beacon_secret *secrets,
			size_t count)
{
	size_t epochs = 0, i;

	for (i = 0; i < count; i++) {
		epochs += secrets[i].kind == P2P_SECRET_EPOCH;
		if (!secrets[i].id)
			return P2P_EINVAL;
	}
	if (epochs > P2P_EPOCH_KEYS_MAX || count - epochs > P2P_INVITE_KEYS_MAX)
		return P2P_EINVAL;
	p2p_beacon_ring_wipe(ring);
	for (i = 0; i < count; i++) {
		ring->keys[i].kind = secrets[i].kind;
		ring->keys[i].id = secrets[i].id;
		p2p_kdf(ring->keys[i].bytes, secrets[i].bytes, "beacon");
	}
	ring->count = count;
	return 0;
}

void p2p_beacon_ring_wipe(struct p2p_beacon_ring *ring)
{
	sodium_memzero(ring, sizeof(*ring));
}

static int kind_fits(enum p2p_beacon_kind kind, enum p2p_secret_kind secret)
{
	switch (secret) {
	case P2P_SECRET_EPOCH:
		return kind == P2P_BEACON_HELLO || kind == P2P_BEACON_GOODBYE;
	case P2P_SECRET_ISSUED:
	case P2P_SECRET_HELD:
		return kind == P2P_BEACON_SEEK || kind == P2P_BEACON_ANSWER;
	}
	p2p_unreachable();
}

int p2p_beacon_ring_open(const struct p2p_beacon_ring *ring, const struct p2p_hash *mesh,
			 const void *data, size_t len, struct p2p_beacon *out,
			 const struct p2p_beacon_secret **out_key)
{
	struct p2p_beacon beacon;
	size_t i;
	int rc;

	for (i = 0; i < ring->count; i++) {
		rc = p2p_beacon_open(&beacon, data, len, &ring->keys[i], mesh);
		if (rc == P2P_EAUTH)
			continue;
		if (rc)
			return rc;
		if (!kind_fits(beacon.kind, ring->keys[i].kind))
			return P2P_EPROTO;
		*out = beacon;
		*out_key = &ring->keys[i];
		return 0;
	}
	return P2P_EAUTH;
}

const struct p2p_beacon_secret *p2p_beacon_ring_first(const struct p2p_beacon_ring *ring,
						      enum p2p_secret_kind kind)
{
	size_t i;

	for (i = 0; i < ring->count; i++)
		if (ring->keys[i].kind == kind)
			return &ring->keys[i];
	return NULL;
}
