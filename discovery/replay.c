/* What was heard lately; see replay.h. */
#include "discovery/replay.h"

#include <string.h>

#include "proto/check.h"

_Static_assert(P2P_BEACON_REPLAY_MAX < UINT16_MAX, "index + 1 fits");
_Static_assert((P2P_BEACON_REPLAY_MAX & (P2P_BEACON_REPLAY_MAX - 1)) == 0, "a power of two");

void p2p_replay_init(struct p2p_replay *replay)
{
	memset(replay, 0, sizeof(*replay));
}

static uint16_t *chain_of(struct p2p_replay *replay, uint64_t nonce)
{
	return &replay->heads[nonce & (P2P_BEACON_REPLAY_MAX - 1)];
}

static void replay_forget(struct p2p_replay *replay, uint32_t index)
{
	uint16_t *link = chain_of(replay, replay->nonces[index]);

	while (*link != index + 1) {
		p2p_require(*link != 0);
		link = &replay->nexts[*link - 1];
	}
	*link = replay->nexts[index];
}

bool p2p_replay_seen(struct p2p_replay *replay, const uint8_t *nonce)
{
	uint64_t value;
	uint16_t *head, i;

	memcpy(&value, nonce, sizeof(value));
	head = chain_of(replay, value);
	for (i = *head; i; i = replay->nexts[i - 1])
		if (replay->nonces[i - 1] == value)
			return true;
	if (replay->count == P2P_BEACON_REPLAY_MAX)
		replay_forget(replay, replay->at);
	else
		replay->count++;
	replay->nonces[replay->at] = value;
	replay->nexts[replay->at] = *head;
	*head = (uint16_t)(replay->at + 1);
	replay->at = (replay->at + 1) % P2P_BEACON_REPLAY_MAX;
	return false;
}

static struct p2p_sender *senders_find(struct p2p_senders *senders, const struct p2p_key *key)
{
	uint32_t i;

	for (i = 0; i < senders->count; i++)
		if (!p2p_key_cmp(&senders->senders[i].key, key))
			return &senders->senders[i];
	return NULL;
}

static struct p2p_sender *senders_room(struct p2p_senders *senders)
{
	struct p2p_sender *oldest = &senders->senders[0];
	uint32_t i;

	if (senders->count < P2P_SENDERS_MAX)
		return &senders->senders[senders->count++];
	for (i = 1; i < senders->count; i++)
		if (senders->senders[i].heard.ms < oldest->heard.ms)
			oldest = &senders->senders[i];
	return oldest;
}

enum p2p_sender_order p2p_senders_note(struct p2p_senders *senders, struct p2p_time now,
				       const struct p2p_key *key, const struct p2p_id *instance,
				       uint64_t time_ms)
{
	struct p2p_sender *sender = senders_find(senders, key);
	enum p2p_sender_order order = P2P_SENDER_AGAIN;

	if (!sender) {
		sender = senders_room(senders);
		order = P2P_SENDER_NEW;
	} else if (p2p_id_cmp(&sender->instance, instance)) {
		order = P2P_SENDER_RESTARTED;
	} else if (now.ms - sender->heard.ms > P2P_SENDER_FORGET_MS) {
		order = P2P_SENDER_NEW;
	} else if (time_ms <= sender->time_ms) {
		return P2P_SENDER_OLD;
	}
	*sender = (struct p2p_sender){.key = *key,
				      .instance = *instance,
				      .time_ms = time_ms,
				      .heard = now};
	return order;
}
