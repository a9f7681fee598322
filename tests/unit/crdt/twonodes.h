/* Two nodes of a mesh without a network, for tests of the merge: what each test does with them. */
#ifndef P2P_TESTS_UNIT_CRDT_TWONODES_H
#define P2P_TESTS_UNIT_CRDT_TWONODES_H

#include "tests/support/mergekit.h"

static struct kit_mesh mesh;
static struct kit_node a, b;

static inline int teardown(void **state)
{
	(void)state;
	kit_node_deinit(&a);
	kit_node_deinit(&b);
	kit_mesh_deinit(&mesh);
	return 0;
}

static inline void nodes_clear(void)
{
	kit_node_clear(&a);
	kit_node_clear(&b);
	kit_mesh_forget(&mesh);
}

#endif
