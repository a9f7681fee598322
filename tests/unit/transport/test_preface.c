/* The preface: its bytes, and that its tag is bound to all that it covers. */
#include "tests/unit/transport/fixture.h"

#include "proto/ident.h"
#include "transport/preface.h"

struct parts {
	struct p2p_preface preface;
	uint8_t secret[P2P_KEY_BYTES];
	struct p2p_hash mesh;
	uint8_t ephemeral[P2P_KEY_BYTES];
};

static void parts_init(struct parts *parts)
{
	size_t i;

	memset(parts, 0, sizeof(*parts));
	parts->preface.kind = P2P_KIND_MEMBER;
	parts->preface.major = P2P_WIRE_MAJOR;
	for (i = 0; i < sizeof(parts->secret); i++)
		parts->secret[i] = (uint8_t)i;
	memset(parts->mesh.bytes, 0x33, sizeof(parts->mesh.bytes));
	memset(parts->ephemeral, 0x44, sizeof(parts->ephemeral));
	p2p_preface_sign(&parts->preface, parts->secret, &parts->mesh, parts->ephemeral);
}

static bool check(const struct parts *parts)
{
	return p2p_preface_check(&parts->preface, parts->secret, &parts->mesh, parts->ephemeral);
}

static void bytes_are_golden(void **state)
{
	uint8_t packed[P2P_PREFACE_BYTES], psk[P2P_KEY_BYTES];
	struct p2p_preface unpacked;
	struct parts parts;
	char text[2 * P2P_KEY_BYTES + 1];

	(void)state;
	parts_init(&parts);
	p2p_preface_pack(packed, &parts.preface);
	p2p_hex(text, packed, sizeof(packed));
	/* made with hashlib.blake2b of Python, by docs/protocol-session.md */
	assert_string_equal(text, "01013ac41e6f5d4928e1f09f678d6129b57a");
	p2p_preface_psk(psk, parts.secret);
	p2p_hex(text, psk, sizeof(psk));
	assert_string_equal(text,
			    "41f8199f4c010b21d91b9f31da9df5898748371ab1c2193b05912b237d5399bd");
	p2p_preface_unpack(&unpacked, packed);
	assert_memory_equal(&unpacked, &parts.preface, sizeof(unpacked));
}

static void the_tag_is_bound_to_all_parts(void **state)
{
	struct parts parts;
	size_t bit;

	(void)state;
	parts_init(&parts);
	assert_true(check(&parts));
	for (bit = 0; bit < sizeof(parts) * 8; bit++) {
		parts_init(&parts);
		((uint8_t *)&parts)[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_false(check(&parts));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_are_golden),
		cmocka_unit_test(the_tag_is_bound_to_all_parts),
	};

	assert_true(sodium_init() >= 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
