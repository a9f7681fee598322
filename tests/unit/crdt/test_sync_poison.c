/* A bad peer puts nonsense where no signature covers it yet. Honest peers are not blamed for it, no
 * fork is seen in it, and it costs the bad one at most its own connection.
 *
 * Node 0 takes; node 1 is the author and node 2 has all of it; node 3 is a puppet that lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "proto/limits.h"
#include "tests/support/syncnet.h"

#define TAKER  0
#define AUTHOR 1
#define HONEST 2
#define BAD    3

static struct syncnet net;

static const struct p2p_id *author_id(void)
{
	return &net.nodes[AUTHOR].author.replica;
}

/* The author's changeset of this seq, as it really is. */
static const struct memlog_change *real(uint64_t seq)
{
	const struct memlog_change *change = memlog_get(&net.nodes[AUTHOR].log, author_id(), seq);

	assert_non_null(change);
	return change;
}

/* The same with another content, and no signature unless it is the last of a group (then a wrong
 * one). follow: what it stands on; NULL: as the real one. */
static struct memlog_change *forged(uint64_t seq, const struct memlog_change *follow)
{
	const struct p2p_header *as = &real(seq)->header;
	struct memlog_spec spec = {.seq = seq,
				   .stamp = as->stamp.value,
				   .prev = follow ? follow->hash : as->prev,
				   .group_pos = as->group_pos,
				   .group_last = as->group_last,
				   .bytes = as->total_bytes,
				   .salt = 4711};
	struct memlog_author liar = net.nodes[BAD].author;

	liar.replica = *author_id();
	return memlog_make(&net.mesh, &liar, &spec);
}

/* All have one group of the author; then comes one of four times 70 000 bytes (two segments each)
 * that the taker does not have, and one small one. */
static void begin(uint64_t seed)
{
	size_t i;

	syncnet_init(&net, seed);
	net.delay_ms = 1;
	net.again_ms = 0;
	for (i = 0; i < 3; i++)
		(void)syncnet_add(&net);
	(void)syncnet_add_puppet(&net);
	syncnet_write(&net, AUTHOR, 1, 100);
	syncnet_connect(&net, TAKER, AUTHOR);
	syncnet_connect(&net, HONEST, AUTHOR);
	assert_true(syncnet_settle(&net, 5000));
	syncnet_disconnect(&net, TAKER, AUTHOR);
	syncnet_write(&net, AUTHOR, 4, 70000);
	syncnet_write(&net, AUTHOR, 1, 100);
	assert_true(net.links[HONEST][AUTHOR].up);
	syncnet_run(&net, 2000);
	assert_int_equal(syncnet_merged(&net, HONEST, AUTHOR), 6);
	assert_int_equal(syncnet_merged(&net, TAKER, AUTHOR), 1);
}

/* The liar says that it has all, and is asked. */
static void bad_offers(void)
{
	syncnet_connect(&net, TAKER, BAD);
	syncnet_say_have(&net, BAD, TAKER, author_id(), 6, &real(6)->hash);
	syncnet_run(&net, 10);
	assert_true(syncnet_heard_count(&net, BAD, P2P_MSG_WANT) > 0);
}

static void bad_sends(struct memlog_change *change, uint32_t first, uint32_t last)
{
	syncnet_say_change(&net, BAD, TAKER, change, first, last);
	memlog_change_free(change);
	syncnet_run(&net, 5);
}

/* The honest one comes: all is had from it soon, and nobody honest is at fault. */
static void assert_mended(uint64_t limit_ms)
{
	uint64_t begun = net.now_ms;

	syncnet_connect(&net, TAKER, HONEST);
	while (syncnet_merged(&net, TAKER, AUTHOR) < 6 && net.now_ms - begun < limit_ms)
		syncnet_run(&net, 10);
	assert_int_equal(syncnet_merged(&net, TAKER, AUTHOR), 6);
	assert_true(net.links[TAKER][HONEST].up);
	assert_true(memlog_agree(&net.nodes[TAKER].log, &net.nodes[AUTHOR].log));
	assert_int_equal(net.nodes[TAKER].events[P2P_SYNC_FORK], 0);
	assert_int_equal(net.nodes[TAKER].events[P2P_SYNC_CLOCK], 0);
	syncnet_run(&net, 15000);
	assert_true(net.links[TAKER][HONEST].up);
	assert_int_equal(net.nodes[TAKER].events[P2P_SYNC_FORK], 0);
	syncnet_deinit(&net);
}

static void a_forged_inner_changeset_is_no_fork(void **state)
{
	(void)state;
	begin(1);
	bad_offers();
	bad_sends(forged(2, NULL), 0, 1);
	assert_mended(3000);
}

static void a_forged_first_segment_blames_nobody(void **state)
{
	(void)state;
	begin(2);
	bad_offers();
	bad_sends(forged(2, NULL), 0, 0);
	assert_mended(3000);
}

static void a_forged_changeset_behind_honest_ones_blames_nobody(void **state)
{
	(void)state;
	begin(3);
	bad_offers();
	syncnet_say_change(&net, BAD, TAKER, real(2), 0, 1);
	bad_sends(forged(3, NULL), 0, 1);
	bad_sends(forged(4, NULL), 0, 0); /* does not stand on the forged one: its own fault */
	assert_false(net.links[TAKER][BAD].up);
	assert_mended(3000);
}

static void a_header_without_its_data_is_not_kept(void **state)
{
	struct memlog_change *change;

	(void)state;
	begin(4);
	bad_offers();
	change = forged(2, NULL);
	change->body.data[17] ^= 1;
	bad_sends(change, 0, 0);
	assert_false(net.links[TAKER][BAD].up);
	assert_null(memlog_get(&net.nodes[TAKER].log, author_id(), 2));
	assert_mended(1000);
}

static void a_forged_group_ends_with_its_giver(void **state)
{
	struct memlog_change *chain[6] = {NULL};
	uint64_t seq;

	(void)state;
	begin(5);
	bad_offers();
	for (seq = 2; seq <= 5; seq++)
		chain[seq] = forged(seq, chain[seq - 1]);
	for (seq = 2; seq <= 5; seq++)
		bad_sends(chain[seq], 0, 1);
	assert_false(net.links[TAKER][BAD].up);
	assert_int_equal(net.links[TAKER][BAD].closed, P2P_EAUTH);
	assert_int_equal(syncnet_merged(&net, TAKER, AUTHOR), 1);
	/* what it gave went with it */
	assert_null(memlog_get(&net.nodes[TAKER].log, author_id(), 2));
	assert_mended(1000);
}

static void poison_of_an_earlier_process_blames_nobody(void **state)
{
	(void)state;
	begin(6);
	bad_offers();
	bad_sends(forged(2, NULL), 0, 0);
	syncnet_stop(&net, TAKER);
	syncnet_start(&net, TAKER);
	assert_mended(1000);
}

/* The body is the real one: the honest source goes on with it, until the chain breaks. */
static void a_forged_header_with_true_segments_blames_nobody(void **state)
{
	const struct p2p_header *as;
	struct memlog_author liar;
	struct memlog_spec spec;
	int restart;

	(void)state;
	for (restart = 0; restart < 2; restart++) {
		begin(15);
		bad_offers();
		as = &real(2)->header;
		spec = (struct memlog_spec){.seq = 2,
					    .stamp = as->stamp.value + 1,
					    .prev = as->prev,
					    .bytes = as->total_bytes};
		liar = net.nodes[BAD].author;
		liar.replica = *author_id();
		bad_sends(memlog_make(&net.mesh, &liar, &spec), 0, 0);
		if (restart) {
			syncnet_stop(&net, TAKER);
			syncnet_start(&net, TAKER);
		}
		assert_mended(3000);
	}
}

static void an_authors_push_onto_poison_blames_nobody(void **state)
{
	(void)state;
	begin(7);
	bad_offers();
	bad_sends(forged(2, NULL), 0, 1);
	syncnet_disconnect(&net, HONEST, AUTHOR);
	syncnet_connect(&net, TAKER, AUTHOR);
	syncnet_write(&net, AUTHOR, 2, 100);
	syncnet_run(&net, 4000);
	assert_int_equal(syncnet_merged(&net, TAKER, AUTHOR), 8);
	assert_true(net.links[TAKER][AUTHOR].up);
	assert_int_equal(net.nodes[TAKER].events[P2P_SYNC_FORK], 0);
	syncnet_deinit(&net);
}

static void who_was_not_asked_cannot_poison(void **state)
{
	(void)state;
	begin(8);
	syncnet_connect(&net, TAKER, BAD);
	syncnet_say_have(&net, BAD, TAKER, NULL, 0, NULL);
	bad_sends(forged(2, NULL), 0, 1);
	assert_null(memlog_get(&net.nodes[TAKER].log, author_id(), 2));
	assert_true(net.links[TAKER][BAD].up); /* it may be an answer that comes late */
	assert_mended(1000);
}

static void parts_thrown_into_a_transfer_do_not_stop_it(void **state)
{
	uint64_t seq;

	(void)state;
	begin(9);
	bad_offers(); /* and keeps silent: the honest one is asked */
	net.delay_ms = 20;
	syncnet_connect(&net, TAKER, HONEST);
	while (net.now_ms < 60000 && syncnet_merged(&net, TAKER, AUTHOR) < 6) {
		for (seq = 2; seq <= 5; seq++) {
			struct memlog_change *change = forged(seq, NULL);

			syncnet_say_change(&net, BAD, TAKER, change, 0, 1);
			memlog_change_free(change);
		}
		syncnet_run(&net, 15);
	}
	assert_mended(1);
}

/* Whatever comes next is forged before the honest part is there: one restart, not one after the
 * other. */
static void a_forger_that_is_always_first_costs_one_restart(void **state)
{
	struct memlog_change *change;
	uint64_t begun, next;

	(void)state;
	begin(13);
	bad_offers();
	begun = net.now_ms;
	syncnet_connect(&net, TAKER, HONEST);
	while (syncnet_merged(&net, TAKER, AUTHOR) < 6 && net.now_ms - begun < 20000) {
		next = memlog_head(&net.nodes[TAKER].log, author_id()) + 1;
		if (next >= 2 && next <= 4) { /* it knows what is before it */
			net.jitter_ms = 0;
			change = forged(next,
					memlog_get(&net.nodes[TAKER].log, author_id(), next - 1));
			syncnet_say_change(&net, BAD, TAKER, change, 0, 1);
			memlog_change_free(change);
		}
		net.jitter_ms = 100; /* of the honest ones */
		syncnet_run(&net, 1);
	}
	assert_true(net.now_ms - begun < 5000);
	assert_true(net.nodes[TAKER].log.drops <= 2);
	net.jitter_ms = 0;
	assert_mended(1);
}

static void a_handle_that_is_given_again_carries_no_blame(void **state)
{
	p2p_sync_peer handle;

	(void)state;
	begin(14);
	bad_offers();
	bad_sends(forged(2, NULL), 0, 1);
	handle = net.links[TAKER][BAD].handle;
	syncnet_disconnect(&net, TAKER, BAD);
	net.handles = handle - 1;
	syncnet_connect(&net, TAKER, HONEST);
	assert_int_equal(net.links[TAKER][HONEST].handle, handle);
	assert_mended(1000);
}

/* Each of its sessions begins with a forged changeset. */
static void a_liar_that_comes_back_stops_nothing(void **state)
{
	size_t round;

	(void)state;
	begin(10);
	syncnet_connect(&net, TAKER, HONEST);
	for (round = 0; round < 30; round++) {
		syncnet_write(&net, AUTHOR, 3, 70000);
		syncnet_connect(&net, TAKER, BAD);
		syncnet_say_have(&net, BAD, TAKER, author_id(), 100000, &real(6)->hash);
		bad_sends(forged(syncnet_merged(&net, TAKER, AUTHOR) + 1, NULL), 0, 1);
		syncnet_run(&net, 700);
		syncnet_disconnect(&net, TAKER, BAD);
	}
	syncnet_run(&net, 2000);
	assert_int_equal(syncnet_merged(&net, TAKER, AUTHOR), 6 + 3 * 30);
	assert_true(net.links[TAKER][HONEST].up);
	assert_int_equal(net.nodes[TAKER].events[P2P_SYNC_FORK], 0);
	syncnet_deinit(&net);
}

static void an_unsigned_stamp_of_the_future_accuses_nobody(void **state)
{
	const struct p2p_header *as;
	struct memlog_author liar;
	struct memlog_spec spec;

	(void)state;
	begin(11);
	bad_offers();
	as = &real(2)->header;
	spec = (struct memlog_spec){.seq = 2,
				    .stamp = as->stamp.value + (3600000ull << 16),
				    .prev = as->prev,
				    .bytes = 100};
	liar = net.nodes[BAD].author;
	liar.replica = *author_id();
	bad_sends(memlog_make(&net.mesh, &liar, &spec), 0, 0);
	assert_mended(1000);
}

static void a_signed_stamp_of_the_future_waits_for_its_time(void **state)
{
	(void)state;
	begin(12);
	syncnet_connect(&net, TAKER, HONEST);
	assert_true(syncnet_settle(&net, 5000));
	syncnet_disconnect(&net, TAKER, HONEST);
	syncnet_disconnect(&net, HONEST, AUTHOR);
	net.nodes[HONEST].skew_ms = net.nodes[AUTHOR].skew_ms = 9 * 60000;
	syncnet_connect(&net, HONEST, AUTHOR);
	syncnet_write(&net, AUTHOR, 3, 100);
	syncnet_run(&net, 2000);
	assert_int_equal(syncnet_merged(&net, HONEST, AUTHOR), 9);
	syncnet_disconnect(&net, HONEST, AUTHOR);
	net.nodes[HONEST].skew_ms = 0;
	syncnet_connect(&net, TAKER, HONEST);
	syncnet_run(&net, 5000);
	assert_int_equal(net.nodes[TAKER].events[P2P_SYNC_CLOCK], 1);
	assert_int_equal(syncnet_merged(&net, TAKER, AUTHOR), 6);
	assert_true(net.links[TAKER][HONEST].up);
	syncnet_run(&net, 5 * 60000);
	assert_int_equal(syncnet_merged(&net, TAKER, AUTHOR), 9);
	assert_true(net.links[TAKER][HONEST].up);
	syncnet_deinit(&net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_forged_inner_changeset_is_no_fork),
		cmocka_unit_test(a_forged_first_segment_blames_nobody),
		cmocka_unit_test(a_forged_changeset_behind_honest_ones_blames_nobody),
		cmocka_unit_test(a_header_without_its_data_is_not_kept),
		cmocka_unit_test(a_forged_group_ends_with_its_giver),
		cmocka_unit_test(poison_of_an_earlier_process_blames_nobody),
		cmocka_unit_test(a_forged_header_with_true_segments_blames_nobody),
		cmocka_unit_test(an_authors_push_onto_poison_blames_nobody),
		cmocka_unit_test(who_was_not_asked_cannot_poison),
		cmocka_unit_test(parts_thrown_into_a_transfer_do_not_stop_it),
		cmocka_unit_test(a_forger_that_is_always_first_costs_one_restart),
		cmocka_unit_test(a_handle_that_is_given_again_carries_no_blame),
		cmocka_unit_test(a_liar_that_comes_back_stops_nothing),
		cmocka_unit_test(an_unsigned_stamp_of_the_future_accuses_nobody),
		cmocka_unit_test(a_signed_stamp_of_the_future_waits_for_its_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
