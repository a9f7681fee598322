/* Who may sign what: the set of signed membership and schema records of a mesh, and what follows
 * from it.
 *
 * Validity is a pure function of the record set: walked from genesis, nothing depends on the order
 * of arrival or a clock (decisions 27, 28). Records of kinds that a later version brings are kept
 * and relayed. In memory; the owner stores records (crdt/sidelog.h) and feeds them back at start.
 */
#ifndef P2P_CRDT_AUTHORITY_H
#define P2P_CRDT_AUTHORITY_H

#include <stdbool.h>

#include "proto/env.h"
#include "proto/ident.h"
#include "proto/message.h"

struct p2p_authority;

/* Ed25519 secret key (64 bytes, libsodium form) and public parts of the local node. Borrowed
 * secrets. */
struct p2p_signer {
	const uint8_t *secret;
	struct p2p_key node;
	struct p2p_key wrap_key;
	struct p2p_key noise_key;
};

/* One signed record as it travels: packed proto Signed. */
struct p2p_signed {
	uint32_t kind; /* P2P__V1__RECORD_KIND__* */
	struct p2p_key signer;
	struct p2p_hash hash;
	const uint8_t *body; /* borrowed */
	size_t body_len;
	const uint8_t *raw; /* borrowed: the packed Signed */
	size_t raw_len;
};

/* env: randomness for this call. */
int p2p_authority_new(const struct p2p_env *env, struct p2p_authority **out) P2P_MUST_CHECK;
void p2p_authority_free(struct p2p_authority *authority); /* NULL allowed */

/* Makes records: appends a packed Signed to out. found also returns the mesh id. parents are filled
 * in. */
int p2p_authority_make_genesis(struct p2p_buf *out, struct p2p_hash *out_mesh,
			       const struct p2p_signer *signer, const char *name,
			       const uint8_t random[32]) P2P_MUST_CHECK;
/* The same; flags: of the genesis. */
#define P2P_GENESIS_SCHEMA 1u /* members carry out what schema records add */
struct p2p_founding {
	const char *name;
	const uint8_t *random; /* 32 bytes */
	uint32_t flags;
};
int p2p_authority_make_founding(struct p2p_buf *out, struct p2p_hash *out_mesh,
				const struct p2p_signer *signer,
				const struct p2p_founding *founding) P2P_MUST_CHECK;
/* What the founder said about the mesh, for good; 0 until the genesis is known. */
uint32_t p2p_authority_flags(const struct p2p_authority *authority);
struct p2p_admission {
	struct p2p_key node, wrap_key, noise_key;
	uint32_t role; /* P2P__V1__ROLE__* */
	struct p2p_id invite;
	uint32_t max_format;
	const char *name;
};
int p2p_authority_make_admission(struct p2p_authority *authority, struct p2p_buf *out,
				 const struct p2p_signer *signer,
				 const struct p2p_admission *admission) P2P_MUST_CHECK;
/* replica: bound to the signer's key, or nobody takes it. predecessor NULL: first incarnation. */
int p2p_authority_make_certificate(struct p2p_authority *authority, struct p2p_buf *out,
				   const struct p2p_signer *signer, const struct p2p_id *replica,
				   const struct p2p_id *predecessor) P2P_MUST_CHECK;
/* body: p2p_schema_describe() */
int p2p_authority_make_schema(struct p2p_authority *authority, struct p2p_buf *out,
			      const struct p2p_signer *signer, const void *body,
			      size_t len) P2P_MUST_CHECK;

/* Adds a packed Signed. Returns 0 (new), P2P_AUTHORITY_KNOWN, P2P_EAUTH (signature), P2P_EMESH
 * (another mesh's), P2P_EPROTO, P2P_ETOOBIG (one that no node takes), P2P_EQUOTA (no room: the set
 * is full, or the share of its signer or of one who admitted it; see proto/limits.h), P2P_ENOMEM.
 * After an error everything is as before. The first record added must be the genesis, and with
 * expected_mesh set (p2p_authority_expect) it must hash to it. A record whose right is not (yet)
 * proven is kept and counts once it is. */
#define P2P_AUTHORITY_KNOWN 1
int p2p_authority_add(struct p2p_authority *authority, const void *raw, size_t len) P2P_MUST_CHECK;
/* Takes back all records but the first `count`: they could not be made durable. What was borrowed
 * of those that stay stays valid. */
void p2p_authority_rewind(struct p2p_authority *authority, size_t count);
void p2p_authority_expect(struct p2p_authority *authority, const struct p2p_hash *mesh);
/* All-zero until the genesis is known. */
const struct p2p_hash *p2p_authority_mesh(const struct p2p_authority *authority);
const char *p2p_authority_mesh_name(const struct p2p_authority *authority);

/* Role of a node now: P2P__V1__ROLE__NONE when it is no member. */
uint32_t p2p_authority_role(const struct p2p_authority *authority, const struct p2p_key *node);
struct p2p_member {
	struct p2p_key node, wrap_key, noise_key;
	uint32_t role;
	char name[65];
	struct p2p_key admitted_by;
};
size_t p2p_authority_member_count(const struct p2p_authority *authority);
/* In order of admission depth, then key. False past the end. */
bool p2p_authority_member(const struct p2p_authority *authority, size_t index,
			  struct p2p_member *out);
/* Node that may sign for a replica id. P2P_ENOENT: no valid certificate; P2P_EAUTH: the node may
 * not write.
 *
 * A certificate is valid only if its id is bound to the key of its node (proto/ident.h), so nobody
 * claims the id of another. Whoever looks for two keys of his own that share one id finds them by
 * some 2^48 tries, and may get both admitted: that id is nobody's then, as if it had never been
 * certified. He harms what he wrote himself, and no more than by 17 certificates of one key. */
int p2p_authority_replica_node(const struct p2p_authority *authority, const struct p2p_id *replica,
			       struct p2p_key *out_node) P2P_MUST_CHECK;
/* Whether some certificate names the id, also one that does not count. */
bool p2p_authority_replica_known(const struct p2p_authority *authority,
				 const struct p2p_id *replica);
/* Calls each for every replica id that a member claims, with the node that has it; in no order. */
int p2p_authority_each_replica(const struct p2p_authority *authority,
			       int (*each)(void *ctx, const struct p2p_id *replica,
					   const struct p2p_key *node),
			       void *ctx) P2P_MUST_CHECK;
/* Valid schema record by hash; NULL when unknown. Borrowed until the authority is freed. */
const struct p2p_signed *p2p_authority_schema(const struct p2p_authority *authority,
					      const struct p2p_hash *hash);
/* The schema record in force of every table (latest in the predecessor chain; of two leaves the
 * greater hash). */
int p2p_authority_each_schema(const struct p2p_authority *authority,
			      int (*each)(void *ctx, const struct p2p_signed *record),
			      void *ctx) P2P_MUST_CHECK;
/* How often a record in force was replaced, so far; and those that are in force since then. */
uint64_t p2p_authority_schema_changes(const struct p2p_authority *authority);
int p2p_authority_each_schema_since(const struct p2p_authority *authority, uint64_t since,
				    int (*each)(void *ctx, const struct p2p_signed *record),
				    void *ctx) P2P_MUST_CHECK;
/* Heads of the membership DAG: hashes of membership records that count and that no other one that
 * counts names as parent. If there are more than max, every signer has some of his among them. */
size_t p2p_authority_heads(const struct p2p_authority *authority, struct p2p_hash *out, size_t max);

/* Gossip: digest over all hashes, all records in a stable order (parents first). */
void p2p_authority_digest(const struct p2p_authority *authority, struct p2p_hash *out);
size_t p2p_authority_count(const struct p2p_authority *authority);
const struct p2p_signed *p2p_authority_record(const struct p2p_authority *authority, size_t index);
bool p2p_authority_has_prefix(const struct p2p_authority *authority, const uint8_t prefix[16]);

#endif
