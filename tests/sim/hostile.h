/* A hostile member: it was admitted and signs validly, but lies. Inside of hostile*.c.
 *
 * One host joins as an ordinary node. Then its node is closed, and a puppet takes its place: the
 * same keys and production sessions, and above them this code. hostile.c is its life and its
 * sessions, hostile_make.c and hostile_absurd.c what it signs, hostile_acts.c what it does to
 * others.
 *
 * What it signs has one fate for each replica id, so that it is known what honest nodes must do
 * with it. */
#ifndef P2P_TESTS_SIM_HOSTILE_H
#define P2P_TESTS_SIM_HOSTILE_H

#include "crdt/authority.h"
#include "crdt/changeset.h"
#include "crdt/record.h"
#include "crdt/store.h"
#include "crdt/vv.h"
#include "node/records.h"
#include "tests/sim/sim.h"
#include "transport/transport.h"

#define HOSTILE_CHAINS_MAX	6 /* one of each fate */
#define HOSTILE_CHANGES_MAX	1024
#define HOSTILE_TEMPLATES_MAX	96
#define HOSTILE_TABLES_MAX	24
#define HOSTILE_SHEETS		8
#define HOSTILE_ROWS_MAX	128
#define HOSTILE_CONSTRAINTS_MAX 32

enum hostile_fate {
	HOSTILE_ODD,	   /* valid, though extreme: merged by all */
	HOSTILE_MALFORMED, /* valid, then nonsense: merged up to there */
	HOSTILE_FORKED,	   /* two histories from fork_seq on */
	HOSTILE_WITHHELD,  /* one whose end nobody gets */
	HOSTILE_BROKEN,	   /* one that depends on what nobody has */
	HOSTILE_AHEAD,	   /* one that is stamped more than 5 min ahead */
	HOSTILE_FATES,
};

/* A changeset of its own or of others, as it goes over the wire. */
struct hostile_change {
	struct p2p_id replica;
	uint64_t seq, stamp;
	unsigned int branch; /* of a fork: 1 or 2; 0: all get it */
	struct p2p_hash hash;
	uint8_t *raw, *body; /* owned */
	size_t raw_len, body_len;
	bool has_signature, withheld;
	struct p2p_signature signature;
};

struct hostile_head {
	uint64_t seq, stamp;
	struct p2p_hash hash;
};

struct hostile_chain {
	struct p2p_id id;
	enum hostile_fate fate;
	uint64_t fork_seq;	     /* 0: it has not forked (yet) */
	struct hostile_head head[2]; /* of the two branches; the same before the fork */
	unsigned int made, spoil_at; /* changesets made here; the one that decides its fate */
};

/* A record of somebody, to be changed. */
struct hostile_template {
	size_t table;  /* in tables */
	uint8_t *data; /* owned */
	size_t len;
};

/* A row of a table of property/sheet.h that somebody wrote. */
struct hostile_row {
	uint32_t table; /* of the sheet */
	uint64_t causal_length;
	size_t len;
	uint8_t key[128]; /* p2p_identity_put() */
};

struct hostile_session {
	struct hostile *hostile;
	struct p2p_session *session; /* NULL: none */
	size_t victim;
	struct p2p_gossip gossip;
	bool told, heard, live;
	uint64_t paused_until_ms, ask_ms;
	struct p2p_vv have; /* as it told */
};

struct hostile {
	struct sim *sim;
	struct sim_host *host;
	struct p2p_env env;
	struct p2p_self self;
	struct p2p_signer signer;
	struct p2p_hash mesh;
	uint8_t secret[P2P_KEY_BYTES];
	struct p2p_key keys[SIM_HOSTS_MAX]; /* of the others */
	uint64_t random;
	struct p2p_authority *authority;
	struct p2p_transport *transport;
	struct p2p_tcp *tcp;
	struct hostile_session sessions[SIM_HOSTS_MAX];
	struct hostile_chain chains[HOSTILE_CHAINS_MAX];
	size_t chain_count;
	struct hostile_change changes[HOSTILE_CHANGES_MAX];
	size_t change_count;
	struct hostile_template templates[HOSTILE_TEMPLATES_MAX];
	size_t template_count;
	struct p2p_schema_ref tables[HOSTILE_TABLES_MAX];
	size_t table_count;
	/* with --constraints */
	size_t sheets[HOSTILE_SHEETS]; /* in tables */
	struct hostile_row rows[HOSTILE_ROWS_MAX];
	size_t row_next;
	struct p2p_id constraints[HOSTILE_CONSTRAINTS_MAX];
	size_t constraint_count;
	unsigned int absurd_left; /* records */
	unsigned int budget, make_left, junk;
	bool still; /* it lies on, but makes nothing new */
	bool dialling[SIM_HOSTS_MAX];
	char name[9]; /* of its node, as events say it */
};

/* hostile.c */
uint64_t hostile_draw(struct hostile *hostile, uint64_t below);
void hostile_bytes(struct hostile *hostile, void *out, size_t len);
/* Lost when the queue is full. */
void hostile_say(struct hostile_session *session, enum p2p_message_type type,
		 const ProtobufCMessage *message);
void hostile_close(struct hostile_session *session, bool in_order);

/* hostile_make.c */
/* Takes over what the node had: keys and heads, changesets, records to be changed. */
void hostile_learn(struct hostile *hostile, struct p2p_node *node);
void hostile_make_deinit(struct hostile *hostile);
/* Certificates for replica ids of its own. */
void hostile_certify(struct hostile *hostile);
/* The next changeset of a chain, by its fate. NULL: there is no room. */
const struct hostile_change *hostile_make(struct hostile *hostile, struct hostile_chain *chain);
/* What this victim is shown under that number. NULL: nothing is there. */
const struct hostile_change *hostile_find(const struct hostile *hostile,
					  const struct p2p_id *replica, uint64_t seq,
					  unsigned int branch);
unsigned int hostile_branch(const struct hostile_session *session);
/* Keeps a changeset of others. */
void hostile_keep(struct hostile *hostile, const P2p__V1__Part *part);
/* A header of any replica, signed by the puppet, that follows nothing. Freed with
 * hostile_change_deinit(). */
void hostile_forge(struct hostile *hostile, const struct p2p_id *replica, uint64_t seq,
		   struct hostile_change *out);
void hostile_change_deinit(struct hostile_change *change);
/* Index of a table in what it knows; SIZE_MAX: there is no room. */
size_t hostile_table_note(struct hostile *hostile, const struct p2p_schema_ref *ref);

/* hostile_absurd.c, with --constraints */
void hostile_absurd_learn(struct hostile *hostile, struct p2p_store *store);
/* Somebody wrote this. */
void hostile_absurd_row(struct hostile *hostile, const struct p2p_id *table,
			const struct p2p_record *record);
/* Appends records. */
void hostile_absurd(struct hostile *hostile, struct p2p_buf *body);

/* hostile_acts.c */
void hostile_act(struct hostile_session *session);
/* Everything that it has, as it is. */
void hostile_announce(struct hostile_session *session);
void hostile_push(struct hostile_session *session, const struct hostile_change *change);
void hostile_serve(struct hostile_session *session, const P2p__V1__Want *want);

#endif
