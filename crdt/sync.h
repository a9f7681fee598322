/* The sync engine: who lacks what, per peer; pure, with `now` passed in (decisions 39-47).
 *
 * Events in (peer up, message, frozen, merged, tick), actions out through the callbacks. It holds
 * no socket and no file: the log is behind p2p_sync_log, so a simulator can run it over memory.
 *
 * Rules: nothing is assumed sent that was not acked; the sender uses the peer's Have of *this*
 * session and what is in flight on it; the receiver assigns each replica's range to one source and
 * moves it after 1 s without progress, to whoever failed least for it; an own changeset is sent
 * only after the peer's Have was compared; credit bounds what a sender may have under way; a group
 * is handed to merge when prev and all deps are covered. Only signatures are believed: what is
 * staged and not signed yet, and what peers claim, is evidence against nobody, and a peer at fault
 * costs its own session. */
#ifndef P2P_CRDT_SYNC_H
#define P2P_CRDT_SYNC_H

#include "crdt/changeset.h"
#include "crdt/vv.h"
#include "proto/env.h"
#include "proto/log.h"
#include "proto/message.h"

struct p2p_sync;
typedef uint32_t
	p2p_sync_peer; /* handle of one session, given by the owner, never reused while up */

/* The log as the engine sees it. Durable means: survived commit. All return 0 or P2P_E*. */
struct p2p_sync_log {
	void *ctx;
	/* Raw header, signature (len 0: inner one of a group) of (replica, seq); P2P_ENOENT.
	 * Appended to out buffers. */
	int (*header)(void *ctx, const struct p2p_id *replica, uint64_t seq,
		      struct p2p_buf *out_raw, struct p2p_buf *out_signature);
	int (*segment)(void *ctx, const struct p2p_id *replica, uint64_t seq, uint32_t index,
		       struct p2p_buf *out);
	/* Head of what is complete in the log, floor in log_from. */
	int (*head)(void *ctx, const struct p2p_id *replica, struct p2p_vv_entry *out);
	/* First seq and segment that are not stored of the changeset after the complete head:
	 * resume point. */
	int (*resume)(void *ctx, const struct p2p_id *replica, uint64_t *out_seq,
		      uint32_t *out_segment);
	/* Who may sign for replica: P2P_ENOENT unknown (wait for its certificate), P2P_EAUTH no
	 * right. */
	int (*signer)(void *ctx, const struct p2p_id *replica, struct p2p_key *out_node);
	/* Stores a verified header or segment (begin/commit around batches). P2P_EFORK: another
	 * content is there. */
	int (*begin)(void *ctx);
	int (*put_header)(void *ctx, const struct p2p_header *header, const struct p2p_hash *hash,
			  const void *raw, size_t raw_len, const struct p2p_signature *signature);
	int (*put_segment)(void *ctx, const struct p2p_id *replica, uint64_t seq, uint32_t index,
			   const void *data, size_t len);
	int (*commit)(void *ctx);
	void (*rollback)(void *ctx);
	/* Drops replica from seq on: staging that proved bad. */
	int (*drop)(void *ctx, const struct p2p_id *replica, uint64_t from_seq);
};

enum p2p_sync_event_kind {
	P2P_SYNC_CAUGHT_UP, /* once per session: everything that the peer had at its first Have is
			       merged here (R12) */
	P2P_SYNC_ACKED,	    /* the peer has my changes durably up to seq */
	P2P_SYNC_FORK,	    /* two signed contents under (replica, seq): node, ours and theirs name
			       them, nothing more of that replica is taken */
	P2P_SYNC_CLOCK, /* the peer's clock, or a stamp of `replica`, is too far ahead; refused with
			   retry */
	P2P_SYNC_BAD_PEER,   /* it broke the protocol: close its session with `code` */
	P2P_SYNC_SELF_AHEAD, /* the peer proved a header of my replica that I do not have: new
				replica id (decision 20) */
	P2P_SYNC_ANEW,	     /* of the replica: local trouble; end all sessions, then it goes on */
};

struct p2p_sync_event {
	enum p2p_sync_event_kind kind;
	p2p_sync_peer peer;
	struct p2p_id replica;
	uint64_t seq;
	int code;
	struct p2p_key node;	      /* FORK: who signed both; else zero */
	struct p2p_hash ours, theirs; /* FORK: hashes of the two headers; else zero */
	const char *text;	      /* borrowed for the call */
};

/* None of them may call back into the engine: what an event asks for is done after it. */
struct p2p_sync_callbacks {
	void *ctx;
	/* Sends to a session. P2P_EBUSY: its queue is full, the engine goes on at
	 * p2p_sync_writable(). */
	int (*send)(void *ctx, p2p_sync_peer peer, enum p2p_class cls, enum p2p_message_type type,
		    const ProtobufCMessage *message);
	/* Something is complete and may be merged: call p2p_sync_next_ready() when there is time.
	 */
	void (*ready)(void *ctx);
	void (*event)(void *ctx, const struct p2p_sync_event *event);
};

struct p2p_sync_config {
	const struct p2p_env *env;
	const struct p2p_log *log_sink;
	struct p2p_sync_log log;
	struct p2p_sync_callbacks callbacks;
	struct p2p_hash mesh;
	struct p2p_id replica; /* own */
	uint64_t clock_ahead_max_ms;
	/* Bytes of changes that are staged and that nobody signed yet, of all replicas; 0: the
	 * limit P2P_NODE_STAGED_BYTES_MAX. */
	uint64_t staged_max_bytes;
};

int p2p_sync_new(const struct p2p_sync_config *config, struct p2p_sync **out) P2P_MUST_CHECK;
void p2p_sync_free(struct p2p_sync *sync); /* NULL allowed */

/* What is merged into the rows; own entry: what is frozen. At start, and after each change of
 * either. The engine announces, pushes and asks accordingly. */
int p2p_sync_set_merged(struct p2p_sync *sync, const struct p2p_vv_entry *entry) P2P_MUST_CHECK;
/* Room, so that it does not fail for a replica of which there are changesets to merge: to be asked
 * for before they are committed. P2P_ENOMEM, P2P_ETOOBIG. */
int p2p_sync_merged_room(struct p2p_sync *sync, const struct p2p_id *replica) P2P_MUST_CHECK;
/* What of that is durable (acks are given up to here): the WAL was synced. Covers everything set so
 * far. false: an ack could not be sent; a tick says when that is tried again. */
bool p2p_sync_durable(struct p2p_sync *sync);
/* A certificate or other record arrived: what could not be verified is asked for at the next tick.
 */
void p2p_sync_records_changed(struct p2p_sync *sync);

/* Session up after membership was settled and Hellos exchanged. hello: the peer's, borrowed for the
 * call. */
int p2p_sync_peer_up(struct p2p_sync *sync, p2p_sync_peer peer, const struct p2p_key *node,
		     const P2p__V1__Hello *hello) P2P_MUST_CHECK;
void p2p_sync_peer_down(struct p2p_sync *sync, p2p_sync_peer peer);
void p2p_sync_writable(struct p2p_sync *sync, p2p_sync_peer peer);
/* Have, Want, Changes, Ack, Reject, WantHeader, HeaderProof. A negative result is the peer's fault:
 * close it. */
int p2p_sync_receive(struct p2p_sync *sync, p2p_sync_peer peer,
		     const struct p2p_message *message) P2P_MUST_CHECK;
/* Timers; returns the next deadline. */
struct p2p_time p2p_sync_tick(struct p2p_sync *sync, struct p2p_time now);

/* Next atomic group to merge: replica and seqs first..last, all complete and verified in the log,
 * deps covered. False: nothing now. The owner merges it and calls p2p_sync_set_merged() for its
 * last seq, or p2p_sync_hold(). */
struct p2p_sync_group {
	struct p2p_id replica;
	uint64_t first, last;
	uint64_t rows; /* sum of the headers' row counts */
};
bool p2p_sync_next_ready(struct p2p_sync *sync, struct p2p_sync_group *out);
/* Merging it failed for good (malformed body): nothing more of that replica until restart;
 * reported. */
void p2p_sync_hold(struct p2p_sync *sync, const struct p2p_id *replica, int code);

struct p2p_sync_peer_status {
	uint64_t behind;       /* changesets that I have and it lacks */
	uint64_t ahead;	       /* changesets that it has and I lack */
	uint64_t acked_seq;    /* of my replica */
	uint64_t acks_ignored; /* duplicates, or of what this node never made (R11) */
	bool caught_up, clock_refused, have_known;
	int64_t clock_offset_ms;
};
bool p2p_sync_peer_status(const struct p2p_sync *sync, p2p_sync_peer peer,
			  struct p2p_sync_peer_status *out);
/* Live peers that have acknowledged my head and have nothing that is missing here; for `wait`. */
size_t p2p_sync_peers_level(const struct p2p_sync *sync);
/* Some live peer's vector was heard and compared with ours, and its clock fits ours now: own
 * changes may be frozen for it (decisions 42). */
bool p2p_sync_heard(const struct p2p_sync *sync);
/* A peer tells of own changes that we do not have, and its proof is awaited: nothing may be frozen
 * (decisions 20). */
bool p2p_sync_in_question(const struct p2p_sync *sync);
/* Median of own and direct members' clocks as offset to the own clock (decisions 42); 0 with fewer
 * than 2 peers. */
int64_t p2p_sync_clock_offset_ms(const struct p2p_sync *sync);
const struct p2p_vv *p2p_sync_vector(const struct p2p_sync *sync);

#endif
