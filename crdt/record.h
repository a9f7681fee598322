/* Row records: the body of a changeset is a stream of them (decisions 6, 8).
 *
 * Every payload is state, never a delta. A record of a kind that this build does not know is
 * skipped by its length and kept in `waiting`.
 *
 * Layout, frozen: varint length of what follows | kind u8 (1 = row) | varint table index (in the
 * header's dictionary) | identity | varint causal length | varint origin (0 = the changeset itself,
 * else index + 1 in the header's dictionary) | flags u8 | varint number of cells | cells | varint
 * number of yields | yields (16 bytes each). Identity: kind u8, then 0: varint length and key bytes
 * (crdt/identity.h) | 1: 16 bytes | 2: zigzag. Cell: varint column index (in the schema record),
 * strictly ascending | tag u8 | content: tags 0-4 a value (crdt/value.h), 5 counter total (zigzag),
 * 6 reference (identity as above), 7 loose number (zigzag), 8 loose value (a value follows).
 * Key bytes are values one after the other; a key column that is a reference is the tag 6 and an
 * identity there. */
#ifndef P2P_CRDT_RECORD_H
#define P2P_CRDT_RECORD_H

#include <stdbool.h>

#include "crdt/value.h"
#include "proto/ident.h"

#define P2P_RECORD_ROW 1

enum p2p_identity_kind {
	P2P_IDENTITY_KEY,	/* bytes of the key's values in canonical form */
	P2P_IDENTITY_GENERATED, /* 16 bytes made when the row was first captured */
	P2P_IDENTITY_NUMBER,	/* the number that the row had when its table was enabled */
};

struct p2p_identity {
	enum p2p_identity_kind kind;
	const uint8_t *key; /* KEY: borrowed */
	size_t key_len;
	struct p2p_id id; /* GENERATED */
	int64_t number;	  /* NUMBER */
};

enum p2p_cell_tag {
	P2P_CELL_VALUE, /* stands for the tags 0-4 */
	P2P_CELL_COUNTER = 5,
	P2P_CELL_REFERENCE = 6,
	P2P_CELL_LOOSE = 7,
	P2P_CELL_LOOSE_VALUE = 8, /* of a FOREIGN KEY that is no reference: dangled where written */
};

struct p2p_cell {
	uint32_t column; /* index in the schema record */
	enum p2p_cell_tag tag;
	struct p2p_value value; /* VALUE, LOOSE_VALUE; COUNTER and LOOSE use value.integer */
	struct p2p_identity reference;
	int64_t added; /* COUNTER: of its total, since the author's one before; for lists only */
};

/* The record says everything about the row: all its cells are in it (an insert). */
#define P2P_RECORD_BORN 1

struct p2p_record {
	uint32_t table; /* index in the header's dictionary */
	struct p2p_identity identity;
	uint64_t causal_length;
	uint32_t origin; /* 0, or index + 1 in the header's dictionary */
	uint8_t flags;
	struct p2p_cell *cells; /* see the maker */
	size_t cell_count;
	const uint8_t *yields; /* 16 bytes each, borrowed */
	size_t yield_count;
};

/* Appends record with its length. Errors gather in buf. */
void p2p_record_put(struct p2p_buf *buf, const struct p2p_record *record);

/* Reads what follows the length (the length is read by the caller, who knows where bytes come
 * from). cells: room for cell_max cells, filled and pointed to by out->cells; bytes are borrowed
 * from data. Returns 0; P2P_RECORD_UNKNOWN for a kind of a later version; P2P_EPROTO for anything
 * malformed: bytes left over, columns not ascending, causal length 0 or above the limit, a dead row
 * with yields or with cells that are no counters; P2P_ETOOBIG for more cells than cell_max. */
#define P2P_RECORD_UNKNOWN 1
int p2p_record_read(struct p2p_record *out, struct p2p_cell *cells, size_t cell_max,
		    const void *data, size_t len) P2P_MUST_CHECK;

/* Identity as in the layout above, also the key of row states in the store. */
void p2p_identity_put(struct p2p_buf *buf, const struct p2p_identity *identity);
void p2p_identity_read(struct p2p_reader *reader, struct p2p_identity *out);
/* The 16 bytes that order rows of one table: generated ids as they are, numbers by
 * p2p_number_row_id(); not for KEY. */
void p2p_identity_row_id(struct p2p_id *out, const struct p2p_identity *identity,
			 const struct p2p_id *table);

#endif
