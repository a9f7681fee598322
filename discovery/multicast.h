/* UDP multicast on every interface, IPv4 and IPv6: datagrams out, datagrams in. What is in them is
 * none of its business.
 *
 * Two sockets, one for each family, shared with the other nodes of this host (SO_REUSEADDR: each
 * gets a copy). Interfaces are listed again every few seconds, so that a cable or a network that
 * comes later is used. */
#ifndef P2P_DISCOVERY_MULTICAST_H
#define P2P_DISCOVERY_MULTICAST_H

#include <stdbool.h>
#include <uv.h>

#include "discovery/address.h"
#include "proto/log.h"

struct p2p_multicast;

struct p2p_multicast_config {
	uv_loop_t *loop; /* borrowed until closed */
	const struct p2p_log *log;
	const char *const *interfaces; /* copied; none: all that are up */
	size_t interface_count;
	bool loopback_only;
	uint16_t port;
	void *ctx;
	/* len: whole datagram; at most P2P_DATAGRAMS_WAKEUP_MAX in one turn of the loop */
	void (*receive)(void *ctx, const void *data, size_t len, const struct p2p_address *from);
};

/* P2P_ENOMEM; P2P_ENET: no socket at all (seeds still work). */
int p2p_multicast_open(struct p2p_multicast **out,
		       const struct p2p_multicast_config *config) P2P_MUST_CHECK;
/* closed(ctx) comes from the loop when the memory is gone. */
void p2p_multicast_close(struct p2p_multicast *multicast, void (*closed)(void *ctx), void *ctx);
/* Lists the interfaces; *out_changed: others than before. Returns how many are used. */
size_t p2p_multicast_refresh(struct p2p_multicast *multicast, bool *out_changed);
/* On every interface and family; counts what was sent and what was not. */
void p2p_multicast_send(struct p2p_multicast *multicast, const void *data, size_t len,
			uint64_t *sent, uint64_t *failed);

#endif
