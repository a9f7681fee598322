/* Meshes that carry their schema (--replicate-schema): what a schema record of a member adds to a
 * table is made here, too; see replica_private.h. Who founded the mesh said so in its genesis,
 * which nobody can change. Nothing is ever dropped. */
#include <string.h>

#include "crdt/replica_private.h"
#include "proto/check.h"

bool p2p_replica_carries(const struct p2p_replica *replica)
{
	return (p2p_authority_flags(replica->authority) & P2P_GENESIS_SCHEMA) != 0;
}

int p2p_replica_replicate_schema(struct p2p_replica *replica, struct p2p_error *err)
{
	replica->replicate_schema = true;
	if (!p2p_replica_member(replica) || p2p_replica_carries(replica))
		return 0;
	return p2p_error_set(
		err, P2P_EREFUSED,
		"--replicate-schema is said when a mesh is made, and this one was made "
		"without");
}

/* Where records are carried out, they say the indexes, too. */
int p2p_replica_indexes_fit(struct p2p_replica *replica, const struct p2p_hash *schema,
			    const struct p2p_table *table, bool *out)
{
	const struct p2p_signed *record = p2p_authority_schema(replica->authority, schema);
	const ProtobufCMessage *theirs = NULL, *ours = NULL;
	const P2p__V1__Schema *a, *b;
	void *arena_a, *arena_b;
	struct p2p_buf body;
	size_t i, j;
	int rc;

	p2p_buf_init(&body, P2P_RECORD_BODY_MAX);
	rc = p2p_schema_describe(p2p_store_db(replica->store), table, &body, NULL);
	if (!rc)
		rc = p2p_unpack(&p2p__v1__schema__descriptor, body.data, body.len, &ours, &arena_a);
	if (!rc && p2p_unpack(&p2p__v1__schema__descriptor, record->body, record->body_len, &theirs,
			      &arena_b)) {
		p2p_unpack_free(arena_a);
		rc = P2P_EPROTO;
	}
	p2p_buf_deinit(&body);
	if (rc)
		return rc;
	a = (const P2p__V1__Schema *)ours;
	b = (const P2p__V1__Schema *)theirs;
	for (i = 0; i < a->n_index_sql && *out; i++) {
		for (j = 0; j < b->n_index_sql; j++)
			if (strcmp(a->index_sql[i], b->index_sql[j]) == 0)
				break;
		*out = j < b->n_index_sql;
	}
	p2p_unpack_free(arena_a);
	p2p_unpack_free(arena_b);
	return 0;
}

/* A table of ours that lacks what the record has. */
bool p2p_replica_can_grow(struct p2p_replica *replica, const struct p2p_signed *record,
			  const struct p2p_id *id)
{
	const struct p2p_table *table = p2p_store_table_by_id(replica->store, id);

	return table && table->state == P2P_TABLE_LIVE && p2p_replica_carries(replica) &&
	       p2p_hash_cmp(&table->schema, &record->hash) != 0;
}

int p2p_replica_grow(struct p2p_replica *replica, const struct p2p_signed *record, const char *name,
		     struct p2p_error *err)
{
	size_t rescan;
	int rc = p2p_schema_add(p2p_store_db(replica->store), record->body, record->body_len, err);

	if (rc && p2p_err_blame(rc) != P2P_BLAME_LOCAL) {
		p2p_log(replica->config.log, P2P_LOG_WARN, "crdt",
			"what the mesh added to table %s cannot be added here: %s", name, err->msg);
		return 0;
	}
	p2p_merge_reset(replica->merge);
	if (!rc)
		rc = p2p_store_check_schema(replica->store, &rescan, err);
	return rc;
}
