/* Signed records as they come: form, hash, signature; see authority.h. */
#include <sodium.h>
#include <string.h>

#include "crdt/authority_private.h"
#include "proto/mem.h"

/* --- hashes and signatures -------------------------------------------------------------------- */

void authority_hash(struct p2p_hash *out, const struct p2p_hash *mesh, uint32_t kind,
		    const struct p2p_key *signer, const void *body, size_t len)
{
	static const char domain[] = "p2pnode/record/1";
	const uint8_t kind_bytes[4] = {(uint8_t)(kind >> 24), (uint8_t)(kind >> 16),
				       (uint8_t)(kind >> 8), (uint8_t)kind};
	crypto_generichash_state state;

	/* none of these can fail with constant sizes */
	(void)crypto_generichash_init(&state, NULL, 0, P2P_HASH_BYTES);
	(void)crypto_generichash_update(&state, (const uint8_t *)domain, strlen(domain));
	(void)crypto_generichash_update(&state, mesh->bytes, P2P_HASH_BYTES);
	(void)crypto_generichash_update(&state, kind_bytes, sizeof(kind_bytes));
	(void)crypto_generichash_update(&state, signer->bytes, P2P_KEY_BYTES);
	(void)crypto_generichash_update(&state, body, len);
	(void)crypto_generichash_final(&state, out->bytes, P2P_HASH_BYTES);
}

void authority_signed_bytes(uint8_t out[AUTHORITY_SIGNED_BYTES], const struct p2p_hash *hash)
{
	const size_t len = sizeof(AUTHORITY_SIGNED_DOMAIN) - 1;

	memcpy(out, AUTHORITY_SIGNED_DOMAIN, len);
	memcpy(out + len, hash->bytes, P2P_HASH_BYTES);
}

static bool signature_holds(const struct p2p_hash *hash, const struct p2p_key *signer,
			    const struct p2p_signature *signature)
{
	uint8_t bytes[AUTHORITY_SIGNED_BYTES];

	authority_signed_bytes(bytes, hash);
	return crypto_sign_verify_detached(signature->bytes, bytes, sizeof(bytes), signer->bytes) ==
	       0;
}

/* --- bodies ----------------------------------------------------------------------------------- */

static int name_take(char out[AUTHORITY_NAME_BYTES], const char *name)
{
	size_t len = strlen(name);

	if (len > P2P_NAME_MAX)
		return P2P_ETOOBIG;
	memcpy(out, name, len + 1);
	return 0;
}

static int genesis_take(struct authority_record *at, const P2p__V1__Genesis *body)
{
	int rc = p2p_field_key(&at->node, &body->founder);

	if (!rc)
		rc = p2p_field_key(&at->wrap_key, &body->wrap_key);
	if (!rc)
		rc = p2p_field_key(&at->noise_key, &body->noise_key);
	if (!rc && body->random.len != 32)
		rc = P2P_EPROTO;
	at->role = P2P__V1__ROLE__ROLE_ADMIN;
	at->flags = body->flags;
	return rc ? rc : name_take(at->name, body->name);
}

/* Heads that the signer knew. out NULL: only their form matters. */
static int parents_read(struct p2p_hash *out, size_t count, const ProtobufCBinaryData *parents)
{
	struct p2p_hash hash;
	size_t i;
	int rc = count > P2P_RECORD_PARENTS_MAX ? P2P_ETOOBIG : 0;

	for (i = 0; i < count && !rc; i++)
		rc = p2p_field_hash(out ? &out[i] : &hash, &parents[i]);
	return rc;
}

static int parents_take(struct authority_record *at, size_t count,
			const ProtobufCBinaryData *parents)
{
	if (count > P2P_RECORD_PARENTS_MAX)
		return P2P_ETOOBIG;
	at->parents = p2p_calloc(count + 1, sizeof(*at->parents));
	if (!at->parents)
		return P2P_ENOMEM;
	at->parent_count = count;
	return parents_read(at->parents, count, parents);
}

static int admission_take(struct authority_record *at, const P2p__V1__Admission *body)
{
	int rc = p2p_field_key(&at->node, &body->node);

	if (!rc)
		rc = p2p_field_key(&at->wrap_key, &body->wrap_key);
	if (!rc)
		rc = p2p_field_key(&at->noise_key, &body->noise_key);
	if (!rc && body->invite.len && body->invite.len != P2P_ID_BYTES)
		rc = P2P_EPROTO;
	if (!rc)
		rc = parents_take(at, body->n_parents, body->parents);
	if (!rc &&
	    (body->role < P2P__V1__ROLE__ROLE_ADMIN || body->role > P2P__V1__ROLE__ROLE_READER))
		rc = P2P_EPROTO;
	at->role = body->role;
	return rc ? rc : name_take(at->name, body->name);
}

static int certificate_take(struct authority_record *at, const P2p__V1__Certificate *body)
{
	int rc = p2p_field_id(&at->link.id, &body->replica);

	if (!rc)
		rc = p2p_field_key(&at->node, &body->node);
	if (!rc && body->predecessor.len && body->predecessor.len != P2P_ID_BYTES)
		rc = P2P_EPROTO;
	if (!rc && p2p_key_cmp(&at->node, &at->record.signer) != 0)
		rc = P2P_EAUTH; /* each node certifies its own */
	if (!rc && !p2p_replica_id_fits(&at->link.id, &at->node))
		rc = P2P_EAUTH; /* somebody else's id, or nobody's */
	return rc;
}

static int schema_take(struct authority_record *at, const P2p__V1__Schema *body)
{
	int rc = p2p_field_id(&at->link.id, &body->table);

	if (!rc && body->predecessor.len)
		rc = p2p_field_hash(&at->link.predecessor, &body->predecessor);
	if (!rc && body->n_columns > P2P_COLUMNS_MAX)
		rc = P2P_ETOOBIG;
	return rc ? rc : parents_read(NULL, body->n_parents, body->parents);
}

static const ProtobufCMessageDescriptor *body_descriptor(uint32_t kind)
{
	switch (kind) {
	case P2P__V1__RECORD_KIND__RECORD_GENESIS:
		return &p2p__v1__genesis__descriptor;
	case P2P__V1__RECORD_KIND__RECORD_ADMISSION:
		return &p2p__v1__admission__descriptor;
	case P2P__V1__RECORD_KIND__RECORD_CERTIFICATE:
		return &p2p__v1__certificate__descriptor;
	case P2P__V1__RECORD_KIND__RECORD_SCHEMA:
		return &p2p__v1__schema__descriptor;
	default:
		return NULL;
	}
}

/* Format 0 is nothing; a greater one than ours is kept like an unknown kind. */
static int body_read(struct authority_record *at)
{
	const ProtobufCMessageDescriptor *descriptor = body_descriptor(at->record.kind);
	const ProtobufCMessage *base;
	uint32_t format;
	void *arena;
	int rc;

	if (!descriptor)
		return at->record.kind ? 0 : P2P_EPROTO;
	rc = p2p_unpack(descriptor, at->record.body, at->record.body_len, &base, &arena);
	if (rc)
		return rc;
	/* all bodies begin with their format */
	format = ((const P2p__V1__Certificate *)base)->format;
	at->kind = at->record.kind;
	if (format == 0)
		rc = P2P_EPROTO;
	else if (format > P2P_FORMAT)
		at->kind = 0;
	else if (at->kind == P2P__V1__RECORD_KIND__RECORD_GENESIS)
		rc = genesis_take(at, (const P2p__V1__Genesis *)base);
	else if (at->kind == P2P__V1__RECORD_KIND__RECORD_ADMISSION)
		rc = admission_take(at, (const P2p__V1__Admission *)base);
	else if (at->kind == P2P__V1__RECORD_KIND__RECORD_CERTIFICATE)
		rc = certificate_take(at, (const P2p__V1__Certificate *)base);
	else
		rc = schema_take(at, (const P2p__V1__Schema *)base);
	p2p_unpack_free(arena);
	return rc;
}

/* --- the record ------------------------------------------------------------------------------- */

/* The body stands in the packed record as it is: no copy of its own. */
static int body_find(struct authority_record *at, const ProtobufCBinaryData *body)
{
	if (body->len > P2P_RECORD_BODY_MAX)
		return P2P_ETOOBIG;
	at->record.body =
		body->len ? memmem(at->raw, at->record.raw_len, body->data, body->len) : at->raw;
	at->record.body_len = body->len;
	return at->record.body ? 0 : P2P_EPROTO;
}

static int signed_read(const struct p2p_authority *authority, const P2p__V1__Signed *in,
		       struct authority_record *at)
{
	static const struct p2p_hash zero;
	bool genesis = in->kind == P2P__V1__RECORD_KIND__RECORD_GENESIS, known;
	struct p2p_signature signature;
	int rc = p2p_field_key(&at->record.signer, &in->signer);

	if (!rc)
		rc = p2p_field_signature(&signature, &in->signature);
	if (!rc && !genesis && !authority->has_genesis)
		rc = P2P_EPROTO; /* without it nothing can be checked */
	if (!rc)
		rc = body_find(at, &in->body);
	if (rc)
		return rc;
	at->record.kind = in->kind;
	authority_hash(&at->record.hash, genesis ? &zero : &authority->mesh, in->kind,
		       &at->record.signer, at->record.body, at->record.body_len);
	(void)authority_place(authority, &at->record.hash, &known);
	if (known)
		return P2P_AUTHORITY_KNOWN;
	return signature_holds(&at->record.hash, &at->record.signer, &signature) ? 0 : P2P_EAUTH;
}

/* The first one is the genesis, and there is one. */
static int genesis_check(const struct p2p_authority *authority, const struct authority_record *at)
{
	bool genesis = at->record.kind == P2P__V1__RECORD_KIND__RECORD_GENESIS;

	if (!genesis)
		return 0;
	if (authority->has_genesis ||
	    (authority->has_expected && p2p_hash_cmp(&authority->expected, &at->record.hash) != 0))
		return P2P_EMESH;
	if (!at->kind)
		return P2P_EVERSION;
	return p2p_key_cmp(&at->node, &at->record.signer) == 0 ? 0 : P2P_EAUTH;
}

int authority_read(const struct p2p_authority *authority, struct authority_record *at)
{
	const ProtobufCMessage *base;
	void *arena;
	int rc = p2p_unpack(&p2p__v1__signed__descriptor, at->raw, at->record.raw_len, &base,
			    &arena);

	if (rc)
		return rc;
	rc = signed_read(authority, (const P2p__V1__Signed *)base, at);
	p2p_unpack_free(arena);
	if (!rc)
		rc = body_read(at);
	return rc ? rc : genesis_check(authority, at);
}
