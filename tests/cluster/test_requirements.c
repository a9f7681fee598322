/* Requirements that are seen from outside only: by what applications write and read, each under
 * the requirement's number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "tests/support/cluster.h"

#define SETTLE_MS 8000

static const char shop[] =
	"CREATE TABLE item(code TEXT PRIMARY KEY, name TEXT, price REAL, stock INTEGER);"
	"INSERT INTO item VALUES('a','apple',1.5,10),('b','bread',2.0,20);";

static struct cluster cluster;

/* Nodes that have the same, and hear nobody. */
static void begin(uint64_t seed, size_t nodes, const char *sql)
{
	size_t a, b;

	cluster_init(&cluster, seed);
	cluster_share(&cluster, sql);
	while (cluster.count < nodes)
		(void)cluster_join(&cluster);
	cluster_connect_all(&cluster);
	assert_true(cluster_settle(&cluster, SETTLE_MS));
	for (a = 0; a < nodes; a++)
		for (b = a + 1; b < nodes; b++)
			cluster_disconnect(&cluster, a, b);
}

static void expect_rows(size_t node, const char *sql, const char *rows)
{
	char *got = cluster_rows(&cluster, node, sql);

	assert_string_equal(got, rows);
	free(got);
}

static void expect_everywhere(const char *sql, const char *rows)
{
	size_t i;

	for (i = 0; i < cluster.count; i++)
		expect_rows(i, sql, rows);
}

static void write_at(size_t node, const char *sql)
{
	cluster_sql(&cluster, node, sql);
	cluster_run(&cluster, 50);
}

static void meet(void)
{
	cluster_connect_all(&cluster);
	assert_true(cluster_settle(&cluster, SETTLE_MS));
	assert_true(cluster_equal(&cluster));
}

static void r02_a_key_created_twice_is_one_row(void **state)
{
	(void)state;
	begin(1, 2, shop);
	write_at(0, "INSERT INTO item VALUES('c', 'cheese', 3.0, 1)");
	write_at(1, "INSERT INTO item VALUES('c', 'cream', 4.0, 2)");
	meet();
	expect_everywhere("SELECT * FROM item WHERE code = 'c'", "|'c'|'cream'|4.0|2\n");
	cluster_deinit(&cluster);
}

/* The third hears of the end of a row that it never had; then of an older birth. */
static void r03_the_delete_of_a_missing_key_is_remembered(void **state)
{
	(void)state;
	begin(2, 4, shop);
	write_at(0, "INSERT INTO item VALUES('c', 'cheese', 3.0, 1)");
	cluster_connect(&cluster, 1, 3); /* somebody hears of both */
	cluster_run(&cluster, 3000);
	write_at(1, "INSERT INTO item VALUES('c', 'cream', 4.0, 2)");
	cluster_run(&cluster, 3000);
	write_at(1, "DELETE FROM item WHERE code = 'c'");
	cluster_connect(&cluster, 1, 2);
	cluster_run(&cluster, 3000);
	expect_rows(2, "SELECT count(*) FROM item WHERE code = 'c'", "|0\n");
	meet();
	expect_everywhere("SELECT count(*) FROM item WHERE code = 'c'", "|0\n");
	cluster_deinit(&cluster);
}

static void r04_writes_after_a_delete_have_one_outcome(void **state)
{
	(void)state;
	begin(3, 3, shop);
	write_at(0, "DELETE FROM item WHERE code = 'a'");
	write_at(1,
		 "UPDATE item SET stock = 11 WHERE code = 'a'"); /* later, and knows of nothing */
	write_at(2, "DELETE FROM item WHERE code = 'b'");
	write_at(2, "INSERT INTO item(code, name) VALUES('b', 'beer')"); /* a new life */
	write_at(0, "UPDATE item SET price = 9.0 WHERE code = 'b'");	 /* of the old one */
	meet();
	expect_everywhere("SELECT * FROM item ORDER BY code", "|'b'|'beer'|NULL|NULL\n");
	write_at(1, "INSERT INTO item(code, stock) VALUES('a', 1)");
	meet();
	expect_everywhere("SELECT * FROM item WHERE code = 'a'", "|'a'|NULL|NULL|1\n");
	cluster_deinit(&cluster);
}

static void r06_conflicts_are_judged_by_property_and_delete_wins(void **state)
{
	(void)state;
	begin(4, 3, shop);
	write_at(0, "UPDATE item SET price = 9.0, name = 'early' WHERE code = 'a'");
	write_at(1, "UPDATE item SET stock = 7, name = 'late' WHERE code = 'a'");
	write_at(2, "DELETE FROM item WHERE code = 'b'");
	write_at(0, "UPDATE item SET stock = 0 WHERE code = 'b'");
	meet();
	expect_everywhere("SELECT * FROM item", "|'a'|'late'|9.0|7\n");
	cluster_deinit(&cluster);
}

#define LONG_ROWS 6000

/* One transaction of many changesets: connections are cut and the reader is killed on its way. */
static void r07_partial_not_visible(void **state)
{
	char all[32];
	size_t step, before = 0;

	(void)state;
	begin(5, 2, shop);
	(void)snprintf(all, sizeof(all), "|%d\n", LONG_ROWS);
	write_at(0,
		 "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 6000)"
		 " INSERT INTO item(code, name) SELECT 'long' || i, hex(randomblob(500)) FROM n");
	cluster.delay_ms = 5; /* so that there is a way to be on */
	cluster_connect(&cluster, 0, 1);
	for (step = 0; step < 4000; step++) {
		char *got;

		cluster_run(&cluster, 1);
		got = cluster_rows(&cluster, 1, "SELECT count(*) FROM item WHERE code > 'long'");
		if (strcmp(got, all) == 0) {
			free(got);
			break;
		}
		assert_string_equal(got, "|0\n");
		free(got);
		before++;
		if (step == 16 || step == 35) {
			cluster_disconnect(&cluster, 0, 1);
			if (step == 35) {
				cluster_kill(&cluster, 1);
				cluster_start(&cluster, 1);
			}
			cluster_connect(&cluster, 0, 1);
		}
	}
	assert_true(before > 40); /* it was on its way when it was cut */
	assert_true(step < 4000);
	meet();
	cluster_deinit(&cluster);
}

static void r60_local_tables_stay_local(void **state)
{
	(void)state;
	begin(6, 2,
	      "CREATE TABLE item(code TEXT PRIMARY KEY, name TEXT);"
	      "CREATE TABLE p2p_local_notes(id INTEGER PRIMARY KEY, text TEXT);"
	      "CREATE TABLE schema_migrations(version TEXT PRIMARY KEY);"
	      "INSERT INTO item VALUES('a', 'apple');"
	      "INSERT INTO p2p_local_notes VALUES(1, 'mine');"
	      "INSERT INTO schema_migrations VALUES('20260101')");
	write_at(0, "INSERT INTO p2p_local_notes VALUES(2, 'mine, too');"
		    "INSERT INTO schema_migrations VALUES('20260102');"
		    "INSERT INTO item VALUES('b', 'bread')");
	cluster_connect(&cluster, 0, 1);
	assert_true(cluster_settle(&cluster, SETTLE_MS));
	expect_everywhere("SELECT code FROM item ORDER BY 1", "|'a'\n|'b'\n");
	expect_rows(0, "SELECT count(*) FROM p2p_local_notes", "|2\n");
	expect_rows(1,
		    "SELECT count(*) FROM sqlite_schema"
		    " WHERE name IN ('p2p_local_notes', 'schema_migrations')",
		    "|0\n");
	cluster_deinit(&cluster);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(r02_a_key_created_twice_is_one_row),
		cmocka_unit_test(r03_the_delete_of_a_missing_key_is_remembered),
		cmocka_unit_test(r04_writes_after_a_delete_have_one_outcome),
		cmocka_unit_test(r06_conflicts_are_judged_by_property_and_delete_wins),
		cmocka_unit_test(r07_partial_not_visible),
		cmocka_unit_test(r60_local_tables_stay_local),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
