/* The twin's merged state; see twin.h. */
#include "tests/property/twin.h"

#include <stdlib.h>
#include <string.h>

#include "proto/check.h"

void twin_init(struct twin *twin, const struct twin_table *tables, size_t count)
{
	memset(twin, 0, sizeof(*twin));
	twin->tables = tables;
	twin->table_count = count;
}

void twin_clear(struct twin *twin)
{
	twin->count = 0;
}

void twin_deinit(struct twin *twin)
{
	free(twin->rows);
	memset(twin, 0, sizeof(*twin));
}

static void twin_reserve(struct twin *twin, size_t count)
{
	if (count <= twin->cap)
		return;
	twin->cap = twin->cap * 2 > count ? twin->cap * 2 : count + 64;
	twin->rows = realloc(twin->rows, twin->cap * sizeof(*twin->rows));
	p2p_require(twin->rows != NULL);
}

void twin_copy(struct twin *target, const struct twin *source)
{
	p2p_require(target->tables == source->tables);
	twin_reserve(target, source->count);
	if (source->count)
		memcpy(target->rows, source->rows, source->count * sizeof(*source->rows));
	target->count = source->count;
}

bool twin_identity_same(const struct p2p_identity *a, const struct p2p_identity *b)
{
	if (a->kind != b->kind)
		return false;
	switch (a->kind) {
	case P2P_IDENTITY_KEY:
		return a->key_len == b->key_len &&
		       (!a->key_len || memcmp(a->key, b->key, a->key_len) == 0);
	case P2P_IDENTITY_GENERATED:
		return memcmp(a->id.bytes, b->id.bytes, P2P_ID_BYTES) == 0;
	case P2P_IDENTITY_NUMBER:
		return a->number == b->number;
	}
	return false;
}

struct twin_row *twin_find(const struct twin *twin, uint32_t table,
			   const struct p2p_identity *identity)
{
	size_t i;

	for (i = 0; i < twin->count; i++)
		if (twin->rows[i].table == &twin->tables[table] &&
		    twin_identity_same(&twin->rows[i].identity, identity))
			return &twin->rows[i];
	return NULL;
}

/* What the bytes of a key say: values, or identities of rows. */
static void row_key(struct twin_row *row)
{
	struct p2p_reader reader;
	uint32_t i;

	if (row->identity.kind != P2P_IDENTITY_KEY)
		return;
	p2p_reader_init(&reader, row->identity.key, row->identity.key_len);
	for (i = 0; i < row->table->key_count; i++) {
		struct twin_cell *cell = &row->key[i];
		uint8_t tag = p2p_read_u8(&reader);

		cell->tag = P2P_CELL_VALUE;
		if (tag == P2P_CELL_REFERENCE) {
			cell->tag = P2P_CELL_REFERENCE;
			p2p_identity_read(&reader, &cell->reference);
		} else {
			p2p_value_read_tagged(&reader, tag, &cell->value);
		}
	}
	p2p_require(!reader.failed && !p2p_reader_left(&reader));
}

static struct twin_row *row_new(struct twin *twin, uint32_t table,
				const struct p2p_identity *identity)
{
	struct twin_row *row;

	twin_reserve(twin, twin->count + 1);
	row = &twin->rows[twin->count++];
	memset(row, 0, sizeof(*row));
	row->table = &twin->tables[table];
	row->identity = *identity;
	row_key(row);
	return row;
}

static void cell_add(struct twin_cell *cell, const struct p2p_clock *clock,
		     const struct p2p_cell *from)
{
	int order = cell->written ? p2p_clock_cmp(clock, &cell->clock) : 1;

	if (order == 0 && from->tag == cell->tag && from->tag == P2P_CELL_VALUE)
		order = p2p_value_cmp(&from->value, &cell->value);
	if (order <= 0)
		return;
	cell->written = true;
	cell->tag = from->tag;
	cell->clock = *clock;
	cell->value = from->value;
	cell->reference = from->reference;
}

static void total_add(struct twin_row *row, const struct p2p_clock *clock,
		      const struct p2p_cell *from)
{
	struct twin_total *total;
	size_t i;

	for (i = 0; i < row->total_count; i++)
		if (row->totals[i].column == from->column &&
		    p2p_id_cmp(&row->totals[i].clock.replica, &clock->replica) == 0)
			break;
	total = &row->totals[i];
	if (i == row->total_count) {
		p2p_require(row->total_count < TWIN_TOTALS_MAX);
		row->total_count++;
	} else if (total->clock.stamp.value >= clock->stamp.value) {
		return;
	}
	total->column = from->column;
	total->clock = *clock;
	total->total = from->value.integer;
}

static void yields_add(struct twin_row *row, const struct p2p_clock *clock,
		       const struct p2p_record *record)
{
	size_t i, u;

	for (i = 0; i < record->yield_count; i++) {
		const uint8_t *id = record->yields + i * P2P_ID_BYTES;
		struct twin_yield *yield = NULL;

		if (memcmp(id, row->table->id.bytes, P2P_ID_BYTES) == 0)
			yield = &row->yields[TWIN_UNIQUES_MAX];
		for (u = 0; u < TWIN_UNIQUES_MAX; u++)
			if (row->table->uniques[u].columns &&
			    memcmp(id, row->table->uniques[u].id.bytes, P2P_ID_BYTES) == 0)
				yield = &row->yields[u];
		if (!yield || (yield->set && p2p_clock_cmp(clock, &yield->clock) <= 0))
			continue;
		yield->set = true;
		yield->clock = *clock;
	}
}

/* A greater causal length: nothing of the old life stays. */
static void row_begin(struct twin_row *row, uint64_t causal_length)
{
	row->causal_length = causal_length;
	row->born = false;
	memset(&row->clock, 0, sizeof(row->clock));
	memset(row->cells, 0, sizeof(row->cells));
	memset(row->yields, 0, sizeof(row->yields));
	row->total_count = 0;
}

void twin_add(struct twin *twin, uint32_t table, const struct p2p_record *record,
	      const struct p2p_clock *clock)
{
	struct twin_row *row = twin_find(twin, table, &record->identity);
	struct p2p_cell number, zero = {.value = {.type = P2P_INTEGER}};
	size_t i;

	if (!row)
		row = row_new(twin, table, &record->identity);
	if (record->causal_length < row->causal_length)
		return;
	if (record->causal_length > row->causal_length)
		row_begin(row, record->causal_length);
	if (row->causal_length % 2 == 0 || (record->flags & P2P_RECORD_BORN)) {
		row->born = row->causal_length % 2 == 1;
		if (p2p_clock_cmp(clock, &row->clock) > 0)
			row->clock = *clock;
	}
	for (i = 0; i < record->cell_count; i++) {
		const struct p2p_cell *cell = &record->cells[i];

		if (cell->tag == P2P_CELL_COUNTER)
			total_add(row, clock, cell);
		if (cell->tag == P2P_CELL_COUNTER && (record->flags & P2P_RECORD_BORN))
			cell_add(&row->cells[cell->column], clock,
				 &zero); /* it counts from there */
		else if (cell->tag != P2P_CELL_COUNTER)
			cell_add(&row->cells[cell->column], clock, cell);
	}
	yields_add(row, clock, record);
	if (record->identity.kind == P2P_IDENTITY_NUMBER && (record->flags & P2P_RECORD_BORN) &&
	    (!record->cell_count || record->cells[0].column != 0)) {
		memset(&number, 0, sizeof(number));
		number.value.type = P2P_INTEGER;
		number.value.integer = record->identity.number;
		cell_add(&row->cells[0], clock, &number);
	}
}
