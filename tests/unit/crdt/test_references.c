/* References and constraints on merge: children follow their parents, wait for them, and come back;
 * the same on every node whatever the order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "proto/check.h"
#include "tests/support/mergekit.h"

static const char sql_tables[] =
	"CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT UNIQUE,"
	" boss INTEGER REFERENCES person(id) ON DELETE SET NULL);"
	"CREATE TABLE item(id INTEGER PRIMARY KEY, owner INTEGER REFERENCES person(id), code,"
	" UNIQUE(owner, code));"
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

static struct kit_mesh mesh;
static struct kit_node a, b;
static size_t change_count;

static int setup(void **state)
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

static int teardown(void **state)
{
	(void)state;
	kit_node_deinit(&a);
	kit_node_deinit(&b);
	kit_mesh_deinit(&mesh);
	return 0;
}

static int each_setup(void **state)
{
	(void)state;
	kit_node_clear(&a);
	kit_node_clear(&b);
	kit_mesh_forget(&mesh);
	change_count = 0;
	return 0;
}

/* --- making changes --------------------------------------------------------------------------- */

/* A row with a generated identity, named by a letter; or a key. */
static struct p2p_identity row(char letter)
{
	struct p2p_identity identity;

	memset(&identity, 0, sizeof(identity));
	identity.kind = P2P_IDENTITY_GENERATED;
	memset(identity.id.bytes, letter, sizeof(identity.id.bytes));
	return identity;
}

static struct p2p_cell value(uint32_t column, struct p2p_value is)
{
	struct p2p_cell cell;

	memset(&cell, 0, sizeof(cell));
	cell.column = column;
	cell.value = is;
	return cell;
}

static struct p2p_cell refers(uint32_t column, char letter)
{
	struct p2p_cell cell = value(column, kit_null());

	cell.tag = P2P_CELL_REFERENCE;
	cell.reference = row(letter);
	return cell;
}

static struct p2p_cell loose(uint32_t column, struct p2p_value is)
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

static struct change *add(char replica, uint64_t stamp, uint32_t table, char letter)
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

static void put(struct change *change, struct p2p_cell cell)
{
	assert_true(change->count < CELLS_MAX);
	change->cells[change->count++] = cell;
}

static void person(char replica, uint64_t stamp, char letter, int64_t number, const char *name)
{
	struct change *change = add(replica, stamp, PERSON, letter);

	put(change, value(0, kit_int(number)));
	put(change, value(1, kit_text(name)));
}

static void item(char replica, uint64_t stamp, char letter, int64_t number, char owner)
{
	struct change *change = add(replica, stamp, ITEM, letter);

	put(change, value(0, kit_int(number)));
	put(change, refers(1, owner));
	put(change, value(2, kit_int(number)));
}

static void died(char replica, uint64_t stamp, uint32_t table, char letter)
{
	add(replica, stamp, table, letter)->life = 2;
}

static void deliver(struct kit_node *node, size_t index)
{
	const struct change *from = &changes[index];
	struct kit_change made;
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
	kit_change_init(&made, &mesh, from->replica, from->stamp, from->stamp);
	kit_change_put(&made, &record);
	kit_apply(node, &made);
	kit_change_deinit(&made);
	p2p_buf_deinit(&key);
}

static void clean(struct kit_node *node)
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

static void same_state(void)
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

static void permute(size_t *order, size_t depth, const char *sql, const char *rows)
{
	size_t i, kept;

	if (depth == change_count) {
		kit_node_clear(&b);
		for (i = 0; i < change_count; i++)
			deliver(&b, order[i]);
		assert_string_equal(kit_rows(&b, sql), rows);
		clean(&b);
		same_state();
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

/* The query gives these rows after the changes in every order, and all states are equal. */
static void in_every_order(const char *sql, const char *rows)
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

static const char sql_items[] = "SELECT p.name, i.code FROM item i JOIN person p ON p.id = i.owner"
				" ORDER BY 1, 2";

/* --- references ------------------------------------------------------------------------------- */

static void children_stay_with_their_parent_when_two_have_one_number(void **state)
{
	(void)state;
	person('A', 10, 'p', 1, "ann");
	person('B', 20, 'q', 1, "bob");
	item('A', 11, 'i', 1, 'p');
	item('B', 21, 'j', 1, 'q');
	item('B', 22, 'k', 2, 'q');
	in_every_order(sql_items, "ann|1;bob|1;bob|2;");
}

static void children_follow_when_their_parent_gets_a_permanent_number(void **state)
{
	struct change *moved;

	(void)state;
	person('A', 10, 'p', 1, "ann");
	person('B', 20, 'q', 1, "bob");
	item('B', 21, 'j', 1, 'q');
	moved = add('B', 30, PERSON, 'q');
	moved->update = true;
	put(moved, value(0, kit_int(2)));
	in_every_order("SELECT owner FROM item", "2;");
}

/* Five rows of a table in one changeset. */
static void five(uint32_t table, char replica, uint64_t stamp, char first, char boss)
{
	struct p2p_cell cells[2];
	struct p2p_record record;
	struct kit_change made;
	int i;

	kit_change_init(&made, &mesh, replica, stamp, stamp);
	for (i = 0; i < 5; i++) {
		memset(&record, 0, sizeof(record));
		record.table = table;
		record.identity = row((char)(first + i));
		record.causal_length = 1;
		record.flags = P2P_RECORD_BORN;
		record.cells = cells;
		record.cell_count = boss ? 2 : 1;
		cells[0] = value(0, kit_int(i + 1));
		if (boss)
			cells[1] = refers(1, (char)(boss + i));
		kit_change_put(&made, &record);
	}
	kit_apply(&a, &made);
	kit_change_deinit(&made);
}

/* seat.who has no index: the table is read once for all of them. */
static void children_of_many_that_move_at_once_follow(void **state)
{
	(void)state;
	five(PERSON, 'A', 50, 'a', 0);
	five(SEAT, 'A', 51, 'k', 'a');
	five(PERSON, 'B', 10, 'u', 0);
	assert_string_equal(kit_rows(&a,
				     "SELECT count(*) FROM seat WHERE who < 0 AND who = ("
				     "SELECT shown FROM p2p_temp t JOIN p2p_row_1 r ON r.k = t.k"
				     " WHERE t.t = 1 AND r.number = seat.id)"),
			    "5;");
	clean(&a);
}

static void a_child_waits_for_its_parent_with_its_own_children(void **state)
{
	struct change *part;

	(void)state;
	item('A', 11, 'i', 1, 'p');
	part = add('A', 12, PART, 0);
	part->key[0].reference = true;
	part->key[0].target = row('i');
	part->key[1].value = kit_text("left");
	put(part, value(2, kit_int(7)));
	deliver(&a, 0);
	deliver(&a, 1);
	assert_string_equal(kit_rows(&a, "SELECT reason FROM p2p_parked"), "fk;fk;");
	kit_node_clear(&a);
	person('A', 10, 'p', 1, "ann");
	in_every_order("SELECT p.*, i.owner FROM part p JOIN item i ON i.id = p.item",
		       "1|left|7|1;");
}

static void a_deleted_parent_takes_its_children_along_and_brings_them_back(void **state)
{
	struct change *again;

	(void)state;
	person('A', 10, 'p', 1, "ann");
	item('B', 20, 'i', 1, 'p');
	died('A', 30, PERSON, 'p');
	in_every_order("SELECT count(*) FROM item UNION ALL SELECT reason FROM p2p_parked",
		       "0;fk;");
	again = add('A', 40, PERSON, 'p');
	again->life = 3;
	put(again, value(0, kit_int(5)));
	put(again, value(1, kit_text("ann")));
	deliver(&a, 0);
	assert_string_equal(kit_rows(&a, sql_items), "ann|1;");
	assert_string_equal(kit_rows(&a, "SELECT count(*) FROM p2p_ref"), "0;");
	clean(&a);
	change_count = 0;
}

static void rows_that_support_each_other_are_shown(void **state)
{
	struct change *x, *y;

	(void)state;
	x = add('A', 10, NODE, 'x');
	put(x, value(0, kit_int(1)));
	put(x, refers(1, 'y'));
	y = add('B', 20, NODE, 'y');
	put(y, value(0, kit_int(2)));
	put(y, refers(1, 'x'));
	x = add('B', 30, NODE, 'z');
	put(x, value(0, kit_int(3)));
	put(x, refers(1, 'z'));
	in_every_order("SELECT * FROM node", "1|2;2|1;3|3;");
}

static void a_key_with_a_reference_follows_its_parent(void **state)
{
	struct change *part;

	(void)state;
	person('A', 10, 'p', 1, "ann");
	item('A', 11, 'i', 1, 'p');
	item('B', 9, 'j', 1, 'p'); /* has the number */
	part = add('A', 12, PART, 0);
	part->key[0].reference = true;
	part->key[0].target = row('i');
	part->key[1].value = kit_text("left");
	in_every_order("SELECT count(*) FROM part p JOIN item i ON i.id = p.item WHERE i.id < 0",
		       "0;");
}

static void a_row_named_by_its_parent_has_its_number(void **state)
{
	struct change *extra;

	(void)state;
	person('A', 10, 'p', 1, "ann");
	person('B', 5, 'q', 1, "bob");
	extra = add('A', 12, EXTRA, 0);
	extra->key[0].reference = true;
	extra->key[0].target = row('p');
	put(extra, value(1, kit_int(7)));
	in_every_order("SELECT p.name, e.v FROM extra e JOIN person p ON p.id = e.id", "ann|7;");
}

static void a_loose_number_never_waits(void **state)
{
	struct change *item;

	(void)state;
	item = add('A', 10, ITEM, 'i');
	put(item, value(0, kit_int(1)));
	put(item, loose(1, kit_int(77)));
	deliver(&a, 0);
	assert_string_equal(kit_rows(&a, "SELECT id, owner FROM item"), "1|77;");
	assert_string_equal(kit_rows(&a, "SELECT pt FROM p2p_ref"), "0;");
	change_count = 0;
}

static void set_null_shows_null_until_the_parent_is_there(void **state)
{
	struct change *change;

	(void)state;
	change = add('A', 10, PERSON, 'c');
	put(change, value(0, kit_int(2)));
	put(change, value(1, kit_text("cid")));
	put(change, refers(2, 'p'));
	deliver(&a, 0);
	assert_string_equal(kit_rows(&a, "SELECT id, boss FROM person"), "2|;");
	kit_node_clear(&a);
	person('B', 20, 'p', 1, "ann");
	in_every_order("SELECT id, boss FROM person", "1|;2|1;");
	died('B', 30, PERSON, 'p');
	deliver(&a, 0);
	assert_string_equal(kit_rows(&a, "SELECT id, boss FROM person"), "2|;");
	change_count = 0;
}

static void set_default_shows_the_default_if_that_row_is_there(void **state)
{
	struct change *change;

	(void)state;
	person('A', 10, 'p', 1, "ann");
	person('A', 11, 'q', 2, "bob");
	change = add('A', 12, SEAT, 's');
	put(change, value(0, kit_int(1)));
	put(change, refers(1, 'q'));
	died('B', 30, PERSON, 'q');
	in_every_order("SELECT * FROM seat", "1|1;");
	died('B', 40, PERSON, 'p');
	deliver(&a, 0);
	assert_string_equal(kit_rows(&a, "SELECT * FROM seat"), "");
	clean(&a);
	change_count = 0;
}

/* --- with UNIQUE ------------------------------------------------------------------------------ */

static void children_of_a_row_that_lost_its_value_wait_with_it(void **state)
{
	(void)state;
	person('A', 10, 'p', 1, "ann");
	person('B', 20, 'q', 2, "ann");
	item('B', 21, 'j', 1, 'q');
	in_every_order("SELECT (SELECT count(*) FROM item), group_concat(reason) FROM p2p_parked",
		       "0|unique,fk;");
	died('A', 30, PERSON, 'p');
	deliver(&a, 0);
	assert_string_equal(kit_rows(&a, sql_items), "ann|1;");
	clean(&a);
	change_count = 0;
}

static void a_value_with_a_reference_is_claimed_by_number(void **state)
{
	struct change *item;

	(void)state;
	person('A', 10, 'p', 1, "ann");
	item = add('A', 20, ITEM, 'i');
	put(item, value(0, kit_int(1)));
	put(item, refers(1, 'p'));
	put(item, value(2, kit_int(5)));
	item = add('B', 15, ITEM, 'j');
	put(item, value(0, kit_int(2)));
	put(item, refers(1, 'p'));
	put(item, value(2, kit_int(5)));
	in_every_order("SELECT id FROM item", "2;");
}

static void a_partial_index_over_an_expression_goes_to_the_earlier(void **state)
{
	struct change *use;

	(void)state;
	use = add('A', 10, USE, 'u');
	put(use, value(0, kit_int(1)));
	put(use, loose(1, kit_text("Key")));
	put(use, value(2, kit_int(1)));
	use = add('B', 20, USE, 'v');
	put(use, value(0, kit_int(2)));
	put(use, loose(1, kit_text("kEY")));
	put(use, value(2, kit_int(1)));
	use = add('B', 21, USE, 'w');
	put(use, value(0, kit_int(3)));
	put(use, loose(1, kit_text("key")));
	put(use, value(2, kit_int(0)));
	for (change_count = 0; change_count < 3; change_count++)
		deliver(&a, change_count);
	assert_string_equal(kit_rows(&a, "SELECT id FROM use"), "1;3;");
	deliver(&b, 1);
	deliver(&b, 2);
	deliver(&b, 0);
	assert_string_equal(kit_rows(&b, "SELECT id FROM use"), "1;3;");
	same_state();
	change_count = 0;
}

static void a_row_that_yielded_comes_after_its_equals(void **state)
{
	struct change *yield;
	struct p2p_hasher hasher;
	struct p2p_id constraint, column;

	(void)state;
	p2p_column_id(&column, &mesh.table[PERSON], "name");
	p2p_hasher_init(&hasher, "p2pnode/constraint/1", sizeof(constraint.bytes));
	p2p_hasher_add(&hasher, mesh.table[PERSON].bytes, P2P_ID_BYTES);
	p2p_hasher_add(&hasher, column.bytes, P2P_ID_BYTES);
	p2p_hasher_add_u64(&hasher, 0);
	p2p_hasher_final(&hasher, constraint.bytes, sizeof(constraint.bytes));
	person('A', 10, 'p', 1, "ann");
	person('B', 20, 'q', 2, "ann");
	yield = add('B', 21, PERSON, 'p');
	yield->update = true;
	yield->yield = &constraint;
	in_every_order("SELECT id FROM person", "2;");
}

static void a_number_that_was_yielded_goes_to_the_other(void **state)
{
	struct change *yield;

	(void)state;
	person('A', 10, 'p', 1, "ann");
	person('B', 20, 'q', 1, "bob");
	item('A', 11, 'i', 1, 'p');
	item('B', 22, 'j', 2, 'q');
	yield = add('B', 21, PERSON, 'p');
	yield->update = true;
	yield->yield = &mesh.table[PERSON];
	in_every_order("SELECT p.name, i.code FROM item i JOIN person p ON p.id = i.owner"
		       " WHERE p.id = 1",
		       "bob|2;");
}

/* --- by value --------------------------------------------------------------------------------- */

static void a_key_by_value_waits_for_a_row_that_has_the_value(void **state)
{
	struct change *word, *use;

	(void)state;
	use = add('A', 10, USE, 'u');
	put(use, value(0, kit_int(1)));
	put(use, value(1, kit_text("key")));
	word = add('B', 20, WORD, 0);
	word->key[0].value = kit_text("key");
	put(word, value(1, kit_int(3)));
	in_every_order("SELECT id, k FROM use", "1|key;");
	word = add('B', 30, WORD, 0);
	word->key[0].value = kit_text("key");
	word->life = 2;
	deliver(&a, 0);
	assert_string_equal(kit_rows(&a, "SELECT count(*) FROM use"), "0;");
	clean(&a);
	change_count = 0;
}

/* --- the check -------------------------------------------------------------------------------- */

static void checked(uint64_t expected)
{
	struct p2p_error err = {0};
	uint64_t wrong = 0;

	assert_int_equal(p2p_store_begin_read(a.store, &err), 0);
	assert_int_equal(p2p_merge_check(a.merge, &wrong, &err), 0);
	p2p_store_rollback(a.store);
	assert_int_equal(wrong, expected);
}

static void a_row_that_is_not_where_the_rules_put_it_is_found(void **state)
{
	(void)state;
	person('A', 10, 'p', 1, "ann");
	item('B', 20, 'i', 1, 'p');
	item('B', 21, 'j', 2, 'q');
	deliver(&a, 0);
	deliver(&a, 1);
	deliver(&a, 2);
	checked(0);
	kit_sql(&a, "UPDATE item SET owner = 9 WHERE id = 1");
	checked(1);
	kit_sql(&a, "UPDATE item SET owner = 1 WHERE id = 1;"
		    "UPDATE p2p_ref SET pk = (SELECT k FROM p2p_row_1)");
	checked(1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup(name, each_setup)
		T(children_stay_with_their_parent_when_two_have_one_number),
		T(children_follow_when_their_parent_gets_a_permanent_number),
		T(children_of_many_that_move_at_once_follow),
		T(a_child_waits_for_its_parent_with_its_own_children),
		T(a_deleted_parent_takes_its_children_along_and_brings_them_back),
		T(rows_that_support_each_other_are_shown),
		T(a_key_with_a_reference_follows_its_parent),
		T(a_row_named_by_its_parent_has_its_number),
		T(a_loose_number_never_waits),
		T(set_null_shows_null_until_the_parent_is_there),
		T(set_default_shows_the_default_if_that_row_is_there),
		T(children_of_a_row_that_lost_its_value_wait_with_it),
		T(a_value_with_a_reference_is_claimed_by_number),
		T(a_partial_index_over_an_expression_goes_to_the_earlier),
		T(a_row_that_yielded_comes_after_its_equals),
		T(a_number_that_was_yielded_goes_to_the_other),
		T(a_key_by_value_waits_for_a_row_that_has_the_value),
		T(a_row_that_is_not_where_the_rules_put_it_is_found),
	};

	return cmocka_run_group_tests_name("references", tests, setup, teardown);
}
