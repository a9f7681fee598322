/* stories: what nodes say to one another, told in short runs whose traces are kept.
 *
 * Each story is a function here and a file stories/NAME.txt: what happened, after some lines that
 * say what it is about. The program runs them and compares; --write writes the files anew and keeps
 * those first lines. To learn the protocol, read the files. See story.h. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/story.h"

#define FILE_MAX  100000
#define LINES_MAX 1000

/* --- the stories ------------------------------------------------------------------------------ */

static void first_join(struct story *s)
{
	story_mesh(s, 1);
	story_sql(s, 'A', "INSERT INTO note VALUES('a', 1, 1), ('b', 2, 2)");
	story_run(s, 1000);
	story_begin(s);
	story_join(s);
	story_run(s, 900);
	story_show(s, "SELECT k, v FROM note ORDER BY k");
}

static void join_with_rows(struct story *s)
{
	s->sim.schema = "CREATE TABLE note(k TEXT PRIMARY KEY, v, w);"
			"INSERT INTO note VALUES('a', 1, 1), ('b', 2, 2)";
	story_mesh(s, 1);
	story_sql(s, 'A', "INSERT INTO note VALUES('c', 3, 3)");
	story_run(s, 1000);
	story_begin(s);
	story_join(s);
	story_run(s, 900);
	story_show(s, "SELECT k, v FROM note ORDER BY k");
}

static void join_unsynced(struct story *s)
{
	story_mesh(s, 1);
	story_sql(s, 'A', "INSERT INTO note VALUES('a', 1, 1)");
	story_run(s, 1000);
	story_begin(s);
	story_unsynced(s, 2);
	story_join(s);
	story_run(s, 900);
	story_show(s, "SELECT k, v FROM note ORDER BY k");
}

static void live_push(struct story *s)
{
	story_mesh(s, 2);
	story_begin(s);
	story_sql(s, 'A', "INSERT INTO note VALUES('a', 1, 1)");
	story_run(s, 500);
	story_show(s, "SELECT k, v FROM note ORDER BY k");
}

static void three(struct story *s)
{
	story_mesh(s, 3);
	story_begin(s);
	story_sql(s, 'A', "INSERT INTO note VALUES('a', 1, 1)");
	story_run(s, 500);
	story_show(s, "SELECT k, v FROM note ORDER BY k");
}

static void line(struct story *s)
{
	story_mesh(s, 3);
	story_apart(s, 'A', 'C');
	story_run(s, 60000);
	story_begin(s);
	story_sql(s, 'A', "INSERT INTO note VALUES('a', 1, 1)");
	story_run(s, 1000);
	story_show(s, "SELECT k, v FROM note ORDER BY k");
}

static void partition(struct story *s)
{
	story_mesh(s, 2);
	story_begin(s);
	story_apart(s, 'A', 'B');
	story_sql(s, 'A', "INSERT INTO note VALUES('a', 1, 1)");
	story_run(s, 20000);
	story_sql(s, 'A', "INSERT INTO note VALUES('b', 2, 2)");
	story_sql(s, 'B', "INSERT INTO note VALUES('c', 3, 3)");
	story_run(s, 20000);
	story_together(s, 'A', 'B');
	story_level(s, 60000);
	story_run(s, 500);
	story_show(s, "SELECT k, v FROM note ORDER BY k");
}

static void delete_update(struct story *s)
{
	story_mesh(s, 2);
	story_sql(s, 'A', "INSERT INTO note VALUES('a', 1, 1)");
	story_run(s, 60000);
	story_begin(s);
	story_sql(s, 'A', "DELETE FROM note WHERE k = 'a'");
	story_run(s, 1);
	story_sql(s, 'B', "UPDATE note SET v = 2 WHERE k = 'a'");
	story_run(s, 500);
	story_show(s, "SELECT k, v FROM note ORDER BY k");
	story_sql(s, 'B', "INSERT INTO note VALUES('a', 3, 3)");
	story_run(s, 500);
	story_show(s, "SELECT k, v FROM note ORDER BY k");
}

static void one_cell(struct story *s)
{
	story_mesh(s, 2);
	story_sql(s, 'A', "INSERT INTO note VALUES('a', 1, 1)");
	story_run(s, 60000);
	story_begin(s);
	story_sql(s, 'A', "UPDATE note SET v = 'of A', w = 'of A' WHERE k = 'a'");
	story_run(s, 1);
	story_sql(s, 'B', "UPDATE note SET v = 'of B' WHERE k = 'a'");
	story_run(s, 500);
	story_show(s, "SELECT k, v, w FROM note");
}

static void ack_lost(struct story *s)
{
	story_mesh(s, 2);
	story_begin(s);
	story_lose(s, 'B', 'A', P2P_MSG_ACK, STORY_ALONE);
	story_sql(s, 'A', "INSERT INTO note VALUES('a', 1, 1)");
	story_run(s, 5000);
}

static void push_lost(struct story *s)
{
	story_mesh(s, 2);
	story_begin(s);
	story_lose(s, 'A', 'B', P2P_MSG_CHANGES, STORY_LINK);
	story_sql(s, 'A', "INSERT INTO note VALUES('a', 1, 1)");
	story_run(s, 2000);
	story_show(s, "SELECT k, v FROM note ORDER BY k");
}

static void ack_lost_with_session(struct story *s)
{
	story_mesh(s, 2);
	story_begin(s);
	story_lose(s, 'B', 'A', P2P_MSG_ACK, STORY_LINK);
	story_sql(s, 'A', "INSERT INTO note VALUES('a', 1, 1)");
	story_run(s, 2000);
	story_show(s, "SELECT k, v FROM note ORDER BY k");
}

static void crash_before_ack(struct story *s)
{
	story_mesh(s, 2);
	story_begin(s);
	story_lose(s, 'B', 'A', P2P_MSG_ACK, STORY_KILLED);
	story_sql(s, 'A', "INSERT INTO note VALUES('a', 1, 1)");
	story_run(s, 300);
	story_start(s, 'B');
	story_run(s, 900);
	story_show(s, "SELECT k, v FROM note ORDER BY k");
}

static void crash_before_freeze(struct story *s)
{
	story_mesh(s, 2);
	story_begin(s);
	story_sql(s, 'A', "INSERT INTO note VALUES('a', 1, 1)");
	story_kill(s, 'A');
	story_run(s, 300);
	story_start(s, 'A');
	story_run(s, 900);
	story_show(s, "SELECT k, v FROM note ORDER BY k");
}

static void power_cut(struct story *s)
{
	story_mesh(s, 2);
	story_begin(s);
	story_lose(s, 'A', 'B', P2P_MSG_CHANGES, STORY_POWER_CUT);
	story_sql(s, 'A', "INSERT INTO note VALUES('a', 1, 1)");
	story_run(s, 1000);
	story_start(s, 'A');
	story_run(s, 3000);
	story_show(s, "SELECT k, v FROM note ORDER BY k");
}

static void restart(struct story *s)
{
	story_mesh(s, 2);
	story_sql(s, 'A', "INSERT INTO note VALUES('a', 1, 1)");
	story_run(s, 60000);
	story_begin(s);
	story_stop(s, 'B');
	story_run(s, 300);
	story_start(s, 'B');
	story_run(s, 900);
}

static void numbers(struct story *s)
{
	story_mesh(s, 2);
	story_begin(s);
	story_sql(s, 'A', "INSERT INTO item(v) VALUES('of A')");
	story_run(s, 1);
	story_sql(s, 'B', "INSERT INTO item(v) VALUES('of B')");
	story_run(s, 500);
	story_show(s, "SELECT CASE WHEN id < 0 THEN 'temporary' ELSE id END, v FROM item "
		      "ORDER BY v");
}

static void unique_parked(struct story *s)
{
	story_mesh(s, 2);
	story_begin(s);
	story_sql(s, 'A', "INSERT INTO user VALUES('anna', 'x@y')");
	story_run(s, 1);
	story_sql(s, 'B', "INSERT INTO user VALUES('bert', 'x@y')");
	story_run(s, 500);
	story_show(s, "SELECT name, mail FROM user ORDER BY name");
	story_sql(s, 'A', "UPDATE user SET mail = 'anna@y' WHERE name = 'anna'");
	story_run(s, 500);
	story_show(s, "SELECT name, mail FROM user ORDER BY name");
	story_run(s, 1000);
	story_show(s, "SELECT name, mail FROM user ORDER BY name");
}

static void wrong_clock(struct story *s)
{
	story_mesh(s, 2);
	story_begin(s);
	story_clock(s, 'B', 60);
	story_run(s, 20000);
	story_sql(s, 'A', "INSERT INTO note VALUES('a', 1, 1)");
	story_run(s, 10000);
	story_show(s, "SELECT k, v FROM note ORDER BY k");
	story_clock(s, 'B', 0);
	story_level(s, 30000);
	story_run(s, 500);
	story_show(s, "SELECT k, v FROM note ORDER BY k");
}

static void both_dial(struct story *s)
{
	story_mesh(s, 2);
	story_stop(s, 'A');
	story_stop(s, 'B');
	story_run(s, 1000);
	story_begin(s);
	story_start(s, 'A');
	story_start(s, 'B');
	story_run(s, 900);
}

static const struct {
	const char *name;
	void (*tell)(struct story *story);
} stories[] = {
	{"first-join", first_join},
	{"join-with-rows", join_with_rows},
	{"join-not-synced", join_unsynced},
	{"live-push", live_push},
	{"three", three},
	{"line", line},
	{"partition", partition},
	{"delete-against-update", delete_update},
	{"one-cell", one_cell},
	{"ack-lost", ack_lost},
	{"push-lost", push_lost},
	{"ack-lost-with-session", ack_lost_with_session},
	{"crash-before-ack", crash_before_ack},
	{"crash-before-freeze", crash_before_freeze},
	{"power-cut", power_cut},
	{"restart", restart},
	{"numbers", numbers},
	{"unique", unique_parked},
	{"wrong-clock", wrong_clock},
	{"both-dial", both_dial},
};

#define STORIES (sizeof(stories) / sizeof(stories[0]))

/* --- files ------------------------------------------------------------------------------------ */

/* Its first lines, which begin with '#', go to out_head; the others to out_body. Both hold
 * FILE_MAX. Empty if there is no such file. */
static bool file_read(const char *path, char *out_head, char *out_body)
{
	FILE *file = fopen(path, "r");
	char *body;
	size_t len;

	out_head[0] = out_body[0] = 0;
	if (!file)
		return true;
	len = fread(out_body, 1, FILE_MAX - 1, file);
	(void)fclose(file);
	out_body[len] = 0;
	for (body = out_body; body[0] == '#'; body = strchr(body, '\n') + 1)
		if (!strchr(body, '\n'))
			return false;
	memcpy(out_head, out_body, (size_t)(body - out_body));
	out_head[body - out_body] = 0;
	memmove(out_body, body, strlen(body) + 1);
	return len < FILE_MAX - 1;
}

static bool file_write(const char *path, const char *head, const char *body)
{
	FILE *file = fopen(path, "w");
	bool ok = file && fputs(head, file) >= 0 && fputs(body, file) >= 0;

	if (!file || fclose(file) != 0 || !ok)
		perror(path);
	return ok;
}

/* --- differences ------------------------------------------------------------------------------ */

struct lines {
	const char *at[LINES_MAX];
	int len[LINES_MAX];
	size_t count;
};

static void lines_split(struct lines *lines, const char *text)
{
	for (lines->count = 0; *text && lines->count < LINES_MAX; lines->count++) {
		const char *end = strchr(text, '\n');

		lines->at[lines->count] = text;
		lines->len[lines->count] = end ? (int)(end - text) : (int)strlen(text);
		text = end ? end + 1 : text + strlen(text);
	}
}

static bool same(const struct lines *a, size_t i, const struct lines *b, size_t j)
{
	return a->len[i] == b->len[j] && memcmp(a->at[i], b->at[j], (size_t)a->len[i]) == 0;
}

static void show(char mark, const struct lines *lines, size_t i)
{
	(void)printf("%c %.*s\n", mark, lines->len[i], lines->at[i]);
}

/* The whole story, with what it should be (-) and what it is (+). */
static void diff(const char *expected, const char *actual)
{
	static uint16_t common[LINES_MAX + 1][LINES_MAX + 1]; /* lines, from i and j on */
	static struct lines a, b;
	size_t i, j;

	lines_split(&a, expected);
	lines_split(&b, actual);
	memset(common, 0, sizeof(common));
	for (i = a.count; i-- > 0;)
		for (j = b.count; j-- > 0;) {
			uint16_t skip_a = common[i + 1][j], skip_b = common[i][j + 1];

			common[i][j] = skip_a > skip_b ? skip_a : skip_b;
			if (same(&a, i, &b, j))
				common[i][j] = (uint16_t)(common[i + 1][j + 1] + 1);
		}
	for (i = 0, j = 0; i < a.count || j < b.count;)
		if (i < a.count && j < b.count && same(&a, i, &b, j)) {
			show(' ', &a, i++);
			j++;
		} else if (i < a.count && (j == b.count || common[i + 1][j] >= common[i][j + 1])) {
			show('-', &a, i++);
		} else {
			show('+', &b, j++);
		}
}

/* --- the program ------------------------------------------------------------------------------ */

static bool check(size_t i, const char *dir, bool write)
{
	static char head[FILE_MAX], body[FILE_MAX];
	char path[512], *text = story_tell(stories[i].tell);
	bool ok;

	(void)snprintf(path, sizeof(path), "%s/%s.txt", dir, stories[i].name);
	ok = text && file_read(path, head, body);
	if (ok && write) {
		ok = file_write(path, head[0] ? head : "# What is this story about?\n", text);
	} else if (ok && strcmp(body, text) != 0) {
		(void)printf("%s is told differently (- as it was, + as it is):\n", path);
		diff(body, text);
		ok = false;
	}
	if (ok && !write && strncmp(head, "# ", 2) != 0)
		ok = false;
	(void)printf("%s %s\n", ok ? "ok" : "FAILED", stories[i].name);
	free(text);
	return ok;
}

static bool wanted(const char *name, char **names, int count)
{
	int i;

	for (i = 0; i < count; i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return count == 0;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"dir", required_argument, NULL, 'd'},
					      {"write", no_argument, NULL, 'w'},
					      {NULL, 0, NULL, 0}};
	const char *dir = "tests/sim/stories";
	size_t i, run = 0, failed = 0;
	bool write = false;
	int option;

	while ((option = getopt_long(argc, argv, "d:w", longs, NULL)) != -1) {
		if (option == '?') {
			(void)printf("stories [--dir DIR] [--write] [NAME...]\n");
			return 2;
		}
		if (option == 'd')
			dir = optarg;
		write = write || option == 'w';
	}
	if (sodium_init() < 0)
		return 2;
	sim_install();
	for (i = 0; i < STORIES; i++)
		if (wanted(stories[i].name, argv + optind, argc - optind)) {
			run++;
			failed += !check(i, dir, write);
		}
	if (failed)
		(void)printf("if a change is meant: stories --write, and read what changed\n");
	return failed || !run ? 1 : 0;
}
