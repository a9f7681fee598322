/* A log in memory; see memlog.h. */
#include "tests/support/memlog.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crdt/hlc.h"
#include "proto/limits.h"

/* What a transaction did, to be taken back. */
enum undo_kind { UNDO_HEADER, UNDO_SEGMENT, UNDO_DROP };

struct memlog_undo {
	struct memlog_undo *next;
	enum undo_kind kind;
	struct p2p_id replica;
	size_t body_len;	       /* before */
	struct memlog_change *dropped; /* owned */
};

_Noreturn void memlog_fail(const char *what, int rc)
{
	(void)fprintf(stderr, "memlog: %s (%s)\n", what, p2p_err_name(rc));
	abort();
}

static void *memory(void *old, size_t count, size_t size)
{
	void *out = realloc(old, count * size);

	if (!out)
		memlog_fail("no memory", P2P_ENOMEM);
	return out;
}

/* --- authors and changesets ------------------------------------------------------------------- */

void memlog_author(struct memlog_author *out, uint32_t number)
{
	uint8_t seed[crypto_sign_SEEDBYTES] = {0};
	struct p2p_hasher hasher;

	if (sodium_init() < 0)
		memlog_fail("sodium", P2P_EIO);
	memcpy(seed, &number, sizeof(number));
	(void)crypto_sign_seed_keypair(out->node.bytes, out->secret, seed);
	p2p_hasher_init(&hasher, "memlog/replica", P2P_ID_BYTES);
	p2p_hasher_add_u64(&hasher, number);
	p2p_hasher_final(&hasher, out->replica.bytes, P2P_ID_BYTES);
}

static void body_fill(struct p2p_buf *body, const struct memlog_spec *spec)
{
	uint64_t state = spec->seq * 0x9e3779b97f4a7c15ull + spec->salt;
	size_t i;

	p2p_buf_init(body, spec->bytes + 1);
	for (i = 0; i < spec->bytes; i++) {
		state = state * 6364136223846793005ull + 1442695040888963407ull;
		p2p_buf_put_u8(body, (uint8_t)(state >> 56));
	}
}

static void segments_hash(struct memlog_change *change)
{
	struct p2p_header *header = &change->header;
	size_t i;

	header->segment_bytes = P2P_SEGMENT_BYTES;
	header->total_bytes = change->body.len;
	header->segment_count = (change->body.len + P2P_SEGMENT_BYTES - 1) / P2P_SEGMENT_BYTES;
	header->segments = memory(NULL, header->segment_count + 1, sizeof(*header->segments));
	for (i = 0; i < header->segment_count; i++) {
		size_t at = i * P2P_SEGMENT_BYTES, left = change->body.len - at;

		p2p_hash_bytes(&header->segments[i], change->body.data + at,
			       left < P2P_SEGMENT_BYTES ? left : P2P_SEGMENT_BYTES);
	}
	change->segments = (uint32_t)header->segment_count;
}

struct memlog_change *memlog_make(const struct p2p_hash *mesh, const struct memlog_author *author,
				  const struct memlog_spec *spec)
{
	struct memlog_change *change = memory(NULL, 1, sizeof(*change));
	struct p2p_header *header = &change->header, made;
	int rc;

	memset(change, 0, sizeof(*change));
	p2p_header_init(header);
	body_fill(&change->body, spec);
	segments_hash(change);
	header->format = header->min_reader = 1;
	header->replica = author->replica;
	header->seq = spec->seq;
	header->prev = spec->prev;
	header->stamp.value = spec->stamp;
	header->group_pos = spec->group_pos;
	header->group_last = spec->group_last;
	header->row_count = 1;
	header->deps = memory(NULL, spec->dep_count + 1, sizeof(*header->deps));
	if (spec->dep_count)
		memcpy(header->deps, spec->deps, spec->dep_count * sizeof(*header->deps));
	header->dep_count = spec->dep_count;
	p2p_buf_init(&change->raw, P2P_HEADER_BYTES_MAX);
	rc = p2p_header_pack(&change->raw, header);
	free(header->segments);
	free(header->deps);
	if (!rc) /* what is kept is what everybody else reads */
		rc = p2p_header_unpack(&made, change->raw.data, change->raw.len);
	if (rc)
		memlog_fail("make a header", rc);
	change->header = made;
	p2p_header_hash(&change->hash, mesh, change->raw.data, change->raw.len);
	change->has_signature = spec->group_last;
	if (spec->group_last)
		p2p_header_sign(&change->signature, mesh, &change->hash, author->secret);
	return change;
}

void memlog_change_free(struct memlog_change *change)
{
	if (!change)
		return;
	p2p_header_deinit(&change->header);
	p2p_buf_deinit(&change->raw);
	p2p_buf_deinit(&change->body);
	free(change);
}

/* --- chains ----------------------------------------------------------------------------------- */

void memlog_init(struct memlog *log, const struct p2p_hash *mesh)
{
	memset(log, 0, sizeof(*log));
	log->mesh = *mesh;
}

static size_t chain_place(const struct memlog *log, const struct p2p_id *id)
{
	size_t low = 0, high = log->chain_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (p2p_id_cmp(&log->chains[mid].replica, id) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct memlog_chain *chain_find(const struct memlog *log, const struct p2p_id *id)
{
	size_t at = chain_place(log, id);

	if (at < log->chain_count && p2p_id_cmp(&log->chains[at].replica, id) == 0)
		return &log->chains[at];
	return NULL;
}

static struct memlog_chain *chain_get(struct memlog *log, const struct p2p_id *id)
{
	struct memlog_chain *found = chain_find(log, id);
	size_t at = chain_place(log, id);

	if (found)
		return found;
	if (log->chain_count == log->chain_cap) {
		log->chain_cap = log->chain_cap ? log->chain_cap * 2 : 16;
		log->chains = memory(log->chains, log->chain_cap, sizeof(*log->chains));
	}
	memmove(&log->chains[at + 1], &log->chains[at],
		(log->chain_count++ - at) * sizeof(*log->chains));
	memset(&log->chains[at], 0, sizeof(log->chains[at]));
	log->chains[at].replica = *id;
	return &log->chains[at];
}

static bool complete(const struct memlog_change *change)
{
	return change->segments == change->header.segment_count;
}

static void chain_push(struct memlog_chain *chain, struct memlog_change *change)
{
	if (chain->count == chain->cap) {
		chain->cap = chain->cap ? chain->cap * 2 : 8;
		chain->changes = memory(chain->changes, chain->cap, sizeof(struct memlog_change *));
	}
	chain->changes[chain->count++] = change;
}

const struct memlog_change *memlog_get(const struct memlog *log, const struct p2p_id *replica,
				       uint64_t seq)
{
	const struct memlog_chain *chain = chain_find(log, replica);

	return chain && seq && seq <= chain->count ? chain->changes[seq - 1] : NULL;
}

uint64_t memlog_head(const struct memlog *log, const struct p2p_id *replica)
{
	const struct memlog_chain *chain = chain_find(log, replica);

	if (!chain || !chain->count)
		return 0;
	return complete(chain->changes[chain->count - 1]) ? chain->count : chain->count - 1;
}

void memlog_append(struct memlog *log, const struct memlog_author *author,
		   const struct memlog_group *group, struct p2p_vv_entry *out)
{
	struct memlog_chain *chain = chain_get(log, &author->replica);
	struct memlog_spec spec = {.bytes = group->bytes, .salt = group->salt};
	struct memlog_change *change = NULL;
	size_t i;

	if (memlog_head(log, &author->replica) != chain->count)
		memlog_fail("append to what is not complete", P2P_EINVAL);
	for (i = 0; i < group->count; i++) {
		const struct memlog_change *before =
			chain->count ? chain->changes[chain->count - 1] : NULL;

		spec.seq = chain->count + 1;
		spec.stamp = group->stamp_ms << 16;
		if (before && spec.stamp <= before->header.stamp.value)
			spec.stamp = before->header.stamp.value + 1;
		if (before)
			spec.prev = before->hash;
		spec.group_pos = (uint32_t)i;
		spec.group_last = i + 1 == group->count;
		spec.deps = group->deps;
		spec.dep_count = i ? 0 : group->dep_count;
		change = memlog_make(&log->mesh, author, &spec);
		chain_push(chain, change);
	}
	if (!change)
		memlog_fail("an empty group", P2P_EINVAL);
	memset(out, 0, sizeof(*out));
	out->replica = author->replica;
	out->seq = chain->count;
	out->head = change->hash;
	out->stamp = change->header.stamp;
	out->log_from = 1;
}

void memlog_truncate(struct memlog *log, const struct p2p_id *replica, uint64_t seq)
{
	struct memlog_chain *chain = chain_get(log, replica);

	while (chain->count >= seq)
		memlog_change_free(chain->changes[--chain->count]);
}

static bool change_same(const struct memlog_change *a, const struct memlog_change *b)
{
	return p2p_hash_cmp(&a->hash, &b->hash) == 0 && a->body.len == b->body.len &&
	       (!a->body.len || memcmp(a->body.data, b->body.data, a->body.len) == 0);
}

/* Up to where a signature covers it. */
static uint64_t chain_signed(const struct memlog_chain *chain)
{
	uint64_t seq = chain ? chain->count : 0;

	while (seq &&
	       !(chain->changes[seq - 1]->has_signature && complete(chain->changes[seq - 1])))
		seq--;
	return seq;
}

bool memlog_agree(const struct memlog *a, const struct memlog *b)
{
	uint64_t seq, x, y;
	size_t i;

	for (i = 0; i < a->chain_count; i++) {
		const struct memlog_chain *mine = &a->chains[i];
		const struct memlog_chain *other = chain_find(b, &mine->replica);

		x = chain_signed(mine);
		y = chain_signed(other);
		for (seq = x < y ? x : y; seq; seq--)
			if (!change_same(mine->changes[seq - 1], other->changes[seq - 1]))
				return false;
	}
	return true;
}

/* --- reading, as the engine does -------------------------------------------------------------- */

static int log_header(void *ctx, const struct p2p_id *replica, uint64_t seq,
		      struct p2p_buf *out_raw, struct p2p_buf *out_signature)
{
	struct memlog *log = ctx;
	const struct memlog_change *change = memlog_get(log, replica, seq);

	log->reads++;
	if (!change)
		return P2P_ENOENT;
	p2p_buf_put(out_raw, change->raw.data, change->raw.len);
	if (change->has_signature)
		p2p_buf_put(out_signature, change->signature.bytes, P2P_SIG_BYTES);
	return p2p_buf_error(out_raw);
}

static int log_segment(void *ctx, const struct p2p_id *replica, uint64_t seq, uint32_t index,
		       struct p2p_buf *out)
{
	struct memlog *log = ctx;
	const struct memlog_change *change = memlog_get(log, replica, seq);
	size_t at = (size_t)index * P2P_SEGMENT_BYTES, left;

	log->reads++;
	if (!change || index >= change->segments)
		return P2P_ENOENT;
	left = change->body.len - at;
	p2p_buf_put(out, change->body.data + at,
		    left < P2P_SEGMENT_BYTES ? left : P2P_SEGMENT_BYTES);
	return p2p_buf_error(out);
}

static int log_head(void *ctx, const struct p2p_id *replica, struct p2p_vv_entry *out)
{
	struct memlog *log = ctx;
	uint64_t seq = memlog_head(log, replica);
	const struct memlog_change *change = memlog_get(log, replica, seq);

	log->reads++;
	memset(out, 0, sizeof(*out));
	out->replica = *replica;
	if (change) {
		out->seq = seq;
		out->head = change->hash;
		out->stamp = change->header.stamp;
		out->log_from = 1;
	}
	return 0;
}

static int log_resume(void *ctx, const struct p2p_id *replica, uint64_t *out_seq,
		      uint32_t *out_segment)
{
	struct memlog *log = ctx;
	uint64_t seq = memlog_head(log, replica) + 1;
	const struct memlog_change *change = memlog_get(log, replica, seq);

	log->reads++;
	*out_seq = seq;
	*out_segment = change ? change->segments : 0;
	return 0;
}

/* --- certificates ----------------------------------------------------------------------------- */

static size_t signer_place(const struct memlog *log, const struct p2p_id *id)
{
	size_t low = 0, high = log->signer_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (p2p_id_cmp(&log->signers[mid].replica, id) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

void memlog_certify(struct memlog *log, const struct p2p_id *replica, const struct p2p_key *node,
		    int refused)
{
	size_t at = signer_place(log, replica);

	if (at == log->signer_count || p2p_id_cmp(&log->signers[at].replica, replica) != 0) {
		if (log->signer_count == log->signer_cap) {
			log->signer_cap = log->signer_cap ? log->signer_cap * 2 : 16;
			log->signers = memory(log->signers, log->signer_cap, sizeof(*log->signers));
		}
		memmove(&log->signers[at + 1], &log->signers[at],
			(log->signer_count++ - at) * sizeof(*log->signers));
	}
	log->signers[at] = (struct memlog_signer){*replica, *node, refused};
}

static int log_signer(void *ctx, const struct p2p_id *replica, struct p2p_key *out_node)
{
	struct memlog *log = ctx;
	size_t at = signer_place(log, replica);

	if (at == log->signer_count || p2p_id_cmp(&log->signers[at].replica, replica) != 0)
		return P2P_ENOENT;
	*out_node = log->signers[at].node;
	return log->signers[at].refused;
}

/* --- writing ---------------------------------------------------------------------------------- */

static struct memlog_undo *undo_add(struct memlog *log, enum undo_kind kind,
				    const struct p2p_id *replica)
{
	struct memlog_undo *undo = memory(NULL, 1, sizeof(*undo));

	memset(undo, 0, sizeof(*undo));
	undo->kind = kind;
	undo->replica = *replica;
	undo->next = log->undo;
	log->undo = undo;
	return undo;
}

static int log_begin(void *ctx)
{
	struct memlog *log = ctx;

	if (log->in_transaction)
		memlog_fail("begin in a transaction", P2P_EINVAL);
	log->in_transaction = true;
	return 0;
}

static int log_put_header(void *ctx, const struct p2p_header *header, const struct p2p_hash *hash,
			  const void *raw, size_t raw_len, const struct p2p_signature *signature)
{
	struct memlog *log = ctx;
	struct memlog_chain *chain = chain_get(log, &header->replica);
	struct memlog_change *change;

	log->puts++;
	if (!log->in_transaction || (signature != NULL) != header->group_last)
		memlog_fail("put a header", P2P_EINVAL);
	if (header->seq <= chain->count)
		return p2p_hash_cmp(&chain->changes[header->seq - 1]->hash, hash) == 0 ? P2P_EEXIST
										       : P2P_EFORK;
	if (header->seq != memlog_head(log, &header->replica) + 1)
		memlog_fail("a hole in the log", P2P_EINVAL);
	change = memory(NULL, 1, sizeof(*change));
	memset(change, 0, sizeof(*change));
	p2p_buf_init(&change->raw, P2P_HEADER_BYTES_MAX);
	p2p_buf_init(&change->body, header->total_bytes + 1);
	p2p_buf_put(&change->raw, raw, raw_len);
	if (p2p_header_unpack(&change->header, raw, raw_len))
		memlog_fail("a header that is none", P2P_EPROTO);
	change->hash = *hash;
	change->has_signature = signature != NULL;
	if (signature)
		change->signature = *signature;
	chain_push(chain, change);
	(void)undo_add(log, UNDO_HEADER, &header->replica);
	return 0;
}

static int log_put_segment(void *ctx, const struct p2p_id *replica, uint64_t seq, uint32_t index,
			   const void *data, size_t len)
{
	struct memlog *log = ctx;
	struct memlog_chain *chain = chain_get(log, replica);
	struct memlog_change *change = seq == chain->count ? chain->changes[seq - 1] : NULL;
	struct memlog_undo *undo;

	log->puts++;
	if (!log->in_transaction || !change || index != change->segments || complete(change))
		memlog_fail("a segment out of order", P2P_EINVAL);
	undo = undo_add(log, UNDO_SEGMENT, replica);
	undo->body_len = change->body.len;
	p2p_buf_put(&change->body, data, len);
	change->segments++;
	return p2p_buf_error(&change->body);
}

static int log_drop(void *ctx, const struct p2p_id *replica, uint64_t from_seq)
{
	struct memlog *log = ctx;
	struct memlog_chain *chain = chain_get(log, replica);

	log->drops++;
	if (!log->in_transaction || !from_seq)
		memlog_fail("drop", P2P_EINVAL);
	while (chain->count >= from_seq) {
		undo_add(log, UNDO_DROP, replica)->dropped = chain->changes[--chain->count];
		log->dropped++;
	}
	return 0;
}

static void undo_apply(struct memlog *log, struct memlog_undo *undo)
{
	struct memlog_chain *chain = chain_get(log, &undo->replica);

	if (undo->kind == UNDO_HEADER) {
		memlog_change_free(chain->changes[--chain->count]);
	} else if (undo->kind == UNDO_SEGMENT) {
		chain->changes[chain->count - 1]->segments--;
		chain->changes[chain->count - 1]->body.len = undo->body_len;
	} else {
		chain_push(chain, undo->dropped);
		undo->dropped = NULL;
	}
}

static void transaction_end(struct memlog *log, bool keep)
{
	struct memlog_undo *undo;

	if (!log->in_transaction)
		memlog_fail("no transaction", P2P_EINVAL);
	log->in_transaction = false;
	while (log->undo) {
		undo = log->undo;
		log->undo = undo->next;
		if (!keep)
			undo_apply(log, undo);
		memlog_change_free(undo->dropped);
		free(undo);
	}
}

static int log_commit(void *ctx)
{
	struct memlog *log = ctx;
	int rc = log->fail_commit;

	log->fail_commit = 0;
	log->commits++;
	transaction_end(log, rc == 0);
	return rc;
}

static void log_rollback(void *ctx)
{
	transaction_end(ctx, false);
}

struct p2p_sync_log memlog_interface(struct memlog *log)
{
	struct p2p_sync_log out = {
		.ctx = log,
		.header = log_header,
		.segment = log_segment,
		.head = log_head,
		.resume = log_resume,
		.signer = log_signer,
		.begin = log_begin,
		.put_header = log_put_header,
		.put_segment = log_put_segment,
		.commit = log_commit,
		.rollback = log_rollback,
		.drop = log_drop,
	};

	return out;
}

void memlog_deinit(struct memlog *log)
{
	size_t i;

	if (log->in_transaction)
		transaction_end(log, false);
	for (i = 0; i < log->chain_count; i++) {
		while (log->chains[i].count)
			memlog_change_free(log->chains[i].changes[--log->chains[i].count]);
		free(log->chains[i].changes);
	}
	free(log->chains);
	free(log->signers);
}
