/* Memory that runs out on request; see memfault.h. */
#include "tests/support/memfault.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/mem.h"

static struct {
	bool armed, sticky, spare_sqlite;
	uint64_t left, failed;
	size_t live;
	uint64_t bytes;
	sqlite3_mem_methods sqlite; /* SQLite's own */
} memfault;

static bool fails(void)
{
	if (!memfault.armed)
		return false;
	if (memfault.left) {
		memfault.left--;
		return false;
	}
	memfault.armed = memfault.sticky;
	memfault.failed++;
	return true;
}

static void *fault_malloc(size_t size)
{
	void *ptr = fails() ? NULL : malloc(size);

	memfault.live += ptr != NULL;
	memfault.bytes += size;
	return ptr;
}

static void *fault_realloc(void *ptr, size_t size)
{
	void *grown = fails() ? NULL : realloc(ptr, size);

	memfault.live += !ptr && grown;
	memfault.bytes += size;
	return grown;
}

static void fault_free(void *ptr)
{
	memfault.live -= ptr != NULL;
	free(ptr);
}

static void *fault_sqlite_malloc(int size)
{
	return !memfault.spare_sqlite && fails() ? NULL : memfault.sqlite.xMalloc(size);
}

static void *fault_sqlite_realloc(void *ptr, int size)
{
	return !memfault.spare_sqlite && fails() ? NULL : memfault.sqlite.xRealloc(ptr, size);
}

void memfault_install(bool sqlite)
{
	static const struct p2p_mem_hooks hooks = {fault_malloc, fault_realloc, fault_free};
	sqlite3_mem_methods methods;

	p2p_mem_set_hooks(&hooks);
	if (!sqlite)
		return;
	if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &memfault.sqlite) != SQLITE_OK)
		abort();
	methods = memfault.sqlite;
	methods.xMalloc = fault_sqlite_malloc;
	methods.xRealloc = fault_sqlite_realloc;
	if (sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) != SQLITE_OK)
		abort();
}

void memfault_arm(uint64_t nth, bool sticky)
{
	memfault.left = nth;
	memfault.sticky = sticky;
	memfault.failed = 0;
	memfault.armed = true;
}

void memfault_spare_sqlite(bool spare)
{
	memfault.spare_sqlite = spare;
}

uint64_t memfault_disarm(void)
{
	memfault.armed = false;
	return memfault.failed;
}

size_t memfault_live(void)
{
	return memfault.live;
}

uint64_t memfault_bytes(void)
{
	return memfault.bytes;
}

bool memfault_reports(void)
{
	return getenv("P2P_RELIABILITY") != NULL;
}

void memfault_report(const struct memfault_report *report)
{
	const char *folder = getenv("P2P_RELIABILITY");
	char path[512];
	FILE *file;
	size_t i;

	if (!folder || (size_t)snprintf(path, sizeof(path), "%s/%s.json", folder, report->name) >=
			       sizeof(path))
		return;
	file = fopen(path, "w");
	if (!file) {
		perror(path);
		return;
	}
	(void)fprintf(file, "{\"title\": \"%s\", \"command\": \"%s\", \"figures\": [",
		      report->title, report->command);
	for (i = 0; i < 4 && report->labels[i]; i++)
		(void)fprintf(file, "%s[\"%s\", %llu]", i ? ", " : "", report->labels[i],
			      (unsigned long long)report->values[i]);
	(void)fprintf(file, "], \"not_tested\": [\"%s\"]}\n", report->not_tested);
	if (fclose(file) != 0)
		perror(path);
}
