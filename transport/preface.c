/* The preface; see preface.h. */
#include "transport/preface.h"

#include <sodium.h>
#include <string.h>

#include "proto/check.h"

_Static_assert(2 + P2P_PREFACE_TAG_BYTES == P2P_PREFACE_BYTES, "kind, major, tag");

void p2p_preface_pack(uint8_t out[P2P_PREFACE_BYTES], const struct p2p_preface *preface)
{
	out[0] = preface->kind;
	out[1] = preface->major;
	memcpy(out + 2, preface->tag, sizeof(preface->tag));
}

void p2p_preface_unpack(struct p2p_preface *out, const uint8_t bytes[P2P_PREFACE_BYTES])
{
	out->kind = bytes[0];
	out->major = bytes[1];
	memcpy(out->tag, bytes + 2, sizeof(out->tag));
}

void p2p_preface_sign(struct p2p_preface *preface, const uint8_t secret[P2P_KEY_BYTES],
		      const struct p2p_hash *mesh, const uint8_t ephemeral[P2P_KEY_BYTES])
{
	static const char domain[] = "p2pnode/preface/1";
	uint8_t input[sizeof(domain) - 1 + 2 + P2P_HASH_BYTES + P2P_KEY_BYTES], key[P2P_KEY_BYTES];
	uint8_t *at = input;

	memcpy(at, domain, sizeof(domain) - 1);
	at += sizeof(domain) - 1;
	*at++ = preface->kind;
	*at++ = preface->major;
	memcpy(at, mesh->bytes, P2P_HASH_BYTES);
	memcpy(at + P2P_HASH_BYTES, ephemeral, P2P_KEY_BYTES);
	p2p_kdf(key, secret, "preface");
	p2p_require(crypto_generichash(preface->tag, sizeof(preface->tag), input, sizeof(input),
				       key, sizeof(key)) == 0);
	sodium_memzero(key, sizeof(key));
}

bool p2p_preface_check(const struct p2p_preface *preface, const uint8_t secret[P2P_KEY_BYTES],
		       const struct p2p_hash *mesh, const uint8_t ephemeral[P2P_KEY_BYTES])
{
	struct p2p_preface mine = {.kind = preface->kind, .major = preface->major};

	p2p_preface_sign(&mine, secret, mesh, ephemeral);
	return sodium_memcmp(mine.tag, preface->tag, sizeof(mine.tag)) == 0;
}

void p2p_preface_psk(uint8_t out[P2P_KEY_BYTES], const uint8_t secret[P2P_KEY_BYTES])
{
	p2p_kdf(out, secret, "psk");
}
