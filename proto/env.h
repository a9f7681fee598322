/* Time and randomness, passed in: no code below node/ reads a clock or a generator of its own.
 * A simulator gives virtual time and a seeded generator; the daemon gives the real ones. */
#ifndef P2P_PROTO_ENV_H
#define P2P_PROTO_ENV_H

#include <stddef.h>
#include <stdint.h>

/* Monotonic time. A struct, so that it is never mixed up with wall time or a stamp. */
struct p2p_time {
	uint64_t ms;
};

struct p2p_env {
	void *ctx; /* borrowed by all three */
	struct p2p_time (*now)(void *ctx);
	uint64_t (*wall_ms)(void *ctx);			  /* Unix milliseconds; may jump */
	void (*random)(void *ctx, void *out, size_t len); /* cryptographic in production */
};

static inline struct p2p_time p2p_env_now(const struct p2p_env *env)
{
	return env->now(env->ctx);
}

static inline uint64_t p2p_env_wall_ms(const struct p2p_env *env)
{
	return env->wall_ms(env->ctx);
}

static inline void p2p_env_random(const struct p2p_env *env, void *out, size_t len)
{
	env->random(env->ctx, out, len);
}

#endif
