/* A live replica with a member as its peer who lies: validly signed changesets with any fields and
 * bodies, vectors that are wrong in both directions, proofs, acks and wants of everything, in any
 * order, with time, restarts of sessions and an application beside.
 *
 * The replica must refuse by closing that session only; nothing of the liar's may be taken for
 * another's; no local error, no lost own change; the database is whole and verifies; and an honest
 * member that comes afterwards is served and merged as if nothing had been. */
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "tests/fuzz/victim.h"

#define LEN_MAX	 320
#define POOL_MAX 10
#define BODY_MAX (160 * 1024)

/* What the liar has made. */
struct made {
	struct p2p_id replica;
	uint64_t seq;
	struct p2p_hash hash;
	struct p2p_signature signature;
	struct p2p_buf raw, body;
};

static struct made pool[POOL_MAX];
static size_t pool_count;
/* The schema records that his changesets name: the mesh's, or the last ones that he made. */
static struct p2p_schema_ref named[VICTIM_TABLES];

/* --- changesets of the liar ------------------------------------------------------------------- */

/* The one of the pool that this victim.replica's next one stands on. */
static const struct made *pool_last(const struct p2p_id *id)
{
	size_t i;

	for (i = pool_count; i > 0; i--)
		if (p2p_id_cmp(&pool[i - 1].replica, id) == 0)
			return &pool[i - 1];
	return NULL;
}

static struct p2p_id choose_replica(struct fuzz_in *in)
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
		deps[i].replica = choose_replica(in);
		deps[i].seq = fuzz_number(in) | (fuzz_u8(in) & 1);
	}
	return count;
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

static void make(struct fuzz_in *in)
{
	struct made *made = &pool[pool_count];
	uint8_t who = fuzz_u8(in), group = fuzz_u8(in);
	const struct made *last;
	struct p2p_dot deps[3];
	struct p2p_hash hashes[4];
	struct p2p_header header;

	if (pool_count == POOL_MAX)
		return;
	memset(made, 0, sizeof(*made));
	memset(hashes, 0, sizeof(hashes));
	p2p_header_init(&header);
	p2p_buf_init(&made->raw, P2P_HEADER_BYTES_MAX);
	p2p_buf_init(&made->body, BODY_MAX);
	made->replica = victim.replicas[who < 0xf0 ? who & 1 : who % REPLICAS];
	last = pool_last(&made->replica);
	if (who & 0x80 && last) /* beside the last one: a fork */
		last = who & 0x40 && last > pool ? pool_last(&last[-1].replica) : NULL;
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
	header.tables = named;
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
	pool_count++;
}

/* --- messages of the liar --------------------------------------------------------------------- */

static void part_fill(P2p__V1__Part *part, const struct made *made, uint32_t segment, uint8_t odd)
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

static void send_changes(struct fuzz_in *in)
{
	P2p__V1__Part parts[6], *list[6];
	P2p__V1__Changes changes;
	uint8_t how = fuzz_u8(in);
	size_t count = 0, i;

	p2p__v1__changes__init(&changes);
	if (!pool_count)
		return;
	if (how < 0x80) { /* the whole pool as it was made */
		for (i = 0; i < pool_count; i++) {
			part_fill(&parts[0], &pool[i], 0, 0);
			list[0] = &parts[0];
			part_fill(&parts[1], &pool[i], 1, 0);
			list[1] = &parts[1];
			changes.parts = list;
			changes.n_parts = pool[i].body.len > P2P_SEGMENT_BYTES ? 2 : 1;
			victim_receive(LIAR_PEER, P2P_MSG_CHANGES, &changes.base);
		}
		return;
	}
	for (count = how & 7; count < 6 && changes.n_parts < count; changes.n_parts++) {
		uint8_t which = fuzz_u8(in);

		part_fill(&parts[changes.n_parts], &pool[which % pool_count], which >> 6 & 1,
			  which & 0x80 ? fuzz_u8(in) : 0);
		list[changes.n_parts] = &parts[changes.n_parts];
	}
	changes.parts = list;
	victim_receive(LIAR_PEER, P2P_MSG_CHANGES, &changes.base);
}

static void choose_entry(struct fuzz_in *in, P2p__V1__VectorEntry *out, struct p2p_id *id,
			 uint8_t head[P2P_HEAD_BYTES])
{
	uint8_t form = fuzz_u8(in);

	*id = choose_replica(in);
	p2p__v1__vector_entry__init(out);
	memset(head, form, P2P_HEAD_BYTES);
	if (pool_count && form & 1)
		memcpy(head, pool[form % pool_count].hash.bytes, P2P_HEAD_BYTES);
	out->replica = p2p_field(id->bytes, P2P_ID_BYTES - (form == 0xff));
	out->seq = form & 2 ? fuzz_number(in) : form >> 2 & 7;
	out->head = p2p_field(head, form == 0xfe ? 3 : form & 4 ? P2P_HEAD_BYTES : 0);
	out->log_from = form & 8 ? fuzz_number(in) : out->seq != 0;
}

struct entries {
	P2p__V1__VectorEntry entries[4], *list[4];
	struct p2p_id ids[4];
	uint8_t heads[4][P2P_HEAD_BYTES];
	size_t count;
};

static void choose_entries(struct fuzz_in *in, struct entries *out)
{
	for (out->count = 0; out->count < 4 && fuzz_u8(in) & 3; out->count++) {
		choose_entry(in, &out->entries[out->count], &out->ids[out->count],
			     out->heads[out->count]);
		out->list[out->count] = &out->entries[out->count];
	}
}

static void send_have(struct fuzz_in *in)
{
	struct p2p_hash digest;
	struct entries entries;
	P2p__V1__Have have;
	uint8_t form = fuzz_u8(in);

	p2p__v1__have__init(&have);
	choose_entries(in, &entries);
	memset(digest.bytes, form, P2P_HASH_BYTES);
	have.digest = p2p_field(digest.bytes, form & 4 ? P2P_HASH_BYTES - (form == 0xff) : 0);
	have.entries = entries.list;
	have.n_entries = entries.count;
	have.full = form & 1;
	have.want_full = form & 2;
	victim_receive(LIAR_PEER, P2P_MSG_HAVE, &have.base);
}

static void send_ack(struct fuzz_in *in)
{
	struct entries entries;
	P2p__V1__Ack ack;

	p2p__v1__ack__init(&ack);
	choose_entries(in, &entries);
	ack.durable = entries.list;
	ack.n_durable = entries.count;
	ack.credit_bytes = fuzz_number(in);
	victim_receive(LIAR_PEER, P2P_MSG_ACK, &ack.base);
}

static void send_want(struct fuzz_in *in)
{
	struct p2p_id id = choose_replica(in);
	P2p__V1__WantHeader want_header;
	P2p__V1__Reject reject;
	P2p__V1__Want want;
	char text[] = "no";
	uint8_t form = fuzz_u8(in);

	p2p__v1__want__init(&want);
	p2p__v1__want_header__init(&want_header);
	p2p__v1__reject__init(&reject);
	want.replica = want_header.replica = reject.replica =
		p2p_field(id.bytes, P2P_ID_BYTES - (form == 0xff));
	want.from_seq = want_header.seq = reject.have = fuzz_number(in);
	if (form % 4 == 0) {
		victim_receive(LIAR_PEER, P2P_MSG_WANT_HEADER, &want_header.base);
	} else if (form % 4 == 1) {
		reject.code = -(int32_t)fuzz_u8(in);
		reject.text = text;
		reject.retry_ms = fuzz_u16(in);
		victim_receive(LIAR_PEER, P2P_MSG_REJECT, &reject.base);
	} else {
		want.to_seq = form & 4 ? fuzz_number(in) : want.from_seq + (form >> 3);
		want.from_segment = form & 0x80 ? fuzz_u8(in) : 0;
		victim_receive(LIAR_PEER, P2P_MSG_WANT, &want.base);
	}
}

static void send_proof(struct fuzz_in *in)
{
	ProtobufCBinaryData headers[4];
	const struct made *made = NULL;
	P2p__V1__HeaderProof proof;
	size_t i;

	p2p__v1__header_proof__init(&proof);
	if (!pool_count)
		return;
	proof.n_headers = fuzz_below(in, 5);
	for (i = 0; i < proof.n_headers; i++) {
		made = &pool[fuzz_u8(in) % pool_count];
		headers[i] = p2p_field(made->raw.data, made->raw.len);
		if (i == 0) {
			proof.replica = p2p_field(made->replica.bytes, P2P_ID_BYTES);
			proof.seq = made->seq;
		}
	}
	proof.headers = headers;
	if (made)
		proof.signature = p2p_field(made->signature.bytes, P2P_SIG_BYTES);
	victim_receive(LIAR_PEER, P2P_MSG_HEADER_PROOF, &proof.base);
}

static void send_raw(struct fuzz_in *in)
{
	uint8_t bytes[65];
	const uint8_t *at;
	size_t len;

	bytes[0] = (uint8_t)(P2P_MSG_HAVE + fuzz_below(in, 7)); /* what reaches the engine */
	at = fuzz_take(in, fuzz_u8(in) & 63, &len);
	memcpy(bytes + 1, at, len);
	victim_receive_bytes(LIAR_PEER, bytes, 1 + len);
}

/* A schema record: columns left out, made up, under other ids; a table of its own, or one of the
 * mesh's. */
static void describe(struct fuzz_in *in, uint32_t table, struct p2p_buf *body)
{
	static const char *const texts[] = {"", "CREATE TABLE note(k)", "nonsense",
					    "CREATE TABLE extra(k PRIMARY KEY, v)"};
	const struct p2p_table *described = &victim.described[table];
	uint8_t form = fuzz_u8(in), mask = fuzz_u8(in);
	P2p__V1__Column columns[8], *list[8];
	struct p2p_id ids[8], id = described->id;
	P2p__V1__Schema schema;
	char name[16], text[64], column_names[8][16];
	size_t i, count = 0;

	p2p__v1__schema__init(&schema);
	if (form & 0x80)
		memset(id.bytes, form, P2P_ID_BYTES);
	for (i = 0; i < 8; i++) {
		bool known = i < described->column_count;

		if (!(mask >> i & 1) && known == ((form & 1) == 0))
			continue;
		p2p__v1__column__init(&columns[count]);
		memset(ids[count].bytes, (int)i, P2P_ID_BYTES);
		if (known)
			ids[count] = described->columns[i].id;
		(void)snprintf(column_names[count], sizeof(column_names[0]), "%s",
			       known ? described->columns[i].name : "other");
		columns[count].id = p2p_field(ids[count].bytes, P2P_ID_BYTES - (form == 0xff));
		columns[count].name = column_names[count];
		list[count] = &columns[count];
		count++;
	}
	(void)snprintf(name, sizeof(name), "%s", form & 0x40 ? "extra" : described->name);
	(void)snprintf(text, sizeof(text), "%s", texts[form >> 2 & 3]);
	schema.format = 1 + (form == 0xfe);
	schema.table = p2p_field(id.bytes, P2P_ID_BYTES);
	schema.name = name;
	schema.identity = form >> 1 & 1;
	schema.columns = list;
	schema.n_columns = count;
	schema.create_sql = text;
	fuzz_ok(p2p_pack(body, &schema.base));
}

/* Membership is told beside the engine, of which this is the other end. */
static void send_record(struct fuzz_in *in)
{
	struct p2p_authority *authority = p2p_replica_authority(victim.replica);
	uint32_t table = fuzz_below(in, VICTIM_TABLES);
	const ProtobufCMessage *message;
	const P2p__V1__Signed *list;
	struct p2p_buf body, record;
	struct p2p_error err = {0};
	size_t added = 0;
	void *arena;
	int rc;

	p2p_buf_init(&body, P2P_RECORD_BODY_MAX);
	p2p_buf_init(&record, P2P_RECORD_BODY_MAX);
	describe(in, table, &body);
	fuzz_ok(p2p_authority_make_schema(authority, &record, &victim.signers[LIAR], body.data,
					  body.len));
	fuzz_ok(p2p_unpack(&p2p__v1__signed__descriptor, record.data, record.len, &message,
			   &arena));
	list = (const P2p__V1__Signed *)message;
	rc = p2p_replica_add_records(victim.replica, &list, 1, &added, &err);
	if (rc && p2p_err_blame(rc) != P2P_BLAME_PEER)
		victim_broken("records", rc, &err);
	if (added == 1)
		named[table].schema =
			p2p_authority_record(authority, p2p_authority_count(authority) - 1)->hash;
	p2p_unpack_free(arena);
	p2p_buf_deinit(&body);
	p2p_buf_deinit(&record);
}

static void write_rows(uint8_t which)
{
	static const char *const texts[] = {
		"INSERT OR REPLACE INTO note VALUES('mine', 7, 7)",
		"UPDATE note SET v = v + 1",
		"DELETE FROM note WHERE k = 'one'",
		"INSERT INTO item(a) VALUES('new')",
		"UPDATE item SET a = a || 'z'; DELETE FROM pair",
		"INSERT OR IGNORE INTO pair(a) VALUES(5); UPDATE note SET w = 9 WHERE k = 'two'",
	};

	victim_sql(texts[which % p2p_array_len(texts)]);
}

static void operation(struct fuzz_in *in)
{
	uint8_t op = fuzz_u8(in);

	switch (op % 16) {
	case 0:
	case 1:
	case 2:
		make(in);
		return;
	case 3:
	case 4:
		send_changes(in);
		return;
	case 5:
	case 6:
		send_have(in);
		return;
	case 7:
		send_ack(in);
		return;
	case 8:
		send_want(in);
		return;
	case 9:
		send_proof(in);
		return;
	case 10:
		send_raw(in);
		return;
	case 11:
		write_rows(fuzz_u8(in));
		return;
	case 12:
		victim_pass(fuzz_u8(in) * (op & 0x80 ? 100u : 3u));
		return;
	case 13:
		victim_peer_down(LIAR_PEER);
		victim_peer_up(LIAR_PEER, LIAR, &victim.replicas[op >> 7], in);
		return;
	case 14:
		victim.peers[LIAR_PEER].busy = !victim.peers[LIAR_PEER].busy;
		if (!victim.peers[LIAR_PEER].busy)
			p2p_replica_writable(victim.replica, LIAR_PEER);
		return;
	default:
		if (op & 0x80)
			send_record(in);
		victim_step();
	}
}

/* --- in the end ------------------------------------------------------------------------------- */

/* Somebody honest comes, with one change: it is taken. */
static void honest_comes(void)
{
	P2p__V1__VectorEntry entry, *entry_list = &entry;
	P2p__V1__Part part, *part_list = &part;
	P2p__V1__Changes changes;
	P2p__V1__Have have;
	struct made made;
	struct p2p_hash hashes[4];
	struct p2p_header header;
	struct fuzz_in none = fuzz_in(NULL, 0);
	struct p2p_vv vector;
	size_t i;

	memset(&made, 0, sizeof(made));
	p2p_header_init(&header);
	p2p_buf_init(&made.raw, P2P_HEADER_BYTES_MAX);
	p2p_buf_init(&made.body, BODY_MAX);
	header.format = 1;
	header.replica = made.replica = victim.replicas[REPLICA_HONEST];
	header.seq = made.seq = 1;
	header.stamp.value = victim.world.wall_ms << 16;
	header.group_last = true;
	header.segment_bytes = P2P_SEGMENT_BYTES;
	header.tables = victim.schemas;
	header.table_count = VICTIM_TABLES;
	choose_row(&none, &made.body);
	segments_fill(&header, hashes, &made.body);
	fuzz_ok(p2p_header_pack(&made.raw, &header));
	p2p_header_hash(&made.hash, &victim.mesh, made.raw.data, made.raw.len);
	p2p_header_sign(&made.signature, &victim.mesh, &made.hash, victim.secrets[HONEST]);
	victim_peer_up(HONEST_PEER, HONEST, &victim.replicas[REPLICA_HONEST], NULL);
	p2p__v1__have__init(&have);
	p2p__v1__vector_entry__init(&entry);
	entry.replica = p2p_field(made.replica.bytes, P2P_ID_BYTES);
	entry.seq = 1;
	entry.log_from = 1;
	entry.head = p2p_field(made.hash.bytes, P2P_HEAD_BYTES);
	have.entries = &entry_list;
	have.n_entries = 1;
	have.full = true;
	victim_receive(HONEST_PEER, P2P_MSG_HAVE, &have.base);
	p2p__v1__changes__init(&changes);
	part_fill(&part, &made, 0, 0);
	changes.parts = &part_list;
	changes.n_parts = 1;
	victim_receive(HONEST_PEER, P2P_MSG_CHANGES, &changes.base);
	/* A proof that the liar owes is waited for, 10 s; then it is not believed any more. What it
	 * forged, and nobody signed, may stand first: then the honest one is asked again. */
	for (i = 0; i < 60 && !victim.honest_acked; i++) {
		victim_pass(i < 20 ? 100 : 500);
		if (victim.honest_asked)
			victim_receive(HONEST_PEER, P2P_MSG_CHANGES, &changes.base);
		victim.honest_asked = false;
	}
	p2p_vv_init(&vector);
	fuzz_ok(p2p_replica_vector(victim.replica, &vector));
	p2p_require(p2p_vv_seq(&vector, &victim.replicas[REPLICA_HONEST]) == 1);
	p2p_require(p2p_vv_seq(&vector, &victim.replicas[REPLICA_READER]) == 0);
	p2p_require(victim.honest_acked == 1);
	if (p2p_vv_seq(&vector, &victim.replicas[REPLICA_A]) ||
	    p2p_vv_seq(&vector, &victim.replicas[REPLICA_B]))
		fuzz_deep();
	p2p_vv_deinit(&vector);
	p2p_buf_deinit(&made.raw);
	p2p_buf_deinit(&made.body);
}

static void check_whole(void)
{
	sqlite3_stmt *stmt = NULL;

	p2p_require(sqlite3_prepare_v2(p2p_store_db(p2p_replica_store(victim.replica)),
				       "PRAGMA integrity_check(1)", -1, &stmt, NULL) == SQLITE_OK);
	p2p_require(sqlite3_step(stmt) == SQLITE_ROW);
	p2p_require(strcmp((const char *)sqlite3_column_text(stmt, 0), "ok") == 0);
	p2p_require(sqlite3_finalize(stmt) == SQLITE_OK);
}

static void end(void)
{
	struct p2p_replica_status status;
	struct p2p_error err = {0};
	uint64_t changesets = 0, rows = 0;

	victim_pass(1500);
	honest_comes();
	victim_peer_down(LIAR_PEER);
	victim_must("verify", p2p_replica_verify(victim.replica, &changesets, &rows, &err), &err);
	fuzz_ok(p2p_replica_status(victim.replica, &status));
	p2p_require(status.journal == 0);
	p2p_require(status.last_error == 0);
	p2p_require(p2p_id_cmp(p2p_replica_id(victim.replica), &victim.own_replica) == 0);
	check_whole();
	victim_peer_down(HONEST_PEER);
}

static void one(const uint8_t *data, size_t len)
{
	struct fuzz_in in = fuzz_in(data, len);
	size_t i;

	pool_count = 0;
	memcpy(named, victim.schemas, sizeof(named));
	victim_open();
	victim_peer_up(LIAR_PEER, LIAR, &victim.replicas[REPLICA_A], NULL);
	while (fuzz_more(&in))
		operation(&in);
	end();
	victim_close();
	for (i = 0; i < pool_count; i++) {
		p2p_buf_deinit(&pool[i].raw);
		p2p_buf_deinit(&pool[i].body);
	}
}

static void seeds(void)
{
	/* make: 0, who, group, deps, body form, rows, lie; changes: 3, how; have: 5 ... */
	static const uint8_t plain[] = {5, 1, 0, 0, 0, 0, 0, 1, 0, 5, 0, 3, 0, 12, 20, 12, 200};
	static const uint8_t chain[] = {5, 1, 0, 0, 0, 0, 0, 1, 0, 5,  0,  1,  0,  0,
					0, 2, 1, 3, 2, 7, 0, 3, 0, 12, 20, 12, 200};
	static const uint8_t group[] = {5, 1,	 0, 0, 0, 0xc0, 0, 1, 0, 5,  0,	 0,
					0, 0xc1, 0, 1, 2, 1,	0, 3, 0, 12, 50, 0,
					0, 0,	 0, 1, 2, 1,	0, 3, 0, 12, 200};
	static const uint8_t fork[] = {5, 1, 0, 0, 0, 0, 0, 1,	  0, 5,	 0,  3, 0, 12, 50, 0,  0x80,
				       0, 0, 1, 1, 9, 0, 3, 0x81, 1, 12, 50, 9, 1, 1,  12, 200};
	static const uint8_t big[] = {5, 1, 0,	0,  0, 0,    0,	   0xe0, 0,
				      3, 0, 12, 20, 3, 0x81, 0x40, 12,	 200};
	static const uint8_t wants[] = {5, 1,  0,  8,	 0xc0, 2,  1,  8,  0xc0, 0x16,
					1, 5,  8,  0xc0, 0,    1,  7,  1,  0,	 0xc0,
					0, 12, 20, 11,	 0,    12, 90, 12, 200};
	static const uint8_t beside[] = {5, 1,	0, 11, 1,  0,  0, 0,  0,   1,  0, 5,  0,  3,
					 0, 11, 2, 12, 20, 11, 4, 12, 255, 11, 3, 12, 200};
	static const uint8_t waits[] = {5, 1,  0,  0, 0, 0, 0xa1, 1, 1, 0, 1, 0, 5, 0,	3,
					0, 12, 50, 1, 1, 0, 0,	  1, 1, 7, 0, 3, 0, 12, 200};
	static const uint8_t lies[] = {5,    7, 1, 7,  0,   5,	1,    0xc7, 0xc0, 9, 0, 7, 1,  0,
				       0xc0, 9, 5, 12, 100, 13, 0xf0, 1,    2,	  5, 1, 0, 12, 255};
	static const uint8_t raw[] = {10, 0,	4, 0x12, 2, 8,	  1, 10, 2,
				      6,  0x0a, 4, 0x10, 1, 0x28, 1, 12, 200};
	static const uint8_t records[] = {5,	1,  0,	 0x8f, 0, 1,	0,  0,	0,    0, 0,
					  1,	0,  5,	 0,    3, 0,	12, 50, 0x8f, 0, 0,
					  0xff, 12, 100, 0x8f, 1, 0x80, 0,  12, 200};
	static const uint8_t malformed[] = {5,	1,   0, 0, 0, 0, 0, 0xf4, 9, 9, 9, 9, 0,  3,  0,
					    12, 200, 0, 0, 0, 0, 1, 1,	  1, 0, 3, 0, 12, 200};

	fuzz_seed("plain", plain, sizeof(plain));
	fuzz_seed("chain", chain, sizeof(chain));
	fuzz_seed("group", group, sizeof(group));
	fuzz_seed("fork", fork, sizeof(fork));
	fuzz_seed("big", big, sizeof(big));
	fuzz_seed("wants", wants, sizeof(wants));
	fuzz_seed("beside", beside, sizeof(beside));
	fuzz_seed("waits", waits, sizeof(waits));
	fuzz_seed("lies", lies, sizeof(lies));
	fuzz_seed("raw", raw, sizeof(raw));
	fuzz_seed("records", records, sizeof(records));
	fuzz_seed("malformed", malformed, sizeof(malformed));
}

const struct fuzz_target fuzz_target = {.name = "sync",
					.len_max = LEN_MAX,
					.memory_max = 48 * 1024 * 1024,
					.cpu_ms_max = 2000,
					.init = victim_init,
					.deinit = victim_deinit,
					.one = one,
					.seeds = seeds};
