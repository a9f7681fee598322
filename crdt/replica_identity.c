/* Founding a mesh, the replica id and the mark; see replica_private.h. */
#include <string.h>

#include "crdt/replica_private.h"
#include "proto/check.h"
#include "proto/mem.h"

static int identity_error(struct p2p_replica *replica, struct p2p_error *err, int rc,
			  const char *what)
{
	return p2p_error_set(err, rc, "%s '%s': %s", what, replica->db_path, p2p_strerror(rc));
}

/* --- the replica id --------------------------------------------------------------------------- */

/* In one transaction of the log: the certificate and that the id is ours. */
static int id_store(struct p2p_replica *replica, const struct p2p_id *id, const void *certificate,
		    size_t len, struct p2p_error *err)
{
	size_t first = p2p_authority_count(replica->authority);
	struct p2p_hash hash;
	int rc = p2p_sidelog_begin(replica->sidelog, err);

	if (rc)
		return rc;
	rc = p2p_authority_add(replica->authority, certificate, len);
	p2p_require(rc != P2P_AUTHORITY_KNOWN); /* the id is new */
	if (!rc) {
		hash = p2p_authority_record(replica->authority, first)->hash;
		rc = p2p_sidelog_put_record(replica->sidelog, &hash, certificate, len);
	}
	if (!rc)
		rc = p2p_sidelog_meta_set(replica->sidelog, "replica", id->bytes, P2P_ID_BYTES);
	if (!rc)
		rc = p2p_sidelog_commit(replica->sidelog, err);
	else {
		p2p_sidelog_rollback(replica->sidelog);
		identity_error(replica, err, rc, "make a replica id for");
	}
	if (rc) /* nobody shall hear of a certificate that is not stored */
		p2p_authority_rewind(replica->authority, first);
	return rc;
}

static void tell_last_record(struct p2p_replica *replica)
{
	const struct p2p_replica_callbacks *callbacks = &replica->config.callbacks;
	size_t count = p2p_authority_count(replica->authority);

	if (callbacks->record && count)
		callbacks->record(callbacks->ctx,
				  p2p_authority_record(replica->authority, count - 1));
}

/* Bound to the node's key. One that it had before would go on with the numbers of another history:
 * it draws again, in vain only if its random bytes are none. It cannot know of one that it had and
 * lost with its disk: at 16 ids that is one draw in 2^28, and found like any id that went on
 * elsewhere, by a peer's proof. */
static int id_draw(struct p2p_replica *replica, struct p2p_id *out)
{
	unsigned int turn;

	for (turn = 0; turn < P2P_REPLICA_DRAWS_MAX; turn++) {
		p2p_env_random(replica->config.env, out->bytes, P2P_ID_BYTES);
		p2p_replica_id_bind(out, &replica->config.signer->node);
		if (!p2p_authority_replica_known(replica->authority, out))
			return 0;
	}
	return P2P_EEXIST;
}

int p2p_replica_make_id(struct p2p_replica *replica, struct p2p_error *err)
{
	static const struct p2p_id none;
	bool first = p2p_id_cmp(&replica->id, &none) == 0;
	struct p2p_buf record;
	struct p2p_id id;
	int rc = id_draw(replica, &id);

	if (rc)
		return identity_error(replica, err, rc, "draw a replica id for");
	p2p_buf_init(&record, P2P_RECORD_BODY_MAX);
	rc = p2p_authority_make_certificate(replica->authority, &record, replica->config.signer,
					    &id, first ? NULL : &replica->id);
	if (rc)
		identity_error(replica, err, rc, "make a replica id for");
	else
		rc = id_store(replica, &id, record.data, record.len, err);
	p2p_buf_deinit(&record);
	if (rc)
		return rc;
	replica->id = id;
	tell_last_record(replica);
	return 0;
}

/* --- founding --------------------------------------------------------------------------------- */

static int found_records(struct p2p_replica *replica, const char *name, struct p2p_error *err)
{
	struct p2p_buf record;
	struct p2p_hash mesh;
	uint8_t random[32];
	struct p2p_founding founding = {name, random,
					replica->replicate_schema ? P2P_GENESIS_SCHEMA : 0};
	int rc;

	p2p_env_random(replica->config.env, random, sizeof(random));
	p2p_buf_init(&record, P2P_RECORD_BODY_MAX);
	rc = p2p_authority_make_founding(&record, &mesh, replica->config.signer, &founding);
	if (!rc)
		rc = p2p_replica_keep_record(replica, record.data, record.len, err);
	else
		identity_error(replica, err, rc, "found a mesh of");
	p2p_buf_deinit(&record);
	return rc;
}

int p2p_replica_found(struct p2p_replica *replica, const char *name, struct p2p_error *err)
{
	static const struct p2p_hash none;
	int rc;

	if (p2p_replica_member(replica))
		return p2p_error_set(err, P2P_EEXIST, "'%s' is in a mesh already",
				     replica->db_path);
	/* cut off before its certificate was made: the same mesh goes on */
	if (p2p_hash_cmp(p2p_authority_mesh(replica->authority), &none) == 0) {
		rc = found_records(replica, name, err);
		if (rc)
			return rc;
	} else if (p2p_authority_role(replica->authority, &replica->config.signer->node) ==
		   P2P__V1__ROLE__ROLE_NONE) {
		return p2p_error_set(err, P2P_EAUTH,
				     "'%s' belongs to a mesh of which this node is no member (is "
				     "its identity file another one?)",
				     replica->db_path);
	}
	rc = p2p_replica_make_id(replica, err);
	if (!rc)
		rc = p2p_replica_take_place(replica, err);
	return rc ? rc : p2p_replica_begin(replica, err);
}

int p2p_replica_setup_store(struct p2p_replica *replica, struct p2p_error *err)
{
	uint32_t number;
	int rc = 0, again;

	/* one that was cut off may have made the tables, and not have read them */
	if (!p2p_store_enabled(replica->store))
		rc = p2p_store_load(replica->store, err);
	if (rc)
		return rc;
	if (p2p_store_enabled(replica->store) &&
	    p2p_store_replica_find(replica->store, &replica->id))
		return 0;
	rc = p2p_store_begin_write(replica->store, P2P_REPLICA_WAIT_MS, err);
	if (rc)
		return rc;
	rc = p2p_store_setup(replica->store, err);
	if (!rc && !p2p_store_enabled(replica->store))
		rc = p2p_store_load(replica->store, err);
	if (!rc) {
		rc = p2p_store_replica_number(replica->store, &replica->id, &number);
		if (rc)
			identity_error(replica, err, rc, "write to");
	}
	if (!rc)
		rc = p2p_store_commit(replica->store, err);
	if (!rc)
		return p2p_store_load(replica->store, err);
	p2p_store_rollback(replica->store);
	/* what it took for made is not there; a load that fails takes nothing for made either */
	again = p2p_store_load(replica->store, NULL);
	return again ? again : rc;
}

/* --- the mark --------------------------------------------------------------------------------- */

/* The nonce of a file: the one in force, or the one that a start cut short was giving. */
static bool nonce_is(const struct p2p_mark *mark, const void *other, size_t len)
{
	return len == P2P_MARK_NONCE_BYTES &&
	       (memcmp(mark->nonce, other, len) == 0 || memcmp(mark->next, other, len) == 0);
}

/* Everything says that the id is still this file's, this log's, this machine's and this key's. */
static int mark_holds(struct p2p_replica *replica, const struct p2p_mark *here,
		      struct p2p_mark *out_mark, bool *out)
{
	uint8_t db[P2P_MARK_NONCE_BYTES], log[P2P_MARK_NONCE_BYTES];
	struct p2p_vv_entry head;
	struct p2p_mark mark;
	size_t db_len = 0, log_len = 0;
	int rc = p2p_mark_read(&mark, replica->state_dir);

	*out = false;
	if (rc)
		return rc == P2P_ENOENT || rc == P2P_ECORRUPT ? 0 : rc;
	rc = p2p_store_meta_get(replica->store, "nonce", db, sizeof(db), &db_len);
	if (!rc)
		rc = p2p_sidelog_meta_get(replica->sidelog, "nonce", log, sizeof(log), &log_len);
	if (!rc)
		rc = p2p_sidelog_head(replica->sidelog, &replica->id, &head);
	if (rc)
		return rc == P2P_ENOENT ? 0 : rc;
	*out_mark = mark;
	*out = p2p_mark_same_place(&mark, here) && nonce_is(&mark, db, db_len) &&
	       nonce_is(&mark, log, log_len) && p2p_id_cmp(&mark.replica, &replica->id) == 0 &&
	       p2p_replica_id_fits(&replica->id, &replica->config.signer->node) &&
	       head.seq >= mark.seq &&
	       (head.seq > mark.seq || p2p_hash_cmp(&head.head, &mark.head) == 0);
	return 0;
}

static int nonce_store_db(struct p2p_replica *replica, struct p2p_error *err)
{
	int rc = p2p_store_begin_write(replica->store, P2P_REPLICA_WAIT_MS, err);

	if (rc)
		return rc;
	rc = p2p_store_meta_set(replica->store, "nonce", replica->mark.next, P2P_MARK_NONCE_BYTES);
	if (rc)
		identity_error(replica, err, rc, "write to");
	else
		rc = p2p_store_commit(replica->store, err);
	if (rc)
		p2p_store_rollback(replica->store);
	return rc ? rc : p2p_replica_harden(replica, err);
}

static int nonce_store_log(struct p2p_replica *replica, struct p2p_error *err)
{
	int rc = p2p_sidelog_begin(replica->sidelog, err);

	if (rc)
		return rc;
	rc = p2p_sidelog_meta_set(replica->sidelog, "nonce", replica->mark.next,
				  P2P_MARK_NONCE_BYTES);
	if (!rc)
		return p2p_sidelog_commit(replica->sidelog, err);
	p2p_sidelog_rollback(replica->sidelog);
	return identity_error(replica, err, rc, "write the log of");
}

static int mark_store(struct p2p_replica *replica, bool durable, struct p2p_error *err)
{
	int rc = p2p_mark_write(&replica->mark, replica->state_dir, durable);

	return rc ? p2p_error_set(err, rc, "write the mark in '%s': %s", replica->state_dir,
				  p2p_strerror(rc))
		  : 0;
}

/* before: the mark that holds; NULL: none does. Every cut between two steps leaves files that hold,
 * or, without a mark before, an id under which nothing was written. */
static int mark_renew(struct p2p_replica *replica, const struct p2p_mark *here,
		      const struct p2p_mark *before, struct p2p_error *err)
{
	struct p2p_mark *mark = &replica->mark;
	struct p2p_vv_entry head;
	int rc = p2p_sidelog_head(replica->sidelog, &replica->id, &head);

	if (rc)
		return identity_error(replica, err, rc, "read the log of");
	*mark = *here;
	mark->replica = replica->id;
	mark->seq = head.seq;
	mark->head = head.head;
	p2p_env_random(replica->config.env, mark->next, P2P_MARK_NONCE_BYTES);
	if (before && memcmp(before->nonce, before->next, P2P_MARK_NONCE_BYTES) != 0)
		memcpy(mark->next, before->next, P2P_MARK_NONCE_BYTES); /* goes on with that */
	memcpy(mark->nonce, before ? before->nonce : mark->next, P2P_MARK_NONCE_BYTES);
	rc = mark_store(replica, true, err);
	if (!rc)
		rc = nonce_store_db(replica, err);
	if (!rc)
		rc = nonce_store_log(replica, err);
	if (rc)
		return rc;
	memcpy(mark->nonce, mark->next, P2P_MARK_NONCE_BYTES);
	return mark_store(replica, false, err);
}

void p2p_replica_mark_head(struct p2p_replica *replica)
{
	const struct p2p_vv_entry *head = p2p_capture_head(replica->capture);
	int rc;

	replica->mark.seq = head->seq;
	replica->mark.head = head->head;
	rc = p2p_mark_write(&replica->mark, replica->state_dir, false);
	if (rc) /* an older mark than the log is no harm */
		p2p_log(replica->config.log, P2P_LOG_WARN, "crdt",
			"the mark in '%s' cannot be written: %s", replica->state_dir,
			p2p_strerror(rc));
}

/* --- when the file is not where the log is -----------------------------------------------------
 */

static int old_apply(struct p2p_replica *replica, const struct p2p_stored *stored,
		     struct p2p_error *err)
{
	struct p2p_merge_source source = {.hash = stored->hash, .next = p2p_replica_next_record};
	struct p2p_body_reader *reader = NULL;
	struct p2p_merge_counts counts = {0};
	struct p2p_header header;
	int rc = p2p_header_unpack(&header, stored->raw, stored->raw_len);

	if (rc)
		return rc;
	rc = p2p_body_reader_open(replica->sidelog, stored, &reader);
	if (!rc) {
		source.header = &header;
		source.ctx = reader;
		rc = p2p_merge_apply(replica->merge, &source, &counts, err);
		p2p_body_reader_close(reader);
	}
	p2p_header_deinit(&header);
	return rc;
}

static int old_apply_from(struct p2p_replica *replica, uint64_t seq, uint64_t last, int64_t journal,
			  struct p2p_error *err)
{
	struct p2p_stored stored;
	int rc = p2p_store_begin_write(replica->store, P2P_REPLICA_WAIT_MS, err);

	if (rc)
		return rc;
	for (; seq <= last && !rc; seq++) {
		rc = p2p_sidelog_get(replica->sidelog, &replica->id, seq, &stored);
		if (rc)
			break;
		rc = old_apply(replica, &stored, err);
		p2p_stored_deinit(&stored);
	}
	if (!rc)
		rc = p2p_merge_finish(replica->merge, err);
	if (!rc)
		rc = p2p_store_folded_set(replica->store, last, journal);
	if (!rc)
		rc = p2p_store_commit(replica->store, err);
	if (rc)
		p2p_store_rollback(replica->store);
	return rc;
}

/* An older copy of the database was put back: what this replica froze since comes back from the
 * log, as if it were another's. */
static int bring_back(struct p2p_replica *replica, struct p2p_error *err)
{
	struct p2p_merge_config config = {.store = replica->store,
					  .authority = replica->authority,
					  .log = replica->config.log};
	struct p2p_vv_entry head;
	struct p2p_stored stored;
	uint64_t folded = 0;
	int64_t journal = 0, folded_journal = 0, known;
	int rc = p2p_store_folded_get(replica->store, &folded, &folded_journal);

	if (!rc)
		rc = p2p_store_journal_max(replica->store, &journal);
	if (!rc)
		rc = p2p_sidelog_head(replica->sidelog, &replica->id, &head);
	if (rc || head.seq <= folded)
		return rc;
	rc = p2p_sidelog_get(replica->sidelog, &replica->id, head.seq, &stored);
	if (rc)
		return rc;
	known = stored.journal;
	p2p_stored_deinit(&stored);
	if (journal >= known)
		return 0; /* the file has them all: they are only not folded */
	p2p_log(replica->config.log, P2P_LOG_WARN, "crdt",
		"'%s' is older than its log: %llu changesets of this replica are merged again",
		replica->db_path, (unsigned long long)(head.seq - folded));
	rc = p2p_merge_new(&config, &replica->merge);
	if (!rc)
		rc = old_apply_from(replica, folded + 1, head.seq, journal, err);
	p2p_merge_free(replica->merge);
	replica->merge = NULL;
	return rc;
}

/* What the old id froze is folded, so that the new one begins with nothing. */
static int leave_old_id(struct p2p_replica *replica, struct p2p_error *err)
{
	struct p2p_vv_entry head;
	struct p2p_merged merged;
	int rc = p2p_replica_begin(replica, err);

	if (rc)
		return rc;
	rc = p2p_store_begin_write(replica->store, P2P_REPLICA_WAIT_MS, err);
	if (!rc)
		rc = p2p_capture_fold(replica->capture, NULL, NULL, err);
	head = *p2p_capture_head(replica->capture);
	if (!rc && head.seq) {
		merged.replica = replica->id;
		merged.seq = head.seq;
		merged.head = head.head;
		merged.stamp = head.stamp;
		rc = p2p_store_vector_set(replica->store, &merged);
	}
	if (!rc)
		rc = p2p_store_folded_set(replica->store, 0,
					  p2p_capture_position(replica->capture));
	/* not here: what the application wrote since is not captured yet */
	if (!rc)
		rc = p2p_store_meta_set_u64(replica->store, "project", 1);
	if (!rc)
		rc = p2p_store_commit(replica->store, err);
	if (rc)
		p2p_store_rollback(replica->store);
	p2p_replica_end(replica);
	return rc;
}

static int change_id_offline(struct p2p_replica *replica, struct p2p_error *err)
{
	static const char what[] = "give a new replica id to";
	bool offline = replica->config.offline;
	int rc = bring_back(replica, err);

	if (rc)
		return identity_error(replica, err, rc, what);
	replica->config.offline = true; /* no sync engine for the old id */
	rc = leave_old_id(replica, err);
	replica->config.offline = offline;
	if (rc)
		return rc;
	rc = p2p_replica_make_id(replica, err);
	if (rc)
		return rc;
	p2p_log(replica->config.log, P2P_LOG_WARN, "crdt",
		"'%s', its state directory or this machine is not what it was when it was last "
		"used (copied, moved or restored?): it goes on under a new replica id",
		replica->db_path);
	return p2p_replica_setup_store(replica, err);
}

int p2p_replica_change_id(struct p2p_replica *replica, struct p2p_error *err)
{
	struct p2p_mark here;
	int rc;

	p2p_require(replica->peers == 0);
	p2p_replica_end(replica);
	rc = change_id_offline(replica, err);
	if (!rc) {
		replica->leave_id = false;
		rc = p2p_mark_here(&here, replica->db_path);
		if (rc)
			identity_error(replica, err, rc, "look at");
		else
			rc = mark_renew(replica, &here, NULL, err);
	}
	/* whatever failed, it goes on: with the old id it is still in question, and tried again */
	if (p2p_replica_begin(replica, rc ? NULL : err)) {
		p2p_replica_break(replica);
		rc = rc ? rc : P2P_EIO;
	}
	return rc;
}

int p2p_replica_take_place(struct p2p_replica *replica, struct p2p_error *err)
{
	uint8_t nonce[P2P_MARK_NONCE_BYTES];
	struct p2p_mark here, before;
	size_t len;
	bool holds, fresh;
	int rc = p2p_mark_here(&here, replica->db_path);

	if (rc)
		return p2p_error_set(err, rc, "look at '%s': %s", replica->db_path,
				     p2p_strerror(rc));
	/* the first start of this id: nothing was written under it yet */
	fresh = p2p_sidelog_meta_get(replica->sidelog, "nonce", nonce, sizeof(nonce), &len) ==
		P2P_ENOENT;
	if (fresh || !p2p_store_enabled(replica->store)) {
		rc = p2p_replica_setup_store(replica, err);
		return rc ? rc : mark_renew(replica, &here, NULL, err);
	}
	rc = mark_holds(replica, &here, &before, &holds);
	if (rc)
		return identity_error(replica, err, rc, "check the mark of");
	rc = holds ? bring_back(replica, err) : change_id_offline(replica, err);
	return rc ? rc : mark_renew(replica, &here, holds ? &before : NULL, err);
}
