/* From the columns of a schema record to the columns of the table as it is here. */
#ifndef P2P_CRDT_SCHEMAMAP_H
#define P2P_CRDT_SCHEMAMAP_H

#include "crdt/authority.h"
#include "crdt/schema.h"

#define P2P_SCHEMAMAP_NONE    UINT32_MAX       /* no such column here (yet) */
#define P2P_SCHEMAMAP_DROPPED (UINT32_MAX - 1) /* there was one */

struct p2p_schemamap {
	struct p2p_hash schema;
	uint32_t *columns;	/* owned: index into p2p_table.columns, NONE or DROPPED */
	struct p2p_id *parents; /* owned: table id that the column refers to, or zero */
	bool *counters;		/* owned: the column is a counter */
	uint32_t count;		/* columns of the record */
	bool generated;		/* identity kind of the record */
};

/* P2P_ENOENT: the authority does not know the record; P2P_EPROTO: it is of another table or no
 * schema; P2P_ENOMEM. */
int p2p_schemamap_init(struct p2p_schemamap *map, const struct p2p_authority *authority,
		       const struct p2p_hash *schema, const struct p2p_table *table) P2P_MUST_CHECK;
void p2p_schemamap_deinit(struct p2p_schemamap *map);

#endif
