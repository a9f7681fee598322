/* The end of a history: all hosts hold the same, and the same as the slow twin makes of all
 * changesets. */
#include <stdlib.h>
#include <string.h>

#include "crdt/record.h"
#include "node/node.h"
#include "node/session.h"
#include "tests/property/compare.h"
#include "tests/property/sheet.h"
#include "tests/sim/sim.h"
#include "tests/support/statetext.h"

enum { SIM_WORD, SIM_ITEM, SIM_PAIR, SIM_USER, SIM_CARD, SIM_LEDGER, SIM_TABLES };
#define TABLES_MAX (SIM_TABLES + SHEET_TABLES)

/* A changeset's body stays until the twin is done: it borrows from it. */
struct body {
	struct body *next;
	uint8_t data[];
};

struct history {
	struct sim *sim;
	struct p2p_replica *replica; /* of the host whose history it is */
	struct twin_table tables[TABLES_MAX];
	size_t table_count;
	struct twin twin;
	struct body *bodies;
	struct kit_key *keys;
	size_t key_count, key_cap;
};

/* Ids of tables; parents have moved. */
static void history_tables(struct history *history)
{
	struct p2p_store *store = p2p_replica_store(history->replica);
	size_t i, f;

	for (i = 0; i < history->table_count; i++) {
		struct twin_table *table = &history->tables[i];

		table->id = p2p_store_table_by_name(store, table->name)->id;
		compare_constraints(store, table);
		for (f = 0; i >= SIM_TABLES && f < TWIN_FOREIGN_MAX; f++)
			table->foreign[f].parent += SIM_TABLES;
	}
}

static void history_init(struct history *history, struct sim *sim, size_t host)
{
	static const struct twin_table tables[SIM_TABLES] = {
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
		{.name = "ledger", .column_count = 3, .key_count = 1},
	};

	memset(history, 0, sizeof(*history));
	history->sim = sim;
	history->replica = sim->hosts[host].node->replica;
	history->table_count = SIM_TABLES + (sim->plan.constraints ? SHEET_TABLES : 0);
	memcpy(history->tables, tables, sizeof(tables));
	memcpy(history->tables + SIM_TABLES, sheet_tables, sizeof(sheet_tables));
	history->tables[SIM_WORD].defaults[3] = kit_text("none");
	history->tables[SIM_ITEM].defaults[2] = kit_text("b");
	history_tables(history);
	twin_init(&history->twin, history->tables, history->table_count);
}

static void history_deinit(struct history *history)
{
	while (history->bodies) {
		struct body *next = history->bodies->next;

		free(history->bodies);
		history->bodies = next;
	}
	free(history->keys);
	twin_deinit(&history->twin);
}

static void note_key(struct history *history, uint32_t table, const struct p2p_identity *identity)
{
	struct kit_key key = {.table = table};
	struct p2p_buf bytes;
	size_t i;

	p2p_buf_init(&bytes, 4096);
	p2p_identity_put(&bytes, identity);
	if (p2p_buf_error(&bytes) || bytes.len > sizeof(key.bytes))
		sim_fail(history->sim, "history: a long key");
	memcpy(key.bytes, bytes.data, bytes.len);
	key.len = bytes.len;
	p2p_buf_deinit(&bytes);
	for (i = 0; i < history->key_count; i++)
		if (history->keys[i].table == table && history->keys[i].len == key.len &&
		    memcmp(history->keys[i].bytes, key.bytes, key.len) == 0)
			return;
	if (history->key_count == history->key_cap) {
		history->key_cap = history->key_cap ? history->key_cap * 2 : 64;
		history->keys = realloc(history->keys, history->key_cap * sizeof(*history->keys));
		if (!history->keys)
			sim_fail(history->sim, "out of memory");
	}
	history->keys[history->key_count++] = key;
}

static uint32_t table_of(const struct history *history, const struct p2p_id *id)
{
	uint32_t i;

	for (i = 0; i < history->table_count; i++)
		if (p2p_id_cmp(&history->tables[i].id, id) == 0)
			return i;
	if (!history->sim->hostile)
		sim_fail(history->sim, "history: a record of an unknown table");
	return TABLES_MAX; /* it waits */
}

/* The parts of a key of such a row. false: it is none. */
static bool key_parts(const struct twin_table *table, const struct p2p_identity *identity,
		      struct p2p_cell *parts)
{
	struct p2p_reader reader;
	uint32_t i;

	p2p_reader_init(&reader, identity->key, identity->key_len);
	for (i = 0; i < table->key_count; i++) {
		uint8_t tag = p2p_read_u8(&reader);

		memset(&parts[i], 0, sizeof(parts[i]));
		if (tag == P2P_CELL_REFERENCE && twin_follows(table, i)) {
			parts[i].tag = P2P_CELL_REFERENCE;
			p2p_identity_read(&reader, &parts[i].reference);
		} else {
			p2p_value_read_tagged(&reader, tag, &parts[i].value);
			if (parts[i].value.type == P2P_NULL)
				return false;
		}
	}
	return !reader.failed && !p2p_reader_left(&reader);
}

/* What can be merged of a row is: the rest waits for a later version. */
static bool cell_merges(const struct twin_table *table, const struct p2p_cell *parts,
			const struct p2p_cell *cell)
{
	bool follows;

	if (cell->column >= table->column_count)
		return false;
	follows = twin_follows(table, cell->column) != NULL;
	if (table->counters >> cell->column & 1)
		return cell->tag == P2P_CELL_VALUE || cell->tag == P2P_CELL_COUNTER;
	if (cell->tag == P2P_CELL_COUNTER)
		return false;
	if (!follows && (cell->tag == P2P_CELL_REFERENCE || cell->tag == P2P_CELL_LOOSE))
		return false;
	if (table->generated)
		return cell->column > 0 || cell->value.type == P2P_INTEGER;
	/* a reference in a key is said by the identity */
	return cell->column >= table->key_count ||
	       (!follows && p2p_value_equal(&cell->value, &parts[cell->column].value));
}

/* What the liar writes for a later version: cells, or the whole record, wait. false: all of it. */
static bool keep_known(const struct history *history, uint32_t table, struct p2p_record *record)
{
	struct p2p_cell parts[TWIN_COLUMNS_MAX];
	size_t i, kept = 0;

	if (table == TABLES_MAX ||
	    history->tables[table].generated != (record->identity.kind != P2P_IDENTITY_KEY))
		return false;
	if (!history->tables[table].generated &&
	    !key_parts(&history->tables[table], &record->identity, parts))
		return false;
	for (i = 0; i < record->cell_count; i++)
		if (table < SIM_TABLES
			    ? record->cells[i].tag == P2P_CELL_VALUE
			    : cell_merges(&history->tables[table], parts, &record->cells[i]))
			record->cells[kept++] = record->cells[i];
	record->cell_count = kept;
	return true;
}

static void add_record(struct history *history, const struct p2p_header *header,
		       const uint8_t *data, size_t len)
{
	struct body *body = malloc(sizeof(*body) + len);
	struct p2p_cell cells[TWIN_COLUMNS_MAX];
	struct p2p_record record;
	struct p2p_clock clock = {.stamp = header->stamp, .replica = header->replica};
	uint32_t table;
	int rc;

	if (!body)
		sim_fail(history->sim, "out of memory");
	memcpy(body->data, data, len);
	body->next = history->bodies;
	history->bodies = body;
	rc = p2p_record_read(&record, cells, TWIN_COLUMNS_MAX, body->data, len);
	if (rc == P2P_RECORD_UNKNOWN && history->sim->hostile)
		return;
	if (rc)
		sim_fail(history->sim, "history: a record cannot be read");
	if (record.origin) {
		clock.stamp = header->origins[record.origin - 1].stamp;
		clock.replica = header->origins[record.origin - 1].replica;
	}
	table = table_of(history, &header->tables[record.table].table);
	if (!keep_known(history, table, &record))
		return;
	note_key(history, table, &record.identity);
	twin_add(&history->twin, table, &record, &clock);
}

static void add_changeset(struct history *history, const struct p2p_id *replica, uint64_t seq)
{
	struct p2p_sidelog *log = p2p_replica_sidelog(history->replica);
	struct p2p_body_reader *reader = NULL;
	struct p2p_header header;
	struct p2p_stored stored;
	const uint8_t *data = NULL;
	size_t len;

	if (p2p_sidelog_get(log, replica, seq, &stored) ||
	    p2p_header_unpack(&header, stored.raw, stored.raw_len) ||
	    p2p_body_reader_open(log, &stored, &reader))
		sim_fail(history->sim, "history: changeset %llu cannot be read",
			 (unsigned long long)seq);
	while (p2p_body_reader_next(reader, &data, &len) == 0 && data)
		add_record(history, &header, data, len);
	p2p_body_reader_close(reader);
	p2p_header_deinit(&header);
	p2p_stored_deinit(&stored);
}

static void add_all(struct history *history)
{
	struct p2p_vv vv;
	size_t i;
	uint64_t seq;

	p2p_vv_init(&vv);
	if (p2p_replica_vector(history->replica, &vv))
		sim_fail(history->sim, "history: no vector");
	for (i = 0; i < vv.count; i++)
		for (seq = 1; seq <= vv.entries[i].seq; seq++)
			add_changeset(history, &vv.entries[i].replica, seq);
	p2p_vv_deinit(&vv);
}

/* What only the liar writes. Past a fork hosts hold different rows of these, and no others. */
static bool of_fork(const struct history *history, const struct kit_key *key)
{
	return sim_hostile_forked(history->sim) && key->table == SIM_LEDGER &&
	       memmem(key->bytes, key->len, "x-", 2);
}

/* Who refused the fork before it had what is common to both histories lacks rows of it. */
static bool lacks_common(const struct sim *sim)
{
	const struct p2p_id *forked = sim_hostile_forked(sim);
	bool lacks = false;
	struct p2p_vv vv;
	size_t i;

	for (i = 0; forked && i < sim->count; i++) {
		p2p_vv_init(&vv);
		lacks |= p2p_replica_vector(sim->hosts[i].node->replica, &vv) ||
			 p2p_vv_seq(&vv, forked) + 1 < sim_hostile_fork(sim, forked);
		p2p_vv_deinit(&vv);
	}
	return lacks;
}

/* Row by row and clock by clock. */
static void compare_hosts(struct history *history)
{
	struct sim *sim = history->sim;
	struct p2p_buf first, other;
	size_t i, k;

	p2p_buf_init(&first, 1u << 16);
	p2p_buf_init(&other, 1u << 16);
	for (k = 0; k < history->key_count; k++) {
		const struct kit_key *key = &history->keys[k];
		const struct state_text_key bytes = {key->bytes, key->len};

		for (i = 0; i < sim->count && !of_fork(history, key); i++) {
			struct p2p_store *store = p2p_replica_store(sim->hosts[i].node->replica);
			struct p2p_buf *out = i ? &other : &first;

			p2p_buf_reset(out);
			state_text_row(store,
				       p2p_store_table_by_name(store,
							       history->tables[key->table].name),
				       &bytes, false, out);
			if (i && (first.len != other.len ||
				  memcmp(first.data, other.data, first.len) != 0))
				sim_fail(sim, "hosts 0 and %zu differ:\n%.*s%.*s", i,
					 (int)first.len, (const char *)first.data, (int)other.len,
					 (const char *)other.data);
		}
	}
	p2p_buf_deinit(&first);
	p2p_buf_deinit(&other);
}

static void compare_twin(struct history *history, size_t host)
{
	const struct compare_keys keys = {history->keys, history->key_count};
	struct compare_counts counts = {0};
	struct sim *sim = history->sim;
	const char *differs = compare_with_twin(p2p_replica_store(sim->hosts[host].node->replica),
						&history->twin, &keys, &counts);

	if (differs)
		sim_fail(sim, "host %zu: %s", host, differs);
	sim->stats.twin_rows += counts.shown;
}

void sim_check_history(struct sim *sim)
{
	/* past a fork each has a history of its own */
	size_t histories = sim_hostile_forked(sim) ? sim->count : 1, host, i;
	struct history history;

	for (host = 0; host < histories; host++) {
		history_init(&history, sim, host);
		add_all(&history);
		twin_project(&history.twin);
		if (host == 0 && !lacks_common(sim))
			compare_hosts(&history);
		for (i = host; i < (histories > 1 ? host + 1 : sim->count); i++)
			compare_twin(&history, i);
		history_deinit(&history);
	}
}

bool sim_check_peer(struct sim_host *host, const struct p2p_key *key, uint32_t *out)
{
	const struct p2p_contact *contact = p2p_contact_of(host->node, key);

	if (!contact || contact->state != P2P_CONTACT_LIVE)
		return false;
	*out = contact->id;
	return true;
}
