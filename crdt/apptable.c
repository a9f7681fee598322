/* Writes to one of the application's tables; see apptable.h. */
#include "crdt/apptable.h"

#include <sqlite3.h>
#include <string.h>

#include "proto/check.h"
#include "proto/mem.h"

/* SQL of a table with P2P_COLUMNS_MAX columns of long names. */
#define SQL_BYTES_MAX (16u * 1024 * 1024)

void p2p_cells_init(struct p2p_cells *cells)
{
	memset(cells, 0, sizeof(*cells));
}

void p2p_cells_deinit(struct p2p_cells *cells)
{
	p2p_free(cells->values);
	p2p_free(cells->set);
	p2p_cells_init(cells);
}

int p2p_cells_reset(struct p2p_cells *cells, uint32_t count)
{
	p2p_require(count <= P2P_COLUMNS_MAX);
	if (count > cells->cap) {
		struct p2p_value *values = p2p_calloc(count, sizeof(*values));
		uint8_t *set = p2p_calloc(count, 1);

		if (!values || !set) {
			p2p_free(values);
			p2p_free(set);
			return P2P_ENOMEM;
		}
		p2p_cells_deinit(cells);
		cells->values = values;
		cells->set = set;
		cells->cap = count;
	}
	cells->count = count;
	if (count)
		memset(cells->set, 0, count);
	return 0;
}

void p2p_cells_set(struct p2p_cells *cells, uint32_t column, const struct p2p_value *value)
{
	p2p_require(column < cells->count);
	cells->values[column] = *value;
	cells->set[column] = 1;
}

bool p2p_cells_any(const struct p2p_cells *cells)
{
	return cells->count && memchr(cells->set, 1, cells->count) != NULL;
}

void p2p_sql_text(struct p2p_buf *sql, const char *text)
{
	p2p_buf_put(sql, text, strlen(text));
}

void p2p_sql_name(struct p2p_buf *sql, const char *name)
{
	p2p_buf_put_u8(sql, '"');
	for (; *name; name++) {
		if (*name == '"')
			p2p_buf_put_u8(sql, '"');
		p2p_buf_put_u8(sql, (uint8_t)*name);
	}
	p2p_buf_put_u8(sql, '"');
}

int p2p_sql_prepare(struct p2p_store *store, struct p2p_buf *sql, sqlite3_stmt **out)
{
	int rc = p2p_buf_error(sql);

	if (rc)
		return rc;
	rc = sqlite3_prepare_v3(p2p_store_db(store), (const char *)sql->data, (int)sql->len,
				SQLITE_PREPARE_PERSISTENT, out, NULL);
	return rc == SQLITE_OK ? 0 : p2p_store_error(store, rc, NULL, "prepare");
}

static int app_encoding(struct p2p_apptable *app)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(p2p_store_db(app->store), "PRAGMA encoding", -1, &stmt, NULL);
	const char *name;

	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW) {
		name = (const char *)sqlite3_column_text(stmt, 0);
		app->text_converted = !name || strcmp(name, "UTF-8") != 0;
		rc = SQLITE_OK;
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc == SQLITE_OK ? 0 : p2p_store_error(app->store, rc, NULL, "read the encoding");
}

int p2p_apptable_init(struct p2p_apptable *app, struct p2p_store *store, struct p2p_table *table)
{
	memset(app, 0, sizeof(*app));
	app->store = store;
	app->table = table;
	return app_encoding(app);
}

static void statement_drop(struct p2p_apptable_statement *statement)
{
	(void)sqlite3_finalize(statement->stmt); /* its error was seen at the step */
	p2p_free(statement->columns);
	memset(statement, 0, sizeof(*statement));
}

void p2p_apptable_deinit(struct p2p_apptable *app)
{
	size_t i;

	for (i = 0; i < app->statement_count; i++)
		statement_drop(&app->statements[i]);
	(void)sqlite3_finalize(app->remove); /* errors were seen at the steps */
	(void)sqlite3_finalize(app->move);
	memset(app, 0, sizeof(*app));
}

static void sql_where_key(struct p2p_buf *sql, const struct p2p_table *table)
{
	uint32_t i;

	for (i = 0; i < table->key_count; i++) {
		p2p_sql_text(sql, i ? " AND " : " WHERE ");
		p2p_sql_name(sql, table->columns[table->key[i]].name);
		p2p_sql_text(sql, "=?");
	}
}

/* OR ABORT: the table's own ON CONFLICT REPLACE would delete other rows unseen. */
static void sql_insert(struct p2p_buf *sql, const struct p2p_table *table, const uint8_t *set)
{
	uint32_t i, count = 0;

	p2p_sql_text(sql, "INSERT OR ABORT INTO main.");
	p2p_sql_name(sql, table->name);
	for (i = 0; i < table->column_count; i++) {
		if (!set[i])
			continue;
		p2p_sql_text(sql, count++ ? "," : "(");
		p2p_sql_name(sql, table->columns[i].name);
	}
	p2p_require(count > 0); /* key columns are always set */
	p2p_sql_text(sql, ")VALUES(?");
	while (--count)
		p2p_sql_text(sql, ",?");
	p2p_sql_text(sql, ")");
}

static void sql_update(struct p2p_buf *sql, const struct p2p_table *table, const uint8_t *set)
{
	const char *separator = " SET ";
	uint32_t i;

	p2p_sql_text(sql, "UPDATE OR ABORT main.");
	p2p_sql_name(sql, table->name);
	for (i = 0; i < table->column_count; i++) {
		if (!set[i])
			continue;
		p2p_sql_text(sql, separator);
		p2p_sql_name(sql, table->columns[i].name);
		p2p_sql_text(sql, "=?");
		separator = ",";
	}
	sql_where_key(sql, table);
}

static int statement_make(struct p2p_apptable *app, struct p2p_apptable_statement *out, bool insert,
			  const struct p2p_cells *cells)
{
	struct p2p_buf sql;
	int rc;

	out->insert = insert;
	out->columns = p2p_memdup(cells->set, cells->count);
	if (!out->columns)
		return P2P_ENOMEM;
	p2p_buf_init(&sql, SQL_BYTES_MAX);
	if (insert)
		sql_insert(&sql, app->table, cells->set);
	else
		sql_update(&sql, app->table, cells->set);
	rc = p2p_sql_prepare(app->store, &sql, &out->stmt);
	p2p_buf_deinit(&sql);
	return rc;
}

/* The statement that writes exactly these columns. */
static int statement_get(struct p2p_apptable *app, bool insert, const struct p2p_cells *cells,
			 sqlite3_stmt **out)
{
	struct p2p_apptable_statement *at = NULL, *oldest = &app->statements[0];
	size_t i;
	int rc;

	for (i = 0; i < app->statement_count; i++) {
		at = &app->statements[i];
		if (at->insert == insert && memcmp(at->columns, cells->set, cells->count) == 0) {
			at->used = ++app->uses;
			*out = at->stmt;
			return 0;
		}
		if (at->used < oldest->used)
			oldest = at;
	}
	if (app->statement_count < P2P_APPTABLE_STATEMENTS_MAX)
		oldest = &app->statements[app->statement_count++];
	else
		statement_drop(oldest);
	rc = statement_make(app, oldest, insert, cells);
	if (rc) {
		statement_drop(oldest);
		*oldest = app->statements[--app->statement_count];
		return rc;
	}
	oldest->used = ++app->uses;
	*out = oldest->stmt;
	return 0;
}

/* Steps a write once: 0, an outcome, or an error. */
static int app_step(struct p2p_apptable *app, sqlite3_stmt *stmt, const char *what)
{
	int rc = sqlite3_step(stmt), extended = sqlite3_extended_errcode(p2p_store_db(app->store));
	int result;

	if (rc == SQLITE_DONE) {
		result = 0;
	} else if (rc == SQLITE_MISMATCH || rc == SQLITE_ERROR || rc == SQLITE_TOOBIG) {
		/* a type; or an expression of an index or a generated column fails for these
		 * values, as json_extract() does for what is no JSON */
		result = P2P_APPTABLE_REFUSED;
	} else {
		switch (extended) {
		case SQLITE_CONSTRAINT_PRIMARYKEY:
		case SQLITE_CONSTRAINT_ROWID:
			result = P2P_APPTABLE_TAKEN;
			break;
		case SQLITE_CONSTRAINT_UNIQUE:
			result = P2P_APPTABLE_UNIQUE;
			break;
		case SQLITE_CONSTRAINT_NOTNULL:
		case SQLITE_CONSTRAINT_DATATYPE:
		case SQLITE_CONSTRAINT_CHECK:
			result = P2P_APPTABLE_REFUSED;
			break;
		default:
			result = p2p_store_error(app->store, rc, NULL, what);
		}
	}
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return result;
}

static int app_bind_key(const struct p2p_table *table, sqlite3_stmt *stmt, int at,
			const struct p2p_value *key)
{
	uint32_t i;
	int rc = 0;

	for (i = 0; i < table->key_count && !rc; i++)
		rc = p2p_value_bind(stmt, at + (int)i, &key[i]);
	return rc;
}

/* *out_next: the parameter after the cells'. */
static int app_bind_cells(sqlite3_stmt *stmt, const struct p2p_cells *cells, int *out_next)
{
	uint32_t i;
	int at = 1, rc = 0;

	for (i = 0; i < cells->count && !rc; i++)
		if (cells->set[i])
			rc = p2p_value_bind(stmt, at++, &cells->values[i]);
	*out_next = at;
	return rc;
}

int p2p_apptable_insert(struct p2p_apptable *app, const struct p2p_cells *cells)
{
	sqlite3_stmt *stmt;
	int next, rc = statement_get(app, true, cells, &stmt);

	if (!rc)
		rc = app_bind_cells(stmt, cells, &next);
	return rc ? rc : app_step(app, stmt, "insert");
}

int p2p_apptable_update(struct p2p_apptable *app, const struct p2p_value *key,
			const struct p2p_cells *cells)
{
	sqlite3_stmt *stmt;
	int next, rc;

	if (!p2p_cells_any(cells))
		return 0;
	rc = statement_get(app, false, cells, &stmt);
	if (!rc)
		rc = app_bind_cells(stmt, cells, &next);
	if (!rc)
		rc = app_bind_key(app->table, stmt, next, key);
	return rc ? rc : app_step(app, stmt, "update");
}

int p2p_apptable_delete(struct p2p_apptable *app, const struct p2p_value *key)
{
	struct p2p_buf sql;
	int rc = 0;

	if (!app->remove) {
		p2p_buf_init(&sql, SQL_BYTES_MAX);
		p2p_sql_text(&sql, "DELETE FROM main.");
		p2p_sql_name(&sql, app->table->name);
		sql_where_key(&sql, app->table);
		rc = p2p_sql_prepare(app->store, &sql, &app->remove);
		p2p_buf_deinit(&sql);
	}
	if (!rc)
		rc = app_bind_key(app->table, app->remove, 1, key);
	if (!rc)
		rc = app_step(app, app->remove, "delete");
	return rc > 0 ? P2P_ECORRUPT : rc; /* what could be written can be deleted */
}

int p2p_apptable_move(struct p2p_apptable *app, int64_t from, int64_t to)
{
	struct p2p_buf sql;
	int rc = 0;

	p2p_require(app->table->generated_identity);
	if (!app->move) {
		p2p_buf_init(&sql, SQL_BYTES_MAX);
		p2p_sql_text(&sql, "UPDATE OR ABORT main.");
		p2p_sql_name(&sql, app->table->name);
		p2p_sql_text(&sql, " SET ");
		p2p_sql_name(&sql, app->table->columns[app->table->key[0]].name);
		p2p_sql_text(&sql, "=?");
		sql_where_key(&sql, app->table);
		rc = p2p_sql_prepare(app->store, &sql, &app->move);
		p2p_buf_deinit(&sql);
	}
	if (rc)
		return rc;
	if (sqlite3_bind_int64(app->move, 1, to) != SQLITE_OK ||
	    sqlite3_bind_int64(app->move, 2, from) != SQLITE_OK)
		return P2P_ENOMEM;
	return app_step(app, app->move, "renumber");
}

int p2p_apptable_read(struct p2p_apptable *app, const struct p2p_value *key, struct p2p_cells *out)
{
	sqlite3_stmt *stmt;
	struct p2p_value value;
	uint32_t i;
	int at = 0, rc = p2p_cells_reset(out, app->table->column_count);

	if (!rc)
		rc = p2p_store_app_row(app->store, app->table, key, &stmt);
	for (i = 0; i < app->table->column_count && !rc; i++) {
		if (app->table->columns[i].flags & P2P_COLUMN_GENERATED)
			continue;
		rc = p2p_value_column(&value, stmt, at++);
		if (!rc)
			p2p_cells_set(out, i, &value);
	}
	return rc;
}

/* SQLite makes an INTEGER of it in a numeric column. Near 2^63 the answer may be yes for nothing.
 */
static bool real_is_integral(double real)
{
	if (real < -9.2e18 || real > 9.2e18)
		return real >= -9.3e18 && real <= 9.3e18;
	return real == (double)(int64_t)real;
}

bool p2p_apptable_converts(const struct p2p_apptable *app, uint32_t column,
			   const struct p2p_value *value)
{
	char affinity = app->table->columns[column].affinity;

	if (value->type == P2P_NULL || (value->type == P2P_BLOB))
		return false;
	if (value->type == P2P_REAL && value->real != value->real)
		return true; /* NaN is stored as NULL */
	if (value->type == P2P_TEXT && app->text_converted)
		return true;
	switch (affinity) {
	case 'B':
		return value->type != P2P_TEXT;
	case 'C':
	case 'D':
		return value->type == P2P_TEXT ||
		       (value->type == P2P_REAL && real_is_integral(value->real));
	case 'E':
		return value->type != P2P_REAL || value->real == 0; /* -0.0 loses its sign */
	default:
		return false;
	}
}
