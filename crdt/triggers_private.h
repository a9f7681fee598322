/* What triggers.c (the connection) and triggers_judge.c (what each of them writes) share. */
#ifndef P2P_CRDT_TRIGGERS_PRIVATE_H
#define P2P_CRDT_TRIGGERS_PRIVATE_H

#include "crdt/store_private.h"
#include "crdt/triggers.h"

#define P2P_TRIGGER_NAME_BYTES 64
#define P2P_TRIGGER_GUARD      "p2p_merging()"

/* Something that a trigger writes. */
struct p2p_trigger_write {
	char *table; /* owned */
	enum p2p_sql_event event;
	bool replicated; /* or one of ours */
};

struct p2p_trigger_entry {
	struct p2p_trigger trigger;
	char *sql; /* owned */
	struct p2p_trigger_text text;
	char copy[P2P_TRIGGER_NAME_BYTES]; /* name of the copy, "" while there is none */
	struct p2p_trigger_write *writes;  /* owned */
	size_t write_count, write_cap;
	bool compiled;
};

struct p2p_triggers {
	struct sqlite3 *db; /* borrowed */
	bool (*replicated)(void *ctx, const char *table);
	void *ctx;
	struct p2p_trigger_entry *entries; /* owned */
	size_t count, cap;
	size_t copies; /* in the temp schema */
	uint64_t generation;
	bool known, guarded;
	int64_t version, temp_version; /* schemas that this was found in */
	size_t table_count;
	int64_t told;		  /* schema version that was logged */
	const char *failed_table; /* borrowed from an entry: logged last */
	bool running;
};

void p2p_trigger_reason(struct p2p_trigger *trigger, enum p2p_trigger_verdict verdict,
			const char *fmt, ...) P2P_PRINTF(3, 4);
/* Copies, compiles and judges all entries; what does not run has no copy afterwards. */
int p2p_triggers_judge(struct p2p_triggers *triggers) P2P_MUST_CHECK;
int p2p_trigger_copy(struct p2p_triggers *triggers, struct p2p_trigger_entry *entry) P2P_MUST_CHECK;
int p2p_trigger_uncopy(struct p2p_triggers *triggers,
		       struct p2p_trigger_entry *entry) P2P_MUST_CHECK;

#endif
