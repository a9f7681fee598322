/* A stand-in for crdt/authority.h in tests of the merge: schema records by hash, nothing signed,
 * nothing proven. Takes the library's place at link, for the few functions that the merge and its
 * kit call. */
#include <string.h>

#include "crdt/authority.h"
#include "proto/mem.h"

#define RECORDS_MAX 64

struct p2p_authority {
	struct p2p_signed records[RECORDS_MAX];
	void *bodies[RECORDS_MAX]; /* owned */
	size_t count;
};

int p2p_authority_new(struct p2p_authority **out)
{
	*out = p2p_calloc(1, sizeof(**out));
	return *out ? 0 : P2P_ENOMEM;
}

void p2p_authority_free(struct p2p_authority *authority)
{
	size_t i;

	for (i = 0; authority && i < authority->count; i++)
		p2p_free(authority->bodies[i]);
	p2p_free(authority);
}

int p2p_authority_make_genesis(struct p2p_buf *out, struct p2p_hash *out_mesh,
			       const struct p2p_signer *signer, const char *name,
			       const uint8_t random[32])
{
	(void)signer;
	(void)name;
	p2p_hash_bytes(out_mesh, random, 32);
	p2p_buf_put(out, random, 32);
	return p2p_buf_error(out);
}

int p2p_authority_make_schema(struct p2p_authority *authority, struct p2p_buf *out,
			      const struct p2p_signer *signer, const void *body, size_t len)
{
	(void)authority;
	(void)signer;
	p2p_buf_put(out, body, len);
	return p2p_buf_error(out);
}

int p2p_authority_add(struct p2p_authority *authority, const void *raw, size_t len)
{
	struct p2p_signed *record = &authority->records[authority->count];
	void *body;

	if (authority->count == RECORDS_MAX)
		return P2P_ETOOBIG;
	body = p2p_memdup(raw, len);
	if (!body)
		return P2P_ENOMEM;
	memset(record, 0, sizeof(*record));
	record->body = body;
	record->body_len = len;
	p2p_hash_bytes(&record->hash, raw, len);
	authority->bodies[authority->count++] = body;
	return 0;
}

size_t p2p_authority_count(const struct p2p_authority *authority)
{
	return authority->count;
}

const struct p2p_signed *p2p_authority_record(const struct p2p_authority *authority, size_t index)
{
	return index < authority->count ? &authority->records[index] : NULL;
}

const struct p2p_signed *p2p_authority_schema(const struct p2p_authority *authority,
					      const struct p2p_hash *hash)
{
	size_t i;

	for (i = 0; i < authority->count; i++)
		if (p2p_hash_cmp(&authority->records[i].hash, hash) == 0)
			return &authority->records[i];
	return NULL;
}
