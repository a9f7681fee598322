/* Checking everything that is stored: chains, hashes, signatures, rows; see crdt/replica.h. */
#include <string.h>

#include "crdt/replica_private.h"

struct verify {
	struct p2p_replica *replica;
	struct p2p_error *err;
	struct p2p_header previous;
	struct p2p_hash previous_hash;
	bool has_previous;
	uint64_t changesets;
};

static int verify_bad(struct verify *v, const struct p2p_id *id, uint64_t seq, const char *what)
{
	char text[2 * P2P_ID_BYTES + 1];

	p2p_hex(text, id->bytes, P2P_ID_BYTES);
	return p2p_error_set(v->err, P2P_ECORRUPT, "changeset %llu of replica %s: %s",
			     (unsigned long long)seq, text, what);
}

static int verify_segments(struct verify *v, const struct p2p_stored *stored,
			   const struct p2p_header *header)
{
	struct p2p_hash hash;
	struct p2p_buf data;
	uint64_t total = 0;
	uint32_t i;
	int rc = 0;

	p2p_buf_init(&data, P2P_SEGMENT_BYTES);
	for (i = 0; i < header->segment_count && !rc; i++) {
		rc = p2p_sidelog_get_segment(v->replica->sidelog, &stored->replica, stored->seq, i,
					     &data);
		if (rc)
			break;
		p2p_hash_bytes(&hash, data.data, data.len);
		total += data.len;
		if (p2p_hash_cmp(&hash, &header->segments[i]) != 0)
			rc = verify_bad(v, &stored->replica, stored->seq,
					"its contents are not what was signed");
	}
	p2p_buf_deinit(&data);
	if (!rc && total != header->total_bytes)
		rc = verify_bad(v, &stored->replica, stored->seq, "its contents are cut");
	return rc == P2P_ENOENT
		       ? verify_bad(v, &stored->replica, stored->seq, "its contents are not there")
		       : rc;
}

static int verify_signature(struct verify *v, const struct p2p_stored *stored,
			    const struct p2p_header *header)
{
	const struct p2p_hash *mesh = p2p_authority_mesh(v->replica->authority);
	struct p2p_key node;

	if (!header->group_last)
		return 0;
	if (p2p_authority_replica_node(v->replica->authority, &stored->replica, &node))
		return verify_bad(v, &stored->replica, stored->seq,
				  "nobody is certified to sign for it");
	if (!stored->has_signature ||
	    !p2p_header_verify(&stored->signature, mesh, &stored->hash, &node))
		return verify_bad(v, &stored->replica, stored->seq, "its signature is wrong");
	return 0;
}

static int verify_changeset(struct verify *v, const struct p2p_stored *stored)
{
	const struct p2p_hash *mesh = p2p_authority_mesh(v->replica->authority);
	struct p2p_header header;
	struct p2p_hash hash;
	int rc = p2p_header_unpack(&header, stored->raw, stored->raw_len);

	if (rc)
		return verify_bad(v, &stored->replica, stored->seq, "its header is damaged");
	p2p_header_hash(&hash, mesh, stored->raw, stored->raw_len);
	if (p2p_hash_cmp(&hash, &stored->hash) != 0)
		rc = verify_bad(v, &stored->replica, stored->seq,
				"its header is not what was hashed");
	if (!rc &&
	    p2p_header_follows(&header, v->has_previous ? &v->previous : NULL, &v->previous_hash))
		rc = verify_bad(v, &stored->replica, stored->seq,
				"it does not follow the one before");
	if (!rc)
		rc = verify_signature(v, stored, &header);
	if (!rc)
		rc = verify_segments(v, stored, &header);
	if (v->has_previous)
		p2p_header_deinit(&v->previous);
	v->previous = header;
	v->previous_hash = hash;
	v->has_previous = true;
	v->changesets++;
	return rc;
}

static int verify_replica(struct verify *v, const struct p2p_vv_entry *entry)
{
	struct p2p_stored stored;
	uint64_t seq;
	int rc = 0;

	for (seq = 1; seq <= entry->seq && !rc; seq++) {
		rc = p2p_sidelog_get(v->replica->sidelog, &entry->replica, seq, &stored);
		if (rc) {
			rc = rc == P2P_ENOENT ? verify_bad(v, &entry->replica, seq, "it is missing")
					      : rc;
			break;
		}
		rc = verify_changeset(v, &stored);
		p2p_stored_deinit(&stored);
	}
	if (v->has_previous)
		p2p_header_deinit(&v->previous);
	v->has_previous = false;
	return rc;
}

/* Rows against row states: whatever differs was not captured, or was damaged. */
static int verify_rows(struct verify *v, uint64_t *out_rows)
{
	struct p2p_replica *replica = v->replica;
	uint64_t differing = 0, rows = 0, total = 0;
	const char *name = "";
	size_t i;
	/* captured, folded and compared under one lock: beside it the application writes on */
	int rc = p2p_replica_begin_projected(replica, v->err);

	if (rc)
		return rc;
	for (i = 0; i < p2p_store_table_count(replica->store) && !rc && !differing; i++) {
		struct p2p_table *table = p2p_store_table(replica->store, i);

		if (table->state != P2P_TABLE_LIVE)
			continue;
		name = table->name;
		rc = p2p_store_rescan(replica->store, table, &differing, v->err);
		if (!rc)
			rc = p2p_replica_table_rows(replica, table, &rows);
		total += rows;
	}
	if (!rc && differing)
		rc = p2p_error_set(v->err, P2P_ECORRUPT,
				   "table %s: %llu rows are not what is known of them: 'p2pnode "
				   "rescan %s' takes them as they are",
				   name, (unsigned long long)differing, name);
	if (!rc)
		rc = p2p_merge_check(replica->merge, &differing, v->err);
	if (!rc && differing)
		rc = p2p_error_set(v->err, P2P_ECORRUPT,
				   "%llu rows are not where their constraints put them: what the "
				   "tables show differs from other nodes",
				   (unsigned long long)differing);
	p2p_replica_abort_fold(replica); /* what the rescan journalled was only to count */
	*out_rows = total;
	return rc;
}

int p2p_replica_verify(struct p2p_replica *replica, uint64_t *out_changesets, uint64_t *out_rows,
		       struct p2p_error *err)
{
	struct verify v = {.replica = replica, .err = err};
	struct p2p_vv log;
	size_t i;
	int rc;

	if (!replica->capture)
		return p2p_error_set(err, P2P_ESTATE, "'%s' is in no mesh", replica->db_path);
	rc = p2p_replica_freeze(replica, err);
	if (rc)
		return rc;
	p2p_vv_init(&log);
	rc = p2p_sidelog_vector(replica->sidelog, &log);
	for (i = 0; i < log.count && !rc; i++)
		rc = verify_replica(&v, &log.entries[i]);
	p2p_vv_deinit(&log);
	if (!rc)
		rc = verify_rows(&v, out_rows);
	*out_changesets = v.changesets;
	return rc;
}
