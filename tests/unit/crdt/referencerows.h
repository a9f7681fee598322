/* Two nodes with tables that refer to one another, and changesets of one row for them; for tests of
 * references and constraints on merge. */
#ifndef P2P_TESTS_UNIT_CRDT_REFERENCEROWS_H
#define P2P_TESTS_UNIT_CRDT_REFERENCEROWS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "proto/check.h"
#include "tests/unit/crdt/twonodes.h"

static const char sql_tables[] =
	"CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT UNIQUE,"
	" boss INTEGER REFERENCES person(id) ON DELETE SET NULL);"
	"CREATE TABLE item(id INTEGER PRIMARY KEY, owner INTEGER REFERENCES person(id),"
	" code NOT NULL DEFAULT 0, UNIQUE(owner, code));"
	"CREATE TABLE part(item INTEGER REFERENCES item(id), place TEXT, v,"
	" PRIMARY KEY(item, place)) WITHOUT ROWID;"
	"CREATE TABLE extra(id INTEGER PRIMARY KEY REFERENCES person(id), v);"
	"CREATE TABLE word(k TEXT PRIMARY KEY, v);"
	"CREATE TABLE use(id INTEGER PRIMARY KEY, k TEXT REFERENCES word(k), live);"
	"CREATE UNIQUE INDEX use_live ON use(lower(k)) WHERE live = 1;"
	"CREATE TABLE node(id INTEGER PRIMARY KEY, next INTEGER REFERENCES node(id));"
	"CREATE TABLE seat(id INTEGER PRIMARY KEY, who INTEGER DEFAULT 1 REFERENCES person(id)"
	" ON DELETE SET DEFAULT);";

enum { PERSON, ITEM, PART, EXTRA, WORD, USE, NODE, SEAT, TABLES };

static size_t change_count;

static inline int setup(void **state)
{
	static const char *const columns[TABLES][4] = {
		{"id", "name", "boss"},
		{"id", "owner", "code"},
		{"item", "place", "v"},
		{"id", "v"},
		{"k", "v"},
		{"id", "k", "live"},
		{"id", "next"},
		{"id", "who"},
	};
	static const char *const names[TABLES] = {"person", "item", "part", "extra",
						  "word",   "use",  "node", "seat"};
	static const bool generated[TABLES] = {true, true, false, false, false, true, true, true};
	static const size_t counts[TABLES] = {3, 3, 3, 2, 2, 3, 2, 2};
	size_t i;

	(void)state;
	kit_mesh_init(&mesh);
	for (i = 0; i < TABLES; i++)
		(void)kit_mesh_table(&mesh, names[i], generated[i], columns[i], counts[i]);
	kit_node_init(&a, &mesh, sql_tables);
	kit_node_init(&b, &mesh, sql_tables);
	return 0;
}

static inline int each_setup(void **state)
{
	(void)state;
	nodes_clear();
	change_count = 0;
	return 0;
}

/* --- making changes --------------------------------------------------------------------------- */

/* A row with a generated identity, named by a letter; or a key. */
static inline struct p2p_identity row(char letter)
{
	struct p2p_identity identity;

	memset(&identity, 0, sizeof(identity));
	identity.kind = P2P_IDENTITY_GENERATED;
	memset(identity.id.bytes, letter, sizeof(identity.id.bytes));
	return identity;
}

static inline struct p2p_cell value(uint32_t column, struct p2p_value is)
{
	struct p2p_cell cell;

	memset(&cell, 0, sizeof(cell));
	cell.column = column;
	cell.value = is;
	return cell;
}

static inline struct p2p_cell refers(uint32_t column, char letter)
{
	struct p2p_cell cell = value(column, kit_null());

	cell.tag = P2P_CELL_REFERENCE;
	cell.reference = row(letter);
	return cell;
}

static inline struct p2p_cell loose(uint32_t column, struct p2p_value is)
{
	struct p2p_cell cell = value(column, is);

	cell.tag = is.type == P2P_INTEGER ? P2P_CELL_LOOSE : P2P_CELL_LOOSE_VALUE;
	return cell;
}

#define CHANGES_MAX 8
#define CELLS_MAX   4

struct change {
	char replica;
	uint64_t stamp;
	uint32_t table;
	char letter;		    /* a row with a number */
	struct p2p_key_part key[2]; /* else */
	uint64_t life;
	bool update;
	struct p2p_cell cells[CELLS_MAX];
	size_t count;
	const struct p2p_id *yield;
};

static struct change changes[CHANGES_MAX];

static inline struct change *add(char replica, uint64_t stamp, uint32_t table, char letter)
{
	struct change *change = &changes[change_count++];

	assert_true(change_count <= CHANGES_MAX);
	memset(change, 0, sizeof(*change));
	change->replica = replica;
	change->stamp = stamp;
	change->table = table;
	change->letter = letter;
	change->life = 1;
	return change;
}

static inline void put(struct change *change, struct p2p_cell cell)
{
	assert_true(change->count < CELLS_MAX);
	change->cells[change->count++] = cell;
}

static inline void person(char replica, uint64_t stamp, char letter, int64_t number,
			  const char *name)
{
	struct change *change = add(replica, stamp, PERSON, letter);

	put(change, value(0, kit_int(number)));
	put(change, value(1, kit_text(name)));
}

static inline void item(char replica, uint64_t stamp, char letter, int64_t number, char owner)
{
	struct change *change = add(replica, stamp, ITEM, letter);

	put(change, value(0, kit_int(number)));
	put(change, refers(1, owner));
	put(change, value(2, kit_int(number)));
}

static inline void died(char replica, uint64_t stamp, uint32_t table, char letter)
{
	add(replica, stamp, table, letter)->life = 2;
}

static inline void change_make(struct kit_change *out, size_t index)
{
	const struct change *from = &changes[index];
	struct p2p_record record;
	struct p2p_buf key;

	memset(&record, 0, sizeof(record));
	p2p_buf_init(&key, 1024);
	record.table = from->table;
	record.identity = row(from->letter);
	if (!from->letter) {
		assert_int_equal(p2p_identity_of_parts(&key, kit_table(&a, &mesh, from->table),
						       from->key),
				 0);
		record.identity.kind = P2P_IDENTITY_KEY;
		record.identity.key = key.data;
		record.identity.key_len = key.len;
	}
	record.causal_length = from->life;
	record.flags = from->update || from->life % 2 == 0 ? 0 : P2P_RECORD_BORN;
	record.cells = changes[index].cells;
	record.cell_count = from->count;
	if (from->yield) {
		record.yields = from->yield->bytes;
		record.yield_count = 1;
	}
	kit_change_init(out, &mesh, from->replica, from->stamp, from->stamp);
	kit_change_put(out, &record);
	p2p_buf_deinit(&key);
}

/* In one transaction. */
static inline void deliver_all(struct kit_node *node, const size_t *order, size_t count)
{
	struct kit_change made[CHANGES_MAX], *all[CHANGES_MAX] = {NULL};
	size_t i;

	for (i = 0; i < count; i++) {
		change_make(&made[i], order[i]);
		all[i] = &made[i];
	}
	kit_apply_all(node, all, count);
	for (i = 0; i < count; i++)
		kit_change_deinit(&made[i]);
}

static inline void deliver(struct kit_node *node, size_t index)
{
	deliver_all(node, &index, 1);
}

static inline void clean(struct kit_node *node)
{
	struct p2p_error err = {0};
	uint64_t wrong = 1;

	assert_int_equal(p2p_store_begin_read(node->store, &err), 0);
	assert_int_equal(p2p_merge_check(node->merge, &wrong, &err), 0);
	p2p_store_rollback(node->store);
	assert_int_equal(wrong, 0);
	assert_string_equal(kit_rows(node, "PRAGMA foreign_key_check"), "");
	assert_string_equal(kit_rows(node, "PRAGMA integrity_check"), "ok;");
	assert_string_equal(kit_rows(node, "SELECT * FROM p2p_parked WHERE reason = 'pending'"),
			    "");
}

static inline void same_state(void)
{
	struct p2p_buf x, y;

	p2p_buf_init(&x, 1u << 20);
	p2p_buf_init(&y, 1u << 20);
	kit_state(&a, &x);
	kit_state(&b, &y);
	assert_int_equal(x.len, y.len);
	assert_memory_equal(x.data, y.data, x.len);
	p2p_buf_deinit(&x);
	p2p_buf_deinit(&y);
}

/* The first ones each in a transaction of its own, the others in one. */
static inline void delivered(const size_t *order, size_t alone, const char *sql, const char *rows)
{
	size_t i;

	kit_node_clear(&b);
	for (i = 0; i < alone; i++)
		deliver(&b, order[i]);
	deliver_all(&b, order + alone, change_count - alone);
	assert_string_equal(kit_rows(&b, sql), rows);
	clean(&b);
	same_state();
}

static inline void permute(size_t *order, size_t depth, const char *sql, const char *rows)
{
	size_t i, kept;

	if (depth == change_count) {
		for (i = 0; i < change_count; i++)
			delivered(order, i, sql, rows);
		return;
	}
	for (i = depth; i < change_count; i++) {
		kept = order[depth];
		order[depth] = order[i];
		order[i] = kept;
		permute(order, depth + 1, sql, rows);
		order[i] = order[depth];
		order[depth] = kept;
	}
}

/* The query gives these rows after the changes in every order, however many share a transaction,
 * and all states are equal. */
static inline void in_every_order(const char *sql, const char *rows)
{
	size_t order[CHANGES_MAX], i;

	for (i = 0; i < change_count; i++) {
		order[i] = i;
		deliver(&a, i);
	}
	assert_string_equal(kit_rows(&a, sql), rows);
	permute(order, 0, sql, rows);
	change_count = 0;
}

#endif
