/* Sync engines over logs in memory, and a network between them that delivers, loses, cuts and holds
 * back, in virtual time: what happens is a function of the seed.
 *
 * Messages are packed and unpacked as on a wire. Within a session they keep their order, as on one
 * TCP connection; between sessions chance decides. A node without an engine is a puppet: the test
 * speaks for it. After each merge the rules that must always hold are checked: no hole, no double
 * merge, deps first, every byte as its author signed it; a broken one aborts with a text. */
#ifndef P2P_TESTS_SUPPORT_SYNCNET_H
#define P2P_TESTS_SUPPORT_SYNCNET_H

#include "tests/support/memlog.h"

#define SYNCNET_NODES_MAX 64

struct syncnet;

struct syncnet_message {
	struct syncnet_message *next;
	uint64_t due_ms;
	enum p2p_class cls;
	enum p2p_message_type type;
	uint8_t *data; /* owned: as on the wire */
	size_t len;
};

/* One direction of a session. */
struct syncnet_link {
	bool up, full;	      /* full: its sender was told P2P_EBUSY */
	bool stuck;	      /* nothing can be sent, not even acks */
	bool no_memory;	      /* the same, and nobody tells when there is some again */
	p2p_sync_peer handle; /* of `to` at `from` */
	struct syncnet_message *head, **tail;
	size_t queued;
	uint64_t sent, parts, payload_bytes; /* counted, in this session */
	uint64_t types[P2P_MSG_EPHEMERAL + 1];
	uint64_t again_ms; /* the session is made again then; 0: it is not */
	int closed;	   /* `from` closed it for this */
};

struct syncnet_node {
	struct syncnet *net;
	size_t index;
	bool puppet;
	struct p2p_env env;
	int64_t skew_ms;
	struct memlog_author author;
	struct memlog log;
	struct p2p_sync *sync;	/* NULL: a puppet, or stopped */
	struct p2p_vv merged;	/* as its rows have it: survives the engine */
	struct p2p_time next;	/* tick again */
	uint64_t durable_due;	/* 0: nothing to sync */
	bool ready, no_merge;	/* no_merge: merging waits */
	uint64_t merges, ticks; /* counted */
	uint64_t events[P2P_SYNC_ANEW + 1];
	struct p2p_sync_event last[P2P_SYNC_SELF_AHEAD + 1]; /* without text */
	struct p2p_vv forked;			     /* replicas that it takes nothing more of */
	uint64_t author_echoes;			     /* parts of its own replica that came to it */
	struct syncnet_message *inbox, **inbox_tail; /* of a puppet */
	uint32_t salt;
};

struct syncnet {
	struct syncnet_node nodes[SYNCNET_NODES_MAX];
	size_t count;
	struct syncnet_link links[SYNCNET_NODES_MAX][SYNCNET_NODES_MAX]; /* from, to */
	struct p2p_hash mesh;
	uint64_t now_ms, random;
	uint64_t delay_ms, jitter_ms; /* of each message: delay to delay + jitter */
	size_t queue_max;	      /* small and bulk messages under way in one direction */
	uint64_t durable_ms;	      /* from merge to durable */
	uint64_t staged_max_bytes;    /* of each engine that starts; 0: the product's */
	uint64_t again_ms; /* a session that ended is made again after so long; 0: never */
	uint64_t messages; /* sent, all sessions */
	uint64_t lose_at;  /* the message of this number is lost; 0: none */
	uint64_t cut_at;   /* its session ends at this one; 0: none */
	uint64_t closed;   /* sessions that an engine closed for the other's fault */
	uint64_t blamed;   /* sessions of two engines that one closed for the other's fault */
	p2p_sync_peer handles;
	const char *verbose;
};

void syncnet_init(struct syncnet *net, uint64_t seed);
void syncnet_deinit(struct syncnet *net);
uint64_t syncnet_random(struct syncnet *net, uint64_t below);
/* One more node with an engine, certified everywhere; a puppet has keys only. Returns its index. */
size_t syncnet_add(struct syncnet *net);
size_t syncnet_add_puppet(struct syncnet *net);
/* Stops an engine as a kill does, and makes it anew over its log and its rows. */
void syncnet_stop(struct syncnet *net, size_t node);
void syncnet_start(struct syncnet *net, size_t node);
void syncnet_connect(struct syncnet *net, size_t a, size_t b);
void syncnet_disconnect(struct syncnet *net, size_t a, size_t b);
void syncnet_connect_all(struct syncnet *net);
/* A group of own changesets, frozen and told to the engine. */
void syncnet_write(struct syncnet *net, size_t node, size_t changesets, size_t bytes);
/* Works for so long in virtual time. */
void syncnet_run(struct syncnet *net, uint64_t ms);
/* Until all engines have the same vector and every peer is level with every other: true; false
 * after limit_ms. */
bool syncnet_settle(struct syncnet *net, uint64_t limit_ms);
bool syncnet_level(const struct syncnet *net);
/* What `node` merged of the replica of `of`. */
uint64_t syncnet_merged(const struct syncnet *net, size_t node, size_t of);
struct p2p_sync_peer_status syncnet_status(const struct syncnet *net, size_t node, size_t peer);

/* --- puppets ---------------------------------------------------------------------------------- */

/* From a puppet, by its session. */
void syncnet_say(struct syncnet *net, size_t from, size_t to, enum p2p_message_type type,
		 const ProtobufCMessage *message);
/* A full Have of one entry, or of none (seq 0). head NULL: zero bytes. */
void syncnet_say_have(struct syncnet *net, size_t from, size_t to, const struct p2p_id *replica,
		      uint64_t seq, const struct p2p_hash *head);
/* Segments first..last of a changeset in one message. */
void syncnet_say_change(struct syncnet *net, size_t from, size_t to,
			const struct memlog_change *change, uint32_t first, uint32_t last);
/* The next message that came to a puppet, unpacked: false when there is none. Free it with
 * p2p_message_deinit(). */
bool syncnet_heard(struct syncnet *net, size_t puppet, struct p2p_message *out);
/* Drops what came so far; how many were of this type. */
uint64_t syncnet_heard_count(struct syncnet *net, size_t puppet, enum p2p_message_type type);

#endif
