/* UNIQUE constraints; see unique.h. */
#include "crdt/unique.h"

#include <sqlite3.h>
#include <string.h>

#include "crdt/claimants.h"
#include "proto/check.h"
#include "proto/mem.h"

#define SQL_BYTES_MAX (16u * 1024 * 1024)

static const char sql_indexes[] =
	"SELECT name FROM pragma_index_list(?1, 'main')"
	" WHERE \"unique\" AND origin <> 'pk' AND NOT partial ORDER BY name";
static const char sql_index[] =
	"SELECT cid, name, coll FROM pragma_index_xinfo(?1, 'main') WHERE key ORDER BY seqno";

static uint32_t column_named(const struct p2p_table *table, const char *name)
{
	uint32_t i;

	for (i = 0; i < table->column_count; i++)
		if (sqlite3_stricmp(table->columns[i].name, name) == 0)
			return i;
	return UINT32_MAX;
}

static void sql_find(struct p2p_buf *sql, const struct p2p_table *table)
{
	uint32_t i;

	for (i = 0; i < table->key_count; i++) {
		p2p_sql_text(sql, i ? "," : "SELECT ");
		p2p_sql_name(sql, table->columns[table->key[i]].name);
	}
	p2p_sql_text(sql, " FROM main.");
	p2p_sql_name(sql, table->name);
}

/* Adds one column of an index; 1 when the constraint is none of ours. */
static int unique_column(struct p2p_unique *unique, const struct p2p_table *table,
			 sqlite3_stmt *row, struct p2p_buf *sql)
{
	const char *name = (const char *)sqlite3_column_text(row, 1);
	const char *collation = (const char *)sqlite3_column_text(row, 2);
	uint32_t *grown, column;

	if (sqlite3_column_int(row, 0) < 0 || !name || !collation)
		return 1; /* the number itself, which is alone in being unique, or an expression */
	column = column_named(table, name);
	if (column == UINT32_MAX || table->columns[column].slot == UINT32_MAX)
		return 1;
	grown = p2p_realloc(unique->columns, (unique->count + 1) * sizeof(*grown));
	if (!grown)
		return P2P_ENOMEM;
	unique->columns = grown;
	p2p_sql_text(sql, unique->count ? " AND " : " WHERE ");
	p2p_sql_name(sql, name);
	p2p_sql_text(sql, "=? COLLATE ");
	p2p_sql_name(sql, collation);
	unique->columns[unique->count++] = column;
	return 0;
}

static void unique_deinit(struct p2p_unique *unique)
{
	(void)sqlite3_finalize(unique->find); /* its error was seen at the step */
	p2p_free(unique->columns);
	memset(unique, 0, sizeof(*unique));
}

/* 1: none of ours. */
static int unique_init(struct p2p_unique *unique, struct p2p_apptable *app, sqlite3_stmt *columns)
{
	struct p2p_buf sql;
	int rc, result = 0;

	memset(unique, 0, sizeof(*unique));
	p2p_buf_init(&sql, SQL_BYTES_MAX);
	sql_find(&sql, app->table);
	while ((rc = sqlite3_step(columns)) == SQLITE_ROW && !result)
		result = unique_column(unique, app->table, columns, &sql);
	if (!result && rc != SQLITE_DONE)
		result = p2p_store_error(app->store, rc, NULL, "read an index");
	if (!result)
		result = unique->count ? p2p_sql_prepare(app->store, &sql, &unique->find) : 1;
	p2p_buf_deinit(&sql);
	if (result)
		unique_deinit(unique);
	return result;
}

static int uniques_add(struct p2p_uniques *uniques, const char *index, sqlite3_stmt *columns)
{
	struct p2p_unique *grown;
	int rc;

	grown = p2p_realloc(uniques->items, (uniques->count + 1) * sizeof(*grown));
	if (!grown)
		return P2P_ENOMEM;
	uniques->items = grown;
	if (sqlite3_bind_text(columns, 1, index, -1, SQLITE_TRANSIENT) != SQLITE_OK)
		return P2P_ENOMEM;
	rc = unique_init(&grown[uniques->count], uniques->app, columns);
	(void)sqlite3_reset(columns); /* repeats the step's error */
	uniques->count += rc == 0;
	return rc == 1 ? 0 : rc;
}

int p2p_uniques_init(struct p2p_uniques *uniques, struct p2p_apptable *app)
{
	sqlite3 *db = p2p_store_db(app->store);
	sqlite3_stmt *list = NULL, *columns = NULL;
	int rc, result = 0;

	memset(uniques, 0, sizeof(*uniques));
	uniques->app = app;
	rc = sqlite3_prepare_v2(db, sql_indexes, -1, &list, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v2(db, sql_index, -1, &columns, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(list, 1, app->table->name, -1, SQLITE_STATIC);
	while (rc == SQLITE_OK && !result) {
		rc = sqlite3_step(list);
		if (rc != SQLITE_ROW)
			break;
		rc = SQLITE_OK;
		result = uniques_add(uniques, (const char *)sqlite3_column_text(list, 0), columns);
	}
	if (!result && rc != SQLITE_DONE)
		result = p2p_store_error(app->store, rc, NULL, "read the indexes");
	(void)sqlite3_finalize(list); /* errors were seen at the steps */
	(void)sqlite3_finalize(columns);
	if (result)
		p2p_uniques_deinit(uniques);
	return result;
}

void p2p_uniques_deinit(struct p2p_uniques *uniques)
{
	size_t i;

	for (i = 0; i < uniques->count; i++)
		unique_deinit(&uniques->items[i]);
	p2p_free(uniques->items);
	memset(uniques, 0, sizeof(*uniques));
}

/* NULLs are distinct: such a row claims nothing here. */
static bool unique_claims(const struct p2p_unique *unique, const struct p2p_cells *cells)
{
	size_t i;

	for (i = 0; i < unique->count; i++)
		if (!cells->set[unique->columns[i]] ||
		    cells->values[unique->columns[i]].type == P2P_NULL)
			return false;
	return true;
}

static int later(const struct p2p_uniques *uniques, uint64_t stamp, uint32_t replica,
		 struct p2p_clock *out)
{
	const struct p2p_id *id = p2p_store_replica_id(uniques->app->store, replica);
	struct p2p_clock clock;

	if (!id)
		return P2P_ECORRUPT;
	clock.stamp.value = stamp;
	clock.replica = *id;
	if (p2p_clock_cmp(&clock, out) > 0)
		*out = clock;
	return 0;
}

int p2p_uniques_time(const struct p2p_uniques *uniques, const struct p2p_rowstate *state,
		     const struct p2p_cells *cells, struct p2p_clock *out)
{
	size_t i, j;
	int rc = 0;

	memset(out, 0, sizeof(*out));
	for (i = 0; i < uniques->count; i++) {
		const struct p2p_unique *unique = &uniques->items[i];

		for (j = 0; unique_claims(unique, cells) && j < unique->count && !rc; j++) {
			uint32_t slot = uniques->app->table->columns[unique->columns[j]].slot;

			if (slot < state->cell_count && state->cells[slot].stamp)
				rc = later(uniques, state->cells[slot].stamp,
					   state->cells[slot].replica, out);
			else
				rc = later(uniques, state->stamp, state->replica, out);
		}
	}
	return rc;
}

static int holder_put(struct p2p_uniques *uniques, struct p2p_numbers *numbers, sqlite3_stmt *row,
		      struct p2p_buf *out)
{
	const struct p2p_table *table = uniques->app->table;
	struct p2p_value values[P2P_KEY_COLUMNS_MAX];
	struct p2p_identity identity;
	struct p2p_buf key, encoded;
	uint32_t i;
	int rc = 0;

	memset(&identity, 0, sizeof(identity));
	p2p_buf_init(&key, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&encoded, P2P_RECORD_BYTES_MAX);
	for (i = 0; i < table->key_count && !rc; i++)
		rc = p2p_value_column(&values[i], row, (int)i);
	if (!rc && table->generated_identity)
		rc = p2p_claimants_at(numbers, values[0].integer, &identity);
	else if (!rc)
		rc = p2p_identity_of_key(&key, table, values);
	if (!rc && !table->generated_identity) {
		identity.kind = P2P_IDENTITY_KEY;
		identity.key = key.data;
		identity.key_len = key.len;
	}
	if (!rc) {
		p2p_identity_put(&encoded, &identity);
		rc = p2p_buf_error(&encoded);
	}
	if (!rc)
		p2p_buf_put_bytes(out, encoded.data, encoded.len);
	p2p_buf_deinit(&key);
	p2p_buf_deinit(&encoded);
	/* Not replicated (NULL key), or not captured: it stays where it is. */
	return rc == P2P_ENOENT || rc == P2P_IDENTITY_NULL_KEY ? 0 : rc;
}

static int unique_holder(struct p2p_uniques *uniques, struct p2p_numbers *numbers,
			 const struct p2p_unique *unique, const struct p2p_cells *cells,
			 struct p2p_buf *out)
{
	size_t i;
	int rc = 0, step;

	for (i = 0; i < unique->count && !rc; i++)
		rc = p2p_value_bind(unique->find, (int)i + 1, &cells->values[unique->columns[i]]);
	if (rc)
		return rc;
	step = sqlite3_step(unique->find);
	if (step == SQLITE_ROW)
		rc = holder_put(uniques, numbers, unique->find, out);
	else if (step != SQLITE_DONE)
		rc = p2p_store_error(uniques->app->store, step, NULL, "look for a value");
	(void)sqlite3_reset(unique->find); /* repeats the step's error */
	return rc;
}

int p2p_uniques_holders(struct p2p_uniques *uniques, struct p2p_numbers *numbers,
			const struct p2p_cells *cells, struct p2p_buf *out)
{
	size_t i;
	int rc = 0;

	for (i = 0; i < uniques->count && !rc; i++)
		if (unique_claims(&uniques->items[i], cells))
			rc = unique_holder(uniques, numbers, &uniques->items[i], cells, out);
	return rc ? rc : p2p_buf_error(out);
}
