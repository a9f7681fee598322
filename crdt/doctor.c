/* Findings table by table; see doctor.h. */
#include "crdt/doctor.h"

#include <ctype.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <string.h>

#include "crdt/doctor_private.h"
#include "crdt/triggers.h"
#include "proto/check.h"
#include "proto/limits.h"
#include "proto/mem.h"

#define BUSY_WAIT_MS   5000
#define TEXT_BYTES_MAX (64u * 1024)
#define GUESS_ROWS     1000 /* looked at to tell a reference from another number */
#define GUESS_HITS     95   /* of a hundred */

int p2p_doctor_tell(struct p2p_doctor *doctor, const char *table, enum p2p_finding_level level,
		    const char *topic, const char *advice, const char *format, ...)
{
	struct p2p_finding finding = {table, level, topic, NULL, advice};
	va_list args;
	char *text;
	int rc;

	va_start(args, format);
	text = sqlite3_vmprintf(format, args);
	va_end(args);
	if (!text)
		return P2P_ENOMEM;
	finding.text = text;
	rc = doctor->each(doctor->ctx, &finding);
	sqlite3_free(text);
	return rc;
}

int p2p_doctor_count(struct p2p_doctor *doctor, long long *out, const char *format, ...)
{
	sqlite3_stmt *stmt = NULL;
	va_list args;
	char *sql;
	int rc;

	*out = 0;
	va_start(args, format);
	sql = sqlite3_vmprintf(format, args);
	va_end(args);
	rc = sql ? sqlite3_prepare_v2(doctor->db, sql, -1, &stmt, NULL) : SQLITE_NOMEM;
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		*out = sqlite3_column_int64(stmt, 0);
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	sqlite3_free(sql);
	/* what cannot be asked (a function that is not here) is told where it matters */
	return rc == SQLITE_NOMEM ? P2P_ENOMEM : 0;
}

/* "a, b and c" */
static char *column_list(const struct p2p_table *table, const uint32_t *columns, uint32_t count)
{
	char *list = sqlite3_mprintf("%s", "");
	uint32_t i;

	for (i = 0; i < count && list; i++) {
		const char *between = i == 0 ? "" : i + 1 == count ? " and " : ", ";
		char *more =
			sqlite3_mprintf("%s%s%s", list, between, table->columns[columns[i]].name);

		sqlite3_free(list);
		list = more;
	}
	return list;
}

static struct p2p_table *table_named(struct p2p_doctor *doctor, const char *name)
{
	size_t i;

	for (i = 0; i < doctor->count; i++)
		if (sqlite3_stricmp(doctor->tables[i].name, name) == 0)
			return &doctor->tables[i];
	return NULL;
}

/* --- identity ----------------------------------------------------------------------------------
 */

static int null_keys(struct p2p_doctor *doctor, const struct p2p_table *table)
{
	long long total = 0, count;
	uint32_t i;
	int rc = 0;

	for (i = 0; i < table->key_count && !rc && !table->lone_number; i++) {
		rc = p2p_doctor_count(doctor, &count,
				      "SELECT count(*) FROM main.\"%w\" WHERE \"%w\" IS NULL",
				      table->name, table->columns[table->key[i]].name);
		total += count;
	}
	if (rc || !total)
		return rc;
	return p2p_doctor_tell(doctor, table->name, P2P_FINDING_WARN, "identity",
			       "give these rows a key",
			       "%lld rows have NULL in their key: they stay on this machine",
			       total);
}

static bool is_reference(struct p2p_doctor *doctor, const struct p2p_table *table, uint32_t column)
{
	uint32_t i;

	for (i = 0; i < table->foreign_count; i++) {
		const struct p2p_table *parent = table_named(doctor, table->foreigns[i].parent);

		if (table->foreigns[i].columns[0] == column && parent &&
		    parent->state != P2P_TABLE_REFUSED &&
		    p2p_foreign_is_reference(table, &table->foreigns[i], parent))
			return true;
	}
	return false;
}

static int identity(struct p2p_doctor *doctor, const struct p2p_table *table)
{
	char *key = column_list(table, table->key, table->key_count);
	int rc;

	if (!key)
		return P2P_ENOMEM;
	if (table->lone_number && is_reference(doctor, table, table->key[0]))
		rc = p2p_doctor_tell(doctor, table->name, P2P_FINDING_NOTE, "identity", "",
				     "rows are one with those that %s refers to, and follow them",
				     key);
	else if (table->lone_number)
		rc = p2p_doctor_tell(
			doctor, table->name, P2P_FINDING_NOTE, "identity",
			"an application that keeps a number in memory may find another "
			"row under it later (docs/numbers.md): text keys (UUIDs) have "
			"no such moment",
			"rows have numbers (%s): two machines may give the same one "
			"apart. Both rows stay; the later one gets another number, the "
			"same on every node, and what refers to it follows",
			key);
	else
		rc = p2p_doctor_tell(doctor, table->name, P2P_FINDING_NOTE, "identity", "",
				     "rows with equal %s are one row on all machines", key);
	sqlite3_free(key);
	return rc ? rc : null_keys(doctor, table);
}

/* --- references --------------------------------------------------------------------------------
 */

static const char *const action_texts[] = {
	[P2P_FK_NO_ACTION] = "waits in conflicts until it is there",
	[P2P_FK_SET_NULL] = "shows NULL there meanwhile",
	[P2P_FK_SET_DEFAULT] = "shows the default there meanwhile",
	[P2P_FK_CASCADE] = "waits in conflicts until it is there",
};

/* The column of the parent shows the number of a row, which may become another. */
static bool names_number(struct p2p_doctor *doctor, const struct p2p_foreign *at, uint32_t i,
			 const struct p2p_table *parent)
{
	uint32_t column = at->count == parent->key_count ? parent->key[i] : UINT32_MAX, j;

	for (j = 0; at->to[i] && j < parent->column_count; j++)
		if (sqlite3_stricmp(parent->columns[j].name, at->to[i]) == 0)
			column = j;
	return column != UINT32_MAX && ((parent->lone_number && column == parent->key[0]) ||
					is_reference(doctor, parent, column));
}

static int foreign_by_value(struct p2p_doctor *doctor, const struct p2p_table *table,
			    const struct p2p_foreign *at, const struct p2p_table *parent,
			    const char *columns)
{
	uint32_t i;

	for (i = 0; i < at->count; i++)
		if (names_number(doctor, at, i, parent) &&
		    !is_reference(doctor, table, at->columns[i]))
			return p2p_doctor_tell(
				doctor, table->name, P2P_FINDING_WARN, "foreign_key",
				"a FOREIGN KEY of one column, declared INTEGER, to the INTEGER PRIMARY "
				"KEY itself follows; or use keys that are no numbers (UUIDs)",
				"%s refers to %s by values, and %s is the number of a row: when two "
				"machines gave it apart and that row gets another, this does not "
				"follow, and names the other row",
				columns, parent->name, table->columns[at->columns[i]].name);
	return p2p_doctor_tell(doctor, table->name, P2P_FINDING_NOTE, "foreign_key", "",
			       "%s must be found in %s: a row whose parent is not there %s",
			       columns, parent->name, action_texts[at->on_delete]);
}

static int foreign(struct p2p_doctor *doctor, const struct p2p_table *table,
		   const struct p2p_foreign *at)
{
	const struct p2p_table *parent = table_named(doctor, at->parent);
	char *columns = column_list(table, at->columns, at->count);
	int rc;

	if (!columns)
		return P2P_ENOMEM;
	if (!parent || parent->state == P2P_TABLE_REFUSED)
		rc = p2p_doctor_tell(doctor, table->name, P2P_FINDING_WARN, "foreign_key",
				     "make the parent replicable, or drop the constraint",
				     "%s refers to table %s, which cannot be replicated: rows may "
				     "come that refer to nothing here",
				     columns, at->parent);
	else if (p2p_foreign_is_reference(table, at, parent))
		rc = p2p_doctor_tell(doctor, table->name, P2P_FINDING_NOTE, "reference", "",
				     "%s follows its row of %s whatever number that gets; a row "
				     "whose parent is not there %s",
				     columns, parent->name, action_texts[at->on_delete]);
	else
		rc = foreign_by_value(doctor, table, at, parent, columns);
	sqlite3_free(columns);
	return rc;
}

static bool declared(const struct p2p_table *table, uint32_t column)
{
	uint32_t i, j;

	for (i = 0; i < table->foreign_count; i++)
		for (j = 0; j < table->foreigns[i].count; j++)
			if (table->foreigns[i].columns[j] == column)
				return true;
	return false;
}

/* Letters and digits of both, without case: "album_id" begins with "Albums" but for its plural. */
static size_t plain(char *out, size_t max, const char *text)
{
	size_t len = 0;

	for (; *text && len + 1 < max; text++)
		if (isalnum((unsigned char)*text))
			out[len++] = (char)tolower((unsigned char)*text);
	out[len] = 0;
	return len;
}

/* Does the name of a column say that it names rows of a table? */
static bool names_table(const char *column, const char *table)
{
	char a[128], b[128];
	size_t len_a = plain(a, sizeof(a), column), len_b = plain(b, sizeof(b), table);

	if (len_a > 2 && strcmp(a + len_a - 2, "id") == 0)
		a[len_a -= 2] = 0;
	else if (len_a > 2 && strncmp(a, "id", 2) == 0)
		memmove(a, a + 2, len_a - 1), len_a -= 2;
	if (len_b > 3 && strcmp(b + len_b - 3, "ies") == 0 && len_a && a[len_a - 1] == 'y')
		return len_a + 2 == len_b && strncmp(a, b, len_a - 1) == 0;
	if (len_b > 1 && b[len_b - 1] == 's' && len_a + 1 == len_b)
		b[--len_b] = 0;
	return len_a > 0 && len_a == len_b && memcmp(a, b, len_a) == 0;
}

/* Nearly all of its values are numbers of the parent. */
static int values_fit(struct p2p_doctor *doctor, const struct p2p_table *table, uint32_t column,
		      const struct p2p_table *parent, bool *out)
{
	const char *name = table->columns[column].name;
	long long all = 0, hits = 0;
	int rc = p2p_doctor_count(doctor, &all,
				  "SELECT count(*) FROM (SELECT 1 FROM main.\"%w\" WHERE \"%w\" NOT"
				  " NULL LIMIT %d)",
				  table->name, name, GUESS_ROWS);

	if (!rc)
		rc = p2p_doctor_count(doctor, &hits,
				      "SELECT count(*) FROM (SELECT \"%w\" AS v FROM main.\"%w\""
				      " WHERE \"%w\" NOT NULL LIMIT %d)"
				      " WHERE v IN (SELECT \"%w\" FROM main.\"%w\")",
				      name, table->name, name, GUESS_ROWS,
				      parent->columns[parent->key[0]].name, parent->name);
	*out = hits * 100 >= all * GUESS_HITS;
	return rc;
}

static int guess(struct p2p_doctor *doctor, const struct p2p_table *table, uint32_t column)
{
	const struct p2p_column *at = &table->columns[column];
	char advice[400];
	bool fits;
	size_t i;
	int rc = 0;

	if (!p2p_column_holds_numbers(at) || declared(table, column) ||
	    (table->lone_number && column == table->key[0]))
		return 0;
	for (i = 0; i < doctor->count && !rc; i++) {
		const struct p2p_table *parent = &doctor->tables[i];

		if (parent->state == P2P_TABLE_REFUSED || !parent->lone_number ||
		    !names_table(at->name, parent->name))
			continue;
		rc = values_fit(doctor, table, column, parent, &fits);
		if (rc || !fits)
			continue;
		(void)sqlite3_snprintf(sizeof(advice), advice, "p2pnode share DB --ref %s.%s=%s",
				       table->name, at->name, parent->name);
		rc = p2p_doctor_tell(
			doctor, table->name, P2P_FINDING_WARN, "reference", advice,
			"%s looks like a reference to %s that is not declared: if a row "
			"there gets another number, it would not follow",
			at->name, parent->name);
	}
	return rc;
}

/* --- constraints -------------------------------------------------------------------------------
 */

static int unique(struct p2p_doctor *doctor, const struct p2p_table *table)
{
	sqlite3_stmt *stmt = NULL;
	int result = 0;
	int rc = sqlite3_prepare_v2(
		doctor->db,
		"SELECT l.name, l.partial, coalesce(group_concat(coalesce(x.name, 'an expression'),"
		" ', '), '') FROM pragma_index_list(?1, 'main') l, pragma_index_xinfo(l.name, 'main') x"
		" WHERE l.\"unique\" AND l.origin <> 'pk' AND x.key GROUP BY l.name ORDER BY l.name",
		-1, &stmt, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 1, table->name, -1, SQLITE_STATIC);
	while (rc == SQLITE_OK && !result && sqlite3_step(stmt) == SQLITE_ROW)
		result = p2p_doctor_tell(
			doctor, table->name, P2P_FINDING_NOTE, "unique", "",
			"UNIQUE (%s)%s: of two rows with equal values that were made apart the "
			"earlier one is shown on every node; the other waits in conflicts, and comes "
			"back when the value is free",
			(const char *)sqlite3_column_text(stmt, 2),
			sqlite3_column_int(stmt, 1) ? ", where its condition holds" : "");
	(void)sqlite3_finalize(stmt); /* what cannot be read of an index is not told */
	return result;
}

static int checks(struct p2p_doctor *doctor, const struct p2p_table *table)
{
	long long has = 0;
	int rc = p2p_doctor_count(doctor, &has,
				  "SELECT count(*) FROM main.sqlite_schema WHERE type = 'table'"
				  " AND name = %Q COLLATE NOCASE AND sql LIKE '%%check%%(%%'",
				  table->name);

	if (rc || !has)
		return rc;
	return p2p_doctor_tell(doctor, table->name, P2P_FINDING_NOTE, "check", "",
			       "a CHECK over several columns can be broken by two machines that "
			       "changed one each: the row is shown as merged, and listed in "
			       "conflicts until somebody mends it");
}

static bool may_be_replicated(void *ctx, const char *name)
{
	const struct p2p_table *table = table_named(ctx, name);

	return table && table->state != P2P_TABLE_REFUSED;
}

static int tell_trigger(void *ctx, const struct p2p_trigger *trigger)
{
	enum p2p_finding_level level =
		p2p_trigger_lossy(trigger) ? P2P_FINDING_WARN : P2P_FINDING_NOTE;

	if (!trigger->replicated)
		return 0;
	if (trigger->verdict == P2P_TRIGGER_RUNS)
		return p2p_doctor_tell(ctx, trigger->table, level, "trigger", "",
				       "trigger %s runs for rows of other machines, too: what it "
				       "writes stays on each of them",
				       trigger->name);
	return p2p_doctor_tell(ctx, trigger->table, level, "trigger", "",
			       "trigger %s runs where a row is written, not for rows of other "
			       "machines: %s",
			       trigger->name, trigger->reason);
}

/* --- all of it ---------------------------------------------------------------------------------
 */

static int look(struct p2p_doctor *doctor, const struct p2p_table *table)
{
	uint32_t i;
	int rc;

	if (table->state == P2P_TABLE_REFUSED)
		return p2p_doctor_tell(doctor, table->name, P2P_FINDING_WARN, "refused", "",
				       "it stays on this machine: %s",
				       table->reason ? table->reason : "it cannot be replicated");
	rc = identity(doctor, table);
	for (i = 0; i < table->foreign_count && !rc; i++)
		rc = foreign(doctor, table, &table->foreigns[i]);
	for (i = 0; i < table->column_count && !rc; i++)
		rc = guess(doctor, table, i);
	if (!rc)
		rc = unique(doctor, table);
	if (!rc)
		rc = checks(doctor, table);
	return rc;
}

static int take(void *ctx, struct p2p_table *table)
{
	struct p2p_doctor *doctor = ctx;
	struct p2p_table *grown;
	size_t cap;

	if (sqlite3_strnicmp(table->name, "p2p_", 4) == 0 ||
	    sqlite3_strnicmp(table->name, "sqlite_", 7) == 0) {
		p2p_table_deinit(table);
		return 0;
	}
	if (doctor->count == doctor->cap) {
		cap = doctor->cap ? doctor->cap * 2 : 32;
		grown = p2p_realloc(doctor->tables, cap * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		doctor->tables = grown;
		doctor->cap = cap;
	}
	doctor->tables[doctor->count++] = *table;
	return 0;
}

static int open_file(struct p2p_doctor *doctor, struct p2p_error *err)
{
	int rc = sqlite3_open_v2(doctor->path, &doctor->db, SQLITE_OPEN_READONLY, NULL);
	int code;

	if (rc == SQLITE_OK)
		rc = sqlite3_busy_timeout(doctor->db, BUSY_WAIT_MS);
	if (rc == SQLITE_OK) /* as a node writes: what triggers call need not be there */
		rc = sqlite3_db_config(doctor->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(doctor->db, "SELECT count(*) FROM main.sqlite_schema", NULL, NULL,
				  NULL);
	if (rc == SQLITE_OK)
		return 0;
	code = (rc & 0xff) == SQLITE_NOTADB	? P2P_ENOTDB
	       : (rc & 0xff) == SQLITE_CANTOPEN ? P2P_ENOENT
	       : (rc & 0xff) == SQLITE_BUSY	? P2P_EBUSY
	       : (rc & 0xff) == SQLITE_NOMEM	? P2P_ENOMEM
						: P2P_EIO;
	return p2p_error_set(err, code, "open '%s': %s", doctor->path,
			     doctor->db ? sqlite3_errmsg(doctor->db) : sqlite3_errstr(rc));
}

int p2p_doctor(const char *path, int (*each)(void *ctx, const struct p2p_finding *finding),
	       void *ctx, struct p2p_error *err)
{
	struct p2p_doctor doctor = {.path = path, .each = each, .ctx = ctx};
	size_t i;
	int rc = open_file(&doctor, err);

	if (!rc)
		rc = p2p_schema_each(doctor.db, take, &doctor, err);
	if (!rc)
		rc = p2p_doctor_file(&doctor);
	for (i = 0; i < doctor.count && !rc; i++)
		rc = look(&doctor, &doctor.tables[i]);
	if (!rc)
		rc = p2p_triggers_survey(doctor.db, may_be_replicated, tell_trigger, &doctor);
	for (i = 0; i < doctor.count; i++)
		p2p_table_deinit(&doctor.tables[i]);
	p2p_free(doctor.tables);
	(void)sqlite3_close_v2(doctor.db); /* only read */
	return rc;
}
