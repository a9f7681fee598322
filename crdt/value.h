/* SQLite values outside SQLite: bit-exact, hashed, ordered by their bytes.
 *
 * Round trip: NULL, every int64, every REAL bit pattern that SQLite stores, TEXT with NUL or
 * invalid UTF-8, empty TEXT and BLOB (design 4.2). */
#ifndef P2P_CRDT_VALUE_H
#define P2P_CRDT_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/buf.h"

struct sqlite3_stmt;
struct sqlite3_value;

enum p2p_value_type { P2P_NULL, P2P_INTEGER, P2P_REAL, P2P_TEXT, P2P_BLOB };

struct p2p_value {
	enum p2p_value_type type;
	int64_t integer;      /* INTEGER */
	double real;	      /* REAL */
	const uint8_t *bytes; /* TEXT, BLOB; borrowed, see the maker */
	size_t len;
};

/* Key of the cell hashes of one database file: 16 random bytes, local, never sent. */
struct p2p_hash_key {
	uint8_t bytes[16];
};

/* Column of the current row; bytes are borrowed until the next step, reset or type conversion.
 * P2P_ENOMEM when SQLite ran out of memory while fetching; P2P_ETOOBIG over P2P_VALUE_BYTES_MAX. */
int p2p_value_column(struct p2p_value *out, struct sqlite3_stmt *stmt, int column) P2P_MUST_CHECK;
/* Binds to parameter index (from 1). Bytes stay borrowed until the statement is reset or bound anew
 * (SQLITE_STATIC). P2P_ENOMEM, P2P_ETOOBIG. */
int p2p_value_bind(struct sqlite3_stmt *stmt, int index,
		   const struct p2p_value *value) P2P_MUST_CHECK;

/* Encoding, frozen: tag byte (the type), then nothing | zigzag varint | 8 bytes big-endian IEEE
 * bits | varint length and bytes. */
void p2p_value_put(struct p2p_buf *buf, const struct p2p_value *value);
/* Bytes are borrowed from the reader's data. A bad tag or length fails the reader. */
void p2p_value_read(struct p2p_reader *reader, struct p2p_value *out);
/* As p2p_value_read when the tag byte was read already. */
void p2p_value_read_tagged(struct p2p_reader *reader, uint8_t tag, struct p2p_value *out);

/* Total order of values for the final tie-break of the merge rule: by type, then integer value,
 * REAL bits as unsigned, bytes. Not SQL's order; the same on every node. */
int p2p_value_cmp(const struct p2p_value *a, const struct p2p_value *b);
bool p2p_value_equal(const struct p2p_value *a, const struct p2p_value *b);
/* SipHash-2-4 of type and content. Never 0: 0 stands for "no value known". */
uint64_t p2p_value_hash(const struct p2p_hash_key *key, const struct p2p_value *value);

#endif
