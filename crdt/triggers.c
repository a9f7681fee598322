/* Copies of the application's triggers on our connection; see triggers.h. */
#include "crdt/triggers.h"

#include <sqlite3.h>
#include <string.h>

#include "crdt/apptable.h"
#include "crdt/triggers_private.h"
#include "proto/check.h"
#include "proto/mem.h"

#define COPY_PREFIX "p2p_local_"

bool p2p_trigger_lossy(const struct p2p_trigger *trigger)
{
	return trigger->replicated &&
	       (trigger->failed || trigger->verdict == P2P_TRIGGER_MIXED ||
		trigger->verdict == P2P_TRIGGER_REFUSES || trigger->verdict == P2P_TRIGGER_UNKNOWN);
}

static void entry_deinit(struct p2p_trigger_entry *entry)
{
	size_t i;

	for (i = 0; i < entry->write_count; i++)
		p2p_free(entry->writes[i].table);
	p2p_free(entry->writes);
	p2p_free(entry->trigger.name);
	p2p_free(entry->trigger.table);
	p2p_free(entry->trigger.reason);
	p2p_free(entry->sql);
}

static void entries_clear(struct p2p_triggers *triggers)
{
	size_t i;

	for (i = 0; i < triggers->count; i++)
		entry_deinit(&triggers->entries[i]);
	triggers->count = triggers->copies = 0;
	triggers->failed_table = NULL;
	triggers->known = false;
}

void p2p_triggers_forget(struct p2p_store *store)
{
	if (!store->triggers)
		return;
	entries_clear(store->triggers);
	p2p_free(store->triggers->entries);
	p2p_free(store->triggers);
	store->triggers = NULL;
}

size_t p2p_triggers_count(const struct p2p_store *store)
{
	return store->triggers ? store->triggers->count : 0;
}

const struct p2p_trigger *p2p_triggers_at(const struct p2p_store *store, size_t index)
{
	p2p_require(index < p2p_triggers_count(store));
	return &store->triggers->entries[index].trigger;
}

/* --- while rows are merged ------------------------------------------------------------------- */

static bool entry_fires(const struct p2p_trigger_entry *entry, const struct p2p_table *table)
{
	return entry->trigger.verdict == P2P_TRIGGER_RUNS &&
	       sqlite3_stricmp(entry->trigger.table, table->name) == 0;
}

unsigned p2p_triggers_events(const struct p2p_store *store, const struct p2p_table *table)
{
	unsigned events = 0;
	size_t i;

	for (i = 0; i < p2p_triggers_count(store); i++)
		if (entry_fires(&store->triggers->entries[i], table))
			events |= store->triggers->entries[i].trigger.event;
	return events;
}

void p2p_triggers_on(struct p2p_store *store)
{
	p2p_require(store->triggers != NULL);
	store->triggers->running = true;
}

void p2p_triggers_off(struct p2p_store *store)
{
	p2p_require(store->triggers != NULL);
	store->triggers->running = false;
}

bool p2p_triggers_may_fail(int sqlite_rc)
{
	switch (sqlite_rc & 0xff) {
	case SQLITE_NOMEM:
	case SQLITE_IOERR:
	case SQLITE_FULL:
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_PROTOCOL:
	case SQLITE_INTERRUPT:
	case SQLITE_READONLY:
	case SQLITE_CANTOPEN:
	case SQLITE_NOTADB:
		return false;
	default:
		/* also SQLITE_CORRUPT: an FTS5 index that does not fit its table says so */
		return true;
	}
}

void p2p_triggers_failed(struct p2p_store *store, const struct p2p_table *table,
			 enum p2p_sql_event event, const char *why)
{
	struct p2p_triggers *triggers = store->triggers;
	const char *last = triggers->failed_table;
	size_t i;

	for (i = 0; i < triggers->count; i++) {
		struct p2p_trigger_entry *entry = &triggers->entries[i];

		if (!entry_fires(entry, table) || entry->trigger.event != event)
			continue;
		entry->trigger.failed++;
		triggers->failed_table = entry->trigger.table;
	}
	if (last && sqlite3_stricmp(last, table->name) == 0)
		return;
	p2p_log(store->log, P2P_LOG_WARN, "crdt",
		"table %s: a trigger failed on a merged row, which was written without it: %s. "
		"Rebuild what it keeps",
		table->name, why);
}

static void guard_function(sqlite3_context *context, int count, sqlite3_value **values)
{
	const struct p2p_triggers *triggers = sqlite3_user_data(context);

	(void)count;
	(void)values;
	sqlite3_result_int(context, triggers->running);
}

/* --- copies ---------------------------------------------------------------------------------- */

static int sql_step(const struct p2p_triggers *triggers, struct p2p_buf *sql)
{
	p2p_buf_put_u8(sql, 0);
	if (p2p_buf_error(sql))
		return SQLITE_NOMEM;
	return sqlite3_exec(triggers->db, (const char *)sql->data, NULL, NULL, NULL);
}

int p2p_trigger_copy(struct p2p_triggers *triggers, struct p2p_trigger_entry *entry)
{
	struct p2p_buf sql;
	int rc;

	(void)sqlite3_snprintf((int)sizeof(entry->copy), entry->copy, COPY_PREFIX "%llu_%llu",
			       (unsigned long long)triggers->generation,
			       (unsigned long long)(entry - triggers->entries));
	p2p_buf_init(&sql, P2P_RECORD_BYTES_MAX);
	p2p_trigger_text_copy(&sql, &entry->text, entry->copy, P2P_TRIGGER_GUARD);
	rc = sql_step(triggers, &sql);
	p2p_buf_deinit(&sql);
	if (rc == SQLITE_OK) {
		triggers->copies++;
		return 0;
	}
	entry->copy[0] = 0;
	if (!p2p_triggers_may_fail(rc))
		return p2p_store_code(rc);
	p2p_trigger_reason(&entry->trigger, P2P_TRIGGER_UNKNOWN, "it cannot be compiled here: %s",
			   sqlite3_errmsg(triggers->db));
	return 0;
}

static int copy_drop(const struct p2p_triggers *triggers, const char *name)
{
	struct p2p_buf sql;
	int rc;

	p2p_buf_init(&sql, 4096);
	p2p_sql_text(&sql, "DROP TRIGGER IF EXISTS temp.");
	p2p_sql_name(&sql, name);
	rc = sql_step(triggers, &sql);
	p2p_buf_deinit(&sql);
	return rc == SQLITE_OK ? 0 : p2p_store_code(rc);
}

int p2p_trigger_uncopy(struct p2p_triggers *triggers, struct p2p_trigger_entry *entry)
{
	int rc;

	if (!entry->copy[0])
		return 0;
	rc = copy_drop(triggers, entry->copy);
	entry->copy[0] = 0;
	triggers->copies--;
	return rc;
}

/* The first copy that is there, and is no orphan of a table that is gone: such a one cannot be
 * dropped, and fires again when its table is back; then, the schema having moved, it is dropped. */
static int copy_first(const struct p2p_triggers *triggers, const char *after, struct p2p_buf *out)
{
	static const char query[] = "SELECT min(name) FROM sqlite_temp_schema"
				    " WHERE type = 'trigger' AND name > ?1"
				    " AND substr(name, 1, 10) = '" COPY_PREFIX "'";
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(triggers->db, query, -1, &stmt, NULL);
	const char *name;

	p2p_buf_reset(out);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 1, after, -1, SQLITE_TRANSIENT);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW) {
		name = (const char *)sqlite3_column_text(stmt, 0);
		p2p_sql_text(out, name ? name : "");
		p2p_buf_put_u8(out, 0);
		rc = p2p_buf_error(out) ? SQLITE_NOMEM : SQLITE_OK;
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc == SQLITE_OK ? 0 : p2p_store_code(rc);
}

static int copies_drop(const struct p2p_triggers *triggers)
{
	struct p2p_buf name;
	char last[P2P_TRIGGER_NAME_BYTES] = "";
	int rc;

	p2p_buf_init(&name, sizeof(last));
	do {
		rc = copy_first(triggers, last, &name);
		if (rc)
			break;
		(void)sqlite3_snprintf((int)sizeof(last), last, "%s", (const char *)name.data);
		if (last[0])
			rc = copy_drop(triggers, last);
	} while (!rc && last[0]); /* names grow */
	p2p_buf_deinit(&name);
	return rc;
}

/* --- refresh --------------------------------------------------------------------------------- */

static int version_read(struct p2p_store *store, enum p2p_store_sql which, int64_t *out)
{
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(store, which, &stmt), step;

	if (rc)
		return rc;
	step = sqlite3_step(stmt);
	*out = step == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
	if (step != SQLITE_ROW)
		rc = p2p_store_error(store, step, NULL, "read the schema version of");
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

static int entry_add(struct p2p_triggers *triggers, sqlite3_stmt *stmt)
{
	const char *name = (const char *)sqlite3_column_text(stmt, 0);
	const char *table = (const char *)sqlite3_column_text(stmt, 1);
	const char *sql = (const char *)sqlite3_column_text(stmt, 2);
	struct p2p_trigger_entry *entry, *grown;
	size_t cap;

	if (!name || !table || !sql)
		return P2P_ENOMEM;
	if (triggers->count == triggers->cap) {
		cap = triggers->cap ? triggers->cap * 2 : 8;
		grown = p2p_realloc(triggers->entries, cap * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		triggers->entries = grown;
		triggers->cap = cap;
	}
	entry = &triggers->entries[triggers->count++];
	memset(entry, 0, sizeof(*entry));
	entry->trigger.name = p2p_strdup(name);
	entry->trigger.table = p2p_strdup(table);
	entry->sql = p2p_strdup(sql);
	if (!entry->trigger.name || !entry->trigger.table || !entry->sql)
		return P2P_ENOMEM;
	entry->trigger.replicated = triggers->replicated(triggers->ctx, table);
	return 0;
}

static int entries_read(struct p2p_triggers *triggers)
{
	static const char query[] =
		"SELECT name, tbl_name, sql FROM main.sqlite_schema WHERE type = 'trigger'"
		" AND name NOT LIKE 'p2p\\_%' ESCAPE '\\' AND sql IS NOT NULL ORDER BY rowid";
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(triggers->db, query, -1, &stmt, NULL), result = 0;

	while (rc == SQLITE_OK && !result) {
		rc = sqlite3_step(stmt);
		if (rc != SQLITE_ROW)
			break;
		rc = SQLITE_OK;
		result = entry_add(triggers, stmt);
	}
	if (!result && rc != SQLITE_DONE)
		result = p2p_store_code(rc);
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return result;
}

static void entries_tell(struct p2p_store *store, const struct p2p_triggers *triggers)
{
	size_t i;

	for (i = 0; i < triggers->count; i++) {
		const struct p2p_trigger *trigger = &triggers->entries[i].trigger;

		if (p2p_trigger_lossy(trigger))
			p2p_log(store->log, P2P_LOG_WARN, "crdt",
				"trigger %s of table %s does not run for rows of other nodes: %s",
				trigger->name, trigger->table, trigger->reason);
	}
}

static int refresh(struct p2p_triggers *triggers)
{
	bool copied = triggers->generation > 0;
	int rc, sql;

	entries_clear(triggers);
	/* this reads the schema anew, so that copies of tables that are back can be dropped */
	rc = entries_read(triggers);
	if (!rc && copied)
		rc = copies_drop(triggers);
	if (rc || !triggers->count)
		return rc;
	if (!triggers->guarded) {
		sql = sqlite3_create_function_v2(triggers->db, "p2p_merging", 0, SQLITE_UTF8,
						 triggers, guard_function, NULL, NULL, NULL);
		if (sql != SQLITE_OK)
			return p2p_store_code(sql);
		triggers->guarded = true;
	}
	triggers->generation++;
	return p2p_triggers_judge(triggers);
}

static bool store_replicates(void *ctx, const char *table)
{
	return p2p_store_table_by_name(ctx, table) != NULL;
}

int p2p_triggers_survey(struct sqlite3 *db, bool (*replicated)(void *ctx, const char *table),
			int (*each)(void *ctx, const struct p2p_trigger *trigger), void *ctx)
{
	struct p2p_triggers triggers = {.db = db, .replicated = replicated, .ctx = ctx};
	size_t i;
	int rc = sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);

	rc = rc == SQLITE_OK ? refresh(&triggers) : p2p_store_code(rc);
	if (!rc)
		rc = copies_drop(&triggers);
	for (i = 0; i < triggers.count && !rc; i++)
		rc = each(ctx, &triggers.entries[i].trigger);
	entries_clear(&triggers);
	p2p_free(triggers.entries);
	/* its data ends here; what fails leaves a function that nothing calls */
	(void)sqlite3_create_function_v2(db, "p2p_merging", 0, SQLITE_UTF8, NULL, NULL, NULL, NULL,
					 NULL);
	return rc;
}

int p2p_triggers_refresh(struct p2p_store *store)
{
	struct p2p_triggers *triggers = store->triggers;
	int64_t version = 0, temp = 0;
	int rc;

	if (!triggers) {
		triggers = store->triggers = p2p_calloc(1, sizeof(*triggers));
		if (!triggers)
			return P2P_ENOMEM;
		triggers->db = store->db;
		triggers->replicated = store_replicates;
		triggers->ctx = store;
	}
	rc = version_read(store, P2P_SQL_SCHEMA_VERSION, &version);
	/* a rollback takes copies back that were made in its transaction */
	if (!rc && triggers->copies)
		rc = version_read(store, P2P_SQL_TEMP_VERSION, &temp);
	if (rc || (triggers->known && version == triggers->version &&
		   temp == triggers->temp_version && triggers->table_count == store->table_count))
		return rc;
	rc = refresh(triggers);
	if (!rc && triggers->copies)
		rc = version_read(store, P2P_SQL_TEMP_VERSION, &triggers->temp_version);
	if (rc) {
		entries_clear(triggers);
		return rc;
	}
	if (!triggers->copies)
		triggers->temp_version = 0;
	if (version != triggers->told)
		entries_tell(store, triggers);
	triggers->told = triggers->version = version;
	triggers->table_count = store->table_count;
	triggers->known = true;
	return 0;
}
