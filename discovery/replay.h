/* What was heard lately: nonces, so that a recorded datagram is taken once, and the senders with
 * the time of their last beacon, so that of one sender the newer one counts. Nobody's clock is
 * trusted: the time is compared with the same sender's only. */
#ifndef P2P_DISCOVERY_REPLAY_H
#define P2P_DISCOVERY_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/env.h"
#include "proto/ident.h"
#include "proto/limits.h"

#define P2P_SENDERS_MAX 1024
/* An order older than that is forgotten: a beacon with a forged time hides its victim no longer. */
#define P2P_SENDER_FORGET_MS 180000

struct p2p_replay {
	uint64_t nonces[P2P_BEACON_REPLAY_MAX]; /* first 8 bytes; ring */
	uint16_t heads[P2P_BEACON_REPLAY_MAX];	/* by hash: index + 1 of a nonce, 0: none */
	uint16_t nexts[P2P_BEACON_REPLAY_MAX];	/* chain of equal hashes, index + 1 */
	uint32_t count;				/* of those held */
	uint32_t at;				/* oldest, replaced next */
};

void p2p_replay_init(struct p2p_replay *replay);
/* True if the nonce was among the last P2P_BEACON_REPLAY_MAX; remembers it otherwise. Only for
 * datagrams that opened: a stranger must not fill the cache. */
bool p2p_replay_seen(struct p2p_replay *replay, const uint8_t *nonce);

struct p2p_sender {
	struct p2p_key key;
	struct p2p_id instance;
	uint64_t time_ms;
	struct p2p_time heard;
};

struct p2p_senders {
	uint32_t count;
	struct p2p_sender senders[P2P_SENDERS_MAX];
};

enum p2p_sender_order {
	P2P_SENDER_NEW,	      /* never heard, or forgotten */
	P2P_SENDER_RESTARTED, /* another instance than before */
	P2P_SENDER_AGAIN,
	P2P_SENDER_OLD, /* not newer than one that was heard: drop it */
};
/* Notes a beacon; the sender that was silent longest makes room. */
enum p2p_sender_order p2p_senders_note(struct p2p_senders *senders, struct p2p_time now,
				       const struct p2p_key *key, const struct p2p_id *instance,
				       uint64_t time_ms);

#endif
