/* References: what applications write as numbers means rows, on every node, whatever becomes of the
 * numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// cmocka needs the four above
#include <cmocka.h>

#include "tests/support/cluster.h"

static struct cluster cluster;

static void begin(uint64_t seed, size_t nodes, const char *sql)
{
	cluster_init(&cluster, seed);
	cluster_share(&cluster, sql);
	while (cluster.count < nodes)
		(void)cluster_join(&cluster);
	cluster_connect_all(&cluster);
	assert_true(cluster_settle(&cluster, 5000));
	assert_true(cluster_equal(&cluster));
}

static void part(void)
{
	size_t a, b;

	for (a = 0; a < cluster.count; a++)
		for (b = 0; b < a; b++)
			cluster_disconnect(&cluster, a, b);
}

static void settle(void)
{
	if (!cluster_settle(&cluster, 60000))
		fail_msg("not settled");
	assert_true(cluster_equal(&cluster));
}

static void meet(void)
{
	cluster_connect_all(&cluster);
	settle();
}

static void expect_rows(size_t node, const char *sql, const char *rows)
{
	char *got = cluster_rows(&cluster, node, sql);

	assert_string_equal(got, rows);
	free(got);
}

static void expect_all(const char *sql, const char *rows)
{
	size_t i;

	for (i = 0; i < cluster.count; i++)
		expect_rows(i, sql, rows);
}

/* A statement on each node in turn, with its number for every '#'. */
static void each(const char *sql)
{
	char text[1024], *at;
	size_t i;

	for (i = 0; i < cluster.count; i++) {
		(void)snprintf(text, sizeof(text), "%s", sql);
		for (at = text; *at; at++)
			if (*at == '#')
				*at = (char)('0' + i);
		cluster_sql(&cluster, i, text);
		cluster_run(&cluster, 10);
	}
}

static void end(void)
{
	uint64_t changesets, rows;
	struct p2p_error err = {0};
	size_t i;

	for (i = 0; i < cluster.count; i++) {
		expect_rows(i, "PRAGMA integrity_check", "|'ok'\n");
		if (p2p_replica_verify(cluster.nodes[i].replica, &changesets, &rows, &err))
			fail_msg("node %zu: %s", i, err.msg);
	}
	cluster_deinit(&cluster);
}

static const char family[] = "CREATE TABLE parent(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT);"
			     "CREATE TABLE child(id INTEGER PRIMARY KEY AUTOINCREMENT,"
			     " parent INTEGER REFERENCES parent(id), name TEXT);"
			     "INSERT INTO parent(name) VALUES('p0');"
			     "INSERT INTO child(parent, name) VALUES(1, 'p0');";

/* R22: both rows survive, and children stay with the parent that they were written for. */
static void r22_both_rows_survive_and_children_follow(void **state)
{
	(void)state;
	begin(1, 3, family);
	part();
	each("INSERT INTO parent(name) VALUES('n#');"
	     "INSERT INTO child(parent, name) VALUES(last_insert_rowid(), 'n#');"
	     "INSERT INTO child(parent, name) SELECT parent, name FROM child WHERE id = 2");
	meet();
	expect_all("SELECT count(*), min(id) FROM parent", "|4|1\n");
	expect_all("SELECT count(*), sum(c.name = p.name), min(c.id) FROM child c"
		   " JOIN parent p ON p.id = c.parent",
		   "|7|7|1\n");
	expect_all("PRAGMA foreign_key_check", "");
	end();
}

/* R22 at size: what three offline nodes insert. */
static void r22_thousands_of_rows_find_their_parents(void **state)
{
	(void)state;
	begin(2, 3, family);
	part();
	each("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"
	     " INSERT INTO parent(name) SELECT 'n#-' || i FROM n;"
	     "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 4999)"
	     " INSERT INTO child(parent, name) SELECT id, name FROM n"
	     " JOIN parent ON id = 2 + i % 1000");
	meet();
	expect_all("SELECT count(*), min(id), count(DISTINCT name) FROM parent", "|3001|1|3001\n");
	expect_all("SELECT count(*), sum(c.name = p.name), min(c.id) FROM child c"
		   " JOIN parent p ON p.id = c.parent",
		   "|15001|15001|1\n");
	expect_all("PRAGMA foreign_key_check", "");
	end();
}

static const char trees[] =
	"CREATE TABLE node(id INTEGER PRIMARY KEY, up INTEGER REFERENCES node(id), name TEXT);"
	"CREATE TABLE a(id INTEGER PRIMARY KEY, b INTEGER REFERENCES b(id), name TEXT);"
	"CREATE TABLE b(id INTEGER PRIMARY KEY, a INTEGER REFERENCES a(id), name TEXT);"
	"INSERT INTO node VALUES(1, 3, 'one'), (2, 2, 'two'), (3, 1, 'three');";

static void references_to_oneself_and_in_circles_follow(void **state)
{
	(void)state;
	begin(3, 3, trees);
	expect_all("SELECT * FROM node ORDER BY id", "|1|3|'one'\n|2|2|'two'\n|3|1|'three'\n");
	part();
	each("INSERT INTO node VALUES(4, 5, 'n# a'), (5, 4, 'n# b'), (6, 6, 'n# c');"
	     "INSERT INTO a VALUES(1, 1, 'n#');");
	each("INSERT INTO b VALUES(1, 1, 'n#')");
	meet();
	expect_all("SELECT count(*), sum(substr(x.name, 1, 2) = substr(y.name, 1, 2))"
		   " FROM node x JOIN node y ON y.id = x.up WHERE x.id > 3",
		   "|9|9\n");
	expect_all(
		"SELECT count(*), sum(a.name = b.name) FROM a JOIN b ON b.id = a.b AND a.id = b.a",
		"|3|3\n");
	expect_all("PRAGMA foreign_key_check", "");
	end();
}

static const char orders[] =
	"CREATE TABLE orders(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT);"
	"CREATE TABLE line(orders INTEGER REFERENCES orders(id) ON DELETE CASCADE, pos INTEGER,"
	" name TEXT, PRIMARY KEY(orders, pos)) WITHOUT ROWID;"
	"CREATE TABLE extra(orders INTEGER PRIMARY KEY REFERENCES orders(id), name TEXT);"
	"CREATE TABLE mark(extra INTEGER REFERENCES extra(orders), k TEXT, name TEXT,"
	" PRIMARY KEY(k, extra));"
	"INSERT INTO orders(name) VALUES('o');"
	"INSERT INTO line VALUES(1, 1, 'o'), (1, 2, 'o');"
	"INSERT INTO extra VALUES(1, 'o');"
	"INSERT INTO mark VALUES(1, 'x', 'o');";

static const char orders_check[] =
	"SELECT (SELECT count(*) FROM orders), (SELECT min(id) FROM orders),"
	" (SELECT count(*) FROM line l JOIN orders o ON o.id = l.orders AND o.name = l.name),"
	" (SELECT count(*) FROM extra e JOIN orders o ON o.id = e.orders AND o.name = e.name),"
	" (SELECT count(*) FROM mark m JOIN orders o ON o.id = m.extra AND o.name = m.name)";

/* Composite keys that contain a reference, WITHOUT ROWID, one-to-one extension tables, and rows
 * named by those. */
static void keys_that_contain_references_follow(void **state)
{
	(void)state;
	begin(4, 3, orders);
	expect_all(orders_check, "|1|1|2|1|1\n");
	part();
	each("INSERT INTO orders(name) VALUES('n#');"
	     "INSERT INTO line SELECT id, 1, name FROM orders WHERE id = 2;"
	     "INSERT INTO line SELECT id, 2, name FROM orders WHERE id = 2;"
	     "INSERT INTO extra SELECT id, name FROM orders WHERE id = 2;"
	     "INSERT INTO mark SELECT id, 'x', name FROM orders WHERE id = 2");
	meet();
	expect_all(orders_check, "|4|1|8|4|4\n");
	expect_all("PRAGMA foreign_key_check", "");
	/* changed and deleted under the numbers that they have now */
	cluster_sql(&cluster, 1,
		    "UPDATE line SET pos = pos + 10 WHERE orders > 2;"
		    "UPDATE mark SET k = 'y' WHERE extra > 2;"
		    "DELETE FROM mark WHERE extra = 2; DELETE FROM extra WHERE orders = 2");
	settle();
	expect_all(orders_check, "|4|1|8|3|3\n");
	expect_all("SELECT count(*) FROM line WHERE pos > 10", "|4\n");
	end();
}

/* A parent under its temporary number, or its new one, when the application writes to its children.
 */
static void children_are_written_while_numbers_move(void **state)
{
	size_t i;

	(void)state;
	begin(5, 3, orders);
	part();
	each("INSERT INTO orders(name) VALUES('n#'), ('m#');"
	     "INSERT INTO line SELECT id, 1, name FROM orders WHERE id > 1");
	cluster_connect_all(&cluster);
	for (i = 0; i < 60; i++) {
		char sql[256];

		(void)snprintf(sql, sizeof(sql),
			       "INSERT INTO line SELECT id, %zu, name FROM orders;"
			       "UPDATE line SET name = name WHERE pos = 1",
			       10 + i);
		cluster_sql(&cluster, i % 3, sql);
		cluster_run(&cluster, 3);
	}
	settle();
	expect_all("SELECT count(*) - (SELECT count(*) FROM line) FROM line l"
		   " JOIN orders o ON o.id = l.orders AND o.name = l.name",
		   "|0\n");
	expect_all("PRAGMA foreign_key_check", "");
	end();
}

/* The application never turned foreign_keys on: what it leaves behind stays, on every node. */
static void children_of_a_row_that_went_stay(void **state)
{
	(void)state;
	begin(6, 2, orders);
	cluster_sql(&cluster, 0, "INSERT INTO mark VALUES(77, 'dangling', 'd')");
	cluster_sql(&cluster, 1, "DELETE FROM orders WHERE id = 1");
	settle();
	expect_all("SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM line),"
		   " (SELECT count(*) FROM extra), (SELECT count(*) FROM mark)",
		   "|0|2|1|2\n");
	/* and belongs to nobody: a row that takes the number elsewhere does not move it */
	part();
	cluster_sql(&cluster, 0, "INSERT INTO orders VALUES(1, 'a')");
	cluster_run(&cluster, 10);
	cluster_sql(&cluster, 1, "INSERT INTO orders VALUES(1, 'b')");
	meet();
	expect_all("SELECT * FROM line ORDER BY 1, 2", "|1|1|'o'\n|1|2|'o'\n");
	expect_all("SELECT count(*), min(id) FROM orders", "|2|1\n");
	end();
}

static const char cascading[] =
	"CREATE TABLE p(id INTEGER PRIMARY KEY, name TEXT);"
	"CREATE TABLE c(id INTEGER PRIMARY KEY, p INTEGER REFERENCES p(id) ON UPDATE CASCADE,"
	" name TEXT);"
	"CREATE TABLE k(p INTEGER REFERENCES p(id) ON UPDATE CASCADE, n INTEGER, name TEXT,"
	" PRIMARY KEY(p, n));"
	"CREATE TABLE s(id INTEGER PRIMARY KEY, p INTEGER REFERENCES p(id) ON DELETE SET NULL ON UPDATE CASCADE);"
	"INSERT INTO p VALUES(1, 'p'), (2, 'q');"
	"INSERT INTO c VALUES(1, 1, 'p'); INSERT INTO k VALUES(1, 1, 'p');"
	"INSERT INTO s VALUES(1, 1);";

static void a_row_that_the_application_renumbers_keeps_its_children(void **state)
{
	(void)state;
	begin(7, 3, cascading);
	cluster_sql(&cluster, 1, "PRAGMA foreign_keys = ON; UPDATE p SET id = 9 WHERE id = 1");
	settle();
	expect_all("SELECT * FROM c", "|1|9|'p'\n");
	expect_all("SELECT * FROM k", "|9|1|'p'\n");
	/* without foreign_keys nothing cascades */
	cluster_sql(&cluster, 0, "UPDATE p SET id = 10 WHERE id = 9");
	settle();
	expect_all("SELECT * FROM c", "|1|9|'p'\n");
	expect_all("SELECT * FROM k", "|9|1|'p'\n");
	expect_all("SELECT * FROM s", "|1|9\n");
	expect_all("SELECT * FROM p ORDER BY 1", "|2|'q'\n|10|'p'\n");
	end();
}

/* A crash at any moment: what is back from the log says the same as what was in memory. */
static void a_kill_loses_no_reference(void **state)
{
	uint64_t seed;

	(void)state;
	for (seed = 20; seed < 30; seed++) {
		begin(seed, 2, orders);
		part();
		each("INSERT INTO orders(name) VALUES('n#');"
		     "INSERT INTO line SELECT id, 1, name FROM orders WHERE id = 2;"
		     "INSERT INTO extra SELECT id, name FROM orders WHERE id = 2;"
		     "INSERT INTO mark SELECT id, 'x', name FROM orders WHERE id = 2;"
		     "INSERT INTO mark VALUES(500 + #, 'dangling', 'd')");
		cluster_connect_all(&cluster);
		cluster_run(&cluster, (seed - 20) * 4);
		cluster_kill(&cluster, seed % 2);
		cluster_sql(&cluster, seed % 2,
			    "UPDATE mark SET name = name || '' WHERE k = 'x';"
			    "UPDATE line SET name = name");
		cluster_start(&cluster, seed % 2);
		meet();
		expect_all(orders_check, "|3|1|4|3|3\n");
		expect_all("SELECT count(*) FROM mark WHERE k = 'dangling'", "|2\n");
		end();
	}
}

/* The delete of a parent comes first in its changeset; what its child lost is listed by a key that
 * has no number for it any more. */
static void a_row_that_goes_with_its_parent_is_listed(void **state)
{
	size_t i;

	(void)state;
	begin(9, 2,
	      "CREATE TABLE p(id INTEGER PRIMARY KEY, n);"
	      "CREATE TABLE c(p INTEGER REFERENCES p(id), w TEXT, v, PRIMARY KEY(p, w));"
	      "INSERT INTO p VALUES(1, 1), (2, 2); INSERT INTO c VALUES(1, 'a', 1), (2, 'b', 2);");
	part();
	cluster_sql(&cluster, 1, "UPDATE c SET v = v + 10");
	cluster_sql(&cluster, 0, "DELETE FROM c; DELETE FROM p");
	cluster_run(&cluster, 2000);
	meet();
	for (i = 0; i < cluster.count; i++)
		expect_rows(i, "SELECT count(*) FROM p, c", "|0\n");
	expect_rows(1, "SELECT count(*) FROM p2p_conflicts WHERE \"table\" = 'c'", "|2\n");
	end();
}

/* Entries are written one after the other: none has what only the one before had. */
static void an_entry_of_a_row_without_a_number_has_none(void **state)
{
	size_t i;

	(void)state;
	begin(10, 2,
	      "CREATE TABLE p(id INTEGER PRIMARY KEY, n); CREATE TABLE w(k TEXT PRIMARY KEY, v);"
	      "INSERT INTO p VALUES(1, 1), (2, 2); INSERT INTO w VALUES('a', 1), ('b', 2);");
	part();
	for (i = 0; i < cluster.count; i++) {
		cluster_sql(&cluster, i, "UPDATE p SET n = random() WHERE id = 1");
		cluster_run(&cluster, 10);
		cluster_sql(&cluster, i, "UPDATE w SET v = random()");
		cluster_run(&cluster, 10);
		cluster_sql(&cluster, i, "UPDATE p SET n = random() WHERE id = 2");
		cluster_run(&cluster, 10);
	}
	meet();
	expect_all("SELECT name, count(*), count(number) FROM p2p_conflict GROUP BY name",
		   "|'p'|2|2\n|'w'|2|0\n");
	end();
}

/* Pushed out by a REPLACE, its parent kept out before that was noticed: the key that it had means
 * nobody to the application any more. */
static void a_replaced_row_is_found_gone_though_its_parent_is_kept_out(void **state)
{
	(void)state;
	begin(11, 3,
	      "CREATE TABLE parent(id INTEGER PRIMARY KEY, name TEXT UNIQUE);"
	      "CREATE TABLE more(id INTEGER PRIMARY KEY REFERENCES parent(id) ON DELETE CASCADE,"
	      " v UNIQUE, n);"
	      "INSERT INTO parent VALUES(1, 'a'), (2, 'b'); INSERT INTO more VALUES(1, 'x', 0)");
	part();
	cluster_connect(&cluster, 1, 2);
	cluster_sql(&cluster, 1, "INSERT INTO parent VALUES(3, 'c')");
	cluster_run(&cluster, 100);
	cluster_sql(&cluster, 0, "UPDATE parent SET name = 'c' WHERE id = 1");
	cluster_run(&cluster, 10);
	cluster_sql(&cluster, 0, "INSERT OR REPLACE INTO more VALUES(2, 'x', 0)");
	cluster_sql(&cluster, 1, "UPDATE more SET n = 1");
	cluster_run(&cluster, 10);
	cluster_connect_all(&cluster);
	cluster_run(&cluster, 3000);
	settle();
	expect_all("SELECT * FROM parent", "|2|'b'\n|3|'c'\n");
	expect_all("SELECT * FROM more", "|2|'x'|0\n");
	cluster_sql(&cluster, 1, "UPDATE parent SET name = 'd' WHERE id = 3");
	cluster_run(&cluster, 3000);
	settle();
	expect_all("SELECT * FROM parent", "|1|'c'\n|2|'b'\n|3|'d'\n");
	expect_all("SELECT * FROM more", "|2|'x'|0\n");
	end();
}

/* What a fold puts back, before anybody looked for rows that a REPLACE pushed out, would refer to
 * one of them, and be captured as if the application had left it so. */
static void a_row_that_comes_back_finds_its_parent_replaced(void **state)
{
	(void)state;
	begin(12, 2,
	      "CREATE TABLE parent(id INTEGER PRIMARY KEY, name UNIQUE);"
	      "CREATE TABLE child(u TEXT PRIMARY KEY, v UNIQUE, parent INTEGER REFERENCES"
	      " parent(id)); INSERT INTO parent VALUES(1, 'a'), (2, 'b')");
	part();
	cluster_sql(&cluster, 0, "INSERT INTO child VALUES('first', 'x', 2)");
	cluster_sql(&cluster, 1, "INSERT INTO child VALUES('second', 'x', 2)");
	meet();
	expect_all("SELECT v, parent FROM child", "|'x'|2\n");
	part();
	cluster_sql(&cluster, 1, "DELETE FROM child; INSERT OR REPLACE INTO parent VALUES(3, 'b')");
	cluster_run(&cluster, 3000);
	expect_rows(1, "PRAGMA foreign_key_check", "");
	meet();
	cluster_sql(&cluster, 0, "INSERT INTO parent VALUES(4, 'd')");
	cluster_run(&cluster, 3000);
	settle();
	expect_all("SELECT * FROM parent", "|1|'a'\n|3|'b'\n|4|'d'\n");
	expect_all("SELECT * FROM child", "");
	expect_all("SELECT count(*) FROM p2p_ref WHERE pt = 0", "|0\n");
	end();
}

/* What it had replaced by its key was not noticed to be gone when another row with that key came
 * back: a number that is loose, and one that names its parent. */
static void a_replaced_row_is_found_gone_before_another_has_its_key(void **state)
{
	(void)state;
	begin(13, 4,
	      "CREATE TABLE parent(id INTEGER PRIMARY KEY, name TEXT);"
	      "CREATE TABLE more(id INTEGER PRIMARY KEY REFERENCES parent(id) ON DELETE CASCADE,"
	      " v UNIQUE, n)");
	part();
	cluster_connect(&cluster, 0, 3);
	cluster_connect(&cluster, 1, 2);
	cluster_sql(&cluster, 0, "INSERT INTO more VALUES(2, 'x', 0)");
	cluster_run(&cluster, 3000);
	cluster_sql(&cluster, 1,
		    "INSERT INTO parent VALUES(2, 'b'); INSERT INTO more VALUES(2, 'y', 0)");
	cluster_run(&cluster, 100);
	cluster_disconnect(&cluster, 1, 2);
	cluster_connect(&cluster, 0, 1);
	cluster_run(&cluster, 3000);
	expect_rows(0, "SELECT * FROM more", "|2|'x'|0\n");
	part();
	cluster_sql(&cluster, 0, "INSERT OR REPLACE INTO more VALUES(3, 'x', 0)");
	cluster_sql(&cluster, 2, "UPDATE more SET n = 1");
	cluster_run(&cluster, 10);
	cluster_connect_all(&cluster);
	cluster_run(&cluster, 3000);
	settle();
	expect_all("SELECT * FROM parent", "|2|'b'\n");
	expect_all("SELECT * FROM more", "|2|'y'|1\n|3|'x'|0\n");
	end();
}

/* The application gives a new row the temporary number of one that is kept out; what comes before
 * the projection finds the row that stands there. */
static void a_number_is_of_the_row_that_stands_there(void **state)
{
	(void)state;
	begin(14, 2,
	      "CREATE TABLE parent(id INTEGER PRIMARY KEY, name TEXT UNIQUE);"
	      "CREATE TABLE child(id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent(id),"
	      " pos, UNIQUE(parent, pos));"
	      "INSERT INTO parent VALUES(1, 'one'); INSERT INTO child VALUES(1, 1, 1)");
	part();
	cluster_sql(&cluster, 0, "INSERT INTO parent VALUES(5, 'x'), (6, 'a')");
	cluster_run(&cluster, 10);
	cluster_sql(&cluster, 1, "INSERT INTO parent VALUES(5, 'a')");
	meet();
	expect_all("SELECT count(*) FROM p2p_temp JOIN p2p_parked USING(t, k)", "|1\n");
	part();
	cluster_sql(&cluster, 0,
		    "INSERT INTO parent SELECT shown, 'q' FROM p2p_temp;"
		    "INSERT INTO child SELECT 2, id, 2 FROM parent WHERE name = 'q';"
		    "UPDATE child SET parent = (SELECT id FROM parent WHERE name = 'q')");
	cluster_run(&cluster, 10);
	cluster_sql(&cluster, 1, "UPDATE child SET pos = 2");
	meet();
	cluster_sql(&cluster, 0, "DELETE FROM child WHERE id = 2");
	cluster_run(&cluster, 3000);
	settle();
	expect_all("SELECT c.id, name, pos FROM child c JOIN parent p ON p.id = parent",
		   "|1|'q'|2\n");
	end();
}

/* Captured, then pushed out before it was frozen: the row that has its key, and stays, means nobody
 * any more. */
static void a_key_that_names_a_row_replaced_before_it_was_frozen_is_loose(void **state)
{
	(void)state;
	begin(13, 2,
	      "CREATE TABLE parent(id INTEGER PRIMARY KEY, name UNIQUE);"
	      "CREATE TABLE more(id INTEGER PRIMARY KEY REFERENCES parent(id), v)");
	part();
	cluster_sql(&cluster, 0, "INSERT INTO parent VALUES(1, 'a')");
	cluster_sql(&cluster, 0, "INSERT INTO more VALUES(1, 'x')");
	cluster_run(&cluster, 10);
	cluster_sql(&cluster, 0, "INSERT OR REPLACE INTO parent VALUES(2, 'a')");
	meet();
	expect_all("SELECT * FROM parent", "|2|'a'\n");
	expect_all("SELECT * FROM more", "|1|'x'\n");
	end();
}

/* A row that a REPLACE pushed out before anybody had heard of it: rows that it had named are under
 * the same keys, and are others now. */
static void rows_named_by_one_that_nobody_heard_of_stay(void **state)
{
	(void)state;
	begin(14, 2,
	      "CREATE TABLE parent(id INTEGER PRIMARY KEY, name UNIQUE);"
	      "CREATE TABLE more(id INTEGER PRIMARY KEY REFERENCES parent(id), v UNIQUE);"
	      "CREATE TABLE part(id INTEGER PRIMARY KEY REFERENCES parent(id), v);"
	      "CREATE TABLE pair(id INTEGER REFERENCES parent(id), n TEXT, v UNIQUE,"
	      " PRIMARY KEY(id, n))");
	part();
	cluster_sql(&cluster, 0,
		    "INSERT INTO parent VALUES(6, 'a'); INSERT INTO more VALUES(6, 1);"
		    "INSERT INTO part VALUES(6, 1); INSERT INTO pair VALUES(6, 'x', 1)");
	cluster_run(&cluster, 10);
	cluster_sql(&cluster, 0, "INSERT OR REPLACE INTO parent VALUES(7, 'a')");
	cluster_run(&cluster, 3000);
	meet();
	cluster_run(&cluster, 3000);
	settle();
	expect_all("SELECT * FROM parent", "|7|'a'\n");
	expect_all("SELECT * FROM more", "|6|1\n");
	expect_all("SELECT * FROM part", "|6|1\n");
	expect_all("SELECT * FROM pair", "|6|'x'|1\n");
	end();
}

/* A column without a type holds what it is given: a number that is no integer is a value, though
 * it equals one. */
static void what_is_no_integer_follows_nobody(void **state)
{
	(void)state;
	begin(14, 2,
	      "CREATE TABLE parent(id INTEGER PRIMARY KEY, n);"
	      "CREATE TABLE child(k TEXT PRIMARY KEY, p REFERENCES parent(id) ON DELETE CASCADE)");
	part();
	each("INSERT INTO parent VALUES(5, 'n#');"
	     "INSERT INTO child VALUES('i#', 5), ('r#', 5.0)");
	meet();
	expect_all("SELECT k FROM child WHERE typeof(p) = 'real' AND p = 5 ORDER BY k",
		   "|'r0'\n|'r1'\n");
	expect_all("SELECT k FROM child JOIN parent ON id = p"
		   " WHERE typeof(p) = 'integer' AND substr(n, 2) = substr(k, 2) ORDER BY k",
		   "|'i0'\n|'i1'\n");
	cluster_sql(&cluster, 0, "PRAGMA foreign_keys = OFF; DELETE FROM parent");
	cluster_run(&cluster, 3000);
	settle();
	expect_all("SELECT k FROM child WHERE typeof(p) = 'real' AND p = 5 ORDER BY k",
		   "|'r0'\n|'r1'\n");
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(r22_both_rows_survive_and_children_follow),
		cmocka_unit_test(r22_thousands_of_rows_find_their_parents),
		cmocka_unit_test(references_to_oneself_and_in_circles_follow),
		cmocka_unit_test(keys_that_contain_references_follow),
		cmocka_unit_test(children_are_written_while_numbers_move),
		cmocka_unit_test(children_of_a_row_that_went_stay),
		cmocka_unit_test(a_row_that_the_application_renumbers_keeps_its_children),
		cmocka_unit_test(a_kill_loses_no_reference),
		cmocka_unit_test(a_row_that_goes_with_its_parent_is_listed),
		cmocka_unit_test(an_entry_of_a_row_without_a_number_has_none),
		cmocka_unit_test(a_replaced_row_is_found_gone_though_its_parent_is_kept_out),
		cmocka_unit_test(a_row_that_comes_back_finds_its_parent_replaced),
		cmocka_unit_test(a_key_that_names_a_row_replaced_before_it_was_frozen_is_loose),
		cmocka_unit_test(what_is_no_integer_follows_nobody),
		cmocka_unit_test(a_number_is_of_the_row_that_stands_there),
		cmocka_unit_test(a_replaced_row_is_found_gone_before_another_has_its_key),
		cmocka_unit_test(rows_named_by_one_that_nobody_heard_of_stay),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
