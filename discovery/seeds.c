/* Seeds; see seeds.h. */
#include "discovery/seeds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/check.h"
#include "proto/limits.h"
#include "proto/mem.h"

#define FAILED_MIN_MS 1000

struct seed {
	struct p2p_seeds *seeds; /* borrowed: the owner */
	char text[P2P_SEED_TEXT_MAX], host[P2P_SEED_TEXT_MAX];
	uint16_t port;
	bool used, busy;
	unsigned int failures;
	uint64_t next_ms;
	uv_getaddrinfo_t request;
};

struct p2p_seeds {
	struct p2p_seeds_config config;
	struct seed seeds[P2P_SEEDS_MAX];
	size_t busy;
	bool closing;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

/* --- parsing ---------------------------------------------------------------------------------- */

static bool is_name(const char *host)
{
	size_t i;

	for (i = 0; host[i]; i++) {
		char c = host[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '-' || c == '.' || c == '_'))
			return false;
	}
	return i > 0 && i <= 253 && host[0] != '-' && host[0] != '.';
}

static int parse_port(const char *text, uint16_t *port)
{
	unsigned long value = 0;
	size_t i;

	for (i = 0; text[i] >= '0' && text[i] <= '9' && i < 6; i++)
		value = value * 10 + (unsigned long)(text[i] - '0');
	if (!i || text[i] || !value || value > 65535)
		return P2P_EINVAL;
	*port = (uint16_t)value;
	return 0;
}

int p2p_seeds_parse(const char *text, char *host, uint16_t *port)
{
	const char *colon = strrchr(text, ':');
	size_t len;

	if (!colon || strlen(text) >= P2P_SEED_TEXT_MAX || parse_port(colon + 1, port))
		return P2P_EINVAL;
	len = (size_t)(colon - text);
	if (text[0] == '[') {
		if (len < 3 || text[len - 1] != ']')
			return P2P_EINVAL;
		text++;
		len -= 2;
	} else if (memchr(text, ':', len)) {
		return P2P_EINVAL; /* an IPv6 address needs its brackets */
	}
	memcpy(host, text, len);
	host[len] = 0;
	return len ? 0 : P2P_EINVAL;
}

/* --- life ------------------------------------------------------------------------------------- */

int p2p_seeds_open(struct p2p_seeds **out, const struct p2p_seeds_config *config)
{
	struct p2p_seeds *seeds = p2p_calloc(1, sizeof(*seeds));

	if (!seeds)
		return P2P_ENOMEM;
	seeds->config = *config;
	*out = seeds;
	return 0;
}

static void seeds_gone(struct p2p_seeds *seeds)
{
	void (*closed)(void *ctx) = seeds->closed;
	void *ctx = seeds->closed_ctx;

	p2p_free(seeds);
	if (closed)
		closed(ctx);
}

void p2p_seeds_close(struct p2p_seeds *seeds, void (*closed)(void *ctx), void *ctx)
{
	size_t i;

	seeds->closing = true;
	seeds->closed = closed;
	seeds->closed_ctx = ctx;
	for (i = 0; i < P2P_SEEDS_MAX; i++)
		if (seeds->seeds[i].busy) /* one that runs already ends by itself */
			(void)uv_cancel((uv_req_t *)&seeds->seeds[i].request);
	if (!seeds->busy)
		seeds_gone(seeds);
}

int p2p_seeds_add(struct p2p_seeds *seeds, const char *text)
{
	char host[P2P_SEED_TEXT_MAX];
	struct seed *free = NULL;
	uint16_t port;
	size_t i;
	int rc = p2p_seeds_parse(text, host, &port);

	if (!rc && !is_name(host))
		rc = P2P_EINVAL;
	if (rc)
		return rc;
	for (i = 0; i < P2P_SEEDS_MAX; i++) {
		if (seeds->seeds[i].used && strcmp(seeds->seeds[i].text, text) == 0)
			return 0;
		if (!seeds->seeds[i].used && !free)
			free = &seeds->seeds[i];
	}
	if (!free)
		return P2P_ETOOBIG;
	memset(free, 0, sizeof(*free));
	free->seeds = seeds;
	free->used = true;
	free->port = port;
	(void)snprintf(free->text, sizeof(free->text), "%s", text);
	(void)snprintf(free->host, sizeof(free->host), "%s", host);
	return 0;
}

/* --- looking up ------------------------------------------------------------------------------- */

static void seed_failed(struct seed *seed, uint64_t now_ms, int status)
{
	unsigned int shift = seed->failures < 6 ? seed->failures : 6;

	if (!seed->failures++)
		p2p_log(seed->seeds->config.log, P2P_LOG_WARN, "discovery",
			"seed %s: the name is not found (%s); it is looked up again", seed->text,
			uv_strerror(status));
	seed->next_ms = now_ms + ((uint64_t)FAILED_MIN_MS << shift);
}

static void seed_found(struct seed *seed, const struct addrinfo *list)
{
	const struct p2p_seeds_config *config = &seed->seeds->config;
	struct p2p_address address;
	size_t count = 0;

	seed->failures = 0;
	for (; list && count < P2P_SEED_ADDRESSES_MAX; list = list->ai_next) {
		if (p2p_address_from_sockaddr(&address, list->ai_addr))
			continue;
		p2p_address_set_port(&address, seed->port);
		config->found(config->ctx, seed->text, &address);
		count++;
	}
}

static void resolved_cb(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
	struct seed *seed = request->data;
	struct p2p_seeds *seeds = seed->seeds;
	uint64_t now_ms = p2p_env_now(seeds->config.env).ms;

	seed->busy = false;
	seeds->busy--;
	if (!seeds->closing) {
		seed->next_ms = now_ms + P2P_RESOLVE_AGAIN_MS;
		if (status)
			seed_failed(seed, now_ms, status);
		else
			seed_found(seed, list);
	}
	uv_freeaddrinfo(list);
	if (seeds->closing && !seeds->busy)
		seeds_gone(seeds);
}

static void seed_resolve(struct seed *seed, uint64_t now_ms)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	int rc;

	seed->request.data = seed;
	rc = uv_getaddrinfo(seed->seeds->config.loop, &seed->request, resolved_cb, seed->host, NULL,
			    &hints);
	if (rc) {
		seed_failed(seed, now_ms, rc);
		return;
	}
	seed->busy = true;
	seed->seeds->busy++;
}

struct p2p_time p2p_seeds_tick(struct p2p_seeds *seeds, struct p2p_time now)
{
	struct p2p_time next = {UINT64_MAX};
	size_t i;

	for (i = 0; i < P2P_SEEDS_MAX; i++) {
		struct seed *seed = &seeds->seeds[i];

		if (!seed->used || seed->busy)
			continue;
		if (seed->next_ms <= now.ms && seeds->busy < P2P_RESOLVES_MAX)
			seed_resolve(seed, now.ms);
		if (!seed->busy && seed->next_ms < next.ms)
			next.ms = seed->next_ms > now.ms ? seed->next_ms : now.ms + FAILED_MIN_MS;
	}
	return next;
}
