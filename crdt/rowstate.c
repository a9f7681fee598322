/* Row states; see rowstate.h.
 *
 * Layout: varint causal length | flags u8 | varint stamp | varint replica, and for live rows:
 * varint number of cells | varint stamp and replica of the clock that most cells share (left out,
 * with SHARED_IS_ROW in flags, when it is the row's) | varint number of exceptions | each: varint
 * slot (ascending), varint stamp (0: never written, then no replica), varint replica | 8 bytes of
 * hash for each cell. */
#include "crdt/rowstate.h"

#include <string.h>

#include "proto/check.h"
#include "proto/limits.h"
#include "proto/mem.h"

#define ROWSTATE_FLAGS	       (P2P_ROW_BORN | P2P_ROW_PARKED)
#define ROWSTATE_SHARED_IS_ROW 0x80

void p2p_rowstate_init(struct p2p_rowstate *state)
{
	memset(state, 0, sizeof(*state));
}

void p2p_rowstate_deinit(struct p2p_rowstate *state)
{
	p2p_free(state->cells);
	p2p_rowstate_init(state);
}

int p2p_rowstate_resize(struct p2p_rowstate *state, uint32_t count)
{
	struct p2p_cellstate *grown;

	if (count > P2P_SLOTS_MAX)
		return P2P_ETOOBIG;
	if (count <= state->cell_count)
		return 0;
	grown = p2p_realloc(state->cells, count * sizeof(*grown));
	if (!grown)
		return P2P_ENOMEM;
	memset(grown + state->cell_count, 0, (count - state->cell_count) * sizeof(*grown));
	state->cells = grown;
	state->cell_count = count;
	return 0;
}

int p2p_rowstate_copy(struct p2p_rowstate *target, const struct p2p_rowstate *source)
{
	struct p2p_cellstate *cells = NULL;

	if (source->cell_count) {
		cells = p2p_memdup(source->cells, source->cell_count * sizeof(*cells));
		if (!cells)
			return P2P_ENOMEM;
	}
	p2p_free(target->cells);
	*target = *source;
	target->cells = cells;
	return 0;
}

static bool clock_equal(const struct p2p_cellstate *cell, uint64_t stamp, uint32_t replica)
{
	return cell->stamp == stamp && (!stamp || cell->replica == replica);
}

/* The clock that more than half of the cells have, if there is one (Boyer and Moore's vote);
 * otherwise some clock. */
static struct p2p_cellstate shared_clock(const struct p2p_rowstate *state)
{
	struct p2p_cellstate shared;
	uint32_t i, votes = 0;

	memset(&shared, 0, sizeof(shared));
	for (i = 0; i < state->cell_count; i++) {
		if (!votes)
			shared = state->cells[i];
		if (clock_equal(&state->cells[i], shared.stamp, shared.replica))
			votes++;
		else
			votes--;
	}
	return shared;
}

static void exceptions_put(struct p2p_buf *buf, const struct p2p_rowstate *state,
			   const struct p2p_cellstate *shared)
{
	uint32_t i, count = 0;

	for (i = 0; i < state->cell_count; i++)
		count += !clock_equal(&state->cells[i], shared->stamp, shared->replica);
	p2p_buf_put_varint(buf, count);
	for (i = 0; i < state->cell_count && count; i++) {
		if (clock_equal(&state->cells[i], shared->stamp, shared->replica))
			continue;
		p2p_buf_put_varint(buf, i);
		p2p_buf_put_varint(buf, state->cells[i].stamp);
		if (state->cells[i].stamp)
			p2p_buf_put_varint(buf, state->cells[i].replica);
	}
}

void p2p_rowstate_put(struct p2p_buf *buf, const struct p2p_rowstate *state)
{
	struct p2p_cellstate shared;
	bool is_row;
	uint32_t i;

	p2p_require(state->causal_length > 0);
	p2p_require((state->flags & ~ROWSTATE_FLAGS) == 0);
	p2p_buf_put_varint(buf, state->causal_length);
	if (!p2p_rowstate_alive(state)) {
		p2p_require(state->cell_count == 0);
		p2p_buf_put_u8(buf, state->flags);
		p2p_buf_put_varint(buf, state->stamp);
		p2p_buf_put_varint(buf, state->replica);
		return;
	}
	shared = shared_clock(state);
	is_row = state->cell_count && clock_equal(&shared, state->stamp, state->replica);
	p2p_buf_put_u8(buf, (uint8_t)(state->flags | (is_row ? ROWSTATE_SHARED_IS_ROW : 0)));
	p2p_buf_put_varint(buf, state->stamp);
	p2p_buf_put_varint(buf, state->replica);
	p2p_buf_put_varint(buf, state->cell_count);
	if (!is_row) {
		p2p_buf_put_varint(buf, shared.stamp);
		p2p_buf_put_varint(buf, shared.stamp ? shared.replica : 0);
	}
	exceptions_put(buf, state, &shared);
	for (i = 0; i < state->cell_count; i++)
		p2p_buf_put_u64(buf, state->cells[i].hash);
}

static uint32_t read_replica(struct p2p_reader *reader)
{
	uint64_t replica = p2p_read_varint(reader);

	if (replica > UINT32_MAX)
		reader->failed = true;
	return (uint32_t)replica;
}

static void exceptions_read(struct p2p_reader *reader, struct p2p_rowstate *out,
			    const struct p2p_cellstate *shared)
{
	uint64_t count = p2p_read_varint(reader), slot, next = 0;

	if (count > out->cell_count)
		reader->failed = true;
	for (; count && !reader->failed; count--) {
		slot = p2p_read_varint(reader);
		if (slot < next || slot >= out->cell_count) {
			reader->failed = true;
			return;
		}
		next = slot + 1;
		out->cells[slot].stamp = p2p_read_varint(reader);
		out->cells[slot].replica = out->cells[slot].stamp ? read_replica(reader) : 0;
		if (clock_equal(&out->cells[slot], shared->stamp, shared->replica))
			reader->failed = true;
	}
}

static int cells_read(struct p2p_reader *reader, struct p2p_rowstate *out, bool is_row)
{
	struct p2p_cellstate shared;
	uint64_t count = p2p_read_varint(reader);
	uint32_t i;
	int rc;

	memset(&shared, 0, sizeof(shared));
	if (reader->failed || count > P2P_SLOTS_MAX || count > p2p_reader_left(reader) / 8)
		return P2P_ECORRUPT;
	rc = p2p_rowstate_resize(out, (uint32_t)count);
	if (rc)
		return rc;
	shared.stamp = is_row ? out->stamp : p2p_read_varint(reader);
	shared.replica = is_row ? out->replica : read_replica(reader);
	if (!shared.stamp)
		shared.replica = 0;
	for (i = 0; i < out->cell_count; i++)
		out->cells[i] = shared;
	exceptions_read(reader, out, &shared);
	for (i = 0; i < out->cell_count; i++)
		out->cells[i].hash = p2p_read_u64(reader);
	return reader->failed ? P2P_ECORRUPT : 0;
}

int p2p_rowstate_read(struct p2p_rowstate *out, const void *data, size_t len)
{
	struct p2p_reader reader;
	uint8_t flags;
	int rc = 0;

	p2p_reader_init(&reader, data, len);
	out->causal_length = p2p_read_varint(&reader);
	flags = p2p_read_u8(&reader);
	out->stamp = p2p_read_varint(&reader);
	out->replica = read_replica(&reader);
	out->flags = flags & ROWSTATE_FLAGS;
	out->cell_count = 0; /* the memory is used again */
	if (reader.failed || !out->causal_length ||
	    (flags & ~(ROWSTATE_FLAGS | ROWSTATE_SHARED_IS_ROW)))
		return P2P_ECORRUPT;
	if (p2p_rowstate_alive(out))
		rc = cells_read(&reader, out, (flags & ROWSTATE_SHARED_IS_ROW) != 0);
	else if (flags & ROWSTATE_SHARED_IS_ROW)
		rc = P2P_ECORRUPT;
	if (!rc && p2p_reader_left(&reader))
		rc = P2P_ECORRUPT;
	return rc;
}
