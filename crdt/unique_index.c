/* Partial indexes, and those over expressions; see unique_index.h. */
#include "crdt/unique_index.h"

#include <sqlite3.h>
#include <string.h>

#include "proto/check.h"
#include "proto/mem.h"

#define SQL_BYTES_MAX (16u * 1024 * 1024)
#define TERMS_MAX     64

struct term {
	char *sql; /* owned */
	enum p2p_collation collation;
};

struct p2p_unique_index {
	struct p2p_apptable *app; /* borrowed */
	sqlite3 *db;		  /* owned: in memory, with the table */
	sqlite3_stmt *clear, *select;
	sqlite3_stmt *insert; /* of all columns that are stored */
	char *text;	      /* owned: from the first parenthesis on; NULL: no text of its own */
	char *where;	      /* owned; NULL: not partial */
	struct term terms[TERMS_MAX];
	size_t term_count;
	uint8_t *columns; /* owned */
	uint8_t *made;	  /* owned: columns that generated ones are made of */
	uint8_t *reads;	  /* borrowed: where the authorizer notes what is read */
};

void p2p_unique_index_free(struct p2p_unique_index *index)
{
	size_t i;

	if (!index)
		return;
	(void)sqlite3_finalize(index->clear); /* errors were seen at the steps */
	(void)sqlite3_finalize(index->select);
	(void)sqlite3_finalize(index->insert);
	(void)sqlite3_close_v2(index->db);
	for (i = 0; i < index->term_count; i++)
		p2p_free(index->terms[i].sql);
	p2p_free(index->text);
	p2p_free(index->where);
	p2p_free(index->columns);
	p2p_free(index->made);
	p2p_free(index);
}

/* --- cutting the text ------------------------------------------------------------------------- */

/* Behind a quoted name or text, a comment, or one character. */
static const char *skip_token(const char *at)
{
	char end = *at == '[' ? ']' : *at;

	if (*at == '\'' || *at == '"' || *at == '`' || *at == '[') {
		for (at++; *at; at++) {
			if (*at != end)
				continue;
			if (end == ']' || at[1] != end)
				break;
			at++; /* doubled */
		}
		return *at ? at + 1 : at;
	}
	if (at[0] == '-' && at[1] == '-') {
		while (*at && *at != '\n')
			at++;
		return at;
	}
	if (at[0] == '/' && at[1] == '*') {
		at = strstr(at + 2, "*/");
		return at ? at + 2 : "";
	}
	return at + 1;
}

static char *text_copy(const char *from, const char *to)
{
	char *copy = p2p_malloc((size_t)(to - from) + 1);

	if (!copy)
		return NULL;
	memcpy(copy, from, (size_t)(to - from));
	copy[to - from] = 0;
	return copy;
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Without a trailing word. */
static const char *trim_word(const char *from, const char *to, const char *word)
{
	size_t len = strlen(word);

	while (to > from && is_space(to[-1]))
		to--;
	if ((size_t)(to - from) > len && sqlite3_strnicmp(to - len, word, (int)len) == 0 &&
	    is_space(to[-(ptrdiff_t)len - 1]))
		to -= len;
	while (to > from && is_space(to[-1]))
		to--;
	return to;
}

static int term_text(struct p2p_unique_index *index, size_t at, const char *from, const char *to)
{
	if (at >= index->term_count)
		return P2P_ECORRUPT;
	if (index->terms[at].sql)
		return 0; /* a column: its name is enough */
	to = trim_word(from, trim_word(from, to, "DESC"), "ASC");
	index->terms[at].sql = text_copy(from, to);
	return index->terms[at].sql ? 0 : P2P_ENOMEM;
}

/* (term, term, ...) [WHERE ...] */
static int text_cut(struct p2p_unique_index *index)
{
	const char *at = index->text + 1, *from = at;
	size_t depth = 0, term = 0;
	int rc = 0;

	for (; *at && !rc; at = skip_token(at)) {
		if (depth == 0 && (*at == ',' || *at == ')')) {
			rc = term_text(index, term++, from, at);
			from = at + 1;
			if (*at == ')')
				break;
		}
		if (*at == '(')
			depth++;
		else if (*at == ')')
			depth--;
	}
	if (rc || !*at)
		return rc ? rc : P2P_ECORRUPT;
	for (at++; *at && sqlite3_strnicmp(at, "WHERE", 5) != 0; at = skip_token(at))
		;
	if (!*at)
		return 0;
	index->where = p2p_strdup(at + 5);
	return index->where ? 0 : P2P_ENOMEM;
}

/* From the first parenthesis on: no name before it has one, but within quotes. */
static int text_take(struct p2p_unique_index *index, const char *sql)
{
	const char *at = sql;

	if (!sql)
		return 0;
	while (*at && *at != '(')
		at = skip_token(at);
	if (!*at)
		return P2P_ECORRUPT;
	index->text = p2p_strdup(at);
	return index->text ? text_cut(index) : P2P_ENOMEM;
}

/* --- terms ------------------------------------------------------------------------------------ */

static enum p2p_collation collation_named(const char *name)
{
	if (name && sqlite3_stricmp(name, "NOCASE") == 0)
		return P2P_COLLATE_NOCASE;
	return name && sqlite3_stricmp(name, "RTRIM") == 0 ? P2P_COLLATE_RTRIM : P2P_COLLATE_BINARY;
}

static int term_add(struct p2p_unique_index *index, sqlite3_stmt *row)
{
	const char *name = (const char *)sqlite3_column_text(row, 1);
	struct p2p_buf quoted;
	struct term *term;
	int cid = sqlite3_column_int(row, 0), rc = 0;

	if (cid == -1 || index->term_count == TERMS_MAX)
		return 1; /* the number itself, which is alone in being unique */
	term = &index->terms[index->term_count++];
	term->collation = collation_named((const char *)sqlite3_column_text(row, 2));
	if (cid < 0)
		return 0; /* its text comes later */
	if (!name)
		return P2P_ENOMEM;
	p2p_buf_init(&quoted, SQL_BYTES_MAX);
	p2p_sql_name(&quoted, name);
	p2p_buf_put_u8(&quoted, 0);
	rc = p2p_buf_error(&quoted);
	if (!rc)
		term->sql = p2p_strdup((const char *)quoted.data);
	p2p_buf_deinit(&quoted);
	return rc || term->sql ? rc : P2P_ENOMEM;
}

static int terms_read(struct p2p_unique_index *index, const char *name)
{
	static const char sql[] = "SELECT cid, name, coll FROM pragma_index_xinfo(?1, 'main')"
				  " WHERE key ORDER BY seqno";
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(p2p_store_db(index->app->store), sql, -1, &stmt, NULL);
	int result = 0;

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
	while (rc == SQLITE_OK && !result && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		result = term_add(index, stmt);
		rc = SQLITE_OK;
	}
	if (!result && rc != SQLITE_DONE)
		result = p2p_store_error(index->app->store, rc, NULL, "read an index");
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return result;
}

/* --- the private database --------------------------------------------------------------------- */

/* Notes which columns are read. */
static int authorize(void *ctx, int action, const char *table, const char *column,
		     const char *database, const char *trigger)
{
	struct p2p_unique_index *index = ctx;
	const struct p2p_table *own = index->app->table;
	uint32_t i;

	(void)database;
	(void)trigger;
	if (action != SQLITE_READ || sqlite3_stricmp(table, own->name) != 0)
		return SQLITE_OK;
	for (i = 0; i < own->column_count; i++)
		if (sqlite3_stricmp(own->columns[i].name, column) == 0)
			index->reads[i] = 1;
	return SQLITE_OK;
}

static int private_error(sqlite3 *db, int rc)
{
	(void)db;
	/* what cannot be made there is left to SQLite; the file itself had it */
	return rc == SQLITE_NOMEM ? P2P_ENOMEM : 1;
}

static int private_exec(struct p2p_unique_index *index, const char *sql)
{
	int rc = sqlite3_exec(index->db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : private_error(index->db, rc);
}

static int private_prepare(struct p2p_unique_index *index, struct p2p_buf *sql, sqlite3_stmt **out)
{
	int rc = p2p_buf_error(sql);

	if (rc)
		return rc;
	rc = sqlite3_prepare_v2(index->db, (const char *)sql->data, (int)sql->len, out, NULL);
	return rc == SQLITE_OK ? 0 : private_error(index->db, rc);
}

static int private_table(struct p2p_unique_index *index)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(p2p_store_db(index->app->store),
				    "SELECT sql FROM main.sqlite_schema"
				    " WHERE type = 'table' AND name = ?1",
				    -1, &stmt, NULL),
	    result;

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 1, index->app->table->name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW) {
		index->reads = index->made;
		result = private_exec(index, (const char *)sqlite3_column_text(stmt, 0));
	} else {
		result = p2p_store_error(index->app->store, rc, NULL, "read a table");
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return result;
}

static void sql_select(const struct p2p_unique_index *index, struct p2p_buf *sql)
{
	size_t i;

	for (i = 0; i < index->term_count; i++) {
		p2p_sql_text(sql, i ? ",(" : "SELECT (");
		p2p_sql_text(sql, index->terms[i].sql);
		p2p_sql_text(sql, "\n)"); /* behind a comment, too */
	}
	p2p_sql_text(sql, " FROM main.");
	p2p_sql_name(sql, index->app->table->name);
	if (index->where) {
		p2p_sql_text(sql, " WHERE (");
		p2p_sql_text(sql, index->where);
		p2p_sql_text(sql, "\n)");
	}
}

static int private_statements(struct p2p_unique_index *index)
{
	struct p2p_buf sql;
	int rc;

	p2p_buf_init(&sql, SQL_BYTES_MAX);
	index->reads = index->columns;
	sql_select(index, &sql);
	rc = private_prepare(index, &sql, &index->select);
	(void)sqlite3_set_authorizer(index->db, NULL, NULL); /* always SQLITE_OK */
	p2p_buf_reset(&sql);
	p2p_sql_insert(&sql, index->app->table, NULL, false);
	if (!rc)
		rc = private_prepare(index, &sql, &index->insert);
	p2p_buf_reset(&sql);
	p2p_sql_text(&sql, "DELETE FROM main.");
	p2p_sql_name(&sql, index->app->table->name);
	if (!rc)
		rc = private_prepare(index, &sql, &index->clear);
	p2p_buf_deinit(&sql);
	return rc;
}

static int private_open(struct p2p_unique_index *index)
{
	int rc = sqlite3_open_v2(":memory:", &index->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_MEMORY,
				 NULL);

	if (rc == SQLITE_OK) /* as in the store */
		rc = sqlite3_db_config(index->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 1, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_set_authorizer(index->db, authorize, index);
	if (rc != SQLITE_OK)
		return P2P_ENOMEM;
	rc = private_exec(index, "PRAGMA ignore_check_constraints = ON");
	if (!rc)
		rc = private_table(index);
	return rc ? rc : private_statements(index);
}

/* A generated column stands for those that it is made of. */
static void columns_settle(struct p2p_unique_index *index)
{
	const struct p2p_table *table = index->app->table;
	bool generated = false;
	uint32_t i;

	for (i = 0; i < table->column_count; i++)
		generated |= index->columns[i] && (table->columns[i].flags & P2P_COLUMN_GENERATED);
	for (i = 0; i < table->column_count && generated; i++)
		index->columns[i] |= index->made[i];
	for (i = 0; i < table->column_count; i++)
		if (table->columns[i].flags & P2P_COLUMN_GENERATED)
			index->columns[i] = 0;
}

int p2p_unique_index_new(struct p2p_apptable *app, const struct p2p_index_text *text,
			 struct p2p_unique_index **out)
{
	struct p2p_unique_index *index = p2p_calloc(1, sizeof(*index));
	size_t i;
	int rc;

	if (!index)
		return P2P_ENOMEM;
	index->app = app;
	index->columns = p2p_calloc(app->table->column_count + 1, 1);
	index->made = p2p_calloc(app->table->column_count + 1, 1);
	rc = index->columns && index->made ? terms_read(index, text->name) : P2P_ENOMEM;
	if (!rc)
		rc = text_take(index, text->sql);
	for (i = 0; i < index->term_count && !rc; i++)
		rc = index->terms[i].sql ? 0 : 1;
	if (!rc)
		rc = private_open(index);
	if (rc) {
		p2p_unique_index_free(index);
		return rc == P2P_ECORRUPT ? 1 : rc;
	}
	columns_settle(index);
	*out = index;
	return 0;
}

const uint8_t *p2p_unique_index_columns(const struct p2p_unique_index *index)
{
	return index->columns;
}

void p2p_unique_index_id(const struct p2p_unique_index *index, struct p2p_hasher *hasher)
{
	size_t i;

	for (i = 0; i < index->term_count; i++) {
		p2p_hasher_add(hasher, index->terms[i].sql, strlen(index->terms[i].sql));
		p2p_hasher_add_u64(hasher, (uint64_t)index->terms[i].collation);
	}
	if (index->where)
		p2p_hasher_add(hasher, index->where, strlen(index->where));
}

/* --- rows ------------------------------------------------------------------------------------- */

/* 1: it cannot stand there, so it claims nothing. */
static int row_put(struct p2p_unique_index *index, const struct p2p_cells *cells,
		   const struct p2p_cells *defaults)
{
	const struct p2p_table *table = index->app->table;
	struct p2p_value null = {.type = P2P_NULL};
	uint32_t i;
	int at = 1, rc = 0, step;

	(void)sqlite3_reset(index->select); /* of the row before */
	step = sqlite3_step(index->clear);
	(void)sqlite3_reset(index->clear); /* repeats the step's error */
	if (step != SQLITE_DONE)
		return private_error(index->db, step);
	for (i = 0; i < table->column_count && !rc; i++)
		if (!(table->columns[i].flags & P2P_COLUMN_GENERATED))
			rc = p2p_value_bind(index->insert, at++,
					    cells->set[i]      ? &cells->values[i]
					    : defaults->set[i] ? &defaults->values[i]
							       : &null);
	if (rc)
		return rc;
	step = sqlite3_step(index->insert);
	(void)sqlite3_reset(index->insert); /* repeats the step's error */
	return step == SQLITE_DONE ? 0 : private_error(index->db, step);
}

int p2p_unique_index_tuple(struct p2p_unique_index *index, const struct p2p_cells *cells,
			   const struct p2p_cells *defaults, struct p2p_buf *out, bool *out_none)
{
	struct p2p_value value;
	size_t i;
	int rc = row_put(index, cells, defaults), step;

	*out_none = true;
	if (rc)
		return rc == 1 ? 0 : rc;
	step = sqlite3_step(index->select);
	if (step != SQLITE_ROW) /* not one of the index's, or an expression fails */
		return step == SQLITE_NOMEM ? P2P_ENOMEM : 0;
	*out_none = false;
	for (i = 0; i < index->term_count && !rc && !*out_none; i++) {
		rc = p2p_value_column(&value, index->select, (int)i);
		*out_none = !rc && value.type == P2P_NULL;
		if (!rc && !*out_none)
			rc = p2p_value_put_canonical(out, &value, 'A', index->terms[i].collation);
	}
	return rc;
}

void p2p_unique_index_where(const struct p2p_unique_index *index, struct p2p_buf *sql)
{
	static const char *const names[] = {"BINARY", "NOCASE", "RTRIM"};
	size_t i;

	for (i = 0; i < index->term_count; i++) {
		p2p_sql_text(sql, i ? " AND (" : " WHERE (");
		p2p_sql_text(sql, index->terms[i].sql);
		p2p_sql_text(sql, "\n)=? COLLATE ");
		p2p_sql_text(sql, names[index->terms[i].collation]);
	}
	if (index->where) {
		p2p_sql_text(sql, " AND (");
		p2p_sql_text(sql, index->where);
		p2p_sql_text(sql, "\n)");
	}
}

int p2p_unique_index_bind(struct p2p_unique_index *index, sqlite3_stmt *find)
{
	struct p2p_value value;
	size_t i;
	int rc = 0;

	/* values stay where they are until the next tuple */
	for (i = 0; i < index->term_count && !rc; i++) {
		rc = p2p_value_column(&value, index->select, (int)i);
		if (!rc)
			rc = p2p_value_bind(find, (int)i + 1, &value);
	}
	return rc;
}
