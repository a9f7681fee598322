/* A node from open to close; see node.h and p2pnode.h.
 *
 *	OPEN -start-> RUNNING -stop-> DRAINING (goodbyes go out) -> CLOSING (handles) -> OPEN
 *
 * One turn of the loop: what timers and the file say, one bounded slice of the replica's work,
 * then sockets again. A prepare handle sets the timer from all deadlines before each poll; work
 * that wants to go on at once runs from an idle handle, so that sockets are served in between. */
#include "node/node.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "node/session.h"
#include "proto/check.h"
#include "proto/mem.h"

/* How long a goodbye may take beyond what the transport itself allows. */
#define DRAIN_MS (P2P_CLOSE_DRAIN_MS + 500)
/* Local trouble (disk full, file locked) is tried again after that. */
#define RETRY_MS 200

/* ---- small things --------------------------------------------------------------------------- */

int p2p_strings_copy(struct p2p_strings *out, const char *const *items, size_t count)
{
	size_t i;

	out->items = p2p_calloc(count ? count : 1, sizeof(*out->items));
	out->count = 0;
	if (!out->items)
		return P2P_ENOMEM;
	for (i = 0; i < count; i++) {
		out->items[i] = p2p_strdup(items[i]);
		if (!out->items[i])
			return P2P_ENOMEM;
		out->count++;
	}
	return 0;
}

void p2p_strings_deinit(struct p2p_strings *strings)
{
	size_t i;

	for (i = 0; i < strings->count; i++)
		p2p_free(strings->items[i]);
	p2p_free(strings->items);
	memset(strings, 0, sizeof(*strings));
}

bool p2p_node_running(const struct p2p_node *node)
{
	return node->phase != P2P_PHASE_OPEN;
}

bool p2p_node_admitted(const struct p2p_node *node)
{
	return node->has_secret && p2p_replica_member(node->replica);
}

const struct p2p_hash *p2p_node_mesh(const struct p2p_node *node)
{
	if (node->join == P2P_JOIN_ASKING && !p2p_replica_member(node->replica))
		return &node->ticket.mesh;
	return p2p_authority_mesh(p2p_replica_authority(node->replica));
}

void p2p_node_kick(struct p2p_node *node)
{
	node->replica_next.ms = 0;
}

/* ---- the turn of the loop ------------------------------------------------------------------- */

void p2p_node_poll(struct p2p_node *node)
{
	struct p2p_error err = {0};
	bool changed = false;
	int rc;

	if (!p2p_replica_member(node->replica))
		return;
	rc = p2p_replica_poll(node->replica, &changed, &err);
	if (rc)
		p2p_node_trouble(node, rc, "reading changes: %s", err.msg);
	if (rc && node->watch)
		p2p_watch_kick(node->watch);
	if (changed)
		p2p_node_kick(node);
}

static void replica_slice(struct p2p_node *node, struct p2p_time now)
{
	struct p2p_error err = {0};
	struct p2p_time next = {UINT64_MAX};
	int rc;

	if (now.ms < node->replica_next.ms)
		return;
	node->replica_next.ms = UINT64_MAX; /* a kick from inside the step counts */
	if (!p2p_replica_member(node->replica) || !p2p_replica_sync(node->replica))
		return;
	rc = p2p_replica_step(node->replica, &next, &err);
	if (rc) {
		p2p_node_trouble(node, rc, "%s", err.msg[0] ? err.msg : p2p_strerror(rc));
		next.ms = now.ms + RETRY_MS;
	}
	if (next.ms < node->replica_next.ms)
		node->replica_next = next;
}

static void begin_close(struct p2p_node *node);

static void node_turn(struct p2p_node *node)
{
	struct p2p_time now = p2p_env_now(&node->env);

	if (node->phase == P2P_PHASE_CLOSING)
		return;
	if (node->watch && p2p_watch_run(node->watch, now))
		p2p_node_poll(node);
	(void)p2p_net_tick(node->net, now); /* asked again before the poll */
	p2p_contacts_run(node, now);
	replica_slice(node, now);
	p2p_wait_check(node, now);
	if (node->phase == P2P_PHASE_DRAINING &&
	    (p2p_net_drained(node->net) || now.ms >= node->drain_end.ms))
		begin_close(node);
}

static void sooner(struct p2p_time *next, struct p2p_time other)
{
	if (other.ms < next->ms)
		*next = other;
}

static struct p2p_time node_deadline(const struct p2p_node *node, struct p2p_time now)
{
	struct p2p_time next = node->replica_next;

	sooner(&next, p2p_net_deadline(node->net));
	sooner(&next, p2p_contacts_deadline(node));
	sooner(&next, p2p_wait_deadline(node, now));
	if (node->watch)
		sooner(&next, p2p_watch_deadline(node->watch));
	if (node->phase == P2P_PHASE_DRAINING) {
		sooner(&next, node->drain_end);
		if (p2p_net_drained(node->net))
			next = now;
	}
	return next;
}

static void timer_cb(uv_timer_t *timer)
{
	node_turn(timer->data);
}

static void idle_cb(uv_idle_t *idle)
{
	node_turn(idle->data);
}

static void prepare_cb(uv_prepare_t *prepare)
{
	struct p2p_node *node = prepare->data;
	struct p2p_time now = p2p_env_now(&node->env), next;
	int rc;

	if (node->phase == P2P_PHASE_CLOSING)
		return;
	next = node_deadline(node, now);
	if (next.ms <= now.ms) {
		/* an idle handle and not a timer of 0 ms: libuv before 1.45 runs such a timer again
		 * and again before it looks at any socket */
		rc = uv_idle_start(&node->idle, idle_cb);
		p2p_require(rc == 0);
		return;
	}
	rc = uv_idle_stop(&node->idle);
	p2p_require(rc == 0);
	if (next.ms == UINT64_MAX) {
		rc = uv_timer_stop(&node->timer);
	} else {
		uv_update_time(node->loop);
		rc = uv_timer_start(&node->timer, timer_cb, next.ms - now.ms, 0);
	}
	p2p_require(rc == 0);
}

/* ---- start and stop ------------------------------------------------------------------------- */

static void mailbox_closed(void *ctx)
{
	struct p2p_node *node = ctx;

	node->phase = P2P_PHASE_OPEN;
	if (node->host_loop)
		p2p_mailbox_direct(&node->mailbox, true);
	p2p_node_emit(node, P2P_EV_STOPPED, 0, NULL, "stopped");
	/* the embedder may have closed the node: not touched any more */
}

void p2p_node_part_closed(void *ctx)
{
	struct p2p_node *node = ctx;

	p2p_require(node->pending > 0);
	if (--node->pending == 0)
		p2p_mailbox_close(&node->mailbox, mailbox_closed, node);
}

static void handle_closed(uv_handle_t *handle)
{
	p2p_node_part_closed(handle->data);
}

static void begin_close(struct p2p_node *node)
{
	node->phase = P2P_PHASE_CLOSING;
	p2p_wait_cancel_all(node);
	if (node->finder)
		p2p_finder_close(node->finder);
	if (node->net)
		p2p_net_close(node->net);
	if (node->watch)
		p2p_watch_close(node->watch);
	if (node->control)
		p2p_control_close(node->control);
	uv_close((uv_handle_t *)&node->timer, handle_closed);
	uv_close((uv_handle_t *)&node->prepare, handle_closed);
	uv_close((uv_handle_t *)&node->idle, handle_closed);
}

static void begin_drain(void *ctx)
{
	struct p2p_node *node = ctx;

	if (node->phase != P2P_PHASE_RUNNING)
		return;
	p2p_node_poll(node); /* what the application has committed still goes out */
	node->phase = P2P_PHASE_DRAINING;
	node->drain_end.ms = p2p_env_now(&node->env).ms + DRAIN_MS;
	p2p_wait_cancel_all(node);
	if (node->finder)
		p2p_finder_close(node->finder); /* says goodbye by multicast */
	p2p_net_stop(node->net);
}

static int open_parts(struct p2p_node *node, struct p2p_error *err)
{
	int rc = p2p_control_open(node, err);

	if (!rc)
		rc = p2p_watch_open(node, err);
	if (!rc)
		rc = p2p_net_open(node, err);
	if (!rc)
		rc = p2p_finder_open(node, err);
	return rc;
}

static int open_loop(struct p2p_node *node, struct p2p_error *err)
{
	int rc = p2p_mailbox_open(&node->mailbox, node->loop);

	if (rc)
		return p2p_error_set(err, rc, "event loop: %s", p2p_strerror(rc));
	/* the three cannot fail */
	p2p_require(uv_timer_init(node->loop, &node->timer) == 0);
	p2p_require(uv_prepare_init(node->loop, &node->prepare) == 0);
	p2p_require(uv_idle_init(node->loop, &node->idle) == 0);
	node->timer.data = node->prepare.data = node->idle.data = node;
	node->pending = 3;
	node->phase = P2P_PHASE_RUNNING;
	p2p_node_kick(node);
	rc = open_parts(node, err);
	if (rc)
		begin_close(node);
	else
		p2p_require(uv_prepare_start(&node->prepare, prepare_cb) == 0);
	return rc;
}

static void announce_start(struct p2p_node *node)
{
	char text[64] = "";

	if (p2p_net_listener_count(node->net))
		p2p_net_listener_text(node->net, 0, text);
	p2p_node_emit(node, P2P_EV_STARTED, 0, NULL, "listens on %s", text);
}

static void thread_main(void *ctx)
{
	struct p2p_node *node = ctx;

	p2p_mailbox_own(&node->mailbox);
	announce_start(node);
	(void)uv_run(node->loop, UV_RUN_DEFAULT); /* ends when all handles are closed */
}

/* A member whose join was cut short takes the tables now; then it is like any other. */
static int resume_join(struct p2p_node *node, struct p2p_error *err)
{
	if (node->join != P2P_JOIN_ASKING || !p2p_node_admitted(node))
		return 0;
	node->join = P2P_JOIN_COPYING;
	return p2p_replica_adopt(node->replica, err);
}

static void own_loop_close(struct p2p_node *node)
{
	int rc = uv_loop_close(&node->own_loop);

	p2p_require(rc == 0); /* a handle was left: our bug */
	node->loop = NULL;
	p2p_mailbox_direct(&node->mailbox, true);
}

static int start_own(struct p2p_node *node, struct p2p_error *err)
{
	int rc;

	if (uv_loop_init(&node->own_loop))
		return p2p_error_set(err, P2P_ENOMEM, "event loop: cannot be made");
	node->loop = &node->own_loop;
	rc = open_loop(node, err);
	if (!rc && uv_thread_create(&node->thread, thread_main, node)) {
		rc = p2p_error_set(err, P2P_ENOMEM, "no thread can be made");
		begin_close(node);
	}
	if (rc) {
		(void)uv_run(node->loop, UV_RUN_DEFAULT);
		own_loop_close(node);
		return rc;
	}
	node->has_thread = true;
	return 0;
}

static int start(struct p2p_node *node, struct p2p_error *err)
{
	int rc;

	if (node->phase != P2P_PHASE_OPEN || node->offline)
		return p2p_error_set(err, P2P_ESTATE, "the node runs already");
	if (node->join != P2P_JOIN_ASKING && !p2p_node_admitted(node))
		return p2p_error_set(err, P2P_ENOENT, "'%s' is in no mesh", node->db_path);
	rc = resume_join(node, err);
	if (rc)
		return rc;
	if (!node->host_loop)
		return start_own(node, err);
	node->loop = node->host_loop;
	rc = open_loop(node, err);
	if (!rc) {
		p2p_mailbox_own(&node->mailbox);
		announce_start(node);
	}
	return rc;
}

static void copy_error(char *error, size_t size, const struct p2p_error *err, int rc)
{
	if (error && size)
		(void)snprintf(error, size, "%s", err->msg[0] ? err->msg : p2p_strerror(rc));
}

int p2p_node_start(p2p_node *node, char *error, size_t error_size)
{
	struct p2p_error err = {0};
	int rc = start(node, &err);

	if (rc)
		copy_error(error, error_size, &err, rc);
	return rc;
}

static bool on_own_thread(struct p2p_node *node)
{
	uv_thread_t self = uv_thread_self();

	return node->has_thread && uv_thread_equal(&self, &node->thread);
}

int p2p_node_stop(p2p_node *node)
{
	int rc;

	if (on_own_thread(node))
		return P2P_ESTATE;
	if (!node->has_thread) {
		begin_drain(node);
		return 0;
	}
	rc = p2p_mailbox_call(&node->mailbox, begin_drain, node);
	p2p_require(rc == 0 || rc == P2P_ENOMEM);
	if (rc)
		return rc;
	(void)uv_thread_join(&node->thread); /* it exists, and is not this one */
	node->has_thread = false;
	own_loop_close(node);
	return 0;
}

int p2p_node_call(p2p_node *node, void (*run)(void *ctx), void *ctx)
{
	return p2p_mailbox_call(&node->mailbox, run, ctx);
}

/* ---- open and close ------------------------------------------------------------------------- */

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
	node->ctx = options.ctx;
	node->on_event = options.on_event;
	node->on_log = options.on_log;
	node->host_loop = options.loop;
	node->log.level = (enum p2p_log_level)options.log_level;
	if (options.listen_count > P2P_LISTENERS_MAX || options.seed_count > P2P_SEEDS_MAX ||
	    options.interface_count > P2P_INTERFACES_MAX)
		return p2p_error_set(err, P2P_EINVAL,
				     "too many addresses to listen on, seeds or interfaces");
	for (i = 0; i < options.listen_count; i++) {
		struct sockaddr_storage ignored;

		rc = p2p_net_parse(options.listen[i], &ignored, err);
		if (rc)
			return rc;
	}
	if (p2p_strings_copy(&node->listen, options.listen, options.listen_count) ||
	    p2p_strings_copy(&node->seeds, options.seeds, options.seed_count) ||
	    p2p_strings_copy(&node->interfaces, options.interfaces, options.interface_count))
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
	if (!rc && p2p_invites_load(node))
		rc = p2p_error_set(err, P2P_EIO, "invitations cannot be read");
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
		copy_error(error, error_size, &err, rc);
	return rc;
}

int p2p_node_close(p2p_node *node)
{
	int rc;

	if (!node)
		return 0;
	if (on_own_thread(node) || (node->host_loop && node->phase != P2P_PHASE_OPEN))
		return P2P_ESTATE;
	rc = p2p_node_stop(node);
	if (rc)
		return rc;
	node_free(node);
	return 0;
}
