/* From provisional changes to signed changesets in the side log; see capture.h. */
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "crdt/capture_private.h"
#include "crdt/hlc.h"
#include "crdt/walfile.h"
#include "proto/check.h"
#include "proto/mem.h"
#include "proto/message.h"

/* A turn with more than this goes on in another changeset of its group. */
#define CHANGESET_BYTES_SOFT (64ull * 1024 * 1024)

/* A row in a turn, and the stamp that its cells get there. */
struct item {
	struct p2p_overlay_row *row;
	p2p_ordinal ordinal;
	struct p2p_hlc stamp;
};

struct freezing {
	struct p2p_capture *capture;
	struct p2p_freeze *freeze;
	struct item *items; /* owned; by ordinal */
	size_t count, cap;
	struct p2p_vv_entry head; /* as far as it is made */
	struct p2p_hlc clock;
	struct p2p_header header; /* of the changeset in the making; its arrays are borrowed */
	struct p2p_body_writer *writer;
	uint64_t bytes;
	uint32_t group_pos;
	struct p2p_schema_ref *tables; /* owned: dictionary */
	uint32_t *numbers;	       /* owned: local numbers beside tables */
	struct p2p_hash *heads;	       /* owned: P2P_RECORD_PARENTS_MAX */
};

/* --- what goes where -------------------------------------------------------------------------- */

static int item_add(struct freezing *f, struct p2p_overlay_row *row, p2p_ordinal ordinal)
{
	struct item *grown;
	size_t cap, i;

	/* the few ordinals of one row were added last */
	for (i = f->count; i && f->items[i - 1].row == row; i--)
		if (f->items[i - 1].ordinal == ordinal)
			return 0;
	if (f->count == f->cap) {
		cap = f->cap ? f->cap * 2 : 64;
		grown = p2p_realloc(f->items, cap * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		f->items = grown;
		f->cap = cap;
	}
	f->items[f->count].row = row;
	f->items[f->count++].ordinal = ordinal;
	return 0;
}

/* Rows that yield come after those that they give way to: a long turn goes on in another
 * changeset, with another stamp. */
static int by_ordinal(const void *a, const void *b)
{
	const struct item *x = a, *y = b;
	bool x_yields = x->row->yield_turn == x->ordinal,
	     y_yields = y->row->yield_turn == y->ordinal;

	if (x->ordinal != y->ordinal)
		return x->ordinal < y->ordinal ? -1 : 1;
	return (int)x_yields - (int)y_yields;
}

static int items_collect(struct freezing *f)
{
	struct p2p_overlay_row *row;
	uint32_t i;
	int rc = 0;

	for (row = f->capture->overlay.first; row && !rc; row = row->next_row) {
		if (!row->provisional)
			continue;
		if (row->life)
			rc = item_add(f, row, row->life);
		for (i = 0; i < row->state.cell_count && row->ordinals && !rc; i++)
			if (row->ordinals[i])
				rc = item_add(f, row, row->ordinals[i]);
		if (!rc && row->yield_turn)
			rc = item_add(f, row, row->yield_turn);
	}
	if (!rc && f->count)
		qsort(f->items, f->count, sizeof(*f->items), by_ordinal);
	return rc;
}

/* May a group end between two turns? */
static bool cut_between(const struct p2p_capture *capture, p2p_ordinal from, p2p_ordinal to)
{
	p2p_ordinal i;

	for (i = from; i < to; i++)
		if (capture->turns[i - 1].cut)
			return true;
	return false;
}

/* --- records ---------------------------------------------------------------------------------- */

static int table_index(struct freezing *f, const struct p2p_table *table, uint32_t *out)
{
	size_t i;

	for (i = f->header.table_count; i; i--)
		if (f->numbers[i - 1] == table->number) {
			*out = (uint32_t)i - 1;
			return 0;
		}
	if (f->header.table_count == P2P_TABLES_MAX)
		return P2P_ETOOBIG;
	i = f->header.table_count++;
	f->numbers[i] = table->number;
	f->tables[i].table = table->id;
	f->tables[i].schema = table->schema;
	*out = (uint32_t)i;
	return 0;
}

/* Cells of the row in this turn, from the row that stmt stands on. */
static int record_cells(struct p2p_capture *capture, struct p2p_table *table,
			const struct item *item, sqlite3_stmt *stmt, struct p2p_record *record)
{
	struct p2p_overlay_row *row = item->row;
	uint32_t i;
	int at = 0, rc = 0;

	p2p_buf_reset(&capture->targets);
	if (table->foreign_count)
		rc = p2p_capture_values(capture, table, row, item->ordinal, stmt);
	for (i = 0; i < table->column_count && !rc; i++) {
		uint32_t slot = table->columns[i].slot;
		struct p2p_cell *cell = &record->cells[record->cell_count];
		int column = at;

		if (table->columns[i].flags & P2P_COLUMN_GENERATED)
			continue;
		at++;
		if (slot >= row->state.cell_count || row->ordinals[slot] != item->ordinal)
			continue;
		if (capture_is_number(table, i) && row->identity.kind == P2P_IDENTITY_NUMBER &&
		    row->number == row->identity.number)
			continue; /* said by the identity */
		memset(cell, 0, sizeof(*cell));
		cell->column = i;
		cell->tag = P2P_CELL_VALUE;
		record->cell_count++;
		if (capture_is_number(table, i)) {
			cell->value.type = P2P_INTEGER;
			cell->value.integer = row->number; /* it may show another */
		} else {
			rc = p2p_value_column(&cell->value, stmt, column);
			if (!rc)
				rc = p2p_capture_cell(capture, table, row, cell);
			if (!rc && table->columns[i].valued)
				rc = p2p_capture_value_cell(capture, table, row, cell);
		}
	}
	return rc ? rc : p2p_capture_cells_done(capture, record);
}

/* The row is kept out of the table: its cells are not the application's. */
static bool record_only_yields(const struct p2p_overlay_row *row, const struct p2p_record *record)
{
	return record->yield_count && p2p_overlay_kept_out(row);
}

static int record_write(struct freezing *f, const struct item *item)
{
	struct p2p_capture *capture = f->capture;
	struct p2p_store *store = capture->config.store;
	struct p2p_overlay_row *row = item->row;
	struct p2p_table *table = p2p_store_table_by_number(store, row->table);
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	struct p2p_record record;
	sqlite3_stmt *stmt;
	int rc;

	if (!table || table->state != P2P_TABLE_LIVE)
		return 0; /* disabled meanwhile */
	memset(&record, 0, sizeof(record));
	record.identity = row->identity;
	record.causal_length = row->state.causal_length;
	record.cells = capture->cells;
	rc = table_index(f, table, &record.table);
	if (!rc && p2p_rowstate_alive(&row->state)) {
		record.flags = row->life == item->ordinal ? P2P_RECORD_BORN : 0;
		rc = p2p_capture_yields_put(capture, row, item->ordinal, &record);
	}
	if (!rc && p2p_rowstate_alive(&row->state) && !record_only_yields(row, &record)) {
		rc = p2p_capture_key(capture, table, row, key);
		if (!rc)
			rc = p2p_store_app_row(store, table, key, &stmt);
		if (rc == P2P_ENOENT)
			rc = P2P_ECORRUPT; /* it was there in this very snapshot */
		if (!rc)
			rc = record_cells(capture, table, item, stmt, &record);
		if (!rc)
			rc = p2p_capture_count(capture, table, row, &record);
	} else if (!rc)
		rc = p2p_capture_count_end(capture, table, row, &record);
	if (!rc) {
		p2p_buf_reset(&capture->body);
		p2p_record_put(&capture->body, &record);
		rc = p2p_buf_error(&capture->body);
	}
	p2p_store_row_done(store);
	if (!rc)
		rc = p2p_body_writer_put(f->writer, capture->body.data, capture->body.len);
	f->bytes += capture->body.len;
	f->header.row_count++;
	return rc;
}

/* --- changesets ------------------------------------------------------------------------------- */

static int changeset_begin(struct freezing *f, p2p_ordinal ordinal)
{
	struct p2p_capture *capture = f->capture;
	int64_t ms = capture->turns[ordinal - 1].ms;
	uint64_t wall = ms < 0 ? 0 : (uint64_t)ms;
	struct p2p_hlc stamp;
	int rc;

	if (wall > f->freeze->now_ms)
		wall = f->freeze->now_ms;
	rc = p2p_hlc_next(&stamp, f->clock, wall);
	if (rc)
		return rc;
	p2p_header_init(&f->header);
	f->header.format = f->header.min_reader = P2P_FORMAT;
	f->header.replica = capture->config.replica;
	f->header.seq = f->head.seq + 1;
	f->header.prev = f->head.head;
	f->header.stamp = stamp;
	f->header.group_pos = f->group_pos;
	f->header.tables = f->tables;
	if (!f->freeze->changesets) {
		f->header.deps = (struct p2p_dot *)(uintptr_t)f->freeze->deps; /* only read */
		f->header.dep_count = f->freeze->dep_count;
		f->header.authority_heads = f->heads;
		f->header.authority_head_count =
			p2p_authority_heads(capture->config.authority, f->heads,
					    P2P_RECORD_PARENTS_MAX);
	}
	f->bytes = 0;
	return p2p_body_writer_open(capture->config.sidelog, &capture->config.replica,
				    f->header.seq, &f->writer);
}

static int changeset_end(struct freezing *f, bool group_last)
{
	struct p2p_capture *capture = f->capture;
	struct p2p_hash hash;
	int rc;

	f->header.group_last = group_last;
	rc = p2p_body_writer_finish(f->writer, &f->header, &capture->config.mesh,
				    group_last ? capture->config.signer->secret : NULL,
				    capture->position, &hash);
	p2p_body_writer_close(f->writer);
	f->writer = NULL;
	/* the writer's; the rest was borrowed */
	p2p_free(f->header.segments);
	f->header.segments = NULL;
	if (rc)
		return rc;
	f->head.seq = f->header.seq;
	f->head.head = hash;
	f->head.stamp = f->clock = f->header.stamp;
	if (!f->head.log_from)
		f->head.log_from = 1;
	f->group_pos = group_last ? 0 : f->group_pos + 1;
	f->freeze->changesets++;
	return 0;
}

static int changesets_make(struct freezing *f)
{
	size_t i;
	int rc = 0;

	for (i = 0; i < f->count && !rc; i++) {
		struct item *item = &f->items[i];
		bool last = i + 1 == f->count;
		bool turn_ends = last || f->items[i + 1].ordinal != item->ordinal;

		if (!f->writer)
			rc = changeset_begin(f, item->ordinal);
		if (rc)
			break;
		item->stamp = f->header.stamp;
		rc = record_write(f, item);
		if (!rc && (turn_ends || f->bytes > CHANGESET_BYTES_SOFT))
			rc = changeset_end(f, last || (turn_ends &&
						       cut_between(f->capture, item->ordinal,
								   f->items[i + 1].ordinal)));
	}
	return rc;
}

/* --- after it is durable ---------------------------------------------------------------------- */

static void item_settle(struct freezing *f, const struct item *item)
{
	struct p2p_overlay_row *row = item->row;
	uint32_t i, own = f->capture->own;

	for (i = 0; i < row->state.cell_count && row->ordinals; i++) {
		if (row->ordinals[i] != item->ordinal)
			continue;
		row->state.cells[i].stamp = item->stamp.value;
		row->state.cells[i].replica = own;
		row->ordinals[i] = 0;
		p2p_overlay_count_frozen(row, i, item->stamp.value);
	}
	if (row->life == item->ordinal) {
		row->state.stamp = item->stamp.value;
		row->state.replica = own;
		row->life = 0;
	}
	for (i = 0; i < row->yield_count && row->yield_turn == item->ordinal; i++)
		if (!row->yields[i].stamp)
			row->yields[i].stamp = item->stamp.value;
	if (row->yield_turn == item->ordinal)
		row->yield_turn = 0;
	p2p_overlay_frozen(row);
	row->provisional = false;
}

static void freezing_settle(struct freezing *f)
{
	struct p2p_capture *capture = f->capture;
	size_t i;

	for (i = 0; i < f->count; i++)
		item_settle(f, &f->items[i]);
	capture->provisional = 0;
	capture->turn_count = 0;
	capture->head = f->head;
	p2p_capture_observe(capture, f->clock);
}

/* --- freeze ----------------------------------------------------------------------------------- */

static int freezing_init(struct freezing *f, struct p2p_capture *capture, struct p2p_freeze *freeze)
{
	memset(f, 0, sizeof(*f));
	f->capture = capture;
	f->freeze = freeze;
	f->head = capture->head;
	f->clock = capture->clock;
	f->tables = p2p_calloc(P2P_TABLES_MAX, sizeof(*f->tables));
	f->numbers = p2p_calloc(P2P_TABLES_MAX, sizeof(*f->numbers));
	f->heads = p2p_calloc(P2P_RECORD_PARENTS_MAX, sizeof(*f->heads));
	return f->tables && f->numbers && f->heads ? 0 : P2P_ENOMEM;
}

static void freezing_deinit(struct freezing *f)
{
	p2p_body_writer_close(f->writer);
	p2p_free(f->items);
	p2p_free(f->tables);
	p2p_free(f->numbers);
	p2p_free(f->heads);
}

/* Durable: first what was read (the application may run with synchronous=NORMAL), then the log. */
static int freezing_commit(struct freezing *f, struct p2p_error *err)
{
	struct p2p_capture *capture = f->capture;
	int rc = p2p_walfile_sync(capture->config.store, err);

	if (rc) {
		p2p_sidelog_rollback(capture->config.sidelog);
		return rc;
	}
	rc = p2p_sidelog_commit(capture->config.sidelog, err);
	if (rc)
		capture->stale = true; /* nobody knows what is in the log now */
	return rc;
}

static int freezing_run(struct freezing *f, struct p2p_error *err)
{
	struct p2p_capture *capture = f->capture;
	int rc = p2p_capture_scan(capture, &f->freeze->more);

	if (!rc)
		rc = p2p_capture_displaced(capture);
	if (!rc)
		rc = p2p_capture_loosen(capture);
	if (!rc && f->freeze->numbering && !f->freeze->more)
		rc = p2p_capture_number(capture, f->freeze);
	if (!rc)
		rc = p2p_capture_yields(capture);
	/* a row that was to yield, and was pushed out unnoticed: each time there is one less */
	while (!rc && capture->displaced_due) {
		rc = p2p_capture_displaced(capture);
		if (!rc)
			rc = p2p_capture_loosen(capture);
		if (!rc)
			rc = p2p_capture_yields(capture);
	}
	if (rc)
		capture->stale = true;
	if (!rc)
		rc = items_collect(f);
	if (rc)
		return p2p_capture_error(capture, err, rc, "capture local changes");
	if (!f->count)
		return 0;
	rc = p2p_sidelog_begin(capture->config.sidelog, err);
	if (rc)
		return rc;
	rc = changesets_make(f);
	if (rc) {
		p2p_sidelog_rollback(capture->config.sidelog);
		return p2p_capture_error(capture, err, rc, "write local changes into the log");
	}
	return 0;
}

int p2p_capture_freeze(struct p2p_capture *capture, struct p2p_freeze *freeze,
		       struct p2p_error *err)
{
	struct p2p_store *store = capture->config.store;
	struct freezing f;
	int rc = 0;

	p2p_require(!p2p_store_in_transaction(store));
	freeze->changesets = freeze->numbered = 0;
	freeze->more = freeze->numbering_more = false;
	if (capture->stale)
		rc = p2p_capture_replay(capture);
	if (rc)
		return p2p_capture_error(capture, err, rc, "read own changes back from the log");
	rc = freezing_init(&f, capture, freeze);
	if (rc)
		rc = p2p_capture_error(capture, err, rc, "freeze local changes");
	else
		rc = p2p_capture_snapshot(capture, err);
	if (!rc) {
		rc = freezing_run(&f, err);
		p2p_capture_drop_finders(capture);
		p2p_store_rollback(store); /* ends the snapshot */
		if (!rc && f.count)
			rc = freezing_commit(&f, err);
		if (!rc)
			freezing_settle(&f);
	}
	if (rc)
		freeze->changesets = 0;
	freezing_deinit(&f);
	return rc;
}
