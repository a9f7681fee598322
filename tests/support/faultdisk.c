/* A disk that fails; see faultdisk.h. */
#include "tests/support/faultdisk.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DISKS_MAX    64
#define SECTOR_BYTES 512
/* https://sqlite.org/walformat.html#wal_locks */
#define WAL_WRITE_LOCK 0

/* One write or truncation that was not synced. */
struct change {
	struct change *older;
	sqlite3_int64 offset, old_size;
	size_t len;	/* 0: a truncation to offset */
	size_t old_len; /* of what was there */
	uint8_t *data;	/* new bytes, then old bytes */
};

struct faultdisk_file {
	struct faultdisk_file *next;
	char path[256];
	struct change *changes; /* newest first */
};

struct file {
	sqlite3_file base; /* first */
	struct faultdisk *disk;
	struct faultdisk_file *track;
	unsigned int owner;
	sqlite3_file *real;
};

static struct {
	sqlite3_vfs vfs;
	sqlite3_vfs *real;
	struct faultdisk *disks[DISKS_MAX];
	unsigned int owner;
	uint64_t (*wall_ms)(void);
	void (*random)(void *out, size_t len);
} registry;

static _Noreturn void broken(const char *what, const char *path)
{
	(void)fprintf(stderr, "faultdisk: %s: %s\n", what, path);
	abort();
}

static void *allocate(size_t size)
{
	void *memory = calloc(1, size ? size : 1);

	if (!memory)
		broken("memory", "");
	return memory;
}

static uint64_t draw(struct faultdisk *disk, uint64_t below)
{
	uint64_t z = disk->random += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return (z ^ (z >> 31)) % below;
}

/* --- what was not synced ---------------------------------------------------------------------- */

static void changes_free(struct change *change)
{
	while (change) {
		struct change *older = change->older;

		free(change->data);
		free(change);
		change = older;
	}
}

static struct faultdisk_file *track_of(struct faultdisk *disk, const char *path, bool make)
{
	struct faultdisk_file *file;

	for (file = disk->files; file; file = file->next)
		if (strcmp(file->path, path) == 0)
			return file;
	if (!make)
		return NULL;
	file = allocate(sizeof(*file));
	if ((size_t)snprintf(file->path, sizeof(file->path), "%s", path) >= sizeof(file->path))
		broken("a long path", path);
	file->next = disk->files;
	disk->files = file;
	return file;
}

static void note_change(struct file *file, const void *data, size_t len, sqlite3_int64 offset)
{
	struct change *change = allocate(sizeof(*change));
	sqlite3_int64 there;

	if (file->real->pMethods->xFileSize(file->real, &change->old_size) != SQLITE_OK)
		broken("size", file->track->path);
	there = change->old_size - offset;
	change->offset = offset;
	change->len = len;
	if (there > 0)
		change->old_len = len && (uint64_t)there > len ? len : (size_t)there;
	change->data = allocate(len + change->old_len);
	if (len)
		memcpy(change->data, data, len);
	if (change->old_len &&
	    file->real->pMethods->xRead(file->real, change->data + len, (int)change->old_len,
					offset) != SQLITE_OK)
		broken("read back", file->track->path);
	change->older = file->track->changes;
	file->track->changes = change;
}

static void put(int fd, const char *path, const void *data, size_t len, sqlite3_int64 offset)
{
	if (len && pwrite(fd, data, len, (off_t)offset) != (ssize_t)len)
		broken("write", path);
}

static void resize(int fd, const char *path, sqlite3_int64 size)
{
	if (ftruncate(fd, (off_t)size) != 0)
		broken("truncate", path);
}

/* Writes all of a change again, or some of its sectors. Whether it survived whole. */
static bool survive(struct faultdisk *disk, int fd, const struct faultdisk_file *file,
		    const struct change *change, unsigned int percent)
{
	size_t at, len;
	bool torn = draw(disk, 100) < 30, whole = true;

	if (!torn && draw(disk, 100) >= percent)
		return false;
	if (change->len == 0)
		resize(fd, file->path, change->offset);
	for (at = 0; at < change->len; at += len) {
		len = SECTOR_BYTES - (size_t)(change->offset + (sqlite3_int64)at) % SECTOR_BYTES;
		if (len > change->len - at)
			len = change->len - at;
		if (torn && draw(disk, 100) >= percent)
			whole = false;
		else
			put(fd, file->path, change->data + at, len,
			    change->offset + (sqlite3_int64)at);
	}
	return whole;
}

static uint64_t cut_file(struct faultdisk *disk, struct faultdisk_file *file, unsigned int percent)
{
	struct change *change, *oldest = NULL, *older;
	int fd = open(file->path, O_RDWR | O_CLOEXEC);
	uint64_t lost = 0;

	if (fd < 0 && errno == ENOENT) {
		/* somebody removed it, not by way of SQLite */
		changes_free(file->changes);
		file->changes = NULL;
		return 0;
	}
	if (fd < 0)
		broken("open", file->path);
	for (change = file->changes; change; change = older) {
		put(fd, file->path, change->data + change->len, change->old_len, change->offset);
		resize(fd, file->path, change->old_size);
		/* turned round: oldest first */
		older = change->older;
		change->older = oldest;
		oldest = change;
	}
	for (change = oldest; change; change = change->older)
		lost += !survive(disk, fd, file, change, percent);
	changes_free(oldest);
	file->changes = NULL;
	if (close(fd) != 0)
		broken("close", file->path);
	return lost;
}

uint64_t faultdisk_power_cut(struct faultdisk *disk)
{
	static const unsigned int percents[] = {0, 0, 30, 70, 90};
	unsigned int percent = percents[draw(disk, sizeof(percents) / sizeof(percents[0]))];
	struct faultdisk_file *file;
	uint64_t lost = 0;

	for (file = disk->files; file; file = file->next)
		if (file->changes)
			lost += cut_file(disk, file, percent);
	faultdisk_revive(disk);
	return lost;
}

void faultdisk_revive(struct faultdisk *disk)
{
	disk->dead = 0;
	disk->crash_after = 0;
}

/* --- failures --------------------------------------------------------------------------------- */

static int usual_code(enum faultdisk_op op)
{
	static const int codes[FAULTDISK_OPS] = {
		SQLITE_CANTOPEN,    SQLITE_IOERR_READ,	 SQLITE_IOERR_WRITE, SQLITE_IOERR_TRUNCATE,
		SQLITE_IOERR_FSYNC, SQLITE_IOERR_DELETE, SQLITE_BUSY,	     SQLITE_IOERR_SHMMAP,
	};

	return codes[op];
}

/* 0, or the error that the operation ends with. */
static int failure(struct faultdisk *disk, unsigned int owner, enum faultdisk_op op)
{
	bool fails = false;

	if (!disk)
		return SQLITE_OK;
	if (owner == FAULTDISK_EYE)
		return SQLITE_OK;
	if (disk->dead & owner)
		return op == FAULTDISK_LOCK ? SQLITE_IOERR_LOCK : usual_code(op);
	disk->operations++;
	if (disk->counts)
		disk->counts(disk->ctx, op);
	if (disk->fail_after && (!disk->fail_ops || disk->fail_ops & 1u << op) &&
	    (disk->operations == disk->fail_after ||
	     (disk->fail_sticky && disk->operations > disk->fail_after)))
		fails = true;
	if (disk->fail_one_in[op] && draw(disk, disk->fail_one_in[op]) == 0)
		fails = true;
	if (!fails)
		return SQLITE_OK;
	disk->failed[op]++;
	if (disk->fail_code && (op != FAULTDISK_LOCK || disk->fail_code == SQLITE_IOERR_LOCK))
		return disk->fail_code;
	return usual_code(op);
}

/* Counts one that changes something; true: the machine stops in the middle of it. */
static bool stops_here(struct faultdisk *disk, unsigned int owner)
{
	if (!disk || owner == FAULTDISK_EYE)
		return false;
	disk->changes++;
	disk->node_changes += owner == FAULTDISK_NODE;
	if (!(owner & disk->crash_who) || !disk->crash_after || --disk->crash_after)
		return false;
	disk->dead |= disk->crash_who;
	return true;
}

/* --- files ------------------------------------------------------------------------------------ */

static struct file *file_of(sqlite3_file *base)
{
	return (struct file *)(void *)base;
}

static int file_close(sqlite3_file *base)
{
	struct file *file = file_of(base);

	return file->real->pMethods ? file->real->pMethods->xClose(file->real) : SQLITE_OK;
}

static int file_read(sqlite3_file *base, void *out, int len, sqlite3_int64 offset)
{
	struct file *file = file_of(base);
	int rc = failure(file->disk, file->owner, FAULTDISK_READ);

	return rc ? rc : file->real->pMethods->xRead(file->real, out, len, offset);
}

static int file_write(sqlite3_file *base, const void *data, int len, sqlite3_int64 offset)
{
	struct file *file = file_of(base);
	sqlite3_int64 size = 0;
	int rc = failure(file->disk, file->owner, FAULTDISK_WRITE);

	if (rc)
		return rc;
	if (file->disk && file->disk->full) {
		rc = file->real->pMethods->xFileSize(file->real, &size);
		if (rc == SQLITE_OK && offset + len > size) {
			file->disk->failed[FAULTDISK_WRITE]++;
			return SQLITE_FULL;
		}
	}
	if (stops_here(file->disk, file->owner)) {
		len = (int)draw(file->disk, (uint64_t)len);
		if (len) {
			note_change(file, data, (size_t)len, offset);
			(void)file->real->pMethods->xWrite(file->real, data, len, offset);
		}
		return SQLITE_IOERR_WRITE;
	}
	if (file->track)
		note_change(file, data, (size_t)len, offset);
	return file->real->pMethods->xWrite(file->real, data, len, offset);
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size)
{
	struct file *file = file_of(base);
	int rc = failure(file->disk, file->owner, FAULTDISK_TRUNCATE);

	if (rc)
		return rc;
	if (stops_here(file->disk, file->owner))
		return SQLITE_IOERR_TRUNCATE;
	if (file->track)
		note_change(file, NULL, 0, size);
	return file->real->pMethods->xTruncate(file->real, size);
}

static int file_sync(sqlite3_file *base, int flags)
{
	struct file *file = file_of(base);
	int rc = failure(file->disk, file->owner, FAULTDISK_SYNC);

	(void)flags;
	if (rc)
		return rc;
	if (stops_here(file->disk, file->owner))
		return SQLITE_IOERR_FSYNC;
	if (file->track) {
		changes_free(file->track->changes);
		file->track->changes = NULL;
	}
	return SQLITE_OK; /* the real disk is not asked: nobody cuts its power */
}

static int file_size(sqlite3_file *base, sqlite3_int64 *out)
{
	struct file *file = file_of(base);

	return file->real->pMethods->xFileSize(file->real, out);
}

static int file_lock(sqlite3_file *base, int level)
{
	struct file *file = file_of(base);
	int rc = failure(file->disk, file->owner, FAULTDISK_LOCK);

	return rc ? rc : file->real->pMethods->xLock(file->real, level);
}

static int file_unlock(sqlite3_file *base, int level)
{
	struct file *file = file_of(base);

	return file->real->pMethods->xUnlock(file->real, level);
}

static int file_check_lock(sqlite3_file *base, int *out)
{
	struct file *file = file_of(base);

	return file->real->pMethods->xCheckReservedLock(file->real, out);
}

static int file_control(sqlite3_file *base, int what, void *arg)
{
	struct file *file = file_of(base);

	return file->real->pMethods->xFileControl(file->real, what, arg);
}

static int file_sector(sqlite3_file *base)
{
	struct file *file = file_of(base);

	return file->real->pMethods->xSectorSize(file->real);
}

static int file_device(sqlite3_file *base)
{
	(void)base;
	return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static int file_map(sqlite3_file *base, int page, int size, int extend, void volatile **out)
{
	struct file *file = file_of(base);
	int rc = failure(file->disk, file->owner, FAULTDISK_MAP);

	return rc ? rc : file->real->pMethods->xShmMap(file->real, page, size, extend, out);
}

static int file_map_lock(sqlite3_file *base, int offset, int count, int flags)
{
	struct file *file = file_of(base);
	int rc = flags & SQLITE_SHM_UNLOCK ? SQLITE_OK
					   : failure(file->disk, file->owner, FAULTDISK_LOCK);

	if (rc)
		return rc;
	rc = file->real->pMethods->xShmLock(file->real, offset, count, flags);
	if (flags == (SQLITE_SHM_UNLOCK | SQLITE_SHM_EXCLUSIVE) && offset == WAL_WRITE_LOCK &&
	    file->owner == FAULTDISK_NODE && file->disk && file->disk->committed)
		file->disk->committed(file->disk->ctx, file->track->path);
	return rc;
}

static void file_barrier(sqlite3_file *base)
{
	struct file *file = file_of(base);

	file->real->pMethods->xShmBarrier(file->real);
}

static int file_unmap(sqlite3_file *base, int delete)
{
	struct file *file = file_of(base);

	return file->real->pMethods->xShmUnmap(file->real, delete);
}

static const sqlite3_io_methods file_methods = {
	.iVersion = 2, /* no memory-mapped reads: they could not fail */
	.xClose = file_close,
	.xRead = file_read,
	.xWrite = file_write,
	.xTruncate = file_truncate,
	.xSync = file_sync,
	.xFileSize = file_size,
	.xLock = file_lock,
	.xUnlock = file_unlock,
	.xCheckReservedLock = file_check_lock,
	.xFileControl = file_control,
	.xSectorSize = file_sector,
	.xDeviceCharacteristics = file_device,
	.xShmMap = file_map,
	.xShmLock = file_map_lock,
	.xShmBarrier = file_barrier,
	.xShmUnmap = file_unmap,
};

/* --- the VFS ---------------------------------------------------------------------------------- */

static struct faultdisk *disk_of(const char *path)
{
	size_t i;

	for (i = 0; path && i < DISKS_MAX; i++) {
		struct faultdisk *disk = registry.disks[i];
		size_t len = disk ? strlen(disk->folder) : 0;

		if (disk && strncmp(path, disk->folder, len) == 0 && path[len] == '/')
			return disk;
	}
	return NULL;
}

static int vfs_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags,
		    int *out_flags)
{
	struct file *file = file_of(base);
	int rc;

	(void)vfs;
	memset(file, 0, sizeof(*file));
	file->real = (sqlite3_file *)(void *)(file + 1);
	file->disk = disk_of(path);
	file->owner = registry.owner;
	rc = failure(file->disk, file->owner, FAULTDISK_OPEN);
	if (rc)
		return rc;
	rc = registry.real->xOpen(registry.real, path, file->real, flags, out_flags);
	if (file->disk && rc == SQLITE_OK)
		file->track = track_of(file->disk, path, true);
	if (file->real->pMethods)
		base->pMethods = &file_methods;
	return rc;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *path, int sync)
{
	struct faultdisk *disk = disk_of(path);
	struct faultdisk_file *track = disk ? track_of(disk, path, false) : NULL;
	int rc = failure(disk, registry.owner, FAULTDISK_DELETE);

	(void)vfs;
	if (rc)
		return rc;
	if (stops_here(disk, registry.owner))
		return SQLITE_IOERR_DELETE;
	rc = registry.real->xDelete(registry.real, path, sync);
	if (rc == SQLITE_OK && track) {
		changes_free(track->changes);
		track->changes = NULL;
	}
	return rc;
}

static int vfs_access(sqlite3_vfs *vfs, const char *path, int flags, int *out)
{
	(void)vfs;
	return registry.real->xAccess(registry.real, path, flags, out);
}

static int vfs_full_path(sqlite3_vfs *vfs, const char *path, int size, char *out)
{
	(void)vfs;
	return registry.real->xFullPathname(registry.real, path, size, out);
}

static int vfs_random(sqlite3_vfs *vfs, int size, char *out)
{
	(void)vfs;
	if (!registry.random)
		return registry.real->xRandomness(registry.real, size, out);
	registry.random(out, (size_t)size);
	return size;
}

/* Nobody else can release a lock meanwhile: all of it is one thread. */
static int vfs_sleep(sqlite3_vfs *vfs, int us)
{
	(void)vfs;
	return registry.wall_ms ? us : registry.real->xSleep(registry.real, us);
}

static int vfs_time64(sqlite3_vfs *vfs, sqlite3_int64 *out)
{
	(void)vfs;
	if (!registry.wall_ms)
		return registry.real->xCurrentTimeInt64(registry.real, out);
	*out = (sqlite3_int64)registry.wall_ms() + 210866760000000; /* since noon, -4713-11-24 */
	return SQLITE_OK;
}

static int vfs_time(sqlite3_vfs *vfs, double *out)
{
	sqlite3_int64 ms = 0;
	int rc = vfs_time64(vfs, &ms);

	*out = (double)ms / 86400000.0;
	return rc;
}

static int vfs_error(sqlite3_vfs *vfs, int size, char *out)
{
	(void)vfs;
	return registry.real->xGetLastError(registry.real, size, out);
}

void faultdisk_install(uint64_t (*wall_ms)(void), void (*random)(void *out, size_t len))
{
	registry.real = sqlite3_vfs_find(NULL);
	registry.owner = FAULTDISK_NODE;
	registry.wall_ms = wall_ms;
	registry.random = random;
	registry.vfs = (sqlite3_vfs){
		.iVersion = 2,
		.szOsFile = (int)sizeof(struct file) + registry.real->szOsFile,
		.mxPathname = registry.real->mxPathname,
		.zName = "faultdisk",
		.xOpen = vfs_open,
		.xDelete = vfs_delete,
		.xAccess = vfs_access,
		.xFullPathname = vfs_full_path,
		.xRandomness = vfs_random,
		.xSleep = vfs_sleep,
		.xCurrentTime = vfs_time,
		.xGetLastError = vfs_error,
		.xCurrentTimeInt64 = vfs_time64,
	};
	if (sqlite3_vfs_register(&registry.vfs, 1) != SQLITE_OK)
		broken("register", "");
}

unsigned int faultdisk_owner(unsigned int owner)
{
	unsigned int before = registry.owner;

	registry.owner = owner;
	return before;
}

void faultdisk_attach(struct faultdisk *disk, const char *folder, uint64_t seed)
{
	size_t i;

	memset(disk, 0, sizeof(*disk));
	disk->random = seed;
	if ((size_t)snprintf(disk->folder, sizeof(disk->folder), "%s", folder) >=
	    sizeof(disk->folder))
		broken("a long path", folder);
	for (i = 0; i < DISKS_MAX; i++) {
		if (registry.disks[i])
			continue;
		registry.disks[i] = disk;
		return;
	}
	broken("too many disks", folder);
}

void faultdisk_detach(struct faultdisk *disk)
{
	struct faultdisk_file *file = disk->files, *next;
	size_t i;

	for (; file; file = next) {
		next = file->next;
		changes_free(file->changes);
		free(file);
	}
	disk->files = NULL;
	for (i = 0; i < DISKS_MAX; i++)
		if (registry.disks[i] == disk)
			registry.disks[i] = NULL;
}
