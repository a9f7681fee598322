/* Sessions from the handshake to the end: limits before a peer is known, keepalive, closing, and
 * that nothing is freed under a caller's feet. */
#include "tests/unit/transport/sessions.h"

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
		TEST(once_stopped_no_session_begins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
