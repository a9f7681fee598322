/* Verification finds each kind of damage, and says which changeset or table it is in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>
#include <sqlite3.h>

#include "proto/check.h"
#include "proto/limits.h"
#include "tests/support/cluster.h"

static struct cluster cluster;

/* Two nodes; what the first wrote is in the log of the second, too: three small changesets, then
 * one of several segments. */
static int setup(void **state)
{
	(void)state;
	cluster_init(&cluster, 5);
	cluster_share(&cluster, "CREATE TABLE note(id INTEGER PRIMARY KEY, body)");
	(void)cluster_join(&cluster);
	cluster_connect_all(&cluster);
	cluster_sql(&cluster, 0, "INSERT INTO note(body) VALUES('one')");
	assert_true(cluster_settle(&cluster, 5000));
	cluster_sql(&cluster, 0, "INSERT INTO note(body) VALUES('two')");
	assert_true(cluster_settle(&cluster, 5000));
	cluster_sql(&cluster, 0, "INSERT INTO note(body) VALUES('three')");
	assert_true(cluster_settle(&cluster, 5000));
	cluster_sql(&cluster, 0,
		    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 8)"
		    " INSERT INTO note(body) SELECT randomblob(100000) FROM n");
	assert_true(cluster_settle(&cluster, 5000));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	cluster_deinit(&cluster);
	return 0;
}

static void run_sql(const char *path, bool triggers, const char *sql)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, triggers, NULL),
			 SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db));
	assert_int_not_equal(sqlite3_changes(db), 0);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static int verify(size_t node, char text[256])
{
	uint64_t changesets = 0, rows = 0;
	struct p2p_error err = {0};
	int rc = p2p_replica_verify(cluster.nodes[node].replica, &changesets, &rows, &err);

	(void)snprintf(text, 256, "%s", err.msg);
	return rc;
}

static void damage_to_the_log_is_named(void **state)
{
	static const struct {
		const char *sql, *text;
	} cases[] = {
		{"UPDATE changeset SET header = zeroblob(length(header))", "its header is damaged"},
		{"UPDATE changeset SET hash = zeroblob(32)", "its header is not what was hashed"},
		{"UPDATE changeset SET signature = zeroblob(64) WHERE signature IS NOT NULL",
		 "its signature is wrong"},
		{"UPDATE changeset SET signature = NULL", "its signature is wrong"},
		{"UPDATE changeset SET (hash, signature, header) = (SELECT hash, signature, header"
		 " FROM changeset c WHERE c.id = changeset.id + 1) WHERE (id & 255) = 2",
		 "changeset 2 of replica"},
		{"DELETE FROM changeset WHERE (id & 255) = 2", "changeset 2 of replica"},
		{"DELETE FROM changeset WHERE (id & 255) = 2", "it is missing"},
		{"UPDATE changeset SET body = zeroblob(length(body)) WHERE body IS NOT NULL",
		 "its contents are not what was signed"},
		{"UPDATE segment SET data = zeroblob(length(data)) WHERE n = 1",
		 "its contents are not what was signed"},
		{"DELETE FROM segment WHERE n = 1", "its contents are not there"},
	};
	char path[200], text[256];
	size_t i, node;

	for (i = 0; i < p2p_array_len(cases); i++) {
		for (node = 0; node < 2; node++) {
			assert_int_equal(verify(node, text), 0);
			(void)snprintf(path, sizeof(path), "%s/log.db", cluster.nodes[node].state);
			run_sql(path, true, cases[i].sql);
			if (verify(node, text) != P2P_ECORRUPT || !strstr(text, cases[i].text))
				fail_msg("%s: got '%s', wanted '%s'", cases[i].sql, text,
					 cases[i].text);
		}
		(void)teardown(state);
		(void)setup(state);
	}
}

static void a_row_that_was_changed_behind_our_back_is_named(void **state)
{
	char text[256];

	(void)state;
	run_sql(cluster.nodes[1].path, false, "UPDATE note SET body = 'else' WHERE body = 'two'");
	assert_int_equal(verify(0, text), 0);
	assert_int_equal(verify(1, text), P2P_ECORRUPT);
	assert_non_null(strstr(text, "table note: 1 rows"));
	assert_non_null(strstr(text, "rescan note"));
	run_sql(cluster.nodes[1].path, false, "UPDATE note SET body = 'two' WHERE body = 'else'");
	assert_int_equal(verify(1, text), 0); /* it was only read */
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(damage_to_the_log_is_named),
		CASE(a_row_that_was_changed_behind_our_back_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
