/* The WAL: synced without a transaction, readers seen without taking a lock, checkpointed under the
 * write lock, and nothing of it disturbs other connections of the process. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
// cmocka needs the first four
#include <cmocka.h>

#include "crdt/walfile.h"
#include "proto/check.h"
#include "tests/support/appfile.h"

/* SQLite's call comes here: counted, and failing on demand. */
static int sync_count, sync_errno; /* of the WAL; the first one syncs its directory too */

__attribute__((visibility("default"))) int fdatasync(int fd)
{
	char link[64], file[128];
	ssize_t len;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, file, sizeof(file) - 1);
	file[len > 0 ? len : 0] = 0;
	sync_count += strstr(file, "app.db-wal") != NULL;
	if (sync_errno) {
		errno = sync_errno;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

static void sql_on(sqlite3 *db, const char *sql)
{
	char *text = NULL;

	if (sqlite3_exec(db, sql, NULL, NULL, &text) != SQLITE_OK)
		fail_msg("%s: %s", sql, text);
}

/* Another connection of this process. */
static sqlite3 *connect_app(void)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(appfile.path, &db), SQLITE_OK);
	sql_on(db, "PRAGMA wal_autocheckpoint = 0");
	return db;
}

static struct p2p_store *open_store(void)
{
	struct p2p_store_config config = {.path = appfile.path, .env = &appfile_env};
	struct p2p_error err = {0};
	struct p2p_store *store;

	if (p2p_store_open(&config, &store, NULL, &err))
		fail_msg("%s", err.msg);
	return store;
}

static int setup(void **state)
{
	sqlite3 *db;

	(void)appfile_setup(state);
	db = connect_app();
	sql_on(db, "PRAGMA journal_mode = WAL; CREATE TABLE t(a); INSERT INTO t VALUES(1)");
	(void)sqlite3_close(db);
	sync_errno = 0;
	return 0;
}

/* --- another process: this program again, for SQLite does not survive a fork --------------------
 */

struct reader {
	pid_t pid;
	int to, from;
};

static void say(int fd)
{
	assert_int_equal(write(fd, "x", 1), 1);
}

static void hear(int fd)
{
	char c;

	assert_int_equal(read(fd, &c, 1), 1);
}

/* Begins to read when told, ends when told. */
static int reader_main(const char *file)
{
	sqlite3 *db;
	char c;

	if (sqlite3_open(file, &db) != SQLITE_OK || write(1, "x", 1) != 1)
		return 1;
	while (read(0, &c, 1) == 1) {
		if (sqlite3_exec(db, "BEGIN; SELECT count(*) FROM t", NULL, NULL, NULL) !=
			    SQLITE_OK ||
		    write(1, "x", 1) != 1 || read(0, &c, 1) != 1 ||
		    sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK ||
		    write(1, "x", 1) != 1)
			return 1;
	}
	return sqlite3_close(db) == SQLITE_OK ? 0 : 1;
}

static void reader_start(struct reader *reader)
{
	int to[2], from[2];

	assert_int_equal(pipe2(to, O_CLOEXEC), 0);
	assert_int_equal(pipe2(from, O_CLOEXEC), 0);
	reader->pid = fork();
	assert_true(reader->pid >= 0);
	if (reader->pid == 0) {
		(void)dup2(to[0], 0);
		(void)dup2(from[1], 1);
		(void)execl("/proc/self/exe", "test_crdt_walfile", "reader", appfile.path,
			    (char *)NULL);
		_exit(127);
	}
	(void)close(to[0]);
	(void)close(from[1]);
	reader->to = to[1];
	reader->from = from[0];
	hear(reader->from);
}

static void reader_toggle(struct reader *reader)
{
	say(reader->to);
	hear(reader->from);
}

static void reader_stop(struct reader *reader)
{
	int status;

	(void)close(reader->to);
	assert_int_equal(waitpid(reader->pid, &status, 0), reader->pid);
	assert_int_equal(status, 0);
	(void)close(reader->from);
}

/* --- readers ---------------------------------------------------------------------------------- */

static bool readers(struct p2p_store *store)
{
	bool reliable = false, seen = p2p_walfile_readers(store, &reliable);

	assert_true(reliable);
	return seen;
}

static void an_idle_file_has_no_readers(void **state)
{
	struct p2p_store *store = open_store();
	sqlite3 *app = connect_app();
	struct p2p_error err;

	(void)state;
	assert_false(readers(store));
	sql_on(app, "SELECT * FROM t; INSERT INTO t VALUES(2)");
	assert_false(readers(store));
	assert_int_equal(p2p_store_begin_read(store, &err), 0);
	p2p_store_rollback(store);
	assert_false(readers(store));
	(void)sqlite3_close(app);
	p2p_store_close(store);
}

static void a_reader_of_another_process_is_seen(void **state)
{
	struct p2p_store *store = open_store();
	struct reader reader;
	int i;

	(void)state;
	reader_start(&reader);
	for (i = 0; i < 3; i++) {
		assert_false(readers(store));
		reader_toggle(&reader);
		assert_true(readers(store));
		reader_toggle(&reader);
	}
	reader_stop(&reader);
	p2p_store_close(store);
}

static void a_reader_of_this_process_is_seen(void **state)
{
	struct p2p_store *store = open_store();
	sqlite3 *app = connect_app();

	(void)state;
	sql_on(app, "BEGIN; SELECT count(*) FROM t");
	assert_true(readers(store));
	sql_on(app, "COMMIT");
	assert_false(readers(store));
	(void)sqlite3_close(app);
	p2p_store_close(store);
}

/* Also the one that began after us, at the same read mark. */
static void in_our_own_transaction_only_others_count(void **state)
{
	struct p2p_store *store = open_store();
	struct p2p_error err;
	struct reader reader;
	int i;

	(void)state;
	reader_start(&reader);
	for (i = 0; i < 2; i++) {
		/* in the first round the WAL is empty: everyone reads at mark 0 */
		assert_int_equal(p2p_store_begin_write(store, 100, &err), 0);
		assert_false(readers(store));
		reader_toggle(&reader);
		assert_true(readers(store));
		reader_toggle(&reader);
		assert_false(readers(store));
		sql_on(p2p_store_db(store), "INSERT INTO t VALUES(3)");
		assert_false(readers(store));
		reader_toggle(&reader);
		assert_true(readers(store));
		assert_int_equal(p2p_store_commit(store, &err), 0);
		assert_true(readers(store));
		reader_toggle(&reader);
		assert_false(readers(store));
	}
	reader_stop(&reader);
	p2p_store_close(store);
}

static void in_our_own_transaction_an_older_reader_of_this_process_counts(void **state)
{
	struct p2p_store *store = open_store();
	sqlite3 *app = connect_app(), *writer = connect_app();
	struct p2p_error err;

	(void)state;
	sql_on(writer, "INSERT INTO t VALUES(4)");
	sql_on(app, "BEGIN; SELECT count(*) FROM t");
	sql_on(writer, "INSERT INTO t VALUES(5)");
	assert_int_equal(p2p_store_begin_write(store, 100, &err), 0);
	assert_true(readers(store));
	sql_on(app, "COMMIT");
	assert_false(readers(store));
	p2p_store_rollback(store);
	(void)sqlite3_close(app);
	(void)sqlite3_close(writer);
	p2p_store_close(store);
}

/* Closing a descriptor of the -shm would drop the locks of all connections of the process. */
static void asking_and_closing_leave_the_locks_of_others_alone(void **state)
{
	struct p2p_store *store = open_store(), *second = open_store();
	sqlite3 *app = connect_app();
	struct flock lock = {.l_type = F_WRLCK, .l_start = 123, .l_len = 5};
	char shm[128];
	int fd;

	(void)state;
	sql_on(app, "BEGIN; SELECT count(*) FROM t");
	assert_true(readers(store));
	assert_true(readers(second));
	p2p_store_close(store);
	assert_true(readers(second));
	p2p_store_close(second);
	/* an OFD lock sees those of this process; SQLite's own descriptor keeps the file open */
	(void)snprintf(shm, sizeof(shm), "%s-shm", appfile.path);
	fd = open(shm, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_OFD_GETLK, &lock), 0);
	assert_int_equal(lock.l_type, F_RDLCK);
	(void)sqlite3_close(app);
	(void)close(fd);
}

/* --- sync, frames, checkpoint ----------------------------------------------------------------- */

static void sync_reaches_the_wal_and_tells_failures(void **state)
{
	struct p2p_store *store = open_store();
	sqlite3 *app = connect_app();
	struct p2p_error err;

	(void)state;
	sql_on(app, "PRAGMA synchronous = OFF; INSERT INTO t VALUES(6)");
	sync_count = 0;
	assert_int_equal(p2p_walfile_sync(store, &err), 0);
	assert_int_equal(sync_count, 1);
	sync_errno = ENOSPC;
	assert_int_equal(p2p_walfile_sync(store, &err), P2P_EFULL);
	sync_errno = EIO;
	assert_int_equal(p2p_walfile_sync(store, &err), P2P_EIO);
	assert_non_null(strstr(err.msg, "power cut"));
	sync_errno = 0;
	(void)sqlite3_close(app);
	p2p_store_close(store);
}

static void a_checkpoint_empties_the_wal_unless_somebody_reads(void **state)
{
	struct p2p_store *store = open_store();
	sqlite3 *app = connect_app();
	struct p2p_error err;
	struct reader reader;
	uint64_t hold = 1;
	int i;

	(void)state;
	assert_int_equal(p2p_walfile_frames(store), 0);
	for (i = 0; i < 10; i++)
		sql_on(app, "INSERT INTO t VALUES(7)");
	assert_int_equal(p2p_walfile_frames(store), 10);
	assert_int_equal(p2p_walfile_checkpoint(store, &hold, &err), 0);
	assert_int_equal(hold, 0); /* by env's clock, which stands still here */
	assert_false(p2p_store_in_transaction(store));
	assert_int_equal(p2p_walfile_frames(store), 0);
	sql_on(app, "INSERT INTO t VALUES(8)");
	reader_start(&reader);
	reader_toggle(&reader);
	sql_on(app, "INSERT INTO t VALUES(9)");
	assert_int_equal(p2p_walfile_checkpoint(store, NULL, &err), 0);
	assert_int_equal(p2p_walfile_frames(store), 1);
	reader_toggle(&reader);
	assert_int_equal(p2p_walfile_checkpoint(store, NULL, &err), 0);
	assert_int_equal(p2p_walfile_frames(store), 0);
	reader_stop(&reader);
	(void)sqlite3_close(app);
	p2p_store_close(store);
}

static void a_checkpoint_does_not_wait_for_a_writer(void **state)
{
	struct p2p_store *store = open_store();
	sqlite3 *app = connect_app();
	struct p2p_error err;

	(void)state;
	sql_on(app, "BEGIN IMMEDIATE; INSERT INTO t VALUES(1)");
	assert_int_equal(p2p_walfile_checkpoint(store, NULL, &err), P2P_EBUSY);
	assert_false(p2p_store_in_transaction(store));
	sql_on(app, "COMMIT");
	assert_int_equal(p2p_walfile_checkpoint(store, NULL, &err), 0);
	(void)sqlite3_close(app);
	p2p_store_close(store);
}

static void all_of_it_works_again_after_reopening(void **state)
{
	struct p2p_store *store = open_store();
	sqlite3 *app = connect_app();
	struct p2p_error err;

	(void)state;
	assert_int_equal(p2p_walfile_checkpoint(store, NULL, &err), 0);
	assert_int_equal(p2p_store_reopen(store, &err), 0);
	sql_on(app, "INSERT INTO t VALUES(1); BEGIN; SELECT count(*) FROM t");
	assert_true(readers(store));
	assert_int_equal(p2p_walfile_frames(store), 1);
	assert_int_equal(p2p_walfile_checkpoint(store, NULL, &err), 0);
	assert_int_equal(p2p_walfile_frames(store), 0);
	(void)sqlite3_close(app);
	p2p_store_close(store);
}

static double micros(struct timespec from, struct timespec to, int count)
{
	return ((double)(to.tv_sec - from.tv_sec) * 1e6 +
		(double)(to.tv_nsec - from.tv_nsec) / 1e3) /
	       count;
}

/* Figures for docs/, not judged here. */
static void asking_is_cheap(void **state)
{
	struct p2p_store *store = open_store();
	struct timespec a, b, c, d;
	struct p2p_error err;
	int i;

	(void)state;
	(void)clock_gettime(CLOCK_MONOTONIC, &a);
	for (i = 0; i < 10000; i++)
		assert_false(p2p_walfile_readers(store, NULL));
	(void)clock_gettime(CLOCK_MONOTONIC, &b);
	assert_int_equal(p2p_store_begin_write(store, 100, &err), 0);
	(void)clock_gettime(CLOCK_MONOTONIC, &c);
	for (i = 0; i < 10000; i++)
		assert_false(p2p_walfile_readers(store, NULL));
	(void)clock_gettime(CLOCK_MONOTONIC, &d);
	p2p_store_rollback(store);
	print_message("readers: %.2f us, in a transaction %.2f us\n", micros(a, b, 10000),
		      micros(c, d, 10000));
	p2p_store_close(store);
}

int main(int argc, char **argv)
{
#define wal_test(name) cmocka_unit_test_setup_teardown(name, setup, appfile_teardown)
	const struct CMUnitTest tests[] = {
		wal_test(an_idle_file_has_no_readers),
		wal_test(a_reader_of_another_process_is_seen),
		wal_test(a_reader_of_this_process_is_seen),
		wal_test(in_our_own_transaction_only_others_count),
		wal_test(in_our_own_transaction_an_older_reader_of_this_process_counts),
		wal_test(asking_and_closing_leave_the_locks_of_others_alone),
		wal_test(sync_reaches_the_wal_and_tells_failures),
		wal_test(a_checkpoint_empties_the_wal_unless_somebody_reads),
		wal_test(a_checkpoint_does_not_wait_for_a_writer),
		wal_test(all_of_it_works_again_after_reopening),
		wal_test(asking_is_cheap),
	};

	if (argc == 3 && strcmp(argv[1], "reader") == 0)
		return reader_main(argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
