/* The handshake: golden bytes, any split, each damaged bit, versions, strangers, limits. */
#include "tests/unit/transport/fixture.h"

#include "proto/message.h"

#define TRANSCRIPT_MAX 2048

struct side {
	struct fixture_world world;
	struct p2p_self identity;
	struct p2p_hash mesh;
	struct p2p_secret secrets[3];
	size_t secret_count;
	uint32_t versions[4];
	struct p2p_handshake_config config;
	struct p2p_handshake handshake;
	struct p2p_buf out;
	int fresh_asked;
	bool stale;
};

static size_t side_secrets(void *ctx, enum p2p_kind kind, struct p2p_secret *out, size_t max)
{
	struct side *side = ctx;
	size_t i, count = 0;

	for (i = 0; i < side->secret_count && count < max; i++)
		if (side->secrets[i].kind == kind)
			out[count++] = side->secrets[i];
	return count;
}

static bool side_fresh(void *ctx, const uint8_t tag[P2P_PREFACE_TAG_BYTES])
{
	struct side *side = ctx;

	(void)tag;
	side->fresh_asked++;
	return !side->stale;
}

static void side_init(struct side *side, uint8_t who)
{
	memset(side, 0, sizeof(*side));
	fixture_world_init(&side->world);
	side->world.random_count = who * 1000u;
	fixture_identity(&side->identity, who, who);
	memset(side->mesh.bytes, 0x33, sizeof(side->mesh.bytes));
	fixture_secret(&side->secrets[0], P2P_KIND_MEMBER, 10);
	fixture_secret(&side->secrets[1], P2P_KIND_MEMBER, 11);
	fixture_secret(&side->secrets[2], P2P_KIND_TICKET, 12);
	side->secret_count = 3;
	side->versions[0] = 1;
	side->config = (struct p2p_handshake_config){
		.local = &side->identity,
		.mesh = &side->mesh,
		.env = &side->world.env,
		.versions = side->versions,
		.version_count = 1,
		.software = "test/1",
		.secrets = side_secrets,
		.fresh = side_fresh,
		.ctx = side,
	};
	p2p_buf_init(&side->out, TRANSCRIPT_MAX);
}

static void side_deinit(struct side *side)
{
	p2p_handshake_deinit(&side->handshake);
	p2p_buf_deinit(&side->out);
}

static void begin(struct side *a, struct side *b, const struct p2p_secret *secret)
{
	assert_int_equal(p2p_handshake_init(&a->handshake, &a->config, secret, &a->out), 0);
	assert_int_equal(p2p_handshake_init(&b->handshake, &b->config, NULL, &b->out), 0);
}

/* Hands all of from's bytes to `to` in pieces. */
static int pass(struct side *from, struct side *to, size_t step)
{
	size_t at = 0, used, len;
	int rc = 0;

	while (at < from->out.len && rc == 0) {
		len = from->out.len - at < step ? from->out.len - at : step;
		rc = p2p_handshake_feed(&to->handshake, from->out.data + at, len, &used, &to->out);
		if (rc >= 0)
			assert_true(used == len || rc == P2P_HANDSHAKE_DONE);
		at += used;
	}
	p2p_buf_reset(&from->out);
	return rc;
}

static void check_done(struct side *a, struct side *b, const struct p2p_secret *secret)
{
	struct p2p_noise_cipher send[2], receive[2];

	assert_int_equal(p2p_key_cmp(&a->handshake.peer.node, &b->identity.node), 0);
	assert_int_equal(p2p_key_cmp(&b->handshake.peer.node, &a->identity.node), 0);
	assert_int_equal(p2p_key_cmp(&a->handshake.peer.noise, &b->identity.noise), 0);
	assert_int_equal(p2p_id_cmp(&b->handshake.peer.instance, &a->identity.instance), 0);
	assert_int_equal(b->handshake.peer.secret_id, secret->id);
	assert_int_equal(b->handshake.peer.kind, secret->kind);
	assert_int_equal(a->handshake.peer.version, 1);
	assert_int_equal(b->handshake.peer.version, 1);
	assert_string_equal(b->handshake.peer.software, "test/1");
	assert_memory_equal(a->handshake.noise.h, b->handshake.noise.h, P2P_NOISE_HASH_BYTES);
	p2p_handshake_split(&a->handshake, &send[0], &receive[0]);
	p2p_handshake_split(&b->handshake, &send[1], &receive[1]);
	assert_memory_equal(send[0].key, receive[1].key, P2P_NOISE_KEY_BYTES);
	assert_memory_equal(receive[0].key, send[1].key, P2P_NOISE_KEY_BYTES);
	assert_memory_not_equal(send[0].key, send[1].key, P2P_NOISE_KEY_BYTES);
}

static void it_works_with_each_secret_under_any_split(void **state)
{
	struct side a, b;
	size_t step, i;

	(void)state;
	for (i = 0; i < 3; i++) {
		for (step = 1; step < 500; step = step < 30 ? step + 1 : step * 2) {
			side_init(&a, 1);
			side_init(&b, 2);
			begin(&a, &b, &a.secrets[i]);
			assert_false(p2p_handshake_known(&b.handshake));
			assert_int_equal(pass(&a, &b, step), 0);
			assert_true(p2p_handshake_known(&b.handshake));
			assert_int_equal(pass(&b, &a, step), P2P_HANDSHAKE_DONE);
			assert_int_equal(pass(&a, &b, step), P2P_HANDSHAKE_DONE);
			assert_int_equal(b.out.len, 0);
			check_done(&a, &b, &a.secrets[i]);
			side_deinit(&a);
			side_deinit(&b);
		}
	}
}

static void its_bytes_are_golden(void **state)
{
	/* BLAKE2b-128 of each flight, with the fixture's keys and generator */
	static const char *const golden[3] = {"4717808489a235cd5f437a8489116edb",
					      "a9d883b7c0ab5284b05975b231bc102c",
					      "724bcbb3d1a5c9a9e2a4b2c823cb6533"};
	struct side a, b, *sides[2] = {&a, &b};
	uint8_t hash[16];
	char text[33];
	int i;

	(void)state;
	side_init(&a, 1);
	side_init(&b, 2);
	begin(&a, &b, &a.secrets[0]);
	for (i = 0; i < 3; i++) {
		struct side *from = sides[i % 2];

		assert_int_equal(crypto_generichash(hash, sizeof(hash), from->out.data,
						    from->out.len, NULL, 0),
				 0);
		p2p_hex(text, hash, sizeof(hash));
		print_message("message %d: %zu bytes\n", i + 1, from->out.len);
		assert_string_equal(text, golden[i]);
		assert_int_equal(pass(from, sides[1 - i % 2], 4096), i == 0 ? 0 : 1);
	}
	side_deinit(&a);
	side_deinit(&b);
}

/* Runs it with one bit of a flight flipped; *out_reply: bytes that the reader of it sent. */
static int flipped(int broken, size_t bit, bool *out_done, size_t *out_reply)
{
	struct side a, b, *sides[2] = {&a, &b};
	int i, rc = 0;

	side_init(&a, 1);
	side_init(&b, 2);
	begin(&a, &b, &a.secrets[0]);
	for (i = 0; i < 3 && rc >= 0; i++) {
		struct side *from = sides[i % 2], *to = sides[1 - i % 2];

		if (i == broken) {
			*out_done = bit >= from->out.len * 8;
			if (!*out_done)
				from->out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		rc = pass(from, to, 4096);
		if (i == broken)
			*out_reply = to->out.len;
		if (i == broken && rc == 0 && broken > 0)
			rc = P2P_ETIMEOUT; /* a greater length: it would wait, and time out */
		if (i == 0 && rc == 0 && to->out.len == 0)
			rc = P2P_ETIMEOUT;
	}
	side_deinit(&a);
	side_deinit(&b);
	return rc;
}

static void each_flipped_bit_fails_and_the_first_flight_gets_no_reply(void **state)
{
	size_t bit, reply = 0;
	bool done;
	int i, rc;

	(void)state;
	for (i = 0; i < 3; i++) {
		for (done = false, bit = 0; !done; bit++) {
			rc = flipped(i, bit, &done, &reply);
			if (done) {
				assert_int_equal(rc, P2P_HANDSHAKE_DONE);
				break;
			}
			assert_true(rc < 0);
			assert_int_equal(reply, 0);
		}
		assert_true(bit > 400);
	}
}

static void strangers_and_replays_get_no_reply(void **state)
{
	struct side a, b;
	int i;

	(void)state;
	for (i = 0; i < 4; i++) {
		side_init(&a, 1);
		side_init(&b, 2);
		if (i == 0)
			a.secrets[0].bytes[31] ^= 1; /* another secret */
		if (i == 1)
			a.mesh.bytes[0] ^= 1; /* another mesh */
		if (i == 2)
			a.secrets[0].kind = P2P_KIND_TICKET; /* a secret of another kind */
		if (i == 3)
			b.stale = true; /* the tag was seen before */
		begin(&a, &b, &a.secrets[0]);
		assert_int_equal(pass(&a, &b, 7), P2P_EAUTH);
		assert_int_equal(b.out.len, 0);
		assert_int_equal(b.fresh_asked, i == 3);
		assert_int_equal(pass(&a, &b, 7), 0);
		side_deinit(&a);
		side_deinit(&b);
	}
}

static void versions_are_negotiated_or_named(void **state)
{
	struct side a, b;

	(void)state;
	side_init(&a, 1);
	side_init(&b, 2);
	a.versions[0] = 7;
	a.versions[1] = 1;
	a.versions[2] = 3;
	a.config.version_count = 3;
	b.versions[1] = 3;
	b.versions[2] = 2;
	b.config.version_count = 3;
	begin(&a, &b, &a.secrets[0]);
	assert_int_equal(pass(&a, &b, 4096), 0);
	assert_int_equal(pass(&b, &a, 4096), P2P_HANDSHAKE_DONE);
	assert_int_equal(a.handshake.peer.version, 3); /* the greatest of both */
	side_deinit(&a);
	side_deinit(&b);

	side_init(&a, 1);
	side_init(&b, 2);
	a.versions[0] = 5;
	begin(&a, &b, &a.secrets[0]);
	assert_int_equal(pass(&a, &b, 4096), P2P_EVERSION);
	assert_non_null(strstr(b.handshake.text, "we speak version 1, the peer version 5"));
	assert_non_null(strstr(b.handshake.text, "upgrade this node"));
	assert_true(b.out.len > 0); /* it is told */
	assert_int_equal(pass(&b, &a, 4096), P2P_EVERSION);
	assert_non_null(strstr(a.handshake.text, "we speak version 5, the peer version 1"));
	assert_non_null(strstr(a.handshake.text, "upgrade the peer"));
	assert_int_equal(a.out.len, 0);
	side_deinit(&a);
	side_deinit(&b);
}

static void a_signature_of_another_key_is_refused(void **state)
{
	struct side a, b;
	struct p2p_self other;

	(void)state;
	side_init(&a, 1);
	side_init(&b, 2);
	fixture_identity(&other, 3, 3);
	b.identity.node = other.node; /* claims a name that is not its own */
	begin(&a, &b, &a.secrets[0]);
	assert_int_equal(pass(&a, &b, 4096), 0);
	assert_int_equal(pass(&b, &a, 4096), P2P_EAUTH);
	assert_int_equal(a.out.len, 0); /* and learns nothing of us */
	side_deinit(&a);
	side_deinit(&b);
}

static void no_more_bytes_than_allowed_are_taken(void **state)
{
	struct side b;
	uint8_t flood[P2P_HANDSHAKE_BYTES_MAX + 100] = {P2P_KIND_MEMBER, P2P_WIRE_MAJOR};
	size_t used;

	(void)state;
	side_init(&b, 2);
	flood[P2P_PREFACE_BYTES] = 0x10; /* 4096, and the preface before it */
	assert_int_equal(p2p_handshake_init(&b.handshake, &b.config, NULL, &b.out), 0);
	assert_int_equal(p2p_handshake_feed(&b.handshake, flood, sizeof(flood), &used, &b.out),
			 P2P_ETOOBIG);
	assert_int_equal(b.out.len, 0);
	assert_true(used <= P2P_PREFACE_BYTES + 2);
	assert_int_equal(p2p_handshake_feed(&b.handshake, flood, 1, &used, &b.out), P2P_ESTATE);
	side_deinit(&b);
}

static void what_follows_belongs_to_the_session(void **state)
{
	struct side a, b;
	size_t used;

	(void)state;
	side_init(&a, 1);
	side_init(&b, 2);
	begin(&a, &b, &a.secrets[0]);
	assert_int_equal(pass(&a, &b, 4096), 0);
	assert_int_equal(pass(&b, &a, 4096), P2P_HANDSHAKE_DONE);
	p2p_buf_put(&a.out, "frames", 6);
	assert_int_equal(p2p_handshake_feed(&b.handshake, a.out.data, a.out.len, &used, &b.out),
			 P2P_HANDSHAKE_DONE);
	assert_int_equal(used, a.out.len - 6);
	side_deinit(&a);
	side_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_works_with_each_secret_under_any_split),
		cmocka_unit_test(its_bytes_are_golden),
		cmocka_unit_test(each_flipped_bit_fails_and_the_first_flight_gets_no_reply),
		cmocka_unit_test(strangers_and_replays_get_no_reply),
		cmocka_unit_test(versions_are_negotiated_or_named),
		cmocka_unit_test(a_signature_of_another_key_is_refused),
		cmocka_unit_test(no_more_bytes_than_allowed_are_taken),
		cmocka_unit_test(what_follows_belongs_to_the_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
