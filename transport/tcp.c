/* TCP links; see tcp.h.
 *
 * Happy path: a listener accepts, or a dial connects, and a connection is made that reads into one
 * buffer of its own and writes what the kernel takes at once; the rest of a chunk waits in one
 * buffer, and `writable` follows. The kernel is told to hold little that is unsent
 * (TCP_NOTSENT_LOWAT), so that a message that is urgent does not queue behind megabytes of others.
 *
 * Closing with flush: the chunk goes out, then FIN, then what still comes in is dropped until the
 * other side is done too or time is up; closing at once with bytes unread would send RST, and that
 * may destroy the reason at the other side before it is read. Each object is freed when its last
 * handle is closed. */
#include "transport/tcp.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "proto/check.h"
#include "proto/limits.h"
#include "proto/list.h"
#include "proto/mem.h"

#define LISTEN_BACKLOG 128

struct p2p_tcp {
	uv_loop_t *loop; /* borrowed */
	struct p2p_list listeners, dials, conns;
	size_t object_count; /* whose handles are not all closed */
	size_t listener_count;
	bool closing;
	uv_idle_t idle; /* calls back once nothing is left */
	void (*closed)(void *ctx);
	void *ctx;
	uint8_t in[P2P_LINK_CHUNK_MAX]; /* of the connection that reads just now */
};

struct p2p_tcp_listener {
	struct p2p_list link;
	struct p2p_tcp *tcp;
	uv_tcp_t handle;
	uv_tcp_t refused; /* takes a connection for which there is no memory */
	unsigned int handle_count;
	bool refusing, refuse_next;
	p2p_tcp_accept_cb accepted;
	void *ctx;
};

enum conn_state { CONN_OPEN, CONN_ENDED, CONN_FLUSHING, CONN_CLOSING };

struct conn {
	struct p2p_link base; /* first */
	struct p2p_list link;
	struct p2p_tcp *tcp;
	uv_tcp_t handle;
	uv_timer_t timer; /* of a flush */
	unsigned int handle_count;
	enum conn_state state;
	bool reading, writing, paused;
	uv_write_t write;
	uv_shutdown_t shutdown;
	uint8_t out[P2P_LINK_CHUNK_MAX]; /* what the kernel did not take at once */
};

struct p2p_tcp_dial {
	struct p2p_list link;
	struct p2p_tcp *tcp;
	struct conn *conn; /* owned until connected */
	uv_connect_t connect;
	uv_timer_t timer;
	p2p_tcp_dial_cb dialled;
	void *ctx;
	int code; /* why it was ended early */
};

static int translate(int status)
{
	switch (status) {
	case UV_EADDRINUSE:
		return P2P_EEXIST;
	case UV_ECONNREFUSED:
		return P2P_EREFUSED;
	case UV_ETIMEDOUT:
		return P2P_ETIMEOUT;
	case UV_ECANCELED:
		return P2P_ECANCELED;
	case UV_ENOMEM:
		return P2P_ENOMEM;
	default:
		return P2P_ENET;
	}
}

static void maybe_done(struct p2p_tcp *tcp);

static void object_gone(struct p2p_tcp *tcp)
{
	p2p_require(tcp->object_count > 0);
	tcp->object_count--;
	maybe_done(tcp);
}

/* --- connections -------------------------------------------------------------------------------
 */

static struct conn *conn_of(struct p2p_link *link)
{
	return (struct conn *)(void *)link;
}

static void conn_handle_closed(uv_handle_t *handle)
{
	struct conn *conn = handle->data;
	struct p2p_tcp *tcp = conn->tcp;

	if (--conn->handle_count)
		return;
	p2p_free(conn);
	object_gone(tcp);
}

static void conn_close(struct conn *conn)
{
	if (conn->state == CONN_CLOSING)
		return;
	conn->state = CONN_CLOSING;
	conn->base.events = NULL;
	p2p_list_remove(&conn->link);
	uv_close((uv_handle_t *)&conn->timer, conn_handle_closed);
	uv_close((uv_handle_t *)&conn->handle, conn_handle_closed);
}

static void conn_ended(struct conn *conn, int code, const char *text)
{
	if (conn->state == CONN_FLUSHING) {
		conn_close(conn); /* nobody listens any more, and nothing will come */
		return;
	}
	if (conn->state != CONN_OPEN)
		return;
	conn->state = CONN_ENDED;
	conn->reading = false;
	(void)uv_read_stop((uv_stream_t *)&conn->handle); /* cannot fail */
	if (conn->base.events)
		conn->base.events->closed(conn->base.events_ctx, code, text);
}

static void conn_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct conn *conn = handle->data;

	(void)suggested;
	buf->base = (char *)conn->tcp->in;
	buf->len = sizeof(conn->tcp->in);
}

static void conn_read(uv_stream_t *stream, ssize_t nread, const uv_buf_t *buf)
{
	struct conn *conn = stream->data;

	(void)buf;
	if (nread == UV_EOF)
		conn_ended(conn, P2P_ECLOSED, "closed by the other side");
	else if (nread < 0)
		conn_ended(conn, translate((int)nread), uv_strerror((int)nread));
	else if (nread > 0 && conn->state == CONN_OPEN && conn->base.events)
		conn->base.events->bytes(conn->base.events_ctx, conn->tcp->in, (size_t)nread);
}

static void conn_written(uv_write_t *request, int status)
{
	struct conn *conn = request->data;

	conn->writing = false;
	if (status < 0)
		conn_ended(conn, translate(status), uv_strerror(status));
	else if (conn->state == CONN_OPEN && conn->base.events)
		conn->base.events->writable(conn->base.events_ctx);
}

static int tcp_send(struct p2p_link *link, const void *data, size_t len)
{
	struct conn *conn = conn_of(link);
	uv_buf_t buf;
	int rc;

	p2p_require(len > 0);
	p2p_require(len <= P2P_LINK_CHUNK_MAX);
	if (conn->state != CONN_OPEN)
		return P2P_ECLOSED;
	if (conn->writing)
		return P2P_LINK_FULL;
	/* uv_try_write() only reads, but its type has no const */
	buf = uv_buf_init((char *)(uintptr_t)data, (unsigned int)len);
	rc = uv_try_write((uv_stream_t *)&conn->handle, &buf, 1);
	if (rc == (int)len)
		return 0;
	if (rc < 0 && rc != UV_EAGAIN)
		return translate(rc);
	if (rc < 0)
		rc = 0;
	memcpy(conn->out, buf.base + rc, len - (size_t)rc);
	buf = uv_buf_init((char *)conn->out, (unsigned int)(len - (size_t)rc));
	conn->write.data = conn;
	rc = uv_write(&conn->write, (uv_stream_t *)&conn->handle, &buf, 1, conn_written);
	if (rc)
		return translate(rc);
	conn->writing = true;
	return P2P_LINK_QUEUED;
}

static void conn_set_reading(struct conn *conn, bool reading)
{
	int rc = 0;

	if (conn->reading == reading)
		return;
	conn->reading = reading;
	if (reading)
		rc = uv_read_start((uv_stream_t *)&conn->handle, conn_alloc, conn_read);
	else
		(void)uv_read_stop((uv_stream_t *)&conn->handle); /* cannot fail */
	p2p_require(rc == 0); /* fails for a closing or unconnected handle only */
}

static void tcp_pause(struct p2p_link *link, bool paused)
{
	struct conn *conn = conn_of(link);

	conn->paused = paused;
	if (conn->state == CONN_OPEN)
		conn_set_reading(conn, !paused);
}

static void flush_timeout(uv_timer_t *timer)
{
	conn_close(timer->data);
}

static void shutdown_done(uv_shutdown_t *request, int status)
{
	struct conn *conn = request->data;

	if (status < 0)
		conn_close(conn); /* else the other side's end, or the timer, closes */
}

static void tcp_close(struct p2p_link *link, bool flush)
{
	struct conn *conn = conn_of(link);

	conn->base.events = NULL;
	conn->shutdown.data = conn;
	if (!flush || conn->state != CONN_OPEN ||
	    uv_shutdown(&conn->shutdown, (uv_stream_t *)&conn->handle, shutdown_done)) {
		conn_close(conn);
		return;
	}
	conn->state = CONN_FLUSHING;
	conn_set_reading(conn, true);
	if (uv_timer_start(&conn->timer, flush_timeout, P2P_CLOSE_DRAIN_MS, 0))
		conn_close(conn);
}

static const struct p2p_link_ops tcp_ops = {tcp_send, tcp_pause, tcp_close};

/* NULL when out of memory. */
static struct conn *conn_new(struct p2p_tcp *tcp)
{
	struct conn *conn = p2p_malloc(sizeof(*conn));

	if (!conn)
		return NULL;
	memset(conn, 0, offsetof(struct conn, out));
	conn->base.ops = &tcp_ops;
	conn->tcp = tcp;
	conn->paused = true;
	p2p_require(uv_tcp_init(tcp->loop, &conn->handle) == 0); /* makes no socket yet */
	p2p_require(uv_timer_init(tcp->loop, &conn->timer) == 0);
	conn->handle.data = conn;
	conn->timer.data = conn;
	conn->handle_count = 2;
	p2p_list_push(&tcp->conns, &conn->link);
	tcp->object_count++;
	return conn;
}

/* Without them it works too, only worse: what fails is passed over. */
static void conn_tune(struct conn *conn)
{
	int lowat = P2P_BULK_UNSENT_MAX;
	unsigned int dead = P2P_DEAD_MS;
	uv_os_fd_t fd;

	(void)uv_tcp_nodelay(&conn->handle, 1);
	if (uv_fileno((uv_handle_t *)&conn->handle, &fd))
		return;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof(lowat));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead, sizeof(dead));
}

/* --- listeners ---------------------------------------------------------------------------------
 */

static void listener_closed(uv_handle_t *handle)
{
	struct p2p_tcp_listener *listener = handle->data;
	struct p2p_tcp *tcp = listener->tcp;

	if (--listener->handle_count)
		return;
	p2p_free(listener);
	object_gone(tcp);
}

static void refuse(struct p2p_tcp_listener *listener);

static void refused_closed(uv_handle_t *handle)
{
	struct p2p_tcp_listener *listener = handle->data;
	bool next = listener->refuse_next && !uv_is_closing((uv_handle_t *)&listener->handle);

	listener->refusing = listener->refuse_next = false;
	if (next)
		refuse(listener);
	listener_closed(handle);
}

/* A connection that is not accepted would keep libuv from polling the listener for ever. */
static void refuse(struct p2p_tcp_listener *listener)
{
	if (listener->refusing) {
		listener->refuse_next = true; /* libuv holds it, and makes no other before */
		return;
	}
	p2p_require(uv_tcp_init(listener->tcp->loop, &listener->refused) == 0);
	listener->refused.data = listener;
	listener->refusing = true;
	listener->handle_count++;
	(void)uv_accept((uv_stream_t *)&listener->handle, (uv_stream_t *)&listener->refused);
	uv_close((uv_handle_t *)&listener->refused, refused_closed);
}

static void connection_cb(uv_stream_t *server, int status)
{
	struct p2p_tcp_listener *listener = server->data;
	struct sockaddr_storage from = {0};
	int len = sizeof(from);
	struct conn *conn;

	if (status < 0)
		return; /* out of descriptors: libuv goes on when there are some */
	conn = conn_new(listener->tcp);
	if (!conn) {
		refuse(listener);
		return;
	}
	if (uv_accept(server, (uv_stream_t *)&conn->handle) ||
	    uv_tcp_getpeername(&conn->handle, (struct sockaddr *)&from, &len)) {
		conn_close(conn);
		return;
	}
	conn_tune(conn);
	listener->accepted(listener->ctx, &conn->base, (const struct sockaddr *)&from);
}

int p2p_tcp_listen(struct p2p_tcp *tcp, const struct sockaddr *address, p2p_tcp_accept_cb accepted,
		   void *ctx, struct p2p_tcp_listener **out_listener, struct p2p_error *err)
{
	struct p2p_tcp_listener *listener;
	char text[P2P_ADDRESS_TEXT_MAX];
	int rc;

	p2p_require(!tcp->closing);
	if (tcp->listener_count >= P2P_LISTENERS_MAX)
		return p2p_error_set(err, P2P_EFULL, "more than %d listeners", P2P_LISTENERS_MAX);
	listener = p2p_calloc(1, sizeof(*listener));
	if (!listener)
		return p2p_error_set(err, P2P_ENOMEM, "%s", p2p_strerror(P2P_ENOMEM));
	listener->tcp = tcp;
	listener->accepted = accepted;
	listener->ctx = ctx;
	p2p_require(uv_tcp_init(tcp->loop, &listener->handle) == 0);
	listener->handle.data = listener;
	listener->handle_count = 1;
	p2p_list_push(&tcp->listeners, &listener->link);
	tcp->object_count++;
	tcp->listener_count++;
	rc = uv_tcp_bind(&listener->handle, address,
			 address->sa_family == AF_INET6 ? UV_TCP_IPV6ONLY : 0);
	if (!rc) /* an address in use is told here, not by bind */
		rc = uv_listen((uv_stream_t *)&listener->handle, LISTEN_BACKLOG, connection_cb);
	if (rc) {
		p2p_tcp_listener_close(listener);
		p2p_tcp_address_text(address, text, sizeof(text));
		return p2p_error_set(err, translate(rc), "listen at %s: %s", text, uv_strerror(rc));
	}
	*out_listener = listener;
	return 0;
}

void p2p_tcp_listener_address(const struct p2p_tcp_listener *listener, struct sockaddr_storage *out)
{
	int len = sizeof(*out);

	memset(out, 0, sizeof(*out));
	p2p_require(uv_tcp_getsockname(&listener->handle, (struct sockaddr *)out, &len) == 0);
}

void p2p_tcp_listener_close(struct p2p_tcp_listener *listener)
{
	p2p_list_remove(&listener->link);
	listener->tcp->listener_count--;
	uv_close((uv_handle_t *)&listener->handle, listener_closed);
}

/* --- dials -------------------------------------------------------------------------------------
 */

static void dial_closed(uv_handle_t *handle)
{
	struct p2p_tcp_dial *dial = handle->data;
	struct p2p_tcp *tcp = dial->tcp;

	p2p_free(dial);
	object_gone(tcp);
}

static void dial_end(struct p2p_tcp_dial *dial, int code)
{
	if (dial->code)
		return;
	dial->code = code;
	conn_close(dial->conn); /* connect_cb comes with UV_ECANCELED */
}

static void dial_timeout(uv_timer_t *timer)
{
	dial_end(timer->data, P2P_ETIMEOUT);
}

static void connect_cb(uv_connect_t *request, int status)
{
	struct p2p_tcp_dial *dial = request->data;
	struct conn *conn = dial->conn;
	int code = dial->code ? dial->code : status < 0 ? translate(status) : 0;

	p2p_list_remove(&dial->link);
	dial->conn = NULL;
	uv_close((uv_handle_t *)&dial->timer, dial_closed);
	if (code) {
		conn_close(conn);
		dial->dialled(dial->ctx, NULL, code,
			      dial->code ? p2p_strerror(code) : uv_strerror(status));
		return;
	}
	conn_tune(conn);
	dial->dialled(dial->ctx, &conn->base, 0, "");
}

int p2p_tcp_dial(struct p2p_tcp *tcp, const struct sockaddr *address, uint64_t timeout_ms,
		 p2p_tcp_dial_cb dialled, void *ctx, struct p2p_tcp_dial **out_dial)
{
	struct p2p_tcp_dial *dial = p2p_calloc(1, sizeof(*dial));
	int rc;

	p2p_require(!tcp->closing);
	if (!dial)
		return P2P_ENOMEM;
	dial->conn = conn_new(tcp);
	if (!dial->conn) {
		p2p_free(dial);
		return P2P_ENOMEM;
	}
	dial->connect.data = dial;
	rc = uv_tcp_connect(&dial->connect, &dial->conn->handle, address, connect_cb);
	if (rc) {
		conn_close(dial->conn);
		p2p_free(dial);
		return translate(rc);
	}
	dial->tcp = tcp;
	dial->dialled = dialled;
	dial->ctx = ctx;
	tcp->object_count++;
	p2p_list_push(&tcp->dials, &dial->link);
	p2p_require(uv_timer_init(tcp->loop, &dial->timer) == 0);
	dial->timer.data = dial;
	p2p_require(uv_timer_start(&dial->timer, dial_timeout, timeout_ms, 0) == 0);
	if (out_dial)
		*out_dial = dial;
	return 0;
}

void p2p_tcp_dial_cancel(struct p2p_tcp_dial *dial)
{
	dial_end(dial, P2P_ECANCELED);
}

/* --- life --------------------------------------------------------------------------------------
 */

int p2p_tcp_new(struct uv_loop_s *loop, struct p2p_tcp **out_tcp)
{
	struct p2p_tcp *tcp = p2p_calloc(1, sizeof(*tcp));

	if (!tcp)
		return P2P_ENOMEM;
	tcp->loop = loop;
	p2p_list_init(&tcp->listeners);
	p2p_list_init(&tcp->dials);
	p2p_list_init(&tcp->conns);
	p2p_require(uv_idle_init(loop, &tcp->idle) == 0);
	tcp->idle.data = tcp;
	*out_tcp = tcp;
	return 0;
}

static void tcp_closed(uv_handle_t *handle)
{
	struct p2p_tcp *tcp = handle->data;
	void (*closed)(void *ctx) = tcp->closed;
	void *ctx = tcp->ctx;

	p2p_free(tcp);
	if (closed)
		closed(ctx);
}

static void maybe_done(struct p2p_tcp *tcp)
{
	if (tcp->closing && tcp->object_count == 0)
		uv_close((uv_handle_t *)&tcp->idle, tcp_closed);
}

void p2p_tcp_close(struct p2p_tcp *tcp, void (*closed)(void *ctx), void *ctx)
{
	struct p2p_list *at, *tmp;

	p2p_require(!tcp->closing);
	tcp->closing = true;
	tcp->closed = closed;
	tcp->ctx = ctx;
	p2p_list_for_each (at, tmp, &tcp->listeners)
		p2p_tcp_listener_close(p2p_container_of(at, struct p2p_tcp_listener, link));
	p2p_list_for_each (at, tmp, &tcp->dials)
		dial_end(p2p_container_of(at, struct p2p_tcp_dial, link), P2P_ECANCELED);
	p2p_list_for_each (at, tmp, &tcp->conns) {
		struct conn *conn = p2p_container_of(at, struct conn, link);

		if (conn->state != CONN_FLUSHING) /* that ends by itself, and soon */
			conn_close(conn);
	}
	maybe_done(tcp);
}

void p2p_tcp_address_text(const struct sockaddr *address, char *out, size_t size)
{
	char host[INET6_ADDRSTRLEN + 32] = "?";
	struct sockaddr_in6 in6;
	struct sockaddr_in in;

	p2p_require(size > 0);
	if (address->sa_family == AF_INET) {
		memcpy(&in, address, sizeof(in));
		(void)inet_ntop(AF_INET, &in.sin_addr, host, sizeof(host)); /* "?" stays */
		(void)snprintf(out, size, "%s:%u", host, ntohs(in.sin_port));
		return;
	}
	if (address->sa_family != AF_INET6) {
		(void)snprintf(out, size, "?");
		return;
	}
	memcpy(&in6, address, sizeof(in6));
	(void)inet_ntop(AF_INET6, &in6.sin6_addr, host, INET6_ADDRSTRLEN);
	if (in6.sin6_scope_id) {
		size_t at = strlen(host), left = sizeof(host) - at - 1;

		host[at] = '%';
		if (uv_if_indextoname(in6.sin6_scope_id, host + at + 1, &left))
			host[at] = 0; /* the interface is gone */
	}
	(void)snprintf(out, size, "[%s]:%u", host, ntohs(in6.sin6_port));
}
