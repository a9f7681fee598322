/* Row records, identities and values: one meaning has one encoding. */
#include <string.h>

#include "crdt/record.h"
#include "proto/limits.h"
#include "tests/fuzz/fuzz.h"

#define LEN_MAX 1024
#define CELLS	64

/* Values are ordered, totally, and equal values hash alike. */
static void check_values(const struct p2p_record *record)
{
	static const struct p2p_hash_key key = {{1}};
	size_t i;

	for (i = 0; i < record->cell_count; i++) {
		const struct p2p_value *a = &record->cells[i].value;
		const struct p2p_value *b = &record->cells[i ? i - 1 : 0].value;

		if (record->cells[i].tag != P2P_CELL_VALUE)
			continue;
		p2p_require(p2p_value_cmp(a, a) == 0);
		p2p_require(p2p_value_hash(&key, a) != 0);
		p2p_require((p2p_value_cmp(a, b) < 0) == (p2p_value_cmp(b, a) > 0));
		p2p_require(p2p_value_equal(a, b) == (p2p_value_cmp(a, b) == 0));
		if (p2p_value_equal(a, b))
			p2p_require(p2p_value_hash(&key, a) == p2p_value_hash(&key, b));
	}
}

static void check_bounds(const struct p2p_record *record)
{
	size_t i;

	p2p_require(record->table < P2P_TABLES_MAX);
	p2p_require(record->causal_length > 0);
	p2p_require(record->causal_length <= P2P_CAUSAL_LENGTH_MAX);
	p2p_require(record->cell_count <= CELLS);
	p2p_require(record->causal_length % 2 || !record->yield_count);
	for (i = 0; i < record->cell_count; i++) {
		p2p_require(record->cells[i].column < P2P_COLUMNS_MAX);
		p2p_require(record->causal_length % 2 || record->cells[i].tag == P2P_CELL_COUNTER);
		if (i)
			p2p_require(record->cells[i].column > record->cells[i - 1].column);
	}
}

static void try_record(const uint8_t *data, size_t len)
{
	struct p2p_cell cells[CELLS];
	struct p2p_record record;
	struct p2p_reader reader;
	struct p2p_buf buf;
	const uint8_t *body;
	struct p2p_id id, table = {{4}};
	size_t body_len;
	int rc = p2p_record_read(&record, cells, CELLS, data, len);

	if (rc) {
		p2p_require(rc == P2P_EPROTO || rc == P2P_ETOOBIG ||
			    (rc == P2P_RECORD_UNKNOWN && data[0] != P2P_RECORD_ROW));
		return;
	}
	check_bounds(&record);
	check_values(&record);
	if (record.identity.kind != P2P_IDENTITY_KEY)
		p2p_identity_row_id(&id, &record.identity, &table);
	p2p_buf_init(&buf, LEN_MAX + 16);
	p2p_record_put(&buf, &record);
	fuzz_ok(p2p_buf_error(&buf));
	p2p_reader_init(&reader, buf.data, buf.len);
	body = p2p_read_bytes(&reader, LEN_MAX, &body_len);
	fuzz_ok(p2p_reader_error(&reader));
	p2p_require(p2p_reader_left(&reader) == 0);
	p2p_require(body_len == len);
	p2p_require(memcmp(body, data, len) == 0);
	p2p_buf_deinit(&buf);
	fuzz_deep();
}

/* A run of values, as keys and parked rows hold them. */
static void try_values(const uint8_t *data, size_t len)
{
	struct p2p_reader reader;
	struct p2p_value value;
	struct p2p_identity identity;
	struct p2p_buf buf;

	p2p_buf_init(&buf, LEN_MAX + 16);
	p2p_reader_init(&reader, data, len);
	while (p2p_reader_left(&reader)) {
		p2p_value_read(&reader, &value);
		if (p2p_reader_error(&reader))
			break;
		p2p_value_put(&buf, &value);
	}
	fuzz_ok(p2p_buf_error(&buf));
	p2p_require(buf.len <= len);
	p2p_require(!buf.len || memcmp(buf.data, data, buf.len) == 0);
	p2p_buf_reset(&buf);
	p2p_reader_init(&reader, data, len);
	p2p_identity_read(&reader, &identity);
	if (p2p_reader_error(&reader) == 0) {
		p2p_identity_put(&buf, &identity);
		p2p_require(buf.len == len - p2p_reader_left(&reader));
		p2p_require(memcmp(buf.data, data, buf.len) == 0);
	}
	p2p_buf_deinit(&buf);
}

static void one(const uint8_t *data, size_t len)
{
	if (!len)
		return;
	if (data[0] & 1)
		try_record(data + 1, len - 1);
	else
		try_values(data + 1, len - 1);
}

static void seed(const char *name, const struct p2p_record *record)
{
	struct p2p_buf buf;
	struct p2p_reader reader;
	const uint8_t *body;
	uint8_t input[LEN_MAX] = {1};
	size_t len;

	p2p_buf_init(&buf, LEN_MAX);
	p2p_record_put(&buf, record);
	p2p_reader_init(&reader, buf.data, buf.len);
	body = p2p_read_bytes(&reader, LEN_MAX - 1, &len);
	memcpy(input + 1, body, len);
	fuzz_seed(name, input, 1 + len);
	p2p_buf_deinit(&buf);
}

static void seeds(void)
{
	static const uint8_t yields[32] = {1};
	struct p2p_cell cells[9];
	struct p2p_record record = {.causal_length = 1, .cells = cells};
	static const uint8_t values[] = {0, 0, 1, 5, 2, 64,  0, 0, 0, 0,
					 0, 0, 0, 3, 2, 'a', 0, 4, 0};
	size_t i;

	memset(cells, 0, sizeof(cells));
	for (i = 0; i < 9; i++)
		cells[i].column = (uint32_t)i;
	cells[1].value = (struct p2p_value){.type = P2P_INTEGER, .integer = -1};
	cells[2].value = (struct p2p_value){.type = P2P_REAL, .real = 1.5};
	cells[3].value =
		(struct p2p_value){.type = P2P_TEXT, .bytes = (const uint8_t *)"text", .len = 4};
	cells[4].value =
		(struct p2p_value){.type = P2P_BLOB, .bytes = (const uint8_t *)"\0\1", .len = 2};
	cells[5].tag = P2P_CELL_COUNTER;
	cells[5].added = 300;
	cells[6].tag = P2P_CELL_REFERENCE;
	cells[6].reference.kind = P2P_IDENTITY_NUMBER;
	cells[7].tag = P2P_CELL_LOOSE;
	cells[8].tag = P2P_CELL_LOOSE_VALUE;
	cells[8].value = cells[3].value;
	record.identity.kind = P2P_IDENTITY_NUMBER;
	record.identity.number = -7;
	seed("empty", &record);
	record.cell_count = 9;
	record.flags = P2P_RECORD_BORN;
	seed("cells", &record);
	record.identity.kind = P2P_IDENTITY_GENERATED;
	record.yields = yields;
	record.yield_count = 2;
	seed("yields", &record);
	record.cell_count = record.yield_count = 0;
	record.causal_length = 2;
	record.identity.kind = P2P_IDENTITY_KEY;
	record.identity.key = values + 1;
	record.identity.key_len = 3;
	record.origin = 3;
	seed("dead", &record);
	record.cells = cells + 5;
	record.cell_count = 1;
	seed("dead_counter", &record);
	fuzz_seed("values", values, sizeof(values));
	fuzz_seed("unknown_kind", "\1\2abc", 5);
}

const struct fuzz_target fuzz_target = {.name = "record",
					.len_max = 1 + LEN_MAX,
					.memory_max = 8 * LEN_MAX,
					.cpu_ms_max = 50,
					.one = one,
					.seeds = seeds};
