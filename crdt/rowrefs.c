/* References of a row on its way; see rowrefs.h. */
#include "crdt/rowrefs.h"

#include <string.h>

#include "crdt/settle.h"
#include "crdt/valuekeys.h"
#include "proto/check.h"
#include "proto/mem.h"

int p2p_rowrefs_reset(struct p2p_rowwork *work, const struct p2p_table *table)
{
	work->ref_count = 0;
	if (!p2p_rowrefs_any(table))
		return 0;
	if (table->column_count > work->ref_cap) {
		p2p_free(work->refs);
		work->ref_cap = 0;
		work->refs = p2p_calloc(table->column_count, sizeof(*work->refs));
		if (!work->refs)
			return P2P_ENOMEM;
		work->ref_cap = table->column_count;
	}
	work->ref_count = table->column_count;
	memset(work->refs, 0, work->ref_count * sizeof(*work->refs));
	p2p_buf_reset(&work->targets);
	return 0;
}

int p2p_rowrefs_set(struct p2p_rowwork *work, uint32_t column, enum p2p_refcell_kind kind,
		    const void *key, size_t len)
{
	struct p2p_refcell *cell = &work->refs[column];

	p2p_require(column < work->ref_count);
	cell->kind = kind;
	cell->masked = false;
	cell->at = work->targets.len;
	cell->len = len;
	if (len)
		p2p_buf_put(&work->targets, key, len);
	return p2p_buf_error(&work->targets);
}

enum p2p_instead p2p_rowrefs_instead(const struct p2p_target *target,
				     const struct p2p_reference *reference)
{
	const struct p2p_uniques *uniques = &target->uniques;
	size_t i;

	/* NULLs are distinct, but in a partial index, or an expression */
	if (reference->instead == P2P_INSTEAD_NUMBER && uniques->columns[reference->column])
		return P2P_INSTEAD_NOTHING;
	for (i = 0; i < uniques->count; i++)
		if (uniques->items[i].index &&
		    p2p_unique_index_columns(uniques->items[i].index)[reference->column])
			return P2P_INSTEAD_NOTHING;
	return reference->instead;
}

static struct p2p_rowref row_of(const struct p2p_rowwork *work, const struct p2p_target *target)
{
	struct p2p_rowref row = {target->table, work->key.data, work->key.len};

	return row;
}

/* --- loading ---------------------------------------------------------------------------------- */

struct entries {
	struct p2p_rowwork *work;
	const struct p2p_table *table;
	bool in_table;
};

/* An entry of p2p_ref. */
static int entry_load(void *ctx, const struct p2p_store_ref *ref)
{
	struct entries *entries = ctx;
	const struct p2p_table *table = entries->table;
	uint32_t i;
	int rc;

	for (i = 0; i < table->column_count; i++)
		if (table->columns[i].slot == ref->slot)
			break;
	/* a reference that is part of the key is said by the identity */
	if (i == table->column_count ||
	    ((table->columns[i].flags & P2P_COLUMN_KEY) &&
	     table->columns[i].reference != P2P_REFERENCE_NONE) ||
	    entries->work->refs[i].kind != P2P_REFCELL_UNSET)
		return 0;
	/* its FOREIGN KEY is gone, or its parent is replicated no longer: kept for another day */
	if (ref->parent && table->columns[i].reference == P2P_REFERENCE_NONE)
		return 0;
	rc = p2p_rowrefs_set(entries->work, i, ref->parent ? P2P_REFCELL_ROW : P2P_REFCELL_LOOSE,
			     ref->key, ref->parent ? ref->len : 0);
	entries->work->refs[i].masked = ref->parent && entries->in_table;
	return rc;
}

/* A value that the table shows: the row that has the number. */
static int shown_load(struct p2p_rowwork *work, struct p2p_target *target, uint32_t column)
{
	const struct p2p_reference *reference =
		&target->table->references[target->table->columns[column].reference];
	struct p2p_refs *refs = &target->settle->refs;
	struct p2p_buf key;
	int rc;

	p2p_buf_init(&key, P2P_RECORD_BYTES_MAX);
	rc = p2p_refs_at(refs, p2p_refs_parent(refs, reference), work->cells.values[column].integer,
			 &key);
	if (!rc)
		rc = p2p_rowrefs_set(work, column, P2P_REFCELL_ROW, key.data, key.len);
	else if (rc == P2P_ENOENT) /* nobody's: as it is */
		rc = p2p_rowrefs_set(work, column, P2P_REFCELL_LOOSE, NULL, 0);
	p2p_buf_deinit(&key);
	return rc;
}

int p2p_rowrefs_load(struct p2p_rowwork *work, struct p2p_target *target, bool in_table)
{
	const struct p2p_table *table = target->table;
	struct entries entries = {work, table, in_table};
	struct p2p_rowref row = row_of(work, target);
	uint32_t i;
	int rc = 0;

	if (!work->ref_count)
		return 0;
	rc = p2p_settle_gates(target);
	if (!rc && target->gates.refs)
		rc = p2p_store_ref_each(target->store, &row, entry_load, &entries);
	for (i = 0; i < table->column_count && !rc; i++) {
		if (work->refs[i].kind != P2P_REFCELL_UNSET ||
		    table->columns[i].reference == P2P_REFERENCE_NONE ||
		    (table->columns[i].flags & P2P_COLUMN_KEY))
			continue;
		if (in_table && work->cells.set[i] && work->cells.values[i].type == P2P_INTEGER)
			rc = shown_load(work, target, i);
		else
			rc = p2p_rowrefs_set(work, i, P2P_REFCELL_PLAIN, NULL, 0);
	}
	return rc;
}

/* --- numbers ---------------------------------------------------------------------------------- */

static int target_number(struct p2p_rowwork *work, struct p2p_target *target, uint32_t column,
			 int64_t *out, bool *out_shown)
{
	const struct p2p_reference *reference =
		&target->table->references[target->table->columns[column].reference];
	struct p2p_refs *refs = &target->settle->refs;
	struct p2p_rowref row = {p2p_refs_parent(refs, reference),
				 work->targets.data + work->refs[column].at,
				 work->refs[column].len};

	return p2p_refs_number(refs, &row, out, out_shown);
}

static void cell_number(struct p2p_rowwork *work, uint32_t column, int64_t number)
{
	struct p2p_value value = {.type = P2P_INTEGER, .integer = number};

	p2p_cells_set(&work->cells, column, &value);
}

/* Parents that are part of the key. */
static int key_ready(struct p2p_rowwork *work, struct p2p_target *target, bool *out)
{
	const struct p2p_table *table = target->table;
	struct p2p_key_part parts[P2P_KEY_COLUMNS_MAX];
	struct p2p_rowref row;
	struct p2p_buf key;
	int64_t number;
	uint32_t i;
	int rc = p2p_identity_key_parts(table, work->identity.key, work->identity.key_len, parts);

	p2p_buf_init(&key, P2P_RECORD_BYTES_MAX);
	for (i = 0; i < table->key_count && *out && !rc; i++) {
		uint32_t at = table->columns[table->key[i]].reference;

		if (!parts[i].reference)
			continue;
		p2p_require(at != P2P_REFERENCE_NONE); /* p2p_rowmerge_fits() */
		p2p_buf_reset(&key);
		p2p_identity_put(&key, &parts[i].target);
		row.table = p2p_refs_parent(&target->settle->refs, &table->references[at]);
		row.key = key.data;
		row.len = key.len;
		rc = p2p_buf_error(&key);
		if (!rc)
			rc = p2p_refs_number(&target->settle->refs, &row, &number, out);
		if (rc == P2P_ENOENT) {
			*out = false;
			rc = 0;
		}
		if (!rc && *out)
			rc = p2p_settle_present(target->settle, row.table, number);
	}
	p2p_buf_deinit(&key);
	return rc;
}

static int parent_present(struct p2p_target *target, uint32_t column, int64_t number)
{
	const struct p2p_reference *reference =
		&target->table->references[target->table->columns[column].reference];

	return p2p_settle_present(target->settle, p2p_refs_parent(&target->settle->refs, reference),
				  number);
}

int p2p_rowrefs_ready(struct p2p_rowwork *work, struct p2p_target *target, bool *out)
{
	int64_t number = 0;
	uint32_t i;
	int rc = 0;

	*out = true;
	for (i = 0; i < work->ref_count && *out && !rc; i++) {
		if (work->refs[i].kind != P2P_REFCELL_ROW)
			continue;
		rc = target_number(work, target, i, &number, out);
		if (rc == P2P_ENOENT) {
			*out = false;
			return 0;
		}
		if (!rc && *out)
			rc = parent_present(target, i, number);
		if (!rc && *out)
			cell_number(work, i, number);
	}
	if (!rc && *out && target->table->key_references)
		rc = key_ready(work, target, out);
	return rc;
}

int p2p_rowrefs_key(struct p2p_rowwork *work, struct p2p_target *target)
{
	const struct p2p_table *table = target->table;
	struct p2p_key_part parts[P2P_KEY_COLUMNS_MAX];
	char text[P2P_NUMBER_TEXT_BYTES];
	struct p2p_value value;
	int64_t number = 0;
	uint32_t i;
	int rc = p2p_identity_key_parts(table, work->identity.key, work->identity.key_len, parts);

	for (i = 0; i < table->key_count && !rc; i++) {
		uint32_t column = table->key[i];

		value = parts[i].value;
		if (parts[i].reference) {
			rc = p2p_refs_part_number(&target->settle->refs, table, i, &parts[i],
						  &number);
			memset(&value, 0, sizeof(value));
			value.type = rc ? P2P_BLOB : P2P_INTEGER;
			value.integer = number;
			value.bytes = work->identity.key;
			value.len = rc ? work->identity.key_len : 0;
			rc = rc == P2P_ENOENT ? 0 : rc;
		} else if (work->cells.set[column]) {
			continue;
		} else {
			rc = p2p_value_as_stored(&value, table->columns[column].affinity, text);
		}
		p2p_require(rc || value.bytes != (const uint8_t *)text); /* has its affinity */
		if (!rc)
			p2p_cells_set(&work->cells, column, &value);
	}
	return rc == P2P_EPROTO ? P2P_ECORRUPT : rc;
}

int p2p_rowrefs_claimed(struct p2p_rowwork *work, struct p2p_target *target)
{
	struct p2p_value identity = {.type = P2P_BLOB};
	bool shown;
	int64_t number = 0;
	uint32_t i;
	int rc = 0;

	for (i = 0; i < work->ref_count && !rc; i++) {
		if (work->refs[i].kind != P2P_REFCELL_ROW)
			continue;
		rc = target_number(work, target, i, &number, &shown);
		if (!rc) {
			cell_number(work, i, number);
		} else if (rc == P2P_ENOENT) {
			identity.bytes = work->targets.data + work->refs[i].at;
			identity.len = work->refs[i].len;
			p2p_cells_set(&work->cells, i, &identity);
			rc = 0;
		}
	}
	if (!rc && !target->table->generated_identity)
		rc = p2p_rowrefs_key(work, target);
	return rc;
}

/* --- keeping ---------------------------------------------------------------------------------- */

static int keep_column(struct p2p_rowwork *work, struct p2p_target *target, uint32_t column,
		       bool parked)
{
	const struct p2p_table *table = target->table;
	const struct p2p_refcell *cell = &work->refs[column];
	struct p2p_store_ref ref = {.slot = table->columns[column].slot};
	struct p2p_rowref row = row_of(work, target);
	const struct p2p_table *parent;

	if (cell->kind == P2P_REFCELL_LOOSE ||
	    (cell->kind == P2P_REFCELL_ROW && (parked || cell->masked))) {
		if (cell->kind == P2P_REFCELL_ROW) {
			parent = p2p_refs_parent(
				&target->settle->refs,
				&table->references[table->columns[column].reference]);
			ref.parent = parent->number;
			ref.key = work->targets.data + cell->at;
			ref.len = cell->len;
		}
		p2p_settle_refs_written(target, ref.parent);
		return p2p_store_ref_put(target->store, &row, &ref);
	}
	return target->gates.refs ? p2p_store_ref_drop(target->store, &row, ref.slot) : 0;
}

/* Parents that are part of the key: whoever looks for children that are not shown finds them as
 * others. */
static int keep_key(struct p2p_rowwork *work, struct p2p_target *target, bool parked)
{
	const struct p2p_table *table = target->table;
	struct p2p_key_part parts[P2P_KEY_COLUMNS_MAX];
	struct p2p_rowref row = row_of(work, target);
	struct p2p_buf key;
	uint32_t i;
	int rc = p2p_identity_key_parts(table, work->identity.key, work->identity.key_len, parts);

	p2p_buf_init(&key, P2P_RECORD_BYTES_MAX);
	for (i = 0; i < table->key_count && !rc; i++) {
		const struct p2p_column *column = &table->columns[table->key[i]];
		struct p2p_store_ref ref = {.slot = column->slot};

		if (!parts[i].reference || column->reference == P2P_REFERENCE_NONE)
			continue;
		if (!parked) {
			if (target->gates.refs)
				rc = p2p_store_ref_drop(target->store, &row, ref.slot);
			continue;
		}
		p2p_buf_reset(&key);
		p2p_identity_put(&key, &parts[i].target);
		rc = p2p_buf_error(&key);
		ref.parent = p2p_refs_parent(&target->settle->refs,
					     &table->references[column->reference])
				     ->number;
		ref.key = key.data;
		ref.len = key.len;
		p2p_settle_refs_written(target, ref.parent);
		if (!rc)
			rc = p2p_store_ref_put(target->store, &row, &ref);
	}
	p2p_buf_deinit(&key);
	return rc == P2P_EPROTO ? P2P_ECORRUPT : rc;
}

int p2p_rowrefs_keep(struct p2p_rowwork *work, struct p2p_target *target, bool parked)
{
	uint32_t i;
	int rc = work->ref_count ? p2p_settle_gates(target) : 0;

	for (i = 0; i < work->ref_count && !rc; i++)
		if (work->refs[i].kind != P2P_REFCELL_UNSET)
			rc = keep_column(work, target, i, parked);
	if (!rc && target->table->key_references)
		rc = keep_key(work, target, parked);
	if (!rc && work->ref_count && (parked || target->gates.refs))
		rc = p2p_valuekeys_keep(target, work, parked);
	return rc;
}

int p2p_rowrefs_rank(const struct p2p_rowwork *work, uint32_t column, struct p2p_buf *out)
{
	const struct p2p_refcell *cell = &work->refs[column];

	if (cell->kind == P2P_REFCELL_ROW) {
		p2p_buf_put_u8(out, P2P_CELL_REFERENCE);
		p2p_buf_put(out, work->targets.data + cell->at, cell->len);
	} else {
		if (cell->kind == P2P_REFCELL_LOOSE)
			p2p_buf_put_u8(out, P2P_CELL_LOOSE);
		if (work->cells.set[column])
			p2p_value_put(out, &work->cells.values[column]);
		else
			p2p_buf_put_u8(out, P2P_NULL);
	}
	return p2p_buf_error(out);
}
