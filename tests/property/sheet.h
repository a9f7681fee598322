/* An application in front of the twin: real tables, in memory, that hold what the twin shows, and
 * random transactions on them.
 *
 * SQLite itself says here which writes an application can make: keys, UNIQUE, cascades, REPLACE. */
#ifndef P2P_TESTS_PROPERTY_SHEET_H
#define P2P_TESTS_PROPERTY_SHEET_H

#include "tests/property/twin.h"

#define SHEET_ROWS_MAX 256

enum { PERSON, WARE, NOTE, TAG, LAND, TOWN, EXTRA, VISIT, SHEET_TABLES };

/* The tables, as SQL and as the twin knows them (ids of tables and constraints are the caller's to
 * fill in), and their columns. */
extern const char sheet_sql[];
extern const struct twin_table sheet_tables[SHEET_TABLES];
extern const char *const sheet_columns[SHEET_TABLES][TWIN_COLUMNS_MAX];

struct sheet_row {
	uint32_t table;
	struct p2p_value values[TWIN_COLUMNS_MAX]; /* bytes are in `text` */
	uint8_t text[TWIN_COLUMNS_MAX][16];
};

struct sheet_rows {
	struct sheet_row items[SHEET_ROWS_MAX];
	size_t count;
};

struct sheet {
	struct sqlite3 *db;
	struct sqlite3_stmt *insert[SHEET_TABLES], *read[SHEET_TABLES];
	struct sheet_rows after; /* see sheet_write() */
	uint64_t statements, refused;
};

void sheet_init(struct sheet *sheet);
void sheet_deinit(struct sheet *sheet);
/* The tables hold exactly what the projected twin shows. NULL, or which constraint it breaks. */
const char *sheet_fill(struct sheet *sheet, const struct twin *twin);
/* A random transaction of an application, that keeps foreign keys or does not; its tables are in
 * `after` then. */
void sheet_write(struct sheet *sheet, uint64_t *rng, bool careless);
/* Rows of the sheet whose FOREIGN KEY does not hold. */
uint64_t sheet_dangling(struct sheet *sheet);

/* Room for one. */
#define SHEET_SQL_BYTES 1024
/* A random statement on one of the tables; many are refused by it. */
void sheet_statement(uint64_t *rng, char *out, size_t size);
/* splitmix64, below a bound. */
uint32_t sheet_pick(uint64_t *rng, uint32_t below);

#endif
