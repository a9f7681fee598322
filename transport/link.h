/* A link: an ordered, reliable stream of bytes to one other side. The interface that every kind of
 * link (TCP, in-process pair, one of a user's own) implements.
 *
 * A link knows nothing of sessions, and does not authenticate: the Noise session runs inside it.
 * What it must keep, whatever it is made of:
 * - bytes arrive whole, in order, once, in chunks of 1 to P2P_LINK_CHUNK_MAX bytes, not before
 *   events were attached and never from inside a call of one of its operations;
 * - no event after close() was called, and `closed` at most once, as the last event;
 * - any operation may be called from inside any event, close() too: a link frees itself later;
 * - no operation ever blocks, and what it buffers is bounded. */
#ifndef P2P_TRANSPORT_LINK_H
#define P2P_TRANSPORT_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"

struct p2p_link;

/* Outcomes of send, besides 0 (taken, more may follow) and P2P_E* (the link is broken). */
#define P2P_LINK_QUEUED 1 /* taken, but now wait for `writable` */
#define P2P_LINK_FULL	2 /* nothing taken, wait for `writable` */

struct p2p_link_ops {
	/* Takes all of len bytes (1 to P2P_LINK_CHUNK_MAX, borrowed for the call), or none of them.
	 * After `writable` and at first, at least one chunk is taken. */
	int (*send)(struct p2p_link *link, const void *data, size_t len) P2P_MUST_CHECK;
	/* No bytes and no end of stream are handed up while paused. A link begins paused, and is
	 * resumed when events are attached. */
	void (*pause)(struct p2p_link *link, bool paused);
	/* Once, in any case, also after `closed`. The link is not to be touched afterwards.
	 * flush: what was taken goes out first, within P2P_CLOSE_DRAIN_MS. */
	void (*close)(struct p2p_link *link, bool flush);
};

struct p2p_link_events {
	/* data is borrowed for the call. */
	void (*bytes)(void *ctx, const uint8_t *data, size_t len);
	/* After P2P_LINK_QUEUED or P2P_LINK_FULL: there is room again. */
	void (*writable)(void *ctx);
	/* The stream ended: P2P_ECLOSED in order, P2P_ETIMEOUT or P2P_ENET otherwise; text for
	 * people, borrowed. close() must still be called. */
	void (*closed)(void *ctx, int code, const char *text);
};

/* Embedded first in the struct of a kind of link. */
struct p2p_link {
	const struct p2p_link_ops *ops;
	const struct p2p_link_events *events; /* NULL until attached */
	void *events_ctx;
};

/* Hands the link to its user: events go to ctx from now on (never before this returned). */
static inline void p2p_link_attach(struct p2p_link *link, const struct p2p_link_events *events,
				   void *ctx)
{
	link->events = events;
	link->events_ctx = ctx;
	link->ops->pause(link, false);
}

static inline int p2p_link_send(struct p2p_link *link, const void *data, size_t len)
{
	return link->ops->send(link, data, len);
}

static inline void p2p_link_pause(struct p2p_link *link, bool paused)
{
	link->ops->pause(link, paused);
}

static inline void p2p_link_close(struct p2p_link *link, bool flush)
{
	link->ops->close(link, flush);
}

#endif
