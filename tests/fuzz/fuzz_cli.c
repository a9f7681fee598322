/* Command lines: words separated by newlines; durations; names that are nearly right. */
#include <string.h>

#include "node/cli.h"
#include "tests/fuzz/fuzz.h"

#define LEN_MAX	  512
#define WORDS_MAX 80

static void check_list(const struct cli_list *list, char *const *argv, int argc)
{
	size_t i;

	p2p_require(list->count <= CLI_LIST_MAX);
	for (i = 0; i < list->count; i++) {
		p2p_require(list->items[i] >= argv[0]);
		p2p_require(list->items[i] <= argv[argc - 1] + strlen(argv[argc - 1]));
	}
}

static void check_args(const struct cli_args *args, char *const *argv, int argc)
{
	const struct cli_list *const lists[] = {&args->words,	   &args->listen,  &args->seeds,
						&args->interfaces, &args->tables,  &args->exclude,
						&args->refs,	   &args->counters};
	size_t i;

	for (i = 0; i < p2p_array_len(lists); i++)
		check_list(lists[i], argv, argc);
	p2p_require(args->log_level >= 0);
	p2p_require(args->log_level <= 3);
	p2p_require(args->apply_interval_ms <= 60000);
	p2p_require(args->uses <= 1000);
	p2p_require(args->expires_ms <= 366ull * 24 * 3600 * 1000);
	p2p_require(args->peers <= P2P_PEERS_MAX);
	p2p_require(args->timeout_ms <= 7u * 24 * 3600 * 1000);
	if (args->help)
		return;
	p2p_require(args->verb != NULL);
	p2p_require(args->words.count >= args->verb->words_min);
	p2p_require(args->words.count <= args->verb->words_max);
}

static void try_line(char *text)
{
	char *argv[WORDS_MAX + 1] = {text};
	struct p2p_error err = {0};
	struct cli_args args;
	int argc = 1, rc;
	char *at;

	for (at = text; *at; at++)
		if (*at == '\n' && argc < WORDS_MAX) {
			*at = 0;
			argv[argc++] = at + 1;
		}
	rc = cli_parse(&args, cli_verbs, argc, argv, &err);
	if (rc) {
		p2p_require(rc == P2P_EINVAL);
		p2p_require(err.code == rc);
		p2p_require(err.msg[0]);
		p2p_require(memchr(err.msg, 0, sizeof(err.msg)) != NULL);
		return;
	}
	check_args(&args, argv, argc);
	fuzz_deep();
}

static void try_distance(const char *a, const char *b)
{
	size_t distance = cli_distance(a, b), len_a = strnlen(a, 31), len_b = strnlen(b, 31);

	p2p_require(distance == cli_distance(b, a));
	p2p_require(distance <= (len_a > len_b ? len_a : len_b));
	p2p_require(distance >= (len_a > len_b ? len_a - len_b : len_b - len_a));
	p2p_require(cli_distance(a, a) == 0);
	p2p_require((distance == 0) == (len_a == len_b && memcmp(a, b, len_a) == 0));
}

static void one(const uint8_t *data, size_t len)
{
	char text[LEN_MAX + 1], *half;
	uint64_t ms = 0;

	if (!len)
		return;
	memcpy(text, data + 1, len - 1);
	text[len - 1] = 0;
	switch (data[0] % 4) {
	case 0:
		if (cli_duration(text, &ms) == 0)
			p2p_require(ms <= 1000000000ull * 604800000);
		return;
	case 1:
		half = strchr(text, '\n');
		if (half) {
			*half = 0;
			try_distance(text, half + 1);
		}
		return;
	default:
		try_line(text);
	}
}

static void seed(const char *name, uint8_t form, const char *text)
{
	uint8_t input[LEN_MAX];

	input[0] = form;
	memcpy(input + 1, text, strlen(text));
	fuzz_seed(name, input, 1 + strlen(text));
}

static void seeds(void)
{
	seed("share", 2, "p2pnode\nshare\nshop.db\n--listen\n127.0.0.1:0\n--table=notes\n--json");
	seed("join", 2, "p2pnode\njoin\np2ptabc\nshop.db\n--replace\n--seed\nhost:1");
	seed("run", 2, "p2pnode\nrun\nshop.db\n--no-discovery\n--iface\nlo\n--log-level\ndebug");
	seed("wait", 2, "p2pnode\nwait\nshop.db\n--peers\n3\n--timeout\n1.5\n--for\nabc:1");
	seed("invite", 2, "p2pnode\ninvite\nshop.db\n--uses\n5\n--expires\n24h\n--role\nreader");
	seed("status", 2, "p2pnode\nstatus\nshop.db\n--json\n--state\ndir");
	seed("help", 2, "p2pnode\nstatus\n--help");
	seed("words", 2, "p2pnode\nenable\nshop.db\n--\n-a\nb");
	seed("nearly", 2, "p2pnode\nstauts\nshop.db");
	seed("nearly_option", 2, "p2pnode\nshare\nshop.db\n--lisetn\n1");
	seed("duration", 0, "999999999w");
	seed("duration_ms", 0, "500ms");
	seed("distance", 1, "status\nstauts");
	seed("distance_long", 1,
	     "a-name-that-is-longer-than-the-31-bytes\na-name-that-is-longer-than");
}

const struct fuzz_target fuzz_target = {.name = "cli",
					.len_max = LEN_MAX,
					.memory_max = 0,
					.cpu_ms_max = 50,
					.one = one,
					.seeds = seeds};
