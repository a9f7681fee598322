/* The verbs that ask a running node, or open the files of one that does not run. */
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "node/cli.h"
#include "node/control_path.h"
#include "node/verbs.h"
#include "proto/check.h"
#include "proto/mem.h"

/* How long a node that is just starting or stopping is waited for. */
#define LOCKED_TRIES   30
#define LOCKED_WAIT_MS 100
/* verify and rescan of a big database take their time */
#define ANSWER_MS (24ull * 3600 * 1000)

struct request {
	const struct cli_args *args;
	const char *db;
	char *state; /* owned */
	const char *words[5 * CLI_LIST_MAX + 3];
	size_t count;
	struct p2p_buf out;
	struct p2p_error err;
};

static bool request_init(struct request *request, const struct cli_args *args)
{
	memset(request, 0, sizeof(*request));
	request->args = args;
	request->db = args->words.items[0];
	request->state = args->state ? p2p_strdup(args->state) : p2p_node_state_dir(request->db);
	p2p_buf_init(&request->out, P2P_CONTROL_ANSWER_MAX);
	return request->state != NULL;
}

static void request_add(struct request *request, const char *word)
{
	p2p_require(request->count < p2p_array_len(request->words));
	request->words[request->count++] = word;
}

/* Prints the answer, or the error; frees. */
static int request_end(struct request *request, int rc)
{
	const char *hint = NULL;

	if (rc == 0) {
		(void)fwrite(request->out.data, 1, request->out.len, stdout);
	} else if (rc == CLI_CLIENT_NONE) {
		(void)fprintf(stderr, "p2pnode: %s: no node runs for '%s'\n",
			      request->args->verb->name, request->db);
		(void)fprintf(stderr, "  start it with p2pnode run\n");
		rc = CLI_NOT_RUNNING;
	} else {
		if (rc == P2P_ENOENT)
			hint = access(request->db, F_OK) == 0
				       ? "p2pnode tables shows what there is; p2pnode share makes a "
					 "mesh"
				       : "give the path of a database that is in a mesh";
		rc = cli_fail(request->args, rc,
			      request->err.msg[0] ? request->err.msg : p2p_strerror(rc), hint);
	}
	p2p_buf_deinit(&request->out);
	p2p_free(request->state);
	return rc;
}

/* Opens the files for one verb. */
static int run_offline(struct request *request)
{
	p2p_node_options options;
	struct p2p_node *node;
	int rc;

	p2p_node_options_init(&options, sizeof(options));
	options.state_dir = request->state;
	rc = p2p_node_open_as(request->db, &options, true, &node, &request->err);
	if (rc)
		return rc;
	rc = p2p_verb_run(node, request->count, request->words, &request->out, &request->err);
	if (p2p_node_close(node) && !rc)
		rc = P2P_EIO;
	return rc;
}

/* The running node if there is one, else the files. A node that is just starting or stopping has
 * the lock but no socket: waited for a little. */
static int ask_or_open(struct request *request)
{
	int rc = P2P_ELOCKED, i;

	for (i = 0; rc == P2P_ELOCKED && i < LOCKED_TRIES; i++) {
		if (i)
			(void)poll(NULL, 0, LOCKED_WAIT_MS);
		p2p_buf_reset(&request->out);
		rc = cli_ask(request->db, request->state, request->words, request->count, ANSWER_MS,
			     &request->out, &request->err);
		if (rc == CLI_CLIENT_NONE)
			rc = run_offline(request);
	}
	if (rc == P2P_ELOCKED)
		rc = p2p_error_set(&request->err, P2P_EBUSY,
				   "a node has this database, but does not answer yet");
	return rc;
}

int cli_show(const struct cli_args *args)
{
	struct request request;

	if (!request_init(&request, args))
		return request_end(&request, P2P_ENOMEM);
	request_add(&request, args->verb->name);
	request_add(&request, args->json ? "json" : "text");
	return request_end(&request, ask_or_open(&request));
}

int cli_conflicts(const struct cli_args *args)
{
	struct request request;

	if (!args->restore)
		return cli_show(args);
	if (!request_init(&request, args))
		return request_end(&request, P2P_ENOMEM);
	request_add(&request, "restore");
	request_add(&request, args->restore);
	return request_end(&request, ask_or_open(&request));
}

int cli_vector(const struct cli_args *args)
{
	struct request request;

	if (!request_init(&request, args))
		return request_end(&request, P2P_ENOMEM);
	request_add(&request, "vector");
	return request_end(&request, ask_or_open(&request));
}

int cli_verify(const struct cli_args *args)
{
	struct request request;

	if (!request_init(&request, args))
		return request_end(&request, P2P_ENOMEM);
	request_add(&request, "verify");
	return request_end(&request, ask_or_open(&request));
}

int cli_tables(const struct cli_args *args)
{
	struct request request;
	size_t i;

	if (!request_init(&request, args))
		return request_end(&request, P2P_ENOMEM);
	request_add(&request, args->verb->name);
	for (i = 0; i < args->refs.count; i++) {
		request_add(&request, "--ref");
		request_add(&request, args->refs.items[i]);
	}
	for (i = 0; i < args->counters.count; i++) {
		request_add(&request, "--counter");
		request_add(&request, args->counters.items[i]);
	}
	if (args->refs.count || args->counters.count)
		request_add(&request, "--");
	for (i = 1; i < args->words.count; i++)
		request_add(&request, args->words.items[i]);
	return request_end(&request, ask_or_open(&request));
}

int cli_wait(const struct cli_args *args)
{
	struct request request;
	char peers[24], timeout[24];
	int rc;

	if (!request_init(&request, args))
		return request_end(&request, P2P_ENOMEM);
	(void)snprintf(peers, sizeof(peers), "%" PRIu64, args->peers);
	(void)snprintf(timeout, sizeof(timeout), "%" PRIu32, args->timeout_ms);
	request_add(&request, "wait");
	request_add(&request, peers);
	request_add(&request, timeout);
	if (args->vector)
		request_add(&request, args->vector);
	rc = cli_ask(request.db, request.state, request.words, request.count,
		     (uint64_t)args->timeout_ms + 10000, &request.out, &request.err);
	return request_end(&request, rc);
}

int cli_invite(const struct cli_args *args)
{
	struct request request;
	char uses[24], expires[24];

	if (args->qr) {
		(void)cli_fail(args, P2P_EREFUSED, "--qr comes in a later version",
			       "the ticket without it is the same");
		return CLI_FAILED;
	}
	if (!request_init(&request, args))
		return request_end(&request, P2P_ENOMEM);
	(void)snprintf(uses, sizeof(uses), "%" PRIu32, args->uses);
	(void)snprintf(expires, sizeof(expires), "%" PRIu64, args->expires_ms);
	request_add(&request, "invite");
	request_add(&request, uses);
	request_add(&request, expires);
	request_add(&request, args->role ? args->role : "writer");
	request_add(&request, args->no_addresses ? "1" : "0");
	return request_end(&request, cli_ask(request.db, request.state, request.words,
					     request.count, ANSWER_MS, &request.out, &request.err));
}

/* ---- unshare -------------------------------------------------------------------------------- */

static void remove_state(const char *dir)
{
	static const char *const files[] = {
		"identity",   "identity.new", "secret",		"secret.new", "ticket",
		"ticket.new", "log.db",	      "log.db-wal",	"log.db-shm", "log.db-journal",
		"mark",	      "mark.new",     P2P_CONTROL_NAME,
	};
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	size_t i;

	if (fd < 0)
		return;
	for (i = 0; i < p2p_array_len(files); i++)
		(void)unlinkat(fd, files[i], 0); /* most of them are not there */
	(void)close(fd);
	(void)rmdir(dir); /* stays if somebody put other files into it */
}

static int unshare_file(struct request *request)
{
	struct p2p_env env;
	struct p2p_store_config config = {.path = request->db, .env = &env};
	struct p2p_store *store;
	int rc;

	p2p_node_env_init(&env);
	rc = p2p_store_open(&config, &store, NULL, &request->err);
	if (rc)
		return rc;
	rc = p2p_store_enabled(store)
		     ? p2p_store_unshare(store, &request->err)
		     : p2p_error_set(&request->err, P2P_ENOENT, "'%s' is in no mesh", request->db);
	p2p_store_close(store);
	return rc;
}

int cli_unshare(const struct cli_args *args)
{
	struct p2p_id instance = {{0}};
	struct p2p_lock lock;
	struct request request;
	int rc;

	if (!request_init(&request, args))
		return request_end(&request, P2P_ENOMEM);
	if (access(request.db, F_OK) != 0)
		rc = p2p_error_set(&request.err, P2P_ENOENT, "'%s': no such file", request.db);
	else
		rc = p2p_lock_take(&lock, request.db, &instance, &request.err);
	if (rc)
		return request_end(&request, rc);
	rc = unshare_file(&request);
	if (rc) {
		p2p_lock_release(&lock);
		return request_end(&request, rc);
	}
	remove_state(request.state);
	p2p_lock_remove(&lock);
	p2p_buf_put(&request.out, "unshared\n", 9);
	return request_end(&request, 0);
}

int cli_later(const struct cli_args *args)
{
	(void)cli_fail(args, P2P_EREFUSED, "this verb comes in a later version",
		       "p2pnode --help lists what there is");
	return CLI_FAILED;
}
