/* Keys: canonical bytes are equal exactly when SQLite says that the keys are equal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "crdt/schema.h"
#include "proto/check.h"

#define TEXT(text)                                                        \
	{                                                                 \
		P2P_TEXT, 0, 0, (const uint8_t *)(text), sizeof(text) - 1 \
	}
#define INTEGER(number)                           \
	{                                         \
		P2P_INTEGER, (number), 0, NULL, 0 \
	}
#define REAL(number)                           \
	{                                      \
		P2P_REAL, 0, (number), NULL, 0 \
	}
#define BLOB(text)                                                        \
	{                                                                 \
		P2P_BLOB, 0, 0, (const uint8_t *)(text), sizeof(text) - 1 \
	}

static const struct p2p_value values[] = {
	TEXT(""),
	TEXT(" "),
	TEXT("a"),
	TEXT("A"),
	TEXT("a "),
	TEXT("a\0b"),
	TEXT("A\0c"),
	TEXT("a\0bb"),
	TEXT("\xc3\x84"),
	TEXT("\xc3\xa4"),
	TEXT("1"),
	TEXT(" 1 "),
	TEXT("1.0"),
	TEXT("1e0"),
	TEXT("+1"),
	TEXT("1x"),
	TEXT("."),
	TEXT("1."),
	TEXT("-0.0"),
	TEXT("9223372036854775808"),
	TEXT("0x10"),
	TEXT("1e"),
	TEXT("inf"),
	TEXT("1_0"),
	INTEGER(0),
	INTEGER(1),
	INTEGER(-1),
	INTEGER(INT64_MAX),
	INTEGER(INT64_MIN),
	INTEGER(9007199254740993),
	REAL(9007199254740992.0),
	REAL(0.0),
	REAL(-0.0),
	REAL(1.0),
	REAL(1.5),
	REAL(9223372036854775808.0),
	REAL(-9223372036854775808.0),
	REAL(1e300),
	REAL((double)INFINITY),
	BLOB(""),
	BLOB("a"),
	BLOB("1"),
};

static void table_make(struct p2p_table *table, struct p2p_column *column, uint32_t *key,
		       char affinity, enum p2p_collation collation)
{
	memset(table, 0, sizeof(*table));
	memset(column, 0, sizeof(*column));
	*key = 0;
	column->affinity = affinity;
	column->collation = collation;
	column->flags = P2P_COLUMN_KEY;
	table->columns = column;
	table->column_count = 1;
	table->key = key;
	table->key_count = 1;
}

/* What SQLite says: the second value finds the row of the first. */
static bool sql_equal(sqlite3 *db, const struct p2p_value *a, const struct p2p_value *b)
{
	sqlite3_stmt *stmt;
	bool equal;

	assert_int_equal(sqlite3_exec(db, "DELETE FROM t", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, "INSERT INTO t VALUES(?)", -1, &stmt, NULL), 0);
	assert_int_equal(p2p_value_bind(stmt, 1, a), 0);
	assert_int_equal(sqlite3_step(stmt), SQLITE_DONE);
	(void)sqlite3_finalize(stmt);
	assert_int_equal(sqlite3_prepare_v2(db, "INSERT OR IGNORE INTO t VALUES(?)", -1, &stmt,
					    NULL),
			 0);
	assert_int_equal(p2p_value_bind(stmt, 1, b), 0);
	assert_int_equal(sqlite3_step(stmt), SQLITE_DONE);
	equal = sqlite3_changes(db) == 0;
	(void)sqlite3_finalize(stmt);
	return equal;
}

static void compare_all(const char *type, char affinity, const char *collate,
			enum p2p_collation collation)
{
	struct p2p_table table;
	struct p2p_column column;
	struct p2p_buf x, y;
	sqlite3 *db;
	char sql[128];
	uint32_t key;
	size_t i, j;

	table_make(&table, &column, &key, affinity, collation);
	(void)snprintf(sql, sizeof(sql), "CREATE TABLE t(k %s COLLATE %s UNIQUE)", type, collate);
	assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	p2p_buf_init(&x, 4096);
	p2p_buf_init(&y, 4096);
	for (i = 0; i < p2p_array_len(values); i++)
		for (j = 0; j < p2p_array_len(values); j++) {
			bool equal;

			p2p_buf_reset(&x);
			p2p_buf_reset(&y);
			assert_int_equal(p2p_identity_of_key(&x, &table, &values[i]), 0);
			assert_int_equal(p2p_identity_of_key(&y, &table, &values[j]), 0);
			equal = x.len == y.len && memcmp(x.data, y.data, x.len) == 0;
			if (equal != sql_equal(db, &values[i], &values[j]))
				fail_msg("%s %s: values %zu and %zu: ours %d", type, collate, i, j,
					 equal);
		}
	p2p_buf_deinit(&x);
	p2p_buf_deinit(&y);
	(void)sqlite3_close(db);
}

static void canonical_bytes_are_equal_as_sqlite_compares(void **state)
{
	static const struct {
		const char *type;
		char affinity;
	} types[] = {
		{"BLOB", 'A'}, {"TEXT", 'B'}, {"NUMERIC", 'C'}, {"INTEGER", 'D'}, {"REAL", 'E'}};
	size_t i;

	(void)state;
	for (i = 0; i < p2p_array_len(types); i++) {
		compare_all(types[i].type, types[i].affinity, "BINARY", P2P_COLLATE_BINARY);
		compare_all(types[i].type, types[i].affinity, "NOCASE", P2P_COLLATE_NOCASE);
		compare_all(types[i].type, types[i].affinity, "RTRIM", P2P_COLLATE_RTRIM);
	}
}

static void canonical_of_canonical_is_itself(void **state)
{
	struct p2p_table table;
	struct p2p_column column;
	struct p2p_value value;
	struct p2p_buf x, y;
	uint32_t key;
	size_t i;
	char affinity;

	(void)state;
	p2p_buf_init(&x, 4096);
	p2p_buf_init(&y, 4096);
	for (affinity = 'A'; affinity <= 'E'; affinity++)
		for (i = 0; i < p2p_array_len(values); i++) {
			table_make(&table, &column, &key, affinity, (enum p2p_collation)(i % 3));
			p2p_buf_reset(&x);
			p2p_buf_reset(&y);
			assert_int_equal(p2p_identity_of_key(&x, &table, &values[i]), 0);
			assert_int_equal(p2p_identity_key_values(&table, x.data, x.len, &value), 0);
			assert_int_equal(p2p_identity_of_key(&y, &table, &value), 0);
			assert_int_equal(x.len, y.len);
			assert_memory_equal(x.data, y.data, x.len);
		}
	p2p_buf_deinit(&x);
	p2p_buf_deinit(&y);
}

static void null_and_malformed_keys_are_told(void **state)
{
	static const uint8_t null[] = {P2P_NULL}, more[] = {P2P_INTEGER, 2, 0};
	struct p2p_table table;
	struct p2p_column column;
	struct p2p_value value;
	struct p2p_buf out;
	uint32_t key;

	(void)state;
	table_make(&table, &column, &key, 'A', P2P_COLLATE_BINARY);
	memset(&value, 0, sizeof(value));
	p2p_buf_init(&out, 64);
	assert_int_equal(p2p_identity_of_key(&out, &table, &value), P2P_IDENTITY_NULL_KEY);
	assert_int_equal(out.len, 0);
	assert_int_equal(p2p_identity_key_values(&table, null, sizeof(null), &value), P2P_EPROTO);
	assert_int_equal(p2p_identity_key_values(&table, more, sizeof(more), &value), P2P_EPROTO);
	assert_int_equal(p2p_identity_key_values(&table, more, 1, &value), P2P_EPROTO);
	assert_int_equal(p2p_identity_key_values(&table, more, 2, &value), 0);
	p2p_buf_deinit(&out);
}

/* What SQLite makes of a value in a column of that affinity; copied, for one value at a time. */
static void through_sqlite(sqlite3 *db, char affinity, const struct p2p_value *value,
			   struct p2p_value *out)
{
	static const char *const types[] = {"BLOB", "TEXT", "NUMERIC", "INTEGER", "REAL"};
	static uint8_t bytes[64];
	sqlite3_stmt *stmt;
	char sql[128];

	(void)snprintf(sql, sizeof(sql), "DROP TABLE IF EXISTS t; CREATE TABLE t(c %s)",
		       types[affinity - 'A']);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, "INSERT INTO t VALUES(?)", -1, &stmt, NULL), 0);
	assert_int_equal(p2p_value_bind(stmt, 1, value), 0);
	assert_int_equal(sqlite3_step(stmt), SQLITE_DONE);
	assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, "SELECT c FROM t", -1, &stmt, NULL), 0);
	assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
	assert_int_equal(p2p_value_column(out, stmt, 0), 0);
	assert_true(out->len <= sizeof(bytes));
	if (out->len)
		memcpy(bytes, out->bytes, out->len);
	out->bytes = bytes;
	assert_int_equal(sqlite3_finalize(stmt), SQLITE_OK);
}

static void a_value_as_stored_is_what_sqlite_stores(void **state)
{
	static const struct p2p_value more[] = {REAL(NAN),     REAL(-0.0),    REAL(9.3e18),
						REAL(-9.3e18), TEXT("1e400"), TEXT("1e5"),
						TEXT("1.5 "),  TEXT("1\0")};
	size_t i, count = p2p_array_len(values);
	struct p2p_value ours, theirs;
	char text[P2P_NUMBER_TEXT_BYTES], affinity;
	sqlite3 *db;

	(void)state;
	assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
	for (affinity = 'A'; affinity <= 'E'; affinity++)
		for (i = 0; i < count + p2p_array_len(more); i++) {
			ours = i < count ? values[i] : more[i - count];
			through_sqlite(db, affinity, &ours, &theirs);
			assert_int_equal(p2p_value_as_stored(&ours, affinity, text), 0);
			if (!p2p_value_equal(&ours, &theirs))
				fail_msg("value %zu, affinity %c: types %d and %d", i, affinity,
					 (int)ours.type, (int)theirs.type);
			/* what is stored stays as it is */
			assert_int_equal(p2p_value_as_stored(&theirs, affinity, text), 0);
			assert_true(p2p_value_equal(&ours, &theirs));
		}
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void what_is_stored_as_null_is_no_key(void **state)
{
	static const struct p2p_value nan = REAL(NAN);
	uint32_t key = 0;
	struct p2p_column column = {.affinity = 'A'};
	struct p2p_table table = {.columns = &column,
				  .column_count = 1,
				  .key = &key,
				  .key_count = 1};
	struct p2p_value out;
	struct p2p_buf buf;

	(void)state;
	p2p_buf_init(&buf, 64);
	assert_int_equal(p2p_identity_of_key(&buf, &table, &nan), P2P_IDENTITY_NULL_KEY);
	p2p_value_put(&buf, &nan);
	assert_int_equal(p2p_identity_key_values(&table, buf.data, buf.len, &out), P2P_EPROTO);
	p2p_buf_deinit(&buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(canonical_bytes_are_equal_as_sqlite_compares),
		cmocka_unit_test(canonical_of_canonical_is_itself),
		cmocka_unit_test(null_and_malformed_keys_are_told),
		cmocka_unit_test(a_value_as_stored_is_what_sqlite_stores),
		cmocka_unit_test(what_is_stored_as_null_is_no_key),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
