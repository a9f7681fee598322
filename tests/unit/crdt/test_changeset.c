/* Headers: frozen bytes, every bound, the chain, the signature; damaged ones never pass. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sodium.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "crdt/changeset.h"
#include "proto/limits.h"
#include "proto/message.h"

static struct p2p_hash mesh, segments[3];
static struct p2p_dot deps[2];
static struct p2p_schema_ref tables[1];
static struct p2p_hash heads[1];

/* Arrays are borrowed: never deinit this one. */
static struct p2p_header sample(uint64_t seq)
{
	struct p2p_header header;

	p2p_header_init(&header);
	memset(mesh.bytes, 1, sizeof(mesh.bytes));
	memset(segments, 2, sizeof(segments));
	memset(tables, 3, sizeof(tables));
	memset(heads, 4, sizeof(heads));
	memset(deps, 5, sizeof(deps));
	deps[0].seq = 7;
	deps[1].seq = 8;
	deps[1].replica.bytes[0] = 6;
	header.format = header.min_reader = 1;
	memset(header.replica.bytes, 9, P2P_ID_BYTES);
	header.seq = seq;
	if (seq > 1)
		memset(header.prev.bytes, 10, P2P_HASH_BYTES);
	header.stamp.value = (1700000000000ull << 16) + seq;
	header.group_last = true;
	header.deps = deps;
	header.dep_count = 2;
	header.authority_heads = heads;
	header.authority_head_count = 1;
	header.tables = tables;
	header.table_count = 1;
	header.total_bytes = 2 * P2P_SEGMENT_BYTES + 1;
	header.segment_bytes = P2P_SEGMENT_BYTES;
	header.segments = segments;
	header.segment_count = 3;
	header.row_count = 5;
	return header;
}

static void pack(struct p2p_buf *out, const struct p2p_header *header)
{
	p2p_buf_init(out, P2P_HEADER_BYTES_MAX);
	assert_int_equal(p2p_header_pack(out, header), 0);
}

static int unpacks(const struct p2p_header *header)
{
	struct p2p_header back;
	struct p2p_buf raw;
	int rc;

	pack(&raw, header);
	rc = p2p_header_unpack(&back, raw.data, raw.len);
	if (!rc)
		p2p_header_deinit(&back);
	p2p_buf_deinit(&raw);
	return rc;
}

static void what_is_packed_comes_back(void **state)
{
	struct p2p_header header = sample(3), back;
	struct p2p_buf raw, again;

	(void)state;
	pack(&raw, &header);
	assert_int_equal(p2p_header_unpack(&back, raw.data, raw.len), 0);
	assert_int_equal(back.dep_count, 2);
	assert_int_equal(back.deps[1].seq, 8);
	assert_int_equal(back.segment_count, 3);
	pack(&again, &back);
	assert_int_equal(raw.len, again.len);
	assert_memory_equal(raw.data, again.data, raw.len);
	p2p_header_deinit(&back);
	p2p_buf_deinit(&raw);
	p2p_buf_deinit(&again);
}

static void bytes_hash_and_signature_are_frozen(void **state)
{
	struct p2p_header header = sample(1);
	unsigned char public[32], secret[64], seed[32] = {1};
	struct p2p_signature signature;
	struct p2p_hash hash;
	struct p2p_buf raw;
	char hex[2 * P2P_SIG_BYTES + 1];

	(void)state;
	pack(&raw, &header);
	assert_int_equal(raw.len, 319);
	p2p_header_hash(&hash, &mesh, raw.data, raw.len);
	p2p_hex(hex, hash.bytes, P2P_HASH_BYTES);
	assert_string_equal(hex,
			    "b4c11e685b753b01fb666ed10e676ab4bab679830dd4e54497505c0301b13001");
	(void)crypto_sign_seed_keypair(public, secret, seed);
	p2p_header_sign(&signature, &mesh, &hash, secret);
	p2p_hex(hex, signature.bytes, 16);
	assert_string_equal(hex, "30b68717c594fa06f824092b3eb9461e");
	p2p_buf_deinit(&raw);
}

static void a_signature_is_of_one_mesh_hash_and_node(void **state)
{
	unsigned char secret[64], seed[32] = {2};
	struct p2p_signature signature;
	struct p2p_hash hash = {{7}}, other = {{8}};
	struct p2p_key node, stranger = {{9}};

	(void)state;
	(void)crypto_sign_seed_keypair(node.bytes, secret, seed);
	p2p_header_sign(&signature, &mesh, &hash, secret);
	assert_true(p2p_header_verify(&signature, &mesh, &hash, &node));
	assert_false(p2p_header_verify(&signature, &other, &hash, &node));
	assert_false(p2p_header_verify(&signature, &mesh, &other, &node));
	assert_false(p2p_header_verify(&signature, &mesh, &hash, &stranger));
	signature.bytes[0] ^= 1;
	assert_false(p2p_header_verify(&signature, &mesh, &hash, &node));
}

static void every_bound_is_checked(void **state)
{
	struct p2p_header header;

	(void)state;
#define REFUSED(code, change)                             \
	do {                                              \
		header = sample(3);                       \
		change;                                   \
		assert_int_equal(unpacks(&header), code); \
	} while (0)
	REFUSED(P2P_EPROTO, header.format = 0);
	REFUSED(P2P_EVERSION, header.min_reader = P2P_FORMAT + 1);
	REFUSED(P2P_EPROTO, header.seq = 0);
	REFUSED(P2P_EPROTO, header.seq = UINT64_MAX);
	REFUSED(P2P_EPROTO, header.stamp.value = 0);
	REFUSED(P2P_EPROTO, header.group_pos = 3);
	REFUSED(P2P_EPROTO, memset(&header.prev, 0, sizeof(header.prev)));
	REFUSED(P2P_EPROTO, header.segment_bytes = 1);
	REFUSED(P2P_EPROTO, header.segment_count = 2);
	REFUSED(P2P_EPROTO, header.total_bytes = 0);
	REFUSED(P2P_ETOOBIG, header.total_bytes = P2P_CHANGESET_BYTES_MAX + 1);
	REFUSED(P2P_EPROTO, deps[0].seq = 0);
	REFUSED(P2P_EPROTO, deps[1].replica = header.replica);
#undef REFUSED
	header = sample(1);
	memset(&header.prev, 1, sizeof(header.prev));
	assert_int_equal(unpacks(&header), P2P_EPROTO);
}

static void no_damage_makes_it_crash_or_leak(void **state)
{
	struct p2p_header header = sample(2), back;
	struct p2p_buf raw;
	size_t i;

	(void)state;
	pack(&raw, &header);
	for (i = 0; i < raw.len * 8; i++) {
		raw.data[i / 8] ^= (uint8_t)(1u << (i % 8));
		if (p2p_header_unpack(&back, raw.data, raw.len) == 0)
			p2p_header_deinit(&back);
		raw.data[i / 8] ^= (uint8_t)(1u << (i % 8));
	}
	for (i = 0; i < raw.len; i++)
		if (p2p_header_unpack(&back, raw.data, i) == 0)
			p2p_header_deinit(&back);
	p2p_buf_deinit(&raw);
}

static void the_chain_is_one_step_at_a_time(void **state)
{
	struct p2p_header prev = sample(3), next = sample(4);
	struct p2p_hash hash = next.prev;

	(void)state;
	assert_int_equal(p2p_header_follows(&next, &prev, &hash), 0);
	hash.bytes[0] ^= 1;
	assert_int_equal(p2p_header_follows(&next, &prev, &hash), P2P_EFORK);
	hash.bytes[0] ^= 1;
	next.stamp = prev.stamp;
	assert_int_equal(p2p_header_follows(&next, &prev, &hash), P2P_EPROTO);
	next = sample(5);
	assert_int_equal(p2p_header_follows(&next, &prev, &hash), P2P_EPROTO);
	next = sample(4);
	next.group_pos = 1; /* the group before was whole */
	assert_int_equal(p2p_header_follows(&next, &prev, &hash), P2P_EPROTO);
	prev.group_last = false;
	assert_int_equal(p2p_header_follows(&next, &prev, &hash), 0);
	next = sample(1);
	assert_int_equal(p2p_header_follows(&next, NULL, NULL), 0);
	next = sample(2);
	assert_int_equal(p2p_header_follows(&next, NULL, NULL), P2P_EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_packed_comes_back),
		cmocka_unit_test(bytes_hash_and_signature_are_frozen),
		cmocka_unit_test(a_signature_is_of_one_mesh_hash_and_node),
		cmocka_unit_test(every_bound_is_checked),
		cmocka_unit_test(no_damage_makes_it_crash_or_leak),
		cmocka_unit_test(the_chain_is_one_step_at_a_time),
	};

	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
