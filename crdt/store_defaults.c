/* What a column holds where nobody ever wrote it; see store.h. */
#include <sqlite3.h>

#include "crdt/apptable.h"
#include "crdt/store_private.h"

#define SQL_BYTES_MAX (1024u * 1024)

/* Nothing but the expression, of which the application's schema is the author, or a peer: one
 * statement that reads, in an empty database that cannot reach another, and no value beyond what a
 * text in a schema record could be. */
static int default_evaluate(const char *text, struct p2p_value *out, sqlite3 *db,
			    sqlite3_stmt **out_row)
{
	struct p2p_buf sql;
	const char *tail = NULL;
	int rc;

	(void)sqlite3_limit(db, SQLITE_LIMIT_LENGTH, P2P_RECORD_BODY_MAX);
	(void)sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
	p2p_buf_init(&sql, SQL_BYTES_MAX);
	p2p_sql_text(&sql, "SELECT (");
	p2p_sql_text(&sql, text);
	p2p_sql_text(&sql, "\n)"); /* behind a comment, too */
	p2p_buf_put_u8(&sql, 0);
	rc = p2p_buf_error(&sql);
	if (!rc &&
	    sqlite3_prepare_v2(db, (const char *)sql.data, -1, out_row, &tail) == SQLITE_OK &&
	    *out_row && !*tail && sqlite3_stmt_readonly(*out_row) &&
	    sqlite3_step(*out_row) == SQLITE_ROW)
		rc = p2p_value_column(out, *out_row, 0);
	p2p_buf_deinit(&sql);
	return rc;
}

int p2p_store_default_of(const char *text, char affinity, const struct p2p_hash_key *key,
			 uint64_t *out)
{
	struct p2p_value value = {.type = P2P_NULL};
	char number[P2P_NUMBER_TEXT_BYTES];
	sqlite3_stmt *row = NULL;
	sqlite3 *db = NULL;
	int rc = 0;

	/* what cannot be evaluated here counts as NULL: at worst a default is told as a change */
	if (sqlite3_open(":memory:", &db) == SQLITE_OK)
		rc = default_evaluate(text, &value, db, &row);
	if (!rc)
		rc = p2p_value_as_stored(&value, affinity, number);
	if (!rc)
		*out = p2p_value_hash(key, &value);
	(void)sqlite3_finalize(row); /* as above */
	(void)sqlite3_close(db);
	return rc;
}

/* The text of a column's DEFAULT, copied into out with its zero; none: nothing. */
static int default_text(struct p2p_store *store, const struct p2p_table *table, uint32_t column,
			struct p2p_buf *out)
{
	static const char query[] = "SELECT dflt_value FROM pragma_table_xinfo(?1, 'main')"
				    " WHERE name = ?2 COLLATE NOCASE";
	sqlite3_stmt *row = NULL;
	int rc = sqlite3_prepare_v2(store->db, query, -1, &row, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(row, 1, table->name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(row, 2, table->columns[column].name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(row);
	if (rc == SQLITE_ROW && sqlite3_column_type(row, 0) != SQLITE_NULL) {
		p2p_sql_text(out, (const char *)sqlite3_column_text(row, 0));
		p2p_buf_put_u8(out, 0);
	}
	(void)sqlite3_finalize(row); /* the error was seen at the step */
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		return p2p_store_error(store, rc, NULL, "read the columns of");
	return p2p_buf_error(out);
}

int p2p_store_default_put(struct p2p_store *store, const struct p2p_table *table, uint32_t column,
			  struct p2p_buf *out)
{
	struct p2p_value value = {.type = P2P_NULL};
	char number[P2P_NUMBER_TEXT_BYTES];
	sqlite3_stmt *row = NULL;
	sqlite3 *db = NULL;
	struct p2p_buf text;
	int rc;

	p2p_buf_init(&text, SQL_BYTES_MAX);
	rc = default_text(store, table, column, &text);
	/* what cannot be evaluated here counts as NULL, as above */
	if (!rc && text.len && sqlite3_open(":memory:", &db) == SQLITE_OK)
		rc = default_evaluate((const char *)text.data, &value, db, &row);
	if (!rc)
		rc = p2p_value_as_stored(&value, table->columns[column].affinity, number);
	if (!rc)
		p2p_value_put(out, &value);
	p2p_buf_deinit(&text);
	(void)sqlite3_finalize(row); /* as above */
	(void)sqlite3_close(db);
	return rc ? rc : p2p_buf_error(out);
}

int p2p_store_default_hash(struct p2p_store *store, struct p2p_table *table, uint32_t column,
			   uint64_t *out)
{
	struct p2p_column *at = &table->columns[column];
	static const struct p2p_value null;
	struct p2p_buf text;
	int rc;

	*out = at->default_hash;
	if (*out)
		return 0;
	*out = p2p_value_hash(&store->hash_key, &null);
	p2p_buf_init(&text, SQL_BYTES_MAX);
	rc = default_text(store, table, column, &text);
	if (!rc && text.len)
		rc = p2p_store_default_of((const char *)text.data, at->affinity, &store->hash_key,
					  out);
	p2p_buf_deinit(&text);
	if (!rc)
		at->default_hash = *out;
	return rc;
}

int p2p_store_default_integer(struct p2p_store *store, struct p2p_table *table, uint32_t column,
			      int64_t *out)
{
	struct p2p_column *at = &table->columns[column];
	struct p2p_reader reader;
	struct p2p_value value;
	struct p2p_buf bytes;
	int rc = 0;

	if (!at->default_asked) {
		p2p_buf_init(&bytes, SQL_BYTES_MAX);
		rc = p2p_store_default_put(store, table, column, &bytes);
		p2p_reader_init(&reader, bytes.data, bytes.len);
		p2p_value_read(&reader, &value); /* NULL when there is nothing to read */
		if (!rc && value.type == P2P_INTEGER)
			at->default_integer = value.integer;
		at->default_asked = !rc;
		p2p_buf_deinit(&bytes);
	}
	*out = at->default_integer;
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
