/* What a plan is told of one table while changes are captured: the file under the overlay; see
 * capture_private.h.
 *
 * A row that the application's table shows has the values that are there; a row that is kept out
 * those of p2p_parked, its references being the numbers that its targets show. What is not frozen
 * yet is younger than everything else, by turns. References hide no row here: plans only ask what
 * is unique. */
#include <string.h>

#include "crdt/capture_private.h"
#include "crdt/claimants.h"
#include "crdt/parked.h"
#include "proto/check.h"
#include "proto/mem.h"

int p2p_capture_view_init(struct capture_view *view, struct p2p_capture *capture,
			  struct p2p_table *table)
{
	int rc;

	memset(view, 0, sizeof(*view));
	view->capture = capture;
	view->table = table;
	p2p_rowstate_init(&view->state);
	p2p_cells_init(&view->cells);
	p2p_cells_init(&view->stored);
	p2p_buf_init(&view->key, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&view->values, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&view->targets, P2P_RECORD_BYTES_MAX);
	rc = p2p_capture_finder(capture, table, &view->finder);
	return rc ? rc : p2p_uniques_init(&view->uniques, &view->finder->app);
}

void p2p_capture_view_deinit(struct capture_view *view)
{
	if (view->uniques.app)
		p2p_uniques_deinit(&view->uniques);
	p2p_rowstate_deinit(&view->state);
	p2p_cells_deinit(&view->cells);
	p2p_cells_deinit(&view->stored);
	p2p_buf_deinit(&view->key);
	p2p_buf_deinit(&view->values);
	p2p_buf_deinit(&view->targets);
	p2p_free(view->yields);
}

/* --- clocks ----------------------------------------------------------------------------------- */

static uint64_t turn_stamp(const struct p2p_capture *capture, p2p_ordinal ordinal)
{
	return capture->clock.value + ordinal;
}

static void state_stamps(struct capture_view *view, const struct p2p_overlay_row *row)
{
	const struct p2p_capture *capture = view->capture;
	uint32_t i;

	for (i = 0; i < view->state.cell_count && row->ordinals; i++) {
		if (!row->ordinals[i])
			continue;
		view->state.cells[i].stamp = turn_stamp(capture, row->ordinals[i]);
		view->state.cells[i].replica = capture->own;
	}
	if (row->life) {
		view->state.stamp = turn_stamp(capture, row->life);
		view->state.replica = capture->own;
	}
}

/* P2P_ENOENT: the row takes no part. */
static int state_take(struct capture_view *view, const struct p2p_overlay_row *row)
{
	int rc;

	if (row) {
		rc = p2p_rowstate_copy(&view->state, &row->state);
		if (!rc)
			state_stamps(view, row);
	} else {
		rc = p2p_store_row_get(view->capture->config.store, view->table, view->key.data,
				       view->key.len, &view->state, NULL);
	}
	if (!rc && !p2p_numbers_complete(view->table, &view->state))
		rc = P2P_ENOENT;
	view->shown = !(view->state.flags & P2P_ROW_PARKED) || (row && row->unpark);
	return rc;
}

/* Later ones stand for earlier ones. */
static int yield_add(struct capture_view *view, const struct p2p_store_yield *yield)
{
	struct p2p_store_yield *grown;
	size_t i;

	for (i = 0; i < view->yield_count; i++)
		if (p2p_id_cmp(&view->yields[i].constraint, &yield->constraint) == 0) {
			view->yields[i] = *yield;
			return 0;
		}
	grown = p2p_realloc(view->yields, (view->yield_count + 1) * sizeof(*grown));
	if (!grown)
		return P2P_ENOMEM;
	view->yields = grown;
	grown[view->yield_count++] = *yield;
	return 0;
}

/* Of the constraints that there are here. */
static int yields_stored(struct capture_view *view)
{
	struct p2p_rowref ref = {view->table, view->key.data, view->key.len};
	struct p2p_store_yield *grown;

	if (!view->uniques.count)
		return 0;
	grown = p2p_realloc(view->yields, view->uniques.count * sizeof(*grown));
	if (!grown)
		return P2P_ENOMEM;
	view->yields = grown;
	return p2p_uniques_yields(&view->uniques, &ref, view->yields, &view->yield_count);
}

static int yields_take(struct capture_view *view, const struct p2p_overlay_row *row)
{
	struct p2p_store_yield yield = {.replica = view->capture->own};
	uint32_t i;
	int rc = 0;

	view->yield_count = 0;
	if (!row || !row->new_life)
		rc = yields_stored(view);
	for (i = 0; row && i < row->yield_count && !rc; i++) {
		yield.constraint = row->yields[i].constraint;
		yield.stamp = row->yields[i].stamp ? row->yields[i].stamp
						   : turn_stamp(view->capture, row->yield_turn);
		rc = yield_add(view, &yield);
	}
	return rc;
}

/* --- values ----------------------------------------------------------------------------------- */

/* As the application's table has them. */
static int values_shown(struct capture_view *view, const struct p2p_identity *identity)
{
	struct p2p_overlay_row row = {.identity = *identity};
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	int rc = 0;

	if (view->table->generated_identity)
		rc = p2p_capture_number_of(view->capture, view->table, view->key.data,
					   view->key.len, &row.shown);
	if (!rc)
		rc = p2p_capture_key(view->capture, view->table, &row, key);
	if (!rc)
		rc = p2p_apptable_read(&view->finder->app, key, &view->stored);
	if (!rc)
		p2p_parked_encode(&view->values, view->table, &view->stored);
	p2p_store_row_done(view->capture->config.store);
	if (!rc)
		rc = p2p_buf_error(&view->values);
	return rc ? rc : p2p_parked_decode(&view->values, view->table, &view->cells);
}

/* It claims the number no more, or after others. */
static bool number_left(const struct p2p_capture *capture, const struct p2p_table *table,
			const struct p2p_identity *identity, int64_t number)
{
	uint8_t bytes[P2P_CLAIMANT_KEY_BYTES];
	const struct p2p_overlay_row *row;
	struct p2p_buf key;
	uint32_t i;

	p2p_claimant_key(&key, bytes, identity);
	row = p2p_overlay_find(&capture->overlay, table->number, key.data, key.len);
	for (i = 0; row && i < row->yield_count; i++)
		if (p2p_id_cmp(&row->yields[i].constraint, &table->id) == 0)
			return true;
	return row && (!p2p_rowstate_alive(&row->state) || row->number != number);
}

/* Of the rows that claim a number, the one that will have it is this. */
static int number_wins(struct p2p_capture *capture, struct p2p_numbers *numbers,
		       const struct p2p_claimant *own, bool *out)
{
	const struct p2p_table *table = numbers->app->table;
	struct p2p_claimants list = {0};
	size_t i;
	int rc = 0;

	*out = !number_left(capture, table, &own->identity, own->claim);
	if (*out)
		rc = p2p_claimants_of(numbers, &capture->state, own->claim, &list);
	for (i = 0; i < list.count && !rc && *out; i++)
		*out = p2p_claimant_cmp(&list.items[i], own) >= 0 ||
		       number_left(capture, table, &list.items[i].identity, own->claim);
	p2p_free(list.items);
	return rc;
}

/* What a row shows, or would show, when what is captured is projected: one with a temporary number
 * what it claims, if that was freed; one that yields its number a temporary one. */
static int number_then(struct p2p_capture *capture, struct p2p_table *table,
		       const struct p2p_identity *identity, int64_t *number)
{
	struct p2p_claimant own = {.identity = *identity};
	struct capture_finder *finder;
	bool complete = false, wins;
	int rc = p2p_capture_finder(capture, table, &finder);

	if (!rc)
		rc = p2p_claimant_load(&finder->numbers, &capture->state, &own, &complete);
	if (rc || !complete ||
	    (own.claim == *number && !number_left(capture, table, identity, *number)))
		return rc;
	rc = number_wins(capture, &finder->numbers, &own, &wins);
	if (!rc && wins)
		*number = own.claim;
	else if (!rc && *number == own.claim)
		*number = p2p_numbers_derived(&own.row_id);
	return rc;
}

static int target_number(struct capture_view *view, struct p2p_table *parent, const void *key,
			 size_t len, int64_t *out)
{
	struct p2p_capture *capture = view->capture;
	const struct p2p_overlay_row *row;
	struct p2p_identity identity;
	int rc = 0;

	if (!parent || parent->state != P2P_TABLE_LIVE)
		return P2P_ENOENT;
	row = p2p_overlay_find(&capture->overlay, parent->number, key, len);
	if (!row)
		rc = p2p_store_row_get(capture->config.store, parent, key, len, &capture->state,
				       NULL);
	if (!rc && !(row ? p2p_rowstate_alive(&row->state)
			 : p2p_numbers_complete(parent, &capture->state)))
		rc = P2P_ENOENT;
	if (!rc)
		rc = p2p_capture_number_of(capture, parent, key, len, out);
	if (rc || !parent->generated_identity)
		return rc;
	rc = p2p_claimant_identity(&identity, key, len);
	return rc ? rc : number_then(capture, parent, &identity, out);
}

/* What a reference claims: the number of its target; as long as that has none, `instead`. */
static int cell_refers(struct capture_view *view, uint32_t column, const struct p2p_store_ref *to,
		       const struct p2p_store_ref *instead)
{
	struct p2p_table *parent = p2p_capture_parent(view->capture, view->table, column);
	struct p2p_value value = {.type = P2P_INTEGER};
	int rc = target_number(view, parent, to->key, to->len, &value.integer);

	if (rc == P2P_ENOENT) {
		value.type = P2P_BLOB;
		value.len = instead->len;
		value.integer = (int64_t)view->targets.len; /* where: it may move as it grows */
		p2p_buf_put(&view->targets, instead->key, instead->len);
		rc = p2p_buf_error(&view->targets);
	}
	if (!rc)
		p2p_cells_set(&view->cells, column, &value);
	return rc;
}

static void cells_place(struct capture_view *view)
{
	uint32_t i;

	for (i = 0; i < view->table->column_count; i++) {
		struct p2p_value *value = &view->cells.values[i];

		if (view->cells.set[i] && value->type == P2P_BLOB && !value->bytes && value->len)
			value->bytes = view->targets.data + value->integer;
	}
}

struct refs_take {
	struct capture_view *view;
	const struct p2p_overlay_row *row;
};

static int ref_take(void *ctx, const struct p2p_store_ref *ref)
{
	struct refs_take *take = ctx;
	struct capture_view *view = take->view;
	const struct p2p_overlay_row *row = take->row;
	uint32_t i;

	if (!ref->parent || (row && row->refs && row->refs[ref->slot] != P2P_OVERLAY_REF_NONE) ||
	    (row && row->ordinals && ref->slot < row->state.cell_count && row->ordinals[ref->slot]))
		return 0;
	for (i = 0; i < view->table->column_count; i++)
		if (view->table->columns[i].slot == ref->slot)
			break;
	if (i == view->table->column_count ||
	    view->table->columns[i].reference == P2P_REFERENCE_NONE ||
	    (view->table->columns[i].flags & P2P_COLUMN_KEY))
		return 0;
	return cell_refers(view, i, ref, ref);
}

/* Key columns of a row that is kept out, as its identity says them. */
static int values_key(struct capture_view *view, const struct p2p_identity *identity)
{
	const struct p2p_table *table = view->table;
	struct p2p_key_part parts[P2P_KEY_COLUMNS_MAX];
	char text[P2P_NUMBER_TEXT_BYTES];
	struct p2p_store_ref ref = {.slot = 0};
	struct p2p_store_ref own = {.key = identity->key, .len = identity->key_len};
	struct p2p_value value;
	struct p2p_buf key;
	uint32_t i;
	int rc = p2p_identity_key_parts(table, identity->key, identity->key_len, parts);

	p2p_buf_init(&key, P2P_RECORD_BYTES_MAX);
	for (i = 0; i < table->key_count && !rc; i++) {
		uint32_t column = table->key[i];

		if (parts[i].reference) {
			p2p_buf_reset(&key);
			p2p_identity_put(&key, &parts[i].target);
			rc = p2p_buf_error(&key);
			ref.key = key.data;
			ref.len = key.len;
			if (!rc)
				rc = cell_refers(view, column, &ref, &own);
		} else if (!view->cells.set[column]) {
			value = parts[i].value;
			rc = p2p_value_as_stored(&value, table->columns[column].affinity, text);
			p2p_require(rc || value.bytes != (const uint8_t *)text); /* has it */
			if (!rc)
				p2p_cells_set(&view->cells, column, &value);
		}
	}
	p2p_buf_deinit(&key);
	return rc == P2P_EPROTO ? P2P_ECORRUPT : rc;
}

static int values_parked(struct capture_view *view, const struct p2p_identity *identity)
{
	int rc = p2p_store_parked_get(view->capture->config.store, view->table, view->key.data,
				      view->key.len, &view->values);

	if (!rc)
		rc = p2p_parked_decode(&view->values, view->table, &view->cells);
	if (rc == P2P_ENOENT)
		rc = 0; /* nothing is known of its values */
	if (!rc && !view->table->generated_identity)
		rc = values_key(view, identity);
	return rc;
}

static int values_take(struct capture_view *view, const struct p2p_overlay_row *row)
{
	struct refs_take take = {view, row};
	struct p2p_rowref ref = {view->table, view->key.data, view->key.len};
	struct p2p_identity identity;
	struct p2p_reader reader;
	int rc = p2p_cells_reset(&view->cells, view->table->column_count);

	p2p_buf_reset(&view->values);
	p2p_buf_reset(&view->targets);
	p2p_reader_init(&reader, view->key.data, view->key.len);
	p2p_identity_read(&reader, &identity);
	if (!rc && reader.failed)
		rc = P2P_ECORRUPT;
	if (!rc)
		rc = view->shown ? values_shown(view, &identity) : values_parked(view, &identity);
	if (!rc && view->table->reference_count)
		rc = p2p_store_ref_each(view->capture->config.store, &ref, ref_take, &take);
	if (!rc)
		cells_place(view);
	return rc;
}

/* --- the view --------------------------------------------------------------------------------- */

/* Takes the row up. P2P_ENOENT: it takes no part. */
static int row_take(struct capture_view *view, const void *key, size_t len)
{
	const struct p2p_overlay_row *row =
		p2p_overlay_find(&view->capture->overlay, view->table->number, key, len);
	int rc;

	p2p_buf_reset(&view->key);
	p2p_buf_put(&view->key, key, len);
	rc = p2p_buf_error(&view->key);
	if (!rc)
		rc = state_take(view, row);
	if (!rc)
		rc = yields_take(view, row);
	return rc ? rc : values_take(view, row);
}

static int view_load(void *ctx, struct p2p_plan *plan, struct p2p_plan_row *row)
{
	struct capture_view *view = ctx;
	struct p2p_rowref ref = {view->table, row->key, row->len};
	struct p2p_claimed claimed = {.state = &view->state, .cells = &view->cells};
	int rc = row_take(view, row->key, row->len);

	(void)plan;
	if (rc)
		return rc == P2P_ENOENT ? 0 : rc;
	row->live = true;
	row->shown = view->shown;
	claimed.yields = view->yields;
	claimed.yield_count = view->yield_count;
	rc = p2p_uniques_claims(&view->uniques, &claimed, row);
	row->held = row->shown || !row->claim_count;
	if (!rc && !row->held)
		rc = p2p_store_claim_held(view->capture->config.store, &ref, &row->held);
	return rc;
}

static int view_holder(void *ctx, const struct p2p_plan_row *row,
		       const struct p2p_plan_claim *claim, p2p_plan_each each, void *each_ctx)
{
	struct capture_view *view = ctx;
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	struct p2p_buf holder;
	bool found = false, lives;
	int rc = 0;

	p2p_buf_init(&holder, P2P_RECORD_BYTES_MAX);
	if (view->key.len != row->len || memcmp(view->key.data, row->key, row->len) != 0)
		rc = row_take(view, row->key, row->len);
	if (!rc)
		rc = p2p_uniques_find(&view->uniques, claim->index, &view->cells, key, &found);
	if (!rc && found && view->table->generated_identity)
		rc = p2p_capture_row_of_number(view->capture, view->table, key[0].integer, &holder);
	else if (!rc && found)
		rc = p2p_capture_key_identity(view->capture, view->table, key, &holder, &lives);
	p2p_uniques_found(&view->uniques, claim->index);
	if (!rc && found)
		rc = each(each_ctx, row->table, holder.data, holder.len);
	p2p_buf_deinit(&holder);
	/* nobody knows it: it was not captured */
	return rc == P2P_ENOENT || rc == P2P_IDENTITY_NULL_KEY ? 0 : rc;
}

struct others {
	struct p2p_buf rows; /* after their lengths: what is called for them reads the same way */
	bool held;
};

static int other_add(void *ctx, const void *key, size_t len, bool held)
{
	struct others *others = ctx;

	if (held == others->held)
		p2p_buf_put_bytes(&others->rows, key, len);
	return p2p_buf_error(&others->rows);
}

static int view_others(void *ctx, uint32_t table, const struct p2p_id *hash, bool held,
		       p2p_plan_each each, void *each_ctx)
{
	struct capture_view *view = ctx;
	struct others others = {.held = held};
	struct p2p_reader reader;
	const uint8_t *key;
	size_t len;
	int rc;

	p2p_buf_init(&others.rows, P2P_RECORD_BYTES_MAX);
	rc = p2p_store_claim_each(view->capture->config.store, view->table, hash, held, other_add,
				  &others);
	p2p_reader_init(&reader, others.rows.data, others.rows.len);
	while (!rc && p2p_reader_left(&reader)) {
		key = p2p_read_bytes(&reader, P2P_RECORD_BYTES_MAX, &len);
		rc = each(each_ctx, table, key, len);
	}
	p2p_buf_deinit(&others.rows);
	return rc;
}

static int view_shown(void *ctx, const struct p2p_plan_ref *ref, bool *out)
{
	(void)ctx;
	(void)ref;
	*out = true;
	return 0;
}

static int view_children(void *ctx, const struct p2p_plan_row *row, bool in_table,
			 p2p_plan_each each, void *each_ctx)
{
	(void)ctx;
	(void)row;
	(void)in_table;
	(void)each;
	(void)each_ctx;
	return 0;
}

void p2p_capture_view_plan(struct capture_view *view, struct p2p_plan_view *out)
{
	out->ctx = view;
	out->hash_key = p2p_store_hash_key(view->capture->config.store);
	out->load = view_load;
	out->shown = view_shown;
	out->holder = view_holder;
	out->others = view_others;
	out->children = view_children;
}
