/* References and constraints on merge: children follow their parents, wait for them, and come back;
 * the same on every node whatever the order. */
#include <stdio.h>

#include "tests/unit/crdt/referencerows.h"

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

/* Its number is that of a row that is parked, and leaves it in the transaction in which its parent
 * moves. */
static void a_child_follows_whose_number_a_parked_row_had(void **state)
{
	struct change *moved;

	(void)state;
	item('A', 10, 'x', 1, 'z');
	person('A', 20, 'p', 1, "ann");
	item('A', 21, 'i', 1, 'p');
	moved = add('A', 22, PERSON, 'p');
	moved->update = true;
	put(moved, value(0, kit_int(2)));
	person('B', 30, 'q', 1, "bob");
	moved = add('A', 31, ITEM, 'x');
	moved->update = true;
	put(moved, value(0, kit_int(3)));
	in_every_order("SELECT id, owner FROM item", "1|2;");
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

/* A row that nobody captured has the number of one of two that come in together. */
static void a_row_shown_before_its_parent_has_the_number_that_is_left_for_that(void **state)
{
	const size_t order[] = {0, 1};
	struct change *x, *y;

	(void)state;
	x = add('A', 10, NODE, 'x');
	put(x, value(0, kit_int(5)));
	put(x, refers(1, 'y'));
	y = add('A', 11, NODE, 'y');
	put(y, value(0, kit_int(1)));
	put(y, refers(1, 'x'));
	kit_sql(&a, "INSERT INTO node(id) VALUES(1)");
	deliver_all(&a, order, 2);
	assert_string_equal(
		kit_rows(&a, "SELECT x.id, y.id < 0, z.id FROM node x JOIN node y ON y.id = x.next"
			     " JOIN node z ON z.id = y.next WHERE x.id = 5"),
		"5|1|5;");
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

/* Its table does not take the parent: that is known only when it is put there. */
static void children_of_a_row_that_its_table_refuses_wait_with_it(void **state)
{
	struct change *item, *part;

	(void)state;
	person('A', 10, 'p', 1, "ann");
	item = add('A', 11, ITEM, 'i');
	put(item, value(0, kit_int(1)));
	put(item, refers(1, 'p'));
	put(item, value(2, kit_null()));
	part = add('A', 12, PART, 0);
	part->key[0].reference = true;
	part->key[0].target = row('i');
	part->key[1].value = kit_text("left");
	in_every_order("SELECT count(*) FROM part UNION ALL SELECT count(*) FROM item", "0;0;");
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

static void a_default_that_nobody_wrote_follows_nobody(void **state)
{
	struct change *moved;

	(void)state;
	put(add('x', 10, SEAT, 's'), value(0, kit_int(1)));
	person('x', 11, 'a', 1, "ann");
	moved = add('x', 12, PERSON, 'a');
	moved->update = true;
	put(moved, value(0, kit_int(7)));
	person('y', 13, 'b', 1, "bob");
	in_every_order("SELECT id, who FROM seat", "1|1;");
}

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
		T(a_child_follows_whose_number_a_parked_row_had),
		T(children_of_many_that_move_at_once_follow),
		T(a_child_waits_for_its_parent_with_its_own_children),
		T(a_deleted_parent_takes_its_children_along_and_brings_them_back),
		T(rows_that_support_each_other_are_shown),
		T(a_row_shown_before_its_parent_has_the_number_that_is_left_for_that),
		T(a_key_with_a_reference_follows_its_parent),
		T(children_of_a_row_that_its_table_refuses_wait_with_it),
		T(a_row_named_by_its_parent_has_its_number),
		T(a_loose_number_never_waits),
		T(set_null_shows_null_until_the_parent_is_there),
		T(set_default_shows_the_default_if_that_row_is_there),
		T(a_default_that_nobody_wrote_follows_nobody),
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
