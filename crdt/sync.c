/* Life of the engine, its vector, and what may be merged next; see sync.h. */
#include "crdt/sync.h"

#include <stdlib.h>
#include <string.h>

#include "crdt/sync_private.h"
#include "proto/check.h"
#include "proto/mem.h"

int p2p_sync_new(const struct p2p_sync_config *config, struct p2p_sync **out)
{
	struct p2p_sync *sync = p2p_calloc(1, sizeof(*sync));
	struct sync_replica *own;
	int rc;

	if (!sync)
		return P2P_ENOMEM;
	sync->config = *config;
	if (!config->staged_max_bytes)
		sync->config.staged_max_bytes = P2P_NODE_STAGED_BYTES_MAX;
	p2p_list_init(&sync->peers);
	p2p_list_init(&sync->active);
	p2p_list_init(&sync->changes);
	sync->digest_of = UINT64_MAX;
	p2p_vv_init(&sync->vector);
	p2p_buf_init(&sync->header, P2P_HEADER_BYTES_MAX);
	p2p_buf_init(&sync->signature, P2P_SIG_BYTES);
	p2p_buf_init(&sync->data, P2P_SEGMENT_BYTES);
	sync->now_ms = sync->second_ms = p2p_env_now(config->env).ms;
	rc = sync_replica_get(sync, &config->replica, &own);
	if (rc) {
		p2p_sync_free(sync);
		return rc;
	}
	*out = sync;
	return 0;
}

static void peer_free(struct p2p_sync *sync, struct sync_peer *peer)
{
	p2p_list_remove(&peer->link);
	sync->peer_count--;
	p2p_vv_deinit(&peer->have);
	p2p_vv_deinit(&peer->target);
	p2p_free(peer->wants);
	p2p_free(peer);
}

void p2p_sync_free(struct p2p_sync *sync)
{
	struct p2p_list *at, *tmp;
	size_t i;

	if (!sync)
		return;
	p2p_list_for_each (at, tmp, &sync->peers)
		peer_free(sync, p2p_container_of(at, struct sync_peer, link));
	for (i = 0; i < sync->replica_count; i++) {
		sync_unload(sync, sync->replicas[i]);
		p2p_buf_deinit(&sync->replicas[i]->evidence);
		p2p_free(sync->replicas[i]->tries);
		p2p_free(sync->replicas[i]);
	}
	p2p_free(sync->replicas);
	p2p_vv_deinit(&sync->vector);
	p2p_buf_deinit(&sync->header);
	p2p_buf_deinit(&sync->signature);
	p2p_buf_deinit(&sync->data);
	p2p_free(sync);
}

/* --- replicas --------------------------------------------------------------------------------- */

static size_t replica_place(const struct p2p_sync *sync, const struct p2p_id *id, bool *found)
{
	size_t low = 0, high = sync->replica_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (p2p_id_cmp(&sync->replicas[mid]->id, id) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	*found = low < sync->replica_count && p2p_id_cmp(&sync->replicas[low]->id, id) == 0;
	return low;
}

struct sync_replica *sync_replica_find(const struct p2p_sync *sync, const struct p2p_id *id)
{
	bool found;
	size_t at = replica_place(sync, id, &found);

	return found ? sync->replicas[at] : NULL;
}

int sync_replica_get(struct p2p_sync *sync, const struct p2p_id *id, struct sync_replica **out)
{
	struct sync_replica **grown;
	bool found;
	size_t at = replica_place(sync, id, &found), cap;

	if (found) {
		*out = sync->replicas[at];
		return 0;
	}
	if (sync->replica_count >= P2P_REPLICAS_MAX)
		return P2P_ETOOBIG;
	if (sync->replica_count == sync->replica_cap) {
		cap = sync->replica_cap ? sync->replica_cap * 2 : 8;
		grown = p2p_realloc(sync->replicas, cap * sizeof(struct sync_replica *));
		if (!grown)
			return P2P_ENOMEM;
		sync->replicas = grown;
		sync->replica_cap = cap;
	}
	*out = p2p_calloc(1, sizeof(**out));
	if (!*out)
		return P2P_ENOMEM;
	(*out)->id = (*out)->merged.replica = *id;
	p2p_list_init(&(*out)->change);
	memmove(&sync->replicas[at + 1], &sync->replicas[at],
		(sync->replica_count - at) * sizeof(struct sync_replica *));
	sync->replicas[at] = *out;
	sync->replica_count++;
	return 0;
}

struct sync_replica *sync_own(const struct p2p_sync *sync)
{
	struct sync_replica *own = sync_replica_find(sync, &sync->config.replica);

	p2p_require(own != NULL); /* made with the engine */
	return own;
}

struct sync_peer *sync_peer_find(const struct p2p_sync *sync, p2p_sync_peer handle)
{
	struct p2p_list *at;

	for (at = sync->peers.next; at != &sync->peers; at = at->next) {
		struct sync_peer *peer = p2p_container_of(at, struct sync_peer, link);

		if (peer->handle == handle)
			return peer;
	}
	return NULL;
}

void sync_event(struct p2p_sync *sync, enum p2p_sync_event_kind kind, p2p_sync_peer peer,
		const struct p2p_id *replica, uint64_t seq, int code, const char *text)
{
	struct p2p_sync_event event = {.kind = kind, .peer = peer, .seq = seq, .code = code};

	if (replica)
		event.replica = *replica;
	event.text = text;
	sync->config.callbacks.event(sync->config.callbacks.ctx, &event);
}

int sync_send(struct p2p_sync *sync, struct sync_peer *peer, enum p2p_class cls,
	      enum p2p_message_type type, const ProtobufCMessage *message)
{
	const struct p2p_sync_callbacks *callbacks = &sync->config.callbacks;

	return callbacks->send(callbacks->ctx, peer->handle, cls, type, message);
}

uint64_t sync_servable(struct p2p_sync *sync, const struct p2p_id *id)
{
	struct sync_replica *replica = sync_replica_find(sync, id);

	if (!replica)
		return 0;
	if (p2p_id_cmp(id, &sync->config.replica) == 0)
		return replica->merged.seq;
	return sync_load(sync, replica) ? replica->merged.seq : replica->verified;
}

/* --- what is merged --------------------------------------------------------------------------- */

int p2p_sync_merged_room(struct p2p_sync *sync, const struct p2p_id *replica)
{
	struct sync_replica *known;
	int rc = sync_replica_get(sync, replica, &known);

	return rc ? rc : p2p_vv_room(&sync->vector, replica);
}

int p2p_sync_set_merged(struct p2p_sync *sync, const struct p2p_vv_entry *entry)
{
	bool own = p2p_id_cmp(&entry->replica, &sync->config.replica) == 0;
	struct sync_replica *replica;
	struct p2p_list *at, *tmp;
	uint64_t before = p2p_vv_seq(&sync->vector, &entry->replica);
	int rc = sync_replica_get(sync, &entry->replica, &replica);

	if (!rc)
		rc = p2p_vv_put(&sync->vector, entry);
	if (rc)
		return rc;
	sync->now_ms = p2p_env_now(sync->config.env).ms; /* the last tick may be long ago */
	replica->changed = ++sync->changed;
	p2p_list_remove(&replica->change);
	p2p_list_push(&sync->changes, &replica->change);
	replica->merged = *entry;
	replica->merged.log_from = entry->seq ? 1 : 0; /* no node drops its log yet */
	replica->group.last = 0;
	if (replica->loaded && replica->verified < entry->seq)
		sync_unload(sync, replica); /* the owner knows more than we saw */
	p2p_list_for_each (at, tmp, &sync->peers) {
		struct sync_peer *peer = p2p_container_of(at, struct sync_peer, link);

		if (own)
			sync_push(sync, peer);
		sync_target_reached(sync, peer, &entry->replica, before, entry->seq);
		peer->digest_interval_ms = SYNC_DIGEST_MIN_MS;
		if (peer->digest_ms > sync->now_ms + SYNC_DIGEST_MIN_MS)
			peer->digest_ms = sync->now_ms + SYNC_DIGEST_MIN_MS;
	}
	sync_tell_later(sync, replica);
	sync_tell_ready(sync);
	return 0;
}

bool p2p_sync_durable(struct p2p_sync *sync)
{
	struct p2p_list *at, *tmp;
	bool all = true;
	size_t i;

	for (i = 0; i < sync->replica_count; i++)
		sync->replicas[i]->durable = sync->replicas[i]->merged.seq;
	p2p_list_for_each (at, tmp, &sync->peers) {
		struct sync_peer *peer = p2p_container_of(at, struct sync_peer, link);

		sync_ack(sync, peer);
		all = all && !peer->ack_ms;
	}
	return all;
}

void p2p_sync_records_changed(struct p2p_sync *sync)
{
	struct p2p_list *at, *tmp;
	size_t i;

	for (i = 0; i < sync->replica_count; i++) {
		struct sync_replica *replica = sync->replicas[i];

		if (replica->wait_signer || replica->held == P2P_EAUTH)
			sync_touch(sync, replica);
		replica->wait_signer = false;
		if (replica->held == P2P_EAUTH)
			replica->held = 0;
	}
	p2p_list_for_each (at, tmp, &sync->peers) {
		struct sync_peer *peer = p2p_container_of(at, struct sync_peer, link);

		if (peer->unmet)
			sync_offered_all(sync, peer);
	}
}

void p2p_sync_hold(struct p2p_sync *sync, const struct p2p_id *id, int code)
{
	struct sync_replica *replica = sync_replica_find(sync, id);

	p2p_require(replica != NULL); /* it was handed out to be merged */
	replica->held = code;
	sync_event(sync, P2P_SYNC_BAD_PEER, 0, id, replica->merged.seq + 1, code,
		   "its changes are signed, but malformed: nothing more of it is merged");
}

/* --- what is next ----------------------------------------------------------------------------- */

bool sync_pending(const struct p2p_sync *sync, const struct sync_replica *replica)
{
	return !replica->held && replica->loaded && replica->verified > replica->merged.seq &&
	       p2p_id_cmp(&replica->id, &sync->config.replica) != 0;
}

void sync_tell_ready(struct p2p_sync *sync)
{
	size_t i;

	for (i = 0; i < sync->replica_count; i++)
		if (sync_pending(sync, sync->replicas[i])) {
			sync->config.callbacks.ready(sync->config.callbacks.ctx);
			return;
		}
}

/* What is not taken any more is not waited for: else all who took it before would wait with it
 * (decisions 18, 19). */
static bool covered(const struct p2p_sync *sync, const struct p2p_dot *dot)
{
	const struct sync_replica *replica = sync_replica_find(sync, &dot->replica);

	return replica && (replica->held == P2P_EFORK || replica->merged.seq >= dot->seq);
}

static int header_of(struct p2p_sync *sync, const struct p2p_id *id, uint64_t seq,
		     struct p2p_header *out)
{
	const struct p2p_sync_log *log = &sync->config.log;
	int rc;

	p2p_buf_reset(&sync->header);
	p2p_buf_reset(&sync->signature);
	rc = log->header(log->ctx, id, seq, &sync->header, &sync->signature);
	return rc ? rc : p2p_header_unpack(out, sync->header.data, sync->header.len);
}

static void group_deps(struct p2p_sync *sync, struct sync_replica *replica,
		       const struct p2p_header *header)
{
	size_t i;

	replica->blocked.seq = 0;
	for (i = 0; i < header->dep_count && !replica->blocked.seq; i++)
		if (!covered(sync, &header->deps[i]))
			replica->blocked = header->deps[i];
}

/* Finds where the next group ends, and what it waits for. */
static int group_look(struct p2p_sync *sync, struct sync_replica *replica)
{
	struct p2p_sync_group group = {replica->id, replica->merged.seq + 1, 0, 0};
	struct p2p_header header;
	uint64_t seq;
	bool last = false;
	int rc;

	for (seq = group.first; !last; seq++) {
		if (seq > replica->verified)
			return P2P_ECORRUPT; /* a group ends where it was verified */
		rc = header_of(sync, &replica->id, seq, &header);
		if (rc)
			return rc;
		if (seq == group.first)
			group_deps(sync, replica, &header);
		group.rows += header.row_count;
		last = header.group_last;
		p2p_header_deinit(&header);
	}
	group.last = seq - 1;
	replica->group = group;
	return 0;
}

static bool replica_ready(struct p2p_sync *sync, struct sync_replica *replica)
{
	struct p2p_header header;

	if (!sync_pending(sync, replica))
		return false;
	if (!replica->group.last && group_look(sync, replica)) {
		sync->look_again = true;
		return false;
	}
	if (!replica->blocked.seq)
		return true;
	if (!covered(sync, &replica->blocked))
		return false;
	if (header_of(sync, &replica->id, replica->group.first, &header)) {
		sync->look_again = true;
		return false;
	}
	group_deps(sync, replica, &header);
	p2p_header_deinit(&header);
	return !replica->blocked.seq;
}

bool p2p_sync_next_ready(struct p2p_sync *sync, struct p2p_sync_group *out)
{
	size_t i, count = sync->replica_count;

	for (i = 0; i < count; i++) {
		struct sync_replica *replica = sync->replicas[(sync->ready_next + i) % count];

		/* what was stored before this process began */
		if (!replica->loaded && sync_load(sync, replica)) {
			sync->look_again = true;
			continue;
		}
		if (replica_ready(sync, replica)) {
			sync->ready_next = (sync->ready_next + i + 1) % count;
			*out = replica->group;
			return true;
		}
	}
	return false;
}

/* --- time ------------------------------------------------------------------------------------- */

struct p2p_time p2p_sync_tick(struct p2p_sync *sync, struct p2p_time now)
{
	struct p2p_list *at, *tmp;
	struct p2p_time next;

	sync->now_ms = now.ms;
	if (sync->look_again) {
		sync->look_again = false;
		sync->config.callbacks.ready(sync->config.callbacks.ctx);
	}
	next.ms = sync_pull(sync);
	p2p_list_for_each (at, tmp, &sync->peers) {
		struct sync_peer *peer = p2p_container_of(at, struct sync_peer, link);
		uint64_t due;

		if (now.ms - sync->second_ms >= 1000) {
			peer->proofs = peer->evidence = peer->compares = 0;
			if (peer->strikes)
				peer->strikes--;
			sync_check_clock(sync, peer);
		}
		due = sync_have_tick(sync, peer);
		if (due < next.ms)
			next.ms = due;
		due = sync_proof_tick(sync, peer);
		if (due < next.ms)
			next.ms = due;
	}
	if (now.ms - sync->second_ms >= 1000)
		sync->second_ms = now.ms;
	return next;
}

/* --- status ----------------------------------------------------------------------------------- */

const struct p2p_vv *p2p_sync_vector(const struct p2p_sync *sync)
{
	return &sync->vector;
}

/* Changesets that `from` has and `to` lacks; INT64_MAX at most, for a peer may claim what nobody
 * can have. */
static uint64_t lacking(const struct p2p_vv *from, const struct p2p_vv *to)
{
	uint64_t count = 0;
	size_t i, j = 0;

	for (i = 0; i < from->count && count <= INT64_MAX; i++) {
		const struct p2p_vv_entry *entry = &from->entries[i];
		uint64_t seq = 0;

		/* both are sorted */
		while (j < to->count && p2p_id_cmp(&to->entries[j].replica, &entry->replica) < 0)
			j++;
		if (j < to->count && p2p_id_cmp(&to->entries[j].replica, &entry->replica) == 0)
			seq = to->entries[j].seq;
		if (entry->seq > seq)
			count += entry->seq - seq;
	}
	return count < INT64_MAX ? count : INT64_MAX;
}

bool p2p_sync_peer_status(const struct p2p_sync *sync, p2p_sync_peer handle,
			  struct p2p_sync_peer_status *out)
{
	const struct sync_peer *peer = sync_peer_find(sync, handle);

	memset(out, 0, sizeof(*out));
	if (!peer)
		return false;
	out->behind = lacking(&sync->vector, &peer->have);
	out->ahead = lacking(&peer->have, &sync->vector);
	out->acked_seq = peer->acked_seq;
	out->acks_ignored = peer->acks_ignored;
	out->caught_up = peer->caught_up;
	out->clock_refused = peer->clock_refused;
	out->have_known = peer->have_known;
	out->clock_offset_ms = sync_clock_offset_ms(sync, peer);
	return true;
}

size_t p2p_sync_peers_level(const struct p2p_sync *sync)
{
	uint64_t own = sync_own(sync)->merged.seq;
	struct p2p_list *at;
	size_t level = 0;

	for (at = sync->peers.next; at != &sync->peers; at = at->next) {
		const struct sync_peer *peer = p2p_container_of(at, struct sync_peer, link);

		level += peer->have_known && peer->acked_seq >= own &&
			 !lacking(&peer->have, &sync->vector);
	}
	return level;
}

bool p2p_sync_heard(const struct p2p_sync *sync)
{
	struct p2p_list *at;

	for (at = sync->peers.next; at != &sync->peers; at = at->next) {
		const struct sync_peer *peer = p2p_container_of(at, struct sync_peer, link);

		if (peer->have_known && !sync_clock_refused(sync, peer))
			return true;
	}
	return false;
}

bool p2p_sync_in_question(const struct p2p_sync *sync)
{
	struct p2p_list *at;

	for (at = sync->peers.next; at != &sync->peers; at = at->next) {
		const struct sync_peer *peer = p2p_container_of(at, struct sync_peer, link);

		if (peer->asked.seq && !sync_liar(sync, &peer->node) &&
		    p2p_id_cmp(&peer->asked.replica, &sync->config.replica) == 0)
			return true;
	}
	return false;
}

static int by_offset(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

int64_t p2p_sync_clock_offset_ms(const struct p2p_sync *sync)
{
	int64_t offsets[P2P_PEERS_MAX + 1] = {0};
	struct p2p_list *at;
	size_t count = 1;

	if (sync->peer_count < 2)
		return 0;
	for (at = sync->peers.next; at != &sync->peers && count <= P2P_PEERS_MAX; at = at->next)
		offsets[count++] =
			sync_clock_offset_ms(sync, p2p_container_of(at, struct sync_peer, link));
	qsort(offsets, count, sizeof(*offsets), by_offset);
	return offsets[(count - 1) / 2];
}

/* --- sessions --------------------------------------------------------------------------------- */

void p2p_sync_peer_down(struct p2p_sync *sync, p2p_sync_peer handle)
{
	struct sync_peer *peer = sync_peer_find(sync, handle);

	if (!peer)
		return;
	sync->now_ms =
		p2p_env_now(sync->config.env).ms; /* what is asked now has its time from now */
	sync_forget_peer(sync, handle);
	peer_free(sync, peer);
	(void)sync_pull(sync); /* the tick looks again in time */
}

void p2p_sync_writable(struct p2p_sync *sync, p2p_sync_peer handle)
{
	struct sync_peer *peer = sync_peer_find(sync, handle);

	if (!peer)
		return;
	sync->now_ms = p2p_env_now(sync->config.env).ms;
	peer->blocked = false;
	if (peer->tell_full)
		sync_tell(sync, peer);
	sync_ack(sync, peer);
	sync_serve(sync, peer);
}

static int take(struct p2p_sync *sync, struct sync_peer *peer, const struct p2p_message *message)
{
	switch ((int)message->type) {
	case P2P_MSG_HAVE:
		return sync_take_have(sync, peer, message->have);
	case P2P_MSG_WANT:
		return sync_take_want(sync, peer, message->want);
	case P2P_MSG_CHANGES:
		return sync_take_changes(sync, peer, message->changes);
	case P2P_MSG_ACK:
		return sync_take_ack(sync, peer, message->ack);
	case P2P_MSG_REJECT:
		return sync_take_reject(sync, peer, message->reject);
	case P2P_MSG_WANT_HEADER:
		return sync_take_want_header(sync, peer, message->want_header);
	case P2P_MSG_HEADER_PROOF:
		return sync_take_proof(sync, peer, message->header_proof);
	default:
		return P2P_EPROTO;
	}
}

int p2p_sync_receive(struct p2p_sync *sync, p2p_sync_peer handle, const struct p2p_message *message)
{
	struct sync_peer *peer = sync_peer_find(sync, handle);

	if (!peer)
		return 0; /* it went down meanwhile */
	sync->now_ms = p2p_env_now(sync->config.env).ms;
	return take(sync, peer, message);
}
