/* Keys that contain references: who showed a journalled key before this scan, and whose key changes
 * its meaning because a row that it refers to went; see capture_private.h.
 *
 * The journal has numbers. Before anything of the scan is captured they still mean what they meant
 * when the application wrote; afterwards they mean what its tables show now. If that is another
 * row, the row of the old identity is gone and there is one of the new. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/capture_private.h"
#include "proto/mem.h"

/* Values of the key of a touched row, borrowed from the touched keys. */
static int touch_values(const struct p2p_capture *capture, const struct p2p_table *table,
			const struct p2p_touch *touch, struct p2p_value *values)
{
	struct p2p_identity identity;
	struct p2p_reader reader;

	p2p_reader_init(&reader, capture->touched.keys.data + touch->key, touch->key_len);
	p2p_identity_read(&reader, &identity);
	memset(values, 0, sizeof(*values));
	if (!table->generated_identity)
		return p2p_identity_key_values(table, identity.key, identity.key_len, values);
	values->type = P2P_INTEGER;
	values->integer = identity.number;
	return 0;
}

static int touch_old(struct p2p_capture *capture, const struct p2p_table *table, size_t index)
{
	struct p2p_touched *touched = &capture->touched;
	struct p2p_value values[P2P_KEY_COLUMNS_MAX];
	bool lives = false;
	int rc = touch_values(capture, table, &touched->items[index], values);

	if (!rc)
		rc = p2p_capture_key_identity(capture, table, values, &capture->key, &lives);
	if (!rc && !lives && values[0].type == P2P_BLOB) { /* p2p_store_missing() */
		p2p_buf_reset(&capture->key);
		p2p_buf_put(&capture->key, values[0].bytes, values[0].len);
		rc = p2p_buf_error(&capture->key);
		if (!rc)
			rc = p2p_capture_lives(capture, table, capture->key.data, capture->key.len,
					       &lives);
	}
	if (rc || !lives)
		return rc;
	touched->items[index].old = touched->keys.len;
	touched->items[index].old_len = capture->key.len;
	p2p_buf_put(&touched->keys, capture->key.data, capture->key.len);
	return p2p_buf_error(&touched->keys);
}

/* The number of a touched row may mean another row now, or none. */
static int touch_moves(struct p2p_capture *capture, const struct p2p_table *table, size_t index,
		       struct capture_numbers *out)
{
	struct p2p_value values[P2P_KEY_COLUMNS_MAX];
	struct sqlite3_stmt *stmt;
	int rc = touch_values(capture, table, &capture->touched.items[index], values);

	if (rc || values[0].type != P2P_INTEGER)
		return rc;
	if (table->generated_identity) {
		rc = p2p_store_app_row(capture->config.store, table, values, &stmt);
		p2p_store_row_done(capture->config.store);
		if (rc != P2P_ENOENT)
			return rc;
	}
	return p2p_capture_numbers_add(out, values[0].integer);
}

struct touching {
	struct p2p_capture *capture;
	struct p2p_touch touch; /* as of the last entry of the journal */
};

static int child_touch(void *ctx, struct p2p_table *table, const struct p2p_value *key)
{
	struct touching *t = ctx;
	struct p2p_journal_entry entry = {.table = table->number};
	int rc;

	memcpy(entry.key, key, table->key_count * sizeof(*key));
	rc = p2p_capture_entry_key(t->capture, table, &entry);
	if (rc)
		return rc == P2P_IDENTITY_NULL_KEY ? 0 : rc;
	t->touch.table = table->number;
	t->touch.key_len = t->capture->key.len;
	return p2p_touched_add(&t->capture->touched, &t->touch, t->capture->key.data);
}

static bool numbers_have(const struct capture_numbers *numbers, int64_t number)
{
	size_t i;

	for (i = 0; i < numbers->count; i++)
		if (numbers->items[i] == number)
			return true;
	return false;
}

/* A row that is known: is one of the numbers in its key, at this place? */
static int known_row(struct touching *t, struct p2p_table *table, uint32_t pos,
		     const struct capture_numbers *numbers, struct p2p_overlay_row *row)
{
	struct p2p_table *parent = p2p_capture_parent(t->capture, table, table->key[pos]);
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	struct p2p_key_part parts[P2P_KEY_COLUMNS_MAX];
	bool lives = false;
	int rc = p2p_identity_key_parts(table, row->identity.key, row->identity.key_len, parts);

	if (rc || !parent || !parts[pos].reference)
		return rc == P2P_EPROTO ? P2P_ECORRUPT : rc;
	rc = p2p_capture_lives(t->capture, table, row->key, row->key_len, &lives);
	if (rc || !lives)
		return rc;
	rc = p2p_capture_key(t->capture, table, row, key);
	if (rc || !numbers_have(numbers, key[pos].integer))
		return rc == P2P_ENOENT ? 0 : rc;
	return child_touch(t, table, key);
}

/* Rows that are known and may have been pushed out of the table, so that nothing there tells of
 * them: once their parent is gone nobody could say which key they had. */
static int known_touch(struct touching *t, struct p2p_table *table, uint32_t pos,
		       const struct capture_numbers *numbers)
{
	struct p2p_value number = {.type = P2P_INTEGER};
	struct p2p_overlay_row row;
	sqlite3_stmt *stmt = NULL;
	struct p2p_reader reader;
	char sql[64];
	size_t i;
	int rc = 0, step;

	for (i = 0; i < numbers->count && table->key_count == 1 && !rc; i++) {
		number.integer = numbers->items[i];
		rc = child_touch(t, table, &number);
	}
	if (rc || table->key_count == 1 || !table->has_unique)
		return rc;
	(void)sqlite3_snprintf(sizeof(sql), sql, "SELECT k FROM main.p2p_row_%u", table->number);
	step = sqlite3_prepare_v2(p2p_store_db(t->capture->config.store), sql, -1, &stmt, NULL);
	memset(&row, 0, sizeof(row));
	while (!rc && (step == SQLITE_OK || step == SQLITE_ROW) &&
	       (step = sqlite3_step(stmt)) == SQLITE_ROW) {
		row.key = (uint8_t *)(uintptr_t)sqlite3_column_blob(stmt, 0);
		row.key_len = (size_t)sqlite3_column_bytes(stmt, 0);
		p2p_reader_init(&reader, row.key, row.key_len);
		p2p_identity_read(&reader, &row.identity);
		rc = reader.failed ? P2P_ECORRUPT : known_row(t, table, pos, numbers, &row);
	}
	if (!rc && step != SQLITE_DONE)
		rc = p2p_store_error(t->capture->config.store, step, NULL, "read");
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc;
}

static int children_touch(struct touching *t, const struct p2p_table *parent,
			  const struct capture_numbers *numbers)
{
	struct p2p_store *store = t->capture->config.store;
	struct capture_each each = {child_touch, t};
	uint32_t j;
	size_t i;
	int rc = 0;

	for (i = 0; i < p2p_store_table_count(store); i++) {
		struct p2p_table *table = p2p_store_table(store, i);

		if (table->state != P2P_TABLE_LIVE || !table->key_references)
			continue;
		for (j = 0; j < table->reference_count && !rc; j++) {
			uint32_t column = table->references[j].column;

			if (!(table->columns[column].flags & P2P_COLUMN_KEY) ||
			    p2p_id_cmp(&table->references[j].parent, &parent->id) != 0)
				continue;
			rc = p2p_capture_children(t->capture, table, column, numbers, &each);
			if (!rc)
				rc = known_touch(t, table, table->columns[column].key_pos, numbers);
		}
	}
	return rc;
}

/* Children of the touched rows from..to of one table. */
static int parent_round(struct touching *t, const struct p2p_table *table, size_t from, size_t to)
{
	struct p2p_capture *capture = t->capture;
	struct capture_numbers numbers = {0};
	size_t i;
	int rc = 0;

	for (i = from; i < to && !rc; i++)
		if (capture->touched.items[i].table == table->number)
			rc = touch_moves(capture, table, i, &numbers);
	if (!rc && numbers.count)
		rc = children_touch(t, table, &numbers);
	p2p_free(numbers.items);
	return rc;
}

bool p2p_capture_key_references(const struct p2p_capture *capture)
{
	struct p2p_store *store = capture->config.store;
	size_t i;

	for (i = 0; i < p2p_store_table_count(store); i++)
		if (p2p_store_table(store, i)->key_references)
			return true;
	return false;
}

int p2p_capture_keys(struct p2p_capture *capture)
{
	struct p2p_store *store = capture->config.store;
	struct p2p_touched *touched = &capture->touched;
	struct touching t = {.capture = capture};
	size_t from = 0, to, i;
	int rc = 0;

	if (!touched->count || !p2p_capture_key_references(capture))
		return 0;
	for (i = 0; i < touched->count; i++)
		if (touched->items[i].last_id > t.touch.last_id) {
			t.touch.last_id = t.touch.first_id = touched->items[i].last_id;
			t.touch.last_ms = t.touch.first_ms = touched->items[i].last_ms;
		}
	while (from < touched->count && !rc) {
		to = touched->count;
		for (i = from; i < to && !rc; i++) {
			struct p2p_table *table =
				p2p_store_table_by_number(store, touched->items[i].table);

			if (table->key_references)
				rc = touch_old(capture, table, i);
		}
		for (i = 0; i < p2p_store_table_count(store) && !rc; i++) {
			struct p2p_table *table = p2p_store_table(store, i);

			if (table->state == P2P_TABLE_LIVE && table->lone_number)
				rc = parent_round(&t, table, from, to);
		}
		from = to;
	}
	return rc;
}

static uint32_t rank_at_depth(const struct p2p_capture *capture, const struct p2p_table *table,
			      uint32_t depth)
{
	uint32_t i, rank = 0, above;

	for (i = 0; i < table->key_count && depth < P2P_REFERENCE_DEPTH_MAX; i++) {
		const struct p2p_table *parent = p2p_capture_parent(capture, table, table->key[i]);

		if (!parent || parent == table)
			continue;
		above = 1 + rank_at_depth(capture, parent, depth + 1);
		if (above > rank)
			rank = above;
	}
	return rank;
}

uint32_t p2p_capture_rank(const struct p2p_capture *capture, const struct p2p_table *table)
{
	return table->key_references ? rank_at_depth(capture, table, 0) : 0;
}
