/* A switch for test hosts: frames between TAP devices in network namespaces, with faults on each
 * directed link that kernels do not all have (netem): loss, delay, jitter, reordering, rate, cuts,
 * and carriers that go off.
 *
 * Usage: lan_switch SEED NAMESPACE_PATH...     (host 1 is the first; each gets a device eth0)
 * Reads commands from stdin, answers each with a line, and ends with it:
 *   set A B KEY=VALUE...   link from A to B (0: all); up 0|1, delay_ms, jitter_ms, loss, reorder
 *                          (percent: sent on at once, before what is delayed)
 *   rate A KBIT            what A sends; 0: as fast as it goes
 *   carrier A 0|1          its cable
 *   stats                  frames passed and dropped since the beginning */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define HOSTS_MAX      32
#define FRAME_BYTES    2048
#define FRAMES_MAX     20000  /* under way, of all: a switch has a limit, too */
#define QUEUE_US_MAX   400000 /* a frame that would wait longer at a sender's rate is dropped */
#define READS_PER_WAKE 64

#ifndef TUNSETCARRIER
#define TUNSETCARRIER _IOW('T', 226, int)
#endif

struct link {
	bool up;
	uint64_t delay_us, jitter_us;
	unsigned loss, reorder; /* percent */
};

struct host {
	int fd;
	uint8_t mac[6];
	bool known;
	uint64_t rate_kbit, free_us;
};

struct frame {
	uint64_t due_us, order;
	size_t from, to, len;
	uint8_t data[FRAME_BYTES];
};

struct lan {
	struct host hosts[HOSTS_MAX + 1]; /* from 1 */
	struct link links[HOSTS_MAX + 1][HOSTS_MAX + 1];
	size_t count;
	struct frame **heap; /* by due time */
	size_t heap_count;
	uint64_t random, order, passed, dropped;
};

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_us(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts); /* exists on every Linux */
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* splitmix64 */
static uint64_t chance(struct lan *lan, uint64_t below)
{
	uint64_t z = lan->random += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return (z ^ (z >> 31)) % below;
}

/* --- frames under way ------------------------------------------------------------------------- */

static bool before(const struct frame *a, const struct frame *b)
{
	return a->due_us < b->due_us || (a->due_us == b->due_us && a->order < b->order);
}

static void heap_push(struct lan *lan, struct frame *frame)
{
	size_t at = lan->heap_count++;

	for (; at && before(frame, lan->heap[(at - 1) / 2]); at = (at - 1) / 2)
		lan->heap[at] = lan->heap[(at - 1) / 2];
	lan->heap[at] = frame;
}

static struct frame *heap_pop(struct lan *lan)
{
	struct frame *first = lan->heap[0], *last = lan->heap[--lan->heap_count];
	size_t at = 0, child;

	while ((child = 2 * at + 1) < lan->heap_count) {
		if (child + 1 < lan->heap_count && before(lan->heap[child + 1], lan->heap[child]))
			child++;
		if (!before(lan->heap[child], last))
			break;
		lan->heap[at] = lan->heap[child];
		at = child;
	}
	lan->heap[at] = last;
	return first;
}

/* --- switching -------------------------------------------------------------------------------- */

static void frame_send(struct lan *lan, size_t from, size_t to, const uint8_t *data, size_t len,
		       uint64_t sent_us)
{
	const struct link *link = &lan->links[from][to];
	struct frame *frame;

	if (!link->up || chance(lan, 100) < link->loss || lan->heap_count == FRAMES_MAX) {
		lan->dropped++;
		return;
	}
	frame = malloc(sizeof(*frame));
	if (!frame)
		fail("memory");
	frame->due_us = sent_us;
	if (chance(lan, 100) >= link->reorder)
		frame->due_us +=
			link->delay_us + (link->jitter_us ? chance(lan, link->jitter_us) : 0);
	frame->order = lan->order++;
	frame->from = from;
	frame->to = to;
	frame->len = len;
	memcpy(frame->data, data, len);
	heap_push(lan, frame);
}

/* When a frame of a host has gone out at its rate; 0: its queue is full. */
static uint64_t sender_us(struct host *host, size_t len)
{
	uint64_t now = now_us();

	if (!host->rate_kbit)
		return now;
	if (host->free_us < now)
		host->free_us = now;
	if (host->free_us - now > QUEUE_US_MAX)
		return 0;
	host->free_us += len * 8 * 1000 / host->rate_kbit;
	return host->free_us;
}

static size_t owner_of(const struct lan *lan, const uint8_t mac[6])
{
	size_t i;

	for (i = 1; i <= lan->count; i++)
		if (lan->hosts[i].known && memcmp(lan->hosts[i].mac, mac, 6) == 0)
			return i;
	return 0;
}

static void take(struct lan *lan, size_t from, const uint8_t *data, size_t len)
{
	struct host *host = &lan->hosts[from];
	uint64_t sent_us = sender_us(host, len);
	size_t to = data[0] & 1 ? 0 : owner_of(lan, data);

	memcpy(host->mac, data + 6, 6);
	host->known = true;
	if (!sent_us) {
		lan->dropped++;
		return;
	}
	if (to) {
		if (to != from)
			frame_send(lan, from, to, data, len, sent_us);
		return;
	}
	for (to = 1; to <= lan->count; to++)
		if (to != from)
			frame_send(lan, from, to, data, len, sent_us);
}

static void deliver_due(struct lan *lan)
{
	uint64_t now = now_us();

	while (lan->heap_count && lan->heap[0]->due_us <= now) {
		struct frame *frame = heap_pop(lan);

		/* a cable that is out, or a host that does not read, loses it */
		if (lan->links[frame->from][frame->to].up &&
		    write(lan->hosts[frame->to].fd, frame->data, frame->len) == (ssize_t)frame->len)
			lan->passed++;
		else
			lan->dropped++;
		free(frame);
	}
}

/* --- commands --------------------------------------------------------------------------------- */

static bool link_set(struct link *link, const char *key, unsigned long value)
{
	if (strcmp(key, "up") == 0)
		link->up = value != 0;
	else if (strcmp(key, "delay_ms") == 0)
		link->delay_us = value * 1000;
	else if (strcmp(key, "jitter_ms") == 0)
		link->jitter_us = value * 1000;
	else if (strcmp(key, "loss") == 0)
		link->loss = (unsigned)value;
	else if (strcmp(key, "reorder") == 0)
		link->reorder = (unsigned)value;
	else
		return false;
	return true;
}

static bool links_set(struct lan *lan, size_t a, size_t b, const char *key, unsigned long value)
{
	size_t i, j;

	if (a > lan->count || b > lan->count)
		return false;
	for (i = a ? a : 1; i <= (a ? a : lan->count); i++)
		for (j = b ? b : 1; j <= (b ? b : lan->count); j++)
			if (!link_set(&lan->links[i][j], key, value))
				return false;
	return true;
}

/* KEY=VALUE words; false: one of them is none. */
static bool command_set(struct lan *lan, size_t a, size_t b, char *text)
{
	char *save = NULL, *word, *equals;

	for (word = strtok_r(text, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
		equals = strchr(word, '=');
		if (!equals)
			return false;
		*equals = 0;
		if (!links_set(lan, a, b, word, strtoul(equals + 1, NULL, 10)))
			return false;
	}
	return true;
}

static bool command(struct lan *lan, char *line)
{
	size_t a, b;
	int at = 0, on;

	if (sscanf(line, "set %zu %zu %n", &a, &b, &at) == 2 && at)
		return command_set(lan, a, b, line + at);
	if (sscanf(line, "rate %zu %zu", &a, &b) == 2 && a && a <= lan->count) {
		lan->hosts[a].rate_kbit = b;
		return true;
	}
	if (sscanf(line, "carrier %zu %d", &a, &on) == 2 && a && a <= lan->count)
		return ioctl(lan->hosts[a].fd, TUNSETCARRIER, &on) == 0;
	return strncmp(line, "stats", 5) == 0;
}

/* False at the end of input. Commands come one by one: each is answered before the next. */
static bool commands(struct lan *lan)
{
	char line[512];

	if (!fgets(line, sizeof(line), stdin))
		return false;
	if (command(lan, line))
		(void)printf("ok passed %llu dropped %llu\n", (unsigned long long)lan->passed,
			     (unsigned long long)lan->dropped);
	else
		(void)printf("error: %s", line);
	return fflush(stdout) == 0;
}

/* --- life ------------------------------------------------------------------------------------- */

static int tap_open(const char *namespace)
{
	struct ifreq request;
	int ns = open(namespace, O_RDONLY | O_CLOEXEC), fd;

	if (ns < 0 || setns(ns, CLONE_NEWNET))
		fail(namespace);
	(void)close(ns); /* only read */
	fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		fail("/dev/net/tun");
	memset(&request, 0, sizeof(request));
	memcpy(request.ifr_name, "eth0", 5);
	request.ifr_flags = IFF_TAP | IFF_NO_PI;
	if (ioctl(fd, TUNSETIFF, &request))
		fail("TUNSETIFF");
	return fd;
}

static void read_host(struct lan *lan, size_t from)
{
	uint8_t data[FRAME_BYTES];
	ssize_t len;
	int i;

	for (i = 0; i < READS_PER_WAKE; i++) {
		len = read(lan->hosts[from].fd, data, sizeof(data));
		if (len < 14)
			return;
		take(lan, from, data, (size_t)len);
	}
}

static void run(struct lan *lan)
{
	struct pollfd polls[HOSTS_MAX + 1];
	struct timespec wait;
	size_t i;

	for (i = 1; i <= lan->count; i++)
		polls[i] = (struct pollfd){lan->hosts[i].fd, POLLIN, 0};
	polls[0] = (struct pollfd){STDIN_FILENO, POLLIN, 0};
	while (true) {
		uint64_t now = now_us(), left = 1000000;

		if (lan->heap_count)
			left = lan->heap[0]->due_us > now ? lan->heap[0]->due_us - now : 0;
		wait.tv_sec = (time_t)(left / 1000000);
		wait.tv_nsec = (long)(left % 1000000 * 1000);
		if (ppoll(polls, (nfds_t)lan->count + 1, &wait, NULL) < 0 && errno != EINTR)
			fail("poll");
		deliver_due(lan);
		if (polls[0].revents && !commands(lan))
			return;
		for (i = 1; i <= lan->count; i++)
			if (polls[i].revents)
				read_host(lan, i);
	}
}

int main(int argc, char **argv)
{
	static struct lan lan;
	size_t i, j;

	if (argc < 3 || argc - 2 > HOSTS_MAX)
		return 2;
	lan.count = (size_t)argc - 2;
	lan.random = strtoull(argv[1], NULL, 10);
	lan.heap = calloc(FRAMES_MAX, sizeof(struct frame *));
	if (!lan.heap)
		fail("memory");
	(void)setvbuf(stdin, NULL, _IONBF, 0); /* what is read ahead, poll does not tell */
	for (i = 1; i <= lan.count; i++) {
		lan.hosts[i].fd = tap_open(argv[i + 1]);
		for (j = 1; j <= lan.count; j++)
			lan.links[i][j].up = true;
	}
	(void)printf("ready\n");
	(void)fflush(stdout);
	run(&lan);
	return 0;
}
