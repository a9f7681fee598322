/* Tables that a node begins or ceases to replicate while something fails: all of them, or none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sodium.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "crdt/store.h"
#include "tests/support/cluster.h"

static struct cluster cluster;
static unsigned int reads_left; /* until one fails; 0: none does */

static const char *const names[] = {"u", "v"};

int __real_p2p_store_meta_get(struct p2p_store *store, const char *key, void *out, size_t max,
			      size_t *out_len);
int __wrap_p2p_store_meta_get(struct p2p_store *store, const char *key, void *out, size_t max,
			      size_t *out_len);

/* Without memory SQLite ends a transaction that writes for a statement that only reads. */
int __wrap_p2p_store_meta_get(struct p2p_store *store, const char *key, void *out, size_t max,
			      size_t *out_len)
{
	if (strncmp(key, "local:", 6) != 0 || !reads_left || --reads_left)
		return __real_p2p_store_meta_get(store, key, out, max, out_len);
	p2p_store_rollback(store);
	return P2P_ENOMEM;
}

static struct p2p_replica *replica(void)
{
	return cluster.nodes[0].replica;
}

static bool is_shared(const char *name)
{
	return p2p_store_table_by_name(p2p_replica_store(replica()), name) != NULL;
}

static int setup(void **state)
{
	(void)state;
	cluster_init(&cluster, 1);
	cluster_share(&cluster, "CREATE TABLE t(a PRIMARY KEY, b); INSERT INTO t VALUES(1, 0)");
	cluster_sql(&cluster, 0,
		    "CREATE TABLE u(a PRIMARY KEY, b UNIQUE); INSERT INTO u VALUES(1, 1);"
		    "CREATE TABLE v(a INTEGER PRIMARY KEY, b); INSERT INTO v VALUES(1, 1)");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	reads_left = 0;
	cluster_deinit(&cluster);
	return 0;
}

/* Whether a table is local could not be read, and that passed for "it is not": the next table
 * ended the process, for there was no transaction any more. */
static void what_cannot_be_shared_is_not_shared_in_part(void **state)
{
	unsigned int which;

	(void)state;
	for (which = 1; which <= 2; which++) {
		reads_left = which;
		assert_int_equal(p2p_replica_enable(replica(), names, 2, NULL, 0, NULL),
				 P2P_ENOMEM);
		assert_int_equal(reads_left, 0);
		assert_false(is_shared("u") || is_shared("v"));
	}
	assert_int_equal(p2p_replica_enable(replica(), names, 2, NULL, 0, NULL), 0);
	assert_true(is_shared("u") && is_shared("v"));
}

/* And that a person wanted it was written all the same, by a transaction of its own. */
static void what_cannot_be_unshared_is_shared_as_before(void **state)
{
	(void)state;
	assert_int_equal(p2p_replica_enable(replica(), names, 2, NULL, 0, NULL), 0);
	reads_left = 1;
	assert_int_equal(p2p_replica_disable(replica(), names, 1, NULL), P2P_ENOMEM);
	assert_int_equal(reads_left, 0);
	assert_true(is_shared("u") && is_shared("v"));
	assert_int_equal(p2p_replica_disable(replica(), names, 1, NULL), 0);
	assert_true(!is_shared("u") && is_shared("v"));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		CASE(what_cannot_be_shared_is_not_shared_in_part),
		CASE(what_cannot_be_unshared_is_shared_as_before),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
