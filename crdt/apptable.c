/* Writes to one of the application's tables; see apptable.h. */
#include "crdt/apptable.h"

#include <sqlite3.h>
#include <string.h>

#include "crdt/store_private.h"
#include "crdt/triggers.h"
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

static int app_clauses(struct p2p_apptable *app)
{
	static const char query[] = "SELECT sql FROM main.sqlite_schema WHERE type = 'table'"
				    " AND name = ?1 COLLATE NOCASE";
	static const char *const words[] = {"ON", "CONFLICT"};
	sqlite3_stmt *stmt = NULL;
	const char *sql;
	int rc = sqlite3_prepare_v2(p2p_store_db(app->store), query, -1, &stmt, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 1, app->table->name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW) {
		sql = (const char *)sqlite3_column_text(stmt, 0);
		app->clauses = !sql || p2p_sqltext_has(sql, words, 2);
		rc = SQLITE_DONE;
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc == SQLITE_DONE ? 0
				 : p2p_store_error(app->store, rc, NULL, "read a table's text in");
}

int p2p_apptable_init(struct p2p_apptable *app, struct p2p_store *store, struct p2p_table *table)
{
	int rc;

	memset(app, 0, sizeof(*app));
	app->store = store;
	app->table = table;
	app->events = p2p_triggers_events(store, table);
	rc = app->events ? app_clauses(app) : 0;
	return rc ? rc : app_encoding(app);
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
	(void)sqlite3_finalize(app->remove); /* its error was seen at the step */
	p2p_cells_deinit(&app->number);
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

void p2p_sql_insert(struct p2p_buf *sql, const struct p2p_table *table, const uint8_t *set,
		    bool firing)
{
	uint32_t i, count = 0;

	p2p_sql_text(sql, firing ? "INSERT INTO main." : "INSERT OR ABORT INTO main.");
	p2p_sql_name(sql, table->name);
	for (i = 0; i < table->column_count; i++) {
		if (set ? !set[i] : table->columns[i].flags & P2P_COLUMN_GENERATED)
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

static void sql_update(struct p2p_buf *sql, const struct p2p_table *table, const uint8_t *set,
		       bool firing)
{
	const char *separator = " SET ";
	uint32_t i;

	p2p_sql_text(sql, firing ? "UPDATE main." : "UPDATE OR ABORT main.");
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

static int statement_make(struct p2p_apptable *app, struct p2p_apptable_statement *out,
			  const struct p2p_cells *cells)
{
	struct p2p_buf sql;
	int rc;

	out->columns = p2p_memdup(cells->set, cells->count);
	if (!out->columns)
		return P2P_ENOMEM;
	p2p_buf_init(&sql, SQL_BYTES_MAX);
	if (out->insert)
		p2p_sql_insert(&sql, app->table, cells->set, out->firing);
	else
		sql_update(&sql, app->table, cells->set, out->firing);
	rc = p2p_sql_prepare(app->store, &sql, &out->stmt);
	p2p_buf_deinit(&sql);
	return rc;
}

/* The statement that writes exactly these columns. */
static int statement_get(struct p2p_apptable *app, bool insert, bool firing,
			 const struct p2p_cells *cells, sqlite3_stmt **out)
{
	struct p2p_apptable_statement *at = NULL, *oldest = &app->statements[0];
	size_t i;
	int rc;

	for (i = 0; i < app->statement_count; i++) {
		at = &app->statements[i];
		if (at->insert == insert && at->firing == firing &&
		    memcmp(at->columns, cells->set, cells->count) == 0) {
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
	oldest->insert = insert;
	oldest->firing = firing;
	rc = statement_make(app, oldest, cells);
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

/* --- writes ---------------------------------------------------------------------------------- */

/* One write to the table: its statement, with and without triggers. */
struct write {
	enum p2p_sql_event event;
	const struct p2p_cells *cells; /* NULL for a delete */
	const struct p2p_value *key;   /* NULL for an insert */
	const char *what;
};

static int delete_get(struct p2p_apptable *app, sqlite3_stmt **out)
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
	*out = app->remove;
	return rc;
}

static int write_prepare(struct p2p_apptable *app, const struct write *write, bool firing,
			 sqlite3_stmt **out)
{
	int next = 1;
	int rc = write->event == P2P_SQL_DELETE ? delete_get(app, out)
						: statement_get(app, write->event == P2P_SQL_INSERT,
								firing, write->cells, out);

	if (!rc && write->cells)
		rc = app_bind_cells(*out, write->cells, &next);
	if (!rc && write->key)
		rc = app_bind_key(app->table, *out, next, write->key);
	return rc;
}

static int write_plain(struct p2p_apptable *app, const struct write *write)
{
	sqlite3_stmt *stmt = NULL;
	int rc = write_prepare(app, write, false, &stmt);

	return rc ? rc : app_step(app, stmt, write->what);
}

/* What the table itself says, without a trace: 0 or an outcome. */
static int write_try(struct p2p_apptable *app, const struct write *write)
{
	int rc = p2p_store_exec(app->store, "SAVEPOINT p2p_try", NULL), undone;

	if (rc)
		return rc;
	rc = write_plain(app, write);
	undone = p2p_store_exec(app->store, "ROLLBACK TO p2p_try", NULL);
	if (!undone)
		undone = p2p_store_exec(app->store, "RELEASE p2p_try", NULL);
	return rc < 0 || !undone ? rc : undone;
}

/* With the application's triggers. What fails is tried without them: then it was one of them, or
 * the table's own constraint speaks. Errors in triggers undo the statement only: those that could
 * undo more do not run. */
static int write_firing(struct p2p_apptable *app, const struct write *write)
{
	sqlite3_stmt *stmt = NULL;
	char why[256];
	int sql, rc = write_prepare(app, write, true, &stmt);

	if (rc)
		return rc;
	p2p_triggers_on(app->store);
	sql = sqlite3_step(stmt);
	p2p_triggers_off(app->store);
	if (sql != SQLITE_DONE && !p2p_triggers_may_fail(sql))
		rc = p2p_store_error(app->store, sql, NULL, write->what);
	(void)sqlite3_snprintf((int)sizeof(why), why, "%s",
			       sqlite3_errmsg(p2p_store_db(app->store)));
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	if (sql == SQLITE_DONE || rc)
		return rc;
	rc = write_plain(app, write);
	if (!rc)
		p2p_triggers_failed(app->store, app->table, write->event, why);
	return rc;
}

static int write_run(struct p2p_apptable *app, const struct write *write)
{
	int rc = 0;

	if (!(app->events & write->event))
		return write_plain(app, write);
	if (app->clauses && write->event != P2P_SQL_DELETE)
		rc = write_try(app, write);
	return rc ? rc : write_firing(app, write);
}

int p2p_apptable_insert(struct p2p_apptable *app, const struct p2p_cells *cells)
{
	const struct write write = {P2P_SQL_INSERT, cells, NULL, "insert"};

	return write_run(app, &write);
}

int p2p_apptable_update(struct p2p_apptable *app, const struct p2p_value *key,
			const struct p2p_cells *cells)
{
	const struct write write = {P2P_SQL_UPDATE, cells, key, "update"};

	return p2p_cells_any(cells) ? write_run(app, &write) : 0;
}

int p2p_apptable_delete(struct p2p_apptable *app, const struct p2p_value *key)
{
	const struct write write = {P2P_SQL_DELETE, NULL, key, "delete"};
	int rc = write_run(app, &write);

	return rc > 0 ? P2P_ECORRUPT : rc; /* what could be written can be deleted */
}

/* --- other numbers --------------------------------------------------------------------------- */

static int move_number(struct p2p_apptable *app, int64_t from, int64_t to)
{
	struct p2p_value key[P2P_KEY_COLUMNS_MAX], value;
	int rc = p2p_cells_reset(&app->number, app->table->column_count);

	memset(&value, 0, sizeof(value));
	value.type = P2P_INTEGER;
	key[0] = value;
	key[0].integer = from;
	value.integer = to;
	if (rc)
		return rc;
	p2p_cells_set(&app->number, app->table->key[0], &value);
	return p2p_apptable_update(app, key, &app->number);
}

static int cells_copy(struct p2p_cells *cells, const struct p2p_table *table, struct p2p_buf *bytes)
{
	struct p2p_reader reader;
	uint32_t i;

	for (i = 0; i < table->column_count; i++)
		if (cells->set[i])
			p2p_value_put(bytes, &cells->values[i]);
	if (p2p_buf_error(bytes))
		return p2p_buf_error(bytes);
	p2p_reader_init(&reader, bytes->data, bytes->len);
	for (i = 0; i < table->column_count; i++)
		if (cells->set[i])
			p2p_value_read(&reader, &cells->values[i]);
	return p2p_reader_error(&reader);
}

/* The row goes and comes: 0, an outcome, or an error. */
static int move_row(struct p2p_apptable *app, int64_t from, int64_t to)
{
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	struct p2p_cells cells;
	struct p2p_buf bytes;
	int rc;

	memset(&key[0], 0, sizeof(key[0]));
	key[0].type = P2P_INTEGER;
	key[0].integer = from;
	p2p_cells_init(&cells);
	p2p_buf_init(&bytes, P2P_RECORD_BYTES_MAX);
	rc = p2p_apptable_read(app, key, &cells);
	if (!rc)
		rc = cells_copy(&cells, app->table, &bytes);
	p2p_store_row_done(app->store);
	if (!rc)
		rc = p2p_apptable_delete(app, key);
	key[0].integer = to;
	if (!rc) {
		p2p_cells_set(&cells, app->table->key[0], &key[0]);
		rc = p2p_apptable_insert(app, &cells);
	}
	p2p_cells_deinit(&cells);
	p2p_buf_deinit(&bytes);
	return rc == P2P_ENOENT ? 0 : rc; /* as of an UPDATE of no row */
}

int p2p_apptable_move(struct p2p_apptable *app, int64_t from, int64_t to)
{
	const unsigned both = P2P_SQL_INSERT | P2P_SQL_DELETE;
	int rc, undone;

	p2p_require(app->table->generated_identity);
	if ((app->events & both) != both || from == to)
		return move_number(app, from, to);
	rc = p2p_store_exec(app->store, "SAVEPOINT p2p_move", NULL);
	if (rc)
		return rc;
	rc = move_row(app, from, to);
	undone = rc > 0 ? p2p_store_exec(app->store, "ROLLBACK TO p2p_move", NULL) : 0;
	if (rc >= 0 && !undone)
		undone = p2p_store_exec(app->store, "RELEASE p2p_move", NULL);
	if (rc < 0 || undone)
		return rc < 0 ? rc : undone;
	/* It stands there already, but cannot come in whole: its number alone is changed. */
	return rc == P2P_APPTABLE_UNIQUE || rc == P2P_APPTABLE_REFUSED ? move_number(app, from, to)
								       : rc;
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
