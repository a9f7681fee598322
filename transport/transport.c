/* The sessions of one node; see transport.h.
 *
 * Every way in (a call, a link event) runs between enter() and leave(). What follows from it, and
 * may end sessions, waits on the work list until the outermost leave(): so callbacks are never
 * nested, and no session is freed while code further up the stack still holds it. */
#include "transport/transport.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "proto/check.h"
#include "proto/limits.h"
#include "proto/list.h"
#include "proto/mem.h"
#include "transport/channel.h"

#define NEVER UINT64_MAX

struct p2p_session {
	struct p2p_list link; /* of all */
	struct p2p_list work; /* of those that leave() looks at */
	struct p2p_transport *transport;
	struct p2p_channel channel;
	struct p2p_session_info info;
	struct p2p_time up_since;
	uint64_t serial;
	bool up;     /* session_up was called */
	bool closed; /* the channel is; to be freed */
	bool resume;
	int code;
	char text[256];
	char address[P2P_ADDRESS_TEXT_MAX];
	void *user;
	/* while HELD beside an older session that is asked for a sign of life: its serial (0: no),
	 * its frames at that moment, and when to stop waiting */
	uint64_t probe_serial, probe_frames;
	struct p2p_time probe_until;
};

struct p2p_transport {
	struct p2p_transport_config config;
	struct p2p_handshake_config handshake;
	struct p2p_self identity; /* owned copy, wiped at the end */
	uint32_t versions[P2P_VERSIONS_MAX];
	char software[P2P_SOFTWARE_MAX + 1];
	struct p2p_list sessions, work;
	size_t count, up_count, probe_count;
	uint64_t serial;
	unsigned int depth;
	bool stopping;
	size_t tag_count, tag_next; /* a ring of the tags seen last */
	uint8_t (*tags)[P2P_PREFACE_TAG_BYTES];
};

static void mark(struct p2p_session *session)
{
	p2p_list_remove(&session->work);
	p2p_list_push(&session->transport->work, &session->work);
}

/* --- what the handshake asks ------------------------------------------------------------------ */

static size_t transport_secrets(void *ctx, enum p2p_kind kind, struct p2p_secret *out, size_t max)
{
	struct p2p_transport *transport = ctx;

	return transport->config.secrets
		       ? transport->config.secrets(transport->config.ctx, kind, out, max)
		       : 0;
}

static bool transport_fresh(void *ctx, const uint8_t tag[P2P_PREFACE_TAG_BYTES])
{
	struct p2p_transport *transport = ctx;
	size_t i;

	for (i = 0; i < transport->tag_count; i++)
		if (memcmp(transport->tags[i], tag, P2P_PREFACE_TAG_BYTES) == 0) /* no secret */
			return false;
	memcpy(transport->tags[transport->tag_next], tag, P2P_PREFACE_TAG_BYTES);
	transport->tag_next = (transport->tag_next + 1) % P2P_PREFACE_REPLAY_MAX;
	if (transport->tag_count < P2P_PREFACE_REPLAY_MAX)
		transport->tag_count++;
	return true;
}

/* --- one session at most for each peer (decisions 44) ------------------------------------------
 */

enum verdict {
	VERDICT_ADMIT,	 /* nobody else is there */
	VERDICT_REPLACE, /* the newer one stays */
	VERDICT_PROBE,	 /* the older one stays if it is alive */
	VERDICT_REFUSE,	 /* it is alive */
	VERDICT_WAIT,
};

/* One that is closed already, but whose owner was not told yet, counts too. */
static struct p2p_session *find_up(struct p2p_transport *transport, const struct p2p_key *node)
{
	struct p2p_list *at, *tmp;

	p2p_list_for_each (at, tmp, &transport->sessions) {
		struct p2p_session *session = p2p_container_of(at, struct p2p_session, link);

		if (session->up && p2p_key_cmp(&session->info.peer.node, node) == 0)
			return session;
	}
	return NULL;
}

static bool same_instance(const struct p2p_session *a, const struct p2p_session *b)
{
	return p2p_id_cmp(&a->info.peer.instance, &b->info.peer.instance) == 0;
}

/* Of two sessions that both sides dialled at once, the dial of the smaller key stays. */
static bool dial_of_smaller(const struct p2p_session *session)
{
	const struct p2p_key *mine = &session->transport->identity.node;

	return session->info.dialled == (p2p_key_cmp(mine, &session->info.peer.node) < 0);
}

static enum verdict first_verdict(const struct p2p_session *newer, const struct p2p_session *older)
{
	if (!same_instance(newer, older))
		return VERDICT_PROBE;
	if (newer->info.dialled && newer->channel.replaced)
		return VERDICT_REPLACE; /* the peer has given up the older one */
	if (newer->info.dialled != older->info.dialled)
		return dial_of_smaller(newer) ? VERDICT_REPLACE : VERDICT_PROBE;
	/* the same side dialled twice: the responder asks whether the old one lives, and the
	 * initiator hears here that it does not */
	return newer->info.dialled ? VERDICT_REPLACE : VERDICT_PROBE;
}

static enum verdict next_verdict(const struct p2p_session *newer, const struct p2p_session *older)
{
	uint64_t now = p2p_env_now(newer->transport->config.env).ms;

	if (older->channel.state != P2P_CHANNEL_OPEN)
		return VERDICT_REPLACE; /* it is on its way out, or was closed just now */
	if (older->serial != newer->probe_serial)
		return first_verdict(newer, older);
	if (older->channel.paused || older->channel.frames > newer->probe_frames)
		return VERDICT_REFUSE;
	return now >= newer->probe_until.ms ? VERDICT_REPLACE : VERDICT_WAIT;
}

static void probe_end(struct p2p_session *session)
{
	if (session->probe_serial)
		session->transport->probe_count--;
	session->probe_serial = 0;
}

static void probe_start(struct p2p_session *newer, struct p2p_session *older)
{
	struct p2p_transport *transport = newer->transport;

	probe_end(newer);
	transport->probe_count++;
	newer->probe_serial = older->serial;
	newer->probe_frames = older->channel.frames;
	newer->probe_until.ms = p2p_env_now(transport->config.env).ms + P2P_PROBE_MS;
	p2p_channel_ping(&older->channel);
}

/* Closes a session that never came up. The peer is told one code, our owner another. */
static void refuse(struct p2p_session *session, int told_code, int own_code, const char *text)
{
	p2p_channel_close(&session->channel, told_code, text);
	p2p_require(session->closed);
	session->code = own_code;
}

static void admit(struct p2p_session *session, bool replaced)
{
	struct p2p_transport *transport = session->transport;

	probe_end(session);
	session->up = true;
	session->resume = true;
	transport->up_count++;
	session->up_since = p2p_env_now(transport->config.env);
	p2p_channel_admit(&session->channel, replaced);
	transport->config.events->session_up(transport->config.ctx, session, &session->info);
	mark(session);
}

static void reap(struct p2p_session *session);

static void decide(struct p2p_session *newer)
{
	struct p2p_transport *transport = newer->transport;
	struct p2p_session *older = find_up(transport, &newer->info.peer.node);
	enum verdict verdict = older ? next_verdict(newer, older) : VERDICT_ADMIT;

	switch (verdict) {
	case VERDICT_ADMIT:
		if (transport->up_count >= P2P_PEERS_MAX)
			refuse(newer, P2P_EQUOTA, P2P_EQUOTA, "too many sessions");
		else
			admit(newer, false);
		return;
	case VERDICT_REPLACE:
		p2p_channel_close(&older->channel, P2P_EDUPLICATE, "replaced by a newer session");
		reap(older);
		admit(newer, true);
		return;
	case VERDICT_PROBE:
		probe_start(newer, older);
		if (older->closed || older->channel.paused)
			mark(newer); /* the answer is there already */
		return;
	case VERDICT_REFUSE:
		if (same_instance(newer, older))
			refuse(newer, P2P_EDUPLICATE, P2P_EDUPLICATE,
			       "an older session with this peer is alive");
		else
			refuse(newer, P2P_ECLONE, P2P_EDUPLICATE,
			       "another process with this node key is alive");
		return;
	case VERDICT_WAIT:
		return;
	}
	p2p_unreachable();
}

static void meet(struct p2p_session *session)
{
	const struct p2p_self *own = &session->transport->identity;

	session->info.peer = session->channel.peer;
	if (p2p_key_cmp(&session->info.peer.node, &own->node) != 0)
		decide(session);
	else if (p2p_id_cmp(&session->info.peer.instance, &own->instance) == 0)
		refuse(session, P2P_EDUPLICATE, P2P_EDUPLICATE, "connected to ourselves");
	else
		refuse(session, P2P_ECLONE, P2P_ECLONE, "this node key runs twice");
}

/* --- work ------------------------------------------------------------------------------------- */

/* The last of a session: its owner hears of it, then the memory goes. */
static void reap(struct p2p_session *session)
{
	struct p2p_transport *transport = session->transport;
	const struct p2p_transport_events *events = transport->config.events;

	p2p_require(session->closed);
	probe_end(session);
	p2p_list_remove(&session->work);
	if (session->up)
		transport->up_count--;
	if (session->up)
		events->session_down(transport->config.ctx, session, session->code, session->text);
	else if (events->failed)
		events->failed(transport->config.ctx, &session->info, session->code, session->text);
	p2p_list_remove(&session->link);
	p2p_list_remove(&session->work); /* the callback may have put it there again */
	transport->count--;
	p2p_channel_deinit(&session->channel);
	p2p_free(session);
}

static void handle(struct p2p_session *session)
{
	struct p2p_transport *transport = session->transport;

	if (session->closed) {
		reap(session);
		return;
	}
	if (session->channel.state == P2P_CHANNEL_HELD) {
		meet(session);
		return;
	}
	if (session->resume) {
		session->resume = false;
		p2p_channel_resume(&session->channel);
	}
	p2p_channel_flush(&session->channel);
	if (!session->closed && session->up && p2p_sendq_relieved(&session->channel.queue))
		transport->config.events->writable(transport->config.ctx, session);
}

static void enter(struct p2p_transport *transport)
{
	transport->depth++;
}

static void mark_probes(struct p2p_transport *transport)
{
	struct p2p_list *at, *tmp;

	if (transport->probe_count == 0)
		return;
	p2p_list_for_each (at, tmp, &transport->sessions) {
		struct p2p_session *session = p2p_container_of(at, struct p2p_session, link);

		if (session->probe_serial)
			mark(session);
	}
}

static void leave(struct p2p_transport *transport)
{
	p2p_require(transport->depth > 0);
	while (transport->depth == 1 && !p2p_list_empty(&transport->work)) {
		struct p2p_list *at = transport->work.next;

		p2p_list_remove(at);
		handle(p2p_container_of(at, struct p2p_session, work));
	}
	transport->depth--;
}

/* --- events of channels ------------------------------------------------------------------------
 */

static void session_held(void *ctx)
{
	mark(ctx);
}

static void session_message(void *ctx, enum p2p_class cls, const uint8_t *data, size_t len)
{
	struct p2p_session *session = ctx;
	struct p2p_transport *transport = session->transport;

	p2p_require(session->up);
	transport->config.events->message(transport->config.ctx, session, cls, data, len);
}

static void session_closed(void *ctx, int code, const char *text)
{
	struct p2p_session *session = ctx;

	p2p_require(!session->closed);
	session->closed = true;
	session->code = code;
	(void)snprintf(session->text, sizeof(session->text), "%s", text);
	mark(session);
	mark_probes(session->transport);
}

static const struct p2p_channel_events channel_events = {session_held, session_message,
							 session_closed};

/* --- events of links ---------------------------------------------------------------------------
 */

static void session_link_bytes(void *ctx, const uint8_t *data, size_t len)
{
	struct p2p_session *session = ctx;
	struct p2p_transport *transport = session->transport;

	enter(transport);
	p2p_channel_feed(&session->channel, data, len);
	mark(session);
	mark_probes(transport);
	leave(transport);
}

static void session_link_writable(void *ctx)
{
	struct p2p_session *session = ctx;
	struct p2p_transport *transport = session->transport;

	enter(transport);
	p2p_channel_link_writable(&session->channel);
	mark(session);
	leave(transport);
}

static void session_link_closed(void *ctx, int code, const char *text)
{
	struct p2p_session *session = ctx;
	struct p2p_transport *transport = session->transport;

	enter(transport);
	p2p_channel_link_closed(&session->channel, code, text);
	leave(transport);
}

static const struct p2p_link_events link_events = {session_link_bytes, session_link_writable,
						   session_link_closed};

/* --- links come in -----------------------------------------------------------------------------
 */

static size_t host_len(const char *address)
{
	const char *colon = strrchr(address, ':');

	return colon ? (size_t)(colon - address) : strlen(address);
}

/* Whether one more handshake from this address is over a limit. */
static bool over_limits(struct p2p_transport *transport, const char *address)
{
	size_t all = 0, unknown = 0, host = host_len(address);
	struct p2p_list *at, *tmp;

	p2p_list_for_each (at, tmp, &transport->sessions) {
		struct p2p_session *session = p2p_container_of(at, struct p2p_session, link);

		if (session->info.dialled || session->closed ||
		    session->channel.state != P2P_CHANNEL_HANDSHAKE)
			continue;
		all++;
		if (!p2p_channel_known(&session->channel) && host == host_len(session->address) &&
		    memcmp(session->address, address, host) == 0)
			unknown++;
	}
	return all >= P2P_HANDSHAKES_MAX || unknown >= P2P_HANDSHAKES_PER_IP_MAX;
}

/* secret NULL: the link was accepted. NULL, and the link closed, if memory ran out. */
static struct p2p_session *session_new(struct p2p_transport *transport, struct p2p_link *link,
				       const char *address, const struct p2p_dial *dial)
{
	struct p2p_session *session = p2p_calloc(1, sizeof(*session));
	struct p2p_channel_config config = {
		.handshake = &transport->handshake,
		.env = transport->config.env,
		.events = &channel_events,
		.ctx = session,
		.secret = dial ? dial->secret : NULL,
		.expected = dial ? dial->expected : NULL,
		.keepalive_ms = transport->config.keepalive_ms,
		.dead_ms = transport->config.dead_ms,
		.handshake_ms = transport->config.handshake_ms,
	};

	if (!session) {
		p2p_link_close(link, false);
		return NULL;
	}
	session->transport = transport;
	session->serial = ++transport->serial;
	(void)snprintf(session->address, sizeof(session->address), "%s", address);
	session->info.address = session->address;
	session->info.dialled = dial != NULL;
	session->info.cookie = dial ? dial->cookie : NULL;
	p2p_list_init(&session->work);
	p2p_list_push(&transport->sessions, &session->link);
	transport->count++;
	p2p_channel_init(&session->channel, &config, link);
	return session;
}

void p2p_transport_accept(struct p2p_transport *transport, struct p2p_link *link,
			  const char *address)
{
	bool over = over_limits(transport, address);
	struct p2p_session *session;

	enter(transport);
	session = session_new(transport, link, address, NULL);
	if (session && transport->stopping)
		p2p_channel_close(&session->channel, P2P_ECANCELED, "the node stops");
	else if (session && over)
		p2p_channel_close(&session->channel, P2P_EQUOTA, "too many handshakes at once");
	else if (session)
		p2p_link_attach(link, &link_events, session);
	else
		p2p_log(transport->config.log, P2P_LOG_ERROR, "transport",
			"no memory for a connection from %s", address);
	leave(transport);
}

void p2p_transport_dial(struct p2p_transport *transport, struct p2p_link *link,
			const struct p2p_dial *dial)
{
	struct p2p_session *session;

	p2p_require(dial->secret != NULL);
	enter(transport);
	session = session_new(transport, link, dial->address, dial);
	if (session && transport->stopping) {
		p2p_channel_close(&session->channel, P2P_ECANCELED, "the node stops");
	} else if (session) {
		p2p_link_attach(link, &link_events, session);
		p2p_channel_flush(&session->channel);
	} else {
		const struct p2p_session_info info = {.address = dial->address,
						      .dialled = true,
						      .cookie = dial->cookie};

		p2p_log(transport->config.log, P2P_LOG_ERROR, "transport",
			"no memory for a connection to %s", dial->address);
		if (transport->config.events->failed)
			transport->config.events->failed(transport->config.ctx, &info, P2P_ENOMEM,
							 "out of memory");
	}
	leave(transport);
}

/* --- life --------------------------------------------------------------------------------------
 */

static int check_config(const struct p2p_transport_config *config)
{
	size_t i;

	if (config->versions &&
	    (config->version_count == 0 || config->version_count > P2P_VERSIONS_MAX))
		return P2P_EINVAL;
	for (i = 0; config->versions && i < config->version_count; i++)
		if (config->versions[i] == 0)
			return P2P_EINVAL;
	return strlen(config->software) > P2P_SOFTWARE_MAX ? P2P_EINVAL : 0;
}

static void take_config(struct p2p_transport *transport, const struct p2p_transport_config *config)
{
	struct p2p_transport_config *own = &transport->config;

	*own = *config;
	own->keepalive_ms = config->keepalive_ms ? config->keepalive_ms : P2P_KEEPALIVE_MS;
	own->dead_ms = config->dead_ms ? config->dead_ms : P2P_DEAD_MS;
	own->handshake_ms = config->handshake_ms ? config->handshake_ms : P2P_HANDSHAKE_TIMEOUT_MS;
	transport->identity = *config->identity;
	own->identity = &transport->identity;
	(void)snprintf(transport->software, sizeof(transport->software), "%s", config->software);
	transport->versions[0] = P2P_MESSAGE_VERSION;
	if (config->versions)
		memcpy(transport->versions, config->versions,
		       config->version_count * sizeof(config->versions[0]));
	transport->handshake = (struct p2p_handshake_config){
		.local = &transport->identity,
		.mesh = &own->mesh,
		.env = config->env,
		.versions = transport->versions,
		.version_count = config->versions ? config->version_count : 1,
		.software = transport->software,
		.secrets = transport_secrets,
		.fresh = transport_fresh,
		.ctx = transport,
	};
}

int p2p_transport_new(const struct p2p_transport_config *config,
		      struct p2p_transport **out_transport)
{
	struct p2p_transport *transport;

	p2p_require(config->identity != NULL);
	p2p_require(config->events != NULL);
	if (check_config(config))
		return P2P_EINVAL;
	transport = p2p_calloc(1, sizeof(*transport));
	if (!transport)
		return P2P_ENOMEM;
	transport->tags = p2p_calloc(P2P_PREFACE_REPLAY_MAX, sizeof(*transport->tags));
	if (!transport->tags) {
		p2p_free(transport);
		return P2P_ENOMEM;
	}
	p2p_list_init(&transport->sessions);
	p2p_list_init(&transport->work);
	take_config(transport, config);
	*out_transport = transport;
	return 0;
}

/* In order, or at once. */
static void close_all(struct p2p_transport *transport, bool in_order, const char *text)
{
	struct p2p_list *at, *tmp;

	transport->stopping = true;
	enter(transport);
	p2p_list_for_each (at, tmp, &transport->sessions) {
		struct p2p_session *session = p2p_container_of(at, struct p2p_session, link);

		p2p_channel_close(&session->channel, in_order && session->up ? 0 : P2P_ECANCELED,
				  text);
	}
	leave(transport);
}

void p2p_transport_stop(struct p2p_transport *transport, const char *text)
{
	close_all(transport, true, text);
}

void p2p_transport_free(struct p2p_transport *transport)
{
	if (!transport)
		return;
	p2p_require(transport->depth == 0);
	close_all(transport, false, "the node stops");
	p2p_require(p2p_list_empty(&transport->sessions));
	p2p_self_wipe(&transport->identity);
	p2p_free(transport->tags);
	p2p_free(transport);
}

struct p2p_time p2p_transport_tick(struct p2p_transport *transport, struct p2p_time now)
{
	struct p2p_list *at, *tmp;

	enter(transport);
	p2p_list_for_each (at, tmp, &transport->sessions) {
		struct p2p_session *session = p2p_container_of(at, struct p2p_session, link);

		(void)p2p_channel_tick(&session->channel, now); /* asked for all below */
	}
	mark_probes(transport);
	leave(transport);
	return p2p_transport_deadline(transport);
}

struct p2p_time p2p_transport_deadline(const struct p2p_transport *transport)
{
	struct p2p_time first = {NEVER}, at;
	struct p2p_list *link;

	for (link = transport->sessions.next; link != &transport->sessions; link = link->next) {
		const struct p2p_session *session =
			p2p_container_of(link, struct p2p_session, link);

		at = p2p_channel_deadline(&session->channel);
		if (session->probe_serial && session->probe_until.ms < at.ms)
			at = session->probe_until;
		if (at.ms < first.ms)
			first = at;
	}
	return first;
}

size_t p2p_transport_count(const struct p2p_transport *transport)
{
	return transport->count;
}

size_t p2p_transport_session_count(const struct p2p_transport *transport)
{
	return transport->up_count;
}

struct p2p_session *p2p_transport_find(struct p2p_transport *transport, const struct p2p_key *node)
{
	struct p2p_session *session = find_up(transport, node);

	return session && !session->closed ? session : NULL;
}

/* --- sessions ----------------------------------------------------------------------------------
 */

int p2p_transport_send(struct p2p_session *session, enum p2p_class cls, const void *data,
		       size_t len)
{
	struct p2p_transport *transport = session->transport;
	int rc;

	enter(transport);
	rc = p2p_channel_send(&session->channel, cls, data, len);
	if (!rc)
		mark(session);
	leave(transport);
	return rc;
}

void p2p_transport_pause(struct p2p_session *session, bool paused)
{
	struct p2p_transport *transport = session->transport;

	enter(transport);
	p2p_channel_pause(&session->channel, paused);
	session->resume = !paused;
	mark(session);
	leave(transport);
}

void p2p_transport_close(struct p2p_session *session, int code, const char *text)
{
	struct p2p_transport *transport = session->transport;

	enter(transport);
	p2p_channel_close(&session->channel, code, text);
	leave(transport);
}

const struct p2p_session_info *p2p_session_info(const struct p2p_session *session)
{
	return &session->info;
}

void p2p_session_stats(const struct p2p_session *session, struct p2p_session_stats *out)
{
	const struct p2p_channel *channel = &session->channel;

	*out = (struct p2p_session_stats){
		.sent_bytes = channel->sent_bytes,
		.received_bytes = channel->received_bytes,
		.sent_messages = channel->sent_messages,
		.received_messages = channel->received_messages,
		.queued_bytes = p2p_sendq_bytes(&channel->queue) + channel->out.len,
		.rtt_ms = channel->rtt_ms,
		.up_since = session->up_since,
		.heard_at = channel->heard_at,
	};
}

void p2p_session_set_user(struct p2p_session *session, void *user)
{
	session->user = user;
}

void *p2p_session_user(const struct p2p_session *session)
{
	return session->user;
}
