/* When to beacon; see schedule.h. */
#include "discovery/schedule.h"

#include "proto/limits.h"

#define MEMBER_MS 100 /* members / 10 s */
#define REPEATS	  2

void p2p_schedule_init(struct p2p_schedule *schedule, struct p2p_time now)
{
	*schedule = (struct p2p_schedule){.next = now, .repeats = REPEATS};
}

uint64_t p2p_schedule_interval_ms(size_t members)
{
	if (members <= P2P_BEACON_MIN_MS / MEMBER_MS)
		return P2P_BEACON_MIN_MS;
	if (members >= P2P_BEACON_MAX_MS / MEMBER_MS)
		return P2P_BEACON_MAX_MS;
	return (uint64_t)members * MEMBER_MS;
}

void p2p_schedule_set_members(struct p2p_schedule *schedule, size_t members)
{
	uint64_t latest = schedule->last.ms + p2p_schedule_interval_ms(members);

	schedule->members = members;
	if (schedule->sent && schedule->next.ms > latest)
		schedule->next.ms = latest;
}

static void advance(struct p2p_schedule *schedule, uint64_t wanted_ms)
{
	uint64_t soonest = schedule->last.ms + P2P_BEACON_SOONEST_MS;

	if (schedule->sent && wanted_ms < soonest)
		wanted_ms = soonest;
	if (wanted_ms < schedule->next.ms)
		schedule->next.ms = wanted_ms;
}

void p2p_schedule_now(struct p2p_schedule *schedule, struct p2p_time now)
{
	schedule->repeats = REPEATS;
	advance(schedule, now.ms);
}

void p2p_schedule_soon(struct p2p_schedule *schedule, struct p2p_time now, uint32_t random)
{
	advance(schedule, now.ms + random % P2P_BEACON_SOONEST_MS);
}

bool p2p_schedule_due(const struct p2p_schedule *schedule, struct p2p_time now)
{
	return now.ms >= schedule->next.ms;
}

void p2p_schedule_sent(struct p2p_schedule *schedule, struct p2p_time now, uint32_t random)
{
	uint64_t interval = p2p_schedule_interval_ms(schedule->members);

	if (schedule->repeats) {
		schedule->repeats--;
		interval = P2P_BEACON_SOONEST_MS * 2;
	}
	schedule->last = now;
	schedule->sent = true;
	schedule->next.ms = now.ms + interval - random % (interval / 10 + 1);
}
