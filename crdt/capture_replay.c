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
	p2p_rowstate_deinit(&row->state);
	p2p_rowstate_init(&row->state);
	p2p_free(row->ordinals);
	row->ordinals = NULL;
	p2p_overlay_uncount(row);
	row->renumbered = false;
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

/* What a birth does not say: canonical key values, and the number that the identity is. */
static int replay_birth(struct replay *r, struct p2p_overlay_row *row)
{
	const struct p2p_hash_key *hash_key = p2p_store_hash_key(r->capture->config.store);
	const struct p2p_table *table = r->table;
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	uint32_t i;
	int rc;

	row->state.flags = P2P_ROW_BORN;
	row->state.stamp = r->header.stamp.value;
	row->state.replica = r->capture->own;
	if (table->generated_identity) {
		memset(&key[0], 0, sizeof(key[0]));
		key[0].type = P2P_INTEGER;
		key[0].integer = row->identity.number;
		if (row->identity.kind == P2P_IDENTITY_NUMBER)
			replay_cell(r, row, table->key[0], &key[0]);
		return 0;
	}
	rc = p2p_identity_key_values(table, row->identity.key, row->identity.key_len, key);
	for (i = 0; i < table->key_count && !rc; i++) {
		struct p2p_cellstate *cell = &row->state.cells[table->columns[table->key[i]].slot];

		if (!cell->stamp)
			cell->hash = p2p_value_hash(hash_key, &key[i]);
	}
	return rc;
}

/* Given a number by p2p_capture_number(): it shows that only once it is folded. */
static int replay_renumbered(struct replay *r, struct p2p_overlay_row *row)
{
	int rc = p2p_store_temp_get(r->capture->config.store, r->table, row->key, row->key_len,
				    &row->shown);

	p2p_capture_number_given(r->capture, row);
	return rc == P2P_ENOENT ? 0 : rc;
}

static int replay_counter(struct replay *r, struct p2p_overlay_row *row, uint32_t column,
			  const struct p2p_cell *cell, struct p2p_value *value, bool born)
{
	struct p2p_counted_cell from = {.column = column, .tag = cell->tag, .born = born};

	from.stamp = r->header.stamp.value;
	return p2p_capture_count_replay(r->capture, r->table, row, &from, value);
}

static int replay_alive(struct replay *r, struct p2p_overlay_row *row,
			const struct p2p_record *record)
{
	bool born = record->flags & P2P_RECORD_BORN, numbered = row->renumbered;
	struct p2p_value value;
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
		value = record->cells[i].value;
		if (r->table->columns[column].flags & P2P_COLUMN_COUNTER)
			rc = replay_counter(r, row, column, &record->cells[i], &value, born);
		replay_cell(r, row, column, &value);
		numbered |= capture_is_number(r->table, column);
	}
	if (!rc && born && r->table->generated_identity) {
		row->shown = row->number;
		p2p_overlay_map(&r->capture->overlay, row, row->number);
	}
	row->renumbered = !born && numbered;
	row->number_changed |= born || numbered;
	if (!rc && row->renumbered)
		rc = replay_renumbered(r, row);
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
	if (rc)
		return rc;
	p2p_capture_observe(capture, capture->head.stamp);
	capture->stale = false;
	return 0;
}
