/* The control socket of a running node, and clients that do as they like with it: each costs its
 * own slot only, and the node answers the next one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sqlite3.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "node/control_path.h"
#include "node/p2pnode.h"
#include "proto/limits.h"
#include "tests/unit/node/tempdir.h"

#define ANSWER_MAX 65536

struct world {
	struct tempdir *dir;
	p2p_node *node;
	int state_fd;
};

static struct world world;

static void make_db(const char *path)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db,
				      "PRAGMA journal_mode=WAL;"
				      "CREATE TABLE note(id TEXT PRIMARY KEY, body TEXT);"
				      "CREATE TABLE bare(body TEXT);",
				      NULL, NULL, NULL),
			 SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static int setup(void **state)
{
	static const char *const listen[] = {"127.0.0.1:0"};
	static const char *const tables[] = {"note"};
	p2p_node_options options;
	char error[256] = "", path[3 * PATH_MAX];

	assert_int_equal(tempdir_setup(state), 0);
	world.dir = *state;
	(void)snprintf(path, sizeof(path), "%s", tempdir_file(world.dir, "a.db"));
	make_db(path);
	p2p_node_options_init(&options, sizeof(options));
	options.listen = listen;
	options.listen_count = 1;
	options.no_discovery = 1;
	if (p2p_node_open(path, &options, &world.node, error, sizeof(error)) ||
	    p2p_node_share(world.node, tables, 1, NULL, 0, error, sizeof(error)) ||
	    p2p_node_start(world.node, error, sizeof(error)))
		fail_msg("%s", error);
	(void)snprintf(path, sizeof(path), "%s", tempdir_file(world.dir, "a.db-p2p"));
	world.state_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(world.state_fd >= 0);
	return 0;
}

static int teardown(void **state)
{
	assert_int_equal(close(world.state_fd), 0);
	assert_int_equal(p2p_node_close(world.node), 0);
	return tempdir_teardown(state);
}

static int client(void)
{
	struct timeval limit = {20, 0};
	struct sockaddr_un address;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	p2p_control_path(&address, world.state_fd);
	assert_int_equal(connect(fd, (const struct sockaddr *)(const void *)&address,
				 sizeof(address)),
			 0);
	return fd;
}

/* Whether all of it went out: the node may have closed before. */
static bool say(int fd, const char *text, size_t len)
{
	return send(fd, text, len, MSG_NOSIGNAL) == (ssize_t)len;
}

/* What the node says until it closes, and closes, too. */
static const char *hear(int fd)
{
	static char answer[ANSWER_MAX];
	size_t len = 0;
	ssize_t got;

	while (len < sizeof(answer) - 1 &&
	       (got = recv(fd, answer + len, sizeof(answer) - 1 - len, 0)) > 0)
		len += (size_t)got;
	answer[len] = 0;
	assert_int_equal(close(fd), 0);
	return answer;
}

static const char *ask(const char *line)
{
	int fd = client();

	assert_true(say(fd, line, strlen(line)));
	return hear(fd);
}

static void assert_answer(const char *line, const char *begins, const char *contains)
{
	const char *answer = ask(line);

	if (strncmp(answer, begins, strlen(begins)) != 0 || !strstr(answer, contains))
		fail_msg("'%s' gave '%s', wanted '%s...%s'", line, answer, begins, contains);
}

/* Answers of a node whose slots are freed at its next turn only. */
static void assert_served_again(void)
{
	const char *answer = "";
	int i;

	for (i = 0; i < 5000 && !answer[0]; i++) {
		int fd = client();

		(void)say(fd, "status\tjson\n", 12); /* it may be refused already */
		answer = hear(fd);
	}
	assert_true(strncmp(answer, "ok\n{", 4) == 0);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void requests_are_answered_or_refused_with_a_reason(void **state)
{
	(void)state;
	assert_answer("status\tjson\n", "ok\n{", "\"mesh\":");
	assert_answer("status\ttext\n", "ok\n", "running");
	assert_answer("tables\tjson\n", "ok\n{", "\"note\"");
	assert_answer("tables\ttext\n", "ok\n", "note");
	assert_answer("peers\tjson\n", "ok\n{", "\"peers\":[]");
	assert_answer("peers\ttext\n", "ok\n", "");
	assert_answer("members\tjson\n", "ok\n{", "\"self\":true");
	assert_answer("enable\tbare\n", "error -11\n", "PRIMARY KEY");
	assert_answer("enable\tnothing\n", "error -8\n", "nothing");
	assert_answer("no such verb\n", "error -10\n", "");
	assert_answer("\n", "error -10\n", "");
	assert_answer("status\n", "error -10\n", "");
	assert_answer("wait\t0\n", "error -10\n", "arguments");
	assert_answer("wait\t0\t10\tno vector\n", "error -10\n", "vector");
	assert_answer("wait\t1\t1\n", "error -24\n", "peers connected");
}

static void a_second_request_on_a_connection_is_thrown_away(void **state)
{
	int fd = client();

	(void)state;
	assert_true(say(fd, "wait\t1\t300\n", 11));
	assert_true(say(fd, "status\tjson\n", 12));
	assert_true(strncmp(hear(fd), "error -24\n", 10) == 0);
}

static void requests_over_a_limit_end_their_connection(void **state)
{
	static char long_line[2 * P2P_CONTROL_LINE_MAX], tabs[4096];
	int fd = client();

	(void)state;
	memset(long_line, 'x', sizeof(long_line));
	(void)say(fd, long_line, sizeof(long_line));
	assert_string_equal(hear(fd), ""); /* it was not even a request */
	memset(tabs, '\t', sizeof(tabs) - 1);
	tabs[sizeof(tabs) - 2] = '\n';
	assert_answer(tabs, "error -14\n", "too many arguments");
	assert_answer("status\tjson\n", "ok\n{", "");
}

static void clients_who_go_before_the_answer_cost_nothing(void **state)
{
	int i, fd;

	(void)state;
	for (i = 0; i < 50; i++) { /* the answer is written to a socket that is closed: SIGPIPE */
		fd = client();
		assert_true(say(fd, "status\tjson\n", 12));
		assert_int_equal(close(fd), 0);
		fd = client();
		assert_true(say(fd, "wait\t1\t60000\n", 13));
		assert_int_equal(close(fd), 0);
	}
	assert_served_again();
}

static void more_clients_than_there_are_slots_are_refused_and_the_rest_goes_on(void **state)
{
	int fds[P2P_CONTROL_CLIENTS_MAX], refused[5], i;

	(void)state;
	for (i = 0; i < P2P_CONTROL_CLIENTS_MAX; i++) {
		fds[i] = client();
		assert_true(say(fds[i], "wait\t1\t60000\n", 13));
	}
	for (i = 0; i < 5; i++)
		refused[i] = client(); /* all wait when the node looks */
	for (i = 0; i < 5; i++)
		assert_string_equal(hear(refused[i]), "");
	assert_int_equal(close(fds[0]), 0);
	assert_served_again();
	assert_int_equal(p2p_node_stop(world.node), 0); /* who still waits is told */
	for (i = 1; i < P2P_CONTROL_CLIENTS_MAX; i++)
		assert_true(strncmp(hear(fds[i]), "error ", 6) == 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(requests_are_answered_or_refused_with_a_reason),
		TEST(a_second_request_on_a_connection_is_thrown_away),
		TEST(requests_over_a_limit_end_their_connection),
		TEST(clients_who_go_before_the_answer_cost_nothing),
		TEST(more_clients_than_there_are_slots_are_refused_and_the_rest_goes_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
