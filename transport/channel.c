/* One session over one link; see channel.h and docs/protocol-session.md. */
#include "transport/channel.h"

#include <stdio.h>
#include <string.h>

#include "proto/check.h"
#include "proto/limits.h"

/* Sealed bytes that wait for the link: one batch, and the greatest frame behind it. */
#define OUT_BYTES_MAX	P2P_LINK_CHUNK_MAX
#define FRAME_OVERHEAD	(P2P_FRAME_HEADER_BYTES + 1 + P2P_AEAD_TAG_BYTES)
#define STASH_BYTES_MAX (2 * P2P_LINK_CHUNK_MAX)
#define NEVER		UINT64_MAX

_Static_assert(P2P_SEND_BATCH_BYTES + P2P_FRAGMENT_MAX + 8 * FRAME_OVERHEAD +
			       2 * P2P_CLOSE_TEXT_MAX <
		       OUT_BYTES_MAX,
	       "a batch, one more fragment and the signals fit into what a link takes at once");

static void channel_move(struct p2p_channel *channel, enum p2p_channel_state to)
{
	p2p_require(to > channel->state); /* only forward, CLOSED is the last */
	channel->state = to;
}

static struct p2p_time now_of(const struct p2p_channel *channel)
{
	return p2p_env_now(channel->config.env);
}

/* The end: the link goes, the owner hears of it once. */
static void channel_end(struct p2p_channel *channel, int code, const char *text, bool flush)
{
	if (channel->state == P2P_CHANNEL_CLOSED)
		return;
	if (channel->state == P2P_CHANNEL_DRAINING && code == P2P_ECLOSED) {
		code = channel->close_code; /* the peer was first, as we wished */
		text = channel->close_text;
	}
	channel_move(channel, P2P_CHANNEL_CLOSED);
	p2p_require(channel->link != NULL);
	p2p_link_close(channel->link, flush);
	channel->link = NULL;
	channel->config.events->closed(channel->config.ctx, code, text);
}

/* --- sending ---------------------------------------------------------------------------------- */

/* Hands the sealed bytes to the link. False: it takes no more now, or the channel is closed. */
static bool channel_push(struct p2p_channel *channel)
{
	int rc;

	if (channel->link_full)
		return false;
	if (channel->out.len == 0)
		return true;
	rc = p2p_link_send(channel->link, channel->out.data, channel->out.len);
	if (rc < 0) {
		channel_end(channel, rc, "the link broke while sending", false);
		return false;
	}
	channel->link_full = rc != 0;
	if (rc == P2P_LINK_FULL)
		return false;
	channel->sent_bytes += channel->out.len;
	channel->sent_at = now_of(channel);
	p2p_buf_reset(&channel->out);
	return !channel->link_full;
}

static void channel_seal(struct p2p_channel *channel, uint8_t kind, const void *data, size_t len)
{
	int rc = p2p_secure_seal(&channel->secure, kind, data, len, &channel->out);

	if (rc)
		channel_end(channel, rc, "a frame could not be sealed", false);
}

static void put_u64(uint8_t out[8], uint64_t value)
{
	size_t i;

	for (i = 0; i < 8; i++)
		out[i] = (uint8_t)(value >> (56 - 8 * i));
}

static void seal_signals(struct p2p_channel *channel)
{
	uint8_t token[8];

	if (!channel->pong_due)
		return;
	channel->pong_due = false; /* pings that came in between share this answer */
	put_u64(token, channel->pong_token);
	channel_seal(channel, P2P_FRAME_PONG, token, sizeof(token));
}

/* Fills out with signals, then fragments, up to a batch. */
static void seal_batch(struct p2p_channel *channel)
{
	struct p2p_fragment fragment;
	uint8_t kind;

	if (channel->out.len)
		return; /* still the last one */
	seal_signals(channel);
	while (channel->state != P2P_CHANNEL_CLOSED && channel->out.len < P2P_SEND_BATCH_BYTES &&
	       p2p_sendq_peek(&channel->queue, &fragment)) {
		kind = (uint8_t)((unsigned int)fragment.cls | (fragment.last ? P2P_FRAME_LAST : 0));
		channel_seal(channel, kind, fragment.data, fragment.len);
		if (channel->state == P2P_CHANNEL_CLOSED)
			return;
		channel->sent_messages += fragment.last;
		p2p_sendq_pop(&channel->queue);
	}
}

static void seal_close(struct p2p_channel *channel, int code, const char *text)
{
	uint8_t body[4 + P2P_CLOSE_TEXT_MAX];
	size_t i, len = strlen(text);

	if (len > P2P_CLOSE_TEXT_MAX)
		len = P2P_CLOSE_TEXT_MAX;
	for (i = 0; i < 4; i++)
		body[i] = (uint8_t)((uint32_t)code >> (24 - 8 * i));
	memcpy(body + 4, text, len);
	channel_seal(channel, P2P_FRAME_CLOSE, body, 4 + len);
}

/* Says goodbye if there is room for it, and ends. */
static void channel_finish(struct p2p_channel *channel, int code, const char *text)
{
	if (channel->secured)
		seal_close(channel, code, text);
	if (channel->state == P2P_CHANNEL_CLOSED)
		return;
	if (channel->out.len && !channel->link_full)
		(void)channel_push(channel); /* whether it arrives is not known anyway */
	channel_end(channel, code, text, channel->secured);
}

void p2p_channel_flush(struct p2p_channel *channel)
{
	while (channel->state != P2P_CHANNEL_CLOSED && channel_push(channel)) {
		if (channel->state != P2P_CHANNEL_OPEN && channel->state != P2P_CHANNEL_DRAINING &&
		    channel->state != P2P_CHANNEL_HELD)
			return;
		seal_batch(channel);
		if (channel->state == P2P_CHANNEL_CLOSED || channel->out.len == 0)
			break;
	}
	if (channel->state == P2P_CHANNEL_DRAINING && channel->out.len == 0 &&
	    !channel->link_full && p2p_sendq_empty(&channel->queue))
		channel_finish(channel, channel->close_code, channel->close_text);
}

int p2p_channel_send(struct p2p_channel *channel, enum p2p_class cls, const void *data, size_t len)
{
	if (channel->state != P2P_CHANNEL_OPEN)
		return P2P_ECLOSED;
	return p2p_sendq_push(&channel->queue, cls, data, len);
}

void p2p_channel_ping(struct p2p_channel *channel)
{
	uint8_t token[8];

	/* behind a full link a ping would only be one more thing that waits */
	if (channel->state != P2P_CHANNEL_OPEN || channel->out.len)
		return;
	channel->ping_token = ++channel->ping_next;
	channel->ping_at = now_of(channel);
	put_u64(token, channel->ping_token);
	channel_seal(channel, P2P_FRAME_PING, token, sizeof(token));
	if (channel->state != P2P_CHANNEL_CLOSED)
		p2p_channel_flush(channel);
}

void p2p_channel_close(struct p2p_channel *channel, int code, const char *text)
{
	if (channel->state == P2P_CHANNEL_CLOSED)
		return;
	if (code != 0 || channel->state != P2P_CHANNEL_OPEN) {
		if (channel->state != P2P_CHANNEL_DRAINING || code != 0)
			channel_finish(channel, code, text);
		return;
	}
	channel->close_code = code;
	(void)snprintf(channel->close_text, sizeof(channel->close_text), "%s", text);
	channel->deadline.ms = now_of(channel).ms + P2P_CLOSE_DRAIN_MS;
	channel_move(channel, P2P_CHANNEL_DRAINING);
	p2p_channel_flush(channel);
}

/* --- receiving -------------------------------------------------------------------------------- */

static void channel_hold(struct p2p_channel *channel)
{
	channel_move(channel, P2P_CHANNEL_HELD);
	p2p_link_pause(channel->link, true);
	channel->config.events->held(channel->config.ctx);
}

static uint64_t get_u64(const uint8_t *data)
{
	uint64_t value = 0;
	size_t i;

	for (i = 0; i < 8; i++)
		value = value << 8 | data[i];
	return value;
}

static void take_pong(struct p2p_channel *channel, uint64_t token)
{
	uint64_t took = now_of(channel).ms - channel->ping_at.ms;

	if (token == 0 || token != channel->ping_token)
		return; /* of an older ping */
	channel->ping_token = 0;
	if (took > UINT32_MAX)
		took = UINT32_MAX;
	/* 1/8 of the new value, as TCP smooths its own (RFC 6298); at least 1: 0 is "not known" */
	channel->rtt_ms =
		channel->rtt_ms ? (uint32_t)((7ull * channel->rtt_ms + took) / 8) : (uint32_t)took;
	if (channel->rtt_ms == 0)
		channel->rtt_ms = 1;
}

static void take_close(struct p2p_channel *channel, const uint8_t *data, size_t len)
{
	char text[P2P_CLOSE_TEXT_MAX + 1];
	uint32_t code = 0;
	size_t i;

	for (i = 0; i < 4; i++)
		code = code << 8 | data[i];
	for (i = 0; i < len - 4 && i < P2P_CLOSE_TEXT_MAX; i++)
		text[i] = data[4 + i] >= 0x20 && data[4 + i] < 0x7f ? (char)data[4 + i] : '?';
	text[i] = 0;
	/* only 0 and the codes that we know by name mean something */
	if (code != 0 && strcmp(p2p_err_name((int)(int32_t)code), "P2P_UNKNOWN") == 0)
		code = (uint32_t)P2P_ECLOSED;
	channel_end(channel, (int)(int32_t)code, text, false);
}

/* Puts a fragment to its message. Returns 0 or what the peer did wrong. */
static int take_fragment(struct p2p_channel *channel, uint8_t kind, const uint8_t *data, size_t len)
{
	enum p2p_class cls = (enum p2p_class)(kind & ~P2P_FRAME_LAST);
	struct p2p_buf *part = &channel->parts[cls];
	bool last = (kind & P2P_FRAME_LAST) != 0;
	int rc;

	if (len == 0 || len > P2P_FRAGMENT_MAX)
		return P2P_EPROTO;
	if (channel->state != P2P_CHANNEL_OPEN)
		return 0; /* we are closing: not for us any more */
	if (last && part->len == 0) {
		channel->received_messages++;
		channel->config.events->message(channel->config.ctx, cls, data, len);
		return 0;
	}
	p2p_buf_put(part, data, len);
	rc = p2p_buf_error(part);
	if (rc || !last)
		return rc;
	channel->received_messages++;
	channel->config.events->message(channel->config.ctx, cls, part->data, part->len);
	p2p_buf_reset(part);
	if (part->cap > P2P_LINK_CHUNK_MAX) { /* idle sessions keep little */
		p2p_buf_deinit(part);
		p2p_buf_init(part, P2P_MESSAGE_MAX);
	}
	return 0;
}

/* One opened frame. Returns 0 or what the peer did wrong. */
static int take_frame(struct p2p_channel *channel, const uint8_t *plain, size_t len)
{
	uint8_t kind = plain[0];
	const uint8_t *data = plain + 1;

	len--;
	channel->frames++;
	channel->heard_at = now_of(channel);
	if (channel->state == P2P_CHANNEL_READY && kind == P2P_FRAME_READY) {
		if (len != 1 || data[0] > 1)
			return P2P_EPROTO;
		channel->replaced = data[0] == 1;
		channel_hold(channel);
		return 0;
	}
	if (kind == P2P_FRAME_CLOSE && len >= 4) {
		take_close(channel, data, len);
		return 0;
	}
	if (channel->state == P2P_CHANNEL_READY)
		return P2P_EPROTO; /* the responder's word comes first */
	if ((kind & ~P2P_FRAME_LAST) < P2P_CLASS_COUNT)
		return take_fragment(channel, kind, data, len);
	if (kind == P2P_FRAME_PING && len == 8) {
		channel->pong_token = get_u64(data);
		channel->pong_due = true;
		return 0;
	}
	if (kind == P2P_FRAME_PONG && len == 8) {
		take_pong(channel, get_u64(data));
		return 0;
	}
	return P2P_EPROTO;
}

/* The handshake is over: the keys go to the frames. */
static void handshake_done(struct p2p_channel *channel)
{
	struct p2p_noise_cipher send, receive;

	p2p_handshake_split(&channel->handshake, &send, &receive);
	p2p_secure_init(&channel->secure, &send, &receive);
	channel->secured = true;
	channel->peer = channel->handshake.peer;
	if (channel->has_expected && p2p_key_cmp(&channel->expected, &channel->peer.node) != 0) {
		channel_finish(channel, P2P_EAUTH, "another node than the one that was dialled");
		return;
	}
	if (channel->initiator)
		channel_move(channel, P2P_CHANNEL_READY);
	else
		channel_hold(channel);
}

static void feed_handshake(struct p2p_channel *channel, const uint8_t **data, size_t *len)
{
	char text[sizeof(channel->handshake.text)];
	size_t used;
	int rc;

	rc = p2p_handshake_feed(&channel->handshake, *data, *len, &used, &channel->out);
	*data += used;
	*len -= used;
	(void)channel_push(channel); /* nothing at all for a stranger */
	if (channel->state == P2P_CHANNEL_CLOSED)
		return;
	if (rc == P2P_HANDSHAKE_DONE) {
		handshake_done(channel);
	} else if (rc < 0) {
		(void)snprintf(text, sizeof(text), "%s", channel->handshake.text);
		channel_end(channel, rc, text, rc == P2P_EVERSION);
	}
}

static void feed_frame(struct p2p_channel *channel, const uint8_t **data, size_t *len)
{
	const uint8_t *plain;
	size_t plain_len;
	int rc;

	rc = p2p_secure_open(&channel->secure, data, len, &plain, &plain_len);
	if (rc == P2P_SECURE_FRAME)
		rc = take_frame(channel, plain, plain_len);
	if (rc < 0 && channel->state != P2P_CHANNEL_CLOSED)
		channel_finish(channel, rc, "a frame that breaks the protocol");
}

static bool channel_waits(const struct p2p_channel *channel)
{
	return channel->state == P2P_CHANNEL_HELD ||
	       (channel->paused && channel->state == P2P_CHANNEL_OPEN);
}

/* Handles bytes until they end, or the owner wants no more of them. */
static void channel_run(struct p2p_channel *channel, const uint8_t **data, size_t *len)
{
	p2p_require(!channel->running);
	channel->running = true;
	while (*len && channel->state != P2P_CHANNEL_CLOSED && !channel_waits(channel)) {
		if (channel->state == P2P_CHANNEL_HANDSHAKE)
			feed_handshake(channel, data, len);
		else
			feed_frame(channel, data, len);
	}
	channel->running = false;
	if (channel->pong_due)
		p2p_channel_flush(channel);
}

void p2p_channel_feed(struct p2p_channel *channel, const uint8_t *data, size_t len)
{
	if (channel->state == P2P_CHANNEL_CLOSED)
		return;
	channel->received_bytes += len;
	if (channel->stash.len == 0)
		channel_run(channel, &data, &len);
	if (len == 0 || channel->state == P2P_CHANNEL_CLOSED)
		return;
	p2p_buf_put(&channel->stash, data, len);
	if (p2p_buf_error(&channel->stash))
		channel_finish(channel, p2p_buf_error(&channel->stash), "bytes from a paused link");
}

void p2p_channel_resume(struct p2p_channel *channel)
{
	const uint8_t *data = channel->stash.data;
	size_t len = channel->stash.len;

	if (channel->running || channel->state == P2P_CHANNEL_CLOSED || channel_waits(channel))
		return;
	if (len) {
		channel_run(channel, &data, &len);
		p2p_buf_consume(&channel->stash, channel->stash.len - len);
	}
	if (channel->state == P2P_CHANNEL_CLOSED || channel_waits(channel))
		return;
	p2p_buf_deinit(&channel->stash);
	p2p_buf_init(&channel->stash, STASH_BYTES_MAX);
	p2p_link_pause(channel->link, false);
}

void p2p_channel_pause(struct p2p_channel *channel, bool paused)
{
	if (channel->state == P2P_CHANNEL_CLOSED || channel->paused == paused)
		return;
	channel->paused = paused;
	channel->heard_at = now_of(channel); /* silence of our own making does not count */
	if (paused)
		p2p_link_pause(channel->link, true);
}

void p2p_channel_admit(struct p2p_channel *channel, bool replaced)
{
	const uint8_t flag = replaced;

	p2p_require(channel->state == P2P_CHANNEL_HELD);
	channel_move(channel, P2P_CHANNEL_OPEN);
	p2p_handshake_deinit(&channel->handshake);
	channel->heard_at = channel->sent_at = now_of(channel);
	if (channel->initiator)
		return;
	channel_seal(channel, P2P_FRAME_READY, &flag, sizeof(flag));
	if (channel->state != P2P_CHANNEL_CLOSED)
		p2p_channel_flush(channel);
}

void p2p_channel_link_writable(struct p2p_channel *channel)
{
	channel->link_full = false;
	p2p_channel_flush(channel);
}

void p2p_channel_link_closed(struct p2p_channel *channel, int code, const char *text)
{
	channel_end(channel, code, text, false);
}

/* --- life ------------------------------------------------------------------------------------- */

void p2p_channel_init(struct p2p_channel *channel, const struct p2p_channel_config *config,
		      struct p2p_link *link)
{
	int cls, rc;

	memset(channel, 0, sizeof(*channel));
	channel->config = *config;
	channel->config.secret = NULL;
	channel->config.expected = NULL;
	channel->link = link;
	channel->state = P2P_CHANNEL_HANDSHAKE;
	channel->initiator = config->secret != NULL;
	channel->has_expected = config->expected != NULL;
	if (config->expected)
		channel->expected = *config->expected;
	p2p_sendq_init(&channel->queue);
	p2p_buf_init(&channel->out, OUT_BYTES_MAX);
	p2p_buf_init(&channel->stash, STASH_BYTES_MAX);
	for (cls = 0; cls < P2P_CLASS_COUNT; cls++)
		p2p_buf_init(&channel->parts[cls], P2P_MESSAGE_MAX);
	channel->deadline.ms = now_of(channel).ms + config->handshake_ms;
	rc = p2p_handshake_init(&channel->handshake, config->handshake, config->secret,
				&channel->out);
	if (rc) { /* the first tick ends it */
		p2p_buf_reset(&channel->out);
		channel->deadline.ms = 0;
	}
}

void p2p_channel_deinit(struct p2p_channel *channel)
{
	int cls;

	if (channel->link)
		p2p_link_close(channel->link, false);
	channel->link = NULL;
	channel->state = P2P_CHANNEL_CLOSED;
	p2p_handshake_deinit(&channel->handshake);
	if (channel->secured)
		p2p_secure_deinit(&channel->secure);
	p2p_sendq_deinit(&channel->queue);
	p2p_buf_deinit(&channel->out);
	p2p_buf_deinit(&channel->stash);
	for (cls = 0; cls < P2P_CLASS_COUNT; cls++)
		p2p_buf_deinit(&channel->parts[cls]);
}

bool p2p_channel_known(const struct p2p_channel *channel)
{
	return channel->state != P2P_CHANNEL_HANDSHAKE || channel->initiator ||
	       p2p_handshake_known(&channel->handshake);
}

struct p2p_time p2p_channel_deadline(const struct p2p_channel *channel)
{
	struct p2p_time at = {NEVER};
	uint64_t idle;

	switch (channel->state) {
	case P2P_CHANNEL_HANDSHAKE:
	case P2P_CHANNEL_READY:
	case P2P_CHANNEL_DRAINING:
		return channel->deadline;
	case P2P_CHANNEL_OPEN:
		break;
	case P2P_CHANNEL_HELD: /* the owner's timer */
	case P2P_CHANNEL_CLOSED:
		return at;
	}
	idle = channel->sent_at.ms;
	if (!channel->paused) {
		at.ms = channel->heard_at.ms + channel->config.dead_ms;
		if (channel->heard_at.ms < idle && channel->ping_at.ms < channel->heard_at.ms)
			idle = channel->heard_at.ms;
	}
	if (!channel->out.len && idle + channel->config.keepalive_ms < at.ms)
		at.ms = idle + channel->config.keepalive_ms;
	return at;
}

struct p2p_time p2p_channel_tick(struct p2p_channel *channel, struct p2p_time now)
{
	struct p2p_time at = p2p_channel_deadline(channel);

	if (now.ms < at.ms)
		return at;
	if (channel->state == P2P_CHANNEL_DRAINING)
		channel_finish(channel, channel->close_code, channel->close_text);
	else if (channel->state != P2P_CHANNEL_OPEN)
		channel_end(channel, P2P_ETIMEOUT, "the handshake took too long", false);
	else if (!channel->paused && now.ms >= channel->heard_at.ms + channel->config.dead_ms)
		channel_finish(channel, P2P_ETIMEOUT, "the peer does not answer");
	else
		p2p_channel_ping(channel);
	return p2p_channel_deadline(channel);
}
