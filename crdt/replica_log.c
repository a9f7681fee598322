/* The side log and the membership as the sync engine sees them; see crdt/sync.h. */
#include <string.h>

#include "crdt/replica_private.h"

static int log_header(void *ctx, const struct p2p_id *id, uint64_t seq, struct p2p_buf *out_raw,
		      struct p2p_buf *out_signature)
{
	struct p2p_replica *replica = ctx;
	struct p2p_stored stored;
	int rc = p2p_sidelog_get(replica->sidelog, id, seq, &stored);

	if (rc)
		return rc;
	p2p_buf_put(out_raw, stored.raw, stored.raw_len);
	if (stored.has_signature)
		p2p_buf_put(out_signature, stored.signature.bytes, P2P_SIG_BYTES);
	p2p_stored_deinit(&stored);
	rc = p2p_buf_error(out_raw);
	return rc ? rc : p2p_buf_error(out_signature);
}

static int log_segment(void *ctx, const struct p2p_id *id, uint64_t seq, uint32_t index,
		       struct p2p_buf *out)
{
	struct p2p_replica *replica = ctx;

	return p2p_sidelog_get_segment(replica->sidelog, id, seq, index, out);
}

static int log_head(void *ctx, const struct p2p_id *id, struct p2p_vv_entry *out)
{
	struct p2p_replica *replica = ctx;

	return p2p_sidelog_head(replica->sidelog, id, out);
}

static int log_resume(void *ctx, const struct p2p_id *id, uint64_t *out_seq, uint32_t *out_segment)
{
	struct p2p_replica *replica = ctx;
	struct p2p_vv_entry head;
	struct p2p_stored stored;
	int rc = p2p_sidelog_head(replica->sidelog, id, &head);

	if (rc)
		return rc;
	*out_seq = head.seq + 1;
	*out_segment = 0;
	rc = p2p_sidelog_get(replica->sidelog, id, *out_seq, &stored);
	if (rc)
		return rc == P2P_ENOENT ? 0 : rc;
	*out_segment = stored.segments_have;
	p2p_stored_deinit(&stored);
	return 0;
}

static int log_signer(void *ctx, const struct p2p_id *id, struct p2p_key *out_node)
{
	struct p2p_replica *replica = ctx;

	return p2p_authority_replica_node(replica->authority, id, out_node);
}

static int log_begin(void *ctx)
{
	struct p2p_replica *replica = ctx;

	return p2p_sidelog_begin(replica->sidelog, NULL);
}

static int log_put_header(void *ctx, const struct p2p_header *header, const struct p2p_hash *hash,
			  const void *raw, size_t raw_len, const struct p2p_signature *signature)
{
	struct p2p_replica *replica = ctx;
	struct p2p_stored stored;

	memset(&stored, 0, sizeof(stored));
	stored.replica = header->replica;
	stored.seq = header->seq;
	stored.raw = (uint8_t *)(uintptr_t)raw; /* only read */
	stored.raw_len = raw_len;
	stored.hash = *hash;
	stored.has_signature = signature != NULL;
	if (signature)
		stored.signature = *signature;
	stored.stamp = header->stamp.value;
	stored.group_pos = header->group_pos;
	stored.group_last = header->group_last;
	stored.total_bytes = header->total_bytes;
	stored.segment_count = (uint32_t)header->segment_count;
	return p2p_sidelog_put_header(replica->sidelog, &stored);
}

static int log_put_segment(void *ctx, const struct p2p_id *id, uint64_t seq, uint32_t index,
			   const void *data, size_t len)
{
	struct p2p_replica *replica = ctx;

	return p2p_sidelog_put_segment(replica->sidelog, id, seq, index, data, len);
}

static int log_commit(void *ctx)
{
	struct p2p_replica *replica = ctx;
	struct p2p_error err = {0};
	int rc = p2p_sidelog_commit(replica->sidelog, &err);

	if (rc) {
		p2p_log(replica->config.log, P2P_LOG_ERROR, "crdt", "%s", err.msg);
		/* it may be in the log all the same, and the engine would not know */
		p2p_replica_break(replica);
	}
	return rc;
}

static void log_rollback(void *ctx)
{
	struct p2p_replica *replica = ctx;

	p2p_sidelog_rollback(replica->sidelog);
}

static int log_drop(void *ctx, const struct p2p_id *id, uint64_t from_seq)
{
	struct p2p_replica *replica = ctx;

	return p2p_sidelog_drop(replica->sidelog, id, from_seq);
}

int p2p_replica_stamp_of(void *ctx, const struct p2p_id *id, uint64_t seq, struct p2p_hlc *out)
{
	struct p2p_replica *replica = ctx;
	const struct p2p_vv_entry *entry = p2p_vv_get(&replica->merged, id);

	if (entry && entry->seq == seq) {
		*out = entry->stamp;
		return 0;
	}
	return p2p_sidelog_stamp(replica->sidelog, id, seq, out);
}

struct p2p_sync_log p2p_replica_sync_log(struct p2p_replica *replica)
{
	struct p2p_sync_log log = {
		.ctx = replica,
		.header = log_header,
		.segment = log_segment,
		.head = log_head,
		.resume = log_resume,
		.signer = log_signer,
		.begin = log_begin,
		.put_header = log_put_header,
		.put_segment = log_put_segment,
		.commit = log_commit,
		.rollback = log_rollback,
		.drop = log_drop,
	};

	return log;
}
