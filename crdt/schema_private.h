/* What the files that describe a table share: schema.c and schema_foreign.c. */
#ifndef P2P_CRDT_SCHEMA_PRIVATE_H
#define P2P_CRDT_SCHEMA_PRIVATE_H

#include "crdt/schema.h"

/* P2P_E* of an SQLite result, with a text. */
int p2p_schema_error(struct sqlite3 *db, int rc, struct p2p_error *err, const char *name);
/* Declared FOREIGN KEYs of a table whose columns are read. */
int p2p_schema_foreigns_read(struct sqlite3 *db, struct p2p_table *table) P2P_MUST_CHECK;
void p2p_schema_foreigns_free(struct p2p_table *table);

#endif
