/* Opening and closing a node: options, lock, state directory, keys, replica. */
#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/session.h"
#include "proto/check.h"
#include "proto/mem.h"

static void merged_cb(void *ctx, const struct p2p_id *replica, uint64_t seq, uint64_t rows)
{
	struct p2p_node *node = ctx;

	(void)replica;
	(void)seq;
	if (node->join == P2P_JOIN_COPYING) {
		struct p2p_sync *sync = p2p_replica_sync(node->replica);
		struct p2p_list *at;
		uint64_t ahead = 0;

		node->join_rows += rows;
		node->join_changesets++;
		for (at = node->contacts.next; at != &node->contacts; at = at->next) {
			struct p2p_contact *contact =
				p2p_container_of(at, struct p2p_contact, link);
			struct p2p_sync_peer_status status;

			if (p2p_sync_peer_status(sync, contact->id, &status) &&
			    status.ahead > ahead)
				ahead = status.ahead;
		}
		p2p_node_emit_rows(node, P2P_EV_PROGRESS, node->join_rows,
				   node->join_changesets * 100 / (node->join_changesets + ahead));
		return;
	}
	if (rows)
		p2p_node_emit_rows(node, P2P_EV_MERGED, rows, 0);
}

static void log_sink(void *ctx, enum p2p_log_level level, const char *group, const char *text)
{
	struct p2p_node *node = ctx;

	if (node->on_log)
		node->on_log(node->ctx, (int)level, group, text);
}

char *p2p_node_state_dir(const char *db_path)
{
	size_t size = strlen(db_path) + sizeof("-p2p");
	char *dir = p2p_lock_state_dir(db_path);

	if (dir)
		return dir;
	dir = p2p_malloc(size);
	if (dir)
		(void)snprintf(dir, size, "%s-p2p", db_path);
	return dir;
}

static int copy_name(struct p2p_node *node, const char *name, struct p2p_error *err)
{
	char host[256] = "node";

	if (name && (strlen(name) > P2P_NAME_MAX || !name[0]))
		return p2p_error_set(err, P2P_EINVAL, "a name has 1 to %d bytes", P2P_NAME_MAX);
	if (!name) {
		(void)gethostname(host, sizeof(host) - 1); /* "node" if there is none */
		host[P2P_NAME_MAX] = 0;
	}
	node->name = p2p_strdup(name ? name : host);
	return node->name ? 0 : p2p_error_set(err, P2P_ENOMEM, "out of memory");
}

static int copy_options(struct p2p_node *node, const p2p_node_options *given, struct p2p_error *err)
{
	p2p_node_options options;
	size_t i;
	int rc;

	p2p_node_options_init(&options, sizeof(options));
	if (given && given->size <= sizeof(options))
		memcpy(&options, given, given->size);
	else if (given)
		memcpy(&options, given, sizeof(options));
	node->no_discovery = options.no_discovery != 0;
	node->apply_interval_ms = options.apply_interval_ms;
	node->join_merges = options.merge != 0;
	node->replicate_schema = options.replicate_schema != 0;
	node->ctx = options.ctx;
	node->on_event = options.on_event;
	node->on_log = options.on_log;
	node->host_loop = options.loop;
	node->log.level = (enum p2p_log_level)options.log_level;
	if (options.listen_count > P2P_LISTENERS_MAX || options.seed_count > P2P_SEEDS_MAX ||
	    options.interface_count > P2P_INTERFACES_MAX || options.ref_count > P2P_NAMED_MAX)
		return p2p_error_set(err, P2P_EINVAL,
				     "too many addresses to listen on, seeds, interfaces or refs");
	for (i = 0; i < options.listen_count; i++) {
		struct sockaddr_storage ignored;

		rc = p2p_net_parse(options.listen[i], &ignored, err);
		if (rc)
			return rc;
	}
	if (p2p_strings_copy(&node->listen, options.listen, options.listen_count) ||
	    p2p_strings_copy(&node->seeds, options.seeds, options.seed_count) ||
	    p2p_strings_copy(&node->interfaces, options.interfaces, options.interface_count) ||
	    p2p_strings_copy(&node->refs, options.refs, options.ref_count))
		return p2p_error_set(err, P2P_ENOMEM, "out of memory");
	node->state_dir = options.state_dir ? p2p_strdup(options.state_dir)
					    : p2p_node_state_dir(node->db_path);
	if (!node->state_dir)
		return p2p_error_set(err, P2P_ENOMEM, "out of memory");
	return copy_name(node, options.name, err);
}

static int open_replica(struct p2p_node *node, bool create, struct p2p_error *err)
{
	struct p2p_replica_config config = {
		.db_path = node->db_path,
		.state_dir = node->state_dir,
		.env = &node->env,
		.log = &node->log,
		.signer = &node->signer,
		.callbacks = {node, p2p_contact_send, p2p_contact_event, merged_cb,
			      p2p_contact_record},
		.create_db = create,
		.apply_interval_ms = node->apply_interval_ms,
		.offline = node->offline,
	};

	return p2p_replica_open(&config, &node->replica, &node->switched, err);
}

static int load_keys(struct p2p_node *node, struct p2p_error *err)
{
	int rc = p2p_keys_load(node->state_fd, node->offline ? NULL : &node->env, &node->keys, err);

	if (rc)
		return rc;
	node->signer.secret = node->keys.sign_secret;
	node->signer.node = node->keys.node;
	node->signer.wrap_key = node->keys.wrap;
	node->signer.noise_key = node->keys.noise;
	rc = p2p_secret_load(node->state_fd, node->mesh_secret, err);
	node->has_secret = rc == 0;
	return rc == P2P_ENOENT ? 0 : rc;
}

/* The ticket of a join that did not end. */
static int load_ticket(struct p2p_node *node, struct p2p_error *err)
{
	char text[P2P_TICKET_TEXT_MAX + 1];
	size_t len = 0;
	int rc = p2p_state_read(node->state_fd, "ticket", text, sizeof(text) - 1, &len);

	if (rc == P2P_ENOENT)
		return 0;
	if (rc)
		return p2p_error_set(err, rc, "read the ticket of the join: %s", p2p_strerror(rc));
	text[len] = 0;
	rc = p2p_ticket_parse(&node->ticket, text, err);
	sodium_memzero(text, sizeof(text));
	if (!rc)
		node->join = P2P_JOIN_ASKING;
	return rc;
}

/* What a failed open of a fresh database leaves: nothing. */
static void remove_traces(struct p2p_node *node)
{
	static const char *const files[] = {"identity", "log.db", "log.db-wal", "log.db-shm",
					    "log.db-journal"};
	size_t i;

	for (i = 0; i < p2p_array_len(files); i++)
		(void)unlinkat(node->state_fd, files[i], 0); /* best effort, as all here */
	(void)rmdir(node->state_dir);
	p2p_lock_remove(&node->lock);
}

static int open_state(struct p2p_node *node, const p2p_node_options *options, bool *out_made,
		      struct p2p_error *err)
{
	bool missing = access(node->db_path, F_OK) != 0 && errno == ENOENT;
	bool create = options && options->create;
	char real[PATH_MAX];
	int rc;

	if (missing && !create)
		return p2p_error_set(err, P2P_ENOENT, "'%s': no such file", node->db_path);
	if (node->offline && access(node->state_dir, F_OK) != 0)
		return p2p_error_set(err, P2P_ENOENT, "'%s' is in no mesh", node->db_path);
	rc = p2p_lock_take(&node->lock, node->db_path, &node->instance, err);
	if (rc)
		return rc;
	*out_made = access(node->state_dir, F_OK) != 0;
	rc = p2p_state_open(node->state_dir, !node->offline, &node->state_fd, err);
	if (!rc && realpath(node->state_dir, real))
		p2p_lock_describe(&node->lock, &node->instance, real);
	if (!rc)
		rc = load_keys(node, err);
	if (!rc)
		rc = open_replica(node, create, err);
	if (!rc && !node->offline)
		rc = load_ticket(node, err);
	if (!rc) {
		rc = p2p_invites_load(node);
		if (rc)
			(void)p2p_error_set(err, rc, "invitations cannot be read: %s",
					    p2p_strerror(rc));
	}
	if (!rc && node->offline && !p2p_replica_member(node->replica))
		rc = p2p_error_set(err, P2P_ENOENT, "'%s' is in no mesh", node->db_path);
	return rc;
}

static void node_free(struct p2p_node *node)
{
	p2p_replica_close(node->replica);
	if (node->state_fd >= 0)
		(void)close(node->state_fd); /* a directory: nothing to lose */
	p2p_lock_release(&node->lock);
	p2p_strings_deinit(&node->listen);
	p2p_strings_deinit(&node->seeds);
	p2p_strings_deinit(&node->interfaces);
	p2p_strings_deinit(&node->refs);
	p2p_free(node->db_path);
	p2p_free(node->state_dir);
	p2p_free(node->name);
	p2p_buf_deinit(&node->pack);
	if (node->mailbox_ready)
		p2p_mailbox_deinit(&node->mailbox);
	sodium_memzero(node, sizeof(*node));
	p2p_free(node);
}

int p2p_node_open_as(const char *db_path, const p2p_node_options *options, bool offline,
		     p2p_node **out, struct p2p_error *err)
{
	struct p2p_node *node = p2p_calloc(1, sizeof(*node));
	bool made = false;
	int rc;

	if (!node || sodium_init() < 0) {
		p2p_free(node);
		return p2p_error_set(err, P2P_ENOMEM, "out of memory");
	}
	node->offline = offline;
	node->state_fd = -1;
	node->lock.fd = -1;
	p2p_node_env_init(&node->env);
	node->log.ctx = node;
	node->log.sink = log_sink;
	p2p_list_init(&node->contacts);
	p2p_list_init(&node->waits);
	p2p_buf_init(&node->pack, P2P_MESSAGE_MAX);
	p2p_env_random(&node->env, node->instance.bytes, P2P_ID_BYTES);
	rc = p2p_mailbox_init(&node->mailbox);
	node->mailbox_ready = rc == 0;
	if (rc)
		(void)p2p_error_set(err, rc, "out of memory");
	if (!rc) {
		node->db_path = p2p_lock_real_path(db_path, err);
		rc = node->db_path ? 0 : err ? err->code : P2P_ENOENT;
	}
	if (!rc)
		rc = copy_options(node, options, err);
	if (!rc)
		rc = open_state(node, options, &made, err);
	if (rc) {
		p2p_replica_close(node->replica);
		node->replica = NULL;
		if (made && node->state_fd >= 0)
			remove_traces(node);
		node_free(node);
		return rc;
	}
	*out = node;
	return 0;
}

int p2p_node_open(const char *db_path, const p2p_node_options *options, p2p_node **out, char *error,
		  size_t error_size)
{
	struct p2p_error err = {0};
	int rc = p2p_node_open_as(db_path, options, false, out, &err);

	if (rc)
		p2p_node_copy_error(error, error_size, &err, rc);
	return rc;
}

int p2p_node_close(p2p_node *node)
{
	int rc;

	if (!node)
		return 0;
	if (p2p_node_inside(node) || (node->host_loop && node->phase != P2P_PHASE_OPEN))
		return P2P_ESTATE;
	rc = p2p_node_stop(node);
	if (rc)
		return rc;
	node_free(node);
	return 0;
}
