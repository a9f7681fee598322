/* The facade: beacons, seeds and the address book on one loop; see discovery.h. */
#include "discovery/discovery.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "discovery/multicast.h"
#include "discovery/replay.h"
#include "discovery/schedule.h"
#include "discovery/seeds.h"
#include "proto/check.h"
#include "proto/limits.h"
#include "proto/mem.h"

#define HOST_BUCKETS 256

struct p2p_discovery {
	struct p2p_discovery_config config;
	struct p2p_beacon_ring ring;
	struct p2p_addrbook book;
	struct p2p_seeds *seeds;
	struct p2p_multicast *multicast; /* NULL: off */
	struct p2p_schedule schedule;
	struct p2p_replay replay;
	struct p2p_senders senders;
	struct p2p_bucket received, hosts[HOST_BUCKETS];
	struct p2p_discovery_stats stats;
	uv_timer_t timer;
	struct p2p_time list_at; /* interfaces are listed again */
	uint64_t last_beacon_ms; /* its time field: strictly increasing */
	bool up, stopping;
	unsigned int parts; /* not closed yet */
	void (*stopped)(void *ctx);
	void *stopped_ctx;
};

static struct p2p_time now_of(const struct p2p_discovery *d)
{
	return p2p_env_now(d->config.env);
}

static uint32_t random_of(const struct p2p_discovery *d)
{
	uint32_t random;

	p2p_env_random(d->config.env, &random, sizeof(random));
	return random;
}

static void tell(struct p2p_discovery *d, enum p2p_discovery_event event)
{
	if (d->config.callbacks.event)
		d->config.callbacks.event(d->config.callbacks.ctx, event);
}

/* --- sending ---------------------------------------------------------------------------------- */

static void beacon_send(struct p2p_discovery *d, enum p2p_beacon_kind kind,
			const struct p2p_beacon_secret *key)
{
	uint8_t datagram[P2P_BEACON_BYTES], nonce[P2P_BEACON_NONCE_BYTES];
	struct p2p_beacon beacon;
	uint64_t wall = p2p_env_wall_ms(d->config.env);

	memset(&beacon, 0, sizeof(beacon));
	d->last_beacon_ms = wall > d->last_beacon_ms ? wall : d->last_beacon_ms + 1;
	beacon.kind = kind;
	beacon.key = d->config.key;
	beacon.instance = d->config.instance;
	beacon.port = d->config.tcp_port;
	beacon.time_ms = d->last_beacon_ms;
	p2p_env_random(d->config.env, nonce, sizeof(nonce));
	p2p_beacon_seal(datagram, &beacon, key, &d->config.mesh, nonce);
	p2p_multicast_send(d->multicast, datagram, sizeof(datagram), &d->stats.sent,
			   &d->stats.send_errors);
}

/* A member says that it is there, a joiner that it seeks. */
static void beacon_own(struct p2p_discovery *d, bool goodbye)
{
	const struct p2p_beacon_secret *epoch = p2p_beacon_ring_first(&d->ring, P2P_SECRET_EPOCH);
	const struct p2p_beacon_secret *held = p2p_beacon_ring_first(&d->ring, P2P_SECRET_HELD);

	if (!d->multicast)
		return;
	if (epoch && d->config.tcp_port)
		beacon_send(d, goodbye ? P2P_BEACON_GOODBYE : P2P_BEACON_HELLO, epoch);
	if (held && !goodbye)
		beacon_send(d, P2P_BEACON_SEEK, held);
}

/* --- hearing ---------------------------------------------------------------------------------- */

static void book_put(struct p2p_discovery *d, const struct p2p_addrbook_claim *claim)
{
	/* full or not dialable: it will be heard again */
	(void)!p2p_addrbook_put(&d->book, now_of(d), claim);
}

static void hear_addresses(struct p2p_discovery *d, const struct p2p_beacon *beacon,
			   const struct p2p_address *from, enum p2p_source source,
			   uint64_t secret_id)
{
	struct p2p_addrbook_claim claim = {*from, NULL, source, &beacon->key, secret_id, true};
	size_t i;

	if (!beacon->port)
		return;
	p2p_address_set_port(&claim.address, beacon->port);
	book_put(d, &claim);
	claim.source = P2P_SOURCE_CLAIM;
	claim.heard = false;
	for (i = 0; i < beacon->addresses_count; i++) {
		claim.address = beacon->addresses[i];
		if (d->config.loopback_only && !p2p_address_is_loopback(&claim.address))
			continue;
		book_put(d, &claim);
	}
}

static void hear(struct p2p_discovery *d, const struct p2p_beacon *beacon,
		 const struct p2p_beacon_secret *key, const struct p2p_address *from,
		 enum p2p_sender_order order)
{
	struct p2p_time now = now_of(d);

	switch (beacon->kind) {
	case P2P_BEACON_HELLO:
		hear_addresses(d, beacon, from, P2P_SOURCE_BEACON, 0);
		/* somebody new learns of us before the next turn */
		if (order != P2P_SENDER_AGAIN)
			p2p_schedule_soon(&d->schedule, now, random_of(d));
		return;
	case P2P_BEACON_GOODBYE:
		return; /* its session ends by itself */
	case P2P_BEACON_SEEK:
		if (key->kind == P2P_SECRET_ISSUED && d->config.tcp_port)
			beacon_send(d, P2P_BEACON_ANSWER, key);
		return;
	case P2P_BEACON_ANSWER:
		if (key->kind == P2P_SECRET_HELD)
			hear_addresses(d, beacon, from, P2P_SOURCE_ANSWER, key->id);
		return;
	}
}

static void schedule_timer(struct p2p_discovery *d);

static bool within_limits(struct p2p_discovery *d, const struct p2p_address *from)
{
	struct p2p_time now = now_of(d);
	uint8_t host[16];
	unsigned int i, at = 0;

	p2p_address_to_bytes(from, host);
	for (i = 0; i < sizeof(host); i++)
		at = at * 31 + host[i];
	return p2p_bucket_take(&d->hosts[at % HOST_BUCKETS], now, P2P_DATAGRAMS_HOST_RATE,
			       P2P_DATAGRAMS_HOST_RATE) &&
	       p2p_bucket_take(&d->received, now, P2P_DATAGRAMS_RATE, P2P_DATAGRAMS_RATE);
}

static void receive_cb(void *ctx, const void *data, size_t len, const struct p2p_address *from)
{
	struct p2p_discovery *d = ctx;
	const struct p2p_beacon_secret *key;
	struct p2p_beacon beacon;
	enum p2p_sender_order order;

	if (d->stopping)
		return;
	d->stats.received++;
	if (!within_limits(d, from)) {
		d->stats.limited++;
		return;
	}
	if (p2p_beacon_ring_open(&d->ring, &d->config.mesh, data, len, &beacon, &key)) {
		d->stats.strange++;
		return;
	}
	if (p2p_key_cmp(&beacon.key, &d->config.key) == 0) {
		if (p2p_id_cmp(&beacon.instance, &d->config.instance) != 0 &&
		    !p2p_replay_seen(&d->replay, data) && beacon.time_ms > d->last_beacon_ms)
			tell(d, P2P_DISCOVERY_CLONE);
		return;
	}
	if (p2p_replay_seen(&d->replay, data)) {
		d->stats.replayed++;
		return;
	}
	order = p2p_senders_note(&d->senders, now_of(d), &beacon.key, &beacon.instance,
				 beacon.time_ms);
	if (order == P2P_SENDER_OLD) {
		d->stats.replayed++;
		return;
	}
	d->stats.beacons++;
	hear(d, &beacon, key, from, order);
	schedule_timer(d);
}

/* --- the turn --------------------------------------------------------------------------------- */

static void list_interfaces(struct p2p_discovery *d, struct p2p_time now)
{
	bool changed, up;

	d->stats.interfaces = p2p_multicast_refresh(d->multicast, &changed);
	d->list_at.ms = now.ms + P2P_INTERFACES_LIST_MS;
	up = d->stats.interfaces > 0;
	if (up != d->up) {
		d->up = up;
		tell(d, up ? P2P_DISCOVERY_UP : P2P_DISCOVERY_DOWN);
	} else if (changed) {
		tell(d, P2P_DISCOVERY_CHANGED);
	}
	if (changed)
		p2p_schedule_now(&d->schedule, now);
}

static void dial_due(struct p2p_discovery *d)
{
	const struct p2p_addrbook_entry *entry;
	char text[P2P_ADDRESS_TEXT_MAX];
	struct p2p_dial_request request;
	struct p2p_key key;
	size_t i;

	/* bounded: a dial that fails at once is not dialled again in this turn */
	for (i = 0; i < P2P_DIALS_MAX && !d->stopping; i++) {
		entry = p2p_addrbook_next(&d->book, now_of(d));
		if (!entry)
			return;
		p2p_address_text(&entry->address, text);
		key = entry->key;
		request.id = entry->id;
		request.address = entry->address;
		request.text = text;
		request.source = entry->source;
		request.secret_id = entry->secret_id;
		request.key = entry->has_key ? &key : NULL;
		d->stats.dials++;
		d->config.callbacks.dial(d->config.callbacks.ctx, &request);
	}
}

static void sooner(struct p2p_time *next, struct p2p_time other)
{
	if (other.ms < next->ms)
		*next = other;
}

static void turn_cb(uv_timer_t *timer)
{
	struct p2p_discovery *d = timer->data;
	struct p2p_time now = now_of(d);

	if (d->multicast) {
		if (now.ms >= d->list_at.ms)
			list_interfaces(d, now);
		if (p2p_schedule_due(&d->schedule, now)) {
			beacon_own(d, false);
			p2p_schedule_sent(&d->schedule, now, random_of(d));
		}
	}
	(void)p2p_seeds_tick(d->seeds, now); /* asked again below */
	dial_due(d);
	schedule_timer(d);
}

static void schedule_timer(struct p2p_discovery *d)
{
	struct p2p_time now = now_of(d), next;
	int rc;

	if (d->stopping)
		return;
	next = p2p_addrbook_deadline(&d->book, now);
	sooner(&next, p2p_seeds_tick(d->seeds, now));
	if (d->multicast) {
		sooner(&next, d->schedule.next);
		sooner(&next, d->list_at);
	}
	if (next.ms > now.ms + P2P_BEACON_MAX_MS)
		next.ms = now.ms + P2P_BEACON_MAX_MS;
	rc = uv_timer_start(&d->timer, turn_cb, next.ms > now.ms ? next.ms - now.ms : 0, 0);
	p2p_require(rc == 0); /* it is not closing, and has a callback */
}

/* --- life ------------------------------------------------------------------------------------- */

static void seed_found(void *ctx, const char *text, const struct p2p_address *address)
{
	struct p2p_discovery *d = ctx;
	struct p2p_addrbook_claim claim = {*address, text, P2P_SOURCE_SEED, NULL, 0, false};

	if (d->stopping || (d->config.loopback_only && !p2p_address_is_loopback(address)))
		return;
	book_put(d, &claim);
	schedule_timer(d);
}

static void part_closed(void *ctx)
{
	struct p2p_discovery *d = ctx;

	void (*stopped)(void *ctx) = d->stopped;
	void *stopped_ctx = d->stopped_ctx;

	if (--d->parts)
		return;
	p2p_addrbook_deinit(&d->book);
	p2p_beacon_ring_wipe(&d->ring);
	p2p_free(d);
	if (stopped)
		stopped(stopped_ctx);
}

static void timer_closed(uv_handle_t *handle)
{
	part_closed(handle->data);
}

static int open_multicast(struct p2p_discovery *d, const struct p2p_discovery_config *config)
{
	struct p2p_multicast_config multicast = {
		.loop = config->loop,
		.log = config->log,
		.interfaces = config->interfaces,
		.interface_count = config->interfaces_count,
		.loopback_only = config->loopback_only,
		.port = config->udp_port ? config->udp_port : P2P_DISCOVERY_PORT,
		.ctx = d,
		.receive = receive_cb,
	};
	int rc;

	if (config->off)
		return 0;
	rc = p2p_multicast_open(&d->multicast, &multicast);
	if (rc == P2P_ENOMEM)
		return rc;
	d->parts++;
	if (!rc)
		return 0;
	p2p_multicast_close(d->multicast, part_closed, d); /* seeds still work */
	d->multicast = NULL;
	return 0;
}

static int add_seeds(struct p2p_discovery *d, const struct p2p_discovery_config *config,
		     struct p2p_error *err)
{
	size_t i;
	int rc;

	for (i = 0; i < config->seeds_count; i++) {
		rc = p2p_discovery_add(d, config->seeds[i], P2P_SOURCE_SEED, NULL);
		if (rc == P2P_EINVAL)
			return p2p_error_set(err, rc,
					     "seed '%.100s': expected HOST:PORT, as in "
					     "192.168.1.5:4700, [fe80::1%%eth0]:4700 or "
					     "server.lan:4700",
					     config->seeds[i]);
		if (rc)
			return p2p_error_set(err, rc, "seed '%.100s': %s", config->seeds[i],
					     p2p_strerror(rc));
	}
	return 0;
}

static int start_parts(struct p2p_discovery *d, const struct p2p_discovery_config *config,
		       struct p2p_error *err)
{
	struct p2p_seeds_config seeds = {config->loop, config->env, config->log, d, seed_found};
	int rc = p2p_addrbook_init(&d->book, now_of(d));

	if (!rc)
		rc = p2p_seeds_open(&d->seeds, &seeds);
	if (rc)
		return p2p_error_set(err, rc, "out of memory");
	d->parts++;
	rc = p2p_beacon_ring_set(&d->ring, config->secrets, config->secrets_count);
	if (rc)
		return p2p_error_set(err, rc, "too many secrets to listen for");
	rc = open_multicast(d, config);
	return rc ? p2p_error_set(err, rc, "out of memory") : add_seeds(d, config, err);
}

int p2p_discovery_start(struct p2p_discovery **out, const struct p2p_discovery_config *config,
			struct p2p_error *err)
{
	struct p2p_discovery *d = p2p_calloc(1, sizeof(*d));
	struct p2p_time now;
	size_t i;
	int rc;

	if (!d)
		return p2p_error_set(err, P2P_ENOMEM, "out of memory");
	if (uv_timer_init(config->loop, &d->timer)) {
		p2p_free(d);
		return p2p_error_set(err, P2P_ENET, "the loop takes no timer");
	}
	d->config = *config;
	d->timer.data = d;
	d->parts = 1;
	now = now_of(d);
	p2p_schedule_init(&d->schedule, now);
	p2p_replay_init(&d->replay);
	p2p_bucket_init(&d->received, now, P2P_DATAGRAMS_RATE);
	for (i = 0; i < HOST_BUCKETS; i++)
		p2p_bucket_init(&d->hosts[i], now, P2P_DATAGRAMS_HOST_RATE);
	rc = start_parts(d, config, err);
	/* what the caller lent for the call */
	d->config.secrets = NULL;
	d->config.seeds = d->config.interfaces = NULL;
	if (rc) {
		p2p_discovery_stop(d, NULL, NULL);
		return rc;
	}
	*out = d;
	schedule_timer(d);
	return 0;
}

void p2p_discovery_stop(struct p2p_discovery *d, void (*stopped)(void *ctx), void *ctx)
{
	if (d->multicast && d->book.entries)
		beacon_own(d, true);
	d->stopping = true;
	d->stopped = stopped;
	d->stopped_ctx = ctx;
	if (d->multicast)
		p2p_multicast_close(d->multicast, part_closed, d);
	d->multicast = NULL;
	if (d->seeds)
		p2p_seeds_close(d->seeds, part_closed, d);
	uv_close((uv_handle_t *)&d->timer, timer_closed);
}

/* --- what the owner tells --------------------------------------------------------------------- */

int p2p_discovery_set_secrets(struct p2p_discovery *d, const struct p2p_beacon_secret *secrets,
			      size_t count)
{
	int rc = p2p_beacon_ring_set(&d->ring, secrets, count);

	if (rc)
		return rc;
	p2p_schedule_now(&d->schedule, now_of(d));
	schedule_timer(d);
	return 0;
}

void p2p_discovery_set_members(struct p2p_discovery *d, size_t count)
{
	p2p_schedule_set_members(&d->schedule, count);
	schedule_timer(d);
}

int p2p_discovery_add(struct p2p_discovery *d, const char *text, enum p2p_source source,
		      const struct p2p_key *key)
{
	struct p2p_addrbook_claim claim = {.text = text, .source = source, .key = key};
	char host[P2P_SEED_TEXT_MAX];
	uint16_t port;
	int rc = p2p_seeds_parse(text, host, &port);

	if (rc)
		return rc;
	if (p2p_address_parse(&claim.address, host, port)) {
		/* a name: only what a person gave is looked up */
		if (source != P2P_SOURCE_SEED && source != P2P_SOURCE_TICKET)
			return P2P_EINVAL;
		rc = p2p_seeds_add(d->seeds, text);
	} else {
		if (source == P2P_SOURCE_CLAIM)
			claim.text = NULL;
		rc = p2p_addrbook_put(&d->book, now_of(d), &claim);
	}
	schedule_timer(d);
	return rc;
}

void p2p_discovery_dialed(struct p2p_discovery *d, uint32_t id, int status,
			  const struct p2p_key *key, const struct p2p_id *instance)
{
	struct p2p_addrbook_outcome outcome = {
		.status = status,
		.duplicate = status == P2P_EDUPLICATE,
		.own = key && p2p_key_cmp(key, &d->config.key) == 0,
		.key = key,
		.random = random_of(d),
	};

	(void)instance; /* a restarted node is heard by its beacon */
	p2p_addrbook_dialed(&d->book, now_of(d), id, &outcome);
	schedule_timer(d);
}

void p2p_discovery_session_up(struct p2p_discovery *d, const struct p2p_key *key)
{
	p2p_addrbook_session(&d->book, now_of(d), key, true, random_of(d));
	schedule_timer(d);
}

void p2p_discovery_session_down(struct p2p_discovery *d, const struct p2p_key *key)
{
	p2p_addrbook_session(&d->book, now_of(d), key, false, random_of(d));
	schedule_timer(d);
}

/* --- what the owner asks ---------------------------------------------------------------------- */

void p2p_discovery_stats(const struct p2p_discovery *d, struct p2p_discovery_stats *out)
{
	size_t i;

	*out = d->stats;
	out->addresses = 0;
	for (i = 0; i < P2P_ADDRESSES_MAX; i++)
		out->addresses += d->book.entries[i].id != 0;
}
