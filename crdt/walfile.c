/* The WAL beside the application's file; see walfile.h. */
#include "crdt/walfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crdt/store_private.h"
#include "proto/check.h"

/* From the description of the WAL-index (sqlite.org/walformat.html): locks begin at byte 120, those
 * of the five read marks at the fourth. */
#define SHM_READ_MARK 123
#define SHM_MARKS     5
/* Two copies of the header, then what checkpoints say; native byte order. */
#define SHM_HEADER_BYTES 48
#define SHM_MAX_FRAME	 16
#define SHM_BACKFILLED	 96
#define SHM_READ_BYTES	 100
#define SHM_VERSION	 3007000
/* A header that a writer is changing just now is read again. */
#define SHM_TRIES 3

#define DESCRIPTORS_MAX 65536

/* --- SQLite's descriptor of the -shm file ----------------------------------------------------- */

static bool is_shm(const struct p2p_store *store, int fd)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == store->shm_dev &&
	       st.st_ino == store->shm_ino;
}

static int descriptor_find(const struct p2p_store *store)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *entry;
	int found = -1, seen = 0;

	if (!dir)
		return -1;
	while (found < 0 && seen++ < DESCRIPTORS_MAX && (entry = readdir(dir)) != NULL) {
		char *end;
		long fd = strtol(entry->d_name, &end, 10);

		if (*end == 0 && end != entry->d_name && fd != dirfd(dir) && is_shm(store, (int)fd))
			found = (int)fd;
	}
	(void)closedir(dir); /* of /proc: nothing can be lost */
	return found;
}

/* SQLite keeps it open as long as a connection of this process is: ours is. -1: not found. */
static int shm_descriptor(struct p2p_store *store)
{
	char *path;
	struct stat st;
	bool there;

	if (store->shm_found && is_shm(store, store->shm_fd))
		return store->shm_fd;
	store->shm_found = false;
	path = sqlite3_mprintf("%s-shm", sqlite3_db_filename(store->db, "main"));
	there = path && stat(path, &st) == 0;
	sqlite3_free(path);
	if (!there)
		return -1;
	store->shm_dev = st.st_dev;
	store->shm_ino = st.st_ino;
	store->shm_fd = descriptor_find(store);
	store->shm_found = store->shm_fd >= 0;
	return store->shm_found ? store->shm_fd : -1;
}

/* --- readers ---------------------------------------------------------------------------------- */

/* Would a lock on these bytes meet another? F_OFD_GETLK counts those of this process too, F_GETLK
 * does not. False with errno when the system does not say. */
static bool ask(int fd, int command, off_t start, off_t count, bool *out_locked)
{
	struct flock lock;

	memset(&lock, 0, sizeof(lock));
	lock.l_type = F_WRLCK;
	lock.l_whence = SEEK_SET;
	lock.l_start = start;
	lock.l_len = count;
	if (fcntl(fd, command, &lock) != 0)
		return false;
	*out_locked = lock.l_type != F_UNLCK;
	return true;
}

/* In our own transaction: readers of other processes, or more marks in use than ours. */
static bool others(int fd, bool *out)
{
	bool locked = false;
	int i, marks = 0;

	if (!ask(fd, F_GETLK, SHM_READ_MARK, SHM_MARKS, &locked))
		return false;
	*out = locked;
	for (i = 0; i < SHM_MARKS && !*out; i++) {
		if (!ask(fd, F_OFD_GETLK, SHM_READ_MARK + i, 1, &locked))
			return false;
		marks += locked;
		*out = marks > 1;
	}
	return true;
}

bool p2p_walfile_readers(struct p2p_store *store, bool *out_reliable)
{
	int fd = shm_descriptor(store);
	bool readers = false, answered;

	if (fd < 0)
		answered = false;
	else if (p2p_store_in_transaction(store))
		answered = others(fd, &readers);
	else
		answered = ask(fd, F_OFD_GETLK, SHM_READ_MARK, SHM_MARKS, &readers);
	if (out_reliable)
		*out_reliable = answered;
	return answered && readers;
}

/* --- frames ----------------------------------------------------------------------------------- */

static uint32_t native_u32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

uint64_t p2p_walfile_frames(struct p2p_store *store)
{
	uint8_t bytes[SHM_READ_BYTES];
	uint32_t frames, done;
	int fd = shm_descriptor(store), i;

	for (i = 0; i < SHM_TRIES && fd >= 0; i++) {
		if (pread(fd, bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
			return 0;
		if (memcmp(bytes, bytes + SHM_HEADER_BYTES, SHM_HEADER_BYTES) != 0)
			continue;
		if (native_u32(bytes) != SHM_VERSION)
			return 0;
		frames = native_u32(bytes + SHM_MAX_FRAME);
		done = native_u32(bytes + SHM_BACKFILLED);
		return frames > done ? frames - done : 0;
	}
	return 0;
}

/* --- sync and checkpoint ---------------------------------------------------------------------- */

/* The WAL is opened by the first read. */
static int touch(struct p2p_store *store, struct p2p_error *err)
{
	int rc = p2p_store_begin_read(store, err);

	if (!rc)
		p2p_store_rollback(store);
	return rc;
}

static sqlite3_file *wal_of(struct p2p_store *store)
{
	sqlite3_file *file = NULL;

	if (sqlite3_file_control(store->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file) !=
	    SQLITE_OK)
		return NULL;
	return file && file->pMethods ? file : NULL;
}

int p2p_walfile_sync(struct p2p_store *store, struct p2p_error *err)
{
	sqlite3_file *file = wal_of(store);
	int rc = 0;

	if (!file && !p2p_store_in_transaction(store)) {
		rc = touch(store, err);
		file = wal_of(store);
	}
	if (rc)
		return rc;
	if (!file)
		return p2p_error_set(err, P2P_EIO, "sync the WAL of '%s': it is not open",
				     store->path);
	errno = 0;
	rc = file->pMethods->xSync(file, SQLITE_SYNC_NORMAL);
	if (rc == SQLITE_OK)
		return 0;
	return p2p_error_set(err, errno == ENOSPC || errno == EDQUOT ? P2P_EFULL : P2P_EIO,
			     "sync the WAL of '%s': %s: what was written last may not survive a "
			     "power cut; check the disk",
			     store->path, strerror(errno));
}

static int checkpoint_error(const struct p2p_store *store, int rc, struct p2p_error *err)
{
	return p2p_error_set(err, p2p_store_code(rc), "checkpoint '%s': %s", store->path,
			     sqlite3_errstr(rc));
}

/* The second connection is kept: opening one costs more than most checkpoints. */
static int checkpointer(struct p2p_store *store, struct p2p_error *err)
{
	int rc;

	if (store->checkpointer)
		return 0;
	rc = sqlite3_open_v2(sqlite3_db_filename(store->db, "main"), &store->checkpointer,
			     SQLITE_OPEN_READWRITE, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(store->checkpointer,
				  "PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = NORMAL",
				  NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		return 0;
	(void)sqlite3_close_v2(store->checkpointer);
	store->checkpointer = NULL;
	return checkpoint_error(store, rc, err);
}

int p2p_walfile_checkpoint(struct p2p_store *store, uint64_t *out_hold_us, struct p2p_error *err)
{
	struct p2p_time start, end;
	int rc = checkpointer(store, err), result;

	p2p_require(!p2p_store_in_transaction(store));
	/* what is synced now need not be synced while the lock is held */
	if (!rc)
		rc = p2p_walfile_sync(store, err);
	if (!rc)
		rc = p2p_store_begin_write(store, 0, err);
	if (rc)
		return rc;
	start = p2p_env_now(store->env);
	rc = sqlite3_wal_checkpoint_v2(store->checkpointer, "main", SQLITE_CHECKPOINT_PASSIVE, NULL,
				       NULL);
	result = rc == SQLITE_OK ? 0 : checkpoint_error(store, rc, err);
	p2p_store_rollback(store);
	end = p2p_env_now(store->env);
	if (!result && out_hold_us)
		*out_hold_us = (end.ms - start.ms) * 1000;
	return result;
}
