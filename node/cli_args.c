/* Arguments of the command line; see cli.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node/cli.h"
#include "proto/check.h"

enum kind { FLAG, TEXT, LIST, NUMBER, DURATION, SECONDS, LEVEL };

struct option {
	const char *name;
	uint32_t groups;
	enum kind kind;
	size_t offset; /* of its field in struct cli_args */
	uint64_t max;  /* NUMBER, DURATION in ms, SECONDS */
};

#define FIELD(field) offsetof(struct cli_args, field)

static const struct option options[] = {
	{"--listen", CLI_OPT_NODE, LIST, FIELD(listen), 0},
	{"--seed", CLI_OPT_NODE, LIST, FIELD(seeds), 0},
	{"--no-discovery", CLI_OPT_NODE, FLAG, FIELD(no_discovery), 0},
	{"--iface", CLI_OPT_NODE, LIST, FIELD(interfaces), 0},
	{"--apply-interval", CLI_OPT_NODE, NUMBER, FIELD(apply_interval_ms), 60000},
	{"--name", CLI_OPT_NODE, TEXT, FIELD(name), 0},
	{"--log-level", CLI_OPT_NODE, LEVEL, FIELD(log_level), 0},
	{"--state", CLI_OPT_NODE | CLI_OPT_STATE, TEXT, FIELD(state), 0},
	{"--json", CLI_OPT_NODE | CLI_OPT_JSON, FLAG, FIELD(json), 0},
	{"--table", CLI_OPT_SHARE, LIST, FIELD(tables), 0},
	{"--exclude", CLI_OPT_SHARE, LIST, FIELD(exclude), 0},
	{"--replicate-schema", CLI_OPT_SHARE, FLAG, FIELD(replicate_schema), 0},
	{"--ref", CLI_OPT_REF, LIST, FIELD(refs), 0},
	{"--counter", CLI_OPT_COUNTER, LIST, FIELD(counters), 0},
	{"--uses", CLI_OPT_USES, NUMBER, FIELD(uses), 1000},
	{"--expires", CLI_OPT_USES, DURATION, FIELD(expires_ms), 366ull * 24 * 3600 * 1000},
	{"--replace", CLI_OPT_JOIN, FLAG, FIELD(replace), 0},
	{"--merge", CLI_OPT_JOIN, FLAG, FIELD(merge), 0},
	{"--peers", CLI_OPT_WAIT, NUMBER, FIELD(peers), P2P_PEERS_MAX},
	{"--timeout", CLI_OPT_WAIT, SECONDS, FIELD(timeout_ms), 7ull * 24 * 3600 * 1000},
	{"--for", CLI_OPT_WAIT, TEXT, FIELD(vector), 0},
	{"--role", CLI_OPT_INVITE, TEXT, FIELD(role), 0},
	{"--restore", CLI_OPT_RESTORE, TEXT, FIELD(restore), 0},
	{"--qr", CLI_OPT_INVITE, FLAG, FIELD(qr), 0},
	{"--no-addresses", CLI_OPT_INVITE, FLAG, FIELD(no_addresses), 0},
};

#define NAME_LEN_MAX 31

size_t cli_distance(const char *a, const char *b)
{
	size_t rows[3][NAME_LEN_MAX + 2], i, j;
	size_t len_a = strnlen(a, NAME_LEN_MAX), len_b = strnlen(b, NAME_LEN_MAX);

	for (j = 0; j <= len_b; j++)
		rows[1][j] = j;
	for (i = 1; i <= len_a; i++) {
		size_t *before = rows[(i + 2) % 3], *last = rows[i % 3], *now = rows[(i + 1) % 3];

		now[0] = i;
		for (j = 1; j <= len_b; j++) {
			size_t best = last[j - 1] + (a[i - 1] != b[j - 1]);

			if (last[j] + 1 < best)
				best = last[j] + 1;
			if (now[j - 1] + 1 < best)
				best = now[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    before[j - 2] + 1 < best)
				best = before[j - 2] + 1;
			now[j] = best;
		}
	}
	return rows[(len_a + 1) % 3][len_b];
}

struct nearest {
	const char *name;
	size_t distance;
};

static void consider(struct nearest *nearest, const char *wrong, const char *name)
{
	size_t distance = cli_distance(wrong, name);

	if (distance < nearest->distance && distance * 2 < strlen(name) + 1) {
		nearest->distance = distance;
		nearest->name = name;
	}
}

static int unknown_verb(const struct cli_verb *verbs, const char *word, struct p2p_error *err)
{
	struct nearest nearest = {NULL, 4};

	for (; verbs->name; verbs++)
		consider(&nearest, word, verbs->name);
	if (nearest.name)
		return p2p_error_set(err, P2P_EINVAL,
				     "there is no verb '%.60s'; did you mean '%s'?", word,
				     nearest.name);
	return p2p_error_set(err, P2P_EINVAL, "there is no verb '%.60s'; see p2pnode --help", word);
}

static int unknown_option(const struct cli_verb *verb, const char *word, struct p2p_error *err)
{
	struct nearest nearest = {NULL, 4};
	size_t i;

	for (i = 0; i < p2p_array_len(options); i++)
		if (options[i].groups & verb->options)
			consider(&nearest, word, options[i].name);
	consider(&nearest, word, "--help");
	if (nearest.name)
		return p2p_error_set(err, P2P_EINVAL, "no option '%.60s'; did you mean '%s'?", word,
				     nearest.name);
	return p2p_error_set(err, P2P_EINVAL, "no option '%.60s'; see p2pnode %s --help", word,
			     verb->name);
}

static int parse_number(const char *text, uint64_t max, uint64_t *out)
{
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return P2P_EINVAL;
	errno = 0;
	*out = strtoull(text, &end, 10);
	return *end || errno || *out > max ? P2P_EINVAL : 0;
}

int cli_duration(const char *text, uint64_t *out_ms)
{
	static const struct {
		const char *unit;
		uint64_t ms;
	} units[] = {{"ms", 1},	     {"s", 1000},     {"m", 60000},
		     {"h", 3600000}, {"d", 86400000}, {"w", 604800000}};
	char *end;
	uint64_t number;
	size_t i;

	if (text[0] < '0' || text[0] > '9')
		return P2P_EINVAL;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno || number > 1000000000)
		return P2P_EINVAL;
	for (i = 0; i < p2p_array_len(units); i++)
		if (strcmp(end, units[i].unit) == 0) {
			*out_ms = number * units[i].ms;
			return 0;
		}
	return P2P_EINVAL;
}

static int parse_seconds(const char *text, uint64_t max_ms, uint64_t *out_ms)
{
	char *end;
	double seconds;

	if ((text[0] < '0' || text[0] > '9') && text[0] != '.')
		return P2P_EINVAL;
	seconds = strtod(text, &end);
	if (*end || !(seconds >= 0) || seconds * 1000 > (double)max_ms)
		return P2P_EINVAL;
	*out_ms = (uint64_t)(seconds * 1000);
	return 0;
}

static int set_level(const char *text, int *out)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};
	size_t i;

	for (i = 0; i < p2p_array_len(names); i++)
		if (strcmp(text, names[i]) == 0) {
			*out = (int)i;
			return 0;
		}
	return P2P_EINVAL;
}

/* Numbers stand in fields of two widths. */
static void store_number(struct cli_args *args, const struct option *option, uint64_t value)
{
	char *field = (char *)args + option->offset;

	if (option->offset == FIELD(expires_ms) || option->offset == FIELD(peers)) {
		memcpy(field, &value, sizeof(value));
	} else {
		uint32_t narrow = (uint32_t)value;

		p2p_require(value <= UINT32_MAX);
		memcpy(field, &narrow, sizeof(narrow));
	}
}

static int bad_value(const struct option *option, const char *value, const char *wanted,
		     struct p2p_error *err)
{
	return p2p_error_set(err, P2P_EINVAL, "%s '%.60s': %s", option->name, value, wanted);
}

static int set_value(struct cli_args *args, const struct option *option, const char *value,
		     struct p2p_error *err)
{
	char *field = (char *)args + option->offset;
	struct cli_list *list = (struct cli_list *)(void *)field;
	uint64_t number = 0;

	switch (option->kind) {
	case TEXT:
		memcpy(field, &value, sizeof(value));
		return 0;
	case LIST:
		if (list->count == CLI_LIST_MAX)
			return bad_value(option, value, "given too often", err);
		list->items[list->count++] = value;
		return 0;
	case NUMBER:
		if (parse_number(value, option->max, &number))
			return bad_value(option, value, "not a number, or too great", err);
		break;
	case DURATION:
		if (cli_duration(value, &number) || number > option->max)
			return bad_value(option, value,
					 "not a duration such as 30s, 10m, 24h or 7d", err);
		break;
	case SECONDS:
		if (parse_seconds(value, option->max, &number))
			return bad_value(option, value, "not a number of seconds", err);
		break;
	case LEVEL:
		if (set_level(value, (int *)(void *)field))
			return bad_value(option, value, "one of error, warn, info, debug", err);
		return 0;
	case FLAG:
		p2p_unreachable();
	}
	store_number(args, option, number);
	return 0;
}

static const struct option *find_option(const struct cli_verb *verb, const char *word, size_t len)
{
	size_t i;

	for (i = 0; i < p2p_array_len(options); i++)
		if ((options[i].groups & verb->options) && strlen(options[i].name) == len &&
		    strncmp(options[i].name, word, len) == 0)
			return &options[i];
	return NULL;
}

/* One option at argv[*at]; moves *at over its value. */
static int take_option(struct cli_args *args, int argc, char *const *argv, int *at,
		       struct p2p_error *err)
{
	const char *word = argv[*at], *equals = strchr(word, '=');
	size_t len = equals ? (size_t)(equals - word) : strlen(word);
	const struct option *option = find_option(args->verb, word, len);
	bool *flag;

	if (!option)
		return unknown_option(args->verb, word, err);
	if (option->kind == FLAG) {
		if (equals)
			return p2p_error_set(err, P2P_EINVAL, "%s takes no value", option->name);
		flag = (bool *)((char *)args + option->offset);
		*flag = true;
		return 0;
	}
	if (equals)
		return set_value(args, option, equals + 1, err);
	if (*at + 1 >= argc)
		return p2p_error_set(err, P2P_EINVAL, "%s needs a value", option->name);
	return set_value(args, option, argv[++*at], err);
}

static int take_word(struct cli_args *args, const char *word, struct p2p_error *err)
{
	const struct cli_verb *verb = args->verb;

	if (args->words.count == verb->words_max || args->words.count == CLI_LIST_MAX)
		return p2p_error_set(err, P2P_EINVAL,
				     "too many arguments at '%.60s'; usage: "
				     "p2pnode %s",
				     word, verb->usage);
	args->words.items[args->words.count++] = word;
	return 0;
}

static void defaults(struct cli_args *args)
{
	memset(args, 0, sizeof(*args));
	args->log_level = 1;
	args->apply_interval_ms = 100;
	args->uses = 1;
	args->expires_ms = 24ull * 3600 * 1000;
	args->timeout_ms = 30000;
}

static bool is_help(const char *word)
{
	return strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0;
}

int cli_parse(struct cli_args *out, const struct cli_verb *verbs, int argc, char *const *argv,
	      struct p2p_error *err)
{
	const struct cli_verb *verb;
	bool only_words = false;
	int i, rc = 0;

	defaults(out);
	if (argc < 2 || is_help(argv[1]) || strcmp(argv[1], "help") == 0) {
		out->help = true;
		return 0;
	}
	for (verb = verbs; verb->name && strcmp(verb->name, argv[1]) != 0; verb++)
		;
	if (!verb->name)
		return unknown_verb(verbs, argv[1], err);
	out->verb = verb;
	for (i = 2; i < argc; i++)
		if (is_help(argv[i])) {
			out->help = true;
			return 0;
		}
	for (i = 2; !rc && i < argc; i++) {
		if (only_words || argv[i][0] != '-' || argv[i][1] == 0)
			rc = take_word(out, argv[i], err);
		else if (strcmp(argv[i], "--") == 0)
			only_words = true;
		else
			rc = take_option(out, argc, argv, &i, err);
	}
	if (!rc && out->words.count < verb->words_min)
		rc = p2p_error_set(err, P2P_EINVAL, "arguments are missing; usage: p2pnode %s",
				   verb->usage);
	return rc;
}
