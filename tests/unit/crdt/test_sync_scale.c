/* Two thousand replica ids and fifty peers: what an engine does costs what there is to do, not what
 * there is. Times are of the processor, so that a busy machine does not fail them, and the bounds
 * are wide; `-v` prints the figures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
// cmocka needs the four above
#include <cmocka.h>

#include "proto/limits.h"
#include "tests/support/figures.h"
#include "tests/support/syncnet.h"

#define REPLICAS 2000
#define PEERS	 50

static struct syncnet net;
static struct memlog_author authors[REPLICAS];
static struct memlog world; /* what the puppets have */
static bool verbose;

static double cpu_ms(void)
{
	struct timespec at;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
	return (double)at.tv_sec * 1e3 + (double)at.tv_nsec / 1e6;
}

static struct figure told[16];
static size_t told_count;

static void figure(const char *what, double ms, double bound_ms)
{
	if (told_count < sizeof(told) / sizeof(*told))
		told[told_count++] = (struct figure){what, ms};
	if (verbose)
		(void)printf("%-60s %10.3f ms (bound %.0f)\n", what, ms, bound_ms);
	if (ms > bound_ms) {
		print_error("%s: %.3f ms, bound %.3f\n", what, ms, bound_ms);
		fail();
	}
}

static void tell(void)
{
	const struct figures page = {
		.name = "sync-scale",
		.title = "The sync engine with 2000 replica ids and 50 peers: ms of processor time",
		.command = "build/tests/unit/crdt/test_crdt_sync_scale -v",
		.figures = told,
		.count = told_count,
	};

	figures_write(&page);
}

/* One engine among puppets that stand for nodes with a replica each, and others gone by. */
static void begin(void)
{
	struct p2p_vv_entry entry;
	struct memlog_group group = {.count = 1, .bytes = 200, .stamp_ms = 1600000000000ull};
	size_t i;

	syncnet_init(&net, 1);
	memlog_init(&world, &net.mesh);
	(void)syncnet_add(&net);
	for (i = 0; i < PEERS; i++)
		(void)syncnet_add_puppet(&net);
	for (i = 0; i < REPLICAS; i++) {
		memlog_author(&authors[i], 1000 + (uint32_t)i);
		memlog_certify(&net.nodes[0].log, &authors[i].replica, &authors[i].node, 0);
		memlog_append(&world, &authors[i], &group, &entry);
	}
}

static void end(void)
{
	syncnet_deinit(&net);
	memlog_deinit(&world);
}

/* All replicas, at the seq that the world has. */
static void say_all(size_t from, bool full)
{
	static P2p__V1__VectorEntry entries[REPLICAS], *list[REPLICAS];
	P2p__V1__Have have;
	size_t i;

	p2p__v1__have__init(&have);
	for (i = 0; i < REPLICAS; i++) {
		uint64_t seq = memlog_head(&world, &authors[i].replica);
		const struct memlog_change *head = memlog_get(&world, &authors[i].replica, seq);

		p2p__v1__vector_entry__init(&entries[i]);
		list[i] = &entries[i];
		entries[i].replica = p2p_field(authors[i].replica.bytes, P2P_ID_BYTES);
		entries[i].seq = seq;
		entries[i].head = p2p_field(head->hash.bytes, P2P_HEAD_BYTES);
		entries[i].log_from = 1;
	}
	have.n_entries = REPLICAS;
	have.entries = list;
	have.full = full;
	syncnet_say(&net, from, 0, P2P_MSG_HAVE, &have.base);
}

/* Answers what a puppet was asked. Returns how many changesets. */
static size_t answer(size_t puppet)
{
	struct p2p_message message;
	size_t count = 0;

	while (syncnet_heard(&net, puppet, &message)) {
		struct p2p_id id;
		uint64_t seq;

		if (message.type == P2P_MSG_WANT) {
			assert_int_equal(p2p_field_id(&id, &message.want->replica), 0);
			for (seq = message.want->from_seq; seq <= message.want->to_seq; seq++) {
				syncnet_say_change(&net, puppet, 0, memlog_get(&world, &id, seq), 0,
						   0);
				count++;
			}
		}
		p2p_message_deinit(&message);
	}
	return count;
}

static size_t answer_all(void)
{
	size_t i, count = 0;

	for (i = 1; i <= PEERS; i++)
		count += answer(i);
	return count;
}

static size_t merged_count(void)
{
	return p2p_sync_vector(net.nodes[0].sync)->count;
}

static void connect_all(void)
{
	size_t i;

	for (i = 1; i <= PEERS; i++)
		syncnet_connect(&net, 0, i);
}

static void a_tick_costs_what_is_under_way(void **state)
{
	struct p2p_time now;
	double at;
	size_t i, count;

	(void)state;
	begin();
	connect_all();
	at = cpu_ms();
	for (i = 1; i <= PEERS; i++)
		say_all(i, true);
	syncnet_run(&net, 1);
	figure("50 first Haves of 2000 replicas each, all asked for", cpu_ms() - at, 3000);
	/* everything is under way, and nobody answers */
	at = cpu_ms();
	for (i = 0; i < 100; i++) {
		now.ms = ++net.now_ms;
		(void)p2p_sync_tick(net.nodes[0].sync, now);
	}
	figure("a tick with 2000 ranges under way", (cpu_ms() - at) / 100, 5);
	at = cpu_ms();
	while ((count = answer_all()) > 0)
		syncnet_run(&net, 10);
	figure("2000 ranges given and merged", cpu_ms() - at, 2000);
	assert_int_equal(merged_count(), REPLICAS);
	/* all is there: digests, ticks, one change */
	syncnet_run(&net, 1000);
	at = cpu_ms();
	for (i = 0; i < 1000; i++) {
		now.ms = net.now_ms;
		(void)p2p_sync_tick(net.nodes[0].sync, now);
	}
	figure("a tick with nothing to do", (cpu_ms() - at) / 1000, 0.5);
	at = cpu_ms();
	for (i = 0; i < 20; i++) {
		syncnet_write(&net, 0, 1, 100);
		syncnet_run(&net, 60);
	}
	figure("an own change pushed to 50 peers", (cpu_ms() - at) / 20, 10);
	end();
}

/* One replica moves; everybody tells of it, and it is told on. */
static void a_change_costs_what_changed(void **state)
{
	struct memlog_group group = {.count = 1, .bytes = 200, .stamp_ms = 1600000000001ull};
	struct p2p_vv_entry entry;
	size_t i, round;
	double at;

	(void)state;
	begin();
	connect_all();
	for (i = 1; i <= PEERS; i++)
		say_all(i, true);
	syncnet_run(&net, 1);
	while (answer_all() > 0)
		syncnet_run(&net, 10);
	assert_int_equal(merged_count(), REPLICAS);
	at = cpu_ms();
	for (round = 0; round < 20; round++) {
		memlog_append(&world, &authors[round], &group, &entry);
		syncnet_say_have(&net, 1 + round, 0, &entry.replica, entry.seq, &entry.head);
		do
			syncnet_run(&net, 200);
		while (answer_all() > 0);
		assert_int_equal(p2p_vv_seq(p2p_sync_vector(net.nodes[0].sync),
					    &authors[round].replica),
				 2);
	}
	figure("a change of one of 2000 replicas, told on to 49 peers", (cpu_ms() - at) / 20, 20);
	/* peers go and come again */
	at = cpu_ms();
	for (i = 1; i <= PEERS; i++) {
		syncnet_disconnect(&net, 0, i);
		syncnet_connect(&net, 0, i);
		say_all(i, true);
		syncnet_run(&net, 10);
		(void)answer(i);
	}
	figure("a reconnect with nothing new", (cpu_ms() - at) / PEERS, 30);
	assert_int_equal(net.nodes[0].events[P2P_SYNC_CAUGHT_UP], 2 * PEERS);
	end();
	tell();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tick_costs_what_is_under_way),
		cmocka_unit_test(a_change_costs_what_changed),
	};

	verbose = argc > 1 && strcmp(argv[1], "-v") == 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
