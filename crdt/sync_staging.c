/* What the log has of a replica beyond what is merged: how far it is complete, how far it is
 * signed, and who gave the rest. What nobody signed yet may be anything: it is bounded, and dropped
 * when it proves wrong. See sync.h. */
#include <string.h>

#include "crdt/sync_private.h"
#include "proto/check.h"

/* --- what the log has ------------------------------------------------------------------------- */

void sync_unverified_set(struct p2p_sync *sync, struct sync_replica *replica, uint64_t bytes)
{
	p2p_require(sync->unverified >= replica->unverified); /* the sum of all */
	sync->unverified = sync->unverified - replica->unverified + bytes;
	replica->unverified = bytes;
}

void sync_unload(struct p2p_sync *sync, struct sync_replica *replica)
{
	p2p_header_deinit(&replica->current);
	p2p_header_init(&replica->last);
	replica->next_segment = 0;
	replica->verified = 0;
	sync_unverified_set(sync, replica, 0);
	replica->stager = 0;
	replica->proven = false;
	replica->loaded = false;
	replica->group.last = 0;
}

void sync_last_set(struct sync_replica *replica, const struct p2p_header *header,
		   const struct p2p_hash *hash)
{
	p2p_header_init(&replica->last);
	replica->last.replica = header->replica;
	replica->last.seq = header->seq;
	replica->last.stamp = header->stamp;
	replica->last.group_pos = header->group_pos;
	replica->last.group_last = header->group_last;
	replica->last_hash = *hash;
}

static int header_at(struct p2p_sync *sync, const struct p2p_id *id, uint64_t seq,
		     struct p2p_header *out, struct p2p_hash *out_hash)
{
	const struct p2p_sync_log *log = &sync->config.log;
	int rc;

	p2p_buf_reset(&sync->header);
	p2p_buf_reset(&sync->signature);
	rc = log->header(log->ctx, id, seq, &sync->header, &sync->signature);
	if (!rc)
		rc = p2p_header_unpack(out, sync->header.data, sync->header.len);
	if (!rc)
		p2p_header_hash(out_hash, &sync->config.mesh, sync->header.data, sync->header.len);
	return rc;
}

/* The end of the last whole group at or below the head; bytes after it. */
static int load_verified(struct p2p_sync *sync, struct sync_replica *replica)
{
	uint64_t seq = replica->last.seq, bytes = 0;
	struct p2p_header header;
	struct p2p_hash hash;
	bool last = replica->last.group_last;
	int rc = 0;

	while (seq && !last && seq > replica->merged.seq && !rc) {
		rc = header_at(sync, &replica->id, seq, &header, &hash);
		if (rc)
			break;
		last = header.group_last;
		if (!last) {
			bytes += header.total_bytes + sync->header.len;
			seq--;
		}
		p2p_header_deinit(&header);
	}
	replica->verified = seq;
	sync_unverified_set(sync, replica, bytes);
	return rc;
}

int sync_load(struct p2p_sync *sync, struct sync_replica *replica)
{
	const struct p2p_sync_log *log = &sync->config.log;
	struct p2p_vv_entry head;
	struct p2p_header header;
	struct p2p_hash hash;
	uint64_t seq;
	uint32_t segment;
	int rc;

	if (replica->loaded)
		return 0;
	sync_unload(sync, replica);
	rc = log->head(log->ctx, &replica->id, &head);
	if (!rc && head.seq) {
		rc = header_at(sync, &replica->id, head.seq, &header, &hash);
		if (!rc) {
			sync_last_set(replica, &header, &hash);
			p2p_header_deinit(&header);
			rc = load_verified(sync, replica);
		}
	}
	if (!rc)
		rc = log->resume(log->ctx, &replica->id, &seq, &segment);
	if (!rc) {
		rc = header_at(sync, &replica->id, seq, &replica->current, &replica->current_hash);
		if (rc == P2P_ENOENT)
			rc = 0; /* nothing of it yet */
	}
	if (rc) {
		sync_unload(sync, replica);
		return rc;
	}
	if (replica->current.seq) {
		replica->next_segment = segment;
		replica->proven = replica->current.group_last;
	}
	if (replica->proven)
		sync_unverified_set(sync, replica, 0);
	else if (replica->current.seq || replica->last.seq > replica->verified)
		replica->stager = SYNC_STAGER_MANY;
	if (replica->current.seq && !replica->proven)
		sync_unverified_set(sync, replica,
				    replica->unverified + (uint64_t)segment * P2P_SEGMENT_BYTES);
	replica->loaded = true;
	/* the file may be older than the log (a power cut), of a replica that it does not name */
	if (sync_pending(sync, replica))
		sync->config.callbacks.ready(sync->config.callbacks.ctx);
	return 0;
}

/* --- dropping --------------------------------------------------------------------------------- */

int sync_staging_drop(struct p2p_sync *sync, struct sync_replica *replica)
{
	const struct p2p_sync_log *log = &sync->config.log;
	uint64_t from = replica->verified + 1;
	int rc;

	if (from <= replica->merged.seq)
		from = replica->merged.seq + 1;
	rc = log->drop(log->ctx, &replica->id, from);
	sync_unload(sync, replica);
	return rc;
}

int sync_restage(struct p2p_sync *sync, struct sync_replica *replica)
{
	const struct p2p_sync_log *log = &sync->config.log;
	int rc = log->begin(log->ctx);

	if (rc)
		return rc;
	rc = sync_staging_drop(sync, replica);
	if (rc)
		log->rollback(log->ctx);
	else
		rc = log->commit(log->ctx);
	replica->exclusive = true;
	return rc ? rc : sync_load(sync, replica);
}

/* --- room ------------------------------------------------------------------------------------- */

static uint64_t staged_by(const struct p2p_sync *sync, p2p_sync_peer stager)
{
	uint64_t bytes = 0;
	size_t i;

	for (i = 0; i < sync->replica_count; i++)
		if (sync->replicas[i]->stager == stager)
			bytes += sync->replicas[i]->unverified;
	return bytes;
}

/* What nobody can be asked about goes first, then what the peer gave that fills the most. */
static p2p_sync_peer room_stager(const struct p2p_sync *sync)
{
	p2p_sync_peer most = SYNC_STAGER_MANY;
	uint64_t bytes, most_bytes = 0;
	struct p2p_list *at;

	if (staged_by(sync, SYNC_STAGER_MANY))
		return SYNC_STAGER_MANY;
	for (at = sync->peers.next; at != &sync->peers; at = at->next) {
		p2p_sync_peer peer = p2p_container_of(at, struct sync_peer, link)->handle;

		bytes = staged_by(sync, peer);
		if (bytes > most_bytes) {
			most = peer;
			most_bytes = bytes;
		}
	}
	return most;
}

static struct sync_replica *room_victim(const struct p2p_sync *sync)
{
	p2p_sync_peer stager = room_stager(sync);
	struct sync_replica *victim = NULL;
	size_t i;

	for (i = 0; i < sync->replica_count; i++) {
		struct sync_replica *replica = sync->replicas[i];

		if (replica->stager == stager &&
		    (!victim || replica->unverified > victim->unverified))
			victim = replica;
	}
	return victim;
}

int sync_staging_room(struct p2p_sync *sync, const struct sync_replica *replica, uint64_t bytes)
{
	int rc = 0;

	while (!rc && sync->unverified + bytes > sync->config.staged_max_bytes) {
		struct sync_replica *victim = room_victim(sync);

		if (!victim || victim == replica || !victim->unverified)
			return SYNC_NO_ROOM;
		rc = sync_staging_drop(sync, victim);
	}
	return rc;
}
