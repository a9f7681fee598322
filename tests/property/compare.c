/* Comparisons; see compare.h. */
#include "tests/property/compare.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "crdt/apptable.h"
#include "crdt/unique.h"
#include "proto/check.h"

#define TABLES_MAX 16

void compare_constraints(struct p2p_store *store, struct twin_table *twin)
{
	struct p2p_table *table = p2p_store_table_by_name(store, twin->name);
	struct p2p_uniques uniques;
	struct p2p_apptable app;
	size_t u, i, c;

	p2p_require(table && p2p_apptable_init(&app, store, table) == 0 &&
		    p2p_uniques_init(&uniques, &app) == 0);
	for (u = 0; u < TWIN_UNIQUES_MAX; u++)
		for (i = 0; i < uniques.count; i++) {
			uint32_t columns = 0;

			for (c = 0; c < uniques.items[i].count; c++)
				columns |= 1u << uniques.items[i].columns[c];
			if (columns == (twin->uniques[u].columns | twin->uniques[u].clocks))
				twin->uniques[u].id = uniques.items[i].id;
		}
	p2p_uniques_deinit(&uniques);
	p2p_apptable_deinit(&app);
}

static bool clock_is(struct p2p_store *store, uint64_t stamp, uint32_t replica,
		     const struct p2p_clock *clock)
{
	const struct p2p_id *id = p2p_store_replica_id(store, replica);

	return stamp == clock->stamp.value &&
	       (!stamp || (id && p2p_id_cmp(id, &clock->replica) == 0));
}

static const char *compare_alive(struct p2p_store *store, const struct twin_row *row,
				 const struct p2p_table *table, const struct p2p_rowstate *state)
{
	uint32_t i;

	if (((state->flags & P2P_ROW_BORN) != 0) != row->born)
		return "birth differs from the twin";
	if (((state->flags & P2P_ROW_PARKED) == 0) != row->shown)
		return "parking differs from the twin";
	for (i = 0; i < row->table->column_count; i++) {
		const struct p2p_cellstate *cell = &state->cells[table->columns[i].slot];

		if (row->table->counters >> i & 1)
			continue; /* its totals have clocks of their own; what it shows is compared
				   */
		if (!clock_is(store, cell->stamp, cell->replica, &row->cells[i].clock))
			return "cell clock differs from the twin";
	}
	return NULL;
}

static const char *compare_state(struct p2p_store *store, const struct twin_row *row,
				 const struct kit_key *key, struct compare_counts *counts)
{
	const struct p2p_table *table = p2p_store_table_by_name(store, row->table->name);
	struct p2p_rowstate state;
	int64_t number = 0, shown = 0;
	const char *differs = NULL;
	bool temporary;

	p2p_rowstate_init(&state);
	if (p2p_store_row_get(store, table, key->bytes, key->len, &state, &number))
		differs = "a row of the twin has no state";
	else if (state.causal_length != row->causal_length)
		differs = "causal length differs from the twin";
	else if (!clock_is(store, state.stamp, state.replica, &row->clock))
		differs = "row clock differs from the twin";
	else if (p2p_rowstate_alive(&state))
		differs = compare_alive(store, row, table, &state);
	counts->parked += p2p_rowstate_alive(&state) && !row->shown;
	temporary = p2p_store_temp_get(store, table, key->bytes, key->len, &shown) == 0;
	if (!differs && temporary != (row->temporary && row->complete))
		differs = "who has a temporary number differs from the twin";
	if (!differs && temporary && shown != row->number)
		differs = "temporary number differs from the twin";
	counts->temporary += temporary;
	p2p_rowstate_deinit(&state);
	return differs;
}

static const char *compare_row(const struct twin_row *row, struct p2p_apptable *app)
{
	const struct p2p_table *table = app->table;
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	const char *differs = NULL;
	struct p2p_cells cells;
	uint32_t i;

	for (i = 0; i < table->key_count; i++)
		key[i] = row->seen[table->key[i]];
	p2p_cells_init(&cells);
	if (p2p_apptable_read(app, key, &cells))
		differs = "a row that the twin shows is not in the table";
	for (i = 0; !differs && i < row->table->column_count; i++)
		if (!p2p_value_equal(&row->seen[i], &cells.values[i]))
			differs = "a value differs from the twin";
	p2p_store_row_done(app->store);
	p2p_cells_deinit(&cells);
	return differs;
}

static const char *compare_keys(struct p2p_apptable *apps, const struct twin *twin,
				const struct compare_keys *keys, struct compare_counts *counts,
				size_t *shown)
{
	const char *differs = NULL;
	size_t i, known = 0;

	for (i = 0; !differs && i < keys->count; i++) {
		const struct kit_key *key = &keys->keys[i];
		struct p2p_identity identity;
		struct p2p_reader reader;
		const struct twin_row *row;

		p2p_reader_init(&reader, key->bytes, key->len);
		p2p_identity_read(&reader, &identity);
		row = twin_find(twin, key->table, &identity);
		if (!row)
			continue;
		known++;
		differs = compare_state(apps[key->table].store, row, key, counts);
		if (!differs && row->shown)
			differs = compare_row(row, &apps[key->table]);
		shown[key->table] += row->shown;
	}
	return !differs && known != twin->count ? "the twin knows other rows" : differs;
}

static size_t table_rows(struct p2p_store *store, const char *name)
{
	sqlite3_stmt *stmt = NULL;
	size_t rows = SIZE_MAX;
	char sql[64];

	(void)snprintf(sql, sizeof(sql), "SELECT count(*) FROM \"%s\"", name);
	if (sqlite3_prepare_v2(p2p_store_db(store), sql, -1, &stmt, NULL) == SQLITE_OK &&
	    sqlite3_step(stmt) == SQLITE_ROW)
		rows = (size_t)sqlite3_column_int64(stmt, 0);
	(void)sqlite3_finalize(stmt);
	return rows;
}

const char *compare_with_twin(struct p2p_store *store, const struct twin *twin,
			      const struct compare_keys *keys, struct compare_counts *counts)
{
	struct p2p_apptable apps[TABLES_MAX];
	size_t shown[TABLES_MAX] = {0}, i, opened = 0;
	const char *differs = NULL;

	p2p_require(twin->table_count <= TABLES_MAX);
	for (; !differs && opened < twin->table_count; opened++) {
		struct p2p_table *table = p2p_store_table_by_name(store, twin->tables[opened].name);

		if (!table || p2p_apptable_init(&apps[opened], store, table))
			return "a table of the twin is not here";
	}
	differs = compare_keys(apps, twin, keys, counts, shown);
	for (i = 0; i < opened; i++) {
		if (!differs && table_rows(store, twin->tables[i].name) != shown[i])
			differs = "the table has rows that the twin does not show";
		counts->shown += shown[i];
		p2p_apptable_deinit(&apps[i]);
	}
	return differs;
}
