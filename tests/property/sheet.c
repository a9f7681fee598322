/* The application's side of a history; see sheet.h. */
#include "tests/property/sheet.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/check.h"

const char sheet_sql[] =
	"CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE UNIQUE, mail UNIQUE,"
	" boss INTEGER REFERENCES person(id) ON DELETE SET NULL);"
	"CREATE TABLE item(id INTEGER PRIMARY KEY,"
	" owner INTEGER NOT NULL REFERENCES person(id) ON DELETE CASCADE,"
	" code UNIQUE, slot, qty INTEGER NOT NULL DEFAULT 0, UNIQUE(owner, slot));"
	"CREATE TABLE note(id INTEGER PRIMARY KEY, item INTEGER REFERENCES item(id), text, pinned);"
	"CREATE UNIQUE INDEX note_pinned ON note(item) WHERE pinned = 1;"
	"CREATE TABLE tag(item INTEGER REFERENCES item(id) ON DELETE CASCADE, word TEXT, v UNIQUE,"
	" PRIMARY KEY(item, word)) WITHOUT ROWID;"
	"CREATE TABLE land(code TEXT PRIMARY KEY, v UNIQUE) WITHOUT ROWID;"
	"CREATE TABLE town(id INTEGER PRIMARY KEY, land TEXT REFERENCES land(code),"
	" mayor INTEGER DEFAULT 1 REFERENCES person(id) ON DELETE SET DEFAULT, v);"
	"CREATE TABLE extra(id INTEGER PRIMARY KEY REFERENCES person(id) ON DELETE CASCADE,"
	" v UNIQUE);";

const char *const sheet_columns[SHEET_TABLES][TWIN_COLUMNS_MAX] = {
	{"id", "name", "mail", "boss"},
	{"id", "owner", "code", "slot", "qty"},
	{"id", "item", "text", "pinned"},
	{"item", "word", "v"},
	{"code", "v"},
	{"id", "land", "mayor", "v"},
	{"id", "v"},
};

static bool note_is_pinned(const struct p2p_value *values)
{
	return values[3].type == P2P_INTEGER && values[3].integer == 1;
}

#define BIT(column) (1u << (column))

const struct twin_table sheet_tables[SHEET_TABLES] = {
	{.name = "person",
	 .generated = true,
	 .column_count = 4,
	 .key_count = 1,
	 .uniques = {{.columns = BIT(1), .nocase = true}, {.columns = BIT(2)}},
	 .foreign = {{.count = 1,
		      .parent = PERSON,
		      .columns = {3},
		      .action = TWIN_SHOWS_NULL,
		      .follows = true}}},
	{.name = "item",
	 .generated = true,
	 .column_count = 5,
	 .key_count = 1,
	 .not_null = BIT(1) | BIT(4),
	 .counters = BIT(4),
	 .uniques = {{.columns = BIT(2)}, {.columns = BIT(1) | BIT(3)}},
	 .foreign = {{.count = 1, .parent = PERSON, .columns = {1}, .follows = true}},
	 .defaults = {[4] = {.type = P2P_INTEGER}}},
	{.name = "note",
	 .generated = true,
	 .column_count = 4,
	 .key_count = 1,
	 .uniques = {{.columns = BIT(1), .clocks = BIT(3), .where = note_is_pinned}},
	 .foreign = {{.count = 1, .parent = ITEM, .columns = {1}, .follows = true}}},
	{.name = "tag",
	 .column_count = 3,
	 .key_count = 2,
	 .uniques = {{.columns = BIT(2)}, {.columns = BIT(0) | BIT(1)}},
	 .foreign = {{.count = 1, .parent = ITEM, .columns = {0}, .follows = true}}},
	{.name = "land", .column_count = 2, .key_count = 1, .uniques = {{.columns = BIT(1)}}},
	{.name = "town",
	 .generated = true,
	 .column_count = 4,
	 .key_count = 1,
	 .foreign = {{.count = 1, .parent = LAND, .columns = {1}, .parents = {0}},
		     {.count = 1,
		      .parent = PERSON,
		      .columns = {2},
		      .action = TWIN_SHOWS_DEFAULT,
		      .follows = true}},
	 .defaults = {[2] = {.type = P2P_INTEGER, .integer = 1}}},
	{.name = "extra",
	 .column_count = 2,
	 .key_count = 1,
	 .uniques = {{.columns = BIT(1)}, {.columns = BIT(0)}},
	 .foreign = {{.count = 1, .parent = PERSON, .columns = {0}, .follows = true}}},
};

uint32_t sheet_pick(uint64_t *rng, uint32_t below)
{
	uint64_t z = (*rng += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return (uint32_t)((z ^ (z >> 31)) % below);
}

static _Noreturn void sheet_fail(const struct sheet *sheet, const char *what)
{
	(void)fprintf(stderr, "sheet: %s: %s\n", what, sqlite3_errmsg(sheet->db));
	abort();
}

static void sheet_exec(struct sheet *sheet, const char *sql)
{
	if (sqlite3_exec(sheet->db, sql, NULL, NULL, NULL) != SQLITE_OK)
		sheet_fail(sheet, sql);
}

void sheet_init(struct sheet *sheet)
{
	char sql[256], marks[32];
	uint32_t t, c;

	memset(sheet, 0, sizeof(*sheet));
	if (sqlite3_open(":memory:", &sheet->db) != SQLITE_OK)
		sheet_fail(sheet, "open");
	sheet_exec(sheet, sheet_sql);
	for (t = 0; t < SHEET_TABLES; t++) {
		for (c = 0; c < sheet_tables[t].column_count; c++)
			memcpy(marks + 2 * (size_t)c, ",?", 3);
		(void)snprintf(sql, sizeof(sql), "INSERT INTO %s VALUES(%s)", sheet_tables[t].name,
			       marks + 1);
		if (sqlite3_prepare_v2(sheet->db, sql, -1, &sheet->insert[t], NULL) != SQLITE_OK)
			sheet_fail(sheet, sql);
		(void)snprintf(sql, sizeof(sql), "SELECT * FROM %s", sheet_tables[t].name);
		if (sqlite3_prepare_v2(sheet->db, sql, -1, &sheet->read[t], NULL) != SQLITE_OK)
			sheet_fail(sheet, sql);
	}
}

void sheet_deinit(struct sheet *sheet)
{
	uint32_t t;

	for (t = 0; t < SHEET_TABLES; t++) {
		(void)sqlite3_finalize(sheet->insert[t]);
		(void)sqlite3_finalize(sheet->read[t]);
	}
	(void)sqlite3_close(sheet->db);
}

static uint32_t table_index(const struct twin *twin, const struct twin_row *row)
{
	return (uint32_t)(row->table - twin->tables);
}

const char *sheet_fill(struct sheet *sheet, const struct twin *twin)
{
	const char *broken = NULL;
	char sql[64];
	uint32_t t, c;
	size_t i;

	sheet_exec(sheet, "PRAGMA foreign_keys = OFF; BEGIN");
	for (t = 0; t < SHEET_TABLES; t++) {
		(void)snprintf(sql, sizeof(sql), "DELETE FROM %s", sheet_tables[t].name);
		sheet_exec(sheet, sql);
	}
	for (i = 0; i < twin->count && !broken; i++) {
		const struct twin_row *row = &twin->rows[i];
		struct sqlite3_stmt *insert = sheet->insert[table_index(twin, row)];

		if (!row->shown)
			continue;
		for (c = 0; c < row->table->column_count; c++)
			p2p_require(p2p_value_bind(insert, (int)c + 1, &row->seen[c]) == 0);
		if (sqlite3_step(insert) != SQLITE_DONE)
			broken = sqlite3_errmsg(sheet->db);
		(void)sqlite3_reset(insert);
	}
	sheet_exec(sheet, "COMMIT");
	return broken;
}

static void sheet_read(struct sheet *sheet)
{
	struct sheet_rows *rows = &sheet->after;
	uint32_t t, c;

	rows->count = 0;
	for (t = 0; t < SHEET_TABLES; t++) {
		while (sqlite3_step(sheet->read[t]) == SQLITE_ROW) {
			struct sheet_row *row = &rows->items[rows->count++];

			p2p_require(rows->count < SHEET_ROWS_MAX);
			row->table = t;
			for (c = 0; c < sheet_tables[t].column_count; c++) {
				struct p2p_value *value = &row->values[c];

				p2p_require(p2p_value_column(value, sheet->read[t], (int)c) == 0 &&
					    value->len <= sizeof(row->text[c]));
				if (value->len)
					memcpy(row->text[c], value->bytes, value->len);
				value->bytes = row->text[c];
			}
		}
		(void)sqlite3_reset(sheet->read[t]);
	}
}

/* --- SQL ------------------------------------------------------------------------------------- */

/* A value for a column: a literal, or some row's key. */
static void sql_value(uint64_t *rng, uint32_t table, uint32_t column, char out[96])
{
	static const char *const words[] = {"'ann'", "'Ann'", "'bob'", "'cid'", "NULL", "'ANN'"};
	const struct twin_table *at = &sheet_tables[table];
	size_t f;

	for (f = 0; f < TWIN_FOREIGN_MAX; f++) {
		const struct twin_foreign *foreign = &at->foreign[f];

		if (!foreign->count || foreign->columns[0] != column)
			continue;
		(void)snprintf(out, 96, "(SELECT %s FROM %s ORDER BY 1 LIMIT 1 OFFSET %u)",
			       sheet_columns[foreign->parent][foreign->parents[0]],
			       sheet_tables[foreign->parent].name, sheet_pick(rng, 4));
		return;
	}
	if (at->generated && column == 0)
		(void)snprintf(out, 96, "%s%u", sheet_pick(rng, 5) ? "NULL -- " : "",
			       1 + sheet_pick(rng, 6));
	else if ((table == PERSON && column == 1) || (table == TAG && column == 1) ||
		 (table == LAND && column == 0))
		(void)snprintf(out, 96, "%s", words[sheet_pick(rng, 6)]);
	else if (table == ITEM && column == 4)
		(void)snprintf(out, 96, "%u", sheet_pick(rng, 9));
	else if (table == NOTE && column == 2)
		(void)snprintf(out, 96, "%u", sheet_pick(rng, 1000));
	else if (sheet_pick(rng, 6) == 0)
		(void)snprintf(out, 96, "NULL");
	else
		(void)snprintf(out, 96, "%u", sheet_pick(rng, 3));
}

static void sql_where(uint64_t *rng, uint32_t table, char out[160])
{
	const char *key = sheet_columns[table][0];

	(void)snprintf(out, 160, "WHERE %s = (SELECT %s FROM %s ORDER BY 1 LIMIT 1 OFFSET %u)", key,
		       key, sheet_tables[table].name, sheet_pick(rng, 5));
}

static void sql_insert(uint64_t *rng, uint32_t table, char *out, size_t len)
{
	static const char *const clauses[] = {"", "", "", "OR REPLACE ", "OR IGNORE "};
	char value[96];
	uint32_t c;
	size_t at;

	at = (size_t)snprintf(out, len, "INSERT %sINTO %s VALUES(", clauses[sheet_pick(rng, 5)],
			      sheet_tables[table].name);
	for (c = 0; c < sheet_tables[table].column_count; c++) {
		sql_value(rng, table, c, value);
		at += (size_t)snprintf(out + at, len - at, "%s%s\n", c ? "," : "", value);
	}
	(void)snprintf(out + at, len - at, ")");
}

static void sql_update(uint64_t *rng, uint32_t table, char *out, size_t len)
{
	static const char *const clauses[] = {"", "", "", "OR REPLACE ", "OR IGNORE "};
	char value[96], where[160];
	uint32_t c, first;
	size_t at;

	first = sheet_tables[table].generated || sheet_pick(rng, 4) ? 1 : 0;
	at = (size_t)snprintf(out, len, "UPDATE %s%s SET ", clauses[sheet_pick(rng, 5)],
			      sheet_tables[table].name);
	c = first + sheet_pick(rng, sheet_tables[table].column_count - first);
	sql_value(rng, table, c, value);
	at += (size_t)snprintf(out + at, len - at, "%s = %s\n", sheet_columns[table][c], value);
	first = c;
	if (sheet_pick(rng, 2)) {
		c = 1 + sheet_pick(rng, sheet_tables[table].column_count - 1);
		sql_value(rng, table, c, value);
		if (c != first)
			at += (size_t)snprintf(out + at, len - at, ", %s = %s\n",
					       sheet_columns[table][c], value);
	}
	if (table == ITEM && sheet_pick(rng, 3) == 0)
		at = (size_t)snprintf(out, len, "UPDATE item SET qty = qty - 1 ");
	sql_where(rng, table, where);
	(void)snprintf(out + at, len - at, "%s", where);
}

void sheet_write(struct sheet *sheet, uint64_t *rng, bool careless)
{
	uint32_t statements = 1 + (sheet_pick(rng, 4) == 0 ? sheet_pick(rng, 3) : 0), table, what;
	char sql[1024], where[160];

	sheet_exec(sheet, careless ? "PRAGMA foreign_keys = OFF" : "PRAGMA foreign_keys = ON");
	sheet_exec(sheet, "BEGIN");
	for (; statements; statements--) {
		table = sheet_pick(rng, SHEET_TABLES);
		what = sheet_pick(rng, 10);
		if (what < 5) {
			sql_insert(rng, table, sql, sizeof(sql));
		} else if (what < 8) {
			sql_update(rng, table, sql, sizeof(sql));
		} else {
			sql_where(rng, table, where);
			(void)snprintf(sql, sizeof(sql), "DELETE FROM %s %s",
				       sheet_tables[table].name, where);
		}
		sheet->statements++;
		if (sqlite3_exec(sheet->db, sql, NULL, NULL, NULL) == SQLITE_ERROR)
			sheet_fail(sheet, sql);
		sheet->refused += sqlite3_errcode(sheet->db) != SQLITE_OK;
	}
	sheet_exec(sheet, "COMMIT");
	sheet_read(sheet);
}

uint64_t sheet_dangling(struct sheet *sheet)
{
	sqlite3_stmt *stmt = NULL;
	uint64_t count = 0;

	if (sqlite3_prepare_v2(sheet->db, "PRAGMA foreign_key_check", -1, &stmt, NULL) != SQLITE_OK)
		sheet_fail(sheet, "foreign_key_check");
	while (sqlite3_step(stmt) == SQLITE_ROW)
		count++;
	(void)sqlite3_finalize(stmt);
	return count;
}
