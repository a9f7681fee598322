/* Changesets out of the log to a peer: asked for, or pushed; see sync.h. */
#include <string.h>

#include "crdt/sync_private.h"
#include "proto/check.h"
#include "proto/mem.h"

#define PARTS_MAX 512 /* in one message */

/* A message in the making. Bytes are copied out of the log into one buffer, in which parts lie one
 * after the other. */
struct batch {
	P2p__V1__Part parts[PARTS_MAX], *list[PARTS_MAX];
	size_t header_at[PARTS_MAX], signature_at[PARTS_MAX], data_at[PARTS_MAX];
	size_t count;
	uint64_t cost;
	struct p2p_buf bytes;
};

static struct batch *batch_new(void)
{
	struct batch *batch = p2p_calloc(1, sizeof(*batch));

	if (batch)
		p2p_buf_init(&batch->bytes, P2P_MESSAGE_MAX);
	return batch;
}

static void batch_free(struct batch *batch)
{
	if (batch)
		p2p_buf_deinit(&batch->bytes);
	p2p_free(batch);
}

/* The log may be busy too (its file is locked), but no `writable` follows that. */
static int log_error(int rc)
{
	return rc == P2P_EBUSY ? P2P_EIO : rc;
}

/* One part: header and signature with segment 0. P2P_ENOENT: not in the log. P2P_EBUSY: no room for
 * it in this message. */
static int batch_add(struct p2p_sync *sync, struct batch *batch, const struct p2p_id *id,
		     uint64_t seq, uint32_t segment, uint32_t segment_count)
{
	const struct p2p_sync_log *log = &sync->config.log;
	P2p__V1__Part *part = &batch->parts[batch->count];
	size_t before = batch->bytes.len;
	int rc = 0;

	p2p_buf_reset(&sync->data);
	if (segment < segment_count)
		rc = log_error(log->segment(log->ctx, id, seq, segment, &sync->data));
	if (rc)
		return rc;
	if (batch->count &&
	    before + sync->data.len + sync->header.len > P2P_HEADER_BYTES_MAX + P2P_SEGMENT_BYTES)
		return P2P_EBUSY;
	p2p__v1__part__init(part);
	batch->header_at[batch->count] = batch->bytes.len;
	if (segment == 0) {
		p2p_buf_put(&batch->bytes, sync->header.data, sync->header.len);
		part->header.len = sync->header.len;
	}
	batch->signature_at[batch->count] = batch->bytes.len;
	if (segment == 0) {
		p2p_buf_put(&batch->bytes, sync->signature.data, sync->signature.len);
		part->signature.len = sync->signature.len;
	}
	batch->data_at[batch->count] = batch->bytes.len;
	p2p_buf_put(&batch->bytes, sync->data.data, sync->data.len);
	part->data.len = sync->data.len;
	part->seq = seq;
	part->segment = segment;
	rc = p2p_buf_error(&batch->bytes);
	if (rc)
		return rc;
	batch->cost += SYNC_PART_BYTES + (batch->bytes.len - before);
	batch->count++;
	return 0;
}

static int batch_send(struct p2p_sync *sync, struct sync_peer *peer, struct batch *batch,
		      const struct p2p_id *ids, enum p2p_class cls)
{
	P2p__V1__Changes changes;
	size_t i;
	int rc;

	for (i = 0; i < batch->count; i++) {
		P2p__V1__Part *part = &batch->parts[i];

		part->replica = p2p_field(ids[i].bytes, P2P_ID_BYTES);
		part->header.data = batch->bytes.data + batch->header_at[i];
		part->signature.data = batch->bytes.data + batch->signature_at[i];
		part->data.data = batch->bytes.data + batch->data_at[i];
		batch->list[i] = part;
	}
	p2p__v1__changes__init(&changes);
	changes.n_parts = batch->count;
	changes.parts = batch->list;
	rc = sync_send(sync, peer, cls, P2P_MSG_CHANGES, &changes.base);
	if (!rc)
		peer->credit -= (int64_t)batch->cost;
	batch->count = 0;
	batch->cost = 0;
	p2p_buf_reset(&batch->bytes);
	return rc;
}

/* Header into scratch; how many segments it has. */
static int header_load(struct p2p_sync *sync, const struct p2p_id *id, uint64_t seq,
		       uint32_t *out_segments, uint64_t *out_bytes)
{
	const struct p2p_sync_log *log = &sync->config.log;
	struct p2p_header header;
	int rc;

	p2p_buf_reset(&sync->header);
	p2p_buf_reset(&sync->signature);
	rc = log_error(log->header(log->ctx, id, seq, &sync->header, &sync->signature));
	if (!rc)
		rc = p2p_header_unpack(&header, sync->header.data, sync->header.len);
	if (rc)
		return rc;
	*out_segments = (uint32_t)header.segment_count;
	*out_bytes = header.total_bytes;
	p2p_header_deinit(&header);
	return 0;
}

/* --- asked for -------------------------------------------------------------------------------- */

/* Index of the first want that is not below; *found: it is the one. */
static size_t want_place(const struct sync_peer *peer, const struct p2p_id *id, bool *found)
{
	size_t low = 0, high = peer->want_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (p2p_id_cmp(&peer->wants[mid].replica, id) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	*found = low < peer->want_count && p2p_id_cmp(&peer->wants[low].replica, id) == 0;
	return low;
}

static struct sync_want *want_of(struct sync_peer *peer, const struct p2p_id *id)
{
	bool found;
	size_t at = want_place(peer, id, &found);

	return found ? &peer->wants[at] : NULL;
}

static void want_remove(struct sync_peer *peer, size_t index)
{
	peer->want_count--;
	memmove(&peer->wants[index], &peer->wants[index + 1],
		(peer->want_count - index) * sizeof(*peer->wants));
}

static int want_put(struct sync_peer *peer, const struct sync_want *want)
{
	struct sync_want *grown;
	bool found;
	size_t at = want_place(peer, &want->replica, &found), cap;

	if (found) {
		peer->wants[at] = *want;
		return 0;
	}
	if (peer->want_count >= P2P_REPLICAS_MAX)
		return P2P_ETOOBIG;
	if (peer->want_count == peer->want_cap) {
		cap = peer->want_cap ? peer->want_cap * 2 : 8;
		grown = p2p_realloc(peer->wants, cap * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		peer->wants = grown;
		peer->want_cap = cap;
	}
	memmove(&peer->wants[at + 1], &peer->wants[at],
		(peer->want_count++ - at) * sizeof(*peer->wants));
	peer->wants[at] = *want;
	return 0;
}

void sync_reject(struct p2p_sync *sync, struct sync_peer *peer, const struct p2p_id *id,
		 uint64_t have, int code)
{
	P2p__V1__Reject message;

	p2p__v1__reject__init(&message);
	message.replica = p2p_field(id->bytes, P2P_ID_BYTES);
	message.have = have;
	message.code = code;
	/* lost, it is asked again */
	(void)!sync_send(sync, peer, P2P_CLASS_CONTROL, P2P_MSG_REJECT, &message.base);
}

int sync_take_want(struct p2p_sync *sync, struct sync_peer *peer, const P2p__V1__Want *in)
{
	struct sync_want want = {.seq = in->from_seq, .to_seq = in->to_seq};
	uint64_t have;
	int rc = p2p_field_id(&want.replica, &in->replica);

	if (!rc && (in->from_seq == 0 || in->to_seq < in->from_seq || in->to_seq > INT64_MAX ||
		    in->from_segment > P2P_SEGMENTS_MAX))
		rc = P2P_EPROTO;
	if (rc)
		return rc;
	want.segment = in->from_segment;
	have = sync_servable(sync, &want.replica);
	if (have < want.seq) {
		sync_reject(sync, peer, &want.replica, have, P2P_ENOENT);
		return 0;
	}
	if (want.to_seq > have)
		want.to_seq = have;
	rc = want_put(peer, &want);
	if (!rc)
		sync_serve(sync, peer);
	return rc;
}

void sync_want_stop(struct sync_peer *peer, const struct p2p_id *id)
{
	bool found;
	size_t at = want_place(peer, id, &found);

	if (found)
		want_remove(peer, at);
}

/* Moves the cursor behind what was added. */
static void want_advance(struct sync_want *want, uint32_t segments)
{
	if (want->segment + 1 < segments) {
		want->segment++;
		return;
	}
	want->seq++;
	want->segment = 0;
}

/* Fills the batch from one want; 0, or why it ended. */
static int want_fill(struct p2p_sync *sync, struct sync_peer *peer, struct batch *batch,
		     struct sync_want *want, struct p2p_id *ids)
{
	uint32_t segments = 0;
	uint64_t bytes, loaded = 0;
	int rc = 0;

	while (want->seq <= want->to_seq && batch->count < PARTS_MAX &&
	       batch->bytes.len < SYNC_BATCH_BYTES && (int64_t)batch->cost < peer->credit) {
		if (loaded != want->seq)
			rc = header_load(sync, &want->replica, want->seq, &segments, &bytes);
		if (rc)
			return rc;
		loaded = want->seq;
		ids[batch->count] = want->replica;
		rc = batch_add(sync, batch, &want->replica, want->seq, want->segment, segments);
		if (rc)
			return rc == P2P_EBUSY ? 0 : rc;
		want_advance(want, segments);
	}
	return 0;
}

/* One message from the next want in turn. 0: sent; 1: nothing (more) to send. */
static int serve_one(struct p2p_sync *sync, struct sync_peer *peer, struct batch *batch)
{
	struct p2p_id *ids;
	struct sync_want before;
	size_t index;
	int rc;

	if (!peer->want_count || peer->credit <= 0)
		return 1;
	ids = p2p_calloc(PARTS_MAX, sizeof(*ids));
	if (!ids)
		return P2P_ENOMEM;
	index = peer->want_next++ % peer->want_count;
	before = peer->wants[index];
	rc = want_fill(sync, peer, batch, &peer->wants[index], ids);
	if (rc) {
		/* the log cannot give it: the peer asks elsewhere, or again */
		sync_reject(sync, peer, &before.replica, before.seq - 1, P2P_ENOENT);
		want_remove(peer, index);
		batch->count = 0;
		batch->cost = 0;
		p2p_buf_reset(&batch->bytes);
	} else if (batch->count) {
		rc = batch_send(sync, peer, batch, ids, P2P_CLASS_BULK);
		if (rc)
			peer->wants[index] = before; /* goes on there at writable */
	}
	if (!rc && peer->wants[index].seq > peer->wants[index].to_seq) {
		uint64_t sent = peer->wants[index].to_seq;

		if (p2p_id_cmp(&before.replica, &sync->config.replica) == 0 && sent > peer->pushed)
			peer->pushed = peer->bulk = sent;
		want_remove(peer, index);
	}
	p2p_free(ids);
	return rc == P2P_ENOENT || rc == P2P_ECORRUPT ? 0 : rc;
}

void sync_serve(struct p2p_sync *sync, struct sync_peer *peer)
{
	struct batch *batch;
	int rc = 0;

	if (peer->blocked || peer->clock_refused || !peer->want_count || peer->credit <= 0)
		return;
	batch = batch_new();
	while (batch && !rc) {
		rc = serve_one(sync, peer, batch);
		if (rc == P2P_EBUSY)
			peer->blocked = true;
	}
	batch_free(batch);
}

/* --- pushed ----------------------------------------------------------------------------------- */

/* Gathers own changesets from `seq` on, whole and small. Returns the last one gathered. */
static uint64_t push_gather(struct p2p_sync *sync, struct sync_peer *peer, struct batch *batch,
			    uint64_t seq, uint64_t last)
{
	const struct p2p_id *own = &sync->config.replica;
	uint32_t segments;
	uint64_t bytes;

	for (; seq <= last && batch->count < PARTS_MAX; seq++) {
		if (header_load(sync, own, seq, &segments, &bytes) || segments > 1 ||
		    batch->bytes.len + bytes + sync->header.len > SYNC_PUSH_BYTES ||
		    (int64_t)(batch->cost + bytes + sync->header.len + SYNC_PART_BYTES +
			      P2P_SIG_BYTES) > peer->credit)
			break;
		if (batch_add(sync, batch, own, seq, 0, segments))
			break;
	}
	return seq - 1;
}

void sync_push(struct p2p_sync *sync, struct sync_peer *peer)
{
	const struct sync_replica *own = sync_own(sync);
	struct sync_want *want = want_of(peer, &own->id);
	uint64_t from = peer->pushed + 1, last;
	struct p2p_id *ids;
	struct batch *batch;
	size_t i;

	if (!peer->have_known || peer->clock_refused || own->merged.seq < from || own->held)
		return;
	if (want) { /* it is on its way through all of it */
		want->to_seq = own->merged.seq;
		sync_serve(sync, peer);
		return;
	}
	batch = batch_new();
	ids = p2p_calloc(PARTS_MAX, sizeof(*ids));
	if (batch && ids && !peer->blocked) {
		last = push_gather(sync, peer, batch, from, own->merged.seq);
		for (i = 0; i < batch->count; i++)
			ids[i] = own->id;
		/* all of it or nothing: what is left is asked for after it was told */
		if (batch->count && last == own->merged.seq &&
		    !batch_send(sync, peer, batch, ids,
				peer->acked_seq < peer->bulk ? P2P_CLASS_BULK : P2P_CLASS_SMALL))
			peer->pushed = last;
	}
	p2p_free(ids);
	batch_free(batch);
}
