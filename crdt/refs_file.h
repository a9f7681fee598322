/* References as the file has them: crdt/refs.h with what it needs to know of numbers, for whoever
 * neither merges nor captures. */
#ifndef P2P_CRDT_REFS_FILE_H
#define P2P_CRDT_REFS_FILE_H

#include "crdt/refs.h"

struct p2p_refs_table;

struct p2p_refs_file {
	struct p2p_refs refs;
	const struct p2p_log *log;
	struct p2p_refs_table *tables; /* owned: whose numbers were asked for */
};

void p2p_refs_file_init(struct p2p_refs_file *file, struct p2p_store *store,
			const struct p2p_log *log);
void p2p_refs_file_deinit(struct p2p_refs_file *file);

#endif
