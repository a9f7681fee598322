/* What one member's records can cost the others: work that grows with their number and not with its
 * square, and room that ends before everybody else's does.
 *
 * Work is counted in comparisons and hash lookups (the linker puts counters before them), never in
 * time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "proto/limits.h"
#include "tests/support/membership.h"

#define SMALL 300
#define BIG   (4 * SMALL)
/* Four times the records: four times the steps, a little more for the depth of a binary search.
 * The square would be sixteen times. */
#define RATIO_MAX 6

static uint64_t steps;

int __real_p2p_hash_cmp(const struct p2p_hash *a, const struct p2p_hash *b);
int __wrap_p2p_hash_cmp(const struct p2p_hash *a, const struct p2p_hash *b);
int __real_p2p_key_cmp(const struct p2p_key *a, const struct p2p_key *b);
int __wrap_p2p_key_cmp(const struct p2p_key *a, const struct p2p_key *b);
int __real_p2p_id_cmp(const struct p2p_id *a, const struct p2p_id *b);
int __wrap_p2p_id_cmp(const struct p2p_id *a, const struct p2p_id *b);
int __real_crypto_shorthash(unsigned char *out, const unsigned char *in, unsigned long long len,
			    const unsigned char *key);
int __wrap_crypto_shorthash(unsigned char *out, const unsigned char *in, unsigned long long len,
			    const unsigned char *key);

int __wrap_p2p_hash_cmp(const struct p2p_hash *a, const struct p2p_hash *b)
{
	steps++;
	return __real_p2p_hash_cmp(a, b);
}

int __wrap_p2p_key_cmp(const struct p2p_key *a, const struct p2p_key *b)
{
	steps++;
	return __real_p2p_key_cmp(a, b);
}

int __wrap_p2p_id_cmp(const struct p2p_id *a, const struct p2p_id *b)
{
	steps++;
	return __real_p2p_id_cmp(a, b);
}

int __wrap_crypto_shorthash(unsigned char *out, const unsigned char *in, unsigned long long len,
			    const unsigned char *key)
{
	steps++;
	return __real_crypto_shorthash(out, in, len, key);
}

/* --- a mesh that a test fills ----------------------------------------------------------------- */

enum { FOUNDER, ADMIN, WRITER, OTHER, STRANGER, PEOPLE };

static struct member people[PEOPLE], crowd[BIG + 1];
static struct p2p_authority *authority;
static struct member_record genesis;

/* Takes the record; frees it. */
static int take(struct member_record *record)
{
	int rc = p2p_authority_add(authority, record->raw.data, record->raw.len);

	membership_record_free(record);
	return rc;
}

static int admit(const struct member *by, const struct member *whom, uint32_t role, uint32_t nonce)
{
	struct membership_admission admission = {.by = by,
						 .whom = whom,
						 .role = role,
						 .nonce = nonce};
	struct member_record record;

	membership_admit(&record, &genesis.hash, &admission);
	return take(&record);
}

static int certify(const struct member *by, uint32_t replica, uint32_t nonce)
{
	struct p2p_id id = membership_replica(by, replica);
	struct member_record record;

	membership_certify(&record, &genesis.hash, by, &id, nonce);
	return take(&record);
}

static int junk(const struct member *by, size_t len, uint32_t nonce)
{
	struct member_record record;

	membership_unknown(&record, &genesis.hash, by, len, nonce);
	return take(&record);
}

static int setup(void **state)
{
	(void)state;
	assert_int_equal(p2p_authority_new(&membership_env, &authority), 0);
	membership_genesis(&genesis, &people[FOUNDER]);
	assert_int_equal(p2p_authority_add(authority, genesis.raw.data, genesis.raw.len), 0);
	assert_int_equal(admit(&people[FOUNDER], &people[ADMIN], P2P__V1__ROLE__ROLE_ADMIN, 0), 0);
	assert_int_equal(admit(&people[FOUNDER], &people[WRITER], P2P__V1__ROLE__ROLE_WRITER, 0),
			 0);
	assert_int_equal(admit(&people[FOUNDER], &people[OTHER], P2P__V1__ROLE__ROLE_WRITER, 0), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	p2p_authority_free(authority);
	membership_record_free(&genesis);
	return 0;
}

/* --- work ------------------------------------------------------------------------------------- */

static int seen(void *ctx, const struct p2p_signed *record)
{
	(void)ctx;
	(void)record;
	return 0;
}

/* What the others ask between two records. */
static void ask(bool schemas)
{
	struct p2p_hash heads[P2P_RECORD_PARENTS_MAX];
	struct p2p_id id = membership_replica(&people[WRITER], 1);
	struct p2p_key key;

	(void)p2p_authority_role(authority, &people[OTHER].signer.node);
	(void)!p2p_authority_replica_node(authority, &id, &key); /* or there is none */
	(void)p2p_authority_heads(authority, heads, 1);
	(void)p2p_authority_has_prefix(authority, genesis.hash.bytes);
	if (schemas)
		assert_int_equal(p2p_authority_each_schema(authority, seen, NULL), 0);
}

static void by_certificates(uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++) {
		assert_int_equal(certify(&people[WRITER], 1, i), 0);
		ask(true);
	}
}

static void schemas(uint32_t count, uint32_t tables, bool chain)
{
	struct p2p_hash before;
	uint32_t i;

	for (i = 0; i < count; i++) {
		struct p2p_id table = membership_id(i % tables);
		struct membership_schema schema = {.by = &people[WRITER],
						   .table = &table,
						   .before = chain && i ? &before : NULL,
						   .text_len = 10,
						   .nonce = i};
		struct member_record record;

		membership_describe(&record, &genesis.hash, &schema);
		before = record.hash;
		assert_int_equal(take(&record), 0);
		ask(tables == 1);
	}
	assert_int_equal(p2p_authority_each_schema(authority, seen, NULL), 0);
}

static void by_a_chain_of_schema_records(uint32_t count)
{
	schemas(count, 1, true);
}

static void by_schema_records_side_by_side(uint32_t count)
{
	schemas(count, 1, false);
}

static void by_tables(uint32_t count)
{
	schemas(count, count, false);
}

static void by_admissions(uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++) {
		assert_int_equal(admit(&people[ADMIN], &crowd[i], P2P__V1__ROLE__ROLE_WRITER, i),
				 0);
		ask(true);
	}
}

/* Each admits the next one, and the last of these admissions comes first: nothing counts until the
 * first one comes. */
static void by_a_chain_of_admins_that_comes_backwards(uint32_t count)
{
	uint32_t i;

	for (i = count - 1; i-- > 0;) {
		assert_int_equal(admit(&crowd[i], &crowd[i + 1], P2P__V1__ROLE__ROLE_ADMIN, 0), 0);
		ask(true);
	}
	assert_int_equal(admit(&people[ADMIN], &crowd[0], P2P__V1__ROLE__ROLE_ADMIN, 0), 0);
	ask(true);
	assert_int_equal(p2p_authority_member_count(authority), 4 + count);
}

/* Nothing of it counts, but it could one day. */
static void by_admissions_of_one_who_may_not(uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++) {
		assert_int_equal(admit(&people[STRANGER], &crowd[i], P2P__V1__ROLE__ROLE_ADMIN, i),
				 0);
		ask(true);
	}
	assert_int_equal(admit(&people[ADMIN], &people[STRANGER], P2P__V1__ROLE__ROLE_ADMIN, 0), 0);
	assert_int_equal(p2p_authority_member_count(authority), 5 + count);
}

static void by_schema_records_of_one_who_may_not(uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++) {
		struct p2p_id table = membership_id(i);
		struct membership_schema schema = {.by = &people[STRANGER],
						   .table = &table,
						   .before = &genesis.hash};
		struct member_record record;

		membership_describe(&record, &genesis.hash, &schema);
		assert_int_equal(take(&record), 0);
		ask(false);
	}
	assert_int_equal(admit(&people[ADMIN], &people[STRANGER], P2P__V1__ROLE__ROLE_WRITER, 0),
			 0);
	ask(true);
}

static void by_parents(uint32_t count)
{
	static struct p2p_hash parents[P2P_RECORD_PARENTS_MAX];
	uint32_t i;

	for (i = 0; i < count; i++) {
		struct membership_admission admission = {.by = &people[ADMIN],
							 .whom = &crowd[i],
							 .role = P2P__V1__ROLE__ROLE_READER,
							 .parents = parents,
							 .parent_count = 64};
		struct member_record record;

		randombytes_buf(parents, sizeof(parents)); /* of records that nobody has */
		membership_admit(&record, &genesis.hash, &admission);
		assert_int_equal(take(&record), 0);
		ask(true);
	}
}

static uint64_t work(void (*run)(uint32_t count), uint32_t count)
{
	steps = 0;
	run(count);
	return steps;
}

static void work_grows_with_the_records(void **state)
{
	static const struct {
		const char *name;
		void (*run)(uint32_t count);
	} cases[] = {{"certificates", by_certificates},
		     {"schema chain", by_a_chain_of_schema_records},
		     {"schemas side by side", by_schema_records_side_by_side},
		     {"tables", by_tables},
		     {"admissions", by_admissions},
		     {"backward chain", by_a_chain_of_admins_that_comes_backwards},
		     {"admissions without right", by_admissions_of_one_who_may_not},
		     {"schemas without right", by_schema_records_of_one_who_may_not},
		     {"parents", by_parents}};
	uint64_t small, big;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		setup(NULL);
		small = work(cases[i].run, SMALL);
		teardown(NULL);
		setup(NULL);
		big = work(cases[i].run, BIG);
		teardown(NULL);
		print_message("%s: %llu steps for %d records, %llu for %d\n", cases[i].name,
			      (unsigned long long)small, SMALL, (unsigned long long)big, BIG);
		assert_true(big < RATIO_MAX * small);
	}
}

/* --- room ------------------------------------------------------------------------------------- */

/* Signs junk until there is no room for more. Returns how many records were taken. */
static size_t fill(const struct member *by, size_t len)
{
	uint32_t i;
	int rc = 0;

	for (i = 0; !rc; i++)
		rc = junk(by, len, i);
	assert_int_equal(rc, P2P_EQUOTA);
	return i - 1;
}

/* The three that matter to the others: each can still be admitted, certify and describe. */
static void the_others_can_work(void)
{
	struct p2p_id table = membership_id(3), id = membership_replica(&crowd[BIG], 3);
	struct membership_schema schema = {.by = &people[OTHER],
					   .table = &table,
					   .text_len = 100000};
	struct member_record record;
	struct p2p_key node;

	assert_int_equal(admit(&people[FOUNDER], &crowd[BIG], P2P__V1__ROLE__ROLE_WRITER, 0), 0);
	assert_int_equal(certify(&crowd[BIG], 3, 0), 0);
	assert_int_equal(p2p_authority_replica_node(authority, &id, &node), 0);
	assert_int_equal(certify(&people[OTHER], 4, 0), 0);
	membership_describe(&record, &genesis.hash, &schema);
	assert_int_equal(take(&record), 0);
}

static void a_full_set_still_knows_its_records(void **state)
{
	uint32_t i;

	(void)state;
	for (i = 4; i < P2P_RECORDS_MAX; i++)
		assert_int_equal(junk(&people[FOUNDER], 0, i), 0);
	assert_int_equal(p2p_authority_count(authority), P2P_RECORDS_MAX);
	assert_int_equal(junk(&people[FOUNDER], 0, 4), P2P_AUTHORITY_KNOWN);
	assert_int_equal(junk(&people[FOUNDER], 0, P2P_RECORDS_MAX - 1), P2P_AUTHORITY_KNOWN);
	assert_int_equal(junk(&people[FOUNDER], 0, P2P_RECORDS_MAX), P2P_EQUOTA);
	assert_int_equal(junk(&people[OTHER], 0, 1), P2P_EQUOTA);
	assert_int_equal(p2p_authority_count(authority), P2P_RECORDS_MAX);
}

/* What strangers and members have is part of the whole. */
static void a_full_set_is_full_whoever_filled_it(void **state)
{
	size_t taken;

	(void)state;
	taken = fill(&people[STRANGER], 0);
	taken += fill(&people[WRITER], 0);
	taken += fill(&people[FOUNDER], 0);
	assert_int_equal(taken + 4, P2P_RECORDS_MAX);
	assert_int_equal(p2p_authority_count(authority), P2P_RECORDS_MAX);
}

static void the_bytes_of_all_records_are_bounded(void **state)
{
	size_t taken;

	(void)state;
	taken = fill(&people[STRANGER], P2P_RECORD_BODY_MAX - 4);
	taken += fill(&people[WRITER], P2P_RECORD_BODY_MAX - 4);
	taken += fill(&people[FOUNDER], P2P_RECORD_BODY_MAX - 4);
	assert_int_equal(taken, P2P_RECORDS_BYTES_MAX / P2P_RECORD_BODY_MAX - 1);
	assert_int_equal(junk(&people[FOUNDER], P2P_RECORD_BODY_MAX - 4, 0), P2P_AUTHORITY_KNOWN);
	assert_int_equal(junk(&people[FOUNDER], P2P_RECORD_BODY_MAX - 3, 0), P2P_ETOOBIG);
}

static void a_members_junk_leaves_room_for_the_others(void **state)
{
	size_t taken;

	(void)state;
	taken = fill(&people[WRITER], 0);
	assert_int_equal(taken, P2P_RECORDS_MAX / 4);
	assert_int_equal(certify(&people[WRITER], 1, 0), P2P_EQUOTA);
	the_others_can_work();
}

static void a_members_bytes_leave_room_for_the_others(void **state)
{
	(void)state;
	assert_int_equal(fill(&people[WRITER], P2P_RECORD_BODY_MAX - 4),
			 P2P_RECORDS_BYTES_MAX / 4 / P2P_RECORD_BODY_MAX - 1);
	the_others_can_work();
}

/* An admin has no more room by admitting others, and these have less than it. */
static void admitted_ones_are_charged_to_who_admitted_them(void **state)
{
	size_t taken, all = 0;
	uint32_t i, people_made = 8;

	(void)state;
	assert_int_equal(admit(&people[ADMIN], &crowd[0], P2P__V1__ROLE__ROLE_ADMIN, 0), 0);
	taken = fill(&crowd[0], 0);
	assert_int_equal(taken, P2P_RECORDS_MAX / 8);
	for (i = 1; i < people_made; i++) {
		assert_int_equal(admit(&people[ADMIN], &crowd[i], P2P__V1__ROLE__ROLE_WRITER, 0),
				 all < P2P_RECORDS_MAX / 8 - 2 ? 0 : P2P_EQUOTA);
		if (p2p_authority_role(authority, &crowd[i].signer.node) !=
		    P2P__V1__ROLE__ROLE_NONE)
			all += 1 + fill(&crowd[i], 0);
	}
	assert_int_equal(taken + all + 1, P2P_RECORDS_MAX / 4);
	the_others_can_work();
}

/* Keys are free: whoever signs without being a member shares one room with all the others. */
static void strangers_share_one_room(void **state)
{
	size_t taken = 0;
	uint32_t i;

	(void)state;
	for (i = 0; junk(&crowd[i % BIG], 0, i) == 0; i++)
		taken++;
	assert_int_equal(taken, P2P_RECORDS_MAX / 8);
	assert_int_equal(certify(&people[STRANGER], 9, 0), P2P_EQUOTA);
	the_others_can_work();
	/* one that becomes a member takes what it signed with it */
	assert_int_equal(admit(&people[FOUNDER], &crowd[0], P2P__V1__ROLE__ROLE_WRITER, 1), 0);
	assert_int_equal(certify(&crowd[0], 9, 0), 0);
	assert_int_equal(certify(&people[STRANGER], 9, 0), 0);
}

/* Records by one who may not are no heads, nor do they hide any; those of an admin that makes more
 * than there is room for leave the others' in. */
static void heads_of_one_member_leave_the_others_in(void **state)
{
	static struct p2p_hash heads[2 * P2P_RECORD_PARENTS_MAX];
	struct membership_admission hiding = {.by = &people[STRANGER],
					      .whom = &people[STRANGER],
					      .role = P2P__V1__ROLE__ROLE_ADMIN,
					      .parents = heads};
	struct membership_admission real = {.by = &people[FOUNDER],
					    .whom = &people[OTHER],
					    .role = P2P__V1__ROLE__ROLE_WRITER,
					    .nonce = 7,
					    .parents = heads};
	struct member_record record;
	size_t i, found = 0, count;

	(void)state;
	hiding.parent_count = p2p_authority_heads(authority, heads, P2P_RECORD_PARENTS_MAX);
	membership_admit(&record, &genesis.hash, &hiding);
	assert_int_equal(take(&record), 0);
	assert_int_equal(p2p_authority_heads(authority, heads, P2P_RECORD_PARENTS_MAX),
			 hiding.parent_count);
	/* the founder names all that it knows; now there is one head */
	real.parent_count = hiding.parent_count;
	membership_admit(&record, &genesis.hash, &real);
	assert_int_equal(p2p_authority_add(authority, record.raw.data, record.raw.len), 0);
	assert_int_equal(p2p_authority_heads(authority, heads, P2P_RECORD_PARENTS_MAX), 1);
	for (i = 0; i < 2 * P2P_RECORD_PARENTS_MAX; i++)
		assert_int_equal(admit(&people[ADMIN], &crowd[i], P2P__V1__ROLE__ROLE_READER, 0),
				 0);
	count = p2p_authority_heads(authority, heads, P2P_RECORD_PARENTS_MAX);
	assert_int_equal(count, P2P_RECORD_PARENTS_MAX);
	for (i = 0; i < count; i++)
		found += p2p_hash_cmp(&heads[i], &record.hash) == 0;
	assert_int_equal(found, 1);
	assert_int_equal(p2p_authority_heads(authority, heads, 2 * P2P_RECORD_PARENTS_MAX),
			 2 * P2P_RECORD_PARENTS_MAX);
	membership_record_free(&record);
}

static void a_record_names_at_most_256_parents(void **state)
{
	static struct p2p_hash parents[P2P_RECORD_PARENTS_MAX + 1];
	struct membership_admission admission = {.by = &people[ADMIN],
						 .whom = &crowd[0],
						 .role = P2P__V1__ROLE__ROLE_READER,
						 .parents = parents,
						 .parent_count = P2P_RECORD_PARENTS_MAX + 1};
	struct member_record record;

	(void)state;
	membership_admit(&record, &genesis.hash, &admission);
	assert_int_equal(take(&record), P2P_ETOOBIG);
	admission.parent_count--;
	membership_admit(&record, &genesis.hash, &admission);
	assert_int_equal(take(&record), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(work_grows_with_the_records),
		CASE(a_full_set_still_knows_its_records),
		CASE(a_full_set_is_full_whoever_filled_it),
		CASE(the_bytes_of_all_records_are_bounded),
		CASE(a_members_junk_leaves_room_for_the_others),
		CASE(a_members_bytes_leave_room_for_the_others),
		CASE(admitted_ones_are_charged_to_who_admitted_them),
		CASE(strangers_share_one_room),
		CASE(heads_of_one_member_leave_the_others_in),
		CASE(a_record_names_at_most_256_parents),
	};
	uint32_t i;

	if (sodium_init() < 0)
		return 1;
	for (i = 0; i < PEOPLE; i++)
		membership_member(&people[i], i);
	for (i = 0; i <= BIG; i++)
		membership_member(&crowd[i], 1000 + i);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
