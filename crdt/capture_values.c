/* FOREIGN KEYs by value as capture meets them (crdt/valuekeys.h): where an application left one
 * dangling, a cell of it says so, and its row is never kept out for it; see capture_private.h.
 *
 * Any loose cell makes the whole key loose. Of a row that is changed, the cells that were written
 * say it; where none was (its parent went), or none can (they are part of the key, which the
 * identity says), the first column that is no reference is said again, a key column with the value
 * that it has. And where a write gives the key a parent, what was loose of it is said again. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/capture_private.h"
#include "crdt/store_refs.h"
#include "proto/mem.h"

#define SQL_BYTES_MAX (16u * 1024 * 1024)
#define DIED_EACH_MAX 64 /* rows that are looked for one by one; of more, all that dangles */

static const char *const collations[] = {"BINARY", "NOCASE", "RTRIM"};

/* NULL: it constrains nothing here. */
static struct p2p_table *foreign_parent(const struct p2p_capture *capture,
					const struct p2p_foreign *foreign)
{
	struct p2p_table *parent = foreign->by_value ? p2p_store_table_by_id(capture->config.store,
									     &foreign->parent_id)
						     : NULL;

	return parent && parent->state == P2P_TABLE_LIVE ? parent : NULL;
}

/* The column that says that the key dangles when none was written. UINT32_MAX: all are references
 * of another key, and nothing can be said. */
static uint32_t foreign_mark(const struct p2p_table *table, const struct p2p_foreign *foreign)
{
	uint32_t i, of_key = UINT32_MAX;

	for (i = 0; i < foreign->count; i++) {
		const struct p2p_column *column = &table->columns[foreign->columns[i]];

		if (column->reference != P2P_REFERENCE_NONE || column->slot == UINT32_MAX)
			continue;
		if (!(column->flags & P2P_COLUMN_KEY))
			return foreign->columns[i];
		if (of_key == UINT32_MAX)
			of_key = foreign->columns[i];
	}
	return of_key;
}

/* ... a = ?1 COLLATE x AND b = ?2 COLLATE y, or, with `child`, ... = c.z */
static void sql_where(struct p2p_buf *sql, const struct p2p_table *parent,
		      const struct p2p_foreign *foreign, const struct p2p_table *child)
{
	uint32_t i;

	for (i = 0; i < foreign->count; i++) {
		const struct p2p_column *column = &parent->columns[foreign->parents[i]];

		p2p_sql_text(sql, i ? " AND p." : "p.");
		p2p_sql_name(sql, column->name);
		if (child) {
			p2p_sql_text(sql, "=c.");
			p2p_sql_name(sql, child->columns[foreign->columns[i]].name);
		} else {
			p2p_sql_text(sql, "=?");
		}
		p2p_sql_text(sql, " COLLATE ");
		p2p_sql_text(sql, collations[column->collation]);
	}
}

/* --- does it dangle --------------------------------------------------------------------------- */

void p2p_capture_values_drop(struct capture_finder *finder)
{
	uint32_t i;

	for (i = 0; finder->parents && i < finder->table->foreign_count; i++)
		(void)sqlite3_finalize(finder->parents[i]); /* errors were seen at the steps */
	p2p_free(finder->parents);
	finder->parents = NULL;
}

static int parent_prepare(struct p2p_capture *capture, struct p2p_table *table, uint32_t foreign,
			  const struct p2p_table *parent, sqlite3_stmt **out)
{
	struct capture_finder *finder;
	struct p2p_buf sql;
	int rc = p2p_capture_finder(capture, table, &finder);

	if (!rc && !finder->parents)
		finder->parents = p2p_calloc(table->foreign_count + 1, sizeof(sqlite3_stmt *));
	if (rc || !finder->parents)
		return rc ? rc : P2P_ENOMEM;
	if (!finder->parents[foreign]) {
		p2p_buf_init(&sql, SQL_BYTES_MAX);
		p2p_sql_text(&sql, "SELECT 1 FROM main.");
		p2p_sql_name(&sql, parent->name);
		p2p_sql_text(&sql, " AS p WHERE ");
		sql_where(&sql, parent, &table->foreigns[foreign], NULL);
		rc = p2p_sql_prepare(capture->config.store, &sql, &finder->parents[foreign]);
		p2p_buf_deinit(&sql);
	}
	*out = finder->parents[foreign];
	return rc;
}

/* Values in the order of the FOREIGN KEY. */
static int parent_there(struct p2p_capture *capture, struct p2p_table *table, uint32_t foreign,
			const struct p2p_value *values, bool *out)
{
	const struct p2p_foreign *at = &table->foreigns[foreign];
	const struct p2p_table *parent = foreign_parent(capture, at);
	sqlite3_stmt *stmt = NULL;
	uint32_t i;
	int rc = parent_prepare(capture, table, foreign, parent, &stmt), step;

	for (i = 0; i < at->count && !rc; i++)
		rc = p2p_value_bind(stmt, (int)i + 1, &values[i]);
	if (rc)
		return rc;
	step = sqlite3_step(stmt);
	*out = step == SQLITE_ROW;
	if (step != SQLITE_ROW && step != SQLITE_DONE)
		rc = p2p_store_error(capture->config.store, step, NULL, "look for a parent");
	(void)sqlite3_reset(stmt);	    /* repeats the step's error */
	(void)sqlite3_clear_bindings(stmt); /* borrowed values */
	return rc;
}

/* Its place in a row as p2p_store_app_row() reads it: generated columns are not. */
static int place_of(const struct p2p_table *table, uint32_t column)
{
	uint32_t i;
	int at = 0;

	for (i = 0; i < column; i++)
		at += !(table->columns[i].flags & P2P_COLUMN_GENERATED);
	return at;
}

/* *out_whole: all columns have values, and are no generated ones. */
static int foreign_values(const struct p2p_table *table, const struct p2p_foreign *foreign,
			  sqlite3_stmt *row, struct p2p_value *values, bool *out_whole)
{
	uint32_t i;
	int rc = 0;

	*out_whole = foreign->count <= P2P_KEY_COLUMNS_MAX;
	for (i = 0; i < foreign->count && *out_whole && !rc; i++) {
		uint32_t column = foreign->columns[i];

		if (table->columns[column].flags & P2P_COLUMN_GENERATED) {
			*out_whole = false;
			continue;
		}
		rc = p2p_value_column(&values[i], row, place_of(table, column));
		*out_whole = values[i].type != P2P_NULL;
	}
	return rc;
}

/* A birth says it in its key, if nowhere else. */
static void key_say(struct p2p_capture *capture, const struct p2p_table *table,
		    const struct p2p_foreign *foreign, struct p2p_overlay_row *row,
		    p2p_ordinal ordinal)
{
	uint32_t mark = foreign_mark(table, foreign);

	if (row->life != ordinal || mark == UINT32_MAX ||
	    !(table->columns[mark].flags & P2P_COLUMN_KEY))
		return;
	p2p_capture_cell_turn(capture, row, table->columns[mark].slot, ordinal);
}

static int column_loose(struct p2p_capture *capture, const struct p2p_table *table,
			const struct p2p_overlay_row *row, uint32_t slot, bool *out)
{
	struct p2p_rowref ref = {table, row->key, row->key_len};
	uint32_t parent;
	int rc;

	*out = row->refs && row->refs[slot] == P2P_OVERLAY_REF_LOOSE;
	if ((row->refs && row->refs[slot] != P2P_OVERLAY_REF_NONE) || !row->in_file ||
	    row->new_life)
		return 0;
	rc = p2p_store_ref_get(capture->config.store, &ref, slot, &parent, &capture->bytes);
	*out = rc == 0 && !parent;
	return rc == P2P_ENOENT ? 0 : rc;
}

/* A column of it was written, and now it has a parent: what is loose of it is said again. */
static int foreign_tighten(struct p2p_capture *capture, const struct p2p_table *table,
			   const struct p2p_foreign *foreign, struct p2p_overlay_row *row,
			   p2p_ordinal ordinal)
{
	bool written = false, loose;
	uint32_t i, slot;
	int rc = 0;

	for (i = 0; i < foreign->count; i++)
		written |= row->ordinals[table->columns[foreign->columns[i]].slot] == ordinal;
	for (i = 0; i < foreign->count && written && !rc; i++) {
		slot = table->columns[foreign->columns[i]].slot;
		if (table->columns[foreign->columns[i]].reference != P2P_REFERENCE_NONE ||
		    row->ordinals[slot])
			continue;
		rc = column_loose(capture, table, row, slot, &loose);
		if (!rc && loose)
			p2p_capture_cell_turn(capture, row, slot, ordinal);
	}
	return rc;
}

int p2p_capture_values(struct p2p_capture *capture, struct p2p_table *table,
		       struct p2p_overlay_row *row, p2p_ordinal ordinal, sqlite3_stmt *stmt)
{
	struct p2p_value values[P2P_KEY_COLUMNS_MAX];
	bool whole, there;
	uint32_t i, j;
	int rc = 0;

	memset(capture->dangles, 0, table->column_count * sizeof(*capture->dangles));
	for (i = 0; i < table->foreign_count && !rc; i++) {
		const struct p2p_foreign *foreign = &table->foreigns[i];

		if (!foreign_parent(capture, foreign))
			continue;
		rc = foreign_values(table, foreign, stmt, values, &whole);
		if (rc || !whole)
			continue;
		rc = parent_there(capture, table, i, values, &there);
		if (!rc && there && foreign->count > 1)
			rc = foreign_tighten(capture, table, foreign, row, ordinal);
		if (rc || there)
			continue;
		for (j = 0; j < foreign->count; j++)
			capture->dangles[foreign->columns[j]] = true;
		key_say(capture, table, foreign, row, ordinal);
	}
	return rc;
}

int p2p_capture_value_cell(struct p2p_capture *capture, const struct p2p_table *table,
			   struct p2p_overlay_row *row, struct p2p_cell *cell)
{
	const struct p2p_column *column = &table->columns[cell->column];

	if (column->reference != P2P_REFERENCE_NONE || (column->flags & P2P_COLUMN_COUNTER))
		return 0;
	if (!capture->dangles[cell->column])
		return p2p_overlay_ref(row, column->slot, P2P_OVERLAY_REF_ROW); /* no entry */
	cell->tag = P2P_CELL_LOOSE_VALUE;
	return p2p_overlay_ref(row, column->slot, P2P_OVERLAY_REF_LOOSE);
}

/* --- parents that went ------------------------------------------------------------------------ */

struct leaving {
	struct p2p_capture *capture;
	struct p2p_table *parent, *child;
	uint32_t foreign, mark;
	int (*each)(void *ctx, struct p2p_table *table, uint32_t column,
		    const struct p2p_value *key);
	void *ctx;
};

/* Rows of the child by their values, or, without them, all that dangle. */
static int children_prepare(const struct leaving *l, bool by_value, sqlite3_stmt **out)
{
	const struct p2p_foreign *foreign = &l->child->foreigns[l->foreign];
	struct p2p_buf sql;
	uint32_t i;
	int rc;

	p2p_buf_init(&sql, SQL_BYTES_MAX);
	for (i = 0; i < l->child->key_count; i++) {
		p2p_sql_text(&sql, i ? ",c." : "SELECT c.");
		p2p_sql_name(&sql, l->child->columns[l->child->key[i]].name);
	}
	p2p_sql_text(&sql, " FROM main.");
	p2p_sql_name(&sql, l->child->name);
	p2p_sql_text(&sql, " AS c");
	for (i = 0; i < foreign->count; i++) {
		p2p_sql_text(&sql, i ? " AND c." : " WHERE c.");
		p2p_sql_name(&sql, l->child->columns[foreign->columns[i]].name);
		if (by_value) {
			p2p_sql_text(&sql, "=? COLLATE ");
			p2p_sql_text(&sql,
				     collations[l->parent->columns[foreign->parents[i]].collation]);
		} else {
			p2p_sql_text(&sql, " NOT NULL");
		}
	}
	if (!by_value) {
		p2p_sql_text(&sql, " AND NOT EXISTS(SELECT 1 FROM main.");
		p2p_sql_name(&sql, l->parent->name);
		p2p_sql_text(&sql, " AS p WHERE ");
		sql_where(&sql, l->parent, foreign, l->child);
		p2p_sql_text(&sql, ")");
	}
	rc = p2p_sql_prepare(l->capture->config.store, &sql, out);
	p2p_buf_deinit(&sql);
	return rc;
}

static int children_each(const struct leaving *l, sqlite3_stmt *stmt)
{
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	uint32_t i;
	int rc = 0, step = SQLITE_DONE;

	while (!rc && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
		for (i = 0; i < l->child->key_count && !rc; i++)
			rc = p2p_value_column(&key[i], stmt, (int)i);
		if (!rc)
			rc = l->each(l->ctx, l->child, l->mark, key);
	}
	if (!rc && step != SQLITE_DONE)
		rc = p2p_store_error(l->capture->config.store, step, NULL, "look for children");
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

/* The key of the parent is what is referred to: it is known also of a row that is gone. */
static bool means_key(const struct leaving *l)
{
	const struct p2p_foreign *foreign = &l->child->foreigns[l->foreign];
	uint32_t i;

	for (i = 0; i < foreign->count; i++)
		if (!(l->parent->columns[foreign->parents[i]].flags & P2P_COLUMN_KEY))
			return false;
	return true;
}

/* Children of one row that is gone. */
static int left_one(const struct leaving *l, const struct p2p_overlay_row *row, sqlite3_stmt *stmt)
{
	const struct p2p_foreign *foreign = &l->child->foreigns[l->foreign];
	struct p2p_value key[P2P_KEY_COLUMNS_MAX], values[P2P_KEY_COLUMNS_MAX];
	bool there = false;
	uint32_t i;
	int rc = p2p_capture_key(l->capture, l->parent, row, key);

	if (rc)
		return rc == P2P_ENOENT ? 0 : rc; /* it had no number: nobody named it */
	for (i = 0; i < foreign->count; i++)
		values[i] = key[l->parent->columns[foreign->parents[i]].key_pos];
	rc = parent_there(l->capture, l->child, l->foreign, values, &there);
	for (i = 0; i < foreign->count && !rc; i++)
		rc = p2p_value_bind(stmt, (int)i + 1, &values[i]);
	if (!rc && !there)
		rc = children_each(l, stmt);
	(void)sqlite3_clear_bindings(stmt); /* borrowed values */
	return rc;
}

static int left_of(const struct leaving *l, size_t dead, bool moved)
{
	bool by_value = means_key(l) && dead <= DIED_EACH_MAX;
	sqlite3_stmt *stmt = NULL;
	size_t i;
	int rc;

	if (means_key(l) && !dead && moved)
		return 0; /* other columns moved */
	rc = children_prepare(l, by_value, &stmt);
	if (!rc && !by_value)
		rc = children_each(l, stmt);
	for (i = 0; i < l->capture->died_count && by_value && !rc; i++) {
		const struct p2p_overlay_row *row = l->capture->died[i];

		if (row->table == l->parent->number && !p2p_rowstate_alive(&row->state))
			rc = left_one(l, row, stmt);
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc;
}

int p2p_capture_values_left(struct p2p_capture *capture, struct p2p_table *parent,
			    int (*each)(void *ctx, struct p2p_table *table, uint32_t column,
					const struct p2p_value *key),
			    void *ctx)
{
	struct p2p_store *store = capture->config.store;
	struct leaving l = {.capture = capture, .parent = parent, .each = each, .ctx = ctx};
	size_t i, dead = 0, moved = 0;
	int rc = 0;

	for (i = 0; i < capture->died_count; i++) {
		if (capture->died[i]->table != parent->number)
			continue;
		if (p2p_rowstate_alive(&capture->died[i]->state))
			moved++;
		else
			dead++;
	}
	for (i = 0; i < p2p_store_table_count(store) && !rc && dead + moved; i++) {
		l.child = p2p_store_table(store, i);
		for (l.foreign = 0; l.foreign < l.child->foreign_count && !rc; l.foreign++) {
			const struct p2p_foreign *foreign = &l.child->foreigns[l.foreign];

			if (l.child->state != P2P_TABLE_LIVE ||
			    foreign_parent(capture, foreign) != parent)
				continue;
			l.mark = foreign_mark(l.child, foreign);
			if (l.mark != UINT32_MAX)
				rc = left_of(&l, dead, moved > 0);
		}
	}
	return rc;
}
