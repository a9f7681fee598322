/* The calls of p2pnode.h that ask a node for something. Lifecycle is in node.c. */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "node/verbs.h"
#include "proto/check.h"
#include "proto/mem.h"

// clang-format off
/* The public codes are those of proto/error.h under a name of their own. */
#define X(name, code, blame, text) \
	_Static_assert((int)P2P_NODE_##name == (code), "the public number of " #name);
P2P_ERRORS(X)
#undef X
// clang-format on
_Static_assert((int)P2P_NODE_LOG_DEBUG == (int)P2P_LOG_DEBUG, "levels are the same");

const char *p2p_node_version(void)
{
	return P2P_VERSION;
}

const char *p2p_node_strerror(int code)
{
	return p2p_strerror(code);
}

void p2p_node_options_init(p2p_node_options *options, size_t size)
{
	p2p_node_options defaults = {0};

	defaults.size = size;
	defaults.apply_interval_ms = 100;
	defaults.log_level = P2P_NODE_LOG_WARN;
	memset(options, 0, size);
	memcpy(options, &defaults, size < sizeof(defaults) ? size : sizeof(defaults));
}

void p2p_node_free(void *ptr)
{
	p2p_free(ptr);
}

static int finish(int rc, const struct p2p_error *err, char *error, size_t size)
{
	if (rc)
		p2p_node_copy_error(error, size, err, rc);
	return rc;
}

struct member_call {
	struct p2p_node *node;
	bool member;
};

static void member_on_loop(void *ctx)
{
	struct member_call *call = ctx;

	call->member = p2p_node_admitted(call->node);
}

int p2p_node_is_member(p2p_node *node)
{
	struct member_call call = {node, false};

	return p2p_node_call(node, member_on_loop, &call) == 0 && call.member;
}

/* ---- share ---------------------------------------------------------------------------------- */

/* Named tables must be there and fit, before anything is made. */
static int check_tables(struct p2p_node *node, const char *const *tables, size_t count,
			struct p2p_error *err)
{
	size_t i;

	for (i = 0; i < count; i++) {
		struct p2p_table table;
		int rc = p2p_schema_read_table(p2p_store_db(p2p_replica_store(node->replica)),
					       tables[i], &table, err);

		if (rc == P2P_ENOENT)
			return p2p_error_set(err, rc, "there is no table '%.100s'", tables[i]);
		if (rc)
			return rc;
		if (table.state == P2P_TABLE_REFUSED)
			rc = p2p_error_set(err, P2P_EREFUSED, "table '%.60s': %s", tables[i],
					   table.reason ? table.reason : "cannot be replicated");
		p2p_table_deinit(&table);
		if (rc)
			return rc;
	}
	return 0;
}

/* File name of the database, as joiners will call theirs. */
static void mesh_name(const struct p2p_node *node, char out[P2P_NAME_MAX + 1])
{
	const char *slash = strrchr(node->db_path, '/');

	(void)snprintf(out, P2P_NAME_MAX + 1, "%s", slash ? slash + 1 : node->db_path);
	if (!p2p_ticket_name_ok(out))
		(void)snprintf(out, P2P_NAME_MAX + 1, "shared.db");
}

static int found(struct p2p_node *node, struct p2p_error *err)
{
	char name[P2P_NAME_MAX + 1];
	int rc;

	/* the secret first: a mesh without its secret could never grow */
	if (!node->has_secret) {
		p2p_env_random(&node->env, node->mesh_secret, P2P_KEY_BYTES);
		rc = p2p_secret_store(node->state_fd, node->mesh_secret, err);
		if (rc)
			return rc;
		node->has_secret = true;
	}
	mesh_name(node, name);
	return p2p_replica_found(node->replica, name, err);
}

static int enable_missing(struct p2p_node *node, const struct p2p_enable *wish,
			  struct p2p_error *err)
{
	const char *const *tables = wish->names;
	size_t i, count = wish->count;
	int rc = 0;

	if (wish->ref_count)
		return p2p_replica_enable_as(node->replica, wish, err);
	for (i = 0; !rc && i < count; i++)
		if (!p2p_store_table_by_name(p2p_replica_store(node->replica), tables[i]))
			rc = p2p_replica_enable(node->replica, &tables[i], 1, NULL, 0, err);
	return rc;
}

int p2p_node_share(p2p_node *node, const char *const *tables, size_t table_count,
		   const char *const *exclude, size_t exclude_count, char *error, size_t error_size)
{
	struct p2p_enable wish = {.names = table_count ? tables : NULL,
				  .count = table_count,
				  .exclude = exclude,
				  .exclude_count = exclude_count,
				  .refs = (const char *const *)node->refs.items,
				  .ref_count = node->refs.count};
	struct p2p_error err = {0};
	int rc;

	if (node->phase != P2P_PHASE_OPEN || node->offline)
		return finish(P2P_ESTATE, &err, error, error_size);
	if (node->join != P2P_JOIN_NONE)
		return finish(p2p_error_set(&err, P2P_ESTATE,
					    "this database is just joining a mesh"),
			      &err, error, error_size);
	rc = check_tables(node, tables, table_count, &err);
	if (!rc)
		rc = p2p_replica_enable_check(node->replica, &wish, &err);
	if (!rc && node->replicate_schema)
		rc = p2p_replica_replicate_schema(node->replica, &err);
	if (!rc && p2p_replica_member(node->replica) &&
	    (table_count || p2p_store_table_count(p2p_replica_store(node->replica)))) {
		rc = enable_missing(node, &wish, &err);
	} else if (!rc) {
		/* one that was cut off after the mesh was made goes on with the tables */
		if (!p2p_replica_member(node->replica))
			rc = found(node, &err);
		if (!rc)
			rc = p2p_replica_enable_as(node->replica, &wish, &err);
	}
	return finish(rc, &err, error, error_size);
}

/* ---- join ----------------------------------------------------------------------------------- */

struct row_search {
	struct p2p_node *node;
	char table[65];
	uint64_t rows;
};

static int has_rows(void *ctx, struct p2p_table *table)
{
	struct row_search *search = ctx;
	uint64_t rows = 0;
	int rc = 0;

	if (table->state == P2P_TABLE_LOCAL || table->state == P2P_TABLE_LIVE)
		rc = p2p_replica_table_rows(search->node->replica, table, &rows);
	if (rc)
		return rc;
	if (rows && !search->rows) {
		search->rows = rows;
		(void)snprintf(search->table, sizeof(search->table), "%s", table->name);
	}
	p2p_table_deinit(table);
	return 0;
}

static int check_joiner(struct p2p_node *node, const struct p2p_ticket *ticket,
			struct p2p_error *err)
{
	struct row_search search = {.node = node};
	int rc;

	if (p2p_env_wall_ms(&node->env) >
	    (uint64_t)ticket->expires_s * 1000 + P2P_CLOCK_AHEAD_MAX_MS)
		return p2p_error_set(err, P2P_EEXPIRED,
				     "the ticket has expired: ask for a fresh one");
	if (p2p_replica_member(node->replica)) {
		if (p2p_hash_cmp(p2p_authority_mesh(p2p_replica_authority(node->replica)),
				 &ticket->mesh) != 0)
			return p2p_error_set(err, P2P_EMESH,
					     "this database is in another mesh already");
		return 0;
	}
	if (node->join_merges)
		return 0;
	rc = p2p_schema_each(p2p_store_db(p2p_replica_store(node->replica)), has_rows, &search,
			     err);
	if (rc)
		return rc;
	if (search.rows)
		return p2p_error_set(
			err, P2P_EREFUSED,
			"this database has rows of its own (table '%s'): --merge would "
			"join them with the mesh's, whose values stand where both have a "
			"row; --replace would put the mesh's database in its place and "
			"keep the old file beside it",
			search.table);
	return 0;
}

int p2p_node_join(p2p_node *node, const char *text, char *error, size_t error_size)
{
	struct p2p_error err = {0};
	struct p2p_ticket ticket;
	char copy[P2P_TICKET_TEXT_MAX];
	int rc;

	if (node->phase != P2P_PHASE_OPEN || node->offline)
		return finish(P2P_ESTATE, &err, error, error_size);
	rc = p2p_ticket_parse(&ticket, text, &err);
	if (rc)
		return finish(rc, &err, error, error_size);
	rc = check_joiner(node, &ticket, &err);
	if (!rc) {
		p2p_ticket_format(copy, &ticket);
		rc = p2p_state_write(node->state_fd, "ticket", copy, strlen(copy), &err);
		sodium_memzero(copy, sizeof(copy));
	}
	if (!rc) {
		node->ticket = ticket;
		node->join = P2P_JOIN_ASKING;
		p2p_replica_expect(node->replica, &ticket.mesh);
	}
	p2p_ticket_wipe(&ticket);
	return finish(rc, &err, error, error_size);
}

/* ---- from any thread ------------------------------------------------------------------------ */

struct verb_call {
	struct p2p_node *node;
	size_t argc;
	const char *const *argv;
	struct p2p_buf out;
	struct p2p_error err;
	int rc;
};

static void verb_on_loop(void *ctx)
{
	struct verb_call *call = ctx;

	call->rc = p2p_verb_run(call->node, call->argc, call->argv, &call->out, &call->err);
}

/* Runs a verb; its output, without the line's end, goes to *out_text. */
static int ask(struct verb_call *call, char **out_text)
{
	int rc;

	p2p_buf_init(&call->out, P2P_CONTROL_ANSWER_MAX);
	rc = p2p_node_call(call->node, verb_on_loop, call);
	if (!rc)
		rc = call->rc;
	if (!rc && out_text) {
		if (call->out.len && call->out.data[call->out.len - 1] == '\n')
			call->out.len--;
		p2p_buf_put_u8(&call->out, 0);
		rc = p2p_buf_error(&call->out);
		if (!rc)
			*out_text = p2p_memdup(call->out.data, call->out.len);
		if (!rc && !*out_text)
			rc = P2P_ENOMEM;
	}
	p2p_buf_deinit(&call->out);
	return rc;
}

int p2p_node_status(p2p_node *node, char **out_json)
{
	const char *const argv[] = {"status", "json"};
	struct verb_call call = {.node = node, .argc = 2, .argv = argv};

	return ask(&call, out_json);
}

int p2p_node_poke(p2p_node *node)
{
	const char *const argv[] = {"poke"};
	struct verb_call call = {.node = node, .argc = 1, .argv = argv};

	return ask(&call, NULL);
}

struct invite_call {
	struct p2p_node *node;
	struct p2p_invite_request request;
	char text[P2P_TICKET_TEXT_MAX];
	struct p2p_error err;
	int rc;
};

static void invite_on_loop(void *ctx)
{
	struct invite_call *call = ctx;

	call->rc = p2p_invite_make(call->node, &call->request, call->text, &call->err);
}

int p2p_node_invite(p2p_node *node, uint32_t uses, uint64_t expires_ms, const char *role,
		    int no_addresses, char **out_ticket, char *error, size_t error_size)
{
	struct invite_call call = {.node = node};
	int rc;

	call.request.uses = uses;
	call.request.expires_ms = expires_ms;
	call.request.no_addresses = no_addresses != 0;
	rc = p2p_role_parse(role ? role : "writer", &call.request.role, &call.err);
	if (!rc)
		rc = p2p_node_call(node, invite_on_loop, &call);
	if (!rc)
		rc = call.rc;
	if (!rc) {
		*out_ticket = p2p_strdup(call.text);
		rc = *out_ticket ? 0 : P2P_ENOMEM;
	}
	sodium_memzero(call.text, sizeof(call.text));
	return finish(rc, &call.err, error, error_size);
}

struct wait_call {
	struct p2p_node *node;
	struct p2p_wait wait;
	uint32_t timeout_ms;
	uv_sem_t done;
	int rc;
};

static void wait_finished(struct p2p_wait *wait, int code, const char *text)
{
	struct wait_call *call = wait->ctx;

	(void)text;
	call->rc = code;
	uv_sem_post(&call->done);
}

static void wait_on_loop(void *ctx)
{
	struct wait_call *call = ctx;

	if (call->node->phase == P2P_PHASE_RUNNING)
		p2p_wait_add(call->node, &call->wait, call->timeout_ms);
	else
		wait_finished(&call->wait, P2P_ESTATE, "");
}

int p2p_node_wait(p2p_node *node, size_t peers, uint32_t timeout_ms)
{
	struct wait_call call = {.node = node, .timeout_ms = timeout_ms};
	int rc;

	if (p2p_mailbox_inside(&node->mailbox))
		return P2P_ESTATE;
	call.wait.peers = peers;
	call.wait.ctx = &call;
	call.wait.done = wait_finished;
	if (uv_sem_init(&call.done, 0))
		return P2P_ENOMEM;
	rc = p2p_node_call(node, wait_on_loop, &call);
	if (!rc) {
		uv_sem_wait(&call.done);
		rc = call.rc;
	}
	uv_sem_destroy(&call.done);
	return rc;
}
