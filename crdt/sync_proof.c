/* Two contents under one (replica, seq) are proven by signatures, never believed; see sync.h and
 * decisions 5, 19, 20. */
#include <string.h>

#include "crdt/sync_private.h"
#include "proto/check.h"
#include "proto/mem.h"

void sync_forked(struct p2p_sync *sync, struct sync_peer *peer, struct sync_replica *replica,
		 const struct sync_fork *fork)
{
	const struct p2p_sync_log *log = &sync->config.log;
	struct p2p_sync_event event = {.kind = P2P_SYNC_FORK,
				       .peer = peer->handle,
				       .replica = replica->id,
				       .seq = fork->seq,
				       .code = P2P_EFORK,
				       .ours = fork->ours,
				       .theirs = fork->theirs,
				       .text = "two histories are signed under this replica id: "
					       "nothing more of it is taken"};
	struct p2p_list *at, *tmp;

	if (replica->held == P2P_EFORK)
		return;
	replica->held = P2P_EFORK;
	if (log->signer(log->ctx, &replica->id, &event.node))
		memset(&event.node, 0, sizeof(event.node)); /* its right was taken meanwhile */
	sync_touch(sync, replica);
	sync->config.callbacks.event(sync->config.callbacks.ctx, &event);
	/* it is not waited for */
	p2p_list_for_each (at, tmp, &sync->peers) {
		struct sync_peer *at_peer = p2p_container_of(at, struct sync_peer, link);

		sync_target_reached(sync, at_peer, &replica->id, replica->merged.seq, UINT64_MAX);
		p2p_vv_remove(&at_peer->target, &replica->id);
	}
	sync_evidence_tell_all(sync, replica);
	sync_tell_ready(sync);
}

static int question_send(struct p2p_sync *sync, struct sync_peer *peer,
			 const struct p2p_id *replica, uint64_t seq)
{
	P2p__V1__WantHeader want;

	p2p__v1__want_header__init(&want);
	want.replica = p2p_field(replica->bytes, P2P_ID_BYTES);
	want.seq = seq;
	return sync_send(sync, peer, P2P_CLASS_CONTROL, P2P_MSG_WANT_HEADER, &want.base);
}

void sync_ask_proof(struct p2p_sync *sync, struct sync_peer *peer, const struct p2p_id *replica,
		    uint64_t seq)
{
	if (peer->asked.seq || !seq)
		return; /* one at a time */
	if (question_send(sync, peer, replica, seq))
		return; /* the next Have brings it up again */
	peer->asked.replica = *replica;
	peer->asked.seq = seq;
	peer->asked_ms = peer->asked_again_ms = sync->now_ms;
}

bool sync_liar(const struct p2p_sync *sync, const struct p2p_key *node)
{
	size_t i;

	for (i = 0; i < SYNC_LIARS_MAX; i++)
		if (p2p_key_cmp(&sync->liars[i], node) == 0)
			return true;
	return false;
}

/* A member that did not prove what it told of our own replica does not stop us a second time: it
 * is asked again, but nothing waits for its answer. */
static void liar_note(struct p2p_sync *sync, const struct sync_peer *peer)
{
	if (p2p_id_cmp(&peer->asked.replica, &sync->config.replica) == 0 &&
	    !sync_liar(sync, &peer->node))
		sync->liars[sync->liar_next++ % SYNC_LIARS_MAX] = peer->node;
}

uint64_t sync_proof_tick(struct p2p_sync *sync, struct sync_peer *peer)
{
	uint64_t due = peer->asked_ms + SYNC_PROOF_MS;

	if (!peer->asked.seq)
		return UINT64_MAX;
	if (sync->now_ms >= due) {
		peer->asked_ms = peer->asked_again_ms = sync->now_ms; /* once, if it stays */
		liar_note(sync, peer);
		sync_event(sync, P2P_SYNC_BAD_PEER, peer->handle, &peer->asked.replica,
			   peer->asked.seq, P2P_ETIMEOUT,
			   "it tells of changes that it does not prove");
		return peer->asked_ms + SYNC_PROOF_MS;
	}
	if (sync->now_ms - peer->asked_again_ms >= SYNC_PROOF_AGAIN_MS) {
		/* the question or its answer was lost, or it was asked too often at once */
		peer->asked_again_ms = sync->now_ms;
		(void)!question_send(sync, peer, &peer->asked.replica, peer->asked.seq);
	}
	if (peer->asked_again_ms + SYNC_PROOF_AGAIN_MS < due)
		due = peer->asked_again_ms + SYNC_PROOF_AGAIN_MS;
	return due;
}

void sync_proof_refused(const struct p2p_sync *sync, struct sync_peer *peer,
			const struct p2p_id *replica)
{
	/* what it told of our own replica it has to prove */
	if (p2p_id_cmp(&peer->asked.replica, replica) == 0 &&
	    p2p_id_cmp(replica, &sync->config.replica) != 0)
		peer->asked.seq = 0;
}

int sync_hash_at(struct p2p_sync *sync, const struct p2p_id *id, uint64_t seq, struct p2p_hash *out)
{
	const struct p2p_sync_log *log = &sync->config.log;
	int rc;

	p2p_buf_reset(&sync->header);
	p2p_buf_reset(&sync->signature);
	rc = log->header(log->ctx, id, seq, &sync->header, &sync->signature);
	if (!rc)
		p2p_header_hash(out, &sync->config.mesh, sync->header.data, sync->header.len);
	return rc;
}

void sync_compare_head(struct p2p_sync *sync, struct sync_peer *peer,
		       const struct p2p_vv_entry *entry)
{
	static const uint8_t none[P2P_HEAD_BYTES];
	struct sync_replica *replica = sync_replica_find(sync, &entry->replica);
	struct p2p_hash hash;

	if (!replica || replica->held || memcmp(entry->head.bytes, none, sizeof(none)) == 0)
		return;
	if (entry->seq > replica->merged.seq) {
		/* more of our own than we ever made? */
		if (p2p_id_cmp(&replica->id, &sync->config.replica) == 0)
			sync_ask_proof(sync, peer, &replica->id, entry->seq);
		return;
	}
	if (peer->asked.seq)
		return; /* one question at a time */
	if (entry->seq == replica->merged.seq)
		hash = replica->merged.head;
	else if (peer->compares++ >= SYNC_COMPARES_RATE ||
		 sync_hash_at(sync, &replica->id, entry->seq, &hash))
		return;
	if (memcmp(hash.bytes, entry->head.bytes, P2P_HEAD_BYTES) != 0)
		sync_ask_proof(sync, peer, &replica->id, entry->seq);
}

/* --- giving ----------------------------------------------------------------------------------- */

/* Headers from seq up to the signed one, one after the other. */
struct proof {
	struct p2p_buf headers;
	ProtobufCBinaryData fields[SYNC_PROOF_HEADERS];
	size_t count;
};

/* P2P_ETOOBIG: the group is too long for one message. */
static int proof_gather(struct p2p_sync *sync, const struct p2p_id *id, uint64_t seq,
			struct proof *out)
{
	const struct p2p_sync_log *log = &sync->config.log;
	size_t before = 0, i;
	int rc = 0;

	p2p_buf_reset(&sync->signature);
	while (!rc && !sync->signature.len) {
		if (out->count == SYNC_PROOF_HEADERS)
			return P2P_ETOOBIG;
		rc = log->header(log->ctx, id, seq++, &out->headers, &sync->signature);
		if (!rc)
			rc = p2p_buf_error(&out->headers);
		out->fields[out->count++].len = out->headers.len - before;
		before = out->headers.len;
	}
	for (i = 0, before = 0; i < out->count && !rc; i++) {
		out->fields[i].data = out->headers.data + before;
		before += out->fields[i].len;
	}
	return rc;
}

static int proof_give(struct p2p_sync *sync, struct sync_peer *peer, const struct p2p_id *id,
		      uint64_t seq)
{
	struct proof *proof = p2p_calloc(1, sizeof(*proof));
	P2p__V1__HeaderProof message;
	int rc;

	if (!proof)
		return P2P_ENOMEM;
	p2p_buf_init(&proof->headers, P2P_HEADER_BYTES_MAX);
	rc = proof_gather(sync, id, seq, proof);
	peer->proofs += (uint32_t)(proof->count / SYNC_PROOF_COST);
	if (!rc) {
		p2p__v1__header_proof__init(&message);
		message.replica = p2p_field(id->bytes, P2P_ID_BYTES);
		message.seq = seq;
		message.n_headers = proof->count;
		message.headers = proof->fields;
		message.signature = p2p_field(sync->signature.data, sync->signature.len);
		/* lost, it is asked for again */
		(void)!sync_send(sync, peer, P2P_CLASS_CONTROL, P2P_MSG_HEADER_PROOF,
				 &message.base);
	}
	p2p_buf_deinit(&proof->headers);
	p2p_free(proof);
	return rc;
}

int sync_take_want_header(struct p2p_sync *sync, struct sync_peer *peer,
			  const P2p__V1__WantHeader *want)
{
	struct p2p_id id;
	uint64_t have;
	int rc = p2p_field_id(&id, &want->replica);

	if (rc || want->seq == 0 || want->seq > INT64_MAX)
		return P2P_EPROTO;
	if (peer->proofs++ >= SYNC_PROOFS_RATE)
		return 0; /* it asks again */
	have = sync_servable(sync, &id);
	rc = want->seq > have ? P2P_ENOENT : proof_give(sync, peer, &id, want->seq);
	if (rc)
		sync_reject(sync, peer, &id, have, rc);
	return 0;
}

/* --- taking ----------------------------------------------------------------------------------- */

int sync_proof_check(struct p2p_sync *sync, const P2p__V1__HeaderProof *proof,
		     const struct p2p_id *id, struct p2p_hash *out, bool *out_ahead)
{
	const struct p2p_sync_log *log = &sync->config.log;
	struct p2p_header header, before;
	struct p2p_signature signature;
	struct p2p_hash hash = {{0}}, before_hash;
	struct p2p_key node;
	bool last = false;
	size_t i;
	int rc = p2p_field_signature(&signature, &proof->signature);

	if (proof->n_headers == 0 || proof->n_headers > SYNC_PROOF_HEADERS)
		return P2P_EPROTO;
	p2p_header_init(&before);
	for (i = 0; i < proof->n_headers && !rc; i++) {
		const ProtobufCBinaryData *raw = &proof->headers[i];

		before_hash = hash;
		p2p_header_hash(&hash, &sync->config.mesh, raw->data, raw->len);
		rc = p2p_header_unpack(&header, raw->data, raw->len);
		if (rc)
			break;
		if (i == 0) {
			*out = hash;
			*out_ahead = sync_clock_ahead(sync, &header);
			if (p2p_id_cmp(&header.replica, id) != 0 || header.seq != proof->seq)
				rc = P2P_EPROTO;
		} else if (last || p2p_header_follows(&header, &before, &before_hash)) {
			rc = P2P_EPROTO;
		}
		last = header.group_last;
		p2p_header_deinit(&before);
		before = header;
	}
	p2p_header_deinit(&before);
	if (!rc && !last)
		rc = P2P_EPROTO;
	if (!rc && log->signer(log->ctx, id, &node))
		rc = P2P_ENOENT;
	if (!rc && !p2p_header_verify(&signature, &sync->config.mesh, &hash, &node))
		rc = P2P_EAUTH;
	return rc;
}

int sync_take_proof(struct p2p_sync *sync, struct sync_peer *peer,
		    const P2p__V1__HeaderProof *proof)
{
	struct sync_replica *replica;
	struct sync_fork fork = {.seq = proof->seq};
	struct p2p_id id;
	bool own, ahead = false;
	int rc = p2p_field_id(&id, &proof->replica);

	if (rc)
		return rc;
	if (proof->seq != peer->asked.seq || p2p_id_cmp(&id, &peer->asked.replica) != 0)
		return sync_take_evidence(sync, peer, proof);
	peer->asked.seq = 0;
	rc = sync_proof_check(sync, proof, &id, &fork.theirs, &ahead);
	replica = sync_replica_find(sync, &id);
	/* nobody may sign for it any more, or it is of a later format: no proof, and no lie */
	if (!replica || rc == P2P_ENOENT || rc == P2P_EVERSION)
		return 0;
	if (rc)
		return rc;
	own = p2p_id_cmp(&id, &sync->config.replica) == 0;
	/* what is staged and not signed is no second content */
	rc = proof->seq > sync_servable(sync, &id)
		     ? P2P_ENOENT
		     : sync_hash_at(sync, &id, proof->seq, &fork.ours);
	if (rc == P2P_ENOENT && own)
		sync_event(sync, P2P_SYNC_SELF_AHEAD, peer->handle, &id, proof->seq, P2P_EFORK,
			   "a peer has changes that this node signed and does not know");
	else if (!rc && p2p_hash_cmp(&fork.ours, &fork.theirs) != 0) {
		sync_evidence_keep(sync, replica, proof);
		sync_forked(sync, peer, replica, &fork);
	} else if (rc == P2P_ENOENT && ahead)
		sync_clock_hold(sync, peer, replica, proof->seq);
	return 0;
}
