/* Schema records: a table's CREATE texts out of one file and, checked, into another; see schema.h.
 *
 * A text of a peer is tried in an empty in-memory database first, where an authorizer allows the
 * one table and its indexes and nothing else. What SQLite then says of the table is the judge: the
 * text must be in sqlite_schema byte for byte, and the columns must be those of the record. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/schema.h"
#include "proto/check.h"
#include "proto/limits.h"
#include "proto/mem.h"
#include "proto/message.h"

/* Deterministic built-ins, and what applications use in DEFAULTs: times and random bytes. SQLite
 * itself forbids those in indexes and generated columns, and nothing here reaches out of the
 * database. */
static const char *const functions[] = {
	"->",
	"->>",
	"abs",
	"acos",
	"asin",
	"atan",
	"atan2",
	"ceil",
	"ceiling",
	"char",
	"coalesce",
	"concat",
	"concat_ws",
	"cos",
	"current_date",
	"current_time",
	"current_timestamp",
	"date",
	"datetime",
	"degrees",
	"exp",
	"floor",
	"format",
	"glob",
	"hex",
	"ifnull",
	"iif",
	"instr",
	"json",
	"json_array",
	"json_array_length",
	"json_error_position",
	"json_extract",
	"json_insert",
	"json_object",
	"json_patch",
	"json_quote",
	"json_remove",
	"json_replace",
	"json_set",
	"json_type",
	"json_valid",
	"julianday",
	"length",
	"like",
	"likelihood",
	"likely",
	"ln",
	"log",
	"log10",
	"log2",
	"lower",
	"ltrim",
	"max",
	"min",
	"mod",
	"nullif",
	"octet_length",
	"pi",
	"pow",
	"power",
	"printf",
	"quote",
	"radians",
	"random",
	"randomblob",
	"replace",
	"round",
	"rtrim",
	"sign",
	"sin",
	"soundex",
	"sqrt",
	"strftime",
	"substr",
	"substring",
	"tan",
	"time",
	"timediff",
	"trim",
	"trunc",
	"typeof",
	"unhex",
	"unicode",
	"unixepoch",
	"unlikely",
	"upper",
	"zeroblob",
};

static const char sql_table_text[] = "SELECT sql FROM main.sqlite_schema"
				     " WHERE type = 'table' AND name = ?1";
static const char sql_index_texts[] = "SELECT sql FROM main.sqlite_schema WHERE type = 'index'"
				      " AND tbl_name = ?1 AND sql IS NOT NULL ORDER BY name";
static const char sql_taken[] = "SELECT type FROM main.sqlite_schema WHERE name = ?1 COLLATE NOCASE"
				" AND type IN ('table', 'view', 'index')";
static const char sql_objects[] = "SELECT count(*) FROM main.sqlite_schema"
				  " WHERE sql IS NOT NULL AND name <> 'sqlite_sequence'";
static const char sql_has_text[] =
	"SELECT 1 FROM main.sqlite_schema WHERE type = ?2 AND tbl_name = ?3 AND sql = ?1"
	" AND name NOT LIKE 'p2p\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
static const char sql_defaults[] = "SELECT dflt_value FROM pragma_table_xinfo(?1, 'main')"
				   " WHERE dflt_value IS NOT NULL";

static int sql_error(sqlite3 *db, int rc, struct p2p_error *err, const char *what)
{
	int code = P2P_EIO;

	switch (rc & 0xff) {
	case SQLITE_NOMEM:
		code = P2P_ENOMEM;
		break;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		code = P2P_ECORRUPT;
		break;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_PROTOCOL: /* others took the locks of the WAL all the time */
		code = P2P_EBUSY;
		break;
	case SQLITE_FULL:
		code = P2P_EFULL;
		break;
	case SQLITE_READONLY:
		code = P2P_EREADONLY;
		break;
	default:
		break;
	}
	return p2p_error_set(err, code, "%s: %s", what, sqlite3_errmsg(db));
}

static int prepare(sqlite3 *db, const char *sql, const char *name, sqlite3_stmt **out)
{
	int rc = sqlite3_prepare_v2(db, sql, -1, out, NULL);

	return rc ? rc : sqlite3_bind_text(*out, 1, name, -1, SQLITE_STATIC);
}

/* --- out -------------------------------------------------------------------------------------- */

/* Texts of a query. */
struct texts {
	char **items; /* owned, and what they point to */
	size_t count;
};

static void texts_deinit(struct texts *texts)
{
	size_t i;

	for (i = 0; i < texts->count; i++)
		p2p_free(texts->items[i]);
	p2p_free(texts->items);
}

static int texts_add(struct texts *texts, const char *text)
{
	char **grown = p2p_realloc(texts->items, (texts->count + 1) * sizeof(*grown));

	if (!grown)
		return P2P_ENOMEM;
	texts->items = grown;
	grown[texts->count] = text ? p2p_strdup(text) : NULL;
	if (!grown[texts->count])
		return P2P_ENOMEM;
	texts->count++;
	return 0;
}

static int texts_read(sqlite3 *db, const char *sql, const char *name, struct texts *out)
{
	sqlite3_stmt *stmt = NULL;
	int rc = prepare(db, sql, name, &stmt), result = 0;

	while (rc == SQLITE_OK && !result) {
		rc = sqlite3_step(stmt);
		if (rc != SQLITE_ROW)
			break;
		rc = SQLITE_OK;
		result = texts_add(out, (const char *)sqlite3_column_text(stmt, 0));
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	if (!result && rc != SQLITE_DONE)
		result = sql_error(db, rc, NULL, "read");
	return result;
}

static int body_pack(const struct p2p_table *table, const struct texts *create,
		     const struct texts *indexes, struct p2p_buf *out)
{
	P2p__V1__Schema body;
	P2p__V1__Column *columns = p2p_calloc(table->column_count, sizeof(*columns));
	P2p__V1__Column **list = p2p_calloc(table->column_count, sizeof(*list));
	uint32_t i;
	int rc = P2P_ENOMEM;

	p2p__v1__schema__init(&body);
	if (columns && list) {
		for (i = 0; i < table->column_count; i++) {
			p2p__v1__column__init(&columns[i]);
			columns[i].id = p2p_field(table->columns[i].id.bytes, P2P_ID_BYTES);
			columns[i].name = table->columns[i].name;
			columns[i].flags = table->columns[i].flags;
			if (table->columns[i].reference != P2P_REFERENCE_NONE)
				columns[i].reference = p2p_field(
					table->references[table->columns[i].reference].parent.bytes,
					P2P_ID_BYTES);
			else if (table->columns[i].flags & P2P_COLUMN_NAMED)
				columns[i].reference =
					p2p_field(table->columns[i].named.bytes, P2P_ID_BYTES);
			list[i] = &columns[i];
		}
		body.format = P2P_FORMAT;
		body.table = p2p_field(table->id.bytes, P2P_ID_BYTES);
		body.name = table->name;
		body.identity = table->generated_identity;
		body.columns = list;
		body.n_columns = table->column_count;
		body.create_sql = create->items[0];
		body.index_sql = indexes->items;
		body.n_index_sql = indexes->count;
		rc = p2p_pack(out, &body.base);
	}
	p2p_free(list);
	p2p_free(columns);
	return rc;
}

int p2p_schema_describe(sqlite3 *db, const struct p2p_table *table, struct p2p_buf *out_body,
			struct p2p_error *err)
{
	struct texts create = {NULL, 0}, indexes = {NULL, 0};
	int rc = texts_read(db, sql_table_text, table->name, &create);

	p2p_require(table->column_count > 0);
	if (!rc && !create.count)
		rc = P2P_ENOENT;
	if (!rc)
		rc = texts_read(db, sql_index_texts, table->name, &indexes);
	if (!rc)
		rc = body_pack(table, &create, &indexes, out_body);
	texts_deinit(&create);
	texts_deinit(&indexes);
	return rc ? p2p_error_set(err, rc, "describe table %s: %s", table->name, p2p_strerror(rc))
		  : 0;
}

/* --- in: the trial ---------------------------------------------------------------------------- */

/* What the authorizer allows, and why it refused. */
struct trial {
	sqlite3 *db; /* owned: in memory */
	const P2p__V1__Schema *body;
	struct p2p_error *err;
	bool defaults; /* the expressions of DEFAULTs are looked at */
	char refused[80];
};

static bool function_allowed(const char *name)
{
	size_t i;

	for (i = 0; i < p2p_array_len(functions); i++)
		if (sqlite3_stricmp(functions[i], name) == 0)
			return true;
	return false;
}

static bool action_allowed(const struct trial *trial, int action, const char *a, const char *b)
{
	const char *name = trial->body->name;

	switch (action) {
	case SQLITE_CREATE_TABLE: /* AUTOINCREMENT makes the other one */
		return strcmp(a, name) == 0 || strcmp(a, "sqlite_sequence") == 0;
	case SQLITE_CREATE_INDEX:
		return strcmp(b, name) == 0;
	case SQLITE_INSERT: /* the second: prepared, never run */
	case SQLITE_UPDATE:
	case SQLITE_READ:
		return strcmp(a, "sqlite_master") == 0 || strcmp(a, "sqlite_schema") == 0 ||
		       strcmp(a, "sqlite_sequence") == 0 || strcmp(a, name) == 0;
	case SQLITE_REINDEX:
		return true;
	case SQLITE_SELECT:
		return trial->defaults;
	case SQLITE_FUNCTION:
		return function_allowed(b);
	default:
		return false;
	}
}

static int authorize(void *ctx, int action, const char *a, const char *b, const char *database,
		     const char *within)
{
	struct trial *trial = ctx;

	(void)database;
	(void)within;
	a = a ? a : "";
	b = b ? b : "";
	if (action_allowed(trial, action, a, b))
		return SQLITE_OK;
	if (action == SQLITE_FUNCTION)
		(void)sqlite3_snprintf(sizeof(trial->refused), trial->refused,
				       "it uses the function %.40s()", b);
	else
		(void)sqlite3_snprintf(sizeof(trial->refused), trial->refused,
				       "its text does more than create table and indexes");
	return SQLITE_DENY;
}

static int trial_refuse(struct trial *trial, const char *reason)
{
	return p2p_error_set(trial->err, P2P_EREFUSED, "table %.64s of the mesh is refused: %s",
			     trial->body->name, reason);
}

static int trial_failed(struct trial *trial, int rc)
{
	if (rc == SQLITE_NOMEM)
		return P2P_ENOMEM;
	return trial_refuse(trial, trial->refused[0] ? trial->refused : sqlite3_errmsg(trial->db));
}

/* One statement, whole. */
static int trial_run(struct trial *trial, const char *sql)
{
	sqlite3_stmt *stmt = NULL;
	const char *tail = NULL;
	int rc = sqlite3_prepare_v2(trial->db, sql, -1, &stmt, &tail);

	if (rc == SQLITE_OK && (!stmt || !tail || *tail)) {
		(void)sqlite3_finalize(stmt); /* was not run */
		return trial_refuse(trial, "a text of it is not one statement");
	}
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	rc = rc == SQLITE_DONE ? 0 : trial_failed(trial, rc);
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc;
}

/* sqlite_schema holds the text as it was sent. */
static int trial_has(struct trial *trial, const char *type, const char *sql)
{
	sqlite3_stmt *stmt = NULL;
	int rc = prepare(trial->db, sql_has_text, sql, &stmt);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 2, type, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 3, trial->body->name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	if (rc == SQLITE_ROW)
		return 0;
	return rc == SQLITE_DONE ? trial_refuse(trial, "its text or a name in it is not allowed")
				 : trial_failed(trial, rc);
}

static int trial_count(struct trial *trial)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(trial->db, sql_objects, -1, &stmt, NULL);
	bool right = false;

	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		right = sqlite3_column_int64(stmt, 0) == (int64_t)trial->body->n_index_sql + 1;
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	if (rc != SQLITE_ROW)
		return trial_failed(trial, rc);
	return right ? 0 : trial_refuse(trial, "its text makes other things than it says");
}

/* Prepares, never runs: is everything in it allowed? */
static int trial_prepare(struct trial *trial, const char *format, const char *text, int *out_rc)
{
	sqlite3_stmt *stmt = NULL;
	char *sql = sqlite3_mprintf(format, text);

	if (!sql)
		return P2P_ENOMEM;
	*out_rc = sqlite3_prepare_v2(trial->db, sql, -1, &stmt, NULL);
	(void)sqlite3_finalize(stmt); /* was not run */
	sqlite3_free(sql);
	return *out_rc == SQLITE_NOMEM ? P2P_ENOMEM : 0;
}

/* SQLite looks at the functions of DEFAULTs only when a row is inserted. */
static int trial_defaults(struct trial *trial)
{
	struct texts defaults = {NULL, 0};
	size_t i;
	int rc, sqlite_rc = SQLITE_OK;

	(void)sqlite3_set_authorizer(trial->db, NULL, NULL); /* always SQLITE_OK */
	rc = texts_read(trial->db, sql_defaults, trial->body->name, &defaults);
	(void)sqlite3_set_authorizer(trial->db, authorize, trial);
	trial->defaults = true;
	for (i = 0; i < defaults.count && !rc; i++) {
		rc = trial_prepare(trial, "SELECT (%s\n)", defaults.items[i], &sqlite_rc);
		/* a word that is no column is a text there: only the authorizer counts */
		if (!rc && sqlite_rc == SQLITE_AUTH)
			rc = trial_failed(trial, sqlite_rc);
	}
	texts_deinit(&defaults);
	if (!rc)
		rc = trial_prepare(trial, "INSERT INTO main.\"%w\" DEFAULT VALUES",
				   trial->body->name, &sqlite_rc);
	if (!rc && sqlite_rc != SQLITE_OK)
		rc = trial_failed(trial, sqlite_rc);
	return rc;
}

#define RECORD_FLAGS (P2P_COLUMN_KEY | P2P_COLUMN_GENERATED | P2P_COLUMN_NOT_NULL)

/* The record says of the table what SQLite says. */
static int trial_columns(struct trial *trial)
{
	const P2p__V1__Schema *body = trial->body;
	struct p2p_table table;
	uint32_t i;
	int rc = p2p_schema_read_table(trial->db, body->name, &table, trial->err);
	bool same;

	if (rc)
		return rc;
	if (table.state == P2P_TABLE_REFUSED) {
		rc = trial_refuse(trial, table.reason);
		p2p_table_deinit(&table);
		return rc;
	}
	/* of a lone INTEGER PRIMARY KEY that is a reference the rows are named by their parents */
	same = table.column_count == body->n_columns &&
	       (body->identity == (table.generated_identity ? 1u : 0u) ||
		(table.lone_number && !body->identity &&
		 body->columns[table.key[0]]->reference.len));
	for (i = 0; i < table.column_count && same; i++)
		same = strcmp(table.columns[i].name, body->columns[i]->name) == 0 &&
		       (table.columns[i].flags & RECORD_FLAGS) ==
			       (body->columns[i]->flags & RECORD_FLAGS);
	p2p_table_deinit(&table);
	return same ? 0 : trial_refuse(trial, "its columns are not those that its text makes");
}

static int trial_texts(struct trial *trial)
{
	const P2p__V1__Schema *body = trial->body;
	size_t i;
	int rc = trial_run(trial, body->create_sql);

	for (i = 0; i < body->n_index_sql && !rc; i++)
		rc = trial_run(trial, body->index_sql[i]);
	if (!rc)
		rc = trial_defaults(trial);
	(void)sqlite3_set_authorizer(trial->db, NULL, NULL); /* always SQLITE_OK */
	if (!rc)
		rc = trial_has(trial, "table", body->create_sql);
	for (i = 0; i < body->n_index_sql && !rc; i++)
		rc = trial_has(trial, "index", body->index_sql[i]);
	if (!rc)
		rc = trial_count(trial);
	return rc ? rc : trial_columns(trial);
}

static int schema_try(const P2p__V1__Schema *body, struct p2p_error *err)
{
	struct trial trial;
	int rc;

	memset(&trial, 0, sizeof(trial));
	trial.body = body;
	trial.err = err;
	if (sqlite3_open_v2(":memory:", &trial.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_MEMORY,
			    NULL) != SQLITE_OK ||
	    /* as in the store; what may be called is the authorizer's business */
	    sqlite3_db_config(trial.db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 1, NULL) != SQLITE_OK ||
	    sqlite3_db_config(trial.db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL) != SQLITE_OK ||
	    sqlite3_set_authorizer(trial.db, authorize, &trial) != SQLITE_OK)
		rc = P2P_ENOMEM;
	else
		rc = trial_texts(&trial);
	(void)sqlite3_close_v2(trial.db);
	return rc == P2P_ENOMEM ? p2p_error_set(err, rc, "try a schema: out of memory") : rc;
}

/* --- in: the real thing ----------------------------------------------------------------------- */

static int name_free(sqlite3 *db, const char *name, struct p2p_error *err)
{
	sqlite3_stmt *stmt = NULL;
	int rc = prepare(db, sql_taken, name, &stmt), result = 0;

	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW) {
		const char *type = (const char *)sqlite3_column_text(stmt, 0);

		if (type && strcmp(type, "table") == 0)
			result = p2p_error_set(err, P2P_EEXIST, "table %s is there already", name);
		else
			result = p2p_error_set(err, P2P_EREFUSED,
					       "table %s cannot be made: %s of this file has its "
					       "name: rename or drop it",
					       name, type ? type : "an object");
	} else if (rc != SQLITE_DONE) {
		result = sql_error(db, rc, err, "read the schema");
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return result;
}

static int texts_run(sqlite3 *db, const P2p__V1__Schema *body, struct p2p_error *err)
{
	size_t i;
	int rc = sqlite3_exec(db, body->create_sql, NULL, NULL, NULL);

	for (i = 0; i < body->n_index_sql && rc == SQLITE_OK; i++)
		rc = sqlite3_exec(db, body->index_sql[i], NULL, NULL, NULL);
	if (rc == SQLITE_ERROR) /* an index of that name, as a rule */
		return p2p_error_set(err, P2P_EREFUSED, "table %s cannot be made here: %s",
				     body->name, sqlite3_errmsg(db));
	return rc == SQLITE_OK ? 0 : sql_error(db, rc, err, "make a table");
}

static int schema_make(sqlite3 *db, const P2p__V1__Schema *body, struct p2p_error *err)
{
	int rc = sqlite3_exec(db, "SAVEPOINT p2p_schema", NULL, NULL, NULL), result;

	if (rc != SQLITE_OK)
		return sql_error(db, rc, err, "make a table");
	result = texts_run(db, body, err);
	if (result) /* SQLite may have rolled everything back by itself; then this does nothing */
		(void)sqlite3_exec(db, "ROLLBACK TO p2p_schema", NULL, NULL, NULL);
	rc = sqlite3_exec(db, "RELEASE p2p_schema", NULL, NULL, NULL);
	if (!result && rc != SQLITE_OK)
		result = sql_error(db, rc, err, "make a table");
	return result;
}

static int body_check(const P2p__V1__Schema *body, struct p2p_error *err)
{
	struct p2p_id id;

	if (!body->name || !*body->name || !body->create_sql || p2p_field_id(&id, &body->table) ||
	    !body->n_columns || body->n_columns > P2P_COLUMNS_MAX)
		return p2p_error_set(err, P2P_EPROTO, "a schema record is malformed");
	return 0;
}

/* Unpacked, and well formed; p2p_unpack_free(*out_arena) also after an error. */
static int body_unpack(const void *body, size_t len, const P2p__V1__Schema **out, void **out_arena,
		       struct p2p_error *err)
{
	const ProtobufCMessage *message;
	int rc;

	*out_arena = NULL;
	if (len > P2P_RECORD_BODY_MAX)
		return p2p_error_set(err, P2P_ETOOBIG, "a schema record is too long");
	rc = p2p_unpack(&p2p__v1__schema__descriptor, body, len, &message, out_arena);
	if (rc)
		return p2p_error_set(err, rc, "read a schema record: %s", p2p_strerror(rc));
	*out = (const P2p__V1__Schema *)message;
	return body_check(*out, err);
}

int p2p_schema_check(const void *body, size_t len, struct p2p_error *err)
{
	const P2p__V1__Schema *schema = NULL;
	void *arena;
	int rc = body_unpack(body, len, &schema, &arena, err);

	if (!rc)
		rc = schema_try(schema, err);
	p2p_unpack_free(arena);
	return rc;
}

int p2p_schema_create(sqlite3 *db, const void *body, size_t len, struct p2p_error *err)
{
	const P2p__V1__Schema *schema = NULL;
	void *arena;
	int rc = body_unpack(body, len, &schema, &arena, err);

	if (!rc)
		rc = name_free(db, schema->name, err);
	if (!rc)
		rc = schema_try(schema, err);
	if (!rc)
		rc = schema_make(db, schema, err);
	p2p_unpack_free(arena);
	return rc;
}
