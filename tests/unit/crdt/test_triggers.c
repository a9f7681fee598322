/* Triggers of the application: what each of them writes is found out, those whose effects are local
 * run while rows are merged, and nothing of it is left in the file, whatever memory does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// cmocka needs the four above
#include <cmocka.h>

#include "crdt/apptable.h"
#include "crdt/triggers.h"
#include "proto/check.h"
#include "tests/support/appfile.h"
#include "tests/support/memfault.h"

/* The store with these tables replicated, in a write transaction, triggers looked at. */
static struct p2p_store *share(const char *const *names, size_t count)
{
	struct p2p_store_config config = {appfile.path, &appfile_env, NULL, true};
	struct p2p_store *store;
	struct p2p_error err = {0};
	size_t i;

	if (p2p_store_open(&config, &store, NULL, &err) ||
	    p2p_store_begin_write(store, 100, &err) || p2p_store_setup(store, &err) ||
	    p2p_store_load(store, &err))
		fail_msg("%s", err.msg);
	for (i = 0; i < count; i++)
		if (p2p_store_enable(store, names[i], P2P_PRESENT_NONE, &err))
			fail_msg("%s", err.msg);
	if (p2p_store_commit(store, &err) || p2p_store_begin_write(store, 100, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(p2p_triggers_refresh(store), 0);
	return store;
}

static void unshare(struct p2p_store *store)
{
	p2p_store_rollback(store);
	p2p_store_close(store);
}

static const struct p2p_trigger *trigger(struct p2p_store *store, const char *name)
{
	size_t i;

	for (i = 0; i < p2p_triggers_count(store); i++)
		if (strcmp(p2p_triggers_at(store, i)->name, name) == 0)
			return p2p_triggers_at(store, i);
	fail_msg("no trigger %s", name);
	return NULL;
}

static int64_t number(struct p2p_store *store, const char *sql)
{
	sqlite3_stmt *stmt = NULL;
	int64_t out;

	if (sqlite3_prepare_v2(p2p_store_db(store), sql, -1, &stmt, NULL) != SQLITE_OK ||
	    sqlite3_step(stmt) != SQLITE_ROW)
		fail_msg("%s: %s", sql, sqlite3_errmsg(p2p_store_db(store)));
	out = sqlite3_column_int64(stmt, 0);
	(void)sqlite3_finalize(stmt);
	return out;
}

static int64_t copies(struct p2p_store *store)
{
	return number(store, "SELECT count(*) FROM sqlite_temp_schema WHERE type = 'trigger'");
}

/* Inserts a row (id, n) as merge does it. */
static int insert(struct p2p_store *store, const char *table, int64_t id, int64_t n)
{
	struct p2p_apptable at;
	struct p2p_cells cells;
	struct p2p_value value = {0};
	int rc;

	p2p_cells_init(&cells);
	rc = p2p_apptable_init(&at, store, p2p_store_table_by_name(store, table));
	if (!rc)
		rc = p2p_cells_reset(&cells, at.table->column_count);
	value.type = P2P_INTEGER;
	value.integer = id;
	if (!rc)
		p2p_cells_set(&cells, 0, &value);
	value.integer = n;
	if (!rc)
		p2p_cells_set(&cells, 1, &value);
	if (!rc)
		rc = p2p_apptable_insert(&at, &cells);
	p2p_apptable_deinit(&at);
	p2p_cells_deinit(&cells);
	return rc;
}

/* --- what they write ------------------------------------------------------------------------- */

static const char schema[] = "CREATE TABLE t(id INTEGER PRIMARY KEY, n);"
			     "CREATE TABLE r(id INTEGER PRIMARY KEY, n);"
			     "CREATE TABLE l(id INTEGER PRIMARY KEY, n);"
			     "CREATE TABLE strict(n UNIQUE ON CONFLICT ROLLBACK);"
			     "CREATE VIEW v AS SELECT id, n FROM l;"
			     "CREATE VIEW w AS SELECT id, n FROM r;";

static const char *const shared[] = {"t", "r"};

static void writes_decide_whether_a_trigger_runs(void **state)
{
	static const struct {
		const char *sql;
		enum p2p_trigger_verdict verdict;
	} cases[] = {
		{"AFTER INSERT ON t BEGIN INSERT INTO l(n) VALUES (1); END", P2P_TRIGGER_RUNS},
		{"BEFORE UPDATE OF \"n\" ON t BEGIN DELETE FROM l; END", P2P_TRIGGER_RUNS},
		{"AFTER DELETE ON main.t BEGIN UPDATE l SET n = old.n; END", P2P_TRIGGER_RUNS},
		{"INSERT ON t BEGIN SELECT n FROM r; END", P2P_TRIGGER_IDLE},
		{"AFTER INSERT ON t BEGIN INSERT INTO r(n) VALUES (1); END", P2P_TRIGGER_ROWS},
		{"AFTER UPDATE ON t BEGIN UPDATE t SET n = 1; END", P2P_TRIGGER_ROWS},
		{"AFTER UPDATE ON T BEGIN DELETE FROM R; END", P2P_TRIGGER_ROWS},
		{"AFTER DELETE ON t BEGIN DELETE FROM r; DELETE FROM l; END", P2P_TRIGGER_MIXED},
		{"AFTER DELETE ON t BEGIN DELETE FROM p2p_journal; END", P2P_TRIGGER_ROWS},
		{"AFTER INSERT ON t BEGIN INSERT INTO v VALUES (1, 2); END", P2P_TRIGGER_RUNS},
		{"AFTER INSERT ON t BEGIN INSERT INTO w VALUES (1, 2); END", P2P_TRIGGER_MIXED},
		{"AFTER INSERT ON t BEGIN UPDATE l SET n = 1; END", P2P_TRIGGER_MIXED},
		{"AFTER INSERT ON t BEGIN SELECT RAISE(ABORT, 'x'); END", P2P_TRIGGER_IDLE},
		{"AFTER INSERT ON t BEGIN SELECT raise /**/ (IGNORE); DELETE FROM l; END",
		 P2P_TRIGGER_REFUSES},
		{"AFTER INSERT ON t BEGIN INSERT OR ROLLBACK INTO l VALUES (1, 1); END",
		 P2P_TRIGGER_REFUSES},
		{"AFTER INSERT ON t BEGIN INSERT OR REPLACE INTO l VALUES (1, 1); END",
		 P2P_TRIGGER_RUNS},
		{"AFTER INSERT ON t BEGIN INSERT INTO strict VALUES (1); END", P2P_TRIGGER_REFUSES},
		{"AFTER INSERT ON t BEGIN INSERT INTO l(n) VALUES ('RAISE(x)'); END",
		 P2P_TRIGGER_RUNS},
		{"AFTER INSERT ON t BEGIN INSERT INTO l(n) SELECT mine(new.id); END",
		 P2P_TRIGGER_UNKNOWN},
		{"AFTER INSERT ON t WHEN new.n COLLATE mine = 1 BEGIN DELETE FROM l; END",
		 P2P_TRIGGER_UNKNOWN},
		{"AFTER INSERT ON t BEGIN INSERT INTO gone VALUES (1); END", P2P_TRIGGER_UNKNOWN},
	};
	char sql[512], name[8];
	struct p2p_store *store;
	size_t i;

	(void)state;
	appfile_sql(schema);
	appfile_sql(
		"CREATE TRIGGER v_in INSTEAD OF INSERT ON v BEGIN INSERT INTO l(n) VALUES (new.n); END;"
		"CREATE TRIGGER w_in INSTEAD OF INSERT ON w BEGIN INSERT INTO r(n) VALUES (new.n); END;"
		"CREATE TRIGGER l_up AFTER UPDATE ON l WHEN old.id = 3 BEGIN"
		" INSERT INTO r(n) VALUES (new.n); END;");
	for (i = 0; i < p2p_array_len(cases); i++) {
		(void)snprintf(sql, sizeof(sql), "CREATE TRIGGER c%zu %s", i, cases[i].sql);
		appfile_sql(sql);
	}
	appfile_sql(
		"DROP TRIGGER c2; CREATE TRIGGER c2 AFTER DELETE ON t BEGIN DELETE FROM l; END");
	store = share(shared, 2);
	for (i = 0; i < p2p_array_len(cases); i++) {
		const struct p2p_trigger *at;

		(void)snprintf(name, sizeof(name), "c%zu", i);
		at = trigger(store, name);
		if (at->verdict != cases[i].verdict)
			fail_msg("%s: verdict %d: %s", cases[i].sql, at->verdict,
				 at->reason ? at->reason : "");
		assert_true(at->replicated);
		assert_true((at->reason == NULL) == (at->verdict == P2P_TRIGGER_RUNS));
	}
	assert_int_equal(p2p_triggers_events(store, p2p_store_table_by_name(store, "t")), 7);
	assert_int_equal(p2p_triggers_events(store, p2p_store_table_by_name(store, "r")), 0);
	assert_int_equal(trigger(store, "l_up")->verdict, P2P_TRIGGER_ROWS);
	assert_false(p2p_trigger_lossy(trigger(store, "l_up")));
	assert_true(p2p_trigger_lossy(trigger(store, "c7")));
	assert_false(p2p_trigger_lossy(trigger(store, "c4")));
	unshare(store);
}

static void names_and_conditions_are_copied_as_they_are(void **state)
{
	struct p2p_store *store;

	(void)state;
	appfile_sql(
		"CREATE TABLE \"order\"(\"my id\" INTEGER PRIMARY KEY, \"begin\");"
		"CREATE TABLE l(n);"
		"CREATE TRIGGER before AFTER INSERT ON \"order\" FOR EACH ROW"
		" WHEN new.\"my id\" > 5 OR new.begin /* BEGIN */ IN (SELECT begin FROM \"order\""
		" WHERE begin = -1) -- BEGIN\n BEGIN INSERT INTO l VALUES (1); END;"
		"CREATE TRIGGER [of \"it] BEFORE INSERT ON [order] WHEN CASE WHEN new.[begin] = 7"
		" THEN 1 ELSE 0 END BEGIN INSERT INTO l VALUES (2); END;"
		"CREATE TRIGGER 'a ''b' AFTER INSERT ON `order` BEGIN"
		" INSERT INTO l SELECT 4 WHERE new.`my id` = 6; END;");
	store = share((const char *const[]){"order"}, 1);
	assert_int_equal(copies(store), 3);
	assert_int_equal(insert(store, "order", 1, 1), 0);
	assert_int_equal(number(store, "SELECT total(n) FROM l"), 0);
	assert_int_equal(insert(store, "order", 6, 1), 0);
	assert_int_equal(number(store, "SELECT total(n) FROM l"), 5);
	assert_int_equal(insert(store, "order", 2, 7), 0);
	assert_int_equal(number(store, "SELECT total(n) FROM l"), 7);
	assert_int_equal(number(store, "SELECT count(*) FROM p2p_journal"), 0);
	unshare(store);
}

/* --- while rows are merged ------------------------------------------------------------------- */

static void copies_follow_rollbacks_and_other_schemas(void **state)
{
	struct p2p_store *store;
	struct p2p_error err;

	(void)state;
	appfile_sql(schema);
	appfile_sql("CREATE TRIGGER one AFTER INSERT ON t BEGIN INSERT INTO l(n) VALUES (1); END");
	store = share(shared, 2);
	assert_int_equal(copies(store), 1);
	p2p_store_rollback(store); /* they were made in it */
	assert_int_equal(p2p_store_begin_write(store, 100, &err), 0);
	assert_int_equal(copies(store), 0);
	assert_int_equal(p2p_triggers_refresh(store), 0);
	assert_int_equal(insert(store, "t", 1, 1), 0);
	assert_int_equal(number(store, "SELECT count(*) FROM l"), 1);
	assert_int_equal(p2p_store_commit(store, &err), 0);
	/* the table is away for a while, then there again: its copy must not fire beside a new one
	 */
	appfile_sql("ALTER TABLE t RENAME TO away");
	assert_int_equal(p2p_store_begin_write(store, 100, &err), 0);
	assert_int_equal(p2p_triggers_refresh(store), 0);
	assert_int_equal(p2p_store_commit(store, &err), 0);
	appfile_sql("ALTER TABLE away RENAME TO t");
	assert_int_equal(p2p_store_begin_write(store, 100, &err), 0);
	assert_int_equal(p2p_triggers_refresh(store), 0);
	assert_int_equal(insert(store, "t", 2, 1), 0);
	assert_int_equal(number(store, "SELECT count(*) FROM l"), 2);
	unshare(store);
}

static void what_fails_is_written_without(void **state)
{
	struct p2p_store *store;

	(void)state;
	appfile_sql(schema);
	appfile_sql(
		"CREATE UNIQUE INDEX t_n ON t(n); CREATE UNIQUE INDEX l_n ON l(n);"
		"CREATE TRIGGER one AFTER INSERT ON t BEGIN INSERT INTO l(n) VALUES (new.n % 2); END;"
		"CREATE TRIGGER two AFTER INSERT ON r BEGIN"
		" INSERT OR IGNORE INTO l(n) VALUES (new.n % 2); END");
	store = share(shared, 2);
	assert_int_equal(insert(store, "t", 1, 1), 0);
	/* the table's own index, then the trigger's */
	assert_int_equal(insert(store, "t", 2, 1), P2P_APPTABLE_UNIQUE);
	assert_int_equal(trigger(store, "one")->failed, 0);
	assert_int_equal(insert(store, "t", 2, 3), 0);
	assert_int_equal(trigger(store, "one")->failed, 1);
	assert_true(p2p_trigger_lossy(trigger(store, "one")));
	assert_int_equal(number(store, "SELECT count(*) FROM t"), 2);
	assert_int_equal(number(store, "SELECT count(*) FROM l"), 1);
	/* an OR clause in a trigger is in force */
	assert_int_equal(insert(store, "r", 1, 1), 0);
	assert_int_equal(insert(store, "r", 2, 2), 0);
	assert_int_equal(trigger(store, "two")->failed, 0);
	assert_int_equal(number(store, "SELECT count(*) FROM l"), 2);
	unshare(store);
}

static void a_clause_of_the_table_deletes_no_other_row(void **state)
{
	struct p2p_store *store;

	(void)state;
	appfile_sql(
		"CREATE TABLE t(id INTEGER PRIMARY KEY, n UNIQUE ON CONFLICT REPLACE); CREATE TABLE l(n);"
		"CREATE TRIGGER one AFTER INSERT ON t BEGIN INSERT INTO l VALUES (new.n); END;");
	store = share(shared, 1);
	assert_int_equal(insert(store, "t", 1, 1), 0);
	assert_int_equal(insert(store, "t", 2, 1), P2P_APPTABLE_UNIQUE);
	assert_int_equal(insert(store, "t", 1, 5), P2P_APPTABLE_TAKEN);
	assert_int_equal(insert(store, "t", 2, 2), 0);
	assert_int_equal(number(store, "SELECT count(*) FROM t"), 2);
	assert_int_equal(number(store, "SELECT group_concat(n, '') FROM l"), 12);
	unshare(store);
}

static void a_number_that_moves_is_a_row_that_goes_and_comes(void **state)
{
	struct p2p_apptable at;
	struct p2p_store *store;

	(void)state;
	appfile_sql(schema);
	appfile_sql(
		"CREATE TRIGGER i AFTER INSERT ON t BEGIN INSERT INTO l VALUES (new.id, new.n); END;"
		"CREATE TRIGGER d AFTER DELETE ON t BEGIN DELETE FROM l WHERE id = old.id; END;"
		"CREATE TRIGGER u AFTER UPDATE OF n ON t BEGIN UPDATE l SET n = new.n WHERE id = new.id; END;"
		"CREATE TRIGGER ru AFTER UPDATE ON r BEGIN INSERT INTO l VALUES (new.id, old.id); END;");
	store = share(shared, 2);
	assert_int_equal(insert(store, "t", 1, 10), 0);
	assert_int_equal(insert(store, "t", 2, 20), 0);
	assert_int_equal(p2p_apptable_init(&at, store, p2p_store_table_by_name(store, "t")), 0);
	assert_int_equal(p2p_apptable_move(&at, 1, 2), P2P_APPTABLE_TAKEN);
	assert_int_equal(number(store, "SELECT total(id * n) FROM l"), 50);
	assert_int_equal(p2p_apptable_move(&at, 1, -5), 0);
	assert_int_equal(number(store, "SELECT total(id * n) FROM t"), -10);
	assert_int_equal(number(store, "SELECT total(id * n) FROM l"), -10);
	assert_int_equal(p2p_apptable_move(&at, 9, 8), 0); /* no such row */
	p2p_apptable_deinit(&at);
	assert_int_equal(insert(store, "r", 3, 30), 0);
	assert_int_equal(p2p_apptable_init(&at, store, p2p_store_table_by_name(store, "r")), 0);
	assert_int_equal(p2p_apptable_move(&at, 3, 4), 0);
	assert_int_equal(number(store, "SELECT n FROM l WHERE id = 4"), 3);
	p2p_apptable_deinit(&at);
	unshare(store);
}

/* --- memory ---------------------------------------------------------------------------------- */

static int all_of_it(struct p2p_store *store)
{
	struct p2p_error err;
	int rc = p2p_store_begin_write(store, 100, &err);

	if (!rc)
		rc = p2p_triggers_refresh(store);
	if (!rc)
		rc = insert(store, "t", 1, 1);
	if (!rc)
		rc = insert(store, "t", 2, 2);
	return rc;
}

static void without_memory_nothing_is_misjudged(void **state)
{
	struct p2p_error err;
	struct p2p_store *store;
	uint64_t nth, failed;
	int rc;

	(void)state;
	appfile_sql(schema);
	appfile_sql(
		"CREATE VIRTUAL TABLE f USING fts5(n, content='t', content_rowid='id');"
		"CREATE TRIGGER f_i AFTER INSERT ON t BEGIN INSERT INTO f(rowid, n) VALUES (new.id, new.n);"
		" END; CREATE TRIGGER v_i AFTER INSERT ON t BEGIN INSERT INTO v VALUES (new.id, 1); END;"
		"CREATE TRIGGER v_in INSTEAD OF INSERT ON v BEGIN INSERT INTO l(n) VALUES (new.n); END;"
		"CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT missing(1); END;");
	store = share(shared, 2);
	p2p_store_rollback(store);
	for (nth = 0;; nth += memfault_reports() || nth < 200 ? 1 : 13) {
		memfault_arm(nth, false);
		rc = all_of_it(store);
		failed = memfault_disarm();
		if (rc) {
			assert_int_equal(rc, P2P_ENOMEM);
		} else {
			assert_int_equal(number(store, "SELECT count(*) FROM l"), 2);
			assert_int_equal(number(store, "SELECT count(*) FROM f WHERE f MATCH '2'"),
					 1);
			assert_int_equal(trigger(store, "f_i")->failed, 0);
			assert_int_equal(trigger(store, "x")->verdict, P2P_TRIGGER_UNKNOWN);
		}
		p2p_store_rollback(store);
		if (!failed)
			break;
		/* what SQLite kept prepared would hide allocations */
		if (p2p_store_reopen(store, &err))
			fail_msg("%s", err.msg);
	}
	assert_true(nth > 300);
	p2p_store_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(writes_decide_whether_a_trigger_runs, appfile_setup,
						appfile_teardown),
		cmocka_unit_test_setup_teardown(names_and_conditions_are_copied_as_they_are,
						appfile_setup, appfile_teardown),
		cmocka_unit_test_setup_teardown(copies_follow_rollbacks_and_other_schemas,
						appfile_setup, appfile_teardown),
		cmocka_unit_test_setup_teardown(what_fails_is_written_without, appfile_setup,
						appfile_teardown),
		cmocka_unit_test_setup_teardown(a_clause_of_the_table_deletes_no_other_row,
						appfile_setup, appfile_teardown),
		cmocka_unit_test_setup_teardown(a_number_that_moves_is_a_row_that_goes_and_comes,
						appfile_setup, appfile_teardown),
		cmocka_unit_test_setup_teardown(without_memory_nothing_is_misjudged, appfile_setup,
						appfile_teardown),
	};

	memfault_install(true);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
