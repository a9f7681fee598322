/* What node/ uses of this folder: it beacons, listens, keeps the address book, and asks its owner
 * to dial.
 *
 * It knows addresses and nothing else: no sessions, no members, no messages. An address is a claim
 * until its owner's handshake proves it. Everything runs on the loop's thread; callbacks are never
 * made from inside p2p_discovery_start(). No function here may be called after
 * p2p_discovery_stop(). */
#ifndef P2P_DISCOVERY_DISCOVERY_H
#define P2P_DISCOVERY_DISCOVERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "discovery/address.h"
#include "discovery/addrbook.h"
#include "discovery/beacon.h"
#include "proto/env.h"
#include "proto/error.h"
#include "proto/ident.h"
#include "proto/log.h"

struct p2p_discovery;

/* One address to dial now. The owner calls p2p_discovery_dialed(id) exactly once for it, at once
 * from inside the callback or later. */
struct p2p_dial_request {
	uint32_t id;
	struct p2p_address address;
	const char *text; /* borrowed for the call: "host:port" as given, or the address */
	enum p2p_source source;
	uint64_t secret_id; /* of the secret that the beacon was under; 0: the owner's choice */
	const struct p2p_key *key; /* borrowed for the call: who is expected there, or NULL */
};

enum p2p_discovery_event {
	P2P_DISCOVERY_UP,      /* at least one interface beacons (first time, or again) */
	P2P_DISCOVERY_DOWN,    /* none does; seeds go on, interfaces are listed again for ever */
	P2P_DISCOVERY_CHANGED, /* interfaces or addresses of this machine changed */
	P2P_DISCOVERY_CLONE,   /* our node key was heard with another instance id */
};

struct p2p_discovery_callbacks {
	void *ctx;						      /* borrowed until stopped */
	void (*dial)(void *ctx, const struct p2p_dial_request *dial); /* required */
	/* NULL allowed. */
	void (*event)(void *ctx, enum p2p_discovery_event event);
};

struct p2p_discovery_config {
	const struct p2p_env *env; /* borrowed until stopped */
	const struct p2p_log *log; /* borrowed until stopped, or NULL */
	uv_loop_t *loop;	   /* borrowed until stopped */
	struct p2p_discovery_callbacks callbacks;
	struct p2p_key key;	/* our node */
	struct p2p_id instance; /* of this start of our node */
	struct p2p_hash mesh;	/* mesh id: beacons of another mesh do not open */
	uint16_t tcp_port;	/* where we listen; 0: nowhere, so we say nothing but seek */
	const struct p2p_beacon_secret *secrets; /* copied; may change later */
	size_t secrets_count;
	const char *const *seeds; /* HOST:PORT, copied */
	size_t seeds_count;
	const char *const *interfaces; /* copied; none: all that are up */
	size_t interfaces_count;
	bool off;	    /* no UDP at all; seeds and the address book work */
	bool loopback_only; /* no packet leaves this machine */
	uint16_t udp_port;  /* 0: P2P_DISCOVERY_PORT; another one for tests */
};

/* Starts; *out is owned until p2p_discovery_stop(). A network that does not work is an event and is
 * tried again, not an error here. P2P_ENOMEM; P2P_EINVAL with a text for a person (a malformed
 * seed, too many of something); P2P_ENET if the loop cannot take the handles. */
int p2p_discovery_start(struct p2p_discovery **out, const struct p2p_discovery_config *config,
			struct p2p_error *err) P2P_MUST_CHECK;
/* Says goodbye and stops. No other callback comes from now on; stopped(ctx) comes once, from the
 * loop, when the memory is gone. Dials under way are forgotten: nothing to report. */
void p2p_discovery_stop(struct p2p_discovery *discovery, void (*stopped)(void *ctx), void *ctx);

/* Replaces all secrets (a rotation, a ticket made or used up). P2P_EINVAL: over 4 epochs or 64 in
 * all of the others; then as before. */
int p2p_discovery_set_secrets(struct p2p_discovery *discovery,
			      const struct p2p_beacon_secret *secrets, size_t count) P2P_MUST_CHECK;
/* How many members the mesh has: sets the beacon interval. */
void p2p_discovery_set_members(struct p2p_discovery *discovery, size_t count);

/* Adds "HOST:PORT": source SEED, TICKET or CLAIM (claims: numeric addresses only). 0 also when it
 * is known or our own. P2P_EINVAL malformed, P2P_ETOOBIG no room for one more, P2P_ENOMEM. */
int p2p_discovery_add(struct p2p_discovery *discovery, const char *text, enum p2p_source source,
		      const struct p2p_key *key) P2P_MUST_CHECK;

/* How a dial ended. status 0: a session stands. key and instance: who answered, if the handshake
 * went so far, also when status is not 0 (a duplicate, a revoked member); NULL if not. Unknown ids
 * are ignored. */
void p2p_discovery_dialed(struct p2p_discovery *discovery, uint32_t id, int status,
			  const struct p2p_key *key, const struct p2p_id *instance);
/* A session with this node stands (whoever dialled): its other addresses rest until it is down. */
void p2p_discovery_session_up(struct p2p_discovery *discovery, const struct p2p_key *key);
void p2p_discovery_session_down(struct p2p_discovery *discovery, const struct p2p_key *key);

struct p2p_discovery_stats {
	uint64_t sent; /* datagrams, one per interface and family */
	uint64_t send_errors;
	uint64_t received; /* datagrams to our group */
	uint64_t limited;  /* of them dropped unread: too many */
	uint64_t strange;  /* of them not under a secret of ours */
	uint64_t replayed; /* opened, but seen before or older than one seen */
	uint64_t beacons;  /* opened and taken */
	uint64_t dials;
	size_t interfaces; /* that we beacon on */
	size_t addresses;  /* in the book */
};
void p2p_discovery_stats(const struct p2p_discovery *discovery, struct p2p_discovery_stats *out);

#endif
