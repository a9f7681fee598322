/* Handshakes of both roles. Two correct sides with a wire between them that splits, alters, drops,
 * doubles and inserts bytes; or one correct side and an insider, who has the secret and says inside
 * the encryption whatever the input says. Nobody finishes with somebody who is not the one he says,
 * nor with a wire that altered a byte; a stranger is not sent one. */
#include <sodium.h>
#include <string.h>

#include "proto/message.h"
#include "tests/fuzz/fuzz.h"
#include "transport/handshake.h"

#define LEN_MAX	    512
#define WIRE_MAX    (64 * 1024)
#define PAYLOAD_MAX 8192

struct side {
	struct fuzz_world base;
	struct p2p_env env;
	struct p2p_self self;
	struct p2p_secret secrets[3];
	size_t secret_count;
	uint32_t versions[P2P_VERSIONS_MAX];
	struct p2p_handshake_config config;
	struct p2p_handshake handshake;
	int result; /* of the last feed */
	struct p2p_buf sent, received, out;
	size_t wire; /* bytes of out that are gone */
};

static struct p2p_self identities[2];
static const struct p2p_hash mesh = {{7}};

static size_t secrets(void *ctx, enum p2p_kind kind, struct p2p_secret *out, size_t max)
{
	const struct side *side = ctx;
	size_t i, count = 0;

	for (i = 0; i < side->secret_count && count < max; i++)
		if (side->secrets[i].kind == kind)
			out[count++] = side->secrets[i];
	return count;
}

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

static void secret_fill(struct p2p_secret *out, enum p2p_kind kind, uint8_t fill)
{
	out->kind = kind;
	out->id = fill;
	memset(out->bytes, fill, P2P_KEY_BYTES);
}

static void side_init(struct side *side, size_t who, uint8_t versions)
{
	memset(side, 0, sizeof(*side));
	side->base.random = who + 1;
	side->env = fuzz_env(&side->base);
	side->self = identities[who];
	secret_fill(&side->secrets[0], P2P_KIND_MEMBER, 9);
	secret_fill(&side->secrets[1], P2P_KIND_TICKET, 10);
	secret_fill(&side->secrets[2], P2P_KIND_MEMBER, 11);
	side->secret_count = 3;
	side->versions[0] = 1 + (versions & 3);
	side->versions[1] = 1 + (versions >> 2 & 3);
	side->config = (struct p2p_handshake_config){.local = &side->self,
						     .mesh = &mesh,
						     .env = &side->env,
						     .versions = side->versions,
						     .version_count = 2,
						     .software = "fuzz/1",
						     .secrets = secrets,
						     .ctx = side};
	p2p_buf_init(&side->out, WIRE_MAX);
	p2p_buf_init(&side->sent, WIRE_MAX);
	p2p_buf_init(&side->received, WIRE_MAX);
}

static void side_deinit(struct side *side)
{
	p2p_handshake_deinit(&side->handshake);
	p2p_buf_deinit(&side->out);
	p2p_buf_deinit(&side->sent);
	p2p_buf_deinit(&side->received);
}

static bool done(const struct side *side)
{
	return side->handshake.state == P2P_HANDSHAKE_FINISHED;
}

static void side_feed(struct side *side, const uint8_t *data, size_t len)
{
	struct p2p_buf out;
	size_t used = 0;

	if (done(side) || !len)
		return;
	p2p_buf_init(&out, WIRE_MAX);
	side->result = p2p_handshake_feed(&side->handshake, data, len, &used, &out);
	p2p_require(used <= len);
	p2p_buf_put(&side->received, data, used);
	p2p_require(side->handshake.in.cap <= 2 * P2P_HANDSHAKE_BYTES_MAX);
	p2p_require((side->result == P2P_HANDSHAKE_DONE) == done(side));
	if (side->result < 0) {
		p2p_require(side->handshake.state == P2P_HANDSHAKE_FAILED);
		p2p_require(side->handshake.text[0]);
		p2p_require(p2p_err_blame(side->result) == P2P_BLAME_PEER ||
			    side->result == P2P_ESTATE);
	}
	p2p_buf_put(&side->sent, out.data, out.len);
	p2p_buf_put(&side->out, out.data, out.len);
	p2p_buf_deinit(&out);
	fuzz_ok(p2p_buf_error(&side->out));
}

/* --- two correct sides ------------------------------------------------------------------------ */

static void move(struct side *from, struct side *to, struct fuzz_in *in)
{
	size_t left = from->out.len - from->wire, len, where;
	uint8_t op = fuzz_u8(in), bytes[16];
	uint8_t *at = left ? from->out.data + from->wire : bytes;

	len = fuzz_u8(in);
	if (len > left || op >= 0xc0)
		len = left;
	switch (op % 16) {
	case 0: /* altered */
		where = fuzz_u8(in);
		if (left)
			at[where % left] ^= (uint8_t)(fuzz_u8(in) | 1);
		return;
	case 1: /* dropped */
		from->wire += len;
		return;
	case 2: /* doubled */
		side_feed(to, at, len);
		return;
	case 3: /* inserted */
		memset(bytes, fuzz_u8(in), sizeof(bytes));
		side_feed(to, bytes, 1 + fuzz_below(in, sizeof(bytes)));
		return;
	default:
		from->wire += len;
		side_feed(to, at, len);
	}
}

/* a finished, so what it was given is what b said, and b said it of itself. */
static void check_peer(const struct side *a, const struct side *b)
{
	p2p_require(a->received.len <= b->sent.len);
	p2p_require(memcmp(a->received.data, b->sent.data, a->received.len) == 0);
	p2p_require(p2p_key_cmp(&a->handshake.peer.node, &b->self.node) == 0);
	p2p_require(p2p_key_cmp(&a->handshake.peer.noise, &b->self.noise) == 0);
	p2p_require(p2p_id_cmp(&a->handshake.peer.instance, &b->self.instance) == 0);
	p2p_require(strcmp(a->handshake.peer.software, "fuzz/1") == 0);
	p2p_require(a->handshake.peer.version == b->versions[0] ||
		    a->handshake.peer.version == b->versions[1]);
}

static void check_keys(struct side *a, struct side *b)
{
	struct p2p_noise_cipher send[2], receive[2];

	p2p_require(a->handshake.peer.version == b->handshake.peer.version);
	p2p_handshake_split(&a->handshake, &send[0], &receive[0]);
	p2p_handshake_split(&b->handshake, &send[1], &receive[1]);
	p2p_require(memcmp(send[0].key, receive[1].key, sizeof(send[0].key)) == 0);
	p2p_require(memcmp(send[1].key, receive[0].key, sizeof(send[0].key)) == 0);
	p2p_require(memcmp(send[0].key, send[1].key, sizeof(send[0].key)) != 0);
	fuzz_deep();
}

static void two_sides(struct fuzz_in *in)
{
	struct side a, b;
	uint8_t how = fuzz_u8(in), versions = fuzz_u8(in);
	struct p2p_secret secret;
	size_t rounds;

	side_init(&a, 0, versions & 15);
	side_init(&b, 1, versions >> 4);
	secret = a.secrets[how % 3];
	if (how & 0x40)
		secret.bytes[3] ^= 1; /* a stranger */
	fuzz_ok(p2p_handshake_init(&a.handshake, &a.config, &secret, &a.out));
	p2p_buf_put(&a.sent, a.out.data, a.out.len);
	fuzz_ok(p2p_handshake_init(&b.handshake, &b.config, NULL, &b.out));
	while (fuzz_more(in)) {
		bool back = fuzz_u8(in) & 1;

		move(back ? &b : &a, back ? &a : &b, in);
	}
	for (rounds = 0; rounds < 3; rounds++) { /* what is left arrives */
		size_t at = a.wire;

		a.wire = a.out.len;
		if (at < a.out.len)
			side_feed(&b, a.out.data + at, a.out.len - at);
		at = b.wire;
		b.wire = b.out.len;
		if (at < b.out.len)
			side_feed(&a, b.out.data + at, b.out.len - at);
	}
	if (how & 0x40) {
		p2p_require(!done(&a));
		p2p_require(b.out.len == 0);
	}
	if (done(&a))
		check_peer(&a, &b);
	if (done(&b)) {
		p2p_require(done(&a)); /* it spoke last */
		check_peer(&b, &a);
		check_keys(&a, &b);
	}
	side_deinit(&a);
	side_deinit(&b);
}

/* --- an insider ------------------------------------------------------------------------------- */

struct insider {
	struct p2p_noise noise;
	struct p2p_preface preface;
	struct p2p_secret secret;
	const struct p2p_self *self;
};

static void insider_start(struct insider *insider, bool initiator, const uint8_t *ephemeral)
{
	uint8_t prologue[P2P_PREFACE_BYTES + P2P_HASH_BYTES + 2], psk[P2P_KEY_BYTES];
	bool member = insider->preface.kind == P2P_KIND_MEMBER;
	struct p2p_noise_config config = {.pattern = &p2p_noise_xxpsk3,
					  .initiator = initiator,
					  .prologue = prologue,
					  .prologue_len = sizeof(prologue),
					  .s = insider->self->noise_secret,
					  .e = ephemeral,
					  .psk = psk};

	p2p_preface_pack(prologue, &insider->preface);
	memcpy(prologue + P2P_PREFACE_BYTES, mesh.bytes, P2P_HASH_BYTES);
	prologue[sizeof(prologue) - 2] = member ? 1 : 2;
	prologue[sizeof(prologue) - 1] = member ? 1 : 3;
	p2p_preface_psk(psk, insider->secret.bytes);
	p2p_noise_init(&insider->noise, &config);
}

static void put_framed(struct insider *insider, const struct p2p_buf *payload, struct p2p_buf *out)
{
	size_t at = out->len;

	p2p_buf_put_u16(out, 0);
	fuzz_ok(p2p_noise_write(&insider->noise, payload->data, payload->len, out));
	out->data[at] = (uint8_t)((out->len - at - 2) >> 8);
	out->data[at + 1] = (uint8_t)(out->len - at - 2);
}

/* Bytes of the input, or a message whose fields it chose. */
static void choose_raw(struct fuzz_in *in, struct p2p_buf *out)
{
	size_t len, times = fuzz_below(in, 64) + 1;
	const uint8_t *bytes = fuzz_take(in, fuzz_u8(in), &len);

	for (; times && out->len + len < PAYLOAD_MAX / 4; times--)
		p2p_buf_put(out, bytes, len);
}

static size_t choose_versions(struct fuzz_in *in, uint32_t versions[32])
{
	size_t i, count = fuzz_below(in, 20);

	for (i = 0; i < count; i++)
		versions[i] = fuzz_below(in, 8);
	return count;
}

static void choose_offer(struct fuzz_in *in, struct p2p_buf *out)
{
	P2p__V1__HandshakeOffer offer;
	uint32_t versions[32];
	char software[200];

	p2p__v1__handshake_offer__init(&offer);
	if (fuzz_below(in, 4) == 0) {
		choose_raw(in, out);
		return;
	}
	offer.n_versions = choose_versions(in, versions);
	offer.versions = versions;
	memset(software, fuzz_u8(in) | 1, sizeof(software));
	software[fuzz_u8(in) % sizeof(software)] = 0;
	offer.software = software;
	fuzz_ok(p2p_pack(out, &offer.base));
}

static void sign_static(const struct insider *insider, uint8_t signature[P2P_SIG_BYTES])
{
	uint8_t input[22 + P2P_HASH_BYTES + P2P_KEY_BYTES];

	memcpy(input, "p2pnode/noise-static/1", 22);
	memcpy(input + 22, mesh.bytes, P2P_HASH_BYTES);
	memcpy(input + 22 + P2P_HASH_BYTES, insider->self->noise.bytes, P2P_KEY_BYTES);
	p2p_require(crypto_sign_detached(signature, NULL, input, sizeof(input),
					 insider->self->sign_secret) == 0);
}

/* True: it is an identity that proves what it says. */
static bool choose_identity(const struct insider *insider, struct fuzz_in *in, struct p2p_buf *out)
{
	P2p__V1__HandshakeIdentity identity;
	uint8_t signature[P2P_SIG_BYTES + 4] = {0}, form = fuzz_u8(in);
	uint32_t versions[32];
	char software[200];
	bool proves = form % 4 != 1;

	p2p__v1__handshake_identity__init(&identity);
	if (form % 8 == 0) {
		choose_raw(in, out);
		return false;
	}
	sign_static(insider, signature);
	if (!proves)
		signature[fuzz_below(in, P2P_SIG_BYTES)] ^= 1;
	identity.node = p2p_field(insider->self->node.bytes, P2P_KEY_BYTES - (form == 0xff));
	if (form % 16 == 2) { /* somebody else's name */
		identity.node = p2p_field(identities[1 - (insider->self - identities)].node.bytes,
					  P2P_KEY_BYTES);
		proves = false;
	}
	identity.signature = p2p_field(signature, P2P_SIG_BYTES + (form == 0xfe));
	identity.instance = p2p_field(insider->self->instance.bytes, P2P_ID_BYTES - (form == 0xfd));
	identity.version = fuzz_below(in, 8);
	identity.n_versions = choose_versions(in, versions);
	identity.versions = versions;
	memset(software, fuzz_u8(in) | 1, sizeof(software));
	software[fuzz_u8(in) % sizeof(software)] = 0;
	identity.software = software;
	fuzz_ok(p2p_pack(out, &identity.base));
	return proves && form < 0xfd;
}

static void check_insider(const struct side *side, const struct insider *insider, bool proves)
{
	const char *software = side->handshake.peer.software;
	size_t i;

	if (!done(side))
		return;
	p2p_require(proves);
	p2p_require(p2p_key_cmp(&side->handshake.peer.node, &insider->self->node) == 0);
	p2p_require(side->handshake.peer.version == side->versions[0] ||
		    side->handshake.peer.version == side->versions[1]);
	p2p_require(strlen(software) <= P2P_SOFTWARE_MAX);
	for (i = 0; software[i]; i++)
		p2p_require(software[i] >= 0x20 && software[i] < 0x7f);
	fuzz_deep();
}

static void split_feed(struct side *side, const struct p2p_buf *bytes, struct fuzz_in *in)
{
	size_t at = 0, len;

	while (at < bytes->len) {
		len = fuzz_u8(in);
		if (!len || len > bytes->len - at)
			len = bytes->len - at;
		side_feed(side, bytes->data + at, len);
		at += len;
	}
}

/* It dials us. */
static void insider_dials(struct fuzz_in *in)
{
	struct insider insider = {.self = &identities[0]};
	uint8_t ephemeral[P2P_KEY_BYTES], public[P2P_KEY_BYTES], packed[P2P_PREFACE_BYTES];
	struct p2p_buf wire, payload, answer;
	struct side side;
	bool proves;

	side_init(&side, 1, 0x4);
	fuzz_ok(p2p_handshake_init(&side.handshake, &side.config, NULL, &side.out));
	insider.secret = side.secrets[fuzz_below(in, 3)];
	insider.preface.kind = (uint8_t)insider.secret.kind;
	insider.preface.major = fuzz_below(in, 16) ? P2P_WIRE_MAJOR : fuzz_u8(in);
	memset(ephemeral, 0x33, sizeof(ephemeral));
	p2p_require(crypto_scalarmult_base(public, ephemeral) == 0);
	p2p_preface_sign(&insider.preface, insider.secret.bytes, &mesh, public);
	insider_start(&insider, true, ephemeral);
	p2p_buf_init(&wire, WIRE_MAX);
	p2p_buf_init(&payload, PAYLOAD_MAX);
	p2p_buf_init(&answer, PAYLOAD_MAX);
	p2p_preface_pack(packed, &insider.preface);
	p2p_buf_put(&wire, packed, sizeof(packed));
	choose_offer(in, &payload);
	put_framed(&insider, &payload, &wire);
	split_feed(&side, &wire, in);
	if (side.out.len > 2 &&
	    p2p_noise_read(&insider.noise, side.out.data + 2, side.out.len - 2, &answer) == 0) {
		p2p_buf_reset(&wire);
		p2p_buf_reset(&payload);
		proves = choose_identity(&insider, in, &payload);
		put_framed(&insider, &payload, &wire);
		split_feed(&side, &wire, in);
		check_insider(&side, &insider, proves);
	}
	p2p_buf_deinit(&wire);
	p2p_buf_deinit(&payload);
	p2p_buf_deinit(&answer);
	side_deinit(&side);
}

/* We dial it. */
static void insider_answers(struct fuzz_in *in)
{
	struct insider insider = {.self = &identities[1]};
	uint8_t ephemeral[P2P_KEY_BYTES];
	struct p2p_buf wire, payload, offer;
	struct side side;
	bool proves;

	side_init(&side, 0, 0x4);
	insider.secret = side.secrets[fuzz_below(in, 3)];
	fuzz_ok(p2p_handshake_init(&side.handshake, &side.config, &insider.secret, &side.out));
	p2p_preface_unpack(&insider.preface, side.out.data);
	memset(ephemeral, 0x34, sizeof(ephemeral));
	insider_start(&insider, false, ephemeral);
	p2p_buf_init(&wire, WIRE_MAX);
	p2p_buf_init(&payload, PAYLOAD_MAX);
	p2p_buf_init(&offer, PAYLOAD_MAX);
	fuzz_ok(p2p_noise_read(&insider.noise, side.out.data + P2P_PREFACE_BYTES + 2,
			       side.out.len - P2P_PREFACE_BYTES - 2, &offer));
	proves = choose_identity(&insider, in, &payload);
	put_framed(&insider, &payload, &wire);
	split_feed(&side, &wire, in);
	check_insider(&side, &insider, proves);
	p2p_buf_deinit(&wire);
	p2p_buf_deinit(&payload);
	p2p_buf_deinit(&offer);
	side_deinit(&side);
}

/* Bytes as they are, to a responder: nobody who lacks the secret gets an answer. */
static void stranger(struct fuzz_in *in)
{
	struct side side;
	const uint8_t *bytes;
	size_t len;

	side_init(&side, 1, 0x4);
	fuzz_ok(p2p_handshake_init(&side.handshake, &side.config, NULL, &side.out));
	while (fuzz_more(in)) {
		bytes = fuzz_take(in, fuzz_u8(in), &len);
		side_feed(&side, bytes, len);
	}
	p2p_require(side.out.len == 0);
	p2p_require(!p2p_handshake_known(&side.handshake));
	side_deinit(&side);
}

static void one(const uint8_t *data, size_t len)
{
	struct fuzz_in in = fuzz_in(data, len);

	switch (fuzz_below(&in, 8)) {
	case 0:
	case 1:
	case 2:
		two_sides(&in);
		return;
	case 3:
	case 4:
		insider_dials(&in);
		return;
	case 5:
	case 6:
		insider_answers(&in);
		return;
	default:
		stranger(&in);
	}
}

static void seeds(void)
{
	static const uint8_t plain[] = {0, 0, 0x44};
	static const uint8_t ticket[] = {0, 1, 0x44, 0, 4, 20, 0, 4, 200, 1, 4, 33, 1, 0xff, 0};
	static const uint8_t no_version[] = {0, 2, 0xf0};
	static const uint8_t a_stranger[] = {0, 0x40, 0x44};
	static const uint8_t altered[] = {0, 0, 0x44, 0, 0, 0, 40, 3};
	static const uint8_t doubled[] = {0, 0, 0x44, 0, 2, 30, 0, 3, 0, 9, 3};
	static const uint8_t dials[] = {3, 0, 1, 1, 2, 1, 2, 'x', 60, 0, 5, 1, 1, 1, 'y', 60, 0};
	static const uint8_t dials_raw[] = {3, 0, 1, 0, 3, 4, 8, 1, 18, 0};
	static const uint8_t dials_forged[] = {4, 1, 1, 1, 1, 1, 'x', 9, 0, 1, 7, 1, 1, 1, 'y', 9};
	static const uint8_t answers[] = {5, 1, 4, 1, 1, 1, 'z', 99, 0};
	static const uint8_t answers_other[] = {6, 0, 18, 1, 1, 1, 'z', 99, 7, 0};
	static const uint8_t bytes[] = {7, 40, 1, 1,  2,  3,  4,  5,  6,
					7, 8,  9, 10, 11, 12, 13, 14, 15};

	fuzz_seed("plain", plain, sizeof(plain));
	fuzz_seed("ticket", ticket, sizeof(ticket));
	fuzz_seed("no_version", no_version, sizeof(no_version));
	fuzz_seed("stranger", a_stranger, sizeof(a_stranger));
	fuzz_seed("altered", altered, sizeof(altered));
	fuzz_seed("doubled", doubled, sizeof(doubled));
	fuzz_seed("dials", dials, sizeof(dials));
	fuzz_seed("dials_raw", dials_raw, sizeof(dials_raw));
	fuzz_seed("dials_forged", dials_forged, sizeof(dials_forged));
	fuzz_seed("answers", answers, sizeof(answers));
	fuzz_seed("answers_other", answers_other, sizeof(answers_other));
	fuzz_seed("bytes", bytes, sizeof(bytes));
}

const struct fuzz_target fuzz_target = {.name = "handshake",
					.len_max = LEN_MAX,
					.memory_max = 512 * 1024,
					.cpu_ms_max = 200,
					.init = init,
					.one = one,
					.seeds = seeds};
