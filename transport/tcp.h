/* TCP links, on libuv: listeners, dials, connections. The one file of this folder that knows
 * libuv; protocol logic stays out of it.
 *
 * All of it belongs to one uv_loop and is used on that loop's thread only. A call that returns an
 * error never calls back; otherwise callbacks come exactly once, and never before it returned.
 * That thread ignores or blocks SIGPIPE: libuv writes to connections that were reset. */
#ifndef P2P_TRANSPORT_TCP_H
#define P2P_TRANSPORT_TCP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "proto/error.h"
#include "transport/link.h"

struct uv_loop_s;
struct p2p_tcp;
struct p2p_tcp_listener;
struct p2p_tcp_dial;

/* loop is borrowed until p2p_tcp_close() has called back. P2P_ENOMEM. */
int p2p_tcp_new(struct uv_loop_s *loop, struct p2p_tcp **out_tcp) P2P_MUST_CHECK;
/* Closes listeners, ends dials (their callbacks come with P2P_ECANCELED), and breaks connections
 * (their users get no event and must not touch them any more, so close sessions first). Frees tcp
 * when the last handle is closed, then calls closed (NULL allowed); never before it returned. */
void p2p_tcp_close(struct p2p_tcp *tcp, void (*closed)(void *ctx), void *ctx);

/* A new connection. link is given to the callee: attach or close it. from is borrowed. */
typedef void (*p2p_tcp_accept_cb)(void *ctx, struct p2p_link *link, const struct sockaddr *from);

/* Listens at address (IPv4, or IPv6 without the mapped IPv4 addresses; port 0: any free one).
 * The listener is owned by tcp. P2P_EEXIST: the address is in use; P2P_ENET, P2P_ENOMEM, P2P_EFULL
 * (P2P_LISTENERS_MAX). */
int p2p_tcp_listen(struct p2p_tcp *tcp, const struct sockaddr *address, p2p_tcp_accept_cb accepted,
		   void *ctx, struct p2p_tcp_listener **out_listener,
		   struct p2p_error *err) P2P_MUST_CHECK;
/* The real address, with the port that the kernel chose. */
void p2p_tcp_listener_address(const struct p2p_tcp_listener *listener,
			      struct sockaddr_storage *out);
void p2p_tcp_listener_close(struct p2p_tcp_listener *listener);

/* code 0: link is given to the callee. Otherwise link is NULL: P2P_EREFUSED (nobody listens
 * there), P2P_ETIMEOUT, P2P_ENET, P2P_ECANCELED, with a text for people. */
typedef void (*p2p_tcp_dial_cb)(void *ctx, struct p2p_link *link, int code, const char *text);

/* Connects to address within timeout_ms. out_dial (NULL allowed) is valid until the callback.
 * P2P_ENET, P2P_ENOMEM. */
int p2p_tcp_dial(struct p2p_tcp *tcp, const struct sockaddr *address, uint64_t timeout_ms,
		 p2p_tcp_dial_cb dialled, void *ctx, struct p2p_tcp_dial **out_dial) P2P_MUST_CHECK;
/* The callback comes with P2P_ECANCELED. */
void p2p_tcp_dial_cancel(struct p2p_tcp_dial *dial);

/* "192.0.2.1:7473", "[2001:db8::1]:7473", "[fe80::1%eth0]:7473"; always ends with 0. */
void p2p_tcp_address_text(const struct sockaddr *address, char *out, size_t size);

#endif
