/* Changesets become rows: clocks decide here, places are found in rowwork.c; see merge.h. */
#include "crdt/merge.h"

#include <sqlite3.h>
#include <string.h>

#include "crdt/hlc.h"
#include "crdt/merge_private.h"
#include "proto/check.h"
#include "proto/mem.h"

static int settle_target(void *ctx, struct p2p_table *table, struct p2p_target **out)
{
	return p2p_merge_tables_get(ctx, table, out);
}

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
		rc = p2p_merge_tables_entry(merge, ref, entry);
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
	if (rc == P2P_ENOENT)
		rc = P2P_ECORRUPT; /* a row that is known, and not where it should be */
	if (rc == P2P_EIO || rc == P2P_EFULL || rc == P2P_ECORRUPT || rc == P2P_EBUSY)
		return p2p_error_set(err, rc, "%s: %s (%s)", what, p2p_strerror(rc),
				     sqlite3_errmsg(p2p_store_db(merge->config.store)));
	return p2p_error_set(err, rc, "%s: %s", what, p2p_strerror(rc));
}

void p2p_merge_doubt(struct p2p_merge *merge, bool doubt)
{
	merge->settle.doubt = doubt;
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
	rc = p2p_merge_tables_refresh(merge);
	if (!rc)
		rc = p2p_merge_tables_begin(merge, header->table_count);
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
	rc = p2p_merge_tables_refresh(merge);
	if (!rc)
		rc = p2p_merge_tables_get(merge, table, &target);
	if (rc)
		return rc;
	target->numbers.sweep = true;
	target->touched = true;
	return p2p_numbers_touch(&target->numbers, number);
}

int p2p_merge_count(struct p2p_merge *merge, struct p2p_table *table, uint32_t column)
{
	struct p2p_target *target;
	int rc = p2p_merge_tables_refresh(merge);

	if (!rc)
		rc = p2p_merge_tables_get(merge, table, &target);
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
	int rc = p2p_merge_tables_refresh(merge);

	return rc ? rc : p2p_merge_tables_get(merge, table, out);
}

int p2p_merge_touch_table(struct p2p_merge *merge, struct p2p_table *table)
{
	struct p2p_target *target;
	int rc = p2p_merge_tables_refresh(merge);

	if (!rc)
		rc = p2p_merge_tables_get(merge, table, &target);
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
		rc = p2p_merge_tables_get(merge, p2p_store_table(store, i), &target);
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
		if (!rc)
			rc = p2p_checks_touch_listed(merge->targets[i]);
	}
	return rc;
}

/* Rows are where they belong. */
static int checks_finish(struct p2p_merge *merge)
{
	size_t i;
	int rc = 0;

	for (i = 0; i < merge->target_count && !rc; i++)
		rc = p2p_checks_run(merge->targets[i], &merge->work, merge->config.authority);
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
	if (!rc)
		rc = checks_finish(merge);
	for (i = 0; i < merge->target_count; i++) {
		merge->targets[i]->gates.known = false;
		merge->targets[i]->numbers.yields_known = false;
	}
	if (!rc)
		rc = p2p_seen_save(&merge->seen, merge->config.store);
	return rc ? merge_error(merge, err, rc, "project merged rows") : 0;
}

/* " AND c.k NOT NULL" for the columns of the key: other rows are this file's own, and take no part.
 */
static char *keys_whole(const struct p2p_table *table)
{
	char *sql = sqlite3_mprintf("%s", "");
	uint32_t i;

	for (i = 0; i < table->key_count && sql; i++) {
		const char *name = table->columns[table->key[i]].name;
		char *more = sqlite3_mprintf("%s AND c.\"%w\" NOT NULL", sql, name);

		sqlite3_free(sql);
		sql = more;
	}
	return sql;
}

/* References in a table to rows that are not in theirs, beyond those that are loose. */
static int reference_dangles(struct p2p_merge *merge, const struct p2p_table *table,
			     const struct p2p_reference *reference, uint64_t *out)
{
	static const char format[] =
		"SELECT count(*) - (SELECT count(*) FROM main.p2p_ref"
		" WHERE t = %u AND slot = %u AND pt = 0) FROM main.\"%w\" AS c"
		" WHERE typeof(c.\"%w\") = 'integer' AND NOT EXISTS"
		" (SELECT 1 FROM main.\"%w\" AS p WHERE p.\"%w\" = c.\"%w\")%s";
	struct p2p_store *store = merge->config.store;
	const struct p2p_table *parent = p2p_store_table_by_id(store, &reference->parent);
	const struct p2p_column *column = &table->columns[reference->column];
	sqlite3_stmt *stmt = NULL;
	int64_t count = 0;
	char *sql, *keys;
	int rc;

	if (column->flags & P2P_COLUMN_KEY)
		return 0; /* what is loose there is in the identities */
	keys = keys_whole(table);
	sql = keys ? sqlite3_mprintf(format, table->number, column->slot, table->name, column->name,
				     parent->name, parent->columns[parent->key[0]].name,
				     column->name, keys)
		   : NULL;
	sqlite3_free(keys);
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
	int rc = p2p_merge_tables_get(merge, table, &target);

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
	int rc = p2p_merge_tables_refresh(merge);

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
