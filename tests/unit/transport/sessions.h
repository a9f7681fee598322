/* Two nodes with their transports on one wire in memory, that write down what they are told; for
 * tests of sessions. */
#ifndef P2P_TESTS_UNIT_TRANSPORT_SESSIONS_H
#define P2P_TESTS_UNIT_TRANSPORT_SESSIONS_H

#include "tests/unit/transport/fixture.h"
#include "transport/pair.h"
#include "transport/transport.h"

#define PAIR_BYTES 65536

struct node {
	struct fixture_world *world;
	struct p2p_transport *transport;
	struct p2p_self identity;
	struct p2p_secret secret;
	struct p2p_session *session; /* the last that came up */
	int ups, downs, fails, messages, writables;
	int down_code, fail_code;
	char down_text[256];
	size_t received_bytes;
	enum p2p_class last_class;
	uint8_t last_byte;
	bool echo, close_on_message, close_on_up, pause_on_message, in_callback;
	struct p2p_session_info last_info;
};

static inline void callback_enter(struct node *node)
{
	assert_false(node->in_callback); /* never nested */
	node->in_callback = true;
}

static inline void on_up(void *ctx, struct p2p_session *session,
			 const struct p2p_session_info *info)
{
	struct node *node = ctx;

	callback_enter(node);
	assert_ptr_equal(p2p_session_info(session), info);
	node->session = session;
	node->ups++;
	node->last_info = *info;
	p2p_session_set_user(session, node);
	if (node->close_on_up)
		p2p_transport_close(session, P2P_EREVOKED, "not you");
	node->in_callback = false;
}

static inline void on_message(void *ctx, struct p2p_session *session, enum p2p_class cls,
			      const uint8_t *data, size_t len)
{
	struct node *node = ctx;

	callback_enter(node);
	assert_ptr_equal(p2p_session_user(session), node);
	node->messages++;
	node->received_bytes += len;
	node->last_class = cls;
	node->last_byte = data[len - 1];
	if (node->echo)
		assert_int_equal(p2p_transport_send(session, cls, data, len), 0);
	if (node->pause_on_message)
		p2p_transport_pause(session, true);
	if (node->close_on_message)
		p2p_transport_close(session, P2P_EPROTO, "enough");
	assert_int_equal(data[len - 1], node->last_byte); /* still there after a close */
	node->in_callback = false;
}

static inline void on_writable(void *ctx, struct p2p_session *session)
{
	struct node *node = ctx;

	(void)session;
	callback_enter(node);
	node->writables++;
	node->in_callback = false;
}

static inline void on_down(void *ctx, struct p2p_session *session, int code, const char *text)
{
	struct node *node = ctx;

	callback_enter(node);
	assert_int_equal(p2p_transport_send(session, P2P_CLASS_SMALL, "x", 1), P2P_ECLOSED);
	p2p_transport_close(session, P2P_EPROTO, "again"); /* harmless */
	p2p_transport_pause(session, true);
	if (node->session == session)
		node->session = NULL;
	node->downs++;
	node->down_code = code;
	(void)snprintf(node->down_text, sizeof(node->down_text), "%s", text);
	node->in_callback = false;
}

static inline void on_failed(void *ctx, const struct p2p_session_info *info, int code,
			     const char *text)
{
	struct node *node = ctx;

	callback_enter(node);
	assert_non_null(text);
	node->fails++;
	node->fail_code = code;
	node->last_info = *info;
	node->in_callback = false;
}

static inline size_t on_secrets(void *ctx, enum p2p_kind kind, struct p2p_secret *out, size_t max)
{
	struct node *node = ctx;

	assert_true(max >= 1);
	if (kind != node->secret.kind)
		return 0;
	out[0] = node->secret;
	return 1;
}

static const struct p2p_transport_events events = {on_up, on_message, on_writable, on_down,
						   on_failed};

static inline void node_init(struct node *node, struct fixture_world *world, uint8_t who,
			     uint8_t instance)
{
	struct p2p_transport_config config = {
		.env = &world->env,
		.events = &events,
		.ctx = node,
		.identity = &node->identity,
		.mesh = {{7}},
		.software = "test/1",
		.secrets = on_secrets,
	};

	memset(node, 0, sizeof(*node));
	node->world = world;
	fixture_identity(&node->identity, who, instance);
	fixture_secret(&node->secret, P2P_KIND_MEMBER, 9);
	assert_int_equal(p2p_transport_new(&config, &node->transport), 0);
}

struct world {
	struct fixture_world base;
	struct p2p_wire *wire;
	struct node a, b; /* a has the smaller key */
};

static inline int setup(void **state)
{
	static struct world world;

	fixture_world_init(&world.base);
	assert_int_equal(p2p_wire_new(&world.wire), 0);
	node_init(&world.a, &world.base, 1, 1);
	node_init(&world.b, &world.base, 2, 2);
	if (p2p_key_cmp(&world.a.identity.node, &world.b.identity.node) > 0) {
		p2p_transport_free(world.a.transport);
		p2p_transport_free(world.b.transport);
		node_init(&world.a, &world.base, 2, 1);
		node_init(&world.b, &world.base, 1, 2);
	}
	*state = &world;
	return 0;
}

static inline int teardown(void **state)
{
	struct world *world = *state;

	p2p_transport_free(world->a.transport);
	p2p_transport_free(world->b.transport);
	(void)p2p_wire_pump(world->wire, P2P_LINK_CHUNK_MAX); /* frees what is closed */
	assert_int_equal(p2p_wire_count(world->wire), 0);
	p2p_wire_free(world->wire);
	return 0;
}

static inline struct p2p_pair *connect_from(struct world *world, struct node *from, struct node *to,
					    const char *address)
{
	struct p2p_dial dial = {.address = address, .secret = &from->secret, .cookie = from};
	struct p2p_link *ends[2];
	struct p2p_pair *pair;

	assert_int_equal(p2p_wire_pair(world->wire, PAIR_BYTES, ends, &pair), 0);
	p2p_transport_accept(to->transport, ends[1], address);
	p2p_transport_dial(from->transport, ends[0], &dial);
	return pair;
}

static inline void run(struct world *world)
{
	assert_true(p2p_wire_run(world->wire, P2P_LINK_CHUNK_MAX, 10000));
}

/* Lets time pass in small steps, as a loop would that sleeps until the next deadline. */
static inline void pass_ms(struct world *world, uint64_t ms)
{
	uint64_t end = world->base.now.ms + ms;

	while (world->base.now.ms < end) {
		world->base.now.ms += end - world->base.now.ms < 50 ? end - world->base.now.ms : 50;
		(void)p2p_transport_tick(world->a.transport, world->base.now);
		(void)p2p_transport_tick(world->b.transport, world->base.now);
		run(world);
	}
}

#endif
