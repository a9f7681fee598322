/* What a replica refuses, and what it leaves out: with a reason, and without any effect. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>
#include <sys/stat.h>

#include "tests/support/cluster.h"

static struct cluster cluster;
static struct p2p_error err;

static int setup(void **state)
{
	(void)state;
	memset(&err, 0, sizeof(err));
	cluster_init(&cluster, 6);
	cluster_share(&cluster, "CREATE TABLE note(id TEXT PRIMARY KEY, body)");
	(void)cluster_join(&cluster);
	cluster_connect_all(&cluster);
	assert_true(cluster_settle(&cluster, 5000));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	cluster_deinit(&cluster);
	return 0;
}

static size_t table_count(size_t node)
{
	return p2p_store_table_count(p2p_replica_store(cluster.nodes[node].replica));
}

static void assert_refused(int rc, int code, const char *word)
{
	assert_int_equal(rc, code);
	if (!strstr(err.msg, word))
		fail_msg("'%s' is not in '%s'", word, err.msg);
	memset(&err, 0, sizeof(err));
}

static void a_mesh_is_founded_once(void **state)
{
	struct p2p_replica *replica = cluster.nodes[0].replica;

	(void)state;
	assert_refused(p2p_replica_found(replica, "again", &err), P2P_EEXIST, "is in a mesh");
}

static void tables_that_are_not_there_or_cannot_be_replicated_are_named(void **state)
{
	static const char *const nope[] = {"nope"}, *const loose[] = {"more", "loose"},
				 *const note[] = {"note"};
	struct p2p_replica *replica = cluster.nodes[0].replica;
	uint64_t rows = 42;
	char *there;

	(void)state;
	cluster_sql(&cluster, 0, "CREATE TABLE loose(x); CREATE TABLE more(id TEXT PRIMARY KEY)");
	assert_refused(p2p_replica_enable(replica, nope, 1, NULL, 0, &err), P2P_ENOENT, "nope");
	assert_refused(p2p_replica_enable(replica, loose, 2, NULL, 0, &err), P2P_EREFUSED,
		       "PRIMARY KEY");
	assert_refused(p2p_replica_enable(replica, note, 1, NULL, 0, &err), P2P_EEXIST, "note");
	assert_refused(p2p_replica_disable(replica, nope, 1, &err), P2P_ENOENT, "nope");
	assert_refused(p2p_replica_rescan(replica, nope, 1, &rows, &err), P2P_ENOENT, "nope");
	assert_int_equal(rows, 42);
	assert_int_equal(table_count(0), 1); /* not even the one that could be */
	cluster_sql(&cluster, 0, "INSERT INTO note VALUES('a', 1)"); /* and it goes on */
	assert_true(cluster_settle(&cluster, 5000));
	there = cluster_rows(&cluster, 1, "SELECT * FROM note");
	assert_string_equal(there, "|'a'|1\n");
	free(there);
}

static void what_is_excluded_stays_out(void **state)
{
	static const char *const exclude[] = {"LEFT", "not there"};
	struct p2p_replica *replica = cluster.nodes[0].replica;

	(void)state;
	cluster_sql(
		&cluster, 0,
		"CREATE TABLE left(id TEXT PRIMARY KEY); CREATE TABLE more(id TEXT PRIMARY KEY)");
	assert_int_equal(p2p_replica_enable(replica, NULL, 0, exclude, 2, &err), 0);
	assert_int_equal(table_count(0), 2);
	assert_non_null(p2p_store_table_by_name(p2p_replica_store(replica), "more"));
	assert_null(p2p_store_table_by_name(p2p_replica_store(replica), "left"));
}

static void outside_of_a_mesh_there_is_nothing_to_replicate(void **state)
{
	static const char *const note[] = {"note"};
	struct cluster_node *node = &cluster.nodes[0];
	struct p2p_replica_config config = {.env = &cluster.env[0], .signer = &node->signer};
	struct p2p_replica *replica;
	char db[200], dir[200];
	uint64_t rows, changesets;
	bool switched;

	(void)state;
	(void)snprintf(db, sizeof(db), "%s/alone.db", node->dir);
	(void)snprintf(dir, sizeof(dir), "%s/alone", node->dir);
	assert_int_equal(mkdir(dir, 0700), 0);
	config.db_path = db;
	config.state_dir = dir;
	config.create_db = true;
	assert_int_equal(p2p_replica_open(&config, &replica, &switched, &err), 0);
	assert_false(p2p_replica_member(replica));
	assert_refused(p2p_replica_enable(replica, note, 1, NULL, 0, &err), P2P_ESTATE, "no mesh");
	assert_refused(p2p_replica_disable(replica, note, 1, &err), P2P_ESTATE, "no mesh");
	assert_refused(p2p_replica_rescan(replica, note, 1, &rows, &err), P2P_ESTATE, "no mesh");
	assert_refused(p2p_replica_freeze(replica, &err), P2P_ESTATE, "no mesh");
	assert_refused(p2p_replica_verify(replica, &changesets, &rows, &err), P2P_ESTATE,
		       "no mesh");
	p2p_replica_close(replica);
}

static void rows_with_null_in_their_key_stay_where_they_are(void **state)
{
	uint64_t changesets, rows;
	char *here, *there;
	size_t i;

	(void)state;
	cluster_sql(&cluster, 0,
		    "INSERT INTO note VALUES(NULL, 'x'), ('a', 'y'), (NULL, 'z'); "
		    "UPDATE note SET body = 'else' WHERE id IS NULL");
	assert_true(cluster_settle(&cluster, 5000));
	here = cluster_rows(&cluster, 0, "SELECT id, body FROM note ORDER BY id");
	there = cluster_rows(&cluster, 1, "SELECT id, body FROM note");
	assert_string_equal(here, "|NULL|'else'\n|NULL|'else'\n|'a'|'y'\n");
	assert_string_equal(there, "|'a'|'y'\n");
	free(here);
	free(there);
	for (i = 0; i < 2; i++)
		if (p2p_replica_verify(cluster.nodes[i].replica, &changesets, &rows, &err))
			fail_msg("node %zu: %s", i, err.msg);
	cluster_sql(&cluster, 0, "UPDATE note SET id = 'b' WHERE rowid = 1");
	assert_true(cluster_settle(&cluster, 5000));
	there = cluster_rows(&cluster, 1, "SELECT id, body FROM note ORDER BY id");
	assert_string_equal(there, "|'a'|'y'\n|'b'|'else'\n"); /* with a key it is a row */
	free(there);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_mesh_is_founded_once),
		CASE(tables_that_are_not_there_or_cannot_be_replicated_are_named),
		CASE(what_is_excluded_stays_out),
		CASE(outside_of_a_mesh_there_is_nothing_to_replicate),
		CASE(rows_with_null_in_their_key_stay_where_they_are),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
