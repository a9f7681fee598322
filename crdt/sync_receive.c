/* Parts into the log: checked on arrival, in order, whole groups or nothing; see sync.h. */
#include <string.h>

#include "crdt/hlc.h"
#include "crdt/sync_private.h"
#include "proto/check.h"

/* --- one part --------------------------------------------------------------------------------- */

/* Outcomes beside 0 and errors: the part is passed over. */
#define PART_DROPPED 1

struct part {
	const P2p__V1__Part *in;
	struct sync_peer *peer;
	struct sync_replica *replica;
};

/* A changeset that begins: all of it was made by whoever sent the part. */
struct arrival {
	struct p2p_header header; /* arrays owned */
	struct p2p_hash hash;
	struct p2p_signature signature; /* if header.group_last */
};

/* What is staged and what comes now cannot both be right. It is the sender's fault if it gave both.
 * Otherwise nobody's: what its source or a signature contradicts is dropped and asked for again,
 * from one peer alone. */
static int conflict(struct p2p_sync *sync, const struct part *part, bool is_signed)
{
	struct sync_replica *replica = part->replica;
	int rc;

	if (replica->stager == part->peer->handle)
		return P2P_EPROTO;
	if (replica->source != part->peer->handle && !is_signed)
		return PART_DROPPED;
	rc = sync_staging_drop(sync, replica);
	if (rc)
		return rc;
	replica->exclusive = true;
	replica->again = part->peer->handle;
	return PART_DROPPED;
}

/* This peer has nothing for us of this replica: another one may. */
static int refuse(struct p2p_sync *sync, const struct part *part)
{
	sync_failed(sync, part->replica, part->peer);
	if (part->replica->source == part->peer->handle)
		sync_release(sync, part->replica);
	return PART_DROPPED;
}

void sync_clock_hold(struct p2p_sync *sync, struct sync_peer *peer, struct sync_replica *replica,
		     uint64_t seq)
{
	if (replica->clock_retry_ms <= sync->now_ms)
		sync_event(sync, P2P_SYNC_CLOCK, peer->handle, &replica->id, seq, P2P_ECLOCK,
			   "a change is stamped too far in the future: it is taken when its time "
			   "has come; is a clock wrong?");
	replica->clock_retry_ms = sync->now_ms + SYNC_CLOCK_RETRY_MS;
	sync_touch(sync, replica);
}

bool sync_clock_ahead(const struct p2p_sync *sync, const struct p2p_header *header)
{
	uint64_t wall = p2p_env_wall_ms(sync->config.env);

	return p2p_hlc_ms(header->stamp) > wall + sync->config.clock_ahead_max_ms;
}

static int stamp_check(struct p2p_sync *sync, const struct part *part,
		       const struct p2p_header *header)
{
	struct sync_replica *replica = part->replica;

	if (!sync_clock_ahead(sync, header))
		return 0;
	if (header->group_last) {
		sync_clock_hold(sync, part->peer, replica, header->seq);
		return PART_DROPPED;
	}
	/* nobody signed this: the head that the peer told of decides */
	sync_ask_proof(sync, part->peer, &replica->id, p2p_vv_seq(&part->peer->have, &replica->id));
	return refuse(sync, part);
}

static int signature_check(struct p2p_sync *sync, const struct part *part, struct arrival *arrival)
{
	const struct p2p_sync_log *log = &sync->config.log;
	struct p2p_key node;
	int rc = log->signer(log->ctx, &part->replica->id, &node);

	if (rc == P2P_ENOENT) {
		part->replica->wait_signer = true;
		return PART_DROPPED;
	}
	if (rc == P2P_EAUTH) {
		part->replica->held = P2P_EAUTH;
		return PART_DROPPED;
	}
	if (rc || !arrival->header.group_last)
		return rc;
	rc = p2p_field_signature(&arrival->signature, &part->in->signature);
	if (!rc &&
	    !p2p_header_verify(&arrival->signature, &sync->config.mesh, &arrival->hash, &node))
		rc = P2P_EAUTH;
	return rc;
}

/* The signed header, whose `prev` is not what we have. */
static void part_evidence(struct p2p_sync *sync, const struct part *part)
{
	ProtobufCBinaryData header = part->in->header;
	P2p__V1__HeaderProof proof;

	p2p__v1__header_proof__init(&proof);
	proof.replica = p2p_field(part->replica->id.bytes, P2P_ID_BYTES);
	proof.seq = part->in->seq;
	proof.n_headers = 1;
	proof.headers = &header;
	proof.signature = part->in->signature;
	sync_evidence_keep(sync, part->replica, &proof);
}

static int chain_check(struct p2p_sync *sync, const struct part *part,
		       const struct p2p_header *header)
{
	struct sync_replica *replica = part->replica;
	struct sync_fork fork = {.seq = replica->last.seq};
	int rc = p2p_header_follows(header, replica->last.seq ? &replica->last : NULL,
				    &replica->last_hash);

	if (rc != P2P_EFORK)
		return rc;
	if (replica->last.seq > replica->verified)
		return conflict(sync, part, header->group_last);
	/* what it stands on is not what we have, and ours is signed: so is `prev` of a signed one
	 */
	if (header->group_last) {
		fork.ours = replica->last_hash;
		fork.theirs = header->prev;
		part_evidence(sync, part);
		sync_forked(sync, part->peer, replica, &fork);
		return PART_DROPPED;
	}
	sync_ask_proof(sync, part->peer, &replica->id, replica->last.seq);
	return refuse(sync, part);
}

/* One segment against its hash. */
static int segment_check(const struct p2p_header *header, uint32_t index,
			 const ProtobufCBinaryData *data)
{
	uint64_t left = header->total_bytes - (uint64_t)index * P2P_SEGMENT_BYTES;
	struct p2p_hash hash;

	if (!header->segment_count)
		return data->len ? P2P_EPROTO : 0;
	if (data->len != (left < P2P_SEGMENT_BYTES ? left : P2P_SEGMENT_BYTES))
		return P2P_EPROTO;
	p2p_hash_bytes(&hash, data->data, data->len);
	return p2p_hash_cmp(&hash, &header->segments[index]) == 0 ? 0 : P2P_EPROTO;
}

/* Bytes that nobody signed yet are bounded; nobody is at fault who did not fill the room alone. */
static int room_check(struct p2p_sync *sync, const struct part *part)
{
	struct sync_replica *replica = part->replica;
	uint64_t bytes = part->in->header.len + part->in->data.len;
	int rc;

	if (replica->unverified + bytes > sync->config.staged_max_bytes)
		return replica->stager == part->peer->handle ? P2P_EQUOTA : refuse(sync, part);
	rc = sync_staging_room(sync, replica, bytes);
	return rc == SYNC_NO_ROOM ? refuse(sync, part) : rc;
}

/* What the part says by itself, and then how it fits to what we have. */
static int arrival_check(struct p2p_sync *sync, const struct part *part, struct arrival *arrival)
{
	struct p2p_header *header = &arrival->header;
	struct sync_replica *replica = part->replica;
	int rc = 0;

	if (p2p_id_cmp(&header->replica, &replica->id) != 0 || header->seq != part->in->seq)
		rc = P2P_EPROTO;
	if (!rc)
		rc = segment_check(header, 0, &part->in->data);
	if (!rc)
		rc = signature_check(sync, part, arrival);
	if (!rc)
		rc = stamp_check(sync, part, header);
	if (!rc)
		rc = chain_check(sync, part, header);
	if (!rc && !header->group_last)
		rc = room_check(sync, part);
	return rc;
}

/* A header and its first segment go into the log together. */
static int arrival_store(struct p2p_sync *sync, const struct part *part,
			 const struct arrival *arrival)
{
	const struct p2p_sync_log *log = &sync->config.log;
	const struct p2p_header *header = &arrival->header;
	const ProtobufCBinaryData *raw = &part->in->header, *data = &part->in->data;
	int rc = log->put_header(log->ctx, header, &arrival->hash, raw->data, raw->len,
				 header->group_last ? &arrival->signature : NULL);

	if (!rc && header->segment_count)
		rc = log->put_segment(log->ctx, &header->replica, header->seq, 0, data->data,
				      data->len);
	/* nothing is there that was not loaded */
	return rc == P2P_EEXIST || rc == P2P_EFORK ? P2P_ECORRUPT : rc;
}

/* The header of a changeset that begins, with its first segment. */
static int part_begin(struct p2p_sync *sync, const struct part *part)
{
	struct sync_replica *replica = part->replica;
	const ProtobufCBinaryData *raw = &part->in->header;
	struct arrival arrival;
	int rc = p2p_header_unpack(&arrival.header, raw->data, raw->len);

	if (rc == P2P_EVERSION)
		return refuse(sync, part); /* who relays what it need not read does no wrong */
	if (rc)
		return rc;
	p2p_header_hash(&arrival.hash, &sync->config.mesh, raw->data, raw->len);
	rc = arrival_check(sync, part, &arrival);
	if (!rc)
		rc = arrival_store(sync, part, &arrival);
	if (rc) {
		p2p_header_deinit(&arrival.header);
		return rc;
	}
	replica->current = arrival.header;
	replica->current_hash = arrival.hash;
	replica->next_segment = arrival.header.segment_count ? 1 : 0;
	replica->proven = arrival.header.group_last;
	return 0;
}

static int part_more(struct p2p_sync *sync, const struct part *part)
{
	const struct p2p_sync_log *log = &sync->config.log;
	struct sync_replica *replica = part->replica;
	const struct p2p_header *header = &replica->current;
	const ProtobufCBinaryData *data = &part->in->data;
	int rc = segment_check(header, replica->next_segment, data);

	if (rc)
		return replica->proven ? rc : conflict(sync, part, false);
	if (!replica->proven)
		rc = room_check(sync, part);
	if (rc)
		return rc;
	rc = log->put_segment(log->ctx, &replica->id, header->seq, replica->next_segment,
			      data->data, data->len);
	if (!rc)
		replica->next_segment++;
	return rc;
}

static int part_complete(const struct part *part)
{
	struct sync_replica *replica = part->replica;
	struct p2p_header *header = &replica->current;
	struct p2p_vv_entry entry = {.replica = replica->id, .seq = header->seq, .log_from = 1};

	if (replica->next_segment < header->segment_count)
		return 0;
	sync_last_set(replica, header, &replica->current_hash);
	if (header->group_last) {
		replica->verified = header->seq;
		replica->slice_ms = replica->progress_ms;
		replica->exclusive = false;
	}
	p2p_header_deinit(header);
	replica->next_segment = 0;
	replica->proven = false;
	/* who gives it has it */
	return p2p_vv_seq(&part->peer->have, &replica->id) < entry.seq
		       ? p2p_vv_put(&part->peer->have, &entry)
		       : 0;
}

/* Who gave what is staged and not signed yet, and how much it is. */
static void staged_set(struct p2p_sync *sync, const struct part *part)
{
	struct sync_replica *replica = part->replica;

	if (replica->proven || (!replica->current.seq && replica->last.seq <= replica->verified)) {
		replica->stager = 0;
		sync_unverified_set(sync, replica, 0);
		return;
	}
	if (!replica->stager)
		replica->stager = part->peer->handle;
	else if (replica->stager != part->peer->handle)
		replica->stager = SYNC_STAGER_MANY;
	sync_unverified_set(sync, replica,
			    replica->unverified + part->in->header.len + part->in->data.len);
}

/* Unsigned parts come from who was asked, or from their author. */
static bool part_welcome(const struct part *part)
{
	const struct sync_replica *replica = part->replica;
	const struct sync_peer *peer = part->peer;

	if (replica->source == peer->handle || part->in->signature.len || replica->proven)
		return true;
	if (replica->exclusive)
		return false;
	return sync_try_find(replica, peer->handle) ||
	       p2p_id_cmp(&peer->replica, &replica->id) == 0;
}

static int part_take(struct p2p_sync *sync, const struct part *part)
{
	struct sync_replica *replica = part->replica;
	const P2p__V1__Part *in = part->in;
	bool begins = replica->current.seq == 0;
	int rc, dropped;

	if (in->seq != (begins ? replica->last.seq + 1 : replica->current.seq) ||
	    in->segment != (begins ? 0 : replica->next_segment) || !part_welcome(part))
		return PART_DROPPED; /* a duplicate, too early, or not asked for */
	rc = begins ? part_begin(sync, part) : part_more(sync, part);
	if (!rc)
		staged_set(sync, part);
	if (!rc)
		rc = part_complete(part);
	/* what a peer gave that is at fault goes with it */
	if (rc < 0 && p2p_err_blame(rc) == P2P_BLAME_PEER &&
	    replica->stager == part->peer->handle) {
		dropped = sync_staging_drop(sync, replica);
		rc = dropped ? dropped : rc;
	}
	return rc;
}

/* Whose it is, and whether we take anything of it. */
static int part_find(struct p2p_sync *sync, struct sync_peer *peer, const P2p__V1__Part *in,
		     struct part *out)
{
	struct p2p_key node;
	struct p2p_id id;
	int rc = p2p_field_id(&id, &in->replica);

	if (rc)
		return rc;
	if (in->seq == 0 || in->seq > INT64_MAX || in->segment >= P2P_SEGMENTS_MAX ||
	    in->data.len > P2P_SEGMENT_BYTES)
		return P2P_EPROTO;
	out->in = in;
	out->peer = peer;
	out->replica = sync_replica_find(sync, &id);
	if (!out->replica) {
		/* unknown ids take no room: its certificate comes first */
		if (sync->config.log.signer(sync->config.log.ctx, &id, &node))
			return PART_DROPPED;
		rc = sync_replica_get(sync, &id, &out->replica);
		if (rc)
			return rc;
	}
	if (out->replica->held || out->replica->wait_signer || peer->clock_refused ||
	    p2p_id_cmp(&id, &sync->config.replica) == 0)
		return PART_DROPPED;
	return sync_load(sync, out->replica);
}

/* --- messages --------------------------------------------------------------------------------- */

/* Credit is used by what is sent, taken or not. */
static int credit_use(struct sync_peer *peer, const P2p__V1__Changes *changes)
{
	uint64_t cost = 0;
	size_t i;

	for (i = 0; i < changes->n_parts; i++)
		cost += SYNC_PART_BYTES + changes->parts[i]->header.len +
			changes->parts[i]->signature.len + changes->parts[i]->data.len;
	/* the last message may go over by what one message holds */
	if (peer->granted <= 0 || (int64_t)cost > peer->granted + P2P_MESSAGE_MAX)
		return P2P_EQUOTA;
	peer->granted -= (int64_t)cost;
	peer->grant += cost;
	return 0;
}

static int parts_take(struct p2p_sync *sync, struct sync_peer *peer,
		      const P2p__V1__Changes *changes)
{
	struct part part;
	size_t i;
	int rc = 0;

	for (i = 0; i < changes->n_parts; i++) {
		rc = part_find(sync, peer, changes->parts[i], &part);
		if (!rc)
			rc = part_take(sync, &part);
		if (rc < 0)
			return rc;
		if (rc == 0 && part.replica->source)
			part.replica->progress_ms = sync->now_ms;
	}
	return 0;
}

/* Nothing of the transaction is in the log: memory goes back to what is. */
static void parts_forget(struct p2p_sync *sync, const P2p__V1__Changes *changes)
{
	struct sync_replica *replica;
	struct p2p_id id;
	size_t i;

	for (i = 0; i < changes->n_parts; i++) {
		if (p2p_field_id(&id, &changes->parts[i]->replica))
			continue;
		replica = sync_replica_find(sync, &id);
		if (replica)
			sync_unload(sync, replica);
	}
}

/* Ranges that are whole now, or that cannot be had from this peer. */
static void parts_settle(struct p2p_sync *sync, const P2p__V1__Changes *changes)
{
	struct sync_replica *replica, *before = NULL;
	struct sync_peer *again;
	bool released = false;
	struct p2p_id id;
	size_t i;

	for (i = 0; i < changes->n_parts; i++) {
		if (p2p_field_id(&id, &changes->parts[i]->replica))
			continue;
		replica = sync_replica_find(sync, &id);
		if (!replica || replica == before)
			continue;
		before = replica;
		again = sync_peer_find(sync, replica->again);
		replica->again = 0;
		if (again)
			sync_pull_again(sync, replica, again);
		else if (replica->source &&
			 (replica->last.seq >= replica->asked_to || replica->held ||
			  replica->wait_signer || replica->clock_retry_ms > sync->now_ms))
			sync_release(sync, replica);
		released |= !replica->source && replica->active;
	}
	if (released)
		(void)sync_pull(sync); /* the tick looks again in time */
}

int sync_take_changes(struct p2p_sync *sync, struct sync_peer *peer,
		      const P2p__V1__Changes *changes)
{
	const struct p2p_sync_log *log = &sync->config.log;
	int rc = credit_use(peer, changes), commit;

	if (rc)
		return rc;
	rc = log->begin(log->ctx);
	if (rc)
		return 0; /* our own trouble: asked for again */
	rc = parts_take(sync, peer, changes);
	/* what was good before a bad part is kept, and a dropped group stays dropped */
	if (rc == 0 || p2p_err_blame(rc) == P2P_BLAME_PEER) {
		commit = log->commit(log->ctx);
	} else {
		log->rollback(log->ctx);
		commit = rc;
		rc = 0;
	}
	if (commit)
		parts_forget(sync, changes);
	parts_settle(sync, changes);
	sync_ack(sync, peer);
	sync_tell_ready(sync);
	return rc;
}
