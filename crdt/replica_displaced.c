/* Rows that an INSERT OR REPLACE pushed out through a UNIQUE index; see replica_private.h.
 *
 * SQLite fires no DELETE trigger for them (recursive_triggers is off by default), and a trigger of
 * ours that names the index's columns would break the application's ALTER TABLE ... DROP COLUMN. So
 * known rows are compared with the table, on a read snapshot: no lock is held unless one is gone.
 */
#include <string.h>

#include "crdt/replica_private.h"

/* Row states that are looked at in one turn: some 50 ms. A look over more goes on later, so that it
 * costs a few per cent of a processor; at once when somebody waits for it. */
#define SLICE_STATES 50000
#define PAUSE_MS     1000
#define LOOKS_MAX    4 /* beside an application that goes on replacing */

static int place_copy(struct p2p_look *to, const struct p2p_look *from)
{
	to->table = from->table;
	p2p_buf_reset(&to->after);
	if (from->after.len)
		p2p_buf_put(&to->after, from->after.data, from->after.len);
	return p2p_buf_error(&to->after);
}

/* One slice from there on; its table becomes 0 at the end. slice: journal (in the caller's write
 * transaction) and limit. */
static int look(struct p2p_replica *replica, struct p2p_look *place, struct p2p_missing slice,
		uint64_t *out_rows)
{
	size_t i;
	int rc = 0;

	slice.after = &place->after;
	for (i = 0; i < p2p_store_table_count(replica->store) && !rc && slice.limit; i++) {
		struct p2p_table *table = p2p_store_table(replica->store, i);

		if (table->number < place->table || table->state != P2P_TABLE_LIVE ||
		    !table->has_unique)
			continue;
		if (table->number != place->table)
			p2p_buf_reset(&place->after);
		place->table = table->number;
		slice.looked = 0;
		rc = p2p_store_missing(replica->store, table, &slice);
		slice.limit = slice.end ? slice.limit - slice.looked : 0;
	}
	if (!rc && slice.limit)
		place->table = 0;
	*out_rows = slice.rows;
	return rc;
}

/* Rows that were captured are known first; what is to be projected waits, for it may meet rows that
 * are only told of here. */
static int journal_missing(struct p2p_replica *replica, struct p2p_look *place, uint64_t limit,
			   struct p2p_error *err)
{
	const struct p2p_missing slice = {.journal = true, .limit = limit};
	uint64_t rows;
	int rc = p2p_replica_begin_fold(replica, 0, err);
	bool due = replica->displaced_due; /* the seal below tells of nothing new */

	if (rc)
		return rc;
	rc = look(replica, place, slice, &rows);
	if (rc)
		p2p_replica_abort_fold(replica);
	else
		rc = p2p_replica_end_fold_later(replica, err);
	if (!rc)
		rc = p2p_replica_seal(replica, NULL, err);
	replica->displaced_due = due;
	return rc;
}

void p2p_replica_look_now(struct p2p_replica *replica)
{
	replica->look_now = p2p_replica_looking(replica);
}

bool p2p_replica_looking(const struct p2p_replica *replica)
{
	return replica->displaced_due || replica->look.table;
}

uint64_t p2p_replica_look_pause(const struct p2p_replica *replica, struct p2p_time now)
{
	uint64_t since = now.ms - replica->looked_at.ms;

	return !replica->look.table || replica->look_now || since >= PAUSE_MS ? 0
									      : PAUSE_MS - since;
}

static int slice_look(struct p2p_replica *replica, struct p2p_look *place, uint64_t limit,
		      struct p2p_error *err)
{
	const struct p2p_missing slice = {.limit = limit};
	struct p2p_look next;
	uint64_t rows = 0;
	int rc = p2p_store_begin_read(replica->store, err);

	if (rc)
		return rc;
	p2p_buf_init(&next.after, P2P_RECORD_BYTES_MAX);
	rc = place_copy(&next, place);
	if (!rc)
		rc = look(replica, &next, slice, &rows);
	p2p_store_rollback(replica->store); /* ends the snapshot */
	/* of rows that are captured and not folded yet the files do not know */
	if (!rc && (rows || p2p_capture_unfolded(replica->capture))) {
		rc = place_copy(&next, place);
		if (!rc)
			rc = journal_missing(replica, &next, limit, err);
	}
	if (!rc)
		rc = place_copy(place, &next);
	p2p_buf_deinit(&next.after);
	return rc;
}

/* What is written from its beginning on is for the next look. */
static int displaced(struct p2p_replica *replica, uint64_t limit, struct p2p_error *err)
{
	bool begins = !replica->look.table;
	int rc;

	if (replica->broken)
		return P2P_EIO;
	if (begins) {
		p2p_buf_reset(&replica->look.after);
		replica->displaced_due = false;
	}
	rc = slice_look(replica, &replica->look, limit, err);
	if (rc)
		replica->displaced_due |= begins;
	else if (!p2p_replica_looking(replica))
		replica->look_now = false;
	return rc;
}

int p2p_replica_displaced_look(struct p2p_replica *replica, struct p2p_time now,
			       struct p2p_error *err)
{
	replica->looked_at = now;
	return displaced(replica, SLICE_STATES, err);
}

int p2p_replica_displaced_all(struct p2p_replica *replica, struct p2p_error *err)
{
	replica->look.table = 0;
	return displaced(replica, UINT64_MAX, err);
}

static int begin_projected(struct p2p_replica *replica, struct p2p_error *err)
{
	int rc = p2p_replica_begin_fold(replica, P2P_REPLICA_WAIT_MS, err);

	if (rc)
		return rc;
	rc = p2p_merge_finish(replica->merge, err);
	if (rc)
		p2p_replica_abort_fold(replica);
	else
		p2p_merge_reset(replica->merge);
	return rc;
}

int p2p_replica_begin_projected(struct p2p_replica *replica, struct p2p_error *err)
{
	unsigned int looks;
	int rc = begin_projected(replica, err);

	for (looks = 0; looks < LOOKS_MAX && rc == P2P_ECORRUPT && p2p_replica_looking(replica);
	     looks++) {
		rc = p2p_replica_displaced_all(replica, err);
		if (!rc)
			rc = begin_projected(replica, err);
	}
	return rc;
}
