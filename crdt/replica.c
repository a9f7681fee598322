/* Life and state of a replica; see replica.h. */
#include "crdt/replica.h"

#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

#include "crdt/apptable.h"
#include "crdt/conflicts.h"
#include "crdt/replica_private.h"
#include "proto/check.h"
#include "proto/mem.h"

#define PATH_BYTES_MAX 4096
#define SQL_BYTES_MAX  65536

/* --- opening ---------------------------------------------------------------------------------- */

static int load_record(void *ctx, const void *raw, size_t len)
{
	struct p2p_replica *replica = ctx;
	int rc = p2p_authority_add(replica->authority, raw, len);

	/* a log of a version that had other shares; the rest counts */
	if (rc == P2P_AUTHORITY_KNOWN || rc == P2P_EQUOTA)
		return 0;
	/* we stored it: only damage can make it invalid */
	return rc == 0 || rc == P2P_ENOMEM ? rc : P2P_ECORRUPT;
}

static int open_sidelog(struct p2p_replica *replica, struct p2p_error *err)
{
	char path[PATH_BYTES_MAX];
	size_t len = 0;
	int rc, n = snprintf(path, sizeof(path), "%s/log.db", replica->state_dir);

	if (n < 0 || (size_t)n >= sizeof(path))
		return p2p_error_set(err, P2P_EINVAL, "the path '%s' is too long",
				     replica->state_dir);
	rc = p2p_sidelog_open(path, replica->config.log, &replica->sidelog, err);
	if (rc)
		return rc;
	rc = p2p_sidelog_each_record(replica->sidelog, load_record, replica);
	if (!rc) {
		rc = p2p_sidelog_meta_get(replica->sidelog, "replica", replica->id.bytes,
					  P2P_ID_BYTES, &len);
		if (!rc && len != P2P_ID_BYTES)
			rc = P2P_ECORRUPT;
		if (rc == P2P_ENOENT)
			rc = 0;
	}
	return rc ? p2p_error_set(err, rc, "read '%s': %s", path, p2p_strerror(rc)) : 0;
}

static int replica_new(const struct p2p_replica_config *config, struct p2p_replica **out)
{
	struct p2p_replica *replica = p2p_calloc(1, sizeof(*replica));

	if (!replica)
		return P2P_ENOMEM;
	replica->config = *config;
	replica->data_version_seen = -1;
	p2p_vv_init(&replica->merged);
	p2p_vv_init(&replica->told);
	p2p_buf_init(&replica->look.after, P2P_RECORD_BYTES_MAX);
	replica->db_path = p2p_strdup(config->db_path);
	replica->state_dir = p2p_strdup(config->state_dir);
	replica->deps = p2p_calloc(P2P_DEPS_MAX, sizeof(*replica->deps));
	if (!replica->db_path || !replica->state_dir || !replica->deps ||
	    p2p_authority_new(config->env, &replica->authority)) {
		p2p_replica_close(replica);
		return P2P_ENOMEM;
	}
	replica->config.db_path = replica->db_path;
	replica->config.state_dir = replica->state_dir;
	*out = replica;
	return 0;
}

int p2p_replica_open(const struct p2p_replica_config *config, struct p2p_replica **out,
		     bool *out_switched, struct p2p_error *err)
{
	struct p2p_store_config store = {config->db_path, config->env, config->log,
					 config->create_db};
	struct p2p_replica *replica = NULL;
	int rc = replica_new(config, &replica);

	if (rc)
		return p2p_error_set(err, rc, "open: out of memory");
	rc = p2p_store_open(&store, &replica->store, out_switched, err);
	if (!rc)
		rc = open_sidelog(replica, err);
	if (!rc && p2p_replica_member(replica)) {
		if (!config->offline)
			rc = p2p_replica_take_place(replica, err);
		if (!rc && p2p_store_enabled(replica->store))
			rc = p2p_replica_begin(replica, err);
	}
	if (rc) {
		p2p_replica_close(replica);
		return rc;
	}
	*out = replica;
	return 0;
}

void p2p_replica_close(struct p2p_replica *replica)
{
	if (!replica)
		return;
	p2p_replica_end(replica);
	(void)sqlite3_finalize(replica->data_version); /* the error was seen at the step */
	p2p_authority_free(replica->authority);
	p2p_sidelog_close(replica->sidelog);
	p2p_store_close(replica->store);
	p2p_vv_deinit(&replica->merged);
	p2p_vv_deinit(&replica->told);
	p2p_buf_deinit(&replica->look.after);
	p2p_vv_deinit(&replica->again.todo);
	p2p_free(replica->deps);
	p2p_free(replica->hello_tables);
	p2p_free(replica->hello_refs);
	p2p_free(replica->hello_list);
	p2p_free(replica->db_path);
	p2p_free(replica->state_dir);
	p2p_free(replica);
}

/* --- a member's parts ------------------------------------------------------------------------- */

static int load_entry(void *ctx, const struct p2p_merged *entry)
{
	struct p2p_replica *replica = ctx;
	struct p2p_vv_entry at;
	int rc;

	if (p2p_id_cmp(&entry->replica, &replica->id) == 0)
		return 0; /* the log knows */
	memset(&at, 0, sizeof(at));
	rc = p2p_sidelog_head(replica->sidelog, &entry->replica, &at);
	if (rc)
		return rc;
	at.replica = entry->replica;
	at.seq = entry->seq;
	at.head = entry->head;
	at.stamp = entry->stamp;
	p2p_capture_observe(replica->capture, entry->stamp);
	return p2p_vv_put(&replica->merged, &at);
}

int p2p_replica_load_vector(struct p2p_replica *replica)
{
	const struct p2p_vv_entry *head = p2p_capture_head(replica->capture);
	int rc;

	p2p_vv_deinit(&replica->merged);
	p2p_vv_init(&replica->merged);
	rc = p2p_store_vector_each(replica->store, load_entry, replica);
	if (!rc && head->seq)
		rc = p2p_vv_put(&replica->merged, head);
	return rc;
}

static int begin_capture(struct p2p_replica *replica, struct p2p_error *err)
{
	struct p2p_capture_config config = {
		.store = replica->store,
		.sidelog = replica->sidelog,
		.authority = replica->authority,
		.signer = replica->config.signer,
		.env = replica->config.env,
		.log = replica->config.log,
		.replica = replica->id,
		.mesh = *p2p_authority_mesh(replica->authority),
	};

	return p2p_capture_new(&config, &replica->capture, err);
}

static int sync_send(void *ctx, p2p_sync_peer peer, enum p2p_class cls, enum p2p_message_type type,
		     const ProtobufCMessage *message)
{
	struct p2p_replica *replica = ctx;
	const struct p2p_replica_callbacks *callbacks = &replica->config.callbacks;

	return callbacks->send(callbacks->ctx, peer, cls, type, message);
}

static void sync_ready(void *ctx)
{
	struct p2p_replica *replica = ctx;

	if (!replica->ready_at.ms)
		replica->ready_at = p2p_env_now(replica->config.env);
}

static void sync_event(void *ctx, const struct p2p_sync_event *event)
{
	struct p2p_replica *replica = ctx;
	const struct p2p_replica_callbacks *callbacks = &replica->config.callbacks;

	/* proven: under this id another history exists, so nothing more is numbered under it */
	if ((event->kind == P2P_SYNC_SELF_AHEAD || event->kind == P2P_SYNC_FORK) &&
	    p2p_id_cmp(&event->replica, &replica->id) == 0)
		replica->leave_id = true;
	callbacks->event(callbacks->ctx, event);
}

static int begin_sync(struct p2p_replica *replica)
{
	struct p2p_sync_config config = {
		.env = replica->config.env,
		.log_sink = replica->config.log,
		.log = p2p_replica_sync_log(replica),
		.callbacks = {replica, sync_send, sync_ready, sync_event},
		.mesh = *p2p_authority_mesh(replica->authority),
		.replica = replica->id,
		.clock_ahead_max_ms = P2P_CLOCK_AHEAD_MAX_MS,
	};
	size_t i;
	int rc = p2p_sync_new(&config, &replica->sync);

	for (i = 0; i < replica->merged.count && !rc; i++)
		rc = p2p_sync_set_merged(replica->sync, &replica->merged.entries[i]);
	if (!rc)
		p2p_sync_durable(replica->sync);
	return rc;
}

/* What a fold left unprojected: if it were not known, rows would stay as they are. */
static int project_due(struct p2p_replica *replica)
{
	uint64_t due = 0;
	int rc = p2p_store_meta_get_u64(replica->store, "project", &due);

	replica->project_due = !rc && due;
	return rc == P2P_ENOENT ? 0 : rc;
}

int p2p_replica_begin(struct p2p_replica *replica, struct p2p_error *err)
{
	struct p2p_merge_config merge = {.store = replica->store,
					 .authority = replica->authority,
					 .log = replica->config.log,
					 .stamp_of = p2p_replica_stamp_of,
					 .stamp_ctx = replica};
	int rc = begin_capture(replica, err);

	if (rc)
		return rc;
	rc = p2p_merge_new(&merge, &replica->merge);
	if (!rc)
		rc = p2p_replica_load_vector(replica);
	if (!rc)
		rc = p2p_replica_again_load(replica);
	/* a merge may have been committed without a sync before the process ended */
	if (!rc && !replica->config.offline)
		rc = p2p_walfile_sync(replica->store, NULL);
	if (!rc)
		rc = project_due(replica);
	if (!rc && !replica->config.offline)
		rc = begin_sync(replica);
	if (rc) {
		p2p_replica_end(replica);
		return p2p_error_set(err, rc, "start replicating '%s': %s", replica->db_path,
				     p2p_strerror(rc));
	}
	replica->again_due = true;     /* whatever waits: one look */
	replica->numbers_due = true;   /* the process may have ended before they were given */
	replica->displaced_due = true; /* and for what went unseen before the process ended */
	sync_ready(replica); /* the log may hold what was not merged when the process ended */
	return 0;
}

int p2p_replica_harden(struct p2p_replica *replica, struct p2p_error *err)
{
	return p2p_walfile_sync(replica->store, err);
}

void p2p_replica_end(struct p2p_replica *replica)
{
	p2p_sync_free(replica->sync);
	p2p_merge_free(replica->merge);
	p2p_capture_free(replica->capture);
	replica->sync = NULL;
	replica->merge = NULL;
	replica->capture = NULL;
}

int p2p_replica_recover(struct p2p_replica *replica, struct p2p_error *err)
{
	int rc;

	if (replica->merge)
		p2p_merge_reset(replica->merge);
	if (replica->capture)
		p2p_capture_reset(replica->capture);
	rc = p2p_store_load(replica->store, err);
	if (rc)
		p2p_replica_break(replica);
	else if (replica->merge)
		p2p_merge_reset(replica->merge);
	return rc;
}

/* --- local trouble ---------------------------------------------------------------------------- */

void p2p_replica_break(struct p2p_replica *replica)
{
	replica->broken = true;
}

static void tell_broken(struct p2p_replica *replica)
{
	const struct p2p_replica_callbacks *callbacks = &replica->config.callbacks;
	struct p2p_sync_event event = {
		.kind = P2P_SYNC_ANEW,
		.replica = replica->id,
		.code = P2P_EIO,
		.text = "the state in memory is read anew from the files",
	};

	if (!replica->broken_told)
		callbacks->event(callbacks->ctx, &event);
	replica->broken_told = true;
}

/* As at a start. */
static int mend(struct p2p_replica *replica, struct p2p_error *err)
{
	int rc;

	p2p_replica_end(replica);
	(void)sqlite3_finalize(replica->data_version); /* the error was seen at the step */
	replica->data_version = NULL;
	replica->data_version_seen = -1;
	rc = p2p_store_reopen(replica->store, err);
	if (!rc && p2p_replica_member(replica) && p2p_store_enabled(replica->store))
		rc = p2p_replica_begin(replica, err);
	if (rc)
		return rc;
	replica->broken = replica->broken_told = false;
	replica->unsynced = false;
	p2p_log(replica->config.log, P2P_LOG_INFO, "crdt",
		"'%s': the state was read anew after local trouble", replica->db_path);
	return 0;
}

int p2p_replica_whole(struct p2p_replica *replica, struct p2p_error *err)
{
	if (!replica->broken)
		return p2p_store_settle(replica->store, err);
	if (!replica->peers)
		return mend(replica, err);
	tell_broken(replica);
	return p2p_error_set(err, P2P_EIO,
			     "'%s': the state in memory is read anew once the sessions ended",
			     replica->db_path);
}

/* --- what it is ------------------------------------------------------------------------------- */

bool p2p_replica_member(const struct p2p_replica *replica)
{
	static const struct p2p_id none;

	return p2p_id_cmp(&replica->id, &none) != 0 &&
	       p2p_authority_role(replica->authority, &replica->config.signer->node) !=
		       P2P__V1__ROLE__ROLE_NONE;
}

struct p2p_store *p2p_replica_store(struct p2p_replica *replica)
{
	return replica->store;
}

struct p2p_sidelog *p2p_replica_sidelog(struct p2p_replica *replica)
{
	return replica->sidelog;
}

struct p2p_authority *p2p_replica_authority(struct p2p_replica *replica)
{
	return replica->authority;
}

struct p2p_sync *p2p_replica_sync(struct p2p_replica *replica)
{
	return replica->sync;
}

const struct p2p_id *p2p_replica_id(const struct p2p_replica *replica)
{
	return &replica->id;
}

/* --- sessions --------------------------------------------------------------------------------- */

int p2p_replica_hello(struct p2p_replica *replica, P2p__V1__Hello *out)
{
	size_t count = p2p_store_table_count(replica->store), i;

	p2p_free(replica->hello_tables);
	p2p_free(replica->hello_refs);
	p2p_free(replica->hello_list);
	replica->hello_tables = p2p_calloc(count + 1, sizeof(*replica->hello_tables));
	replica->hello_refs = p2p_calloc(count + 1, sizeof(*replica->hello_refs));
	replica->hello_list = p2p_calloc(count + 1, sizeof(P2p__V1__SchemaRef *));
	if (!replica->hello_tables || !replica->hello_refs || !replica->hello_list)
		return P2P_ENOMEM;
	for (i = 0; i < count; i++) {
		const struct p2p_table *table = p2p_store_table(replica->store, i);

		replica->hello_tables[i].table = table->id;
		replica->hello_tables[i].schema = table->schema;
		p2p__v1__schema_ref__init(&replica->hello_refs[i]);
		replica->hello_refs[i].table =
			p2p_field(replica->hello_tables[i].table.bytes, P2P_ID_BYTES);
		replica->hello_refs[i].schema =
			p2p_field(replica->hello_tables[i].schema.bytes, P2P_HASH_BYTES);
		replica->hello_list[i] = &replica->hello_refs[i];
	}
	out->replica = p2p_field(replica->id.bytes, P2P_ID_BYTES);
	out->wall_ms = p2p_env_wall_ms(replica->config.env);
	out->n_tables = count;
	out->tables = replica->hello_list;
	out->credit_bytes = P2P_CREDIT_BYTES;
	return 0;
}

int p2p_replica_peer_up(struct p2p_replica *replica, p2p_sync_peer peer, const struct p2p_key *node,
			const P2p__V1__Hello *hello)
{
	int rc;

	if (!replica->sync || replica->broken)
		return P2P_ESTATE;
	/* what was written offline is frozen once its vector was compared with ours */
	replica->seal_due = true;
	rc = p2p_sync_peer_up(replica->sync, peer, node, hello);
	if (!rc)
		replica->peers++;
	return rc;
}

void p2p_replica_peer_down(struct p2p_replica *replica, p2p_sync_peer peer)
{
	struct p2p_sync_peer_status status;

	if (!replica->sync || !p2p_sync_peer_status(replica->sync, peer, &status))
		return; /* never was up */
	p2p_sync_peer_down(replica->sync, peer);
	p2p_require(replica->peers > 0);
	replica->peers--;
}

void p2p_replica_writable(struct p2p_replica *replica, p2p_sync_peer peer)
{
	if (replica->sync)
		p2p_sync_writable(replica->sync, peer);
}

int p2p_replica_receive(struct p2p_replica *replica, p2p_sync_peer peer,
			const struct p2p_message *message)
{
	if (!replica->sync || replica->broken)
		return P2P_ESTATE; /* the session is just ending */
	return p2p_sync_receive(replica->sync, peer, message);
}

/* --- status ----------------------------------------------------------------------------------- */

void p2p_replica_note_hold(struct p2p_replica *replica, uint64_t us)
{
	uint64_t minute = p2p_env_now(replica->config.env).ms / 60000;

	if (minute != replica->hold_minute) {
		replica->hold_us[1] = minute == replica->hold_minute + 1 ? replica->hold_us[0] : 0;
		replica->hold_us[0] = 0;
		replica->hold_minute = minute;
	}
	if (us > replica->hold_us[0])
		replica->hold_us[0] = us;
}

static int status_log(struct p2p_replica *replica, struct p2p_replica_status *out)
{
	struct p2p_vv log;
	size_t i;
	int rc;

	p2p_vv_init(&log);
	rc = p2p_sidelog_vector(replica->sidelog, &log);
	for (i = 0; i < log.count && !rc; i++) {
		uint64_t seq = p2p_vv_seq(&replica->merged, &log.entries[i].replica);

		if (p2p_id_cmp(&log.entries[i].replica, &replica->id) != 0 &&
		    log.entries[i].seq > seq)
			out->merge_pending += log.entries[i].seq - seq;
	}
	p2p_vv_deinit(&log);
	return rc;
}

int p2p_replica_status(struct p2p_replica *replica, struct p2p_replica_status *out)
{
	int64_t journal = 0;
	int rc = 0;

	memset(out, 0, sizeof(*out));
	if (replica->broken)
		return P2P_EIO;
	if (replica->capture) {
		rc = p2p_store_journal_max(replica->store, &journal);
		out->seq = p2p_capture_head(replica->capture)->seq;
		out->journal = p2p_capture_provisional(replica->capture);
		if (!rc && journal > p2p_capture_position(replica->capture))
			out->journal +=
				(uint64_t)(journal - p2p_capture_position(replica->capture));
		if (!rc)
			rc = status_log(replica, out);
	}
	p2p_vv_digest(&replica->merged, &out->digest);
	out->looking = p2p_replica_looking(replica);
	out->numbering = (replica->numbers_due && replica->peers) ||
			 (replica->capture && p2p_capture_numbering(replica->capture));
	out->waiting = p2p_store_waiting_count(replica->store);
	out->parked = p2p_store_parked_count(replica->store);
	out->conflicts = p2p_conflicts_count(replica->store);
	out->hold_us_max = replica->hold_us[0] > replica->hold_us[1] ? replica->hold_us[0]
								     : replica->hold_us[1];
	out->last_error = replica->last_error;
	(void)snprintf(out->last_error_text, sizeof(out->last_error_text), "%s",
		       replica->last_error_text);
	return rc;
}

/* After a statement of it failed, which made SQLite read the schema anew. */
static bool table_gone(struct p2p_replica *replica, const struct p2p_table *table)
{
	return sqlite3_table_column_metadata(p2p_store_db(replica->store), "main", table->name,
					     NULL, NULL, NULL, NULL, NULL, NULL) == SQLITE_ERROR;
}

int p2p_replica_table_rows(struct p2p_replica *replica, const struct p2p_table *table,
			   uint64_t *out)
{
	sqlite3_stmt *stmt = NULL;
	struct p2p_buf sql;
	int rc;

	if (replica->broken)
		return P2P_EIO;
	p2p_buf_init(&sql, SQL_BYTES_MAX);
	p2p_sql_text(&sql, "SELECT count(*) FROM main.");
	p2p_sql_name(&sql, table->name);
	rc = p2p_sql_prepare(replica->store, &sql, &stmt);
	p2p_buf_deinit(&sql);
	if (!rc) {
		int step = sqlite3_step(stmt);

		if (step == SQLITE_ROW)
			*out = (uint64_t)sqlite3_column_int64(stmt, 0);
		else
			rc = p2p_store_error(replica->store, step, NULL, "count the rows of");
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	return rc && table_gone(replica, table) ? P2P_ENOENT : rc;
}

bool p2p_replica_covers(struct p2p_replica *replica, const struct p2p_vv *need)
{
	return p2p_vv_covers(&replica->merged, need);
}

int p2p_replica_vector(struct p2p_replica *replica, struct p2p_vv *out)
{
	return p2p_vv_copy(out, &replica->merged);
}
