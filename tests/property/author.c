/* Writing by the rules; see author.h. */
#include "tests/property/author.h"

#include <stdlib.h>
#include <string.h>

#include "proto/check.h"

#define RECORDS_MAX 256
#define KEY_BYTES   64

/* A changeset in the making: what the application wrote, then yields. */
struct draft {
	struct author *author;
	const struct sheet_rows *after;
	struct p2p_clock clock;
	struct p2p_identity identity[SHEET_ROWS_MAX]; /* of the rows after */
	uint8_t key[SHEET_ROWS_MAX][KEY_BYTES];
	struct p2p_record records[RECORDS_MAX];
	struct p2p_cell cells[RECORDS_MAX][TWIN_COLUMNS_MAX];
	uint8_t yields[RECORDS_MAX][(TWIN_UNIQUES_MAX + 1) * P2P_ID_BYTES];
	size_t count;
	uint64_t *rng;
};

void author_init(struct author *author, const struct twin_table *tables)
{
	memset(author, 0, sizeof(*author));
	twin_init(&author->twin, tables, SHEET_TABLES);
	twin_init(&author->probe, tables, SHEET_TABLES);
}

void author_deinit(struct author *author)
{
	twin_deinit(&author->twin);
	twin_deinit(&author->probe);
}

void author_merge(struct twin *twin, const struct kit_change *change)
{
	struct p2p_cell cells[TWIN_COLUMNS_MAX];
	struct p2p_record record;
	struct p2p_reader reader;
	struct p2p_clock clock;
	const uint8_t *data;
	size_t len;

	clock.stamp = change->header.stamp;
	clock.replica = change->header.replica;
	p2p_reader_init(&reader, change->body.data, change->body.len);
	while (p2p_reader_left(&reader)) {
		data = p2p_read_bytes(&reader, P2P_RECORD_BYTES_MAX, &len);
		p2p_require(p2p_record_read(&record, cells, TWIN_COLUMNS_MAX, data, len) == 0);
		twin_add(twin, record.table, &record, &clock);
	}
}

static void draft_add(struct twin *twin, const struct draft *draft)
{
	size_t i;

	for (i = 0; i < draft->count; i++)
		twin_add(twin, draft->records[i].table, &draft->records[i], &draft->clock);
}

static struct p2p_record *record_of(struct draft *draft, uint32_t table,
				    const struct p2p_identity *identity, uint64_t causal_length)
{
	struct p2p_record *record;
	size_t i;

	for (i = 0; i < draft->count; i++)
		if (draft->records[i].table == table &&
		    twin_identity_same(&draft->records[i].identity, identity))
			return &draft->records[i];
	p2p_require(draft->count < RECORDS_MAX);
	record = &draft->records[draft->count];
	memset(record, 0, sizeof(*record));
	record->table = table;
	record->identity = *identity;
	record->causal_length = causal_length;
	record->cells = draft->cells[draft->count];
	record->yields = draft->yields[draft->count];
	draft->count++;
	return record;
}

static struct p2p_cell *record_cell(struct p2p_record *record, uint32_t column)
{
	struct p2p_cell *cell = &record->cells[record->cell_count++];

	memset(cell, 0, sizeof(*cell));
	cell->column = column;
	return cell;
}

/* --- identities ------------------------------------------------------------------------------ */

static uint32_t row_table(const struct twin *twin, const struct twin_row *row)
{
	return (uint32_t)(row->table - twin->tables);
}

/* The row that shows a number. */
static const struct twin_row *shown_at(const struct twin *twin, uint32_t table, int64_t number)
{
	size_t i;

	for (i = 0; i < twin->count; i++)
		if (row_table(twin, &twin->rows[i]) == table && twin->rows[i].shown &&
		    twin->rows[i].number == number)
			return &twin->rows[i];
	return NULL;
}

static void identity_new(struct draft *draft, struct p2p_identity *out)
{
	size_t i;

	memset(out, 0, sizeof(*out));
	out->kind = P2P_IDENTITY_GENERATED;
	for (i = 0; i < P2P_ID_BYTES; i++)
		out->id.bytes[i] = (uint8_t)sheet_pick(draft->rng, 256);
	out->id.bytes[P2P_ID_BYTES - 1] = (uint8_t)draft->author->letter;
	draft->author->rows++;
}

/* The identity of the row after the write that has this number, NULL when there is none. */
static const struct p2p_identity *target_after(const struct draft *draft, uint32_t table,
					       const struct p2p_value *number)
{
	size_t i;

	for (i = 0; i < draft->after->count; i++)
		if (draft->after->items[i].table == table &&
		    twin_value_same(&draft->after->items[i].values[0], number, false))
			return &draft->identity[i];
	return NULL;
}

static const struct twin_foreign *foreign_of(const struct twin_table *table, uint32_t column)
{
	size_t f;

	for (f = 0; f < TWIN_FOREIGN_MAX; f++)
		if (table->foreign[f].count && table->foreign[f].columns[0] == column)
			return &table->foreign[f];
	return NULL;
}

static void identity_of_key(struct draft *draft, size_t at)
{
	const struct sheet_row *row = &draft->after->items[at];
	const struct twin_table *table = &draft->author->twin.tables[row->table];
	struct p2p_identity *identity = &draft->identity[at];
	struct p2p_buf bytes;
	uint32_t c;

	p2p_buf_init(&bytes, KEY_BYTES);
	for (c = 0; c < table->key_count; c++) {
		const struct twin_foreign *foreign = foreign_of(table, c);
		const struct p2p_identity *target = NULL;

		if (foreign && foreign->follows)
			target = target_after(draft, foreign->parent, &row->values[c]);
		if (target) {
			p2p_buf_put_u8(&bytes, P2P_CELL_REFERENCE);
			p2p_identity_put(&bytes, target);
		} else {
			p2p_value_put(&bytes, &row->values[c]);
		}
	}
	p2p_require(!p2p_buf_error(&bytes));
	memcpy(draft->key[at], bytes.data, bytes.len);
	memset(identity, 0, sizeof(*identity));
	identity->kind = P2P_IDENTITY_KEY;
	identity->key = draft->key[at];
	identity->key_len = bytes.len;
	p2p_buf_deinit(&bytes);
}

/* A number that is there before and after is one row; keys name their parents as they are now. */
static void identities(struct draft *draft)
{
	const struct twin *twin = &draft->author->twin;
	size_t i;

	for (i = 0; i < draft->after->count; i++) {
		const struct sheet_row *row = &draft->after->items[i];
		const struct twin_row *before;

		if (!twin->tables[row->table].generated)
			continue;
		before = shown_at(twin, row->table, row->values[0].integer);
		if (before)
			draft->identity[i] = before->identity;
		else
			identity_new(draft, &draft->identity[i]);
	}
	for (i = 0; i < draft->after->count; i++)
		if (!twin->tables[draft->after->items[i].table].generated)
			identity_of_key(draft, i);
}

/* --- cells ----------------------------------------------------------------------------------- */

static bool value_dangles(const struct draft *draft, const struct twin_foreign *foreign,
			  const struct sheet_row *row)
{
	size_t i;
	uint32_t k;

	for (k = 0; k < foreign->count; k++)
		if (row->values[foreign->columns[k]].type == P2P_NULL)
			return false;
	for (i = 0; i < draft->after->count; i++) {
		const struct sheet_row *parent = &draft->after->items[i];

		for (k = 0; parent->table == foreign->parent && k < foreign->count; k++)
			if (!twin_value_same(&parent->values[foreign->parents[k]],
					     &row->values[foreign->columns[k]], false))
				break;
		if (parent->table == foreign->parent && k == foreign->count)
			return false;
	}
	return true;
}

static int64_t counter_total(const struct draft *draft, const struct twin_row *before,
			     uint32_t column, int64_t shown)
{
	int64_t sum = 0, mine = 0;
	size_t i;

	for (i = 0; before && i < before->total_count; i++) {
		const struct twin_total *total = &before->totals[i];

		if (total->column != column)
			continue;
		sum += total->total;
		if (p2p_id_cmp(&total->clock.replica, &draft->clock.replica) == 0)
			mine = total->total;
	}
	return mine + shown - sum;
}

static void cell_write(struct draft *draft, struct p2p_record *record, const struct sheet_row *row,
		       const struct twin_row *before, uint32_t column)
{
	const struct twin_table *table = &draft->author->twin.tables[row->table];
	const struct twin_foreign *foreign = foreign_of(table, column);
	struct p2p_cell *cell = record_cell(record, column);
	const struct p2p_identity *target;

	cell->value = row->values[column];
	if (table->counters >> column & 1) {
		cell->tag = P2P_CELL_COUNTER;
		cell->value.integer =
			counter_total(draft, before, column, row->values[column].integer);
	} else if (foreign && !foreign->follows && value_dangles(draft, foreign, row)) {
		cell->tag = P2P_CELL_LOOSE_VALUE;
		draft->author->loose++;
	} else if (foreign && foreign->follows && cell->value.type == P2P_INTEGER) {
		target = target_after(draft, foreign->parent, &cell->value);
		cell->tag = target ? P2P_CELL_REFERENCE : P2P_CELL_LOOSE;
		if (target)
			cell->reference = *target;
		else
			draft->author->loose++;
	}
}

/* A reference that the write left dangling: what it pointed to is gone. */
static bool cell_loosened(const struct draft *draft, const struct twin_row *before,
			  const struct sheet_row *row, uint32_t column)
{
	const struct twin_foreign *foreign = foreign_of(before->table, column);
	const struct twin_cell *cell = &before->cells[column];

	if (!foreign || !cell->written || row->values[column].type == P2P_NULL)
		return false;
	if (foreign->follows)
		return cell->tag == P2P_CELL_REFERENCE &&
		       !target_after(draft, foreign->parent, &row->values[column]);
	return cell->tag == P2P_CELL_VALUE && value_dangles(draft, foreign, row);
}

static void row_insert(struct draft *draft, size_t at, const struct twin_row *before)
{
	const struct sheet_row *row = &draft->after->items[at];
	const struct twin_table *table = &draft->author->twin.tables[row->table];
	bool alive = before && before->causal_length % 2 == 1;
	struct p2p_record *record = record_of(draft, row->table, &draft->identity[at],
					      before ? before->causal_length + (alive ? 0 : 1) : 1);
	uint32_t c;

	record->flags = P2P_RECORD_BORN;
	for (c = table->generated ? 0 : table->key_count; c < table->column_count; c++)
		cell_write(draft, record, row, alive ? before : NULL, c);
}

static void row_update(struct draft *draft, size_t at, const struct twin_row *before)
{
	const struct sheet_row *row = &draft->after->items[at];
	const struct twin_table *table = before->table;
	struct p2p_record *record = NULL;
	uint32_t c;

	for (c = table->key_count; c < table->column_count; c++) {
		if (p2p_value_equal(&row->values[c], &before->seen[c]) &&
		    !cell_loosened(draft, before, row, c))
			continue;
		if (!record)
			record = record_of(draft, row->table, &before->identity,
					   before->causal_length);
		cell_write(draft, record, row, before, c);
	}
}

static void rows_write(struct draft *draft)
{
	const struct twin *twin = &draft->author->twin;
	size_t i, j;

	for (i = 0; i < draft->after->count; i++) {
		const struct twin_row *before =
			twin_find(twin, draft->after->items[i].table, &draft->identity[i]);

		if (before && before->shown)
			row_update(draft, i, before);
		else
			row_insert(draft, i, before);
	}
	for (i = 0; i < twin->count; i++) {
		const struct twin_row *row = &twin->rows[i];

		for (j = 0; row->shown && j < draft->after->count; j++)
			if (draft->after->items[j].table == row_table(twin, row) &&
			    twin_identity_same(&draft->identity[j], &row->identity))
				break;
		if (row->shown && j == draft->after->count)
			(void)record_of(draft, row_table(twin, row), &row->identity,
					row->causal_length + 1);
	}
}

/* --- yields ---------------------------------------------------------------------------------- */

static bool yield_add(struct draft *draft, const struct twin_row *row, const struct p2p_id *id)
{
	struct p2p_record *record = record_of(draft, row_table(&draft->author->probe, row),
					      &row->identity, row->causal_length);
	uint8_t *yields = draft->yields[record - draft->records];
	size_t i;

	for (i = 0; i < record->yield_count; i++)
		if (memcmp(yields + i * P2P_ID_BYTES, id->bytes, P2P_ID_BYTES) == 0)
			return false;
	memcpy(yields + record->yield_count++ * P2P_ID_BYTES, id->bytes, P2P_ID_BYTES);
	draft->author->yields++;
	return true;
}

/* Those that were not shown before and share a value with a row that is to stay. */
static bool yield_values(struct draft *draft, const struct twin_row *row)
{
	const struct twin *probe = &draft->author->probe;
	bool added = false;
	size_t i, u;

	for (i = 0; i < probe->count; i++) {
		const struct twin_row *other = &probe->rows[i], *before;
		uint32_t table = row_table(probe, other);

		if (other == row || other->table != row->table || !other->complete)
			continue;
		before = twin_find(&draft->author->twin, table, &other->identity);
		if (!before || before->shown)
			continue;
		for (u = 0; u < TWIN_UNIQUES_MAX; u++)
			if (twin_clash(row, other, u))
				added |= yield_add(draft, other, &row->table->uniques[u].id);
	}
	return added;
}

/* The rows that would have the number that was just given. */
static bool yield_number(struct draft *draft, const struct twin_row *row)
{
	const struct twin *probe = &draft->author->probe;
	bool added = false;
	size_t i;

	for (i = 0; i < probe->count; i++) {
		const struct twin_row *other = &probe->rows[i];

		if (other != row && other->table == row->table && other->complete &&
		    other->cells[0].value.integer == row->cells[0].value.integer)
			added |= yield_add(draft, other, &row->table->id);
	}
	return added;
}

static bool yield_for(struct draft *draft, const struct twin_row *row)
{
	const struct twin_row *before =
		twin_find(&draft->author->twin, row_table(&draft->author->probe, row),
			  &row->identity);
	bool written = p2p_clock_cmp(&row->clock, &draft->clock) == 0;
	bool added = false;

	if (!row->complete || !((before && before->shown) || written))
		return false;
	if (row->table->generated && p2p_clock_cmp(&row->cells[0].clock, &draft->clock) == 0 &&
	    row->temporary)
		added = yield_number(draft, row);
	return !row->shown ? yield_values(draft, row) || added : added;
}

/* Until the write pushes no row out of the table: neither its own nor another. */
static void yields(struct draft *draft)
{
	struct twin *probe = &draft->author->probe;
	bool again = true;
	size_t i;

	while (again) {
		again = false;
		twin_copy(probe, &draft->author->twin);
		draft_add(probe, draft);
		twin_project(probe);
		for (i = 0; i < probe->count; i++)
			again |= yield_for(draft, &probe->rows[i]);
	}
}

/* --- changesets ------------------------------------------------------------------------------ */

static struct draft *draft_new(struct author *author)
{
	struct draft *draft = calloc(1, sizeof(*draft));

	p2p_require(draft != NULL);
	draft->author = author;
	author->stamp++;
	draft->clock.stamp.value = author->stamp;
	draft->clock.replica = kit_replica(author->letter);
	return draft;
}

static bool draft_seal(struct draft *draft, const struct kit_mesh *mesh, struct kit_change *change)
{
	struct author *author = draft->author;
	bool any = draft->count > 0;
	size_t i;

	if (any) {
		yields(draft);
		kit_change_init(change, mesh, author->letter, ++author->seq, author->stamp);
		for (i = 0; i < draft->count; i++)
			kit_change_put(change, &draft->records[i]);
		author_merge(&author->twin, change);
		twin_project(&author->twin);
	}
	free(draft);
	return any;
}

bool author_write(struct author *author, const struct kit_mesh *mesh,
		  const struct sheet_rows *after, uint64_t *rng, struct kit_change *change)
{
	struct draft *draft = draft_new(author);

	draft->after = after;
	draft->rng = rng;
	identities(draft);
	rows_write(draft);
	return draft_seal(draft, mesh, change);
}

static int64_t number_top(const struct twin *twin, const struct twin_table *table)
{
	int64_t top = 0;
	size_t i;

	for (i = 0; i < twin->count; i++) {
		const struct twin_row *row = &twin->rows[i];

		if (row->table != table || !row->complete)
			continue;
		if (row->number > top)
			top = row->number;
		if (row->cells[0].value.integer > top)
			top = row->cells[0].value.integer;
	}
	return top;
}

bool author_renumber(struct author *author, const struct kit_mesh *mesh, struct kit_change *change)
{
	struct draft *draft = draft_new(author);
	struct twin *twin = &author->twin;
	uint32_t t;
	size_t i;

	for (t = 0; t < SHEET_TABLES; t++) {
		int64_t top, given = 0;

		if (!twin->tables[t].generated)
			continue;
		top = number_top(twin, &twin->tables[t]);
		for (i = 0; i < twin->count; i++) {
			const struct twin_row *row = &twin->rows[i];
			struct p2p_cell *cell;

			if (row_table(twin, row) != t || !row->shown || !row->temporary ||
			    row->identity.id.bytes[P2P_ID_BYTES - 1] != (uint8_t)author->letter)
				continue;
			cell = record_cell(record_of(draft, t, &row->identity, row->causal_length),
					   0);
			cell->value.type = P2P_INTEGER;
			cell->value.integer = top + 1 + given++ * author->members + author->rank;
			author->renumbered++;
		}
	}
	return draft_seal(draft, mesh, change);
}
