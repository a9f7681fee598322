/* Calls from other threads: they run on the loop's thread, one at a time, and end with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "node/mailbox.h"

#define THREADS 4
#define CALLS	500

struct world {
	uv_loop_t loop;
	struct p2p_mailbox mailbox;
	uv_thread_t loop_thread;
	unsigned int count;
	bool wrong_thread;
	bool closed;
};

static void loop_main(void *ctx)
{
	struct world *world = ctx;

	p2p_mailbox_own(&world->mailbox);
	assert_int_equal(uv_run(&world->loop, UV_RUN_DEFAULT), 0);
}

static void count_up(void *ctx)
{
	struct world *world = ctx;
	uv_thread_t self = uv_thread_self();

	world->count++;
	if (!uv_thread_equal(&self, &world->loop_thread))
		world->wrong_thread = true;
}

static void closed_cb(void *ctx)
{
	struct world *world = ctx;

	world->closed = true;
}

static void close_it(void *ctx)
{
	struct world *world = ctx;

	p2p_mailbox_close(&world->mailbox, closed_cb, world);
}

static void caller_main(void *ctx)
{
	struct world *world = ctx;
	int i;

	for (i = 0; i < CALLS; i++)
		if (p2p_mailbox_call(&world->mailbox, count_up, world))
			return;
}

static void calls_run_on_the_loops_thread(void **state)
{
	struct world world = {.count = 0};
	uv_thread_t callers[THREADS];
	size_t i;

	(void)state;
	assert_int_equal(uv_loop_init(&world.loop), 0);
	assert_int_equal(p2p_mailbox_init(&world.mailbox), 0);
	assert_int_equal(p2p_mailbox_open(&world.mailbox, &world.loop), 0);
	assert_int_equal(uv_thread_create(&world.loop_thread, loop_main, &world), 0);
	for (i = 0; i < THREADS; i++)
		assert_int_equal(uv_thread_create(&callers[i], caller_main, &world), 0);
	for (i = 0; i < THREADS; i++)
		assert_int_equal(uv_thread_join(&callers[i]), 0);
	assert_int_equal(world.count, THREADS * CALLS);
	assert_false(world.wrong_thread);
	assert_int_equal(p2p_mailbox_call(&world.mailbox, close_it, &world), 0);
	assert_int_equal(uv_thread_join(&world.loop_thread), 0);
	assert_true(world.closed);
	assert_int_equal(p2p_mailbox_call(&world.mailbox, count_up, &world), P2P_ESTATE);
	assert_int_equal(world.count, THREADS * CALLS);
	assert_int_equal(uv_loop_close(&world.loop), 0);
	p2p_mailbox_deinit(&world.mailbox);
}

static void without_a_loop_calls_run_in_the_caller(void **state)
{
	struct world world = {.count = 0};

	(void)state;
	world.loop_thread = uv_thread_self();
	assert_int_equal(p2p_mailbox_init(&world.mailbox), 0);
	assert_int_equal(p2p_mailbox_call(&world.mailbox, count_up, &world), 0);
	assert_int_equal(world.count, 1);
	assert_false(world.wrong_thread);
	p2p_mailbox_deinit(&world.mailbox);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_run_on_the_loops_thread),
		cmocka_unit_test(without_a_loop_calls_run_in_the_caller),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
