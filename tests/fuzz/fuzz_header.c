/* Headers of changesets: bytes as they are, and fields chosen by the input. */
#include <sodium.h>
#include <string.h>

#include "crdt/changeset.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "tests/fuzz/fuzz.h"

#define LEN_MAX 2048

static const struct p2p_hash mesh = {{5}};
static uint8_t secret[64];
static struct p2p_key node;

static void init(void)
{
	static const uint8_t seed[32] = {1};

	p2p_require(crypto_sign_seed_keypair(node.bytes, secret, seed) == 0);
}

static void check_bounds(const struct p2p_header *header)
{
	size_t i;

	p2p_require(header->seq >= 1);
	p2p_require(header->seq <= INT64_MAX);
	p2p_require(header->stamp.value != 0);
	p2p_require(header->min_reader <= P2P_FORMAT);
	p2p_require(header->group_pos < header->seq);
	p2p_require(header->dep_count <= P2P_DEPS_MAX);
	p2p_require(header->table_count <= P2P_TABLES_MAX);
	p2p_require(header->origin_count <= P2P_ORIGINS_MAX);
	p2p_require(header->total_bytes <= P2P_CHANGESET_BYTES_MAX);
	p2p_require(header->segment_count * (uint64_t)P2P_SEGMENT_BYTES >= header->total_bytes);
	p2p_require(header->segment_count * (uint64_t)P2P_SEGMENT_BYTES <
		    header->total_bytes + P2P_SEGMENT_BYTES);
	for (i = 0; i < header->dep_count; i++) {
		p2p_require(p2p_id_cmp(&header->deps[i].replica, &header->replica) != 0);
		p2p_require(header->deps[i].seq != 0);
	}
}

static void check_follows(const struct p2p_header *header, const struct p2p_hash *hash)
{
	struct p2p_header next = *header;
	int rc;

	/* nothing follows itself, and the first one follows nothing */
	p2p_require(p2p_header_follows(header, header, hash) != 0);
	rc = p2p_header_follows(header, NULL, hash);
	p2p_require((rc == 0) == (header->seq == 1 && header->group_pos == 0));
	next.seq++;
	next.prev = *hash;
	next.stamp.value++;
	next.group_pos = header->group_last ? 0 : header->group_pos + 1;
	if (next.stamp.value)
		fuzz_ok(p2p_header_follows(&next, header, hash));
	next.prev.bytes[3] ^= 1;
	p2p_require(p2p_header_follows(&next, header, hash) == P2P_EFORK);
}

/* The fields survive packing; packed once, they are packed the same for ever. */
static void check_again(const struct p2p_header *header)
{
	struct p2p_buf first, second;
	struct p2p_header again;
	struct p2p_hash hash;

	p2p_buf_init(&first, P2P_HEADER_BYTES_MAX);
	p2p_buf_init(&second, P2P_HEADER_BYTES_MAX);
	fuzz_ok(p2p_header_pack(&first, header));
	fuzz_ok(p2p_header_unpack(&again, first.data, first.len));
	check_bounds(&again);
	p2p_require(again.seq == header->seq);
	p2p_require(again.stamp.value == header->stamp.value);
	p2p_require(again.dep_count == header->dep_count);
	p2p_require(again.segment_count == header->segment_count);
	fuzz_ok(p2p_header_pack(&second, &again));
	p2p_require(first.len == second.len);
	p2p_require(memcmp(first.data, second.data, first.len) == 0);
	p2p_header_hash(&hash, &mesh, first.data, first.len);
	check_follows(&again, &hash);
	p2p_header_deinit(&again);
	p2p_buf_deinit(&first);
	p2p_buf_deinit(&second);
}

static void check_signature(const uint8_t *data, size_t len)
{
	struct p2p_signature signature;
	struct p2p_hash hash, other = {{6}};

	p2p_header_hash(&hash, &mesh, data, len);
	p2p_header_sign(&signature, &mesh, &hash, secret);
	p2p_require(p2p_header_verify(&signature, &mesh, &hash, &node));
	p2p_require(!p2p_header_verify(&signature, &other, &hash, &node));
	signature.bytes[len % P2P_SIG_BYTES] ^= 1;
	p2p_require(!p2p_header_verify(&signature, &mesh, &hash, &node));
}

/* Fields from choices: sizes are right, relations may not be. */
static void choose(struct p2p_buf *out, struct fuzz_in *in)
{
	struct p2p_dot deps[4];
	struct p2p_schema_ref tables[4];
	struct p2p_origin origins[4];
	struct p2p_hash heads[4], segments[4];
	struct p2p_header header = {.deps = deps,
				    .tables = tables,
				    .origins = origins,
				    .authority_heads = heads,
				    .segments = segments};
	size_t i;

	memset(deps, 0, sizeof(deps));
	memset(tables, 1, sizeof(tables));
	memset(origins, 2, sizeof(origins));
	memset(heads, 3, sizeof(heads));
	memset(segments, 4, sizeof(segments));
	header.format = fuzz_u8(in);
	header.min_reader = fuzz_below(in, 3);
	header.flags = fuzz_u8(in);
	memset(header.replica.bytes, fuzz_u8(in), P2P_ID_BYTES);
	header.seq = fuzz_number(in);
	memset(header.prev.bytes, fuzz_u8(in) & 1, P2P_HASH_BYTES);
	header.stamp.value = fuzz_number(in);
	header.group_pos = (uint32_t)fuzz_number(in);
	header.group_last = fuzz_below(in, 2);
	header.dep_count = fuzz_below(in, 5);
	for (i = 0; i < header.dep_count; i++) {
		memset(deps[i].replica.bytes, fuzz_u8(in), P2P_ID_BYTES);
		deps[i].seq = fuzz_number(in);
	}
	header.authority_head_count = fuzz_below(in, 5);
	header.table_count = fuzz_below(in, 5);
	header.origin_count = fuzz_below(in, 5);
	header.total_bytes = fuzz_number(in);
	header.segment_bytes = fuzz_below(in, 8) ? P2P_SEGMENT_BYTES : fuzz_u32(in);
	header.segment_count = fuzz_below(in, 5);
	header.row_count = fuzz_number(in);
	fuzz_ok(p2p_header_pack(out, &header));
}

static void one(const uint8_t *data, size_t len)
{
	struct fuzz_in in = fuzz_in(data, len);
	uint8_t form = fuzz_u8(&in);
	struct p2p_header header;
	struct p2p_buf raw;
	const uint8_t *rest;
	size_t left;
	int rc;

	p2p_buf_init(&raw, P2P_HEADER_BYTES_MAX);
	if (form & 1) {
		choose(&raw, &in);
	} else {
		rest = fuzz_take(&in, LEN_MAX, &left);
		p2p_buf_put(&raw, rest, left);
	}
	rc = p2p_header_unpack(&header, raw.data, raw.len);
	if (rc == 0) {
		check_bounds(&header);
		check_again(&header);
		if (form == 3)
			check_signature(raw.data, raw.len);
		p2p_header_deinit(&header);
		fuzz_deep();
	} else {
		p2p_require(rc == P2P_EPROTO || rc == P2P_ETOOBIG || rc == P2P_EVERSION);
	}
	p2p_buf_deinit(&raw);
}

static void seed(const char *name, struct p2p_header *header)
{
	struct p2p_buf raw;

	p2p_buf_init(&raw, LEN_MAX);
	p2p_buf_put_u8(&raw, 0);
	header->format = 1;
	header->segment_bytes = P2P_SEGMENT_BYTES;
	header->stamp.value = 1;
	fuzz_ok(p2p_header_pack(&raw, header));
	fuzz_seed(name, raw.data, raw.len);
	p2p_buf_deinit(&raw);
}

static void seeds(void)
{
	struct p2p_dot dep = {{{7}}, 9};
	struct p2p_schema_ref table = {{{1}}, {{2}}};
	struct p2p_origin origin = {{{3}}, {4}};
	struct p2p_hash hashes[2] = {{{1}}, {{2}}};
	struct p2p_header plain = {.seq = 1, .replica = {{1}}, .group_last = true};
	struct p2p_header full = {.seq = 2,
				  .prev = {{1}},
				  .group_last = true,
				  .deps = &dep,
				  .dep_count = 1,
				  .tables = &table,
				  .table_count = 1,
				  .origins = &origin,
				  .origin_count = 1,
				  .segments = hashes,
				  .segment_count = 2,
				  .authority_heads = hashes,
				  .authority_head_count = 2,
				  .total_bytes = P2P_SEGMENT_BYTES + 1};
	static const uint8_t chosen[] = {3, 1, 0, 0, 5, 1, 0, 9, 0, 1},
			     choices[] = {1, 1, 0, 0, 5, 2};
	static const uint8_t whole[] = {3, 1, 0, 0, 5, 2, 1, 9, 0, 1, 1, 6,
					7, 1, 1, 1, 9, 1, 1, 3, 0, 0, 0, 0};

	seed("plain", &plain);
	seed("full", &full);
	full.group_last = false;
	full.group_pos = 1;
	seed("inner", &full);
	fuzz_seed("chosen", chosen, sizeof(chosen));
	fuzz_seed("choices", choices, sizeof(choices));
	fuzz_seed("whole", whole, sizeof(whole));
}

const struct fuzz_target fuzz_target = {.name = "header",
					.len_max = 1 + LEN_MAX,
					.memory_max = 1024 * 1024,
					.cpu_ms_max = 100,
					.init = init,
					.one = one,
					.seeds = seeds};
