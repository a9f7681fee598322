/* Headers of changesets; see changeset.h. */
#include "crdt/changeset.h"

#include <sodium.h>
#include <string.h>

#include "crdt/hlc.h"
#include "proto/check.h"
#include "proto/limits.h"
#include "proto/mem.h"
#include "proto/message.h"

void p2p_header_init(struct p2p_header *header)
{
	memset(header, 0, sizeof(*header));
}

void p2p_header_deinit(struct p2p_header *header)
{
	p2p_free(header->deps);
	p2p_free(header->authority_heads);
	p2p_free(header->tables);
	p2p_free(header->origins);
	p2p_free(header->segments);
	memset(header, 0, sizeof(*header));
}

/* --- packing ---------------------------------------------------------------------------------- */

/* Messages that the packed header points to, in one block. */
struct header_parts {
	P2p__V1__Dot *deps, **dep_list;
	P2p__V1__SchemaRef *tables, **table_list;
	P2p__V1__Origin *origins, **origin_list;
	ProtobufCBinaryData *heads, *segments;
};

static void parts_free(struct header_parts *parts)
{
	p2p_free(parts->deps);
	p2p_free(parts->dep_list);
	p2p_free(parts->tables);
	p2p_free(parts->table_list);
	p2p_free(parts->origins);
	p2p_free(parts->origin_list);
	p2p_free(parts->heads);
	p2p_free(parts->segments);
}

static int parts_alloc(struct header_parts *parts, const struct p2p_header *header)
{
	memset(parts, 0, sizeof(*parts));
	parts->deps = p2p_calloc(header->dep_count + 1, sizeof(*parts->deps));
	parts->dep_list = p2p_calloc(header->dep_count + 1, sizeof(P2p__V1__Dot *));
	parts->tables = p2p_calloc(header->table_count + 1, sizeof(*parts->tables));
	parts->table_list = p2p_calloc(header->table_count + 1, sizeof(P2p__V1__SchemaRef *));
	parts->origins = p2p_calloc(header->origin_count + 1, sizeof(*parts->origins));
	parts->origin_list = p2p_calloc(header->origin_count + 1, sizeof(P2p__V1__Origin *));
	parts->heads = p2p_calloc(header->authority_head_count + 1, sizeof(*parts->heads));
	parts->segments = p2p_calloc(header->segment_count + 1, sizeof(*parts->segments));
	return parts->deps && parts->dep_list && parts->tables && parts->table_list &&
			       parts->origins && parts->origin_list && parts->heads &&
			       parts->segments
		       ? 0
		       : P2P_ENOMEM;
}

static void parts_fill(struct header_parts *parts, const struct p2p_header *header)
{
	size_t i;

	for (i = 0; i < header->dep_count; i++) {
		p2p__v1__dot__init(&parts->deps[i]);
		parts->deps[i].replica = p2p_field(header->deps[i].replica.bytes, P2P_ID_BYTES);
		parts->deps[i].seq = header->deps[i].seq;
		parts->dep_list[i] = &parts->deps[i];
	}
	for (i = 0; i < header->table_count; i++) {
		p2p__v1__schema_ref__init(&parts->tables[i]);
		parts->tables[i].table = p2p_field(header->tables[i].table.bytes, P2P_ID_BYTES);
		parts->tables[i].schema = p2p_field(header->tables[i].schema.bytes, P2P_HASH_BYTES);
		parts->table_list[i] = &parts->tables[i];
	}
	for (i = 0; i < header->origin_count; i++) {
		p2p__v1__origin__init(&parts->origins[i]);
		parts->origins[i].replica =
			p2p_field(header->origins[i].replica.bytes, P2P_ID_BYTES);
		parts->origins[i].stamp = header->origins[i].stamp.value;
		parts->origin_list[i] = &parts->origins[i];
	}
	for (i = 0; i < header->authority_head_count; i++)
		parts->heads[i] = p2p_field(header->authority_heads[i].bytes, P2P_HASH_BYTES);
	for (i = 0; i < header->segment_count; i++)
		parts->segments[i] = p2p_field(header->segments[i].bytes, P2P_HASH_BYTES);
}

int p2p_header_pack(struct p2p_buf *out, const struct p2p_header *header)
{
	P2p__V1__ChangesetHeader packed = P2P__V1__CHANGESET_HEADER__INIT;
	struct header_parts parts;
	int rc = parts_alloc(&parts, header);

	if (!rc) {
		parts_fill(&parts, header);
		packed.format = header->format;
		packed.min_reader = header->min_reader;
		packed.flags = header->flags;
		packed.replica = p2p_field(header->replica.bytes, P2P_ID_BYTES);
		packed.seq = header->seq;
		packed.prev = p2p_field(header->prev.bytes, P2P_HASH_BYTES);
		packed.stamp = header->stamp.value;
		packed.group_pos = header->group_pos;
		packed.group_last = header->group_last;
		packed.n_deps = header->dep_count;
		packed.deps = parts.dep_list;
		packed.n_authority_heads = header->authority_head_count;
		packed.authority_heads = parts.heads;
		packed.epoch = header->epoch;
		packed.n_tables = header->table_count;
		packed.tables = parts.table_list;
		packed.n_origins = header->origin_count;
		packed.origins = parts.origin_list;
		packed.total_bytes = header->total_bytes;
		packed.segment_bytes = header->segment_bytes;
		packed.n_segments = header->segment_count;
		packed.segments = parts.segments;
		packed.row_count = header->row_count;
		rc = protobuf_c_message_get_packed_size(&packed.base) > P2P_HEADER_BYTES_MAX
			     ? P2P_ETOOBIG
			     : p2p_pack(out, &packed.base);
	}
	parts_free(&parts);
	return rc;
}

/* --- unpacking -------------------------------------------------------------------------------- */

static int counts_check(const P2p__V1__ChangesetHeader *in)
{
	if (in->n_deps > P2P_DEPS_MAX || in->n_tables > P2P_TABLES_MAX ||
	    in->n_origins > P2P_ORIGINS_MAX || in->n_segments > P2P_SEGMENTS_MAX ||
	    in->n_authority_heads > P2P_RECORDS_MAX || in->total_bytes > P2P_CHANGESET_BYTES_MAX)
		return P2P_ETOOBIG;
	if (in->format == 0 || in->seq == 0 || in->seq > INT64_MAX || in->stamp == 0 ||
	    in->segment_bytes != P2P_SEGMENT_BYTES || in->group_pos >= P2P_GROUP_CHANGESETS_MAX ||
	    in->group_pos >= in->seq)
		return P2P_EPROTO;
	if (in->n_segments != (in->total_bytes + P2P_SEGMENT_BYTES - 1) / P2P_SEGMENT_BYTES)
		return P2P_EPROTO;
	return 0;
}

static int arrays_alloc(struct p2p_header *out, const P2p__V1__ChangesetHeader *in)
{
	out->deps = p2p_calloc(in->n_deps + 1, sizeof(*out->deps));
	out->authority_heads = p2p_calloc(in->n_authority_heads + 1, sizeof(*out->authority_heads));
	out->tables = p2p_calloc(in->n_tables + 1, sizeof(*out->tables));
	out->origins = p2p_calloc(in->n_origins + 1, sizeof(*out->origins));
	out->segments = p2p_calloc(in->n_segments + 1, sizeof(*out->segments));
	return out->deps && out->authority_heads && out->tables && out->origins && out->segments
		       ? 0
		       : P2P_ENOMEM;
}

static int arrays_read(struct p2p_header *out, const P2p__V1__ChangesetHeader *in)
{
	size_t i;
	int rc = 0;

	for (i = 0; i < in->n_deps && !rc; i++) {
		rc = p2p_field_id(&out->deps[i].replica, &in->deps[i]->replica);
		out->deps[i].seq = in->deps[i]->seq;
		if (!rc && (out->deps[i].seq == 0 || out->deps[i].seq > INT64_MAX ||
			    p2p_id_cmp(&out->deps[i].replica, &out->replica) == 0))
			rc = P2P_EPROTO;
	}
	for (i = 0; i < in->n_authority_heads && !rc; i++)
		rc = p2p_field_hash(&out->authority_heads[i], &in->authority_heads[i]);
	for (i = 0; i < in->n_tables && !rc; i++) {
		rc = p2p_field_id(&out->tables[i].table, &in->tables[i]->table);
		if (!rc)
			rc = p2p_field_hash(&out->tables[i].schema, &in->tables[i]->schema);
	}
	for (i = 0; i < in->n_origins && !rc; i++) {
		rc = p2p_field_id(&out->origins[i].replica, &in->origins[i]->replica);
		out->origins[i].stamp.value = in->origins[i]->stamp;
	}
	for (i = 0; i < in->n_segments && !rc; i++)
		rc = p2p_field_hash(&out->segments[i], &in->segments[i]);
	out->dep_count = in->n_deps;
	out->authority_head_count = in->n_authority_heads;
	out->table_count = in->n_tables;
	out->origin_count = in->n_origins;
	out->segment_count = in->n_segments;
	return rc;
}

static int header_read(struct p2p_header *out, const P2p__V1__ChangesetHeader *in)
{
	static const struct p2p_hash zero;
	int rc;

	if (in->min_reader > P2P_FORMAT)
		return P2P_EVERSION;
	rc = counts_check(in);
	if (!rc)
		rc = p2p_field_id(&out->replica, &in->replica);
	if (!rc)
		rc = p2p_field_hash(&out->prev, &in->prev);
	if (!rc && (in->seq == 1) != (p2p_hash_cmp(&out->prev, &zero) == 0))
		rc = P2P_EPROTO;
	if (!rc)
		rc = arrays_alloc(out, in);
	if (rc)
		return rc;
	out->format = in->format;
	out->min_reader = in->min_reader;
	out->flags = in->flags;
	out->seq = in->seq;
	out->stamp.value = in->stamp;
	out->group_pos = in->group_pos;
	out->group_last = in->group_last;
	out->epoch = in->epoch;
	out->total_bytes = in->total_bytes;
	out->segment_bytes = in->segment_bytes;
	out->row_count = in->row_count;
	return arrays_read(out, in);
}

int p2p_header_unpack(struct p2p_header *out, const void *raw, size_t len)
{
	const ProtobufCMessage *base;
	void *arena;
	int rc;

	p2p_header_init(out);
	if (len > P2P_HEADER_BYTES_MAX)
		return P2P_ETOOBIG;
	rc = p2p_unpack(&p2p__v1__changeset_header__descriptor, raw, len, &base, &arena);
	if (rc)
		return rc;
	rc = header_read(out, (const P2p__V1__ChangesetHeader *)base);
	p2p_unpack_free(arena);
	if (rc)
		p2p_header_deinit(out);
	return rc;
}

/* --- chain and signature ---------------------------------------------------------------------- */

void p2p_header_hash(struct p2p_hash *out, const struct p2p_hash *mesh, const void *raw, size_t len)
{
	static const char domain[] = "p2pnode/changeset/1";
	crypto_generichash_state state;

	/* none of these can fail with constant sizes */
	(void)crypto_generichash_init(&state, NULL, 0, P2P_HASH_BYTES);
	(void)crypto_generichash_update(&state, (const uint8_t *)domain, strlen(domain));
	(void)crypto_generichash_update(&state, mesh->bytes, P2P_HASH_BYTES);
	(void)crypto_generichash_update(&state, raw, len);
	(void)crypto_generichash_final(&state, out->bytes, P2P_HASH_BYTES);
}

#define SIGNED_DOMAIN	    "p2pnode/changeset-signature/1"
#define SIGNED_DOMAIN_BYTES (sizeof(SIGNED_DOMAIN) - 1)
#define SIGNED_BYTES	    (SIGNED_DOMAIN_BYTES + 2 * P2P_HASH_BYTES)

static void signed_bytes(uint8_t out[SIGNED_BYTES], const struct p2p_hash *mesh,
			 const struct p2p_hash *hash)
{
	memcpy(out, SIGNED_DOMAIN, SIGNED_DOMAIN_BYTES);
	memcpy(out + SIGNED_DOMAIN_BYTES, mesh->bytes, P2P_HASH_BYTES);
	memcpy(out + SIGNED_DOMAIN_BYTES + P2P_HASH_BYTES, hash->bytes, P2P_HASH_BYTES);
}

void p2p_header_sign(struct p2p_signature *out, const struct p2p_hash *mesh,
		     const struct p2p_hash *hash, const uint8_t secret[64])
{
	uint8_t bytes[SIGNED_BYTES];

	signed_bytes(bytes, mesh, hash);
	p2p_require(crypto_sign_detached(out->bytes, NULL, bytes, sizeof(bytes), secret) == 0);
}

bool p2p_header_verify(const struct p2p_signature *signature, const struct p2p_hash *mesh,
		       const struct p2p_hash *hash, const struct p2p_key *node)
{
	uint8_t bytes[SIGNED_BYTES];

	signed_bytes(bytes, mesh, hash);
	return crypto_sign_verify_detached(signature->bytes, bytes, sizeof(bytes), node->bytes) ==
	       0;
}

int p2p_header_follows(const struct p2p_header *next, const struct p2p_header *prev,
		       const struct p2p_hash *prev_hash)
{
	if (!prev)
		return next->seq == 1 && next->group_pos == 0 ? 0 : P2P_EPROTO;
	if (p2p_id_cmp(&next->replica, &prev->replica) != 0 || next->seq != prev->seq + 1)
		return P2P_EPROTO;
	if (p2p_hash_cmp(&next->prev, prev_hash) != 0)
		return P2P_EFORK;
	if (next->stamp.value <= prev->stamp.value)
		return P2P_EPROTO;
	if (next->group_pos != (prev->group_last ? 0 : prev->group_pos + 1))
		return P2P_EPROTO;
	return 0;
}
