/* What the command line can ask of a node, running (over the control socket) or not (opened
 * offline for one verb): one implementation for both. */
#ifndef P2P_NODE_VERBS_H
#define P2P_NODE_VERBS_H

#include "node/node.h"

/* Runs one verb, argv[0] its name, and appends its output to out. Returns 0 or an error with a
 * text; P2P_EINVAL for what is no verb. On the node's thread. "wait" is not one of these. */
int p2p_verb_run(struct p2p_node *node, size_t argc, const char *const *argv, struct p2p_buf *out,
		 struct p2p_error *err) P2P_MUST_CHECK;

/* status.c */
/* The object of `status --json`, and the parts of it. P2P_ENOMEM, P2P_ETOOBIG, or of the replica.
 */
int p2p_status_json(struct p2p_node *node, struct p2p_buf *out) P2P_MUST_CHECK;
int p2p_status_tables_json(struct p2p_node *node, struct p2p_buf *out) P2P_MUST_CHECK;
int p2p_status_peers_json(struct p2p_node *node, struct p2p_buf *out) P2P_MUST_CHECK;
int p2p_status_members_json(struct p2p_node *node, struct p2p_buf *out) P2P_MUST_CHECK;
/* The same for people. */
int p2p_status_text(struct p2p_node *node, struct p2p_buf *out) P2P_MUST_CHECK;
int p2p_status_tables_text(struct p2p_node *node, struct p2p_buf *out) P2P_MUST_CHECK;
int p2p_status_peers_text(struct p2p_node *node, struct p2p_buf *out) P2P_MUST_CHECK;
int p2p_status_members_text(struct p2p_node *node, struct p2p_buf *out) P2P_MUST_CHECK;

/* conflicts.c: what lost in merges. */
int p2p_conflicts_json(struct p2p_node *node, struct p2p_buf *out) P2P_MUST_CHECK;
int p2p_conflicts_text(struct p2p_node *node, struct p2p_buf *out) P2P_MUST_CHECK;
/* text: the number of one. */
int p2p_conflicts_verb_restore(struct p2p_node *node, const char *text,
			       struct p2p_error *err) P2P_MUST_CHECK;

/* collect.c: what the above shows. */
struct p2p_table_row {
	char name[129];
	uint64_t rows;
	bool generated;
	const char *state; /* "live", "waiting", "refused" */
	char reason[200];
};
struct p2p_peer_row {
	struct p2p_key node; /* zero: an address where nobody is known */
	char name[P2P_NAME_MAX + 1];
	char address[P2P_ADDRESS_TEXT_MAX];
	const char *state; /* "online", "syncing", "connecting", "retrying", "error", "offline" */
	uint64_t behind, ahead, acked_seq, rtt_ms;
	char last_error[160];
};
int p2p_collect_tables(struct p2p_node *node,
		       int (*each)(void *ctx, const struct p2p_table_row *row),
		       void *ctx) P2P_MUST_CHECK;
int p2p_collect_peers(struct p2p_node *node, int (*each)(void *ctx, const struct p2p_peer_row *row),
		      void *ctx) P2P_MUST_CHECK;
/* Nothing unsealed, nothing waiting, every other member that is connected level, and at least one
 * connected unless this node is alone in its mesh. */
bool p2p_collect_in_sync(struct p2p_node *node, const struct p2p_replica_status *status);

#endif
