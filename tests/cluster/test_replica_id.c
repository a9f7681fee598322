/* The id under which a replica writes: bound to its node's key, and never the same twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
// cmocka needs the four above
#include <cmocka.h>

#include "crdt/replica_private.h"
#include "proto/limits.h"
#include "tests/support/cluster.h"

static struct cluster cluster;

static void begin(uint64_t seed, size_t nodes)
{
	cluster_init(&cluster, seed);
	cluster_share(&cluster, "CREATE TABLE note(id INTEGER PRIMARY KEY, text TEXT)");
	while (cluster.count < nodes)
		(void)cluster_join(&cluster);
}

static struct p2p_id id_of(size_t node)
{
	return *p2p_replica_id(cluster.nodes[node].replica);
}

/* The file with its key is gone, the log is there: nobody believes what another key signs under the
 * old id. */
static void a_node_with_another_key_goes_on_under_a_new_replica_id(void **state)
{
	struct p2p_error err = {0};
	struct p2p_id before, after;
	uint64_t changesets, seen;
	char *rows;

	(void)state;
	begin(33, 3);
	cluster_connect_all(&cluster);
	assert_true(cluster_settle(&cluster, 5000));
	cluster_sql(&cluster, 1, "INSERT INTO note(text) VALUES('with the old key')");
	assert_true(cluster_settle(&cluster, 5000));
	before = id_of(1);
	cluster_kill(&cluster, 1);
	cluster_sql(&cluster, 1, "INSERT INTO note(text) VALUES('with none')");
	cluster_rekey(&cluster, 1, true);
	after = id_of(1);
	assert_memory_not_equal(&before, &after, sizeof(before));
	assert_true(p2p_replica_id_fits(&after, &cluster.nodes[1].signer.node));
	cluster_sql(&cluster, 1, "INSERT INTO note(text) VALUES('with the new key')");
	cluster_connect_all(&cluster);
	assert_true(cluster_settle(&cluster, 5000));
	assert_true(cluster_equal(&cluster));
	rows = cluster_rows(&cluster, 2, "SELECT text FROM note ORDER BY 1");
	assert_string_equal(rows, "|'with none'\n|'with the new key'\n|'with the old key'\n");
	free(rows);
	assert_int_equal(p2p_replica_verify(cluster.nodes[1].replica, &changesets, &seen, &err), 0);
	cluster_deinit(&cluster);
}

/* The founder without its key is a stranger to the mesh of its log: there is nothing to go on with.
 */
static void a_mesh_is_not_founded_again_with_another_key(void **state)
{
	struct p2p_error err = {0};
	struct p2p_id before, after;
	size_t count;

	(void)state;
	begin(32, 1);
	before = id_of(0);
	cluster_kill(&cluster, 0);
	cluster_rekey(&cluster, 0, false);
	count = p2p_authority_count(p2p_replica_authority(cluster.nodes[0].replica));
	assert_int_equal(p2p_replica_found(cluster.nodes[0].replica, "app.db", &err), P2P_EAUTH);
	assert_int_equal(p2p_authority_count(p2p_replica_authority(cluster.nodes[0].replica)),
			 count);
	after = id_of(0);
	assert_memory_equal(&before, &after, sizeof(before));
	cluster_deinit(&cluster);
}

/* Under an id that it had it would number what others know already. */
static void an_id_that_a_replica_had_is_drawn_again(void **state)
{
	struct p2p_replica *replica;
	struct p2p_error err = {0};
	struct p2p_id first, second;

	(void)state;
	begin(31, 1);
	replica = cluster.nodes[0].replica;
	first = cluster.draw = id_of(0);
	cluster.draws = P2P_REPLICA_DRAWS_MAX - 1;
	assert_int_equal(p2p_replica_make_id(replica, &err), 0);
	assert_int_equal(cluster.draws, 0);
	second = id_of(0);
	assert_true(p2p_id_cmp(&first, &second) != 0);
	assert_true(p2p_replica_id_fits(&second, &cluster.nodes[0].signer.node));
	/* random bytes that are none end in an error, not in a second history */
	cluster.draws = P2P_REPLICA_DRAWS_MAX;
	assert_int_equal(p2p_replica_make_id(replica, &err), P2P_EEXIST);
	first = id_of(0);
	assert_true(p2p_id_cmp(&first, &second) == 0);
	cluster_deinit(&cluster);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_node_with_another_key_goes_on_under_a_new_replica_id),
		cmocka_unit_test(a_mesh_is_not_founded_again_with_another_key),
		cmocka_unit_test(an_id_that_a_replica_had_is_drawn_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
