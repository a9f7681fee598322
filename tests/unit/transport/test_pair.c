/* In-process links keep the contract of link.h: order, bounds, pauses, ends, and nothing by itself.
 */
#include "tests/unit/transport/fixture.h"

#include "transport/pair.h"

struct user {
	uint8_t bytes[4096];
	size_t len;
	int writables, closed, code;
	struct p2p_link *close_on_bytes;
};

static void user_bytes(void *ctx, const uint8_t *data, size_t len)
{
	struct user *user = ctx;

	assert_int_equal(user->closed, 0);
	assert_true(len > 0 && user->len + len <= sizeof(user->bytes));
	memcpy(user->bytes + user->len, data, len);
	user->len += len;
	if (user->close_on_bytes)
		p2p_link_close(user->close_on_bytes, false);
	user->close_on_bytes = NULL;
}

static void user_writable(void *ctx)
{
	((struct user *)ctx)->writables++;
}

static void user_closed(void *ctx, int code, const char *text)
{
	struct user *user = ctx;

	assert_non_null(text);
	user->closed++;
	user->code = code;
}

static const struct p2p_link_events user_events = {user_bytes, user_writable, user_closed};

struct world {
	struct p2p_wire *wire;
	struct p2p_pair *pair;
	struct p2p_link *ends[2];
	struct user users[2];
};

static void world_init(struct world *world, size_t capacity)
{
	int i;

	memset(world, 0, sizeof(*world));
	assert_int_equal(p2p_wire_new(&world->wire), 0);
	assert_int_equal(p2p_wire_pair(world->wire, capacity, world->ends, &world->pair), 0);
	for (i = 0; i < 2; i++)
		p2p_link_attach(world->ends[i], &user_events, &world->users[i]);
}

static void bytes_arrive_in_order_and_only_when_pumped(void **state)
{
	struct world world;
	size_t chunk;

	(void)state;
	for (chunk = 1; chunk <= 8; chunk++) {
		world_init(&world, 1000);
		assert_int_equal(p2p_link_send(world.ends[0], "abc", 3), 0);
		assert_int_equal(p2p_link_send(world.ends[0], "defg", 4), 0);
		assert_int_equal(world.users[1].len, 0);
		assert_true(p2p_wire_pump(world.wire, chunk));
		assert_int_equal(world.users[1].len, 7);
		assert_memory_equal(world.users[1].bytes, "abcdefg", 7);
		assert_false(p2p_wire_pump(world.wire, chunk));
		p2p_wire_free(world.wire);
	}
}

static void buffers_are_bounded_and_writable_follows(void **state)
{
	struct world world;

	(void)state;
	world_init(&world, 10);
	assert_int_equal(p2p_link_send(world.ends[0], "123456789", 9), 0);
	assert_int_equal(p2p_link_send(world.ends[0], "0123", 4), P2P_LINK_QUEUED);
	assert_int_equal(p2p_link_send(world.ends[0], "x", 1), P2P_LINK_FULL);
	p2p_link_pause(world.ends[1], true);
	assert_false(p2p_wire_pump(world.wire, 100));
	assert_int_equal(world.users[0].writables, 0);
	p2p_link_pause(world.ends[1], false);
	assert_true(p2p_wire_pump(world.wire, 100));
	assert_int_equal(world.users[1].len, 13);
	assert_int_equal(world.users[0].writables, 1);
	assert_true(p2p_wire_run(world.wire, 1, 10));
	assert_int_equal(world.users[0].writables, 1);
	p2p_wire_free(world.wire);
}

static void ends_are_told_once_and_after_the_bytes(void **state)
{
	struct world world;

	(void)state;
	world_init(&world, 100);
	assert_int_equal(p2p_link_send(world.ends[0], "last", 4), 0);
	p2p_link_close(world.ends[0], true);
	assert_true(p2p_wire_run(world.wire, 3, 10));
	assert_int_equal(world.users[1].len, 4);
	assert_int_equal(world.users[1].closed, 1);
	assert_int_equal(world.users[1].code, P2P_ECLOSED);
	assert_int_equal(world.users[0].closed, 0); /* no event after its own close */
	assert_int_equal(p2p_link_send(world.ends[1], "x", 1), 0); /* goes nowhere */
	assert_int_equal(p2p_wire_count(world.wire), 1);
	p2p_link_close(world.ends[1], true);
	(void)p2p_wire_pump(world.wire, 1);
	assert_int_equal(p2p_wire_count(world.wire), 0);
	p2p_wire_free(world.wire);
}

static void closing_inside_an_event_is_safe(void **state)
{
	struct world world;

	(void)state;
	world_init(&world, 100);
	assert_int_equal(p2p_link_send(world.ends[0], "abcdef", 6), 0);
	world.users[1].close_on_bytes = world.ends[1];
	assert_true(p2p_wire_run(world.wire, 2, 10));
	assert_int_equal(world.users[1].len, 2); /* nothing after its close */
	assert_int_equal(world.users[0].closed, 1);
	p2p_link_close(world.ends[0], false);
	(void)p2p_wire_pump(world.wire, 1);
	assert_int_equal(p2p_wire_count(world.wire), 0);
	p2p_wire_free(world.wire);
}

static void a_cut_loses_what_is_on_its_way(void **state)
{
	struct world world;

	(void)state;
	world_init(&world, 100);
	assert_int_equal(p2p_link_send(world.ends[0], "abc", 3), 0);
	p2p_pair_cut(world.pair);
	assert_true(p2p_wire_run(world.wire, 2, 10));
	assert_int_equal(world.users[1].len, 0);
	assert_int_equal(world.users[0].closed + world.users[1].closed, 2);
	assert_int_equal(world.users[0].code, P2P_ENET);
	p2p_wire_free(world.wire);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_arrive_in_order_and_only_when_pumped),
		cmocka_unit_test(buffers_are_bounded_and_writable_follows),
		cmocka_unit_test(ends_are_told_once_and_after_the_bytes),
		cmocka_unit_test(closing_inside_an_event_is_safe),
		cmocka_unit_test(a_cut_loses_what_is_on_its_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
