/* TCP links alone, against sockets that do what they like: what is full, slow, broken, refused or
 * out of memory is told with its reason, and nothing is left. */
#include "tests/unit/transport/fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "transport/tcp.h"

struct world {
	uv_loop_t loop;
	uv_timer_t guard;
	struct p2p_tcp *tcp;
	struct p2p_tcp_listener *listener;
	struct sockaddr_storage address;
	struct p2p_link *link; /* accepted last */
	int accepted, dialled, closed, writable, tcp_closed;
	int code;
	char text[128];
	size_t bytes;
	bool timed_out;
};

/* --- memory that runs out --------------------------------------------------------------------- */

static size_t live;
static unsigned int allocations_left = UINT32_MAX;

static void *limited_malloc(size_t size)
{
	if (allocations_left == 0)
		return NULL;
	allocations_left -= allocations_left != UINT32_MAX;
	live++;
	return malloc(size);
}

static void *limited_realloc(void *ptr, size_t size)
{
	if (allocations_left == 0)
		return NULL;
	live += ptr == NULL;
	return realloc(ptr, size);
}

static void counting_free(void *ptr)
{
	live -= ptr != NULL;
	free(ptr);
}

static const struct p2p_mem_hooks hooks = {limited_malloc, limited_realloc, counting_free};

/* --- the world -------------------------------------------------------------------------------- */

static void on_bytes(void *ctx, const uint8_t *data, size_t len)
{
	(void)data;
	((struct world *)ctx)->bytes += len;
}

static void on_writable(void *ctx)
{
	((struct world *)ctx)->writable++;
}

static void on_closed(void *ctx, int code, const char *text)
{
	struct world *world = ctx;

	world->closed++;
	world->code = code;
	(void)snprintf(world->text, sizeof(world->text), "%s", text);
}

static const struct p2p_link_events events = {on_bytes, on_writable, on_closed};

static void on_accepted(void *ctx, struct p2p_link *link, const struct sockaddr *from)
{
	struct world *world = ctx;

	(void)from;
	world->accepted++;
	world->link = link;
	p2p_link_attach(link, &events, world);
}

static void on_dialled(void *ctx, struct p2p_link *link, int code, const char *text)
{
	struct world *world = ctx;

	world->dialled++;
	world->code = code;
	(void)snprintf(world->text, sizeof(world->text), "%s", text);
	if (link)
		p2p_link_close(link, false);
}

static void on_guard(uv_timer_t *timer)
{
	((struct world *)timer->data)->timed_out = true;
}

static void on_tcp_closed(void *ctx)
{
	((struct world *)ctx)->tcp_closed++;
}

static int setup(void **state)
{
	static struct world world;
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

	memset(&world, 0, sizeof(world));
	assert_int_equal(uv_loop_init(&world.loop), 0);
	assert_int_equal(uv_timer_init(&world.loop, &world.guard), 0);
	world.guard.data = &world;
	assert_int_equal(uv_timer_start(&world.guard, on_guard, 20000, 0), 0);
	assert_int_equal(p2p_tcp_new(&world.loop, &world.tcp), 0);
	assert_int_equal(p2p_tcp_listen(world.tcp, (struct sockaddr *)&any, on_accepted, &world,
					&world.listener, NULL),
			 0);
	p2p_tcp_listener_address(world.listener, &world.address);
	*state = &world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	p2p_tcp_close(world->tcp, on_tcp_closed, world);
	uv_close((uv_handle_t *)&world->guard, NULL);
	assert_int_equal(uv_run(&world->loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(world->tcp_closed, 1);
	assert_int_equal(uv_loop_close(&world->loop), 0);
	assert_int_equal(live, 0);
	return 0;
}

static void turn(struct world *world)
{
	(void)uv_run(&world->loop, UV_RUN_ONCE);
	assert_false(world->timed_out);
}

static void until(struct world *world, const int *what, int reached)
{
	while (*what < reached)
		turn(world);
}

/* Until only so many blocks of memory are left. */
static void until_live(struct world *world, size_t blocks)
{
	while (live > blocks)
		turn(world);
	assert_int_equal(live, blocks);
}

static int raw_connect(const struct world *world)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct timeval limit = {10, 0};

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)&world->address,
				 sizeof(struct sockaddr_in)),
			 0);
	return fd;
}

/* The other side, which accepted. */
static int raw_linked(struct world *world)
{
	int fd = raw_connect(world);

	until(world, &world->accepted, world->accepted + 1);
	return fd;
}

static void raw_reset(int fd)
{
	struct linger linger = {1, 0};

	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	assert_int_equal(close(fd), 0);
}

/* Sends until something waits in the link. Returns how many bytes it took. */
static size_t fill(struct world *world)
{
	static uint8_t chunk[P2P_LINK_CHUNK_MAX];
	size_t sent = 0;
	int rc = 0, i;

	for (i = 0; i < 100000 && rc == 0; i++) {
		rc = p2p_link_send(world->link, chunk, sizeof(chunk));
		sent += sizeof(chunk);
	}
	assert_int_equal(rc, P2P_LINK_QUEUED);
	assert_int_equal(p2p_link_send(world->link, chunk, sizeof(chunk)), P2P_LINK_FULL);
	return sent;
}

/* --- links ------------------------------------------------------------------------------------ */

static void what_waits_goes_out_once_and_a_full_link_takes_nothing(void **state)
{
	struct world *world = *state;
	int fd = raw_linked(world);
	size_t sent = fill(world), got = 0;
	static uint8_t buffer[65536];

	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	while (got < sent || !world->writable) {
		ssize_t n = read(fd, buffer, sizeof(buffer));

		assert_true(n > 0 || (n < 0 && errno == EAGAIN));
		got += n > 0 ? (size_t)n : 0;
		if (n < 0) {
			(void)uv_run(&world->loop, UV_RUN_NOWAIT);
			assert_false(world->timed_out);
		}
	}
	assert_int_equal(got, sent);
	assert_int_equal(world->writable, 1);
	assert_int_equal(close(fd), 0);
	until(world, &world->closed, 1);
	assert_int_equal(world->code, P2P_ECLOSED);
}

static void a_reset_is_told_with_its_reason_and_once(void **state)
{
	struct world *world = *state;
	int fd = raw_linked(world);

	raw_reset(fd);
	until(world, &world->closed, 1);
	assert_int_equal(world->code, P2P_ENET);
	assert_non_null(strstr(world->text, "reset"));
	assert_int_equal(p2p_link_send(world->link, "x", 1), P2P_ECLOSED);
	p2p_link_pause(world->link, true); /* an ended link is still its owner's */
	p2p_link_close(world->link, true);
	fd = raw_linked(world);
	(void)fill(world);
	raw_reset(fd); /* now both the read and the write that waits fail */
	until(world, &world->closed, 2);
	assert_int_equal(world->code, P2P_ENET);
	(void)uv_run(&world->loop, UV_RUN_NOWAIT);
	assert_int_equal(world->closed, 2);
}

static void the_other_side_has_a_second_to_take_what_was_sent(void **state)
{
	struct world *world = *state;
	size_t before = live;
	int fd = raw_linked(world);
	uint64_t began = uv_now(&world->loop);
	char buffer[8] = "";

	assert_int_equal(p2p_link_send(world->link, "reason", 6), 0);
	p2p_link_close(world->link, true);
	assert_int_equal(write(fd, "late", 4), 4); /* what still comes is dropped */
	assert_int_equal(read(fd, buffer, sizeof(buffer)), 6);
	assert_string_equal(buffer, "reason");
	until_live(world, before); /* it does not end its side: time ends the link */
	assert_in_range(uv_now(&world->loop) - began, P2P_CLOSE_DRAIN_MS - 1,
			P2P_CLOSE_DRAIN_MS + 5000);
	assert_int_equal(world->bytes, 0);
	assert_int_equal(close(fd), 0);
	fd = raw_linked(world);
	began = uv_now(&world->loop);
	p2p_link_close(world->link, true);
	assert_int_equal(close(fd), 0);
	until_live(world, before); /* both sides are done: nothing to wait for */
	assert_true(uv_now(&world->loop) - began < P2P_CLOSE_DRAIN_MS);
	assert_int_equal(world->closed, 0);
}

static void a_link_that_breaks_while_it_is_closed_waits_for_nothing(void **state)
{
	struct world *world = *state;
	size_t before = live;
	int fd = raw_linked(world);
	uint64_t began;

	(void)fill(world);
	began = uv_now(&world->loop);
	p2p_link_close(world->link, true);
	raw_reset(fd);
	until_live(world, before);
	assert_true(uv_now(&world->loop) - began < P2P_CLOSE_DRAIN_MS);
	assert_int_equal(world->closed, 0); /* no event after close() */
}

static void what_is_open_when_tcp_closes_ends_without_a_word(void **state)
{
	struct world *world = *state;
	int fd = raw_linked(world);
	char byte;

	assert_int_equal(teardown(state), 0);
	assert_int_equal(world->closed, 0);
	assert_true(read(fd, &byte, 1) <= 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(setup(state), 0);
}

/* --- listeners and dials ---------------------------------------------------------------------- */

static void listeners_are_limited(void **state)
{
	struct world *world = *state;
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct p2p_tcp_listener *listener = NULL;
	struct p2p_error err = {0};
	int i;

	for (i = 1; i < P2P_LISTENERS_MAX; i++)
		assert_int_equal(p2p_tcp_listen(world->tcp, (struct sockaddr *)&any, on_accepted,
						world, &listener, &err),
				 0);
	assert_int_equal(p2p_tcp_listen(world->tcp, (struct sockaddr *)&any, on_accepted, world,
					&listener, &err),
			 P2P_EFULL);
	assert_non_null(strstr(err.msg, "listeners"));
	p2p_tcp_listener_close(listener); /* one less, one more */
	assert_int_equal(p2p_tcp_listen(world->tcp, (struct sockaddr *)&any, on_accepted, world,
					&listener, NULL),
			 0);
}

static void a_dial_that_nobody_answers_ends_in_time(void **state)
{
	struct world *world = *state;
	int listener = socket(AF_INET, SOCK_STREAM, 0), fds[4], i;
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);

	/* one whose queue is full: the kernel answers no more of them */
	assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(listener, 0), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &len), 0);
	for (i = 0; i < 4; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)connect(fds[i], (struct sockaddr *)&at, sizeof(at));
	}
	assert_int_equal(p2p_tcp_dial(world->tcp, (struct sockaddr *)&at, 100, on_dialled, world,
				      NULL),
			 0);
	until(world, &world->dialled, 1);
	assert_int_equal(world->code, P2P_ETIMEOUT);
	for (i = 0; i < 4; i++)
		(void)close(fds[i]);
	(void)close(listener);
}

static void a_dial_that_cannot_begin_makes_no_callback(void **state)
{
	struct world *world = *state;
	struct sockaddr_un strange = {.sun_family = AF_UNIX, .sun_path = "x"};
	struct p2p_tcp_dial *dial;
	size_t before = live;

	assert_int_equal(p2p_tcp_dial(world->tcp, (struct sockaddr *)&strange, 100, on_dialled,
				      world, NULL),
			 P2P_ENET);
	while (live > before)
		turn(world);
	assert_int_equal(world->dialled, 0);
	assert_int_equal(p2p_tcp_dial(world->tcp, (struct sockaddr *)&world->address, 5000,
				      on_dialled, world, &dial),
			 0);
	p2p_tcp_dial_cancel(dial);
	p2p_tcp_dial_cancel(dial); /* twice is once */
	until(world, &world->dialled, 1);
	assert_int_equal(world->code, P2P_ECANCELED);
}

static void without_memory_nothing_begins(void **state)
{
	struct world *world = *state;
	struct p2p_tcp_listener *listener = NULL;
	struct p2p_tcp *tcp = NULL;
	struct p2p_error err = {0};
	size_t before = live;
	unsigned int n;

	for (n = 0; n < 2; n++) { /* the dial, its connection */
		allocations_left = n;
		assert_int_equal(p2p_tcp_dial(world->tcp, (struct sockaddr *)&world->address, 100,
					      on_dialled, world, NULL),
				 P2P_ENOMEM);
	}
	allocations_left = 0;
	assert_int_equal(p2p_tcp_listen(world->tcp, (struct sockaddr *)&world->address, on_accepted,
					world, &listener, &err),
			 P2P_ENOMEM);
	assert_int_equal(err.code, P2P_ENOMEM);
	assert_int_equal(p2p_tcp_new(&world->loop, &tcp), P2P_ENOMEM);
	allocations_left = UINT32_MAX;
	assert_null(listener);
	assert_null(tcp);
	assert_int_equal(live, before);
}

static void a_listener_without_memory_refuses_and_goes_on(void **state)
{
	struct world *world = *state;
	int fds[3], i;
	char byte;

	for (i = 0; i < 3; i++)
		fds[i] = raw_connect(world); /* all three wait when the loop looks */
	allocations_left = 0;
	for (i = 0; i < 3; i++) {
		assert_int_equal(fcntl(fds[i], F_SETFL, O_NONBLOCK), 0);
		while (read(fds[i], &byte, 1) < 0 && errno == EAGAIN) {
			(void)uv_run(&world->loop, UV_RUN_NOWAIT);
			assert_false(world->timed_out);
		}
		assert_int_equal(close(fds[i]), 0);
	}
	assert_int_equal(world->accepted, 0);
	allocations_left = UINT32_MAX;
	(void)close(raw_linked(world));
}

static void close_listener(uv_handle_t *handle)
{
	p2p_tcp_listener_close(((struct world *)handle->data)->listener);
}

/* After the poll of the turn in which the connection was refused. */
static void on_check(uv_check_t *check)
{
	uv_close((uv_handle_t *)check, close_listener);
}

static void a_listener_may_close_while_it_refuses(void **state)
{
	struct world *world = *state;
	size_t before = live;
	uv_check_t check;
	int fd = raw_connect(world);

	/* callbacks of handles that are closed in one turn come in the opposite order: the listener
	 * begins to close before what it refused is gone */
	assert_int_equal(uv_check_init(&world->loop, &check), 0);
	check.data = world;
	assert_int_equal(uv_check_start(&check, on_check), 0);
	allocations_left = 0;
	turn(world);
	allocations_left = UINT32_MAX;
	until_live(world, before - 1); /* it is gone, once */
	assert_int_equal(world->accepted, 0);
	assert_int_equal(close(fd), 0);
}

static void assert_text(const void *address, const char *expected)
{
	char text[P2P_ADDRESS_TEXT_MAX];

	p2p_tcp_address_text(address, text, sizeof(text));
	assert_string_equal(text, expected);
}

static void addresses_are_told_as_people_write_them(void **state)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(7473)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(65535)};
	struct sockaddr_un strange = {.sun_family = AF_UNIX};

	(void)state;
	assert_int_equal(inet_pton(AF_INET, "192.0.2.1", &in.sin_addr), 1);
	assert_text(&in, "192.0.2.1:7473");
	assert_int_equal(inet_pton(AF_INET6, "fe80::1", &in6.sin6_addr), 1);
	assert_text(&in6, "[fe80::1]:65535");
	in6.sin6_scope_id = if_nametoindex("lo");
	assert_int_not_equal(in6.sin6_scope_id, 0);
	assert_text(&in6, "[fe80::1%lo]:65535");
	in6.sin6_scope_id = 0x7ffffff0; /* an interface that is gone */
	assert_text(&in6, "[fe80::1]:65535");
	assert_text(&strange, "?");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_waits_goes_out_once_and_a_full_link_takes_nothing),
		TEST(a_reset_is_told_with_its_reason_and_once),
		TEST(the_other_side_has_a_second_to_take_what_was_sent),
		TEST(a_link_that_breaks_while_it_is_closed_waits_for_nothing),
		TEST(what_is_open_when_tcp_closes_ends_without_a_word),
		TEST(listeners_are_limited),
		TEST(a_dial_that_nobody_answers_ends_in_time),
		TEST(a_dial_that_cannot_begin_makes_no_callback),
		TEST(without_memory_nothing_begins),
		TEST(a_listener_without_memory_refuses_and_goes_on),
		TEST(a_listener_may_close_while_it_refuses),
		TEST(addresses_are_told_as_people_write_them),
	};

	(void)signal(SIGPIPE, SIG_IGN); /* as the thread of a loop must */
	p2p_mem_set_hooks(&hooks);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
