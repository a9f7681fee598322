/* Sessions: one at most for each peer, whatever the order of events; limits before a peer is known;
 * keepalive, closing, and that nothing is freed under a caller's feet. */
#include "tests/unit/transport/fixture.h"

#include <stdlib.h>

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

static void callback_enter(struct node *node)
{
	assert_false(node->in_callback); /* never nested */
	node->in_callback = true;
}

static void on_up(void *ctx, struct p2p_session *session, const struct p2p_session_info *info)
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

static void on_message(void *ctx, struct p2p_session *session, enum p2p_class cls,
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

static void on_writable(void *ctx, struct p2p_session *session)
{
	struct node *node = ctx;

	(void)session;
	callback_enter(node);
	node->writables++;
	node->in_callback = false;
}

static void on_down(void *ctx, struct p2p_session *session, int code, const char *text)
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

static void on_failed(void *ctx, const struct p2p_session_info *info, int code, const char *text)
{
	struct node *node = ctx;

	callback_enter(node);
	assert_non_null(text);
	node->fails++;
	node->fail_code = code;
	node->last_info = *info;
	node->in_callback = false;
}

static size_t on_secrets(void *ctx, enum p2p_kind kind, struct p2p_secret *out, size_t max)
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

static void node_init(struct node *node, struct fixture_world *world, uint8_t who, uint8_t instance)
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

static int setup(void **state)
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

static int teardown(void **state)
{
	struct world *world = *state;

	p2p_transport_free(world->a.transport);
	p2p_transport_free(world->b.transport);
	(void)p2p_wire_pump(world->wire, P2P_LINK_CHUNK_MAX); /* frees what is closed */
	assert_int_equal(p2p_wire_count(world->wire), 0);
	p2p_wire_free(world->wire);
	return 0;
}

static struct p2p_pair *connect_from(struct world *world, struct node *from, struct node *to,
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

static void run(struct world *world)
{
	assert_true(p2p_wire_run(world->wire, P2P_LINK_CHUNK_MAX, 10000));
}

/* Lets time pass in small steps, as a loop would that sleeps until the next deadline. */
static void pass_ms(struct world *world, uint64_t ms)
{
	uint64_t end = world->base.now.ms + ms;

	while (world->base.now.ms < end) {
		world->base.now.ms += end - world->base.now.ms < 50 ? end - world->base.now.ms : 50;
		(void)p2p_transport_tick(world->a.transport, world->base.now);
		(void)p2p_transport_tick(world->b.transport, world->base.now);
		run(world);
	}
}

static void peers_meet_and_talk(void **state)
{
	struct world *world = *state;
	struct p2p_session_stats stats;

	(void)connect_from(world, &world->a, &world->b, "10.0.0.1:7");
	run(world);
	assert_int_equal(world->a.ups, 1);
	assert_int_equal(world->b.ups, 1);
	assert_int_equal(p2p_key_cmp(&world->a.last_info.peer.node, &world->b.identity.node), 0);
	assert_int_equal(p2p_key_cmp(&world->b.last_info.peer.node, &world->a.identity.node), 0);
	assert_true(world->a.last_info.dialled);
	assert_false(world->b.last_info.dialled);
	assert_ptr_equal(world->a.last_info.cookie, &world->a);
	assert_string_equal(world->b.last_info.address, "10.0.0.1:7");
	assert_string_equal(world->b.last_info.peer.software, "test/1");
	assert_int_equal(world->b.last_info.peer.secret_id, 9);
	assert_int_equal(world->b.last_info.peer.version, P2P_MESSAGE_VERSION);
	world->b.echo = true;
	assert_int_equal(p2p_transport_send(world->a.session, P2P_CLASS_SMALL, "hello", 5), 0);
	assert_int_equal(p2p_transport_send(world->a.session, P2P_CLASS_SMALL, "", 0), P2P_EINVAL);
	run(world);
	assert_int_equal(world->b.messages, 1);
	assert_int_equal(world->a.messages, 1);
	assert_int_equal(world->a.last_byte, 'o');
	p2p_session_stats(world->a.session, &stats);
	assert_int_equal(stats.sent_messages, 1);
	assert_int_equal(stats.received_messages, 1);
	assert_ptr_equal(p2p_transport_find(world->a.transport, &world->b.identity.node),
			 world->a.session);
}

static void big_messages_cross_bounded_links(void **state)
{
	static uint8_t big[P2P_MESSAGE_MAX];
	struct world *world = *state;
	int i;

	(void)connect_from(world, &world->a, &world->b, "x");
	run(world);
	memset(big, 5, sizeof(big));
	for (i = 0; i < 5; i++) {
		assert_int_equal(p2p_transport_send(world->a.session, P2P_CLASS_BULK, big,
						    sizeof(big)),
				 0);
		assert_int_equal(p2p_transport_send(world->a.session, P2P_CLASS_BULK, big, 600000),
				 P2P_EBUSY);
		assert_int_equal(p2p_transport_send(world->a.session, P2P_CLASS_SMALL, "s", 1), 0);
		run(world);
	}
	assert_int_equal(world->b.messages, 10);
	assert_int_equal(world->b.received_bytes, 5 * (sizeof(big) + 1));
	assert_int_equal(world->a.writables, 5);
	assert_int_equal(world->b.last_class, P2P_CLASS_BULK); /* the small one overtook */
}

static void strangers_get_no_byte(void **state)
{
	struct world *world = *state;
	struct p2p_pair *pair;

	fixture_secret(&world->a.secret, P2P_KIND_MEMBER, 8);
	pair = connect_from(world, &world->a, &world->b, "x");
	(void)p2p_pair_deliver(pair, 1, P2P_LINK_CHUNK_MAX);
	assert_int_equal(p2p_pair_waiting(pair, 0), 0);
	run(world);
	assert_int_equal(world->a.fails, 1);
	assert_int_equal(world->b.fails, 1);
	assert_int_equal(world->b.fail_code, P2P_EAUTH);
	assert_int_equal(world->a.fail_code, P2P_ECLOSED);
	assert_int_equal(world->a.ups + world->b.ups, 0);
}

static void another_peer_than_expected_is_refused(void **state)
{
	struct world *world = *state;
	struct p2p_dial dial = {.address = "x",
				.secret = &world->a.secret,
				.expected = &world->a.identity.node};
	struct p2p_link *ends[2];

	assert_int_equal(p2p_wire_pair(world->wire, PAIR_BYTES, ends, NULL), 0);
	p2p_transport_accept(world->b.transport, ends[1], "x");
	p2p_transport_dial(world->a.transport, ends[0], &dial);
	run(world);
	assert_int_equal(world->a.fail_code, P2P_EAUTH);
	assert_int_equal(world->a.ups, 0);
	pass_ms(world, 6000);
	assert_int_equal(p2p_transport_count(world->a.transport), 0);
	assert_int_equal(p2p_transport_count(world->b.transport), 0);
}

struct silent {
	int closed, bytes;
};

static void silent_bytes(void *ctx, const uint8_t *data, size_t len)
{
	(void)data;
	((struct silent *)ctx)->bytes += (int)len;
}

static void silent_writable(void *ctx)
{
	(void)ctx;
}

static void silent_closed(void *ctx, int code, const char *text)
{
	(void)code;
	(void)text;
	((struct silent *)ctx)->closed++;
}

static const struct p2p_link_events silent_events = {silent_bytes, silent_writable, silent_closed};

static void handshakes_at_once_are_limited(void **state)
{
	struct world *world = *state;
	struct p2p_link *ends[2];
	char address[32];
	int i;

	for (i = 0; i < 100; i++) { /* 25 addresses, 4 each */
		assert_int_equal(p2p_wire_pair(world->wire, PAIR_BYTES, ends, NULL), 0);
		(void)snprintf(address, sizeof(address), "10.0.0.%d:%d", i / 4, i);
		p2p_transport_accept(world->b.transport, ends[1], address);
		p2p_link_close(ends[0], true);
	}
	assert_int_equal(world->b.fails, 100 - P2P_HANDSHAKES_MAX);
	assert_int_equal(world->b.fail_code, P2P_EQUOTA);
	run(world);
	assert_int_equal(world->b.fails, 100);
	assert_int_equal(p2p_transport_count(world->b.transport), 0);
}

static void silence_times_out_and_one_address_has_few_tries(void **state)
{
	struct world *world = *state;
	struct silent silent = {0};
	struct p2p_link *ends[10][2];
	int i;

	for (i = 0; i < 10; i++) {
		assert_int_equal(p2p_wire_pair(world->wire, PAIR_BYTES, ends[i], NULL), 0);
		p2p_transport_accept(world->b.transport, ends[i][1], "[fe80::1]:77");
		p2p_link_attach(ends[i][0], &silent_events, &silent);
	}
	assert_int_equal(world->b.fails, 10 - P2P_HANDSHAKES_PER_IP_MAX);
	run(world);
	assert_int_equal(silent.closed, 10 - P2P_HANDSHAKES_PER_IP_MAX);
	/* a peer that is known is not in the way of others from its address, nor they in its */
	(void)connect_from(world, &world->a, &world->b, "[fe80::2]:78");
	run(world);
	assert_int_equal(world->b.ups, 1);
	pass_ms(world, P2P_HANDSHAKE_TIMEOUT_MS - 100);
	assert_int_equal(world->b.fails, 10 - P2P_HANDSHAKES_PER_IP_MAX);
	pass_ms(world, 200);
	assert_int_equal(world->b.fails, 10);
	assert_int_equal(world->b.fail_code, P2P_ETIMEOUT);
	assert_int_equal(silent.closed, 10);
	assert_int_equal(silent.bytes, 0);
	for (i = 0; i < 10; i++)
		p2p_link_close(ends[i][0], false);
	assert_int_equal(world->b.downs, 0);
}

static void fifty_nodes_of_one_address_are_let_in(void **state)
{
	struct world *world = *state;
	static struct node nodes[50];
	int i;

	for (i = 0; i < 50; i++) {
		node_init(&nodes[i], &world->base, (uint8_t)(100 + i), (uint8_t)(100 + i));
		(void)connect_from(world, &nodes[i], &world->b, "127.0.0.1:1");
		/* the tag arrives before the next one dials; the handshake goes on later */
		(void)p2p_wire_pump(world->wire, P2P_LINK_CHUNK_MAX);
	}
	run(world);
	assert_int_equal(world->b.ups, 50);
	assert_int_equal(p2p_transport_session_count(world->b.transport), 50);
	for (i = 0; i < 50; i++)
		p2p_transport_free(nodes[i].transport);
	run(world);
	assert_int_equal(world->b.downs, 50);
}

static void a_slow_handshake_ends_in_time(void **state)
{
	struct world *world = *state;
	struct p2p_pair *pair = connect_from(world, &world->a, &world->b, "x");
	int i;

	p2p_pair_hold(pair, true);
	for (i = 0; i < 60 && world->b.fails == 0; i++) {
		(void)p2p_pair_deliver(pair, 1, 1);
		pass_ms(world, 100);
	}
	assert_int_equal(world->b.fail_code, P2P_ETIMEOUT);
	assert_int_equal(p2p_pair_waiting(pair, 0), 0);
	p2p_pair_hold(pair, false);
	run(world);
	assert_int_equal(world->a.fails, 1);
}

static void idle_sessions_live_and_dead_ones_end(void **state)
{
	struct world *world = *state;
	struct p2p_pair *pair = connect_from(world, &world->a, &world->b, "x");
	struct p2p_session_stats stats;

	run(world);
	pass_ms(world, 60000);
	assert_int_equal(world->a.downs + world->b.downs, 0);
	p2p_session_stats(world->a.session, &stats);
	assert_true(stats.rtt_ms >= 1);
	assert_true(stats.sent_bytes < 2000); /* an idle minute costs little */
	p2p_pair_hold(pair, true);	      /* nothing arrives any more, and nobody is told */
	pass_ms(world, P2P_DEAD_MS - P2P_KEEPALIVE_MS - 200);
	assert_int_equal(world->a.downs + world->b.downs, 0);
	pass_ms(world, P2P_KEEPALIVE_MS + 400);
	assert_int_equal(world->a.downs, 1);
	assert_int_equal(world->b.downs, 1);
	assert_int_equal(world->a.down_code, P2P_ETIMEOUT);
	p2p_pair_hold(pair, false);
}

static void a_paused_session_is_not_dead(void **state)
{
	struct world *world = *state;
	int i;

	(void)connect_from(world, &world->a, &world->b, "x");
	run(world);
	world->b.pause_on_message = true;
	for (i = 0; i < 5; i++)
		assert_int_equal(p2p_transport_send(world->a.session, P2P_CLASS_SMALL, "m", 1), 0);
	run(world);
	assert_int_equal(world->b.messages, 1); /* none after the pause, though all came at once */
	pass_ms(world, 60000);
	assert_int_equal(world->a.downs + world->b.downs, 0);
	world->b.pause_on_message = false;
	p2p_transport_pause(world->b.session, false);
	run(world);
	assert_int_equal(world->b.messages, 5);
	pass_ms(world, 60000);
	assert_int_equal(world->a.downs + world->b.downs, 0);
}

static void closing_tells_the_reason(void **state)
{
	struct world *world = *state;

	(void)connect_from(world, &world->a, &world->b, "x");
	run(world);
	p2p_transport_close(world->a.session, P2P_EREVOKED, "no longer a member");
	assert_int_equal(world->a.downs, 1);
	assert_int_equal(world->a.down_code, P2P_EREVOKED);
	run(world);
	assert_int_equal(world->b.down_code, P2P_EREVOKED);
	assert_string_equal(world->b.down_text, "no longer a member");
	assert_int_equal(p2p_transport_count(world->a.transport), 0);
	assert_int_equal(p2p_transport_count(world->b.transport), 0);
}

static void closing_in_order_sends_what_was_queued(void **state)
{
	static uint8_t big[P2P_MESSAGE_MAX];
	struct world *world = *state;

	(void)connect_from(world, &world->a, &world->b, "x");
	run(world);
	assert_int_equal(p2p_transport_send(world->a.session, P2P_CLASS_BULK, big, sizeof(big)), 0);
	p2p_transport_stop(world->a.transport, "bye");
	assert_int_equal(world->a.downs, 0);
	run(world);
	assert_int_equal(world->b.messages, 1);
	assert_int_equal(world->a.downs, 1);
	assert_int_equal(world->a.down_code, 0);
	assert_int_equal(world->b.down_code, 0);
	assert_string_equal(world->b.down_text, "bye");
}

static void closing_inside_callbacks_is_safe(void **state)
{
	struct world *world = *state;

	world->b.close_on_message = true;
	(void)connect_from(world, &world->a, &world->b, "x");
	run(world);
	assert_int_equal(p2p_transport_send(world->a.session, P2P_CLASS_SMALL, "1", 1), 0);
	assert_int_equal(p2p_transport_send(world->a.session, P2P_CLASS_SMALL, "2", 1), 0);
	run(world);
	assert_int_equal(world->b.messages, 1);
	assert_int_equal(world->b.downs, 1);
	assert_int_equal(world->a.down_code, P2P_EPROTO);
	world->b.close_on_message = false;
	world->b.close_on_up = true;
	(void)connect_from(world, &world->a, &world->b, "x");
	run(world);
	assert_int_equal(world->b.downs, 2);
	assert_int_equal(world->a.down_code, P2P_EREVOKED);
}

static void a_broken_link_ends_one_session_only(void **state)
{
	struct world *world = *state;
	struct p2p_pair *pair = connect_from(world, &world->a, &world->b, "x");
	uint8_t *bytes;
	size_t len;

	run(world);
	assert_int_equal(p2p_transport_send(world->a.session, P2P_CLASS_SMALL, "m", 1), 0);
	bytes = p2p_pair_bytes(pair, 1, &len);
	assert_int_equal(len, 2 + 1 + 1 + 16);
	bytes[3] ^= 1;
	run(world);
	assert_int_equal(world->b.messages, 0);
#ifndef P2P_TEST_PLAINTEXT
	assert_int_equal(world->b.down_code, P2P_EAUTH);
	assert_int_equal(world->a.down_code, P2P_EAUTH); /* told */
#endif
	pair = connect_from(world, &world->a, &world->b, "x");
	run(world);
	assert_int_equal(world->b.ups, 2);
	p2p_pair_cut(pair);
	run(world);
	assert_int_equal(world->a.downs, 2);
	assert_int_equal(world->a.down_code, P2P_ENET);
}

static void replayed_first_messages_get_no_byte(void **state)
{
	struct world *world = *state;
	struct p2p_pair *pair = connect_from(world, &world->a, &world->b, "x");
	uint8_t message_1[512], *bytes;
	struct silent silent = {0};
	struct p2p_link *ends[2];
	size_t len;

	bytes = p2p_pair_bytes(pair, 1, &len);
	assert_true(len > 0 && len <= sizeof(message_1));
	memcpy(message_1, bytes, len);
	run(world);
	assert_int_equal(world->b.ups, 1);
	assert_int_equal(p2p_wire_pair(world->wire, PAIR_BYTES, ends, &pair), 0);
	p2p_transport_accept(world->b.transport, ends[1], "y");
	p2p_link_attach(ends[0], &silent_events, &silent);
	assert_int_equal(p2p_link_send(ends[0], message_1, len), 0);
	run(world);
	assert_int_equal(world->b.fail_code, P2P_EAUTH);
	assert_int_equal(silent.bytes, 0);
	assert_int_equal(silent.closed, 1);
	assert_int_equal(world->b.downs, 0);
	p2p_link_close(ends[0], false);
}

/* --- second sessions ------------------------------------------------------------------------- */

static void assert_one_session(struct world *world)
{
	int messages = world->b.messages;

	assert_int_equal(p2p_transport_session_count(world->a.transport), 1);
	assert_int_equal(p2p_transport_session_count(world->b.transport), 1);
	assert_int_equal(p2p_transport_count(world->a.transport), 1);
	assert_int_equal(p2p_transport_count(world->b.transport), 1);
	assert_int_equal(world->a.ups - world->a.downs, 1);
	assert_int_equal(world->b.ups - world->b.downs, 1);
	assert_non_null(world->a.session);
	assert_non_null(world->b.session);
	assert_int_not_equal(p2p_session_info(world->a.session)->dialled,
			     p2p_session_info(world->b.session)->dialled);
	assert_int_equal(p2p_transport_send(world->a.session, P2P_CLASS_SMALL, "x", 1), 0);
	run(world);
	assert_int_equal(world->b.messages, messages + 1);
}

/* A schedule: which end of which pair gets how many bytes next, from a small generator. */
static uint32_t next_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

static void play(struct world *world, struct p2p_pair **pairs, uint32_t count, uint32_t seed)
{
	uint32_t i, pick;

	for (i = 0; i < count; i++)
		p2p_pair_hold(pairs[i], true); /* pairs live until the wire is pumped */
	for (i = 0; i < 40; i++) {
		pick = next_random(&seed);
		(void)p2p_pair_deliver(pairs[pick % count], pick / 8 % 2,
				       pick / 16 % 4 ? P2P_LINK_CHUNK_MAX : pick / 64 % 200 + 1);
	}
	for (i = 0; i < count; i++)
		p2p_pair_hold(pairs[i], false);
	run(world);
}

static void dials_of_both_sides_leave_one_session(void **state)
{
	struct world *world = *state;
	struct p2p_pair *pairs[2];
	uint32_t seed;

	for (seed = 1; seed <= 1000; seed++) {
		pairs[0] = connect_from(world, &world->a, &world->b, "ab");
		pairs[1] = connect_from(world, &world->b, &world->a, "ba");
		play(world, pairs, 2, seed * 2654435761u);
		pass_ms(world, P2P_PROBE_MS + 100);
		assert_one_session(world);
		p2p_transport_close(world->a.session, 0, "next");
		run(world);
		assert_int_equal(p2p_transport_count(world->a.transport), 0);
		assert_int_equal(p2p_transport_count(world->b.transport), 0);
	}
}

static void the_dial_of_the_smaller_key_stays(void **state)
{
	struct world *world = *state;

	(void)connect_from(world, &world->b, &world->a, "ba");
	run(world);
	(void)connect_from(world, &world->a, &world->b, "ab"); /* replaces at once */
	run(world);
	assert_one_session(world);
	assert_true(p2p_session_info(world->a.session)->dialled);
	assert_int_equal(world->a.down_code, P2P_EDUPLICATE);
	(void)connect_from(world, &world->b, &world->a, "ba"); /* refused: the other one answers */
	run(world);
	assert_one_session(world);
	assert_true(p2p_session_info(world->a.session)->dialled);
	assert_int_equal(world->b.fail_code, P2P_EDUPLICATE);
}

static void several_dials_of_each_side_leave_one_session(void **state)
{
	struct world *world = *state;
	struct p2p_pair *pairs[4];
	uint32_t seed;

	for (seed = 1; seed <= 500; seed++) {
		pairs[0] = connect_from(world, &world->a, &world->b, "ab1");
		pairs[1] = connect_from(world, &world->b, &world->a, "ba1");
		pairs[2] = connect_from(world, &world->a, &world->b, "ab2");
		pairs[3] = connect_from(world, &world->b, &world->a, "ba2");
		play(world, pairs, 4, seed * 2654435761u);
		pass_ms(world, 2 * P2P_PROBE_MS + 100);
		assert_one_session(world);
		p2p_transport_close(world->b.session, 0, "next");
		run(world);
		assert_int_equal(p2p_transport_count(world->a.transport), 0);
	}
}

static void a_half_open_session_gives_way(void **state)
{
	struct world *world = *state;
	struct p2p_pair *pair = connect_from(world, &world->a, &world->b, "ab");

	run(world);
	p2p_pair_hold(pair, true); /* b does not hear that a is gone */
	p2p_transport_close(world->a.session, P2P_ENET, "the cable");
	assert_int_equal(world->b.downs, 0);
	(void)connect_from(world, &world->a, &world->b, "ab again");
	run(world);
	assert_int_equal(world->b.ups, 1); /* it waits for a sign of life of the old one */
	pass_ms(world, P2P_PROBE_MS + 100);
	assert_int_equal(world->b.ups, 2);
	assert_int_equal(world->b.downs, 1);
	assert_int_equal(world->b.down_code, P2P_EDUPLICATE);
	p2p_pair_hold(pair, false);
	run(world);
	assert_one_session(world);
}

static void a_half_open_session_of_the_other_dial_gives_way(void **state)
{
	struct world *world = *state;
	struct p2p_pair *pair = connect_from(world, &world->a, &world->b, "ab");

	run(world);
	p2p_pair_hold(pair, true);
	p2p_transport_close(world->b.session, P2P_ENET, "the cable");
	(void)connect_from(world, &world->b, &world->a, "ba"); /* b has the greater key */
	run(world);
	pass_ms(world, P2P_PROBE_MS + 100);
	p2p_pair_hold(pair, false);
	run(world);
	assert_one_session(world);
	assert_false(p2p_session_info(world->a.session)->dialled);
}

/* The number that fixture_identity() made a key of. */
static uint8_t number_of(const struct node *node)
{
	struct p2p_self identity;

	fixture_identity(&identity, 1, 0);
	return p2p_key_cmp(&identity.node, &node->identity.node) == 0 ? 1 : 2;
}

static void a_restarted_peer_replaces_its_dead_self(void **state)
{
	struct world *world = *state;
	struct p2p_pair *pair = connect_from(world, &world->a, &world->b, "ab");
	struct node again;

	run(world);
	p2p_pair_hold(pair, true);
	node_init(&again, &world->base, number_of(&world->a), 77);
	(void)connect_from(world, &again, &world->b, "ab new");
	run(world);
	assert_int_equal(world->b.ups, 1);
	pass_ms(world, P2P_PROBE_MS + 100);
	assert_int_equal(world->b.ups, 2);
	assert_int_equal(world->b.downs, 1);
	assert_int_equal(world->b.last_info.peer.instance.bytes[0], 77);
	p2p_pair_hold(pair, false);
	p2p_transport_free(again.transport);
	run(world);
}

static void a_clone_is_refused_and_the_first_stays(void **state)
{
	struct world *world = *state;
	struct node clone;
	int i;

	(void)connect_from(world, &world->a, &world->b, "ab");
	run(world);
	node_init(&clone, &world->base, number_of(&world->a), 78);
	for (i = 0; i < 3; i++) {
		(void)connect_from(world, &clone, &world->b, "clone"); /* it dials */
		run(world);
		assert_int_equal(clone.fail_code, P2P_ECLONE);
		(void)connect_from(world, &world->b, &clone, "clone"); /* it is dialled */
		run(world);
		assert_int_equal(clone.down_code, P2P_ECLONE);
		assert_int_equal(world->b.fail_code, P2P_EDUPLICATE); /* not b is the clone */
	}
	assert_int_equal(world->b.downs, 0);
	assert_one_session(world);
	(void)connect_from(world, &clone, &world->a, "each other");
	run(world);
	assert_int_equal(clone.fail_code, P2P_ECLONE);
	assert_int_equal(world->a.fail_code, P2P_ECLONE);
	p2p_transport_free(clone.transport);
}

static void we_do_not_talk_to_ourselves(void **state)
{
	struct world *world = *state;

	(void)connect_from(world, &world->a, &world->a, "me");
	run(world);
	assert_int_equal(world->a.ups, 0);
	assert_int_equal(world->a.fails, 2);
	assert_int_equal(world->a.fail_code, P2P_EDUPLICATE);
	assert_int_equal(p2p_transport_count(world->a.transport), 0);
}

static void an_unproved_link_never_disturbs_a_session(void **state)
{
	struct world *world = *state;
	struct node fake;
	int i;

	(void)connect_from(world, &world->a, &world->b, "ab");
	run(world);
	node_init(&fake, &world->base, number_of(&world->a), 79);
	fixture_secret(&fake.secret, P2P_KIND_MEMBER, 66); /* claims the name, has no secret */
	for (i = 0; i < 50; i++) {
		(void)connect_from(world, &fake, &world->b, "ab");
		run(world);
	}
	assert_int_equal(world->b.downs, 0);
	assert_one_session(world);
	p2p_transport_free(fake.transport);
}

static size_t live_bytes;

static void *counting_malloc(size_t size)
{
	live_bytes++;
	return malloc(size);
}

static void *counting_realloc(void *ptr, size_t size)
{
	live_bytes += ptr == NULL;
	return realloc(ptr, size);
}

static void counting_free(void *ptr)
{
	live_bytes -= ptr != NULL;
	free(ptr);
}

static void a_thousand_reconnects_leak_nothing(void **state)
{
	struct world *world = *state;
	size_t before = 0;
	int i;

	for (i = 0; i < 1000; i++) {
		struct p2p_pair *pair = connect_from(world, &world->a, &world->b, "ab");

		run(world);
		assert_int_equal(world->a.ups, i + 1);
		assert_int_equal(p2p_transport_send(world->a.session, P2P_CLASS_SMALL, "x", 1), 0);
		if (i % 3 == 0)
			p2p_pair_cut(pair);
		else
			p2p_transport_close(i % 3 == 1 ? world->a.session : world->b.session,
					    i % 2 ? 0 : P2P_EPROTO, "cycle");
		run(world);
		(void)p2p_wire_pump(world->wire, 1);
		assert_int_equal(world->a.downs, i + 1);
		assert_int_equal(world->b.downs, i + 1);
		assert_int_equal(p2p_wire_count(world->wire), 0);
		assert_true(p2p_transport_deadline(world->a.transport).ms == UINT64_MAX);
		if (i == 0)
			before = live_bytes;
		assert_int_equal(live_bytes, before);
	}
}

static unsigned int allocations_left;

static void *failing_malloc(size_t size)
{
	if (allocations_left == 0)
		return NULL;
	allocations_left--;
	return counting_malloc(size);
}

static void *failing_realloc(void *ptr, size_t size)
{
	if (allocations_left == 0)
		return NULL;
	allocations_left--;
	return counting_realloc(ptr, size);
}

static const struct p2p_mem_hooks counting = {counting_malloc, counting_realloc, counting_free};
static const struct p2p_mem_hooks failing = {failing_malloc, failing_realloc, counting_free};

static void each_failed_allocation_costs_a_session_at_most(void **state)
{
	static uint8_t big[100000];
	struct world *world = *state;
	struct p2p_link *ends[2];
	unsigned int n;

	for (n = 0; n < 60; n++) {
		struct p2p_dial dial = {.address = "x", .secret = &world->a.secret};

		assert_int_equal(p2p_wire_pair(world->wire, PAIR_BYTES, ends, NULL), 0);
		p2p_mem_set_hooks(&failing);
		allocations_left = n;
		p2p_transport_accept(world->b.transport, ends[1], "x");
		p2p_transport_dial(world->a.transport, ends[0], &dial);
		run(world);
		if (world->a.session) /* 0 or P2P_ENOMEM */
			(void)!p2p_transport_send(world->a.session, P2P_CLASS_BULK, big,
						  sizeof(big));
		run(world);
		allocations_left = UINT32_MAX;
		pass_ms(world, P2P_HANDSHAKE_TIMEOUT_MS + P2P_DEAD_MS + 1000);
		if (world->a.session)
			p2p_transport_close(world->a.session, 0, "next");
		pass_ms(world, 2000);
		p2p_mem_set_hooks(&counting);
		assert_int_equal(p2p_transport_count(world->a.transport), 0);
		assert_int_equal(p2p_transport_count(world->b.transport), 0);
	}
	assert_true(world->b.messages > 0); /* the last rounds had memory enough */
}

static void a_config_that_cannot_work_is_refused(void **state)
{
	static const uint32_t none[1] = {0}, many[P2P_VERSIONS_MAX + 1] = {1, 2, 3, 4, 5, 6, 7, 8};
	struct world *world = *state;
	struct p2p_transport *transport = NULL;
	char software[P2P_SOFTWARE_MAX + 2];
	struct p2p_transport_config config = {.env = &world->base.env,
					      .events = &events,
					      .identity = &world->a.identity,
					      .software = "test/1",
					      .secrets = on_secrets};
	size_t before = live_bytes;
	unsigned int n;

	config.versions = none;
	assert_int_equal(p2p_transport_new(&config, &transport), P2P_EINVAL);
	config.version_count = 1;
	assert_int_equal(p2p_transport_new(&config, &transport), P2P_EINVAL);
	config.versions = many;
	config.version_count = P2P_VERSIONS_MAX + 1;
	assert_int_equal(p2p_transport_new(&config, &transport), P2P_EINVAL);
	config.versions = NULL;
	memset(software, 'x', sizeof(software));
	software[sizeof(software) - 1] = 0;
	config.software = software;
	assert_int_equal(p2p_transport_new(&config, &transport), P2P_EINVAL);
	config.software = "test/1";
	p2p_mem_set_hooks(&failing);
	for (n = 0; n < 2; n++) {
		allocations_left = n;
		assert_int_equal(p2p_transport_new(&config, &transport), P2P_ENOMEM);
	}
	p2p_mem_set_hooks(&counting);
	assert_null(transport);
	assert_int_equal(live_bytes, before);
}

static void once_stopped_no_session_begins(void **state)
{
	struct world *world = *state;

	(void)connect_from(world, &world->a, &world->b, "ab");
	run(world);
	p2p_transport_stop(world->a.transport, "good night");
	run(world);
	assert_int_equal(world->b.downs, 1);
	assert_int_equal(world->b.down_code, 0); /* in order */
	assert_string_equal(world->b.down_text, "good night");
	(void)connect_from(world, &world->a, &world->b, "ab");
	run(world);
	assert_int_equal(world->a.fail_code, P2P_ECANCELED);
	world->a.fail_code = 0;
	(void)connect_from(world, &world->b, &world->a, "ba");
	run(world);
	assert_int_equal(world->a.fail_code, P2P_ECANCELED);
	assert_int_equal(world->a.ups, 1);
	assert_int_equal(world->b.ups, 1);
	assert_int_equal(p2p_transport_count(world->a.transport), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(peers_meet_and_talk),
		TEST(big_messages_cross_bounded_links),
		TEST(strangers_get_no_byte),
		TEST(another_peer_than_expected_is_refused),
		TEST(handshakes_at_once_are_limited),
		TEST(silence_times_out_and_one_address_has_few_tries),
		TEST(fifty_nodes_of_one_address_are_let_in),
		TEST(a_slow_handshake_ends_in_time),
		TEST(idle_sessions_live_and_dead_ones_end),
		TEST(a_paused_session_is_not_dead),
		TEST(closing_tells_the_reason),
		TEST(closing_in_order_sends_what_was_queued),
		TEST(closing_inside_callbacks_is_safe),
		TEST(a_broken_link_ends_one_session_only),
		TEST(replayed_first_messages_get_no_byte),
		TEST(dials_of_both_sides_leave_one_session),
		TEST(the_dial_of_the_smaller_key_stays),
		TEST(several_dials_of_each_side_leave_one_session),
		TEST(a_half_open_session_gives_way),
		TEST(a_half_open_session_of_the_other_dial_gives_way),
		TEST(a_restarted_peer_replaces_its_dead_self),
		TEST(a_clone_is_refused_and_the_first_stays),
		TEST(we_do_not_talk_to_ourselves),
		TEST(an_unproved_link_never_disturbs_a_session),
		TEST(a_thousand_reconnects_leak_nothing),
		TEST(each_failed_allocation_costs_a_session_at_most),
		TEST(a_config_that_cannot_work_is_refused),
		TEST(once_stopped_no_session_begins),
	};

	p2p_mem_set_hooks(&counting);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
