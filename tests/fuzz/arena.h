/* Memory that can be put back: everything that was allocated here is, after fuzz_arena_restore(),
 * where and as it was at fuzz_arena_save(). For targets whose fixture is dear to make.
 *
 * Under the address sanitizer it watches as libc's allocator does there: bytes beside a block and
 * freed blocks are poisoned, a freed block waits before it is given out again. One per process, not
 * for threads. Aborts with a text on a double free, and when it is full. */
#ifndef P2P_TESTS_FUZZ_ARENA_H
#define P2P_TESTS_FUZZ_ARENA_H

#include <stddef.h>

#include "tests/fuzz/fuzz.h"

extern const struct fuzz_heap fuzz_arena;

/* SQLite allocates here, too. Before its first other call. */
void fuzz_arena_for_sqlite(void);

/* Any number of times; the last one counts. */
void fuzz_arena_save(void);
/* As often as wanted, after a save. */
void fuzz_arena_restore(void);

#endif
