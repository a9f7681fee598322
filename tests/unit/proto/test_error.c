/* Errors: one list, names, texts, blame, and context that is put in front. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "proto/error.h"

static void texts_exist_for_every_code(void **state)
{
	(void)state;
#define X(name, code, blame, text)                             \
	assert_string_equal(p2p_strerror(code), text);         \
	assert_string_equal(p2p_err_name(code), "P2P_" #name); \
	assert_int_equal(p2p_err_blame(code), P2P_BLAME_##blame);
	P2P_ERRORS(X)
#undef X
	assert_string_equal(p2p_strerror(0), "ok");
	assert_string_equal(p2p_err_name(0), "P2P_OK");
	assert_string_equal(p2p_strerror(-9999), "unknown error");
	assert_string_equal(p2p_err_name(-9999), "P2P_UNKNOWN");
	assert_int_equal(p2p_err_blame(-9999), P2P_BLAME_LOCAL); /* ours until we know better */
}

static void context_is_put_in_front(void **state)
{
	struct p2p_error err = {0};

	(void)state;
	assert_int_equal(p2p_error_set(&err, P2P_EIO, "read failed"), P2P_EIO);
	assert_int_equal(p2p_error_wrap(&err, P2P_EIO, "open '%s'", "a.db"), P2P_EIO);
	assert_string_equal(err.msg, "open 'a.db': read failed");
}

static void context_on_nothing_uses_the_text_of_the_code(void **state)
{
	struct p2p_error err = {0};

	(void)state;
	(void)p2p_error_wrap(&err, P2P_EFULL, "write");
	assert_string_equal(err.msg, "write: no space left");
	assert_int_equal(p2p_error_wrap(NULL, P2P_EFULL, "write"), P2P_EFULL);
}

static void long_texts_are_cut_and_terminated(void **state)
{
	struct p2p_error err = {0};
	char text[400];
	int i;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	(void)p2p_error_set(&err, P2P_EIO, "%s", text);
	assert_int_equal(strlen(err.msg), sizeof(err.msg) - 1);
	for (i = 0; i < 300; i++)
		(void)p2p_error_wrap(&err, P2P_EIO, "%.*s", i, text);
	assert_true(strlen(err.msg) < sizeof(err.msg));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_exist_for_every_code),
		cmocka_unit_test(context_is_put_in_front),
		cmocka_unit_test(context_on_nothing_uses_the_text_of_the_code),
		cmocka_unit_test(long_texts_are_cut_and_terminated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
