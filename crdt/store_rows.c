/* Row states, temporary numbers, parked and waiting rows, vector, journal; see store.h. */
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "crdt/apptable.h"
#include "crdt/store_private.h"
#include "proto/check.h"
#include "proto/mem.h"

#define SQL_BYTES_MAX (16u * 1024 * 1024)

/* Prepares `format` with the table's number once. */
static int table_statement(struct p2p_store *store, const struct p2p_table *table,
			   sqlite3_stmt **at, const char *format)
{
	char sql[256];
	int rc = SQLITE_OK;

	if (!*at) {
		(void)sqlite3_snprintf(sizeof(sql), sql, format, table->number);
		rc = sqlite3_prepare_v3(store->db, sql, -1, SQLITE_PREPARE_PERSISTENT, at, NULL);
	}
	return rc == SQLITE_OK ? 0 : p2p_store_error(store, rc, NULL, "prepare");
}

static int bind_key(sqlite3_stmt *stmt, int at, const void *key, size_t len)
{
	return sqlite3_bind_blob64(stmt, at, key, len, SQLITE_STATIC) == SQLITE_OK ? 0 : P2P_ENOMEM;
}

/* Ends a query after its step: 0 for a row, P2P_ENOENT for none. */
static int step_result(struct p2p_store *store, int step)
{
	if (step == SQLITE_ROW)
		return 0;
	return step == SQLITE_DONE ? P2P_ENOENT : p2p_store_error(store, step, NULL, "read");
}

/* --- row states ------------------------------------------------------------------------------- */

int p2p_store_row_get(struct p2p_store *store, const struct p2p_table *table, const void *key,
		      size_t key_len, struct p2p_rowstate *out, int64_t *out_number)
{
	sqlite3_stmt **at = &p2p_store_extra(store, table)->get, *stmt;
	int rc = table_statement(store, table, at,
				 "SELECT state, number FROM main.p2p_row_%u WHERE k = ?1");

	if (rc)
		return rc;
	stmt = *at;
	rc = bind_key(stmt, 1, key, key_len);
	if (!rc)
		rc = step_result(store, sqlite3_step(stmt));
	if (!rc)
		rc = p2p_rowstate_read(out, sqlite3_column_blob(stmt, 0),
				       (size_t)sqlite3_column_bytes(stmt, 0));
	if (!rc && out_number)
		*out_number = sqlite3_column_int64(stmt, 1);
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

int p2p_store_row_put(struct p2p_store *store, const struct p2p_table *table, const void *key,
		      size_t key_len, const struct p2p_rowstate *state, int64_t number)
{
	sqlite3_stmt **at = &p2p_store_extra(store, table)->put, *stmt;
	struct p2p_buf *state_bytes = &store->scratch;
	int rc = table_statement(store, table, at,
				 "INSERT OR REPLACE INTO main.p2p_row_%u(k, state, number)"
				 " VALUES(?1, ?2, ?3)");

	if (rc)
		return rc;
	stmt = *at;
	p2p_buf_reset(state_bytes);
	p2p_rowstate_put(state_bytes, state);
	rc = p2p_buf_error(state_bytes);
	if (!rc)
		rc = bind_key(stmt, 1, key, key_len);
	if (!rc)
		rc = bind_key(stmt, 2, state_bytes->data, state_bytes->len);
	if (rc)
		return rc;
	/* Only live rows can claim one. */
	rc = table->generated_identity && p2p_rowstate_alive(state)
		     ? sqlite3_bind_int64(stmt, 3, number)
		     : sqlite3_bind_null(stmt, 3);
	return rc == SQLITE_OK ? p2p_store_run(store, stmt, "write a row state of") : P2P_ENOMEM;
}

int p2p_store_claimants(struct p2p_store *store, const struct p2p_table *table, int64_t number,
			int (*each)(void *ctx, const struct p2p_identity *identity), void *ctx)
{
	sqlite3_stmt **at = &p2p_store_extra(store, table)->claimants, *stmt;
	struct p2p_identity identity;
	struct p2p_reader reader;
	int rc = table_statement(store, table, at,
				 "SELECT k FROM main.p2p_row_%u WHERE number = ?1");

	p2p_require(table->generated_identity);
	if (rc)
		return rc;
	stmt = *at;
	if (sqlite3_bind_int64(stmt, 1, number) != SQLITE_OK)
		return P2P_ENOMEM;
	while (p2p_store_next(store, stmt, &rc)) {
		p2p_reader_init(&reader, sqlite3_column_blob(stmt, 0),
				(size_t)sqlite3_column_bytes(stmt, 0));
		p2p_identity_read(&reader, &identity);
		rc = reader.failed ? P2P_ECORRUPT : each(ctx, &identity);
	}
	return rc;
}

/* --- temporary numbers ------------------------------------------------------------------------ */

static int keyed_statement(struct p2p_store *store, enum p2p_store_sql which,
			   const struct p2p_table *table, const void *key, size_t key_len,
			   sqlite3_stmt **out)
{
	int rc = p2p_store_statement(store, which, out);

	if (!rc && sqlite3_bind_int64(*out, 1, table->number) != SQLITE_OK)
		rc = P2P_ENOMEM;
	return rc || !key ? rc : bind_key(*out, 2, key, key_len);
}

int p2p_store_temp_by_number(struct p2p_store *store, const struct p2p_table *table, int64_t number,
			     struct p2p_buf *out_key)
{
	sqlite3_stmt *stmt;
	int rc = keyed_statement(store, P2P_SQL_TEMP_AT, table, NULL, 0, &stmt);

	if (rc)
		return rc;
	if (sqlite3_bind_int64(stmt, 2, number) != SQLITE_OK)
		return P2P_ENOMEM;
	rc = step_result(store, sqlite3_step(stmt));
	if (!rc) {
		p2p_buf_put(out_key, sqlite3_column_blob(stmt, 0),
			    (size_t)sqlite3_column_bytes(stmt, 0));
		rc = p2p_buf_error(out_key);
	}
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

int p2p_store_temp_get(struct p2p_store *store, const struct p2p_table *table, const void *key,
		       size_t key_len, int64_t *out_shown)
{
	sqlite3_stmt *stmt;
	int rc = keyed_statement(store, P2P_SQL_TEMP_GET, table, key, key_len, &stmt);

	if (rc)
		return rc;
	rc = step_result(store, sqlite3_step(stmt));
	if (!rc)
		*out_shown = sqlite3_column_int64(stmt, 0);
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

int p2p_store_temp_set(struct p2p_store *store, const struct p2p_table *table, const void *key,
		       size_t key_len, int64_t shown)
{
	sqlite3_stmt *stmt;
	int rc = keyed_statement(store, P2P_SQL_TEMP_SET, table, key, key_len, &stmt);

	if (!rc && sqlite3_bind_int64(stmt, 3, shown) != SQLITE_OK)
		rc = P2P_ENOMEM;
	return rc ? rc : p2p_store_run(store, stmt, "write a temporary number of");
}

int p2p_store_temp_drop(struct p2p_store *store, const struct p2p_table *table, const void *key,
			size_t key_len)
{
	sqlite3_stmt *stmt;
	int rc = keyed_statement(store, P2P_SQL_TEMP_DELETE, table, key, key_len, &stmt);

	return rc ? rc : p2p_store_run(store, stmt, "drop a temporary number of");
}

int p2p_store_temp_each(struct p2p_store *store, const struct p2p_table *table,
			int (*each)(void *ctx, const void *key, size_t key_len, int64_t shown),
			void *ctx)
{
	sqlite3_stmt *stmt;
	int rc = keyed_statement(store, P2P_SQL_TEMP_EACH, table, NULL, 0, &stmt);

	if (rc)
		return rc;
	while (p2p_store_next(store, stmt, &rc))
		rc = each(ctx, sqlite3_column_blob(stmt, 0), (size_t)sqlite3_column_bytes(stmt, 0),
			  sqlite3_column_int64(stmt, 1));
	return rc;
}

int p2p_store_numbers_in_doubt(struct p2p_store *store, const struct p2p_table *table,
			       int (*each)(void *ctx, int64_t number), void *ctx)
{
	sqlite3_stmt *stmt = NULL;
	char *sql = sqlite3_mprintf(
		"SELECT number FROM main.p2p_row_%u WHERE number NOT NULL GROUP BY number"
		" HAVING count(*) > 1 UNION SELECT r.number FROM main.p2p_temp t"
		" JOIN main.p2p_row_%u r ON r.k = t.k WHERE t.t = %u AND r.number NOT NULL",
		table->number, table->number, table->number);
	int rc = sql ? sqlite3_prepare_v2(store->db, sql, -1, &stmt, NULL) : SQLITE_NOMEM;
	int result = 0;

	while (rc == SQLITE_OK && !result && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		result = each(ctx, sqlite3_column_int64(stmt, 0));
		rc = SQLITE_OK;
	}
	if (!result && rc != SQLITE_DONE)
		result = p2p_store_error(store, rc, NULL, "read");
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	sqlite3_free(sql);
	return result;
}

/* --- parked and waiting ----------------------------------------------------------------------- */

int p2p_store_parked_get(struct p2p_store *store, const struct p2p_table *table, const void *key,
			 size_t key_len, struct p2p_buf *out_cells)
{
	sqlite3_stmt *stmt;
	int rc = keyed_statement(store, P2P_SQL_PARKED_GET, table, key, key_len, &stmt);

	if (rc)
		return rc;
	rc = step_result(store, sqlite3_step(stmt));
	if (!rc) {
		p2p_buf_put(out_cells, sqlite3_column_blob(stmt, 0),
			    (size_t)sqlite3_column_bytes(stmt, 0));
		rc = p2p_buf_error(out_cells);
	}
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

int p2p_store_parked_put(struct p2p_store *store, const struct p2p_table *table, const void *key,
			 size_t key_len, const struct p2p_buf *cells, const char *reason)
{
	sqlite3_stmt *stmt;
	int rc = keyed_statement(store, cells->len ? P2P_SQL_PARKED_PUT : P2P_SQL_PARKED_DELETE,
				 table, key, key_len, &stmt);

	if (!rc && cells->len)
		rc = bind_key(stmt, 3, cells->data, cells->len);
	if (!rc && cells->len && sqlite3_bind_text(stmt, 4, reason, -1, SQLITE_STATIC) != SQLITE_OK)
		rc = P2P_ENOMEM;
	return rc ? rc : p2p_store_run(store, stmt, "park a row of");
}

int p2p_store_parked_each(struct p2p_store *store, const struct p2p_table *table,
			  int (*each)(void *ctx, const void *key, size_t key_len), void *ctx)
{
	sqlite3_stmt *stmt;
	int rc = keyed_statement(store, P2P_SQL_PARKED_EACH, table, NULL, 0, &stmt);

	if (rc)
		return rc;
	while (p2p_store_next(store, stmt, &rc))
		rc = each(ctx, sqlite3_column_blob(stmt, 0), (size_t)sqlite3_column_bytes(stmt, 0));
	return rc;
}

static uint64_t count_of(struct p2p_store *store, enum p2p_store_sql which)
{
	sqlite3_stmt *stmt;
	uint64_t count = 0;

	if (!store->enabled || p2p_store_statement(store, which, &stmt))
		return 0;
	if (sqlite3_step(stmt) == SQLITE_ROW)
		count = (uint64_t)sqlite3_column_int64(stmt, 0);
	(void)sqlite3_reset(stmt); /* a count that cannot be read is told as 0 */
	return count;
}

uint64_t p2p_store_parked_count(struct p2p_store *store)
{
	return count_of(store, P2P_SQL_PARKED_COUNT);
}

static int any_of(struct p2p_store *store, enum p2p_store_sql which, bool *out)
{
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(store, which, &stmt);

	if (!rc)
		rc = step_result(store, sqlite3_step(stmt));
	*out = !rc && sqlite3_column_int64(stmt, 0) > 0;
	if (stmt)
		(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

int p2p_store_parked_any(struct p2p_store *store, bool *out)
{
	return any_of(store, P2P_SQL_PARKED_COUNT, out);
}

int p2p_store_out_any(struct p2p_store *store, bool *out)
{
	return any_of(store, P2P_SQL_OUT_ANY, out);
}

uint64_t p2p_store_waiting_count(struct p2p_store *store)
{
	return count_of(store, P2P_SQL_WAITING_COUNT);
}

int p2p_store_waiting_put(struct p2p_store *store, const struct p2p_id *table,
			  const struct p2p_clock *clock, const struct p2p_hash *schema,
			  const void *record, size_t len)
{
	struct p2p_hasher hasher;
	struct p2p_id hash;
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(store, P2P_SQL_WAITING_PUT, &stmt);

	if (rc)
		return rc;
	/* the same record twice is kept once */
	p2p_hasher_init(&hasher, "p2pnode/waiting/1", sizeof(hash.bytes));
	p2p_hasher_add(&hasher, table->bytes, P2P_ID_BYTES);
	p2p_hasher_add_u64(&hasher, clock->stamp.value);
	p2p_hasher_add(&hasher, clock->replica.bytes, P2P_ID_BYTES);
	p2p_hasher_add(&hasher, schema->bytes, P2P_HASH_BYTES);
	p2p_hasher_add(&hasher, record, len);
	p2p_hasher_final(&hasher, hash.bytes, sizeof(hash.bytes));
	if (bind_key(stmt, 1, hash.bytes, P2P_ID_BYTES) ||
	    bind_key(stmt, 2, table->bytes, P2P_ID_BYTES) ||
	    sqlite3_bind_int64(stmt, 3, (int64_t)clock->stamp.value) != SQLITE_OK ||
	    bind_key(stmt, 4, clock->replica.bytes, P2P_ID_BYTES) ||
	    bind_key(stmt, 5, schema->bytes, P2P_HASH_BYTES) || bind_key(stmt, 6, record, len))
		return P2P_ENOMEM;
	return p2p_store_run(store, stmt, "keep a record in");
}

int p2p_store_waiting_drop(struct p2p_store *store, const struct p2p_id *table)
{
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(store, P2P_SQL_WAITING_DROP, &stmt);

	if (!rc)
		rc = bind_key(stmt, 1, table->bytes, P2P_ID_BYTES);
	return rc ? rc : p2p_store_run(store, stmt, "forget records of");
}

int p2p_store_waiting_has(struct p2p_store *store, const struct p2p_id *table, bool *out)
{
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(store, P2P_SQL_WAITING_HAS, &stmt);

	if (!rc)
		rc = bind_key(stmt, 1, table->bytes, P2P_ID_BYTES);
	if (rc)
		return rc;
	rc = step_result(store, sqlite3_step(stmt));
	*out = rc == 0;
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc == P2P_ENOENT ? 0 : rc;
}

/* --- vector ----------------------------------------------------------------------------------- */

int p2p_store_vector_set(struct p2p_store *store, const struct p2p_merged *entry)
{
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(store, P2P_SQL_VECTOR_SET, &stmt);

	if (rc)
		return rc;
	p2p_require(entry->seq <= INT64_MAX);
	if (bind_key(stmt, 1, entry->replica.bytes, P2P_ID_BYTES) ||
	    sqlite3_bind_int64(stmt, 2, (int64_t)entry->seq) != SQLITE_OK ||
	    bind_key(stmt, 3, entry->head.bytes, P2P_HASH_BYTES) ||
	    sqlite3_bind_int64(stmt, 4, (int64_t)entry->stamp.value) != SQLITE_OK)
		return P2P_ENOMEM;
	return p2p_store_run(store, stmt, "write the vector of");
}

int p2p_store_vector_each(struct p2p_store *store,
			  int (*each)(void *ctx, const struct p2p_merged *entry), void *ctx)
{
	struct p2p_merged entry;
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(store, P2P_SQL_VECTOR_EACH, &stmt);

	if (rc)
		return rc;
	while (p2p_store_next(store, stmt, &rc)) {
		if (sqlite3_column_bytes(stmt, 0) != P2P_ID_BYTES ||
		    sqlite3_column_bytes(stmt, 2) != P2P_HASH_BYTES) {
			rc = P2P_ECORRUPT;
			continue;
		}
		memcpy(entry.replica.bytes, sqlite3_column_blob(stmt, 0), P2P_ID_BYTES);
		memcpy(entry.head.bytes, sqlite3_column_blob(stmt, 2), P2P_HASH_BYTES);
		entry.seq = (uint64_t)sqlite3_column_int64(stmt, 1);
		entry.stamp.value = (uint64_t)sqlite3_column_int64(stmt, 3);
		rc = each(ctx, &entry);
	}
	return rc;
}

/* --- journal ---------------------------------------------------------------------------------- */

int p2p_store_journal_max(struct p2p_store *store, int64_t *out)
{
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(store, P2P_SQL_JOURNAL_MAX, &stmt);

	if (rc)
		return rc;
	rc = step_result(store, sqlite3_step(stmt));
	if (!rc)
		*out = sqlite3_column_int64(stmt, 0); /* NULL of an empty journal reads as 0 */
	(void)sqlite3_reset(stmt);		      /* repeats the step's error */
	return rc;
}

/* Columns: id, t, ms, k1, k2... 1: of a table that is replicated no longer. */
static int journal_read(struct p2p_store *store, sqlite3_stmt *row, struct p2p_journal_entry *out)
{
	int64_t t = sqlite3_column_int64(row, 1);
	const struct p2p_table *table;
	uint32_t i;
	int rc = 0;

	out->id = sqlite3_column_int64(row, 0);
	out->ms = sqlite3_column_int64(row, 2);
	out->present = t < 0;
	if (t < -(int64_t)UINT32_MAX || t > (int64_t)UINT32_MAX)
		return P2P_ECORRUPT;
	out->table = (uint32_t)(t < 0 ? -t : t);
	table = p2p_store_table_by_number(store, out->table);
	if (!table || table->state != P2P_TABLE_LIVE)
		return 1;
	for (i = 0; i < table->key_count && !rc; i++)
		rc = p2p_value_column(&out->key[i], row, 3 + (int)i);
	return rc;
}

int p2p_store_journal_each(struct p2p_store *store, int64_t after, int64_t upto,
			   int (*each)(void *ctx, const struct p2p_journal_entry *entry), void *ctx)
{
	struct p2p_journal_entry entry;
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(store, P2P_SQL_JOURNAL_EACH, &stmt);

	if (rc)
		return rc;
	if (sqlite3_bind_int64(stmt, 1, after) != SQLITE_OK ||
	    sqlite3_bind_int64(stmt, 2, upto) != SQLITE_OK)
		return P2P_ENOMEM;
	while (p2p_store_next(store, stmt, &rc)) {
		rc = journal_read(store, stmt, &entry);
		if (!rc)
			rc = each(ctx, &entry);
		else if (rc == 1)
			rc = 0;
	}
	return rc;
}

int p2p_store_journal_trim(struct p2p_store *store, int64_t upto)
{
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(store, P2P_SQL_JOURNAL_TRIM, &stmt);

	if (rc)
		return rc;
	if (sqlite3_bind_int64(stmt, 1, upto) != SQLITE_OK)
		return P2P_ENOMEM;
	return p2p_store_run(store, stmt, "trim the journal of");
}

/* --- rows of the application ------------------------------------------------------------------ */

static int app_row_prepare(struct p2p_store *store, const struct p2p_table *table,
			   sqlite3_stmt **at)
{
	struct p2p_buf sql;
	uint32_t i, count = 0;
	int rc;

	p2p_buf_init(&sql, SQL_BYTES_MAX);
	for (i = 0; i < table->column_count; i++) {
		if (table->columns[i].flags & P2P_COLUMN_GENERATED)
			continue;
		p2p_sql_text(&sql, count++ ? "," : "SELECT ");
		p2p_sql_name(&sql, table->columns[i].name);
	}
	p2p_sql_text(&sql, " FROM main.");
	p2p_sql_name(&sql, table->name);
	for (i = 0; i < table->key_count; i++) {
		p2p_sql_text(&sql, i ? " AND " : " WHERE ");
		p2p_sql_name(&sql, table->columns[table->key[i]].name);
		p2p_sql_text(&sql, "=?");
	}
	rc = p2p_sql_prepare(store, &sql, at);
	p2p_buf_deinit(&sql);
	return rc;
}

int p2p_store_app_row(struct p2p_store *store, const struct p2p_table *table,
		      const struct p2p_value *key, sqlite3_stmt **out)
{
	sqlite3_stmt **at = &p2p_store_extra(store, table)->app_row;
	uint32_t i;
	int rc = 0;

	p2p_store_row_done(store);
	if (!*at)
		rc = app_row_prepare(store, table, at);
	for (i = 0; i < table->key_count && !rc; i++)
		rc = p2p_value_bind(*at, (int)i + 1, &key[i]);
	if (rc)
		return rc;
	store->row = *at;
	rc = step_result(store, sqlite3_step(*at));
	if (rc)
		p2p_store_row_done(store);
	else
		*out = *at;
	return rc;
}

void p2p_store_row_done(struct p2p_store *store)
{
	if (store->row)
		(void)sqlite3_reset(store->row); /* the error was seen at the step */
	store->row = NULL;
}
