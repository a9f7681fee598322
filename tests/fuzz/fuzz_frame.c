/* The reader of frames under arbitrary splits: a channel whose handshake is over, and a peer with
 * the right keys that sends what the input says: frames of any kind and size, altered bytes, bytes
 * that are no frames. What is handed up must be what a model makes of the same frames. */
#include <string.h>

#include "proto/limits.h"
#include "tests/fuzz/fuzz.h"
#include "transport/channel.h"

#define LEN_MAX	    512
#define STREAM_MAX  (4 * 1024 * 1024)
#define SHORT_BYTES (20 * 1024) /* of most inputs: so that there are many */
#define MESSAGES    256

struct said {
	size_t len;
	enum p2p_class cls;
	uint8_t first, last;
};

/* What a reader must make of the frames: messages in order, up to the first fault. */
struct model {
	struct said said[MESSAGES];
	size_t count;
	size_t part_len[P2P_CLASS_COUNT];
	uint8_t part_first[P2P_CLASS_COUNT];
	bool ready;   /* an initiator has the responder's word */
	bool over;    /* nothing after this is handed up */
	bool clouded; /* bytes were altered: less may be handed up, never something else */
};

struct world {
	struct fuzz_world base;
	struct p2p_env env;
	struct p2p_channel channel;
	struct p2p_link link;
	struct p2p_secure peer;
	struct p2p_buf stream;
	size_t fed;
	bool paused, full, closed, held;
	size_t link_closed, closed_count;
	size_t count; /* messages handed up */
	struct model model;
};

static struct world world;
static uint8_t stream[STREAM_MAX];

/* --- the link --------------------------------------------------------------------------------- */

static int link_send(struct p2p_link *link, const void *data, size_t len)
{
	(void)link;
	(void)data;
	p2p_require(!world.link_closed);
	p2p_require(len > 0);
	p2p_require(len <= P2P_LINK_CHUNK_MAX);
	return world.full ? P2P_LINK_FULL : 0;
}

static void link_pause(struct p2p_link *link, bool paused)
{
	(void)link;
	p2p_require(!world.link_closed);
	world.paused = paused;
}

static void link_close(struct p2p_link *link, bool flush)
{
	(void)link;
	(void)flush;
	world.link_closed++;
}

static const struct p2p_link_ops ops = {link_send, link_pause, link_close};

/* --- what is handed up ------------------------------------------------------------------------ */

static void on_held(void *ctx)
{
	(void)ctx;
	world.held = true;
}

static void on_message(void *ctx, enum p2p_class cls, const uint8_t *data, size_t len)
{
	const struct said *said = &world.model.said[world.count];

	(void)ctx;
	p2p_require(!world.closed);
	p2p_require(world.channel.state == P2P_CHANNEL_OPEN);
	p2p_require(world.count < world.model.count);
	p2p_require(said->cls == cls);
	p2p_require(said->len == len);
	p2p_require(said->first == data[0]);
	p2p_require(said->last == data[len - 1]);
	world.count++;
}

static void on_closed(void *ctx, int code, const char *text)
{
	(void)ctx;
	p2p_require(code <= 0);
	p2p_require(text != NULL);
	world.closed = true;
	world.closed_count++;
}

static const struct p2p_channel_events events = {on_held, on_message, on_closed};

/* --- the peer --------------------------------------------------------------------------------- */

static void model_fragment(struct model *model, uint8_t kind, const uint8_t *data, size_t len)
{
	enum p2p_class cls = (enum p2p_class)(kind & 0x7f);

	if (len == 0 || len > P2P_FRAGMENT_MAX) {
		model->over = true;
		return;
	}
	if (!model->part_len[cls])
		model->part_first[cls] = data[0];
	model->part_len[cls] += len;
	if (model->part_len[cls] > P2P_MESSAGE_MAX) {
		model->over = true;
	} else if (kind & P2P_FRAME_LAST && model->count == MESSAGES) {
		model->over = model->clouded = true;
	} else if (kind & P2P_FRAME_LAST) {
		model->said[model->count++] = (struct said){model->part_len[cls], cls,
							    model->part_first[cls], data[len - 1]};
		model->part_len[cls] = 0;
	}
}

static void model_frame(struct model *model, uint8_t kind, const uint8_t *data, size_t len)
{
	if (model->over)
		return;
	if (!model->ready) {
		model->ready = kind == P2P_FRAME_READY && len == 1 && data[0] <= 1;
		model->over = !model->ready;
		return;
	}
	if ((kind & 0x7f) < P2P_CLASS_COUNT)
		model_fragment(model, kind, data, len);
	else if (!((kind == P2P_FRAME_PING || kind == P2P_FRAME_PONG) && len == 8))
		model->over = true; /* closed by the peer, or nonsense */
}

/* Big frames are sealed over and over with the same contents under the same nonce: remembered. */
static void seal(uint8_t kind, const uint8_t *bytes, size_t len, uint8_t fill)
{
	static struct {
		uint64_t nonce;
		size_t len, sealed;
		uint8_t kind, fill, bytes[P2P_FRAGMENT_MAX + 64];
	} kept[512];
	size_t at = world.stream.len;
	uint64_t nonce = world.peer.send.nonce;
	uint32_t place = ((uint32_t)nonce * 31 + kind * 7 + fill) % p2p_array_len(kept);

	if (len >= 1024 && kept[place].sealed && kept[place].nonce == nonce &&
	    kept[place].len == len && kept[place].kind == kind && kept[place].fill == fill) {
		p2p_buf_put(&world.stream, kept[place].bytes, kept[place].sealed);
		world.peer.send.nonce++;
		return;
	}
	fuzz_ok(p2p_secure_seal(&world.peer, kind, bytes, len, &world.stream));
	if (len >= 1024 && len <= P2P_FRAGMENT_MAX) {
		kept[place].nonce = nonce;
		kept[place].len = len;
		kept[place].kind = kind;
		kept[place].fill = fill;
		kept[place].sealed = world.stream.len - at;
		memcpy(kept[place].bytes, world.stream.data + at, kept[place].sealed);
	}
}

static void send_frame(uint8_t kind, uint8_t fill, size_t len)
{
	static uint8_t bytes[P2P_FRAME_PLAIN_MAX];

	if (len > sizeof(bytes) - 1)
		len = sizeof(bytes) - 1;
	if (world.stream.len + len + 64 > world.stream.max)
		return;
	memset(bytes, fill, len);
	if (len) {
		bytes[0] = (uint8_t)(fill ^ 1);
		bytes[len - 1] = (uint8_t)(fill + 1);
	}
	if (len == 1 && kind == P2P_FRAME_READY)
		bytes[0] = fill;
	model_frame(&world.model, kind, bytes, len);
	seal(kind, bytes, len, fill);
}

static uint8_t kind_of(struct fuzz_in *in)
{
	static const uint8_t kinds[] = {0,
					1,
					2,
					P2P_FRAME_LAST,
					P2P_FRAME_LAST | 1,
					P2P_FRAME_LAST | 2,
					P2P_FRAME_LAST,
					P2P_FRAME_READY,
					P2P_FRAME_PING,
					P2P_FRAME_PONG,
					P2P_FRAME_CLOSE};
	uint8_t choice = fuzz_u8(in);

	return choice < 0xf0 ? kinds[choice % sizeof(kinds)] : fuzz_u8(in);
}

static size_t len_of(struct fuzz_in *in)
{
	uint8_t form = fuzz_u8(in);

	if (form < 0xa0)
		return form & 31;
	if (form < 0xf4)
		return 8;
	return form < 0xfc ? P2P_FRAGMENT_MAX - 1 + (form & 3) : fuzz_u16(in);
}

static void alter(struct fuzz_in *in, bool insert)
{
	size_t left = world.stream.len - world.fed;
	uint8_t where = fuzz_u8(in), what = (uint8_t)(fuzz_u8(in) | 1);

	world.model.clouded = true;
	if (insert && world.stream.len < world.stream.max)
		p2p_buf_put_u8(&world.stream, what);
	else if (!insert && left)
		world.stream.data[world.fed + where % left] ^= what;
}

/* --- operations ------------------------------------------------------------------------------- */

static void feed(size_t len)
{
	const uint8_t *at;

	if (world.paused || world.link_closed)
		return;
	if (len > P2P_LINK_CHUNK_MAX)
		len = P2P_LINK_CHUNK_MAX;
	if (len > world.stream.len - world.fed)
		len = world.stream.len - world.fed;
	if (!len)
		return;
	at = world.stream.data + world.fed;
	world.fed += len;
	p2p_channel_feed(&world.channel, at, len);
}

static void admit(void)
{
	if (world.channel.state != P2P_CHANNEL_HELD)
		return;
	p2p_channel_admit(&world.channel, false);
	p2p_channel_resume(&world.channel);
}

static void send_message(struct fuzz_in *in)
{
	static const uint8_t bytes[P2P_FRAGMENT_MAX + 10];
	enum p2p_class cls = (enum p2p_class)fuzz_below(in, P2P_CLASS_COUNT);
	int rc = p2p_channel_send(&world.channel, cls, bytes, 1 + len_of(in) % sizeof(bytes));

	p2p_require(rc == 0 || rc == P2P_EBUSY || rc == P2P_ECLOSED);
	p2p_channel_flush(&world.channel);
}

static void step(struct fuzz_in *in)
{
	uint8_t op = fuzz_u8(in) % 24, kind, fill;
	struct p2p_time now;
	size_t n;

	switch (op) {
	default:
		kind = kind_of(in);
		fill = fuzz_u8(in);
		send_frame(kind, fill, len_of(in));
		return;
	case 10: /* many full fragments: up to more than a message may have */
		kind = (uint8_t)fuzz_below(in, P2P_CLASS_COUNT);
		n = fuzz_u8(in);
		for (n = n < 0xf8 ? 1 : 60 + n % 8; n; n--)
			send_frame(kind, 7, P2P_FRAGMENT_MAX);
		return;
	case 11:
	case 12:
	case 13:
		feed(1 + fuzz_u8(in) % 64);
		return;
	case 14:
		feed(fuzz_u16(in));
		return;
	case 15:
		p2p_channel_pause(&world.channel, true);
		return;
	case 16:
		p2p_channel_pause(&world.channel, false);
		p2p_channel_resume(&world.channel);
		return;
	case 17:
		admit();
		return;
	case 18: /* silence that is too long ends it */
		world.base.now_ms += fuzz_u16(in);
		now.ms = world.base.now_ms;
		if (p2p_channel_deadline(&world.channel).ms <= now.ms)
			world.model.clouded = true;
		now = p2p_channel_tick(&world.channel, now);
		p2p_require(now.ms > 0);
		return;
	case 19:
		world.full = !world.full;
		if (!world.full && !world.link_closed)
			p2p_channel_link_writable(&world.channel);
		return;
	case 20:
		send_message(in);
		return;
	case 21:
		alter(in, false);
		return;
	case 22:
		alter(in, true);
		return;
	case 23:
		p2p_channel_ping(&world.channel);
		if (fuzz_u8(in) < 0xf0)
			return;
		world.model.clouded = true;
		p2p_channel_close(&world.channel, fuzz_u8(in) & 1 ? P2P_EPROTO : 0, "enough");
	}
}

/* --- one input -------------------------------------------------------------------------------- */

static size_t no_secrets(void *ctx, enum p2p_kind kind, struct p2p_secret *out, size_t max)
{
	(void)ctx;
	(void)kind;
	(void)out;
	(void)max;
	return 0;
}

static void begin(bool initiator)
{
	static const uint32_t versions[] = {1};
	static struct p2p_self self;
	static const struct p2p_hash mesh;
	static struct p2p_handshake_config handshake;
	struct p2p_noise_cipher up = {.key = {1}, .has_key = true};
	struct p2p_noise_cipher down = {.key = {2}, .has_key = true};
	struct p2p_noise_cipher peer_send = up, peer_receive = down;
	struct p2p_channel_config config = {.handshake = &handshake,
					    .env = &world.env,
					    .events = &events,
					    .ctx = &world,
					    .keepalive_ms = P2P_KEEPALIVE_MS,
					    .dead_ms = P2P_DEAD_MS,
					    .handshake_ms = P2P_HANDSHAKE_TIMEOUT_MS};

	handshake = (struct p2p_handshake_config){.local = &self,
						  .mesh = &mesh,
						  .env = &world.env,
						  .versions = versions,
						  .version_count = 1,
						  .software = "fuzz",
						  .secrets = no_secrets};
	memset(&world, 0, sizeof(world));
	world.base.now_ms = 1000;
	world.env = fuzz_env(&world.base);
	world.link.ops = &ops;
	world.stream = (struct p2p_buf){.data = stream, .cap = STREAM_MAX, .max = STREAM_MAX};
	p2p_secure_init(&world.peer, &peer_send, &peer_receive);
	p2p_channel_init(&world.channel, &config, &world.link);
	p2p_secure_init(&world.channel.secure, &down, &up);
	world.channel.secured = true;
	world.channel.initiator = initiator;
	world.channel.state = initiator ? P2P_CHANNEL_READY : P2P_CHANNEL_HELD;
	world.channel.deadline.ms = UINT64_MAX;
	world.paused = !initiator;
	world.model.ready = !initiator;
}

static void one(const uint8_t *data, size_t len)
{
	struct fuzz_in in = fuzz_in(data, len);
	uint8_t first = fuzz_u8(&in);
	size_t rounds;

	begin(first & 1);
	if (first & 2)
		send_frame(P2P_FRAME_READY, 0, 1);
	if (first < 0xfc)
		world.stream.max = SHORT_BYTES;
	while (fuzz_more(&in))
		step(&in);
	/* in the end all of it arrives */
	world.full = false;
	for (rounds = 0; rounds < 1000 && world.fed < world.stream.len; rounds++) {
		admit();
		p2p_channel_pause(&world.channel, false);
		p2p_channel_resume(&world.channel);
		feed(P2P_LINK_CHUNK_MAX);
		if (world.closed)
			break;
	}
	admit();
	p2p_channel_pause(&world.channel, false);
	p2p_channel_resume(&world.channel);
	p2p_require(world.closed_count <= 1);
	p2p_require(world.closed == (world.channel.state == P2P_CHANNEL_CLOSED));
	p2p_require(world.link_closed == (world.closed ? 1u : 0u));
	if (!world.model.clouded) {
		p2p_require(world.count == world.model.count);
		p2p_require(world.closed == world.model.over);
	}
	if (world.count)
		fuzz_deep();
	p2p_channel_deinit(&world.channel);
	p2p_require(world.link_closed == 1);
	p2p_secure_deinit(&world.peer);
}

static void seeds(void)
{
	/* first byte: 1 initiator, 2 with a READY frame */
	static const uint8_t message[] = {0, 17, 0, 3, 5, 20, 14, 0xff, 0xff};
	static const uint8_t parts[] = {0, 17, 0, 0, 5, 20, 0, 1, 6, 9, 0, 3, 7, 4, 11, 9, 11, 60};
	static const uint8_t signals[] = {3,	14, 0xff, 0xff, 17, 0, 8,  0, 0xa0, 0,	9, 0,
					  0xa0, 14, 0xff, 0xff, 23, 0, 20, 1, 0xd0, 19, 19};
	static const uint8_t close[] = {3, 14, 0xff, 0xff, 17, 0, 3, 1, 9,
					0, 10, 'b',  12,   0,  3, 1, 9};
	static const uint8_t too_big[] = {0xfc, 17, 10, 1, 0xff, 14, 0xff, 0xff, 14, 0xff, 0xff};
	static const uint8_t held[] = {0,  15,	 0,    3,  5, 20, 11, 9, 17,
				       14, 0xff, 0xff, 16, 0, 3,  1,  3};
	static const uint8_t altered[] = {0, 17, 0, 3, 5, 20, 21, 9, 1, 14, 0xff, 0xff};
	static const uint8_t foreign[] = {0, 17, 22, 0, 17, 22, 0, 3, 14, 0xff, 0xff};
	static const uint8_t great[] = {0,    17, 0, 3, 5,    0xf6, 14,	 0xff,
					0xff, 0,  3, 5, 0xfe, 0xff, 0xff};
	static const uint8_t silent[] = {0, 17, 18, 0x20, 0, 18, 0xff, 0xff};

	fuzz_seed("message", message, sizeof(message));
	fuzz_seed("parts", parts, sizeof(parts));
	fuzz_seed("signals", signals, sizeof(signals));
	fuzz_seed("close", close, sizeof(close));
	fuzz_seed("too_big", too_big, sizeof(too_big));
	fuzz_seed("held", held, sizeof(held));
	fuzz_seed("altered", altered, sizeof(altered));
	fuzz_seed("foreign", foreign, sizeof(foreign));
	fuzz_seed("great", great, sizeof(great));
	fuzz_seed("silent", silent, sizeof(silent));
}

const struct fuzz_target fuzz_target = {.name = "frame",
					.len_max = LEN_MAX,
					/* three messages, what waits, what is sent */
					.memory_max = 8 * P2P_MESSAGE_MAX,
					.cpu_ms_max = 400,
					.one = one,
					.seeds = seeds};
