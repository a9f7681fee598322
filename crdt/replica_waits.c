/* What waits for the application's migration, table by table, in words; see replica.h. */
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "crdt/replica_private.h"

struct waits {
	struct p2p_replica *replica;
	const struct p2p_id *table; /* the one that is asked for; NULL: those that are not here */
	int (*each)(void *ctx, const struct p2p_id *table, const char *name);
	void *ctx;
	char columns[120]; /* "a, b" */
	size_t count;
};

static int count_of(struct p2p_replica *replica, const struct p2p_id *table, uint64_t *out)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(p2p_store_db(replica->store),
				    "SELECT count(*) FROM main.p2p_waiting WHERE t = ?1", -1, &stmt,
				    NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_blob(stmt, 1, table->bytes, P2P_ID_BYTES, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		*out = (uint64_t)sqlite3_column_int64(stmt, 0);
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc == SQLITE_ROW ? 0 : p2p_store_error(replica->store, rc, NULL, "read");
}

static void column_note(struct waits *waits, const char *name)
{
	size_t len = strlen(waits->columns);

	(void)snprintf(waits->columns + len, sizeof(waits->columns) - len, "%s%.40s",
		       waits->count ? ", " : "", name);
	waits->count++;
}

static void columns_note(struct waits *waits, const struct p2p_table *table,
			 const P2p__V1__Schema *schema)
{
	uint32_t i;
	size_t j;

	for (j = 0; j < schema->n_columns; j++) {
		for (i = 0; i < table->column_count; i++)
			if (sqlite3_stricmp(table->columns[i].name, schema->columns[j]->name) == 0)
				break;
		if (i == table->column_count)
			column_note(waits, schema->columns[j]->name);
	}
}

static int look(struct waits *waits, const P2p__V1__Schema *schema)
{
	struct p2p_store *store = waits->replica->store;
	const struct p2p_table *table;
	struct p2p_id id;
	bool local;
	int rc = p2p_field_id(&id, &schema->table);

	if (rc)
		return 0;
	table = p2p_store_table_by_id(store, &id);
	if (waits->table) {
		if (table && p2p_id_cmp(&id, waits->table) == 0)
			columns_note(waits, table, schema);
		return 0;
	}
	rc = p2p_replica_is_local(waits->replica, &id, &local);
	if (rc || table || local || p2p_store_table_by_name(store, schema->name))
		return rc;
	return waits->each(waits->ctx, &id, schema->name);
}

static int look_record(void *ctx, const struct p2p_signed *record)
{
	const ProtobufCMessage *base;
	void *arena;
	int rc = p2p_unpack(&p2p__v1__schema__descriptor, record->body, record->body_len, &base,
			    &arena);

	if (rc)
		return rc == P2P_ENOMEM ? rc : 0; /* of a later version */
	rc = look(ctx, (const P2p__V1__Schema *)base);
	p2p_unpack_free(arena);
	return rc;
}

int p2p_replica_waits_for(struct p2p_replica *replica, const struct p2p_id *table, char *out,
			  size_t size)
{
	struct waits waits = {.replica = replica, .table = table};
	uint64_t count = 0;
	int rc = count_of(replica, table, &count);

	out[0] = 0;
	if (rc || !count)
		return rc;
	rc = p2p_authority_each_schema(replica->authority, look_record, &waits);
	if (waits.count)
		(void)snprintf(out, size, "%" PRIu64 " record%s for column%s %s", count,
			       count > 1 ? "s wait" : " waits", waits.count > 1 ? "s" : "",
			       waits.columns);
	else
		(void)snprintf(out, size, "%" PRIu64 " record%s for the table", count,
			       count > 1 ? "s wait" : " waits");
	return rc;
}

int p2p_replica_each_missing(struct p2p_replica *replica,
			     int (*each)(void *ctx, const struct p2p_id *table, const char *name),
			     void *ctx)
{
	struct waits waits = {.replica = replica, .each = each, .ctx = ctx};

	return p2p_authority_each_schema(replica->authority, look_record, &waits);
}
