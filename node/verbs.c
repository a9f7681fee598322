/* The verbs of the command line; see verbs.h. */
#include "node/verbs.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/check.h"

struct verb {
	const char *name;
	size_t min, max; /* arguments after the name */
	int (*run)(struct p2p_node *node, size_t argc, const char *const *argv, struct p2p_buf *out,
		   struct p2p_error *err);
};

static void put_line(struct p2p_buf *out, const char *text)
{
	p2p_buf_put(out, text, strlen(text));
	p2p_buf_put_u8(out, '\n');
}

/* "json" or "text" picks the writer. */
static int show(struct p2p_node *node, const char *format, struct p2p_buf *out,
		int (*json)(struct p2p_node *, struct p2p_buf *),
		int (*text)(struct p2p_node *, struct p2p_buf *), struct p2p_error *err)
{
	bool as_json = strcmp(format, "json") == 0;
	int rc = (as_json ? json : text)(node, out);

	if (rc)
		return p2p_error_set(err, rc, "%s", p2p_strerror(rc));
	if (as_json)
		put_line(out, "");
	return p2p_buf_error(out);
}

static int verb_status(struct p2p_node *node, size_t argc, const char *const *argv,
		       struct p2p_buf *out, struct p2p_error *err)
{
	(void)argc;
	return show(node, argv[1], out, p2p_status_json, p2p_status_text, err);
}

static int verb_tables(struct p2p_node *node, size_t argc, const char *const *argv,
		       struct p2p_buf *out, struct p2p_error *err)
{
	(void)argc;
	return show(node, argv[1], out, p2p_status_tables_json, p2p_status_tables_text, err);
}

static int verb_peers(struct p2p_node *node, size_t argc, const char *const *argv,
		      struct p2p_buf *out, struct p2p_error *err)
{
	(void)argc;
	return show(node, argv[1], out, p2p_status_peers_json, p2p_status_peers_text, err);
}

static int verb_members(struct p2p_node *node, size_t argc, const char *const *argv,
			struct p2p_buf *out, struct p2p_error *err)
{
	(void)argc;
	return show(node, argv[1], out, p2p_status_members_json, p2p_status_members_text, err);
}

static int verb_conflicts(struct p2p_node *node, size_t argc, const char *const *argv,
			  struct p2p_buf *out, struct p2p_error *err)
{
	(void)argc;
	return show(node, argv[1], out, p2p_conflicts_json, p2p_conflicts_text, err);
}

static int verb_restore(struct p2p_node *node, size_t argc, const char *const *argv,
			struct p2p_buf *out, struct p2p_error *err)
{
	int rc = p2p_conflicts_verb_restore(node, argv[1], err);

	(void)argc;
	p2p_node_kick(node);
	if (!rc)
		put_line(out, "restored");
	return rc;
}

static int verb_vector(struct p2p_node *node, size_t argc, const char *const *argv,
		       struct p2p_buf *out, struct p2p_error *err)
{
	struct p2p_vv vector;
	int rc = p2p_replica_freeze(node->replica, err);

	(void)argc;
	(void)argv;
	if (rc)
		return rc;
	p2p_vv_init(&vector);
	rc = p2p_replica_vector(node->replica, &vector);
	if (!rc) {
		p2p_vv_text(&vector, out);
		put_line(out, "");
		rc = p2p_buf_error(out);
	}
	p2p_vv_deinit(&vector);
	p2p_node_kick(node);
	return rc ? p2p_error_set(err, rc, "vector: %s", p2p_strerror(rc)) : 0;
}

static int verb_enable(struct p2p_node *node, size_t argc, const char *const *argv,
		       struct p2p_buf *out, struct p2p_error *err)
{
	const char *refs[P2P_NAMED_MAX], *counters[P2P_NAMED_MAX];
	struct p2p_enable wish = {.refs = refs, .counters = counters};
	size_t at = 1;
	int rc;

	/* [--ref COL=PARENT]... [--counter COL]... [--] TABLE... */
	for (; at + 1 < argc && strcmp(argv[at], "--ref") == 0 && wish.ref_count < P2P_NAMED_MAX;
	     at += 2)
		refs[wish.ref_count++] = argv[at + 1];
	for (; at + 1 < argc && strcmp(argv[at], "--counter") == 0 &&
	       wish.counter_count < P2P_NAMED_MAX;
	     at += 2)
		counters[wish.counter_count++] = argv[at + 1];
	at += at < argc && strcmp(argv[at], "--") == 0;
	if (at == argc)
		return p2p_error_set(err, P2P_EINVAL, "enable: no table is named");
	wish.names = argv + at;
	wish.count = argc - at;
	rc = p2p_replica_enable_as(node->replica, &wish, err);
	p2p_node_kick(node);
	if (!rc)
		put_line(out, "enabled");
	return rc;
}

static int verb_disable(struct p2p_node *node, size_t argc, const char *const *argv,
			struct p2p_buf *out, struct p2p_error *err)
{
	int rc = p2p_replica_disable(node->replica, argv + 1, argc - 1, err);

	p2p_node_kick(node);
	if (!rc)
		put_line(out, "disabled");
	return rc;
}

static int verb_rescan(struct p2p_node *node, size_t argc, const char *const *argv,
		       struct p2p_buf *out, struct p2p_error *err)
{
	uint64_t rows = 0;
	char line[64];
	int rc =
		p2p_replica_rescan(node->replica, argc > 1 ? argv + 1 : NULL, argc - 1, &rows, err);

	p2p_node_kick(node);
	if (rc)
		return rc;
	(void)snprintf(line, sizeof(line), "rescanned: %" PRIu64 " rows differed", rows);
	put_line(out, line);
	return 0;
}

static int verb_verify(struct p2p_node *node, size_t argc, const char *const *argv,
		       struct p2p_buf *out, struct p2p_error *err)
{
	uint64_t changesets = 0, rows = 0;
	char line[96];
	int rc = p2p_replica_verify(node->replica, &changesets, &rows, err);

	(void)argc;
	(void)argv;
	if (rc)
		return rc;
	(void)snprintf(line, sizeof(line),
		       "verified %" PRIu64 " changesets and %" PRIu64 " rows: all is well",
		       changesets, rows);
	put_line(out, line);
	return 0;
}

/* USES EXPIRES_MS ROLE NO_ADDRESSES, all written by our own command line */
static int verb_invite(struct p2p_node *node, size_t argc, const char *const *argv,
		       struct p2p_buf *out, struct p2p_error *err)
{
	struct p2p_invite_request request = {
		.uses = (uint32_t)strtoul(argv[1], NULL, 10),
		.expires_ms = strtoull(argv[2], NULL, 10),
		.no_addresses = strcmp(argv[4], "1") == 0,
	};
	char ticket[P2P_TICKET_TEXT_MAX];
	int rc = p2p_role_parse(argv[3], &request.role, err);

	(void)argc;
	if (!rc)
		rc = p2p_invite_make(node, &request, ticket, err);
	if (rc)
		return rc;
	p2p_buf_put(out, "ticket ", 7);
	put_line(out, ticket);
	return 0;
}

static int verb_poke(struct p2p_node *node, size_t argc, const char *const *argv,
		     struct p2p_buf *out, struct p2p_error *err)
{
	(void)argc;
	(void)argv;
	(void)out;
	(void)err;
	p2p_node_poll(node);
	return 0;
}

static const struct verb verbs[] = {
	{"status", 1, 1, verb_status},
	{"tables", 1, 1, verb_tables},
	{"peers", 1, 1, verb_peers},
	{"members", 1, 1, verb_members},
	{"conflicts", 1, 1, verb_conflicts},
	{"restore", 1, 1, verb_restore},
	{"vector", 0, 0, verb_vector},
	{"enable", 1, P2P_TABLES_MAX + 4 * P2P_NAMED_MAX, verb_enable},
	{"disable", 1, P2P_TABLES_MAX, verb_disable},
	{"rescan", 0, P2P_TABLES_MAX, verb_rescan},
	{"verify", 0, 0, verb_verify},
	{"invite", 4, 4, verb_invite},
	{"poke", 0, 0, verb_poke},
};

int p2p_verb_run(struct p2p_node *node, size_t argc, const char *const *argv, struct p2p_buf *out,
		 struct p2p_error *err)
{
	size_t i;

	for (i = 0; argc > 0 && i < p2p_array_len(verbs); i++) {
		if (strcmp(verbs[i].name, argv[0]) != 0)
			continue;
		if (argc - 1 < verbs[i].min || argc - 1 > verbs[i].max)
			return p2p_error_set(err, P2P_EINVAL, "%s: wrong number of arguments",
					     argv[0]);
		if (!p2p_replica_member(node->replica) && strcmp(argv[0], "status") != 0)
			return p2p_error_set(err, P2P_ENOENT, "the join is not finished");
		return verbs[i].run(node, argc, argv, out, err);
	}
	return p2p_error_set(err, P2P_EINVAL, "no such request");
}
