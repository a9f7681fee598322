/* Membership when memory runs out: each allocation of fifty additions fails, alone and with all
 * after it. A record is taken whole or not at all, nobody loses a right by it, nothing leaks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sodium.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "proto/limits.h"
#include "tests/support/membership.h"
#include "tests/support/memfault.h"

#define PEOPLE	6
#define RECORDS 50
#define TRIES	5000

static struct member people[PEOPLE];
static struct member_record records[RECORDS];

static const struct p2p_hash *mesh(void)
{
	return &records[0].hash;
}

static void make_admission(struct member_record *out, uint32_t i)
{
	struct membership_admission admission = {.by = &people[i % 3],
						 .whom = &people[1 + i % (PEOPLE - 1)],
						 .role = 1 + i / 7 % 3,
						 .nonce = i,
						 .parents = &records[i / 2].hash,
						 .parent_count = 1};

	membership_admit(out, mesh(), &admission);
}

static void make_schema(struct member_record *out, uint32_t i)
{
	struct p2p_id table = membership_id(i % 8);
	struct membership_schema schema = {.by = &people[i % PEOPLE],
					   .table = &table,
					   .before = i > 8 ? &records[i - 8].hash : NULL,
					   .text_len = 100,
					   .nonce = i};

	membership_describe(out, mesh(), &schema);
}

static int make_records(void **state)
{
	struct p2p_id id;
	uint32_t i;

	(void)state;
	for (i = 0; i < PEOPLE; i++)
		membership_member(&people[i], i);
	membership_genesis(&records[0], &people[0]);
	for (i = 1; i < RECORDS; i++) {
		id = membership_replica(&people[i % PEOPLE], i);
		if (i % 4 == 0)
			membership_certify(&records[i], mesh(), &people[i % PEOPLE], &id, i);
		else if (i % 4 == 2)
			make_schema(&records[i], i);
		else
			make_admission(&records[i], i);
	}
	return 0;
}

static int free_records(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < RECORDS; i++)
		membership_record_free(&records[i]);
	return 0;
}

static int fold_schema(void *ctx, const struct p2p_signed *record)
{
	p2p_hasher_add(ctx, record->hash.bytes, P2P_HASH_BYTES);
	return 0;
}

/* Everything that follows from the records, in one hash. Allocates nothing. */
static void summary(struct p2p_authority *authority, struct p2p_hash *out)
{
	struct p2p_hash hashes[RECORDS];
	struct p2p_hasher hasher;
	struct p2p_member member;
	struct p2p_key key;
	struct p2p_id id;
	uint32_t i;

	p2p_hasher_init(&hasher, "summary", P2P_HASH_BYTES);
	p2p_authority_digest(authority, &hashes[0]);
	p2p_hasher_add(&hasher, hashes[0].bytes, P2P_HASH_BYTES);
	for (i = 0; p2p_authority_member(authority, i, &member); i++) {
		p2p_hasher_add(&hasher, member.node.bytes, P2P_KEY_BYTES);
		p2p_hasher_add(&hasher, member.admitted_by.bytes, P2P_KEY_BYTES);
		p2p_hasher_add_u64(&hasher, member.role);
	}
	for (i = 0; i < RECORDS; i++) {
		id = membership_replica(&people[i % PEOPLE], i);
		memset(&key, 0, sizeof(key));
		p2p_hasher_add_u64(&hasher,
				   (uint64_t)(int64_t)p2p_authority_replica_node(authority, &id,
										 &key));
		p2p_hasher_add(&hasher, key.bytes, P2P_KEY_BYTES);
	}
	p2p_hasher_add(&hasher, hashes,
		       p2p_authority_heads(authority, hashes, RECORDS) * sizeof(hashes[0]));
	assert_int_equal(p2p_authority_each_schema(authority, fold_schema, &hasher), 0);
	p2p_hasher_final(&hasher, out->bytes, P2P_HASH_BYTES);
}

/* What follows from the first records, without any fault. */
static void expect(struct p2p_hash expected[RECORDS])
{
	struct p2p_authority *authority;
	size_t i;

	assert_int_equal(p2p_authority_new(&membership_env, &authority), 0);
	for (i = 0; i < RECORDS; i++) {
		assert_int_equal(p2p_authority_add(authority, records[i].raw.data,
						   records[i].raw.len),
				 0);
		summary(authority, &expected[i]);
	}
	p2p_authority_free(authority);
}

/* Adds a record; one that fails is added again, with memory. */
static void add(struct p2p_authority *authority, size_t i, const struct p2p_hash expected[RECORDS])
{
	const struct p2p_buf *raw = &records[i].raw;
	int rc = p2p_authority_add(authority, raw->data, raw->len);
	struct p2p_hash now;

	if (rc) {
		assert_int_equal(rc, P2P_ENOMEM);
		assert_int_equal(p2p_authority_count(authority), i);
		if (i) { /* still without memory, if that is so */
			summary(authority, &now);
			assert_memory_equal(&now, &expected[i - 1], sizeof(now));
		}
		assert_int_equal(memfault_disarm(), 1);
		assert_int_equal(p2p_authority_add(authority, raw->data, raw->len), 0);
	}
	summary(authority, &now);
	assert_memory_equal(&now, &expected[i], sizeof(now));
}

static uint64_t faulty_run(uint64_t nth, bool sticky, const struct p2p_hash expected[RECORDS])
{
	size_t i, live = memfault_live();
	struct p2p_authority *authority;
	uint64_t failed;
	int rc;

	memfault_arm(nth, sticky);
	rc = p2p_authority_new(&membership_env, &authority);
	if (rc) {
		assert_int_equal(rc, P2P_ENOMEM);
		assert_null(authority);
		(void)memfault_disarm();
		assert_int_equal(memfault_live(), live);
		return 1;
	}
	for (i = 0; i < RECORDS; i++)
		add(authority, i, expected);
	failed = memfault_disarm();
	memfault_arm(0, true);
	p2p_authority_rewind(authority, RECORDS / 2); /* takes no memory */
	p2p_authority_rewind(authority, 0);
	assert_int_equal(memfault_disarm(), 0);
	p2p_authority_free(authority);
	assert_int_equal(memfault_live(), live);
	return failed;
}

static struct memfault_report report = {
	.name = "memory-membership",
	.title = "Membership: each allocation of fifty additions fails",
	.command = "P2P_RELIABILITY=FOLDER build/tests/unit/crdt/test_crdt_authority_memory",
	.not_tested = "two single allocations that fail in one run",
	.labels = {"runs, one fails", "runs, one and all after it fail"}};

static void a_failed_allocation_takes_no_right_from_anybody(void **state)
{
	struct p2p_hash expected[RECORDS];
	uint64_t nth, failed[2] = {1, 1};
	uint32_t sticky;

	(void)state;
	expect(expected);
	for (sticky = 0; sticky < 2; sticky++) {
		uint64_t quiet = 0;

		/* a run without a fault after one with: the end was reached */
		for (nth = 0; nth < TRIES && quiet < 2; nth++)
			quiet = faulty_run(nth, sticky, expected) ? 0 : quiet + 1;
		failed[sticky] = nth;
		assert_true(nth > 4 * RECORDS && nth < TRIES);
	}
	report.values[0] = failed[0];
	report.values[1] = failed[1];
	memfault_report(&report);
}

static int make_one(struct p2p_authority *authority, uint32_t what, struct p2p_buf *out)
{
	struct p2p_admission admission = {.role = P2P__V1__ROLE__ROLE_READER, .name = "n"};
	struct p2p_id id = membership_replica(&people[0], 4);
	struct p2p_hash hash;
	uint8_t random[32] = {5};

	admission.node = people[5].signer.node;
	admission.wrap_key = admission.noise_key = admission.node;
	switch (what) {
	case 0:
		return p2p_authority_make_genesis(out, &hash, &people[0].signer, "m", random);
	case 1:
		return p2p_authority_make_admission(authority, out, &people[0].signer, &admission);
	case 2:
		return p2p_authority_make_certificate(authority, out, &people[0].signer, &id, NULL);
	default:
		return p2p_authority_make_schema(authority, out, &people[0].signer,
						 p2p_authority_record(authority, 2)->body,
						 p2p_authority_record(authority, 2)->body_len);
	}
}

static void records_are_made_whole_or_not_at_all(void **state)
{
	struct p2p_authority *authority;
	uint64_t nth, failed;
	uint32_t what;
	size_t i, live = memfault_live();

	(void)state;
	assert_int_equal(p2p_authority_new(&membership_env, &authority), 0);
	for (i = 0; i < RECORDS; i++)
		assert_int_equal(p2p_authority_add(authority, records[i].raw.data,
						   records[i].raw.len),
				 0);
	for (what = 0; what < 4; what++)
		for (nth = 0, failed = 1; failed; nth++) {
			struct p2p_buf out;
			size_t before = memfault_live();
			int rc;

			p2p_buf_init(&out, P2P_MESSAGE_MAX);
			memfault_arm(nth, nth % 2);
			rc = make_one(authority, what, &out);
			failed = memfault_disarm();
			assert_int_equal(rc, failed ? P2P_ENOMEM : 0);
			p2p_buf_deinit(&out);
			assert_int_equal(memfault_live(), before);
			assert_true(nth < 100);
		}
	p2p_authority_free(authority);
	assert_int_equal(memfault_live(), live);
}

/* A mesh that carries its schema would pass for one that does not. */
static void what_the_founder_said_holds_without_memory(void **state)
{
	const uint8_t random[32] = {6};
	struct p2p_founding founding = {"m", random, P2P_GENESIS_SCHEMA};
	struct p2p_authority *authority;
	struct p2p_hash hash;
	struct p2p_buf raw;
	uint32_t flags;

	(void)state;
	p2p_buf_init(&raw, P2P_MESSAGE_MAX);
	assert_int_equal(p2p_authority_make_founding(&raw, &hash, &people[0].signer, &founding), 0);
	assert_int_equal(p2p_authority_new(&membership_env, &authority), 0);
	assert_int_equal(p2p_authority_flags(authority), 0);
	assert_int_equal(p2p_authority_add(authority, raw.data, raw.len), 0);
	memfault_arm(0, true);
	flags = p2p_authority_flags(authority);
	(void)memfault_disarm();
	assert_int_equal(flags, P2P_GENESIS_SCHEMA);
	p2p_authority_free(authority);
	p2p_buf_deinit(&raw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_failed_allocation_takes_no_right_from_anybody),
		cmocka_unit_test(records_are_made_whole_or_not_at_all),
		cmocka_unit_test(what_the_founder_said_holds_without_memory),
	};

	memfault_install(false);
	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, make_records, free_records);
}
