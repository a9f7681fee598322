/* Which tables are replicated: our tables in the file, triggers, slots; see store.h. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/apptable.h"
#include "crdt/store_private.h"
#include "proto/check.h"
#include "proto/mem.h"

#define SQL_BYTES_MAX (1024u * 1024)
#define STORE_WAIT_MS 5000 /* for the write lock, where a person waits */

static const char sql_setup[] =
	"CREATE TABLE main.p2p_meta(k TEXT PRIMARY KEY NOT NULL, v) WITHOUT ROWID;"
	"CREATE TABLE main.p2p_table(number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE,"
	" name TEXT NOT NULL, schema BLOB, slots INTEGER NOT NULL, extension INTEGER NOT NULL,"
	" kind BLOB NOT NULL, off INTEGER NOT NULL DEFAULT 0);"
	"CREATE TABLE main.p2p_column(t INTEGER NOT NULL, id BLOB NOT NULL, slot INTEGER NOT NULL,"
	" name TEXT NOT NULL, flags INTEGER NOT NULL DEFAULT 0, parent BLOB,"
	" place INTEGER, declared TEXT, PRIMARY KEY(t, id))"
	" WITHOUT ROWID;"
	"CREATE TABLE main.p2p_replica(number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE);"
	"CREATE TABLE main.p2p_journal(id INTEGER PRIMARY KEY, t INTEGER, ms INTEGER,"
	" k1, k2, k3, k4);"
	"CREATE TABLE main.p2p_vector(replica BLOB PRIMARY KEY NOT NULL, seq INTEGER NOT NULL,"
	" head BLOB NOT NULL, stamp INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE TABLE main.p2p_parked(t INTEGER NOT NULL, k BLOB NOT NULL, cells BLOB NOT NULL,"
	" reason TEXT NOT NULL, \"row\" TEXT, lost TEXT, origin TEXT, lost_ms INTEGER,"
	" PRIMARY KEY(t, k)) WITHOUT ROWID;"
	"CREATE TABLE main.p2p_waiting(id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE,"
	" t BLOB NOT NULL, stamp INTEGER NOT NULL, replica BLOB NOT NULL, schema BLOB NOT NULL,"
	" record BLOB NOT NULL);"
	"CREATE TABLE main.p2p_temp(t INTEGER NOT NULL, k BLOB NOT NULL, shown INTEGER NOT NULL,"
	" PRIMARY KEY(t, k)) WITHOUT ROWID;"
	"CREATE UNIQUE INDEX main.p2p_temp_shown ON p2p_temp(t, shown);"
	/* crdt/store_refs.h */
	"CREATE TABLE main.p2p_ref(t INTEGER NOT NULL, k BLOB NOT NULL, slot INTEGER NOT NULL,"
	" pt INTEGER NOT NULL, pk BLOB NOT NULL, PRIMARY KEY(t, k, slot)) WITHOUT ROWID;"
	"CREATE INDEX main.p2p_ref_parent ON p2p_ref(pt, pk);"
	"CREATE TABLE main.p2p_claim(t INTEGER NOT NULL, h BLOB NOT NULL, k BLOB NOT NULL,"
	" held INTEGER NOT NULL, PRIMARY KEY(t, h, k)) WITHOUT ROWID;"
	"CREATE INDEX main.p2p_claim_row ON p2p_claim(t, k);"
	/* one of a value, however many do not hold it */
	"CREATE INDEX main.p2p_claim_held ON p2p_claim(t, h) WHERE held;"
	"CREATE TABLE main.p2p_yield(t INTEGER NOT NULL, k BLOB NOT NULL, c BLOB NOT NULL,"
	" stamp INTEGER NOT NULL, replica INTEGER NOT NULL, PRIMARY KEY(t, k, c)) WITHOUT ROWID;"
	/* crdt/counters.h */
	"CREATE TABLE main.p2p_counter(t INTEGER NOT NULL, k BLOB NOT NULL, slot INTEGER NOT NULL,"
	" replica INTEGER NOT NULL, total INTEGER, stamp INTEGER NOT NULL,"
	" PRIMARY KEY(t, k, slot, replica)) WITHOUT ROWID;"
	"CREATE TABLE main.p2p_seen(author INTEGER PRIMARY KEY, seen BLOB NOT NULL);"
	/* AUTOINCREMENT would make a table of SQLite's in the file */
	"CREATE TABLE main.p2p_conflict(id INTEGER PRIMARY KEY, kind TEXT NOT NULL,"
	" t INTEGER NOT NULL, name TEXT NOT NULL, k BLOB NOT NULL, \"row\" TEXT NOT NULL,"
	" kept TEXT NOT NULL, lost TEXT NOT NULL, cells BLOB, origin TEXT NOT NULL,"
	" lost_ms INTEGER NOT NULL, ms INTEGER NOT NULL, number INTEGER,"
	" more BLOB, reason TEXT);"
	"CREATE INDEX main.p2p_conflict_row ON p2p_conflict(t, k);"
	"CREATE VIEW main.p2p_conflicts AS SELECT id, kind, name AS \"table\", \"row\", kept, lost,"
	" origin, strftime('%Y-%m-%dT%H:%M:%fZ', lost_ms / 1000.0, 'unixepoch') AS time, reason"
	" FROM p2p_conflict UNION ALL SELECT NULL,"
	" CASE reason WHEN 'fk' THEN 'foreign_key' WHEN 'not null' THEN 'not_null'"
	" ELSE 'unique' END,"
	" (SELECT name FROM p2p_table WHERE number = t), \"row\", '{}', lost, origin,"
	" strftime('%Y-%m-%dT%H:%M:%fZ', lost_ms / 1000.0, 'unixepoch'), NULL"
	" FROM p2p_parked WHERE \"row\" NOT NULL ORDER BY 1 DESC;";

/* --- making ----------------------------------------------------------------------------------- */

int p2p_store_setup(struct p2p_store *store, struct p2p_error *err)
{
	int rc;

	p2p_require(p2p_store_in_transaction(store));
	if (store->enabled)
		return 0;
	rc = p2p_store_exec(store, sql_setup, err);
	if (rc)
		return rc;
	p2p_env_random(store->env, store->hash_key.bytes, sizeof(store->hash_key.bytes));
	rc = p2p_store_meta_set_u64(store, "format", P2P_STORE_FORMAT);
	if (!rc)
		rc = p2p_store_meta_set(store, "hash_key", store->hash_key.bytes,
					sizeof(store->hash_key.bytes));
	if (rc)
		return p2p_error_set(err, rc, "set up '%s': %s", store->path, p2p_strerror(rc));
	store->enabled = true;
	return 0;
}

/* --- columns and slots ------------------------------------------------------------------------ */

/* What the mesh agreed on about a column: a counter, a parent. */
static void column_flags_read(struct p2p_column *column, sqlite3_stmt *row)
{
	column->flags |=
		(uint32_t)sqlite3_column_int64(row, 2) & (P2P_COLUMN_COUNTER | P2P_COLUMN_NAMED);
	if (sqlite3_column_bytes(row, 3) == P2P_ID_BYTES)
		memcpy(column->named.bytes, sqlite3_column_blob(row, 3), P2P_ID_BYTES);
	else
		column->flags &= ~(uint32_t)P2P_COLUMN_NAMED;
}

/* The column of an id has this slot; without one it was dropped. */
static int slot_read(struct p2p_table *table, sqlite3_stmt *row, uint32_t slot)
{
	const void *id = sqlite3_column_blob(row, 0);
	struct p2p_id *grown;
	uint32_t i;

	for (i = 0; i < table->column_count; i++)
		if (memcmp(table->columns[i].id.bytes, id, P2P_ID_BYTES) == 0) {
			if (!(table->columns[i].flags & P2P_COLUMN_GENERATED))
				table->columns[i].slot = slot;
			column_flags_read(&table->columns[i], row);
			return 0;
		}
	grown = p2p_realloc(table->dropped, (table->dropped_count + 1) * sizeof(*grown));
	if (!grown)
		return SQLITE_NOMEM;
	table->dropped = grown;
	memcpy(grown[table->dropped_count++].bytes, id, P2P_ID_BYTES);
	return SQLITE_OK;
}

int p2p_store_slots_read(struct p2p_store *store, struct p2p_table *table)
{
	sqlite3_stmt *stmt = NULL;
	uint32_t i;
	int rc = sqlite3_prepare_v2(store->db,
				    "SELECT id, slot, flags, parent FROM main.p2p_column"
				    " WHERE t = ?1",
				    -1, &stmt, NULL);

	for (i = 0; i < table->column_count; i++)
		table->columns[i].slot = UINT32_MAX;
	table->dropped_count = 0;
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(stmt, 1, table->number);
	while (rc == SQLITE_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		int64_t slot = sqlite3_column_int64(stmt, 1);

		rc = SQLITE_OK;
		if (sqlite3_column_bytes(stmt, 0) != P2P_ID_BYTES || slot < 0 ||
		    slot >= (int64_t)table->slot_count) {
			rc = SQLITE_CORRUPT;
			break;
		}
		rc = slot_read(table, stmt, (uint32_t)slot);
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc == SQLITE_DONE ? 0 : p2p_store_error(store, rc, NULL, "read the columns of");
}

static int slot_add(struct p2p_store *store, struct p2p_table *table, struct p2p_column *column)
{
	sqlite3_stmt *stmt = NULL;
	int rc;

	if (table->slot_count >= P2P_SLOTS_MAX)
		return P2P_ETOOBIG;
	rc = sqlite3_prepare_v2(store->db,
				"INSERT INTO main.p2p_column(t, id, slot, name, place, declared)"
				" VALUES(?1,?2,?3,?4,?5,"
				"(" P2P_SQL_DECLARED("?6", "?4") "))",
				-1, &stmt, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(stmt, 1, table->number);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_blob(stmt, 2, column->id.bytes, P2P_ID_BYTES, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(stmt, 3, table->slot_count);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 4, column->name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(stmt, 5, column - table->columns);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 6, table->name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	if (rc != SQLITE_DONE)
		return p2p_store_error(store, rc, NULL, "add a column to");
	column->slot = table->slot_count++;
	return 0;
}

int p2p_store_slots_give(struct p2p_store *store, struct p2p_table *table, bool *out_new)
{
	struct p2p_buf sql;
	uint32_t i;
	int rc = 0;

	*out_new = false;
	for (i = 0; i < table->column_count && !rc; i++) {
		struct p2p_column *column = &table->columns[i];

		if ((column->flags & P2P_COLUMN_GENERATED) || column->slot != UINT32_MAX)
			continue;
		*out_new = true;
		rc = slot_add(store, table, column);
	}
	if (rc || !*out_new)
		return rc;
	p2p_buf_init(&sql, SQL_BYTES_MAX);
	p2p_sql_text(&sql, "UPDATE main.p2p_table SET slots = ");
	p2p_sql_number(&sql, table->slot_count);
	p2p_sql_text(&sql, " WHERE number = ");
	p2p_sql_number(&sql, table->number);
	return p2p_store_sql_run(store, &sql, NULL);
}

/* --- loading ---------------------------------------------------------------------------------- */

void p2p_store_forget_tables(struct p2p_store *store)
{
	size_t i;

	p2p_store_row_done(store);
	for (i = 0; i < store->table_count; i++) {
		struct p2p_store_table *extra = &store->extras[i];

		(void)sqlite3_finalize(extra->get); /* errors were seen at the steps */
		(void)sqlite3_finalize(extra->put);
		(void)sqlite3_finalize(extra->claimants);
		(void)sqlite3_finalize(extra->app_row);
		p2p_table_deinit(&store->tables[i]);
	}
	p2p_free(store->tables);
	p2p_free(store->extras);
	store->tables = NULL;
	store->extras = NULL;
	store->table_count = 0;
}

static int tables_grow(struct p2p_store *store, struct p2p_table **out)
{
	struct p2p_table *tables;
	struct p2p_store_table *extras;
	size_t count = store->table_count + 1;

	if (count > P2P_TABLES_MAX)
		return P2P_ETOOBIG;
	tables = p2p_realloc(store->tables, count * sizeof(*tables));
	if (!tables)
		return P2P_ENOMEM;
	store->tables = tables;
	extras = p2p_realloc(store->extras, count * sizeof(*extras));
	if (!extras)
		return P2P_ENOMEM;
	store->extras = extras;
	memset(&tables[count - 1], 0, sizeof(*tables));
	memset(&extras[count - 1], 0, sizeof(*extras));
	store->table_count = count;
	*out = &tables[count - 1];
	return 0;
}

static int table_wait(struct p2p_table *table, const char *reason)
{
	table->state = P2P_TABLE_WAITING;
	p2p_free(table->reason);
	table->reason = p2p_strdup(reason);
	return table->reason ? 0 : P2P_ENOMEM;
}

/* The application made another table of it under the same name. */
static int table_check_kind(struct p2p_table *table, sqlite3_stmt *row)
{
	struct p2p_buf kind;
	int rc;

	p2p_buf_init(&kind, 3 * P2P_KEY_COLUMNS_MAX);
	rc = p2p_store_key_kind(table, &kind);
	if (!rc && !p2p_store_key_kind_is(&kind, sqlite3_column_blob(row, 6),
					  (size_t)sqlite3_column_bytes(row, 6)))
		rc = table_wait(table, "its PRIMARY KEY is of another kind now: its rows are other "
				       "rows. p2pnode disable, then enable, begins with them anew");
	p2p_buf_deinit(&kind);
	return rc;
}

/* One row of p2p_table; the table may be gone, or be of another kind now. */
static int table_load(struct p2p_store *store, sqlite3_stmt *row, struct p2p_error *err)
{
	const char *name = (const char *)sqlite3_column_text(row, 2);
	struct p2p_table *table;
	int rc;

	if (!name || sqlite3_column_bytes(row, 1) != P2P_ID_BYTES)
		return P2P_ECORRUPT;
	rc = tables_grow(store, &table);
	if (rc)
		return rc;
	rc = p2p_schema_read_table(store->db, name, table, err);
	if (rc == P2P_ENOENT) {
		memset(table, 0, sizeof(*table));
		table->name = p2p_strdup(name);
		rc = table->name
			     ? table_wait(
				       table,
				       "the application dropped it: changes of others to it are passed over until it is there again")
			     : P2P_ENOMEM;
	} else if (!rc && table->state != P2P_TABLE_REFUSED) {
		table->state = P2P_TABLE_LIVE;
	}
	if (rc)
		return rc;
	table->number = (uint32_t)sqlite3_column_int64(row, 0);
	memcpy(table->id.bytes, sqlite3_column_blob(row, 1), P2P_ID_BYTES);
	if (sqlite3_column_bytes(row, 3) == P2P_HASH_BYTES)
		memcpy(table->schema.bytes, sqlite3_column_blob(row, 3), P2P_HASH_BYTES);
	table->slot_count = (uint32_t)sqlite3_column_int64(row, 4);
	if (sqlite3_column_int64(row, 5))
		table->generated_identity = false;
	p2p_store_extra(store, table)->gone = sqlite3_column_int64(row, 7) != 0;
	if (table->state == P2P_TABLE_LIVE)
		rc = table_check_kind(table, row);
	if (rc)
		return rc;
	return table->slot_count > P2P_SLOTS_MAX ? P2P_ECORRUPT
						 : p2p_store_slots_read(store, table);
}

/* A column that cannot count as this file declares it is none here; what others count waits. */
static void counters_settle(struct p2p_store *store)
{
	uint32_t i;
	size_t t;

	for (t = 0; t < store->table_count; t++) {
		struct p2p_table *table = &store->tables[t];

		table->counters = 0;
		for (i = 0; i < table->column_count; i++) {
			struct p2p_column *column = &table->columns[i];

			if (!(column->flags & P2P_COLUMN_COUNTER))
				continue;
			if (p2p_column_no_counter(column))
				column->flags &= ~(uint32_t)P2P_COLUMN_COUNTER;
			else
				table->counters++;
		}
	}
}

int p2p_store_load_tables(struct p2p_store *store, struct p2p_error *err)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(store->db,
				    "SELECT number, id, name, schema, slots, extension, kind, off"
				    " FROM main.p2p_table"
				    " WHERE off <> 1 ORDER BY number",
				    -1, &stmt, NULL);
	int result = 0;

	while (rc == SQLITE_OK && !result && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		rc = SQLITE_OK;
		result = table_load(store, stmt, err);
	}
	if (!result && rc != SQLITE_DONE)
		result = p2p_store_error(store, rc, err, "read the tables of");
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	if (!result)
		result = p2p_store_references_settle(store);
	counters_settle(store);
	return result;
}

size_t p2p_store_table_count(const struct p2p_store *store)
{
	return store->table_count;
}

struct p2p_table *p2p_store_table(struct p2p_store *store, size_t index)
{
	p2p_require(index < store->table_count);
	return &store->tables[index];
}

struct p2p_table *p2p_store_table_by_id(struct p2p_store *store, const struct p2p_id *id)
{
	size_t i;

	for (i = 0; i < store->table_count; i++)
		if (p2p_id_cmp(&store->tables[i].id, id) == 0)
			return &store->tables[i];
	return NULL;
}

struct p2p_table *p2p_store_table_by_number(struct p2p_store *store, uint32_t number)
{
	size_t i;

	for (i = 0; i < store->table_count; i++)
		if (store->tables[i].number == number)
			return &store->tables[i];
	return NULL;
}

struct p2p_table *p2p_store_table_by_name(struct p2p_store *store, const char *name)
{
	size_t i;

	for (i = 0; i < store->table_count; i++)
		if (sqlite3_stricmp(store->tables[i].name, name) == 0)
			return &store->tables[i];
	return NULL;
}

struct p2p_store_table *p2p_store_extra(struct p2p_store *store, const struct p2p_table *table)
{
	size_t index = (size_t)(table - store->tables);

	p2p_require(index < store->table_count);
	return &store->extras[index];
}

int p2p_store_set_schema(struct p2p_store *store, struct p2p_table *table,
			 const struct p2p_hash *schema)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(store->db,
				    "UPDATE main.p2p_table SET schema = ?1 WHERE number = ?2", -1,
				    &stmt, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_blob(stmt, 1, schema->bytes, P2P_HASH_BYTES, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(stmt, 2, table->number);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	if (rc != SQLITE_DONE)
		return p2p_store_error(store, rc, NULL, "set the schema of a table of");
	table->schema = *schema;
	return 0;
}

/* --- the schema changes under us -------------------------------------------------------------- */

static int schema_version(struct p2p_store *store, int64_t *out)
{
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(store, P2P_SQL_SCHEMA_VERSION, &stmt);

	if (rc)
		return rc;
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		*out = sqlite3_column_int64(stmt, 0);
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc == SQLITE_ROW ? 0 : p2p_store_error(store, rc, NULL, "read");
}

/* It was dropped, and is there again: what its application put into it counts, and what is missing
 * comes back. */
static int table_back(struct p2p_store *store, struct p2p_table *table, struct p2p_error *err)
{
	int rc = p2p_store_off_end(store, table, err);

	p2p_store_extra(store, table)->gone = false;
	memset(&table->schema, 0, sizeof(table->schema)); /* merged again once that is settled */
	if (!rc)
		rc = p2p_store_rows_make(store, table, err);
	if (!rc)
		rc = p2p_store_triggers_make(store, table, err);
	return rc ? rc : p2p_store_compare(store, table, err);
}

static int table_check(struct p2p_store *store, size_t index, size_t *rescan, struct p2p_error *err)
{
	struct p2p_table *table = &store->tables[index];
	bool there = false, added, again = false;
	int rc;

	if (!p2p_table_here(table) && !store->extras[index].gone) {
		store->extras[index].gone = true;
		return p2p_store_gone(store, table, err);
	}
	if (table->state != P2P_TABLE_LIVE)
		return 0;
	rc = p2p_store_slots_give(store, table, &added);
	if (!rc)
		rc = p2p_store_triggers_check(store, table, &there);
	if (!rc)
		rc = p2p_store_columns_place(store, table, !there, &again);
	if (again) /* merged again once that is settled */
		memset(&table->schema, 0, sizeof(table->schema));
	if (!rc && store->extras[index].gone)
		return table_back(store, table, err);
	if (rc || there)
		return rc;
	p2p_log(store->log, P2P_LOG_WARN, "crdt",
		"table %s: its triggers were gone (it was rebuilt?): installed again", table->name);
	store->extras[index].rescan = true;
	++*rescan;
	return p2p_store_triggers_make(store, table, err);
}

static int tables_check(struct p2p_store *store, size_t *rescan, struct p2p_error *err)
{
	size_t i;
	int rc = p2p_store_load(store, err);

	for (i = 0; i < store->table_count && !rc; i++)
		rc = table_check(store, i, rescan, err);
	return rc;
}

int p2p_store_schema_moved(struct p2p_store *store, bool *out)
{
	int64_t version = 0;
	int rc = schema_version(store, &version);

	*out = !rc && version != store->schema_version;
	return rc;
}

int p2p_store_check_schema(struct p2p_store *store, size_t *out_rescan, struct p2p_error *err)
{
	int64_t version = 0;
	size_t rescan = 0;
	int rc;

	p2p_require(p2p_store_in_transaction(store));
	*out_rescan = 0;
	if (!store->enabled)
		return 0;
	rc = schema_version(store, &version);
	if (rc || version == store->schema_version)
		return rc;
	rc = tables_check(store, &rescan, err);
	if (!rc)
		rc = schema_version(store, &version); /* our triggers moved it */
	if (rc)
		return rc;
	store->schema_version = version;
	store->schema_pending = true;
	*out_rescan = rescan;
	return 0;
}

int p2p_store_unshare(struct p2p_store *store, struct p2p_error *err)
{
	static const char names[] = "SELECT 'DROP ' || type || ' IF EXISTS main.\"' ||"
				    " replace(name, '\"', '\"\"') || '\"' FROM main.sqlite_schema"
				    " WHERE name LIKE 'p2p\\_%' ESCAPE '\\'"
				    " AND name NOT LIKE 'p2p\\_local\\_%' ESCAPE '\\'"
				    " AND type IN ('table', 'trigger', 'view') ORDER BY type DESC";
	struct p2p_buf sql;
	sqlite3_stmt *stmt = NULL;
	int rc = p2p_store_begin_write(store, STORE_WAIT_MS, err);

	if (rc)
		return rc;
	p2p_store_forget(store);
	p2p_buf_init(&sql, SQL_BYTES_MAX);
	rc = sqlite3_prepare_v2(store->db, names, -1, &stmt, NULL);
	while (rc == SQLITE_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		p2p_sql_text(&sql, (const char *)sqlite3_column_text(stmt, 0));
		p2p_sql_text(&sql, ";");
		rc = SQLITE_OK;
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	if (rc == SQLITE_DONE) {
		rc = p2p_store_sql_run(store, &sql, err);
	} else {
		p2p_buf_deinit(&sql);
		rc = p2p_store_error(store, rc, err, "read");
	}
	if (!rc)
		rc = p2p_store_commit(store, err);
	if (rc)
		p2p_store_rollback(store);
	store->enabled = false;
	return rc ? rc : p2p_store_load(store, err);
}
