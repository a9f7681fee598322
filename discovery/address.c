/* Addresses; see address.h. */
#include "discovery/address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "proto/check.h"

static void set_in4(struct p2p_address *out, const struct in_addr *host, in_port_t port)
{
	memset(out, 0, sizeof(*out));
	out->in4.sin_family = AF_INET;
	out->in4.sin_addr = *host;
	out->in4.sin_port = port;
}

static void set_in6(struct p2p_address *out, const struct in6_addr *host, in_port_t port,
		    uint32_t scope)
{
	if (IN6_IS_ADDR_V4MAPPED(host)) {
		struct in_addr host4;

		memcpy(&host4, host->s6_addr + 12, sizeof(host4));
		set_in4(out, &host4, port);
		return;
	}
	memset(out, 0, sizeof(*out));
	out->in6.sin6_family = AF_INET6;
	out->in6.sin6_addr = *host;
	out->in6.sin6_port = port;
	/* elsewhere a scope says nothing, and would only make equal addresses differ */
	if (IN6_IS_ADDR_LINKLOCAL(host))
		out->in6.sin6_scope_id = scope;
}

int p2p_address_from_sockaddr(struct p2p_address *out, const struct sockaddr *sa)
{
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;

	if (sa->sa_family == AF_INET) {
		memcpy(&in4, sa, sizeof(in4));
		set_in4(out, &in4.sin_addr, in4.sin_port);
		return 0;
	}
	if (sa->sa_family == AF_INET6) {
		memcpy(&in6, sa, sizeof(in6));
		set_in6(out, &in6.sin6_addr, in6.sin6_port, in6.sin6_scope_id);
		return 0;
	}
	return P2P_EINVAL;
}

int p2p_address_from_bytes(struct p2p_address *out, unsigned int family, const uint8_t *bytes,
			   uint16_t port)
{
	struct in_addr host4;
	struct in6_addr host6;

	if (family == 4) {
		memcpy(&host4, bytes, sizeof(host4));
		set_in4(out, &host4, htons(port));
		return 0;
	}
	if (family == 6) {
		memcpy(&host6, bytes, sizeof(host6));
		set_in6(out, &host6, htons(port), 0);
		return 0;
	}
	return P2P_EINVAL;
}

void p2p_address_to_bytes(const struct p2p_address *address, uint8_t out[16])
{
	memset(out, 0, 16);
	if (address->sa.sa_family == AF_INET)
		memcpy(out, &address->in4.sin_addr, 4);
	else
		memcpy(out, &address->in6.sin6_addr, 16);
}

static int parse_scope(const char *text, uint32_t *out)
{
	uint64_t value = 0;
	size_t i;

	for (i = 0; text[i] >= '0' && text[i] <= '9' && i < 10; i++)
		value = value * 10 + (uint64_t)(text[i] - '0');
	if (i && !text[i]) {
		*out = (uint32_t)value;
		return value && value <= UINT32_MAX ? 0 : P2P_EINVAL;
	}
	*out = if_nametoindex(text);
	return *out ? 0 : P2P_EINVAL;
}

int p2p_address_parse(struct p2p_address *out, const char *host, uint16_t port)
{
	char copy[INET6_ADDRSTRLEN + 1 + IF_NAMESIZE];
	struct in_addr host4;
	struct in6_addr host6;
	uint32_t scope = 0;
	char *percent;

	if (inet_pton(AF_INET, host, &host4) == 1) {
		set_in4(out, &host4, htons(port));
		return 0;
	}
	if (strlen(host) >= sizeof(copy))
		return P2P_EINVAL;
	memcpy(copy, host, strlen(host) + 1);
	percent = strchr(copy, '%');
	if (percent) {
		*percent = 0;
		if (parse_scope(percent + 1, &scope))
			return P2P_EINVAL;
	}
	if (inet_pton(AF_INET6, copy, &host6) != 1)
		return P2P_EINVAL;
	set_in6(out, &host6, htons(port), scope);
	return 0;
}

void p2p_address_text(const struct p2p_address *address, char out[P2P_ADDRESS_TEXT_MAX])
{
	char host[INET6_ADDRSTRLEN] = "";
	char scope[12] = "";

	if (address->sa.sa_family == AF_INET) {
		(void)inet_ntop(AF_INET, &address->in4.sin_addr, host, sizeof(host));
		(void)snprintf(out, P2P_ADDRESS_TEXT_MAX, "%s:%u", host, p2p_address_port(address));
		return;
	}
	(void)inet_ntop(AF_INET6, &address->in6.sin6_addr, host, sizeof(host));
	if (address->in6.sin6_scope_id)
		(void)snprintf(scope, sizeof(scope), "%%%u", address->in6.sin6_scope_id);
	(void)snprintf(out, P2P_ADDRESS_TEXT_MAX, "[%s%s]:%u", host, scope,
		       p2p_address_port(address));
}

unsigned int p2p_address_family(const struct p2p_address *address)
{
	p2p_require(address->sa.sa_family == AF_INET || address->sa.sa_family == AF_INET6);
	return address->sa.sa_family == AF_INET ? 4 : 6;
}

uint16_t p2p_address_port(const struct p2p_address *address)
{
	return ntohs(p2p_address_family(address) == 4 ? address->in4.sin_port
						      : address->in6.sin6_port);
}

void p2p_address_set_port(struct p2p_address *address, uint16_t port)
{
	if (p2p_address_family(address) == 4)
		address->in4.sin_port = htons(port);
	else
		address->in6.sin6_port = htons(port);
}

bool p2p_address_same_host(const struct p2p_address *a, const struct p2p_address *b)
{
	if (a->sa.sa_family != b->sa.sa_family)
		return false;
	if (p2p_address_family(a) == 4)
		return a->in4.sin_addr.s_addr == b->in4.sin_addr.s_addr;
	return !memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, 16) &&
	       a->in6.sin6_scope_id == b->in6.sin6_scope_id;
}

bool p2p_address_equal(const struct p2p_address *a, const struct p2p_address *b)
{
	return p2p_address_same_host(a, b) && p2p_address_port(a) == p2p_address_port(b);
}

bool p2p_address_is_loopback(const struct p2p_address *address)
{
	if (p2p_address_family(address) == 4)
		return ntohl(address->in4.sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&address->in6.sin6_addr);
}

bool p2p_address_is_dialable(const struct p2p_address *address)
{
	uint32_t host;

	if (!p2p_address_port(address))
		return false;
	if (p2p_address_family(address) == 6)
		return !IN6_IS_ADDR_UNSPECIFIED(&address->in6.sin6_addr) &&
		       !IN6_IS_ADDR_MULTICAST(&address->in6.sin6_addr);
	host = ntohl(address->in4.sin_addr.s_addr);
	return host >> 24 != 0 && host < 0xe0000000u; /* below multicast, class E, broadcast */
}
