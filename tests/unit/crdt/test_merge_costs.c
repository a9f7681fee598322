/* What rows that one member signs can cost the others when they are merged: work that grows with
 * their number and not with its square, whatever they claim, name and yield.
 *
 * Work is counted in steps of SQLite's programs and comparisons (the linker puts counters before
 * them), never in time. */
#include "tests/unit/crdt/referencerows.h"

#include <sqlite3.h>
#include <stdlib.h>

#define SMALL 250
#define BIG   (4 * SMALL)
/* Four times the rows: four times the steps, a little more for the depth of trees. The square would
 * be sixteen times. */
#define RATIO_MAX 6

static uint64_t steps;

int __real_p2p_id_cmp(const struct p2p_id *x, const struct p2p_id *y);
int __wrap_p2p_id_cmp(const struct p2p_id *x, const struct p2p_id *y);
int __real_p2p_clock_cmp(const struct p2p_clock *x, const struct p2p_clock *y);
int __wrap_p2p_clock_cmp(const struct p2p_clock *x, const struct p2p_clock *y);

int __wrap_p2p_id_cmp(const struct p2p_id *x, const struct p2p_id *y)
{
	steps++;
	return __real_p2p_id_cmp(x, y);
}

int __wrap_p2p_clock_cmp(const struct p2p_clock *x, const struct p2p_clock *y)
{
	steps++;
	return __real_p2p_clock_cmp(x, y);
}

static int vm_step(void *ctx)
{
	(void)ctx;
	steps++;
	return 0;
}

/* --- making them ------------------------------------------------------------------------------ */

static uint64_t stamp_next;
static struct kit_change making;

static void begin(void)
{
	stamp_next++;
	kit_change_init(&making, &mesh, 'h', stamp_next, stamp_next);
}

static void end(void)
{
	kit_apply(&a, &making);
	kit_change_deinit(&making);
}

static struct p2p_identity id_of(size_t index)
{
	struct p2p_identity identity = {.kind = P2P_IDENTITY_GENERATED};
	struct p2p_hash hash;

	p2p_hash_bytes(&hash, &index, sizeof(index));
	memcpy(identity.id.bytes, hash.bytes, P2P_ID_BYTES);
	return identity;
}

static struct p2p_cell names(uint32_t column, size_t index)
{
	struct p2p_cell cell = value(column, kit_null());

	cell.tag = P2P_CELL_REFERENCE;
	cell.reference = id_of(index);
	return cell;
}

static struct p2p_record record_of(uint32_t table, size_t index, struct p2p_cell *cells,
				   size_t count)
{
	struct p2p_record record = {.table = table,
				    .identity = id_of(index),
				    .causal_length = 1,
				    .flags = P2P_RECORD_BORN,
				    .cells = cells,
				    .cell_count = count};

	return record;
}

static void put_record(uint32_t table, size_t index, struct p2p_cell *cells, size_t count)
{
	struct p2p_record record = record_of(table, index, cells, count);

	kit_change_put(&making, &record);
}

static void put_dead(uint32_t table, size_t index, uint64_t life)
{
	struct p2p_record record = record_of(table, index, NULL, 0);

	record.causal_length = life;
	record.flags = 0;
	kit_change_put(&making, &record);
}

/* --- what is measured ------------------------------------------------------------------------- */

static uint64_t measured(void (*run)(size_t count), size_t count)
{
	kit_node_clear(&a);
	steps = 0;
	sqlite3_progress_handler(p2p_store_db(a.store), 1, vm_step, NULL);
	run(count);
	sqlite3_progress_handler(p2p_store_db(a.store), 0, NULL, NULL);
	print_message("%zu rows: %llu steps\n", count, (unsigned long long)steps);
	clean(&a);
	return steps;
}

static void grows(void (*run)(size_t count))
{
	uint64_t small = measured(run, SMALL), big = measured(run, BIG);

	assert_true(big < RATIO_MAX * small);
}

static void person_of(size_t index, int64_t number, const char *name)
{
	struct p2p_cell cells[] = {value(0, kit_int(number)), value(1, kit_text(name))};

	put_record(PERSON, index, cells, 2);
}

static void same_value(size_t count)
{
	size_t i;

	begin();
	for (i = 0; i < count; i++)
		person_of(i, (int64_t)i + 1, "ann");
	end();
}

static void rows_of_one_value_cost_in_proportion(void **state)
{
	(void)state;
	grows(same_value);
}

static void same_value_again(size_t count)
{
	size_t i, k;

	for (k = 0; k < 4; k++) {
		begin();
		for (i = 0; i < count / 4; i++)
			person_of(k * count + i, (int64_t)(k * count + i) + 1, "ann");
		end();
	}
	begin();
	put_dead(PERSON, 0, 2);
	end();
}

static void rows_that_meet_parked_ones_cost_in_proportion(void **state)
{
	(void)state;
	grows(same_value_again);
}

/* Parked rows that change, and stay what they were. */
static void parked_touched(size_t count)
{
	size_t i;

	begin();
	person_of(count, (int64_t)count + 1, "ann");
	end();
	same_value(count);
	begin();
	for (i = 0; i < count; i++) {
		struct p2p_cell cells[] = {value(1, kit_text("ann"))};
		struct p2p_record record = record_of(PERSON, i, cells, 1);

		record.flags = 0;
		kit_change_put(&making, &record);
	}
	end();
}

static void parked_rows_that_change_cost_in_proportion(void **state)
{
	(void)state;
	grows(parked_touched);
}

static void yields(size_t count)
{
	struct p2p_record record = record_of(PERSON, 0, NULL, 0);
	uint8_t *ids = malloc(count * P2P_ID_BYTES);
	size_t i;

	assert_non_null(ids);
	begin();
	person_of(0, 1, "ann");
	end();
	for (i = 0; i < count; i++) {
		struct p2p_identity id = id_of(i);

		memcpy(ids + i * P2P_ID_BYTES, id.id.bytes, P2P_ID_BYTES);
	}
	record.flags = 0;
	record.yields = ids;
	record.yield_count = count;
	begin();
	kit_change_put(&making, &record);
	end();
	free(ids);
}

static void yields_cost_in_proportion(void **state)
{
	(void)state;
	grows(yields);
}

static void same_number(size_t count)
{
	size_t i;

	begin();
	for (i = 0; i < count; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "%zu", i);
		person_of(i, 5, name);
	}
	end();
}

static void rows_of_one_number_cost_in_proportion(void **state)
{
	(void)state;
	grows(same_number);
}

/* Nobody of them is shown. */
static void same_number_parked(size_t count)
{
	size_t i;

	begin();
	for (i = 0; i < count; i++) {
		struct p2p_cell cells[] = {value(0, kit_int(5)), names(1, count),
					   value(2, kit_int((int64_t)i))};

		put_record(ITEM, i, cells, 3);
	}
	end();
}

static void parked_rows_of_one_number_cost_in_proportion(void **state)
{
	(void)state;
	grows(same_number_parked);
}

/* They leave the number one after the other. */
static void same_number_left(size_t count)
{
	size_t i;

	same_number(count);
	begin();
	for (i = 0; i < count; i++) {
		struct p2p_cell cells[] = {value(0, kit_int((int64_t)i + 100))};
		struct p2p_record record = record_of(PERSON, i, cells, 1);

		record.flags = 0;
		kit_change_put(&making, &record);
	}
	end();
}

static void rows_that_leave_a_number_cost_in_proportion(void **state)
{
	(void)state;
	grows(same_number_left);
}

static void one_parent(size_t count)
{
	size_t i;

	begin();
	for (i = 0; i < count; i++) {
		struct p2p_cell cells[] = {value(0, kit_int((int64_t)i)), names(1, count),
					   value(2, kit_int((int64_t)i))};

		put_record(ITEM, i, cells, 3);
	}
	end();
	begin();
	person_of(count, 1, "ann");
	end();
	begin();
	put_dead(PERSON, count, 2);
	end();
	begin();
	for (i = 0; i < count; i++)
		put_dead(ITEM, i, 2);
	end();
}

static void children_of_one_parent_cost_in_proportion(void **state)
{
	(void)state;
	grows(one_parent);
}

static void chain(size_t count)
{
	size_t i;

	begin();
	for (i = 0; i < count; i++) {
		struct p2p_cell cells[] = {value(0, kit_int((int64_t)i + 1)), names(1, i + 1)};

		put_record(NODE, i, cells, 2);
	}
	end();
	for (i = 1; i < 4; i++) {
		struct p2p_cell cells[] = {value(0, kit_int((int64_t)count + 1)),
					   value(1, kit_null())};
		struct p2p_record record = record_of(NODE, count, cells, 2);

		begin();
		if (i % 2 == 0) {
			put_dead(NODE, count, i);
		} else {
			record.causal_length = i;
			kit_change_put(&making, &record);
		}
		end();
	}
}

static void a_chain_costs_in_proportion(void **state)
{
	(void)state;
	grows(chain);
}

static void ring(size_t count)
{
	size_t i;

	begin();
	for (i = 0; i < count; i++) {
		struct p2p_cell cells[] = {value(0, kit_int((int64_t)i + 1)),
					   names(1, (i + 1) % count)};

		put_record(NODE, i, cells, 2);
	}
	end();
	begin();
	put_dead(NODE, count / 2, 2);
	end();
}

static void a_ring_costs_in_proportion(void **state)
{
	(void)state;
	grows(ring);
}

/* Rows that wait show the number of a row that is not theirs. */
static void stand_ins(size_t count)
{
	size_t i;

	begin();
	for (i = 0; i < count; i++) {
		struct p2p_cell cells[] = {value(0, kit_int((int64_t)i + 1)), names(1, count)};

		put_record(SEAT, i, cells, 2);
	}
	end();
	begin();
	for (i = 0; i < count; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "%zu", i);
		person_of(10 * count + i, (int64_t)i + 1, name);
	}
	end();
}

static void rows_that_show_a_default_cost_in_proportion(void **state)
{
	(void)state;
	grows(stand_ins);
}

static void words(size_t count)
{
	size_t i;

	begin();
	for (i = 0; i < count; i++) {
		struct p2p_cell cells[] = {value(0, kit_int((int64_t)i + 1)),
					   value(1, kit_text("ann")), value(2, kit_int(0))};

		put_record(USE, i, cells, 3);
	}
	end();
}

static void rows_without_a_word_cost_in_proportion(void **state)
{
	(void)state;
	grows(words);
}

/* Rows whose key names their parent, that goes and comes, and then moves. */
static void key_children(size_t count)
{
	struct p2p_record record = {.table = PART, .causal_length = 1, .flags = P2P_RECORD_BORN};
	struct p2p_key_part parts[2] = {{.reference = true, .target = id_of(0)},
					{.reference = false}};
	struct p2p_cell item_cells[] = {value(0, kit_int(7)), value(2, kit_int(1))};
	struct p2p_record item = record_of(ITEM, 0, item_cells, 2);
	struct p2p_buf key;
	char name[32];
	size_t i;

	p2p_buf_init(&key, 200);
	begin();
	for (i = 0; i < count; i++) {
		(void)snprintf(name, sizeof(name), "%zu", i);
		parts[1].value = kit_text(name);
		p2p_buf_reset(&key);
		assert_int_equal(p2p_identity_of_parts(&key, kit_table(&a, &mesh, PART), parts), 0);
		record.identity.kind = P2P_IDENTITY_KEY;
		record.identity.key = key.data;
		record.identity.key_len = key.len;
		kit_change_put(&making, &record);
	}
	end();
	p2p_buf_deinit(&key);
	begin();
	kit_change_put(&making, &item);
	end();
	begin();
	item_cells[0] = value(0, kit_int(9));
	kit_change_put(&making, &item);
	end();
	begin();
	put_dead(ITEM, 0, 2);
	end();
}

static void rows_named_by_their_parent_cost_in_proportion(void **state)
{
	(void)state;
	grows(key_children);
}

/* Children that move with their parent, while their table is long. */
static void moves(size_t count)
{
	size_t i;

	begin();
	person_of(count, 1, "ann");
	for (i = 0; i < count; i++) {
		struct p2p_cell cells[] = {value(0, kit_int((int64_t)i)), names(1, count),
					   value(2, kit_int((int64_t)i))};

		put_record(ITEM, i, cells, 3);
	}
	end();
	for (i = 0; i < 4; i++) {
		struct p2p_cell cells[] = {value(0, kit_int((int64_t)i + 7))};
		struct p2p_record record = record_of(PERSON, count, cells, 1);

		record.flags = 0;
		begin();
		kit_change_put(&making, &record);
		end();
	}
}

static void children_that_move_cost_in_proportion(void **state)
{
	(void)state;
	grows(moves);
}

static int costs_setup(void **state)
{
	int rc = setup(state);

	mesh.blind = true;
	return rc;
}

#define T(name) cmocka_unit_test_setup(name, each_setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(rows_of_one_value_cost_in_proportion),
		T(rows_that_meet_parked_ones_cost_in_proportion),
		T(parked_rows_that_change_cost_in_proportion),
		T(yields_cost_in_proportion),
		T(rows_of_one_number_cost_in_proportion),
		T(parked_rows_of_one_number_cost_in_proportion),
		T(rows_that_leave_a_number_cost_in_proportion),
		T(children_of_one_parent_cost_in_proportion),
		T(a_chain_costs_in_proportion),
		T(a_ring_costs_in_proportion),
		T(rows_that_show_a_default_cost_in_proportion),
		T(rows_without_a_word_cost_in_proportion),
		T(rows_named_by_their_parent_cost_in_proportion),
		T(children_that_move_cost_in_proportion),
	};

	return cmocka_run_group_tests(tests, costs_setup, teardown);
}
