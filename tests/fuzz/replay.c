/* A target without a fuzzer, deterministic, for any compiler:
 *
 *	replay_TARGET [-runs=N] [-seed=S] [-seeds=DIR] [-same=DIR] [-len_max] FILE|DIR...
 *
 * Runs every file given (a folder: all files in it, in the order of their names); then, with -runs,
 * N inputs made from them by a mutation loop whose choices follow from S. -seeds writes the
 * target's seeds to DIR; -same fails unless DIR, whose files are run too, holds them just so;
 * -len_max prints how long an input may be. An input that aborts the
 * process is written to crash-TARGET in the current folder before that. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

#define FILES_MAX 4096

struct input {
	char *name; /* owned, as data */
	uint8_t *data;
	size_t len;
};

static struct input inputs[FILES_MAX];
static size_t input_count;
static const uint8_t *running;
static size_t running_len;

static _Noreturn void fail(const char *what, const char *name)
{
	(void)fprintf(stderr, "replay_%s: %s: %s\n", fuzz_target.name, what, name);
	exit(1);
}

static void on_abort(int signal_number)
{
	char path[128];
	int fd;

	(void)snprintf(path, sizeof(path), "crash-%s", fuzz_target.name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd >= 0 && write(fd, running, running_len) == (ssize_t)running_len)
		(void)fprintf(stderr, "the input is in %s\n", path);
	(void)signal(signal_number, SIG_DFL);
	(void)raise(signal_number);
}

static void run(const uint8_t *data, size_t len)
{
	running = data;
	running_len = len;
	fuzz_run(data, len);
}

/* --- files ------------------------------------------------------------------------------------ */

static void load_file(const char *path)
{
	struct input *input = &inputs[input_count];
	FILE *file = fopen(path, "rb");
	uint8_t *data = malloc(fuzz_target.len_max + 1);

	if (!file || !data || input_count == FILES_MAX)
		fail("cannot read", path);
	input->len = fread(data, 1, fuzz_target.len_max + 1, file);
	if (ferror(file) || input->len > fuzz_target.len_max)
		fail("cannot be read, or is too long for this target", path);
	(void)fclose(file);
	input->data = data;
	input->name = strdup(path);
	input_count++;
}

static int seen_file(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void load(const char *path)
{
	struct dirent **list;
	struct stat st;
	char name[4096];
	int i, count;

	if (stat(path, &st))
		fail(strerror(errno), path);
	if (!S_ISDIR(st.st_mode)) {
		load_file(path);
		return;
	}
	count = scandir(path, &list, seen_file, alphasort);
	if (count < 0)
		fail(strerror(errno), path);
	for (i = 0; i < count; i++) {
		(void)snprintf(name, sizeof(name), "%s/%s", path, list[i]->d_name);
		load_file(name);
		free(list[i]);
	}
	free(list);
}

static void seed_write(void *ctx, const char *name, const uint8_t *data, size_t len)
{
	char path[4096];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/%s", (const char *)ctx, name);
	file = fopen(path, "wb");
	if (!file || fwrite(data, 1, len, file) != len || fclose(file))
		fail("cannot write", path);
}

static void seed_compare(void *ctx, const char *name, const uint8_t *data, size_t len)
{
	char path[4096];
	size_t i;

	(void)snprintf(path, sizeof(path), "%s/%s", (const char *)ctx, name);
	for (i = 0; i < input_count; i++)
		if (strcmp(inputs[i].name, path) == 0 && inputs[i].len == len &&
		    memcmp(inputs[i].data, data, len) == 0)
			return;
	fail("is not what the target makes (scripts/fuzz --seeds writes them anew)", path);
}

/* --- mutations -------------------------------------------------------------------------------- */

/* splitmix64 */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static size_t below(uint64_t *state, size_t limit)
{
	return limit ? (size_t)(next_random(state) % limit) : 0;
}

struct mutant {
	uint8_t *data;
	size_t len;
};

static void insert(struct mutant *m, size_t at, const uint8_t *data, size_t len)
{
	if (len > fuzz_target.len_max - m->len)
		len = fuzz_target.len_max - m->len;
	memmove(m->data + at + len, m->data + at, m->len - at);
	memcpy(m->data + at, data, len);
	m->len += len;
}

static void erase(struct mutant *m, size_t at, size_t len)
{
	if (len > m->len - at)
		len = m->len - at;
	memmove(m->data + at, m->data + at + len, m->len - at - len);
	m->len -= len;
}

static void mutate(struct mutant *m, uint64_t *random)
{
	static const uint8_t telling[] = {0, 1, 2, 16, 31, 32, 63, 64, 0x7f, 0x80, 0xfe, 0xff};
	const struct input *other = &inputs[below(random, input_count)];
	size_t at = below(random, m->len), from = below(random, other->len);
	uint8_t bytes[32];
	size_t len = 1 + below(random, sizeof(bytes));

	switch (below(random, 8)) {
	case 0:
		if (m->len)
			m->data[at] ^= (uint8_t)(1u << below(random, 8));
		break;
	case 1:
		if (m->len)
			m->data[at] = (uint8_t)next_random(random);
		break;
	case 2:
		if (m->len)
			m->data[at] = telling[below(random, sizeof(telling))];
		break;
	case 3:
		erase(m, at, len);
		break;
	case 4: /* a piece of itself once more */
		if (len > m->len - at)
			len = m->len - at;
		memcpy(bytes, m->data + at, len);
		insert(m, below(random, m->len + 1), bytes, len);
		break;
	case 5:
		memset(bytes, (int)next_random(random), sizeof(bytes));
		insert(m, at, bytes, len);
		break;
	case 6: /* a piece of another */
		insert(m, at, other->data + from, below(random, other->len - from + 1));
		break;
	default: /* the end of another */
		m->len = at;
		insert(m, at, other->data + from, other->len - from);
	}
}

static void mutate_loop(uint64_t runs, uint64_t seed)
{
	struct mutant m = {malloc(fuzz_target.len_max + 1), 0};
	uint64_t random = seed, i;
	const struct input *from;
	size_t n;

	if (!m.data || !input_count)
		fail("no inputs to begin with", "");
	for (i = 0; i < runs; i++) {
		from = &inputs[below(&random, input_count)];
		memcpy(m.data, from->data, from->len);
		m.len = from->len;
		for (n = 1 + below(&random, 6); n; n--)
			mutate(&m, &random);
		run(m.data, m.len);
	}
	free(m.data);
}

int main(int argc, char **argv)
{
	uint64_t runs = 0, seed = 1;
	const char *same = NULL;
	size_t at;
	int i;

	(void)signal(SIGABRT, on_abort);
	fuzz_begin();
	for (i = 1; i < argc; i++) {
		if (strncmp(argv[i], "-runs=", 6) == 0)
			runs = strtoull(argv[i] + 6, NULL, 10);
		else if (strncmp(argv[i], "-seed=", 6) == 0)
			seed = strtoull(argv[i] + 6, NULL, 10);
		else if (strncmp(argv[i], "-seeds=", 7) == 0)
			fuzz_each_seed(seed_write, argv[i] + 7);
		else if (strcmp(argv[i], "-len_max") == 0)
			return printf("%zu\n", fuzz_target.len_max) < 0;
		else if (strncmp(argv[i], "-same=", 6) == 0)
			same = argv[i] + 6;
		else
			load(argv[i]);
	}
	if (same) {
		load(same);
		fuzz_each_seed(seed_compare, (void *)(uintptr_t)same);
	}
	for (at = 0; at < input_count; at++)
		run(inputs[at].data, inputs[at].len);
	if (same && !fuzz_deep_count())
		fail("no file of it gets past the first checks", same);
	if (runs)
		mutate_loop(runs, seed);
	(void)printf("%s: %zu files, %" PRIu64 " mutated inputs, %" PRIu64 " got deep\n",
		     fuzz_target.name, input_count, runs, fuzz_deep_count());
	for (at = 0; at < input_count; at++) {
		free(inputs[at].name);
		free(inputs[at].data);
	}
	fuzz_end();
	return 0;
}
