/* What the files of the sync engine share: sync.c (life, vector, groups to merge), sync_have.c
 * (sessions, vectors told and heard, acks), sync_pull.c (who is asked for what), sync_send.c
 * (serving and pushing), sync_receive.c (parts into the log), sync_staging.c (what of it nobody
 * signed yet), sync_proof.c (forks and proofs). */
#ifndef P2P_CRDT_SYNC_PRIVATE_H
#define P2P_CRDT_SYNC_PRIVATE_H

#include "crdt/sync.h"
#include "proto/limits.h"
#include "proto/list.h"

/* Payload that one Changes message gathers before it is sent. */
#define SYNC_BATCH_BYTES (64 * 1024)
/* What a part costs beside header and data: both sides count alike. */
#define SYNC_PART_BYTES	    64
#define SYNC_PUSH_BYTES	    (64 * 1024) /* greatest changeset that is pushed unasked */
#define SYNC_MOVE_MS	    1000	/* without progress: another source */
#define SYNC_ASK_AGAIN_MS   5000	/* the same one, if there is no other */
#define SYNC_LOOK_MS	    200		/* between two looks at a source that has to wait */
#define SYNC_FORGIVE_MS	    30000	/* of one failure to give a range */
#define SYNC_SLICE_MS	    15000	/* of one source, for what nobody signed yet; doubled */
#define SYNC_AUTHOR_MS	    150		/* the author's own push is waited for */
#define SYNC_DIGEST_MIN_MS  1000
#define SYNC_FULL_MIN_MS    500 /* between two whole vectors to one peer */
#define SYNC_DIGEST_MAX_MS  15000
#define SYNC_CLOCK_RETRY_MS 10000
#define SYNC_PROOFS_RATE    16	/* answers in a second, to one peer */
#define SYNC_COMPARES_RATE  256 /* old heads of one peer looked up in a second */
#define SYNC_PROOF_MS	    10000
#define SYNC_PROOF_AGAIN_MS 3000
#define SYNC_PROOF_HEADERS  4096	/* in one proof; and P2P_HEADER_BYTES_MAX of bytes */
#define SYNC_EVIDENCE_BYTES (64 * 1024) /* of a proof that is passed on */
#define SYNC_EVIDENCE_TOTAL (4 * 1024 * 1024)
#define SYNC_PROOF_COST	    64 /* so many headers count like one answer */
#define SYNC_LIARS_MAX	    64

/* A peer that was asked for a replica. */
struct sync_try {
	p2p_sync_peer peer;
	uint32_t failures; /* one less for every SYNC_FORGIVE_MS since failed_ms */
	uint64_t failed_ms;
	uint64_t until_ms; /* not asked before */
};

/* Several gave what is staged, or it is of an earlier session: nobody can be blamed for it. */
#define SYNC_STAGER_MANY UINT32_MAX

/* One replica that somebody is certified for. */
struct sync_replica {
	struct p2p_id id;
	struct p2p_vv_entry merged; /* own: frozen */
	struct p2p_list change;	    /* in p2p_sync.changes */
	uint64_t changed;	    /* p2p_sync.changed when `merged` was set; 0: not yet */
	uint64_t durable;	    /* of merged: survived a power cut */
	int held;		    /* no more of it: a code; 0: all is well */
	struct p2p_buf evidence;    /* why it is forked: a packed HeaderProof, passed on to all */
	bool wait_signer;	    /* until records change */
	uint64_t clock_retry_ms;    /* a stamp was too far ahead: not asked for before */
	/* receiving */
	bool loaded;		/* what follows is as in the log */
	struct p2p_header last; /* last complete one: no arrays; seq 0: none */
	struct p2p_hash last_hash;
	struct p2p_header current; /* under way: has arrays; seq 0: none */
	struct p2p_hash current_hash;
	uint32_t next_segment;
	uint64_t verified;   /* complete, up to a signed group's end */
	uint64_t unverified; /* bytes after it that nobody signed yet */
	/* What is staged after `verified` is no evidence against anybody until a signed header ends
	 * its chain: it is dropped when it proves wrong, and asked for again. */
	bool proven;	      /* current is signed, and so is all before it */
	p2p_sync_peer stager; /* who gave all that is not proven; 0: there is nothing */
	bool exclusive;	      /* it proved wrong: only the source's parts, until a signed one */
	p2p_sync_peer again;  /* to be asked from the beginning; 0: nobody */
	/* merging */
	struct p2p_sync_group group; /* the next one, when found; last 0: not looked for */
	struct p2p_dot blocked;	     /* what it waits for; seq 0: nothing known */
	/* asking */
	struct p2p_list link; /* in p2p_sync.active, if `active` */
	bool active;	      /* something is to be done: always while there is a source */
	p2p_sync_peer source; /* 0: nobody is asked */
	uint64_t asked_to;
	uint64_t asked_ms, progress_ms, slice_ms, look_ms;
	uint64_t author_ms;	/* not asked for before */
	struct sync_try *tries; /* owned: who was asked in its session */
	size_t try_count, try_cap;
};

/* Both contents of one seq are signed by one node. */
struct sync_fork {
	uint64_t seq;
	struct p2p_hash ours, theirs; /* of the headers */
};

/* A peer asked for this. */
struct sync_want {
	struct p2p_id replica;
	uint64_t seq, to_seq;
	uint32_t segment;
};

struct sync_peer {
	struct p2p_list link;
	p2p_sync_peer handle;
	struct p2p_key node;
	struct p2p_id replica;
	uint64_t wall_ms, wall_at_ms; /* its clock, as told last */
	bool clock_refused, clock_told;
	struct p2p_vv have; /* as told in this session */
	bool have_known;
	struct p2p_vv target; /* its first vector: caught up when that is merged */
	bool caught_up;
	size_t missing;	   /* entries of it that are not merged */
	uint64_t told_to;  /* p2p_sync.changed when it was told of ours */
	uint64_t equal_to; /* p2p_sync.changed when its digest was ours */
	uint64_t full_ms;  /* when it was told all; 0: not yet */
	bool tell_full, ask_full;
	uint64_t tell_ms; /* changes are told then; 0: nothing to tell */
	uint64_t digest_ms, digest_interval_ms;
	int64_t credit;		 /* bytes that may be sent to it; below 0 by one message at most */
	int64_t granted;	 /* bytes that it may still send: likewise */
	uint64_t grant;		 /* bytes that were used up and not granted again */
	uint64_t acked_told;	 /* of its replica: durable here, and told */
	uint64_t ack_ms;	 /* an ack could not be sent: again then; 0: none */
	uint64_t acked_seq;	 /* of the own replica: durable there */
	uint64_t acks_ignored;	 /* duplicates, or of what is not ours */
	uint64_t ack_missed;	 /* own seq that it has and did not acknowledge; 0: none */
	uint64_t pushed;	 /* own seq that is under way to it or there */
	uint64_t bulk;		 /* of these, sent as bulk: what is small would overtake it */
	bool blocked;		 /* its queue is full */
	struct sync_want *wants; /* owned */
	size_t want_count, want_cap, want_next;
	uint32_t proofs;      /* answered or looked at in this second */
	uint32_t evidence;    /* passed on in this second */
	uint32_t compares;    /* of old heads, in this second */
	size_t load;	      /* replicas that it is the source of */
	uint32_t strikes;     /* ranges that it failed to give lately */
	bool unmet;	      /* it told of ids that nobody is certified for */
	struct p2p_dot asked; /* a proof was asked for; seq 0: none */
	uint64_t asked_ms, asked_again_ms;
};

struct p2p_sync {
	struct p2p_sync_config config;
	struct sync_replica **replicas; /* owned, sorted by id */
	size_t replica_count, replica_cap;
	uint64_t unverified;	 /* bytes, of all replicas */
	size_t ready_next;	 /* round robin of merging */
	struct p2p_vv vector;	 /* merged, all replicas */
	uint64_t changed;	 /* counts changes of the vector */
	struct p2p_list changes; /* struct sync_replica, the last changed one at the end */
	struct p2p_hash digest;	 /* of the vector when it had changed so often: */
	uint64_t digest_of;
	struct p2p_list peers;	/* struct sync_peer */
	struct p2p_list active; /* struct sync_replica: what sync_pull looks at */
	size_t peer_count;
	uint64_t now_ms, second_ms;
	struct p2p_key liars[SYNC_LIARS_MAX]; /* zero: none; the oldest makes room */
	size_t liar_next;
	size_t evidence_bytes; /* of all replicas */
	bool look_again; /* the log could not be read when something was looked for to merge */
	struct p2p_buf header, signature, data; /* scratch */
};

/* sync.c */
struct sync_replica *sync_replica_find(const struct p2p_sync *sync, const struct p2p_id *id);
/* Adds it. P2P_ENOMEM, P2P_ETOOBIG. */
int sync_replica_get(struct p2p_sync *sync, const struct p2p_id *id,
		     struct sync_replica **out) P2P_MUST_CHECK;
struct sync_replica *sync_own(const struct p2p_sync *sync);
struct sync_peer *sync_peer_find(const struct p2p_sync *sync, p2p_sync_peer handle);
void sync_event(struct p2p_sync *sync, enum p2p_sync_event_kind kind, p2p_sync_peer peer,
		const struct p2p_id *replica, uint64_t seq, int code, const char *text);
int sync_send(struct p2p_sync *sync, struct sync_peer *peer, enum p2p_class cls,
	      enum p2p_message_type type, const ProtobufCMessage *message) P2P_MUST_CHECK;
/* Something may be mergeable now. */
void sync_tell_ready(struct p2p_sync *sync);
/* Complete, and not merged. */
bool sync_pending(const struct p2p_sync *sync, const struct sync_replica *replica);
/* Highest seq that can be served: own: frozen; others: complete and verified. */
uint64_t sync_servable(struct p2p_sync *sync, const struct p2p_id *id);

/* sync_have.c */
void sync_tell(struct p2p_sync *sync, struct sync_peer *peer);
void sync_tell_later(struct p2p_sync *sync, const struct sync_replica *replica);
void sync_check_caught_up(struct p2p_sync *sync, struct sync_peer *peer);
/* A replica was merged from `before` to `now`, or is not waited for any more. */
void sync_target_reached(struct p2p_sync *sync, struct sync_peer *peer, const struct p2p_id *id,
			 uint64_t before, uint64_t now);
void sync_ack(struct p2p_sync *sync, struct sync_peer *peer);
/* Its clock less ours, as they are at this moment: what is frozen after a jump must not go by what
 * was so before. */
int64_t sync_clock_offset_ms(const struct p2p_sync *sync, const struct sync_peer *peer);
bool sync_clock_refused(const struct p2p_sync *sync, const struct sync_peer *peer);
void sync_check_clock(struct p2p_sync *sync, struct sync_peer *peer);
int sync_take_have(struct p2p_sync *sync, struct sync_peer *peer,
		   const P2p__V1__Have *have) P2P_MUST_CHECK;
int sync_take_ack(struct p2p_sync *sync, struct sync_peer *peer,
		  const P2p__V1__Ack *ack) P2P_MUST_CHECK;
uint64_t sync_have_tick(struct p2p_sync *sync, struct sync_peer *peer);

/* sync_evidence.c: a proof of a fork goes on to everybody, for what depends on a forked replica is
 * merged by those who know, and waits with those who do not. */
void sync_evidence_keep(struct p2p_sync *sync, struct sync_replica *replica,
			const P2p__V1__HeaderProof *proof);
/* Tells one peer of all forks, or all peers of one. */
void sync_evidence_tell(struct p2p_sync *sync, struct sync_peer *peer);
void sync_evidence_tell_all(struct p2p_sync *sync, const struct sync_replica *replica);
/* A proof that nobody asked for. */
int sync_take_evidence(struct p2p_sync *sync, struct sync_peer *peer,
		       const P2p__V1__HeaderProof *proof) P2P_MUST_CHECK;

/* sync_pull.c: asks for what is missing and can be had. */
/* Returns when it is to be called again. */
uint64_t sync_pull(struct p2p_sync *sync);
/* Something is to be done about it: at the next sync_pull(). */
void sync_touch(struct p2p_sync *sync, struct sync_replica *replica);
/* Asks this peer, from the first part that is missing. */
void sync_pull_again(struct p2p_sync *sync, struct sync_replica *replica, struct sync_peer *peer);
void sync_release(struct p2p_sync *sync, struct sync_replica *replica);
/* The peer told of this replica; of all that it told of. */
void sync_offered(struct p2p_sync *sync, struct sync_peer *peer, const struct p2p_id *id);
void sync_offered_all(struct p2p_sync *sync, struct sync_peer *peer);
/* It was asked in this session: NULL if not. */
struct sync_try *sync_try_find(const struct sync_replica *replica, p2p_sync_peer peer);
/* It did not give what it told of. */
void sync_failed(struct p2p_sync *sync, struct sync_replica *replica, struct sync_peer *peer);
void sync_forget_peer(struct p2p_sync *sync, p2p_sync_peer handle);
int sync_take_reject(struct p2p_sync *sync, struct sync_peer *peer,
		     const P2p__V1__Reject *reject) P2P_MUST_CHECK;

/* sync_send.c */
int sync_take_want(struct p2p_sync *sync, struct sync_peer *peer,
		   const P2p__V1__Want *want) P2P_MUST_CHECK;
void sync_serve(struct p2p_sync *sync, struct sync_peer *peer);
/* What was asked for cannot be had here beyond `have`, or no more of it is wanted (P2P_ECANCELED).
 */
void sync_reject(struct p2p_sync *sync, struct sync_peer *peer, const struct p2p_id *id,
		 uint64_t have, int code);
/* It wants nothing more of this replica. */
void sync_want_stop(struct sync_peer *peer, const struct p2p_id *id);
/* Own changesets that were just frozen, at once to whoever has all before them. */
void sync_push(struct p2p_sync *sync, struct sync_peer *peer);

/* sync_receive.c */
int sync_take_changes(struct p2p_sync *sync, struct sync_peer *peer,
		      const P2p__V1__Changes *changes) P2P_MUST_CHECK;
/* A stamp too far in the future. */
bool sync_clock_ahead(const struct p2p_sync *sync, const struct p2p_header *header);
/* It is signed: told, and not asked for again for a while. */
void sync_clock_hold(struct p2p_sync *sync, struct sync_peer *peer, struct sync_replica *replica,
		     uint64_t seq);

/* sync_staging.c */
/* Reads how far the log is; nothing if that is known. */
int sync_load(struct p2p_sync *sync, struct sync_replica *replica) P2P_MUST_CHECK;
/* Forgets it: it is read again. */
void sync_unload(struct p2p_sync *sync, struct sync_replica *replica);
/* Keeps of a header what the next one is checked against. */
void sync_last_set(struct sync_replica *replica, const struct p2p_header *header,
		   const struct p2p_hash *hash);
void sync_unverified_set(struct p2p_sync *sync, struct sync_replica *replica, uint64_t bytes);
/* All of the open group goes: it is not what its author signed, whoever gave it. */
int sync_staging_drop(struct p2p_sync *sync, struct sync_replica *replica) P2P_MUST_CHECK;
/* The same outside of a transaction; from here on one peer gives it. */
int sync_restage(struct p2p_sync *sync, struct sync_replica *replica) P2P_MUST_CHECK;
/* Room for so many unsigned bytes of this replica; others may have to go. */
#define SYNC_NO_ROOM 1
int sync_staging_room(struct p2p_sync *sync, const struct sync_replica *replica,
		      uint64_t bytes) P2P_MUST_CHECK;

/* sync_proof.c */
void sync_ask_proof(struct p2p_sync *sync, struct sync_peer *peer, const struct p2p_id *replica,
		    uint64_t seq);
int sync_take_want_header(struct p2p_sync *sync, struct sync_peer *peer,
			  const P2p__V1__WantHeader *want) P2P_MUST_CHECK;
/* The chain of a proof, and its signature; *out: hash of its first header; *out_ahead: its stamp is
 * in the future. P2P_ENOENT: nobody may sign for the replica. */
int sync_proof_check(struct p2p_sync *sync, const P2p__V1__HeaderProof *proof,
		     const struct p2p_id *id, struct p2p_hash *out, bool *out_ahead) P2P_MUST_CHECK;
/* Hash of a header that we have. P2P_ENOENT. */
int sync_hash_at(struct p2p_sync *sync, const struct p2p_id *id, uint64_t seq,
		 struct p2p_hash *out) P2P_MUST_CHECK;
int sync_take_proof(struct p2p_sync *sync, struct sync_peer *peer,
		    const P2p__V1__HeaderProof *proof) P2P_MUST_CHECK;
/* Compares what a peer says is the head of seq with ours, where both are known. */
void sync_compare_head(struct p2p_sync *sync, struct sync_peer *peer,
		       const struct p2p_vv_entry *entry);
/* A proof that does not come is a lie. Returns when it is to be looked at again. */
uint64_t sync_proof_tick(struct p2p_sync *sync, struct sync_peer *peer);
/* It says that it cannot prove what was asked for: no answer is awaited. */
void sync_proof_refused(const struct p2p_sync *sync, struct sync_peer *peer,
			const struct p2p_id *replica);
/* This node did not prove what it told of our own replica. */
bool sync_liar(const struct p2p_sync *sync, const struct p2p_key *node);
/* Two signed contents of one seq. */
void sync_forked(struct p2p_sync *sync, struct sync_peer *peer, struct sync_replica *replica,
		 const struct sync_fork *fork);

#endif
