/* The applications: ordinary SQL on the same file, by a program that knows nothing of the node. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/property/sheet.h"
#include "tests/sim/sim.h"

const char sim_schema[] =
	"CREATE TABLE word(k TEXT COLLATE NOCASE, part INTEGER, v, note TEXT DEFAULT 'none',"
	" PRIMARY KEY(k, part));"
	"CREATE TABLE item(id INTEGER PRIMARY KEY, a, b TEXT DEFAULT 'b');"
	"CREATE TABLE pair(a, b, PRIMARY KEY(a, b)) WITHOUT ROWID;"
	"CREATE TABLE user(name TEXT PRIMARY KEY, mail UNIQUE, x, y, UNIQUE(x, y)) WITHOUT ROWID;"
	"CREATE TABLE card(id INTEGER PRIMARY KEY, code UNIQUE, v);"
	/* one row for each commit, by its writer, never touched again */
	"CREATE TABLE ledger(id TEXT PRIMARY KEY, who INTEGER, n INTEGER) WITHOUT ROWID;";

struct sim_host *sim_app_current;

const char *sim_schema_constraints(void)
{
	static char schema[4096];

	(void)snprintf(schema, sizeof(schema), "%s%s", sim_schema, sheet_sql);
	return schema;
}

static uint64_t pick(struct sim_host *host, uint64_t below)
{
	return sim_next(&host->app_random) % below;
}

void sim_app_open(struct sim_host *host)
{
	unsigned int before = faultdisk_owner(FAULTDISK_APP);

	if (sqlite3_open(host->db, &host->app) != SQLITE_OK ||
	    sqlite3_exec(host->app,
			 host->app_full_sync
				 ? "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL"
				 : "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL",
			 NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_busy_timeout(host->app, 100) != SQLITE_OK ||
	    /* many applications never turn them on */
	    sqlite3_exec(host->app,
			 host->index % 3 || host->sim->plan.enforced ? "PRAGMA foreign_keys = ON"
								     : "PRAGMA foreign_keys = OFF",
			 NULL, NULL, NULL) != SQLITE_OK) {
		/* a disk that fails: the next write tries again */
		(void)sqlite3_close(host->app);
		host->app = NULL;
	}
	(void)faultdisk_owner(before);
}

void sim_app_close(struct sim_host *host)
{
	if (sqlite3_close(host->app) != SQLITE_OK)
		sim_fail(host->sim, "host %zu: the application does not close", host->index);
	host->app = NULL;
	if (sqlite3_close(host->eye) != SQLITE_OK)
		sim_fail(host->sim, "host %zu: the reader does not close", host->index);
	host->eye = NULL;
	host->app_holds = false;
}

/* --- the ledger ------------------------------------------------------------------------------- */

static uint64_t ledger_take(struct sim_host *host)
{
	uint64_t n = host->ledger_next++;

	if (n >= host->ledger_cap) {
		size_t cap = host->ledger_cap ? host->ledger_cap * 2 : 64;

		host->ledger = realloc(host->ledger, cap);
		if (!host->ledger)
			sim_fail(host->sim, "out of memory");
		memset(host->ledger + host->ledger_cap, 0, cap - host->ledger_cap);
		host->ledger_cap = cap;
	}
	return n;
}

/* --- random statements ------------------------------------------------------------------------ */

/* Everything that a statement may need, drawn in one order: compilers evaluate arguments in any. */
struct pieces {
	unsigned int kind, numbers[2];
	const char *value, *word, *smalls[3];
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void pieces_draw(struct sim_host *host, struct pieces *out)
{
	static const char *const values[] = {
		"NULL",
		"0",
		"1",
		"2",
		"-9223372036854775808",
		"9223372036854775807",
		"1.5",
		"-0.0",
		"x''",
		"x'00ff'",
		"'text'",
		"''",
		"'a b'",
		"9e99",
		"12345",
		"randomblob(40)",
	};
	static const char *const words[] = {"a", "B", "b", "A", "word", "x y"};
	static const char *const smalls[] = {"NULL", "0", "1", "2", "3"};
	size_t i;

	out->kind = (unsigned int)pick(host, 60);
	for (i = 0; i < COUNT(out->numbers); i++)
		out->numbers[i] = (unsigned int)pick(host, 5);
	out->value = values[pick(host, COUNT(values))];
	out->word = words[pick(host, COUNT(words))];
	for (i = 0; i < COUNT(out->smalls); i++)
		out->smalls[i] = smalls[pick(host, COUNT(smalls))];
}

static void word_statement(const struct pieces *p, char *out, size_t size)
{
	switch (p->kind % 4) {
	case 0:
		(void)snprintf(out, size, "DELETE FROM word WHERE k = '%s' AND part = %u", p->word,
			       p->numbers[0]);
		return;
	case 1:
		(void)snprintf(out, size, "UPDATE word SET v = %s WHERE part = %u", p->value,
			       p->numbers[0]);
		return;
	case 2:
		(void)snprintf(out, size, "UPDATE word SET note = 'n%u', v = %s WHERE k = '%s'",
			       p->numbers[0], p->value, p->word);
		return;
	default:
		(void)snprintf(out, size,
			       "INSERT OR REPLACE INTO word(k, part, v) VALUES('%s', %u, %s)",
			       p->word, p->numbers[0], p->value);
	}
}

static void item_statement(const struct pieces *p, char *out, size_t size)
{
	switch (p->kind % 6) {
	case 0:
		(void)snprintf(out, size, "DELETE FROM item WHERE id %% 7 = %u", p->numbers[0]);
		return;
	case 1:
	case 2:
		(void)snprintf(out, size, "UPDATE item SET a = %s WHERE id %% 5 = %u", p->value,
			       p->numbers[0]);
		return;
	case 3:
		(void)snprintf(out, size, "INSERT OR IGNORE INTO item VALUES(%u, %s, 'i')",
			       p->numbers[0], p->value);
		return;
	default:
		(void)snprintf(out, size, "INSERT INTO item(a) VALUES(%s)", p->value);
	}
}

static void pair_statement(const struct pieces *p, char *out, size_t size)
{
	if (p->kind % 3 == 0)
		(void)snprintf(out, size, "DELETE FROM pair WHERE a = %u", p->numbers[0]);
	else if (p->kind % 5 == 0)
		(void)snprintf(out, size, "UPDATE OR IGNORE pair SET b = %u WHERE a = %u",
			       p->numbers[0], p->numbers[1]);
	else
		(void)snprintf(out, size, "INSERT OR IGNORE INTO pair VALUES(%u, '%s')",
			       p->numbers[0], p->word);
}

static void user_statement(const struct pieces *p, char *out, size_t size)
{
	if (p->kind % 5 == 0)
		(void)snprintf(out, size, "DELETE FROM user WHERE name = '%s'", p->word);
	else if (p->kind % 3 == 0)
		(void)snprintf(out, size,
			       "UPDATE OR IGNORE user SET x = %s, y = %s WHERE mail = %u",
			       p->smalls[0], p->smalls[1], p->numbers[0]);
	else
		(void)snprintf(out, size, "INSERT OR %s INTO user VALUES('%s', %s, %s, %s)",
			       p->kind % 2 ? "IGNORE" : "REPLACE", p->word, p->smalls[0],
			       p->smalls[1], p->smalls[2]);
}

static void card_statement(const struct pieces *p, char *out, size_t size)
{
	if (p->kind % 5 == 0)
		(void)snprintf(out, size, "DELETE FROM card WHERE code = %u", p->numbers[0]);
	else if (p->kind % 3 == 0)
		(void)snprintf(out, size, "UPDATE OR IGNORE card SET code = %s, v = %s",
			       p->smalls[0], p->value);
	else
		(void)snprintf(out, size, "INSERT OR IGNORE INTO card(code, v) VALUES(%s, %s)",
			       p->smalls[0], p->value);
}

/* SQLite itself leaves a reference to nobody, foreign_keys on, where an UPDATE OR REPLACE pushes
 * out the row that the changed one refers to: SET NULL is done first, the old reference written
 * after. */
static void left_whole(char *sql)
{
	static const char replace[] = "UPDATE OR REPLACE person";
	static const char ignore[] = "UPDATE OR IGNORE  person";

	if (strncmp(sql, replace, sizeof(replace) - 1) == 0)
		memcpy(sql, ignore, sizeof(ignore) - 1);
}

static void statement(struct sim_host *host, char *out, size_t size)
{
	static void (*const kinds[])(const struct pieces *, char *,
				     size_t) = {word_statement, item_statement, pair_statement,
						user_statement, card_statement};
	struct pieces pieces;

	if (host->sim->plan.constraints && pick(host, 4)) {
		sheet_statement(&host->app_random, out, size);
		if (host->sim->plan.enforced)
			left_whole(out);
		return;
	}
	pieces_draw(host, &pieces);
	kinds[pick(host, COUNT(kinds))](&pieces, out, size);
}

/* --- transactions ----------------------------------------------------------------------------- */

static int run(struct sim_host *host, const char *sql)
{
	int rc;

	sim_app_current = host;
	rc = sqlite3_exec(host->app, sql, NULL, NULL, NULL);
	sim_app_current = NULL;
	sim_note(host->sim, 3, "host %zu: %s%s%s", host->index, sql, rc ? ": " : "",
		 rc ? sqlite3_errmsg(host->app) : "");
	return rc;
}

static void watch_event(struct sim *sim, void *ctx, uint64_t arg)
{
	struct sim_host *host = ctx;

	(void)arg;
	if (host->node && host->paused_until_ms <= sim->now_ms)
		sim_host_watch(host);
}

static void finish(struct sim_host *host, int rc, uint64_t n)
{
	struct sim *sim = host->sim;
	bool tried = rc == SQLITE_OK;

	if (tried)
		rc = run(host, "COMMIT");
	if (rc) {
		sim->stats.failed_commits++;
		/* a commit that fails for the disk's sake may be there all the same */
		host->ledger[n] = tried && (rc & 0xff) != SQLITE_BUSY ? 2 : 0;
		if (!sqlite3_get_autocommit(host->app))
			(void)run(host, "ROLLBACK");
	} else {
		sim->stats.commits++;
		host->ledger[n] = 1;
		if (!sim_strikes(sim, SIM_WATCH_LOST))
			sim_at(sim, sim->now_ms + sim_draw(sim, 3), watch_event, host, 0);
	}
	sim_host_check_dead(host);
}

static int ledger_row(struct sim_host *host, uint64_t n)
{
	char sql[100];

	(void)snprintf(sql, sizeof(sql), "INSERT INTO ledger VALUES('%zu-%llu', %zu, %llu)",
		       host->index, (unsigned long long)n, host->index, (unsigned long long)n);
	return run(host, sql);
}

static int write_some(struct sim_host *host, uint64_t n)
{
	char sql[SHEET_SQL_BYTES];
	uint64_t count = pick(host, 8) == 0 ? 20 : 1 + pick(host, 4), i;
	int rc = run(host, pick(host, 2) ? "BEGIN" : "BEGIN IMMEDIATE");

	for (i = 0; rc == SQLITE_OK && i < count; i++) {
		statement(host, sql, sizeof(sql));
		rc = run(host, sql);
		if ((rc & 0xff) == SQLITE_CONSTRAINT)
			rc = SQLITE_OK; /* that statement did nothing */
	}
	if (rc == SQLITE_OK && pick(host, 16) < host->sim->plan.big_texts) {
		(void)snprintf(sql, sizeof(sql), "INSERT INTO item(a) VALUES(randomblob(%u))",
			       66000 + (unsigned int)pick(host, 300000));
		rc = run(host, sql);
	}
	return rc == SQLITE_OK ? ledger_row(host, n) : rc;
}

static bool may_write(struct sim_host *host)
{
	if (host->paused_until_ms > host->sim->now_ms || !host->joined || host->app_holds)
		return false;
	/* after a power cut it may come before its node */
	if (!host->app &&
	    (host->node || (host->app_boot_ms && host->app_boot_ms <= host->sim->now_ms)))
		sim_app_open(host);
	return host->app != NULL;
}

void sim_app_write(struct sim_host *host)
{
	uint64_t n;

	if (!may_write(host))
		return;
	n = ledger_take(host);
	finish(host, write_some(host, n), n);
}

bool sim_app_transaction(struct sim_host *host, const char *sql)
{
	uint64_t n;
	int rc;

	if (!may_write(host))
		return false;
	n = ledger_take(host);
	rc = run(host, "BEGIN IMMEDIATE");
	if (rc == SQLITE_OK)
		rc = run(host, sql);
	if (rc == SQLITE_OK)
		rc = ledger_row(host, n);
	finish(host, rc, n);
	return host->ledger[n] == 1;
}

/* The application may have died meanwhile, and hold another one. */
static void hold_end(struct sim *sim, void *ctx, uint64_t serial)
{
	struct sim_host *host = ctx;
	uint64_t n = host->hold_number;

	(void)sim;
	if (!host->app_holds || !host->app || serial != host->hold_serial)
		return;
	host->app_holds = false;
	if (n != UINT64_MAX)
		finish(host, SQLITE_OK, n);
	else
		(void)run(host, "COMMIT");
}

void sim_app_hold(struct sim_host *host, bool write, uint64_t ms)
{
	struct sim *sim = host->sim;
	uint64_t n;

	if (!may_write(host))
		return;
	if (write) {
		n = ledger_take(host);
		if (write_some(host, n) != SQLITE_OK) {
			finish(host, SQLITE_ERROR, n);
			return;
		}
	} else {
		n = UINT64_MAX;
		if (run(host, "BEGIN") != SQLITE_OK ||
		    run(host, "SELECT count(*) FROM ledger") != SQLITE_OK) {
			if (!sqlite3_get_autocommit(host->app))
				(void)run(host, "ROLLBACK");
			sim_host_check_dead(host);
			return;
		}
	}
	sim_count(sim, write ? SIM_APP_WRITER : SIM_APP_READER);
	host->app_holds = true;
	host->hold_number = n;
	sim_at(sim, sim->now_ms + ms, hold_end, host, ++host->hold_serial);
}
