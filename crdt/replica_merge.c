/* Remote changes become rows, beside an application that must not notice; see replica_private.h. */
#include <stdio.h>
#include <string.h>

#include "crdt/replica_private.h"
#include "proto/check.h"

#define HOLD_BUDGET_MS	   5	/* decisions 26, 55 */
#define BESIDE_INTERVAL_MS 1000 /* between commits beside a reader that never pauses */
/* Between merges while an application is writing: each of our commits has a chance to meet one of
 * its transactions just as it begins to read, so a few larger ones are better than many. */
#define BUSY_INTERVAL_MS       40
#define RETRY_MS	       2
#define FOLD_IDLE_MS	       1000 /* after the application's last commit (decisions 16) */
#define FOLD_ROWS_MAX	       20000
#define WAL_SYNC_MS	       10 /* acks wait no longer */
#define CHECKPOINT_FRAMES      250
#define CHECKPOINT_WAIT_MS     1000 /* while a reader keeps the frames */
#define CHECKPOINT_RETRY_MS    5
#define CHECKPOINT_FRAMES_LATE 900 /* not later than the application's own */

/* --- merge ------------------------------------------------------------------------------------ */

/* What one transaction merges: a run of changesets of one replica. */
struct merging {
	struct p2p_replica *replica;
	struct p2p_sync_group group;
	struct p2p_vv_entry entry; /* the last one merged */
	struct p2p_merge_counts counts;
	struct p2p_time begun;
	uint64_t changesets;
	bool first_good; /* the group itself is merged: what is wrong comes after it */
};

int p2p_replica_next_record(void *ctx, const uint8_t **out_data, size_t *out_len)
{
	return p2p_body_reader_next(ctx, out_data, out_len);
}

static int apply_stored(struct merging *m, const struct p2p_stored *stored,
			const struct p2p_header *header, struct p2p_error *err)
{
	struct p2p_merge_source source = {.header = header,
					  .hash = stored->hash,
					  .next = p2p_replica_next_record};
	struct p2p_body_reader *reader;
	int rc = p2p_body_reader_open(m->replica->sidelog, stored, &reader);

	if (rc)
		return rc;
	source.ctx = reader;
	rc = p2p_merge_apply(m->replica->merge, &source, &m->counts, err);
	p2p_body_reader_close(reader);
	if (rc)
		return rc;
	m->entry.seq = header->seq;
	m->entry.head = stored->hash;
	m->entry.stamp = header->stamp;
	m->changesets++;
	return 0;
}

/* May this changeset follow in the same transaction? A group of one, nothing missing that it
 * depends on. */
static bool follows(const struct merging *m, const struct p2p_header *header)
{
	size_t i;

	if (header->group_pos || !header->group_last)
		return false;
	for (i = 0; i < header->dep_count; i++)
		if (p2p_vv_seq(&m->replica->merged, &header->deps[i].replica) < header->deps[i].seq)
			return false;
	return true;
}

/* 1: not now. */
static int apply_seq(struct merging *m, uint64_t seq, struct p2p_error *err)
{
	struct p2p_header header;
	struct p2p_stored stored;
	int rc = p2p_sidelog_get(m->replica->sidelog, &m->group.replica, seq, &stored);

	if (rc)
		return rc;
	rc = p2p_header_unpack(&header, stored.raw, stored.raw_len);
	if (!rc) {
		rc = seq > m->group.last && !follows(m, &header)
			     ? 1
			     : apply_stored(m, &stored, &header, err);
		p2p_header_deinit(&header);
	}
	p2p_stored_deinit(&stored);
	return rc;
}

static bool hold_used_up(const struct merging *m)
{
	return p2p_env_now(m->replica->config.env).ms - m->begun.ms >= HOLD_BUDGET_MS;
}

static int apply_run(struct merging *m, struct p2p_error *err)
{
	struct p2p_vv_entry log;
	uint64_t seq;
	int rc = p2p_sidelog_head(m->replica->sidelog, &m->group.replica, &log);

	m->entry = log;
	for (seq = m->group.first; seq <= m->group.last && !rc; seq++)
		rc = apply_seq(m, seq, err);
	m->first_good = rc == 0;
	while (!rc && !m->replica->merge_alone && seq <= log.seq && !hold_used_up(m))
		rc = apply_seq(m, seq++, err);
	return rc == 1 ? 0 : rc;
}

static int merged(struct merging *m)
{
	struct p2p_replica *replica = m->replica;
	const struct p2p_replica_callbacks *callbacks = &replica->config.callbacks;
	int rc = p2p_vv_put(&replica->merged, &m->entry);

	p2p_capture_observe(replica->capture, m->entry.stamp);
	if (!replica->unsynced)
		replica->unsynced_at = p2p_env_now(replica->config.env);
	replica->unsynced = true;
	if (!rc)
		rc = p2p_sync_set_merged(replica->sync, &m->entry);
	if (callbacks->merged)
		callbacks->merged(callbacks->ctx, &m->group.replica, m->entry.seq, m->counts.rows);
	return rc;
}

static int merge_group(struct merging *m, bool beside, struct p2p_error *err)
{
	struct p2p_replica *replica = m->replica;
	int rc;

	m->begun = p2p_env_now(replica->config.env);
	/* once it is committed nothing may stop us from knowing it */
	rc = p2p_vv_room(&replica->merged, &m->group.replica);
	if (!rc)
		rc = p2p_sync_merged_room(replica->sync, &m->group.replica);
	if (!rc)
		rc = apply_run(m, err);
	if (rc) {
		p2p_replica_abort_fold(replica);
		if (p2p_err_blame(rc) != P2P_BLAME_PEER)
			return p2p_error_wrap(err, rc, "merge");
		if (m->first_good) {
			/* what is good before it counts, for all depend on it alike: one by one */
			replica->merge_alone = true;
			return P2P_EBUSY;
		}
		replica->merge_alone = false;
		/* signed nonsense of a member: nothing more of it */
		p2p_sync_hold(replica->sync, &m->group.replica, rc);
		return 0;
	}
	if (!beside && p2p_walfile_readers(replica->store, NULL)) {
		p2p_replica_abort_fold(replica);
		return P2P_EBUSY;
	}
	rc = beside ? p2p_replica_end_fold(replica, err) : p2p_replica_end_fold_alone(replica, err);
	p2p_replica_note_hold(replica, (p2p_env_now(replica->config.env).ms - m->begun.ms) * 1000);
	if (rc)
		return rc;
	p2p_merge_counts_take(replica->merge, &m->counts);
	return merged(m);
}

/* Is this a moment to commit in the application's file? *out_beside: although somebody reads. */
static bool moment(struct p2p_replica *replica, struct p2p_time now, bool *out_beside)
{
	*out_beside = false;
	if (!p2p_walfile_readers(replica->store, NULL))
		return true;
	if (now.ms - replica->ready_at.ms < replica->config.apply_interval_ms ||
	    (replica->beside_at.ms && now.ms - replica->beside_at.ms < BESIDE_INTERVAL_MS))
		return false;
	*out_beside = true;
	return true;
}

static void sooner(struct p2p_time *next, uint64_t ms)
{
	if (ms < next->ms)
		next->ms = ms;
}

static int merge_turn(struct p2p_replica *replica, struct p2p_time now, struct p2p_time *next,
		      struct p2p_error *err)
{
	struct merging m = {.replica = replica};
	bool beside;
	int rc;

	if (!p2p_sync_next_ready(replica->sync, &m.group)) {
		replica->ready_at.ms = 0;
		return 0;
	}
	if (now.ms - replica->merged_at.ms < BUSY_INTERVAL_MS && replica->merged_at.ms &&
	    now.ms - replica->app_commit_at.ms < FOLD_IDLE_MS) {
		sooner(next, replica->merged_at.ms + BUSY_INTERVAL_MS);
		return 0;
	}
	if (!moment(replica, now, &beside)) {
		sooner(next, now.ms + RETRY_MS);
		return 0;
	}
	rc = p2p_replica_begin_fold(replica, 0, err);
	if (!rc && replica->more)
		p2p_replica_abort_fold(replica);
	else if (!rc)
		rc = merge_group(&m, beside, err);
	if (rc == P2P_EBUSY) {
		sooner(next, now.ms + RETRY_MS);
		return 0;
	}
	if (beside && !rc)
		replica->beside_at = now;
	if (!rc)
		replica->ready_at = replica->merged_at = now;
	sooner(next, now.ms);
	return rc;
}

/* --- what else there is to do ------------------------------------------------------------------
 */

static int slice_turn(struct p2p_replica *replica, struct p2p_time now, struct p2p_time *next,
		      struct p2p_error *err)
{
	int rc = p2p_replica_seal(replica, NULL, err);

	if (!rc && p2p_capture_unfolded(replica->capture)) {
		rc = p2p_replica_begin_fold(replica, 0, err);
		if (!rc)
			rc = p2p_replica_end_fold(replica, err);
	}
	sooner(next, rc == P2P_EBUSY ? now.ms + RETRY_MS : now.ms);
	return rc == P2P_EBUSY ? 0 : rc;
}

/* The application goes on in its transaction, under the schema that it knows. */
static int adopt_turn(struct p2p_replica *replica, struct p2p_time now, struct p2p_time *next,
		      struct p2p_error *err)
{
	int rc;

	if (!replica->adopt_due && !replica->adopt_all)
		return 0;
	if (p2p_walfile_readers(replica->store, NULL)) {
		sooner(next, now.ms + RETRY_MS);
		return 0;
	}
	rc = replica->adopt_all ? p2p_replica_adopt_tables(replica, false, err)
				: p2p_replica_adopt_new(replica, err);
	replica->adopt_due = rc != 0;
	if (rc == P2P_EBUSY)
		sooner(next, now.ms + RETRY_MS);
	return rc == P2P_EBUSY ? 0 : rc;
}

static int again_turn(struct p2p_replica *replica, struct p2p_time now, struct p2p_time *next,
		      struct p2p_error *err)
{
	bool more = true;
	int rc = 0;

	if (replica->more)
		return 0;
	if (replica->again_due && !replica->again.active)
		rc = p2p_replica_again_look(replica, err);
	if (!rc && !replica->again.active)
		return 0;
	if (!rc)
		rc = p2p_replica_again_turn(replica, &more, err);
	if (more)
		sooner(next, rc == P2P_EBUSY ? now.ms + RETRY_MS : now.ms);
	return rc == P2P_EBUSY ? 0 : rc;
}

static int fold_turn(struct p2p_replica *replica, struct p2p_time now, struct p2p_time *next,
		     struct p2p_error *err)
{
	size_t rows = p2p_capture_unfolded(replica->capture);
	int rc;

	if ((!rows && !replica->project_due) || p2p_capture_provisional(replica->capture))
		return 0;
	if (rows <= FOLD_ROWS_MAX && now.ms - replica->app_commit_at.ms < FOLD_IDLE_MS) {
		sooner(next, replica->app_commit_at.ms + FOLD_IDLE_MS);
		return 0;
	}
	if (rows <= FOLD_ROWS_MAX && p2p_walfile_readers(replica->store, NULL)) {
		sooner(next, now.ms + FOLD_IDLE_MS / 10);
		return 0;
	}
	rc = p2p_replica_begin_fold(replica, 0, err);
	if (!rc)
		rc = rows <= FOLD_ROWS_MAX ? p2p_replica_end_fold_alone(replica, err)
					   : p2p_replica_end_fold(replica, err);
	if (rc == P2P_EBUSY) {
		sooner(next, now.ms + FOLD_IDLE_MS / 10);
		return 0;
	}
	return rc;
}

static int numbers_turn(struct p2p_replica *replica, struct p2p_time now, struct p2p_time *next,
			struct p2p_error *err)
{
	bool pending = p2p_capture_numbering(replica->capture), beside = false, busy, is_moment;
	uint64_t again;
	int rc;

	if (!replica->numbers_due && !pending)
		return 0;
	busy = replica->merged_at.ms && now.ms - replica->merged_at.ms < BUSY_INTERVAL_MS &&
	       now.ms - replica->app_commit_at.ms < FOLD_IDLE_MS;
	is_moment = pending && !busy && moment(replica, now, &beside);
	rc = p2p_replica_numbers_turn(replica, is_moment ? &beside : NULL, &again, err);
	if (is_moment && !p2p_capture_numbering(replica->capture)) {
		replica->merged_at = now;
		if (beside)
			replica->beside_at = now;
	}
	if (again != UINT64_MAX)
		sooner(next, now.ms + again);
	return rc;
}

/* With a live peer only: what nobody hears of needs no look. */
static int displaced_turn(struct p2p_replica *replica, struct p2p_time now, struct p2p_time *next,
			  struct p2p_error *err)
{
	uint64_t pause = p2p_replica_look_pause(replica, now);
	int rc;

	if (!p2p_replica_looking(replica) || !replica->peers)
		return 0;
	if (pause) {
		sooner(next, now.ms + pause);
		return 0;
	}
	if ((now.ms - replica->app_commit_at.ms < FOLD_IDLE_MS && !replica->look_now) ||
	    p2p_capture_unfolded(replica->capture) || p2p_capture_provisional(replica->capture)) {
		sooner(next, now.ms + FOLD_IDLE_MS / 4);
		return 0;
	}
	rc = p2p_replica_displaced_look(replica, now, err);
	if (rc == P2P_EBUSY)
		sooner(next, now.ms + FOLD_IDLE_MS / 4);
	else
		sooner(next, now.ms);
	return rc == P2P_EBUSY ? 0 : rc;
}

static int durable_turn(struct p2p_replica *replica, struct p2p_time now, struct p2p_time *next,
			struct p2p_error *err)
{
	int rc;

	if (!replica->unsynced)
		return 0;
	if (now.ms < replica->unsynced_at.ms + WAL_SYNC_MS) {
		sooner(next, replica->unsynced_at.ms + WAL_SYNC_MS);
		return 0;
	}
	rc = p2p_walfile_sync(replica->store, err);
	if (rc)
		return rc;
	replica->unsynced = false;
	if (!p2p_sync_durable(replica->sync))
		sooner(next, now.ms);
	return 0;
}

/* An application that read first gets an error at once if it begins to write while the lock is held
 * (SQLite asks no busy handler there), so this too waits for a moment without readers, and, without
 * a peer, for an application at rest: its own checkpoint, at 1 000 frames by default, is a danger
 * only beside commits of ours (decisions 54), and alone we make none. */
static bool checkpoint_moment(struct p2p_replica *replica, struct p2p_time now, uint64_t frames)
{
	if (replica->peers && frames >= CHECKPOINT_FRAMES_LATE)
		return true;
	if (!replica->peers && now.ms - replica->app_commit_at.ms < FOLD_IDLE_MS)
		return false;
	return !p2p_walfile_readers(replica->store, NULL);
}

static int checkpoint_turn(struct p2p_replica *replica, struct p2p_time now, struct p2p_time *next,
			   struct p2p_error *err)
{
	uint64_t hold_us = 0, frames = p2p_walfile_frames(replica->store);
	int rc;

	if (frames < CHECKPOINT_FRAMES)
		return 0;
	if (now.ms < replica->checkpoint_at.ms || !checkpoint_moment(replica, now, frames)) {
		sooner(next,
		       now.ms < replica->checkpoint_at.ms
			       ? replica->checkpoint_at.ms
			       : now.ms + (replica->peers ? CHECKPOINT_RETRY_MS : FOLD_IDLE_MS));
		return 0;
	}
	/* so that only the database file is synced under the lock */
	rc = p2p_walfile_sync(replica->store, err);
	if (!rc)
		rc = p2p_walfile_checkpoint(replica->store, &hold_us, err);
	replica->checkpoint_at.ms = now.ms + (rc ? CHECKPOINT_RETRY_MS : 0);
	if (rc)
		return rc == P2P_EBUSY ? 0 : rc;
	p2p_replica_note_hold(replica, hold_us);
	if (p2p_walfile_frames(replica->store) >= CHECKPOINT_FRAMES)
		replica->checkpoint_at.ms = now.ms + CHECKPOINT_WAIT_MS;
	return 0;
}

/* A row that should be there is not: an INSERT OR REPLACE pushed it out, most likely. That is found
 * out now, not when the application rests: until then nothing more could be merged. */
static int missed_turn(struct p2p_replica *replica, struct p2p_time now, struct p2p_time *next,
		       struct p2p_error *err)
{
	int rc = p2p_replica_displaced_all(replica, err);

	sooner(next, rc == P2P_EBUSY ? now.ms + RETRY_MS : now.ms);
	return rc == P2P_EBUSY ? 0 : rc;
}

static int all_turns(struct p2p_replica *replica, struct p2p_time now, struct p2p_time *next,
		     struct p2p_error *err)
{
	int rc = 0;

	if (replica->more)
		rc = slice_turn(replica, now, next, err);
	else if (replica->ready_at.ms)
		rc = merge_turn(replica, now, next, err);
	if (!rc && !replica->more)
		rc = adopt_turn(replica, now, next, err);
	if (!rc)
		rc = again_turn(replica, now, next, err);
	if (!rc && !replica->more)
		rc = numbers_turn(replica, now, next, err);
	if (!rc && !replica->more)
		rc = fold_turn(replica, now, next, err);
	if (!rc && !replica->more)
		rc = displaced_turn(replica, now, next, err);
	return rc;
}

static int work_turns(struct p2p_replica *replica, struct p2p_time now, struct p2p_time *next,
		      struct p2p_error *err)
{
	int rc = all_turns(replica, now, next, err);

	return rc == P2P_ECORRUPT && p2p_replica_looking(replica)
		       ? missed_turn(replica, now, next, err)
		       : rc;
}

static int step(struct p2p_replica *replica, struct p2p_time now, struct p2p_time *next,
		struct p2p_error *err)
{
	int durable, rc = 0;

	if (replica->leave_id && !replica->peers)
		return p2p_replica_change_id(replica, err);
	/* what was captured while nobody was heard (a clock was wrong, a disk failed) waits for
	 * this too */
	if ((replica->seal_due || p2p_capture_provisional(replica->capture)) && replica->peers &&
	    p2p_sync_heard(replica->sync) && !p2p_replica_in_question(replica)) {
		rc = p2p_replica_seal(replica, NULL, err);
		replica->seal_due = rc != 0;
	}
	if (rc)
		return rc;
	rc = work_turns(replica, now, next, err);
	/* what is merged is acknowledged, whatever the rest says */
	durable = durable_turn(replica, now, next, rc ? NULL : err);
	if (rc || durable)
		return rc ? rc : durable;
	return checkpoint_turn(replica, now, next, err);
}

int p2p_replica_step(struct p2p_replica *replica, struct p2p_time *out_next, struct p2p_error *err)
{
	struct p2p_time now = p2p_env_now(replica->config.env);
	int rc = p2p_replica_whole(replica, err);

	out_next->ms = UINT64_MAX;
	if (rc || !replica->sync)
		return rc;
	*out_next = p2p_sync_tick(replica->sync, now);
	rc = step(replica, now, out_next, err);
	replica->last_error = rc;
	(void)snprintf(replica->last_error_text, sizeof(replica->last_error_text), "%s",
		       rc && err ? err->msg : "");
	return rc;
}
