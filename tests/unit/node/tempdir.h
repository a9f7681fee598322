/* A directory for one test, removed with what is in it. */
#ifndef P2P_TESTS_UNIT_NODE_TEMPDIR_H
#define P2P_TESTS_UNIT_NODE_TEMPDIR_H

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tempdir {
	char path[PATH_MAX];
	char file[2 * PATH_MAX];
};

static inline int tempdir_remove_one(const char *path, const struct stat *st, int flag,
				     struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

static inline int tempdir_setup(void **state)
{
	struct tempdir *dir = calloc(1, sizeof(*dir));
	const char *base = getenv("TMPDIR");

	if (!dir)
		return -1;
	(void)snprintf(dir->path, sizeof(dir->path), "%s/p2pnode-test-XXXXXX",
		       base ? base : "/tmp");
	*state = dir;
	return mkdtemp(dir->path) ? 0 : -1;
}

static inline int tempdir_teardown(void **state)
{
	struct tempdir *dir = *state;
	int rc = nftw(dir->path, tempdir_remove_one, 16, FTW_DEPTH | FTW_PHYS);

	free(dir);
	return rc;
}

/* Path of a name in it; valid until the next call. */
static inline const char *tempdir_file(struct tempdir *dir, const char *name)
{
	(void)snprintf(dir->file, sizeof(dir->file), "%s/%s", dir->path, name);
	return dir->file;
}

#endif
