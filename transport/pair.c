/* In-process links; see pair.h. */
#include "transport/pair.h"

#include <string.h>

#include "proto/buf.h"
#include "proto/check.h"
#include "proto/limits.h"
#include "proto/list.h"
#include "proto/mem.h"

struct end {
	struct p2p_link link; /* first */
	struct p2p_pair *pair;
	struct p2p_buf in; /* on its way to this end */
	bool paused;
	bool closed; /* by its user: no event any more */
	bool told;   /* `closed` was handed up */
	bool full;   /* its send found no room: owes it `writable` */
};

struct p2p_pair {
	struct p2p_list link;
	struct end ends[2];
	size_t capacity_bytes;
	bool held;
	bool cut;
};

struct p2p_wire {
	struct p2p_list pairs;
	size_t count;
	bool pumping;
};

static struct end *end_of(struct p2p_link *link)
{
	return (struct end *)(void *)link;
}

static struct end *other_end(struct end *end)
{
	return end == &end->pair->ends[0] ? &end->pair->ends[1] : &end->pair->ends[0];
}

static int pair_send(struct p2p_link *link, const void *data, size_t len)
{
	struct end *end = end_of(link), *other = other_end(end);

	p2p_require(!end->closed);
	p2p_require(len > 0);
	p2p_require(len <= P2P_LINK_CHUNK_MAX);
	if (end->pair->cut || other->closed)
		return 0; /* as a socket: the loss is noticed when `closed` comes */
	if (other->in.len >= end->pair->capacity_bytes) {
		end->full = true;
		return P2P_LINK_FULL;
	}
	p2p_buf_put(&other->in, data, len);
	if (p2p_buf_error(&other->in))
		return P2P_ENOMEM;
	end->full = other->in.len >= end->pair->capacity_bytes;
	return end->full ? P2P_LINK_QUEUED : 0;
}

static void pair_pause(struct p2p_link *link, bool paused)
{
	end_of(link)->paused = paused;
}

static void pair_close(struct p2p_link *link, bool flush)
{
	struct end *end = end_of(link);

	p2p_require(!end->closed);
	end->closed = true;
	end->link.events = NULL;
	if (!flush)
		p2p_buf_reset(&other_end(end)->in);
}

static const struct p2p_link_ops pair_ops = {pair_send, pair_pause, pair_close};

int p2p_wire_new(struct p2p_wire **out_wire)
{
	struct p2p_wire *wire = p2p_calloc(1, sizeof(*wire));

	if (!wire)
		return P2P_ENOMEM;
	p2p_list_init(&wire->pairs);
	*out_wire = wire;
	return 0;
}

static void pair_free(struct p2p_wire *wire, struct p2p_pair *pair)
{
	p2p_list_remove(&pair->link);
	p2p_buf_deinit(&pair->ends[0].in);
	p2p_buf_deinit(&pair->ends[1].in);
	p2p_free(pair);
	wire->count--;
}

void p2p_wire_free(struct p2p_wire *wire)
{
	struct p2p_list *at, *tmp;

	if (!wire)
		return;
	p2p_require(!wire->pumping);
	p2p_list_for_each (at, tmp, &wire->pairs)
		pair_free(wire, p2p_container_of(at, struct p2p_pair, link));
	p2p_require(wire->count == 0);
	p2p_free(wire);
}

int p2p_wire_pair(struct p2p_wire *wire, size_t capacity_bytes, struct p2p_link *out_ends[2],
		  struct p2p_pair **out_pair)
{
	struct p2p_pair *pair = p2p_calloc(1, sizeof(*pair));
	unsigned int i;

	p2p_require(capacity_bytes > 0);
	if (!pair)
		return P2P_ENOMEM;
	pair->capacity_bytes = capacity_bytes;
	for (i = 0; i < 2; i++) {
		pair->ends[i].link.ops = &pair_ops;
		pair->ends[i].pair = pair;
		pair->ends[i].paused = true;
		p2p_buf_init(&pair->ends[i].in, capacity_bytes + P2P_LINK_CHUNK_MAX);
		out_ends[i] = &pair->ends[i].link;
	}
	p2p_list_push(&wire->pairs, &pair->link);
	wire->count++;
	if (out_pair)
		*out_pair = pair;
	return 0;
}

/* Tells an end that nothing will come any more. */
static bool tell_closed(struct end *end)
{
	bool cut = end->pair->cut;

	if (end->closed || end->told || !end->link.events || end->in.len)
		return false;
	if (!cut && (end->paused || !other_end(end)->closed))
		return false;
	end->told = true;
	end->link.events->closed(end->link.events_ctx, cut ? P2P_ENET : P2P_ECLOSED,
				 cut ? "the link broke" : "closed by the other side");
	return true;
}

static void tell_writable(struct end *end)
{
	if (!end->full || end->closed || end->told || !end->link.events)
		return;
	if (other_end(end)->in.len > end->pair->capacity_bytes / 2)
		return;
	end->full = false;
	end->link.events->writable(end->link.events_ctx);
}

size_t p2p_pair_deliver(struct p2p_pair *pair, unsigned int to, size_t len)
{
	struct end *end = &pair->ends[to];

	p2p_require(to < 2);
	p2p_require(len > 0);
	p2p_require(len <= P2P_LINK_CHUNK_MAX);
	if (end->closed)
		p2p_buf_reset(&end->in);
	if (end->paused || !end->link.events)
		len = 0;
	if (len > end->in.len)
		len = end->in.len;
	if (len) {
		end->link.events->bytes(end->link.events_ctx, end->in.data, len);
		p2p_buf_consume(&end->in, len < end->in.len ? len : end->in.len);
	}
	(void)tell_closed(end); /* what it told is no byte */
	tell_writable(other_end(end));
	return len;
}

/* Hands over what waits for one end now, not what comes meanwhile. */
static bool pump_end(struct p2p_pair *pair, unsigned int to, size_t chunk_bytes)
{
	size_t waiting = pair->ends[to].in.len, moved = 0, len;
	bool told = pair->ends[to].told;

	do {
		len = waiting - moved < chunk_bytes ? waiting - moved : chunk_bytes;
		len = p2p_pair_deliver(pair, to, len ? len : 1);
		moved += len;
	} while (len && moved < waiting);
	return moved > 0 || told != pair->ends[to].told;
}

bool p2p_wire_pump(struct p2p_wire *wire, size_t chunk_bytes)
{
	struct p2p_list *at, *tmp;
	bool moved = false;

	p2p_require(!wire->pumping);
	wire->pumping = true;
	p2p_list_for_each (at, tmp, &wire->pairs) {
		struct p2p_pair *pair = p2p_container_of(at, struct p2p_pair, link);

		if (!pair->held || pair->cut) {
			moved |= pump_end(pair, 0, chunk_bytes);
			moved |= pump_end(pair, 1, chunk_bytes);
		}
		if (!pair->held && pair->ends[0].closed && pair->ends[1].closed) {
			tmp = pair->link.next; /* events may have added pairs */
			pair_free(wire, pair);
		}
	}
	wire->pumping = false;
	return moved;
}

bool p2p_wire_run(struct p2p_wire *wire, size_t chunk_bytes, unsigned int rounds_max)
{
	unsigned int i;

	for (i = 0; i < rounds_max; i++)
		if (!p2p_wire_pump(wire, chunk_bytes))
			return true;
	return false;
}

size_t p2p_wire_count(const struct p2p_wire *wire)
{
	return wire->count;
}

void p2p_pair_hold(struct p2p_pair *pair, bool held)
{
	pair->held = held;
}

size_t p2p_pair_waiting(const struct p2p_pair *pair, unsigned int to)
{
	p2p_require(to < 2);
	return pair->ends[to].in.len;
}

uint8_t *p2p_pair_bytes(struct p2p_pair *pair, unsigned int to, size_t *out_len)
{
	p2p_require(to < 2);
	*out_len = pair->ends[to].in.len;
	return pair->ends[to].in.data;
}

void p2p_pair_cut(struct p2p_pair *pair)
{
	pair->cut = true;
	p2p_buf_reset(&pair->ends[0].in);
	p2p_buf_reset(&pair->ends[1].in);
}
