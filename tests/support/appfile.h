/* The file of an application for one test, in a folder of its own under /tmp, and other programs
 * that write it. A failure fails the test with a text. */
#ifndef P2P_TESTS_SUPPORT_APPFILE_H
#define P2P_TESTS_SUPPORT_APPFILE_H

#include "proto/env.h"

struct appfile {
	char dir[64];
	char path[96]; /* dir/app.db; not there yet after setup */
};
extern struct appfile appfile;
/* Time stands still at 0; random bytes are all 7. */
extern const struct p2p_env appfile_env;

/* cmocka's set-up and tear-down: makes the folder; takes it and the file away again. */
int appfile_setup(void **state);
int appfile_teardown(void **state);
/* Another program: a connection of its own. */
void appfile_sql(const char *sql);

#endif
