/* What the files of the authority share: authority.c (the set), authority_rules.c (what follows
 * from it), authority_make.c (records of the own node). */
#ifndef P2P_CRDT_AUTHORITY_PRIVATE_H
#define P2P_CRDT_AUTHORITY_PRIVATE_H

#include "crdt/authority.h"
#include "proto/limits.h"

#define AUTHORITY_NAME_BYTES (P2P_NAME_MAX + 1)

/* One record, and of its body what the rules need. */
struct authority_record {
	struct p2p_signed record; /* raw and body are owned */
	uint8_t *raw, *body;	  /* owned */
	uint32_t kind;		  /* as record.kind; 0: of a later version, only kept */
	struct p2p_key node;	  /* whom it is about: founder, admitted, certified */
	struct p2p_key wrap_key, noise_key;
	uint32_t role;
	char name[AUTHORITY_NAME_BYTES];
	struct p2p_id id;	     /* replica of a certificate, table of a schema */
	struct p2p_hash predecessor; /* of a schema; zero: none */
	struct p2p_hash *parents;    /* owned */
	size_t parent_count;
	bool valid; /* of a schema: its signer may */
};

struct authority_member {
	struct p2p_member member;
	uint32_t depth; /* of the admission tree: the founder has 0 */
};

struct authority_certificate {
	struct p2p_id replica;
	struct p2p_key node;
};

struct p2p_authority {
	struct authority_record **records; /* owned, in order of arrival */
	size_t count, cap;
	struct p2p_hash mesh, expected;
	bool has_genesis, has_expected;
	/* What follows, worked out when it is asked for. */
	bool stale;
	const struct authority_record **sorted; /* owned: by hash */
	size_t sorted_cap, sorted_count;
	struct authority_member *members; /* owned: by depth, then key */
	size_t member_count;
	struct authority_certificate *certificates; /* owned: by replica */
	size_t certificate_count;
	struct p2p_hash digest;
	struct p2p_hash *heads; /* owned: by hash */
	size_t head_count;
};

/* Works out what follows. Without memory everything that follows is empty: nobody has a right. */
void authority_settle(struct p2p_authority *authority);
/* By hash; NULL. Settled. */
const struct authority_record *authority_find(const struct p2p_authority *authority,
					      const struct p2p_hash *hash);
const struct authority_member *authority_member_of(const struct p2p_authority *authority,
						   const struct p2p_key *node);
/* Schema record in force of a table; NULL. Settled. */
const struct authority_record *authority_schema_of(const struct p2p_authority *authority,
						   const struct p2p_id *table);
/* Hash of a record, and what its signature covers. mesh: zero for a genesis. */
void authority_hash(struct p2p_hash *out, const struct p2p_hash *mesh, uint32_t kind,
		    const struct p2p_key *signer, const void *body, size_t len);
#define AUTHORITY_SIGNED_DOMAIN "p2pnode/record-signature/1"
#define AUTHORITY_SIGNED_BYTES	(sizeof(AUTHORITY_SIGNED_DOMAIN) - 1 + P2P_HASH_BYTES)
void authority_signed_bytes(uint8_t out[AUTHORITY_SIGNED_BYTES], const struct p2p_hash *hash);

#endif
