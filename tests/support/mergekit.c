/* Replicas for tests of the merge; see mergekit.h. */
#include "tests/support/mergekit.h"

#include <sodium.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/check.h"
#include "proto/message.h"
#include "tests/support/statetext.h"

static _Noreturn void kit_fail(const char *what, int rc, const char *text)
{
	(void)fprintf(stderr, "mergekit: %s: %s (%s)\n", what, p2p_err_name(rc), text);
	abort();
}

static void kit_check(const char *what, int rc, const struct p2p_error *err)
{
	if (rc < 0)
		kit_fail(what, rc, err ? err->msg : "");
}

static struct p2p_time kit_now(void *ctx)
{
	struct p2p_time now = {0};

	(void)ctx;
	return now;
}

static uint64_t kit_wall(void *ctx)
{
	(void)ctx;
	return 1700000000000ull;
}

static void kit_random(void *ctx, void *out, size_t len)
{
	(void)ctx;
	memset(out, 0x5a, len);
}

static const struct p2p_env kit_env = {NULL, kit_now, kit_wall, kit_random};

/* --- mesh ------------------------------------------------------------------------------------ */

static void mesh_add(struct kit_mesh *mesh, const struct p2p_buf *raw)
{
	int rc = p2p_authority_add(mesh->authority, raw->data, raw->len);

	kit_check("add a record", rc, NULL);
}

void kit_mesh_init(struct kit_mesh *mesh)
{
	static const uint8_t seed[crypto_sign_SEEDBYTES] = {1};
	static const uint8_t random[32] = {2};
	struct p2p_hash id;
	struct p2p_buf raw;

	memset(mesh, 0, sizeof(*mesh));
	if (sodium_init() < 0 ||
	    crypto_sign_seed_keypair(mesh->signer.node.bytes, mesh->secret, seed) != 0)
		kit_fail("libsodium", P2P_EIO, "");
	mesh->signer.secret = mesh->secret;
	memset(mesh->signer.wrap_key.bytes, 3, P2P_KEY_BYTES);
	memset(mesh->signer.noise_key.bytes, 4, P2P_KEY_BYTES);
	kit_check("new authority", p2p_authority_new(&kit_env, &mesh->authority), NULL);
	p2p_buf_init(&raw, P2P_MESSAGE_MAX);
	kit_check("genesis", p2p_authority_make_genesis(&raw, &id, &mesh->signer, "test", random),
		  NULL);
	mesh_add(mesh, &raw);
	p2p_buf_deinit(&raw);
}

void kit_mesh_deinit(struct kit_mesh *mesh)
{
	p2p_authority_free(mesh->authority);
	free(mesh->keys);
	memset(mesh, 0, sizeof(*mesh));
}

void kit_mesh_forget(struct kit_mesh *mesh)
{
	mesh->key_count = 0;
}

static void mesh_note(struct kit_mesh *mesh, uint32_t table, const struct p2p_identity *identity)
{
	struct kit_key key;
	struct p2p_buf bytes;
	size_t i;

	p2p_buf_init(&bytes, P2P_RECORD_BYTES_MAX);
	p2p_identity_put(&bytes, identity);
	memset(&key, 0, sizeof(key));
	key.table = table;
	key.len = bytes.len;
	if (bytes.len <= sizeof(key.bytes))
		memcpy(key.bytes, bytes.data, bytes.len);
	p2p_buf_deinit(&bytes);
	for (i = 0; i < mesh->key_count && key.len <= sizeof(key.bytes); i++)
		if (memcmp(&mesh->keys[i], &key, sizeof(key)) == 0)
			return;
	if (key.len > sizeof(key.bytes))
		kit_fail("rows seen", P2P_ETOOBIG, "");
	if (mesh->key_count == mesh->key_cap) {
		mesh->key_cap = mesh->key_cap ? mesh->key_cap * 2 : 64;
		mesh->keys = realloc(mesh->keys, mesh->key_cap * sizeof(*mesh->keys));
		if (!mesh->keys)
			kit_fail("rows seen", P2P_ENOMEM, "");
	}
	mesh->keys[mesh->key_count++] = key;
}

uint32_t kit_mesh_table(struct kit_mesh *mesh, const char *name, bool generated,
			const char *const *columns, size_t count)
{
	return kit_mesh_counting(mesh, name, generated, columns, count, 0);
}

uint32_t kit_mesh_counting(struct kit_mesh *mesh, const char *name, bool generated,
			   const char *const *columns, size_t count, uint32_t counters)
{
	P2p__V1__Schema schema;
	P2p__V1__Column column[16], *pointers[16];
	struct p2p_id ids[16];
	struct p2p_buf body, raw;
	size_t i, at = mesh->table_count;
	char copy[2][64], names[16][64];

	p2p__v1__schema__init(&schema);
	p2p_require(at < KIT_TABLES_MAX && count <= p2p_array_len(column));
	p2p_table_id(&mesh->table[at], name);
	(void)snprintf(mesh->name[at], sizeof(mesh->name[at]), "%s", name);
	(void)snprintf(copy[0], sizeof(copy[0]), "%s", name);
	(void)snprintf(copy[1], sizeof(copy[1]), "CREATE TABLE %.40s(x)", name);
	for (i = 0; i < count; i++) {
		p2p__v1__column__init(&column[i]);
		p2p_column_id(&ids[i], &mesh->table[at], columns[i]);
		column[i].id = p2p_field(ids[i].bytes, P2P_ID_BYTES);
		(void)snprintf(names[i], sizeof(names[i]), "%s", columns[i]);
		column[i].name = names[i];
		if (counters >> i & 1) {
			struct p2p_choice *choice = &mesh->counters[at][mesh->counter_count[at]++];

			p2p_require(mesh->counter_count[at] <= p2p_array_len(mesh->counters[at]));
			column[i].flags = choice->flags = P2P_COLUMN_COUNTER;
			choice->column = ids[i];
		}
		pointers[i] = &column[i];
	}
	schema.format = 1;
	schema.table = p2p_field(mesh->table[at].bytes, P2P_ID_BYTES);
	schema.name = copy[0];
	schema.identity = generated;
	schema.n_columns = count;
	schema.columns = pointers;
	schema.create_sql = copy[1];
	p2p_buf_init(&body, P2P_MESSAGE_MAX);
	p2p_buf_init(&raw, P2P_MESSAGE_MAX);
	kit_check("pack a schema", p2p_pack(&body, &schema.base), NULL);
	kit_check("make a schema record",
		  p2p_authority_make_schema(mesh->authority, &raw, &mesh->signer, body.data,
					    body.len),
		  NULL);
	mesh_add(mesh, &raw);
	mesh->schema[at] =
		p2p_authority_record(mesh->authority, p2p_authority_count(mesh->authority) - 1)
			->hash;
	if (!p2p_authority_schema(mesh->authority, &mesh->schema[at]))
		kit_fail("schema record", P2P_ENOENT, name);
	p2p_buf_deinit(&body);
	p2p_buf_deinit(&raw);
	mesh->columns[at] = (uint32_t)count;
	return (uint32_t)mesh->table_count++;
}

/* --- node ------------------------------------------------------------------------------------ */

void kit_sql(struct kit_node *node, const char *sql)
{
	char *text = NULL;

	if (sqlite3_exec(p2p_store_db(node->store), sql, NULL, NULL, &text) != SQLITE_OK)
		kit_fail(sql, P2P_EIO, text ? text : "");
}

static const char *kit_dir(void)
{
	struct stat st;
	const char *dir = getenv("TMPDIR");

	/* tmpfs, where there is one: what is tested here is not the disk */
	if (stat("/dev/shm", &st) == 0 && S_ISDIR(st.st_mode) && access("/dev/shm", W_OK) == 0)
		return "/dev/shm";
	return dir && *dir ? dir : "/tmp";
}

static void node_enable(struct kit_node *node, size_t table)
{
	struct kit_mesh *mesh = node->mesh;
	struct p2p_enabling enabling = {.name = mesh->name[table], .present = P2P_PRESENT_NONE};
	struct p2p_error err = {0};

	enabling.choices = mesh->counters[table];
	enabling.choice_count = mesh->counter_count[table];
	kit_check("enable", p2p_store_enable_as(node->store, &enabling, &err), &err);
}

void kit_node_init(struct kit_node *node, struct kit_mesh *mesh, const char *sql)
{
	struct p2p_store_config config = {0};
	struct p2p_merge_config merge = {0};
	struct p2p_error err = {0};
	size_t i;
	int fd;

	memset(node, 0, sizeof(*node));
	node->mesh = mesh;
	(void)snprintf(node->path, sizeof(node->path), "%s/p2p-merge-XXXXXX", kit_dir());
	fd = mkstemp(node->path);
	if (fd < 0)
		kit_fail("mkstemp", P2P_EIO, node->path);
	(void)close(fd);
	config.path = node->path;
	config.env = &kit_env;
	config.create = true;
	kit_check("open", p2p_store_open(&config, &node->store, NULL, &err), &err);
	kit_sql(node, sql);
	kit_check("begin", p2p_store_begin_write(node->store, 1000, &err), &err);
	kit_check("setup", p2p_store_setup(node->store, &err), &err);
	kit_check("load", p2p_store_load(node->store, &err), &err);
	for (i = 0; i < mesh->table_count; i++)
		node_enable(node, i);
	kit_check("commit", p2p_store_commit(node->store, &err), &err);
	kit_check("load", p2p_store_load(node->store, &err), &err);
	merge.store = node->store;
	merge.authority = mesh->authority;
	kit_check("new merge", p2p_merge_new(&merge, &node->merge), NULL);
}

void kit_node_deinit(struct kit_node *node)
{
	static const char *const ends[] = {"", "-wal", "-shm"};
	char path[160];
	size_t i;

	p2p_merge_free(node->merge);
	p2p_store_close(node->store);
	for (i = 0; i < p2p_array_len(ends); i++) {
		(void)snprintf(path, sizeof(path), "%s%s", node->path, ends[i]);
		(void)unlink(path);
	}
	memset(node, 0, sizeof(*node));
}

/* Tables of the file but for those that describe it. */
static const char sql_tables[] =
	"SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
	" AND name NOT IN ('p2p_meta', 'p2p_table', 'p2p_column', 'p2p_replica', 'p2p_vector',"
	" 'p2p_journal', 'p2p_waiting') ORDER BY name";

static size_t kit_tables(struct kit_node *node, char (*names)[64], size_t max)
{
	sqlite3_stmt *stmt = NULL;
	size_t count = 0;

	if (sqlite3_prepare_v2(p2p_store_db(node->store), sql_tables, -1, &stmt, NULL) != SQLITE_OK)
		kit_fail("list tables", P2P_EIO, sqlite3_errmsg(p2p_store_db(node->store)));
	while (sqlite3_step(stmt) == SQLITE_ROW && count < max)
		(void)snprintf(names[count++], 64, "%s",
			       (const char *)sqlite3_column_text(stmt, 0));
	(void)sqlite3_finalize(stmt);
	return count;
}

void kit_node_clear(struct kit_node *node)
{
	char names[32][64], sql[128];
	size_t count = kit_tables(node, names, p2p_array_len(names)), i;

	kit_sql(node, "BEGIN IMMEDIATE");
	for (i = 0; i < count; i++) {
		(void)snprintf(sql, sizeof(sql), "DELETE FROM \"%s\"", names[i]);
		kit_sql(node, sql);
	}
	kit_sql(node, "DELETE FROM p2p_vector; DELETE FROM p2p_waiting; DELETE FROM p2p_journal;"
		      "COMMIT; PRAGMA wal_checkpoint(TRUNCATE)");
	p2p_merge_reset(node->merge);
	memset(&node->counts, 0, sizeof(node->counts));
}

struct p2p_table *kit_table(struct kit_node *node, const struct kit_mesh *mesh, uint32_t table)
{
	struct p2p_table *found = p2p_store_table_by_id(node->store, &mesh->table[table]);

	if (!found)
		kit_fail("find a table", P2P_ENOENT, mesh->name[table]);
	return found;
}

/* --- changesets ------------------------------------------------------------------------------ */

struct p2p_id kit_replica(char replica)
{
	struct p2p_id id;

	memset(id.bytes, replica, sizeof(id.bytes));
	return id;
}

void kit_change_init(struct kit_change *change, const struct kit_mesh *mesh, char replica,
		     uint64_t seq, uint64_t stamp)
{
	size_t i;

	memset(change, 0, sizeof(*change));
	change->header.replica = kit_replica(replica);
	change->header.seq = seq;
	change->header.stamp.value = stamp;
	change->header.group_last = true;
	for (i = 0; i < mesh->table_count; i++) {
		change->tables[i].table = mesh->table[i];
		change->tables[i].schema = mesh->schema[i];
	}
	change->header.table_count = mesh->table_count;
	p2p_buf_init(&change->body, 64u * 1024 * 1024);
}

void kit_change_deinit(struct kit_change *change)
{
	p2p_buf_deinit(&change->body);
}

void kit_change_put(struct kit_change *change, const struct p2p_record *record)
{
	p2p_record_put(&change->body, record);
	change->header.row_count++;
	kit_check("put a record", p2p_buf_error(&change->body), NULL);
}

void kit_change_put_raw(struct kit_change *change, const void *data, size_t len)
{
	p2p_buf_put_bytes(&change->body, data, len);
	change->header.row_count++;
}

static int change_next(void *ctx, const uint8_t **out_data, size_t *out_len)
{
	struct kit_change *change = ctx;
	struct p2p_reader reader;

	*out_data = NULL;
	if (change->at == change->body.len)
		return 0;
	p2p_reader_init(&reader, change->body.data + change->at, change->body.len - change->at);
	*out_data = p2p_read_bytes(&reader, P2P_RECORD_BYTES_MAX, out_len);
	change->at += reader.pos;
	return p2p_reader_error(&reader);
}

/* The rows that it names; malformed records are not for here. */
static void change_note(struct kit_mesh *mesh, struct kit_change *change)
{
	struct p2p_cell cells[16];
	struct p2p_record record;
	const uint8_t *data;
	size_t len;

	if (mesh->blind)
		return;
	change->at = 0;
	while (change_next(change, &data, &len) == 0 && data)
		if (p2p_record_read(&record, cells, p2p_array_len(cells), data, len) == 0 &&
		    record.table < mesh->table_count)
			mesh_note(mesh, record.table, &record.identity);
}

static int change_apply(struct kit_node *node, struct kit_change *change, struct p2p_error *err)
{
	struct p2p_merge_source source;

	memset(&source, 0, sizeof(source));
	change->header.tables = change->tables; /* the struct may have been moved */
	change->header.origins = change->origins;
	change_note(node->mesh, change);
	change->at = 0;
	source.header = &change->header;
	memset(source.hash.bytes, (int)change->header.seq, sizeof(source.hash.bytes));
	source.ctx = change;
	source.next = change_next;
	return p2p_merge_apply(node->merge, &source, &node->counts, err);
}

int kit_try(struct kit_node *node, struct kit_change *change)
{
	struct p2p_error err = {0};
	int rc;

	kit_check("begin", p2p_store_begin_write(node->store, 1000, &err), &err);
	rc = change_apply(node, change, &err);
	if (!rc)
		rc = p2p_merge_finish(node->merge, &err);
	if (!rc) {
		kit_check("commit", p2p_store_commit(node->store, &err), &err);
		return 0;
	}
	p2p_merge_reset(node->merge);
	p2p_store_rollback(node->store);
	kit_check("load", p2p_store_load(node->store, &err), &err);
	return rc;
}

void kit_apply(struct kit_node *node, struct kit_change *change)
{
	kit_apply_all(node, &change, 1);
}

void kit_apply_all(struct kit_node *node, struct kit_change *const *changes, size_t count)
{
	struct p2p_error err = {0};
	size_t i;

	kit_check("begin", p2p_store_begin_write(node->store, 1000, &err), &err);
	for (i = 0; i < count; i++)
		kit_check("apply", change_apply(node, changes[i], &err), &err);
	kit_check("finish", p2p_merge_finish(node->merge, &err), &err);
	kit_check("commit", p2p_store_commit(node->store, &err), &err);
}

/* --- values ---------------------------------------------------------------------------------- */

struct p2p_value kit_null(void)
{
	struct p2p_value value = {0};

	return value;
}

struct p2p_value kit_int(int64_t integer)
{
	struct p2p_value value = {0};

	value.type = P2P_INTEGER;
	value.integer = integer;
	return value;
}

struct p2p_value kit_real(double real)
{
	struct p2p_value value = {0};

	value.type = P2P_REAL;
	value.real = real;
	return value;
}

struct p2p_value kit_bytes(enum p2p_value_type type, const void *bytes, size_t len)
{
	struct p2p_value value = {0};

	value.type = type;
	value.bytes = bytes;
	value.len = len;
	return value;
}

struct p2p_value kit_text(const char *text)
{
	return kit_bytes(P2P_TEXT, text, strlen(text));
}

/* --- looking --------------------------------------------------------------------------------- */

const char *kit_rows(struct kit_node *node, const char *sql)
{
	static char out[8192];
	sqlite3_stmt *stmt = NULL;
	size_t len = 0;
	int i, rc;

	if (sqlite3_prepare_v2(p2p_store_db(node->store), sql, -1, &stmt, NULL) != SQLITE_OK)
		kit_fail(sql, P2P_EIO, sqlite3_errmsg(p2p_store_db(node->store)));
	out[0] = 0;
	while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		for (i = 0; i < sqlite3_column_count(stmt); i++) {
			char *text = sqlite3_mprintf("%s%s", i ? "|" : "",
						     (const char *)sqlite3_column_text(stmt, i));

			len += (size_t)snprintf(out + len, sizeof(out) - len, "%s",
						text ? text : "?");
			sqlite3_free(text);
			p2p_require(len + 2 < sizeof(out));
		}
		out[len++] = ';';
		out[len] = 0;
	}
	if (rc != SQLITE_DONE)
		kit_fail(sql, P2P_EIO, sqlite3_errmsg(p2p_store_db(node->store)));
	(void)sqlite3_finalize(stmt);
	return out;
}

static void digest_row(struct p2p_hash *sum, sqlite3_stmt *stmt, const char *table)
{
	struct p2p_hash hash;
	struct p2p_value value;
	struct p2p_buf row;
	size_t j;
	int i;

	p2p_buf_init(&row, 64u * 1024 * 1024);
	p2p_buf_put(&row, table, strlen(table));
	for (i = 0; i < sqlite3_column_count(stmt); i++) {
		kit_check("read", p2p_value_column(&value, stmt, i), NULL);
		p2p_value_put(&row, &value);
	}
	p2p_hash_bytes(&hash, row.data, row.len);
	/* a sum: the order of rows in a table is no part of it */
	for (j = 0; j < sizeof(hash.bytes); j++)
		sum->bytes[j] = (uint8_t)(sum->bytes[j] + hash.bytes[j]);
	p2p_buf_deinit(&row);
}

void kit_digest(struct kit_node *node, struct p2p_hash *out)
{
	char names[32][64], sql[128];
	size_t count = kit_tables(node, names, p2p_array_len(names)), i;
	sqlite3_stmt *stmt;

	memset(out, 0, sizeof(*out));
	for (i = 0; i < count; i++) {
		stmt = NULL;
		(void)snprintf(sql, sizeof(sql), "SELECT * FROM \"%s\"", names[i]);
		if (sqlite3_prepare_v2(p2p_store_db(node->store), sql, -1, &stmt, NULL) !=
		    SQLITE_OK)
			kit_fail(sql, P2P_EIO, "");
		while (sqlite3_step(stmt) == SQLITE_ROW)
			digest_row(out, stmt, names[i]);
		(void)sqlite3_finalize(stmt);
	}
}

static void state_text(struct p2p_buf *out, const char *format, ...) P2P_PRINTF(2, 3);
static void state_text(struct p2p_buf *out, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	p2p_buf_put(out, text, strlen(text));
}

static void state_key(struct kit_node *node, const struct kit_key *key, struct p2p_buf *out)
{
	const struct state_text_key bytes = {key->bytes, key->len};

	state_text_row(node->store, kit_table(node, node->mesh, key->table), &bytes, true, out);
}

void kit_state(struct kit_node *node, struct p2p_buf *out)
{
	char sql[128];
	struct p2p_hash sum;
	sqlite3_stmt *stmt;
	size_t i;

	for (i = 0; i < node->mesh->key_count; i++)
		state_key(node, &node->mesh->keys[i], out);
	for (i = 0; i < node->mesh->table_count; i++) {
		stmt = NULL;
		memset(&sum, 0, sizeof(sum));
		(void)snprintf(sql, sizeof(sql), "SELECT * FROM \"%s\"", node->mesh->name[i]);
		if (sqlite3_prepare_v2(p2p_store_db(node->store), sql, -1, &stmt, NULL) !=
		    SQLITE_OK)
			kit_fail(sql, P2P_EIO, "");
		while (sqlite3_step(stmt) == SQLITE_ROW)
			digest_row(&sum, stmt, node->mesh->name[i]);
		(void)sqlite3_finalize(stmt);
		state_text(out, "%s %02x%02x%02x%02x%02x%02x%02x%02x\n", node->mesh->name[i],
			   sum.bytes[0], sum.bytes[1], sum.bytes[2], sum.bytes[3], sum.bytes[4],
			   sum.bytes[5], sum.bytes[6], sum.bytes[7]);
	}
	kit_check("state", p2p_buf_error(out), NULL);
}
