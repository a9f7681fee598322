/* JSON out: structure, escapes, bytes that are no UTF-8, numbers beyond doubles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>
#include <stdio.h>

#include "proto/json.h"

struct writer {
	struct p2p_buf buf;
	struct p2p_json json;
};

static void begin(struct writer *writer)
{
	p2p_buf_init(&writer->buf, 4096);
	p2p_json_init(&writer->json, &writer->buf);
}

static void expect(struct writer *writer, const char *text)
{
	assert_int_equal(p2p_buf_error(&writer->buf), 0);
	p2p_buf_put_u8(&writer->buf, 0);
	assert_string_equal((const char *)writer->buf.data, text);
	p2p_buf_deinit(&writer->buf);
}

static void commas_stand_between_and_nowhere_else(void **state)
{
	struct writer w;

	(void)state;
	begin(&w);
	p2p_json_begin_object(&w.json);
	p2p_json_put_u64(&w.json, "a", 1);
	p2p_json_key(&w.json, "b");
	p2p_json_begin_array(&w.json);
	p2p_json_begin_object(&w.json);
	p2p_json_end_object(&w.json);
	p2p_json_begin_array(&w.json);
	p2p_json_end_array(&w.json);
	p2p_json_bool(&w.json, true);
	p2p_json_end_array(&w.json);
	p2p_json_put_hex(&w.json, "c", "\x00\xff", 2);
	p2p_json_put_bool(&w.json, "d", false);
	p2p_json_end_object(&w.json);
	expect(&w, "{\"a\":1,\"b\":[{},[],true],\"c\":\"00ff\",\"d\":false}");
}

static void texts_are_escaped(void **state)
{
	struct writer w;

	(void)state;
	begin(&w);
	p2p_json_string(&w.json, "a\"b\\c\n\t\x01\x7f\xc3\xa9\xf0\x9f\x98\x80");
	expect(&w, "\"a\\\"b\\\\c\\n\\t\\u0001\\u007f\xc3\xa9\xf0\x9f\x98\x80\"");
	begin(&w);
	p2p_json_string(&w.json, NULL);
	expect(&w, "\"\"");
}

static void what_is_no_utf8_becomes_the_replacement_character(void **state)
{
	static const char *const bad[] = {"\xff",	  "\x80",	  "\xc0\xaf",
					  "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
					  "\xf0\x9f\x98", "\xc3"};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char wanted[64] = "\"", text[16];
		struct writer w;
		size_t j;

		for (j = 0; bad[i][j]; j++)
			memcpy(wanted + 1 + 3 * j, "\xef\xbf\xbd", 4);
		memcpy(wanted + 1 + 3 * j, "x\"", 3);
		(void)snprintf(text, sizeof(text), "%sx", bad[i]);
		begin(&w);
		p2p_json_string(&w.json, text);
		expect(&w, wanted);
	}
}

static void numbers_beyond_doubles_are_strings(void **state)
{
	struct writer w;

	(void)state;
	begin(&w);
	p2p_json_begin_array(&w.json);
	p2p_json_u64(&w.json, 1ull << 53);
	p2p_json_u64(&w.json, (1ull << 53) + 1);
	p2p_json_u64(&w.json, UINT64_MAX);
	p2p_json_end_array(&w.json);
	expect(&w, "[9007199254740992,\"9007199254740993\",\"18446744073709551615\"]");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commas_stand_between_and_nowhere_else),
		cmocka_unit_test(texts_are_escaped),
		cmocka_unit_test(what_is_no_utf8_becomes_the_replacement_character),
		cmocka_unit_test(numbers_beyond_doubles_are_strings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
