/* What replication will do with a database, table by table, and why: for a person who is about to
 * share it, or who wonders. Reads only: the file stays as it is, in a mesh or not. */
#ifndef P2P_CRDT_DOCTOR_H
#define P2P_CRDT_DOCTOR_H

#include "proto/error.h"

enum p2p_finding_level {
	P2P_FINDING_NOTE, /* how it works */
	P2P_FINDING_WARN, /* may surprise: read the advice */
	P2P_FINDING_ERROR /* will not work as it is */
};

struct p2p_finding {
	const char *table; /* "": the file as a whole */
	enum p2p_finding_level level;
	const char *topic;  /* one word: identity, reference, unique, ... */
	const char *text;   /* what, and why */
	const char *advice; /* what to do, or "" */
};

/* Calls each for every finding, the file first, then table by table, then triggers; texts are
 * borrowed for the call. A non-zero result of each ends it and is returned. P2P_ENOENT, P2P_ENOTDB,
 * P2P_EBUSY, P2P_EIO, P2P_ECORRUPT, P2P_ENOMEM. */
int p2p_doctor(const char *path, int (*each)(void *ctx, const struct p2p_finding *finding),
	       void *ctx, struct p2p_error *err) P2P_MUST_CHECK;

#endif
