/* Membership: what follows from the set of records, whatever their order; forgeries never count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sodium.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "crdt/authority.h"
#include "proto/limits.h"

#define NODES	    6
#define RECORDS_MAX 64

struct node {
	uint8_t secret[64];
	struct p2p_signer signer;
};

static void random_bytes(void *ctx, void *out, size_t len)
{
	(void)ctx;
	memset(out, 9, len);
}

static const struct p2p_env env = {.random = random_bytes};
static struct node nodes[NODES];
static struct p2p_buf records[RECORDS_MAX];
static size_t record_count;

static void node_make(struct node *node, uint8_t letter)
{
	uint8_t seed[32];

	memset(seed, letter, sizeof(seed));
	(void)crypto_sign_seed_keypair(node->signer.node.bytes, node->secret, seed);
	node->signer.secret = node->secret;
	memset(node->signer.wrap_key.bytes, letter, P2P_KEY_BYTES);
	memset(node->signer.noise_key.bytes, letter + 1, P2P_KEY_BYTES);
}

static struct p2p_buf *record_new(void)
{
	struct p2p_buf *buf = &records[record_count++];

	assert_true(record_count <= RECORDS_MAX);
	p2p_buf_init(buf, P2P_RECORD_BODY_MAX);
	return buf;
}

static int add(struct p2p_authority *authority, const struct p2p_buf *record)
{
	return p2p_authority_add(authority, record->data, record->len);
}

static void genesis(struct p2p_authority *authority, uint8_t random)
{
	struct p2p_buf *record = record_new();
	struct p2p_hash mesh;
	uint8_t bytes[32];

	memset(bytes, random, sizeof(bytes));
	assert_int_equal(p2p_authority_make_genesis(record, &mesh, &nodes[0].signer, "shop.db",
						    bytes),
			 0);
	assert_int_equal(add(authority, record), 0);
	assert_memory_equal(&mesh, p2p_authority_mesh(authority), sizeof(mesh));
}

static struct p2p_buf *admit(struct p2p_authority *authority, size_t by, size_t whom, uint32_t role)
{
	struct p2p_admission admission = {.role = role, .max_format = 1, .name = "n"};
	struct p2p_buf *record = record_new();

	admission.node = nodes[whom].signer.node;
	admission.wrap_key = nodes[whom].signer.wrap_key;
	admission.noise_key = nodes[whom].signer.noise_key;
	assert_int_equal(p2p_authority_make_admission(authority, record, &nodes[by].signer,
						      &admission),
			 0);
	return record;
}

static struct p2p_id replica_of(size_t node, uint8_t letter)
{
	struct p2p_id id;

	memset(id.bytes, letter, sizeof(id.bytes));
	p2p_replica_id_bind(&id, &nodes[node].signer.node);
	return id;
}

static struct p2p_buf *claim(struct p2p_authority *authority, size_t node, const struct p2p_id *id)
{
	struct p2p_buf *record = record_new();

	assert_int_equal(p2p_authority_make_certificate(authority, record, &nodes[node].signer, id,
							NULL),
			 0);
	return record;
}

static struct p2p_buf *certify(struct p2p_authority *authority, size_t node, uint8_t letter)
{
	struct p2p_id id = replica_of(node, letter);

	return claim(authority, node, &id);
}

static uint32_t role(struct p2p_authority *authority, size_t node)
{
	return p2p_authority_role(authority, &nodes[node].signer.node);
}

/* What is known of that replica of a node; nobody else may be known for it. */
static int right_of(struct p2p_authority *authority, size_t node, uint8_t letter)
{
	struct p2p_id id = replica_of(node, letter);
	struct p2p_key signer;
	int rc = p2p_authority_replica_node(authority, &id, &signer);

	if (rc == 0)
		assert_memory_equal(&signer, &nodes[node].signer.node, sizeof(signer));
	return rc;
}

static int setup(void **state)
{
	struct p2p_authority *authority;
	size_t i;

	for (i = 0; i < NODES; i++)
		node_make(&nodes[i], (uint8_t)(10 + i));
	record_count = 0;
	assert_int_equal(p2p_authority_new(&env, &authority), 0);
	genesis(authority, 1);
	*state = authority;
	return 0;
}

static int teardown(void **state)
{
	p2p_authority_free(*state);
	while (record_count)
		p2p_buf_deinit(&records[--record_count]);
	return 0;
}

static void only_admins_admit(void **state)
{
	struct p2p_authority *authority = *state;
	struct p2p_buf *by_writer, *late;

	assert_int_equal(role(authority, 0), P2P__V1__ROLE__ROLE_ADMIN);
	assert_int_equal(add(authority, admit(authority, 0, 1, P2P__V1__ROLE__ROLE_WRITER)), 0);
	by_writer = admit(authority, 1, 2, P2P__V1__ROLE__ROLE_ADMIN);
	assert_int_equal(add(authority, by_writer), 0);			/* kept, */
	assert_int_equal(role(authority, 2), P2P__V1__ROLE__ROLE_NONE); /* but of no effect */
	late = admit(authority, 0, 1, P2P__V1__ROLE__ROLE_ADMIN);
	assert_int_equal(add(authority, late), 0);
	/* now its signer may */
	assert_int_equal(role(authority, 2), P2P__V1__ROLE__ROLE_ADMIN);
	assert_int_equal(p2p_authority_member_count(authority), 3);
}

/* The same records in random orders: the same members, digest, heads, signers. */
static void any_order_gives_the_same_mesh(void **state)
{
	struct p2p_authority *authority = *state;
	struct p2p_hash digest, heads[8], other_heads[8];
	size_t i, j, turn, count;

	assert_int_equal(add(authority, admit(authority, 0, 1, P2P__V1__ROLE__ROLE_ADMIN)), 0);
	assert_int_equal(add(authority, admit(authority, 1, 2, P2P__V1__ROLE__ROLE_WRITER)), 0);
	assert_int_equal(add(authority, admit(authority, 2, 3, P2P__V1__ROLE__ROLE_WRITER)), 0);
	assert_int_equal(add(authority, admit(authority, 1, 4, P2P__V1__ROLE__ROLE_READER)), 0);
	for (i = 0; i < NODES; i++)
		assert_int_equal(add(authority, certify(authority, i, (uint8_t)(50 + i))), 0);
	p2p_authority_digest(authority, &digest);
	count = p2p_authority_heads(authority, heads, 8);
	for (turn = 0; turn < 50; turn++) {
		struct p2p_authority *again;

		/* the genesis comes first, the rest in any order */
		for (i = record_count - 1; i > 1; i--) {
			struct p2p_buf swap = records[i];

			j = 1 + randombytes_uniform((uint32_t)i);
			records[i] = records[j];
			records[j] = swap;
		}
		assert_int_equal(p2p_authority_new(&env, &again), 0);
		for (i = 0; i < record_count; i++)
			assert_int_equal(add(again, &records[i]), 0);
		p2p_authority_digest(again, other_heads);
		assert_memory_equal(&digest, other_heads, sizeof(digest));
		assert_int_equal(p2p_authority_heads(again, other_heads, 8), count);
		assert_memory_equal(heads, other_heads, count * sizeof(heads[0]));
		for (i = 0; i < NODES; i++)
			assert_int_equal(role(again, i), role(authority, i));
		assert_int_equal(right_of(again, 0, 50), 0);
		assert_int_equal(right_of(again, 3, 53), P2P_ENOENT); /* no member */
		assert_int_equal(right_of(again, 4, 54), P2P_EAUTH);  /* a reader */
		p2p_authority_free(again);
	}
}

static void forged_and_foreign_records_are_refused(void **state)
{
	struct p2p_authority *authority = *state, *other;
	struct p2p_buf *record = admit(authority, 0, 1, P2P__V1__ROLE__ROLE_WRITER);
	struct p2p_hash expected = {{1}};
	size_t i;

	for (i = 0; i < record->len; i++) {
		int rc;

		record->data[i] ^= 1;
		rc = add(authority, record);
		assert_int_not_equal(rc, 0);
		assert_int_not_equal(rc, P2P_AUTHORITY_KNOWN);
		record->data[i] ^= 1;
	}
	assert_int_equal(add(authority, record), 0);
	assert_int_equal(add(authority, record), P2P_AUTHORITY_KNOWN);
	/* of another mesh of the same founder */
	assert_int_equal(p2p_authority_new(&env, &other), 0);
	assert_int_equal(add(other, record), P2P_EPROTO); /* the genesis comes first */
	genesis(other, 2);
	assert_int_equal(add(other, record), P2P_EAUTH);
	assert_int_equal(add(other, &records[0]), P2P_EMESH);
	p2p_authority_free(other);
	assert_int_equal(p2p_authority_new(&env, &other), 0);
	p2p_authority_expect(other, &expected);
	assert_int_equal(add(other, &records[0]), P2P_EMESH);
	p2p_authority_free(other);
}

static void a_node_certifies_only_its_own_and_at_most_sixteen(void **state)
{
	struct p2p_authority *authority = *state;
	size_t i, counted = 0;

	assert_int_equal(add(authority, admit(authority, 0, 1, P2P__V1__ROLE__ROLE_WRITER)), 0);
	for (i = 0; i < P2P_REPLICAS_PER_NODE_MAX + 4; i++)
		assert_int_equal(add(authority, certify(authority, 1, (uint8_t)(100 + i))), 0);
	for (i = 0; i < P2P_REPLICAS_PER_NODE_MAX + 4; i++)
		counted += right_of(authority, 1, (uint8_t)(100 + i)) == 0;
	assert_int_equal(counted, P2P_REPLICAS_PER_NODE_MAX);
}

/* The founder, senior to all, claims a writer's replica id: before the writer's own certificate
 * came, and after. Nothing is kept for it, and the id stays the writer's. */
static void nobody_claims_the_replica_id_of_another(void **state)
{
	struct p2p_authority *authority = *state;
	struct p2p_id id = replica_of(1, 60);
	size_t count;

	assert_int_equal(add(authority, admit(authority, 0, 1, P2P__V1__ROLE__ROLE_WRITER)), 0);
	count = p2p_authority_count(authority);
	assert_int_equal(add(authority, claim(authority, 0, &id)), P2P_EAUTH);
	assert_false(p2p_authority_replica_known(authority, &id));
	assert_int_equal(right_of(authority, 1, 60), P2P_ENOENT);
	assert_int_equal(p2p_authority_count(authority), count);
	assert_int_equal(add(authority, certify(authority, 1, 60)), 0);
	assert_true(p2p_authority_replica_known(authority, &id));
	assert_int_equal(add(authority, claim(authority, 0, &id)), P2P_EAUTH);
	assert_int_equal(add(authority, claim(authority, 5, &id)), P2P_EAUTH); /* a stranger */
	assert_int_equal(right_of(authority, 1, 60), 0);
	assert_int_equal(p2p_authority_count(authority), count + 1);
}

/* Of the random bytes, too: they are in the hash. */
static void each_bit_of_a_replica_id_is_bound(void **state)
{
	struct p2p_authority *authority = *state;
	struct p2p_id id;
	size_t i;

	for (i = 0; i < 8 * P2P_ID_BYTES; i++) {
		id = replica_of(0, 61);
		id.bytes[i / 8] ^= (uint8_t)(1u << i % 8);
		assert_int_equal(add(authority, claim(authority, 0, &id)), P2P_EAUTH);
		assert_false(p2p_authority_replica_known(authority, &id));
		p2p_buf_deinit(&records[--record_count]);
	}
	assert_int_equal(add(authority, certify(authority, 0, 61)), 0);
}

static int schema_make(struct p2p_authority *authority, size_t by, const char *column)
{
	P2p__V1__Schema schema;
	struct p2p_buf body, *record = record_new();
	char name[] = "t", text[64];
	struct p2p_id table;
	int rc;

	memset(table.bytes, 7, sizeof(table.bytes));
	memcpy(text, column, strlen(column) + 1);
	p2p__v1__schema__init(&schema);
	schema.format = 1;
	schema.table = p2p_field(table.bytes, P2P_ID_BYTES);
	schema.name = name;
	schema.create_sql = text;
	p2p_buf_init(&body, 4096);
	assert_int_equal(p2p_pack(&body, &schema.base), 0);
	rc = p2p_authority_make_schema(authority, record, &nodes[by].signer, body.data, body.len);
	p2p_buf_deinit(&body);
	return rc ? rc : add(authority, record);
}

static int count_schema(void *ctx, const struct p2p_signed *record)
{
	*(struct p2p_hash *)ctx = record->hash;
	return 0;
}

static void the_schema_in_force_is_the_end_of_the_chain(void **state)
{
	struct p2p_authority *authority = *state;
	struct p2p_hash first = {{0}}, second = {{0}}, third = {{0}};

	assert_int_equal(schema_make(authority, 0, "one"), 0);
	assert_int_equal(p2p_authority_each_schema(authority, count_schema, &first), 0);
	assert_int_equal(schema_make(authority, 0, "two"), 0);
	assert_int_equal(p2p_authority_each_schema(authority, count_schema, &second), 0);
	assert_memory_not_equal(&first, &second, sizeof(first));
	assert_non_null(p2p_authority_schema(authority, &first));	 /* still known */
	assert_int_equal(schema_make(authority, 5, "by a stranger"), 0); /* kept */
	assert_int_equal(p2p_authority_each_schema(authority, count_schema, &third), 0);
	assert_memory_equal(&second, &third, sizeof(third)); /* of no effect */
}

static void prefixes_find_records(void **state)
{
	struct p2p_authority *authority = *state;
	uint8_t prefix[16];

	memcpy(prefix, p2p_authority_mesh(authority)->bytes, sizeof(prefix));
	assert_true(p2p_authority_has_prefix(authority, prefix));
	prefix[15] ^= 1;
	assert_false(p2p_authority_has_prefix(authority, prefix));
	assert_string_equal(p2p_authority_mesh_name(authority), "shop.db");
	assert_null(p2p_authority_record(authority, 1));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(only_admins_admit),
		CASE(any_order_gives_the_same_mesh),
		CASE(forged_and_foreign_records_are_refused),
		CASE(a_node_certifies_only_its_own_and_at_most_sixteen),
		CASE(nobody_claims_the_replica_id_of_another),
		CASE(each_bit_of_a_replica_id_is_bound),
		CASE(the_schema_in_force_is_the_end_of_the_chain),
		CASE(prefixes_find_records),
	};

	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
