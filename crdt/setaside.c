/* Moving a database away; see setaside.h. */
#include "crdt/setaside.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/check.h"

#define BUSY_WAIT_MS 2000

static int busy(struct p2p_error *err, const char *path, const char *who)
{
	return p2p_error_set(err, P2P_EBUSY, "'%s' is open in %s: close it there first", path, who);
}

static bool exists(const char *path, const char *suffix)
{
	char name[PATH_MAX];

	(void)snprintf(name, sizeof(name), "%s%s", path, suffix);
	return access(name, F_OK) == 0;
}

/* --- is it in use? ---------------------------------------------------------------------------- */

/* Does this process have the file open? What may not be looked at is passed over. */
static bool process_has(const char *pid, const struct stat *file)
{
	char dir[64], name[400];
	struct dirent *entry;
	struct stat st;
	bool found = false;
	DIR *fds;

	(void)snprintf(dir, sizeof(dir), "/proc/%.20s/fd", pid);
	fds = opendir(dir);
	while (fds && !found && (entry = readdir(fds))) {
		(void)snprintf(name, sizeof(name), "%s/%s", dir, entry->d_name);
		found = stat(name, &st) == 0 && st.st_dev == file->st_dev &&
			st.st_ino == file->st_ino;
	}
	if (fds)
		(void)closedir(fds); /* only read */
	return found;
}

static int check_processes(const char *path, struct p2p_error *err)
{
	struct dirent *entry;
	struct stat file;
	char who[64] = "";
	DIR *all;

	if (stat(path, &file) != 0)
		return p2p_error_set(err, P2P_EIO, "look at '%s': %s", path, strerror(errno));
	all = opendir("/proc");
	while (all && !who[0] && (entry = readdir(all)))
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' &&
		    process_has(entry->d_name, &file))
			(void)snprintf(who, sizeof(who), "process %.20s", entry->d_name);
	if (all)
		(void)closedir(all); /* only read */
	return who[0] ? busy(err, path, who) : 0;
}

static int sqlite_code(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return P2P_EBUSY;
	case SQLITE_NOTADB:
		return P2P_ENOTDB;
	case SQLITE_NOMEM:
		return P2P_ENOMEM;
	case SQLITE_FULL:
		return P2P_EFULL;
	default:
		return P2P_EIO;
	}
}

/* All of the WAL goes into the file; whoever is in a transaction is waited for, then reported. */
static int settle(const char *path, struct p2p_error *err)
{
	sqlite3 *db = NULL;
	int code = 0, rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_busy_timeout(db, BUSY_WAIT_MS);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(db, "PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(db, "BEGIN EXCLUSIVE; ROLLBACK", NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		code = sqlite_code(rc);
	if (code == P2P_EBUSY)
		(void)busy(err, path, "another program");
	else if (code)
		(void)p2p_error_set(err, code, "open '%s': %s", path,
				    db ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
	(void)sqlite3_close_v2(db); /* nothing is under way */
	/* the last connection to close takes the -wal away */
	if (!code && exists(path, "-wal"))
		code = busy(err, path, "another program");
	return code;
}

/* --- moving ----------------------------------------------------------------------------------- */

static int sync_directory(const char *path, struct p2p_error *err)
{
	char dir[PATH_MAX];
	char *slash;
	int fd, rc = 0;

	(void)snprintf(dir, sizeof(dir), "%s", path);
	slash = strrchr(dir, '/');
	(void)snprintf(slash ? slash + 1 : dir, 2, "%s", slash ? "" : ".");
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fsync(fd) != 0)
		rc = p2p_error_set(err, P2P_EIO, "sync '%s': %s", dir, strerror(errno));
	if (fd >= 0)
		(void)close(fd); /* a directory: nothing to lose */
	return rc;
}

int p2p_setaside(const char *path, const char *aside, struct p2p_error *err)
{
	int rc;

	if (strlen(path) + 8 > PATH_MAX || strlen(aside) + 8 > PATH_MAX)
		return p2p_error_set(err, P2P_EINVAL, "the path '%.100s...' is too long", path);
	if (!exists(path, ""))
		return p2p_error_set(err, P2P_ENOENT, "'%s': there is no such file", path);
	if (exists(aside, ""))
		return p2p_error_set(err, P2P_EEXIST, "'%s' is there already", aside);
	rc = check_processes(path, err);
	if (!rc)
		rc = settle(path, err);
	if (!rc && rename(path, aside) != 0)
		rc = p2p_error_set(err, P2P_EIO, "move '%s' to '%s': %s", path, aside,
				   strerror(errno));
	return rc ? rc : sync_directory(path, err);
}

int p2p_setaside_undo(const char *path, const char *aside, struct p2p_error *err)
{
	static const char *const parts[] = {"-wal", "-shm", "-journal"};
	char name[PATH_MAX];
	size_t i;

	/* first what belongs to the file that is there now: beside the other it would be read as
	 * its own */
	for (i = 0; i < p2p_array_len(parts); i++) {
		(void)snprintf(name, sizeof(name), "%s%s", path, parts[i]);
		if (unlink(name) != 0 && errno != ENOENT)
			return p2p_error_set(err, P2P_EIO, "remove '%s': %s", name,
					     strerror(errno));
	}
	if (rename(aside, path) != 0)
		return p2p_error_set(err, P2P_EIO, "move '%s' back to '%s': %s", aside, path,
				     strerror(errno));
	return sync_directory(path, err);
}
