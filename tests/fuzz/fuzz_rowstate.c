/* Row states as a damaged or hostile file may hold them. */
#include <string.h>

#include "crdt/rowstate.h"
#include "proto/limits.h"
#include "tests/fuzz/fuzz.h"

#define LEN_MAX 2048

static bool same(const struct p2p_rowstate *a, const struct p2p_rowstate *b)
{
	uint32_t i;

	for (i = 0; i < a->cell_count && i < b->cell_count; i++)
		if (a->cells[i].stamp != b->cells[i].stamp ||
		    a->cells[i].replica != b->cells[i].replica ||
		    a->cells[i].hash != b->cells[i].hash)
			return false;
	return a->causal_length == b->causal_length && a->flags == b->flags &&
	       a->stamp == b->stamp && a->replica == b->replica && a->cell_count == b->cell_count;
}

static void one(const uint8_t *data, size_t len)
{
	struct p2p_rowstate state, again, copy;
	struct p2p_buf first, second;
	int rc;

	p2p_rowstate_init(&state);
	rc = p2p_rowstate_read(&state, data, len);
	if (rc) {
		p2p_require(rc == P2P_ECORRUPT);
		p2p_rowstate_deinit(&state);
		return;
	}
	p2p_require(state.causal_length > 0);
	p2p_require(state.cell_count <= P2P_SLOTS_MAX);
	p2p_require(p2p_rowstate_alive(&state) || !state.cell_count);
	p2p_rowstate_init(&again);
	p2p_rowstate_init(&copy);
	p2p_buf_init(&first, 4 * LEN_MAX);
	p2p_buf_init(&second, 4 * LEN_MAX);
	p2p_rowstate_put(&first, &state);
	fuzz_ok(p2p_buf_error(&first));
	fuzz_ok(p2p_rowstate_read(&again, first.data, first.len));
	p2p_require(same(&state, &again));
	fuzz_ok(p2p_rowstate_copy(&copy, &again));
	fuzz_ok(p2p_rowstate_resize(&copy, copy.cell_count + 1));
	p2p_require(copy.cells[copy.cell_count - 1].stamp == 0);
	p2p_rowstate_put(&second, &again);
	p2p_require(first.len == second.len);
	p2p_require(memcmp(first.data, second.data, first.len) == 0);
	p2p_rowstate_deinit(&state);
	p2p_rowstate_deinit(&again);
	p2p_rowstate_deinit(&copy);
	p2p_buf_deinit(&first);
	p2p_buf_deinit(&second);
	fuzz_deep();
}

static void seed(const char *name, const struct p2p_rowstate *state)
{
	struct p2p_buf buf;

	p2p_buf_init(&buf, LEN_MAX);
	p2p_rowstate_put(&buf, state);
	fuzz_seed(name, buf.data, buf.len);
	p2p_buf_deinit(&buf);
}

static void seeds(void)
{
	struct p2p_cellstate cells[5] = {{9, 1, 11}, {9, 1, 12}, {9, 1, 13}, {7, 2, 14}, {0, 0, 0}};
	struct p2p_rowstate state = {.causal_length = 2, .stamp = 5, .replica = 3};

	seed("dead", &state);
	state.causal_length = 1;
	seed("no_cells", &state);
	state.cells = cells;
	state.cell_count = 3;
	seed("shared", &state);
	state.stamp = 9;
	state.replica = 1;
	seed("shared_is_row", &state);
	state.cell_count = 5;
	state.flags = P2P_ROW_BORN | P2P_ROW_PARKED;
	seed("exceptions", &state);
}

const struct fuzz_target fuzz_target = {.name = "rowstate",
					.len_max = LEN_MAX,
					.memory_max = 64 * LEN_MAX,
					.cpu_ms_max = 50,
					.one = one,
					.seeds = seeds};
