/* A node from start to stop; see node.h and p2pnode.h. Opening and closing is open.c.
 *
 *	OPEN -start-> RUNNING -stop-> DRAINING (goodbyes go out) -> CLOSING (handles) -> OPEN
 *
 * One turn of the loop: what timers and the file say, one bounded slice of the replica's work,
 * then sockets again. A prepare handle sets the timer from all deadlines before each poll; work
 * that wants to go on at once runs from an idle handle, so that sockets are served in between. */
#include "node/node.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

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

	if (node->phase == P2P_PHASE_OPEN || !p2p_replica_member(node->replica))
		return;
	rc = p2p_replica_poll(node->replica, &changed, &err);
	if (rc)
		p2p_node_trouble(node, rc, "reading changes: %s", err.msg);
	if (rc && node->watch)
		p2p_watch_again(node->watch, RETRY_MS);
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
	if (!p2p_replica_member(node->replica))
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
	sigset_t pipe;

	/* libuv writes to connections that were reset; a process that embeds us must not die of it
	 */
	(void)sigemptyset(&pipe);
	(void)sigaddset(&pipe, SIGPIPE);
	(void)pthread_sigmask(SIG_BLOCK, &pipe, NULL); /* cannot fail with these arguments */
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

void p2p_node_copy_error(char *error, size_t size, const struct p2p_error *err, int rc)
{
	if (error && size)
		(void)snprintf(error, size, "%s", err->msg[0] ? err->msg : p2p_strerror(rc));
}

int p2p_node_start(p2p_node *node, char *error, size_t error_size)
{
	struct p2p_error err = {0};
	int rc = start(node, &err);

	if (rc)
		p2p_node_copy_error(error, error_size, &err, rc);
	return rc;
}

bool p2p_node_inside(struct p2p_node *node)
{
	/* not node->thread: the new thread runs before that is known here */
	return !node->host_loop && p2p_mailbox_inside(&node->mailbox);
}

int p2p_node_stop(p2p_node *node)
{
	int rc;

	if (p2p_node_inside(node))
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
