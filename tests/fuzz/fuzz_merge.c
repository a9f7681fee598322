/* Verify-and-merge on a live database with tables of every kind: changesets of four replicas, as
 * hostile as their bytes can be. Whatever they say:
 *
 *   - a changeset is merged, or refused for good: the same one, whatever came before it;
 *   - in another order (each replica's own order is kept) the rows, their states, the parked ones
 *     and the numbers shown are the same;
 *   - delivered once more, nothing changes;
 *   - every row is what is known of it, and the file is whole.
 *
 * One file for all inputs: everything is done in one transaction that is rolled back. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/limits.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/mergekit.h"

#define LEN_MAX	    384
#define CHANGES_MAX 8
#define RECORDS_MAX 6
#define REPLICAS    4

enum { WORD, ITEM, PAIR, USER, CARD, KIND, HARD, CHILD, TABLES };

static const char sql_tables[] =
	"CREATE TABLE word(k TEXT COLLATE NOCASE, part INTEGER, v, note TEXT DEFAULT 'none',"
	" PRIMARY KEY(k, part));"
	"CREATE TABLE item(id INTEGER PRIMARY KEY, a, b TEXT DEFAULT 'b');"
	"CREATE TABLE pair(a, b, PRIMARY KEY(a, b)) WITHOUT ROWID;"
	"CREATE TABLE user(name TEXT PRIMARY KEY, mail UNIQUE, x, y, UNIQUE(x, y)) WITHOUT ROWID;"
	"CREATE TABLE card(id INTEGER PRIMARY KEY, code UNIQUE, v);"
	"CREATE TABLE kind(k REAL PRIMARY KEY, i INTEGER NOT NULL DEFAULT 7, r REAL, n NUMERIC,"
	" t TEXT CHECK(length(t) < 9), b BLOB);"
	"CREATE TABLE hard(id INTEGER PRIMARY KEY, i INT NOT NULL, t TEXT UNIQUE COLLATE NOCASE,"
	" r REAL) STRICT;"
	"CREATE TABLE child(k BLOB PRIMARY KEY, p REFERENCES item(id) ON DELETE CASCADE,"
	" g AS (k || 'x') STORED);"
	"CREATE INDEX by_length ON kind(length(b));"
	"CREATE INDEX by_json ON item(json_extract(b, '$.a')) WHERE typeof(b) = 'text';";

static const struct {
	const char *name;
	bool generated;
	uint32_t columns, keys;
	const char *column[6];
} tables[TABLES] = {
	{"word", false, 4, 2, {"k", "part", "v", "note"}},
	{"item", true, 3, 1, {"id", "a", "b"}},
	{"pair", false, 2, 2, {"a", "b"}},
	{"user", false, 4, 1, {"name", "mail", "x", "y"}},
	{"card", true, 3, 1, {"id", "code", "v"}},
	{"kind", false, 6, 1, {"k", "i", "r", "n", "t", "b"}},
	{"hard", true, 4, 1, {"id", "i", "t", "r"}},
	{"child", false, 2, 1, {"k", "p"}},
};

/* What every order must agree on; the tables of row states are added by number. */
static const char *const compared[] = {
	"SELECT 'temp', * FROM p2p_temp",
	"SELECT 'parked', t, k, cells FROM p2p_parked",
};
#define COMPARED_MAX (2 * TABLES + 2)

static struct kit_mesh mesh;
static struct kit_node node;
static sqlite3_stmt *statements[COMPARED_MAX];
static size_t statement_count;
static sqlite3_stmt *whole;
static struct kit_change changes[CHANGES_MAX];
static uint8_t author[CHANGES_MAX];
static int results[CHANGES_MAX];
static size_t change_count;

static sqlite3_stmt *prepare(const char *sql)
{
	sqlite3_stmt *stmt = NULL;

	if (sqlite3_prepare_v3(p2p_store_db(node.store), sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt,
			       NULL) != SQLITE_OK) {
		(void)fprintf(stderr, "%s\n", sqlite3_errmsg(p2p_store_db(node.store)));
		abort();
	}
	return stmt;
}

static void init(void)
{
	char sql[96];
	size_t i;
	uint32_t number;
	struct p2p_id id;

	/* one thread, and nobody asks how much memory SQLite has: a sixth of the time */
	p2p_require(sqlite3_config(SQLITE_CONFIG_SINGLETHREAD) == SQLITE_OK);
	p2p_require(sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0) == SQLITE_OK);
	kit_mesh_init(&mesh);
	for (i = 0; i < TABLES; i++)
		(void)kit_mesh_table(&mesh, tables[i].name, tables[i].generated, tables[i].column,
				     tables[i].columns);
	kit_node_init(&node, &mesh, sql_tables);
	/* replicas have their numbers before: a rollback takes none of them away */
	kit_sql(&node, "BEGIN IMMEDIATE");
	for (i = 0; i < REPLICAS + 2; i++) {
		id = kit_replica((char)('a' + i));
		fuzz_ok(p2p_store_replica_number(node.store, &id, &number));
	}
	kit_sql(&node, "COMMIT");
	for (i = 0; i < TABLES; i++) {
		(void)snprintf(sql, sizeof(sql), "SELECT '%s', * FROM \"%s\"", tables[i].name,
			       tables[i].name);
		statements[statement_count++] = prepare(sql);
		(void)snprintf(sql, sizeof(sql), "SELECT 'state', %zu, * FROM p2p_row_%zu", i,
			       i + 1);
		statements[statement_count++] = prepare(sql);
	}
	for (i = 0; i < p2p_array_len(compared); i++)
		statements[statement_count++] = prepare(compared[i]);
	whole = prepare("PRAGMA integrity_check(1)");
}

static void deinit(void)
{
	size_t i;

	for (i = 0; i < statement_count; i++)
		(void)sqlite3_finalize(statements[i]);
	(void)sqlite3_finalize(whole);
	kit_node_deinit(&node);
	kit_mesh_deinit(&mesh);
}

/* --- hostile changesets ----------------------------------------------------------------------- */

static struct p2p_value choose_value(struct fuzz_in *in)
{
	static const char *const texts[] = {"{}",  "[1",   "",	   "a",
					    "A",   "12",   "1.0",  "1e3",
					    " 7 ", "x'0'", "word", "a long text of many letters"};
	static const double reals[] = {0.0, -0.0, 1.0, 1.5, 1e300, 9007199254740993.0, 4e18, -7.0};
	static const int64_t integers[] = {INT64_MIN, INT64_MAX, 0,	    1,
					   -1,	      7,	 1ll << 53, (1ll << 53) + 1};
	uint8_t form = fuzz_u8(in);
	struct p2p_value value;
	uint64_t bits;

	switch (form >> 5) {
	case 0:
		return kit_null();
	case 1:
		return kit_int(integers[form & 7]);
	case 2:
		return kit_int(form & 3);
	case 3:
		return kit_real(reals[form & 7]);
	case 4:
		return kit_text(texts[(form & 31) % p2p_array_len(texts)]);
	case 5:
		value = kit_bytes(form & 1 ? P2P_TEXT : P2P_BLOB, NULL, 0);
		value.bytes = fuzz_take(in, form & 7, &value.len);
		return value;
	case 6: /* any bits: also what is no number */
		bits = form & 1	  ? 0x7ff8000000000000u
		       : form & 2 ? 0xfff0000000000000u
				  : fuzz_u64(in);
		value = kit_real(0);
		memcpy(&value.real, &bits, sizeof(bits));
		return value;
	default:
		return kit_int((int64_t)fuzz_number(in));
	}
}

struct draft {
	struct p2p_record record;
	struct p2p_cell cells[8];
	struct p2p_buf key;
	uint8_t yields[2 * P2P_ID_BYTES];
	uint32_t table;
};

static void choose_key(struct draft *draft, struct fuzz_in *in)
{
	struct p2p_value values[2];
	uint32_t i;

	for (i = 0; i < tables[draft->table].keys; i++)
		values[i] = choose_value(in);
	/* NULL in a key: the bytes stay empty, which is no key of this table */
	(void)!p2p_identity_of_key(&draft->key, kit_table(&node, &mesh, draft->table), values);
}

static void choose_identity(struct draft *draft, struct fuzz_in *in)
{
	struct p2p_identity *identity = &draft->record.identity;
	uint8_t form = fuzz_u8(in);
	bool generated = tables[draft->table].generated;
	size_t len;
	const uint8_t *bytes;

	if (form >= 0xf8) /* of the other kind */
		generated = !generated;
	if (!generated) {
		identity->kind = P2P_IDENTITY_KEY;
		if (form >= 0xf0) {
			bytes = fuzz_take(in, fuzz_below(in, 16), &len);
			p2p_buf_put(&draft->key, bytes, len);
		} else if (!tables[draft->table].generated) {
			choose_key(draft, in);
		}
		identity->key = draft->key.data ? draft->key.data : draft->yields;
		identity->key_len = draft->key.len;
	} else if (form & 1) {
		identity->kind = P2P_IDENTITY_NUMBER;
		identity->number = form & 0x80 ? (int64_t)fuzz_number(in) : 1 + (form >> 1 & 3);
	} else {
		identity->kind = P2P_IDENTITY_GENERATED;
		memset(identity->id.bytes, form >> 1 & 7, P2P_ID_BYTES);
	}
}

static void choose_cell(struct draft *draft, uint32_t column, struct fuzz_in *in)
{
	struct p2p_cell *cell = &draft->cells[draft->record.cell_count++];
	uint8_t form = fuzz_u8(in);

	memset(cell, 0, sizeof(*cell));
	cell->column = form == 0xff ? column + 2 : column;
	if (form < 0xf0) {
		/* a lone key is a number, unless somebody lies */
		cell->value = tables[draft->table].generated && column == 0 && form < 0xe0
				      ? kit_int(form & 0x80 ? -(int64_t)(form & 31) : form & 7)
				      : choose_value(in);
		return;
	}
	cell->tag = form < 0xf4	  ? P2P_CELL_COUNTER
		    : form < 0xf8 ? P2P_CELL_REFERENCE
		    : form < 0xfb ? P2P_CELL_LOOSE
				  : P2P_CELL_LOOSE_VALUE;
	cell->value = form < 0xfb ? kit_int(form) : choose_value(in);
	cell->reference.kind = P2P_IDENTITY_NUMBER;
	cell->reference.number = form & 3;
}

/* Columns that are set in a mask; a birth usually has all. */
static void choose_cells(struct draft *draft, struct fuzz_in *in)
{
	uint32_t i, mask = fuzz_u8(in), columns = tables[draft->table].columns;

	if (draft->record.flags & P2P_RECORD_BORN && mask < 0xc0)
		mask = 0xffu << (tables[draft->table].generated ? 0 : tables[draft->table].keys);
	for (i = 0; i < columns; i++)
		if (mask >> i & 1)
			choose_cell(draft, i, in);
}

static void put_record(struct kit_change *change, struct fuzz_in *in)
{
	struct draft draft;
	uint8_t form = fuzz_u8(in), life = fuzz_u8(in);
	const uint8_t *bytes;
	size_t len;

	if (form >= 0xf8) {
		bytes = fuzz_take(in, life & 63, &len);
		kit_change_put_raw(change, bytes, len);
		return;
	}
	memset(&draft, 0, sizeof(draft));
	p2p_buf_init(&draft.key, 4096);
	draft.table = form % TABLES;
	draft.record.table = form >= 0xf0 ? form : draft.table;
	draft.record.cells = draft.cells;
	draft.record.causal_length = life < 0x80   ? 1
				     : life < 0xf8 ? 1u + (life & 3u)
						   : fuzz_number(in);
	if (!draft.record.causal_length)
		draft.record.causal_length = 1;
	draft.record.flags = life & 4 ? 0 : P2P_RECORD_BORN;
	draft.record.origin = form >= 0xc0 ? form & 7 : 0;
	choose_identity(&draft, in);
	if (draft.record.causal_length % 2)
		choose_cells(&draft, in);
	if (draft.record.causal_length % 2 && life & 0x40) {
		draft.record.yields = draft.yields;
		draft.record.yield_count = life & 1;
	}
	kit_change_put(change, &draft.record);
	p2p_buf_deinit(&draft.key);
}

/* Stamps and seqs of one replica rise; they are no higher than need be, so that they meet others'.
 */
static void make_changes(struct fuzz_in *in)
{
	uint64_t seq[REPLICAS] = {0}, stamp[REPLICAS] = {0};
	size_t i, n;

	while (fuzz_more(in) && change_count < CHANGES_MAX) {
		struct kit_change *change = &changes[change_count];
		uint8_t form = fuzz_u8(in);
		uint32_t who = form % REPLICAS;

		stamp[who] += 1 + (form >> 4 & 3);
		author[change_count++] = (uint8_t)who;
		kit_change_init(change, &mesh, (char)('a' + who), ++seq[who], stamp[who]);
		for (i = 0; i < 4; i++) {
			change->origins[i].replica = kit_replica((char)('a' + (who + i) % 6));
			change->origins[i].stamp.value = (form + i) % 7; /* 0 is none */
		}
		change->header.origin_count = 4;
		for (n = 1 + (form >> 6) % RECORDS_MAX; n && fuzz_more(in); n--)
			put_record(change, in);
	}
}

/* --- merging ---------------------------------------------------------------------------------- */

static int next_record(void *ctx, const uint8_t **out_data, size_t *out_len)
{
	struct kit_change *change = ctx;
	struct p2p_reader reader;

	*out_data = NULL;
	if (change->at == change->body.len)
		return 0;
	p2p_reader_init(&reader, change->body.data + change->at, change->body.len - change->at);
	*out_data = p2p_read_bytes(&reader, P2P_RECORD_BYTES_MAX, out_len);
	change->at += reader.pos;
	return p2p_reader_error(&reader);
}

static int merge_change(struct kit_change *change)
{
	struct p2p_merge_source source = {.header = &change->header,
					  .ctx = change,
					  .next = next_record};
	struct p2p_merge_counts counts = {0};
	struct p2p_error err = {0};
	int rc;

	change->header.tables = change->tables;
	change->header.origins = change->origins;
	change->at = 0;
	memset(source.hash.bytes, (int)change->header.seq, P2P_HASH_BYTES);
	kit_sql(&node, "SAVEPOINT one");
	rc = p2p_merge_apply(node.merge, &source, &counts, &err);
	if (!rc)
		rc = p2p_merge_finish(node.merge, &err);
	if (rc) {
		if (p2p_err_blame(rc) != P2P_BLAME_PEER) {
			(void)fprintf(stderr, "merge: %s\n", err.msg);
			abort();
		}
		kit_sql(&node, "ROLLBACK TO one");
		p2p_merge_reset(node.merge);
	}
	kit_sql(&node, "RELEASE one");
	return rc;
}

static void digest(struct p2p_hash *out)
{
	struct p2p_hash hash;
	struct p2p_value value;
	struct p2p_buf row;
	size_t i, j;
	int column;

	memset(out, 0, sizeof(*out));
	p2p_buf_init(&row, 1024 * 1024);
	for (i = 0; i < statement_count; i++) {
		while (sqlite3_step(statements[i]) == SQLITE_ROW) {
			p2p_buf_reset(&row);
			for (column = 0; column < sqlite3_column_count(statements[i]); column++) {
				fuzz_ok(p2p_value_column(&value, statements[i], column));
				p2p_value_put(&row, &value);
			}
			p2p_hash_bytes(&hash, row.data, row.len);
			for (j = 0; j < P2P_HASH_BYTES; j++) /* the order of rows is no part */
				out->bytes[j] = (uint8_t)(out->bytes[j] + hash.bytes[j]);
		}
		p2p_require(sqlite3_reset(statements[i]) == SQLITE_OK);
	}
	p2p_buf_deinit(&row);
}

static void show(void)
{
	size_t i;
	int column;

	for (i = 0; i < statement_count; i++) {
		while (sqlite3_step(statements[i]) == SQLITE_ROW) {
			for (column = 0; column < sqlite3_column_count(statements[i]); column++) {
				sqlite3_str *text = sqlite3_str_new(NULL);
				sqlite3_value *value = sqlite3_column_value(statements[i], column);
				int j, len = sqlite3_value_bytes(value);
				char *done;

				if (sqlite3_column_type(statements[i], column) == SQLITE_BLOB)
					for (j = 0; j < len; j++)
						sqlite3_str_appendf(
							text, "%02x",
							((const uint8_t *)sqlite3_value_blob(
								value))[j]);
				else
					sqlite3_str_appendf(text, "%Q",
							    (const char *)sqlite3_value_text(
								    value));
				done = sqlite3_str_finish(text);
				(void)fprintf(stderr, "%s ", done ? done : "''");
				sqlite3_free(done);
			}
			(void)fprintf(stderr, "\n");
		}
		(void)sqlite3_reset(statements[i]);
	}
	(void)fprintf(stderr, "--\n");
}

static void begin(void)
{
	struct p2p_error err = {0};

	fuzz_ok(p2p_store_begin_write(node.store, 1000, &err));
}

static void rollback(void)
{
	p2p_merge_reset(node.merge);
	p2p_store_rollback(node.store);
}

/* Every row is what is known of it. */
static void check_rows(void)
{
	struct p2p_error err = {0};
	uint64_t rows = 0;
	size_t i;

	for (i = 0; i < TABLES; i++) {
		fuzz_ok(p2p_store_rescan(node.store, kit_table(&node, &mesh, (uint32_t)i), &rows,
					 &err));
		if (rows) {
			show();
			(void)fprintf(stderr, "merge: %llu rows of %s are not what is known\n",
				      (unsigned long long)rows, tables[i].name);
			abort();
		}
	}
}

static void check_whole(void)
{
	p2p_require(sqlite3_step(whole) == SQLITE_ROW);
	p2p_require(strcmp((const char *)sqlite3_column_text(whole, 0), "ok") == 0);
	p2p_require(sqlite3_reset(whole) == SQLITE_OK);
}

/* As they are in the input. */
static void merge_all(void)
{
	bool held[REPLICAS] = {false};
	size_t i;

	for (i = 0; i < change_count; i++) {
		results[i] = held[author[i]] ? 1 : merge_change(&changes[i]);
		held[author[i]] |= results[i] != 0;
	}
}

/* Replica by replica, the last one first. */
static void merge_turned(void)
{
	uint32_t who;
	size_t i;

	for (who = REPLICAS; who-- > 0;)
		for (i = 0; i < change_count; i++) {
			if (author[i] != who || results[i] == 1)
				continue;
			if (merge_change(&changes[i]) != results[i]) {
				(void)fprintf(stderr, "merge: change %zu: %s in one order only\n",
					      i, p2p_err_name(results[i]));
				abort();
			}
		}
}

static void compare(const struct p2p_hash *first, const struct p2p_hash *second, const char *what)
{
	if (p2p_hash_cmp(first, second) == 0)
		return;
	show();
	rollback();
	begin();
	merge_all();
	show();
	(void)fprintf(stderr, "merge: %s differs\n", what);
	abort();
}

static void one(const uint8_t *data, size_t len)
{
	struct fuzz_in in = fuzz_in(data, len);
	struct p2p_hash first, second;
	uint8_t how = fuzz_u8(&in);
	size_t i;

	change_count = 0;
	make_changes(&in);
	begin();
	merge_all();
	digest(&first);
	check_rows();
	if (how & 1)
		check_whole();
	for (i = 0; i < change_count; i++)
		if (results[i] == 0)
			p2p_require(merge_change(&changes[i]) == 0);
	digest(&second);
	compare(&first, &second, "a second delivery");
	rollback();
	begin();
	merge_turned();
	digest(&second);
	compare(&first, &second, "another order");
	rollback();
	for (i = 0; i < change_count; i++) {
		if (results[i] == 0 && changes[i].header.row_count)
			fuzz_deep();
		kit_change_deinit(&changes[i]);
	}
}

static void seeds(void)
{
	/* how; then changes: who and stamp, records: table, life, identity, cells */
	static const uint8_t items[] = {1, 0, 1, 0, 2, 0, 1,	0x81, 0x41, 0x41,
					1, 1, 0, 2, 0, 2, 0x81, 0x82, 0x41};
	static const uint8_t words[] = {1,    0x40, 0, 0, 0,	0x81, 0x41, 0,	  1,	0x41, 1,
					0x83, 1,    0, 0, 0x82, 0x41, 0,    0x61, 0x81, 1,    0x84};
	static const uint8_t users[] = {0, 0, 3, 0,    0, 0x81, 0,    0, 0x41, 0, 0x42, 0, 0x43, 1,
					3, 0, 0, 0x82, 0, 0,	0x41, 0, 0x42, 0, 0x43};
	static const uint8_t kinds[] = {1, 2,	 5, 0,	  0, 0x62, 0, 0,    0x83,
					0, 0x84, 0, 0x83, 0, 0x84, 0, 0xa1, 3,
					5, 0,	 0, 0x83, 0, 0,	   0, 0,    0xc1};
	static const uint8_t hards[] = {1, 1, 6, 0, 2, 0, 1, 0,	   0x41, 0,    0x81, 0,	  0x62,
					2, 6, 0, 4, 0, 1, 0, 0x83, 0,	 0x82, 0,    0x85};
	static const uint8_t deleted[] = {1,	0, 1, 0, 2,    0, 1, 0, 0x41, 0,    0x81, 1,   1,
					  0x81, 2, 2, 1, 0x82, 2, 0, 3, 0,    0x42, 0,	  0x41};
	static const uint8_t cards[] = {0, 0, 4, 0, 2, 0, 1,	0,    0x41, 0,	  0x41,
					1, 4, 0, 4, 0, 1, 0,	0x41, 0,    0x42, 2,
					4, 0, 6, 0, 1, 0, 0x41, 0,    0};
	static const uint8_t origins[] = {0, 0,	   0xc9, 0, 2, 0, 1, 0,	   0x41, 0,   0x81,
					  1, 0xca, 0,	 2, 0, 2, 0, 0x42, 0,	 0x82};
	static const uint8_t children[] = {1,	 1, 7, 0, 0, 0xa3, 1, 2, 3, 0, 0,
					   0x41, 2, 7, 4, 0, 0xa3, 1, 2, 3, 2, 0,
					   0x42, 0, 1, 0, 1, 0,	   1, 0, 0, 0, 0};
	static const uint8_t odd[] = {0, 1, 1, 4,    2, 6, 0xf0, 0xf4, 2, 2, 0, 0xf8, 3, 1,
				      2, 3, 3, 0xf8, 9, 1, 1,	 1,    2, 0, 0, 0,    0, 0};
	static const uint8_t raw[] = {0, 0, 0xf8, 12, 1, 1, 2, 2, 1, 0, 1, 0, 0, 0, 0, 0};

	fuzz_seed("items", items, sizeof(items));
	fuzz_seed("words", words, sizeof(words));
	fuzz_seed("users", users, sizeof(users));
	fuzz_seed("kinds", kinds, sizeof(kinds));
	fuzz_seed("hards", hards, sizeof(hards));
	fuzz_seed("deleted", deleted, sizeof(deleted));
	fuzz_seed("cards", cards, sizeof(cards));
	fuzz_seed("origins", origins, sizeof(origins));
	fuzz_seed("children", children, sizeof(children));
	fuzz_seed("odd", odd, sizeof(odd));
	fuzz_seed("raw", raw, sizeof(raw));
}

const struct fuzz_target fuzz_target = {.name = "merge",
					.len_max = LEN_MAX,
					.memory_max = 4 * 1024 * 1024,
					.cpu_ms_max = 1000,
					.keeps = true,
					.init = init,
					.deinit = deinit,
					.one = one,
					.seeds = seeds};
