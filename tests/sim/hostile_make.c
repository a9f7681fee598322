/* What a hostile member signs; see hostile.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crdt/hlc.h"
#include "node/node.h"
#include "proto/limits.h"
#include "tests/sim/hostile.h"

#define FORKED_MAX     3   /* changesets of one branch */
#define KEPT_FREE      200 /* changes that there is always room for */
#define WITHHELD_BYTES (2 * P2P_SEGMENT_BYTES + 1000)

/* What is known of the application's tables (app.c). */
struct app_table {
	const char *name;
	uint32_t key_count;
	bool generated;
	uint32_t texts; /* columns of TEXT */
};

static const struct app_table app_tables[] = {
	{"word", 2, false, 1u << 3}, {"item", 1, true, 1u << 2}, {"pair", 2, false, 0},
	{"user", 1, false, 1u << 0}, {"card", 1, true, 0},	 {"ledger", 1, false, 1u << 0},
};

#define APP_LEDGER 5

static size_t app_table_of(const struct p2p_id *table)
{
	struct p2p_id id;
	size_t i;

	for (i = 0; i < sizeof(app_tables) / sizeof(app_tables[0]); i++) {
		p2p_table_id(&id, app_tables[i].name);
		if (p2p_id_cmp(&id, table) == 0)
			return i;
	}
	return SIZE_MAX;
}

static void *copy_of(struct hostile *hostile, const void *data, size_t len)
{
	void *copy = malloc(len ? len : 1);

	if (!copy)
		sim_fail(hostile->sim, "out of memory");
	if (len)
		memcpy(copy, data, len);
	return copy;
}

void hostile_change_deinit(struct hostile_change *change)
{
	free(change->raw);
	free(change->body);
	memset(change, 0, sizeof(*change));
}

void hostile_make_deinit(struct hostile *hostile)
{
	size_t i;

	for (i = 0; i < hostile->change_count; i++)
		hostile_change_deinit(&hostile->changes[i]);
	for (i = 0; i < hostile->template_count; i++)
		free(hostile->templates[i].data);
}

const struct hostile_change *hostile_find(const struct hostile *hostile,
					  const struct p2p_id *replica, uint64_t seq,
					  unsigned int branch)
{
	size_t i;

	for (i = 0; i < hostile->change_count; i++) {
		const struct hostile_change *change = &hostile->changes[i];

		if (change->seq == seq && p2p_id_cmp(&change->replica, replica) == 0 &&
		    (!change->branch || change->branch == branch))
			return change;
	}
	return NULL;
}

unsigned int hostile_branch(const struct hostile_session *session)
{
	return 1 + (unsigned int)(session->victim % 2);
}

/* --- learning --------------------------------------------------------------------------------- */

size_t hostile_table_note(struct hostile *hostile, const struct p2p_schema_ref *ref)
{
	size_t i;

	for (i = 0; i < hostile->table_count; i++)
		if (memcmp(&hostile->tables[i], ref, sizeof(*ref)) == 0)
			return i;
	if (hostile->table_count == HOSTILE_TABLES_MAX)
		return SIZE_MAX;
	hostile->tables[hostile->table_count] = *ref;
	return hostile->table_count++;
}

static void learn_records(struct hostile *hostile, struct p2p_body_reader *reader,
			  const struct p2p_header *header)
{
	struct p2p_cell cells[8];
	struct p2p_record record;
	const uint8_t *data = NULL;
	size_t len, table;

	while (p2p_body_reader_next(reader, &data, &len) == 0 && data) {
		if (p2p_record_read(&record, cells, 8, data, len))
			continue;
		if (hostile->sim->plan.constraints)
			hostile_absurd_row(hostile, &header->tables[record.table].table, &record);
		if (hostile->template_count == HOSTILE_TEMPLATES_MAX)
			continue;
		table = hostile_table_note(hostile, &header->tables[record.table]);
		if (table != SIZE_MAX)
			hostile->templates[hostile->template_count++] =
				(struct hostile_template){table, copy_of(hostile, data, len), len};
	}
}

static void learn_change(struct hostile *hostile, struct p2p_sidelog *log,
			 const struct p2p_id *replica, uint64_t seq)
{
	struct hostile_change *out = &hostile->changes[hostile->change_count];
	struct p2p_body_reader *reader = NULL;
	struct p2p_stored stored;
	struct p2p_header header;
	struct p2p_buf segment;

	if (hostile->change_count + KEPT_FREE >= HOSTILE_CHANGES_MAX ||
	    p2p_sidelog_get(log, replica, seq, &stored))
		return;
	p2p_buf_init(&segment, P2P_SEGMENT_BYTES);
	if (stored.segment_count <= 1 &&
	    p2p_header_unpack(&header, stored.raw, stored.raw_len) == 0) {
		if (stored.segment_count)
			(void)!p2p_sidelog_get_segment(log, replica, seq, 0, &segment);
		*out = (struct hostile_change){.replica = *replica,
					       .seq = seq,
					       .stamp = stored.stamp,
					       .hash = stored.hash,
					       .raw_len = stored.raw_len,
					       .body_len = segment.len,
					       .has_signature = stored.has_signature,
					       .signature = stored.signature};
		out->raw = copy_of(hostile, stored.raw, stored.raw_len);
		out->body = copy_of(hostile, segment.data, segment.len);
		hostile->change_count++;
		if (p2p_body_reader_open(log, &stored, &reader) == 0)
			learn_records(hostile, reader, &header);
		p2p_body_reader_close(reader);
		p2p_header_deinit(&header);
	}
	p2p_buf_deinit(&segment);
	p2p_stored_deinit(&stored);
}

void hostile_learn(struct hostile *hostile, struct p2p_node *node)
{
	struct p2p_sidelog *log = p2p_replica_sidelog(node->replica);
	struct p2p_authority *authority = p2p_replica_authority(node->replica);
	struct hostile_chain *own = &hostile->chains[0];
	struct p2p_vv vv;
	uint64_t seq;
	size_t i;

	for (i = 0; i < p2p_authority_count(authority); i++) {
		const struct p2p_signed *record = p2p_authority_record(authority, i);

		if (p2p_authority_add(hostile->authority, record->raw, record->raw_len) < 0)
			sim_fail(hostile->sim, "hostile: a record of its own node is refused");
	}
	if (hostile->sim->plan.constraints)
		hostile_absurd_learn(hostile, p2p_replica_store(node->replica));
	own->id = *p2p_replica_id(node->replica);
	hostile->chain_count = 1;
	p2p_vv_init(&vv);
	if (p2p_sidelog_vector(log, &vv))
		sim_fail(hostile->sim, "hostile: no vector");
	for (i = 0; i < vv.count; i++) {
		for (seq = 1; seq <= vv.entries[i].seq; seq++)
			learn_change(hostile, log, &vv.entries[i].replica, seq);
		if (p2p_id_cmp(&vv.entries[i].replica, &own->id) != 0)
			continue;
		own->head[0] = (struct hostile_head){vv.entries[i].seq, vv.entries[i].stamp.value,
						     vv.entries[i].head};
		own->head[1] = own->head[0];
	}
	p2p_vv_deinit(&vv);
}

/* Records of a part that is a whole body. */
static void keep_rows(struct hostile *hostile, const P2p__V1__Part *part,
		      const struct p2p_header *header)
{
	struct p2p_cell cells[8];
	struct p2p_record record;
	struct p2p_reader reader;
	const uint8_t *data;
	size_t len;

	p2p_reader_init(&reader, part->data.data, part->data.len);
	while (p2p_reader_left(&reader) && !reader.failed) {
		data = p2p_read_bytes(&reader, P2P_SEGMENT_BYTES, &len);
		if (data && p2p_record_read(&record, cells, 8, data, len) == 0 &&
		    record.table < header->table_count)
			hostile_absurd_row(hostile, &header->tables[record.table].table, &record);
	}
}

void hostile_keep(struct hostile *hostile, const P2p__V1__Part *part)
{
	struct hostile_change *out = &hostile->changes[hostile->change_count];
	struct p2p_header header;
	struct p2p_id id;

	if (hostile->change_count + KEPT_FREE >= HOSTILE_CHANGES_MAX || part->segment ||
	    !part->header.len || p2p_field_id(&id, &part->replica) ||
	    hostile_find(hostile, &id, part->seq, 0) ||
	    p2p_header_unpack(&header, part->header.data, part->header.len))
		return;
	if (header.segment_count <= 1) {
		*out = (struct hostile_change){.replica = id,
					       .seq = part->seq,
					       .stamp = header.stamp.value,
					       .raw_len = part->header.len,
					       .body_len = part->data.len};
		out->has_signature = p2p_field_signature(&out->signature, &part->signature) == 0;
		p2p_header_hash(&out->hash, &hostile->mesh, part->header.data, part->header.len);
		out->raw = copy_of(hostile, part->header.data, part->header.len);
		out->body = copy_of(hostile, part->data.data, part->data.len);
		hostile->change_count++;
		if (hostile->sim->plan.constraints)
			keep_rows(hostile, part, &header);
	}
	p2p_header_deinit(&header);
}

void hostile_certify(struct hostile *hostile)
{
	struct p2p_buf raw;
	size_t count = 1 + hostile_draw(hostile, HOSTILE_CHAINS_MAX - 1), i;

	hostile->chains[0].fate = (enum hostile_fate)hostile_draw(hostile, HOSTILE_FATES);
	p2p_buf_init(&raw, P2P_RECORD_RAW_MAX);
	for (i = 1; i <= count; i++) {
		struct hostile_chain *chain = &hostile->chains[i];

		p2p_buf_reset(&raw);
		hostile_bytes(hostile, chain->id.bytes, P2P_ID_BYTES);
		p2p_replica_id_bind(&chain->id, &hostile->signer.node);
		chain->fate = (enum hostile_fate)((hostile->chains[0].fate + i) % HOSTILE_FATES);
		if (p2p_authority_make_certificate(hostile->authority, &raw, &hostile->signer,
						   &chain->id, NULL) ||
		    p2p_authority_add(hostile->authority, raw.data, raw.len))
			sim_fail(hostile->sim, "hostile: no certificate");
	}
	hostile->chain_count = count + 1;
	for (i = 0; i <= count; i++)
		hostile->chains[i].spoil_at = 1 + (unsigned int)hostile_draw(hostile, 4);
	p2p_buf_deinit(&raw);
}

/* --- records ---------------------------------------------------------------------------------- */

static void value_text(struct p2p_value *out, const char *text)
{
	memset(out, 0, sizeof(*out));
	out->type = P2P_TEXT;
	out->bytes = (const uint8_t *)text;
	out->len = strlen(text);
}

static void value_draw(struct hostile *hostile, bool text, struct p2p_value *out)
{
	static const int64_t integers[] = {0, 1, 2, 3, -1, INT64_MAX, INT64_MIN};
	static const char *const texts[] = {"", "x", "lie", "\xff\xfe", "12", "a\nb"};
	uint64_t kind = hostile_draw(hostile, 5);

	value_text(out, texts[hostile_draw(hostile, 6)]);
	if (text || kind == 0)
		return;
	out->type = kind == 1	? P2P_BLOB
		    : kind == 2 ? P2P_NULL
		    : kind == 3 ? P2P_REAL
				: P2P_INTEGER;
	out->integer = integers[hostile_draw(hostile, 7)];
	out->real = kind == 3 ? -1e300 : 0;
	if (out->type != P2P_BLOB) {
		out->bytes = NULL;
		out->len = 0;
	}
}

static void cells_change(struct hostile *hostile, const struct app_table *app,
			 struct p2p_record *record)
{
	static const int64_t numbers[] = {0, 1, 2, 5, -1, INT64_MAX, INT64_MIN};
	size_t i;

	for (i = 0; i < record->cell_count; i++) {
		struct p2p_cell *cell = &record->cells[i];

		if (hostile_draw(hostile, 2))
			continue;
		if (app->generated && cell->column == 0)
			cell->value.integer = numbers[hostile_draw(hostile, 7)];
		else if (cell->column >= app->key_count)
			value_draw(hostile, (app->texts >> cell->column & 1) != 0, &cell->value);
	}
}

static uint64_t causal_length_draw(struct hostile *hostile, uint64_t before, uint64_t most)
{
	switch (hostile_draw(hostile, 10)) {
	case 0:
		return most;
	case 1:
		return most - 1;
	case 2:
		return before + 1;
	case 3:
		return before + 2;
	case 4:
		return 1;
	default:
		return before;
	}
}

/* A row of somebody, changed. Rows of the ledger stay: a member may delete them, and then they are
 * not lost. */
static bool record_odd(struct hostile *hostile, struct p2p_buf *body, uint64_t most)
{
	const struct hostile_template *template;
	struct p2p_cell cells[8];
	struct p2p_record record;
	size_t app;

	if (!hostile->template_count)
		return false;
	template = &hostile->templates[hostile_draw(hostile, hostile->template_count)];
	app = app_table_of(&hostile->tables[template->table].table);
	if (app == SIZE_MAX || app == APP_LEDGER ||
	    p2p_record_read(&record, cells, 8, template->data, template->len))
		return false;
	record.table = (uint32_t) template->table;
	record.origin = 0;
	record.yield_count = 0;
	record.causal_length = causal_length_draw(hostile, record.causal_length, most);
	if (record.causal_length % 2 == 0)
		record.cell_count = record.flags = 0;
	else
		cells_change(hostile, &app_tables[app], &record);
	p2p_record_put(body, &record);
	return true;
}

/* A row of the ledger that nobody else touches. out: parts of it are borrowed from text. */
static bool record_own(struct hostile *hostile, struct p2p_buf *key, struct p2p_cell cells[2],
		       struct p2p_record *out)
{
	struct p2p_value value;
	char text[32];
	size_t i;

	(void)snprintf(text, sizeof(text), "x-%llu", (unsigned long long)hostile_draw(hostile, 12));
	value_text(&value, text);
	p2p_buf_reset(key);
	p2p_value_put(key, &value);
	memset(out, 0, sizeof(*out));
	memset(cells, 0, 2 * sizeof(*cells));
	for (i = 0; i < hostile->table_count; i++)
		if (app_table_of(&hostile->tables[i].table) == APP_LEDGER)
			break;
	out->table = (uint32_t)i;
	out->identity.kind = P2P_IDENTITY_KEY;
	out->identity.key = key->data;
	out->identity.key_len = key->len;
	out->causal_length = 1;
	out->flags = P2P_RECORD_BORN;
	out->cells = cells;
	out->cell_count = 2;
	for (i = 0; i < 2; i++) {
		cells[i].column = (uint32_t)i + 1;
		cells[i].value.type = P2P_INTEGER;
		cells[i].value.integer = (int64_t)hostile_draw(hostile, 1000);
	}
	return out->table < hostile->table_count && !p2p_buf_error(key);
}

static void body_own(struct hostile *hostile, struct p2p_buf *body)
{
	struct p2p_cell cells[2];
	struct p2p_record record;
	struct p2p_buf key;

	p2p_buf_init(&key, 1024);
	if (record_own(hostile, &key, cells, &record))
		p2p_record_put(body, &record);
	p2p_buf_deinit(&key);
}

/* Nobody can read these; written by hand: p2p_record_put() does not make them. */
static void bytes_bad(struct hostile *hostile, struct p2p_buf *body)
{
	static const struct {
		size_t len;
		const char *bytes;
	} bad[] = {
		{4, "\x64\x01\x00\x00"},		     /* ends inside of a record */
		{1, "\x80"},				     /* inside of a length */
		{2, "\x80\x00"},			     /* a length that is not the shortest */
		{1, "\x00"},				     /* an empty record */
		{9, "\x08\x01\x00\x01\x00\x00\x00\x00\x00"}, /* an identity cut short */
		{8, "\x07\x01\x00\x09\x01\x00\x00\x00"},     /* no such kind of identity */
		{10, "\x09\x01\x00\x02\x02\x00\x00\x00\x00\x00"}, /* causal length 0 */
		/* a reference to no kind of identity; a counter cut short */
		{13, "\x0c\x01\x00\x02\x02\x01\x00\x00\x01\x00\x06\x09\x00"},
		{12, "\x0b\x01\x00\x02\x02\x01\x00\x00\x01\x00\x05\x02"},
		/* 2 001 yields, and 2 001 cells: over the limits */
		{11, "\x0a\x01\x00\x02\x02\x01\x00\x00\x00\xd1\x0f"},
		{10, "\x09\x01\x00\x02\x02\x01\x00\x00\xd1\x0f"},
		/* dead, and it yields; dead, with a loose number */
		{26, "\x19\x01\x00\x02\x02\x02\x00\x00\x00\x01yields-of-a-dead"},
		{13, "\x0c\x01\x00\x02\x02\x02\x00\x00\x01\x00\x07\x02\x00"},
	};
	uint64_t kind = hostile_draw(hostile, sizeof(bad) / sizeof(bad[0]));

	p2p_buf_put(body, bad[kind].bytes, bad[kind].len);
}

static void body_bad(struct hostile *hostile, struct p2p_buf *body)
{
	struct p2p_cell cells[2], cell;
	struct p2p_record record;
	struct p2p_buf key;
	uint64_t kind = hostile_draw(hostile, 8);

	body_own(hostile, body); /* what was good before it must not stay */
	p2p_buf_init(&key, 1024);
	if (!record_own(hostile, &key, cells, &record))
		kind = 7;
	switch (kind) {
	case 0: /* columns out of order */
		cell = cells[0];
		cells[0] = cells[1];
		cells[1] = cell;
		break;
	case 1: /* dead, with cells */
		record.causal_length = 2;
		break;
	case 2: /* more than its clock allows */
		record.causal_length = (P2P_CAUSAL_LENGTH_MAX >> hostile_draw(hostile, 3)) + 1;
		break;
	case 3:
		record.origin = 5; /* of none */
		break;
	case 4:
		record.table = 500; /* of a few */
		break;
	case 5: /* the same column twice */
		cells[1].column = cells[0].column;
		break;
	default:
		bytes_bad(hostile, body);
	}
	if (kind < 6)
		p2p_record_put(body, &record);
	p2p_buf_deinit(&key);
}

/* What a later version may write: kept, and waits. */
static void body_later(struct hostile *hostile, struct p2p_buf *body)
{
	struct p2p_cell cells[2];
	struct p2p_record record;
	struct p2p_buf key;
	uint64_t kind = hostile_draw(hostile, 4);

	p2p_buf_init(&key, 1024);
	if (kind == 0) {
		p2p_buf_put(body, "\x03\x07zz", 4); /* an unknown kind of record */
	} else if (record_own(hostile, &key, cells, &record)) {
		if (kind == 1)
			record.table = (uint32_t)hostile->table_count; /* unknown */
		else if (kind == 2)
			record.identity.kind = P2P_IDENTITY_NUMBER; /* it has keys */
		else
			cells[1].tag = P2P_CELL_COUNTER;
		p2p_record_put(body, &record);
	}
	p2p_buf_deinit(&key);
}

/* --- changesets ------------------------------------------------------------------------------- */

struct draft {
	struct p2p_header header;
	struct p2p_buf body;
	struct p2p_hash segments[4];
	struct p2p_schema_ref tables[HOSTILE_TABLES_MAX + 1];
	struct p2p_dot dot;
};

static void draft_init(struct hostile *hostile, struct draft *draft, const struct p2p_id *replica,
		       const struct hostile_head *head)
{
	uint64_t now = p2p_hlc_of_ms(hostile->sim->wall_base_ms + hostile->sim->now_ms).value;
	struct p2p_header *header = &draft->header;

	memset(draft, 0, sizeof(*draft));
	p2p_buf_init(&draft->body, 4 * P2P_SEGMENT_BYTES);
	header->format = header->min_reader = P2P_FORMAT;
	header->replica = *replica;
	header->seq = head->seq + 1;
	header->prev = head->hash;
	header->stamp.value = now > head->stamp ? now : head->stamp + 1;
	header->group_last = true;
	header->segment_bytes = P2P_SEGMENT_BYTES;
	header->row_count = 1;
	memcpy(draft->tables, hostile->tables, hostile->table_count * sizeof(draft->tables[0]));
	memset(&draft->tables[hostile->table_count], 0x77, sizeof(draft->tables[0]));
	header->tables = draft->tables;
	header->table_count = hostile->table_count + 1;
}

static void draft_finish(struct hostile *hostile, struct draft *draft, struct hostile_change *out)
{
	struct p2p_header *header = &draft->header;
	struct p2p_buf raw;
	size_t at, len;

	if (p2p_buf_error(&draft->body))
		p2p_buf_reset(&draft->body);
	header->total_bytes = draft->body.len;
	header->segments = draft->segments;
	for (at = 0; at < draft->body.len; at += len) {
		len = draft->body.len - at;
		if (len > P2P_SEGMENT_BYTES)
			len = P2P_SEGMENT_BYTES;
		p2p_hash_bytes(&draft->segments[header->segment_count++], draft->body.data + at,
			       len);
	}
	p2p_buf_init(&raw, P2P_HEADER_BYTES_MAX);
	if (p2p_header_pack(&raw, header))
		sim_fail(hostile->sim, "hostile: a header does not pack");
	memset(out, 0, sizeof(*out));
	out->replica = header->replica;
	out->seq = header->seq;
	out->stamp = header->stamp.value;
	out->raw = copy_of(hostile, raw.data, raw.len);
	out->raw_len = raw.len;
	out->body = copy_of(hostile, draft->body.data, draft->body.len);
	out->body_len = draft->body.len;
	out->has_signature = header->group_last;
	p2p_header_hash(&out->hash, &hostile->mesh, raw.data, raw.len);
	p2p_header_sign(&out->signature, &hostile->mesh, &out->hash, hostile->self.sign_secret);
	p2p_buf_deinit(&raw);
	p2p_buf_deinit(&draft->body);
}

static void body_odd(struct hostile *hostile, struct draft *draft)
{
	uint64_t count = 1 + hostile_draw(hostile, 4);

	if (hostile_draw(hostile, 6) == 0)
		body_later(hostile, &draft->body);
	if (hostile->sim->plan.constraints && hostile_draw(hostile, 3))
		hostile_absurd(hostile, &draft->body);
	while (count--)
		if (!record_odd(hostile, &draft->body, p2p_hlc_lives(draft->header.stamp)))
			body_own(hostile, &draft->body);
	if (hostile_draw(hostile, 4) == 0)
		draft->header.row_count = UINT64_MAX >> hostile_draw(hostile, 2);
}

static void stamp_ahead(struct hostile *hostile, struct draft *draft, uint64_t ms)
{
	uint64_t wall = hostile->sim->wall_base_ms + hostile->sim->now_ms;
	uint64_t stamp = p2p_hlc_of_ms(wall + ms).value;

	if (stamp > draft->header.stamp.value)
		draft->header.stamp.value = stamp;
}

static void spoil(struct hostile *hostile, const struct hostile_chain *chain, struct draft *draft)
{
	size_t before;

	switch (chain->fate) {
	case HOSTILE_MALFORMED:
		body_bad(hostile, &draft->body);
		break;
	case HOSTILE_WITHHELD:
		/* without the ledger's schema record, which its place was taken too early for,
		 * nothing */
		do {
			before = draft->body.len;
			body_own(hostile, &draft->body);
		} while (draft->body.len > before && draft->body.len < WITHHELD_BYTES);
		break;
	case HOSTILE_BROKEN:
		if (hostile_draw(hostile, 2))
			hostile_bytes(hostile, draft->dot.replica.bytes, P2P_ID_BYTES);
		else
			draft->dot.replica = hostile->changes[0].replica;
		draft->dot.seq = 1000000000;
		draft->header.deps = &draft->dot;
		draft->header.dep_count =
			p2p_id_cmp(&draft->dot.replica, &draft->header.replica) != 0;
		body_own(hostile, &draft->body);
		break;
	case HOSTILE_AHEAD:
		stamp_ahead(hostile, draft,
			    P2P_CLOCK_AHEAD_MAX_MS + 60000 + hostile_draw(hostile, 600000));
		body_own(hostile, &draft->body);
		break;
	case HOSTILE_ODD:
	case HOSTILE_FORKED:
	case HOSTILE_FATES:
		body_odd(hostile, draft);
	}
}

static const struct hostile_change *append(struct hostile *hostile, struct hostile_chain *chain,
					   unsigned int branch)
{
	struct hostile_head *head = &chain->head[branch == 2];
	struct hostile_change *out = &hostile->changes[hostile->change_count];
	struct draft draft;
	bool spoils = chain->made == chain->spoil_at && chain->fate != HOSTILE_FORKED;

	if (hostile->change_count == HOSTILE_CHANGES_MAX)
		return NULL;
	draft_init(hostile, &draft, &chain->id, head);
	if (spoils) {
		spoil(hostile, chain, &draft);
	} else if (branch || chain->fate == HOSTILE_WITHHELD) {
		body_own(hostile, &draft.body);
	} else {
		/* as far ahead as is taken at once */
		if (hostile_draw(hostile, 8) == 0)
			stamp_ahead(hostile, &draft, P2P_CLOCK_AHEAD_MAX_MS - 5000);
		body_odd(hostile, &draft);
	}
	draft_finish(hostile, &draft, out);
	out->branch = branch;
	out->withheld = spoils && chain->fate == HOSTILE_WITHHELD;
	*head = (struct hostile_head){out->seq, out->stamp, out->hash};
	if (!branch)
		chain->head[1] = chain->head[0];
	hostile->change_count++;
	sim_note(hostile->sim, 2, "hostile: made %llu of %02x%02x, branch %u, fate %d%s",
		 (unsigned long long)out->seq, chain->id.bytes[0], chain->id.bytes[1], branch,
		 (int)chain->fate, spoils ? ", decides" : "");
	return out;
}

const struct hostile_change *hostile_make(struct hostile *hostile, struct hostile_chain *chain)
{
	const struct hostile_change *made;

	if (hostile->still || !hostile->make_left)
		return NULL;
	hostile->make_left--;
	if (chain->fate == HOSTILE_FORKED && chain->made >= chain->spoil_at) {
		if (chain->made >= chain->spoil_at + FORKED_MAX)
			return NULL;
		if (!chain->fork_seq)
			chain->fork_seq = chain->head[0].seq + 1;
		made = append(hostile, chain, 1);
		if (made)
			made = append(hostile, chain, 2);
	} else {
		made = append(hostile, chain, 0);
	}
	chain->made++;
	return made;
}

void hostile_forge(struct hostile *hostile, const struct p2p_id *replica, uint64_t seq,
		   struct hostile_change *out)
{
	struct hostile_head head = {.seq = seq - 1};
	struct draft draft;

	if (seq > 1)
		hostile_bytes(hostile, head.hash.bytes, P2P_HASH_BYTES);
	draft_init(hostile, &draft, replica, &head);
	body_own(hostile, &draft.body);
	draft_finish(hostile, &draft, out);
}
