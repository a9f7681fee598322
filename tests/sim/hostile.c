/* The life of a hostile member, and its sessions; see hostile.h. */
#include "tests/sim/hostile.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/node.h"
#include "proto/limits.h"
#include "transport/tcp.h"

#define FREEZE_TRIES 8
#define DIAL_MS	     3000
#define TICK_MS	     40
#define BUDGET_STORM 500 /* acts, at most */
#define BUDGET_AFTER 60

uint64_t hostile_draw(struct hostile *hostile, uint64_t below)
{
	return below ? sim_next(&hostile->random) % below : 0;
}

void hostile_bytes(struct hostile *hostile, void *out, size_t len)
{
	uint8_t *bytes = out;
	size_t i;

	for (i = 0; i < len; i++)
		bytes[i] = (uint8_t)sim_next(&hostile->random);
}

/* --- saying ----------------------------------------------------------------------------------- */

static void send_packed(struct hostile_session *session, const struct p2p_buf *buf)
{
	if (session->session)
		(void)!p2p_transport_send(session->session, P2P_CLASS_CONTROL, buf->data, buf->len);
}

void hostile_say(struct hostile_session *session, enum p2p_message_type type,
		 const ProtobufCMessage *message)
{
	struct p2p_buf buf;

	p2p_buf_init(&buf, P2P_MESSAGE_MAX);
	if (p2p_message_pack(&buf, type, message) == 0)
		send_packed(session, &buf);
	p2p_buf_deinit(&buf);
}

void hostile_close(struct hostile_session *session, bool in_order)
{
	if (session->session)
		p2p_transport_close(session->session, in_order ? 0 : P2P_EPROTO, "a whim");
}

/* --- settling: as node/session.c does it -------------------------------------------------------
 */

static void send_members(struct hostile_session *session)
{
	struct p2p_buf buf;

	p2p_buf_init(&buf, P2P_MESSAGE_MAX);
	if (p2p_records_pack_members(&buf, session->hostile->authority) == 0)
		send_packed(session, &buf);
	p2p_buf_deinit(&buf);
}

static void send_records(struct hostile_session *session)
{
	struct hostile *hostile = session->hostile;
	struct p2p_records_batch batch = {.complete = true};
	struct p2p_buf buf;
	int rc = 0;

	p2p_buf_init(&buf, P2P_MESSAGE_MAX);
	do {
		rc = p2p_records_pack(&buf, hostile->authority, &session->gossip, !session->told,
				      &batch);
		if (rc || (!batch.count && !batch.last))
			break;
		send_packed(session, &buf);
		rc = p2p_records_sent(&batch, hostile->authority, &session->gossip);
		session->told = session->told || batch.last;
	} while (!rc && !batch.complete);
	p2p_buf_deinit(&buf);
}

static void take_members(struct hostile_session *session, const P2p__V1__Members *members)
{
	size_t i;

	for (i = 0; i < members->n_hashes; i++)
		if (members->hashes[i].len == P2P_PREFIX_BYTES)
			(void)!p2p_gossip_learn(&session->gossip, members->hashes[i].data);
	session->told = false;
	send_records(session);
}

static void take_records(struct hostile_session *session, const P2p__V1__Records *records)
{
	struct p2p_buf raw;
	size_t i;

	p2p_buf_init(&raw, P2P_RECORD_RAW_MAX);
	for (i = 0; i < records->n_records; i++) {
		p2p_buf_reset(&raw);
		if (p2p_pack(&raw, &records->records[i]->base) == 0)
			(void)!p2p_authority_add(session->hostile->authority, raw.data, raw.len);
	}
	p2p_buf_deinit(&raw);
	session->heard = session->heard || records->last;
}

/* Its hello says that it is settled: ours goes out, with a clock that is mostly right. */
static void take_hello(struct hostile_session *session)
{
	struct hostile *hostile = session->hostile;
	P2p__V1__Hello hello;
	char name[] = "hostile", software[] = "p2pnode/0";

	p2p__v1__hello__init(&hello);
	if (session->live)
		return;
	hello.message_version = P2P_MESSAGE_VERSION;
	hello.replica = p2p_field(hostile->chains[0].id.bytes, P2P_ID_BYTES);
	hello.wall_ms = p2p_env_wall_ms(&hostile->env);
	if (hostile_draw(hostile, 10) == 0)
		hello.wall_ms += hostile_draw(hostile, 2) ? 86400000ull : 1ull << 59;
	hello.name = name;
	hello.software = software;
	hello.max_format = P2P_FORMAT;
	hello.listen_port = SIM_PORT;
	hello.credit_bytes = hostile_draw(hostile, 6) ? P2P_CREDIT_BYTES : 0;
	hostile_say(session, P2P_MSG_HELLO, &hello.base);
	session->live = true;
	if (hostile_draw(hostile, 4))
		hostile_announce(session);
}

static void take_have(struct hostile_session *session, const P2p__V1__Have *have)
{
	struct p2p_vv_entry entry;
	size_t i;

	for (i = 0; i < have->n_entries; i++) {
		memset(&entry, 0, sizeof(entry));
		if (p2p_field_id(&entry.replica, &have->entries[i]->replica))
			continue;
		entry.seq = have->entries[i]->seq;
		memcpy(entry.head.bytes, have->entries[i]->head.data, have->entries[i]->head.len);
		(void)!p2p_vv_put(&session->have, &entry);
	}
}

static void take_proof_question(struct hostile_session *session, const P2p__V1__WantHeader *want)
{
	P2p__V1__HeaderProof proof = P2P__V1__HEADER_PROOF__INIT;
	const struct hostile_change *change;
	ProtobufCBinaryData header;
	struct p2p_id id;

	/* sometimes silence, sometimes nonsense, mostly what it has */
	if (hostile_draw(session->hostile, 5) == 0 || p2p_field_id(&id, &want->replica))
		return;
	change = hostile_find(session->hostile, &id, want->seq, hostile_branch(session));
	if (!change || !change->has_signature)
		return;
	header = p2p_field(change->raw, change->raw_len);
	proof.replica = want->replica;
	proof.seq = want->seq;
	proof.n_headers = 1;
	proof.headers = &header;
	proof.signature = p2p_field(change->signature.bytes, P2P_SIG_BYTES);
	hostile_say(session, P2P_MSG_HEADER_PROOF, &proof.base);
}

static void dispatch(struct hostile_session *session, const struct p2p_message *message)
{
	size_t i;

	switch ((int)message->type) {
	case P2P_MSG_MEMBERS:
		take_members(session, message->members);
		break;
	case P2P_MSG_RECORDS:
		take_records(session, message->records);
		break;
	case P2P_MSG_HELLO:
		take_hello(session);
		break;
	case P2P_MSG_HAVE:
		take_have(session, message->have);
		break;
	case P2P_MSG_WANT:
		hostile_serve(session, message->want);
		break;
	case P2P_MSG_WANT_HEADER:
		take_proof_question(session, message->want_header);
		break;
	case P2P_MSG_CHANGES:
		for (i = 0; i < message->changes->n_parts; i++)
			hostile_keep(session->hostile, message->changes->parts[i]);
		break;
	default:
		break;
	}
}

/* --- events of the transport ------------------------------------------------------------------ */

static void session_up(void *ctx, struct p2p_session *session, const struct p2p_session_info *info)
{
	struct hostile *hostile = ctx;
	size_t i;

	for (i = 0; i < hostile->sim->count; i++)
		if (p2p_key_cmp(&hostile->keys[i], &info->peer.node) == 0)
			break;
	if (i == hostile->sim->count) {
		p2p_transport_close(session, 0, "unknown");
		return;
	}
	sim_note(hostile->sim, 2, "hostile: up with host %zu", i);
	hostile->sessions[i] =
		(struct hostile_session){.hostile = hostile, .session = session, .victim = i};
	p2p_gossip_init(&hostile->sessions[i].gossip);
	p2p_vv_init(&hostile->sessions[i].have);
	p2p_session_set_user(session, &hostile->sessions[i]);
	send_members(&hostile->sessions[i]);
}

static void session_message(void *ctx, struct p2p_session *session, enum p2p_class cls,
			    const uint8_t *data, size_t len)
{
	struct hostile_session *known = p2p_session_user(session);
	struct p2p_message message;

	(void)ctx;
	(void)cls;
	if (!known || p2p_message_unpack(&message, data, len))
		return;
	dispatch(known, &message);
	p2p_message_deinit(&message);
}

static void session_writable(void *ctx, struct p2p_session *session)
{
	(void)ctx;
	(void)session;
}

static void session_down(void *ctx, struct p2p_session *session, int code, const char *text)
{
	struct hostile *hostile = ctx;
	struct hostile_session *known = p2p_session_user(session);

	if (!known)
		return;
	sim_note(hostile->sim, 2, "hostile: host %zu is gone: %d %s", known->victim, code,
		 text ? text : "");
	p2p_gossip_deinit(&known->gossip);
	p2p_vv_deinit(&known->have);
	memset(known, 0, sizeof(*known));
}

static const struct p2p_transport_events transport_events = {
	.session_up = session_up,
	.message = session_message,
	.writable = session_writable,
	.session_down = session_down,
};

static size_t secrets(void *ctx, enum p2p_kind kind, struct p2p_secret *out, size_t max)
{
	struct hostile *hostile = ctx;

	if (kind != P2P_KIND_MEMBER || !max)
		return 0;
	out->kind = kind;
	out->id = 1;
	memcpy(out->bytes, hostile->secret, P2P_KEY_BYTES);
	return 1;
}

static void accepted(void *ctx, struct p2p_link *link, const struct sockaddr *from)
{
	struct hostile *hostile = ctx;
	char text[P2P_ADDRESS_TEXT_MAX];

	p2p_tcp_address_text(from, text, sizeof(text));
	p2p_transport_accept(hostile->transport, link, text);
}

/* --- dialling --------------------------------------------------------------------------------- */

struct attempt {
	struct hostile *hostile;
	size_t victim;
};

static void dialled(void *ctx, struct p2p_link *link, int code, const char *text)
{
	struct attempt *attempt = ctx;
	struct hostile *hostile = attempt->hostile;
	struct p2p_secret secret = {.kind = P2P_KIND_MEMBER, .id = 1};
	struct p2p_dial how = {.address = "victim", .secret = &secret};

	(void)text;
	hostile->dialling[attempt->victim] = false;
	free(attempt);
	if (code)
		return;
	memcpy(secret.bytes, hostile->secret, P2P_KEY_BYTES);
	p2p_transport_dial(hostile->transport, link, &how);
}

static void dial(struct hostile *hostile, size_t victim)
{
	struct attempt *attempt = malloc(sizeof(*attempt));
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(SIM_PORT)};

	if (!attempt)
		sim_fail(hostile->sim, "out of memory");
	address.sin_addr.s_addr = htonl(0x0a000001u + (uint32_t)victim);
	*attempt = (struct attempt){hostile, victim};
	hostile->dialling[victim] = true;
	if (p2p_tcp_dial(hostile->tcp, (const struct sockaddr *)(const void *)&address, DIAL_MS,
			 dialled, attempt, NULL)) {
		hostile->dialling[victim] = false;
		free(attempt);
	}
}

/* --- a turn ----------------------------------------------------------------------------------- */

static void turn_session(struct hostile *hostile, size_t victim)
{
	struct hostile_session *session = &hostile->sessions[victim];
	uint64_t now = hostile->sim->now_ms;

	if (!session->session) {
		if (!hostile->dialling[victim] && hostile_draw(hostile, 12) == 0)
			dial(hostile, victim);
		return;
	}
	if (session->paused_until_ms && now >= session->paused_until_ms) {
		session->paused_until_ms = 0;
		p2p_transport_pause(session->session, false);
	}
	if (!session->live || !hostile->budget || hostile_draw(hostile, 6))
		return;
	hostile->budget--;
	sim_count(hostile->sim, SIM_HOSTILE);
	hostile_act(session);
}

static void turn(struct sim *sim, void *ctx, uint64_t arg)
{
	struct hostile *hostile = ctx;
	struct p2p_time now = {sim->now_ms};
	size_t i;

	(void)arg;
	sim_host_current = hostile->host;
	(void)p2p_transport_tick(hostile->transport, now);
	for (i = 0; i < sim->count; i++)
		turn_session(hostile, i);
	sim_at(sim, sim->now_ms + TICK_MS, turn, hostile, 0);
}

/* --- taking over ------------------------------------------------------------------------------ */

static void take_over(struct hostile *hostile, struct sim_host *host)
{
	struct p2p_node *node = host->node;
	struct sim *sim = hostile->sim;
	char text[2 * P2P_KEY_BYTES + 1];
	size_t i;

	memcpy(hostile->self.sign_secret, node->keys.sign_secret,
	       sizeof(hostile->self.sign_secret));
	memcpy(hostile->self.noise_secret, node->keys.noise_secret,
	       sizeof(hostile->self.noise_secret));
	hostile->self.node = node->keys.node;
	hostile->self.noise = node->keys.noise;
	hostile->self.instance = node->instance;
	hostile->signer = (struct p2p_signer){hostile->self.sign_secret, node->keys.node,
					      node->keys.wrap, node->keys.noise};
	hostile->mesh = *p2p_node_mesh(node);
	memcpy(hostile->secret, node->mesh_secret, P2P_KEY_BYTES);
	p2p_hex(text, node->keys.node.bytes, P2P_KEY_BYTES);
	memcpy(hostile->name, text, 8);
	for (i = 0; i < sim->count; i++)
		hostile->keys[i] = sim->hosts[i].node->keys.node;
	if (p2p_authority_new(&hostile->env, &hostile->authority))
		sim_fail(sim, "hostile: out of memory");
	hostile_learn(hostile, node);
}

static void open_network(struct hostile *hostile)
{
	const struct p2p_transport_config config = {
		.env = &hostile->env,
		.events = &transport_events,
		.ctx = hostile,
		.identity = &hostile->self,
		.mesh = hostile->mesh,
		.software = "p2pnode/0",
		.secrets = secrets,
	};
	struct sockaddr_in address = {.sin_family = AF_INET};
	struct p2p_tcp_listener *listener;
	struct p2p_error err = {0};

	if (p2p_transport_new(&config, &hostile->transport) ||
	    p2p_tcp_new(&hostile->host->loop, &hostile->tcp) ||
	    p2p_tcp_listen(hostile->tcp, (const struct sockaddr *)(const void *)&address, accepted,
			   hostile, &listener, &err))
		sim_fail(hostile->sim, "hostile: no network");
}

void sim_hostile_begin(struct sim *sim, struct sim_host *host)
{
	struct hostile *hostile = calloc(1, sizeof(*hostile));
	unsigned int tries;

	if (!hostile)
		sim_fail(sim, "out of memory");
	sim->hostile = hostile;
	hostile->sim = sim;
	hostile->host = host;
	hostile->random = sim_next(&host->random);
	sim_host_current = host;
	p2p_node_env_init(&hostile->env);
	/* what it wrote honestly is told before its history is taken over, not when it stops */
	for (tries = 0; tries < FREEZE_TRIES; tries++)
		if (p2p_replica_freeze(host->node->replica, NULL) == 0)
			break;
	take_over(hostile, host);
	sim_host_stop(host);
	sim_app_close(host);
	sim_host_current = host;
	hostile_certify(hostile);
	open_network(hostile);
	hostile->budget = BUDGET_STORM / 5 + (unsigned int)hostile_draw(hostile, BUDGET_STORM);
	hostile->make_left = 10 + (unsigned int)hostile_draw(hostile, 40);
	sim_at(sim, sim->now_ms, turn, hostile, 0);
	sim_note(sim, 1, "host %zu is hostile now: node %s", host->index, hostile->name);
}

void sim_hostile_calm(struct sim *sim)
{
	sim->hostile->still = true;
	sim->hostile->budget = BUDGET_AFTER;
}

void sim_hostile_silence(struct sim *sim)
{
	sim->hostile->budget = 0;
}

void sim_hostile_end(struct sim *sim)
{
	struct hostile *hostile = sim->hostile;

	if (!hostile)
		return;
	sim_forget(sim, hostile);
	sim_host_current = hostile->host;
	p2p_transport_free(hostile->transport);
	p2p_tcp_close(hostile->tcp, NULL, NULL);
	sim_host_turn(hostile->host);
	p2p_authority_free(hostile->authority);
	hostile_make_deinit(hostile);
	free(hostile);
	sim->hostile = NULL;
}

/* --- what the checkers ask -------------------------------------------------------------------- */

static const struct hostile_chain *chain_of(const struct sim *sim, const struct p2p_id *replica)
{
	size_t i;

	for (i = 0; sim->hostile && i < sim->hostile->chain_count; i++)
		if (p2p_id_cmp(&sim->hostile->chains[i].id, replica) == 0)
			return &sim->hostile->chains[i];
	return NULL;
}

bool sim_hostile_owns(const struct sim *sim, const struct p2p_id *replica)
{
	return chain_of(sim, replica) != NULL;
}

uint64_t sim_hostile_fork(const struct sim *sim, const struct p2p_id *replica)
{
	const struct hostile_chain *chain = chain_of(sim, replica);

	return chain && chain->fork_seq ? chain->fork_seq : UINT64_MAX;
}

bool sim_hostile_stuck(const struct sim *sim, const struct p2p_id *replica)
{
	const struct hostile_chain *chain = chain_of(sim, replica);

	return chain && chain->fate != HOSTILE_ODD;
}

const struct p2p_id *sim_hostile_forked(const struct sim *sim)
{
	size_t i;

	for (i = 0; sim->hostile && i < sim->hostile->chain_count; i++)
		if (sim->hostile->chains[i].fork_seq)
			return &sim->hostile->chains[i].id;
	return NULL;
}

unsigned int sim_hostile_branch(const struct sim *sim, const struct p2p_vv_entry *entry)
{
	const struct hostile *hostile = sim->hostile;
	size_t i;

	for (i = 0; i < hostile->change_count; i++)
		if (p2p_hash_cmp(&hostile->changes[i].hash, &entry->head) == 0)
			return hostile->changes[i].branch;
	return 0;
}

const char *sim_hostile_name(const struct sim *sim)
{
	return sim->hostile ? sim->hostile->name : NULL;
}
