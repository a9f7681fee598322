/* The product beside the twin: a file for each replica, that merges what the twin merges. */
#ifndef P2P_TESTS_PROPERTY_PRODUCT_H
#define P2P_TESTS_PROPERTY_PRODUCT_H

#include "tests/property/compare.h"

#define PRODUCT_NODES_MAX 4

struct product {
	struct kit_mesh *mesh; /* borrowed */
	struct kit_node nodes[PRODUCT_NODES_MAX];
	struct compare_counts counts;
	uint64_t compared, orders;
};

/* Files with the sheet's tables. */
void product_init(struct product *product, struct kit_mesh *mesh);
void product_deinit(struct product *product);
/* The ids of UNIQUE constraints, as yields name them. */
void product_constraints(struct product *product, struct twin_table *tables);
/* All rows and states go. */
void product_clear(struct product *product);
void product_deliver(struct product *product, uint32_t node, struct kit_change *change);
/* NULL, or how this replica differs from its twin; static. */
const char *product_compare(struct product *product, uint32_t node, const struct twin *twin);
/* All replicas have all: NULL, or how they differ from one another, or what is unsound. loose:
 * how many references may dangle. */
const char *product_equal(struct product *product, uint32_t count, uint64_t loose);
/* Every order in which these can be delivered: each must end as the twin does. */
const char *product_orders(struct product *product, struct kit_change *changes, size_t count,
			   const struct twin *twin);
/* Prints state and twin of a replica. */
void product_tell(struct product *product, uint32_t node, const struct twin *twin);

#endif
