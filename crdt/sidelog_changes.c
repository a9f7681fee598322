/* Changesets in the side log: headers, segments, heads; see sidelog.h. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/sidelog_private.h"
#include "proto/check.h"
#include "proto/limits.h"
#include "proto/mem.h"

/* --- replicas --------------------------------------------------------------------------------- */

static int replica_grow(struct p2p_sidelog *log)
{
	size_t cap = log->replica_cap ? log->replica_cap * 2 : 16;
	struct sidelog_replica *grown;

	if (log->replica_count < log->replica_cap)
		return 0;
	grown = p2p_realloc(log->replicas, cap * sizeof(*grown));
	if (!grown)
		return P2P_ENOMEM;
	log->replicas = grown;
	log->replica_cap = cap;
	return 0;
}

static int replica_read(struct p2p_sidelog *log, sqlite3_stmt *stmt)
{
	struct sidelog_replica *replica;
	int rc = replica_grow(log);

	if (rc)
		return rc;
	replica = &log->replicas[log->replica_count];
	memset(replica, 0, sizeof(*replica));
	if (sqlite3_column_int64(stmt, 0) != (int64_t)log->replica_count + 1)
		return P2P_ECORRUPT;
	rc = sidelog_column(stmt, 1, replica->id.bytes, P2P_ID_BYTES);
	if (!rc)
		rc = sidelog_column(stmt, 3, replica->head.head.bytes, P2P_HASH_BYTES);
	if (rc)
		return rc;
	replica->head.replica = replica->id;
	replica->head.seq = (uint64_t)sqlite3_column_int64(stmt, 2);
	replica->head.stamp.value = (uint64_t)sqlite3_column_int64(stmt, 4);
	replica->head.log_from = replica->head.seq ? 1 : 0;
	log->replica_count++;
	return 0;
}

int sidelog_load(struct p2p_sidelog *log)
{
	sqlite3_stmt *stmt = NULL;
	int result = 0, rc = sqlite3_prepare_v2(log->db,
						"SELECT number, id, seq, head, stamp FROM replica"
						" ORDER BY number",
						-1, &stmt, NULL);

	log->replica_count = 0;
	log->touched = false;
	while (rc == SQLITE_OK && !result && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		result = replica_read(log, stmt);
		rc = SQLITE_OK;
	}
	if (!result && rc != SQLITE_DONE)
		result = sidelog_error(log, rc, NULL, "read");
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return result;
}

struct sidelog_replica *sidelog_find(struct p2p_sidelog *log, const struct p2p_id *id,
				     int64_t *out_number)
{
	size_t i;

	for (i = 0; i < log->replica_count; i++)
		if (p2p_id_cmp(&log->replicas[i].id, id) == 0) {
			*out_number = (int64_t)i + 1;
			return &log->replicas[i];
		}
	return NULL;
}

int sidelog_replica(struct p2p_sidelog *log, const struct p2p_id *id, int64_t *out_number,
		    struct sidelog_replica **out)
{
	struct sidelog_replica *replica;
	sqlite3_stmt *stmt;
	int rc;

	*out = sidelog_find(log, id, out_number);
	if (*out)
		return 0;
	if (log->replica_count >= P2P_REPLICAS_MAX)
		return P2P_ETOOBIG;
	rc = replica_grow(log);
	if (!rc)
		rc = sidelog_statement(log, SIDELOG_REPLICA_ADD, &stmt);
	if (rc)
		return rc;
	*out_number = (int64_t)log->replica_count + 1;
	if (sqlite3_bind_int64(stmt, 1, *out_number) != SQLITE_OK ||
	    sqlite3_bind_blob(stmt, 2, id->bytes, P2P_ID_BYTES, SQLITE_STATIC) != SQLITE_OK)
		return P2P_ENOMEM;
	rc = sidelog_run(log, stmt, "write");
	if (rc)
		return rc;
	log->touched = true;
	replica = &log->replicas[log->replica_count++];
	memset(replica, 0, sizeof(*replica));
	replica->id = replica->head.replica = *id;
	*out = replica;
	return 0;
}

int sidelog_key(int64_t number, uint64_t seq, int64_t *out)
{
	if (seq == 0 || seq > SIDELOG_SEQ_MAX)
		return P2P_ETOOBIG;
	*out = (int64_t)((uint64_t)number << SIDELOG_SEQ_BITS | seq);
	return 0;
}

/* --- heads ------------------------------------------------------------------------------------ */

static int head_write(struct p2p_sidelog *log, int64_t number,
		      const struct sidelog_replica *replica)
{
	sqlite3_stmt *stmt;
	int rc = sidelog_statement(log, SIDELOG_REPLICA_HEAD, &stmt);

	if (rc)
		return rc;
	if (sqlite3_bind_int64(stmt, 1, number) != SQLITE_OK ||
	    sqlite3_bind_int64(stmt, 2, (int64_t)replica->head.seq) != SQLITE_OK ||
	    sqlite3_bind_blob(stmt, 3, replica->head.head.bytes, P2P_HASH_BYTES, SQLITE_STATIC) !=
		    SQLITE_OK ||
	    sqlite3_bind_int64(stmt, 4, (int64_t)replica->head.stamp.value) != SQLITE_OK)
		return P2P_ENOMEM;
	return sidelog_run(log, stmt, "write");
}

/* The head moves over what is complete now. */
static int head_advance(struct p2p_sidelog *log, int64_t number, struct sidelog_replica *replica)
{
	sqlite3_stmt *stmt;
	bool moved = false;
	int64_t key;
	int rc = sidelog_statement(log, SIDELOG_NEXT_HAVE, &stmt);

	while (!rc) {
		rc = sidelog_key(number, replica->head.seq + 1, &key);
		if (!rc && sqlite3_bind_int64(stmt, 1, key) != SQLITE_OK)
			rc = P2P_ENOMEM;
		if (rc)
			break;
		rc = sidelog_row(log, stmt);
		if (!rc && !sqlite3_column_int(stmt, 2))
			rc = P2P_ENOENT; /* not whole yet */
		if (!rc)
			rc = sidelog_column(stmt, 0, replica->head.head.bytes, P2P_HASH_BYTES);
		if (!rc) {
			replica->head.stamp.value = (uint64_t)sqlite3_column_int64(stmt, 1);
			replica->head.seq++;
			replica->head.log_from = 1;
			moved = true;
		}
		(void)sqlite3_reset(stmt); /* repeats the step's error */
	}
	log->touched = true;
	if (rc != P2P_ENOENT)
		return rc;
	return moved ? head_write(log, number, replica) : 0;
}

int p2p_sidelog_head(struct p2p_sidelog *log, const struct p2p_id *id, struct p2p_vv_entry *out)
{
	int64_t number;
	const struct sidelog_replica *replica;
	int rc = sidelog_reconnect(log, NULL);

	if (rc)
		return rc;
	replica = sidelog_find(log, id, &number);
	if (replica) {
		*out = replica->head;
		return 0;
	}
	memset(out, 0, sizeof(*out));
	out->replica = *id;
	return 0;
}

int p2p_sidelog_vector(struct p2p_sidelog *log, struct p2p_vv *out)
{
	size_t i;
	int rc = sidelog_reconnect(log, NULL);

	for (i = 0; i < log->replica_count && !rc; i++)
		if (log->replicas[i].head.seq)
			rc = p2p_vv_put(out, &log->replicas[i].head);
	return rc;
}

/* --- changesets ------------------------------------------------------------------------------- */

void p2p_stored_deinit(struct p2p_stored *stored)
{
	p2p_free(stored->raw);
	memset(stored, 0, sizeof(*stored));
}

static int change_bind(sqlite3_stmt *stmt, int64_t key, const struct p2p_stored *stored)
{
	int rc = sqlite3_bind_int64(stmt, 1, key);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_blob(stmt, 2, stored->hash.bytes, P2P_HASH_BYTES, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = stored->has_signature ? sqlite3_bind_blob(stmt, 3, stored->signature.bytes,
							       P2P_SIG_BYTES, SQLITE_STATIC)
					   : sqlite3_bind_null(stmt, 3);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(stmt, 4, (int64_t)stored->stamp);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(stmt, 5, stored->group_pos);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(stmt, 6, stored->group_last);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(stmt, 7, (int64_t)stored->total_bytes);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(stmt, 8, stored->segment_count);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(stmt, 9, stored->segments_have);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(stmt, 10, stored->journal);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_blob64(stmt, 11, stored->raw, stored->raw_len, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_null(stmt, 12);
	return rc == SQLITE_OK ? 0 : P2P_ENOMEM;
}

/* Is there something under this number already? */
static int change_compare(struct p2p_sidelog *log, int64_t key, const struct p2p_hash *hash)
{
	struct p2p_hash there;
	sqlite3_stmt *stmt;
	int rc = sidelog_statement(log, SIDELOG_NEXT_HAVE, &stmt);

	if (rc)
		return rc;
	if (sqlite3_bind_int64(stmt, 1, key) != SQLITE_OK)
		return P2P_ENOMEM;
	rc = sidelog_row(log, stmt);
	if (!rc)
		rc = sidelog_column(stmt, 0, there.bytes, P2P_HASH_BYTES);
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	if (rc)
		return rc == P2P_ENOENT ? 0 : rc;
	return p2p_hash_cmp(&there, hash) == 0 ? P2P_EEXIST : P2P_EFORK;
}

int p2p_sidelog_put_header(struct p2p_sidelog *log, const struct p2p_stored *stored)
{
	struct sidelog_replica *replica;
	sqlite3_stmt *stmt;
	int64_t number, key;
	int rc;

	p2p_require(p2p_sidelog_in_transaction(log));
	rc = sidelog_replica(log, &stored->replica, &number, &replica);
	if (!rc)
		rc = sidelog_key(number, stored->seq, &key);
	if (!rc)
		rc = change_compare(log, key, &stored->hash);
	if (!rc)
		rc = sidelog_statement(log, SIDELOG_CHANGE_PUT, &stmt);
	if (!rc)
		rc = change_bind(stmt, key, stored);
	if (!rc)
		rc = sidelog_run(log, stmt, "write");
	if (!rc && stored->segments_have >= stored->segment_count)
		rc = head_advance(log, number, replica);
	return rc;
}

/* A change's place in the tables. P2P_ENOENT. */
static int change_key(struct p2p_sidelog *log, const struct p2p_id *id, uint64_t seq, int64_t *out)
{
	int64_t number;
	int rc = sidelog_reconnect(log, NULL);

	if (!rc && (!sidelog_find(log, id, &number) || sidelog_key(number, seq, out)))
		rc = P2P_ENOENT;
	return rc;
}

/* A statement whose only parameter is the place of a change. */
static int change_statement(struct p2p_sidelog *log, int64_t key, enum sidelog_sql which,
			    sqlite3_stmt **out)
{
	int rc = sidelog_statement(log, which, out);

	return !rc && sqlite3_bind_int64(*out, 1, key) != SQLITE_OK ? P2P_ENOMEM : rc;
}

int p2p_sidelog_get(struct p2p_sidelog *log, const struct p2p_id *id, uint64_t seq,
		    struct p2p_stored *out)
{
	sqlite3_stmt *stmt;
	int64_t key;
	int rc;

	memset(out, 0, sizeof(*out));
	rc = change_key(log, id, seq, &key);
	if (!rc)
		rc = change_statement(log, key, SIDELOG_CHANGE_GET, &stmt);
	if (rc)
		return rc;
	rc = sidelog_row(log, stmt);
	if (!rc)
		rc = sidelog_column(stmt, 0, out->hash.bytes, P2P_HASH_BYTES);
	if (!rc && sqlite3_column_type(stmt, 1) != SQLITE_NULL) {
		out->has_signature = true;
		rc = sidelog_column(stmt, 1, out->signature.bytes, P2P_SIG_BYTES);
	}
	if (!rc) {
		out->replica = *id;
		out->seq = seq;
		out->stamp = (uint64_t)sqlite3_column_int64(stmt, 2);
		out->group_pos = (uint32_t)sqlite3_column_int64(stmt, 3);
		out->group_last = sqlite3_column_int(stmt, 4) != 0;
		out->total_bytes = (uint64_t)sqlite3_column_int64(stmt, 5);
		out->segment_count = (uint32_t)sqlite3_column_int64(stmt, 6);
		out->segments_have = (uint32_t)sqlite3_column_int64(stmt, 7);
		out->journal = sqlite3_column_int64(stmt, 8);
		out->raw_len = (size_t)sqlite3_column_bytes(stmt, 9);
		out->raw = p2p_memdup(sqlite3_column_blob(stmt, 9), out->raw_len);
		if (!out->raw)
			rc = P2P_ENOMEM;
	}
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

int p2p_sidelog_stamp(struct p2p_sidelog *log, const struct p2p_id *id, uint64_t seq,
		      struct p2p_hlc *out)
{
	sqlite3_stmt *stmt;
	int64_t key;
	int rc = change_key(log, id, seq, &key);

	if (!rc)
		rc = change_statement(log, key, SIDELOG_NEXT_HAVE, &stmt);
	if (rc)
		return rc;
	rc = sidelog_row(log, stmt);
	if (!rc)
		out->value = (uint64_t)sqlite3_column_int64(stmt, 1);
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

/* --- segments --------------------------------------------------------------------------------- */

int sidelog_put_early_segment(struct p2p_sidelog *log, int64_t key, uint32_t index,
			      const void *data, size_t len)
{
	sqlite3_stmt *stmt;
	int rc = sidelog_statement(log, SIDELOG_SEGMENT_PUT, &stmt);

	if (rc)
		return rc;
	if (sqlite3_bind_int64(stmt, 1, key) != SQLITE_OK ||
	    sqlite3_bind_int64(stmt, 2, index) != SQLITE_OK ||
	    sqlite3_bind_blob64(stmt, 3, data, len, SQLITE_STATIC) != SQLITE_OK)
		return P2P_ENOMEM;
	return sidelog_run(log, stmt, "write");
}

/* The only segment stands in the changeset's row. */
static int body_set(struct p2p_sidelog *log, int64_t key, const void *data, size_t len)
{
	sqlite3_stmt *stmt;
	int rc = sidelog_statement(log, SIDELOG_CHANGE_BODY_SET, &stmt);

	if (rc)
		return rc;
	if (sqlite3_bind_int64(stmt, 1, key) != SQLITE_OK ||
	    sqlite3_bind_blob64(stmt, 2, data, len, SQLITE_STATIC) != SQLITE_OK)
		return P2P_ENOMEM;
	return sidelog_run(log, stmt, "write");
}

static int have_set(struct p2p_sidelog *log, int64_t key, uint32_t have)
{
	sqlite3_stmt *stmt;
	int rc = sidelog_statement(log, SIDELOG_CHANGE_HAVE, &stmt);

	if (rc)
		return rc;
	if (sqlite3_bind_int64(stmt, 1, key) != SQLITE_OK ||
	    sqlite3_bind_int64(stmt, 2, have) != SQLITE_OK)
		return P2P_ENOMEM;
	return sidelog_run(log, stmt, "write");
}

/* How far a changeset is, without its header, which can be far greater than a segment. */
static int progress_get(struct p2p_sidelog *log, int64_t key, uint32_t *out_segments,
			uint32_t *out_have)
{
	sqlite3_stmt *stmt;
	int rc = sidelog_statement(log, SIDELOG_CHANGE_PROGRESS, &stmt);

	if (rc)
		return rc;
	if (sqlite3_bind_int64(stmt, 1, key) != SQLITE_OK)
		return P2P_ENOMEM;
	rc = sidelog_row(log, stmt);
	*out_segments = rc ? 0 : (uint32_t)sqlite3_column_int64(stmt, 0);
	*out_have = rc ? 0 : (uint32_t)sqlite3_column_int64(stmt, 1);
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

int p2p_sidelog_put_segment(struct p2p_sidelog *log, const struct p2p_id *id, uint64_t seq,
			    uint32_t index, const void *data, size_t len)
{
	struct sidelog_replica *replica;
	uint32_t segments, have;
	int64_t number, key;
	int rc;

	p2p_require(p2p_sidelog_in_transaction(log));
	p2p_require(len <= P2P_SEGMENT_BYTES);
	replica = sidelog_find(log, id, &number);
	if (!replica || sidelog_key(number, seq, &key))
		return P2P_EINVAL;
	rc = progress_get(log, key, &segments, &have);
	if (rc == P2P_ENOENT || (!rc && (index != have || index >= segments)))
		return P2P_EINVAL;
	if (!rc)
		rc = segments == 1 ? body_set(log, key, data, len)
				   : sidelog_put_early_segment(log, key, index, data, len);
	if (!rc && segments > 1)
		rc = have_set(log, key, index + 1);
	if (!rc && index + 1 == segments)
		rc = head_advance(log, number, replica);
	return rc;
}

int p2p_sidelog_get_segment(struct p2p_sidelog *log, const struct p2p_id *id, uint64_t seq,
			    uint32_t index, struct p2p_buf *out)
{
	sqlite3_stmt *stmt = NULL;
	int64_t key;
	int rc;

	p2p_buf_reset(out);
	rc = change_key(log, id, seq, &key);
	if (rc)
		return rc;
	rc = index ? P2P_ENOENT : change_statement(log, key, SIDELOG_CHANGE_BODY, &stmt);
	if (!rc)
		rc = sidelog_row(log, stmt);
	if (rc == P2P_ENOENT) {
		if (!index)
			(void)sqlite3_reset(stmt); /* there was no row */
		rc = change_statement(log, key, SIDELOG_SEGMENT_GET, &stmt);
		if (!rc && sqlite3_bind_int64(stmt, 2, index) != SQLITE_OK)
			return P2P_ENOMEM;
		if (!rc)
			rc = sidelog_row(log, stmt);
	}
	if (!rc) {
		p2p_buf_put(out, sqlite3_column_blob(stmt, 0),
			    (size_t)sqlite3_column_bytes(stmt, 0));
		rc = p2p_buf_error(out);
	}
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

/* --- dropping --------------------------------------------------------------------------------- */

static int drop_range(struct p2p_sidelog *log, enum sidelog_sql which, int64_t first, int64_t last)
{
	sqlite3_stmt *stmt;
	int rc = sidelog_statement(log, which, &stmt);

	if (rc)
		return rc;
	if (sqlite3_bind_int64(stmt, 1, first) != SQLITE_OK ||
	    sqlite3_bind_int64(stmt, 2, last) != SQLITE_OK)
		return P2P_ENOMEM;
	return sidelog_run(log, stmt, "write");
}

static int head_back(struct p2p_sidelog *log, int64_t number, struct sidelog_replica *replica,
		     uint64_t seq)
{
	struct p2p_stored stored;
	int rc;

	if (replica->head.seq < seq)
		return 0;
	log->touched = true;
	memset(&replica->head, 0, sizeof(replica->head));
	replica->head.replica = replica->id;
	if (seq > 1) {
		rc = p2p_sidelog_get(log, &replica->id, seq - 1, &stored);
		if (rc)
			return rc == P2P_ENOENT ? P2P_ECORRUPT : rc;
		replica->head.seq = seq - 1;
		replica->head.head = stored.hash;
		replica->head.stamp.value = stored.stamp;
		replica->head.log_from = 1;
		p2p_stored_deinit(&stored);
	}
	return head_write(log, number, replica);
}

int p2p_sidelog_drop(struct p2p_sidelog *log, const struct p2p_id *id, uint64_t from_seq)
{
	struct sidelog_replica *replica;
	int64_t number, first, last;
	int rc;

	p2p_require(p2p_sidelog_in_transaction(log));
	replica = sidelog_find(log, id, &number);
	if (!replica)
		return 0;
	rc = sidelog_key(number, from_seq, &first);
	if (!rc)
		rc = sidelog_key(number, SIDELOG_SEQ_MAX, &last);
	if (!rc)
		rc = drop_range(log, SIDELOG_CHANGE_DROP, first, last);
	if (!rc)
		rc = drop_range(log, SIDELOG_SEGMENT_DROP, first, last);
	return rc ? rc : head_back(log, number, replica, from_seq);
}

uint64_t p2p_sidelog_staged_bytes(struct p2p_sidelog *log)
{
	sqlite3_stmt *stmt;
	uint64_t bytes = 0;

	if (!log->db || sidelog_statement(log, SIDELOG_STAGED, &stmt))
		return 0;
	if (sqlite3_step(stmt) == SQLITE_ROW)
		bytes = (uint64_t)sqlite3_column_int64(stmt, 0);
	(void)sqlite3_reset(stmt); /* a sum that cannot be read is told as 0 */
	return bytes;
}
