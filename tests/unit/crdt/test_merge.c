/* Merge: clocks decide, the same on every node whatever the order; values are bit-exact; what a
 * constraint forbids is parked, what is not known here waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "crdt/hlc.h"
#include "crdt/parked.h"
#include "proto/check.h"
#include "proto/mem.h"
#include "tests/support/mergekit.h"

static const char sql_tables[] =
	"CREATE TABLE word(k TEXT COLLATE NOCASE, part INTEGER, v, note TEXT DEFAULT 'none',"
	" PRIMARY KEY(k, part));"
	"CREATE TABLE pair(a, b, PRIMARY KEY(a, b)) WITHOUT ROWID;"
	"CREATE TABLE user(name TEXT PRIMARY KEY, mail TEXT UNIQUE, phone TEXT UNIQUE);"
	"CREATE TABLE hard(k INTEGER, v INTEGER NOT NULL, w TEXT, PRIMARY KEY(k, w)) STRICT;"
	"CREATE TABLE soft(k TEXT PRIMARY KEY, i INTEGER, t TEXT, r REAL);";

enum { WORD, PAIR, USER, HARD, SOFT };

static struct kit_mesh mesh;
static struct kit_node a, b;

static int setup(void **state)
{
	static const char *const word[] = {"k", "part", "v", "note"};
	static const char *const pair[] = {"a", "b"};
	static const char *const user[] = {"name", "mail", "phone"};
	static const char *const hard[] = {"k", "v", "w"};
	static const char *const soft[] = {"k", "i", "t", "r", "later"};

	(void)state;
	kit_mesh_init(&mesh);
	(void)kit_mesh_table(&mesh, "word", false, word, 4);
	(void)kit_mesh_table(&mesh, "pair", false, pair, 2);
	(void)kit_mesh_table(&mesh, "user", false, user, 3);
	(void)kit_mesh_table(&mesh, "hard", false, hard, 3);
	(void)kit_mesh_table(&mesh, "soft", false, soft, 5);
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
	return 0;
}

/* A changeset of one row; its seq is its stamp. */
struct change {
	char replica;
	uint64_t stamp;
	uint32_t table;
	struct p2p_value key[2];
	uint64_t causal_length;
	bool born;
	struct p2p_value cells[5]; /* by column, where set */
	uint8_t set[5];
};

static void change_make(struct kit_change *out, const struct change *change)
{
	struct p2p_record record;
	struct p2p_cell cells[5];
	struct p2p_buf key;
	uint32_t i;

	memset(&record, 0, sizeof(record));
	memset(cells, 0, sizeof(cells));
	p2p_buf_init(&key, 1024);
	assert_int_equal(p2p_identity_of_key(&key, kit_table(&a, &mesh, change->table),
					     change->key),
			 0);
	record.table = change->table;
	record.identity.kind = P2P_IDENTITY_KEY;
	record.identity.key = key.data;
	record.identity.key_len = key.len;
	record.causal_length = change->causal_length;
	record.flags = change->born ? P2P_RECORD_BORN : 0;
	record.cells = cells;
	for (i = 0; i < 5; i++)
		if (change->set[i]) {
			cells[record.cell_count].column = i;
			cells[record.cell_count].tag = P2P_CELL_VALUE;
			cells[record.cell_count++].value = change->cells[i];
		}
	kit_change_init(out, &mesh, change->replica, change->stamp, change->stamp);
	kit_change_put(out, &record);
	p2p_buf_deinit(&key);
}

static void apply(struct kit_node *node, const struct change *change)
{
	struct kit_change made;

	change_make(&made, change);
	kit_apply(node, &made);
	kit_change_deinit(&made);
}

/* word('key', 1): v and note */
static struct change word(char replica, uint64_t stamp, uint64_t causal_length, bool born,
			  int64_t v)
{
	struct change change;

	memset(&change, 0, sizeof(change));
	change.replica = replica;
	change.stamp = stamp;
	change.table = WORD;
	change.key[0] = kit_text("key");
	change.key[1] = kit_int(1);
	change.causal_length = causal_length;
	change.born = born;
	if (causal_length % 2) {
		change.cells[2] = kit_int(v);
		change.set[2] = 1;
	}
	if (born) {
		change.cells[3] = kit_text("new");
		change.set[3] = 1;
	}
	return change;
}

static struct change word_note(char replica, uint64_t stamp, uint64_t causal_length,
			       const char *note)
{
	struct change change = word(replica, stamp, causal_length, false, 0);

	change.set[2] = 0;
	change.cells[3] = kit_text(note);
	change.set[3] = 1;
	return change;
}

static struct change user(char replica, uint64_t stamp, const char *name, const char *mail,
			  const char *phone)
{
	struct change change;

	memset(&change, 0, sizeof(change));
	change.replica = replica;
	change.stamp = stamp;
	change.table = USER;
	change.key[0] = kit_text(name);
	change.causal_length = 1;
	change.born = true;
	change.set[1] = change.set[2] = 1;
	change.cells[1] = mail ? kit_text(mail) : kit_null();
	change.cells[2] = phone ? kit_text(phone) : kit_null();
	return change;
}

static const char sql_word[] =
	"SELECT quote(k), quote(part), quote(v), quote(note) FROM word ORDER BY 1, 2";
static const char sql_user[] = "SELECT name, quote(mail), quote(phone) FROM user ORDER BY 1";

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

/* Applies all changes to a in this order and to b in every rotation of it and of its reverse: both
 * must end alike each time, and applying all once more must change no byte. */
static void converge(const struct change *changes, size_t count)
{
	struct p2p_hash once, twice;
	size_t i, turn;

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
		for (i = 0; i < count; i++)
			apply(&b, &changes[turn < count ? (i + turn) % count
							: (2 * count - 1 - i + turn) % count]);
		same_state();
	}
}

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
		merge_test(unknown_tables_schemas_columns_and_kinds_wait),
		merge_test(what_fits_no_column_waits_also_behind_a_delete),
		merge_test(two_values_of_one_clock_are_compared_as_stored),
		merge_test(nobody_can_use_up_the_lives_of_a_row),
		merge_test(a_row_that_an_index_cannot_take_is_parked),
		merge_test(malformed_records_change_nothing),
		merge_test(not_null_and_strict_types_park),
		merge_test(of_two_rows_with_one_unique_value_the_earlier_is_shown),
		merge_test(a_row_can_push_out_two_and_a_third_returns),
		merge_test(a_freed_value_brings_the_parked_row_back),
		merge_test(an_update_of_a_parked_row_is_kept_and_frees_it),
		merge_test(several_changesets_of_one_transaction_and_the_vector),
		merge_test(on_conflict_replace_of_the_table_deletes_nobody),
		merge_test(a_failed_allocation_changes_nothing),
	};

	p2p_mem_set_hooks(&fault_hooks);
	return cmocka_run_group_tests(tests, setup, teardown);
}
