/* Seeds with names, in virtual time, with a resolver that answers when and what the test says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
// cmocka needs the four above
#include <arpa/inet.h>
#include <cmocka.h>
#include <netdb.h>

#include "discovery/seeds.h"
#include "proto/limits.h"

/* --- the resolver: stands before libuv's ------------------------------------------------------ */

struct look_up {
	uv_getaddrinfo_t *request;
	uv_getaddrinfo_cb cb;
};

static struct look_up look_ups[P2P_SEEDS_MAX];
static size_t look_up_count;
static char looked_for[P2P_SEED_TEXT_MAX];
static int resolver_says, freed, cancelled;

int __wrap_uv_getaddrinfo(uv_loop_t *loop, uv_getaddrinfo_t *request, uv_getaddrinfo_cb cb,
			  const char *node, const char *service, const struct addrinfo *hints);
void __wrap_uv_freeaddrinfo(struct addrinfo *list);
int __wrap_uv_cancel(uv_req_t *request);

int __wrap_uv_getaddrinfo(uv_loop_t *loop, uv_getaddrinfo_t *request, uv_getaddrinfo_cb cb,
			  const char *node, const char *service, const struct addrinfo *hints)
{
	(void)loop;
	assert_null(service);
	assert_int_equal(hints->ai_family, AF_UNSPEC);
	if (resolver_says)
		return resolver_says;
	assert_true(look_up_count < P2P_SEEDS_MAX);
	look_ups[look_up_count++] = (struct look_up){request, cb};
	(void)snprintf(looked_for, sizeof(looked_for), "%s", node);
	return 0;
}

void __wrap_uv_freeaddrinfo(struct addrinfo *list)
{
	(void)list;
	freed++;
}

int __wrap_uv_cancel(uv_req_t *request)
{
	(void)request;
	cancelled++;
	return UV_EBUSY; /* it runs already, and ends by itself */
}

/* Ends the oldest look-up. */
static void answer(int status, struct addrinfo *list)
{
	struct look_up first = look_ups[0];

	assert_true(look_up_count > 0);
	memmove(look_ups, look_ups + 1, --look_up_count * sizeof(look_ups[0]));
	first.cb(first.request, status, list);
}

/* --- the world -------------------------------------------------------------------------------- */

static struct p2p_seeds *seeds;
static struct p2p_time now;
static int warnings, found, closed;
static char found_text[P2P_SEED_TEXT_MAX], found_address[P2P_ADDRESS_TEXT_MAX];

static struct p2p_time env_now(void *ctx)
{
	(void)ctx;
	return now;
}

static void on_log(void *ctx, enum p2p_log_level level, const char *group, const char *text)
{
	(void)ctx;
	assert_int_equal(level, P2P_LOG_WARN);
	assert_string_equal(group, "discovery");
	assert_non_null(strstr(text, "server.lan:5"));
	warnings++;
}

static void on_found(void *ctx, const char *text, const struct p2p_address *address)
{
	(void)ctx;
	found++;
	(void)snprintf(found_text, sizeof(found_text), "%s", text);
	p2p_address_text(address, found_address);
}

static void on_closed(void *ctx)
{
	(void)ctx;
	closed++;
}

static int setup(void **state)
{
	static const struct p2p_env env = {.now = env_now};
	static const struct p2p_log log = {.sink = on_log, .level = P2P_LOG_DEBUG};
	const struct p2p_seeds_config config = {.env = &env, .log = &log, .found = on_found};

	(void)state;
	now.ms = 1000000;
	look_up_count = 0;
	resolver_says = freed = cancelled = warnings = found = closed = 0;
	return p2p_seeds_open(&seeds, &config);
}

static int teardown(void **state)
{
	(void)state;
	if (!closed)
		p2p_seeds_close(seeds, on_closed, NULL);
	assert_int_equal(closed, 1);
	return 0;
}

static void add(const char *text)
{
	assert_int_equal(p2p_seeds_add(seeds, text), 0);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void only_names_are_looked_up(void **state)
{
	static const char *const bad[] = {"a b:5",   "-a:5",	 ".a:5", "a/b:5", "\xc3\xbc:5",
					  "[::1]:5", "a%eth0:5", ":5",	 "host",  "a\t:5"};
	char text[P2P_SEED_TEXT_MAX + 10];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(p2p_seeds_add(seeds, bad[i]), P2P_EINVAL);
	memset(text, 'a', sizeof(text));
	(void)snprintf(text + 254, sizeof(text) - 254, ":5");
	assert_int_equal(p2p_seeds_add(seeds, text), P2P_EINVAL); /* DNS has names of 253 */
	(void)snprintf(text + 253, sizeof(text) - 253, ":5");
	add(text);
	(void)p2p_seeds_tick(seeds, now);
	assert_int_equal(strlen(looked_for), 253);
	answer(0, NULL);
}

static void seeds_are_limited_and_one_is_one(void **state)
{
	char text[32];
	int i;

	(void)state;
	for (i = 0; i < P2P_SEEDS_MAX; i++) {
		(void)snprintf(text, sizeof(text), "server%d.lan:5", i);
		add(text);
		add(text);
	}
	assert_int_equal(p2p_seeds_add(seeds, "one.more:5"), P2P_ETOOBIG);
	add(text); /* it is known */
}

static void few_names_are_looked_up_at_once(void **state)
{
	char text[32];
	int i;

	(void)state;
	for (i = 0; i < 10; i++) {
		(void)snprintf(text, sizeof(text), "x%d.server.lan:5", i);
		add(text);
	}
	for (i = 0; i < 10; i++) {
		assert_true(p2p_seeds_tick(seeds, now).ms > now.ms);
		assert_int_equal(look_up_count,
				 10 - i < P2P_RESOLVES_MAX ? 10 - i : P2P_RESOLVES_MAX);
		answer(0, NULL);
	}
	assert_int_equal(p2p_seeds_tick(seeds, now).ms, now.ms + P2P_RESOLVE_AGAIN_MS);
	assert_int_equal(look_up_count, 0);
}

static void a_name_that_is_not_found_is_tried_for_ever_ever_more_rarely(void **state)
{
	uint64_t wait_ms = 1000;
	int i;

	(void)state;
	add("server.lan:5");
	for (i = 0; i < 20; i++) {
		resolver_says = i % 3 == 2 ? UV_ENOMEM : 0; /* it can fail at once, too */
		(void)p2p_seeds_tick(seeds, now);
		if (!resolver_says)
			answer(UV_EAI_NONAME, NULL);
		assert_int_equal(p2p_seeds_tick(seeds, now).ms, now.ms + wait_ms);
		assert_int_equal(look_up_count, 0); /* not before its time */
		now.ms += wait_ms;
		wait_ms = wait_ms < 64000 ? wait_ms * 2 : wait_ms;
	}
	assert_int_equal(warnings, 1);
	resolver_says = 0;
	(void)p2p_seeds_tick(seeds, now);
	answer(0, NULL);
	now.ms += P2P_RESOLVE_AGAIN_MS;
	(void)p2p_seeds_tick(seeds, now);
	answer(UV_EAI_AGAIN, NULL); /* after a success it begins anew */
	assert_int_equal(p2p_seeds_tick(seeds, now).ms, now.ms + 1000);
	assert_int_equal(warnings, 2);
}

static void of_one_name_a_few_addresses_count_with_the_port_of_the_seed(void **state)
{
	struct sockaddr_in in[P2P_SEED_ADDRESSES_MAX + 4];
	struct addrinfo list[P2P_SEED_ADDRESSES_MAX + 4];
	struct sockaddr strange = {.sa_family = AF_UNIX};
	size_t i, count = P2P_SEED_ADDRESSES_MAX + 4;

	(void)state;
	memset(in, 0, sizeof(in));
	memset(list, 0, sizeof(list));
	for (i = 0; i < count; i++) {
		in[i].sin_family = AF_INET;
		in[i].sin_port = htons(99);
		in[i].sin_addr.s_addr = htonl((uint32_t)(0xc0000200 + i)); /* 192.0.2.0/24 */
		list[i].ai_addr = i == 0 ? &strange : (struct sockaddr *)&in[i];
		list[i].ai_next = i + 1 < count ? &list[i + 1] : NULL;
	}
	add("server.lan:5");
	(void)p2p_seeds_tick(seeds, now);
	assert_string_equal(looked_for, "server.lan");
	answer(0, list);
	assert_int_equal(found, P2P_SEED_ADDRESSES_MAX);
	assert_string_equal(found_text, "server.lan:5");
	assert_string_equal(found_address, "192.0.2.8:5");
	assert_int_equal(freed, 1);
}

static void who_closes_hears_no_more_and_waits_for_what_runs(void **state)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct addrinfo list = {.ai_addr = (struct sockaddr *)&in};

	(void)state;
	add("a.server.lan:5");
	add("b.server.lan:5");
	(void)p2p_seeds_tick(seeds, now);
	p2p_seeds_close(seeds, on_closed, NULL);
	assert_int_equal(cancelled, 2);
	assert_int_equal(closed, 0);
	answer(0, &list);
	assert_int_equal(closed, 0);
	answer(UV_ECANCELED, NULL);
	assert_int_equal(closed, 1);
	assert_int_equal(found, 0);
	assert_int_equal(warnings, 0);
	assert_int_equal(freed, 2);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(only_names_are_looked_up),
		CASE(seeds_are_limited_and_one_is_one),
		CASE(few_names_are_looked_up_at_once),
		CASE(a_name_that_is_not_found_is_tried_for_ever_ever_more_rarely),
		CASE(of_one_name_a_few_addresses_count_with_the_port_of_the_seed),
		CASE(who_closes_hears_no_more_and_waits_for_what_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
