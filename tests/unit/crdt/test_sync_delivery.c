/* The sync engine among honest peers: everything arrives once, whatever is lost, cut, doubled or
 * late, and nothing is sent that is there already. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "proto/limits.h"
#include "tests/support/figures.h"
#include "tests/support/syncnet.h"

static struct syncnet net;

static void begin(uint64_t seed, size_t nodes)
{
	syncnet_init(&net, seed);
	while (net.count < nodes)
		(void)syncnet_add(&net);
}

static uint64_t all_parts(void)
{
	uint64_t parts = 0;
	size_t a, b;

	for (a = 0; a < net.count; a++)
		for (b = 0; b < net.count; b++)
			parts += net.links[a][b].parts;
	return parts;
}

static void assert_agree(void)
{
	size_t i;

	for (i = 1; i < net.count; i++)
		assert_true(memlog_agree(&net.nodes[0].log, &net.nodes[i].log));
}

static void r01_a_change_that_comes_twice_is_merged_once(void **state)
{
	const struct memlog_change *change;
	size_t a, puppet;
	uint32_t i;

	(void)state;
	begin(1, 1);
	a = 0;
	puppet = syncnet_add_puppet(&net);
	syncnet_write(&net, puppet, 1, 1000);
	syncnet_connect(&net, a, puppet);
	change = memlog_get(&net.nodes[puppet].log, &net.nodes[puppet].author.replica, 1);
	syncnet_say_have(&net, puppet, a, NULL, 0, NULL);
	for (i = 0; i < 5; i++) {
		syncnet_say_change(&net, puppet, a, change, 0, 0);
		syncnet_run(&net, 100);
	}
	assert_int_equal(syncnet_merged(&net, a, puppet), 1);
	assert_int_equal(net.nodes[a].merges, 1);
	assert_true(net.links[a][puppet].up);
	/* nor after a restart, the ack lost: as after a kill between commit and ack */
	syncnet_stop(&net, a);
	syncnet_start(&net, a);
	syncnet_connect(&net, a, puppet);
	syncnet_say_have(&net, puppet, a, NULL, 0, NULL);
	(void)syncnet_heard_count(&net, puppet, P2P_MSG_ACK);
	syncnet_say_change(&net, puppet, a, change, 0, 0);
	syncnet_run(&net, 100);
	assert_int_equal(net.nodes[a].merges, 1);
	assert_true(net.links[a][puppet].up);
	assert_true(syncnet_heard_count(&net, puppet, P2P_MSG_ACK) > 0);
	syncnet_deinit(&net);
}

static void r01_with_three_ways_nothing_is_merged_twice_nor_sent_back(void **state)
{
	size_t i, round;

	(void)state;
	begin(2, 4);
	net.jitter_ms = 30;
	syncnet_connect_all(&net);
	assert_true(syncnet_settle(&net, 5000));
	for (round = 0; round < 20; round++) {
		for (i = 0; i < net.count; i++)
			syncnet_write(&net, i, 1 + round % 3, 500 * round);
		syncnet_run(&net, round * 10);
	}
	assert_true(syncnet_settle(&net, 20000));
	for (i = 0; i < net.count; i++) {
		assert_int_equal(net.nodes[i].merges, 3 * 20); /* groups of the others */
		assert_int_equal(net.nodes[i].author_echoes, 0);
	}
	assert_agree();
	syncnet_deinit(&net);
}

static void r10_a_reconnect_with_nothing_new_sends_no_row(void **state)
{
	size_t i;

	(void)state;
	begin(3, 3);
	for (i = 0; i < net.count; i++)
		syncnet_write(&net, i, 3, 100000);
	syncnet_connect_all(&net);
	assert_true(syncnet_settle(&net, 20000));
	for (i = 0; i < 5; i++) {
		syncnet_disconnect(&net, 0, 1);
		syncnet_disconnect(&net, 0, 2);
		syncnet_run(&net, 50);
		syncnet_connect_all(&net);
		syncnet_run(&net, 20000);
		assert_int_equal(net.links[0][1].parts + net.links[1][0].parts, 0);
		assert_int_equal(net.links[0][2].parts + net.links[2][0].parts, 0);
		assert_true(syncnet_level(&net));
	}
	syncnet_deinit(&net);
}

/* The messages of each type that went over both directions since the last call. */
static void types_since(uint64_t seen[P2P_MSG_EPHEMERAL + 1], uint64_t out[P2P_MSG_EPHEMERAL + 1])
{
	size_t type;

	for (type = 0; type <= P2P_MSG_EPHEMERAL; type++) {
		uint64_t now = net.links[0][1].types[type] + net.links[1][0].types[type];

		out[type] = now - seen[type];
		seen[type] = now;
	}
}

static void a_push_after_a_quiet_time_is_the_push_and_its_ack(void **state)
{
	uint64_t seen[P2P_MSG_EPHEMERAL + 1] = {0}, types[P2P_MSG_EPHEMERAL + 1];

	(void)state;
	begin(6, 2);
	syncnet_connect_all(&net);
	assert_true(syncnet_settle(&net, 5000));
	syncnet_run(&net, 67000);
	types_since(seen, types);
	syncnet_write(&net, 0, 1, 100);
	syncnet_run(&net, 500);
	types_since(seen, types);
	assert_int_equal(types[P2P_MSG_CHANGES], 1);
	assert_int_equal(types[P2P_MSG_ACK], 1);
	/* the digest that makes sure follows after a second, not at once: it would be seen to
	 * differ before the push is merged, and be answered with whole vectors */
	assert_int_equal(types[P2P_MSG_HAVE], 0);
	syncnet_deinit(&net);
}

static void a_lost_ack_is_asked_for_once(void **state)
{
	uint64_t seen[P2P_MSG_EPHEMERAL + 1] = {0}, types[P2P_MSG_EPHEMERAL + 1];

	(void)state;
	begin(7, 2);
	syncnet_connect_all(&net);
	assert_true(syncnet_settle(&net, 5000));
	syncnet_run(&net, 67000);
	syncnet_write(&net, 0, 1, 100);
	net.lose_at = net.messages + 1; /* the push went, the ack does not come */
	syncnet_run(&net, 500);
	types_since(seen, types);
	assert_int_equal(syncnet_merged(&net, 1, 0), 1);
	assert_int_equal(syncnet_status(&net, 0, 1).acked_seq, 0);
	syncnet_run(&net, 60000);
	types_since(seen, types);
	assert_int_equal(syncnet_status(&net, 0, 1).acked_seq, 1);
	assert_int_equal(types[P2P_MSG_ACK], 1);
	syncnet_deinit(&net);
}

static void an_ack_that_no_memory_was_left_for_is_said_again_soon(void **state)
{
	(void)state;
	begin(8, 2);
	syncnet_connect_all(&net);
	assert_true(syncnet_settle(&net, 5000));
	syncnet_run(&net, 67000);
	syncnet_write(&net, 0, 1, 100);
	net.links[1][0].no_memory = true;
	syncnet_run(&net, 300);
	assert_int_equal(syncnet_merged(&net, 1, 0), 1);
	assert_int_equal(syncnet_status(&net, 0, 1).acked_seq, 0);
	net.links[1][0].no_memory = false;
	syncnet_run(&net, 100); /* not with the next digest, which would be lost as easily */
	assert_int_equal(syncnet_status(&net, 0, 1).acked_seq, 1);
	syncnet_deinit(&net);
}

static void r12_caught_up_is_told_once_in_a_session(void **state)
{
	size_t round;

	(void)state;
	begin(4, 2);
	syncnet_write(&net, 0, 4, 200000);
	for (round = 1; round <= 4; round++) {
		syncnet_connect(&net, 0, 1);
		syncnet_run(&net, 2);
		/* new changes while it catches up do not tell it again, nor hold it back */
		syncnet_write(&net, 0, 1, 10);
		syncnet_run(&net, 30000);
		syncnet_write(&net, 1, 1, 10);
		syncnet_run(&net, 30000);
		assert_int_equal(net.nodes[0].events[P2P_SYNC_CAUGHT_UP], round);
		assert_int_equal(net.nodes[1].events[P2P_SYNC_CAUGHT_UP], round);
		syncnet_disconnect(&net, 0, 1);
	}
	syncnet_deinit(&net);
}

static void r12_caught_up_comes_when_all_of_the_first_have_is_merged(void **state)
{
	(void)state;
	begin(5, 2);
	syncnet_write(&net, 0, 4, 200000);
	net.nodes[1].no_merge = true;
	syncnet_connect(&net, 0, 1);
	syncnet_run(&net, 20000);
	assert_int_equal(net.nodes[1].events[P2P_SYNC_CAUGHT_UP], 0);
	assert_int_equal(net.nodes[0].events[P2P_SYNC_CAUGHT_UP], 1); /* unacked as it is */
	net.nodes[1].no_merge = false;
	syncnet_run(&net, 100);
	assert_int_equal(net.nodes[1].events[P2P_SYNC_CAUGHT_UP], 1);
	syncnet_deinit(&net);
}

/* --- losses ----------------------------------------------------------------------------------- */

/* Catching up, then live changes both ways, in three nodes. */
static void scenario(void)
{
	begin(6, 3);
	net.delay_ms = 2;
	net.jitter_ms = 3;
	syncnet_write(&net, 0, 1, 100);
	syncnet_write(&net, 0, 3, 90000);
	syncnet_write(&net, 1, 2, 70000);
	syncnet_write(&net, 2, 1, 0);
}

static bool play(void)
{
	size_t round;

	syncnet_connect_all(&net);
	syncnet_run(&net, 300);
	for (round = 0; round < 3; round++) {
		syncnet_write(&net, round, 1, 200);
		syncnet_run(&net, 60);
		syncnet_write(&net, (round + 1) % 3, 2, 66000);
		syncnet_run(&net, 60);
	}
	return syncnet_settle(&net, 60000);
}

/* Of the runs in which one message is lost, or cut, for the figures. */
static struct {
	uint64_t runs, longest_ms;
} lost, cut;

static void tell(void)
{
	const struct figure figures[] = {
		{"messages of a session lost, each in a run of its own", (double)lost.runs},
		{"sessions ended at a message, each in a run of its own", (double)cut.runs},
		{"runs that did not converge without a restart", 0},
		{"longest run with a loss, s", (double)lost.longest_ms / 1e3},
		{"longest run with a cut, s", (double)cut.longest_ms / 1e3},
	};
	const struct figures page = {
		.name = "sync-losses",
		.title =
			"Any one message may be lost, any session may end at any message (R34, R49)",
		.command = "build/tests/unit/crdt/test_crdt_sync_delivery",
		.figures = figures,
		.count = sizeof(figures) / sizeof(*figures),
	};

	figures_write(&page);
}

static void play_each(uint64_t *which, uint64_t limit_ms, uint64_t *out_runs, uint64_t *out_longest)
{
	uint64_t messages, at, begun;

	scenario();
	assert_true(play());
	messages = net.messages;
	syncnet_deinit(&net);
	assert_true(messages > 50);
	for (at = 1; at <= messages; at++) {
		scenario();
		begun = net.now_ms;
		*which = at;
		if (!play()) {
			print_error("message %llu of %llu\n", (unsigned long long)at,
				    (unsigned long long)messages);
			fail();
		}
		assert_true(net.now_ms - begun < limit_ms);
		if (net.now_ms - begun > *out_longest)
			*out_longest = net.now_ms - begun;
		assert_agree();
		assert_int_equal(net.nodes[0].events[P2P_SYNC_BAD_PEER] +
					 net.nodes[1].events[P2P_SYNC_BAD_PEER] +
					 net.nodes[2].events[P2P_SYNC_BAD_PEER],
				 0);
		syncnet_deinit(&net);
	}
	*out_runs = messages;
}

static void r49_any_one_message_may_be_lost(void **state)
{
	(void)state;
	play_each(&net.lose_at, 40000, &lost.runs, &lost.longest_ms);
}

static void r34_a_session_may_end_at_any_message(void **state)
{
	(void)state;
	play_each(&net.cut_at, 40000, &cut.runs, &cut.longest_ms);
	tell();
}

static void r55_storms_of_losses_cuts_and_kills_leave_no_hole(void **state)
{
	uint64_t seed;
	size_t i, step;

	(void)state;
	for (seed = 100; seed < 130; seed++) {
		begin(seed, 4);
		net.jitter_ms = 20;
		syncnet_connect_all(&net);
		for (step = 0; step < 60; step++) {
			i = (size_t)syncnet_random(&net, net.count);
			switch (syncnet_random(&net, 6)) {
			case 0:
				net.lose_at = net.messages + 1 + syncnet_random(&net, 5);
				break;
			case 1:
				net.cut_at = net.messages + 1 + syncnet_random(&net, 5);
				break;
			case 2:
				syncnet_stop(&net, i);
				syncnet_start(&net, i);
				syncnet_connect_all(&net);
				break;
			default:
				syncnet_write(&net, i, 1 + (size_t)syncnet_random(&net, 4),
					      (size_t)syncnet_random(&net, 90000));
			}
			syncnet_run(&net, syncnet_random(&net, 60));
		}
		net.lose_at = net.cut_at = 0;
		syncnet_connect_all(&net);
		if (!syncnet_settle(&net, 90000)) {
			print_error("seed %llu\n", (unsigned long long)seed);
			fail();
		}
		assert_agree();
		syncnet_deinit(&net);
	}
}

static void r55_a_failed_commit_leaves_no_hole(void **state)
{
	size_t i;

	(void)state;
	begin(7, 2);
	syncnet_write(&net, 0, 3, 150000);
	syncnet_connect(&net, 0, 1);
	for (i = 0; i < 8; i++) {
		net.nodes[1].log.fail_commit = P2P_EIO;
		syncnet_run(&net, 700);
	}
	net.nodes[1].log.fail_commit = 0;
	assert_true(syncnet_settle(&net, 20000));
	assert_agree();
	assert_true(net.links[0][1].up); /* our own trouble is nobody's fault */
	syncnet_deinit(&net);
}

static void a_relay_brings_what_its_author_cannot(void **state)
{
	(void)state;
	begin(8, 4); /* a line: 0 - 1 - 2 - 3 */
	syncnet_connect(&net, 0, 1);
	syncnet_connect(&net, 1, 2);
	syncnet_connect(&net, 2, 3);
	syncnet_write(&net, 0, 2, 100000);
	syncnet_write(&net, 3, 1, 10);
	assert_true(syncnet_settle(&net, 10000));
	syncnet_write(&net, 0, 1, 10);
	syncnet_write(&net, 3, 2, 100000);
	assert_true(syncnet_settle(&net, 10000));
	assert_int_equal(net.nodes[0].author_echoes + net.nodes[3].author_echoes, 0);
	assert_int_equal(all_parts(), 3 * 10); /* every part once over every link */
	syncnet_deinit(&net);
}

/* Not even acks and vectors go out, now here, now there; nothing is lost that was taken. */
static void r34_links_that_take_nothing_for_a_while_lose_nothing(void **state)
{
	size_t step, i, a, b;

	(void)state;
	begin(10, 3);
	net.jitter_ms = 5;
	syncnet_connect_all(&net);
	for (step = 0; step < 60; step++) {
		a = (size_t)syncnet_random(&net, 3);
		b = (a + 1 + (size_t)syncnet_random(&net, 2)) % 3;
		net.links[a][b].stuck = !net.links[a][b].stuck;
		syncnet_write(&net, a, 1 + step % 3, 1000 * step);
		syncnet_run(&net, syncnet_random(&net, 400));
	}
	for (i = 0; i < 9; i++)
		net.links[i / 3][i % 3].stuck = false;
	assert_true(syncnet_settle(&net, 30000));
	assert_agree();
	assert_int_equal(net.closed, 0);
	syncnet_deinit(&net);
}

/* Answers take longer than a source has at first: it gets more time, and what comes late counts. */
static void two_slow_sources_do_not_chase_one_another(void **state)
{
	static const uint64_t delays[] = {600, 1500, 4000};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(delays) / sizeof(*delays); i++) {
		begin(9, 4); /* 0 takes from 1 and 2 what 3 wrote */
		syncnet_write(&net, 3, 10, 100000);
		syncnet_connect(&net, 1, 3);
		syncnet_connect(&net, 2, 3);
		assert_true(syncnet_settle(&net, 20000) || syncnet_merged(&net, 2, 3) == 10);
		syncnet_run(&net, 20000);
		net.delay_ms = delays[i];
		syncnet_connect(&net, 0, 1);
		syncnet_connect(&net, 0, 2);
		syncnet_run(&net, 20 * delays[i]);
		assert_int_equal(syncnet_merged(&net, 0, 3), 10);
		/* the two and two more tries, the first of which were too short */
		assert_true(net.links[1][0].parts + net.links[2][0].parts <= 4 * 20);
		syncnet_deinit(&net);
	}
}

/* Node 1 knows the author of node 0 as a member that may not write, or as one that may. */
static void may_write(bool may)
{
	const struct memlog_author *author = &net.nodes[0].author;

	memlog_certify(&net.nodes[1].log, &author->replica, &author->node, may ? 0 : P2P_EAUTH);
	p2p_sync_records_changed(net.nodes[1].sync);
}

/* Neither what was never heard of before, nor what comes after changes that were taken. */
static void what_a_reader_signs_is_not_taken_until_it_may_write(void **state)
{
	const struct p2p_id *author;

	(void)state;
	begin(31, 2);
	author = &net.nodes[0].author.replica;
	may_write(false);
	syncnet_connect_all(&net);
	syncnet_write(&net, 0, 3, 100);
	syncnet_run(&net, 5000);
	assert_int_equal(syncnet_merged(&net, 1, 0), 0);
	assert_null(memlog_get(&net.nodes[1].log, author, 1));
	may_write(true);
	assert_true(syncnet_settle(&net, 5000));
	assert_int_equal(syncnet_merged(&net, 1, 0), 3);
	may_write(false);
	syncnet_write(&net, 0, 2, 100);
	syncnet_run(&net, 5000);
	assert_int_equal(syncnet_merged(&net, 1, 0), 3);
	assert_null(memlog_get(&net.nodes[1].log, author, 4));
	assert_true(net.links[1][0].up);
	may_write(true);
	assert_true(syncnet_settle(&net, 5000));
	assert_int_equal(syncnet_merged(&net, 1, 0), 5);
	syncnet_deinit(&net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(r01_a_change_that_comes_twice_is_merged_once),
		cmocka_unit_test(r01_with_three_ways_nothing_is_merged_twice_nor_sent_back),
		cmocka_unit_test(r10_a_reconnect_with_nothing_new_sends_no_row),
		cmocka_unit_test(a_push_after_a_quiet_time_is_the_push_and_its_ack),
		cmocka_unit_test(a_lost_ack_is_asked_for_once),
		cmocka_unit_test(an_ack_that_no_memory_was_left_for_is_said_again_soon),
		cmocka_unit_test(r12_caught_up_is_told_once_in_a_session),
		cmocka_unit_test(r12_caught_up_comes_when_all_of_the_first_have_is_merged),
		cmocka_unit_test(r49_any_one_message_may_be_lost),
		cmocka_unit_test(r34_a_session_may_end_at_any_message),
		cmocka_unit_test(r55_storms_of_losses_cuts_and_kills_leave_no_hole),
		cmocka_unit_test(r55_a_failed_commit_leaves_no_hole),
		cmocka_unit_test(a_relay_brings_what_its_author_cannot),
		cmocka_unit_test(r34_links_that_take_nothing_for_a_while_lose_nothing),
		cmocka_unit_test(two_slow_sources_do_not_chase_one_another),
		cmocka_unit_test(what_a_reader_signs_is_not_taken_until_it_may_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
