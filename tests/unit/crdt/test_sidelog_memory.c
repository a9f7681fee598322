/* The side log when memory runs out: each allocation of a life of a log fails, its own and
 * SQLite's, alone and with all after it, from opening over writing, receiving, checking and reading
 * to dropping. What was committed is there, whole, and nothing else is; nothing leaks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// cmocka needs the four above
#include <cmocka.h>

#include "crdt/sidelog.h"
#include "proto/limits.h"
#include "proto/mem.h"
#include "tests/support/memfault.h"

#define STEPS	  6
#define NTH_MAX	  20000
#define BIG_BYTES (2 * P2P_SEGMENT_BYTES + 500)

static char dir[64], path[96];
static const struct p2p_hash mesh = {{1}};
static const struct p2p_id me = {{2}}, other = {{3}};
static uint8_t secret[64], public[32];

/* --- what is written -------------------------------------------------------------------------- */

/* Bytes of the one record of a changeset. */
static size_t record_bytes(uint64_t seq)
{
	return seq % 2 ? 40 : BIG_BYTES;
}

static void record_put(struct p2p_buf *out, uint64_t seq)
{
	size_t len = record_bytes(seq);

	p2p_buf_put_varint(out, len);
	if (!p2p_buf_reserve(out, len))
		return;
	memset(out->data + out->len, (int)seq, len);
	out->len += len;
}

static void header_fill(struct p2p_header *header, const struct p2p_id *replica,
			const struct p2p_vv_entry *head)
{
	p2p_header_init(header);
	header->format = header->min_reader = 1;
	header->replica = *replica;
	header->seq = head->seq + 1;
	header->prev = head->head;
	header->stamp.value = header->seq;
	header->group_last = true;
}

/* A changeset of one's own, as freezing makes it. */
static int write_own(struct p2p_sidelog *log, const struct p2p_id *replica)
{
	struct p2p_body_writer *writer = NULL;
	struct p2p_vv_entry head;
	struct p2p_header header;
	struct p2p_hash hash;
	struct p2p_buf record;
	int rc = p2p_sidelog_head(log, replica, &head);

	if (rc)
		return rc;
	header_fill(&header, replica, &head);
	p2p_buf_init(&record, P2P_RECORD_BYTES_MAX);
	record_put(&record, header.seq);
	rc = p2p_buf_error(&record);
	if (!rc)
		rc = p2p_body_writer_open(log, replica, header.seq, &writer);
	if (!rc)
		rc = p2p_body_writer_put(writer, record.data, record.len);
	if (!rc)
		rc = p2p_body_writer_finish(writer, &header, &mesh, secret, 1, &hash);
	p2p_body_writer_close(writer);
	p2p_free(header.segments);
	p2p_buf_deinit(&record);
	return rc;
}

static int segments_put(struct p2p_sidelog *log, const struct p2p_stored *at,
			const struct p2p_buf *body)
{
	uint32_t i;
	int rc = 0;

	for (i = 0; i < at->segment_count && !rc; i++) {
		size_t from = (size_t)i * P2P_SEGMENT_BYTES, len = body->len - from;

		rc = p2p_sidelog_put_segment(log, &at->replica, at->seq, i, body->data + from,
					     len > P2P_SEGMENT_BYTES ? P2P_SEGMENT_BYTES : len);
	}
	return rc;
}

/* Another one's changeset, as it comes: header first, checked, then segment by segment. */
static int receive(struct p2p_sidelog *log)
{
	struct p2p_hash segments[3];
	struct p2p_vv_entry head;
	struct p2p_header header;
	struct p2p_stored at;
	struct p2p_buf raw, body;
	size_t i;
	int rc = p2p_sidelog_head(log, &other, &head);

	if (rc)
		return rc;
	memset(&at, 0, sizeof(at));
	header_fill(&header, &other, &head);
	p2p_buf_init(&raw, P2P_HEADER_BYTES_MAX);
	p2p_buf_init(&body, P2P_RECORD_BYTES_MAX);
	record_put(&body, header.seq);
	header.total_bytes = body.len;
	header.segment_bytes = P2P_SEGMENT_BYTES;
	header.segment_count = (body.len + P2P_SEGMENT_BYTES - 1) / P2P_SEGMENT_BYTES;
	header.segments = segments;
	rc = p2p_buf_error(&body);
	for (i = 0; i < header.segment_count && !rc; i++) {
		size_t from = i * P2P_SEGMENT_BYTES, len = body.len - from;

		p2p_hash_bytes(&segments[i], body.data + from,
			       len > P2P_SEGMENT_BYTES ? P2P_SEGMENT_BYTES : len);
	}
	if (!rc)
		rc = p2p_header_pack(&raw, &header);
	if (!rc) {
		at.replica = other;
		at.seq = header.seq;
		at.raw = raw.data;
		at.raw_len = raw.len;
		at.stamp = header.stamp.value;
		at.group_last = at.has_signature = true;
		at.total_bytes = header.total_bytes;
		at.segment_count = (uint32_t)header.segment_count;
		p2p_header_hash(&at.hash, &mesh, raw.data, raw.len);
		p2p_header_sign(&at.signature, &mesh, &at.hash, secret);
		rc = p2p_sidelog_put_header(log, &at);
	}
	if (!rc)
		rc = segments_put(log, &at, &body);
	p2p_buf_deinit(&raw);
	p2p_buf_deinit(&body);
	return rc;
}

static int lists_put(struct p2p_sidelog *log)
{
	struct p2p_known_peer peer = {.name = "b", .address = "10.0.0.1:5"};
	struct p2p_invite invite = {.id = {{4}}, .uses_left = 3};
	int rc = p2p_sidelog_put_peer(log, &peer);

	if (!rc)
		rc = p2p_sidelog_put_seed(log, "seed.lan:1");
	if (!rc)
		rc = p2p_sidelog_put_invite(log, &invite);
	if (!rc)
		rc = p2p_sidelog_put_record(log, &mesh, "\1", 1);
	return rc ? rc : p2p_sidelog_meta_set(log, "key", "abc", 3);
}

/* One step is one transaction; together they are the whole life. */
static int step(struct p2p_sidelog *log, size_t number)
{
	int rc = 0;

	switch (number) {
	case 0:
		rc = write_own(log, &me);
		break;
	case 1:
		rc = lists_put(log);
		return rc ? rc : write_own(log, &me);
	case 2:
	case 3:
		rc = receive(log);
		return rc ? rc : receive(log);
	case 4:
		rc = write_own(log, &me);
		break;
	default:
		return p2p_sidelog_drop(log, &other, 3);
	}
	return rc;
}

/* Heads of both after so many steps. */
static const uint64_t heads_after[STEPS + 1][2] = {{0, 0}, {1, 0}, {2, 0}, {2, 2},
						   {2, 4}, {3, 4}, {3, 2}};

/* --- what must be there ----------------------------------------------------------------------- */

/* Reads one back as a sender does: header, signature, segments, records. 0 or an error. */
static int verify(struct p2p_sidelog *log, const struct p2p_id *replica, uint64_t seq)
{
	struct p2p_body_reader *reader = NULL;
	struct p2p_header header;
	const uint8_t *data;
	struct p2p_stored at;
	struct p2p_buf segment;
	struct p2p_hash hash;
	size_t len, i;
	int rc = p2p_sidelog_get(log, replica, seq, &at);

	if (rc)
		return rc;
	p2p_buf_init(&segment, P2P_SEGMENT_BYTES);
	p2p_header_init(&header);
	rc = p2p_header_unpack(&header, at.raw, at.raw_len);
	for (i = 0; !rc && i < header.segment_count; i++) {
		rc = p2p_sidelog_get_segment(log, replica, seq, (uint32_t)i, &segment);
		p2p_hash_bytes(&hash, segment.data, segment.len);
		if (!rc)
			assert_memory_equal(&hash, &header.segments[i], sizeof(hash));
	}
	if (!rc) {
		p2p_header_hash(&hash, &mesh, at.raw, at.raw_len);
		assert_memory_equal(&hash, &at.hash, sizeof(hash));
		assert_int_equal(at.segments_have, at.segment_count);
		rc = p2p_body_reader_open(log, &at, &reader);
	}
	if (!rc)
		rc = p2p_body_reader_next(reader, &data, &len);
	if (!rc) {
		assert_int_equal(len, record_bytes(seq));
		assert_int_equal(data[len - 1], (uint8_t)seq);
		rc = p2p_body_reader_next(reader, &data, &len);
	}
	if (!rc)
		assert_null(data);
	if (reader)
		p2p_body_reader_close(reader);
	p2p_header_deinit(&header);
	p2p_buf_deinit(&segment);
	p2p_stored_deinit(&at);
	return rc;
}

static int count_row(void *ctx, const void *raw, size_t len)
{
	(void)raw;
	(void)len;
	++*(size_t *)ctx;
	return 0;
}

static int verify_all(struct p2p_sidelog *log, const uint64_t heads[2])
{
	const struct p2p_id *replicas[] = {&me, &other};
	struct p2p_vv vector;
	struct p2p_vv_entry head;
	struct p2p_stored at;
	size_t i, records = 0;
	uint64_t seq;
	int rc;

	p2p_vv_init(&vector);
	rc = p2p_sidelog_vector(log, &vector);
	if (!rc)
		rc = p2p_sidelog_each_record(log, count_row, &records);
	for (i = 0; i < 2 && !rc; i++) {
		rc = p2p_sidelog_head(log, replicas[i], &head);
		if (!rc)
			assert_int_equal(head.seq, heads[i]);
		for (seq = 1; seq <= heads[i] && !rc; seq++)
			rc = verify(log, replicas[i], seq);
		if (rc)
			break;
		assert_int_equal(p2p_vv_seq(&vector, replicas[i]), heads[i]);
		rc = p2p_sidelog_get(log, replicas[i], heads[i] + 1, &at);
		assert_int_not_equal(rc, 0);
		rc = rc == P2P_ENOENT ? 0 : rc;
	}
	if (!rc)
		assert_int_equal(records, heads[0] > 1);
	p2p_vv_deinit(&vector);
	return rc;
}

/* --- the life --------------------------------------------------------------------------------- */

static void no_memory(int rc)
{
	if (rc)
		assert_int_equal(rc, P2P_ENOMEM);
}

/* The steps from *done on. Stops at the first error, rolled back. *out_doubt: the commit failed,
 * and nobody knows. */
static int live(struct p2p_sidelog *log, size_t *done, bool *out_doubt)
{
	int rc = 0;

	*out_doubt = false;
	for (; *done < STEPS; ++*done) {
		rc = p2p_sidelog_begin(log, NULL);
		if (rc)
			return rc;
		rc = step(log, *done);
		if (rc) {
			p2p_sidelog_rollback(log);
			return rc;
		}
		rc = p2p_sidelog_commit(log, NULL);
		if (rc) {
			*out_doubt = true;
			return rc;
		}
		rc = verify_all(log, heads_after[*done + 1]);
		if (rc) {
			++*done;
			return rc;
		}
	}
	return rc;
}

/* After a commit that failed, either all of it is there or nothing. */
static size_t settle_doubt(struct p2p_sidelog *log, size_t done)
{
	struct p2p_vv_entry mine, others;

	assert_int_equal(p2p_sidelog_head(log, &me, &mine), 0);
	assert_int_equal(p2p_sidelog_head(log, &other, &others), 0);
	return mine.seq == heads_after[done + 1][0] && others.seq == heads_after[done + 1][1]
		       ? done + 1
		       : done;
}

static void files_remove(void)
{
	static const char *const ends[] = {"", "-wal", "-shm", "-journal"};
	char file[128];
	size_t i;

	for (i = 0; i < 4; i++) {
		(void)snprintf(file, sizeof(file), "%s%s", path, ends[i]);
		(void)unlink(file);
	}
}

/* A life with one fault, then the rest of it with memory. Returns how many allocations failed. */
static uint64_t faulty_life(uint64_t nth, bool sticky)
{
	struct p2p_sidelog *log = NULL;
	size_t done = 0, alive = memfault_live();
	bool doubt = false, again;
	uint64_t failed;
	int rc;

	memfault_arm(nth, sticky);
	rc = p2p_sidelog_open(path, NULL, &log, NULL);
	no_memory(rc);
	if (!rc)
		no_memory(live(log, &done, &doubt));
	failed = memfault_disarm();
	if (rc)
		assert_int_equal(p2p_sidelog_open(path, NULL, &log, NULL), 0);
	assert_int_equal(p2p_sidelog_begin(log, NULL), 0); /* opened anew, if it was lost */
	p2p_sidelog_rollback(log);
	if (doubt)
		done = settle_doubt(log, done);
	assert_int_equal(verify_all(log, heads_after[done]), 0);
	assert_int_equal(live(log, &done, &again), 0);
	p2p_sidelog_close(log);
	assert_int_equal(p2p_sidelog_open(path, NULL, &log, NULL), 0);
	assert_int_equal(verify_all(log, heads_after[STEPS]), 0);
	p2p_sidelog_close(log);
	assert_int_equal(memfault_live(), alive);
	files_remove();
	return failed;
}

/* Every one until two lives in a row needed fewer. Returns the number of lives. */
static uint64_t all_faults(bool spare_sqlite, uint64_t stride)
{
	uint64_t all = 0;
	uint64_t nth, quiet;
	uint32_t sticky;

	memfault_spare_sqlite(spare_sqlite);
	for (sticky = 0; sticky < 2; sticky++) {
		uint64_t lives = 0;

		for (nth = quiet = 0; nth < NTH_MAX && quiet < 2; nth += stride, lives++)
			quiet = faulty_life(nth, sticky) ? 0 : quiet + 1;
		assert_true(nth < NTH_MAX);
		all += lives;
		print_message("%llu lives, up to allocation %llu%s\n", (unsigned long long)lives,
			      (unsigned long long)nth, sticky ? " and all after it" : "");
	}
	return all;
}

static struct memfault_report report = {
	.name = "memory-sidelog",
	.title = "Side log: each allocation of a life fails, once and for good",
	.command = "P2P_RELIABILITY=FOLDER build/tests/unit/crdt/test_crdt_sidelog_memory",
	.not_tested = "two single allocations that fail in one life",
	.labels = {"lives, an allocation of ours fails", "lives, one of SQLite's or ours"}};

static void its_own_allocations_fail(void **state)
{
	(void)state;
	report.values[0] = all_faults(true, 1);
}

/* Each seventh; all of them where figures are wanted. */
static void sqlites_allocations_fail(void **state)
{
	(void)state;
	report.values[1] = all_faults(false, memfault_reports() ? 1 : 7);
	memfault_report(&report);
}

static int setup(void **state)
{
	(void)state;
	/* thousands of lives: in memory, where there is such a place */
	(void)snprintf(dir, sizeof(dir), "%s/p2p-sidelog-XXXXXX",
		       access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/log.db", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	files_remove();
	(void)rmdir(dir);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(its_own_allocations_fail),
		cmocka_unit_test(sqlites_allocations_fail),
	};
	unsigned char seed[32] = {5};

	memfault_install(true);
	if (sodium_init() < 0 || crypto_sign_seed_keypair(public, secret, seed))
		return 1;
	return cmocka_run_group_tests(tests, setup, teardown);
}
