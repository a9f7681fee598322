/* References, claims and yields beside row states; see store_refs.h. Which columns are references.
 */
#include "crdt/store_refs.h"

#include <sqlite3.h>
#include <string.h>

#include "crdt/store_private.h"
#include "proto/check.h"
#include "proto/mem.h"

static int statement(struct p2p_store *store, enum p2p_store_sql which, uint32_t table,
		     sqlite3_stmt **out)
{
	int rc = p2p_store_statement(store, which, out);

	if (!rc && sqlite3_bind_int64(*out, 1, table) != SQLITE_OK)
		rc = P2P_ENOMEM;
	return rc;
}

static int bind_bytes(sqlite3_stmt *stmt, int at, const void *bytes, size_t len)
{
	return sqlite3_bind_blob64(stmt, at, len ? bytes : "", len, SQLITE_STATIC) == SQLITE_OK
		       ? 0
		       : P2P_ENOMEM;
}

static int row_statement(struct p2p_store *store, enum p2p_store_sql which,
			 const struct p2p_rowref *row, sqlite3_stmt **out)
{
	int rc = statement(store, which, row->table->number, out);

	return rc ? rc : bind_bytes(*out, 2, row->key, row->len);
}

/* Runs a query that says whether there is something. */
static int exists(struct p2p_store *store, enum p2p_store_sql which, const struct p2p_table *table,
		  bool *out)
{
	sqlite3_stmt *stmt;
	int rc = statement(store, which, table->number, &stmt), step;

	*out = false;
	if (rc)
		return rc;
	step = sqlite3_step(stmt);
	*out = step == SQLITE_ROW;
	if (step != SQLITE_ROW && step != SQLITE_DONE)
		rc = p2p_store_error(store, step, NULL, "read");
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

/* --- references ------------------------------------------------------------------------------- */

int p2p_store_ref_get(struct p2p_store *store, const struct p2p_rowref *row, uint32_t slot,
		      uint32_t *out_parent, struct p2p_buf *out_key)
{
	sqlite3_stmt *stmt;
	int rc = row_statement(store, P2P_SQL_REF_GET, row, &stmt), step;

	if (!rc && sqlite3_bind_int64(stmt, 3, slot) != SQLITE_OK)
		rc = P2P_ENOMEM;
	if (rc)
		return rc;
	step = sqlite3_step(stmt);
	if (step == SQLITE_ROW) {
		*out_parent = (uint32_t)sqlite3_column_int64(stmt, 0);
		p2p_buf_reset(out_key);
		p2p_buf_put(out_key, sqlite3_column_blob(stmt, 1),
			    (size_t)sqlite3_column_bytes(stmt, 1));
		rc = p2p_buf_error(out_key);
	} else {
		rc = step == SQLITE_DONE ? P2P_ENOENT : p2p_store_error(store, step, NULL, "read");
	}
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

int p2p_store_ref_each(struct p2p_store *store, const struct p2p_rowref *row,
		       int (*each)(void *ctx, const struct p2p_store_ref *ref), void *ctx)
{
	struct p2p_store_ref ref;
	sqlite3_stmt *stmt;
	int rc = row_statement(store, P2P_SQL_REF_EACH, row, &stmt);

	if (rc)
		return rc;
	while (p2p_store_next(store, stmt, &rc)) {
		ref.slot = (uint32_t)sqlite3_column_int64(stmt, 0);
		ref.parent = (uint32_t)sqlite3_column_int64(stmt, 1);
		ref.key = sqlite3_column_blob(stmt, 2);
		ref.len = (size_t)sqlite3_column_bytes(stmt, 2);
		rc = each(ctx, &ref);
	}
	return rc;
}

int p2p_store_ref_put(struct p2p_store *store, const struct p2p_rowref *row,
		      const struct p2p_store_ref *ref)
{
	sqlite3_stmt *stmt;
	int rc = row_statement(store, P2P_SQL_REF_PUT, row, &stmt);

	if (!rc && (sqlite3_bind_int64(stmt, 3, ref->slot) != SQLITE_OK ||
		    sqlite3_bind_int64(stmt, 4, ref->parent) != SQLITE_OK))
		rc = P2P_ENOMEM;
	if (!rc)
		rc = bind_bytes(stmt, 5, ref->key, ref->len);
	return rc ? rc : p2p_store_run(store, stmt, "note a reference in");
}

int p2p_store_ref_drop(struct p2p_store *store, const struct p2p_rowref *row, uint32_t slot)
{
	sqlite3_stmt *stmt;
	int rc = row_statement(store, P2P_SQL_REF_DROP, row, &stmt);

	if (!rc && sqlite3_bind_int64(stmt, 3, slot) != SQLITE_OK)
		rc = P2P_ENOMEM;
	return rc ? rc : p2p_store_run(store, stmt, "drop a reference of");
}

static int children_run(struct p2p_store *store, sqlite3_stmt *stmt,
			int (*each)(void *ctx, uint32_t table, const void *key, size_t len,
				    uint32_t slot),
			void *ctx)
{
	int rc = 0;

	while (p2p_store_next(store, stmt, &rc))
		rc = each(ctx, (uint32_t)sqlite3_column_int64(stmt, 0),
			  sqlite3_column_blob(stmt, 1), (size_t)sqlite3_column_bytes(stmt, 1),
			  (uint32_t)sqlite3_column_int64(stmt, 2));
	return rc;
}

int p2p_store_ref_children(struct p2p_store *store, const struct p2p_rowref *parent,
			   int (*each)(void *ctx, uint32_t table, const void *key, size_t len,
				       uint32_t slot),
			   void *ctx)
{
	sqlite3_stmt *stmt;
	int rc = row_statement(store, P2P_SQL_REF_CHILDREN, parent, &stmt);

	return rc ? rc : children_run(store, stmt, each, ctx);
}

int p2p_store_ref_waiting(struct p2p_store *store, const struct p2p_table *parent,
			  int (*each)(void *ctx, uint32_t table, const void *key, size_t len,
				      uint32_t slot),
			  void *ctx)
{
	sqlite3_stmt *stmt;
	int rc = statement(store, P2P_SQL_REF_WAITING, parent->number, &stmt);

	return rc ? rc : children_run(store, stmt, each, ctx);
}

int p2p_store_ref_any(struct p2p_store *store, const struct p2p_table *table, bool *out_of,
		      bool *out_to)
{
	int rc = exists(store, P2P_SQL_REF_ANY, table, out_of);

	return rc ? rc : exists(store, P2P_SQL_REF_ANY_TO, table, out_to);
}

/* --- claims ----------------------------------------------------------------------------------- */

int p2p_store_claim_put(struct p2p_store *store, const struct p2p_rowref *row,
			const struct p2p_id *hash, bool held)
{
	sqlite3_stmt *stmt;
	int rc = row_statement(store, P2P_SQL_CLAIM_PUT, row, &stmt);

	if (!rc)
		rc = bind_bytes(stmt, 3, hash->bytes, sizeof(hash->bytes));
	if (!rc && sqlite3_bind_int64(stmt, 4, held) != SQLITE_OK)
		rc = P2P_ENOMEM;
	return rc ? rc : p2p_store_run(store, stmt, "note a claim in");
}

int p2p_store_claim_drop(struct p2p_store *store, const struct p2p_rowref *row)
{
	sqlite3_stmt *stmt;
	int rc = row_statement(store, P2P_SQL_CLAIM_DROP, row, &stmt);

	return rc ? rc : p2p_store_run(store, stmt, "drop claims of");
}

int p2p_store_claim_each(struct p2p_store *store, const struct p2p_table *table,
			 const struct p2p_id *hash, bool held,
			 int (*each)(void *ctx, const void *key, size_t len, bool held), void *ctx)
{
	sqlite3_stmt *stmt;
	int rc = statement(store, held ? P2P_SQL_CLAIM_EACH_HELD : P2P_SQL_CLAIM_EACH,
			   table->number, &stmt);

	if (!rc)
		rc = bind_bytes(stmt, 2, hash->bytes, sizeof(hash->bytes));
	if (rc)
		return rc;
	while (p2p_store_next(store, stmt, &rc))
		rc = each(ctx, sqlite3_column_blob(stmt, 0), (size_t)sqlite3_column_bytes(stmt, 0),
			  sqlite3_column_int64(stmt, 1) != 0);
	return rc;
}

int p2p_store_claim_of(struct p2p_store *store, const struct p2p_rowref *row,
		       int (*each)(void *ctx, const struct p2p_id *hash), void *ctx)
{
	struct p2p_id hash;
	sqlite3_stmt *stmt;
	int rc = row_statement(store, P2P_SQL_CLAIM_OF, row, &stmt);

	if (rc)
		return rc;
	while (p2p_store_next(store, stmt, &rc)) {
		if (sqlite3_column_bytes(stmt, 0) == P2P_ID_BYTES) {
			memcpy(hash.bytes, sqlite3_column_blob(stmt, 0), P2P_ID_BYTES);
			rc = each(ctx, &hash);
		} else {
			rc = P2P_ECORRUPT;
		}
	}
	return rc;
}

int p2p_store_claim_held(struct p2p_store *store, const struct p2p_rowref *row, bool *out)
{
	sqlite3_stmt *stmt;
	int rc = row_statement(store, P2P_SQL_CLAIM_HELD, row, &stmt), step;

	*out = false;
	if (rc)
		return rc;
	step = sqlite3_step(stmt);
	*out = step == SQLITE_ROW && sqlite3_column_int64(stmt, 0) != 0;
	if (step != SQLITE_ROW && step != SQLITE_DONE)
		rc = p2p_store_error(store, step, NULL, "read");
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

int p2p_store_claim_any(struct p2p_store *store, const struct p2p_table *table, bool *out)
{
	return exists(store, P2P_SQL_CLAIM_ANY, table, out);
}

/* --- yields ----------------------------------------------------------------------------------- */

int p2p_store_yield_put(struct p2p_store *store, const struct p2p_rowref *row,
			const struct p2p_store_yield *yield)
{
	sqlite3_stmt *stmt;
	int rc = row_statement(store, P2P_SQL_YIELD_PUT, row, &stmt);

	if (!rc)
		rc = bind_bytes(stmt, 3, yield->constraint.bytes, P2P_ID_BYTES);
	if (!rc && (sqlite3_bind_int64(stmt, 4, (int64_t)yield->stamp) != SQLITE_OK ||
		    sqlite3_bind_int64(stmt, 5, yield->replica) != SQLITE_OK))
		rc = P2P_ENOMEM;
	return rc ? rc : p2p_store_run(store, stmt, "note a yield in");
}

int p2p_store_yield_get(struct p2p_store *store, const struct p2p_rowref *row,
			const struct p2p_id *constraint, struct p2p_store_yield *out)
{
	sqlite3_stmt *stmt;
	int rc = row_statement(store, P2P_SQL_YIELD_GET, row, &stmt), step;

	if (!rc)
		rc = bind_bytes(stmt, 3, constraint->bytes, P2P_ID_BYTES);
	if (rc)
		return rc;
	step = sqlite3_step(stmt);
	out->constraint = *constraint;
	if (step == SQLITE_ROW) {
		out->stamp = (uint64_t)sqlite3_column_int64(stmt, 0);
		out->replica = (uint32_t)sqlite3_column_int64(stmt, 1);
	} else {
		rc = step == SQLITE_DONE ? P2P_ENOENT : p2p_store_error(store, step, NULL, "read");
	}
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

int p2p_store_yield_any(struct p2p_store *store, const struct p2p_table *table, bool *out)
{
	return exists(store, P2P_SQL_YIELD_ANY, table, out);
}

int p2p_store_life_drop(struct p2p_store *store, const struct p2p_rowref *row)
{
	static const enum p2p_store_sql drops[] = {P2P_SQL_REF_CLEAR, P2P_SQL_CLAIM_DROP,
						   P2P_SQL_YIELD_CLEAR};
	sqlite3_stmt *stmt;
	size_t i;
	int rc = 0;

	for (i = 0; i < p2p_array_len(drops) && !rc; i++) {
		rc = row_statement(store, drops[i], row, &stmt);
		if (!rc)
			rc = p2p_store_run(store, stmt, "forget a row of");
	}
	return rc;
}

int p2p_store_choose(struct p2p_store *store, const struct p2p_table *table,
		     const struct p2p_choice *choices, size_t count)
{
	sqlite3_stmt *stmt = NULL;
	size_t i;
	int rc = SQLITE_OK;

	if (!count)
		return 0;
	rc = sqlite3_prepare_v2(store->db,
				"UPDATE main.p2p_column SET flags = flags | ?3,"
				" parent = coalesce(?4, parent) WHERE t = ?1 AND id = ?2",
				-1, &stmt, NULL);
	for (i = 0; i < count && rc == SQLITE_OK; i++) {
		bool named = (choices[i].flags & P2P_COLUMN_NAMED) != 0;

		if (sqlite3_bind_int64(stmt, 1, table->number) != SQLITE_OK ||
		    bind_bytes(stmt, 2, choices[i].column.bytes, P2P_ID_BYTES) ||
		    sqlite3_bind_int64(stmt, 3, choices[i].flags) != SQLITE_OK ||
		    (named && bind_bytes(stmt, 4, choices[i].parent.bytes, P2P_ID_BYTES)) ||
		    (!named && sqlite3_bind_null(stmt, 4) != SQLITE_OK))
			rc = SQLITE_NOMEM;
		else
			rc = sqlite3_step(stmt) == SQLITE_DONE ? sqlite3_reset(stmt)
							       : sqlite3_errcode(store->db);
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc == SQLITE_OK ? 0 : p2p_store_error(store, rc, NULL, "choose columns of");
}

/* --- which columns are references ------------------------------------------------------------- */

/* SET NULL and SET DEFAULT. A key says who the row is, so it shows that or nothing. */
static int instead_find(struct p2p_store *store, const struct p2p_table *table,
			struct p2p_reference *reference)
{
	const struct p2p_column *column = &table->columns[reference->column];
	struct p2p_value value = {.type = P2P_NULL};
	struct p2p_reader reader;
	struct p2p_buf bytes;
	int rc = 0;

	if ((column->flags & P2P_COLUMN_KEY) ||
	    (reference->on_delete != P2P_FK_SET_NULL && reference->on_delete != P2P_FK_SET_DEFAULT))
		return 0;
	p2p_buf_init(&bytes, P2P_RECORD_BYTES_MAX);
	if (reference->on_delete == P2P_FK_SET_DEFAULT)
		rc = p2p_store_default_put(store, table, reference->column, &bytes);
	p2p_reader_init(&reader, bytes.data, bytes.len);
	if (!rc && bytes.len)
		p2p_value_read(&reader, &value);
	if (value.type == P2P_NULL && !(column->flags & P2P_COLUMN_NOT_NULL)) {
		reference->instead = P2P_INSTEAD_NULL;
	} else if (value.type == P2P_INTEGER) {
		reference->instead = P2P_INSTEAD_NUMBER;
		reference->number = value.integer;
	}
	p2p_buf_deinit(&bytes);
	return rc;
}

static int declared_settle(struct p2p_store *store, struct p2p_table *table)
{
	uint32_t i;
	int rc = 0;

	for (i = 0; i < table->foreign_count && !rc; i++) {
		const struct p2p_foreign *foreign = &table->foreigns[i];
		struct p2p_table *parent = p2p_store_table_by_name(store, foreign->parent);
		struct p2p_reference reference = {.on_delete = foreign->on_delete,
						  .declared = true};

		if (!parent || parent->state != P2P_TABLE_LIVE ||
		    !p2p_foreign_is_reference(table, foreign, parent))
			continue;
		reference.column = foreign->columns[0];
		reference.parent = parent->id;
		rc = instead_find(store, table, &reference);
		if (!rc)
			rc = p2p_reference_add(table, &reference);
	}
	return rc;
}

static uint32_t column_named(const struct p2p_table *table, const char *name)
{
	uint32_t i;

	for (i = 0; i < table->column_count; i++)
		if (sqlite3_stricmp(table->columns[i].name, name) == 0)
			return i;
	return UINT32_MAX;
}

/* Columns of the parent; false: there are none such, or one of both is a number that projection
 * gives. */
static bool value_columns(const struct p2p_table *table, const struct p2p_foreign *foreign,
			  const struct p2p_table *parent)
{
	uint32_t i;

	for (i = 0; i < foreign->count; i++) {
		uint32_t to = UINT32_MAX, from = foreign->columns[i];

		if (foreign->to[i])
			to = column_named(parent, foreign->to[i]);
		else if (foreign->count == parent->key_count)
			to = parent->key[i];
		if (to == UINT32_MAX || parent->columns[to].slot == UINT32_MAX ||
		    table->columns[from].slot == UINT32_MAX ||
		    (parent->generated_identity && to == parent->key[0]) ||
		    (table->generated_identity && from == table->key[0]))
			return false;
		foreign->parents[i] = to;
	}
	return foreign->count > 0;
}

static void columns_mark(struct p2p_table *table, const struct p2p_foreign *foreign,
			 struct p2p_table *parent)
{
	uint32_t i;

	for (i = 0; i < foreign->count; i++) {
		table->columns[foreign->columns[i]].valued = true;
		parent->columns[foreign->parents[i]].meant = true;
	}
}

static int values_settle(struct p2p_store *store, struct p2p_table *table)
{
	uint32_t i;

	for (i = 0; i < table->foreign_count; i++) {
		struct p2p_foreign *foreign = &table->foreigns[i];
		struct p2p_table *parent = p2p_store_table_by_name(store, foreign->parent);

		if (!parent || parent->state != P2P_TABLE_LIVE ||
		    p2p_foreign_is_reference(table, foreign, parent))
			continue;
		p2p_free(foreign->parents);
		foreign->parents = p2p_calloc(foreign->count + 1, sizeof(*foreign->parents));
		if (!foreign->parents)
			return P2P_ENOMEM;
		foreign->parent_id = parent->id;
		foreign->by_value = value_columns(table, foreign, parent);
		if (foreign->by_value)
			columns_mark(table, foreign, parent);
	}
	return 0;
}

static int named_settle(struct p2p_store *store, struct p2p_table *table)
{
	uint32_t i;
	int rc = 0;

	for (i = 0; i < table->column_count && !rc; i++) {
		const struct p2p_column *column = &table->columns[i];
		struct p2p_reference reference = {.column = i, .parent = column->named};
		struct p2p_table *parent;

		if (!(column->flags & P2P_COLUMN_NAMED) || !p2p_column_holds_numbers(column))
			continue;
		parent = p2p_store_table_by_id(store, &column->named);
		if (parent && parent->state == P2P_TABLE_LIVE && parent->lone_number)
			rc = p2p_reference_add(table, &reference);
	}
	return rc;
}

int p2p_store_references_settle(struct p2p_store *store)
{
	size_t i;
	int rc = 0;

	for (i = 0; i < store->table_count && !rc; i++) {
		if (store->tables[i].state != P2P_TABLE_LIVE)
			continue;
		rc = declared_settle(store, &store->tables[i]);
		if (!rc)
			rc = named_settle(store, &store->tables[i]);
		if (!rc)
			rc = values_settle(store, &store->tables[i]);
	}
	return rc;
}

bool p2p_store_is_extension(struct p2p_store *store, const struct p2p_table *table)
{
	uint32_t i;

	for (i = 0; i < table->foreign_count && table->lone_number; i++) {
		const struct p2p_foreign *foreign = &table->foreigns[i];
		const struct p2p_table *parent = p2p_store_table_by_name(store, foreign->parent);

		if (parent && parent->state == P2P_TABLE_LIVE &&
		    foreign->columns[0] == table->key[0] &&
		    p2p_foreign_is_reference(table, foreign, parent))
			return true;
	}
	return false;
}
