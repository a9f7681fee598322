/* See victim.h. */
#include "tests/fuzz/victim.h"

#include <sodium.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/arena.h"
#include "tests/fuzz/memdisk.h"

struct victim victim;

static char dir[64], state_dir[80], db_path[80], log_path[96];
static struct p2p_env env;
static struct victim saved;
static size_t saved_live, closed_live;

_Noreturn void victim_broken(const char *what, int rc, const struct p2p_error *err)
{
	(void)fprintf(stderr, "%s: %s: %s (%s)\n", fuzz_target.name, what, p2p_err_name(rc),
		      err ? err->msg : "");
	abort();
}

void victim_must(const char *what, int rc, const struct p2p_error *err)
{
	if (rc)
		victim_broken(what, rc, err);
}

/* --- the victim's callbacks ------------------------------------------------------------------- */

static int on_send(void *ctx, p2p_sync_peer peer, enum p2p_class cls, enum p2p_message_type type,
		   const ProtobufCMessage *message)
{
	struct p2p_buf buf;
	size_t i;

	(void)ctx;
	p2p_require(peer < p2p_array_len(victim.peers));
	p2p_require(victim.peers[peer].up);
	if (victim.peers[peer].busy && cls != P2P_CLASS_CONTROL)
		return P2P_EBUSY;
	p2p_buf_init(&buf, P2P_MESSAGE_MAX);
	fuzz_ok(p2p_message_pack(&buf, type, message));
	p2p_buf_deinit(&buf);
	if (type == P2P_MSG_WANT && peer == HONEST_PEER) {
		victim.honest_asked = true;
		victim.honest_segment = ((const P2p__V1__Want *)message)->from_segment;
	}
	if (type == P2P_MSG_ACK && peer == HONEST_PEER) {
		const P2p__V1__Ack *ack = (const P2p__V1__Ack *)message;

		for (i = 0; i < ack->n_durable; i++)
			if (memcmp(ack->durable[i]->replica.data, victim.honest_replica.bytes,
				   P2P_ID_BYTES) == 0)
				victim.honest_acked = ack->durable[i]->seq;
	}
	return 0;
}

static void on_event(void *ctx, const struct p2p_sync_event *event)
{
	(void)ctx;
	/* nobody else has our key, or an honest one's */
	p2p_require(event->kind != P2P_SYNC_SELF_AHEAD);
	/* closed when the engine is not on the stack; 0: a replica whose changes are nonsense */
	if (event->kind == P2P_SYNC_BAD_PEER && event->peer) {
		p2p_require(event->peer == LIAR_PEER);
		victim.peers[event->peer].bad = true;
	}
	if (event->kind == P2P_SYNC_FORK) {
		p2p_require(p2p_id_cmp(&event->replica, &victim.own_replica) != 0);
		p2p_require(p2p_id_cmp(&event->replica, &victim.replicas[REPLICA_ELDER]) != 0);
		p2p_require(p2p_id_cmp(&event->replica, &victim.replicas[REPLICA_HONEST]) != 0);
	}
}

static void on_merged(void *ctx, const struct p2p_id *id, uint64_t seq, uint64_t rows)
{
	(void)ctx;
	(void)seq;
	(void)rows;
	p2p_require(p2p_id_cmp(id, &victim.replicas[REPLICA_READER]) != 0);
	p2p_require(p2p_id_cmp(id, &victim.own_replica) != 0);
}

static void open_replica(bool create)
{
	struct p2p_replica_config config = {
		.db_path = db_path,
		.state_dir = state_dir,
		.env = &env,
		.signer = &victim.signers[VICTIM],
		.callbacks = {NULL, on_send, on_event, on_merged, NULL},
		.create_db = create,
		.apply_interval_ms = 100,
	};
	struct p2p_error err = {0};

	victim_must("open", p2p_replica_open(&config, &victim.replica, NULL, &err), &err);
}

void victim_sql(const char *text)
{
	char *error = NULL;

	if (!victim.application && (sqlite3_open(db_path, &victim.application) != SQLITE_OK ||
				    sqlite3_busy_timeout(victim.application, 1000) != SQLITE_OK))
		victim_broken("open the application's database", P2P_EIO, NULL);
	if (sqlite3_exec(victim.application, text, NULL, NULL, &error) != SQLITE_OK) {
		/* it may break its own constraints, and no more */
		p2p_require(sqlite3_errcode(victim.application) == SQLITE_CONSTRAINT);
		sqlite3_free(error);
	}
}

/* --- the mesh ----------------------------------------------------------------------------------
 */

static void add_record(const struct p2p_buf *record)
{
	struct p2p_error err = {0};

	victim_must("add a record",
		    p2p_replica_add_record(victim.replica, record->data, record->len, &err), &err);
}

static void admit(size_t node, uint32_t role)
{
	struct p2p_admission admission = {.node = victim.signers[node].node,
					  .wrap_key = victim.signers[node].wrap_key,
					  .noise_key = victim.signers[node].noise_key,
					  .role = role,
					  .max_format = P2P_FORMAT,
					  .name = "node"};
	struct p2p_buf record;

	p2p_buf_init(&record, P2P_RECORD_BODY_MAX);
	fuzz_ok(p2p_authority_make_admission(p2p_replica_authority(victim.replica), &record,
					     &victim.signers[VICTIM], &admission));
	add_record(&record);
	p2p_buf_deinit(&record);
}

static void certify(size_t node, size_t which)
{
	struct p2p_buf record;

	memset(victim.replicas[which].bytes, (int)which + 1, P2P_ID_BYTES);
	p2p_replica_id_bind(&victim.replicas[which], &victim.signers[node].node);
	p2p_buf_init(&record, P2P_RECORD_BODY_MAX);
	fuzz_ok(p2p_authority_make_certificate(p2p_replica_authority(victim.replica), &record,
					       &victim.signers[node], &victim.replicas[which],
					       NULL));
	add_record(&record);
	p2p_buf_deinit(&record);
}

static void world_reset(void)
{
	memset(&victim.world, 0, sizeof(victim.world));
	victim.world.now_ms = 1000;
	victim.world.wall_ms = 1700000000000;
	victim.world.random = 5;
}

void victim_peer_down(p2p_sync_peer peer)
{
	if (victim.peers[peer].up)
		p2p_replica_peer_down(victim.replica, peer);
	victim.peers[peer].up = victim.peers[peer].bad = false;
}

void victim_step(void)
{
	struct p2p_time next = {0};
	struct p2p_error err = {0};
	bool changed;
	size_t i;

	if (p2p_replica_file_moved(victim.replica))
		victim_must("poll", p2p_replica_poll(victim.replica, &changed, &err), &err);
	for (i = 0; i < 50 && next.ms <= victim.world.now_ms; i++)
		victim_must("step", p2p_replica_step(victim.replica, &next, &err), &err);
	if (victim.peers[LIAR_PEER].bad)
		victim_peer_down(LIAR_PEER);
}

void victim_pass(uint64_t ms)
{
	victim.world.now_ms += ms;
	victim_step();
}

static void folders_make(void)
{
	(void)snprintf(dir, sizeof(dir), "%s/p2p-fuzz-XXXXXX",
		       access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	p2p_require(mkdtemp(dir) != NULL);
	(void)snprintf(state_dir, sizeof(state_dir), "%s/state", dir);
	(void)snprintf(db_path, sizeof(db_path), "%s/app.db", dir);
	(void)snprintf(log_path, sizeof(log_path), "%s/log.db", state_dir);
	p2p_require(mkdir(state_dir, 0700) == 0);
	memdisk_add(db_path);
	memdisk_add(log_path);
}

static void signers_make(void)
{
	uint8_t seed[32];
	size_t i;

	for (i = 0; i < NODES; i++) {
		memset(seed, (int)i + 1, sizeof(seed));
		p2p_require(crypto_sign_seed_keypair(victim.signers[i].node.bytes,
						     victim.secrets[i], seed) == 0);
		victim.signers[i].secret = victim.secrets[i];
		memset(victim.signers[i].wrap_key.bytes, (int)i + 10, P2P_KEY_BYTES);
		memset(victim.signers[i].noise_key.bytes, (int)i + 20, P2P_KEY_BYTES);
	}
}

static void describe_tables(void)
{
	static const char *const names[VICTIM_TABLES] = {"note", "item", "pair"};
	struct p2p_store *store = p2p_replica_store(victim.replica);
	struct p2p_error err = {0};
	size_t i;

	for (i = 0; i < VICTIM_TABLES; i++) {
		const struct p2p_table *table = p2p_store_table_by_name(store, names[i]);

		victim.schemas[i] = (struct p2p_schema_ref){table->id, table->schema};
		victim_must("describe",
			    p2p_schema_read_table(p2p_store_db(store), names[i],
						  &victim.described[i], &err),
			    &err);
	}
}

static void found_mesh(void)
{
	static const uint32_t roles[NODES] = {0, P2P__V1__ROLE__ROLE_WRITER,
					      P2P__V1__ROLE__ROLE_WRITER,
					      P2P__V1__ROLE__ROLE_READER};
	struct p2p_error err = {0};
	size_t i;

	victim_must("found", p2p_replica_found(victim.replica, "app.db", &err), &err);
	victim_must("enable", p2p_replica_enable(victim.replica, NULL, 0, NULL, 0, &err), &err);
	victim.mesh = *p2p_authority_mesh(p2p_replica_authority(victim.replica));
	for (i = 1; i < NODES; i++)
		admit(i, roles[i]);
	certify(LIAR, REPLICA_A);
	certify(LIAR, REPLICA_B);
	certify(HONEST, REPLICA_HONEST);
	certify(READER, REPLICA_READER);
	certify(HONEST, REPLICA_ELDER);
	victim_must("freeze", p2p_replica_freeze(victim.replica, &err), &err);
	victim.own_replica = *p2p_replica_id(victim.replica);
	describe_tables();
	victim_pass(2000);
}

void victim_init(void)
{
	/* one thread, and nobody asks how much memory SQLite has: a sixth of the time */
	p2p_require(sqlite3_config(SQLITE_CONFIG_SINGLETHREAD) == SQLITE_OK);
	p2p_require(sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0) == SQLITE_OK);
	fuzz_arena_for_sqlite();
	memdisk_install();
	env = fuzz_env(&victim.world);
	world_reset();
	folders_make();
	signers_make();
	open_replica(true);
	victim_sql(
		"CREATE TABLE note(k TEXT PRIMARY KEY, v INTEGER, w UNIQUE) WITHOUT ROWID;"
		"CREATE TABLE item(id INTEGER PRIMARY KEY, a, b TEXT DEFAULT 'b');"
		"CREATE TABLE pair(a, b REAL NOT NULL DEFAULT 1, PRIMARY KEY(a, b));"
		"INSERT INTO note VALUES('one', 1, 1), ('two', 2, 2); INSERT INTO item VALUES(1, 'x', 'y');"
		"INSERT INTO pair VALUES(1, 2)");
	found_mesh();
	victim_close();
	world_reset();
	victim.world.now_ms = 100000;
	open_replica(false);
	victim_sql("SELECT * FROM note, item, pair");
}

void victim_save(void)
{
	saved = victim;
	saved_live = fuzz_live();
	fuzz_arena_save();
	memdisk_save();
	victim_close();
	closed_live = fuzz_live();
}

void victim_deinit(void)
{
	char path[128];
	size_t i;

	for (i = 0; i < VICTIM_TABLES; i++)
		p2p_table_deinit(&victim.described[i]);
	memdisk_remove();
	(void)snprintf(path, sizeof(path), "%s/mark", state_dir);
	(void)unlink(path);
	(void)rmdir(state_dir);
	(void)rmdir(dir);
}

/* --- sessions --------------------------------------------------------------------------------- */

void victim_peer_up(p2p_sync_peer peer, size_t node, const struct p2p_id *id, struct fuzz_in *in)
{
	P2p__V1__Hello hello;
	int rc;

	if (victim.peers[peer].up)
		return;
	p2p__v1__hello__init(&hello);
	hello.message_version = P2P_MESSAGE_VERSION;
	hello.replica = p2p_field(id->bytes, P2P_ID_BYTES);
	hello.wall_ms = victim.world.wall_ms + victim.world.now_ms;
	hello.credit_bytes = P2P_CREDIT_BYTES;
	hello.max_format = P2P_FORMAT;
	if (in) {
		uint8_t odd = fuzz_u8(in);

		if (odd >= 0xe0)
			hello.wall_ms = fuzz_number(in);
		if (odd & 1)
			hello.credit_bytes = fuzz_number(in);
		hello.replica.len = odd >= 0xfc ? fuzz_below(in, 17) : P2P_ID_BYTES;
	}
	victim.peers[peer].up = true; /* it may be told something from inside */
	victim.peers[peer].busy = false;
	rc = p2p_replica_peer_up(victim.replica, peer, &victim.signers[node].node, &hello);
	if (rc) {
		p2p_require(in && p2p_err_blame(rc) == P2P_BLAME_PEER);
		victim.peers[peer].up = false;
	}
}

void victim_receive_bytes(p2p_sync_peer peer, const void *data, size_t len)
{
	struct p2p_message message;
	int rc;

	if (!victim.peers[peer].up || p2p_message_unpack(&message, data, len))
		return;
	rc = p2p_replica_receive(victim.replica, peer, &message);
	p2p_message_deinit(&message);
	if (!rc)
		return;
	/* whoever breaks the protocol loses his session, and nobody else does */
	if (rc > 0 || p2p_err_blame(rc) != P2P_BLAME_PEER || peer != LIAR_PEER)
		victim_broken("receive", rc, NULL);
	victim_peer_down(peer);
}

void victim_receive(p2p_sync_peer peer, enum p2p_message_type type, const ProtobufCMessage *message)
{
	struct p2p_buf buf;

	p2p_buf_init(&buf, P2P_MESSAGE_MAX);
	if (p2p_message_pack(&buf, type, message) == 0)
		victim_receive_bytes(peer, buf.data, buf.len);
	p2p_buf_deinit(&buf);
}

/* --- one input -------------------------------------------------------------------------------- */

void victim_open(void)
{
	fuzz_arena_restore();
	memdisk_restore();
	victim = saved;
	fuzz_live_again(saved_live);
}

void victim_close(void)
{
	if (victim.application)
		p2p_require(sqlite3_close(victim.application) == SQLITE_OK);
	victim.application = NULL;
	p2p_replica_close(victim.replica);
	victim.replica = NULL;
}

void victim_leave(void)
{
	fuzz_live_again(closed_live);
}
