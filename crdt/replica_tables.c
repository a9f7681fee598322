/* Which tables are replicated, and under which schema records; see replica_private.h. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/conflicts.h"
#include "crdt/replica_private.h"
#include "crdt/schemamap.h"
#include "proto/check.h"
#include "proto/mem.h"

static int tables_error(struct p2p_error *err, int rc, const char *table)
{
	return p2p_error_set(err, rc, "table '%.100s': %s", table, p2p_strerror(rc));
}

/* --- schema records --------------------------------------------------------------------------- */

static bool reference_fits(const struct p2p_table *table, uint32_t column,
			   const struct p2p_id *parent)
{
	static const struct p2p_id none;
	uint32_t at = table->columns[column].reference;

	if (at == P2P_REFERENCE_NONE && (table->columns[column].flags & P2P_COLUMN_NAMED))
		return p2p_id_cmp(parent, &table->columns[column].named) == 0; /* not (yet) here */
	if (at == P2P_REFERENCE_NONE)
		return p2p_id_cmp(parent, &none) == 0;
	return p2p_id_cmp(parent, &table->references[at].parent) == 0;
}

/* The record says the columns that the table has, in the same order, and what they refer to. */
static int record_fits(struct p2p_replica *replica, const struct p2p_hash *schema,
		       const struct p2p_table *table, bool *out)
{
	struct p2p_schemamap map;
	uint32_t i;
	int rc = p2p_schemamap_init(&map, replica->authority, schema, table);

	*out = false;
	if (rc)
		return rc == P2P_ENOENT || rc == P2P_EPROTO ? 0 : rc;
	*out = map.count == table->column_count && map.generated == table->generated_identity;
	for (i = 0; i < map.count && *out; i++)
		*out = map.columns[i] == i || (map.columns[i] == P2P_SCHEMAMAP_NONE &&
					       table->columns[i].slot == UINT32_MAX);
	for (i = 0; i < map.count && *out; i++)
		*out = reference_fits(table, i, &map.parents[i]) &&
		       (map.counters[i] || !(table->columns[i].flags & P2P_COLUMN_COUNTER));
	p2p_schemamap_deinit(&map);
	if (*out && p2p_replica_carries(replica))
		rc = p2p_replica_indexes_fit(replica, schema, table, out);
	return rc;
}

struct in_force {
	const struct p2p_table *table;
	struct p2p_hash hash;
	bool found;
};

int p2p_replica_record_table(const struct p2p_signed *record, struct p2p_id *out, char name[256])
{
	const ProtobufCMessage *base;
	const P2p__V1__Schema *schema;
	void *arena;
	int rc = p2p_unpack(&p2p__v1__schema__descriptor, record->body, record->body_len, &base,
			    &arena);

	if (rc)
		return rc;
	schema = (const P2p__V1__Schema *)base;
	rc = p2p_field_id(out, &schema->table);
	if (!rc && strlen(schema->name) >= 256)
		rc = P2P_ETOOBIG;
	if (!rc)
		memcpy(name, schema->name, strlen(schema->name) + 1);
	p2p_unpack_free(arena);
	return rc;
}

static int find_in_force(void *ctx, const struct p2p_signed *record)
{
	struct in_force *find = ctx;
	struct p2p_id id;
	char name[256];
	int rc = p2p_replica_record_table(record, &id, name);

	if (rc)
		return rc == P2P_ENOMEM ? rc : 0; /* of a later version */
	if (p2p_id_cmp(&id, &find->table->id) != 0)
		return 0;
	find->hash = record->hash;
	find->found = true;
	return 0;
}

static int record_make(struct p2p_replica *replica, const struct p2p_table *table,
		       struct p2p_hash *out, struct p2p_error *err)
{
	struct p2p_buf body, record;
	int rc;

	p2p_buf_init(&body, P2P_RECORD_BODY_MAX);
	p2p_buf_init(&record, P2P_RECORD_BODY_MAX + 1024);
	rc = p2p_schema_describe(p2p_store_db(replica->store), table, &body, err);
	if (!rc) {
		rc = p2p_authority_make_schema(replica->authority, &record, replica->config.signer,
					       body.data, body.len);
		if (rc)
			tables_error(err, rc, table->name);
	}
	if (!rc)
		rc = p2p_replica_keep_record(replica, record.data, record.len, err);
	if (!rc)
		*out = p2p_authority_record(replica->authority,
					    p2p_authority_count(replica->authority) - 1)
			       ->hash;
	p2p_buf_deinit(&body);
	p2p_buf_deinit(&record);
	p2p_require(rc != P2P_AUTHORITY_KNOWN); /* it names its predecessor and parents */
	return rc;
}

static int table_settle(struct p2p_replica *replica, struct p2p_table *table, struct p2p_error *err)
{
	struct in_force find = {.table = table};
	struct p2p_hash hash;
	bool fits;
	int rc = record_fits(replica, &table->schema, table, &fits);

	if (rc || fits)
		return rc;
	rc = p2p_authority_each_schema(replica->authority, find_in_force, &find);
	hash = find.hash;
	if (!rc && find.found)
		rc = record_fits(replica, &find.hash, table, &fits);
	if (!rc && !fits)
		rc = record_make(replica, table, &hash, err);
	/* others may have told of a new column, or of the table, before it was here */
	if (!rc)
		rc = p2p_replica_again_add(replica, &table->id);
	return rc ? rc : p2p_store_set_schema(replica->store, table, &hash);
}

int p2p_replica_settle_schema(struct p2p_replica *replica, struct p2p_error *err)
{
	size_t i;
	int rc = 0;

	p2p_require(p2p_store_in_transaction(replica->store));
	for (i = 0; i < p2p_store_table_count(replica->store) && !rc; i++) {
		struct p2p_table *table = p2p_store_table(replica->store, i);

		if (table->state == P2P_TABLE_LIVE)
			rc = table_settle(replica, table, err);
	}
	return rc;
}

/* --- a transaction that changes the tables -----------------------------------------------------
 */

int p2p_replica_change_begin(struct p2p_replica *replica, struct p2p_error *err)
{
	int rc = p2p_replica_whole(replica, err);

	if (rc)
		return rc;
	if (!replica->capture)
		return p2p_store_begin_write(replica->store, P2P_REPLICA_WAIT_MS, err);
	return p2p_replica_begin_projected(replica, err);
}

int p2p_replica_change_end(struct p2p_replica *replica, int rc, struct p2p_error *err)
{
	int recovered;

	if (!rc)
		rc = p2p_replica_settle_schema(replica, err);
	if (!rc)
		rc = replica->capture ? p2p_replica_end_fold(replica, err)
				      : p2p_store_commit(replica->store, err);
	else if (replica->capture)
		p2p_replica_abort_fold(replica);
	else
		p2p_store_rollback(replica->store);
	/* what is told of the tables afterwards (a ticket, "joined") holds after a power cut too */
	if (!rc)
		rc = p2p_replica_harden(replica, err);
	recovered = p2p_replica_recover(replica, rc ? NULL : err);
	if (!recovered && replica->capture)
		recovered = p2p_replica_again_load(replica);
	return rc ? rc : recovered;
}

/* A table that a person disabled is not taken up again by itself: meta "local:<table id>". */
static void local_key(char out[64], const struct p2p_id *table)
{
	memcpy(out, "local:", 6);
	p2p_hex(out + 6, table->bytes, P2P_ID_BYTES);
}

/* An error is no answer: without memory SQLite ends the transaction for a mere reading, too. */
int p2p_replica_is_local(struct p2p_replica *replica, const struct p2p_id *table, bool *out)
{
	uint8_t value = 0;
	char key[64];
	size_t len = 0;
	int rc;

	local_key(key, table);
	rc = p2p_store_meta_get(replica->store, key, &value, 1, &len);
	*out = !rc && value;
	return rc == P2P_ENOENT ? 0 : rc;
}

static int set_local(struct p2p_replica *replica, const char *name, bool local)
{
	uint8_t value = local;
	struct p2p_id table;
	char key[64];
	bool is;
	int rc;

	p2p_table_id(&table, name);
	rc = p2p_replica_is_local(replica, &table, &is);
	if (rc || is == local)
		return rc;
	local_key(key, &table);
	return p2p_store_meta_set(replica->store, key, &value, 1);
}

/* --- enable ----------------------------------------------------------------------------------- */

struct names {
	struct p2p_replica *replica;
	const char *const *exclude;
	size_t exclude_count;
	char **items; /* owned */
	size_t count;
	bool quiet, replicated; /* nothing is told; those that are replicated, too */
};

static void names_deinit(struct names *names)
{
	size_t i;

	for (i = 0; i < names->count; i++)
		p2p_free(names->items[i]);
	p2p_free(names->items);
}

static int names_add(struct names *names, const char *name)
{
	char **grown = p2p_realloc(names->items, (names->count + 1) * sizeof(char *));

	if (!grown)
		return P2P_ENOMEM;
	names->items = grown;
	grown[names->count] = p2p_strdup(name);
	return grown[names->count] ? (names->count++, 0) : P2P_ENOMEM;
}

static bool name_excluded(const struct names *names, const char *name)
{
	size_t i;

	if (sqlite3_strnicmp(name, "p2p_local_", 10) == 0)
		return true; /* R60 */
	for (i = 0; i < names->exclude_count; i++)
		if (sqlite3_stricmp(names->exclude[i], name) == 0)
			return true;
	return false;
}

static int collect_name(void *ctx, struct p2p_table *table)
{
	struct names *names = ctx;
	struct p2p_replica *replica = names->replica;
	int rc = 0;

	if (table->state == P2P_TABLE_REFUSED && sqlite3_strnicmp(table->name, "p2p_", 4) != 0 &&
	    !names->quiet)
		p2p_log(replica->config.log, P2P_LOG_WARN, "crdt", "table %s is not replicated: %s",
			table->name, table->reason);
	else if (table->state != P2P_TABLE_REFUSED && !name_excluded(names, table->name) &&
		 (names->replicated || !p2p_store_table_by_name(replica->store, table->name)))
		rc = names_add(names, table->name);
	if (!rc)
		p2p_table_deinit(table); /* ours on 0 */
	return rc;
}

/* With what --ref says of its columns. */
static int enable_name(struct p2p_replica *replica, const char *name,
		       const struct p2p_named_ref *refs, size_t ref_count, struct p2p_error *err)
{
	struct p2p_enabling enabling = {.name = name, .present = P2P_PRESENT_NOW};
	struct p2p_choice *choices = p2p_calloc(ref_count + 1, sizeof(*choices));
	size_t i;
	int rc;

	if (!choices)
		return P2P_ENOMEM;
	for (i = 0; i < ref_count; i++)
		if (sqlite3_stricmp(refs[i].child, name) == 0)
			choices[enabling.choice_count++] = refs[i].choice;
	enabling.choices = choices;
	rc = p2p_store_enable_as(replica->store, &enabling, err);
	p2p_free(choices);
	return rc ? rc : set_local(replica, name, false);
}

static int enable_each(struct p2p_replica *replica, const struct p2p_enable *wish,
		       const struct p2p_named_ref *refs, struct p2p_error *err)
{
	const char **order = p2p_calloc(wish->count + 1, sizeof(*order));
	size_t i;
	int rc = order ? p2p_replica_order(replica, wish, refs, order) : P2P_ENOMEM;

	for (i = 0; i < wish->count && !rc; i++)
		if ((!wish->ref_count && !wish->counter_count) ||
		    !p2p_store_table_by_name(replica->store, order[i]))
			rc = enable_name(replica, order[i], refs, wish->ref_count, err);
	p2p_free(order);
	return rc;
}

/* What others did to the tables while they were not replicated here. */
static int enable_again(struct p2p_replica *replica, const char *const *names, size_t count)
{
	size_t i;
	int rc = 0;

	for (i = 0; i < count && !rc; i++) {
		const struct p2p_table *table = p2p_store_table_by_name(replica->store, names[i]);

		if (table)
			rc = p2p_replica_again_add(replica, &table->id);
	}
	return rc;
}

static int enable_names(struct p2p_replica *replica, const struct p2p_enable *wish,
			struct p2p_error *err)
{
	struct p2p_named_ref *refs;
	int rc = p2p_replica_refs_read(replica, wish, &refs, err);

	if (!rc)
		rc = p2p_replica_change_begin(replica, err);
	if (rc) {
		p2p_free(refs);
		return rc;
	}
	rc = enable_each(replica, wish, refs, err);
	p2p_free(refs);
	if (!rc)
		rc = enable_again(replica, wish->names, wish->count);
	if (!rc)
		rc = p2p_replica_count(replica, wish, err);
	rc = p2p_replica_change_end(replica, rc, err);
	if (rc)
		return rc;
	/* A joiner must find all of it. Sessions that stand get it slice by slice. */
	replica->more = true;
	return replica->peers ? 0 : p2p_replica_freeze(replica, err);
}

/* All tables of the file that a wish means. */
static int names_all(struct names *all, struct p2p_replica *replica, const struct p2p_enable *wish,
		     struct p2p_error *err)
{
	all->replica = replica;
	all->exclude = wish->exclude;
	all->exclude_count = wish->exclude_count;
	return p2p_schema_each(p2p_store_db(replica->store), collect_name, all, err);
}

int p2p_replica_enable_as(struct p2p_replica *replica, const struct p2p_enable *wish,
			  struct p2p_error *err)
{
	struct names all = {.replicated = wish->ref_count || wish->counter_count};
	struct p2p_enable named = *wish;
	int rc;

	if (!replica->capture)
		return p2p_error_set(err, P2P_ESTATE, "'%s' is in no mesh", replica->db_path);
	if (wish->names)
		return enable_names(replica, wish, err);
	rc = names_all(&all, replica, wish, err);
	named.names = (const char *const *)all.items;
	named.count = all.count;
	if (!rc && all.count)
		rc = enable_names(replica, &named, err);
	else if (!rc && !p2p_store_table_count(replica->store))
		rc = p2p_error_set(err, P2P_EREFUSED,
				   "'%s' has no table that can be replicated: see 'p2pnode tables'",
				   replica->db_path);
	names_deinit(&all);
	return rc;
}

int p2p_replica_enable_check(struct p2p_replica *replica, const struct p2p_enable *wish,
			     struct p2p_error *err)
{
	struct names all = {.replicated = true, .quiet = true};
	struct p2p_enable named = *wish;
	struct p2p_named_ref *refs = NULL;
	int rc = wish->names ? 0 : names_all(&all, replica, wish, err);

	if (!wish->names) {
		named.names = (const char *const *)all.items;
		named.count = all.count;
	}
	if (!rc)
		rc = p2p_replica_refs_read(replica, &named, &refs, err);
	p2p_free(refs);
	names_deinit(&all);
	return rc;
}

int p2p_replica_enable(struct p2p_replica *replica, const char *const *names, size_t count,
		       const char *const *exclude, size_t exclude_count, struct p2p_error *err)
{
	struct p2p_enable wish = {.names = names,
				  .count = count,
				  .exclude = exclude,
				  .exclude_count = exclude_count};

	return p2p_replica_enable_as(replica, &wish, err);
}

int p2p_replica_disable(struct p2p_replica *replica, const char *const *names, size_t count,
			struct p2p_error *err)
{
	size_t i;
	int rc;

	if (!replica->capture)
		return p2p_error_set(err, P2P_ESTATE, "'%s' is in no mesh", replica->db_path);
	rc = p2p_replica_change_begin(replica, err);
	if (rc)
		return rc;
	for (i = 0; i < count && !rc; i++) {
		rc = p2p_store_disable(replica->store, names[i], err);
		if (!rc)
			rc = set_local(replica, names[i], true);
	}
	return p2p_replica_change_end(replica, rc, err);
}

int p2p_replica_rescan(struct p2p_replica *replica, const char *const *names, size_t count,
		       uint64_t *out_rows, struct p2p_error *err)
{
	uint64_t rows = 0, total = 0;
	size_t i;
	int rc;

	if (!replica->capture)
		return p2p_error_set(err, P2P_ESTATE, "'%s' is in no mesh", replica->db_path);
	if (!names)
		count = p2p_store_table_count(replica->store);
	rc = p2p_replica_change_begin(replica, err);
	if (rc)
		return rc;
	for (i = 0; i < count && !rc; i++) {
		struct p2p_table *table = names ? p2p_store_table_by_name(replica->store, names[i])
						: p2p_store_table(replica->store, i);

		if (!table)
			rc = p2p_error_set(err, P2P_ENOENT, "table '%.100s' is not replicated",
					   names[i]);
		else
			rc = p2p_store_rescan(replica->store, table, &rows, err);
		total += rows;
	}
	rc = p2p_replica_change_end(replica, rc, err);
	if (!rc) {
		*out_rows = total;
		replica->more = true;
	}
	return rc;
}

int p2p_replica_restore(struct p2p_replica *replica, int64_t conflict, struct p2p_error *err)
{
	int rc;

	if (!replica->capture)
		return p2p_error_set(err, P2P_ESTATE, "'%s' is in no mesh", replica->db_path);
	rc = p2p_replica_change_begin(replica, err);
	if (rc)
		return rc;
	rc = p2p_conflicts_restore(replica->store, replica->merge, conflict, err);
	return p2p_replica_change_end(replica, rc, err);
}

/* New columns are in the schema record before a row with them is captured. */
static int schema_moved(struct p2p_replica *replica, struct p2p_error *err)
{
	uint64_t rows = 0;
	size_t rescan = 0;
	int rc = p2p_store_begin_write(replica->store, P2P_REPLICA_WAIT_MS, err);

	if (rc)
		return rc;
	p2p_merge_reset(replica->merge);
	rc = p2p_store_check_schema(replica->store, &rescan, err);
	if (!rc)
		rc = p2p_replica_settle_schema(replica, err);
	if (!rc && rescan)
		rc = p2p_store_rescan(replica->store, NULL, &rows, err);
	if (!rc)
		rc = p2p_store_commit(replica->store, err);
	if (rc)
		p2p_store_rollback(replica->store);
	return rc;
}

int p2p_replica_check_schema(struct p2p_replica *replica, struct p2p_error *err)
{
	bool moved;
	int rc = p2p_store_schema_moved(replica->store, &moved);

	if (rc || !moved)
		return rc;
	rc = schema_moved(replica, err);
	if (!rc)
		rc = p2p_replica_again_load(replica);
	if (rc) {
		int again = p2p_replica_recover(replica, NULL);

		return again ? again : rc;
	}
	replica->adopt_all = true;
	return 0;
}
