/* Merge: what is not known here waits, what a constraint forbids is parked, what is malformed or
 * finds no memory changes nothing. */
#include <stdlib.h>

#include "tests/unit/crdt/mergerows.h"

static void unknown_tables_schemas_columns_and_kinds_wait(void **state)
{
	struct kit_change made;
	struct change change = word('A', 10, 1, true, 1);
	struct p2p_hash before, after;

	(void)state;
	kit_digest(&a, &before);
	change_make(&made, &change);
	memset(made.tables[WORD].table.bytes, 9, P2P_ID_BYTES);
	kit_apply(&a, &made);
	assert_int_equal(p2p_store_waiting_count(a.store), 1);
	made.tables[WORD].table = mesh.table[WORD];
	memset(made.tables[WORD].schema.bytes, 9, P2P_HASH_BYTES);
	made.header.stamp.value = 11;
	kit_apply(&a, &made);
	assert_int_equal(p2p_store_waiting_count(a.store), 2);
	kit_change_deinit(&made);

	kit_change_init(&made, &mesh, 'A', 12, 12);
	kit_change_put_raw(&made, "\x7fwhatever", 9);
	kit_apply(&a, &made);
	assert_int_equal(p2p_store_waiting_count(a.store), 3);
	kit_change_deinit(&made);
	kit_digest(&a, &after);
	assert_memory_equal(&before, &after, sizeof(before));

	memset(&change, 0, sizeof(change)); /* a column that is not here: the others are merged */
	change.replica = 'A';
	change.stamp = 13;
	change.table = SOFT;
	change.key[0] = kit_text("x");
	change.causal_length = 1;
	change.born = true;
	change.cells[1] = kit_int(1);
	change.cells[4] = kit_int(2);
	change.set[1] = change.set[4] = 1;
	apply(&a, &change);
	assert_string_equal(kit_rows(&a, "SELECT k, i FROM soft"), "x|1;");
	assert_int_equal(p2p_store_waiting_count(a.store), 4);
	assert_int_equal(a.counts.waiting, 4);
}

/* One changeset is taken by every node, or by none: whatever each had before. */
static void what_fits_no_column_waits_also_behind_a_delete(void **state)
{
	struct change odd, dead;

	(void)state;
	memset(&odd, 0, sizeof(odd));
	odd.replica = 'A';
	odd.stamp = 10;
	odd.table = PAIR;
	odd.key[0] = kit_int(1);
	odd.key[1] = kit_int(2);
	odd.causal_length = 1;
	odd.born = true;
	odd.cells[4] = kit_int(1); /* it has two */
	odd.set[4] = 1;
	dead = odd;
	dead.replica = 'B';
	dead.stamp = 11;
	dead.born = false;
	dead.set[4] = 0;
	dead.causal_length = 2;
	apply(&a, &odd);
	apply(&a, &dead);
	apply(&b, &dead);
	apply(&b, &odd);
	assert_int_equal(p2p_store_waiting_count(a.store), 1);
	assert_string_equal(kit_rows(&a, "SELECT * FROM pair"), "");
	assert_string_equal(kit_rows(&b, "SELECT * FROM pair"), "");
}

/* Elsewhere there may be no such index. Every merge failed from such a row on. */
static void a_row_that_an_index_cannot_take_is_parked(void **state)
{
	struct change bad, good;

	(void)state;
	kit_sql(&a, "CREATE INDEX by_json ON soft(json_extract(t, '$.a'))");
	memset(&bad, 0, sizeof(bad));
	bad.replica = 'A';
	bad.stamp = 10;
	bad.table = SOFT;
	bad.key[0] = kit_text("x");
	bad.causal_length = 1;
	bad.born = true;
	bad.cells[2] = kit_text("no json");
	bad.set[2] = 1;
	good = bad;
	good.key[0] = kit_text("y");
	good.cells[2] = kit_text("{}");
	apply(&a, &bad);
	apply(&a, &good);
	assert_string_equal(kit_rows(&a, "SELECT k, t FROM soft"), "y|{};");
	assert_int_equal(p2p_store_parked_count(a.store), 1);
	bad.stamp = 11; /* put right, it is shown */
	bad.cells[2] = kit_text("[]");
	apply(&a, &bad);
	assert_string_equal(kit_rows(&a, "SELECT k, t FROM soft ORDER BY 1"), "x|[];y|{};");
	good.stamp = 12; /* and an update parks it */
	good.cells[2] = kit_text("{");
	apply(&a, &good);
	assert_string_equal(kit_rows(&a, "SELECT k, t FROM soft"), "x|[];");
	kit_sql(&a, "DROP INDEX by_json");
}

static void malformed_records_change_nothing(void **state)
{
	struct kit_change made;
	struct change change = word('A', 10, 1, true, 1);
	struct p2p_hash before, after;

	(void)state;
	kit_digest(&a, &before);
	change_make(&made, &change);
	kit_change_put_raw(&made, "\x01", 1);
	assert_int_equal(kit_try(&a, &made), P2P_EPROTO);
	kit_change_deinit(&made);
	change_make(&made, &change);
	made.header.table_count = 0; /* table over the dictionary */
	assert_int_equal(kit_try(&a, &made), P2P_EPROTO);
	kit_change_deinit(&made);
	kit_digest(&a, &after);
	assert_memory_equal(&before, &after, sizeof(before));
}

static struct change hard(uint64_t stamp, bool born, struct p2p_value v)
{
	struct change change;

	memset(&change, 0, sizeof(change));
	change.replica = 'A';
	change.stamp = stamp;
	change.table = HARD;
	change.key[0] = kit_int(1);
	change.key[1] = kit_text("w");
	change.causal_length = 1;
	change.born = born;
	change.cells[1] = v;
	change.set[1] = 1;
	return change;
}

static void not_null_and_strict_types_park(void **state)
{
	const struct change changes[] = {hard(10, true, kit_int(1)), hard(11, false, kit_null()),
					 hard(12, false, kit_text("no")),
					 hard(13, false, kit_int(4))};

	(void)state;
	apply(&a, &changes[0]);
	assert_string_equal(kit_rows(&a, "SELECT k, v, w FROM hard"), "1|1|w;");
	apply(&a, &changes[1]);
	assert_string_equal(kit_rows(&a, "SELECT k, v, w FROM hard"), "");
	apply(&a, &changes[2]);
	assert_int_equal(p2p_store_parked_count(a.store), 1);
	apply(&a, &changes[3]);
	assert_string_equal(kit_rows(&a, "SELECT k, v, w FROM hard"), "1|4|w;");
	assert_int_equal(p2p_store_parked_count(a.store), 0);
	converge(changes, p2p_array_len(changes));
}

static void of_two_rows_with_one_unique_value_the_earlier_is_shown(void **state)
{
	const struct change changes[] = {user('A', 20, "ann", "m", NULL),
					 user('B', 10, "bob", "m", NULL)};

	(void)state;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(kit_rows(&a, sql_user), "bob|'m'|NULL;");
	assert_int_equal(p2p_store_parked_count(a.store), 1);
}

static void a_row_can_push_out_two_and_a_third_returns(void **state)
{
	/* cat (10) beats ann (20) by mail and bob (30) by phone; dan (40) had lost to ann's phone
	 */
	struct change changes[] = {user('A', 20, "ann", "m", "1"), user('A', 30, "bob", "n", "2"),
				   user('B', 40, "dan", "d", "1"), user('C', 10, "cat", "m", "2")};

	(void)state;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(kit_rows(&a, sql_user), "cat|'m'|'2';dan|'d'|'1';");
	assert_int_equal(p2p_store_parked_count(a.store), 2);
}

static void a_freed_value_brings_the_parked_row_back(void **state)
{
	struct change gone = user('B', 30, "bob", "m", NULL);
	struct change changes[3];

	(void)state;
	gone.causal_length = 2;
	gone.born = false;
	gone.set[1] = gone.set[2] = 0;
	changes[0] = user('A', 20, "ann", "m", NULL);
	changes[1] = user('B', 10, "bob", "m", NULL);
	changes[2] = gone;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(kit_rows(&a, sql_user), "ann|'m'|NULL;");
	assert_int_equal(p2p_store_parked_count(a.store), 0);
}

static void an_update_of_a_parked_row_is_kept_and_frees_it(void **state)
{
	struct change renamed = user('A', 30, "ann", "other", NULL);
	struct change changes[3];

	(void)state;
	renamed.born = false;
	renamed.set[2] = 0;
	changes[0] = user('A', 20, "ann", "m", "7");
	changes[1] = user('B', 10, "bob", "m", NULL);
	changes[2] = renamed;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(kit_rows(&a, sql_user), "ann|'other'|'7';bob|'m'|NULL;");
}

static void on_conflict_replace_of_the_table_deletes_nobody(void **state)
{
	struct change changes[2];

	(void)state;
	kit_sql(&a, "CREATE UNIQUE INDEX note_unique ON word(note)");
	changes[0] = word('A', 10, 1, true, 1);
	changes[1] = word('B', 20, 1, true, 2);
	changes[1].key[0] = kit_text("second");
	apply(&a, &changes[0]);
	apply(&a, &changes[1]);
	assert_string_equal(kit_rows(&a, sql_word), "'key'|1|1|'new';");
	kit_sql(&a, "DROP INDEX note_unique");
	changes[1] = word_note('B', 30, 1, "b"); /* touches the table: the parked row comes in */
	apply(&a, &changes[1]);
	assert_string_equal(kit_rows(&a, sql_word), "'key'|1|1|'b';'second'|1|2|'new';");
}

/* --- every allocation fails once ---------------------------------------------------------------
 */

static struct {
	bool armed;
	size_t left; /* allocations until one fails */
} fault;

static bool fault_now(void)
{
	return fault.armed && fault.left-- == 0;
}

static void *fault_malloc(size_t size)
{
	return fault_now() ? NULL : malloc(size);
}

static void *fault_realloc(void *ptr, size_t size)
{
	return fault_now() ? NULL : realloc(ptr, size);
}

static const struct p2p_mem_hooks fault_hooks = {fault_malloc, fault_realloc, free};

static void a_failed_allocation_changes_nothing(void **state)
{
	struct change changes[] = {user('A', 20, "ann", "m", "1"), user('A', 30, "bob", "n", "2"),
				   user('C', 10, "cat", "m", "2")};
	struct kit_change made[3];
	struct p2p_hash before, after;
	size_t i, at;
	int rc = P2P_ENOMEM;

	(void)state;
	for (i = 0; i < 3; i++)
		change_make(&made[i], &changes[i]);
	kit_apply(&a, &made[0]);
	kit_apply(&a, &made[1]);
	kit_digest(&a, &before);
	kit_apply(&b, &made[0]);
	kit_apply(&b, &made[1]);
	kit_apply(&b, &made[2]);
	mesh.blind = true;
	for (at = 0; rc; at++) {
		assert_true(at < 1000);
		p2p_merge_reset(a.merge); /* statements are made anew */
		fault.left = at;
		fault.armed = true;
		rc = kit_try(&a, &made[2]);
		fault.armed = false;
		if (rc) {
			assert_int_equal(rc, P2P_ENOMEM);
			kit_digest(&a, &after);
			assert_memory_equal(&before, &after, sizeof(before));
		}
	}
	mesh.blind = false;
	assert_in_range(at, 10, 1000);
	same_state();
	for (i = 0; i < 3; i++)
		kit_change_deinit(&made[i]);
}

int main(void)
{
#define merge_test(name) cmocka_unit_test_setup(name, each_setup)
	const struct CMUnitTest tests[] = {
		merge_test(unknown_tables_schemas_columns_and_kinds_wait),
		merge_test(what_fits_no_column_waits_also_behind_a_delete),
		merge_test(a_row_that_an_index_cannot_take_is_parked),
		merge_test(malformed_records_change_nothing),
		merge_test(not_null_and_strict_types_park),
		merge_test(of_two_rows_with_one_unique_value_the_earlier_is_shown),
		merge_test(a_row_can_push_out_two_and_a_third_returns),
		merge_test(a_freed_value_brings_the_parked_row_back),
		merge_test(an_update_of_a_parked_row_is_kept_and_frees_it),
		merge_test(on_conflict_replace_of_the_table_deletes_nobody),
		merge_test(a_failed_allocation_changes_nothing),
	};

	p2p_mem_set_hooks(&fault_hooks);
	return cmocka_run_group_tests(tests, setup, teardown);
}
