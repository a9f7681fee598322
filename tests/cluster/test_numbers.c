/* Permanent numbers: rows of one table that several nodes made under one number, and what their
 * applications see of it. */
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

static const char notes[] = "CREATE TABLE note(id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT);"
			    "CREATE TABLE plain(id INTEGER PRIMARY KEY, text TEXT);"
			    "INSERT INTO note(text) VALUES('one'),('two');";

static struct cluster cluster;

static void begin(uint64_t seed, size_t nodes)
{
	cluster_init(&cluster, seed);
	cluster_share(&cluster, notes);
	while (cluster.count < nodes)
		(void)cluster_join(&cluster);
	cluster_connect_all(&cluster);
	assert_true(cluster_settle(&cluster, 5000));
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
	if (!cluster_settle(&cluster, 20000))
		fail_msg("not settled");
	assert_true(cluster_equal(&cluster));
}

static void expect_rows(size_t node, const char *sql, const char *rows)
{
	char *got = cluster_rows(&cluster, node, sql);

	assert_string_equal(got, rows);
	free(got);
}

static int64_t number_of(size_t node, const char *sql)
{
	char *got = cluster_rows(&cluster, node, sql);
	int64_t number = strtoll(got + 1, NULL, 10);

	free(got);
	return number;
}

static size_t lost_at(uint64_t seed);

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

static void a_row_that_lost_its_number_gets_a_permanent_one(void **state)
{
	uint64_t seed;

	(void)state;
	for (seed = 1; seed <= 5; seed++) {
		begin(seed, 3);
		part();
		cluster_sql(&cluster, 0, "INSERT INTO note(text) VALUES('zero')");
		cluster_run(&cluster, 10);
		cluster_sql(&cluster, 1, "INSERT INTO note(text) VALUES('first'),('next')");
		cluster_run(&cluster, 10);
		cluster_sql(&cluster, 2, "INSERT INTO note(text) VALUES('second')");
		cluster_run(&cluster, 10);
		meet();
		expect_rows(
			2, "SELECT count(*), count(DISTINCT text), min(id), max(id) < 12 FROM note",
			"|6|6|1|1\n");
		/* one of them keeps it */
		expect_rows(2,
			    "SELECT id, text IN ('zero', 'first', 'second') FROM note"
			    " WHERE id IN (3, 4) ORDER BY id",
			    "|3|1\n|4|0\n");
		end();
	}
}

/* On every node, whether it saw the temporary number or only what came of it. */
static void a_number_that_was_lost_is_listed_with_both(void **state)
{
	static const char sql[] = "SELECT kind, \"table\", lost, json_extract(kept, '$.id') ="
				  " (SELECT id FROM note WHERE text = 'second'),"
				  " kept = \"row\", length(origin) = 64 FROM p2p_conflicts";
	static const char when[] = "SELECT time, origin FROM p2p_conflicts";
	char *first, *other;
	size_t i;

	(void)state;
	begin(11, 4);
	part();
	cluster_sql(&cluster, 0, "INSERT INTO note(text) VALUES('first')");
	cluster_run(&cluster, 10);
	cluster_sql(&cluster, 1, "INSERT INTO note(text) VALUES('second')");
	cluster_run(&cluster, 10);
	cluster_connect(&cluster, 0, 1);
	cluster_connect(&cluster, 0, 2);
	cluster_run(&cluster, 5000);
	/* node 3 hears all of it at once */
	meet();
	first = cluster_rows(&cluster, 0, when);
	for (i = 0; i < cluster.count; i++) {
		expect_rows(i, sql, "|'number'|'note'|'{\"id\":3}'|1|1|1\n");
		other = cluster_rows(&cluster, i, when);
		assert_string_equal(first, other);
		free(other);
	}
	free(first);
	end();
}

static void who_has_its_number_after_all_lost_nothing(void **state)
{
	size_t loser, i;

	(void)state;
	loser = lost_at(12);
	expect_rows(loser, "SELECT kind, json_extract(kept, '$.id') < 0 FROM p2p_conflicts",
		    "|'number'|1\n");
	/* the other row goes before this one is given another number */
	cluster_disconnect(&cluster, 0, 1);
	cluster_sql(&cluster, loser, "DELETE FROM note WHERE id = 3");
	meet();
	for (i = 0; i < cluster.count; i++)
		expect_rows(i,
			    "SELECT count(*) FROM p2p_conflicts c, note n WHERE"
			    " json_extract(lost, '$.id') = n.id AND n.text LIKE 'of%'",
			    "|0\n");
	end();
}

static void who_is_numbered_stays_where_it_is(void **state)
{
	char *before, *after;

	(void)state;
	begin(7, 3);
	part();
	cluster_sql(&cluster, 1, "INSERT INTO note(text) VALUES('a'),('b'),('c')");
	cluster_sql(&cluster, 2, "INSERT INTO note(text) VALUES('d'),('e'),('f')");
	meet();
	before = cluster_rows(&cluster, 0, "SELECT * FROM note ORDER BY 1");
	/* the row that stood in its way goes: no reason to move again */
	cluster_sql(&cluster, 0, "UPDATE note SET text = text || '!' WHERE id > 2");
	meet();
	part();
	cluster_sql(&cluster, 0, "UPDATE note SET text = replace(text, '!', '')");
	meet();
	after = cluster_rows(&cluster, 0, "SELECT * FROM note ORDER BY 1");
	assert_string_equal(before, after);
	free(before);
	free(after);
	end();
}

static void autoincrement_never_meets_a_permanent_number(void **state)
{
	int64_t top;
	size_t i;

	(void)state;
	begin(8, 3);
	part();
	for (i = 0; i < 3; i++)
		cluster_sql(
			&cluster, i,
			"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50)"
			" INSERT INTO note(text) SELECT 'row ' || i FROM n");
	meet();
	expect_rows(0, "SELECT count(*), min(id) FROM note", "|152|1\n");
	for (i = 0; i < 3; i++) {
		top = number_of(i, "SELECT max(id) FROM note");
		cluster_sql(&cluster, i, "INSERT INTO note(text) VALUES('after')");
		assert_int_equal(number_of(i, "SELECT max(id) FROM note"), top + 1);
		meet();
	}
	/* a number that was given is not given again, also not after its row is gone */
	for (i = 0; i < 3; i++) {
		top = number_of(i, "SELECT max(id) FROM note");
		cluster_sql(&cluster, i, "DELETE FROM note WHERE id > 52");
		cluster_sql(&cluster, i, "INSERT INTO note(text) VALUES('once more')");
		assert_true(number_of(i, "SELECT max(id) FROM note") > top);
		meet();
	}
	end();
}

static void there_is_no_number_above_the_greatest(void **state)
{
	(void)state;
	begin(9, 3);
	cluster_sql(&cluster, 0, "INSERT INTO plain VALUES(9223372036854775807, 'last')");
	assert_true(cluster_settle(&cluster, 5000));
	part();
	cluster_sql(&cluster, 0, "INSERT INTO plain VALUES(5, 'a'), (6, 'b')");
	cluster_sql(&cluster, 1, "INSERT INTO plain VALUES(5, 'c'), (6, 'd')");
	cluster_sql(&cluster, 2, "INSERT INTO plain VALUES(5, 'e'), (6, 'f')");
	meet();
	expect_rows(1, "SELECT count(*), min(id), count(DISTINCT text) FROM plain", "|7|5|7\n");
	end();
}

/* Two nodes make a row under one number and meet. Returns the one whose row lost it, which has not
 * yet given it another. */
static size_t lost_at(uint64_t seed)
{
	size_t i, loser = 2;

	begin(seed, 3);
	part();
	cluster_sql(&cluster, 0, "INSERT INTO note(text) VALUES('of 0')");
	cluster_run(&cluster, 10);
	cluster_sql(&cluster, 1, "INSERT INTO note(text) VALUES('of 1')");
	cluster_run(&cluster, 10);
	cluster_connect(&cluster, 0, 1);
	for (i = 0; i < 2000 && loser > 1; i++) {
		cluster_run(&cluster, 1);
		if (number_of(0, "SELECT count(*) FROM note WHERE id < 0 AND text = 'of 0'"))
			loser = 0;
		if (number_of(1, "SELECT count(*) FROM note WHERE id < 0 AND text = 'of 1'"))
			loser = 1;
	}
	assert_true(loser < 2);
	return loser;
}

/* Between the change and its fold the row has a number that its table does not show: an application
 * that reads holds the fold up, and then takes that very number. */
static void an_application_that_takes_the_number_first_keeps_it(void **state)
{
	struct p2p_replica_status status;
	size_t node;

	(void)state;
	node = lost_at(10);
	cluster_sql(&cluster, node, "BEGIN; SELECT count(*) FROM note");
	cluster_run(&cluster, 20);
	assert_int_equal(p2p_replica_status(cluster.nodes[node].replica, &status), 0);
	assert_true(status.numbering && !status.journal);
	cluster_sql(&cluster, node, "INSERT INTO note VALUES(4,'x'),(5,'y'),(6,'z'); COMMIT");
	meet();
	expect_rows(0, "SELECT id, text FROM note WHERE id BETWEEN 4 AND 6 ORDER BY 1",
		    "|4|'x'\n|5|'y'\n|6|'z'\n");
	expect_rows(0, "SELECT count(*) FROM note WHERE text LIKE 'of%' AND id > 6", "|1\n");
	end();
}

/* And pushes the very row out with it, of which no trigger tells: the node said of its own file
 * that it was damaged, and told nobody anything more. */
static void an_application_that_takes_number_and_place(void **state)
{
	char sql[200], rows[100];
	size_t node, i;

	(void)state;
	node = lost_at(10);
	for (i = 0; i < cluster.count; i++)
		cluster_sql(&cluster, i, "CREATE UNIQUE INDEX note_text ON note(text)");
	cluster_sql(&cluster, node, "BEGIN; SELECT count(*) FROM note");
	cluster_run(&cluster, 20);
	(void)snprintf(sql, sizeof(sql),
		       "REPLACE INTO note VALUES(4,'x'),(5,'of %zu'),(6,'z'); COMMIT", node);
	cluster_sql(&cluster, node, sql);
	meet();
	(void)snprintf(rows, sizeof(rows), "|4|'x'\n|5|'of %zu'\n|6|'z'\n", node);
	expect_rows(0, "SELECT id, text FROM note WHERE id > 3 ORDER BY 1", rows);
	end();
}

/* Whenever it is killed, before, while and after it gives its rows new numbers. */
static void a_kill_leaves_no_temporary_number(void **state)
{
	uint64_t seed;

	(void)state;
	for (seed = 100; seed < 112; seed++) {
		begin(seed, 2);
		part();
		cluster_sql(&cluster, 0, "INSERT INTO note(text) VALUES('a'),('b')");
		cluster_run(&cluster, 10);
		cluster_sql(&cluster, 1, "INSERT INTO note(text) VALUES('c'),('d'),('e')");
		cluster_run(&cluster, 10);
		cluster_connect_all(&cluster);
		cluster_run(&cluster, 2 + (seed - 100) * 3);
		cluster_kill(&cluster, 1);
		cluster_run(&cluster, 5);
		if (seed % 2)
			cluster_sql(&cluster, 1, "UPDATE note SET text = text || '+' WHERE id < 0");
		cluster_start(&cluster, 1);
		meet();
		expect_rows(1, "SELECT count(*), min(id), count(DISTINCT id) FROM note",
			    "|7|1|7\n");
		end();
	}
}

/* The application changes a row under its temporary number, or deletes it. */
static void a_row_may_change_while_its_number_does(void **state)
{
	static const char *const writes[] = {"UPDATE note SET text = 'changed' WHERE id < 0",
					     "DELETE FROM note WHERE id < 0",
					     "UPDATE note SET id = 50 WHERE id < 0"};
	static const char *const rows[] = {"|4|1|1\n", "|3|1|0\n", "|4|1|0\n"};
	size_t turn, node;
	char sql[128];

	(void)state;
	for (turn = 0; turn < 6; turn++) {
		node = lost_at(200 + turn);
		cluster_sql(&cluster, node, "BEGIN; SELECT count(*) FROM note");
		cluster_run(&cluster, turn < 3 ? 20 : 1);
		(void)snprintf(sql, sizeof(sql), "%s; COMMIT", writes[turn % 3]);
		cluster_sql(&cluster, node, sql);
		meet();
		expect_rows(2, "SELECT count(*), min(id), sum(text = 'changed') FROM note",
			    rows[turn % 3]);
		end();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_row_that_lost_its_number_gets_a_permanent_one),
		cmocka_unit_test(a_number_that_was_lost_is_listed_with_both),
		cmocka_unit_test(who_has_its_number_after_all_lost_nothing),
		cmocka_unit_test(who_is_numbered_stays_where_it_is),
		cmocka_unit_test(autoincrement_never_meets_a_permanent_number),
		cmocka_unit_test(there_is_no_number_above_the_greatest),
		cmocka_unit_test(an_application_that_takes_the_number_first_keeps_it),
		cmocka_unit_test(an_application_that_takes_number_and_place),
		cmocka_unit_test(a_kill_leaves_no_temporary_number),
		cmocka_unit_test(a_row_may_change_while_its_number_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
