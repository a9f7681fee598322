/* The connection to log.db, its tables and settings; see sidelog.h. */
#include "crdt/sidelog.h"

#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>

#include "crdt/sidelog_private.h"
#include "proto/check.h"
#include "proto/mem.h"

#define SIDELOG_APPLICATION_ID 0x7032706c /* "p2pl" */
#define SIDELOG_FORMAT	       1
#define SIDELOG_BUSY_MS	       5000

// clang-format off
static const char sql_setup[] =
	"CREATE TABLE meta(k TEXT PRIMARY KEY, v BLOB NOT NULL) STRICT, WITHOUT ROWID;"
	"CREATE TABLE replica(number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE,"
	" seq INTEGER NOT NULL, head BLOB NOT NULL, stamp INTEGER NOT NULL) STRICT;"
	"CREATE TABLE changeset(id INTEGER PRIMARY KEY, hash BLOB NOT NULL, signature BLOB,"
	" stamp INTEGER NOT NULL, group_pos INTEGER NOT NULL, group_last INTEGER NOT NULL,"
	" total INTEGER NOT NULL, segments INTEGER NOT NULL, have INTEGER NOT NULL,"
	" journal INTEGER NOT NULL, header BLOB NOT NULL, body BLOB) STRICT;"
	"CREATE INDEX incomplete ON changeset(id) WHERE have < segments;"
	"CREATE TABLE segment(changeset INTEGER NOT NULL, n INTEGER NOT NULL, data BLOB NOT NULL,"
	" PRIMARY KEY(changeset, n)) STRICT;"
	"CREATE TABLE record(n INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, raw BLOB NOT NULL)"
	" STRICT;"
	"CREATE TABLE peer(node BLOB PRIMARY KEY, name TEXT NOT NULL, address TEXT NOT NULL,"
	" seen INTEGER NOT NULL, acked INTEGER NOT NULL) STRICT;"
	"CREATE TABLE seed(address TEXT PRIMARY KEY) STRICT;"
	"CREATE TABLE invite(id BLOB PRIMARY KEY, secret BLOB NOT NULL, uses INTEGER NOT NULL,"
	" expires INTEGER NOT NULL, role INTEGER NOT NULL) STRICT;";

static const char *const sql_texts[SIDELOG_COUNT] = {
	[SIDELOG_META_GET] = "SELECT v FROM meta WHERE k = ?1",
	[SIDELOG_META_SET] = "INSERT OR REPLACE INTO meta(k, v) VALUES(?1, ?2)",
	[SIDELOG_REPLICA_ADD] = "INSERT INTO replica VALUES(?1, ?2, 0, zeroblob(32), 0)",
	[SIDELOG_REPLICA_HEAD] =
		"UPDATE replica SET seq = ?2, head = ?3, stamp = ?4 WHERE number = ?1",
	[SIDELOG_CHANGE_PUT] =
		"INSERT INTO changeset VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
	[SIDELOG_CHANGE_GET] = "SELECT hash, signature, stamp, group_pos, group_last, total,"
			       " segments, have, journal, header FROM changeset WHERE id = ?1",
	[SIDELOG_CHANGE_PROGRESS] = "SELECT segments, have FROM changeset WHERE id = ?1",
	[SIDELOG_CHANGE_HAVE] = "UPDATE changeset SET have = ?2 WHERE id = ?1",
	[SIDELOG_CHANGE_BODY] = "SELECT body FROM changeset WHERE id = ?1 AND body NOT NULL",
	[SIDELOG_CHANGE_BODY_SET] = "UPDATE changeset SET have = 1, body = ?2 WHERE id = ?1",
	[SIDELOG_CHANGE_DROP] = "DELETE FROM changeset WHERE id >= ?1 AND id <= ?2",
	[SIDELOG_SEGMENT_PUT] = "INSERT INTO segment VALUES(?1, ?2, ?3)",
	[SIDELOG_SEGMENT_GET] = "SELECT data FROM segment WHERE changeset = ?1 AND n = ?2",
	[SIDELOG_SEGMENT_DROP] = "DELETE FROM segment WHERE changeset >= ?1 AND changeset <= ?2",
	[SIDELOG_NEXT_HAVE] = "SELECT hash, stamp, have >= segments FROM changeset WHERE id = ?1",
	[SIDELOG_STAGED] = "SELECT coalesce(sum(min(total, have * 65536)), 0) FROM changeset"
			   " WHERE have < segments",
	[SIDELOG_RECORD_PUT] = "INSERT OR IGNORE INTO record(hash, raw) VALUES(?1, ?2)",
	[SIDELOG_RECORD_EACH] = "SELECT raw FROM record ORDER BY n",
	[SIDELOG_PEER_PUT] = "INSERT OR REPLACE INTO peer VALUES(?1, ?2, ?3, ?4, ?5)",
	[SIDELOG_PEER_EACH] = "SELECT node, name, address, seen, acked FROM peer ORDER BY node",
	[SIDELOG_SEED_PUT] = "INSERT OR IGNORE INTO seed VALUES(?1)",
	[SIDELOG_SEED_EACH] = "SELECT address FROM seed ORDER BY address",
	[SIDELOG_INVITE_PUT] = "INSERT OR REPLACE INTO invite VALUES(?1, ?2, ?3, ?4, ?5)",
	[SIDELOG_INVITE_EACH] = "SELECT id, secret, uses, expires, role FROM invite ORDER BY id",
};
// clang-format on

/* --- errors and statements -------------------------------------------------------------------- */

static int sidelog_code(int sqlite_rc)
{
	switch (sqlite_rc & 0xff) {
	case SQLITE_NOMEM:
		return P2P_ENOMEM;
	case SQLITE_FULL:
		return P2P_EFULL;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_PROTOCOL: /* others took the locks of the WAL all the time */
		return P2P_EBUSY;
	case SQLITE_READONLY:
	case SQLITE_PERM:
		return P2P_EREADONLY;
	case SQLITE_NOTADB:
	case SQLITE_CORRUPT:
		return P2P_ECORRUPT;
	case SQLITE_TOOBIG:
		return P2P_ETOOBIG;
	default:
		return P2P_EIO;
	}
}

int sidelog_error(struct p2p_sidelog *log, int sqlite_rc, struct p2p_error *err, const char *what)
{
	int code = sidelog_code(sqlite_rc);

	return p2p_error_set(err, code, "%s the log '%s': %s", what, log->path,
			     log->db ? sqlite3_errmsg(log->db) : p2p_strerror(code));
}

int sidelog_statement(struct p2p_sidelog *log, enum sidelog_sql which, sqlite3_stmt **out)
{
	sqlite3_stmt **at = &log->statements[which];
	int rc = sidelog_reconnect(log, NULL);

	if (rc)
		return rc;
	rc = SQLITE_OK;
	if (!*at)
		rc = sqlite3_prepare_v3(log->db, sql_texts[which], -1, SQLITE_PREPARE_PERSISTENT,
					at, NULL);
	*out = *at;
	return rc == SQLITE_OK ? 0 : sidelog_error(log, rc, NULL, "read");
}

int sidelog_run(struct p2p_sidelog *log, sqlite3_stmt *stmt, const char *what)
{
	int step = sqlite3_step(stmt);
	int rc = step == SQLITE_DONE || step == SQLITE_ROW ? 0
							   : sidelog_error(log, step, NULL, what);

	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

int sidelog_row(struct p2p_sidelog *log, sqlite3_stmt *stmt)
{
	int step = sqlite3_step(stmt);

	if (step == SQLITE_ROW)
		return 0;
	return step == SQLITE_DONE ? P2P_ENOENT : sidelog_error(log, step, NULL, "read");
}

int sidelog_column(sqlite3_stmt *stmt, int column, void *out, size_t len)
{
	if ((size_t)sqlite3_column_bytes(stmt, column) != len)
		return P2P_ECORRUPT;
	memcpy(out, sqlite3_column_blob(stmt, column), len);
	return 0;
}

/* --- opening ---------------------------------------------------------------------------------- */

static int pragma_number(struct p2p_sidelog *log, const char *sql, int64_t *out)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(log->db, sql, -1, &stmt, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		*out = sqlite3_column_int64(stmt, 0);
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc == SQLITE_ROW ? SQLITE_OK : rc;
}

static int sidelog_exec(struct p2p_sidelog *log, const char *sql, struct p2p_error *err,
			const char *what)
{
	int rc = sqlite3_exec(log->db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : sidelog_error(log, rc, err, what);
}

static int sidelog_create(struct p2p_sidelog *log, struct p2p_error *err)
{
	char ids[128];
	int rc;

	(void)sqlite3_snprintf(sizeof(ids), ids,
			       "PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
			       SIDELOG_APPLICATION_ID, SIDELOG_FORMAT);
	rc = sidelog_exec(log, "BEGIN IMMEDIATE", err, "create");
	if (!rc)
		rc = sidelog_exec(log, sql_setup, err, "create");
	return rc ? rc : sidelog_exec(log, ids, err, "create");
}

/* Which log it is. */
static int sidelog_check(struct p2p_sidelog *log, struct p2p_error *err)
{
	int64_t application = 0, format = 0;
	int rc = pragma_number(log, "PRAGMA application_id", &application);

	if (rc == SQLITE_OK)
		rc = pragma_number(log, "PRAGMA user_version", &format);
	if (rc != SQLITE_OK)
		return sidelog_error(log, rc, err, "open");
	if (!application && !format)
		return sidelog_create(log, err);
	if (application != SIDELOG_APPLICATION_ID)
		return p2p_error_set(err, P2P_ECORRUPT, "open the log '%s': it is another file",
				     log->path);
	if (format > SIDELOG_FORMAT)
		return p2p_error_set(err, P2P_ENEWER,
				     "open the log '%s': it has format %lld, this program knows "
				     "%d: use a newer p2pnode",
				     log->path, (long long)format, SIDELOG_FORMAT);
	return 0;
}

/* What another process committed and could not sync before it was killed, or what a sync of ours
 * failed for, is read like any other: before anybody is told of it, it is written and synced anew.
 * After a failed sync only what is written again is known to be on the disk, so then all of it must
 * leave the WAL. */
static int sidelog_harden(struct p2p_sidelog *log, struct p2p_error *err)
{
	int rc = sqlite3_wal_checkpoint_v2(log->db, NULL,
					   log->doubt ? SQLITE_CHECKPOINT_TRUNCATE
						      : SQLITE_CHECKPOINT_PASSIVE,
					   NULL, NULL);

	if (rc != SQLITE_OK)
		return sidelog_error(log, rc, err, "open");
	log->doubt = false;
	return 0;
}

static int sidelog_connect(struct p2p_sidelog *log, struct p2p_error *err)
{
	static const char pragmas[] = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
				      "PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF;";
	int rc = sqlite3_open_v2(log->path, &log->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
				 NULL);

	if (rc != SQLITE_OK)
		return sidelog_error(log, rc, err, "open");
	(void)sqlite3_extended_result_codes(log->db, 1);      /* cannot fail on an open one */
	(void)sqlite3_busy_timeout(log->db, SIDELOG_BUSY_MS); /* neither */
	if (strcmp(log->path, ":memory:") != 0)
		(void)chmod(log->path, 0600); /* its directory is private, too */
	rc = sidelog_exec(log, pragmas, err, "open");
	if (!rc)
		rc = sidelog_check(log, err);
	if (!rc)
		rc = sidelog_harden(log, err);
	if (rc)
		return rc;
	rc = sidelog_load(log);
	return rc ? p2p_error_set(err, rc, "read the log '%s': %s", log->path, p2p_strerror(rc))
		  : 0;
}

static void sidelog_disconnect(struct p2p_sidelog *log)
{
	size_t i;

	for (i = 0; i < SIDELOG_COUNT; i++) {
		(void)sqlite3_finalize(log->statements[i]); /* errors were seen at the steps */
		log->statements[i] = NULL;
	}
	(void)sqlite3_close_v2(log->db);
	log->db = NULL;
}

/* A reopen failed before: once more. */
int sidelog_reconnect(struct p2p_sidelog *log, struct p2p_error *err)
{
	int rc;

	if (log->db)
		return 0;
	rc = sidelog_connect(log, err);
	if (rc)
		sidelog_disconnect(log);
	return rc;
}

int p2p_sidelog_open(const char *path, const struct p2p_log *sink, struct p2p_sidelog **out,
		     struct p2p_error *err)
{
	struct p2p_sidelog *log = p2p_calloc(1, sizeof(*log));
	int rc;

	if (!log)
		return p2p_error_set(err, P2P_ENOMEM, "open the log: out of memory");
	log->log = sink;
	log->path = p2p_strdup(path);
	rc = log->path ? sidelog_connect(log, err)
		       : p2p_error_set(err, P2P_ENOMEM, "open the log: out of memory");
	if (rc) {
		p2p_sidelog_close(log);
		return rc;
	}
	*out = log;
	return 0;
}

void p2p_sidelog_close(struct p2p_sidelog *log)
{
	if (!log)
		return;
	sidelog_disconnect(log);
	p2p_free(log->replicas);
	p2p_free(log->path);
	p2p_free(log);
}

/* --- transactions ----------------------------------------------------------------------------- */

bool p2p_sidelog_in_transaction(const struct p2p_sidelog *log)
{
	return log->db && !sqlite3_get_autocommit(log->db);
}

int p2p_sidelog_begin(struct p2p_sidelog *log, struct p2p_error *err)
{
	int rc = sidelog_reconnect(log, err);

	if (rc)
		return rc;
	p2p_require(!p2p_sidelog_in_transaction(log));
	return sidelog_exec(log, "BEGIN IMMEDIATE", err, "write");
}

/* What is in memory of the replicas is as old as the last commit again. */
static int sidelog_forget(struct p2p_sidelog *log)
{
	if (!log->touched)
		return 0;
	return sidelog_load(log);
}

void p2p_sidelog_rollback(struct p2p_sidelog *log)
{
	size_t i;

	for (i = 0; i < SIDELOG_COUNT; i++)
		(void)sqlite3_reset(log->statements[i]); /* NULL allowed; errors were seen */
	/* SQLite may have rolled back by itself after an error; then there is nothing to do. */
	if (p2p_sidelog_in_transaction(log))
		(void)sqlite3_exec(log->db, "ROLLBACK", NULL, NULL, NULL);
	/* without memory it cannot be said: closing ends the transaction, begin opens again */
	if (p2p_sidelog_in_transaction(log) || (log->db && sidelog_forget(log)))
		sidelog_disconnect(log);
}

int p2p_sidelog_commit(struct p2p_sidelog *log, struct p2p_error *err)
{
	struct p2p_error again = {0};
	int rc = sidelog_exec(log, "COMMIT", err, "write");

	if (!rc) {
		log->touched = false;
		return 0;
	}
	/* After a failed fsync nobody knows what is on the disk: what was cached is not trusted. */
	if (strcmp(log->path, ":memory:") == 0) {
		p2p_sidelog_rollback(log);
		return rc;
	}
	sidelog_disconnect(log);
	log->doubt = true;
	if (sidelog_connect(log, &again)) {
		p2p_log(log->log, P2P_LOG_ERROR, "crdt", "%s", again.msg);
		sidelog_disconnect(log);
	}
	return rc;
}

/* --- settings --------------------------------------------------------------------------------- */

int p2p_sidelog_meta_get(struct p2p_sidelog *log, const char *key, void *out, size_t max,
			 size_t *out_len)
{
	sqlite3_stmt *stmt;
	size_t len;
	int rc = sidelog_statement(log, SIDELOG_META_GET, &stmt);

	if (rc)
		return rc;
	if (sqlite3_bind_text(stmt, 1, key, -1, SQLITE_STATIC) != SQLITE_OK)
		return P2P_ENOMEM;
	rc = sidelog_row(log, stmt);
	if (!rc) {
		len = (size_t)sqlite3_column_bytes(stmt, 0);
		*out_len = len;
		if (len > max)
			rc = P2P_ETOOBIG;
		else if (len)
			memcpy(out, sqlite3_column_blob(stmt, 0), len);
	}
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

int p2p_sidelog_meta_set(struct p2p_sidelog *log, const char *key, const void *value, size_t len)
{
	sqlite3_stmt *stmt;
	int rc = sidelog_statement(log, SIDELOG_META_SET, &stmt);

	p2p_require(p2p_sidelog_in_transaction(log));
	if (rc)
		return rc;
	if (sqlite3_bind_text(stmt, 1, key, -1, SQLITE_STATIC) != SQLITE_OK ||
	    sqlite3_bind_blob64(stmt, 2, value ? value : "", len, SQLITE_STATIC) != SQLITE_OK)
		return P2P_ENOMEM;
	return sidelog_run(log, stmt, "write");
}
