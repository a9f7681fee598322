/* What lost in a merge; see conflicts.h. */
#include "crdt/conflicts.h"

#include <sodium.h>
#include <sqlite3.h>
#include <string.h>

#include "crdt/counters.h"
#include "crdt/hlc.h"
#include "crdt/parked.h"
#include "crdt/store_private.h"
#include "proto/check.h"
#include "proto/json.h"
#include "proto/mem.h"

/* --- values as JSON ----------------------------------------------------------------------------
 */

static void put_bytes(struct p2p_json *json, const struct p2p_value *value)
{
	size_t size = sodium_base64_ENCODED_LEN(value->len, sodium_base64_VARIANT_ORIGINAL);
	char *text = p2p_malloc(size);

	if (!text) {
		json->out->error = P2P_ENOMEM;
		return;
	}
	(void)sodium_bin2base64(text, size, value->bytes, value->len,
				sodium_base64_VARIANT_ORIGINAL);
	p2p_json_begin_object(json);
	p2p_json_put_string(json, "blob", text);
	p2p_json_end_object(json);
	p2p_free(text);
}

static void put_real(struct p2p_json *json, double real)
{
	char text[64];
	bool finite = real - real == 0;

	(void)sqlite3_snprintf(sizeof(text), text, "%!.17g", real);
	if (finite)
		p2p_json_raw(json, text, strlen(text));
	else
		p2p_json_string(json, real > 0 ? "Infinity" : "-Infinity");
}

static void put_value(struct p2p_json *json, const struct p2p_value *value)
{
	switch (value->type) {
	case P2P_NULL:
		p2p_json_null(json);
		return;
	case P2P_INTEGER:
		p2p_json_i64(json, value->integer);
		return;
	case P2P_REAL:
		put_real(json, value->real);
		return;
	case P2P_TEXT:
		if (p2p_json_text_fits(value->bytes, value->len))
			p2p_json_text(json, value->bytes, value->len);
		else
			put_bytes(json, value);
		return;
	case P2P_BLOB:
		put_bytes(json, value);
	}
}

/* --- an entry in the making --------------------------------------------------------------------
 */

struct entry {
	const char *kind;
	struct p2p_clock origin;   /* of the lost side */
	struct p2p_buf kept, lost; /* JSON */
	struct p2p_json kept_json, lost_json;
	struct p2p_cells cells; /* lost ones, borrowed */
	size_t count;
};

static int entry_init(struct entry *entry, const struct p2p_table *table, const char *kind)
{
	memset(entry, 0, sizeof(*entry));
	entry->kind = kind;
	p2p_buf_init(&entry->kept, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&entry->lost, P2P_RECORD_BYTES_MAX);
	p2p_json_init(&entry->kept_json, &entry->kept);
	p2p_json_init(&entry->lost_json, &entry->lost);
	p2p_json_begin_object(&entry->kept_json);
	p2p_json_begin_object(&entry->lost_json);
	p2p_cells_init(&entry->cells);
	return p2p_cells_reset(&entry->cells, table->column_count);
}

static void entry_deinit(struct entry *entry)
{
	p2p_buf_deinit(&entry->kept);
	p2p_buf_deinit(&entry->lost);
	p2p_cells_deinit(&entry->cells);
}

static void entry_lose(struct entry *entry, const struct p2p_table *table, uint32_t column,
		       const struct p2p_value *value)
{
	p2p_json_key(&entry->lost_json, table->columns[column].name);
	put_value(&entry->lost_json, value);
	p2p_cells_set(&entry->cells, column, value);
	entry->count++;
}

static void entry_keep(struct entry *entry, const struct p2p_table *table, uint32_t column,
		       const struct p2p_value *value)
{
	p2p_json_key(&entry->kept_json, table->columns[column].name);
	put_value(&entry->kept_json, value);
}

static int json_row(struct p2p_rowwork *work, struct p2p_target *target, struct p2p_buf *out)
{
	const struct p2p_table *table = target->table;
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	struct p2p_json json;
	uint32_t i;
	int rc = p2p_rowwork_key(work, target, key);

	if (rc)
		return rc;
	p2p_json_init(&json, out);
	p2p_json_begin_object(&json);
	for (i = 0; i < table->key_count; i++) {
		p2p_json_key(&json, table->columns[table->key[i]].name);
		put_value(&json, &key[i]);
	}
	p2p_json_end_object(&json);
	return p2p_buf_error(out);
}

static void origin_text(const struct p2p_authority *authority, const struct p2p_id *replica,
			char out[2 * P2P_KEY_BYTES + 1])
{
	struct p2p_key node;

	if (authority && p2p_authority_replica_node(authority, replica, &node) == 0)
		p2p_hex(out, node.bytes, P2P_KEY_BYTES);
	else
		p2p_hex(out, replica->bytes, P2P_ID_BYTES);
}

static bool bind_text(sqlite3_stmt *stmt, int at, const char *text, size_t len)
{
	return sqlite3_bind_text64(stmt, at, text, len, SQLITE_STATIC, SQLITE_UTF8) == SQLITE_OK;
}

static int entry_bind(struct p2p_rowmerge *m, const struct entry *entry, sqlite3_stmt *stmt,
		      const struct p2p_buf *row, const struct p2p_buf *cells, const char *origin)
{
	const struct p2p_table *table = m->target->table;
	uint64_t ms = p2p_hlc_ms(entry->origin.stamp);
	bool ok =
		bind_text(stmt, 1, entry->kind, strlen(entry->kind)) &&
		sqlite3_bind_int64(stmt, 2, table->number) == SQLITE_OK &&
		bind_text(stmt, 3, table->name, strlen(table->name)) &&
		sqlite3_bind_blob64(stmt, 4, m->work->key.data, m->work->key.len, SQLITE_STATIC) ==
			SQLITE_OK &&
		bind_text(stmt, 5, (const char *)row->data, row->len) &&
		bind_text(stmt, 6, (const char *)entry->kept.data, entry->kept.len) &&
		bind_text(stmt, 7, (const char *)entry->lost.data, entry->lost.len) &&
		sqlite3_bind_blob64(stmt, 8, cells->data, cells->len, SQLITE_STATIC) == SQLITE_OK &&
		bind_text(stmt, 9, origin, strlen(origin)) &&
		sqlite3_bind_int64(stmt, 10, (int64_t)ms) == SQLITE_OK &&
		sqlite3_bind_int64(stmt, 11, (int64_t)p2p_env_wall_ms(m->store->env)) ==
			SQLITE_OK &&
		(!table->generated_identity ||
		 sqlite3_bind_int64(stmt, 12, m->spare->number) == SQLITE_OK);

	return ok ? 0 : P2P_ENOMEM;
}

static int trim(struct p2p_store *store)
{
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(store, P2P_SQL_CONFLICT_TRIM, &stmt);

	if (!rc && sqlite3_bind_int64(stmt, 1, P2P_CONFLICTS_MAX) != SQLITE_OK)
		rc = P2P_ENOMEM;
	return rc ? rc : p2p_store_run(store, stmt, "forget a conflict of");
}

static int entry_store(struct p2p_rowmerge *m, struct entry *entry)
{
	char origin[2 * P2P_KEY_BYTES + 1];
	struct p2p_buf row, cells;
	sqlite3_stmt *stmt;
	int rc;

	if (!entry->count)
		return 0;
	p2p_json_end_object(&entry->kept_json);
	p2p_json_end_object(&entry->lost_json);
	p2p_buf_init(&row, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&cells, P2P_RECORD_BYTES_MAX);
	origin_text(m->authority, &entry->origin.replica, origin);
	rc = p2p_buf_error(&entry->kept);
	if (!rc)
		rc = p2p_buf_error(&entry->lost);
	if (!rc)
		rc = json_row(m->spare, m->target, &row);
	p2p_parked_encode(&cells, m->target->table, &entry->cells);
	if (!rc)
		rc = p2p_buf_error(&cells);
	if (!rc)
		rc = p2p_store_statement(m->store, P2P_SQL_CONFLICT_PUT, &stmt);
	if (!rc)
		rc = entry_bind(m, entry, stmt, &row, &cells, origin);
	if (!rc)
		rc = p2p_store_run(m->store, stmt, "list a conflict in");
	p2p_buf_deinit(&row);
	p2p_buf_deinit(&cells);
	/* one that is too big to be shown is not listed: the merge goes on */
	if (rc == P2P_ETOOBIG)
		rc = 0;
	return rc ? rc : trim(m->store);
}

/* --- what lost ---------------------------------------------------------------------------------
 */

void p2p_conflicts_note(struct p2p_rowmerge *m, uint32_t column, const struct p2p_value *value,
			bool incoming)
{
	const struct p2p_cellstate *cell =
		&m->work->state.cells[m->target->table->columns[column].slot];
	struct p2p_lost_cell *lost;

	if (!m->seen ||
	    (!incoming && p2p_seen_covers(m->seen, m->replica, cell->replica, cell->stamp)))
		return;
	lost = &m->lost[m->lost_count++]; /* room for all columns: each comes once */
	lost->column = column;
	lost->incoming = incoming;
	lost->value = *value;
	lost->stamp = cell->stamp;
	lost->replica = cell->replica;
}

/* The row as it is in the store, into spare. One that an INSERT OR REPLACE pushed out is gone
 * already: nothing of it is there to be listed. */
static int load_stored(struct p2p_rowmerge *m)
{
	const struct p2p_table *table = m->target->table;
	struct p2p_rowwork *spare = m->spare;
	int rc = p2p_rowwork_load_key(spare, m->target, m->work->key.data, m->work->key.len);

	if (rc || !p2p_rowstate_alive(&spare->state))
		return rc;
	rc = p2p_rowwork_gather(spare, m->target,
				p2p_numbers_complete(table, &spare->state) &&
					!(spare->state.flags & P2P_ROW_PARKED));
	return rc == P2P_ECORRUPT ? 0 : rc;
}

static int later_origin(const struct p2p_rowmerge *m, struct entry *entry, uint64_t stamp,
			uint32_t replica)
{
	const struct p2p_id *id = p2p_store_replica_id(m->store, replica);
	struct p2p_clock clock = {.stamp = {stamp}};

	if (!id)
		return P2P_ECORRUPT;
	clock.replica = *id;
	if (p2p_clock_cmp(&clock, &entry->origin) > 0)
		entry->origin = clock;
	return 0;
}

/* Those cells of which the record's side lost, or those of which the stored side did. */
static int cells_of(struct p2p_rowmerge *m, bool incoming)
{
	const struct p2p_table *table = m->target->table;
	struct entry entry;
	size_t i;
	int rc = entry_init(&entry, table, "cell");

	if (incoming)
		entry.origin = m->clock;
	for (i = 0; i < m->lost_count && !rc; i++) {
		const struct p2p_lost_cell *lost = &m->lost[i];
		const struct p2p_value *stored = &m->spare->cells.values[lost->column];

		if (lost->incoming != incoming || !m->spare->cells.set[lost->column] ||
		    p2p_value_equal(stored, &lost->value))
			continue;
		entry_lose(&entry, table, lost->column, incoming ? &lost->value : stored);
		entry_keep(&entry, table, lost->column, incoming ? stored : &lost->value);
		if (!incoming)
			rc = later_origin(m, &entry, lost->stamp, lost->replica);
	}
	if (!rc)
		rc = entry_store(m, &entry);
	entry_deinit(&entry);
	return rc;
}

int p2p_conflicts_cells(struct p2p_rowmerge *m)
{
	int rc;

	if (!m->lost_count)
		return 0;
	rc = load_stored(m);
	if (!rc)
		rc = cells_of(m, true);
	if (!rc)
		rc = cells_of(m, false);
	m->lost_count = 0;
	return rc;
}

/* What others counted: the cell's clock is only that of the youngest. */
static int unseen_counted(struct p2p_rowmerge *m, struct entry *entry)
{
	const struct p2p_counter *counter;
	size_t i;
	int rc = p2p_counters_of(m);

	for (i = 0; i < m->counters->count && !rc; i++) {
		counter = &m->counters->items[i];
		if (counter->replica > 0 &&
		    !p2p_seen_covers(m->seen, m->replica, (uint32_t)counter->replica,
				     counter->stamp))
			rc = later_origin(m, entry, counter->stamp, (uint32_t)counter->replica);
	}
	return rc;
}

/* The youngest cell that the record's author had not seen; entry->origin stays zero without one. */
static int unseen_origin(struct p2p_rowmerge *m, struct entry *entry)
{
	const struct p2p_rowstate *state = &m->work->state;
	uint32_t i;
	int rc = 0;

	for (i = 0; i < state->cell_count && !rc; i++) {
		const struct p2p_cellstate *cell = &state->cells[i];

		if (cell->stamp &&
		    !p2p_seen_covers(m->seen, m->replica, cell->replica, cell->stamp))
			rc = later_origin(m, entry, cell->stamp, cell->replica);
	}
	if (!rc && m->target->table->counters)
		rc = unseen_counted(m, entry);
	if (!rc && state->stamp &&
	    !p2p_seen_covers(m->seen, m->replica, state->replica, state->stamp))
		rc = later_origin(m, entry, state->stamp, state->replica);
	return rc;
}

int p2p_conflicts_life(struct p2p_rowmerge *m)
{
	const struct p2p_table *table = m->target->table;
	struct entry entry;
	uint32_t i;
	int rc;

	if (!m->seen || !p2p_rowstate_alive(&m->work->state))
		return 0;
	rc = entry_init(&entry, table, "delete");
	if (!rc)
		rc = unseen_origin(m, &entry);
	if (!rc && entry.origin.stamp.value)
		rc = load_stored(m);
	for (i = 0; i < table->column_count && !rc && entry.origin.stamp.value; i++)
		if (m->spare->cells.set[i] && table->columns[i].slot != UINT32_MAX)
			entry_lose(&entry, table, i, &m->spare->cells.values[i]);
	if (!rc)
		rc = entry_store(m, &entry);
	entry_deinit(&entry);
	return rc;
}

int p2p_conflicts_late(struct p2p_rowmerge *m)
{
	const struct p2p_table *table = m->target->table;
	const struct p2p_record *record = m->record;
	struct entry entry;
	size_t i;
	int rc;

	if (!m->seen || record->causal_length % 2 == 0)
		return 0;
	rc = entry_init(&entry, table, "delete");
	entry.origin = m->clock;
	if (!rc)
		rc = load_stored(m);
	for (i = 0; i < record->cell_count && !rc; i++) {
		const struct p2p_cell *cell = &record->cells[i];
		uint32_t column = cell->column < m->map->count ? m->map->columns[cell->column]
							       : P2P_SCHEMAMAP_NONE;

		/* of a counter: what its author had added up in that life */
		if (column < table->column_count &&
		    (cell->tag == P2P_CELL_VALUE || cell->tag == P2P_CELL_COUNTER))
			entry_lose(&entry, table, column, &cell->value);
	}
	if (!rc)
		rc = entry_store(m, &entry);
	entry_deinit(&entry);
	return rc;
}

/* --- what is parked ----------------------------------------------------------------------------
 */

/* The youngest write of the row. */
static int youngest(const struct p2p_rowwork *work, const struct p2p_target *target,
		    struct p2p_clock *out)
{
	const struct p2p_rowstate *state = &work->state;
	uint64_t stamp = state->stamp;
	uint32_t replica = state->replica, i;
	const struct p2p_id *id;

	for (i = 0; i < state->cell_count; i++)
		if (state->cells[i].stamp > stamp) {
			stamp = state->cells[i].stamp;
			replica = state->cells[i].replica;
		}
	id = p2p_store_replica_id(target->store, replica);
	if (!id)
		return P2P_ECORRUPT;
	out->stamp.value = stamp;
	out->replica = *id;
	return 0;
}

static int parked_tell(struct p2p_rowwork *work, struct p2p_target *target,
		       const struct p2p_buf *row, const struct p2p_buf *lost, const char *origin,
		       uint64_t ms)
{
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(target->store, P2P_SQL_PARKED_TELL, &stmt);

	if (rc)
		return rc;
	if (sqlite3_bind_int64(stmt, 1, target->table->number) != SQLITE_OK ||
	    sqlite3_bind_blob64(stmt, 2, work->key.data, work->key.len, SQLITE_STATIC) !=
		    SQLITE_OK ||
	    !bind_text(stmt, 3, (const char *)row->data, row->len) ||
	    !bind_text(stmt, 4, (const char *)lost->data, lost->len) ||
	    !bind_text(stmt, 5, origin, strlen(origin)) ||
	    sqlite3_bind_int64(stmt, 6, (int64_t)ms) != SQLITE_OK)
		return P2P_ENOMEM;
	return p2p_store_run(target->store, stmt, "list a parked row of");
}

int p2p_conflicts_parked(struct p2p_rowwork *work, struct p2p_target *target,
			 const struct p2p_authority *authority)
{
	const struct p2p_table *table = target->table;
	char origin[2 * P2P_KEY_BYTES + 1];
	struct p2p_clock clock;
	struct p2p_buf row;
	struct entry entry;
	uint32_t i;
	int rc = entry_init(&entry, table, "");

	p2p_buf_init(&row, P2P_RECORD_BYTES_MAX);
	if (!rc)
		rc = youngest(work, target, &clock);
	for (i = 0; i < table->column_count && !rc; i++)
		if (work->cells.set[i] && table->columns[i].slot != UINT32_MAX)
			entry_lose(&entry, table, i, &work->cells.values[i]);
	p2p_json_end_object(&entry.lost_json);
	if (!rc)
		rc = p2p_buf_error(&entry.lost);
	if (!rc)
		rc = json_row(work, target, &row);
	if (!rc) {
		origin_text(authority, &clock.replica, origin);
		rc = parked_tell(work, target, &row, &entry.lost, origin, p2p_hlc_ms(clock.stamp));
	}
	p2p_buf_deinit(&row);
	entry_deinit(&entry);
	/* one that is too big to be shown is not listed: it is parked all the same */
	return rc == P2P_ETOOBIG || rc == P2P_ENOENT ? 0 : rc;
}
