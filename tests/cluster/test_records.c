/* Membership records at a replica: what is in memory and told is in the log, whatever fails
 * between, and records that there is no room for cost nobody but who signed them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sodium.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "crdt/sidelog.h"
#include "proto/limits.h"
#include "tests/support/cluster.h"
#include "tests/support/memfault.h"
#include "tests/support/membership.h"

#define FAULTS_MAX 3000
#define BATCH	   64

static struct cluster cluster;

static struct p2p_replica *replica(void)
{
	return cluster.nodes[0].replica;
}

static size_t count(void)
{
	return p2p_authority_count(p2p_replica_authority(replica()));
}

static bool has(const struct member_record *record)
{
	return p2p_authority_has_prefix(p2p_replica_authority(replica()), record->hash.bytes);
}

static int setup(void **state)
{
	(void)state;
	cluster_init(&cluster, 1);
	cluster_share(&cluster, "CREATE TABLE t(a PRIMARY KEY, b)");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	cluster_deinit(&cluster);
	return 0;
}

static void restart(void)
{
	cluster_kill(&cluster, 0);
	cluster_start(&cluster, 0);
}

static int add(const struct member_record *record)
{
	return p2p_replica_add_record(replica(), record->raw.data, record->raw.len, NULL);
}

/* One at a time: an allocation fails in each try until one goes through. */
static void what_could_not_be_stored_is_taken_back(void **state)
{
	struct member_record record;
	struct member stranger;
	size_t before;
	uint64_t nth, failed = 1;
	int rc;

	(void)state;
	membership_member(&stranger, 1);
	for (nth = 0; failed && nth < FAULTS_MAX; nth++) {
		struct p2p_id id = membership_replica(&stranger, (uint32_t)nth);

		membership_certify(&record, &cluster.mesh, &stranger, &id, 0);
		before = count();
		memfault_arm(nth, nth % 2);
		rc = add(&record);
		failed = memfault_disarm();
		assert_true(rc == 0 || rc == P2P_ENOMEM);
		assert_int_equal(has(&record), rc == 0);
		assert_int_equal(count(), before + (rc == 0));
		if (nth % 16 == 0) {
			before = count();
			restart();
			assert_int_equal(count(), before);
		}
		assert_int_equal(add(&record), 0); /* known, or taken now */
		assert_true(has(&record));
		membership_record_free(&record);
	}
	assert_true(nth > 10 && nth < FAULTS_MAX);
	before = count();
	restart();
	assert_int_equal(count(), before);
}

/* As one message of a peer brings them. fault: the allocation that fails on the way; FAULTS_MAX:
 * none. */
static int add_batch_faulty(const struct member_record *records, size_t number, uint64_t fault,
			    size_t *out_new)
{
	const P2p__V1__Signed *batch[BATCH];
	const ProtobufCMessage *base;
	void *arenas[BATCH];
	size_t i;
	int rc;

	for (i = 0; i < number; i++) {
		assert_int_equal(p2p_unpack(&p2p__v1__signed__descriptor, records[i].raw.data,
					    records[i].raw.len, &base, &arenas[i]),
				 0);
		batch[i] = (const P2p__V1__Signed *)base;
	}
	if (fault != FAULTS_MAX)
		memfault_arm(fault, fault % 2);
	rc = p2p_replica_add_records(replica(), batch, number, out_new, NULL);
	while (i)
		p2p_unpack_free(arenas[--i]);
	return rc;
}

static int add_batch(const struct member_record *records, size_t number, size_t *out_new)
{
	return add_batch_faulty(records, number, FAULTS_MAX, out_new);
}

/* Of a batch the first ones may have been taken: those are stored, too. */
static void what_could_not_be_stored_of_a_batch_is_taken_back(void **state)
{
	struct member_record records[3];
	struct member stranger;
	uint64_t nth, failed = 1;
	size_t before, added, i;
	int rc;

	(void)state;
	membership_member(&stranger, 2);
	for (nth = 0; failed && nth < FAULTS_MAX; nth++) {
		for (i = 0; i < 3; i++)
			membership_unknown(&records[i], &cluster.mesh, &stranger, i, (uint32_t)nth);
		before = count();
		rc = add_batch_faulty(records, 3, nth, &added);
		failed = memfault_disarm();
		assert_true(rc == 0 || rc == P2P_ENOMEM);
		assert_int_equal(count(), before + added);
		before = count();
		restart(); /* its statements are new for the next fault, too */
		assert_int_equal(count(), before);
		assert_int_equal(add_batch(records, 3, &added), 0);
		restart();
		for (i = 0; i < 3; i++) {
			assert_true(has(&records[i]));
			membership_record_free(&records[i]);
		}
	}
	assert_true(nth > 10 && nth < FAULTS_MAX);
	before = count();
	restart();
	assert_int_equal(count(), before);
}

static void strangers_fill_their_room(const struct member *stranger)
{
	static struct member_record records[BATCH];
	uint32_t i, nonce = 0;
	size_t added = 1;

	while (added) {
		for (i = 0; i < BATCH; i++)
			membership_unknown(&records[i], &cluster.mesh, stranger, 0, nonce++);
		assert_int_equal(add_batch(records, BATCH, &added), 0);
		for (i = 0; i < BATCH; i++)
			membership_record_free(&records[i]);
		assert_true(nonce <= P2P_RECORDS_MAX);
	}
}

/* A peer that had room for what we have none for is no liar: the session goes on. */
static void records_without_room_do_not_stop_the_others(void **state)
{
	struct membership_admission admission = {.role = P2P__V1__ROLE__ROLE_WRITER};
	struct member stranger, founder = {.signer = cluster.nodes[0].signer};
	struct member_record batch[3];
	size_t added, before;

	(void)state;
	membership_member(&stranger, 1);
	memcpy(founder.secret, cluster.nodes[0].secret, sizeof(founder.secret));
	strangers_fill_their_room(&stranger);
	admission.by = &founder;
	admission.whom = &stranger;
	membership_unknown(&batch[0], &cluster.mesh, &stranger, 1, 0);
	membership_admit(&batch[1], &cluster.mesh, &admission);
	membership_unknown(&batch[2], &cluster.mesh, &stranger, 2, 0); /* has room of its own */
	assert_int_equal(add_batch(batch, 3, &added), 0);
	assert_int_equal(added, 2);
	assert_false(has(&batch[0]));
	assert_true(has(&batch[1]) && has(&batch[2]));
	before = count();
	restart();
	assert_int_equal(count(), before);
	assert_int_equal(add_batch(batch, 3, &added), 0); /* and now there is room for it */
	assert_int_equal(added, 1);
	for (added = 0; added < 3; added++)
		membership_record_free(&batch[added]);
}

/* Whoever passes a record on could hang megabytes on it, which its signer would pay for. */
static void what_is_hung_on_a_record_is_not_kept(void **state)
{
	static uint8_t junk[50000];
	struct member stranger;
	struct member_record record;
	struct p2p_buf longer;
	size_t added, len;

	(void)state;
	membership_member(&stranger, 5);
	membership_unknown(&record, &cluster.mesh, &stranger, 5, 0);
	len = record.raw.len;
	p2p_buf_init(&longer, P2P_RECORD_BODY_MAX);
	p2p_buf_put(&longer, record.raw.data, len);
	p2p_buf_put_varint(&longer, 77 << 3 | 2); /* a field that nobody knows */
	p2p_buf_put_bytes(&longer, junk, sizeof(junk));
	p2p_buf_deinit(&record.raw);
	record.raw = longer;
	assert_int_equal(add_batch(&record, 1, &added), 0);
	assert_int_equal(added, 1);
	assert_int_equal(
		p2p_authority_record(p2p_replica_authority(replica()), count() - 1)->raw_len, len);
	membership_record_free(&record);
}

/* Bytes that the library asks for to take one record more. */
static uint64_t cost(const struct member *founder, uint32_t number)
{
	struct p2p_id table = membership_id(number);
	struct membership_schema schema = {.by = founder, .table = &table, .text_len = 1000};
	struct member_record record;
	uint64_t before;
	size_t added;

	membership_describe(&record, &cluster.mesh, &schema);
	before = memfault_bytes();
	assert_int_equal(add_batch(&record, 1, &added), 0);
	assert_int_equal(added, 1);
	before = memfault_bytes() - before;
	membership_record_free(&record);
	return before;
}

/* Each record that came made the node look through all tables of the mesh. */
static void a_table_more_costs_the_same_however_many_there_are(void **state)
{
	struct member founder = {.signer = cluster.nodes[0].signer};
	uint64_t few = 0, many = 0;
	uint32_t i;

	(void)state;
	memcpy(founder.secret, cluster.nodes[0].secret, sizeof(founder.secret));
	for (i = 0; i < 320; i++) {
		uint64_t bytes = cost(&founder, i + 1);

		few += i < 20 ? bytes : 0;
		many += i >= 300 ? bytes : 0;
	}
	assert_true(many < 2 * few);
}

/* One that may write says nonsense of tables: of one whose name another table has here, and of one
 * that nobody can make. It made taking any record fail, here and at whoever joined. */
static void nonsense_about_tables_stops_nobody(void **state)
{
	static const char *const names[] = {"t", "nobody_can_make_it", "sqlite_x", ""};
	struct member founder = {.signer = cluster.nodes[0].signer};
	struct member_record record;
	size_t added, i;

	(void)state;
	memcpy(founder.secret, cluster.nodes[0].secret, sizeof(founder.secret));
	for (i = 0; i < 4; i++) {
		struct p2p_id table = membership_id((uint32_t)i);
		struct membership_schema schema = {.by = &founder,
						   .table = &table,
						   .text_len = 10,
						   .name = names[i]};

		membership_describe(&record, &cluster.mesh, &schema);
		assert_int_equal(add_batch(&record, 1, &added), 0);
		membership_record_free(&record);
		membership_unknown(&record, &cluster.mesh, &founder, i, 0);
		assert_int_equal(add_batch(&record, 1, &added), 0);
		membership_record_free(&record);
	}
	(void)cluster_join(&cluster); /* or it says what is wrong, and ends */
	cluster_connect(&cluster, 0, 1);
	cluster_sql(&cluster, 0, "INSERT INTO t VALUES(1, 2)");
	assert_true(cluster_settle(&cluster, 5000));
	assert_true(cluster_equal(&cluster));
}

/* Of a version with other shares: what there is no room for stays in the file, the rest counts. */
static void a_log_with_more_than_there_is_room_for_opens(void **state)
{
	struct p2p_sidelog *log;
	struct member stranger;
	struct member_record record;
	char path[160];
	size_t before;

	(void)state;
	membership_member(&stranger, 1);
	strangers_fill_their_room(&stranger);
	before = count();
	cluster_kill(&cluster, 0);
	(void)snprintf(path, sizeof(path), "%s/log.db", cluster.nodes[0].state);
	assert_int_equal(p2p_sidelog_open(path, NULL, &log, NULL), 0);
	membership_unknown(&record, &cluster.mesh, &stranger, 1, 0);
	assert_int_equal(p2p_sidelog_begin(log, NULL), 0);
	assert_int_equal(p2p_sidelog_put_record(log, &record.hash, record.raw.data, record.raw.len),
			 0);
	assert_int_equal(p2p_sidelog_commit(log, NULL), 0);
	p2p_sidelog_close(log);
	cluster_start(&cluster, 0);
	assert_int_equal(count(), before);
	assert_false(has(&record));
	membership_record_free(&record);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(what_could_not_be_stored_is_taken_back),
		CASE(what_could_not_be_stored_of_a_batch_is_taken_back),
		CASE(records_without_room_do_not_stop_the_others),
		CASE(what_is_hung_on_a_record_is_not_kept),
		CASE(a_table_more_costs_the_same_however_many_there_are),
		CASE(nonsense_about_tables_stops_nobody),
		CASE(a_log_with_more_than_there_is_room_for_opens),
	};

	memfault_install(true);
	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
