/* What is beneath a fuzz target that puts its fixture back: memory and files come back as they
 * were, and the sanitizer still sees what is wrong with a block. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/fuzz/arena.h"
#include "tests/fuzz/memdisk.h"

static char dir[64], path[80];

#if defined(__SANITIZE_ADDRESS__)
#define WATCHED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WATCHED 1
#endif
#endif

#ifdef WATCHED
int __asan_address_is_poisoned(const volatile void *at);

static void assert_watched(const uint8_t *at, bool watched)
{
	assert_int_equal(__asan_address_is_poisoned(at), watched);
}
#else
static void assert_watched(const uint8_t *at, bool watched)
{
	(void)at;
	(void)watched;
}
#endif

/* Blocks of all sizes, filled. */
static void fill(uint8_t *blocks[], size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		blocks[i] = fuzz_arena.malloc(i * 37);
		assert_non_null(blocks[i]);
		assert_true((uintptr_t)blocks[i] % 16 == 0);
		assert_true(fuzz_arena.size(blocks[i]) == i * 37);
		memset(blocks[i], (int)i, i * 37);
	}
}

static void memory_comes_back(void **state)
{
	uint8_t *blocks[200], *late[200], *first = NULL;
	size_t i, n;

	(void)state;
	fill(blocks, 200);
	fuzz_arena_save();
	for (n = 0; n < 3; n++) {
		for (i = 0; i < 200; i += 2)
			fuzz_arena.free(blocks[i]);
		assert_non_null(fuzz_arena.realloc(blocks[1], 5000));
		memset(blocks[3], 0xff, 111);
		fill(late, 200);
		/* an input finds the same addresses, whatever ran before it */
		first = first ? first : late[199];
		assert_ptr_equal(late[199], first);
		fuzz_arena_restore();
		assert_watched(late[199], true);
		for (i = 1; i < 200; i++) {
			assert_true(fuzz_arena.size(blocks[i]) == i * 37);
			assert_watched(blocks[i], false);
			assert_int_equal(blocks[i][0], (uint8_t)i);
			assert_int_equal(blocks[i][i * 37 - 1], (uint8_t)i);
		}
	}
}

static void a_block_is_watched(void **state)
{
	uint8_t *block = fuzz_arena.malloc(100);

	(void)state;
	fuzz_arena_save();
	assert_watched(block, false);
	assert_watched(block + 99, false);
	assert_watched(block + 100, true);
	assert_watched(block - 1, true);
	fuzz_arena.free(block);
	assert_watched(block, true);
	assert_watched(block + 99, true);
	/* it is not given out again at once */
	assert_ptr_not_equal(fuzz_arena.malloc(100), block);
	fuzz_arena_restore();
	assert_watched(block, false);
	assert_watched(block + 99, false);
	assert_watched(block + 100, true);
	fuzz_arena.free(block);
}

static sqlite3 *connect(void)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "PRAGMA journal_mode = WAL", NULL, NULL, NULL),
			 SQLITE_OK);
	return db;
}

static int64_t rows(sqlite3 *db)
{
	sqlite3_stmt *stmt;
	int64_t count;

	assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM t", -1, &stmt, NULL),
			 SQLITE_OK);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	count = sqlite3_column_int64(stmt, 0);
	assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
	return count;
}

static void run(sqlite3 *db, int rc, const char *sql)
{
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), rc);
}

static void files_and_connections_come_back(void **state)
{
	sqlite3 *one = connect(), *two;
	int i;

	(void)state;
	run(one, SQLITE_OK, "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
	two = connect();
	assert_int_equal(rows(two), 1);
	fuzz_arena_save();
	memdisk_save();
	for (i = 0; i < 3; i++) {
		run(one, SQLITE_OK, "INSERT INTO t VALUES(2), (3)");
		assert_int_equal(rows(two), 3);
		/* one writes at a time */
		run(two, SQLITE_OK, "BEGIN IMMEDIATE");
		run(one, SQLITE_BUSY, "INSERT INTO t VALUES(4)");
		if (i == 1) {
			run(two, SQLITE_OK, "ROLLBACK; PRAGMA wal_checkpoint(TRUNCATE)");
			assert_int_equal(sqlite3_close(one), SQLITE_OK);
			assert_int_equal(sqlite3_close(two), SQLITE_OK);
		}
		fuzz_arena_restore();
		memdisk_restore();
		assert_int_equal(rows(one), 1);
		assert_int_equal(rows(two), 1);
	}
	run(one, SQLITE_OK, "INSERT INTO t VALUES(5); PRAGMA integrity_check");
	assert_int_equal(sqlite3_close(one), SQLITE_OK);
	assert_int_equal(sqlite3_close(two), SQLITE_OK);
	one = connect();
	assert_int_equal(rows(one), 2);
	assert_int_equal(sqlite3_close(one), SQLITE_OK);
}

static int begin(void **state)
{
	(void)state;
	assert_int_equal(sqlite3_config(SQLITE_CONFIG_SINGLETHREAD), SQLITE_OK);
	fuzz_arena_for_sqlite();
	memdisk_install();
	(void)snprintf(dir, sizeof(dir), "/tmp/p2p-beneath-XXXXXX");
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/a.db", dir);
	memdisk_add(path);
	return 0;
}

static int end(void **state)
{
	(void)state;
	memdisk_remove();
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_comes_back),
		cmocka_unit_test(a_block_is_watched),
		cmocka_unit_test(files_and_connections_come_back),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
