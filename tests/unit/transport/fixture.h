/* What the tests of this folder share: a clock that is set by hand, a generator that repeats,
 * identities, secrets, and a node that writes down what its transport tells it. */
#ifndef P2P_TESTS_UNIT_TRANSPORT_FIXTURE_H
#define P2P_TESTS_UNIT_TRANSPORT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above
#include <cmocka.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "proto/check.h"
#include "proto/limits.h"
#include "proto/mem.h"
#include "transport/handshake.h"

struct fixture_world {
	struct p2p_time now;
	uint64_t random_count;
	struct p2p_env env;
};

static inline struct p2p_time fixture_now(void *ctx)
{
	return ((struct fixture_world *)ctx)->now;
}

static inline uint64_t fixture_wall_ms(void *ctx)
{
	return 1700000000000 + ((struct fixture_world *)ctx)->now.ms;
}

/* The bytes of a stream that is the same in each run. */
static inline void fixture_random(void *ctx, void *out, size_t len)
{
	struct fixture_world *world = ctx;
	uint8_t seed[randombytes_SEEDBYTES] = {0};

	world->random_count++;
	memcpy(seed, &world->random_count, sizeof(world->random_count));
	randombytes_buf_deterministic(out, len, seed);
}

static inline void fixture_world_init(struct fixture_world *world)
{
	assert_true(sodium_init() >= 0);
	memset(world, 0, sizeof(*world));
	world->now.ms = 1000;
	world->env = (struct p2p_env){world, fixture_now, fixture_wall_ms, fixture_random};
}

/* Identity number `who`; its keys follow from the number. */
static inline void fixture_identity(struct p2p_self *out, uint8_t who, uint8_t instance)
{
	uint8_t seed[32];

	memset(seed, who, sizeof(seed));
	assert_int_equal(crypto_sign_seed_keypair(out->node.bytes, out->sign_secret, seed), 0);
	memset(out->noise_secret, 0x40 ^ who, sizeof(out->noise_secret));
	assert_int_equal(crypto_scalarmult_base(out->noise.bytes, out->noise_secret), 0);
	memset(out->instance.bytes, instance, sizeof(out->instance.bytes));
}

static inline void fixture_secret(struct p2p_secret *out, enum p2p_kind kind, uint8_t fill)
{
	out->kind = kind;
	out->id = fill;
	memset(out->bytes, fill, sizeof(out->bytes));
}

#endif
