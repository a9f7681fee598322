/* The verbs that are a node: share, join, run. The main thread sleeps until a signal or the end of
 * a join that was refused; the node has a thread of its own. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>
#include <poll.h>

#include "crdt/setaside.h"
#include "node/cli.h"
#include "proto/json.h"
#include "node/node.h"
#include "node/verbs.h"
#include "proto/mem.h"

enum mode { SHARE, JOIN, RUN };

/* Shared by both threads under the mutex. */
struct session {
	const struct cli_args *args;
	enum mode mode;
	pthread_mutex_t mutex;
	bool open;	      /* the first lines are printed: events may follow */
	struct p2p_buf early; /* lines that came before */
	int finish_fd;	      /* eventfd: wakes the main thread */
	int refused;	      /* code of a refused join */
	char why[256];
	bool tty, bar;
	uint64_t told_at_ms; /* last line of progress */
};

static uint64_t now_ms(void)
{
	struct timespec ts = {0};

	(void)clock_gettime(CLOCK_MONOTONIC, &ts); /* exists on every Linux */
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- output --------------------------------------------------------------------------------- */

/* One line on stdout; before the first lines of the verb it is kept back. */
static void put_line(struct session *session, const char *line)
{
	if (!session->open) {
		p2p_buf_put(&session->early, line, strlen(line));
		p2p_buf_put_u8(&session->early, '\n');
		return;
	}
	(void)printf("%s\n", line); /* a closed pipe is no reason to stop replicating */
	(void)fflush(stdout);
}

static void open_output(struct session *session)
{
	(void)pthread_mutex_lock(&session->mutex);
	session->open = true;
	if (session->early.len)
		(void)fwrite(session->early.data, 1, session->early.len, stdout);
	(void)fflush(stdout);
	(void)pthread_mutex_unlock(&session->mutex);
}

/* "mesh ID", or {"event":"mesh","mesh":"ID"}; address may be NULL. */
static void announce(const struct session *session, const char *what, const char *id,
		     const char *address)
{
	struct p2p_json json;
	struct p2p_buf buf;

	if (!session->args->json) {
		(void)printf("%s %s%s%s\n", what, id, address ? " " : "", address ? address : "");
		(void)fflush(stdout);
		return;
	}
	p2p_buf_init(&buf, P2P_CONTROL_LINE_MAX);
	p2p_json_init(&json, &buf);
	p2p_json_begin_object(&json);
	p2p_json_put_string(&json, "event", what);
	p2p_json_put_string(&json, what, id);
	if (address)
		p2p_json_put_string(&json, "address", address);
	p2p_json_end_object(&json);
	if (p2p_buf_error(&buf) == 0)
		(void)fwrite(buf.data, 1, buf.len, stdout);
	(void)printf("\n");
	(void)fflush(stdout);
	p2p_buf_deinit(&buf);
}

static void clear_bar(struct session *session)
{
	if (session->bar)
		(void)fprintf(stderr, "\r\033[K");
	session->bar = false;
}

static void show_progress(struct session *session, uint64_t rows, uint64_t percent)
{
	static const char marks[] = "########################################";
	uint64_t now = now_ms(), width = sizeof(marks) - 1;

	if (now - session->told_at_ms < (session->tty ? 100 : 5000))
		return;
	session->told_at_ms = now;
	if (!session->tty) {
		(void)fprintf(stderr, "copying: %" PRIu64 " rows, %" PRIu64 " %%\n", rows, percent);
		return;
	}
	session->bar = true;
	(void)fprintf(stderr, "\r[%-*.*s] %3" PRIu64 " %% %" PRIu64 " rows", (int)width,
		      (int)(percent * width / 100), marks, percent, rows);
}

static void text_event(struct session *session, const p2p_node_event *event)
{
	char line[64], text[320];

	switch (event->type) {
	case P2P_EV_JOINED:
		clear_bar(session);
		(void)snprintf(line, sizeof(line), "joined %" PRIu64 " rows", event->rows);
		if (session->mode == JOIN)
			put_line(session, line);
		return;
	case P2P_EV_TROUBLE:
		clear_bar(session);
		(void)snprintf(text, sizeof(text), "%s", event->text);
		p2p_text_clean(text);
		(void)fprintf(stderr, "p2pnode: %s: %s\n", session->args->verb->name, text);
		return;
	default:
		return;
	}
}

static void event_cb(void *ctx, const p2p_node_event *event)
{
	struct session *session = ctx;
	uint64_t one = 1;

	(void)pthread_mutex_lock(&session->mutex);
	if (session->args->json)
		put_line(session, event->json);
	else
		text_event(session, event);
	if (event->type == P2P_EV_PROGRESS && session->mode == JOIN)
		show_progress(session, event->rows, event->percent);
	if (event->type == P2P_EV_REFUSED) {
		session->refused = event->code;
		(void)snprintf(session->why, sizeof(session->why), "%s", event->text);
		(void)!write(session->finish_fd, &one,
			     sizeof(one)); /* a counter at 1: cannot fail */
	}
	(void)pthread_mutex_unlock(&session->mutex);
}

static void log_cb(void *ctx, int level, const char *group, const char *text)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};
	struct session *session = ctx;

	char clean[512];

	(void)snprintf(clean, sizeof(clean), "%s", text);
	p2p_text_clean(clean);
	clear_bar(session);
	(void)fprintf(stderr, "%s %s: %s\n", names[level & 3], group, clean);
}

/* Tables that stay local, each with its reason: nothing is left out silently. */
static int tell_refused(void *ctx, const struct p2p_table_row *row)
{
	const struct session *session = ctx;
	char line[400];

	if (strcmp(row->state, "refused") != 0)
		return 0;
	(void)snprintf(line, sizeof(line), "'%s' is not replicated: %s", row->name, row->reason);
	p2p_text_clean(line);
	(void)fprintf(stderr, "p2pnode: %s: %s\n", session->args->verb->name, line);
	return 0;
}

/* ---- steps ---------------------------------------------------------------------------------- */

/* What the first lines say, collected where the node lives. */
struct facts {
	struct p2p_node *node;
	char mesh[2 * P2P_HASH_BYTES + 1];
	char addresses[P2P_LISTENERS_MAX][64];
	size_t count;
};

static void collect_facts(void *ctx)
{
	struct facts *facts = ctx;
	struct p2p_node *node = facts->node;

	p2p_hex(facts->mesh, p2p_node_mesh(node)->bytes, P2P_HASH_BYTES);
	for (facts->count = 0; node->net && facts->count < p2p_net_listener_count(node->net);
	     facts->count++)
		p2p_net_listener_text(node->net, facts->count, facts->addresses[facts->count]);
}

static int print_first_lines(struct session *session, struct p2p_node *node)
{
	struct facts facts = {.node = node};
	struct p2p_key_text id = p2p_key_text(&node->keys.node);
	int rc = p2p_node_call(node, collect_facts, &facts);
	size_t i;

	if (rc)
		return rc;
	announce(session, "mesh", facts.mesh, NULL);
	for (i = 0; i < facts.count; i++)
		announce(session, "node", id.text, facts.addresses[i]);
	return 0;
}

static int print_ticket(struct session *session, struct p2p_node *node, struct p2p_error *err)
{
	char *ticket = NULL;
	int rc = p2p_node_invite(node, session->args->uses, session->args->expires_ms, "writer", 0,
				 &ticket, err->msg, sizeof(err->msg));

	if (rc)
		return rc;
	announce(session, "ticket", ticket, NULL);
	p2p_node_free(ticket);
	return 0;
}

static void fill_options(struct session *session, p2p_node_options *options)
{
	const struct cli_args *args = session->args;

	p2p_node_options_init(options, sizeof(*options));
	options->state_dir = args->state;
	options->name = args->name;
	options->listen = args->listen.items;
	options->listen_count = args->listen.count;
	options->seeds = args->seeds.items;
	options->seed_count = args->seeds.count;
	options->interfaces = args->interfaces.items;
	options->interface_count = args->interfaces.count;
	options->no_discovery = args->no_discovery;
	options->apply_interval_ms = args->apply_interval_ms;
	options->create = session->mode == JOIN;
	options->merge = args->merge;
	options->refs = args->refs.items;
	options->ref_count = args->refs.count;
	options->replicate_schema = args->replicate_schema;
	options->log_level = args->log_level;
	options->ctx = session;
	options->on_event = event_cb;
	options->on_log = log_cb;
}

/* Until SIGTERM or SIGINT, or a refused join. A second signal ends the process at once. */
static int wait_for_end(struct session *session, int signal_fd, const sigset_t *signals)
{
	struct signalfd_siginfo info;
	struct pollfd pollers[2] = {{.fd = signal_fd, .events = POLLIN},
				    {.fd = session->finish_fd, .events = POLLIN}};

	while (poll(pollers, 2, -1) < 0)
		if (errno != EINTR)
			return CLI_FAILED;
	/* the signal is taken off, so that unblocking does not deliver it */
	if (pollers[0].revents && read(signal_fd, &info, sizeof(info)) == sizeof(info))
		(void)pthread_sigmask(SIG_UNBLOCK, signals, NULL);
	return CLI_OK;
}

static int prepare(struct session *session, struct p2p_node *node, struct p2p_error *err)
{
	const struct cli_args *args = session->args;
	int rc;

	switch (session->mode) {
	case SHARE:
		rc = p2p_node_share(node, args->tables.items, args->tables.count,
				    args->exclude.items, args->exclude.count, err->msg,
				    sizeof(err->msg));
		/* the node does not run yet: its files may be asked from here */
		if (!rc && !args->tables.count)
			rc = p2p_collect_tables(node, tell_refused, session);
		return rc;
	case JOIN:
		return p2p_node_join(node, args->words.items[0], err->msg, sizeof(err->msg));
	case RUN:
		return 0;
	}
	return P2P_EINVAL;
}

static int serve(struct session *session, struct p2p_node *node, int signal_fd,
		 const sigset_t *signals)
{
	struct p2p_error err = {0};
	const char *hint = NULL;
	int rc = prepare(session, node, &err);

	if (!rc)
		rc = p2p_node_start(node, err.msg, sizeof(err.msg));
	if (rc == P2P_ENOENT && session->mode == RUN)
		hint = "p2pnode share makes a mesh of it, p2pnode join takes it into one";
	if (!rc)
		rc = print_first_lines(session, node);
	if (!rc && session->mode == SHARE)
		rc = print_ticket(session, node, &err);
	if (rc)
		return cli_fail(session->args, rc, err.msg[0] ? err.msg : p2p_strerror(rc), hint);
	open_output(session);
	rc = wait_for_end(session, signal_fd, signals);
	if (p2p_node_stop(node) && rc == CLI_OK)
		rc = CLI_FAILED;
	if (session->refused)
		rc = cli_fail(session->args, session->refused, session->why, NULL);
	return rc;
}

static int open_and_serve(struct session *session, const char *db, int signal_fd,
			  const sigset_t *signals)
{
	p2p_node_options options;
	char error[256] = "";
	p2p_node *node;
	int rc;

	fill_options(session, &options);
	rc = p2p_node_open(db, &options, &node, error, sizeof(error));
	if (rc)
		return cli_fail(session->args, rc, error,
				rc == P2P_ENOENT ? "give the path of an SQLite database" : NULL);
	if (node->switched)
		(void)fprintf(stderr,
			      "p2pnode: %s: '%s' was switched to WAL journal mode, so that "
			      "applications and the node can work at the same time\n",
			      session->args->verb->name, db);
	rc = serve(session, node, signal_fd, signals);
	if (p2p_node_close(node) && rc == CLI_OK)
		rc = CLI_FAILED;
	return rc;
}

static int run_node(const struct cli_args *args, enum mode mode, const char *db)
{
	struct session session = {.args = args, .mode = mode};
	sigset_t signals;
	int signal_fd, rc;

	(void)sigemptyset(&signals);
	(void)sigaddset(&signals, SIGINT);
	(void)sigaddset(&signals, SIGTERM);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)pthread_mutex_init(&session.mutex, NULL); /* cannot fail with default attributes */
	session.tty = isatty(STDERR_FILENO) == 1;
	session.finish_fd = eventfd(0, EFD_CLOEXEC);
	p2p_buf_init(&session.early, P2P_CONTROL_ANSWER_MAX);
	/* before any thread is made, so that all have it blocked */
	rc = pthread_sigmask(SIG_BLOCK, &signals, NULL);
	signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (rc || signal_fd < 0 || session.finish_fd < 0)
		rc = cli_fail(args, P2P_EIO, "no descriptors for signals", NULL);
	else
		rc = open_and_serve(&session, db, signal_fd, &signals);
	if (signal_fd >= 0)
		(void)close(signal_fd); /* nothing was written */
	if (session.finish_fd >= 0)
		(void)close(session.finish_fd);
	p2p_buf_deinit(&session.early);
	(void)pthread_mutex_destroy(&session.mutex);
	return rc;
}

/* ---- the verbs ------------------------------------------------------------------------------ */

int cli_share(const struct cli_args *args)
{
	if (args->uses < 1) {
		(void)cli_fail(args, P2P_EINVAL, "--uses: at least 1", NULL);
		return CLI_USAGE;
	}
	return run_node(args, SHARE, args->words.items[0]);
}

/* A member by what is on the disk. */
static bool is_member(const struct cli_args *args, const char *db)
{
	p2p_node_options options;
	p2p_node *node;

	p2p_node_options_init(&options, sizeof(options));
	options.state_dir = args->state;
	if (p2p_node_open_as(db, &options, true, &node, NULL))
		return false;
	(void)p2p_node_close(node); /* it never ran */
	return true;
}

/* Else `run` would go on with the join, in the old database. */
static void forget_ticket(const struct cli_args *args, const char *db)
{
	char *state = args->state ? p2p_strdup(args->state) : p2p_node_state_dir(db);
	char path[PATH_MAX];

	if (state && snprintf(path, sizeof(path), "%s/ticket", state) < (int)sizeof(path))
		(void)unlink(path); /* there may be none */
	p2p_free(state);
}

/* join --replace: the old database makes room, and comes back if nothing came of the join. */
static int replace_and_join(const struct cli_args *args, const char *db)
{
	struct p2p_error err = {0};
	char aside[PATH_MAX], stamp[32];
	time_t now = time(NULL);
	struct tm tm;
	int rc;

	if (access(db, F_OK) != 0)
		return run_node(args, JOIN, db);
	if (is_member(args, db))
		return cli_fail(args, P2P_EMESH, "this database is in a mesh already", NULL);
	(void)strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm));
	if (snprintf(aside, sizeof(aside), "%s.before-join-%s", db, stamp) >= (int)sizeof(aside))
		return cli_fail(args, P2P_EINVAL, "the path is too long", NULL);
	rc = p2p_setaside(db, aside, &err);
	if (rc)
		return cli_fail(args, rc, err.msg, NULL);
	(void)fprintf(stderr, "p2pnode: join: the old database is kept as '%s'\n", aside);
	rc = run_node(args, JOIN, db);
	if (is_member(args, db))
		return rc;
	forget_ticket(args, db);
	if (p2p_setaside_undo(db, aside, &err))
		return cli_fail(args, err.code, err.msg, NULL);
	(void)fprintf(stderr, "p2pnode: join: the old database is back as '%s'\n", db);
	return rc;
}

int cli_join(const struct cli_args *args)
{
	struct p2p_error err = {0};
	struct p2p_ticket ticket;
	char name[P2P_NAME_MAX + 1];
	int rc = p2p_ticket_parse(&ticket, args->words.items[0], &err);

	if (rc)
		return cli_fail(args, rc, err.msg,
				"copy the whole line that share or invite printed");
	(void)snprintf(name, sizeof(name), "%s", ticket.name);
	p2p_ticket_wipe(&ticket);
	if (args->merge && args->replace) {
		(void)cli_fail(args, P2P_EINVAL, "--merge and --replace: only one of them", NULL);
		return CLI_USAGE;
	}
	if (args->words.count < 2 && !name[0]) {
		(void)cli_fail(args, P2P_EINVAL, "this ticket names no database: give a file name",
			       NULL);
		return CLI_USAGE;
	}
	return args->replace
		       ? replace_and_join(args, args->words.count > 1 ? args->words.items[1] : name)
		       : run_node(args, JOIN, args->words.count > 1 ? args->words.items[1] : name);
}

int cli_run(const struct cli_args *args)
{
	const char *db = args->words.items[0];
	char *state = args->state ? NULL : p2p_node_state_dir(db);
	const char *dir = args->state ? args->state : state ? state : "";
	bool missing = access(db, F_OK) == 0 && access(dir, F_OK) != 0;

	p2p_node_free(state);
	if (missing) {
		char why[256];

		(void)snprintf(why, sizeof(why), "'%.180s' is in no mesh", db);
		return cli_fail(args, P2P_ENOENT, why,
				"p2pnode share makes a mesh of it, p2pnode join takes it into one");
	}
	return run_node(args, RUN, db);
}
