/* What a hostile member does to others; see hostile.h. */
#include <string.h>

#include "proto/limits.h"
#include "tests/sim/hostile.h"

#define FLOOD_MAX 40 /* messages of one act */

static struct hostile_chain *any_chain(struct hostile *hostile)
{
	return &hostile->chains[hostile_draw(hostile, hostile->chain_count)];
}

/* An id that others know, or that nobody knows. */
static void any_replica(struct hostile_session *session, struct p2p_id *out)
{
	struct hostile *hostile = session->hostile;
	uint64_t kind = hostile_draw(hostile, 4);

	if (kind == 0)
		hostile_bytes(hostile, out->bytes, P2P_ID_BYTES);
	else if (kind == 1 && session->have.count)
		*out = session->have.entries[hostile_draw(hostile, session->have.count)].replica;
	else if (kind == 2 && hostile->change_count)
		*out = hostile->changes[hostile_draw(hostile, hostile->change_count)].replica;
	else
		*out = any_chain(hostile)->id;
}

static uint64_t any_seq(struct hostile *hostile)
{
	static const uint64_t seqs[] = {
		0, 1, 2, 3, 7, 100, 1ull << 32, INT64_MAX - 1, INT64_MAX, 1ull << 63, UINT64_MAX,
	};

	return seqs[hostile_draw(hostile, sizeof(seqs) / sizeof(seqs[0]))];
}

/* Mostly what may be. */
static uint64_t small_seq(struct hostile *hostile)
{
	return hostile_draw(hostile, 3) ? 1 + hostile_draw(hostile, 20) : any_seq(hostile);
}

/* --- changesets ------------------------------------------------------------------------------- */

/* One segment of it, as it goes over the wire. */
static void part_fill(P2p__V1__Part *part, const struct hostile_change *change, uint32_t segment)
{
	size_t at = (size_t)segment * P2P_SEGMENT_BYTES;
	size_t len = change->body_len > at ? change->body_len - at : 0;

	p2p__v1__part__init(part);
	part->replica = p2p_field(change->replica.bytes, P2P_ID_BYTES);
	part->seq = change->seq;
	part->segment = segment;
	if (segment == 0) {
		part->header = p2p_field(change->raw, change->raw_len);
		if (change->has_signature)
			part->signature = p2p_field(change->signature.bytes, P2P_SIG_BYTES);
	}
	part->data =
		p2p_field(change->body + at, len < P2P_SEGMENT_BYTES ? len : P2P_SEGMENT_BYTES);
}

static void say_part(struct hostile_session *session, P2p__V1__Part *part)
{
	P2p__V1__Changes changes = P2P__V1__CHANGES__INIT;

	changes.n_parts = 1;
	changes.parts = &part;
	hostile_say(session, P2P_MSG_CHANGES, &changes.base);
}

static uint32_t segment_count(const struct hostile_change *change)
{
	size_t count = (change->body_len + P2P_SEGMENT_BYTES - 1) / P2P_SEGMENT_BYTES;

	return count ? (uint32_t)count : 1;
}

static void push_from(struct hostile_session *session, const struct hostile_change *change,
		      uint32_t segment)
{
	uint32_t count = change->withheld ? 1 : segment_count(change);
	P2p__V1__Part part;

	for (; segment < count; segment++) {
		part_fill(&part, change, segment);
		say_part(session, &part);
	}
}

void hostile_push(struct hostile_session *session, const struct hostile_change *change)
{
	push_from(session, change, 0);
}

static void say_reject(struct hostile_session *session, const struct p2p_id *replica, uint64_t have,
		       int code)
{
	P2p__V1__Reject reject;
	char text[] = "no";

	p2p__v1__reject__init(&reject);
	reject.replica = p2p_field(replica->bytes, P2P_ID_BYTES);
	reject.have = have;
	reject.code = code;
	reject.text = text;
	hostile_say(session, P2P_MSG_REJECT, &reject.base);
}

/* Mostly what was asked for. */
void hostile_serve(struct hostile_session *session, const P2p__V1__Want *want)
{
	struct hostile *hostile = session->hostile;
	unsigned int branch = hostile_branch(session), given = 0;
	const struct hostile_change *change;
	struct p2p_id id;
	uint64_t seq;

	if (p2p_field_id(&id, &want->replica) || hostile_draw(hostile, 8) == 0)
		return;
	for (seq = want->from_seq; seq <= want->to_seq && given < 32; seq++, given++) {
		change = hostile_find(hostile, &id, seq, branch);
		if (!change)
			break;
		push_from(session, change, given ? 0 : want->from_segment);
	}
	if (!given && hostile_draw(hostile, 2))
		say_reject(session, &id, 0, P2P_ENOENT);
}

/* --- vectors ---------------------------------------------------------------------------------- */

/* Entries of one Have. */
struct telling {
	P2p__V1__VectorEntry entries[64], *list[64];
	struct p2p_id ids[64];
	uint8_t heads[64][P2P_HEAD_BYTES];
	size_t count;
};

static P2p__V1__VectorEntry *tell_add(struct telling *telling, const struct p2p_id *id,
				      uint64_t seq, const uint8_t *head)
{
	P2p__V1__VectorEntry *entry = &telling->entries[telling->count];
	size_t at = telling->count;

	if (at == 64)
		return NULL;
	telling->count++;
	telling->list[at] = entry;
	telling->ids[at] = *id;
	memcpy(telling->heads[at], head, P2P_HEAD_BYTES);
	p2p__v1__vector_entry__init(entry);
	entry->replica = p2p_field(telling->ids[at].bytes, P2P_ID_BYTES);
	entry->seq = seq;
	entry->head = p2p_field(telling->heads[at], P2P_HEAD_BYTES);
	entry->log_from = 1;
	return entry;
}

static void tell(struct hostile_session *session, struct telling *telling, bool full)
{
	struct hostile *hostile = session->hostile;
	P2p__V1__Have have = P2P__V1__HAVE__INIT;
	uint8_t digest[P2P_HASH_BYTES];

	have.entries = telling->list;
	have.n_entries = telling->count;
	have.full = full;
	have.want_full = hostile_draw(hostile, 2) != 0;
	have.wall_ms = p2p_env_wall_ms(&hostile->env);
	if (full || hostile_draw(hostile, 3) == 0) {
		hostile_bytes(hostile, digest, sizeof(digest));
		have.digest = p2p_field(digest, sizeof(digest));
	}
	hostile_say(session, P2P_MSG_HAVE, &have.base);
}

static void tell_chains(struct hostile_session *session, struct telling *telling)
{
	struct hostile *hostile = session->hostile;
	size_t i;

	memset(telling, 0, sizeof(*telling));
	for (i = 0; i < hostile->chain_count; i++) {
		const struct hostile_chain *chain = &hostile->chains[i];
		const struct hostile_head *head = &chain->head[hostile_branch(session) == 2];

		if (head->seq)
			(void)tell_add(telling, &chain->id, head->seq, head->hash.bytes);
	}
}

void hostile_announce(struct hostile_session *session)
{
	struct telling telling;

	tell_chains(session, &telling);
	tell(session, &telling, true);
}

static void act_announce(struct hostile_session *session)
{
	hostile_announce(session);
}

/* More than it has, less, other heads; of its own and of others. */
static void act_vector_lies(struct hostile_session *session)
{
	struct hostile *hostile = session->hostile;
	uint64_t count = 1 + hostile_draw(hostile, 6);
	uint8_t head[P2P_HEAD_BYTES];
	struct telling telling;
	struct p2p_id id;

	memset(&telling, 0, sizeof(telling));
	if (hostile_draw(hostile, 2))
		tell_chains(session, &telling);
	while (count--) {
		P2p__V1__VectorEntry *entry;
		uint64_t seq = small_seq(hostile);

		any_replica(session, &id);
		hostile_bytes(hostile, head, sizeof(head));
		entry = tell_add(&telling, &id, seq, head);
		if (entry && hostile_draw(hostile, 4) == 0)
			entry->log_from = small_seq(hostile);
		if (entry && hostile_draw(hostile, 4) == 0)
			entry->head.len = hostile_draw(hostile, 2) ? 0 : 3;
	}
	tell(session, &telling, hostile_draw(hostile, 2) != 0);
}

/* The victim's own replica went on elsewhere, says the liar. */
static void act_claim_own(struct hostile_session *session)
{
	struct hostile *hostile = session->hostile;
	uint8_t head[P2P_HEAD_BYTES];
	struct telling telling;
	size_t i;

	memset(&telling, 0, sizeof(telling));
	for (i = 0; i < session->have.count && i < 64; i++) {
		hostile_bytes(hostile, head, sizeof(head));
		(void)tell_add(&telling, &session->have.entries[i].replica,
			       session->have.entries[i].seq + hostile_draw(hostile, 3), head);
	}
	tell(session, &telling, true);
}

static void act_clock_lie(struct hostile_session *session)
{
	struct hostile *hostile = session->hostile;
	P2p__V1__Have have = P2P__V1__HAVE__INIT;
	static const uint64_t walls[] = {1, 1000, 1ull << 40, 1ull << 60, UINT64_MAX};

	have.wall_ms = walls[hostile_draw(hostile, 5)];
	hostile_say(session, P2P_MSG_HAVE, &have.base);
	/* and back */
	have.wall_ms = p2p_env_wall_ms(&hostile->env);
	if (hostile_draw(hostile, 2))
		hostile_say(session, P2P_MSG_HAVE, &have.base);
}

/* --- what it signs ---------------------------------------------------------------------------- */

static void act_make(struct hostile_session *session)
{
	struct hostile *hostile = session->hostile;
	struct hostile_chain *chain = any_chain(hostile);
	const struct hostile_change *change;
	uint64_t seq;

	if (!hostile_make(hostile, chain))
		return;
	if (hostile_draw(hostile, 3) == 0) {
		hostile_announce(session);
		return;
	}
	for (seq = 1; seq <= chain->head[0].seq; seq++) {
		change = hostile_find(hostile, &chain->id, seq, hostile_branch(session));
		if (change)
			hostile_push(session, change);
	}
}

/* The other history of the fork, to one who knows the first. */
static void act_other_branch(struct hostile_session *session)
{
	struct hostile *hostile = session->hostile;
	unsigned int other = 3 - hostile_branch(session);
	const struct hostile_change *change;
	size_t i;

	for (i = 0; i < hostile->chain_count; i++) {
		const struct hostile_chain *chain = &hostile->chains[i];

		change = chain->fork_seq
				 ? hostile_find(hostile, &chain->id,
						chain->fork_seq + hostile_draw(hostile, 3), other)
				 : NULL;
		if (change)
			hostile_push(session, change);
	}
}

static const struct hostile_change *any_change(struct hostile *hostile)
{
	/* what came last is most likely not known everywhere */
	size_t count = hostile->change_count, last = hostile_draw(hostile, 2) ? 8 : count;

	if (!count)
		return NULL;
	return &hostile->changes[count - 1 - hostile_draw(hostile, last < count ? last : count)];
}

/* Changesets of others and its own, one byte changed somewhere. */
static void act_altered(struct hostile_session *session)
{
	struct hostile *hostile = session->hostile;
	const struct hostile_change *change = any_change(hostile);
	uint64_t kind = hostile_draw(hostile, 6);
	uint8_t header[4096], data[4096];
	P2p__V1__Part part;

	if (!change || change->raw_len > sizeof(header) || change->body_len > sizeof(data))
		return;
	part_fill(&part, change, 0);
	memcpy(header, change->raw, change->raw_len);
	memcpy(data, change->body, change->body_len);
	part.header.data = header;
	part.data.data = data;
	if (kind == 0 && change->body_len)
		data[hostile_draw(hostile, change->body_len)] ^= 1;
	else if (kind == 1)
		header[hostile_draw(hostile, change->raw_len)] ^=
			(uint8_t)(1 + hostile_draw(hostile, 255));
	else if (kind == 2)
		part.signature.len = 0;
	else if (kind == 3)
		part.seq = small_seq(hostile);
	else if (kind == 4)
		part.segment = (uint32_t)small_seq(hostile);
	else
		part.data.len = change->body_len / 2;
	say_part(session, &part);
}

/* Signed by itself, for somebody else's replica, or out of its chain. For one of its own it would
 * have the right: that is a fork, which HOSTILE_FORKED makes where it is kept account of. */
static void act_no_right(struct hostile_session *session)
{
	struct hostile *hostile = session->hostile;
	struct hostile_change change;
	struct p2p_id id;
	uint64_t seq;

	any_replica(session, &id);
	seq = p2p_vv_seq(&session->have, &id) + 1;
	if (hostile_draw(hostile, 3) == 0 || seq > INT64_MAX)
		seq = 1 + hostile_draw(hostile, 5);
	if (sim_hostile_owns(hostile->sim, &id))
		return;
	hostile_forge(hostile, &id, seq, &change);
	/* an own replica would fork by it: the same seq, another content */
	if (!sim_hostile_owns(hostile->sim, &id))
		hostile_push(session, &change);
	hostile_change_deinit(&change);
}

static void act_repeat(struct hostile_session *session)
{
	struct hostile *hostile = session->hostile;
	const struct hostile_change *change;
	uint64_t count = 1 + hostile_draw(hostile, 8);

	while (count--) {
		change = any_change(hostile);
		if (change && (!change->branch || change->branch == hostile_branch(session)))
			hostile_push(session, change);
	}
}

/* --- floods ----------------------------------------------------------------------------------- */

static void say_want(struct hostile_session *session)
{
	struct hostile *hostile = session->hostile;
	P2p__V1__Want want = P2P__V1__WANT__INIT;
	struct p2p_id id;

	any_replica(session, &id);
	want.replica = p2p_field(id.bytes, P2P_ID_BYTES);
	want.from_seq = small_seq(hostile);
	want.from_segment = hostile_draw(hostile, 4) ? 0 : (uint32_t)small_seq(hostile);
	want.to_seq = small_seq(hostile);
	hostile_say(session, P2P_MSG_WANT, &want.base);
}

static void say_ack(struct hostile_session *session)
{
	struct hostile *hostile = session->hostile;
	P2p__V1__VectorEntry entry = P2P__V1__VECTOR_ENTRY__INIT, *list = &entry;
	P2p__V1__Ack ack = P2P__V1__ACK__INIT;
	struct p2p_id id;

	any_replica(session, &id);
	entry.replica = p2p_field(id.bytes, P2P_ID_BYTES);
	entry.seq = small_seq(hostile);
	ack.n_durable = 1;
	ack.durable = &list;
	ack.credit_bytes = hostile_draw(hostile, 4) ? 0 : any_seq(hostile);
	hostile_say(session, P2P_MSG_ACK, &ack.base);
}

static void say_any_reject(struct hostile_session *session)
{
	struct hostile *hostile = session->hostile;
	struct p2p_id id;
	uint64_t have = small_seq(hostile);
	int code = -(int)hostile_draw(hostile, 40);

	any_replica(session, &id);
	say_reject(session, &id, have, code);
}

static void say_want_header(struct hostile_session *session)
{
	P2p__V1__WantHeader want = P2P__V1__WANT_HEADER__INIT;
	struct p2p_id id;

	any_replica(session, &id);
	want.replica = p2p_field(id.bytes, P2P_ID_BYTES);
	want.seq = small_seq(session->hostile);
	hostile_say(session, P2P_MSG_WANT_HEADER, &want.base);
}

static void say_proof(struct hostile_session *session)
{
	struct hostile *hostile = session->hostile;
	P2p__V1__HeaderProof proof = P2P__V1__HEADER_PROOF__INIT;
	const struct hostile_change *change = any_change(hostile);
	ProtobufCBinaryData headers[3];
	struct p2p_id id;

	any_replica(session, &id);
	if (!change)
		return;
	headers[0] = headers[1] = headers[2] = p2p_field(change->raw, change->raw_len);
	proof.replica = p2p_field(hostile_draw(hostile, 2) ? id.bytes : change->replica.bytes,
				  P2P_ID_BYTES);
	proof.seq = hostile_draw(hostile, 2) ? change->seq : small_seq(hostile);
	proof.n_headers = 1 + hostile_draw(hostile, 3);
	proof.headers = headers;
	proof.signature = p2p_field(change->signature.bytes, P2P_SIG_BYTES);
	hostile_say(session, P2P_MSG_HEADER_PROOF, &proof.base);
}

static void say_small(struct hostile_session *session)
{
	struct hostile *hostile = session->hostile;
	P2p__V1__Ping ping = P2P__V1__PING__INIT;
	P2p__V1__Error error;
	P2p__V1__JoinRequest request;
	P2p__V1__Hello hello;
	char text[] = "a lie \x1b[31m";

	p2p__v1__join_request__init(&request);
	p2p__v1__error__init(&error);
	p2p__v1__hello__init(&hello);
	switch (hostile_draw(hostile, 12)) {
	case 0:
		hostile_say(session, P2P_MSG_JOIN_REQUEST, &request.base);
		break;
	case 1:
		hostile_say(session, P2P_MSG_HELLO, &hello.base);
		break;
	case 2:
	case 3:
	case 4:
		error.code = (int32_t)hostile_draw(hostile, 60) - 50;
		error.text = text;
		error.fatal = hostile_draw(hostile, 6) == 0;
		hostile_say(session, P2P_MSG_ERROR, &error.base);
		break;
	default:
		ping.token = hostile_draw(hostile, 1000);
		hostile_say(session, hostile_draw(hostile, 2) ? P2P_MSG_PING : P2P_MSG_PONG,
			    &ping.base);
	}
}

/* Bytes that are no message, or of a type that nobody knows. */
static void say_garbage(struct hostile_session *session)
{
	struct hostile *hostile = session->hostile;
	uint8_t bytes[64];
	size_t len = 1 + hostile_draw(hostile, sizeof(bytes));

	hostile_bytes(hostile, bytes, sizeof(bytes));
	if (hostile_draw(hostile, 4))
		bytes[0] = (uint8_t)(18 + bytes[0] % 200); /* of a later version: passed over */
	if (session->session)
		(void)!p2p_transport_send(session->session, P2P_CLASS_SMALL, bytes, len);
}

static void act_flood(struct hostile_session *session)
{
	static void (*const kinds[])(struct hostile_session *) = {
		say_want,  say_ack,   say_any_reject, say_want_header,
		say_proof, say_small, say_garbage,    act_announce,
	};
	struct hostile *hostile = session->hostile;
	uint64_t kind = hostile_draw(hostile, 8), count = 1 + hostile_draw(hostile, FLOOD_MAX);

	while (count-- && session->session)
		kinds[kind](session);
}

/* --- records ---------------------------------------------------------------------------------- */

static void say_records(struct hostile_session *session, P2p__V1__Signed *record, size_t times)
{
	P2p__V1__Records records = P2P__V1__RECORDS__INIT;
	P2p__V1__Signed *list[50];
	size_t i;

	for (i = 0; i < times; i++)
		list[i] = record;
	records.n_records = times;
	records.records = list;
	records.last = hostile_draw(session->hostile, 2) != 0;
	hostile_say(session, P2P_MSG_RECORDS, &records.base);
}

/* A certificate for a replica id, many times, or with a signature that is wrong. */
static void say_certificate(struct hostile_session *session, const struct p2p_id *id, bool wrong)
{
	struct hostile *hostile = session->hostile;
	const ProtobufCMessage *base;
	void *arena;
	struct p2p_buf raw;

	p2p_buf_init(&raw, P2P_RECORD_RAW_MAX);
	if (p2p_authority_make_certificate(hostile->authority, &raw, &hostile->signer, id, NULL) ==
		    0 &&
	    p2p_unpack(&p2p__v1__signed__descriptor, raw.data, raw.len, &base, &arena) == 0) {
		P2p__V1__Signed record = *(const P2p__V1__Signed *)base;

		if (wrong)
			record.kind = P2P__V1__RECORD_KIND__RECORD_ADMISSION;
		say_records(session, &record, 1 + hostile_draw(hostile, 50));
		p2p_unpack_free(arena);
	}
	p2p_buf_deinit(&raw);
}

/* For one more replica id of its own. */
static void certificate(struct hostile_session *session, bool wrong)
{
	struct p2p_id id;

	hostile_bytes(session->hostile, id.bytes, P2P_ID_BYTES);
	p2p_replica_id_bind(&id, &session->hostile->signer.node);
	say_certificate(session, &id, wrong);
}

/* The replica id of another is its own, says the liar, and mostly goes on with its history. */
static void act_claim_replica(struct hostile_session *session)
{
	struct hostile *hostile = session->hostile;
	struct hostile_change change;
	struct p2p_id id;

	any_replica(session, &id);
	if (sim_hostile_owns(hostile->sim, &id))
		return;
	sim_count(hostile->sim, SIM_CLAIM);
	say_certificate(session, &id, false);
	if (hostile_draw(hostile, 3) == 0)
		return;
	hostile_forge(hostile, &id, p2p_vv_seq(&session->have, &id) + 1, &change);
	hostile_push(session, &change);
	hostile_change_deinit(&change);
}

static void act_records(struct hostile_session *session)
{
	struct hostile *hostile = session->hostile;
	P2p__V1__Signed junk = P2P__V1__SIGNED__INIT;
	static const uint8_t big[P2P_RECORD_RAW_MAX + 1];
	uint8_t bytes[128];

	switch (hostile_draw(hostile, 4)) {
	case 0:
		hostile_bytes(hostile, bytes, sizeof(bytes));
		junk.kind = (uint32_t)hostile_draw(hostile, 12);
		junk.body = p2p_field(bytes, hostile_draw(hostile, sizeof(bytes)));
		junk.signer = p2p_field(hostile->self.node.bytes, P2P_KEY_BYTES);
		junk.signature = p2p_field(bytes, P2P_SIG_BYTES);
		say_records(session, &junk, 1);
		break;
	case 1:
		junk.kind = 3;
		junk.body = p2p_field(big, sizeof(big));
		junk.signer = p2p_field(hostile->self.node.bytes, P2P_KEY_BYTES);
		junk.signature = p2p_field(big, P2P_SIG_BYTES);
		say_records(session, &junk, 1);
		break;
	case 2:
		certificate(session, true);
		break;
	default:
		if (hostile->junk++ < 6) /* each is kept by all, for ever */
			certificate(session, false);
	}
}

static void act_members(struct hostile_session *session)
{
	struct hostile *hostile = session->hostile;
	P2p__V1__Members members = P2P__V1__MEMBERS__INIT;
	ProtobufCBinaryData hashes[200];
	uint8_t bytes[P2P_PREFIX_BYTES * 2];
	size_t i, len = hostile_draw(hostile, 5) ? P2P_PREFIX_BYTES : 7;

	hostile_bytes(hostile, bytes, sizeof(bytes));
	for (i = 0; i < 200; i++)
		hashes[i] = p2p_field(bytes + i % P2P_PREFIX_BYTES, len);
	members.n_hashes = hostile_draw(hostile, 200);
	members.hashes = hashes;
	hostile_say(session, P2P_MSG_MEMBERS, &members.base);
}

/* --- links ------------------------------------------------------------------------------------ */

/* Asks for everything, and reads none of it. */
static void act_slow_reader(struct hostile_session *session)
{
	struct hostile *hostile = session->hostile;
	P2p__V1__Want want = P2P__V1__WANT__INIT;
	size_t i;

	for (i = 0; i < session->have.count; i++) {
		want.replica = p2p_field(session->have.entries[i].replica.bytes, P2P_ID_BYTES);
		want.from_seq = 1;
		want.to_seq = INT64_MAX;
		hostile_say(session, P2P_MSG_WANT, &want.base);
	}
	if (!session->session)
		return;
	session->paused_until_ms = hostile->sim->now_ms + 100 + hostile_draw(hostile, 8000);
	p2p_transport_pause(session->session, true);
}

static void act_close(struct hostile_session *session)
{
	hostile_close(session, hostile_draw(session->hostile, 2) != 0);
}

void hostile_act(struct hostile_session *session)
{
	static void (*const acts[])(struct hostile_session *) = {
		act_announce,  act_announce,	  act_make,	    act_make,
		act_make,      act_make,	  act_vector_lies,  act_vector_lies,
		act_claim_own, act_clock_lie,	  act_other_branch, act_altered,
		act_altered,   act_no_right,	  act_repeat,	    act_flood,
		act_flood,     act_records,	  act_members,	    act_slow_reader,
		act_close,     act_claim_replica,
	};
	struct hostile *hostile = session->hostile;
	uint64_t which = hostile_draw(hostile, sizeof(acts) / sizeof(acts[0]));

	sim_note(hostile->sim, 2, "hostile: act %llu to host %zu", (unsigned long long)which,
		 session->victim);
	acts[which](session);
}
