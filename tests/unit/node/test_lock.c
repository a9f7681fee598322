/* The lock of a database: one holder in this process and in others, by whatever path. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "node/lock.h"
#include "proto/mem.h"
#include "tests/unit/node/tempdir.h"

static const struct p2p_id instance = {{7}};

static void a_second_holder_in_this_process_is_told_the_pid(void **state)
{
	struct p2p_lock first, second;
	struct p2p_error err = {0};
	const char *db = tempdir_file(*state, "a.db");
	char pid[32];

	assert_int_equal(p2p_lock_take(&first, db, &instance, &err), 0);
	assert_int_equal(p2p_lock_take(&second, db, &instance, &err), P2P_ELOCKED);
	(void)snprintf(pid, sizeof(pid), "pid %ld", (long)getpid());
	assert_non_null(strstr(err.msg, pid));
	p2p_lock_release(&second);
	p2p_lock_release(&first);
	assert_int_equal(p2p_lock_take(&second, db, &instance, &err), 0);
	p2p_lock_release(&second);
}

static void a_second_process_is_refused_and_the_dead_hold_nothing(void **state)
{
	struct p2p_lock lock;
	struct p2p_error err = {0};
	const char *db = tempdir_file(*state, "a.db");
	int status;
	pid_t child;

	assert_int_equal(p2p_lock_take(&lock, db, &instance, &err), 0);
	child = fork();
	if (child == 0) {
		struct p2p_lock other;

		/* the child's copy of the descriptor shares the lock: it must open anew */
		_exit(p2p_lock_take(&other, db, &instance, NULL) == P2P_ELOCKED ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	p2p_lock_release(&lock);
	child = fork();
	if (child == 0) {
		struct p2p_lock other;

		_exit(p2p_lock_take(&other, db, &instance, NULL)); /* dies holding it */
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(p2p_lock_take(&lock, db, &instance, &err), 0);
	p2p_lock_release(&lock);
}

static void symlinks_lead_to_the_same_lock(void **state)
{
	struct p2p_lock first, second;
	struct tempdir *dir = *state;
	char real[2 * PATH_MAX], link[2 * PATH_MAX];
	FILE *file;

	(void)snprintf(real, sizeof(real), "%s", tempdir_file(dir, "real.db"));
	(void)snprintf(link, sizeof(link), "%s", tempdir_file(dir, "link.db"));
	file = fopen(real, "w");
	assert_non_null(file);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(symlink(real, link), 0);
	assert_int_equal(p2p_lock_take(&first, real, &instance, NULL), 0);
	assert_int_equal(p2p_lock_take(&second, link, &instance, NULL), P2P_ELOCKED);
	p2p_lock_release(&second);
	p2p_lock_release(&first);
}

static void the_state_directory_is_remembered(void **state)
{
	struct p2p_lock lock;
	const char *db = tempdir_file(*state, "a.db");
	char *dir;

	assert_null(p2p_lock_state_dir(db));
	assert_int_equal(p2p_lock_take(&lock, db, &instance, NULL), 0);
	assert_null(p2p_lock_state_dir(db));
	p2p_lock_describe(&lock, &instance, "/somewhere/else");
	p2p_lock_release(&lock);
	dir = p2p_lock_state_dir(db);
	assert_string_equal(dir, "/somewhere/else");
	p2p_free(dir);
	assert_int_equal(p2p_lock_take(&lock, db, &instance, NULL), 0); /* and kept by the next */
	dir = p2p_lock_state_dir(db);
	assert_string_equal(dir, "/somewhere/else");
	p2p_free(dir);
	p2p_lock_remove(&lock);
	assert_null(p2p_lock_state_dir(db));
}

static void a_missing_directory_is_named(void **state)
{
	struct p2p_lock lock;
	struct p2p_error err = {0};

	assert_int_equal(p2p_lock_take(&lock, tempdir_file(*state, "no/such.db"), &instance, &err),
			 P2P_ENOENT);
	assert_non_null(strstr(err.msg, "no/such.db"));
	p2p_lock_release(&lock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, tempdir_setup, tempdir_teardown)
		TEST(a_second_holder_in_this_process_is_told_the_pid),
		TEST(a_second_process_is_refused_and_the_dead_hold_nothing),
		TEST(symlinks_lead_to_the_same_lock),
		TEST(the_state_directory_is_remembered),
		TEST(a_missing_directory_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
