/* Which columns are counters: chosen here, or learnt from the schema records of others; see
 * replica_private.h. Once a member made a column a counter it is one for all, and for good. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/replica_private.h"
#include "proto/check.h"
#include "proto/mem.h"
#include "proto/message.h"

static uint32_t column_named(const struct p2p_table *table, const char *name)
{
	uint32_t i;

	for (i = 0; i < table->column_count; i++)
		if (sqlite3_stricmp(table->columns[i].name, name) == 0)
			return i;
	return UINT32_MAX;
}

/* --- choosing --------------------------------------------------------------------------------- */

/* Two rows must not come to the same value: nobody would have written it. */
static int is_unique(struct p2p_replica *replica, const struct p2p_table *table, const char *column,
		     bool *out)
{
	static const char query[] =
		"SELECT 1 FROM pragma_index_list(?1, 'main') AS l"
		" JOIN pragma_index_xinfo(l.name, 'main') AS x"
		" WHERE l.\"unique\" AND x.key AND x.name = ?2 COLLATE NOCASE LIMIT 1";
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(p2p_store_db(replica->store), query, -1, &stmt, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 1, table->name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 2, column, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	*out = rc == SQLITE_ROW;
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc == SQLITE_ROW || rc == SQLITE_DONE
		       ? 0
		       : p2p_store_error(replica->store, rc, NULL, "read the indexes of");
}

static int counter_allowed(struct p2p_replica *replica, const struct p2p_table *table,
			   uint32_t column, struct p2p_error *err)
{
	const char *name = table->columns[column].name, *why;
	bool unique;
	int rc = is_unique(replica, table, name, &unique);

	if (rc)
		return p2p_error_set(err, rc, "table %s: %s", table->name, p2p_strerror(rc));
	why = p2p_column_no_counter(&table->columns[column]);
	if (!why && unique)
		why = "it is in a UNIQUE constraint, and sums can meet";
	return why ? p2p_error_set(err, P2P_EREFUSED,
				   "column %s of table %s cannot be a counter: %s", name,
				   table->name, why)
		   : 0;
}

/* "COLUMN" of one of the tables, or "TABLE.COLUMN". */
static int counter_find(struct p2p_replica *replica, const struct p2p_enable *wish,
			const char *text, struct p2p_table **out, uint32_t *out_column,
			struct p2p_error *err)
{
	size_t i, found = 0;

	for (i = 0; i < wish->count; i++) {
		struct p2p_table *table = p2p_store_table_by_name(replica->store, wish->names[i]);
		size_t len = strlen(wish->names[i]);
		uint32_t column;

		if (!table)
			continue;
		column = column_named(table, text);
		if (column == UINT32_MAX && text[len] == '.' &&
		    sqlite3_strnicmp(text, wish->names[i], (int)len) == 0)
			column = column_named(table, text + len + 1);
		if (column == UINT32_MAX)
			continue;
		*out = table;
		*out_column = column;
		found++;
	}
	if (found == 1)
		return 0;
	return p2p_error_set(err, P2P_EREFUSED,
			     found ? "counter '%.100s': several tables have it, say TABLE.COLUMN"
				   : "counter '%.100s': no such column",
			     text);
}

/* Marks the column and brings the rows that are there along. The tables are loaded anew. */
static int counter_choose(struct p2p_replica *replica, const struct p2p_table *table,
			  uint32_t column, struct p2p_error *err)
{
	struct p2p_choice choice = {.column = table->columns[column].id,
				    .flags = P2P_COLUMN_COUNTER};
	struct p2p_id id = table->id;
	int rc;

	if (table->columns[column].flags & P2P_COLUMN_COUNTER)
		return 0;
	rc = p2p_store_choose(replica->store, table, &choice, 1);
	p2p_merge_reset(replica->merge); /* before what it knows of tables goes */
	if (!rc)
		rc = p2p_store_load(replica->store, err);
	if (!rc)
		rc = p2p_merge_count(replica->merge, p2p_store_table_by_id(replica->store, &id),
				     column);
	p2p_merge_reset(replica->merge);
	/* what others counted before it was known here waits */
	return rc ? rc : p2p_replica_again_add(replica, &id);
}

int p2p_replica_count(struct p2p_replica *replica, const struct p2p_enable *wish,
		      struct p2p_error *err)
{
	struct p2p_table *table = NULL;
	uint32_t column = 0;
	size_t i;
	int rc = 0;

	p2p_require(p2p_store_in_transaction(replica->store));
	for (i = 0; i < wish->counter_count && !rc; i++) {
		rc = counter_find(replica, wish, wish->counters[i], &table, &column, err);
		if (!rc)
			rc = counter_allowed(replica, table, column, err);
		if (!rc)
			rc = counter_choose(replica, table, column, err);
	}
	return rc;
}

/* --- learning --------------------------------------------------------------------------------- */

struct learn {
	struct p2p_replica *replica;
	struct p2p_error *err;
	bool look;    /* only whether there is something */
	size_t found; /* columns */
};

/* A column that the record says is a counter, and the table here does not: UINT32_MAX for none. */
static uint32_t column_new(const struct p2p_table *table, const P2p__V1__Column *column)
{
	struct p2p_id id;
	uint32_t i;

	if (!(column->flags & P2P_COLUMN_COUNTER) || p2p_field_id(&id, &column->id))
		return UINT32_MAX;
	for (i = 0; i < table->column_count; i++)
		if (p2p_id_cmp(&table->columns[i].id, &id) == 0)
			break;
	return i == table->column_count || (table->columns[i].flags & P2P_COLUMN_COUNTER) ||
			       table->columns[i].slot == UINT32_MAX ||
			       p2p_column_no_counter(&table->columns[i])
		       ? UINT32_MAX
		       : i;
}

static int schema_learn(struct learn *learn, const P2p__V1__Schema *schema)
{
	struct p2p_store *store = learn->replica->store;
	struct p2p_table *table;
	struct p2p_id id;
	uint32_t column;
	size_t i;
	int rc = p2p_field_id(&id, &schema->table);

	for (i = 0; i < schema->n_columns && !rc; i++) {
		table = p2p_store_table_by_id(store, &id); /* it may have been loaded anew */
		if (!table || table->state != P2P_TABLE_LIVE)
			return 0;
		column = column_new(table, schema->columns[i]);
		if (column == UINT32_MAX)
			continue;
		learn->found++;
		if (!learn->look)
			rc = counter_choose(learn->replica, table, column, learn->err);
	}
	return rc;
}

static int record_learn(struct learn *learn, const struct p2p_signed *record)
{
	const ProtobufCMessage *base;
	void *arena;
	int rc = p2p_unpack(&p2p__v1__schema__descriptor, record->body, record->body_len, &base,
			    &arena);

	if (rc)
		return rc == P2P_ENOMEM ? rc : 0; /* of a later version */
	rc = schema_learn(learn, (const P2p__V1__Schema *)base);
	p2p_unpack_free(arena);
	return rc;
}

int p2p_replica_counters_news(struct p2p_replica *replica, const struct p2p_signed *record,
			      bool *out)
{
	struct learn learn = {.replica = replica, .look = true};
	int rc = record_learn(&learn, record);

	*out = learn.found > 0;
	return rc;
}

int p2p_replica_counters_learn(struct p2p_replica *replica, const struct p2p_signed *record,
			       struct p2p_error *err)
{
	struct learn learn = {.replica = replica, .err = err};

	return record_learn(&learn, record);
}
