/* The WAL beside the application's file: making it durable, seeing who reads, checkpointing.
 *
 * Readers are seen by asking, never taking, the read-mark locks in the -shm file (decisions 55).
 * Asked is through the descriptor that SQLite itself has open on that file, found once among those
 * of the process: an own one could never be closed, because that would drop the POSIX locks of
 * every connection of this process. Nothing to keep, nothing to close.
 *
 * What can be seen (tried on SQLite 3.40.1, Linux 6):
 * - the caller is in no transaction: every reader, of this process or another; one system call.
 * - the caller is in a transaction: every reader of another process. Of this process those at
 *   another read mark than the caller's; one at the same mark cannot be told from the caller, since
 *   all connections of a process share one lock. (An application that embeds the node meets this
 *   only if it begins to read in the few milliseconds in which the node holds the lock.) */
#ifndef P2P_CRDT_WALFILE_H
#define P2P_CRDT_WALFILE_H

#include <stdbool.h>

#include "crdt/store.h"

/* fdatasync of the WAL without a transaction (SQLITE_FCNTL_JOURNAL_POINTER, xSync; decisions M2):
 * what was committed before is durable afterwards. P2P_EIO, P2P_EFULL, P2P_EBUSY. */
int p2p_walfile_sync(struct p2p_store *store, struct p2p_error *err) P2P_MUST_CHECK;

/* True when another connection (of any process) holds a read snapshot, with the limit above. While
 * the caller is in its own transaction its own lock does not count. *out_reliable (may be NULL) is
 * false when the system gives no answer, then the result is false. About 1 us, in a transaction
 * 3 us. */
bool p2p_walfile_readers(struct p2p_store *store, bool *out_reliable);

/* Frames that were committed and that no checkpoint has moved into the file yet; 0 when there is no
 * WAL or its index cannot be read. Read from the index, because the size of the WAL never shrinks.
 */
uint64_t p2p_walfile_frames(struct p2p_store *store);
/* PASSIVE checkpoint on a second connection while `store` holds BEGIN IMMEDIATE (decisions 54, the
 * WAL-reset race of SQLite before 3.51.3). The caller holds no transaction. *out_hold_us (may be
 * NULL): how long the lock was held, by env's clock, so in steps of 1000. P2P_EBUSY: somebody else
 * writes or checkpoints, try later. A reader may keep frames in the WAL: ask p2p_walfile_frames()
 * afterwards. */
int p2p_walfile_checkpoint(struct p2p_store *store, uint64_t *out_hold_us,
			   struct p2p_error *err) P2P_MUST_CHECK;

#endif
