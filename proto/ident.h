/* Names of things: ids, hashes, stamps, and how they are derived and written.
 *
 * All hashes are BLAKE2b (RFC 7693) from libsodium. A derived id hashes a domain string first, so
 * that no two kinds of id can be the same bytes. */
#ifndef P2P_PROTO_IDENT_H
#define P2P_PROTO_IDENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"

#define P2P_ID_BYTES   16
#define P2P_HASH_BYTES 32
#define P2P_KEY_BYTES  32
#define P2P_SIG_BYTES  64
#define P2P_HEAD_BYTES 8 /* of a head hash, in a version vector on the wire */

/* 16 bytes: replica, table, column, constraint, row, invite, instance. */
struct p2p_id {
	uint8_t bytes[P2P_ID_BYTES];
};

/* 32 bytes: mesh id (hash of the genesis record), changeset and record hashes, digests. */
struct p2p_hash {
	uint8_t bytes[P2P_HASH_BYTES];
};

/* An Ed25519 public key: the name of a node. Also X25519 public keys. */
struct p2p_key {
	uint8_t bytes[P2P_KEY_BYTES];
};

struct p2p_signature {
	uint8_t bytes[P2P_SIG_BYTES];
};

/* A hybrid logical clock stamp: 48 bits of Unix milliseconds, 16 bits of counter, as one number
 * whose order is the order of stamps (Kulkarni et al. 2014). 0 is "before everything". */
struct p2p_hlc {
	uint64_t value;
};

/* Who wrote a cell: the stamp, then the replica id, orders two writes. */
struct p2p_clock {
	struct p2p_hlc stamp;
	struct p2p_id replica;
};

int p2p_id_cmp(const struct p2p_id *a, const struct p2p_id *b);
int p2p_hash_cmp(const struct p2p_hash *a, const struct p2p_hash *b);
int p2p_key_cmp(const struct p2p_key *a, const struct p2p_key *b);
int p2p_clock_cmp(const struct p2p_clock *a, const struct p2p_clock *b);

/* Incremental BLAKE2b-256 or -128 over length-prefixed parts: no two lists of parts hash alike. */
struct p2p_hasher {
	_Alignas(64) uint8_t state[384]; /* crypto_generichash_state */
};
void p2p_hasher_init(struct p2p_hasher *hasher, const char *domain, size_t out_len);
void p2p_hasher_add(struct p2p_hasher *hasher, const void *part, size_t len);
void p2p_hasher_add_u64(struct p2p_hasher *hasher, uint64_t value);
void p2p_hasher_final(struct p2p_hasher *hasher, void *out, size_t out_len);

/* BLAKE2b-256 of bytes as they are, no domain: segments, records. */
void p2p_hash_bytes(struct p2p_hash *out, const void *data, size_t len);

/* A key for one purpose from a secret: BLAKE2b-256 keyed with the secret over "p2pnode/kdf/1" and
 * the label ("psk", "preface", "beacon"). The caller wipes out. */
void p2p_kdf(uint8_t out[P2P_KEY_BYTES], const uint8_t secret[P2P_KEY_BYTES], const char *label);

/* A replica id is bound to the key of its node: 4 random bytes, then the first 12 of BLAKE2b-256
 * over "p2pnode/replica/1", the key and those 4. So a certificate for somebody else's id is refused
 * as it stands, whatever else is known. To claim the id of another, somebody has to find a key
 * whose hash has 12 given bytes: 2^96 tries, and ids have their random bytes in the hash, so that
 * no try is good against two of them that begin differently. Two keys of one's own that share an id
 * are less work (2^48): crdt/authority.h says what comes of that. */
#define P2P_REPLICA_RANDOM_BYTES 4
/* Keeps the first 4 bytes; the others follow from them and the key. */
void p2p_replica_id_bind(struct p2p_id *id, const struct p2p_key *node);
bool p2p_replica_id_fits(const struct p2p_id *id, const struct p2p_key *node);

/* Table id: of the lower-case (ASCII) name at enabling (decisions 11). */
void p2p_table_id(struct p2p_id *out, const char *name);
/* Column id: of the lower-case name inside its table. */
void p2p_column_id(struct p2p_id *out, const struct p2p_id *table, const char *name);
/* Identity of a row that was there before the table was enabled (kind 2, decisions 10). */
void p2p_number_row_id(struct p2p_id *out, const struct p2p_id *table, int64_t number);
/* Identity of a row inserted later (kind 1): derived from what the file holds, so that two copies
 * of one file that both hold one unsealed insert make one row of it. */
void p2p_generated_row_id(struct p2p_id *out, const struct p2p_id *replica,
			  const struct p2p_id *table, int64_t number, int64_t journal_id,
			  int64_t journal_ms);

/* Lower-case hexadecimal; out holds 2 * len + 1 bytes. */
void p2p_hex(char *out, const void *data, size_t len);
/* Exactly 2 * len digits, either case. P2P_EINVAL otherwise; out untouched. */
int p2p_unhex(void *out, size_t len, const char *text) P2P_MUST_CHECK;
/* RFC 4648 base32 in lower case without padding; out holds p2p_base32_len(len) + 1 bytes. */
size_t p2p_base32_len(size_t len);
void p2p_base32(char *out, const void *data, size_t len);
/* Either case; hyphens and white space are skipped. Stores at most max bytes and their number.
 * P2P_EINVAL: a foreign letter, a bad end, or more than max. */
int p2p_unbase32(void *out, size_t max, size_t *out_len, const char *text) P2P_MUST_CHECK;

#endif
