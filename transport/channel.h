/* One session over one link: handshake, then messages in both directions, keepalive, closing.
 * Sans-I/O: the link is driven through its vtable, time is passed in.
 *
 *	HANDSHAKE -> READY (initiator: the responder's word is awaited) -> HELD -> OPEN -> DRAINING
 *	     \______________________\_______________________________\________\_______\-> CLOSED
 *
 * HELD: the peer is authenticated, the owner decides (p2p_channel_admit(), or close); what the
 * peer sends meanwhile waits. Callbacks may call anything here, but must not free the channel. */
#ifndef P2P_TRANSPORT_CHANNEL_H
#define P2P_TRANSPORT_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/env.h"
#include "transport/handshake.h"
#include "transport/link.h"
#include "transport/secure.h"
#include "transport/sendq.h"

/* First byte of a frame: a fragment (class, and the flag on the last one), or a signal. */
enum p2p_frame_kind {
	P2P_FRAME_LAST = 0x80, /* flag, with a class: the message is complete */
	P2P_FRAME_READY =
		0x10,	       /* u8: 1 if an older session gave way; the responder's first frame */
	P2P_FRAME_PING = 0x11, /* u64 token */
	P2P_FRAME_PONG = 0x12, /* u64 token of the ping */
	P2P_FRAME_CLOSE = 0x13, /* i32 code, then text */
};

enum p2p_channel_state {
	P2P_CHANNEL_HANDSHAKE,
	P2P_CHANNEL_READY,
	P2P_CHANNEL_HELD,
	P2P_CHANNEL_OPEN,
	P2P_CHANNEL_DRAINING,
	P2P_CHANNEL_CLOSED,
};

struct p2p_channel_events {
	/* Entered HELD: channel->peer is proved. */
	void (*held)(void *ctx);
	/* A whole message; data is borrowed for the call. */
	void (*message)(void *ctx, enum p2p_class cls, const uint8_t *data, size_t len);
	/* Once, the last: the link is closed already. code 0: in order. */
	void (*closed)(void *ctx, int code, const char *text);
};

struct p2p_channel_config {
	const struct p2p_handshake_config *handshake; /* borrowed, as all here */
	const struct p2p_env *env;
	const struct p2p_channel_events *events;
	void *ctx;
	const struct p2p_secret *secret; /* initiator; NULL: responder. For the call only */
	const struct p2p_key *expected;	 /* NULL: any peer. For the call only */
	uint32_t keepalive_ms, dead_ms, handshake_ms;
};

struct p2p_channel {
	struct p2p_channel_config config;
	struct p2p_link *link; /* owned until CLOSED, then NULL */
	enum p2p_channel_state state;
	bool initiator, has_expected, secured;
	bool paused;	/* by the owner */
	bool link_full; /* waits for `writable` */
	bool running;	/* inside p2p_channel_feed(): no second one */
	bool pong_due, replaced;
	struct p2p_key expected;
	struct p2p_handshake handshake;
	struct p2p_secure secure;
	struct p2p_peer peer;
	struct p2p_sendq queue;
	struct p2p_buf out;		       /* sealed, not yet taken by the link */
	struct p2p_buf stash;		       /* received while HELD or paused */
	struct p2p_buf parts[P2P_CLASS_COUNT]; /* messages that are not complete */
	uint64_t pong_token, ping_token;       /* ping_token 0: none is out */
	uint64_t ping_next;
	struct p2p_time ping_at, heard_at, sent_at, deadline; /* deadline: handshake or drain */
	uint64_t sent_bytes, received_bytes, sent_messages, received_messages;
	uint64_t frames; /* received */
	uint32_t rtt_ms;
	int close_code; /* while DRAINING */
	char close_text[P2P_CLOSE_TEXT_MAX + 1];
};

/* Takes link over in any case. Never fails: an error is `closed`, not before the next call of
 * p2p_channel_tick(). The owner attaches the link's events and passes them on. */
void p2p_channel_init(struct p2p_channel *channel, const struct p2p_channel_config *config,
		      struct p2p_link *link);
/* Closes the link if that was not done, without an event; frees what is inside. */
void p2p_channel_deinit(struct p2p_channel *channel);

/* Events of the link. */
void p2p_channel_feed(struct p2p_channel *channel, const uint8_t *data, size_t len);
void p2p_channel_link_writable(struct p2p_channel *channel);
void p2p_channel_link_closed(struct p2p_channel *channel, int code, const char *text);

/* HELD -> OPEN. replaced: tell the initiator that an older session gave way. */
void p2p_channel_admit(struct p2p_channel *channel, bool replaced);
/* As p2p_transport_send(); the bytes leave at the next p2p_channel_flush(). */
int p2p_channel_send(struct p2p_channel *channel, enum p2p_class cls, const void *data,
		     size_t len) P2P_MUST_CHECK;
/* Hands to the link what it takes. */
void p2p_channel_flush(struct p2p_channel *channel);
void p2p_channel_pause(struct p2p_channel *channel, bool paused);
/* Handles what waited while HELD or paused; call after admit and resume. */
void p2p_channel_resume(struct p2p_channel *channel);
/* Asks the peer for a sign of life at once. */
void p2p_channel_ping(struct p2p_channel *channel);
/* Tells the peer, if the session has keys, and closes; code 0 drains the queue first. */
void p2p_channel_close(struct p2p_channel *channel, int code, const char *text);
/* Timers. Returns when to call again. */
struct p2p_time p2p_channel_tick(struct p2p_channel *channel, struct p2p_time now);
struct p2p_time p2p_channel_deadline(const struct p2p_channel *channel);
/* Whether the peer has proved to hold the secret's tag (or more). */
bool p2p_channel_known(const struct p2p_channel *channel);

#endif
