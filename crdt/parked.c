/* Parked rows; see parked.h. */
#include "crdt/parked.h"

#include <string.h>

#include "crdt/rowrefs.h"
#include "proto/check.h"

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

/* Defaults that SQLite filled in are no part of the merged state: they come back with the row. Nor
 * are key values that are only the identity's. */
static void cells_keep_written(struct p2p_rowwork *work, struct p2p_target *target)
{
	const struct p2p_hash_key *hash_key = p2p_store_hash_key(target->store);
	const struct p2p_table *table = target->table;
	uint32_t i;

	p2p_require(work->state.cell_count >= table->slot_count);
	for (i = 0; i < table->column_count; i++) {
		uint32_t slot = table->columns[i].slot;

		if (slot == UINT32_MAX || (table->generated_identity && i == table->key[0]))
			continue;
		if (!work->state.cells[slot].stamp)
			work->cells.set[i] = 0;
		/* it is in p2p_ref, or in the identity */
		if ((work->ref_count && work->refs[i].kind == P2P_REFCELL_ROW) ||
		    ((table->columns[i].flags & P2P_COLUMN_KEY) &&
		     table->columns[i].reference != P2P_REFERENCE_NONE))
			work->cells.set[i] = 0;
		work->state.cells[slot].hash =
			work->cells.set[i] ? p2p_value_hash(hash_key, &work->cells.values[i]) : 0;
	}
	for (i = 0; i < work->ref_count; i++) {
		struct p2p_value identity = {.type = P2P_BLOB};

		if (work->refs[i].kind != P2P_REFCELL_ROW)
			continue;
		identity.bytes = work->targets.data + work->refs[i].at;
		identity.len = work->refs[i].len;
		work->state.cells[table->columns[i].slot].hash =
			p2p_value_hash(hash_key, &identity);
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
	if (!rc)
		rc = p2p_rowrefs_keep(work, target, true);
	if (rc)
		return rc;
	target->parked += !(work->state.flags & P2P_ROW_PARKED);
	work->state.flags |= P2P_ROW_PARKED;
	return 0;
}

int p2p_parked_drop(struct p2p_rowwork *work, struct p2p_target *target)
{
	struct p2p_buf none;

	p2p_buf_init(&none, 1);
	return p2p_store_parked_put(target->store, target->table, work->key.data, work->key.len,
				    &none, "");
}
