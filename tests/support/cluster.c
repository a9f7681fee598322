/* A mesh in one process; see cluster.h. */
#include "tests/support/cluster.h"

#include <sodium.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/mem.h"

#define WALL_BASE_MS 1700000000000ull

_Noreturn void cluster_fail(const char *what, int rc, const char *text)
{
	(void)fprintf(stderr, "%s: %s (%s)\n", what, p2p_err_name(rc), text ? text : "");
	abort();
}

static void check(const char *what, int rc, const struct p2p_error *err)
{
	if (rc)
		cluster_fail(what, rc, err ? err->msg : NULL);
}

/* --- time and chance -------------------------------------------------------------------------- */

/* splitmix64: small, and the same everywhere */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

uint64_t cluster_random(struct cluster *cluster, uint64_t below)
{
	return next_random(&cluster->random) % below;
}

static struct p2p_time env_now(void *ctx)
{
	struct cluster_node *node = ctx;
	struct p2p_time now = {node->cluster->now_ms};

	return now;
}

static uint64_t env_wall(void *ctx)
{
	struct cluster_node *node = ctx;

	return node->cluster->wall_base_ms + node->cluster->now_ms + (uint64_t)node->clock_skew_ms;
}

static void env_random(void *ctx, void *out, size_t len)
{
	struct cluster_node *node = ctx;
	uint8_t *bytes = out;
	size_t i;

	for (i = 0; i < len; i++)
		bytes[i] = (uint8_t)next_random(&node->cluster->random);
	if (len != P2P_ID_BYTES || !node->cluster->draws)
		return;
	node->cluster->draws--;
	memcpy(out, node->cluster->draw.bytes, P2P_REPLICA_RANDOM_BYTES);
}

/* --- messages --------------------------------------------------------------------------------- */

static void message_put(struct cluster *cluster, struct cluster_message *message)
{
	struct cluster_message **at = &cluster->messages;

	/* by due time, then in the order sent */
	while (*at && ((*at)->due_ms < message->due_ms ||
		       ((*at)->due_ms == message->due_ms && (*at)->order < message->order)))
		at = &(*at)->next;
	message->next = *at;
	*at = message;
}

static size_t peer_of(struct cluster_node *node, p2p_sync_peer handle)
{
	size_t i;

	for (i = 0; i < node->cluster->count; i++)
		if (node->cluster->links[node->index][i].up &&
		    node->cluster->links[node->index][i].handle == handle)
			return i;
	return SIZE_MAX;
}

static int node_send(void *ctx, p2p_sync_peer peer, enum p2p_class cls, enum p2p_message_type type,
		     const ProtobufCMessage *message)
{
	struct cluster_node *node = ctx;
	struct cluster *cluster = node->cluster;
	size_t to = peer_of(node, peer);
	struct cluster_message *queued;
	struct cluster_link *link;
	struct p2p_buf buf;

	if (to == SIZE_MAX)
		return P2P_ECLOSED;
	link = &cluster->links[node->index][to];
	if (cls != P2P_CLASS_CONTROL && link->queued >= 16)
		return P2P_EBUSY;
	p2p_buf_init(&buf, P2P_MESSAGE_MAX);
	check("pack", p2p_message_pack(&buf, type, message), NULL);
	queued = calloc(1, sizeof(*queued));
	if (!queued)
		cluster_fail("send", P2P_ENOMEM, NULL);
	queued->from = node->index;
	queued->to = to;
	queued->session = cluster->sessions[node->index][to];
	queued->order = cluster->order++;
	/* in order on one session, as TCP */
	queued->due_ms = cluster->now_ms + (cluster->delay_ms ? cluster->delay_ms : 0);
	queued->data = buf.data;
	queued->len = buf.len;
	node->bytes_sent += buf.len;
	node->messages_sent++;
	link->queued++;
	message_put(cluster, queued);
	return 0;
}

static void node_event(void *ctx, const struct p2p_sync_event *event)
{
	struct cluster_node *node = ctx;

	node->events[event->kind]++;
	/* as node/ does: sessions are made anew under the new id */
	if (event->kind == P2P_SYNC_SELF_AHEAD ||
	    (event->kind == P2P_SYNC_FORK &&
	     p2p_id_cmp(&event->replica, p2p_replica_id(node->replica)) == 0))
		node->leaves = true;
	if (node->cluster->verbose)
		(void)printf("%llu node %zu event %d code %d %s\n",
			     (unsigned long long)node->cluster->now_ms, node->index, event->kind,
			     event->code, event->text ? event->text : "");
}

static void node_merged(void *ctx, const struct p2p_id *replica, uint64_t seq, uint64_t rows)
{
	struct cluster_node *node = ctx;

	(void)replica;
	(void)seq;
	node->merged += rows;
}

/* Membership is told to everybody at once: its own protocol is tested elsewhere. */
static void node_record(void *ctx, const struct p2p_signed *record)
{
	struct cluster_node *node = ctx;
	size_t i;

	for (i = 0; i < node->cluster->count && !node->cluster->records_held; i++) {
		struct cluster_node *other = &node->cluster->nodes[i];
		struct p2p_error err = {0};

		if (other != node && other->replica && record->raw_len &&
		    !p2p_authority_has_prefix(p2p_replica_authority(other->replica),
					      record->hash.bytes))
			check("record",
			      p2p_replica_add_record(other->replica, record->raw, record->raw_len,
						     &err),
			      &err);
	}
}

static void log_sink(void *ctx, enum p2p_log_level level, const char *group, const char *text)
{
	struct cluster_node *node = ctx;

	if (node->cluster->verbose)
		(void)printf("%llu node %zu %d %s: %s\n", (unsigned long long)node->cluster->now_ms,
			     node->index, (int)level, group, text);
}

/* --- nodes ------------------------------------------------------------------------------------ */

static const struct p2p_log *node_log(struct cluster_node *node)
{
	static struct p2p_log logs[CLUSTER_NODES_MAX];

	logs[node->index].ctx = node;
	logs[node->index].sink = log_sink;
	logs[node->index].level = P2P_LOG_INFO;
	return &logs[node->index];
}

static void node_open(struct cluster_node *node, bool create)
{
	struct p2p_replica_config config = {
		.db_path = node->path,
		.state_dir = node->state,
		.env = &node->cluster->env[node->index],
		.log = node_log(node),
		.signer = &node->signer,
		.callbacks = {node, node_send, node_event, node_merged, node_record},
		.create_db = create,
		.apply_interval_ms = 100,
	};
	struct p2p_error err = {0};

	check("open", p2p_replica_open(&config, &node->replica, NULL, &err), &err);
	node->next.ms = 0;
}

static void app_open(struct cluster_node *node)
{
	if (sqlite3_open(node->path, &node->app) != SQLITE_OK ||
	    sqlite3_busy_timeout(node->app, 5000) != SQLITE_OK)
		cluster_fail("open the database", P2P_EIO, node->path);
}

static void keys_make(struct cluster_node *node)
{
	uint8_t seed[crypto_sign_SEEDBYTES];

	env_random(node, seed, sizeof(seed));
	(void)crypto_sign_seed_keypair(node->signer.node.bytes, node->secret, seed);
	node->signer.secret = node->secret;
	env_random(node, node->signer.wrap_key.bytes, P2P_KEY_BYTES);
	env_random(node, node->signer.noise_key.bytes, P2P_KEY_BYTES);
}

static struct cluster_node *node_new(struct cluster *cluster)
{
	struct cluster_node *node = &cluster->nodes[cluster->count];
	char dir[] = "/tmp/p2p-cluster-XXXXXX";

	node->cluster = cluster;
	node->index = cluster->count++;
	cluster->env[node->index] = (struct p2p_env){node, env_now, env_wall, env_random};
	if (!mkdtemp(dir))
		cluster_fail("mkdtemp", P2P_EIO, dir);
	(void)snprintf(node->dir, sizeof(node->dir), "%s", dir);
	(void)snprintf(node->path, sizeof(node->path), "%s/app.db", dir);
	(void)snprintf(node->state, sizeof(node->state), "%s/state", dir);
	(void)mkdir(node->state, 0700);
	keys_make(node);
	return node;
}

void cluster_init(struct cluster *cluster, uint64_t seed)
{
	memset(cluster, 0, sizeof(*cluster));
	if (sodium_init() < 0)
		cluster_fail("sodium_init", P2P_EIO, NULL);
	cluster->random = seed;
	cluster->now_ms = 1000;
	cluster->wall_base_ms = WALL_BASE_MS;
	cluster->verbose = getenv("CLUSTER_VERBOSE");
}

static void remove_file(const char *dir, const char *name)
{
	static const char *const ends[] = {"", "-wal", "-shm", "-journal"};
	char path[256];
	size_t i;

	for (i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s%s", dir, name, ends[i]);
		(void)unlink(path);
	}
}

void cluster_deinit(struct cluster *cluster)
{
	struct cluster_message *message = cluster->messages, *next;
	char name[32];
	size_t i, j;

	for (; message; message = next) {
		next = message->next;
		p2p_free(message->data);
		free(message);
	}
	for (i = 0; i < cluster->count; i++) {
		struct cluster_node *node = &cluster->nodes[i];

		p2p_replica_close(node->replica);
		(void)sqlite3_close(node->app);
		remove_file(node->state, "log.db");
		remove_file(node->state, "mark");
		(void)rmdir(node->state);
		remove_file(node->dir, "app.db");
		for (j = 0; j < 5; j++) {
			(void)snprintf(name, sizeof(name), "saved.%zu", j);
			remove_file(node->dir, name);
		}
		(void)rmdir(node->dir);
	}
}

void cluster_share(struct cluster *cluster, const char *sql)
{
	struct cluster_node *node = node_new(cluster);
	struct p2p_error err = {0};

	app_open(node);
	cluster_sql(cluster, 0, sql);
	node_open(node, false);
	check("found", p2p_replica_found(node->replica, "app.db", &err), &err);
	check("enable", p2p_replica_enable(node->replica, NULL, 0, NULL, 0, &err), &err);
	cluster->mesh = *p2p_authority_mesh(p2p_replica_authority(node->replica));
}

/* Node 0 admits it; it has all records then, and adopts what they say. */
static void node_admit(struct cluster *cluster, struct cluster_node *node)
{
	struct cluster_node *first = &cluster->nodes[0];
	struct p2p_authority *authority = p2p_replica_authority(first->replica);
	struct p2p_admission admission = {.role = P2P__V1__ROLE__ROLE_WRITER,
					  .max_format = P2P_FORMAT,
					  .name = "node"};
	struct p2p_error err = {0};
	struct p2p_buf record;
	size_t i;

	admission.node = node->signer.node;
	admission.wrap_key = node->signer.wrap_key;
	admission.noise_key = node->signer.noise_key;
	for (i = 0; i < p2p_authority_count(authority); i++) {
		const struct p2p_signed *at = p2p_authority_record(authority, i);

		check("record", p2p_replica_add_record(node->replica, at->raw, at->raw_len, &err),
		      &err);
	}
	p2p_buf_init(&record, P2P_RECORD_BODY_MAX);
	check("admission",
	      p2p_authority_make_admission(authority, &record, &first->signer, &admission), NULL);
	check("admit", p2p_replica_add_record(first->replica, record.data, record.len, &err), &err);
	p2p_buf_deinit(&record);
	check("adopt", p2p_replica_adopt(node->replica, &err), &err);
}

static void records_give(struct cluster_node *from, struct cluster_node *to)
{
	struct p2p_authority *authority = p2p_replica_authority(from->replica);
	struct p2p_error err = {0};
	size_t i;

	for (i = 0; i < p2p_authority_count(authority); i++) {
		const struct p2p_signed *at = p2p_authority_record(authority, i);

		if (at->raw_len &&
		    !p2p_authority_has_prefix(p2p_replica_authority(to->replica), at->hash.bytes))
			check("record",
			      p2p_replica_add_record(to->replica, at->raw, at->raw_len, &err),
			      &err);
	}
}

void cluster_tell(struct cluster *cluster)
{
	struct p2p_error err = {0};
	size_t a, b, round;

	/* to adopt may make records again */
	for (round = 0; round < 3; round++) {
		for (a = 0; a < cluster->count; a++)
			for (b = 0; b < cluster->count; b++)
				if (a != b && cluster->nodes[a].replica &&
				    cluster->nodes[b].replica)
					records_give(&cluster->nodes[a], &cluster->nodes[b]);
		for (a = 0; a < cluster->count; a++)
			if (cluster->nodes[a].replica)
				check("adopt", p2p_replica_adopt(cluster->nodes[a].replica, &err),
				      &err);
	}
}

struct cluster_node *cluster_join(struct cluster *cluster)
{
	struct cluster_node *node = node_new(cluster);

	node_open(node, true);
	app_open(node);
	p2p_replica_expect(node->replica, &cluster->mesh);
	node_admit(cluster, node);
	return node;
}

void cluster_rekey(struct cluster *cluster, size_t index, bool admitted)
{
	struct cluster_node *node = &cluster->nodes[index];

	keys_make(node);
	node_open(node, false);
	if (admitted)
		node_admit(cluster, node);
}

/* --- sessions --------------------------------------------------------------------------------- */

bool cluster_connected(const struct cluster *cluster, size_t a, size_t b)
{
	return cluster->links[a][b].up;
}

static void hello_to(struct cluster *cluster, size_t from, size_t to)
{
	struct cluster_node *sender = &cluster->nodes[from], *receiver = &cluster->nodes[to];
	P2p__V1__Hello hello;

	p2p__v1__hello__init(&hello);
	check("hello", p2p_replica_hello(sender->replica, &hello), NULL);
	check("peer up",
	      p2p_replica_peer_up(receiver->replica, cluster->links[to][from].handle,
				  &sender->signer.node, &hello),
	      NULL);
	receiver->next.ms = 0;
}

void cluster_connect(struct cluster *cluster, size_t a, size_t b)
{
	if (cluster->links[a][b].up || !cluster->nodes[a].replica || !cluster->nodes[b].replica)
		return;
	cluster->sessions[a][b] = cluster->sessions[b][a] = ++cluster->order;
	cluster->links[a][b] = (struct cluster_link){true, ++cluster->handles, 0};
	cluster->links[b][a] = (struct cluster_link){true, ++cluster->handles, 0};
	hello_to(cluster, a, b);
	hello_to(cluster, b, a);
}

void cluster_disconnect(struct cluster *cluster, size_t a, size_t b)
{
	size_t ends[2] = {a, b}, i;

	if (!cluster->links[a][b].up)
		return;
	for (i = 0; i < 2; i++) {
		struct cluster_node *node = &cluster->nodes[ends[i]];
		struct cluster_link *link = &cluster->links[ends[i]][ends[1 - i]];

		link->up = false;
		if (node->replica)
			p2p_replica_peer_down(node->replica, link->handle);
		node->next.ms = 0;
	}
	/* messages under way are lost: their session is over */
	cluster->sessions[a][b] = cluster->sessions[b][a] = 0;
}

void cluster_connect_all(struct cluster *cluster)
{
	size_t a, b;

	for (a = 0; a < cluster->count; a++)
		for (b = a + 1; b < cluster->count; b++)
			cluster_connect(cluster, a, b);
}

void cluster_kill(struct cluster *cluster, size_t index)
{
	struct cluster_node *node = &cluster->nodes[index];
	size_t i;

	for (i = 0; i < cluster->count; i++)
		cluster_disconnect(cluster, index, i);
	p2p_replica_close(node->replica);
	node->replica = NULL;
}

void cluster_start(struct cluster *cluster, size_t index)
{
	node_open(&cluster->nodes[index], false);
}

/* --- backups ---------------------------------------------------------------------------------- */

static const char *const saved[] = {"app.db", "app.db-wal", "state/log.db", "state/log.db-wal",
				    "state/mark"};

/* Without `from` there is no `to` afterwards. */
static void copy_file(const char *from, const char *to)
{
	FILE *in = fopen(from, "rb"), *out;
	char bytes[4096];
	size_t len;

	if (!in) {
		(void)unlink(to);
		return;
	}
	/* in place: it keeps its inode, as on a disk that is rolled back */
	out = fopen(to, "wb");
	if (!out)
		cluster_fail("copy", P2P_EIO, to);
	while ((len = fread(bytes, 1, sizeof(bytes), in)) > 0)
		if (fwrite(bytes, 1, len, out) != len)
			cluster_fail("copy", P2P_EIO, to);
	(void)fclose(in);
	if (fclose(out))
		cluster_fail("copy", P2P_EIO, to);
}

/* prefix: of what is copied; "": all. */
static void copy_all(struct cluster_node *node, bool back, const char *prefix)
{
	char path[256], aside[256];
	size_t i;

	for (i = 0; i < sizeof(saved) / sizeof(saved[0]); i++) {
		if (strncmp(saved[i], prefix, strlen(prefix)) != 0)
			continue;
		(void)snprintf(path, sizeof(path), "%s/%s", node->dir, saved[i]);
		(void)snprintf(aside, sizeof(aside), "%s/saved.%zu", node->dir, i);
		copy_file(back ? aside : path, back ? path : aside);
	}
}

void cluster_save(struct cluster *cluster, size_t index)
{
	struct cluster_node *node = &cluster->nodes[index];

	(void)sqlite3_close(node->app);
	copy_all(node, false, "");
	app_open(node);
}

void cluster_restore(struct cluster *cluster, size_t index, const char *what)
{
	struct cluster_node *node = &cluster->nodes[index];

	(void)sqlite3_close(node->app);
	copy_all(node, true,
		 strcmp(what, "db") == 0    ? "app"
		 : strcmp(what, "log") == 0 ? "state/log"
					    : "");
	app_open(node);
}

void cluster_copy(struct cluster *cluster, size_t index)
{
	struct cluster_node *node = &cluster->nodes[index];
	char path[256], copy[256];

	(void)sqlite3_close(node->app);
	(void)snprintf(path, sizeof(path), "%s/app.db", node->dir);
	(void)snprintf(copy, sizeof(copy), "%s/saved.0", node->dir);
	copy_file(path, copy); /* both exist at once: they are two inodes */
	if (rename(copy, path) != 0)
		cluster_fail("rename", P2P_EIO, path);
	app_open(node);
}

/* --- running ---------------------------------------------------------------------------------- */

static void deliver(struct cluster *cluster, struct cluster_message *message)
{
	struct cluster_node *node = &cluster->nodes[message->to];
	struct cluster_link *back = &cluster->links[message->from][message->to];
	struct p2p_message unpacked;
	int rc;

	if (!message->session ||
	    cluster->sessions[message->from][message->to] != message->session || !node->replica)
		return;
	back->queued--;
	check("unpack", p2p_message_unpack(&unpacked, message->data, message->len), NULL);
	rc = p2p_replica_receive(node->replica, cluster->links[message->to][message->from].handle,
				 &unpacked);
	p2p_message_deinit(&unpacked);
	if (rc) {
		(void)fprintf(stderr, "node %zu refuses node %zu: %s\n", message->to, message->from,
			      p2p_err_name(rc));
		cluster_disconnect(cluster, message->to, message->from);
		return;
	}
	node->next.ms = 0;
	if (back->queued < 8 && cluster->nodes[message->from].replica)
		p2p_replica_writable(cluster->nodes[message->from].replica, back->handle);
}

static void deliver_due(struct cluster *cluster)
{
	while (cluster->messages && cluster->messages->due_ms <= cluster->now_ms) {
		struct cluster_message *message = cluster->messages;

		cluster->messages = message->next;
		deliver(cluster, message);
		p2p_free(message->data);
		free(message);
	}
}

static void node_work(struct cluster_node *node)
{
	struct p2p_error err = {0};
	bool changed = false;

	if (!node->replica)
		return;
	if (p2p_replica_file_moved(node->replica)) {
		check("poll", p2p_replica_poll(node->replica, &changed, &err), &err);
		if (changed)
			node->next.ms = 0;
	}
	if (node->next.ms <= node->cluster->now_ms)
		check("step", p2p_replica_step(node->replica, &node->next, &err), &err);
}

static void leave_sessions(struct cluster *cluster, size_t index)
{
	size_t i;

	for (i = 0; i < cluster->count && cluster->nodes[index].leaves; i++)
		cluster_disconnect(cluster, index, i);
	cluster->nodes[index].leaves = false;
}

void cluster_run(struct cluster *cluster, uint64_t ms)
{
	uint64_t end = cluster->now_ms + ms;
	size_t i;

	for (; cluster->now_ms < end; cluster->now_ms++) {
		deliver_due(cluster);
		for (i = 0; i < cluster->count; i++)
			leave_sessions(cluster, i);
		for (i = 0; i < cluster->count; i++)
			node_work(&cluster->nodes[i]);
	}
}

static bool settled(struct cluster *cluster)
{
	struct p2p_replica_status status;
	struct p2p_hash digest;
	bool first = true;
	size_t i;

	for (i = 0; i < cluster->count; i++) {
		struct cluster_node *node = &cluster->nodes[i];

		if (!node->replica)
			continue;
		check("status", p2p_replica_status(node->replica, &status), NULL);
		if (status.journal || status.merge_pending || status.numbering)
			return false;
		if (!first && p2p_hash_cmp(&digest, &status.digest) != 0)
			return false;
		digest = status.digest;
		first = false;
	}
	return true;
}

bool cluster_settle(struct cluster *cluster, uint64_t limit_ms)
{
	uint64_t end = cluster->now_ms + limit_ms;

	cluster_run(cluster, 5);
	while (cluster->now_ms < end) {
		if (settled(cluster))
			return true;
		cluster_run(cluster, 20);
	}
	return settled(cluster);
}

/* --- SQL -------------------------------------------------------------------------------------- */

int cluster_try(struct cluster *cluster, size_t node, const char *sql)
{
	return sqlite3_exec(cluster->nodes[node].app, sql, NULL, NULL, NULL);
}

void cluster_sql(struct cluster *cluster, size_t node, const char *sql)
{
	if (cluster_try(cluster, node, sql) != SQLITE_OK) {
		(void)fprintf(stderr, "%s\n", sql);
		cluster_fail("sql", P2P_EIO, sqlite3_errmsg(cluster->nodes[node].app));
	}
}

/* Printable as it is, anything else in hexadecimal: two values never look alike. */
static void append_bytes(sqlite3_str *text, char mark, sqlite3_stmt *stmt, int column)
{
	const uint8_t *bytes = sqlite3_column_blob(stmt, column);
	int len = sqlite3_column_bytes(stmt, column), i;
	bool plain = mark == '\'';

	for (i = 0; i < len && plain; i++)
		plain = bytes[i] >= ' ' && bytes[i] < 127 && bytes[i] != '\'';
	sqlite3_str_appendf(text, "|%c", mark);
	for (i = 0; i < len; i++)
		sqlite3_str_appendf(text, plain ? "%c" : "%02x", bytes[i]);
	sqlite3_str_appendf(text, plain ? "'" : ".");
}

char *cluster_rows(struct cluster *cluster, size_t node, const char *sql)
{
	sqlite3_stmt *stmt = NULL;
	sqlite3_str *text = sqlite3_str_new(NULL);
	char *out, *copy;
	int i;

	if (sqlite3_prepare_v2(cluster->nodes[node].app, sql, -1, &stmt, NULL) != SQLITE_OK)
		cluster_fail("sql", P2P_EIO, sqlite3_errmsg(cluster->nodes[node].app));
	while (sqlite3_step(stmt) == SQLITE_ROW) {
		for (i = 0; i < sqlite3_column_count(stmt); i++) {
			switch (sqlite3_column_type(stmt, i)) {
			case SQLITE_NULL:
				sqlite3_str_appendf(text, "|NULL");
				break;
			case SQLITE_INTEGER:
				sqlite3_str_appendf(text, "|%lld", sqlite3_column_int64(stmt, i));
				break;
			case SQLITE_FLOAT:
				sqlite3_str_appendf(text, "|%!.17g",
						    sqlite3_column_double(stmt, i));
				break;
			case SQLITE_TEXT:
				append_bytes(text, '\'', stmt, i);
				break;
			default:
				append_bytes(text, 'x', stmt, i);
			}
		}
		sqlite3_str_appendf(text, "\n");
	}
	(void)sqlite3_finalize(stmt);
	out = sqlite3_str_finish(text);
	copy = strdup(out ? out : "");
	sqlite3_free(out);
	return copy;
}

static bool table_equal(struct cluster *cluster, const char *table)
{
	char *sql = sqlite3_mprintf("SELECT * FROM \"%w\" ORDER BY 1, 2", table);
	char *first = NULL, *rows;
	bool equal = true;
	size_t i, at = 0;

	for (i = 0; i < cluster->count && equal; i++) {
		if (!cluster->nodes[i].replica)
			continue;
		rows = cluster_rows(cluster, i, sql);
		if (!first) {
			first = rows;
			at = i;
			continue;
		}
		equal = strcmp(first, rows) == 0;
		if (!equal)
			(void)fprintf(stderr,
				      "table %s differs\nnode %zu:\n%.2000s\nnode %zu:\n%.2000s\n",
				      table, at, first, i, rows);
		free(rows);
	}
	free(first);
	sqlite3_free(sql);
	return equal;
}

bool cluster_equal(struct cluster *cluster)
{
	char *names =
		cluster_rows(cluster, 0,
			     "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT"
			     " LIKE 'p2p\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite_%'");
	char *at = names, *end;
	bool equal = true;

	while (*at && equal) {
		at += 2; /* |' */
		end = strchr(at, '\'');
		*end = 0;
		equal = table_equal(cluster, at);
		at = end + 2;
	}
	free(names);
	return equal;
}
