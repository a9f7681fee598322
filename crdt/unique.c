/* UNIQUE constraints; see unique.h. */
#include "crdt/unique.h"

#include <sqlite3.h>
#include <string.h>

#include "proto/check.h"
#include "proto/mem.h"

#define SQL_BYTES_MAX (16u * 1024 * 1024)

static const char sql_indexes[] =
	"SELECT l.name, l.partial, s.sql FROM pragma_index_list(?1, 'main') AS l"
	" LEFT JOIN main.sqlite_schema AS s ON s.type = 'index' AND s.name = l.name"
	" WHERE l.\"unique\" AND l.origin <> 'pk' ORDER BY l.name";
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

static void sql_term(struct p2p_buf *sql, size_t at, const char *name, const char *collation)
{
	p2p_sql_text(sql, at ? " AND " : " WHERE ");
	p2p_sql_name(sql, name);
	p2p_sql_text(sql, "=? COLLATE ");
	p2p_sql_name(sql, collation);
}

static enum p2p_collation collation_named(const char *name)
{
	if (sqlite3_stricmp(name, "NOCASE") == 0)
		return P2P_COLLATE_NOCASE;
	return sqlite3_stricmp(name, "RTRIM") == 0 ? P2P_COLLATE_RTRIM : P2P_COLLATE_BINARY;
}

static int column_add(struct p2p_unique *unique, uint32_t column, enum p2p_collation collation)
{
	enum p2p_collation *collations;
	uint32_t *columns;

	columns = p2p_realloc(unique->columns, (unique->count + 1) * sizeof(*columns));
	if (!columns)
		return P2P_ENOMEM;
	unique->columns = columns;
	collations = p2p_realloc(unique->collations, (unique->count + 1) * sizeof(*collations));
	if (!collations)
		return P2P_ENOMEM;
	unique->collations = collations;
	columns[unique->count] = column;
	collations[unique->count++] = collation;
	return 0;
}

/* Adds one column of an index; 1 when the constraint is none of ours. */
static int unique_column(struct p2p_unique *unique, const struct p2p_table *table,
			 sqlite3_stmt *row, struct p2p_buf *sql)
{
	const char *name = (const char *)sqlite3_column_text(row, 1);
	const char *collation = (const char *)sqlite3_column_text(row, 2);
	uint32_t column;

	if (sqlite3_column_int(row, 0) < 0 || !name || !collation)
		return 1; /* the number itself, which is alone in being unique, or an expression */
	column = column_named(table, name);
	if (column == UINT32_MAX || table->columns[column].slot == UINT32_MAX)
		return 1;
	sql_term(sql, unique->count, name, collation);
	return column_add(unique, column, collation_named(collation));
}

static void unique_deinit(struct p2p_unique *unique)
{
	(void)sqlite3_finalize(unique->find); /* its error was seen at the step */
	p2p_free(unique->columns);
	p2p_free(unique->collations);
	p2p_unique_index_free(unique->index);
	memset(unique, 0, sizeof(*unique));
}

static void unique_id(struct p2p_unique *unique, const struct p2p_table *table)
{
	struct p2p_hasher hasher;
	size_t i;

	p2p_hasher_init(&hasher, "p2pnode/constraint/1", sizeof(unique->id.bytes));
	p2p_hasher_add(&hasher, table->id.bytes, P2P_ID_BYTES);
	for (i = 0; i < unique->count; i++) {
		p2p_hasher_add(&hasher, table->columns[unique->columns[i]].id.bytes, P2P_ID_BYTES);
		p2p_hasher_add_u64(&hasher, (uint64_t)unique->collations[i]);
	}
	p2p_hasher_final(&hasher, unique->id.bytes, sizeof(unique->id.bytes));
}

/* The PRIMARY KEY, where it has references. */
static int unique_key(struct p2p_uniques *uniques)
{
	static const char *const names[] = {"BINARY", "NOCASE", "RTRIM"};
	const struct p2p_table *table = uniques->app->table;
	struct p2p_unique *grown, *unique;
	struct p2p_buf sql;
	uint32_t i;
	int rc = 0;

	grown = p2p_realloc(uniques->items, (uniques->count + 1) * sizeof(*grown));
	if (!grown)
		return P2P_ENOMEM;
	uniques->items = grown;
	unique = &grown[uniques->count++];
	memset(unique, 0, sizeof(*unique));
	p2p_buf_init(&sql, SQL_BYTES_MAX);
	sql_find(&sql, table);
	for (i = 0; i < table->key_count && !rc; i++) {
		const struct p2p_column *column = &table->columns[table->key[i]];

		sql_term(&sql, i, column->name, names[column->collation]);
		rc = column_add(unique, table->key[i], column->collation);
	}
	if (!rc)
		rc = p2p_sql_prepare(uniques->app->store, &sql, &unique->find);
	p2p_buf_deinit(&sql);
	if (!rc)
		unique_id(unique, table);
	return rc;
}

/* Which columns have to do with it. */
static int uniques_columns(struct p2p_uniques *uniques)
{
	size_t i, j;

	uniques->columns = p2p_calloc(uniques->app->table->column_count + 1, 1);
	if (!uniques->columns)
		return P2P_ENOMEM;
	for (i = 0; i < uniques->count; i++)
		for (j = 0; j < uniques->items[i].count; j++)
			uniques->columns[uniques->items[i].columns[j]] = 1;
	return 0;
}

/* An index that SQLite looks into takes whole rows. */
static bool default_needed(const struct p2p_uniques *uniques, uint32_t column)
{
	size_t i;

	if (uniques->app->table->columns[column].flags & (P2P_COLUMN_KEY | P2P_COLUMN_GENERATED))
		return false;
	for (i = 0; i < uniques->count; i++)
		if (uniques->items[i].index)
			return true;
	return uniques->columns[column] != 0;
}

/* A row that is not in the table lacks what SQLite fills in. */
static int uniques_defaults(struct p2p_uniques *uniques)
{
	const struct p2p_table *table = uniques->app->table;
	struct p2p_value value;
	struct p2p_reader reader;
	uint32_t i;
	int rc = p2p_cells_reset(&uniques->defaults, table->column_count);

	for (i = 0; i < table->column_count && !rc; i++)
		if (default_needed(uniques, i))
			rc = p2p_store_default_put(uniques->app->store, table, i,
						   &uniques->default_bytes);
	p2p_reader_init(&reader, uniques->default_bytes.data, uniques->default_bytes.len);
	for (i = 0; i < table->column_count && !rc; i++) {
		if (!default_needed(uniques, i))
			continue;
		p2p_value_read(&reader, &value);
		if (value.type != P2P_NULL)
			p2p_cells_set(&uniques->defaults, i, &value);
	}
	p2p_require(rc || !reader.failed); /* we wrote them */
	return rc;
}

/* NULL: nothing, or NULL. */
static const struct p2p_value *cell_of(const struct p2p_uniques *uniques,
				       const struct p2p_cells *cells, uint32_t column)
{
	const struct p2p_value *value = NULL;

	if (cells->set[column])
		value = &cells->values[column];
	else if (uniques->defaults.set[column])
		value = &uniques->defaults.values[column];
	return value && value->type != P2P_NULL ? value : NULL;
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
	if (!result)
		unique_id(unique, app->table);
	p2p_buf_deinit(&sql);
	if (result)
		unique_deinit(unique);
	return result;
}

/* One that SQLite has to look into. 1: none of ours. */
static int unique_init_index(struct p2p_unique *unique, struct p2p_apptable *app,
			     const struct p2p_index_text *text)
{
	const uint8_t *columns;
	struct p2p_hasher hasher;
	struct p2p_buf sql;
	uint32_t i;
	int rc;

	memset(unique, 0, sizeof(*unique));
	rc = p2p_unique_index_new(app, text, &unique->index);
	if (rc)
		return rc;
	columns = p2p_unique_index_columns(unique->index);
	for (i = 0; i < app->table->column_count && !rc; i++)
		if (columns[i])
			rc = column_add(unique, i, P2P_COLLATE_BINARY);
	p2p_buf_init(&sql, SQL_BYTES_MAX);
	sql_find(&sql, app->table);
	p2p_unique_index_where(unique->index, &sql);
	if (!rc)
		rc = p2p_sql_prepare(app->store, &sql, &unique->find);
	p2p_buf_deinit(&sql);
	p2p_hasher_init(&hasher, "p2pnode/constraint/1", sizeof(unique->id.bytes));
	p2p_hasher_add(&hasher, app->table->id.bytes, P2P_ID_BYTES);
	p2p_unique_index_id(unique->index, &hasher);
	p2p_hasher_final(&hasher, unique->id.bytes, sizeof(unique->id.bytes));
	if (rc)
		unique_deinit(unique);
	return rc;
}

static int uniques_add(struct p2p_uniques *uniques, sqlite3_stmt *list, sqlite3_stmt *columns)
{
	struct p2p_index_text text = {(const char *)sqlite3_column_text(list, 0),
				      (const char *)sqlite3_column_text(list, 2)};
	struct p2p_unique *grown;
	int rc = 1;

	grown = p2p_realloc(uniques->items, (uniques->count + 1) * sizeof(*grown));
	if (!grown)
		return P2P_ENOMEM;
	uniques->items = grown;
	if (!text.name ||
	    sqlite3_bind_text(columns, 1, text.name, -1, SQLITE_TRANSIENT) != SQLITE_OK)
		return P2P_ENOMEM;
	if (!sqlite3_column_int(list, 1))
		rc = unique_init(&grown[uniques->count], uniques->app, columns);
	(void)sqlite3_reset(columns); /* repeats the step's error */
	if (rc == 1)
		rc = unique_init_index(&grown[uniques->count], uniques->app, &text);
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
	p2p_cells_init(&uniques->defaults);
	p2p_buf_init(&uniques->default_bytes, P2P_RECORD_BYTES_MAX);
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
		result = uniques_add(uniques, list, columns);
	}
	if (!result && rc != SQLITE_DONE)
		result = p2p_store_error(app->store, rc, NULL, "read the indexes");
	(void)sqlite3_finalize(list); /* errors were seen at the steps */
	(void)sqlite3_finalize(columns);
	if (!result && app->table->key_references)
		result = unique_key(uniques);
	if (!result)
		result = uniques_columns(uniques);
	if (!result)
		result = uniques_defaults(uniques);
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
	p2p_free(uniques->columns);
	p2p_cells_deinit(&uniques->defaults);
	p2p_buf_deinit(&uniques->default_bytes);
	memset(uniques, 0, sizeof(*uniques));
}

int p2p_uniques_hash(const struct p2p_uniques *uniques, size_t index, const struct p2p_cells *cells,
		     struct p2p_id *out, bool *out_none)
{
	struct p2p_unique *unique = &uniques->items[index];
	const struct p2p_table *table = uniques->app->table;
	struct p2p_hasher hasher;
	struct p2p_buf tuple;
	size_t i;
	int rc = 0;

	*out_none = false;
	p2p_buf_init(&tuple, P2P_RECORD_BYTES_MAX);
	if (unique->index)
		rc = p2p_unique_index_tuple(unique->index, cells, &uniques->defaults, &tuple,
					    out_none);
	for (i = 0; i < unique->count && !unique->index && !rc && !*out_none; i++) {
		uint32_t column = unique->columns[i];
		const struct p2p_value *value = cell_of(uniques, cells, column);

		*out_none = value == NULL; /* NULLs are distinct */
		if (!*out_none)
			rc = p2p_value_put_canonical(&tuple, value, table->columns[column].affinity,
						     unique->collations[i]);
	}
	if (!rc)
		rc = p2p_buf_error(&tuple);
	p2p_hasher_init(&hasher, "p2pnode/claim/1", sizeof(out->bytes));
	p2p_hasher_add(&hasher, unique->id.bytes, P2P_ID_BYTES);
	if (!rc && !*out_none)
		p2p_hasher_add(&hasher, tuple.data, tuple.len);
	p2p_hasher_final(&hasher, out->bytes, sizeof(out->bytes));
	p2p_buf_deinit(&tuple);
	return rc;
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

static int claim_since(const struct p2p_uniques *uniques, const struct p2p_unique *unique,
		       const struct p2p_rowstate *state, struct p2p_clock *out)
{
	size_t i;
	int rc = 0;

	memset(out, 0, sizeof(*out));
	for (i = 0; i < unique->count && !rc; i++) {
		uint32_t slot = uniques->app->table->columns[unique->columns[i]].slot;

		if (slot < state->cell_count && state->cells[slot].stamp)
			rc = later(uniques, state->cells[slot].stamp, state->cells[slot].replica,
				   out);
		else
			rc = later(uniques, state->stamp, state->replica, out);
	}
	return rc;
}

static int claim_yield(const struct p2p_uniques *uniques, const struct p2p_claimed *claimed,
		       struct p2p_plan_claim *claim)
{
	struct p2p_clock clock;
	size_t i;
	int rc = 0;

	for (i = 0; i < claimed->yield_count && !rc; i++) {
		if (p2p_id_cmp(&claimed->yields[i].constraint, &claim->constraint) != 0)
			continue;
		memset(&clock, 0, sizeof(clock));
		rc = later(uniques, claimed->yields[i].stamp, claimed->yields[i].replica, &clock);
		claim->yielded = p2p_clock_cmp(&clock, &claim->clock) >= 0;
		if (claim->yielded)
			claim->clock = clock;
	}
	return rc;
}

int p2p_uniques_yields(const struct p2p_uniques *uniques, const struct p2p_rowref *row,
		       struct p2p_store_yield *out, size_t *out_count)
{
	size_t i;
	int rc = 0;

	*out_count = 0;
	for (i = 0; i < uniques->count; i++) {
		rc = p2p_store_yield_get(uniques->app->store, row, &uniques->items[i].id,
					 &out[*out_count]);
		if (rc && rc != P2P_ENOENT)
			return rc;
		*out_count += rc == 0;
	}
	return 0;
}

int p2p_uniques_claims(const struct p2p_uniques *uniques, const struct p2p_claimed *claimed,
		       struct p2p_plan_row *out)
{
	struct p2p_plan_claim claim;
	bool none;
	size_t i;
	int rc = 0;

	for (i = 0; i < uniques->count && !rc; i++) {
		memset(&claim, 0, sizeof(claim));
		claim.index = (uint32_t)i;
		claim.constraint = uniques->items[i].id;
		rc = p2p_uniques_hash(uniques, i, claimed->cells, &claim.hash, &none);
		if (rc || none)
			continue;
		rc = claim_since(uniques, &uniques->items[i], claimed->state, &claim.clock);
		if (!rc)
			rc = claim_yield(uniques, claimed, &claim);
		if (!rc)
			rc = p2p_plan_claim_add(out, &claim);
	}
	return rc;
}

/* 1: the values claim nothing. */
static int index_bind(const struct p2p_uniques *uniques, struct p2p_unique *unique,
		      const struct p2p_cells *cells)
{
	struct p2p_buf tuple;
	bool none;
	int rc;

	p2p_buf_init(&tuple, P2P_RECORD_BYTES_MAX);
	rc = p2p_unique_index_tuple(unique->index, cells, &uniques->defaults, &tuple, &none);
	if (!rc && none)
		rc = 1;
	if (!rc)
		rc = p2p_unique_index_bind(unique->index, unique->find);
	p2p_buf_deinit(&tuple);
	return rc;
}

int p2p_uniques_find(struct p2p_uniques *uniques, size_t index, const struct p2p_cells *cells,
		     struct p2p_value *key, bool *out_found)
{
	struct p2p_unique *unique = &uniques->items[index];
	uint32_t i;
	int rc = 0, step;

	*out_found = false;
	if (unique->index) {
		rc = index_bind(uniques, unique, cells);
		if (rc)
			return rc == 1 ? 0 : rc;
	}
	for (i = 0; i < unique->count && !unique->index && !rc; i++) {
		const struct p2p_value *value = cell_of(uniques, cells, unique->columns[i]);

		if (!value)
			return 0; /* nothing is claimed */
		rc = p2p_value_bind(unique->find, (int)i + 1, value);
	}
	if (rc)
		return rc;
	step = sqlite3_step(unique->find);
	if (step == SQLITE_DONE)
		return 0;
	if (step != SQLITE_ROW)
		return p2p_store_error(uniques->app->store, step, NULL, "look for a value");
	*out_found = true;
	for (i = 0; i < uniques->app->table->key_count && !rc; i++)
		rc = p2p_value_column(&key[i], unique->find, (int)i);
	return rc;
}

void p2p_uniques_found(struct p2p_uniques *uniques, size_t index)
{
	(void)sqlite3_reset(uniques->items[index].find); /* repeats the step's error */
}
