/* Yields: what an application wrote is what it sees, whoever waited for the value or the number. */
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
#include "tests/support/memfault.h"

#define FAULTS_MAX 100000

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

/* An application writes; what it wrote is frozen, so has a clock that later writes come after. */
static void write_on(size_t node, const char *sql)
{
	struct p2p_error err = {0};

	cluster_sql(&cluster, node, sql);
	if (p2p_replica_freeze(cluster.nodes[node].replica, &err))
		fail_msg("node %zu: %s", node, err.msg);
	cluster_run(&cluster, 100);
}

static const char codes[] = "CREATE TABLE t(id TEXT PRIMARY KEY, u UNIQUE, v UNIQUE);";

/* 'b' has lost u = 1 to 'a' on every node. */
static void b_waits(uint64_t seed)
{
	begin(seed, 2, codes);
	part();
	write_on(0, "INSERT INTO t VALUES('a', 1, NULL)");
	write_on(1, "INSERT INTO t VALUES('b', 1, 5)");
	meet();
	expect_all("SELECT id FROM t", "|'a'\n");
	part();
}

/* On node 0 it stays shown after it is captured and folded, on all nodes after they met. */
static void expect_kept(const char *sql, const char *rows)
{
	cluster_run(&cluster, 2000);
	expect_rows(0, sql, rows);
	meet();
	expect_all(sql, rows);
	end();
}

static void a_freed_value_stays_with_the_row_that_takes_it(void **state)
{
	(void)state;
	b_waits(1);
	cluster_sql(&cluster, 0, "DELETE FROM t; INSERT INTO t VALUES('c', 1, NULL)");
	expect_kept("SELECT id, u FROM t", "|'c'|1\n");
}

static void a_value_that_is_freed_and_taken_again_stays(void **state)
{
	(void)state;
	b_waits(2);
	cluster_sql(&cluster, 0, "UPDATE t SET u = 2; UPDATE t SET u = 1, v = 7");
	expect_kept("SELECT id, u, v FROM t", "|'a'|1|7\n");
}

static void a_row_that_returns_pushes_no_third_row_out(void **state)
{
	(void)state;
	b_waits(1);
	write_on(0, "INSERT INTO t VALUES('c', NULL, 5)");
	cluster_sql(&cluster, 0, "UPDATE t SET u = 2 WHERE id = 'a'");
	expect_kept("SELECT id FROM t ORDER BY id", "|'a'\n|'c'\n");
}

/* What is frozen is in the log, and nothing of it in the file. */
static void yields_are_read_back_from_the_log_after_a_kill(void **state)
{
	struct p2p_error err = {0};

	(void)state;
	b_waits(4);
	cluster_sql(&cluster, 0, "DELETE FROM t; INSERT INTO t VALUES('c', 1, NULL)");
	assert_int_equal(p2p_replica_freeze(cluster.nodes[0].replica, &err), 0);
	cluster_kill(&cluster, 0);
	cluster_start(&cluster, 0);
	expect_kept("SELECT id, u FROM t", "|'c'|1\n");
}

static const char slots[] = "CREATE TABLE owner(id INTEGER PRIMARY KEY, name TEXT);"
			    "CREATE TABLE slot(name TEXT PRIMARY KEY, note TEXT,"
			    " owner INTEGER REFERENCES owner, place TEXT COLLATE NOCASE,"
			    " UNIQUE(owner, place));"
			    "CREATE UNIQUE INDEX notes ON slot(lower(note)) WHERE note <> '-';"
			    "INSERT INTO owner VALUES(1, 'ann'), (2, 'bob');";

/* 'b' has lost ann's window to 'a'. */
static void b_waits_for_a_slot(uint64_t seed)
{
	begin(seed, 2, slots);
	part();
	write_on(0, "INSERT INTO slot VALUES('a', 'x', 1, 'window')");
	write_on(1, "INSERT INTO slot VALUES('b', 'Mine', 1, 'Window')");
	meet();
	expect_all("SELECT name FROM slot", "|'a'\n");
	part();
}

static void a_row_that_waits_claims_what_its_reference_shows(void **state)
{
	(void)state;
	b_waits_for_a_slot(8);
	cluster_sql(&cluster, 0,
		    "DELETE FROM slot; INSERT INTO slot VALUES('c', 'z', 1, 'WINDOW')");
	expect_kept("SELECT name FROM slot", "|'c'\n");
}

static void a_row_that_waits_yields_under_an_index_with_an_expression(void **state)
{
	(void)state;
	b_waits_for_a_slot(9);
	cluster_sql(&cluster, 0, "INSERT INTO slot VALUES('c', 'MINE', 2, 'door')");
	cluster_sql(&cluster, 0, "DELETE FROM slot WHERE name = 'a'");
	expect_kept("SELECT name FROM slot", "|'c'\n");
}

/* 'd' waits for its parent, and holds its values. */
static void a_row_that_waits_for_its_parent_yields(void **state)
{
	(void)state;
	begin(10, 2, slots);
	part();
	write_on(1, "INSERT INTO slot VALUES('d', 'free', 2, 'hall')");
	write_on(0, "DELETE FROM owner WHERE id = 2");
	meet();
	expect_all("SELECT name FROM slot", "");
	part();
	cluster_sql(&cluster, 0, "INSERT INTO slot VALUES('c', 'FREE', 1, 'hall')");
	expect_kept("SELECT name FROM slot", "|'c'\n");
}

/* What the application wrote in several transactions is frozen at once. */
static void many_rows_wait_and_many_are_written(void **state)
{
	size_t i;

	(void)state;
	begin(11, 2, codes);
	part();
	write_on(0, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)"
		    " INSERT INTO t SELECT 'a' || i, i, NULL FROM n");
	write_on(1, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)"
		    " INSERT INTO t SELECT 'b' || i, i, i FROM n");
	meet();
	expect_all("SELECT count(*), min(id) FROM t", "|200|'a1'\n");
	part();
	for (i = 0; i < 10; i++)
		cluster_sql(&cluster, 0,
			    "UPDATE t SET u = u + 1000 WHERE id = (SELECT min(id) FROM t WHERE"
			    " u < 1000)");
	cluster_sql(&cluster, 0,
		    "UPDATE t SET u = u - 1000 WHERE u > 1000;"
		    " UPDATE t SET v = 201 - u");
	expect_kept("SELECT count(*), min(id), count(v) FROM t", "|200|'a1'|200\n");
}

/* Node 0 shows 'second' under a temporary number, whose author has not heard of 'first'. */
static void second_is_temporary(uint64_t seed)
{
	begin(seed, 3,
	      "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT);"
	      "CREATE TABLE kid(id TEXT PRIMARY KEY, t INTEGER REFERENCES t);"
	      "INSERT INTO t VALUES(1, 'one');");
	part();
	write_on(2, "INSERT INTO t VALUES(2, 'first')");
	write_on(1, "INSERT INTO t VALUES(2, 'second'); INSERT INTO kid VALUES('of second', 2)");
	cluster_connect(&cluster, 0, 1);
	cluster_run(&cluster, 5000);
	cluster_disconnect(&cluster, 0, 1);
	cluster_connect(&cluster, 0, 2);
	cluster_run(&cluster, 5000);
	part();
	expect_rows(0, "SELECT id > 0, name FROM t WHERE name != 'one' ORDER BY name",
		    "|1|'first'\n|0|'second'\n");
}

static const char numbered[] = "SELECT t.name, kid.id FROM t LEFT JOIN kid ON kid.t = t.id"
			       " WHERE t.id = 2 OR kid.id IS NOT NULL ORDER BY 1";

/* The row is captured as gone before its number is given again: else it would be one that changed.
 */
static void third_is_written(void)
{
	struct p2p_error err = {0};
	bool changed;

	cluster_sql(&cluster, 0, "DELETE FROM t WHERE id = 2");
	assert_int_equal(p2p_replica_poll(cluster.nodes[0].replica, &changed, &err), 0);
	cluster_sql(&cluster, 0, "INSERT INTO t VALUES(2, 'third')");
}

static void a_number_stays_with_the_row_that_was_given_it(void **state)
{
	(void)state;
	second_is_temporary(5);
	third_is_written();
	expect_kept(numbered, "|'second'|'of second'\n|'third'|NULL\n");
}

static void a_number_is_yielded_after_a_kill_too(void **state)
{
	struct p2p_error err = {0};

	(void)state;
	second_is_temporary(6);
	third_is_written();
	assert_int_equal(p2p_replica_freeze(cluster.nodes[0].replica, &err), 0);
	cluster_kill(&cluster, 0);
	cluster_start(&cluster, 0);
	expect_kept(numbered, "|'second'|'of second'\n|'third'|NULL\n");
}

/* A row that is not shown has a number all the same, which an application may give. */
static void a_row_that_is_kept_out_yields_its_number(void **state)
{
	(void)state;
	begin(12, 2, "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE);");
	part();
	write_on(0, "INSERT INTO t VALUES(8, 'x')");
	write_on(1, "INSERT INTO t VALUES(7, 'x')");
	meet();
	expect_all("SELECT id, name FROM t", "|8|'x'\n");
	part();
	cluster_sql(&cluster, 0, "INSERT INTO t VALUES(7, 'y')");
	expect_kept("SELECT id, name FROM t ORDER BY id", "|7|'y'\n|8|'x'\n");
}

/* A number that nobody gives away goes to the row that waits for it. */
static void a_number_that_is_free_goes_to_the_row_that_waits(void **state)
{
	(void)state;
	second_is_temporary(7);
	cluster_sql(&cluster, 0, "DELETE FROM t WHERE id = 2");
	expect_kept(numbered, "|'second'|'of second'\n");
}

/* 'hall' refers to 2, which is gone, and shows its default in place of it; then that goes, too, and
 * its application keeps no foreign keys. */
static void a_row_stays_when_the_default_that_it_shows_goes(void **state)
{
	(void)state;
	begin(13, 2,
	      "CREATE TABLE p(id INTEGER PRIMARY KEY, name TEXT);"
	      "CREATE TABLE c(id TEXT PRIMARY KEY, p INTEGER DEFAULT 1 REFERENCES p"
	      " ON DELETE SET DEFAULT);"
	      "INSERT INTO p VALUES(1, 'one'), (2, 'two');");
	part();
	write_on(1, "INSERT INTO c VALUES('hall', 2)");
	write_on(0, "DELETE FROM p WHERE id = 2");
	meet();
	expect_all("SELECT id, p FROM c", "|'hall'|1\n");
	part();
	cluster_sql(&cluster, 0, "PRAGMA foreign_keys = OFF; DELETE FROM p");
	expect_kept("SELECT id, p FROM c", "|'hall'|1\n");
}

/* 'b' waits for its owner, who waits for a name and has lost its number. That is freed; then 'b'
 * claims what is written with the number. */
static void a_row_that_waits_claims_the_number_that_its_parent_gets(void **state)
{
	bool changed;
	struct p2p_error err = {0};

	(void)state;
	begin(14, 3,
	      "CREATE TABLE owner(id INTEGER PRIMARY KEY, name TEXT UNIQUE);"
	      "CREATE TABLE slot(name TEXT PRIMARY KEY, owner INTEGER REFERENCES owner,"
	      " place TEXT, UNIQUE(owner, place));");
	part();
	write_on(0, "INSERT INTO owner VALUES(3, 'second')");
	write_on(2, "INSERT INTO owner VALUES(2, 'first')");
	write_on(1, "INSERT INTO owner VALUES(2, 'second'); INSERT INTO slot VALUES('b', 2, 'x')");
	cluster_connect(&cluster, 0, 1);
	cluster_run(&cluster, 5000);
	cluster_disconnect(&cluster, 0, 1);
	cluster_connect(&cluster, 0, 2);
	cluster_run(&cluster, 5000);
	part();
	cluster_sql(&cluster, 0, "PRAGMA foreign_keys = OFF; DELETE FROM owner WHERE id = 2");
	assert_int_equal(p2p_replica_poll(cluster.nodes[0].replica, &changed, &err), 0);
	cluster_sql(&cluster, 0, "INSERT INTO slot VALUES('c', 2, 'x')");
	expect_kept("SELECT name FROM slot", "|'c'\n");
}

/* 'hall' shows the default in place of its own parent, which went; then the row of that default
 * loses its name to an earlier one, and is not shown either. */
static void a_default_that_waits_is_shown_by_nobody(void **state)
{
	(void)state;
	begin(10, 2,
	      "CREATE TABLE p(id INTEGER PRIMARY KEY, name TEXT UNIQUE);"
	      "CREATE TABLE c(id TEXT PRIMARY KEY, p INTEGER DEFAULT 1 REFERENCES p"
	      " ON DELETE SET DEFAULT);"
	      "INSERT INTO p VALUES(1, 'one'), (2, 'two');");
	part();
	cluster_sql(&cluster, 0, "INSERT INTO c VALUES('hall', 2)");
	cluster_sql(&cluster, 1, "DELETE FROM p WHERE id = 2");
	meet();
	expect_all("SELECT id, p FROM c", "|'hall'|1\n");
	part();
	write_on(0, "INSERT INTO p VALUES(3, 'x')");
	write_on(1, "UPDATE p SET name = 'x' WHERE id = 1");
	cluster_run(&cluster, 2000); /* folded: what waits is not looked at for that */
	meet();
	expect_all("SELECT id, name FROM p", "|3|'x'\n");
	expect_all("SELECT id, p FROM c", "");
	end();
}

/* A turn that is too long for one changeset goes on in others, with later stamps: who yields does
 * it in the last. 'b' is known to have yielded before, so it comes first where nothing is sorted.
 */
static void a_long_transaction_is_yielded_to_as_well(void **state)
{
	struct p2p_error err = {0};

	(void)state;
	begin(15, 2,
	      "CREATE TABLE t(id TEXT PRIMARY KEY, u UNIQUE, v UNIQUE);"
	      "CREATE TABLE big(id INTEGER PRIMARY KEY, bytes);");
	part();
	write_on(0, "INSERT INTO t VALUES('a', 1, NULL)");
	write_on(1, "INSERT INTO t VALUES('b', 1, 5)");
	meet();
	part();
	cluster_sql(&cluster, 0, "DELETE FROM t; INSERT INTO t VALUES('c', 1, NULL)");
	assert_int_equal(p2p_replica_freeze(cluster.nodes[0].replica, &err), 0);
	cluster_sql(&cluster, 0,
		    "BEGIN; DELETE FROM t;"
		    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 70)"
		    " INSERT INTO big SELECT i, zeroblob(1000000) FROM n;"
		    "INSERT INTO t VALUES('d', 1, NULL); COMMIT");
	assert_int_equal(p2p_replica_freeze(cluster.nodes[0].replica, &err), 0);
	expect_kept("SELECT t.id, u, count(*) FROM t, big", "|'d'|1|70\n");
}

/* A freeze that fails half-way, at each place in turn, is done again later. */
static void memory_that_runs_out_keeps_no_yield_back(void **state)
{
	uint64_t nth, failed = 1;
	int rc = P2P_ENOMEM;

	(void)state;
	b_waits_for_a_slot(16);
	cluster_sql(&cluster, 0, "INSERT INTO slot VALUES('c', 'MINE', 2, 'door')");
	cluster_sql(&cluster, 0, "DELETE FROM slot WHERE name = 'a'");
	for (nth = 0; failed && nth < FAULTS_MAX; nth++) {
		memfault_arm(nth, nth % 2);
		rc = p2p_replica_freeze(cluster.nodes[0].replica, NULL);
		failed = memfault_disarm();
		assert_true(rc == 0 || rc == P2P_ENOMEM);
	}
	assert_int_equal(rc, 0);
	assert_true(nth > 100 && nth < FAULTS_MAX);
	expect_kept("SELECT name FROM slot", "|'c'\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_freed_value_stays_with_the_row_that_takes_it),
		cmocka_unit_test(a_value_that_is_freed_and_taken_again_stays),
		cmocka_unit_test(a_row_that_returns_pushes_no_third_row_out),
		cmocka_unit_test(yields_are_read_back_from_the_log_after_a_kill),
		cmocka_unit_test(a_row_that_waits_claims_what_its_reference_shows),
		cmocka_unit_test(a_row_that_waits_yields_under_an_index_with_an_expression),
		cmocka_unit_test(a_row_that_waits_for_its_parent_yields),
		cmocka_unit_test(many_rows_wait_and_many_are_written),
		cmocka_unit_test(a_number_stays_with_the_row_that_was_given_it),
		cmocka_unit_test(a_number_is_yielded_after_a_kill_too),
		cmocka_unit_test(a_row_that_is_kept_out_yields_its_number),
		cmocka_unit_test(a_number_that_is_free_goes_to_the_row_that_waits),
		cmocka_unit_test(a_row_stays_when_the_default_that_it_shows_goes),
		cmocka_unit_test(a_row_that_waits_claims_the_number_that_its_parent_gets),
		cmocka_unit_test(a_default_that_waits_is_shown_by_nobody),
		cmocka_unit_test(a_long_transaction_is_yielded_to_as_well),
		cmocka_unit_test(memory_that_runs_out_keeps_no_yield_back),
	};

	memfault_install(true);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
