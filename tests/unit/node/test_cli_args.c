/* The command line: options where they belong, usage errors with suggestions, durations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>
#include <stdio.h>

#include "node/cli.h"

#define WORDS_MAX 16

/* Parses words separated by spaces, with the product's own verbs. */
static int parse(struct cli_args *args, const char *line, struct p2p_error *err)
{
	static char copy[512]; /* args point into it until the next call */
	char *argv[WORDS_MAX], *save = NULL, *word;
	int argc = 0;

	memset(err, 0, sizeof(*err));
	(void)snprintf(copy, sizeof(copy), "%s", line);
	for (word = strtok_r(copy, " ", &save); word && argc < WORDS_MAX;
	     word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	return cli_parse(args, cli_verbs, argc, argv, err);
}

static void options_are_read_in_any_order_and_form(void **state)
{
	struct cli_args args;
	struct p2p_error err;

	(void)state;
	assert_int_equal(parse(&args,
			       "p2pnode share --listen 127.0.0.1:0 --listen=[::1]:0 a.db "
			       "--no-discovery --uses 3 --expires 10m --table t --json",
			       &err),
			 0);
	assert_string_equal(args.verb->name, "share");
	assert_int_equal(args.words.count, 1);
	assert_string_equal(args.words.items[0], "a.db");
	assert_int_equal(args.listen.count, 2);
	assert_string_equal(args.listen.items[1], "[::1]:0");
	assert_true(args.no_discovery);
	assert_true(args.json);
	assert_int_equal(args.uses, 3);
	assert_true(args.expires_ms == 600000);
	assert_string_equal(args.tables.items[0], "t");
	assert_int_equal(args.apply_interval_ms, 100);
}

static void defaults_are_those_of_the_contract(void **state)
{
	struct cli_args args;
	struct p2p_error err;

	(void)state;
	assert_int_equal(parse(&args, "p2pnode share a.db", &err), 0);
	assert_int_equal(args.uses, 1);
	assert_true(args.expires_ms == 86400000);
	assert_int_equal(args.listen.count, 0);
	assert_int_equal(args.log_level, 1);
	assert_int_equal(parse(&args, "p2pnode wait a.db", &err), 0);
	assert_int_equal(args.timeout_ms, 30000);
	assert_true(args.peers == 0);
}

static void after_two_dashes_everything_is_a_word(void **state)
{
	struct cli_args args;
	struct p2p_error err;

	(void)state;
	assert_int_equal(parse(&args, "p2pnode status -- --odd.db", &err), 0);
	assert_string_equal(args.words.items[0], "--odd.db");
}

static void usage_errors_name_the_place_and_suggest(void **state)
{
	static const struct {
		const char *line, *says;
	} cases[] = {
		{"p2pnode shar a.db", "'share'"},
		{"p2pnode stauts a.db", "'status'"},
		{"p2pnode frobnicate a.db", "no verb"},
		{"p2pnode share a.db --lisen 1:2", "'--listen'"},
		{"p2pnode status a.db --jsn", "'--json'"},
		{"p2pnode status a.db --table x", "no option '--table'"},
		{"p2pnode status", "missing"},
		{"p2pnode status a b", "too many"},
		{"p2pnode share a.db --uses", "needs a value"},
		{"p2pnode share a.db --uses x", "--uses 'x'"},
		{"p2pnode share a.db --uses -1", "--uses '-1'"},
		{"p2pnode share a.db --uses 99999999999", "--uses"},
		{"p2pnode share a.db --expires 5", "--expires '5'"},
		{"p2pnode share a.db --expires 9999d", "--expires"},
		{"p2pnode share a.db --log-level loud", "--log-level 'loud'"},
		{"p2pnode share a.db --json=1", "takes no value"},
		{"p2pnode wait a.db --timeout 1e99", "--timeout"},
		{"p2pnode wait a.db --timeout nan", "--timeout"},
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct cli_args args;
		struct p2p_error err;

		assert_int_equal(parse(&args, cases[i].line, &err), P2P_EINVAL);
		if (!strstr(err.msg, cases[i].says))
			fail_msg("'%s' gives '%s', wanted %s", cases[i].line, err.msg,
				 cases[i].says);
	}
}

static void help_wins_over_missing_arguments(void **state)
{
	const struct cli_verb *verb;
	struct p2p_error err;
	struct cli_args args;

	(void)state;
	for (verb = cli_verbs; verb->name; verb++) {
		char line[64];

		(void)snprintf(line, sizeof(line), "p2pnode %s --help", verb->name);
		assert_int_equal(parse(&args, line, &err), 0);
		assert_true(args.help);
		assert_ptr_equal(args.verb, verb);
	}
	assert_int_equal(parse(&args, "p2pnode -h", &err), 0);
	assert_true(args.help);
}

static void durations_have_units(void **state)
{
	uint64_t ms = 0;

	(void)state;
	assert_int_equal(cli_duration("24h", &ms), 0);
	assert_true(ms == 86400000);
	assert_int_equal(cli_duration("7d", &ms), 0);
	assert_true(ms == 604800000);
	assert_int_equal(cli_duration("500ms", &ms), 0);
	assert_true(ms == 500);
	assert_int_equal(cli_duration("h", &ms), P2P_EINVAL);
	assert_int_equal(cli_duration("", &ms), P2P_EINVAL);
	assert_int_equal(cli_duration("-1h", &ms), P2P_EINVAL);
	assert_int_equal(cli_duration("1 h", &ms), P2P_EINVAL);
	assert_int_equal(cli_duration("99999999999999999999h", &ms), P2P_EINVAL);
}

static void distance_counts_single_slips(void **state)
{
	(void)state;
	assert_int_equal(cli_distance("status", "status"), 0);
	assert_int_equal(cli_distance("stauts", "status"), 1);
	assert_int_equal(cli_distance("staus", "status"), 1);
	assert_int_equal(cli_distance("sstatus", "status"), 1);
	assert_int_equal(cli_distance("", "abc"), 3);
	assert_int_equal(cli_distance("abc", ""), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_are_read_in_any_order_and_form),
		cmocka_unit_test(defaults_are_those_of_the_contract),
		cmocka_unit_test(after_two_dashes_everything_is_a_word),
		cmocka_unit_test(usage_errors_name_the_place_and_suggest),
		cmocka_unit_test(help_wins_over_missing_arguments),
		cmocka_unit_test(durations_have_units),
		cmocka_unit_test(distance_counts_single_slips),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
