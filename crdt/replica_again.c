/* Changes that came before their table or column are merged again from the log; see
 * replica_private.h.
 *
 * Merging is idempotent, so what was merged already changes nothing. Which tables are meant stands
 * in the file (meta "again") and goes with the last slice: a walk that was cut begins anew. */
#include <string.h>

#include "crdt/replica_private.h"
#include "proto/check.h"

#define SLICE_MS 5 /* of the lock (decisions 26) */

static bool again_has(const struct p2p_again *again, const struct p2p_id *table)
{
	size_t i;

	for (i = 0; i < again->table_count; i++)
		if (p2p_id_cmp(&again->tables[i], table) == 0)
			return true;
	return again->all;
}

static int again_store(struct p2p_replica *replica)
{
	const struct p2p_again *again = &replica->again;

	return p2p_store_meta_set(replica->store, "again", again->tables,
				  again->table_count * sizeof(again->tables[0]));
}

int p2p_replica_again_add(struct p2p_replica *replica, const struct p2p_id *table)
{
	struct p2p_again *again = &replica->again;
	int rc;

	p2p_require(p2p_store_in_transaction(replica->store));
	rc = p2p_store_waiting_drop(replica->store, table);
	if (rc || again_has(again, table))
		return rc;
	/* a full list means all of them */
	if (again->table_count < P2P_AGAIN_TABLES_MAX)
		again->tables[again->table_count++] = *table;
	return again_store(replica);
}

int p2p_replica_again_load(struct p2p_replica *replica)
{
	struct p2p_again *again = &replica->again;
	size_t len = 0;
	int rc = p2p_store_meta_get(replica->store, "again", again->tables, sizeof(again->tables),
				    &len);

	if (rc && rc != P2P_ENOENT)
		return rc == P2P_ETOOBIG ? P2P_ECORRUPT : rc;
	again->table_count = rc ? 0 : len / sizeof(again->tables[0]);
	again->all = again->table_count == P2P_AGAIN_TABLES_MAX;
	again->active = again->table_count > 0;
	again->at = 0;
	again->seq = 1;
	return again->active ? p2p_vv_copy(&again->todo, &replica->merged) : 0;
}

static int waits_for(struct p2p_replica *replica, size_t index, bool *out)
{
	struct p2p_table *table = p2p_store_table(replica->store, index);

	*out = false;
	return table->state == P2P_TABLE_LIVE
		       ? p2p_store_waiting_has(replica->store, &table->id, out)
		       : 0;
}

static int again_add_waiting(struct p2p_replica *replica)
{
	bool waits;
	size_t i;
	int rc = 0;

	for (i = 0; i < p2p_store_table_count(replica->store) && !rc; i++) {
		rc = waits_for(replica, i, &waits);
		if (!rc && waits)
			rc = p2p_replica_again_add(replica,
						   &p2p_store_table(replica->store, i)->id);
	}
	return rc;
}

int p2p_replica_again_look(struct p2p_replica *replica, struct p2p_error *err)
{
	bool waits = false;
	size_t i;
	int rc = 0;

	for (i = 0; i < p2p_store_table_count(replica->store) && !rc && !waits; i++)
		rc = waits_for(replica, i, &waits);
	if (!rc && waits) {
		rc = p2p_replica_begin_fold(replica, 0, err);
		if (rc)
			return rc;
		rc = again_add_waiting(replica);
		if (rc)
			p2p_replica_abort_fold(replica);
		else
			rc = p2p_replica_end_fold(replica, err);
	}
	if (rc)
		return rc;
	replica->again_due = false;
	return waits ? p2p_replica_again_load(replica) : 0;
}

/* --- the walk --------------------------------------------------------------------------------- */

static bool concerns(const struct p2p_again *again, const struct p2p_header *header)
{
	size_t i;

	for (i = 0; i < header->table_count; i++)
		if (again_has(again, &header->tables[i].table))
			return true;
	return false;
}

static int apply(struct p2p_replica *replica, const struct p2p_stored *stored,
		 const struct p2p_header *header, struct p2p_error *err)
{
	struct p2p_merge_source source = {header, stored->hash, NULL, p2p_replica_next_record,
					  true};
	struct p2p_merge_counts counts = {0};
	struct p2p_body_reader *reader;
	int rc = p2p_body_reader_open(replica->sidelog, stored, &reader);

	if (rc)
		return rc;
	source.ctx = reader;
	rc = p2p_merge_apply(replica->merge, &source, &counts, err);
	p2p_body_reader_close(reader);
	return rc;
}

static int apply_seq(struct p2p_replica *replica, const struct p2p_id *id, uint64_t seq,
		     struct p2p_error *err)
{
	struct p2p_header header;
	struct p2p_stored stored;
	int rc = p2p_sidelog_get(replica->sidelog, id, seq, &stored);

	if (rc)
		return rc;
	rc = p2p_header_unpack(&header, stored.raw, stored.raw_len);
	if (!rc) {
		if (concerns(&replica->again, &header))
			rc = apply(replica, &stored, &header, err);
		p2p_header_deinit(&header);
	}
	p2p_stored_deinit(&stored);
	return rc;
}

/* Moves on to an entry with something left; false: the walk is done. */
static bool walk_on(struct p2p_replica *replica)
{
	struct p2p_again *again = &replica->again;

	while (again->at < again->todo.count && again->seq > again->todo.entries[again->at].seq) {
		again->at++;
		again->seq = 1;
	}
	return again->at < again->todo.count;
}

static int slice(struct p2p_replica *replica, bool *out_more, struct p2p_error *err)
{
	struct p2p_again *again = &replica->again;
	uint64_t begun = p2p_env_now(replica->config.env).ms;
	int rc = 0;

	while ((*out_more = walk_on(replica)) && !rc) {
		if (p2p_env_now(replica->config.env).ms - begun >= SLICE_MS)
			return 0;
		rc = apply_seq(replica, &again->todo.entries[again->at].replica, again->seq, err);
		again->seq++;
	}
	return rc ? rc : p2p_store_meta_set(replica->store, "again", NULL, 0);
}

int p2p_replica_again_turn(struct p2p_replica *replica, bool *out_more, struct p2p_error *err)
{
	struct p2p_again *again = &replica->again;
	size_t at = again->at;
	uint64_t seq = again->seq;
	int rc;

	*out_more = true;
	if (p2p_walfile_readers(replica->store, NULL))
		return P2P_EBUSY;
	rc = p2p_replica_begin_fold(replica, 0, err);
	if (rc)
		return rc;
	rc = slice(replica, out_more, err);
	if (rc)
		p2p_replica_abort_fold(replica);
	else
		rc = p2p_replica_end_fold(replica, err);
	if (rc) { /* the slice is done again */
		again->at = at;
		again->seq = seq;
		*out_more = true;
	} else if (!*out_more) {
		again->active = false;
		again->table_count = 0;
	}
	return rc;
}
