/* Memory that runs out on request: the library's own allocations and SQLite's are counted, and the
 * one that a test names fails, alone or with all that follow. */
#ifndef P2P_TESTS_SUPPORT_MEMFAULT_H
#define P2P_TESTS_SUPPORT_MEMFAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Before the first other call of the library and of SQLite. sqlite: its allocations, too. */
void memfault_install(bool sqlite);
/* The nth allocation from now on fails (0: the next one); sticky: all after it, too. */
void memfault_arm(uint64_t nth, bool sticky);
/* Whether SQLite's are among those that are counted and fail; they are at first. */
void memfault_spare_sqlite(bool spare);
/* All succeed again. Returns how many failed. */
uint64_t memfault_disarm(void);
/* Figures for docs/reliability.md, if P2P_RELIABILITY names a folder: FOLDER/name.json. Texts need
 * no escapes. */
struct memfault_report {
	const char *name, *title, *command, *not_tested;
	const char *labels[4];
	uint64_t values[4];
};
bool memfault_reports(void);
void memfault_report(const struct memfault_report *report);
/* Blocks of the library that are not freed. */
size_t memfault_live(void);
/* Bytes that the library asked for since memfault_install(). */
uint64_t memfault_bytes(void);

#endif
