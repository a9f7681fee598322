/* The list of what lost: reading, ageing, restoring; see conflicts.h. */
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "crdt/conflict_entry.h"
#include "crdt/conflicts.h"
#include "crdt/counters.h"
#include "crdt/parked.h"
#include "crdt/settle.h"
#include "crdt/store_private.h"
#include "crdt/triggers.h"
#include "proto/check.h"
#include "proto/mem.h"

static const char *text_of(sqlite3_stmt *stmt, int column)
{
	const char *text = (const char *)sqlite3_column_text(stmt, column);

	return text ? text : "";
}

int p2p_conflicts_each(struct p2p_store *store,
		       int (*each)(void *ctx, const struct p2p_conflict *conflict), void *ctx)
{
	struct p2p_conflict at;
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(store, P2P_SQL_CONFLICT_EACH, &stmt), step;

	if (rc)
		return rc;
	while (!rc && (step = sqlite3_step(stmt)) != SQLITE_DONE) {
		if (step != SQLITE_ROW) {
			rc = p2p_store_error(store, step, NULL, "read");
			break;
		}
		at.id = sqlite3_column_int64(stmt, 0);
		at.kind = text_of(stmt, 1);
		at.table = text_of(stmt, 2);
		at.row = text_of(stmt, 3);
		at.kept = text_of(stmt, 4);
		at.lost = text_of(stmt, 5);
		at.origin = text_of(stmt, 6);
		at.time = text_of(stmt, 7);
		at.reason = text_of(stmt, 8);
		rc = each(ctx, &at);
	}
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

uint64_t p2p_conflicts_count(struct p2p_store *store)
{
	sqlite3_stmt *stmt;
	uint64_t count = 0;

	if (!store->enabled || p2p_store_statement(store, P2P_SQL_CONFLICT_COUNT, &stmt))
		return 0;
	if (sqlite3_step(stmt) == SQLITE_ROW)
		count = (uint64_t)sqlite3_column_int64(stmt, 0);
	(void)sqlite3_reset(stmt); /* a count that cannot be read is told as 0 */
	return count;
}

int p2p_conflicts_expire(struct p2p_store *store)
{
	uint64_t now = p2p_env_wall_ms(store->env);
	sqlite3_stmt *stmt;
	int rc;

	p2p_require(p2p_store_in_transaction(store));
	rc = p2p_store_statement(store, P2P_SQL_CONFLICT_EXPIRE, &stmt);
	if (!rc &&
	    sqlite3_bind_int64(stmt, 1,
			       now > P2P_CONFLICT_AGE_MS ? (int64_t)(now - P2P_CONFLICT_AGE_MS)
							 : 0) != SQLITE_OK)
		rc = P2P_ENOMEM;
	return rc ? rc : p2p_store_run(store, stmt, "forget old conflicts of");
}

/* --- restoring ---------------------------------------------------------------------------------
 */

struct restoring {
	struct p2p_store *store;
	struct p2p_table *table;
	struct p2p_merge *merge; /* borrowed */
	struct p2p_target *target;
	struct p2p_rowwork work;
	struct p2p_buf key, encoded, more;
	struct p2p_cells lost;
	int64_t number;	 /* that the row claimed */
	bool numberless; /* it is not known */
	bool deleted;	 /* the whole row was lost */
	bool renumbered, check;
	bool shown; /* the row is in its table */
};

static int restoring_load(struct restoring *r, int64_t id, struct p2p_error *err)
{
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(r->store, P2P_SQL_CONFLICT_GET, &stmt), step;

	if (rc)
		return rc;
	if (sqlite3_bind_int64(stmt, 1, id) != SQLITE_OK)
		return P2P_ENOMEM;
	step = sqlite3_step(stmt);
	if (step == SQLITE_ROW) {
		r->table = p2p_store_table_by_number(r->store,
						     (uint32_t)sqlite3_column_int64(stmt, 0));
		p2p_buf_put(&r->key, sqlite3_column_blob(stmt, 1),
			    (size_t)sqlite3_column_bytes(stmt, 1));
		p2p_buf_put(&r->encoded, sqlite3_column_blob(stmt, 2),
			    (size_t)sqlite3_column_bytes(stmt, 2));
		r->deleted = strcmp(text_of(stmt, 3), "delete") == 0;
		r->renumbered = strcmp(text_of(stmt, 3), "number") == 0;
		r->check = strcmp(text_of(stmt, 3), "check") == 0;
		r->number = sqlite3_column_int64(stmt, 4);
		r->numberless = sqlite3_column_type(stmt, 4) == SQLITE_NULL;
		p2p_buf_put(&r->more, sqlite3_column_blob(stmt, 5),
			    (size_t)sqlite3_column_bytes(stmt, 5));
		rc = p2p_buf_error(&r->key);
		if (!rc)
			rc = p2p_buf_error(&r->encoded);
		if (!rc)
			rc = p2p_buf_error(&r->more);
	} else {
		rc = step == SQLITE_DONE ? p2p_error_set(err, P2P_ENOENT,
							 "there is no conflict %lld", (long long)id)
					 : p2p_store_error(r->store, step, err, "read");
	}
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	if (!rc && (!r->table || r->table->state != P2P_TABLE_LIVE))
		rc = p2p_error_set(err, P2P_EREFUSED,
				   "its table is not replicated here (any more)");
	if (!rc && r->check)
		rc = p2p_error_set(err, P2P_EREFUSED,
				   "nothing of the row was lost: change it so that its constraint "
				   "holds");
	if (!rc && r->renumbered)
		rc = p2p_error_set(err, P2P_EREFUSED,
				   "nothing of the row was lost: it has another number, for %lld "
				   "is another row's; UPDATE can give it any number that is free",
				   (long long)r->number);
	return rc;
}

static int refused(struct restoring *r, int rc, struct p2p_error *err)
{
	switch (rc) {
	case P2P_APPTABLE_TAKEN:
	case P2P_APPTABLE_UNIQUE:
		return p2p_error_set(err, P2P_EREFUSED,
				     "another row of table '%.64s' has one of its values: change "
				     "that one first",
				     r->table->name);
	case P2P_APPTABLE_REFUSED:
		return p2p_error_set(err, P2P_EREFUSED,
				     "a constraint of table '%.64s' forbids it: %.100s",
				     r->table->name, sqlite3_errmsg(p2p_store_db(r->store)));
	default:
		return rc;
	}
}

static void cells_copy(struct p2p_cells *to, const struct p2p_cells *from)
{
	uint32_t i;

	for (i = 0; i < from->count; i++)
		if (from->set[i])
			p2p_cells_set(to, i, &from->values[i]);
}

/* The row is there: its lost cells are written over what it has. */
static int restore_cells(struct restoring *r)
{
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	int rc = p2p_rowwork_key(&r->work, r->target, key);

	if (!rc)
		rc = p2p_apptable_update(&r->target->app, key, &r->lost);
	return rc ? rc : p2p_store_journal_key(r->store, r->table, key);
}

/* One above the greatest. */
static int next_number(struct restoring *r, int64_t *out)
{
	const struct p2p_table *table = r->table;
	sqlite3_stmt *stmt = NULL;
	struct p2p_buf sql;
	int rc, step;

	p2p_buf_init(&sql, 4096);
	p2p_sql_text(&sql, "SELECT max(");
	p2p_sql_name(&sql, table->columns[table->key[0]].name);
	p2p_sql_text(&sql, ") FROM main.");
	p2p_sql_name(&sql, table->name);
	rc = p2p_sql_prepare(r->store, &sql, &stmt);
	p2p_buf_deinit(&sql);
	if (rc)
		return rc;
	step = sqlite3_step(stmt);
	if (step == SQLITE_ROW)
		*out = sqlite3_column_int64(stmt, 0);
	else
		rc = p2p_store_error(r->store, step, NULL, "read");
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	if (!rc && *out == INT64_MAX)
		return P2P_ETOOBIG;
	++*out;
	return rc;
}

/* It is not: it comes back as a new row, under its key; a number that is taken is given anew. */
static int restore_row(struct restoring *r)
{
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	const struct p2p_table *table = r->table;
	uint32_t i;
	int rc = p2p_cells_reset(&r->work.cells, table->column_count);

	if (rc)
		return rc;
	memset(&key[0], 0, sizeof(key[0]));
	key[0].type = P2P_INTEGER;
	key[0].integer = r->number;
	if (!table->generated_identity)
		rc = p2p_rowwork_key(&r->work, r->target, key);
	if (!rc && table->generated_identity && r->numberless)
		rc = next_number(r, &key[0].integer);
	if (rc)
		return rc;
	for (i = 0; i < table->key_count; i++)
		p2p_cells_set(&r->work.cells, table->key[i], &key[i]);
	cells_copy(&r->work.cells, &r->lost);
	rc = p2p_apptable_insert(&r->target->app, &r->work.cells);
	if (rc == P2P_APPTABLE_TAKEN && table->generated_identity) {
		rc = next_number(r, &key[0].integer);
		p2p_cells_set(&r->work.cells, table->key[0], &key[0]);
		if (!rc)
			rc = p2p_apptable_insert(&r->target->app, &r->work.cells);
	}
	return rc ? rc : p2p_store_journal_key(r->store, table, key);
}

static uint32_t column_of_slot(const struct p2p_table *table, uint64_t slot)
{
	uint32_t i;

	for (i = 0; i < table->column_count; i++)
		if (table->columns[i].slot == slot)
			return i;
	return UINT32_MAX;
}

/* A reference that lost: the number that its row shows now. */
static int restore_reference(struct restoring *r, struct p2p_reader *reader, uint32_t column,
			     struct p2p_error *err)
{
	struct p2p_table *parent =
		p2p_store_table_by_number(r->store, (uint32_t)p2p_read_varint(reader));
	struct p2p_value value = {.type = P2P_INTEGER};
	struct p2p_rowref row = {.table = parent};
	const struct p2p_reference *reference;
	bool shown = false;
	int rc = P2P_ENOENT;

	row.key = p2p_read_bytes(reader, P2P_RECORD_BYTES_MAX, &row.len);
	if (reader->failed)
		return P2P_ECORRUPT;
	if (column == UINT32_MAX)
		return 0; /* the column is no more: so with values */
	if (parent && parent->state == P2P_TABLE_LIVE &&
	    r->table->columns[column].reference != P2P_REFERENCE_NONE) {
		reference = &r->table->references[r->table->columns[column].reference];
		if (p2p_id_cmp(&reference->parent, &parent->id) == 0)
			rc = p2p_refs_number(&r->target->settle->refs, &row, &value.integer,
					     &shown);
	}
	if (rc == P2P_ENOENT || (!rc && !shown))
		return p2p_error_set(err, P2P_EREFUSED,
				     "the row that its '%.64s' referred to is not in table '%.64s' "
				     "(any more)",
				     r->table->columns[column].name, parent ? parent->name : "?");
	if (!rc)
		p2p_cells_set(&r->lost, column, &value);
	return rc;
}

/* What was added to a counter is added again, unless the whole row comes back as it was. */
static int restore_counted(struct restoring *r, struct p2p_reader *reader, uint32_t column)
{
	struct p2p_value value = {.type = P2P_INTEGER, .integer = p2p_read_zigzag(reader)};
	struct p2p_sum sum = {0, 0};

	if (reader->failed)
		return P2P_ECORRUPT;
	if (column == UINT32_MAX || (!r->shown && r->lost.set[column]))
		return 0;
	p2p_sum_add(&sum, value.integer);
	if (r->shown && r->work.cells.set[column] &&
	    r->work.cells.values[column].type == P2P_INTEGER)
		p2p_sum_add(&sum, r->work.cells.values[column].integer);
	value.integer = p2p_sum_value(&sum);
	p2p_cells_set(&r->lost, column, &value);
	return 0;
}

static int restore_more(struct restoring *r, struct p2p_error *err)
{
	struct p2p_reader reader;
	uint32_t column;
	uint8_t what;
	int rc = 0;

	p2p_reader_init(&reader, r->more.data, r->more.len);
	while (!rc && p2p_reader_left(&reader)) {
		what = p2p_read_u8(&reader);
		column = column_of_slot(r->table, p2p_read_varint(&reader));
		if (what == P2P_CONFLICT_REFERENCE)
			rc = restore_reference(r, &reader, column, err);
		else
			rc = what == P2P_CONFLICT_COUNTED ? restore_counted(r, &reader, column)
							  : P2P_ECORRUPT;
	}
	return rc;
}

static int restore(struct restoring *r, struct p2p_error *err)
{
	int rc = p2p_triggers_refresh(r->store);

	if (!rc)
		rc = p2p_merge_target(r->merge, r->table, &r->target);
	if (!rc)
		rc = p2p_cells_reset(&r->lost, r->table->column_count);
	if (!rc)
		rc = p2p_parked_decode(&r->encoded, r->table, &r->lost);
	if (!rc)
		rc = p2p_rowwork_load_key(&r->work, r->target, r->key.data, r->key.len);
	r->shown = !rc && p2p_numbers_complete(r->table, &r->work.state) &&
		   !(r->work.state.flags & P2P_ROW_PARKED);
	/* of a counter alone nothing can be made */
	if (!rc && !r->shown && (!r->deleted || !r->encoded.len))
		rc = p2p_error_set(err, P2P_EREFUSED, "its row is not in table '%.64s' (any more)",
				   r->table->name);
	if (!rc && r->shown)
		rc = p2p_rowwork_gather(&r->work, r->target, true);
	if (!rc)
		rc = restore_more(r, err);
	if (!rc)
		rc = r->shown ? restore_cells(r) : restore_row(r);
	return refused(r, rc, err);
}

static int forget(struct p2p_store *store, int64_t id)
{
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(store, P2P_SQL_CONFLICT_DROP, &stmt);

	if (!rc && sqlite3_bind_int64(stmt, 1, id) != SQLITE_OK)
		rc = P2P_ENOMEM;
	return rc ? rc : p2p_store_run(store, stmt, "forget a conflict of");
}

int p2p_conflicts_restore(struct p2p_store *store, struct p2p_merge *merge, int64_t id,
			  struct p2p_error *err)
{
	struct restoring r;
	int rc;

	p2p_require(p2p_store_in_transaction(store));
	memset(&r, 0, sizeof(r));
	r.store = store;
	r.merge = merge;
	p2p_rowwork_init(&r.work);
	p2p_buf_init(&r.key, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&r.encoded, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&r.more, P2P_RECORD_BYTES_MAX);
	p2p_cells_init(&r.lost);
	rc = restoring_load(&r, id, err);
	if (!rc)
		rc = restore(&r, err);
	if (!rc)
		rc = forget(store, id);
	p2p_rowwork_deinit(&r.work);
	p2p_buf_deinit(&r.key);
	p2p_buf_deinit(&r.encoded);
	p2p_buf_deinit(&r.more);
	p2p_cells_deinit(&r.lost);
	return rc;
}
