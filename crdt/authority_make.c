/* Records that the own node signs; see authority.h. */
#include <sodium.h>
#include <string.h>

#include "crdt/authority_private.h"
#include "proto/check.h"
#include "proto/mem.h"

static int sign(struct p2p_buf *out, const struct p2p_hash *mesh, const struct p2p_signer *signer,
		uint32_t kind, const struct p2p_buf *body, struct p2p_hash *out_hash)
{
	P2p__V1__Signed record = P2P__V1__SIGNED__INIT;
	uint8_t bytes[AUTHORITY_SIGNED_BYTES], signature[P2P_SIG_BYTES];

	authority_hash(out_hash, mesh, kind, &signer->node, body->data, body->len);
	authority_signed_bytes(bytes, out_hash);
	p2p_require(crypto_sign_detached(signature, NULL, bytes, sizeof(bytes), signer->secret) ==
		    0);
	record.kind = kind;
	record.body = p2p_field(body->data, body->len);
	record.signer = p2p_field(signer->node.bytes, P2P_KEY_BYTES);
	record.signature = p2p_field(signature, sizeof(signature));
	return p2p_pack(out, &record.base);
}

/* Packs and signs. */
static int make(struct p2p_buf *out, const struct p2p_hash *mesh, const struct p2p_signer *signer,
		uint32_t kind, const ProtobufCMessage *message, struct p2p_hash *out_hash)
{
	struct p2p_buf body;
	struct p2p_hash hash;
	int rc;

	p2p_buf_init(&body, P2P_RECORD_BODY_MAX);
	rc = p2p_pack(&body, message);
	if (!rc)
		rc = sign(out, mesh, signer, kind, &body, out_hash ? out_hash : &hash);
	p2p_buf_deinit(&body);
	return rc;
}

int p2p_authority_make_genesis(struct p2p_buf *out, struct p2p_hash *out_mesh,
			       const struct p2p_signer *signer, const char *name,
			       const uint8_t random[32])
{
	struct p2p_founding founding = {.name = name, .random = random};

	return p2p_authority_make_founding(out, out_mesh, signer, &founding);
}

uint32_t p2p_authority_flags(const struct p2p_authority *authority)
{
	/* the first one is the genesis: without it no other is taken */
	return authority->count ? authority->records[0]->flags : 0;
}

int p2p_authority_make_founding(struct p2p_buf *out, struct p2p_hash *out_mesh,
				const struct p2p_signer *signer,
				const struct p2p_founding *founding)
{
	const char *name = founding->name;
	static const struct p2p_hash none;
	P2p__V1__Genesis genesis;
	char copy[AUTHORITY_NAME_BYTES];

	if (strlen(name) >= sizeof(copy))
		return P2P_EINVAL;
	memcpy(copy, name, strlen(name) + 1);
	p2p__v1__genesis__init(&genesis);
	genesis.format = P2P_FORMAT;
	genesis.founder = p2p_field(signer->node.bytes, P2P_KEY_BYTES);
	genesis.wrap_key = p2p_field(signer->wrap_key.bytes, P2P_KEY_BYTES);
	genesis.noise_key = p2p_field(signer->noise_key.bytes, P2P_KEY_BYTES);
	genesis.random = p2p_field(founding->random, 32);
	genesis.name = copy;
	genesis.max_format = P2P_FORMAT;
	genesis.flags = founding->flags;
	return make(out, &none, signer, P2P__V1__RECORD_KIND__RECORD_GENESIS, &genesis.base,
		    out_mesh);
}

static size_t parents_fill(const struct p2p_authority *authority, struct p2p_hash *hashes,
			   ProtobufCBinaryData *fields)
{
	size_t i, count = p2p_authority_heads(authority, hashes, P2P_RECORD_PARENTS_MAX);

	for (i = 0; i < count; i++)
		fields[i] = p2p_field(hashes[i].bytes, P2P_HASH_BYTES);
	return count;
}

int p2p_authority_make_admission(struct p2p_authority *authority, struct p2p_buf *out,
				 const struct p2p_signer *signer,
				 const struct p2p_admission *admission)
{
	P2p__V1__Admission body;
	ProtobufCBinaryData parents[P2P_RECORD_PARENTS_MAX];
	struct p2p_hash hashes[P2P_RECORD_PARENTS_MAX];
	char copy[AUTHORITY_NAME_BYTES];

	if (strlen(admission->name) >= sizeof(copy))
		return P2P_EINVAL;
	memcpy(copy, admission->name, strlen(admission->name) + 1);
	p2p__v1__admission__init(&body);
	body.format = P2P_FORMAT;
	body.node = p2p_field(admission->node.bytes, P2P_KEY_BYTES);
	body.wrap_key = p2p_field(admission->wrap_key.bytes, P2P_KEY_BYTES);
	body.noise_key = p2p_field(admission->noise_key.bytes, P2P_KEY_BYTES);
	body.role = admission->role;
	body.invite = p2p_field(admission->invite.bytes, P2P_ID_BYTES);
	body.max_format = admission->max_format;
	body.name = copy;
	body.n_parents = parents_fill(authority, hashes, parents);
	body.parents = parents;
	return make(out, &authority->mesh, signer, P2P__V1__RECORD_KIND__RECORD_ADMISSION,
		    &body.base, NULL);
}

int p2p_authority_make_certificate(struct p2p_authority *authority, struct p2p_buf *out,
				   const struct p2p_signer *signer, const struct p2p_id *replica,
				   const struct p2p_id *predecessor)
{
	P2p__V1__Certificate body = P2P__V1__CERTIFICATE__INIT;

	body.format = P2P_FORMAT;
	body.replica = p2p_field(replica->bytes, P2P_ID_BYTES);
	body.node = p2p_field(signer->node.bytes, P2P_KEY_BYTES);
	if (predecessor)
		body.predecessor = p2p_field(predecessor->bytes, P2P_ID_BYTES);
	return make(out, &authority->mesh, signer, P2P__V1__RECORD_KIND__RECORD_CERTIFICATE,
		    &body.base, NULL);
}

/* The record that it follows and the heads that are known, on top of what describes the table. */
static int make_schema(struct p2p_authority *authority, struct p2p_buf *out,
		       const struct p2p_signer *signer, const P2p__V1__Schema *described)
{
	const struct authority_record *before;
	ProtobufCBinaryData parents[P2P_RECORD_PARENTS_MAX];
	struct p2p_hash hashes[P2P_RECORD_PARENTS_MAX];
	P2p__V1__Schema body = *described;
	struct p2p_id table;
	int rc = p2p_field_id(&table, &described->table);

	if (rc)
		return rc;
	before = authority_schema_of(authority, &table);
	if (before)
		body.predecessor = p2p_field(before->record.hash.bytes, P2P_HASH_BYTES);
	body.n_parents = parents_fill(authority, hashes, parents);
	body.parents = parents;
	return make(out, &authority->mesh, signer, P2P__V1__RECORD_KIND__RECORD_SCHEMA, &body.base,
		    NULL);
}

int p2p_authority_make_schema(struct p2p_authority *authority, struct p2p_buf *out,
			      const struct p2p_signer *signer, const void *body, size_t len)
{
	const ProtobufCMessage *base;
	void *arena;
	int rc = p2p_unpack(&p2p__v1__schema__descriptor, body, len, &base, &arena);

	if (rc)
		return rc;
	rc = make_schema(authority, out, signer, (const P2p__V1__Schema *)base);
	p2p_unpack_free(arena);
	return rc;
}
