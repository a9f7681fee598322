/* What a column holds where nobody ever wrote it; see store.h. */
#include <sqlite3.h>

#include "crdt/apptable.h"
#include "crdt/store_private.h"

#define SQL_BYTES_MAX (1024u * 1024)

/* SQLite itself says what a column of that type and DEFAULT holds: in an empty database of its own,
 * so that affinity and conversion are those of the table. */
static int default_evaluate(struct p2p_store *store, const char *type, const char *text,
			    uint64_t *out)
{
	struct p2p_value value = {.type = P2P_NULL};
	sqlite3_stmt *row = NULL;
	sqlite3 *db = NULL;
	struct p2p_buf sql;
	int rc;

	p2p_buf_init(&sql, SQL_BYTES_MAX);
	p2p_sql_text(&sql, "CREATE TABLE t(c ");
	p2p_sql_text(&sql, type);
	p2p_sql_text(&sql, " DEFAULT (");
	p2p_sql_text(&sql, text);
	p2p_sql_text(&sql, ")); INSERT INTO t DEFAULT VALUES");
	p2p_buf_put_u8(&sql, 0);
	rc = p2p_buf_error(&sql);
	if (!rc && sqlite3_open(":memory:", &db) == SQLITE_OK &&
	    sqlite3_exec(db, (const char *)sql.data, NULL, NULL, NULL) == SQLITE_OK &&
	    sqlite3_prepare_v2(db, "SELECT c FROM t", -1, &row, NULL) == SQLITE_OK &&
	    sqlite3_step(row) == SQLITE_ROW)
		rc = p2p_value_column(&value, row, 0);
	/* what cannot be evaluated here counts as NULL: at worst a default is told as a change */
	if (!rc)
		*out = p2p_value_hash(&store->hash_key, &value);
	(void)sqlite3_finalize(row); /* as above */
	(void)sqlite3_close(db);
	p2p_buf_deinit(&sql);
	return rc;
}

int p2p_store_default_hash(struct p2p_store *store, struct p2p_table *table, uint32_t column,
			   uint64_t *out)
{
	static const char query[] = "SELECT type, dflt_value FROM pragma_table_xinfo(?1, 'main')"
				    " WHERE name = ?2 COLLATE NOCASE";
	struct p2p_column *at = &table->columns[column];
	static const struct p2p_value null;
	sqlite3_stmt *row = NULL;
	int rc = 0, sqlite_rc;

	*out = at->default_hash;
	if (*out)
		return 0;
	*out = p2p_value_hash(&store->hash_key, &null);
	sqlite_rc = sqlite3_prepare_v2(store->db, query, -1, &row, NULL);
	if (sqlite_rc == SQLITE_OK)
		sqlite_rc = sqlite3_bind_text(row, 1, table->name, -1, SQLITE_STATIC);
	if (sqlite_rc == SQLITE_OK)
		sqlite_rc = sqlite3_bind_text(row, 2, at->name, -1, SQLITE_STATIC);
	if (sqlite_rc == SQLITE_OK)
		sqlite_rc = sqlite3_step(row);
	if (sqlite_rc == SQLITE_ROW && sqlite3_column_type(row, 1) != SQLITE_NULL)
		rc = default_evaluate(store, (const char *)sqlite3_column_text(row, 0),
				      (const char *)sqlite3_column_text(row, 1), out);
	if (sqlite_rc != SQLITE_ROW && sqlite_rc != SQLITE_DONE)
		rc = p2p_store_error(store, sqlite_rc, NULL, "read the columns of");
	(void)sqlite3_finalize(row); /* the error was seen at the step */
	if (!rc)
		at->default_hash = *out;
	return rc;
}

int p2p_store_cell_differs(struct p2p_store *store, struct p2p_table *table,
			   const struct p2p_rowstate *known, uint32_t column, uint64_t hash,
			   bool *out)
{
	uint32_t slot = table->columns[column].slot;
	uint64_t was = slot < known->cell_count ? known->cells[slot].hash : 0;
	int rc = was ? 0 : p2p_store_default_hash(store, table, column, &was);

	*out = !rc && was != hash;
	return rc;
}
