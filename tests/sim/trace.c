/* What happens in a story, in words; see story.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/story.h"

#define NAMES 4

/* --- lines ------------------------------------------------------------------------------------ */

static void put(struct story *story, const char *text)
{
	size_t len = strlen(text);

	if (story->len + len + 1 > story->cap) {
		story->cap = 2 * (story->len + len + 1);
		story->text = realloc(story->text, story->cap);
		if (!story->text)
			sim_fail(&story->sim, "out of memory");
	}
	memcpy(story->text + story->len, text, len + 1);
	story->len += len;
}

void story_line(struct story *story, const char *format, ...)
{
	char line[1000], whole[1024];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	sim_note(&story->sim, 1, "%s", line);
	if (story->quiet)
		return;
	(void)snprintf(whole, sizeof(whole), "%6llu  %s\n",
		       (unsigned long long)(story->sim.now_ms - story->begin_ms), line);
	put(story, whole);
}

char story_letter(size_t host)
{
	return host < STORY_HOSTS_MAX ? (char)('A' + host) : '?';
}

size_t story_host_of_key(struct story *story, const struct p2p_key *key)
{
	size_t i;

	for (i = 0; i < story->sim.count; i++) {
		if (story->sim.hosts[i].node)
			story->keys[i] = story->sim.hosts[i].node->keys.node;
		if (p2p_key_cmp(&story->keys[i], key) == 0)
			return i;
	}
	return SIZE_MAX;
}

/* --- replica ids ------------------------------------------------------------------------------ */

static size_t replica_at(const struct story *story, const struct p2p_id *id)
{
	size_t i;

	for (i = 0; i < story->replica_count; i++)
		if (p2p_id_cmp(&story->replicas[i].id, id) == 0)
			break;
	return i;
}

/* Learns those that hosts have now. */
static size_t replica_find(struct story *story, const struct p2p_id *id)
{
	size_t i, at = replica_at(story, id);

	for (i = 0; at == story->replica_count && i < story->sim.count; i++) {
		const struct p2p_node *node = story->sim.hosts[i].node;
		const struct p2p_id *own = node ? p2p_replica_id(node->replica) : NULL;

		if (!own || p2p_id_cmp(own, id) != 0)
			continue;
		if (story->replica_count == STORY_REPLICAS_MAX)
			sim_fail(&story->sim, "too many replica ids for a story");
		story->replicas[at].id = *id;
		story->replicas[at].host = i;
		story->replicas[at].frozen = 0;
		story->replica_count++;
		return at;
	}
	return at;
}

const char *story_replica(struct story *story, const struct p2p_id *id)
{
	static char names[NAMES][8];
	static size_t next;
	char *name = names[next++ % NAMES];
	size_t at = replica_find(story, id), i, len = 1;

	name[0] = '?';
	if (at < story->replica_count)
		name[0] = story_letter(story->replicas[at].host);
	for (i = 0; i < at && at < story->replica_count; i++)
		if (story->replicas[i].host == story->replicas[at].host && len < 7)
			name[len++] = '\'';
	name[len] = 0;
	return name;
}

static const char *field_replica(struct story *story, const ProtobufCBinaryData *field)
{
	struct p2p_id id;

	return p2p_field_id(&id, field) ? "?" : story_replica(story, &id);
}

/* --- messages --------------------------------------------------------------------------------- */

struct words {
	char text[600];
	size_t len;
};

static void say(struct words *words, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(struct words *words, const char *format, ...)
{
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(words->text + words->len, sizeof(words->text) - words->len, format, args);
	va_end(args);
	words->len += (size_t)len;
	if (words->len >= sizeof(words->text))
		words->len = sizeof(words->text) - 1;
}

struct dot {
	char name[8];
	uint64_t seq;
};

static int dot_cmp(const void *a, const void *b)
{
	return strcmp(((const struct dot *)a)->name, ((const struct dot *)b)->name);
}

static void say_dots(struct words *words, struct dot *dots, size_t count)
{
	size_t i;

	qsort(dots, count, sizeof(*dots), dot_cmp);
	say(words, "{");
	for (i = 0; i < count; i++)
		say(words, "%s%s:%llu", i ? " " : "", dots[i].name,
		    (unsigned long long)dots[i].seq);
	say(words, "}");
}

static void dot_set(struct dot *dot, const char *name, uint64_t seq)
{
	(void)snprintf(dot->name, sizeof(dot->name), "%s", name);
	dot->seq = seq;
}

static void say_entries(struct story *story, struct words *words,
			P2p__V1__VectorEntry *const *entries, size_t count)
{
	struct dot dots[STORY_REPLICAS_MAX];
	size_t i;

	for (i = 0; i < count && i < STORY_REPLICAS_MAX; i++)
		dot_set(&dots[i], field_replica(story, &entries[i]->replica), entries[i]->seq);
	say_dots(words, dots, i);
}

/* What the sender has, which its digest stands for. */
static void say_vector(struct story *story, struct words *words, size_t from)
{
	const struct p2p_sync *sync = p2p_replica_sync(story->sim.hosts[from].node->replica);
	const struct p2p_vv *vv = p2p_sync_vector(sync);
	struct dot dots[STORY_REPLICAS_MAX];
	size_t i, count = 0;

	for (i = 0; i < vv->count && count < STORY_REPLICAS_MAX; i++)
		if (vv->entries[i].seq)
			dot_set(&dots[count++], story_replica(story, &vv->entries[i].replica),
				vv->entries[i].seq);
	say_dots(words, dots, count);
}

static void say_have(struct story *story, struct words *words, size_t from,
		     const P2p__V1__Have *have)
{
	if (have->full || have->n_entries) {
		say(words, "Have %s", have->full ? "full " : "");
		say_entries(story, words, have->entries, have->n_entries);
	} else {
		say(words, "Have digest of ");
		say_vector(story, words, from);
	}
	if (have->want_full)
		say(words, ", and wants the other's in full");
}

static void say_part(struct story *story, struct words *words, const P2p__V1__Part *part)
{
	struct p2p_header header;

	say(words, "%s#%llu", field_replica(story, &part->replica), (unsigned long long)part->seq);
	if (part->segment || !part->header.len) {
		say(words, " segment %u", part->segment);
		return;
	}
	if (p2p_header_unpack(&header, part->header.data, part->header.len))
		sim_fail(&story->sim, "a header that cannot be read");
	say(words, " (%llu row%s)", (unsigned long long)header.row_count,
	    header.row_count == 1 ? "" : "s");
	if (header.segment_count > 1)
		say(words, " segment 0 of %zu", header.segment_count);
	if (header.group_pos || !header.group_last)
		say(words, " number %u of a group", header.group_pos);
	p2p_header_deinit(&header);
	if (part->signature.len)
		say(words, ", signed");
}

static void say_changes(struct story *story, struct words *words, const P2p__V1__Changes *changes)
{
	size_t i;

	say(words, "Changes ");
	for (i = 0; i < changes->n_parts; i++) {
		if (i)
			say(words, "; ");
		say_part(story, words, changes->parts[i]);
	}
}

static void say_want(struct story *story, struct words *words, const P2p__V1__Want *want)
{
	const char *name = field_replica(story, &want->replica);

	say(words, "Want %s:%llu", name, (unsigned long long)want->from_seq);
	if (want->to_seq != want->from_seq)
		say(words, "..%llu", (unsigned long long)want->to_seq);
	if (want->from_segment)
		say(words, " from segment %u", want->from_segment);
}

static void say_ack(struct story *story, struct words *words, const P2p__V1__Ack *ack)
{
	size_t i;

	say(words, "Ack");
	for (i = 0; i < ack->n_durable; i++)
		say(words, " %s:%llu", field_replica(story, &ack->durable[i]->replica),
		    (unsigned long long)ack->durable[i]->seq);
	if (!ack->n_durable)
		say(words, " of bytes alone");
}

static void say_records(struct words *words, const P2p__V1__Records *records)
{
	static const char *const names[] = {"nothing", "genesis", "admission", "certificate",
					    "schema",  "cutoff",  "epoch",     "level"};
	size_t kind, i, n, said = 0;

	say(words, "Records");
	for (kind = 1; kind < sizeof(names) / sizeof(names[0]); kind++) {
		for (n = 0, i = 0; i < records->n_records; i++)
			n += records->records[i]->kind == kind;
		if (n > 1)
			say(words, "%s %zu %ss", said++ ? "," : "", n, names[kind]);
		else if (n)
			say(words, "%s %s", said++ ? "," : "", names[kind]);
	}
	if (!said)
		say(words, " none");
	if (records->last)
		say(words, "; last");
}

static void say_reject(struct story *story, struct words *words, const P2p__V1__Reject *reject)
{
	say(words, "Reject %s", field_replica(story, &reject->replica));
	if (reject->code)
		say(words, ", %s", p2p_err_name(reject->code));
	else
		say(words, ", has %llu", (unsigned long long)reject->have);
}

static void say_hello(struct story *story, struct words *words, const P2p__V1__Hello *hello)
{
	say(words, "Hello, replica %s, %zu table%s", field_replica(story, &hello->replica),
	    hello->n_tables, hello->n_tables == 1 ? "" : "s");
}

static void say_sync(struct story *story, struct words *words, size_t from,
		     const struct p2p_message *message)
{
	if (message->type == P2P_MSG_HAVE)
		say_have(story, words, from, message->have);
	else if (message->type == P2P_MSG_WANT)
		say_want(story, words, message->want);
	else if (message->type == P2P_MSG_CHANGES)
		say_changes(story, words, message->changes);
	else if (message->type == P2P_MSG_ACK)
		say_ack(story, words, message->ack);
	else if (message->type == P2P_MSG_REJECT)
		say_reject(story, words, message->reject);
	else if (message->type == P2P_MSG_WANT_HEADER)
		say(words, "WantHeader %s#%llu",
		    field_replica(story, &message->want_header->replica),
		    (unsigned long long)message->want_header->seq);
	else if (message->type == P2P_MSG_HEADER_PROOF)
		say(words, "HeaderProof %s#%llu",
		    field_replica(story, &message->header_proof->replica),
		    (unsigned long long)message->header_proof->seq);
}

void story_message(struct story *story, size_t from, size_t to, const struct p2p_message *message,
		   const char *lost)
{
	struct words words = {.len = 0};

	words.text[0] = 0;
	say_sync(story, &words, from, message);
	if (message->type == P2P_MSG_HELLO)
		say_hello(story, &words, message->hello);
	else if (message->type == P2P_MSG_MEMBERS)
		say(&words, "Members, has %zu records", message->members->n_hashes);
	else if (message->type == P2P_MSG_RECORDS)
		say_records(&words, message->records);
	else if (message->type == P2P_MSG_JOIN_REQUEST)
		say(&words, "JoinRequest");
	else if (message->type == P2P_MSG_JOIN_REPLY)
		say(&words, "JoinReply, with the secret of the mesh");
	else if (message->type == P2P_MSG_ERROR)
		say(&words, "Error %s: %s", p2p_err_name(message->error->code),
		    message->error->text);
	else if (!words.len)
		say(&words, "%s", p2p_message_name(message->type));
	if (lost)
		say(&words, "  [%s]", lost);
	story_line(story, "%c -> %c  %s", story_letter(from), story_letter(to), words.text);
}

void story_frozen(struct story *story, struct sim_host *host, const struct p2p_vv_entry *entry)
{
	size_t at = replica_find(story, &entry->replica);

	if (at == story->replica_count || story->replicas[at].host != host->index ||
	    entry->seq <= story->replicas[at].frozen)
		return;
	story->replicas[at].frozen = entry->seq;
	story_line(story, "%c: freezes %s#%llu", story_letter(host->index),
		   story_replica(story, &entry->replica), (unsigned long long)entry->seq);
}

/* --- events of a node --------------------------------------------------------------------------
 */

static char peer_letter(struct story *story, const p2p_node_event *event)
{
	struct p2p_key key;

	if (sodium_hex2bin(key.bytes, sizeof(key.bytes), event->node, strlen(event->node), NULL,
			   NULL, NULL))
		return '?';
	return story_letter(story_host_of_key(story, &key));
}

void story_event(struct sim_host *host, const p2p_node_event *event)
{
	struct story *story = story_running;
	char who = story_letter(host->index);
	const char *end = strstr(event->text, " (node ");

	if (host->disk.dead & FAULTDISK_NODE)
		return; /* it is being killed */
	if (event->type == P2P_EV_STARTED)
		story_line(story, "%c: starts", who);
	else if (event->type == P2P_EV_STOPPED)
		story_line(story, "%c: has stopped", who);
	else if (event->type == P2P_EV_MERGED)
		story_line(story, "%c: merges, %llu row%s changed", who,
			   (unsigned long long)event->rows, event->rows == 1 ? "" : "s");
	else if (event->type == P2P_EV_JOINED)
		story_line(story, "%c: has joined, with %llu row%s", who,
			   (unsigned long long)event->rows, event->rows == 1 ? "" : "s");
	else if (event->type == P2P_EV_CAUGHT_UP)
		story_line(story, "%c: has caught up with %c", who, peer_letter(story, event));
	else if (event->type == P2P_EV_TROUBLE)
		story_line(story, "%c: trouble: %.*s", who,
			   end ? (int)(end - event->text) : (int)strlen(event->text), event->text);
	else if (event->type == P2P_EV_REFUSED)
		story_line(story, "%c: is refused: %s", who, event->text);
}
