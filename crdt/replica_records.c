/* Membership and schema records that come in or are made here; see replica_private.h. */
#include <string.h>

#include "crdt/replica_private.h"
#include "proto/check.h"
#include "proto/mem.h"

/* Into the authority, and into the open transaction of the log: into both or none. */
static int record_take(struct p2p_replica *replica, const void *raw, size_t len)
{
	size_t place = p2p_authority_count(replica->authority);
	const struct p2p_signed *record;
	int rc = p2p_authority_add(replica->authority, raw, len);

	if (rc)
		return rc;
	record = p2p_authority_record(replica->authority, place);
	rc = p2p_sidelog_put_record(replica->sidelog, &record->hash, record->raw, record->raw_len);
	if (rc)
		p2p_authority_rewind(replica->authority, place);
	return rc;
}

static int records_error(struct p2p_error *err, int rc)
{
	return p2p_error_set(err, rc, "take a membership record: %s", p2p_strerror(rc));
}

/* Tells the owner of the records from index `first` on, which are durable now. */
static void records_tell(struct p2p_replica *replica, size_t first)
{
	const struct p2p_replica_callbacks *callbacks = &replica->config.callbacks;
	size_t i, count = p2p_authority_count(replica->authority);

	for (i = first; i < count; i++) {
		const struct p2p_signed *record = p2p_authority_record(replica->authority, i);

		replica->again_due |= record->kind == P2P__V1__RECORD_KIND__RECORD_SCHEMA;
		if (callbacks->record)
			callbacks->record(callbacks->ctx, record);
	}
	if (replica->sync && first < count)
		p2p_sync_records_changed(replica->sync);
}

int p2p_replica_keep_record(struct p2p_replica *replica, const void *raw, size_t len,
			    struct p2p_error *err)
{
	bool own = !p2p_sidelog_in_transaction(replica->sidelog);
	size_t first = p2p_authority_count(replica->authority);
	int rc = own ? p2p_sidelog_begin(replica->sidelog, err) : 0;

	if (rc)
		return rc;
	rc = record_take(replica, raw, len);
	if (rc < 0)
		records_error(err, rc);
	if (own && rc == 0)
		rc = p2p_sidelog_commit(replica->sidelog, err);
	else if (own)
		p2p_sidelog_rollback(replica->sidelog);
	if (rc < 0) /* it is not in the log */
		p2p_authority_rewind(replica->authority, first);
	if (!rc)
		records_tell(replica, first);
	return rc;
}

int p2p_replica_add_record(struct p2p_replica *replica, const void *raw, size_t len,
			   struct p2p_error *err)
{
	int rc = p2p_replica_keep_record(replica, raw, len, err);

	return rc == P2P_AUTHORITY_KNOWN ? 0 : rc;
}

void p2p_replica_expect(struct p2p_replica *replica, const struct p2p_hash *mesh)
{
	p2p_authority_expect(replica->authority, mesh);
}

/* Only what its hash covers and the signature: who passes it on could add fields of his own, which
 * would be kept, passed on, and charged to the signer. */
static int record_pack(struct p2p_replica *replica, const P2p__V1__Signed *record,
		       struct p2p_buf *scratch)
{
	P2p__V1__Signed plain = *record;
	int rc;

	plain.base.n_unknown_fields = 0;
	plain.base.unknown_fields = NULL;
	p2p_buf_reset(scratch);
	rc = p2p_pack(scratch, &plain.base);
	return rc ? rc : record_take(replica, scratch->data, scratch->len);
}

/* Once, for it can come with each session. */
static void refused_tell(struct p2p_replica *replica, size_t refused)
{
	if (!refused || replica->refused_told)
		return;
	replica->refused_told = true;
	p2p_log(replica->config.log, P2P_LOG_WARN, "crdt",
		"no room for %zu membership records: who signed or admitted has used up their share",
		refused);
}

int p2p_replica_add_records(struct p2p_replica *replica, const P2p__V1__Signed *const *records,
			    size_t count, size_t *out_new, struct p2p_error *err)
{
	size_t first = p2p_authority_count(replica->authority), i;
	size_t refused = 0;
	struct p2p_buf scratch;
	int bad = 0, rc = p2p_sidelog_begin(replica->sidelog, err);

	if (out_new)
		*out_new = 0;
	if (rc)
		return rc;
	p2p_buf_init(&scratch, P2P_MESSAGE_MAX);
	for (i = 0; i < count && bad >= 0; i++) {
		bad = record_pack(replica, records[i], &scratch);
		/* who sends it may have had room for it: no fault of his */
		refused += bad == P2P_EQUOTA;
		bad = bad == P2P_EQUOTA ? 0 : bad;
	}
	p2p_buf_deinit(&scratch);
	if (bad < 0 && !p2p_sidelog_in_transaction(replica->sidelog)) {
		/* the log could not go on */
		p2p_sidelog_rollback(replica->sidelog);
		rc = records_error(err, bad);
	} else {
		/* what was valid before a bad one is kept */
		rc = p2p_sidelog_commit(replica->sidelog, err);
	}
	if (rc) {
		p2p_authority_rewind(replica->authority, first);
		return rc;
	}
	refused_tell(replica, refused);
	if (out_new)
		*out_new = p2p_authority_count(replica->authority) - first;
	records_tell(replica, first);
	if (bad < 0)
		return records_error(err, bad);
	if (replica->capture && p2p_replica_carries(replica)) {
		replica->adopt_due = true; /* at a moment without readers */
		return 0;
	}
	if (replica->capture && p2p_authority_count(replica->authority) > first)
		return p2p_replica_adopt_new(replica, err);
	return 0;
}

int p2p_replica_adopt(struct p2p_replica *replica, struct p2p_error *err)
{
	static const struct p2p_id none;
	uint32_t role = p2p_authority_role(replica->authority, &replica->config.signer->node);
	int rc = p2p_replica_whole(replica, err);

	if (rc)
		return rc;
	if (role == P2P__V1__ROLE__ROLE_NONE)
		return p2p_error_set(err, P2P_EAUTH, "this node is no member of the mesh");
	if (p2p_id_cmp(&replica->id, &none) == 0)
		rc = p2p_replica_make_id(replica, err);
	if (!rc && !replica->capture)
		rc = p2p_replica_take_place(replica, err);
	if (!rc && !replica->capture)
		rc = p2p_replica_begin(replica, err);
	return rc ? rc : p2p_replica_adopt_tables(replica, true, err);
}
