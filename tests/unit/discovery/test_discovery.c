/* Whole discoverers on one loop, on the loopback of this machine alone: who finds whom, and what is
 * done with datagrams that somebody else made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the four above
#include <arpa/inet.h>
#include <cmocka.h>
#include <sodium.h>
#include <unistd.h>
#include <uv.h>

#include "discovery/discovery.h"
#include "proto/limits.h"
#include "proto/mem.h"

#define DIALS_MAX 16

struct finder {
	struct p2p_discovery *discovery;
	struct p2p_key key;
	struct p2p_id instance;
	char dials[DIALS_MAX][P2P_SEED_TEXT_MAX + 32]; /* "source text" */
	int dial_count, ups, clones, stopped;
	bool stop_at_dial;
	uint64_t secret_id; /* of the last dial */
	uint32_t dial_id;
};

struct world {
	uv_loop_t loop;
	uv_timer_t guard;
	struct p2p_env env;
	uint16_t port;
	struct finder a, b;
	bool timed_out;
};

static const struct p2p_hash mesh = {{1}};
static const struct p2p_beacon_secret epoch = {P2P_SECRET_EPOCH, 1, {7}};

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

static void counting_free(void *ptr)
{
	live -= ptr != NULL;
	free(ptr);
}

static const struct p2p_mem_hooks hooks = {limited_malloc, realloc, counting_free};

/* --- the world -------------------------------------------------------------------------------- */

static struct p2p_time env_now(void *ctx)
{
	(void)ctx;
	return (struct p2p_time){uv_hrtime() / 1000000};
}

static uint64_t env_wall_ms(void *ctx)
{
	(void)ctx;
	return 1700000000000 + uv_hrtime() / 1000000;
}

static void env_random(void *ctx, void *out, size_t len)
{
	(void)ctx;
	randombytes_buf(out, len);
}

static void on_stopped(void *ctx)
{
	((struct finder *)ctx)->stopped++;
}

static void on_dial(void *ctx, const struct p2p_dial_request *dial)
{
	static const char *const sources[] = {"seed", "ticket", "beacon", "answer", "claim"};
	struct finder *finder = ctx;

	if (finder->dial_count < DIALS_MAX)
		(void)snprintf(finder->dials[finder->dial_count], sizeof(finder->dials[0]), "%s %s",
			       sources[dial->source], dial->text);
	finder->dial_count++;
	finder->secret_id = dial->secret_id;
	finder->dial_id = dial->id;
	if (finder->stop_at_dial)
		p2p_discovery_stop(finder->discovery, on_stopped, finder);
}

static void on_event(void *ctx, enum p2p_discovery_event event)
{
	struct finder *finder = ctx;

	finder->ups += event == P2P_DISCOVERY_UP;
	finder->clones += event == P2P_DISCOVERY_CLONE;
}

static void on_guard(uv_timer_t *timer)
{
	((struct world *)timer->data)->timed_out = true;
}

/* One that is free now; discoverers share it. */
static uint16_t free_port(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	socklen_t len = sizeof(in);

	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	assert_int_equal(close(fd), 0);
	return ntohs(in.sin_port);
}

static int setup(void **state)
{
	static struct world world;

	memset(&world, 0, sizeof(world));
	assert_int_equal(uv_loop_init(&world.loop), 0);
	assert_int_equal(uv_timer_init(&world.loop, &world.guard), 0);
	world.guard.data = &world;
	assert_int_equal(uv_timer_start(&world.guard, on_guard, 20000, 0), 0);
	world.env = (struct p2p_env){NULL, env_now, env_wall_ms, env_random};
	world.port = free_port();
	memset(world.a.key.bytes, 0xa, P2P_KEY_BYTES);
	memset(world.b.key.bytes, 0xb, P2P_KEY_BYTES);
	memset(world.a.instance.bytes, 1, P2P_ID_BYTES);
	memset(world.b.instance.bytes, 2, P2P_ID_BYTES);
	*state = &world;
	return 0;
}

static void finder_stop(struct finder *finder)
{
	if (finder->discovery && !finder->stop_at_dial)
		p2p_discovery_stop(finder->discovery, on_stopped, finder);
}

static int teardown(void **state)
{
	struct world *world = *state;

	finder_stop(&world->a);
	finder_stop(&world->b);
	uv_close((uv_handle_t *)&world->guard, NULL);
	assert_int_equal(uv_run(&world->loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(world->a.stopped, world->a.discovery != NULL);
	assert_int_equal(world->b.stopped, world->b.discovery != NULL);
	assert_int_equal(uv_loop_close(&world->loop), 0);
	assert_int_equal(live, 0);
	return 0;
}

static struct p2p_discovery_config config_of(struct world *world, struct finder *finder)
{
	return (struct p2p_discovery_config){
		.env = &world->env,
		.loop = &world->loop,
		.callbacks = {finder, on_dial, on_event},
		.key = finder->key,
		.instance = finder->instance,
		.mesh = mesh,
		.tcp_port = 7001,
		.secrets = &epoch,
		.secrets_count = 1,
		.loopback_only = true,
		.udp_port = world->port,
	};
}

static void start(struct finder *finder, const struct p2p_discovery_config *config)
{
	struct p2p_error err = {0};

	if (p2p_discovery_start(&finder->discovery, config, &err))
		fail_msg("%s", err.msg);
}

static void until(struct world *world, const int *what, int reached)
{
	while (*what < reached) {
		(void)uv_run(&world->loop, UV_RUN_ONCE);
		assert_false(world->timed_out);
	}
}

static struct p2p_discovery_stats stats_of(const struct finder *finder)
{
	struct p2p_discovery_stats stats;

	p2p_discovery_stats(finder->discovery, &stats);
	return stats;
}

/* A datagram of nobody's, and of a member's secret. */
static void send_bytes(const struct world *world, const void *data, size_t len)
{
	struct sockaddr_in in = {.sin_family = AF_INET,
				 .sin_port = htons(world->port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	assert_int_equal(sendto(fd, data, len, 0, (struct sockaddr *)&in, sizeof(in)),
			 (ssize_t)len);
	assert_int_equal(close(fd), 0);
}

static void seal(uint8_t out[P2P_BEACON_BYTES], const struct p2p_beacon *beacon)
{
	uint8_t nonce[P2P_BEACON_NONCE_BYTES];
	struct p2p_beacon_ring ring;

	assert_int_equal(p2p_beacon_ring_set(&ring, &epoch, 1), 0);
	randombytes_buf(nonce, sizeof(nonce));
	p2p_beacon_seal(out, beacon, &ring.keys[0], &mesh, nonce);
}

static void until_received(struct world *world, uint64_t count)
{
	while (stats_of(&world->a).received < count) {
		(void)uv_run(&world->loop, UV_RUN_ONCE);
		assert_false(world->timed_out);
	}
}

/* --- tests ------------------------------------------------------------------------------------ */

static void members_find_one_another_and_strangers_learn_nothing(void **state)
{
	const struct p2p_beacon_secret other = {P2P_SECRET_EPOCH, 1, {8}};
	struct world *world = *state;
	struct p2p_discovery_config config = config_of(world, &world->b);
	struct finder stranger = {.key = {{5}}, .instance = {{5}}};
	struct p2p_discovery_config strange = config_of(world, &stranger);

	strange.secrets = &other;
	start(&stranger, &strange);
	config.tcp_port = 7002;
	start(&world->b, &config);
	config = config_of(world, &world->a);
	start(&world->a, &config);
	until(world, &world->a.dial_count, 1);
	until(world, &world->b.dial_count, 1);
	assert_int_equal(world->a.ups, 1);
	assert_string_equal(world->a.dials[0], "beacon 127.0.0.1:7002");
	assert_string_equal(world->b.dials[0], "beacon 127.0.0.1:7001");
	assert_true(stats_of(&stranger).strange > 0);
	assert_int_equal(stats_of(&stranger).beacons, 0);
	assert_int_equal(stranger.dial_count, 0);
	finder_stop(&stranger);
	until(world, &stranger.stopped, 1);
}

static void a_joiner_finds_who_made_its_ticket(void **state)
{
	const struct p2p_beacon_secret issued[2] = {epoch, {P2P_SECRET_ISSUED, 4, {9}}};
	const struct p2p_beacon_secret held = {P2P_SECRET_HELD, 42, {9}};
	struct world *world = *state;
	struct p2p_discovery_config config = config_of(world, &world->a);

	start(&world->a, &config);
	assert_int_equal(p2p_discovery_set_secrets(world->a.discovery, issued, 2), 0);
	config = config_of(world, &world->b);
	config.secrets = &held;
	config.tcp_port = 0;
	start(&world->b, &config);
	until(world, &world->b.dial_count, 1);
	assert_string_equal(world->b.dials[0], "answer 127.0.0.1:7001");
	assert_int_equal(world->b.secret_id, 42);
	assert_int_equal(world->a.dial_count, 0); /* there is nothing to dial at a joiner */
}

static void a_copy_of_this_node_is_told(void **state)
{
	struct world *world = *state;
	struct p2p_discovery_config config = config_of(world, &world->a);

	start(&world->a, &config);
	world->b.key = world->a.key;
	config = config_of(world, &world->b);
	start(&world->b, &config);
	until(world, &world->a.clones, 1);
	assert_int_equal(world->a.dial_count, 0);
}

static void a_recorded_beacon_and_an_older_one_are_dropped(void **state)
{
	struct p2p_beacon beacon = {.kind = P2P_BEACON_HELLO, .port = 7100, .time_ms = 1000};
	struct world *world = *state;
	struct p2p_discovery_config config = config_of(world, &world->a);
	uint8_t first[P2P_BEACON_BYTES], older[P2P_BEACON_BYTES];
	struct p2p_discovery_stats stats;

	config.tcp_port = 0; /* says nothing itself: what comes is the test's */
	start(&world->a, &config);
	memset(beacon.key.bytes, 6, P2P_KEY_BYTES);
	beacon.addresses_count = 2;
	assert_int_equal(p2p_address_parse(&beacon.addresses[0], "127.0.0.7", 7), 0);
	assert_int_equal(p2p_address_parse(&beacon.addresses[1], "192.0.2.1", 7), 0);
	seal(first, &beacon);
	beacon.time_ms--;
	seal(older, &beacon);
	send_bytes(world, first, sizeof(first));
	send_bytes(world, first, sizeof(first));
	send_bytes(world, older, sizeof(older));
	send_bytes(world, older, sizeof(older) - 1);
	until_received(world, 4);
	stats = stats_of(&world->a);
	assert_int_equal(stats.beacons, 1);
	assert_int_equal(stats.replayed, 2);
	assert_int_equal(stats.strange, 1);
	assert_int_equal(stats.addresses, 2); /* that of another machine is left out here */
	until(world, &world->a.dial_count, 1);
	assert_string_equal(world->a.dials[0], "beacon 127.0.0.1:7100");
	p2p_discovery_dialed(world->a.discovery, world->a.dial_id, P2P_EREFUSED, NULL, NULL);
	until(world, &world->a.dial_count, 2); /* of one node one address after the other */
	assert_string_equal(world->a.dials[1], "claim 127.0.0.7:7");
}

static void a_flood_is_dropped_unread(void **state)
{
	struct world *world = *state;
	struct p2p_discovery_config config = config_of(world, &world->a);
	uint8_t garbage[P2P_BEACON_BYTES] = {1};
	struct p2p_discovery_stats stats;
	uint64_t began = env_now(NULL).ms, seconds;
	int i;

	config.tcp_port = 0;
	start(&world->a, &config);
	for (i = 0; i < 2 * P2P_DATAGRAMS_HOST_RATE; i++) {
		send_bytes(world, garbage, sizeof(garbage));
		(void)uv_run(&world->loop, UV_RUN_NOWAIT); /* before the socket is full */
	}
	until_received(world, 2 * P2P_DATAGRAMS_HOST_RATE);
	seconds = (env_now(NULL).ms - began) / 1000 + 1;
	stats = stats_of(&world->a);
	assert_int_equal(stats.strange + stats.limited, stats.received);
	assert_true(stats.strange >= P2P_DATAGRAMS_HOST_RATE);
	assert_true(stats.strange <= P2P_DATAGRAMS_HOST_RATE * (1 + seconds));
}

static void a_seed_with_a_name_is_dialled_where_it_leads(void **state)
{
	static const char *const seeds[] = {"localhost:7200"};
	struct world *world = *state;
	struct p2p_discovery_config config = config_of(world, &world->a);

	config.off = true;
	config.seeds = seeds;
	config.seeds_count = 1;
	start(&world->a, &config);
	until(world, &world->a.dial_count, 1);
	assert_int_equal(strncmp(world->a.dials[0], "seed ", 5), 0);
	assert_non_null(strstr(world->a.dials[0], ":7200"));
	assert_int_equal(stats_of(&world->a).sent, 0);
}

static void what_is_added_is_an_address_or_what_a_person_named(void **state)
{
	struct world *world = *state;
	struct p2p_discovery_config config = config_of(world, &world->a);

	config.off = true;
	start(&world->a, &config);
	world->a.stop_at_dial = true;
	assert_int_equal(p2p_discovery_add(world->a.discovery, "no port", P2P_SOURCE_SEED, NULL),
			 P2P_EINVAL);
	assert_int_equal(p2p_discovery_add(world->a.discovery, "name.lan:5", P2P_SOURCE_CLAIM,
					   NULL),
			 P2P_EINVAL); /* what peers tell is not looked up */
	assert_int_equal(p2p_discovery_add(world->a.discovery, "0.0.0.0:5", P2P_SOURCE_TICKET,
					   NULL),
			 P2P_EINVAL);
	assert_int_equal(p2p_discovery_add(world->a.discovery, "127.0.0.1:5", P2P_SOURCE_CLAIM,
					   NULL),
			 0);
	assert_int_equal(p2p_discovery_add(world->a.discovery, "127.0.0.1:6", P2P_SOURCE_TICKET,
					   NULL),
			 0);
	until(world, &world->a.stopped, 1); /* stopped from inside of the first dial */
	assert_int_equal(world->a.dial_count, 1);
}

static void what_cannot_start_says_why_and_leaves_nothing(void **state)
{
	static const char *const malformed[] = {"127.0.0.1:5", "nowhere"};
	const char *many[P2P_SEEDS_MAX + 1];
	char texts[P2P_SEEDS_MAX + 1][32];
	struct p2p_beacon_secret secrets[P2P_EPOCH_KEYS_MAX + 1];
	struct world *world = *state;
	struct p2p_discovery_config config = config_of(world, &world->a);
	struct p2p_error err = {0};
	unsigned int n;
	size_t i;

	config.seeds = malformed;
	config.seeds_count = 2;
	assert_int_equal(p2p_discovery_start(&world->a.discovery, &config, &err), P2P_EINVAL);
	assert_non_null(strstr(err.msg, "'nowhere': expected HOST:PORT"));
	for (i = 0; i <= P2P_SEEDS_MAX; i++) {
		(void)snprintf(texts[i], sizeof(texts[i]), "server%zu.lan:5", i);
		many[i] = texts[i];
	}
	config.seeds = many;
	config.seeds_count = P2P_SEEDS_MAX + 1;
	assert_int_equal(p2p_discovery_start(&world->a.discovery, &config, &err), P2P_ETOOBIG);
	config.seeds_count = 0;
	for (i = 0; i <= P2P_EPOCH_KEYS_MAX; i++)
		secrets[i] = epoch;
	config.secrets = secrets;
	config.secrets_count = P2P_EPOCH_KEYS_MAX + 1;
	assert_int_equal(p2p_discovery_start(&world->a.discovery, &config, &err), P2P_EINVAL);
	assert_non_null(strstr(err.msg, "too many secrets"));
	config.secrets_count = 1;
	for (n = 0; n < 4; n++) { /* itself, the book, seeds, multicast */
		allocations_left = n;
		assert_int_equal(p2p_discovery_start(&world->a.discovery, &config, &err),
				 P2P_ENOMEM);
		allocations_left = UINT32_MAX;
	}
	assert_null(world->a.discovery);
	while (live > 0) {
		(void)uv_run(&world->loop, UV_RUN_NOWAIT);
		assert_false(world->timed_out);
	}
	start(&world->a, &config);
	config.secrets_count = P2P_EPOCH_KEYS_MAX + 1;
	assert_int_equal(p2p_discovery_set_secrets(world->a.discovery, secrets,
						   P2P_EPOCH_KEYS_MAX + 1),
			 P2P_EINVAL);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(members_find_one_another_and_strangers_learn_nothing),
		CASE(a_joiner_finds_who_made_its_ticket),
		CASE(a_copy_of_this_node_is_told),
		CASE(a_recorded_beacon_and_an_older_one_are_dropped),
		CASE(a_flood_is_dropped_unread),
		CASE(a_seed_with_a_name_is_dialled_where_it_leads),
		CASE(what_is_added_is_an_address_or_what_a_person_named),
		CASE(what_cannot_start_says_why_and_leaves_nothing),
	};

	assert_true(sodium_init() >= 0);
	p2p_mem_set_hooks(&hooks);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
