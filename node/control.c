/* The control socket: "control" in the state directory, mode 0600. One request line of words
 * separated by tabs, one answer, end of connection:
 *
 *	status\tjson\n		->	ok\n{...}\n
 *	enable\tnotes\n		->	error -11\nno primary key ...
 *
 * Requests, clients and answers are bounded; a slow or silent client costs its own slot only. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "node/control_path.h"
#include "node/verbs.h"
#include "proto/check.h"
#include "proto/mem.h"

#define WORDS_MAX (P2P_TABLES_MAX + 4 * P2P_NAMED_MAX + 8)
/* A client that says nothing for that long is closed. */
#define CLIENT_SILENT_MS 10000

struct p2p_control {
	struct p2p_node *node; /* borrowed */
	uv_pipe_t pipe;
	struct p2p_list clients; /* struct client */
	size_t client_count;
	uv_pipe_t refused; /* takes a client for whom there is no slot or no memory */
	bool refusing, refuse_next;
	bool closing, pipe_closed;
};

struct client {
	struct p2p_list link;
	struct p2p_control *control;
	uv_pipe_t pipe;
	uv_timer_t timer;
	unsigned int handles; /* open ones; freed at zero */
	uv_write_t write;
	struct p2p_buf in, out;
	bool asked, closing, waiting;
	struct p2p_wait wait;
};

/* ---- end of things -------------------------------------------------------------------------- */

static void control_maybe_free(struct p2p_control *control)
{
	struct p2p_node *node = control->node;

	if (!control->pipe_closed || control->client_count || control->refusing)
		return;
	p2p_free(control);
	p2p_node_part_closed(node);
}

static void client_handle_closed(uv_handle_t *handle)
{
	struct client *client = handle->data;
	struct p2p_control *control = client->control;

	p2p_require(client->handles > 0);
	if (--client->handles)
		return;
	p2p_list_remove(&client->link);
	p2p_buf_deinit(&client->in);
	p2p_buf_deinit(&client->out);
	p2p_vv_deinit(&client->wait.need);
	p2p_free(client);
	control->client_count--;
	if (control->closing)
		control_maybe_free(control);
}

static void client_close(struct client *client)
{
	if (client->closing)
		return;
	client->closing = true;
	if (client->waiting)
		p2p_wait_remove(&client->wait);
	client->waiting = false;
	uv_close((uv_handle_t *)&client->pipe, client_handle_closed);
	uv_close((uv_handle_t *)&client->timer, client_handle_closed);
}

/* ---- answers -------------------------------------------------------------------------------- */

static void write_cb(uv_write_t *request, int status)
{
	struct client *client = request->data;

	(void)status; /* whoever asked has gone: nobody to tell */
	client_close(client);
}

static void answer(struct client *client)
{
	uv_buf_t buf = {.base = (char *)client->out.data, .len = client->out.len};

	if (p2p_buf_error(&client->out) || client->out.len == 0) {
		client_close(client);
		return;
	}
	client->write.data = client;
	if (uv_write(&client->write, (uv_stream_t *)&client->pipe, &buf, 1, write_cb))
		client_close(client);
}

static void answer_error(struct client *client, int code, const char *text)
{
	char head[32];

	p2p_buf_reset(&client->out);
	(void)snprintf(head, sizeof(head), "error %d\n", code);
	p2p_buf_put(&client->out, head, strlen(head));
	p2p_buf_put(&client->out, text, strlen(text));
	p2p_buf_put_u8(&client->out, '\n');
	answer(client);
}

static void wait_done(struct p2p_wait *wait, int code, const char *text)
{
	struct client *client = wait->ctx;

	client->waiting = false;
	if (code) {
		answer_error(client, code, text);
		return;
	}
	p2p_buf_put(&client->out, "ok\n", 3);
	answer(client);
}

/* wait PEERS TIMEOUT_MS [VECTOR] */
static void start_wait(struct client *client, size_t argc, const char *const *argv)
{
	struct p2p_wait *wait = &client->wait;
	uint32_t timeout_ms;

	if (argc < 3 || argc > 4) {
		answer_error(client, P2P_EINVAL, "wait: wrong number of arguments");
		return;
	}
	wait->peers = strtoul(argv[1], NULL, 10);
	timeout_ms = (uint32_t)strtoul(argv[2], NULL, 10);
	wait->ctx = client;
	wait->done = wait_done;
	if (argc == 4) {
		if (p2p_vv_parse(&wait->need, argv[3])) {
			answer_error(client, P2P_EINVAL, "--for: this is no vector");
			return;
		}
		wait->has_need = true;
	}
	client->waiting = true;
	(void)uv_timer_stop(&client->timer); /* a stopped timer is no error */
	p2p_wait_add(client->control->node, wait, timeout_ms);
}

static void run_line(struct client *client, char *line)
{
	const char *words[WORDS_MAX];
	struct p2p_error err = {0};
	size_t count = 0;
	char *at = line, *tab;
	int rc;

	do {
		if (count == WORDS_MAX) {
			answer_error(client, P2P_ETOOBIG, "too many arguments");
			return;
		}
		words[count++] = at;
		tab = strchr(at, '\t');
		if (tab) {
			*tab = 0;
			at = tab + 1;
		}
	} while (tab);
	if (strcmp(words[0], "wait") == 0) {
		start_wait(client, count, words);
		return;
	}
	p2p_buf_put(&client->out, "ok\n", 3);
	rc = p2p_verb_run(client->control->node, count, words, &client->out, &err);
	if (rc)
		answer_error(client, rc, err.msg[0] ? err.msg : p2p_strerror(rc));
	else
		answer(client);
}

/* ---- reading -------------------------------------------------------------------------------- */

static void alloc_cb(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct client *client = handle->data;
	uint8_t *at = p2p_buf_reserve(&client->in, 1024);

	(void)suggested;
	buf->base = (char *)at;
	buf->len = at ? 1024 : 0; /* 0 comes back as UV_ENOBUFS */
}

static void read_cb(uv_stream_t *stream, ssize_t got, const uv_buf_t *buf)
{
	struct client *client = stream->data;
	uint8_t *end;

	(void)buf;
	if (got < 0) {
		client_close(client);
		return;
	}
	if (client->asked)
		return; /* one request a connection: what follows is thrown away */
	client->in.len += (size_t)got;
	end = client->in.len ? memchr(client->in.data, '\n', client->in.len) : NULL;
	if (!end)
		return;
	client->asked = true;
	*end = 0;
	run_line(client, (char *)client->in.data);
}

static void timer_cb(uv_timer_t *timer)
{
	client_close(timer->data);
}

static void client_start(struct p2p_control *control, struct client *client)
{
	client->control = control;
	client->pipe.data = client;
	client->timer.data = client;
	client->handles = 2;
	p2p_buf_init(&client->in, P2P_CONTROL_LINE_MAX);
	p2p_buf_init(&client->out, P2P_CONTROL_ANSWER_MAX);
	p2p_vv_init(&client->wait.need);
	p2p_list_push(&control->clients, &client->link);
	control->client_count++;
	if (uv_accept((uv_stream_t *)&control->pipe, (uv_stream_t *)&client->pipe) ||
	    uv_read_start((uv_stream_t *)&client->pipe, alloc_cb, read_cb) ||
	    uv_timer_start(&client->timer, timer_cb, CLIENT_SILENT_MS, 0))
		client_close(client);
}

static void refuse(struct p2p_control *control);

static void refused_closed(uv_handle_t *handle)
{
	struct p2p_control *control = handle->data;

	control->refusing = false;
	if (control->closing)
		control_maybe_free(control);
	else if (control->refuse_next)
		refuse(control);
}

/* Accepts and closes at once: libuv would not poll the listener again before. */
static void refuse(struct p2p_control *control)
{
	control->refuse_next = control->refusing;
	if (control->refusing)
		return; /* libuv holds this one until the one before is gone */
	p2p_require(uv_pipe_init(control->pipe.loop, &control->refused, 0) == 0);
	control->refused.data = control;
	control->refusing = true;
	(void)uv_accept((uv_stream_t *)&control->pipe, (uv_stream_t *)&control->refused);
	uv_close((uv_handle_t *)&control->refused, refused_closed);
}

static void connection_cb(uv_stream_t *server, int status)
{
	struct p2p_control *control = server->data;
	struct client *client;

	if (status)
		return;
	client = control->client_count < P2P_CONTROL_CLIENTS_MAX ? p2p_calloc(1, sizeof(*client))
								 : NULL;
	if (!client) {
		refuse(control);
		return;
	}
	/* neither can fail on Linux */
	p2p_require(uv_pipe_init(server->loop, &client->pipe, 0) == 0);
	p2p_require(uv_timer_init(server->loop, &client->timer) == 0);
	client_start(control, client);
}

/* ---- open and close ------------------------------------------------------------------------- */

static int listen_socket(const struct p2p_node *node)
{
	struct sockaddr_un address;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	p2p_control_path(&address, node->state_fd);
	(void)unlinkat(node->state_fd, P2P_CONTROL_NAME, 0); /* of a node that was killed */
	if (fchmod(fd, 0600) != 0 ||
	    bind(fd, (const struct sockaddr *)(const void *)&address, sizeof(address)) != 0 ||
	    fchmodat(node->state_fd, P2P_CONTROL_NAME, 0600, 0) != 0) {
		int error = errno;

		(void)close(fd); /* nothing was written */
		errno = error;
		return -1;
	}
	return fd;
}

static void pipe_closed(uv_handle_t *handle)
{
	struct p2p_control *control = handle->data;

	control->pipe_closed = true;
	control_maybe_free(control);
}

int p2p_control_open(struct p2p_node *node, struct p2p_error *err)
{
	struct p2p_control *control = p2p_calloc(1, sizeof(*control));
	int fd, rc;

	if (!control)
		return p2p_error_set(err, P2P_ENOMEM, "out of memory");
	fd = listen_socket(node);
	if (fd < 0) {
		p2p_free(control);
		return p2p_error_set(err, P2P_EIO, "control socket in '%s': %s", node->state_dir,
				     strerror(errno));
	}
	control->node = node;
	p2p_list_init(&control->clients);
	rc = uv_pipe_init(node->loop, &control->pipe, 0);
	p2p_require(rc == 0); /* cannot fail on Linux */
	control->pipe.data = control;
	node->control = control;
	node->pending++;
	rc = uv_pipe_open(&control->pipe, fd);
	if (rc)
		(void)close(fd); /* it is still ours */
	else
		rc = uv_listen((uv_stream_t *)&control->pipe, P2P_CONTROL_CLIENTS_MAX,
			       connection_cb);
	return rc ? p2p_error_set(err, P2P_EIO, "control socket: %s", uv_strerror(rc)) : 0;
}

void p2p_control_close(struct p2p_control *control)
{
	struct p2p_list *at, *tmp;

	control->closing = true;
	control->node->control = NULL;
	(void)unlinkat(control->node->state_fd, P2P_CONTROL_NAME, 0); /* a stale one does no harm */
	p2p_list_for_each (at, tmp, &control->clients)
		client_close(p2p_container_of(at, struct client, link));
	uv_close((uv_handle_t *)&control->pipe, pipe_closed);
}
