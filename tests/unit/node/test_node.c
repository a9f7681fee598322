/* Whole nodes in one process: own threads, the caller's loop, misuse, the end of everything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>
#include <netinet/in.h>
#include <sqlite3.h>
#include <uv.h>

#include "node/p2pnode.h"
#include "tests/unit/node/tempdir.h"

/* A bound for failures; nothing waits that long. */
#define DEADLINE_MS 30000

static const char *const loopback[] = {"127.0.0.1:0"};

struct watcher {
	uv_sem_t joined, stopped;
	p2p_node *node;
	int inside_stop, inside_close, inside_wait, events;
	uint64_t rows;
};

static void on_event(void *ctx, const p2p_node_event *event)
{
	struct watcher *watcher = ctx;

	watcher->events++;
	assert_non_null(strstr(event->json, "{\"event\":\""));
	if (event->type == P2P_EV_STARTED && watcher->node) {
		watcher->inside_stop = p2p_node_stop(watcher->node);
		watcher->inside_close = p2p_node_close(watcher->node);
		watcher->inside_wait = p2p_node_wait(watcher->node, 0, 1);
	}
	if (event->type == P2P_EV_JOINED) {
		watcher->rows = event->rows;
		uv_sem_post(&watcher->joined);
	}
	if (event->type == P2P_EV_STOPPED)
		uv_sem_post(&watcher->stopped);
}

static void watcher_init(struct watcher *watcher)
{
	memset(watcher, 0, sizeof(*watcher));
	assert_int_equal(uv_sem_init(&watcher->joined, 0), 0);
	assert_int_equal(uv_sem_init(&watcher->stopped, 0), 0);
}

static void watcher_deinit(struct watcher *watcher)
{
	uv_sem_destroy(&watcher->joined);
	uv_sem_destroy(&watcher->stopped);
}

static void run_sql(const char *path, const char *sql)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_busy_timeout(db, DEADLINE_MS), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void make_db(const char *path)
{
	run_sql(path, "PRAGMA journal_mode=WAL;"
		      "CREATE TABLE note(id TEXT PRIMARY KEY, body TEXT);"
		      "INSERT INTO note VALUES ('a', 'x'), ('b', 'y');");
}

static int count_rows(const char *path)
{
	sqlite3_stmt *stmt;
	sqlite3 *db;
	int count;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM note", -1, &stmt, NULL),
			 SQLITE_OK);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	count = sqlite3_column_int(stmt, 0);
	assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
	return count;
}

/* Tells both states when they do not become level. */
static void wait_level(p2p_node *node, p2p_node *other)
{
	p2p_node *both[2] = {node, other};
	char *status;
	size_t i;

	if (!p2p_node_wait(node, 1, DEADLINE_MS))
		return;
	for (i = 0; i < 2; i++) {
		assert_int_equal(p2p_node_status(both[i], &status), 0);
		print_error("%s\n", status);
		p2p_node_free(status);
	}
	fail();
}

static void options_for(p2p_node_options *options, struct watcher *watcher)
{
	p2p_node_options_init(options, sizeof(*options));
	options->listen = loopback;
	options->listen_count = 1;
	options->no_discovery = 1;
	options->ctx = watcher;
	options->on_event = watcher ? on_event : NULL;
}

static p2p_node *open_shared(const char *path, struct watcher *watcher, uv_loop_t *loop)
{
	p2p_node_options options;
	char error[256] = "";
	p2p_node *node;

	make_db(path);
	options_for(&options, watcher);
	options.loop = loop;
	if (p2p_node_open(path, &options, &node, error, sizeof(error)) ||
	    p2p_node_share(node, NULL, 0, NULL, 0, error, sizeof(error)))
		fail_msg("%s", error);
	return node;
}

static p2p_node *open_joiner(const char *path, const char *ticket, struct watcher *watcher,
			     uv_loop_t *loop)
{
	p2p_node_options options;
	char error[256] = "";
	p2p_node *node;

	options_for(&options, watcher);
	options.loop = loop;
	options.create = 1;
	if (p2p_node_open(path, &options, &node, error, sizeof(error)) ||
	    p2p_node_join(node, ticket, error, sizeof(error)))
		fail_msg("%s", error);
	return node;
}

static void two_nodes_in_one_process_replicate(void **state)
{
	char a_path[2 * PATH_MAX], b_path[2 * PATH_MAX], *ticket, *status;
	struct watcher a_watch, b_watch;
	p2p_node *a, *b;

	(void)snprintf(a_path, sizeof(a_path), "%s", tempdir_file(*state, "a.db"));
	(void)snprintf(b_path, sizeof(b_path), "%s", tempdir_file(*state, "b.db"));
	watcher_init(&a_watch);
	watcher_init(&b_watch);
	a = open_shared(a_path, &a_watch, NULL);
	assert_int_equal(p2p_node_is_member(a), 1);
	assert_int_equal(p2p_node_start(a, NULL, 0), 0);
	assert_int_equal(p2p_node_invite(a, 1, 60000, NULL, 0, &ticket, NULL, 0), 0);
	b = open_joiner(b_path, ticket, &b_watch, NULL);
	assert_int_equal(p2p_node_is_member(b), 0);
	assert_int_equal(p2p_node_start(b, NULL, 0), 0);
	uv_sem_wait(&b_watch.joined);
	assert_int_equal(b_watch.rows, 2);
	run_sql(a_path, "INSERT INTO note VALUES ('c', 'z')");
	assert_int_equal(p2p_node_poke(a), 0);
	wait_level(a, b);
	assert_int_equal(count_rows(b_path), 3);
	assert_int_equal(p2p_node_status(b, &status), 0);
	assert_int_equal(strncmp(status, "{\"schema\":1,\"running\":true,", 27), 0);
	p2p_node_free(status);
	p2p_node_free(ticket);
	assert_int_equal(p2p_node_close(b), 0);
	assert_int_equal(p2p_node_close(a), 0);
	uv_sem_wait(&a_watch.stopped);
	uv_sem_wait(&b_watch.stopped);
	watcher_deinit(&a_watch);
	watcher_deinit(&b_watch);
}

static void both_live_on_the_callers_loop(void **state)
{
	char a_path[2 * PATH_MAX], b_path[2 * PATH_MAX], *ticket;
	struct watcher a_watch, b_watch;
	uv_loop_t loop;
	p2p_node *a, *b;

	(void)snprintf(a_path, sizeof(a_path), "%s", tempdir_file(*state, "a.db"));
	(void)snprintf(b_path, sizeof(b_path), "%s", tempdir_file(*state, "b.db"));
	watcher_init(&a_watch);
	watcher_init(&b_watch);
	assert_int_equal(uv_loop_init(&loop), 0);
	a = open_shared(a_path, &a_watch, &loop);
	assert_int_equal(p2p_node_start(a, NULL, 0), 0);
	assert_int_equal(p2p_node_invite(a, 1, 60000, NULL, 0, &ticket, NULL, 0), 0);
	b = open_joiner(b_path, ticket, &b_watch, &loop);
	assert_int_equal(p2p_node_start(b, NULL, 0), 0);
	while (uv_sem_trywait(&b_watch.joined))
		(void)uv_run(&loop, UV_RUN_ONCE);
	assert_int_equal(count_rows(b_path), 2);
	assert_int_equal(p2p_node_close(b), P2P_NODE_ESTATE);	   /* it runs */
	assert_int_equal(p2p_node_wait(b, 0, 1), P2P_NODE_ESTATE); /* would wait for itself */
	assert_int_equal(p2p_node_stop(b), 0);
	assert_int_equal(p2p_node_stop(a), 0);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0); /* ends: no handle is left */
	assert_int_equal(uv_sem_trywait(&a_watch.stopped), 0);
	assert_int_equal(uv_sem_trywait(&b_watch.stopped), 0);
	assert_int_equal(p2p_node_close(a), 0);
	assert_int_equal(p2p_node_close(b), 0);
	assert_int_equal(uv_loop_close(&loop), 0);
	p2p_node_free(ticket);
	watcher_deinit(&a_watch);
	watcher_deinit(&b_watch);
}

static void a_node_starts_again_after_it_stopped(void **state)
{
	struct watcher watcher;
	p2p_node *node;
	int i;

	watcher_init(&watcher);
	node = open_shared(tempdir_file(*state, "a.db"), &watcher, NULL);
	for (i = 0; i < 3; i++) {
		assert_int_equal(p2p_node_start(node, NULL, 0), 0);
		assert_int_equal(p2p_node_start(node, NULL, 0), P2P_NODE_ESTATE);
		assert_int_equal(p2p_node_stop(node), 0);
		uv_sem_wait(&watcher.stopped);
		assert_int_equal(p2p_node_stop(node), 0);
	}
	assert_int_equal(p2p_node_close(node), 0);
	watcher_deinit(&watcher);
}

static void inside_a_callback_nothing_can_end_the_node(void **state)
{
	struct watcher watcher;

	watcher_init(&watcher);
	watcher.node = open_shared(tempdir_file(*state, "a.db"), &watcher, NULL);
	assert_int_equal(p2p_node_start(watcher.node, NULL, 0), 0);
	assert_int_equal(p2p_node_close(watcher.node), 0);
	assert_int_equal(watcher.inside_stop, P2P_NODE_ESTATE);
	assert_int_equal(watcher.inside_close, P2P_NODE_ESTATE);
	assert_int_equal(watcher.inside_wait, P2P_NODE_ESTATE);
	watcher_deinit(&watcher);
}

static void a_port_in_use_is_an_error_and_leaves_nothing_open(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t len = sizeof(address);
	char text[64], error[256] = "";
	const char *listen_at[] = {text};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	p2p_node_options options;
	p2p_node *node;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	(void)snprintf(text, sizeof(text), "127.0.0.1:%u", ntohs(address.sin_port));
	make_db(tempdir_file(*state, "a.db"));
	options_for(&options, NULL);
	options.listen = listen_at;
	assert_int_equal(p2p_node_open(tempdir_file(*state, "a.db"), &options, &node, error,
				       sizeof(error)),
			 0);
	assert_int_equal(p2p_node_share(node, NULL, 0, NULL, 0, error, sizeof(error)), 0);
	assert_int_equal(p2p_node_start(node, error, sizeof(error)), P2P_NODE_EEXIST);
	assert_non_null(strstr(error, text));
	(void)close(fd);
	assert_int_equal(p2p_node_start(node, error, sizeof(error)), 0);
	assert_int_equal(p2p_node_close(node), 0);
}

static void misuse_is_refused_and_changes_nothing(void **state)
{
	const char *path = tempdir_file(*state, "a.db"), *bad[] = {"nonsense"};
	p2p_node_options options;
	p2p_node *node, *second;
	char error[256] = "", *text;

	options_for(&options, NULL);
	assert_int_equal(p2p_node_open(path, &options, &node, error, sizeof(error)),
			 P2P_NODE_ENOENT);
	make_db(path);
	options.listen = bad;
	assert_int_equal(p2p_node_open(path, &options, &node, error, sizeof(error)),
			 P2P_NODE_EINVAL);
	options_for(&options, NULL);
	assert_int_equal(p2p_node_open(path, &options, &node, error, sizeof(error)), 0);
	assert_int_equal(p2p_node_open(path, &options, &second, error, sizeof(error)),
			 P2P_NODE_ELOCKED);
	assert_int_equal(p2p_node_start(node, error, sizeof(error)), P2P_NODE_ENOENT);
	assert_int_equal(p2p_node_invite(node, 1, 60000, NULL, 0, &text, error, sizeof(error)),
			 P2P_NODE_ENOENT);
	assert_int_equal(p2p_node_join(node, "p2ptaaaa", error, sizeof(error)), P2P_NODE_EINVAL);
	assert_int_equal(p2p_node_share(node, NULL, 0, NULL, 0, error, sizeof(error)), 0);
	assert_int_equal(p2p_node_invite(node, 0, 60000, NULL, 0, &text, error, sizeof(error)),
			 P2P_NODE_EINVAL);
	assert_int_equal(p2p_node_invite(node, 1, 1, NULL, 0, &text, error, sizeof(error)),
			 P2P_NODE_EINVAL);
	assert_int_equal(p2p_node_invite(node, 1, 60000, "king", 0, &text, error, sizeof(error)),
			 P2P_NODE_EINVAL);
	assert_int_equal(p2p_node_invite(node, 1, 60000, "reader", 0, &text, error, sizeof(error)),
			 P2P_NODE_EREFUSED);
	assert_int_equal(p2p_node_close(node), 0);
	assert_int_equal(p2p_node_close(NULL), 0);
}

struct asker {
	p2p_node *node;
	uv_thread_t thread;
	int answers;
};

static void ask_until_it_stops(void *ctx)
{
	struct asker *asker = ctx;
	char *status;

	while (p2p_node_status(asker->node, &status) == 0) {
		int running = strstr(status, "\"running\":true") != NULL;

		p2p_node_free(status);
		asker->answers++;
		if (!running)
			return;
	}
}

static void other_threads_may_ask_while_it_stops(void **state)
{
	struct watcher watcher;
	struct asker askers[3];
	p2p_node *node;
	size_t i;

	watcher_init(&watcher);
	node = open_shared(tempdir_file(*state, "a.db"), &watcher, NULL);
	assert_int_equal(p2p_node_start(node, NULL, 0), 0);
	for (i = 0; i < 3; i++) {
		askers[i].node = node;
		askers[i].answers = 0;
		assert_int_equal(uv_thread_create(&askers[i].thread, ask_until_it_stops,
						  &askers[i]),
				 0);
	}
	for (i = 0; i < 50; i++)
		assert_int_equal(p2p_node_poke(node), 0);
	assert_int_equal(p2p_node_stop(node), 0);
	for (i = 0; i < 3; i++)
		assert_int_equal(uv_thread_join(&askers[i].thread), 0);
	assert_int_equal(p2p_node_close(node), 0);
	watcher_deinit(&watcher);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, tempdir_setup, tempdir_teardown)
		TEST(two_nodes_in_one_process_replicate),
		TEST(both_live_on_the_callers_loop),
		TEST(a_node_starts_again_after_it_stopped),
		TEST(inside_a_callback_nothing_can_end_the_node),
		TEST(a_port_in_use_is_an_error_and_leaves_nothing_open),
		TEST(misuse_is_refused_and_changes_nothing),
		TEST(other_threads_may_ask_while_it_stops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
