/* The set of records that a peer has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "node/gossip.h"
#include "proto/limits.h"

static void prefix(uint8_t out[P2P_PREFIX_BYTES], uint32_t number)
{
	uint32_t mixed = number * 2654435761u; /* odd: every number another one, in no order */

	memset(out, 0, P2P_PREFIX_BYTES);
	memcpy(out, &mixed, sizeof(mixed));
}

static void what_was_learned_is_known_and_nothing_else(void **state)
{
	struct p2p_gossip gossip;
	uint8_t hash[P2P_PREFIX_BYTES];
	uint32_t i;

	(void)state;
	p2p_gossip_init(&gossip);
	for (i = 0; i < 1000; i += 2) {
		prefix(hash, i);
		assert_int_equal(p2p_gossip_learn(&gossip, hash), 0);
		assert_int_equal(p2p_gossip_learn(&gossip, hash), 0);
	}
	assert_int_equal(gossip.count, 500);
	for (i = 0; i < 1000; i++) {
		prefix(hash, i);
		assert_int_equal(p2p_gossip_knows(&gossip, hash), i % 2 == 0);
	}
	p2p_gossip_deinit(&gossip);
}

static void it_is_bounded(void **state)
{
	struct p2p_gossip gossip;
	uint8_t hash[P2P_PREFIX_BYTES];
	uint32_t i;

	(void)state;
	p2p_gossip_init(&gossip);
	for (i = 0; i < P2P_RECORDS_MAX; i++) {
		prefix(hash, i);
		assert_int_equal(p2p_gossip_learn(&gossip, hash), 0);
	}
	prefix(hash, i);
	assert_int_equal(p2p_gossip_learn(&gossip, hash), P2P_ETOOBIG);
	prefix(hash, 0);
	assert_int_equal(p2p_gossip_learn(&gossip, hash), 0); /* known already */
	p2p_gossip_deinit(&gossip);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_learned_is_known_and_nothing_else),
		cmocka_unit_test(it_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
