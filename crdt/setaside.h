/* A database that makes room for another (join --replace): moved away, never deleted. */
#ifndef P2P_CRDT_SETASIDE_H
#define P2P_CRDT_SETASIDE_H

#include "proto/error.h"

/* Moves the database and what belongs to it to `aside`, in the same directory. Its WAL is written
 * into it first, and no other program may have it open: one that has would go on writing to the old
 * file, and its readers would see the old content through the old -wal (decisions 23). P2P_EBUSY:
 * one has, the text names it; P2P_EEXIST: there is an `aside`; P2P_ENOENT, P2P_ENOTDB, P2P_EIO,
 * P2P_EFULL, P2P_ENOMEM: nothing was moved. */
int p2p_setaside(const char *path, const char *aside, struct p2p_error *err) P2P_MUST_CHECK;
/* Back again, in place of what is there now. P2P_EIO: both are as they are. */
int p2p_setaside_undo(const char *path, const char *aside, struct p2p_error *err) P2P_MUST_CHECK;

#endif
