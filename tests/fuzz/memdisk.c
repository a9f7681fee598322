/* See memdisk.h. */
#include "tests/fuzz/memdisk.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PATH_BYTES  128
#define FILES_MAX   16
#define INDEXES_MAX 4
#define PAGE_BYTES  32768 /* of a WAL-index */
#define PAGES_MAX   16
#define FIRST_LOCK  120 /* https://sqlite.org/walformat.html#wal_locks */

struct connection;

/* What is under a path, or of nobody but the connection that made it. */
struct content {
	char path[PATH_BYTES]; /* "": free */
	uint8_t *data;	       /* SQLite's allocator; owned */
	size_t len, room;
	unsigned int shared;	   /* connections that hold at least SHARED */
	struct connection *writer; /* that holds more */
};

struct index {
	char path[PATH_BYTES]; /* of its database */
	int fd;
	uint8_t *map;
	int pages;
	unsigned int users;
	unsigned int readers[SQLITE_SHM_NLOCK];
	bool writer[SQLITE_SHM_NLOCK];
	short told[SQLITE_SHM_NLOCK]; /* what the system knows of each lock */
};

struct connection {
	sqlite3_file base; /* first */
	struct content *content;
	struct index *index;
	int level;
	unsigned int reads, writes; /* locks of the index, a bit each */
	bool maps, temporary;
	struct content own;
};

struct state {
	struct content files[FILES_MAX];
	struct index indexes[INDEXES_MAX];
	uint64_t random;
};

static struct state disk, saved;
static uint8_t saved_pages[INDEXES_MAX][PAGE_BYTES];
static sqlite3_vfs vfs;

static _Noreturn void broken(const char *what)
{
	(void)fprintf(stderr, "memdisk: %s\n", what);
	abort();
}

static struct connection *connection_of(sqlite3_file *base)
{
	return (struct connection *)(void *)base;
}

/* --- content ---------------------------------------------------------------------------------- */

static struct content *content_find(const char *path)
{
	size_t i;

	for (i = 0; path && i < FILES_MAX; i++)
		if (disk.files[i].path[0] && strcmp(disk.files[i].path, path) == 0)
			return &disk.files[i];
	return NULL;
}

static struct content *content_make(const char *path)
{
	size_t i;

	for (i = 0; i < FILES_MAX; i++)
		if (!disk.files[i].path[0]) {
			(void)snprintf(disk.files[i].path, PATH_BYTES, "%s", path);
			return &disk.files[i];
		}
	broken("too many files");
}

static void content_drop(struct content *content)
{
	sqlite3_free(content->data);
	memset(content, 0, sizeof(*content));
}

static int content_grow(struct content *content, size_t len)
{
	size_t room = content->room ? content->room : 4096;
	uint8_t *data;

	while (room < len)
		room *= 2;
	if (room != content->room) {
		data = sqlite3_realloc64(content->data, room);
		if (!data)
			return SQLITE_FULL;
		content->data = data;
		content->room = room;
	}
	if (len > content->len) {
		memset(content->data + content->len, 0, len - content->len);
		content->len = len;
	}
	return SQLITE_OK;
}

static int file_read(sqlite3_file *base, void *out, int len, sqlite3_int64 offset)
{
	const struct content *content = connection_of(base)->content;
	size_t at = (size_t)offset, want = (size_t)len, there = 0;

	if (at < content->len)
		there = content->len - at < want ? content->len - at : want;
	if (there)
		memcpy(out, content->data + at, there);
	memset((uint8_t *)out + there, 0, want - there);
	return there == want ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static int file_write(sqlite3_file *base, const void *data, int len, sqlite3_int64 offset)
{
	struct content *content = connection_of(base)->content;
	int rc = content_grow(content, (size_t)offset + (size_t)len);

	if (rc == SQLITE_OK)
		memcpy(content->data + offset, data, (size_t)len);
	return rc;
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size)
{
	struct content *content = connection_of(base)->content;

	if ((size_t)size >= content->len)
		return content_grow(content, (size_t)size);
	content->len = (size_t)size;
	return SQLITE_OK;
}

static int file_sync(sqlite3_file *base, int flags)
{
	(void)base;
	(void)flags;
	return SQLITE_OK;
}

static int file_size(sqlite3_file *base, sqlite3_int64 *out)
{
	*out = (sqlite3_int64)connection_of(base)->content->len;
	return SQLITE_OK;
}

/* --- locks of a file -------------------------------------------------------------------------- */

static int file_lock(sqlite3_file *base, int level)
{
	struct connection *file = connection_of(base);
	struct content *content = file->content;
	const struct connection *writer = content->writer;

	if (level <= file->level)
		return SQLITE_OK;
	if (level == SQLITE_LOCK_SHARED) {
		if (writer && writer->level > SQLITE_LOCK_RESERVED)
			return SQLITE_BUSY;
		content->shared++;
	} else {
		if (writer && writer != file)
			return SQLITE_BUSY;
		content->writer = file;
		if (level == SQLITE_LOCK_EXCLUSIVE && content->shared > 1) {
			file->level = SQLITE_LOCK_PENDING;
			return SQLITE_BUSY;
		}
	}
	file->level = level;
	return SQLITE_OK;
}

static int file_unlock(sqlite3_file *base, int level)
{
	struct connection *file = connection_of(base);

	if (level >= file->level)
		return SQLITE_OK;
	if (file->content->writer == file)
		file->content->writer = NULL;
	if (level == SQLITE_LOCK_NONE)
		file->content->shared--;
	file->level = level;
	return SQLITE_OK;
}

static int file_check_lock(sqlite3_file *base, int *out)
{
	*out = connection_of(base)->content->writer != NULL;
	return SQLITE_OK;
}

static int file_control(sqlite3_file *base, int what, void *arg)
{
	(void)base;
	(void)what;
	(void)arg;
	return SQLITE_NOTFOUND;
}

static int file_sector(sqlite3_file *base)
{
	(void)base;
	return 4096;
}

static int file_device(sqlite3_file *base)
{
	(void)base;
	return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

/* --- the WAL-index ---------------------------------------------------------------------------- */

static void index_clear(struct index *index)
{
	memset(index->map, 0, (size_t)index->pages * PAGE_BYTES);
	index->pages = 0;
}

static int file_map(sqlite3_file *base, int page, int size, int extend, void volatile **out)
{
	struct connection *file = connection_of(base);
	struct index *index = file->index;

	*out = NULL;
	if (!index || size != PAGE_BYTES || page >= PAGES_MAX)
		broken("an unexpected WAL-index");
	if (!file->maps)
		index->users++;
	file->maps = true;
	if (page >= index->pages && extend)
		index->pages = page + 1;
	if (page < index->pages)
		*out = index->map + (size_t)page * PAGE_BYTES;
	return SQLITE_OK;
}

/* Locks of a process are told by the first descriptor that the file has. */
static void tell(struct index *index, int slot)
{
	struct flock lock;
	short type = F_UNLCK;

	if (index->readers[slot])
		type = F_RDLCK;
	if (index->writer[slot])
		type = F_WRLCK;
	if (type == index->told[slot])
		return;
	memset(&lock, 0, sizeof(lock));
	lock.l_type = index->told[slot] = type;
	lock.l_whence = SEEK_SET;
	lock.l_start = FIRST_LOCK + slot;
	lock.l_len = 1;
	if (fcntl(index->fd, F_SETLK, &lock) != 0)
		broken("a lock");
}

static bool index_free_for(const struct connection *file, int slot, bool exclusive)
{
	unsigned int bit = 1u << slot;
	unsigned int others = file->index->readers[slot] - (file->reads & bit ? 1 : 0);

	return !(file->index->writer[slot] && !(file->writes & bit)) && !(exclusive && others);
}

static void index_set(struct connection *file, int slot, int flags)
{
	unsigned int bit = 1u << slot;

	if (flags & SQLITE_SHM_UNLOCK) {
		file->index->readers[slot] -= file->reads & bit ? 1 : 0;
		file->index->writer[slot] &= !(file->writes & bit);
		file->reads &= ~bit;
		file->writes &= ~bit;
	} else if (flags & SQLITE_SHM_EXCLUSIVE) {
		file->index->writer[slot] = true;
		file->writes |= bit;
	} else if (!(file->reads & bit)) {
		file->index->readers[slot]++;
		file->reads |= bit;
	}
	tell(file->index, slot);
}

static int file_map_lock(sqlite3_file *base, int first, int count, int flags)
{
	struct connection *file = connection_of(base);
	int slot;

	for (slot = first; slot < first + count && flags & SQLITE_SHM_LOCK; slot++)
		if (!index_free_for(file, slot, flags & SQLITE_SHM_EXCLUSIVE))
			return SQLITE_BUSY;
	for (slot = first; slot < first + count; slot++)
		index_set(file, slot, flags);
	return SQLITE_OK;
}

static void file_barrier(sqlite3_file *base)
{
	(void)base;
}

static int file_unmap(sqlite3_file *base, int delete)
{
	struct connection *file = connection_of(base);

	(void)delete;
	if (file->maps && --file->index->users == 0)
		index_clear(file->index);
	file->maps = false;
	return SQLITE_OK;
}

static int file_close(sqlite3_file *base)
{
	struct connection *file = connection_of(base);

	(void)file_unmap(base, 0);
	(void)file_unlock(base, SQLITE_LOCK_NONE);
	if (file->temporary)
		sqlite3_free(file->own.data);
	return SQLITE_OK;
}

static const sqlite3_io_methods methods = {
	.iVersion = 2,
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

static int vfs_open(sqlite3_vfs *self, const char *path, sqlite3_file *base, int flags,
		    int *out_flags)
{
	struct connection *file = connection_of(base);
	size_t i;

	(void)self;
	memset(file, 0, sizeof(*file));
	file->temporary = !path || flags & SQLITE_OPEN_DELETEONCLOSE;
	file->content = file->temporary ? &file->own : content_find(path);
	if (!file->content && !(flags & SQLITE_OPEN_CREATE))
		return SQLITE_CANTOPEN;
	if (!file->content)
		file->content = content_make(path);
	for (i = 0; i < INDEXES_MAX && flags & SQLITE_OPEN_MAIN_DB; i++)
		if (disk.indexes[i].map && strcmp(disk.indexes[i].path, path) == 0)
			file->index = &disk.indexes[i];
	if (out_flags)
		*out_flags = flags;
	base->pMethods = &methods;
	return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *self, const char *path, int sync)
{
	struct content *content = content_find(path);

	(void)self;
	(void)sync;
	if (!content)
		return SQLITE_IOERR_DELETE_NOENT;
	content_drop(content);
	return SQLITE_OK;
}

static int vfs_access(sqlite3_vfs *self, const char *path, int flags, int *out)
{
	const struct content *content = content_find(path);

	(void)self;
	*out = content && (flags != SQLITE_ACCESS_EXISTS || content->len);
	return SQLITE_OK;
}

static int vfs_full_path(sqlite3_vfs *self, const char *path, int size, char *out)
{
	(void)self;
	(void)sqlite3_snprintf(size, out, "%s", path);
	return SQLITE_OK;
}

/* splitmix64 */
static int vfs_random(sqlite3_vfs *self, int size, char *out)
{
	int i;

	(void)self;
	for (i = 0; i < size; i++) {
		uint64_t z = disk.random += 0x9e3779b97f4a7c15ull;

		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
		z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
		out[i] = (char)(z ^ (z >> 31));
	}
	return size;
}

/* Nobody else could release a lock meanwhile. */
static int vfs_sleep(sqlite3_vfs *self, int us)
{
	(void)self;
	return us;
}

/* In ms since noon, -4713-11-24; it stands. */
static int vfs_time64(sqlite3_vfs *self, sqlite3_int64 *out)
{
	(void)self;
	*out = 1700000000000 + 210866760000000;
	return SQLITE_OK;
}

static int vfs_time(sqlite3_vfs *self, double *out)
{
	sqlite3_int64 ms = 0;
	int rc = vfs_time64(self, &ms);

	*out = (double)ms / 86400000.0;
	return rc;
}

static int vfs_error(sqlite3_vfs *self, int size, char *out)
{
	(void)self;
	(void)size;
	(void)out;
	return 0;
}

void memdisk_install(void)
{
	vfs = (sqlite3_vfs){
		.iVersion = 2,
		.szOsFile = (int)sizeof(struct connection),
		.mxPathname = PATH_BYTES - 8,
		.zName = "memdisk",
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
	if (sqlite3_vfs_register(&vfs, 1) != SQLITE_OK)
		broken("register");
}

static void index_path(char out[PATH_BYTES], const struct index *index)
{
	(void)snprintf(out, PATH_BYTES, "%.100s-shm", index->path);
}

void memdisk_add(const char *path)
{
	char name[PATH_BYTES];
	struct index *index = NULL;
	size_t i;
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	for (i = 0; i < INDEXES_MAX && !index; i++)
		if (!disk.indexes[i].map)
			index = &disk.indexes[i];
	if (fd < 0 || !index || strlen(path) > 100)
		broken(path);
	(void)close(fd);
	(void)snprintf(index->path, PATH_BYTES, "%s", path);
	index_path(name, index);
	index->fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (index->fd < 0 || ftruncate(index->fd, (off_t)PAGES_MAX * PAGE_BYTES) != 0)
		broken(name);
	index->map = mmap(NULL, (size_t)PAGES_MAX * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
			  index->fd, 0);
	if (index->map == MAP_FAILED)
		broken(name);
	for (i = 0; i < SQLITE_SHM_NLOCK; i++)
		index->told[i] = F_UNLCK;
}

void memdisk_remove(void)
{
	char name[PATH_BYTES];
	size_t i;

	for (i = 0; i < INDEXES_MAX; i++) {
		if (!disk.indexes[i].map)
			continue;
		index_path(name, &disk.indexes[i]);
		(void)munmap(disk.indexes[i].map, (size_t)PAGES_MAX * PAGE_BYTES);
		(void)close(disk.indexes[i].fd);
		(void)unlink(name);
		(void)unlink(disk.indexes[i].path);
	}
	for (i = 0; i < FILES_MAX; i++)
		content_drop(&disk.files[i]);
	memset(&disk, 0, sizeof(disk));
}

void memdisk_save(void)
{
	size_t i, slot;

	for (i = 0; i < INDEXES_MAX; i++) {
		for (slot = 0; slot < SQLITE_SHM_NLOCK && disk.indexes[i].map; slot++)
			if (disk.indexes[i].told[slot] != F_UNLCK)
				broken("somebody is in a transaction");
		if (disk.indexes[i].pages > 1)
			broken("a big WAL-index");
		if (disk.indexes[i].map)
			memcpy(saved_pages[i], disk.indexes[i].map, PAGE_BYTES);
	}
	saved = disk;
}

void memdisk_restore(void)
{
	size_t i;
	int slot;

	for (i = 0; i < INDEXES_MAX && disk.indexes[i].map; i++) {
		struct index *index = &disk.indexes[i];

		index_clear(index);
		memcpy(index->map, saved_pages[i], PAGE_BYTES);
		memset(index->readers, 0, sizeof(index->readers));
		memset(index->writer, 0, sizeof(index->writer));
		for (slot = 0; slot < SQLITE_SHM_NLOCK; slot++)
			tell(index, slot);
	}
	disk = saved;
	sqlite3_randomness(0, NULL);
}
