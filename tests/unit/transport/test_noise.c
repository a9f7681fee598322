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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(points_of_small_order_are_refused),
		cmocka_unit_test(each_flipped_bit_ends_the_handshake),
		cmocka_unit_test(another_psk_does_not_open_message_3),
	};

	assert_true(sodium_init() >= 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
