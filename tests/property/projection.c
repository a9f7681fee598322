/* The rules, tried on the twin alone and on the product: projection [HISTORIES] [SEED] [MODE]
 *
 * Two to four replicas whose applications write only through the tables that they show (with
 * keys, UNIQUE constraints, foreign keys, a counter), some of them without foreign keys. Each makes
 * changesets of that by the rules, and they exchange them, each replica's in its order. Shown:
 *
 *   - what the tables show satisfies keys and UNIQUE; no FOREIGN KEY dangles but what dangled where
 *     it was written;
 *   - an application sees what it wrote, and its write makes no row vanish;
 *   - equal sets of changesets give equal tables, in whatever order they came;
 *   - giving permanent numbers ends.
 *
 * So the rules are possible. MODE says what else is done: nothing (rules); product: a file merges
 * what each twin merges, and is compared with it, now and then and at the end; orders: histories
 * are small, and their changesets are given to a file in every order that there is.
 * A failure prints the seed: projection 1 SEED MODE runs that history alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/check.h"
#include "tests/property/author.h"
#include "tests/property/product.h"

#define NODES_MAX   PRODUCT_NODES_MAX
#define CHANGES_MAX 256
#define STEPS_MAX   60
#define ROUNDS_MAX  8
#define ORDERS_MAX  5 /* changesets of a history whose orders are all tried */

enum mode { RULES, PRODUCT, ORDERS };

struct world {
	enum mode mode;
	struct product product;

	struct kit_mesh mesh;
	struct sheet sheet;
	struct author authors[NODES_MAX];
	size_t node_count;
	struct kit_change changes[CHANGES_MAX];
	size_t change_count;
	uint8_t author[CHANGES_MAX];
	bool has[NODES_MAX][CHANGES_MAX];
	size_t given[NODES_MAX][CHANGES_MAX]; /* in this order */
	size_t given_count[NODES_MAX];
	bool careless; /* some write without foreign keys */
	uint64_t seed, rng;
	uint64_t written, shown, parked, temporary, yields, renumbered, loose;
};

static struct twin_table tables[SHEET_TABLES];

static void tell_bytes(const void *data, size_t len)
{
	const uint8_t *bytes = data;
	size_t i;

	for (i = 0; i < len; i++)
		(void)fprintf(stderr, "%02x", bytes[i]);
}

static void tell_cell(const struct p2p_cell *cell)
{
	struct p2p_buf bytes;

	p2p_buf_init(&bytes, 4096);
	if (cell->tag == P2P_CELL_REFERENCE)
		p2p_identity_put(&bytes, &cell->reference);
	else
		p2p_value_put(&bytes, &cell->value);
	(void)fprintf(stderr, " %u:%d:", cell->column, (int)cell->tag);
	tell_bytes(bytes.data, bytes.len);
	p2p_buf_deinit(&bytes);
}

/* Its records: table, identity, causal length, cells, yields. */
static void tell_change(const struct kit_change *change)
{
	struct p2p_cell cells[TWIN_COLUMNS_MAX];
	struct p2p_record record;
	struct p2p_reader reader;
	struct p2p_buf bytes;
	const uint8_t *data;
	size_t len, i;

	p2p_reader_init(&reader, change->body.data, change->body.len);
	while (p2p_reader_left(&reader)) {
		data = p2p_read_bytes(&reader, P2P_RECORD_BYTES_MAX, &len);
		p2p_require(p2p_record_read(&record, cells, TWIN_COLUMNS_MAX, data, len) == 0);
		p2p_buf_init(&bytes, 4096);
		p2p_identity_put(&bytes, &record.identity);
		(void)fprintf(stderr, "  %llu@%c %s ",
			      (unsigned long long)change->header.stamp.value,
			      change->header.replica.bytes[0], tables[record.table].name);
		tell_bytes(bytes.data, bytes.len);
		(void)fprintf(stderr, " %llu%s", (unsigned long long)record.causal_length,
			      record.flags & P2P_RECORD_BORN ? " born" : "");
		for (i = 0; i < record.cell_count; i++)
			tell_cell(&cells[i]);
		if (record.yield_count)
			(void)fprintf(stderr, " yields ");
		tell_bytes(record.yields, record.yield_count * P2P_ID_BYTES);
		(void)fprintf(stderr, "\n");
		p2p_buf_deinit(&bytes);
	}
}

static _Noreturn void fail(struct world *world, uint32_t node, const char *what)
{
	size_t i;

	for (i = 0; world->mode != RULES && i < world->change_count; i++) {
		(void)fprintf(stderr, "changeset %zu%s\n", i,
			      world->has[node][i] ? "" : " (not here)");
		tell_change(&world->changes[i]);
	}
	for (i = 0; i < world->given_count[node]; i++)
		(void)fprintf(stderr, "%s %zu", i ? "," : "replica got", world->given[node][i]);
	(void)fprintf(stderr, "\n");
	if (world->mode != RULES)
		product_tell(&world->product, node, &world->authors[node].twin);
	(void)fprintf(stderr, "projection: seed %llu (%zu replicas): %s\n",
		      (unsigned long long)world->seed, world->node_count, what);
	exit(1);
}

static uint32_t pick(struct world *world, uint32_t below)
{
	return sheet_pick(&world->rng, below);
}

/* --- what a write must keep ------------------------------------------------------------------ */

static const struct sheet_row *row_after(const struct sheet_rows *after, uint32_t table,
					 const struct twin_row *row)
{
	uint32_t c, keys = row->table->key_count;
	size_t i;

	for (i = 0; i < after->count; i++) {
		if (after->items[i].table != table)
			continue;
		for (c = 0; c < keys; c++)
			if (!twin_value_same(&after->items[i].values[c], &row->seen[c], false))
				break;
		if (c == keys)
			return &after->items[i];
	}
	return NULL;
}

/* A reference is right when it shows where its row is now; a column that the application did not
 * touch may show its parent again. */
static bool cell_kept(const struct twin_row *row, const struct sheet_row *after, uint32_t column,
		      const struct p2p_clock *clock)
{
	const struct twin_cell *cell = &row->cells[column];

	if (p2p_clock_cmp(&cell->clock, clock) != 0 || cell->tag == P2P_CELL_REFERENCE)
		return true;
	return p2p_value_equal(&row->seen[column], &after->values[column]);
}

/* Every row that the application left is still there, as it left it. */
static const char *write_kept(struct world *world, struct author *author, const struct twin *before)
{
	const struct sheet_rows *after = &world->sheet.after;
	const struct p2p_clock clock = {.stamp = {author->stamp},
					.replica = kit_replica(author->letter)};
	size_t i, found = 0;
	uint32_t c;

	for (i = 0; i < author->twin.count; i++) {
		const struct twin_row *row = &author->twin.rows[i];
		uint32_t table = (uint32_t)(row->table - tables);
		const struct twin_row *old = twin_find(before, table, &row->identity);
		const struct sheet_row *left;

		if (!row->complete ||
		    !((old && old->shown) || p2p_clock_cmp(&row->clock, &clock) == 0))
			continue;
		if (!row->shown)
			return "a write pushed a row out";
		found++;
		if (row->table->generated && row->temporary &&
		    p2p_clock_cmp(&row->cells[0].clock, &clock) == 0)
			return "a row does not have the number that it was given";
		left = row_after(after, table, row);
		for (c = row->table->key_count; left && c < row->table->column_count; c++)
			if (!cell_kept(row, left, c, &clock))
				return "an application does not see what it wrote";
	}
	return found < after->count ? "a row is not there after the write" : NULL;
}

/* Everything that a replica merges, its file merges too. */
static void merge_into_file(struct world *world, uint32_t node, size_t change)
{
	world->given[node][world->given_count[node]++] = change;
	if (world->mode == PRODUCT)
		product_deliver(&world->product, node, &world->changes[change]);
}

static void compare_file(struct world *world, uint32_t node)
{
	const char *differs = NULL;

	if (world->mode == PRODUCT)
		differs = product_compare(&world->product, node, &world->authors[node].twin);
	if (differs)
		fail(world, node, differs);
}

static void deliver(struct world *world, uint32_t node, size_t change)
{
	struct author *author = &world->authors[node];

	world->has[node][change] = true;
	author_merge(&author->twin, &world->changes[change]);
	if (world->changes[change].header.stamp.value > author->stamp)
		author->stamp = world->changes[change].header.stamp.value;
	merge_into_file(world, node, change);
}

static void change_made(struct world *world, uint32_t node)
{
	size_t at = world->change_count++;

	p2p_require(world->change_count < CHANGES_MAX);
	world->has[node][at] = true;
	world->author[at] = (uint8_t)node;
	merge_into_file(world, node, at);
}

static void write_some(struct world *world, uint32_t node)
{
	struct author *author = &world->authors[node];
	bool careless = world->careless && pick(world, 3) == 0;
	struct twin before;
	const char *broken;

	twin_init(&before, tables, SHEET_TABLES);
	twin_copy(&before, &author->twin);
	broken = sheet_fill(&world->sheet, &author->twin);
	if (broken)
		fail(world, node, broken);
	sheet_write(&world->sheet, &world->rng, careless);
	if (author_write(author, &world->mesh, &world->sheet.after, &world->rng,
			 &world->changes[world->change_count])) {
		change_made(world, node);
		world->written++;
		broken = careless ? NULL : write_kept(world, author, &before);
		if (broken)
			fail(world, node, broken);
	}
	twin_deinit(&before);
}

static void renumber(struct world *world, uint32_t node)
{
	if (author_renumber(&world->authors[node], &world->mesh,
			    &world->changes[world->change_count]))
		change_made(world, node);
}

/* The next of another replica that this one lacks, of each; up to so many. */
static void pull(struct world *world, uint32_t node, uint32_t most)
{
	bool missing[NODES_MAX] = {0};
	size_t i;

	for (i = 0; i < world->change_count && most; i++) {
		if (world->has[node][i])
			continue;
		/* in no order across replicas, in order within one */
		if (missing[world->author[i]] || pick(world, 4) == 0) {
			missing[world->author[i]] = true;
			continue;
		}
		deliver(world, node, i);
		most--;
	}
	twin_project(&world->authors[node].twin);
}

/* --- the end --------------------------------------------------------------------------------- */

static bool rows_equal(const struct twin_row *a, const struct twin_row *b)
{
	uint32_t c;

	if (a->complete != b->complete || a->shown != b->shown || a->number != b->number ||
	    a->temporary != b->temporary || a->causal_length != b->causal_length)
		return false;
	for (c = 0; a->shown && c < a->table->column_count; c++)
		if (!p2p_value_equal(&a->seen[c], &b->seen[c]))
			return false;
	return true;
}

static void compare(struct world *world, size_t node)
{
	const struct twin *first = &world->authors[0].twin, *other = &world->authors[node].twin;
	const struct twin_row *row;
	size_t i;

	if (first->count != other->count)
		fail(world, (uint32_t)node, "replicas know different rows");
	for (i = 0; i < first->count; i++) {
		row = twin_find(other, (uint32_t)(first->rows[i].table - tables),
				&first->rows[i].identity);
		if (!row || !rows_equal(&first->rows[i], row))
			fail(world, (uint32_t)node, "replicas show different rows");
	}
}

static bool temporary_left(const struct world *world)
{
	const struct twin *twin = &world->authors[0].twin;
	size_t i;

	for (i = 0; i < twin->count; i++)
		if (twin->rows[i].shown && twin->rows[i].temporary)
			return true;
	return false;
}

static uint64_t loose_shown(const struct twin *twin)
{
	uint64_t count = 0;
	uint32_t c;
	size_t i;

	for (i = 0; i < twin->count; i++)
		for (c = 0; twin->rows[i].shown && c < twin->rows[i].table->column_count; c++)
			count += twin->rows[i].cells[c].tag == P2P_CELL_LOOSE ||
				 twin->rows[i].cells[c].tag == P2P_CELL_LOOSE_VALUE ||
				 /* a key that dangles */
				 (c < twin->rows[i].table->key_count &&
				  twin->rows[i].table->foreign[0].follows &&
				  twin->rows[i].key[c].tag == P2P_CELL_VALUE);
	return count;
}

static void settle(struct world *world)
{
	uint32_t node, round;
	const char *broken;
	size_t i;

	for (round = 0; round < ROUNDS_MAX; round++) {
		for (node = 0; node < world->node_count; node++)
			for (i = 0; i < world->change_count; i++)
				if (!world->has[node][i])
					deliver(world, node, i);
		for (node = 0; node < world->node_count; node++)
			twin_project(&world->authors[node].twin);
		for (node = 1; node < world->node_count; node++)
			compare(world, node);
		if (!temporary_left(world))
			break;
		for (node = 0; node < world->node_count; node++)
			renumber(world, node);
	}
	if (round == ROUNDS_MAX)
		fail(world, 0, "giving permanent numbers does not end");
	broken = sheet_fill(&world->sheet, &world->authors[0].twin);
	if (broken)
		fail(world, 0, broken);
	if (sheet_dangling(&world->sheet) > loose_shown(&world->authors[0].twin))
		fail(world, 0, "a reference dangles that is not loose");
}

/* The files at the end. */
static void settle_files(struct world *world)
{
	const char *differs = NULL;
	uint32_t node;

	for (node = 0; node < world->node_count; node++)
		compare_file(world, node);
	if (world->mode == PRODUCT)
		differs = product_equal(&world->product, (uint32_t)world->node_count,
					loose_shown(&world->authors[0].twin));
	if (world->mode == ORDERS && world->change_count <= ORDERS_MAX)
		differs = product_orders(&world->product, world->changes, world->change_count,
					 &world->authors[0].twin);
	if (differs)
		fail(world, 0, differs);
	if (world->mode != RULES)
		product_clear(&world->product);
}

static void count(struct world *world)
{
	size_t i;

	for (i = 0; i < world->authors[0].twin.count; i++) {
		const struct twin_row *row = &world->authors[0].twin.rows[i];

		world->shown += row->shown;
		world->parked += row->complete && !row->shown;
	}
	for (i = 0; i < world->node_count; i++) {
		world->yields += world->authors[i].yields;
		world->renumbered += world->authors[i].renumbered;
		world->loose += world->authors[i].loose;
	}
}

static void history(struct world *world, uint64_t seed)
{
	uint32_t steps, node, i;

	world->seed = seed;
	world->rng = seed * 0x2545f4914f6cdd1dull + 1;
	world->node_count = 2 + pick(world, NODES_MAX - 1);
	world->careless = pick(world, 3) == 0;
	for (i = 0; i < world->node_count; i++) {
		author_init(&world->authors[i], tables);
		world->authors[i].letter = (char)('A' + i);
		world->authors[i].rank = i;
		world->authors[i].members = (uint32_t)world->node_count;
	}
	steps = 5 + pick(world, world->mode == ORDERS ? 5 : STEPS_MAX - 5);
	for (; steps && (world->mode != ORDERS || world->change_count < ORDERS_MAX); steps--) {
		node = pick(world, (uint32_t)world->node_count);
		if (pick(world, 10) < 7)
			write_some(world, node);
		else
			pull(world, node, 1 + pick(world, 4) * pick(world, 8));
		if (pick(world, 8) == 0)
			renumber(world, node);
		if (pick(world, 8) == 0)
			compare_file(world, node);
	}
	settle(world);
	settle_files(world);
	count(world);
	for (i = 0; i < world->node_count; i++)
		author_deinit(&world->authors[i]);
	for (i = 0; i < world->change_count; i++)
		kit_change_deinit(&world->changes[i]);
	world->change_count = 0;
	memset(world->has, 0, sizeof(world->has));
	memset(world->given_count, 0, sizeof(world->given_count));
}

static double seconds(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* As yields name it. */
static void constraint_id(struct twin_table *table, size_t at)
{
	struct twin_unique *unique = &table->uniques[at];
	struct p2p_hasher hasher;
	struct p2p_id column;
	uint32_t c;

	p2p_hasher_init(&hasher, "p2pnode/constraint/1", sizeof(unique->id.bytes));
	p2p_hasher_add(&hasher, table->id.bytes, P2P_ID_BYTES);
	for (c = 0; c < table->column_count && !unique->where; c++) {
		if (!(unique->columns >> c & 1))
			continue;
		p2p_column_id(&column, &table->id, sheet_columns[table - tables][c]);
		p2p_hasher_add(&hasher, column.bytes, P2P_ID_BYTES);
		p2p_hasher_add_u64(&hasher, unique->nocase ? 1 : 0);
	}
	if (unique->where) { /* the one partial index */
		p2p_hasher_add(&hasher, "\"ware\"", 6);
		p2p_hasher_add_u64(&hasher, 0);
		p2p_hasher_add(&hasher, " pinned = 1", 11);
	}
	p2p_hasher_final(&hasher, unique->id.bytes, sizeof(unique->id.bytes));
}

static void world_init(struct world *world)
{
	size_t t, u;

	kit_mesh_init(&world->mesh);
	memcpy(tables, sheet_tables, sizeof(tables));
	for (t = 0; t < SHEET_TABLES; t++) {
		(void)kit_mesh_counting(&world->mesh, tables[t].name, tables[t].generated,
					sheet_columns[t], tables[t].column_count,
					tables[t].counters);
		tables[t].id = world->mesh.table[t];
		for (u = 0; u < TWIN_UNIQUES_MAX; u++) {
			constraint_id(&tables[t], u);
		}
	}
	sheet_init(&world->sheet);
	if (world->mode == RULES)
		return;
	product_init(&world->product, &world->mesh);
	product_constraints(&world->product, tables);
}

int main(int argc, char **argv)
{
	uint64_t histories = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000;
	uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1, i;
	struct world *world = calloc(1, sizeof(*world));
	double start = seconds();

	if (!world)
		return 1;
	if (argc > 3)
		world->mode = strcmp(argv[3], "orders") == 0 ? ORDERS : PRODUCT;
	world_init(world);
	for (i = 0; i < histories; i++)
		history(world, seed + i);
	(void)printf(
		"%llu histories in %.1f s: %llu writes (%llu of %llu statements refused), %llu "
		"rows shown, %llu parked, %llu yields, %llu permanent numbers, %llu loose\n",
		(unsigned long long)histories, seconds() - start,
		(unsigned long long)world->written, (unsigned long long)world->sheet.refused,
		(unsigned long long)world->sheet.statements, (unsigned long long)world->shown,
		(unsigned long long)world->parked, (unsigned long long)world->yields,
		(unsigned long long)world->renumbered, (unsigned long long)world->loose);
	if (world->mode != RULES) {
		(void)printf("product: %llu comparisons with the twin, %llu rows shown, %llu "
			     "parked, %llu with a temporary number, %llu orders\n",
			     (unsigned long long)world->product.compared,
			     (unsigned long long)world->product.counts.shown,
			     (unsigned long long)world->product.counts.parked,
			     (unsigned long long)world->product.counts.temporary,
			     (unsigned long long)world->product.orders);
		product_deinit(&world->product);
	}
	sheet_deinit(&world->sheet);
	kit_mesh_deinit(&world->mesh);
	free(world);
	return 0;
}
