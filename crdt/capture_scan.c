/* From the journal to the keys that it names, and to turns; see capture_private.h. */
#include <string.h>

#include "crdt/capture_private.h"
#include "proto/check.h"
#include "proto/mem.h"

/* Changes that are no further apart share a stamp (design 4.1). */
#define TURN_MS 1000
/* Rows of a table that was just enabled: taken in slices, each a group of its own. */
#define PRESENT_SLICE P2P_BATCH_ROWS_MAX

struct scan {
	struct p2p_capture *capture;
	int64_t upto; /* last entry that was taken */
	size_t present;
	bool more;
};

int p2p_capture_entry_key(struct p2p_capture *capture, const struct p2p_table *table,
			  const struct p2p_journal_entry *entry)
{
	struct p2p_identity identity;
	int rc = 0;

	memset(&identity, 0, sizeof(identity));
	p2p_buf_reset(&capture->key);
	if (table->generated_identity) {
		if (entry->key[0].type != P2P_INTEGER)
			return P2P_IDENTITY_NULL_KEY;
		identity.kind = P2P_IDENTITY_NUMBER;
		identity.number = entry->key[0].integer;
	} else {
		p2p_buf_reset(&capture->bytes);
		rc = p2p_identity_of_key(&capture->bytes, table, entry->key);
		identity.kind = P2P_IDENTITY_KEY;
		identity.key = capture->bytes.data;
		identity.key_len = capture->bytes.len;
	}
	if (rc)
		return rc;
	p2p_identity_put(&capture->key, &identity);
	return p2p_buf_error(&capture->key);
}

int p2p_capture_touch(struct p2p_capture *capture, const struct p2p_table *table,
		      const struct p2p_journal_entry *entry)
{
	struct p2p_touch touch = {.table = entry->table, .present = entry->present};
	int rc = p2p_capture_entry_key(capture, table, entry);

	if (rc)
		return rc;
	touch.key_len = capture->key.len;
	touch.first_id = touch.last_id = entry->id;
	touch.first_ms = touch.last_ms = entry->ms;
	return p2p_touched_add(&capture->touched, &touch, capture->key.data);
}

static int scan_entry(void *ctx, const struct p2p_journal_entry *entry)
{
	struct scan *scan = ctx;
	struct p2p_capture *capture = scan->capture;
	struct p2p_table *table = p2p_store_table_by_number(capture->config.store, entry->table);
	int rc;

	p2p_require(table != NULL); /* the store passes over others */
	if (entry->present && scan->present++ == PRESENT_SLICE) {
		scan->more = true;
		return 1;
	}
	scan->upto = entry->id;
	rc = p2p_capture_touch(capture, table, entry);
	if (rc != P2P_IDENTITY_NULL_KEY)
		return rc;
	if (!capture->null_keys++)
		p2p_log(capture->config.log, P2P_LOG_WARN, "crdt",
			"table %s: rows with NULL in their key are not replicated", table->name);
	return 0;
}

/* --- turns ------------------------------------------------------------------------------------ */

static bool turn_fits(const struct capture_turn *turn, int64_t ms)
{
	/* the clock of the application may be anything */
	return ms >= turn->first_ms && (uint64_t)ms - (uint64_t)turn->first_ms <= TURN_MS;
}

int p2p_capture_turn(struct p2p_capture *capture, int64_t ms, p2p_ordinal *out)
{
	struct capture_turn *grown, *turn;
	size_t cap;

	if (capture->turn_count && turn_fits(&capture->turns[capture->turn_count - 1], ms)) {
		turn = &capture->turns[capture->turn_count - 1];
		turn->cut = false;
		if (ms > turn->ms)
			turn->ms = ms;
		*out = (p2p_ordinal)capture->turn_count;
		return 0;
	}
	if (capture->turn_count == capture->turn_cap) {
		cap = capture->turn_cap ? capture->turn_cap * 2 : 16;
		grown = p2p_realloc(capture->turns, cap * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		capture->turns = grown;
		capture->turn_cap = cap;
	}
	turn = &capture->turns[capture->turn_count++];
	turn->ms = turn->first_ms = ms;
	turn->cut = false;
	*out = (p2p_ordinal)capture->turn_count;
	return 0;
}

/* --- scan ------------------------------------------------------------------------------------- */

/* The turns of all, in the order of the journal. *out_rank: the greatest of a table. */
static int scan_turns(struct p2p_capture *capture, uint32_t *out_rank)
{
	struct p2p_table *table = NULL;
	uint32_t rank;
	size_t i;
	int rc = 0;

	*out_rank = 0;
	for (i = 0; i < capture->touched.count && !rc; i++) {
		struct p2p_touch *touch = &capture->touched.items[i];

		rc = p2p_capture_turn(capture, touch->last_ms, &touch->ordinal);
		if (table && table->number == touch->table)
			continue;
		table = p2p_store_table_by_number(capture->config.store, touch->table);
		rank = p2p_capture_rank(capture, table);
		if (rank > *out_rank)
			*out_rank = rank;
	}
	return rc;
}

static int scan_rows(struct p2p_capture *capture)
{
	uint32_t rank, last;
	size_t i;
	int rc = scan_turns(capture, &last);

	for (rank = 0; rank <= last && !rc; rank++)
		for (i = 0; i < capture->touched.count && !rc; i++) {
			const struct p2p_touch *touch = &capture->touched.items[i];
			struct p2p_table *table =
				p2p_store_table_by_number(capture->config.store, touch->table);

			if (!last || p2p_capture_rank(capture, table) == rank)
				rc = p2p_capture_row(capture, table, touch, touch->ordinal);
		}
	return rc;
}

int p2p_capture_touched(struct p2p_capture *capture)
{
	int rc = p2p_capture_keys(capture);

	p2p_touched_sort(&capture->touched);
	if (!rc)
		rc = scan_rows(capture);
	p2p_touched_clear(&capture->touched);
	if (!rc && capture->turn_count)
		capture->turns[capture->turn_count - 1].cut = true;
	return rc;
}

int p2p_capture_scan(struct p2p_capture *capture, bool *out_more)
{
	struct p2p_store *store = capture->config.store;
	struct scan scan = {.capture = capture, .upto = capture->position};
	int64_t max = 0;
	int rc = p2p_store_journal_max(store, &max);

	*out_more = false;
	if (rc || max <= capture->position)
		return rc;
	capture->scan++;
	capture->displaced_due |= capture->provisional > 0;
	p2p_touched_clear(&capture->touched);
	rc = p2p_store_journal_each(store, capture->position, max, scan_entry, &scan);
	if (rc == 1)
		rc = 0;
	if (!rc && !scan.more)
		scan.upto = max; /* entries of tables that are replicated no longer count too */
	capture->slices = scan.more;
	if (!scan.more)
		capture->present_table = 0;
	if (!rc)
		rc = p2p_capture_touched(capture);
	if (!rc && capture->given_twice)
		rc = p2p_capture_number_again(capture);
	if (rc)
		return rc;
	capture->position = scan.upto;
	*out_more = scan.more;
	return 0;
}
