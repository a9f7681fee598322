/* What a peer may be told is durable: rows that were merged, and synced since. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above
#include <cmocka.h>

#include "crdt/merge.h"
#include "crdt/sync.h"
#include "crdt/walfile.h"
#include "tests/support/cluster.h"

static struct cluster cluster;
/* Of the file: since its vector could be read, and when an engine began that tells of it. */
static unsigned int syncs, syncs_before_engine;

int __real_p2p_merge_new(const struct p2p_merge_config *config, struct p2p_merge **out);
int __wrap_p2p_merge_new(const struct p2p_merge_config *config, struct p2p_merge **out);
int __real_p2p_sync_new(const struct p2p_sync_config *config, struct p2p_sync **out);
int __wrap_p2p_sync_new(const struct p2p_sync_config *config, struct p2p_sync **out);
int __real_p2p_walfile_sync(struct p2p_store *store, struct p2p_error *err);
int __wrap_p2p_walfile_sync(struct p2p_store *store, struct p2p_error *err);

int __wrap_p2p_merge_new(const struct p2p_merge_config *config, struct p2p_merge **out)
{
	syncs = 0;
	return __real_p2p_merge_new(config, out);
}

int __wrap_p2p_sync_new(const struct p2p_sync_config *config, struct p2p_sync **out)
{
	syncs_before_engine = syncs;
	return __real_p2p_sync_new(config, out);
}

int __wrap_p2p_walfile_sync(struct p2p_store *store, struct p2p_error *err)
{
	syncs++;
	return __real_p2p_walfile_sync(store, err);
}

/* The process was killed between the commit of a merge and its sync: the rows and the vector are in
 * the file, and the next power cut may take them back. */
static void what_an_earlier_process_merged_is_synced_before_it_counts(void **state)
{
	(void)state;
	cluster_init(&cluster, 3);
	cluster_share(&cluster, "CREATE TABLE t(a TEXT PRIMARY KEY)");
	(void)cluster_join(&cluster);
	cluster_connect(&cluster, 0, 1);
	cluster_sql(&cluster, 0, "INSERT INTO t VALUES('x')");
	assert_true(cluster_settle(&cluster, 5000));
	cluster_kill(&cluster, 1);
	cluster_start(&cluster, 1);
	assert_true(syncs_before_engine > 0);
	cluster_deinit(&cluster);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_an_earlier_process_merged_is_synced_before_it_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
