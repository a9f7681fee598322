/* Temporary numbers; see losers.h. */
#include "crdt/losers.h"

#include <stdlib.h>
#include <string.h>

#include "proto/mem.h"

void p2p_losers_init(struct p2p_losers *losers, struct p2p_numbers *numbers)
{
	memset(losers, 0, sizeof(*losers));
	losers->numbers = numbers;
	p2p_rowstate_init(&losers->state);
	p2p_buf_init(&losers->key, P2P_RECORD_BYTES_MAX);
}

void p2p_losers_deinit(struct p2p_losers *losers)
{
	p2p_free(losers->list.items);
	p2p_free(losers->more.items);
	p2p_free(losers->slots);
	p2p_rowstate_deinit(&losers->state);
	p2p_buf_deinit(&losers->key);
}

static int loser_add(struct p2p_claimants *list, const struct p2p_claimant *at)
{
	int rc = p2p_claimants_copy(list, at);

	if (!rc)
		list->items[list->count - 1].loser = true;
	return rc;
}

int p2p_losers_add(struct p2p_losers *losers, const struct p2p_claimant *at)
{
	return loser_add(&losers->list, at);
}

/* Loser by its encoded identity, in losers->key. */
static int loser_add_key(struct p2p_losers *losers, struct p2p_claimants *list)
{
	struct p2p_claimant at;
	bool complete;
	int rc;

	memset(&at, 0, sizeof(at));
	rc = p2p_claimant_identity(&at.identity, losers->key.data, losers->key.len);
	if (!rc)
		rc = p2p_claimant_load(losers->numbers, &losers->state, &at, &complete);
	/* Entries of rows that take no part were removed when they stopped to. */
	if (!rc && !complete)
		rc = P2P_ECORRUPT;
	return rc ? rc : loser_add(list, &at);
}

int p2p_losers_add_at(struct p2p_losers *losers, int64_t number)
{
	int rc = p2p_numbers_temp_at(losers->numbers, number, &losers->key);

	if (!rc)
		rc = loser_add_key(losers, &losers->list);
	return rc == P2P_ENOENT ? 0 : rc;
}

static size_t taken_slot(const struct p2p_losers *losers, int64_t number)
{
	size_t at = (size_t)((uint64_t)number * 0x9e3779b97f4a7c15ull >> 20) & losers->mask;

	while (losers->slots[at] && losers->slots[at] != number)
		at = (at + 1) & losers->mask;
	return at;
}

/* Room for count numbers. */
static int taken_init(struct p2p_losers *losers, size_t count)
{
	size_t size = 16;

	while (size < count * 2)
		size *= 2;
	p2p_free(losers->slots);
	losers->slots = p2p_calloc(size, sizeof(*losers->slots));
	losers->mask = size - 1;
	return losers->slots ? 0 : P2P_ENOMEM;
}

static void losers_sort(struct p2p_claimants *list)
{
	size_t i, kept = 0;

	if (list->count)
		qsort(list->items, list->count, sizeof(*list->items), p2p_claimant_row_cmp);
	for (i = 0; i < list->count; i++)
		if (!kept || p2p_claimant_row_cmp(&list->items[kept - 1], &list->items[i]) != 0)
			list->items[kept++] = list->items[i];
	list->count = kept;
}

/* Who shows this temporary number and is not among the losers: added to `more`. 1: somebody. */
static int outsider(struct p2p_losers *losers, int64_t number)
{
	struct p2p_claimants *list = &losers->list, *more = &losers->more;
	struct p2p_claimant *last;
	int rc = p2p_numbers_temp_at(losers->numbers, number, &losers->key);

	if (rc)
		return rc == P2P_ENOENT ? 0 : rc;
	rc = loser_add_key(losers, more);
	if (rc)
		return rc;
	last = &more->items[more->count - 1];
	if (!list->count ||
	    !bsearch(last, list->items, list->count, sizeof(*last), p2p_claimant_row_cmp))
		return 1;
	more->count--;
	return 0;
}

/* The next lower free number from the derived one. A row that stands in the way and was not among
 * the losers becomes one; then all is found once more. */
static int loser_assign(struct p2p_losers *losers, struct p2p_claimant *at)
{
	uint64_t tries;
	bool claimed;
	int rc;

	at->target = p2p_numbers_derived(&at->row_id);
	for (tries = 0; tries <= (uint64_t)-P2P_NUMBERS_LOWEST; tries++) {
		size_t slot = taken_slot(losers, at->target);

		if (!losers->slots[slot]) {
			rc = p2p_claimants_any(losers->numbers, &losers->state, at->target,
					       &claimed);
			if (rc)
				return rc;
			if (!claimed) {
				losers->slots[slot] = at->target;
				rc = outsider(losers, at->target);
				return rc < 0 ? rc : 0;
			}
		}
		at->target = p2p_numbers_next(at->target);
	}
	return P2P_ETOOBIG; /* 2^31 rows without a number */
}

/* Nobody is at `number` any more: rows of the run below it may move up. */
static int run_below(struct p2p_losers *losers, int64_t number)
{
	uint64_t tries;
	bool claimed;
	int rc = 0;

	for (tries = 0; tries <= (uint64_t)-P2P_NUMBERS_LOWEST; tries++) {
		number = p2p_numbers_next(number);
		rc = outsider(losers, number);
		if (rc < 0)
			return rc;
		if (rc || losers->slots[taken_slot(losers, number)])
			continue;
		rc = p2p_numbers_temp_at(losers->numbers, number, &losers->key);
		if (!rc)
			continue; /* one of the losers stands there still */
		if (rc != P2P_ENOENT)
			return rc;
		rc = p2p_claimants_any(losers->numbers, &losers->state, number, &claimed);
		if (rc || !claimed)
			return rc;
	}
	return 0;
}

static int runs_below(struct p2p_losers *losers)
{
	struct p2p_numbers *numbers = losers->numbers;
	size_t i;
	int rc = 0;

	for (i = 0; i < losers->list.count && !rc; i++) {
		const struct p2p_claimant *at = &losers->list.items[i];

		if (at->noted && at->shown < 0 && at->shown >= P2P_NUMBERS_LOWEST &&
		    !losers->slots[taken_slot(losers, at->shown)])
			rc = run_below(losers, at->shown);
	}
	for (i = 0; i < numbers->vacated_count && !rc; i++)
		rc = run_below(losers, numbers->vacated[i]);
	return rc;
}

int p2p_losers_find(struct p2p_losers *losers)
{
	struct p2p_claimants *list = &losers->list, *more = &losers->more;
	size_t i;
	int rc = 0;

	do {
		for (i = 0; i < more->count && !rc; i++)
			rc = loser_add(list, &more->items[i]);
		more->count = 0;
		losers_sort(list);
		if (!rc)
			rc = taken_init(losers, list->count + 1);
		for (i = 0; i < list->count && !rc; i++)
			rc = loser_assign(losers, &list->items[i]);
		if (!rc)
			rc = runs_below(losers);
	} while (!rc && more->count); /* it grows only, and never past the table */
	return rc;
}
