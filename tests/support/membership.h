/* Signed records of any shape, as a member with a program of his own could make them. */
#ifndef P2P_TESTS_SUPPORT_MEMBERSHIP_H
#define P2P_TESTS_SUPPORT_MEMBERSHIP_H

#include "crdt/authority.h"

struct member {
	uint8_t secret[64];
	struct p2p_signer signer;
};

/* A packed Signed and its hash. */
struct member_record {
	struct p2p_buf raw;
	struct p2p_hash hash;
};

extern const struct p2p_env membership_env; /* its random bytes are a constant */

/* Member number n is the same in each run. */
void membership_member(struct member *out, uint32_t number);
void membership_record_free(struct member_record *record);

/* mesh: hash of the genesis record, which is the mesh id. nonce: two records that say the same have
 * another hash by it. They abort when memory runs out. */
void membership_genesis(struct member_record *out, const struct member *founder);
struct membership_admission {
	const struct member *by, *whom;
	uint32_t role;
	const struct p2p_hash *parents;
	size_t parent_count;
	uint32_t nonce;
};
void membership_admit(struct member_record *out, const struct p2p_hash *mesh,
		      const struct membership_admission *admission);
/* The name that an admission gives. */
#define MEMBERSHIP_NAME_BYTES 16
void membership_name(char out[MEMBERSHIP_NAME_BYTES], uint32_t nonce);
/* nonce stands where the predecessor does. */
void membership_certify(struct member_record *out, const struct p2p_hash *mesh,
			const struct member *by, const struct p2p_id *replica, uint32_t nonce);
/* before NULL: follows none. text_len: bytes of the CREATE text, which is none. name NULL: "t". */
struct membership_schema {
	const struct member *by;
	const struct p2p_id *table;
	const struct p2p_hash *before;
	const char *name;
	size_t text_len;
	uint32_t nonce;
};
void membership_describe(struct member_record *out, const struct p2p_hash *mesh,
			 const struct membership_schema *schema);
/* Of a kind that this version does not know. */
void membership_unknown(struct member_record *out, const struct p2p_hash *mesh,
			const struct member *by, size_t body_len, uint32_t nonce);

struct p2p_id membership_id(uint32_t number);
/* A replica id of that member, bound to its key. */
struct p2p_id membership_replica(const struct member *of, uint32_t number);

#endif
