/* A table is enabled: our tables for its rows, its triggers, its number; see store.h. */
#include <sqlite3.h>

#include "crdt/apptable.h"
#include "crdt/store_private.h"
#include "proto/check.h"

#define SQL_BYTES_MAX 4096u
/* Key columns that the journal has from the start; more are added for tables that need them. */
#define JOURNAL_COLUMNS 4

static int table_number_new(struct p2p_store *store, uint32_t *out)
{
	uint64_t last = 0;
	int rc = p2p_store_meta_get_u64(store, "last_table", &last);

	if (rc && rc != P2P_ENOENT)
		return rc;
	if (last >= UINT32_MAX)
		return P2P_ETOOBIG;
	*out = (uint32_t)last + 1; /* never given twice: journal entries may outlive a table */
	return p2p_store_meta_set_u64(store, "last_table", last + 1);
}

static int journal_widen(struct p2p_store *store, uint32_t count, struct p2p_error *err)
{
	uint64_t have = JOURNAL_COLUMNS;
	struct p2p_buf sql;
	int rc = p2p_store_meta_get_u64(store, "journal_columns", &have);

	if (rc && rc != P2P_ENOENT)
		return rc;
	for (rc = 0; have < count && !rc; have++) {
		p2p_buf_init(&sql, 256);
		p2p_sql_text(&sql, "ALTER TABLE main.p2p_journal ADD COLUMN k");
		p2p_sql_number(&sql, (int64_t)have + 1);
		rc = p2p_store_sql_run(store, &sql, err);
	}
	return rc ? rc : p2p_store_meta_set_u64(store, "journal_columns", have);
}

static int table_insert(struct p2p_store *store, const struct p2p_table *table)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(
		store->db,
		"INSERT INTO main.p2p_table(number, id, name, slots, extension, kind)"
		" VALUES(?1,?2,?3,0,?4,?5)",
		-1, &stmt, NULL);
	struct p2p_buf kind;

	p2p_buf_init(&kind, 3 * P2P_KEY_COLUMNS_MAX);
	if (p2p_store_key_kind(table, &kind))
		rc = SQLITE_NOMEM;
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(stmt, 1, table->number);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_blob(stmt, 2, table->id.bytes, P2P_ID_BYTES, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 3, table->name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(stmt, 4, table->lone_number && !table->generated_identity);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_blob64(stmt, 5, kind.data, kind.len, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	p2p_buf_deinit(&kind);
	return rc == SQLITE_DONE ? 0 : p2p_store_error(store, rc, NULL, "add a table to");
}

int p2p_store_rows_make(struct p2p_store *store, const struct p2p_table *table,
			struct p2p_error *err)
{
	struct p2p_buf sql;
	char text[512];

	p2p_buf_init(&sql, SQL_BYTES_MAX);
	(void)sqlite3_snprintf(
		sizeof(text), text,
		"CREATE TABLE IF NOT EXISTS main.p2p_row_%u(k BLOB PRIMARY KEY NOT NULL,"
		" state BLOB NOT NULL, number INTEGER) WITHOUT ROWID;",
		table->number);
	p2p_sql_text(&sql, text);
	if (table->generated_identity) {
		(void)sqlite3_snprintf(
			sizeof(text), text,
			"CREATE INDEX IF NOT EXISTS main.p2p_number_%u ON p2p_row_%u(number)"
			" WHERE number IS NOT NULL;",
			table->number, table->number);
		p2p_sql_text(&sql, text);
	}
	return p2p_store_sql_run(store, &sql, err);
}

static int table_new(struct p2p_store *store, struct p2p_table *table)
{
	uint32_t i;
	int rc = table_number_new(store, &table->number);

	for (i = 0; i < table->column_count; i++)
		table->columns[i].slot = UINT32_MAX;
	return rc ? rc : table_insert(store, table);
}

/* One that was disabled. *out_known: what is known of its rows holds. */
static int table_again(struct p2p_store *store, struct p2p_table *table, bool *out_known,
		       struct p2p_error *err)
{
	int rc = p2p_store_off_find(store, table, out_known);

	if (!rc)
		rc = p2p_store_off_end(store, table, err);
	if (!rc && !*out_known)
		rc = p2p_store_forget_rows(store, table->number, err);
	return rc ? rc : p2p_store_slots_read(store, table);
}

static int table_enable(struct p2p_store *store, struct p2p_table *table,
			const struct p2p_enabling *enabling, bool *out_known, struct p2p_error *err)
{
	enum p2p_present present = enabling->present;
	bool added, again;
	int rc = journal_widen(store, table->key_count, err);

	*out_known = false;
	if (!rc)
		rc = table_again(store, table, out_known, err);
	if (rc == P2P_ENOENT)
		rc = table_new(store, table);
	if (!rc)
		rc = p2p_store_slots_give(store, table, &added);
	if (!rc && *out_known)
		rc = p2p_store_columns_place(store, table, true, &again);
	if (!rc)
		rc = p2p_store_choose(store, table, enabling->choices, enabling->choice_count);
	if (!rc)
		rc = p2p_store_rows_make(store, table, err);
	if (!rc)
		rc = p2p_store_triggers_make(store, table, err);
	if (!rc && present != P2P_PRESENT_NONE && !*out_known)
		rc = p2p_store_journal_present(store, table, present == P2P_PRESENT_OLD, err);
	return rc;
}

int p2p_store_enable(struct p2p_store *store, const char *name, enum p2p_present present,
		     struct p2p_error *err)
{
	struct p2p_enabling enabling = {.name = name, .present = present};

	return p2p_store_enable_as(store, &enabling, err);
}

int p2p_store_enable_as(struct p2p_store *store, const struct p2p_enabling *enabling,
			struct p2p_error *err)
{
	const char *name = enabling->name;
	struct p2p_table table, *loaded;
	bool known = false;
	struct p2p_id id;
	int rc;

	p2p_require(p2p_store_in_transaction(store));
	p2p_require(store->enabled);
	if (p2p_store_table_by_name(store, name))
		return p2p_error_set(err, P2P_EEXIST, "table %s is replicated already", name);
	rc = p2p_schema_read_table(store->db, name, &table, err);
	if (rc)
		return rc;
	if (table.state == P2P_TABLE_REFUSED)
		rc = p2p_error_set(err, P2P_EREFUSED, "table %s cannot be replicated: %s", name,
				   table.reason);
	if (enabling->by_record ? !enabling->generated : p2p_store_is_extension(store, &table))
		table.generated_identity = false;
	if (!rc) {
		rc = table_enable(store, &table, enabling, &known, err);
		if (rc)
			(void)p2p_error_set(err, rc, "replicate table %s: %s (%s)", name,
					    p2p_strerror(rc), sqlite3_errmsg(store->db));
	}
	id = table.id;
	p2p_table_deinit(&table);
	if (!rc)
		rc = p2p_store_load(store, err);
	if (rc || !known)
		return rc;
	loaded = p2p_store_table_by_id(store, &id);
	return loaded && loaded->state == P2P_TABLE_LIVE ? p2p_store_compare(store, loaded, err)
							 : 0;
}
