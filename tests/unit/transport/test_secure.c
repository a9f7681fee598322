/* Sealed frames: any split, any damage, any order; the key moves on in step. */
#include "tests/unit/transport/fixture.h"

#include "transport/secure.h"

static void secure_pair(struct p2p_secure *a, struct p2p_secure *b)
{
	struct p2p_noise_cipher send = {.has_key = true}, receive = {.has_key = true};
	struct p2p_noise_cipher send_2, receive_2;

	memset(send.key, 1, sizeof(send.key));
	memset(receive.key, 2, sizeof(receive.key));
	send_2 = receive;
	receive_2 = send;
	p2p_secure_init(a, &send, &receive);
	p2p_secure_init(b, &send_2, &receive_2);
	assert_false(send.has_key); /* wiped */
}

/* Opens all of data in pieces of step bytes; returns the frames, -1 after an error. */
static int open_all(struct p2p_secure *secure, const uint8_t *data, size_t len, size_t step)
{
	const uint8_t *plain, *at;
	size_t plain_len, left;
	int rc, frames = 0;

	for (; len; data += step, len -= step) {
		step = step < len ? step : len;
		at = data;
		left = step;
		do {
			rc = p2p_secure_open(secure, &at, &left, &plain, &plain_len);
			if (rc < 0)
				return -1;
			if (rc == P2P_SECURE_FRAME) {
				assert_int_equal(plain[0], frames);
				frames++;
			}
		} while (rc == P2P_SECURE_FRAME);
		assert_int_equal(left, 0);
	}
	return frames;
}

static void frames_open_under_any_split(void **state)
{
	static uint8_t data[P2P_FRAME_PLAIN_MAX - 1];
	struct p2p_secure a, b;
	struct p2p_buf out;
	size_t step;

	(void)state;
	for (step = 1; step < 100000; step = step < 40 ? step + 1 : step * 3) {
		secure_pair(&a, &b);
		p2p_buf_init(&out, 1 << 20);
		assert_int_equal(p2p_secure_seal(&a, 0, data, 0, &out), 0);
		assert_int_equal(p2p_secure_seal(&a, 1, data, 1, &out), 0);
		assert_int_equal(p2p_secure_seal(&a, 2, data, sizeof(data), &out), 0);
		assert_int_equal(p2p_secure_seal(&a, 3, data, 300, &out), 0);
		assert_int_equal(open_all(&b, out.data, out.len, step), 4);
		p2p_buf_deinit(&out);
		p2p_secure_deinit(&a);
		p2p_secure_deinit(&b);
	}
}

static void each_damaged_bit_is_noticed(void **state)
{
	struct p2p_secure a, b;
	struct p2p_buf out;
	size_t bit;

	(void)state;
	p2p_buf_init(&out, 4096);
	for (bit = 0; bit == 0 || bit < out.len * 8; bit++) {
		secure_pair(&a, &b);
		p2p_buf_reset(&out);
		assert_int_equal(p2p_secure_seal(&a, 0, "abcdef", 6, &out), 0);
		out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_true(open_all(&b, out.data, out.len, out.len) <= 0);
		p2p_secure_deinit(&a);
		p2p_secure_deinit(&b);
	}
	p2p_buf_deinit(&out);
}

static void lost_repeated_and_swapped_frames_are_noticed(void **state)
{
	static const int orders[3][3] = {{0, 0, 1}, {1, 0, 2}, {0, 2, 1}};
	uint8_t frames[3][32];
	struct p2p_secure a, b;
	struct p2p_buf out;
	size_t i, j;
	int opened;

	(void)state;
	for (i = 0; i < 3; i++) {
		secure_pair(&a, &b);
		for (j = 0; j < 3; j++) {
			p2p_buf_init(&out, sizeof(frames[j]));
			assert_int_equal(p2p_secure_seal(&a, 0, "123", 3, &out), 0);
			memcpy(frames[j], out.data, out.len);
			p2p_buf_deinit(&out);
		}
		opened = 0;
		for (j = 0; j < 3 && opened >= 0; j++)
			opened = open_all(&b, frames[orders[i][j]], 2 + 1 + 3 + 16, 64);
		assert_int_equal(opened, -1);
		p2p_secure_deinit(&a);
		p2p_secure_deinit(&b);
	}
}

static void too_short_frames_are_refused_and_full_buffers_seal_nothing(void **state)
{
	static const uint8_t tiny[] = {0, 16};
	struct p2p_secure a, b;
	struct p2p_buf out;

	(void)state;
	secure_pair(&a, &b);
	assert_int_equal(open_all(&b, tiny, sizeof(tiny), 1), -1);
	p2p_buf_init(&out, 20);
	assert_int_equal(p2p_secure_seal(&a, 0, "1234", 4, &out), P2P_ETOOBIG);
	assert_int_equal(out.len, 0);
	assert_int_equal(a.send.nonce, 0);
	p2p_buf_deinit(&out);
	p2p_secure_deinit(&a);
	p2p_secure_deinit(&b);
}

static void the_key_moves_on_in_step(void **state)
{
	struct p2p_secure a, b;
	struct p2p_buf out;
	uint8_t first[P2P_NOISE_KEY_BYTES];
	uint64_t i;

	(void)state;
	secure_pair(&a, &b);
	memcpy(first, a.send.key, sizeof(first));
	p2p_buf_init(&out, 64);
	for (i = 0; i < 2 * P2P_REKEY_FRAMES + 5; i++) {
		p2p_buf_reset(&out);
		assert_int_equal(p2p_secure_seal(&a, 0, "x", 1, &out), 0);
		assert_int_equal(open_all(&b, out.data, out.len, 64), 1);
		if (i == P2P_REKEY_FRAMES - 2)
			assert_memory_equal(first, a.send.key, sizeof(first));
		if (i == P2P_REKEY_FRAMES - 1)
			assert_memory_not_equal(first, a.send.key, sizeof(first));
	}
	assert_memory_equal(a.send.key, b.receive.key, sizeof(first));
	a.send.nonce = UINT64_MAX; /* never reached, never used */
	assert_int_equal(p2p_secure_seal(&a, 0, "x", 1, &out), P2P_ESTATE);
	p2p_buf_deinit(&out);
	p2p_secure_deinit(&a);
	p2p_secure_deinit(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(frames_open_under_any_split),
		cmocka_unit_test(each_damaged_bit_is_noticed),
		cmocka_unit_test(lost_repeated_and_swapped_frames_are_noticed),
		cmocka_unit_test(too_short_frames_are_refused_and_full_buffers_seal_nothing),
		cmocka_unit_test(the_key_moves_on_in_step),
	};

	assert_true(sodium_init() >= 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
