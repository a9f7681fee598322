/* A disk that fails: an SQLite VFS over the real one, for whole machines in one process.
 *
 * Every file whose path begins with a disk's folder belongs to that disk. The disk remembers what
 * was written and not yet synced, so that a power cut can lose, tear and reorder it; it stops at a
 * chosen operation as a killed machine does; single operations fail as asked. Other files pass
 * through. -shm files are shared memory: a cut loses them whole.
 *
 * One process-wide registry, as SQLite's own list of VFSes. Everything aborts with a text when the
 * test itself goes wrong. */
#ifndef P2P_TESTS_SUPPORT_FAULTDISK_H
#define P2P_TESTS_SUPPORT_FAULTDISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum faultdisk_op {
	FAULTDISK_OPEN,
	FAULTDISK_READ,
	FAULTDISK_WRITE,
	FAULTDISK_TRUNCATE,
	FAULTDISK_SYNC,
	FAULTDISK_DELETE,
	FAULTDISK_LOCK, /* of the file, and of the WAL-index */
	FAULTDISK_MAP,	/* of the WAL-index */
	FAULTDISK_OPS
};

/* Who opens a file: processes that die apart. */
#define FAULTDISK_NODE 1u
#define FAULTDISK_APP  2u
#define FAULTDISK_EYE  4u /* a test that looks: it is not counted, and nothing of it ever fails */

struct faultdisk_file;

struct faultdisk {
	char folder[128];
	unsigned int dead;	/* set of owners: each of their operations fails, nothing changes */
	bool full;		/* writes fail that make a file longer */
	unsigned int crash_who; /* owners that die in the middle of the operation */
	uint64_t crash_after;	/* operations of theirs that change something; 0: never */
	uint64_t fail_after;	/* operations of any kind until one fails; 0: never */
	bool fail_sticky;	/* and all that follow */
	unsigned int fail_ops;	/* of these kinds only, a bit each; 0: of all */
	int fail_code;		/* an SQLite code; 0: the usual one of the operation */
	uint32_t fail_one_in[FAULTDISK_OPS];		 /* at random; 0: never */
	uint64_t random;				 /* of cuts and failures */
	uint64_t operations, changes;			 /* counted */
	uint64_t node_changes;				 /* of changes, those of nodes */
	uint64_t failed[FAULTDISK_OPS];			 /* on purpose */
	struct faultdisk_file *files;			 /* with unsynced writes; owned */
	void (*counts)(void *ctx, enum faultdisk_op op); /* each that is counted; NULL allowed */
	/* A node has let go of the write lock of a WAL: what it committed is to be seen. NULL
	 * allowed. */
	void (*committed)(void *ctx, const char *path);
	void *ctx; /* borrowed, of both */
};

/* Becomes SQLite's default VFS, once for the process. wall_ms and random serve SQLite's own clock
 * and generator; NULL: the real ones. */
void faultdisk_install(uint64_t (*wall_ms)(void), void (*random)(void *out, size_t len));
/* disk stays where it is until detached. At most 64. */
void faultdisk_attach(struct faultdisk *disk, const char *folder, uint64_t seed);
void faultdisk_detach(struct faultdisk *disk);
/* Files that are opened from now on are this owner's; at first FAULTDISK_NODE. Returns the one
 * before. */
unsigned int faultdisk_owner(unsigned int owner);
/* The power is cut: of what was not synced some is lost, some torn, some kept although later than
 * what is lost. All connections must be closed (while dead, so that closing changes nothing).
 * Returns how many writes did not survive whole. */
uint64_t faultdisk_power_cut(struct faultdisk *disk);
/* A process is killed: what was written stays. The disk lives again. */
void faultdisk_revive(struct faultdisk *disk);

#endif
