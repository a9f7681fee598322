/* Bounded buffers; see buf.h. */
#include "proto/buf.h"

#include <string.h>

#include "proto/check.h"
#include "proto/mem.h"

#define BUF_FIRST_BYTES	 64
#define VARINT_BYTES_MAX 10 /* 64 bits, 7 a byte */

void p2p_buf_init(struct p2p_buf *buf, size_t max)
{
	p2p_require(max > 0);
	memset(buf, 0, sizeof(*buf));
	buf->max = max;
}

void p2p_buf_deinit(struct p2p_buf *buf)
{
	p2p_free(buf->data);
	memset(buf, 0, sizeof(*buf));
}

void p2p_buf_reset(struct p2p_buf *buf)
{
	buf->len = 0;
	buf->error = 0;
}

int p2p_buf_error(const struct p2p_buf *buf)
{
	return buf->error;
}

uint8_t *p2p_buf_reserve(struct p2p_buf *buf, size_t len)
{
	size_t cap = buf->cap ? buf->cap : BUF_FIRST_BYTES;
	uint8_t *data;

	p2p_require(buf->max > 0);
	if (buf->error)
		return NULL;
	if (len > buf->max - buf->len) {
		buf->error = P2P_ETOOBIG;
		return NULL;
	}
	if (buf->data && buf->cap - buf->len >= len)
		return buf->data + buf->len;
	while (cap - buf->len < len)
		cap = cap > buf->max / 2 ? buf->max : cap * 2;
	data = p2p_realloc(buf->data, cap);
	if (!data) {
		buf->error = P2P_ENOMEM;
		return NULL;
	}
	buf->data = data;
	buf->cap = cap;
	return data + buf->len;
}

void p2p_buf_put(struct p2p_buf *buf, const void *data, size_t len)
{
	uint8_t *at = p2p_buf_reserve(buf, len);

	if (!at)
		return;
	if (len)
		memcpy(at, data, len);
	buf->len += len;
}

void p2p_buf_put_u8(struct p2p_buf *buf, uint8_t value)
{
	p2p_buf_put(buf, &value, 1);
}

static void buf_put_big_endian(struct p2p_buf *buf, uint64_t value, size_t width)
{
	uint8_t bytes[8];
	size_t i;

	for (i = 0; i < width; i++)
		bytes[i] = (uint8_t)(value >> (8 * (width - 1 - i)));
	p2p_buf_put(buf, bytes, width);
}

void p2p_buf_put_u16(struct p2p_buf *buf, uint16_t value)
{
	buf_put_big_endian(buf, value, 2);
}

void p2p_buf_put_u32(struct p2p_buf *buf, uint32_t value)
{
	buf_put_big_endian(buf, value, 4);
}

void p2p_buf_put_u64(struct p2p_buf *buf, uint64_t value)
{
	buf_put_big_endian(buf, value, 8);
}

void p2p_buf_put_varint(struct p2p_buf *buf, uint64_t value)
{
	uint8_t bytes[VARINT_BYTES_MAX];
	size_t len = 0;

	while (value >= 0x80) {
		bytes[len++] = (uint8_t)(value | 0x80);
		value >>= 7;
	}
	bytes[len++] = (uint8_t)value;
	p2p_buf_put(buf, bytes, len);
}

void p2p_buf_put_zigzag(struct p2p_buf *buf, int64_t value)
{
	p2p_buf_put_varint(buf, ((uint64_t)value << 1) ^ (value < 0 ? UINT64_MAX : 0));
}

void p2p_buf_put_bytes(struct p2p_buf *buf, const void *data, size_t len)
{
	p2p_buf_put_varint(buf, len);
	p2p_buf_put(buf, data, len);
}

void p2p_buf_consume(struct p2p_buf *buf, size_t len)
{
	p2p_require(len <= buf->len);
	if (len && len < buf->len)
		memmove(buf->data, buf->data + len, buf->len - len);
	buf->len -= len;
}

void p2p_reader_init(struct p2p_reader *reader, const void *data, size_t len)
{
	p2p_require(data != NULL || len == 0);
	reader->data = data;
	reader->len = len;
	reader->pos = 0;
	reader->failed = false;
}

int p2p_reader_error(const struct p2p_reader *reader)
{
	return reader->failed ? P2P_EPROTO : 0;
}

size_t p2p_reader_left(const struct p2p_reader *reader)
{
	return reader->failed ? 0 : reader->len - reader->pos;
}

const uint8_t *p2p_read(struct p2p_reader *reader, size_t len)
{
	const uint8_t *at;

	if (reader->failed || len > reader->len - reader->pos) {
		reader->failed = true;
		return NULL;
	}
	if (reader->len == 0) /* an empty reader has no data to point at */
		return (const uint8_t *)"";
	at = reader->data + reader->pos;
	reader->pos += len;
	return at;
}

void p2p_read_into(struct p2p_reader *reader, void *out, size_t len)
{
	const uint8_t *at = p2p_read(reader, len);

	if (at && len)
		memcpy(out, at, len);
	else
		memset(out, 0, len);
}

static uint64_t read_big_endian(struct p2p_reader *reader, size_t width)
{
	const uint8_t *at = p2p_read(reader, width);
	uint64_t value = 0;
	size_t i;

	for (i = 0; at && i < width; i++)
		value = value << 8 | at[i];
	return value;
}

uint8_t p2p_read_u8(struct p2p_reader *reader)
{
	return (uint8_t)read_big_endian(reader, 1);
}

uint16_t p2p_read_u16(struct p2p_reader *reader)
{
	return (uint16_t)read_big_endian(reader, 2);
}

uint32_t p2p_read_u32(struct p2p_reader *reader)
{
	return (uint32_t)read_big_endian(reader, 4);
}

uint64_t p2p_read_u64(struct p2p_reader *reader)
{
	return read_big_endian(reader, 8);
}

uint64_t p2p_read_varint(struct p2p_reader *reader)
{
	uint64_t value = 0;
	unsigned int i;

	for (i = 0; i < VARINT_BYTES_MAX; i++) {
		uint8_t byte = p2p_read_u8(reader);

		if (reader->failed)
			return 0;
		if (i == VARINT_BYTES_MAX - 1 && byte > 1)
			break; /* more than 64 bits */
		value |= (uint64_t)(byte & 0x7f) << (7 * i);
		if (byte < 0x80) {
			if (byte == 0 && i > 0)
				break; /* not the shortest form */
			return value;
		}
	}
	reader->failed = true;
	return 0;
}

int64_t p2p_read_zigzag(struct p2p_reader *reader)
{
	uint64_t value = p2p_read_varint(reader);

	return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
}

const uint8_t *p2p_read_bytes(struct p2p_reader *reader, size_t max, size_t *out_len)
{
	uint64_t len = p2p_read_varint(reader);
	const uint8_t *at;

	if (reader->failed || len > max) {
		reader->failed = true;
		*out_len = 0;
		return NULL;
	}
	at = p2p_read(reader, (size_t)len);
	*out_len = at ? (size_t)len : 0;
	return at;
}
