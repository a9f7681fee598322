/* A log in memory behind struct p2p_sync_log, and authors that sign what goes into it.
 *
 * As simple and as strict as can be: changesets of a replica lie in order without a hole, a part
 * that does not follow is refused, and a transaction that is rolled back leaves nothing. Headers,
 * chains and signatures are the product's own. Everything aborts with a text when it is misused. */
#ifndef P2P_TESTS_SUPPORT_MEMLOG_H
#define P2P_TESTS_SUPPORT_MEMLOG_H

#include "crdt/sync.h"

/* Who signs under a replica id. Made from a seed: the same everywhere. */
struct memlog_author {
	struct p2p_id replica;
	struct p2p_key node;
	uint8_t secret[64];
};

/* One changeset, complete or not. */
struct memlog_change {
	struct p2p_header header; /* as unpacked; arrays owned */
	struct p2p_hash hash;
	struct p2p_buf raw, body; /* body: the segments that are there, one after the other */
	bool has_signature;
	struct p2p_signature signature;
	uint32_t segments; /* there */
};

struct memlog_chain {
	struct p2p_id replica;
	struct memlog_change **changes; /* owned, [seq - 1] */
	size_t count, cap;
};

struct memlog_signer {
	struct p2p_id replica;
	struct p2p_key node;
	int refused; /* 0, or what signer() answers */
};

struct memlog_undo;

struct memlog {
	struct p2p_hash mesh;
	struct memlog_chain *chains; /* owned, sorted by id */
	size_t chain_count, chain_cap;
	struct memlog_signer *signers; /* owned, sorted by id */
	size_t signer_count, signer_cap;
	bool in_transaction;
	struct memlog_undo *undo;	      /* owned, newest first */
	uint64_t reads, puts, drops, commits; /* calls, counted */
	uint64_t dropped;		      /* changesets */
	int fail_commit;		      /* the next commit fails with this, once */
};

void memlog_author(struct memlog_author *out, uint32_t number);
void memlog_init(struct memlog *log, const struct p2p_hash *mesh);
void memlog_deinit(struct memlog *log);
struct p2p_sync_log memlog_interface(struct memlog *log);
/* A certificate: node may sign for replica. refused: 0, P2P_EAUTH. */
void memlog_certify(struct memlog *log, const struct p2p_id *replica, const struct p2p_key *node,
		    int refused);
/* NULL: nothing is there. */
const struct memlog_change *memlog_get(const struct memlog *log, const struct p2p_id *replica,
				       uint64_t seq);
/* Complete ones. */
uint64_t memlog_head(const struct memlog *log, const struct p2p_id *replica);

/* What a changeset is made of. */
struct memlog_spec {
	uint64_t seq, stamp;
	struct p2p_hash prev;
	uint32_t group_pos;
	bool group_last;
	size_t bytes;  /* of the body */
	uint32_t salt; /* the body's content follows from it */
	const struct p2p_dot *deps;
	size_t dep_count;
};

/* Signed if group_last. Owned by the caller (memlog_change_free). */
struct memlog_change *memlog_make(const struct p2p_hash *mesh, const struct memlog_author *author,
				  const struct memlog_spec *spec);
void memlog_change_free(struct memlog_change *change); /* NULL allowed */
/* The next of the author's chain in this log, complete: a group of `count` changesets of `bytes`
 * each. stamp_ms: its time; made greater than the one before. The new head to *out. */
struct memlog_group {
	size_t count, bytes;
	uint64_t stamp_ms;
	uint32_t salt;
	const struct p2p_dot *deps; /* of the first */
	size_t dep_count;
};
void memlog_append(struct memlog *log, const struct memlog_author *author,
		   const struct memlog_group *group, struct p2p_vv_entry *out);
/* Drops what the author made from `seq` on: a disk that was rolled back. */
void memlog_truncate(struct memlog *log, const struct p2p_id *replica, uint64_t seq);
/* Every changeset of a, up to the last signed one, is the same in b, if b has a signed one there.
 */
bool memlog_agree(const struct memlog *a, const struct memlog *b);

/* Fails the process with a text. */
_Noreturn void memlog_fail(const char *what, int rc);

#endif
