/* An application that changes its tables, and writes into them, between any two looks of ours: what
 * it wrote is captured under the schema that it wrote it in, and what is compared with the file is
 * of one moment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "crdt/store.h"
#include "tests/support/cluster.h"

static struct cluster cluster;

/* What the application of node 0 does just before a transaction of ours begins there: the one after
 * `skip` others. */
struct moment {
	const char *sql; /* NULL: nothing, or done */
	unsigned int skip;
};
static struct moment read_begins, write_begins;
static unsigned int rescans_left, reads_left; /* until one fails; 0: none does */

int __real_p2p_store_begin_read(struct p2p_store *store, struct p2p_error *err);
int __wrap_p2p_store_begin_read(struct p2p_store *store, struct p2p_error *err);
int __real_p2p_store_begin_write(struct p2p_store *store, int timeout_ms, struct p2p_error *err);
int __wrap_p2p_store_begin_write(struct p2p_store *store, int timeout_ms, struct p2p_error *err);
int __real_p2p_store_rescan(struct p2p_store *store, const struct p2p_table *table,
			    uint64_t *out_rows, struct p2p_error *err);
int __wrap_p2p_store_rescan(struct p2p_store *store, const struct p2p_table *table,
			    uint64_t *out_rows, struct p2p_error *err);

static void application(struct moment *moment, const struct p2p_store *store)
{
	const char *sql = moment->sql;

	if (!sql || store != p2p_replica_store(cluster.nodes[0].replica))
		return;
	if (moment->skip) {
		moment->skip--;
		return;
	}
	moment->sql = NULL;
	cluster_sql(&cluster, 0, sql);
}

int __wrap_p2p_store_begin_read(struct p2p_store *store, struct p2p_error *err)
{
	application(&read_begins, store);
	if (reads_left && --reads_left == 0)
		return P2P_EIO;
	return __real_p2p_store_begin_read(store, err);
}

int __wrap_p2p_store_begin_write(struct p2p_store *store, int timeout_ms, struct p2p_error *err)
{
	application(&write_begins, store);
	return __real_p2p_store_begin_write(store, timeout_ms, err);
}

int __wrap_p2p_store_rescan(struct p2p_store *store, const struct p2p_table *table,
			    uint64_t *out_rows, struct p2p_error *err)
{
	if (!rescans_left || --rescans_left)
		return __real_p2p_store_rescan(store, table, out_rows, err);
	return P2P_EIO;
}

static int setup(void **state)
{
	(void)state;
	cluster_init(&cluster, 1);
	cluster_share(&cluster, "CREATE TABLE t(a TEXT PRIMARY KEY, b, c);"
				"INSERT INTO t VALUES('x', 1, 1), ('y', 2, 2)");
	(void)cluster_join(&cluster);
	cluster_connect(&cluster, 0, 1);
	assert_true(cluster_settle(&cluster, 5000));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	memset(&read_begins, 0, sizeof(read_begins));
	memset(&write_begins, 0, sizeof(write_begins));
	rescans_left = reads_left = 0;
	cluster_deinit(&cluster);
	return 0;
}

static int verify(size_t node)
{
	uint64_t changesets, rows;
	struct p2p_error err = {0};
	int rc = p2p_replica_verify(cluster.nodes[node].replica, &changesets, &rows, &err);

	if (rc)
		print_message("node %zu: %s\n", node, err.msg);
	return rc;
}

static void expect_all(const char *sql, const char *rows)
{
	size_t i;

	cluster_run(&cluster, 3000);
	assert_true(cluster_settle(&cluster, 10000));
	assert_null(read_begins.sql);
	assert_null(write_begins.sql);
	for (i = 0; i < cluster.count; i++) {
		char *got = cluster_rows(&cluster, i, sql);

		if (strcmp(got, rows) != 0)
			fail_msg("node %zu, %s: %s, not %s", i, sql, got, rows);
		free(got);
		assert_int_equal(verify(i), 0);
	}
}

#define GROW  "ALTER TABLE t ADD COLUMN d"
#define RENEW "ALTER TABLE t DROP COLUMN b; ALTER TABLE t ADD COLUMN b"

/* `vector`, `verify` and each merge seal what is journalled. That the table has another column by
 * now was looked for by the poll alone: the value passed for no change at all, and nobody looked at
 * the row again. */
static void a_value_is_captured_by_whoever_seals_first(void **state)
{
	(void)state;
	cluster_sql(&cluster, 1, GROW);
	cluster_sql(&cluster, 0, "BEGIN; " GROW "; UPDATE t SET d = 'new' WHERE a = 'x'; COMMIT");
	assert_int_equal(p2p_replica_freeze(cluster.nodes[0].replica, NULL), 0);
	expect_all("SELECT a, b, c, d FROM t ORDER BY a", "|'x'|1|1|'new'\n|'y'|2|2|NULL\n");
}

/* The poll looked at the schema, then at the rows: between the two the application changed both. */
static void a_column_that_comes_just_before_the_snapshot(void **state)
{
	(void)state;
	cluster_sql(&cluster, 1, GROW);
	read_begins.sql = "BEGIN; " GROW "; UPDATE t SET d = 'new' WHERE a = 'x'; COMMIT";
	cluster_sql(&cluster, 0, "UPDATE t SET c = 7 WHERE a = 'y'");
	expect_all("SELECT a, b, c, d FROM t ORDER BY a", "|'x'|1|1|'new'\n|'y'|2|7|NULL\n");
}

/* The same name, and so the same place in memory: its value was noted as that of the column which
 * was gone. */
static void a_column_that_is_put_in_again_just_before_the_snapshot(void **state)
{
	(void)state;
	cluster_sql(&cluster, 1, RENEW);
	read_begins.sql = RENEW "; UPDATE t SET b = 'new' WHERE a = 'x'";
	cluster_sql(&cluster, 0, "UPDATE t SET c = 7 WHERE a = 'y'");
	/* what is known of the old one is merged again */
	expect_all("SELECT a, b, c FROM t ORDER BY a", "|'x'|'new'|1\n|'y'|2|7\n");
}

/* It is where it was, behind all others, but declared in another way: what it showed, its DEFAULT,
 * was taken for what the column had held. */
static void the_last_column_that_is_put_in_again_with_another_default(void **state)
{
	static const char migration[] = "BEGIN; ALTER TABLE t RENAME COLUMN c TO old;"
					"ALTER TABLE t ADD COLUMN c DEFAULT 'none';"
					"UPDATE t SET c = 'one' WHERE old = 1;"
					"ALTER TABLE t DROP COLUMN old; COMMIT";

	(void)state;
	cluster_sql(&cluster, 0, migration);
	expect_all("SELECT a, b, c FROM t ORDER BY a", "|'x'|1|'one'\n|'y'|2|2\n");
	cluster_sql(&cluster, 1, migration);
	expect_all("SELECT a, b, c FROM t ORDER BY a", "|'x'|1|'one'\n|'y'|2|2\n");
}

#define GROW_MANY \
	"ALTER TABLE u ADD COLUMN c; ALTER TABLE u ADD COLUMN d; ALTER TABLE u ADD COLUMN e"

/* What is known of a row has no place for columns that came since it was last written: the plan
 * that kept it out read and wrote behind it, and what stood there was damaged, as far as pages of
 * the file. */
static void a_row_older_than_its_columns_is_kept_out_and_comes_back(void **state)
{
	(void)state;
	cluster_sql(&cluster, 0, "CREATE TABLE u(a TEXT PRIMARY KEY, b UNIQUE)");
	cluster_sql(&cluster, 1, "CREATE TABLE u(a TEXT PRIMARY KEY, b UNIQUE)");
	assert_int_equal(p2p_replica_enable(cluster.nodes[0].replica, NULL, 0, NULL, 0, NULL), 0);
	assert_true(cluster_settle(&cluster, 5000));
	cluster_disconnect(&cluster, 0, 1);
	cluster_sql(&cluster, 1, "INSERT INTO u VALUES('first', 1)");
	assert_int_equal(p2p_replica_freeze(cluster.nodes[1].replica, NULL), 0);
	cluster_run(&cluster, 100);
	cluster_sql(&cluster, 0, "INSERT INTO u VALUES('second', 1)");
	assert_int_equal(p2p_replica_freeze(cluster.nodes[0].replica, NULL), 0);
	cluster_run(&cluster, 3000);
	cluster_sql(&cluster, 0, GROW_MANY);
	cluster_sql(&cluster, 1, GROW_MANY);
	cluster_connect(&cluster, 0, 1);
	expect_all("SELECT * FROM u", "|'first'|1|NULL|NULL|NULL\n");
	cluster_sql(&cluster, 1, "DELETE FROM u");
	expect_all("SELECT * FROM u", "|'second'|1|NULL|NULL|NULL\n");
}

/* Captured, and not frozen yet. */
static void a_change_older_than_its_columns_is_frozen(void **state)
{
	(void)state;
	cluster_disconnect(&cluster, 0, 1);
	cluster_sql(&cluster, 0, "UPDATE t SET b = 5 WHERE a = 'x'");
	cluster_run(&cluster, 100);
	cluster_sql(&cluster, 0, GROW);
	cluster_sql(&cluster, 1, GROW);
	cluster_run(&cluster, 100);
	cluster_connect(&cluster, 0, 1);
	expect_all("SELECT * FROM t ORDER BY a", "|'x'|5|1|NULL\n|'y'|2|2|NULL\n");
}

/* Between the seal and the lock in which others' changes are merged: the merge failed, which a
 * person was told of. */
static void a_column_that_goes_just_before_the_lock(void **state)
{
	(void)state;
	cluster_sql(&cluster, 1, "UPDATE t SET b = 'theirs', c = 7 WHERE a = 'x'");
	write_begins.sql = "ALTER TABLE t DROP COLUMN b";
	expect_all("SELECT a, c FROM t ORDER BY a", "|'x'|7\n|'y'|2\n");
	cluster_sql(&cluster, 0, "ALTER TABLE t ADD COLUMN b");
	expect_all("SELECT a, b, c FROM t ORDER BY a", "|'x'|'theirs'|7\n|'y'|2|2\n");
}

/* All that begins with the lock, whichever transaction it is. */
static void a_rebuilt_table_at_every_lock(void **state)
{
	unsigned int skip;

	(void)state;
	for (skip = 0; skip < 6; skip++) {
		char sql[400], rows[64];

		(void)snprintf(
			sql, sizeof(sql),
			"BEGIN; CREATE TABLE n(a TEXT PRIMARY KEY, b, c);"
			"INSERT INTO n SELECT a, b, c FROM t; UPDATE n SET b = %u WHERE a = 'y';"
			"DROP TABLE t; ALTER TABLE n RENAME TO t; COMMIT",
			10 + skip);
		write_begins.sql = sql;
		write_begins.skip = skip;
		while (write_begins.sql) {
			cluster_sql(&cluster, 1, "UPDATE t SET c = c + 1 WHERE a = 'x'");
			cluster_run(&cluster, 2000);
		}
		assert_true(cluster_settle(&cluster, 10000));
		(void)snprintf(rows, sizeof(rows), "|'y'|%u|2\n", 10 + skip);
		expect_all("SELECT a, b, c FROM t WHERE a = 'y'", rows);
		assert_true(cluster_equal(&cluster));
	}
}

/* Its triggers were made in one transaction, its rows compared in the next: without the second
 * nobody knew any more that there was something to compare. */
static void a_rebuilt_table_is_compared_although_the_first_try_failed(void **state)
{
	bool changed;

	(void)state;
	cluster_sql(&cluster, 0,
		    "BEGIN; CREATE TABLE n(a TEXT PRIMARY KEY, b, c);"
		    "INSERT INTO n SELECT a, b * 10, c FROM t; DROP TABLE t;"
		    "ALTER TABLE n RENAME TO t; COMMIT");
	rescans_left = 1;
	assert_int_equal(p2p_replica_poll(cluster.nodes[0].replica, &changed, NULL), P2P_EIO);
	assert_int_equal(rescans_left, 0);
	expect_all("SELECT a, b, c FROM t ORDER BY a", "|'x'|10|1\n|'y'|20|2\n");
}

/* What was written since the seal was told to be damage. */
static void verify_beside_an_application_that_writes(void **state)
{
	unsigned int skip;

	(void)state;
	for (skip = 0; skip < 3; skip++) {
		write_begins.sql = "UPDATE t SET b = b + 1, c = c + 1";
		write_begins.skip = skip;
		assert_int_equal(verify(0), 0);
		write_begins.sql = NULL;
	}
	expect_all("SELECT count(*) FROM t", "|2\n");
	assert_true(cluster_equal(&cluster));
}

/* `status` counted its rows, and failed as a whole. */
static void a_table_that_was_just_dropped_has_no_rows(void **state)
{
	struct p2p_replica *replica = cluster.nodes[0].replica;
	const struct p2p_table *table = p2p_store_table(p2p_replica_store(replica), 0);
	uint64_t rows = 0;

	(void)state;
	assert_int_equal(p2p_replica_table_rows(replica, table, &rows), 0);
	assert_int_equal(rows, 2);
	cluster_sql(&cluster, 0, "DROP TABLE t");
	assert_int_equal(p2p_replica_table_rows(replica, table, &rows), P2P_ENOENT);
}

/* The file moved once, and the look that this asked for failed. */
static void what_could_not_be_read_is_captured_without_another_write(void **state)
{
	struct p2p_replica *replica = cluster.nodes[0].replica;
	bool changed;

	(void)state;
	cluster_sql(&cluster, 0, "UPDATE t SET b = 7 WHERE a = 'x'");
	assert_true(p2p_replica_file_moved(replica));
	reads_left = 1;
	assert_int_equal(p2p_replica_poll(replica, &changed, NULL), P2P_EIO);
	expect_all("SELECT a, b FROM t ORDER BY a", "|'x'|7\n|'y'|2\n");
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(a_value_is_captured_by_whoever_seals_first),
		CASE(a_column_that_comes_just_before_the_snapshot),
		CASE(a_column_that_is_put_in_again_just_before_the_snapshot),
		CASE(the_last_column_that_is_put_in_again_with_another_default),
		CASE(a_row_older_than_its_columns_is_kept_out_and_comes_back),
		CASE(a_change_older_than_its_columns_is_frozen),
		CASE(a_column_that_goes_just_before_the_lock),
		CASE(a_rebuilt_table_at_every_lock),
		CASE(a_rebuilt_table_is_compared_although_the_first_try_failed),
		CASE(verify_beside_an_application_that_writes),
		CASE(a_table_that_was_just_dropped_has_no_rows),
		CASE(what_could_not_be_read_is_captured_without_another_write),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
