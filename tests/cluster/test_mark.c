/* What was copied or put back goes on under another replica id: see crdt/mark.h. */
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

static void change_nothing(void)
{
}

static void copy_the_database(void)
{
	cluster_copy(&cluster, 1);
}

static void restore_the_database(void)
{
	cluster_restore(&cluster, 1, "db");
}

static void restore_the_log(void)
{
	cluster_restore(&cluster, 1, "log");
}

static void lose_the_mark(void)
{
	char mark[160];

	(void)snprintf(mark, sizeof(mark), "%s/mark", cluster.nodes[1].state);
	assert_int_equal(unlink(mark), 0);
}

static void damage_the_mark(void)
{
	char mark[160];

	(void)snprintf(mark, sizeof(mark), "%s/mark", cluster.nodes[1].state);
	assert_int_equal(truncate(mark, 20), 0);
}

/* running: the backup is of the same start, so that only the head tells. Returns whether node 1
 * goes on under the same id; nothing is lost, and nobody finds a fork. */
static bool keeps_id(void (*change)(void), bool running)
{
	struct p2p_id before, after;
	char *rows;

	cluster_init(&cluster, 16);
	cluster_share(&cluster, "CREATE TABLE note(id INTEGER PRIMARY KEY, text TEXT);"
				"INSERT INTO note(text) VALUES('one'),('two')");
	(void)cluster_join(&cluster);
	cluster_connect(&cluster, 0, 1);
	assert_true(cluster_settle(&cluster, 5000));
	if (!running)
		cluster_kill(&cluster, 1);
	cluster_save(&cluster, 1);
	if (!running)
		cluster_start(&cluster, 1);
	cluster_connect(&cluster, 0, 1);
	cluster_sql(&cluster, 1, "INSERT INTO note(text) VALUES('after the backup')");
	assert_true(cluster_settle(&cluster, 5000));
	before = *p2p_replica_id(cluster.nodes[1].replica);
	cluster_kill(&cluster, 1);
	change();
	cluster_start(&cluster, 1);
	after = *p2p_replica_id(cluster.nodes[1].replica);
	cluster_sql(&cluster, 0, "INSERT INTO note(text) VALUES('from elsewhere')");
	cluster_connect(&cluster, 0, 1);
	assert_true(cluster_settle(&cluster, 5000));
	rows = cluster_rows(&cluster, 0, "SELECT count(DISTINCT text) FROM note");
	assert_string_equal(rows, "|4\n");
	free(rows);
	assert_int_equal(cluster.nodes[0].events[P2P_SYNC_FORK], 0);
	cluster_deinit(&cluster);
	return p2p_id_cmp(&before, &after) == 0;
}

static void what_nobody_touched_keeps_its_replica_id(void **state)
{
	(void)state;
	assert_true(keeps_id(change_nothing, false));
	assert_true(keeps_id(change_nothing, true));
}

static void a_database_that_was_copied_goes_on_under_a_new_replica_id(void **state)
{
	(void)state;
	assert_false(keeps_id(copy_the_database, false));
}

static void a_database_that_was_put_back_goes_on_under_a_new_replica_id(void **state)
{
	(void)state;
	assert_false(keeps_id(restore_the_database, false));
}

static void a_log_that_was_put_back_goes_on_under_a_new_replica_id(void **state)
{
	(void)state;
	assert_false(keeps_id(restore_the_log, false));
	assert_false(keeps_id(restore_the_log, true));
}

static void a_mark_that_is_gone_or_damaged_costs_the_replica_id(void **state)
{
	(void)state;
	assert_false(keeps_id(lose_the_mark, false));
	assert_false(keeps_id(damage_the_mark, false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_nobody_touched_keeps_its_replica_id),
		cmocka_unit_test(a_database_that_was_copied_goes_on_under_a_new_replica_id),
		cmocka_unit_test(a_database_that_was_put_back_goes_on_under_a_new_replica_id),
		cmocka_unit_test(a_log_that_was_put_back_goes_on_under_a_new_replica_id),
		cmocka_unit_test(a_mark_that_is_gone_or_damaged_costs_the_replica_id),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
