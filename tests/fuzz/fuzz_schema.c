/* Schemas: tables of an application that may be anything SQLite takes, and schema records of a
 * member that lie. A table that can be replicated is made elsewhere just as it is here, or refused
 * with a reason; a refused record changes nothing; one that is taken makes its table and indexes
 * and nothing else. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/schema.h"
#include "crdt/store.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "tests/fuzz/fuzz.h"

#define LEN_MAX	   800
#define INDEX_MAX  4
#define STEPS_MAX  20000
#define TABLES_MAX 16

static sqlite3 *application, *victim;

/* What an application does stays in its database and ends. */
static int authorize(void *ctx, int action, const char *a, const char *b, const char *c,
		     const char *d)
{
	(void)ctx;
	(void)a;
	(void)b;
	(void)c;
	(void)d;
	return action == SQLITE_ATTACH || action == SQLITE_DETACH || action == SQLITE_PRAGMA ||
			       action == SQLITE_TRANSACTION || action == SQLITE_SAVEPOINT
		       ? SQLITE_DENY
		       : SQLITE_OK;
}

static int too_long(void *ctx)
{
	(void)ctx;
	return 1;
}

static void run(sqlite3 *db, const char *sql)
{
	p2p_require(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK);
}

static void init(void)
{
	/* one thread, and nobody asks how much memory SQLite has: a sixth of the time */
	p2p_require(sqlite3_config(SQLITE_CONFIG_SINGLETHREAD) == SQLITE_OK);
	p2p_require(sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0) == SQLITE_OK);
	p2p_require(sqlite3_open(":memory:", &application) == SQLITE_OK);
	p2p_require(sqlite3_open(":memory:", &victim) == SQLITE_OK);
	(void)sqlite3_limit(application, SQLITE_LIMIT_LENGTH, 65536);
	(void)sqlite3_limit(application, SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 16);
	sqlite3_progress_handler(application, STEPS_MAX, too_long, NULL);
	run(victim, "CREATE TABLE other(id INTEGER PRIMARY KEY, v UNIQUE);"
		    "CREATE VIEW seen AS SELECT v FROM other; CREATE INDEX named ON other(v, id);"
		    "INSERT INTO other VALUES(1, 'a'), (2, 'b')");
}

static void deinit(void)
{
	p2p_require(sqlite3_close(application) == SQLITE_OK);
	p2p_require(sqlite3_close(victim) == SQLITE_OK);
}

/* --- the victim's schema ---------------------------------------------------------------------- */

/* What else is there than the table and what belongs to it. */
static void others(const char *table, struct p2p_hash *out)
{
	static const char sql[] =
		"SELECT type || name || tbl_name || coalesce(sql, '') FROM sqlite_schema"
		" WHERE NOT (type IN ('table', 'index') AND tbl_name = ?1)"
		" AND name <> 'sqlite_sequence' UNION ALL SELECT id || v FROM other ORDER BY 1";
	struct p2p_hasher hasher;
	sqlite3_stmt *stmt;

	p2p_hasher_init(&hasher, "fuzz", P2P_HASH_BYTES);
	p2p_require(sqlite3_prepare_v2(victim, sql, -1, &stmt, NULL) == SQLITE_OK);
	p2p_require(sqlite3_bind_text(stmt, 1, table, -1, SQLITE_STATIC) == SQLITE_OK);
	while (sqlite3_step(stmt) == SQLITE_ROW)
		p2p_hasher_add(&hasher, sqlite3_column_blob(stmt, 0),
			       (size_t)sqlite3_column_bytes(stmt, 0));
	p2p_require(sqlite3_finalize(stmt) == SQLITE_OK);
	p2p_hasher_final(&hasher, out->bytes, P2P_HASH_BYTES);
}

static int64_t count(const char *sql, const char *name)
{
	sqlite3_stmt *stmt;
	int64_t value;

	p2p_require(sqlite3_prepare_v2(victim, sql, -1, &stmt, NULL) == SQLITE_OK);
	p2p_require(sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC) == SQLITE_OK);
	p2p_require(sqlite3_step(stmt) == SQLITE_ROW);
	value = sqlite3_column_int64(stmt, 0);
	p2p_require(sqlite3_finalize(stmt) == SQLITE_OK);
	return value;
}

static const char sql_made[] = "SELECT count(*) FROM sqlite_schema WHERE tbl_name = ?1"
			       " AND sql IS NOT NULL";

/* Makes the record's table, or refuses it. The caller rolls back. */
static int create(const char *name, const struct p2p_buf *body, size_t indexes)
{
	struct p2p_hash before, after;
	struct p2p_error err = {0};
	int rc;

	others(name, &before);
	rc = p2p_schema_create(victim, body->data, body->len, &err);
	others(name, &after);
	p2p_require(p2p_hash_cmp(&before, &after) == 0);
	if (rc) {
		p2p_require(rc == P2P_EREFUSED || rc == P2P_EEXIST || rc == P2P_EPROTO);
		p2p_require(err.code == rc);
		p2p_require(err.msg[0]);
		return rc;
	}
	p2p_require(count(sql_made, name) == 1 + (int64_t)indexes);
	p2p_require(sqlite3_strnicmp(name, "p2p_", 4) != 0);
	p2p_require(sqlite3_strnicmp(name, "sqlite_", 7) != 0);
	return 0;
}

/* --- an application's tables ------------------------------------------------------------------ */

struct found {
	struct p2p_table tables[TABLES_MAX];
	size_t count;
};

static int take(void *ctx, struct p2p_table *table)
{
	struct found *found = ctx;

	if (found->count == TABLES_MAX)
		p2p_table_deinit(table);
	else
		found->tables[found->count++] = *table;
	return 0;
}

static void check_table(const struct p2p_table *table)
{
	uint32_t i;

	p2p_require(table->state == P2P_TABLE_REFUSED || table->state == P2P_TABLE_LOCAL);
	p2p_require((table->state == P2P_TABLE_REFUSED) == (table->reason != NULL));
	if (table->reason)
		return;
	p2p_require(table->key_count > 0);
	p2p_require(table->column_count >= table->key_count);
	for (i = 0; i < table->key_count; i++) {
		p2p_require(table->key[i] < table->column_count);
		p2p_require(table->columns[table->key[i]].flags & P2P_COLUMN_KEY);
		p2p_require(table->columns[table->key[i]].key_pos == i);
	}
	p2p_require(!table->generated_identity || (table->key_count == 1 && !table->without_rowid));
}

static bool same(const struct p2p_table *a, const struct p2p_table *b)
{
	uint32_t i;

	if (a->state != b->state || a->column_count != b->column_count ||
	    a->key_count != b->key_count || a->generated_identity != b->generated_identity ||
	    a->without_rowid != b->without_rowid || a->has_unique != b->has_unique ||
	    strcmp(a->name, b->name) != 0)
		return false;
	for (i = 0; i < a->column_count; i++)
		if (strcmp(a->columns[i].name, b->columns[i].name) != 0 ||
		    a->columns[i].flags != b->columns[i].flags ||
		    a->columns[i].key_pos != b->columns[i].key_pos ||
		    a->columns[i].collation != b->columns[i].collation ||
		    a->columns[i].affinity != b->columns[i].affinity)
			return false;
	return true;
}

static size_t index_count(const struct p2p_buf *body)
{
	const ProtobufCMessage *message;
	void *arena;
	size_t indexes;

	fuzz_ok(p2p_unpack(&p2p__v1__schema__descriptor, body->data, body->len, &message, &arena));
	indexes = ((const P2p__V1__Schema *)message)->n_index_sql;
	p2p_unpack_free(arena);
	return indexes;
}

/* The defaults of its columns are known without running anything but an expression. */
static void check_defaults(const struct p2p_table *table)
{
	static const char sql[] = "SELECT cid, dflt_value FROM pragma_table_xinfo(?1, 'main')"
				  " WHERE dflt_value IS NOT NULL";
	static const struct p2p_hash_key key = {{1}};
	sqlite3_stmt *stmt;
	uint64_t hash = 0;
	int column;

	p2p_require(sqlite3_prepare_v2(application, sql, -1, &stmt, NULL) == SQLITE_OK);
	p2p_require(sqlite3_bind_text(stmt, 1, table->name, -1, SQLITE_STATIC) == SQLITE_OK);
	while (sqlite3_step(stmt) == SQLITE_ROW) {
		column = sqlite3_column_int(stmt, 0);
		fuzz_ok(p2p_store_default_of((const char *)sqlite3_column_text(stmt, 1),
					     table->columns[column].affinity, &key, &hash));
		p2p_require(hash != 0);
	}
	p2p_require(sqlite3_finalize(stmt) == SQLITE_OK);
}

/* Described here, made there, described there. */
static void carry(const struct p2p_table *table)
{
	struct p2p_buf body, again;
	struct p2p_error err = {0};
	struct p2p_table made;
	int rc;

	p2p_buf_init(&body, P2P_RECORD_BODY_MAX);
	p2p_buf_init(&again, P2P_RECORD_BODY_MAX);
	fuzz_ok(p2p_schema_describe(application, table, &body, &err));
	run(victim, "BEGIN");
	rc = create(table->name, &body, index_count(&body));
	if (rc == 0) {
		fuzz_ok(p2p_schema_read_table(victim, table->name, &made, &err));
		p2p_require(same(table, &made));
		fuzz_ok(p2p_schema_describe(victim, &made, &again, &err));
		p2p_require(body.len == again.len);
		p2p_require(memcmp(body.data, again.data, body.len) == 0);
		p2p_table_deinit(&made);
		fuzz_deep();
	}
	run(victim, "ROLLBACK");
	p2p_buf_deinit(&body);
	p2p_buf_deinit(&again);
}

static void try_application(const char *sql)
{
	struct p2p_error err = {0};
	struct found found;
	size_t i;

	found.count = 0;
	run(application, "BEGIN");
	(void)sqlite3_set_authorizer(application, authorize, NULL);
	(void)sqlite3_exec(application, sql, NULL, NULL, NULL);
	(void)sqlite3_set_authorizer(application, NULL, NULL);
	sqlite3_progress_handler(application, 0, NULL, NULL);
	fuzz_ok(p2p_schema_each(application, take, &found, &err));
	for (i = 0; i < found.count; i++) {
		check_table(&found.tables[i]);
		if (!found.tables[i].reason) {
			check_defaults(&found.tables[i]);
			carry(&found.tables[i]);
		}
		p2p_table_deinit(&found.tables[i]);
	}
	sqlite3_progress_handler(application, STEPS_MAX, too_long, NULL);
	if (!sqlite3_get_autocommit(application))
		run(application, "ROLLBACK");
}

/* --- a member's record ------------------------------------------------------------------------ */

/* The columns that the text makes: who lies about them only is refused early. */
static void columns_of(const char *name, const char *sql, struct p2p_table *out)
{
	memset(out, 0, sizeof(*out));
	run(application, "BEGIN");
	(void)sqlite3_set_authorizer(application, authorize, NULL);
	(void)sqlite3_exec(application, sql, NULL, NULL, NULL);
	(void)sqlite3_set_authorizer(application, NULL, NULL);
	if (p2p_schema_read_table(application, name, out, NULL))
		memset(out, 0, sizeof(*out));
	if (!sqlite3_get_autocommit(application))
		run(application, "ROLLBACK");
}

static void pack_record(struct p2p_buf *body, uint8_t lie, const struct p2p_table *table,
			char **texts, size_t text_count)
{
	P2p__V1__Column columns[32], *list[32];
	P2p__V1__Schema out;
	struct p2p_id id;
	char empty[] = "";
	size_t i, used = table->column_count < 32 ? table->column_count : 32;

	p2p__v1__schema__init(&out);
	for (i = 0; i < used; i++) {
		p2p__v1__column__init(&columns[i]);
		columns[i].id = p2p_field(table->columns[i].id.bytes, P2P_ID_BYTES);
		columns[i].name = table->columns[i].name;
		columns[i].flags = table->columns[i].flags ^ (lie == 1 ? 1u : 0u);
		list[i] = &columns[i];
	}
	if (!used) {
		p2p__v1__column__init(&columns[0]);
		list[0] = &columns[0];
		used = 1;
	}
	p2p_table_id(&id, texts[0]);
	out.format = 1;
	out.table = p2p_field(id.bytes, P2P_ID_BYTES - (lie == 2));
	out.name = texts[0];
	out.identity = table->generated_identity;
	out.columns = list;
	out.n_columns = lie == 3 ? 0 : used;
	out.create_sql = text_count > 1 ? texts[1] : empty;
	out.index_sql = texts + 2;
	out.n_index_sql = text_count > 2 ? text_count - 2 : 0;
	fuzz_ok(p2p_pack(body, &out.base));
}

/* Lines: the name, the text of the table, texts of indexes. */
static void try_record(uint8_t lie, char *text)
{
	char *texts[2 + INDEX_MAX] = {text};
	struct p2p_table table;
	struct p2p_buf body;
	size_t used = 1;
	char *at;

	for (at = text; *at; at++)
		if (*at == '\n' && used < p2p_array_len(texts)) {
			*at = 0;
			texts[used++] = at + 1;
		}
	columns_of(texts[0], used > 1 ? texts[1] : "", &table);
	p2p_buf_init(&body, P2P_RECORD_BODY_MAX);
	pack_record(&body, lie, &table, texts, used);
	run(victim, "BEGIN");
	if (create(texts[0], &body, used > 2 ? used - 2 : 0) == 0) {
		p2p_require(lie == 0 || lie > 3);
		fuzz_deep();
	}
	run(victim, "ROLLBACK");
	p2p_buf_deinit(&body);
	p2p_table_deinit(&table);
}

static void one(const uint8_t *data, size_t len)
{
	char text[LEN_MAX + 1];

	if (!len)
		return;
	memcpy(text, data + 1, len - 1);
	text[len - 1] = 0;
	if (data[0] & 1)
		try_record(data[0] >> 1, text);
	else
		try_application(text);
}

static void seed(const char *name, uint8_t form, const char *text)
{
	uint8_t input[LEN_MAX];

	input[0] = form;
	memcpy(input + 1, text, strlen(text));
	fuzz_seed(name, input, 1 + strlen(text));
}

static void seeds(void)
{
	seed("lone", 0, "CREATE TABLE a(id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT DEFAULT 'x')");
	seed("keys", 0,
	     "CREATE TABLE a(k TEXT COLLATE NOCASE, n INT, v, PRIMARY KEY(n, k))"
	     " WITHOUT ROWID; CREATE UNIQUE INDEX i ON a(v) WHERE v > 1");
	seed("generated", 0,
	     "CREATE TABLE a(k BLOB PRIMARY KEY, b INT AS (length(k)) STORED,"
	     " c AS (b + 1), CHECK(abs(b) < 9)) STRICT");
	seed("strict", 0,
	     "CREATE TABLE a(k ANY PRIMARY KEY, v REAL NOT NULL, b BLOB) STRICT;"
	     "CREATE INDEX j ON a(lower(v), b DESC)");
	seed("names", 0,
	     "CREATE TABLE \"a b\"\"c\"([x y] PRIMARY KEY, `select` DEFAULT (random()))");
	seed("references", 0,
	     "CREATE TABLE p(id INTEGER PRIMARY KEY);CREATE TABLE c(k PRIMARY KEY,"
	     " p REFERENCES p(id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED)");
	seed("quoted_type", 0,
	     "CREATE TABLE a(k PRIMARY KEY, v \"x); ATTACH 'f' AS f; --\" DEFAULT 1,"
	     " w DEFAULT (1 --\n), x DEFAULT (randomblob(999999999)))");
	seed("no_key", 0,
	     "CREATE TABLE a(v); CREATE VIEW s AS SELECT * FROM a;"
	     "CREATE TABLE sqlitex(k PRIMARY KEY)");
	seed("virtual", 0, "CREATE VIRTUAL TABLE f USING fts5(a); CREATE TABLE f_x(k PRIMARY KEY)");
	seed("alter", 0,
	     "CREATE TABLE a(k PRIMARY KEY, v); ALTER TABLE a ADD COLUMN w DEFAULT 3;"
	     "ALTER TABLE a RENAME COLUMN v TO vv; ALTER TABLE a DROP COLUMN w");
	seed("temp_namesake", 0,
	     "CREATE TABLE a(k PRIMARY KEY, v DEFAULT 1);"
	     "CREATE TEMP TABLE a(k PRIMARY KEY, v, w, x DEFAULT 2)");
	seed("record", 1,
	     "a\nCREATE TABLE a(k PRIMARY KEY, v DEFAULT (hex(1)))\n"
	     "CREATE INDEX i ON a(v)");
	seed("record_lies", 3, "a\nCREATE TABLE a(k PRIMARY KEY)");
	seed("record_two", 1, "a\nCREATE TABLE a(k PRIMARY KEY); DROP TABLE other");
	seed("record_other", 1, "a\nCREATE TABLE a(k PRIMARY KEY)\nCREATE INDEX i ON other(v)");
	seed("record_trigger", 1,
	     "a\nCREATE TABLE a(k PRIMARY KEY)\n"
	     "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM other; END");
	seed("record_function", 1,
	     "a\nCREATE TABLE a(k PRIMARY KEY, v DEFAULT (load_extension('x')))");
	seed("record_taken", 1, "other\nCREATE TABLE other(k PRIMARY KEY)");
	seed("record_reserved", 1, "p2p_x\nCREATE TABLE p2p_x(k PRIMARY KEY)");
	seed("record_select", 1, "a\nCREATE TABLE a AS SELECT * FROM other");
	seed("record_temp", 1, "a\nCREATE TEMP TABLE a(k PRIMARY KEY)");
	seed("record_named", 1, "a\nCREATE TABLE a(k PRIMARY KEY)\nCREATE INDEX named ON a(k)");
}

const struct fuzz_target fuzz_target = {.name = "schema",
					.len_max = LEN_MAX,
					.memory_max = 1024 * 1024,
					.cpu_ms_max = 500,
					.init = init,
					.deinit = deinit,
					.one = one,
					.seeds = seeds};
