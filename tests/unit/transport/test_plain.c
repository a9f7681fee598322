/* The plaintext library, which only tests link: its frames do show what they carry, so a capture
 * test that finds nothing with the product has been able to find something. */
#include "tests/unit/transport/fixture.h"

#include "transport/secure.h"

static void frames_show_their_content(void **state)
{
	struct p2p_noise_cipher send = {.has_key = true}, receive = {.has_key = true};
	struct p2p_secure secure;
	struct p2p_buf out;
	const uint8_t *plain, *at;
	size_t left, len;

	(void)state;
	p2p_secure_init(&secure, &send, &receive);
	p2p_buf_init(&out, 256);
	assert_int_equal(p2p_secure_seal(&secure, 7, "a row of the application", 24, &out), 0);
	assert_memory_equal(out.data + 3, "a row of the application", 24);
	at = out.data;
	left = out.len;
	assert_int_equal(p2p_secure_open(&secure, &at, &left, &plain, &len), P2P_SECURE_FRAME);
	assert_int_equal(len, 25);
	assert_int_equal(plain[0], 7);
	p2p_buf_deinit(&out);
	p2p_secure_deinit(&secure);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(frames_show_their_content)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
