/* State directory: modes, atomic files, keys that come back the same, damage that is noticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>
#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>

#include "node/identity.h"
#include "node/node_env.h"
#include "tests/unit/node/tempdir.h"

static int open_state(struct tempdir *dir)
{
	int fd = -1;

	assert_int_equal(p2p_state_open(tempdir_file(dir, "state"), true, &fd, NULL), 0);
	return fd;
}

static void the_directory_is_private_also_when_it_was_not(void **state)
{
	const char *path = tempdir_file(*state, "state");
	struct stat st;
	int fd;

	assert_int_equal(p2p_state_open(path, false, &fd, NULL), P2P_ENOENT);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(p2p_state_open(path, true, &fd, NULL), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	(void)close(fd);
}

static void one_node_at_a_time_has_it(void **state)
{
	const char *path = tempdir_file(*state, "state");
	struct p2p_error err = {0};
	int fd, second;

	assert_int_equal(p2p_state_open(path, true, &fd, NULL), 0);
	assert_int_equal(p2p_state_open(path, true, &second, &err), P2P_ELOCKED);
	assert_non_null(strstr(err.msg, path));
	(void)close(fd);
	assert_int_equal(p2p_state_open(path, true, &fd, NULL), 0);
	(void)close(fd);
}

static void a_file_in_its_place_is_refused(void **state)
{
	const char *path = tempdir_file(*state, "state");
	int fd = open(path, O_CREAT | O_WRONLY, 0600);

	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(p2p_state_open(path, true, &fd, NULL), P2P_EREFUSED);
}

static void files_are_written_whole_and_private(void **state)
{
	int fd = open_state(*state);
	char back[16];
	size_t len = 99;
	struct stat st;

	assert_int_equal(p2p_state_write(fd, "x", "one", 3, NULL), 0);
	assert_int_equal(p2p_state_write(fd, "x", "three", 5, NULL), 0);
	assert_int_equal(p2p_state_read(fd, "x", back, sizeof(back), &len), 0);
	assert_int_equal(len, 5);
	assert_memory_equal(back, "three", 5);
	assert_int_equal(fstatat(fd, "x", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(fstatat(fd, "x.new", &st, 0), -1);
	assert_int_equal(p2p_state_read(fd, "x", back, 5, &len), 0);
	assert_int_equal(p2p_state_read(fd, "x", back, 4, &len), P2P_ETOOBIG);
	p2p_state_remove(fd, "x");
	p2p_state_remove(fd, "x");
	assert_int_equal(p2p_state_read(fd, "x", back, sizeof(back), &len), P2P_ENOENT);
	(void)close(fd);
}

static void keys_are_made_once_and_come_back_the_same(void **state)
{
	int fd = open_state(*state);
	struct p2p_keys made, back;
	struct p2p_env env;
	unsigned char signature[crypto_sign_BYTES];

	p2p_node_env_init(&env);
	assert_int_equal(p2p_keys_load(fd, NULL, &made, NULL), P2P_ENOENT);
	assert_int_equal(p2p_keys_load(fd, &env, &made, NULL), 0);
	assert_int_equal(p2p_keys_load(fd, NULL, &back, NULL), 0);
	assert_memory_equal(&made, &back, sizeof(made));
	(void)crypto_sign_detached(signature, NULL, (const unsigned char *)"m", 1,
				   back.sign_secret);
	assert_int_equal(crypto_sign_verify_detached(signature, (const unsigned char *)"m", 1,
						     back.node.bytes),
			 0);
	(void)close(fd);
}

static void a_damaged_identity_is_never_replaced(void **state)
{
	int fd = open_state(*state);
	char text[512];
	struct p2p_keys keys;
	struct p2p_env env;
	size_t len = 0, i;

	p2p_node_env_init(&env);
	assert_int_equal(p2p_keys_load(fd, &env, &keys, NULL), 0);
	assert_int_equal(p2p_state_read(fd, "identity", text, sizeof(text), &len), 0);
	for (i = 0; i < len; i++) { /* every cut */
		assert_int_equal(p2p_state_write(fd, "identity", text, i, NULL), 0);
		assert_int_equal(p2p_keys_load(fd, &env, &keys, NULL), P2P_ECORRUPT);
	}
	text[30] = 'x'; /* no hexadecimal digit */
	assert_int_equal(p2p_state_write(fd, "identity", text, len, NULL), 0);
	assert_int_equal(p2p_keys_load(fd, &env, &keys, NULL), P2P_ECORRUPT);
	(void)close(fd);
}

static void the_mesh_secret_round_trips_and_damage_is_noticed(void **state)
{
	int fd = open_state(*state);
	uint8_t secret[32] = {1, 2, 3}, back[32] = {0};

	assert_int_equal(p2p_secret_load(fd, back, NULL), P2P_ENOENT);
	assert_int_equal(p2p_secret_store(fd, secret, NULL), 0);
	assert_int_equal(p2p_secret_load(fd, back, NULL), 0);
	assert_memory_equal(secret, back, 32);
	assert_int_equal(p2p_state_write(fd, "secret", "p2pnode secret 1\nepoch 12\n", 26, NULL),
			 0);
	assert_int_equal(p2p_secret_load(fd, back, NULL), P2P_ECORRUPT);
	(void)close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, tempdir_setup, tempdir_teardown)
		TEST(the_directory_is_private_also_when_it_was_not),
		TEST(one_node_at_a_time_has_it),
		TEST(a_file_in_its_place_is_refused),
		TEST(files_are_written_whole_and_private),
		TEST(keys_are_made_once_and_come_back_the_same),
		TEST(a_damaged_identity_is_never_replaced),
		TEST(the_mesh_secret_round_trips_and_damage_is_noticed),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
