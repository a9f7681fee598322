/* Columns that an application took out of a table and put in again; see store_private.h.
 *
 * Such a column begins empty, though it has the name, and so the id, of the old one: what is known
 * of the old one's cells must not stand for it. So it gets another slot, and the log, which is
 * merged again, fills it. ALTER TABLE puts a new column behind all others: where the table was not
 * rebuilt, one that is behind others that were behind it was dropped and added, even if nobody
 * looked in between; and so was one that is declared in another way, as the last one may be. The
 * last one, put in again as it was, cannot be told from one that never went. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/apptable.h"
#include "crdt/store_private.h"
#include "proto/check.h"
#include "proto/mem.h"

#define SQL_BYTES_MAX 65536
#define PLACE_NONE    (-1) /* it was gone when the table was last looked at */
#define PLACE_ANEW    (-2) /* it was declared in another way */

/* Where the columns of a table were: places by index into table->columns. */
static int places_read(struct p2p_store *store, const struct p2p_table *table, int64_t *places,
		       bool *out_gone)
{
	static const char query[] =
		"SELECT id, CASE WHEN place IS NULL THEN -1 WHEN declared IS NOT"
		" (" P2P_SQL_DECLARED("?2", "c.name") ") THEN -2 ELSE place END"
						      " FROM main.p2p_column AS c WHERE t = ?1";
	sqlite3_stmt *stmt = NULL;
	uint32_t i;
	int rc = sqlite3_prepare_v2(store->db, query, -1, &stmt, NULL);

	*out_gone = false;
	for (i = 0; i < table->column_count; i++)
		places[i] = i;
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(stmt, 1, table->number);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 2, table->name, -1, SQLITE_STATIC);
	while (rc == SQLITE_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		const void *id = sqlite3_column_blob(stmt, 0);

		rc = sqlite3_column_bytes(stmt, 0) == P2P_ID_BYTES ? SQLITE_OK : SQLITE_CORRUPT;
		for (i = 0; rc == SQLITE_OK && i < table->column_count; i++)
			if (memcmp(table->columns[i].id.bytes, id, P2P_ID_BYTES) == 0)
				break;
		if (i < table->column_count)
			places[i] = sqlite3_column_int64(stmt, 1);
		else
			*out_gone |= sqlite3_column_int64(stmt, 1) != PLACE_NONE;
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc == SQLITE_DONE ? 0 : p2p_store_error(store, rc, NULL, "read the columns of");
}

static int column_write(struct p2p_store *store, const struct p2p_table *table, uint32_t at)
{
	const struct p2p_column *column = &table->columns[at];
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(
		store->db,
		"UPDATE main.p2p_column SET slot = ?3, place = ?4, declared ="
		" (" P2P_SQL_DECLARED("?5", "p2p_column.name") ")"
							       " WHERE t = ?1 AND id = ?2",
		-1, &stmt, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(stmt, 1, table->number);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_blob(stmt, 2, column->id.bytes, P2P_ID_BYTES, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(stmt, 3, column->slot);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(stmt, 4, at);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 5, table->name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc == SQLITE_DONE ? 0 : p2p_store_error(store, rc, NULL, "place a column of");
}

/* again: the table counts as one that has no schema record, until its log was merged again. */
static int columns_write(struct p2p_store *store, const struct p2p_table *table, bool again)
{
	struct p2p_buf sql;
	uint32_t i;
	int rc;

	p2p_buf_init(&sql, SQL_BYTES_MAX);
	p2p_sql_text(&sql, "UPDATE main.p2p_table SET slots = ");
	p2p_sql_number(&sql, table->slot_count);
	p2p_sql_text(&sql, again ? ", schema = NULL" : "");
	p2p_sql_text(&sql, " WHERE number = ");
	p2p_sql_number(&sql, table->number);
	p2p_sql_text(&sql, ";UPDATE main.p2p_column SET place = NULL WHERE t = ");
	p2p_sql_number(&sql, table->number);
	rc = p2p_store_sql_run(store, &sql, NULL);
	for (i = 0; i < table->column_count && !rc; i++)
		if (table->columns[i].slot != UINT32_MAX)
			rc = column_write(store, table, i);
	return rc;
}

/* A slot of which nothing is known, unless the key would have another one. */
static int slot_renew(struct p2p_store *store, struct p2p_table *table, struct p2p_column *column)
{
	if (column->slot == UINT32_MAX || (column->flags & P2P_COLUMN_KEY))
		return 0;
	if (table->slot_count >= P2P_SLOTS_MAX)
		return P2P_ETOOBIG;
	column->slot = table->slot_count++;
	p2p_log(store->log, P2P_LOG_WARN, "crdt",
		"table %s: column %s was dropped, and is there again: what is known of it is "
		"merged again",
		table->name, column->name);
	return 0;
}

int p2p_store_columns_place(struct p2p_store *store, struct p2p_table *table, bool rebuilt,
			    bool *out_again)
{
	int64_t *places = p2p_calloc(table->column_count + 1, sizeof(*places)), last = PLACE_NONE;
	bool changed = false;
	uint32_t i;
	int rc = places ? places_read(store, table, places, &changed) : P2P_ENOMEM;

	*out_again = false;
	for (i = 0; i < table->column_count && !rc; i++) {
		if (table->columns[i].slot == UINT32_MAX)
			continue;
		changed |= places[i] != (int64_t)i;
		if (places[i] == PLACE_NONE ||
		    (!rebuilt && (places[i] == PLACE_ANEW || places[i] < last))) {
			rc = slot_renew(store, table, &table->columns[i]);
			*out_again = true;
		} else {
			last = places[i];
		}
	}
	if (!rc && changed)
		rc = columns_write(store, table, *out_again);
	p2p_free(places);
	return rc;
}
