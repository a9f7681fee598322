/* What each trigger of the application writes, as SQLite's authorizer tells it; see triggers.h. */
#include <sqlite3.h>
#include <stdarg.h>
#include <string.h>

#include "crdt/apptable.h"
#include "crdt/triggers_private.h"
#include "proto/mem.h"

#define REASON_BYTES_MAX 1024

void p2p_trigger_reason(struct p2p_trigger *trigger, enum p2p_trigger_verdict verdict,
			const char *fmt, ...)
{
	char text[REASON_BYTES_MAX];
	va_list args;

	va_start(args, fmt);
	(void)sqlite3_vsnprintf((int)sizeof(text), text, fmt, args);
	va_end(args);
	p2p_free(trigger->reason);
	trigger->verdict = verdict;
	trigger->reason = p2p_strdup(text); /* who made it looks whether it is there */
}

/* --- what it writes -------------------------------------------------------------------------- */

struct listener {
	const struct p2p_triggers *triggers;
	struct p2p_trigger_entry *entry;
	bool failed; /* no memory */
};

static bool table_is_ours(const char *name)
{
	return sqlite3_strnicmp(name, "p2p_", 4) == 0;
}

static void listener_add(struct listener *listener, const char *table, enum p2p_sql_event event)
{
	struct p2p_trigger_entry *entry = listener->entry;
	struct p2p_trigger_write *grown, *at;
	size_t i, cap;

	for (i = 0; i < entry->write_count; i++)
		if (entry->writes[i].event == event &&
		    sqlite3_stricmp(entry->writes[i].table, table) == 0)
			return;
	if (entry->write_count == entry->write_cap) {
		cap = entry->write_cap ? entry->write_cap * 2 : 4;
		grown = p2p_realloc(entry->writes, cap * sizeof(*grown));
		if (!grown) {
			listener->failed = true;
			return;
		}
		entry->writes = grown;
		entry->write_cap = cap;
	}
	at = &entry->writes[entry->write_count];
	at->event = event;
	at->replicated = table_is_ours(table) ||
			 listener->triggers->replicated(listener->triggers->ctx, table);
	at->table = p2p_strdup(table);
	if (at->table)
		entry->write_count++;
	else
		listener->failed = true;
}

/* The innermost trigger is named with each action; copies have names that nothing else has. */
static int listen(void *ctx, int action, const char *table, const char *column, const char *schema,
		  const char *trigger)
{
	struct listener *listener = ctx;

	(void)column;
	(void)schema;
	if (!table || !trigger || strcmp(trigger, listener->entry->copy) != 0)
		return SQLITE_OK;
	if (action == SQLITE_INSERT)
		listener_add(listener, table, P2P_SQL_INSERT);
	else if (action == SQLITE_UPDATE)
		listener_add(listener, table, P2P_SQL_UPDATE);
	else if (action == SQLITE_DELETE)
		listener_add(listener, table, P2P_SQL_DELETE);
	return listener->failed ? SQLITE_DENY : SQLITE_OK;
}

/* " SET a=NULL,b=NULL": whatever columns an UPDATE trigger names, it fires. */
static int sql_set_all(const struct p2p_triggers *triggers, struct p2p_buf *sql, const char *table)
{
	static const char query[] = "SELECT name FROM pragma_table_xinfo(?1, 'main')"
				    " WHERE hidden = 0";
	const char *separator = " SET ", *name;
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(triggers->db, query, -1, &stmt, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 1, table, -1, SQLITE_STATIC);
	while (rc == SQLITE_OK && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		name = (const char *)sqlite3_column_text(stmt, 0);
		p2p_sql_text(sql, separator);
		p2p_sql_name(sql, name ? name : "");
		p2p_sql_text(sql, "=NULL");
		separator = ",";
		rc = SQLITE_OK;
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc;
}

/* A statement that fires the trigger; it is compiled, never run. */
static int sql_fire(const struct p2p_triggers *triggers, struct p2p_buf *sql,
		    const struct p2p_trigger_entry *entry)
{
	int rc = SQLITE_DONE;

	p2p_sql_text(sql, entry->text.event == P2P_SQL_INSERT	? "INSERT INTO main."
			  : entry->text.event == P2P_SQL_UPDATE ? "UPDATE main."
								: "DELETE FROM main.");
	p2p_sql_name(sql, entry->trigger.table);
	if (entry->text.event == P2P_SQL_INSERT)
		p2p_sql_text(sql, " DEFAULT VALUES");
	else if (entry->text.event == P2P_SQL_UPDATE)
		rc = sql_set_all(triggers, sql, entry->trigger.table);
	return rc;
}

static void writes_clear(struct p2p_trigger_entry *entry)
{
	while (entry->write_count)
		p2p_free(entry->writes[--entry->write_count].table);
}

/* Compiles it; what cannot be here is unknown and has no copy any more. */
static int entry_compile(struct p2p_triggers *triggers, struct p2p_trigger_entry *entry)
{
	struct listener listener = {triggers, entry, false};
	sqlite3_stmt *stmt = NULL;
	struct p2p_buf sql;
	int rc;

	writes_clear(entry);
	rc = p2p_trigger_copy(triggers, entry);
	if (rc || !entry->copy[0])
		return rc;
	p2p_buf_init(&sql, P2P_RECORD_BYTES_MAX);
	rc = sql_fire(triggers, &sql, entry);
	if (rc == SQLITE_DONE && p2p_buf_error(&sql))
		rc = SQLITE_NOMEM;
	if (rc == SQLITE_DONE) {
		(void)sqlite3_set_authorizer(triggers->db, listen, &listener); /* cannot fail */
		rc = sqlite3_prepare_v2(triggers->db, (const char *)sql.data, (int)sql.len, &stmt,
					NULL);
		(void)sqlite3_set_authorizer(triggers->db, NULL, NULL);
	}
	p2p_buf_deinit(&sql);
	(void)sqlite3_finalize(stmt); /* never stepped */
	if (listener.failed)
		return P2P_ENOMEM;
	entry->compiled = rc == SQLITE_OK;
	if (rc == SQLITE_OK)
		return 0;
	if (!p2p_triggers_may_fail(rc))
		return p2p_store_code(rc);
	p2p_trigger_reason(&entry->trigger, P2P_TRIGGER_UNKNOWN, "it cannot be compiled here: %s",
			   sqlite3_errmsg(triggers->db));
	return p2p_trigger_uncopy(triggers, entry);
}

/* Views first: who writes to one needs its INSTEAD OF triggers. So whoever could not be compiled is
 * tried again while others can. */
static int entries_compile(struct p2p_triggers *triggers)
{
	bool progress = true;
	size_t i;
	int rc = 0;

	while (progress && !rc) {
		progress = false;
		for (i = 0; i < triggers->count && !rc; i++) {
			struct p2p_trigger_entry *entry = &triggers->entries[i];

			if (entry->compiled || !entry->text.body)
				continue;
			rc = entry_compile(triggers, entry);
			progress |= entry->compiled && entry->text.instead;
		}
	}
	return rc;
}

/* --- verdicts -------------------------------------------------------------------------------- */

static const char *const word_raise[] = {"RAISE", "("};
static const char *const word_or_rollback[] = {"OR", "ROLLBACK"};
static const char *const word_or_fail[] = {"OR", "FAIL"};
static const char *const word_on_rollback[] = {"ON", "CONFLICT", "ROLLBACK"};
static const char *const word_on_fail[] = {"ON", "CONFLICT", "FAIL"};

/* A constraint of a table that is written undoes more than the statement. */
static int table_refuses(const struct p2p_triggers *triggers, const char *table, bool *out)
{
	static const char query[] = "SELECT sql FROM main.sqlite_schema WHERE type = 'table'"
				    " AND name = ?1 COLLATE NOCASE";
	sqlite3_stmt *stmt = NULL;
	const char *sql;
	int rc = sqlite3_prepare_v2(triggers->db, query, -1, &stmt, NULL);

	*out = false;
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 1, table, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW) {
		sql = (const char *)sqlite3_column_text(stmt, 0);
		*out = sql && (p2p_sqltext_has(sql, word_on_rollback, 3) ||
			       p2p_sqltext_has(sql, word_on_fail, 3));
		rc = SQLITE_DONE;
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc == SQLITE_DONE ? 0 : p2p_store_code(rc);
}

static int entry_refuses(const struct p2p_triggers *triggers, struct p2p_trigger_entry *entry,
			 bool *out)
{
	size_t i;
	int rc = 0;

	*out = p2p_sqltext_has(entry->sql, word_raise, 2) ||
	       p2p_sqltext_has(entry->sql, word_or_rollback, 2) ||
	       p2p_sqltext_has(entry->sql, word_or_fail, 2);
	for (i = 0; i < entry->write_count && !*out && !rc; i++)
		rc = table_refuses(triggers, entry->writes[i].table, out);
	return rc;
}

/* By what it writes itself. */
static int entry_judge(const struct p2p_triggers *triggers, struct p2p_trigger_entry *entry)
{
	struct p2p_trigger *trigger = &entry->trigger;
	const char *rows = NULL, *local = NULL;
	bool refuses;
	size_t i;
	int rc = entry_refuses(triggers, entry, &refuses);

	for (i = 0; i < entry->write_count; i++) {
		if (entry->writes[i].replicated)
			rows = entry->writes[i].table;
		else
			local = entry->writes[i].table;
	}
	if (rc)
		return rc;
	if (rows && local)
		p2p_trigger_reason(trigger, P2P_TRIGGER_MIXED,
				   "it writes to %s, which is replicated, and to %s, which is not: "
				   "split it in two, and what goes to %s will take effect",
				   rows, local, local);
	else if (rows)
		p2p_trigger_reason(trigger, P2P_TRIGGER_ROWS,
				   "it writes to %s, which is replicated: what it did arrives as "
				   "rows",
				   rows);
	else if (!local)
		p2p_trigger_reason(trigger, P2P_TRIGGER_IDLE, "it writes nothing");
	else if (refuses)
		p2p_trigger_reason(trigger, P2P_TRIGGER_REFUSES,
				   "it may refuse a row (RAISE, OR ROLLBACK, OR FAIL) that is "
				   "there on the node that wrote it: write to %s in a trigger of "
				   "its own",
				   local);
	return trigger->verdict != P2P_TRIGGER_RUNS && !trigger->reason ? P2P_ENOMEM : 0;
}

/* The first trigger that it fires and that does not run, or NULL. One that is idle is missed by
 * nobody. */
static const struct p2p_trigger *entry_stopped_by(const struct p2p_triggers *triggers,
						  const struct p2p_trigger_entry *entry)
{
	size_t i, j;

	for (i = 0; i < entry->write_count; i++)
		for (j = 0; j < triggers->count; j++) {
			const struct p2p_trigger *other = &triggers->entries[j].trigger;

			if (other->event == entry->writes[i].event &&
			    other->verdict != P2P_TRIGGER_RUNS &&
			    other->verdict != P2P_TRIGGER_IDLE &&
			    sqlite3_stricmp(other->table, entry->writes[i].table) == 0)
				return other;
		}
	return NULL;
}

/* Until nothing changes: verdicts only get worse. */
static int entries_stop(struct p2p_triggers *triggers)
{
	bool changed = true;
	size_t i;

	while (changed) {
		changed = false;
		for (i = 0; i < triggers->count; i++) {
			struct p2p_trigger *trigger = &triggers->entries[i].trigger;
			const struct p2p_trigger *other;

			if (trigger->verdict != P2P_TRIGGER_RUNS)
				continue;
			other = entry_stopped_by(triggers, &triggers->entries[i]);
			if (!other)
				continue;
			p2p_trigger_reason(trigger, P2P_TRIGGER_MIXED,
					   "it fires trigger %s, which does not run: %s",
					   other->name, other->reason);
			if (!trigger->reason)
				return P2P_ENOMEM;
			changed = true;
		}
	}
	return 0;
}

int p2p_triggers_judge(struct p2p_triggers *triggers)
{
	size_t i;
	int rc;

	for (i = 0; i < triggers->count; i++) {
		struct p2p_trigger_entry *entry = &triggers->entries[i];

		if (p2p_trigger_text_read(&entry->text, entry->sql))
			entry->trigger.event = entry->text.event;
		else
			p2p_trigger_reason(&entry->trigger, P2P_TRIGGER_UNKNOWN,
					   "its text is not understood");
	}
	rc = entries_compile(triggers);
	for (i = 0; i < triggers->count && !rc; i++) {
		struct p2p_trigger_entry *entry = &triggers->entries[i];

		if (entry->compiled) {
			p2p_free(entry->trigger.reason); /* of an earlier try */
			entry->trigger.reason = NULL;
			entry->trigger.verdict = P2P_TRIGGER_RUNS;
			rc = entry_judge(triggers, entry);
		} else if (!entry->trigger.reason) {
			rc = P2P_ENOMEM;
		}
	}
	if (!rc)
		rc = entries_stop(triggers);
	for (i = 0; i < triggers->count && !rc; i++)
		if (triggers->entries[i].trigger.verdict != P2P_TRIGGER_RUNS)
			rc = p2p_trigger_uncopy(triggers, &triggers->entries[i]);
	return rc;
}
