/* What the files of the plan share: plan.c (rows, UNIQUE), plan_groups.c (who claims
 * the same), plan_foreign.c (FOREIGN KEY). */
#ifndef P2P_CRDT_PLAN_PRIVATE_H
#define P2P_CRDT_PLAN_PRIVATE_H

#include "crdt/plan.h"

struct p2p_plan_rows {
	struct p2p_plan_row **items; /* owned by whoever has the list */
	size_t count, cap;
};

/* All that is known of one claim, or of one name by which rows are referred to. */
struct p2p_plan_group {
	uint32_t table;
	struct p2p_id hash;
	uint32_t next;		  /* index + 1 in the bucket */
	uint32_t first;		  /* index + 1 of an entry: of all */
	uint32_t first_unique;	  /* the same, of rows that are unique, or were: few */
	bool held, others, freed; /* the view was asked: once, for it holds still */
};

/* A claim, or a name, of a loaded row. */
struct p2p_plan_entry {
	struct p2p_plan_row *row;
	uint32_t group;
	uint32_t next, next_unique; /* index + 1 in the group */
	bool listed_unique;
};

struct p2p_plan_freed {
	uint32_t table;
	struct p2p_id hash;
};

struct p2p_plan {
	struct p2p_plan_view view;
	struct p2p_plan_row **rows; /* owned, in the order they came in */
	size_t count, cap;
	struct p2p_plan_row **buckets; /* owned */
	size_t bucket_count;
	struct p2p_plan_row **heap; /* owned: to be decided */
	size_t heap_count, heap_cap;
	struct p2p_plan_entry *entries; /* owned */
	size_t entry_count, entry_cap;
	struct p2p_plan_group *groups; /* owned, with the buckets behind them */
	uint32_t *group_heads;
	size_t group_count, group_cap, group_buckets;
	struct p2p_plan_freed *freed; /* owned */
	size_t freed_count, freed_cap;
	struct p2p_plan_row **list; /* owned: the answer */
	size_t list_count;
};

/* NULL: not known to the plan. */
struct p2p_plan_row *p2p_plan_find(const struct p2p_plan *plan, uint32_t table, const void *key,
				   size_t len);
/* Known and loaded from now on. */
int p2p_plan_get(struct p2p_plan *plan, uint32_t table, const void *key, size_t len,
		 struct p2p_plan_row **out) P2P_MUST_CHECK;
/* Who chooses these bytes does not choose where they are put. */
uint64_t p2p_plan_hash(const struct p2p_plan *plan, uint32_t table, const uint8_t *bytes,
		       size_t len);

/* plan_groups.c */
/* NULL: nobody claims it yet. */
struct p2p_plan_group *p2p_plan_group_find(const struct p2p_plan *plan, uint32_t table,
					   const struct p2p_id *hash);
/* Stays where it is until the next call. */
int p2p_plan_group_get(struct p2p_plan *plan, uint32_t table, const struct p2p_id *hash,
		       struct p2p_plan_group **out) P2P_MUST_CHECK;
/* The row is unique from now on. */
void p2p_plan_row_unique(struct p2p_plan *plan, const struct p2p_plan_row *row);
/* All that a row that was just loaded claims, and its names. */
int p2p_plan_row_index(struct p2p_plan *plan, struct p2p_plan_row *row) P2P_MUST_CHECK;

/* A loaded row of that name is visible. */
bool p2p_plan_named(const struct p2p_plan *plan, uint32_t table, const struct p2p_id *name);
int p2p_plan_push(struct p2p_plan_rows *list, struct p2p_plan_row *row) P2P_MUST_CHECK;
/* After UNIQUE: which of the unique rows are visible. */
int p2p_plan_foreign(struct p2p_plan *plan) P2P_MUST_CHECK;

#endif
