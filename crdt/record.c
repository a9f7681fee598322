/* Row records; see record.h. */
#include "crdt/record.h"

#include <string.h>

#include "proto/check.h"
#include "proto/limits.h"

void p2p_identity_put(struct p2p_buf *buf, const struct p2p_identity *identity)
{
	p2p_buf_put_u8(buf, (uint8_t)identity->kind);
	switch (identity->kind) {
	case P2P_IDENTITY_KEY:
		p2p_buf_put_bytes(buf, identity->key, identity->key_len);
		break;
	case P2P_IDENTITY_GENERATED:
		p2p_buf_put(buf, identity->id.bytes, sizeof(identity->id.bytes));
		break;
	case P2P_IDENTITY_NUMBER:
		p2p_buf_put_zigzag(buf, identity->number);
		break;
	}
}

void p2p_identity_read(struct p2p_reader *reader, struct p2p_identity *out)
{
	uint8_t kind = p2p_read_u8(reader);

	memset(out, 0, sizeof(*out));
	switch (kind) {
	case P2P_IDENTITY_KEY:
		out->key = p2p_read_bytes(reader, P2P_RECORD_BYTES_MAX, &out->key_len);
		break;
	case P2P_IDENTITY_GENERATED:
		p2p_read_into(reader, out->id.bytes, sizeof(out->id.bytes));
		break;
	case P2P_IDENTITY_NUMBER:
		out->number = p2p_read_zigzag(reader);
		break;
	default:
		reader->failed = true;
		return;
	}
	out->kind = (enum p2p_identity_kind)kind;
}

void p2p_identity_row_id(struct p2p_id *out, const struct p2p_identity *identity,
			 const struct p2p_id *table)
{
	p2p_require(identity->kind != P2P_IDENTITY_KEY);
	if (identity->kind == P2P_IDENTITY_NUMBER)
		p2p_number_row_id(out, table, identity->number);
	else
		*out = identity->id;
}

static void cell_put(struct p2p_buf *buf, const struct p2p_cell *cell)
{
	p2p_buf_put_varint(buf, cell->column);
	switch (cell->tag) {
	case P2P_CELL_VALUE:
		p2p_value_put(buf, &cell->value);
		break;
	case P2P_CELL_COUNTER:
		p2p_buf_put_u8(buf, (uint8_t)cell->tag);
		p2p_buf_put_zigzag(buf, cell->value.integer);
		p2p_buf_put_zigzag(buf, cell->added);
		break;
	case P2P_CELL_LOOSE:
		p2p_buf_put_u8(buf, (uint8_t)cell->tag);
		p2p_buf_put_zigzag(buf, cell->value.integer);
		break;
	case P2P_CELL_LOOSE_VALUE:
		p2p_buf_put_u8(buf, (uint8_t)cell->tag);
		p2p_value_put(buf, &cell->value);
		break;
	case P2P_CELL_REFERENCE:
		p2p_buf_put_u8(buf, (uint8_t)cell->tag);
		p2p_identity_put(buf, &cell->reference);
		break;
	}
}

static void cell_read(struct p2p_reader *reader, struct p2p_cell *out)
{
	uint64_t column = p2p_read_varint(reader);
	uint8_t tag = p2p_read_u8(reader);

	memset(out, 0, sizeof(*out));
	if (column >= P2P_COLUMNS_MAX)
		reader->failed = true;
	out->column = (uint32_t)column;
	switch (tag) {
	case P2P_CELL_COUNTER:
	case P2P_CELL_LOOSE:
		out->value.type = P2P_INTEGER;
		out->value.integer = p2p_read_zigzag(reader);
		if (tag == P2P_CELL_COUNTER)
			out->added = p2p_read_zigzag(reader);
		break;
	case P2P_CELL_LOOSE_VALUE:
		p2p_value_read(reader, &out->value);
		break;
	case P2P_CELL_REFERENCE:
		p2p_identity_read(reader, &out->reference);
		break;
	default:
		p2p_value_read_tagged(reader, tag, &out->value);
		tag = P2P_CELL_VALUE;
	}
	out->tag = (enum p2p_cell_tag)tag;
}

static void record_put_fields(struct p2p_buf *buf, const struct p2p_record *record)
{
	size_t i;

	p2p_buf_put_u8(buf, P2P_RECORD_ROW);
	p2p_buf_put_varint(buf, record->table);
	p2p_identity_put(buf, &record->identity);
	p2p_buf_put_varint(buf, record->causal_length);
	p2p_buf_put_varint(buf, record->origin);
	p2p_buf_put_u8(buf, record->flags);
	p2p_buf_put_varint(buf, record->cell_count);
	for (i = 0; i < record->cell_count; i++)
		cell_put(buf, &record->cells[i]);
	p2p_buf_put_varint(buf, record->yield_count);
	if (record->yield_count)
		p2p_buf_put(buf, record->yields, record->yield_count * P2P_ID_BYTES);
}

void p2p_record_put(struct p2p_buf *buf, const struct p2p_record *record)
{
	uint8_t prefix[10];
	size_t start = buf->len, body, i, width = 0;

	p2p_require(record->causal_length > 0);
	/* The length comes first but is known last: write the fields, then make room before them.
	 */
	record_put_fields(buf, record);
	if (buf->error)
		return;
	body = buf->len - start;
	for (i = body; width == 0 || i; i >>= 7)
		prefix[width++] = (uint8_t)((i & 0x7f) | (i >= 0x80 ? 0x80 : 0));
	if (!p2p_buf_reserve(buf, width))
		return;
	memmove(buf->data + start + width, buf->data + start, body);
	memcpy(buf->data + start, prefix, width);
	buf->len += width;
}

static int record_read_cells(struct p2p_reader *reader, struct p2p_record *out, size_t cell_max)
{
	uint64_t count = p2p_read_varint(reader);
	size_t i;

	if (count > cell_max)
		return P2P_ETOOBIG;
	for (i = 0; i < count && !reader->failed; i++) {
		cell_read(reader, &out->cells[i]);
		if (i && out->cells[i].column <= out->cells[i - 1].column)
			reader->failed = true;
	}
	out->cell_count = (size_t)count;
	return p2p_reader_error(reader);
}

static int record_read_yields(struct p2p_reader *reader, struct p2p_record *out)
{
	uint64_t count = p2p_read_varint(reader);

	if (count > P2P_COLUMNS_MAX)
		return P2P_EPROTO;
	out->yields = p2p_read(reader, (size_t)count * P2P_ID_BYTES);
	out->yield_count = (size_t)count;
	return p2p_reader_error(reader);
}

/* Of a deleted row only what its counters had come to is said. */
static int record_check_dead(const struct p2p_record *record)
{
	size_t i;

	for (i = 0; i < record->cell_count; i++)
		if (record->cells[i].tag != P2P_CELL_COUNTER)
			return P2P_EPROTO;
	return record->yield_count ? P2P_EPROTO : 0;
}

int p2p_record_read(struct p2p_record *out, struct p2p_cell *cells, size_t cell_max,
		    const void *data, size_t len)
{
	struct p2p_reader reader;
	uint64_t table, origin;
	int rc;

	memset(out, 0, sizeof(*out));
	out->cells = cells;
	p2p_reader_init(&reader, data, len);
	if (p2p_read_u8(&reader) != P2P_RECORD_ROW)
		return reader.failed ? P2P_EPROTO : P2P_RECORD_UNKNOWN;
	table = p2p_read_varint(&reader);
	p2p_identity_read(&reader, &out->identity);
	out->causal_length = p2p_read_varint(&reader);
	origin = p2p_read_varint(&reader);
	out->flags = p2p_read_u8(&reader);
	if (reader.failed || table >= P2P_TABLES_MAX || origin > P2P_ORIGINS_MAX)
		return P2P_EPROTO;
	out->table = (uint32_t)table;
	out->origin = (uint32_t)origin;
	rc = record_read_cells(&reader, out, cell_max);
	if (!rc)
		rc = record_read_yields(&reader, out);
	if (rc)
		return rc;
	if (p2p_reader_left(&reader) || out->causal_length == 0 ||
	    out->causal_length > P2P_CAUSAL_LENGTH_MAX)
		return P2P_EPROTO;
	return out->causal_length % 2 == 0 ? record_check_dead(out) : 0;
}
