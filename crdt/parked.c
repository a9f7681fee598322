/* Parked rows; see parked.h. */
#include "crdt/parked.h"

#include <stdlib.h>
#include <string.h>

#include "proto/check.h"
#include "proto/mem.h"

void p2p_parked_encode(struct p2p_buf *buf, const struct p2p_table *table,
		       const struct p2p_cells *cells)
{
	uint32_t i;

	for (i = 0; i < table->column_count; i++) {
		if (!cells->set[i] || table->columns[i].slot == UINT32_MAX ||
		    (table->generated_identity && i == table->key[0]))
			continue;
		p2p_buf_put_varint(buf, table->columns[i].slot);
		p2p_value_put(buf, &cells->values[i]);
	}
}

static uint32_t column_of_slot(const struct p2p_table *table, uint64_t slot)
{
	uint32_t i;

	for (i = 0; i < table->column_count; i++)
		if (table->columns[i].slot == slot)
			return i;
	return UINT32_MAX;
}

int p2p_parked_decode(const struct p2p_buf *buf, const struct p2p_table *table,
		      struct p2p_cells *cells)
{
	struct p2p_reader reader;
	struct p2p_value value;
	uint32_t column;
	uint64_t slot;

	p2p_reader_init(&reader, buf->data, buf->len);
	while (p2p_reader_left(&reader) && !reader.failed) {
		slot = p2p_read_varint(&reader);
		p2p_value_read(&reader, &value);
		column = slot < UINT32_MAX ? column_of_slot(table, slot) : UINT32_MAX;
		if (!reader.failed && column != UINT32_MAX && !cells->set[column])
			p2p_cells_set(cells, column, &value);
	}
	return reader.failed ? P2P_ECORRUPT : 0;
}

/* Defaults that SQLite filled in are no part of the merged state: they come back with the row. */
static void cells_keep_written(struct p2p_rowwork *work, struct p2p_target *target)
{
	const struct p2p_hash_key *hash_key = p2p_store_hash_key(target->store);
	const struct p2p_table *table = target->table;
	uint32_t i;

	for (i = 0; i < table->column_count; i++) {
		uint32_t slot = table->columns[i].slot;

		if (slot == UINT32_MAX || (table->generated_identity && i == table->key[0]))
			continue;
		if (!work->state.cells[slot].stamp && !(table->columns[i].flags & P2P_COLUMN_KEY))
			work->cells.set[i] = 0;
		work->state.cells[slot].hash =
			work->cells.set[i] ? p2p_value_hash(hash_key, &work->cells.values[i]) : 0;
	}
}

int p2p_parked_put(struct p2p_rowwork *work, struct p2p_target *target, const char *reason)
{
	const struct p2p_table *table = target->table;
	struct p2p_buf encoded;
	int rc;

	cells_keep_written(work, target);
	p2p_buf_init(&encoded, P2P_RECORD_BYTES_MAX);
	p2p_parked_encode(&encoded, table, &work->cells);
	/* Empty cells would remove the entry: a cell of no column stands for "no values". */
	if (!encoded.len) {
		p2p_buf_put_varint(&encoded, P2P_COLUMNS_MAX * 64u);
		p2p_buf_put_u8(&encoded, P2P_NULL);
	}
	rc = p2p_buf_error(&encoded);
	if (!rc)
		rc = p2p_store_parked_put(target->store, table, work->key.data, work->key.len,
					  &encoded, reason);
	p2p_buf_deinit(&encoded);
	if (rc)
		return rc;
	target->parked += !(work->state.flags & P2P_ROW_PARKED);
	work->state.flags |= P2P_ROW_PARKED;
	target->touched = true;
	return 0;
}

int p2p_parked_drop(struct p2p_rowwork *work, struct p2p_target *target)
{
	struct p2p_buf none;

	p2p_buf_init(&none, 1);
	return p2p_store_parked_put(target->store, target->table, work->key.data, work->key.len,
				    &none, "");
}

/* Order of rows that claim values: youngest claim, then identity. */
struct order {
	struct p2p_clock clock;
	const uint8_t *key; /* borrowed */
	size_t key_len;
};

static int order_cmp(const struct order *a, const struct order *b)
{
	size_t len = a->key_len < b->key_len ? a->key_len : b->key_len;
	int rc = p2p_clock_cmp(&a->clock, &b->clock);

	if (!rc)
		rc = memcmp(a->key, b->key, len);
	return rc ? rc : (a->key_len > b->key_len) - (a->key_len < b->key_len);
}

static int order_of(struct p2p_rowwork *work, struct p2p_target *target, struct order *out)
{
	out->key = work->key.data;
	out->key_len = work->key.len;
	return p2p_uniques_time(&target->uniques, &work->state, &work->cells, &out->clock);
}

/* Takes up the row of an identity from a list, with its values. */
static int holder_load(struct p2p_reader *list, struct p2p_target *target)
{
	struct p2p_rowwork *spare = target->spare;
	const uint8_t *key;
	size_t len;
	int rc;

	key = p2p_read_bytes(list, P2P_RECORD_BYTES_MAX, &len);
	p2p_require(key != NULL); /* we wrote the list */
	rc = p2p_rowwork_load_key(spare, target, key, len);
	if (!rc && (!p2p_rowstate_alive(&spare->state) || (spare->state.flags & P2P_ROW_PARKED)))
		return P2P_ENOENT; /* given way already, or not captured */
	return rc ? rc : p2p_rowwork_gather(spare, target, true);
}

/* The row in spare leaves the table. */
static int holder_evict(struct p2p_target *target)
{
	struct p2p_rowwork *spare = target->spare;
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	int rc = p2p_rowwork_key(spare, target, key);

	if (!rc)
		rc = p2p_apptable_delete(&target->app, key);
	if (!rc)
		rc = p2p_parked_put(spare, target, "unique");
	target->rows++;
	return rc ? rc : p2p_rowwork_save(spare, target);
}

static int resolve_list(struct p2p_rowwork *work, struct p2p_target *target,
			const struct p2p_buf *list)
{
	struct p2p_reader reader;
	struct order mine, other;
	bool known = false;
	int rc = order_of(work, target, &mine);

	p2p_reader_init(&reader, list->data, list->len);
	while (!rc && p2p_reader_left(&reader)) {
		rc = holder_load(&reader, target);
		if (rc == P2P_ENOENT)
			return P2P_PARKED_EARLIER;
		if (!rc)
			rc = order_of(target->spare, target, &other);
		if (!rc && order_cmp(&other, &mine) < 0)
			return P2P_PARKED_EARLIER;
		known = true;
	}
	if (rc)
		return rc;
	if (!known)
		return P2P_PARKED_EARLIER;
	p2p_reader_init(&reader, list->data, list->len);
	while (!rc && p2p_reader_left(&reader)) {
		rc = holder_load(&reader, target);
		if (rc == P2P_ENOENT)
			rc = 0; /* it held two of the values */
		else if (!rc)
			rc = holder_evict(target);
	}
	return rc;
}

int p2p_parked_resolve(struct p2p_rowwork *work, struct p2p_target *target)
{
	struct p2p_buf list;
	int rc;

	p2p_require(work != target->spare);
	p2p_buf_init(&list, P2P_RECORD_BYTES_MAX);
	rc = p2p_uniques_holders(&target->uniques, &target->numbers, &work->cells, &list);
	if (!rc)
		rc = resolve_list(work, target, &list);
	p2p_buf_deinit(&list);
	return rc;
}

/* --- trying again ---------------------------------------------------------------------------- */

struct waiting {
	struct order order;
	uint8_t *key; /* owned */
};

struct waitings {
	struct waiting *items; /* owned */
	size_t count, cap;
};

static int waiting_add(void *ctx, const void *key, size_t key_len)
{
	struct waitings *list = ctx;
	struct waiting *grown;
	size_t cap;

	if (list->count == list->cap) {
		cap = list->cap ? list->cap * 2 : 16;
		grown = p2p_realloc(list->items, cap * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		list->items = grown;
		list->cap = cap;
	}
	grown = &list->items[list->count];
	memset(grown, 0, sizeof(*grown));
	grown->key = p2p_memdup(key, key_len);
	if (!grown->key)
		return P2P_ENOMEM;
	grown->order.key = grown->key;
	grown->order.key_len = key_len;
	list->count++;
	return 0;
}

static int waiting_cmp(const void *a, const void *b)
{
	const struct waiting *x = a, *y = b;

	return order_cmp(&x->order, &y->order);
}

/* Takes up a parked row with its values. P2P_ENOENT: it cannot be shown. */
static int waiting_load(struct p2p_rowwork *work, struct p2p_target *target,
			const struct waiting *at)
{
	int rc = p2p_rowwork_load_key(work, target, at->key, at->order.key_len);

	if (rc)
		return rc;
	if (!(work->state.flags & P2P_ROW_PARKED) ||
	    !p2p_numbers_complete(target->table, &work->state))
		return P2P_ENOENT;
	return p2p_rowwork_gather(work, target, false);
}

static int waitings_collect(struct p2p_rowwork *work, struct p2p_target *target,
			    struct waitings *list)
{
	size_t i, kept = 0;
	int rc = p2p_store_parked_each(target->store, target->table, waiting_add, list);

	for (i = 0; i < list->count && !rc; i++) {
		rc = waiting_load(work, target, &list->items[i]);
		if (!rc)
			rc = p2p_uniques_time(&target->uniques, &work->state, &work->cells,
					      &list->items[i].order.clock);
		if (rc == P2P_ENOENT) {
			p2p_free(list->items[i].key);
			list->items[i].key = NULL;
			rc = 0;
		}
	}
	for (i = 0; i < list->count; i++)
		if (list->items[i].key)
			list->items[kept++] = list->items[i];
	list->count = kept;
	if (list->count)
		qsort(list->items, list->count, sizeof(*list->items), waiting_cmp);
	return rc;
}

/* One pass, earliest first. *out_shown: a row came back, so others may have been parked for it. */
static int retry_pass(struct p2p_rowwork *work, struct p2p_target *target, bool *out_shown)
{
	struct waitings list = {0};
	size_t i;
	int rc = waitings_collect(work, target, &list);

	*out_shown = false;
	for (i = 0; i < list.count && !rc; i++) {
		rc = waiting_load(work, target, &list.items[i]);
		if (rc)
			break;
		rc = p2p_rowwork_place(work, target, false);
		if (rc || (work->state.flags & P2P_ROW_PARKED))
			continue;
		*out_shown = true;
		rc = p2p_rowwork_save(work, target);
	}
	for (i = 0; i < list.count; i++)
		p2p_free(list.items[i].key);
	p2p_free(list.items);
	return rc;
}

int p2p_parked_retry(struct p2p_rowwork *work, struct p2p_target *target)
{
	bool shown = true;
	int rc = 0;

	/* Ends: a row gives way only to an earlier one, and the earliest settle first. */
	while (shown && !rc)
		rc = retry_pass(work, target, &shown);
	target->touched = false;
	return rc;
}
