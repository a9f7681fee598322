/* Second sessions: one at most for each peer, whatever the order of events. */
#include "tests/unit/transport/sessions.h"

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(dials_of_both_sides_leave_one_session),
		TEST(the_dial_of_the_smaller_key_stays),
		TEST(several_dials_of_each_side_leave_one_session),
		TEST(a_half_open_session_gives_way),
		TEST(a_half_open_session_of_the_other_dial_gives_way),
		TEST(a_restarted_peer_replaces_its_dead_self),
		TEST(a_clone_is_refused_and_the_first_stays),
		TEST(we_do_not_talk_to_ourselves),
		TEST(an_unproved_link_never_disturbs_a_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
