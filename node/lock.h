/* One node for one database: an OFD lock on "<real path of DB>-p2p.lock" (decisions 51). Works
 * between processes and inside one, and whatever state directories the nodes use. The file holds
 * pid, boot id and instance, for the message of the second one, and the state directory, which is
 * remembered there after the node has gone. */
#ifndef P2P_NODE_LOCK_H
#define P2P_NODE_LOCK_H

#include "proto/error.h"
#include "proto/ident.h"

struct p2p_lock {
	int fd;	    /* -1: not held */
	char *path; /* owned */
};

/* The database need not exist, its directory must. P2P_ELOCKED: the text names the other pid;
 * P2P_ENOENT, P2P_EREADONLY, P2P_EREFUSED (the file system has no such locks), P2P_EIO,
 * P2P_ENOMEM. */
int p2p_lock_take(struct p2p_lock *lock, const char *db_path, const struct p2p_id *instance,
		  struct p2p_error *err) P2P_MUST_CHECK;
/* The file stays (removing it would race with the next node); safe when not held. */
void p2p_lock_release(struct p2p_lock *lock);
/* Writes the state directory (a real path) into the file. */
void p2p_lock_describe(struct p2p_lock *lock, const struct p2p_id *instance, const char *state_dir);
/* State directory that the last node of this database used, owned by the caller; NULL when none is
 * known. Takes no lock. */
char *p2p_lock_state_dir(const char *db_path);
/* Releases and removes the file: the database is not shared any more. */
void p2p_lock_remove(struct p2p_lock *lock);
/* Real path of the database, also of one that is still to be made; owned by the caller. NULL with
 * err set: P2P_ENOENT (no such directory), P2P_ENOMEM. */
char *p2p_lock_real_path(const char *db_path, struct p2p_error *err);

#endif
