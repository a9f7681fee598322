/* Asks the running node of a database over its control socket; see control.c for the format. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "node/cli.h"
#include "node/control_path.h"

static uint64_t now_ms(void)
{
	struct timespec ts = {0};

	(void)clock_gettime(CLOCK_MONOTONIC, &ts); /* exists on every Linux */
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static int connect_node(const char *state_dir)
{
	int dir = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC), fd, error;
	struct sockaddr_un address;

	if (dir < 0)
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0) {
		p2p_control_path(&address, dir);
		if (connect(fd, (const struct sockaddr *)(const void *)&address, sizeof(address)) !=
		    0) {
			error = errno;
			(void)close(fd); /* nothing was sent */
			errno = error;
			fd = -1;
		}
	}
	error = errno;
	(void)close(dir);
	errno = error;
	return fd;
}

static int send_all(int fd, const uint8_t *data, size_t len)
{
	while (len) {
		ssize_t done = send(fd, data, len, MSG_NOSIGNAL);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return P2P_EIO;
		data += done;
		len -= (size_t)done;
	}
	return 0;
}

static int send_request(int fd, const char *const *words, size_t count, struct p2p_error *err)
{
	struct p2p_buf line;
	size_t i;
	int rc;

	p2p_buf_init(&line, P2P_CONTROL_LINE_MAX);
	for (i = 0; i < count; i++) {
		if (strpbrk(words[i], "\t\n")) {
			p2p_buf_deinit(&line);
			return p2p_error_set(err, P2P_EINVAL,
					     "'%.60s': names with a tab or a new line cannot be "
					     "given here",
					     words[i]);
		}
		if (i)
			p2p_buf_put_u8(&line, '\t');
		p2p_buf_put(&line, words[i], strlen(words[i]));
	}
	p2p_buf_put_u8(&line, '\n');
	rc = p2p_buf_error(&line);
	if (!rc)
		rc = send_all(fd, line.data, line.len);
	p2p_buf_deinit(&line);
	return rc ? p2p_error_set(err, rc, "the request cannot be sent: %s", p2p_strerror(rc)) : 0;
}

static int read_answer(int fd, uint64_t timeout_ms, struct p2p_buf *out, struct p2p_error *err)
{
	uint64_t end = now_ms() + timeout_ms;

	for (;;) {
		struct pollfd poller = {.fd = fd, .events = POLLIN};
		uint64_t now = now_ms();
		uint8_t *at;
		ssize_t got;
		int ready;

		ready = poll(&poller, 1, now < end ? (int)(end - now) : 0);
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0)
			return p2p_error_set(err, P2P_EBUSY, "the node does not answer");
		at = p2p_buf_reserve(out, 65536);
		if (!at)
			return p2p_error_set(err, P2P_ENOMEM, "the answer is too long");
		got = recv(fd, at, 65536, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return p2p_error_set(err, P2P_EBUSY, "the node has gone: %s",
					     strerror(errno));
		if (got == 0)
			return 0;
		out->len += (size_t)got;
	}
}

/* "ok\n..." or "error -5\ntext\n": takes the first line off. */
static int judge(struct p2p_buf *out, struct p2p_error *err)
{
	char text[sizeof(err->msg)];
	uint8_t *end = out->len ? memchr(out->data, '\n', out->len) : NULL;
	size_t line;
	long code;

	if (!end)
		return p2p_error_set(err, P2P_EBUSY, "the node ended before it answered");
	line = (size_t)(end - out->data) + 1;
	if (line == 3 && memcmp(out->data, "ok\n", 3) == 0) {
		p2p_buf_consume(out, line);
		return 0;
	}
	*end = 0;
	code = strncmp((const char *)out->data, "error ", 6) == 0
		       ? strtol((const char *)out->data + 6, NULL, 10)
		       : 0;
	p2p_buf_consume(out, line);
	(void)snprintf(text, sizeof(text), "%.*s", (int)(out->len < 255 ? out->len : 255),
		       out->len ? (const char *)out->data : "");
	text[strcspn(text, "\n")] = 0;
	p2p_buf_reset(out);
	if (code >= 0 || code < P2P_ENEWER)
		code = P2P_EPROTO;
	return p2p_error_set(err, (int)code, "%s", text);
}

int cli_ask(const char *db_path, const char *state_dir, const char *const *words, size_t count,
	    uint64_t timeout_ms, struct p2p_buf *out, struct p2p_error *err)
{
	int fd = connect_node(state_dir), rc;

	(void)db_path;
	if (fd < 0)
		return CLI_CLIENT_NONE;
	rc = send_request(fd, words, count, err);
	if (!rc)
		rc = read_answer(fd, timeout_ms, out, err);
	(void)close(fd); /* all was read, or nothing matters */
	return rc ? rc : judge(out, err);
}
