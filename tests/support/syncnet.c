/* A network of sync engines in one process; see syncnet.h. */
#include "tests/support/syncnet.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/limits.h"
#include "proto/mem.h"

#define WALL_BASE_MS 1700000000000ull

/* --- time and chance -------------------------------------------------------------------------- */

/* splitmix64: small, and the same everywhere */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

uint64_t syncnet_random(struct syncnet *net, uint64_t below)
{
	return next_random(&net->random) % below;
}

static struct p2p_time env_now(void *ctx)
{
	struct syncnet_node *node = ctx;
	struct p2p_time now = {node->net->now_ms};

	return now;
}

static uint64_t env_wall(void *ctx)
{
	struct syncnet_node *node = ctx;

	return WALL_BASE_MS + node->net->now_ms + (uint64_t)node->skew_ms;
}

static void env_random(void *ctx, void *out, size_t len)
{
	struct syncnet_node *node = ctx;
	uint8_t *bytes = out;
	size_t i;

	for (i = 0; i < len; i++)
		bytes[i] = (uint8_t)next_random(&node->net->random);
}

static void check(const char *what, int rc)
{
	if (rc)
		memlog_fail(what, rc);
}

/* --- messages --------------------------------------------------------------------------------- */

static void message_free(struct syncnet_message *message)
{
	p2p_free(message->data);
	free(message);
}

static void link_empty(struct syncnet_link *link)
{
	struct syncnet_message *message;

	while ((message = link->head) != NULL) {
		link->head = message->next;
		message_free(message);
	}
	link->tail = &link->head;
	link->queued = 0;
}

static void link_count(struct syncnet_link *link, enum p2p_message_type type,
		       const ProtobufCMessage *message)
{
	const P2p__V1__Changes *changes = (const P2p__V1__Changes *)message;
	size_t i;

	link->sent++;
	link->types[type]++;
	for (i = 0; type == P2P_MSG_CHANGES && i < changes->n_parts; i++) {
		link->parts++;
		link->payload_bytes += changes->parts[i]->data.len;
	}
}

static int link_send(struct syncnet *net, size_t from, size_t to, enum p2p_class cls,
		     enum p2p_message_type type, const ProtobufCMessage *message)
{
	struct syncnet_link *link = &net->links[from][to];
	struct syncnet_message *queued;
	struct p2p_buf buf;

	if (link->no_memory)
		return P2P_ENOMEM;
	if (link->stuck || (cls != P2P_CLASS_CONTROL && link->queued >= net->queue_max)) {
		link->full = true;
		return P2P_EBUSY;
	}
	link_count(link, type, message);
	net->messages++;
	if (net->messages == net->cut_at) { /* it ends when the event that sent this is over */
		link->again_ms = net->links[to][from].again_ms = 0;
		link->closed = net->links[to][from].closed = P2P_ECLOSED;
		return 0;
	}
	if (net->messages == net->lose_at)
		return 0;
	p2p_buf_init(&buf, P2P_MESSAGE_MAX);
	check("pack", p2p_message_pack(&buf, type, message));
	queued = calloc(1, sizeof(*queued));
	if (!queued)
		memlog_fail("send", P2P_ENOMEM);
	queued->due_ms = net->now_ms + net->delay_ms +
			 (net->jitter_ms ? syncnet_random(net, net->jitter_ms + 1) : 0);
	queued->cls = cls;
	queued->type = type;
	queued->data = buf.data;
	queued->len = buf.len;
	*link->tail = queued;
	link->tail = &queued->next;
	link->queued++;
	return 0;
}

static size_t peer_of(const struct syncnet_node *node, p2p_sync_peer handle)
{
	size_t i;

	for (i = 0; i < node->net->count; i++)
		if (node->net->links[node->index][i].up &&
		    node->net->links[node->index][i].handle == handle)
			return i;
	return SIZE_MAX;
}

/* --- what the engine asks for ----------------------------------------------------------------- */

static int node_send(void *ctx, p2p_sync_peer peer, enum p2p_class cls, enum p2p_message_type type,
		     const ProtobufCMessage *message)
{
	struct syncnet_node *node = ctx;
	size_t to = peer_of(node, peer);

	return to == SIZE_MAX ? P2P_ECLOSED
			      : link_send(node->net, node->index, to, cls, type, message);
}

static void node_ready(void *ctx)
{
	struct syncnet_node *node = ctx;

	node->ready = true;
}

static void link_blame(struct syncnet *net, size_t node, size_t peer, int code)
{
	net->links[node][peer].closed = code;
	net->closed++;
	net->blamed += !net->nodes[peer].puppet;
	if (net->verbose)
		(void)printf("%llu node %zu closes %zu: %s\n", (unsigned long long)net->now_ms,
			     node, peer, p2p_err_name(code));
}

static void node_event(void *ctx, const struct p2p_sync_event *event)
{
	struct syncnet_node *node = ctx;
	size_t peer = peer_of(node, event->peer);

	node->events[event->kind]++;
	node->last[event->kind] = *event;
	node->last[event->kind].text = NULL;
	if (event->kind == P2P_SYNC_FORK)
		check("note a fork",
		      p2p_vv_put(&node->forked, &(struct p2p_vv_entry){.replica = event->replica,
								       .seq = event->seq}));
	if (event->kind == P2P_SYNC_BAD_PEER && peer != SIZE_MAX)
		link_blame(node->net, node->index, peer, event->code);
	if (node->net->verbose)
		(void)printf("%llu node %zu event %d peer %zu seq %llu code %d %s\n",
			     (unsigned long long)node->net->now_ms, node->index, event->kind, peer,
			     (unsigned long long)event->seq, event->code, event->text);
}

/* --- nodes ------------------------------------------------------------------------------------ */

void syncnet_init(struct syncnet *net, uint64_t seed)
{
	memset(net, 0, sizeof(*net));
	net->random = seed;
	net->now_ms = 1000;
	net->queue_max = 16;
	net->durable_ms = 10;
	net->again_ms = 100;
	memset(net->mesh.bytes, 0x5a, sizeof(net->mesh.bytes));
	net->verbose = getenv("SYNCNET_VERBOSE");
}

static struct syncnet_node *node_new(struct syncnet *net)
{
	struct syncnet_node *node = &net->nodes[net->count];
	size_t i;

	if (net->count >= SYNCNET_NODES_MAX)
		memlog_fail("too many nodes", P2P_ETOOBIG);
	node->net = net;
	node->index = net->count++;
	node->env = (struct p2p_env){node, env_now, env_wall, env_random};
	node->inbox_tail = &node->inbox;
	memlog_author(&node->author, (uint32_t)node->index + 1);
	memlog_init(&node->log, &net->mesh);
	p2p_vv_init(&node->merged);
	p2p_vv_init(&node->forked);
	for (i = 0; i < net->count; i++) {
		net->links[node->index][i].tail = &net->links[node->index][i].head;
		net->links[i][node->index].tail = &net->links[i][node->index].head;
		memlog_certify(&net->nodes[i].log, &node->author.replica, &node->author.node, 0);
		memlog_certify(&node->log, &net->nodes[i].author.replica,
			       &net->nodes[i].author.node, 0);
	}
	return node;
}

void syncnet_start(struct syncnet *net, size_t index)
{
	struct syncnet_node *node = &net->nodes[index];
	struct p2p_sync_config config = {
		.env = &node->env,
		.log = memlog_interface(&node->log),
		.callbacks = {node, node_send, node_ready, node_event},
		.mesh = net->mesh,
		.replica = node->author.replica,
		.clock_ahead_max_ms = P2P_CLOCK_AHEAD_MAX_MS,
		.staged_max_bytes = net->staged_max_bytes,
	};
	size_t i;

	check("start", p2p_sync_new(&config, &node->sync));
	for (i = 0; i < node->merged.count; i++)
		check("merged", p2p_sync_set_merged(node->sync, &node->merged.entries[i]));
	p2p_sync_durable(node->sync);
	node->durable_due = 0;
	node->ready = true;
	node->next.ms = 0;
}

size_t syncnet_add(struct syncnet *net)
{
	struct syncnet_node *node = node_new(net);

	syncnet_start(net, node->index);
	return node->index;
}

size_t syncnet_add_puppet(struct syncnet *net)
{
	struct syncnet_node *node = node_new(net);

	node->puppet = true;
	return node->index;
}

static void session_end(struct syncnet *net, size_t a, size_t b)
{
	size_t ends[2] = {a, b}, i;

	for (i = 0; i < 2; i++) {
		struct syncnet_node *node = &net->nodes[ends[i]];
		struct syncnet_link *link = &net->links[ends[i]][ends[1 - i]];

		link->up = link->full = false;
		link_empty(link); /* what was under way is lost */
		if (node->sync)
			p2p_sync_peer_down(node->sync, link->handle);
		node->next.ms = 0;
	}
}

void syncnet_stop(struct syncnet *net, size_t index)
{
	struct syncnet_node *node = &net->nodes[index];
	size_t i;

	for (i = 0; i < net->count; i++)
		syncnet_disconnect(net, index, i);
	p2p_sync_free(node->sync);
	node->sync = NULL;
	node->ready = false;
}

void syncnet_deinit(struct syncnet *net)
{
	struct syncnet_message *message;
	size_t i;

	for (i = 0; i < net->count; i++)
		syncnet_stop(net, i);
	for (i = 0; i < net->count; i++) {
		struct syncnet_node *node = &net->nodes[i];

		while ((message = node->inbox) != NULL) {
			node->inbox = message->next;
			message_free(message);
		}
		p2p_vv_deinit(&node->merged);
		p2p_vv_deinit(&node->forked);
		memlog_deinit(&node->log);
	}
}

/* --- sessions --------------------------------------------------------------------------------- */

static void hello_to(struct syncnet *net, size_t from, size_t to)
{
	struct syncnet_node *sender = &net->nodes[from], *receiver = &net->nodes[to];
	P2p__V1__Hello hello;

	if (!receiver->sync)
		return;
	p2p__v1__hello__init(&hello);
	hello.replica = p2p_field(sender->author.replica.bytes, P2P_ID_BYTES);
	hello.wall_ms = env_wall(sender);
	hello.credit_bytes = P2P_CREDIT_BYTES;
	check("peer up", p2p_sync_peer_up(receiver->sync, net->links[to][from].handle,
					  &sender->author.node, &hello));
	receiver->next.ms = 0;
}

static void link_begin(struct syncnet *net, size_t from, size_t to)
{
	struct syncnet_link *link = &net->links[from][to];

	memset(link, 0, sizeof(*link));
	link->tail = &link->head;
	link->up = true;
	link->handle = ++net->handles;
}

void syncnet_connect(struct syncnet *net, size_t a, size_t b)
{
	struct syncnet_node *x = &net->nodes[a], *y = &net->nodes[b];

	if (net->links[a][b].up || (!x->sync && !x->puppet) || (!y->sync && !y->puppet))
		return;
	link_begin(net, a, b);
	link_begin(net, b, a);
	hello_to(net, a, b);
	hello_to(net, b, a);
}

void syncnet_disconnect(struct syncnet *net, size_t a, size_t b)
{
	if (net->links[a][b].up)
		session_end(net, a, b);
	net->links[a][b].again_ms = net->links[b][a].again_ms = 0;
}

void syncnet_connect_all(struct syncnet *net)
{
	size_t a, b;

	for (a = 0; a < net->count; a++)
		for (b = a + 1; b < net->count; b++)
			syncnet_connect(net, a, b);
}

/* Whoever found the other at fault closes; made again after a while. */
static void sessions_close(struct syncnet *net)
{
	size_t a, b;

	for (a = 0; a < net->count; a++)
		for (b = 0; b < net->count; b++) {
			if (!net->links[a][b].up || !net->links[a][b].closed)
				continue;
			session_end(net, a, b);
			if (net->again_ms)
				net->links[a][b].again_ms = net->now_ms + net->again_ms;
		}
}

static void sessions_again(struct syncnet *net)
{
	size_t a, b;

	for (a = 0; a < net->count; a++)
		for (b = 0; b < net->count; b++) {
			if (!net->links[a][b].again_ms || net->now_ms < net->links[a][b].again_ms)
				continue;
			net->links[a][b].again_ms = 0;
			syncnet_connect(net, a, b);
		}
}

/* --- merging ---------------------------------------------------------------------------------- */

/* What a merge relies on. */
static void group_check(struct syncnet_node *node, const struct p2p_sync_group *group)
{
	uint64_t seq;
	size_t i;

	if (group->first != p2p_vv_seq(&node->merged, &group->replica) + 1 ||
	    group->last < group->first)
		memlog_fail("a hole below the vector, or merged twice", P2P_EINVAL);
	for (seq = group->first; seq <= group->last; seq++) {
		const struct memlog_change *change = memlog_get(&node->log, &group->replica, seq);

		if (!change || change->segments != change->header.segment_count)
			memlog_fail("told to merge what is not complete", P2P_EINVAL);
		if (change->header.group_last != (seq == group->last))
			memlog_fail("told to merge a part of a group", P2P_EINVAL);
		for (i = 0; i < change->header.dep_count; i++)
			if (!p2p_vv_get(&node->forked, &change->header.deps[i].replica) &&
			    p2p_vv_seq(&node->merged, &change->header.deps[i].replica) <
				    change->header.deps[i].seq)
				memlog_fail("told to merge before its deps", P2P_EINVAL);
	}
}

static void merge_all(struct syncnet_node *node)
{
	struct p2p_sync_group group;
	struct p2p_vv_entry entry;

	node->ready = false;
	while (p2p_sync_next_ready(node->sync, &group)) {
		const struct memlog_change *last;

		group_check(node, &group);
		last = memlog_get(&node->log, &group.replica, group.last);
		memset(&entry, 0, sizeof(entry));
		entry.replica = group.replica;
		entry.seq = group.last;
		entry.head = last->hash;
		entry.stamp = last->header.stamp;
		entry.log_from = 1;
		node->merges++;
		check("put", p2p_vv_put(&node->merged, &entry));
		check("set merged", p2p_sync_set_merged(node->sync, &entry));
		if (!node->durable_due)
			node->durable_due = node->net->now_ms + node->net->durable_ms;
	}
}

void syncnet_write(struct syncnet *net, size_t index, size_t changesets, size_t bytes)
{
	struct syncnet_node *node = &net->nodes[index];
	struct memlog_group group = {changesets, bytes, env_wall(node), node->salt, NULL, 0};
	struct p2p_dot deps[SYNCNET_NODES_MAX];
	struct p2p_vv_entry entry;
	size_t i;

	/* all that was merged: more than is needed, as true */
	for (i = 0; i < node->merged.count && group.dep_count < SYNCNET_NODES_MAX; i++) {
		if (p2p_id_cmp(&node->merged.entries[i].replica, &node->author.replica) == 0)
			continue;
		deps[group.dep_count].replica = node->merged.entries[i].replica;
		deps[group.dep_count++].seq = node->merged.entries[i].seq;
	}
	group.deps = deps;
	memlog_append(&node->log, &node->author, &group, &entry);
	check("put", p2p_vv_put(&node->merged, &entry));
	if (node->sync) {
		check("frozen", p2p_sync_set_merged(node->sync, &entry));
		p2p_sync_durable(node->sync);
	}
	node->next.ms = 0;
}

/* --- running ---------------------------------------------------------------------------------- */

static void node_work(struct syncnet_node *node)
{
	struct p2p_time now = {node->net->now_ms};

	if (!node->sync)
		return;
	if (node->ready && !node->no_merge)
		merge_all(node);
	if (node->durable_due && node->net->now_ms >= node->durable_due) {
		node->durable_due = 0;
		p2p_sync_durable(node->sync);
	}
	node->ticks++;
	node->next = p2p_sync_tick(node->sync, now);
}

static void echo_count(struct syncnet_node *node, const struct p2p_message *message)
{
	size_t i;

	for (i = 0; message->type == P2P_MSG_CHANGES && i < message->changes->n_parts; i++)
		if (message->changes->parts[i]->replica.len == P2P_ID_BYTES &&
		    memcmp(message->changes->parts[i]->replica.data, node->author.replica.bytes,
			   P2P_ID_BYTES) == 0)
			node->author_echoes++;
}

static void message_give(struct syncnet *net, size_t from, size_t to,
			 struct syncnet_message *message)
{
	struct syncnet_node *node = &net->nodes[to];
	struct p2p_message in;
	int rc;

	if (node->puppet) {
		message->next = NULL;
		*node->inbox_tail = message;
		node->inbox_tail = &message->next;
		return;
	}
	rc = p2p_message_unpack(&in, message->data, message->len);
	if (!rc) {
		if (!net->nodes[from].puppet)
			echo_count(node, &in);
		rc = p2p_sync_receive(node->sync, net->links[to][from].handle, &in);
		p2p_message_deinit(&in);
	}
	if (rc < 0)
		link_blame(net, to, from, rc);
	message_free(message);
}

/* Who was told that the queue is full is told that it is not. */
static void link_drained(struct syncnet *net, size_t from, size_t to)
{
	struct syncnet_link *link = &net->links[from][to];

	if (!link->up || !link->full || link->stuck || link->queued >= (net->queue_max + 1) / 2)
		return;
	link->full = false;
	if (net->nodes[from].sync)
		p2p_sync_writable(net->nodes[from].sync, link->handle);
}

static void link_deliver(struct syncnet *net, size_t from, size_t to)
{
	struct syncnet_link *link = &net->links[from][to];
	struct syncnet_message *message = link->head;

	link->head = message->next;
	if (!link->head)
		link->tail = &link->head;
	link->queued--;
	message_give(net, from, to, message);
	node_work(&net->nodes[to]);
	link_drained(net, from, to);
	sessions_close(net);
}

/* One message of those that are due: chance decides which session goes first. */
static bool deliver_one(struct syncnet *net)
{
	size_t from, to, due = 0, pick = 0, pick_from = 0;

	for (from = 0; from < net->count; from++)
		for (to = 0; to < net->count; to++) {
			const struct syncnet_link *link = &net->links[from][to];

			if (!link->head || link->head->due_ms > net->now_ms)
				continue;
			if (syncnet_random(net, ++due) == 0) {
				pick_from = from;
				pick = to;
			}
		}
	if (!due)
		return false;
	link_deliver(net, pick_from, pick);
	return true;
}

static void sooner(uint64_t *next, uint64_t ms)
{
	if (ms && ms < *next)
		*next = ms;
}

/* When something happens next. */
static uint64_t next_event(const struct syncnet *net, uint64_t end)
{
	uint64_t next = end;
	size_t a, b;

	for (a = 0; a < net->count; a++) {
		if (net->nodes[a].sync) {
			sooner(&next, net->nodes[a].next.ms ? net->nodes[a].next.ms : net->now_ms);
			sooner(&next, net->nodes[a].durable_due);
		}
		for (b = 0; b < net->count; b++) {
			sooner(&next, net->links[a][b].again_ms);
			if (net->links[a][b].head)
				sooner(&next, net->links[a][b].head->due_ms);
		}
	}
	return next < net->now_ms ? net->now_ms : next;
}

static void instant(struct syncnet *net)
{
	size_t i, to;

	sessions_again(net);
	for (i = 0; i < net->count; i++)
		for (to = 0; to < net->count; to++)
			link_drained(net, i, to);
	for (i = 0; i < net->count; i++) {
		struct syncnet_node *node = &net->nodes[i];

		if (node->next.ms <= net->now_ms || (node->ready && !node->no_merge) ||
		    (node->durable_due && node->durable_due <= net->now_ms))
			node_work(node);
	}
	sessions_close(net);
	while (deliver_one(net))
		continue;
}

void syncnet_run(struct syncnet *net, uint64_t ms)
{
	uint64_t end = net->now_ms + ms, next, same = 0;

	for (;;) {
		instant(net);
		next = next_event(net, end);
		if (next >= end)
			break;
		same = next == net->now_ms ? same + 1 : 0;
		if (same > 1000)
			memlog_fail("time stands still", P2P_EINVAL);
		net->now_ms = next;
	}
	net->now_ms = end;
	instant(net);
}

bool syncnet_level(const struct syncnet *net)
{
	const struct syncnet_node *first = NULL;
	size_t i, j, peers;

	for (i = 0; i < net->count; i++) {
		const struct syncnet_node *node = &net->nodes[i];
		struct p2p_hash mine, theirs;

		if (!node->sync)
			continue;
		if (!first)
			first = node;
		p2p_vv_digest(&node->merged, &mine);
		p2p_vv_digest(&first->merged, &theirs);
		for (j = 0, peers = 0; j < net->count; j++)
			peers += net->links[i][j].up && net->nodes[j].sync;
		if (p2p_hash_cmp(&mine, &theirs) != 0 || node->durable_due ||
		    p2p_sync_peers_level(node->sync) < peers)
			return false;
	}
	return true;
}

bool syncnet_settle(struct syncnet *net, uint64_t limit_ms)
{
	uint64_t end = net->now_ms + limit_ms;

	while (net->now_ms < end) {
		syncnet_run(net, 20);
		if (syncnet_level(net))
			return true;
	}
	return false;
}

uint64_t syncnet_merged(const struct syncnet *net, size_t node, size_t of)
{
	return p2p_vv_seq(&net->nodes[node].merged, &net->nodes[of].author.replica);
}

struct p2p_sync_peer_status syncnet_status(const struct syncnet *net, size_t node, size_t peer)
{
	struct p2p_sync_peer_status status;

	(void)p2p_sync_peer_status(net->nodes[node].sync, net->links[node][peer].handle, &status);
	return status;
}

/* --- puppets ---------------------------------------------------------------------------------- */

void syncnet_say(struct syncnet *net, size_t from, size_t to, enum p2p_message_type type,
		 const ProtobufCMessage *message)
{
	if (net->links[from][to].up)
		check("say", link_send(net, from, to, P2P_CLASS_CONTROL, type, message));
}

void syncnet_say_have(struct syncnet *net, size_t from, size_t to, const struct p2p_id *replica,
		      uint64_t seq, const struct p2p_hash *head)
{
	P2p__V1__VectorEntry entry, *list = &entry;
	P2p__V1__Have have;

	p2p__v1__have__init(&have);
	p2p__v1__vector_entry__init(&entry);
	if (replica)
		entry.replica = p2p_field(replica->bytes, P2P_ID_BYTES);
	entry.seq = seq;
	if (head)
		entry.head = p2p_field(head->bytes, P2P_HEAD_BYTES);
	entry.log_from = 1;
	have.n_entries = seq ? 1 : 0;
	have.entries = &list;
	have.full = true;
	syncnet_say(net, from, to, P2P_MSG_HAVE, &have.base);
}

void syncnet_say_change(struct syncnet *net, size_t from, size_t to,
			const struct memlog_change *change, uint32_t first, uint32_t last)
{
	uint32_t segment;

	for (segment = first; segment <= last; segment++) {
		P2p__V1__Part part, *list = &part;
		P2p__V1__Changes changes;
		size_t at = (size_t)segment * P2P_SEGMENT_BYTES;
		size_t left = change->body.len > at ? change->body.len - at : 0;

		p2p__v1__part__init(&part);
		part.replica = p2p_field(change->header.replica.bytes, P2P_ID_BYTES);
		part.seq = change->header.seq;
		part.segment = segment;
		if (segment == 0)
			part.header = p2p_field(change->raw.data, change->raw.len);
		if (segment == 0 && change->has_signature)
			part.signature = p2p_field(change->signature.bytes, P2P_SIG_BYTES);
		part.data = p2p_field(left ? change->body.data + at : NULL,
				      left < P2P_SEGMENT_BYTES ? left : P2P_SEGMENT_BYTES);
		p2p__v1__changes__init(&changes);
		changes.n_parts = 1;
		changes.parts = &list;
		syncnet_say(net, from, to, P2P_MSG_CHANGES, &changes.base);
	}
}

bool syncnet_heard(struct syncnet *net, size_t puppet, struct p2p_message *out)
{
	struct syncnet_node *node = &net->nodes[puppet];
	struct syncnet_message *message = node->inbox;

	if (!message)
		return false;
	node->inbox = message->next;
	if (!node->inbox)
		node->inbox_tail = &node->inbox;
	check("unpack", p2p_message_unpack(out, message->data, message->len));
	message_free(message);
	return true;
}

uint64_t syncnet_heard_count(struct syncnet *net, size_t puppet, enum p2p_message_type type)
{
	struct p2p_message message;
	uint64_t count = 0;

	while (syncnet_heard(net, puppet, &message)) {
		count += message.type == type;
		p2p_message_deinit(&message);
	}
	return count;
}
