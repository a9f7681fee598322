/* The twin; see twin.h. */
#include "tests/property/twin.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "proto/check.h"

void twin_init(struct twin *twin, const struct twin_table *tables, size_t count)
{
	memset(twin, 0, sizeof(*twin));
	twin->tables = tables;
	twin->table_count = count;
}

void twin_clear(struct twin *twin)
{
	twin->count = 0;
}

void twin_deinit(struct twin *twin)
{
	free(twin->rows);
	memset(twin, 0, sizeof(*twin));
}

static int bytes_cmp(const void *a, size_t a_len, const void *b, size_t b_len)
{
	size_t len = a_len < b_len ? a_len : b_len;
	int rc = len ? memcmp(a, b, len) : 0;

	return rc ? rc : (a_len > b_len) - (a_len < b_len);
}

static bool identity_equal(const struct p2p_identity *a, const struct p2p_identity *b)
{
	if (a->kind != b->kind)
		return false;
	switch (a->kind) {
	case P2P_IDENTITY_KEY:
		return bytes_cmp(a->key, a->key_len, b->key, b->key_len) == 0;
	case P2P_IDENTITY_GENERATED:
		return memcmp(a->id.bytes, b->id.bytes, P2P_ID_BYTES) == 0;
	case P2P_IDENTITY_NUMBER:
		return a->number == b->number;
	}
	return false;
}

static struct twin_row *row_at(struct twin *twin, uint32_t table,
			       const struct p2p_identity *identity)
{
	size_t i;

	for (i = 0; i < twin->count; i++)
		if (twin->rows[i].table == &twin->tables[table] &&
		    identity_equal(&twin->rows[i].identity, identity))
			return &twin->rows[i];
	return NULL;
}

const struct twin_row *twin_find(const struct twin *twin, uint32_t table,
				 const struct p2p_identity *identity)
{
	size_t i;

	for (i = 0; i < twin->count; i++)
		if (twin->rows[i].table == &twin->tables[table] &&
		    identity_equal(&twin->rows[i].identity, identity))
			return &twin->rows[i];
	return NULL;
}

static struct twin_row *row_new(struct twin *twin, uint32_t table,
				const struct p2p_identity *identity)
{
	struct twin_row *row;

	if (twin->count == twin->cap) {
		twin->cap = twin->cap ? twin->cap * 2 : 64;
		twin->rows = realloc(twin->rows, twin->cap * sizeof(*twin->rows));
		p2p_require(twin->rows != NULL);
	}
	row = &twin->rows[twin->count++];
	memset(row, 0, sizeof(*row));
	row->table = &twin->tables[table];
	row->identity = *identity;
	return row;
}

static void cell_add(struct twin_cell *cell, const struct p2p_clock *clock,
		     const struct p2p_value *value)
{
	int order = cell->written ? p2p_clock_cmp(clock, &cell->clock) : 1;

	if (order == 0)
		order = p2p_value_cmp(value, &cell->value);
	if (order <= 0)
		return;
	cell->written = true;
	cell->clock = *clock;
	cell->value = *value;
}

void twin_add(struct twin *twin, uint32_t table, const struct p2p_record *record,
	      const struct p2p_clock *clock)
{
	struct twin_row *row = row_at(twin, table, &record->identity);
	struct p2p_value number;
	size_t i;

	if (!row)
		row = row_new(twin, table, &record->identity);
	if (record->causal_length < row->causal_length)
		return;
	if (record->causal_length > row->causal_length) {
		row->causal_length = record->causal_length;
		row->born = false;
		memset(&row->clock, 0, sizeof(row->clock));
		memset(row->cells, 0, sizeof(row->cells));
	}
	if (row->causal_length % 2 == 0 || (record->flags & P2P_RECORD_BORN)) {
		row->born = row->causal_length % 2 == 1;
		if (p2p_clock_cmp(clock, &row->clock) > 0)
			row->clock = *clock;
	}
	for (i = 0; i < record->cell_count; i++)
		cell_add(&row->cells[record->cells[i].column], clock, &record->cells[i].value);
	if (record->identity.kind == P2P_IDENTITY_NUMBER && (record->flags & P2P_RECORD_BORN) &&
	    (!record->cell_count || record->cells[0].column != 0)) {
		memset(&number, 0, sizeof(number));
		number.type = P2P_INTEGER;
		number.integer = record->identity.number;
		cell_add(&row->cells[0], clock, &number);
	}
}

/* --- numbers --------------------------------------------------------------------------------- */

static void row_id(struct p2p_id *out, const struct twin_row *row)
{
	p2p_identity_row_id(out, &row->identity, &row->table->id);
}

static int row_id_cmp(const struct twin_row *a, const struct twin_row *b)
{
	struct p2p_id x, y;

	row_id(&x, a);
	row_id(&y, b);
	return memcmp(x.bytes, y.bytes, P2P_ID_BYTES);
}

static bool claims_before(const struct twin_row *a, const struct twin_row *b)
{
	int rc = p2p_clock_cmp(&a->cells[0].clock, &b->cells[0].clock);

	return rc ? rc < 0 : row_id_cmp(a, b) < 0;
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

static void project_numbers(struct twin *twin, const struct twin_table *table)
{
	struct twin_row *row, *next;
	size_t i, j;

	for (i = 0; i < twin->count; i++) {
		row = &twin->rows[i];
		if (row->table != table)
			continue;
		row->temporary = false;
		row->number = row->cells[0].value.integer;
	}
	/* losers in order of identity: the least that has none yet */
	for (;;) {
		next = NULL;
		for (i = 0; i < twin->count; i++) {
			bool lost = false;

			row = &twin->rows[i];
			if (row->table != table || !row->complete || row->temporary)
				continue;
			for (j = 0; j < twin->count; j++)
				lost |= j != i && twin->rows[j].table == table &&
					twin->rows[j].complete &&
					twin->rows[j].cells[0].value.integer ==
						row->cells[0].value.integer &&
					claims_before(&twin->rows[j], row);
			if (lost && (!next || row_id_cmp(row, next) < 0))
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

/* --- UNIQUE ---------------------------------------------------------------------------------- */

static const struct p2p_value *row_value(const struct twin_row *row, uint32_t column)
{
	return row->cells[column].written ? &row->cells[column].value
					  : &row->table->defaults[column];
}

static bool row_claims(const struct twin_row *row, uint32_t unique)
{
	uint32_t i;

	for (i = 0; i < row->table->column_count; i++)
		if ((unique >> i & 1) && row_value(row, i)->type == P2P_NULL)
			return false;
	return unique != 0;
}

static bool rows_clash(const struct twin_row *a, const struct twin_row *b)
{
	size_t u;
	uint32_t i;

	for (u = 0; u < TWIN_UNIQUES_MAX; u++) {
		uint32_t unique = a->table->uniques[u];
		bool equal = row_claims(a, unique) && row_claims(b, unique);

		for (i = 0; i < a->table->column_count && equal; i++)
			if (unique >> i & 1)
				equal = p2p_value_equal(row_value(a, i), row_value(b, i));
		if (equal)
			return true;
	}
	return false;
}

static void row_time(const struct twin_row *row, struct p2p_clock *out)
{
	const struct p2p_clock *clock;
	size_t u;
	uint32_t i;

	memset(out, 0, sizeof(*out));
	for (u = 0; u < TWIN_UNIQUES_MAX; u++)
		for (i = 0; i < row->table->column_count; i++) {
			if (!(row->table->uniques[u] >> i & 1) ||
			    !row_claims(row, row->table->uniques[u]))
				continue;
			clock = row->cells[i].written ? &row->cells[i].clock : &row->clock;
			if (p2p_clock_cmp(clock, out) > 0)
				*out = *clock;
		}
}

static int row_order(const struct twin_row *a, const struct twin_row *b)
{
	struct p2p_clock x, y;
	struct p2p_buf p, q;
	int rc;

	row_time(a, &x);
	row_time(b, &y);
	rc = p2p_clock_cmp(&x, &y);
	if (rc)
		return rc;
	p2p_buf_init(&p, 4096);
	p2p_buf_init(&q, 4096);
	p2p_identity_put(&p, &a->identity);
	p2p_identity_put(&q, &b->identity);
	rc = bytes_cmp(p.data, p.len, q.data, q.len);
	p2p_buf_deinit(&p);
	p2p_buf_deinit(&q);
	return rc;
}

static void project_uniques(struct twin *twin, const struct twin_table *table)
{
	bool *done = calloc(twin->count + 1, sizeof(*done));
	size_t i, j;

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
		twin->rows[next].shown = true;
		for (j = 0; j < twin->count; j++)
			if (j != next && twin->rows[j].table == table && twin->rows[j].shown &&
			    rows_clash(&twin->rows[j], &twin->rows[next]))
				twin->rows[next].shown = false;
	}
	free(done);
}

void twin_project(struct twin *twin)
{
	size_t i;

	for (i = 0; i < twin->count; i++) {
		struct twin_row *row = &twin->rows[i];

		row->shown = false;
		row->complete = row->causal_length % 2 == 1 && row->born &&
				(!row->table->generated || row->cells[0].written);
	}
	for (i = 0; i < twin->table_count; i++) {
		if (twin->tables[i].generated)
			project_numbers(twin, &twin->tables[i]);
		project_uniques(twin, &twin->tables[i]);
	}
}
