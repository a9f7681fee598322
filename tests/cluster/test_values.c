/* FOREIGN KEYs by value (TEXT, of several columns, to a UNIQUE column) that an application leaves
 * dangling: it never turned foreign_keys on, or turned it off for a while. Its rows stay where it
 * sees them, on every node; and where it does not dangle, the key constrains. */
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

static const char codes[] =
	"CREATE TABLE code(name TEXT PRIMARY KEY, v);"
	"CREATE TABLE usage(id INTEGER PRIMARY KEY, code TEXT REFERENCES code(name), v);"
	"CREATE TABLE pair(a, b INTEGER, v, PRIMARY KEY(a, b)) WITHOUT ROWID;"
	"CREATE TABLE two(id TEXT PRIMARY KEY, a, b INTEGER, FOREIGN KEY(a, b) REFERENCES pair(a, b));"
	"CREATE TABLE uniq(id INTEGER PRIMARY KEY, tag TEXT UNIQUE COLLATE NOCASE);"
	"CREATE TABLE tagged(id INTEGER PRIMARY KEY, tag TEXT REFERENCES uniq(tag));"
	"CREATE TABLE line(code TEXT, n INTEGER, v, PRIMARY KEY(code, n),"
	" FOREIGN KEY(code) REFERENCES code(name));"
	"INSERT INTO code VALUES('c', 1), ('d', 2);"
	"INSERT INTO usage VALUES(1, 'c', 1), (2, 'd', 2);"
	"INSERT INTO pair VALUES('p', 1, 1), ('q', 2, 2);"
	"INSERT INTO two VALUES('1', 'p', 1), ('2', 'q', 2), ('3', 'p', NULL);"
	"INSERT INTO uniq VALUES(1, 'x'), (2, 'y');"
	"INSERT INTO tagged VALUES(1, 'X'), (2, 'y');"
	"INSERT INTO line VALUES('c', 1, 1), ('d', 2, 2);";
static const char counts[] = "SELECT (SELECT count(*) FROM usage), (SELECT count(*) FROM two),"
			     " (SELECT count(*) FROM tagged), (SELECT count(*) FROM line),"
			     " (SELECT count(*) FROM p2p_parked)";

static struct cluster cluster;

static void begin(uint64_t seed)
{
	cluster_init(&cluster, seed);
	cluster_share(&cluster, codes);
	while (cluster.count < 3)
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

static void meet(void)
{
	cluster_connect_all(&cluster);
	if (!cluster_settle(&cluster, 60000))
		fail_msg("not settled");
	cluster_run(&cluster, 2500); /* everybody's own is folded */
	assert_true(cluster_equal(&cluster));
}

static void expect_all(const char *sql, const char *rows)
{
	size_t i;

	for (i = 0; i < cluster.count; i++) {
		char *got = cluster_rows(&cluster, i, sql);

		assert_string_equal(got, rows);
		free(got);
	}
}

static void end(void)
{
	uint64_t changesets, rows;
	struct p2p_error err = {0};
	size_t i;

	for (i = 0; i < cluster.count; i++)
		if (p2p_replica_verify(cluster.nodes[i].replica, &changesets, &rows, &err))
			fail_msg("node %zu: %s", i, err.msg);
	cluster_deinit(&cluster);
}

static void what_dangles_where_it_was_written_is_shown_everywhere(void **state)
{
	(void)state;
	begin(1);
	cluster_sql(&cluster, 0,
		    "INSERT INTO usage VALUES(3, 'none', 3);"
		    "INSERT INTO two VALUES('4', 'p', 2), ('5', 'none', 1);"
		    "INSERT INTO tagged VALUES(3, 'none');"
		    "INSERT INTO line VALUES('none', 1, 3)");
	meet();
	expect_all(counts, "|3|5|3|3|0\n");
	/* one column of a key, and a value that SQLite converts */
	cluster_sql(&cluster, 1,
		    "UPDATE usage SET code = 'gone' WHERE id = 1;"
		    "UPDATE two SET b = '7' WHERE id = '2';"
		    "UPDATE two SET b = 9 WHERE id = '3';"
		    "UPDATE tagged SET tag = 'Z' WHERE id = 1");
	meet();
	expect_all(counts, "|3|5|3|3|0\n");
	end();
}

static void who_loses_its_parent_where_nobody_asks_stays(void **state)
{
	(void)state;
	begin(2);
	cluster_sql(
		&cluster, 1,
		"DELETE FROM code WHERE name = 'c'; DELETE FROM pair; DELETE FROM uniq WHERE id = 2");
	meet();
	expect_all(counts, "|2|3|2|2|0\n");
	/* the values that were meant are others now */
	cluster_sql(&cluster, 2,
		    "UPDATE uniq SET tag = 'other' WHERE id = 1;"
		    "UPDATE code SET name = 'e' WHERE name = 'd'");
	meet();
	expect_all(counts, "|2|3|2|2|0\n");
	expect_all("SELECT (SELECT group_concat(code) FROM usage), (SELECT group_concat(tag) FROM"
		   " tagged), (SELECT group_concat(code) FROM line)",
		   "|'c,d'|'X,y'|'c,d'\n");
	end();
}

/* Not what an application left dangling, but what came of two. */
static void what_meets_a_delete_waits_for_its_parent(void **state)
{
	(void)state;
	begin(3);
	/* these two were loose once, and are no longer */
	cluster_sql(&cluster, 0,
		    "UPDATE usage SET code = 'none' WHERE id = 2;"
		    "UPDATE two SET a = 'none' WHERE id = '2'");
	meet();
	cluster_sql(&cluster, 0,
		    "UPDATE usage SET code = 'd' WHERE id = 2;"
		    "UPDATE two SET a = 'q' WHERE id = '2'");
	meet();
	part();
	cluster_sql(&cluster, 1,
		    "INSERT INTO usage VALUES(5, 'c', 5);"
		    "INSERT INTO two VALUES('5', 'p', 1);"
		    "INSERT INTO line VALUES('c', 5, 5)");
	cluster_sql(&cluster, 2,
		    "DELETE FROM usage WHERE code = 'c'; DELETE FROM line WHERE code = 'c';"
		    "DELETE FROM code WHERE name = 'c';"
		    "DELETE FROM two WHERE a = 'p' AND b = 1; DELETE FROM pair WHERE a = 'p'");
	cluster_sql(&cluster, 1, "UPDATE usage SET v = 20 WHERE id = 2");
	meet();
	expect_all(counts, "|1|2|2|1|3\n");
	cluster_sql(&cluster, 0,
		    "INSERT INTO code VALUES('c', 3); INSERT INTO pair VALUES('p', 1, 3)");
	meet();
	expect_all(counts, "|2|3|2|2|0\n");
	part();
	cluster_sql(&cluster, 1,
		    "UPDATE usage SET code = 'c' WHERE id = 2; UPDATE two SET a = 'p', b = 1"
		    " WHERE id = '2'");
	cluster_sql(&cluster, 2,
		    "DELETE FROM usage WHERE code = 'c'; DELETE FROM line WHERE code = 'c';"
		    "DELETE FROM code WHERE name = 'c'; DELETE FROM two WHERE a = 'p';"
		    "DELETE FROM pair WHERE a = 'p'");
	meet();
	expect_all("SELECT count(*) FROM p2p_parked", "|2\n");
	end();
}

/* One column of two is written, and the other was what said that the key dangles. */
static void a_key_that_finds_its_parent_constrains_again(void **state)
{
	(void)state;
	begin(4);
	cluster_sql(&cluster, 0, "INSERT INTO two VALUES('5', 'none', 1)");
	meet();
	cluster_sql(&cluster, 1, "UPDATE two SET a = 'p' WHERE id = '5'");
	meet();
	part();
	cluster_sql(&cluster, 0,
		    "DELETE FROM two WHERE a = 'p' AND b = 1; DELETE FROM pair WHERE a = 'p'");
	cluster_sql(&cluster, 2, "INSERT INTO two VALUES('6', 'p', 1)");
	meet();
	expect_all("SELECT (SELECT group_concat(id) FROM two), (SELECT count(*) FROM p2p_parked)",
		   "|'2,3'|1\n");
	/* of a row that nobody deletes */
	cluster_sql(&cluster, 0, "INSERT INTO two VALUES('7', 'none', 2)");
	meet();
	part();
	cluster_sql(&cluster, 1, "UPDATE two SET a = 'q' WHERE id = '7'");
	cluster_sql(&cluster, 2, "DELETE FROM two WHERE a = 'q'; DELETE FROM pair WHERE a = 'q'");
	meet();
	expect_all("SELECT count(*) FROM p2p_parked", "|2\n");
	end();
}

/* Frozen, and the file does not have it: it comes back from the log. */
static void a_kill_forgets_nothing_of_it(void **state)
{
	struct p2p_error err = {0};
	uint64_t seed;

	(void)state;
	for (seed = 10; seed < 14; seed++) {
		begin(seed);
		cluster_sql(
			&cluster, 0,
			"INSERT INTO usage VALUES(3, 'none', 3); INSERT INTO line VALUES('none', 1, 3);"
			"DELETE FROM code; DELETE FROM uniq; DELETE FROM pair");
		if (p2p_replica_freeze(cluster.nodes[0].replica, &err))
			fail_msg("%s", err.msg);
		cluster_kill(&cluster, 0);
		cluster_start(&cluster, 0);
		if (cluster_random(&cluster, 2))
			cluster_sql(&cluster, 0, "UPDATE usage SET v = 9; UPDATE line SET v = 9");
		meet();
		expect_all(counts, "|3|3|2|3|0\n");
		end();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_dangles_where_it_was_written_is_shown_everywhere),
		cmocka_unit_test(who_loses_its_parent_where_nobody_asks_stays),
		cmocka_unit_test(what_meets_a_delete_waits_for_its_parent),
		cmocka_unit_test(a_key_that_finds_its_parent_constrains_again),
		cmocka_unit_test(a_kill_forgets_nothing_of_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
