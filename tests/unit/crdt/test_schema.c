/* Tables as SQLite describes them: what can be replicated and what not, with the reason; schema
 * records make the same table elsewhere and nothing but it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
// cmocka needs the first four
#include <cmocka.h>

#include "crdt/schema.h"
#include "proto/check.h"
#include "proto/limits.h"
#include "proto/message.h"

static const char torture[] =
	"CREATE TABLE lone(id INTEGER PRIMARY KEY, v);"
	"CREATE TABLE auto(id integer PRIMARY KEY AUTOINCREMENT, v TEXT DEFAULT (hex(randomblob(4))),"
	" at DEFAULT CURRENT_TIMESTAMP, plain DEFAULT word);"
	"CREATE TABLE lone_late(v, id INTEGER, PRIMARY KEY(id));"
	"CREATE TABLE desc_key(id INTEGER PRIMARY KEY DESC, v);"
	"CREATE TABLE int_key(id INT PRIMARY KEY, v);"
	"CREATE TABLE no_rowid(id INTEGER PRIMARY KEY, v) WITHOUT ROWID;"
	"CREATE TABLE strict_lone(id INTEGER PRIMARY KEY, v ANY) STRICT;"
	"CREATE TABLE pair(b TEXT COLLATE NOCASE, v, a TEXT COLLATE RTRIM NOT NULL,"
	" PRIMARY KEY(a, b)) WITHOUT ROWID;"
	"CREATE TABLE \"weird name/with.dots\"\"q\"(\" id \" TEXT PRIMARY KEY, \"\"\"\" INT, [a b] REAL,"
	" `select` NUMERIC);"
	"CREATE TABLE generated(k BLOB PRIMARY KEY, a INT CHECK(a > 0 AND abs(a) < 9), b INT AS (a * 2),"
	" c TEXT AS (upper(k)) STORED UNIQUE);"
	"CREATE INDEX \"an index\" ON generated(a COLLATE BINARY DESC) WHERE a IS NOT NULL;"
	"CREATE UNIQUE INDEX on_expression ON generated(lower(k), a);"
	"CREATE TABLE document(k TEXT PRIMARY KEY, j, title AS (j ->> '$.title'));"
	"CREATE INDEX by_author ON document(json_extract(j, '$.author')) WHERE json_valid(j);"
	"CREATE TABLE nokey(a);"
	"CREATE TABLE twice(a, b, PRIMARY KEY(a, a, b));"
	"CREATE TABLE django_migrations(id INTEGER PRIMARY KEY);"
	"CREATE TABLE p2p_local_cache(id INTEGER PRIMARY KEY);"
	"CREATE TABLE p2p_thing(id INTEGER PRIMARY KEY);"
	"CREATE TABLE other_collation(k TEXT, PRIMARY KEY(k COLLATE NOCASE));"
	"CREATE VIEW a_view AS SELECT * FROM lone;"
	"CREATE VIRTUAL TABLE search USING fts5(a);"
	"CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1);";

static sqlite3 *open_torture(void)
{
	sqlite3 *db;
	char *text = NULL;

	assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
	if (sqlite3_exec(db, torture, NULL, NULL, &text) != SQLITE_OK)
		fail_msg("%s", text);
	return db;
}

static void read_table(sqlite3 *db, const char *name, struct p2p_table *out)
{
	struct p2p_error err = {0};

	if (p2p_schema_read_table(db, name, out, &err))
		fail_msg("%s", err.msg);
}

static void a_lone_integer_primary_key_is_told_from_its_look_alikes(void **state)
{
	static const struct {
		const char *name;
		bool generated, without_rowid;
	} cases[] = {
		{"lone", true, false},	      {"AUTO", true, false},	 {"lone_late", true, false},
		{"desc_key", false, false},   {"int_key", false, false}, {"no_rowid", false, true},
		{"strict_lone", true, false}, {"pair", false, true},
	};
	sqlite3 *db = open_torture();
	struct p2p_table table;
	size_t i;

	(void)state;
	for (i = 0; i < p2p_array_len(cases); i++) {
		read_table(db, cases[i].name, &table);
		assert_int_equal(table.state, P2P_TABLE_LOCAL);
		if (table.generated_identity != cases[i].generated ||
		    table.without_rowid != cases[i].without_rowid)
			fail_msg("%s", cases[i].name);
		p2p_table_deinit(&table);
	}
	(void)sqlite3_close(db);
}

static void keys_columns_and_collations_are_as_declared(void **state)
{
	sqlite3 *db = open_torture();
	struct p2p_table table;
	struct p2p_id id;

	(void)state;
	read_table(db, "PAIR", &table);
	assert_string_equal(table.name, "pair");
	assert_int_equal(table.key_count, 2);
	assert_int_equal(table.key[0], 2);
	assert_int_equal(table.key[1], 0);
	assert_int_equal(table.columns[0].collation, P2P_COLLATE_NOCASE);
	assert_int_equal(table.columns[2].collation, P2P_COLLATE_RTRIM);
	assert_int_equal(table.columns[2].flags, P2P_COLUMN_KEY | P2P_COLUMN_NOT_NULL);
	assert_int_equal(table.columns[0].affinity, 'B');
	p2p_table_id(&id, "pair");
	assert_memory_equal(table.id.bytes, id.bytes, P2P_ID_BYTES);
	p2p_table_deinit(&table);

	read_table(db, "weird name/with.dots\"q", &table);
	assert_string_equal(table.columns[0].name, " id ");
	assert_string_equal(table.columns[1].name, "\"");
	assert_int_equal(table.columns[1].affinity, 'D');
	assert_int_equal(table.columns[2].affinity, 'E');
	assert_int_equal(table.columns[3].affinity, 'C');
	p2p_table_deinit(&table);

	read_table(db, "generated", &table);
	assert_int_equal(table.column_count, 4);
	assert_int_equal(table.columns[2].flags, P2P_COLUMN_GENERATED);
	assert_int_equal(table.columns[3].flags, P2P_COLUMN_GENERATED);
	assert_true(table.columns[3].slot == UINT32_MAX);
	p2p_table_deinit(&table);
	(void)sqlite3_close(db);
}

static void what_cannot_be_replicated_is_refused_with_its_reason(void **state)
{
	static const struct {
		const char *name, *reason;
	} cases[] = {
		{"nokey", "no PRIMARY KEY"},
		{"twice", "twice"},
		{"django_migrations", "migrat"},
		{"p2p_local_cache", "stays on this machine"},
		{"p2p_thing", "reserved"},
		{"other_collation", "another collation"},
		{"a_view", "view"},
		{"search", "virtual table"},
		{"search_content", "belongs to a virtual table"},
		{"boxes", "virtual table"},
		{"boxes_node", "belongs to a virtual table"},
	};
	sqlite3 *db = open_torture();
	struct p2p_table table;
	size_t i;

	(void)state;
	for (i = 0; i < p2p_array_len(cases); i++) {
		read_table(db, cases[i].name, &table);
		assert_int_equal(table.state, P2P_TABLE_REFUSED);
		if (!strstr(table.reason, cases[i].reason))
			fail_msg("%s: %s", cases[i].name, table.reason);
		p2p_table_deinit(&table);
	}
	assert_int_equal(p2p_schema_read_table(db, "missing", &table, NULL), P2P_ENOENT);
	(void)sqlite3_close(db);
}

static int by_length(void *ctx, int a_len, const void *a, int b_len, const void *b)
{
	(void)ctx;
	(void)a;
	(void)b;
	return a_len - b_len;
}

static void a_key_with_a_collation_of_the_application_is_refused(void **state)
{
	struct p2p_table table;
	sqlite3 *db;

	(void)state;
	assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
	assert_int_equal(sqlite3_create_collation(db, "own", SQLITE_UTF8, NULL, by_length),
			 SQLITE_OK);
	assert_int_equal(sqlite3_exec(db,
				      "CREATE TABLE t(k TEXT COLLATE own PRIMARY KEY);"
				      "CREATE TABLE u(k TEXT PRIMARY KEY, v TEXT COLLATE own)",
				      NULL, NULL, NULL),
			 SQLITE_OK);
	read_table(db, "t", &table);
	assert_int_equal(table.state, P2P_TABLE_REFUSED);
	assert_non_null(strstr(table.reason, "only the application"));
	p2p_table_deinit(&table);
	read_table(db, "u", &table);
	assert_int_equal(table.state, P2P_TABLE_LOCAL);
	p2p_table_deinit(&table);
	(void)sqlite3_close(db);
}

static void own_function(sqlite3_context *context, int count, sqlite3_value **values)
{
	(void)count;
	sqlite3_result_value(context, values[0]);
}

/* Merging into it would fail, again and again, and everything else would wait behind it. */
static void what_only_the_application_can_write_to_is_refused(void **state)
{
	static const char *const names[] = {"i", "p", "g", "u", "plain", "c"};
	struct p2p_table table;
	sqlite3 *db;
	size_t n;

	(void)state;
	assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
	assert_int_equal(sqlite3_create_collation(db, "own", SQLITE_UTF8, NULL, by_length), 0);
	assert_int_equal(sqlite3_create_function(db, "own", 1, SQLITE_UTF8 | SQLITE_DETERMINISTIC,
						 NULL, own_function, NULL, NULL),
			 0);
	assert_int_equal(
		sqlite3_exec(
			db,
			"CREATE TABLE i(k PRIMARY KEY, v); CREATE INDEX i1 ON i(own(v));"
			"CREATE TABLE p(k PRIMARY KEY, v); CREATE INDEX p1 ON p(v) WHERE own(v) > 1;"
			"CREATE TABLE g(k PRIMARY KEY, v AS (own(k)) STORED);"
			"CREATE TABLE u(k PRIMARY KEY, v COLLATE own UNIQUE);"
			"CREATE TABLE plain(k PRIMARY KEY, v COLLATE own);"
			"CREATE TABLE c(k PRIMARY KEY, v CHECK(own(v)))",
			NULL, NULL, NULL),
		SQLITE_OK);
	assert_int_equal(sqlite3_create_function(db, "own", 1, SQLITE_UTF8 | SQLITE_DETERMINISTIC,
						 NULL, NULL, NULL, NULL),
			 0);
	assert_int_equal(sqlite3_create_collation(db, "own", SQLITE_UTF8, NULL, NULL), 0);
	/* as the store has it: CHECKs are not looked at */
	assert_int_equal(sqlite3_exec(db, "PRAGMA ignore_check_constraints = ON", NULL, NULL, NULL),
			 0);
	for (n = 0; n < p2p_array_len(names); n++) {
		read_table(db, names[n], &table);
		assert_int_equal(table.state, n < 4 ? P2P_TABLE_REFUSED : P2P_TABLE_LOCAL);
		if (n < 4)
			assert_non_null(strstr(table.reason, "own"));
		p2p_table_deinit(&table);
	}
	(void)sqlite3_close(db);
}

static void tables_of_an_unknown_module_are_left_alone(void **state)
{
	static const char sql[] =
		"CREATE TABLE vec_chunks(id INTEGER PRIMARY KEY); CREATE TABLE vector(id INTEGER PRIMARY "
		"KEY); CREATE VIRTUAL TABLE words USING fts5(a);"
		"CREATE TABLE words_seen(id INTEGER PRIMARY KEY);"
		"PRAGMA writable_schema = ON;"
		"INSERT INTO sqlite_schema VALUES('table', 'vec', 'vec', 0,"
		" 'CREATE VIRTUAL TABLE vec USING nomodule(a)');"
		"PRAGMA writable_schema = RESET;";
	static const char *const names[] = {"vec_chunks", "vec", "vector", "words_seen"};
	struct p2p_table table;
	sqlite3 *db;
	size_t i;

	(void)state;
	assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	for (i = 0; i < p2p_array_len(names); i++) {
		read_table(db, names[i], &table);
		assert_int_equal(table.state, i < 2 ? P2P_TABLE_REFUSED : P2P_TABLE_LOCAL);
		p2p_table_deinit(&table);
	}
	(void)sqlite3_close(db);
}

struct walk {
	size_t count, refused, stop_at;
	char last[64];
};

static int walk_table(void *ctx, struct p2p_table *table)
{
	struct walk *walk = ctx;

	assert_true(strcmp(walk->last, table->name) < 0);
	(void)snprintf(walk->last, sizeof(walk->last), "%s", table->name);
	if (++walk->count == walk->stop_at)
		return 7;
	walk->refused += table->state == P2P_TABLE_REFUSED;
	p2p_table_deinit(table);
	return 0;
}

static void every_table_is_told_in_order_of_names(void **state)
{
	sqlite3 *db = open_torture();
	struct walk walk;

	(void)state;
	memset(&walk, 0, sizeof(walk));
	assert_int_equal(p2p_schema_each(db, walk_table, &walk, NULL), 0);
	/* 11 that can be; 7 that cannot; fts5 and rtree with 5 and 3 tables of their own */
	assert_int_equal(walk.count, 28);
	assert_int_equal(walk.refused, 17);
	memset(&walk, 0, sizeof(walk));
	walk.stop_at = 3;
	assert_int_equal(p2p_schema_each(db, walk_table, &walk, NULL), 7);
	(void)sqlite3_close(db);
}

/* --- records ---------------------------------------------------------------------------------- */

static const char *schema_text(sqlite3 *db)
{
	static char out[8192];
	sqlite3_stmt *stmt;
	size_t len = 0;

	out[0] = 0;
	assert_int_equal(sqlite3_prepare_v2(db,
					    "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL"
					    " ORDER BY name",
					    -1, &stmt, NULL),
			 SQLITE_OK);
	while (sqlite3_step(stmt) == SQLITE_ROW)
		len += (size_t)snprintf(out + len, sizeof(out) - len, "%s;",
					(const char *)sqlite3_column_text(stmt, 0));
	(void)sqlite3_finalize(stmt);
	return out;
}

static void describe(sqlite3 *db, const char *name, struct p2p_buf *out)
{
	struct p2p_error err = {0};
	struct p2p_table table;

	read_table(db, name, &table);
	p2p_buf_reset(out);
	if (p2p_schema_describe(db, &table, out, &err))
		fail_msg("%s", err.msg);
	p2p_table_deinit(&table);
}

static void a_described_table_is_made_elsewhere_byte_for_byte(void **state)
{
	static const char *const names[] = {"lone",	   "auto",
					    "lone_late",   "desc_key",
					    "int_key",	   "no_rowid",
					    "pair",	   "generated",
					    "strict_lone", "weird name/with.dots\"q"};
	sqlite3 *from = open_torture(), *to;
	struct p2p_error err = {0};
	struct p2p_buf body, again;
	char made[8192];
	size_t i;

	(void)state;
	p2p_buf_init(&body, P2P_RECORD_BODY_MAX);
	p2p_buf_init(&again, P2P_RECORD_BODY_MAX);
	assert_int_equal(sqlite3_open(":memory:", &to), SQLITE_OK);
	for (i = 0; i < p2p_array_len(names); i++) {
		describe(from, names[i], &body);
		if (p2p_schema_create(to, body.data, body.len, &err))
			fail_msg("%s", err.msg);
		assert_int_equal(p2p_schema_create(to, body.data, body.len, &err), P2P_EEXIST);
		describe(to, names[i], &again);
		assert_int_equal(body.len, again.len);
		assert_memory_equal(body.data, again.data, body.len);
	}
	(void)snprintf(made, sizeof(made), "%s", schema_text(to));
	assert_non_null(strstr(made, "CREATE INDEX \"an index\" ON generated"));
	assert_non_null(strstr(made, "CREATE UNIQUE INDEX on_expression"));
	assert_int_equal(sqlite3_exec(to, "INSERT INTO auto DEFAULT VALUES", NULL, NULL, NULL),
			 SQLITE_OK);
	p2p_buf_deinit(&body);
	p2p_buf_deinit(&again);
	(void)sqlite3_close(from);
	(void)sqlite3_close(to);
}

/* A record with these texts, whose columns are an id and a value. */
static void forge(struct p2p_buf *out, const char *name, const char *create, const char *index)
{
	P2p__V1__Column columns[2], *list[2] = {&columns[0], &columns[1]};
	char texts[2][256], column_names[2][4] = {"id", "v"}, table_name[64];
	char *indexes[1] = {texts[1]};
	P2p__V1__Schema body;
	struct p2p_id ids[3] = {0};
	size_t i;

	p2p__v1__schema__init(&body);
	(void)snprintf(texts[0], sizeof(texts[0]), "%s", create);
	(void)snprintf(texts[1], sizeof(texts[1]), "%s", index ? index : "");
	(void)snprintf(table_name, sizeof(table_name), "%s", name);
	for (i = 0; i < 2; i++) {
		p2p__v1__column__init(&columns[i]);
		columns[i].id = p2p_field(ids[i].bytes, P2P_ID_BYTES);
		columns[i].name = column_names[i];
	}
	columns[0].flags = P2P_COLUMN_KEY;
	body.format = 1;
	body.table = p2p_field(ids[2].bytes, P2P_ID_BYTES);
	body.name = table_name;
	body.identity = 1;
	body.columns = list;
	body.n_columns = 2;
	body.create_sql = texts[0];
	body.index_sql = indexes;
	body.n_index_sql = index ? 1 : 0;
	p2p_buf_reset(out);
	assert_int_equal(p2p_pack(out, &body.base), 0);
}

/* What a member may send. */
static const struct {
	const char *name, *create, *index;
} hostile[] = {
	{"t", "CREATE TABLE t(id INTEGER PRIMARY KEY, v); DROP TABLE x", NULL},
	{"t", "CREATE TABLE t(id INTEGER PRIMARY KEY, v);", NULL},
	{"t", "CREATE TABLE u(id INTEGER PRIMARY KEY, v)", NULL},
	{"t", "CREATE TEMP TABLE t(id INTEGER PRIMARY KEY, v)", NULL},
	{"t", "create table t(id INTEGER PRIMARY KEY, v)", NULL},
	{"t", "CREATE TABLE t AS SELECT 1 AS id, 2 AS v", NULL},
	{"t", "CREATE TABLE t(id INTEGER PRIMARY KEY, w)", NULL},
	{"t", "CREATE TABLE t(id INT PRIMARY KEY, v)", NULL},
	{"t", "CREATE TABLE t(id INTEGER, v)", NULL},
	{"t", "CREATE VIEW t AS SELECT 1 AS id, 2 AS v", NULL},
	{"t", "CREATE VIRTUAL TABLE t USING fts5(id, v)", NULL},
	{"t", "ATTACH '/tmp/x' AS y", NULL},
	{"t", "PRAGMA journal_mode = DELETE", NULL},
	{"t", "not sql", NULL},
	{"t", "", NULL},
	{"t", "CREATE TABLE t(id INTEGER PRIMARY KEY, v CHECK(load_extension(v)))", NULL},
	{"t", "CREATE TABLE t(id INTEGER PRIMARY KEY, v DEFAULT (load_extension('x')))", NULL},
	{"t", "CREATE TABLE t(id INTEGER PRIMARY KEY, v DEFAULT (own_function()))", NULL},
	{"t", "CREATE TABLE t(id INTEGER PRIMARY KEY, v AS (sqlite_version()))", NULL},
	{"p2p_t", "CREATE TABLE p2p_t(id INTEGER PRIMARY KEY, v)", NULL},
	{"sqlite_t", "CREATE TABLE sqlite_t(id INTEGER PRIMARY KEY, v)", NULL},
	{"schema_migrations", "CREATE TABLE schema_migrations(id INTEGER PRIMARY KEY, v)", NULL},
	{"t", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "CREATE INDEX p2p_i ON t(v)"},
	{"t", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
	 "CREATE TRIGGER i AFTER INSERT ON t BEGIN DELETE FROM t; END"},
	{"t", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "CREATE INDEX i ON nothere(v)"},
	{"t", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
	 "CREATE INDEX i ON t(v) WHERE own_function(v)"},
};

static void texts_that_do_more_than_make_one_table_are_refused(void **state)
{
	struct p2p_error err = {0};
	struct p2p_buf body;
	sqlite3 *db;
	size_t i;
	int rc;

	(void)state;
	p2p_buf_init(&body, P2P_RECORD_BODY_MAX);
	assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
	for (i = 0; i < p2p_array_len(hostile); i++) {
		forge(&body, hostile[i].name, hostile[i].create, hostile[i].index);
		rc = p2p_schema_create(db, body.data, body.len, &err);
		if (rc != P2P_EREFUSED)
			fail_msg("%s, %s: %d", hostile[i].create,
				 hostile[i].index ? hostile[i].index : "-", rc);
		assert_string_equal(schema_text(db), "");
	}
	forge(&body, "t", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "CREATE INDEX i ON t(v)");
	assert_int_equal(p2p_schema_create(db, body.data, body.len, &err), 0);
	p2p_buf_deinit(&body);
	(void)sqlite3_close(db);
}

static void only_columns_and_indexes_are_added_to_a_table(void **state)
{
	static const char ours[] = "CREATE TABLE t(id INTEGER PRIMARY KEY)";
	static const char *const others[] = {
		"CREATE TABLE t(id INTEGER PRIMARY KEY , v)",
		"CREATE TABLE t(id INTEGER PRIMARY KEY, v, CHECK (id > 0))",
		"CREATE TABLE t(id INTEGER PRIMARY KEY, v) STRICT",
		"CREATE TABLE t(id INTEGER PRIMARY KEY, v NOT NULL UNIQUE)",
	};
	struct p2p_error err = {0};
	struct p2p_buf body;
	sqlite3 *db;
	size_t i;

	(void)state;
	p2p_buf_init(&body, P2P_RECORD_BODY_MAX);
	assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, ours, NULL, NULL, NULL), SQLITE_OK);
	for (i = 0; i < p2p_array_len(hostile); i++) {
		forge(&body, hostile[i].name, hostile[i].create, hostile[i].index);
		if (p2p_schema_add(db, body.data, body.len, &err) == 0)
			fail_msg("%s, %s", hostile[i].create,
				 hostile[i].index ? hostile[i].index : "-");
		assert_non_null(strstr(schema_text(db), ours));
		assert_null(strstr(schema_text(db), "v"));
	}
	for (i = 0; i < p2p_array_len(others); i++) {
		forge(&body, "t", others[i], NULL);
		assert_int_not_equal(p2p_schema_add(db, body.data, body.len, &err), 0);
		assert_null(strstr(schema_text(db), "v"));
	}
	forge(&body, "t", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "CREATE INDEX i ON t(v)");
	assert_int_equal(p2p_schema_add(db, body.data, body.len, &err), 0);
	assert_non_null(strstr(schema_text(db), "CREATE TABLE t(id INTEGER PRIMARY KEY, v)"));
	assert_non_null(strstr(schema_text(db), "CREATE INDEX i ON t(v)"));
	assert_int_equal(p2p_schema_add(db, body.data, body.len, &err), 0); /* nothing to do */
	p2p_buf_deinit(&body);
	(void)sqlite3_close(db);
}

static void what_is_in_the_way_here_leaves_nothing_behind(void **state)
{
	struct p2p_error err = {0};
	struct p2p_buf body;
	sqlite3 *db;

	(void)state;
	p2p_buf_init(&body, P2P_RECORD_BODY_MAX);
	assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db,
				      "CREATE TABLE u(a); CREATE INDEX i ON u(a);"
				      "CREATE VIEW w AS SELECT 1",
				      NULL, NULL, NULL),
			 SQLITE_OK);
	forge(&body, "t", "CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "CREATE INDEX i ON t(v)");
	assert_int_equal(p2p_schema_create(db, body.data, body.len, &err), P2P_EREFUSED);
	assert_non_null(strstr(err.msg, "index i already exists"));
	assert_null(strstr(schema_text(db), "CREATE TABLE t"));
	forge(&body, "W", "CREATE TABLE W(id INTEGER PRIMARY KEY, v)", NULL);
	assert_int_equal(p2p_schema_create(db, body.data, body.len, &err), P2P_EREFUSED);
	assert_non_null(strstr(err.msg, "view"));
	assert_int_equal(p2p_schema_create(db, "\xff\xff", 2, &err), P2P_EPROTO);
	assert_int_equal(p2p_schema_create(db, "", 0, &err), P2P_EPROTO);
	p2p_buf_deinit(&body);
	(void)sqlite3_close(db);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_lone_integer_primary_key_is_told_from_its_look_alikes),
		cmocka_unit_test(keys_columns_and_collations_are_as_declared),
		cmocka_unit_test(what_cannot_be_replicated_is_refused_with_its_reason),
		cmocka_unit_test(a_key_with_a_collation_of_the_application_is_refused),
		cmocka_unit_test(what_only_the_application_can_write_to_is_refused),
		cmocka_unit_test(tables_of_an_unknown_module_are_left_alone),
		cmocka_unit_test(every_table_is_told_in_order_of_names),
		cmocka_unit_test(a_described_table_is_made_elsewhere_byte_for_byte),
		cmocka_unit_test(texts_that_do_more_than_make_one_table_are_refused),
		cmocka_unit_test(only_columns_and_indexes_are_added_to_a_table),
		cmocka_unit_test(what_is_in_the_way_here_leaves_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
