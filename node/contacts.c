/* All sessions of a node: their beginning and end, and what the replica says to them. */
#include <stdio.h>
#include <string.h>

#include "node/session.h"
#include "proto/check.h"
#include "proto/mem.h"

#define HARDEN_RETRY_MS 200

static struct p2p_contact *contact_by_id(struct p2p_node *node, p2p_sync_peer id)
{
	struct p2p_list *at, *tmp;

	p2p_list_for_each (at, tmp, &node->contacts) {
		struct p2p_contact *contact = p2p_container_of(at, struct p2p_contact, link);

		if (contact->id == id)
			return contact;
	}
	return NULL;
}

struct p2p_contact *p2p_contact_of(const struct p2p_node *node, const struct p2p_key *key)
{
	struct p2p_list *at;

	for (at = node->contacts.next; at != &node->contacts; at = at->next) {
		struct p2p_contact *contact = p2p_container_of(at, struct p2p_contact, link);

		if (contact->state != P2P_CONTACT_DOWN && p2p_key_cmp(&contact->key, key) == 0)
			return contact;
	}
	return NULL;
}

size_t p2p_contacts_count(const struct p2p_node *node, bool live_only)
{
	struct p2p_list *at;
	size_t count = 0;

	for (at = node->contacts.next; at != &node->contacts; at = at->next) {
		struct p2p_contact *contact = p2p_container_of(at, struct p2p_contact, link);

		count += live_only ? contact->state == P2P_CONTACT_LIVE
				   : contact->state != P2P_CONTACT_DOWN;
	}
	return count;
}

/* ---- up and down ---------------------------------------------------------------------------- */

void p2p_contact_up(struct p2p_node *node, struct p2p_session *session, uint32_t dial_id)
{
	const struct p2p_session_info *info = p2p_session_info(session);
	struct p2p_contact *contact = p2p_calloc(1, sizeof(*contact));

	if (!contact) {
		p2p_finder_dialed(node->finder, dial_id, P2P_ENOMEM, &info->peer.node, NULL);
		p2p_transport_close(session, P2P_ENOMEM, "out of memory");
		return;
	}
	contact->node = node;
	contact->session = session;
	contact->id = ++node->next_contact;
	contact->key = info->peer.node;
	contact->instance = info->peer.instance;
	contact->dial_id = dial_id;
	contact->settle_by.ms = p2p_env_now(&node->env).ms + P2P_SETTLE_TIMEOUT_MS;
	(void)snprintf(contact->address, sizeof(contact->address), "%s", info->address);
	p2p_gossip_init(&contact->gossip);
	p2p_list_push(&node->contacts, &contact->link);
	p2p_session_set_user(session, contact);
	p2p_contact_begin(contact);
}

void p2p_contact_writable(struct p2p_node *node, struct p2p_session *session)
{
	struct p2p_contact *contact = p2p_session_user(session);

	if (!contact || contact->doom)
		return;
	if (contact->gossip.dirty)
		p2p_contact_push_records(contact);
	p2p_contact_check_settled(contact);
	if (contact->state == P2P_CONTACT_LIVE)
		p2p_replica_writable(node->replica, contact->id);
	p2p_node_kick(node);
}

void p2p_contact_down(struct p2p_node *node, struct p2p_session *session, int code,
		      const char *text)
{
	struct p2p_contact *contact = p2p_session_user(session);

	if (!contact)
		return;
	/* the engine may be on the stack (it sent, and the link broke): the rest waits for the
	 * next turn of the loop */
	contact->session = NULL;
	contact->down_code = code;
	(void)snprintf(contact->down_text, sizeof(contact->down_text), "%s", text ? text : "");
	p2p_contact_move(contact, P2P_CONTACT_DOWN);
	p2p_node_kick(node);
}

static void reap(struct p2p_contact *contact)
{
	struct p2p_node *node = contact->node;
	int code = contact->down_code ? contact->down_code : P2P_ECLOSED;

	p2p_list_remove(&contact->link);
	p2p_contact_report_dialled(contact, code);
	/* also after one that never was live: it may have replaced one that was */
	if (!p2p_contact_of(node, &contact->key))
		p2p_finder_down(node->finder, &contact->key);
	if (contact->was_live) {
		p2p_replica_peer_down(node->replica, contact->id);
		p2p_log(&node->log, P2P_LOG_INFO, "node", "peer %.8s (%s) is down: %s",
			p2p_key_text(&contact->key).text, contact->address, contact->down_text);
		p2p_node_emit(node, P2P_EV_PEER_DOWN, contact->down_code, &contact->key, "%s",
			      contact->down_text);
	}
	if (contact->down_code)
		p2p_node_note(node, &contact->key, contact->address, contact->down_code,
			      contact->down_text);
	p2p_gossip_deinit(&contact->gossip);
	p2p_free(contact);
}

static void joined(struct p2p_node *node);

void p2p_contacts_run(struct p2p_node *node, struct p2p_time now)
{
	struct p2p_list *at, *tmp;

	if (node->join_whole && now.ms >= node->join_again.ms)
		joined(node);
	p2p_list_for_each (at, tmp, &node->contacts) {
		struct p2p_contact *contact = p2p_container_of(at, struct p2p_contact, link);

		if (contact->state == P2P_CONTACT_DOWN) {
			reap(contact);
			continue;
		}
		if (!contact->doom && contact->state < P2P_CONTACT_LIVE &&
		    now.ms >= contact->settle_by.ms)
			p2p_contact_doom(contact, P2P_ETIMEOUT,
					 "membership was not agreed in time");
		if (contact->doom) {
			if (contact->session && !contact->closing) {
				contact->closing = true;
				p2p_transport_close(contact->session,
						    contact->doom == P2P_ECLOSED ? 0
										 : contact->doom,
						    p2p_contact_public_text(contact->doom,
									    contact->doom_text));
			}
			contact->settle_by.ms = UINT64_MAX;
			continue;
		}
		if (contact->gossip.dirty)
			p2p_contact_push_records(contact);
	}
}

struct p2p_time p2p_contacts_deadline(const struct p2p_node *node)
{
	struct p2p_time next = {node->join_whole ? node->join_again.ms : UINT64_MAX};
	struct p2p_list *at;

	for (at = node->contacts.next; at != &node->contacts; at = at->next) {
		struct p2p_contact *contact = p2p_container_of(at, struct p2p_contact, link);

		if (contact->state < P2P_CONTACT_LIVE && contact->settle_by.ms < next.ms)
			next = contact->settle_by;
	}
	return next;
}

/* ---- callbacks of the replica --------------------------------------------------------------- */

int p2p_contact_send(void *ctx, p2p_sync_peer peer, enum p2p_class cls, enum p2p_message_type type,
		     const ProtobufCMessage *message)
{
	struct p2p_contact *contact = contact_by_id(ctx, peer);

	if (!contact || contact->doom || contact->state == P2P_CONTACT_DOWN)
		return P2P_ECLOSED;
	return p2p_contact_send_message(contact, cls, type, message);
}

static void joined(struct p2p_node *node)
{
	uint64_t rows = 0, table_rows;
	struct p2p_store *store = p2p_replica_store(node->replica);
	struct p2p_error err = {0};
	size_t i;
	int rc = p2p_replica_harden(node->replica, &err);

	/* the ticket goes when the copy is durable: until then a start goes on with the join */
	node->join_whole = rc != 0;
	if (rc) {
		node->join_again.ms = p2p_env_now(&node->env).ms + HARDEN_RETRY_MS;
		p2p_node_trouble(node, rc, "join: %s", err.msg);
		return;
	}
	for (i = 0; i < p2p_store_table_count(store); i++)
		if (p2p_replica_table_rows(node->replica, p2p_store_table(store, i), &table_rows) ==
		    0)
			rows += table_rows;
	node->join = P2P_JOIN_NONE;
	p2p_ticket_wipe(&node->ticket);
	p2p_state_remove(node->state_fd, "ticket");
	p2p_node_emit_rows(node, P2P_EV_JOINED, rows, 100);
}

/* The own replica id went on elsewhere (a restored disk): sessions are made anew under a new one.
 */
static void leave_sessions(struct p2p_node *node, int code, const char *text)
{
	struct p2p_list *at, *tmp;

	p2p_list_for_each (at, tmp, &node->contacts)
		p2p_contact_doom(p2p_container_of(at, struct p2p_contact, link), code, text);
	p2p_node_kick(node);
}

/* Nobody's session is at fault: a replica's signed changes are, whoever brought them. */
static void tell_held(struct p2p_node *node, const struct p2p_sync_event *event)
{
	struct p2p_key key;

	if (p2p_authority_replica_node(p2p_replica_authority(node->replica), &event->replica, &key))
		memset(&key, 0, sizeof(key)); /* its right was taken meanwhile */
	p2p_node_trouble(node, event->code, "%s (node %.8s)", event->text ? event->text : "",
			 p2p_key_text(&key).text);
}

void p2p_contact_event(void *ctx, const struct p2p_sync_event *event)
{
	struct p2p_node *node = ctx;
	struct p2p_contact *contact = contact_by_id(node, event->peer);
	const struct p2p_key *key = contact ? &contact->key : NULL;
	const char *text = event->text ? event->text : "";

	switch (event->kind) {
	case P2P_SYNC_CAUGHT_UP:
		p2p_node_emit(node, P2P_EV_CAUGHT_UP, 0, key, "%s", contact ? contact->name : "");
		if (node->join == P2P_JOIN_COPYING)
			joined(node);
		return;
	case P2P_SYNC_ACKED:
		return;
	case P2P_SYNC_BAD_PEER:
		if (contact)
			p2p_contact_fail(contact, event->code, text);
		else
			tell_held(node, event);
		return;
	case P2P_SYNC_CLOCK:
	case P2P_SYNC_FORK:
	case P2P_SYNC_SELF_AHEAD:
		if (contact)
			p2p_node_note(node, key, contact->address,
				      event->code ? event->code : P2P_EPROTO, text);
		/* a fork is its signer's, whoever told of it */
		if (event->kind == P2P_SYNC_FORK)
			key = &event->node;
		p2p_node_trouble(node, event->code, "%s (node %.8s)", text,
				 key ? p2p_key_text(key).text : "?");
		if (p2p_id_cmp(&event->replica, p2p_replica_id(node->replica)) == 0 &&
		    event->kind != P2P_SYNC_CLOCK)
			leave_sessions(node, P2P_EFORK, "it goes on under a new replica id");
		return;
	case P2P_SYNC_ANEW:
		leave_sessions(node, P2P_EIO, text);
		return;
	}
}

void p2p_contact_record(void *ctx, const struct p2p_signed *record)
{
	struct p2p_node *node = ctx;
	struct p2p_list *at, *tmp;

	if (node->speaker && p2p_gossip_learn(&node->speaker->gossip, record->hash.bytes))
		node->speaker->gossip.dirty = true; /* costs one echo */
	p2p_list_for_each (at, tmp, &node->contacts)
		p2p_container_of(at, struct p2p_contact, link)->gossip.dirty = true;
	p2p_node_kick(node);
}
