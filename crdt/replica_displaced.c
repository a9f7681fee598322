/* Rows that an INSERT OR REPLACE pushed out through a UNIQUE index; see replica_private.h.
 *
 * SQLite fires no DELETE trigger for them (recursive_triggers is off by default), and a trigger of
 * ours that names the index's columns would break the application's ALTER TABLE ... DROP COLUMN. So
 * known rows are compared with the table, on a read snapshot: no lock is held unless one is gone.
 */
#include <string.h>

#include "crdt/replica_private.h"

/* A look at more would keep the loop from its other work for too long. */
#define STATES_MAX 50000

static bool looks_at(struct p2p_replica *replica, const struct p2p_table *table, bool large,
		     int *rc)
{
	uint64_t states = 0;

	if (*rc || table->state != P2P_TABLE_LIVE || !table->has_unique)
		return false;
	if (large)
		return true;
	*rc = p2p_store_state_count(replica->store, table, &states);
	if (!*rc && states > STATES_MAX)
		p2p_log(replica->config.log, P2P_LOG_INFO, "crdt",
			"table %s is too large to look for rows that INSERT OR REPLACE pushed out: "
			"'p2pnode rescan' finds them",
			table->name);
	return !*rc && states <= STATES_MAX;
}

/* journal: in the caller's write transaction. large: at large tables, too. */
static int look(struct p2p_replica *replica, bool large, bool journal, uint64_t *out_rows)
{
	uint64_t rows;
	size_t i;
	int rc = 0;

	*out_rows = 0;
	for (i = 0; i < p2p_store_table_count(replica->store) && !rc; i++) {
		struct p2p_table *table = p2p_store_table(replica->store, i);

		if (!looks_at(replica, table, large, &rc))
			continue;
		rc = p2p_store_missing(replica->store, table, journal, &rows);
		*out_rows += rows;
	}
	return rc;
}

static int journal_missing(struct p2p_replica *replica, bool large, struct p2p_error *err)
{
	uint64_t rows;
	int rc = p2p_replica_begin_fold(replica, 0, err);

	if (rc)
		return rc;
	rc = look(replica, large, true, &rows);
	if (rc)
		p2p_replica_abort_fold(replica);
	else
		rc = p2p_replica_end_fold(replica, err);
	return rc ? rc : p2p_replica_seal(replica, NULL, err);
}

void p2p_replica_look_now(struct p2p_replica *replica)
{
	replica->look_now = replica->displaced_due;
}

int p2p_replica_displaced_look(struct p2p_replica *replica, bool large, struct p2p_error *err)
{
	uint64_t rows = 0;
	int rc = replica->broken ? P2P_EIO : p2p_store_begin_read(replica->store, err);

	if (rc)
		return rc;
	rc = look(replica, large, false, &rows);
	p2p_store_rollback(replica->store); /* ends the snapshot */
	if (!rc && rows)
		rc = journal_missing(replica, large, err);
	if (!rc)
		replica->displaced_due = replica->look_now = false;
	return rc;
}
