/* What follows from the set of records, whatever their order of arrival; see authority.h.
 *
 * Members: the founder, and whoever an admin admitted. Of several admissions of one node the
 * strongest role counts, until cut-offs come. Certificates: each node's own, the 16 with the least
 * hashes; of two nodes that claim one replica id the senior has it (less depth in the admission
 * tree, then the lesser key). Schema records: signed by one who may write; in force is the one that
 * no valid one of that table follows, of two the greater hash. */
#include <stdlib.h>
#include <string.h>

#include "crdt/authority_private.h"
#include "proto/mem.h"

/* --- lookups ---------------------------------------------------------------------------------- */

const struct authority_record *authority_find(const struct p2p_authority *authority,
					      const struct p2p_hash *hash)
{
	size_t low = 0, high = authority->sorted_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = p2p_hash_cmp(&authority->sorted[mid]->record.hash, hash);

		if (order == 0)
			return authority->sorted[mid];
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

const struct authority_member *authority_member_of(const struct p2p_authority *authority,
						   const struct p2p_key *node)
{
	size_t i;

	for (i = 0; i < authority->member_count; i++)
		if (p2p_key_cmp(&authority->members[i].member.node, node) == 0)
			return &authority->members[i];
	return NULL;
}

const struct authority_record *authority_schema_of(const struct p2p_authority *authority,
						   const struct p2p_id *table)
{
	const struct authority_record *best = NULL;
	size_t i, j;

	for (i = 0; i < authority->sorted_count; i++) {
		const struct authority_record *at = authority->sorted[i];
		bool followed = false;

		if (at->kind != P2P__V1__RECORD_KIND__RECORD_SCHEMA || !at->valid ||
		    p2p_id_cmp(&at->id, table) != 0)
			continue;
		for (j = 0; j < authority->sorted_count && !followed; j++) {
			const struct authority_record *next = authority->sorted[j];

			followed = next != at &&
				   next->kind == P2P__V1__RECORD_KIND__RECORD_SCHEMA &&
				   next->valid && p2p_id_cmp(&next->id, table) == 0 &&
				   p2p_hash_cmp(&next->predecessor, &at->record.hash) == 0;
		}
		if (!followed)
			best = at; /* sorted: the last one has the greatest hash */
	}
	return best;
}

/* --- the sorted set --------------------------------------------------------------------------- */

static int by_hash(const void *a, const void *b)
{
	const struct authority_record *const *x = a, *const *y = b;

	return p2p_hash_cmp(&(*x)->record.hash, &(*y)->record.hash);
}

static int sort_records(struct p2p_authority *authority)
{
	const struct authority_record **grown;
	struct p2p_hasher hasher;
	size_t i;

	if (authority->sorted_cap < authority->count) {
		grown = p2p_realloc(authority->sorted,
				    authority->cap * sizeof(const struct authority_record *));
		if (!grown)
			return P2P_ENOMEM;
		authority->sorted = grown;
		authority->sorted_cap = authority->cap;
	}
	for (i = 0; i < authority->count; i++)
		authority->sorted[i] = authority->records[i];
	authority->sorted_count = authority->count;
	if (authority->count)
		qsort(authority->sorted, authority->count, sizeof(const struct authority_record *),
		      by_hash);
	p2p_hasher_init(&hasher, "p2pnode/members/1", P2P_HASH_BYTES);
	for (i = 0; i < authority->sorted_count; i++)
		p2p_hasher_add(&hasher, authority->sorted[i]->record.hash.bytes, P2P_HASH_BYTES);
	p2p_hasher_final(&hasher, authority->digest.bytes, P2P_HASH_BYTES);
	return 0;
}

/* --- members ---------------------------------------------------------------------------------- */

/* Returns whether the node may do more than before. */
static bool member_put(struct p2p_authority *authority, const struct authority_record *at,
		       uint32_t depth)
{
	struct authority_member *member =
		(struct authority_member *)(uintptr_t)authority_member_of(authority, &at->node);

	if (member && member->member.role <= at->role)
		return false;
	if (!member) {
		member = &authority->members[authority->member_count++];
		member->depth = depth;
		member->member.node = at->node;
	}
	member->member.role = at->role;
	member->member.wrap_key = at->wrap_key;
	member->member.noise_key = at->noise_key;
	member->member.admitted_by = at->record.signer;
	memcpy(member->member.name, at->name, sizeof(member->member.name));
	return true;
}

static int by_depth(const void *a, const void *b)
{
	const struct authority_member *x = a, *y = b;

	if (x->depth != y->depth)
		return x->depth < y->depth ? -1 : 1;
	return p2p_key_cmp(&x->member.node, &y->member.node);
}

/* From the founder outwards, one depth after the other, until nobody is added. The work is bounded
 * by (depth of the tree) x (records). */
static int find_members(struct p2p_authority *authority)
{
	bool more = authority->has_genesis;
	uint32_t depth;
	size_t i;

	p2p_free(authority->members);
	authority->member_count = 0;
	authority->members = p2p_calloc(authority->count + 1, sizeof(*authority->members));
	if (!authority->members)
		return P2P_ENOMEM;
	if (more)
		(void)member_put(authority, authority->records[0], 0); /* the first one */
	for (depth = 1; more; depth++) {
		more = false;
		for (i = 0; i < authority->sorted_count; i++) {
			const struct authority_record *at = authority->sorted[i];
			const struct authority_member *by;

			if (at->kind != P2P__V1__RECORD_KIND__RECORD_ADMISSION)
				continue;
			by = authority_member_of(authority, &at->record.signer);
			if (by && by->depth < depth && by->member.role == P2P__V1__ROLE__ROLE_ADMIN)
				more |= member_put(authority, at, depth);
		}
	}
	if (authority->member_count)
		qsort(authority->members, authority->member_count, sizeof(*authority->members),
		      by_depth);
	return 0;
}

/* --- certificates ----------------------------------------------------------------------------- */

struct claim {
	const struct authority_record *at;
	const struct authority_member *by;
};

static int by_node(const void *a, const void *b)
{
	const struct claim *x = a, *y = b;
	int rc = p2p_key_cmp(&x->at->node, &y->at->node);

	return rc ? rc : p2p_hash_cmp(&x->at->record.hash, &y->at->record.hash);
}

/* The senior claim of a replica id first. */
static int by_replica(const void *a, const void *b)
{
	const struct claim *x = a, *y = b;
	int rc = p2p_id_cmp(&x->at->id, &y->at->id);

	return rc ? rc : by_depth(x->by, y->by);
}

/* At most 16 of each node, by hash. */
static size_t claims_limit(struct claim *claims, size_t count)
{
	size_t i, kept = 0, run = 0;

	for (i = 0; i < count; i++) {
		run = i && p2p_key_cmp(&claims[i].at->node, &claims[i - 1].at->node) == 0 ? run + 1
											  : 1;
		if (run <= P2P_REPLICAS_PER_NODE_MAX)
			claims[kept++] = claims[i];
	}
	return kept;
}

static size_t claims_collect(const struct p2p_authority *authority, struct claim *claims)
{
	size_t i, count = 0;

	for (i = 0; i < authority->sorted_count; i++) {
		const struct authority_record *at = authority->sorted[i];

		if (at->kind != P2P__V1__RECORD_KIND__RECORD_CERTIFICATE)
			continue;
		claims[count].at = at;
		claims[count].by = authority_member_of(authority, &at->node);
		count += claims[count].by != NULL;
	}
	qsort(claims, count, sizeof(*claims), by_node);
	count = claims_limit(claims, count);
	qsort(claims, count, sizeof(*claims), by_replica);
	return count;
}

static int find_certificates(struct p2p_authority *authority)
{
	struct claim *claims = p2p_calloc(authority->count + 1, sizeof(*claims));
	size_t i, count;

	p2p_free(authority->certificates);
	authority->certificate_count = 0;
	authority->certificates =
		p2p_calloc(authority->count + 1, sizeof(*authority->certificates));
	if (!claims || !authority->certificates) {
		p2p_free(claims);
		return P2P_ENOMEM;
	}
	count = claims_collect(authority, claims);
	for (i = 0; i < count; i++) {
		if (i && p2p_id_cmp(&claims[i].at->id, &claims[i - 1].at->id) == 0)
			continue;
		authority->certificates[authority->certificate_count].replica = claims[i].at->id;
		authority->certificates[authority->certificate_count++].node = claims[i].at->node;
	}
	p2p_free(claims);
	return 0;
}

/* --- schemas and heads ------------------------------------------------------------------------ */

static void find_schemas(struct p2p_authority *authority)
{
	size_t i;

	for (i = 0; i < authority->count; i++) {
		struct authority_record *at = authority->records[i];
		const struct authority_member *by =
			authority_member_of(authority, &at->record.signer);

		at->valid = by && (by->member.role == P2P__V1__ROLE__ROLE_ADMIN ||
				   by->member.role == P2P__V1__ROLE__ROLE_WRITER);
	}
}

static bool is_membership(const struct authority_record *at)
{
	return at->kind == P2P__V1__RECORD_KIND__RECORD_GENESIS ||
	       at->kind == P2P__V1__RECORD_KIND__RECORD_ADMISSION;
}

static int hash_order(const void *a, const void *b)
{
	return p2p_hash_cmp(a, b);
}

/* Membership records that no other one names as parent. */
static int find_heads(struct p2p_authority *authority)
{
	size_t i, j, named = 0, total = 0;
	struct p2p_hash *parents;

	for (i = 0; i < authority->count; i++)
		if (is_membership(authority->records[i]))
			total += authority->records[i]->parent_count;
	parents = p2p_calloc(total + 1, sizeof(*parents));
	p2p_free(authority->heads);
	authority->head_count = 0;
	authority->heads = p2p_calloc(authority->count + 1, sizeof(*authority->heads));
	if (!parents || !authority->heads) {
		p2p_free(parents);
		return P2P_ENOMEM;
	}
	for (i = 0; i < authority->count; i++)
		for (j = 0; is_membership(authority->records[i]) &&
			    j < authority->records[i]->parent_count;
		     j++)
			parents[named++] = authority->records[i]->parents[j];
	qsort(parents, named, sizeof(*parents), hash_order);
	for (i = 0; i < authority->sorted_count; i++) {
		const struct authority_record *at = authority->sorted[i];

		if (is_membership(at) &&
		    !bsearch(&at->record.hash, parents, named, sizeof(*parents), hash_order))
			authority->heads[authority->head_count++] = at->record.hash;
	}
	p2p_free(parents);
	return 0;
}

void authority_settle(struct p2p_authority *authority)
{
	int rc;

	if (!authority->stale)
		return;
	rc = sort_records(authority);
	if (!rc)
		rc = find_members(authority);
	if (!rc)
		rc = find_certificates(authority);
	if (!rc)
		find_schemas(authority);
	if (!rc)
		rc = find_heads(authority);
	if (rc) { /* asked again, it is tried again */
		authority->sorted_count = authority->member_count = 0;
		authority->certificate_count = authority->head_count = 0;
		return;
	}
	authority->stale = false;
}
