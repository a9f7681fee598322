/* A disk in memory that can be put back, as SQLite's default VFS: what files hold is allocated with
 * SQLite's own allocator, and goes and comes with it (tests/fuzz/arena.h). Locks are kept as on a
 * real disk, between the connections of this process.
 *
 * The WAL-index of each database is a real file, open and mapped once and for all, with the locks
 * of its readers: who looks at it past SQLite (crdt/walfile.h) sees what there is to see. */
#ifndef P2P_TESTS_FUZZ_MEMDISK_H
#define P2P_TESTS_FUZZ_MEMDISK_H

/* Before SQLite's first other call. */
void memdisk_install(void);
/* A database of this path, of which a real, empty file is made beside its WAL-index. At most 4. */
void memdisk_add(const char *path);
/* The real files are removed. */
void memdisk_remove(void);

/* With fuzz_arena_save() and fuzz_arena_restore(). Nobody is in a transaction. */
void memdisk_save(void);
void memdisk_restore(void);

#endif
