/* Numbers of rows with generated identity: who has the number it claims, who shows a temporary one.
 *
 * A pure function of the merged state of one table. Complete live rows (born, with a claim) take
 * part, parked ones too. Of those that claim one number the earliest claim (stamp, replica id, then
 * row id) has it. Every other shows a temporary number: -(1 + h mod 2^31), h being the first 4
 * bytes, big-endian, of BLAKE2b-128("p2pnode/temporary/1", row id); in the order of row ids, one
 * whose number is claimed by such a row or shown already takes the next lower free one, wrapping
 * from -2^31 to -1.
 *
 * Found locally: a temporary number depends only on the run of used numbers that it is in, so a
 * change touches the rows of its run, not the table.
 *
 * Between projections p2p_temp says what the application's table shows where that is not the claim:
 * also interim numbers of rows that were just inserted. Invariant: shown = p2p_temp, else claim. */
#ifndef P2P_CRDT_NUMBERS_H
#define P2P_CRDT_NUMBERS_H

#include <stdbool.h>

#include "crdt/apptable.h"
#include "proto/log.h"

/* Temporary numbers are in -2^31..-1. */
#define P2P_NUMBERS_LOWEST (-2147483648ll)

struct p2p_claimants;
struct p2p_claimant;
struct p2p_numbers_hint;

struct p2p_numbers {
	struct p2p_apptable *app; /* borrowed */
	const struct p2p_log *log;
	int64_t *touched; /* owned: numbers whose holder may have changed */
	size_t touched_count, touched_cap;
	int64_t *vacated; /* owned: temporary numbers that rows left */
	size_t vacated_count, vacated_cap;
	size_t temp_count; /* entries of p2p_temp */
	/* Who was found to show a number, by number: tried first, for any number of rows may claim
	 * one. Owned. */
	struct p2p_numbers_hint *hints;
	bool noted;  /* one was made, or a row that may have one was shown; who asks resets it */
	bool loaded; /* temp_count is known */
	bool sweep;  /* entries of rows that died elsewhere may be there */
	bool yields_known, yields; /* rows of the table yielded */
	/* Rows are about to move (shown to target), or, done, have: NULL allowed. */
	int (*moving)(void *ctx, struct p2p_claimants *list, bool done);
	/* A row has another number now: its own, or, a loser, a temporary one. NULL allowed. */
	int (*given)(void *ctx, const struct p2p_claimant *at);
	void *ctx;
};

void p2p_numbers_init(struct p2p_numbers *numbers, struct p2p_apptable *app,
		      const struct p2p_log *log);
void p2p_numbers_deinit(struct p2p_numbers *numbers);

/* The first temporary number to try. */
int64_t p2p_numbers_derived(const struct p2p_id *row_id);
/* The next lower one, wrapping. */
int64_t p2p_numbers_next(int64_t number);

/* Number that the application's table shows (or would show, when parked) for a live row. */
int p2p_numbers_shown(struct p2p_numbers *numbers, const void *key, size_t key_len, int64_t claim,
		      int64_t *out) P2P_MUST_CHECK;
/* Projected later, whoever claims it. */
int p2p_numbers_touch(struct p2p_numbers *numbers, int64_t number) P2P_MUST_CHECK;
/* As touch, when a row other than `self` claims the number, or a temporary one may be in its way.
 */
int p2p_numbers_check(struct p2p_numbers *numbers, const struct p2p_identity *self,
		      int64_t number) P2P_MUST_CHECK;
/* Notes that the table shows `shown` for the row until the next projection. */
int p2p_numbers_note(struct p2p_numbers *numbers, const void *key, size_t key_len,
		     int64_t shown) P2P_MUST_CHECK;
/* Drops that entry, if there is one. */
int p2p_numbers_drop(struct p2p_numbers *numbers, const void *key, size_t key_len) P2P_MUST_CHECK;
/* The row dies: drops its entry. */
int p2p_numbers_forget(struct p2p_numbers *numbers, const void *key, size_t key_len) P2P_MUST_CHECK;
/* A number for a row that cannot be inserted under its own: start at derived, then next lower ones;
 * skips temporary ones in force. */
int p2p_numbers_interim(struct p2p_numbers *numbers, int64_t start, int64_t *out) P2P_MUST_CHECK;
/* Brings the application's table in line (crdt/projection.c). Row states stay as they are. */
int p2p_numbers_project(struct p2p_numbers *numbers) P2P_MUST_CHECK;

/* For the projection: counts the entries, once. */
int p2p_numbers_load(struct p2p_numbers *numbers) P2P_MUST_CHECK;
/* Entry of a row, or the row of an entry (its key replaces out's content). P2P_ENOENT. */
int p2p_numbers_temp(struct p2p_numbers *numbers, const void *key, size_t key_len,
		     int64_t *out) P2P_MUST_CHECK;
int p2p_numbers_temp_at(struct p2p_numbers *numbers, int64_t number,
			struct p2p_buf *out_key) P2P_MUST_CHECK;
/* A row left a temporary number: others may move up. */
int p2p_numbers_vacate(struct p2p_numbers *numbers, int64_t number) P2P_MUST_CHECK;
/* True when a live row takes part in the projection. */
bool p2p_numbers_complete(const struct p2p_table *table, const struct p2p_rowstate *state);

#endif
