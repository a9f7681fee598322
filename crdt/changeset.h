/* Changesets: header, chain, signature (decisions 2, 6, 8, 13).
 *
 * A header is packed once by its author and then opaque: stored, hashed, sent and relayed as raw
 * bytes. hash = BLAKE2b-256("p2pnode/changeset/1" || mesh id || raw header), plain concatenation;
 * the signature of a group's last header is Ed25519 over "p2pnode/changeset-signature/1" || mesh id
 * || that hash. The chain
 * (`prev`) covers everything before it. */
#ifndef P2P_CRDT_CHANGESET_H
#define P2P_CRDT_CHANGESET_H

#include <stdbool.h>

#include "proto/buf.h"
#include "proto/ident.h"

struct p2p_dot {
	struct p2p_id replica;
	uint64_t seq;
};

struct p2p_schema_ref {
	struct p2p_id table;
	struct p2p_hash schema;
};

struct p2p_origin {
	struct p2p_id replica;
	struct p2p_hlc stamp;
};

/* Decoded header. Arrays are owned (p2p_header_deinit). */
struct p2p_header {
	uint32_t format, min_reader, flags;
	struct p2p_id replica;
	uint64_t seq;
	struct p2p_hash prev;
	struct p2p_hlc stamp;
	uint32_t group_pos;
	bool group_last;
	struct p2p_dot *deps;
	size_t dep_count;
	struct p2p_hash *authority_heads;
	size_t authority_head_count;
	uint64_t epoch;
	struct p2p_schema_ref *tables;
	size_t table_count;
	struct p2p_origin *origins;
	size_t origin_count;
	uint64_t total_bytes;
	uint32_t segment_bytes;
	struct p2p_hash *segments;
	size_t segment_count;
	uint64_t row_count;
};

void p2p_header_init(struct p2p_header *header);
void p2p_header_deinit(struct p2p_header *header);
/* Appends the raw bytes. P2P_ETOOBIG over P2P_HEADER_BYTES_MAX, P2P_ENOMEM. */
int p2p_header_pack(struct p2p_buf *out, const struct p2p_header *header) P2P_MUST_CHECK;
/* Checks every size, count and relation: seq >= 1, segment_bytes == P2P_SEGMENT_BYTES, segment
 * count = ceil(total / segment_bytes), first prev all zero, deps without the own replica, limits.
 * P2P_EPROTO, P2P_ETOOBIG, P2P_EVERSION (min_reader above P2P_FORMAT), P2P_ENOMEM. out is
 * initialised by this. */
int p2p_header_unpack(struct p2p_header *out, const void *raw, size_t len) P2P_MUST_CHECK;
void p2p_header_hash(struct p2p_hash *out, const struct p2p_hash *mesh, const void *raw,
		     size_t len);
/* secret: Ed25519 secret key of 64 bytes, as libsodium has it. */
void p2p_header_sign(struct p2p_signature *out, const struct p2p_hash *mesh,
		     const struct p2p_hash *hash, const uint8_t secret[64]);
bool p2p_header_verify(const struct p2p_signature *signature, const struct p2p_hash *mesh,
		       const struct p2p_hash *hash, const struct p2p_key *node);
/* Does `next` follow `prev` (NULL: is first)? Same replica, seq + 1, prev hash, stamp greater,
 * group position continues an open group or starts one. 0, P2P_EPROTO, or P2P_EFORK when only the
 * hash differs. */
int p2p_header_follows(const struct p2p_header *next, const struct p2p_header *prev,
		       const struct p2p_hash *prev_hash) P2P_MUST_CHECK;

#endif
