/* Changesets become rows: clocks decide here, places are found in rowwork.c; see merge.h. */
#include "crdt/merge.h"

#include <sqlite3.h>
#include <string.h>

#include "crdt/parked.h"
#include "crdt/rowwork.h"
#include "crdt/schemamap.h"
#include "proto/check.h"
#include "proto/mem.h"

#define MERGE_MAPS_MAX 256 /* schema records whose columns are known at once */

/* An entry of the header's dictionary of tables, looked up when first used. */
struct merge_entry {
	struct p2p_target *target; /* NULL: not here */
	uint32_t map;		   /* index into maps; UINT32_MAX: none */
	bool known;
};

struct p2p_merge {
	struct p2p_merge_config config;
	struct p2p_target **targets; /* owned */
	size_t target_count;
	struct p2p_schemamap *maps; /* owned */
	const struct p2p_table **map_tables;
	size_t map_count;
	struct p2p_cell *cells; /* owned: of the record that is being merged */
	struct p2p_rowwork work, spare;
	struct p2p_buf scratch;
	struct merge_entry *entries; /* owned: of the changeset that is being merged */
	size_t entry_cap;
	struct sqlite3_stmt *version; /* owned */
	int64_t schema_version;
	const struct p2p_table *first_table; /* to notice a reload of the store */
};

/* One record on its way. */
struct merging {
	struct p2p_merge *merge;
	const struct p2p_merge_source *source;
	struct p2p_merge_counts *counts;
	struct p2p_record record;
	const uint8_t *raw;
	size_t raw_len;
	struct p2p_clock clock;
	uint32_t replica; /* its small number */
	struct p2p_target *target;
	const struct p2p_schemamap *map;
	bool wait;	       /* something in it cannot be merged yet */
	bool changed, claimed; /* a cell, or the claim to the number, has a new clock */
};

int p2p_merge_new(const struct p2p_merge_config *config, struct p2p_merge **out)
{
	struct p2p_merge *merge = p2p_calloc(1, sizeof(*merge));

	if (!merge)
		return P2P_ENOMEM;
	merge->config = *config;
	merge->cells = p2p_calloc(P2P_COLUMNS_MAX, sizeof(*merge->cells));
	merge->maps = p2p_calloc(MERGE_MAPS_MAX, sizeof(*merge->maps));
	merge->map_tables = p2p_calloc(MERGE_MAPS_MAX, sizeof(*merge->map_tables));
	p2p_rowwork_init(&merge->work);
	p2p_rowwork_init(&merge->spare);
	p2p_buf_init(&merge->scratch, P2P_RECORD_BYTES_MAX);
	if (!merge->cells || !merge->maps || !merge->map_tables) {
		p2p_merge_free(merge);
		return P2P_ENOMEM;
	}
	*out = merge;
	return 0;
}

static void target_free(struct p2p_target *target)
{
	p2p_uniques_deinit(&target->uniques);
	p2p_numbers_deinit(&target->numbers);
	p2p_apptable_deinit(&target->app);
	p2p_free(target);
}

void p2p_merge_reset(struct p2p_merge *merge)
{
	size_t i;

	for (i = 0; i < merge->target_count; i++)
		target_free(merge->targets[i]);
	p2p_free(merge->targets);
	merge->targets = NULL;
	merge->target_count = 0;
	for (i = 0; i < merge->map_count; i++)
		p2p_schemamap_deinit(&merge->maps[i]);
	merge->map_count = 0;
	(void)sqlite3_finalize(merge->version); /* its error was seen at the step */
	merge->version = NULL;
	merge->schema_version = 0;
	merge->first_table = NULL;
}

void p2p_merge_free(struct p2p_merge *merge)
{
	if (!merge)
		return;
	p2p_merge_reset(merge);
	p2p_rowwork_deinit(&merge->work);
	p2p_rowwork_deinit(&merge->spare);
	p2p_buf_deinit(&merge->scratch);
	p2p_free(merge->cells);
	p2p_free(merge->maps);
	p2p_free(merge->map_tables);
	p2p_free(merge->entries);
	p2p_free(merge);
}

/* --- what is kept of tables ------------------------------------------------------------------ */

static int schema_version(struct p2p_merge *merge, int64_t *out)
{
	int rc = SQLITE_OK;

	if (!merge->version)
		rc = sqlite3_prepare_v3(p2p_store_db(merge->config.store),
					"PRAGMA main.schema_version", -1, SQLITE_PREPARE_PERSISTENT,
					&merge->version, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(merge->version);
	if (rc == SQLITE_ROW)
		*out = sqlite3_column_int64(merge->version, 0);
	(void)sqlite3_reset(merge->version); /* repeats the step's error */
	return rc == SQLITE_ROW
		       ? 0
		       : p2p_store_error(merge->config.store, rc, NULL, "read the schema version");
}

/* Statements and maps are of one schema: a changed one starts them anew. */
static int merge_refresh(struct p2p_merge *merge)
{
	struct p2p_store *store = merge->config.store;
	const struct p2p_table *first = NULL;
	int64_t version = 0;
	int rc = schema_version(merge, &version);

	if (rc)
		return rc;
	if (p2p_store_table_count(store))
		first = p2p_store_table(store, 0);
	if (version == merge->schema_version && first == merge->first_table)
		return 0;
	p2p_merge_reset(merge);
	merge->schema_version = version;
	merge->first_table = first;
	return 0;
}

static int target_new(struct p2p_merge *merge, struct p2p_table *table, struct p2p_target **out)
{
	struct p2p_target *target = p2p_calloc(1, sizeof(*target));
	int rc;

	if (!target)
		return P2P_ENOMEM;
	target->store = merge->config.store;
	target->table = table;
	target->spare = &merge->spare;
	rc = p2p_apptable_init(&target->app, merge->config.store, table);
	p2p_numbers_init(&target->numbers, &target->app, merge->config.log);
	if (!rc)
		rc = p2p_uniques_init(&target->uniques, &target->app);
	if (rc) {
		target_free(target);
		return rc;
	}
	*out = target;
	return 0;
}

static int target_get(struct p2p_merge *merge, struct p2p_table *table, struct p2p_target **out)
{
	struct p2p_target **grown;
	size_t i;
	int rc;

	for (i = 0; i < merge->target_count; i++)
		if (merge->targets[i]->table == table) {
			*out = merge->targets[i];
			return 0;
		}
	grown = p2p_realloc(merge->targets, (merge->target_count + 1) * sizeof(*grown));
	if (!grown)
		return P2P_ENOMEM;
	merge->targets = grown;
	rc = target_new(merge, table, out);
	if (!rc)
		merge->targets[merge->target_count++] = *out;
	return rc;
}

/* *out: UINT32_MAX when the schema record is not known (yet). */
static int map_get(struct p2p_merge *merge, const struct p2p_hash *schema,
		   const struct p2p_table *table, uint32_t *out)
{
	size_t i;
	int rc;

	for (i = 0; i < merge->map_count; i++)
		if (merge->map_tables[i] == table &&
		    p2p_hash_cmp(&merge->maps[i].schema, schema) == 0) {
			*out = (uint32_t)i;
			return 0;
		}
	*out = UINT32_MAX;
	p2p_require(merge->map_count < MERGE_MAPS_MAX);
	rc = p2p_schemamap_init(&merge->maps[merge->map_count], merge->config.authority, schema,
				table);
	if (rc == P2P_ENOENT)
		return 0;
	if (rc)
		return rc;
	merge->map_tables[merge->map_count] = table;
	*out = (uint32_t)merge->map_count++;
	return 0;
}

static int entry_lookup(struct p2p_merge *merge, const struct p2p_schema_ref *ref,
			struct merge_entry *entry)
{
	struct p2p_table *table = p2p_store_table_by_id(merge->config.store, &ref->table);
	int rc;

	entry->known = true;
	entry->target = NULL;
	entry->map = UINT32_MAX;
	if (!table || table->state != P2P_TABLE_LIVE)
		return 0;
	rc = target_get(merge, table, &entry->target);
	return rc ? rc : map_get(merge, &ref->schema, table, &entry->map);
}

static int entries_begin(struct p2p_merge *merge, size_t count)
{
	size_t i;

	/* Maps move only between changesets, so that entries may index them. */
	if (merge->map_count + count > MERGE_MAPS_MAX) {
		for (i = 0; i < merge->map_count; i++)
			p2p_schemamap_deinit(&merge->maps[i]);
		merge->map_count = 0;
	}
	if (count > merge->entry_cap) {
		p2p_free(merge->entries);
		merge->entry_cap = 0;
		merge->entries = p2p_calloc(count, sizeof(*merge->entries));
		if (!merge->entries)
			return P2P_ENOMEM;
		merge->entry_cap = count;
	}
	if (count)
		memset(merge->entries, 0, count * sizeof(*merge->entries));
	return 0;
}

/* --- waiting --------------------------------------------------------------------------------- */

static int merging_wait(struct merging *m, const struct p2p_schema_ref *ref)
{
	static const struct p2p_schema_ref none;

	if (!ref)
		ref = &none; /* a kind of a later version: it alone knows its table */
	m->counts->waiting++;
	return p2p_store_waiting_put(m->merge->config.store, &ref->table, &m->clock, &ref->schema,
				     m->raw, m->raw_len);
}

/* --- cells ----------------------------------------------------------------------------------- */

/* Clock of the record against a stored one. P2P_ECORRUPT: a replica number that was never given. */
static int clock_against(struct merging *m, uint64_t stamp, uint32_t replica, int *out)
{
	const struct p2p_id *id;

	*out = (m->clock.stamp.value > stamp) - (m->clock.stamp.value < stamp);
	if (*out || m->replica == replica)
		return 0;
	id = p2p_store_replica_id(m->merge->config.store, replica);
	if (!id)
		return P2P_ECORRUPT;
	*out = p2p_id_cmp(&m->clock.replica, id);
	return 0;
}

/* Same clock, another hash: two values under one clock (a forked or cloned replica). The greater
 * value stays. A value that SQLite converted on storing is compared as it is stored. */
static int cell_tie(struct merging *m, uint32_t column, const struct p2p_value *value, bool *out)
{
	struct p2p_rowwork *work = &m->merge->work, *spare = &m->merge->spare;
	struct p2p_value none;
	int rc = p2p_rowwork_load_key(spare, m->target, work->key.data, work->key.len);

	memset(&none, 0, sizeof(none));
	if (!rc)
		rc = p2p_rowwork_gather(spare, m->target, !(spare->state.flags & P2P_ROW_PARKED));
	if (rc)
		return rc;
	*out = p2p_value_cmp(value,
			     spare->cells.set[column] ? &spare->cells.values[column] : &none) > 0;
	return 0;
}

/* Merges one cell. The clock decides; then the value. */
static int cell_merge(struct merging *m, uint32_t column, const struct p2p_value *value)
{
	struct p2p_rowwork *work = &m->merge->work;
	struct p2p_cellstate *cell = &work->state.cells[m->target->table->columns[column].slot];
	bool wins = true;
	int order = 1, rc = 0;

	if (cell->stamp)
		rc = clock_against(m, cell->stamp, cell->replica, &order);
	if (rc)
		return rc;
	if (order < 0) {
		m->counts->cells_lost++;
		return 0;
	}
	if (order == 0) {
		wins = cell->hash !=
		       p2p_value_hash(p2p_store_hash_key(m->merge->config.store), value);
		if (wins)
			rc = cell_tie(m, column, value, &wins);
	}
	if (rc || !wins)
		return rc;
	cell->stamp = m->clock.stamp.value;
	cell->replica = m->replica;
	p2p_cells_set(&work->cells, column, value);
	m->counts->cells_won++;
	m->changed = true;
	return 0;
}

/* The claim to a number. An equal clock with another number: the greater number. */
static int claim_merge(struct merging *m, int64_t number)
{
	struct p2p_rowwork *work = &m->merge->work;
	const struct p2p_table *table = m->target->table;
	struct p2p_cellstate *cell = &work->state.cells[table->columns[table->key[0]].slot];
	struct p2p_value value;
	int order = 1, rc = 0;

	if (cell->stamp)
		rc = clock_against(m, cell->stamp, cell->replica, &order);
	if (rc || (order == 0 && number <= work->number))
		return rc;
	if (order < 0) {
		m->counts->cells_lost++;
		return 0;
	}
	memset(&value, 0, sizeof(value));
	value.type = P2P_INTEGER;
	value.integer = number;
	cell->stamp = m->clock.stamp.value;
	cell->replica = m->replica;
	cell->hash = p2p_value_hash(p2p_store_hash_key(m->merge->config.store), &value);
	work->number = number;
	m->counts->cells_won++;
	m->changed = m->claimed = true;
	return 0;
}

/* A key column's cell tells how its value is written ('Key'); it must be the identity's value. */
static int key_cell_fits(struct merging *m, const struct p2p_column *column,
			 const struct p2p_value *value, bool *out)
{
	struct p2p_value values[P2P_KEY_COLUMNS_MAX];
	const struct p2p_identity *identity = &m->merge->work.identity;
	struct p2p_buf *scratch = &m->merge->scratch;
	int rc =
		p2p_identity_key_values(m->target->table, identity->key, identity->key_len, values);

	if (rc)
		return rc;
	values[column->key_pos] = *value;
	p2p_buf_reset(scratch);
	rc = p2p_identity_of_key(scratch, m->target->table, values);
	*out = rc == 0 && scratch->len == identity->key_len &&
	       memcmp(scratch->data, identity->key, identity->key_len) == 0;
	return rc == P2P_IDENTITY_NULL_KEY ? 0 : rc;
}

static int record_cell(struct merging *m, const struct p2p_cell *cell)
{
	const struct p2p_table *table = m->target->table;
	const struct p2p_column *column;
	uint32_t index;
	bool fits;
	int rc;

	if (cell->column >= m->map->count)
		return P2P_EPROTO;
	index = m->map->columns[cell->column];
	if (index == P2P_SCHEMAMAP_NONE || cell->tag != P2P_CELL_VALUE) {
		m->wait = true;
		return 0;
	}
	column = &table->columns[index];
	if (table->generated_identity && index == table->key[0]) {
		if (cell->value.type != P2P_INTEGER)
			return P2P_EPROTO;
		return claim_merge(m, cell->value.integer);
	}
	if (column->flags & P2P_COLUMN_KEY) {
		rc = key_cell_fits(m, column, &cell->value, &fits);
		if (rc)
			return rc;
		if (!fits) {
			m->wait = true;
			return 0;
		}
	}
	return cell_merge(m, index, &cell->value);
}

static int record_cells(struct merging *m)
{
	const struct p2p_record *record = &m->record;
	bool claimed = false;
	size_t i;
	int rc = 0;

	for (i = 0; i < record->cell_count && !rc; i++) {
		rc = record_cell(m, &record->cells[i]);
		claimed |= !rc && m->target->table->generated_identity &&
			   m->map->columns[record->cells[i].column] == m->target->table->key[0];
	}
	if (!rc && !claimed && record->identity.kind == P2P_IDENTITY_NUMBER &&
	    (record->flags & P2P_RECORD_BORN))
		rc = claim_merge(m, record->identity.number);
	return rc;
}

/* --- rows ------------------------------------------------------------------------------------ */

static void state_clock(struct merging *m)
{
	m->merge->work.state.stamp = m->clock.stamp.value;
	m->merge->work.state.replica = m->replica;
}

/* A delete, or one more of a row that is dead already. */
static int row_dead(struct merging *m)
{
	struct p2p_rowwork *work = &m->merge->work;
	struct p2p_rowstate *state = &work->state;
	int order = 1, rc = 0;

	if (m->record.causal_length == state->causal_length) {
		rc = clock_against(m, state->stamp, state->replica, &order);
		if (rc || order <= 0)
			return rc;
	} else if (p2p_rowstate_alive(state)) {
		rc = p2p_rowwork_remove(work, m->target);
		if (rc)
			return rc;
	}
	p2p_rowstate_deinit(state);
	p2p_rowstate_init(state);
	state->causal_length = m->record.causal_length;
	state_clock(m);
	m->target->touched = true;
	return p2p_rowwork_save(work, m->target);
}

static void life_empty(struct p2p_rowwork *work, uint64_t causal_length)
{
	work->state.causal_length = causal_length;
	work->state.flags = 0;
	work->state.stamp = 0;
	work->state.replica = 0;
	work->state.cell_count = 0; /* the memory stays for the new ones */
	work->number = 0;
}

/* The state has no life of this causal length yet: an empty one begins. */
static int life_begin(struct merging *m)
{
	struct p2p_rowwork *work = &m->merge->work;
	uint64_t causal_length = m->record.causal_length;
	int rc = 0;

	if (p2p_rowstate_alive(&work->state)) {
		/* Saved as dead first: whoever looks for a holder must not find the old claim. */
		rc = p2p_rowwork_remove(work, m->target);
		life_empty(work, causal_length - 1);
		if (!rc)
			rc = p2p_rowwork_save(work, m->target);
	}
	life_empty(work, causal_length);
	m->changed = true;
	return rc;
}

static int row_born(struct merging *m)
{
	struct p2p_rowstate *state = &m->merge->work.state;
	int order = 1, rc = 0;

	if (!(m->record.flags & P2P_RECORD_BORN))
		return 0;
	if (state->stamp)
		rc = clock_against(m, state->stamp, state->replica, &order);
	if (!rc && order > 0) {
		state_clock(m);
		m->changed = true;
	}
	if (!rc && !(state->flags & P2P_ROW_BORN)) {
		state->flags |= P2P_ROW_BORN;
		m->changed = true;
	}
	return rc;
}

/* The row claims another number than before, or the same one later: what its table shows stays
 * until the projection. */
static int claim_moved(struct merging *m, bool in_table, int64_t before)
{
	struct p2p_rowwork *work = &m->merge->work;
	struct p2p_numbers *numbers = &m->target->numbers;
	int64_t shown;
	int rc = p2p_numbers_shown(numbers, work->key.data, work->key.len, before, &shown);

	if (!rc && in_table && shown != work->number)
		rc = p2p_numbers_note(numbers, work->key.data, work->key.len, shown);
	if (!rc)
		rc = p2p_numbers_touch(numbers, before);
	return rc ? rc : p2p_numbers_touch(numbers, work->number);
}

static int row_alive(struct merging *m)
{
	struct p2p_rowwork *work = &m->merge->work;
	struct p2p_rowstate *state = &work->state;
	const struct p2p_table *table = m->target->table;
	bool complete = p2p_numbers_complete(table, state), in_table;
	int64_t number = work->number;
	uint64_t life = state->causal_length;
	int rc = 0;

	if (m->record.causal_length > life) {
		complete = false;
		rc = life_begin(m);
	}
	in_table = complete && !(state->flags & P2P_ROW_PARKED);
	if (!rc)
		rc = p2p_rowstate_resize(state, table->slot_count);
	if (!rc)
		rc = record_cells(m);
	if (!rc)
		rc = row_born(m);
	if (rc || !m->changed)
		return rc;
	m->target->touched = true;
	if (m->claimed && complete)
		rc = claim_moved(m, in_table, number);
	if (!rc)
		rc = p2p_rowwork_place(work, m->target, in_table);
	if (!rc && table->generated_identity && !complete && p2p_numbers_complete(table, state))
		rc = p2p_numbers_check(&m->target->numbers, &work->identity, work->number);
	return rc ? rc : p2p_rowwork_save(work, m->target);
}

static int row_merge(struct merging *m)
{
	struct p2p_rowwork *work = &m->merge->work;
	int rc = p2p_rowwork_load(work, m->target, &m->record.identity);

	if (rc)
		return rc;
	if (m->record.causal_length < work->state.causal_length) {
		m->counts->cells_lost += m->record.cell_count;
		return 0;
	}
	return m->record.causal_length % 2 ? row_alive(m) : row_dead(m);
}

/* --- records --------------------------------------------------------------------------------- */

/* The identity must be one of this table, in its one form. */
static int identity_fits(struct merging *m, bool *out)
{
	const struct p2p_table *table = m->target->table;
	const struct p2p_identity *identity = &m->record.identity;
	struct p2p_value values[P2P_KEY_COLUMNS_MAX];
	struct p2p_buf *scratch = &m->merge->scratch;
	int rc;

	*out = table->generated_identity == (identity->kind != P2P_IDENTITY_KEY);
	if (!*out || table->generated_identity)
		return 0;
	*out = false;
	rc = p2p_identity_key_values(table, identity->key, identity->key_len, values);
	if (rc)
		return rc == P2P_EPROTO ? 0 : rc;
	p2p_buf_reset(scratch);
	rc = p2p_identity_of_key(scratch, table, values);
	*out = rc == 0 && scratch->len == identity->key_len &&
	       memcmp(scratch->data, identity->key, identity->key_len) == 0;
	return rc == P2P_IDENTITY_NULL_KEY ? 0 : rc;
}

static int record_clock(struct merging *m)
{
	const struct p2p_header *header = m->source->header;

	if (m->record.origin > header->origin_count)
		return P2P_EPROTO;
	m->clock.stamp = header->stamp;
	m->clock.replica = header->replica;
	if (m->record.origin) {
		m->clock.stamp = header->origins[m->record.origin - 1].stamp;
		m->clock.replica = header->origins[m->record.origin - 1].replica;
	}
	return m->clock.stamp.value ? 0 : P2P_EPROTO; /* 0 says "never written" */
}

static int record_merge(struct merging *m)
{
	const struct p2p_header *header = m->source->header;
	const struct p2p_schema_ref *ref;
	struct merge_entry *entry;
	bool fits = false;
	int rc = record_clock(m);

	if (!rc && m->record.table >= header->table_count)
		rc = P2P_EPROTO;
	if (rc)
		return rc;
	ref = &header->tables[m->record.table];
	entry = &m->merge->entries[m->record.table];
	if (!entry->known)
		rc = entry_lookup(m->merge, ref, entry);
	m->target = entry->target;
	if (!rc && m->target && entry->map != UINT32_MAX) {
		m->map = &m->merge->maps[entry->map];
		rc = identity_fits(m, &fits);
	}
	if (!rc && fits)
		rc = p2p_store_replica_number(m->merge->config.store, &m->clock.replica,
					      &m->replica);
	if (!rc && fits)
		rc = row_merge(m);
	if (!rc && (!fits || m->wait || m->record.yield_count))
		rc = merging_wait(m, ref);
	return rc;
}

static int record_apply(struct p2p_merge *merge, const struct p2p_merge_source *source,
			struct p2p_merge_counts *counts, const uint8_t *data, size_t len)
{
	struct merging m;
	int rc;

	memset(&m, 0, sizeof(m));
	m.merge = merge;
	m.source = source;
	m.counts = counts;
	m.raw = data;
	m.raw_len = len;
	counts->records++;
	rc = p2p_record_read(&m.record, merge->cells, P2P_COLUMNS_MAX, data, len);
	if (rc != P2P_RECORD_UNKNOWN)
		return rc ? rc : record_merge(&m);
	m.clock.stamp = source->header->stamp;
	m.clock.replica = source->header->replica;
	return merging_wait(&m, NULL);
}

static void counts_take(struct p2p_merge *merge, struct p2p_merge_counts *counts)
{
	size_t i;

	for (i = 0; i < merge->target_count; i++) {
		counts->rows += merge->targets[i]->rows;
		counts->parked += merge->targets[i]->parked;
		merge->targets[i]->rows = merge->targets[i]->parked = 0;
	}
}

static int merge_error(struct p2p_merge *merge, struct p2p_error *err, int rc, const char *what)
{
	if (rc == P2P_EIO || rc == P2P_EFULL || rc == P2P_ECORRUPT || rc == P2P_EBUSY)
		return p2p_error_set(err, rc, "%s: %s (%s)", what, p2p_strerror(rc),
				     sqlite3_errmsg(p2p_store_db(merge->config.store)));
	return p2p_error_set(err, rc, "%s: %s", what, p2p_strerror(rc));
}

int p2p_merge_apply(struct p2p_merge *merge, const struct p2p_merge_source *source,
		    struct p2p_merge_counts *counts, struct p2p_error *err)
{
	const struct p2p_header *header = source->header;
	struct p2p_merge_counts own;
	struct p2p_merged entry;
	const uint8_t *data = NULL;
	size_t len = 0;
	int rc;

	p2p_require(p2p_store_in_transaction(merge->config.store));
	memset(&own, 0, sizeof(own));
	rc = merge_refresh(merge);
	if (!rc)
		rc = entries_begin(merge, header->table_count);
	while (!rc) {
		rc = source->next(source->ctx, &data, &len);
		if (rc || !data)
			break;
		rc = record_apply(merge, source, counts ? counts : &own, data, len);
	}
	if (!rc) {
		entry.replica = header->replica;
		entry.seq = header->seq;
		entry.head = source->hash;
		entry.stamp = header->stamp;
		rc = p2p_store_vector_set(merge->config.store, &entry);
	}
	counts_take(merge, counts ? counts : &own);
	return rc ? merge_error(merge, err, rc, "merge a changeset") : 0;
}

int p2p_merge_touch_number(struct p2p_merge *merge, struct p2p_table *table, int64_t number)
{
	struct p2p_target *target;
	int rc;

	p2p_require(table->generated_identity);
	rc = merge_refresh(merge);
	if (!rc)
		rc = target_get(merge, table, &target);
	if (rc)
		return rc;
	target->numbers.sweep = true;
	target->touched = true;
	return p2p_numbers_touch(&target->numbers, number);
}

int p2p_merge_touch_table(struct p2p_merge *merge, struct p2p_table *table)
{
	struct p2p_target *target;
	int rc = merge_refresh(merge);

	if (!rc)
		rc = target_get(merge, table, &target);
	if (!rc)
		target->touched = true;
	return rc;
}

static int target_finish(struct p2p_merge *merge, struct p2p_target *target)
{
	int rc = p2p_numbers_project(&target->numbers);

	if (!rc && target->touched)
		rc = p2p_parked_retry(&merge->work, target);
	/* A row that came back may have found its number held by one that no trigger saw. */
	return rc ? rc : p2p_numbers_project(&target->numbers);
}

int p2p_merge_finish(struct p2p_merge *merge, struct p2p_error *err)
{
	size_t i;
	int rc = 0;

	p2p_require(p2p_store_in_transaction(merge->config.store));
	for (i = 0; i < merge->target_count && !rc; i++)
		rc = target_finish(merge, merge->targets[i]);
	return rc ? merge_error(merge, err, rc, "project merged rows") : 0;
}
