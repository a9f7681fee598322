/* An IPv4 or IPv6 address with its port, and its text. No names: those are seeds.h. */
#ifndef P2P_DISCOVERY_ADDRESS_H
#define P2P_DISCOVERY_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "proto/error.h"
#include "proto/limits.h"

/* A value: compared by p2p_address_equal() only, for its padding is not kept. */
struct p2p_address {
	union {
		struct sockaddr sa;
		struct sockaddr_in in4;
		struct sockaddr_in6 in6;
	};
};

/* Copies an AF_INET or AF_INET6 address; an IPv4 address mapped into IPv6 becomes plain IPv4.
 * P2P_EINVAL for another family; out untouched. */
int p2p_address_from_sockaddr(struct p2p_address *out, const struct sockaddr *sa) P2P_MUST_CHECK;
/* From the bytes of a packet: family 4 (4 bytes used) or 6 (16). P2P_EINVAL for another family. */
int p2p_address_from_bytes(struct p2p_address *out, unsigned int family, const uint8_t *bytes,
			   uint16_t port) P2P_MUST_CHECK;
/* The host, network order; 4 bytes used of an IPv4 address, the rest zero. */
void p2p_address_to_bytes(const struct p2p_address *address, uint8_t out[16]);
/* "1.2.3.4" or "fe80::1%3" without brackets; P2P_EINVAL for anything else (also names). The scope
 * is a number or the name of an interface that exists. */
int p2p_address_parse(struct p2p_address *out, const char *host, uint16_t port) P2P_MUST_CHECK;
/* "1.2.3.4:5" or "[fe80::1%3]:5"; always ends with NUL. */
void p2p_address_text(const struct p2p_address *address, char out[P2P_ADDRESS_TEXT_MAX]);

/* 4 or 6. */
unsigned int p2p_address_family(const struct p2p_address *address);
uint16_t p2p_address_port(const struct p2p_address *address); /* in host order */
void p2p_address_set_port(struct p2p_address *address, uint16_t port);
/* Family, host, port and scope. */
bool p2p_address_equal(const struct p2p_address *a, const struct p2p_address *b);
/* Family, host and scope; not the port. */
bool p2p_address_same_host(const struct p2p_address *a, const struct p2p_address *b);
bool p2p_address_is_loopback(const struct p2p_address *address);
/* A unicast address with a port: one that can be dialled. */
bool p2p_address_is_dialable(const struct p2p_address *address);

#endif
