/* Rows that stay when their parent goes: an application that never turned foreign_keys on deletes a
 * row and leaves its children; see capture_private.h.
 *
 * Their cells become loose in the same changeset, or they refer to whoever has the number now: a
 * captured write takes no row out of the table that its application sees. One query per child
 * column, over all the numbers under which rows died. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/apptable.h"
#include "crdt/capture_private.h"
#include "crdt/store_refs.h"
#include "proto/mem.h"

#define SQL_BYTES_MAX	(16u * 1024 * 1024)
#define NUMBERS_AT_ONCE 50000 /* in the text of a query */

static void sql_numbers(struct p2p_buf *sql, const int64_t *numbers, size_t count)
{
	char text[32];
	size_t i;

	for (i = 0; i < count; i++) {
		(void)sqlite3_snprintf(sizeof(text), text, "%s%lld", i ? "," : "",
				       (long long)numbers[i]);
		p2p_sql_text(sql, text);
	}
}

/* Key columns of the rows whose column is one of the numbers. */
static int children_query(struct p2p_capture *capture, const struct p2p_table *table,
			  uint32_t column, const struct capture_numbers *numbers, size_t from,
			  sqlite3_stmt **out)
{
	size_t count =
		numbers->count - from < NUMBERS_AT_ONCE ? numbers->count - from : NUMBERS_AT_ONCE;
	struct p2p_buf sql;
	uint32_t i;
	int rc;

	p2p_buf_init(&sql, SQL_BYTES_MAX);
	for (i = 0; i < table->key_count; i++) {
		p2p_sql_text(&sql, i ? "," : "SELECT ");
		p2p_sql_name(&sql, table->columns[table->key[i]].name);
	}
	p2p_sql_text(&sql, " FROM main.");
	p2p_sql_name(&sql, table->name);
	p2p_sql_text(&sql, " WHERE ");
	p2p_sql_name(&sql, table->columns[column].name);
	p2p_sql_text(&sql, " IN (");
	sql_numbers(&sql, numbers->items + from, count);
	p2p_sql_text(&sql, ")AND typeof(");
	p2p_sql_name(&sql, table->columns[column].name);
	p2p_sql_text(&sql, ")='integer'");
	rc = p2p_sql_prepare(capture->config.store, &sql, out);
	p2p_buf_deinit(&sql);
	return rc;
}

static int children_some(struct p2p_capture *capture, sqlite3_stmt *stmt, struct p2p_table *table,
			 const struct capture_each *each)
{
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	uint32_t i;
	int rc = 0, step = SQLITE_DONE;

	while (!rc && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
		for (i = 0; i < table->key_count && !rc; i++)
			rc = p2p_value_column(&key[i], stmt, (int)i);
		if (!rc)
			rc = each->row(each->ctx, table, key);
	}
	if (!rc && step != SQLITE_DONE)
		rc = p2p_store_error(capture->config.store, step, NULL, "look for children");
	return rc;
}

int p2p_capture_children(struct p2p_capture *capture, struct p2p_table *table, uint32_t column,
			 const struct capture_numbers *numbers, const struct capture_each *each)
{
	sqlite3_stmt *stmt = NULL;
	size_t from;
	int rc = 0;

	for (from = 0; from < numbers->count && !rc; from += NUMBERS_AT_ONCE) {
		rc = children_query(capture, table, column, numbers, from, &stmt);
		if (!rc)
			rc = children_some(capture, stmt, table, each);
		(void)sqlite3_finalize(stmt); /* the error was seen at the step */
		stmt = NULL;
	}
	return rc;
}

int p2p_capture_numbers_add(struct capture_numbers *numbers, int64_t number)
{
	int64_t *grown;
	size_t cap;

	if (numbers->count == numbers->cap) {
		cap = numbers->cap ? numbers->cap * 2 : 16;
		grown = p2p_realloc(numbers->items, cap * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		numbers->items = grown;
		numbers->cap = cap;
	}
	numbers->items[numbers->count++] = number;
	return 0;
}

struct loosening {
	struct p2p_capture *capture;
	uint32_t column;
};

/* Its cell is loose already. One that shows its default in place of its parent's number refers to
 * whoever had that. */
static int cell_is_exception(struct p2p_capture *capture, const struct p2p_table *table,
			     const struct p2p_overlay_row *row, uint32_t slot, bool *out)
{
	struct p2p_rowref ref = {table, capture->key.data, capture->key.len};
	uint32_t parent;
	int rc;

	*out = false;
	if (row && row->refs && row->refs[slot] != P2P_OVERLAY_REF_NONE) {
		*out = row->refs[slot] == P2P_OVERLAY_REF_LOOSE;
		return 0;
	}
	if (row && !row->in_file)
		return 0;
	rc = p2p_store_ref_get(capture->config.store, &ref, slot, &parent, &capture->bytes);
	*out = rc == 0 && !parent;
	return rc == P2P_ENOENT ? 0 : rc;
}

static int child_loosen(void *ctx, struct p2p_table *table, const struct p2p_value *key)
{
	struct loosening *l = ctx;
	struct p2p_capture *capture = l->capture;
	uint32_t slot = table->columns[l->column].slot;
	struct p2p_overlay_row *row;
	bool lives = false, is;
	int rc;

	if (table->generated_identity) {
		rc = p2p_capture_row_of_number(capture, table, key[0].integer, &capture->key);
		lives = rc == 0;
	} else {
		rc = p2p_capture_key_identity(capture, table, key, &capture->key, &lives);
	}
	if (rc || !lives)
		return rc == P2P_ENOENT || rc == P2P_IDENTITY_NULL_KEY ? 0 : rc;
	row = p2p_overlay_find(&capture->overlay, table->number, capture->key.data,
			       capture->key.len);
	if (row && row->ordinals && slot < row->state.cell_count && row->ordinals[slot])
		return 0; /* said at the freeze anyway */
	rc = cell_is_exception(capture, table, row, slot, &is);
	if (rc || is)
		return rc;
	rc = p2p_capture_take(capture, table, capture->key.data, capture->key.len, &row);
	if (rc)
		return rc;
	if (table->generated_identity)
		row->shown = key[0].integer;
	p2p_capture_cell_turn(capture, row, slot, (p2p_ordinal)capture->turn_count);
	p2p_capture_provisional_set(capture, row, true);
	return 0;
}

/* Numbers of a table under which rows died, unless the row is there again. */
static int died_numbers(struct p2p_capture *capture, const struct p2p_table *table,
			struct capture_numbers *out)
{
	size_t i;
	int rc = 0;

	out->count = 0;
	for (i = 0; i < capture->died_count && !rc; i++) {
		const struct p2p_overlay_row *row = capture->died[i];

		if (row->table == table->number && !p2p_rowstate_alive(&row->state))
			rc = p2p_capture_numbers_add(out, row->shown);
	}
	return rc;
}

static int children_loosen(struct p2p_capture *capture, const struct p2p_table *parent,
			   const struct capture_numbers *numbers)
{
	struct p2p_store *store = capture->config.store;
	struct loosening l = {.capture = capture};
	struct capture_each each = {child_loosen, &l};
	size_t i;
	uint32_t j;
	int rc = 0;

	for (i = 0; i < p2p_store_table_count(store); i++) {
		struct p2p_table *table = p2p_store_table(store, i);

		for (j = 0; j < table->reference_count && !rc; j++) {
			l.column = table->references[j].column;
			if (table->state != P2P_TABLE_LIVE ||
			    (table->columns[l.column].flags & P2P_COLUMN_KEY) ||
			    p2p_id_cmp(&table->references[j].parent, &parent->id) != 0)
				continue;
			rc = p2p_capture_children(capture, table, l.column, numbers, &each);
		}
	}
	return rc;
}

int p2p_capture_died(struct p2p_capture *capture, struct p2p_overlay_row *row)
{
	struct p2p_overlay_row **grown;
	size_t cap;

	if (capture->died_count == capture->died_cap) {
		cap = capture->died_cap ? capture->died_cap * 2 : 16;
		grown = p2p_realloc(capture->died, cap * sizeof(struct p2p_overlay_row *));
		if (!grown)
			return P2P_ENOMEM;
		capture->died = grown;
		capture->died_cap = cap;
	}
	capture->died[capture->died_count++] = row;
	return 0;
}

static int value_loosen(void *ctx, struct p2p_table *table, uint32_t column,
			const struct p2p_value *key)
{
	struct loosening l = {.capture = ctx, .column = column};

	return child_loosen(&l, table, key);
}

int p2p_capture_loosen(struct p2p_capture *capture)
{
	struct p2p_store *store = capture->config.store;
	struct capture_numbers numbers = {0};
	size_t i;
	int rc = 0;

	for (i = 0; i < p2p_store_table_count(store) && !rc && capture->died_count; i++) {
		struct p2p_table *table = p2p_store_table(store, i);

		if (table->state != P2P_TABLE_LIVE)
			continue;
		rc = p2p_capture_values_left(capture, table, value_loosen, capture);
		if (rc || !table->lone_number)
			continue;
		rc = died_numbers(capture, table, &numbers);
		if (!rc && numbers.count)
			rc = children_loosen(capture, table, &numbers);
	}
	capture->died_count = 0;
	p2p_free(numbers.items);
	return rc;
}
