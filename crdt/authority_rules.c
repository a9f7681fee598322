/* What follows from the set of records, whatever their order of arrival; see authority.h.
 *
 * Members: the founder, and whoever an admin admitted. They are a tree: of several admissions of
 * one node that of the strongest role is in effect, until cut-offs come; of several of that role
 * that of the most senior signer, then the least hash. Depth is the way to the founder in that
 * tree; less depth is senior, then the lesser key. So nobody gets above who made it an admin.
 * Certificates: each node's own, for replica ids that are bound to its key, the 16 with the least
 * hashes. Schema records: signed by one who may write; in force is the one that no valid one of
 * that table follows, of two the greater hash.
 *
 * All of it only grows with the set: a record that counts goes on counting, an admin never gets
 * deeper. So the end is the same whatever came first, and each change is followed outwards from
 * where it began. */
#include <string.h>

#include "crdt/authority_private.h"
#include "proto/check.h"

uint32_t authority_role(const struct authority_node *node)
{
	return node && node->admission ? node->admission->role : P2P__V1__ROLE__ROLE_NONE;
}

int authority_seniority(const struct authority_node *a, const struct authority_node *b)
{
	if (a->depth != b->depth)
		return a->depth < b->depth ? -1 : 1;
	return p2p_key_cmp(&a->key, &b->key);
}

/* --- groups ----------------------------------------------------------------------------------- */

static void group_put(struct authority_record *at)
{
	at->next_in_group = at->group->first;
	at->group->first = at;
}

/* Returns whether it was there. */
static bool group_take(struct authority_record *at)
{
	struct authority_record **link = &at->group->first;

	while (*link && *link != at)
		link = &(*link)->next_in_group;
	if (!*link)
		return false;
	*link = at->next_in_group;
	at->next_in_group = NULL;
	return true;
}

/* --- certificates ----------------------------------------------------------------------------- */

/* Among the 16 least of its node; those of members claim their replica ids. */
static void certificate_apply(struct authority_record *at)
{
	struct authority_node *node = at->signer;
	size_t place = node->certificate_count;

	while (place &&
	       p2p_hash_cmp(&at->record.hash, &node->certificates[place - 1]->record.hash) < 0)
		place--;
	if (place == P2P_REPLICAS_PER_NODE_MAX)
		return;
	if (node->certificate_count < P2P_REPLICAS_PER_NODE_MAX)
		node->certificate_count++;
	else if (node->admission)
		(void)group_take(node->certificates[P2P_REPLICAS_PER_NODE_MAX - 1]);
	memmove(&node->certificates[place + 1], &node->certificates[place],
		(node->certificate_count - 1 - place) * sizeof(node->certificates[0]));
	node->certificates[place] = at;
	if (node->admission)
		group_put(at);
}

static void certificates_claim(struct authority_node *node)
{
	size_t i;

	for (i = 0; i < node->certificate_count; i++)
		group_put(node->certificates[i]);
}

/* --- schema records --------------------------------------------------------------------------- */

static void find_in_force(struct authority_group *table)
{
	struct authority_record *at;

	table->in_force = table->first;
	for (at = table->first; at; at = at->next_in_group)
		if (p2p_hash_cmp(&at->record.hash, &table->in_force->record.hash) > 0)
			table->in_force = at;
}

/* The one that it follows is not in force any more. */
static void schema_follow(struct p2p_authority *authority, struct authority_record *at)
{
	struct authority_record *before = authority_find(authority, &at->link.predecessor);

	if (!p2p_index_find(&authority->followed, &at->link))
		p2p_index_put(&authority->followed, &at->link);
	if (before && before->kind == P2P__V1__RECORD_KIND__RECORD_SCHEMA &&
	    before->group == at->group && group_take(before) && at->group->in_force == before)
		find_in_force(at->group);
}

static void schema_put(struct p2p_authority *authority, struct authority_record *at)
{
	struct authority_link followed = {at->record.hash, at->link.id};
	struct authority_group *table = at->group;

	if (p2p_index_find(&authority->followed, &followed))
		return;
	group_put(at);
	if (!table->in_force || p2p_hash_cmp(&at->record.hash, &table->in_force->record.hash) > 0)
		table->in_force = at;
}

static void schema_count(struct p2p_authority *authority, struct authority_record *at)
{
	const struct authority_record *before = at->group->in_force;

	at->counts = true;
	schema_follow(authority, at);
	schema_put(authority, at);
	if (at->group->in_force != before)
		at->group->changed = ++authority->schema_changes;
}

/* --- heads ------------------------------------------------------------------------------------ */

static void head_take(struct authority_record *at)
{
	p2p_list_remove(&at->head);
	if (p2p_list_empty(&at->signer->heads))
		p2p_list_remove(&at->signer->headed);
}

/* A membership record that counts: it takes the place of those that it names. */
static void head_put(struct p2p_authority *authority, struct authority_record *at)
{
	size_t i;

	for (i = 0; i < at->parent_count; i++) {
		struct authority_record *parent;

		if (p2p_index_find(&authority->named, at->parents[i].bytes))
			continue;
		p2p_index_put(&authority->named, &at->parents[i]);
		parent = authority_find(authority, &at->parents[i]);
		if (parent && !p2p_list_empty(&parent->head))
			head_take(parent);
	}
	if (p2p_index_find(&authority->named, at->record.hash.bytes))
		return;
	if (p2p_list_empty(&at->signer->heads))
		p2p_list_push(&authority->headed, &at->signer->headed);
	p2p_list_push(&at->signer->heads, &at->head);
}

/* --- members ---------------------------------------------------------------------------------- */

struct changes {
	struct authority_node *first, **last; /* nodes whose records have to be looked at again */
};

/* Whether the admission a of a node goes before b. */
static bool goes_before(const struct authority_record *a, const struct authority_record *b)
{
	int order;

	if (a->role != b->role)
		return a->role < b->role; /* the strongest has the least number */
	order = authority_seniority(a->signer, b->signer);
	return order ? order < 0 : p2p_hash_cmp(&a->record.hash, &b->record.hash) < 0;
}

static void node_changed(struct changes *changes, struct authority_node *node)
{
	if (node->changed)
		return;
	node->changed = true;
	node->next_changed = NULL;
	*changes->last = node;
	changes->last = &node->next_changed;
}

/* An admission that counts: perhaps the one in effect, perhaps its signer has risen. */
static void admission_weigh(struct p2p_authority *authority, struct changes *changes,
			    struct authority_record *at)
{
	struct authority_node *node = at->subject;
	bool first = !node->admission;

	if (!first && node->depth == 0)
		return; /* the founder's is the genesis */
	if (!first && (node->admission == at ? node->depth == at->signer->depth + 1
					     : !goes_before(at, node->admission)))
		return;
	node->admission = at;
	node->depth = at->signer->depth + 1;
	authority_move(node, at->signer);
	authority->members_stale = true;
	if (first) {
		authority->member_count++;
		certificates_claim(node);
	}
	node_changed(changes, node);
}

static void admission_apply(struct p2p_authority *authority, struct changes *changes,
			    struct authority_record *at)
{
	if (authority_role(at->signer) != P2P__V1__ROLE__ROLE_ADMIN)
		return;
	if (!at->counts) {
		at->counts = true;
		head_put(authority, at);
	}
	admission_weigh(authority, changes, at);
}

static void genesis_apply(struct p2p_authority *authority, struct authority_record *at)
{
	struct authority_node *founder = at->subject;

	at->counts = true;
	founder->admission = at;
	authority_move(founder, NULL);
	authority->member_count++;
	authority->members_stale = true;
	head_put(authority, at);
}

/* --- all of it -------------------------------------------------------------------------------- */

static void record_weigh(struct p2p_authority *authority, struct changes *changes,
			 struct authority_record *at)
{
	if (at->kind == P2P__V1__RECORD_KIND__RECORD_ADMISSION)
		admission_apply(authority, changes, at);
	else if (at->kind == P2P__V1__RECORD_KIND__RECORD_SCHEMA && !at->counts &&
		 authority_may_write(authority_role(at->signer)))
		schema_count(authority, at);
}

/* The records of nodes that are more than before, and of whom they make more. A node comes again
 * only with a stronger role or a more senior admission. */
static void changes_follow(struct p2p_authority *authority, struct changes *changes)
{
	while (changes->first) {
		struct authority_node *node = changes->first;
		struct authority_record *at;

		changes->first = node->next_changed;
		if (!changes->first)
			changes->last = &changes->first;
		node->changed = false;
		for (at = node->signed_first; at; at = at->next_signed)
			record_weigh(authority, changes, at);
	}
}

void authority_apply(struct p2p_authority *authority, struct authority_record *at)
{
	struct changes changes = {NULL, &changes.first};

	at->next_signed = at->signer->signed_first;
	at->signer->signed_first = at;
	authority_charge(at);
	if (at->kind == P2P__V1__RECORD_KIND__RECORD_GENESIS)
		genesis_apply(authority, at);
	else if (at->kind == P2P__V1__RECORD_KIND__RECORD_CERTIFICATE)
		certificate_apply(at);
	else
		record_weigh(authority, &changes, at);
	changes_follow(authority, &changes);
}

static void record_unapply(struct authority_record *at)
{
	at->counts = false;
	at->next_signed = at->next_in_group = NULL;
	p2p_list_init(&at->head);
}

void authority_unapply(struct p2p_authority *authority)
{
	size_t i;

	for (i = 0; i < authority->count; i++)
		record_unapply(authority->records[i]);
	for (i = 0; i < authority->nodes.count; i++) {
		struct authority_node *node = authority->nodes.items[i];

		node->admission = node->signed_first = NULL;
		node->depth = 0;
		node->parent = &authority->strangers;
		memset(&node->use, 0, sizeof(node->use));
		node->certificate_count = 0;
		p2p_list_init(&node->heads);
		p2p_list_init(&node->headed);
	}
	memset(&authority->strangers.use, 0, sizeof(authority->strangers.use));
	for (i = 0; i < authority->replicas.count; i++)
		((struct authority_group *)authority->replicas.items[i])->first = NULL;
	for (i = 0; i < authority->tables.count; i++) {
		struct authority_group *table = authority->tables.items[i];

		table->first = table->in_force = NULL;
	}
	p2p_index_clear(&authority->named);
	p2p_index_clear(&authority->followed);
	p2p_list_init(&authority->headed);
	authority->member_count = 0;
	authority->members_stale = true;
}
