/* Comparing a table with what is known of it: writes that no trigger saw; see store.h. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/apptable.h"
#include "crdt/claimants.h"
#include "crdt/counters.h"
#include "crdt/refs_file.h"
#include "crdt/store_private.h"
#include "crdt/store_refs.h"
#include "proto/check.h"
#include "proto/mem.h"

#define SQL_BYTES_MAX (16u * 1024 * 1024)

struct rescan {
	struct p2p_store *store;
	struct p2p_table *table;
	struct p2p_apptable app;
	struct p2p_numbers numbers;
	struct p2p_refs_file refs;
	struct p2p_rowstate state;
	struct p2p_buf key;   /* encoded identity */
	struct p2p_buf bytes; /* of a key */
	uint64_t rows;
	bool count_only;
	bool forget;		   /* rows that are gone are forgotten */
	struct p2p_missing *slice; /* NULL: all */
};

/* The identity of the row that shows these key values, encoded. P2P_ENOENT: nobody's;
 * P2P_IDENTITY_NULL_KEY. */
static int identity_of_row(struct rescan *scan, const struct p2p_value *key)
{
	struct p2p_identity identity;
	int rc;

	if (scan->table->key_references)
		return p2p_refs_key_identity(&scan->refs.refs, scan->table, key, &scan->key);
	memset(&identity, 0, sizeof(identity));
	p2p_buf_reset(&scan->key);
	p2p_buf_reset(&scan->bytes);
	if (scan->table->generated_identity) {
		rc = p2p_claimants_at(&scan->numbers, key[0].integer, &identity);
	} else {
		rc = p2p_identity_of_key(&scan->bytes, scan->table, key);
		identity.kind = P2P_IDENTITY_KEY;
		identity.key = scan->bytes.data;
		identity.key_len = scan->bytes.len;
	}
	if (rc)
		return rc;
	p2p_identity_put(&scan->key, &identity);
	return p2p_buf_error(&scan->key);
}

static int row_differs(struct rescan *scan, sqlite3_stmt *row, bool *out)
{
	const struct p2p_hash_key *hash_key = p2p_store_hash_key(scan->store);
	const struct p2p_table *table = scan->table;
	struct p2p_value value;
	uint32_t i;
	int at = 0, rc = 0;

	*out = !p2p_rowstate_alive(&scan->state) || (scan->state.flags & P2P_ROW_PARKED);
	for (i = 0; i < table->column_count && !*out && !rc; i++) {
		const struct p2p_column *column = &table->columns[i];

		if (column->flags & P2P_COLUMN_GENERATED)
			continue;
		rc = p2p_value_column(&value, row, at++);
		if (column->slot == UINT32_MAX || (table->generated_identity && i == table->key[0]))
			continue;
		if (!rc)
			rc = p2p_store_cell_differs(scan->store, scan->table, &scan->state, i,
						    p2p_value_hash(hash_key, &value), out);
	}
	return rc;
}

static int scan_row(struct rescan *scan, sqlite3_stmt *row)
{
	const struct p2p_table *table = scan->table;
	struct p2p_value key[P2P_KEY_COLUMNS_MAX], value;
	uint32_t i;
	bool differs = true;
	int at = 0, rc = 0;

	for (i = 0; i < table->column_count && !rc; i++) {
		const struct p2p_column *column = &table->columns[i];

		if (column->flags & P2P_COLUMN_GENERATED)
			continue;
		rc = p2p_value_column(&value, row, at++);
		if (column->flags & P2P_COLUMN_KEY)
			key[column->key_pos] = value;
	}
	if (!rc)
		rc = identity_of_row(scan, key);
	if (rc == P2P_IDENTITY_NULL_KEY)
		return 0; /* not replicated */
	if (!rc)
		rc = p2p_store_row_get(scan->store, table, scan->key.data, scan->key.len,
				       &scan->state, NULL);
	if (!rc)
		rc = row_differs(scan, row, &differs);
	if ((rc && rc != P2P_ENOENT) || !differs)
		return rc;
	scan->rows++;
	return p2p_store_journal_key(scan->store, table, key);
}

static int scan_table(struct rescan *scan)
{
	const struct p2p_table *table = scan->table;
	sqlite3_stmt *stmt = NULL;
	struct p2p_buf sql;
	uint32_t i, count = 0;
	int rc, step;

	p2p_buf_init(&sql, SQL_BYTES_MAX);
	for (i = 0; i < table->column_count; i++) {
		if (table->columns[i].flags & P2P_COLUMN_GENERATED)
			continue;
		p2p_sql_text(&sql, count++ ? "," : "SELECT ");
		p2p_sql_name(&sql, table->columns[i].name);
	}
	p2p_sql_text(&sql, " FROM main.");
	p2p_sql_name(&sql, table->name);
	rc = p2p_sql_prepare(scan->store, &sql, &stmt);
	p2p_buf_deinit(&sql);
	while (!rc && (step = sqlite3_step(stmt)) != SQLITE_DONE)
		rc = step == SQLITE_ROW ? scan_row(scan, stmt)
					: p2p_store_error(scan->store, step, NULL, "read");
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc;
}

static int forget_row(struct rescan *scan, const void *bytes, size_t len)
{
	struct p2p_rowref row = {scan->table, bytes, len};
	sqlite3_stmt *stmt = NULL;
	char sql[64];
	int rc, step;

	(void)sqlite3_snprintf(sizeof(sql), sql, "DELETE FROM main.p2p_row_%u WHERE k = ?1",
			       scan->table->number);
	step = sqlite3_prepare_v2(scan->store->db, sql, -1, &stmt, NULL);
	if (step == SQLITE_OK)
		step = sqlite3_bind_blob64(stmt, 1, bytes, len, SQLITE_TRANSIENT);
	rc = p2p_store_temp_drop(scan->store, scan->table, bytes, len);
	if (!rc)
		rc = p2p_store_life_drop(scan->store, &row);
	if (!rc && scan->table->counters)
		rc = p2p_counters_drop(scan->store, &row);
	if (!rc && step == SQLITE_OK)
		step = sqlite3_step(stmt);
	if (!rc && step != SQLITE_DONE)
		rc = p2p_store_error(scan->store, step, NULL, "forget a row of");
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc;
}

/* The key under which the table shows a row. P2P_ENOENT: there is none. */
static int key_of_known(struct rescan *scan, const void *bytes, size_t len, int64_t number,
			struct p2p_value *key)
{
	struct p2p_identity identity;
	struct p2p_reader reader;

	p2p_reader_init(&reader, bytes, len);
	p2p_identity_read(&reader, &identity);
	if (reader.failed)
		return P2P_ECORRUPT;
	memset(&key[0], 0, sizeof(key[0]));
	key[0].type = P2P_INTEGER;
	if (scan->table->generated_identity)
		return p2p_numbers_shown(&scan->numbers, bytes, len, number, &key[0].integer);
	if (scan->table->key_references)
		return p2p_refs_key_values(&scan->refs.refs, scan->table, &identity, key);
	return p2p_identity_key_values(scan->table, identity.key, identity.key_len, key);
}

/* Named by a row that is gone or kept out, it is not in the table, and no values say to capture who
 * it was: its identity is journalled in their place (crdt/capture_keys.c). */
static int scan_nameless(struct rescan *scan, const void *bytes, size_t len)
{
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	uint32_t i;

	if (scan->forget)
		return forget_row(scan, bytes, len);
	scan->rows++;
	memset(key, 0, sizeof(key));
	for (i = 0; i < scan->table->key_count; i++)
		key[i].type = i ? P2P_INTEGER : P2P_BLOB;
	key[0].bytes = bytes;
	key[0].len = len;
	return scan->count_only ? 0 : p2p_store_journal_key(scan->store, scan->table, key);
}

/* Do those who look at the table know who has its key? Not where a row that is kept out names it:
 * a number of that means nobody to them. */
static int key_means(struct rescan *scan, const void *bytes, size_t len, bool *out)
{
	struct p2p_identity identity;
	struct p2p_reader reader;

	*out = true;
	if (!scan->table->key_references)
		return 0;
	p2p_reader_init(&reader, bytes, len);
	p2p_identity_read(&reader, &identity);
	return reader.failed ? P2P_ECORRUPT
			     : p2p_refs_key_shown(&scan->refs.refs, scan->table, &identity, out);
}

/* The table has a row under its key. *out: another's, which can only be where numbers in keys mean
 * rows. Merges put none there (p2p_refs_key_taken()), so a look does not ask. */
static int key_of_other(struct rescan *scan, const struct p2p_value *key, const void *bytes,
			size_t len, bool *out)
{
	int rc;

	*out = false;
	if (!scan->table->key_references || scan->slice)
		return 0;
	rc = identity_of_row(scan, key);
	*out = !rc && (scan->key.len != len || memcmp(scan->key.data, bytes, len) != 0);
	return rc;
}

/* Rows that are known and no longer in the table: their keys are journalled. */
static int scan_known(struct rescan *scan, const void *bytes, size_t len, int64_t number)
{
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	sqlite3_stmt *row;
	bool means, other;
	int rc;

	if (!p2p_rowstate_alive(&scan->state))
		return 0;
	if (scan->state.flags & P2P_ROW_PARKED)
		return scan->forget ? forget_row(scan, bytes, len) : 0;
	rc = key_of_known(scan, bytes, len, number, key);
	if (rc == P2P_ENOENT)
		return scan_nameless(scan, bytes, len);
	if (!rc)
		rc = p2p_store_app_row(scan->store, scan->table, key, &row);
	p2p_store_row_done(scan->store);
	if (!rc) {
		rc = key_of_other(scan, key, bytes, len, &other);
		return rc || !other ? rc : scan_nameless(scan, bytes, len);
	}
	if (rc != P2P_ENOENT)
		return rc;
	rc = key_means(scan, bytes, len, &means);
	if (rc || !means)
		return rc ? rc : scan_nameless(scan, bytes, len);
	if (scan->forget)
		return forget_row(scan, bytes, len);
	scan->rows++;
	return scan->count_only ? 0 : p2p_store_journal_key(scan->store, scan->table, key);
}

static int scan_state(struct rescan *scan, sqlite3_stmt *stmt)
{
	const void *key = sqlite3_column_blob(stmt, 0);
	size_t len = (size_t)sqlite3_column_bytes(stmt, 0);
	int rc = p2p_rowstate_read(&scan->state, sqlite3_column_blob(stmt, 1),
				   (size_t)sqlite3_column_bytes(stmt, 1));

	if (scan->slice) {
		scan->slice->looked++;
		p2p_buf_reset(scan->slice->after);
		p2p_buf_put(scan->slice->after, key, len);
		if (!rc)
			rc = p2p_buf_error(scan->slice->after);
	}
	return rc ? rc : scan_known(scan, key, len, sqlite3_column_int64(stmt, 2));
}

/* All, or the slice: in the order of keys, which is that of the table. */
static int scan_states(struct rescan *scan)
{
	struct p2p_missing *slice = scan->slice;
	sqlite3_stmt *stmt = NULL;
	struct p2p_buf sql;
	uint64_t count = 0;
	int rc, step = SQLITE_ROW;

	p2p_buf_init(&sql, SQL_BYTES_MAX);
	p2p_sql_text(&sql, "SELECT k, state, number FROM main.p2p_row_");
	p2p_sql_number(&sql, scan->table->number);
	if (slice)
		p2p_sql_text(&sql, " WHERE k > ?1 ORDER BY k");
	rc = p2p_sql_prepare(scan->store, &sql, &stmt);
	p2p_buf_deinit(&sql);
	if (!rc && slice &&
	    sqlite3_bind_blob64(stmt, 1, slice->after->len ? slice->after->data : (const void *)"",
				slice->after->len, SQLITE_TRANSIENT) != SQLITE_OK)
		rc = P2P_ENOMEM;
	while (!rc && (!slice || count++ < slice->limit)) {
		step = sqlite3_step(stmt);
		if (step == SQLITE_DONE)
			break;
		rc = step == SQLITE_ROW ? scan_state(scan, stmt)
					: p2p_store_error(scan->store, step, NULL, "read");
	}
	if (slice)
		slice->end = step == SQLITE_DONE;
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc;
}

static int scan_init(struct rescan *scan, struct p2p_store *store, struct p2p_table *table)
{
	int rc;

	memset(scan, 0, sizeof(*scan));
	scan->store = store;
	scan->table = table;
	rc = p2p_apptable_init(&scan->app, store, table);
	p2p_numbers_init(&scan->numbers, &scan->app, store->log);
	p2p_refs_file_init(&scan->refs, store, store->log);
	p2p_rowstate_init(&scan->state);
	p2p_buf_init(&scan->key, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&scan->bytes, P2P_RECORD_BYTES_MAX);
	return rc;
}

static void scan_deinit(struct rescan *scan)
{
	p2p_numbers_deinit(&scan->numbers);
	p2p_refs_file_deinit(&scan->refs);
	p2p_apptable_deinit(&scan->app);
	p2p_rowstate_deinit(&scan->state);
	p2p_buf_deinit(&scan->key);
	p2p_buf_deinit(&scan->bytes);
}

static int rescan_table(struct p2p_store *store, struct p2p_table *table, uint64_t *rows)
{
	struct rescan scan;
	int rc = scan_init(&scan, store, table);

	if (!rc)
		rc = scan_table(&scan);
	if (!rc)
		rc = scan_states(&scan);
	*rows += scan.rows;
	scan_deinit(&scan);
	return rc;
}

int p2p_store_compare(struct p2p_store *store, struct p2p_table *table, struct p2p_error *err)
{
	struct rescan scan;
	uint64_t rows = 0;
	int rc = scan_init(&scan, store, table);

	scan.forget = true;
	if (!rc)
		rc = scan_states(&scan);
	scan_deinit(&scan);
	if (!rc)
		rc = rescan_table(store, table, &rows);
	return rc ? p2p_error_set(err, rc, "compare table %s: %s", table->name, p2p_strerror(rc))
		  : 0;
}

int p2p_store_missing(struct p2p_store *store, struct p2p_table *table, struct p2p_missing *slice)
{
	struct rescan scan;
	int rc = scan_init(&scan, store, table);

	p2p_require(p2p_store_in_transaction(store));
	scan.count_only = !slice->journal;
	scan.slice = slice;
	if (!rc)
		rc = scan_states(&scan);
	slice->rows += scan.rows;
	scan_deinit(&scan);
	return rc;
}

int p2p_store_rescan(struct p2p_store *store, const struct p2p_table *table, uint64_t *out_rows,
		     struct p2p_error *err)
{
	uint64_t rows = 0;
	size_t i;
	int rc = 0;

	p2p_require(p2p_store_in_transaction(store));
	for (i = 0; i < store->table_count && !rc; i++) {
		struct p2p_table *at = &store->tables[i];

		if (at->state != P2P_TABLE_LIVE || (table ? table != at : !store->extras[i].rescan))
			continue;
		rc = rescan_table(store, at, &rows);
		if (rc)
			return p2p_error_set(err, rc, "rescan table %s: %s", at->name,
					     p2p_strerror(rc));
		store->extras[i].rescan = false;
	}
	if (!rc)
		*out_rows = rows;
	return rc;
}
