/* What waits for the plan, and how it gets there; see settle.h. */
#include "crdt/settle.h"

#include <sqlite3.h>
#include <string.h>

#include "crdt/follow.h"
#include "crdt/parked.h"
#include "crdt/rowrefs.h"
#include "crdt/valuekeys.h"
#include "proto/check.h"
#include "proto/mem.h"

#define SQL_BYTES_MAX (16u * 1024 * 1024)

static int settle_numbers(void *ctx, struct p2p_table *table, struct p2p_numbers **out)
{
	struct p2p_settle *settle = ctx;
	struct p2p_target *target;
	int rc = settle->target(settle->ctx, table, &target);

	if (!rc)
		*out = &target->numbers;
	return rc;
}

int p2p_settle_init(struct p2p_settle *settle, struct p2p_store *store)
{
	memset(settle, 0, sizeof(*settle));
	settle->store = store;
	settle->round = 1;
	p2p_refs_init(&settle->refs, store);
	settle->refs.numbers = settle_numbers;
	settle->refs.ctx = settle;
	p2p_buf_init(&settle->keys, P2P_RECORD_BYTES_MAX);
	p2p_rowwork_init(&settle->work);
	p2p_rowwork_init(&settle->spare);
	p2p_rowwork_init(&settle->child);
	settle->follow = p2p_calloc(1, sizeof(*settle->follow));
	if (!settle->follow)
		return P2P_ENOMEM;
	p2p_buf_init(&settle->follow->keys, P2P_RECORD_BYTES_MAX);
	return 0;
}

void p2p_settle_deinit(struct p2p_settle *settle)
{
	p2p_refs_deinit(&settle->refs);
	p2p_free(settle->rows);
	p2p_free(settle->freed);
	p2p_buf_deinit(&settle->keys);
	p2p_rowwork_deinit(&settle->work);
	p2p_rowwork_deinit(&settle->spare);
	p2p_rowwork_deinit(&settle->child);
	if (settle->follow) {
		p2p_buf_deinit(&settle->follow->keys);
		p2p_free(settle->follow->items);
		p2p_free(settle->follow);
	}
	memset(settle, 0, sizeof(*settle));
}

void p2p_settle_clear(struct p2p_settle *settle)
{
	settle->row_count = settle->freed_count = 0;
	settle->round++;
	p2p_buf_reset(&settle->keys);
}

int p2p_settle_present(struct p2p_settle *settle, const struct p2p_table *table, int64_t number)
{
	struct p2p_value key = {.type = P2P_INTEGER, .integer = number};
	struct p2p_target *target;
	int rc;

	if (!settle->doubt)
		return 0;
	rc = settle->target(settle->ctx, (struct p2p_table *)(uintptr_t)table, &target);
	if (!rc)
		rc = p2p_apptable_read(&target->app, &key, &settle->child.stored);
	p2p_store_row_done(settle->store);
	return rc == P2P_ENOENT ? P2P_ECORRUPT : rc;
}

/* --- side tables ------------------------------------------------------------------------------ */

int p2p_settle_gates(struct p2p_target *target)
{
	struct p2p_gates *gates = &target->gates;
	int rc;

	if (gates->known)
		return 0;
	rc = p2p_store_ref_any(target->store, target->table, &gates->refs, &gates->refs_to);
	if (!rc)
		rc = p2p_store_claim_any(target->store, target->table, &gates->claims);
	if (!rc)
		rc = p2p_store_yield_any(target->store, target->table, &gates->yields);
	gates->known = rc == 0;
	return rc;
}

void p2p_settle_refs_written(struct p2p_target *target, uint32_t parent)
{
	struct p2p_table *table;
	struct p2p_target *other;

	target->gates.refs = true;
	table = parent ? p2p_store_table_by_number(target->store, parent) : NULL;
	if (table && target->settle->target(target->settle->ctx, table, &other) == 0)
		other->gates.refs_to = true;
}

/* --- asking ----------------------------------------------------------------------------------- */

int p2p_settle_ask(struct p2p_target *target, const void *key, size_t len)
{
	struct p2p_settle *settle = target->settle;
	struct p2p_settle_row *grown;
	size_t cap;

	if (settle->row_count == settle->row_cap) {
		cap = settle->row_cap ? settle->row_cap * 2 : 64;
		grown = p2p_realloc(settle->rows, cap * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		settle->rows = grown;
		settle->row_cap = cap;
	}
	grown = &settle->rows[settle->row_count];
	memset(grown, 0, sizeof(*grown));
	grown->table = target->table->number;
	grown->at = settle->keys.len;
	grown->len = len;
	p2p_buf_put(&settle->keys, key, len);
	settle->row_count++;
	return p2p_buf_error(&settle->keys);
}

int p2p_settle_reclaim(struct p2p_target *target, const struct p2p_buf *key)
{
	int rc = p2p_settle_gates(target);

	if (rc || !target->gates.refs_to)
		return rc;
	rc = p2p_settle_ask(target, key->data, key->len);
	if (!rc)
		target->settle->rows[target->settle->row_count - 1].parent = true;
	return rc;
}

static int freed_add(struct p2p_settle *settle, uint32_t table, const struct p2p_id *hash)
{
	struct p2p_settle_freed *grown;
	size_t cap;

	if (settle->freed_count == settle->freed_cap) {
		cap = settle->freed_cap ? settle->freed_cap * 2 : 64;
		grown = p2p_realloc(settle->freed, cap * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		settle->freed = grown;
		settle->freed_cap = cap;
	}
	settle->freed[settle->freed_count].table = table;
	settle->freed[settle->freed_count++].hash = *hash;
	return 0;
}

int p2p_settle_free_claims(struct p2p_target *target, struct p2p_rowwork *work)
{
	struct p2p_id hash;
	bool none;
	size_t i;
	int rc = p2p_settle_gates(target);

	for (i = 0; i < target->uniques.count && target->gates.claims && !rc; i++) {
		rc = p2p_uniques_hash(&target->uniques, i, &work->cells, &hash, &none);
		if (!rc && !none)
			rc = freed_add(target->settle, target->table->number, &hash);
	}
	return rc;
}

static int kept_free(void *ctx, const struct p2p_id *hash)
{
	struct p2p_target *target = ctx;

	return freed_add(target->settle, target->table->number, hash);
}

int p2p_settle_free_kept(struct p2p_target *target, const struct p2p_buf *key)
{
	struct p2p_rowref row = {target->table, key->data, key->len};
	int rc = p2p_settle_gates(target);

	return rc || !target->gates.claims
		       ? rc
		       : p2p_store_claim_of(target->store, &row, kept_free, target);
}

int p2p_settle_free_stored(struct p2p_target *target, const struct p2p_buf *key,
			   struct p2p_rowwork *work)
{
	bool shown;
	int rc = p2p_settle_gates(target);

	if (rc || !target->gates.claims || !target->uniques.count)
		return rc;
	rc = p2p_rowwork_load_key(work, target, key->data, key->len);
	if (rc || !p2p_numbers_complete(target->table, &work->state))
		return rc;
	shown = !(work->state.flags & P2P_ROW_PARKED);
	rc = p2p_settle_free_kept(target, key);
	if (rc || !shown)
		return rc;
	rc = p2p_rowwork_gather(work, target, true);
	if (!rc) /* as the table shows it */
		rc = p2p_settle_free_claims(target, work);
	if (!rc)
		rc = p2p_rowrefs_load(work, target, true);
	if (!rc)
		rc = p2p_rowrefs_claimed(work, target);
	return rc ? rc : p2p_settle_free_claims(target, work);
}

/* --- rows that come and change ---------------------------------------------------------------- */

static int somebody(void *ctx, const void *key, size_t len, bool held)
{
	(void)ctx;
	(void)key;
	(void)len;
	(void)held;
	return 1;
}

static int some_child(void *ctx, uint32_t table, const void *key, size_t len, uint32_t slot)
{
	(void)table;
	(void)slot;
	return somebody(ctx, key, len, false);
}

static int name_waited(void *ctx, const struct p2p_id *name)
{
	struct p2p_target *target = ctx;
	struct p2p_rowref row = {target->table, name->bytes, sizeof(name->bytes)};

	return p2p_store_ref_children(target->store, &row, some_child, NULL);
}

/* 1: a row that is kept out claims what this one does, or waits for it. */
static int concerns(struct p2p_target *target, struct p2p_rowwork *work)
{
	struct p2p_rowref row = {target->table, work->key.data, work->key.len};
	struct p2p_id hash;
	bool none;
	size_t i;
	int rc = p2p_settle_gates(target);

	if (!rc && target->gates.refs_to && target->stands_in)
		return 1;
	if (!rc && target->gates.refs_to)
		rc = p2p_store_ref_children(target->store, &row, some_child, NULL);
	if (!rc && target->gates.refs_to && target->valuekey_count)
		rc = p2p_valuekeys_names(target, &work->cells, name_waited, target);
	for (i = 0; i < target->uniques.count && target->gates.claims && !rc; i++) {
		rc = p2p_uniques_hash(&target->uniques, i, &work->cells, &hash, &none);
		if (!rc && !none)
			rc = p2p_store_claim_each(target->store, target->table, &hash, false,
						  somebody, NULL);
	}
	return rc;
}

int p2p_settle_came(struct p2p_target *target, struct p2p_rowwork *work)
{
	int rc = concerns(target, work);

	if (rc == 1)
		rc = p2p_settle_reclaim(target, &work->key);
	else
		return rc;
	return rc ? rc : p2p_settle_ask(target, work->key.data, work->key.len);
}

int p2p_settle_claim(struct p2p_target *target, struct p2p_rowwork *work, bool held)
{
	struct p2p_rowref row = {target->table, work->key.data, work->key.len};
	struct p2p_id hash;
	bool none;
	size_t i;
	int rc = p2p_settle_gates(target);

	if (rc || !target->uniques.count)
		return rc;
	if (target->gates.claims)
		rc = p2p_store_claim_drop(target->store, &row);
	if (!rc)
		rc = p2p_rowrefs_claimed(work, target);
	for (i = 0; i < target->uniques.count && !rc; i++) {
		rc = p2p_uniques_hash(&target->uniques, i, &work->cells, &hash, &none);
		if (rc || none)
			continue;
		target->gates.claims = true;
		rc = p2p_store_claim_put(target->store, &row, &hash, held);
	}
	return rc;
}

/* Without those that refer to it. */
static int hold_alone(struct p2p_target *target, struct p2p_rowwork *work, bool in_table)
{
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	bool was = in_table || (work->state.flags & P2P_ROW_PARKED) != 0;
	int rc = p2p_rowwork_gather(work, target, in_table);

	if (!rc)
		rc = p2p_rowrefs_load(work, target, in_table);
	if (!rc && was)
		rc = p2p_settle_free_stored(target, &work->key, &target->settle->child);
	if (!rc && in_table)
		rc = p2p_valuekeys_ask(target, &work->key);
	if (!rc && in_table) /* they may show its number for that of their own parent */
		rc = p2p_settle_ask_waiting(target);
	if (!rc && in_table) {
		rc = p2p_rowwork_key(work, target, key);
		if (!rc)
			rc = p2p_apptable_delete(&target->app, key);
		target->rows++;
	}
	if (!rc)
		rc = p2p_settle_claim(target, work, false);
	if (!rc)
		rc = p2p_parked_put(work, target, "pending");
	if (!rc && !in_table)
		rc = p2p_settle_reclaim(target, &work->key);
	return rc ? rc : p2p_settle_ask(target, work->key.data, work->key.len);
}

int p2p_settle_hold(struct p2p_target *target, struct p2p_rowwork *work, bool in_table)
{
	int rc = in_table ? p2p_follow_leave(target, &work->key) : 0;

	return rc ? rc : hold_alone(target, work, in_table);
}

int p2p_settle_lift(struct p2p_target *target, const void *key, size_t len)
{
	struct p2p_rowwork *work = &target->settle->work;
	int rc = p2p_rowwork_load_key(work, target, key, len);

	if (rc || !p2p_numbers_complete(target->table, &work->state) ||
	    (work->state.flags & P2P_ROW_PARKED))
		return rc;
	rc = hold_alone(target, work, true);
	return rc ? rc : p2p_rowwork_save(work, target);
}

/* --- rows that die ---------------------------------------------------------------------------- */

int p2p_settle_dies(struct p2p_target *target, struct p2p_rowwork *work)
{
	struct p2p_rowref row = {target->table, work->key.data, work->key.len};
	int rc = p2p_settle_gates(target);

	if (!rc)
		rc = p2p_settle_free_stored(target, &work->key, &target->settle->child);
	if (!rc)
		rc = p2p_follow_leave(target, &work->key);
	if (!rc)
		rc = p2p_settle_reclaim(target, &work->key);
	if (!rc)
		rc = p2p_settle_ask_waiting(target);
	if (!rc)
		rc = p2p_valuekeys_ask(target, &work->key);
	if (rc || !(target->gates.refs || target->gates.claims || target->gates.yields))
		return rc;
	return p2p_store_life_drop(target->store, &row);
}

/* --- all that waits in a table ---------------------------------------------------------------- */

struct waiting {
	struct p2p_settle *settle;
	struct p2p_buf keys; /* varint table, identity */
	uint32_t table;
};

static int waiting_add(struct waiting *waiting, uint32_t table, const void *key, size_t len)
{
	p2p_buf_put_varint(&waiting->keys, table);
	p2p_buf_put_bytes(&waiting->keys, key, len);
	return p2p_buf_error(&waiting->keys);
}

static int waiting_parked(void *ctx, const void *key, size_t len)
{
	struct waiting *waiting = ctx;

	return waiting_add(waiting, waiting->table, key, len);
}

static int waiting_child(void *ctx, uint32_t table, const void *key, size_t len, uint32_t slot)
{
	(void)slot;
	return waiting_add(ctx, table, key, len);
}

static int waiting_ask(struct waiting *waiting)
{
	struct p2p_settle *settle = waiting->settle;
	struct p2p_target *target;
	struct p2p_reader reader;
	struct p2p_table *table;
	struct p2p_buf key;
	const uint8_t *bytes;
	size_t len;
	int rc = 0;

	p2p_reader_init(&reader, waiting->keys.data, waiting->keys.len);
	p2p_buf_init(&key, P2P_RECORD_BYTES_MAX);
	while (!rc && p2p_reader_left(&reader)) {
		table = p2p_store_table_by_number(settle->store,
						  (uint32_t)p2p_read_varint(&reader));
		bytes = p2p_read_bytes(&reader, P2P_RECORD_BYTES_MAX, &len);
		p2p_require(bytes != NULL); /* we wrote the list */
		if (!table || table->state != P2P_TABLE_LIVE)
			continue;
		p2p_buf_reset(&key);
		p2p_buf_put(&key, bytes, len);
		rc = p2p_buf_error(&key);
		if (!rc)
			rc = settle->target(settle->ctx, table, &target);
		if (!rc)
			rc = p2p_settle_ask(target, key.data, key.len);
	}
	p2p_buf_deinit(&key);
	return rc;
}

int p2p_settle_ask_all(struct p2p_target *target)
{
	struct waiting waiting = {.settle = target->settle, .table = target->table->number};
	int rc;

	p2p_buf_init(&waiting.keys, P2P_RECORD_BYTES_MAX);
	rc = p2p_store_parked_each(target->store, target->table, waiting_parked, &waiting);
	if (!rc)
		rc = p2p_store_ref_waiting(target->store, target->table, waiting_child, &waiting);
	if (!rc)
		rc = waiting_ask(&waiting);
	p2p_buf_deinit(&waiting.keys);
	return rc;
}

/* --- defaults that stand in ------------------------------------------------------------------- */

struct stand_in {
	struct p2p_target *target;
	bool all;
	int64_t number; /* else: only those whose default this is */
	struct waiting waiting;
};

static bool stands_in(const struct stand_in *find, const struct p2p_reference *reference)
{
	return reference->instead == P2P_INSTEAD_NUMBER &&
	       (find->all || reference->number == find->number);
}

static int stand_in_child(void *ctx, uint32_t table, const void *key, size_t len, uint32_t slot)
{
	struct stand_in *find = ctx;
	size_t i;

	for (i = 0; i < find->target->child_count; i++) {
		const struct p2p_child_column *child = &find->target->children[i];
		const struct p2p_reference *reference = &child->table->references[child->reference];

		if (child->table->number == table &&
		    child->table->columns[reference->column].slot == slot &&
		    stands_in(find, reference))
			return waiting_add(&find->waiting, table, key, len);
	}
	return 0;
}

static int stand_in_list(struct p2p_target *target, struct stand_in *find)
{
	bool any = false;
	size_t i;
	int rc;

	find->waiting.settle = target->settle;
	p2p_buf_init(&find->waiting.keys, P2P_RECORD_BYTES_MAX);
	for (i = 0; target->stands_in && i < target->child_count; i++)
		any |= stands_in(find, &target->children[i]
						.table->references[target->children[i].reference]);
	rc = any ? p2p_settle_gates(target) : 0;
	if (rc || !any || !target->gates.refs_to)
		return rc;
	return p2p_store_ref_waiting(target->store, target->table, stand_in_child, find);
}

int p2p_settle_waiting(struct p2p_target *target, int64_t number, p2p_plan_each each, void *ctx)
{
	struct stand_in find = {.target = target, .number = number};
	struct p2p_reader reader;
	const uint8_t *key;
	uint32_t table;
	size_t len;
	int rc = stand_in_list(target, &find);

	p2p_reader_init(&reader, find.waiting.keys.data, find.waiting.keys.len);
	while (!rc && p2p_reader_left(&reader)) {
		table = (uint32_t)p2p_read_varint(&reader);
		key = p2p_read_bytes(&reader, P2P_RECORD_BYTES_MAX, &len);
		p2p_require(key != NULL); /* we wrote the list */
		rc = each(ctx, table, key, len);
	}
	p2p_buf_deinit(&find.waiting.keys);
	return rc;
}

int p2p_settle_ask_waiting(struct p2p_target *target)
{
	struct stand_in find = {.target = target, .all = true};
	int rc;

	if (target->waiting_round == target->settle->round)
		return 0; /* who comes to wait is asked about then */
	rc = stand_in_list(target, &find);
	if (!rc)
		target->waiting_round = target->settle->round;
	if (!rc)
		rc = waiting_ask(&find.waiting);
	p2p_buf_deinit(&find.waiting.keys);
	return rc;
}
