/* Counters: what several nodes add while they do not see one another adds up, once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "proto/check.h"
#include "tests/support/cluster.h"

static const char shop[] =
	"CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, stock INTEGER NOT NULL DEFAULT 0,"
	" code UNIQUE);"
	"CREATE TABLE page(path TEXT PRIMARY KEY, hits INTEGER DEFAULT 5, seen NUMERIC) WITHOUT ROWID;"
	"INSERT INTO item(name, stock) VALUES('bolt', 5000), ('nut', 10);"
	"INSERT INTO page VALUES('/', 100, NULL), ('/a', NULL, 0);";

static struct cluster cluster;

static int enable(size_t node, const char *table, const char *counter, struct p2p_error *err)
{
	struct p2p_enable wish = {.names = &table,
				  .count = 1,
				  .counters = &counter,
				  .counter_count = 1};

	return p2p_replica_enable_as(cluster.nodes[node].replica, &wish, err);
}

static void count(size_t node, const char *table, const char *counter)
{
	struct p2p_error err = {0};

	if (enable(node, table, counter, &err))
		fail_msg("%s.%s: %s", table, counter, err.msg);
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
	cluster_tell(&cluster);
	cluster_connect_all(&cluster);
	if (!cluster_settle(&cluster, 60000))
		fail_msg("not settled");
	cluster_run(&cluster, 2500); /* everybody's own is folded */
	assert_true(cluster_equal(&cluster));
}

/* One after the other: stamped, and the clock goes on. */
static void write_now(size_t node, const char *sql)
{
	struct p2p_error err = {0};

	cluster_sql(&cluster, node, sql);
	assert_int_equal(p2p_replica_freeze(cluster.nodes[node].replica, &err), 0);
	cluster_run(&cluster, 10);
}

static void begin_with(uint64_t seed, size_t nodes, const char *sql)
{
	cluster_init(&cluster, seed);
	cluster_share(&cluster, sql);
	while (cluster.count < nodes)
		(void)cluster_join(&cluster);
	cluster.records_held = true;
	meet();
}

static void begin(uint64_t seed, size_t nodes)
{
	begin_with(seed, nodes, shop);
	count(0, "item", "stock");
	count(0, "page", "hits");
	count(0, "page", "seen");
	meet();
}

static void expect(size_t node, const char *sql, const char *rows)
{
	char *got = cluster_rows(&cluster, node, sql);

	if (strcmp(got, rows) != 0)
		fail_msg("node %zu: %s: %s, not %s", node, sql, got, rows);
	free(got);
}

static void expect_all(const char *sql, const char *rows)
{
	size_t i;

	for (i = 0; i < cluster.count; i++)
		expect(i, sql, rows);
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

static void three_nodes_that_were_apart_take_three_thousand(void **state)
{
	size_t node, i;

	(void)state;
	begin(1, 3);
	part();
	for (i = 0; i < 1000; i++)
		for (node = 0; node < 3; node++) {
			cluster_sql(&cluster, node, "UPDATE item SET stock = stock - 1");
			if (i % 250 == node)
				cluster_run(&cluster, 1500); /* captured now and then */
		}
	meet();
	expect_all("SELECT stock FROM item ORDER BY id", "|2000\n|-2990\n");
	/* and once more, with sessions up */
	for (i = 0; i < 20; i++)
		for (node = 0; node < 3; node++) {
			cluster_sql(&cluster, node, "UPDATE item SET stock = stock + 1");
			cluster_run(&cluster, cluster_random(&cluster, 30));
		}
	meet();
	expect_all("SELECT stock FROM item ORDER BY id", "|2060\n|-2930\n");
	end();
}

static void rows_made_by_several_add_up(void **state)
{
	size_t node;

	(void)state;
	begin(2, 3);
	part();
	for (node = 0; node < 3; node++)
		cluster_sql(&cluster, node,
			    "INSERT INTO page VALUES('/new', 1, 7)"
			    " ON CONFLICT DO UPDATE SET hits = hits + 1;"
			    "INSERT INTO page VALUES('/new', 1, 7)"
			    " ON CONFLICT DO UPDATE SET hits = hits + 1");
	meet();
	expect_all("SELECT hits, seen FROM page WHERE path = '/new'", "|6|21\n");
	cluster_sql(&cluster, 1, "UPDATE page SET hits = 0 WHERE path = '/new'");
	meet();
	expect_all("SELECT hits FROM page WHERE path = '/new'", "|0\n");
	end();
}

static void nothing_is_zero_to_who_counts(void **state)
{
	size_t node;

	(void)state;
	begin(3, 3);
	part();
	for (node = 0; node < 3; node++)
		cluster_sql(&cluster, node,
			    "UPDATE page SET hits = coalesce(hits, 0) + 1 WHERE path = '/a'");
	meet();
	expect_all("SELECT hits FROM page WHERE path = '/a'", "|3\n");
	/* the younger of a value that is no number and of what is counted is shown */
	part();
	write_now(0, "UPDATE page SET hits = hits + 1 WHERE path = '/a'");
	write_now(1, "UPDATE page SET hits = 'none' WHERE path = '/a'");
	meet();
	expect_all("SELECT hits FROM page WHERE path = '/a'", "|'none'\n");
	part();
	write_now(1, "UPDATE page SET hits = NULL WHERE path = '/a'");
	write_now(2, "UPDATE page SET hits = 3 WHERE path = '/a'");
	meet();
	expect_all("SELECT hits FROM page WHERE path = '/a'", "|3\n");
	/* what was added is not lost under it */
	part();
	write_now(1, "UPDATE page SET hits = hits + 1 WHERE path = '/a'");
	write_now(0, "UPDATE page SET hits = NULL WHERE path = '/a'");
	write_now(2, "UPDATE page SET hits = hits + 1 WHERE path = '/a'");
	meet();
	expect_all("SELECT hits FROM page WHERE path = '/a'", "|5\n");
	cluster_sql(&cluster, 0, "UPDATE page SET hits = 1.5, seen = 2.5");
	meet();
	expect_all("SELECT hits, seen FROM page", "|1.5|2.5\n|1.5|2.5\n");
	end();
}

static void a_delete_ends_what_was_counted_and_says_so(void **state)
{
	(void)state;
	begin(4, 3);
	part();
	cluster_sql(&cluster, 0, "DELETE FROM page WHERE path = '/'");
	cluster_sql(&cluster, 1, "UPDATE page SET hits = hits + 11 WHERE path = '/'");
	cluster_sql(&cluster, 2, "UPDATE page SET hits = hits + 7 WHERE path = '/'");
	meet();
	expect_all("SELECT count(*) FROM page WHERE path = '/'", "|0\n");
	/* with what the others added, seen together or one after the other */
	expect(1, "SELECT kind, lost->>'hits' > 0 FROM p2p_conflicts LIMIT 1", "|'delete'|1\n");
	expect_all("SELECT count(*) > 0 FROM p2p_conflicts WHERE kind = 'delete'"
		   " AND \"table\" = 'page' AND lost LIKE '%hits%'",
		   "|1\n");
	expect_all("SELECT count(*) FROM p2p_counter c JOIN p2p_table t ON t.number = c.t"
		   " WHERE t.name = 'page'",
		   "|2\n");
	/* a new life begins at what its writer says */
	cluster_sql(&cluster, 2, "INSERT INTO page VALUES('/', 1, 1)");
	meet();
	expect_all("SELECT hits FROM page WHERE path = '/'", "|1\n");
	end();
}

/* Each node lists what was added and lost, all of it, and nothing that the delete knew of. */
static void what_a_delete_lost_is_what_it_had_not_seen(void **state)
{
	uint64_t seed;

	(void)state;
	for (seed = 31; seed < 36; seed++) {
		begin(seed, 4);
		part();
		write_now(1, "UPDATE page SET hits = hits + 1000 WHERE path = '/'");
		write_now(2, "UPDATE page SET hits = hits - 300 WHERE path = '/'");
		meet();
		part();
		write_now(1, "UPDATE page SET hits = hits + 11 WHERE path = '/'");
		write_now(1, "UPDATE page SET hits = hits + 2 WHERE path = '/'");
		write_now(2, "UPDATE page SET hits = hits + 7 WHERE path = '/'");
		write_now(3, "UPDATE page SET hits = hits - 3 WHERE path = '/'");
		cluster_connect(&cluster, 1, 3);
		cluster_run(&cluster, cluster_random(&cluster, 2000));
		cluster_disconnect(&cluster, 1, 3);
		write_now(1, "UPDATE page SET hits = hits + 4 WHERE path = '/'");
		write_now(0, "UPDATE page SET hits = hits + 50000 WHERE path = '/'");
		write_now(0, "DELETE FROM page WHERE path = '/'");
		meet();
		expect_all("SELECT sum(json_extract(lost, '$.hits')) FROM p2p_conflicts"
			   " WHERE kind = 'delete' AND json_extract(\"row\", '$.path') = '/'",
			   "|21\n");
		end();
	}
}

static void a_kill_between_loses_and_doubles_nothing(void **state)
{
	uint64_t seed;
	size_t i;

	(void)state;
	for (seed = 10; seed < 16; seed++) {
		begin(seed, 2);
		part();
		for (i = 0; i < 8; i++) {
			cluster_sql(&cluster, 0,
				    "UPDATE item SET stock = stock - 1;"
				    "UPDATE page SET hits = coalesce(hits, 0) + 1;"
				    "INSERT INTO item(name, stock) VALUES('new', 3);"
				    "UPDATE item SET stock = stock + 1");
			if (cluster_random(&cluster, 2)) {
				struct p2p_error err = {0};

				/* frozen, and maybe not folded */
				assert_int_equal(p2p_replica_freeze(cluster.nodes[0].replica, &err),
						 0);
			} else {
				cluster_run(&cluster, cluster_random(&cluster, 1500));
			}
			cluster_sql(&cluster, 1, "UPDATE item SET stock = stock + 10");
			cluster_kill(&cluster, 0);
			cluster_start(&cluster, 0);
			if (cluster_random(&cluster, 2))
				meet();
			part();
		}
		meet();
		expect_all("SELECT hits FROM page ORDER BY path", "|108\n|8\n");
		expect_all("SELECT stock FROM item WHERE name = 'nut'", "|90\n");
		end();
	}
}

/* Who does not know yet that a column counts writes values: the youngest is what is added to. */
static void a_column_becomes_a_counter_while_others_are_away(void **state)
{
	(void)state;
	begin_with(5, 3, shop);
	part();
	count(0, "item", "stock");
	write_now(0, "UPDATE item SET stock = stock - 1");
	write_now(1, "UPDATE item SET stock = stock - 100 WHERE name = 'bolt'");
	meet();
	expect_all("SELECT stock FROM item ORDER BY id", "|4899\n|9\n");
	part();
	cluster_sql(&cluster, 0, "UPDATE item SET stock = stock - 1");
	cluster_sql(&cluster, 1, "UPDATE item SET stock = stock - 1");
	cluster_sql(&cluster, 2, "UPDATE item SET stock = stock - 1");
	meet();
	expect_all("SELECT stock FROM item ORDER BY id", "|4896\n|6\n");
	/* both make it one */
	part();
	count(1, "page", "hits");
	count(2, "page", "hits");
	cluster_sql(&cluster, 1, "UPDATE page SET hits = hits + 1 WHERE path = '/'");
	cluster_sql(&cluster, 2, "UPDATE page SET hits = hits + 1 WHERE path = '/'");
	meet();
	expect_all("SELECT hits FROM page WHERE path = '/'", "|102\n");
	end();
}

static void a_column_that_was_added_counts_from_its_default(void **state)
{
	size_t node;

	(void)state;
	begin_with(6, 3, shop);
	for (node = 0; node < 3; node++)
		cluster_sql(&cluster, node, "ALTER TABLE item ADD COLUMN sold INTEGER DEFAULT 50");
	meet();
	count(2, "item", "sold");
	meet();
	part();
	for (node = 0; node < 3; node++)
		cluster_sql(&cluster, node, "UPDATE item SET sold = sold + 1");
	meet();
	expect_all("SELECT sold FROM item", "|53\n|53\n");
	end();
}

static void a_backup_that_is_restored_takes_nothing_twice(void **state)
{
	static const char *const parts[] = {"db", "log", "all"};
	size_t i;

	(void)state;
	for (i = 0; i < p2p_array_len(parts); i++) {
		begin(20 + i, 2);
		cluster.records_held = false; /* a new replica id is told at once */
		cluster_sql(&cluster, 0, "UPDATE item SET stock = stock - 1");
		meet();
		cluster_save(&cluster, 0);
		cluster_sql(&cluster, 0, "UPDATE item SET stock = stock - 10");
		meet();
		cluster_kill(&cluster, 0);
		cluster_restore(&cluster, 0, parts[i]);
		cluster_start(&cluster, 0);
		cluster_connect_all(&cluster);
		cluster_run(&cluster, 3000); /* it may find out that it needs a new id */
		meet();
		expect_all("SELECT stock FROM item ORDER BY id", "|4989\n|-1\n");
		cluster_sql(&cluster, 0, "UPDATE item SET stock = stock - 100");
		cluster_sql(&cluster, 1, "UPDATE item SET stock = stock - 100");
		meet();
		expect_all("SELECT stock FROM item ORDER BY id", "|4789\n|-201\n");
		end();
	}
}

/* The file's copy under a new replica id: what it counted so far stays, and what both count adds.
 */
static void a_copy_goes_on_where_the_file_was(void **state)
{
	(void)state;
	begin(30, 2);
	cluster_sql(&cluster, 1, "UPDATE item SET stock = stock - 1");
	meet();
	cluster_kill(&cluster, 1);
	cluster_copy(&cluster, 1);
	cluster_start(&cluster, 1);
	cluster_sql(&cluster, 1, "UPDATE item SET stock = stock - 1");
	meet();
	expect_all("SELECT stock FROM item ORDER BY id", "|4998\n|8\n");
	end();
}

static void sums_end_where_integers_do(void **state)
{
	(void)state;
	begin(40, 2);
	cluster_sql(&cluster, 0, "UPDATE item SET stock = 9223372036854775800");
	meet();
	part();
	cluster_sql(&cluster, 0, "UPDATE item SET stock = stock + 5");
	cluster_sql(&cluster, 1, "UPDATE item SET stock = stock + 5");
	meet();
	expect_all("SELECT stock FROM item", "|9223372036854775807\n|9223372036854775807\n");
	cluster_sql(&cluster, 1, "UPDATE item SET stock = stock - 7");
	meet();
	expect_all("SELECT stock FROM item", "|9223372036854775800\n|9223372036854775800\n");
	/* no total of one replica says that */
	cluster_sql(&cluster, 1, "UPDATE item SET stock = -9223372036854775807 - 1");
	meet();
	cluster_sql(&cluster, 1, "UPDATE item SET stock = 0");
	meet();
	expect_all("SELECT stock FROM item", "|0\n|0\n");
	end();
}

static void a_parked_row_goes_on_counting(void **state)
{
	(void)state;
	begin(50, 2);
	part();
	write_now(0, "INSERT INTO item(id, name, stock, code) VALUES(7, 'x', 1, 'c')");
	write_now(1, "INSERT INTO item(id, name, stock, code) VALUES(8, 'y', 1, 'c')");
	write_now(1, "UPDATE item SET stock = stock + 5 WHERE code = 'c'");
	meet();
	expect_all("SELECT name, stock FROM item WHERE code = 'c'", "|'x'|1\n");
	cluster_sql(&cluster, 0, "UPDATE item SET code = 'd' WHERE code = 'c'");
	meet();
	expect_all("SELECT name, stock FROM item WHERE code = 'c'", "|'y'|6\n");
	cluster_sql(&cluster, 0, "UPDATE item SET stock = stock + 5 WHERE code = 'c'");
	meet();
	expect_all("SELECT name, stock FROM item WHERE code = 'c'", "|'y'|11\n");
	end();
}

static void what_cannot_count_is_refused_with_the_reason(void **state)
{
	static const struct {
		const char *sql, *column, *reason;
	} cases[] = {
		{"CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)", "a", "primary key"},
		{"CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)", "b", "only integers"},
		{"CREATE TABLE t(a INTEGER PRIMARY KEY, b REAL)", "t.b", "only integers"},
		{"CREATE TABLE t(a INTEGER PRIMARY KEY, b INTEGER UNIQUE)", "b", "UNIQUE"},
		{"CREATE TABLE t(a INTEGER PRIMARY KEY, b INTEGER AS (a + 1) STORED)", "b",
		 "computed"},
		{"CREATE TABLE t(a INTEGER PRIMARY KEY, b INTEGER REFERENCES t(a))", "b", "refers"},
		{"CREATE TABLE t(a INTEGER PRIMARY KEY, b INTEGER)", "c", "no such column"},
	};
	struct p2p_error err;
	size_t i;

	(void)state;
	for (i = 0; i < p2p_array_len(cases); i++) {
		begin_with(60 + i, 1, cases[i].sql);
		memset(&err, 0, sizeof(err));
		assert_int_equal(enable(0, "t", cases[i].column, &err), P2P_EREFUSED);
		if (!strstr(err.msg, cases[i].reason))
			fail_msg("%s: %s", cases[i].sql, err.msg);
		expect(0, "SELECT count(*) FROM p2p_column WHERE flags & 8", "|0\n");
		end();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(three_nodes_that_were_apart_take_three_thousand),
		cmocka_unit_test(rows_made_by_several_add_up),
		cmocka_unit_test(nothing_is_zero_to_who_counts),
		cmocka_unit_test(a_delete_ends_what_was_counted_and_says_so),
		cmocka_unit_test(what_a_delete_lost_is_what_it_had_not_seen),
		cmocka_unit_test(a_kill_between_loses_and_doubles_nothing),
		cmocka_unit_test(a_column_becomes_a_counter_while_others_are_away),
		cmocka_unit_test(a_column_that_was_added_counts_from_its_default),
		cmocka_unit_test(a_backup_that_is_restored_takes_nothing_twice),
		cmocka_unit_test(a_copy_goes_on_where_the_file_was),
		cmocka_unit_test(sums_end_where_integers_do),
		cmocka_unit_test(a_parked_row_goes_on_counting),
		cmocka_unit_test(what_cannot_count_is_refused_with_the_reason),
	};

	return cmocka_run_group_tests_name("counters", tests, NULL, NULL);
}
