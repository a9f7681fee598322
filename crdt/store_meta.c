/* Settings and replicas' small numbers; see store.h. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/store_private.h"
#include "proto/check.h"
#include "proto/mem.h"

/* --- settings --------------------------------------------------------------------------------- */

int p2p_store_meta_get(struct p2p_store *store, const char *key, void *out, size_t max,
		       size_t *out_len)
{
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(store, P2P_SQL_META_GET, &stmt), step;
	size_t len;

	if (rc)
		return rc;
	if (sqlite3_bind_text(stmt, 1, key, -1, SQLITE_STATIC) != SQLITE_OK)
		return P2P_ENOMEM;
	step = sqlite3_step(stmt);
	if (step == SQLITE_ROW) {
		const void *data = sqlite3_column_blob(stmt, 0);

		len = (size_t)sqlite3_column_bytes(stmt, 0);
		rc = len > max ? P2P_ETOOBIG : 0;
		if (!rc && len)
			memcpy(out, data, len);
		if (!rc)
			*out_len = len;
	} else {
		rc = step == SQLITE_DONE ? P2P_ENOENT
					 : p2p_store_error(store, step, NULL, "read a setting of");
	}
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

int p2p_store_meta_set(struct p2p_store *store, const char *key, const void *value, size_t len)
{
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(store, P2P_SQL_META_SET, &stmt);

	if (rc)
		return rc;
	if (sqlite3_bind_text(stmt, 1, key, -1, SQLITE_STATIC) != SQLITE_OK ||
	    sqlite3_bind_blob64(stmt, 2, len ? value : "", len, SQLITE_STATIC) != SQLITE_OK)
		return P2P_ENOMEM;
	return p2p_store_run(store, stmt, "write a setting of");
}

/* 8 bytes, big-endian: the same in every file, whatever machine wrote it. */
int p2p_store_meta_get_u64(struct p2p_store *store, const char *key, uint64_t *out)
{
	struct p2p_reader reader;
	uint8_t bytes[8];
	size_t len = 0;
	int rc = p2p_store_meta_get(store, key, bytes, sizeof(bytes), &len);

	if (rc)
		return rc == P2P_ETOOBIG ? P2P_ECORRUPT : rc;
	if (len != sizeof(bytes))
		return P2P_ECORRUPT;
	p2p_reader_init(&reader, bytes, len);
	*out = p2p_read_u64(&reader);
	return 0;
}

int p2p_store_meta_set_u64(struct p2p_store *store, const char *key, uint64_t value)
{
	uint8_t bytes[8];
	size_t i;

	for (i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(value >> (56 - 8 * i));
	return p2p_store_meta_set(store, key, bytes, sizeof(bytes));
}

int p2p_store_folded_get(struct p2p_store *store, uint64_t *out_seq, int64_t *out_journal)
{
	uint64_t seq, journal;
	int rc = p2p_store_meta_get_u64(store, "folded_seq", &seq);

	if (!rc)
		rc = p2p_store_meta_get_u64(store, "folded_journal", &journal);
	if (rc == P2P_ENOENT) {
		seq = journal = 0;
		rc = 0;
	}
	if (!rc) {
		*out_seq = seq;
		*out_journal = (int64_t)journal;
	}
	return rc;
}

int p2p_store_folded_set(struct p2p_store *store, uint64_t seq, int64_t journal)
{
	int rc = p2p_store_meta_set_u64(store, "folded_seq", seq);

	return rc ? rc : p2p_store_meta_set_u64(store, "folded_journal", (uint64_t)journal);
}

/* --- replicas --------------------------------------------------------------------------------- */

static int replica_remember(struct p2p_store *store, const struct p2p_id *id)
{
	struct p2p_id *grown;
	uint32_t cap;

	if (store->replica_count >= P2P_REPLICAS_MAX)
		return P2P_ETOOBIG;
	if (store->replica_count == store->replica_cap) {
		cap = store->replica_cap ? store->replica_cap * 2 : 16;
		grown = p2p_realloc(store->replicas, cap * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		store->replicas = grown;
		store->replica_cap = cap;
	}
	store->replicas[store->replica_count++] = *id;
	return 0;
}

uint32_t p2p_store_replica_find(const struct p2p_store *store, const struct p2p_id *id)
{
	uint32_t i;

	/* a handful, as a rule; the latest are asked for most */
	for (i = store->replica_count; i; i--)
		if (p2p_id_cmp(&store->replicas[i - 1], id) == 0)
			return i;
	return 0;
}

int p2p_store_replica_number(struct p2p_store *store, const struct p2p_id *id, uint32_t *out)
{
	sqlite3_stmt *stmt;
	int rc;

	*out = p2p_store_replica_find(store, id);
	if (*out)
		return 0;
	p2p_require(p2p_store_in_transaction(store));
	rc = p2p_store_statement(store, P2P_SQL_REPLICA_ADD, &stmt);
	if (!rc)
		rc = replica_remember(store, id);
	if (rc)
		return rc;
	if (sqlite3_bind_int64(stmt, 1, store->replica_count) != SQLITE_OK ||
	    sqlite3_bind_blob(stmt, 2, id->bytes, P2P_ID_BYTES, SQLITE_STATIC) != SQLITE_OK)
		rc = P2P_ENOMEM;
	if (!rc)
		rc = p2p_store_run(store, stmt, "add a replica to");
	if (rc)
		store->replica_count--;
	else
		*out = store->replica_count;
	return rc;
}

const struct p2p_id *p2p_store_replica_id(const struct p2p_store *store, uint32_t number)
{
	if (!number || number > store->replica_count)
		return NULL;
	return &store->replicas[number - 1];
}

int p2p_store_load_replicas(struct p2p_store *store)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(store->db, "SELECT number, id FROM main.p2p_replica ORDER BY 1",
				    -1, &stmt, NULL);
	int result = 0;

	store->replica_count = 0;
	while (rc == SQLITE_OK && !result && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct p2p_id id;

		rc = SQLITE_OK;
		if (sqlite3_column_bytes(stmt, 1) != P2P_ID_BYTES ||
		    sqlite3_column_int64(stmt, 0) != (int64_t)store->replica_count + 1) {
			result = P2P_ECORRUPT;
			break;
		}
		memcpy(id.bytes, sqlite3_column_blob(stmt, 1), P2P_ID_BYTES);
		result = replica_remember(store, &id);
	}
	if (!result && rc != SQLITE_DONE)
		result = p2p_store_error(store, rc, NULL, "read the replicas of");
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return result;
}
