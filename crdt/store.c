/* The connection to the application's file; see store.h. */
#include "crdt/store.h"

#include <errno.h>
#include <linux/magic.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "crdt/apptable.h"
#include "crdt/store_private.h"
#include "proto/check.h"
#include "proto/mem.h"

#define STORE_OPEN_TIMEOUT_MS 5000

static const char *const store_sql[P2P_SQL_COUNT] = {
	[P2P_SQL_META_GET] = "SELECT v FROM main.p2p_meta WHERE k = ?1",
	[P2P_SQL_META_SET] = "INSERT OR REPLACE INTO main.p2p_meta(k, v) VALUES(?1, ?2)",
	[P2P_SQL_REPLICA_ADD] = "INSERT INTO main.p2p_replica(number, id) VALUES(?1, ?2)",
	[P2P_SQL_TEMP_GET] = "SELECT shown FROM main.p2p_temp WHERE t = ?1 AND k = ?2",
	[P2P_SQL_TEMP_AT] = "SELECT k FROM main.p2p_temp WHERE t = ?1 AND shown = ?2",
	[P2P_SQL_TEMP_SET] = "INSERT OR REPLACE INTO main.p2p_temp(t, k, shown) VALUES(?1, ?2, ?3)",
	[P2P_SQL_TEMP_DELETE] = "DELETE FROM main.p2p_temp WHERE t = ?1 AND k = ?2",
	[P2P_SQL_TEMP_EACH] = "SELECT k, shown FROM main.p2p_temp WHERE t = ?1",
	[P2P_SQL_REF_GET] = "SELECT pt, pk FROM main.p2p_ref WHERE t = ?1 AND k = ?2 AND slot = ?3",
	[P2P_SQL_REF_EACH] = "SELECT slot, pt, pk FROM main.p2p_ref WHERE t = ?1 AND k = ?2",
	[P2P_SQL_REF_PUT] = "INSERT OR REPLACE INTO main.p2p_ref(t, k, slot, pt, pk)"
			    " VALUES(?1, ?2, ?3, ?4, ?5)",
	[P2P_SQL_REF_DROP] = "DELETE FROM main.p2p_ref WHERE t = ?1 AND k = ?2 AND slot = ?3",
	[P2P_SQL_REF_CLEAR] = "DELETE FROM main.p2p_ref WHERE t = ?1 AND k = ?2",
	[P2P_SQL_REF_CHILDREN] = "SELECT t, k, slot FROM main.p2p_ref WHERE pt = ?1 AND pk = ?2"
				 " AND t > 0",
	[P2P_SQL_REF_WAITING] = "SELECT t, k, slot FROM main.p2p_ref WHERE pt = ?1 AND t > 0",
	[P2P_SQL_REF_ANY] = "SELECT 1 FROM main.p2p_ref WHERE t = ?1 LIMIT 1",
	[P2P_SQL_REF_ANY_TO] = "SELECT 1 FROM main.p2p_ref WHERE pt = ?1 LIMIT 1",
	[P2P_SQL_CLAIM_PUT] = "INSERT OR REPLACE INTO main.p2p_claim(t, h, k, held)"
			      " VALUES(?1, ?3, ?2, ?4)",
	[P2P_SQL_CLAIM_DROP] = "DELETE FROM main.p2p_claim WHERE t = ?1 AND k = ?2",
	[P2P_SQL_CLAIM_EACH] = "SELECT k, held FROM main.p2p_claim WHERE t = ?1 AND h = ?2",
	[P2P_SQL_CLAIM_EACH_HELD] = "SELECT k, held FROM main.p2p_claim INDEXED BY p2p_claim_held"
				    " WHERE t = ?1 AND h = ?2 AND held",
	[P2P_SQL_CLAIM_OF] = "SELECT h FROM main.p2p_claim WHERE t = ?1 AND k = ?2",
	/* else LIMIT makes SQLite walk over all claims of the table */
	[P2P_SQL_CLAIM_HELD] = "SELECT held FROM main.p2p_claim INDEXED BY p2p_claim_row"
			       " WHERE t = ?1 AND k = ?2 LIMIT 1",
	[P2P_SQL_CLAIM_ANY] = "SELECT 1 FROM main.p2p_claim WHERE t = ?1 LIMIT 1",
	[P2P_SQL_YIELD_PUT] = "INSERT OR REPLACE INTO main.p2p_yield(t, k, c, stamp, replica)"
			      " VALUES(?1, ?2, ?3, ?4, ?5)",
	[P2P_SQL_YIELD_GET] = "SELECT stamp, replica FROM main.p2p_yield"
			      " WHERE t = ?1 AND k = ?2 AND c = ?3",
	[P2P_SQL_YIELD_CLEAR] = "DELETE FROM main.p2p_yield WHERE t = ?1 AND k = ?2",
	[P2P_SQL_YIELD_ANY] = "SELECT 1 FROM main.p2p_yield WHERE t = ?1 LIMIT 1",
	[P2P_SQL_COUNTER_EACH] = "SELECT slot, replica, total, stamp FROM main.p2p_counter"
				 " WHERE t = ?1 AND k = ?2",
	[P2P_SQL_COUNTER_PUT] = "INSERT OR REPLACE INTO main.p2p_counter(t, k, slot, replica,"
				" total, stamp) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
	[P2P_SQL_COUNTER_REBASE] = "DELETE FROM main.p2p_counter"
				   " WHERE t = ?1 AND k = ?2 AND slot = ?3 AND replica < 0",
	[P2P_SQL_COUNTER_CLEAR] = "DELETE FROM main.p2p_counter WHERE t = ?1 AND k = ?2",
	[P2P_SQL_PARKED_GET] = "SELECT cells FROM main.p2p_parked WHERE t = ?1 AND k = ?2",
	[P2P_SQL_PARKED_PUT] = "INSERT OR REPLACE INTO main.p2p_parked(t, k, cells, reason)"
			       " VALUES(?1, ?2, ?3, ?4)",
	[P2P_SQL_PARKED_DELETE] = "DELETE FROM main.p2p_parked WHERE t = ?1 AND k = ?2",
	[P2P_SQL_PARKED_EACH] = "SELECT k FROM main.p2p_parked WHERE t = ?1",
	[P2P_SQL_OUT_ANY] = "SELECT EXISTS(SELECT 1 FROM main.p2p_parked)"
			    " OR EXISTS(SELECT 1 FROM main.p2p_temp)",
	[P2P_SQL_PARKED_COUNT] = "SELECT count(*) FROM main.p2p_parked",
	[P2P_SQL_WAITING_PUT] = "INSERT OR IGNORE INTO main.p2p_waiting"
				"(hash, t, stamp, replica, schema, record)"
				" VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
	[P2P_SQL_WAITING_HAS] = "SELECT 1 FROM main.p2p_waiting WHERE t = ?1 LIMIT 1",
	[P2P_SQL_WAITING_DROP] = "DELETE FROM main.p2p_waiting WHERE t = ?1",
	[P2P_SQL_WAITING_COUNT] = "SELECT count(*) FROM main.p2p_waiting",
	[P2P_SQL_VECTOR_SET] = "INSERT OR REPLACE INTO main.p2p_vector(replica, seq, head, stamp)"
			       " VALUES(?1, ?2, ?3, ?4)",
	[P2P_SQL_VECTOR_EACH] = "SELECT replica, seq, head, stamp FROM main.p2p_vector",
	[P2P_SQL_JOURNAL_MAX] = "SELECT max(id) FROM main.p2p_journal",
	[P2P_SQL_JOURNAL_EACH] =
		"SELECT * FROM main.p2p_journal WHERE id > ?1 AND id <= ?2 ORDER BY id",
	[P2P_SQL_JOURNAL_TRIM] = "DELETE FROM main.p2p_journal WHERE id <= ?1"
				 " AND id < (SELECT max(id) FROM main.p2p_journal)",
	[P2P_SQL_SEEN_EACH] = "SELECT author, seen FROM main.p2p_seen",
	[P2P_SQL_SEEN_SET] = "INSERT OR REPLACE INTO main.p2p_seen(author, seen) VALUES(?1, ?2)",
	[P2P_SQL_CONFLICT_PUT] =
		"INSERT INTO main.p2p_conflict(id, kind, t, name, k, \"row\", kept,"
		" lost, cells, origin, lost_ms, ms, number, more, reason)"
		" VALUES(?15, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
	[P2P_SQL_CONFLICT_NUMBER] = "SELECT id FROM main.p2p_conflict WHERE kind = 'number'"
				    " AND t = ?1 AND k = ?2 AND number = ?3",
	[P2P_SQL_CONFLICT_NUMBERED] = "UPDATE main.p2p_conflict SET \"row\" = ?3, kept = ?3"
				      " WHERE kind = 'number' AND t = ?1 AND k = ?2",
	[P2P_SQL_CONFLICT_CHECKED] = "SELECT k FROM main.p2p_conflict WHERE t = ?1"
				     " AND kind = 'check'",
	[P2P_SQL_CONFLICT_CHECK] = "SELECT id FROM main.p2p_conflict WHERE t = ?1 AND k = ?2"
				   " AND kind = 'check'",
	[P2P_SQL_CONFLICT_MENDED] = "DELETE FROM main.p2p_conflict WHERE t = ?1 AND k = ?2"
				    " AND kind = 'check'",
	[P2P_SQL_CONFLICT_REGAINED] = "DELETE FROM main.p2p_conflict WHERE kind = 'number'"
				      " AND t = ?1 AND k = ?2 AND number = ?3",
	[P2P_SQL_CONFLICT_TRIM] = "DELETE FROM main.p2p_conflict WHERE id <="
				  " (SELECT max(id) FROM main.p2p_conflict) - ?1",
	[P2P_SQL_CONFLICT_EACH] = "SELECT * FROM main.p2p_conflicts",
	[P2P_SQL_CONFLICT_GET] = "SELECT t, k, cells, kind, number, more FROM main.p2p_conflict"
				 " WHERE id = ?1",
	[P2P_SQL_CONFLICT_DROP] = "DELETE FROM main.p2p_conflict WHERE id = ?1",
	/* as many as p2p_conflicts has, without its texts */
	[P2P_SQL_CONFLICT_COUNT] = "SELECT (SELECT count(*) FROM main.p2p_conflict) + (SELECT"
				   " count(*) FROM main.p2p_parked WHERE \"row\" NOT NULL)",
	[P2P_SQL_PARKED_TELL] = "UPDATE main.p2p_parked SET \"row\" = ?3, lost = ?4, origin = ?5,"
				" lost_ms = ?6 WHERE t = ?1 AND k = ?2",
	[P2P_SQL_CONFLICT_EXPIRE] = "DELETE FROM main.p2p_conflict WHERE ms < ?1",
	[P2P_SQL_SCHEMA_VERSION] = "PRAGMA main.schema_version",
	[P2P_SQL_TEMP_VERSION] = "PRAGMA temp.schema_version",
};

/* --- errors and statements -------------------------------------------------------------------- */

int p2p_store_code(int sqlite_rc)
{
	if (sqlite_rc == SQLITE_IOERR_NOMEM)
		return P2P_ENOMEM;
	switch (sqlite_rc & 0xff) {
	case SQLITE_NOMEM:
		return P2P_ENOMEM;
	case SQLITE_FULL:
		return P2P_EFULL;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_PROTOCOL: /* others took the locks of the WAL all the time */
		return P2P_EBUSY;
	case SQLITE_CORRUPT:
		return P2P_ECORRUPT;
	case SQLITE_NOTADB:
		return P2P_ENOTDB;
	case SQLITE_READONLY:
		return P2P_EREADONLY;
	case SQLITE_TOOBIG:
		return P2P_ETOOBIG;
	default:
		return P2P_EIO;
	}
}

int p2p_store_error(struct p2p_store *store, int sqlite_rc, struct p2p_error *err, const char *what)
{
	return p2p_error_set(err, p2p_store_code(sqlite_rc), "%s '%s': %s", what, store->path,
			     store->db ? sqlite3_errmsg(store->db) : sqlite3_errstr(sqlite_rc));
}

int p2p_store_statement(struct p2p_store *store, enum p2p_store_sql which, sqlite3_stmt **out)
{
	sqlite3_stmt **at = &store->statements[which];
	int rc = SQLITE_OK;

	*out = NULL;
	if (p2p_store_settle(store, NULL))
		return P2P_ENOMEM;
	if (!*at)
		rc = sqlite3_prepare_v3(store->db, store_sql[which], -1, SQLITE_PREPARE_PERSISTENT,
					at, NULL);
	if (rc != SQLITE_OK)
		return p2p_store_error(store, rc, NULL, "prepare");
	*out = *at;
	return 0;
}

int p2p_store_run(struct p2p_store *store, sqlite3_stmt *stmt, const char *what)
{
	int rc = sqlite3_step(stmt);

	if (rc != SQLITE_DONE && rc != SQLITE_ROW)
		rc = p2p_store_error(store, rc, NULL, what);
	else
		rc = 0;
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc;
}

bool p2p_store_next(struct p2p_store *store, sqlite3_stmt *stmt, int *rc)
{
	int step = *rc ? SQLITE_DONE : sqlite3_step(stmt);

	if (step == SQLITE_ROW)
		return true;
	if (step != SQLITE_DONE)
		*rc = p2p_store_error(store, step, NULL, "read");
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return false;
}

int p2p_store_exec(struct p2p_store *store, const char *sql, struct p2p_error *err)
{
	int rc = sqlite3_exec(store->db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : p2p_store_error(store, rc, err, "write to");
}

/* --- opening ---------------------------------------------------------------------------------- */

/* WAL needs shared memory between processes, which network file systems do not give (decisions 52).
 */
static const char *network_name(unsigned long type)
{
	static const struct {
		unsigned long magic;
		const char *name;
	} types[] = {
		{0x6969, "NFS"},     {0xff534d42ul, "CIFS"}, {0xfe534d42ul, "SMB"},
		{0x517b, "SMB"},     {0x01021997, "9p"},     {0x65735546, "FUSE"},
		{0x5346414f, "AFS"}, {0x00c36400, "Ceph"},
	};
	size_t i;

	for (i = 0; i < p2p_array_len(types); i++)
		if (type == types[i].magic)
			return types[i].name;
	return NULL;
}

static int refuse_network(const char *path, struct p2p_error *err)
{
	struct statfs fs;
	const char *name;

	if (statfs(path, &fs) != 0)
		return 0; /* opening will tell */
	name = network_name((unsigned long)fs.f_type & 0xfffffffful);
	if (!name)
		return 0;
	return p2p_error_set(err, P2P_EREFUSED,
			     "open '%s': it is on a %s file system, where SQLite's WAL cannot "
			     "work: keep the database on a local disk",
			     path, name);
}

static int check_path(const struct p2p_store_config *config, struct p2p_error *err)
{
	struct stat st;

	if (stat(config->path, &st) != 0) {
		if (errno == ENOENT && config->create)
			return 0;
		if (errno == ENOENT)
			return p2p_error_set(err, P2P_ENOENT, "open '%s': there is no such file",
					     config->path);
		return p2p_error_set(err, P2P_EIO, "open '%s': %s", config->path, strerror(errno));
	}
	if (!S_ISREG(st.st_mode))
		return p2p_error_set(err, P2P_ENOTDB, "open '%s': it is not a file", config->path);
	if (access(config->path, W_OK) != 0)
		return p2p_error_set(err, P2P_EREADONLY,
				     "open '%s': it cannot be written (%s): check its permissions "
				     "and whether the disk is mounted read-only",
				     config->path, strerror(errno));
	return refuse_network(config->path, err);
}

static int db_text(sqlite3 *db, const char *sql, char *out, size_t max)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), end;

	out[0] = 0;
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW) {
		const char *text = (const char *)sqlite3_column_text(stmt, 0);

		(void)sqlite3_snprintf((int)max, out, "%s", text ? text : "");
		rc = SQLITE_OK;
	}
	/* a pragma that writes commits only here */
	end = sqlite3_finalize(stmt);
	if (rc == SQLITE_DONE || rc == SQLITE_OK)
		rc = end;
	return rc;
}

static int switch_to_wal(struct p2p_store *store, bool *out_switched, struct p2p_error *err)
{
	char mode[16];
	int rc = db_text(store->db, "PRAGMA main.journal_mode", mode, sizeof(mode));

	*out_switched = false;
	if (rc != SQLITE_OK)
		return p2p_store_error(store, rc, err, "open");
	if (strcmp(mode, "wal") == 0)
		return 0;
	rc = db_text(store->db, "PRAGMA main.journal_mode = WAL", mode, sizeof(mode));
	if (rc != SQLITE_OK && p2p_store_code(rc) == P2P_EBUSY)
		return p2p_error_set(err, P2P_EBUSY,
				     "open '%s': another program uses it, so that it cannot be "
				     "switched to WAL: end its transactions and try again",
				     store->path);
	if (rc != SQLITE_OK)
		return p2p_store_error(store, rc, err, "switch to WAL");
	if (strcmp(mode, "wal") != 0)
		return p2p_error_set(err, P2P_EREFUSED,
				     "open '%s': it cannot be switched to WAL (it stays in mode "
				     "'%s'): p2pnode needs WAL",
				     store->path, mode);
	*out_switched = true;
	return 0;
}

/* Row-based replication: what triggers and cascades did where a row was written arrives as rows. */
static int configure(struct p2p_store *store, struct p2p_error *err)
{
	static const char pragmas[] = "PRAGMA foreign_keys = OFF;"
				      "PRAGMA ignore_check_constraints = ON;"
				      "PRAGMA synchronous = NORMAL;"
				      "PRAGMA cell_size_check = ON;"
				      /* row states are found by hashes: pages anywhere */
				      "PRAGMA cache_size = -16384;"
				      "PRAGMA wal_autocheckpoint = 0;";
	sqlite3 *db = store->db;
	int rc = sqlite3_extended_result_codes(db, 1);

	if (rc == SQLITE_OK)
		rc = sqlite3_busy_timeout(db, STORE_OPEN_TIMEOUT_MS);
	if (rc == SQLITE_OK)
		rc = sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
	/* Else SQLite 3.40 runs no JSON function in an index or a generated column. Only built-in,
	 * deterministic functions can stand there; triggers are off, but for those that run as
	 * copies (crdt/triggers.h), which SQLite trusts anyway. */
	if (rc == SQLITE_OK)
		rc = sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 1, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(db, pragmas, NULL, NULL, NULL);
	return rc == SQLITE_OK ? 0 : p2p_store_error(store, rc, err, "open");
}

static int store_connect(struct p2p_store *store, bool *out_switched, struct p2p_error *err)
{
	int flags = SQLITE_OPEN_READWRITE | (store->create ? SQLITE_OPEN_CREATE : 0);
	char text[16];
	int rc = sqlite3_open_v2(store->path, &store->db, flags, NULL);

	if (rc != SQLITE_OK)
		return p2p_store_error(store, rc, err, "open");
	if (sqlite3_db_readonly(store->db, "main") == 1)
		return p2p_error_set(err, P2P_EREADONLY, "open '%s': it cannot be written",
				     store->path);
	rc = configure(store, err);
	if (rc)
		return rc;
	rc = db_text(store->db, "PRAGMA main.schema_version", text, sizeof(text));
	if (rc != SQLITE_OK)
		return p2p_store_error(store, rc, err, "open");
	return switch_to_wal(store, out_switched, err);
}

static void store_disconnect(struct p2p_store *store)
{
	p2p_store_forget(store);
	p2p_triggers_forget(store);
	(void)sqlite3_finalize(store->rollback);
	(void)sqlite3_close_v2(store->checkpointer); /* whatever went wrong, both are dropped */
	(void)sqlite3_close_v2(store->db); /* statements of others, if any, end it later */
	store->rollback = NULL;
	store->unended = false;
	store->db = store->checkpointer = NULL;
}

int p2p_store_open(const struct p2p_store_config *config, struct p2p_store **out,
		   bool *out_switched, struct p2p_error *err)
{
	struct p2p_store *store;
	bool switched = false;
	int rc = check_path(config, err);

	if (rc)
		return rc;
	store = p2p_calloc(1, sizeof(*store));
	if (!store)
		return p2p_error_set(err, P2P_ENOMEM, "open '%s': out of memory", config->path);
	store->env = config->env;
	store->log = config->log;
	store->create = config->create;
	p2p_buf_init(&store->scratch, P2P_RECORD_BYTES_MAX);
	store->path = p2p_strdup(config->path);
	rc = store->path ? store_connect(store, &switched, err) : P2P_ENOMEM;
	/* a file that was just made is looked at only now */
	if (!rc)
		rc = refuse_network(config->path, err);
	if (!rc)
		rc = p2p_store_load(store, err);
	if (rc) {
		p2p_store_close(store);
		return rc;
	}
	if (out_switched)
		*out_switched = switched;
	*out = store;
	return 0;
}

void p2p_store_forget(struct p2p_store *store)
{
	size_t i;

	p2p_store_row_done(store);
	p2p_store_forget_tables(store);
	for (i = 0; i < P2P_SQL_COUNT; i++) {
		(void)sqlite3_finalize(store->statements[i]); /* errors were seen at the steps */
		store->statements[i] = NULL;
	}
	p2p_free(store->replicas);
	store->replicas = NULL;
	store->replica_count = store->replica_cap = 0;
}

void p2p_store_close(struct p2p_store *store)
{
	if (!store)
		return;
	store_disconnect(store);
	p2p_buf_deinit(&store->scratch);
	p2p_free(store->path);
	p2p_free(store);
}

int p2p_store_reopen(struct p2p_store *store, struct p2p_error *err)
{
	bool switched;
	int rc;

	store_disconnect(store);
	store->shm_found = false;
	rc = store_connect(store, &switched, err);
	return rc ? rc : p2p_store_load(store, err);
}

sqlite3 *p2p_store_db(struct p2p_store *store)
{
	if (store->unended)
		p2p_store_rollback(store); /* if it cannot be, our own statements say so */
	return store->db;
}

bool p2p_store_enabled(const struct p2p_store *store)
{
	return store->enabled;
}

const struct p2p_hash_key *p2p_store_hash_key(const struct p2p_store *store)
{
	return &store->hash_key;
}

/* --- transactions ----------------------------------------------------------------------------- */

/* A statement expires when the schema changes, or such a change is undone, and is then prepared
 * anew, which needs memory: so ROLLBACK is made before each transaction that may need it. */
static int transaction_ready(struct p2p_store *store, struct p2p_error *err)
{
	int rc = p2p_store_settle(store, err);

	if (rc || store->rollback)
		return rc;
	rc = sqlite3_prepare_v3(store->db, "ROLLBACK", -1, SQLITE_PREPARE_PERSISTENT,
				&store->rollback, NULL);
	return rc == SQLITE_OK ? 0 : p2p_store_error(store, rc, err, "use");
}

int p2p_store_begin_read(struct p2p_store *store, struct p2p_error *err)
{
	sqlite3_stmt *stmt;
	int rc = transaction_ready(store, err);

	if (!rc)
		rc = p2p_store_exec(store, "BEGIN", err);
	if (rc)
		return rc;
	/* the snapshot begins at the first read */
	rc = p2p_store_statement(store, P2P_SQL_SCHEMA_VERSION, &stmt);
	if (!rc)
		rc = p2p_store_run(store, stmt, "read");
	if (rc) {
		p2p_store_rollback(store);
		return p2p_error_set(err, rc, "read '%s': %s", store->path, p2p_strerror(rc));
	}
	return 0;
}

int p2p_store_begin_write(struct p2p_store *store, int timeout_ms, struct p2p_error *err)
{
	int rc = transaction_ready(store, err);

	if (rc)
		return rc;
	(void)sqlite3_busy_timeout(store->db, timeout_ms); /* cannot fail on an open connection */
	rc = sqlite3_exec(store->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
	(void)sqlite3_busy_timeout(store->db, STORE_OPEN_TIMEOUT_MS);
	return rc == SQLITE_OK ? 0 : p2p_store_error(store, rc, err, "begin to write to");
}

int p2p_store_commit(struct p2p_store *store, struct p2p_error *err)
{
	int rc;

	p2p_store_row_done(store);
	rc = sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		return p2p_store_error(store, rc, err, "commit to");
	store->schema_pending = false;
	(void)sqlite3_finalize(store->rollback); /* the schema may have changed */
	store->rollback = NULL;
	return 0;
}

void p2p_store_rollback(struct p2p_store *store)
{
	p2p_store_row_done(store);
	if (store->schema_pending)
		store->schema_version = 0; /* of no file: checked again */
	store->schema_pending = false;
	/* SQLite may have rolled back by itself after an error; then there is nothing to do. */
	if (store->db && !sqlite3_get_autocommit(store->db)) {
		if (store->rollback)
			(void)sqlite3_step(store->rollback);
		/* an index was made in this transaction: it expired all the same */
		if (!sqlite3_get_autocommit(store->db))
			(void)sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
	}
	(void)sqlite3_finalize(store->rollback);
	store->rollback = NULL;
	store->unended = store->db && !sqlite3_get_autocommit(store->db);
}

int p2p_store_settle(struct p2p_store *store, struct p2p_error *err)
{
	if (store->unended)
		p2p_store_rollback(store);
	if (!store->unended)
		return 0;
	return p2p_error_set(err, P2P_ENOMEM, "use '%s': a transaction cannot be rolled back: %s",
			     store->path, p2p_strerror(P2P_ENOMEM));
}

bool p2p_store_in_transaction(const struct p2p_store *store)
{
	return store->db && !store->unended && !sqlite3_get_autocommit(store->db);
}

/* --- loading ---------------------------------------------------------------------------------- */

static int load_settings(struct p2p_store *store, struct p2p_error *err)
{
	uint64_t format = 0;
	size_t len = 0;
	int rc = p2p_store_meta_get_u64(store, "format", &format);

	if (!rc && format > P2P_STORE_FORMAT)
		return p2p_error_set(err, P2P_ENEWER,
				     "open '%s': its replication tables have format %llu, this "
				     "program knows %d: use a newer p2pnode",
				     store->path, (unsigned long long)format, P2P_STORE_FORMAT);
	if (!rc)
		rc = p2p_store_meta_get(store, "hash_key", store->hash_key.bytes,
					sizeof(store->hash_key.bytes), &len);
	if (!rc && len != sizeof(store->hash_key.bytes))
		rc = P2P_ECORRUPT;
	return rc == P2P_ENOENT ? P2P_ECORRUPT : rc;
}

int p2p_store_load(struct p2p_store *store, struct p2p_error *err)
{
	char count[8];
	int rc = p2p_store_settle(store, err);

	p2p_store_forget_tables(store);
	store->replica_count = 0;
	store->enabled = false;
	if (rc)
		return rc;
	rc = db_text(store->db, "SELECT count(*) FROM main.sqlite_schema WHERE name = 'p2p_meta'",
		     count, sizeof(count));
	if (rc != SQLITE_OK)
		return p2p_store_error(store, rc, err, "read");
	if (strcmp(count, "1") != 0)
		return 0;
	rc = load_settings(store, err);
	if (!rc)
		rc = p2p_store_load_replicas(store);
	if (!rc)
		rc = p2p_store_load_tables(store, err);
	if (rc == P2P_ENEWER)
		return rc;
	if (rc)
		return p2p_error_set(err, rc, "read the replication tables of '%s': %s",
				     store->path, p2p_strerror(rc));
	store->enabled = true;
	return 0;
}
