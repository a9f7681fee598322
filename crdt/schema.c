/* Tables as SQLite describes them; see schema.h. */
#include "crdt/schema_private.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "proto/check.h"
#include "proto/limits.h"
#include "proto/mem.h"

/* Bookkeeping of migrations: replicated, it would make an application believe that it has migrated
 * (design 4.5). */
static const char *const bookkeeping[] = {
	"django_migrations",
	"schema_migrations",
	"ar_internal_metadata",
	"_prisma_migrations",
	"alembic_version",
	"__migrations__",
	"__drizzle_migrations",
	"knex_migrations",
	"knex_migrations_lock",
	"__efmigrationshistory",
	"sequelizemeta",
	"flyway_schema_history",
	"goose_db_version",
	"_sqlx_migrations",
	"refinery_schema_history",
	"diesel_schema_migrations",
	"__diesel_schema_migrations",
	"phinxlog",
	"migrations",
	"typeorm_metadata",
	"doctrine_migration_versions",
};

static const char sql_object[] = "SELECT type, wr, strict, name FROM pragma_table_list(?1)"
				 " WHERE schema = 'main' AND name = ?1 COLLATE NOCASE";
static const char sql_columns[] = "SELECT name, type, \"notnull\", pk, hidden"
				  " FROM pragma_table_xinfo(?1, 'main') ORDER BY cid";
static const char sql_key_index[] =
	"SELECT x.name, x.coll FROM pragma_index_list(?1, 'main') AS l"
	" JOIN pragma_index_xinfo(l.name, 'main') AS x WHERE l.origin = 'pk' AND x.key";
static const char sql_unique[] = "SELECT 1 FROM pragma_index_list(?1, 'main')"
				 " WHERE \"unique\" AND origin <> 'pk' LIMIT 1";
/* Virtual tables whose name, and a line, begins the name ?1. */
static const char sql_owners[] =
	"SELECT name FROM main.sqlite_schema WHERE type = 'table' AND rootpage = 0"
	" AND substr(?1, 1, length(name) + 1) = name || '_' COLLATE NOCASE";
static const char sql_names[] = "SELECT name FROM pragma_table_list WHERE schema = 'main'"
				" AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";

void p2p_table_deinit(struct p2p_table *table)
{
	uint32_t i;

	for (i = 0; i < table->column_count; i++)
		p2p_free(table->columns[i].name);
	p2p_free(table->columns);
	p2p_free(table->dropped);
	p2p_free(table->key);
	p2p_schema_foreigns_free(table);
	p2p_free(table->references);
	p2p_free(table->name);
	p2p_free(table->reason);
	memset(table, 0, sizeof(*table));
}

const char *p2p_column_no_counter(const struct p2p_column *column)
{
	if (column->flags & P2P_COLUMN_KEY)
		return "it is part of the primary key, which names the row";
	if (column->flags & P2P_COLUMN_GENERATED)
		return "it is computed from other columns";
	if (column->reference != P2P_REFERENCE_NONE || (column->flags & P2P_COLUMN_NAMED))
		return "it refers to rows of another table";
	if (column->affinity != 'D' && column->affinity != 'C')
		return "only integers add up exactly: declare it INTEGER or NUMERIC";
	return NULL;
}

int p2p_schema_error(sqlite3 *db, int rc, struct p2p_error *err, const char *name)
{
	int code = P2P_EIO;

	if (rc == SQLITE_NOMEM)
		code = P2P_ENOMEM;
	if (rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB)
		code = P2P_ECORRUPT;
	if (rc == SQLITE_BUSY || rc == SQLITE_LOCKED || rc == SQLITE_PROTOCOL)
		code = P2P_EBUSY;
	return p2p_error_set(err, code, "read the schema of %s: %s", name, sqlite3_errmsg(db));
}

static int prepare(sqlite3 *db, const char *sql, const char *name, sqlite3_stmt **out)
{
	int rc = sqlite3_prepare_v2(db, sql, -1, out, NULL);

	return rc ? rc : sqlite3_bind_text(*out, 1, name, -1, SQLITE_TRANSIENT);
}

/* SQLite's rules (datatype3.html, 3.1). */
static char affinity_of(const char *type, bool strict)
{
	if (strict && sqlite3_stricmp(type, "ANY") == 0)
		return 'A';
	if (sqlite3_strlike("%INT%", type, 0) == 0)
		return 'D';
	if (sqlite3_strlike("%CHAR%", type, 0) == 0 || sqlite3_strlike("%CLOB%", type, 0) == 0 ||
	    sqlite3_strlike("%TEXT%", type, 0) == 0)
		return 'B';
	if (!*type || sqlite3_strlike("%BLOB%", type, 0) == 0)
		return 'A';
	if (sqlite3_strlike("%REAL%", type, 0) == 0 || sqlite3_strlike("%FLOA%", type, 0) == 0 ||
	    sqlite3_strlike("%DOUB%", type, 0) == 0)
		return 'E';
	return 'C';
}

/* False: a collation of the application. */
static bool collation_of(const char *name, enum p2p_collation *out)
{
	*out = P2P_COLLATE_BINARY;
	if (!name || sqlite3_stricmp(name, "BINARY") == 0)
		return true;
	if (sqlite3_stricmp(name, "NOCASE") == 0)
		*out = P2P_COLLATE_NOCASE;
	else if (sqlite3_stricmp(name, "RTRIM") == 0)
		*out = P2P_COLLATE_RTRIM;
	else
		return false;
	return true;
}

static int table_refuse(struct p2p_table *table, const char *reason)
{
	if (table->reason)
		return 0; /* the first reason is told */
	table->reason = p2p_strdup(reason);
	table->state = P2P_TABLE_REFUSED;
	return table->reason ? 0 : P2P_ENOMEM;
}

static int column_add(sqlite3 *db, struct p2p_table *table, sqlite3_stmt *row, bool strict)
{
	struct p2p_column *grown, *column;
	const char *name = (const char *)sqlite3_column_text(row, 0);
	const char *type = (const char *)sqlite3_column_text(row, 1), *collation = NULL;
	int pk = sqlite3_column_int(row, 3);

	if (!name)
		return P2P_ENOMEM;
	if (table->column_count >= P2P_COLUMNS_MAX)
		return table_refuse(table, "it has more columns than SQLite takes by default");
	grown = p2p_realloc(table->columns, (table->column_count + 1) * sizeof(*grown));
	if (!grown)
		return P2P_ENOMEM;
	table->columns = grown;
	column = &grown[table->column_count];
	memset(column, 0, sizeof(*column));
	column->name = p2p_strdup(name);
	if (!column->name)
		return P2P_ENOMEM;
	table->column_count++;
	p2p_column_id(&column->id, &table->id, name);
	column->reference = P2P_REFERENCE_NONE;
	column->affinity = affinity_of(type ? type : "", strict);
	if (sqlite3_column_int(row, 4)) {
		column->flags |= P2P_COLUMN_GENERATED;
		column->slot = UINT32_MAX;
	}
	if (sqlite3_column_int(row, 2))
		column->flags |= P2P_COLUMN_NOT_NULL;
	if (pk) {
		column->flags |= P2P_COLUMN_KEY;
		column->key_pos = (uint32_t)pk - 1;
		table->key_count++;
	}
	if (sqlite3_table_column_metadata(db, "main", table->name, name, NULL, &collation, NULL,
					  NULL, NULL) != SQLITE_OK)
		collation = NULL;
	if (!collation_of(collation, &column->collation) && pk)
		return table_refuse(table, "its key has a collation that only the application "
					   "knows: declare the key BINARY, NOCASE or RTRIM");
	return 0;
}

static int columns_read(sqlite3 *db, struct p2p_table *table, bool strict)
{
	sqlite3_stmt *stmt = NULL;
	int rc = prepare(db, sql_columns, table->name, &stmt), result = 0;

	while (rc == SQLITE_OK && !result) {
		rc = sqlite3_step(stmt);
		if (rc != SQLITE_ROW)
			break;
		rc = SQLITE_OK;
		result = column_add(db, table, stmt, strict);
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	if (result)
		return result;
	return rc == SQLITE_DONE ? 0 : p2p_schema_error(db, rc, NULL, table->name);
}

/* The primary key's index, if it has one: without one, and with a rowid, it is the rowid itself.
 * Its collations must be the columns'. */
static int key_index_read(sqlite3 *db, struct p2p_table *table, bool *out_found)
{
	sqlite3_stmt *stmt = NULL;
	enum p2p_collation collation;
	int rc = prepare(db, sql_key_index, table->name, &stmt), result = 0;
	uint32_t i;

	*out_found = false;
	while (rc == SQLITE_OK && !result) {
		const char *name;

		rc = sqlite3_step(stmt);
		if (rc != SQLITE_ROW)
			break;
		rc = SQLITE_OK;
		*out_found = true;
		name = (const char *)sqlite3_column_text(stmt, 0);
		for (i = 0; i < table->column_count && name; i++) {
			if (sqlite3_stricmp(table->columns[i].name, name) != 0)
				continue;
			if (!collation_of((const char *)sqlite3_column_text(stmt, 1), &collation) ||
			    collation != table->columns[i].collation)
				result = table_refuse(table,
						      "its PRIMARY KEY has another collation than "
						      "the column: declare it at the column");
		}
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	if (result)
		return result;
	return rc == SQLITE_DONE ? 0 : p2p_schema_error(db, rc, NULL, table->name);
}

static int key_fill(struct p2p_table *table, bool has_index)
{
	const struct p2p_column *only;
	uint32_t i;

	if (!table->key_count)
		return table_refuse(table, "it has no PRIMARY KEY: add one (best a UUID), or leave "
					   "it out with --exclude");
	if (table->key_count > P2P_KEY_COLUMNS_MAX)
		return table_refuse(table, "its PRIMARY KEY has more than 64 columns");
	table->key = p2p_calloc(table->key_count, sizeof(*table->key));
	if (!table->key)
		return P2P_ENOMEM;
	for (i = 0; i < table->column_count; i++) {
		if (!(table->columns[i].flags & P2P_COLUMN_KEY))
			continue;
		if (table->columns[i].key_pos >= table->key_count)
			return table_refuse(table, "its PRIMARY KEY names a column twice");
		table->key[table->columns[i].key_pos] = i;
		if (table->columns[i].flags & P2P_COLUMN_GENERATED)
			return table_refuse(table, "its PRIMARY KEY is a generated column");
	}
	only = &table->columns[table->key[0]];
	table->lone_number = table->key_count == 1 && !table->without_rowid && !has_index &&
			     only->affinity == 'D';
	table->generated_identity = table->lone_number;
	return 0;
}

static int refuse_by_name(struct p2p_table *table)
{
	size_t i;

	if (sqlite3_strnicmp(table->name, "p2p_local_", 10) == 0)
		return table_refuse(table, "its name begins with p2p_local_: it stays on this "
					   "machine");
	if (sqlite3_strnicmp(table->name, "sqlite_", 7) == 0 ||
	    sqlite3_strnicmp(table->name, "p2p_", 4) == 0)
		return table_refuse(table, "its name is reserved: rename it");
	for (i = 0; i < p2p_array_len(bookkeeping); i++)
		if (sqlite3_stricmp(table->name, bookkeeping[i]) == 0)
			return table_refuse(table,
					    "it says which migrations this file has had: every "
					    "application migrates its own file");
	return 0;
}

static int refuse_by_type(struct p2p_table *table, const char *type)
{
	if (strcmp(type, "table") == 0)
		return 0;
	if (strcmp(type, "view") == 0)
		return table_refuse(table, "it is a view: the tables under it are replicated");
	if (strcmp(type, "virtual") == 0)
		return table_refuse(table, "it is a virtual table: replicate what it is made of");
	return table_refuse(table, "it belongs to a virtual table");
}

static bool module_known(sqlite3 *db, const char *name)
{
	char *sql = sqlite3_mprintf("SELECT 1 FROM main.\"%w\"", name);
	sqlite3_stmt *stmt = NULL;
	bool known = sql && sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_ERROR;

	(void)sqlite3_finalize(stmt); /* was not run */
	sqlite3_free(sql);
	return known;
}

/* SQLite knows the tables of a virtual one by its module, which may not be in this build; then the
 * name has to do. */
static int refuse_by_owner(sqlite3 *db, struct p2p_table *table)
{
	sqlite3_stmt *stmt = NULL;
	int rc = prepare(db, sql_owners, table->name, &stmt), result = 0;

	while (rc == SQLITE_OK && !result && !table->reason) {
		const char *owner;

		rc = sqlite3_step(stmt);
		if (rc != SQLITE_ROW)
			break;
		rc = SQLITE_OK;
		owner = (const char *)sqlite3_column_text(stmt, 0);
		if (owner && !module_known(db, owner))
			result = table_refuse(table, "it seems to belong to a virtual table whose "
						     "module is not known here");
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	if (result)
		return result;
	return rc == SQLITE_DONE || rc == SQLITE_OK ? 0
						    : p2p_schema_error(db, rc, NULL, table->name);
}

/* Name as declared, kind of object. */
static int object_read(sqlite3 *db, const char *name, struct p2p_table *out, bool *out_strict)
{
	sqlite3_stmt *stmt = NULL;
	int rc = prepare(db, sql_object, name, &stmt), result = 0;

	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW) {
		const char *type = (const char *)sqlite3_column_text(stmt, 0);
		const char *declared = (const char *)sqlite3_column_text(stmt, 3);

		out->name = declared ? p2p_strdup(declared) : NULL;
		out->without_rowid = sqlite3_column_int(stmt, 1) != 0;
		*out_strict = sqlite3_column_int(stmt, 2) != 0;
		result = out->name && type ? refuse_by_type(out, type) : P2P_ENOMEM;
	} else {
		result = rc == SQLITE_DONE ? P2P_ENOENT : p2p_schema_error(db, rc, NULL, name);
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return result;
}

static int unique_read(sqlite3 *db, struct p2p_table *table)
{
	sqlite3_stmt *stmt = NULL;
	int rc = prepare(db, sql_unique, table->name, &stmt);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	table->has_unique = rc == SQLITE_ROW;
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	if (rc == SQLITE_ROW || rc == SQLITE_DONE)
		return 0;
	return p2p_schema_error(db, rc, NULL, table->name);
}

/* Can rows be written here at all? An index, a generated column or a UNIQUE constraint may need a
 * function or a collation that only the application registers: merges of the table would fail for
 * ever, and those of all others with them. */
static int refuse_by_writing(sqlite3 *db, struct p2p_table *table)
{
	char *sql = sqlite3_mprintf("INSERT INTO main.\"%w\" DEFAULT VALUES", table->name);
	sqlite3_stmt *stmt = NULL;
	char reason[256];
	int rc;

	if (!sql)
		return P2P_ENOMEM;
	rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
	sqlite3_free(sql);
	(void)sqlite3_finalize(stmt);	 /* was not run */
	if ((rc & 0xff) != SQLITE_ERROR) /* a missing collation has an extended code of its own */
		return rc == SQLITE_OK ? 0 : p2p_schema_error(db, rc, NULL, table->name);
	(void)snprintf(
		reason, sizeof(reason),
		"only the application can write to it (%.100s): leave out of its indexes and "
		"generated columns what SQLite has not by itself",
		sqlite3_errmsg(db));
	return table_refuse(table, reason);
}

static int table_read(sqlite3 *db, const char *name, struct p2p_table *out)
{
	bool strict = false, has_index = false;
	int rc = object_read(db, name, out, &strict);

	if (rc)
		return rc;
	p2p_table_id(&out->id, out->name);
	rc = refuse_by_name(out);
	if (!rc)
		rc = refuse_by_owner(db, out);
	if (rc || out->state == P2P_TABLE_REFUSED)
		return rc;
	rc = columns_read(db, out, strict);
	if (!rc)
		rc = key_index_read(db, out, &has_index);
	if (!rc)
		rc = unique_read(db, out);
	if (!rc)
		rc = p2p_schema_foreigns_read(db, out);
	if (!rc)
		rc = key_fill(out, has_index);
	return rc || out->reason ? rc : refuse_by_writing(db, out);
}

int p2p_schema_read_table(sqlite3 *db, const char *name, struct p2p_table *out,
			  struct p2p_error *err)
{
	int rc;

	memset(out, 0, sizeof(*out));
	out->state = P2P_TABLE_LOCAL;
	rc = table_read(db, name, out);
	if (!rc)
		return 0;
	p2p_table_deinit(out);
	if (rc == P2P_ENOENT)
		return p2p_error_set(err, rc, "there is no table %s", name);
	return p2p_error_set(err, rc, "read the schema of %s: %s", name, p2p_strerror(rc));
}

int p2p_schema_each(sqlite3 *db, int (*each)(void *ctx, struct p2p_table *table), void *ctx,
		    struct p2p_error *err)
{
	sqlite3_stmt *stmt = NULL;
	struct p2p_table table;
	int rc = sqlite3_prepare_v2(db, sql_names, -1, &stmt, NULL), result = 0;

	while (rc == SQLITE_OK && !result) {
		const char *name;

		rc = sqlite3_step(stmt);
		if (rc != SQLITE_ROW)
			break;
		rc = SQLITE_OK;
		name = (const char *)sqlite3_column_text(stmt, 0);
		result = name ? p2p_schema_read_table(db, name, &table, err) : P2P_ENOMEM;
		if (result)
			break;
		result = each(ctx, &table);
		if (result)
			p2p_table_deinit(&table);
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	if (result)
		return result;
	return rc == SQLITE_DONE ? 0 : p2p_schema_error(db, rc, err, "the file");
}
