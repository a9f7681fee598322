/* The network: TCP links and multicast between the hosts, in place of transport/tcp.c and
 * discovery/multicast.c. Bytes of a link arrive in order or not at all, in pieces of any size;
 * what a real network does to packets becomes delays, pauses and breaks of the stream. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "discovery/multicast.h"
#include "proto/limits.h"
#include "proto/mem.h"
#include "tests/sim/sim.h"
#include "transport/tcp.h"

#define LINK_BYTES_MAX	 (256 * 1024) /* on their way to one end */
#define RETRY_MS	 50	      /* of bytes that cannot pass now */
#define STALL_MS	 12000
#define LOSS_MS		 1600
#define DATAGRAM_LATE_MS 3000

struct packet {
	struct packet *next;
	uint64_t due_ms;
	size_t len, at; /* at: how much was handed up */
	uint8_t data[];
};

/* One end; both live until both are closed. */
struct end {
	struct p2p_link base; /* first */
	struct sim_link *link;
	struct sim_host *host;
	struct packet *first, *last; /* on their way to this end */
	size_t waiting;
	uint64_t sent;	 /* bytes, by this end */
	uint64_t due_ms; /* of the last of them */
	bool paused, closed, told, full, scheduled, fin;
};

struct sim_link {
	struct sim_link *next;
	struct end ends[2];
	bool cut;    /* the ends are told */
	bool silent; /* nothing passes, and nobody is told */
	uint64_t stall_until_ms;
	uint64_t number; /* from 1 */
	bool stormy;	 /* faults may have struck it */
};

struct p2p_tcp {
	struct sim_host *host;
	p2p_tcp_accept_cb accepted;
	void *ctx;
	bool listening, closing;
	struct sockaddr_in address;
	struct p2p_tcp_dial *dials;
};

struct p2p_tcp_listener {
	char unused;
};

struct p2p_tcp_dial {
	struct p2p_tcp_dial *next;
	struct p2p_tcp *tcp; /* NULL: cancelled */
	struct sim_host *host;
	p2p_tcp_dial_cb dialled;
	void *ctx;
	size_t target;
	uint64_t give_up_ms;
};

struct p2p_multicast {
	struct sim_host *host;
	struct p2p_multicast_config config;
	bool listed;
};

static struct p2p_tcp_listener the_listener;

/* --- addresses: host i is 10.0.0.(i + 1) --------------------------------------------------------
 */

static void host_address(const struct sim_host *host, struct sockaddr_in *out)
{
	memset(out, 0, sizeof(*out));
	out->sin_family = AF_INET;
	out->sin_port = htons(SIM_PORT);
	out->sin_addr.s_addr = htonl(0x0a000001u + (uint32_t)host->index);
}

/* SIZE_MAX: nobody. */
static size_t host_at(const struct sim *sim, const struct sockaddr *address)
{
	const struct sockaddr_in *in4 = (const struct sockaddr_in *)(const void *)address;
	uint32_t ip = ntohl(in4->sin_addr.s_addr) - 0x0a000001u;

	if (address->sa_family != AF_INET || ip >= sim->count + (sim->hostile != NULL) ||
	    ntohs(in4->sin_port) != SIM_PORT)
		return SIZE_MAX;
	return ip;
}

void p2p_tcp_address_text(const struct sockaddr *address, char *out, size_t size)
{
	const struct sockaddr_in *in4 = (const struct sockaddr_in *)(const void *)address;
	uint32_t ip = ntohl(in4->sin_addr.s_addr);

	(void)snprintf(out, size, "%u.%u.%u.%u:%u", ip >> 24, ip >> 16 & 255, ip >> 8 & 255,
		       ip & 255, ntohs(in4->sin_port));
}

int uv_interface_addresses(uv_interface_address_t **out, int *count)
{
	*out = NULL;
	*count = 0;
	return 0;
}

void uv_free_interface_addresses(uv_interface_address_t *addresses, int count)
{
	(void)addresses;
	(void)count;
}

/* --- links ------------------------------------------------------------------------------------ */

static struct end *end_of(struct p2p_link *link)
{
	return (struct end *)(void *)link;
}

static struct end *other_end(struct end *end)
{
	return &end->link->ends[end == &end->link->ends[0]];
}

static void drop_packets(struct end *end)
{
	struct packet *packet = end->first, *next;

	for (; packet; packet = next) {
		next = packet->next;
		free(packet);
	}
	end->first = end->last = NULL;
	end->waiting = 0;
}

static void link_free(struct sim *sim, struct sim_link *link)
{
	struct sim_link **at = &sim->links;

	while (*at != link)
		at = &(*at)->next;
	*at = link->next;
	sim_forget(sim, &link->ends[0]);
	sim_forget(sim, &link->ends[1]);
	drop_packets(&link->ends[0]);
	drop_packets(&link->ends[1]);
	free(link);
}

static void deliver(struct sim *sim, void *ctx, uint64_t arg);

static void schedule(struct end *end, uint64_t due_ms)
{
	if (end->scheduled)
		return;
	end->scheduled = true;
	sim_at(end->host->sim, due_ms, deliver, end, 0);
}

static uint64_t latency(struct sim *sim)
{
	uint64_t ms = sim->plan.delay_least_ms + sim_draw(sim, sim->plan.delay_ms + 1);

	if (sim_strikes(sim, SIM_DELAY))
		ms += sim_draw(sim, 500);
	if (sim_strikes(sim, SIM_LOSS))
		ms += 200 + sim_draw(sim, LOSS_MS);
	return ms;
}

static void flip(struct sim *sim, uint8_t *data, size_t len)
{
	size_t at = sim_draw(sim, len);

	data[at] ^= (uint8_t)(1 + sim_draw(sim, 255));
}

/* What happens to bytes that are sent: late, changed, the link stands still or breaks. */
static void disturb(struct sim *sim, struct end *to, struct packet *packet)
{
	uint64_t due = sim->now_ms + latency(sim);

	if (sim_strikes(sim, SIM_STALL))
		to->link->stall_until_ms = sim->now_ms + sim_draw(sim, STALL_MS);
	if (sim_strikes(sim, SIM_CORRUPT))
		flip(sim, packet->data, packet->len);
	to->due_ms = packet->due_ms = due > to->due_ms ? due : to->due_ms;
}

/* The link ends within this packet, of which so many bytes still arrive. */
static void break_within(struct end *to, struct packet *packet, size_t len)
{
	to->waiting -= packet->len - len;
	packet->len = len;
	if (!packet->len) {
		packet->len = 1;
		to->waiting++;
	}
	to->link->silent = true;
	sim_at(to->host->sim, packet->due_ms + 1, deliver, to, 1);
}

/* A send that is refused at an exact place. */
static bool exact_full(struct end *end)
{
	struct sim *sim = end->host->sim;

	if (++sim->exact.sends != sim->exact.full_at)
		return false;
	sim->exact.struck++;
	end->full = true;
	sim_at(sim, sim->now_ms + 1, deliver, other_end(end), 3);
	return true;
}

/* Counts what an end has sent; whether the link is to end within it, and where. */
static bool exact_cut(struct end *end, const uint8_t *data, size_t len, size_t *out_at)
{
	struct sim_exact *exact = &end->host->sim->exact;
	unsigned int which = end == &end->link->ends[1];
	uint64_t begin = end->sent;

	end->sent += len;
	if (exact->sent)
		exact->sent(exact->ctx, end->link->number, which, begin, data, len);
	if (exact->cut_link != end->link->number || exact->cut_end != which ||
	    exact->cut_offset < begin || exact->cut_offset >= begin + len)
		return false;
	exact->struck++;
	*out_at = (size_t)(exact->cut_offset - begin);
	return true;
}

static int end_send(struct p2p_link *base, const void *data, size_t len)
{
	struct end *end = end_of(base), *to = other_end(end);
	struct sim *sim = end->host->sim;
	struct packet *packet;
	size_t at = 0;

	end->link->stormy |= !sim->calm;
	if (end->closed)
		sim_fail(sim, "network: bytes on a closed link");
	if (end->link->cut || end->link->silent || to->closed)
		return 0; /* as a socket: the loss is noticed later */
	if (exact_full(end))
		return P2P_LINK_FULL;
	if (to->waiting >= LINK_BYTES_MAX) {
		end->full = true;
		return P2P_LINK_FULL;
	}
	packet = malloc(sizeof(*packet) + len);
	if (!packet)
		sim_fail(sim, "out of memory");
	*packet = (struct packet){.len = len};
	memcpy(packet->data, data, len);
	sim->stats.bytes += len;
	disturb(sim, to, packet);
	if (to->last)
		to->last->next = packet;
	else
		to->first = packet;
	to->last = packet;
	to->waiting += len;
	schedule(to, to->first->due_ms);
	/* what was sent before, and a part of this, may still arrive */
	if (exact_cut(end, data, len, &at))
		break_within(to, packet, at);
	else if (sim_strikes(sim, SIM_RESET))
		break_within(to, packet, sim_draw(sim, len + 1));
	end->full = to->waiting >= LINK_BYTES_MAX;
	return end->full ? P2P_LINK_QUEUED : 0;
}

static void end_pause(struct p2p_link *base, bool paused)
{
	struct end *end = end_of(base);

	end->paused = paused;
	if (!paused && (end->first || end->fin || end->link->cut))
		schedule(end, end->host->sim->now_ms);
}

static void end_close(struct p2p_link *base, bool flush)
{
	struct end *end = end_of(base), *other = other_end(end);
	struct sim *sim = end->host->sim;

	if (end->closed)
		sim_fail(sim, "network: a link is closed twice");
	end->closed = true;
	end->base.events = NULL;
	drop_packets(end);
	if (!flush)
		drop_packets(other);
	other->fin = true;
	if (!other->closed)
		schedule(other, sim->now_ms + latency(sim));
	else
		sim_at(sim, sim->now_ms, deliver, end, 2);
}

static const struct p2p_link_ops end_ops = {end_send, end_pause, end_close};

static void tell_closed(struct end *end, int code, const char *text)
{
	end->told = true;
	sim_note(end->host->sim, 3, "link at host %zu: %s", end->host->index, text);
	end->base.events->closed(end->base.events_ctx, code, text);
}

static void tell_writable(struct end *end)
{
	if (!end->full || end->closed || end->told || !end->base.events ||
	    other_end(end)->waiting > LINK_BYTES_MAX / 2)
		return;
	end->full = false;
	sim_host_current = end->host;
	(void)sim_inside(true);
	end->base.events->writable(end->base.events_ctx);
	(void)sim_inside(false);
	end->host->dirty = true;
}

/* Hands up the first packet, or a piece of it. */
static void hand_up(struct end *end)
{
	struct sim *sim = end->host->sim;
	struct packet *packet = end->first;
	size_t len = packet->len - packet->at;

	if (sim->exact.bytewise)
		len = 1;
	else if (len > 1 && sim_draw(sim, 4) == 0)
		len = 1 + sim_draw(sim, len);
	sim_trace_bytes(sim, packet->data + packet->at, len);
	sim_note(sim, 4, "%zu bytes from host %zu to %zu", len, other_end(end)->host->index,
		 end->host->index);
	end->base.events->bytes(end->base.events_ctx, packet->data + packet->at, len);
	/* it may have been closed meanwhile */
	if (end->first != packet)
		return;
	packet->at += len;
	end->waiting -= len;
	if (packet->at == packet->len) {
		end->first = packet->next;
		if (!end->first)
			end->last = NULL;
		free(packet);
	}
}

static bool blocked(const struct end *end, const struct end *from)
{
	const struct sim *sim = end->host->sim;

	return sim->deaf[end->host->index][from->host->index] ||
	       end->host->paused_until_ms > sim->now_ms || end->link->stall_until_ms > sim->now_ms;
}

/* Something is still to be handed up, now or later. */
static bool more(const struct end *end)
{
	return end->first || (end->fin && !end->link->silent);
}

/* arg 1: the link breaks now; 2: frees it if both are closed; 3: there is room again. */
static void deliver(struct sim *sim, void *ctx, uint64_t arg)
{
	struct end *end = ctx, *from = other_end(end);
	struct sim_link *link = end->link;

	if (arg == 1) {
		link->cut = true;
		schedule(end, sim->now_ms);
		schedule(from, sim->now_ms);
		return;
	}
	if (arg == 3) {
		tell_writable(from);
		return;
	}
	if (arg == 0)
		end->scheduled = false;
	if (link->ends[0].closed && link->ends[1].closed) {
		link_free(sim, link);
		return;
	}
	if (end->closed || end->told || !end->base.events || arg == 2)
		return;
	if (blocked(end, from)) {
		schedule(end, sim->now_ms + RETRY_MS);
		return;
	}
	sim_host_current = end->host;
	(void)sim_inside(true);
	if (end->first && end->first->due_ms <= sim->now_ms && !end->paused && !link->cut)
		hand_up(end);
	else if (link->cut)
		tell_closed(end, P2P_ENET, "the link broke");
	else if (end->fin && !end->first && !end->paused && !link->silent)
		tell_closed(end, P2P_ECLOSED, "closed by the other side");
	(void)sim_inside(false);
	end->host->dirty = true;
	if (!end->closed && !end->told && (link->cut || (!end->paused && more(end))))
		schedule(end, end->first && !link->cut ? end->first->due_ms : sim->now_ms);
	tell_writable(from);
}

void sim_network_cut(struct sim_host *host, bool silent)
{
	struct sim_link *link;
	unsigned int i;

	for (link = host->sim->links; link; link = link->next) {
		if (link->ends[0].host != host && link->ends[1].host != host)
			continue;
		if (silent)
			link->silent = true;
		else
			link->cut = true;
		for (i = 0; i < 2; i++) {
			drop_packets(&link->ends[i]);
			if (!silent && link->ends[i].host != host)
				schedule(&link->ends[i], host->sim->now_ms + 1);
		}
	}
}

void sim_network_break(struct sim_host *a, struct sim_host *b)
{
	struct sim_link *link;
	unsigned int i;

	for (link = a->sim->links; link; link = link->next) {
		const struct sim_host *from = link->ends[0].host, *to = link->ends[1].host;

		if (!(from == a && to == b) && !(from == b && to == a))
			continue;
		link->cut = true;
		for (i = 0; i < 2; i++) {
			drop_packets(&link->ends[i]);
			schedule(&link->ends[i], a->sim->now_ms + 1);
		}
	}
}

bool sim_network_calm(const struct sim_host *a, const struct sim_host *b)
{
	const struct sim_link *link;

	for (link = a->sim->links; link; link = link->next) {
		const struct sim_host *from = link->ends[0].host, *to = link->ends[1].host;

		if (link->stormy && ((from == a && to == b) || (from == b && to == a)))
			return false;
	}
	return true;
}

void sim_network_deinit(struct sim *sim)
{
	while (sim->links)
		link_free(sim, sim->links);
}

/* --- dials and listeners ---------------------------------------------------------------------- */

int p2p_tcp_new(struct uv_loop_s *loop, struct p2p_tcp **out_tcp)
{
	struct p2p_tcp *tcp = p2p_calloc(1, sizeof(*tcp));

	if (!tcp)
		return P2P_ENOMEM;
	tcp->host = sim_host_of(loop);
	tcp->host->tcp = tcp;
	*out_tcp = tcp;
	return 0;
}

int p2p_tcp_listen(struct p2p_tcp *tcp, const struct sockaddr *address, p2p_tcp_accept_cb accepted,
		   void *ctx, struct p2p_tcp_listener **out_listener, struct p2p_error *err)
{
	(void)address;
	(void)err;
	tcp->accepted = accepted;
	tcp->ctx = ctx;
	tcp->listening = true;
	host_address(tcp->host, &tcp->address);
	*out_listener = &the_listener;
	return 0;
}

void p2p_tcp_listener_address(const struct p2p_tcp_listener *listener, struct sockaddr_storage *out)
{
	union {
		struct sockaddr_storage *storage;
		struct sockaddr_in *in4;
	} address = {out};

	(void)listener;
	memset(out, 0, sizeof(*out));
	host_address(sim_host_current, address.in4);
}

static void end_init(struct sim_link *link, unsigned int which, struct sim_host *host)
{
	struct end *end = &link->ends[which];

	end->base.ops = &end_ops;
	end->link = link;
	end->host = host;
	end->paused = true;
}

static struct sim_link *link_new(struct sim_host *from, struct sim_host *to)
{
	struct sim_link *link = calloc(1, sizeof(*link));

	if (!link)
		sim_fail(from->sim, "out of memory");
	end_init(link, 0, from);
	end_init(link, 1, to);
	link->next = from->sim->links;
	from->sim->links = link;
	link->number = ++from->sim->stats.links;
	link->stormy = !from->sim->calm;
	return link;
}

static void dial_remove(struct p2p_tcp_dial *dial)
{
	struct p2p_tcp_dial **at = &dial->tcp->dials;

	while (*at != dial)
		at = &(*at)->next;
	*at = dial->next;
}

static void dial_end(struct p2p_tcp_dial *dial, struct p2p_link *link, int code, const char *text)
{
	struct sim_host *host = dial->host;

	dial_remove(dial);
	sim_host_current = host;
	(void)sim_inside(true);
	dial->dialled(dial->ctx, link, code, text);
	(void)sim_inside(false);
	host->dirty = true;
	free(dial);
}

/* The target hears of it, or not. */
static void dial_try(struct sim *sim, void *ctx, uint64_t arg)
{
	struct p2p_tcp_dial *dial = ctx;
	struct sim_host *from = dial->host, *to = &sim->hosts[dial->target];
	bool heard = !sim->deaf[dial->target][from->index] &&
		     !sim->deaf[from->index][dial->target] && to->paused_until_ms <= sim->now_ms &&
		     (to->app || to->node || to->tcp);
	struct sim_link *link;

	(void)arg;
	if (from->paused_until_ms > sim->now_ms) {
		sim_at(sim, from->paused_until_ms, dial_try, dial, 0);
		return;
	}
	if (!heard && sim->now_ms >= dial->give_up_ms) {
		dial_end(dial, NULL, P2P_ETIMEOUT, "no answer");
		return;
	}
	if (!heard) {
		sim_at(sim, sim->now_ms + 500, dial_try, dial, 0);
		return;
	}
	if (!to->tcp || !to->tcp->listening || to->tcp->closing) {
		dial_end(dial, NULL, P2P_EREFUSED, "nobody listens there");
		return;
	}
	link = link_new(from, to);
	sim_host_current = to;
	(void)sim_inside(true);
	to->tcp->accepted(to->tcp->ctx, &link->ends[1].base,
			  (const struct sockaddr *)(const void *)&from->tcp->address);
	(void)sim_inside(false);
	to->dirty = true;
	dial_end(dial, &link->ends[0].base, 0, NULL);
}

int p2p_tcp_dial(struct p2p_tcp *tcp, const struct sockaddr *address, uint64_t timeout_ms,
		 p2p_tcp_dial_cb dialled, void *ctx, struct p2p_tcp_dial **out_dial)
{
	struct sim *sim = tcp->host->sim;
	size_t target = host_at(sim, address);
	struct p2p_tcp_dial *dial;

	if (target == SIZE_MAX || tcp->closing)
		return P2P_ENET;
	dial = calloc(1, sizeof(*dial));
	if (!dial)
		sim_fail(sim, "out of memory");
	*dial = (struct p2p_tcp_dial){
		tcp->dials, tcp, tcp->host, dialled, ctx, target, sim->now_ms + timeout_ms};
	tcp->dials = dial;
	if (out_dial)
		*out_dial = dial;
	sim->stats.dials++;
	sim_at(sim, sim->now_ms + 1 + latency(sim), dial_try, dial, 0);
	return 0;
}

static void tcp_closed(void *ctx)
{
	struct p2p_tcp *tcp = ctx;

	while (tcp->dials) {
		struct p2p_tcp_dial *dial = tcp->dials;

		sim_forget(tcp->host->sim, dial);
		dial_end(dial, NULL, P2P_ECANCELED, "the node stops");
	}
}

struct closing {
	struct p2p_tcp *tcp;
	void (*closed)(void *ctx);
	void *ctx;
};

static void tcp_gone(void *ctx)
{
	struct closing *closing = ctx;

	tcp_closed(closing->tcp);
	if (closing->tcp->host->tcp == closing->tcp)
		closing->tcp->host->tcp = NULL;
	p2p_free(closing->tcp);
	if (closing->closed)
		closing->closed(closing->ctx);
	free(closing);
}

void p2p_tcp_close(struct p2p_tcp *tcp, void (*closed)(void *ctx), void *ctx)
{
	struct closing *closing = malloc(sizeof(*closing));
	struct sim_link *link;
	unsigned int i;

	if (!closing)
		sim_fail(tcp->host->sim, "out of memory");
	*closing = (struct closing){tcp, closed, ctx};
	tcp->closing = true;
	/* links that are still open break without an event here */
	for (link = tcp->host->sim->links; link; link = link->next)
		for (i = 0; i < 2; i++)
			if (link->ends[i].host == tcp->host && !link->ends[i].closed)
				end_close(&link->ends[i].base, false);
	sim_host_later(tcp->host, tcp_gone, closing);
}

/* --- multicast -------------------------------------------------------------------------------- */

struct datagram {
	struct sim_host *from, *to;
	uint64_t boot;
	size_t len;
	uint8_t data[P2P_BEACON_BYTES * 2];
};

static void datagram_arrive(struct sim *sim, void *ctx, uint64_t arg)
{
	struct datagram *datagram = ctx;
	struct sim_host *to = datagram->to;
	struct sockaddr_in address;
	struct p2p_address from;

	(void)arg;
	host_address(datagram->from, &address);
	if (to->multicast && to->boot == datagram->boot && to->paused_until_ms <= sim->now_ms &&
	    !sim->deaf[to->index][datagram->from->index] &&
	    p2p_address_from_sockaddr(&from, (const struct sockaddr *)(const void *)&address) ==
		    0) {
		sim->stats.datagrams++;
		sim_trace_bytes(sim, datagram->data, datagram->len);
		sim_host_current = to;
		(void)sim_inside(true);
		to->multicast->config.receive(to->multicast->config.ctx, datagram->data,
					      datagram->len, &from);
		(void)sim_inside(false);
		to->dirty = true;
	}
	free(datagram);
}

static void datagram_send(struct sim_host *from, struct sim_host *to, const void *data, size_t len)
{
	struct sim *sim = from->sim;
	struct datagram *datagram;
	uint64_t due = sim->now_ms + 1 + sim_draw(sim, sim->plan.delay_ms + 1);

	if (sim_strikes(sim, SIM_DATAGRAM_LOSS) || len > sizeof(datagram->data))
		return;
	datagram = malloc(sizeof(*datagram));
	if (!datagram)
		sim_fail(sim, "out of memory");
	*datagram = (struct datagram){from, to, to->boot, len, {0}};
	memcpy(datagram->data, data, len);
	if (sim_strikes(sim, SIM_DATAGRAM_LATE))
		due += sim_draw(sim, DATAGRAM_LATE_MS);
	if (sim_strikes(sim, SIM_CORRUPT))
		flip(sim, datagram->data, len);
	sim_at(sim, due, datagram_arrive, datagram, 0);
}

void p2p_multicast_send(struct p2p_multicast *multicast, const void *data, size_t len,
			uint64_t *sent, uint64_t *failed)
{
	struct sim_host *from = multicast->host;
	struct sim *sim = from->sim;
	size_t i;

	(void)failed;
	++*sent;
	if (from->disk.dead & FAULTDISK_NODE)
		return; /* the last gasp of a dead one */
	for (i = 0; i < sim->count; i++) {
		if (!sim->hosts[i].multicast)
			continue;
		datagram_send(from, &sim->hosts[i], data, len);
		if (sim_strikes(sim, SIM_DATAGRAM_TWICE))
			datagram_send(from, &sim->hosts[i], data, len);
	}
}

int p2p_multicast_open(struct p2p_multicast **out, const struct p2p_multicast_config *config)
{
	struct p2p_multicast *multicast = p2p_calloc(1, sizeof(*multicast));

	if (!multicast)
		return P2P_ENOMEM;
	multicast->host = sim_host_of(config->loop);
	multicast->config = *config;
	multicast->host->multicast = multicast;
	*out = multicast;
	return 0;
}

struct multicast_closing {
	struct p2p_multicast *multicast;
	void (*closed)(void *ctx);
	void *ctx;
};

static void multicast_gone(void *ctx)
{
	struct multicast_closing *closing = ctx;

	p2p_free(closing->multicast);
	if (closing->closed)
		closing->closed(closing->ctx);
	free(closing);
}

void p2p_multicast_close(struct p2p_multicast *multicast, void (*closed)(void *ctx), void *ctx)
{
	struct multicast_closing *closing = malloc(sizeof(*closing));

	if (!closing)
		sim_fail(multicast->host->sim, "out of memory");
	*closing = (struct multicast_closing){multicast, closed, ctx};
	multicast->host->multicast = NULL;
	sim_host_later(multicast->host, multicast_gone, closing);
}

size_t p2p_multicast_refresh(struct p2p_multicast *multicast, bool *out_changed)
{
	*out_changed = !multicast->listed;
	multicast->listed = true;
	return 1;
}
