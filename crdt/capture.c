/* Life of a capture, and folding; see capture.h. */
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "crdt/capture_private.h"
#include "crdt/store_refs.h"
#include "proto/check.h"
#include "proto/mem.h"

int p2p_capture_error(const struct p2p_capture *capture, struct p2p_error *err, int rc,
		      const char *what)
{
	if (rc == P2P_EIO || rc == P2P_EFULL || rc == P2P_EBUSY)
		return p2p_error_set(err, rc, "%s: %s (%s)", what, p2p_strerror(rc),
				     sqlite3_errmsg(p2p_store_db(capture->config.store)));
	return p2p_error_set(err, rc, "%s: %s", what, p2p_strerror(rc));
}

void p2p_capture_drop_finders(struct p2p_capture *capture)
{
	size_t i;

	for (i = 0; i < capture->finder_count; i++) {
		p2p_capture_values_drop(capture->finders[i]);
		p2p_numbers_deinit(&capture->finders[i]->numbers);
		p2p_apptable_deinit(&capture->finders[i]->app);
		p2p_free(capture->finders[i]);
	}
	p2p_free(capture->finders);
	capture->finders = NULL;
	capture->finder_count = 0;
	capture->target.table = NULL;
}

int p2p_capture_new(const struct p2p_capture_config *config, struct p2p_capture **out,
		    struct p2p_error *err)
{
	struct p2p_capture *capture = p2p_calloc(1, sizeof(*capture));
	const struct p2p_hash_key *hash_key = p2p_store_hash_key(config->store);
	int rc = 0;

	if (!capture)
		return p2p_error_set(err, P2P_ENOMEM, "start capturing: out of memory");
	capture->config = *config;
	capture->numbering.members = 1;
	p2p_overlay_init(&capture->overlay, hash_key);
	p2p_touched_init(&capture->touched, hash_key);
	p2p_rowstate_init(&capture->state);
	p2p_buf_init(&capture->key, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&capture->bytes, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&capture->body, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&capture->yields, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&capture->present_numbers, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&capture->targets, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&capture->target.key, P2P_RECORD_BYTES_MAX);
	capture->hashes = p2p_calloc(P2P_COLUMNS_MAX, sizeof(*capture->hashes));
	capture->canonical = p2p_calloc(P2P_COLUMNS_MAX, sizeof(*capture->canonical));
	capture->dangles = p2p_calloc(P2P_COLUMNS_MAX, sizeof(*capture->dangles));
	capture->cells = p2p_calloc(P2P_COLUMNS_MAX, sizeof(*capture->cells));
	if (!capture->hashes || !capture->canonical || !capture->dangles || !capture->cells)
		rc = P2P_ENOMEM;
	capture->own = p2p_store_replica_find(config->store, &config->replica);
	if (!rc && !capture->own)
		rc = P2P_ESTATE;
	if (!rc)
		rc = p2p_capture_replay(capture);
	if (rc) {
		p2p_capture_free(capture);
		return p2p_error_set(err, rc, "read own changes back from the log: %s",
				     p2p_strerror(rc));
	}
	*out = capture;
	return 0;
}

void p2p_capture_free(struct p2p_capture *capture)
{
	if (!capture)
		return;
	p2p_capture_drop_finders(capture);
	p2p_overlay_deinit(&capture->overlay);
	p2p_touched_deinit(&capture->touched);
	p2p_rowstate_deinit(&capture->state);
	p2p_buf_deinit(&capture->key);
	p2p_buf_deinit(&capture->bytes);
	p2p_buf_deinit(&capture->body);
	p2p_buf_deinit(&capture->yields);
	p2p_counters_deinit(&capture->counters);
	p2p_buf_deinit(&capture->present_numbers);
	p2p_buf_deinit(&capture->targets);
	p2p_buf_deinit(&capture->target.key);
	p2p_free(capture->died);
	p2p_free(capture->turns);
	p2p_free(capture->hashes);
	p2p_free(capture->canonical);
	p2p_free(capture->dangles);
	p2p_free(capture->cells);
	p2p_free(capture);
}

void p2p_capture_reset(struct p2p_capture *capture)
{
	p2p_capture_drop_finders(capture);
	capture->stale = true;
}

/* --- running ---------------------------------------------------------------------------------- */

int p2p_capture_snapshot(struct p2p_capture *capture, struct p2p_error *err)
{
	struct p2p_store *store = capture->config.store;
	bool moved = false;
	int rc = p2p_store_begin_read(store, err);

	if (rc)
		return rc;
	rc = p2p_store_schema_moved(store, &moved);
	if (rc)
		p2p_capture_error(capture, err, rc, "read the schema version");
	if (!rc && moved)
		rc = P2P_CAPTURE_MOVED;
	if (rc)
		p2p_store_rollback(store);
	return rc;
}

int p2p_capture_run(struct p2p_capture *capture, bool *out_more, struct p2p_error *err)
{
	struct p2p_store *store = capture->config.store;
	int rc = 0;

	p2p_require(!p2p_store_in_transaction(store));
	*out_more = false;
	if (capture->stale)
		rc = p2p_capture_replay(capture);
	if (rc)
		return p2p_capture_error(capture, err, rc, "read own changes back from the log");
	rc = p2p_capture_snapshot(capture, err);
	if (rc)
		return rc;
	rc = p2p_capture_scan(capture, out_more);
	if (!rc)
		rc = p2p_capture_loosen(capture);
	if (rc)
		p2p_capture_error(capture, err, rc, "capture local changes");
	p2p_capture_drop_finders(capture);
	p2p_store_rollback(store); /* ends the snapshot */
	if (rc)
		capture->stale = true;
	return rc;
}

int64_t p2p_capture_position(const struct p2p_capture *capture)
{
	return capture->position;
}

size_t p2p_capture_provisional(const struct p2p_capture *capture)
{
	return capture->provisional;
}

size_t p2p_capture_turns(const struct p2p_capture *capture)
{
	return capture->turn_count;
}

size_t p2p_capture_unfolded(const struct p2p_capture *capture)
{
	return capture->overlay.count - capture->provisional;
}

const struct p2p_vv_entry *p2p_capture_head(const struct p2p_capture *capture)
{
	return &capture->head;
}

void p2p_capture_observe(struct p2p_capture *capture, struct p2p_hlc stamp)
{
	if (stamp.value > capture->clock.value)
		capture->clock = stamp;
}

/* --- fold ------------------------------------------------------------------------------------- */

/* What p2p_ref says of the row's references. */
static int fold_refs(struct p2p_capture *capture, const struct p2p_table *table,
		     const struct p2p_overlay_row *row)
{
	struct p2p_store *store = capture->config.store;
	struct p2p_rowref ref = {table, row->key, row->key_len};
	struct p2p_store_ref loose = {.key = row->key};
	/* what it claimed and referred to while it was parked, or in the life that ended, is gone
	 */
	bool anew = row->new_life || row->unpark || !p2p_rowstate_alive(&row->state);
	uint32_t i;
	int rc = row->in_file && anew ? p2p_store_life_drop(store, &ref) : 0;

	for (i = 0; row->refs && i < row->state.cell_count && !rc; i++) {
		loose.slot = i;
		if (row->refs[i] == P2P_OVERLAY_REF_LOOSE)
			rc = p2p_store_ref_put(store, &ref, &loose);
		else if (row->refs[i] == P2P_OVERLAY_REF_ROW && row->in_file && !anew)
			rc = p2p_store_ref_drop(store, &ref, i);
	}
	return rc;
}

static int fold_row(struct p2p_capture *capture, struct p2p_table *table,
		    struct p2p_overlay_row *row)
{
	struct p2p_store *store = capture->config.store;
	struct p2p_buf none;
	int rc = p2p_capture_count_fold(capture, table, row);

	if (!rc)
		rc = p2p_store_row_put(store, table, row->key, row->key_len, &row->state,
				       row->number);
	if (!rc)
		rc = fold_refs(capture, table, row);
	if (!rc)
		rc = p2p_capture_yields_fold(capture, table, row);
	if (!rc && row->unpark) {
		p2p_buf_init(&none, 1);
		rc = p2p_store_parked_put(store, table, row->key, row->key_len, &none, "");
	}
	if (!rc && table->generated_identity && !p2p_rowstate_alive(&row->state))
		rc = p2p_store_temp_drop(store, table, row->key, row->key_len);
	return rc;
}

/* What the projection must look at again. */
static int fold_tell(struct p2p_table *table, const struct p2p_overlay_row *row,
		     p2p_capture_changed changed, void *ctx)
{
	int rc = 0;

	if (!table->generated_identity || !(row->number_changed || row->yield_count))
		return changed(ctx, table, NULL);
	if (row->shown != row->number)
		rc = changed(ctx, table, &row->shown);
	return rc ? rc : changed(ctx, table, &row->number);
}

static int by_key(const void *a, const void *b)
{
	const struct p2p_overlay_row *const *x = a, *const *y = b;
	size_t len = (*x)->key_len < (*y)->key_len ? (*x)->key_len : (*y)->key_len;
	int rc;

	if ((*x)->table != (*y)->table)
		return (*x)->table < (*y)->table ? -1 : 1;
	rc = memcmp((*x)->key, (*y)->key, len);
	return rc ? rc : ((*x)->key_len > (*y)->key_len) - ((*x)->key_len < (*y)->key_len);
}

/* In the order of the row states' tree: many rows write each page once. */
static int rows_sorted(struct p2p_capture *capture, struct p2p_overlay_row ***out)
{
	struct p2p_overlay_row **rows, *row;
	size_t count = 0;

	rows = p2p_calloc(capture->overlay.count + 1, sizeof(struct p2p_overlay_row *));
	if (!rows)
		return P2P_ENOMEM;
	for (row = capture->overlay.first; row; row = row->next_row)
		rows[count++] = row;
	if (count)
		qsort(rows, count, sizeof(struct p2p_overlay_row *), by_key);
	*out = rows;
	return 0;
}

int p2p_capture_fold(struct p2p_capture *capture, p2p_capture_changed changed, void *ctx,
		     struct p2p_error *err)
{
	struct p2p_store *store = capture->config.store;
	struct p2p_overlay_row **rows = NULL;
	size_t i;
	int rc = rows_sorted(capture, &rows);

	p2p_require(p2p_store_in_transaction(store));
	p2p_require(capture->provisional == 0);
	p2p_require(!capture->stale);
	for (i = 0; i < capture->overlay.count && !rc; i++) {
		struct p2p_table *table = p2p_store_table_by_number(store, rows[i]->table);

		if (!table || table->state != P2P_TABLE_LIVE)
			continue; /* disabled meanwhile */
		if (!rows[i]->state.causal_length)
			continue; /* inserted and deleted before anybody knew */
		rc = fold_row(capture, table, rows[i]);
		if (!rc && changed)
			rc = fold_tell(table, rows[i], changed, ctx);
	}
	p2p_free(rows);
	p2p_capture_drop_finders(capture);
	if (!rc)
		rc = p2p_store_folded_set(store, capture->head.seq, capture->position);
	if (!rc)
		rc = p2p_store_journal_trim(store, capture->position);
	return rc ? p2p_capture_error(capture, err, rc, "fold local changes") : 0;
}

void p2p_capture_fold_done(struct p2p_capture *capture, bool committed)
{
	if (!committed)
		return;
	p2p_overlay_clear(&capture->overlay);
	p2p_capture_number_none(capture);
}
