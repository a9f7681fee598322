/* What a merge keeps of tables, from one changeset to the next; see merge_private.h. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/follow.h"
#include "crdt/merge_private.h"
#include "crdt/triggers.h"
#include "crdt/valuekeys.h"
#include "proto/check.h"
#include "proto/mem.h"

static void target_free(struct p2p_target *target)
{
	size_t i;

	for (i = 0; i < target->child_count; i++)
		p2p_settle_child_deinit(&target->children[i]);
	p2p_free(target->children);
	p2p_valuekeys_deinit(target);
	p2p_uniques_deinit(&target->uniques);
	p2p_checks_deinit(&target->checks);
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
int p2p_merge_tables_refresh(struct p2p_merge *merge)
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
	p2p_checks_init(&target->checks);
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

int p2p_merge_tables_get(struct p2p_merge *merge, struct p2p_table *table, struct p2p_target **out)
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
	/* unknown, or of another table: the same for a node that will know it only later */
	if (rc == P2P_ENOENT || rc == P2P_EPROTO)
		return 0;
	if (rc)
		return rc;
	merge->map_tables[merge->map_count] = table;
	*out = (uint32_t)merge->map_count++;
	return 0;
}

int p2p_merge_tables_entry(struct p2p_merge *merge, const struct p2p_schema_ref *ref,
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
	rc = p2p_merge_tables_get(merge, table, &entry->target);
	return rc ? rc : map_get(merge, &ref->schema, table, &entry->map);
}

int p2p_merge_tables_begin(struct p2p_merge *merge, size_t count)
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
