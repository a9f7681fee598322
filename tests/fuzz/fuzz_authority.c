/* Sets of membership and schema records: validly signed by members, strangers and people with all
 * kinds of rights, with bodies that lie. What follows from the set must not depend on the order in
 * which it came, on records that came twice, or on what was asked between; nobody gets a right that
 * no chain of admissions from the founder gives; and no record is forged. */
#include <sodium.h>
#include <string.h>

#include "crdt/authority.h"
#include "proto/limits.h"
#include "tests/fuzz/fuzz.h"

#define LEN_MAX	    256
#define NODES	    6
#define RECORDS_MAX 12

struct record {
	struct p2p_buf raw;
	uint32_t kind, role, node, signer; /* as said, for the model */
	bool sound;			   /* an admission that counts if its signer may */
};

static uint8_t secrets[NODES][64];
static struct p2p_key keys[NODES];
static struct p2p_buf genesis;
static struct p2p_hash mesh;
static struct record records[RECORDS_MAX];
static size_t record_count;

static void init(void)
{
	static const uint8_t random[32] = {1};
	struct p2p_signer founder;
	size_t i;

	for (i = 0; i < NODES; i++) {
		uint8_t seed[32];

		memset(seed, (int)i + 1, sizeof(seed));
		p2p_require(crypto_sign_seed_keypair(keys[i].bytes, secrets[i], seed) == 0);
	}
	memset(&founder, 0, sizeof(founder));
	founder.secret = secrets[0];
	founder.node = keys[0];
	p2p_buf_init(&genesis, P2P_RECORD_BODY_MAX);
	fuzz_ok(p2p_authority_make_genesis(&genesis, &mesh, &founder, "fuzz", random));
}

static void deinit(void)
{
	p2p_buf_deinit(&genesis);
}

/* --- making records --------------------------------------------------------------------------- */

static void sign(struct record *record, const struct p2p_buf *body, uint8_t form)
{
	const uint8_t kind[4] = {0, 0, 0, (uint8_t)record->kind};
	uint8_t bytes[26 + P2P_HASH_BYTES], signature[P2P_SIG_BYTES];
	struct p2p_hash hash, of = mesh;
	P2p__V1__Signed out;
	crypto_generichash_state state;

	if (form == 0xff)
		of.bytes[0] ^= 1; /* another mesh's */
	(void)crypto_generichash_init(&state, NULL, 0, P2P_HASH_BYTES);
	(void)crypto_generichash_update(&state, (const uint8_t *)"p2pnode/record/1", 16);
	(void)crypto_generichash_update(&state, of.bytes, P2P_HASH_BYTES);
	(void)crypto_generichash_update(&state, kind, sizeof(kind));
	(void)crypto_generichash_update(&state, keys[record->signer].bytes, P2P_KEY_BYTES);
	(void)crypto_generichash_update(&state, body->data, body->len);
	(void)crypto_generichash_final(&state, hash.bytes, P2P_HASH_BYTES);
	memcpy(bytes, "p2pnode/record-signature/1", 26);
	memcpy(bytes + 26, hash.bytes, P2P_HASH_BYTES);
	p2p_require(crypto_sign_detached(signature, NULL, bytes, sizeof(bytes),
					 secrets[record->signer]) == 0);
	if (form == 0xfe)
		signature[7] ^= 4;
	p2p__v1__signed__init(&out);
	out.kind = record->kind;
	out.body = p2p_field(body->data, body->len);
	out.signer = p2p_field(keys[record->signer].bytes, P2P_KEY_BYTES);
	out.signature = p2p_field(signature, sizeof(signature));
	fuzz_ok(p2p_pack(&record->raw, &out.base));
	record->sound &= form < 0xfe;
}

/* Hashes of records that are there, or of nothing. */
static size_t choose_parents(struct fuzz_in *in, struct p2p_hash hashes[4],
			     ProtobufCBinaryData fields[4])
{
	size_t i, count = fuzz_below(in, 5);

	for (i = 0; i < count; i++) {
		uint32_t which = fuzz_u8(in);

		hashes[i] = mesh;
		if (which & 1)
			memset(hashes[i].bytes, (int)which, P2P_HASH_BYTES);
		fields[i] = p2p_field(hashes[i].bytes, P2P_HASH_BYTES);
	}
	return count;
}

static void make_admission(struct record *record, struct fuzz_in *in, struct p2p_buf *body)
{
	static const struct p2p_key other = {{3}};
	struct p2p_hash hashes[4];
	ProtobufCBinaryData parents[4];
	P2p__V1__Admission out;
	char name[100];
	uint8_t odd = fuzz_u8(in);

	p2p__v1__admission__init(&out);
	out.format = odd == 0x80 ? 0 : odd == 0x81 ? 2 : 1;
	out.node = p2p_field(keys[record->node].bytes, P2P_KEY_BYTES - (odd == 0x82));
	out.wrap_key = p2p_field(other.bytes, P2P_KEY_BYTES);
	out.noise_key = p2p_field(other.bytes, P2P_KEY_BYTES - (odd == 0x83));
	out.role = record->role;
	out.invite = p2p_field(other.bytes, odd == 0x84 ? 3 : odd & 1 ? P2P_ID_BYTES : 0);
	memset(name, 'n', sizeof(name));
	name[odd == 0x85 ? 99 : 10] = 0;
	out.name = name;
	out.n_parents = choose_parents(in, hashes, parents);
	out.parents = parents;
	record->sound = record->role >= 1 && record->role <= 3 && (odd < 0x80 || odd > 0x85);
	fuzz_ok(p2p_pack(body, &out.base));
}

static void make_certificate(struct record *record, struct fuzz_in *in, struct p2p_buf *body)
{
	P2p__V1__Certificate out;
	struct p2p_id replica;
	uint8_t odd;

	p2p__v1__certificate__init(&out);
	memset(replica.bytes, (int)fuzz_below(in, 20), P2P_ID_BYTES);
	odd = fuzz_u8(in);
	if (odd != 0xfe) /* bound to its node's key, or to another's, or to none */
		p2p_replica_id_bind(&replica, &keys[odd == 0xfd ? 0 : record->node]);
	out.format = 1;
	out.replica = p2p_field(replica.bytes, P2P_ID_BYTES - (odd == 0xff));
	out.node = p2p_field(keys[record->node].bytes, P2P_KEY_BYTES);
	fuzz_ok(p2p_pack(body, &out.base));
}

static void make_schema(struct fuzz_in *in, struct p2p_buf *body)
{
	struct p2p_hash hashes[4], before;
	ProtobufCBinaryData parents[4];
	P2p__V1__Schema out;
	struct p2p_id table;
	char name[] = "t", sql[] = "CREATE TABLE t(k PRIMARY KEY)";
	uint8_t follows = fuzz_u8(in);

	p2p__v1__schema__init(&out);
	memset(table.bytes, (int)fuzz_below(in, 3), P2P_ID_BYTES);
	memset(before.bytes, follows, P2P_HASH_BYTES);
	out.format = 1;
	out.table = p2p_field(table.bytes, P2P_ID_BYTES);
	out.name = name;
	out.create_sql = sql;
	if (follows & 1)
		out.predecessor = p2p_field(before.bytes, P2P_HASH_BYTES);
	out.n_parents = choose_parents(in, hashes, parents);
	out.parents = parents;
	fuzz_ok(p2p_pack(body, &out.base));
}

static void make_record(struct fuzz_in *in)
{
	struct record *record = &records[record_count++];
	uint8_t form = fuzz_u8(in);
	struct p2p_buf body;
	const uint8_t *bytes;
	size_t len;

	memset(record, 0, sizeof(*record));
	p2p_buf_init(&record->raw, P2P_RECORD_BODY_MAX + 1024);
	p2p_buf_init(&body, P2P_RECORD_BODY_MAX);
	record->signer = fuzz_below(in, NODES);
	record->node = fuzz_below(in, NODES);
	record->role = fuzz_below(in, 8) ? fuzz_below(in, 3) + 1 : fuzz_u8(in);
	switch (form % 8) {
	case 0:
	case 1:
	case 2:
		record->kind = P2P__V1__RECORD_KIND__RECORD_ADMISSION;
		make_admission(record, in, &body);
		break;
	case 3:
	case 4:
		record->kind = P2P__V1__RECORD_KIND__RECORD_CERTIFICATE;
		make_certificate(record, in, &body);
		break;
	case 5:
		record->kind = P2P__V1__RECORD_KIND__RECORD_SCHEMA;
		make_schema(in, &body);
		break;
	case 6: /* any kind, any body: no admission that the model knows of */
		record->kind = 3 + fuzz_u8(in) % 8;
		bytes = fuzz_take(in, fuzz_u8(in), &len);
		p2p_buf_put(&body, bytes, len);
		break;
	default: /* not even a record */
		bytes = fuzz_take(in, fuzz_u8(in), &len);
		p2p_buf_put(&record->raw, bytes, len);
		p2p_buf_deinit(&body);
		return;
	}
	sign(record, &body, form);
	p2p_buf_deinit(&body);
}

/* --- what must hold --------------------------------------------------------------------------- */

/* The strongest role of each node that a chain from the founder gives, worked out slowly. */
static void model_roles(uint32_t roles[NODES])
{
	bool more = true;
	size_t i;

	memset(roles, 0, NODES * sizeof(*roles));
	roles[0] = P2P__V1__ROLE__ROLE_ADMIN;
	while (more) {
		more = false;
		for (i = 0; i < record_count; i++) {
			const struct record *at = &records[i];

			if (!at->sound || at->kind != P2P__V1__RECORD_KIND__RECORD_ADMISSION ||
			    roles[at->signer] != P2P__V1__ROLE__ROLE_ADMIN)
				continue;
			if (!roles[at->node] || at->role < roles[at->node]) {
				roles[at->node] = at->role;
				more = true;
			}
		}
	}
}

static int add(struct p2p_authority *authority, const struct record *record)
{
	size_t before = p2p_authority_count(authority);
	int rc = p2p_authority_add(authority, record->raw.data, record->raw.len);

	p2p_require(rc == 0 || rc == P2P_AUTHORITY_KNOWN || rc == P2P_EAUTH || rc == P2P_EMESH ||
		    rc == P2P_EPROTO || rc == P2P_ETOOBIG || rc == P2P_EVERSION);
	p2p_require(p2p_authority_count(authority) == before + (rc == 0));
	return rc;
}

/* Walks have the order of arrival: their items are added up. */
static void fold(uint8_t sum[P2P_HASH_BYTES], const struct p2p_hash *item)
{
	size_t i;

	for (i = 0; i < P2P_HASH_BYTES; i++)
		sum[i] = (uint8_t)(sum[i] + item->bytes[i]);
}

static int fold_replica(void *ctx, const struct p2p_id *replica, const struct p2p_key *node)
{
	uint8_t bytes[P2P_ID_BYTES + P2P_KEY_BYTES];
	struct p2p_hash item;

	p2p_require(p2p_replica_id_fits(replica, node)); /* nobody has another's */
	memcpy(bytes, replica->bytes, P2P_ID_BYTES);
	memcpy(bytes + P2P_ID_BYTES, node->bytes, P2P_KEY_BYTES);
	p2p_hash_bytes(&item, bytes, sizeof(bytes));
	fold(ctx, &item);
	return 0;
}

static int fold_schema(void *ctx, const struct p2p_signed *record)
{
	fold(ctx, &record->hash);
	return 0;
}

/* Everything that follows, in one hash. */
static void summary(struct p2p_authority *authority, struct p2p_hash *out)
{
	struct p2p_hash digest, heads[RECORDS_MAX + 1], sum = {{0}};
	struct p2p_hasher hasher;
	struct p2p_member member;
	size_t i, count;

	p2p_hasher_init(&hasher, "fuzz", P2P_HASH_BYTES);
	p2p_authority_digest(authority, &digest);
	p2p_hasher_add(&hasher, digest.bytes, P2P_HASH_BYTES);
	for (i = 0; p2p_authority_member(authority, i, &member); i++) {
		p2p_hasher_add(&hasher, member.node.bytes, P2P_KEY_BYTES);
		p2p_hasher_add(&hasher, member.admitted_by.bytes, P2P_KEY_BYTES);
		p2p_hasher_add(&hasher, member.name, strlen(member.name));
		p2p_hasher_add_u64(&hasher, member.role);
	}
	p2p_require(i == p2p_authority_member_count(authority));
	fuzz_ok(p2p_authority_each_replica(authority, fold_replica, sum.bytes));
	count = p2p_authority_heads(authority, heads, RECORDS_MAX + 1);
	for (i = 0; i < count; i++)
		p2p_hasher_add(&hasher, heads[i].bytes, P2P_HASH_BYTES);
	fuzz_ok(p2p_authority_each_schema(authority, fold_schema, sum.bytes));
	p2p_hasher_add(&hasher, sum.bytes, P2P_HASH_BYTES);
	p2p_hasher_final(&hasher, out->bytes, P2P_HASH_BYTES);
}

static void check_roles(struct p2p_authority *authority)
{
	uint32_t roles[NODES];
	size_t i;

	model_roles(roles);
	for (i = 0; i < NODES; i++)
		p2p_require(p2p_authority_role(authority, &keys[i]) == roles[i]);
}

/* Its own records, one after the other, make the same set: what is stored can be loaded. */
static void check_stored(struct p2p_authority *authority, const struct p2p_hash *before)
{
	struct fuzz_world world = {.random = 1};
	const struct p2p_env env = fuzz_env(&world);
	struct p2p_authority *again;
	const struct p2p_signed *at;
	struct p2p_hash after;
	size_t i;

	fuzz_ok(p2p_authority_new(&env, &again));
	p2p_authority_expect(again, &mesh);
	for (i = 0; i < p2p_authority_count(authority); i++) {
		at = p2p_authority_record(authority, i);
		p2p_require(p2p_authority_has_prefix(authority, at->hash.bytes));
		fuzz_ok(p2p_authority_add(again, at->raw, at->raw_len));
	}
	summary(again, &after);
	p2p_require(p2p_hash_cmp(before, &after) == 0);
	p2p_authority_free(again);
}

static void one(const uint8_t *data, size_t len)
{
	struct fuzz_in in = fuzz_in(data, len);
	uint32_t turn = fuzz_u8(&in);
	struct fuzz_world world = {.random = 0};
	const struct p2p_env env = fuzz_env(&world);
	struct p2p_authority *forward, *turned;
	struct p2p_hash first, second;
	size_t i, taken = 0;

	record_count = 0;
	while (fuzz_more(&in) && record_count < RECORDS_MAX)
		make_record(&in);
	fuzz_ok(p2p_authority_new(&env, &forward));
	fuzz_ok(p2p_authority_new(&env, &turned));
	for (i = 0; i < record_count; i++)
		p2p_require(add(forward, &records[i]) != 0); /* nothing before the genesis */
	fuzz_ok(p2p_authority_add(forward, genesis.data, genesis.len));
	fuzz_ok(p2p_authority_add(turned, genesis.data, genesis.len));
	p2p_require(p2p_authority_add(turned, genesis.data, genesis.len) == P2P_AUTHORITY_KNOWN);
	for (i = 0; i < record_count; i++)
		taken += add(forward, &records[i]) == 0;
	summary(forward, &first);
	for (i = record_count; i > 0; i--) {
		(void)add(turned, &records[(i + turn) % record_count]);
		if (turn & 1)
			summary(turned, &second); /* asking changes nothing */
	}
	summary(turned, &second);
	p2p_require(p2p_hash_cmp(&first, &second) == 0);
	check_roles(forward);
	check_stored(forward, &first);
	for (i = 0; i < record_count; i++)
		p2p_require(add(forward, &records[i]) != 0);
	if (p2p_authority_member_count(forward) > 1 && taken > 1)
		fuzz_deep();
	p2p_authority_free(forward);
	p2p_authority_free(turned);
	for (i = 0; i < record_count; i++)
		p2p_buf_deinit(&records[i].raw);
}

static void seeds(void)
{
	/* form, signer, node, role (two bytes), then what the form wants */
	static const uint8_t chain[] = {0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 2, 1, 1, 0, 0,
					3, 2, 2, 1, 1, 5, 0, 5, 1, 0, 1, 1, 0, 1, 0};
	static const uint8_t rise[] = {1, 0, 0, 1, 1, 2, 0, 0, 0, 0, 1,
				       1, 0, 0, 0, 0, 1, 2, 1, 1, 0, 0};
	static const uint8_t odd[] = {0,    0, 0, 1, 1, 0, 0x85, 0,    0, 0, 2, 1, 1, 0x81, 0,
				      0xff, 0, 3, 1, 1, 0, 0,	 0xfe, 0, 3, 1, 1, 0, 0};
	static const uint8_t claims[] = {0, 0, 0, 1, 1, 1, 0, 0, 3, 0, 0, 1, 1, 5, 0,
					 3, 1, 1, 1, 1, 5, 0, 4, 3, 3, 1, 1, 5, 0};
	static const uint8_t foreign[] = {0, 0, 0, 1, 1, 1, 0,	  0, 3, 1, 1, 1, 1, 5, 0xfd,
					  4, 0, 0, 1, 1, 5, 0xfe, 3, 1, 1, 1, 1, 5, 0};
	static const uint8_t unknown[] = {0,   6, 0, 0, 1, 1, 7, 4, 'b', 'o', 'd',
					  'y', 7, 0, 0, 1, 1, 3, 1, 2,	 3};
	static const uint8_t parents[] = {1, 0, 0, 1, 1, 1, 0, 2, 0, 1,
					  0, 0, 2, 1, 1, 0, 3, 2, 4, 5};

	fuzz_seed("chain", chain, sizeof(chain));
	fuzz_seed("rise", rise, sizeof(rise));
	fuzz_seed("odd", odd, sizeof(odd));
	fuzz_seed("claims", claims, sizeof(claims));
	fuzz_seed("foreign", foreign, sizeof(foreign));
	fuzz_seed("unknown", unknown, sizeof(unknown));
	fuzz_seed("parents", parents, sizeof(parents));
}

const struct fuzz_target fuzz_target = {.name = "authority",
					.len_max = LEN_MAX,
					.memory_max = 1024 * 1024,
					.cpu_ms_max = 200,
					.init = init,
					.deinit = deinit,
					.one = one,
					.seeds = seeds};
