/* Changesets become rows: clocks decide here, places are found in rowwork.c; see merge.h. */
#include "crdt/merge.h"

#include <sqlite3.h>
#include <string.h>

#include "crdt/conflicts.h"
#include "crdt/counters.h"
#include "crdt/follow.h"
#include "crdt/hlc.h"
#include "crdt/rowmerge.h"
#include "crdt/triggers.h"
#include "crdt/valuekeys.h"
#include "proto/check.h"
#include "proto/mem.h"

#define MERGE_MAPS_MAX 256 /* schema records whose columns are known at once */

/* An entry of the header's dictionary of tables, looked up when first used. */
struct merge_entry {
	struct p2p_target *target; /* NULL: not here */
	uint32_t map;		   /* index into maps; UINT32_MAX: none */
	bool known, gone; /* gone: the application dropped it; all is merged if it returns */
};

struct p2p_merge {
	struct p2p_merge_config config;
	struct p2p_target **targets; /* owned */
	size_t target_count;
	struct p2p_schemamap *maps; /* owned */
	const struct p2p_table **map_tables;
	size_t map_count;
	struct p2p_cell *cells;	    /* owned: of the record that is being merged */
	struct p2p_lost_cell *lost; /* owned */
	struct p2p_seen seen;
	bool again; /* what is merged was merged before */
	struct p2p_rowwork work, spare;
	struct p2p_settle settle;
	struct p2p_counters counters;
	struct p2p_buf scratch, texts;
	struct merge_entry *entries; /* owned: of the changeset that is being merged */
	size_t entry_cap;
	struct sqlite3_stmt *version; /* owned */
	int64_t schema_version;
	bool schema_moved;		     /* other rows may be shown under another schema */
	const struct p2p_table *first_table; /* to notice a reload of the store */
};

static int settle_target(void *ctx, struct p2p_table *table, struct p2p_target **out);

int p2p_merge_new(const struct p2p_merge_config *config, struct p2p_merge **out)
{
	struct p2p_merge *merge = p2p_calloc(1, sizeof(*merge));

	if (!merge)
		return P2P_ENOMEM;
	merge->config = *config;
	merge->cells = p2p_calloc(P2P_COLUMNS_MAX, sizeof(*merge->cells));
	merge->lost = p2p_calloc(P2P_COLUMNS_MAX, sizeof(*merge->lost));
	p2p_seen_init(&merge->seen);
	merge->maps = p2p_calloc(MERGE_MAPS_MAX, sizeof(*merge->maps));
	merge->map_tables = p2p_calloc(MERGE_MAPS_MAX, sizeof(*merge->map_tables));
	p2p_rowwork_init(&merge->work);
	p2p_rowwork_init(&merge->spare);
	p2p_buf_init(&merge->scratch, P2P_RECORD_BYTES_MAX);
	p2p_buf_init(&merge->texts, (size_t)P2P_COLUMNS_MAX * P2P_NUMBER_TEXT_BYTES);
	if (p2p_settle_init(&merge->settle, config->store) || !merge->cells || !merge->lost ||
	    !merge->maps || !merge->map_tables) {
		p2p_merge_free(merge);
		return P2P_ENOMEM;
	}
	merge->settle.target = settle_target;
	merge->settle.ctx = merge;
	merge->settle.authority = config->authority;
	*out = merge;
	return 0;
}

static void target_free(struct p2p_target *target)
{
	size_t i;

	for (i = 0; i < target->child_count; i++)
		(void)sqlite3_finalize(target->children[i].find); /* seen at the steps */
	p2p_free(target->children);
	p2p_valuekeys_deinit(target);
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
	p2p_settle_clear(&merge->settle);
	for (i = 0; i < merge->map_count; i++)
		p2p_schemamap_deinit(&merge->maps[i]);
	merge->map_count = 0;
	p2p_seen_deinit(&merge->seen);
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
	p2p_settle_deinit(&merge->settle);
	p2p_counters_deinit(&merge->counters);
	p2p_buf_deinit(&merge->scratch);
	p2p_buf_deinit(&merge->texts);
	p2p_free(merge->cells);
	p2p_free(merge->lost);
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

	/* without its tables everything would seem to wait for them */
	p2p_require(p2p_store_enabled(store));
	if (!rc)
		rc = p2p_triggers_refresh(store);
	if (rc)
		return rc;
	if (p2p_store_table_count(store))
		first = p2p_store_table(store, 0);
	if (version == merge->schema_version && first == merge->first_table)
		return 0;
	p2p_merge_reset(merge);
	merge->schema_version = version;
	merge->first_table = first;
	merge->schema_moved = true;
	return 0;
}

/* Columns of all tables that refer to this one. */
static int target_children(struct p2p_target *target)
{
	struct p2p_child_column *grown;
	size_t i;
	uint32_t j;

	for (i = 0; i < p2p_store_table_count(target->store); i++) {
		struct p2p_table *table = p2p_store_table(target->store, i);

		for (j = 0; j < table->reference_count; j++) {
			if (p2p_id_cmp(&table->references[j].parent, &target->table->id) != 0)
				continue;
			grown = p2p_realloc(target->children,
					    (target->child_count + 1) * sizeof(*grown));
			if (!grown)
				return P2P_ENOMEM;
			target->children = grown;
			memset(&grown[target->child_count], 0, sizeof(*grown));
			grown[target->child_count].table = table;
			grown[target->child_count++].reference = j;
			target->stands_in |= table->references[j].instead == P2P_INSTEAD_NUMBER;
		}
	}
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
	target->settle = &merge->settle;
	rc = p2p_apptable_init(&target->app, merge->config.store, table);
	p2p_numbers_init(&target->numbers, &target->app, merge->config.log);
	target->numbers.moving = p2p_follow_moving;
	target->numbers.given = p2p_conflicts_number;
	target->numbers.ctx = target;
	if (!rc)
		rc = p2p_uniques_init(&target->uniques, &target->app);
	if (!rc)
		rc = target_children(target);
	if (!rc)
		rc = p2p_valuekeys_init(target);
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

static int settle_target(void *ctx, struct p2p_table *table, struct p2p_target **out)
{
	return target_get(ctx, table, out);
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
	/* unknown, or of another table: the same for a node that will know it only later */
	if (rc == P2P_ENOENT || rc == P2P_EPROTO)
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
	entry->gone = table && !p2p_table_here(table);
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

/* --- records --------------------------------------------------------------------------------- */

/* A record as it came, of a changeset. */
struct raw_record {
	struct p2p_merge *merge;
	const struct p2p_header *header;
	const uint8_t *data;
	size_t len;
};

static int record_clock(const struct raw_record *raw, const struct p2p_record *record,
			struct p2p_clock *out)
{
	const struct p2p_header *header = raw->header;

	if (record->origin > header->origin_count)
		return P2P_EPROTO;
	out->stamp = header->stamp;
	out->replica = header->replica;
	if (record->origin) {
		out->stamp = header->origins[record->origin - 1].stamp;
		out->replica = header->origins[record->origin - 1].replica;
	}
	return out->stamp.value ? 0 : P2P_EPROTO; /* 0 says "never written" */
}

/* Kept for an unknown table, column or kind; ref NULL: a kind of a later version, which alone knows
 * its table. */
static int record_wait(const struct raw_record *raw, const struct p2p_clock *clock,
		       const struct p2p_schema_ref *ref, struct p2p_merge_counts *counts)
{
	static const struct p2p_schema_ref none;

	if (!ref)
		ref = &none;
	counts->waiting++;
	return p2p_store_waiting_put(raw->merge->config.store, &ref->table, clock, &ref->schema,
				     raw->data, raw->len);
}

/* Merges what can be merged. *out_wait: not all of it. */
static int record_merge(const struct raw_record *raw, struct p2p_rowmerge *m,
			const struct merge_entry *entry, bool *out_wait)
{
	struct p2p_merge *merge = raw->merge;
	bool fits;
	int rc;

	*out_wait = !entry->gone;
	if (!entry->target || entry->map == UINT32_MAX)
		return 0;
	m->target = entry->target;
	m->map = &merge->maps[entry->map];
	rc = p2p_rowmerge_fits(m, &fits);
	if (rc || !fits)
		return rc;
	rc = p2p_store_replica_number(merge->config.store, &m->clock.replica, &m->replica);
	if (!rc)
		rc = p2p_rowmerge_run(m);
	*out_wait = m->wait;
	return rc;
}

static int record_known(const struct raw_record *raw, const struct p2p_record *record,
			struct p2p_merge_counts *counts)
{
	struct p2p_merge *merge = raw->merge;
	const struct p2p_schema_ref *ref;
	struct merge_entry *entry;
	struct p2p_rowmerge m;
	bool wait = false;
	int rc;

	memset(&m, 0, sizeof(m));
	m.store = merge->config.store;
	m.counts = counts;
	m.record = record;
	m.work = &merge->work;
	m.spare = &merge->spare;
	m.counters = &merge->counters;
	p2p_counters_reset(&merge->counters);
	m.scratch = &merge->scratch;
	m.texts = &merge->texts;
	m.authority = merge->config.authority;
	m.seen = merge->again || !merge->config.stamp_of ? NULL : &merge->seen;
	m.lost = merge->lost;
	p2p_buf_reset(&merge->texts);
	rc = record_clock(raw, record, &m.clock);
	if (!rc && (record->table >= raw->header->table_count ||
		    record->causal_length > p2p_hlc_lives(m.clock.stamp)))
		rc = P2P_EPROTO;
	if (rc)
		return rc;
	ref = &raw->header->tables[record->table];
	entry = &merge->entries[record->table];
	if (!entry->known)
		rc = entry_lookup(merge, ref, entry);
	if (!rc)
		rc = record_merge(raw, &m, entry, &wait);
	if (!rc && wait)
		rc = record_wait(raw, &m.clock, ref, counts);
	return rc;
}

static int record_apply(const struct raw_record *raw, struct p2p_merge_counts *counts)
{
	struct p2p_clock clock = {raw->header->stamp, raw->header->replica};
	struct p2p_record record;
	int rc;

	counts->records++;
	rc = p2p_record_read(&record, raw->merge->cells, P2P_COLUMNS_MAX, raw->data, raw->len);
	if (rc == P2P_RECORD_UNKNOWN)
		return record_wait(raw, &clock, NULL, counts);
	return rc ? rc : record_known(raw, &record, counts);
}

void p2p_merge_counts_take(struct p2p_merge *merge, struct p2p_merge_counts *counts)
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
	struct raw_record raw = {merge, header, NULL, 0};
	int rc;

	p2p_require(p2p_store_in_transaction(merge->config.store));
	memset(&own, 0, sizeof(own));
	rc = merge_refresh(merge);
	if (!rc)
		rc = entries_begin(merge, header->table_count);
	merge->again = source->again;
	if (!rc && !source->again)
		rc = p2p_seen_note(&merge->seen, merge->config.store, header,
				   merge->config.stamp_of, merge->config.stamp_ctx);
	while (!rc) {
		rc = source->next(source->ctx, &raw.data, &raw.len);
		if (rc || !raw.data)
			break;
		rc = record_apply(&raw, counts ? counts : &own);
	}
	if (!rc && !source->again) {
		entry.replica = header->replica;
		entry.seq = header->seq;
		entry.head = source->hash;
		entry.stamp = header->stamp;
		rc = p2p_store_vector_set(merge->config.store, &entry);
	}
	p2p_merge_counts_take(merge, counts ? counts : &own);
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

int p2p_merge_count(struct p2p_merge *merge, struct p2p_table *table, uint32_t column)
{
	struct p2p_target *target;
	int rc = merge_refresh(merge);

	if (!rc)
		rc = target_get(merge, table, &target);
	return rc ? rc : p2p_counters_take(target, &merge->work, column);
}

bool p2p_merge_renumbered(struct p2p_merge *merge)
{
	bool noted = false;
	size_t i;

	for (i = 0; i < merge->target_count; i++) {
		struct p2p_numbers *numbers = &merge->targets[i]->numbers;

		noted |= numbers->noted && (!numbers->loaded || numbers->temp_count);
		numbers->noted = false;
	}
	return noted;
}

struct touch_all {
	struct p2p_merge *merge;
	struct p2p_table *table;
};

static int touch_each(void *ctx, int64_t number)
{
	struct touch_all *all = ctx;

	return p2p_merge_touch_number(all->merge, all->table, number);
}

int p2p_merge_touch_all(struct p2p_merge *merge, struct p2p_table *table)
{
	struct touch_all all = {merge, table};
	int rc = p2p_merge_touch_table(merge, table);

	if (rc || !table->generated_identity)
		return rc;
	return p2p_store_numbers_in_doubt(merge->config.store, table, touch_each, &all);
}

int p2p_merge_target(struct p2p_merge *merge, struct p2p_table *table, struct p2p_target **out)
{
	int rc = merge_refresh(merge);

	return rc ? rc : target_get(merge, table, out);
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

/* Numbers first: what refers to rows claims them. Targets are added meanwhile. */
static int numbers_finish(struct p2p_merge *merge)
{
	size_t i;
	int rc = 0;

	for (i = 0; i < merge->target_count && !rc; i++)
		rc = p2p_numbers_project(&merge->targets[i]->numbers);
	return rc;
}

/* Constraints may be others now. */
static int moved_finish(struct p2p_merge *merge)
{
	struct p2p_store *store = merge->config.store;
	struct p2p_target *target;
	bool any = false;
	size_t i;
	int rc = p2p_store_parked_any(store, &any);

	for (i = 0; i < p2p_store_table_count(store) && !rc && any; i++) {
		if (p2p_store_table(store, i)->state != P2P_TABLE_LIVE)
			continue;
		rc = target_get(merge, p2p_store_table(store, i), &target);
		if (!rc)
			target->touched = true;
	}
	return rc;
}

static int touched_finish(struct p2p_merge *merge)
{
	size_t i;
	int rc = merge->schema_moved ? moved_finish(merge) : 0;

	merge->schema_moved = false;
	for (i = 0; i < merge->target_count && !rc; i++) {
		if (!merge->targets[i]->touched)
			continue;
		merge->targets[i]->touched = false;
		rc = p2p_settle_ask_all(merge->targets[i]);
	}
	return rc;
}

int p2p_merge_finish(struct p2p_merge *merge, struct p2p_error *err)
{
	size_t i;
	int rc;

	p2p_require(p2p_store_in_transaction(merge->config.store));
	rc = numbers_finish(merge);
	if (!rc)
		rc = touched_finish(merge);
	if (!rc)
		rc = p2p_settle_run(&merge->settle);
	/* A row that came back may have found its number held by one that no trigger saw. */
	if (!rc)
		rc = numbers_finish(merge);
	if (!rc)
		rc = p2p_settle_run(&merge->settle);
	for (i = 0; i < merge->target_count; i++) {
		merge->targets[i]->gates.known = false;
		merge->targets[i]->numbers.yields_known = false;
	}
	if (!rc)
		rc = p2p_seen_save(&merge->seen, merge->config.store);
	return rc ? merge_error(merge, err, rc, "project merged rows") : 0;
}

/* References in a table to rows that are not in theirs, beyond those that are loose. */
static int reference_dangles(struct p2p_merge *merge, const struct p2p_table *table,
			     const struct p2p_reference *reference, uint64_t *out)
{
	static const char format[] = "SELECT count(*) - (SELECT count(*) FROM main.p2p_ref"
				     " WHERE t = %u AND slot = %u AND pt = 0) FROM main.\"%w\" AS c"
				     " WHERE typeof(c.\"%w\") = 'integer' AND NOT EXISTS"
				     " (SELECT 1 FROM main.\"%w\" AS p WHERE p.\"%w\" = c.\"%w\")";
	struct p2p_store *store = merge->config.store;
	const struct p2p_table *parent = p2p_store_table_by_id(store, &reference->parent);
	const struct p2p_column *column = &table->columns[reference->column];
	sqlite3_stmt *stmt = NULL;
	int64_t count = 0;
	char *sql;
	int rc;

	if (column->flags & P2P_COLUMN_KEY)
		return 0; /* what is loose there is in the identities */
	sql = sqlite3_mprintf(format, table->number, column->slot, table->name, column->name,
			      parent->name, parent->columns[parent->key[0]].name, column->name);
	rc = sql ? sqlite3_prepare_v2(p2p_store_db(store), sql, -1, &stmt, NULL) : SQLITE_NOMEM;
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		count = sqlite3_column_int64(stmt, 0);
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	sqlite3_free(sql);
	*out += count > 0 ? (uint64_t)count : 0;
	return rc == SQLITE_ROW ? 0 : p2p_store_error(store, rc, NULL, "look for references in");
}

static int table_check(struct p2p_merge *merge, struct p2p_table *table, uint64_t *out_rows)
{
	struct p2p_target *target;
	uint32_t i;
	int rc = target_get(merge, table, &target);

	if (!rc)
		rc = p2p_settle_ask_all(target);
	for (i = 0; i < table->reference_count && !rc; i++)
		rc = reference_dangles(merge, table, &table->references[i], out_rows);
	return rc;
}

int p2p_merge_check(struct p2p_merge *merge, uint64_t *out_rows, struct p2p_error *err)
{
	struct p2p_store *store = merge->config.store;
	size_t i;
	int rc = merge_refresh(merge);

	p2p_require(p2p_store_in_transaction(store));
	*out_rows = 0;
	for (i = 0; i < p2p_store_table_count(store) && !rc; i++)
		if (p2p_store_table(store, i)->state == P2P_TABLE_LIVE)
			rc = table_check(merge, p2p_store_table(store, i), out_rows);
	if (!rc)
		rc = p2p_settle_check(&merge->settle, out_rows);
	p2p_settle_clear(&merge->settle);
	return rc ? merge_error(merge, err, rc, "check what the tables show") : 0;
}
