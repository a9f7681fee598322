/* Stamps: strictly increasing whatever the wall clock does, until the clock is used up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "crdt/hlc.h"
#include "proto/limits.h"

static void a_stamp_is_above_what_was_seen_and_not_below_the_wall_clock(void **state)
{
	static const uint64_t walls[] = {0,    1000,	       999, 0,	       1000,
					 1001, P2P_HLC_MS_MAX, 5,   UINT64_MAX};
	struct p2p_hlc last = {0}, next;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(walls) / sizeof(walls[0]); i++) {
		uint64_t wall = walls[i] < P2P_HLC_MS_MAX ? walls[i] : P2P_HLC_MS_MAX;

		assert_int_equal(p2p_hlc_next(&next, last, walls[i]), 0);
		assert_true(next.value > last.value);
		assert_true(p2p_hlc_ms(next) >= wall);
		last = next;
	}
}

static void a_clock_that_is_used_up_says_so(void **state)
{
	struct p2p_hlc last = {UINT64_MAX - 1}, next;

	(void)state;
	assert_int_equal(p2p_hlc_next(&next, last, 1000), 0);
	assert_true(next.value == UINT64_MAX);
	last = next;
	next.value = 42;
	assert_int_equal(p2p_hlc_next(&next, last, 1000), P2P_EINVAL);
	assert_int_equal(next.value, 42); /* untouched */
}

static void lives_grow_with_the_clock_and_have_an_end(void **state)
{
	struct p2p_hlc stamp = {0};
	uint64_t before = p2p_hlc_lives(stamp);
	int bit;

	(void)state;
	assert_true(before == P2P_CAUSAL_LENGTH_FLOOR);
	for (bit = 0; bit < 64; bit++) {
		uint64_t lives;

		stamp.value = 1ull << bit;
		lives = p2p_hlc_lives(stamp);
		assert_true(lives >= before);
		assert_true(lives <= P2P_CAUSAL_LENGTH_MAX);
		before = lives;
	}
	stamp.value = UINT64_MAX;
	assert_true(p2p_hlc_lives(stamp) == P2P_CAUSAL_LENGTH_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_stamp_is_above_what_was_seen_and_not_below_the_wall_clock),
		cmocka_unit_test(a_clock_that_is_used_up_says_so),
		cmocka_unit_test(lives_grow_with_the_clock_and_have_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
