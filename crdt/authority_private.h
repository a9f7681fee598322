/* What the files of the authority share: authority.c (the set, and asking it), authority_read.c
 * (records as they come), authority_room.c (memory and shares), authority_rules.c (what follows
 * from the set), authority_make.c (records of the own node).
 *
 * What follows is kept up to date record by record: adding one costs what it changes, asking
 * allocates nothing and cannot fail. */
#ifndef P2P_CRDT_AUTHORITY_PRIVATE_H
#define P2P_CRDT_AUTHORITY_PRIVATE_H

#include "crdt/authority.h"
#include "crdt/index.h"
#include "proto/limits.h"
#include "proto/list.h"

#define AUTHORITY_NAME_BYTES (P2P_NAME_MAX + 1)

/* Of a schema record: the table, and the record of it that this one follows (zero: none). Of a
 * certificate: id is the replica. One run of bytes, for it is a key. */
struct authority_link {
	struct p2p_hash predecessor;
	struct p2p_id id;
};

/* One record, and of its body what the rules need. */
struct authority_record {
	struct p2p_signed record; /* its body stands in raw */
	uint8_t *raw;		  /* owned */
	uint32_t kind;		  /* as record.kind; 0: of a later version, only kept */
	struct p2p_key node;	  /* whom it is about: founder, admitted, certified */
	struct p2p_key wrap_key, noise_key;
	uint32_t role;
	uint32_t flags; /* of a genesis */
	char name[AUTHORITY_NAME_BYTES];
	struct authority_link link;
	struct p2p_hash *parents; /* owned: of a membership record */
	size_t parent_count;
	struct authority_node *signer, *subject; /* subject: of a membership record */
	struct authority_group *group;		 /* of a certificate or schema record */
	/* What follows. */
	bool counts; /* a membership or schema record whose signer may */
	struct authority_record *next_signed, *next_in_group;
	struct p2p_list head; /* in its signer's heads; alone: it is none */
};

struct authority_use {
	size_t records, bytes;
};

/* A node that signed a record or is named by one. */
struct authority_node {
	struct p2p_key key;
	struct authority_record *admission; /* in effect; NULL: it is no member */
	uint32_t depth;			    /* of the admission tree: the founder has 0 */
	struct authority_node *parent;	    /* that admitted it; NULL at the end */
	struct authority_use use;	    /* with all below it */
	struct authority_record *signed_first;
	struct p2p_list heads, headed; /* its heads; among those that have some */
	struct p2p_list *head_turn;
	struct authority_record *certificates[P2P_REPLICAS_PER_NODE_MAX]; /* by hash */
	size_t certificate_count;
	bool changed;
	struct authority_node *next_changed;
};

/* The records that count for a table (that no other one follows), or claim a replica id. */
struct authority_group {
	struct p2p_id id;
	struct authority_record *first;
	struct authority_record *in_force; /* of a table */
	uint64_t changed;		   /* number of the change that brought it */
};

struct p2p_authority {
	struct authority_record **records; /* owned, in order of arrival */
	struct authority_record **sorted;  /* by hash */
	size_t count, cap;
	size_t bytes;		 /* of all records */
	size_t parents;		 /* of all membership records */
	size_t schemas;		 /* schema records */
	uint64_t schema_changes; /* of what is in force */
	struct p2p_hash mesh, expected, digest;
	bool has_genesis, has_expected;
	bool digest_stale, members_stale;
	struct authority_node strangers; /* above all nodes that are no members */
	struct p2p_index nodes;		 /* struct authority_node, owned, by key */
	struct p2p_list headed;		 /* nodes that signed heads */
	struct authority_node **members; /* by depth, then key; room for all nodes */
	size_t member_count, member_cap;
	struct p2p_index replicas, tables; /* struct authority_group, owned, by id */
	struct p2p_index named;	   /* struct p2p_hash: parents of membership records that count */
	struct p2p_index followed; /* struct authority_link of schema records that count */
};

/* authority_read.c */
/* Reads and checks a packed Signed; fills at, whose raw is there. 0, P2P_AUTHORITY_KNOWN, or an
 * error of p2p_authority_add(). */
int authority_read(const struct p2p_authority *authority,
		   struct authority_record *at) P2P_MUST_CHECK;
/* Hash of a record, and what its signature covers. mesh: zero for a genesis. */
void authority_hash(struct p2p_hash *out, const struct p2p_hash *mesh, uint32_t kind,
		    const struct p2p_key *signer, const void *body, size_t len);
#define AUTHORITY_SIGNED_DOMAIN "p2pnode/record-signature/1"
#define AUTHORITY_SIGNED_BYTES	(sizeof(AUTHORITY_SIGNED_DOMAIN) - 1 + P2P_HASH_BYTES)
void authority_signed_bytes(uint8_t out[AUTHORITY_SIGNED_BYTES], const struct p2p_hash *hash);

/* authority_room.c */
/* All that adding the record takes, so that it cannot fail any more; sets its signer, subject and
 * group. P2P_EQUOTA, P2P_ENOMEM. */
int authority_reserve(struct p2p_authority *authority, struct authority_record *at) P2P_MUST_CHECK;
/* Counts the record for its signer and all above it. */
void authority_charge(struct authority_record *at);
/* Moves a node, with all below it, under another. */
void authority_move(struct authority_node *node, struct authority_node *parent);

/* authority_rules.c */
/* What follows from one record more. Room was reserved for it. */
void authority_apply(struct p2p_authority *authority, struct authority_record *at);
/* Nothing follows any more, as if there were no records. */
void authority_unapply(struct p2p_authority *authority);
/* P2P__V1__ROLE__NONE for no member. */
uint32_t authority_role(const struct authority_node *node);
/* Less than 0: a is senior. Of members. */
int authority_seniority(const struct authority_node *a, const struct authority_node *b);
static inline bool authority_may_write(uint32_t role)
{
	return role == P2P__V1__ROLE__ROLE_ADMIN || role == P2P__V1__ROLE__ROLE_WRITER;
}

/* authority.c: place of a hash among the sorted ones, or where it would be. */
size_t authority_place(const struct p2p_authority *authority, const struct p2p_hash *hash,
		       bool *out_found);
/* By hash; NULL. */
struct authority_record *authority_find(const struct p2p_authority *authority,
					const struct p2p_hash *hash);
/* Schema record in force of a table; NULL. */
const struct authority_record *authority_schema_of(const struct p2p_authority *authority,
						   const struct p2p_id *table);

#endif
