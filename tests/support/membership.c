/* Signed records of any shape; see membership.h. */
#include "tests/support/membership.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crdt/authority_private.h"

static void random_bytes(void *ctx, void *out, size_t len)
{
	(void)ctx;
	memset(out, 9, len);
}

const struct p2p_env membership_env = {.random = random_bytes};

static void must(int rc)
{
	if (rc)
		abort();
}

static void number_put(uint8_t *out, uint32_t number)
{
	size_t i;

	for (i = 0; i < 4; i++)
		out[i] = (uint8_t)(number >> (24 - 8 * i));
}

struct p2p_id membership_id(uint32_t number)
{
	struct p2p_id id;

	memset(&id, 7, sizeof(id));
	number_put(id.bytes, number);
	return id;
}

struct p2p_id membership_replica(const struct member *of, uint32_t number)
{
	struct p2p_id id = membership_id(number);

	p2p_replica_id_bind(&id, &of->signer.node);
	return id;
}

void membership_name(char out[MEMBERSHIP_NAME_BYTES], uint32_t nonce)
{
	(void)snprintf(out, MEMBERSHIP_NAME_BYTES, "n%u", nonce);
}

void membership_member(struct member *out, uint32_t number)
{
	uint8_t seed[32] = {1};

	memset(out, 0, sizeof(*out));
	number_put(seed + 1, number);
	must(crypto_sign_seed_keypair(out->signer.node.bytes, out->secret, seed));
	number_put(out->signer.wrap_key.bytes, number);
	number_put(out->signer.noise_key.bytes, number + 1);
	out->signer.secret = out->secret;
}

void membership_record_free(struct member_record *record)
{
	p2p_buf_deinit(&record->raw);
}

static void sign(struct member_record *out, const struct p2p_hash *mesh, const struct member *by,
		 uint32_t kind, const struct p2p_buf *body)
{
	P2p__V1__Signed record = P2P__V1__SIGNED__INIT;
	uint8_t bytes[AUTHORITY_SIGNED_BYTES], signature[P2P_SIG_BYTES];

	authority_hash(&out->hash, mesh, kind, &by->signer.node, body->data, body->len);
	authority_signed_bytes(bytes, &out->hash);
	must(crypto_sign_detached(signature, NULL, bytes, sizeof(bytes), by->secret));
	record.kind = kind;
	record.body = p2p_field(body->data, body->len);
	record.signer = p2p_field(by->signer.node.bytes, P2P_KEY_BYTES);
	record.signature = p2p_field(signature, sizeof(signature));
	p2p_buf_init(&out->raw, P2P_MESSAGE_MAX);
	must(p2p_pack(&out->raw, &record.base));
}

static void pack_and_sign(struct member_record *out, const struct p2p_hash *mesh,
			  const struct member *by, uint32_t kind, const ProtobufCMessage *message)
{
	struct p2p_buf body;

	p2p_buf_init(&body, P2P_MESSAGE_MAX);
	must(p2p_pack(&body, message));
	sign(out, mesh, by, kind, &body);
	p2p_buf_deinit(&body);
}

void membership_genesis(struct member_record *out, const struct member *founder)
{
	static const struct p2p_hash zero;
	static char name[] = "shop.db";
	static const uint8_t random[32] = {3};
	P2p__V1__Genesis genesis;

	p2p__v1__genesis__init(&genesis);
	genesis.format = 1;
	genesis.founder = p2p_field(founder->signer.node.bytes, P2P_KEY_BYTES);
	genesis.wrap_key = p2p_field(founder->signer.wrap_key.bytes, P2P_KEY_BYTES);
	genesis.noise_key = p2p_field(founder->signer.noise_key.bytes, P2P_KEY_BYTES);
	genesis.random = p2p_field(random, sizeof(random));
	genesis.name = name;
	genesis.max_format = 1;
	pack_and_sign(out, &zero, founder, P2P__V1__RECORD_KIND__RECORD_GENESIS, &genesis.base);
}

void membership_admit(struct member_record *out, const struct p2p_hash *mesh,
		      const struct membership_admission *admission)
{
	char name[MEMBERSHIP_NAME_BYTES];
	ProtobufCBinaryData parents[P2P_RECORD_PARENTS_MAX + 1];
	const struct p2p_signer *whom = &admission->whom->signer;
	struct p2p_id invite = membership_id(admission->nonce);
	P2p__V1__Admission body;
	size_t i;

	membership_name(name, admission->nonce);
	p2p__v1__admission__init(&body);
	for (i = 0; i < admission->parent_count; i++)
		parents[i] = p2p_field(admission->parents[i].bytes, P2P_HASH_BYTES);
	body.format = 1;
	body.node = p2p_field(whom->node.bytes, P2P_KEY_BYTES);
	body.wrap_key = p2p_field(whom->wrap_key.bytes, P2P_KEY_BYTES);
	body.noise_key = p2p_field(whom->noise_key.bytes, P2P_KEY_BYTES);
	body.role = admission->role;
	body.invite = p2p_field(invite.bytes, P2P_ID_BYTES);
	body.max_format = 1;
	body.name = name;
	body.n_parents = admission->parent_count;
	body.parents = parents;
	pack_and_sign(out, mesh, admission->by, P2P__V1__RECORD_KIND__RECORD_ADMISSION, &body.base);
}

void membership_certify(struct member_record *out, const struct p2p_hash *mesh,
			const struct member *by, const struct p2p_id *replica, uint32_t nonce)
{
	struct p2p_id before = membership_id(nonce);
	P2p__V1__Certificate body;

	p2p__v1__certificate__init(&body);
	body.format = 1;
	body.replica = p2p_field(replica->bytes, P2P_ID_BYTES);
	body.node = p2p_field(by->signer.node.bytes, P2P_KEY_BYTES);
	body.predecessor = p2p_field(before.bytes, P2P_ID_BYTES);
	pack_and_sign(out, mesh, by, P2P__V1__RECORD_KIND__RECORD_CERTIFICATE, &body.base);
}

void membership_describe(struct member_record *out, const struct p2p_hash *mesh,
			 const struct membership_schema *schema)
{
	char *text = malloc(schema->text_len + 1);
	char *name = strdup(schema->name ? schema->name : "t");
	P2p__V1__Schema body;

	must(!text || !name);
	memset(text, 'x', schema->text_len);
	text[schema->text_len] = '\0';
	p2p__v1__schema__init(&body);
	body.format = 1;
	body.table = p2p_field(schema->table->bytes, P2P_ID_BYTES);
	body.name = name;
	body.identity = schema->nonce;
	body.create_sql = text;
	if (schema->before)
		body.predecessor = p2p_field(schema->before->bytes, P2P_HASH_BYTES);
	pack_and_sign(out, mesh, schema->by, P2P__V1__RECORD_KIND__RECORD_SCHEMA, &body.base);
	free(text);
	free(name);
}

void membership_unknown(struct member_record *out, const struct p2p_hash *mesh,
			const struct member *by, size_t body_len, uint32_t nonce)
{
	struct p2p_buf body;
	uint8_t *at;

	p2p_buf_init(&body, P2P_MESSAGE_MAX);
	p2p_buf_put_u32(&body, nonce);
	at = p2p_buf_reserve(&body, body_len);
	must(!at);
	memset(at, 1, body_len);
	body.len += body_len;
	sign(out, mesh, by, 77, &body);
	p2p_buf_deinit(&body);
}
