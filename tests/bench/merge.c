/* How fast changesets become rows: bench_merge [ROWS [fts|cache]]
 *
 * One transaction for each batch, as the replica does it: inserts into a table with generated
 * identity and into one with a text key, then updates of one cell, then the same once more (no
 * change), then inserts whose numbers are all taken, then deletes. On tmpfs where there is one.
 * fts, cache: triggers of the application keep an FTS5 index, or a small table, of each. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/support/mergekit.h"

#define ROWS  200000
#define BATCH 1000

enum { ITEM, WORD };

static const char sql_tables[] =
	"CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL, note TEXT);"
	"CREATE TABLE word(k TEXT PRIMARY KEY, a INTEGER, b TEXT, c);";

#define TRIGGERS(table, key, in, out)                                             \
	"CREATE TRIGGER " table "_i AFTER INSERT ON " table " BEGIN " in " END;"  \
	"CREATE TRIGGER " table "_d AFTER DELETE ON " table " BEGIN " out " END;" \
	"CREATE TRIGGER " table "_u AFTER UPDATE ON " table " BEGIN " out in " END;"
#define FTS(table, column)                                                                   \
	"CREATE VIRTUAL TABLE " table                                                        \
	"_fts USING fts5(x);" TRIGGERS(table, key,                                           \
				       "INSERT INTO " table                                  \
				       "_fts(rowid, x) VALUES (new.rowid, new." column ");", \
				       "DELETE FROM " table "_fts WHERE rowid = old.rowid;")
#define CACHE(table, column)                                                                  \
	"CREATE TABLE " table "_cache(id INTEGER PRIMARY KEY, x);" TRIGGERS(                  \
		table, key,                                                                   \
		"INSERT OR REPLACE INTO " table "_cache VALUES (new.rowid, new." column ");", \
		"DELETE FROM " table "_cache WHERE id = old.rowid;")

static const char sql_fts[] = FTS("item", "note") FTS("word", "b");
static const char sql_cache[] = CACHE("item", "note") CACHE("word", "b");

enum work { INSERT, UPDATE, AGAIN, CONFLICT, DELETE, WORKS };
static const char *const work_names[WORKS] = {"insert", "update 1 cell", "update again",
					      "insert, number taken", "delete"};

static double seconds(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void cell_put(struct p2p_record *record, uint32_t column, struct p2p_value value)
{
	struct p2p_cell *cell = &record->cells[record->cell_count++];

	memset(cell, 0, sizeof(*cell));
	cell->column = column;
	cell->value = value;
}

static void record_put(struct kit_change *change, const struct p2p_table *table, uint32_t index,
		       enum work work, uint64_t row)
{
	static const char *const note = "some text of ordinary length";
	struct p2p_record record;
	struct p2p_cell cells[4];
	struct p2p_value key;
	struct p2p_buf bytes;
	char text[32];

	memset(&record, 0, sizeof(record));
	record.cells = cells;
	record.table = index;
	record.causal_length = work == DELETE ? 2 : 1;
	record.flags = work == INSERT || work == CONFLICT ? P2P_RECORD_BORN : 0;
	p2p_buf_init(&bytes, 256);
	(void)snprintf(text, sizeof(text), "row %llu", (unsigned long long)row);
	if (table->generated_identity) {
		record.identity.kind = P2P_IDENTITY_GENERATED;
		memcpy(record.identity.id.bytes, &row, sizeof(row));
		record.identity.id.bytes[15] = work == CONFLICT;
		record.identity.id.bytes[14] = (uint8_t)(row * 7);
	} else {
		key = kit_text(text);
		if (p2p_identity_of_key(&bytes, table, &key))
			abort();
		record.identity.kind = P2P_IDENTITY_KEY;
		record.identity.key = bytes.data;
		record.identity.key_len = bytes.len;
	}
	if (work == INSERT || work == CONFLICT) {
		if (table->generated_identity)
			cell_put(&record, 0, kit_int((int64_t)row + 1));
		cell_put(&record, 1, table->generated_identity ? kit_text(text) : kit_int(7));
		cell_put(&record, 2,
			 table->generated_identity ? kit_real((double)row / 3) : kit_text(note));
		cell_put(&record, 3, kit_text(note));
	} else if (work != DELETE) {
		cell_put(&record, 3, kit_text(text));
	}
	kit_change_put(change, &record);
	p2p_buf_deinit(&bytes);
}

static void run(struct kit_node *node, struct kit_mesh *mesh, uint32_t index, enum work work,
		uint64_t rows)
{
	const struct p2p_table *table = kit_table(node, mesh, index);
	uint64_t row, seq = 0, stamp = work == AGAIN ? UPDATE : work;
	double spent = 0, start;

	for (row = 0; row < rows;) {
		struct kit_change change;
		uint64_t i;

		seq++;
		kit_change_init(&change, mesh, (char)('A' + work), seq,
				(stamp + 1) * 1000000 + seq);
		if (work == AGAIN)
			change.header.replica = kit_replica('A' + UPDATE);
		for (i = 0; i < BATCH && row < rows; i++)
			record_put(&change, table, index, work, row++);
		start = seconds();
		kit_apply(node, &change);
		spent += seconds() - start;
		kit_change_deinit(&change);
	}
	(void)printf("%-5s %-22s %8.0f rows/s\n", table->name, work_names[work],
		     (double)rows / spent);
}

int main(int argc, char **argv)
{
	static const char *const item[] = {"id", "name", "price", "note"};
	static const char *const word[] = {"k", "a", "b", "c"};
	uint64_t rows = argc > 1 ? strtoull(argv[1], NULL, 10) : ROWS;
	struct kit_mesh *mesh = calloc(1, sizeof(*mesh));
	struct kit_node node;
	uint32_t work;

	if (!mesh)
		return 1;
	kit_mesh_init(mesh);
	(void)kit_mesh_table(mesh, "item", true, item, 4);
	(void)kit_mesh_table(mesh, "word", false, word, 4);
	kit_node_init(&node, mesh, sql_tables);
	if (argc > 2)
		kit_sql(&node, strcmp(argv[2], "fts") == 0 ? sql_fts : sql_cache);
	mesh->blind = true;
	for (work = 0; work < WORKS; work++) {
		run(&node, mesh, ITEM, (enum work)work, rows);
		if (work != CONFLICT)
			run(&node, mesh, WORD, (enum work)work, rows);
	}
	kit_node_deinit(&node);
	kit_mesh_deinit(mesh);
	free(mesh);
	return 0;
}
