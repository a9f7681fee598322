/* Tables that are not replicated for a while: what is known of their rows stays, so that a row is
 * the same row when the table is taken up again; see store.h.
 *
 * p2p_table.off says it: 1, a person disabled it; 2, its application dropped it. Entries of p2p_ref
 * wait under the negative number of the table, where nobody looks. Parked rows are forgotten: the
 * log has them. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/apptable.h"
#include "crdt/store_private.h"
#include "crdt/store_refs.h"
#include "proto/check.h"
#include "proto/mem.h"

#define SQL_BYTES_MAX 65536
/* What only a table that is on has. # is its number. */
#define SQL_AWAY                                   \
	"DELETE FROM main.p2p_parked WHERE t = #;" \
	"DELETE FROM main.p2p_claim WHERE t = #;"  \
	"UPDATE main.p2p_ref SET t = -t WHERE t = #;"

/* --- kind of the key -------------------------------------------------------------------------- */

int p2p_store_key_kind(const struct p2p_table *table, struct p2p_buf *out)
{
	uint32_t i;

	p2p_buf_put_u8(out, table->generated_identity ? 'G' : 'K');
	for (i = 0; i < table->key_count && !table->generated_identity; i++) {
		const struct p2p_column *column = &table->columns[table->key[i]];

		p2p_buf_put_u8(out, (uint8_t)column->affinity);
		p2p_buf_put_u8(out, (uint8_t)('0' + column->collation));
	}
	return p2p_buf_error(out);
}

bool p2p_store_key_kind_is(const struct p2p_buf *kind, const void *bytes, size_t len)
{
	return len == kind->len && len && memcmp(bytes, kind->data, len) == 0;
}

/* --- off -------------------------------------------------------------------------------------- */

/* Statements in which # is the number of the table. */
static int run_for(struct p2p_store *store, const char *text, uint32_t number,
		   struct p2p_error *err)
{
	struct p2p_buf sql;

	p2p_buf_init(&sql, SQL_BYTES_MAX);
	for (; *text; text++) {
		if (*text == '#')
			p2p_sql_number(&sql, number);
		else
			p2p_buf_put_u8(&sql, (uint8_t)*text);
	}
	return p2p_store_sql_run(store, &sql, err);
}

int p2p_store_disable(struct p2p_store *store, const char *name, struct p2p_error *err)
{
	struct p2p_table *table = p2p_store_table_by_name(store, name);
	uint32_t number;
	int rc;

	p2p_require(p2p_store_in_transaction(store));
	if (!table)
		return p2p_error_set(err, P2P_ENOENT, "table %s is not replicated", name);
	number = table->number;
	rc = p2p_store_triggers_drop(store, table, err);
	p2p_store_forget_tables(store); /* statements on what is put away now */
	if (!rc)
		rc = run_for(store, "UPDATE main.p2p_table SET off = 1 WHERE number = #;" SQL_AWAY,
			     number, err);
	return rc ? rc : p2p_store_load(store, err);
}

int p2p_store_gone(struct p2p_store *store, const struct p2p_table *table, struct p2p_error *err)
{
	int rc;

	p2p_log(store->log, P2P_LOG_WARN, "crdt",
		"table %s: the application dropped it. Changes of others to it are passed over "
		"until it is there again",
		table->name);
	/* they may have gone along to another name */
	rc = p2p_store_triggers_drop(store, table, err);
	if (rc)
		return rc;
	return run_for(store, "UPDATE main.p2p_table SET off = 2 WHERE number = #;" SQL_AWAY,
		       table->number, err);
}

int p2p_store_forget_rows(struct p2p_store *store, uint32_t number, struct p2p_error *err)
{
	return run_for(store,
		       "DELETE FROM main.p2p_row_#;"
		       "DELETE FROM main.p2p_parked WHERE t = #;"
		       "DELETE FROM main.p2p_temp WHERE t = #;"
		       "DELETE FROM main.p2p_ref WHERE abs(t) = #;"
		       "DELETE FROM main.p2p_claim WHERE t = #;"
		       "DELETE FROM main.p2p_yield WHERE t = #;"
		       "DELETE FROM main.p2p_counter WHERE t = #;",
		       number, err);
}

/* --- on again --------------------------------------------------------------------------------- */

int p2p_store_off_find(struct p2p_store *store, struct p2p_table *table, bool *out_same)
{
	sqlite3_stmt *stmt = NULL;
	struct p2p_buf kind;
	int rc, step = sqlite3_prepare_v2(store->db,
					  "SELECT number, slots, kind FROM main.p2p_table"
					  " WHERE id = ?1 AND off = 1",
					  -1, &stmt, NULL);

	p2p_buf_init(&kind, 3 * P2P_KEY_COLUMNS_MAX);
	rc = p2p_store_key_kind(table, &kind);
	if (step == SQLITE_OK)
		step = sqlite3_bind_blob(stmt, 1, table->id.bytes, P2P_ID_BYTES, SQLITE_STATIC);
	if (step == SQLITE_OK)
		step = sqlite3_step(stmt);
	if (step == SQLITE_ROW && !rc) {
		table->number = (uint32_t)sqlite3_column_int64(stmt, 0);
		table->slot_count = (uint32_t)sqlite3_column_int64(stmt, 1);
		*out_same = p2p_store_key_kind_is(&kind, sqlite3_column_blob(stmt, 2),
						  (size_t)sqlite3_column_bytes(stmt, 2));
	} else if (!rc) {
		rc = step == SQLITE_DONE ? P2P_ENOENT
					 : p2p_store_error(store, step, NULL, "read the tables of");
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	p2p_buf_deinit(&kind);
	return rc;
}

int p2p_store_off_end(struct p2p_store *store, const struct p2p_table *table, struct p2p_error *err)
{
	sqlite3_stmt *stmt = NULL;
	struct p2p_buf kind;
	int rc, step = sqlite3_prepare_v2(store->db,
					  "UPDATE main.p2p_table SET off = 0, name = ?2,"
					  " extension = ?3, kind = ?4, schema = NULL"
					  " WHERE number = ?1",
					  -1, &stmt, NULL);

	p2p_buf_init(&kind, 3 * P2P_KEY_COLUMNS_MAX);
	rc = p2p_store_key_kind(table, &kind);
	if (step == SQLITE_OK)
		step = sqlite3_bind_int64(stmt, 1, table->number);
	if (step == SQLITE_OK)
		step = sqlite3_bind_text(stmt, 2, table->name, -1, SQLITE_STATIC);
	if (step == SQLITE_OK)
		step = sqlite3_bind_int64(stmt, 3,
					  table->lone_number && !table->generated_identity);
	if (step == SQLITE_OK)
		step = sqlite3_bind_blob64(stmt, 4, kind.data, kind.len, SQLITE_STATIC);
	if (step == SQLITE_OK && !rc)
		step = sqlite3_step(stmt);
	if (!rc && step != SQLITE_DONE)
		rc = p2p_store_error(store, step, err, "enable a table of");
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	p2p_buf_deinit(&kind);
	return rc ? rc
		  : run_for(store,
			    "UPDATE main.p2p_ref SET t = -t WHERE t = -#;"
			    "DROP INDEX IF EXISTS main.p2p_number_#;",
			    table->number, err);
}
