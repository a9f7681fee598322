/* Who has which number, and moving the rows there; see numbers.h. */
#include <stdlib.h>
#include <string.h>

#include "crdt/losers.h"
#include "proto/check.h"
#include "proto/mem.h"

struct projection {
	struct p2p_numbers *numbers;
	struct p2p_claimants holders; /* that have to move to their number */
	struct p2p_losers losers;     /* whose temporary number is found anew */
	struct p2p_rowstate state;
};

static int number_cmp(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void touched_sort(struct p2p_numbers *numbers)
{
	size_t i, kept = 0;

	if (numbers->touched_count)
		qsort(numbers->touched, numbers->touched_count, sizeof(*numbers->touched),
		      number_cmp);
	for (i = 0; i < numbers->touched_count; i++)
		if (!kept || numbers->touched[kept - 1] != numbers->touched[i])
			numbers->touched[kept++] = numbers->touched[i];
	numbers->touched_count = kept;
}

static int collect_temp(void *ctx, const void *key, size_t key_len, int64_t shown)
{
	struct p2p_identity identity;
	int rc = p2p_claimant_identity(&identity, key, key_len);

	(void)shown;
	return rc ? rc : p2p_claimants_add(ctx, &identity);
}

/* Removes entries of rows that take no part any more. */
static int project_sweep(struct projection *projection)
{
	struct p2p_numbers *numbers = projection->numbers;
	struct p2p_claimants list = {0};
	uint8_t bytes[P2P_CLAIMANT_KEY_BYTES];
	struct p2p_buf key;
	bool complete;
	size_t i;
	int rc = p2p_store_temp_each(numbers->app->store, numbers->app->table, collect_temp, &list);

	for (i = 0; i < list.count && !rc; i++) {
		rc = p2p_claimant_load(numbers, &projection->state, &list.items[i], &complete);
		if (rc || complete)
			continue;
		p2p_claimant_key(&key, bytes, &list.items[i].identity);
		rc = p2p_numbers_forget(numbers, key.data, key.len);
	}
	p2p_free(list.items);
	return rc;
}

static int project_holder(struct projection *projection, struct p2p_claimant at)
{
	int rc = 0;

	at.target = at.claim;
	if (at.noted) {
		rc = p2p_numbers_vacate(projection->numbers, at.shown);
		if (!rc)
			rc = p2p_claimant_drop(projection->numbers, &at);
	}
	if (rc || at.shown == at.target)
		return rc;
	return p2p_claimants_copy(&projection->holders, &at);
}

/* One that stands at its derived number stays there, if nobody claims that. It may have lost
 * another number than the one before: its author gives it one again. */
static int project_loser(struct projection *projection, const struct p2p_claimant *at)
{
	bool claimed = true;
	int rc = 0;

	projection->numbers->noted |= at->in_table;
	if (at->noted && at->shown == p2p_numbers_derived(&at->row_id))
		rc = p2p_claimants_any(projection->numbers, &projection->state, at->shown,
				       &claimed);
	if (rc || !claimed)
		return rc;
	return p2p_losers_add(&projection->losers, at);
}

static int project_number(struct projection *projection, int64_t number)
{
	struct p2p_claimants list = {0};
	size_t holder = 0, i;
	int rc = p2p_claimants_of(projection->numbers, &projection->state, number, &list);

	for (i = 1; i < list.count; i++)
		if (p2p_claimant_cmp(&list.items[i], &list.items[holder]) < 0)
			holder = i;
	for (i = 0; i < list.count && !rc; i++)
		rc = i == holder ? project_holder(projection, list.items[i])
				 : project_loser(projection, &list.items[i]);
	p2p_free(list.items);
	return rc;
}

/* A negative number: somebody may claim it from now on, or no longer. After project_number() of all
 * of them, so that only losers have entries. */
static int project_negative(struct projection *projection, int64_t number)
{
	bool claimed;
	int rc = p2p_claimants_any(projection->numbers, &projection->state, number, &claimed);

	if (rc)
		return rc;
	if (!claimed)
		return p2p_numbers_vacate(projection->numbers, number);
	return p2p_losers_add_at(&projection->losers, number);
}

/* --- moving ---------------------------------------------------------------------------------- */

/* Moves to `to`; P2P_APPTABLE_TAKEN when something is there. */
static int claimant_move(struct p2p_numbers *numbers, struct p2p_claimant *at, int64_t to)
{
	int rc = 0;

	if (at->in_table && at->shown != to)
		rc = p2p_apptable_move(numbers->app, at->shown, to);
	if (rc == P2P_APPTABLE_UNIQUE || rc == P2P_APPTABLE_REFUSED)
		return P2P_ECORRUPT; /* only the number changes */
	if (!rc)
		at->shown = to;
	return rc;
}

/* Out of the way of others: numbers that nobody uses, from the lowest upwards. */
static int claimants_lift(struct p2p_numbers *numbers, struct p2p_claimants *list)
{
	int64_t scratch = INT64_MIN;
	size_t i, tries;
	int rc;

	for (i = 0; i < list->count; i++) {
		if (list->items[i].done)
			continue;
		rc = P2P_APPTABLE_TAKEN;
		/* only rows that claim such a number stand there: each stops one try */
		for (tries = 0; rc == P2P_APPTABLE_TAKEN && tries < SIZE_MAX; tries++)
			rc = claimant_move(numbers, &list->items[i], scratch++);
		if (rc)
			return rc;
	}
	return 0;
}

/* The number is held by a row that has no state: a write that no trigger saw. It stays where it is
 * until a rescan captures it; this row shows an interim number meanwhile. */
static int claimant_settle(struct p2p_numbers *numbers, struct p2p_claimant *at)
{
	int64_t number = p2p_numbers_derived(&at->row_id);
	int rc = P2P_APPTABLE_TAKEN;

	p2p_log(numbers->log, P2P_LOG_WARN, "crdt",
		"table %s: a number is held by a row that was not captured: rescan it",
		numbers->app->table->name);
	while (rc == P2P_APPTABLE_TAKEN) {
		rc = p2p_numbers_interim(numbers, number, &number);
		if (!rc)
			rc = claimant_move(numbers, at, number);
		if (rc == P2P_APPTABLE_TAKEN)
			number = p2p_numbers_next(number);
	}
	at->target = number;
	at->loser = true; /* as far as p2p_temp is concerned */
	return rc;
}

/* Where a row stood before anything moved. */
struct place {
	int64_t number;
	size_t mover; /* index in the list */
};

static int place_cmp(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	return number_cmp(&x->number, &y->number);
}

/* By number. NULL: no memory. */
static struct place *places_make(const struct p2p_claimants *list, size_t *out_count)
{
	struct place *places = p2p_calloc(list->count + 1, sizeof(*places));
	size_t i;

	*out_count = 0;
	for (i = 0; places && i < list->count; i++) {
		if (!list->items[i].in_table)
			continue;
		places[*out_count].number = list->items[i].shown;
		places[(*out_count)++].mover = i;
	}
	if (*out_count)
		qsort(places, *out_count, sizeof(*places), place_cmp);
	return places;
}

/* The row at this number has not moved on yet. Its own move would take along whoever came there, if
 * a REPLACE pushed it out and nobody noticed so far. */
static bool place_kept(const struct place *places, size_t count, const struct p2p_claimants *list,
		       int64_t number)
{
	struct place wanted = {.number = number};
	const struct place *at = bsearch(&wanted, places, count, sizeof(wanted), place_cmp);

	return at && !list->items[at->mover].done;
}

/* Losers stand first: their numbers are free but for other losers', and they free theirs.
 * *out_pending: some found a row at their number. */
static int claimants_advance(struct p2p_numbers *numbers, struct p2p_claimants *list,
			     bool *out_pending)
{
	size_t i, count;
	struct place *places = places_make(list, &count);
	int rc = places ? 0 : P2P_ENOMEM;

	*out_pending = false;
	for (i = 0; i < list->count && rc >= 0; i++) {
		struct p2p_claimant *at = &list->items[i];

		rc = P2P_APPTABLE_TAKEN;
		if (at->shown == at->target || !place_kept(places, count, list, at->target))
			rc = claimant_move(numbers, at, at->target);
		at->done = rc == 0;
		*out_pending |= rc > 0;
	}
	p2p_free(places);
	return rc < 0 ? rc : 0;
}

static int claimants_move(struct p2p_numbers *numbers, struct p2p_claimants *list)
{
	bool pending;
	size_t i;
	int rc = claimants_advance(numbers, list, &pending);

	if (rc || !pending)
		return rc;
	rc = claimants_lift(numbers, list);
	for (i = 0; i < list->count && rc >= 0; i++) {
		if (list->items[i].done)
			continue;
		rc = claimant_move(numbers, &list->items[i], list->items[i].target);
		if (rc == P2P_APPTABLE_TAKEN)
			rc = claimant_settle(numbers, &list->items[i]);
	}
	return rc;
}

/* The rows that move, losers first; their entries are removed, for a number stands once in
 * p2p_temp. */
static int project_movers(struct projection *projection, struct p2p_claimants *list)
{
	struct p2p_claimants *losers = &projection->losers.list, *holders = &projection->holders;
	size_t i;
	int rc = 0;

	for (i = 0; i < losers->count && !rc; i++) {
		struct p2p_claimant *at = &losers->items[i];

		if (at->noted && at->shown == at->target)
			continue;
		if (at->noted)
			rc = p2p_claimant_drop(projection->numbers, at);
		if (!rc)
			rc = p2p_claimants_copy(list, at);
	}
	for (i = 0; i < holders->count && !rc; i++)
		rc = p2p_claimants_copy(list, &holders->items[i]);
	return rc;
}

static int project_move(struct projection *projection)
{
	struct p2p_numbers *numbers = projection->numbers;
	struct p2p_claimants list = {0};
	int64_t used = 0;
	size_t i;
	int rc = project_movers(projection, &list);

	if (!rc && numbers->moving && list.count)
		rc = numbers->moving(numbers->ctx, &list, false);
	if (!rc)
		rc = claimants_move(numbers, &list);
	for (i = 0; i < list.count && !rc; i++) {
		if (list.items[i].loser)
			rc = p2p_claimant_note(numbers, &list.items[i], list.items[i].target);
		if (!rc && numbers->given)
			rc = numbers->given(numbers->ctx, &list.items[i]);
		if (list.items[i].target > used)
			used = list.items[i].target;
	}
	if (!rc && used > 0)
		rc = p2p_store_number_used(numbers->app->store, numbers->app->table, used);
	if (!rc && numbers->moving && list.count)
		rc = numbers->moving(numbers->ctx, &list, true);
	p2p_free(list.items);
	return rc;
}

static int project_all(struct projection *projection)
{
	struct p2p_numbers *numbers = projection->numbers;
	size_t i;
	int rc = p2p_numbers_load(numbers);

	if (!rc && numbers->sweep && numbers->temp_count)
		rc = project_sweep(projection);
	for (i = 0; i < numbers->touched_count && !rc; i++)
		rc = project_number(projection, numbers->touched[i]);
	for (i = 0; i < numbers->touched_count && !rc && numbers->touched[i] < 0; i++)
		rc = project_negative(projection, numbers->touched[i]);
	if (!rc &&
	    (projection->losers.list.count || (numbers->vacated_count && numbers->temp_count)))
		rc = p2p_losers_find(&projection->losers);
	return rc ? rc : project_move(projection);
}

int p2p_numbers_project(struct p2p_numbers *numbers)
{
	struct projection projection;
	int rc;

	if (!numbers->touched_count && !numbers->vacated_count && !numbers->sweep)
		return 0;
	touched_sort(numbers);
	memset(&projection, 0, sizeof(projection));
	projection.numbers = numbers;
	p2p_rowstate_init(&projection.state);
	p2p_losers_init(&projection.losers, numbers);
	rc = project_all(&projection);
	p2p_free(projection.holders.items);
	p2p_losers_deinit(&projection.losers);
	p2p_rowstate_deinit(&projection.state);
	if (!rc) {
		numbers->touched_count = numbers->vacated_count = 0;
		numbers->sweep = false;
	}
	return rc;
}
