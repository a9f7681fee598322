/* The merged state of rows as text: what must be equal on all replicas. */
#ifndef P2P_TESTS_SUPPORT_STATETEXT_H
#define P2P_TESTS_SUPPORT_STATETEXT_H

#include "crdt/store.h"

/* A row: the bytes of p2p_identity_put(). */
struct state_text_key {
	const uint8_t *bytes; /* borrowed */
	size_t len;
};

/* One line, appended to out, or nothing if the row is not known here: causal length, clocks with
 * replica ids in full, numbers, parked values. hashes: those of the cells too, which are equal only
 * where all have one key. */
void state_text_row(struct p2p_store *store, const struct p2p_table *table,
		    const struct state_text_key *key, bool hashes, struct p2p_buf *out);

#endif
