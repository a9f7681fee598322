/* Merge: clocks decide, the same on every node whatever the order; values are bit-exact. */
#include <math.h>

#include "crdt/hlc.h"
#include "tests/unit/crdt/mergerows.h"

static void an_insert_arrives_with_defaults_and_canonical_key(void **state)
{
	struct change change = word('A', 10, 1, true, 5);

	(void)state;
	change.set[3] = 0;
	apply(&a, &change);
	assert_string_equal(kit_rows(&a, sql_word), "'key'|1|5|'none';");
	assert_int_equal(a.counts.rows, 1);
	assert_int_equal(a.counts.records, 1);
}

static void greater_clock_wins_and_replica_id_breaks_ties(void **state)
{
	const struct change changes[] = {word('A', 10, 1, true, 1), word('B', 12, 1, false, 2),
					 word('C', 12, 1, false, 3), word('A', 11, 1, false, 4)};

	(void)state;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(kit_rows(&a, sql_word), "'key'|1|3|'new';");
}

static void cells_of_one_row_merge_apart(void **state)
{
	const struct change changes[] = {word('A', 10, 1, true, 1), word('B', 11, 1, false, 2),
					 word_note('C', 12, 1, "noted")};

	(void)state;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(kit_rows(&a, sql_word), "'key'|1|2|'noted';");
}

static void two_inserts_of_one_key_are_one_row(void **state)
{
	const struct change changes[] = {word('A', 10, 1, true, 1), word('B', 10, 1, true, 2)};

	(void)state;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(kit_rows(&a, sql_word), "'key'|1|2|'new';");
}

static void delete_wins_over_concurrent_update(void **state)
{
	const struct change changes[] = {word('A', 10, 1, true, 1), word('B', 20, 1, false, 2),
					 word('C', 11, 2, false, 0)};

	(void)state;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(kit_rows(&a, sql_word), "");
}

static void larger_causal_length_wins_all(void **state)
{
	const struct change changes[] = {word('A', 10, 1, true, 1), word('B', 90, 1, false, 2),
					 word('C', 20, 3, true, 3)};

	(void)state;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(kit_rows(&a, sql_word), "'key'|1|3|'new';");
}

static void late_old_delete_is_no_op(void **state)
{
	const struct change changes[] = {word('C', 20, 3, true, 3), word('A', 90, 2, false, 0),
					 word('A', 10, 1, true, 1)};

	(void)state;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(kit_rows(&a, sql_word), "'key'|1|3|'new';");
}

static void equal_deletes_keep_the_later_clock(void **state)
{
	const struct change changes[] = {word('A', 10, 1, true, 1), word('B', 20, 2, false, 0),
					 word('C', 30, 2, false, 0)};
	struct p2p_rowstate row;
	struct p2p_buf key, encoded;
	struct p2p_identity identity;
	const struct p2p_table *table = kit_table(&a, &mesh, WORD);

	(void)state;
	converge(changes, p2p_array_len(changes));
	p2p_buf_init(&key, 256);
	p2p_buf_init(&encoded, 256);
	assert_int_equal(p2p_identity_of_key(&key, table, changes[0].key), 0);
	memset(&identity, 0, sizeof(identity));
	identity.key = key.data;
	identity.key_len = key.len;
	p2p_identity_put(&encoded, &identity);
	p2p_rowstate_init(&row);
	assert_int_equal(p2p_store_row_get(a.store, table, encoded.data, encoded.len, &row, NULL),
			 0);
	assert_int_equal(row.causal_length, 2);
	assert_int_equal(row.stamp, 30);
	p2p_rowstate_deinit(&row);
	p2p_buf_deinit(&key);
	p2p_buf_deinit(&encoded);
}

static void resurrected_row_starts_anew(void **state)
{
	struct change again = word('B', 30, 3, true, 7);
	struct change changes[3];

	(void)state;
	again.set[3] = 0; /* its note is the default, not the old life's */
	changes[0] = word('A', 10, 1, true, 1);
	changes[1] = word('A', 20, 2, false, 0);
	changes[2] = again;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(kit_rows(&a, sql_word), "'key'|1|7|'none';");
}

static void reinsert_after_later_updates_arrived_first(void **state)
{
	/* delete, re-insert missed, later updates arrive, then the re-insert */
	const struct change changes[] = {word('A', 10, 1, true, 1), word('A', 20, 2, false, 0),
					 word('A', 40, 3, false, 9), word('A', 30, 3, true, 8)};
	size_t i;

	(void)state;
	for (i = 0; i < 3; i++)
		apply(&a, &changes[i]);
	assert_string_equal(kit_rows(&a, sql_word), "");
	assert_int_equal(p2p_store_parked_count(a.store), 1);
	apply(&a, &changes[3]);
	assert_string_equal(kit_rows(&a, sql_word), "'key'|1|9|'new';");
	assert_int_equal(p2p_store_parked_count(a.store), 0);
	converge(changes, p2p_array_len(changes));
}

static void unborn_row_waits_parked_and_can_die_unseen(void **state)
{
	const struct change changes[] = {word('A', 10, 1, false, 1), word('B', 11, 2, false, 0)};

	(void)state;
	apply(&a, &changes[0]);
	assert_string_equal(kit_rows(&a, sql_word), "");
	assert_int_equal(p2p_store_parked_count(a.store), 1);
	converge(changes, p2p_array_len(changes));
	assert_int_equal(p2p_store_parked_count(a.store), 0);
}

static void key_columns_keep_their_spelling(void **state)
{
	struct change upper = word('B', 20, 1, true, 2);
	struct change changes[3];

	(void)state;
	upper.cells[0] = kit_text("KEY");
	upper.set[0] = 1;
	changes[0] = word('A', 10, 1, true, 1);
	changes[1] = upper;
	upper.cells[0] = kit_text("Key");
	upper.replica = 'C';
	upper.stamp = 15;
	upper.cells[2] = kit_int(3);
	changes[2] = upper;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(kit_rows(&a, sql_word), "'KEY'|1|2|'new';");
}

static void a_key_cell_of_another_key_waits(void **state)
{
	struct change wrong = word('A', 10, 1, true, 1);

	(void)state;
	wrong.cells[0] = kit_text("other");
	wrong.set[0] = 1;
	apply(&a, &wrong);
	assert_string_equal(kit_rows(&a, sql_word), "'key'|1|1|'new';");
	assert_int_equal(p2p_store_waiting_count(a.store), 1);
}

static void rows_of_keys_alone_come_and_go(void **state)
{
	struct change changes[3];
	size_t i;

	(void)state;
	memset(changes, 0, sizeof(changes));
	for (i = 0; i < 3; i++) {
		changes[i].replica = (char)('A' + i);
		changes[i].stamp = 10 + i;
		changes[i].table = PAIR;
		changes[i].key[0] = kit_int(1);
		changes[i].key[1] = kit_text("x");
		changes[i].causal_length = i + 1;
		changes[i].born = i != 1;
	}
	apply(&a, &changes[0]);
	assert_string_equal(kit_rows(&a, "SELECT a, b FROM pair"), "1|x;");
	apply(&a, &changes[1]);
	assert_string_equal(kit_rows(&a, "SELECT a, b FROM pair"), "");
	apply(&a, &changes[2]);
	assert_string_equal(kit_rows(&a, "SELECT a, b FROM pair"), "1|x;");
	converge(changes, 3);
}

static void value_round_trip(const struct p2p_value *value)
{
	struct change change = word('A', 10, 1, true, 1);
	struct p2p_cells cells;
	struct p2p_apptable app;

	kit_node_clear(&a);
	change.cells[2] = *value;
	apply(&a, &change);
	assert_int_equal(p2p_apptable_init(&app, a.store, kit_table(&a, &mesh, WORD)), 0);
	p2p_cells_init(&cells);
	assert_int_equal(p2p_apptable_read(&app, change.key, &cells), 0);
	assert_true(p2p_value_equal(value, &cells.values[2]));
	p2p_store_row_done(a.store);
	p2p_cells_deinit(&cells);
	p2p_apptable_deinit(&app);
}

static void values_are_bit_exact(void **state)
{
	const struct p2p_value values[] = {
		kit_null(),
		kit_int(0),
		kit_int(INT64_MIN),
		kit_int(INT64_MAX),
		kit_real(-0.0),
		kit_real(0.0),
		kit_real(3.0),
		kit_real(0.1),
		kit_real((double)INFINITY),
		kit_real(-(double)INFINITY),
		kit_real(5e-324),
		kit_bytes(P2P_TEXT, "", 0),
		kit_bytes(P2P_TEXT, "a\0b", 3),
		kit_bytes(P2P_TEXT, "\xff\xfe\x80", 3),
		kit_bytes(P2P_BLOB, "", 0),
		kit_bytes(P2P_BLOB, "\0\1", 2),
	};
	size_t i;

	(void)state;
	for (i = 0; i < p2p_array_len(values); i++)
		value_round_trip(&values[i]);
}

static void hash_is_of_what_sqlite_stores(void **state)
{
	const struct p2p_hash_key *hash_key = p2p_store_hash_key(a.store);
	const struct p2p_table *table = kit_table(&a, &mesh, SOFT);
	struct p2p_rowwork work;
	struct p2p_target target;
	struct p2p_value stored[3];
	struct p2p_identity identity;
	struct p2p_buf key;
	struct change change;
	uint32_t i;

	(void)state;
	memset(&change, 0, sizeof(change));
	change.replica = 'A';
	change.stamp = 10;
	change.table = SOFT;
	change.key[0] = kit_text("x");
	change.causal_length = 1;
	change.born = true;
	change.cells[1] = kit_text("12"); /* INTEGER: becomes 12 */
	change.cells[2] = kit_int(7);	  /* TEXT: becomes '7' */
	change.cells[3] = kit_int(2);	  /* REAL: becomes 2.0 */
	change.set[1] = change.set[2] = change.set[3] = 1;
	apply(&a, &change);
	assert_string_equal(kit_rows(&a, "SELECT quote(i), quote(t), quote(r) FROM soft"),
			    "12|'7'|2.0;");
	stored[0] = kit_int(12);
	stored[1] = kit_text("7");
	stored[2] = kit_real(2.0);
	memset(&target, 0, sizeof(target));
	target.store = a.store;
	target.table = kit_table(&a, &mesh, SOFT);
	p2p_buf_init(&key, 256);
	assert_int_equal(p2p_identity_of_key(&key, table, change.key), 0);
	memset(&identity, 0, sizeof(identity));
	identity.key = key.data;
	identity.key_len = key.len;
	p2p_rowwork_init(&work);
	assert_int_equal(p2p_rowwork_load(&work, &target, &identity), 0);
	for (i = 0; i < 3; i++)
		assert_true(work.state.cells[table->columns[i + 1].slot].hash ==
			    p2p_value_hash(hash_key, &stored[i]));
	p2p_rowwork_deinit(&work);
	p2p_buf_deinit(&key);
}

static void equal_clocks_with_two_values_keep_the_greater(void **state)
{
	const struct change changes[] = {word('A', 10, 1, true, 1), word('B', 20, 1, false, 5),
					 word('B', 20, 1, false, 6)};

	(void)state;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(kit_rows(&a, sql_word), "'key'|1|6|'new';");
}

static void restated_records_keep_their_origin(void **state)
{
	struct change change = word('B', 50, 1, false, 2);
	struct kit_change made;
	struct p2p_record record;
	struct p2p_cell cells[5];
	struct p2p_reader reader;
	const uint8_t *body;
	size_t len;

	(void)state;
	change.stamp = 10;
	change_make(&made, &change);
	p2p_reader_init(&reader, made.body.data, made.body.len);
	body = p2p_read_bytes(&reader, P2P_RECORD_BYTES_MAX, &len);
	assert_int_equal(p2p_record_read(&record, cells, 5, body, len), 0);
	record.origin = 1;
	{
		struct kit_change restated;

		kit_change_init(&restated, &mesh, 'C', 7, 99);
		restated.origins[0].replica = kit_replica('B');
		restated.origins[0].stamp.value = 10;
		restated.header.origin_count = 1;
		kit_change_put(&restated, &record);
		change = word('A', 5, 1, true, 1);
		apply(&a, &change);
		change = word('A', 20, 1, false, 3); /* later than the origin, not than 99 */
		apply(&a, &change);
		kit_apply(&a, &restated);
		assert_string_equal(kit_rows(&a, sql_word), "'key'|1|3|'new';");
		record.origin = 2; /* over the dictionary */
		restated.body.len = 0;
		kit_change_put(&restated, &record);
		assert_int_equal(kit_try(&a, &restated), P2P_EPROTO);
		kit_change_deinit(&restated);
	}
	kit_change_deinit(&made);
}

/* Under one clock the greater value stays: as stored, or nodes would judge by what came first. */
static void two_values_of_one_clock_are_compared_as_stored(void **state)
{
	struct change text, number;

	(void)state;
	memset(&text, 0, sizeof(text));
	text.replica = 'A';
	text.stamp = 10;
	text.table = SOFT;
	text.key[0] = kit_text("x");
	text.causal_length = 1;
	text.born = true;
	text.cells[1] = kit_text("12");
	text.cells[3] = kit_real(-0.0);
	text.set[1] = text.set[3] = 1;
	number = text;
	number.cells[1] = kit_int(13);
	number.cells[3] = kit_real(0.0);
	apply(&a, &text);
	apply(&a, &number);
	apply(&b, &number);
	apply(&b, &text);
	assert_string_equal(kit_rows(&a, "SELECT i, r FROM soft"), "13|0.0;");
	assert_string_equal(kit_rows(&b, "SELECT i, r FROM soft"), "13|0.0;");
}

/* Who goes to the limit leaves room to those who come after: they have later clocks. */
static void nobody_can_use_up_the_lives_of_a_row(void **state)
{
	const uint64_t stamp = 1000, most = p2p_hlc_lives((struct p2p_hlc){stamp});
	struct kit_change made;
	struct change change = word('h', stamp, most + 1, true, 1);
	uint64_t lives = most | 1;
	int i;

	(void)state;
	change_make(&made, &change);
	assert_int_equal(kit_try(&a, &made), P2P_EPROTO);
	kit_change_deinit(&made);
	change = word('h', stamp, lives > most ? lives - 2 : lives, true, 1);
	apply(&a, &change);
	/* deleted and inserted again in one changeset, and again */
	for (i = 1; i < 5; i++) {
		change = word('a', stamp + (uint64_t)i, change.causal_length + 2, true, i);
		apply(&a, &change);
	}
}

static void several_changesets_of_one_transaction_and_the_vector(void **state)
{
	struct change first = word('A', 1, 1, true, 1), second = word('A', 2, 1, false, 2);
	struct kit_change made[2], *both[2] = {&made[0], &made[1]};

	(void)state;
	change_make(&made[0], &first);
	change_make(&made[1], &second);
	kit_apply_all(&a, both, 2);
	assert_string_equal(kit_rows(&a, sql_word), "'key'|1|2|'new';");
	assert_string_equal(kit_rows(&a, "SELECT count(*), max(seq) FROM p2p_vector"), "1|2;");
	kit_change_deinit(&made[0]);
	kit_change_deinit(&made[1]);
}

int main(void)
{
#define merge_test(name) cmocka_unit_test_setup(name, each_setup)
	const struct CMUnitTest tests[] = {
		merge_test(an_insert_arrives_with_defaults_and_canonical_key),
		merge_test(greater_clock_wins_and_replica_id_breaks_ties),
		merge_test(cells_of_one_row_merge_apart),
		merge_test(two_inserts_of_one_key_are_one_row),
		merge_test(delete_wins_over_concurrent_update),
		merge_test(larger_causal_length_wins_all),
		merge_test(late_old_delete_is_no_op),
		merge_test(equal_deletes_keep_the_later_clock),
		merge_test(resurrected_row_starts_anew),
		merge_test(reinsert_after_later_updates_arrived_first),
		merge_test(unborn_row_waits_parked_and_can_die_unseen),
		merge_test(key_columns_keep_their_spelling),
		merge_test(a_key_cell_of_another_key_waits),
		merge_test(rows_of_keys_alone_come_and_go),
		merge_test(values_are_bit_exact),
		merge_test(hash_is_of_what_sqlite_stores),
		merge_test(equal_clocks_with_two_values_keep_the_greater),
		merge_test(restated_records_keep_their_origin),
		merge_test(two_values_of_one_clock_are_compared_as_stored),
		merge_test(nobody_can_use_up_the_lives_of_a_row),
		merge_test(several_changesets_of_one_transaction_and_the_vector),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
