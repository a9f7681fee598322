/* Members that lie, flood and withhold: memory and work stay bounded, the fault costs its maker's
 * connection at most, and honest peers go on. */
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
#define HONEST 1
#define LIAR   2 /* and those after it */

static struct syncnet net;

/* The taker and an honest node that has two replicas' changes; liars are connected to the taker. */
static void begin(uint64_t seed, size_t liars)
{
	size_t i;

	syncnet_init(&net, seed);
	net.delay_ms = 1;
	net.again_ms = 0;
	(void)syncnet_add(&net);
	(void)syncnet_add(&net);
	syncnet_connect(&net, TAKER, HONEST);
	syncnet_write(&net, TAKER, 1, 10);
	syncnet_write(&net, HONEST, 1, 10);
	assert_true(syncnet_settle(&net, 5000));
	for (i = 0; i < liars; i++)
		syncnet_connect(&net, TAKER, syncnet_add_puppet(&net));
}

/* The honest two still work together, and the taker is quick. */
static void assert_goes_on(void)
{
	uint64_t a = syncnet_merged(&net, HONEST, TAKER), b = syncnet_merged(&net, TAKER, HONEST);

	syncnet_write(&net, TAKER, 1, 10);
	syncnet_write(&net, HONEST, 1, 10);
	syncnet_run(&net, 300);
	assert_int_equal(syncnet_merged(&net, HONEST, TAKER), a + 1);
	assert_int_equal(syncnet_merged(&net, TAKER, HONEST), b + 1);
	assert_true(net.links[TAKER][HONEST].up);
}

static const struct p2p_id *id_of(size_t node)
{
	return &net.nodes[node].author.replica;
}

/* --- numbers that nobody can have ------------------------------------------------------------- */

static void say_entry(enum p2p_message_type type, uint64_t seq, uint64_t log_from)
{
	P2p__V1__VectorEntry entry, *list = &entry;
	P2p__V1__Have have;
	P2p__V1__Ack ack;

	p2p__v1__vector_entry__init(&entry);
	entry.replica = p2p_field(id_of(HONEST)->bytes, P2P_ID_BYTES);
	entry.seq = seq;
	entry.log_from = log_from;
	if (type == P2P_MSG_HAVE) {
		p2p__v1__have__init(&have);
		have.n_entries = 1;
		have.entries = &list;
		have.full = true;
		syncnet_say(&net, LIAR, TAKER, type, &have.base);
		return;
	}
	p2p__v1__ack__init(&ack);
	ack.n_durable = 1;
	ack.durable = &list;
	syncnet_say(&net, LIAR, TAKER, type, &ack.base);
}

static void say_want(size_t from, size_t of, uint64_t first, uint64_t last, uint32_t segment)
{
	P2p__V1__Want want;

	p2p__v1__want__init(&want);
	want.replica = p2p_field(id_of(of)->bytes, P2P_ID_BYTES);
	want.from_seq = first;
	want.to_seq = last;
	want.from_segment = segment;
	syncnet_say(&net, from, TAKER, P2P_MSG_WANT, &want.base);
}

static void say_want_header(uint64_t seq)
{
	P2p__V1__WantHeader want;

	p2p__v1__want_header__init(&want);
	want.replica = p2p_field(id_of(HONEST)->bytes, P2P_ID_BYTES);
	want.seq = seq;
	syncnet_say(&net, LIAR, TAKER, P2P_MSG_WANT_HEADER, &want.base);
}

static void say_reject(size_t of, uint64_t have, int code)
{
	P2p__V1__Reject reject;

	p2p__v1__reject__init(&reject);
	reject.replica = p2p_field(id_of(of)->bytes, P2P_ID_BYTES);
	reject.have = have;
	reject.code = code;
	syncnet_say(&net, LIAR, TAKER, P2P_MSG_REJECT, &reject.base);
}

static void say_part(uint64_t seq, uint32_t segment, size_t bytes)
{
	static uint8_t junk[P2P_SEGMENT_BYTES];
	P2p__V1__Part part, *list = &part;
	P2p__V1__Changes changes;

	p2p__v1__part__init(&part);
	part.replica = p2p_field(id_of(HONEST)->bytes, P2P_ID_BYTES);
	part.seq = seq;
	part.segment = segment;
	part.data = p2p_field(junk, bytes);
	p2p__v1__changes__init(&changes);
	changes.n_parts = 1;
	changes.parts = &list;
	syncnet_say(&net, LIAR, TAKER, P2P_MSG_CHANGES, &changes.base);
}

static void say_extreme(size_t what, uint64_t value)
{
	switch (what) {
	case 0:
		say_entry(P2P_MSG_HAVE, value, 1);
		return;
	case 1:
		say_entry(P2P_MSG_HAVE, 1, value);
		return;
	case 2:
		say_entry(P2P_MSG_ACK, value, 1);
		return;
	case 3:
		say_want(LIAR, HONEST, value, value, 0);
		return;
	case 4:
		say_want(LIAR, HONEST, 1, value, UINT32_MAX);
		return;
	case 5:
		say_want_header(value);
		return;
	case 6:
		say_reject(HONEST, value, P2P_ENOENT);
		return;
	default:
		say_part(value, (uint32_t)value, 1);
		return;
	}
}

static void extreme_numbers_cost_their_sender_only(void **state)
{
	static const uint64_t values[] = {0, INT64_MAX, 1ull << 63, UINT64_MAX};
	size_t i, what;

	(void)state;
	for (i = 0; i < sizeof(values) / sizeof(*values); i++)
		for (what = 0; what < 8; what++) {
			begin(1, 1);
			syncnet_say_have(&net, LIAR, TAKER, NULL, 0, NULL);
			say_extreme(what, values[i]);
			syncnet_run(&net, 50);
			if (net.links[TAKER][LIAR].closed)
				assert_int_equal(net.links[TAKER][LIAR].closed, P2P_EPROTO);
			assert_goes_on();
			syncnet_run(&net, 20000);
			assert_goes_on();
			syncnet_deinit(&net);
		}
}

static void a_vector_of_lies_is_no_vector_of_ours(void **state)
{
	static P2p__V1__VectorEntry entries[P2P_REPLICAS_MAX + 1];
	static P2p__V1__VectorEntry *list[P2P_REPLICAS_MAX + 1];
	static struct p2p_id ids[P2P_REPLICAS_MAX + 1];
	P2p__V1__Have have;
	size_t i;

	(void)state;
	begin(2, 2);
	p2p__v1__have__init(&have);
	for (i = 0; i <= P2P_REPLICAS_MAX; i++) {
		memset(&ids[i], 0x77, sizeof(ids[i]));
		memcpy(ids[i].bytes, &i, sizeof(i));
		p2p__v1__vector_entry__init(&entries[i]);
		entries[i].replica = p2p_field(ids[i].bytes, P2P_ID_BYTES);
		entries[i].seq = INT64_MAX;
		list[i] = &entries[i];
	}
	have.entries = list;
	have.full = true;
	have.n_entries = P2P_REPLICAS_MAX + 1;
	syncnet_say(&net, LIAR, TAKER, P2P_MSG_HAVE, &have.base);
	have.n_entries = P2P_REPLICAS_MAX;
	syncnet_say(&net, LIAR + 1, TAKER, P2P_MSG_HAVE, &have.base);
	syncnet_run(&net, 50);
	assert_int_equal(net.links[TAKER][LIAR].closed, P2P_ETOOBIG);
	assert_true(net.links[TAKER][LIAR + 1].up);
	/* nobody is certified for these: nothing is kept of them, nothing asked */
	assert_int_equal(p2p_sync_vector(net.nodes[TAKER].sync)->count, 2);
	assert_int_equal(syncnet_heard_count(&net, LIAR + 1, P2P_MSG_WANT), 0);
	assert_true(syncnet_status(&net, TAKER, LIAR + 1).ahead >= INT64_MAX);
	assert_int_equal(net.nodes[TAKER].events[P2P_SYNC_CAUGHT_UP], 1);
	assert_goes_on();
	syncnet_deinit(&net);
}

/* --- withholding ------------------------------------------------------------------------------ */

static void liars_claim(size_t liars)
{
	size_t i;

	for (i = 0; i < liars; i++)
		syncnet_say_have(&net, LIAR + i, TAKER, id_of(HONEST), INT64_MAX, NULL);
}

/* Time until the taker has what the honest node wrote, too big to be pushed. */
static uint64_t round_trip(void)
{
	uint64_t begun = net.now_ms;

	syncnet_write(&net, HONEST, 2, 70000);
	while (syncnet_merged(&net, TAKER, HONEST) < syncnet_merged(&net, HONEST, HONEST) &&
	       net.now_ms - begun < 20000)
		syncnet_run(&net, 5);
	return net.now_ms - begun;
}

static void who_withholds_is_asked_last(void **state)
{
	static const size_t counts[] = {1, 2, 5, 10};
	size_t i, round;

	(void)state;
	for (i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
		uint64_t total = 0, worst = 0, last;

		begin(3 + i, counts[i]);
		liars_claim(counts[i]);
		syncnet_run(&net, 10);
		for (round = 0; round < 30; round++) {
			last = round_trip();
			total += last;
			worst = last > worst ? last : worst;
			syncnet_run(&net, syncnet_random(&net, 700));
		}
		assert_int_equal(syncnet_merged(&net, TAKER, HONEST), 1 + 2 * 30);
		/* each liar may cost one second once, and no change more than one */
		assert_true(worst <= 1000 * (counts[i] + 1));
		assert_true(total <= 1000 * counts[i] + 30 * 300);
		assert_true(net.links[TAKER][HONEST].up);
		syncnet_deinit(&net);
	}
}

static void many_replicas_wait_for_one_liar_together(void **state)
{
	size_t i, others[20];
	uint64_t begun;

	(void)state;
	begin(10, 1);
	for (i = 0; i < 20; i++) {
		others[i] = syncnet_add(&net);
		syncnet_write(&net, others[i], 1, 1000);
		syncnet_connect(&net, HONEST, others[i]);
	}
	syncnet_disconnect(&net, TAKER, HONEST);
	syncnet_run(&net, 3000);
	for (i = 0; i < 20; i++)
		syncnet_say_have(&net, LIAR, TAKER, id_of(others[i]), 1, NULL);
	syncnet_run(&net, 100);
	begun = net.now_ms;
	syncnet_connect(&net, TAKER, HONEST);
	for (i = 0; i < 20; i++)
		while (!syncnet_merged(&net, TAKER, others[i]) && net.now_ms - begun < 20000)
			syncnet_run(&net, 5);
	assert_true(net.now_ms - begun <= 1300);
	syncnet_deinit(&net);
}

/* Unsigned changesets without an end, one just before its second is over. */
static void a_drip_of_unsigned_changesets_does_not_stop_a_range(void **state)
{
	struct memlog_author liar;
	struct memlog_spec spec;
	struct memlog_change *change;
	const struct memlog_change *before;
	uint64_t begun;
	uint32_t pos = 0;

	(void)state;
	begin(11, 1);
	syncnet_disconnect(&net, TAKER, HONEST);
	syncnet_write(&net, HONEST, 5, 70000);
	syncnet_say_have(&net, LIAR, TAKER, id_of(HONEST), INT64_MAX, NULL);
	syncnet_run(&net, 10);
	syncnet_connect(&net, TAKER, HONEST);
	before = memlog_get(&net.nodes[HONEST].log, id_of(HONEST), 1);
	liar = net.nodes[LIAR].author;
	liar.replica = *id_of(HONEST);
	spec = (struct memlog_spec){.seq = 2,
				    .stamp = before->header.stamp.value + 1,
				    .prev = before->hash,
				    .bytes = 10};
	begun = net.now_ms;
	while (syncnet_merged(&net, TAKER, HONEST) < 6 && net.now_ms - begun < 120000) {
		spec.group_pos = pos++;
		change = memlog_make(&net.mesh, &liar, &spec);
		syncnet_say_change(&net, LIAR, TAKER, change, 0, 0);
		spec.prev = change->hash;
		spec.seq++;
		spec.stamp++;
		memlog_change_free(change);
		syncnet_run(&net, 900);
	}
	assert_int_equal(syncnet_merged(&net, TAKER, HONEST), 6);
	assert_true(net.now_ms - begun < 20000);
	assert_true(net.links[TAKER][HONEST].up);
	syncnet_deinit(&net);
}

/* --- floods ----------------------------------------------------------------------------------- */

#define FLOOD 10000

static void many_digests_are_answered_once(void **state)
{
	P2p__V1__Have have;
	struct p2p_hash junk = {{1}};
	uint64_t before;
	size_t i;

	(void)state;
	begin(20, 1);
	syncnet_say_have(&net, LIAR, TAKER, NULL, 0, NULL);
	syncnet_run(&net, 10);
	before = net.links[TAKER][LIAR].sent;
	p2p__v1__have__init(&have);
	have.digest = p2p_field(junk.bytes, P2P_HASH_BYTES);
	have.want_full = true;
	for (i = 0; i < FLOOD; i++) {
		syncnet_say(&net, LIAR, TAKER, P2P_MSG_HAVE, &have.base);
		if (i % 1000 == 999)
			syncnet_run(&net, 10);
	}
	/* one whole vector, and an ack or so, in a tenth of a second */
	assert_true(net.links[TAKER][LIAR].sent - before <= 4);
	assert_goes_on();
	syncnet_deinit(&net);
}

static void old_heads_are_looked_up_with_measure(void **state)
{
	struct p2p_hash junk = {{1}};
	uint64_t before;
	size_t i;

	(void)state;
	begin(21, 1);
	for (i = 0; i < 5; i++)
		assert_true(round_trip() < 2000);
	syncnet_say_have(&net, LIAR, TAKER, NULL, 0, NULL);
	syncnet_run(&net, 10);
	before = net.nodes[TAKER].log.reads;
	for (i = 0; i < FLOOD; i++)
		syncnet_say_have(&net, LIAR, TAKER, id_of(HONEST), 3, i ? &junk : NULL);
	syncnet_run(&net, 5);
	assert_true(net.nodes[TAKER].log.reads - before < 600);
	assert_goes_on();
	syncnet_deinit(&net);
}

static void many_wants_get_what_the_credit_allows(void **state)
{
	size_t i;

	(void)state;
	begin(22, 1);
	net.queue_max = 100000;
	syncnet_write(&net, TAKER, 100, 60000);
	syncnet_say_have(&net, LIAR, TAKER, NULL, 0, NULL);
	for (i = 0; i < FLOOD; i++)
		say_want(LIAR, TAKER, 1, 101, 0);
	syncnet_run(&net, 5000);
	assert_true(net.links[TAKER][LIAR].up);
	assert_true(net.links[TAKER][LIAR].payload_bytes <= P2P_CREDIT_BYTES + P2P_MESSAGE_MAX);
	assert_true(net.links[TAKER][LIAR].payload_bytes > P2P_CREDIT_BYTES / 2);
	assert_goes_on();
	syncnet_deinit(&net);
}

static void many_questions_for_headers_get_few_answers(void **state)
{
	size_t i;

	(void)state;
	begin(23, 1);
	syncnet_say_have(&net, LIAR, TAKER, NULL, 0, NULL);
	for (i = 0; i < FLOOD; i++)
		say_want_header(1 + i % 2);
	syncnet_run(&net, 5);
	assert_true(syncnet_heard_count(&net, LIAR, P2P_MSG_HEADER_PROOF) <= 16);
	assert_goes_on();
	syncnet_deinit(&net);
}

static void rejects_and_claims_in_turn_are_not_answered_for_ever(void **state)
{
	size_t i;

	(void)state;
	begin(24, 1);
	syncnet_say_have(&net, LIAR, TAKER, NULL, 0, NULL);
	syncnet_disconnect(&net, TAKER, HONEST);
	for (i = 0; i < FLOOD; i++) {
		syncnet_say_have(&net, LIAR, TAKER, id_of(HONEST), 100 + i, NULL);
		say_reject(HONEST, 0, P2P_ENOENT);
	}
	syncnet_run(&net, 10);
	assert_true(syncnet_heard_count(&net, LIAR, P2P_MSG_WANT) <= 4);
	syncnet_connect(&net, TAKER, HONEST);
	syncnet_run(&net, 1500);
	assert_goes_on();
	syncnet_deinit(&net);
}

static void credit_is_granted_again_for_what_is_passed_over(void **state)
{
	size_t i;

	(void)state;
	begin(25, 1);
	syncnet_say_have(&net, LIAR, TAKER, NULL, 0, NULL);
	for (i = 0; i < 200; i++) {
		say_part(7, 3, P2P_SEGMENT_BYTES);
		syncnet_run(&net, 5);
	}
	assert_true(net.links[TAKER][LIAR].up);
	assert_null(memlog_get(&net.nodes[TAKER].log, id_of(HONEST), 2));
	assert_goes_on();
	syncnet_deinit(&net);
}

static void who_sends_beyond_its_credit_is_closed(void **state)
{
	size_t i;

	(void)state;
	begin(26, 1);
	syncnet_say_have(&net, LIAR, TAKER, NULL, 0, NULL);
	syncnet_run(&net, 10);
	net.links[TAKER][LIAR].stuck = true; /* no grant gets out */
	for (i = 0; i < P2P_CREDIT_BYTES / P2P_SEGMENT_BYTES; i++) {
		say_part(7, 3, P2P_SEGMENT_BYTES - 100);
		syncnet_run(&net, 1);
	}
	assert_true(net.links[TAKER][LIAR].up);
	for (i = 0; i < 2; i++) {
		say_part(7, 3, P2P_SEGMENT_BYTES);
		syncnet_run(&net, 1);
	}
	assert_int_equal(net.links[TAKER][LIAR].closed, P2P_EQUOTA);
	assert_goes_on();
	syncnet_deinit(&net);
}

/* Bytes in the taker's log that no signature covers. */
static uint64_t unsigned_bytes(void)
{
	const struct memlog *log = &net.nodes[TAKER].log;
	uint64_t bytes = 0;
	size_t i, seq;

	for (i = 0; i < log->chain_count; i++)
		for (seq = log->chains[i].count; seq; seq--) {
			if (log->chains[i].changes[seq - 1]->has_signature)
				break;
			bytes += log->chains[i].changes[seq - 1]->body.len;
		}
	return bytes;
}

/* Forged unsigned changesets of every replica there is, more than there is room for. */
static void unsigned_changes_have_room_for_everybody(void **state)
{
	struct memlog_spec spec = {.seq = 1, .stamp = 1, .bytes = 100000};
	struct memlog_author liar;
	struct memlog_change *forged;
	size_t i, round;

	(void)state;
	syncnet_init(&net, 27);
	net.delay_ms = 1;
	net.again_ms = 0;
	net.staged_max_bytes = 1000000;
	(void)syncnet_add(&net);
	(void)syncnet_add(&net);
	(void)syncnet_add_puppet(&net);
	for (i = 0; i < 40; i++)
		(void)syncnet_add_puppet(&net); /* their replicas */
	syncnet_connect(&net, TAKER, LIAR);
	for (i = 3; i < net.count; i++)
		syncnet_say_have(&net, LIAR, TAKER, id_of(i), 1000, NULL);
	syncnet_run(&net, 10);
	syncnet_write(&net, HONEST, 4, 100000); /* nearly half of the room */
	for (round = 0; round < 20; round++) {
		if (round == 2)
			syncnet_connect(&net, TAKER, HONEST);
		for (i = 3; i < net.count; i++) {
			liar = net.nodes[LIAR].author;
			liar.replica = *id_of(i);
			forged = memlog_make(&net.mesh, &liar, &spec);
			syncnet_say_change(&net, LIAR, TAKER, forged, 0, 1);
			memlog_change_free(forged);
		}
		syncnet_run(&net, 50);
		assert_true(unsigned_bytes() <= 1000000);
	}
	syncnet_run(&net, 3000);
	assert_int_equal(syncnet_merged(&net, TAKER, HONEST), 4);
	assert_true(net.links[TAKER][HONEST].up);
	assert_int_equal(net.blamed, 0);
	syncnet_deinit(&net);
}

/* --- who stands still ------------------------------------------------------------------------- */

static void r58_a_peer_that_never_acks_stops_only_itself(void **state)
{
	P2p__V1__Ack ack;
	uint64_t sent;

	(void)state;
	begin(30, 1);
	net.queue_max = 100000;
	syncnet_write(&net, TAKER, 200, 60000);
	syncnet_say_have(&net, LIAR, TAKER, NULL, 0, NULL);
	say_want(LIAR, TAKER, 1, 201, 0);
	assert_true(syncnet_settle(&net, 20000) || syncnet_merged(&net, HONEST, TAKER) == 201);
	sent = net.links[TAKER][LIAR].payload_bytes;
	assert_true(sent <= P2P_CREDIT_BYTES + P2P_MESSAGE_MAX);
	/* it goes on where it was, by what is granted */
	p2p__v1__ack__init(&ack);
	ack.credit_bytes = 300000;
	syncnet_say(&net, LIAR, TAKER, P2P_MSG_ACK, &ack.base);
	syncnet_run(&net, 10);
	assert_true(net.links[TAKER][LIAR].payload_bytes > sent);
	assert_true(net.links[TAKER][LIAR].payload_bytes <= sent + 300000 + P2P_MESSAGE_MAX);
	syncnet_deinit(&net);
}

static void r58_a_full_queue_puts_the_cursor_back(void **state)
{
	uint64_t parts;

	(void)state;
	begin(31, 0);
	net.queue_max = 1;
	net.jitter_ms = 5;
	syncnet_write(&net, HONEST, 50, 100000);
	assert_true(syncnet_settle(&net, 60000));
	parts = net.links[HONEST][TAKER].parts;
	assert_true(parts <= 50 * 2 + 4);
	assert_true(memlog_agree(&net.nodes[TAKER].log, &net.nodes[HONEST].log));
	syncnet_deinit(&net);
}

/* Where the last Want that came to the liar begins. */
static uint64_t asked_from(void)
{
	struct p2p_message message;
	uint64_t from = 0;

	while (syncnet_heard(&net, LIAR, &message)) {
		if (message.type == P2P_MSG_WANT)
			from = message.want->from_seq;
		p2p_message_deinit(&message);
	}
	return from;
}

static void r57_what_is_rejected_is_not_applied_and_restarts_there(void **state)
{
	struct memlog_change *good, *bad;
	struct memlog_spec spec;
	const struct memlog_change *before;

	(void)state;
	begin(32, 1);
	/* the second of its own changesets is broken: right hash and signature are of another body
	 */
	syncnet_write(&net, LIAR, 1, 100);
	syncnet_write(&net, LIAR, 1, 100);
	syncnet_write(&net, LIAR, 1, 100);
	before = memlog_get(&net.nodes[LIAR].log, id_of(LIAR), 1);
	spec = (struct memlog_spec){.seq = 2,
				    .stamp = before->header.stamp.value + 1,
				    .prev = before->hash,
				    .group_last = true,
				    .bytes = 100};
	good = memlog_make(&net.mesh, &net.nodes[LIAR].author, &spec);
	bad = memlog_make(&net.mesh, &net.nodes[LIAR].author, &spec);
	bad->body.data[5] ^= 1;
	syncnet_say_have(&net, LIAR, TAKER, id_of(LIAR), 3, NULL);
	syncnet_say_change(&net, LIAR, TAKER, before, 0, 0);
	syncnet_say_change(&net, LIAR, TAKER, bad, 0, 0);
	syncnet_run(&net, 50);
	assert_int_equal(net.links[TAKER][LIAR].closed, P2P_EPROTO);
	assert_int_equal(syncnet_merged(&net, TAKER, LIAR), 1);
	assert_null(memlog_get(&net.nodes[TAKER].log, id_of(LIAR), 2));
	/* in the next session it is asked for from there */
	syncnet_connect(&net, TAKER, LIAR);
	(void)syncnet_heard_count(&net, LIAR, P2P_MSG_WANT);
	syncnet_say_have(&net, LIAR, TAKER, id_of(LIAR), 3, NULL);
	syncnet_run(&net, 10);
	assert_int_equal(asked_from(), 2);
	syncnet_say_change(&net, LIAR, TAKER, good, 0, 0);
	syncnet_run(&net, 50);
	assert_int_equal(syncnet_merged(&net, TAKER, LIAR), 2);
	memlog_change_free(good);
	memlog_change_free(bad);
	assert_goes_on();
	syncnet_deinit(&net);
}

static void r57_a_source_that_rejects_is_replaced_at_once(void **state)
{
	uint64_t begun;

	(void)state;
	begin(33, 1);
	syncnet_disconnect(&net, TAKER, HONEST);
	syncnet_write(&net, HONEST, 2, 70000);
	syncnet_say_have(&net, LIAR, TAKER, id_of(HONEST), 3, NULL);
	syncnet_run(&net, 10);
	assert_int_equal(syncnet_heard_count(&net, LIAR, P2P_MSG_WANT), 1);
	syncnet_connect(&net, TAKER, HONEST);
	syncnet_run(&net, 10);
	begun = net.now_ms;
	say_reject(HONEST, 1, P2P_ENOENT);
	while (syncnet_merged(&net, TAKER, HONEST) < 3 && net.now_ms - begun < 10000)
		syncnet_run(&net, 5);
	assert_true(net.now_ms - begun < 200);
	syncnet_deinit(&net);
}

static void a_silent_source_is_left_after_a_second_and_told(void **state)
{
	struct p2p_message message;
	uint64_t begun;
	bool told = false;

	(void)state;
	begin(34, 1);
	syncnet_disconnect(&net, TAKER, HONEST);
	syncnet_write(&net, HONEST, 2, 70000);
	syncnet_say_have(&net, LIAR, TAKER, id_of(HONEST), 3, NULL);
	syncnet_run(&net, 10);
	assert_int_equal(syncnet_heard_count(&net, LIAR, P2P_MSG_WANT), 1);
	syncnet_connect(&net, TAKER, HONEST);
	begun = net.now_ms;
	syncnet_run(&net, 900);
	assert_int_equal(syncnet_merged(&net, TAKER, HONEST), 1);
	while (syncnet_merged(&net, TAKER, HONEST) < 3 && net.now_ms - begun < 10000)
		syncnet_run(&net, 5);
	assert_true(net.now_ms - begun <= 1100);
	while (syncnet_heard(&net, LIAR, &message)) {
		told |= message.type == P2P_MSG_REJECT && message.reject->code == P2P_ECANCELED;
		p2p_message_deinit(&message);
	}
	assert_true(told);
	syncnet_deinit(&net);
}

/* The engine is not called between its ticks: it has to look at the clock when a source goes. */
static void who_is_asked_when_a_source_goes_has_its_whole_second(void **state)
{
	size_t i, asked = 0;

	(void)state;
	begin(36, 3);
	for (i = 0; i < 3; i++)
		syncnet_say_have(&net, LIAR + i, TAKER, id_of(HONEST), 9, NULL);
	syncnet_run(&net, 5);
	for (i = 0; i < 3; i++)
		if (syncnet_heard_count(&net, LIAR + i, P2P_MSG_WANT))
			asked = LIAR + i;
	assert_true(asked >= LIAR);
	syncnet_disconnect(&net, TAKER, HONEST);
	syncnet_run(&net, 900);
	syncnet_disconnect(&net, TAKER, asked);
	for (i = 0; i < 3; i++)
		(void)syncnet_heard_count(&net, LIAR + i, P2P_MSG_REJECT);
	syncnet_run(&net, 800);
	for (i = 0; i < 3; i++)
		assert_int_equal(syncnet_heard_count(&net, LIAR + i, P2P_MSG_REJECT), 0);
	syncnet_run(&net, 400);
	assert_true(syncnet_heard_count(&net, LIAR, P2P_MSG_REJECT) +
			    syncnet_heard_count(&net, LIAR + 1, P2P_MSG_REJECT) +
			    syncnet_heard_count(&net, LIAR + 2, P2P_MSG_REJECT) >
		    0);
	syncnet_deinit(&net);
}

static void who_proves_nothing_of_our_replica_stops_us_once(void **state)
{
	struct p2p_hash junk = {{3}};
	size_t round;

	(void)state;
	begin(35, 1);
	for (round = 0; round < 3; round++) {
		syncnet_say_have(&net, LIAR, TAKER, id_of(TAKER), 1000, &junk);
		syncnet_run(&net, 100);
		assert_int_equal(p2p_sync_in_question(net.nodes[TAKER].sync), round == 0);
		if (round == 1) /* to say that it cannot does not help */
			say_reject(TAKER, 1, P2P_ENOENT);
		syncnet_run(&net, 9000);
		assert_true(net.links[TAKER][LIAR].up);
		syncnet_run(&net, 2000);
		assert_false(net.links[TAKER][LIAR].up);
		assert_int_equal(net.links[TAKER][LIAR].closed, P2P_ETIMEOUT);
		syncnet_connect(&net, TAKER, LIAR);
	}
	assert_int_equal(net.nodes[TAKER].events[P2P_SYNC_SELF_AHEAD], 0);
	assert_goes_on();
	syncnet_deinit(&net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(extreme_numbers_cost_their_sender_only),
		cmocka_unit_test(a_vector_of_lies_is_no_vector_of_ours),
		cmocka_unit_test(who_withholds_is_asked_last),
		cmocka_unit_test(many_replicas_wait_for_one_liar_together),
		cmocka_unit_test(a_drip_of_unsigned_changesets_does_not_stop_a_range),
		cmocka_unit_test(many_digests_are_answered_once),
		cmocka_unit_test(old_heads_are_looked_up_with_measure),
		cmocka_unit_test(many_wants_get_what_the_credit_allows),
		cmocka_unit_test(many_questions_for_headers_get_few_answers),
		cmocka_unit_test(rejects_and_claims_in_turn_are_not_answered_for_ever),
		cmocka_unit_test(credit_is_granted_again_for_what_is_passed_over),
		cmocka_unit_test(who_sends_beyond_its_credit_is_closed),
		cmocka_unit_test(unsigned_changes_have_room_for_everybody),
		cmocka_unit_test(r58_a_peer_that_never_acks_stops_only_itself),
		cmocka_unit_test(r58_a_full_queue_puts_the_cursor_back),
		cmocka_unit_test(r57_what_is_rejected_is_not_applied_and_restarts_there),
		cmocka_unit_test(r57_a_source_that_rejects_is_replaced_at_once),
		cmocka_unit_test(a_silent_source_is_left_after_a_second_and_told),
		cmocka_unit_test(who_is_asked_when_a_source_goes_has_its_whole_second),
		cmocka_unit_test(who_proves_nothing_of_our_replica_stops_us_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
