/* Laws of the merge, tried on random histories: laws [HISTORIES] [SEED] [PERCENT]
 *
 * Two to four replicas, each a real file with real tables. A replica writes what its own merged
 * state lets it write (inserts, updates, deletes, re-inserts, new numbers), restates foreign
 * changes, and now and then sends what an honest replica would not. Changesets reach the others in
 * one of three ways: causally; in the order of each replica only; in no order at all. They come
 * alone or several to a transaction, and twice. When all have all:
 *
 *   - all files hold equal rows, merged states and temporary numbers;
 *   - they equal the twin's (tests/property/twin.h), which saw nothing but the set of records; so
 *     did each replica after some of its steps (PERCENT of them);
 *   - delivering everything once more, in another order, changes no byte.
 *
 * A failure prints the seed: laws 1 SEED runs that history alone. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crdt/numbers.h"
#include "proto/check.h"
#include "tests/property/compare.h"
#include "tests/support/mergekit.h"

#define NODES_MAX    4
#define CHANGES_MAX  128
#define STEPS_MAX    48
#define HISTORIES    1000
#define POOL_NUMBERS 6

enum { WORD, ITEM, PAIR, USER, CARD, TABLES };

static const char sql_tables[] =
	"CREATE TABLE word(k TEXT COLLATE NOCASE, part INTEGER, v, note TEXT DEFAULT 'none',"
	" PRIMARY KEY(k, part));"
	"CREATE TABLE item(id INTEGER PRIMARY KEY, a, b TEXT DEFAULT 'b');"
	"CREATE TABLE pair(a, b, PRIMARY KEY(a, b)) WITHOUT ROWID;"
	"CREATE TABLE user(name TEXT PRIMARY KEY, mail UNIQUE, x, y, UNIQUE(x, y)) WITHOUT ROWID;"
	"CREATE TABLE card(id INTEGER PRIMARY KEY, code UNIQUE, v);";

static const char *const table_columns[TABLES][4] = {{"k", "part", "v", "note"},
						     {"id", "a", "b"},
						     {"a", "b"},
						     {"name", "mail", "x", "y"},
						     {"id", "code", "v"}};

/* Columns are the same in the schema record, the file and the twin. */
static struct twin_table twin_tables[TABLES] = {
	{.name = "word", .column_count = 4, .key_count = 2},
	{.name = "item", .generated = true, .column_count = 3, .key_count = 1},
	{.name = "pair", .column_count = 2, .key_count = 2},
	{.name = "user",
	 .column_count = 4,
	 .key_count = 1,
	 .uniques = {{.columns = 1u << 1}, {.columns = 1u << 2 | 1u << 3}}},
	{.name = "card",
	 .generated = true,
	 .column_count = 3,
	 .key_count = 1,
	 .uniques = {{.columns = 1u << 1}}},
};

enum op { INSERT, UPDATE, DELETE, REINSERT, RENUMBER, RESTATE, HOSTILE, OPS };
static const char *const op_names[OPS] = {"insert",   "update",	 "delete", "re-insert",
					  "renumber", "restate", "hostile"};
enum order { CAUSAL, PER_REPLICA, NO_ORDER, ORDERS };

struct world {
	struct kit_mesh mesh;
	struct kit_node nodes[NODES_MAX];
	struct twin twin;
	size_t node_count;
	struct kit_change changes[CHANGES_MAX];
	size_t change_count;
	uint8_t author[CHANGES_MAX];
	bool has[NODES_MAX][CHANGES_MAX];
	bool knows[CHANGES_MAX][CHANGES_MAX]; /* what the author had */
	uint64_t stamp[NODES_MAX], seq[NODES_MAX];
	enum order order;
	uint64_t rng, seed;
	uint32_t every;	  /* percent of the steps that are compared with the twin */
	uint32_t looking; /* replica that is compared */
	uint64_t compared;
	uint64_t ops[OPS], records, transactions, duplicates;
	struct compare_counts counts;
};

static void tell(struct world *world);

static _Noreturn void fail(struct world *world, const char *what)
{
	tell(world);
	(void)fprintf(stderr, "laws: seed %llu (order %d, %zu replicas): %s\n",
		      (unsigned long long)world->seed, (int)world->order, world->node_count, what);
	exit(1);
}

/* splitmix64 */
static uint64_t rng_next(struct world *world)
{
	uint64_t z = (world->rng += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static uint32_t pick(struct world *world, uint32_t below)
{
	return (uint32_t)(rng_next(world) % below);
}

static bool chance(struct world *world, uint32_t percent)
{
	return pick(world, 100) < percent;
}

/* --- values ---------------------------------------------------------------------------------- */

static struct p2p_value any_value(struct world *world)
{
	switch (pick(world, 12)) {
	case 0:
		return kit_null();
	case 1:
		return kit_int(INT64_MIN);
	case 2:
		return kit_int(INT64_MAX);
	case 3:
		return kit_real(-0.0);
	case 4:
		return kit_real((double)INFINITY);
	case 5:
		return kit_bytes(P2P_TEXT, "a\0b", 3);
	case 6:
		return kit_bytes(P2P_TEXT, "\xff\x80", 2);
	case 7:
		return kit_bytes(P2P_BLOB, "", 0);
	case 8:
		return kit_text("");
	case 9:
		return kit_real(1.5);
	default:
		return kit_int(pick(world, 4));
	}
}

static struct p2p_value column_value(struct world *world, uint32_t table, uint32_t column)
{
	static const char *const texts[] = {"none", "x", "long text with 'quotes'", ""};

	if ((table == WORD && column == 3) || (table == ITEM && column == 2))
		return chance(world, 10) ? kit_null() : kit_text(texts[pick(world, 4)]);
	if (table == USER || (table == CARD && column == 1))
		return chance(world, 20) ? kit_null() : kit_int(pick(world, 3));
	return any_value(world);
}

/* --- rows ------------------------------------------------------------------------------------ */

/* A row about to be written: identity bytes live in key. */
struct draft {
	uint32_t table;
	struct p2p_identity identity;
	struct p2p_buf key;
	struct p2p_rowstate state;
	struct p2p_cell cells[TWIN_COLUMNS_MAX];
	struct p2p_record record;
	uint32_t origin; /* index + 1 of a changeset whose clock it takes */
};

static void draft_init(struct draft *draft)
{
	memset(draft, 0, sizeof(*draft));
	p2p_buf_init(&draft->key, 4096);
	p2p_rowstate_init(&draft->state);
}

static void draft_deinit(struct draft *draft)
{
	p2p_buf_deinit(&draft->key);
	p2p_rowstate_deinit(&draft->state);
}

static void draft_state(struct world *world, uint32_t node, struct draft *draft)
{
	struct p2p_buf bytes;
	int rc;

	p2p_buf_init(&bytes, 4096);
	p2p_identity_put(&bytes, &draft->identity);
	draft->state.causal_length = 0;
	rc = p2p_store_row_get(world->nodes[node].store,
			       kit_table(&world->nodes[node], &world->mesh, draft->table),
			       bytes.data, bytes.len, &draft->state, NULL);
	if (rc == P2P_ENOENT)
		draft->state.causal_length = 0;
	else if (rc)
		fail(world, "row state");
	p2p_buf_deinit(&bytes);
}

static void draft_cell(struct draft *draft, uint32_t column, struct p2p_value value)
{
	struct p2p_cell *cell = &draft->cells[draft->record.cell_count++];

	memset(cell, 0, sizeof(*cell));
	cell->column = column;
	cell->value = value;
}

static void draft_key(struct world *world, struct draft *draft)
{
	static const char *const words[] = {"key", "tree", ""};
	struct p2p_value values[2];
	const struct p2p_table *table = kit_table(&world->nodes[0], &world->mesh, draft->table);

	values[0] = draft->table == WORD   ? kit_text(words[pick(world, 3)])
		    : draft->table == USER ? kit_text(words[pick(world, 2)])
					   : kit_int(pick(world, 2));
	if (draft->table == USER && chance(world, 50))
		values[0] = kit_bytes(P2P_TEXT, "\0u", 2);
	values[1] = draft->table == WORD ? kit_int(pick(world, 2)) : kit_real(0.5);
	if (p2p_identity_of_key(&draft->key, table, values))
		fail(world, "identity");
	draft->identity.kind = P2P_IDENTITY_KEY;
	draft->identity.key = draft->key.data;
	draft->identity.key_len = draft->key.len;
}

/* A spelling of the key that compares equal to it. */
static void draft_spelling(struct world *world, struct draft *draft)
{
	static const char *const upper[] = {"KEY", "TREE", "Key", "Tree", "key", "tree"};
	struct p2p_value values[2];
	const struct p2p_table *table = kit_table(&world->nodes[0], &world->mesh, WORD);
	uint32_t i, start = pick(world, 6);

	if (p2p_identity_key_values(table, draft->key.data, draft->key.len, values))
		fail(world, "key values");
	for (i = 0; i < 6; i++) {
		const char *text = upper[(start + i) % 6];

		if (values[0].len == strlen(text) &&
		    (text[0] | 32) == (values[0].len ? values[0].bytes[0] : 0)) {
			draft_cell(draft, 0, kit_text(text));
			return;
		}
	}
}

/* Some row that any replica has written in this table, or none. */
static bool draft_existing(struct world *world, struct draft *draft)
{
	uint32_t i, start, count = (uint32_t)world->mesh.key_count;

	if (!count)
		return false;
	for (i = 0, start = pick(world, count); i < count; i++) {
		const struct kit_key *key = &world->mesh.keys[(start + i) % count];
		struct p2p_reader reader;

		if (key->table != draft->table)
			continue;
		p2p_reader_init(&reader, key->bytes, key->len);
		p2p_identity_read(&reader, &draft->identity);
		return true;
	}
	return false;
}

static int64_t some_number(struct world *world, struct draft *draft)
{
	struct draft other;
	struct p2p_id id;
	int64_t number = 1 + (int64_t)pick(world, POOL_NUMBERS);

	if (!chance(world, 15))
		return number;
	memset(&other, 0, sizeof(other));
	other.table = draft->table;
	if (chance(world, 20) || !draft_existing(world, &other))
		return chance(world, 50) ? INT32_MIN : -1;
	/* where somebody shows, or would show, a temporary number */
	p2p_identity_row_id(&id, &other.identity, &world->mesh.table[draft->table]);
	number = p2p_numbers_derived(&id);
	return chance(world, 30) ? p2p_numbers_next(number) : number;
}

static void draft_generated(struct world *world, struct draft *draft)
{
	size_t i;

	if (chance(world, 60) && draft_existing(world, draft))
		return;
	memset(&draft->identity, 0, sizeof(draft->identity));
	if (chance(world, 25)) {
		draft->identity.kind = P2P_IDENTITY_NUMBER;
		draft->identity.number = 1 + (int64_t)pick(world, POOL_NUMBERS);
		return;
	}
	draft->identity.kind = P2P_IDENTITY_GENERATED;
	for (i = 0; i < P2P_ID_BYTES; i++)
		draft->identity.id.bytes[i] = (uint8_t)rng_next(world);
}

static void draft_insert(struct world *world, struct draft *draft)
{
	const struct twin_table *table = &twin_tables[draft->table];
	uint32_t i, last = table->column_count;

	draft->record.causal_length = draft->state.causal_length + 1;
	draft->record.flags = P2P_RECORD_BORN;
	if (table->generated &&
	    (draft->identity.kind == P2P_IDENTITY_GENERATED || draft->state.causal_length))
		draft_cell(draft, 0, kit_int(some_number(world, draft)));
	else if (draft->table == WORD && chance(world, 40))
		draft_spelling(world, draft);
	/* the writer has not the last column yet */
	if (last > table->key_count + 1 && chance(world, 10))
		last--;
	for (i = table->key_count; i < last; i++)
		draft_cell(draft, i, column_value(world, draft->table, i));
}

static enum op draft_update(struct world *world, struct draft *draft)
{
	const struct twin_table *table = &twin_tables[draft->table];
	enum op op = UPDATE;
	uint32_t i;

	draft->record.causal_length = draft->state.causal_length;
	if (table->generated && chance(world, 25)) {
		draft_cell(draft, 0, kit_int(some_number(world, draft)));
		op = RENUMBER;
	} else if (draft->table == WORD && chance(world, 15)) {
		draft_spelling(world, draft);
	}
	for (i = table->key_count; i < table->column_count; i++)
		if (chance(world, 40))
			draft_cell(draft, i, column_value(world, draft->table, i));
	return op;
}

/* What no honest replica sends: updates of lives that nobody began, births twice, leaps. */
static void draft_hostile(struct world *world, struct draft *draft)
{
	draft->record.cell_count = 0;
	draft->record.flags = 0;
	if (chance(world, 50))
		draft_insert(world, draft);
	else
		(void)draft_update(world, draft);
	draft->record.causal_length = 1 + pick(world, 5);
	if (draft->record.causal_length % 2 == 0) {
		draft->record.cell_count = 0;
		draft->record.flags = 0;
	}
}

static enum op draft_make(struct world *world, uint32_t node, struct draft *draft)
{
	enum op op;

	draft->table = pick(world, TABLES);
	draft->record.table = draft->table;
	if (twin_tables[draft->table].generated)
		draft_generated(world, draft);
	else
		draft_key(world, draft);
	draft_state(world, node, draft);
	if (draft->state.causal_length % 2 == 0) {
		op = draft->state.causal_length ? REINSERT : INSERT;
		draft_insert(world, draft);
	} else if (chance(world, 25)) {
		op = DELETE;
		draft->record.causal_length = draft->state.causal_length + 1;
	} else {
		op = draft_update(world, draft);
	}
	if (chance(world, 4)) {
		op = HOSTILE;
		draft_hostile(world, draft);
	}
	draft->record.identity = draft->identity;
	draft->record.cells = draft->cells;
	if (world->change_count && chance(world, 5)) {
		op = RESTATE;
		draft->record.origin = 1;
		draft->origin = 1 + pick(world, (uint32_t)world->change_count);
	}
	return op;
}

/* --- writing and delivering ------------------------------------------------------------------ */

static void deliver(struct world *world, uint32_t node, const size_t *changes, size_t count)
{
	struct kit_change *all[CHANGES_MAX];
	size_t i;

	for (i = 0; i < count; i++) {
		struct kit_change *change = &world->changes[changes[i]];

		all[i] = change;
		world->has[node][changes[i]] = true;
		if (change->header.stamp.value > world->stamp[node])
			world->stamp[node] = change->header.stamp.value;
	}
	kit_apply_all(&world->nodes[node], all, count);
	world->transactions++;
}

static void write_change(struct world *world, uint32_t node)
{
	size_t at = world->change_count, i;
	struct kit_change *change = &world->changes[at];
	uint32_t records = 1 + pick(world, 3);

	/* clocks are not equal: some run ahead, some behind */
	world->stamp[node] += 1 + (chance(world, 20) ? pick(world, 8) : 0);
	kit_change_init(change, &world->mesh, (char)('A' + node), ++world->seq[node],
			world->stamp[node]);
	for (; records; records--) {
		struct draft draft;

		draft_init(&draft);
		world->ops[draft_make(world, node, &draft)]++;
		if (draft.origin) {
			const struct kit_change *of = &world->changes[draft.origin - 1];

			if (change->header.origin_count == p2p_array_len(change->origins)) {
				draft.record.origin = 0;
			} else {
				change->origins[change->header.origin_count].replica =
					of->header.replica;
				change->origins[change->header.origin_count++].stamp =
					of->header.stamp;
				draft.record.origin = (uint32_t)change->header.origin_count;
			}
		}
		kit_change_put(change, &draft.record);
		world->records++;
		draft_deinit(&draft);
	}
	world->author[at] = (uint8_t)node;
	for (i = 0; i < at; i++)
		world->knows[at][i] = world->has[node][i];
	world->change_count++;
	deliver(world, node, &at, 1);
}

static bool deliverable(const struct world *world, uint32_t node, size_t change)
{
	size_t i;

	if (world->order == NO_ORDER)
		return true;
	for (i = 0; i < change; i++)
		if (!world->has[node][i] && (world->author[i] == world->author[change] ||
					     (world->order == CAUSAL && world->knows[change][i])))
			return false;
	return true;
}

/* Up to `most` that the node lacks (or, now and then, has), in one transaction. */
static void deliver_some(struct world *world, uint32_t node, uint32_t most)
{
	size_t chosen[CHANGES_MAX], count = 0, i, tries;

	for (tries = 0; tries < 4 * (size_t)most && count < most; tries++) {
		i = pick(world, (uint32_t)world->change_count);
		if (world->has[node][i] ? !chance(world, 20) : !deliverable(world, node, i))
			continue;
		chosen[count++] = i;
		world->duplicates += world->has[node][i];
		world->has[node][i] = true; /* the next may build on it */
	}
	if (count)
		deliver(world, node, chosen, count);
}

static void deliver_all(struct world *world)
{
	uint32_t node;
	size_t i, missing;

	for (node = 0; node < world->node_count; node++)
		do {
			deliver_some(world, node, 1 + pick(world, 6));
			for (i = 0, missing = 0; i < world->change_count; i++)
				missing += !world->has[node][i];
		} while (missing);
}

/* Everything once more, shuffled, in one or in many transactions: no byte may change. */
static void deliver_again(struct world *world, uint32_t node)
{
	size_t order[CHANGES_MAX], i, count = world->change_count;
	struct p2p_hash before, after;

	for (i = 0; i < count; i++)
		order[i] = i;
	for (i = count; i > 1; i--) {
		size_t j = pick(world, (uint32_t)i), kept = order[i - 1];

		order[i - 1] = order[j];
		order[j] = kept;
	}
	kit_digest(&world->nodes[node], &before);
	if (chance(world, 50))
		deliver(world, node, order, count);
	else
		for (i = 0; i < count; i++)
			deliver(world, node, &order[i], 1);
	kit_digest(&world->nodes[node], &after);
	if (p2p_hash_cmp(&before, &after) != 0)
		fail(world, "a second delivery changed something");
}

/* --- comparing ------------------------------------------------------------------------------- */

/* The records of what a replica has. */
static void twin_fill(struct world *world, uint32_t node)
{
	struct p2p_cell cells[TWIN_COLUMNS_MAX];
	struct p2p_record record;
	struct p2p_reader reader;
	struct p2p_clock clock;
	const uint8_t *data;
	size_t i, len;

	twin_clear(&world->twin);
	for (i = 0; i < world->change_count; i++) {
		struct kit_change *change = &world->changes[i];

		if (!world->has[node][i])
			continue;
		p2p_reader_init(&reader, change->body.data, change->body.len);
		while (p2p_reader_left(&reader)) {
			data = p2p_read_bytes(&reader, P2P_RECORD_BYTES_MAX, &len);
			if (p2p_record_read(&record, cells, TWIN_COLUMNS_MAX, data, len))
				fail(world, "record");
			clock.stamp = change->header.stamp;
			clock.replica = change->header.replica;
			if (record.origin) {
				clock.stamp = change->origins[record.origin - 1].stamp;
				clock.replica = change->origins[record.origin - 1].replica;
			}
			twin_add(&world->twin, record.table, &record, &clock);
		}
	}
	twin_project(&world->twin);
}

/* What a person needs to find out why. */
static void tell(struct world *world)
{
	struct p2p_buf state;
	size_t i;

	p2p_buf_init(&state, 1u << 24);
	kit_state(&world->nodes[world->looking], &state);
	(void)fprintf(stderr, "%.*s", (int)state.len, (const char *)state.data);
	for (i = 0; i < world->twin.count; i++) {
		const struct twin_row *row = &world->twin.rows[i];

		(void)fprintf(stderr, "twin: %s %llu%s, claims %lld, %s %lld%s\n", row->table->name,
			      (unsigned long long)row->causal_length, row->born ? " born" : "",
			      (long long)row->cells[0].value.integer,
			      row->temporary ? "temporary" : "number", (long long)row->number,
			      row->shown ? ", shown" : "");
	}
	p2p_buf_deinit(&state);
}

/* A replica against the twin of what it has. */
static void compare_twin(struct world *world, uint32_t at)
{
	const struct compare_keys keys = {world->mesh.keys, world->mesh.key_count};
	const char *differs;

	world->looking = at;
	world->compared++;
	twin_fill(world, at);
	differs = compare_with_twin(world->nodes[at].store, &world->twin, &keys, &world->counts);
	if (differs)
		fail(world, differs);
}

static void compare_nodes(struct world *world)
{
	struct p2p_buf first, other;
	size_t i;

	p2p_buf_init(&first, 1u << 24);
	p2p_buf_init(&other, 1u << 24);
	kit_state(&world->nodes[0], &first);
	for (i = 1; i < world->node_count; i++) {
		p2p_buf_reset(&other);
		kit_state(&world->nodes[i], &other);
		if (first.len != other.len || memcmp(first.data, other.data, first.len) != 0) {
			(void)fprintf(stderr, "%.*s---\n", (int)other.len,
				      (const char *)other.data);
			fail(world, "two replicas differ");
		}
	}
	p2p_buf_deinit(&first);
	p2p_buf_deinit(&other);
}

/* --- histories ------------------------------------------------------------------------------- */

static void world_clear(struct world *world)
{
	size_t i;

	for (i = 0; i < world->change_count; i++)
		kit_change_deinit(&world->changes[i]);
	for (i = 0; i < NODES_MAX; i++)
		kit_node_clear(&world->nodes[i]);
	kit_mesh_forget(&world->mesh);
	twin_clear(&world->twin);
	memset(world->has, 0, sizeof(world->has));
	memset(world->knows, 0, sizeof(world->knows));
	memset(world->stamp, 0, sizeof(world->stamp));
	memset(world->seq, 0, sizeof(world->seq));
	world->change_count = 0;
}

static void history(struct world *world, uint64_t seed)
{
	uint32_t steps, node;

	world->seed = seed;
	world->rng = seed * 0x2545f4914f6cdd1dull + 1;
	world->node_count = 2 + pick(world, NODES_MAX - 1);
	world->order = (enum order)pick(world, ORDERS);
	for (steps = 4 + pick(world, STEPS_MAX - 4); steps; steps--) {
		node = pick(world, (uint32_t)world->node_count);
		if (chance(world, 60) || !world->change_count)
			write_change(world, node);
		else
			deliver_some(world, node, 1 + pick(world, 5));
		if (chance(world, world->every))
			compare_twin(world, node);
	}
	world->looking = 0;
	deliver_all(world);
	compare_nodes(world);
	compare_twin(world, 0);
	deliver_again(world, pick(world, (uint32_t)world->node_count));
	world_clear(world);
}

static double seconds(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void world_init(struct world *world)
{
	size_t i;

	memset(world, 0, sizeof(*world));
	kit_mesh_init(&world->mesh);
	for (i = 0; i < TABLES; i++) {
		(void)kit_mesh_table(&world->mesh, twin_tables[i].name, twin_tables[i].generated,
				     table_columns[i], twin_tables[i].column_count);
		twin_tables[i].id = world->mesh.table[i];
	}
	twin_tables[WORD].defaults[3] = kit_text("none");
	twin_tables[ITEM].defaults[2] = kit_text("b");
	for (i = 0; i < NODES_MAX; i++)
		kit_node_init(&world->nodes[i], &world->mesh, sql_tables);
	twin_init(&world->twin, twin_tables, TABLES);
}

static void report(const struct world *world, uint64_t histories, double took)
{
	size_t i;

	(void)printf("%llu histories in %.1f s (%.0f/s): %llu records, %llu transactions, %llu "
		     "changesets delivered twice\n",
		     (unsigned long long)histories, took, (double)histories / took,
		     (unsigned long long)world->records, (unsigned long long)world->transactions,
		     (unsigned long long)world->duplicates);
	for (i = 0; i < OPS; i++)
		(void)printf("%s%s %llu", i ? ", " : "mix: ", op_names[i],
			     (unsigned long long)world->ops[i]);
	(void)printf("\ncompared: %llu rows shown, %llu parked, %llu with a temporary number; "
		     "%llu comparisons with the twin\n",
		     (unsigned long long)world->counts.shown,
		     (unsigned long long)world->counts.parked,
		     (unsigned long long)world->counts.temporary,
		     (unsigned long long)world->compared);
}

int main(int argc, char **argv)
{
	uint64_t histories = argc > 1 ? strtoull(argv[1], NULL, 10) : HISTORIES;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1, i;
	struct world *world = calloc(1, sizeof(*world));
	double start = seconds();

	if (!world)
		return 1;
	world_init(world);
	world->every = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 10;
	for (i = 0; i < histories; i++)
		history(world, seed + i);
	report(world, histories, seconds() - start);
	for (i = 0; i < NODES_MAX; i++)
		kit_node_deinit(&world->nodes[i]);
	twin_deinit(&world->twin);
	kit_mesh_deinit(&world->mesh);
	free(world);
	return 0;
}
