/* Tables in the order in which they are enabled: parents before their children, so that the first
 * changesets of a file bring every row after those that it refers to; see replica_private.h. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/replica_private.h"
#include "proto/mem.h"

struct order {
	const char *const *names; /* borrowed, like refs */
	size_t count;
	const struct p2p_named_ref *refs;
	size_t ref_count;
	struct p2p_table *tables; /* owned, like names; no columns: not there */
	bool *done;		  /* owned */
};

static bool waits_for(const struct order *order, size_t at, const char *parent)
{
	size_t i;

	for (i = 0; i < order->count; i++)
		if (i != at && !order->done[i] && sqlite3_stricmp(order->names[i], parent) == 0)
			return true;
	return false;
}

static bool is_ready(const struct order *order, size_t at)
{
	const struct p2p_table *table = &order->tables[at];
	size_t i;

	for (i = 0; i < table->foreign_count; i++)
		if (waits_for(order, at, table->foreigns[i].parent))
			return false;
	for (i = 0; i < order->ref_count; i++)
		if (sqlite3_stricmp(order->refs[i].child, order->names[at]) == 0 &&
		    waits_for(order, at, order->refs[i].parent))
			return false;
	return true;
}

/* The first that waits for nobody; where all wait for each other, the first. */
static size_t next_of(const struct order *order)
{
	size_t i, first = order->count;

	for (i = 0; i < order->count; i++) {
		if (order->done[i])
			continue;
		if (is_ready(order, i))
			return i;
		if (first == order->count)
			first = i;
	}
	return first;
}

static int tables_read(struct p2p_replica *replica, struct order *order)
{
	size_t i;
	int rc = 0;

	for (i = 0; i < order->count && !rc; i++) {
		rc = p2p_schema_read_table(p2p_store_db(replica->store), order->names[i],
					   &order->tables[i], NULL);
		if (rc == P2P_ENOENT) { /* whoever enables it says so */
			memset(&order->tables[i], 0, sizeof(order->tables[i]));
			rc = 0;
		}
	}
	return rc;
}

int p2p_replica_order(struct p2p_replica *replica, const struct p2p_enable *wish,
		      const struct p2p_named_ref *refs, const char **out)
{
	struct order order = {wish->names, wish->count, refs, wish->ref_count, NULL, NULL};
	size_t i, at, count = wish->count;
	int rc;

	if (!count)
		return 0;
	order.tables = p2p_calloc(count, sizeof(*order.tables));
	order.done = p2p_calloc(count, sizeof(*order.done));
	rc = order.tables && order.done ? tables_read(replica, &order) : P2P_ENOMEM;
	for (i = 0; i < count && !rc; i++) {
		at = next_of(&order);
		order.done[at] = true;
		out[i] = wish->names[at];
	}
	for (i = 0; i < count && order.tables; i++)
		p2p_table_deinit(&order.tables[i]);
	p2p_free(order.tables);
	p2p_free(order.done);
	return rc;
}
