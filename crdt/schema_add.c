/* What a Schema record has beyond a table that is here already: columns and indexes; see schema.h.
 *
 * The words for a column come out of the record's CREATE TABLE: ALTER TABLE ADD COLUMN puts them
 * into the stored text as they are, so they are what the text has more than ours. They are tried on
 * our table in an empty in-memory database first; only if that leaves the very text of the record,
 * which was tried as a whole before, are they run. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/schema_private.h"
#include "proto/limits.h"
#include "proto/mem.h"
#include "proto/message.h"

#define COLUMN_TRIES_MAX 256 /* places where the words for one column may end */

struct adding {
	sqlite3 *db;	/* borrowed: the file */
	sqlite3 *trial; /* owned: in memory */
	const P2p__V1__Schema *body;
	char **steps; /* owned, by sqlite3_malloc(): statements for the columns */
	size_t step_count;
	struct p2p_error *err;
};

static int adding_error(struct adding *adding, int code, const char *why)
{
	return p2p_error_set(adding->err, code, "table %.64s: %s", adding->body->name, why);
}

/* sqlite_schema's text of an object; freed by sqlite3_free(). NULL: not there. */
static int text_of(sqlite3 *db, const char *type, const char *name, char **out)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(db,
				    "SELECT sql FROM main.sqlite_schema WHERE type = ?1"
				    " AND name = ?2 COLLATE NOCASE",
				    -1, &stmt, NULL);

	*out = NULL;
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 1, type, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 2, name, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW && sqlite3_column_text(stmt, 0)) {
		*out = sqlite3_mprintf("%s", (const char *)sqlite3_column_text(stmt, 0));
		rc = *out ? SQLITE_DONE : SQLITE_NOMEM;
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : p2p_schema_error(db, rc, NULL, name);
}

/* --- columns ---------------------------------------------------------------------------------- */

static bool trial_run(struct adding *adding, const char *sql)
{
	const char *tail = NULL;
	sqlite3_stmt *stmt = NULL;
	bool done = sqlite3_prepare_v2(adding->trial, sql, -1, &stmt, &tail) == SQLITE_OK && stmt &&
		    !*tail && sqlite3_step(stmt) == SQLITE_DONE;

	return sqlite3_finalize(stmt) == SQLITE_OK && done;
}

static int step_keep(struct adding *adding, char *sql)
{
	char **grown = p2p_realloc(adding->steps, (adding->step_count + 1) * sizeof(*grown));

	if (!grown) {
		sqlite3_free(sql);
		return P2P_ENOMEM;
	}
	adding->steps = grown;
	grown[adding->step_count++] = sql;
	return 0;
}

/* The words for the first of the columns in text: up to the first ", " where SQLite takes them. */
static int column_step(struct adding *adding, const char *text, size_t len, size_t *out_used)
{
	size_t end = 0;
	unsigned int tries;
	char *sql;

	for (tries = 0; tries < COLUMN_TRIES_MAX && end < len; tries++) {
		const char *comma = memmem(text + end + 1, len - end - 1, ", ", 2);

		end = comma ? (size_t)(comma - text) : len;
		sql = sqlite3_mprintf("ALTER TABLE main.\"%w\" ADD COLUMN %.*s", adding->body->name,
				      (int)end, text);
		if (!sql)
			return P2P_ENOMEM;
		if (trial_run(adding, sql)) {
			*out_used = end < len ? end + 2 : len;
			return step_keep(adding, sql);
		}
		sqlite3_free(sql);
	}
	return P2P_ENOENT;
}

static void steps_drop(struct adding *adding)
{
	while (adding->step_count)
		sqlite3_free(adding->steps[--adding->step_count]);
	p2p_free(adding->steps);
	adding->steps = NULL;
}

static int trial_open(struct adding *adding, const char *ours)
{
	(void)sqlite3_close_v2(adding->trial); /* in memory: nothing to lose */
	adding->trial = NULL;
	steps_drop(adding);
	if (sqlite3_open_v2(":memory:", &adding->trial, SQLITE_OPEN_READWRITE | SQLITE_OPEN_MEMORY,
			    NULL) != SQLITE_OK)
		return P2P_ENOMEM;
	return trial_run(adding, ours)
		       ? 0
		       : adding_error(adding, P2P_EREFUSED, "it cannot be tried apart");
}

/* The columns are `len` bytes of the record's text. P2P_ENOENT: that does not lead to it. */
static int columns_try(struct adding *adding, const char *ours, const char *text, size_t len)
{
	char *made = NULL;
	size_t used = 0;
	int rc = trial_open(adding, ours);

	while (!rc && len) {
		rc = column_step(adding, text, len, &used);
		text += used;
		len -= rc ? 0 : used;
	}
	if (!rc)
		rc = text_of(adding->trial, "table", adding->body->name, &made);
	if (!rc && (!made || strcmp(made, adding->body->create_sql) != 0))
		rc = P2P_ENOENT;
	sqlite3_free(made);
	return rc;
}

/* Where theirs goes on as ours does, with more in between. */
static int columns_find(struct adding *adding, const char *ours)
{
	const char *theirs = adding->body->create_sql;
	size_t len = strlen(ours), more, at = 0;
	int rc = P2P_ENOENT;

	if (strlen(theirs) < len + 3)
		return P2P_ENOENT;
	more = strlen(theirs) - len;
	while (at < len && ours[at] == theirs[at])
		at++;
	for (;; at--) {
		if (strcmp(ours + at, theirs + at + more) != 0)
			break;
		if (memcmp(theirs + at, ", ", 2) == 0)
			rc = columns_try(adding, ours, theirs + at + 2, more - 2);
		if (rc != P2P_ENOENT || !at)
			break;
	}
	return rc;
}

static int columns_add(struct adding *adding, const char *ours)
{
	size_t i;
	int rc = columns_find(adding, ours), step = SQLITE_OK;

	if (rc == P2P_ENOENT)
		return adding_error(adding, P2P_EREFUSED,
				    "its columns are not those of the mesh with some missing: it "
				    "is left as it is");
	for (i = 0; i < adding->step_count && !rc && step == SQLITE_OK; i++)
		step = sqlite3_exec(adding->db, adding->steps[i], NULL, NULL, NULL);
	if (rc || step == SQLITE_OK)
		return rc;
	if (step == SQLITE_ERROR)
		return adding_error(adding, P2P_EREFUSED, sqlite3_errmsg(adding->db));
	return p2p_schema_error(adding->db, step, adding->err, adding->body->name);
}

/* --- all of it -------------------------------------------------------------------------------- */

static bool has_all_columns(const struct p2p_table *table, const P2p__V1__Schema *body)
{
	uint32_t i;
	size_t j;

	for (j = 0; j < body->n_columns; j++) {
		for (i = 0; i < table->column_count; i++)
			if (sqlite3_stricmp(table->columns[i].name, body->columns[j]->name) == 0)
				break;
		if (i == table->column_count)
			return false;
	}
	return true;
}

static int has_index(sqlite3 *db, const char *sql, bool *out)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(
		db, "SELECT 1 FROM main.sqlite_schema WHERE type = 'index' AND sql = ?1", -1, &stmt,
		NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 1, sql, -1, SQLITE_STATIC);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	*out = rc == SQLITE_ROW;
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : p2p_schema_error(db, rc, NULL, "index");
}

/* One that cannot be made here (its name is taken, rows of ours break it) is none. */
static int indexes_add(struct adding *adding)
{
	size_t i;
	bool has;
	int rc = 0;

	for (i = 0; i < adding->body->n_index_sql && !rc; i++) {
		int step;

		rc = has_index(adding->db, adding->body->index_sql[i], &has);
		if (rc || has)
			continue;
		step = sqlite3_exec(adding->db, adding->body->index_sql[i], NULL, NULL, NULL);
		if (step == SQLITE_ERROR || (step & 0xff) == SQLITE_CONSTRAINT)
			continue;
		if (step != SQLITE_OK)
			rc = p2p_schema_error(adding->db, step, adding->err, adding->body->name);
	}
	return rc;
}

static int add(struct adding *adding)
{
	struct p2p_table table;
	char *ours = NULL;
	bool whole;
	int rc = p2p_schema_read_table(adding->db, adding->body->name, &table, adding->err);

	if (rc)
		return rc;
	whole = has_all_columns(&table, adding->body);
	p2p_table_deinit(&table);
	if (!whole)
		rc = text_of(adding->db, "table", adding->body->name, &ours);
	if (!rc && !whole)
		rc = ours ? columns_add(adding, ours) : P2P_ENOENT;
	sqlite3_free(ours);
	return rc ? rc : indexes_add(adding);
}

int p2p_schema_add(sqlite3 *db, const void *body, size_t len, struct p2p_error *err)
{
	struct adding adding = {.db = db, .err = err};
	const ProtobufCMessage *message;
	void *arena;
	int rc = p2p_schema_check(body, len, err);

	if (!rc)
		rc = p2p_unpack(&p2p__v1__schema__descriptor, body, len, &message, &arena);
	if (rc)
		return rc;
	adding.body = (const P2p__V1__Schema *)message;
	rc = sqlite3_exec(db, "SAVEPOINT p2p_schema", NULL, NULL, NULL) == SQLITE_OK ? add(&adding)
										     : P2P_EIO;
	if (rc) /* SQLite may have rolled everything back by itself; then this does nothing */
		(void)sqlite3_exec(db, "ROLLBACK TO p2p_schema", NULL, NULL, NULL);
	if (sqlite3_exec(db, "RELEASE p2p_schema", NULL, NULL, NULL) != SQLITE_OK && !rc)
		rc = p2p_error_set(err, P2P_EIO, "change a table: %s", sqlite3_errmsg(db));
	(void)sqlite3_close_v2(adding.trial); /* in memory: nothing to lose */
	steps_drop(&adding);
	p2p_unpack_free(arena);
	return rc;
}
