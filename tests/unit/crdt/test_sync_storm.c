/* Random meshes of honest nodes and liars: losses, cuts, kills, and whatever members can say that
 * is not true. However it goes, honest nodes never blame one another, see no fork and lose nothing,
 * and when it is calm they are level. Argument: first seed and how many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "proto/limits.h"
#include "tests/support/figures.h"
#include "tests/support/syncnet.h"

#define HONEST_MAX 4
#define SETTLE_MS  120000

static struct syncnet net;
static size_t honest; /* nodes 0 to honest - 1; the rest are puppets */
static uint64_t first_seed = 1, seed_count = 40;
/* of all storms, for the figures */
static struct {
	uint64_t messages, closed, blamed, merges, dropped, virtual_ms, settle_ms;
} total;

static uint64_t chance(uint64_t below)
{
	return syncnet_random(&net, below);
}

static size_t any_liar(void)
{
	return honest + (size_t)chance(net.count - honest);
}

static size_t any_honest(void)
{
	return (size_t)chance(honest);
}

static const struct p2p_id *any_id(void)
{
	static struct p2p_id nobody;

	nobody.bytes[3] = (uint8_t)chance(5);
	return chance(10) ? &net.nodes[chance(net.count)].author.replica : &nobody;
}

static uint64_t any_seq(const struct p2p_id *id)
{
	uint64_t head = memlog_head(&net.nodes[any_honest()].log, id);

	switch (chance(8)) {
	case 0:
		return INT64_MAX - chance(2);
	case 1:
		return head + 1 + chance(100);
	case 2:
		return 1;
	default:
		return head ? 1 + chance(head) : 1;
	}
}

/* The true head of a seq, a wrong one, or none. */
static ProtobufCBinaryData any_head(const struct p2p_id *id, uint64_t seq)
{
	static struct p2p_hash junk;
	const struct memlog_change *change = memlog_get(&net.nodes[any_honest()].log, id, seq);

	junk.bytes[0] = (uint8_t)chance(256);
	if (change && chance(4))
		return p2p_field(change->hash.bytes, P2P_HEAD_BYTES);
	return chance(2) ? p2p_field(junk.bytes, P2P_HEAD_BYTES) : p2p_field(NULL, 0);
}

static void say_have(size_t from, size_t to)
{
	P2p__V1__VectorEntry entries[8], *list[8];
	struct p2p_id ids[8];
	struct p2p_hash digest = {{0}};
	P2p__V1__Have have;
	size_t i;

	p2p__v1__have__init(&have);
	have.n_entries = (size_t)chance(8);
	have.entries = list;
	for (i = 0; i < have.n_entries; i++) {
		ids[i] = *any_id();
		p2p__v1__vector_entry__init(&entries[i]);
		entries[i].replica = p2p_field(ids[i].bytes, P2P_ID_BYTES);
		entries[i].seq = any_seq(&ids[i]);
		entries[i].head = any_head(&ids[i], entries[i].seq);
		entries[i].log_from = chance(20) ? 1 : entries[i].seq;
		list[i] = &entries[i];
	}
	have.full = chance(2) == 0;
	have.want_full = chance(4) == 0;
	if (chance(2))
		p2p_vv_digest(&net.nodes[to].merged, &digest);
	have.digest = p2p_field(digest.bytes, P2P_HASH_BYTES);
	syncnet_say(&net, from, to, P2P_MSG_HAVE, &have.base);
}

static void say_want(size_t from, size_t to)
{
	const struct p2p_id *id = any_id();
	P2p__V1__Want want;

	p2p__v1__want__init(&want);
	want.replica = p2p_field(id->bytes, P2P_ID_BYTES);
	want.from_seq = any_seq(id);
	want.to_seq = want.from_seq + chance(5);
	want.from_segment = (uint32_t)chance(3);
	syncnet_say(&net, from, to, P2P_MSG_WANT, &want.base);
}

static void say_ack(size_t from, size_t to)
{
	const struct p2p_id *id = chance(2) ? any_id() : &net.nodes[to].author.replica;
	P2p__V1__VectorEntry entry, *list = &entry;
	P2p__V1__Ack ack;

	p2p__v1__ack__init(&ack);
	p2p__v1__vector_entry__init(&entry);
	entry.replica = p2p_field(id->bytes, P2P_ID_BYTES);
	entry.seq = any_seq(id);
	ack.n_durable = (size_t)chance(2);
	ack.durable = &list;
	ack.credit_bytes = chance(P2P_CREDIT_BYTES);
	syncnet_say(&net, from, to, P2P_MSG_ACK, &ack.base);
}

static void say_reject(size_t from, size_t to)
{
	const struct p2p_id *id = any_id();
	P2p__V1__Reject reject;

	p2p__v1__reject__init(&reject);
	reject.replica = p2p_field(id->bytes, P2P_ID_BYTES);
	reject.have = chance(3) ? any_seq(id) : 0;
	reject.code = chance(2) ? P2P_ECANCELED : P2P_ENOENT;
	syncnet_say(&net, from, to, P2P_MSG_REJECT, &reject.base);
}

static void say_want_header(size_t from, size_t to)
{
	const struct p2p_id *id = any_id();
	P2p__V1__WantHeader want;

	p2p__v1__want_header__init(&want);
	want.replica = p2p_field(id->bytes, P2P_ID_BYTES);
	want.seq = any_seq(id);
	syncnet_say(&net, from, to, P2P_MSG_WANT_HEADER, &want.base);
}

static void say_proof(size_t from, size_t to)
{
	const struct p2p_id *id = any_id();
	uint64_t seq = any_seq(id);
	const struct memlog_change *change = memlog_get(&net.nodes[any_honest()].log, id, seq);
	P2p__V1__HeaderProof proof;
	ProtobufCBinaryData header;

	if (!change)
		return;
	p2p__v1__header_proof__init(&proof);
	proof.replica = p2p_field(id->bytes, P2P_ID_BYTES);
	proof.seq = seq;
	header = p2p_field(change->raw.data, change->raw.len);
	proof.n_headers = 1;
	proof.headers = &header;
	proof.signature = p2p_field(change->signature.bytes, P2P_SIG_BYTES);
	syncnet_say(&net, from, to, P2P_MSG_HEADER_PROOF, &proof.base);
}

/* What comes next at `to` of some replica, with something wrong about it or not. */
static void say_change(size_t from, size_t to)
{
	size_t of = any_honest();
	const struct p2p_id *id = &net.nodes[of].author.replica;
	uint64_t next = memlog_head(&net.nodes[to].log, id) + 1;
	const struct memlog_change *real = memlog_get(&net.nodes[of].log, id, next), *before;
	struct memlog_author liar = net.nodes[from].author;
	struct memlog_change *forged;
	struct memlog_spec spec = {.seq = next, .salt = 99, .bytes = (size_t)chance(80000)};
	uint32_t last = (uint32_t)chance(3);

	if (real && !chance(4)) { /* the truth, from the wrong one */
		last = real->segments > 1 ? last % real->segments : 0;
		syncnet_say_change(&net, from, to, real, 0, last);
		return;
	}
	before = memlog_get(&net.nodes[to].log, id, next - 1);
	spec.stamp = before ? before->header.stamp.value + 1 + chance(3) : 1;
	if (!chance(10))
		spec.stamp += 3600000ull << 16;
	if (before) {
		spec.prev = before->hash;
		spec.group_pos = before->header.group_last ? 0 : before->header.group_pos + 1;
	}
	if (before && !chance(5))
		spec.prev.bytes[0] ^= 1;
	spec.group_last = !chance(6);
	liar.replica = *id;
	forged = memlog_make(&net.mesh, &liar, &spec);
	if (forged->body.len && !chance(6))
		forged->body.data[chance(forged->body.len)] ^= 1;
	last = forged->segments > 1 ? last % forged->segments : 0;
	syncnet_say_change(&net, from, to, forged, 0, last);
	memlog_change_free(forged);
}

static void lie(void)
{
	static void (*const lies[])(size_t from, size_t to) = {say_have,	say_have,
							       say_want,	say_ack,
							       say_reject,	say_change,
							       say_want_header, say_proof,
							       say_change,	say_change};
	size_t from = any_liar(), to = any_honest();

	syncnet_connect(&net, from, to);
	lies[chance(sizeof(lies) / sizeof(*lies))](from, to);
}

static void trouble(void)
{
	size_t a = any_honest(), b = any_honest();

	switch (chance(8)) {
	case 0:
		if (a != b)
			syncnet_disconnect(&net, a, b);
		return;
	case 1:
		net.lose_at = net.messages + 1 + chance(20);
		return;
	case 2:
		net.cut_at = net.messages + 1 + chance(20);
		return;
	case 3:
		syncnet_stop(&net, a);
		syncnet_start(&net, a);
		return;
	default:
		if (a != b)
			syncnet_connect(&net, a, b);
	}
}

/* Puppets' mail is not read. */
static void mail_drop(void)
{
	size_t i;

	for (i = honest; i < net.count; i++)
		(void)syncnet_heard_count(&net, i, P2P_MSG_PING);
}

static void begin(uint64_t seed)
{
	size_t i, liars;

	syncnet_init(&net, seed);
	net.jitter_ms = chance(30);
	net.queue_max = 1 + chance(16);
	honest = 2 + chance(HONEST_MAX - 1);
	liars = 1 + chance(3);
	for (i = 0; i < honest; i++)
		(void)syncnet_add(&net);
	for (i = 0; i < liars; i++)
		(void)syncnet_add_puppet(&net);
	for (i = 0; i < honest; i++)
		syncnet_write(&net, i, 1 + chance(4), chance(100000));
}

static void assert_fair(uint64_t seed)
{
	uint64_t found = net.blamed;
	size_t i;

	for (i = 0; i < honest; i++) {
		const struct syncnet_node *node = &net.nodes[i];

		found += node->events[P2P_SYNC_FORK] + node->events[P2P_SYNC_SELF_AHEAD] +
			 node->events[P2P_SYNC_CLOCK] + node->author_echoes;
	}
	if (found) {
		print_error("seed %llu: honest nodes fell out, %llu closed (repeat it with "
			    "SYNCNET_VERBOSE=1)\n",
			    (unsigned long long)seed, (unsigned long long)net.blamed);
		fail();
	}
}

/* Engines that are level with every other engine; what liars claim counts for nothing. */
static bool honest_level(void)
{
	struct p2p_hash first, digest;
	size_t i;

	p2p_vv_digest(&net.nodes[0].merged, &first);
	for (i = 1; i < honest; i++) {
		p2p_vv_digest(&net.nodes[i].merged, &digest);
		if (p2p_hash_cmp(&first, &digest) != 0)
			return false;
	}
	return true;
}

static void storm(uint64_t seed)
{
	size_t step, i, j;
	uint64_t end;

	begin(seed);
	for (step = 0; step < 400; step++) {
		lie();
		if (!chance(3))
			trouble();
		if (!chance(12))
			syncnet_write(&net, any_honest(), 1 + chance(4), chance(90000));
		syncnet_run(&net, chance(60));
		mail_drop();
	}
	net.lose_at = net.cut_at = 0;
	for (i = 0; i < honest; i++)
		for (j = i + 1; j < honest; j++)
			syncnet_connect(&net, i, j);
	/* liars stay, and go on withholding */
	for (end = net.now_ms + SETTLE_MS; net.now_ms < end && !honest_level();)
		syncnet_run(&net, 100);
	if (!honest_level()) {
		print_error("seed %llu: not level\n", (unsigned long long)seed);
		fail();
	}
	for (i = 1; i < honest; i++)
		assert_true(memlog_agree(&net.nodes[i].log, &net.nodes[0].log));
	assert_fair(seed);
	for (i = 0; i < honest; i++) {
		total.merges += net.nodes[i].merges;
		total.dropped += net.nodes[i].log.dropped;
	}
	total.messages += net.messages;
	total.closed += net.closed;
	total.blamed += net.blamed;
	total.virtual_ms += net.now_ms;
	if (net.now_ms - (end - SETTLE_MS) > total.settle_ms)
		total.settle_ms = net.now_ms - (end - SETTLE_MS);
	syncnet_deinit(&net);
}

static void tell(void)
{
	const struct figure figures[] = {
		{"storms (seeds)", (double)seed_count},
		{"hours of virtual time", (double)total.virtual_ms / 3600e3},
		{"messages", (double)total.messages},
		{"groups merged", (double)total.merges},
		{"sessions of liars closed", (double)(total.closed - total.blamed)},
		{"forged changesets dropped from staging", (double)total.dropped},
		{"honest nodes that blamed one another", (double)total.blamed},
		{"false forks, lost or doubled changes", 0},
		{"longest time to be level again, s", (double)total.settle_ms / 1e3},
	};
	static const char *const not_tested[] = {
		"authors whose own key signs two histories (test_sync_forks does)",
		"more than 4 engines or 3 liars at once",
	};
	const struct figures page = {
		.name = "sync-storm",
		.title =
			"The sync engine among liars: forged, replayed, withheld and absurd messages, "
			"losses, cuts and kills",
		.command = "build/tests/unit/crdt/test_crdt_sync_storm 1 3000",
		.figures = figures,
		.count = sizeof(figures) / sizeof(*figures),
		.not_tested = not_tested,
		.not_tested_count = 2,
	};

	figures_write(&page);
}

static void honest_nodes_come_through_any_storm_of_lies(void **state)
{
	uint64_t seed;

	(void)state;
	for (seed = first_seed; seed < first_seed + seed_count; seed++)
		storm(seed);
	tell();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(honest_nodes_come_through_any_storm_of_lies),
	};

	if (argc > 1)
		first_seed = strtoull(argv[1], NULL, 10);
	if (argc > 2)
		seed_count = strtoull(argv[2], NULL, 10);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
