/* Columns of a schema record; see schemamap.h. */
#include "crdt/schemamap.h"

#include <string.h>

#include "proto/limits.h"
#include "proto/mem.h"
#include "proto/message.h"

static uint32_t column_here(const struct p2p_table *table, const struct p2p_id *id)
{
	uint32_t i;

	for (i = 0; i < table->column_count; i++)
		if (p2p_id_cmp(&table->columns[i].id, id) == 0)
			return table->columns[i].slot == UINT32_MAX ? P2P_SCHEMAMAP_NONE : i;
	for (i = 0; i < table->dropped_count; i++)
		if (p2p_id_cmp(&table->dropped[i], id) == 0)
			return P2P_SCHEMAMAP_DROPPED;
	return P2P_SCHEMAMAP_NONE;
}

static int map_fill(struct p2p_schemamap *map, const P2p__V1__Schema *body,
		    const struct p2p_table *table)
{
	struct p2p_id id;
	uint32_t i;
	int rc = p2p_field_id(&id, &body->table);

	if (rc)
		return rc;
	if (p2p_id_cmp(&id, &table->id) != 0 || body->n_columns > P2P_COLUMNS_MAX)
		return P2P_EPROTO;
	map->columns = p2p_calloc(body->n_columns ? body->n_columns : 1, sizeof(*map->columns));
	map->parents = p2p_calloc(body->n_columns ? body->n_columns : 1, sizeof(*map->parents));
	map->counters = p2p_calloc(body->n_columns ? body->n_columns : 1, sizeof(*map->counters));
	if (!map->columns || !map->parents || !map->counters)
		return P2P_ENOMEM;
	map->count = (uint32_t)body->n_columns;
	map->generated = body->identity == 1;
	for (i = 0; i < map->count && !rc; i++) {
		rc = p2p_field_id(&id, &body->columns[i]->id);
		map->columns[i] = column_here(table, &id);
		map->counters[i] = (body->columns[i]->flags & P2P_COLUMN_COUNTER) != 0;
		if (!rc && body->columns[i]->reference.len)
			rc = p2p_field_id(&map->parents[i], &body->columns[i]->reference);
	}
	return rc;
}

int p2p_schemamap_init(struct p2p_schemamap *map, const struct p2p_authority *authority,
		       const struct p2p_hash *schema, const struct p2p_table *table)
{
	const struct p2p_signed *record = p2p_authority_schema(authority, schema);
	const ProtobufCMessage *body;
	void *arena;
	int rc;

	memset(map, 0, sizeof(*map));
	map->schema = *schema;
	if (!record)
		return P2P_ENOENT;
	rc = p2p_unpack(&p2p__v1__schema__descriptor, record->body, record->body_len, &body,
			&arena);
	if (rc)
		return rc;
	rc = map_fill(map, (const P2p__V1__Schema *)body, table);
	p2p_unpack_free(arena);
	if (rc)
		p2p_schemamap_deinit(map);
	return rc;
}

void p2p_schemamap_deinit(struct p2p_schemamap *map)
{
	p2p_free(map->columns);
	p2p_free(map->parents);
	p2p_free(map->counters);
	memset(map, 0, sizeof(*map));
}
