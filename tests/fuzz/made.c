/* See made.h. */
#include "tests/fuzz/made.h"

#include <string.h>

#define BODY_MAX (160 * 1024)

struct made_pool made_pool;

/* --- what is in them -------------------------------------------------------------------------- */

/* The one that this replica's next one stands on. */
static const struct made *pool_last(const struct p2p_id *id)
{
	size_t i;

	for (i = made_pool.count; i > 0; i--)
		if (p2p_id_cmp(&made_pool.list[i - 1].replica, id) == 0)
			return &made_pool.list[i - 1];
	return NULL;
}

struct p2p_id made_replica(struct fuzz_in *in)
{
	uint8_t which = fuzz_u8(in);
	struct p2p_id id;

	if (which >= 0xf0) {
		memset(id.bytes, which, P2P_ID_BYTES);
		return id;
	}
	return which >= 0xc0 ? victim.own_replica : victim.replicas[which % REPLICAS];
}

static void choose_row(struct fuzz_in *in, struct p2p_buf *out)
{
	struct p2p_cell cells[3];
	struct p2p_record record = {.cells = cells, .causal_length = 1};
	struct p2p_buf key;
	uint8_t form = fuzz_u8(in), value = fuzz_u8(in);
	struct p2p_value values[2] = {{.type = P2P_TEXT, .bytes = (const uint8_t *)"one", .len = 3},
				      {.type = P2P_INTEGER, .integer = value & 3}};
	uint32_t i, from = 1;

	p2p_buf_init(&key, 256);
	record.table = form % VICTIM_TABLES;
	record.causal_length = 1 + (form >> 4 & 3);
	record.flags = form & 0x80 ? 0 : P2P_RECORD_BORN;
	if (record.table == 1) {
		record.identity.kind = value & 1 ? P2P_IDENTITY_NUMBER : P2P_IDENTITY_GENERATED;
		record.identity.number = value >> 1 & 3;
		memset(record.identity.id.bytes, value & 7, P2P_ID_BYTES);
		from = 0;
	} else {
		values[0].len = 3 - (value >> 2 & 1);
		fuzz_ok(p2p_identity_of_key(&key, &victim.described[record.table], values));
		record.identity.key = key.data;
		record.identity.key_len = key.len;
		from = victim.described[record.table].key_count;
	}
	for (i = from; i < victim.described[record.table].column_count && record.causal_length % 2;
	     i++) {
		memset(&cells[record.cell_count], 0, sizeof(cells[0]));
		cells[record.cell_count].column = i;
		cells[record.cell_count].value.type = P2P_INTEGER;
		cells[record.cell_count++].value.integer = (value >> (i * 2)) & 3;
	}
	p2p_record_put(out, &record);
	p2p_buf_deinit(&key);
}

static void choose_body(struct fuzz_in *in, struct p2p_buf *out)
{
	static const uint8_t filler[4096];
	uint8_t form = fuzz_u8(in);
	const uint8_t *bytes;
	size_t len, n;

	if (form >= 0xf0) {
		bytes = fuzz_take(in, form & 15, &len);
		p2p_buf_put(out, bytes, len);
		return;
	}
	for (n = form & 3; n; n--)
		choose_row(in, out);
	if (form >= 0xe0) /* a record of a later kind, and more than one segment */
		for (n = 0; n < 20; n++) {
			p2p_buf_put_varint(out, sizeof(filler) + 1);
			p2p_buf_put_u8(out, 99);
			p2p_buf_put(out, filler, sizeof(filler));
		}
}

static size_t choose_deps(struct fuzz_in *in, struct p2p_dot deps[3])
{
	size_t i, count = fuzz_u8(in);

	count = count < 0xa0 ? 0 : count & 3;
	for (i = 0; i < count; i++) {
		deps[i].replica = made_replica(in);
		deps[i].seq = fuzz_number(in) | (fuzz_u8(in) & 1);
	}
	return count;
}

/* --- whole ones ------------------------------------------------------------------------------- */

static void made_init(struct made *made)
{
	memset(made, 0, sizeof(*made));
	p2p_buf_init(&made->raw, P2P_HEADER_BYTES_MAX);
	p2p_buf_init(&made->body, BODY_MAX);
}

void made_deinit(struct made *made)
{
	p2p_buf_deinit(&made->raw);
	p2p_buf_deinit(&made->body);
}

static void segments_fill(struct p2p_header *header, struct p2p_hash hashes[4],
			  const struct p2p_buf *body)
{
	size_t at, len;

	header->total_bytes = body->len;
	header->segments = hashes;
	for (at = 0; at < body->len; at += P2P_SEGMENT_BYTES) {
		len = body->len - at < P2P_SEGMENT_BYTES ? body->len - at : P2P_SEGMENT_BYTES;
		p2p_hash_bytes(&hashes[header->segment_count++], body->data + at, len);
	}
}

/* Odd fields: one at most, so that the others are reached. */
static void lie(struct p2p_header *header, struct p2p_hash hashes[4], struct fuzz_in *in)
{
	switch (fuzz_u8(in)) {
	case 0xff:
		header->seq = fuzz_number(in);
		return;
	case 0xfe:
		header->prev.bytes[fuzz_u8(in) % P2P_HASH_BYTES] ^= 1;
		return;
	case 0xfd:
		header->stamp.value = fuzz_u64(in);
		return;
	case 0xfc:
		header->group_pos = fuzz_u8(in);
		return;
	case 0xfb:
		hashes[0].bytes[1] ^= 1;
		return;
	case 0xfa:
		header->total_bytes = fuzz_number(in);
		return;
	case 0xf9:
		header->segment_count = fuzz_below(in, 4);
		return;
	case 0xf8:
		header->min_reader = fuzz_u8(in);
		return;
	case 0xf7:
		header->table_count = fuzz_below(in, VICTIM_TABLES);
		return;
	case 0xf6:
		header->row_count = fuzz_number(in);
		return;
	default:
		return;
	}
}

void made_by_liar(struct fuzz_in *in)
{
	struct made *made = &made_pool.list[made_pool.count];
	uint8_t who = fuzz_u8(in), group = fuzz_u8(in);
	const struct made *last;
	struct p2p_dot deps[3];
	struct p2p_hash hashes[4];
	struct p2p_header header;

	if (made_pool.count == MADE_MAX)
		return;
	made_init(made);
	memset(hashes, 0, sizeof(hashes));
	p2p_header_init(&header);
	made->replica = victim.replicas[who < 0xf0 ? who & 1 : who % REPLICAS];
	last = pool_last(&made->replica);
	if (who & 0x80 && last) /* beside the last one: a fork */
		last = who & 0x40 && last > made_pool.list ? pool_last(&last[-1].replica) : NULL;
	if (last && p2p_id_cmp(&last->replica, &made->replica) != 0)
		last = NULL;
	header.format = 1;
	header.replica = made->replica;
	header.seq = last ? last->seq + 1 : 1;
	if (last)
		header.prev = last->hash;
	header.stamp.value = (victim.world.wall_ms + header.seq) << 16 | (who & 0xff);
	header.group_last = group < 0xc0;
	header.group_pos = header.group_last || !last ? 0 : group & 1;
	header.segment_bytes = P2P_SEGMENT_BYTES;
	header.tables = made_pool.named;
	header.table_count = VICTIM_TABLES;
	header.deps = deps;
	header.dep_count = choose_deps(in, deps);
	choose_body(in, &made->body);
	segments_fill(&header, hashes, &made->body);
	header.row_count = 1;
	lie(&header, hashes, in);
	fuzz_ok(p2p_header_pack(&made->raw, &header));
	made->seq = header.seq;
	p2p_header_hash(&made->hash, &victim.mesh, made->raw.data, made->raw.len);
	/* of others than himself he has no key */
	p2p_header_sign(&made->signature, &victim.mesh, &made->hash, victim.secrets[LIAR]);
	if (group == 0xff)
		made->signature.bytes[9] ^= 1;
	made_pool.count++;
}

void made_by_honest(struct made *out, size_t replica, const uint8_t *rows, size_t count)
{
	struct fuzz_in in = fuzz_in(rows, count * 2);
	struct p2p_hash hashes[4];
	struct p2p_header header;

	made_init(out);
	p2p_header_init(&header);
	header.format = 1;
	header.replica = out->replica = victim.replicas[replica];
	header.seq = out->seq = 1;
	header.stamp.value = victim.world.wall_ms << 16;
	header.group_last = true;
	header.segment_bytes = P2P_SEGMENT_BYTES;
	header.tables = victim.schemas;
	header.table_count = VICTIM_TABLES;
	for (; count; count--)
		choose_row(&in, &out->body);
	segments_fill(&header, hashes, &out->body);
	fuzz_ok(p2p_header_pack(&out->raw, &header));
	p2p_header_hash(&out->hash, &victim.mesh, out->raw.data, out->raw.len);
	p2p_header_sign(&out->signature, &victim.mesh, &out->hash, victim.secrets[HONEST]);
}

void made_part(P2p__V1__Part *part, const struct made *made, uint32_t segment, uint8_t odd)
{
	size_t at = (size_t)segment * P2P_SEGMENT_BYTES;
	size_t left = at < made->body.len ? made->body.len - at : 0;

	p2p__v1__part__init(part);
	part->replica = p2p_field(made->replica.bytes, P2P_ID_BYTES - (odd == 0xff));
	part->seq = made->seq + (odd == 0xfe);
	part->segment = segment;
	if (segment == 0 || odd == 0xfd) {
		part->header = p2p_field(made->raw.data, made->raw.len - (odd == 0xfc));
		part->signature = p2p_field(made->signature.bytes, P2P_SIG_BYTES - (odd == 0xfb));
	}
	if (left)
		part->data = p2p_field(made->body.data + at,
				       left < P2P_SEGMENT_BYTES ? left : P2P_SEGMENT_BYTES);
	if (odd == 0xfa)
		part->data.len = left / 2;
}

void made_begin(void)
{
	made_pool.count = 0;
	memcpy(made_pool.named, victim.schemas, sizeof(made_pool.named));
}

void made_end(void)
{
	while (made_pool.count)
		made_deinit(&made_pool.list[--made_pool.count]);
}
