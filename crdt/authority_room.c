/* Memory for records, and how much of it one member may fill; see authority.h.
 *
 * Everything that adding a record takes is reserved before anything changes. A record is charged to
 * its signer, to the member that admitted the signer, and so on up to the founder: a member cannot
 * get more room by admitting others. Nodes that are no members have one share together. What was
 * taken stays, also if its signer's place in the tree changes: shares only bound what comes. */
#include <string.h>

#include "crdt/authority_private.h"
#include "proto/mem.h"

/* --- shares ----------------------------------------------------------------------------------- */

/* The share is the whole, shifted by so much. */
static unsigned int share_shift(const struct p2p_authority *authority,
				const struct authority_node *node)
{
	unsigned int shift = P2P_RECORDS_SHARE_SHIFT_MAX;

	if (node == &authority->strangers)
		return P2P_RECORDS_STRANGERS_SHIFT;
	if (!node->admission || node->depth == 0) /* within the strangers' share; the founder */
		return 0;
	if (node->depth < P2P_RECORDS_SHARE_SHIFT_MAX - P2P_RECORDS_SHARE_SHIFT)
		shift = P2P_RECORDS_SHARE_SHIFT + node->depth;
	return shift;
}

static bool has_room(const struct p2p_authority *authority, const struct authority_record *at)
{
	const struct authority_node *up =
		p2p_index_find(&authority->nodes, at->record.signer.bytes);
	size_t len = at->record.raw_len;

	if (!authority->count) /* the genesis */
		return true;
	if (authority->count >= P2P_RECORDS_MAX || len > P2P_RECORDS_BYTES_MAX - authority->bytes)
		return false;
	for (up = up ? up : &authority->strangers; up; up = up->parent) {
		unsigned int shift = share_shift(authority, up);
		size_t records = P2P_RECORDS_MAX >> shift, bytes = P2P_RECORDS_BYTES_MAX >> shift;

		if (up->use.records + 1 > records || up->use.bytes + len > bytes)
			return false;
	}
	return true;
}

void authority_charge(struct authority_record *at)
{
	struct authority_node *up;

	for (up = at->signer; up; up = up->parent) {
		up->use.records++;
		up->use.bytes += at->record.raw_len;
	}
}

void authority_move(struct authority_node *node, struct authority_node *parent)
{
	struct authority_node *up;

	if (node->parent == parent)
		return;
	for (up = node->parent; up; up = up->parent) {
		up->use.records -= node->use.records;
		up->use.bytes -= node->use.bytes;
	}
	node->parent = parent;
	for (up = parent; up; up = up->parent) {
		up->use.records += node->use.records;
		up->use.bytes += node->use.bytes;
	}
}

/* --- memory ----------------------------------------------------------------------------------- */

static int pointers_grow(struct authority_record ***array, size_t cap)
{
	struct authority_record **grown =
		p2p_realloc(*array, cap * sizeof(struct authority_record *));

	if (!grown)
		return P2P_ENOMEM;
	*array = grown;
	return 0;
}

/* Room for one record more in each list of records. */
static int records_grow(struct p2p_authority *authority)
{
	size_t cap = authority->cap ? authority->cap * 2 : 16;
	int rc;

	if (authority->count < authority->cap)
		return 0;
	rc = pointers_grow(&authority->records, cap);
	if (!rc)
		rc = pointers_grow(&authority->sorted, cap);
	if (!rc)
		authority->cap = cap;
	return rc;
}

static int members_grow(struct p2p_authority *authority)
{
	size_t cap = authority->member_cap ? authority->member_cap * 2 : 16;
	struct authority_node **grown;

	if (authority->nodes.count < authority->member_cap)
		return 0;
	grown = p2p_realloc(authority->members, cap * sizeof(struct authority_node *));
	if (!grown)
		return P2P_ENOMEM;
	authority->members = grown;
	authority->member_cap = cap;
	return 0;
}

/* One that nothing is known of is no member: it does no harm if its record fails after all. */
static int node_get(struct p2p_authority *authority, const struct p2p_key *key,
		    struct authority_node **out)
{
	struct authority_node *node = p2p_index_find(&authority->nodes, key->bytes);

	*out = node;
	if (node)
		return 0;
	if (members_grow(authority) || p2p_index_reserve(&authority->nodes, 1))
		return P2P_ENOMEM;
	node = p2p_calloc(1, sizeof(*node));
	if (!node)
		return P2P_ENOMEM;
	node->key = *key;
	node->parent = &authority->strangers;
	p2p_list_init(&node->heads);
	p2p_list_init(&node->headed);
	p2p_index_put(&authority->nodes, node);
	*out = node;
	return 0;
}

/* The same holds for a group without records. */
static int group_get(struct p2p_index *groups, const struct p2p_id *id,
		     struct authority_group **out)
{
	struct authority_group *group = p2p_index_find(groups, id->bytes);

	*out = group;
	if (group)
		return 0;
	if (p2p_index_reserve(groups, 1))
		return P2P_ENOMEM;
	group = p2p_calloc(1, sizeof(*group));
	if (!group)
		return P2P_ENOMEM;
	group->id = *id;
	p2p_index_put(groups, group);
	*out = group;
	return 0;
}

/* Records may come to count later: their parents and predecessors have their room from the start.
 */
static int kind_reserve(struct p2p_authority *authority, struct authority_record *at)
{
	int rc;

	switch (at->kind) {
	case P2P__V1__RECORD_KIND__RECORD_GENESIS:
	case P2P__V1__RECORD_KIND__RECORD_ADMISSION:
		rc = node_get(authority, &at->node, &at->subject);
		return rc ? rc
			  : p2p_index_reserve(&authority->named, authority->parents +
									 at->parent_count -
									 authority->named.count);
	case P2P__V1__RECORD_KIND__RECORD_CERTIFICATE:
		return group_get(&authority->replicas, &at->link.id, &at->group);
	case P2P__V1__RECORD_KIND__RECORD_SCHEMA:
		rc = group_get(&authority->tables, &at->link.id, &at->group);
		return rc ? rc
			  : p2p_index_reserve(&authority->followed,
					      authority->schemas + 1 - authority->followed.count);
	default:
		return 0;
	}
}

int authority_reserve(struct p2p_authority *authority, struct authority_record *at)
{
	int rc = has_room(authority, at) ? 0 : P2P_EQUOTA;

	if (!rc)
		rc = records_grow(authority);
	if (!rc)
		rc = node_get(authority, &at->record.signer, &at->signer);
	return rc ? rc : kind_reserve(authority, at);
}
