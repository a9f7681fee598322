/* One journalled row against what is known of it; see capture_private.h.
 *
 * All of a row's provisional changes are ordinals of turns: which turn a cell's value goes into. A
 * change that moves from an earlier turn to a later one glues the turns together, since a cut
 * between them would show half a transaction. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/capture_private.h"
#include "crdt/claimants.h"
#include "proto/check.h"
#include "proto/mem.h"

/* --- which row -------------------------------------------------------------------------------- */

/* What the application's table shows of a row of the file. */
static int row_shown(struct p2p_capture *capture, const struct p2p_table *table,
		     struct p2p_overlay_row *row)
{
	struct capture_finder *finder;
	int rc = p2p_capture_finder(capture, (struct p2p_table *)(uintptr_t)table, &finder);

	return rc ? rc
		  : p2p_numbers_shown(&finder->numbers, row->key, row->key_len, row->number,
				      &row->shown);
}

int p2p_capture_take(struct p2p_capture *capture, const struct p2p_table *table, const void *key,
		     size_t key_len, struct p2p_overlay_row **out)
{
	struct p2p_overlay_row *row =
		p2p_overlay_find(&capture->overlay, table->number, key, key_len);
	int64_t number = 0;
	int rc;

	if (!row) {
		rc = p2p_store_row_get(capture->config.store, table, key, key_len, &capture->state,
				       &number);
		if (rc && rc != P2P_ENOENT)
			return rc;
		row = p2p_overlay_add(&capture->overlay, table->number, key, key_len);
		if (!row)
			return P2P_ENOMEM;
		if (!rc) {
			rc = p2p_rowstate_copy(&row->state, &capture->state);
			if (rc)
				return rc;
			row->in_file = true;
			row->number = row->shown = number;
			row->stored_length = row->state.causal_length;
			rc = table->generated_identity ? row_shown(capture, table, row) : 0;
			if (rc)
				return rc;
		}
		p2p_overlay_frozen(row);
	}
	*out = row;
	return p2p_rowstate_alive(&row->state) ? p2p_overlay_resize(row, table->slot_count) : 0;
}

int p2p_capture_finder(struct p2p_capture *capture, struct p2p_table *table,
		       struct capture_finder **out)
{
	struct capture_finder *finder, **grown;
	size_t i;
	int rc;

	for (i = 0; i < capture->finder_count; i++)
		if (capture->finders[i]->table == table) {
			*out = capture->finders[i];
			return 0;
		}
	grown = p2p_realloc(capture->finders, (capture->finder_count + 1) * sizeof(*grown));
	if (!grown)
		return P2P_ENOMEM;
	capture->finders = grown;
	finder = p2p_calloc(1, sizeof(*finder));
	if (!finder)
		return P2P_ENOMEM;
	finder->table = table;
	rc = p2p_apptable_init(&finder->app, capture->config.store, table);
	p2p_numbers_init(&finder->numbers, &finder->app, capture->config.log);
	if (rc) {
		p2p_apptable_deinit(&finder->app);
		p2p_free(finder);
		return rc;
	}
	capture->finders[capture->finder_count++] = finder;
	*out = finder;
	return 0;
}

int p2p_capture_row_of_number(struct p2p_capture *capture, struct p2p_table *table, int64_t number,
			      struct p2p_buf *out)
{
	struct p2p_overlay_row *row =
		p2p_overlay_find_number(&capture->overlay, table->number, number);
	struct capture_finder *finder;
	struct p2p_identity identity;
	int rc;

	p2p_buf_reset(out);
	if (row) {
		p2p_buf_put(out, row->key, row->key_len);
		return p2p_buf_error(out);
	}
	rc = p2p_capture_finder(capture, table, &finder);
	if (!rc)
		rc = p2p_claimants_at(&finder->numbers, number, &identity);
	if (rc)
		return rc;
	p2p_identity_put(out, &identity);
	rc = p2p_buf_error(out);
	if (rc)
		return rc;
	row = p2p_overlay_find(&capture->overlay, table->number, out->data, out->len);
	if (row)
		/* it may have died since the file was told */
		return p2p_rowstate_alive(&row->state) ? 0 : P2P_ENOENT;
	if (number >= 0)
		return 0;
	/* a temporary number is kept for a parked row too, which the application does not see */
	rc = p2p_store_row_get(capture->config.store, table, out->data, out->len, &capture->state,
			       NULL);
	return rc || !(capture->state.flags & P2P_ROW_PARKED) ? rc : P2P_ENOENT;
}

/* Identity of a row that nobody knew (decisions 10), encoded into capture->key. */
static int row_new_identity(struct p2p_capture *capture, const struct p2p_table *table,
			    const struct p2p_touch *touch, int64_t number)
{
	struct p2p_identity identity;
	struct p2p_overlay_row *row;
	bool generated = !touch->present;
	int rc;

	memset(&identity, 0, sizeof(identity));
	identity.kind = P2P_IDENTITY_NUMBER;
	identity.number = number;
	p2p_buf_reset(&capture->key);
	p2p_identity_put(&capture->key, &identity);
	rc = p2p_buf_error(&capture->key);
	if (!rc && !generated) {
		/* a row that had this number at enabling may live on under another */
		rc = p2p_capture_take(capture, table, capture->key.data, capture->key.len, &row);
		generated = !rc && p2p_rowstate_alive(&row->state);
	}
	if (rc || !generated)
		return rc;
	identity.kind = P2P_IDENTITY_GENERATED;
	p2p_generated_row_id(&identity.id, &capture->config.replica, &table->id, number,
			     touch->first_id, touch->first_ms);
	p2p_buf_reset(&capture->key);
	p2p_identity_put(&capture->key, &identity);
	return p2p_buf_error(&capture->key);
}

/* --- turns of cells --------------------------------------------------------------------------- */

static void turns_glue(struct p2p_capture *capture, p2p_ordinal from, p2p_ordinal to)
{
	p2p_ordinal i;

	for (i = from; i && i < to; i++)
		capture->turns[i - 1].cut = false;
}

void p2p_capture_provisional_set(struct p2p_capture *capture, struct p2p_overlay_row *row, bool is)
{
	row->scan = capture->scan;
	if (row->provisional == is)
		return;
	row->provisional = is;
	if (is)
		capture->provisional++;
	else
		capture->provisional--;
}

void p2p_capture_cell_turn(struct p2p_capture *capture, struct p2p_overlay_row *row, uint32_t slot,
			   p2p_ordinal ordinal)
{
	turns_glue(capture, row->ordinals[slot], ordinal);
	row->ordinals[slot] = ordinal;
}

static void cells_forget(struct p2p_capture *capture, struct p2p_overlay_row *row,
			 p2p_ordinal ordinal)
{
	uint32_t i;

	for (i = 0; i < row->state.cell_count; i++) {
		turns_glue(capture, row->ordinals[i], ordinal);
		row->ordinals[i] = 0;
	}
	turns_glue(capture, row->life, ordinal);
}

/* --- values ----------------------------------------------------------------------------------- */

/* Is the value of a key column the one that the identity gives? Then a record need not say it. */
static bool key_is_canonical(const struct p2p_value *key, const struct p2p_column *column,
			     const struct p2p_value *value)
{
	return p2p_value_equal(&key[column->key_pos], value);
}

/* Hashes of the row that stmt stands on. key: canonical values. */
static int row_hash(struct p2p_capture *capture, const struct p2p_table *table,
		    const struct p2p_value *key, sqlite3_stmt *stmt)
{
	const struct p2p_hash_key *hash_key = p2p_store_hash_key(capture->config.store);
	struct p2p_value value;
	uint32_t i;
	int at = 0, rc = 0;

	for (i = 0; i < table->column_count && !rc; i++) {
		const struct p2p_column *column = &table->columns[i];

		capture->canonical[i] = false;
		capture->hashes[i] = 0;
		if (column->flags & P2P_COLUMN_GENERATED)
			continue;
		rc = p2p_value_column(&value, stmt, at++);
		if (rc)
			break;
		capture->hashes[i] = p2p_value_hash(hash_key, &value);
		if ((column->flags & P2P_COLUMN_KEY) && !table->generated_identity)
			capture->canonical[i] = key_is_canonical(key, column, &value);
	}
	return rc;
}

static int cell_differs(struct p2p_capture *capture, struct p2p_table *table,
			const struct p2p_rowstate *known, uint32_t column, bool *out)
{
	*out = false;
	if (table->columns[column].slot == UINT32_MAX || capture_is_number(table, column))
		return 0;
	return p2p_store_cell_differs(capture->config.store, table, known, column,
				      capture->hashes[column], out);
}

/* --- changes ---------------------------------------------------------------------------------- */

static void life_begin(struct p2p_capture *capture, const struct p2p_table *table,
		       struct p2p_overlay_row *row, p2p_ordinal ordinal)
{
	uint32_t i;
	bool said;

	turns_glue(capture, row->life, ordinal);
	row->life = ordinal;
	row->state.flags = P2P_ROW_BORN;
	row->number_changed = true;
	for (i = 0; i < table->column_count; i++) {
		uint32_t slot = table->columns[i].slot;

		if (slot == UINT32_MAX)
			continue;
		/* a row that comes back may have been written otherwise before */
		said = row->unpark && row->state.cells[slot].stamp;
		row->state.cells[slot].hash = capture->hashes[i];
		row->state.cells[slot].stamp = 0;
		if (capture->canonical[i] && !said)
			row->ordinals[slot] = 0;
		else
			p2p_capture_cell_turn(capture, row, slot, ordinal);
	}
	p2p_capture_provisional_set(capture, row, true);
}

/* number: 0 for tables with keys. */
static int row_born(struct p2p_capture *capture, const struct p2p_table *table,
		    struct p2p_overlay_row *row, p2p_ordinal ordinal, int64_t number)
{
	int rc;

	p2p_require(!p2p_rowstate_alive(&row->state));
	row->state.causal_length++;
	row->present = capture->present;
	rc = p2p_overlay_resize(row, table->slot_count);
	if (rc)
		return rc;
	row->new_life = true;
	life_begin(capture, table, row, ordinal);
	if (table->generated_identity) {
		row->number = number;
		row->renumbered = false;
		p2p_capture_number_taken(capture, table->number, number);
		p2p_overlay_map(&capture->overlay, row, number);
	}
	return 0;
}

static int row_changed(struct p2p_capture *capture, struct p2p_table *table,
		       struct p2p_overlay_row *row, p2p_ordinal ordinal)
{
	bool born = row->life != 0, differs = false, meant = false;
	uint32_t i;
	int rc;

	for (i = 0; i < table->column_count; i++) {
		uint32_t slot = table->columns[i].slot;

		rc = cell_differs(capture, table, &row->state, i, &differs);
		if (rc)
			return rc;
		if (!differs)
			continue;
		row->state.cells[slot].hash = capture->hashes[i];
		p2p_capture_cell_turn(capture, row, slot, ordinal);
		meant |= table->columns[i].meant;
	}
	/* the record of a birth says all of the row */
	for (i = 0; born && i < row->state.cell_count; i++)
		if (row->ordinals[i])
			p2p_capture_cell_turn(capture, row, i, ordinal);
	if (born) {
		turns_glue(capture, row->life, ordinal);
		row->life = ordinal;
	}
	p2p_capture_provisional_set(capture, row, true);
	return meant ? p2p_capture_died(capture, row) : 0;
}

/* Rows of other tables can refer to it by value. */
static bool table_is_meant(const struct p2p_table *table)
{
	uint32_t i;

	for (i = 0; i < table->column_count; i++)
		if (table->columns[i].meant)
			return true;
	return false;
}

int p2p_capture_row_died(struct p2p_capture *capture, const struct p2p_table *table,
			 struct p2p_overlay_row *row, p2p_ordinal ordinal)
{
	bool known = row->frozen_length % 2 == 1;
	uint64_t length = row->frozen_length + (known ? 1 : 0);

	cells_forget(capture, row, ordinal);
	p2p_overlay_uncount(row);
	p2p_overlay_unmap(&capture->overlay, row);
	p2p_overlay_empty(row);
	row->state.causal_length = length;
	if (!known) { /* born and gone before anybody knew: what it was before */
		row->state.stamp = row->frozen_stamp;
		row->state.replica = row->frozen_replica;
	}
	row->life = known ? ordinal : 0;
	row->unpark = row->unpark && known;
	row->number_changed = row->new_life = true;
	p2p_capture_provisional_set(capture, row, known);
	return known && (table->lone_number || table_is_meant(table))
		       ? p2p_capture_died(capture, row)
		       : 0;
}

/* A key that the journal names, as the table has it now. */
struct touched_row {
	const struct p2p_value *key;
	p2p_ordinal ordinal;
	int64_t number; /* of a lone INTEGER PRIMARY KEY */
	bool there;
};

/* --- one key ---------------------------------------------------------------------------------- */

/* The application's table has the row: born, back from where it was parked, or changed. */
static int row_present(struct p2p_capture *capture, struct p2p_table *table, p2p_ordinal ordinal,
		       int64_t number)
{
	struct p2p_overlay_row *row = p2p_overlay_find(&capture->overlay, table->number,
						       capture->key.data, capture->key.len);
	const struct p2p_rowstate *known = row ? &row->state : &capture->state;
	bool differs = false;
	uint32_t i;
	int rc = 0;

	if (row)
		row->scan = capture->scan;
	if (!row) {
		rc = p2p_store_row_get(capture->config.store, table, capture->key.data,
				       capture->key.len, &capture->state, NULL);
		if (rc && rc != P2P_ENOENT)
			return rc;
		if (rc)
			capture->state.causal_length = 0;
		rc = 0;
	}
	if (p2p_rowstate_alive(known) && !(known->flags & P2P_ROW_PARKED)) {
		for (i = 0; i < table->column_count && !differs && !rc; i++)
			rc = cell_differs(capture, table, known, i, &differs);
		if (rc || !differs)
			return rc;
	}
	rc = p2p_capture_take(capture, table, capture->key.data, capture->key.len, &row);
	if (rc)
		return rc;
	if (table->lone_number)
		row->shown = number;
	if (!p2p_rowstate_alive(&row->state))
		return row_born(capture, table, row, ordinal, number);
	if (row->state.flags & P2P_ROW_PARKED) {
		row->unpark = true;
		life_begin(capture, table, row, ordinal);
		return 0;
	}
	return row_changed(capture, table, row, ordinal);
}

/* It is not there (any more). */
static int row_absent(struct p2p_capture *capture, const struct p2p_table *table,
		      p2p_ordinal ordinal, int64_t number)
{
	struct p2p_overlay_row *row = p2p_overlay_find(&capture->overlay, table->number,
						       capture->key.data, capture->key.len);
	const struct p2p_rowstate *known = row ? &row->state : &capture->state;
	int rc = 0;

	if (!row)
		rc = p2p_store_row_get(capture->config.store, table, capture->key.data,
				       capture->key.len, &capture->state, NULL);
	if (rc)
		return rc == P2P_ENOENT ? 0 : rc;
	if (!p2p_rowstate_alive(known) || (known->flags & P2P_ROW_PARKED))
		return 0;
	rc = p2p_capture_take(capture, table, capture->key.data, capture->key.len, &row);
	if (rc)
		return rc;
	if (table->lone_number)
		row->shown = number;
	return p2p_capture_row_died(capture, table, row, ordinal);
}

/* Who the touched key is: encoded into capture->key. P2P_ENOENT: a number that no row showed. */
static int touch_identity(struct p2p_capture *capture, struct p2p_table *table,
			  const struct p2p_touch *touch, const struct p2p_value *key)
{
	bool lives;

	if (table->generated_identity)
		return p2p_capture_row_of_number(capture, table, key->integer, &capture->key);
	if (table->key_references)
		return p2p_capture_key_identity(capture, table, key, &capture->key, &lives);
	p2p_buf_reset(&capture->key);
	p2p_buf_put(&capture->key, capture->touched.keys.data + touch->key, touch->key_len);
	return p2p_buf_error(&capture->key);
}

/* A key with references: the row that showed it before this scan may be another than the one that
 * shows it now. */
static int touch_row_refs(struct p2p_capture *capture, struct p2p_table *table,
			  const struct p2p_touch *touch, const struct touched_row *at)
{
	const uint8_t *old = capture->touched.keys.data + touch->old;
	bool same;
	int rc = 0;

	if (at->there)
		rc = touch_identity(capture, table, touch, at->key);
	same = at->there && touch->old_len == capture->key.len &&
	       memcmp(old, capture->key.data, touch->old_len) == 0;
	if (!rc && touch->old_len && !same) {
		p2p_buf_reset(&capture->key);
		p2p_buf_put(&capture->key, old, touch->old_len);
		rc = p2p_buf_error(&capture->key);
		if (!rc)
			rc = row_absent(capture, table, at->ordinal, at->number);
		if (!rc && at->there)
			rc = touch_identity(capture, table, touch, at->key);
	}
	if (rc || !at->there)
		return rc;
	return row_present(capture, table, at->ordinal, at->number);
}

static int touch_row(struct p2p_capture *capture, struct p2p_table *table,
		     const struct p2p_touch *touch, const struct touched_row *at)
{
	int rc;

	if (table->key_references)
		return touch_row_refs(capture, table, touch, at);
	rc = touch_identity(capture, table, touch, at->key);
	if (rc == P2P_ENOENT)
		rc = at->there ? row_new_identity(capture, table, touch, at->number) : 1;
	if (rc)
		return rc == 1 ? 0 : rc;
	return at->there ? row_present(capture, table, at->ordinal, at->number)
			 : row_absent(capture, table, at->ordinal, at->number);
}

static int touch_key(const struct p2p_capture *capture, const struct p2p_table *table,
		     const struct p2p_touch *touch, struct p2p_value *key)
{
	struct p2p_identity identity;
	struct p2p_reader reader;

	p2p_reader_init(&reader, capture->touched.keys.data + touch->key, touch->key_len);
	p2p_identity_read(&reader, &identity);
	p2p_require(!reader.failed); /* capture_scan.c wrote it */
	memset(key, 0, sizeof(*key));
	if (!table->generated_identity)
		return p2p_identity_key_values(table, identity.key, identity.key_len, key);
	key->type = P2P_INTEGER;
	key->integer = identity.number;
	return 0;
}

int p2p_capture_row(struct p2p_capture *capture, struct p2p_table *table,
		    const struct p2p_touch *touch, p2p_ordinal ordinal)
{
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	struct touched_row at = {.key = key, .ordinal = ordinal};
	sqlite3_stmt *stmt = NULL;
	int rc = touch_key(capture, table, touch, key);

	capture->present = touch->present;
	if (!rc)
		rc = p2p_store_app_row(capture->config.store, table, key, &stmt);
	at.there = rc == 0;
	if (at.there)
		rc = row_hash(capture, table, key, stmt);
	p2p_store_row_done(capture->config.store);
	if (rc && rc != P2P_ENOENT)
		return rc;
	if (table->lone_number && key[0].type == P2P_INTEGER)
		at.number = key[0].integer;
	return touch_row(capture, table, touch, &at);
}
