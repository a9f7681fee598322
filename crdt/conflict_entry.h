/* An entry of p2p_conflict in the making, and how rows and values are told in it: as JSON. */
#ifndef P2P_CRDT_CONFLICT_ENTRY_H
#define P2P_CRDT_CONFLICT_ENTRY_H

#include "crdt/authority.h"
#include "crdt/record.h"
#include "crdt/rowwork.h"
#include "crdt/store_refs.h"
#include "proto/json.h"

/* What p2p_conflict has in `more`, one after the other: this, varint slot, and */
enum p2p_conflict_more {
	P2P_CONFLICT_REFERENCE = 1, /* varint table, bytes identity: a reference that lost */
	P2P_CONFLICT_COUNTED = 2,   /* zigzag: was added to a counter */
};

/* What a cell holds: a value, or a row that it refers to. Borrowed. */
struct p2p_conflict_side {
	const struct p2p_value *value;
	struct p2p_rowref row; /* table NULL: none */
};

struct p2p_conflict_entry {
	const char *kind;
	struct p2p_target *target; /* borrowed */
	struct p2p_clock origin;   /* of the lost side */
	struct p2p_buf kept, lost; /* JSON */
	struct p2p_json kept_json, lost_json;
	struct p2p_cells cells; /* lost values, borrowed */
	struct p2p_buf more;	/* lost references, and what was added to counters */
	const char *reason;	/* borrowed; NULL: none */
	int64_t id;		/* of the one that it takes the place of; 0: none */
	size_t count;
};

/* Where an entry goes. All borrowed. authority NULL: origins are replica ids. */
struct p2p_conflict_place {
	const struct p2p_authority *authority;
	const struct p2p_buf *key; /* encoded identity of the row */
	const int64_t *number;	   /* it claims, or, of one that lost, claimed; NULL: not known */
};

int p2p_conflict_entry_init(struct p2p_conflict_entry *entry, struct p2p_target *target,
			    const char *kind) P2P_MUST_CHECK;
void p2p_conflict_entry_deinit(struct p2p_conflict_entry *entry);
/* A value is borrowed until the entry is stored. */
int p2p_conflict_entry_lose(struct p2p_conflict_entry *entry, uint32_t column,
			    const struct p2p_conflict_side *side) P2P_MUST_CHECK;
int p2p_conflict_entry_keep(struct p2p_conflict_entry *entry, uint32_t column,
			    const struct p2p_conflict_side *side) P2P_MUST_CHECK;
/* What was added to a counter; value: what the row showed, NULL: not known. */
void p2p_conflict_entry_count(struct p2p_conflict_entry *entry, uint32_t column, int64_t added,
			      const struct p2p_value *value);
/* Writes it, if anything was lost; row: JSON. One that is too big to be shown is not listed. */
int p2p_conflict_entry_store(struct p2p_conflict_entry *entry,
			     const struct p2p_conflict_place *place,
			     const struct p2p_buf *row) P2P_MUST_CHECK;

/* What the row in work holds, whose cells and references are whole. false: nothing. */
bool p2p_conflict_side_of(const struct p2p_rowwork *work, const struct p2p_target *target,
			  uint32_t column, struct p2p_conflict_side *out);
/* What a record's cell says; value: as the column stores it; scratch keeps a reference. */
int p2p_conflict_side_cell(const struct p2p_cell *cell, const struct p2p_value *value,
			   const struct p2p_reference *reference, struct p2p_target *target,
			   struct p2p_conflict_side *out, struct p2p_buf *scratch) P2P_MUST_CHECK;
bool p2p_conflict_side_equal(const struct p2p_conflict_side *a, const struct p2p_conflict_side *b);

/* Key values of the row in work, as its table shows them. */
int p2p_conflict_entry_row(struct p2p_rowwork *work, struct p2p_target *target,
			   struct p2p_buf *out) P2P_MUST_CHECK;
/* {"name": number} of the column that has the row's number; NULL: null. */
int p2p_conflict_entry_number(const struct p2p_table *table, const int64_t *number,
			      struct p2p_buf *out) P2P_MUST_CHECK;
/* Node that a replica belongs to, or the replica, in hexadecimal. */
void p2p_conflict_entry_origin(const struct p2p_authority *authority, const struct p2p_id *replica,
			       char out[2 * P2P_KEY_BYTES + 1]);

#endif
