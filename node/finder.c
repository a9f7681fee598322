/* discovery/ for this node: what it may say, whom it finds, how dials end. */
#include <stdio.h>
#include <string.h>

#include "discovery/discovery.h"
#include "node/node.h"
#include "proto/check.h"
#include "proto/mem.h"

struct p2p_finder {
	struct p2p_node *node; /* borrowed */
	struct p2p_discovery *discovery;
};

_Static_assert(P2P_INVITE_KEYS_MAX >= 1, "there is room for a ticket's key");

/* Fills the keys of our beacons: of the mesh, of open tickets; or of the ticket we hold. */
static size_t collect_secrets(const struct p2p_node *node,
			      struct p2p_beacon_secret out[1 + P2P_INVITE_KEYS_MAX])
{
	uint64_t wall = p2p_env_wall_ms(&node->env);
	size_t count = 0, i;

	if (!p2p_node_admitted(node)) {
		out[0].kind = P2P_SECRET_HELD;
		out[0].id = 1;
		memcpy(out[0].bytes, node->ticket.secret, P2P_KEY_BYTES);
		return 1;
	}
	out[count].kind = P2P_SECRET_EPOCH;
	out[count].id = 1;
	memcpy(out[count++].bytes, node->mesh_secret, P2P_KEY_BYTES);
	for (i = 0; i < node->invite_count && count < P2P_INVITE_KEYS_MAX; i++) {
		if (node->invites[i].uses_left == 0 || node->invites[i].expires_wall_ms <= wall)
			continue;
		out[count].kind = P2P_SECRET_ISSUED;
		out[count].id = (uint32_t)i + 2;
		memcpy(out[count++].bytes, node->invites[i].secret, P2P_KEY_BYTES);
	}
	return count;
}

static void dial_cb(void *ctx, const struct p2p_dial_request *dial)
{
	struct p2p_finder *finder = ctx;

	p2p_net_dial(finder->node, dial->id, &dial->address.sa, dial->text, dial->key);
}

static void event_cb(void *ctx, enum p2p_discovery_event event)
{
	struct p2p_finder *finder = ctx;
	struct p2p_node *node = finder->node;

	switch (event) {
	case P2P_DISCOVERY_UP:
		p2p_log(&node->log, P2P_LOG_INFO, "node", "discovery works");
		return;
	case P2P_DISCOVERY_DOWN:
		p2p_log(&node->log, P2P_LOG_INFO, "node",
			"no interface for discovery now; seeds are tried");
		return;
	case P2P_DISCOVERY_CHANGED:
		return;
	case P2P_DISCOVERY_CLONE:
		p2p_node_trouble(node, P2P_ECLONE,
				 "this node's key was heard from another process: was the state "
				 "directory copied?");
		return;
	}
}

struct add_context {
	struct p2p_finder *finder;
	enum p2p_source source;
};

static int add_seed(void *ctx, const char *address)
{
	struct add_context *add = ctx;
	int rc = p2p_discovery_add(add->finder->discovery, address, add->source, NULL);

	if (rc)
		p2p_log(&add->finder->node->log, P2P_LOG_WARN, "node", "seed %s: %s", address,
			p2p_strerror(rc));
	return rc == P2P_ENOMEM ? rc : 0;
}

static int add_peer(void *ctx, const struct p2p_known_peer *peer)
{
	struct add_context *add = ctx;

	if (peer->address[0] && p2p_key_cmp(&peer->node, &add->finder->node->keys.node) != 0)
		p2p_finder_claim(add->finder, peer->address, &peer->node);
	return 0;
}

/* Remembers the seeds that were given, then tries all that are known. */
static int add_known(struct p2p_finder *finder)
{
	struct p2p_node *node = finder->node;
	struct p2p_sidelog *log = p2p_replica_sidelog(node->replica);
	struct add_context add = {finder, P2P_SOURCE_SEED};
	size_t i;
	int rc = 0;

	if (node->seeds.count) {
		rc = p2p_sidelog_begin(log, NULL);
		for (i = 0; !rc && i < node->seeds.count; i++)
			rc = p2p_sidelog_put_seed(log, node->seeds.items[i]);
		if (!rc)
			rc = p2p_sidelog_commit(log, NULL);
		else if (p2p_sidelog_in_transaction(log))
			p2p_sidelog_rollback(log);
	}
	if (!rc)
		rc = p2p_sidelog_each_seed(log, add_seed, &add);
	if (!rc)
		rc = p2p_sidelog_each_peer(log, add_peer, &add);
	add.source = P2P_SOURCE_TICKET;
	for (i = 0; !rc && node->join != P2P_JOIN_NONE && i < node->ticket.address_count; i++) {
		char text[64];

		p2p_ticket_address_text(&node->ticket.addresses[i], text);
		rc = add_seed(&add, text);
	}
	return rc;
}

int p2p_finder_open(struct p2p_node *node, struct p2p_error *err)
{
	struct p2p_beacon_secret secrets[1 + P2P_INVITE_KEYS_MAX];
	struct p2p_finder *finder = p2p_calloc(1, sizeof(*finder));
	struct p2p_discovery_config config = {
		.env = &node->env,
		.log = &node->log,
		.loop = node->loop,
		.callbacks = {.ctx = finder, .dial = dial_cb, .event = event_cb},
		.key = node->keys.node,
		.instance = node->instance,
		.mesh = *p2p_node_mesh(node),
		.tcp_port = p2p_net_port(node->net),
		.secrets = secrets,
		.seeds = (const char *const *)node->seeds.items,
		.seeds_count = node->seeds.count,
		.interfaces = (const char *const *)node->interfaces.items,
		.interfaces_count = node->interfaces.count,
		.off = node->no_discovery,
		.loopback_only = p2p_net_loopback_only(node->net),
	};
	int rc;

	if (!finder)
		return p2p_error_set(err, P2P_ENOMEM, "out of memory");
	finder->node = node;
	config.secrets_count = collect_secrets(node, secrets);
	rc = p2p_discovery_start(&finder->discovery, &config, err);
	memset(secrets, 0, sizeof(secrets));
	if (rc) {
		p2p_free(finder);
		return p2p_error_wrap(err, rc, "discovery");
	}
	node->finder = finder;
	node->pending++;
	rc = add_known(finder);
	if (rc)
		return p2p_error_set(err, rc, "known addresses: %s", p2p_strerror(rc));
	p2p_finder_refresh(finder);
	return 0;
}

static void finder_stopped(void *ctx)
{
	struct p2p_finder *finder = ctx;
	struct p2p_node *node = finder->node;

	p2p_free(finder);
	p2p_node_part_closed(node);
}

void p2p_finder_close(struct p2p_finder *finder)
{
	finder->node->finder = NULL;
	p2p_discovery_stop(finder->discovery, finder_stopped, finder);
}

void p2p_finder_dialed(struct p2p_finder *finder, uint32_t id, int status,
		       const struct p2p_key *key, const struct p2p_id *instance)
{
	if (finder && id)
		p2p_discovery_dialed(finder->discovery, id, status, key, instance);
}

void p2p_finder_up(struct p2p_finder *finder, const struct p2p_key *key)
{
	if (finder)
		p2p_discovery_session_up(finder->discovery, key);
}

void p2p_finder_down(struct p2p_finder *finder, const struct p2p_key *key)
{
	if (finder)
		p2p_discovery_session_down(finder->discovery, key);
}

void p2p_finder_claim(struct p2p_finder *finder, const char *address, const struct p2p_key *key)
{
	int rc = finder ? p2p_discovery_add(finder->discovery, address, P2P_SOURCE_CLAIM, key) : 0;

	/* the book is full, or it was dialled by name: the peer can still be heard */
	if (rc && rc != P2P_EINVAL)
		p2p_log(&finder->node->log, P2P_LOG_DEBUG, "node", "address %s: %s", address,
			p2p_strerror(rc));
}

void p2p_finder_refresh(struct p2p_finder *finder)
{
	struct p2p_beacon_secret secrets[1 + P2P_INVITE_KEYS_MAX];
	int rc;

	if (!finder)
		return;
	rc = p2p_discovery_set_secrets(finder->discovery, secrets,
				       collect_secrets(finder->node, secrets));
	memset(secrets, 0, sizeof(secrets));
	if (rc)
		p2p_log(&finder->node->log, P2P_LOG_WARN, "node", "discovery keys: %s",
			p2p_strerror(rc));
	p2p_discovery_set_members(finder->discovery,
				  p2p_authority_member_count(
					  p2p_replica_authority(finder->node->replica)));
}
