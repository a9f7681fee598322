/* Row states: what is put comes back, small when clocks are shared; damaged bytes are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "crdt/rowstate.h"
#include "proto/limits.h"

static void round_trip(const struct p2p_rowstate *state, size_t *out_len)
{
	struct p2p_rowstate read;
	struct p2p_buf buf, again;
	uint32_t i;
	size_t len;

	p2p_buf_init(&buf, 1u << 20);
	p2p_buf_init(&again, 1u << 20);
	p2p_rowstate_init(&read);
	p2p_rowstate_put(&buf, state);
	assert_int_equal(p2p_buf_error(&buf), 0);
	assert_int_equal(p2p_rowstate_resize(&read, 3), 0); /* used before */
	assert_int_equal(p2p_rowstate_read(&read, buf.data, buf.len), 0);
	assert_true(read.causal_length == state->causal_length);
	assert_true(read.stamp == state->stamp);
	assert_int_equal(read.replica, state->replica);
	assert_int_equal(read.flags, state->flags);
	assert_int_equal(read.cell_count, state->cell_count);
	for (i = 0; i < state->cell_count; i++) {
		assert_true(read.cells[i].stamp == state->cells[i].stamp);
		assert_int_equal(read.cells[i].replica, state->cells[i].replica);
		assert_true(read.cells[i].hash == state->cells[i].hash);
	}
	p2p_rowstate_put(&again, &read);
	assert_int_equal(again.len, buf.len);
	assert_memory_equal(again.data, buf.data, buf.len);
	for (len = 0; len < buf.len; len++)
		assert_int_equal(p2p_rowstate_read(&read, buf.data, len), P2P_ECORRUPT);
	p2p_buf_put_u8(&buf, 0);
	assert_int_equal(p2p_rowstate_read(&read, buf.data, buf.len), P2P_ECORRUPT);
	if (out_len)
		*out_len = buf.len - 1;
	p2p_rowstate_deinit(&read);
	p2p_buf_deinit(&buf);
	p2p_buf_deinit(&again);
}

static void row_make(struct p2p_rowstate *state, uint32_t cells)
{
	uint32_t i;

	p2p_rowstate_init(state);
	assert_int_equal(p2p_rowstate_resize(state, cells), 0);
	state->causal_length = 1;
	state->flags = P2P_ROW_BORN;
	state->stamp = 0x18bcfe56800ull << 16;
	state->replica = 1;
	for (i = 0; i < cells; i++) {
		state->cells[i].stamp = state->stamp;
		state->cells[i].replica = 1;
		state->cells[i].hash = i + 1;
	}
}

static void dead_rows_come_back(void **state)
{
	struct p2p_rowstate row;

	(void)state;
	p2p_rowstate_init(&row);
	row.causal_length = P2P_CAUSAL_LENGTH_MAX;
	row.stamp = UINT64_MAX;
	row.replica = UINT32_MAX;
	round_trip(&row, NULL);
}

static void a_shared_clock_is_written_once(void **state)
{
	struct p2p_rowstate row;
	size_t len;

	(void)state;
	row_make(&row, 10);
	round_trip(&row, &len);
	assert_in_range(len, 80, 80 + 14);
	p2p_rowstate_deinit(&row);
}

static void exceptions_come_back(void **state)
{
	struct p2p_rowstate row;
	size_t len;

	(void)state;
	row_make(&row, 10);
	row.cells[0].stamp = 0; /* never written, but its default is known */
	row.cells[0].replica = 0;
	row.cells[9].stamp = 77;
	row.cells[9].replica = 3;
	row.flags |= P2P_ROW_PARKED;
	round_trip(&row, &len);
	row.stamp = 5; /* the shared clock is not the row's */
	round_trip(&row, &len);
	row.stamp = 0; /* unborn */
	row.replica = 0;
	row.flags = 0;
	round_trip(&row, &len);
	p2p_rowstate_deinit(&row);
}

static void every_cell_may_have_its_own_clock(void **state)
{
	struct p2p_rowstate row;
	uint32_t i;

	(void)state;
	row_make(&row, 300);
	for (i = 0; i < 300; i++)
		row.cells[i].stamp += i % 7 ? i : 0;
	round_trip(&row, NULL);
	p2p_rowstate_deinit(&row);
	row_make(&row, 0);
	round_trip(&row, NULL);
	p2p_rowstate_deinit(&row);
}

static void resize_and_copy(void **state)
{
	struct p2p_rowstate row, copy;

	(void)state;
	row_make(&row, 2);
	assert_int_equal(p2p_rowstate_resize(&row, 1), 0);
	assert_int_equal(row.cell_count, 2);
	assert_int_equal(p2p_rowstate_resize(&row, 5), 0);
	assert_true(row.cells[4].stamp == 0);
	assert_int_equal(p2p_rowstate_resize(&row, P2P_SLOTS_MAX + 1), P2P_ETOOBIG);
	p2p_rowstate_init(&copy);
	assert_int_equal(p2p_rowstate_copy(&copy, &row), 0);
	row.cells[0].hash = 99;
	assert_true(copy.cells[0].hash == 1);
	assert_int_equal(p2p_rowstate_copy(&copy, &row), 0);
	assert_true(copy.cells[0].hash == 99);
	p2p_rowstate_deinit(&copy);
	p2p_rowstate_deinit(&row);
}

static void foreign_bytes_are_refused(void **state)
{
	static const struct {
		uint8_t bytes[8];
		size_t len;
	} bad[] = {
		{{0, 0, 0, 0}, 4},			/* causal length 0 */
		{{2, 4, 0, 0}, 4},			/* a flag of nobody */
		{{2, 0x80, 0, 0}, 4},			/* shared clock of a dead row */
		{{1, 0, 1, 1, 0xff, 0xff, 0xff, 1}, 8}, /* more cells than there can be */
		{{1, 0x80, 5, 1, 1, 1, 0, 5}, 8},	/* an exception that is none, and cut */
	};
	struct p2p_rowstate row;
	size_t i;

	(void)state;
	p2p_rowstate_init(&row);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(p2p_rowstate_read(&row, bad[i].bytes, bad[i].len), P2P_ECORRUPT);
	p2p_rowstate_deinit(&row);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dead_rows_come_back),
		cmocka_unit_test(a_shared_clock_is_written_once),
		cmocka_unit_test(exceptions_come_back),
		cmocka_unit_test(every_cell_may_have_its_own_clock),
		cmocka_unit_test(resize_and_copy),
		cmocka_unit_test(foreign_bytes_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
