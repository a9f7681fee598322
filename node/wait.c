/* Callers that wait until this node and its peers are level. */
#include <stdio.h>

#include "node/session.h"
#include "proto/check.h"

/* While somebody waits, conditions that no event announces are asked that often. */
#define WAIT_POLL_MS 5

/* What is still missing, as a text; NULL: nothing. */
static const char *missing(struct p2p_node *node, const struct p2p_wait *wait, char *text,
			   size_t size)
{
	struct p2p_sync *sync = p2p_replica_sync(node->replica);
	size_t up = p2p_contacts_count(node, false), level, need;
	struct p2p_replica_status status;

	if (!sync || node->join != P2P_JOIN_NONE)
		return "the join is not finished";
	need = wait->peers ? wait->peers : up ? up : 1;
	level = p2p_sync_peers_level(sync);
	if (p2p_contacts_count(node, true) < need) {
		(void)snprintf(text, size, "%zu of %zu peers connected",
			       p2p_contacts_count(node, true), need);
		return text;
	}
	if (wait->has_need && !p2p_replica_covers(node->replica, &wait->need))
		return "changes of the given vector are missing here";
	if (level < need) {
		(void)snprintf(text, size, "%zu of %zu peers have everything and lack nothing here",
			       level, need);
		return text;
	}
	if (p2p_replica_status(node->replica, &status))
		return "the state of the database cannot be read";
	if (status.journal)
		return "own writes are not sealed yet";
	if (status.looking) {
		p2p_replica_look_now(node->replica);
		return "rows that INSERT OR REPLACE pushed out are looked for";
	}
	if (status.numbering)
		return "rows that lost their number are being given another one";
	if (status.merge_pending)
		return "changes of others are not merged yet";
	return NULL;
}

void p2p_wait_add(struct p2p_node *node, struct p2p_wait *wait, uint32_t timeout_ms)
{
	wait->deadline.ms = p2p_env_now(&node->env).ms + timeout_ms;
	p2p_list_push(&node->waits, &wait->link);
	p2p_node_poll(node);
	p2p_node_kick(node);
}

void p2p_wait_remove(struct p2p_wait *wait)
{
	p2p_list_remove(&wait->link);
}

void p2p_wait_check(struct p2p_node *node, struct p2p_time now)
{
	struct p2p_list *at, *tmp;
	char text[128];

	p2p_list_for_each (at, tmp, &node->waits) {
		struct p2p_wait *wait = p2p_container_of(at, struct p2p_wait, link);
		const char *why = missing(node, wait, text, sizeof(text));

		if (why && now.ms < wait->deadline.ms)
			continue;
		p2p_list_remove(&wait->link);
		wait->done(wait, why ? P2P_ETIMEOUT : 0, why ? why : "");
	}
}

struct p2p_time p2p_wait_deadline(const struct p2p_node *node, struct p2p_time now)
{
	struct p2p_time next = {UINT64_MAX};

	if (!p2p_list_empty(&node->waits))
		next.ms = now.ms + WAIT_POLL_MS;
	return next;
}

void p2p_wait_cancel_all(struct p2p_node *node)
{
	struct p2p_list *at, *tmp;

	p2p_list_for_each (at, tmp, &node->waits) {
		struct p2p_wait *wait = p2p_container_of(at, struct p2p_wait, link);

		p2p_list_remove(&wait->link);
		wait->done(wait, P2P_ECANCELED, "the node stops");
	}
}
