/* log.db in the state directory: own numbering, signed changesets of everyone, staging, records,
 * peers, invites.
 *
 * synchronous=FULL: what p2p_sidelog_commit() returned 0 for survives a power cut. Nothing is sent,
 * and no ack is given, before that (decisions 16, 41). Small bodies stand in their changeset's row,
 * big ones in segments. */
#ifndef P2P_CRDT_SIDELOG_H
#define P2P_CRDT_SIDELOG_H

#include <stdbool.h>

#include "crdt/changeset.h"
#include "crdt/vv.h"
#include "proto/env.h"
#include "proto/log.h"

struct p2p_sidelog;

/* path ":memory:" for tests. Creates the file (0600). P2P_ENEWER for a newer format, P2P_ECORRUPT,
 * P2P_EIO, ... */
int p2p_sidelog_open(const char *path, const struct p2p_log *log, struct p2p_sidelog **out,
		     struct p2p_error *err) P2P_MUST_CHECK;
void p2p_sidelog_close(struct p2p_sidelog *sidelog); /* NULL allowed */
int p2p_sidelog_begin(struct p2p_sidelog *sidelog, struct p2p_error *err) P2P_MUST_CHECK;
/* After an error the connection was dropped and opened anew: the caller re-reads its heads before
 * numbering. */
int p2p_sidelog_commit(struct p2p_sidelog *sidelog, struct p2p_error *err) P2P_MUST_CHECK;
void p2p_sidelog_rollback(struct p2p_sidelog *sidelog);
bool p2p_sidelog_in_transaction(const struct p2p_sidelog *sidelog);

int p2p_sidelog_meta_get(struct p2p_sidelog *sidelog, const char *key, void *out, size_t max,
			 size_t *out_len) P2P_MUST_CHECK;
int p2p_sidelog_meta_set(struct p2p_sidelog *sidelog, const char *key, const void *value,
			 size_t len) P2P_MUST_CHECK;

/* A stored changeset. raw and signature are owned by the caller after get (p2p_stored_deinit). */
struct p2p_stored {
	struct p2p_id replica;
	uint64_t seq;
	uint8_t *raw; /* header as signed */
	size_t raw_len;
	struct p2p_hash hash;
	bool has_signature;
	struct p2p_signature signature;
	uint64_t stamp;
	uint32_t group_pos;
	bool group_last;
	uint64_t total_bytes;
	uint32_t segment_count;
	uint32_t segments_have; /* contiguous from 0 */
	int64_t journal;	/* own changesets: journal id that it covers; else 0 */
};
void p2p_stored_deinit(struct p2p_stored *stored);

/* Puts a header; segments follow. P2P_EEXIST when (replica, seq) is there with the same hash,
 * P2P_EFORK with another. Only inside begin/commit, like every put here. */
int p2p_sidelog_put_header(struct p2p_sidelog *sidelog,
			   const struct p2p_stored *stored) P2P_MUST_CHECK;
/* Next segment in order (index == segments_have). The caller has checked its hash. P2P_EINVAL out
 * of order. */
int p2p_sidelog_put_segment(struct p2p_sidelog *sidelog, const struct p2p_id *replica, uint64_t seq,
			    uint32_t index, const void *data, size_t len) P2P_MUST_CHECK;
/* P2P_ENOENT. */
int p2p_sidelog_get(struct p2p_sidelog *sidelog, const struct p2p_id *replica, uint64_t seq,
		    struct p2p_stored *out) P2P_MUST_CHECK;
/* Only the stamp of a changeset, of which the header is here: reads neither header nor body.
 * P2P_ENOENT. */
int p2p_sidelog_stamp(struct p2p_sidelog *sidelog, const struct p2p_id *replica, uint64_t seq,
		      struct p2p_hlc *out) P2P_MUST_CHECK;
/* Replaces the contents of out. P2P_ENOENT. */
int p2p_sidelog_get_segment(struct p2p_sidelog *sidelog, const struct p2p_id *replica, uint64_t seq,
			    uint32_t index, struct p2p_buf *out) P2P_MUST_CHECK;
/* Greatest seq such that it and all below it down to the floor are complete, with its hash and
 * stamp; floor in log_from. seq 0 when there is nothing. */
int p2p_sidelog_head(struct p2p_sidelog *sidelog, const struct p2p_id *replica,
		     struct p2p_vv_entry *out) P2P_MUST_CHECK;
/* One entry per replica in the log, as p2p_sidelog_head. */
int p2p_sidelog_vector(struct p2p_sidelog *sidelog, struct p2p_vv *out) P2P_MUST_CHECK;
/* Drops everything of replica from seq on (staging that proved bad, tails after a cut-off). */
int p2p_sidelog_drop(struct p2p_sidelog *sidelog, const struct p2p_id *replica,
		     uint64_t from_seq) P2P_MUST_CHECK;
/* Bytes staged and not complete of a replica, and of all. */
uint64_t p2p_sidelog_staged_bytes(struct p2p_sidelog *sidelog);

/* Signed records, raw, in the order they were added. */
int p2p_sidelog_put_record(struct p2p_sidelog *sidelog, const struct p2p_hash *hash,
			   const void *raw, size_t len) P2P_MUST_CHECK;
int p2p_sidelog_each_record(struct p2p_sidelog *sidelog,
			    int (*each)(void *ctx, const void *raw, size_t len),
			    void *ctx) P2P_MUST_CHECK;

/* Peers and addresses that were seen or given, for status and redialling. */
struct p2p_known_peer {
	struct p2p_key node;
	char name[65];
	char address[64]; /* "host:port" */
	uint64_t seen_wall_ms;
	uint64_t acked_seq; /* of my replica, durable there */
};
int p2p_sidelog_put_peer(struct p2p_sidelog *sidelog,
			 const struct p2p_known_peer *peer) P2P_MUST_CHECK;
int p2p_sidelog_each_peer(struct p2p_sidelog *sidelog,
			  int (*each)(void *ctx, const struct p2p_known_peer *peer),
			  void *ctx) P2P_MUST_CHECK;
int p2p_sidelog_put_seed(struct p2p_sidelog *sidelog, const char *address) P2P_MUST_CHECK;
int p2p_sidelog_each_seed(struct p2p_sidelog *sidelog, int (*each)(void *ctx, const char *address),
			  void *ctx) P2P_MUST_CHECK;

struct p2p_invite {
	struct p2p_id id;
	uint8_t secret[32];
	uint32_t uses_left;
	uint64_t expires_wall_ms;
	uint32_t role;
};
int p2p_sidelog_put_invite(struct p2p_sidelog *sidelog,
			   const struct p2p_invite *invite) P2P_MUST_CHECK;
int p2p_sidelog_each_invite(struct p2p_sidelog *sidelog,
			    int (*each)(void *ctx, const struct p2p_invite *invite),
			    void *ctx) P2P_MUST_CHECK;

/* Streams of records out of and into segments: one record may span segments. */
struct p2p_body_reader; /* reads a stored changeset's records one after the other */
int p2p_body_reader_open(struct p2p_sidelog *sidelog, const struct p2p_stored *stored,
			 struct p2p_body_reader **out) P2P_MUST_CHECK;
/* Next record without its length; borrowed until the next call. *out_data NULL at the end.
 * P2P_EPROTO for a malformed length or a body that ends inside a record, P2P_ETOOBIG, P2P_ENOMEM,
 * P2P_EIO. */
int p2p_body_reader_next(struct p2p_body_reader *reader, const uint8_t **out_data,
			 size_t *out_len) P2P_MUST_CHECK;
void p2p_body_reader_close(struct p2p_body_reader *reader);

/* Collects a body: full segments go to sink as they fill, so a huge changeset never stands in
 * memory whole. Header first is not possible while writing: segments of (replica, seq) are put
 * before the header under this writer, which then puts the header with the hashes. */
struct p2p_body_writer;
int p2p_body_writer_open(struct p2p_sidelog *sidelog, const struct p2p_id *replica, uint64_t seq,
			 struct p2p_body_writer **out) P2P_MUST_CHECK;
/* Appends encoded records (p2p_record_put). P2P_ETOOBIG over P2P_CHANGESET_BYTES_MAX. */
int p2p_body_writer_put(struct p2p_body_writer *writer, const void *data,
			size_t len) P2P_MUST_CHECK;
/* Fills total_bytes, segment_bytes and segments of header (owned by header), packs, hashes,
 * optionally signs (signer secret NULL: no signature) and stores. out_hash: hash of the header. */
int p2p_body_writer_finish(struct p2p_body_writer *writer, struct p2p_header *header,
			   const struct p2p_hash *mesh, const uint8_t *secret, int64_t journal,
			   struct p2p_hash *out_hash) P2P_MUST_CHECK;
void p2p_body_writer_close(struct p2p_body_writer *writer); /* NULL allowed; unfinished segments go
							       with the rollback */

#endif
