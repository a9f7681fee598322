/* Replicas of one mesh, wired in one process: what one writes, all have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// cmocka needs the four above
#include <cmocka.h>

#include "tests/support/cluster.h"

static const char shop[] =
	"CREATE TABLE item(code TEXT PRIMARY KEY, name TEXT, price REAL, stock INTEGER);"
	"CREATE TABLE note(id INTEGER PRIMARY KEY, text TEXT);"
	"INSERT INTO item VALUES('a','apple',1.5,10),('b','bread',2.0,20);"
	"INSERT INTO note(text) VALUES('one'),('two');";

static struct cluster cluster;

static void begin_with(uint64_t seed, size_t nodes, const char *sql);
static void expect_verified(void);

static void begin(uint64_t seed, size_t nodes)
{
	cluster_init(&cluster, seed);
	cluster_share(&cluster, shop);
	while (cluster.count < nodes)
		(void)cluster_join(&cluster);
}

static void expect_rows(size_t node, const char *sql, const char *rows)
{
	char *got = cluster_rows(&cluster, node, sql);

	assert_string_equal(got, rows);
	free(got);
}

static void joiner_gets_the_rows_that_were_there(void **state)
{
	(void)state;
	begin(1, 2);
	cluster_connect(&cluster, 0, 1);
	assert_true(cluster_settle(&cluster, 5000));
	expect_rows(1, "SELECT * FROM item ORDER BY 1",
		    "|'a'|'apple'|1.5|10\n|'b'|'bread'|2.0|20\n");
	expect_rows(1, "SELECT * FROM note ORDER BY 1", "|1|'one'\n|2|'two'\n");
	cluster_deinit(&cluster);
}

static void writes_cross_both_ways(void **state)
{
	(void)state;
	begin(2, 2);
	cluster_connect(&cluster, 0, 1);
	assert_true(cluster_settle(&cluster, 5000));
	cluster_sql(&cluster, 0, "UPDATE item SET price = 9 WHERE code = 'a'");
	cluster_sql(&cluster, 1,
		    "UPDATE item SET stock = 7 WHERE code = 'a';"
		    "DELETE FROM item WHERE code = 'b';"
		    "INSERT INTO note(text) VALUES('three')");
	assert_true(cluster_settle(&cluster, 5000));
	assert_true(cluster_equal(&cluster));
	expect_rows(0, "SELECT * FROM item ORDER BY 1", "|'a'|'apple'|9.0|7\n");
	expect_rows(0, "SELECT text FROM note ORDER BY 1", "|'one'\n|'three'\n|'two'\n");
	cluster_deinit(&cluster);
}

static void r25_ten_thousand_updates_of_one_cell_travel_as_one_row(void **state)
{
	uint64_t merged;
	size_t i;

	(void)state;
	begin(3, 2);
	cluster_connect(&cluster, 0, 1);
	assert_true(cluster_settle(&cluster, 5000));
	cluster_disconnect(&cluster, 0, 1);
	merged = cluster.nodes[1].merged;
	for (i = 0; i < 100; i++) {
		cluster_sql(
			&cluster, 0,
			"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)"
			" INSERT INTO item(code, stock) SELECT 'a', i FROM n WHERE true"
			" ON CONFLICT(code) DO UPDATE SET stock = item.stock + 1");
		cluster_run(&cluster, 3);
	}
	cluster_connect(&cluster, 0, 1);
	assert_true(cluster_settle(&cluster, 5000));
	expect_rows(1, "SELECT stock FROM item WHERE code = 'a'", "|10010\n");
	assert_int_equal(cluster.nodes[1].merged - merged, 1);
	cluster_deinit(&cluster);
}

/* Two who heard a change from its author need not tell each other; they find out all the same. */
static void level_peers_know_of_one_another_that_they_are(void **state)
{
	struct p2p_sync_peer_status status;
	size_t a, b, i;

	(void)state;
	begin(7, 4);
	cluster_connect_all(&cluster);
	for (i = 0; i < 40; i++) {
		cluster_sql(&cluster, i % 4, "INSERT INTO note(text) VALUES('again')");
		cluster_run(&cluster, 30);
	}
	assert_true(cluster_settle(&cluster, 5000));
	cluster_run(&cluster, 3000);
	for (a = 0; a < 4; a++)
		for (b = 0; b < 4; b++) {
			if (a == b)
				continue;
			assert_true(p2p_sync_peer_status(p2p_replica_sync(cluster.nodes[a].replica),
							 cluster.links[a][b].handle, &status));
			assert_int_equal(status.behind, 0);
			assert_int_equal(status.ahead, 0);
		}
	cluster_deinit(&cluster);
}

/* A clock that jumps during a session: both sides see it, and that it is right again. */
static void a_clock_that_jumps_is_seen_on_both_sides(void **state)
{
	struct p2p_sync_peer_status status;
	size_t turn, i;

	(void)state;
	begin(9, 2);
	cluster_connect(&cluster, 0, 1);
	assert_true(cluster_settle(&cluster, 5000));
	for (turn = 0; turn < 2; turn++) {
		cluster.nodes[1].clock_skew_ms = turn ? 0 : 30ll * 86400 * 1000;
		cluster_run(&cluster, 2500);
		for (i = 0; i < 2; i++) {
			assert_true(p2p_sync_peer_status(p2p_replica_sync(cluster.nodes[i].replica),
							 cluster.links[i][1 - i].handle, &status));
			assert_int_equal(status.clock_refused, turn == 0);
		}
		cluster_sql(&cluster, turn, "INSERT INTO note(text) VALUES('meanwhile')");
		cluster_run(&cluster, 100);
	}
	assert_true(cluster_settle(&cluster, 20000));
	assert_true(cluster_equal(&cluster));
	cluster_deinit(&cluster);
}

/* What is written in the moment of a jump is not frozen by the wrong clock: nobody would take it.
 */
static void a_write_right_after_a_jump_of_the_clock_is_taken_when_it_is_right(void **state)
{
	size_t nodes;

	(void)state;
	for (nodes = 2; nodes <= 4; nodes++) {
		begin(10 + nodes, nodes);
		cluster_connect_all(&cluster);
		assert_true(cluster_settle(&cluster, 5000));
		cluster_run(&cluster, 500);
		cluster.nodes[1].clock_skew_ms = 30ll * 86400 * 1000;
		cluster_sql(&cluster, 1, "INSERT INTO note(text) VALUES('at once')");
		cluster_run(&cluster, 50);
		cluster_sql(&cluster, 1, "INSERT INTO note(text) VALUES('later')");
		cluster_run(&cluster, 3000);
		cluster.nodes[1].clock_skew_ms = 0;
		cluster_run(&cluster, 1500);
		assert_true(cluster_settle(&cluster, 20000));
		assert_true(cluster_equal(&cluster));
		expect_rows(0, "SELECT count(*) FROM note", "|4\n");
		cluster_deinit(&cluster);
	}
}

static void the_same_number_on_two_nodes_is_two_rows(void **state)
{
	(void)state;
	begin(4, 3);
	cluster_connect_all(&cluster);
	assert_true(cluster_settle(&cluster, 5000));
	cluster_disconnect(&cluster, 0, 1);
	cluster_disconnect(&cluster, 0, 2);
	cluster_sql(&cluster, 0, "INSERT INTO note VALUES(3,'from zero')");
	cluster_run(&cluster, 50);
	cluster_sql(&cluster, 1, "INSERT INTO note VALUES(3,'from one')");
	cluster_run(&cluster, 50);
	cluster_connect_all(&cluster);
	assert_true(cluster_settle(&cluster, 5000));
	assert_true(cluster_equal(&cluster));
	expect_rows(2, "SELECT count(*), sum(id < 0) FROM note", "|4|1\n");
	cluster_deinit(&cluster);
}

static void a_killed_node_goes_on_where_it_was(void **state)
{
	uint64_t seq;
	size_t i;

	(void)state;
	begin(5, 2);
	cluster_connect(&cluster, 0, 1);
	assert_true(cluster_settle(&cluster, 5000));
	for (i = 0; i < 5; i++) {
		cluster_sql(&cluster, 1, "INSERT INTO note(text) VALUES('live')");
		cluster_run(&cluster, 3);
		cluster_kill(&cluster, 1);
		cluster_sql(&cluster, 1, "INSERT INTO note(text) VALUES('while it was down')");
		cluster_sql(&cluster, 0, "UPDATE item SET stock = stock + 1");
		cluster_run(&cluster, 10);
		cluster_start(&cluster, 1);
		cluster_connect(&cluster, 0, 1);
	}
	assert_true(cluster_settle(&cluster, 5000));
	assert_true(cluster_equal(&cluster));
	expect_rows(0, "SELECT count(*) FROM note WHERE id > 0", "|12\n");
	seq = p2p_vv_seq(p2p_sync_vector(p2p_replica_sync(cluster.nodes[0].replica)),
			 p2p_replica_id(cluster.nodes[1].replica));
	assert_true(seq >= 5); /* one replica id all the time */
	cluster_deinit(&cluster);
}

static struct p2p_id id_of(size_t node)
{
	return *p2p_replica_id(cluster.nodes[node].replica);
}

/* The whole disk goes back: only a peer can know, and must prove it. */
static void a_rolled_back_disk_takes_a_new_replica_id_and_loses_nothing(void **state)
{
	struct p2p_id before, after;

	(void)state;
	begin(6, 2);
	cluster_connect(&cluster, 0, 1);
	assert_true(cluster_settle(&cluster, 5000));
	cluster_sql(&cluster, 1, "UPDATE item SET stock = 1 WHERE code = 'a'");
	assert_true(cluster_settle(&cluster, 5000));
	cluster_kill(&cluster, 1);
	cluster_save(&cluster, 1);
	cluster_start(&cluster, 1);
	before = id_of(1);
	cluster_connect(&cluster, 0, 1);
	cluster_sql(&cluster, 1,
		    "UPDATE item SET stock = 2 WHERE code = 'a';"
		    "INSERT INTO note(text) VALUES('after the backup')");
	assert_true(cluster_settle(&cluster, 5000));
	cluster_kill(&cluster, 1);
	cluster_restore(&cluster, 1, "all");
	/* written on the restored disk before anybody is heard */
	cluster_sql(&cluster, 1, "INSERT INTO note(text) VALUES('on the restored disk')");
	cluster_start(&cluster, 1);
	after = id_of(1);
	assert_memory_equal(&before, &after, sizeof(before)); /* nothing to see from inside */
	cluster_connect(&cluster, 0, 1);
	cluster_run(&cluster, 100);
	assert_int_equal(cluster.nodes[1].events[P2P_SYNC_SELF_AHEAD], 1);
	after = id_of(1);
	assert_memory_not_equal(&before, &after, sizeof(before));
	cluster_connect(&cluster, 0, 1);
	assert_true(cluster_settle(&cluster, 5000));
	assert_true(cluster_equal(&cluster));
	expect_rows(0, "SELECT stock FROM item WHERE code = 'a'", "|2\n");
	expect_rows(0, "SELECT text FROM note WHERE id > 2 OR id < 0 ORDER BY 1",
		    "|'after the backup'\n|'on the restored disk'\n");
	assert_int_equal(cluster.nodes[0].events[P2P_SYNC_FORK], 0);
	cluster_deinit(&cluster);
}

/* The same, but it froze before it heard anybody (as `vector` makes it): two histories under one
 * id. It goes on under a new one, and takes and gives what is not of the old one. */
static void a_node_that_forked_itself_goes_on_under_a_new_replica_id(void **state)
{
	struct p2p_id before, after;
	struct p2p_error err = {0};
	size_t i;

	(void)state;
	begin(15, 3);
	cluster_connect_all(&cluster);
	assert_true(cluster_settle(&cluster, 5000));
	cluster_kill(&cluster, 1);
	cluster_save(&cluster, 1);
	cluster_start(&cluster, 1);
	before = id_of(1);
	cluster_connect_all(&cluster);
	cluster_sql(&cluster, 1, "INSERT INTO note(text) VALUES('after the backup')");
	assert_true(cluster_settle(&cluster, 5000));
	cluster_kill(&cluster, 1);
	cluster_restore(&cluster, 1, "all");
	cluster_sql(&cluster, 1, "INSERT INTO note(text) VALUES('on the restored disk')");
	cluster_start(&cluster, 1);
	assert_int_equal(p2p_replica_freeze(cluster.nodes[1].replica, &err), 0);
	cluster_sql(&cluster, 0, "UPDATE item SET stock = 3 WHERE code = 'a'");
	for (i = 0; i < 5; i++) { /* sessions end when the id is left */
		cluster_connect_all(&cluster);
		cluster_run(&cluster, 1000);
	}
	after = id_of(1);
	assert_memory_not_equal(&before, &after, sizeof(before));
	cluster_sql(&cluster, 1, "UPDATE item SET stock = 4 WHERE code = 'b'");
	cluster_sql(&cluster, 2, "UPDATE item SET name = 'two' WHERE code = 'b'");
	cluster_run(&cluster, 3000);
	for (i = 0; i < 3; i++)
		expect_rows(i, "SELECT name, stock FROM item ORDER BY code",
			    "|'apple'|3\n|'two'|4\n");
	cluster_deinit(&cluster);
}

/* What it froze under the old id and had not folded is projected all the same. */
static void a_new_replica_id_leaves_no_row_at_a_number_that_is_not_its_own(void **state)
{
	char mark[160];

	(void)state;
	begin(8, 3);
	cluster_connect_all(&cluster);
	assert_true(cluster_settle(&cluster, 5000));
	cluster_disconnect(&cluster, 1, 2);
	cluster_disconnect(&cluster, 0, 1);
	cluster_disconnect(&cluster, 0, 2);
	cluster_sql(&cluster, 1, "INSERT INTO note VALUES(3,'from one')");
	cluster_run(&cluster, 50);
	cluster_sql(&cluster, 2, "INSERT INTO note VALUES(3,'from two')");
	cluster_run(&cluster, 50);
	cluster_connect_all(&cluster);
	assert_true(cluster_settle(&cluster, 5000));
	cluster_run(&cluster, 2000);
	cluster_sql(&cluster, 0, "DELETE FROM note WHERE id = 3");
	cluster_run(&cluster, 30); /* sent, not folded: that waits for a pause */
	cluster_kill(&cluster, 0);
	(void)snprintf(mark, sizeof(mark), "%s/mark", cluster.nodes[0].state);
	assert_int_equal(unlink(mark), 0);
	cluster_start(&cluster, 0);
	cluster_connect_all(&cluster);
	assert_true(cluster_settle(&cluster, 5000));
	cluster_run(&cluster, 3000);
	expect_rows(1, "SELECT count(*), sum(id = 3) FROM note", "|3|1\n");
	assert_true(cluster_equal(&cluster));
	expect_verified();
	cluster_deinit(&cluster);
}

/* Only the database is put back: what was frozen since comes back from the log. */
static void a_restored_database_gets_its_own_writes_back(void **state)
{
	(void)state;
	begin(7, 2);
	cluster_connect(&cluster, 0, 1);
	assert_true(cluster_settle(&cluster, 5000));
	cluster_kill(&cluster, 1);
	cluster_save(&cluster, 1);
	cluster_start(&cluster, 1);
	cluster_connect(&cluster, 0, 1);
	cluster_sql(&cluster, 1,
		    "UPDATE item SET stock = 3 WHERE code = 'a';"
		    "INSERT INTO note(text) VALUES('after the backup')");
	cluster_sql(&cluster, 0, "DELETE FROM item WHERE code = 'b'");
	assert_true(cluster_settle(&cluster, 5000));
	cluster_kill(&cluster, 1);
	cluster_restore(&cluster, 1, "db");
	cluster_start(&cluster, 1);
	cluster_sql(&cluster, 1, "INSERT INTO note(text) VALUES('on the restored file')");
	cluster_connect(&cluster, 0, 1);
	assert_true(cluster_settle(&cluster, 5000));
	assert_true(cluster_equal(&cluster));
	expect_rows(1, "SELECT code, stock FROM item ORDER BY 1", "|'a'|3\n");
	expect_rows(0, "SELECT text FROM note WHERE id > 2 OR id < 0 ORDER BY 1",
		    "|'after the backup'\n|'on the restored file'\n");
	cluster_deinit(&cluster);
}

static void enable(size_t node, const char *table)
{
	struct p2p_error err = {0};

	if (p2p_replica_enable(cluster.nodes[node].replica, &table, 1, NULL, 0, &err))
		fail_msg("%s", err.msg);
}

static uint64_t waiting(size_t node)
{
	struct p2p_replica_status status;

	assert_int_equal(p2p_replica_status(cluster.nodes[node].replica, &status), 0);
	return status.waiting;
}

/* No trigger tells of the row that a REPLACE pushes out through a UNIQUE index. */
static void a_row_that_is_replaced_through_a_unique_index_goes_everywhere(void **state)
{
	(void)state;
	begin_with(10, 2,
		   "CREATE TABLE user(id INTEGER PRIMARY KEY, mail TEXT UNIQUE, n INTEGER);"
		   "INSERT INTO user(mail) VALUES('a'),('b')");
	cluster_connect(&cluster, 0, 1);
	assert_true(cluster_settle(&cluster, 5000));
	cluster_sql(&cluster, 0, "INSERT OR REPLACE INTO user(mail, n) VALUES('a', 1)");
	cluster_run(&cluster, 3000);
	assert_true(cluster_settle(&cluster, 5000));
	expect_rows(1, "SELECT * FROM user ORDER BY 1", "|2|'b'|NULL\n|3|'a'|1\n");
	cluster_sql(&cluster, 1, "UPDATE OR REPLACE user SET mail = 'b' WHERE id = 3");
	cluster_run(&cluster, 3000);
	assert_true(cluster_settle(&cluster, 5000));
	expect_rows(0, "SELECT * FROM user ORDER BY 1", "|3|'b'|1\n");
	assert_true(cluster_equal(&cluster));
	cluster_deinit(&cluster);
}

/* Captured on its own, pushed out before it was frozen: no trigger tells, and its values are gone.
 */
static void a_row_that_is_replaced_before_it_was_frozen_stops_nothing(void **state)
{
	(void)state;
	begin_with(12, 2,
		   "CREATE TABLE user(name TEXT PRIMARY KEY, mail TEXT UNIQUE) WITHOUT ROWID");
	cluster_sql(&cluster, 1, "INSERT INTO user VALUES('first', 'm')");
	cluster_run(&cluster, 1500); /* seen, and kept until somebody is there */
	cluster_sql(&cluster, 1, "INSERT OR REPLACE INTO user VALUES('second', 'm')");
	cluster_run(&cluster, 1500);
	cluster_connect(&cluster, 0, 1);
	cluster_run(&cluster, 3000);
	assert_true(cluster_settle(&cluster, 5000));
	expect_rows(0, "SELECT * FROM user", "|'second'|'m'\n");
	assert_true(cluster_equal(&cluster));
	cluster_deinit(&cluster);
}

/* R59: changes of a table that a node does not have are kept, and applied after its migration. */
static void r59_a_table_that_comes_later_gets_all_that_came_before(void **state)
{
	(void)state;
	begin(8, 2);
	cluster_connect(&cluster, 0, 1);
	assert_true(cluster_settle(&cluster, 5000));
	cluster_sql(&cluster, 0,
		    "CREATE TABLE late(id INTEGER PRIMARY KEY, body TEXT);"
		    "INSERT INTO late(body) VALUES('first'),('second')");
	enable(0, "late");
	assert_true(cluster_settle(&cluster, 5000));
	cluster_sql(&cluster, 0,
		    "UPDATE late SET body = 'changed' WHERE id = 2;"
		    "DELETE FROM late WHERE id = 1; INSERT INTO late VALUES(7,'x')");
	assert_true(cluster_settle(&cluster, 5000));
	assert_true(waiting(1) > 0);
	cluster_kill(&cluster, 1);
	cluster_start(&cluster, 1);
	cluster_sql(&cluster, 1, "CREATE TABLE late(id INTEGER PRIMARY KEY, body TEXT)");
	cluster_connect(&cluster, 0, 1);
	cluster_run(&cluster, 50);
	assert_true(cluster_settle(&cluster, 5000));
	assert_int_equal(waiting(1), 0);
	expect_rows(1, "SELECT * FROM late ORDER BY 1", "|2|'changed'\n|7|'x'\n");
	cluster_sql(&cluster, 1, "INSERT INTO late VALUES(8,'back')");
	assert_true(cluster_settle(&cluster, 5000));
	assert_true(cluster_equal(&cluster));
	cluster_deinit(&cluster);
}

static void r59_a_column_that_comes_later_gets_all_that_came_before(void **state)
{
	(void)state;
	begin(9, 2);
	cluster_connect(&cluster, 0, 1);
	assert_true(cluster_settle(&cluster, 5000));
	cluster_sql(&cluster, 0,
		    "ALTER TABLE item ADD COLUMN colour TEXT;"
		    "UPDATE item SET colour = 'red' WHERE code = 'a'");
	assert_true(cluster_settle(&cluster, 5000));
	assert_int_equal(waiting(1), 1);
	cluster_sql(&cluster, 1, "UPDATE item SET stock = 5 WHERE code = 'a'");
	assert_true(cluster_settle(&cluster, 5000));
	cluster_sql(&cluster, 1, "ALTER TABLE item ADD COLUMN colour TEXT");
	cluster_run(&cluster, 50);
	assert_true(cluster_settle(&cluster, 5000));
	assert_int_equal(waiting(1), 0);
	expect_rows(1, "SELECT code, stock, colour FROM item ORDER BY 1",
		    "|'a'|5|'red'\n|'b'|20|NULL\n");
	assert_true(cluster_equal(&cluster));
	cluster_deinit(&cluster);
}

/* Any row, any node, all at once, with cuts and kills. */
static void random_write(size_t node)
{
	uint64_t key = cluster_random(&cluster, 40), kind = cluster_random(&cluster, 10);
	char sql[256];

	if (kind < 4)
		(void)snprintf(sql, sizeof(sql),
			       "UPDATE item SET stock = %d, price = %d WHERE code = 'k%d'",
			       (int)cluster_random(&cluster, 100), (int)cluster_random(&cluster, 9),
			       (int)key);
	else if (kind < 6)
		(void)snprintf(sql, sizeof(sql),
			       "INSERT OR REPLACE INTO item VALUES('k%d','n%d',%d,1)", (int)key,
			       (int)cluster_random(&cluster, 9), (int)cluster_random(&cluster, 9));
	else if (kind < 7)
		(void)snprintf(sql, sizeof(sql), "DELETE FROM item WHERE code = 'k%d'", (int)key);
	else if (kind < 8)
		(void)snprintf(sql, sizeof(sql), "INSERT INTO note(text) VALUES('t%d')", (int)key);
	else if (kind < 9)
		(void)snprintf(sql, sizeof(sql), "UPDATE note SET text = 'u%d' WHERE id = %d",
			       (int)cluster_random(&cluster, 100), (int)key);
	else
		(void)snprintf(sql, sizeof(sql), "DELETE FROM note WHERE id = %d", (int)key);
	cluster_sql(&cluster, node, sql);
}

static void random_weather(void)
{
	size_t a = cluster_random(&cluster, cluster.count),
	       b = cluster_random(&cluster, cluster.count);

	if (a == b)
		return;
	if (!cluster.nodes[a].replica) {
		cluster_start(&cluster, a);
		return;
	}
	switch (cluster_random(&cluster, 8)) {
	case 0:
		cluster_kill(&cluster, a);
		break;
	case 1:
	case 2:
		cluster_disconnect(&cluster, a, b);
		break;
	default:
		if (cluster.nodes[b].replica)
			cluster_connect(&cluster, a, b);
	}
}

/* Keys and values of every kind. */
static const char zoo[] =
	"CREATE TABLE item(code TEXT PRIMARY KEY, name TEXT, price REAL, stock INTEGER);"
	"CREATE TABLE note(id INTEGER PRIMARY KEY, text TEXT);"
	"CREATE TABLE word(w TEXT COLLATE NOCASE PRIMARY KEY, v, n NUMERIC DEFAULT 7) WITHOUT ROWID;"
	"CREATE TABLE pair(a INTEGER, b TEXT, c BLOB, d REAL, PRIMARY KEY(a, b));"
	"CREATE TABLE auto(id INTEGER PRIMARY KEY AUTOINCREMENT, x, y TEXT NOT NULL DEFAULT 'd',"
	" z AS (x || y) STORED);"
	"CREATE TABLE strict(k BLOB PRIMARY KEY, i INT, r REAL, t TEXT, any ANY) STRICT;"
	"CREATE TABLE log(id INTEGER PRIMARY KEY, what TEXT);"
	"CREATE TRIGGER item_log AFTER UPDATE ON item BEGIN INSERT INTO log(what) VALUES(NEW.code); END;";

static const char *random_value(void)
{
	static const char *const values[] = {
		"NULL",
		"0",
		"-1",
		"9223372036854775807",
		"-9223372036854775808",
		"1.5",
		"-0.0",
		"9e999",
		"-9e999",
		"1e-310",
		"''",
		"'text'",
		"'TEXT'",
		"x''",
		"x'00ff00'",
		"'1'",
		"'1.0'",
		"1.0",
		"CAST(x'61ff62' AS TEXT)",
		"CAST(x'610062' AS TEXT)",
		"zeroblob(3000)",
		"'\xc3\xa4'",
	};

	return values[cluster_random(&cluster, sizeof(values) / sizeof(values[0]))];
}

static void random_zoo_write(size_t node)
{
	static const char *const words[] = {"a",	"A",	    "b", "B ",
					    "\xc3\x84", "\xc3\xa4", "1", "1.0"};
	const char *word = words[cluster_random(&cluster, 8)], *value = random_value();
	int key = (int)cluster_random(&cluster, 6), other = (int)cluster_random(&cluster, 6);
	char sql[400];

	switch (cluster_random(&cluster, 16)) {
	case 0:
		(void)snprintf(sql, sizeof(sql),
			       "INSERT OR REPLACE INTO word(w, v) VALUES('%s', %s)", word, value);
		break;
	case 1:
		(void)snprintf(sql, sizeof(sql), "UPDATE word SET n = %s WHERE w = '%s'", value,
			       word);
		break;
	case 2:
		(void)snprintf(sql, sizeof(sql), "UPDATE OR IGNORE word SET w = '%s' WHERE n = 7",
			       word);
		break;
	case 3:
		(void)snprintf(sql, sizeof(sql), "DELETE FROM word WHERE w = '%s'", word);
		break;
	case 4:
	case 5:
		(void)snprintf(sql, sizeof(sql),
			       "INSERT OR REPLACE INTO pair VALUES(%d, '%s', %s, %s)", key, word,
			       value, random_value());
		break;
	case 6:
		(void)snprintf(sql, sizeof(sql), "UPDATE OR REPLACE pair SET a = %d WHERE a = %d",
			       key, other);
		break;
	case 7:
		(void)snprintf(sql, sizeof(sql), "DELETE FROM pair WHERE a = %d AND b > '%s'", key,
			       word);
		break;
	case 8:
	case 9:
		(void)snprintf(sql, sizeof(sql), "INSERT INTO auto(x) VALUES(%s)", value);
		break;
	case 10:
		(void)snprintf(sql, sizeof(sql), "UPDATE auto SET x = %s WHERE id %% 6 = %d", value,
			       key);
		break;
	case 11:
		(void)snprintf(sql, sizeof(sql), "DELETE FROM auto WHERE id %% 7 = %d", key);
		break;
	case 12:
		(void)snprintf(sql, sizeof(sql),
			       "UPDATE OR IGNORE auto SET id = id + %d WHERE id %% 5 = %d",
			       key * 100, other);
		break;
	case 13:
		(void)snprintf(sql, sizeof(sql),
			       "INSERT OR REPLACE INTO strict VALUES(x'0%d', %d, %d.5, 't', %s)",
			       key, other, key, value);
		break;
	case 14:
		(void)snprintf(sql, sizeof(sql),
			       "BEGIN; DELETE FROM strict WHERE k = x'0%d';"
			       " INSERT INTO strict(k, any) VALUES(x'0%d', %s); COMMIT",
			       key, key, value);
		break;
	default:
		(void)snprintf(sql, sizeof(sql),
			       "BEGIN; INSERT OR IGNORE INTO item(code) VALUES('%s');"
			       " UPDATE item SET name = %s WHERE code = '%s'; COMMIT",
			       word, value, word);
	}
	cluster_sql(&cluster, node, sql);
}

static void begin_with(uint64_t seed, size_t nodes, const char *sql)
{
	cluster_init(&cluster, seed);
	cluster_share(&cluster, sql);
	while (cluster.count < nodes)
		(void)cluster_join(&cluster);
}

/* Everything that is stored fits together: chains, signatures, rows and what is known of them. */
static void expect_verified(void)
{
	uint64_t changesets, rows;
	struct p2p_error err = {0};
	size_t i;

	for (i = 0; i < cluster.count; i++)
		if (p2p_replica_verify(cluster.nodes[i].replica, &changesets, &rows, &err))
			fail_msg("node %zu: %s", i, err.msg);
}

static void storm(uint64_t seed, size_t writes, const char *sql, void (*write)(size_t node))
{
	size_t i;

	begin_with(seed, 3 + seed % 2, sql);
	cluster.delay_ms = seed % 7;
	cluster_connect_all(&cluster);
	for (i = 0; i < writes; i++) {
		write(cluster_random(&cluster, cluster.count));
		if (cluster_random(&cluster, 10) == 0)
			random_weather();
		cluster_run(&cluster, cluster_random(&cluster, 6));
	}
	for (i = 0; i < cluster.count; i++)
		if (!cluster.nodes[i].replica)
			cluster_start(&cluster, i);
	cluster_connect_all(&cluster);
	if (!cluster_settle(&cluster, 30000) || !cluster_equal(&cluster)) {
		(void)fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
		fail();
	}
	expect_verified();
	cluster_deinit(&cluster);
}

/* CLUSTER_SEED=N repeats one. */
static void storms(uint64_t first, uint64_t count, const char *sql, void (*write)(size_t node))
{
	const char *one = getenv("CLUSTER_SEED");
	uint64_t seed;

	if (one) {
		storm(strtoull(one, NULL, 10), 200, sql, write);
		return;
	}
	for (seed = first; seed < first + count; seed++)
		storm(seed, 200, sql, write);
}

static void r05_all_are_equal_after_a_storm(void **state)
{
	(void)state;
	storms(100, 12, shop, random_write);
}

static void r05_keys_and_values_of_every_kind_are_equal_after_a_storm(void **state)
{
	(void)state;
	storms(200, 12, zoo, random_zoo_write);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(joiner_gets_the_rows_that_were_there),
		cmocka_unit_test(writes_cross_both_ways),
		cmocka_unit_test(r25_ten_thousand_updates_of_one_cell_travel_as_one_row),
		cmocka_unit_test(level_peers_know_of_one_another_that_they_are),
		cmocka_unit_test(a_clock_that_jumps_is_seen_on_both_sides),
		cmocka_unit_test(a_write_right_after_a_jump_of_the_clock_is_taken_when_it_is_right),
		cmocka_unit_test(the_same_number_on_two_nodes_is_two_rows),
		cmocka_unit_test(a_killed_node_goes_on_where_it_was),
		cmocka_unit_test(a_rolled_back_disk_takes_a_new_replica_id_and_loses_nothing),
		cmocka_unit_test(a_node_that_forked_itself_goes_on_under_a_new_replica_id),
		cmocka_unit_test(a_new_replica_id_leaves_no_row_at_a_number_that_is_not_its_own),
		cmocka_unit_test(a_restored_database_gets_its_own_writes_back),
		cmocka_unit_test(a_row_that_is_replaced_through_a_unique_index_goes_everywhere),
		cmocka_unit_test(a_row_that_is_replaced_before_it_was_frozen_stops_nothing),
		cmocka_unit_test(r59_a_table_that_comes_later_gets_all_that_came_before),
		cmocka_unit_test(r59_a_column_that_comes_later_gets_all_that_came_before),
		cmocka_unit_test(r05_all_are_equal_after_a_storm),
		cmocka_unit_test(r05_keys_and_values_of_every_kind_are_equal_after_a_storm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
