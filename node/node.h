/* Inside of a node: what the files of this folder share. Not installed.
 *
 * open.c opens and closes, node.c runs the loop; net.c links and listeners; contacts.c all
 * sessions, session.c the life of one; finder.c discovery; invite.c tickets that we give; watch.c
 * commits of other programs; wait.c callers that wait for convergence; control.c the socket for the
 * command line; verbs.c and status.c what it answers. transport/ and discovery/ both have a `struct
 * p2p_secret` and a `struct p2p_dial` of their own, so no file includes both. */
#ifndef P2P_NODE_NODE_H
#define P2P_NODE_NODE_H

#include <stdbool.h>
#include <uv.h>

#include "crdt/replica.h"
#include "node/identity.h"
#include "node/lock.h"
#include "node/mailbox.h"
#include "node/node_env.h"
#include "node/p2pnode.h"
#include "node/ticket.h"
#include "proto/env.h"
#include "proto/limits.h"
#include "proto/list.h"
#include "proto/log.h"

struct p2p_control;
struct p2p_finder;
struct p2p_net;
struct p2p_watch;

struct p2p_strings {
	char **items; /* owned */
	size_t count;
};

/* Where a node is: an OPEN one has no loop; a STOPPING one says goodbye and closes its parts. */
enum p2p_phase { P2P_PHASE_OPEN, P2P_PHASE_RUNNING, P2P_PHASE_DRAINING, P2P_PHASE_CLOSING };

/* How far a join is. REFUSED: for good. COPYING: admitted, the first full copy is on its way. */
enum p2p_join { P2P_JOIN_NONE, P2P_JOIN_ASKING, P2P_JOIN_COPYING, P2P_JOIN_REFUSED };

/* What went wrong last with a peer or an address. */
struct p2p_note {
	struct p2p_key node; /* zero: nobody is known there */
	char address[P2P_ADDRESS_TEXT_MAX];
	int code;
	char text[160];
};

struct p2p_node {
	char *db_path, *state_dir, *name; /* owned; db_path is the real path */
	struct p2p_strings listen, seeds, interfaces;
	struct p2p_strings refs; /* options.refs */
	bool no_discovery, offline;
	bool join_merges; /* options.merge */
	bool replicate_schema;
	uint32_t apply_interval_ms;
	void *ctx;
	void (*on_event)(void *ctx, const p2p_node_event *event);
	void (*on_log)(void *ctx, int level, const char *group, const char *text);
	uv_loop_t *host_loop; /* borrowed, or NULL */

	struct p2p_env env;
	struct p2p_log log;
	struct p2p_lock lock;
	int state_fd;
	struct p2p_keys keys;
	struct p2p_signer signer;
	struct p2p_id instance;
	uint8_t mesh_secret[P2P_KEY_BYTES];
	bool has_secret;
	struct p2p_replica *replica;
	bool switched; /* the file was switched to WAL at open */
	enum p2p_join join;
	struct p2p_ticket ticket; /* while join is not NONE */
	uint64_t join_rows, join_changesets;
	bool join_whole; /* the copy is, but it was not durable yet: tried again at join_again */
	struct p2p_time join_again;
	struct p2p_invite invites[P2P_INVITE_KEYS_MAX]; /* open and lately expired ones */
	size_t invite_count;

	enum p2p_phase phase;
	struct p2p_mailbox mailbox;
	bool mailbox_ready;
	uv_loop_t own_loop;
	uv_thread_t thread;
	bool has_thread;
	uv_loop_t *loop;
	uv_timer_t timer;
	uv_prepare_t prepare;
	uv_idle_t idle;
	bool idling;
	unsigned int pending; /* parts that have not closed yet */
	struct p2p_time drain_end;
	struct p2p_time replica_next; /* when the replica wants its next slice */

	struct p2p_watch *watch;
	struct p2p_net *net;
	struct p2p_finder *finder;
	struct p2p_control *control;
	struct p2p_list contacts;    /* struct p2p_contact */
	struct p2p_contact *speaker; /* whose records are being taken in */
	uint32_t next_contact;
	struct p2p_list waits; /* struct p2p_wait */
	struct p2p_note notes[P2P_NOTES_MAX];
	size_t note_count, note_next;
	char last_trouble[200];
	struct p2p_buf pack; /* one outgoing message */
};

/* open.c */
/* As p2p_node_open(); offline: for one verb of the command line, without a sync engine; then the
 * state directory must exist already (P2P_ENOENT: in no mesh). */
int p2p_node_open_as(const char *db_path, const p2p_node_options *options, bool offline,
		     p2p_node **out, struct p2p_error *err) P2P_MUST_CHECK;
/* Where the state of a database is unless told otherwise: where it was last, or DB-p2p. Owned by
 * the caller; NULL when out of memory. */
char *p2p_node_state_dir(const char *db_path);

/* node.c */
/* Whether the caller is on the thread that the node made. */
bool p2p_node_inside(struct p2p_node *node);
/* The text of err, or of rc if it has none, into an embedder's buffer. */
void p2p_node_copy_error(char *error, size_t size, const struct p2p_error *err, int rc);
/* Runs run(ctx) where the node lives, and waits for it. P2P_ESTATE: it is just stopping. */
int p2p_node_call(p2p_node *node, void (*run)(void *ctx), void *ctx) P2P_MUST_CHECK;
/* The replica has work: a slice as soon as the sockets were served. */
void p2p_node_kick(struct p2p_node *node);
/* Looks at the journal now. */
void p2p_node_poll(struct p2p_node *node);
bool p2p_node_running(const struct p2p_node *node);
/* A part has closed. */
void p2p_node_part_closed(void *node);
/* Whether we can speak as a member: admitted, and the mesh secret is here. */
bool p2p_node_admitted(const struct p2p_node *node);
const struct p2p_hash *p2p_node_mesh(const struct p2p_node *node);

/* event.c */
void p2p_node_emit(struct p2p_node *node, enum p2p_node_event_type type, int code,
		   const struct p2p_key *peer, const char *fmt, ...) P2P_PRINTF(5, 6);
/* With numbers, for MERGED, JOINED and PROGRESS. */
void p2p_node_emit_rows(struct p2p_node *node, enum p2p_node_event_type type, uint64_t rows,
			uint64_t percent);
/* TROUBLE, once for each different text. */
void p2p_node_trouble(struct p2p_node *node, int code, const char *fmt, ...) P2P_PRINTF(3, 4);
/* Remembers why a peer or an address does not work; code 0 forgets. key may be NULL. */
void p2p_node_note(struct p2p_node *node, const struct p2p_key *key, const char *address, int code,
		   const char *text);
const struct p2p_note *p2p_node_note_of(const struct p2p_node *node, const struct p2p_key *key);

/* net.c */
int p2p_net_open(struct p2p_node *node, struct p2p_error *err) P2P_MUST_CHECK;
/* Says goodbye to all; p2p_net_drained() when nothing is left of them. */
void p2p_net_stop(struct p2p_net *net);
bool p2p_net_drained(const struct p2p_net *net);
/* Then p2p_node_part_closed(). */
void p2p_net_close(struct p2p_net *net);
struct p2p_time p2p_net_tick(struct p2p_net *net, struct p2p_time now);
struct p2p_time p2p_net_deadline(const struct p2p_net *net);
/* Dials one address; its end goes to p2p_finder_dialed() with this id, exactly once. key: who is
 * expected, or NULL. Copies everything. */
void p2p_net_dial(struct p2p_node *node, uint32_t id, const struct sockaddr *address,
		  const char *text, const struct p2p_key *key);
size_t p2p_net_listener_count(const struct p2p_net *net);
/* out: 64 bytes. */
void p2p_net_listener_text(const struct p2p_net *net, size_t index, char out[64]);
uint16_t p2p_net_port(const struct p2p_net *net); /* of the first listener */
bool p2p_net_loopback_only(const struct p2p_net *net);
/* Addresses under which others may reach us, at most max. */
size_t p2p_net_addresses(const struct p2p_net *net, struct p2p_ticket_address *out, size_t max);
/* Reads "ADDR:PORT" or "[ADDR]:PORT", numeric. P2P_EINVAL with a text. */
int p2p_net_parse(const char *text, struct sockaddr_storage *out,
		  struct p2p_error *err) P2P_MUST_CHECK;

/* finder.c */
int p2p_finder_open(struct p2p_node *node, struct p2p_error *err) P2P_MUST_CHECK;
void p2p_finder_close(struct p2p_finder *finder); /* then p2p_node_part_closed() */
/* All NULL-safe: a node may be without. */
void p2p_finder_dialed(struct p2p_finder *finder, uint32_t id, int status,
		       const struct p2p_key *key, const struct p2p_id *instance);
void p2p_finder_up(struct p2p_finder *finder, const struct p2p_key *key);
void p2p_finder_down(struct p2p_finder *finder, const struct p2p_key *key);
void p2p_finder_claim(struct p2p_finder *finder, const char *address, const struct p2p_key *key);
/* Secrets or the number of members changed. */
void p2p_finder_refresh(struct p2p_finder *finder);

/* invite.c */
/* Loads open invites; after open and after each change. */
int p2p_invites_load(struct p2p_node *node) P2P_MUST_CHECK;
struct p2p_invite_request {
	uint32_t uses;
	uint64_t expires_ms; /* from now */
	uint32_t role;	     /* enum P2p__V1__Role */
	bool no_addresses;
};
/* Makes an invite and its ticket; text: P2P_TICKET_TEXT_MAX bytes. */
int p2p_invite_make(struct p2p_node *node, const struct p2p_invite_request *request, char *text,
		    struct p2p_error *err) P2P_MUST_CHECK;
/* Short name of an invite's secret towards the transport. */
uint64_t p2p_invite_handle(const struct p2p_invite *invite);
/* Admits a joiner, or says why not: P2P_EEXPIRED, P2P_EQUOTA (used up), P2P_EREFUSED, P2P_EPROTO,
 * or an error of our own. The use is counted durably before the admission exists. */
int p2p_invite_redeem(struct p2p_node *node, uint64_t handle, const struct p2p_key *joiner,
		      const struct p2p_key *noise, const P2p__V1__JoinRequest *request,
		      struct p2p_error *err) P2P_MUST_CHECK;
/* "admin", "writer", "reader"; "none". */
const char *p2p_role_name(uint32_t role);
/* P2P_EINVAL: no such role, P2P_EREFUSED: not yet. */
int p2p_role_parse(const char *text, uint32_t *out, struct p2p_error *err) P2P_MUST_CHECK;

/* watch.c */
int p2p_watch_open(struct p2p_node *node, struct p2p_error *err) P2P_MUST_CHECK;
void p2p_watch_close(struct p2p_watch *watch); /* then p2p_node_part_closed() */
/* Re-checks that are due; true when another connection has committed. */
bool p2p_watch_run(struct p2p_watch *watch, struct p2p_time now);
struct p2p_time p2p_watch_deadline(const struct p2p_watch *watch);
/* The last look met local trouble: the next one is not before. */
void p2p_watch_again(struct p2p_watch *watch, uint64_t ms);

/* wait.c */
struct p2p_wait {
	struct p2p_list link;
	size_t peers; /* 0: all that are connected, at least 1 */
	struct p2p_vv need;
	bool has_need;
	struct p2p_time deadline;
	void *ctx;
	/* Once: 0, P2P_ETIMEOUT with what is missing, or P2P_ECANCELED. Removed from the list
	 * before. */
	void (*done)(struct p2p_wait *wait, int code, const char *text);
};
void p2p_wait_add(struct p2p_node *node, struct p2p_wait *wait, uint32_t timeout_ms);
void p2p_wait_remove(struct p2p_wait *wait); /* no callback */
void p2p_wait_check(struct p2p_node *node, struct p2p_time now);
struct p2p_time p2p_wait_deadline(const struct p2p_node *node, struct p2p_time now);
void p2p_wait_cancel_all(struct p2p_node *node);

/* control.c */
int p2p_control_open(struct p2p_node *node, struct p2p_error *err) P2P_MUST_CHECK;
void p2p_control_close(struct p2p_control *control); /* then p2p_node_part_closed() */

/* Text lists. P2P_ENOMEM. */
int p2p_strings_copy(struct p2p_strings *out, const char *const *items,
		     size_t count) P2P_MUST_CHECK;
void p2p_strings_deinit(struct p2p_strings *strings);
/* Text of a key: 64 digits. */
struct p2p_key_text {
	char text[2 * P2P_KEY_BYTES + 1];
};
struct p2p_key_text p2p_key_text(const struct p2p_key *key);
/* Control characters become '?': what a peer says must not drive a terminal. */
void p2p_text_clean(char *text);
bool p2p_key_is_zero(const struct p2p_key *key);

#endif
