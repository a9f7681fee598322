/* The side log: heads move only over what is whole, forks are seen, what was rolled back is gone,
 * and bodies of any size come back record by record. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
// cmocka needs the four above
#include <cmocka.h>

#include <sqlite3.h>

#include "crdt/sidelog.h"
#include "crdt/sidelog_private.h"
#include "tests/support/memfault.h"
#include "proto/limits.h"
#include "proto/mem.h"

static char dir[64], path[96];
static struct p2p_sidelog *sidelog;
static const struct p2p_hash mesh = {{1}};
static const struct p2p_id me = {{2}}, other = {{3}};
static uint8_t secret[64];

static int setup(void **state)
{
	(void)state;
	(void)snprintf(dir, sizeof(dir), "/tmp/p2p-sidelog-XXXXXX");
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/log.db", dir);
	assert_int_equal(p2p_sidelog_open(path, NULL, &sidelog, NULL), 0);
	return 0;
}

static int teardown(void **state)
{
	static const char *const ends[] = {"", "-wal", "-shm"};
	char file[128];
	size_t i;

	(void)state;
	p2p_sidelog_close(sidelog);
	for (i = 0; i < 3; i++) {
		(void)snprintf(file, sizeof(file), "%s%s", path, ends[i]);
		(void)unlink(file);
	}
	(void)rmdir(dir);
	return 0;
}

static void reopen(void)
{
	p2p_sidelog_close(sidelog);
	assert_int_equal(p2p_sidelog_open(path, NULL, &sidelog, NULL), 0);
}

static uint64_t head_of(const struct p2p_id *replica)
{
	struct p2p_vv_entry head;

	assert_int_equal(p2p_sidelog_head(sidelog, replica, &head), 0);
	return head.seq;
}

static struct p2p_stored stored(const struct p2p_id *replica, uint64_t seq, uint32_t segments)
{
	static uint8_t raw[] = {1, 2, 3};
	struct p2p_stored out;

	memset(&out, 0, sizeof(out));
	out.replica = *replica;
	out.seq = seq;
	out.raw = raw;
	out.raw_len = sizeof(raw);
	out.hash.bytes[0] = (uint8_t)seq;
	out.stamp = seq * 10;
	out.group_last = true;
	out.total_bytes = (uint64_t)segments * P2P_SEGMENT_BYTES;
	out.segment_count = segments;
	return out;
}

static int put(const struct p2p_id *replica, uint64_t seq, uint32_t segments)
{
	struct p2p_stored at = stored(replica, seq, segments);

	return p2p_sidelog_put_header(sidelog, &at);
}

static void heads_move_only_over_what_is_whole(void **state)
{
	static uint8_t segment[P2P_SEGMENT_BYTES];

	(void)state;
	assert_int_equal(p2p_sidelog_begin(sidelog, NULL), 0);
	assert_int_equal(put(&me, 1, 0), 0);
	assert_int_equal(put(&me, 2, 2), 0);
	assert_int_equal(put(&me, 3, 0), 0);
	assert_int_equal(head_of(&me), 1);
	assert_int_equal(p2p_sidelog_put_segment(sidelog, &me, 2, 1, segment, sizeof(segment)),
			 P2P_EINVAL);
	assert_int_equal(p2p_sidelog_put_segment(sidelog, &me, 2, 0, segment, sizeof(segment)), 0);
	assert_int_equal(p2p_sidelog_staged_bytes(sidelog), P2P_SEGMENT_BYTES);
	assert_int_equal(p2p_sidelog_commit(sidelog, NULL), 0);
	reopen();
	assert_int_equal(head_of(&me), 1);
	assert_int_equal(p2p_sidelog_begin(sidelog, NULL), 0);
	assert_int_equal(p2p_sidelog_put_segment(sidelog, &me, 2, 1, segment, sizeof(segment)), 0);
	assert_int_equal(head_of(&me), 3); /* over the one that was waiting, too */
	p2p_sidelog_rollback(sidelog);
	assert_int_equal(head_of(&me), 1);
	assert_int_equal(head_of(&other), 0);
}

/* A header names up to 16 384 segments: read again with each, it made the cost of a changeset the
 * square of its size. */
static void a_segment_costs_the_same_whatever_the_header(void **state)
{
	static uint8_t raw[P2P_HEADER_BYTES_MAX], segment[P2P_SEGMENT_BYTES];
	struct p2p_stored at = stored(&me, 1, P2P_SEGMENTS_MAX);
	uint64_t before;
	uint32_t i;

	(void)state;
	at.raw = raw;
	at.raw_len = sizeof(raw);
	assert_int_equal(p2p_sidelog_begin(sidelog, NULL), 0);
	assert_int_equal(p2p_sidelog_put_header(sidelog, &at), 0);
	before = memfault_bytes();
	for (i = 0; i < 4; i++)
		assert_int_equal(p2p_sidelog_put_segment(sidelog, &me, 1, i, segment, 1), 0);
	assert_true(memfault_bytes() - before < P2P_SEGMENT_BYTES);
	assert_int_equal(p2p_sidelog_put_segment(sidelog, &me, 1, 5, segment, 1), P2P_EINVAL);
	assert_int_equal(p2p_sidelog_put_segment(sidelog, &me, 2, 0, segment, 1), P2P_EINVAL);
	assert_int_equal(p2p_sidelog_put_segment(sidelog, &me, 0, 0, segment, 1), P2P_EINVAL);
	assert_int_equal(p2p_sidelog_put_segment(sidelog, &other, 1, 0, segment, 1), P2P_EINVAL);
	p2p_sidelog_rollback(sidelog);
}

/* A merge asks for one of every replica that the author saw. */
static void a_stamp_costs_the_same_whatever_the_header(void **state)
{
	static uint8_t raw[P2P_HEADER_BYTES_MAX];
	struct p2p_stored at = stored(&me, 1, P2P_SEGMENTS_MAX);
	struct p2p_hlc stamp = {7};
	uint64_t before;

	(void)state;
	at.raw = raw;
	at.raw_len = sizeof(raw);
	assert_int_equal(p2p_sidelog_begin(sidelog, NULL), 0);
	assert_int_equal(p2p_sidelog_put_header(sidelog, &at), 0);
	before = memfault_bytes();
	assert_int_equal(p2p_sidelog_stamp(sidelog, &me, 2, &stamp), P2P_ENOENT);
	assert_int_equal(p2p_sidelog_stamp(sidelog, &me, 0, &stamp), P2P_ENOENT);
	assert_int_equal(p2p_sidelog_stamp(sidelog, &other, 1, &stamp), P2P_ENOENT);
	assert_int_equal(stamp.value, 7);
	assert_int_equal(p2p_sidelog_stamp(sidelog, &me, 1, &stamp), 0);
	assert_int_equal(stamp.value, 10);
	assert_true(memfault_bytes() - before < P2P_SEGMENT_BYTES);
	p2p_sidelog_rollback(sidelog);
}

static void the_same_again_is_known_and_another_is_a_fork(void **state)
{
	struct p2p_stored at = stored(&me, 1, 0);

	(void)state;
	assert_int_equal(p2p_sidelog_begin(sidelog, NULL), 0);
	assert_int_equal(p2p_sidelog_put_header(sidelog, &at), 0);
	assert_int_equal(p2p_sidelog_put_header(sidelog, &at), P2P_EEXIST);
	at.hash.bytes[31] = 1;
	assert_int_equal(p2p_sidelog_put_header(sidelog, &at), P2P_EFORK);
	assert_int_equal(put(&me, 1ull << 41, 0), P2P_ETOOBIG);
	p2p_sidelog_rollback(sidelog);
}

static void dropping_takes_the_tail_and_the_head_goes_back(void **state)
{
	struct p2p_stored at;
	struct p2p_vv_entry head;
	uint64_t seq;

	(void)state;
	assert_int_equal(p2p_sidelog_begin(sidelog, NULL), 0);
	for (seq = 1; seq <= 5; seq++)
		assert_int_equal(put(&me, seq, 0) || put(&other, seq, 0), 0);
	assert_int_equal(p2p_sidelog_drop(sidelog, &me, 3), 0);
	assert_int_equal(p2p_sidelog_commit(sidelog, NULL), 0);
	reopen();
	assert_int_equal(p2p_sidelog_head(sidelog, &me, &head), 0);
	assert_int_equal(head.seq, 2);
	assert_int_equal(head.head.bytes[0], 2);
	assert_int_equal(head.stamp.value, 20);
	assert_int_equal(head_of(&other), 5);
	assert_int_equal(p2p_sidelog_get(sidelog, &me, 3, &at), P2P_ENOENT);
	assert_int_equal(p2p_sidelog_get(sidelog, &me, 2, &at), 0);
	p2p_stored_deinit(&at);
}

static int refuse(void *ctx)
{
	(void)ctx;
	return 1;
}

static void end_without_effect(bool commit)
{
	if (!commit) {
		p2p_sidelog_rollback(sidelog);
		return;
	}
	(void)sqlite3_commit_hook(sidelog->db, refuse, NULL);
	assert_int_not_equal(p2p_sidelog_commit(sidelog, NULL), 0);
	if (sidelog->db) /* of a file it is a new one */
		(void)sqlite3_commit_hook(sidelog->db, NULL, NULL);
}

/* A replica that was first met, a head that moved on, one that went back: all of it is forgotten,
 * in memory as in the file, and the numbers of replicas stay without a hole. */
static void what_is_rolled_back_is_forgotten(bool commit)
{
	static const struct p2p_id third = {{4}};

	assert_int_equal(p2p_sidelog_begin(sidelog, NULL), 0);
	assert_int_equal(put(&me, 1, 0) || put(&me, 2, 0), 0);
	assert_int_equal(p2p_sidelog_commit(sidelog, NULL), 0);
	assert_int_equal(p2p_sidelog_begin(sidelog, NULL), 0);
	assert_int_equal(put(&other, 1, 2), 0); /* no head moves: only the replica is new */
	end_without_effect(commit);
	assert_int_equal(p2p_sidelog_begin(sidelog, NULL), 0);
	assert_int_equal(put(&third, 1, 0), 0);
	assert_int_equal(put(&other, 1, 0), 0);
	assert_int_equal(p2p_sidelog_commit(sidelog, NULL), 0);
	assert_int_equal(p2p_sidelog_begin(sidelog, NULL), 0);
	assert_int_equal(put(&me, 3, 0), 0);
	end_without_effect(commit);
	assert_int_equal(head_of(&me), 2);
	assert_int_equal(p2p_sidelog_begin(sidelog, NULL), 0);
	assert_int_equal(p2p_sidelog_drop(sidelog, &me, 2), 0);
	assert_int_equal(head_of(&me), 1);
	end_without_effect(commit);
	assert_int_equal(head_of(&me), 2);
	assert_int_equal(head_of(&other), 1);
	assert_int_equal(head_of(&third), 1);
}

static void a_rollback_forgets_what_was_only_in_memory(void **state)
{
	(void)state;
	what_is_rolled_back_is_forgotten(false);
	reopen();
	assert_int_equal(head_of(&me), 2);
	assert_int_equal(head_of(&other), 1);
}

static void a_failed_commit_forgets_what_was_only_in_memory(void **state)
{
	struct p2p_sidelog *file = sidelog;

	(void)state;
	what_is_rolled_back_is_forgotten(true);
	assert_int_equal(p2p_sidelog_open(":memory:", NULL, &sidelog, NULL), 0);
	what_is_rolled_back_is_forgotten(true);
	p2p_sidelog_close(sidelog);
	sidelog = file;
}

/* Writes records of these sizes and reads them back. */
static void body_round_trip(const size_t *sizes, size_t count, uint32_t segments)
{
	struct p2p_body_writer *writer;
	struct p2p_body_reader *reader;
	struct p2p_header header;
	struct p2p_stored at;
	struct p2p_hash hash;
	struct p2p_buf record;
	const uint8_t *data;
	size_t i, len;

	p2p_header_init(&header);
	header.format = header.min_reader = 1;
	header.replica = me;
	header.seq = head_of(&me) + 1;
	if (header.seq > 1)
		header.prev.bytes[0] = 1;
	header.stamp.value = header.seq;
	header.group_last = true;
	p2p_buf_init(&record, P2P_RECORD_BYTES_MAX);
	assert_int_equal(p2p_sidelog_begin(sidelog, NULL), 0);
	assert_int_equal(p2p_body_writer_open(sidelog, &me, header.seq, &writer), 0);
	for (i = 0; i < count; i++) {
		p2p_buf_reset(&record);
		p2p_buf_put_varint(&record, sizes[i]);
		assert_non_null(p2p_buf_reserve(&record, sizes[i]));
		memset(record.data + record.len, (int)i, sizes[i]);
		assert_int_equal(p2p_body_writer_put(writer, record.data, record.len + sizes[i]),
				 0);
	}
	assert_int_equal(p2p_body_writer_finish(writer, &header, &mesh, secret, 42, &hash), 0);
	p2p_body_writer_close(writer);
	assert_int_equal(header.segment_count, segments);
	p2p_free(header.segments);
	assert_int_equal(p2p_sidelog_commit(sidelog, NULL), 0);
	assert_int_equal(head_of(&me), header.seq);
	assert_int_equal(p2p_sidelog_get(sidelog, &me, header.seq, &at), 0);
	assert_int_equal(at.journal, 42);
	assert_true(at.has_signature);
	assert_int_equal(p2p_body_reader_open(sidelog, &at, &reader), 0);
	for (i = 0; i < count; i++) {
		assert_int_equal(p2p_body_reader_next(reader, &data, &len), 0);
		assert_non_null(data);
		assert_int_equal(len, sizes[i]);
		assert_int_equal(data[0], (uint8_t)i);
		assert_int_equal(data[len - 1], (uint8_t)i);
	}
	assert_int_equal(p2p_body_reader_next(reader, &data, &len), 0);
	assert_null(data);
	p2p_body_reader_close(reader);
	p2p_stored_deinit(&at);
	p2p_buf_deinit(&record);
}

static void bodies_of_any_size_come_back(void **state)
{
	static const size_t none[1], small[] = {1, 2, 300};
	static const size_t exact[] = {P2P_SEGMENT_BYTES - 3}, over[] = {P2P_SEGMENT_BYTES - 2};
	static const size_t spans[] = {10, 1024 * 1024, 5}, edge[] = {P2P_SEGMENT_BYTES - 4, 200};

	(void)state;
	body_round_trip(none, 0, 0);
	body_round_trip(small, 3, 1);
	body_round_trip(exact, 1, 1);
	body_round_trip(over, 1, 2);
	body_round_trip(spans, 3, 17);
	body_round_trip(edge, 2, 2); /* a length that spans segments */
}

static void a_body_that_ends_inside_a_record_is_refused(void **state)
{
	static const uint8_t cut[] = {5, 1, 2}, length[] = {0x80}, zero[] = {0},
			     big[] = {0xff, 0xff, 0xff, 0xff, 0x7f};
	static const struct {
		const uint8_t *bytes;
		size_t len;
		int rc;
	} bodies[] = {{cut, 3, P2P_EPROTO},
		      {length, 1, P2P_EPROTO},
		      {zero, 1, P2P_EPROTO},
		      {big, 5, P2P_ETOOBIG}};
	size_t i, len;

	(void)state;
	for (i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		struct p2p_stored at = stored(&other, i + 1, 1);
		struct p2p_body_reader *reader;
		const uint8_t *data;

		assert_int_equal(p2p_sidelog_begin(sidelog, NULL), 0);
		assert_int_equal(p2p_sidelog_put_header(sidelog, &at), 0);
		assert_int_equal(p2p_sidelog_put_segment(sidelog, &other, i + 1, 0, bodies[i].bytes,
							 bodies[i].len),
				 0);
		assert_int_equal(p2p_sidelog_commit(sidelog, NULL), 0);
		assert_int_equal(p2p_body_reader_open(sidelog, &at, &reader), 0);
		assert_int_equal(p2p_body_reader_next(reader, &data, &len), bodies[i].rc);
		p2p_body_reader_close(reader);
	}
}

/* With segments in the file already, with one that fills, and with nothing. */
static void a_body_that_is_given_up_leaves_nothing(void **state)
{
	static const uint8_t bytes[3 * P2P_SEGMENT_BYTES + 1];
	static const size_t sizes[] = {0, 1, P2P_SEGMENT_BYTES, sizeof(bytes)};
	static const size_t exact[] = {P2P_SEGMENT_BYTES - 3};
	struct p2p_body_writer *writer;
	struct p2p_buf segment;
	size_t i, live;

	(void)state;
	p2p_buf_init(&segment, P2P_SEGMENT_BYTES);
	body_round_trip(exact, 1, 1); /* what the log itself keeps is there from now on */
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		live = memfault_live();
		assert_int_equal(p2p_sidelog_begin(sidelog, NULL), 0);
		assert_int_equal(p2p_body_writer_open(sidelog, &me, 2, &writer), 0);
		assert_int_equal(p2p_body_writer_put(writer, bytes, sizes[i]), 0);
		p2p_body_writer_close(writer);
		p2p_sidelog_rollback(sidelog);
		assert_int_equal(memfault_live(), live);
	}
	p2p_body_writer_close(NULL);
	assert_int_equal(p2p_sidelog_get_segment(sidelog, &me, 2, 0, &segment), P2P_ENOENT);
	body_round_trip(exact, 1, 1); /* the number is free */
	p2p_buf_deinit(&segment);
}

static int count_peer(void *ctx, const struct p2p_known_peer *peer)
{
	assert_string_equal(peer->address, "10.0.0.1:5");
	++*(int *)ctx;
	return 0;
}

static int count_seed(void *ctx, const char *address)
{
	assert_string_equal(address, "seed.lan:1");
	++*(int *)ctx;
	return 0;
}

static int count_record(void *ctx, const void *raw, size_t len)
{
	assert_int_equal(((const uint8_t *)raw)[0], ++*(int *)ctx);
	assert_int_equal(len, 1);
	return 0;
}

static int one_invite(void *ctx, const struct p2p_invite *invite)
{
	struct p2p_invite *out = ctx;

	assert_int_equal(out->uses_left, 0); /* there is one */
	*out = *invite;
	return 0;
}

static void lists_come_back_once_each(void **state)
{
	struct p2p_known_peer peer = {.name = "b", .address = "10.0.0.1:5", .seen_wall_ms = 7};
	struct p2p_invite invite = {.id = {{4}}, .uses_left = 3, .expires_wall_ms = 9, .role = 2},
			  back = {.uses_left = 0};
	struct p2p_hash first = {{9}}, second = {{8}};
	int peers = 0, seeds = 0, records = 0;
	uint8_t value[4];
	size_t len, i;

	(void)state;
	for (i = 0; i < 2; i++) {
		assert_int_equal(p2p_sidelog_begin(sidelog, NULL), 0);
		assert_int_equal(p2p_sidelog_put_peer(sidelog, &peer), 0);
		assert_int_equal(p2p_sidelog_put_seed(sidelog, "seed.lan:1"), 0);
		assert_int_equal(p2p_sidelog_put_record(sidelog, &first, "\1", 1), 0);
		assert_int_equal(p2p_sidelog_put_record(sidelog, &second, "\2", 1), 0);
		assert_int_equal(p2p_sidelog_put_invite(sidelog, &invite), 0);
		assert_int_equal(p2p_sidelog_meta_set(sidelog, "key", "abc", 3), 0);
		assert_int_equal(p2p_sidelog_commit(sidelog, NULL), 0);
		reopen();
	}
	assert_int_equal(p2p_sidelog_each_peer(sidelog, count_peer, &peers), 0);
	assert_int_equal(p2p_sidelog_each_seed(sidelog, count_seed, &seeds), 0);
	assert_int_equal(p2p_sidelog_each_record(sidelog, count_record, &records), 0);
	assert_int_equal(peers + 10 * seeds + 100 * records, 211);
	assert_int_equal(p2p_sidelog_each_invite(sidelog, one_invite, &back), 0);
	assert_int_equal(back.uses_left, 3);
	assert_memory_equal(&back.id, &invite.id, sizeof(back.id));
	assert_int_equal(p2p_sidelog_meta_get(sidelog, "key", value, sizeof(value), &len), 0);
	assert_int_equal(len, 3);
	assert_int_equal(p2p_sidelog_meta_get(sidelog, "key", value, 2, &len), P2P_ETOOBIG);
	assert_int_equal(p2p_sidelog_meta_get(sidelog, "no", value, 2, &len), P2P_ENOENT);
}

static int no_commit(void *ctx)
{
	(void)ctx;
	return 1;
}

/* As on a full disk: the commit fails, then the file cannot be opened anew. Readers, which come
 * first when all is well again, got an error for ever. */
static void a_log_that_could_not_be_opened_again_is_opened_by_whoever_reads(void **state)
{
	struct p2p_vv_entry head;
	struct p2p_stored back;
	char away[128];

	(void)state;
	(void)snprintf(away, sizeof(away), "%s.away", path);
	assert_int_equal(p2p_sidelog_begin(sidelog, NULL), 0);
	assert_int_equal(put(&me, 1, 0), 0);
	assert_int_equal(p2p_sidelog_commit(sidelog, NULL), 0);
	assert_int_equal(p2p_sidelog_begin(sidelog, NULL), 0);
	assert_int_equal(put(&me, 2, 0), 0);
	(void)sqlite3_commit_hook(sidelog->db, no_commit, NULL);
	assert_int_equal(rename(path, away), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_not_equal(p2p_sidelog_commit(sidelog, NULL), 0);
	assert_int_not_equal(p2p_sidelog_head(sidelog, &me, &head), 0);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rename(away, path), 0);
	assert_int_equal(p2p_sidelog_get(sidelog, &me, 1, &back), 0);
	p2p_stored_deinit(&back);
	assert_int_equal(head_of(&me), 1);
}

static void another_file_is_refused_and_ours_is_private(void **state)
{
	struct p2p_error err = {0};
	struct p2p_sidelog *bad;
	struct stat st;
	char text[128];
	FILE *file;

	(void)state;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	(void)snprintf(text, sizeof(text), "%s/other", dir);
	file = fopen(text, "w");
	assert_non_null(file);
	(void)fprintf(file, "this is no database, and long enough to be looked at as one......");
	(void)fclose(file);
	assert_int_equal(p2p_sidelog_open(text, NULL, &bad, &err), P2P_ECORRUPT);
	assert_non_null(strstr(err.msg, "/other"));
	(void)unlink(text);
}

static void set_pragma(const char *sql)
{
	sqlite3 *db;

	p2p_sidelog_close(sidelog);
	sidelog = NULL;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void a_log_of_a_later_version_and_of_another_kind_are_refused(void **state)
{
	struct p2p_error err = {0};

	(void)state;
	set_pragma("PRAGMA user_version = 999");
	assert_int_equal(p2p_sidelog_open(path, NULL, &sidelog, &err), P2P_ENEWER);
	assert_non_null(strstr(err.msg, "format 999"));
	set_pragma("PRAGMA application_id = 12345");
	assert_int_equal(p2p_sidelog_open(path, NULL, &sidelog, &err), P2P_ECORRUPT);
	assert_non_null(strstr(err.msg, "another file"));
	assert_null(sidelog);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(heads_move_only_over_what_is_whole, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_segment_costs_the_same_whatever_the_header, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_stamp_costs_the_same_whatever_the_header, setup,
						teardown),
		cmocka_unit_test_setup_teardown(the_same_again_is_known_and_another_is_a_fork,
						setup, teardown),
		cmocka_unit_test_setup_teardown(dropping_takes_the_tail_and_the_head_goes_back,
						setup, teardown),
		cmocka_unit_test_setup_teardown(a_rollback_forgets_what_was_only_in_memory, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_failed_commit_forgets_what_was_only_in_memory,
						setup, teardown),
		cmocka_unit_test_setup_teardown(bodies_of_any_size_come_back, setup, teardown),
		cmocka_unit_test_setup_teardown(a_body_that_is_given_up_leaves_nothing, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_body_that_ends_inside_a_record_is_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			a_log_that_could_not_be_opened_again_is_opened_by_whoever_reads, setup,
			teardown),
		cmocka_unit_test_setup_teardown(lists_come_back_once_each, setup, teardown),
		cmocka_unit_test_setup_teardown(another_file_is_refused_and_ours_is_private, setup,
						teardown),
		cmocka_unit_test_setup_teardown(
			a_log_of_a_later_version_and_of_another_kind_are_refused, setup, teardown),
	};
	unsigned char key[32], seed[32] = {5};

	memfault_install(false);
	if (sodium_init() < 0 || crypto_sign_seed_keypair(key, secret, seed))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
