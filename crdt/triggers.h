/* Triggers of the application: which of them take effect when remote rows are merged.
 *
 * Replication is row based: what a trigger did to replicated tables arrives as rows from the node
 * that wrote, so it must not run again. What it did to tables that are not replicated (FTS5
 * indexes, rtrees, caches) arrives nowhere: such triggers run here, too.
 *
 * SQLite can switch a connection's triggers off, but for those of its temp schema. So ours are off
 * for good, the journal's among them, and every trigger whose effects stay in tables that are not
 * replicated is copied into the temp schema, under a guard that is true only while a row is merged.
 * Nothing of this is in the file. What a trigger writes is what SQLite's authorizer says while a
 * statement that fires it is compiled. */
#ifndef P2P_CRDT_TRIGGERS_H
#define P2P_CRDT_TRIGGERS_H

#include "crdt/sqltext.h"
#include "crdt/store.h"

enum p2p_trigger_verdict {
	P2P_TRIGGER_RUNS,    /* all that it writes is not replicated */
	P2P_TRIGGER_ROWS,    /* all that it writes is: it arrives as rows */
	P2P_TRIGGER_IDLE,    /* it writes nothing: it only looks, or refuses */
	P2P_TRIGGER_MIXED,   /* writes both, or fires one that must not run */
	P2P_TRIGGER_REFUSES, /* may refuse a row that was written elsewhere: RAISE, OR ROLLBACK */
	P2P_TRIGGER_UNKNOWN, /* cannot be compiled here: a function, collation or module is missing
			      */
};

struct p2p_trigger {
	char *name, *table; /* owned, like reason: a sentence, NULL when it runs */
	char *reason;
	enum p2p_sql_event event;
	enum p2p_trigger_verdict verdict;
	bool replicated; /* its table is; else it is fired by other triggers, if at all */
	uint64_t failed; /* rows that were merged without it, because it failed on them */
};

/* A loss: local effects of merged rows are missing while this holds. */
bool p2p_trigger_lossy(const struct p2p_trigger *trigger);

/* Looks at the triggers of the file again if they may have changed, and copies those that run. To
 * be called in a transaction, before rows are merged; cheap when nothing changed, also after a
 * rollback. Logs once what will not take effect. P2P_ENOMEM, errors of SQLite. */
int p2p_triggers_refresh(struct p2p_store *store) P2P_MUST_CHECK;
/* As of the last refresh, for people (doctor): in order of creation; ours are not among them. */
size_t p2p_triggers_count(const struct p2p_store *store);
const struct p2p_trigger *p2p_triggers_at(const struct p2p_store *store, size_t index);

/* The same for a connection of its own that only reads, and tables that may be replicated: what
 * would be. Its triggers are off from then on. A non-zero result of each is returned. */
int p2p_triggers_survey(struct sqlite3 *db, bool (*replicated)(void *ctx, const char *table),
			int (*each)(void *ctx, const struct p2p_trigger *trigger),
			void *ctx) P2P_MUST_CHECK;

/* Events of a table on which triggers run, P2P_SQL_* or-ed. */
unsigned p2p_triggers_events(const struct p2p_store *store, const struct p2p_table *table);
/* Between these, writes of this connection fire them. */
void p2p_triggers_on(struct p2p_store *store);
void p2p_triggers_off(struct p2p_store *store);
/* A trigger may be what failed with this result, rather than the file or the memory. */
bool p2p_triggers_may_fail(int sqlite_rc);
/* A row was written without them, because one of them failed; logged once per table. */
void p2p_triggers_failed(struct p2p_store *store, const struct p2p_table *table,
			 enum p2p_sql_event event, const char *why);

#endif
