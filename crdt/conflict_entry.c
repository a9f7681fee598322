/* Entries of p2p_conflict; see conflict_entry.h. */
#include "crdt/conflict_entry.h"

#include <sodium.h>
#include <sqlite3.h>
#include <string.h>

#include "crdt/hlc.h"
#include "crdt/parked.h"
#include "crdt/settle.h"
#include "crdt/store_private.h"
#include "proto/mem.h"

/* --- values as JSON ----------------------------------------------------------------------------
 */

static void put_base64(struct p2p_json *json, const struct p2p_value *value)
{
	size_t size = sodium_base64_ENCODED_LEN(value->len, sodium_base64_VARIANT_ORIGINAL);
	char *text = p2p_malloc(size);

	if (!text) {
		json->out->error = P2P_ENOMEM;
		return;
	}
	(void)sodium_bin2base64(text, size, value->bytes, value->len,
				sodium_base64_VARIANT_ORIGINAL);
	p2p_json_string(json, text);
	p2p_free(text);
}

static void put_bytes(struct p2p_json *json, const struct p2p_value *value)
{
	p2p_json_begin_object(json);
	p2p_json_key(json, "blob");
	put_base64(json, value);
	p2p_json_end_object(json);
}

static void put_real(struct p2p_json *json, double real)
{
	char text[64];
	bool finite = real - real == 0;

	(void)sqlite3_snprintf(sizeof(text), text, "%!.17g", real);
	if (finite)
		p2p_json_raw(json, text, strlen(text));
	else
		p2p_json_string(json, real > 0 ? "Infinity" : "-Infinity");
}

static void put_value(struct p2p_json *json, const struct p2p_value *value)
{
	switch (value->type) {
	case P2P_NULL:
		p2p_json_null(json);
		return;
	case P2P_INTEGER:
		p2p_json_i64(json, value->integer);
		return;
	case P2P_REAL:
		put_real(json, value->real);
		return;
	case P2P_TEXT:
		if (p2p_json_text_fits(value->bytes, value->len))
			p2p_json_text(json, value->bytes, value->len);
		else
			put_bytes(json, value);
		return;
	case P2P_BLOB:
		put_bytes(json, value);
	}
}

/* --- rows and who wrote them -------------------------------------------------------------------
 */

/* The values of its key; a reference to a row that has no number (any more) is NULL. */
static int row_key(struct p2p_rowwork *work, struct p2p_target *target, struct p2p_value *key)
{
	const struct p2p_table *table = target->table;
	struct p2p_key_part parts[P2P_KEY_COLUMNS_MAX];
	uint32_t i;
	int rc = p2p_rowwork_key(work, target, key);

	if (rc != P2P_ENOENT || table->generated_identity)
		return rc;
	rc = p2p_identity_key_parts(table, work->identity.key, work->identity.key_len, parts);
	for (i = 0; i < table->key_count && !rc; i++) {
		key[i] = parts[i].value;
		if (!parts[i].reference)
			continue;
		memset(&key[i], 0, sizeof(key[i]));
		rc = p2p_refs_part_number(&target->settle->refs, table, i, &parts[i],
					  &key[i].integer);
		key[i].type = rc ? P2P_NULL : P2P_INTEGER;
		rc = rc == P2P_ENOENT ? 0 : rc;
	}
	return rc == P2P_EPROTO ? P2P_ECORRUPT : rc;
}

int p2p_conflict_entry_row(struct p2p_rowwork *work, struct p2p_target *target, struct p2p_buf *out)
{
	const struct p2p_table *table = target->table;
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	struct p2p_json json;
	uint32_t i;
	int rc = row_key(work, target, key);

	if (rc)
		return rc;
	p2p_json_init(&json, out);
	p2p_json_begin_object(&json);
	for (i = 0; i < table->key_count; i++) {
		p2p_json_key(&json, table->columns[table->key[i]].name);
		put_value(&json, &key[i]);
	}
	p2p_json_end_object(&json);
	return p2p_buf_error(out);
}

void p2p_conflict_entry_origin(const struct p2p_authority *authority, const struct p2p_id *replica,
			       char out[2 * P2P_KEY_BYTES + 1])
{
	struct p2p_key node;

	if (authority && p2p_authority_replica_node(authority, replica, &node) == 0)
		p2p_hex(out, node.bytes, P2P_KEY_BYTES);
	else
		p2p_hex(out, replica->bytes, P2P_ID_BYTES);
}

int p2p_conflict_entry_number(const struct p2p_table *table, const int64_t *number,
			      struct p2p_buf *out)
{
	struct p2p_json json;

	p2p_buf_reset(out);
	p2p_json_init(&json, out);
	p2p_json_begin_object(&json);
	p2p_json_key(&json, table->columns[table->key[0]].name);
	if (number)
		p2p_json_i64(&json, *number);
	else
		p2p_json_null(&json);
	p2p_json_end_object(&json);
	return p2p_buf_error(out);
}

/* --- an entry in the making --------------------------------------------------------------------
 */

int p2p_conflict_entry_init(struct p2p_conflict_entry *entry, struct p2p_target *target,
			    const char *kind)
{
	memset(entry, 0, sizeof(*entry));
	entry->kind = kind;
	entry->target = target;
	p2p_buf_init(&entry->kept, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&entry->lost, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&entry->more, P2P_RECORD_BYTES_MAX);
	p2p_json_init(&entry->kept_json, &entry->kept);
	p2p_json_init(&entry->lost_json, &entry->lost);
	p2p_json_begin_object(&entry->kept_json);
	p2p_json_begin_object(&entry->lost_json);
	p2p_cells_init(&entry->cells);
	return p2p_cells_reset(&entry->cells, target->table->column_count);
}

void p2p_conflict_entry_deinit(struct p2p_conflict_entry *entry)
{
	p2p_buf_deinit(&entry->kept);
	p2p_buf_deinit(&entry->lost);
	p2p_buf_deinit(&entry->more);
	p2p_cells_deinit(&entry->cells);
}

/* A row that has no number here: its identity. */
static void put_identity(struct p2p_json *json, const struct p2p_rowref *row)
{
	struct p2p_value value = {.type = P2P_BLOB, .bytes = row->key, .len = row->len};

	p2p_json_begin_object(json);
	p2p_json_key(json, "row");
	put_base64(json, &value);
	p2p_json_end_object(json);
}

static int put_side(struct p2p_conflict_entry *entry, struct p2p_json *json, uint32_t column,
		    const struct p2p_conflict_side *side)
{
	bool shown;
	int64_t number;
	int rc;

	p2p_json_key(json, entry->target->table->columns[column].name);
	if (!side->row.table) {
		put_value(json, side->value);
		return 0;
	}
	rc = p2p_refs_number(&entry->target->settle->refs, &side->row, &number, &shown);
	if (!rc)
		p2p_json_i64(json, number);
	else if (rc == P2P_ENOENT)
		put_identity(json, &side->row);
	return rc == P2P_ENOENT ? 0 : rc;
}

int p2p_conflict_entry_lose(struct p2p_conflict_entry *entry, uint32_t column,
			    const struct p2p_conflict_side *side)
{
	entry->count++;
	if (side->row.table) {
		p2p_buf_put_u8(&entry->more, P2P_CONFLICT_REFERENCE);
		p2p_buf_put_varint(&entry->more, entry->target->table->columns[column].slot);
		p2p_buf_put_varint(&entry->more, side->row.table->number);
		p2p_buf_put_bytes(&entry->more, side->row.key, side->row.len);
	} else {
		p2p_cells_set(&entry->cells, column, side->value);
	}
	return put_side(entry, &entry->lost_json, column, side);
}

void p2p_conflict_entry_count(struct p2p_conflict_entry *entry, uint32_t column, int64_t added,
			      const struct p2p_value *value)
{
	const struct p2p_column *named = &entry->target->table->columns[column];

	entry->count++;
	if (value)
		p2p_cells_set(&entry->cells, column, value);
	p2p_buf_put_u8(&entry->more, P2P_CONFLICT_COUNTED);
	p2p_buf_put_varint(&entry->more, named->slot);
	p2p_buf_put_zigzag(&entry->more, added);
	if (!added)
		return;
	p2p_json_key(&entry->lost_json, named->name);
	p2p_json_i64(&entry->lost_json, added);
}

int p2p_conflict_entry_keep(struct p2p_conflict_entry *entry, uint32_t column,
			    const struct p2p_conflict_side *side)
{
	return put_side(entry, &entry->kept_json, column, side);
}

/* --- what a cell holds -------------------------------------------------------------------------
 */

bool p2p_conflict_side_of(const struct p2p_rowwork *work, const struct p2p_target *target,
			  uint32_t column, struct p2p_conflict_side *out)
{
	const struct p2p_table *table = target->table;
	const struct p2p_refcell *ref = column < work->ref_count ? &work->refs[column] : NULL;

	memset(out, 0, sizeof(*out));
	if (ref && ref->kind == P2P_REFCELL_ROW) {
		out->row.table =
			p2p_refs_parent(&target->settle->refs,
					&table->references[table->columns[column].reference]);
		out->row.key = work->targets.data + ref->at;
		out->row.len = ref->len;
		return true;
	}
	if (!work->cells.set[column])
		return false;
	out->value = &work->cells.values[column];
	return true;
}

int p2p_conflict_side_cell(const struct p2p_cell *cell, const struct p2p_value *value,
			   const struct p2p_reference *reference, struct p2p_target *target,
			   struct p2p_conflict_side *out, struct p2p_buf *scratch)
{
	memset(out, 0, sizeof(*out));
	out->value = value;
	if (cell->tag != P2P_CELL_REFERENCE)
		return 0;
	p2p_buf_reset(scratch);
	p2p_identity_put(scratch, &cell->reference);
	out->row.table = p2p_refs_parent(&target->settle->refs, reference);
	out->row.key = scratch->data;
	out->row.len = scratch->len;
	return p2p_buf_error(scratch);
}

bool p2p_conflict_side_equal(const struct p2p_conflict_side *a, const struct p2p_conflict_side *b)
{
	if (!a->row.table || !b->row.table)
		return a->row.table == b->row.table && p2p_value_equal(a->value, b->value);
	return a->row.len == b->row.len && memcmp(a->row.key, b->row.key, a->row.len) == 0;
}

/* --- storing -----------------------------------------------------------------------------------
 */

static bool bind_text(sqlite3_stmt *stmt, int at, const struct p2p_buf *text)
{
	return sqlite3_bind_text64(stmt, at, (const char *)text->data, text->len, SQLITE_STATIC,
				   SQLITE_UTF8) == SQLITE_OK;
}

static bool bind_name(sqlite3_stmt *stmt, int at, const char *text)
{
	return sqlite3_bind_text(stmt, at, text, -1, SQLITE_STATIC) == SQLITE_OK;
}

static int entry_bind(const struct p2p_conflict_entry *entry,
		      const struct p2p_conflict_place *place, sqlite3_stmt *stmt,
		      const struct p2p_buf *row, const struct p2p_buf *cells)
{
	const struct p2p_table *table = entry->target->table;
	uint64_t ms = p2p_hlc_ms(entry->origin.stamp);
	bool ok =
		bind_name(stmt, 1, entry->kind) &&
		sqlite3_bind_int64(stmt, 2, table->number) == SQLITE_OK &&
		bind_name(stmt, 3, table->name) &&
		sqlite3_bind_blob64(stmt, 4, place->key->data, place->key->len, SQLITE_STATIC) ==
			SQLITE_OK &&
		bind_text(stmt, 5, row) && bind_text(stmt, 6, &entry->kept) &&
		bind_text(stmt, 7, &entry->lost) &&
		sqlite3_bind_blob64(stmt, 8, cells->data, cells->len, SQLITE_STATIC) == SQLITE_OK &&
		sqlite3_bind_int64(stmt, 10, (int64_t)ms) == SQLITE_OK &&
		sqlite3_bind_int64(stmt, 11, (int64_t)p2p_env_wall_ms(entry->target->store->env)) ==
			SQLITE_OK &&
		(!table->generated_identity || !place->number ||
		 sqlite3_bind_int64(stmt, 12, *place->number) == SQLITE_OK) &&
		(!entry->more.len ||
		 sqlite3_bind_blob64(stmt, 13, entry->more.data, entry->more.len, SQLITE_STATIC) ==
			 SQLITE_OK) &&
		(!entry->reason || bind_name(stmt, 14, entry->reason)) &&
		(!entry->id || sqlite3_bind_int64(stmt, 15, entry->id) == SQLITE_OK);

	return ok ? 0 : P2P_ENOMEM;
}

static int trim(struct p2p_store *store)
{
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(store, P2P_SQL_CONFLICT_TRIM, &stmt);

	if (!rc && sqlite3_bind_int64(stmt, 1, P2P_CONFLICTS_MAX) != SQLITE_OK)
		rc = P2P_ENOMEM;
	return rc ? rc : p2p_store_run(store, stmt, "forget a conflict of");
}

static int entry_write(const struct p2p_conflict_entry *entry,
		       const struct p2p_conflict_place *place, const struct p2p_buf *row,
		       const struct p2p_buf *cells)
{
	struct p2p_store *store = entry->target->store;
	char origin[2 * P2P_KEY_BYTES + 1];
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(store, P2P_SQL_CONFLICT_PUT, &stmt);

	if (!rc)				    /* not every entry has all of them */
		(void)sqlite3_clear_bindings(stmt); /* never fails */
	p2p_conflict_entry_origin(place->authority, &entry->origin.replica, origin);
	if (!rc)
		rc = entry_bind(entry, place, stmt, row, cells);
	if (!rc && !bind_name(stmt, 9, origin))
		rc = P2P_ENOMEM;
	if (!rc)
		rc = p2p_store_run(store, stmt, "list a conflict in");
	return rc ? rc : trim(store);
}

int p2p_conflict_entry_store(struct p2p_conflict_entry *entry,
			     const struct p2p_conflict_place *place, const struct p2p_buf *row)
{
	struct p2p_buf cells;
	int rc;

	if (!entry->count)
		return 0;
	p2p_json_end_object(&entry->kept_json);
	p2p_json_end_object(&entry->lost_json);
	p2p_buf_init(&cells, P2P_RECORD_BYTES_MAX);
	p2p_parked_encode(&cells, entry->target->table, &entry->cells);
	rc = p2p_buf_error(&entry->kept);
	if (!rc)
		rc = p2p_buf_error(&entry->lost);
	if (!rc)
		rc = p2p_buf_error(&entry->more);
	if (!rc)
		rc = p2p_buf_error(&cells);
	if (!rc)
		rc = entry_write(entry, place, row, &cells);
	p2p_buf_deinit(&cells);
	/* the merge goes on */
	return rc == P2P_ETOOBIG ? 0 : rc;
}
