/* The life of one peer, from authenticated session to its end (decisions 29).
 *
 *	member:  SETTLING -> GREETED -> LIVE -> DOWN
 *	joiner:  ASKING (waits for JoinReply) -> SETTLING ...
 *	issuer:  ASKED (waits for JoinRequest) -> SETTLING ...
 *
 * SETTLING: both send the hashes of their membership records, then the records that the other
 * lacks; when both are done each decides by its own records whether the other is a member, and
 * says Hello. Until then not one byte of data moves. */
#ifndef P2P_NODE_SESSION_H
#define P2P_NODE_SESSION_H

#include "node/gossip.h"
#include "node/node.h"
#include "transport/transport.h"

enum p2p_contact_state {
	P2P_CONTACT_ASKING,
	P2P_CONTACT_ASKED,
	P2P_CONTACT_SETTLING,
	P2P_CONTACT_GREETED,
	P2P_CONTACT_LIVE,
	P2P_CONTACT_DOWN, /* the session is gone; freed at the next turn of the loop */
};

struct p2p_contact {
	struct p2p_list link;
	struct p2p_node *node;	     /* borrowed */
	struct p2p_session *session; /* borrowed; NULL when DOWN */
	p2p_sync_peer id;
	enum p2p_contact_state state;
	bool was_live;
	struct p2p_key key;
	struct p2p_id instance;
	char name[P2P_NAME_MAX + 1];
	char address[P2P_ADDRESS_TEXT_MAX]; /* where it can be dialled, or where it came from */
	uint32_t dial_id;		    /* 0: reported, or not dialled by us */
	struct p2p_gossip gossip;
	bool told;  /* our last record was sent */
	bool heard; /* its last record arrived */
	struct p2p_time settle_by;
	int down_code;
	char down_text[P2P_CLOSE_TEXT_MAX];
	int doom; /* not 0: close with this code when no engine is on the stack */
	char doom_text[P2P_CLOSE_TEXT_MAX];
	bool closing; /* that was done */
};

/* session.c */
/* ASKING, ASKED or SETTLING, by the kind of the session; says the first word. */
void p2p_contact_begin(struct p2p_contact *contact);
void p2p_contact_move(struct p2p_contact *contact, enum p2p_contact_state to);
/* Closes it when nothing of crdt/ or transport/ is on the stack above us. */
void p2p_contact_doom(struct p2p_contact *contact, int code, const char *text);
/* What a peer may read of an error: of our own trouble, which may name paths, only its kind. */
const char *p2p_contact_public_text(int code, const char *text);
/* The same; if it is the peer's fault the peer is told. */
void p2p_contact_fail(struct p2p_contact *contact, int code, const char *what);
/* P2P_EBUSY, P2P_ECLOSED, as p2p_transport_send(). */
int p2p_contact_send_message(struct p2p_contact *contact, enum p2p_class cls,
			     enum p2p_message_type type,
			     const ProtobufCMessage *message) P2P_MUST_CHECK;
/* Sends the records that the peer lacks, as much as its queue takes. */
void p2p_contact_push_records(struct p2p_contact *contact);
/* Both are done with records: decides whether the peer is a member, and says Hello. */
void p2p_contact_check_settled(struct p2p_contact *contact);
/* Tells the finder how its dial ended, once. */
void p2p_contact_report_dialled(struct p2p_contact *contact, int status);

/* One whole message. */
void p2p_contact_message(struct p2p_session *session, const uint8_t *data, size_t len);

/* contacts.c */
/* Events of the transport. dial_id: of the finder's, 0 for one who came to us. */
void p2p_contact_up(struct p2p_node *node, struct p2p_session *session, uint32_t dial_id);
void p2p_contact_writable(struct p2p_node *node, struct p2p_session *session);
void p2p_contact_down(struct p2p_node *node, struct p2p_session *session, int code,
		      const char *text);

/* Callbacks of the replica. */
int p2p_contact_send(void *node, p2p_sync_peer peer, enum p2p_class cls, enum p2p_message_type type,
		     const ProtobufCMessage *message) P2P_MUST_CHECK;
void p2p_contact_event(void *node, const struct p2p_sync_event *event);
void p2p_contact_record(void *node, const struct p2p_signed *record);

/* Once in a turn: sends records, closes the doomed and the late, frees the dead. */
void p2p_contacts_run(struct p2p_node *node, struct p2p_time now);
struct p2p_time p2p_contacts_deadline(const struct p2p_node *node);
/* Sessions that are up in any state, and those that replicate. */
size_t p2p_contacts_count(const struct p2p_node *node, bool live_only);
struct p2p_contact *p2p_contact_of(const struct p2p_node *node, const struct p2p_key *key);

#endif
