/* Status, tables, peers and members as JSON and as text; see verbs.h. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "proto/json.h"
#include "node/session.h"
#include "node/verbs.h"
#include "proto/check.h"

static void print(struct p2p_buf *out, const char *fmt, ...) P2P_PRINTF(2, 3);

static void print(struct p2p_buf *out, const char *fmt, ...)
{
	char line[1024], *at, *end;
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (len <= 0)
		return;
	for (at = line; (end = strchr(at, '\n'));
	     at = end + 1) { /* lines are ours, names are not */
		*end = 0;
		p2p_text_clean(at);
		*end = '\n';
	}
	p2p_text_clean(at);
	p2p_buf_put(out, line, strlen(line));
}

/* ---- tables --------------------------------------------------------------------------------- */

static int table_json(void *ctx, const struct p2p_table_row *row)
{
	struct p2p_json *json = ctx;

	p2p_json_begin_object(json);
	p2p_json_put_string(json, "name", row->name);
	p2p_json_put_u64(json, "rows", row->rows);
	p2p_json_put_string(json, "identity", row->generated ? "generated" : "key");
	p2p_json_put_string(json, "state", row->state);
	p2p_json_put_string(json, "reason", row->reason);
	p2p_json_end_object(json);
	return 0;
}

static int put_tables(struct p2p_node *node, struct p2p_json *json)
{
	int rc;

	p2p_json_key(json, "tables");
	p2p_json_begin_array(json);
	rc = p2p_collect_tables(node, table_json, json);
	p2p_json_end_array(json);
	return rc;
}

static int table_text(void *ctx, const struct p2p_table_row *row)
{
	struct p2p_buf *out = ctx;

	print(out, "table %s %s %" PRIu64 " rows, identity %s%s%s\n", row->name, row->state,
	      row->rows, row->generated ? "generated" : "key", row->reason[0] ? ": " : "",
	      row->reason);
	return 0;
}

/* ---- peers ---------------------------------------------------------------------------------- */

static int peer_json(void *ctx, const struct p2p_peer_row *row)
{
	struct p2p_json *json = ctx;

	p2p_json_begin_object(json);
	if (p2p_key_is_zero(&row->node))
		p2p_json_put_string(json, "node", "");
	else
		p2p_json_put_hex(json, "node", row->node.bytes, P2P_KEY_BYTES);
	p2p_json_put_string(json, "name", row->name);
	p2p_json_put_string(json, "address", row->address);
	p2p_json_put_string(json, "link", "tcp");
	p2p_json_put_string(json, "state", row->state);
	p2p_json_put_u64(json, "behind", row->behind);
	p2p_json_put_u64(json, "ahead", row->ahead);
	p2p_json_put_u64(json, "acked_seq", row->acked_seq);
	p2p_json_put_u64(json, "rtt_ms", row->rtt_ms);
	p2p_json_put_string(json, "last_error", row->last_error);
	p2p_json_end_object(json);
	return 0;
}

static int put_peers(struct p2p_node *node, struct p2p_json *json)
{
	int rc;

	p2p_json_key(json, "peers");
	p2p_json_begin_array(json);
	rc = p2p_collect_peers(node, peer_json, json);
	p2p_json_end_array(json);
	return rc;
}

static int peer_text(void *ctx, const struct p2p_peer_row *row)
{
	struct p2p_buf *out = ctx;
	bool known = !p2p_key_is_zero(&row->node);

	print(out, "peer %s%s%s %s%s%s", known ? p2p_key_text(&row->node).text : row->address,
	      row->name[0] ? " " : "", row->name, row->state,
	      known && row->address[0] ? " at " : "", known ? row->address : "");
	if (row->behind || row->ahead)
		print(out, ", it lacks %" PRIu64 ", we lack %" PRIu64, row->behind, row->ahead);
	print(out, "%s%s\n", row->last_error[0] ? ", last error: " : "", row->last_error);
	return 0;
}

/* ---- members -------------------------------------------------------------------------------- */

int p2p_status_members_json(struct p2p_node *node, struct p2p_buf *out)
{
	struct p2p_authority *authority = p2p_replica_authority(node->replica);
	struct p2p_member member;
	struct p2p_json json;
	size_t i;

	p2p_json_init(&json, out);
	p2p_json_begin_object(&json);
	p2p_json_put_u64(&json, "schema", 1);
	p2p_json_key(&json, "members");
	p2p_json_begin_array(&json);
	for (i = 0; p2p_authority_member(authority, i, &member); i++) {
		p2p_json_begin_object(&json);
		p2p_json_put_hex(&json, "node", member.node.bytes, P2P_KEY_BYTES);
		p2p_json_put_string(&json, "name", member.name);
		p2p_json_put_string(&json, "role", p2p_role_name(member.role));
		p2p_json_put_hex(&json, "admitted_by", member.admitted_by.bytes, P2P_KEY_BYTES);
		p2p_json_put_bool(&json, "self", p2p_key_cmp(&member.node, &node->keys.node) == 0);
		p2p_json_end_object(&json);
	}
	p2p_json_end_array(&json);
	p2p_json_end_object(&json);
	return p2p_buf_error(out);
}

int p2p_status_members_text(struct p2p_node *node, struct p2p_buf *out)
{
	struct p2p_authority *authority = p2p_replica_authority(node->replica);
	struct p2p_member member;
	size_t i;

	for (i = 0; p2p_authority_member(authority, i, &member); i++)
		print(out, "member %s %s %s%s\n", p2p_key_text(&member.node).text,
		      p2p_role_name(member.role), member.name,
		      p2p_key_cmp(&member.node, &node->keys.node) == 0 ? " (this node)" : "");
	return p2p_buf_error(out);
}

/* ---- whole ---------------------------------------------------------------------------------- */

static void put_listen(struct p2p_node *node, struct p2p_json *json)
{
	size_t i;
	char text[64];

	p2p_json_key(json, "listen");
	p2p_json_begin_array(json);
	for (i = 0; node->net && i < p2p_net_listener_count(node->net); i++) {
		p2p_net_listener_text(node->net, i, text);
		p2p_json_string(json, text);
	}
	p2p_json_end_array(json);
}

int p2p_status_json(struct p2p_node *node, struct p2p_buf *out)
{
	struct p2p_replica_status status;
	struct p2p_json json;
	int rc = p2p_replica_status(node->replica, &status);

	if (rc)
		return rc;
	p2p_json_init(&json, out);
	p2p_json_begin_object(&json);
	p2p_json_put_u64(&json, "schema", 1);
	p2p_json_put_bool(&json, "running", p2p_node_running(node));
	p2p_json_put_u64(&json, "pid", p2p_node_running(node) ? (uint64_t)getpid() : 0);
	p2p_json_put_string(&json, "version", P2P_VERSION);
	p2p_json_put_hex(&json, "mesh", p2p_node_mesh(node)->bytes, P2P_HASH_BYTES);
	p2p_json_put_hex(&json, "node", node->keys.node.bytes, P2P_KEY_BYTES);
	p2p_json_put_string(&json, "name", node->name);
	p2p_json_put_hex(&json, "replica", p2p_replica_id(node->replica)->bytes, P2P_ID_BYTES);
	put_listen(node, &json);
	p2p_json_put_bool(&json, "in_sync", p2p_collect_in_sync(node, &status));
	p2p_json_put_u64(&json, "waiting", status.waiting);
	p2p_json_put_hex(&json, "digest", status.digest.bytes, P2P_HASH_BYTES);
	p2p_json_put_u64(&json, "seq", status.seq);
	p2p_json_put_u64(&json, "journal", status.journal);
	p2p_json_put_u64(&json, "parked", status.parked);
	p2p_json_put_u64(&json, "conflicts", status.conflicts);
	rc = put_tables(node, &json);
	if (!rc)
		rc = put_peers(node, &json);
	p2p_json_put_u64(&json, "merge_pending", status.merge_pending);
	p2p_json_put_u64(&json, "hold_us_max", status.hold_us_max);
	p2p_json_put_string(&json, "last_error", status.last_error ? status.last_error_text : "");
	p2p_json_end_object(&json);
	return rc ? rc : p2p_buf_error(out);
}

static int one_list(struct p2p_node *node, struct p2p_buf *out,
		    int (*put)(struct p2p_node *, struct p2p_json *))
{
	struct p2p_json json;
	int rc;

	p2p_json_init(&json, out);
	p2p_json_begin_object(&json);
	p2p_json_put_u64(&json, "schema", 1);
	rc = put(node, &json);
	p2p_json_end_object(&json);
	return rc ? rc : p2p_buf_error(out);
}

int p2p_status_tables_json(struct p2p_node *node, struct p2p_buf *out)
{
	return one_list(node, out, put_tables);
}

int p2p_status_peers_json(struct p2p_node *node, struct p2p_buf *out)
{
	return one_list(node, out, put_peers);
}

int p2p_status_tables_text(struct p2p_node *node, struct p2p_buf *out)
{
	int rc = p2p_collect_tables(node, table_text, out);

	return rc ? rc : p2p_buf_error(out);
}

int p2p_status_peers_text(struct p2p_node *node, struct p2p_buf *out)
{
	int rc = p2p_collect_peers(node, peer_text, out);

	return rc ? rc : p2p_buf_error(out);
}

int p2p_status_text(struct p2p_node *node, struct p2p_buf *out)
{
	struct p2p_replica_status status;
	char mesh[2 * P2P_HASH_BYTES + 1], digest[2 * P2P_HASH_BYTES + 1], address[64];
	size_t i;
	int rc = p2p_replica_status(node->replica, &status);

	if (rc)
		return rc;
	p2p_hex(mesh, p2p_node_mesh(node)->bytes, P2P_HASH_BYTES);
	p2p_hex(digest, status.digest.bytes, P2P_HASH_BYTES);
	print(out, "mesh %s\nnode %s %s\n", mesh, p2p_key_text(&node->keys.node).text, node->name);
	if (p2p_node_running(node))
		print(out, "running, pid %ld\n", (long)getpid());
	else
		print(out, "not running\n");
	for (i = 0; node->net && i < p2p_net_listener_count(node->net); i++) {
		p2p_net_listener_text(node->net, i, address);
		print(out, "listens on %s\n", address);
	}
	print(out, "%s\n", p2p_collect_in_sync(node, &status) ? "in sync" : "not in sync");
	print(out,
	      "digest %s\nseq %" PRIu64 ", not sealed %" PRIu64 ", waiting %" PRIu64
	      ", parked %" PRIu64 ", conflicts %" PRIu64 "\n",
	      digest, status.seq, status.journal, status.waiting, status.parked, status.conflicts);
	if (status.last_error)
		print(out, "trouble: %s\n", status.last_error_text);
	rc = p2p_status_tables_text(node, out);
	return rc ? rc : p2p_status_peers_text(node, out);
}
