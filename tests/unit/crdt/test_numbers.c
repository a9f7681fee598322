/* Numbers: the earliest claim has its number, every other row shows a temporary one, a function of
 * the merged state alone; nothing is hidden, nothing collides on the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "crdt/numbers.h"
#include "proto/check.h"
#include "tests/support/mergekit.h"

/* Of a row id of zero bytes, computed apart: python3 hashlib.blake2b, digest_size 16. */
#define DERIVED_OF_ZERO (-639372889)

static struct kit_mesh mesh;
static struct kit_node a, b;

static int setup(void **state)
{
	static const char *const columns[] = {"id", "name"};

	(void)state;
	kit_mesh_init(&mesh);
	(void)kit_mesh_table(&mesh, "item", true, columns, 2);
	kit_node_init(&a, &mesh, "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT UNIQUE)");
	kit_node_init(&b, &mesh, "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT UNIQUE)");
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
	return 0;
}

struct change {
	char replica;
	uint64_t stamp;
	uint8_t row; /* fills the generated id; 0: the identity is the number */
	int64_t number;
	uint64_t causal_length;
	bool born, claims;
	const char *name; /* NULL: no cell */
};

static struct p2p_identity identity_of(uint8_t row, int64_t number)
{
	struct p2p_identity identity;

	memset(&identity, 0, sizeof(identity));
	identity.kind = row ? P2P_IDENTITY_GENERATED : P2P_IDENTITY_NUMBER;
	memset(identity.id.bytes, row, sizeof(identity.id.bytes));
	identity.number = number;
	return identity;
}

static void change_make(struct kit_change *out, const struct change *change)
{
	struct p2p_record record;
	struct p2p_cell cells[2];

	memset(&record, 0, sizeof(record));
	memset(cells, 0, sizeof(cells));
	record.identity = identity_of(change->row, change->number);
	record.causal_length = change->causal_length;
	record.flags = change->born ? P2P_RECORD_BORN : 0;
	record.cells = cells;
	if (change->claims) {
		cells[0].value = kit_int(change->number);
		record.cell_count++;
	}
	if (change->name) {
		cells[record.cell_count].column = 1;
		cells[record.cell_count++].value = kit_text(change->name);
	}
	kit_change_init(out, &mesh, change->replica, change->stamp, change->stamp);
	kit_change_put(out, &record);
}

static void apply(struct kit_node *node, const struct change *change)
{
	struct kit_change made;

	change_make(&made, change);
	kit_apply(node, &made);
	kit_change_deinit(&made);
}

static struct change born(char replica, uint64_t stamp, uint8_t row, int64_t number,
			  const char *name)
{
	return (struct change){replica, stamp, row, number, 1, true, row != 0, name};
}

static struct change dead(char replica, uint64_t stamp, uint8_t row, int64_t number)
{
	return (struct change){replica, stamp, row, number, 2, false, false, NULL};
}

static struct change claim(char replica, uint64_t stamp, uint8_t row, int64_t number)
{
	return (struct change){replica, stamp, row, number, 1, false, true, NULL};
}

static const char *shown(struct kit_node *node)
{
	return kit_rows(node, "SELECT id, name FROM item ORDER BY name");
}

static void same_state(void)
{
	struct p2p_buf x, y;

	p2p_buf_init(&x, 1u << 20);
	p2p_buf_init(&y, 1u << 20);
	kit_state(&a, &x);
	kit_state(&b, &y);
	p2p_buf_put_u8(&x, 0);
	p2p_buf_put_u8(&y, 0);
	assert_string_equal((const char *)x.data, (const char *)y.data);
	p2p_buf_deinit(&x);
	p2p_buf_deinit(&y);
}

static void converge(const struct change *changes, size_t count)
{
	struct p2p_hash once, twice;
	struct kit_change made[16], *all[16];
	size_t i, turn;

	p2p_require(count <= p2p_array_len(made));
	kit_node_clear(&a);
	for (i = 0; i < count; i++)
		apply(&a, &changes[i]);
	kit_digest(&a, &once);
	for (i = 0; i < count; i++)
		apply(&a, &changes[i]);
	kit_digest(&a, &twice);
	assert_memory_equal(&once, &twice, sizeof(once));
	for (turn = 0; turn < 2 * count; turn++) {
		kit_node_clear(&b);
		for (i = 0; i < count; i++) {
			size_t at = turn < count ? (i + turn) % count
						 : (2 * count - 1 - i + turn) % count;

			change_make(&made[i], &changes[at]);
			all[i] = &made[i];
		}
		if (turn % 2)
			kit_apply_all(&b, all, count);
		else
			for (i = 0; i < count; i++)
				kit_apply(&b, all[i]);
		for (i = 0; i < count; i++)
			kit_change_deinit(&made[i]);
		same_state();
	}
}

static int64_t derived(uint8_t row)
{
	struct p2p_identity identity = identity_of(row, 0);

	return p2p_numbers_derived(&identity.id);
}

/* What shown() tells of up to three rows; a NULL name ends. */
static const char *rows_text(int64_t n1, const char *name1, int64_t n2, const char *name2,
			     int64_t n3, const char *name3)
{
	static char out[256];
	size_t len = (size_t)snprintf(out, sizeof(out), "%lld|%s;%lld|%s;", (long long)n1, name1,
				      (long long)n2, name2);

	if (name3)
		(void)snprintf(out + len, sizeof(out) - len, "%lld|%s;", (long long)n3, name3);
	return out;
}

static void derived_numbers_are_frozen(void **state)
{
	struct p2p_id id;
	int i;

	(void)state;
	for (i = 0; i < 256; i++) {
		memset(id.bytes, i, sizeof(id.bytes));
		assert_true(p2p_numbers_derived(&id) <= -1);
		assert_true(p2p_numbers_derived(&id) >= INT32_MIN);
	}
	memset(id.bytes, 0, sizeof(id.bytes));
	assert_true(p2p_numbers_derived(&id) == DERIVED_OF_ZERO);
	assert_true(p2p_numbers_next(-1) == -2);
	assert_true(p2p_numbers_next(INT32_MIN) == -1);
}

static void the_earliest_claim_has_the_number(void **state)
{
	const struct change changes[] = {born('A', 20, 1, 42, "late"),
					 born('B', 10, 2, 42, "first")};

	(void)state;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(shown(&a), rows_text(42, "first", derived(1), "late", 0, NULL));
}

static void replica_then_row_id_break_ties(void **state)
{
	const struct change changes[] = {born('B', 10, 1, 7, "x"), born('A', 10, 3, 7, "y"),
					 born('A', 10, 2, 7, "z")};

	(void)state;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(kit_rows(&a, "SELECT name FROM item WHERE id = 7"), "z;");
	assert_string_equal(kit_rows(&a, "SELECT count(*) FROM item WHERE id < 0"), "2;");
}

static void rows_from_before_claim_their_own_number(void **state)
{
	const struct change changes[] = {born('A', 30, 0, 5, "old"), born('B', 10, 9, 5, "new"),
					 born('A', 30, 0, 6, "alone")};

	(void)state;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(kit_rows(&a, "SELECT name FROM item WHERE id = 5"), "new;");
	assert_string_equal(kit_rows(&a, "SELECT name FROM item WHERE id = 6"), "alone;");
}

static void a_freed_number_goes_to_the_next_claim(void **state)
{
	const struct change changes[] = {born('A', 20, 1, 42, "late"),
					 born('B', 10, 2, 42, "first"), dead('B', 30, 2, 42)};

	(void)state;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(shown(&a), "42|late;");
	assert_string_equal(kit_rows(&a, "SELECT count(*) FROM p2p_temp"), "0;");
}

static void a_new_claim_moves_the_row(void **state)
{
	const struct change changes[] = {born('A', 20, 1, 42, "late"),
					 born('B', 10, 2, 42, "first"), claim('A', 30, 1, 43)};

	(void)state;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(shown(&a), "42|first;43|late;");
}

static void numbers_can_be_swapped(void **state)
{
	const struct change changes[] = {born('A', 10, 1, 1, "x"), born('A', 10, 2, 2, "y"),
					 claim('A', 20, 1, 2), claim('A', 20, 2, 1)};

	(void)state;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(shown(&a), "2|x;1|y;");
}

static void a_claim_in_a_temporary_number_displaces_it(void **state)
{
	struct change changes[] = {born('A', 20, 1, 42, "late"), born('B', 10, 2, 42, "first"),
				   born('C', 30, 3, 0, "negative")};

	(void)state;
	changes[2].number = derived(1);
	converge(changes, p2p_array_len(changes));
	assert_string_equal(shown(&a), rows_text(42, "first", p2p_numbers_next(derived(1)), "late",
						 derived(1), "negative"));
}

static void a_displaced_row_goes_back_when_it_can(void **state)
{
	struct change changes[] = {born('A', 20, 1, 42, "late"), born('B', 10, 2, 42, "first"),
				   born('C', 30, 3, 0, "negative"), dead('C', 40, 3, 0)};

	(void)state;
	changes[2].number = derived(1);
	converge(changes, p2p_array_len(changes));
	assert_string_equal(shown(&a), rows_text(42, "first", derived(1), "late", 0, NULL));
}

static void unborn_rows_claim_nothing(void **state)
{
	const struct change changes[] = {claim('A', 5, 1, 42), born('B', 10, 2, 42, "first")};

	(void)state;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(shown(&a), "42|first;");
	assert_int_equal(p2p_store_parked_count(a.store), 1);
}

static void a_row_without_a_claim_is_not_shown(void **state)
{
	struct change changes[] = {born('A', 10, 1, 42, "x"), claim('A', 20, 1, 42)};

	(void)state;
	changes[0].claims = false;
	apply(&a, &changes[0]);
	assert_string_equal(shown(&a), "");
	apply(&a, &changes[1]);
	assert_string_equal(shown(&a), "42|x;");
	converge(changes, p2p_array_len(changes));
}

static void parked_rows_keep_their_claim(void **state)
{
	/* "b" is parked by its name, but it has the number */
	const struct change changes[] = {born('A', 10, 1, 1, "same"), born('B', 20, 2, 2, "same"),
					 born('C', 30, 3, 2, "other")};

	(void)state;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(shown(&a), rows_text(derived(3), "other", 1, "same", 0, NULL));
}

static void a_claim_that_is_no_integer_waits(void **state)
{
	struct kit_change made;
	struct p2p_record record;
	struct p2p_cell cell;

	(void)state;
	memset(&record, 0, sizeof(record));
	memset(&cell, 0, sizeof(cell));
	record.identity = identity_of(1, 0);
	record.causal_length = 1;
	record.flags = P2P_RECORD_BORN;
	record.cells = &cell;
	record.cell_count = 1;
	cell.value = kit_text("1");
	kit_change_init(&made, &mesh, 'A', 1, 1);
	kit_change_put(&made, &record);
	/* not refused: whether it came before or after what makes it void must not matter */
	kit_apply(&a, &made);
	assert_string_equal(kit_rows(&a, "SELECT * FROM item"), "");
	assert_int_equal(p2p_store_waiting_count(a.store), 1);
	kit_change_deinit(&made);
}

static void a_row_moves_from_number_0(void **state)
{
	const struct change changes[] = {born('A', 10, 1, 0, "zero"), claim('A', 20, 1, 7),
					 born('B', 15, 2, 0, "other"), claim('B', 30, 2, -7)};

	(void)state;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(kit_rows(&a, "SELECT id, name FROM item ORDER BY id"),
			    "-7|other;7|zero;");
}

static void edges_of_int64_can_be_claimed(void **state)
{
	const struct change changes[] = {
		born('A', 10, 1, INT64_MIN, "min"),  born('A', 10, 2, INT64_MAX, "max"),
		born('B', 20, 3, INT64_MIN, "min2"), born('B', 20, 4, INT64_MAX, "max2"),
		claim('C', 30, 1, INT64_MAX),	     claim('C', 30, 2, INT64_MIN),
		born('B', 20, 5, 0, "zero"),	     born('B', 21, 6, 0, "zero2")};

	(void)state;
	converge(changes, p2p_array_len(changes));
	assert_string_equal(kit_rows(&a, "SELECT count(*) FROM item"), "6;");
}

static void a_number_held_by_an_uncaptured_row_is_lent_another(void **state)
{
	const struct change changes[] = {born('A', 10, 1, 42, "x"), born('A', 11, 2, 43, "y")};

	(void)state;
	kit_sql(&a, "INSERT INTO item VALUES(42, 'unseen')"); /* triggers are off here */
	apply(&a, &changes[0]);
	apply(&a, &changes[1]);
	assert_string_equal(shown(&a), rows_text(42, "unseen", derived(1), "x", 43, "y"));
	kit_sql(&a, "DELETE FROM item WHERE id = 42");
	assert_int_equal(p2p_store_begin_write(a.store, 1000, NULL), 0);
	assert_int_equal(p2p_merge_touch_number(a.merge, kit_table(&a, &mesh, 0), 42), 0);
	assert_int_equal(p2p_merge_finish(a.merge, NULL), 0);
	assert_int_equal(p2p_store_commit(a.store, NULL), 0);
	assert_string_equal(shown(&a), "42|x;43|y;");
}

/* Pushed out by a REPLACE, and not noticed so far: what comes to its place in the transaction in
 * which it gets another number must not be taken there in its stead. */
static void a_row_that_is_gone_takes_nobody_along(void **state)
{
	const struct change first = born('A', 10, 1, 1, "x");
	const struct change changes[] = {claim('A', 11, 1, 2), born('A', 12, 2, 1, "y")};
	struct kit_change made[2], *const all[] = {&made[0], &made[1]};
	size_t i;

	(void)state;
	apply(&a, &first);
	kit_sql(&a, "DELETE FROM item");
	for (i = 0; i < 2; i++)
		change_make(&made[i], &changes[i]);
	kit_apply_all(&a, all, 2);
	for (i = 0; i < 2; i++)
		kit_change_deinit(&made[i]);
	assert_string_equal(shown(&a), "1|y;");
}

/* A row that is kept out stands at no number: that it leaves one says nothing of the row that does
 * stand there, and leaves it too. */
static void a_row_that_is_kept_out_leaves_the_place_of_another_to_it(void **state)
{
	const struct change first[] = {born('A', 5, 3, 41, "z"), born('A', 6, 2, 40, "z")};
	const struct change changes[] = {born('B', 10, 1, 40, "v"), claim('B', 11, 1, 47),
					 claim('A', 12, 2, 50)};
	struct kit_change made[3], *const all[] = {&made[0], &made[1], &made[2]};
	size_t i;

	(void)state;
	for (i = 0; i < 2; i++)
		apply(&a, &first[i]);
	for (i = 0; i < 3; i++)
		change_make(&made[i], &changes[i]);
	kit_apply_all(&a, all, 3);
	for (i = 0; i < 3; i++)
		kit_change_deinit(&made[i]);
	assert_string_equal(shown(&a), "47|v;41|z;");
}

/* As the fold of its author's own claim does it: its temporary number stays as it is; it needs a
 * permanent one again all the same. */
static void who_loses_another_number_is_told_of_again(void **state)
{
	const struct change changes[] = {born('A', 10, 1, 42, "x"), born('A', 11, 2, 42, "y")};

	(void)state;
	apply(&a, &changes[0]);
	apply(&a, &changes[1]);
	assert_true(p2p_merge_renumbered(a.merge));
	assert_false(p2p_merge_renumbered(a.merge));
	assert_int_equal(p2p_store_begin_write(a.store, 1000, NULL), 0);
	assert_int_equal(p2p_merge_touch_number(a.merge, kit_table(&a, &mesh, 0), 42), 0);
	assert_int_equal(p2p_merge_finish(a.merge, NULL), 0);
	assert_int_equal(p2p_store_commit(a.store, NULL), 0);
	assert_true(p2p_merge_renumbered(a.merge));
}

int main(void)
{
#define numbers_test(name) cmocka_unit_test_setup(name, each_setup)
	const struct CMUnitTest tests[] = {
		numbers_test(derived_numbers_are_frozen),
		numbers_test(the_earliest_claim_has_the_number),
		numbers_test(replica_then_row_id_break_ties),
		numbers_test(rows_from_before_claim_their_own_number),
		numbers_test(a_freed_number_goes_to_the_next_claim),
		numbers_test(a_new_claim_moves_the_row),
		numbers_test(numbers_can_be_swapped),
		numbers_test(a_claim_in_a_temporary_number_displaces_it),
		numbers_test(a_displaced_row_goes_back_when_it_can),
		numbers_test(unborn_rows_claim_nothing),
		numbers_test(a_row_without_a_claim_is_not_shown),
		numbers_test(parked_rows_keep_their_claim),
		numbers_test(a_claim_that_is_no_integer_waits),
		numbers_test(a_row_moves_from_number_0),
		numbers_test(edges_of_int64_can_be_claimed),
		numbers_test(a_number_held_by_an_uncaptured_row_is_lent_another),
		numbers_test(a_row_that_is_gone_takes_nobody_along),
		numbers_test(a_row_that_is_kept_out_leaves_the_place_of_another_to_it),
		numbers_test(who_loses_another_number_is_told_of_again),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
