/* Beacons: datagrams as they are, and contents sealed by somebody who has a secret of ours. */
#include <sodium.h>
#include <string.h>

#include "discovery/beacon.h"
#include "tests/fuzz/fuzz.h"

#define PLAIN_BYTES (P2P_BEACON_BYTES - P2P_BEACON_NONCE_BYTES - P2P_AEAD_TAG_BYTES)
#define KEYS	    6

enum { RAW, SEALED, ALTERED, FORMS };

static struct p2p_beacon_ring ring;
static struct p2p_hash mesh;
static uint8_t ad[16 + P2P_HASH_BYTES];

static void init(void)
{
	struct p2p_beacon_secret secrets[KEYS];
	size_t i;

	memset(secrets, 0, sizeof(secrets));
	for (i = 0; i < KEYS; i++) {
		secrets[i].kind = i < 2	  ? P2P_SECRET_EPOCH
				  : i < 4 ? P2P_SECRET_ISSUED
					  : P2P_SECRET_HELD;
		secrets[i].id = i + 1;
		memset(secrets[i].bytes, (int)i + 1, P2P_KEY_BYTES);
	}
	fuzz_ok(p2p_beacon_ring_set(&ring, secrets, KEYS));
	memset(mesh.bytes, 7, P2P_HASH_BYTES);
	memcpy(ad, "p2pnode/beacon/1", 16);
	memcpy(ad + 16, mesh.bytes, P2P_HASH_BYTES);
}

static void seal(uint8_t out[P2P_BEACON_BYTES], const uint8_t plain[PLAIN_BYTES],
		 const struct p2p_beacon_secret *key)
{
	static const uint8_t nonce[P2P_BEACON_NONCE_BYTES] = {9};

	memcpy(out, nonce, sizeof(nonce));
	p2p_require(crypto_aead_xchacha20poly1305_ietf_encrypt(out + sizeof(nonce), NULL, plain,
							       PLAIN_BYTES, ad, sizeof(ad), NULL,
							       nonce, key->bytes) == 0);
}

static void check_addresses(const struct p2p_beacon *a, const struct p2p_beacon *b)
{
	size_t i;

	p2p_require(a->addresses_count <= P2P_BEACON_ADDRESSES_MAX);
	p2p_require(a->addresses_count == b->addresses_count);
	for (i = 0; i < a->addresses_count; i++)
		p2p_require(p2p_address_equal(&a->addresses[i], &b->addresses[i]));
}

/* What was opened is sealed and opened again. */
static void check_again(const struct p2p_beacon *beacon, const struct p2p_beacon_secret *key)
{
	uint8_t data[P2P_BEACON_BYTES], nonce[P2P_BEACON_NONCE_BYTES] = {3};
	const struct p2p_beacon_secret *found = NULL;
	struct p2p_beacon again;

	p2p_beacon_seal(data, beacon, key, &mesh, nonce);
	fuzz_ok(p2p_beacon_ring_open(&ring, &mesh, data, sizeof(data), &again, &found));
	p2p_require(found == key);
	p2p_require(again.kind == beacon->kind);
	p2p_require(again.port == beacon->port);
	p2p_require(again.time_ms == beacon->time_ms);
	p2p_require(p2p_key_cmp(&again.key, &beacon->key) == 0);
	p2p_require(p2p_id_cmp(&again.instance, &beacon->instance) == 0);
	check_addresses(beacon, &again);
}

static void one(const uint8_t *data, size_t len)
{
	struct fuzz_in in = fuzz_in(data, len);
	uint32_t form = fuzz_below(&in, FORMS), key = fuzz_below(&in, KEYS);
	uint8_t plain[PLAIN_BYTES] = {0}, datagram[2 * P2P_BEACON_BYTES] = {0};
	const struct p2p_beacon_secret *found = NULL;
	struct p2p_beacon beacon, untouched;
	size_t taken, size = P2P_BEACON_BYTES;
	const uint8_t *bytes;
	uint8_t at = form == ALTERED ? fuzz_u8(&in) : 0;
	int rc;

	bytes = fuzz_take(&in, form == RAW ? sizeof(datagram) : PLAIN_BYTES, &taken);
	memcpy(form == RAW ? datagram : plain, bytes, taken);
	if (form == RAW)
		size = taken;
	else
		seal(datagram, plain, &ring.keys[key]);
	if (form == ALTERED)
		datagram[at] ^= 1;
	memset(&beacon, 0x5a, sizeof(beacon));
	untouched = beacon;
	rc = p2p_beacon_ring_open(&ring, &mesh, datagram, size, &beacon, &found);
	if (rc) {
		p2p_require(rc == P2P_EAUTH ||
			    (form == SEALED && (rc == P2P_EPROTO || rc == P2P_EVERSION)));
		p2p_require(!found);
		p2p_require(memcmp(&beacon, &untouched, sizeof(beacon)) == 0);
		return;
	}
	p2p_require(form == SEALED);
	p2p_require(found == &ring.keys[key]);
	check_again(&beacon, found);
	fuzz_deep();
}

static void seed(const char *name, uint8_t key, enum p2p_beacon_kind kind, size_t addresses)
{
	uint8_t input[2 + PLAIN_BYTES] = {SEALED, key}, *at = input + 2;
	size_t i;

	at[0] = 1;
	at[1] = (uint8_t)kind;
	at[3] = 80;
	at[60] = (uint8_t)addresses;
	for (i = 0; i < addresses; i++) {
		at[61 + 19 * i] = i % 2 ? 6 : 4;
		at[62 + 19 * i] = 127;
		at[61 + 19 * i + 18] = 80;
	}
	fuzz_seed(name, input, sizeof(input));
}

static void seeds(void)
{
	static const uint8_t raw[1 + P2P_BEACON_BYTES] = {RAW}, altered[200] = {ALTERED, 1, 200};

	seed("hello", 0, P2P_BEACON_HELLO, 0);
	seed("hello_addresses", 1, P2P_BEACON_HELLO, 4);
	seed("goodbye", 0, P2P_BEACON_GOODBYE, 0);
	seed("seek", 2, P2P_BEACON_SEEK, 1);
	seed("answer", 4, P2P_BEACON_ANSWER, 2);
	seed("wrong_kind", 0, P2P_BEACON_SEEK, 0);
	seed("too_many_addresses", 0, P2P_BEACON_HELLO, 7);
	fuzz_seed("raw", raw, sizeof(raw));
	fuzz_seed("altered", altered, sizeof(altered));
}

const struct fuzz_target fuzz_target = {.name = "beacon",
					.len_max = 2 + 2 * P2P_BEACON_BYTES,
					.memory_max = 0,
					.cpu_ms_max = 50,
					.init = init,
					.one = one,
					.seeds = seeds};
