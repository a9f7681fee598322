/* The life of one peer; see session.h. */
#include "node/session.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "node/records.h"
#include "proto/check.h"
#include "proto/mem.h"

static const char *state_name(enum p2p_contact_state state)
{
	static const char *const names[] = {"ASKING",  "ASKED", "SETTLING",
					    "GREETED", "LIVE",	"DOWN"};

	return names[state];
}

static bool may_move(enum p2p_contact_state from, enum p2p_contact_state to)
{
	switch (to) {
	case P2P_CONTACT_SETTLING:
		return from == P2P_CONTACT_ASKING || from == P2P_CONTACT_ASKED;
	case P2P_CONTACT_GREETED:
		return from == P2P_CONTACT_SETTLING;
	case P2P_CONTACT_LIVE:
		return from == P2P_CONTACT_GREETED;
	case P2P_CONTACT_DOWN:
		return from != P2P_CONTACT_DOWN;
	case P2P_CONTACT_ASKING:
	case P2P_CONTACT_ASKED:
		return false;
	}
	return false;
}

void p2p_contact_move(struct p2p_contact *contact, enum p2p_contact_state to)
{
	p2p_require(may_move(contact->state, to));
	p2p_log(&contact->node->log, P2P_LOG_DEBUG, "node", "peer %.8s: %s -> %s",
		p2p_key_text(&contact->key).text, state_name(contact->state), state_name(to));
	contact->state = to;
}

/* Closes when nothing of crdt/ or transport/ is on the stack above us. */
void p2p_contact_doom(struct p2p_contact *contact, int code, const char *text)
{
	if (contact->doom || contact->state == P2P_CONTACT_DOWN)
		return;
	contact->doom = code ? code : P2P_ECLOSED;
	(void)snprintf(contact->doom_text, sizeof(contact->doom_text), "%s", text);
	p2p_node_kick(contact->node);
}

int p2p_contact_send_message(struct p2p_contact *contact, enum p2p_class cls,
			     enum p2p_message_type type, const ProtobufCMessage *message)
{
	struct p2p_buf *buf = &contact->node->pack;
	int rc;

	if (!contact->session)
		return P2P_ECLOSED;
	p2p_buf_reset(buf);
	rc = p2p_message_pack(buf, type, message);
	if (rc)
		return rc;
	return p2p_transport_send(contact->session, cls, buf->data, buf->len);
}

const char *p2p_contact_public_text(int code, const char *text)
{
	return p2p_err_blame(code) == P2P_BLAME_LOCAL ? p2p_strerror(code) : text;
}

/* Tells the peer why, then closes. retry_ms 0: not before something changed. */
static void refuse(struct p2p_contact *contact, int code, const char *text)
{
	P2p__V1__Error error;
	char copy[P2P_CLOSE_TEXT_MAX];

	p2p__v1__error__init(&error);
	(void)snprintf(copy, sizeof(copy), "%s", p2p_contact_public_text(code, text));
	error.code = code;
	error.fatal = true;
	error.text = copy;
	/* best effort: the close tells the same */
	(void)!p2p_contact_send_message(contact, P2P_CLASS_CONTROL, P2P_MSG_ERROR, &error.base);
	p2p_node_note(contact->node, &contact->key, contact->address, code, text);
	p2p_log(&contact->node->log, P2P_LOG_WARN, "node", "refused %.8s (%s): %s",
		p2p_key_text(&contact->key).text, contact->address, text);
	p2p_contact_doom(contact, code, text);
}

/* ---- settling ------------------------------------------------------------------------------- */

void p2p_contact_fail(struct p2p_contact *contact, int code, const char *what)
{
	char text[P2P_CLOSE_TEXT_MAX];

	if (p2p_err_blame(code) == P2P_BLAME_PEER && code != P2P_ECLOSED) {
		(void)snprintf(text, sizeof(text), "%s: %s", what, p2p_strerror(code));
		refuse(contact, code, text);
		return;
	}
	p2p_contact_doom(contact, code, what);
}

static void begin_settling(struct p2p_contact *contact)
{
	struct p2p_authority *authority = p2p_replica_authority(contact->node->replica);
	int rc;

	if (contact->state != P2P_CONTACT_SETTLING)
		p2p_contact_move(contact, P2P_CONTACT_SETTLING);
	rc = p2p_records_pack_members(&contact->node->pack, authority);
	if (!rc)
		rc = p2p_transport_send(contact->session, P2P_CLASS_CONTROL,
					contact->node->pack.data, contact->node->pack.len);
	if (rc)
		p2p_contact_fail(contact, rc, "membership list");
}

static void say_hello(struct p2p_contact *contact)
{
	struct p2p_node *node = contact->node;
	P2p__V1__Hello hello;
	char software[] = "p2pnode/" P2P_VERSION;
	int rc;

	p2p__v1__hello__init(&hello);
	rc = p2p_replica_hello(node->replica, &hello);
	if (rc) {
		p2p_contact_doom(contact, rc, "hello");
		return;
	}
	hello.message_version = P2P_MESSAGE_VERSION;
	hello.name = node->name;
	hello.max_format = P2P_FORMAT;
	hello.listen_port = p2p_net_port(node->net);
	hello.software = software;
	rc = p2p_contact_send_message(contact, P2P_CLASS_CONTROL, P2P_MSG_HELLO, &hello.base);
	if (rc)
		p2p_contact_doom(contact, rc, "hello");
	else
		p2p_contact_move(contact, P2P_CONTACT_GREETED);
}

/* Sends what the peer lacks, as much as its queue takes. */
void p2p_contact_push_records(struct p2p_contact *contact)
{
	struct p2p_authority *authority = p2p_replica_authority(contact->node->replica);
	struct p2p_buf *buf = &contact->node->pack;
	int rc;

	if (!contact->gossip.heard)
		return;
	contact->gossip.dirty = false;
	do {
		struct p2p_records_batch batch;

		rc = p2p_records_pack(buf, authority, &contact->gossip, !contact->told, &batch);
		if (rc == 0 && batch.count == 0 && !batch.last)
			return;
		if (rc == 0)
			rc = p2p_transport_send(contact->session, P2P_CLASS_CONTROL, buf->data,
						buf->len);
		if (rc == P2P_EBUSY) {
			contact->gossip.dirty = true; /* goes on at writable */
			return;
		}
		if (rc == 0)
			rc = p2p_records_sent(&batch, authority, &contact->gossip);
		if (rc) {
			p2p_contact_fail(contact, rc, "membership records");
			return;
		}
		contact->told = contact->told || batch.last;
		if (batch.complete)
			return;
	} while (contact->state != P2P_CONTACT_DOWN);
}

/* A joiner whose records are complete becomes a member of its own file. */
static int adopt(struct p2p_contact *contact)
{
	struct p2p_node *node = contact->node;
	struct p2p_error err = {0};
	int rc;

	if (node->join != P2P_JOIN_ASKING)
		return 0;
	if (p2p_authority_role(p2p_replica_authority(node->replica), &node->keys.node) ==
	    P2P__V1__ROLE__ROLE_NONE)
		return 0; /* the other side will say that we are no member */
	rc = p2p_replica_adopt(node->replica, &err);
	if (rc) {
		p2p_node_trouble(node, rc, "join: %s", err.msg);
		return rc;
	}
	node->join = P2P_JOIN_COPYING;
	p2p_finder_refresh(node->finder);
	return 0;
}

void p2p_contact_check_settled(struct p2p_contact *contact)
{
	struct p2p_node *node = contact->node;
	struct p2p_authority *authority = p2p_replica_authority(node->replica);

	if (contact->state != P2P_CONTACT_SETTLING || !contact->told || !contact->heard ||
	    contact->doom)
		return;
	if (p2p_authority_role(authority, &contact->key) == P2P__V1__ROLE__ROLE_NONE) {
		refuse(contact, P2P_EAUTH, "this node is no member of the mesh");
		return;
	}
	if (adopt(contact)) {
		p2p_contact_doom(contact, P2P_EIO, "cannot take over the mesh's tables");
		return;
	}
	p2p_contact_push_records(contact); /* the new certificate goes before the first data */
	if (!contact->doom)
		say_hello(contact);
}

static void take_members(struct p2p_contact *contact, const P2p__V1__Members *members)
{
	size_t i;
	int rc = 0;

	if (members->n_hashes > P2P_RECORDS_MAX)
		rc = P2P_ETOOBIG;
	for (i = 0; !rc && i < members->n_hashes; i++)
		rc = members->hashes[i].len == P2P_PREFIX_BYTES
			     ? p2p_gossip_learn(&contact->gossip, members->hashes[i].data)
			     : P2P_EPROTO;
	if (rc) {
		p2p_contact_fail(contact, rc, "membership list");
		return;
	}
	contact->gossip.heard = true;
	contact->told = false;
	p2p_contact_push_records(contact);
	p2p_contact_check_settled(contact);
}

static void take_records(struct p2p_contact *contact, const P2p__V1__Records *records)
{
	struct p2p_node *node = contact->node;
	struct p2p_error err = {0};
	size_t added = 0;
	int rc = 0;

	node->speaker = contact;
	if (records->n_records)
		rc = p2p_replica_add_records(node->replica,
					     (const P2p__V1__Signed *const *)records->records,
					     records->n_records, &added, &err);
	node->speaker = NULL;
	if (rc) {
		p2p_contact_fail(contact, rc, err.msg[0] ? err.msg : "membership records");
		return;
	}
	if (added) {
		p2p_finder_refresh(node->finder);
		p2p_node_kick(node);
	}
	contact->heard = contact->heard || records->last;
	p2p_contact_check_settled(contact);
}

/* ---- joining -------------------------------------------------------------------------------- */

static void ask_to_join(struct p2p_contact *contact)
{
	struct p2p_node *node = contact->node;
	P2p__V1__JoinRequest request;
	struct p2p_id invite;
	int rc;

	p2p__v1__join_request__init(&request);
	p2p_ticket_invite(&invite, node->ticket.secret);
	request.wrap_key = p2p_field(node->keys.wrap.bytes, P2P_KEY_BYTES);
	request.name = node->name;
	request.max_format = P2P_FORMAT;
	request.invite = p2p_field(invite.bytes, P2P_ID_BYTES);
	rc = p2p_contact_send_message(contact, P2P_CLASS_CONTROL, P2P_MSG_JOIN_REQUEST,
				      &request.base);
	if (rc)
		p2p_contact_doom(contact, rc, "join request");
}

static void answer_join(struct p2p_contact *contact, const P2p__V1__JoinRequest *request)
{
	struct p2p_node *node = contact->node;
	const struct p2p_session_info *info = p2p_session_info(contact->session);
	P2p__V1__JoinReply reply;
	struct p2p_error err = {0};
	char name[P2P_NAME_MAX + 1];
	int rc = p2p_invite_redeem(node, info->peer.secret_id, &contact->key, &info->peer.noise,
				   request, &err);

	if (rc) {
		refuse(contact, rc, err.msg[0] ? err.msg : p2p_strerror(rc));
		return;
	}
	(void)snprintf(name, sizeof(name), "%s",
		       p2p_authority_mesh_name(p2p_replica_authority(node->replica)));
	p2p__v1__join_reply__init(&reply);
	reply.mesh_secret = p2p_field(node->mesh_secret, P2P_KEY_BYTES);
	reply.mesh_name = name;
	rc = p2p_contact_send_message(contact, P2P_CLASS_CONTROL, P2P_MSG_JOIN_REPLY, &reply.base);
	if (rc) {
		p2p_contact_doom(contact, rc, "join reply");
		return;
	}
	p2p_finder_refresh(node->finder);
	begin_settling(contact);
}

static void take_join_reply(struct p2p_contact *contact, const P2p__V1__JoinReply *reply)
{
	struct p2p_node *node = contact->node;
	struct p2p_error err = {0};
	int rc;

	if (reply->mesh_secret.len != P2P_KEY_BYTES) {
		p2p_contact_fail(contact, P2P_EPROTO, "join reply");
		return;
	}
	rc = p2p_secret_store(node->state_fd, reply->mesh_secret.data, &err);
	if (rc) {
		p2p_node_trouble(node, rc, "join: %s", err.msg);
		p2p_contact_doom(contact, rc, "cannot store");
		return;
	}
	memcpy(node->mesh_secret, reply->mesh_secret.data, P2P_KEY_BYTES);
	node->has_secret = true;
	p2p_replica_expect(node->replica, &node->ticket.mesh);
	begin_settling(contact);
}

/* ---- messages ------------------------------------------------------------------------------- */

static void remember_address(struct p2p_contact *contact, uint32_t listen_port)
{
	const struct p2p_session_info *info = p2p_session_info(contact->session);
	struct p2p_known_peer known = {.node = contact->key};
	struct p2p_node *node = contact->node;
	struct p2p_sidelog *log = p2p_replica_sidelog(node->replica);
	char *colon;
	int rc;

	/* one who came to us listens at its host, but on the port that it named */
	(void)snprintf(contact->address, sizeof(contact->address), "%s", info->address);
	colon = strrchr(contact->address, ':');
	if (!info->dialled && colon && listen_port > 0 && listen_port <= 65535)
		(void)snprintf(colon, sizeof(contact->address) - (size_t)(colon - contact->address),
			       ":%" PRIu32, listen_port);
	if (info->dialled || listen_port > 0) {
		p2p_finder_claim(node->finder, contact->address, &contact->key);
		(void)snprintf(known.address, sizeof(known.address), "%.*s",
			       (int)sizeof(known.address) - 1, contact->address);
	}
	(void)snprintf(known.name, sizeof(known.name), "%s", contact->name);
	known.seen_wall_ms = p2p_env_wall_ms(&node->env);
	rc = p2p_sidelog_begin(log, NULL);
	if (!rc)
		rc = p2p_sidelog_put_peer(log, &known);
	if (!rc)
		rc = p2p_sidelog_commit(log, NULL);
	else if (p2p_sidelog_in_transaction(log))
		p2p_sidelog_rollback(log);
	if (rc)
		p2p_log(&node->log, P2P_LOG_WARN, "node", "cannot remember the address %s: %s",
			contact->address, p2p_strerror(rc));
}

void p2p_contact_report_dialled(struct p2p_contact *contact, int status)
{
	if (contact->dial_id)
		p2p_finder_dialed(contact->node->finder, contact->dial_id, status, &contact->key,
				  &contact->instance);
	contact->dial_id = 0;
}

static void take_hello(struct p2p_contact *contact, const P2p__V1__Hello *hello)
{
	struct p2p_node *node = contact->node;
	int rc;

	if (contact->state != P2P_CONTACT_GREETED) {
		p2p_contact_fail(contact, P2P_EPROTO, "a hello before membership was agreed");
		return;
	}
	(void)snprintf(contact->name, sizeof(contact->name), "%s", hello->name);
	p2p_text_clean(contact->name);
	rc = p2p_replica_peer_up(node->replica, contact->id, &contact->key, hello);
	if (rc) {
		p2p_contact_fail(contact, rc, "hello");
		return;
	}
	p2p_contact_move(contact, P2P_CONTACT_LIVE);
	contact->was_live = true;
	p2p_contact_report_dialled(contact, 0);
	/* first the address, so that it rests while the session stands */
	remember_address(contact, hello->listen_port);
	p2p_finder_up(node->finder, &contact->key);
	p2p_node_note(node, &contact->key, contact->address, 0, "");
	node->last_trouble[0] = 0;
	p2p_log(&node->log, P2P_LOG_INFO, "node", "peer %.8s (%s, %s) is up",
		p2p_key_text(&contact->key).text, contact->name, contact->address);
	p2p_node_emit(node, P2P_EV_PEER_UP, 0, &contact->key, "%s at %s", contact->name,
		      contact->address);
	p2p_node_kick(node);
}

static void take_error(struct p2p_contact *contact, const P2p__V1__Error *error)
{
	struct p2p_node *node = contact->node;
	int code = error->code < 0 && error->code >= P2P_ENEWER ? error->code : P2P_EPROTO;
	char text[P2P_CLOSE_TEXT_MAX];

	(void)snprintf(text, sizeof(text), "%s", error->text);
	p2p_text_clean(text);
	p2p_node_note(node, &contact->key, contact->address, code, text);
	p2p_log(&node->log, P2P_LOG_INFO, "node", "peer %.8s (%s) says: %s",
		p2p_key_text(&contact->key).text, contact->address, text);
	if (!error->fatal)
		return;
	/* trouble of the other machine's own passes: only its verdict is for good */
	if (node->join == P2P_JOIN_ASKING && contact->state == P2P_CONTACT_ASKING &&
	    p2p_err_blame(code) != P2P_BLAME_LOCAL) {
		node->join = P2P_JOIN_REFUSED;
		p2p_state_remove(node->state_fd, "ticket");
		p2p_node_emit(node, P2P_EV_REFUSED, code, &contact->key, "%s", text);
	}
	p2p_contact_doom(contact, code, text);
}

static void take_sync(struct p2p_contact *contact, const struct p2p_message *message)
{
	int rc;

	if (contact->state != P2P_CONTACT_LIVE) {
		p2p_contact_fail(contact, P2P_EPROTO, "data before hello");
		return;
	}
	rc = p2p_replica_receive(contact->node->replica, contact->id, message);
	if (rc < 0)
		p2p_contact_fail(contact, rc, p2p_message_name(message->type));
	p2p_node_kick(contact->node);
}

static void dispatch(struct p2p_contact *contact, const struct p2p_message *message)
{
	bool settled = contact->state == P2P_CONTACT_SETTLING ||
		       contact->state == P2P_CONTACT_GREETED || contact->state == P2P_CONTACT_LIVE;

	switch (message->type) {
	case P2P_MSG_ERROR:
		take_error(contact, message->error);
		return;
	case P2P_MSG_JOIN_REQUEST:
		if (contact->state == P2P_CONTACT_ASKED)
			answer_join(contact, message->join_request);
		else
			p2p_contact_fail(contact, P2P_EPROTO, "a join request without a ticket");
		return;
	case P2P_MSG_JOIN_REPLY:
		if (contact->state == P2P_CONTACT_ASKING)
			take_join_reply(contact, message->join_reply);
		else
			p2p_contact_fail(contact, P2P_EPROTO, "a join reply that nobody asked for");
		return;
	case P2P_MSG_MEMBERS:
	case P2P_MSG_RECORDS:
		if (!settled)
			p2p_contact_fail(contact, P2P_EPROTO, "membership before admission");
		else if (message->type == P2P_MSG_MEMBERS)
			take_members(contact, message->members);
		else
			take_records(contact, message->records);
		return;
	case P2P_MSG_HELLO:
		take_hello(contact, message->hello);
		return;
	case P2P_MSG_HAVE:
	case P2P_MSG_WANT:
	case P2P_MSG_CHANGES:
	case P2P_MSG_ACK:
	case P2P_MSG_REJECT:
	case P2P_MSG_WANT_HEADER:
	case P2P_MSG_HEADER_PROOF:
		take_sync(contact, message);
		return;
	case P2P_MSG_PING: /* the transport keeps sessions alive by itself */
	case P2P_MSG_PONG:
	case P2P_MSG_BYE:
	case P2P_MSG_EPHEMERAL: /* reserved */
		return;
	}
}

void p2p_contact_message(struct p2p_session *session, const uint8_t *data, size_t len)
{
	struct p2p_contact *contact = p2p_session_user(session);
	struct p2p_message message;
	int rc;

	if (!contact || contact->doom || contact->state == P2P_CONTACT_DOWN)
		return;
	rc = p2p_message_unpack(&message, data, len);
	if (rc == P2P_MESSAGE_UNKNOWN)
		return; /* of a later version: skipped */
	if (rc) {
		p2p_contact_fail(contact, rc, "message");
		return;
	}
	dispatch(contact, &message);
	p2p_message_deinit(&message);
}

void p2p_contact_begin(struct p2p_contact *contact)
{
	const struct p2p_session_info *info = p2p_session_info(contact->session);
	bool ticket = info->peer.kind == P2P_KIND_TICKET;

	if (ticket && info->dialled) {
		contact->state = P2P_CONTACT_ASKING;
		ask_to_join(contact);
	} else if (ticket) {
		contact->state = P2P_CONTACT_ASKED;
	} else {
		contact->state = P2P_CONTACT_SETTLING;
		begin_settling(contact);
	}
}
