/* Two histories under one replica id, and disks that were rolled back: what is believed is what is
 * signed, and honest peers are never at fault. */
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

static struct syncnet net;

static void begin(uint64_t seed, size_t nodes)
{
	syncnet_init(&net, seed);
	net.delay_ms = 1;
	while (net.count < nodes)
		(void)syncnet_add(&net);
}

static void say_ack(size_t from, size_t to, const struct p2p_id *replica, uint64_t seq,
		    uint64_t credit)
{
	P2p__V1__VectorEntry entry, *list = &entry;
	P2p__V1__Ack ack;

	p2p__v1__ack__init(&ack);
	p2p__v1__vector_entry__init(&entry);
	entry.replica = p2p_field(replica->bytes, P2P_ID_BYTES);
	entry.seq = seq;
	ack.n_durable = seq ? 1 : 0;
	ack.durable = &list;
	ack.credit_bytes = credit;
	syncnet_say(&net, from, to, P2P_MSG_ACK, &ack.base);
	syncnet_run(&net, 5);
}

static void r11_acks_that_are_unknown_or_double_are_passed_over_and_counted(void **state)
{
	const struct p2p_id *own;
	struct p2p_id stranger = {{9}};
	size_t puppet;

	(void)state;
	begin(1, 2);
	puppet = syncnet_add_puppet(&net);
	own = &net.nodes[0].author.replica;
	syncnet_write(&net, 0, 3, 10);
	syncnet_connect(&net, 0, puppet);
	syncnet_say_have(&net, puppet, 0, NULL, 0, NULL);
	say_ack(puppet, 0, own, 2, 0);
	assert_int_equal(syncnet_status(&net, 0, puppet).acked_seq, 2);
	assert_int_equal(net.nodes[0].events[P2P_SYNC_ACKED], 1);
	assert_int_equal(syncnet_status(&net, 0, puppet).acks_ignored, 0);
	say_ack(puppet, 0, own, 2, 0);				/* double */
	say_ack(puppet, 0, own, 1, 0);				/* old */
	say_ack(puppet, 0, &net.nodes[1].author.replica, 7, 0); /* not mine */
	say_ack(puppet, 0, &stranger, INT64_MAX, 0);
	assert_int_equal(syncnet_status(&net, 0, puppet).acks_ignored, 4);
	assert_int_equal(syncnet_status(&net, 0, puppet).acked_seq, 2);
	assert_int_equal(net.nodes[0].events[P2P_SYNC_ACKED], 1);
	assert_int_equal(syncnet_status(&net, 0, puppet).ahead, 0);
	say_ack(puppet, 0, own, 3, 0);
	assert_int_equal(syncnet_status(&net, 0, puppet).acked_seq, 3);
	assert_true(net.links[0][puppet].up);
	syncnet_deinit(&net);
}

/* Node 0 made ten, node 1 has them; the disk of node 0 goes back to five. */
static void roll_back(void)
{
	const struct p2p_id *own = &net.nodes[0].author.replica;
	const struct memlog_change *head;
	struct p2p_vv_entry entry;
	size_t i;

	for (i = 0; i < 10; i++)
		syncnet_write(&net, 0, 1, 100);
	syncnet_connect(&net, 0, 1);
	assert_true(syncnet_settle(&net, 10000));
	syncnet_stop(&net, 0);
	memlog_truncate(&net.nodes[0].log, own, 6);
	head = memlog_get(&net.nodes[0].log, own, 5);
	entry = *p2p_vv_get(&net.nodes[0].merged, own);
	entry.seq = 5;
	entry.head = head->hash;
	entry.stamp = head->header.stamp;
	assert_int_equal(p2p_vv_put(&net.nodes[0].merged, &entry), 0);
	syncnet_start(&net, 0);
}

static void a_rolled_back_node_keeps_the_peer_that_proves_it(void **state)
{
	(void)state;
	begin(2, 2);
	roll_back();
	net.again_ms = 0;
	syncnet_connect(&net, 0, 1);
	syncnet_run(&net, 500);
	assert_int_equal(net.nodes[0].events[P2P_SYNC_SELF_AHEAD], 1);
	assert_int_equal(net.nodes[0].last[P2P_SYNC_SELF_AHEAD].seq, 10);
	assert_int_equal(net.nodes[0].events[P2P_SYNC_BAD_PEER], 0);
	assert_true(net.links[0][1].up);
	syncnet_deinit(&net);
}

/* The Have that tells of it is lost: the ack alone comes. */
static void an_ack_above_the_own_head_asks_for_the_proof(void **state)
{
	(void)state;
	begin(3, 2);
	roll_back();
	net.again_ms = 0;
	net.lose_at = net.messages + 2; /* node 1's first Have */
	syncnet_connect(&net, 0, 1);
	syncnet_run(&net, 500);
	assert_int_equal(net.nodes[0].events[P2P_SYNC_SELF_AHEAD], 1);
	assert_true(net.links[0][1].up);
	syncnet_deinit(&net);
}

static void who_acks_what_was_never_made_cannot_prove_it(void **state)
{
	size_t puppet;

	(void)state;
	begin(4, 2);
	net.again_ms = 0;
	puppet = syncnet_add_puppet(&net);
	syncnet_write(&net, 0, 1, 10);
	syncnet_connect(&net, 0, 1);
	syncnet_connect(&net, 0, puppet);
	syncnet_say_have(&net, puppet, 0, NULL, 0, NULL);
	say_ack(puppet, 0, &net.nodes[0].author.replica, INT64_MAX, 0);
	assert_true(net.links[0][puppet].up);
	assert_true(p2p_sync_in_question(net.nodes[0].sync));
	syncnet_run(&net, 12000);
	assert_false(net.links[0][puppet].up);
	assert_int_equal(net.nodes[0].last[P2P_SYNC_BAD_PEER].code, P2P_ETIMEOUT);
	assert_int_equal(net.nodes[0].events[P2P_SYNC_SELF_AHEAD], 0);
	assert_false(p2p_sync_in_question(net.nodes[0].sync));
	syncnet_write(&net, 0, 1, 10);
	assert_true(net.links[0][1].up);
	syncnet_run(&net, 100);
	assert_int_equal(syncnet_merged(&net, 1, 0), 2);
	syncnet_deinit(&net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(r11_acks_that_are_unknown_or_double_are_passed_over_and_counted),
		cmocka_unit_test(a_rolled_back_node_keeps_the_peer_that_proves_it),
		cmocka_unit_test(an_ack_above_the_own_head_asks_for_the_proof),
		cmocka_unit_test(who_acks_what_was_never_made_cannot_prove_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
