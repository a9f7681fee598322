/* The application's file in a folder of its own; see appfile.h. */
#include "tests/support/appfile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
// cmocka needs the four above
#include <cmocka.h>

#include "proto/check.h"

struct appfile appfile;

static struct p2p_time env_now(void *ctx)
{
	struct p2p_time now = {0};

	(void)ctx;
	return now;
}

static uint64_t env_wall(void *ctx)
{
	(void)ctx;
	return 0;
}

static void env_random(void *ctx, void *out, size_t len)
{
	(void)ctx;
	memset(out, 7, len);
}

const struct p2p_env appfile_env = {NULL, env_now, env_wall, env_random};

int appfile_setup(void **state)
{
	(void)state;
	(void)snprintf(appfile.dir, sizeof(appfile.dir), "/tmp/p2p-appfile-XXXXXX");
	assert_non_null(mkdtemp(appfile.dir));
	(void)snprintf(appfile.path, sizeof(appfile.path), "%s/app.db", appfile.dir);
	return 0;
}

int appfile_teardown(void **state)
{
	static const char *const ends[] = {"", "-wal", "-shm", "-journal"};
	char file[128];
	size_t i;

	(void)state;
	for (i = 0; i < p2p_array_len(ends); i++) {
		(void)snprintf(file, sizeof(file), "%s%s", appfile.path, ends[i]);
		(void)unlink(file);
	}
	(void)rmdir(appfile.dir);
	return 0;
}

void appfile_sql(const char *sql)
{
	sqlite3 *db;
	char *text = NULL;

	assert_int_equal(sqlite3_open(appfile.path, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &text) != SQLITE_OK)
		fail_msg("%s: %s", sql, text);
	(void)sqlite3_close(db);
}
