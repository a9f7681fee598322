/* The WAL beside the application's file: making it durable, seeing who reads, checkpointing.
 *
 * Readers are seen by asking, never taking, the read-mark locks in the -shm file (decisions 55),
 * through a descriptor that stays open for the life of the process's use of the file: closing one
 * would drop SQLite's own POSIX locks. */
#ifndef P2P_CRDT_WALFILE_H
#define P2P_CRDT_WALFILE_H

#include <stdbool.h>

#include "crdt/store.h"

/* fdatasync of the WAL without a transaction (SQLITE_FCNTL_JOURNAL_POINTER, xSync; decisions M2):
 * what was committed before is durable afterwards. P2P_EIO, P2P_EFULL. */
int p2p_walfile_sync(struct p2p_store *store, struct p2p_error *err) P2P_MUST_CHECK;

/* True when another connection (of any process) holds a read snapshot. While the caller is in its
 * own transaction its own lock does not count. *out_reliable (may be NULL) is false when the system
 * gives no answer, then the result is false. */
bool p2p_walfile_readers(struct p2p_store *store, bool *out_reliable);

/* Frames in the WAL since its last reset, from its size; 0 when there is none. */
uint64_t p2p_walfile_frames(struct p2p_store *store);
/* PASSIVE checkpoint on a second connection while `store` holds BEGIN IMMEDIATE (decisions 54, the
 * WAL-reset race of SQLite before 3.51.3). The caller holds no transaction. *out_hold_us: how long
 * the lock was held. P2P_EBUSY: somebody else writes, try later. */
int p2p_walfile_checkpoint(struct p2p_store *store, uint64_t *out_hold_us,
			   struct p2p_error *err) P2P_MUST_CHECK;

#endif
