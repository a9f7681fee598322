/* Files beside twins; see product.h. */
#include "tests/property/product.h"

#include <stdio.h>
#include <string.h>

#include "proto/check.h"
#include "tests/property/sheet.h"

#define STATE_BYTES_MAX (1u << 24)

void product_init(struct product *product, struct kit_mesh *mesh)
{
	size_t i;

	memset(product, 0, sizeof(*product));
	product->mesh = mesh;
	for (i = 0; i < PRODUCT_NODES_MAX; i++)
		kit_node_init(&product->nodes[i], mesh, sheet_sql);
}

void product_constraints(struct product *product, struct twin_table *tables)
{
	size_t t;

	for (t = 0; t < SHEET_TABLES; t++)
		compare_constraints(product->nodes[0].store, &tables[t]);
}

void product_deinit(struct product *product)
{
	size_t i;

	for (i = 0; i < PRODUCT_NODES_MAX; i++)
		kit_node_deinit(&product->nodes[i]);
}

void product_clear(struct product *product)
{
	size_t i;

	for (i = 0; i < PRODUCT_NODES_MAX; i++)
		kit_node_clear(&product->nodes[i]);
	kit_mesh_forget(product->mesh);
}

void product_deliver(struct product *product, uint32_t node, struct kit_change *change)
{
	kit_apply(&product->nodes[node], change);
}

const char *product_compare(struct product *product, uint32_t node, const struct twin *twin)
{
	const struct compare_keys keys = {product->mesh->keys, product->mesh->key_count};

	product->compared++;
	return compare_with_twin(product->nodes[node].store, twin, &keys, &product->counts);
}

static uint64_t row_count(struct kit_node *node, const char *sql)
{
	const char *text = kit_rows(node, sql);
	uint64_t count = 0;

	for (; *text; text++)
		count += *text == ';';
	return count;
}

const char *product_equal(struct product *product, uint32_t count, uint64_t loose)
{
	struct p2p_buf first, other;
	const char *differs = NULL;
	uint32_t i;

	p2p_buf_init(&first, STATE_BYTES_MAX);
	p2p_buf_init(&other, STATE_BYTES_MAX);
	kit_state(&product->nodes[0], &first);
	for (i = 0; i < count && !differs; i++) {
		struct kit_node *node = &product->nodes[i];

		p2p_buf_reset(&other);
		kit_state(node, &other);
		if (first.len != other.len || memcmp(first.data, other.data, first.len) != 0)
			differs = "two replicas differ";
		else if (strcmp(kit_rows(node, "PRAGMA integrity_check"), "ok;") != 0)
			differs = "integrity_check is not ok";
		else if (row_count(node, "PRAGMA foreign_key_check") > loose)
			differs = "foreign_key_check names what is not loose";
	}
	p2p_buf_deinit(&first);
	p2p_buf_deinit(&other);
	return differs;
}

/* The next permutation in lexical order; false after the last. */
static bool order_next(size_t *order, size_t count)
{
	size_t i = count, j, kept;

	while (i > 1 && order[i - 2] >= order[i - 1])
		i--;
	if (i <= 1)
		return false;
	for (j = count - 1; order[j] <= order[i - 2]; j--)
		continue;
	kept = order[i - 2];
	order[i - 2] = order[j];
	order[j] = kept;
	for (j = count - 1; i - 1 < j; i++, j--) {
		kept = order[i - 1];
		order[i - 1] = order[j];
		order[j] = kept;
	}
	return true;
}

const char *product_orders(struct product *product, struct kit_change *changes, size_t count,
			   const struct twin *twin)
{
	size_t order[8], i;
	const char *differs;

	p2p_require(count <= p2p_array_len(order));
	for (i = 0; i < count; i++)
		order[i] = i;
	do {
		kit_node_clear(&product->nodes[0]);
		for (i = 0; i < count; i++)
			kit_apply(&product->nodes[0], &changes[order[i]]);
		product->orders++;
		differs = product_compare(product, 0, twin);
		for (i = 0; differs && i < count; i++)
			(void)fprintf(stderr, "%s%zu", i ? ", " : "order: ", order[i]);
	} while (!differs && order_next(order, count));
	return differs;
}

static void tell_value(const struct p2p_value *value)
{
	if (value->type == P2P_INTEGER)
		(void)fprintf(stderr, " %lld", (long long)value->integer);
	else if (value->type == P2P_TEXT)
		(void)fprintf(stderr, " '%.*s'", (int)value->len, (const char *)value->bytes);
	else
		(void)fprintf(stderr, value->type == P2P_NULL ? " NULL" : " ?");
}

void product_tell(struct product *product, uint32_t node, const struct twin *twin)
{
	struct p2p_buf state;
	char sql[64];
	size_t i;
	uint32_t c;

	p2p_buf_init(&state, STATE_BYTES_MAX);
	kit_state(&product->nodes[node], &state);
	(void)fprintf(stderr, "%.*s", (int)state.len, (const char *)state.data);
	(void)fprintf(stderr, "file: parked %s\n",
		      kit_rows(&product->nodes[node],
			       "SELECT t, hex(k), hex(cells), reason FROM p2p_parked"));
	(void)fprintf(stderr, "file: references %s\n",
		      kit_rows(&product->nodes[node],
			       "SELECT t, hex(k), slot, pt, hex(pk) FROM p2p_ref"));
	(void)fprintf(stderr, "file: claims %s\n",
		      kit_rows(&product->nodes[node],
			       "SELECT t, hex(h), hex(k), held FROM p2p_claim"));
	for (i = 0; i < SHEET_TABLES; i++) {
		(void)snprintf(sql, sizeof(sql), "SELECT * FROM %s", sheet_tables[i].name);
		(void)fprintf(stderr, "file: %s %s\n", sheet_tables[i].name,
			      kit_rows(&product->nodes[node], sql));
	}
	(void)fprintf(stderr, "parked: %s\n",
		      kit_rows(&product->nodes[node], "SELECT t, k, reason FROM p2p_parked"));
	(void)fprintf(stderr, "references: %s\n",
		      kit_rows(&product->nodes[node], "SELECT * FROM p2p_ref"));
	(void)fprintf(stderr, "claims: %s\n",
		      kit_rows(&product->nodes[node], "SELECT * FROM p2p_claim"));
	(void)fprintf(stderr, "yields: %s\n",
		      kit_rows(&product->nodes[node], "SELECT * FROM p2p_yield"));
	(void)fprintf(stderr, "numbers: %s\n",
		      kit_rows(&product->nodes[node], "SELECT * FROM p2p_temp"));
	for (i = 0; i < twin->count; i++) {
		const struct twin_row *row = &twin->rows[i];

		(void)fprintf(stderr, "twin: %s %llu%s%s%s%s:", row->table->name,
			      (unsigned long long)row->causal_length, row->born ? "" : " not born",
			      row->temporary ? " temporary" : "", row->unique ? "" : " not unique",
			      row->shown ? " shown" : "");
		for (c = 0; row->complete && c < row->table->column_count; c++)
			tell_value(row->shown ? &row->seen[c] : &row->values[c]);
		(void)fprintf(stderr, "\n");
	}
	p2p_buf_deinit(&state);
}
