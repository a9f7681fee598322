/* What the twin's tables show; see twin.h.
 *
 * In this order: numbers (of all complete live rows, parked ones too), values with references as
 * numbers, UNIQUE, FOREIGN KEY, what is seen of the rows that are shown. */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "proto/check.h"
#include "tests/property/twin.h"

/* --- claims ---------------------------------------------------------------------------------- */

static int bytes_cmp(const void *a, size_t a_len, const void *b, size_t b_len)
{
	size_t len = a_len < b_len ? a_len : b_len;
	int rc = len ? memcmp(a, b, len) : 0;

	return rc ? rc : (a_len > b_len) - (a_len < b_len);
}

int twin_claim_cmp(const struct twin_claim *a, const struct twin_claim *b)
{
	int rc = p2p_clock_cmp(&a->clock, &b->clock);

	return rc ? rc : (int)a->yielded - (int)b->yielded;
}

static void claim_yield(struct twin_claim *claim, const struct twin_yield *yield)
{
	claim->yielded = yield->set && p2p_clock_cmp(&yield->clock, &claim->clock) >= 0;
	if (claim->yielded)
		claim->clock = yield->clock;
}

void twin_claims_number(const struct twin_row *row, struct twin_claim *out)
{
	out->clock = row->cells[0].clock;
	claim_yield(out, &row->yields[TWIN_UNIQUES_MAX]);
}

bool twin_claims(const struct twin_row *row, size_t unique, struct twin_claim *out)
{
	const struct twin_unique *constraint = &row->table->uniques[unique];
	const struct p2p_clock *clock;
	uint32_t i;

	memset(out, 0, sizeof(*out));
	if (!constraint->columns || (constraint->where && !constraint->where(row->values)))
		return false;
	for (i = 0; i < row->table->column_count; i++) {
		if (!((constraint->columns | constraint->clocks) >> i & 1))
			continue;
		if ((constraint->columns >> i & 1) && !(row->unresolved >> i & 1) &&
		    row->values[i].type == P2P_NULL)
			return false;
		/* a value that was never written on its own is as old as the row */
		clock = row->cells[i].written ? &row->cells[i].clock : &row->clock;
		if (p2p_clock_cmp(clock, &out->clock) > 0)
			out->clock = *clock;
	}
	claim_yield(out, &row->yields[unique]);
	return true;
}

static bool numeric(const struct p2p_value *value, double *out)
{
	*out = value->type == P2P_INTEGER ? (double)value->integer : value->real;
	return value->type == P2P_INTEGER || value->type == P2P_REAL;
}

static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

bool twin_value_same(const struct p2p_value *a, const struct p2p_value *b, bool nocase)
{
	double x, y;
	size_t i;

	if (a->type != b->type)
		return numeric(a, &x) && numeric(b, &y) && x == y;
	if (a->type != P2P_TEXT || !nocase)
		return p2p_value_equal(a, b);
	if (a->len != b->len)
		return false;
	for (i = 0; i < a->len; i++)
		if (lower(a->bytes[i]) != lower(b->bytes[i]))
			return false;
	return true;
}

static const struct twin_cell *row_cell(const struct twin_row *row, uint32_t column)
{
	if (!row->cells[column].written && column < row->table->key_count &&
	    row->identity.kind == P2P_IDENTITY_KEY)
		return &row->key[column];
	return &row->cells[column];
}

static bool column_same(const struct twin_row *a, const struct twin_row *b, uint32_t i, bool nocase)
{
	if ((a->unresolved >> i & 1) != (b->unresolved >> i & 1))
		return false;
	if (a->unresolved >> i & 1)
		return twin_identity_same(&row_cell(a, i)->reference, &row_cell(b, i)->reference);
	return twin_value_same(&a->values[i], &b->values[i], nocase);
}

bool twin_clash(const struct twin_row *a, const struct twin_row *b, size_t unique)
{
	const struct twin_unique *constraint = &a->table->uniques[unique];
	struct twin_claim claim;
	uint32_t i;

	if (!twin_claims(a, unique, &claim) || !twin_claims(b, unique, &claim))
		return false;
	for (i = 0; i < a->table->column_count; i++)
		if ((constraint->columns >> i & 1) && !column_same(a, b, i, constraint->nocase))
			return false;
	return true;
}

/* --- numbers --------------------------------------------------------------------------------- */

static void row_id(struct p2p_id *out, const struct twin_row *row)
{
	p2p_identity_row_id(out, &row->identity, &row->table->id);
}

int twin_row_id_cmp(const struct twin_row *a, const struct twin_row *b)
{
	struct p2p_id x, y;

	row_id(&x, a);
	row_id(&y, b);
	return memcmp(x.bytes, y.bytes, P2P_ID_BYTES);
}

static bool number_before(const struct twin_row *a, const struct twin_row *b)
{
	struct twin_claim x, y;
	int rc;

	twin_claims_number(a, &x);
	twin_claims_number(b, &y);
	rc = twin_claim_cmp(&x, &y);
	return rc ? rc < 0 : twin_row_id_cmp(a, b) < 0;
}

/* BLAKE2b-128 over the domain and the row id, each after its length in 8 bytes, big-endian. */
static int64_t temporary_first(const struct twin_row *row)
{
	static const char domain[] = "p2pnode/temporary/1";
	uint8_t in[8 + sizeof(domain) - 1 + 8 + P2P_ID_BYTES] = {0}, out[16];
	struct p2p_id id;

	row_id(&id, row);
	in[7] = sizeof(domain) - 1;
	memcpy(in + 8, domain, sizeof(domain) - 1);
	in[8 + sizeof(domain) - 1 + 7] = P2P_ID_BYTES;
	memcpy(in + 8 + sizeof(domain) - 1 + 8, id.bytes, P2P_ID_BYTES);
	(void)crypto_generichash(out, sizeof(out), in, sizeof(in), NULL, 0);
	return -1 - (int64_t)(((uint32_t)(out[0] & 0x7f) << 24) | ((uint32_t)out[1] << 16) |
			      ((uint32_t)out[2] << 8) | out[3]);
}

static bool number_free(const struct twin *twin, const struct twin_row *row, int64_t number)
{
	size_t i;

	for (i = 0; i < twin->count; i++) {
		const struct twin_row *other = &twin->rows[i];

		if (other->table != row->table || !other->complete)
			continue;
		if (other->cells[0].value.integer == number)
			return false;
		if (other->temporary && other->number == number)
			return false;
	}
	return true;
}

static bool number_lost(const struct twin *twin, const struct twin_row *row)
{
	size_t i;

	for (i = 0; i < twin->count; i++) {
		const struct twin_row *other = &twin->rows[i];

		if (other != row && other->table == row->table && other->complete &&
		    other->cells[0].value.integer == row->cells[0].value.integer &&
		    number_before(other, row))
			return true;
	}
	return false;
}

static void project_numbers(struct twin *twin, const struct twin_table *table)
{
	struct twin_row *row, *next;
	size_t i;

	for (i = 0; i < twin->count; i++)
		if (twin->rows[i].table == table)
			twin->rows[i].number = twin->rows[i].cells[0].value.integer;
	/* losers in order of identity: the least that has none yet */
	for (;;) {
		next = NULL;
		for (i = 0; i < twin->count; i++) {
			row = &twin->rows[i];
			if (row->table == table && row->complete && !row->temporary &&
			    number_lost(twin, row) && (!next || twin_row_id_cmp(row, next) < 0))
				next = row;
		}
		if (!next)
			return;
		next->number = temporary_first(next);
		while (!number_free(twin, next, next->number))
			next->number = next->number == INT32_MIN ? -1 : next->number - 1;
		next->temporary = true;
	}
}

/* --- values ---------------------------------------------------------------------------------- */

static void value_integer(struct p2p_value *out, int64_t integer)
{
	memset(out, 0, sizeof(*out));
	out->type = P2P_INTEGER;
	out->integer = integer;
}

const struct twin_foreign *twin_follows(const struct twin_table *table, uint32_t column)
{
	size_t f;

	for (f = 0; f < TWIN_FOREIGN_MAX; f++)
		if (table->foreign[f].count && table->foreign[f].follows &&
		    table->foreign[f].columns[0] == column)
			return &table->foreign[f];
	return NULL;
}

static const struct twin_row *target_of(const struct twin *twin, const struct twin_row *row,
					uint32_t column)
{
	const struct twin_cell *cell = row_cell(row, column);
	const struct twin_foreign *foreign = twin_follows(row->table, column);

	if (!foreign || cell->tag != P2P_CELL_REFERENCE)
		return NULL;
	return twin_find(twin, foreign->parent, &cell->reference);
}

/* What an application wrote and the totals of all; or that alone, if it is no number and the
 * youngest. */
static void project_counter(struct twin_row *row, uint32_t i)
{
	const struct twin_cell *base = &row->cells[i];
	bool number = !base->written || base->value.type == P2P_INTEGER, youngest = true;
	__extension__ __int128 sum = base->written ? 0 : row->table->defaults[i].integer;
	size_t t;

	if (base->written && number)
		sum = base->value.integer;
	for (t = 0; t < row->total_count; t++) {
		if (row->totals[t].column != i)
			continue;
		sum += row->totals[t].total;
		youngest &= p2p_clock_cmp(&row->totals[t].clock, &base->clock) < 0;
	}
	if (!number && youngest) {
		row->values[i] = base->value;
		return;
	}
	if (sum > INT64_MAX)
		sum = INT64_MAX;
	value_integer(&row->values[i], sum < INT64_MIN ? INT64_MIN : (int64_t)sum);
}

static void project_value(const struct twin *twin, struct twin_row *row, uint32_t i)
{
	const struct twin_cell *cell = row_cell(row, i);
	const struct twin_row *target;

	row->values[i] = cell->value;
	if (row->table->generated && i == 0) {
		value_integer(&row->values[i], row->number);
	} else if (row->table->counters >> i & 1) {
		project_counter(row, i);
	} else if (cell->tag == P2P_CELL_REFERENCE) {
		target = target_of(twin, row, i);
		if (target && target->complete)
			value_integer(&row->values[i], target->number);
		else
			row->unresolved |= 1u << i;
	} else if (!row->cells[i].written && cell == &row->cells[i]) {
		row->values[i] = row->table->defaults[i];
	}
}

/* --- UNIQUE ---------------------------------------------------------------------------------- */

/* The youngest claim, then identity. */
static int row_order(const struct twin_row *a, const struct twin_row *b)
{
	struct twin_claim youngest[2], claim;
	const struct twin_row *rows[2] = {a, b};
	struct p2p_buf bytes[2];
	size_t i, u;
	int rc;

	memset(youngest, 0, sizeof(youngest));
	for (i = 0; i < 2; i++) {
		for (u = 0; u < TWIN_UNIQUES_MAX; u++)
			if (twin_claims(rows[i], u, &claim) &&
			    twin_claim_cmp(&claim, &youngest[i]) > 0)
				youngest[i] = claim;
		p2p_buf_init(&bytes[i], 4096);
		p2p_identity_put(&bytes[i], &rows[i]->identity);
	}
	rc = twin_claim_cmp(&youngest[0], &youngest[1]);
	if (!rc)
		rc = bytes_cmp(bytes[0].data, bytes[0].len, bytes[1].data, bytes[1].len);
	p2p_buf_deinit(&bytes[0]);
	p2p_buf_deinit(&bytes[1]);
	return rc;
}

static bool rows_clash(const struct twin_row *a, const struct twin_row *b)
{
	size_t u;

	for (u = 0; u < TWIN_UNIQUES_MAX; u++)
		if (twin_clash(a, b, u))
			return true;
	return false;
}

static bool held_by_shown(const struct twin *twin, const struct twin_row *row)
{
	size_t i;

	for (i = 0; i < twin->count; i++)
		if (&twin->rows[i] != row && twin->rows[i].table == row->table &&
		    twin->rows[i].unique && rows_clash(&twin->rows[i], row))
			return true;
	return false;
}

static void project_uniques(struct twin *twin, const struct twin_table *table)
{
	bool *done = calloc(twin->count + 1, sizeof(*done));
	size_t i;

	p2p_require(done != NULL);
	for (;;) {
		size_t next = twin->count;

		for (i = 0; i < twin->count; i++)
			if (twin->rows[i].table == table && twin->rows[i].complete && !done[i] &&
			    (next == twin->count ||
			     row_order(&twin->rows[i], &twin->rows[next]) < 0))
				next = i;
		if (next == twin->count)
			break;
		done[next] = true;
		twin->rows[next].unique = !held_by_shown(twin, &twin->rows[next]);
	}
	free(done);
}

/* --- FOREIGN KEY ----------------------------------------------------------------------------- */

static bool parent_shown(const struct twin *twin, const struct twin_foreign *foreign,
			 const struct p2p_value *const *values)
{
	size_t i;
	uint32_t k;

	for (i = 0; i < twin->count; i++) {
		const struct twin_row *parent = &twin->rows[i];

		if (parent->table != &twin->tables[foreign->parent] || !parent->shown)
			continue;
		for (k = 0; k < foreign->count; k++)
			if (!twin_value_same(&parent->values[foreign->parents[k]], values[k],
					     false))
				break;
		if (k == foreign->count)
			return true;
	}
	return false;
}

/* The reference points to a row that is shown, or to none at all, or is loose. */
static bool foreign_holds(const struct twin *twin, const struct twin_row *row,
			  const struct twin_foreign *foreign)
{
	const struct p2p_value *values[2];
	const struct twin_row *target;
	uint32_t k;

	for (k = 0; k < foreign->count; k++) {
		const struct twin_cell *cell = row_cell(row, foreign->columns[k]);

		values[k] = &row->values[foreign->columns[k]];
		if (cell->tag == P2P_CELL_LOOSE || cell->tag == P2P_CELL_LOOSE_VALUE)
			return true;
		if (foreign->follows && cell->tag == P2P_CELL_VALUE)
			return true; /* an ordinary value, or NULL */
		if (!foreign->follows && values[k]->type == P2P_NULL)
			return true;
	}
	if (!foreign->follows)
		return parent_shown(twin, foreign, values);
	target = target_of(twin, row, foreign->columns[0]);
	return target && target->shown;
}

/* What the columns may show instead. */
static bool foreign_yields(const struct twin *twin, const struct twin_row *row,
			   const struct twin_foreign *foreign)
{
	const struct p2p_value *values[2];
	bool null = false;
	uint32_t k;

	if (foreign->action == TWIN_PARKS)
		return false;
	for (k = 0; k < foreign->count; k++) {
		uint32_t column = foreign->columns[k];

		values[k] = &row->table->defaults[column];
		if (foreign->action == TWIN_SHOWS_DEFAULT && values[k]->type != P2P_NULL)
			continue;
		null = true;
		if (column < row->table->key_count || (row->table->not_null >> column & 1))
			return false;
	}
	return null || parent_shown(twin, foreign, values);
}

static bool row_holds(const struct twin *twin, const struct twin_row *row)
{
	size_t f;

	for (f = 0; f < TWIN_FOREIGN_MAX; f++) {
		const struct twin_foreign *foreign = &row->table->foreign[f];

		if (foreign->count && !foreign_holds(twin, row, foreign) &&
		    !foreign_yields(twin, row, foreign))
			return false;
	}
	return true;
}

/* The table takes its values. */
static bool row_stored(const struct twin_row *row)
{
	uint32_t i;

	for (i = 0; i < row->table->column_count; i++) {
		if (row->unresolved >> i & 1)
			continue;
		if ((row->table->not_null >> i & 1) && row->values[i].type == P2P_NULL)
			return false;
		if ((row->table->integers >> i & 1) && row->values[i].type != P2P_INTEGER)
			return false;
	}
	return true;
}

/* The greatest set: all, less those whose references do not hold, until nothing changes. */
static void project_foreign(struct twin *twin)
{
	bool again = true;
	size_t i;

	for (i = 0; i < twin->count; i++)
		twin->rows[i].shown = twin->rows[i].unique && row_stored(&twin->rows[i]);
	while (again) {
		again = false;
		for (i = 0; i < twin->count; i++)
			if (twin->rows[i].shown && !row_holds(twin, &twin->rows[i])) {
				twin->rows[i].shown = false;
				again = true;
			}
	}
}

static void project_seen(const struct twin *twin, struct twin_row *row)
{
	size_t f;
	uint32_t k;

	memcpy(row->seen, row->values, sizeof(row->seen));
	for (f = 0; f < TWIN_FOREIGN_MAX; f++) {
		const struct twin_foreign *foreign = &row->table->foreign[f];

		if (!foreign->count || foreign_holds(twin, row, foreign))
			continue;
		for (k = 0; k < foreign->count; k++) {
			struct p2p_value *value = &row->seen[foreign->columns[k]];

			memset(value, 0, sizeof(*value));
			if (foreign->action == TWIN_SHOWS_DEFAULT)
				*value = row->table->defaults[foreign->columns[k]];
		}
	}
}

void twin_project(struct twin *twin)
{
	struct twin_row *row;
	uint32_t c;
	size_t i;

	for (i = 0; i < twin->count; i++) {
		row = &twin->rows[i];
		row->unique = row->shown = row->temporary = false;
		row->number = 0;
		row->unresolved = 0;
		row->complete = row->causal_length % 2 == 1 && row->born &&
				(!row->table->generated || row->cells[0].written);
	}
	for (i = 0; i < twin->table_count; i++)
		if (twin->tables[i].generated)
			project_numbers(twin, &twin->tables[i]);
	for (i = 0; i < twin->count; i++)
		for (c = 0; twin->rows[i].complete && c < twin->rows[i].table->column_count; c++)
			project_value(twin, &twin->rows[i], c);
	for (i = 0; i < twin->table_count; i++)
		project_uniques(twin, &twin->tables[i]);
	project_foreign(twin);
	for (i = 0; i < twin->count; i++)
		if (twin->rows[i].shown)
			project_seen(twin, &twin->rows[i]);
}
