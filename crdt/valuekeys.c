/* FOREIGN KEYs by value; see valuekeys.h. */
#include "crdt/valuekeys.h"

#include <sqlite3.h>
#include <string.h>

#include "crdt/rowrefs.h"
#include "proto/check.h"
#include "proto/mem.h"

#define SQL_BYTES_MAX (16u * 1024 * 1024)

static const char *const collations[] = {"BINARY", "NOCASE", "RTRIM"};

/* --- what there is ---------------------------------------------------------------------------- */

static int valuekey_add(struct p2p_target *target, struct p2p_table *child, uint32_t foreign)
{
	struct p2p_valuekey *grown =
		p2p_realloc(target->valuekeys, (target->valuekey_count + 1) * sizeof(*grown));
	uint32_t i;

	if (!grown)
		return P2P_ENOMEM;
	target->valuekeys = grown;
	memset(&grown[target->valuekey_count], 0, sizeof(*grown));
	grown[target->valuekey_count].table = child;
	grown[target->valuekey_count++].foreign = foreign;
	for (i = 0; i < child->foreigns[foreign].count; i++)
		target->named[child->foreigns[foreign].parents[i]] = 1;
	return 0;
}

int p2p_valuekeys_init(struct p2p_target *target)
{
	size_t i;
	uint32_t j;
	int rc = 0;

	target->parents = p2p_calloc(target->table->foreign_count + 1, sizeof(sqlite3_stmt *));
	target->named = p2p_calloc(target->table->column_count + 1, 1);
	target->table_foreigns = target->table->foreign_count;
	if (!target->parents || !target->named)
		return P2P_ENOMEM;
	for (i = 0; i < p2p_store_table_count(target->store) && !rc; i++) {
		struct p2p_table *child = p2p_store_table(target->store, i);

		for (j = 0; j < child->foreign_count && !rc; j++)
			if (child->foreigns[j].by_value &&
			    p2p_id_cmp(&child->foreigns[j].parent_id, &target->table->id) == 0)
				rc = valuekey_add(target, child, j);
	}
	return rc;
}

void p2p_valuekeys_deinit(struct p2p_target *target)
{
	size_t i;

	for (i = 0; i < target->valuekey_count; i++)
		(void)sqlite3_finalize(target->valuekeys[i].children); /* seen at the steps */
	for (i = 0; target->parents && i < target->table_foreigns; i++)
		(void)sqlite3_finalize(target->parents[i]);
	p2p_free(target->valuekeys);
	p2p_free(target->parents);
	p2p_free(target->named);
}

/* --- names ------------------------------------------------------------------------------------ */

/* columns: of the cells, in the order of the FOREIGN KEY. */
static int name_of(const struct p2p_table *parent, const struct p2p_foreign *foreign,
		   const uint32_t *columns, const struct p2p_cells *cells, struct p2p_id *out)
{
	struct p2p_hasher hasher;
	struct p2p_buf tuple;
	uint32_t i;
	int rc = 0;

	p2p_buf_init(&tuple, P2P_RECORD_BYTES_MAX);
	p2p_hasher_init(&hasher, "p2pnode/name/1", sizeof(out->bytes));
	for (i = 0; i < foreign->count && !rc; i++) {
		const struct p2p_column *to = &parent->columns[foreign->parents[i]];

		p2p_hasher_add_u64(&hasher, foreign->parents[i]);
		rc = p2p_value_put_canonical(&tuple, &cells->values[columns[i]], to->affinity,
					     to->collation);
	}
	if (!rc)
		rc = p2p_buf_error(&tuple);
	if (!rc)
		p2p_hasher_add(&hasher, tuple.data, tuple.len);
	p2p_hasher_final(&hasher, out->bytes, sizeof(out->bytes));
	p2p_buf_deinit(&tuple);
	return rc;
}

static bool tuple_whole(const struct p2p_foreign *foreign, const uint32_t *columns,
			const struct p2p_cells *cells)
{
	uint32_t i;

	for (i = 0; i < foreign->count; i++)
		if (!cells->set[columns[i]] || cells->values[columns[i]].type == P2P_NULL)
			return false;
	return true;
}

static bool tuple_loose(const struct p2p_foreign *foreign, const struct p2p_rowwork *work)
{
	uint32_t i;

	for (i = 0; i < foreign->count; i++)
		if (work->refs[foreign->columns[i]].kind == P2P_REFCELL_LOOSE)
			return true;
	return false;
}

int p2p_valuekeys_name(struct p2p_target *target, const struct p2p_rowwork *work, uint32_t foreign,
		       struct p2p_id *out, bool *out_none)
{
	const struct p2p_foreign *at = &target->table->foreigns[foreign];
	const struct p2p_table *parent;

	*out_none = !at->by_value || !tuple_whole(at, at->columns, &work->cells) ||
		    tuple_loose(at, work);
	if (*out_none)
		return 0;
	parent = p2p_store_table_by_id(target->store, &at->parent_id);
	return name_of(parent, at, at->columns, &work->cells, out);
}

int p2p_valuekeys_names(struct p2p_target *target, const struct p2p_cells *cells,
			int (*each)(void *ctx, const struct p2p_id *name), void *ctx)
{
	struct p2p_id name;
	size_t i;
	int rc = 0;

	for (i = 0; i < target->valuekey_count && !rc; i++) {
		const struct p2p_valuekey *key = &target->valuekeys[i];
		const struct p2p_foreign *foreign = &key->table->foreigns[key->foreign];

		if (!tuple_whole(foreign, foreign->parents, cells))
			continue;
		rc = name_of(target->table, foreign, foreign->parents, cells, &name);
		if (!rc)
			rc = each(ctx, &name);
	}
	return rc;
}

bool p2p_valuekeys_touched(const struct p2p_target *target, const struct p2p_cells *cells)
{
	uint32_t i;

	for (i = 0; i < cells->count && target->valuekey_count; i++)
		if (cells->set[i] && target->named[i])
			return true;
	return false;
}

/* --- by value --------------------------------------------------------------------------------- */

/* SELECT key FROM table WHERE column = ? ..., compared as the parent's columns are. */
static int find_prepare(struct p2p_target *target, const struct p2p_table *table,
			const struct p2p_foreign *foreign, bool children, sqlite3_stmt **out)
{
	const struct p2p_table *parent = p2p_store_table_by_id(target->store, &foreign->parent_id);
	const uint32_t *columns = children ? foreign->columns : foreign->parents;
	struct p2p_buf sql;
	uint32_t i;
	int rc;

	if (*out)
		return 0;
	p2p_buf_init(&sql, SQL_BYTES_MAX);
	for (i = 0; i < table->key_count; i++) {
		p2p_sql_text(&sql, i ? "," : "SELECT ");
		p2p_sql_name(&sql, table->columns[table->key[i]].name);
	}
	p2p_sql_text(&sql, " FROM main.");
	p2p_sql_name(&sql, table->name);
	for (i = 0; i < foreign->count; i++) {
		p2p_sql_text(&sql, i ? " AND " : " WHERE ");
		p2p_sql_name(&sql, table->columns[columns[i]].name);
		p2p_sql_text(&sql, "=? COLLATE ");
		p2p_sql_text(&sql, collations[parent->columns[foreign->parents[i]].collation]);
	}
	rc = p2p_sql_prepare(target->store, &sql, out);
	p2p_buf_deinit(&sql);
	return rc;
}

static int find_bind(sqlite3_stmt *find, const uint32_t *columns, uint32_t count,
		     const struct p2p_cells *cells)
{
	uint32_t i;
	int rc = 0;

	for (i = 0; i < count && !rc; i++)
		rc = p2p_value_bind(find, (int)i + 1, &cells->values[columns[i]]);
	return rc;
}

/* Identity of the row that the statement stands on. */
static int find_identity(struct p2p_target *target, struct p2p_table *table, sqlite3_stmt *find,
			 struct p2p_buf *out)
{
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	uint32_t i;
	int rc = 0;

	for (i = 0; i < table->key_count && !rc; i++)
		rc = p2p_value_column(&key[i], find, (int)i);
	if (!rc)
		rc = p2p_refs_row_at(&target->settle->refs, table, key, out);
	return rc == P2P_IDENTITY_NULL_KEY ? P2P_ENOENT : rc;
}

int p2p_valuekeys_parent(struct p2p_target *target, const struct p2p_cells *cells, uint32_t foreign,
			 struct p2p_buf *out)
{
	const struct p2p_foreign *at = &target->table->foreigns[foreign];
	struct p2p_table *parent = p2p_store_table_by_id(target->store, &at->parent_id);
	sqlite3_stmt **find = &target->parents[foreign];
	int rc = find_prepare(target, parent, at, false, find), step;

	if (!rc)
		rc = find_bind(*find, at->columns, at->count, cells);
	if (rc)
		return rc;
	step = sqlite3_step(*find);
	if (step == SQLITE_ROW)
		rc = find_identity(target, parent, *find, out);
	else
		rc = step == SQLITE_DONE ? P2P_ENOENT
					 : p2p_store_error(target->store, step, NULL, "read");
	(void)sqlite3_reset(*find); /* repeats the step's error */
	return rc;
}

static bool tuple_touched(const struct p2p_foreign *foreign, const struct p2p_cells *cells)
{
	uint32_t i;

	for (i = 0; i < foreign->count; i++)
		if (cells->set[foreign->columns[i]])
			return true;
	return false;
}

int p2p_valuekeys_ready(struct p2p_target *target, const struct p2p_rowwork *work, bool whole,
			bool *out)
{
	struct p2p_buf identity;
	uint32_t i;
	int rc = 0;

	p2p_buf_init(&identity, P2P_RECORD_BYTES_MAX);
	for (i = 0; i < target->table->foreign_count && *out && !rc; i++) {
		const struct p2p_foreign *at = &target->table->foreigns[i];

		if (!at->by_value || !tuple_touched(at, &work->cells) || tuple_loose(at, work))
			continue;
		if (tuple_whole(at, at->columns, &work->cells)) {
			rc = p2p_valuekeys_parent(target, &work->cells, i, &identity);
			*out = rc == 0;
			rc = rc == P2P_ENOENT ? 0 : rc;
		} else if (!whole && at->count > 1) {
			*out = false; /* the rest is in the table */
		}
	}
	p2p_buf_deinit(&identity);
	return rc;
}

static int children_list(struct p2p_target *target, struct p2p_valuekey *key,
			 const struct p2p_cells *cells, struct p2p_buf *out)
{
	const struct p2p_foreign *foreign = &key->table->foreigns[key->foreign];
	struct p2p_buf identity;
	int rc = find_prepare(target, key->table, foreign, true, &key->children), step;

	if (!rc)
		rc = find_bind(key->children, foreign->parents, foreign->count, cells);
	if (rc)
		return rc;
	p2p_buf_init(&identity, P2P_RECORD_BYTES_MAX);
	while (!rc && (step = sqlite3_step(key->children)) != SQLITE_DONE) {
		rc = step == SQLITE_ROW
			     ? find_identity(target, key->table, key->children, &identity)
			     : p2p_store_error(target->store, step, NULL, "look for children");
		if (!rc)
			p2p_buf_put_bytes(out, identity.data, identity.len);
		rc = rc == P2P_ENOENT ? 0 : rc; /* not replicated, or not captured */
	}
	(void)sqlite3_reset(key->children); /* repeats the step's error */
	p2p_buf_deinit(&identity);
	return rc ? rc : p2p_buf_error(out);
}

int p2p_valuekeys_children(struct p2p_target *target, const struct p2p_cells *cells,
			   p2p_plan_each each, void *ctx)
{
	struct p2p_reader reader;
	struct p2p_buf list;
	const uint8_t *key;
	size_t i, len;
	int rc = 0;

	p2p_buf_init(&list, P2P_RECORD_BYTES_MAX);
	for (i = 0; i < target->valuekey_count && !rc; i++) {
		struct p2p_valuekey *at = &target->valuekeys[i];

		if (!tuple_whole(&at->table->foreigns[at->foreign],
				 at->table->foreigns[at->foreign].parents, cells))
			continue;
		p2p_buf_reset(&list);
		rc = children_list(target, at, cells, &list);
		p2p_reader_init(&reader, list.data, list.len);
		while (!rc && p2p_reader_left(&reader)) {
			key = p2p_read_bytes(&reader, P2P_RECORD_BYTES_MAX, &len);
			p2p_require(key != NULL); /* we wrote the list */
			rc = each(ctx, at->table->number, key, len);
		}
	}
	p2p_buf_deinit(&list);
	return rc;
}

static int child_ask(void *ctx, uint32_t number, const void *bytes, size_t len)
{
	struct p2p_settle *settle = ctx;
	struct p2p_target *target;
	struct p2p_buf key;
	int rc = settle->target(settle->ctx, p2p_store_table_by_number(settle->store, number),
				&target);

	p2p_buf_init(&key, P2P_RECORD_BYTES_MAX);
	p2p_buf_put(&key, bytes, len);
	if (!rc)
		rc = p2p_buf_error(&key);
	if (!rc)
		rc = p2p_settle_ask(target, key.data, key.len);
	p2p_buf_deinit(&key);
	return rc;
}

int p2p_valuekeys_ask(struct p2p_target *target, const struct p2p_buf *key)
{
	struct p2p_rowwork *work = &target->settle->child;
	int rc;

	if (!target->valuekey_count)
		return 0;
	rc = p2p_rowwork_load_key(work, target, key->data, key->len);
	if (rc || !p2p_numbers_complete(target->table, &work->state) ||
	    (work->state.flags & P2P_ROW_PARKED))
		return rc;
	rc = p2p_rowwork_gather(work, target, true);
	return rc ? rc : p2p_valuekeys_children(target, &work->cells, child_ask, target->settle);
}

/* --- keeping ---------------------------------------------------------------------------------- */

int p2p_valuekeys_keep(struct p2p_target *target, struct p2p_rowwork *work, bool parked)
{
	struct p2p_rowref row = {target->table, work->key.data, work->key.len};
	struct p2p_store_ref ref;
	struct p2p_id name;
	bool none = true;
	uint32_t i;
	int rc = 0;

	if (parked && target->table->foreign_count && !target->table->generated_identity)
		rc = p2p_rowrefs_key(work, target); /* a FOREIGN KEY may be part of it */
	for (i = 0; i < target->table->foreign_count && !rc; i++) {
		const struct p2p_foreign *at = &target->table->foreigns[i];

		if (!at->by_value)
			continue;
		ref.slot = P2P_SLOTS_MAX + i;
		if (parked)
			rc = p2p_valuekeys_name(target, work, i, &name, &none);
		if (!rc && !none) {
			ref.parent = p2p_store_table_by_id(target->store, &at->parent_id)->number;
			ref.key = name.bytes;
			ref.len = sizeof(name.bytes);
			p2p_settle_refs_written(target, ref.parent);
			rc = p2p_store_ref_put(target->store, &row, &ref);
		} else if (!rc && target->gates.refs) {
			rc = p2p_store_ref_drop(target->store, &row, ref.slot);
		}
	}
	return rc;
}
