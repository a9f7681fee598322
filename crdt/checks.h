/* CHECK constraints that concern several columns can be broken by a merge: each column was right
 * where it was written (rules: such a row is shown as it is merged, never kept out).
 *
 * Rows that a merge wrote are judged at its end by SQLite itself, in a private database in memory
 * with the same table: those that break a constraint are listed in p2p_conflict (kind "check") for
 * as long as they do. What an application wrote is judged by SQLite as it is written; the rows that
 * are listed are looked at again whenever their table was written to. */
#ifndef P2P_CRDT_CHECKS_H
#define P2P_CRDT_CHECKS_H

#include <stdbool.h>

#include "proto/buf.h"
#include "proto/error.h"

struct p2p_authority;
struct p2p_rowwork;
struct p2p_target;

struct p2p_checks {
	bool known, any;		     /* does the table have such constraints? */
	struct sqlite3 *db;		     /* owned */
	struct sqlite3_stmt *insert, *clear; /* owned */
	struct p2p_buf keys;		     /* rows to be judged, encoded */
	size_t last;			     /* place of the last one */
};

void p2p_checks_init(struct p2p_checks *checks);
void p2p_checks_deinit(struct p2p_checks *checks);
/* The row came, changed or went. */
int p2p_checks_touch(struct p2p_target *target, const struct p2p_buf *key) P2P_MUST_CHECK;
/* An application may have mended, or removed, rows that are listed. */
int p2p_checks_touch_listed(struct p2p_target *target) P2P_MUST_CHECK;
/* Lists those that break a constraint, and forgets those that no longer do. work is used. */
int p2p_checks_run(struct p2p_target *target, struct p2p_rowwork *work,
		   const struct p2p_authority *authority) P2P_MUST_CHECK;

#endif
