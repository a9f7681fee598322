/* Sessions, and the vectors that are told and heard in them; see sync.h. */
#include <string.h>

#include "crdt/sync_private.h"
#include "proto/check.h"
#include "proto/mem.h"

#define CREDIT_GRANT_BYTES (P2P_CREDIT_BYTES / 8)
#define CREDIT_MAX	   (64ll * P2P_CREDIT_BYTES)
#define WALL_MS_MAX	   (1ull << 60)
/* Forwarded changes are told after this, so that the author's push comes first, and several go into
 * one message. */
#define TELL_MIN_MS 20
#define TELL_MAX_MS 50

/* --- clocks ----------------------------------------------------------------------------------- */

int64_t sync_clock_offset_ms(const struct p2p_sync *sync, const struct sync_peer *peer)
{
	uint64_t now = p2p_env_now(sync->config.env).ms;
	uint64_t theirs = peer->wall_ms + (now - peer->wall_at_ms);
	uint64_t ours = p2p_env_wall_ms(sync->config.env);
	uint64_t apart = theirs > ours ? theirs - ours : ours - theirs;

	if (apart > INT64_MAX)
		apart = INT64_MAX;
	return theirs > ours ? (int64_t)apart : -(int64_t)apart;
}

bool sync_clock_refused(const struct p2p_sync *sync, const struct sync_peer *peer)
{
	int64_t offset = sync_clock_offset_ms(sync, peer);

	return (uint64_t)(offset < 0 ? -offset : offset) > sync->config.clock_ahead_max_ms;
}

void sync_check_clock(struct p2p_sync *sync, struct sync_peer *peer)
{
	bool was = peer->clock_refused;

	peer->clock_refused = sync_clock_refused(sync, peer);
	if (was != peer->clock_refused)
		peer->digest_ms = sync->now_ms; /* ours may have jumped: the peer cannot see that */
	if (peer->clock_refused && !peer->clock_told) {
		peer->clock_told = true;
		sync_event(sync, P2P_SYNC_CLOCK, peer->handle, &peer->replica, 0, P2P_ECLOCK,
			   "its clock and ours differ too much: nothing is exchanged until one of "
			   "them is set right");
	}
	if (was && !peer->clock_refused) {
		peer->clock_told = false;
		sync_offered_all(sync, peer);
		sync_serve(sync, peer);
	}
}

/* --- telling ---------------------------------------------------------------------------------- */

static void entry_pack(const struct p2p_vv_entry *from, P2p__V1__VectorEntry *to)
{
	p2p__v1__vector_entry__init(to);
	to->replica = p2p_field(from->replica.bytes, P2P_ID_BYTES);
	to->seq = from->seq;
	to->head = p2p_field(from->head.bytes, P2P_HEAD_BYTES);
	to->log_from = from->log_from;
}

/* How many replicas changed since this peer was told. */
static size_t changed_count(struct p2p_sync *sync, const struct sync_peer *peer)
{
	struct p2p_list *at;
	size_t count = 0;

	for (at = sync->changes.prev; at != &sync->changes; at = at->prev, count++)
		if (p2p_container_of(at, struct sync_replica, change)->changed <= peer->told_to)
			break;
	return count;
}

/* The whole vector, or what changed since it was told and is not known to be there. */
static int entries_pack(struct p2p_sync *sync, const struct sync_peer *peer, bool full,
			P2p__V1__Have *have)
{
	size_t count = full ? sync->vector.count : changed_count(sync, peer), i;
	P2p__V1__VectorEntry *entries = p2p_calloc(count + 1, sizeof(*entries));
	struct p2p_list *at = sync->changes.prev;

	have->entries = p2p_calloc(count + 1, sizeof(P2p__V1__VectorEntry *));
	if (!entries || !have->entries) {
		p2p_free(entries);
		p2p_free(have->entries);
		have->entries = NULL;
		return P2P_ENOMEM;
	}
	have->entries[0] = entries; /* one block */
	for (i = 0; i < count; i++) {
		const struct p2p_vv_entry *from = &sync->vector.entries[i];

		if (!full) {
			from = &p2p_container_of(at, struct sync_replica, change)->merged;
			at = at->prev;
			if (p2p_vv_seq(&peer->have, &from->replica) >= from->seq)
				continue;
		}
		have->entries[have->n_entries] = &entries[have->n_entries];
		entry_pack(from, have->entries[have->n_entries++]);
	}
	return 0;
}

static void entries_free(P2p__V1__Have *have)
{
	if (have->entries)
		p2p_free(have->entries[0]);
	p2p_free(have->entries);
}

static const struct p2p_hash *digest(struct p2p_sync *sync)
{
	if (sync->digest_of != sync->changed) {
		p2p_vv_digest(&sync->vector, &sync->digest);
		sync->digest_of = sync->changed;
	}
	return &sync->digest;
}

/* The whole vector, or what it was not told and is not known to have. */
void sync_tell(struct p2p_sync *sync, struct sync_peer *peer)
{
	bool full = peer->tell_full;
	P2p__V1__Have have;
	int rc;

	if (full && peer->full_ms && sync->now_ms - peer->full_ms < SYNC_FULL_MIN_MS) {
		peer->tell_ms = peer->full_ms + SYNC_FULL_MIN_MS;
		return; /* who asks for it again and again waits */
	}
	p2p__v1__have__init(&have);
	have.wall_ms = p2p_env_wall_ms(sync->config.env);
	peer->tell_ms = 0;
	rc = entries_pack(sync, peer, full, &have);
	if (rc) {
		have.entries = NULL;
	} else if (full || have.n_entries) {
		if (full)
			have.digest = p2p_field(digest(sync)->bytes, P2P_HASH_BYTES);
		have.full = full;
		have.want_full = peer->ask_full;
		rc = sync_send(sync, peer, P2P_CLASS_CONTROL, P2P_MSG_HAVE, &have.base);
	}
	entries_free(&have);
	if (rc) { /* once more when there is room, or a little later */
		peer->tell_full = true;
		peer->tell_ms = sync->now_ms + TELL_MAX_MS;
		return;
	}
	peer->told_to = sync->changed;
	if (full)
		peer->full_ms = sync->now_ms;
	peer->tell_full = peer->ask_full = false;
}

static uint64_t jitter(struct p2p_sync *sync, uint64_t low, uint64_t high)
{
	uint32_t random;

	p2p_env_random(sync->config.env, &random, sizeof(random));
	return low + random % (high - low + 1);
}

void sync_tell_later(struct p2p_sync *sync, const struct sync_replica *replica)
{
	struct p2p_list *at, *tmp;

	p2p_list_for_each (at, tmp, &sync->peers) {
		struct sync_peer *peer = p2p_container_of(at, struct sync_peer, link);
		uint64_t seq = p2p_vv_seq(&peer->have, &replica->id);

		if (peer->tell_ms || seq >= replica->merged.seq)
			continue;
		if (p2p_id_cmp(&replica->id, &sync->config.replica) == 0) {
			/* pushed, or told at once */
			if (peer->pushed < replica->merged.seq)
				peer->tell_ms = sync->now_ms;
			continue;
		}
		/* with many peers most of what is forwarded is there already */
		peer->tell_ms = sync->now_ms + jitter(sync, TELL_MIN_MS, TELL_MAX_MS) +
				4 * sync->peer_count;
	}
}

static void tell_digest(struct p2p_sync *sync, struct sync_peer *peer)
{
	P2p__V1__Have have;

	p2p__v1__have__init(&have);
	have.wall_ms = p2p_env_wall_ms(sync->config.env);
	have.digest = p2p_field(digest(sync)->bytes, P2P_HASH_BYTES);
	/* lost is no harm: there is a next one */
	(void)!sync_send(sync, peer, P2P_CLASS_CONTROL, P2P_MSG_HAVE, &have.base);
}

uint64_t sync_have_tick(struct p2p_sync *sync, struct sync_peer *peer)
{
	uint64_t next;

	if (peer->tell_ms && sync->now_ms >= peer->tell_ms)
		sync_tell(sync, peer);
	if (sync->now_ms >= peer->digest_ms) {
		tell_digest(sync, peer);
		peer->digest_ms = sync->now_ms + peer->digest_interval_ms +
				  jitter(sync, 0, peer->digest_interval_ms / 4);
		if (peer->digest_interval_ms < SYNC_DIGEST_MAX_MS)
			peer->digest_interval_ms *= 2;
	}
	if (peer->ack_ms && sync->now_ms >= peer->ack_ms)
		sync_ack(sync, peer);
	next = peer->digest_ms;
	if (peer->tell_ms && peer->tell_ms < next)
		next = peer->tell_ms;
	if (peer->ack_ms && peer->ack_ms < next)
		next = peer->ack_ms;
	return next;
}

/* --- acks ------------------------------------------------------------------------------------- */

/* Tells an author what of it is durable here, and grants bytes that were used up. */
void sync_ack(struct p2p_sync *sync, struct sync_peer *peer)
{
	const struct sync_replica *replica = sync_replica_find(sync, &peer->replica);
	uint64_t durable = replica && !replica->held ? replica->durable : 0;
	P2p__V1__VectorEntry entry, *list = &entry;
	P2p__V1__Ack ack;

	peer->ack_ms = 0;
	if (durable <= peer->acked_told && peer->grant < CREDIT_GRANT_BYTES)
		return;
	p2p__v1__ack__init(&ack);
	p2p__v1__vector_entry__init(&entry);
	if (durable > peer->acked_told) {
		entry.replica = p2p_field(peer->replica.bytes, P2P_ID_BYTES);
		entry.seq = durable;
		entry.log_from = 1;
		ack.n_durable = 1;
		ack.durable = &list;
	}
	ack.credit_bytes = peer->grant < P2P_CREDIT_BYTES ? peer->grant : P2P_CREDIT_BYTES;
	if (sync_send(sync, peer, P2P_CLASS_CONTROL, P2P_MSG_ACK, &ack.base)) {
		/* at writable, with the next one, or a little later: nobody tells when memory is
		 * there again */
		peer->ack_ms = sync->now_ms + TELL_MAX_MS;
		return;
	}
	peer->granted += (int64_t)ack.credit_bytes;
	peer->grant -= ack.credit_bytes;
	if (durable > peer->acked_told)
		peer->acked_told = durable;
}

static int have_put(struct sync_peer *peer, const struct p2p_vv_entry *entry)
{
	const struct p2p_vv_entry *before = p2p_vv_get(&peer->have, &entry->replica);

	if (before && before->seq > entry->seq)
		return 0; /* told before it was overtaken */
	return p2p_vv_put(&peer->have, entry);
}

static int entry_read(const P2p__V1__VectorEntry *in, struct p2p_vv_entry *out)
{
	int rc = p2p_field_id(&out->replica, &in->replica);

	memset(&out->head, 0, sizeof(out->head));
	out->stamp.value = 0;
	out->seq = in->seq;
	out->log_from = in->log_from;
	if (!rc && in->head.len) {
		if (in->head.len != P2P_HEAD_BYTES)
			return P2P_EPROTO;
		memcpy(out->head.bytes, in->head.data, P2P_HEAD_BYTES);
	}
	if (!rc && (in->seq == 0 || in->seq > INT64_MAX || in->log_from > in->seq))
		rc = P2P_EPROTO;
	return rc;
}

/* One entry of an ack. Only what we made ourselves can be acknowledged to us; a duplicate, or what
 * is of others, means nothing (R11). */
static int take_durable(struct p2p_sync *sync, struct sync_peer *peer,
			const struct p2p_vv_entry *entry)
{
	const struct sync_replica *own = sync_own(sync);
	int rc;

	if (p2p_id_cmp(&entry->replica, &own->id) != 0 || entry->seq <= peer->acked_seq) {
		peer->acks_ignored++;
		return 0;
	}
	if (entry->seq > own->merged.seq) {
		/* it lies, or this disk was rolled back: that is decided by our own signature */
		peer->acks_ignored++;
		sync_ask_proof(sync, peer, &own->id, entry->seq);
		return 0;
	}
	rc = have_put(peer, entry);
	if (rc)
		return rc;
	peer->acked_seq = entry->seq;
	sync_event(sync, P2P_SYNC_ACKED, peer->handle, &entry->replica, entry->seq, 0, "");
	return 0;
}

int sync_take_ack(struct p2p_sync *sync, struct sync_peer *peer, const P2p__V1__Ack *ack)
{
	struct p2p_vv_entry entry;
	size_t i;
	int rc;

	if (ack->n_durable > P2P_REPLICAS_MAX)
		return P2P_ETOOBIG;
	for (i = 0; i < ack->n_durable; i++) {
		rc = entry_read(ack->durable[i], &entry);
		if (!rc)
			rc = take_durable(sync, peer, &entry);
		if (rc)
			return rc;
	}
	if (ack->credit_bytes > P2P_CREDIT_BYTES)
		return P2P_EPROTO;
	/* nobody gets back more than it may have under way */
	peer->credit += (int64_t)ack->credit_bytes;
	if (peer->credit > CREDIT_MAX)
		peer->credit = CREDIT_MAX;
	sync_serve(sync, peer);
	return 0;
}

/* --- hearing ---------------------------------------------------------------------------------- */

void sync_check_caught_up(struct p2p_sync *sync, struct sync_peer *peer)
{
	if (peer->caught_up || !peer->have_known || peer->missing)
		return;
	peer->caught_up = true;
	sync_event(sync, P2P_SYNC_CAUGHT_UP, peer->handle, NULL, 0, 0, "");
}

void sync_target_reached(struct p2p_sync *sync, struct sync_peer *peer, const struct p2p_id *id,
			 uint64_t before, uint64_t now)
{
	uint64_t target = peer->caught_up ? 0 : p2p_vv_seq(&peer->target, id);

	if (target > before && target <= now) {
		p2p_require(peer->missing > 0); /* it was counted */
		peer->missing--;
	}
	sync_check_caught_up(sync, peer);
}

/* Its first vector is what there is to catch up with. */
static int target_set(struct p2p_sync *sync, struct sync_peer *peer)
{
	size_t i;
	int rc = p2p_vv_copy(&peer->target, &peer->have);

	for (i = 0; i < peer->target.count && !rc; i++) {
		const struct p2p_vv_entry *entry = &peer->target.entries[i];
		const struct sync_replica *replica = sync_replica_find(sync, &entry->replica);

		/* what is refused for good is not waited for */
		if (replica && replica->held == P2P_EFORK)
			peer->target.entries[i].seq = 0;
		peer->missing += entry->seq > p2p_vv_seq(&sync->vector, &entry->replica);
	}
	peer->have_known = !rc;
	return rc;
}

static void author_grace(struct p2p_sync *sync, const struct sync_peer *teller,
			 const struct p2p_vv_entry *entry)
{
	const struct p2p_id *id = &entry->replica;
	struct sync_replica *replica = sync_replica_find(sync, id);
	struct p2p_list *at;

	if (!replica || replica->author_ms || entry->seq <= replica->last.seq ||
	    p2p_id_cmp(&teller->replica, id) == 0)
		return;
	for (at = sync->peers.next; at != &sync->peers; at = at->next) {
		const struct sync_peer *peer = p2p_container_of(at, struct sync_peer, link);

		/* its push is most likely on the way */
		if (peer->caught_up && p2p_id_cmp(&peer->replica, id) == 0)
			replica->author_ms = sync->now_ms + SYNC_AUTHOR_MS;
	}
}

static int take_entries(struct p2p_sync *sync, struct sync_peer *peer, const P2p__V1__Have *have)
{
	struct p2p_vv_entry entry;
	size_t i;
	int rc = 0;

	for (i = 0; i < have->n_entries && !rc; i++) {
		rc = entry_read(have->entries[i], &entry);
		if (!rc)
			rc = have_put(peer, &entry);
		if (rc)
			return rc;
		sync_compare_head(sync, peer, &entry);
		if (!have->full)
			author_grace(sync, peer, &entry);
		sync_offered(sync, peer, &entry.replica);
	}
	return rc;
}

/* Own changes that it lacks and that are few are pushed by the next freeze on. */
static void pushed_from(struct p2p_sync *sync, struct sync_peer *peer)
{
	uint64_t seq = p2p_vv_seq(&peer->have, &sync->config.replica);

	if (seq > peer->pushed)
		peer->pushed = seq;
}

/* Its digest is ours: it has what we have, also what neither told the other because it was heard
 * from the author. */
static int take_equal(struct p2p_sync *sync, struct sync_peer *peer)
{
	size_t i;
	int rc = 0;

	if (peer->equal_to == sync->changed)
		return 0; /* as the last time */
	for (i = 0; i < sync->vector.count && !rc; i++)
		if (sync->vector.entries[i].seq)
			rc = have_put(peer, &sync->vector.entries[i]);
	if (!rc)
		peer->equal_to = sync->changed;
	return rc;
}

/* A digest alone: is something missing that was lost on the way? */
static int take_digest(struct p2p_sync *sync, struct sync_peer *peer, const struct p2p_hash *theirs)
{
	uint64_t own = sync_own(sync)->merged.seq;
	bool level = p2p_hash_cmp(digest(sync), theirs) == 0;
	/* it has all of ours, but its ack did not come: if so the next time too, it is lost */
	uint64_t missed = level && peer->acked_seq < own ? own : 0;

	if (!level || !peer->have_known || (missed && peer->ack_missed == missed))
		peer->tell_full = peer->ask_full = true;
	if (!level)
		sync_evidence_tell(sync, peer);
	peer->ack_missed = missed;
	return level ? take_equal(sync, peer) : 0;
}

int sync_take_have(struct p2p_sync *sync, struct sync_peer *peer, const P2p__V1__Have *have)
{
	bool first = !peer->have_known;
	struct p2p_hash theirs;
	int rc;

	if (have->n_entries > P2P_REPLICAS_MAX)
		return P2P_ETOOBIG;
	if (have->digest.len && p2p_field_hash(&theirs, &have->digest))
		return P2P_EPROTO;
	if (have->wall_ms > WALL_MS_MAX)
		return P2P_EPROTO;
	if (have->wall_ms) {
		peer->wall_ms = have->wall_ms;
		peer->wall_at_ms = sync->now_ms;
		sync_check_clock(sync, peer);
	}
	rc = take_entries(sync, peer, have);
	if (rc)
		return rc;
	if (first && have->full) {
		rc = target_set(sync, peer);
		if (rc)
			return rc;
	}
	if (!have->full && !have->n_entries && have->digest.len)
		rc = take_digest(sync, peer, &theirs);
	if (rc)
		return rc;
	pushed_from(sync, peer);
	sync_check_caught_up(sync, peer);
	if (have->want_full) {
		peer->tell_full = true;
		peer->acked_told = 0; /* an ack may be what it misses */
	}
	if (peer->tell_full)
		sync_tell(sync, peer);
	sync_ack(sync, peer);
	(void)sync_pull(sync); /* the tick looks again in time */
	/* what it was told of it asks for itself */
	if (first && peer->told_to < sync_own(sync)->changed)
		sync_push(sync, peer);
	return 0;
}

/* --- up --------------------------------------------------------------------------------------- */

int p2p_sync_peer_up(struct p2p_sync *sync, p2p_sync_peer handle, const struct p2p_key *node,
		     const P2p__V1__Hello *hello)
{
	struct sync_peer *peer;
	struct p2p_id replica = {{0}};

	/* a reader has none */
	if (hello->replica.len && p2p_field_id(&replica, &hello->replica))
		return P2P_EPROTO;
	if (hello->wall_ms > WALL_MS_MAX || hello->credit_bytes > CREDIT_MAX)
		return P2P_EPROTO;
	p2p_require(handle && !sync_peer_find(sync, handle));
	peer = p2p_calloc(1, sizeof(*peer));
	if (!peer)
		return P2P_ENOMEM;
	sync->now_ms = p2p_env_now(sync->config.env).ms;
	peer->handle = handle;
	peer->node = *node;
	peer->replica = replica;
	peer->wall_ms = hello->wall_ms;
	peer->wall_at_ms = sync->now_ms;
	peer->credit = (int64_t)hello->credit_bytes;
	peer->granted = P2P_CREDIT_BYTES;
	peer->digest_interval_ms = SYNC_DIGEST_MIN_MS;
	peer->digest_ms = sync->now_ms + SYNC_DIGEST_MIN_MS;
	peer->tell_full = true;
	p2p_list_push(&sync->peers, &peer->link);
	sync->peer_count++;
	sync_check_clock(sync, peer);
	sync_tell(sync, peer);
	sync_ack(sync, peer); /* an earlier session's ack may have been lost with it */
	sync_evidence_tell(sync, peer);
	return 0;
}
