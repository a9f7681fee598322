/* Waiting times grow, stay within their bounds, differ between nodes, and start anew. */
#include "tests/unit/transport/fixture.h"

#include "transport/backoff.h"

static void waits_double_within_bounds_and_reset(void **state)
{
	struct fixture_world world;
	struct p2p_backoff backoff = {0};
	uint64_t top = 2 * P2P_BACKOFF_MIN_MS, wait;
	int i;

	(void)state;
	fixture_world_init(&world);
	for (i = 0; i < 100; i++) {
		wait = p2p_backoff_next_ms(&backoff, &world.env);
		assert_true(wait >= top / 2);
		assert_true(wait <= top);
		assert_true(wait <= P2P_BACKOFF_MAX_MS);
		top = top * 2 < P2P_BACKOFF_MAX_MS ? top * 2 : P2P_BACKOFF_MAX_MS;
	}
	p2p_backoff_reset(&backoff);
	assert_true(p2p_backoff_next_ms(&backoff, &world.env) <= 2 * P2P_BACKOFF_MIN_MS);
	backoff.failures = UINT32_MAX;
	assert_true(p2p_backoff_next_ms(&backoff, &world.env) >= P2P_BACKOFF_MAX_MS / 2);
}

static void nodes_that_failed_together_part(void **state)
{
	struct fixture_world world;
	uint64_t low = UINT64_MAX, high = 0, wait;
	int i;

	(void)state;
	fixture_world_init(&world);
	for (i = 0; i < 200; i++) {
		struct p2p_backoff backoff = {.failures = 20};

		wait = p2p_backoff_next_ms(&backoff, &world.env);
		low = wait < low ? wait : low;
		high = wait > high ? wait : high;
	}
	assert_true(low < 17000);
	assert_true(high > 28000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(waits_double_within_bounds_and_reset),
		cmocka_unit_test(nodes_that_failed_together_part),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
