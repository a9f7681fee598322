/* When to beacon: clamp(members / 10 s, 5 s, 60 s), at once on a reason, never in a rush. Time and
 * randomness are passed in; nothing is sent here. */
#ifndef P2P_DISCOVERY_SCHEDULE_H
#define P2P_DISCOVERY_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/env.h"

struct p2p_schedule {
	size_t members;
	struct p2p_time next;
	struct p2p_time last; /* sent */
	bool sent;	      /* one at least */
	unsigned int repeats; /* early ones still to come, for datagrams get lost */
};

/* The first one is due at once. */
void p2p_schedule_init(struct p2p_schedule *schedule, struct p2p_time now);
/* Milliseconds between two beacons of a mesh of so many members. */
uint64_t p2p_schedule_interval_ms(size_t members);
void p2p_schedule_set_members(struct p2p_schedule *schedule, size_t members);
/* Start or a changed interface: one now (P2P_BEACON_SOONEST_MS after the last one at the
 * earliest) and two repeats soon. */
void p2p_schedule_now(struct p2p_schedule *schedule, struct p2p_time now);
/* A new peer: one within P2P_BEACON_SOONEST_MS, random, so that many do not answer in step. */
void p2p_schedule_soon(struct p2p_schedule *schedule, struct p2p_time now, uint32_t random);
bool p2p_schedule_due(const struct p2p_schedule *schedule, struct p2p_time now);
/* One was sent: the next is due an interval later, up to a tenth earlier by random. */
void p2p_schedule_sent(struct p2p_schedule *schedule, struct p2p_time now, uint32_t random);

#endif
