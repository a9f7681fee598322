/* What the files of merge share: merge.c (life, records, finishing), merge_tables.c (what is kept
 * of tables and of the columns of schema records). */
#ifndef P2P_CRDT_MERGE_PRIVATE_H
#define P2P_CRDT_MERGE_PRIVATE_H

#include "crdt/conflicts.h"
#include "crdt/counters.h"
#include "crdt/merge.h"
#include "crdt/rowmerge.h"
#include "crdt/settle.h"

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

/* Before anything else: statements, targets and maps are of one schema, and a changed one starts
 * them anew. */
int p2p_merge_tables_refresh(struct p2p_merge *merge) P2P_MUST_CHECK;
/* What is kept of a table; borrowed until the next reset or refresh. */
int p2p_merge_tables_get(struct p2p_merge *merge, struct p2p_table *table,
			 struct p2p_target **out) P2P_MUST_CHECK;
/* Room for the dictionary of a changeset, all unknown. */
int p2p_merge_tables_begin(struct p2p_merge *merge, size_t count) P2P_MUST_CHECK;
/* Looks an entry of it up: which table, and which of its columns. */
int p2p_merge_tables_entry(struct p2p_merge *merge, const struct p2p_schema_ref *ref,
			   struct merge_entry *entry) P2P_MUST_CHECK;

#endif
