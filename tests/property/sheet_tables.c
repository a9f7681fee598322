/* The tables of a sheet and random statements on them; see sheet.h. */
#include <stdio.h>

#include "tests/property/sheet.h"

const char sheet_sql[] =
	"CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE UNIQUE, mail UNIQUE,"
	" boss INTEGER REFERENCES person(id) ON DELETE SET NULL);"
	"CREATE TABLE ware(id INTEGER PRIMARY KEY,"
	" owner INTEGER NOT NULL REFERENCES person(id) ON DELETE CASCADE,"
	" code UNIQUE, slot, qty INTEGER NOT NULL DEFAULT 0, UNIQUE(owner, slot));"
	"CREATE TABLE note(id INTEGER PRIMARY KEY, ware INTEGER REFERENCES ware(id), text, pinned);"
	"CREATE UNIQUE INDEX note_pinned ON note(ware) WHERE pinned = 1;"
	"CREATE TABLE tag(ware INTEGER REFERENCES ware(id) ON DELETE CASCADE, word TEXT, v UNIQUE,"
	" PRIMARY KEY(ware, word)) WITHOUT ROWID;"
	"CREATE TABLE land(code TEXT PRIMARY KEY, v UNIQUE) WITHOUT ROWID;"
	"CREATE TABLE town(id INTEGER PRIMARY KEY, land TEXT REFERENCES land(code),"
	" mayor INTEGER DEFAULT 1 REFERENCES person(id) ON DELETE SET DEFAULT, v);"
	"CREATE TABLE extra(id INTEGER PRIMARY KEY REFERENCES person(id) ON DELETE CASCADE,"
	" v UNIQUE);"
	"CREATE TABLE visit(land TEXT REFERENCES land(code), n INTEGER, v, PRIMARY KEY(land, n))"
	" WITHOUT ROWID;";

const char *const sheet_columns[SHEET_TABLES][TWIN_COLUMNS_MAX] = {
	{"id", "name", "mail", "boss"},
	{"id", "owner", "code", "slot", "qty"},
	{"id", "ware", "text", "pinned"},
	{"ware", "word", "v"},
	{"code", "v"},
	{"id", "land", "mayor", "v"},
	{"id", "v"},
	{"land", "n", "v"},
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
	{.name = "ware",
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
	 .foreign = {{.count = 1, .parent = WARE, .columns = {1}, .follows = true}}},
	{.name = "tag",
	 .column_count = 3,
	 .key_count = 2,
	 .uniques = {{.columns = BIT(2)}, {.columns = BIT(0) | BIT(1)}},
	 .foreign = {{.count = 1, .parent = WARE, .columns = {0}, .follows = true}}},
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
	 .integers = BIT(0),
	 .column_count = 2,
	 .key_count = 1,
	 .uniques = {{.columns = BIT(1)}, {.columns = BIT(0)}},
	 .foreign = {{.count = 1, .parent = PERSON, .columns = {0}, .follows = true}}},
	{.name = "visit",
	 .column_count = 3,
	 .key_count = 2,
	 .foreign = {{.count = 1, .parent = LAND, .columns = {0}, .parents = {0}}}},
};

uint32_t sheet_pick(uint64_t *rng, uint32_t below)
{
	uint64_t z = (*rng += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return (uint32_t)((z ^ (z >> 31)) % below);
}

/* --- SQL ------------------------------------------------------------------------------------- */

/* A value for a column: a literal, or some row's key. */
static void sql_value(uint64_t *rng, uint32_t table, uint32_t column, char out[96])
{
	static const char *const words[] = {"'ann'", "'Ann'", "'bob'", "'cid'", "NULL", "'ANN'"};
	const struct twin_table *at = &sheet_tables[table];
	uint32_t number;
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
	if (at->generated && column == 0) {
		number = 1 + sheet_pick(rng, 6); /* one draw after the other: it repeats anywhere */
		(void)snprintf(out, 96, "%s%u", sheet_pick(rng, 5) ? "NULL -- " : "", number);
	} else if ((table == PERSON && column == 1) || (table == TAG && column == 1) ||
		   (table == LAND && column == 0))
		(void)snprintf(out, 96, "%s", words[sheet_pick(rng, 6)]);
	else if (table == WARE && column == 4)
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
	if (table == WARE && sheet_pick(rng, 3) == 0)
		at = (size_t)snprintf(out, len, "UPDATE ware SET qty = qty - 1 ");
	sql_where(rng, table, where);
	(void)snprintf(out + at, len - at, "%s", where);
}

void sheet_statement(uint64_t *rng, char *out, size_t size)
{
	uint32_t table = sheet_pick(rng, SHEET_TABLES), what = sheet_pick(rng, 10);
	char where[160];

	if (what < 5) {
		sql_insert(rng, table, out, size);
	} else if (what < 8) {
		sql_update(rng, table, out, size);
	} else {
		sql_where(rng, table, where);
		(void)snprintf(out, size, "DELETE FROM %s %s", sheet_tables[table].name, where);
	}
}
