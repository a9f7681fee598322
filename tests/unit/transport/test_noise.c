/* What the vectors do not say: bad points, damage, and use after a failure. */
#include "tests/unit/transport/fixture.h"

#include "transport/noise.h"

static void start(struct p2p_noise *noise, bool initiator, uint8_t psk_fill)
{
	uint8_t s[32], e[32], psk[32];
	struct p2p_noise_config config = {
		.pattern = &p2p_noise_xxpsk3, .initiator = initiator, .s = s, .e = e, .psk = psk};

	memset(s, initiator ? 1 : 2, sizeof(s));
	memset(e, initiator ? 3 : 4, sizeof(e));
	memset(psk, psk_fill, sizeof(psk));
	p2p_noise_init(noise, &config);
}

static void points_of_small_order_are_refused(void **state)
{
	/* RFC 7748, section 6.1: the results of these are all zero */
	static const uint8_t points[2][32] = {{0}, {1}};
	struct p2p_noise responder;
	struct p2p_buf payload, out;
	size_t i;

	(void)state;
	for (i = 0; i < 2; i++) {
		start(&responder, false, 5);
		p2p_buf_init(&payload, 1000);
		p2p_buf_init(&out, 1000);
		assert_int_equal(p2p_noise_read(&responder, points[i], 32, &payload),
				 P2P_EPROTO); /* with a psk the payload has a tag */
		start(&responder, false, 5);
		memcpy(responder.re, points[i], 32);
		responder.has_re = true;
		responder.step = 1;
		assert_int_equal(p2p_noise_write(&responder, "", 0, &out), P2P_EAUTH);
		assert_int_equal(out.len, 0);
		assert_true(responder.failed);
		assert_false(responder.has_s); /* wiped */
		assert_int_equal(p2p_noise_write(&responder, "", 0, &out), P2P_ESTATE);
		p2p_buf_deinit(&payload);
		p2p_buf_deinit(&out);
	}
}

/* Runs a handshake whose message `broken` has one bit flipped. Returns the reader's verdict. */
static int flipped(unsigned int broken, size_t bit, bool *out_done)
{
	struct p2p_noise sides[2];
	struct p2p_buf message, payload;
	unsigned int i;
	int rc = 0;

	start(&sides[0], true, 5);
	start(&sides[1], false, 5);
	p2p_buf_init(&message, 1000);
	p2p_buf_init(&payload, 1000);
	for (i = 0; i < 3 && !rc; i++) {
		p2p_buf_reset(&message);
		rc = p2p_noise_write(&sides[i % 2], "payload", 7, &message);
		if (!rc && i == broken) {
			*out_done = bit >= message.len * 8;
			if (!*out_done)
				message.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		if (!rc)
			rc = p2p_noise_read(&sides[1 - i % 2], message.data, message.len, &payload);
	}
	p2p_buf_deinit(&message);
	p2p_buf_deinit(&payload);
	return rc;
}

static void each_flipped_bit_ends_the_handshake(void **state)
{
	unsigned int message;
	bool done;
	size_t bit;

	(void)state;
	for (message = 0; message < 3; message++) {
		done = false;
		for (bit = 0; !done; bit++) {
			int rc = flipped(message, bit, &done);

			if (!done)
				assert_int_equal(rc, P2P_EAUTH);
			else
				assert_int_equal(rc, 0);
		}
		assert_true(bit > 8 * 32);
	}
}

static void another_psk_does_not_open_message_3(void **state)
{
	struct p2p_noise a, b;
	struct p2p_buf message, payload;

	(void)state;
	start(&a, true, 5);
	start(&b, false, 6);
	p2p_buf_init(&message, 1000);
	p2p_buf_init(&payload, 1000);
	assert_int_equal(p2p_noise_write(&a, "", 0, &message), 0);
	assert_int_equal(p2p_noise_read(&b, message.data, message.len, &payload), 0);
	p2p_buf_reset(&message);
	assert_int_equal(p2p_noise_write(&b, "", 0, &message), 0);
	assert_int_equal(p2p_noise_read(&a, message.data, message.len, &payload), 0);
	p2p_buf_reset(&message);
	assert_int_equal(p2p_noise_write(&a, "secret", 6, &message), 0);
	assert_int_equal(p2p_noise_read(&b, message.data, message.len, &payload), P2P_EAUTH);
	assert_int_equal(payload.len, 0);
	p2p_buf_deinit(&message);
	p2p_buf_deinit(&payload);
}

/* Two sides of a pattern in which both know something of the other before. Returns the code with
 * which the reading of the first message ends. */
static int first_message(const struct p2p_noise_pattern *pattern, bool right_key)
{
	uint8_t secrets[4][32], publics[4][32];
	struct p2p_noise a, b;
	struct p2p_noise_config config = {.pattern = pattern, .initiator = true};
	struct p2p_buf message, payload;
	bool known_e = pattern->initiator_known == P2P_NOISE_E;
	size_t i;
	int rc;

	for (i = 0; i < 4; i++) {
		memset(secrets[i], (int)(0x10 + i), 32);
		assert_int_equal(crypto_scalarmult_base(publics[i], secrets[i]), 0);
	}
	config.s = secrets[0];
	config.e = secrets[1];
	config.rs = publics[right_key ? 2 : 3];
	config.psk = secrets[3];
	p2p_noise_init(&a, &config);
	config = (struct p2p_noise_config){.pattern = pattern, .s = secrets[2], .e = secrets[3]};
	config.rs = known_e ? NULL : publics[0];
	config.re = known_e ? publics[1] : NULL;
	config.psk = secrets[3];
	p2p_noise_init(&b, &config);
	p2p_buf_init(&message, 1000);
	p2p_buf_init(&payload, 1000);
	assert_int_equal(p2p_noise_write(&a, "payload", 7, &message), 0);
	rc = p2p_noise_read(&b, message.data, message.len, &payload);
	assert_true(rc || (payload.len == 7 && memcmp(payload.data, "payload", 7) == 0));
	if (!rc) {
		p2p_buf_reset(&message);
		assert_int_equal(p2p_noise_write(&b, "answer", 6, &message), 0);
		assert_int_equal(p2p_noise_read(&a, message.data, message.len, &payload), 0);
		assert_true(p2p_noise_finished(&a));
		assert_memory_equal(a.h, b.h, sizeof(a.h));
	}
	p2p_buf_deinit(&message);
	p2p_buf_deinit(&payload);
	return rc;
}

static void what_is_known_before_is_part_of_the_handshake(void **state)
{
	static const struct p2p_noise_pattern kk = {"KK",
						    P2P_NOISE_S,
						    P2P_NOISE_S,
						    false,
						    2,
						    {{P2P_NOISE_E, P2P_NOISE_ES, P2P_NOISE_SS},
						     {P2P_NOISE_E, P2P_NOISE_EE, P2P_NOISE_SE}}};
	static const struct p2p_noise_pattern e_known = {
		"test", P2P_NOISE_E, P2P_NOISE_S,
		true,	2,	     {{P2P_NOISE_PSK, P2P_NOISE_ES}, {P2P_NOISE_E, P2P_NOISE_EE}}};

	(void)state;
	assert_int_equal(first_message(&kk, true), 0);
	assert_int_equal(first_message(&kk, false), P2P_EAUTH);
	assert_int_equal(first_message(&e_known, true), 0);
	assert_int_equal(first_message(&e_known, false), P2P_EAUTH);
}

static void messages_are_bounded_on_both_sides(void **state)
{
	static uint8_t big[P2P_NOISE_MESSAGE_MAX + 1];
	struct p2p_noise a, b;
	struct p2p_buf out;

	(void)state;
	start(&a, true, 5);
	start(&b, false, 5);
	p2p_buf_init(&out, 2 * P2P_NOISE_MESSAGE_MAX);
	assert_int_equal(p2p_noise_write(&a, big, P2P_NOISE_MESSAGE_MAX - 40, &out), P2P_ETOOBIG);
	assert_int_equal(out.len, 0);
	assert_true(a.failed);
	assert_int_equal(p2p_noise_read(&b, big, sizeof(big), &out), P2P_ETOOBIG);
	assert_int_equal(p2p_noise_read(&b, big, 32, &out), P2P_ESTATE);
	assert_int_equal(out.len, 0);
	start(&b, false, 5);
	assert_int_equal(p2p_noise_read(&b, big, 31, &out), P2P_EPROTO); /* not even a key */
	p2p_buf_deinit(&out);
	p2p_buf_init(&out, 40); /* a buffer that is too small for what it says */
	start(&a, true, 5);
	assert_int_equal(p2p_noise_write(&a, big, 100, &out), P2P_ETOOBIG);
	assert_int_equal(out.len, 0);
	p2p_buf_deinit(&out);
}

static void a_cipher_is_used_up_and_never_repeats_a_nonce(void **state)
{
	struct p2p_noise_cipher send = {.nonce = UINT64_MAX - 1, .has_key = true}, receive = send;
	struct p2p_noise_cipher none = {.has_key = false};
	uint8_t sealed[20], back[20];

	(void)state;
	assert_int_equal(p2p_noise_encrypt(&send, NULL, 0, (const uint8_t *)"text", 4, sealed), 0);
	assert_int_equal(p2p_noise_encrypt(&send, NULL, 0, (const uint8_t *)"text", 4, back),
			 P2P_ESTATE);
	assert_int_equal(p2p_noise_decrypt(&receive, NULL, 0, sealed, 15, back), P2P_EAUTH);
	assert_true(receive.nonce == UINT64_MAX - 1); /* it did not move */
	assert_int_equal(p2p_noise_decrypt(&receive, NULL, 0, sealed, 20, back), 0);
	assert_memory_equal(back, "text", 4);
	assert_int_equal(p2p_noise_decrypt(&receive, NULL, 0, sealed, 20, back), P2P_ESTATE);
	/* before there is a key, bytes go as they are */
	assert_int_equal(p2p_noise_encrypt(&none, NULL, 0, (const uint8_t *)"open", 4, sealed), 0);
	assert_int_equal(p2p_noise_decrypt(&none, NULL, 0, sealed, 4, back), 0);
	assert_memory_equal(back, "open", 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(points_of_small_order_are_refused),
		cmocka_unit_test(each_flipped_bit_ends_the_handshake),
		cmocka_unit_test(another_psk_does_not_open_message_3),
		cmocka_unit_test(what_is_known_before_is_part_of_the_handshake),
		cmocka_unit_test(messages_are_bounded_on_both_sides),
		cmocka_unit_test(a_cipher_is_used_up_and_never_repeats_a_nonce),
	};

	assert_true(sodium_init() >= 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
