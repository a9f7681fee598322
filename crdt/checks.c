/* Which merged rows break a CHECK; see checks.h. */
#include "crdt/checks.h"

#include <sqlite3.h>
#include <string.h>

#include "crdt/conflict_entry.h"
#include "crdt/conflicts.h"
#include "crdt/settle.h"
#include "crdt/store_private.h"
#include "proto/check.h"

#define SQL_BYTES_MAX (16u * 1024 * 1024)

void p2p_checks_init(struct p2p_checks *checks)
{
	memset(checks, 0, sizeof(*checks));
	p2p_buf_init(&checks->keys, P2P_RECORD_BYTES_MAX);
}

void p2p_checks_deinit(struct p2p_checks *checks)
{
	(void)sqlite3_finalize(checks->insert); /* errors were seen at the steps */
	(void)sqlite3_finalize(checks->clear);
	(void)sqlite3_close_v2(checks->db);
	p2p_buf_deinit(&checks->keys);
}

/* --- the private database --------------------------------------------------------------------- */

static bool mentions_check(const char *sql)
{
	for (; *sql; sql++)
		if (sqlite3_strnicmp(sql, "check", 5) == 0)
			return true;
	return false;
}

/* A table that cannot be made there, for a function of the application in a constraint: nobody can
 * judge it here. */
static int private_open(struct p2p_checks *checks, const struct p2p_table *table, const char *text)
{
	struct p2p_buf sql;
	int rc = sqlite3_open_v2(":memory:", &checks->db,
				 SQLITE_OPEN_READWRITE | SQLITE_OPEN_MEMORY, NULL);

	if (rc == SQLITE_OK) /* as in the store */
		rc = sqlite3_db_config(checks->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 1, NULL);
	if (rc != SQLITE_OK)
		return P2P_ENOMEM;
	rc = sqlite3_exec(checks->db, text, NULL, NULL, NULL);
	if (rc == SQLITE_OK) {
		p2p_buf_init(&sql, SQL_BYTES_MAX);
		p2p_sql_insert(&sql, table, NULL, false);
		rc = p2p_buf_error(&sql) ? SQLITE_NOMEM
					 : sqlite3_prepare_v2(checks->db, (const char *)sql.data,
							      (int)sql.len, &checks->insert, NULL);
		p2p_buf_deinit(&sql);
	}
	if (rc == SQLITE_OK) {
		p2p_buf_init(&sql, SQL_BYTES_MAX);
		p2p_sql_text(&sql, "DELETE FROM main.");
		p2p_sql_name(&sql, table->name);
		rc = p2p_buf_error(&sql) ? SQLITE_NOMEM
					 : sqlite3_prepare_v2(checks->db, (const char *)sql.data,
							      (int)sql.len, &checks->clear, NULL);
		p2p_buf_deinit(&sql);
	}
	checks->any = rc == SQLITE_OK;
	return rc == SQLITE_NOMEM ? P2P_ENOMEM : 0;
}

static int checks_load(struct p2p_target *target)
{
	struct p2p_checks *checks = &target->checks;
	const char *text;
	sqlite3_stmt *stmt = NULL;
	int rc, result = 0;

	if (checks->known)
		return 0;
	rc = sqlite3_prepare_v2(p2p_store_db(target->store),
				"SELECT sql FROM main.sqlite_schema"
				" WHERE type = 'table' AND name = ?1",
				-1, &stmt, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 1, target->table->name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	text = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
	if (text && mentions_check(text))
		result = private_open(checks, target->table, text);
	else if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		result = p2p_store_error(target->store, rc, NULL, "read a table");
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	checks->known = result == 0;
	return result;
}

/* --- which rows ------------------------------------------------------------------------------- */

int p2p_checks_touch(struct p2p_target *target, const struct p2p_buf *key)
{
	struct p2p_checks *checks = &target->checks;
	struct p2p_reader reader;
	const uint8_t *last;
	size_t len;
	int rc = checks_load(target);

	if (rc || !checks->any)
		return rc;
	/* often the same row again and again */
	if (checks->keys.len) {
		p2p_reader_init(&reader, checks->keys.data + checks->last,
				checks->keys.len - checks->last);
		last = p2p_read_bytes(&reader, P2P_RECORD_BYTES_MAX, &len);
		if (last && len == key->len && memcmp(last, key->data, len) == 0)
			return 0;
	}
	checks->last = checks->keys.len;
	p2p_buf_put_bytes(&checks->keys, key->data, key->len);
	return p2p_buf_error(&checks->keys);
}

int p2p_checks_touch_listed(struct p2p_target *target)
{
	struct p2p_checks *checks = &target->checks;
	sqlite3_stmt *stmt;
	int rc = checks_load(target), step = SQLITE_DONE;

	if (!rc)
		rc = p2p_store_statement(target->store, P2P_SQL_CONFLICT_CHECKED, &stmt);
	if (rc)
		return rc;
	if (sqlite3_bind_int64(stmt, 1, target->table->number) != SQLITE_OK)
		return P2P_ENOMEM;
	while (!rc && (step = sqlite3_step(stmt)) == SQLITE_ROW) {
		checks->last = checks->keys.len;
		p2p_buf_put_bytes(&checks->keys, sqlite3_column_blob(stmt, 0),
				  (size_t)sqlite3_column_bytes(stmt, 0));
		rc = p2p_buf_error(&checks->keys);
	}
	if (!rc && step != SQLITE_DONE)
		rc = p2p_store_error(target->store, step, NULL, "read conflicts of");
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

/* --- judging ---------------------------------------------------------------------------------- */

/* Empty for the next row. */
static int private_clear(struct p2p_checks *checks)
{
	int rc = sqlite3_step(checks->clear);

	(void)sqlite3_reset(checks->clear); /* repeats the step's error */
	return rc == SQLITE_DONE ? 0 : P2P_ENOMEM;
}

/* *out_why: what SQLite says of the constraint that is broken, borrowed; NULL: none is. */
static int row_judge(struct p2p_target *target, const struct p2p_rowwork *work,
		     const char **out_why)
{
	struct p2p_checks *checks = &target->checks;
	const struct p2p_table *table = target->table;
	static const struct p2p_value none;
	uint32_t i;
	int at = 0, rc = 0;

	*out_why = NULL;
	for (i = 0; i < table->column_count && !rc; i++) {
		if (table->columns[i].flags & P2P_COLUMN_GENERATED)
			continue;
		rc = p2p_value_bind(checks->insert, ++at,
				    work->cells.set[i] ? &work->cells.values[i] : &none);
	}
	if (rc)
		return rc;
	rc = sqlite3_step(checks->insert);
	(void)sqlite3_reset(checks->insert); /* repeats the step's error */
	(void)sqlite3_clear_bindings(checks->insert);
	if (rc == SQLITE_NOMEM)
		return P2P_ENOMEM;
	if (rc == SQLITE_DONE)
		return private_clear(checks);
	if (sqlite3_extended_errcode(checks->db) == SQLITE_CONSTRAINT_CHECK)
		*out_why = sqlite3_errmsg(checks->db);
	return 0;
}

struct broken {
	const char *why; /* borrowed until the next row is judged */
	int64_t id;	 /* of its entry; 0: it has none yet */
};

static int entry_statement(struct p2p_target *target, enum p2p_store_sql which,
			   const struct p2p_buf *key, sqlite3_stmt **out)
{
	int rc = p2p_store_statement(target->store, which, out);

	if (rc)
		return rc;
	return sqlite3_bind_int64(*out, 1, target->table->number) == SQLITE_OK &&
			       sqlite3_bind_blob64(*out, 2, key->data, key->len, SQLITE_STATIC) ==
				       SQLITE_OK
		       ? 0
		       : P2P_ENOMEM;
}

/* Takes the row off the list. *out_id: of its entry, 0: it was not there. */
static int entry_drop(struct p2p_target *target, const struct p2p_buf *key, int64_t *out_id)
{
	sqlite3_stmt *stmt;
	int rc = entry_statement(target, P2P_SQL_CONFLICT_CHECK, key, &stmt), step;

	if (rc)
		return rc;
	step = sqlite3_step(stmt);
	*out_id = step == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	if (step == SQLITE_DONE)
		return 0;
	if (step != SQLITE_ROW)
		return p2p_store_error(target->store, step, NULL, "read a conflict of");
	rc = entry_statement(target, P2P_SQL_CONFLICT_MENDED, key, &stmt);
	return rc ? rc : p2p_store_run(target->store, stmt, "forget a conflict of");
}

/* The row as it is, all of it: nothing of it was lost. */
static int entry_put(struct p2p_target *target, struct p2p_rowwork *work,
		     const struct p2p_authority *authority, const struct broken *broken)
{
	struct p2p_conflict_place place = {authority, &work->key, &work->number};
	struct p2p_conflict_entry entry;
	struct p2p_conflict_side side;
	struct p2p_buf row;
	uint32_t i;
	int rc = p2p_conflict_entry_init(&entry, target, "check");

	p2p_buf_init(&row, P2P_RECORD_BYTES_MAX);
	entry.count = 1;
	entry.reason = broken->why;
	entry.id = broken->id;
	for (i = 0; i < target->table->column_count && !rc; i++)
		if (p2p_conflict_side_of(work, target, i, &side) && !side.row.table)
			rc = p2p_conflict_entry_keep(&entry, i, &side);
	if (!rc)
		rc = p2p_conflicts_youngest(work, target, &entry.origin);
	if (!rc)
		rc = p2p_conflict_entry_row(work, target, &row);
	if (!rc)
		rc = p2p_conflict_entry_store(&entry, &place, &row);
	p2p_buf_deinit(&row);
	p2p_conflict_entry_deinit(&entry);
	return rc == P2P_ETOOBIG ? 0 : rc;
}

/* *out: some row of the table is listed. */
static int listed_any(struct p2p_target *target, bool *out)
{
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(target->store, P2P_SQL_CONFLICT_CHECKED, &stmt), step;

	if (rc)
		return rc;
	if (sqlite3_bind_int64(stmt, 1, target->table->number) != SQLITE_OK)
		return P2P_ENOMEM;
	step = sqlite3_step(stmt);
	*out = step == SQLITE_ROW;
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return step == SQLITE_ROW || step == SQLITE_DONE
		       ? 0
		       : p2p_store_error(target->store, step, NULL, "read conflicts of");
}

/* As its table has it, the key among them. A row that is gone (pushed out, and not captured yet)
 * has none. */
static int row_values(struct p2p_target *target, struct p2p_rowwork *work)
{
	struct p2p_value key[P2P_KEY_COLUMNS_MAX];
	uint32_t i;
	int rc = p2p_rowwork_gather(work, target, true);

	if (rc)
		return rc == P2P_ECORRUPT ? 0 : rc;
	rc = p2p_rowwork_key(work, target, key);
	for (i = 0; i < target->table->key_count && !rc; i++)
		if (!work->cells.set[target->table->key[i]])
			p2p_cells_set(&work->cells, target->table->key[i], &key[i]);
	return rc;
}

static int row_run(struct p2p_target *target, struct p2p_rowwork *work,
		   const struct p2p_authority *authority, bool listed)
{
	struct broken broken = {NULL, 0};
	int rc = 0;

	if (p2p_numbers_complete(target->table, &work->state) &&
	    !(work->state.flags & P2P_ROW_PARKED)) {
		rc = row_values(target, work);
		if (!rc)
			rc = row_judge(target, work, &broken.why);
	}
	if (!rc && listed)
		rc = entry_drop(target, &work->key, &broken.id);
	return rc || !broken.why ? rc : entry_put(target, work, authority, &broken);
}

int p2p_checks_run(struct p2p_target *target, struct p2p_rowwork *work,
		   const struct p2p_authority *authority)
{
	struct p2p_checks *checks = &target->checks;
	struct p2p_reader reader;
	const uint8_t *key;
	bool listed = false;
	size_t len;
	int rc = checks->keys.len ? listed_any(target, &listed) : 0;

	p2p_reader_init(&reader, checks->keys.data, checks->keys.len);
	while (!rc && p2p_reader_left(&reader)) {
		key = p2p_read_bytes(&reader, P2P_RECORD_BYTES_MAX, &len);
		p2p_require(key != NULL); /* we wrote the list */
		rc = p2p_rowwork_load_key(work, target, key, len);
		if (!rc)
			rc = row_run(target, work, authority, listed);
	}
	p2p_buf_reset(&checks->keys);
	checks->last = 0;
	return rc;
}
