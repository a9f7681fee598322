/* Proofs of forks, passed on; see sync_private.h and decisions 19.
 *
 * A proof says something to one who has another header at its seq, or another one than its `prev`
 * below it. It is told when the fork is found, to each new peer, and again while a peer is not
 * level, for it may have been too early. */
#include <string.h>

#include "crdt/sync_private.h"

void sync_evidence_keep(struct p2p_sync *sync, struct sync_replica *replica,
			const P2p__V1__HeaderProof *proof)
{
	struct p2p_buf packed;

	if (replica->evidence.len || replica->held == P2P_EFORK)
		return;
	p2p_buf_init(&packed, SYNC_EVIDENCE_BYTES);
	/* one that is too large, or too much, stays here: others find the fork by themselves */
	if (p2p_pack(&packed, &proof->base) ||
	    sync->evidence_bytes + packed.len > SYNC_EVIDENCE_TOTAL) {
		p2p_buf_deinit(&packed);
		return;
	}
	sync->evidence_bytes += packed.len;
	p2p_buf_deinit(&replica->evidence);
	replica->evidence = packed;
}

static void tell(struct p2p_sync *sync, struct sync_peer *peer, const struct sync_replica *replica)
{
	const ProtobufCMessage *message;
	void *arena;

	if (!replica->evidence.len || replica->held != P2P_EFORK ||
	    peer->evidence >= SYNC_PROOFS_RATE)
		return;
	if (p2p_unpack(&p2p__v1__header_proof__descriptor, replica->evidence.data,
		       replica->evidence.len, &message, &arena))
		return; /* no memory now: it is told again */
	peer->evidence++;
	(void)!sync_send(sync, peer, P2P_CLASS_CONTROL, P2P_MSG_HEADER_PROOF, message);
	p2p_unpack_free(arena);
}

void sync_evidence_tell(struct p2p_sync *sync, struct sync_peer *peer)
{
	size_t i;

	for (i = 0; i < sync->replica_count; i++)
		tell(sync, peer, sync->replicas[i]);
}

void sync_evidence_tell_all(struct p2p_sync *sync, const struct sync_replica *replica)
{
	struct p2p_list *at, *tmp;

	p2p_list_for_each (at, tmp, &sync->peers)
		tell(sync, p2p_container_of(at, struct sync_peer, link), replica);
}

/* What the proof contradicts here: 0, P2P_ENOENT when it contradicts nothing (yet). */
static int contradiction(struct p2p_sync *sync, const P2p__V1__HeaderProof *proof,
			 const struct p2p_id *id, struct sync_fork *out)
{
	uint64_t have = sync_servable(sync, id);
	const ProtobufCBinaryData *raw = &proof->headers[0];
	struct p2p_header header;
	int rc;

	if (have && proof->seq == have + 1) {
		rc = p2p_header_unpack(&header, raw->data, raw->len);
		if (rc)
			return rc;
		out->seq = have;
		out->theirs = header.prev;
		p2p_header_deinit(&header);
	} else if (proof->seq <= have) {
		out->seq = proof->seq;
		p2p_header_hash(&out->theirs, &sync->config.mesh, raw->data, raw->len);
	} else {
		return P2P_ENOENT;
	}
	rc = sync_hash_at(sync, id, out->seq, &out->ours);
	if (rc)
		return rc;
	return p2p_hash_cmp(&out->ours, &out->theirs) == 0 ? P2P_ENOENT : 0;
}

int sync_take_evidence(struct p2p_sync *sync, struct sync_peer *peer,
		       const P2p__V1__HeaderProof *proof)
{
	struct sync_replica *replica;
	struct sync_fork fork;
	struct p2p_hash first;
	struct p2p_id id;
	bool ahead;
	int rc = p2p_field_id(&id, &proof->replica);

	if (rc || proof->n_headers == 0 || proof->seq == 0 || proof->seq > INT64_MAX)
		return P2P_EPROTO;
	replica = sync_replica_find(sync, &id);
	if (!replica || replica->held || peer->proofs++ >= SYNC_PROOFS_RATE)
		return 0;
	rc = contradiction(sync, proof, &id, &fork);
	if (rc)
		return rc == P2P_ENOENT || rc == P2P_EVERSION ? 0 : rc;
	rc = sync_proof_check(sync, proof, &id, &first, &ahead);
	if (rc) /* nobody may sign for it any more: no proof, and no lie */
		return rc == P2P_ENOENT || rc == P2P_EVERSION ? 0 : rc;
	sync_evidence_keep(sync, replica, proof);
	sync_forked(sync, peer, replica, &fork);
	return 0;
}
