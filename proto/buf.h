/* Bounded byte buffers: a growing one with a maximum (writing), and a cursor (reading).
 *
 * Writers gather their error: a failed put marks the buffer, later puts do nothing, and
 * p2p_buf_error() is asked once at the end. A reader does the same: after a read past the end or
 * a malformed varint every read gives zero, and p2p_reader_error() tells. */
#ifndef P2P_PROTO_BUF_H
#define P2P_PROTO_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"

struct p2p_buf {
	uint8_t *data; /* owned */
	size_t len;
	size_t cap;
	size_t max; /* bytes it may ever hold */
	int error;  /* 0, P2P_ENOMEM or P2P_ETOOBIG */
};

void p2p_buf_init(struct p2p_buf *buf, size_t max);
void p2p_buf_deinit(struct p2p_buf *buf);
void p2p_buf_reset(struct p2p_buf *buf); /* empties it and clears the error, keeps the memory */
int p2p_buf_error(const struct p2p_buf *buf) P2P_MUST_CHECK;

void p2p_buf_put(struct p2p_buf *buf, const void *data, size_t len);
void p2p_buf_put_u8(struct p2p_buf *buf, uint8_t value);
void p2p_buf_put_u16(struct p2p_buf *buf, uint16_t value); /* fixed widths are big-endian */
void p2p_buf_put_u32(struct p2p_buf *buf, uint32_t value);
void p2p_buf_put_u64(struct p2p_buf *buf, uint64_t value);
void p2p_buf_put_varint(struct p2p_buf *buf, uint64_t value); /* LEB128, shortest form */
void p2p_buf_put_zigzag(struct p2p_buf *buf, int64_t value);
/* Varint length, then the bytes. */
void p2p_buf_put_bytes(struct p2p_buf *buf, const void *data, size_t len);
/* Drops the first len bytes (at most buf->len). */
void p2p_buf_consume(struct p2p_buf *buf, size_t len);
/* Room for len more bytes at data + len; NULL (and the error set) if that is over the maximum. */
uint8_t *p2p_buf_reserve(struct p2p_buf *buf, size_t len);

struct p2p_reader {
	const uint8_t *data; /* borrowed for the life of the reader */
	size_t len;
	size_t pos;
	bool failed;
};

void p2p_reader_init(struct p2p_reader *reader, const void *data, size_t len);
/* P2P_EPROTO after any failed read, else 0. */
int p2p_reader_error(const struct p2p_reader *reader) P2P_MUST_CHECK;
size_t p2p_reader_left(const struct p2p_reader *reader);
uint8_t p2p_read_u8(struct p2p_reader *reader);
uint16_t p2p_read_u16(struct p2p_reader *reader);
uint32_t p2p_read_u32(struct p2p_reader *reader);
uint64_t p2p_read_u64(struct p2p_reader *reader);
/* Refuses more than 10 bytes, overflow, and any but the shortest form (one value, one encoding). */
uint64_t p2p_read_varint(struct p2p_reader *reader);
int64_t p2p_read_zigzag(struct p2p_reader *reader);
/* len bytes, borrowed from the reader's data; NULL on failure. */
const uint8_t *p2p_read(struct p2p_reader *reader, size_t len);
/* Copies len bytes to out; zeroes it on failure. */
void p2p_read_into(struct p2p_reader *reader, void *out, size_t len);
/* Varint length (at most max), then that many bytes, borrowed. */
const uint8_t *p2p_read_bytes(struct p2p_reader *reader, size_t max, size_t *out_len);

#endif
