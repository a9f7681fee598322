/* What a replica keeps of one row besides its values: causal length, clocks, cell hashes.
 *
 * In memory every cell has its own clock and hash; stored, the clock that most cells share is
 * written once and only the exceptions after it (design 4.2). Cells are indexed by the table's
 * column *slot*: a small number given to a column once and kept for ever, so that added and dropped
 * columns move nothing. For tables with generated identity the slot of the INTEGER PRIMARY KEY
 * holds the clock of the row's claim to its number.
 *
 * Clocks name a replica by the small number that the app file's p2p_replica table gives it. */
#ifndef P2P_CRDT_ROWSTATE_H
#define P2P_CRDT_ROWSTATE_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/buf.h"
#include "proto/ident.h"

struct p2p_cellstate {
	uint64_t stamp;	  /* HLC value; 0: this cell was never written */
	uint32_t replica; /* small number, local to the app file */
	uint64_t hash;	  /* p2p_value_hash() of the value, 0 when none is known */
};

enum p2p_rowstate_flags {
	P2P_ROW_BORN = 1,   /* a record with all cells was merged in this life */
	P2P_ROW_PARKED = 2, /* alive but not in the application's table: values are in p2p_parked */
};

struct p2p_rowstate {
	uint64_t causal_length; /* 0: nothing known of this row; odd: alive; even: deleted */
	uint8_t flags;
	uint64_t stamp; /* of the write that gave this causal length: for dead rows the delete's */
	uint32_t replica;
	struct p2p_cellstate *cells; /* owned, cell_count of them; NULL for dead rows */
	uint32_t cell_count;	     /* slots 0..cell_count-1 */
};

void p2p_rowstate_init(struct p2p_rowstate *state);
void p2p_rowstate_deinit(struct p2p_rowstate *state);
/* Makes slots 0..count-1 exist, new ones never written. P2P_ENOMEM, P2P_ETOOBIG. */
int p2p_rowstate_resize(struct p2p_rowstate *state, uint32_t count) P2P_MUST_CHECK;
/* Deep copy into an initialised or used target. P2P_ENOMEM: target unchanged. */
int p2p_rowstate_copy(struct p2p_rowstate *target,
		      const struct p2p_rowstate *source) P2P_MUST_CHECK;
static inline bool p2p_rowstate_alive(const struct p2p_rowstate *state)
{
	return state->causal_length % 2 == 1;
}

/* Compact form. Errors gather in buf. */
void p2p_rowstate_put(struct p2p_buf *buf, const struct p2p_rowstate *state);
/* P2P_ECORRUPT for bytes that p2p_rowstate_put() does not write, P2P_ENOMEM. out is initialised or
 * used and is reused. */
int p2p_rowstate_read(struct p2p_rowstate *out, const void *data, size_t len) P2P_MUST_CHECK;

#endif
