/* The lock beside the database; see lock.h. */
#include "node/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/check.h"
#include "proto/mem.h"

static int errno_code(int error)
{
	switch (error) {
	case ENOENT:
	case ENOTDIR:
		return P2P_ENOENT;
	case EACCES:
	case EPERM:
	case EROFS:
		return P2P_EREADONLY;
	case ENOSPC:
	case EDQUOT:
		return P2P_EFULL;
	case ENOMEM:
		return P2P_ENOMEM;
	default:
		return P2P_EIO;
	}
}

/* Real path of the directory, then the name. */
static char *path_in_directory(const char *db_path, struct p2p_error *err)
{
	char *copy = p2p_strdup(db_path), *real, *out = NULL, *slash;
	const char *name = db_path, *dir = ".";
	char resolved[PATH_MAX];
	size_t size;

	if (!copy) {
		(void)p2p_error_set(err, P2P_ENOMEM, "out of memory");
		return NULL;
	}
	slash = strrchr(copy, '/');
	if (slash) {
		name = db_path + (slash - copy) + 1;
		*slash = 0;
		dir = slash == copy ? "/" : copy;
	}
	real = realpath(dir, resolved);
	if (!real) {
		(void)p2p_error_set(err, errno_code(errno), "'%s': %s", db_path, strerror(errno));
	} else {
		size = strlen(real) + strlen(name) + 2;
		out = p2p_malloc(size);
		if (out)
			(void)snprintf(out, size, "%s%s%s", real, real[1] ? "/" : "", name);
		else
			(void)p2p_error_set(err, P2P_ENOMEM, "out of memory");
	}
	p2p_free(copy);
	return out;
}

char *p2p_lock_real_path(const char *db_path, struct p2p_error *err)
{
	char resolved[PATH_MAX];
	char *out;

	if (realpath(db_path, resolved)) {
		out = p2p_strdup(resolved);
		if (!out)
			(void)p2p_error_set(err, P2P_ENOMEM, "out of memory");
		return out;
	}
	if (errno != ENOENT) {
		(void)p2p_error_set(err, errno_code(errno), "'%s': %s", db_path, strerror(errno));
		return NULL;
	}
	return path_in_directory(db_path, err);
}

/* pid in the lock file; 0 when there is none that can be read. */
static long holder_pid(int fd)
{
	char text[256];
	ssize_t len = pread(fd, text, sizeof(text) - 1, 0);
	long pid = 0;

	if (len <= 0)
		return 0;
	text[len] = 0;
	if (sscanf(text, "pid %ld", &pid) != 1 || pid < 0)
		return 0;
	return pid;
}

static int locked(const char *db_path, int fd, struct p2p_error *err)
{
	long pid = holder_pid(fd);

	if (pid)
		return p2p_error_set(err, P2P_ELOCKED,
				     "'%s': a node has this database already, pid %ld", db_path,
				     pid);
	return p2p_error_set(err, P2P_ELOCKED, "'%s': a node has this database already", db_path);
}

static void write_holder(int fd, const struct p2p_id *instance, const char *state_dir)
{
	char text[PATH_MAX + 256], boot[64] = "", hex[2 * P2P_ID_BYTES + 1];
	int boot_fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC), len;
	ssize_t got = boot_fd >= 0 ? read(boot_fd, boot, sizeof(boot) - 1) : -1;

	boot[got > 0 ? strcspn(boot, "\n") : 0] = 0;
	if (boot_fd >= 0)
		(void)close(boot_fd); /* read only: nothing can be lost */
	p2p_hex(hex, instance->bytes, P2P_ID_BYTES);
	len = snprintf(text, sizeof(text), "pid %ld\nboot %s\ninstance %s\nstate %s\n",
		       (long)getpid(), boot, hex, state_dir);
	p2p_require(len > 0 && (size_t)len < sizeof(text));
	/* for people only: the lock itself is what counts, so a full disk is no reason to stop */
	if (ftruncate(fd, 0) == 0 && pwrite(fd, text, (size_t)len, 0) != len)
		(void)!ftruncate(fd, 0);
}

static int lock_file(struct p2p_lock *lock, const char *db_path, struct p2p_error *err)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = open(lock->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644), rc;

	if (fd < 0)
		return p2p_error_set(err, errno_code(errno), "lock '%s': %s", lock->path,
				     strerror(errno));
	if (fcntl(fd, F_OFD_SETLK, &whole) == 0) {
		lock->fd = fd;
		return 0;
	}
	if (errno == EAGAIN || errno == EACCES)
		rc = locked(db_path, fd, err);
	else
		rc = p2p_error_set(err, P2P_EREFUSED, "lock '%s': %s: this file system cannot lock",
				   lock->path, strerror(errno));
	(void)close(fd); /* nothing was written */
	return rc;
}

int p2p_lock_take(struct p2p_lock *lock, const char *db_path, const struct p2p_id *instance,
		  struct p2p_error *err)
{
	struct p2p_error local = {0};
	char *real = p2p_lock_real_path(db_path, &local), *old;
	size_t size;
	int rc;

	lock->fd = -1;
	lock->path = NULL;
	if (!real)
		return p2p_error_set(err, local.code, "%s", local.msg);
	size = strlen(real) + sizeof("-p2p.lock");
	lock->path = p2p_malloc(size);
	if (!lock->path) {
		p2p_free(real);
		return p2p_error_set(err, P2P_ENOMEM, "out of memory");
	}
	(void)snprintf(lock->path, size, "%s-p2p.lock", real);
	p2p_free(real);
	rc = lock_file(lock, db_path, err);
	if (rc) {
		p2p_lock_release(lock);
		return rc;
	}
	old = p2p_lock_state_dir(db_path);
	write_holder(lock->fd, instance, old ? old : "");
	p2p_free(old);
	return 0;
}

void p2p_lock_describe(struct p2p_lock *lock, const struct p2p_id *instance, const char *state_dir)
{
	p2p_require(lock->fd >= 0);
	write_holder(lock->fd, instance, state_dir);
}

char *p2p_lock_state_dir(const char *db_path)
{
	static const char label[] = "\nstate ";
	char text[PATH_MAX + 256], path[PATH_MAX + sizeof("-p2p.lock")];
	char *real = p2p_lock_real_path(db_path, NULL), *at, *end;
	ssize_t len;
	int fd;

	if (!real)
		return NULL;
	(void)snprintf(path, sizeof(path), "%s-p2p.lock", real);
	p2p_free(real);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return NULL;
	len = pread(fd, text, sizeof(text) - 1, 0);
	(void)close(fd); /* read only */
	text[len > 0 ? len : 0] = 0;
	at = strstr(text, label);
	end = at ? strchr(at + strlen(label), '\n') : NULL;
	if (!end || end == at + strlen(label))
		return NULL;
	*end = 0;
	return p2p_strdup(at + strlen(label));
}

void p2p_lock_release(struct p2p_lock *lock)
{
	if (lock->fd >= 0)
		(void)close(lock->fd); /* the content is a hint only */
	lock->fd = -1;
	p2p_free(lock->path);
	lock->path = NULL;
}

void p2p_lock_remove(struct p2p_lock *lock)
{
	if (lock->path)
		(void)unlink(lock->path); /* an empty lock file that stays does no harm */
	p2p_lock_release(lock);
}
