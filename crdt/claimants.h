/* Rows that claim a number: read from their states, in the order that decides. */
#ifndef P2P_CRDT_CLAIMANTS_H
#define P2P_CRDT_CLAIMANTS_H

#include "crdt/numbers.h"

/* Room for the encoded identity of a row with a number: at most 1 + 16 bytes. */
#define P2P_CLAIMANT_KEY_BYTES 64

/* A complete live row, and where it goes. */
struct p2p_claimant {
	struct p2p_identity identity; /* GENERATED or NUMBER: borrows nothing */
	struct p2p_id row_id;
	struct p2p_clock clock; /* of the claim, or of the row's yield */
	bool yielded;		/* comes after others of the same clock */
	int64_t claim, shown, target;
	bool in_table; /* not parked */
	bool noted;    /* has an entry in p2p_temp */
	bool loser;    /* is to have one */
	bool done;
};

struct p2p_claimants {
	struct p2p_claimant *items; /* owned: p2p_free() */
	size_t count, cap;
};

/* out: over `bytes`, never grows. */
void p2p_claimant_key(struct p2p_buf *out, uint8_t bytes[P2P_CLAIMANT_KEY_BYTES],
		      const struct p2p_identity *identity);
/* P2P_ECORRUPT: no identity of a row with a number. */
int p2p_claimant_identity(struct p2p_identity *out, const void *key, size_t len) P2P_MUST_CHECK;
/* Appends; all else zero. */
int p2p_claimants_add(struct p2p_claimants *list,
		      const struct p2p_identity *identity) P2P_MUST_CHECK;
/* Appends a copy. */
int p2p_claimants_copy(struct p2p_claimants *list, const struct p2p_claimant *at) P2P_MUST_CHECK;
/* Fills in what the row state says. *out_complete: the row takes part. state is used. */
int p2p_claimant_load(struct p2p_numbers *numbers, struct p2p_rowstate *state,
		      struct p2p_claimant *at, bool *out_complete) P2P_MUST_CHECK;
/* Appends the complete live claimants of a number. */
int p2p_claimants_of(struct p2p_numbers *numbers, struct p2p_rowstate *state, int64_t number,
		     struct p2p_claimants *list) P2P_MUST_CHECK;
/* Some complete live row claims the number. */
int p2p_claimants_any(struct p2p_numbers *numbers, struct p2p_rowstate *state, int64_t number,
		      bool *out) P2P_MUST_CHECK;
/* Order of claims to one number, and of rows. */
int p2p_claimant_cmp(const struct p2p_claimant *a, const struct p2p_claimant *b);
int p2p_claimant_row_cmp(const void *a, const void *b);
/* p2p_numbers_note() and p2p_numbers_drop() for the row. */
int p2p_claimant_note(struct p2p_numbers *numbers, struct p2p_claimant *at,
		      int64_t shown) P2P_MUST_CHECK;
int p2p_claimant_drop(struct p2p_numbers *numbers, struct p2p_claimant *at) P2P_MUST_CHECK;
/* Identity of the row that shows `number`, or, parked, would. moving: rows that are about to move,
 * whose `shown` counts; NULL: none. P2P_ENOENT. */
int p2p_claimants_shows(struct p2p_numbers *numbers, int64_t number,
			const struct p2p_claimants *moving,
			struct p2p_identity *out) P2P_MUST_CHECK;
/* Whether a row other than this one shows, or would show, the number. */
int p2p_claimants_other(struct p2p_numbers *numbers, int64_t number,
			const struct p2p_identity *self, bool *out) P2P_MUST_CHECK;
/* Identity of the row that shows `number`. P2P_ENOENT. */
int p2p_claimants_at(struct p2p_numbers *numbers, int64_t number,
		     struct p2p_identity *out) P2P_MUST_CHECK;

#endif
