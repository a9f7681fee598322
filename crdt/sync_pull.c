/* Each replica's missing changes are asked of one source at a time (decisions 39); see sync.h.
 *
 * Only replicas about which something is to be done are in the list of active ones, so a tick costs
 * what is under way, not what there is. Sources are tried fairly: who failed for a replica comes
 * after who did not, and a silent one has a second. */
#include "crdt/sync_private.h"
#include "proto/check.h"
#include "proto/mem.h"

#define STRIKES_MAX	   16
#define PATIENCE_SHIFT_MAX 4
#define SLICE_SHIFT_MAX	   10

/* --- who was asked ---------------------------------------------------------------------------- */

struct sync_try *sync_try_find(const struct sync_replica *replica, p2p_sync_peer peer)
{
	size_t i;

	for (i = 0; i < replica->try_count; i++)
		if (replica->tries[i].peer == peer)
			return &replica->tries[i];
	return NULL;
}

static struct sync_try *try_get(struct sync_replica *replica, p2p_sync_peer peer)
{
	struct sync_try *found = sync_try_find(replica, peer), *grown;
	size_t cap;

	if (found)
		return found;
	if (replica->try_count == replica->try_cap) {
		cap = replica->try_cap ? replica->try_cap * 2 : 2;
		grown = p2p_realloc(replica->tries, cap * sizeof(*grown));
		if (!grown)
			return NULL;
		replica->tries = grown;
		replica->try_cap = cap;
	}
	found = &replica->tries[replica->try_count++];
	*found = (struct sync_try){.peer = peer};
	return found;
}

void sync_forget_peer(struct p2p_sync *sync, p2p_sync_peer handle)
{
	struct sync_try *try;
	size_t i;

	for (i = 0; i < sync->replica_count; i++) {
		struct sync_replica *replica = sync->replicas[i];

		try = sync_try_find(replica, handle);
		if (try)
			*try = replica->tries[--replica->try_count];
		if (replica->stager == handle)
			replica->stager = SYNC_STAGER_MANY;
		if (replica->source != handle)
			continue;
		replica->source = 0;
		replica->asked_to = 0;
		sync_touch(sync, replica);
	}
}

/* How often it failed to give this lately; to give something else makes nothing good. */
static uint32_t failures(const struct p2p_sync *sync, const struct sync_replica *replica,
			 p2p_sync_peer peer)
{
	const struct sync_try *try = sync_try_find(replica, peer);
	uint64_t forgiven;

	if (!try)
		return 0;
	forgiven = (sync->now_ms - try->failed_ms) / SYNC_FORGIVE_MS;
	return forgiven < try->failures ? try->failures - (uint32_t)forgiven : 0;
}

void sync_failed(struct p2p_sync *sync, struct sync_replica *replica, struct sync_peer *peer)
{
	struct sync_try *try = try_get(replica, peer->handle);
	uint32_t before;
	uint64_t wait;

	if (peer->strikes < STRIKES_MAX)
		peer->strikes++;
	if (!try)
		return; /* no memory: it is tried like any other */
	before = failures(sync, replica, peer->handle);
	/* the first failure may be a lost message; a second one is not likely to be */
	wait = before ? (uint64_t)SYNC_MOVE_MS << (before - 1) : 0;
	try->until_ms = sync->now_ms + (wait < SYNC_ASK_AGAIN_MS ? wait : SYNC_ASK_AGAIN_MS);
	try->failures = before < SLICE_SHIFT_MAX ? before + 1 : before;
	try->failed_ms = sync->now_ms;
}

/* --- choosing --------------------------------------------------------------------------------- */

void sync_touch(struct p2p_sync *sync, struct sync_replica *replica)
{
	if (!replica->active) {
		replica->active = true;
		p2p_list_push(&sync->active, &replica->link);
	}
}

/* More than what is signed here: what is only staged may be anything. */
static bool can_give(const struct sync_peer *peer, const struct sync_replica *replica)
{
	const struct p2p_vv_entry *entry = p2p_vv_get(&peer->have, &replica->id);
	uint64_t seq = replica->verified;

	return entry && entry->seq > seq && !peer->clock_refused &&
	       (!entry->log_from || entry->log_from <= seq + 1);
}

/* Is a rather asked than b? */
static bool better(const struct p2p_sync *sync, const struct sync_replica *replica,
		   const struct sync_peer *a, const struct sync_peer *b)
{
	uint32_t x = failures(sync, replica, a->handle), y = failures(sync, replica, b->handle);

	if (x != y)
		return x < y;
	return a->strikes != b->strikes ? a->strikes < b->strikes : a->load < b->load;
}

/* Who has more of it, and the log back to there; not its source. NULL: nobody now; *out_until:
 * perhaps then. */
static struct sync_peer *source_choose(const struct p2p_sync *sync,
				       const struct sync_replica *replica, uint64_t *out_until)
{
	struct sync_peer *best = NULL;
	struct p2p_list *at;

	*out_until = UINT64_MAX;
	for (at = sync->peers.next; at != &sync->peers; at = at->next) {
		struct sync_peer *peer = p2p_container_of(at, struct sync_peer, link);
		const struct sync_try *try;

		if (peer->handle == replica->source || !peer->have_known ||
		    !can_give(peer, replica))
			continue;
		try = sync_try_find(replica, peer->handle);
		if (try && try->until_ms > sync->now_ms) {
			if (try->until_ms < *out_until)
				*out_until = try->until_ms;
			continue;
		}
		if (!best || better(sync, replica, peer, best))
			best = peer;
	}
	return best;
}

void sync_release(struct p2p_sync *sync, struct sync_replica *replica)
{
	struct sync_peer *peer = sync_peer_find(sync, replica->source);

	if (peer) {
		p2p_require(peer->load > 0); /* it was asked */
		peer->load--;
	}
	replica->source = 0;
	replica->asked_to = 0;
	sync_touch(sync, replica);
}

/* --- asking ----------------------------------------------------------------------------------- */

/* Asks from the first part on that is not stored; the source may be the same as before. Not 0: it
 * could not be asked now. */
static int ask(struct p2p_sync *sync, struct sync_replica *replica, struct sync_peer *peer)
{
	const struct p2p_sync_log *log = &sync->config.log;
	uint64_t seq;
	uint32_t segment;
	P2p__V1__Want want;
	int rc = 0;

	/* a head is the end of a group: one inside of what is staged contradicts it */
	if (p2p_vv_seq(&peer->have, &replica->id) <= replica->last.seq)
		rc = sync_restage(sync, replica);
	if (!rc)
		rc = log->resume(log->ctx, &replica->id, &seq, &segment);
	if (!rc && !try_get(replica, peer->handle))
		rc = P2P_ENOMEM;
	if (rc)
		return rc;
	p2p__v1__want__init(&want);
	want.replica = p2p_field(replica->id.bytes, P2P_ID_BYTES);
	want.from_seq = seq;
	want.from_segment = segment;
	want.to_seq = p2p_vv_seq(&peer->have, &replica->id);
	rc = sync_send(sync, peer, P2P_CLASS_CONTROL, P2P_MSG_WANT, &want.base);
	if (rc)
		return rc;
	if (replica->source != peer->handle)
		peer->load++;
	replica->source = peer->handle;
	replica->asked_to = want.to_seq;
	replica->asked_ms = replica->progress_ms = replica->slice_ms = sync->now_ms;
	return 0;
}

/* A source that another one takes over from need not go on. */
static void tell_stop(struct p2p_sync *sync, const struct sync_replica *replica)
{
	struct sync_peer *peer = sync_peer_find(sync, replica->source);

	/* lost, it sends what is passed over */
	if (peer)
		sync_reject(sync, peer, &replica->id, replica->last.seq, P2P_ECANCELED);
}

static bool unproven(const struct sync_replica *replica)
{
	return !replica->proven && (replica->last.seq > replica->verified || replica->current.seq);
}

/* It was chosen as the one that failed the least: so often everybody did, and the way is slow. */
static uint32_t patience(const struct p2p_sync *sync, const struct sync_replica *replica)
{
	uint32_t failed = failures(sync, replica, replica->source);

	return failed < PATIENCE_SHIFT_MAX ? failed : PATIENCE_SHIFT_MAX;
}

/* When to look whether the source has to give way: for lack of progress, or because nobody signed
 * yet what it gives, which a liar could feed for ever. */
static uint64_t source_due(const struct p2p_sync *sync, const struct sync_replica *replica)
{
	uint64_t due = replica->progress_ms + SYNC_MOVE_MS;
	uint64_t slice = replica->slice_ms +
			 ((uint64_t)SYNC_SLICE_MS << failures(sync, replica, replica->source));

	if (unproven(replica) && slice < due)
		due = slice;
	return due > replica->look_ms ? due : replica->look_ms;
}

/* Is another one to be asked instead? At once, if it failed less often. If all failed as often as
 * this one, the way is slow, and it gets more time each time. */
static bool gives_way(const struct p2p_sync *sync, const struct sync_replica *replica,
		      const struct sync_peer *other)
{
	uint64_t idle = sync->now_ms - replica->progress_ms;

	if (!other)
		return idle >= (uint64_t)SYNC_ASK_AGAIN_MS << patience(sync, replica);
	return failures(sync, replica, other->handle) < failures(sync, replica, replica->source) ||
	       idle < SYNC_MOVE_MS || /* its slice is over */
	       idle >= (uint64_t)SYNC_MOVE_MS << patience(sync, replica);
}

/* Its time is up: another one, if there is one; the same again only after a while, for what is
 * under way would come twice. */
static void source_stalled(struct p2p_sync *sync, struct sync_replica *replica)
{
	struct sync_peer *peer = sync_peer_find(sync, replica->source), *other;
	uint64_t until;

	p2p_require(peer != NULL); /* a peer that is down is nobody's source */
	other = source_choose(sync, replica, &until);
	if (!gives_way(sync, replica, other)) {
		if (!other)
			replica->slice_ms = sync->now_ms;
		replica->look_ms = sync->now_ms + SYNC_LOOK_MS;
		return;
	}
	sync_failed(sync, replica, peer);
	if (other)
		tell_stop(sync, replica);
	sync_release(sync, replica);
}

static bool may_ask(const struct p2p_sync *sync, const struct sync_replica *replica)
{
	return !replica->held && !replica->wait_signer &&
	       p2p_id_cmp(&replica->id, &sync->config.replica) != 0;
}

/* What is to be done about one replica now. Returns when to look again; UINT64_MAX: when something
 * changes. */
static uint64_t pull_step(struct p2p_sync *sync, struct sync_replica *replica)
{
	uint64_t until = replica->clock_retry_ms > replica->author_ms ? replica->clock_retry_ms
								      : replica->author_ms;
	struct sync_peer *peer;

	if (replica->source && sync->now_ms >= source_due(sync, replica))
		source_stalled(sync, replica);
	if (replica->source && may_ask(sync, replica))
		return source_due(sync, replica);
	if (replica->source) {
		tell_stop(sync, replica);
		sync_release(sync, replica);
	}
	if (!may_ask(sync, replica))
		return UINT64_MAX;
	if (until > sync->now_ms)
		return until;
	if (sync_load(sync, replica))
		return sync->now_ms + SYNC_MOVE_MS / 10; /* the log cannot be read: later */
	replica->author_ms = 0;
	peer = source_choose(sync, replica, &until);
	if (!peer)
		return until;
	/* its queue is full, or the log cannot be read: later */
	return ask(sync, replica, peer) ? sync->now_ms + SYNC_MOVE_MS / 10
					: source_due(sync, replica);
}

uint64_t sync_pull(struct p2p_sync *sync)
{
	uint64_t next = UINT64_MAX, due;
	struct p2p_list *at, *tmp;

	p2p_list_for_each (at, tmp, &sync->active) {
		struct sync_replica *replica = p2p_container_of(at, struct sync_replica, link);

		due = pull_step(sync, replica);
		if (due == UINT64_MAX) {
			p2p_list_remove(&replica->link);
			replica->active = false;
		} else if (due < next) {
			next = due;
		}
	}
	return next > sync->now_ms ? next : sync->now_ms + SYNC_MOVE_MS / 10;
}

void sync_pull_again(struct p2p_sync *sync, struct sync_replica *replica, struct sync_peer *peer)
{
	if (replica->source && replica->source != peer->handle) {
		tell_stop(sync, replica);
		sync_release(sync, replica);
	}
	sync_touch(sync, replica);
	if (sync_load(sync, replica) || !may_ask(sync, replica) || !can_give(peer, replica) ||
	    ask(sync, replica, peer))
		if (replica->source)
			sync_release(sync, replica);
}

/* --- what peers offer ------------------------------------------------------------------------- */

void sync_offered(struct p2p_sync *sync, struct sync_peer *peer, const struct p2p_id *id)
{
	struct sync_replica *replica = sync_replica_find(sync, id);
	struct p2p_key node;

	if (!replica) {
		/* unknown ids take no room: the certificate comes first */
		if (sync->config.log.signer(sync->config.log.ctx, id, &node)) {
			peer->unmet = true;
			return;
		}
		if (sync_replica_get(sync, id, &replica))
			return; /* no memory: at the next Have */
	}
	/* a source that failed before, and gave nothing since, gives way at once */
	if (replica->source && replica->source != peer->handle &&
	    replica->progress_ms == replica->asked_ms &&
	    failures(sync, replica, peer->handle) < failures(sync, replica, replica->source) &&
	    can_give(peer, replica)) {
		tell_stop(sync, replica);
		sync_release(sync, replica);
	}
	if (!replica->source && (!replica->loaded || can_give(peer, replica)))
		sync_touch(sync, replica);
}

/* All that it told of: its clock was set right, or certificates came. */
void sync_offered_all(struct p2p_sync *sync, struct sync_peer *peer)
{
	size_t i;

	peer->unmet = false;
	for (i = 0; i < peer->have.count; i++)
		sync_offered(sync, peer, &peer->have.entries[i].replica);
}

int sync_take_reject(struct p2p_sync *sync, struct sync_peer *peer, const P2p__V1__Reject *reject)
{
	struct sync_replica *replica;
	struct p2p_vv_entry entry;
	struct p2p_id id;
	int rc = p2p_field_id(&id, &reject->replica);

	if (rc)
		return rc;
	if (reject->code == P2P_ECANCELED) {
		sync_want_stop(peer, &id);
		return 0;
	}
	sync_proof_refused(sync, peer, &id);
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
		sync_failed(sync, replica, peer);
		sync_release(sync, replica);
		(void)sync_pull(sync); /* the tick asks again in time */
	}
	return rc;
}
