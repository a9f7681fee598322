/* Memory of sessions: nothing leaks, and an allocation that fails costs a session at most. */
#include "tests/unit/transport/sessions.h"

#include <stdlib.h>

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_thousand_reconnects_leak_nothing),
		TEST(each_failed_allocation_costs_a_session_at_most),
		TEST(a_config_that_cannot_work_is_refused),
	};

	p2p_mem_set_hooks(&counting);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
