/* Multicast sockets; see multicast.h. */
#include "discovery/multicast.h"

#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "proto/check.h"
#include "proto/limits.h"
#include "proto/mem.h"

#define IFACE_TEXT_MAX 64

/* One interface in one family, as libuv wants it named. */
struct iface {
	bool v6;
	char text[IFACE_TEXT_MAX]; /* "192.168.1.2" or "::%eth0" */
	bool seen;		   /* in the listing under way */
	bool joined;
};

struct socket {
	struct p2p_multicast *multicast; /* borrowed: the owner of this */
	uv_udp_t handle;
	bool open;
};

struct p2p_multicast {
	struct p2p_multicast_config config;
	char names[P2P_INTERFACES_MAX][IF_NAMESIZE]; /* asked for */
	struct socket v4, v6;
	struct iface ifaces[P2P_INTERFACES_MAX];
	size_t iface_count;
	char buffer[P2P_BEACON_BYTES + 1]; /* one more shows what is too long */
	unsigned int handles;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

static void alloc_cb(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
	struct socket *socket = handle->data;

	(void)size;
	buf->base = socket->multicast->buffer;
	buf->len = sizeof(socket->multicast->buffer);
}

static void receive_cb(uv_udp_t *handle, ssize_t len, const uv_buf_t *buf,
		       const struct sockaddr *from, unsigned int flags)
{
	struct socket *socket = handle->data;
	struct p2p_multicast *multicast = socket->multicast;
	struct p2p_address address;

	(void)flags; /* a cut one is too long, and dropped for that */
	if (len <= 0 || !from || p2p_address_from_sockaddr(&address, from))
		return;
	multicast->config.receive(multicast->config.ctx, buf->base, (size_t)len, &address);
}

/* --- opening ---------------------------------------------------------------------------------- */

static int bind_any(struct socket *socket, bool v6, uint16_t port)
{
	struct sockaddr_in any4;
	struct sockaddr_in6 any6;
	int rc;

	if (v6) {
		rc = uv_ip6_addr("::", port, &any6);
		return rc ? rc
			  : uv_udp_bind(&socket->handle, (const struct sockaddr *)&any6,
					UV_UDP_REUSEADDR | UV_UDP_IPV6ONLY);
	}
	rc = uv_ip4_addr("0.0.0.0", port, &any4);
	return rc ? rc
		  : uv_udp_bind(&socket->handle, (const struct sockaddr *)&any4, UV_UDP_REUSEADDR);
}

static int socket_open(struct p2p_multicast *multicast, struct socket *socket, bool v6)
{
	int rc = uv_udp_init(multicast->config.loop, &socket->handle);

	if (rc)
		return rc;
	socket->multicast = multicast;
	socket->handle.data = socket;
	multicast->handles++;
	rc = bind_any(socket, v6, multicast->config.port);
	if (!rc)
		rc = uv_udp_set_multicast_loop(&socket->handle, 1); /* others on this host */
	if (!rc)
		rc = uv_udp_set_multicast_ttl(&socket->handle, 1); /* never over a router */
	if (!rc)
		rc = uv_udp_recv_start(&socket->handle, alloc_cb, receive_cb);
	socket->open = rc == 0;
	return rc;
}

int p2p_multicast_open(struct p2p_multicast **out, const struct p2p_multicast_config *config)
{
	struct p2p_multicast *multicast = p2p_calloc(1, sizeof(*multicast));
	size_t i;
	int rc4, rc6;

	if (!multicast)
		return P2P_ENOMEM;
	multicast->config = *config;
	for (i = 0; i < config->interface_count && i < P2P_INTERFACES_MAX; i++)
		(void)snprintf(multicast->names[i], IF_NAMESIZE, "%s", config->interfaces[i]);
	rc4 = socket_open(multicast, &multicast->v4, false);
	rc6 = socket_open(multicast, &multicast->v6, true);
	*out = multicast;
	if (!rc4 || !rc6)
		return 0;
	p2p_log(config->log, P2P_LOG_WARN, "discovery", "no UDP socket on port %u (%s, %s)",
		config->port, uv_strerror(rc4), uv_strerror(rc6));
	return P2P_ENET; /* *out is to be closed all the same: handles may be in the loop */
}

static void multicast_gone(struct p2p_multicast *multicast)
{
	void (*closed)(void *ctx) = multicast->closed;
	void *ctx = multicast->closed_ctx;

	p2p_free(multicast);
	if (closed)
		closed(ctx);
}

static void closed_cb(uv_handle_t *handle)
{
	struct socket *socket = handle->data;
	struct p2p_multicast *multicast = socket->multicast;

	if (--multicast->handles)
		return;
	multicast_gone(multicast);
}

void p2p_multicast_close(struct p2p_multicast *multicast, void (*closed)(void *ctx), void *ctx)
{
	multicast->closed = closed;
	multicast->closed_ctx = ctx;
	if (multicast->v4.multicast)
		uv_close((uv_handle_t *)&multicast->v4.handle, closed_cb);
	if (multicast->v6.multicast)
		uv_close((uv_handle_t *)&multicast->v6.handle, closed_cb);
	if (!multicast->handles)
		multicast_gone(multicast);
}

/* --- interfaces ------------------------------------------------------------------------------- */

static bool wanted(const struct p2p_multicast *multicast, const uv_interface_address_t *address)
{
	size_t i;

	if (multicast->config.loopback_only)
		return address->is_internal;
	if (!multicast->config.interface_count)
		return !address->is_internal;
	for (i = 0; i < multicast->config.interface_count && i < P2P_INTERFACES_MAX; i++)
		if (strcmp(multicast->names[i], address->name) == 0)
			return true;
	return false;
}

static struct iface *iface_find(struct p2p_multicast *multicast, bool v6, const char *text)
{
	size_t i;

	for (i = 0; i < multicast->iface_count; i++)
		if (multicast->ifaces[i].v6 == v6 && strcmp(multicast->ifaces[i].text, text) == 0)
			return &multicast->ifaces[i];
	return NULL;
}

static bool iface_seen(struct p2p_multicast *multicast, const uv_interface_address_t *address)
{
	bool v6 = address->address.address4.sin_family == AF_INET6;
	struct iface *iface;
	char text[IFACE_TEXT_MAX];

	/* one of each interface in IPv6, one of each address in IPv4 */
	if (v6)
		(void)snprintf(text, sizeof(text), "::%%%s", address->name);
	else if (uv_ip4_name(&address->address.address4, text, sizeof(text)))
		return false;
	iface = iface_find(multicast, v6, text);
	if (iface) {
		iface->seen = true;
		return false;
	}
	if (multicast->iface_count == P2P_INTERFACES_MAX)
		return false;
	iface = &multicast->ifaces[multicast->iface_count++];
	memset(iface, 0, sizeof(*iface));
	iface->v6 = v6;
	iface->seen = true;
	(void)snprintf(iface->text, sizeof(iface->text), "%s", text);
	return true;
}

static const char *group(bool v6)
{
	return v6 ? P2P_DISCOVERY_GROUP6 : P2P_DISCOVERY_GROUP4;
}

static struct socket *socket_of(struct p2p_multicast *multicast, bool v6)
{
	return v6 ? &multicast->v6 : &multicast->v4;
}

/* Joins what is new, forgets what is gone (the kernel left its groups with it). */
static bool ifaces_settle(struct p2p_multicast *multicast)
{
	size_t i, kept = 0;
	bool gone = false;

	for (i = 0; i < multicast->iface_count; i++) {
		struct iface *iface = &multicast->ifaces[i];
		struct socket *socket = socket_of(multicast, iface->v6);

		if (!iface->seen) {
			gone = true;
			continue;
		}
		/* it may be there before its address is: tried again at the next listing */
		if (!iface->joined && socket->open)
			iface->joined = uv_udp_set_membership(&socket->handle, group(iface->v6),
							      iface->text, UV_JOIN_GROUP) == 0;
		iface->seen = false;
		multicast->ifaces[kept++] = *iface;
	}
	multicast->iface_count = kept;
	return gone;
}

size_t p2p_multicast_refresh(struct p2p_multicast *multicast, bool *out_changed)
{
	uv_interface_address_t *list;
	int count, i;
	size_t used = 0, j;

	*out_changed = false;
	if (uv_interface_addresses(&list, &count))
		return multicast->iface_count; /* as before; listed again soon */
	for (i = 0; i < count; i++)
		if (wanted(multicast, &list[i]))
			*out_changed |= iface_seen(multicast, &list[i]);
	uv_free_interface_addresses(list, count);
	*out_changed |= ifaces_settle(multicast);
	for (j = 0; j < multicast->iface_count; j++)
		used += multicast->ifaces[j].joined;
	return used;
}

/* --- sending ---------------------------------------------------------------------------------- */

static int send_on(struct p2p_multicast *multicast, const struct iface *iface, const void *data,
		   size_t len)
{
	struct socket *socket = socket_of(multicast, iface->v6);
	struct sockaddr_in to4;
	struct sockaddr_in6 to6;
	union {
		const void *in;
		char *out; /* libuv wants non-const, and only reads */
	} bytes = {data};
	uv_buf_t buf = uv_buf_init(bytes.out, (unsigned int)len);
	int rc;

	if (!socket->open)
		return UV_EBADF;
	rc = uv_udp_set_multicast_interface(&socket->handle, iface->text);
	if (rc)
		return rc;
	if (iface->v6) {
		rc = uv_ip6_addr(group(true), multicast->config.port, &to6);
		to6.sin6_scope_id = if_nametoindex(strchr(iface->text, '%') + 1);
		if (!rc)
			rc = uv_udp_try_send(&socket->handle, &buf, 1,
					     (const struct sockaddr *)&to6);
	} else {
		rc = uv_ip4_addr(group(false), multicast->config.port, &to4);
		if (!rc)
			rc = uv_udp_try_send(&socket->handle, &buf, 1,
					     (const struct sockaddr *)&to4);
	}
	return rc < 0 ? rc : 0;
}

void p2p_multicast_send(struct p2p_multicast *multicast, const void *data, size_t len,
			uint64_t *sent, uint64_t *failed)
{
	size_t i;

	for (i = 0; i < multicast->iface_count; i++) {
		/* a family that an interface does not route is no reason to stop */
		if (send_on(multicast, &multicast->ifaces[i], data, len))
			++*failed;
		else
			++*sent;
	}
}
