/* Record messages; see records.h. */
#include "node/records.h"

#include <string.h>

#include "proto/check.h"
#include "proto/limits.h"
#include "proto/mem.h"

int p2p_records_pack_members(struct p2p_buf *out, const struct p2p_authority *authority)
{
	P2p__V1__Members members = P2P__V1__MEMBERS__INIT;
	size_t count = p2p_authority_count(authority), i;
	ProtobufCBinaryData *hashes = p2p_calloc(count ? count : 1, sizeof(*hashes));
	struct p2p_hash digest;
	int rc;

	if (!hashes)
		return P2P_ENOMEM;
	for (i = 0; i < count; i++)
		hashes[i] =
			p2p_field(p2p_authority_record(authority, i)->hash.bytes, P2P_PREFIX_BYTES);
	p2p_authority_digest(authority, &digest);
	members.digest = p2p_field(digest.bytes, P2P_HASH_BYTES);
	members.n_hashes = count;
	members.hashes = hashes;
	p2p_buf_reset(out);
	rc = p2p_message_pack(out, P2P_MSG_MEMBERS, &members.base);
	p2p_free(hashes);
	return rc;
}

/* Chooses what goes into one message. */
static void choose(const struct p2p_authority *authority, const struct p2p_gossip *gossip,
		   struct p2p_records_batch *batch)
{
	size_t i, bytes = 0, total = p2p_authority_count(authority);

	batch->count = 0;
	batch->complete = true;
	for (i = 0; i < total; i++) {
		const struct p2p_signed *record = p2p_authority_record(authority, i);

		if (p2p_gossip_knows(gossip, record->hash.bytes))
			continue;
		if (batch->count == P2P_RECORDS_BATCH_MAX ||
		    (batch->count && bytes + record->raw_len > P2P_GOSSIP_BYTES)) {
			batch->complete = false;
			return;
		}
		bytes += record->raw_len;
		batch->indices[batch->count++] = i;
	}
}

int p2p_records_pack(struct p2p_buf *out, const struct p2p_authority *authority,
		     const struct p2p_gossip *gossip, bool finish, struct p2p_records_batch *batch)
{
	P2p__V1__Records message = P2P__V1__RECORDS__INIT;
	P2p__V1__Signed *records[P2P_RECORDS_BATCH_MAX];
	void *arenas[P2P_RECORDS_BATCH_MAX];
	size_t i, got = 0;
	int rc = 0;

	p2p_buf_reset(out);
	choose(authority, gossip, batch);
	batch->last = finish && batch->complete;
	if (batch->count == 0 && !batch->last)
		return 0;
	for (i = 0; !rc && i < batch->count; i++) {
		const struct p2p_signed *record =
			p2p_authority_record(authority, batch->indices[i]);
		const ProtobufCMessage *base;
		union {
			const ProtobufCMessage *in;
			P2p__V1__Signed *out; /* protobuf-c wants non-const, and only reads */
		} cast;

		rc = p2p_unpack(&p2p__v1__signed__descriptor, record->raw, record->raw_len, &base,
				&arenas[i]);
		if (rc)
			break;
		cast.in = base;
		records[got++] = cast.out;
	}
	message.n_records = got;
	message.records = records;
	message.last = batch->last;
	if (!rc)
		rc = p2p_message_pack(out, P2P_MSG_RECORDS, &message.base);
	while (got)
		p2p_unpack_free(arenas[--got]);
	return rc;
}

int p2p_records_sent(const struct p2p_records_batch *batch, const struct p2p_authority *authority,
		     struct p2p_gossip *gossip)
{
	size_t i;
	int rc = 0;

	p2p_require(batch->count <= P2P_RECORDS_BATCH_MAX);
	for (i = 0; !rc && i < batch->count; i++)
		rc = p2p_gossip_learn(
			gossip, p2p_authority_record(authority, batch->indices[i])->hash.bytes);
	return rc;
}
