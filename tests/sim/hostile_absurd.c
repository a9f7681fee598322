/* What a hostile member signs about rows with references, constraints and counters; see hostile.h.
 *
 * All of it is encoded as it should be, and no honest member would write it. Ids of rows are few,
 * so that they meet. A changeset names each row once: two values under one clock are for forks. */
#include <stdio.h>
#include <string.h>

#include "crdt/apptable.h"
#include "crdt/unique.h"
#include "node/node.h"
#include "proto/limits.h"
#include "tests/property/sheet.h"
#include "tests/sim/hostile.h"

#define POOL	  24   /* row ids of its own, in each table */
#define NAMED_MAX 256  /* rows of one changeset */
#define DEPTH_MAX 24   /* identities in identities; P2P_REFERENCE_DEPTH_MAX is 16 */
#define KEY_BYTES 1000 /* tests/support/mergekit.h has room for a little more */

/* A changeset in the making. */
struct making {
	struct hostile *hostile;
	struct p2p_buf *body;
	struct p2p_record record;
	struct p2p_cell cells[TWIN_COLUMNS_MAX];
	uint8_t bytes[8 * KEY_BYTES]; /* what the record borrows */
	size_t used;
	uint64_t named[NAMED_MAX];
	size_t named_count;
};

/* --- what is known ---------------------------------------------------------------------------- */

static uint32_t sheet_of(const struct p2p_id *table)
{
	struct p2p_id id;
	uint32_t i;

	for (i = 0; i < SHEET_TABLES; i++) {
		p2p_table_id(&id, sheet_tables[i].name);
		if (p2p_id_cmp(&id, table) == 0)
			return i;
	}
	return SHEET_TABLES;
}

static void learn_constraints(struct hostile *hostile, struct p2p_store *store,
			      struct p2p_table *table)
{
	struct p2p_uniques uniques;
	struct p2p_apptable app;
	size_t i;

	if (p2p_apptable_init(&app, store, table))
		sim_fail(hostile->sim, "hostile: no table");
	if (p2p_uniques_init(&uniques, &app))
		sim_fail(hostile->sim, "hostile: no constraints");
	for (i = 0; i < uniques.count; i++)
		if (hostile->constraint_count < HOSTILE_CONSTRAINTS_MAX)
			hostile->constraints[hostile->constraint_count++] = uniques.items[i].id;
	p2p_uniques_deinit(&uniques);
	p2p_apptable_deinit(&app);
}

void hostile_absurd_learn(struct hostile *hostile, struct p2p_store *store)
{
	uint32_t i;

	for (i = 0; i < SHEET_TABLES; i++) {
		struct p2p_table *table = p2p_store_table_by_name(store, sheet_tables[i].name);
		struct p2p_schema_ref ref;

		if (!table)
			sim_fail(hostile->sim, "hostile: no table %s", sheet_tables[i].name);
		ref.table = table->id;
		ref.schema = table->schema;
		hostile->sheets[i] = hostile_table_note(hostile, &ref);
		if (hostile->constraint_count < HOSTILE_CONSTRAINTS_MAX)
			hostile->constraints[hostile->constraint_count++] = table->id;
		learn_constraints(hostile, store, table);
	}
	hostile->absurd_left = 300;
}

void hostile_absurd_row(struct hostile *hostile, const struct p2p_id *table,
			const struct p2p_record *record)
{
	struct hostile_row *row = &hostile->rows[hostile->row_next % HOSTILE_ROWS_MAX];
	uint32_t sheet = sheet_of(table);
	struct p2p_buf key;

	if (sheet == SHEET_TABLES)
		return;
	p2p_buf_init(&key, KEY_BYTES);
	p2p_identity_put(&key, &record->identity);
	if (!p2p_buf_error(&key) && key.len <= sizeof(row->key)) {
		row->table = sheet;
		row->causal_length = record->causal_length;
		row->len = key.len;
		memcpy(row->key, key.data, key.len);
		hostile->row_next++;
	}
	p2p_buf_deinit(&key);
}

/* --- identities ------------------------------------------------------------------------------- */

static const uint8_t *keep(struct making *m, const void *data, size_t len)
{
	uint8_t *at = m->bytes + m->used;

	if (m->used + len > sizeof(m->bytes))
		sim_fail(m->hostile->sim, "hostile: a record is too long");
	memcpy(at, data, len);
	m->used += len;
	return at;
}

static void identity_own(struct making *m, uint32_t table, struct p2p_identity *out)
{
	memset(out, 0, sizeof(*out));
	out->kind = P2P_IDENTITY_GENERATED;
	memset(out->id.bytes, 0x60 + (int)table, P2P_ID_BYTES);
	out->id.bytes[P2P_ID_BYTES - 1] = (uint8_t)hostile_draw(m->hostile, POOL);
}

/* A row of honest members, if one is found. table: SHEET_TABLES for any. */
static const struct hostile_row *identity_known(struct making *m, uint32_t table,
						struct p2p_identity *out)
{
	struct hostile *hostile = m->hostile;
	size_t tries,
		most = hostile->row_next < HOSTILE_ROWS_MAX ? hostile->row_next : HOSTILE_ROWS_MAX;
	struct p2p_reader reader;

	for (tries = 0; most && tries < 8; tries++) {
		const struct hostile_row *row = &hostile->rows[hostile_draw(hostile, most)];

		if (table != SHEET_TABLES && row->table != table)
			continue;
		p2p_reader_init(&reader, keep(m, row->key, row->len), row->len);
		p2p_identity_read(&reader, out);
		return row;
	}
	identity_own(m, table == SHEET_TABLES ? PERSON : table, out);
	return NULL;
}

/* Identities in identities. The innermost is in `out` before. */
static void identity_nest(struct making *m, struct p2p_identity *out)
{
	uint64_t depth = 1 + hostile_draw(m->hostile, DEPTH_MAX);
	struct p2p_buf key;

	p2p_buf_init(&key, 2 * KEY_BYTES);
	while (depth--) {
		p2p_buf_reset(&key);
		p2p_buf_put_u8(&key, P2P_CELL_REFERENCE);
		p2p_identity_put(&key, out);
		if (key.len > KEY_BYTES / 2)
			break;
		out->kind = P2P_IDENTITY_KEY;
		out->key = keep(m, key.data, key.len);
		out->key_len = key.len;
	}
	p2p_buf_deinit(&key);
}

/* Whatever a reference to a row of `table` may hold. */
static void target_draw(struct making *m, uint32_t table, struct p2p_identity *out)
{
	switch (hostile_draw(m->hostile, 10)) {
	case 0: /* nobody */
		memset(out, 0, sizeof(*out));
		out->kind = P2P_IDENTITY_GENERATED;
		hostile_bytes(m->hostile, out->id.bytes, P2P_ID_BYTES);
		break;
	case 1: /* a row of another table */
		(void)identity_known(m, SHEET_TABLES, out);
		break;
	case 2:
		identity_own(m, (uint32_t)hostile_draw(m->hostile, SHEET_TABLES), out);
		break;
	case 3:
		memset(out, 0, sizeof(*out));
		out->kind = P2P_IDENTITY_NUMBER;
		out->number = (int64_t)hostile_draw(m->hostile, 6) - 1;
		break;
	case 4:
		identity_own(m, table, out);
		identity_nest(m, out);
		break;
	case 5:
	case 6:
		(void)identity_known(m, table, out);
		break;
	default:
		identity_own(m, table, out);
	}
}

static int64_t number_draw(struct hostile *hostile)
{
	static const int64_t numbers[] = {0,
					  1,
					  2,
					  3,
					  -1,
					  INT32_MIN,
					  (int64_t)INT32_MIN - 1,
					  INT64_MIN,
					  INT64_MAX,
					  INT64_MAX - 1};

	return numbers[hostile_draw(hostile, sizeof(numbers) / sizeof(numbers[0]))];
}

static void text_draw(struct hostile *hostile, struct p2p_value *out)
{
	static const char *const texts[] = {"ann", "ANN", "lie", "", "cid"};
	const char *text = texts[hostile_draw(hostile, 5)];

	memset(out, 0, sizeof(*out));
	out->type = P2P_TEXT;
	out->bytes = (const uint8_t *)text;
	out->len = strlen(text);
}

static bool column_is_text(uint32_t table, uint32_t column)
{
	return (table == PERSON && column == 1) || (table == TAG && column == 1) ||
	       (table == LAND && column == 0) || (table == TOWN && column == 1) ||
	       (table == VISIT && column == 0);
}

/* One that the column stores as it is. */
static void value_fit(struct hostile *hostile, uint32_t table, uint32_t column,
		      struct p2p_value *out)
{
	text_draw(hostile, out);
	if (column_is_text(table, column) || hostile_draw(hostile, 8) == 0)
		return;
	memset(out, 0, sizeof(*out));
	out->type = P2P_INTEGER;
	out->integer =
		hostile_draw(hostile, 3) ? (int64_t)hostile_draw(hostile, 4) : number_draw(hostile);
}

/* The key of a row of a table without generated identity. */
static void identity_key(struct making *m, uint32_t table, struct p2p_identity *out)
{
	const struct twin_table *sheet = &sheet_tables[table];
	struct p2p_identity target;
	struct p2p_value value;
	struct p2p_buf key;
	uint32_t i;

	p2p_buf_init(&key, 2 * KEY_BYTES);
	for (i = 0; i < sheet->key_count; i++) {
		const struct twin_foreign *foreign = twin_follows(sheet, i);

		if (foreign && hostile_draw(m->hostile, 4)) {
			target_draw(m, foreign->parent, &target);
			p2p_buf_put_u8(&key, P2P_CELL_REFERENCE);
			p2p_identity_put(&key, &target);
		} else {
			value_fit(m->hostile, table, i, &value);
			p2p_value_put(&key, &value);
		}
	}
	if (hostile_draw(m->hostile, 30) == 0)
		p2p_buf_put_u8(&key, P2P_NULL); /* too long: nobody knows such a row */
	memset(out, 0, sizeof(*out));
	out->kind = P2P_IDENTITY_KEY;
	out->key = keep(m, key.data, key.len);
	out->key_len = key.len;
	p2p_buf_deinit(&key);
}

/* --- records ---------------------------------------------------------------------------------- */

static void row_begin(struct making *m, uint32_t table)
{
	m->used = 0;
	memset(&m->record, 0, sizeof(m->record));
	memset(m->cells, 0, sizeof(m->cells));
	m->record.table = (uint32_t)m->hostile->sheets[table];
	m->record.causal_length = 1;
	m->record.flags = P2P_RECORD_BORN;
	m->record.cells = m->cells;
}

static struct p2p_cell *cell_add(struct making *m, uint32_t column)
{
	struct p2p_cell *cell = &m->cells[m->record.cell_count++];

	cell->column = column;
	return cell;
}

static void cell_integer(struct making *m, uint32_t column, enum p2p_cell_tag tag, int64_t number)
{
	struct p2p_cell *cell = cell_add(m, column);

	cell->tag = tag;
	cell->value.type = P2P_INTEGER;
	cell->value.integer = number;
	cell->added = number;
}

static void cell_reference(struct making *m, uint32_t column, const struct p2p_identity *target)
{
	struct p2p_cell *cell = cell_add(m, column);

	cell->tag = P2P_CELL_REFERENCE;
	cell->reference = *target;
}

static void row_end(struct making *m)
{
	struct hostile *hostile = m->hostile;
	uint64_t hash = m->record.table;
	struct p2p_buf key;
	size_t i;

	p2p_buf_init(&key, 2 * KEY_BYTES);
	p2p_identity_put(&key, &m->record.identity);
	for (i = 0; i < key.len; i++)
		hash = (hash ^ key.data[i]) * 0x100000001b3ull;
	p2p_buf_deinit(&key);
	for (i = 0; i < m->named_count; i++)
		if (m->named[i] == hash)
			return;
	if (m->named_count == NAMED_MAX || !hostile->absurd_left)
		return;
	hostile->absurd_left--;
	m->named[m->named_count++] = hash;
	p2p_record_put(m->body, &m->record);
}

/* --- rows of any kind ------------------------------------------------------------------------- */

static void cell_value(struct making *m, uint32_t table, uint32_t column)
{
	struct p2p_cell *cell = cell_add(m, column);

	cell->tag = hostile_draw(m->hostile, 6) ? P2P_CELL_VALUE : P2P_CELL_LOOSE_VALUE;
	if (hostile_draw(m->hostile, 5))
		value_fit(m->hostile, table, column, &cell->value);
}

/* Of any tag, where it belongs or not. */
static void cell_draw(struct making *m, uint32_t table, uint32_t column)
{
	const struct twin_foreign *foreign = twin_follows(&sheet_tables[table], column);
	struct hostile *hostile = m->hostile;
	struct p2p_identity target;
	bool counter = sheet_tables[table].counters >> column & 1;
	uint64_t kind = hostile_draw(hostile, 12);

	if (kind == 0 || (foreign && kind < 8)) {
		target_draw(m, foreign ? foreign->parent : PERSON, &target);
		cell_reference(m, column, &target);
	} else if (kind == 1 || (foreign && kind == 8)) {
		cell_integer(m, column, P2P_CELL_LOOSE, number_draw(hostile));
	} else if (kind == 2 || (counter && kind < 8)) {
		cell_integer(m, column, P2P_CELL_COUNTER, number_draw(hostile));
	} else {
		cell_value(m, table, column);
	}
}

static void cells_draw(struct making *m, uint32_t table)
{
	const struct twin_table *sheet = &sheet_tables[table];
	uint32_t i;

	for (i = 0; i < sheet->column_count; i++) {
		if (sheet->generated && i == 0 && hostile_draw(m->hostile, 8))
			cell_integer(m, 0, P2P_CELL_VALUE, number_draw(m->hostile));
		else if (hostile_draw(m->hostile, 4))
			cell_draw(m, table, i);
	}
}

static void yields_draw(struct making *m, uint64_t most)
{
	static uint8_t yields[P2P_COLUMNS_MAX * P2P_ID_BYTES];
	struct hostile *hostile = m->hostile;
	uint64_t count = 1 + hostile_draw(hostile, most), i;

	for (i = 0; i < count; i++) {
		uint8_t *at = yields + i * P2P_ID_BYTES;

		if (hostile_draw(hostile, 3) == 0 || !hostile->constraint_count)
			hostile_bytes(hostile, at, P2P_ID_BYTES);
		else
			memcpy(at,
			       hostile->constraints[hostile_draw(hostile,
								 hostile->constraint_count)]
				       .bytes,
			       P2P_ID_BYTES);
	}
	m->record.yields = yields;
	m->record.yield_count = count;
}

static void row_any(struct making *m)
{
	struct hostile *hostile = m->hostile;
	uint32_t table = (uint32_t)hostile_draw(hostile, SHEET_TABLES);
	const struct hostile_row *known = NULL;

	row_begin(m, table);
	if (hostile_draw(hostile, 3) == 0)
		known = identity_known(m, table, &m->record.identity);
	if (!known && sheet_tables[table].generated)
		identity_own(m, table, &m->record.identity);
	else if (!known)
		identity_key(m, table, &m->record.identity);
	if (known)
		m->record.causal_length = known->causal_length;
	m->record.causal_length += hostile_draw(hostile, 6) == 0 ? hostile_draw(hostile, 3) : 0;
	if (hostile_draw(hostile, 6) == 0)
		m->record.flags = 0;
	if (m->record.causal_length % 2 == 0) {
		m->record.flags = 0;
		if (table == WARE)
			cell_integer(m, 4, P2P_CELL_COUNTER, number_draw(hostile));
	} else {
		cells_draw(m, table);
		if (hostile_draw(hostile, 3) == 0)
			yields_draw(m, 4);
	}
	row_end(m);
}

static void absurd_rows(struct making *m)
{
	uint64_t count = 1 + hostile_draw(m->hostile, 8);

	while (count--)
		row_any(m);
}

/* --- many of a kind --------------------------------------------------------------------------- */

static uint64_t many(struct making *m)
{
	return 10 + hostile_draw(m->hostile, 50);
}

static void identity_many(struct making *m, uint32_t table, uint64_t index)
{
	identity_own(m, table, &m->record.identity);
	m->record.identity.id.bytes[0] = 0xee;
	m->record.identity.id.bytes[P2P_ID_BYTES - 1] = (uint8_t)index;
}

/* Many rows claim the same values, at the same time. */
static void absurd_same(struct making *m)
{
	uint64_t count = many(m), i;
	struct p2p_identity owner;
	struct p2p_value name;

	text_draw(m->hostile, &name);
	for (i = 0; i < count; i++) {
		row_begin(m, PERSON);
		identity_many(m, PERSON, i);
		cell_integer(m, 0, P2P_CELL_VALUE, 1000 + (int64_t)i);
		cell_add(m, 1)->value = name;
		cell_integer(m, 2, P2P_CELL_VALUE, (int64_t)(i % 3));
		identity_own(m, PERSON, &owner);
		cell_reference(m, 3, &owner);
		row_end(m);
	}
}

/* Many rows claim one number. */
static void absurd_numbers(struct making *m)
{
	uint64_t count = many(m), i;
	int64_t number = number_draw(m->hostile);
	struct p2p_identity ware;

	for (i = 0; i < count; i++) {
		row_begin(m, NOTE);
		identity_many(m, NOTE, i);
		cell_integer(m, 0, P2P_CELL_VALUE, number);
		(void)identity_known(m, WARE, &ware);
		cell_reference(m, 1, &ware);
		row_end(m);
	}
}

/* One parent, that may be missing, or comes, or goes; its children, and theirs. */
static void absurd_family(struct making *m)
{
	uint64_t count = many(m) / 2, i;
	struct p2p_identity person, ware;

	memset(&person, 0, sizeof(person));
	row_begin(m, PERSON);
	identity_many(m, PERSON, 250 + hostile_draw(m->hostile, 2));
	person = m->record.identity;
	m->record.causal_length = 1 + hostile_draw(m->hostile, 4);
	if (m->record.causal_length % 2 == 0)
		m->record.flags = 0;
	else
		cell_integer(m, 0, P2P_CELL_VALUE, 500);
	if (m->record.causal_length < 4)
		row_end(m); /* else it is missing still */
	for (i = 0; i < count; i++) {
		row_begin(m, WARE);
		identity_many(m, WARE, i);
		ware = m->record.identity;
		cell_integer(m, 0, P2P_CELL_VALUE, 1000 + (int64_t)i);
		cell_reference(m, 1, &person);
		cell_integer(m, 2, P2P_CELL_VALUE, 5000 + (int64_t)i);
		cell_integer(m, 4, P2P_CELL_COUNTER, number_draw(m->hostile));
		row_end(m);
		row_begin(m, NOTE);
		identity_many(m, NOTE, 100 + i);
		cell_integer(m, 0, P2P_CELL_VALUE, 1000 + (int64_t)i);
		cell_reference(m, 1, &ware);
		cell_integer(m, 3, P2P_CELL_VALUE, 1);
		row_end(m);
	}
}

/* Rows of honest members go, with what refers to them. */
static void absurd_deletes(struct making *m)
{
	static const uint32_t tables[] = {PERSON, WARE, LAND};
	uint64_t count = 1 + hostile_draw(m->hostile, 6);
	const struct hostile_row *known;

	while (count--) {
		uint32_t table = tables[hostile_draw(m->hostile, 3)];

		row_begin(m, table);
		known = identity_known(m, table, &m->record.identity);
		if (!known)
			continue;
		m->record.causal_length = known->causal_length + known->causal_length % 2;
		m->record.flags = 0;
		row_end(m);
	}
}

/* Rows of honest members yield, whatever it is. */
static void absurd_yields(struct making *m)
{
	uint64_t count = 1 + hostile_draw(m->hostile, 6);
	const struct hostile_row *known;

	while (count--) {
		row_begin(m, PERSON);
		known = identity_known(m, SHEET_TABLES, &m->record.identity);
		if (!known || known->causal_length % 2 == 0)
			continue;
		m->record.table = (uint32_t)m->hostile->sheets[known->table];
		m->record.causal_length = known->causal_length;
		m->record.flags = 0;
		yields_draw(m, hostile_draw(m->hostile, 8) ? 20 : P2P_COLUMNS_MAX);
		row_end(m);
	}
}

/* Totals that jump, in wares of all. */
static void absurd_counters(struct making *m)
{
	uint64_t count = 1 + hostile_draw(m->hostile, 6);
	const struct hostile_row *known;

	while (count--) {
		row_begin(m, WARE);
		known = identity_known(m, WARE, &m->record.identity);
		m->record.causal_length = known ? known->causal_length : 1;
		m->record.flags = 0;
		if (hostile_draw(m->hostile, 5) && m->record.causal_length % 2)
			cell_integer(m, 2, P2P_CELL_COUNTER, 1);
		cell_integer(m, 4, P2P_CELL_COUNTER, number_draw(m->hostile));
		row_end(m);
	}
}

void hostile_absurd(struct hostile *hostile, struct p2p_buf *body)
{
	static void (*const acts[])(struct making *) = {
		absurd_rows,   absurd_rows,    absurd_rows,   absurd_same,     absurd_numbers,
		absurd_family, absurd_deletes, absurd_yields, absurd_counters,
	};
	struct making m = {.hostile = hostile, .body = body};
	uint64_t act = hostile_draw(hostile, sizeof(acts) / sizeof(acts[0]));

	sim_note(hostile->sim, 2, "hostile: absurd %llu", (unsigned long long)act);
	acts[act](&m);
}
