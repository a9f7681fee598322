/* The mark: is this still the machine, the file and the log that the replica id was given to?
 * (decisions 48)
 *
 * A copied or restored database, log or state directory must not go on numbering under the same
 * replica id. The mark stands in the state directory and is rewritten without fsync after each
 * freeze: a killed process leaves it whole, and after a power cut the log, which is synced, can
 * only be ahead of it. A nonce that is new at each start stands in the mark, the database and the
 * log. A start first says in the mark, synced, which nonce it is going to give: one that is cut
 * short leaves files that have either, and is gone on with by the next. */
#ifndef P2P_CRDT_MARK_H
#define P2P_CRDT_MARK_H

#include <stdbool.h>

#include "crdt/vv.h"

#define P2P_MARK_NONCE_BYTES 16

struct p2p_mark {
	struct p2p_hash machine; /* of /etc/machine-id */
	uint64_t dev, inode;	 /* of the database file */
	uint8_t nonce[P2P_MARK_NONCE_BYTES];
	uint8_t next[P2P_MARK_NONCE_BYTES]; /* being given; the same as nonce when all have it */
	struct p2p_id replica;
	uint64_t seq;
	struct p2p_hash head;
};

/* Machine, device and inode as they are now; the rest is zero. P2P_EIO: the database cannot be
 * looked at. */
int p2p_mark_here(struct p2p_mark *out, const char *db_path) P2P_MUST_CHECK;
/* P2P_ENOENT: there is none; P2P_ECORRUPT: it is cut or damaged; P2P_EIO. */
int p2p_mark_read(struct p2p_mark *out, const char *state_dir) P2P_MUST_CHECK;
/* Replaces the mark in place; durable: and syncs it. P2P_EIO, P2P_EFULL. */
int p2p_mark_write(const struct p2p_mark *mark, const char *state_dir, bool durable) P2P_MUST_CHECK;
/* Same machine and file. */
bool p2p_mark_same_place(const struct p2p_mark *a, const struct p2p_mark *b);

#endif
