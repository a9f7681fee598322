/* TCP on the loopback: sessions over real sockets, errors with their reasons, nothing left open. */
#include "tests/unit/transport/fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

#include "transport/tcp.h"
#include "transport/transport.h"

struct side {
	struct p2p_self identity;
	struct p2p_secret secret;
	struct p2p_transport *transport;
	struct p2p_session *session;
	int ups, downs, fails, fail_code, down_code;
	size_t received_bytes;
	bool pause;
	char down_text[128];
};

struct world {
	struct fixture_world base;
	uv_loop_t loop;
	uv_timer_t guard;
	struct p2p_tcp *tcp;
	struct p2p_tcp_listener *listener;
	struct sockaddr_storage address;
	struct side server, client;
	int dial_code, dials, closed;
	char dial_text[128];
	bool timed_out;
};

static struct p2p_time real_now(void *ctx)
{
	(void)ctx;
	return (struct p2p_time){uv_hrtime() / 1000000};
}

static void real_random(void *ctx, void *out, size_t len)
{
	(void)ctx;
	randombytes_buf(out, len);
}

static void on_up(void *ctx, struct p2p_session *session, const struct p2p_session_info *info)
{
	struct side *side = ctx;

	(void)info;
	side->ups++;
	side->session = session;
	if (side->pause)
		p2p_transport_pause(session, true);
}

static void on_message(void *ctx, struct p2p_session *session, enum p2p_class cls,
		       const uint8_t *data, size_t len)
{
	struct side *side = ctx;

	(void)session;
	(void)cls;
	(void)data;
	side->received_bytes += len;
}

static void on_writable(void *ctx, struct p2p_session *session)
{
	(void)ctx;
	(void)session;
}

static void on_down(void *ctx, struct p2p_session *session, int code, const char *text)
{
	struct side *side = ctx;

	(void)session;
	side->session = NULL;
	side->downs++;
	side->down_code = code;
	(void)snprintf(side->down_text, sizeof(side->down_text), "%s", text);
}

static void on_failed(void *ctx, const struct p2p_session_info *info, int code, const char *text)
{
	struct side *side = ctx;

	(void)info;
	(void)text;
	side->fails++;
	side->fail_code = code;
}

static size_t on_secrets(void *ctx, enum p2p_kind kind, struct p2p_secret *out, size_t max)
{
	struct side *side = ctx;

	if (max == 0 || kind != side->secret.kind)
		return 0;
	out[0] = side->secret;
	return 1;
}

static const struct p2p_transport_events events = {on_up, on_message, on_writable, on_down,
						   on_failed};

static void side_init(struct world *world, struct side *side, uint8_t who)
{
	struct p2p_transport_config config = {
		.env = &world->base.env,
		.events = &events,
		.ctx = side,
		.identity = &side->identity,
		.software = "test/1",
		.secrets = on_secrets,
		.handshake_ms = 300,
	};

	fixture_identity(&side->identity, who, who);
	fixture_secret(&side->secret, P2P_KIND_MEMBER, 5);
	assert_int_equal(p2p_transport_new(&config, &side->transport), 0);
}

static void on_accepted(void *ctx, struct p2p_link *link, const struct sockaddr *from)
{
	struct world *world = ctx;
	char text[P2P_ADDRESS_TEXT_MAX];

	p2p_tcp_address_text(from, text, sizeof(text));
	assert_int_equal(strncmp(text, "127.0.0.1:", 10), 0);
	p2p_transport_accept(world->server.transport, link, text);
}

static void on_dialled(void *ctx, struct p2p_link *link, int code, const char *text)
{
	struct world *world = ctx;
	struct p2p_dial dial = {.address = "server", .secret = &world->client.secret};

	world->dials++;
	world->dial_code = code;
	(void)snprintf(world->dial_text, sizeof(world->dial_text), "%s", text);
	if (link)
		p2p_transport_dial(world->client.transport, link, &dial);
	else
		assert_true(code < 0);
}

static void on_guard(uv_timer_t *timer)
{
	((struct world *)timer->data)->timed_out = true;
}

static void on_closed(void *ctx)
{
	((struct world *)ctx)->closed++;
}

static struct sockaddr_in loopback(uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};

	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return in;
}

static int setup(void **state)
{
	static struct world world;
	struct sockaddr_in any = loopback(0);

	memset(&world, 0, sizeof(world));
	fixture_world_init(&world.base);
	world.base.env.now = real_now;
	world.base.env.random = real_random;
	assert_int_equal(uv_loop_init(&world.loop), 0);
	assert_int_equal(uv_timer_init(&world.loop, &world.guard), 0);
	world.guard.data = &world;
	assert_int_equal(uv_timer_start(&world.guard, on_guard, 20000, 0), 0);
	assert_int_equal(p2p_tcp_new(&world.loop, &world.tcp), 0);
	assert_int_equal(p2p_tcp_listen(world.tcp, (struct sockaddr *)&any, on_accepted, &world,
					&world.listener, NULL),
			 0);
	p2p_tcp_listener_address(world.listener, &world.address);
	side_init(&world, &world.server, 1);
	side_init(&world, &world.client, 2);
	*state = &world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;

	p2p_transport_free(world->client.transport);
	p2p_transport_free(world->server.transport);
	p2p_tcp_close(world->tcp, on_closed, world);
	assert_int_equal(world->closed, 0); /* not before it returned */
	uv_close((uv_handle_t *)&world->guard, NULL);
	assert_int_equal(uv_run(&world->loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(world->closed, 1);
	assert_int_equal(uv_loop_close(&world->loop), 0);
	return 0;
}

static void wake(uv_timer_t *timer)
{
	(void)timer; /* only ends the wait */
}

/* Runs the loop until the number is reached; the guard ends a test that waits in vain. */
static void run_until(struct world *world, const int *what, int reached)
{
	uv_timer_t timer;

	assert_int_equal(uv_timer_init(&world->loop, &timer), 0);
	while (*what < reached) {
		uint64_t now = real_now(NULL).ms, next, other;

		next = p2p_transport_tick(world->server.transport, (struct p2p_time){now}).ms;
		other = p2p_transport_tick(world->client.transport, (struct p2p_time){now}).ms;
		next = other < next ? other : next;
		if (next != UINT64_MAX)
			(void)uv_timer_start(&timer, wake, next > now ? next - now : 0, 0);
		if (*what < reached)
			(void)uv_run(&world->loop, UV_RUN_ONCE);
		assert_false(world->timed_out);
	}
	uv_close((uv_handle_t *)&timer, NULL);
	while (uv_is_active((uv_handle_t *)&timer))
		(void)uv_run(&world->loop, UV_RUN_NOWAIT);
	(void)uv_run(&world->loop, UV_RUN_NOWAIT); /* its close callback: it lives on this stack */
}

static void dial(struct world *world)
{
	assert_int_equal(p2p_tcp_dial(world->tcp, (struct sockaddr *)&world->address, 5000,
				      on_dialled, world, NULL),
			 0);
}

static void sessions_work_over_sockets(void **state)
{
	static uint8_t big[P2P_MESSAGE_MAX];
	struct world *world = *state;
	struct p2p_session_stats stats;
	uint64_t began;
	int i;

	dial(world);
	run_until(world, &world->server.ups, 1);
	run_until(world, &world->client.ups, 1);
	began = uv_hrtime();
	for (i = 0; i < 64;) {
		int rc =
			p2p_transport_send(world->client.session, P2P_CLASS_BULK, big, sizeof(big));

		i += rc == 0;
		(void)uv_run(&world->loop, UV_RUN_NOWAIT);
	}
	while (world->server.received_bytes < 64 * sizeof(big) && !world->timed_out)
		(void)uv_run(&world->loop, UV_RUN_ONCE);
	assert_true(world->server.received_bytes == 64 * sizeof(big));
	print_message("64 MiB in %.0f ms\n", (double)(uv_hrtime() - began) / 1e6);
	p2p_session_stats(world->client.session, &stats);
	assert_int_equal(stats.sent_messages, 64);
	assert_int_equal(stats.queued_bytes, 0);
	p2p_transport_close(world->client.session, P2P_EREVOKED, "the reason arrives");
	run_until(world, &world->server.downs, 1);
	assert_int_equal(world->server.down_code, P2P_EREVOKED);
	assert_string_equal(world->server.down_text, "the reason arrives");
}

static void a_paused_reader_holds_the_writer_within_bounds(void **state)
{
	static uint8_t big[P2P_MESSAGE_MAX];
	struct world *world = *state;
	size_t sent = 0;
	int i;

	world->server.pause = true;
	dial(world);
	run_until(world, &world->client.ups, 1);
	for (i = 0; i < 2000; i++) {
		sent += p2p_transport_send(world->client.session, P2P_CLASS_BULK, big,
					   sizeof(big)) == 0;
		(void)uv_run(&world->loop, UV_RUN_NOWAIT);
	}
	assert_int_equal(world->server.received_bytes, 0);
	assert_true(sent < 16); /* kernel buffers of both sides and one queue, not 2000 */
	p2p_transport_pause(world->server.session, false);
	while (world->server.received_bytes < sent * sizeof(big) && !world->timed_out)
		(void)uv_run(&world->loop, UV_RUN_ONCE);
	assert_true(world->server.received_bytes == sent * sizeof(big));
}

static void an_address_in_use_is_told(void **state)
{
	struct world *world = *state;
	struct p2p_tcp_listener *second = NULL;
	struct p2p_error err = {0};

	assert_int_equal(p2p_tcp_listen(world->tcp, (struct sockaddr *)&world->address, on_accepted,
					world, &second, &err),
			 P2P_EEXIST);
	assert_null(second);
	assert_non_null(strstr(err.msg, "127.0.0.1:"));
	assert_non_null(strstr(err.msg, "address already in use"));
}

static void both_families_can_share_a_port(void **state)
{
	struct world *world = *state;
	struct p2p_tcp_listener *second;
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_in in;
	char text[P2P_ADDRESS_TEXT_MAX];

	memcpy(&in, &world->address, sizeof(in));
	assert_int_not_equal(in.sin_port, 0);
	in6.sin6_port = in.sin_port;
	if (p2p_tcp_listen(world->tcp, (struct sockaddr *)&in6, on_accepted, world, &second,
			   NULL)) {
		print_message("no IPv6 loopback here\n");
		skip();
	}
	p2p_tcp_listener_address(second, &world->address);
	p2p_tcp_address_text((struct sockaddr *)&world->address, text, sizeof(text));
	assert_int_equal(strncmp(text, "[::1]:", 6), 0);
	p2p_tcp_listener_close(second);
}

static void nobody_there_is_told(void **state)
{
	struct world *world = *state;

	p2p_tcp_listener_close(world->listener);
	(void)uv_run(&world->loop, UV_RUN_NOWAIT);
	dial(world);
	assert_int_equal(world->dials, 0); /* not before it returned */
	run_until(world, &world->dials, 1);
	assert_int_equal(world->dial_code, P2P_EREFUSED);
	assert_non_null(strstr(world->dial_text, "refused"));
}

static void a_dial_can_be_taken_back(void **state)
{
	struct world *world = *state;
	struct p2p_tcp_dial *handle;

	assert_int_equal(p2p_tcp_dial(world->tcp, (struct sockaddr *)&world->address, 5000,
				      on_dialled, world, &handle),
			 0);
	p2p_tcp_dial_cancel(handle);
	assert_int_equal(world->dials, 0);
	run_until(world, &world->dials, 1);
	assert_int_equal(world->dial_code, P2P_ECANCELED);
	dial(world); /* this one is taken back by the tear-down, which closes everything */
}

/* A client that speaks what it likes. Returns a connected blocking socket. */
static int raw_connect(struct world *world)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct timeval limit = {10, 0};

	assert_true(fd >= 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&world->address,
				 sizeof(struct sockaddr_in)),
			 0);
	return fd;
}

static void garbage_and_silence_get_no_byte(void **state)
{
	struct world *world = *state;
	uint8_t garbage[3000];
	int fds[3], i;
	char byte;

	for (i = 0; i < 3; i++)
		fds[i] = raw_connect(world);
	memset(garbage, 0xff, sizeof(garbage));
	assert_int_equal(write(fds[1], garbage, sizeof(garbage)), (ssize_t)sizeof(garbage));
	randombytes_buf(garbage, sizeof(garbage));
	garbage[0] = P2P_KIND_MEMBER; /* as far as a stranger can come */
	garbage[18] = 2;
	assert_int_equal(write(fds[2], garbage, sizeof(garbage)), (ssize_t)sizeof(garbage));
	run_until(world, &world->server.fails, 3); /* the silent one by time */
	assert_int_equal(world->server.fail_code, P2P_ETIMEOUT);
	for (i = 0; i < 3; i++) {
		assert_true(read(fds[i], &byte, 1) <= 0);
		close(fds[i]);
	}
	dial(world); /* and the others are served as ever */
	run_until(world, &world->server.ups, 1);
}

static void a_thousand_connections_leave_nothing(void **state)
{
	struct world *world = *state;
	int i;

	for (i = 1; i <= 1000; i++) {
		dial(world);
		run_until(world, &world->client.ups, i);
		p2p_transport_close(i % 2 ? world->client.session : world->server.session,
				    P2P_EPROTO, "cycle");
		run_until(world, &world->client.downs, i);
		run_until(world, &world->server.downs, i);
	}
	assert_int_equal(world->server.fails + world->client.fails, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(sessions_work_over_sockets),
		TEST(a_paused_reader_holds_the_writer_within_bounds),
		TEST(an_address_in_use_is_told),
		TEST(both_families_can_share_a_port),
		TEST(nobody_there_is_told),
		TEST(a_dial_can_be_taken_back),
		TEST(garbage_and_silence_get_no_byte),
		TEST(a_thousand_connections_leave_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
