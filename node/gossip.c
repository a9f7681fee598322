/* Set of record prefixes; see gossip.h. */
#include "node/gossip.h"

#include <string.h>

#include "proto/limits.h"
#include "proto/mem.h"

void p2p_gossip_init(struct p2p_gossip *gossip)
{
	memset(gossip, 0, sizeof(*gossip));
}

void p2p_gossip_deinit(struct p2p_gossip *gossip)
{
	p2p_free(gossip->known);
	p2p_gossip_init(gossip);
}

/* First place whose prefix is not smaller. */
static size_t place(const struct p2p_gossip *gossip, const uint8_t *hash)
{
	size_t low = 0, high = gossip->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (memcmp(gossip->known[mid], hash, P2P_PREFIX_BYTES) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

bool p2p_gossip_knows(const struct p2p_gossip *gossip, const uint8_t *hash)
{
	size_t at = place(gossip, hash);

	return at < gossip->count && memcmp(gossip->known[at], hash, P2P_PREFIX_BYTES) == 0;
}

static int grow(struct p2p_gossip *gossip)
{
	size_t cap = gossip->cap ? gossip->cap * 2 : 64;
	void *known = p2p_realloc(gossip->known, cap * P2P_PREFIX_BYTES);

	if (!known)
		return P2P_ENOMEM;
	gossip->known = known;
	gossip->cap = cap;
	return 0;
}

int p2p_gossip_learn(struct p2p_gossip *gossip, const uint8_t *hash)
{
	size_t at = place(gossip, hash);

	if (at < gossip->count && memcmp(gossip->known[at], hash, P2P_PREFIX_BYTES) == 0)
		return 0;
	if (gossip->count >= P2P_RECORDS_MAX)
		return P2P_ETOOBIG;
	if (gossip->count == gossip->cap && grow(gossip))
		return P2P_ENOMEM;
	memmove(gossip->known[at + 1], gossip->known[at], (gossip->count - at) * P2P_PREFIX_BYTES);
	memcpy(gossip->known[at], hash, P2P_PREFIX_BYTES);
	gossip->count++;
	return 0;
}
