/* Local changes: seen, captured, sealed; see replica_private.h. */
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "crdt/replica_private.h"
#include "proto/check.h"

/* Without a live peer changes stay provisional up to here. */
#define PROVISIONAL_ROWS_MAX  20000
#define PROVISIONAL_TURNS_MAX 1000
#define CHECKPOINT_FRAMES     250 /* decisions 54 */
/* The application changed its schema just before the snapshot. */
#define SCHEMA_TRIES 4

bool p2p_replica_file_moved(struct p2p_replica *replica)
{
	int64_t version = 0;
	int rc = SQLITE_OK;

	if (!replica->data_version)
		rc = sqlite3_prepare_v3(p2p_store_db(replica->store), "PRAGMA main.data_version",
					-1, SQLITE_PREPARE_PERSISTENT, &replica->data_version,
					NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(replica->data_version);
	if (rc == SQLITE_ROW)
		version = sqlite3_column_int64(replica->data_version, 0);
	(void)sqlite3_reset(replica->data_version); /* repeats the step's error */
	if (rc != SQLITE_ROW)
		return true; /* whoever looks closer will meet the error */
	if (version == replica->data_version_seen)
		return false;
	replica->data_version_seen = version;
	replica->app_commit_at = p2p_env_now(replica->config.env);
	return true;
}

static uint64_t now_limit(struct p2p_replica *replica)
{
	uint64_t wall = p2p_env_wall_ms(replica->config.env);
	int64_t offset = replica->sync ? p2p_sync_clock_offset_ms(replica->sync) : 0;

	if (offset < 0 && (uint64_t)-offset > wall)
		return 0;
	return offset < 0 ? wall - (uint64_t)-offset : wall + (uint64_t)offset;
}

/* Entries merged since the last own changeset (decisions 4). */
static size_t deps_collect(struct p2p_replica *replica)
{
	size_t i, count = 0;

	for (i = 0; i < replica->merged.count && count < P2P_DEPS_MAX; i++) {
		const struct p2p_vv_entry *entry = &replica->merged.entries[i];

		if (p2p_id_cmp(&entry->replica, &replica->id) == 0 ||
		    entry->seq <= p2p_vv_seq(&replica->told, &entry->replica))
			continue;
		replica->deps[count].replica = entry->replica;
		replica->deps[count++].seq = entry->seq;
	}
	return count;
}

static int sealed(struct p2p_replica *replica)
{
	const struct p2p_vv_entry *head = p2p_capture_head(replica->capture);
	int rc = p2p_vv_put(&replica->merged, head);

	/* a dependency that is told twice is no harm */
	if (p2p_vv_copy(&replica->told, &replica->merged)) {
		p2p_vv_deinit(&replica->told);
		p2p_vv_init(&replica->told);
	}
	p2p_replica_mark_head(replica);
	if (!rc && replica->sync)
		rc = p2p_sync_set_merged(replica->sync, head);
	if (!rc && replica->sync)
		p2p_sync_durable(replica->sync);
	return rc;
}

bool p2p_replica_in_question(const struct p2p_replica *replica)
{
	return replica->leave_id || (replica->sync && p2p_sync_in_question(replica->sync));
}

static int schema_busy(const struct p2p_replica *replica, struct p2p_error *err)
{
	return p2p_error_set(err, P2P_EBUSY,
			     "'%s': the application changes its schema all the time",
			     replica->db_path);
}

/* The application wrote: also where nothing is left to tell of it, rows may have been pushed out by
 * what it put back as it was. */
static void position_moved(struct p2p_replica *replica, int64_t before)
{
	replica->displaced_due |= p2p_capture_position(replica->capture) != before;
}

static int freeze_now(struct p2p_replica *replica, struct p2p_freeze *freeze, struct p2p_error *err)
{
	int64_t before = p2p_capture_position(replica->capture);
	unsigned int tries;
	int rc = P2P_CAPTURE_MOVED;

	for (tries = 0; tries < SCHEMA_TRIES && rc == P2P_CAPTURE_MOVED; tries++) {
		rc = p2p_replica_check_schema(replica, err);
		if (!rc)
			rc = p2p_capture_freeze(replica->capture, freeze, err);
	}
	position_moved(replica, before);
	return rc == P2P_CAPTURE_MOVED ? schema_busy(replica, err) : rc;
}

int p2p_replica_seal(struct p2p_replica *replica, size_t *out_changesets, struct p2p_error *err)
{
	struct p2p_freeze freeze = {.deps = replica->deps};
	int rc;

	if (out_changesets)
		*out_changesets = 0;
	if (replica->broken)
		return P2P_EIO; /* it is mended at the next step */
	if (p2p_replica_in_question(replica)) {
		replica->seal_due = true; /* nobody looks at the file again for this */
		return 0;
	}
	freeze.dep_count = deps_collect(replica);
	freeze.now_ms = now_limit(replica);
	freeze.numbering = replica->numbering;
	rc = freeze_now(replica, &freeze, err);
	if (!rc)
		replica->more = freeze.more;
	replica->numbering_more = freeze.numbering_more || (replica->more && freeze.numbering);
	if (out_changesets)
		*out_changesets = freeze.changesets;
	/* also one whose commit seemed to fail, and is in the log all the same */
	if (rc ||
	    p2p_capture_head(replica->capture)->seq == p2p_vv_seq(&replica->merged, &replica->id))
		return rc;
	rc = sealed(replica);
	return rc ? p2p_error_set(err, rc, "announce local changes: %s", p2p_strerror(rc)) : 0;
}

int p2p_replica_freeze(struct p2p_replica *replica, struct p2p_error *err)
{
	int rc = p2p_replica_whole(replica, err);

	if (rc)
		return rc;
	if (!replica->capture)
		return p2p_error_set(err, P2P_ESTATE, "'%s' is in no mesh", replica->db_path);
	rc = p2p_replica_seal(replica, NULL, err);
	while (!rc && replica->more) {
		rc = p2p_replica_begin_projected(replica, err);
		if (!rc)
			rc = p2p_replica_end_fold(replica, err);
		if (!rc)
			rc = p2p_replica_seal(replica, NULL, err);
	}
	return rc;
}

/* Tables of the mesh that the application just made are taken up. */
static int poll_schema(struct p2p_replica *replica, struct p2p_error *err)
{
	int rc = p2p_replica_check_schema(replica, err);

	return rc || !replica->adopt_all ? rc : p2p_replica_adopt_tables(replica, false, err);
}

static int capture_now(struct p2p_replica *replica, struct p2p_error *err)
{
	int64_t before = p2p_capture_position(replica->capture);
	unsigned int tries;
	int rc = P2P_CAPTURE_MOVED;

	for (tries = 0; tries < SCHEMA_TRIES && rc == P2P_CAPTURE_MOVED; tries++) {
		rc = p2p_replica_check_schema(replica, err);
		if (!rc)
			rc = p2p_capture_run(replica->capture, &replica->more, err);
	}
	position_moved(replica, before);
	return rc == P2P_CAPTURE_MOVED ? schema_busy(replica, err) : rc;
}

static int poll_capture(struct p2p_replica *replica, struct p2p_error *err)
{
	struct p2p_capture *capture = replica->capture;
	int rc = poll_schema(replica, err);

	if (rc)
		return rc;
	if ((replica->peers && p2p_sync_heard(replica->sync)) || replica->more)
		return p2p_replica_seal(replica, NULL, err);
	rc = capture_now(replica, err);
	if (!rc && (replica->more || p2p_capture_provisional(capture) > PROVISIONAL_ROWS_MAX ||
		    p2p_capture_turns(capture) > PROVISIONAL_TURNS_MAX))
		rc = p2p_replica_seal(replica, NULL, err);
	return rc;
}

int p2p_replica_poll(struct p2p_replica *replica, bool *out_changed, struct p2p_error *err)
{
	int64_t before;
	int rc;

	*out_changed = false;
	rc = p2p_replica_whole(replica, err);
	if (rc || !replica->capture)
		return rc;
	before = p2p_capture_position(replica->capture);
	rc = poll_capture(replica, err);
	if (rc) {
		replica->data_version_seen = -1; /* there is still something to see */
		replica->last_error = rc;
		(void)snprintf(replica->last_error_text, sizeof(replica->last_error_text), "%s",
			       err ? err->msg : p2p_strerror(rc));
		return rc;
	}
	/* there is work for a step */
	*out_changed = p2p_capture_position(replica->capture) != before || replica->adopt_all ||
		       p2p_walfile_frames(replica->store) >= CHECKPOINT_FRAMES;
	return 0;
}
