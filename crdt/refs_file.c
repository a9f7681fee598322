/* Numbers of tables, read when first asked for; see refs_file.h. */
#include "crdt/refs_file.h"

#include <string.h>

#include "proto/mem.h"

struct p2p_refs_table {
	struct p2p_refs_table *next;
	struct p2p_table *table;
	struct p2p_apptable app;
	struct p2p_numbers numbers;
};

static int numbers_of(void *ctx, struct p2p_table *table, struct p2p_numbers **out)
{
	struct p2p_refs_file *file = ctx;
	struct p2p_refs_table *at;
	int rc;

	for (at = file->tables; at && at->table != table;)
		at = at->next;
	if (!at) {
		at = p2p_calloc(1, sizeof(*at));
		if (!at)
			return P2P_ENOMEM;
		at->table = table;
		at->next = file->tables;
		file->tables = at;
		rc = p2p_apptable_init(&at->app, file->refs.store, table);
		p2p_numbers_init(&at->numbers, &at->app, file->log);
		if (rc)
			return rc;
	}
	*out = &at->numbers;
	return 0;
}

void p2p_refs_file_init(struct p2p_refs_file *file, struct p2p_store *store,
			const struct p2p_log *log)
{
	memset(file, 0, sizeof(*file));
	p2p_refs_init(&file->refs, store);
	file->refs.numbers = numbers_of;
	file->refs.ctx = file;
	file->log = log;
}

void p2p_refs_file_deinit(struct p2p_refs_file *file)
{
	struct p2p_refs_table *at = file->tables, *next;

	for (; at; at = next) {
		next = at->next;
		p2p_numbers_deinit(&at->numbers);
		p2p_apptable_deinit(&at->app);
		p2p_free(at);
	}
	p2p_refs_deinit(&file->refs);
	memset(file, 0, sizeof(*file));
}
