/* A replica's file against the twin: merged states, numbers, rows. */
#ifndef P2P_TESTS_PROPERTY_COMPARE_H
#define P2P_TESTS_PROPERTY_COMPARE_H

#include "tests/property/twin.h"
#include "tests/support/mergekit.h"

struct compare_counts {
	uint64_t shown, parked, temporary;
};

/* Rows that changesets named, by table of the twin. */
struct compare_keys {
	const struct kit_key *keys; /* borrowed */
	size_t count;
};

/* The ids of a table's UNIQUE constraints, as yields name them. It is found by its name. */
void compare_constraints(struct p2p_store *store, struct twin_table *twin);
/* The store, outside of a transaction, holds what the projected twin says: NULL, or what differs,
 * static. Tables are found by the names of the twin's. Adds to counts. */
const char *compare_with_twin(struct p2p_store *store, const struct twin *twin,
			      const struct compare_keys *keys, struct compare_counts *counts);
#endif
