/* Numbers that rows lost to others; see conflicts.h. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/claimants.h"
#include "crdt/conflict_entry.h"
#include "crdt/conflicts.h"
#include "crdt/settle.h"
#include "crdt/store_private.h"
#include "proto/mem.h"

/* A statement about the row's entries. */
static int entry_statement(struct p2p_target *target, enum p2p_store_sql which,
			   const struct p2p_conflict_place *place, sqlite3_stmt **out)
{
	int rc = p2p_store_statement(target->store, which, out);

	if (rc)
		return rc;
	return sqlite3_bind_int64(*out, 1, target->table->number) == SQLITE_OK &&
			       sqlite3_bind_blob64(*out, 2, place->key->data, place->key->len,
						   SQLITE_STATIC) == SQLITE_OK
		       ? 0
		       : P2P_ENOMEM;
}

static int entry_here(struct p2p_target *target, const struct p2p_conflict_place *place, bool *out)
{
	struct p2p_store *store = target->store;
	sqlite3_stmt *stmt;
	int rc = entry_statement(target, P2P_SQL_CONFLICT_NUMBER, place, &stmt), step;

	if (!rc && sqlite3_bind_int64(stmt, 3, *place->number) != SQLITE_OK)
		rc = P2P_ENOMEM;
	if (rc)
		return rc;
	step = sqlite3_step(stmt);
	*out = step == SQLITE_ROW;
	if (step != SQLITE_ROW && step != SQLITE_DONE)
		rc = p2p_store_error(store, step, NULL, "read a conflict of");
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

/* All that the row lost: it stands at `number` now. */
static int entries_kept(struct p2p_target *target, const struct p2p_conflict_place *place,
			int64_t number)
{
	struct p2p_store *store = target->store;
	struct p2p_buf kept;
	sqlite3_stmt *stmt;
	int rc = entry_statement(target, P2P_SQL_CONFLICT_NUMBERED, place, &stmt);

	p2p_buf_init(&kept, P2P_RECORD_BYTES_MAX);
	if (!rc)
		rc = p2p_conflict_entry_number(target->table, &number, &kept);
	if (!rc && sqlite3_bind_text64(stmt, 3, (const char *)kept.data, kept.len, SQLITE_STATIC,
				       SQLITE_UTF8) != SQLITE_OK)
		rc = P2P_ENOMEM;
	if (!rc)
		rc = p2p_store_run(store, stmt, "list a number of");
	p2p_buf_deinit(&kept);
	return rc;
}

static int entry_regained(struct p2p_target *target, const struct p2p_conflict_place *place)
{
	struct p2p_store *store = target->store;
	sqlite3_stmt *stmt;
	int rc = entry_statement(target, P2P_SQL_CONFLICT_REGAINED, place, &stmt);

	if (!rc && sqlite3_bind_int64(stmt, 3, *place->number) != SQLITE_OK)
		rc = P2P_ENOMEM;
	return rc ? rc : p2p_store_run(store, stmt, "forget a number of");
}

/* A new entry: the claim to *place->number, made at this clock, lost; the row stands at `number`.
 */
static int entry_add(struct p2p_target *target, const struct p2p_conflict_place *place,
		     const struct p2p_clock *clock, int64_t number)
{
	const struct p2p_table *table = target->table;
	struct p2p_value was = {.type = P2P_INTEGER, .integer = *place->number},
			 is = {.type = P2P_INTEGER, .integer = number};
	struct p2p_conflict_side lost = {.value = &was}, kept = {.value = &is};
	struct p2p_conflict_entry entry;
	struct p2p_buf row;
	int rc = p2p_conflict_entry_init(&entry, target, "number");

	p2p_buf_init(&row, P2P_RECORD_BYTES_MAX);
	entry.origin = *clock;
	if (!rc)
		rc = p2p_conflict_entry_lose(&entry, table->key[0], &lost);
	if (!rc)
		rc = p2p_conflict_entry_keep(&entry, table->key[0], &kept);
	if (!rc)
		rc = p2p_conflict_entry_number(table, &number, &row);
	if (!rc)
		rc = p2p_conflict_entry_store(&entry, place, &row);
	p2p_buf_deinit(&row);
	p2p_conflict_entry_deinit(&entry);
	return rc;
}

/* Who claimed the number, and when: not when it yielded. */
static int claim_clock(struct p2p_target *target, const struct p2p_conflict_place *place,
		       struct p2p_clock *out)
{
	const struct p2p_table *table = target->table;
	const struct p2p_cellstate *cell;
	const struct p2p_id *replica;
	struct p2p_rowstate state;
	int64_t number;
	int rc;

	p2p_rowstate_init(&state);
	rc = p2p_store_row_get(target->store, table, place->key->data, place->key->len, &state,
			       &number);
	if (!rc) {
		cell = &state.cells[table->columns[table->key[0]].slot];
		replica = p2p_store_replica_id(target->store, cell->replica);
		if (replica) {
			out->stamp.value = cell->stamp;
			out->replica = *replica;
		}
		rc = replica ? 0 : P2P_ECORRUPT;
	}
	p2p_rowstate_deinit(&state);
	return rc;
}

int p2p_conflicts_number(void *ctx, const struct p2p_claimant *at)
{
	struct p2p_target *target = ctx;
	uint8_t bytes[P2P_CLAIMANT_KEY_BYTES];
	struct p2p_buf key;
	struct p2p_conflict_place place = {target->settle->authority, &key, &at->claim};
	struct p2p_clock clock;
	bool here = true;
	int rc = 0;

	p2p_claimant_key(&key, bytes, &at->identity);
	if (!at->loser)
		rc = entry_regained(target, &place);
	else
		rc = entry_here(target, &place, &here);
	if (!rc && !here)
		rc = claim_clock(target, &place, &clock);
	if (!rc && !here)
		rc = entry_add(target, &place, &clock, at->target);
	if (!rc)
		rc = entries_kept(target, &place, at->target);
	return rc ? rc : p2p_checks_touch(target, &key);
}

/* Any number of rows may claim one; this is for a list. */
#define RIVALS_MAX 200

static int rival(void *ctx, const struct p2p_identity *identity)
{
	struct p2p_claimants *list = ctx;

	if (list->count == RIVALS_MAX)
		return 1;
	return identity->kind == P2P_IDENTITY_KEY ? P2P_ECORRUPT
						  : p2p_claimants_add(list, identity);
}

/* Another row has claimed the number before. */
static int lost_to_other(struct p2p_rowmerge *m, const struct p2p_claimant *own, bool *out)
{
	struct p2p_numbers *numbers = &m->target->numbers;
	struct p2p_claimants list = {0};
	struct p2p_identity shown;
	struct p2p_rowstate state;
	bool complete;
	size_t i;
	int rc;

	*out = false;
	p2p_rowstate_init(&state);
	/* most likely the one that has it */
	rc = p2p_claimants_at(numbers, own->claim, &shown);
	if (!rc)
		rc = p2p_claimants_add(&list, &shown);
	if (!rc || rc == P2P_ENOENT)
		rc = p2p_store_claimants(m->store, m->target->table, own->claim, rival, &list);
	rc = rc == 1 ? 0 : rc;
	for (i = 0; i < list.count && !rc && !*out; i++) {
		struct p2p_claimant *at = &list.items[i];

		rc = p2p_claimant_load(numbers, &state, at, &complete);
		*out = !rc && complete && at->claim == own->claim &&
		       p2p_id_cmp(&at->row_id, &own->row_id) != 0 && p2p_claimant_cmp(at, own) < 0;
	}
	p2p_free(list.items);
	p2p_rowstate_deinit(&state);
	return rc;
}

int p2p_conflicts_number_left(struct p2p_rowmerge *m, int64_t before)
{
	struct p2p_rowwork *work = m->work;
	struct p2p_conflict_place place = {m->authority, &work->key, &before};
	const struct p2p_id *replica = p2p_store_replica_id(m->store, m->claim_replica);
	struct p2p_claimant own = {.claim = before};
	bool lost = false, here = true;
	int rc = 0;

	if (!m->seen)
		return 0;
	if (!replica)
		return P2P_ECORRUPT;
	own.clock.stamp.value = m->claim_stamp;
	own.clock.replica = *replica;
	p2p_identity_row_id(&own.row_id, &work->identity, &m->target->table->id);
	rc = lost_to_other(m, &own, &lost);
	if (!rc && lost)
		rc = entry_here(m->target, &place, &here);
	if (rc || here)
		return rc;
	return entry_add(m->target, &place, &own.clock, work->number);
}
