/* What an application pays for being replicated, beside plain SQLite in the same run: bench_capture
 * [ROWS]
 *
 * The same statements, prepared once, on two files with the same pragmas: one plain, one shared.
 * 100 000 rows in one transaction, then 1-row transactions; INSERT, UPDATE, DELETE. Then how fast
 * what was written is captured, signed and made durable, and how many bytes it takes. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "tests/support/cluster.h"

static const char schema[] =
	"PRAGMA journal_mode = WAL;"
	"CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, price REAL, note TEXT);"
	"CREATE TABLE word(k TEXT PRIMARY KEY, a INTEGER, b TEXT);";

static double seconds(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void run(sqlite3 *db, const char *sql)
{
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		cluster_fail(sql, P2P_EIO, sqlite3_errmsg(db));
}

/* Seconds for `rows` runs of a statement whose parameters are the row's number, twice. */
static double work(sqlite3 *db, const char *sql, int rows, bool each)
{
	sqlite3_stmt *stmt;
	double begun;
	int i;

	if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
		cluster_fail(sql, P2P_EIO, sqlite3_errmsg(db));
	begun = seconds();
	if (!each)
		run(db, "BEGIN");
	for (i = 1; i <= rows; i++) {
		(void)sqlite3_bind_int(stmt, 1, i);
		(void)sqlite3_bind_int(stmt, 2, i * 7 % 1000);
		if (sqlite3_step(stmt) != SQLITE_DONE)
			cluster_fail(sql, P2P_EIO, sqlite3_errmsg(db));
		(void)sqlite3_reset(stmt);
	}
	if (!each)
		run(db, "COMMIT");
	begun = seconds() - begun;
	(void)sqlite3_finalize(stmt);
	return begun;
}

struct line {
	const char *what, *sql;
	bool each;
};

static const struct line lines[] = {
	{"INSERT, one transaction",
	 "INSERT INTO item VALUES(?1, 'item ' || ?1, ?2 / 10.0, 'a note of ordinary length')",
	 false},
	{"INSERT, text key",
	 "INSERT INTO word VALUES('word ' || ?1, ?2, 'some text of ordinary length')", false},
	{"UPDATE, one transaction", "UPDATE item SET price = ?2 WHERE id = ?1", false},
	{"UPDATE, text key", "UPDATE word SET a = ?2 + 1 WHERE k = 'word ' || ?1", false},
	{"DELETE, one transaction", "DELETE FROM item WHERE id = ?1 AND ?2 >= 0", false},
	{"INSERT, each row a transaction",
	 "INSERT INTO item VALUES(?1, 'item ' || ?1, ?2 / 10.0, 'a note of ordinary length')",
	 true},
	{"UPDATE, each row a transaction", "UPDATE item SET price = ?2 WHERE id = ?1", true},
};

static double freeze(struct cluster *cluster)
{
	struct p2p_error err = {0};
	double begun = seconds();

	if (p2p_replica_freeze(cluster->nodes[0].replica, &err))
		cluster_fail("freeze", err.code, err.msg);
	return seconds() - begun;
}

static double kib(const char *dir, const char *name)
{
	char path[256];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	return stat(path, &st) == 0 ? (double)st.st_size / 1024 : 0;
}

#define WAITING_WRITES 50

/* Time to seal a transaction of one row, in ms, while so many rows of the table wait for a value
 * that another has. */
static double waiting(unsigned rows, const char *before, const char *after)
{
	static struct cluster cluster;
	double took = 0;
	char text[512];
	unsigned i;

	cluster_init(&cluster, 2);
	cluster_share(&cluster, "CREATE TABLE t(id TEXT PRIMARY KEY, u UNIQUE, v UNIQUE)");
	(void)cluster_join(&cluster);
	for (i = 0; i < 2 && rows; i++) {
		(void)snprintf(text, sizeof(text),
			       "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n"
			       " WHERE i < %u) INSERT INTO t SELECT '%u ' || i, i, NULL FROM n",
			       rows, i);
		cluster_sql(&cluster, i, text);
	}
	cluster_connect_all(&cluster);
	if (!cluster_settle(&cluster, 600000))
		cluster_fail("settle", P2P_EIO, "rows that wait");
	cluster_disconnect(&cluster, 0, 1);
	cluster_sql(&cluster, 0,
		    "INSERT INTO t SELECT 'own ' || value, NULL, value FROM"
		    " json_each('[1,2,3,4,5,6,7,8,9]')");
	(void)freeze(&cluster);
	for (i = 0; i < WAITING_WRITES; i++) {
		(void)snprintf(text, sizeof(text), "%s%u%s", before, i + 10, after);
		cluster_sql(&cluster, 0, text);
		took += freeze(&cluster);
	}
	cluster_deinit(&cluster);
	return took * 1000 / WAITING_WRITES;
}

int main(int argc, char **argv)
{
	int rows = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 100000;
	static struct cluster cluster;
	char path[160];
	sqlite3 *plain;
	unsigned waits;
	size_t i;

	cluster_init(&cluster, 1);
	cluster_share(&cluster, schema);
	(void)snprintf(path, sizeof(path), "%s/plain.db", cluster.nodes[0].dir);
	if (sqlite3_open(path, &plain) != SQLITE_OK)
		cluster_fail("open", P2P_EIO, path);
	run(plain, schema);
	run(plain, "PRAGMA synchronous = NORMAL");
	run(cluster.nodes[0].app, "PRAGMA synchronous = NORMAL");
	(void)printf("%-34s %12s %12s %8s %14s\n", "", "plain s", "shared s", "ratio",
		     "sealed rows/s");
	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		int count = lines[i].each ? rows / 10 : rows;
		double without = work(plain, lines[i].sql, count, lines[i].each);
		double with = work(cluster.nodes[0].app, lines[i].sql, count, lines[i].each);
		double sealing = freeze(&cluster);

		(void)printf("%-34s %12.3f %12.3f %8.2f %14.0f\n", lines[i].what, without, with,
			     with / without, count / sealing);
	}
	(void)printf(
		"log.db %.0f KiB, WAL of it %.0f KiB, shared file's WAL %.0f KiB, plain file %.0f KiB\n",
		kib(cluster.nodes[0].state, "log.db"), kib(cluster.nodes[0].state, "log.db-wal"),
		kib(cluster.nodes[0].dir, "app.db-wal"), kib(cluster.nodes[0].dir, "plain.db"));
	(void)sqlite3_close(plain);
	(void)remove(path);
	cluster_deinit(&cluster);
	for (waits = 0; waits <= 10000; waits = waits ? waits * 10 : 100)
		(void)printf("%5u rows wait: %.2f ms to seal an INSERT, %.2f ms an UPDATE of a "
			     "UNIQUE column\n",
			     waits, waiting(waits, "INSERT INTO t VALUES('new ", "', NULL, NULL)"),
			     waiting(waits, "UPDATE t SET v = ", " WHERE id = 'own 1'"));
	return 0;
}
