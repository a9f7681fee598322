/* The verb `conflicts`: what lost in merges, as JSON and for people. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crdt/conflicts.h"
#include "node/verbs.h"
#include "proto/json.h"

static void put_object(struct p2p_json *json, const char *key, const char *text)
{
	p2p_json_key(json, key);
	p2p_json_raw(json, text, strlen(text)); /* made by crdt/conflicts.c */
}

static int entry_json(void *ctx, const struct p2p_conflict *conflict)
{
	struct p2p_json *json = ctx;

	p2p_json_begin_object(json);
	p2p_json_key(json, "id");
	p2p_json_i64(json, conflict->id);
	p2p_json_put_string(json, "kind", conflict->kind);
	p2p_json_put_string(json, "table", conflict->table);
	put_object(json, "row", conflict->row);
	put_object(json, "kept", conflict->kept);
	put_object(json, "lost", conflict->lost);
	p2p_json_put_string(json, "origin", conflict->origin);
	p2p_json_put_string(json, "time", conflict->time);
	if (conflict->reason[0])
		p2p_json_put_string(json, "reason", conflict->reason);
	p2p_json_end_object(json);
	return p2p_buf_error(json->out);
}

int p2p_conflicts_json(struct p2p_node *node, struct p2p_buf *out)
{
	struct p2p_json json;
	int rc;

	p2p_json_init(&json, out);
	p2p_json_begin_object(&json);
	p2p_json_put_u64(&json, "schema", 1);
	p2p_json_key(&json, "conflicts");
	p2p_json_begin_array(&json);
	rc = p2p_conflicts_each(p2p_replica_store(node->replica), entry_json, &json);
	p2p_json_end_array(&json);
	p2p_json_end_object(&json);
	return rc ? rc : p2p_buf_error(out);
}

static void put_text(struct p2p_buf *out, const char *text)
{
	p2p_buf_put(out, text, strlen(text));
}

static int entry_text(void *ctx, const struct p2p_conflict *conflict)
{
	struct p2p_buf *out = ctx;
	char head[128];

	(void)snprintf(head, sizeof(head), "%" PRId64 "  %s  %s  by %.8s  ", conflict->id,
		       conflict->time, conflict->kind, conflict->origin);
	put_text(out, head);
	put_text(out, conflict->table);
	put_text(out, " ");
	put_text(out, conflict->row);
	if (conflict->reason[0]) {
		put_text(out, "\n    ");
		put_text(out, conflict->reason);
	}
	put_text(out, "\n    lost ");
	put_text(out, conflict->lost);
	put_text(out, "\n    kept ");
	put_text(out, strcmp(conflict->kept, "{}") == 0 ? "nothing: the row was deleted"
							: conflict->kept);
	put_text(out, "\n");
	return p2p_buf_error(out);
}

int p2p_conflicts_text(struct p2p_node *node, struct p2p_buf *out)
{
	size_t before = out->len;
	int rc = p2p_conflicts_each(p2p_replica_store(node->replica), entry_text, out);

	if (rc)
		return rc;
	put_text(out, out->len == before
			      ? "no conflicts\n"
			      : "p2pnode conflicts DB --restore ID writes a lost side back\n");
	return p2p_buf_error(out);
}

int p2p_conflicts_verb_restore(struct p2p_node *node, const char *text, struct p2p_error *err)
{
	char *end;
	int64_t id = strtoll(text, &end, 10);

	if (!text[0] || *end)
		return p2p_error_set(err, P2P_EINVAL, "'%.40s' is no number of a conflict", text);
	return p2p_replica_restore(node->replica, id, err);
}
