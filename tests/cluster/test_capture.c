/* Whatever an application does to its tables, in whatever way SQL has, arrives at the others: node
 * 0 writes, node 1 shows the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// cmocka needs the four above
#include <cmocka.h>

#include "tests/support/cluster.h"

static struct cluster cluster;

static void begin(const char *sql)
{
	cluster_init(&cluster, 1);
	cluster_share(&cluster, sql);
	(void)cluster_join(&cluster);
	cluster_connect(&cluster, 0, 1);
	assert_true(cluster_settle(&cluster, 5000));
}

static void expect_rows(size_t node, const char *sql, const char *rows)
{
	char *got = cluster_rows(&cluster, node, sql);

	if (strcmp(got, rows) != 0)
		fail_msg("node %zu, %s: %s, not %s", node, sql, got, rows);
	free(got);
}

static void settle(void)
{
	uint64_t changesets, rows;
	struct p2p_error err = {0};
	size_t i;

	cluster_run(&cluster, 3000); /* also for rows that no trigger tells of */
	assert_true(cluster_settle(&cluster, 10000));
	assert_true(cluster_equal(&cluster));
	for (i = 0; i < cluster.count; i++)
		if (p2p_replica_verify(cluster.nodes[i].replica, &changesets, &rows, &err))
			fail_msg("node %zu: %s", i, err.msg);
}

/* Node 0 runs sql; then both show these rows. */
static void writes(const char *sql, const char *query, const char *rows)
{
	cluster_sql(&cluster, 0, sql);
	settle();
	expect_rows(0, query, rows);
	expect_rows(1, query, rows);
}

static void end(void)
{
	cluster_deinit(&cluster);
}

/* --- conflict clauses ------------------------------------------------------------------------ */

static void replace_through_unique_indexes(const char *recursive)
{
	begin("CREATE TABLE u(id INTEGER PRIMARY KEY, a UNIQUE, b UNIQUE, n);"
	      "INSERT INTO u VALUES (1, 'a1', 'b1', 0), (2, 'a2', 'b2', 0), (3, 'a3', 'b3', 0),"
	      " (4, 'a4', 'b4', 0)");
	cluster_sql(&cluster, 0, recursive);
	/* one row pushes out two; then one takes the place of its own key and of another's value */
	writes("REPLACE INTO u VALUES (9, 'a1', 'b2', 1)", "SELECT id, n FROM u ORDER BY 1",
	       "|3|0\n|4|0\n|9|1\n");
	writes("REPLACE INTO u VALUES (3, 'a4', 'b3', 2)", "SELECT id, a, n FROM u ORDER BY 1",
	       "|3|'a4'|2\n|9|'a1'|1\n");
	writes("UPDATE OR REPLACE u SET b = 'b3' WHERE id = 9", "SELECT id, b FROM u ORDER BY 1",
	       "|9|'b3'\n");
	end();
}

static void replace_through_unique_indexes_with_recursive_triggers_off(void **state)
{
	(void)state;
	replace_through_unique_indexes("PRAGMA recursive_triggers = OFF");
}

static void replace_through_unique_indexes_with_recursive_triggers_on(void **state)
{
	(void)state;
	replace_through_unique_indexes("PRAGMA recursive_triggers = ON");
}

/* It has its number until that is noticed: what came for it was written into the row that had taken
 * its place, here and nowhere else. */
static void a_number_of_a_row_that_was_pushed_out_is_not_free(void **state)
{
	(void)state;
	begin("CREATE TABLE u(id INTEGER PRIMARY KEY, a UNIQUE, n)");
	(void)cluster_join(&cluster);
	cluster_disconnect(&cluster, 0, 1);
	cluster_sql(&cluster, 0, "INSERT INTO u VALUES (1, 'old', 0)");
	cluster_connect(&cluster, 0, 2);
	cluster_run(&cluster, 3000);
	cluster_disconnect(&cluster, 0, 2);
	/* node 1 makes a row of the same number, and changes the other once it knows it */
	cluster_sql(&cluster, 1, "INSERT INTO u VALUES (1, 'new', 5)");
	cluster_connect(&cluster, 1, 2);
	cluster_run(&cluster, 3000);
	cluster_sql(&cluster, 1, "UPDATE u SET n = 7 WHERE a = 'old'");
	/* node 0 pushes it out, and reads until both are there to be merged at once */
	cluster_sql(&cluster, 0, "REPLACE INTO u VALUES (9, 'old', 1); BEGIN; SELECT * FROM u");
	cluster_connect(&cluster, 0, 1);
	cluster_run(&cluster, 60);
	cluster_sql(&cluster, 0, "COMMIT");
	settle();
	expect_rows(0, "SELECT a, n FROM u ORDER BY 1", "|'new'|5\n|'old'|1\n");
	end();
}

static void who_is_pushed_out_by_what_is_put_back_goes_too(void **state)
{
	(void)state;
	begin("CREATE TABLE u(id INTEGER PRIMARY KEY, a UNIQUE);"
	      "INSERT INTO u VALUES (1, 'x'), (2, 'y'), (3, 'z')");
	cluster_run(&cluster, 3000);
	/* nothing is left to tell of the row that did it */
	writes("UPDATE OR REPLACE u SET a = 'y' WHERE id = 1; UPDATE u SET a = 'x' WHERE id = 1",
	       "SELECT * FROM u ORDER BY 1", "|1|'x'\n|3|'z'\n");
	end();
}

/* It shows a temporary number, and claims the one that the application gave to another. */
static void a_row_that_was_pushed_out_yields_no_number(void **state)
{
	(void)state;
	begin("CREATE TABLE u(id INTEGER PRIMARY KEY, a UNIQUE, n)");
	(void)cluster_join(&cluster);
	(void)cluster_join(&cluster);
	cluster_disconnect(&cluster, 0, 1);
	cluster_sql(&cluster, 0, "INSERT INTO u VALUES (1, 'first', 0)");
	cluster_connect(&cluster, 0, 3);
	cluster_run(&cluster, 3000);
	cluster_sql(&cluster, 1, "INSERT INTO u VALUES (1, 'second', 0)");
	cluster_connect(&cluster, 1, 2);
	cluster_run(&cluster, 3000);
	cluster_disconnect(&cluster, 1, 2);
	/* whoever made the second does not hear of the first, and gives it no other number */
	cluster_connect(&cluster, 0, 2);
	cluster_run(&cluster, 3000);
	cluster_disconnect(&cluster, 0, 2);
	expect_rows(2, "SELECT id < 0, a FROM u ORDER BY 1", "|0|'first'\n|1|'second'\n");
	cluster_sql(&cluster, 2, "DELETE FROM u WHERE id = 1");
	cluster_run(&cluster, 100);
	cluster_sql(&cluster, 2, "REPLACE INTO u VALUES (1, 'second', 9)");
	cluster_run(&cluster, 100);
	cluster_connect(&cluster, 0, 2);
	cluster_connect(&cluster, 1, 2);
	settle();
	expect_rows(0, "SELECT * FROM u", "|1|'second'|9\n");
	end();
}

static void upsert_that_does_nothing_updates_or_changes_keys(void **state)
{
	(void)state;
	begin("CREATE TABLE k(id TEXT PRIMARY KEY, a UNIQUE, n); INSERT INTO k VALUES ('x', 1, 0)");
	writes("INSERT INTO k VALUES ('x', 5, 5), ('y', 2, 0) ON CONFLICT DO NOTHING",
	       "SELECT * FROM k ORDER BY 1", "|'x'|1|0\n|'y'|2|0\n");
	writes("INSERT INTO k VALUES ('x', 9, 9) ON CONFLICT(id) DO UPDATE SET n = n + excluded.n",
	       "SELECT * FROM k ORDER BY 1", "|'x'|1|9\n|'y'|2|0\n");
	writes("INSERT INTO k VALUES ('z', 2, 3) ON CONFLICT(a) DO UPDATE SET id = excluded.id"
	       " ON CONFLICT(id) DO NOTHING",
	       "SELECT * FROM k ORDER BY 1", "|'x'|1|9\n|'z'|2|0\n");
	writes("INSERT INTO k VALUES ('x', 7, 7) ON CONFLICT(id) DO UPDATE SET n = 1"
	       " WHERE excluded.n < 5",
	       "SELECT * FROM k ORDER BY 1", "|'x'|1|9\n|'z'|2|0\n");
	end();
}

static void outer_conflict_clauses_and_what_they_leave(void **state)
{
	(void)state;
	begin("CREATE TABLE k(id TEXT PRIMARY KEY, a UNIQUE); INSERT INTO k VALUES ('x', 1)");
	writes("INSERT OR IGNORE INTO k VALUES ('a', 2), ('b', 1), ('x', 3), ('c', 4)",
	       "SELECT id FROM k ORDER BY 1", "|'a'\n|'c'\n|'x'\n");
	/* OR FAIL keeps what came before the failure */
	assert_int_not_equal(
		cluster_try(&cluster, 0,
			    "INSERT OR FAIL INTO k VALUES ('d', 5), ('x', 6), ('e', 7)"),
		0);
	writes("SELECT 1", "SELECT id FROM k ORDER BY 1", "|'a'\n|'c'\n|'d'\n|'x'\n");
	cluster_sql(&cluster, 0, "BEGIN; INSERT INTO k VALUES ('f', 8)");
	assert_int_not_equal(cluster_try(&cluster, 0,
					 "INSERT OR ABORT INTO k VALUES ('g', 9), ('x', 9)"),
			     0);
	writes("COMMIT", "SELECT id FROM k ORDER BY 1", "|'a'\n|'c'\n|'d'\n|'f'\n|'x'\n");
	cluster_sql(&cluster, 0, "BEGIN; DELETE FROM k WHERE id = 'a'");
	assert_int_not_equal(cluster_try(&cluster, 0,
					 "INSERT OR ROLLBACK INTO k VALUES ('h', 9), ('x', 9)"),
			     0);
	writes("UPDATE OR IGNORE k SET a = a + 1", "SELECT id, a FROM k ORDER BY 1",
	       "|'a'|3\n|'c'|4\n|'d'|6\n|'f'|9\n|'x'|1\n");
	end();
}

static void clauses_that_the_table_declares(void **state)
{
	(void)state;
	begin("CREATE TABLE r(id TEXT PRIMARY KEY ON CONFLICT REPLACE, a UNIQUE ON CONFLICT REPLACE,"
	      " n NOT NULL ON CONFLICT REPLACE DEFAULT 7);"
	      "CREATE TABLE i(id TEXT PRIMARY KEY ON CONFLICT IGNORE, a UNIQUE ON CONFLICT IGNORE);"
	      "INSERT INTO r VALUES ('x', 1, 1), ('y', 2, 2); INSERT INTO i VALUES ('x', 1)");
	writes("INSERT INTO r VALUES ('x', 2, NULL), ('z', 3, 3)", "SELECT * FROM r ORDER BY 1",
	       "|'x'|2|7\n|'z'|3|3\n");
	writes("INSERT INTO i VALUES ('x', 9), ('y', 1), ('z', 3)", "SELECT * FROM i ORDER BY 1",
	       "|'x'|1\n|'z'|3\n");
	writes("UPDATE r SET a = 3 WHERE id = 'x'", "SELECT * FROM r ORDER BY 1", "|'x'|3|7\n");
	end();
}

/* More than one turn looks at. Nobody waits: the look is spread over some seconds. */
static void replace_in_a_large_table_is_found_slice_by_slice(void **state)
{
	(void)state;
	begin("CREATE TABLE u(id INTEGER PRIMARY KEY, a UNIQUE, n);"
	      "CREATE TABLE w(id TEXT PRIMARY KEY, a UNIQUE);"
	      "WITH RECURSIVE i(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < 110000)"
	      " INSERT INTO u SELECT x, x, 0 FROM i; INSERT INTO w VALUES ('x', 1), ('y', 2)");
	cluster_sql(&cluster, 0,
		    "REPLACE INTO u VALUES (200001, 3, 1), (200002, 70000, 1), (200003, 109999, 1);"
		    "REPLACE INTO w VALUES ('z', 2)");
	cluster_run(&cluster, 8000);
	writes("SELECT 1", "SELECT count(*), total(n) FROM u", "|110000|3.0\n");
	expect_rows(1, "SELECT id FROM u WHERE a IN (3, 70000, 109999) ORDER BY 1",
		    "|200001\n|200002\n|200003\n");
	expect_rows(1, "SELECT * FROM w ORDER BY 1", "|'x'|1\n|'z'|2\n");
	end();
}

/* --- keys ------------------------------------------------------------------------------------ */

static void changed_keys_are_a_row_that_goes_and_one_that_comes(void **state)
{
	(void)state;
	begin("CREATE TABLE k(id TEXT PRIMARY KEY, n); CREATE TABLE p(a, b, n, PRIMARY KEY(b, a));"
	      "CREATE TABLE g(id INTEGER PRIMARY KEY, n);"
	      "INSERT INTO k VALUES ('x', 1), ('y', 2); INSERT INTO p VALUES (1, 2, 3), (2, 1, 4);"
	      "INSERT INTO g VALUES (1, 1), (2, 2), (3, 3)");
	writes("BEGIN; UPDATE k SET id = 't' WHERE id = 'x'; UPDATE k SET id = 'x' WHERE id = 'y';"
	       " UPDATE k SET id = 'y' WHERE id = 't'; COMMIT",
	       "SELECT * FROM k ORDER BY 1", "|'x'|2\n|'y'|1\n");
	writes("UPDATE p SET a = a + 10, b = b * 10", "SELECT * FROM p ORDER BY 1",
	       "|11|20|3\n|12|10|4\n");
	writes("UPDATE g SET id = id + 100 WHERE id < 3; UPDATE g SET id = 1 WHERE n = 3",
	       "SELECT * FROM g ORDER BY 1", "|1|3\n|101|1\n|102|2\n");
	writes("UPDATE OR REPLACE g SET id = 101 WHERE n = 3", "SELECT * FROM g ORDER BY 1",
	       "|101|3\n|102|2\n");
	end();
}

static void keys_that_compare_equal_are_one_row(void **state)
{
	(void)state;
	begin("CREATE TABLE c(id TEXT COLLATE NOCASE PRIMARY KEY, n);"
	      "CREATE TABLE t(id TEXT COLLATE RTRIM PRIMARY KEY, n);"
	      "CREATE TABLE v(id PRIMARY KEY, n); CREATE TABLE d(id REAL PRIMARY KEY, n);"
	      "INSERT INTO c VALUES ('Ab', 1); INSERT INTO t VALUES ('a  ', 1);"
	      "INSERT INTO v VALUES (1, 'i'), ('1', 't'), (x'31', 'b'), (2.5, 'r')");
	writes("REPLACE INTO c VALUES ('aB', 2)", "SELECT * FROM c", "|'aB'|2\n");
	writes("UPDATE c SET id = 'AB'", "SELECT * FROM c", "|'AB'|2\n");
	writes("INSERT INTO t VALUES ('a', 5) ON CONFLICT DO UPDATE SET n = 6", "SELECT * FROM t",
	       "|'a  '|6\n");
	writes("UPDATE t SET id = 'a '", "SELECT * FROM t", "|'a '|6\n");
	/* 1 and 1.0 are one key in a column without affinity; '1' and x'31' are others */
	writes("REPLACE INTO v VALUES (1.0, 'd')", "SELECT * FROM v ORDER BY n",
	       "|x31.|'b'\n|1.0|'d'\n|2.5|'r'\n|'1'|'t'\n");
	writes("UPDATE v SET id = 1 WHERE n = 'd'; DELETE FROM v WHERE id = '1'",
	       "SELECT * FROM v ORDER BY n", "|x31.|'b'\n|1|'d'\n|2.5|'r'\n");
	writes("INSERT INTO d VALUES (1, 'a'), ('2', 'b'), (3.5, 'c')",
	       "SELECT * FROM d ORDER BY n", "|1.0|'a'\n|2.0|'b'\n|3.5|'c'\n");
	end();
}

/* The row that comes back says how its key is written, though that is what the identity says. */
static void a_parked_row_that_is_written_anew_has_its_new_spelling(void **state)
{
	(void)state;
	begin("CREATE TABLE c(id TEXT COLLATE NOCASE PRIMARY KEY, a UNIQUE)");
	cluster_disconnect(&cluster, 0, 1);
	cluster_sql(&cluster, 0, "INSERT INTO c VALUES ('x', 1)");
	cluster_run(&cluster, 500);
	cluster_sql(&cluster, 1, "INSERT INTO c VALUES ('CID', 1)");
	cluster_run(&cluster, 500);
	cluster_connect(&cluster, 0, 1);
	settle();
	expect_rows(0, "SELECT * FROM c", "|'x'|1\n");
	writes("INSERT INTO c VALUES ('cid', 2)", "SELECT * FROM c ORDER BY 2",
	       "|'x'|1\n|'cid'|2\n");
	writes("UPDATE c SET a = 3 WHERE id = 'x'", "SELECT * FROM c ORDER BY 2",
	       "|'cid'|2\n|'x'|3\n");
	end();
}

/* A row whose key has a NULL cannot be named: it stays where it is until it can be. */
static void a_row_with_null_in_its_key_is_taken_up_when_it_has_none(void **state)
{
	(void)state;
	begin("CREATE TABLE k(a, b, n, PRIMARY KEY(a, b)); INSERT INTO k VALUES (1, 1, 'one')");
	cluster_sql(
		&cluster, 0,
		"INSERT INTO k VALUES (1, NULL, 'half'), (NULL, NULL, 'none'), (1, NULL, 'too')");
	cluster_run(&cluster, 3000);
	assert_true(cluster_settle(&cluster, 5000));
	expect_rows(0, "SELECT count(*) FROM k", "|4\n");
	expect_rows(1, "SELECT n FROM k", "|'one'\n");
	cluster_sql(&cluster, 0,
		    "UPDATE k SET b = 2 WHERE n = 'half'; DELETE FROM k WHERE n = 'none'");
	cluster_run(&cluster, 3000);
	assert_true(cluster_settle(&cluster, 5000));
	expect_rows(1, "SELECT n FROM k ORDER BY 1", "|'half'\n|'one'\n");
	writes("UPDATE k SET b = 9 WHERE n = 'too'; UPDATE k SET a = NULL WHERE n = 'one';"
	       "DELETE FROM k WHERE a IS NULL",
	       "SELECT b, n FROM k ORDER BY n", "|2|'half'\n|9|'too'\n");
	end();
}

/* --- statements ------------------------------------------------------------------------------ */

static void cascades_are_captured_row_by_row(void **state)
{
	(void)state;
	begin("CREATE TABLE p(id TEXT PRIMARY KEY, n);"
	      "CREATE TABLE c(id INTEGER PRIMARY KEY, p TEXT REFERENCES p ON DELETE CASCADE"
	      " ON UPDATE CASCADE);"
	      "CREATE TABLE s(id INTEGER PRIMARY KEY, c INTEGER REFERENCES c ON DELETE SET NULL);"
	      "CREATE TABLE d(id INTEGER PRIMARY KEY, p TEXT DEFAULT 'z' REFERENCES p"
	      " ON DELETE SET DEFAULT);"
	      "INSERT INTO p VALUES ('x', 1), ('y', 2), ('z', 3);"
	      "INSERT INTO c VALUES (1, 'x'), (2, 'y'); INSERT INTO s VALUES (1, 1), (2, 2);"
	      "INSERT INTO d VALUES (1, 'x'), (2, 'y')");
	cluster_sql(&cluster, 0, "PRAGMA foreign_keys = ON");
	writes("DELETE FROM p WHERE id = 'x'",
	       "SELECT 'c', id, p FROM c UNION ALL SELECT 's', id, c FROM s UNION ALL"
	       " SELECT 'd', id, p FROM d ORDER BY 1, 2",
	       "|'c'|2|'y'\n|'d'|1|'z'\n|'d'|2|'y'\n|'s'|1|NULL\n|'s'|2|2\n");
	/* d has no ON UPDATE: it is moved by hand first */
	writes("BEGIN; PRAGMA defer_foreign_keys = ON; UPDATE p SET id = 'w' WHERE id = 'y';"
	       " UPDATE d SET p = 'w' WHERE id = 2; COMMIT",
	       "SELECT p FROM c UNION ALL SELECT p FROM d ORDER BY 1", "|'w'\n|'w'\n|'z'\n");
	end();
}

static void savepoints_that_are_undone_leave_nothing(void **state)
{
	(void)state;
	begin("CREATE TABLE k(id TEXT PRIMARY KEY, n); INSERT INTO k VALUES ('x', 1)");
	writes("BEGIN; INSERT INTO k VALUES ('a', 1); SAVEPOINT s; INSERT INTO k VALUES ('b', 1);"
	       " UPDATE k SET n = 9; SAVEPOINT t; DELETE FROM k; ROLLBACK TO t; RELEASE t;"
	       " ROLLBACK TO s; INSERT INTO k VALUES ('c', 1); RELEASE s; COMMIT",
	       "SELECT * FROM k ORDER BY 1", "|'a'|1\n|'c'|1\n|'x'|1\n");
	writes("SAVEPOINT s; UPDATE k SET n = 2 WHERE id = 'x'; RELEASE s",
	       "SELECT n FROM k WHERE id = 'x'", "|2\n");
	writes("BEGIN; DELETE FROM k; ROLLBACK", "SELECT count(*) FROM k", "|3\n");
	end();
}

static void a_delete_of_everything_is_one_of_every_row(void **state)
{
	(void)state;
	begin("CREATE TABLE g(id INTEGER PRIMARY KEY AUTOINCREMENT, n);"
	      "CREATE TABLE w(id TEXT PRIMARY KEY, n) WITHOUT ROWID;"
	      "INSERT INTO g(n) VALUES (1), (2), (3); INSERT INTO w VALUES ('a', 1), ('b', 2)");
	writes("DELETE FROM g; DELETE FROM w", "SELECT count(*) FROM g, w", "|0\n");
	writes("INSERT INTO g(n) VALUES (4); INSERT INTO w VALUES ('a', 3)",
	       "SELECT g.id, g.n, w.n FROM g, w", "|4|4|3\n");
	end();
}

static void rows_that_come_from_selects_views_and_other_triggers(void **state)
{
	(void)state;
	begin("CREATE TABLE a(id TEXT PRIMARY KEY, n); CREATE TABLE b(id TEXT PRIMARY KEY, n);"
	      "CREATE VIEW v AS SELECT id, n FROM a;"
	      "CREATE TABLE audit(id INTEGER PRIMARY KEY, what);"
	      "INSERT INTO a VALUES ('x', 1), ('y', 2)");
	cluster_sql(
		&cluster, 0,
		"CREATE TRIGGER v_i INSTEAD OF INSERT ON v BEGIN INSERT INTO a VALUES (new.id,"
		" new.n); END; CREATE TRIGGER a_i AFTER INSERT ON a BEGIN INSERT INTO audit(what)"
		" VALUES ('+' || new.id); END; CREATE TRIGGER audit_i AFTER INSERT ON audit BEGIN"
		" UPDATE b SET n = n + 1; END");
	writes("INSERT INTO b SELECT * FROM a", "SELECT * FROM b ORDER BY 1", "|'x'|1\n|'y'|2\n");
	writes("INSERT INTO v VALUES ('z', 3)", "SELECT * FROM b ORDER BY 1", "|'x'|2\n|'y'|3\n");
	writes("WITH w(i) AS (VALUES ('p'), ('q')) INSERT INTO a SELECT i, 5 FROM w RETURNING id",
	       "SELECT what FROM audit ORDER BY id", "|'+z'\n|'+p'\n|'+q'\n");
	writes("UPDATE a SET n = b.n * 10 FROM b WHERE a.id = b.id",
	       "SELECT n FROM a WHERE id = 'x'", "|40\n");
	end();
}

static void recursive_triggers_of_the_application(void **state)
{
	(void)state;
	begin("CREATE TABLE t(id INTEGER PRIMARY KEY, up INTEGER, n);"
	      "INSERT INTO t VALUES (1, NULL, 0), (2, 1, 0), (3, 2, 0)");
	cluster_sql(&cluster, 0,
		    "PRAGMA recursive_triggers = ON; CREATE TRIGGER t_u AFTER UPDATE OF n ON t"
		    " WHEN new.up IS NOT NULL BEGIN UPDATE t SET n = n + 1 WHERE id = new.up; END");
	writes("UPDATE t SET n = 5 WHERE id = 3", "SELECT n FROM t ORDER BY id", "|1\n|1\n|5\n");
	end();
}

/* --- tables ---------------------------------------------------------------------------------- */

static void tables_of_every_kind(void **state)
{
	(void)state;
	begin("CREATE TABLE w(a TEXT, b INTEGER, n, PRIMARY KEY(a, b DESC)) WITHOUT ROWID;"
	      "CREATE TABLE s(id INTEGER PRIMARY KEY, t TEXT NOT NULL, r REAL, a ANY, b BLOB) STRICT;"
	      "CREATE TABLE g(id TEXT PRIMARY KEY, n INTEGER, twice INTEGER AS (n * 2) STORED,"
	      " half AS (n / 2.0), u TEXT AS (upper(id)) UNIQUE);"
	      "CREATE TABLE sw(k BLOB PRIMARY KEY, v ANY) STRICT, WITHOUT ROWID;");
	writes("INSERT INTO w VALUES ('a', 1, NULL), ('a', 2, x'00'); UPDATE w SET b = 3 WHERE b = 1",
	       "SELECT * FROM w ORDER BY b", "|'a'|2|x00.\n|'a'|3|NULL\n");
	writes("INSERT INTO s VALUES (1, 't', 1, '1', x''), (2, '', 1e300, 1, NULL);"
	       "UPDATE s SET a = 1.5, r = 0.25 WHERE id = 1",
	       "SELECT * FROM s ORDER BY 1", "|1|'t'|0.25|1.5|x.\n|2|''|1.0e+300|1|NULL\n");
	writes("INSERT INTO g(id, n) VALUES ('a', 3), ('b', 4); UPDATE g SET n = n + 1, id = id || 'x'",
	       "SELECT * FROM g ORDER BY 1", "|'ax'|4|8|2.0|'AX'\n|'bx'|5|10|2.5|'BX'\n");
	writes("REPLACE INTO g(id, n) VALUES ('AX', 9)", "SELECT id, twice FROM g ORDER BY 2",
	       "|'bx'|10\n|'AX'|18\n");
	writes("INSERT INTO sw VALUES (x'01', 'one'), (x'02', 2); UPDATE sw SET k = x'03' WHERE v = 2",
	       "SELECT * FROM sw ORDER BY k", "|x01.|'one'\n|x03.|2\n");
	end();
}

static void names_that_need_quotes(void **state)
{
	(void)state;
	begin("CREATE TABLE \"a \"\"table\"\"\"(\"the key\" TEXT PRIMARY KEY, \"select\", \"a'b\","
	      " \"[x]\", \"NEW\");"
	      "CREATE TABLE [group](id INTEGER PRIMARY KEY, [order] TEXT UNIQUE);"
	      "CREATE TABLE '1 2'('' TEXT PRIMARY KEY, \"Gr\xc3\xb6\xc3\x9f"
	      "e\" REAL) WITHOUT ROWID;");
	writes("INSERT INTO \"a \"\"table\"\"\" VALUES ('k', 1, 2, 3, 4), ('l', 1, 2, 3, 4);"
	       "UPDATE \"a \"\"table\"\"\" SET \"select\" = 5, \"the key\" = 'm' WHERE \"NEW\" = 4 AND"
	       " \"the key\" = 'k'",
	       "SELECT * FROM \"a \"\"table\"\"\" ORDER BY 1", "|'l'|1|2|3|4\n|'m'|5|2|3|4\n");
	writes("INSERT INTO [group]([order]) VALUES ('a'), ('b'); REPLACE INTO [group] VALUES (7, 'a');"
	       "DELETE FROM [group] WHERE [order] = 'b'",
	       "SELECT * FROM [group]", "|7|'a'\n");
	writes("INSERT INTO '1 2' VALUES ('', 1), ('x', 2); UPDATE '1 2' SET \"Gr\xc3\xb6\xc3\x9f"
	       "e\" = 3 WHERE \"\" = 'x'",
	       "SELECT * FROM '1 2' ORDER BY 1", "|''|1.0\n|'x'|3.0\n");
	end();
}

/* --- writers --------------------------------------------------------------------------------- */

static void other(const char *sql)
{
	char *message = NULL;
	sqlite3 *db;

	assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
		fail_msg("%s: %s", sql, message);
	(void)sqlite3_close(db);
}

static void a_writer_that_attached_the_file(void **state)
{
	char sql[1024];

	(void)state;
	begin("CREATE TABLE k(id TEXT PRIMARY KEY, n); INSERT INTO k VALUES ('x', 1)");
	(void)snprintf(
		sql, sizeof(sql),
		"ATTACH '%s' AS file; CREATE TABLE k(id TEXT PRIMARY KEY, n);"
		"CREATE TEMP TABLE k2 AS SELECT 'z' AS id, 3 AS n; INSERT INTO k VALUES ('m', 0);"
		"BEGIN; INSERT INTO file.k SELECT * FROM temp.k2; UPDATE file.k SET n = 2"
		" WHERE id = 'x'; INSERT INTO main.k SELECT * FROM file.k; COMMIT;"
		"CREATE TEMP TRIGGER own AFTER DELETE ON file.k BEGIN"
		" UPDATE k SET n = old.n WHERE id = 'z'; END; DELETE FROM file.k WHERE id = 'x'",
		cluster.nodes[0].path);
	other(sql);
	writes("SELECT 1", "SELECT * FROM k ORDER BY 1", "|'z'|3\n");
	end();
}

/* VACUUM may give rows of a table without an INTEGER PRIMARY KEY other rowids. */
static void vacuum_and_rowids(void **state)
{
	(void)state;
	begin("CREATE TABLE k(id TEXT PRIMARY KEY, n); INSERT INTO k VALUES ('x', 1), ('y', 2), ('z', 3)");
	writes("DELETE FROM k WHERE id = 'x'; VACUUM; UPDATE k SET n = 9 WHERE id = 'y'",
	       "SELECT * FROM k ORDER BY 1", "|'y'|9\n|'z'|3\n");
	/* rows that change places, and a rowid that is given to another row */
	writes("UPDATE k SET rowid = rowid + 70; UPDATE k SET rowid = 1 WHERE id = 'z'; VACUUM;"
	       "DELETE FROM k WHERE id = 'z'; INSERT INTO k(rowid, id, n) VALUES (1, 'a', 5)",
	       "SELECT * FROM k ORDER BY 1", "|'a'|5\n|'y'|9\n");
	end();
}

/* --- what hides from triggers ---------------------------------------------------------------- */

static void lost_triggers_are_made_up_for(void **state)
{
	(void)state;
	begin("CREATE TABLE k(id TEXT PRIMARY KEY, n); CREATE TABLE g(id INTEGER PRIMARY KEY, n);"
	      "INSERT INTO k VALUES ('x', 1), ('y', 2); INSERT INTO g(n) VALUES (1), (2)");
	writes("DROP TRIGGER p2p_i_1; DROP TRIGGER p2p_u_1; DROP TRIGGER p2p_d_1;"
	       "DROP TRIGGER p2p_i_2; DROP TRIGGER p2p_u_2; DROP TRIGGER p2p_d_2;"
	       "INSERT INTO k VALUES ('z', 3); UPDATE k SET n = 9 WHERE id = 'x';"
	       "DELETE FROM k WHERE id = 'y'; INSERT INTO g(n) VALUES (3); DELETE FROM g WHERE n = 1;"
	       "UPDATE g SET n = 8 WHERE n = 2",
	       "SELECT id, n FROM k UNION ALL SELECT id, n FROM g ORDER BY 2",
	       "|'z'|3\n|3|3\n|2|8\n|'x'|9\n");
	/* they are there again */
	writes("INSERT INTO k VALUES ('w', 5); UPDATE g SET n = 7 WHERE n = 8",
	       "SELECT n FROM k UNION ALL SELECT n FROM g ORDER BY 1", "|3\n|3\n|5\n|7\n|9\n");
	end();
}

static void a_rebuilt_table_is_compared_with_what_was_known(void **state)
{
	(void)state;
	begin("CREATE TABLE k(id TEXT PRIMARY KEY, n); CREATE TABLE c(id INTEGER PRIMARY KEY,"
	      " k TEXT REFERENCES k ON DELETE CASCADE);"
	      "INSERT INTO k VALUES ('x', 1), ('y', 2), ('z', 3); INSERT INTO c VALUES (1, 'x')");
	/* the twelve steps of sqlite.org/lang_altertable, with changes on the way */
	writes("PRAGMA foreign_keys = OFF; BEGIN; CREATE TABLE k2(id TEXT PRIMARY KEY, n NOT NULL);"
	       "INSERT INTO k2 SELECT id, n * 10 FROM k WHERE id <> 'y'; INSERT INTO k2 VALUES ('w', 4);"
	       "DROP TABLE k; ALTER TABLE k2 RENAME TO k; PRAGMA foreign_key_check; COMMIT",
	       "SELECT * FROM k ORDER BY 1", "|'w'|4\n|'x'|10\n|'z'|30\n");
	writes("INSERT INTO k VALUES ('v', 5); UPDATE k SET n = 11 WHERE id = 'x'",
	       "SELECT * FROM k ORDER BY 1", "|'v'|5\n|'w'|4\n|'x'|11\n|'z'|30\n");
	/* with the file renamed away and back, as some tools do */
	writes("ALTER TABLE k RENAME TO old; CREATE TABLE k(id TEXT PRIMARY KEY, n NOT NULL);"
	       "INSERT INTO k SELECT * FROM old WHERE id <> 'z'; DROP TABLE old;"
	       "DELETE FROM k WHERE id = 'w'",
	       "SELECT * FROM k ORDER BY 1", "|'v'|5\n|'x'|11\n");
	end();
}

/* All of that while no node runs: nobody sees the schema change. */
static void what_happened_while_no_node_ran(void **state)
{
	(void)state;
	begin("CREATE TABLE k(id TEXT PRIMARY KEY, a UNIQUE, n); CREATE TABLE l(id TEXT PRIMARY KEY, n);"
	      "INSERT INTO k VALUES ('x', 1, 1), ('y', 2, 2), ('z', 3, 3);"
	      "INSERT INTO l VALUES ('x', 1), ('y', 2)");
	cluster_kill(&cluster, 0);
	cluster_sql(
		&cluster, 0,
		"REPLACE INTO k VALUES ('w', 1, 4); UPDATE OR REPLACE k SET a = 2 WHERE id = 'z';"
		"DROP TRIGGER p2p_u_2; UPDATE l SET n = 7 WHERE id = 'x';"
		"CREATE TABLE m(id TEXT PRIMARY KEY, n); INSERT INTO m SELECT * FROM l WHERE n = 7;"
		"DROP TABLE l; ALTER TABLE m RENAME TO l; INSERT INTO l VALUES ('v', 5); VACUUM");
	cluster_start(&cluster, 0);
	cluster_connect(&cluster, 0, 1);
	writes("SELECT 1", "SELECT id, n FROM k UNION ALL SELECT id, n FROM l ORDER BY 2",
	       "|'z'|3\n|'w'|4\n|'v'|5\n|'x'|7\n");
	end();
}

/* Nothing of ours gets in the way of an application: its statements see what they always saw. */
static void an_application_sees_its_own_results(void **state)
{
	(void)state;
	begin("CREATE TABLE g(id INTEGER PRIMARY KEY, n UNIQUE); INSERT INTO g VALUES (5, 5)");
	cluster_sql(&cluster, 0, "INSERT INTO g(n) VALUES (6)");
	expect_rows(0, "SELECT last_insert_rowid(), changes(), total_changes() > 0", "|6|1|1\n");
	cluster_sql(&cluster, 0, "UPDATE g SET n = n + 10");
	expect_rows(0, "SELECT last_insert_rowid(), changes()", "|6|2\n");
	cluster_sql(&cluster, 0, "DROP TRIGGER p2p_i_1");
	settle();
	cluster_sql(&cluster, 0, "REPLACE INTO g VALUES (9, 15)");
	expect_rows(0, "SELECT last_insert_rowid(), changes()", "|9|1\n");
	settle();
	expect_rows(1, "SELECT * FROM g ORDER BY 1", "|6|16\n|9|15\n");
	end();
}

static int64_t log_number(size_t node, const char *sql)
{
	char path[160];
	sqlite3 *db;
	sqlite3_stmt *stmt;
	int64_t number;

	(void)snprintf(path, sizeof(path), "%s/log.db", cluster.nodes[node].state);
	assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	number = sqlite3_column_int64(stmt, 0);
	(void)sqlite3_finalize(stmt);
	(void)sqlite3_close(db);
	return number;
}

/* Its changesets keep the times of its writes; nobody merges one without the others. */
static void a_transaction_of_several_seconds_is_one_group(void **state)
{
	(void)state;
	begin("CREATE TABLE t(a TEXT PRIMARY KEY, b)");
	assert_int_equal(log_number(0, "SELECT count(*) FROM changeset WHERE group_pos > 0"), 0);
	writes("BEGIN; INSERT INTO t VALUES('x', 1); UPDATE p2p_journal SET ms = ms - 5000;"
	       "INSERT INTO t VALUES('y', 2); COMMIT",
	       "SELECT a FROM t ORDER BY 1", "|'x'\n|'y'\n");
	assert_int_equal(log_number(0, "SELECT count(*) FROM changeset WHERE group_pos = 1 AND"
				       " group_last"),
			 1);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replace_through_unique_indexes_with_recursive_triggers_off),
		cmocka_unit_test(replace_through_unique_indexes_with_recursive_triggers_on),
		cmocka_unit_test(replace_in_a_large_table_is_found_slice_by_slice),
		cmocka_unit_test(a_number_of_a_row_that_was_pushed_out_is_not_free),
		cmocka_unit_test(who_is_pushed_out_by_what_is_put_back_goes_too),
		cmocka_unit_test(a_row_that_was_pushed_out_yields_no_number),
		cmocka_unit_test(upsert_that_does_nothing_updates_or_changes_keys),
		cmocka_unit_test(outer_conflict_clauses_and_what_they_leave),
		cmocka_unit_test(clauses_that_the_table_declares),
		cmocka_unit_test(changed_keys_are_a_row_that_goes_and_one_that_comes),
		cmocka_unit_test(keys_that_compare_equal_are_one_row),
		cmocka_unit_test(a_parked_row_that_is_written_anew_has_its_new_spelling),
		cmocka_unit_test(a_row_with_null_in_its_key_is_taken_up_when_it_has_none),
		cmocka_unit_test(cascades_are_captured_row_by_row),
		cmocka_unit_test(savepoints_that_are_undone_leave_nothing),
		cmocka_unit_test(a_delete_of_everything_is_one_of_every_row),
		cmocka_unit_test(rows_that_come_from_selects_views_and_other_triggers),
		cmocka_unit_test(recursive_triggers_of_the_application),
		cmocka_unit_test(tables_of_every_kind),
		cmocka_unit_test(names_that_need_quotes),
		cmocka_unit_test(a_writer_that_attached_the_file),
		cmocka_unit_test(vacuum_and_rowids),
		cmocka_unit_test(lost_triggers_are_made_up_for),
		cmocka_unit_test(a_rebuilt_table_is_compared_with_what_was_known),
		cmocka_unit_test(what_happened_while_no_node_ran),
		cmocka_unit_test(a_transaction_of_several_seconds_is_one_group),
		cmocka_unit_test(an_application_sees_its_own_results),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
