/* Listeners, dials and sessions: transport/ and its TCP links under one roof. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/session.h"
#include "proto/check.h"
#include "proto/mem.h"
#include "transport/tcp.h"

#define DIAL_TIMEOUT_MS 5000
#define DEFAULT_PORT	7473

struct p2p_net {
	struct p2p_node *node; /* borrowed */
	struct p2p_tcp *tcp;
	struct p2p_transport *transport;
	struct p2p_tcp_listener *listeners[P2P_LISTENERS_MAX]; /* owned by tcp */
	struct sockaddr_storage addresses[P2P_LISTENERS_MAX];
	size_t listener_count;
};

/* One dial, from the finder's wish until it is a session or an error. */
struct dial {
	struct p2p_node *node;
	uint32_t id;
	bool has_key;
	struct p2p_key key;
	char text[P2P_ADDRESS_TEXT_MAX];
};

/* ---- addresses ------------------------------------------------------------------------------ */

int p2p_net_parse(const char *text, struct sockaddr_storage *out, struct p2p_error *err)
{
	const char *colon = strrchr(text, ':');
	char host[64], *end = NULL;
	unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
	size_t len = colon ? (size_t)(colon - text) : 0;
	union {
		struct sockaddr_storage storage;
		struct sockaddr_in in4;
		struct sockaddr_in6 in6;
	} address;

	memset(&address, 0, sizeof(address));
	if (!colon || colon[1] < '0' || colon[1] > '9' || *end || port > 65535 || len == 0 ||
	    len >= sizeof(host))
		return p2p_error_set(err, P2P_EINVAL, "'%.80s' is no ADDR:PORT", text);
	memcpy(host, text, len);
	host[len] = 0;
	if (host[0] == '[' && host[len - 1] == ']') {
		host[len - 1] = 0;
		if (uv_ip6_addr(host + 1, (int)port, &address.in6))
			return p2p_error_set(err, P2P_EINVAL, "'%.80s' is no IPv6 address", text);
	} else if (uv_ip4_addr(host, (int)port, &address.in4)) {
		return p2p_error_set(err, P2P_EINVAL,
				     "'%.80s' is no IP address with a port (IPv6 in brackets, no "
				     "names)",
				     text);
	}
	*out = address.storage;
	return 0;
}

static const struct sockaddr *sockaddr_of(const struct sockaddr_storage *address)
{
	return (const struct sockaddr *)(const void *)address;
}

/* Family, bytes and port; false for another family. */
static bool address_parts(const struct sockaddr *sa, struct p2p_ticket_address *out)
{
	memset(out, 0, sizeof(*out));
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in4 = (const struct sockaddr_in *)(const void *)sa;

		out->family = 4;
		memcpy(out->bytes, &in4->sin_addr, 4);
		out->port = ntohs(in4->sin_port);
		return true;
	}
	if (sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)sa;

		out->family = 6;
		memcpy(out->bytes, &in6->sin6_addr, 16);
		out->port = ntohs(in6->sin6_port);
		return true;
	}
	return false;
}

static bool all_zero(const uint8_t *bytes, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (bytes[i])
			return false;
	return true;
}

static bool is_wildcard(const struct p2p_ticket_address *address)
{
	return all_zero(address->bytes, address->family == 4 ? 4 : 16);
}

static bool is_loopback(const struct p2p_ticket_address *address)
{
	return address->family == 4 ? address->bytes[0] == 127
				    : all_zero(address->bytes, 15) && address->bytes[15] == 1;
}

static bool is_link_local(const struct p2p_ticket_address *address)
{
	return address->family == 6
		       ? address->bytes[0] == 0xfe && (address->bytes[1] & 0xc0) == 0x80
		       : address->bytes[0] == 169 && address->bytes[1] == 254;
}

struct address_list {
	struct p2p_ticket_address *out;
	size_t count, max;
};

static void add_address(struct address_list *list, const struct p2p_ticket_address *address)
{
	size_t i;

	if (list->count == list->max || address->port == 0)
		return;
	for (i = 0; i < list->count; i++)
		if (memcmp(&list->out[i], address, sizeof(*address)) == 0)
			return;
	list->out[list->count++] = *address;
}

/* The addresses of this machine that a wildcard stands for; of the loopback only when there is
 * nothing else. */
static void add_interfaces(struct address_list *list, const struct p2p_ticket_address *wildcard)
{
	uv_interface_address_t *interfaces;
	size_t before = list->count;
	int count, i, pass;

	if (uv_interface_addresses(&interfaces, &count))
		return; /* the ticket still works by discovery */
	for (pass = 0; pass < 2 && list->count == before; pass++)
		for (i = 0; i < count; i++) {
			struct p2p_ticket_address address;

			if (!address_parts(
				    (const struct sockaddr *)(const void *)&interfaces[i].address,
				    &address) ||
			    address.family != wildcard->family || is_link_local(&address) ||
			    is_loopback(&address) != (pass == 1))
				continue;
			address.port = wildcard->port;
			add_address(list, &address);
		}
	uv_free_interface_addresses(interfaces, count);
}

size_t p2p_net_addresses(const struct p2p_net *net, struct p2p_ticket_address *out, size_t max)
{
	struct address_list list = {out, 0, max};
	size_t i;

	for (i = 0; i < net->listener_count; i++) {
		struct p2p_ticket_address address;

		if (!address_parts(sockaddr_of(&net->addresses[i]), &address))
			continue;
		if (is_wildcard(&address))
			add_interfaces(&list, &address);
		else
			add_address(&list, &address);
	}
	return list.count;
}

size_t p2p_net_listener_count(const struct p2p_net *net)
{
	return net->listener_count;
}

void p2p_net_listener_text(const struct p2p_net *net, size_t index, char out[64])
{
	p2p_require(index < net->listener_count);
	p2p_tcp_address_text(sockaddr_of(&net->addresses[index]), out, 64);
}

uint16_t p2p_net_port(const struct p2p_net *net)
{
	struct p2p_ticket_address address = {0};

	if (net->listener_count)
		(void)address_parts(sockaddr_of(&net->addresses[0]), &address);
	return address.port;
}

bool p2p_net_loopback_only(const struct p2p_net *net)
{
	size_t i;

	for (i = 0; i < net->listener_count; i++) {
		struct p2p_ticket_address address;

		if (address_parts(sockaddr_of(&net->addresses[i]), &address) &&
		    !is_loopback(&address))
			return false;
	}
	return true;
}

/* ---- dials ---------------------------------------------------------------------------------- */

/* The end of a dial that did not become a session. */
static void dial_failed(struct dial *dial, int code, const char *text, const struct p2p_key *key,
			const struct p2p_id *instance)
{
	struct p2p_node *node = dial->node;

	if (code != P2P_ECANCELED && code != P2P_EDUPLICATE) {
		p2p_node_note(node, dial->has_key ? &dial->key : key, dial->text, code, text);
		p2p_log(&node->log, P2P_LOG_DEBUG, "node", "dial %s: %s", dial->text, text);
		if (node->join == P2P_JOIN_ASKING)
			p2p_node_trouble(node, code, "cannot join yet: %s: %s", dial->text, text);
	}
	p2p_finder_dialed(node->finder, dial->id, code, key, instance);
	p2p_free(dial);
}

static void dialled_cb(void *ctx, struct p2p_link *link, int code, const char *text)
{
	struct dial *dial = ctx;
	struct p2p_node *node = dial->node;
	struct p2p_secret secret = {.kind = P2P_KIND_MEMBER, .id = 1};
	struct p2p_dial how = {.address = dial->text, .secret = &secret, .cookie = dial};

	if (code) {
		dial_failed(dial, code, text ? text : p2p_strerror(code), NULL, NULL);
		return;
	}
	if (p2p_node_admitted(node)) {
		memcpy(secret.bytes, node->mesh_secret, P2P_KEY_BYTES);
		how.expected = dial->has_key ? &dial->key : NULL;
	} else {
		secret.kind = P2P_KIND_TICKET;
		memcpy(secret.bytes, node->ticket.secret, P2P_KEY_BYTES);
		how.expected = &node->ticket.issuer;
	}
	p2p_transport_dial(node->net->transport, link, &how);
	memset(secret.bytes, 0, sizeof(secret.bytes));
}

void p2p_net_dial(struct p2p_node *node, uint32_t id, const struct sockaddr *address,
		  const char *text, const struct p2p_key *key)
{
	struct dial *dial = p2p_calloc(1, sizeof(*dial));
	int rc = P2P_ENOMEM;

	if (dial && node->net && node->phase == P2P_PHASE_RUNNING &&
	    node->join != P2P_JOIN_REFUSED) {
		dial->node = node;
		dial->id = id;
		(void)snprintf(dial->text, sizeof(dial->text), "%s", text);
		if (key) {
			dial->has_key = true;
			dial->key = *key;
		}
		rc = p2p_tcp_dial(node->net->tcp, address, DIAL_TIMEOUT_MS, dialled_cb, dial, NULL);
		if (rc == 0)
			return;
		dial_failed(dial, rc, p2p_strerror(rc), NULL, NULL);
		return;
	}
	p2p_free(dial);
	p2p_finder_dialed(node->finder, id, P2P_ECANCELED, NULL, NULL);
}

/* ---- events of the transport ---------------------------------------------------------------- */

static void session_up_cb(void *ctx, struct p2p_session *session,
			  const struct p2p_session_info *info)
{
	struct p2p_net *net = ctx;
	struct dial *dial = info->cookie;
	uint32_t id = dial ? dial->id : 0;

	p2p_free(dial);
	p2p_contact_up(net->node, session, id);
}

static void message_cb(void *ctx, struct p2p_session *session, enum p2p_class cls,
		       const uint8_t *data, size_t len)
{
	(void)ctx;
	(void)cls; /* a message means the same in every class */
	p2p_contact_message(session, data, len);
}

static void writable_cb(void *ctx, struct p2p_session *session)
{
	struct p2p_net *net = ctx;

	p2p_contact_writable(net->node, session);
}

static void session_down_cb(void *ctx, struct p2p_session *session, int code, const char *text)
{
	struct p2p_net *net = ctx;

	p2p_contact_down(net->node, session, code, text);
}

static void failed_cb(void *ctx, const struct p2p_session_info *info, int code, const char *text)
{
	struct p2p_net *net = ctx;
	struct dial *dial = info->cookie;
	bool known = !p2p_key_is_zero(&info->peer.node);

	if (dial && code == P2P_ECLOSED && net->node->join == P2P_JOIN_ASKING)
		text = "it closed the connection: it does not know this ticket, or is another mesh's";
	if (dial)
		dial_failed(dial, code, text ? text : p2p_strerror(code),
			    known ? &info->peer.node : NULL, known ? &info->peer.instance : NULL);
	else
		p2p_log(&net->node->log, P2P_LOG_DEBUG, "node", "a connection from %s failed: %s",
			info->address ? info->address : "?", text ? text : p2p_strerror(code));
}

static const struct p2p_transport_events net_events = {
	.session_up = session_up_cb,
	.message = message_cb,
	.writable = writable_cb,
	.session_down = session_down_cb,
	.failed = failed_cb,
};

static size_t secrets_cb(void *ctx, enum p2p_kind kind, struct p2p_secret *out, size_t max)
{
	struct p2p_net *net = ctx;
	struct p2p_node *node = net->node;
	size_t count = 0, i;

	if (!p2p_node_admitted(node))
		return 0; /* a joiner has nothing to offer yet */
	if (kind == P2P_KIND_MEMBER && max > 0) {
		out[0].kind = kind;
		out[0].id = 1;
		memcpy(out[0].bytes, node->mesh_secret, P2P_KEY_BYTES);
		return 1;
	}
	for (i = 0; kind == P2P_KIND_TICKET && i < node->invite_count && count < max; i++) {
		out[count].kind = kind;
		out[count].id = p2p_invite_handle(&node->invites[i]);
		memcpy(out[count].bytes, node->invites[i].secret, P2P_KEY_BYTES);
		count++;
	}
	return count;
}

/* ---- open and close ------------------------------------------------------------------------- */

static void accept_cb(void *ctx, struct p2p_link *link, const struct sockaddr *from)
{
	struct p2p_net *net = ctx;
	char text[P2P_ADDRESS_TEXT_MAX];

	p2p_tcp_address_text(from, text, sizeof(text));
	p2p_transport_accept(net->transport, link, text);
}

static int transport_open(struct p2p_net *net)
{
	struct p2p_node *node = net->node;
	struct p2p_self identity = {.node = node->keys.node, .noise = node->keys.noise};
	struct p2p_transport_config config = {
		.env = &node->env,
		.log = &node->log,
		.events = &net_events,
		.ctx = net,
		.identity = &identity,
		.mesh = *p2p_node_mesh(node),
		.software = "p2pnode/" P2P_VERSION,
		.secrets = secrets_cb,
	};
	int rc;

	memcpy(identity.sign_secret, node->keys.sign_secret, sizeof(identity.sign_secret));
	memcpy(identity.noise_secret, node->keys.noise_secret, sizeof(identity.noise_secret));
	identity.instance = node->instance;
	rc = p2p_transport_new(&config, &net->transport);
	p2p_self_wipe(&identity);
	return rc;
}

static int listen_at(struct p2p_net *net, const char *text, struct p2p_error *err)
{
	struct sockaddr_storage address;
	struct p2p_tcp_listener *listener;
	int rc = p2p_net_parse(text, &address, err);

	if (rc)
		return rc;
	if (net->listener_count == P2P_LISTENERS_MAX)
		return p2p_error_set(err, P2P_EINVAL, "at most %d addresses to listen on",
				     P2P_LISTENERS_MAX);
	rc = p2p_tcp_listen(net->tcp, sockaddr_of(&address), accept_cb, net, &listener, err);
	if (rc)
		return p2p_error_wrap(err, rc, "listen on %s", text);
	p2p_tcp_listener_address(listener, &net->addresses[net->listener_count]);
	net->listeners[net->listener_count++] = listener;
	return 0;
}

/* IPv4 and IPv6; a machine that has only one of them listens on that one. */
static int listen_default(struct p2p_net *net, struct p2p_error *err)
{
	struct p2p_error second = {0};
	int rc = listen_at(net, "0.0.0.0:7473", err), rc6;

	if (rc == P2P_EEXIST)
		return rc;
	rc6 = listen_at(net, "[::]:7473", &second);
	if (rc6 == P2P_EEXIST)
		return p2p_error_set(err, rc6, "%s", second.msg);
	return rc && rc6 ? rc : 0;
}

static int listen_all(struct p2p_net *net, struct p2p_error *err)
{
	const struct p2p_strings *listen = &net->node->listen;
	size_t i;
	int rc = 0;

	if (listen->count == 0)
		return listen_default(net, err);
	for (i = 0; !rc && i < listen->count; i++)
		rc = listen_at(net, listen->items[i], err);
	return rc;
}

int p2p_net_open(struct p2p_node *node, struct p2p_error *err)
{
	struct p2p_net *net = p2p_calloc(1, sizeof(*net));
	int rc;

	if (!net)
		return p2p_error_set(err, P2P_ENOMEM, "out of memory");
	net->node = node;
	rc = p2p_tcp_new(node->loop, &net->tcp);
	if (rc) {
		p2p_free(net);
		return p2p_error_set(err, rc, "network: %s", p2p_strerror(rc));
	}
	/* from here on it closes like one that stands: asynchronously */
	node->net = net;
	node->pending++;
	rc = transport_open(net);
	if (rc)
		return p2p_error_set(err, rc, "sessions: %s", p2p_strerror(rc));
	return listen_all(net, err);
}

void p2p_net_stop(struct p2p_net *net)
{
	if (net->transport)
		p2p_transport_stop(net->transport, "this node stops");
}

bool p2p_net_drained(const struct p2p_net *net)
{
	return !net->transport || p2p_transport_count(net->transport) == 0;
}

static void tcp_closed(void *ctx)
{
	struct p2p_net *net = ctx;
	struct p2p_node *node = net->node;

	p2p_free(net);
	p2p_node_part_closed(node);
}

void p2p_net_close(struct p2p_net *net)
{
	struct p2p_node *node = net->node;

	p2p_transport_free(net->transport);
	net->transport = NULL;
	p2p_contacts_run(node, p2p_env_now(&node->env)); /* all are down: frees them */
	p2p_require(p2p_list_empty(&node->contacts));
	p2p_tcp_close(net->tcp, tcp_closed, net);
	node->net = NULL;
}

struct p2p_time p2p_net_tick(struct p2p_net *net, struct p2p_time now)
{
	return p2p_transport_tick(net->transport, now);
}

struct p2p_time p2p_net_deadline(const struct p2p_net *net)
{
	return p2p_transport_deadline(net->transport);
}
