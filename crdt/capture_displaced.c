/* Rows that were captured, and pushed out of their table by a REPLACE before they were frozen: no
 * trigger told of it, and their values are gone; see capture_private.h. */
#include "crdt/capture_private.h"

/* Is a row, captured and not frozen yet, still in the application's table? */
static int row_gone(struct p2p_capture *capture, const struct p2p_overlay_row *row, bool *out)
{
	struct p2p_store *store = capture->config.store;
	struct p2p_table *table = p2p_store_table_by_number(store, row->table);
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	struct sqlite3_stmt *stmt;
	int rc;

	*out = false;
	if (!table || table->state != P2P_TABLE_LIVE || !table->has_unique)
		return 0;
	rc = p2p_capture_key(capture, table, row, key);
	if (!rc)
		rc = p2p_store_app_row(store, table, key, &stmt);
	p2p_store_row_done(store);
	*out = rc == P2P_ENOENT;
	return *out ? 0 : rc;
}

/* The next row behind `row` (NULL: the first) that is gone, or NULL. One that is there is not
 * looked at again before the next scan. */
static int next_gone(struct p2p_capture *capture, struct p2p_overlay_row **row)
{
	struct p2p_overlay_row *at = *row ? (*row)->next_row : capture->overlay.first;
	bool gone = false;
	int rc = 0;

	for (; at && !rc; at = at->next_row) {
		if (!at->provisional || !p2p_rowstate_alive(&at->state) ||
		    at->scan == capture->scan || p2p_overlay_kept_out(at))
			continue;
		rc = row_gone(capture, at, &gone);
		if (rc || gone)
			break;
		at->scan = capture->scan;
	}
	*row = at;
	return rc;
}

static int gone_touch(struct p2p_capture *capture, const struct p2p_overlay_row *row)
{
	struct p2p_table *table = p2p_store_table_by_number(capture->config.store, row->table);
	struct p2p_journal_entry entry = {.id = capture->position,
					  .table = row->table,
					  .ms = capture->turns[capture->turn_count - 1].ms};
	int rc = p2p_capture_key(capture, table, row, entry.key);

	if (!rc)
		rc = p2p_capture_touch(capture, table, &entry);
	/* it has no key any more: nothing can name it */
	return rc == P2P_ENOENT || rc == P2P_IDENTITY_NULL_KEY ? 0 : rc;
}

/* Keys that name them, of rows that are still there, mean nobody now: as if the journal had told of
 * them. */
static int keys_of_gone(struct p2p_capture *capture)
{
	struct p2p_overlay_row *row = NULL;
	int rc = next_gone(capture, &row);

	if (rc || !row)
		return rc;
	p2p_touched_clear(&capture->touched);
	while (!rc && row) {
		rc = gone_touch(capture, row);
		if (!rc)
			rc = next_gone(capture, &row);
	}
	return rc ? rc : p2p_capture_touched(capture);
}

int p2p_capture_displaced(struct p2p_capture *capture)
{
	struct p2p_store *store = capture->config.store;
	struct p2p_overlay_row *row = NULL;
	int rc = 0;

	if (!capture->displaced_due)
		return 0;
	if (p2p_capture_key_references(capture))
		rc = keys_of_gone(capture);
	if (!rc)
		rc = next_gone(capture, &row);
	while (!rc && row) {
		rc = p2p_capture_row_died(capture, p2p_store_table_by_number(store, row->table),
					  row, (p2p_ordinal)capture->turn_count);
		if (!rc)
			rc = next_gone(capture, &row);
	}
	if (!rc)
		capture->displaced_due = false;
	return rc;
}
