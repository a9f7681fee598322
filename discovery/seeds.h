/* Seeds with names: looked up again and again, without blocking, each result into the address book.
 */
#ifndef P2P_DISCOVERY_SEEDS_H
#define P2P_DISCOVERY_SEEDS_H

#include <uv.h>

#include "discovery/address.h"
#include "proto/env.h"
#include "proto/log.h"

struct p2p_seeds;

struct p2p_seeds_config {
	uv_loop_t *loop; /* borrowed until closed, as the others */
	const struct p2p_env *env;
	const struct p2p_log *log;
	void *ctx;
	/* A seed's address, at most P2P_SEED_ADDRESSES_MAX for one look-up. text: the seed. */
	void (*found)(void *ctx, const char *text, const struct p2p_address *address);
};

/* "HOST:PORT", "[V6]:PORT" into host and port; a name has letters, digits, '-', '.', '_'.
 * P2P_EINVAL. host: P2P_SEED_TEXT_MAX bytes. */
int p2p_seeds_parse(const char *text, char *host, uint16_t *port) P2P_MUST_CHECK;

int p2p_seeds_open(struct p2p_seeds **out, const struct p2p_seeds_config *config) P2P_MUST_CHECK;
void p2p_seeds_close(struct p2p_seeds *seeds, void (*closed)(void *ctx), void *ctx);
/* Adds one. P2P_EINVAL, P2P_ETOOBIG. 0 also when it is known. */
int p2p_seeds_add(struct p2p_seeds *seeds, const char *text) P2P_MUST_CHECK;
/* Starts look-ups that are due; returns when there is one again. */
struct p2p_time p2p_seeds_tick(struct p2p_seeds *seeds, struct p2p_time now);

#endif
