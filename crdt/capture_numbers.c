/* Permanent numbers: a row of ours that lost its number to an earlier claim shows a temporary one
 * (crdt/numbers.h) until we, its author, give it another, once for each number lost.
 *
 * An ordinary change of the number's cell, but not one of the application's: its value is not in
 * the table. The row has it in the overlay (`renumbered`), is frozen with it, and moves there when
 * the overlay is folded and the merged state projected. Until then the application may take the
 * very number for a new row; the row that was to have it is given the next one, in the same freeze.
 *
 * The numbers are above all that the table has, and have, divided by the number of members, the
 * member's own rank as the rest: so what two of them give never collides, whatever each of them had
 * seen. Where that would pass the greatest integer, free ones below, spread by the row's identity.
 */
#include <stdlib.h>
#include <string.h>

#include "crdt/capture_private.h"
#include "crdt/claimants.h"
#include "proto/check.h"
#include "proto/mem.h"

/* Where numbers are looked for when there is no room above. */
#define NUMBER_LOW_MASK 0x3fffffffffffffffull

/* One table being numbered. */
struct numbering {
	struct p2p_capture *capture;
	struct p2p_table *table;
	struct p2p_numbering place;
	int64_t top;	/* greatest number that is used */
	uint64_t given; /* so far */
};

/* --- a number that nobody has ----------------------------------------------------------------- */

static bool overlay_has_number(const struct numbering *n, int64_t number)
{
	const struct p2p_overlay_row *row = n->capture->overlay.first;

	for (; row; row = row->next_row)
		if (row->table == n->table->number && p2p_rowstate_alive(&row->state) &&
		    (row->number == number || row->shown == number))
			return true;
	return false;
}

static int app_has_number(const struct numbering *n, int64_t number, bool *out)
{
	struct p2p_store *store = n->capture->config.store;
	struct p2p_value key;
	struct sqlite3_stmt *stmt;
	int rc;

	memset(&key, 0, sizeof(key));
	key.type = P2P_INTEGER;
	key.integer = number;
	rc = p2p_store_app_row(store, n->table, &key, &stmt);
	p2p_store_row_done(store);
	*out = rc == 0;
	return rc == P2P_ENOENT ? 0 : rc;
}

static int number_is_used(const struct numbering *n, int64_t number, bool *out)
{
	struct capture_finder *finder;
	int rc;

	*out = overlay_has_number(n, number);
	if (*out)
		return 0;
	rc = app_has_number(n, number, out);
	if (!rc && !*out)
		rc = p2p_capture_finder(n->capture, n->table, &finder);
	if (!rc && !*out)
		rc = p2p_claimants_any(&finder->numbers, &n->capture->state, number, out);
	return rc;
}

static uint64_t number_low(const struct p2p_id *row_id)
{
	struct p2p_hasher hasher;
	uint8_t out[P2P_ID_BYTES];
	uint64_t low = 0;
	size_t i;

	p2p_hasher_init(&hasher, "p2pnode/permanent/1", sizeof(out));
	p2p_hasher_add(&hasher, row_id->bytes, sizeof(row_id->bytes));
	p2p_hasher_final(&hasher, out, sizeof(out));
	for (i = 0; i < sizeof(low); i++)
		low = low << 8 | out[i];
	return low & NUMBER_LOW_MASK;
}

static int number_below(const struct numbering *n, const struct p2p_id *row_id, int64_t *out)
{
	uint64_t at = number_low(row_id), tries;
	bool used = true;
	int rc = 0;

	/* every number in the way belongs to another row */
	for (tries = 0; used && !rc && tries < NUMBER_LOW_MASK; tries++) {
		at = (at + 1) & NUMBER_LOW_MASK;
		*out = (int64_t)(at | 1); /* 0 is a number that applications use as none */
		at |= 1;
		rc = number_is_used(n, *out, &used);
	}
	return rc;
}

static int number_next(struct numbering *n, const struct p2p_id *row_id, int64_t *out)
{
	uint64_t members = n->place.members, next = (uint64_t)n->top + 1,
		 above = 1 + (n->place.rank + members - next % members) % members +
			 n->given * members;

	if (above > (uint64_t)(INT64_MAX - n->top))
		return number_below(n, row_id, out);
	n->given++;
	*out = n->top + (int64_t)above;
	return 0;
}

static int numbering_begin(struct numbering *n, struct p2p_capture *capture,
			   struct p2p_table *table)
{
	const struct p2p_overlay_row *row = capture->overlay.first;
	int rc;

	memset(n, 0, sizeof(*n));
	n->capture = capture;
	n->table = table;
	n->place = capture->numbering;
	rc = p2p_store_number_top(capture->config.store, table, &n->top);
	for (; row; row = row->next_row)
		if (row->table == table->number && p2p_rowstate_alive(&row->state) &&
		    row->number > n->top)
			n->top = row->number;
	return rc;
}

/* --- giving ----------------------------------------------------------------------------------- */

void p2p_capture_number_given(struct p2p_capture *capture, struct p2p_overlay_row *row)
{
	if (row->number < capture->given_from)
		capture->given_from = row->number;
	if (row->number > capture->given_to)
		capture->given_to = row->number;
}

bool p2p_capture_numbering(const struct p2p_capture *capture)
{
	return capture->given_from <= capture->given_to;
}

static void row_number(struct p2p_capture *capture, const struct p2p_table *table,
		       struct p2p_overlay_row *row, int64_t number)
{
	uint32_t slot = capture_number_slot(table);
	struct p2p_value value;

	memset(&value, 0, sizeof(value));
	value.type = P2P_INTEGER;
	value.integer = row->number = number;
	row->state.cells[slot].hash =
		p2p_value_hash(p2p_store_hash_key(capture->config.store), &value);
	p2p_capture_cell_turn(capture, row, slot, (p2p_ordinal)capture->turn_count);
	p2p_capture_provisional_set(capture, row, true);
	row->renumbered = row->number_changed = true;
	row->number_taken = false;
	p2p_capture_number_given(capture, row);
}

/* Shares a changeset with what was written a moment ago; ends where this read snapshot ends. */
static int turn_now(struct p2p_capture *capture)
{
	p2p_ordinal ordinal;
	int rc = p2p_capture_turn(capture, (int64_t)p2p_env_wall_ms(capture->config.env), &ordinal);

	if (!rc)
		capture->turns[ordinal - 1].cut = true;
	return rc;
}

static int give(struct numbering *n, const struct p2p_claimant *at)
{
	struct p2p_capture *capture = n->capture;
	uint8_t bytes[P2P_CLAIMANT_KEY_BYTES];
	struct p2p_overlay_row *row;
	struct p2p_buf key;
	int64_t number;
	int rc;

	p2p_claimant_key(&key, bytes, &at->identity);
	rc = number_next(n, &at->row_id, &number);
	if (!rc)
		rc = p2p_capture_take(capture, n->table, key.data, key.len, &row);
	if (rc)
		return rc;
	row->shown = at->shown;
	row_number(capture, n->table, row, number);
	return 0;
}

/* --- who gets one ----------------------------------------------------------------------------- */

static int loser_collect(void *ctx, const void *key, size_t key_len, int64_t shown)
{
	struct p2p_identity identity;
	int rc = p2p_claimant_identity(&identity, key, key_len);

	(void)shown;
	return rc ? rc : p2p_claimants_add(ctx, &identity);
}

static bool is_ours(const struct p2p_capture *capture, const struct p2p_id *replica)
{
	struct p2p_key node;

	if (p2p_id_cmp(replica, &capture->config.replica) == 0)
		return true;
	return p2p_authority_replica_node(capture->config.authority, replica, &node) == 0 &&
	       p2p_key_cmp(&node, &capture->config.signer->node) == 0;
}

/* Does another row have its number, and is it still where the file says? */
static int loser_is_one(struct numbering *n, struct p2p_numbers *numbers,
			const struct p2p_claimant *at, bool *out)
{
	struct p2p_claimants list = {0};
	uint8_t bytes[P2P_CLAIMANT_KEY_BYTES];
	struct p2p_overlay_row *row;
	struct p2p_buf key;
	size_t i;
	int rc;

	p2p_claimant_key(&key, bytes, &at->identity);
	*out = false;
	row = p2p_overlay_find(&n->capture->overlay, n->table->number, key.data, key.len);
	if (row && (row->renumbered || !p2p_rowstate_alive(&row->state)))
		return 0;
	rc = p2p_claimants_of(numbers, &n->capture->state, at->claim, &list);
	for (i = 0; i < list.count && !rc; i++)
		*out |= p2p_claimant_cmp(&list.items[i], at) < 0;
	p2p_free(list.items);
	return rc || !*out ? rc : app_has_number(n, at->shown, out);
}

/* Those of ours, of what stands in p2p_temp; keeps them in the list. */
static int losers_choose(struct numbering *n, struct p2p_claimants *list)
{
	struct capture_finder *finder;
	bool complete, is;
	size_t i, kept = 0;
	int rc = p2p_capture_finder(n->capture, n->table, &finder);

	for (i = 0; i < list->count && !rc; i++) {
		struct p2p_claimant *at = &list->items[i];

		rc = p2p_claimant_load(&finder->numbers, &n->capture->state, at, &complete);
		if (rc || !complete || !at->in_table || !is_ours(n->capture, &at->clock.replica))
			continue;
		rc = loser_is_one(n, &finder->numbers, at, &is);
		if (!rc && is)
			list->items[kept++] = *at;
	}
	list->count = kept;
	return rc;
}

/* As they were numbered. */
static int by_claim(const void *a, const void *b)
{
	const struct p2p_claimant *x = a, *y = b;

	if (x->claim != y->claim)
		return x->claim < y->claim ? -1 : 1;
	return p2p_id_cmp(&x->row_id, &y->row_id);
}

static int number_table(struct p2p_capture *capture, struct p2p_table *table,
			struct p2p_freeze *freeze)
{
	struct p2p_claimants list = {0};
	struct numbering n = {.capture = capture, .table = table};
	size_t i;
	int rc = p2p_store_temp_each(capture->config.store, table, loser_collect, &list);

	if (!rc && list.count)
		rc = losers_choose(&n, &list);
	if (!rc && list.count)
		rc = numbering_begin(&n, capture, table);
	if (!rc && list.count)
		rc = turn_now(capture);
	if (!rc && list.count)
		qsort(list.items, list.count, sizeof(*list.items), by_claim);
	for (i = 0; i < list.count && !rc && freeze->numbered < freeze->numbering->most; i++) {
		rc = give(&n, &list.items[i]);
		freeze->numbered++;
	}
	freeze->numbering_more |= i < list.count;
	p2p_free(list.items);
	return rc;
}

int p2p_capture_number(struct p2p_capture *capture, struct p2p_freeze *freeze)
{
	struct p2p_store *store = capture->config.store;
	size_t i;
	int rc = 0;

	capture->numbering = *freeze->numbering;
	for (i = 0; i < p2p_store_table_count(store) && !rc; i++) {
		struct p2p_table *table = p2p_store_table(store, i);

		if (table->state == P2P_TABLE_LIVE && table->generated_identity)
			rc = number_table(capture, table, freeze);
	}
	return rc;
}

/* --- an application was faster ---------------------------------------------------------------- */

void p2p_capture_number_taken(struct p2p_capture *capture, uint32_t table, int64_t number)
{
	struct p2p_overlay_row *row;

	if (number < capture->given_from || number > capture->given_to)
		return;
	for (row = capture->overlay.first; row; row = row->next_row)
		if (row->renumbered && row->table == table && row->number == number)
			row->number_taken = capture->given_twice = true;
}

static int again_in_table(struct p2p_capture *capture, struct p2p_table *table)
{
	struct p2p_overlay_row *row;
	struct p2p_id row_id;
	struct numbering n;
	int64_t number;
	int rc = 0;

	memset(&n, 0, sizeof(n));
	for (row = capture->overlay.first; row && !rc; row = row->next_row) {
		if (row->table != table->number || !row->renumbered || !row->number_taken)
			continue;
		if (!n.table)
			rc = numbering_begin(&n, capture, table);
		p2p_identity_row_id(&row_id, &row->identity, &table->id);
		if (!rc)
			rc = number_next(&n, &row_id, &number);
		if (rc)
			break;
		row_number(capture, table, row, number);
		/* what took the number may have pushed the row out */
		row->scan = capture->scan - 1;
		capture->displaced_due = true;
	}
	return rc;
}

int p2p_capture_number_again(struct p2p_capture *capture)
{
	struct p2p_store *store = capture->config.store;
	size_t i;
	int rc = 0;

	capture->given_twice = false;
	for (i = 0; i < p2p_store_table_count(store) && !rc; i++) {
		struct p2p_table *table = p2p_store_table(store, i);

		if (table->state == P2P_TABLE_LIVE && table->generated_identity)
			rc = again_in_table(capture, table);
	}
	return rc;
}
