/* Bounded buffers: limits hold, encodings are canonical, readers never run past the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "proto/buf.h"
#include "proto/check.h"

static void numbers_round_trip(void **state)
{
	static const uint64_t values[] = {0, 1, 127, 128, 16383, 16384, UINT32_MAX, UINT64_MAX};
	struct p2p_buf buf;
	struct p2p_reader reader;
	size_t i;

	(void)state;
	p2p_buf_init(&buf, 4096);
	for (i = 0; i < p2p_array_len(values); i++) {
		p2p_buf_put_varint(&buf, values[i]);
		p2p_buf_put_zigzag(&buf, (int64_t)values[i]);
		p2p_buf_put_u64(&buf, values[i]);
		p2p_buf_put_u32(&buf, (uint32_t)values[i]);
		p2p_buf_put_u16(&buf, (uint16_t)values[i]);
	}
	p2p_buf_put_zigzag(&buf, INT64_MIN);
	assert_int_equal(p2p_buf_error(&buf), 0);
	p2p_reader_init(&reader, buf.data, buf.len);
	for (i = 0; i < p2p_array_len(values); i++) {
		assert_true(p2p_read_varint(&reader) == values[i]);
		assert_true(p2p_read_zigzag(&reader) == (int64_t)values[i]);
		assert_true(p2p_read_u64(&reader) == values[i]);
		assert_true(p2p_read_u32(&reader) == (uint32_t)values[i]);
		assert_true(p2p_read_u16(&reader) == (uint16_t)values[i]);
	}
	assert_true(p2p_read_zigzag(&reader) == INT64_MIN);
	assert_int_equal(p2p_reader_error(&reader), 0);
	assert_int_equal(p2p_reader_left(&reader), 0);
	p2p_buf_deinit(&buf);
}

static void maximum_is_kept_and_error_sticks(void **state)
{
	struct p2p_buf buf;

	(void)state;
	p2p_buf_init(&buf, 100);
	p2p_buf_put(&buf, "0123456789", 10);
	assert_null(p2p_buf_reserve(&buf, 91));
	p2p_buf_put(&buf, "x", 1);
	assert_int_equal(p2p_buf_error(&buf), P2P_ETOOBIG);
	assert_int_equal(buf.len, 10);
	p2p_buf_reset(&buf);
	assert_non_null(p2p_buf_reserve(&buf, 100));
	p2p_buf_deinit(&buf);
}

static void consume_moves_the_rest(void **state)
{
	struct p2p_buf buf;

	(void)state;
	p2p_buf_init(&buf, 100);
	p2p_buf_put(&buf, "abcdef", 6);
	p2p_buf_consume(&buf, 2);
	assert_memory_equal(buf.data, "cdef", 4);
	p2p_buf_consume(&buf, 4);
	assert_int_equal(buf.len, 0);
	p2p_buf_deinit(&buf);
}

static void varints_have_one_encoding(void **state)
{
	static const struct {
		uint8_t bytes[11];
		size_t len;
	} bad[] = {
		{{0x80, 0x00}, 2}, /* zero in two bytes */
		{{0x80}, 1},	   /* cut */
		{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}, 10}, /* 65 bits */
		{{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1}, 11},
	};
	size_t i;

	(void)state;
	for (i = 0; i < p2p_array_len(bad); i++) {
		struct p2p_reader reader;

		p2p_reader_init(&reader, bad[i].bytes, bad[i].len);
		assert_true(p2p_read_varint(&reader) == 0);
		assert_int_equal(p2p_reader_error(&reader), P2P_EPROTO);
		assert_int_equal(p2p_reader_left(&reader), 0);
	}
}

static void bytes_over_the_maximum_are_refused(void **state)
{
	static const uint8_t data[] = {5, 'h', 'e', 'l', 'l', 'o'};
	struct p2p_reader reader;
	size_t len;

	(void)state;
	p2p_reader_init(&reader, data, sizeof(data));
	assert_null(p2p_read_bytes(&reader, 4, &len));
	assert_int_equal(p2p_reader_error(&reader), P2P_EPROTO);
	p2p_reader_init(&reader, data, sizeof(data));
	assert_memory_equal(p2p_read_bytes(&reader, 5, &len), "hello", 5);
	assert_int_equal(len, 5);
	p2p_reader_init(&reader, data, 3); /* cut */
	assert_null(p2p_read_bytes(&reader, 5, &len));
}

static void an_empty_reader_reads_nothing(void **state)
{
	struct p2p_reader reader;

	(void)state;
	p2p_reader_init(&reader, NULL, 0);
	assert_non_null(p2p_read(&reader, 0));
	assert_int_equal(p2p_read_u8(&reader), 0);
	assert_int_equal(p2p_reader_error(&reader), P2P_EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_round_trip),
		cmocka_unit_test(maximum_is_kept_and_error_sticks),
		cmocka_unit_test(consume_moves_the_rest),
		cmocka_unit_test(varints_have_one_encoding),
		cmocka_unit_test(bytes_over_the_maximum_are_refused),
		cmocka_unit_test(an_empty_reader_reads_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
