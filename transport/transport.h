/* The sessions of one node in one mesh: takes links, authenticates what is behind them, keeps at
 * most one session for each peer, and moves messages. Bytes, not changes; no sockets, no clock.
 *
 * All calls come from one thread. Callbacks are made only from inside the calls and link events of
 * this transport, never nested in one another, and any function here may be called from inside
 * one, p2p_transport_free() excepted. A session is valid from its session_up until its
 * session_down returned, whoever closed it; nothing is freed under a caller's feet. */
#ifndef P2P_TRANSPORT_TRANSPORT_H
#define P2P_TRANSPORT_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/env.h"
#include "proto/error.h"
#include "proto/ident.h"
#include "proto/log.h"
#include "proto/message.h"
#include "transport/handshake.h"
#include "transport/link.h"

struct p2p_transport;
struct p2p_session;

/* About one session; also about a link that never became one (then peer is zeroed). */
struct p2p_session_info {
	struct p2p_peer peer;
	const char *address; /* of the other side, as given; borrowed */
	bool dialled;	     /* by us */
	void *cookie;	     /* as given to p2p_transport_dial(), else NULL */
};

struct p2p_session_stats {
	uint64_t sent_bytes, received_bytes;	   /* on the link, all frames */
	uint64_t sent_messages, received_messages; /* whole messages of the user */
	uint64_t queued_bytes;			   /* waiting to be sent */
	uint32_t rtt_ms;			   /* smoothed; 0 until the first answer */
	struct p2p_time up_since;
	struct p2p_time heard_at; /* last frame of the peer */
};

struct p2p_transport_events {
	/* A peer is authenticated and no other session with it is alive. Messages follow. */
	void (*session_up)(void *ctx, struct p2p_session *session,
			   const struct p2p_session_info *info);
	/* One whole message, 1 to P2P_MESSAGE_MAX bytes, borrowed for the call. */
	void (*message)(void *ctx, struct p2p_session *session, enum p2p_class cls,
			const uint8_t *data, size_t len);
	/* After P2P_EBUSY: there is room again, at least half of each queue. */
	void (*writable)(void *ctx, struct p2p_session *session);
	/* Exactly once for each session_up, the last of a session. code: 0 (closed in order by
	 * either side), P2P_EDUPLICATE (replaced by a newer session, whose session_up follows, or
	 * given up for an older one), P2P_ECLONE (the peer found that our key runs twice, and the
	 * other one was first), or what went wrong; text for people, borrowed. Unsent messages are
	 * gone. */
	void (*session_down)(void *ctx, struct p2p_session *session, int code, const char *text);
	/* A link that ended before it was a session; once for each link that had no session_up.
	 * P2P_EDUPLICATE: an older session with this peer (or with another process under its key)
	 * is alive, or we met ourselves; P2P_ECLONE: as above. NULL allowed. info is borrowed. */
	void (*failed)(void *ctx, const struct p2p_session_info *info, int code, const char *text);
};

struct p2p_transport_config {
	const struct p2p_env *env;		   /* borrowed for the life of the transport */
	const struct p2p_log *log;		   /* likewise; NULL allowed */
	const struct p2p_transport_events *events; /* likewise */
	void *ctx;				   /* for events and secrets */
	const struct p2p_self *identity;	   /* copied */
	struct p2p_hash mesh;
	const uint32_t *versions; /* copied; NULL: P2P_MESSAGE_VERSION alone */
	size_t version_count;
	const char *software; /* copied; at most P2P_SOFTWARE_MAX bytes */
	/* The secrets under which others may come in; see struct p2p_handshake_config. */
	size_t (*secrets)(void *ctx, enum p2p_kind kind, struct p2p_secret *out, size_t max);
	/* 0: the values of proto/limits.h; adjustable for people and tests. */
	uint32_t keepalive_ms, dead_ms, handshake_ms;
};

/* P2P_ENOMEM, P2P_EINVAL (a bad list of versions or name of software). */
int p2p_transport_new(const struct p2p_transport_config *config,
		      struct p2p_transport **out_transport) P2P_MUST_CHECK;
/* Closes every link, with session_down and failed (P2P_ECANCELED) for each. Not from a callback. */
void p2p_transport_free(struct p2p_transport *transport); /* NULL allowed */
/* Closes every session in order: what was queued goes out first, within P2P_CLOSE_DRAIN_MS, then
 * session_down with code 0 comes. New links are refused. The node frees the transport when
 * p2p_transport_count() is 0, or when it does not want to wait any longer. */
void p2p_transport_stop(struct p2p_transport *transport, const char *text);

/* A link that somebody opened to us. Taken in any case: a refused one is closed, with `failed`
 * (without it only if memory ran out).
 * address: for people; up to its last colon it says who counts as one address for the limits. */
void p2p_transport_accept(struct p2p_transport *transport, struct p2p_link *link,
			  const char *address);

struct p2p_dial {
	const char *address;		 /* for people; copied */
	const struct p2p_secret *secret; /* copied */
	const struct p2p_key *expected;	 /* the peer's node key if known, else NULL; copied */
	void *cookie;			 /* given back in struct p2p_session_info */
};

/* A link that we opened. Taken in any case. Without memory `failed` comes before this returns, so
 * not from inside a callback. */
void p2p_transport_dial(struct p2p_transport *transport, struct p2p_link *link,
			const struct p2p_dial *dial);

/* Drives all timers. Call at the returned time or earlier, and after any other call that returned
 * (deadlines only come nearer by what the calls below and link events do: ask
 * p2p_transport_deadline()). */
struct p2p_time p2p_transport_tick(struct p2p_transport *transport, struct p2p_time now);
/* When p2p_transport_tick() has something to do; UINT64_MAX: never, with nothing open. */
struct p2p_time p2p_transport_deadline(const struct p2p_transport *transport);
/* Links of any state, those that are being closed included. */
size_t p2p_transport_count(const struct p2p_transport *transport);
size_t p2p_transport_session_count(const struct p2p_transport *transport);
/* The live session of a peer, NULL if none. */
struct p2p_session *p2p_transport_find(struct p2p_transport *transport, const struct p2p_key *node);

/* Queues a message (copied). P2P_EBUSY: the queue of that class is full, nothing was taken,
 * `writable` follows; P2P_ETOOBIG over P2P_MESSAGE_MAX, P2P_EINVAL for 0 bytes, P2P_ENOMEM;
 * P2P_ECLOSED: the session is being closed. 0 means queued, not delivered: only an answer of the
 * peer's says that. */
int p2p_transport_send(struct p2p_session *session, enum p2p_class cls, const void *data,
		       size_t len) P2P_MUST_CHECK;
/* No message is handed up while paused, and the peer feels it. At most one chunk of a link and
 * one message are held. */
void p2p_transport_pause(struct p2p_session *session, bool paused);
/* Closes; session_down follows with the same code and text, not from inside this call if it is
 * made in a callback. The peer is told code and text. code 0: in order, what was queued goes out
 * first; otherwise at once. */
void p2p_transport_close(struct p2p_session *session, int code, const char *text);

const struct p2p_session_info *p2p_session_info(const struct p2p_session *session);
void p2p_session_stats(const struct p2p_session *session, struct p2p_session_stats *out);
/* A pointer of the owner's; NULL at first. */
void p2p_session_set_user(struct p2p_session *session, void *user);
void *p2p_session_user(const struct p2p_session *session);

#endif
