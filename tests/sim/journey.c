/* One whole join-and-sync; see journey.h.
 *
 * Each transaction here writes the same value three times: in two rows of one table and in one of
 * another. An eye looks at the file whenever the node has let go of the write lock: if the three
 * ever differ, a part of a transaction was to be seen. */
#include "tests/sim/journey.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "node/node.h"

#define POLL_MS	 50
#define AGAIN_MS 250
/* Dead sessions are noticed in 15 s and dialled again within 30 s; a join asks again as slowly. */
#define LIMIT_MS 300000
#define TRIES	 400

/* --- the eye ---------------------------------------------------------------------------------- */

/* Triples that are not whole, and how many there are. */
static const char eye_sql[] =
	"SELECT count(*) FILTER (WHERE w.n <> 2 OR w.low IS NOT w.high OR i.a IS NOT w.low),"
	" (SELECT count(*) FROM item WHERE b NOT IN (SELECT k FROM word))"
	" FROM (SELECT k, count(*) AS n, min(v) AS low, max(v) AS high FROM word GROUP BY k) w"
	" LEFT JOIN item i ON i.b = w.k";

static void eye_look(struct sim_host *host)
{
	sqlite3_stmt *stmt = NULL;

	if (!host->eye && sqlite3_open(host->db, &host->eye) != SQLITE_OK) {
		(void)sqlite3_close(host->eye);
		host->eye = NULL;
		return;
	}
	if (sqlite3_prepare_v2(host->eye, eye_sql, -1, &stmt, NULL) == SQLITE_OK &&
	    sqlite3_step(stmt) == SQLITE_ROW) {
		host->sim->stats.looks++;
		if (sqlite3_column_int64(stmt, 0) || sqlite3_column_int64(stmt, 1))
			sim_fail(host->sim, "host %zu: a part of a transaction is to be seen",
				 host->index);
	}
	(void)sqlite3_finalize(stmt); /* no such table yet, or the file is busy */
}

static void eye_committed(void *ctx, const char *path)
{
	struct sim_host *host = ctx;
	size_t len = strlen(path);
	unsigned int owner;
	bool inside;

	if (len < 7 || strcmp(path + len - 7, "/app.db") != 0)
		return;
	inside = sim_inside(false);
	owner = faultdisk_owner(FAULTDISK_EYE);
	eye_look(host);
	(void)faultdisk_owner(owner);
	(void)sim_inside(inside);
}

/* --- steps ------------------------------------------------------------------------------------ */

struct teller {
	struct sim *sim;
	const struct journey *journey;
};

static void step(struct teller *teller, uint64_t ms)
{
	struct sim *sim = teller->sim;
	size_t i;

	sim_run_checked(sim, sim->now_ms + ms);
	for (i = 0; i < sim->count; i++) {
		struct sim_host *host = &sim->hosts[i];

		if (!host->refused)
			continue;
		if (-host->refused > 0 && -host->refused < SIM_CODES)
			sim->stats.refused[-host->refused]++;
		teller->journey->refused(teller->journey->ctx, host, host->refused);
		host->refused = 0;
	}
}

static void wait_for(struct teller *teller, bool (*holds)(struct sim *sim, char *why, size_t size),
		     const char *what)
{
	uint64_t end = teller->sim->now_ms + LIMIT_MS;
	char why[300] = "";

	while (!holds(teller->sim, why, sizeof(why))) {
		if (teller->sim->now_ms >= end)
			sim_fail(teller->sim, "%s: not in time: %s", what, why);
		step(teller, POLL_MS);
	}
	sim_note(teller->sim, 1, "journey: %s", what);
}

static bool all_run(struct sim *sim, char *why, size_t size)
{
	size_t i;

	for (i = 0; i < sim->count; i++)
		if (!sim->hosts[i].node || !sim->hosts[i].joined) {
			(void)snprintf(why, size, "host %zu is %s", i,
				       sim->hosts[i].node ? "no member" : "down");
			return false;
		}
	return true;
}

/* The first two have a session. */
static bool meet(struct sim *sim, char *why, size_t size)
{
	uint32_t peer;

	if (!all_run(sim, why, size))
		return false;
	(void)snprintf(why, size, "no session");
	return sim_check_peer(&sim->hosts[0], &sim->hosts[1].node->keys.node, &peer) &&
	       sim_check_peer(&sim->hosts[1], &sim->hosts[0].node->keys.node, &peer);
}

static void write_sql(struct teller *teller, size_t who, const char *sql)
{
	unsigned int tries;

	for (tries = 0; !sim_app_transaction(&teller->sim->hosts[who], sql); tries++) {
		if (tries == TRIES)
			sim_fail(teller->sim, "host %zu cannot write", who);
		step(teller, AGAIN_MS);
	}
}

/* Safe to repeat: the triple has this value afterwards. */
static void write_triple(struct teller *teller, size_t who, const char *name, int number, int value)
{
	char sql[500];

	(void)snprintf(
		sql, sizeof(sql),
		"INSERT INTO word(k, part, v) VALUES('%s', 0, %d), ('%s', 1, %d)"
		" ON CONFLICT(k, part) DO UPDATE SET v = excluded.v;"
		"UPDATE item SET a = %d WHERE b = '%s';"
		"INSERT INTO item(id, a, b)"
		" SELECT (SELECT %d WHERE NOT EXISTS (SELECT 1 FROM item WHERE id = %d)), %d, '%s'"
		" WHERE NOT EXISTS (SELECT 1 FROM item WHERE b = '%s');",
		name, value, name, value, value, name, number, number, value, name, name);
	write_sql(teller, who, sql);
}

static void drop_triple(struct teller *teller, size_t who, const char *name)
{
	char sql[200];

	(void)snprintf(sql, sizeof(sql),
		       "DELETE FROM word WHERE k = '%s'; DELETE FROM item WHERE b = '%s'", name,
		       name);
	write_sql(teller, who, sql);
}

static struct sim_host *add_host(struct teller *teller)
{
	struct sim *sim = teller->sim;
	struct sim_host *host = &sim->hosts[sim->count];

	sim_host_init(sim, host, sim->count);
	host->app_full_sync = true;
	host->disk.ctx = host;
	host->disk.committed = eye_committed;
	teller->journey->ready(teller->journey->ctx, host);
	sim->count++;
	return host;
}

static bool has_schema(const struct sim_host *host)
{
	return host->app && sqlite3_exec(host->app, "SELECT count(*) FROM ledger", NULL, NULL,
					 NULL) == SQLITE_OK;
}

static void make_tables(struct teller *teller, struct sim_host *host)
{
	unsigned int tries;
	char sql[2000];

	(void)snprintf(sql, sizeof(sql), "BEGIN; %s COMMIT;", sim_schema);
	for (tries = 0; !has_schema(host); tries++) {
		if (tries == TRIES)
			sim_fail(teller->sim, "host %zu gets no tables", host->index);
		if (!host->app)
			sim_app_open(host);
		if (host->app && sqlite3_exec(host->app, sql, NULL, NULL, NULL) != SQLITE_OK &&
		    !sqlite3_get_autocommit(host->app))
			(void)sqlite3_exec(host->app, "ROLLBACK", NULL, NULL, NULL);
		sim_host_check_dead(host);
		/* an application that died starts again with its node: not yet */
		host->restart_at_ms = 0;
		if (!has_schema(host))
			step(teller, AGAIN_MS);
	}
	host->joined = true;
}

static void found(struct teller *teller)
{
	struct sim *sim = teller->sim;
	struct sim_host *host = add_host(teller);

	make_tables(teller, host);
	/* a machine that stops from now on starts with its node */
	host->founder = true;
	write_triple(teller, 0, "p1", 1, 1);
	write_triple(teller, 0, "p2", 2, 1);
	write_sql(teller, 0, "INSERT OR IGNORE INTO card(code, v) VALUES(1, 'one')");
	if (!host->node) {
		host->joined = false;
		host->restart_at_ms = sim->now_ms;
	}
	wait_for(teller, all_run, "shared");
	host->founder = false;
}

static bool try_invite(struct sim_host *host)
{
	char error[300] = "", *ticket = NULL;
	bool inside;
	int rc;

	if (!host->node)
		return false;
	sim_host_current = host;
	inside = sim_inside(true);
	rc = p2p_node_invite(host->node, JOURNEY_HOSTS, 86400000ull, NULL, 0, &ticket, error,
			     sizeof(error));
	(void)sim_inside(inside);
	sim_host_check_dead(host);
	if (rc) {
		sim_note(host->sim, 1, "host %zu cannot invite: %d %s", host->index, rc, error);
		host->refused = rc;
		return false;
	}
	(void)snprintf(host->sim->ticket, sizeof(host->sim->ticket), "%s", ticket);
	p2p_node_free(ticket);
	host->dirty = true;
	return true;
}

static void invite(struct teller *teller)
{
	unsigned int tries;

	for (tries = 0; !try_invite(&teller->sim->hosts[0]); tries++) {
		if (tries == TRIES)
			sim_fail(teller->sim, "no ticket");
		step(teller, AGAIN_MS);
	}
}

static void join(struct teller *teller)
{
	struct sim_host *host = add_host(teller);

	host->restart_at_ms = teller->sim->now_ms;
	wait_for(teller, all_run, "joined");
	wait_for(teller, sim_check_level, "level after the join");
}

/* Both at once, before one can hear of the other. */
static void conflict(struct teller *teller)
{
	write_triple(teller, 0, "p1", 1, 100);
	write_triple(teller, 1, "p1", 1, 200);
	drop_triple(teller, 0, "p2");
	write_triple(teller, 1, "p2", 2, 300);
	write_triple(teller, 0, "p4", 4, 4);
	write_triple(teller, 1, "q4", 4, 5);
	write_sql(teller, 0, "INSERT OR IGNORE INTO user VALUES('a', 1, 0, 0)");
	write_sql(teller, 1, "INSERT OR IGNORE INTO user VALUES('b', 1, 2, 2)");
	wait_for(teller, sim_check_level, "level after a conflict");
}

static void restart(struct teller *teller)
{
	struct sim_host *host = &teller->sim->hosts[1];

	if (host->node)
		sim_host_stop(host);
	sim_host_check_dead(host);
	write_triple(teller, 0, "p1", 1, 400);
	step(teller, AGAIN_MS);
	if (!host->node)
		host->restart_at_ms = teller->sim->now_ms;
	wait_for(teller, sim_check_level, "level after a stop and a start");
}

void journey_run(struct sim *sim, const struct journey *journey)
{
	struct teller teller = {sim, journey};

	found(&teller);
	invite(&teller);
	join(&teller);
	write_triple(&teller, 1, "q1", 3, 7);
	write_triple(&teller, 0, "p3", 5, 8);
	write_sql(&teller, 1, "INSERT OR IGNORE INTO pair VALUES(1, 'a')");
	wait_for(&teller, sim_check_level, "level, both ways");
	join(&teller);
	write_triple(&teller, 2, "r1", 6, 9);
	conflict(&teller);
	sim_network_cut(&sim->hosts[1], false);
	wait_for(&teller, meet, "met again");
	wait_for(&teller, sim_check_level, "level, nothing new");
	restart(&teller);
	wait_for(&teller, meet, "met after the stop");
}
