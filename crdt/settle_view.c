/* The view that a merge has of its file, for plans; see plan.h, settle.h. */
#include <string.h>

#include "crdt/parked.h"
#include "crdt/rowrefs.h"
#include "crdt/settle.h"
#include "crdt/valuekeys.h"
#include "proto/check.h"
#include "proto/mem.h"

static int view_target(struct p2p_settle *settle, uint32_t number, struct p2p_target **out)
{
	struct p2p_table *table = p2p_store_table_by_number(settle->store, number);

	if (!table || table->state != P2P_TABLE_LIVE)
		return P2P_ENOENT;
	return settle->target(settle->ctx, table, out);
}

/* --- one row ---------------------------------------------------------------------------------- */

/* Takes the row up whole, with what it claims in its cells. P2P_ENOENT: it takes no part. */
static int row_take(struct p2p_target *target, const struct p2p_plan_row *row)
{
	struct p2p_rowwork *work = &target->settle->spare;
	bool shown;
	int rc = p2p_rowwork_load_key(work, target, row->key, row->len);

	target->settle->spare_table = row->table;
	if (rc)
		return rc;
	if (!p2p_numbers_complete(target->table, &work->state))
		return P2P_ENOENT;
	shown = !(work->state.flags & P2P_ROW_PARKED);
	rc = p2p_rowwork_gather(work, target, shown);
	if (!rc)
		rc = p2p_rowrefs_load(work, target, shown);
	return rc ? rc : p2p_rowrefs_claimed(work, target);
}

/* The row that has the number of a default. */
static int ref_instead(struct p2p_target *target, const struct p2p_reference *reference,
		       struct p2p_plan_row *row)
{
	struct p2p_refs *refs = &target->settle->refs;
	struct p2p_table *parent = p2p_refs_parent(refs, reference);
	struct p2p_plan_ref ref = {.table = parent->number, .hides = true};
	struct p2p_buf key;
	int rc;

	p2p_buf_init(&key, P2P_RECORD_BYTES_MAX);
	rc = p2p_refs_at(refs, parent, reference->number, &key);
	ref.key = key.data;
	ref.len = key.len;
	if (!rc) {
		row->refs[row->ref_count - 1].instead = true;
		rc = p2p_plan_ref_add(row, &ref);
	}
	p2p_buf_deinit(&key);
	return rc == P2P_ENOENT ? 0 : rc;
}

static int row_refs(struct p2p_target *target, struct p2p_plan_row *row)
{
	const struct p2p_table *table = target->table;
	const struct p2p_rowwork *work = &target->settle->spare;
	struct p2p_plan_ref ref = {.instead = false};
	uint32_t i;
	int rc = 0;

	for (i = 0; i < work->ref_count && !rc; i++) {
		const struct p2p_reference *reference;

		if (work->refs[i].kind != P2P_REFCELL_ROW)
			continue;
		reference = &table->references[table->columns[i].reference];
		ref.slot = table->columns[i].slot;
		ref.table = p2p_refs_parent(&target->settle->refs, reference)->number;
		ref.key = work->targets.data + work->refs[i].at;
		ref.len = work->refs[i].len;
		ref.hides = p2p_rowrefs_instead(target, reference) != P2P_INSTEAD_NULL;
		rc = p2p_plan_ref_add(row, &ref);
		if (!rc && p2p_rowrefs_instead(target, reference) == P2P_INSTEAD_NUMBER)
			rc = ref_instead(target, reference, row);
	}
	return rc;
}

static int row_key_refs(struct p2p_target *target, struct p2p_plan_row *row)
{
	const struct p2p_table *table = target->table;
	const struct p2p_identity *identity = &target->settle->spare.identity;
	struct p2p_key_part parts[P2P_KEY_COLUMNS_MAX];
	struct p2p_plan_ref ref = {.instead = false};
	struct p2p_buf key;
	uint32_t i;
	int rc;

	if (!table->key_references)
		return 0;
	p2p_buf_init(&key, P2P_RECORD_BYTES_MAX);
	rc = p2p_identity_key_parts(table, identity->key, identity->key_len, parts);
	for (i = 0; i < table->key_count && !rc; i++) {
		const struct p2p_column *column = &table->columns[table->key[i]];

		if (!parts[i].reference || column->reference == P2P_REFERENCE_NONE)
			continue;
		p2p_buf_reset(&key);
		p2p_identity_put(&key, &parts[i].target);
		rc = p2p_buf_error(&key);
		ref.slot = column->slot;
		ref.table = p2p_refs_parent(&target->settle->refs,
					    &table->references[column->reference])
				    ->number;
		ref.key = key.data;
		ref.len = key.len;
		ref.hides = true;
		if (!rc)
			rc = p2p_plan_ref_add(row, &ref);
	}
	p2p_buf_deinit(&key);
	return rc == P2P_EPROTO ? P2P_ECORRUPT : rc;
}

/* Keys by value, both ways. */
static int row_values(struct p2p_target *target, struct p2p_plan_row *row)
{
	const struct p2p_rowwork *work = &target->settle->spare;
	struct p2p_plan_ref ref = {.named = true, .hides = true};
	struct p2p_buf holder;
	bool none;
	uint32_t i;
	int rc = 0;

	p2p_buf_init(&holder, P2P_RECORD_BYTES_MAX);
	for (i = 0; i < target->table->foreign_count && !rc; i++) {
		rc = p2p_valuekeys_name(target, work, i, &ref.name, &none);
		if (rc || none)
			continue;
		p2p_buf_reset(&holder);
		rc = p2p_valuekeys_parent(target, &work->cells, i, &holder);
		rc = rc == P2P_ENOENT ? 0 : rc;
		ref.table =
			p2p_store_table_by_id(target->store, &target->table->foreigns[i].parent_id)
				->number;
		ref.key = holder.data;
		ref.len = holder.len;
		if (!rc)
			rc = p2p_plan_ref_add(row, &ref);
	}
	p2p_buf_deinit(&holder);
	return rc;
}

static int name_add(void *ctx, const struct p2p_id *name)
{
	return p2p_plan_name_add(ctx, name);
}

static int row_claims(struct p2p_target *target, struct p2p_plan_row *row)
{
	const struct p2p_rowwork *work = &target->settle->spare;
	struct p2p_rowref ref = {target->table, row->key, row->len};
	struct p2p_claimed claimed = {.state = &work->state, .cells = &work->cells};
	struct p2p_store_yield *yields = NULL;
	int rc;

	if (!target->uniques.count)
		return 0;
	rc = p2p_settle_gates(target);
	if (!rc && target->gates.yields) {
		yields = p2p_calloc(target->uniques.count, sizeof(*yields));
		rc = yields ? p2p_uniques_yields(&target->uniques, &ref, yields,
						 &claimed.yield_count)
			    : P2P_ENOMEM;
		claimed.yields = yields;
	}
	if (!rc)
		rc = p2p_uniques_claims(&target->uniques, &claimed, row);
	p2p_free(yields);
	return rc;
}

static int view_load(void *ctx, struct p2p_plan *plan, struct p2p_plan_row *row)
{
	struct p2p_settle *settle = ctx;
	struct p2p_rowref ref = {.key = row->key, .len = row->len};
	struct p2p_target *target;
	int rc = view_target(settle, row->table, &target);

	(void)plan;
	if (!rc)
		rc = row_take(target, row);
	if (rc)
		return rc == P2P_ENOENT ? 0 : rc;
	row->live = true;
	row->shown = !(settle->spare.state.flags & P2P_ROW_PARKED);
	rc = row_refs(target, row);
	if (!rc)
		rc = row_key_refs(target, row);
	if (!rc)
		rc = row_values(target, row);
	if (!rc)
		rc = p2p_valuekeys_names(target, &settle->spare.cells, name_add, row);
	if (!rc)
		rc = row_claims(target, row);
	row->held = row->shown || !row->claim_count;
	ref.table = target->table;
	if (!rc && !row->held)
		rc = p2p_store_claim_held(settle->store, &ref, &row->held);
	return rc;
}

static int present(struct p2p_settle *settle, const struct p2p_table *table,
		   const struct p2p_plan_ref *ref)
{
	struct p2p_rowref row = {table, ref->key, ref->len};
	int64_t number;
	bool shown;
	int rc = p2p_refs_number(&settle->refs, &row, &number, &shown);

	return rc ? rc : p2p_settle_present(settle, table, number);
}

static int view_shown(void *ctx, const struct p2p_plan_ref *ref, bool *out)
{
	struct p2p_settle *settle = ctx;
	struct p2p_rowstate *state = &settle->refs.state;
	const struct p2p_table *table = p2p_store_table_by_number(settle->store, ref->table);
	int rc;

	*out = false;
	if (!table || table->state != P2P_TABLE_LIVE)
		return 0;
	rc = p2p_store_row_get(settle->store, table, ref->key, ref->len, state, NULL);
	*out = rc == 0 && p2p_numbers_complete(table, state) && !(state->flags & P2P_ROW_PARKED);
	if (rc == 0 && *out && settle->doubt && table->lone_number)
		rc = present(settle, table, ref);
	return rc == P2P_ENOENT ? 0 : rc;
}

/* --- others ----------------------------------------------------------------------------------- */

/* Rows are listed first: what is called for them reads by the same statements. */
struct listing {
	struct p2p_buf rows; /* varint table, identity after its length */
	uint32_t table;
	bool held;
};

static int listing_add(struct listing *listing, uint32_t table, const void *key, size_t len)
{
	p2p_buf_put_varint(&listing->rows, table);
	p2p_buf_put_bytes(&listing->rows, key, len);
	return p2p_buf_error(&listing->rows);
}

static int listing_each(struct listing *listing, p2p_plan_each each, void *ctx)
{
	struct p2p_reader reader;
	const uint8_t *key;
	uint32_t table;
	size_t len;
	int rc = 0;

	p2p_reader_init(&reader, listing->rows.data, listing->rows.len);
	while (!rc && p2p_reader_left(&reader)) {
		table = (uint32_t)p2p_read_varint(&reader);
		key = p2p_read_bytes(&reader, P2P_RECORD_BYTES_MAX, &len);
		p2p_require(key != NULL); /* we wrote the list */
		rc = each(ctx, table, key, len);
	}
	return rc;
}

static int view_holder(void *ctx, const struct p2p_plan_row *row,
		       const struct p2p_plan_claim *claim, p2p_plan_each each, void *each_ctx)
{
	struct p2p_settle *settle = ctx;
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	struct p2p_target *target = NULL;
	struct p2p_buf identity;
	bool found = false;
	int rc = view_target(settle, row->table, &target);

	p2p_buf_init(&identity, P2P_RECORD_BYTES_MAX);
	if (!rc && (settle->spare.key.len != row->len ||
		    memcmp(settle->spare.key.data, row->key, row->len) != 0 ||
		    settle->spare_table != row->table))
		rc = row_take(target, row);
	if (!rc)
		rc = p2p_uniques_find(&target->uniques, claim->index, &settle->spare.cells, key,
				      &found);
	if (!rc && found)
		rc = p2p_refs_row_at(&settle->refs, target->table, key, &identity);
	if (target)
		p2p_uniques_found(&target->uniques, claim->index);
	if (!rc && found)
		rc = each(each_ctx, row->table, identity.data, identity.len);
	p2p_buf_deinit(&identity);
	/* not replicated, or not captured: SQLite will say so */
	return rc == P2P_ENOENT || rc == P2P_IDENTITY_NULL_KEY ? 0 : rc;
}

static int other_add(void *ctx, const void *key, size_t len, bool held)
{
	struct listing *listing = ctx;

	return held == listing->held ? listing_add(listing, listing->table, key, len) : 0;
}

static int view_others(void *ctx, uint32_t table, const struct p2p_id *hash, bool held,
		       p2p_plan_each each, void *each_ctx)
{
	struct p2p_settle *settle = ctx;
	struct listing listing = {.table = table, .held = held};
	struct p2p_target *target;
	int rc = view_target(settle, table, &target);

	p2p_buf_init(&listing.rows, P2P_RECORD_BYTES_MAX);
	if (!rc)
		rc = p2p_settle_gates(target);
	if (!rc && target->gates.claims)
		rc = p2p_store_claim_each(settle->store, target->table, hash, held, other_add,
					  &listing);
	if (!rc)
		rc = listing_each(&listing, each, each_ctx);
	p2p_buf_deinit(&listing.rows);
	return rc == P2P_ENOENT ? 0 : rc;
}

/* --- children --------------------------------------------------------------------------------- */

static int child_kept(void *ctx, uint32_t table, const void *key, size_t len, uint32_t slot)
{
	(void)slot;
	return listing_add(ctx, table, key, len);
}

static int child_shown(void *ctx, struct p2p_target *child, uint32_t reference, const void *key,
		       size_t len)
{
	(void)reference;
	return listing_add(ctx, child->table->number, key, len);
}

static int child_waiting(void *ctx, uint32_t table, const void *key, size_t len)
{
	return listing_add(ctx, table, key, len);
}

static int view_children(void *ctx, const struct p2p_plan_row *row, bool in_table,
			 p2p_plan_each each, void *each_ctx)
{
	struct p2p_settle *settle = ctx;
	struct p2p_rowref ref = {.key = row->key, .len = row->len};
	struct listing listing = {.table = row->table};
	struct p2p_target *target;
	int64_t number = 0;
	bool shown, numbered = false;
	size_t i;
	int rc = view_target(settle, row->table, &target);

	if (rc)
		return rc == P2P_ENOENT ? 0 : rc;
	if (!target->child_count && !target->valuekey_count)
		return 0;
	ref.table = target->table;
	p2p_buf_init(&listing.rows, P2P_RECORD_BYTES_MAX);
	if ((in_table && row->shown) || target->stands_in) {
		rc = p2p_refs_number(&settle->refs, &ref, &number, &shown);
		numbered = rc == 0;
		if (rc == P2P_ENOENT) /* it has no number */
			rc = 0;
	}
	if (!rc && numbered && in_table && row->shown) {
		rc = p2p_settle_children(target, number, child_shown, &listing);
	} else if (!rc && !in_table) {
		rc = p2p_settle_gates(target);
		if (!rc && target->gates.refs_to)
			rc = p2p_store_ref_children(settle->store, &ref, child_kept, &listing);
	}
	for (i = 0; i < row->name_count && !in_table && !rc; i++) {
		ref.key = row->names[i].bytes;
		ref.len = sizeof(row->names[i].bytes);
		rc = p2p_store_ref_children(settle->store, &ref, child_kept, &listing);
	}
	if (!rc && in_table && target->valuekey_count && row->live) {
		rc = row_take(target, row);
		if (!rc)
			rc = p2p_valuekeys_children(target, &settle->spare.cells, child_waiting,
						    &listing);
	}
	if (!rc && numbered)
		rc = p2p_settle_waiting(target, number, child_waiting, &listing);
	if (!rc)
		rc = listing_each(&listing, each, each_ctx);
	p2p_buf_deinit(&listing.rows);
	return rc == P2P_ENOENT ? 0 : rc;
}

void p2p_settle_view(struct p2p_settle *settle, struct p2p_plan_view *out)
{
	out->ctx = settle;
	out->hash_key = p2p_store_hash_key(settle->store);
	out->load = view_load;
	out->shown = view_shown;
	out->holder = view_holder;
	out->others = view_others;
	out->children = view_children;
}
