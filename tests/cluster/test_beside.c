/* An application that reads while we merge: what it reads must still be the newest when it writes,
 * so nothing is committed into a read transaction, not even one that began a moment ago. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "crdt/merge.h"
#include "crdt/walfile.h"
#include "tests/support/cluster.h"

static struct cluster cluster;

/* The application of node 0 begins to read when the merge there has come to this point. */
static enum moment { NEVER, WHEN_APPLIED, WHEN_PROJECTED } begins;
static bool reads;

bool __real_p2p_walfile_readers(struct p2p_store *store, bool *out_reliable);
bool __wrap_p2p_walfile_readers(struct p2p_store *store, bool *out_reliable);
int __real_p2p_merge_apply(struct p2p_merge *merge, const struct p2p_merge_source *source,
			   struct p2p_merge_counts *counts, struct p2p_error *err);
int __wrap_p2p_merge_apply(struct p2p_merge *merge, const struct p2p_merge_source *source,
			   struct p2p_merge_counts *counts, struct p2p_error *err);
int __real_p2p_merge_finish(struct p2p_merge *merge, struct p2p_error *err);
int __wrap_p2p_merge_finish(struct p2p_merge *merge, struct p2p_error *err);

bool __wrap_p2p_walfile_readers(struct p2p_store *store, bool *out_reliable)
{
	if (reads && store == p2p_replica_store(cluster.nodes[0].replica)) {
		if (out_reliable)
			*out_reliable = true;
		return true;
	}
	return __real_p2p_walfile_readers(store, out_reliable);
}

/* Only node 0 merges anything in these tests. */
int __wrap_p2p_merge_apply(struct p2p_merge *merge, const struct p2p_merge_source *source,
			   struct p2p_merge_counts *counts, struct p2p_error *err)
{
	reads |= begins == WHEN_APPLIED;
	return __real_p2p_merge_apply(merge, source, counts, err);
}

int __wrap_p2p_merge_finish(struct p2p_merge *merge, struct p2p_error *err)
{
	int rc = __real_p2p_merge_finish(merge, err);

	reads |= begins == WHEN_PROJECTED;
	return rc;
}

static int setup(void **state)
{
	(void)state;
	cluster_init(&cluster, 1);
	cluster_share(&cluster, "CREATE TABLE t(a TEXT PRIMARY KEY, b)");
	(void)cluster_join(&cluster);
	cluster_connect(&cluster, 0, 1);
	assert_true(cluster_settle(&cluster, 5000));
	cluster_run(&cluster, 3000); /* nothing is left to fold */
	begins = NEVER;
	reads = false;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	begins = NEVER;
	reads = false;
	cluster_deinit(&cluster);
	return 0;
}

static void expect(const char *rows)
{
	char *have = cluster_rows(&cluster, 0, "SELECT a, b FROM t");

	assert_string_equal(have, rows);
	free(have);
}

static void nothing_is_committed_under(enum moment when)
{
	cluster_sql(&cluster, 1, "INSERT INTO t VALUES('x', 1)");
	begins = when;
	cluster_run(&cluster, 50); /* less than the time that a change may wait */
	assert_true(reads);
	expect("");
	begins = NEVER;
	reads = false;
	assert_true(cluster_settle(&cluster, 5000));
	expect("|'x'|1\n");
}

static void who_begins_to_read_while_rows_are_merged_is_waited_for(void **state)
{
	(void)state;
	nothing_is_committed_under(WHEN_APPLIED);
}

/* The readers were looked at before the projection, which takes as long as the rest: a deferred
 * transaction that began to read meanwhile could not write any more (SQLITE_BUSY_SNAPSHOT). */
static void who_begins_to_read_during_the_projection_is_waited_for(void **state)
{
	(void)state;
	nothing_is_committed_under(WHEN_PROJECTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			who_begins_to_read_while_rows_are_merged_is_waited_for, setup, teardown),
		cmocka_unit_test_setup_teardown(
			who_begins_to_read_during_the_projection_is_waited_for, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
