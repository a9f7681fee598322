/* What was captured becomes row states, in a write transaction of the application's file in which
 * more may be merged; see replica_private.h. */
#include "crdt/conflicts.h"
#include "crdt/replica_private.h"

#define CONFLICTS_EXPIRE_MS 3600000
#define SEAL_TRIES	    4

static int fold_changed(void *ctx, struct p2p_table *table, const int64_t *number)
{
	struct p2p_replica *replica = ctx;

	return number ? p2p_merge_touch_number(replica->merge, table, *number)
		      : p2p_merge_touch_table(replica->merge, table);
}

void p2p_replica_abort_fold(struct p2p_replica *replica)
{
	p2p_store_rollback(replica->store);
	p2p_merge_reset(replica->merge);
	p2p_capture_fold_done(replica->capture, false);
	/* numbers of replicas and tables may have been given in the transaction */
	if (p2p_store_load(replica->store, NULL))
		p2p_replica_break(replica);
	p2p_merge_reset(replica->merge);
}

/* *out_level: everything of the application is captured, or only slices are left, and its tables
 * are those that we know. */
static int fold_level(struct p2p_replica *replica, bool *out_level)
{
	int64_t journal = 0;
	bool moved = false;
	int rc = p2p_store_schema_moved(replica->store, &moved);

	if (!rc)
		rc = p2p_store_journal_max(replica->store, &journal);
	*out_level = !rc && !moved &&
		     (replica->more || journal <= p2p_capture_position(replica->capture));
	return rc;
}

/* Everything that a fold without projection may have left as it was. */
static int project_all(struct p2p_replica *replica)
{
	size_t i;
	int rc = p2p_store_meta_set_u64(replica->store, "project", 0);

	for (i = 0; i < p2p_store_table_count(replica->store) && !rc; i++) {
		struct p2p_table *table = p2p_store_table(replica->store, i);

		if (table->state == P2P_TABLE_LIVE)
			rc = p2p_merge_touch_all(replica->merge, table);
	}
	return rc;
}

int p2p_replica_begin_fold(struct p2p_replica *replica, int timeout_ms, struct p2p_error *err)
{
	bool level = false;
	int tries, rc = 0;

	if (replica->broken)
		return P2P_EIO; /* it is mended at the next step */
	if (p2p_replica_in_question(replica))
		return P2P_EBUSY;
	for (tries = 0; tries < SEAL_TRIES; tries++) {
		rc = p2p_replica_check_schema(replica, err);
		if (!rc && (!replica->more || p2p_capture_provisional(replica->capture)))
			rc = p2p_replica_seal(replica, NULL, err);
		if (!rc)
			rc = p2p_store_begin_write(replica->store, timeout_ms, err);
		if (rc)
			return rc;
		rc = fold_level(replica, &level);
		if (rc || level)
			break;
		p2p_store_rollback(replica->store); /* the application was faster: once more */
	}
	if (!rc && !level)
		return P2P_EBUSY;
	p2p_merge_doubt(replica->merge, p2p_replica_looking(replica));
	if (!rc && p2p_capture_unfolded(replica->capture))
		rc = p2p_capture_fold(replica->capture, fold_changed, replica, err);
	if (!rc && replica->project_due)
		rc = project_all(replica);
	if (rc)
		p2p_replica_abort_fold(replica);
	return rc;
}

static int conflicts_expire(struct p2p_replica *replica)
{
	uint64_t now = p2p_env_now(replica->config.env).ms;

	if (replica->expired_ms && now - replica->expired_ms < CONFLICTS_EXPIRE_MS)
		return 0;
	replica->expired_ms = now ? now : 1;
	return p2p_conflicts_expire(replica->store);
}

static int fold_project(struct p2p_replica *replica, struct p2p_error *err)
{
	int rc = p2p_merge_finish(replica->merge, err);

	if (!rc)
		rc = conflicts_expire(replica);
	if (rc)
		p2p_replica_abort_fold(replica);
	return rc;
}

static int fold_commit(struct p2p_replica *replica, struct p2p_error *err)
{
	int rc = p2p_store_commit(replica->store, err);

	if (!rc) {
		p2p_capture_fold_done(replica->capture, true);
		p2p_replica_numbers_note(replica);
		replica->project_due = false;
		return 0;
	}
	if (rc == P2P_EBUSY) {
		p2p_replica_abort_fold(replica);
		return rc;
	}
	/* whether it was committed is not known: begin anew from the files */
	p2p_store_rollback(replica->store);
	p2p_replica_break(replica);
	return rc;
}

int p2p_replica_end_fold(struct p2p_replica *replica, struct p2p_error *err)
{
	int rc = fold_project(replica, err);

	return rc ? rc : fold_commit(replica, err);
}

int p2p_replica_end_fold_alone(struct p2p_replica *replica, struct p2p_error *err)
{
	int rc = fold_project(replica, err);

	if (rc)
		return rc;
	if (p2p_walfile_readers(replica->store, NULL)) {
		p2p_replica_abort_fold(replica);
		return P2P_EBUSY;
	}
	return fold_commit(replica, err);
}

int p2p_replica_end_fold_later(struct p2p_replica *replica, struct p2p_error *err)
{
	int rc = p2p_store_meta_set_u64(replica->store, "project", 1);

	if (rc) {
		p2p_replica_abort_fold(replica);
		return rc;
	}
	rc = fold_commit(replica, err);
	if (!rc) {
		p2p_merge_reset(replica->merge);
		replica->project_due = true;
	}
	return rc;
}
