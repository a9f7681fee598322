/* The application's file: opening refuses what cannot work, triggers journal what any program
 * writes, lost triggers and unseen writes are found, and all of it can be taken out again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
// cmocka needs the four above
#include <cmocka.h>

#include "crdt/store.h"
#include "proto/check.h"
#include "tests/support/appfile.h"
#include "tests/support/memfault.h"

static const char *app_text(const char *sql)
{
	static char out[4096];
	sqlite3 *db;
	sqlite3_stmt *stmt;
	size_t len = 0;
	int i;

	assert_int_equal(sqlite3_open(appfile.path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
	out[0] = 0;
	while (sqlite3_step(stmt) == SQLITE_ROW) {
		for (i = 0; i < sqlite3_column_count(stmt); i++)
			len += (size_t)snprintf(out + len, sizeof(out) - len, "%s%s", i ? "|" : "",
						(const char *)sqlite3_column_text(stmt, i));
		len += (size_t)snprintf(out + len, sizeof(out) - len, ";");
	}
	(void)sqlite3_finalize(stmt);
	(void)sqlite3_close(db);
	return out;
}

static int try_open(bool create, struct p2p_store **out, bool *out_switched, struct p2p_error *err)
{
	struct p2p_store_config config = {appfile.path, &appfile_env, NULL, create};

	memset(err, 0, sizeof(*err));
	return p2p_store_open(&config, out, out_switched, err);
}

static struct p2p_store *open_store(void)
{
	struct p2p_store *store;
	struct p2p_error err;

	if (try_open(true, &store, NULL, &err))
		fail_msg("%s", err.msg);
	return store;
}

/* As share does it. */
static struct p2p_store *share(const char *name, enum p2p_present present)
{
	struct p2p_store *store = open_store();
	struct p2p_error err = {0};

	assert_int_equal(p2p_store_begin_write(store, 100, &err), 0);
	assert_int_equal(p2p_store_setup(store, &err), 0);
	assert_int_equal(p2p_store_load(store, &err), 0);
	if (p2p_store_enable(store, name, present, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(p2p_store_commit(store, &err), 0);
	return store;
}

static void opening_refuses_what_cannot_work(void **state)
{
	struct p2p_store *store;
	struct p2p_error err;
	FILE *file;

	(void)state;
	assert_int_equal(try_open(false, &store, NULL, &err), P2P_ENOENT);
	assert_non_null(strstr(err.msg, "no such file"));
	file = fopen(appfile.path, "w");
	assert_non_null(file);
	(void)fprintf(file, "%0600d", 1);
	(void)fclose(file);
	assert_int_equal(try_open(false, &store, NULL, &err), P2P_ENOTDB);
	(void)unlink(appfile.path);
	assert_int_equal(mkdir(appfile.path, 0700), 0);
	assert_int_equal(try_open(false, &store, NULL, &err), P2P_ENOTDB);
	(void)rmdir(appfile.path);
	appfile_sql("CREATE TABLE t(a)");
	assert_int_equal(chmod(appfile.path, 0400), 0);
	if (access(appfile.path, W_OK) != 0) /* root may write all */
		assert_int_equal(try_open(false, &store, NULL, &err), P2P_EREADONLY);
	assert_int_equal(chmod(appfile.path, 0600), 0);
}

static void opening_switches_to_wal_and_says_so(void **state)
{
	struct p2p_store *store;
	struct p2p_error err;
	bool switched = false;

	(void)state;
	appfile_sql("CREATE TABLE t(a)");
	assert_int_equal(try_open(false, &store, &switched, &err), 0);
	assert_true(switched);
	assert_false(p2p_store_enabled(store));
	p2p_store_close(store);
	assert_int_equal(try_open(false, &store, &switched, &err), 0);
	assert_false(switched);
	p2p_store_close(store);
	assert_string_equal(app_text("PRAGMA journal_mode"), "wal;");
}

static void a_newer_format_is_refused(void **state)
{
	struct p2p_store *store;
	struct p2p_error err;

	(void)state;
	appfile_sql("CREATE TABLE t(a PRIMARY KEY)");
	p2p_store_close(share("t", P2P_PRESENT_NONE));
	appfile_sql("UPDATE p2p_meta SET v = x'0000000000000063' WHERE k = 'format'");
	assert_int_equal(try_open(false, &store, NULL, &err), P2P_ENEWER);
	assert_non_null(strstr(err.msg, "99"));
}

struct entries {
	char text[1024];
	size_t len;
	uint32_t key_count;
};

static int entry_add(void *ctx, const struct p2p_journal_entry *entry)
{
	struct entries *entries = ctx;
	uint32_t i;

	entries->len +=
		(size_t)snprintf(entries->text + entries->len, sizeof(entries->text) - entries->len,
				 "%u%s", entry->table, entry->present ? "p" : "");
	assert_true(entry->ms > 1600000000000ll);
	for (i = 0; i < entries->key_count; i++)
		entries->len += (size_t)snprintf(entries->text + entries->len,
						 sizeof(entries->text) - entries->len,
						 entry->key[i].type == P2P_TEXT ? " %s" : " ?",
						 (const char *)entry->key[i].bytes);
	entries->len += (size_t)snprintf(entries->text + entries->len,
					 sizeof(entries->text) - entries->len, ";");
	return 0;
}

static const char *journal(struct p2p_store *store, int64_t after, uint32_t key_count)
{
	static struct entries entries;
	int64_t max = 0;

	memset(&entries, 0, sizeof(entries));
	entries.key_count = key_count;
	assert_int_equal(p2p_store_journal_max(store, &max), 0);
	assert_int_equal(p2p_store_journal_each(store, after, max, entry_add, &entries), 0);
	return entries.text;
}

static void any_program_s_writes_are_journalled(void **state)
{
	struct p2p_store *store;
	int64_t max = -1;

	(void)state;
	appfile_sql(
		"CREATE TABLE \"my table\"(\"a \"\"b\" TEXT, c TEXT, d, PRIMARY KEY(c, \"a \"\"b\"));"
		"INSERT INTO \"my table\" VALUES('x', 'y', 1)");
	store = share("MY TABLE", P2P_PRESENT_NOW);
	assert_string_equal(journal(store, 0, 2), "1p y x;");
	appfile_sql("INSERT INTO \"my table\" VALUES('p', 'q', 1); UPDATE \"my table\" SET d = 2;"
		    "UPDATE \"my table\" SET c = 'z' WHERE c = 'q'; DELETE FROM \"my table\"");
	assert_string_equal(journal(store, 1, 2), "1 q p;1 y x;1 q p;1 q p;1 z p;1 y x;1 z p;");
	assert_int_equal(p2p_store_journal_max(store, &max), 0);
	assert_int_equal(p2p_store_journal_trim(store, max), 0);
	assert_string_equal(app_text("SELECT count(*) FROM p2p_journal"), "1;");
	appfile_sql("INSERT INTO \"my table\" VALUES('p', 'q', 1)");
	assert_string_equal(journal(store, max, 2), "1 q p;");
	p2p_store_close(store);
}

static void our_own_writes_are_not_journalled(void **state)
{
	struct p2p_store *store;

	(void)state;
	appfile_sql("CREATE TABLE t(a TEXT PRIMARY KEY)");
	store = share("t", P2P_PRESENT_NONE);
	assert_int_equal(sqlite3_exec(p2p_store_db(store), "INSERT INTO t VALUES('x')", NULL, NULL,
				      NULL),
			 SQLITE_OK);
	assert_string_equal(journal(store, 0, 1), "");
	p2p_store_close(store);
}

static void keys_of_many_columns_are_journalled(void **state)
{
	struct p2p_store *store;

	(void)state;
	appfile_sql("CREATE TABLE t(a TEXT, b TEXT, c TEXT, d TEXT, e TEXT, f TEXT,"
		    " PRIMARY KEY(f, e, d, c, b, a)) WITHOUT ROWID");
	store = share("t", P2P_PRESENT_NONE);
	appfile_sql("INSERT INTO t VALUES('1', '2', '3', '4', '5', '6')");
	assert_string_equal(journal(store, 0, 6), "1 6 5 4 3 2 1;");
	p2p_store_close(store);
}

static void tables_that_cannot_be_are_refused_with_the_reason(void **state)
{
	static const struct {
		const char *name, *reason;
	} refused[] = {{"nokey", "no PRIMARY KEY"},
		       {"v", "view"},
		       {"search", "virtual"},
		       {"search_data", "virtual"},
		       {"django_migrations", "migrat"},
		       {"p2p_own", "reserved"},
		       {"desc_key", NULL},
		       {"other_collation", "another collation"}};
	struct p2p_store *store;
	struct p2p_error err;
	size_t i;
	int rc;

	(void)state;
	appfile_sql(
		"CREATE TABLE nokey(a); CREATE VIEW v AS SELECT 1; CREATE TABLE p2p_own(a PRIMARY KEY);"
		"CREATE VIRTUAL TABLE search USING fts5(a); CREATE TABLE fine(a PRIMARY KEY);"
		"CREATE TABLE django_migrations(id INTEGER PRIMARY KEY);"
		"CREATE TABLE desc_key(id INTEGER PRIMARY KEY DESC);"
		"CREATE TABLE other_collation(k TEXT, PRIMARY KEY(k COLLATE NOCASE))");
	store = share("fine", P2P_PRESENT_NONE);
	for (i = 0; i < p2p_array_len(refused); i++) {
		assert_int_equal(p2p_store_begin_write(store, 100, &err), 0);
		rc = p2p_store_enable(store, refused[i].name, P2P_PRESENT_NONE, &err);
		assert_int_equal(rc, refused[i].reason ? P2P_EREFUSED : 0);
		if (refused[i].reason && !strstr(err.msg, refused[i].reason))
			fail_msg("%s", err.msg);
		assert_int_equal(p2p_store_commit(store, &err), 0);
	}
	assert_false(p2p_store_table_by_name(store, "DESC_KEY")->generated_identity);
	assert_int_equal(p2p_store_begin_write(store, 100, &err), 0);
	assert_int_equal(p2p_store_enable(store, "Fine", P2P_PRESENT_NONE, &err), P2P_EEXIST);
	assert_int_equal(p2p_store_enable(store, "missing", P2P_PRESENT_NONE, &err), P2P_ENOENT);
	p2p_store_rollback(store);
	p2p_store_close(store);
}

static void row_states_and_claims_come_back(void **state)
{
	struct p2p_identity identity;
	struct p2p_rowstate row;
	struct p2p_store *store;
	struct p2p_table *table;
	struct p2p_buf key;
	int64_t number = 0;

	(void)state;
	appfile_sql("CREATE TABLE t(id INTEGER PRIMARY KEY, v)");
	store = share("t", P2P_PRESENT_NONE);
	table = p2p_store_table_by_name(store, "T");
	assert_true(table->generated_identity);
	assert_int_equal(table->slot_count, 2);
	p2p_buf_init(&key, 64);
	memset(&identity, 0, sizeof(identity));
	identity.kind = P2P_IDENTITY_GENERATED;
	p2p_identity_put(&key, &identity);
	p2p_rowstate_init(&row);
	assert_int_equal(p2p_store_row_get(store, table, key.data, key.len, &row, NULL),
			 P2P_ENOENT);
	assert_int_equal(p2p_rowstate_resize(&row, 2), 0);
	row.causal_length = 1;
	row.cells[1].hash = 5;
	assert_int_equal(p2p_store_row_put(store, table, key.data, key.len, &row, -42), 0);
	assert_int_equal(p2p_store_row_get(store, table, key.data, key.len, &row, &number), 0);
	assert_true(number == -42);
	assert_true(row.cells[1].hash == 5);
	p2p_rowstate_deinit(&row);
	p2p_buf_deinit(&key);
	p2p_store_close(store);
}

static void replicas_and_settings_come_back(void **state)
{
	struct p2p_store *store;
	struct p2p_error err;
	struct p2p_id id = {{1}};
	uint32_t number;
	uint64_t seq, value;
	int64_t position;
	uint8_t byte;
	size_t len;

	(void)state;
	appfile_sql("CREATE TABLE t(a PRIMARY KEY)");
	store = share("t", P2P_PRESENT_NONE);
	assert_int_equal(p2p_store_begin_write(store, 100, &err), 0);
	for (number = 1; number <= 20; number++) {
		uint32_t got;

		id.bytes[1] = (uint8_t)number;
		assert_int_equal(p2p_store_replica_number(store, &id, &got), 0);
		assert_int_equal(got, number);
	}
	assert_int_equal(p2p_store_folded_get(store, &seq, &position), 0);
	assert_int_equal(seq, 0);
	assert_int_equal(p2p_store_folded_set(store, 9, 10), 0);
	assert_int_equal(p2p_store_meta_set(store, "x", "abc", 3), 0);
	assert_int_equal(p2p_store_commit(store, &err), 0);
	assert_int_equal(p2p_store_reopen(store, &err), 0);
	assert_int_equal(p2p_store_replica_find(store, &id), 20);
	assert_null(p2p_store_replica_id(store, 21));
	assert_int_equal(p2p_store_folded_get(store, &seq, &position), 0);
	assert_int_equal(seq, 9);
	assert_int_equal(position, 10);
	assert_int_equal(p2p_store_meta_get(store, "x", &byte, 1, &len), P2P_ETOOBIG);
	assert_int_equal(p2p_store_meta_get_u64(store, "x", &value), P2P_ECORRUPT);
	assert_int_equal(p2p_store_meta_get_u64(store, "y", &value), P2P_ENOENT);
	p2p_store_close(store);
}

/* As whoever is about to write in it does it. */
static size_t check_schema(struct p2p_store *store)
{
	struct p2p_error err = {0};
	size_t rescan = 0;

	assert_int_equal(p2p_store_begin_write(store, 100, &err), 0);
	if (p2p_store_check_schema(store, &rescan, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(p2p_store_commit(store, &err), 0);
	return rescan;
}

static void a_rebuilt_table_gets_its_triggers_again_and_is_rescanned(void **state)
{
	struct p2p_store *store;
	struct p2p_error err;
	uint64_t rows = 0;
	size_t rescan = 0;

	(void)state;
	appfile_sql("CREATE TABLE t(a TEXT PRIMARY KEY, b)");
	store = share("t", P2P_PRESENT_NONE);
	rescan = check_schema(store);
	appfile_sql("CREATE TABLE n(a TEXT PRIMARY KEY, b, c); INSERT INTO n VALUES('x', 1, 2);"
		    "DROP TABLE t; ALTER TABLE n RENAME TO t");
	rescan = check_schema(store);
	assert_int_equal(rescan, 1);
	assert_int_equal(p2p_store_table(store, 0)->slot_count, 3);
	assert_int_equal(p2p_store_begin_write(store, 100, &err), 0);
	assert_int_equal(p2p_store_rescan(store, NULL, &rows, &err), 0);
	assert_int_equal(p2p_store_commit(store, &err), 0);
	assert_int_equal(rows, 1);
	assert_string_equal(journal(store, 0, 1), "1 x;");
	rescan = check_schema(store);
	assert_int_equal(rescan, 0);
	appfile_sql("INSERT INTO t VALUES('y', 1, 2)");
	assert_string_equal(journal(store, 0, 1), "1 x;1 y;");
	p2p_store_close(store);
}

static void a_missing_table_waits_and_a_dropped_column_keeps_its_slot(void **state)
{
	struct p2p_store *store;

	(void)state;
	appfile_sql("CREATE TABLE t(a TEXT PRIMARY KEY, b, c)");
	store = share("t", P2P_PRESENT_NONE);
	appfile_sql("ALTER TABLE t DROP COLUMN b; ALTER TABLE t ADD COLUMN d");
	assert_int_equal(check_schema(store), 0);
	assert_int_equal(p2p_store_table(store, 0)->columns[1].slot, 2);
	assert_int_equal(p2p_store_table(store, 0)->columns[2].slot, 3);
	appfile_sql("DROP TABLE t");
	assert_int_equal(check_schema(store), 0);
	assert_int_equal(p2p_store_table(store, 0)->state, P2P_TABLE_WAITING);
	p2p_store_close(store);
}

/* Its triggers are gone with it, and the rows are still to be compared. */
static void a_check_that_is_rolled_back_was_none(void **state)
{
	struct p2p_store *store;
	struct p2p_error err;
	size_t rescan = 0;
	bool moved = false;

	(void)state;
	appfile_sql("CREATE TABLE t(a TEXT PRIMARY KEY, b)");
	store = share("t", P2P_PRESENT_NONE);
	assert_int_equal(check_schema(store), 0);
	appfile_sql(
		"CREATE TABLE n(a TEXT PRIMARY KEY, b); DROP TABLE t; ALTER TABLE n RENAME TO t");
	assert_int_equal(p2p_store_begin_write(store, 100, &err), 0);
	assert_int_equal(p2p_store_check_schema(store, &rescan, &err), 0);
	assert_int_equal(rescan, 1);
	p2p_store_rollback(store);
	assert_int_equal(p2p_store_schema_moved(store, &moved), 0);
	assert_true(moved);
	assert_int_equal(check_schema(store), 1);
	assert_int_equal(p2p_store_schema_moved(store, &moved), 0);
	assert_false(moved);
	p2p_store_close(store);
}

static void unshare_leaves_a_plain_file(void **state)
{
	struct p2p_store *store;
	struct p2p_error err;
	char before[4096];

	(void)state;
	appfile_sql(
		"CREATE TABLE t(a TEXT PRIMARY KEY); CREATE TABLE u(id INTEGER PRIMARY KEY, t);"
		"CREATE TRIGGER own AFTER INSERT ON t BEGIN INSERT INTO u(t) VALUES(NEW.a); END;"
		"CREATE TABLE p2p_local_cache(k PRIMARY KEY, v);" /* the application's own */
		"INSERT INTO t VALUES('x'); INSERT INTO p2p_local_cache VALUES(1, 2)");
	(void)snprintf(before, sizeof(before), "%s",
		       app_text("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2"));
	store = share("t", P2P_PRESENT_NOW);
	assert_int_equal(p2p_store_begin_write(store, 100, &err), 0);
	assert_int_equal(p2p_store_enable(store, "u", P2P_PRESENT_NOW, &err), 0);
	assert_int_equal(p2p_store_disable(store, "u", &err), 0);
	assert_int_equal(p2p_store_disable(store, "u", &err), P2P_ENOENT);
	assert_int_equal(p2p_store_commit(store, &err), 0);
	assert_int_equal(p2p_store_unshare(store, &err), 0);
	assert_false(p2p_store_enabled(store));
	p2p_store_close(store);
	assert_string_equal(app_text("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2"),
			    before);
	assert_string_equal(app_text("SELECT * FROM t"), "x;");
	assert_string_equal(app_text("SELECT * FROM p2p_local_cache"), "1|2;");
}

/* The type of a column can be any text in quotes, and stands in a schema that a peer may have made.
 */
static void what_a_schema_says_of_a_column_is_never_run(void **state)
{
	struct p2p_value one = {.type = P2P_INTEGER, .integer = 1}, null = {.type = P2P_NULL};
	struct p2p_store *store;
	struct p2p_table *table;
	char sql[512], file[128];
	uint64_t hash = 0;
	uint32_t i;

	(void)state;
	(void)snprintf(file, sizeof(file), "%s/evil", appfile.dir);
	(void)snprintf(
		sql, sizeof(sql),
		"CREATE TABLE t(k TEXT PRIMARY KEY,"
		" a \"x); ATTACH '%s' AS e; CREATE TABLE e.t(x); --\" DEFAULT 1,"
		" b \"x DEFAULT 5); ATTACH '%s' AS e; CREATE TABLE e.t(x); --\" DEFAULT (1 --\n),"
		" c INT DEFAULT '1', d DEFAULT (zeroblob(900000000)))",
		file, file);
	appfile_sql(sql);
	store = share("t", P2P_PRESENT_NONE);
	table = p2p_store_table_by_name(store, "t");
	assert_non_null(table);
	for (i = 1; i < table->column_count; i++) {
		assert_int_equal(p2p_store_default_hash(store, table, i, &hash), 0);
		assert_true(hash ==
			    p2p_value_hash(p2p_store_hash_key(store), i < 4 ? &one : &null));
	}
	assert_int_not_equal(access(file, F_OK), 0);
	p2p_store_close(store);
}

static void the_write_lock_is_waited_for_only_so_long(void **state)
{
	struct p2p_store *store;
	struct p2p_error err;
	sqlite3 *db;

	(void)state;
	appfile_sql("CREATE TABLE t(a PRIMARY KEY)");
	store = share("t", P2P_PRESENT_NONE);
	assert_int_equal(sqlite3_open(appfile.path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	assert_int_equal(p2p_store_begin_write(store, 1, &err), P2P_EBUSY);
	assert_false(p2p_store_in_transaction(store));
	(void)sqlite3_close(db);
	assert_int_equal(p2p_store_begin_write(store, 1, &err), 0);
	assert_true(p2p_store_in_transaction(store));
	p2p_store_rollback(store);
	assert_int_equal(p2p_store_begin_read(store, &err), 0);
	p2p_store_rollback(store);
	p2p_store_close(store);
}

/* The application's file stayed locked, and the next look at it ended the process. */
static void a_rollback_needs_no_memory(void **state)
{
	struct p2p_error err = {0};
	struct p2p_store *store;
	sqlite3 *other;

	(void)state;
	appfile_sql("CREATE TABLE t(a PRIMARY KEY)");
	store = open_store();
	assert_int_equal(p2p_store_begin_write(store, 0, &err), 0);
	memfault_arm(0, true);
	p2p_store_rollback(store);
	(void)memfault_disarm();
	assert_false(p2p_store_in_transaction(store));
	assert_int_equal(sqlite3_open(appfile.path, &other), SQLITE_OK);
	assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE; COMMIT", NULL, NULL, NULL),
			 SQLITE_OK);
	(void)sqlite3_close(other);
	p2p_store_close(store);
}

static bool others_can_write(void)
{
	sqlite3 *other;
	bool can;

	assert_int_equal(sqlite3_open(appfile.path, &other), SQLITE_OK);
	can = sqlite3_exec(other, "BEGIN IMMEDIATE; COMMIT", NULL, NULL, NULL) == SQLITE_OK;
	(void)sqlite3_close(other);
	return can;
}

static void run_sql(struct p2p_store *store, const char *sql)
{
	assert_int_equal(sqlite3_exec(p2p_store_db(store), sql, NULL, NULL, NULL), SQLITE_OK);
}

/* ROLLBACK expires with the schema; it was prepared anew when it was needed. */
static void a_rollback_needs_no_memory_after_a_change_of_the_schema(void **state)
{
	struct p2p_error err = {0};
	struct p2p_store *store;

	(void)state;
	appfile_sql("CREATE TABLE t(a PRIMARY KEY)");
	store = open_store();
	assert_int_equal(p2p_store_begin_write(store, 0, &err), 0);
	run_sql(store, "CREATE TABLE u(a)");
	p2p_store_rollback(store);
	assert_int_equal(p2p_store_begin_write(store, 0, &err), 0);
	memfault_arm(0, true);
	p2p_store_rollback(store);
	(void)memfault_disarm();
	assert_true(others_can_write());
	assert_int_equal(p2p_store_begin_read(store, &err), 0);
	p2p_store_rollback(store);
	p2p_store_close(store);
}

/* One that made an index expires inside of the transaction, too. */
static void a_rollback_without_memory_is_made_up_for_before_anything_else(void **state)
{
	struct p2p_error err = {0};
	struct p2p_store *store;

	(void)state;
	appfile_sql("CREATE TABLE t(a PRIMARY KEY)");
	store = open_store();
	assert_int_equal(p2p_store_begin_write(store, 0, &err), 0);
	run_sql(store, "CREATE TABLE u(a); CREATE INDEX i ON u(a)");
	memfault_arm(0, true);
	p2p_store_rollback(store);
	assert_false(p2p_store_in_transaction(store));
	assert_int_equal(p2p_store_begin_read(store, &err), P2P_ENOMEM);
	assert_int_equal(p2p_store_begin_write(store, 0, &err), P2P_ENOMEM);
	assert_int_equal(p2p_store_load(store, &err), P2P_ENOMEM);
	assert_int_equal(p2p_store_settle(store, &err), P2P_ENOMEM);
	(void)memfault_disarm();
	assert_int_equal(p2p_store_settle(store, &err), 0);
	assert_true(others_can_write());
	run_sql(store, "CREATE TABLE u(a)"); /* it is not there */
	assert_int_equal(p2p_store_begin_write(store, 0, &err), 0);
	p2p_store_rollback(store);
	p2p_store_close(store);
}

int main(void)
{
#define store_test(name) cmocka_unit_test_setup_teardown(name, appfile_setup, appfile_teardown)
	const struct CMUnitTest tests[] = {
		store_test(opening_refuses_what_cannot_work),
		store_test(opening_switches_to_wal_and_says_so),
		store_test(a_newer_format_is_refused),
		store_test(any_program_s_writes_are_journalled),
		store_test(our_own_writes_are_not_journalled),
		store_test(keys_of_many_columns_are_journalled),
		store_test(tables_that_cannot_be_are_refused_with_the_reason),
		store_test(row_states_and_claims_come_back),
		store_test(replicas_and_settings_come_back),
		store_test(a_rebuilt_table_gets_its_triggers_again_and_is_rescanned),
		store_test(a_check_that_is_rolled_back_was_none),
		store_test(a_missing_table_waits_and_a_dropped_column_keeps_its_slot),
		store_test(unshare_leaves_a_plain_file),
		store_test(what_a_schema_says_of_a_column_is_never_run),
		store_test(the_write_lock_is_waited_for_only_so_long),
		store_test(a_rollback_needs_no_memory),
		store_test(a_rollback_needs_no_memory_after_a_change_of_the_schema),
		store_test(a_rollback_without_memory_is_made_up_for_before_anything_else),
	};

	memfault_install(true);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
