/* An entry of p2p_conflict in the making, and how rows and values are told in it: as JSON. */
#ifndef P2P_CRDT_CONFLICT_ENTRY_H
#define P2P_CRDT_CONFLICT_ENTRY_H

#include "crdt/authority.h"
#include "crdt/rowwork.h"
#include "proto/json.h"

struct p2p_conflict_entry {
	const char *kind;
	const struct p2p_table *table; /* borrowed */
	struct p2p_clock origin;       /* of the lost side */
	struct p2p_buf kept, lost;     /* JSON */
	struct p2p_json kept_json, lost_json;
	struct p2p_cells cells; /* lost ones, borrowed */
	size_t count;
};

/* Where an entry goes. All borrowed. authority NULL: origins are replica ids. */
struct p2p_conflict_place {
	struct p2p_target *target;
	const struct p2p_authority *authority;
	const struct p2p_buf *key; /* encoded identity of the row */
	int64_t number;		   /* it claims, or, of a number that lost, claimed */
};

int p2p_conflict_entry_init(struct p2p_conflict_entry *entry, const struct p2p_table *table,
			    const char *kind) P2P_MUST_CHECK;
void p2p_conflict_entry_deinit(struct p2p_conflict_entry *entry);
/* value is borrowed until the entry is stored. */
void p2p_conflict_entry_lose(struct p2p_conflict_entry *entry, uint32_t column,
			     const struct p2p_value *value);
void p2p_conflict_entry_keep(struct p2p_conflict_entry *entry, uint32_t column,
			     const struct p2p_value *value);
/* Writes it, if anything was lost; row: JSON. One that is too big to be shown is not listed. */
int p2p_conflict_entry_store(struct p2p_conflict_entry *entry,
			     const struct p2p_conflict_place *place,
			     const struct p2p_buf *row) P2P_MUST_CHECK;

/* Key values of the row in work, as its table shows them. */
int p2p_conflict_entry_row(struct p2p_rowwork *work, struct p2p_target *target,
			   struct p2p_buf *out) P2P_MUST_CHECK;
/* {"name": number} of the column that has the row's number. */
int p2p_conflict_entry_number(const struct p2p_table *table, int64_t number,
			      struct p2p_buf *out) P2P_MUST_CHECK;
/* Node that a replica belongs to, or the replica, in hexadecimal. */
void p2p_conflict_entry_origin(const struct p2p_authority *authority, const struct p2p_id *replica,
			       char out[2 * P2P_KEY_BYTES + 1]);

#endif
