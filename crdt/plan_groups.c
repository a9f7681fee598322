/* Claims and names of the rows of a plan, found by what they are of; see plan_private.h. */
#include <string.h>

#include "crdt/plan_private.h"
#include "proto/mem.h"

/* Claims of the rows that are loaded, found by hash. */
static size_t group_bucket(const struct p2p_plan *plan, uint32_t table, const struct p2p_id *hash)
{
	return (size_t)p2p_plan_hash(plan, table, hash->bytes, sizeof(hash->bytes)) &
	       (plan->group_buckets - 1);
}

static int groups_grow(struct p2p_plan *plan)
{
	size_t cap = plan->group_cap ? plan->group_cap * 2 : 64, buckets = cap * 2, i;
	struct p2p_plan_group *groups;
	uint32_t *heads;

	/* one block: the groups, then the buckets */
	groups = p2p_calloc(1, cap * sizeof(*groups) + buckets * sizeof(*heads));
	if (!groups)
		return P2P_ENOMEM;
	heads = (uint32_t *)(void *)(groups + cap);
	if (plan->group_count)
		memcpy(groups, plan->groups, plan->group_count * sizeof(*groups));
	p2p_free(plan->groups);
	plan->groups = groups;
	plan->group_heads = heads;
	plan->group_cap = cap;
	plan->group_buckets = buckets;
	for (i = 0; i < plan->group_count; i++) {
		size_t at = group_bucket(plan, groups[i].table, &groups[i].hash);

		groups[i].next = heads[at];
		heads[at] = (uint32_t)i + 1;
	}
	return 0;
}

struct p2p_plan_group *p2p_plan_group_find(const struct p2p_plan *plan, uint32_t table,
					   const struct p2p_id *hash)
{
	uint32_t at = plan->group_buckets ? plan->group_heads[group_bucket(plan, table, hash)] : 0;

	for (; at; at = plan->groups[at - 1].next)
		if (plan->groups[at - 1].table == table &&
		    p2p_id_cmp(&plan->groups[at - 1].hash, hash) == 0)
			return &plan->groups[at - 1];
	return NULL;
}

int p2p_plan_group_get(struct p2p_plan *plan, uint32_t table, const struct p2p_id *hash,
		       struct p2p_plan_group **out)
{
	struct p2p_plan_group *group = p2p_plan_group_find(plan, table, hash);
	size_t at;
	int rc;

	*out = group;
	if (group)
		return 0;
	rc = plan->group_count == plan->group_cap ? groups_grow(plan) : 0;
	if (rc)
		return rc;
	group = &plan->groups[plan->group_count];
	at = group_bucket(plan, table, hash);
	group->table = table;
	group->hash = *hash;
	group->next = plan->group_heads[at];
	plan->group_heads[at] = (uint32_t)++plan->group_count;
	*out = group;
	return 0;
}

static void entry_unique(struct p2p_plan *plan, size_t at)
{
	struct p2p_plan_entry *entry = &plan->entries[at];
	struct p2p_plan_group *group = &plan->groups[entry->group];

	if (entry->listed_unique)
		return;
	entry->listed_unique = true;
	entry->next_unique = group->first_unique;
	group->first_unique = (uint32_t)at + 1;
}

void p2p_plan_row_unique(struct p2p_plan *plan, const struct p2p_plan_row *row)
{
	size_t i;

	for (i = 0; row->entry && i < row->claim_count + row->name_count; i++)
		entry_unique(plan, row->entry - 1 + i);
}

static int entry_add(struct p2p_plan *plan, struct p2p_plan_row *row, const struct p2p_id *hash)
{
	size_t cap = plan->entry_cap ? plan->entry_cap * 2 : 64;
	struct p2p_plan_entry *grown;
	struct p2p_plan_group *group;
	int rc = p2p_plan_group_get(plan, row->table, hash, &group);

	if (rc)
		return rc;
	if (plan->entry_count == plan->entry_cap) {
		grown = p2p_realloc(plan->entries, cap * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		plan->entries = grown;
		plan->entry_cap = cap;
	}
	grown = &plan->entries[plan->entry_count++];
	memset(grown, 0, sizeof(*grown));
	grown->row = row;
	grown->group = (uint32_t)(group - plan->groups);
	grown->next = group->first;
	group->first = (uint32_t)plan->entry_count;
	return 0;
}

int p2p_plan_row_index(struct p2p_plan *plan, struct p2p_plan_row *row)
{
	size_t i, first = plan->entry_count;
	int rc = 0;

	for (i = 0; i < row->claim_count && !rc; i++)
		rc = entry_add(plan, row, &row->claims[i].hash);
	for (i = 0; i < row->name_count && !rc; i++)
		rc = entry_add(plan, row, &row->names[i]);
	if (rc)
		return rc;
	row->entry = first + 1;
	if (row->unique)
		p2p_plan_row_unique(plan, row);
	return 0;
}
