/* How honest nodes treat one another, whatever strikes them: none takes another's word for a lie,
 * none merges a changeset twice or one of the future, and what is durable is acknowledged soon. */
#include <stdlib.h>
#include <string.h>

#include "node/node.h"
#include "crdt/replica_private.h"
#include "node/session.h"
#include "tests/sim/sim.h"

#define REPLICAS_MAX 512
/* A session that begins tells at once what is durable; without that, digests repair it, which are
 * a second apart and need two. */
#define ACK_MS 1500
/* What a storm left on the links. */
#define SETTLE_MS 20000

/* What one host waits for from another. */
struct waiting {
	uint32_t peer; /* the session's handle; 0: there is none */
	uint64_t looked_ms, since_ms, acked;
};

struct merges {
	struct p2p_id replica;
	uint64_t seq;
};

struct sim_manners {
	struct waiting waiting[SIM_HOSTS_MAX][SIM_HOSTS_MAX];
	struct merges merges[SIM_HOSTS_MAX][REPLICAS_MAX];
	size_t merge_count[SIM_HOSTS_MAX];
	uint64_t stamp_ms[SIM_HOSTS_MAX]; /* the greatest that it has frozen or merged */
	uint64_t troubles[SIM_HOSTS_MAX]; /* that it had told when it froze last */
	uint64_t calm_ms;		  /* since then; 0: it is not */
	uint64_t struck, struck_ms;	  /* faults of a place (loops) so far, the last one */
};

struct sim_manners *sim_manners_new(void)
{
	return calloc(1, sizeof(struct sim_manners));
}

void sim_manners_free(struct sim_manners *manners)
{
	free(manners);
}

/* --- nobody is blamed ---------------------------------------------------------------------------
 */

/* What an honest node never does, in any state. */
static bool is_lie(int code)
{
	return code == P2P_EPROTO || code == P2P_EAUTH || code == P2P_EQUOTA || code == P2P_ETOOBIG;
}

void sim_manners_log(struct sim_host *host, const char *text)
{
	static const char begin[] = "refused ";
	const char *liar = sim_hostile_name(host->sim), *name = text + sizeof(begin) - 1;
	struct p2p_key_text key;
	size_t i;

	if (strncmp(text, begin, sizeof(begin) - 1) != 0 || (liar && strncmp(name, liar, 8) == 0))
		return;
	for (i = 0; i < host->node->note_count; i++) {
		key = p2p_key_text(&host->node->notes[i].node);
		if (strncmp(name, key.text, 8) == 0 && is_lie(host->node->notes[i].code))
			sim_fail(host->sim, "host %zu blames an honest one: %s", host->index, text);
	}
}

/* --- nothing comes from the future --------------------------------------------------------------
 */

/* What it froze itself it stamped by its own clock, or, with several peers, by one between theirs;
 * but never below what it had merged before. */
static uint64_t own_limit(const struct sim_host *host, const struct sim_manners *manners)
{
	const struct sim *sim = host->sim;
	int64_t skew_ms = host->wall_skew_ms;
	uint64_t limit;
	size_t i;

	for (i = 0; i < sim->count && host->node->replica->peers > 1; i++)
		if (sim->hosts[i].wall_ahead_max_ms > skew_ms)
			skew_ms = sim->hosts[i].wall_ahead_max_ms;
	/* a liar may be the one in the middle */
	if (sim->hostile && host->node->replica->peers > 1)
		skew_ms += P2P_CLOCK_AHEAD_MAX_MS;
	limit = sim->wall_base_ms + sim->now_ms + (uint64_t)skew_ms;
	return limit > manners->stamp_ms[host->index] ? limit : manners->stamp_ms[host->index];
}

/* As its clock ever was, for what is of others. */
static void check_stamp(struct sim_host *host, struct sim_manners *manners,
			const struct p2p_vv_entry *entry, bool own)
{
	const struct sim *sim = host->sim;
	uint64_t stamp_ms = entry->stamp.value >> 16;
	uint64_t limit = sim->wall_base_ms + sim->now_ms + (uint64_t)host->wall_ahead_max_ms +
			 P2P_CLOCK_AHEAD_MAX_MS;

	/* after trouble it may be one whose commit seemed to fail: made when its clock was another
	 */
	if (own && host->troubles == manners->troubles[host->index])
		limit = own_limit(host, manners);
	if (own)
		manners->troubles[host->index] = host->troubles;
	if (stamp_ms > limit + SIM_STEP_MS)
		sim_fail(host->sim, "host %zu %s changeset %llu, %llu ms in the future",
			 host->index, own ? "freezes" : "takes", (unsigned long long)entry->seq,
			 (unsigned long long)(stamp_ms - limit));
	if (stamp_ms > manners->stamp_ms[host->index])
		manners->stamp_ms[host->index] = stamp_ms;
}

/* --- nothing is merged twice --------------------------------------------------------------------
 */

void sim_manners_engine(struct sim_host *host, struct sim_manners *manners)
{
	manners->merge_count[host->index] = 0;
}

void sim_manners_merged(struct sim_host *host, struct sim_manners *manners,
			const struct p2p_vv_entry *entry, bool frozen)
{
	struct merges *merges = manners->merges[host->index];
	size_t *count = &manners->merge_count[host->index], i;

	for (i = 0; i < *count && p2p_id_cmp(&merges[i].replica, &entry->replica) != 0;)
		i++;
	if (i == REPLICAS_MAX)
		sim_fail(host->sim, "more replica ids than one history can have");
	if (i == *count)
		merges[(*count)++] = (struct merges){entry->replica, 0};
	else if (entry->seq <= merges[i].seq)
		sim_fail(host->sim, "host %zu merges changeset %llu again after %llu", host->index,
			 (unsigned long long)entry->seq, (unsigned long long)merges[i].seq);
	merges[i].seq = entry->seq;
	check_stamp(host, manners, entry, frozen);
}

/* --- acks come soon -----------------------------------------------------------------------------
 */

/* Both have a session. */
static bool have_session(struct sim_host *host, struct sim_host *of, uint32_t *out_peer)
{
	uint32_t back;

	return of->node && of->joined && sim_check_peer(host, &of->node->keys.node, out_peer) &&
	       sim_check_peer(of, &host->node->keys.node, &back);
}

/* What a host has merged of this replica; 0: it cannot say. */
static uint64_t merged_of(struct sim_host *host, const struct p2p_id *replica)
{
	struct p2p_replica_status status;
	struct p2p_vv merged;
	uint64_t seq = 0;

	p2p_vv_init(&merged);
	if (p2p_replica_status(host->node->replica, &status) == 0 &&
	    p2p_replica_vector(host->node->replica, &merged) == 0)
		seq = p2p_vv_seq(&merged, replica);
	p2p_vv_deinit(&merged);
	return seq;
}

static void check_ack(struct sim_host *host, struct sim_host *of, struct sim_manners *manners)
{
	struct waiting *waiting = &manners->waiting[host->index][of->index];
	uint64_t now = host->sim->now_ms, limit = ACK_MS + 4 * host->sim->plan.delay_ms, has;
	struct p2p_sync *sync = p2p_replica_sync(host->node->replica);
	struct p2p_sync_peer_status status;
	uint32_t peer = 0;

	if (of->paused_until_ms > now || !sync || !have_session(host, of, &peer) ||
	    !p2p_sync_peer_status(sync, peer, &status))
		return;
	has = merged_of(of, p2p_replica_id(host->node->replica));
	/* only in a session that no fault has touched, or long after */
	if (!manners->calm_ms ||
	    (now - manners->calm_ms < SETTLE_MS && !sim_network_calm(host, of)) ||
	    now - manners->struck_ms <= SIM_STEP_MS || /* it goes on: nothing can be said */
	    now - waiting->looked_ms > 2 * (uint64_t)SIM_STEP_MS || waiting->peer != peer ||
	    status.acked_seq >= has || status.acked_seq != waiting->acked)
		waiting->since_ms = now;
	waiting->peer = peer;
	waiting->looked_ms = now;
	waiting->acked = status.acked_seq;
	if (now - waiting->since_ms > limit)
		sim_fail(host->sim,
			 "host %zu has merged %llu of host %zu and acknowledged %llu for %llu ms",
			 of->index, (unsigned long long)has, host->index,
			 (unsigned long long)status.acked_seq,
			 (unsigned long long)(now - waiting->since_ms));
}

void sim_manners_check(struct sim_host *host, struct sim_manners *manners)
{
	struct sim *sim = host->sim;
	size_t i;

	if (!sim->calm)
		manners->calm_ms = 0;
	else if (!manners->calm_ms)
		manners->calm_ms = sim->now_ms;
	if (sim->exact.struck != manners->struck)
		manners->struck_ms = sim->now_ms;
	manners->struck = sim->exact.struck;
	for (i = 0; i < sim->count; i++)
		if (i != host->index)
			check_ack(host, &sim->hosts[i], manners);
}
