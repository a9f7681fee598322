/* The greatest number of a table, and the application's own counter of them; see store.h. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/apptable.h"
#include "crdt/store_private.h"
#include "proto/check.h"
#include "proto/mem.h"

#define SQL_BYTES_MAX (16u * 1024 * 1024)

/* Raises *top to the one value that sql asks for, and empties sql. name: its parameter, or NULL. */
static int top_of(struct p2p_store *store, struct p2p_buf *sql, const char *name, int64_t *top)
{
	sqlite3_stmt *stmt = NULL;
	int rc = p2p_sql_prepare(store, sql, &stmt), step;

	if (!rc && name && sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC) != SQLITE_OK)
		rc = P2P_ENOMEM;
	if (!rc) {
		step = sqlite3_step(stmt);
		if (step == SQLITE_ROW && sqlite3_column_int64(stmt, 0) > *top)
			*top = sqlite3_column_int64(stmt, 0);
		else if (step != SQLITE_ROW && step != SQLITE_DONE)
			rc = p2p_store_error(store, step, NULL, "look for the greatest number");
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	p2p_buf_reset(sql);
	return rc;
}

/* The file has a table with AUTOINCREMENT. */
static int has_sequence(struct p2p_store *store, bool *out)
{
	struct p2p_buf sql;
	int64_t count = 0;
	int rc;

	p2p_buf_init(&sql, SQL_BYTES_MAX);
	p2p_sql_text(&sql, "SELECT count(*) FROM main.sqlite_schema WHERE name='sqlite_sequence'");
	rc = top_of(store, &sql, NULL, &count);
	p2p_buf_deinit(&sql);
	*out = count > 0;
	return rc;
}

int p2p_store_number_top(struct p2p_store *store, const struct p2p_table *table, int64_t *out)
{
	struct p2p_buf sql;
	bool sequence = false;
	char text[64];
	int rc;

	p2p_require(table->generated_identity);
	*out = 0;
	p2p_buf_init(&sql, SQL_BYTES_MAX);
	(void)sqlite3_snprintf(sizeof(text), text, "SELECT max(number) FROM main.p2p_row_%u",
			       table->number);
	p2p_sql_text(&sql, text);
	p2p_sql_text(&sql, " WHERE number IS NOT NULL"); /* as its index says */
	rc = top_of(store, &sql, NULL, out);
	p2p_sql_text(&sql, "SELECT max(");
	p2p_sql_name(&sql, table->columns[table->key[0]].name);
	p2p_sql_text(&sql, ") FROM main.");
	p2p_sql_name(&sql, table->name);
	if (!rc)
		rc = top_of(store, &sql, NULL, out);
	if (!rc)
		rc = has_sequence(store, &sequence);
	p2p_buf_reset(&sql);
	p2p_sql_text(&sql, "SELECT seq FROM main.sqlite_sequence WHERE name = ?1 COLLATE NOCASE");
	if (!rc && sequence)
		rc = top_of(store, &sql, table->name, out);
	p2p_buf_deinit(&sql);
	return rc;
}

int p2p_store_number_used(struct p2p_store *store, const struct p2p_table *table, int64_t number)
{
	sqlite3_stmt *stmt = NULL;
	bool sequence = false;
	int rc = has_sequence(store, &sequence), step;

	if (rc || !sequence)
		return rc;
	step = sqlite3_prepare_v2(p2p_store_db(store),
				  "UPDATE main.sqlite_sequence SET seq = ?1"
				  " WHERE name = ?2 COLLATE NOCASE AND seq < ?1",
				  -1, &stmt, NULL);
	if (step == SQLITE_OK)
		step = sqlite3_bind_int64(stmt, 1, number);
	if (step == SQLITE_OK)
		step = sqlite3_bind_text(stmt, 2, table->name, -1, SQLITE_STATIC);
	if (step == SQLITE_OK)
		step = sqlite3_step(stmt);
	if (step != SQLITE_DONE)
		rc = p2p_store_error(store, step, NULL, "note the greatest number");
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc;
}
