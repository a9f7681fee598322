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
	/* what it made is not sent back under the old id */
	syncnet_run(&net, 20000);
	assert_int_equal(net.nodes[0].author_echoes, 0);
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

/* --- two histories ---------------------------------------------------------------------------- */

/* Groups of the forked replica on a node that is stopped: `count` of them, of `changesets` each. */
static struct memlog_author forker;

static void put_groups(size_t node, uint32_t salt, size_t count, size_t changesets)
{
	struct syncnet_node *at = &net.nodes[node];
	struct memlog_group group = {.count = changesets,
				     .bytes = 300,
				     .stamp_ms = 1600000000000ull,
				     .salt = salt};
	struct p2p_vv_entry entry;

	for (; count; count--) {
		memlog_append(&at->log, &forker, &group, &entry);
		assert_int_equal(p2p_vv_put(&at->merged, &entry), 0);
	}
}

static uint64_t forked_seq(size_t node)
{
	return p2p_vv_seq(&net.nodes[node].merged, &forker.replica);
}

/* Node 0 takes; 1 and 2 have the first three groups in common, then each its own. */
static void begin_fork(uint64_t seed, const size_t own_groups[2], size_t changesets)
{
	size_t i;

	begin(seed, 3);
	net.jitter_ms = 5;
	memlog_author(&forker, 99);
	for (i = 0; i < 3; i++) {
		memlog_certify(&net.nodes[i].log, &forker.replica, &forker.node, 0);
		syncnet_stop(&net, i);
		if (i) {
			put_groups(i, 0, 3, 2);
			put_groups(i, (uint32_t)i, own_groups[i - 1], changesets);
		}
		syncnet_start(&net, i);
	}
}

static void assert_fork_named(size_t node, uint64_t seq)
{
	const struct p2p_sync_event *event = &net.nodes[node].last[P2P_SYNC_FORK];
	const struct memlog_change *x, *y, *mine;

	assert_int_equal(net.nodes[node].events[P2P_SYNC_FORK], 1);
	assert_int_equal(p2p_id_cmp(&event->replica, &forker.replica), 0);
	assert_int_equal(p2p_key_cmp(&event->node, &forker.node), 0);
	assert_int_equal(event->code, P2P_EFORK);
	assert_true(event->seq >= seq);
	x = memlog_get(&net.nodes[1].log, &forker.replica, event->seq);
	y = memlog_get(&net.nodes[2].log, &forker.replica, event->seq);
	mine = memlog_get(&net.nodes[node].log, &forker.replica, event->seq);
	assert_non_null(mine);
	assert_int_equal(p2p_hash_cmp(&event->ours, &mine->hash), 0);
	assert_true((x && p2p_hash_cmp(&event->theirs, &x->hash) == 0) ||
		    (y && p2p_hash_cmp(&event->theirs, &y->hash) == 0));
	assert_int_not_equal(p2p_hash_cmp(&event->ours, &event->theirs), 0);
}

/* What is not the forked replica still goes everywhere. */
static void assert_others_flow(void)
{
	size_t i, j;

	for (i = 0; i < 3; i++)
		syncnet_write(&net, i, 2, 70000);
	syncnet_run(&net, 4000);
	for (i = 0; i < 3; i++)
		for (j = 0; j < 3; j++)
			assert_int_equal(syncnet_merged(&net, i, j),
					 p2p_vv_seq(&net.nodes[j].merged,
						    &net.nodes[j].author.replica));
	for (i = 0; i < 3; i++)
		for (j = 0; j < 3; j++)
			assert_true(i == j || net.links[i][j].up);
	assert_int_equal(net.nodes[0].events[P2P_SYNC_BAD_PEER], 0);
}

static void a_fork_is_proven_named_and_left_alone(void **state)
{
	static const size_t lengths[][2] = {{1, 1}, {1, 2}, {2, 1}, {3, 3}, {1, 5}, {5, 1}};
	size_t i, group, late;

	(void)state;
	for (i = 0; i < sizeof(lengths) / sizeof(*lengths); i++)
		for (group = 1; group <= 3; group += 2)
			for (late = 0; late < 2; late++) {
				uint64_t seen;

				begin_fork(10 + i, lengths[i], group);
				net.again_ms = 0;
				syncnet_connect(&net, 0, 1);
				syncnet_run(&net, late ? 2000 : 1);
				syncnet_connect(&net, 0, 2);
				syncnet_connect(&net, 1, 2);
				syncnet_run(&net, 40000);
				assert_fork_named(0, 7);
				assert_fork_named(1, 7);
				assert_fork_named(2, 7);
				assert_true(net.nodes[0].events[P2P_SYNC_CAUGHT_UP] == 2);
				/* nothing more of it, of either branch */
				seen = forked_seq(0);
				assert_others_flow();
				syncnet_stop(&net, 1);
				put_groups(1, 1, 2, 1);
				syncnet_start(&net, 1);
				syncnet_connect_all(&net);
				syncnet_run(&net, 10000);
				assert_int_equal(forked_seq(0), seen);
				assert_int_equal(net.nodes[0].events[P2P_SYNC_FORK], 1);
				syncnet_deinit(&net);
			}
}

/* A group of more changesets than fit into a proof: the signed end of it is what is compared. */
static void a_fork_inside_of_a_long_group_is_found(void **state)
{
	static const size_t one[2] = {1, 1};

	(void)state;
	begin_fork(20, one, 100);
	net.again_ms = 0;
	syncnet_connect(&net, 1, 2);
	syncnet_connect(&net, 0, 1);
	syncnet_connect(&net, 0, 2);
	syncnet_run(&net, 40000);
	assert_fork_named(0, 7);
	assert_fork_named(1, 7);
	assert_fork_named(2, 7);
	assert_others_flow();
	syncnet_deinit(&net);
}

/* One branch ends inside of the other's long group. */
static void a_fork_against_a_long_group_blames_nobody(void **state)
{
	static const size_t one[2] = {2, 1};
	size_t i;

	(void)state;
	begin_fork(21, one, 1);
	syncnet_stop(&net, 2);
	memlog_truncate(&net.nodes[2].log, &forker.replica, 7);
	put_groups(2, 5, 1, 100);
	syncnet_start(&net, 2);
	syncnet_connect(&net, 1, 2);
	syncnet_connect(&net, 0, 1);
	syncnet_connect(&net, 0, 2);
	syncnet_run(&net, 40000);
	for (i = 0; i < 3; i++) {
		assert_true(net.nodes[i].events[P2P_SYNC_FORK] <= 1);
		assert_int_equal(net.nodes[i].events[P2P_SYNC_BAD_PEER], 0);
	}
	assert_int_equal(net.nodes[2].events[P2P_SYNC_FORK], 1);
	assert_others_flow();
	syncnet_deinit(&net);
}

/* Its giver answers no question: what it gave is the proof. */
static void a_signed_header_on_another_past_is_a_fork_at_once(void **state)
{
	struct memlog_change *third, *fourth;
	struct memlog_spec spec;
	const struct p2p_sync_event *event;
	const struct memlog_change *ours;
	size_t puppet, i;

	(void)state;
	begin(29, 2);
	puppet = syncnet_add_puppet(&net);
	for (i = 0; i < 3; i++)
		syncnet_write(&net, 1, 1, 10);
	syncnet_connect(&net, 0, 1);
	assert_true(syncnet_settle(&net, 5000));
	ours = memlog_get(&net.nodes[1].log, &net.nodes[1].author.replica, 3);
	spec = (struct memlog_spec){.seq = 3,
				    .stamp = ours->header.stamp.value,
				    .prev = ours->header.prev,
				    .group_last = true,
				    .salt = 1,
				    .bytes = 20};
	third = memlog_make(&net.mesh, &net.nodes[1].author, &spec);
	spec.seq = 4;
	spec.stamp++;
	spec.prev = third->hash;
	fourth = memlog_make(&net.mesh, &net.nodes[1].author, &spec);
	syncnet_connect(&net, 0, puppet);
	syncnet_say_have(&net, puppet, 0, &net.nodes[1].author.replica, 4, &fourth->hash);
	syncnet_say_change(&net, puppet, 0, fourth, 0, 0);
	syncnet_run(&net, 50);
	event = &net.nodes[0].last[P2P_SYNC_FORK];
	assert_int_equal(net.nodes[0].events[P2P_SYNC_FORK], 1);
	assert_int_equal(event->seq, 3);
	assert_int_equal(p2p_key_cmp(&event->node, &net.nodes[1].author.node), 0);
	assert_int_equal(p2p_hash_cmp(&event->ours, &ours->hash), 0);
	assert_int_equal(p2p_hash_cmp(&event->theirs, &third->hash), 0);
	assert_int_equal(syncnet_heard_count(&net, puppet, P2P_MSG_WANT_HEADER), 0);
	assert_int_equal(syncnet_merged(&net, 0, 1), 3);
	memlog_change_free(third);
	memlog_change_free(fourth);
	syncnet_deinit(&net);
}

static void a_head_that_is_not_proven_is_no_fork(void **state)
{
	struct p2p_hash junk = {{7}};
	size_t puppet;

	(void)state;
	begin(30, 2);
	net.again_ms = 0;
	puppet = syncnet_add_puppet(&net);
	syncnet_write(&net, 1, 1, 10);
	syncnet_connect(&net, 0, 1);
	assert_true(syncnet_settle(&net, 5000));
	syncnet_connect(&net, 0, puppet);
	syncnet_say_have(&net, puppet, 0, &net.nodes[1].author.replica, 1, &junk);
	syncnet_run(&net, 12000);
	assert_false(net.links[0][puppet].up);
	assert_int_equal(net.links[0][puppet].closed, P2P_ETIMEOUT);
	assert_int_equal(net.nodes[0].events[P2P_SYNC_FORK], 0);
	syncnet_write(&net, 1, 1, 10);
	syncnet_run(&net, 200);
	assert_int_equal(syncnet_merged(&net, 0, 1), 2);
	syncnet_deinit(&net);
}

static void say_proof(size_t from, const struct memlog_change *change,
		      const struct p2p_signature *signature)
{
	P2p__V1__HeaderProof proof;
	ProtobufCBinaryData header = p2p_field(change->raw.data, change->raw.len);

	p2p__v1__header_proof__init(&proof);
	proof.replica = p2p_field(change->header.replica.bytes, P2P_ID_BYTES);
	proof.seq = change->header.seq;
	proof.n_headers = 1;
	proof.headers = &header;
	proof.signature = p2p_field(signature->bytes, P2P_SIG_BYTES);
	syncnet_say(&net, from, 0, P2P_MSG_HEADER_PROOF, &proof.base);
	syncnet_run(&net, 5);
}

static void a_proof_with_a_wrong_signature_costs_its_giver(void **state)
{
	struct memlog_author liar;
	struct memlog_change *forged;
	struct memlog_spec spec = {.seq = 1, .stamp = 1600000000000ull << 16, .group_last = true};
	size_t puppet;

	(void)state;
	begin(31, 2);
	net.again_ms = 0;
	puppet = syncnet_add_puppet(&net);
	syncnet_write(&net, 1, 1, 10);
	syncnet_connect(&net, 0, 1);
	assert_true(syncnet_settle(&net, 5000));
	liar = net.nodes[puppet].author;
	liar.replica = net.nodes[1].author.replica;
	forged = memlog_make(&net.mesh, &liar, &spec);
	syncnet_connect(&net, 0, puppet);
	say_proof(puppet, forged, &forged->signature); /* also when nobody asked */
	assert_int_equal(net.links[0][puppet].closed, P2P_EAUTH);
	assert_int_equal(net.nodes[0].events[P2P_SYNC_FORK], 0);
	memlog_change_free(forged);
	syncnet_write(&net, 1, 1, 10);
	syncnet_run(&net, 200);
	assert_int_equal(syncnet_merged(&net, 0, 1), 2);
	syncnet_deinit(&net);
}

/* The same state directory ran twice: a peer has another content of an own changeset. */
static void a_fork_of_the_own_replica_is_told_by_its_id(void **state)
{
	struct memlog_change *other;
	struct memlog_spec spec = {.seq = 1, .stamp = 1600000000000ull << 16, .group_last = true};
	const struct p2p_sync_event *event;
	size_t puppet;

	(void)state;
	begin(32, 2);
	puppet = syncnet_add_puppet(&net);
	syncnet_write(&net, 0, 1, 10);
	syncnet_connect(&net, 0, 1);
	assert_true(syncnet_settle(&net, 5000));
	other = memlog_make(&net.mesh, &net.nodes[0].author, &spec);
	syncnet_connect(&net, 0, puppet);
	syncnet_say_have(&net, puppet, 0, &net.nodes[0].author.replica, 1, &other->hash);
	syncnet_run(&net, 5);
	say_proof(puppet, other, &other->signature);
	event = &net.nodes[0].last[P2P_SYNC_FORK];
	assert_int_equal(net.nodes[0].events[P2P_SYNC_FORK], 1);
	assert_int_equal(p2p_id_cmp(&event->replica, &net.nodes[0].author.replica), 0);
	assert_int_equal(p2p_key_cmp(&event->node, &net.nodes[0].author.node), 0);
	assert_int_equal(p2p_hash_cmp(&event->theirs, &other->hash), 0);
	assert_true(net.links[0][puppet].up);
	memlog_change_free(other);
	syncnet_deinit(&net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(r11_acks_that_are_unknown_or_double_are_passed_over_and_counted),
		cmocka_unit_test(a_rolled_back_node_keeps_the_peer_that_proves_it),
		cmocka_unit_test(an_ack_above_the_own_head_asks_for_the_proof),
		cmocka_unit_test(who_acks_what_was_never_made_cannot_prove_it),
		cmocka_unit_test(a_fork_is_proven_named_and_left_alone),
		cmocka_unit_test(a_fork_inside_of_a_long_group_is_found),
		cmocka_unit_test(a_fork_against_a_long_group_blames_nobody),
		cmocka_unit_test(a_signed_header_on_another_past_is_a_fork_at_once),
		cmocka_unit_test(a_head_that_is_not_proven_is_no_fork),
		cmocka_unit_test(a_proof_with_a_wrong_signature_costs_its_giver),
		cmocka_unit_test(a_fork_of_the_own_replica_is_told_by_its_id),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
