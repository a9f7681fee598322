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

#include "tests/fuzz/arena.h"
#include "tests/fuzz/made.h"

#define LEN_MAX 320

/* --- messages of the liar --------------------------------------------------------------------- */

static void send_changes(struct fuzz_in *in)
{
	P2p__V1__Part parts[6], *list[6];
	P2p__V1__Changes changes;
	uint8_t how = fuzz_u8(in);
	size_t count = 0, i;

	p2p__v1__changes__init(&changes);
	if (!made_pool.count)
		return;
	if (how < 0x80) { /* the whole pool as it was made */
		for (i = 0; i < made_pool.count; i++) {
			made_part(&parts[0], &made_pool.list[i], 0, 0);
			list[0] = &parts[0];
			made_part(&parts[1], &made_pool.list[i], 1, 0);
			list[1] = &parts[1];
			changes.parts = list;
			changes.n_parts = made_pool.list[i].body.len > P2P_SEGMENT_BYTES ? 2 : 1;
			victim_receive(LIAR_PEER, P2P_MSG_CHANGES, &changes.base);
		}
		return;
	}
	for (count = how & 7; count < 6 && changes.n_parts < count; changes.n_parts++) {
		uint8_t which = fuzz_u8(in);

		made_part(&parts[changes.n_parts], &made_pool.list[which % made_pool.count],
			  which >> 6 & 1, which & 0x80 ? fuzz_u8(in) : 0);
		list[changes.n_parts] = &parts[changes.n_parts];
	}
	changes.parts = list;
	victim_receive(LIAR_PEER, P2P_MSG_CHANGES, &changes.base);
}

static void choose_entry(struct fuzz_in *in, P2p__V1__VectorEntry *out, struct p2p_id *id,
			 uint8_t head[P2P_HEAD_BYTES])
{
	uint8_t form = fuzz_u8(in);

	*id = made_replica(in);
	p2p__v1__vector_entry__init(out);
	memset(head, form, P2P_HEAD_BYTES);
	if (made_pool.count && form & 1)
		memcpy(head, made_pool.list[form % made_pool.count].hash.bytes, P2P_HEAD_BYTES);
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
	struct p2p_id id = made_replica(in);
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
	if (!made_pool.count)
		return;
	proof.n_headers = fuzz_below(in, 5);
	for (i = 0; i < proof.n_headers; i++) {
		made = &made_pool.list[fuzz_u8(in) % made_pool.count];
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
		made_pool.named[table].schema =
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
		made_by_liar(in);
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

static void honest_have(const struct made *made)
{
	P2p__V1__VectorEntry entry, *list = &entry;
	P2p__V1__Have have;

	p2p__v1__have__init(&have);
	p2p__v1__vector_entry__init(&entry);
	entry.replica = p2p_field(made->replica.bytes, P2P_ID_BYTES);
	entry.seq = 1;
	entry.log_from = 1;
	entry.head = p2p_field(made->hash.bytes, P2P_HEAD_BYTES);
	have.entries = &list;
	have.n_entries = 1;
	have.full = true;
	victim_receive(HONEST_PEER, P2P_MSG_HAVE, &have.base);
}

/* Somebody honest comes, with one change: it is taken. */
static void honest_comes(size_t replica, const uint8_t *rows, size_t count)
{
	P2p__V1__Part part, *list = &part;
	P2p__V1__Changes changes;
	struct made made;
	size_t i;

	made_by_honest(&made, replica, rows, count);
	victim.honest_replica = made.replica;
	victim.honest_acked = 0;
	victim_peer_up(HONEST_PEER, HONEST, &made.replica, NULL);
	honest_have(&made);
	p2p__v1__changes__init(&changes);
	made_part(&part, &made, 0, 0);
	changes.parts = &list;
	changes.n_parts = 1;
	victim_receive(HONEST_PEER, P2P_MSG_CHANGES, &changes.base);
	/* A proof that the liar owes is waited for, 10 s; then it is not believed any more. What it
	 * forged, and nobody signed, may stand first: then the honest one is asked again. */
	for (i = 0; i < 60 && !victim.honest_acked; i++) {
		victim_pass(i < 20 ? 100 : 500);
		made_part(&part, &made, victim.honest_segment, 0);
		if (victim.honest_asked)
			victim_receive(HONEST_PEER, P2P_MSG_CHANGES, &changes.base);
		victim.honest_asked = false;
	}
	p2p_require(victim.honest_acked == 1);
	made_deinit(&made);
}

static void check_vector(void)
{
	struct p2p_vv vector;

	p2p_vv_init(&vector);
	fuzz_ok(p2p_replica_vector(victim.replica, &vector));
	p2p_require(p2p_vv_seq(&vector, &victim.replicas[REPLICA_HONEST]) == 1);
	p2p_require(p2p_vv_seq(&vector, &victim.replicas[REPLICA_ELDER]) == 1);
	p2p_require(p2p_vv_seq(&vector, &victim.replicas[REPLICA_READER]) == 0);
	if (p2p_vv_seq(&vector, &victim.replicas[REPLICA_A]) ||
	    p2p_vv_seq(&vector, &victim.replicas[REPLICA_B]))
		fuzz_deep();
	p2p_vv_deinit(&vector);
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

static void check(void)
{
	struct p2p_replica_status status;
	struct p2p_error err = {0};
	uint64_t changesets = 0, rows = 0;

	victim_must("verify", p2p_replica_verify(victim.replica, &changesets, &rows, &err), &err);
	fuzz_ok(p2p_replica_status(victim.replica, &status));
	p2p_require(status.journal == 0);
	p2p_require(status.last_error == 0);
	p2p_require(p2p_id_cmp(p2p_replica_id(victim.replica), &victim.own_replica) == 0);
	check_whole();
}

static void one(const uint8_t *data, size_t len)
{
	static const uint8_t row[2];
	struct fuzz_in in = fuzz_in(data, len);

	victim_open();
	made_begin();
	victim_peer_up(LIAR_PEER, LIAR, &victim.replicas[REPLICA_A], NULL);
	while (fuzz_more(&in))
		operation(&in);
	victim_pass(1500);
	honest_comes(REPLICA_HONEST, row, 1);
	check_vector();
	victim_peer_down(LIAR_PEER);
	check();
	victim_peer_down(HONEST_PEER);
	made_end();
	/* one of eight, always the same ones */
	if (len % 8 == 0)
		victim_close();
	else
		victim_leave();
}

/* Before the first input everything was done once: what an honest member and the application wrote
 * is merged, told and verified, and the statements for it are prepared. */
static void init(void)
{
	static const uint8_t rows[] = {0, 0x34, 2, 4};

	victim_init();
	honest_comes(REPLICA_ELDER, rows, 2);
	victim_sql("UPDATE note SET v = 3 WHERE k = 'two'; INSERT INTO item(a) VALUES('old');"
		   "DELETE FROM item WHERE a = 'old'; INSERT INTO pair(a) VALUES('p')");
	victim_pass(2000);
	check();
	victim_peer_down(HONEST_PEER);
	victim_pass(1000);
	victim_sql("PRAGMA wal_checkpoint(TRUNCATE)"); /* less to put back */
	victim_save();
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
					.heap = &fuzz_arena,
					.init = init,
					.deinit = victim_deinit,
					.one = one,
					.seeds = seeds};
