/* Local writes on real replicas, beside the twin: written [HISTORIES] [SEED]
 *
 * Two or three replicas whose applications write at random, with and without foreign keys, meet and
 * part, are killed and started. Each write is captured and frozen while its replica meets nobody,
 * and is read back from the log into a twin. Shown:
 *
 *   - every row that the application saw, and did not delete, is still shown, and every row that
 *     it wrote, under the number that it gave;
 *   - rows that are kept out yield what the rules say (rules of the projection, on the twin), no
 *     less and no more;
 *   - the tables show what the twin says, after each write and after all have met.
 *
 * A failure prints the seed: written 1 SEED runs that history alone. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crdt/replica_private.h"
#include "proto/check.h"
#include "proto/mem.h"
#include "tests/property/compare.h"
#include "tests/property/product.h"
#include "tests/property/sheet.h"
#include "tests/support/cluster.h"
#include "tests/support/figures.h"

#define NODES_MAX   3
#define CHANGES_MAX 1024
#define KEYS_MAX    2048
#define YIELDS_MAX  512
#define STEPS_MAX   80
#define FOLD_MS	    5000

/* A changeset, read from a log. */
struct change {
	struct p2p_clock clock;
	uint64_t seq;
	struct p2p_buf body;	      /* records after their lengths */
	uint8_t tables[SHEET_TABLES]; /* of its dictionary */
};

struct yield {
	uint32_t table;
	struct p2p_identity identity; /* borrowed from a change */
	struct p2p_id constraint;
};

struct yields {
	struct yield items[YIELDS_MAX];
	size_t count;
};

struct world {
	struct cluster cluster;
	struct change changes[CHANGES_MAX];
	size_t change_count;
	struct kit_key keys[KEYS_MAX]; /* of all rows that were named */
	size_t key_count;
	uint64_t seed, rng;
	bool crowded; /* transactions are long, and replicas seldom meet */
	struct yields want, got;
	const struct before *before; /* of the write that is looked at, or NULL; and after it: */
	struct twin after;
	struct compare_counts counts;
	uint64_t writes, refused, frozen, yields, compared, met;
};

static struct twin_table tables[SHEET_TABLES];

static void tell_yields(const char *what, const struct yields *yields)
{
	size_t i, j, u;

	for (i = 0; i < yields->count; i++) {
		const struct twin_table *table = &tables[yields->items[i].table];
		struct p2p_buf key;

		p2p_buf_init(&key, 4096);
		p2p_identity_put(&key, &yields->items[i].identity);
		(void)fprintf(stderr, "%s: %s ", what, table->name);
		for (j = 0; j < key.len; j++)
			(void)fprintf(stderr, "%02x", key.data[j]);
		for (u = 0; u < TWIN_UNIQUES_MAX; u++)
			if (p2p_id_cmp(&table->uniques[u].id, &yields->items[i].constraint) == 0)
				break;
		(void)fprintf(stderr, " constraint %zu\n", u);
		p2p_buf_deinit(&key);
	}
}

static void tell_twin(const struct world *world);

static _Noreturn void fail(struct world *world, size_t node, const char *what)
{
	tell_twin(world);
	tell_yields("by the rules", &world->want);
	tell_yields("written", &world->got);
	(void)fprintf(stderr, "written: seed %llu, node %zu: %s\n", (unsigned long long)world->seed,
		      node, what);
	exit(1);
}

static uint32_t pick(struct world *world, uint32_t below)
{
	return sheet_pick(&world->rng, below);
}

static void checked(struct world *world, size_t node, int rc, const char *what)
{
	if (rc)
		fail(world, node, what);
}

/* --- from logs into twins --------------------------------------------------------------------- */

static void key_note(struct world *world, uint32_t table, const struct p2p_identity *identity)
{
	struct kit_key *key = &world->keys[world->key_count];
	struct p2p_buf bytes;
	size_t i;

	p2p_require(world->key_count < KEYS_MAX);
	p2p_buf_init(&bytes, sizeof(key->bytes));
	p2p_identity_put(&bytes, identity);
	p2p_require(!p2p_buf_error(&bytes));
	key->table = table;
	key->len = bytes.len;
	memcpy(key->bytes, bytes.data, bytes.len);
	p2p_buf_deinit(&bytes);
	for (i = 0; i < world->key_count; i++)
		if (world->keys[i].table == table && world->keys[i].len == key->len &&
		    memcmp(world->keys[i].bytes, key->bytes, key->len) == 0)
			return;
	world->key_count++;
}

static uint8_t table_named(const struct p2p_id *id)
{
	uint8_t t = 0;

	while (t < SHEET_TABLES && p2p_id_cmp(&tables[t].id, id) != 0)
		t++;
	p2p_require(t < SHEET_TABLES);
	return t;
}

/* What each is called for may keep what record and identity borrow. */
static void change_each(const struct change *change,
			void (*each)(void *ctx, uint32_t table, const struct p2p_record *record,
				     const struct p2p_clock *clock),
			void *ctx)
{
	struct p2p_cell cells[TWIN_COLUMNS_MAX];
	struct p2p_record record;
	struct p2p_reader reader;
	const uint8_t *data;
	size_t len;

	p2p_reader_init(&reader, change->body.data, change->body.len);
	while (p2p_reader_left(&reader)) {
		data = p2p_read_bytes(&reader, P2P_RECORD_BYTES_MAX, &len);
		p2p_require(p2p_record_read(&record, cells, TWIN_COLUMNS_MAX, data, len) == 0);
		each(ctx, change->tables[record.table], &record, &change->clock);
	}
}

static void record_note(void *ctx, uint32_t table, const struct p2p_record *record,
			const struct p2p_clock *clock)
{
	(void)clock;
	key_note(ctx, table, &record->identity);
}

static struct change *change_read(struct world *world, size_t node, const struct p2p_id *replica,
				  uint64_t seq)
{
	struct p2p_sidelog *log = world->cluster.nodes[node].replica->sidelog;
	struct change *change = &world->changes[world->change_count++];
	struct p2p_body_reader *body;
	struct p2p_stored stored;
	struct p2p_header header;
	const uint8_t *data;
	size_t len, i;

	p2p_require(world->change_count < CHANGES_MAX);
	memset(change, 0, sizeof(*change));
	checked(world, node, p2p_sidelog_get(log, replica, seq, &stored), "a changeset is gone");
	p2p_require(p2p_header_unpack(&header, stored.raw, stored.raw_len) == 0);
	change->clock.replica = *replica;
	change->clock.stamp = header.stamp;
	change->seq = seq;
	for (i = 0; i < header.table_count; i++)
		change->tables[i] = table_named(&header.tables[i].table);
	p2p_buf_init(&change->body, P2P_RECORD_BYTES_MAX);
	checked(world, node, p2p_body_reader_open(log, &stored, &body), "open a changeset");
	for (;;) {
		checked(world, node, p2p_body_reader_next(body, &data, &len), "read a changeset");
		if (!data)
			break;
		p2p_buf_put_bytes(&change->body, data, len);
	}
	p2p_body_reader_close(body);
	p2p_header_deinit(&header);
	p2p_stored_deinit(&stored);
	change_each(change, record_note, world);
	return change;
}

static struct change *change_of(struct world *world, size_t node, const struct p2p_id *replica,
				uint64_t seq)
{
	size_t i;

	for (i = 0; i < world->change_count; i++)
		if (world->changes[i].seq == seq &&
		    p2p_id_cmp(&world->changes[i].clock.replica, replica) == 0)
			return &world->changes[i];
	return change_read(world, node, replica, seq);
}

struct adding {
	struct twin *twin;
	bool yields; /* as they were written */
};

static void record_add(void *ctx, uint32_t table, const struct p2p_record *record,
		       const struct p2p_clock *clock)
{
	const struct adding *adding = ctx;
	struct p2p_record copy = *record;

	if (!adding->yields)
		copy.yield_count = 0;
	twin_add(adding->twin, table, &copy, clock);
}

/* What the node has merged and frozen, projected. */
static void twin_of(struct world *world, size_t node, struct twin *twin)
{
	struct adding adding = {twin, true};
	struct p2p_vv vector;
	uint64_t seq;
	size_t i;

	twin_init(twin, tables, SHEET_TABLES);
	p2p_vv_init(&vector);
	checked(world, node, p2p_replica_vector(world->cluster.nodes[node].replica, &vector),
		"vector");
	for (i = 0; i < vector.count; i++)
		for (seq = 1; seq <= vector.entries[i].seq; seq++)
			change_each(change_of(world, node, &vector.entries[i].replica, seq),
				    record_add, &adding);
	p2p_vv_deinit(&vector);
	twin_project(twin);
}

/* What an application sees before it writes, and since when its own changes are new. */
struct before {
	struct twin twin;
	struct p2p_clock clock;
};

static bool is_new(const struct before *before, const struct p2p_clock *clock)
{
	return p2p_id_cmp(&clock->replica, &before->clock.replica) == 0 &&
	       clock->stamp.value > before->clock.stamp.value;
}

/* The row is in the application's table after the write. */
static bool is_seen(const struct before *before, const struct twin_row *row)
{
	const struct twin_row *old =
		twin_find(&before->twin, (uint32_t)(row->table - tables), &row->identity);

	return row->complete && ((old && old->shown) || is_new(before, &row->clock));
}

static void tell_row(const struct before *before, const struct twin_row *row)
{
	uint32_t c;

	(void)fprintf(stderr, "twin: %s %llu%s%s%s%s%s:", row->table->name,
		      (unsigned long long)row->causal_length, row->born ? "" : " not born",
		      row->temporary ? " temporary" : "", row->unique ? "" : " not unique",
		      row->shown ? " shown" : "", is_seen(before, row) ? " seen" : "");
	for (c = 0; row->complete && c < row->table->column_count; c++) {
		const struct p2p_value *value = &row->values[c];

		if (value->type == P2P_INTEGER)
			(void)fprintf(stderr, " %lld", (long long)value->integer);
		else
			(void)fprintf(stderr, " '%.*s'", (int)value->len,
				      value->type == P2P_TEXT ? (const char *)value->bytes : "");
		if (c == 0 && row->table->generated)
			(void)fprintf(stderr, "(%lld)", (long long)row->cells[0].value.integer);
		(void)fprintf(stderr, "@%llu.%x%s",
			      (unsigned long long)row->cells[c].clock.stamp.value & 0xffffffff,
			      row->cells[c].clock.replica.bytes[0],
			      row->cells[c].tag == P2P_CELL_LOOSE ? "?" : "");
	}
	(void)fprintf(stderr, "\n");
}

static void tell_file(struct world *world, size_t node, const struct twin *twin)
{
	static const char *const queries[] = {
		"SELECT t, hex(k), reason, hex(cells) FROM p2p_parked",
		"SELECT t, hex(k), shown FROM p2p_temp",
		"SELECT t, hex(k), slot, pt, hex(pk) FROM p2p_ref",
		"SELECT t, hex(h), hex(k), held FROM p2p_claim",
		"SELECT t, hex(k), hex(c), stamp FROM p2p_yield",
		"SELECT * FROM person",
		"SELECT * FROM ware",
		"SELECT * FROM note",
		"SELECT * FROM tag",
		"SELECT * FROM town",
		"SELECT * FROM extra",
		"SELECT * FROM visit",
	};
	struct before none = {.clock = {.stamp = {UINT64_MAX}}};
	char *rows;
	size_t i;

	for (i = 0; i < p2p_array_len(queries); i++) {
		rows = cluster_rows(&world->cluster, node, queries[i]);
		(void)fprintf(stderr, "%s:\n%s", queries[i], rows);
		free(rows);
	}
	twin_init(&none.twin, tables, SHEET_TABLES);
	for (i = 0; i < twin->count; i++)
		tell_row(&none, &twin->rows[i]);
	twin_deinit(&none.twin);
}

static void compare(struct world *world, size_t node, const struct twin *twin)
{
	const struct compare_keys keys = {world->keys, world->key_count};
	const char *differs = compare_with_twin(world->cluster.nodes[node].replica->store, twin,
						&keys, &world->counts);

	world->compared++;
	if (differs) {
		tell_file(world, node, twin);
		fail(world, node, differs);
	}
}

/* --- what a write must keep ------------------------------------------------------------------- */

static bool lost_number(const struct before *before, const struct twin_row *row)
{
	return row->table->generated && row->temporary && is_new(before, &row->cells[0].clock);
}

static void tell_twin(const struct world *world)
{
	size_t i;

	for (i = 0; world->before && i < world->after.count; i++)
		tell_row(world->before, &world->after.rows[i]);
}

static const char *write_kept(const struct before *before, const struct twin *after)
{
	const char *broken = NULL;
	size_t i;

	for (i = 0; i < after->count; i++) {
		const struct twin_row *row = &after->rows[i];

		if (is_seen(before, row) && !row->shown)
			broken = "a write pushed a row out";
		if (is_seen(before, row) && lost_number(before, row))
			broken = "a row does not have the number that it was given";
	}
	return broken;
}

/* --- yields by the rules ---------------------------------------------------------------------- */

static bool yields_have(const struct yields *yields, const struct yield *yield)
{
	size_t i;

	for (i = 0; i < yields->count; i++)
		if (yields->items[i].table == yield->table &&
		    p2p_id_cmp(&yields->items[i].constraint, &yield->constraint) == 0 &&
		    twin_identity_same(&yields->items[i].identity, &yield->identity))
			return true;
	return false;
}

static bool yields_add(struct yields *yields, uint32_t table, const struct p2p_identity *identity,
		       const struct p2p_id *constraint)
{
	struct yield yield = {table, *identity, *constraint};

	if (yields_have(yields, &yield))
		return false;
	p2p_require(yields->count < YIELDS_MAX);
	yields->items[yields->count++] = yield;
	return true;
}

static void yields_collect(void *ctx, uint32_t table, const struct p2p_record *record,
			   const struct p2p_clock *clock)
{
	struct p2p_id id;
	size_t i;

	(void)clock;
	for (i = 0; i < record->yield_count; i++) {
		memcpy(id.bytes, record->yields + i * P2P_ID_BYTES, P2P_ID_BYTES);
		(void)yields_add(ctx, table, &record->identity, &id);
	}
}

/* Rows that are kept out and share a value with this one; number: that claim its number. */
static bool rows_yield(struct yields *want, const struct before *before, const struct twin *probe,
		       const struct twin_row *row, bool number)
{
	uint32_t table = (uint32_t)(row->table - tables);
	bool added = false;
	size_t i, u;

	for (i = 0; i < probe->count; i++) {
		const struct twin_row *other = &probe->rows[i];

		if (other == row || other->table != row->table || !other->complete)
			continue;
		if (number && other->cells[0].value.integer == row->cells[0].value.integer)
			added |= yields_add(want, table, &other->identity, &row->table->id);
		for (u = 0; !number && u < TWIN_UNIQUES_MAX && !is_seen(before, other); u++)
			if (twin_clash(row, other, u))
				added |= yields_add(want, table, &other->identity,
						    &row->table->uniques[u].id);
	}
	return added;
}

static void want_add(const struct yields *want, struct twin *probe, const struct p2p_clock *clock)
{
	size_t i;

	for (i = 0; i < want->count; i++) {
		const struct yield *yield = &want->items[i];
		struct p2p_record record = {.table = yield->table};

		record.identity = yield->identity;
		record.causal_length =
			twin_find(probe, yield->table, &yield->identity)->causal_length;
		record.yields = yield->constraint.bytes;
		record.yield_count = 1;
		twin_add(probe, yield->table, &record, clock);
	}
}

static void yields_by_rules(struct world *world, const struct before *before,
			    const struct change *change)
{
	struct adding adding;
	struct twin probe;
	bool again = true;
	size_t i;

	world->want.count = 0;
	twin_init(&probe, tables, SHEET_TABLES);
	adding.twin = &probe;
	adding.yields = false;
	while (again) {
		again = false;
		twin_copy(&probe, &before->twin);
		change_each(change, record_add, &adding);
		want_add(&world->want, &probe, &change->clock);
		twin_project(&probe);
		for (i = 0; i < probe.count; i++) {
			const struct twin_row *row = &probe.rows[i];

			if (is_seen(before, row) && lost_number(before, row))
				again |= rows_yield(&world->want, before, &probe, row, true);
			if (is_seen(before, row) && !row->unique)
				again |= rows_yield(&world->want, before, &probe, row, false);
		}
	}
	twin_deinit(&probe);
}

static void yields_compare(struct world *world, size_t node, const struct before *before,
			   const struct change *change)
{
	size_t i;

	yields_by_rules(world, before, change);
	world->got.count = 0;
	change_each(change, yields_collect, &world->got);
	for (i = 0; i < world->got.count; i++)
		if (!yields_have(&world->want, &world->got.items[i]))
			fail(world, node, "a row yields that need not");
	if (world->got.count != world->want.count)
		fail(world, node, "a row does not yield");
	world->yields += world->got.count;
}

/* --- writing ---------------------------------------------------------------------------------- */

static void freeze(struct world *world, size_t node)
{
	struct p2p_error err = {0};

	if (p2p_replica_freeze(world->cluster.nodes[node].replica, &err))
		fail(world, node, err.msg);
	world->cluster.nodes[node].next.ms = 0; /* there may be something to fold */
}

/* Until all that it captured stands in its file. */
static void fold(struct world *world, size_t node)
{
	const struct p2p_replica *replica = world->cluster.nodes[node].replica;
	uint64_t end = world->cluster.now_ms + FOLD_MS;

	freeze(world, node);
	while (p2p_capture_unfolded(replica->capture) || p2p_capture_numbering(replica->capture)) {
		if (world->cluster.now_ms > end)
			fail(world, node, "what was captured is not folded");
		cluster_run(&world->cluster, 100);
	}
}

static void part(struct world *world, size_t node)
{
	size_t i;

	for (i = 0; i < world->cluster.count; i++)
		if (i != node && cluster_connected(&world->cluster, node, i))
			cluster_disconnect(&world->cluster, node, i);
}

static void statements(struct world *world, size_t node)
{
	uint32_t count = 1 + (pick(world, 2) == 0 ? pick(world, world->crowded ? 12 : 4) : 0);
	bool careless = pick(world, 4) == 0;
	char sql[SHEET_SQL_BYTES];

	cluster_sql(&world->cluster, node,
		    careless ? "PRAGMA foreign_keys = OFF" : "PRAGMA foreign_keys = ON");
	/* what REPLACE pushes out is told, not looked for later */
	cluster_sql(&world->cluster, node, "PRAGMA recursive_triggers = ON");
	cluster_sql(&world->cluster, node, "BEGIN");
	for (; count; count--) {
		sheet_statement(&world->rng, sql, sizeof(sql));
		world->writes++;
		world->refused += cluster_try(&world->cluster, node, sql) != SQLITE_OK;
	}
	cluster_sql(&world->cluster, node, "COMMIT");
}

static uint64_t head(const struct world *world, size_t node, struct p2p_clock *out)
{
	const struct p2p_capture *capture = world->cluster.nodes[node].replica->capture;

	out->replica = world->cluster.nodes[node].replica->id;
	out->stamp = p2p_capture_head(capture)->stamp;
	return p2p_capture_head(capture)->seq;
}

static void write_some(struct world *world, size_t node)
{
	struct p2p_replica *replica = world->cluster.nodes[node].replica;
	uint32_t transactions = pick(world, 3) ? 1 : 1 + pick(world, 4);
	struct before before;
	struct p2p_error err = {0};
	struct p2p_clock clock;
	const char *broken;
	bool changed;
	uint64_t seq, now;

	part(world, node);
	fold(world, node);
	twin_of(world, node, &before.twin);
	compare(world, node, &before.twin);
	seq = head(world, node, &before.clock);
	for (; transactions; transactions--) {
		statements(world, node);
		if (pick(world, 3) == 0)
			checked(world, node, p2p_replica_poll(replica, &changed, &err), err.msg);
		if (transactions > 1 && pick(world, 4) == 0)
			freeze(world, node);
	}
	freeze(world, node);
	now = head(world, node, &clock);
	twin_of(world, node, &world->after);
	world->before = &before;
	if (now == seq + 1)
		yields_compare(world, node, &before, change_of(world, node, &clock.replica, now));
	world->frozen += now > seq;
	broken = write_kept(&before, &world->after);
	if (broken)
		fail(world, node, broken);
	if (pick(world, 3) == 0) {
		cluster_kill(&world->cluster, node);
		cluster_start(&world->cluster, node);
	}
	fold(world, node);
	compare(world, node, &world->after);
	world->before = NULL;
	twin_deinit(&before.twin);
	twin_deinit(&world->after);
}

/* --- histories -------------------------------------------------------------------------------- */

static void tables_init(struct p2p_store *store)
{
	size_t t;

	memcpy(tables, sheet_tables, sizeof(tables));
	for (t = 0; t < SHEET_TABLES; t++) {
		tables[t].id = p2p_store_table_by_name(store, tables[t].name)->id;
		tables[t].counters = 0;
		compare_constraints(store, &tables[t]);
	}
}

static void begin(struct world *world, uint64_t seed)
{
	char sql[4096];

	world->seed = seed;
	world->rng = seed * 0x2545f4914f6cdd1dull + 1;
	world->change_count = world->key_count = 0;
	world->want.count = world->got.count = 0;
	cluster_init(&world->cluster, seed);
	(void)snprintf(sql, sizeof(sql),
		       "%s INSERT INTO person VALUES(1, 'ann', 1, NULL), (2, 'bob', 2, 1);"
		       "INSERT INTO ware VALUES(1, 1, 1, 1, 0), (2, 1, 2, 2, 0);"
		       "INSERT INTO land VALUES('ann', 1)",
		       sheet_sql);
	cluster_share(&world->cluster, sql);
	tables_init(world->cluster.nodes[0].replica->store);
	world->crowded = pick(world, 4) != 0;
	while (world->cluster.count < 2 + (seed % 3 == 0))
		(void)cluster_join(&world->cluster);
	cluster_connect_all(&world->cluster);
	if (!cluster_settle(&world->cluster, 60000))
		fail(world, 0, "not settled");
}

static void meet(struct world *world)
{
	struct twin twin;
	size_t i;

	cluster_connect_all(&world->cluster);
	if (!cluster_settle(&world->cluster, 120000) || !cluster_equal(&world->cluster))
		fail(world, 0, "not settled");
	for (i = 0; i < world->cluster.count; i++) {
		fold(world, i);
		twin_of(world, i, &twin);
		compare(world, i, &twin);
		twin_deinit(&twin);
	}
	world->met++;
}

static void step(struct world *world)
{
	size_t node = pick(world, (uint32_t)world->cluster.count);
	size_t other =
		(node + 1 + pick(world, (uint32_t)world->cluster.count - 1)) % world->cluster.count;
	uint32_t what = pick(world, world->crowded && pick(world, 2) ? 12 : 20);

	if (what < 12) {
		write_some(world, node);
	} else if (what < 17) {
		if (!cluster_connected(&world->cluster, node, other))
			cluster_connect(&world->cluster, node, other);
		cluster_run(&world->cluster, 50 + pick(world, 1000));
	} else if (what < 18) {
		cluster_kill(&world->cluster, node);
		cluster_start(&world->cluster, node);
	} else {
		meet(world);
	}
}

static void history(struct world *world, uint64_t seed)
{
	uint32_t steps;
	size_t i;

	begin(world, seed);
	for (steps = 20 + pick(world, STEPS_MAX - 20); steps; steps--)
		step(world);
	meet(world);
	cluster_deinit(&world->cluster);
	for (i = 0; i < world->change_count; i++)
		p2p_buf_deinit(&world->changes[i].body);
}

static void figures(const struct world *world, uint64_t histories)
{
	static const char *const not_tested[] = {
		"tables with counters, and applications without recursive_triggers, whose REPLACE is "
		"looked for later: other tests do",
		"who yields in a freeze of several changesets: only that no row goes",
	};
	const struct figure list[] = {
		{"histories", (double)histories},
		{"statements", (double)world->writes},
		{"writes that were frozen", (double)world->frozen},
		{"yields, each as the rules say", (double)world->yields},
		{"comparisons of a file with the twin", (double)world->compared},
		{"rows shown in them", (double)world->counts.shown},
		{"rows kept out in them", (double)world->counts.parked},
		{"temporary numbers in them", (double)world->counts.temporary},
		{"times that all had met", (double)world->met},
	};
	const struct figures page = {
		.name = "written",
		.title = "Local writes beside the slow twin: what an application wrote stays",
		.command = "build/tests/property/written 1000 1",
		.figures = list,
		.count = p2p_array_len(list),
		.not_tested = not_tested,
		.not_tested_count = p2p_array_len(not_tested),
	};

	figures_write(&page);
}

static double seconds(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	uint64_t histories = argc > 1 ? strtoull(argv[1], NULL, 10) : 100;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1, i;
	struct world *world = calloc(1, sizeof(*world));
	double start = seconds();

	if (!world)
		return 1;
	for (i = 0; i < histories; i++)
		history(world, seed + i);
	(void)printf(
		"%llu histories in %.1f s: %llu statements (%llu refused), %llu writes frozen, "
		"%llu yields as the rules say, %llu comparisons with the twin (%llu rows "
		"shown, %llu kept out, %llu temporary numbers), %llu times all met\n",
		(unsigned long long)histories, seconds() - start, (unsigned long long)world->writes,
		(unsigned long long)world->refused, (unsigned long long)world->frozen,
		(unsigned long long)world->yields, (unsigned long long)world->compared,
		(unsigned long long)world->counts.shown, (unsigned long long)world->counts.parked,
		(unsigned long long)world->counts.temporary, (unsigned long long)world->met);
	figures(world, histories);
	free(world);
	return 0;
}
