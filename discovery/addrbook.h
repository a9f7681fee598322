/* The one bounded address book: seeds, tickets, beacons and what peers tell all end here, and here
 * is decided whom to dial when. Time and randomness are passed in; nothing is dialled here.
 *
 * An address is a claim until a handshake there succeeded. Pinned ones (seeds, tickets) are kept
 * for ever and tried for ever, with backoff; others make room for one another, the least useful
 * first. */
#ifndef P2P_DISCOVERY_ADDRBOOK_H
#define P2P_DISCOVERY_ADDRBOOK_H

#include "discovery/address.h"
#include "discovery/bucket.h"
#include "proto/env.h"
#include "proto/ident.h"

/* Where an address came from. */
enum p2p_source {
	P2P_SOURCE_SEED,   /* named by a person; kept for ever, probed for ever */
	P2P_SOURCE_TICKET, /* in a ticket; kept for ever too */
	P2P_SOURCE_BEACON, /* heard on the link: the host is the datagram's own */
	P2P_SOURCE_ANSWER, /* answer of a ticket's issuer to our seeking */
	P2P_SOURCE_CLAIM,  /* told by a peer, or an extra address in a beacon */
};

struct p2p_addrbook_entry {
	uint32_t id; /* 0: a free place */
	struct p2p_address address;
	char text[P2P_SEED_TEXT_MAX]; /* as a person gave it; empty: the address */
	enum p2p_source source;
	struct p2p_key key;
	bool has_key;
	uint64_t secret_id;
	bool proven;  /* a handshake succeeded there */
	bool dialing; /* the owner has not reported yet */
	bool own;     /* we answered ourselves */
	bool live;    /* a session with that key stands */
	unsigned int failures;
	int last_status;
	uint64_t next_ms;  /* not dialled before */
	uint64_t heard_ms; /* 0: never */
};

struct p2p_addrbook {
	struct p2p_addrbook_entry *entries; /* owned: P2P_ADDRESSES_MAX */
	uint32_t last_id;
	size_t dialing, unproven_dialing;
	struct p2p_bucket rate;
};

int p2p_addrbook_init(struct p2p_addrbook *book, struct p2p_time now) P2P_MUST_CHECK;
void p2p_addrbook_deinit(struct p2p_addrbook *book);

struct p2p_addrbook_claim {
	struct p2p_address address;
	const char *text; /* NULL: the address */
	enum p2p_source source;
	const struct p2p_key *key; /* NULL: unknown */
	uint64_t secret_id;
	bool heard; /* just now, from itself */
};
/* Adds or refreshes. A restarted or newly heard node is dialled at once. P2P_ETOOBIG: no room for
 * one of its kind; P2P_EINVAL: cannot be dialled. */
int p2p_addrbook_put(struct p2p_addrbook *book, struct p2p_time now,
		     const struct p2p_addrbook_claim *claim) P2P_MUST_CHECK;
/* Next one to dial now, marked as such; NULL: none. Borrowed until the next call of the book. */
const struct p2p_addrbook_entry *p2p_addrbook_next(struct p2p_addrbook *book, struct p2p_time now);
/* When to ask again at the latest; UINT64_MAX: never by itself. */
struct p2p_time p2p_addrbook_deadline(const struct p2p_addrbook *book, struct p2p_time now);
/* A dial ended. duplicate: there is a session with that key already. own: it was ourselves.
 * random: for the jitter of the backoff. */
struct p2p_addrbook_outcome {
	int status; /* 0: a session stands */
	bool duplicate, own;
	const struct p2p_key *key; /* who answered; NULL */
	uint32_t random;
};
void p2p_addrbook_dialed(struct p2p_addrbook *book, struct p2p_time now, uint32_t id,
			 const struct p2p_addrbook_outcome *outcome);
/* While a session with a node stands its addresses rest. down: they are dialled soon. */
void p2p_addrbook_session(struct p2p_addrbook *book, struct p2p_time now, const struct p2p_key *key,
			  bool up, uint32_t random);

#endif
