/* The set of signed records; see authority.h. */
#include "crdt/authority.h"

#include <sodium.h>
#include <string.h>

#include "crdt/authority_private.h"
#include "proto/check.h"
#include "proto/mem.h"

int p2p_authority_new(struct p2p_authority **out)
{
	*out = p2p_calloc(1, sizeof(**out));
	return *out ? 0 : P2P_ENOMEM;
}

static void record_free(struct authority_record *at)
{
	p2p_free(at->raw);
	p2p_free(at->body);
	p2p_free(at->parents);
	p2p_free(at);
}

void p2p_authority_free(struct p2p_authority *authority)
{
	size_t i;

	if (!authority)
		return;
	for (i = 0; i < authority->count; i++)
		record_free(authority->records[i]);
	p2p_free(authority->records);
	p2p_free(authority->sorted);
	p2p_free(authority->members);
	p2p_free(authority->certificates);
	p2p_free(authority->heads);
	p2p_free(authority);
}

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
	return rc ? rc : name_take(at->name, body->name);
}

static int parents_take(struct authority_record *at, size_t count,
			const ProtobufCBinaryData *parents)
{
	size_t i;
	int rc = 0;

	if (count > P2P_RECORDS_MAX)
		return P2P_ETOOBIG;
	at->parents = p2p_calloc(count + 1, sizeof(*at->parents));
	if (!at->parents)
		return P2P_ENOMEM;
	for (i = 0; i < count && !rc; i++)
		rc = p2p_field_hash(&at->parents[i], &parents[i]);
	at->parent_count = count;
	return rc;
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
	int rc = p2p_field_id(&at->id, &body->replica);

	if (!rc)
		rc = p2p_field_key(&at->node, &body->node);
	if (!rc && body->predecessor.len && body->predecessor.len != P2P_ID_BYTES)
		rc = P2P_EPROTO;
	if (!rc && p2p_key_cmp(&at->node, &at->record.signer) != 0)
		rc = P2P_EAUTH; /* each node certifies its own */
	return rc;
}

static int schema_take(struct authority_record *at, const P2p__V1__Schema *body)
{
	int rc = p2p_field_id(&at->id, &body->table);

	if (!rc && body->predecessor.len)
		rc = p2p_field_hash(&at->predecessor, &body->predecessor);
	if (!rc && body->n_columns > P2P_COLUMNS_MAX)
		rc = P2P_ETOOBIG;
	return rc ? rc : parents_take(at, body->n_parents, body->parents);
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
	rc = p2p_unpack(descriptor, at->body, at->record.body_len, &base, &arena);
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

/* --- adding ----------------------------------------------------------------------------------- */

/* Without working anything out: many may come one after the other. */
static bool is_known(const struct p2p_authority *authority, const struct p2p_hash *hash)
{
	size_t i;

	for (i = 0; i < authority->count; i++)
		if (p2p_hash_cmp(&authority->records[i]->record.hash, hash) == 0)
			return true;
	return false;
}

static int signed_read(struct p2p_authority *authority, const P2p__V1__Signed *in,
		       struct authority_record *at)
{
	static const struct p2p_hash zero;
	bool genesis = in->kind == P2P__V1__RECORD_KIND__RECORD_GENESIS;
	struct p2p_signature signature;
	int rc = p2p_field_key(&at->record.signer, &in->signer);

	if (!rc)
		rc = p2p_field_signature(&signature, &in->signature);
	if (!rc && in->body.len > P2P_RECORD_BODY_MAX)
		rc = P2P_ETOOBIG;
	if (!rc && !genesis && !authority->has_genesis)
		rc = P2P_EPROTO; /* without it nothing can be checked */
	if (rc)
		return rc;
	at->record.kind = in->kind;
	at->body = p2p_memdup(in->body.data, in->body.len);
	if (!at->body)
		return P2P_ENOMEM;
	at->record.body = at->body;
	at->record.body_len = in->body.len;
	authority_hash(&at->record.hash, genesis ? &zero : &authority->mesh, in->kind,
		       &at->record.signer, at->body, at->record.body_len);
	if (is_known(authority, &at->record.hash))
		return P2P_AUTHORITY_KNOWN;
	return signature_holds(&at->record.hash, &at->record.signer, &signature) ? 0 : P2P_EAUTH;
}

/* The first one is the genesis, and there is one. */
static int genesis_check(struct p2p_authority *authority, const struct authority_record *at)
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

static int records_grow(struct p2p_authority *authority)
{
	size_t cap = authority->cap ? authority->cap * 2 : 16;
	struct authority_record **grown;

	if (authority->count < authority->cap)
		return 0;
	grown = p2p_realloc(authority->records, cap * sizeof(struct authority_record *));
	if (!grown)
		return P2P_ENOMEM;
	authority->records = grown;
	authority->cap = cap;
	return 0;
}

static int record_read(struct p2p_authority *authority, const void *raw, size_t len,
		       struct authority_record *at)
{
	const ProtobufCMessage *base;
	void *arena;
	int rc = p2p_unpack(&p2p__v1__signed__descriptor, raw, len, &base, &arena);

	if (rc)
		return rc;
	rc = signed_read(authority, (const P2p__V1__Signed *)base, at);
	p2p_unpack_free(arena);
	if (!rc)
		rc = body_read(at);
	return rc ? rc : genesis_check(authority, at);
}

int p2p_authority_add(struct p2p_authority *authority, const void *raw, size_t len)
{
	struct authority_record *at;
	int rc;

	if (len > P2P_RECORD_BODY_MAX + 1024 || authority->count >= P2P_RECORDS_MAX)
		return P2P_ETOOBIG;
	rc = records_grow(authority);
	if (rc)
		return rc;
	at = p2p_calloc(1, sizeof(*at));
	if (!at)
		return P2P_ENOMEM;
	at->raw = p2p_memdup(raw, len);
	at->record.raw = at->raw;
	at->record.raw_len = len;
	rc = at->raw ? record_read(authority, raw, len, at) : P2P_ENOMEM;
	if (rc) {
		record_free(at);
		return rc;
	}
	authority->records[authority->count++] = at;
	authority->stale = true;
	if (at->record.kind == P2P__V1__RECORD_KIND__RECORD_GENESIS) {
		authority->has_genesis = true;
		authority->mesh = at->record.hash;
	}
	return 0;
}

void p2p_authority_expect(struct p2p_authority *authority, const struct p2p_hash *mesh)
{
	authority->expected = *mesh;
	authority->has_expected = true;
}

/* --- asking ----------------------------------------------------------------------------------- */

/* What follows is worked out late, also for those who only ask. */
static struct p2p_authority *settled(const struct p2p_authority *authority)
{
	struct p2p_authority *own = (struct p2p_authority *)(uintptr_t)authority;

	authority_settle(own);
	return own;
}

const struct p2p_hash *p2p_authority_mesh(const struct p2p_authority *authority)
{
	return &authority->mesh;
}

const char *p2p_authority_mesh_name(const struct p2p_authority *authority)
{
	return authority->count ? authority->records[0]->name : "";
}

uint32_t p2p_authority_role(const struct p2p_authority *authority, const struct p2p_key *node)
{
	const struct authority_member *member = authority_member_of(settled(authority), node);

	return member ? member->member.role : P2P__V1__ROLE__ROLE_NONE;
}

size_t p2p_authority_member_count(const struct p2p_authority *authority)
{
	return settled(authority)->member_count;
}

bool p2p_authority_member(const struct p2p_authority *authority, size_t index,
			  struct p2p_member *out)
{
	const struct p2p_authority *own = settled(authority);

	if (index >= own->member_count)
		return false;
	*out = own->members[index].member;
	return true;
}

static bool may_write(const struct p2p_authority *authority, const struct p2p_key *node)
{
	uint32_t role = p2p_authority_role(authority, node);

	return role == P2P__V1__ROLE__ROLE_ADMIN || role == P2P__V1__ROLE__ROLE_WRITER;
}

int p2p_authority_replica_node(const struct p2p_authority *authority, const struct p2p_id *replica,
			       struct p2p_key *out_node)
{
	const struct p2p_authority *own = settled(authority);
	size_t low = 0, high = own->certificate_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = p2p_id_cmp(&own->certificates[mid].replica, replica);

		if (order == 0) {
			*out_node = own->certificates[mid].node;
			return may_write(own, out_node) ? 0 : P2P_EAUTH;
		}
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return P2P_ENOENT;
}

int p2p_authority_each_replica(const struct p2p_authority *authority,
			       int (*each)(void *ctx, const struct p2p_id *replica,
					   const struct p2p_key *node),
			       void *ctx)
{
	const struct p2p_authority *own = settled(authority);
	size_t i;
	int rc = 0;

	for (i = 0; i < own->certificate_count && !rc; i++)
		rc = each(ctx, &own->certificates[i].replica, &own->certificates[i].node);
	return rc;
}

const struct p2p_signed *p2p_authority_schema(const struct p2p_authority *authority,
					      const struct p2p_hash *hash)
{
	const struct authority_record *at = authority_find(settled(authority), hash);

	return at && at->kind == P2P__V1__RECORD_KIND__RECORD_SCHEMA && at->valid ? &at->record
										  : NULL;
}

int p2p_authority_each_schema(const struct p2p_authority *authority,
			      int (*each)(void *ctx, const struct p2p_signed *record), void *ctx)
{
	const struct p2p_authority *own = settled(authority);
	size_t i;
	int rc = 0;

	/* by index: each() may add records */
	for (i = 0; i < own->count && !rc; i++) {
		const struct authority_record *at = own->records[i];

		if (at->kind == P2P__V1__RECORD_KIND__RECORD_SCHEMA &&
		    authority_schema_of(settled(own), &at->id) == at)
			rc = each(ctx, &at->record);
	}
	return rc;
}

size_t p2p_authority_heads(const struct p2p_authority *authority, struct p2p_hash *out, size_t max)
{
	const struct p2p_authority *own = settled(authority);
	size_t count = own->head_count < max ? own->head_count : max;

	if (count)
		memcpy(out, own->heads, count * sizeof(*out));
	return count;
}

void p2p_authority_digest(const struct p2p_authority *authority, struct p2p_hash *out)
{
	*out = settled(authority)->digest;
}

size_t p2p_authority_count(const struct p2p_authority *authority)
{
	return authority->count;
}

const struct p2p_signed *p2p_authority_record(const struct p2p_authority *authority, size_t index)
{
	return index < authority->count ? &authority->records[index]->record : NULL;
}

bool p2p_authority_has_prefix(const struct p2p_authority *authority, const uint8_t prefix[16])
{
	const struct p2p_authority *own = settled(authority);
	size_t low = 0, high = own->sorted_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = memcmp(own->sorted[mid]->record.hash.bytes, prefix, 16);

		if (order == 0)
			return true;
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return false;
}
