/* Rows of other tables that show the number of a row; see settle.h. */
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "crdt/rowrefs.h"
#include "crdt/settle.h"
#include "proto/check.h"
#include "proto/mem.h"

#define SQL_BYTES_MAX (16u * 1024 * 1024)

static void sql_children(const struct p2p_child_column *column, bool all, struct p2p_buf *sql)
{
	const struct p2p_table *table = column->table;
	const char *name = table->columns[table->references[column->reference].column].name;
	uint32_t i;

	p2p_sql_text(sql, "SELECT ");
	for (i = 0; i < table->key_count; i++) {
		p2p_sql_name(sql, table->columns[table->key[i]].name);
		p2p_sql_text(sql, ",");
	}
	p2p_sql_name(sql, name);
	p2p_sql_text(sql, " FROM main.");
	p2p_sql_name(sql, table->name);
	if (!all) {
		p2p_sql_text(sql, " WHERE ");
		p2p_sql_name(sql, name);
		p2p_sql_text(sql, "=?");
	}
	/* a REAL that equals the number is a value, and no reference */
	p2p_sql_text(sql, all ? " WHERE typeof(" : " AND typeof(");
	p2p_sql_name(sql, name);
	p2p_sql_text(sql, ")='integer'");
}

/* SQLite would read the whole table for one number. */
static int child_scans(struct p2p_target *target, struct p2p_child_column *column)
{
	sqlite3_stmt *stmt = NULL;
	struct p2p_buf sql;
	int rc;

	p2p_buf_init(&sql, SQL_BYTES_MAX);
	p2p_sql_text(&sql, "EXPLAIN QUERY PLAN ");
	sql_children(column, false, &sql);
	rc = p2p_sql_prepare(target->store, &sql, &stmt);
	p2p_buf_deinit(&sql);
	column->scans =
		!rc && sqlite3_step(stmt) == SQLITE_ROW &&
		sqlite3_strlike("SCAN%", (const char *)sqlite3_column_text(stmt, 3), 0) == 0;
	(void)sqlite3_finalize(stmt); /* without an answer each number is asked for */
	return rc;
}

static int child_prepare(struct p2p_target *target, struct p2p_child_column *column)
{
	struct p2p_buf sql;
	int rc;

	if (column->find)
		return 0;
	p2p_buf_init(&sql, SQL_BYTES_MAX);
	sql_children(column, false, &sql);
	rc = p2p_sql_prepare(target->store, &sql, &column->find);
	p2p_buf_deinit(&sql);
	return rc ? rc : child_scans(target, column);
}

/* The column of this row refers to the row that has its number: it is neither loose nor shows
 * something else. */
static int child_refers(struct p2p_target *child, uint32_t reference, const struct p2p_buf *key,
			bool *out)
{
	const struct p2p_table *table = child->table;
	const struct p2p_column *column = &table->columns[table->references[reference].column];
	struct p2p_rowref row = {table, key->data, key->len};
	struct p2p_key_part parts[P2P_KEY_COLUMNS_MAX];
	struct p2p_identity identity;
	struct p2p_reader reader;
	struct p2p_buf none;
	uint32_t parent;
	int rc;

	*out = true;
	if (column->flags & P2P_COLUMN_KEY) {
		p2p_reader_init(&reader, key->data, key->len);
		p2p_identity_read(&reader, &identity);
		rc = p2p_identity_key_parts(table, identity.key, identity.key_len, parts);
		*out = rc == 0 && parts[column->key_pos].reference;
		return rc == P2P_EPROTO ? P2P_ECORRUPT : rc;
	}
	rc = p2p_settle_gates(child);
	if (rc || !child->gates.refs)
		return rc;
	p2p_buf_init(&none, P2P_RECORD_BYTES_MAX);
	rc = p2p_store_ref_get(child->store, &row, column->slot, &parent, &none);
	p2p_buf_deinit(&none);
	*out = rc == P2P_ENOENT;
	return rc == P2P_ENOENT ? 0 : rc;
}

/* Appends the identity of the row of a key, after its length, if it refers. */
static int child_named(struct p2p_target *child, uint32_t reference, const struct p2p_value *key,
		       struct p2p_buf *out)
{
	struct p2p_buf identity;
	bool refers = false;
	int rc;

	p2p_buf_init(&identity, P2P_RECORD_BYTES_MAX);
	rc = p2p_refs_row_at(&child->settle->refs, child->table, key, &identity);
	if (!rc)
		rc = child_refers(child, reference, &identity, &refers);
	if (!rc && refers)
		p2p_buf_put_bytes(out, identity.data, identity.len);
	p2p_buf_deinit(&identity);
	/* not replicated, or not captured */
	return rc == P2P_ENOENT || rc == P2P_IDENTITY_NULL_KEY ? 0 : rc;
}

/* The same for the row that the statement stands on. */
static int child_row(struct p2p_target *child, uint32_t reference, sqlite3_stmt *row,
		     struct p2p_buf *out)
{
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	uint32_t i;
	int rc = 0;

	for (i = 0; i < child->table->key_count && !rc; i++)
		rc = p2p_value_column(&key[i], row, (int)i);
	return rc ? rc : child_named(child, reference, key, out);
}

/* --- a column without an index ---------------------------------------------------------------- */

/* From so many numbers on, one pass over a table without an index is less work. */
#define SCAN_NUMBERS_MIN 4
/* Of a longer table nothing is kept: 40 bytes for each row. */
#define SHOWN_MAX 1000000

void p2p_settle_still_begin(struct p2p_settle *settle)
{
	settle->still = ++settle->stills;
}

static void shown_forget(struct p2p_shown_children *shown)
{
	p2p_free(shown->items);
	p2p_buf_deinit(&shown->keys);
	memset(shown, 0, sizeof(*shown));
}

void p2p_settle_still_end(struct p2p_settle *settle)
{
	struct p2p_child_column *column;

	settle->still = 0;
	while ((column = settle->shown) != NULL) {
		settle->shown = column->next;
		shown_forget(&column->shown);
	}
}

void p2p_settle_child_deinit(struct p2p_child_column *column)
{
	(void)sqlite3_finalize(column->find); /* its error was seen at the steps */
	shown_forget(&column->shown);
}

static int shown_add(struct p2p_shown_children *shown, sqlite3_stmt *row, uint32_t key_count)
{
	struct p2p_shown_child *grown;
	struct p2p_value value;
	uint32_t i;
	size_t cap;
	int rc = 0;

	if (shown->count == shown->cap) {
		cap = shown->cap ? shown->cap * 2 : 64;
		grown = p2p_realloc(shown->items, cap * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		shown->items = grown;
		shown->cap = cap;
	}
	shown->items[shown->count].number = sqlite3_column_int64(row, (int)key_count);
	shown->items[shown->count++].at = shown->keys.len;
	for (i = 0; i < key_count && !rc; i++) {
		rc = p2p_value_column(&value, row, (int)i);
		if (!rc)
			p2p_value_put(&shown->keys, &value);
	}
	return rc ? rc : p2p_buf_error(&shown->keys);
}

static int shown_cmp(const void *a, const void *b)
{
	const struct p2p_shown_child *x = a, *y = b;

	if (x->number != y->number)
		return x->number < y->number ? -1 : 1;
	return (x->at > y->at) - (x->at < y->at);
}

static int shown_read(struct p2p_target *child, struct p2p_child_column *column)
{
	struct p2p_shown_children *shown = &column->shown;
	sqlite3_stmt *stmt = NULL;
	struct p2p_buf sql;
	int rc, step = SQLITE_DONE;

	p2p_buf_init(&sql, SQL_BYTES_MAX);
	sql_children(column, true, &sql);
	rc = p2p_sql_prepare(child->store, &sql, &stmt);
	p2p_buf_deinit(&sql);
	while (!rc && shown->count <= SHOWN_MAX && (step = sqlite3_step(stmt)) == SQLITE_ROW)
		rc = shown_add(shown, stmt, column->table->key_count);
	if (!rc && step != SQLITE_DONE && step != SQLITE_ROW)
		rc = p2p_store_error(child->store, step, NULL, "look for children");
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	shown->known = rc == 0 && step == SQLITE_DONE;
	if (shown->known && shown->count)
		qsort(shown->items, shown->count, sizeof(*shown->items), shown_cmp);
	if (!shown->known)
		shown->count = 0;
	return rc;
}

/* Whether what the column shows is known by number. */
static int shown_ready(struct p2p_target *child, struct p2p_child_column *column, bool *out)
{
	struct p2p_shown_children *shown = &column->shown;
	uint64_t still = child->settle->still;
	int rc = 0;

	*out = false;
	if (!column->scans || !still)
		return 0;
	if (shown->still != still) {
		p2p_buf_init(&shown->keys, P2P_RECORD_BYTES_MAX);
		shown->still = still;
		column->next = child->settle->shown;
		child->settle->shown = column;
	}
	if (++shown->asked == SCAN_NUMBERS_MIN)
		rc = shown_read(child, column);
	*out = shown->known;
	return rc;
}

static int shown_list(struct p2p_target *child, const struct p2p_child_column *column,
		      int64_t number, struct p2p_buf *out)
{
	const struct p2p_shown_children *shown = &column->shown;
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	size_t low = 0, high = shown->count;
	struct p2p_reader reader;
	uint32_t i;
	int rc = 0;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (shown->items[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < shown->count && shown->items[low].number == number && !rc; low++) {
		p2p_reader_init(&reader, shown->keys.data + shown->items[low].at,
				shown->keys.len - shown->items[low].at);
		for (i = 0; i < child->table->key_count; i++)
			p2p_value_read(&reader, &key[i]);
		p2p_require(!reader.failed); /* we wrote them */
		rc = child_named(child, column->reference, key, out);
	}
	return rc ? rc : p2p_buf_error(out);
}

/* Appends the encoded identities, each after its length, of rows that show the number. */
static int child_list(struct p2p_target *child, struct p2p_child_column *column, int64_t number,
		      struct p2p_buf *out)
{
	int rc = 0, step = SQLITE_DONE;

	if (sqlite3_bind_int64(column->find, 1, number) != SQLITE_OK)
		return P2P_ENOMEM;
	while (!rc && (step = sqlite3_step(column->find)) == SQLITE_ROW)
		rc = child_row(child, column->reference, column->find, out);
	if (!rc && step != SQLITE_DONE)
		rc = p2p_store_error(child->store, step, NULL, "look for children");
	(void)sqlite3_reset(column->find); /* repeats the step's error */
	return rc ? rc : p2p_buf_error(out);
}

static int listed_each(struct p2p_target *child, uint32_t reference, const struct p2p_buf *list,
		       int (*each)(void *ctx, struct p2p_target *child, uint32_t reference,
				   const void *key, size_t len),
		       void *ctx)
{
	struct p2p_reader reader;
	const uint8_t *key;
	size_t len;
	int rc = 0;

	p2p_reader_init(&reader, list->data, list->len);
	while (!rc && p2p_reader_left(&reader)) {
		key = p2p_read_bytes(&reader, P2P_RECORD_BYTES_MAX, &len);
		p2p_require(key != NULL); /* we wrote the list */
		rc = each(ctx, child, reference, key, len);
	}
	return rc;
}

static int column_children(struct p2p_target *target, struct p2p_child_column *column,
			   int64_t number,
			   int (*each)(void *ctx, struct p2p_target *child, uint32_t reference,
				       const void *key, size_t len),
			   void *ctx)
{
	struct p2p_settle *settle = target->settle;
	struct p2p_target *child;
	struct p2p_buf list;
	bool known = false;
	int rc = settle->target(settle->ctx, column->table, &child);

	p2p_buf_init(&list, P2P_RECORD_BYTES_MAX);
	if (!rc)
		rc = child_prepare(target, column);
	if (!rc)
		rc = shown_ready(child, column, &known);
	if (!rc && known)
		rc = shown_list(child, column, number, &list);
	else if (!rc)
		rc = child_list(child, column, number, &list);
	if (!rc)
		rc = listed_each(child, column->reference, &list, each, ctx);
	p2p_buf_deinit(&list);
	return rc;
}

int p2p_settle_children(struct p2p_target *target, int64_t number,
			int (*each)(void *ctx, struct p2p_target *child, uint32_t reference,
				    const void *key, size_t len),
			void *ctx)
{
	size_t i;
	int rc = 0;

	for (i = 0; i < target->child_count && !rc; i++)
		rc = column_children(target, &target->children[i], number, each, ctx);
	return rc;
}

/* One pass over the child's table. Rows are listed first: what is called writes there. */
static int column_scan(struct p2p_target *target, struct p2p_child_column *column,
		       const struct p2p_settle_many *many)
{
	struct p2p_settle *settle = target->settle;
	struct p2p_target *child;
	sqlite3_stmt *stmt = NULL;
	struct p2p_buf sql, list, one;
	struct p2p_reader reader;
	int rc = settle->target(settle->ctx, column->table, &child), step = SQLITE_DONE;

	p2p_buf_init(&sql, SQL_BYTES_MAX);
	p2p_buf_init(&list, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&one, P2P_RECORD_BYTES_MAX);
	sql_children(column, true, &sql);
	if (!rc)
		rc = p2p_sql_prepare(target->store, &sql, &stmt);
	while (!rc && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
		int64_t number = sqlite3_column_int64(stmt, (int)column->table->key_count);

		if (!many->wanted(many->ctx, number))
			continue;
		p2p_buf_reset(&one);
		rc = child_row(child, column->reference, stmt, &one);
		if (rc || !one.len)
			continue;
		p2p_buf_put_zigzag(&list, number);
		p2p_buf_put_bytes(&list, one.data, one.len);
	}
	if (!rc && step != SQLITE_DONE)
		rc = p2p_store_error(target->store, step, NULL, "look for children");
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	if (!rc)
		rc = p2p_buf_error(&list);
	p2p_reader_init(&reader, list.data, list.len);
	while (!rc && p2p_reader_left(&reader)) {
		int64_t number = p2p_read_zigzag(&reader);
		size_t len;
		const uint8_t *bytes = p2p_read_bytes(&reader, P2P_RECORD_BYTES_MAX, &len);

		p2p_require(bytes != NULL); /* we wrote the list */
		p2p_buf_reset(&one);
		p2p_buf_put(&one, bytes, len);
		rc = p2p_buf_error(&one);
		if (!rc)
			rc = listed_each(child, column->reference, &one, many->each,
					 many->wanted(many->ctx, number));
	}
	p2p_buf_deinit(&sql);
	p2p_buf_deinit(&list);
	p2p_buf_deinit(&one);
	return rc;
}

int p2p_settle_children_many(struct p2p_target *target, const struct p2p_settle_many *many)
{
	size_t i, j;
	int rc = 0;

	for (i = 0; i < target->child_count && !rc; i++) {
		struct p2p_child_column *column = &target->children[i];

		rc = child_prepare(target, column);
		if (!rc && column->scans && many->count >= SCAN_NUMBERS_MIN) {
			rc = column_scan(target, column, many);
			continue;
		}
		for (j = 0; j < many->count && !rc; j++)
			rc = column_children(target, column, many->numbers[j], many->each,
					     many->wanted(many->ctx, many->numbers[j]));
	}
	return rc;
}
