/* The application's side of a history; see sheet.h. */
#include "tests/property/sheet.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/check.h"

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

void sheet_write(struct sheet *sheet, uint64_t *rng, bool careless)
{
	uint32_t statements = 1 + (sheet_pick(rng, 4) == 0 ? sheet_pick(rng, 3) : 0);
	char sql[SHEET_SQL_BYTES];

	sheet_exec(sheet, careless ? "PRAGMA foreign_keys = OFF" : "PRAGMA foreign_keys = ON");
	sheet_exec(sheet, "BEGIN");
	for (; statements; statements--) {
		sheet_statement(rng, sql, sizeof(sql));
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
