/* Two whole transports with a wire that the input moves: pieces of any size, altered, inserted and
 * lost bytes, cut links, pauses, time, several dials from both sides. Whatever happens: a message
 * is handed up as it was sent and in order, session_down and failed come once each, at most one
 * session is up with a peer, callbacks are never nested, and at the end all is closed and nothing
 * is left. */
#include <sodium.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "transport/pair.h"
#include "transport/transport.h"

#define LEN_MAX	   192
#define PAIR_BYTES 65536
#define PAIRS_MAX  6
#define BIG_BYTES  40000

struct node {
	struct p2p_transport *transport;
	struct p2p_self identity;
	struct p2p_secret secret;
	struct p2p_session *session;
	size_t links, ups, downs, fails;
	bool in_callback, sends_back;
	uint32_t sent_number[P2P_CLASS_COUNT], heard_number[P2P_CLASS_COUNT]; /* of this session */
	uint64_t heard;
};

static struct {
	struct fuzz_world base;
	struct p2p_env env;
	struct p2p_wire *wire;
	struct p2p_pair *pairs[PAIRS_MAX];
	size_t pair_count;
	struct node nodes[2];
} world;

static struct p2p_self identities[2];

static void init(void)
{
	size_t i;

	for (i = 0; i < 2; i++) {
		uint8_t seed[32];

		memset(seed, (int)i + 1, sizeof(seed));
		p2p_require(crypto_sign_seed_keypair(identities[i].node.bytes,
						     identities[i].sign_secret, seed) == 0);
		memset(identities[i].noise_secret, (int)i + 0x41, P2P_KEY_BYTES);
		p2p_require(crypto_scalarmult_base(identities[i].noise.bytes,
						   identities[i].noise_secret) == 0);
		memset(identities[i].instance.bytes, (int)i + 0x10, P2P_ID_BYTES);
	}
}

/* --- what the transports tell ----------------------------------------------------------------- */

static void enter(struct node *node)
{
	p2p_require(!node->in_callback);
	node->in_callback = true;
}

static void on_up(void *ctx, struct p2p_session *session, const struct p2p_session_info *info)
{
	struct node *node = ctx, *other = &world.nodes[node == &world.nodes[0]];

	enter(node);
	p2p_require(!node->session); /* one at a time */
	p2p_require(p2p_key_cmp(&info->peer.node, &other->identity.node) == 0);
	p2p_require(p2p_transport_find(node->transport, &info->peer.node) == session);
	node->session = session;
	node->ups++;
	memset(node->sent_number, 0, sizeof(node->sent_number));
	memset(node->heard_number, 0, sizeof(node->heard_number));
	node->in_callback = false;
}

static void send_message(struct node *node, enum p2p_class cls, size_t len)
{
	static uint8_t bytes[BIG_BYTES];
	uint32_t number;
	int rc;

	if (!node->session)
		return;
	number = node->sent_number[cls];
	len = len < 8 ? 8 : len > BIG_BYTES ? BIG_BYTES : len;
	memset(bytes, (int)number, len);
	memcpy(bytes, &number, 4);
	number = (uint32_t)len;
	memcpy(bytes + 4, &number, 4);
	rc = p2p_transport_send(node->session, cls, bytes, len);
	p2p_require(rc == 0 || rc == P2P_EBUSY || rc == P2P_ECLOSED);
	node->sent_number[cls] += rc == 0;
}

static void on_message(void *ctx, struct p2p_session *session, enum p2p_class cls,
		       const uint8_t *data, size_t len)
{
	struct node *node = ctx;
	uint32_t number, said;

	enter(node);
	p2p_require(node->session == session);
	p2p_require(len >= 8);
	memcpy(&number, data, 4);
	memcpy(&said, data + 4, 4);
	p2p_require(said == len);
	/* in order, none missing, none twice */
	p2p_require(number == node->heard_number[cls]);
	p2p_require(len == 8 || data[len - 1] == (uint8_t)number);
	node->heard_number[cls]++;
	node->heard++;
	if (node->sends_back)
		send_message(node, cls, len);
	node->in_callback = false;
}

static void on_writable(void *ctx, struct p2p_session *session)
{
	struct node *node = ctx;

	enter(node);
	p2p_require(node->session == session);
	node->in_callback = false;
}

static void on_down(void *ctx, struct p2p_session *session, int code, const char *text)
{
	struct node *node = ctx;

	enter(node);
	p2p_require(node->session == session);
	p2p_require(code <= 0);
	p2p_require(text != NULL);
	node->session = NULL;
	node->downs++;
	node->in_callback = false;
}

static void on_failed(void *ctx, const struct p2p_session_info *info, int code, const char *text)
{
	struct node *node = ctx;

	enter(node);
	p2p_require(code < 0);
	p2p_require(text != NULL);
	p2p_require(info->address != NULL);
	node->fails++;
	node->in_callback = false;
}

static size_t on_secrets(void *ctx, enum p2p_kind kind, struct p2p_secret *out, size_t max)
{
	const struct node *node = ctx;

	p2p_require(max >= 1);
	if (kind != node->secret.kind)
		return 0;
	out[0] = node->secret;
	return 1;
}

static const struct p2p_transport_events events = {on_up, on_message, on_writable, on_down,
						   on_failed};

static void node_init(struct node *node, size_t who)
{
	struct p2p_transport_config config = {.env = &world.env,
					      .events = &events,
					      .ctx = node,
					      .identity = &node->identity,
					      .mesh = {{7}},
					      .software = "fuzz/1",
					      .secrets = on_secrets};

	memset(node, 0, sizeof(*node));
	node->identity = identities[who];
	node->secret.kind = P2P_KIND_MEMBER;
	node->secret.id = 9;
	memset(node->secret.bytes, 9, P2P_KEY_BYTES);
	fuzz_ok(p2p_transport_new(&config, &node->transport));
}

/* --- what the input does ---------------------------------------------------------------------- */

static void dial(uint32_t from, bool stranger)
{
	struct p2p_secret secret = world.nodes[from].secret;
	struct p2p_dial how = {.address = "10.0.0.1:1", .secret = &secret};
	struct p2p_link *ends[2];

	if (world.pair_count == PAIRS_MAX)
		return;
	secret.bytes[0] ^= stranger;
	fuzz_ok(p2p_wire_pair(world.wire, PAIR_BYTES, ends, &world.pairs[world.pair_count]));
	/* it stays until we let it go, so that it can be looked at */
	p2p_pair_hold(world.pairs[world.pair_count++], true);
	world.nodes[0].links++;
	world.nodes[1].links++;
	p2p_transport_accept(world.nodes[!from].transport, ends[1], "10.0.0.1:1");
	p2p_transport_dial(world.nodes[from].transport, ends[0], &how);
}

static void alter(struct fuzz_in *in, struct p2p_pair *pair, uint32_t to)
{
	uint8_t where = fuzz_u8(in), what = (uint8_t)(fuzz_u8(in) | 1);
	uint8_t *bytes;
	size_t len;

	bytes = p2p_pair_bytes(pair, to, &len);
	if (len)
		bytes[(size_t)where * len / 256] ^= what;
}

static void check(void)
{
	size_t i;

	for (i = 0; i < 2; i++) {
		struct node *node = &world.nodes[i];

		p2p_require(p2p_transport_session_count(node->transport) <= 1);
		p2p_require((p2p_transport_session_count(node->transport) == 1) ==
			    (node->session != NULL));
		p2p_require(node->ups - node->downs == (node->session != NULL));
		p2p_require(node->fails + node->ups <= node->links);
		p2p_require(p2p_transport_count(node->transport) <= node->links);
	}
}

static void pass(uint64_t ms)
{
	struct p2p_time now;

	world.base.now_ms += ms;
	now.ms = world.base.now_ms;
	(void)p2p_transport_tick(world.nodes[0].transport, now);
	(void)p2p_transport_tick(world.nodes[1].transport, now);
}

static void deliver(struct fuzz_in *in)
{
	struct p2p_pair *pair;
	uint32_t which = fuzz_u8(in);
	size_t len = fuzz_u8(in);

	if (!world.pair_count)
		return;
	pair = world.pairs[which / 2 % world.pair_count];
	/* small pieces, or all of it */
	(void)p2p_pair_deliver(pair, which % 2, len < 0x80 ? len + 1 : P2P_LINK_CHUNK_MAX);
}

static void flow(uint8_t rounds)
{
	size_t i;

	for (; rounds; rounds--)
		for (i = 0; i < world.pair_count; i++) {
			(void)p2p_pair_deliver(world.pairs[i], 1, P2P_LINK_CHUNK_MAX);
			(void)p2p_pair_deliver(world.pairs[i], 0, P2P_LINK_CHUNK_MAX);
		}
}

static void step(struct fuzz_in *in)
{
	uint8_t op = fuzz_u8(in), which = fuzz_u8(in);
	struct node *node = &world.nodes[which & 1];
	struct p2p_pair *pair =
		world.pair_count ? world.pairs[(which >> 1) % world.pair_count] : NULL;

	switch (op % 16) {
	case 0:
		dial(which & 1, which >= 0xf0);
		return;
	case 1:
		flow(which % 8 + 1);
		return;
	case 2:
		if (pair)
			alter(in, pair, which & 1);
		return;
	case 3:
		if (pair && which >= 0xc0)
			p2p_pair_cut(pair);
		return;
	case 4:
		pass(fuzz_u16(in) % 8000);
		return;
	case 5:
		pass(which);
		return;
	case 6:
		if (node->session)
			p2p_transport_pause(node->session, (which & 2) != 0);
		return;
	case 7:
		if (node->session && which >= 0xc0)
			p2p_transport_close(node->session, which & 2 ? P2P_EREVOKED : 0, "enough");
		return;
	case 8:
		node->sends_back = !node->sends_back;
		return;
	case 9:
	case 10:
		send_message(node, (enum p2p_class)(which / 2 % P2P_CLASS_COUNT),
			     fuzz_u16(in) & (which & 0x80 ? 0xffff : 0xff));
		return;
	default:
		deliver(in);
	}
}

/* All is let go: it comes to rest, and a stop ends everything. */
static void end(void)
{
	size_t i;

	for (i = 0; i < 2; i++) {
		world.nodes[i].sends_back = false;
		if (world.nodes[i].session)
			p2p_transport_pause(world.nodes[i].session, false);
	}
	for (i = 0; i < world.pair_count; i++)
		p2p_pair_hold(world.pairs[i], false);
	world.pair_count = 0;
	for (i = 0; i < 3; i++) {
		p2p_require(p2p_wire_run(world.wire, P2P_LINK_CHUNK_MAX, 10000));
		pass(6000);
		check();
	}
	p2p_transport_stop(world.nodes[0].transport, "the end");
	p2p_require(p2p_wire_run(world.wire, P2P_LINK_CHUNK_MAX, 10000));
	pass(20000);
	p2p_require(p2p_wire_run(world.wire, P2P_LINK_CHUNK_MAX, 10000));
	for (i = 0; i < 2; i++) {
		p2p_require(p2p_transport_count(world.nodes[i].transport) == 0);
		p2p_require(world.nodes[i].ups == world.nodes[i].downs);
		p2p_require(world.nodes[i].fails + world.nodes[i].ups == world.nodes[i].links);
		p2p_transport_free(world.nodes[i].transport);
	}
	(void)p2p_wire_pump(world.wire, P2P_LINK_CHUNK_MAX);
	p2p_require(p2p_wire_count(world.wire) == 0);
	p2p_wire_free(world.wire);
}

static void one(const uint8_t *data, size_t len)
{
	struct fuzz_in in = fuzz_in(data, len);

	memset(&world, 0, sizeof(world));
	world.base.now_ms = 1000;
	world.base.wall_ms = 1700000000000;
	world.env = fuzz_env(&world.base);
	fuzz_ok(p2p_wire_new(&world.wire));
	node_init(&world.nodes[0], 0);
	node_init(&world.nodes[1], 1);
	while (fuzz_more(&in)) {
		step(&in);
		check();
	}
	if (world.nodes[0].heard || world.nodes[1].heard)
		fuzz_deep();
	end();
}

static void seeds(void)
{
	static const uint8_t talk[] = {0, 0,  1, 5, 9,	0, 0, 20, 9, 1,
				       0, 30, 1, 3, 10, 2, 0, 9,  1, 3};
	static const uint8_t echo[] = {0, 1, 1, 5, 8, 0, 9, 1, 0, 20, 1, 7, 8, 0, 1, 7};
	static const uint8_t both[] = {0,   0, 0, 1, 11, 0, 9, 11, 1, 9, 11, 2, 200, 11, 3,
				       200, 1, 7, 4, 0,	 4, 0, 1,  7, 9, 0,  0, 20,  1,	 3};
	static const uint8_t altered[] = {0, 0, 1, 5, 9, 0, 0, 20, 2, 1, 9, 9, 1, 3};
	static const uint8_t hello_altered[] = {0, 0, 2, 1, 60, 1, 1, 3};
	static const uint8_t cut[] = {0, 0, 1, 5, 9, 0, 0, 20, 3,  0xc0, 1,
				      3, 0, 1, 1, 5, 9, 0, 0,  20, 1,	 3};
	static const uint8_t paused[] = {0, 0, 1, 5, 6, 3, 9, 0x80, 0xff, 0, 1, 7, 6, 1, 1, 7};
	static const uint8_t closed[] = {0, 0, 1, 5, 9, 0x80, 0x90, 0, 7, 0xc0, 1, 7};
	static const uint8_t silent[] = {0, 0, 1,    5,	   4, 0, 0x1f, 0x3f,
					 4, 0, 0x1f, 0x3f, 4, 0, 0x1f, 0x3f};
	static const uint8_t strangers[] = {0, 0xf0, 1, 3, 0, 0xf1, 1, 3};
	static const uint8_t big[] = {0,    0, 1, 5,  9, 0x84, 0x9c, 0x40, 9,
				      0x80, 0, 1, 11, 1, 90,   1,    7};

	fuzz_seed("talk", talk, sizeof(talk));
	fuzz_seed("echo", echo, sizeof(echo));
	fuzz_seed("both_dial", both, sizeof(both));
	fuzz_seed("altered", altered, sizeof(altered));
	fuzz_seed("hello_altered", hello_altered, sizeof(hello_altered));
	fuzz_seed("cut", cut, sizeof(cut));
	fuzz_seed("paused", paused, sizeof(paused));
	fuzz_seed("closed", closed, sizeof(closed));
	fuzz_seed("silent", silent, sizeof(silent));
	fuzz_seed("strangers", strangers, sizeof(strangers));
	fuzz_seed("big", big, sizeof(big));
}

const struct fuzz_target fuzz_target = {.name = "transport",
					.len_max = LEN_MAX,
					.memory_max = 32 * 1024 * 1024,
					.cpu_ms_max = 1000,
					.init = init,
					.one = one,
					.seeds = seeds};
