/* Triggers: what the application writes is journalled; see store.h. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/apptable.h"
#include "crdt/store_private.h"
#include "proto/check.h"

#define SQL_BYTES_MAX (1024u * 1024)

void p2p_sql_number(struct p2p_buf *sql, int64_t number)
{
	char text[32];

	(void)sqlite3_snprintf(sizeof(text), text, "%lld", (long long)number);
	p2p_sql_text(sql, text);
}

int p2p_store_sql_run(struct p2p_store *store, struct p2p_buf *sql, struct p2p_error *err)
{
	int rc;

	p2p_buf_put_u8(sql, 0);
	rc = p2p_buf_error(sql);
	if (!rc)
		rc = p2p_store_exec(store, (const char *)sql->data, err);
	p2p_buf_deinit(sql);
	return rc;
}

static void sql_journal_columns(struct p2p_buf *sql, uint32_t count)
{
	char text[16];
	uint32_t i;

	for (i = 1; i <= count; i++) {
		(void)sqlite3_snprintf(sizeof(text), text, ",k%u", i);
		p2p_sql_text(sql, text);
	}
}

static void sql_key(struct p2p_buf *sql, const struct p2p_table *table, const char *row)
{
	uint32_t i;

	for (i = 0; i < table->key_count; i++) {
		p2p_sql_text(sql, ",");
		p2p_sql_text(sql, row);
		p2p_sql_name(sql, table->columns[table->key[i]].name);
	}
}

/* INSERT INTO p2p_journal(t,ms,k1..) SELECT number, now, key of NEW or OLD */
static void sql_journal(struct p2p_buf *sql, const struct p2p_table *table, const char *row)
{
	p2p_sql_text(sql, "INSERT INTO p2p_journal(t,ms");
	sql_journal_columns(sql, table->key_count);
	p2p_sql_text(sql, ") SELECT ");
	p2p_sql_number(sql, table->number);
	p2p_sql_text(sql, ",CAST((julianday('now')-2440587.5)*86400000 AS INTEGER)");
	sql_key(sql, table, row);
}

static const char trigger_letters[] = {'i', 'u', 'd'};
static const char *const trigger_events[] = {"INSERT", "UPDATE", "DELETE"};

static void sql_trigger_name(struct p2p_buf *sql, const struct p2p_table *table, size_t event)
{
	p2p_sql_text(sql, "p2p_");
	p2p_buf_put_u8(sql, (uint8_t)trigger_letters[event]);
	p2p_sql_text(sql, "_");
	p2p_sql_number(sql, table->number);
}

/* As small as can be: the journal is appended to, nothing else (design 4.1). A changed key journals
 * the old and the new one. */
static void sql_trigger(struct p2p_buf *sql, const struct p2p_table *table, size_t event)
{
	uint32_t i;

	p2p_sql_text(sql, "CREATE TRIGGER ");
	sql_trigger_name(sql, table, event);
	p2p_sql_text(sql, " AFTER ");
	p2p_sql_text(sql, trigger_events[event]);
	p2p_sql_text(sql, " ON ");
	p2p_sql_name(sql, table->name);
	p2p_sql_text(sql, " BEGIN ");
	if (event == 1) {
		sql_journal(sql, table, "OLD.");
		for (i = 0; i < table->key_count; i++) {
			p2p_sql_text(sql, i ? " OR OLD." : " WHERE OLD.");
			p2p_sql_name(sql, table->columns[table->key[i]].name);
			p2p_sql_text(sql, " IS NOT NEW.");
			p2p_sql_name(sql, table->columns[table->key[i]].name);
		}
		p2p_sql_text(sql, "; ");
	}
	sql_journal(sql, table, event == 2 ? "OLD." : "NEW.");
	p2p_sql_text(sql, "; END");
}

int p2p_store_triggers_drop(struct p2p_store *store, const struct p2p_table *table,
			    struct p2p_error *err)
{
	struct p2p_buf sql;
	size_t i;

	p2p_buf_init(&sql, SQL_BYTES_MAX);
	for (i = 0; i < p2p_array_len(trigger_events); i++) {
		p2p_sql_text(&sql, "DROP TRIGGER IF EXISTS main.");
		sql_trigger_name(&sql, table, i);
		p2p_sql_text(&sql, ";");
	}
	return p2p_store_sql_run(store, &sql, err);
}

int p2p_store_triggers_make(struct p2p_store *store, const struct p2p_table *table,
			    struct p2p_error *err)
{
	struct p2p_buf sql;
	size_t i;
	int rc = p2p_store_triggers_drop(store, table, err);

	for (i = 0; i < p2p_array_len(trigger_events) && !rc; i++) {
		p2p_buf_init(&sql, SQL_BYTES_MAX);
		sql_trigger(&sql, table, i);
		rc = p2p_store_sql_run(store, &sql, err);
	}
	return rc;
}

int p2p_store_triggers_check(struct p2p_store *store, const struct p2p_table *table,
			     bool *out_there)
{
	static const char query[] = "SELECT 1 FROM main.sqlite_schema WHERE type = 'trigger'"
				    " AND name = ?1 AND tbl_name = ?2 COLLATE NOCASE AND sql = ?3";
	sqlite3_stmt *stmt = NULL;
	struct p2p_buf name, sql;
	size_t i;
	int rc = sqlite3_prepare_v2(store->db, query, -1, &stmt, NULL);

	p2p_buf_init(&name, 256);
	p2p_buf_init(&sql, SQL_BYTES_MAX);
	*out_there = true;
	for (i = 0; i < p2p_array_len(trigger_events) && rc == SQLITE_OK && *out_there; i++) {
		p2p_buf_reset(&name);
		p2p_buf_reset(&sql);
		sql_trigger_name(&name, table, i);
		sql_trigger(&sql, table, i);
		if (p2p_buf_error(&name) || p2p_buf_error(&sql)) {
			rc = SQLITE_NOMEM;
			break;
		}
		(void)sqlite3_bind_text64(stmt, 1, (const char *)name.data, name.len, SQLITE_STATIC,
					  SQLITE_UTF8);
		(void)sqlite3_bind_text(stmt, 2, table->name, -1, SQLITE_STATIC);
		(void)sqlite3_bind_text64(stmt, 3, (const char *)sql.data, sql.len, SQLITE_STATIC,
					  SQLITE_UTF8);
		rc = sqlite3_step(stmt);
		*out_there = rc == SQLITE_ROW;
		if (rc == SQLITE_ROW || rc == SQLITE_DONE)
			rc = sqlite3_reset(stmt);
	}
	p2p_buf_deinit(&name);
	p2p_buf_deinit(&sql);
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc == SQLITE_OK ? 0 : p2p_store_error(store, rc, NULL, "look for triggers in");
}

int p2p_store_journal_present(struct p2p_store *store, const struct p2p_table *table, bool old,
			      struct p2p_error *err)
{
	struct p2p_buf sql;

	p2p_buf_init(&sql, SQL_BYTES_MAX);
	p2p_sql_text(&sql, "INSERT INTO main.p2p_journal(t,ms");
	sql_journal_columns(&sql, table->key_count);
	p2p_sql_text(&sql, ") SELECT ");
	p2p_sql_number(&sql, -(int64_t)table->number);
	p2p_sql_text(&sql, old ? ",0" : ",CAST((julianday('now')-2440587.5)*86400000 AS INTEGER)");
	sql_key(&sql, table, "");
	p2p_sql_text(&sql, " FROM main.");
	p2p_sql_name(&sql, table->name);
	return p2p_store_sql_run(store, &sql, err);
}

int p2p_store_journal_key(struct p2p_store *store, const struct p2p_table *table,
			  const struct p2p_value *key)
{
	sqlite3_stmt *stmt = NULL;
	struct p2p_buf sql;
	uint32_t i;
	int rc;

	p2p_buf_init(&sql, SQL_BYTES_MAX);
	p2p_sql_text(&sql, "INSERT INTO main.p2p_journal(t,ms");
	sql_journal_columns(&sql, table->key_count);
	p2p_sql_text(&sql, ") VALUES(");
	p2p_sql_number(&sql, table->number);
	p2p_sql_text(&sql, ",CAST((julianday('now')-2440587.5)*86400000 AS INTEGER)");
	for (i = 0; i < table->key_count; i++)
		p2p_sql_text(&sql, ",?");
	p2p_sql_text(&sql, ")");
	rc = p2p_sql_prepare(store, &sql, &stmt);
	p2p_buf_deinit(&sql);
	for (i = 0; i < table->key_count && !rc; i++)
		rc = p2p_value_bind(stmt, (int)i + 1, &key[i]);
	if (!rc)
		rc = p2p_store_run(store, stmt, "journal a row of");
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc;
}
