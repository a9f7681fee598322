/* The slow honest twin of the merge: rules.md in plain arrays, no SQLite, nothing incremental.
 *
 * It keeps every record that it was given and computes everything from the set of them, each time
 * anew: first the merged rows, then numbers, then what UNIQUE lets through. Written apart from
 * crdt/, of which it uses only records, identities and values. */
#ifndef P2P_TESTS_PROPERTY_TWIN_H
#define P2P_TESTS_PROPERTY_TWIN_H

#include <stdbool.h>

#include "crdt/record.h"

#define TWIN_COLUMNS_MAX 6
#define TWIN_UNIQUES_MAX 2

/* What a table is. */
struct twin_table {
	struct p2p_id id;
	const char *name;
	bool generated; /* column 0 is the number */
	uint32_t column_count;
	uint32_t key_count;		    /* columns 0..key_count-1 are the key */
	uint32_t uniques[TWIN_UNIQUES_MAX]; /* bit sets of columns; 0: none */
	struct p2p_value defaults[TWIN_COLUMNS_MAX];
};

struct twin_cell {
	bool written;
	struct p2p_clock clock;
	struct p2p_value value;
};

/* One row of the merged state. */
struct twin_row {
	const struct twin_table *table;
	struct p2p_identity identity; /* borrowed from the record */
	uint64_t causal_length;
	bool born;
	struct p2p_clock clock; /* of the greatest birth, or delete */
	struct twin_cell cells[TWIN_COLUMNS_MAX];
	int64_t number; /* shown, generated identities */
	bool temporary;
	bool complete; /* takes part in projections */
	bool shown;
};

struct twin {
	const struct twin_table *tables; /* borrowed */
	size_t table_count;
	struct twin_row *rows; /* owned */
	size_t count, cap;
};

void twin_init(struct twin *twin, const struct twin_table *tables, size_t count);
void twin_deinit(struct twin *twin);
/* Forgets all. */
void twin_clear(struct twin *twin);
/* Merges a record; its bytes are borrowed until clear. Column indices are those of the table. */
void twin_add(struct twin *twin, uint32_t table, const struct p2p_record *record,
	      const struct p2p_clock *clock);
/* Fills complete, number, temporary and shown of all rows. */
void twin_project(struct twin *twin);
/* Row of an identity, NULL when no record named it. */
const struct twin_row *twin_find(const struct twin *twin, uint32_t table,
				 const struct p2p_identity *identity);

#endif
