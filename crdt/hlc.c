/* Hybrid logical clock; see hlc.h. */
#include "crdt/hlc.h"

#include "proto/limits.h"

#define HLC_COUNTER_BITS 16

struct p2p_hlc p2p_hlc_of_ms(uint64_t ms)
{
	struct p2p_hlc stamp = {(ms < P2P_HLC_MS_MAX ? ms : P2P_HLC_MS_MAX) << HLC_COUNTER_BITS};

	return stamp;
}

uint64_t p2p_hlc_ms(struct p2p_hlc stamp)
{
	return stamp.value >> HLC_COUNTER_BITS;
}

int p2p_hlc_next(struct p2p_hlc *out, struct p2p_hlc last, uint64_t wall_ms)
{
	struct p2p_hlc wall = p2p_hlc_of_ms(wall_ms);

	if (last.value == UINT64_MAX)
		return P2P_EINVAL;
	out->value = wall.value > last.value ? wall.value : last.value + 1;
	return 0;
}

uint64_t p2p_hlc_lives(struct p2p_hlc stamp)
{
	if (stamp.value >= (P2P_CAUSAL_LENGTH_MAX - P2P_CAUSAL_LENGTH_FLOOR) / 2)
		return P2P_CAUSAL_LENGTH_MAX;
	return P2P_CAUSAL_LENGTH_FLOOR + 2 * stamp.value;
}
