/* The overlay back from the side log: own changesets that the file's row states do not have yet. */
#include <string.h>

#include "crdt/capture_private.h"
#include "crdt/schemamap.h"
#include "proto/check.h"
#include "proto/mem.h"

/* One changeset on its way back. */
struct replay {
	struct p2p_capture *capture;
	struct p2p_header header;
	struct p2p_table *table; /* of the record */
	struct p2p_schemamap map;
	uint32_t map_index; /* of the dictionary; UINT32_MAX: none */
};

/* A cell whose hash is still to be found; the identity of the row that it refers to comes behind.
 */
struct replay_target {
	struct p2p_overlay_row *row;
	uint32_t slot, parent; /* parent: table number */
	size_t len, before;    /* before: place of the entry before it, + 1 */
};

static int replay_table(struct replay *r, uint32_t index)
{
	struct p2p_store *store = r->capture->config.store;
	int rc = 0;

	if (index >= r->header.table_count)
		return P2P_ECORRUPT;
	if (r->map_index == index)
		return 0;
	p2p_schemamap_deinit(&r->map);
	r->map_index = index;
	r->table = p2p_store_table_by_id(store, &r->header.tables[index].table);
	if (r->table && r->table->state == P2P_TABLE_LIVE)
		rc = p2p_schemamap_init(&r->map, r->capture->config.authority,
					&r->header.tables[index].schema, r->table);
	else
		r->table = NULL; /* replicated no longer */
	return rc == P2P_ENOENT || rc == P2P_EPROTO ? P2P_ECORRUPT : rc;
}

static void replay_dead(struct replay *r, struct p2p_overlay_row *row)
{
	p2p_overlay_unmap(&r->capture->overlay, row);
	p2p_overlay_uncount(row);
	p2p_overlay_empty(row);
	row->new_life = true;
}

/* A reference shows the number of its row: known once all is back. */
static int replay_target(struct replay *r, struct p2p_overlay_row *row, uint32_t column,
			 const struct p2p_identity *target)
{
	struct p2p_buf *targets = &r->capture->targets;
	struct p2p_table *parent = p2p_capture_parent(r->capture, r->table, column);
	struct replay_target entry = {row, r->table->columns[column].slot, 0, 0,
				      r->capture->last_target};
	size_t at = targets->len;

	row->state.cells[entry.slot].hash = 0;
	if (!parent)
		return 0;
	entry.parent = parent->number;
	p2p_buf_put(targets, &entry, sizeof(entry));
	p2p_identity_put(targets, target);
	if (p2p_buf_error(targets))
		return p2p_buf_error(targets);
	entry.len = targets->len - at - sizeof(entry);
	memcpy(targets->data + at, &entry, sizeof(entry));
	r->capture->last_target = at + 1;
	return 0;
}

static int replay_targets(struct p2p_capture *capture)
{
	const struct p2p_hash_key *hash_key = p2p_store_hash_key(capture->config.store);
	struct p2p_buf *targets = &capture->targets;
	struct replay_target entry;
	struct p2p_value value;
	size_t at = capture->last_target;
	int rc = 0;

	memset(&value, 0, sizeof(value));
	value.type = P2P_INTEGER;
	/* from the last one: that is what the cell refers to */
	for (; at && (!rc || rc == P2P_ENOENT); at = entry.before) {
		const uint8_t *data = targets->data + at - 1;
		struct p2p_cellstate *cell;

		memcpy(&entry, data, sizeof(entry));
		if (entry.slot >= entry.row->state.cell_count)
			continue; /* it died since */
		cell = &entry.row->state.cells[entry.slot];
		if (cell->hash)
			continue;
		rc = p2p_capture_number_of(capture,
					   p2p_store_table_by_number(capture->config.store,
								     entry.parent),
					   data + sizeof(entry), entry.len, &value.integer);
		if (!rc)
			cell->hash = p2p_value_hash(hash_key, &value);
	}
	capture->last_target = 0;
	p2p_buf_reset(targets);
	return rc == P2P_ENOENT ? 0 : rc;
}

static void replay_cell(struct replay *r, struct p2p_overlay_row *row, uint32_t column,
			const struct p2p_value *value)
{
	const struct p2p_hash_key *hash_key = p2p_store_hash_key(r->capture->config.store);
	struct p2p_cellstate *cell = &row->state.cells[r->table->columns[column].slot];

	cell->stamp = r->header.stamp.value;
	cell->replica = r->capture->own;
	cell->hash = p2p_value_hash(hash_key, value);
	if (capture_is_number(r->table, column) && value->type == P2P_INTEGER)
		row->number = value->integer;
}

static int replay_birth_key(struct replay *r, struct p2p_overlay_row *row)
{
	const struct p2p_hash_key *hash_key = p2p_store_hash_key(r->capture->config.store);
	struct p2p_key_part parts[P2P_KEY_COLUMNS_MAX];
	const struct p2p_table *table = r->table;
	uint32_t i;
	int rc = p2p_identity_key_parts(table, row->identity.key, row->identity.key_len, parts);

	for (i = 0; i < table->key_count && !rc; i++) {
		struct p2p_cellstate *cell = &row->state.cells[table->columns[table->key[i]].slot];

		if (cell->stamp)
			continue;
		if (parts[i].reference)
			rc = replay_target(r, row, table->key[i], &parts[i].target);
		else
			cell->hash = p2p_value_hash(hash_key, &parts[i].value);
	}
	return rc;
}

/* What a birth does not say: canonical key values, and the number that the identity is. */
static int replay_birth(struct replay *r, struct p2p_overlay_row *row)
{
	const struct p2p_table *table = r->table;
	struct p2p_value key;

	row->state.flags = P2P_ROW_BORN;
	row->state.stamp = r->header.stamp.value;
	row->state.replica = r->capture->own;
	if (table->generated_identity) {
		memset(&key, 0, sizeof(key));
		key.type = P2P_INTEGER;
		key.integer = row->identity.number;
		if (row->identity.kind == P2P_IDENTITY_NUMBER)
			replay_cell(r, row, table->key[0], &key);
		return 0;
	}
	return replay_birth_key(r, row);
}

static int replay_counter(struct replay *r, struct p2p_overlay_row *row, uint32_t column,
			  const struct p2p_cell *cell, struct p2p_value *value, bool born)
{
	struct p2p_counted_cell from = {.column = column, .tag = cell->tag, .born = born};

	from.stamp = r->header.stamp.value;
	return p2p_capture_count_replay(r->capture, r->table, row, &from, value);
}

static int replay_tagged(struct replay *r, struct p2p_overlay_row *row, uint32_t column,
			 const struct p2p_cell *cell, bool born)
{
	uint32_t slot = r->table->columns[column].slot;

	struct p2p_value value = cell->value;
	int rc = 0;

	if (r->table->columns[column].flags & P2P_COLUMN_COUNTER)
		rc = replay_counter(r, row, column, cell, &value, born);
	if (rc)
		return rc;
	replay_cell(r, row, column, &value);
	if (r->table->columns[column].reference != P2P_REFERENCE_NONE ||
	    r->table->columns[column].valued) {
		rc = p2p_overlay_ref(row, slot,
				     cell->tag == P2P_CELL_LOOSE ||
						     cell->tag == P2P_CELL_LOOSE_VALUE
					     ? P2P_OVERLAY_REF_LOOSE
					     : P2P_OVERLAY_REF_ROW);
		if (rc)
			return rc;
	}
	return cell->tag == P2P_CELL_REFERENCE ? replay_target(r, row, column, &cell->reference)
					       : 0;
}

static int replay_alive(struct replay *r, struct p2p_overlay_row *row,
			const struct p2p_record *record)
{
	bool born = record->flags & P2P_RECORD_BORN, numbered = row->renumbered;
	struct p2p_id id;
	size_t i;
	int rc;

	row->unpark |= born && (row->state.flags & P2P_ROW_PARKED) != 0;
	if (record->causal_length > row->state.causal_length)
		replay_dead(r, row);
	row->state.causal_length = record->causal_length;
	rc = p2p_overlay_resize(row, r->table->slot_count);
	if (!rc && born)
		rc = replay_birth(r, row);
	for (i = 0; i < record->cell_count && !rc; i++) {
		uint32_t column = record->cells[i].column;

		column = column < r->map.count ? r->map.columns[column] : P2P_SCHEMAMAP_NONE;
		if (column >= r->table->column_count)
			continue; /* dropped since */
		rc = replay_tagged(r, row, column, &record->cells[i], born);
		numbered |= capture_is_number(r->table, column);
	}
	for (i = 0; i < record->yield_count && !rc; i++) {
		memcpy(id.bytes, record->yields + i * P2P_ID_BYTES, P2P_ID_BYTES);
		rc = p2p_overlay_yield(row, &id, r->header.stamp.value);
	}
	if (!rc && born && r->table->generated_identity) {
		row->shown = row->number;
		p2p_overlay_map(&r->capture->overlay, row, row->number);
	}
	row->renumbered = !born && numbered;
	row->number_changed |= born || numbered;
	/* given a number by p2p_capture_number(): it shows that only once it is folded */
	if (!rc && row->renumbered)
		p2p_capture_number_given(r->capture, row);
	return rc;
}

static int replay_record(struct replay *r, const uint8_t *data, size_t len)
{
	struct p2p_capture *capture = r->capture;
	struct p2p_overlay_row *row;
	struct p2p_record record;
	int rc = p2p_record_read(&record, capture->cells, P2P_COLUMNS_MAX, data, len);

	if (rc)
		return P2P_ECORRUPT; /* we wrote it */
	rc = replay_table(r, record.table);
	if (rc || !r->table)
		return rc;
	p2p_buf_reset(&capture->key);
	p2p_identity_put(&capture->key, &record.identity);
	rc = p2p_buf_error(&capture->key);
	if (!rc)
		rc = p2p_capture_take(capture, r->table, capture->key.data, capture->key.len, &row);
	if (rc || record.causal_length < row->state.causal_length)
		return rc;
	if (record.causal_length % 2) {
		rc = replay_alive(r, row, &record);
	} else {
		/* it may have been parked when the application took it and deleted it again */
		row->unpark |= (row->state.flags & P2P_ROW_PARKED) != 0;
		replay_dead(r, row);
		row->state.causal_length = record.causal_length;
		row->state.stamp = r->header.stamp.value;
		row->state.replica = capture->own;
		row->number_changed = true;
	}
	p2p_overlay_frozen(row);
	return rc;
}

static int replay_changeset(struct p2p_capture *capture, const struct p2p_stored *stored)
{
	struct replay r = {.capture = capture, .map_index = UINT32_MAX};
	struct p2p_body_reader *reader = NULL;
	const uint8_t *data = NULL;
	size_t len;
	int rc = p2p_header_unpack(&r.header, stored->raw, stored->raw_len);

	if (rc)
		return rc == P2P_ENOMEM ? rc : P2P_ECORRUPT;
	rc = p2p_body_reader_open(capture->config.sidelog, stored, &reader);
	while (!rc) {
		rc = p2p_body_reader_next(reader, &data, &len);
		if (rc || !data)
			break;
		rc = replay_record(&r, data, len);
	}
	if (reader)
		p2p_body_reader_close(reader);
	p2p_schemamap_deinit(&r.map);
	p2p_header_deinit(&r.header);
	return rc;
}

static int replay_from(struct p2p_capture *capture, uint64_t folded_seq)
{
	struct p2p_stored stored;
	uint64_t seq;
	int rc = 0;

	for (seq = folded_seq + 1; seq <= capture->head.seq && !rc; seq++) {
		rc = p2p_sidelog_get(capture->config.sidelog, &capture->config.replica, seq,
				     &stored);
		if (rc)
			return rc == P2P_ENOENT ? P2P_ECORRUPT : rc;
		rc = replay_changeset(capture, &stored);
		capture->position = stored.journal;
		p2p_stored_deinit(&stored);
	}
	return rc;
}

int p2p_capture_replay(struct p2p_capture *capture)
{
	uint64_t folded_seq;
	int64_t folded_journal;
	int rc = p2p_store_folded_get(capture->config.store, &folded_seq, &folded_journal);

	p2p_overlay_clear(&capture->overlay);
	p2p_capture_number_none(capture);
	p2p_capture_drop_finders(capture);
	p2p_buf_reset(&capture->targets);
	capture->last_target = 0;
	capture->died_count = 0;
	capture->slices = false;
	capture->present_table = 0;
	p2p_touched_clear(&capture->touched);
	capture->turn_count = 0;
	capture->provisional = 0;
	capture->stale = true;
	if (rc)
		return rc;
	capture->position = folded_journal;
	rc = p2p_sidelog_head(capture->config.sidelog, &capture->config.replica, &capture->head);
	if (!rc)
		rc = replay_from(capture, folded_seq);
	if (!rc)
		rc = replay_targets(capture);
	p2p_capture_drop_finders(capture);
	if (rc)
		return rc;
	p2p_capture_observe(capture, capture->head.stamp);
	capture->stale = false;
	return 0;
}
