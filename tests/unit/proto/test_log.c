/* Log lines: only those that are wanted are made, and none is longer than a line may be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "proto/log.h"

struct seen {
	int lines;
	enum p2p_log_level level;
	char group[16], text[2048];
};

static void sink(void *ctx, enum p2p_log_level level, const char *group, const char *text)
{
	struct seen *seen = ctx;

	seen->lines++;
	seen->level = level;
	(void)snprintf(seen->group, sizeof(seen->group), "%s", group);
	(void)snprintf(seen->text, sizeof(seen->text), "%s", text);
}

static void only_lines_of_a_wanted_level_are_made(void **state)
{
	struct seen seen = {0};
	struct p2p_log log = {&seen, sink, P2P_LOG_WARN};

	(void)state;
	p2p_log(&log, P2P_LOG_INFO, "crdt", "not this");
	assert_int_equal(seen.lines, 0);
	p2p_log(&log, P2P_LOG_WARN, "crdt", "row %d of '%s'", 7, "note");
	p2p_log(&log, P2P_LOG_ERROR, "node", "this");
	assert_int_equal(seen.lines, 2);
	assert_int_equal(seen.level, P2P_LOG_ERROR);
	assert_string_equal(seen.group, "node");
	assert_string_equal(seen.text, "this");
	log.sink = NULL;
	p2p_log(&log, P2P_LOG_ERROR, "node", "to nobody");
	p2p_log(NULL, P2P_LOG_ERROR, "node", "to nobody");
	assert_int_equal(seen.lines, 2);
}

static void a_long_line_is_cut_and_ends(void **state)
{
	struct seen seen = {0};
	const struct p2p_log log = {&seen, sink, P2P_LOG_DEBUG};
	char text[3000];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	p2p_log(&log, P2P_LOG_DEBUG, "node", "%s", text);
	assert_int_equal(seen.lines, 1);
	assert_int_equal(strlen(seen.text), 511);
	assert_memory_equal(seen.text, text, 511);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_lines_of_a_wanted_level_are_made),
		cmocka_unit_test(a_long_line_is_cut_and_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
