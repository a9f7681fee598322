/* Each replica's missing changes are asked of one source at a time (decisions 39); see sync.h. */
#include "crdt/sync_private.h"

/* Load of a source: replicas that it is asked for. */
static size_t source_load(const struct p2p_sync *sync, const struct sync_peer *peer)
{
	size_t i, load = 0;

	for (i = 0; i < sync->replica_count; i++)
		load += sync->replicas[i]->source == peer->handle;
	return load;
}

/* Who has more than `seq` of it, and the log back to there. `not`: rather another one. */
static struct sync_peer *source_choose(const struct p2p_sync *sync,
				       const struct sync_replica *replica, uint64_t seq,
				       p2p_sync_peer not )
{
	struct sync_peer *best = NULL;
	struct p2p_list *at;
	size_t best_load = 0;

	for (at = sync->peers.next; at != &sync->peers; at = at->next) {
		struct sync_peer *peer = p2p_container_of(at, struct sync_peer, link);
		const struct p2p_vv_entry *entry = p2p_vv_get(&peer->have, &replica->id);
		size_t load;

		if (!entry || entry->seq <= seq || peer->clock_refused || !peer->have_known ||
		    (entry->log_from && entry->log_from > seq + 1))
			continue;
		load = source_load(sync, peer) + (peer->handle == not ? P2P_REPLICAS_MAX : 0);
		if (!best || load < best_load) {
			best = peer;
			best_load = load;
		}
	}
	return best;
}

void sync_release(struct p2p_sync *sync, struct sync_replica *replica)
{
	(void)sync;
	replica->source = 0;
	replica->asked_to = 0;
}

static void ask(struct p2p_sync *sync, struct sync_replica *replica, struct sync_peer *peer)
{
	const struct p2p_sync_log *log = &sync->config.log;
	uint64_t seq = replica->last.seq + 1;
	uint32_t segment = 0;
	P2p__V1__Want want;

	if (log->resume(log->ctx, &replica->id, &seq, &segment))
		return; /* the log cannot be read: later */
	p2p__v1__want__init(&want);
	want.replica = p2p_field(replica->id.bytes, P2P_ID_BYTES);
	want.from_seq = seq;
	want.from_segment = segment;
	want.to_seq = p2p_vv_seq(&peer->have, &replica->id);
	if (sync_send(sync, peer, P2P_CLASS_CONTROL, P2P_MSG_WANT, &want.base))
		return; /* its queue is full: at the next tick */
	replica->source = peer->handle;
	replica->asked_to = want.to_seq;
	replica->asked_ms = replica->progress_ms = sync->now_ms;
}

static bool may_ask(struct p2p_sync *sync, struct sync_replica *replica)
{
	if (replica->held || replica->wait_signer || replica->source)
		return false;
	if (replica->clock_retry_ms > sync->now_ms || replica->author_ms > sync->now_ms)
		return false;
	return p2p_id_cmp(&replica->id, &sync->config.replica) != 0;
}

void sync_pull_replica(struct p2p_sync *sync, struct sync_replica *replica)
{
	struct sync_peer *peer;

	if (!may_ask(sync, replica) || sync_load(sync, replica))
		return;
	replica->author_ms = 0;
	peer = source_choose(sync, replica, replica->last.seq, 0);
	if (peer)
		ask(sync, replica, peer);
}

/* Replicas that peers tell of and that somebody may sign for. */
static void replicas_meet(struct p2p_sync *sync, const struct sync_peer *peer)
{
	const struct p2p_sync_log *log = &sync->config.log;
	struct sync_replica *replica;
	struct p2p_key node;
	size_t i;

	for (i = 0; i < peer->have.count; i++) {
		const struct p2p_id *id = &peer->have.entries[i].replica;

		if (sync_replica_find(sync, id) || log->signer(log->ctx, id, &node))
			continue;
		if (sync_replica_get(sync, id, &replica))
			return; /* no memory: at the next Have */
	}
}

void sync_pull(struct p2p_sync *sync)
{
	struct p2p_list *at;
	size_t i;

	for (at = sync->peers.next; at != &sync->peers; at = at->next)
		replicas_meet(sync, p2p_container_of(at, struct sync_peer, link));
	for (i = 0; i < sync->replica_count; i++)
		sync_pull_replica(sync, sync->replicas[i]);
}

/* No progress for a while: another source, if there is one. */
static void pull_move(struct p2p_sync *sync, struct sync_replica *replica)
{
	uint64_t idle = sync->now_ms - replica->progress_ms;
	p2p_sync_peer old = replica->source;
	struct sync_peer *peer;

	if (idle < SYNC_MOVE_MS)
		return;
	peer = source_choose(sync, replica, replica->last.seq, old);
	if (!peer) {
		sync_release(sync, replica);
		return;
	}
	if (peer->handle == old && sync->now_ms - replica->asked_ms < SYNC_ASK_AGAIN_MS)
		return;
	sync_release(sync, replica);
	ask(sync, replica, peer);
}

uint64_t sync_pull_tick(struct p2p_sync *sync)
{
	uint64_t next = UINT64_MAX;
	size_t i;

	for (i = 0; i < sync->replica_count; i++) {
		struct sync_replica *replica = sync->replicas[i];

		if (replica->source)
			pull_move(sync, replica);
		else
			sync_pull_replica(sync, replica);
		if (replica->source && replica->progress_ms + SYNC_MOVE_MS < next)
			next = replica->progress_ms + SYNC_MOVE_MS;
		if (replica->author_ms > sync->now_ms && replica->author_ms < next)
			next = replica->author_ms;
		if (replica->clock_retry_ms > sync->now_ms && replica->clock_retry_ms < next)
			next = replica->clock_retry_ms;
	}
	return next > sync->now_ms ? next : sync->now_ms + SYNC_MOVE_MS / 10;
}

int sync_take_reject(struct p2p_sync *sync, struct sync_peer *peer, const P2p__V1__Reject *reject)
{
	struct sync_replica *replica;
	struct p2p_vv_entry entry;
	struct p2p_id id;
	int rc = p2p_field_id(&id, &reject->replica);

	if (rc)
		return rc;
	/* it cannot give what it told of */
	replica = sync_replica_find(sync, &id);
	if (p2p_vv_get(&peer->have, &id) && reject->have < p2p_vv_seq(&peer->have, &id)) {
		entry = *p2p_vv_get(&peer->have, &id);
		entry.seq = reject->have;
		if (entry.seq)
			rc = p2p_vv_put(&peer->have, &entry);
		else
			p2p_vv_remove(&peer->have, &id);
	}
	if (!rc && replica && replica->source == peer->handle) {
		sync_release(sync, replica);
		sync_pull_replica(sync, replica);
	}
	return rc;
}
