/* The set of signed records, and asking it; see authority.h. */
#include "crdt/authority.h"

#include <stdlib.h>
#include <string.h>

#include "crdt/authority_private.h"
#include "proto/check.h"
#include "proto/mem.h"

/* --- life ------------------------------------------------------------------------------------- */

int p2p_authority_new(const struct p2p_env *env, struct p2p_authority **out)
{
	struct p2p_authority *authority = p2p_calloc(1, sizeof(*authority));
	struct p2p_hash_key key;

	*out = authority;
	if (!authority)
		return P2P_ENOMEM;
	p2p_env_random(env, key.bytes, sizeof(key.bytes));
	p2p_index_init(&authority->nodes, &key, offsetof(struct authority_node, key),
		       P2P_KEY_BYTES);
	p2p_index_init(&authority->replicas, &key, offsetof(struct authority_group, id),
		       P2P_ID_BYTES);
	p2p_index_init(&authority->tables, &key, offsetof(struct authority_group, id),
		       P2P_ID_BYTES);
	p2p_index_init(&authority->named, &key, 0, P2P_HASH_BYTES);
	p2p_index_init(&authority->followed, &key, 0, sizeof(struct authority_link));
	p2p_list_init(&authority->headed);
	authority->digest_stale = true;
	return 0;
}

static void record_free(struct authority_record *at)
{
	p2p_free(at->raw);
	p2p_free(at->parents);
	p2p_free(at);
}

/* An index whose items are its owner's. */
static void items_free(struct p2p_index *index)
{
	size_t i;

	for (i = 0; i < index->count; i++)
		p2p_free(index->items[i]);
	p2p_index_deinit(index);
}

void p2p_authority_free(struct p2p_authority *authority)
{
	size_t i;

	if (!authority)
		return;
	for (i = 0; i < authority->count; i++)
		record_free(authority->records[i]);
	p2p_free(authority->records);
	p2p_free(authority->sorted);
	p2p_free(authority->members);
	items_free(&authority->nodes);
	items_free(&authority->replicas);
	items_free(&authority->tables);
	p2p_index_deinit(&authority->named);
	p2p_index_deinit(&authority->followed);
	p2p_free(authority);
}

/* --- the set ---------------------------------------------------------------------------------- */

size_t authority_place(const struct p2p_authority *authority, const struct p2p_hash *hash,
		       bool *out_found)
{
	size_t low = 0, high = authority->count;

	*out_found = false;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = p2p_hash_cmp(&authority->sorted[mid]->record.hash, hash);

		*out_found = *out_found || order == 0;
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct authority_record *authority_find(const struct p2p_authority *authority,
					const struct p2p_hash *hash)
{
	bool found;
	size_t place = authority_place(authority, hash, &found);

	return found ? authority->sorted[place] : NULL;
}

/* Keeping the order moves half of at most 128 KiB of pointers: little beside a signature. */
static void record_put(struct p2p_authority *authority, struct authority_record *at)
{
	bool found;
	size_t place = authority_place(authority, &at->record.hash, &found);

	memmove(&authority->sorted[place + 1], &authority->sorted[place],
		(authority->count - place) * sizeof(authority->sorted[0]));
	authority->sorted[place] = at;
	authority->records[authority->count++] = at;
	authority->bytes += at->record.raw_len;
	authority->parents += at->parent_count;
	authority->schemas += at->kind == P2P__V1__RECORD_KIND__RECORD_SCHEMA;
	authority->digest_stale = true;
	if (at->record.kind == P2P__V1__RECORD_KIND__RECORD_GENESIS) {
		authority->has_genesis = true;
		authority->mesh = at->record.hash;
	}
	authority_apply(authority, at);
}

int p2p_authority_add(struct p2p_authority *authority, const void *raw, size_t len)
{
	struct authority_record *at;
	int rc;

	if (len > P2P_RECORD_RAW_MAX)
		return P2P_ETOOBIG;
	at = p2p_calloc(1, sizeof(*at));
	if (!at)
		return P2P_ENOMEM;
	at->raw = p2p_memdup(raw, len);
	at->record.raw = at->raw;
	at->record.raw_len = len;
	p2p_list_init(&at->head);
	rc = at->raw ? authority_read(authority, at) : P2P_ENOMEM;
	if (!rc)
		rc = authority_reserve(authority, at);
	if (rc) {
		record_free(at);
		return rc;
	}
	record_put(authority, at);
	return 0;
}

void p2p_authority_rewind(struct p2p_authority *authority, size_t count)
{
	size_t i, all = authority->count;

	if (count >= all)
		return;
	authority_unapply(authority);
	authority->count = authority->bytes = authority->parents = authority->schemas = 0;
	if (!count) {
		authority->has_genesis = false;
		memset(&authority->mesh, 0, sizeof(authority->mesh));
	}
	/* there is room: they were there before */
	for (i = 0; i < count; i++)
		record_put(authority, authority->records[i]);
	for (; i < all; i++)
		record_free(authority->records[i]);
	authority->digest_stale = true;
}

void p2p_authority_expect(struct p2p_authority *authority, const struct p2p_hash *mesh)
{
	authority->expected = *mesh;
	authority->has_expected = true;
}

/* --- asking ----------------------------------------------------------------------------------- */

const struct p2p_hash *p2p_authority_mesh(const struct p2p_authority *authority)
{
	return &authority->mesh;
}

const char *p2p_authority_mesh_name(const struct p2p_authority *authority)
{
	return authority->count ? authority->records[0]->name : "";
}

static struct authority_node *node_of(const struct p2p_authority *authority,
				      const struct p2p_key *key)
{
	return p2p_index_find(&authority->nodes, key->bytes);
}

uint32_t p2p_authority_role(const struct p2p_authority *authority, const struct p2p_key *node)
{
	return authority_role(node_of(authority, node));
}

size_t p2p_authority_member_count(const struct p2p_authority *authority)
{
	return authority->member_count;
}

static int by_seniority(const void *a, const void *b)
{
	const struct authority_node *const *x = a, *const *y = b;

	return authority_seniority(*x, *y);
}

/* Lists that only people and other nodes ask for get their order late, also for those who ask. */
static struct p2p_authority *own(const struct p2p_authority *authority)
{
	return (struct p2p_authority *)(uintptr_t)authority;
}

static void members_sort(struct p2p_authority *authority)
{
	size_t i, count = 0;

	for (i = 0; i < authority->nodes.count; i++) {
		struct authority_node *node = authority->nodes.items[i];

		if (node->admission)
			authority->members[count++] = node;
	}
	qsort(authority->members, count, sizeof(authority->members[0]), by_seniority);
	authority->members_stale = false;
}

bool p2p_authority_member(const struct p2p_authority *authority, size_t index,
			  struct p2p_member *out)
{
	const struct authority_node *node;
	const struct authority_record *at;

	if (index >= authority->member_count)
		return false;
	if (authority->members_stale)
		members_sort(own(authority));
	node = authority->members[index];
	at = node->admission;
	out->node = node->key;
	out->wrap_key = at->wrap_key;
	out->noise_key = at->noise_key;
	out->role = at->role;
	memcpy(out->name, at->name, sizeof(out->name));
	out->admitted_by = at->record.signer;
	return true;
}

/* The member that claims an id. NULL: nobody does, or two whose keys were made for it. */
static const struct authority_node *holder_of(const struct authority_group *claims)
{
	const struct authority_node *node = claims->first ? claims->first->signer : NULL;
	const struct authority_record *at;

	for (at = claims->first; at; at = at->next_in_group)
		if (at->signer != node)
			return NULL;
	return node;
}

bool p2p_authority_replica_known(const struct p2p_authority *authority,
				 const struct p2p_id *replica)
{
	return p2p_index_find(&authority->replicas, replica->bytes) != NULL;
}

int p2p_authority_replica_node(const struct p2p_authority *authority, const struct p2p_id *replica,
			       struct p2p_key *out_node)
{
	const struct authority_group *claims = p2p_index_find(&authority->replicas, replica->bytes);
	const struct authority_node *node = claims ? holder_of(claims) : NULL;

	if (!node)
		return P2P_ENOENT;
	*out_node = node->key;
	return authority_may_write(authority_role(node)) ? 0 : P2P_EAUTH;
}

int p2p_authority_each_replica(const struct p2p_authority *authority,
			       int (*each)(void *ctx, const struct p2p_id *replica,
					   const struct p2p_key *node),
			       void *ctx)
{
	size_t i;
	int rc = 0;

	for (i = 0; i < authority->replicas.count && !rc; i++) {
		const struct authority_group *claims = authority->replicas.items[i];
		const struct authority_node *node = holder_of(claims);

		if (node)
			rc = each(ctx, &claims->id, &node->key);
	}
	return rc;
}

const struct p2p_signed *p2p_authority_schema(const struct p2p_authority *authority,
					      const struct p2p_hash *hash)
{
	const struct authority_record *at = authority_find(authority, hash);

	return at && at->kind == P2P__V1__RECORD_KIND__RECORD_SCHEMA && at->counts ? &at->record
										   : NULL;
}

const struct authority_record *authority_schema_of(const struct p2p_authority *authority,
						   const struct p2p_id *table)
{
	const struct authority_group *group = p2p_index_find(&authority->tables, table->bytes);

	return group ? group->in_force : NULL;
}

uint64_t p2p_authority_schema_changes(const struct p2p_authority *authority)
{
	return authority->schema_changes;
}

int p2p_authority_each_schema_since(const struct p2p_authority *authority, uint64_t since,
				    int (*each)(void *ctx, const struct p2p_signed *record),
				    void *ctx)
{
	size_t i;
	int rc = 0;

	/* by index: each() may add records */
	for (i = 0; i < authority->tables.count && !rc; i++) {
		const struct authority_group *table = authority->tables.items[i];

		if (table->in_force && table->changed > since)
			rc = each(ctx, &table->in_force->record);
	}
	return rc;
}

int p2p_authority_each_schema(const struct p2p_authority *authority,
			      int (*each)(void *ctx, const struct p2p_signed *record), void *ctx)
{
	return p2p_authority_each_schema_since(authority, 0, each, ctx);
}

static int by_hash(const void *a, const void *b)
{
	return p2p_hash_cmp(a, b);
}

static struct authority_node *headed_node(struct p2p_list *link)
{
	return p2p_container_of(link, struct authority_node, headed);
}

static const struct authority_record *head_record(struct p2p_list *link)
{
	return p2p_container_of(link, struct authority_record, head);
}

/* One of each signer, then another of each, and so on: however many heads one of them makes, the
 * others' are among those that are named. */
static size_t heads_choose(struct p2p_authority *authority, struct p2p_hash *out, size_t max)
{
	struct p2p_list *at, *next;
	bool more = true;
	size_t count = 0;

	p2p_list_for_each (at, next, &authority->headed)
		headed_node(at)->head_turn = headed_node(at)->heads.next;
	while (more) {
		more = false;
		p2p_list_for_each (at, next, &authority->headed) {
			struct authority_node *node = headed_node(at);

			if (count == max || node->head_turn == &node->heads)
				continue;
			out[count++] = head_record(node->head_turn)->record.hash;
			node->head_turn = node->head_turn->next;
			more = true;
		}
	}
	return count;
}

size_t p2p_authority_heads(const struct p2p_authority *authority, struct p2p_hash *out, size_t max)
{
	size_t count = heads_choose(own(authority), out, max);

	if (count)
		qsort(out, count, sizeof(*out), by_hash);
	return count;
}

void p2p_authority_digest(const struct p2p_authority *authority, struct p2p_hash *out)
{
	struct p2p_hasher hasher;
	size_t i;

	if (authority->digest_stale) {
		p2p_hasher_init(&hasher, "p2pnode/members/1", P2P_HASH_BYTES);
		for (i = 0; i < authority->count; i++)
			p2p_hasher_add(&hasher, authority->sorted[i]->record.hash.bytes,
				       P2P_HASH_BYTES);
		p2p_hasher_final(&hasher, own(authority)->digest.bytes, P2P_HASH_BYTES);
		own(authority)->digest_stale = false;
	}
	*out = authority->digest;
}

size_t p2p_authority_count(const struct p2p_authority *authority)
{
	return authority->count;
}

const struct p2p_signed *p2p_authority_record(const struct p2p_authority *authority, size_t index)
{
	return index < authority->count ? &authority->records[index]->record : NULL;
}

bool p2p_authority_has_prefix(const struct p2p_authority *authority, const uint8_t prefix[16])
{
	struct p2p_hash least = {{0}};
	bool found;
	size_t place;

	memcpy(least.bytes, prefix, 16);
	place = authority_place(authority, &least, &found);
	return place < authority->count &&
	       memcmp(authority->sorted[place]->record.hash.bytes, prefix, 16) == 0;
}
