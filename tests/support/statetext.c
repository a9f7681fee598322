/* Merged states as text; see statetext.h. */
#include "tests/support/statetext.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/check.h"

static void put_text(struct p2p_buf *out, const char *format, ...) P2P_PRINTF(2, 3);
static void put_text(struct p2p_buf *out, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	p2p_buf_put(out, text, strlen(text));
}

static void put_hex(struct p2p_buf *out, const uint8_t *data, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		put_text(out, "%02x", data[i]);
}

static void put_clock(struct p2p_buf *out, struct p2p_store *store, uint64_t stamp,
		      uint32_t replica)
{
	const struct p2p_id *id = p2p_store_replica_id(store, replica);

	if (!stamp) {
		put_text(out, " -");
		return;
	}
	put_text(out, " %llu@", (unsigned long long)stamp);
	if (id)
		put_hex(out, id->bytes, P2P_ID_BYTES);
}

void state_text_row(struct p2p_store *store, const struct p2p_table *table,
		    const struct state_text_key *key, bool hashes, struct p2p_buf *out)
{
	struct p2p_rowstate row;
	struct p2p_buf parked;
	int64_t number = 0, shown = 0;
	uint32_t i;
	int rc;

	p2p_rowstate_init(&row);
	rc = p2p_store_row_get(store, table, key->bytes, key->len, &row, &number);
	if (rc == P2P_ENOENT)
		return;
	p2p_require(rc == 0);
	put_text(out, "%s ", table->name);
	put_hex(out, key->bytes, key->len);
	put_text(out, " %llu.%u", (unsigned long long)row.causal_length, row.flags);
	put_clock(out, store, row.stamp, row.replica);
	for (i = 0; p2p_rowstate_alive(&row) && i < row.cell_count; i++) {
		put_clock(out, store, row.cells[i].stamp, row.cells[i].replica);
		if (hashes)
			put_text(out, "/%016llx", (unsigned long long)row.cells[i].hash);
	}
	if (p2p_rowstate_alive(&row) && table->generated_identity)
		put_text(out, " #%lld", (long long)number);
	if (p2p_store_temp_get(store, table, key->bytes, key->len, &shown) == 0)
		put_text(out, " shown %lld", (long long)shown);
	p2p_buf_init(&parked, P2P_RECORD_BYTES_MAX);
	if (p2p_store_parked_get(store, table, key->bytes, key->len, &parked) == 0) {
		put_text(out, " parked ");
		put_hex(out, parked.data, parked.len);
	}
	put_text(out, "\n");
	p2p_buf_deinit(&parked);
	p2p_rowstate_deinit(&row);
}
