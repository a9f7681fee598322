/* The slow honest twin of the merge: rules.md in plain arrays, no SQLite, nothing incremental.
 *
 * It keeps the merged state of every record that it was given and computes what the application's
 * tables show from that alone, each time anew: first numbers, then what UNIQUE lets through, then
 * the greatest set of rows whose references hold. Written apart from crdt/, of which it uses only
 * records, identities and values. */
#ifndef P2P_TESTS_PROPERTY_TWIN_H
#define P2P_TESTS_PROPERTY_TWIN_H

#include <stdbool.h>

#include "crdt/record.h"

#define TWIN_COLUMNS_MAX 6
#define TWIN_UNIQUES_MAX 3
#define TWIN_FOREIGN_MAX 2
#define TWIN_TOTALS_MAX	 32

/* What a row does while a row that it references is not shown. */
enum twin_action {
	TWIN_PARKS,	   /* NO ACTION, RESTRICT, CASCADE */
	TWIN_SHOWS_NULL,   /* SET NULL */
	TWIN_SHOWS_DEFAULT /* SET DEFAULT */
};

struct twin_foreign {
	uint32_t count; /* columns; 0: none */
	uint32_t parent;
	uint32_t columns[2], parents[2];
	enum twin_action action;
	bool follows; /* one column, that holds the identity of its target */
};

struct twin_unique {
	uint32_t columns; /* set of bits; 0: none */
	uint32_t clocks;  /* columns besides these that say when the claim was made */
	bool nocase;
	/* Partial: the rows that claim; NULL: all. */
	bool (*where)(const struct p2p_value *values);
	struct p2p_id id; /* as yields name it */
};

/* What a table is. */
struct twin_table {
	struct p2p_id id;
	const char *name;
	bool generated; /* column 0 is the number */
	uint32_t column_count;
	uint32_t key_count; /* columns 0..key_count-1 are the key */
	uint32_t not_null;  /* set of bits */
	uint32_t counters;  /* set of bits */
	uint32_t integers;  /* set of bits: columns that nothing else can be stored in */
	struct twin_unique uniques[TWIN_UNIQUES_MAX];
	struct twin_foreign foreign[TWIN_FOREIGN_MAX];
	struct p2p_value defaults[TWIN_COLUMNS_MAX];
};

struct twin_cell {
	bool written;
	enum p2p_cell_tag tag;
	struct p2p_clock clock;
	struct p2p_value value;
	struct p2p_identity reference;
};

struct twin_yield {
	bool set;
	struct p2p_clock clock;
};

/* One replica's running total of a counter. */
struct twin_total {
	uint32_t column;
	struct p2p_clock clock;
	int64_t total;
};

/* One row of the merged state. */
struct twin_row {
	const struct twin_table *table;
	struct p2p_identity identity; /* borrowed from the record */
	uint64_t causal_length;
	bool born;
	struct p2p_clock clock;			/* of the greatest birth, or delete */
	struct twin_cell key[TWIN_COLUMNS_MAX]; /* of a key: what the identity says */
	struct twin_cell cells[TWIN_COLUMNS_MAX];
	struct twin_yield yields[TWIN_UNIQUES_MAX + 1]; /* the last: for its number */
	struct twin_total totals[TWIN_TOTALS_MAX];
	size_t total_count;
	/* projected */
	bool complete; /* takes part */
	int64_t number;
	bool temporary;
	struct p2p_value values[TWIN_COLUMNS_MAX]; /* references as numbers */
	uint32_t unresolved;			   /* set of references to rows that are none */
	bool unique;				   /* not parked for a UNIQUE constraint */
	bool shown;
	struct p2p_value seen[TWIN_COLUMNS_MAX]; /* in the table, when shown */
};

struct twin {
	const struct twin_table *tables; /* borrowed */
	size_t table_count;
	struct twin_row *rows; /* owned */
	size_t count, cap;
};

/* A value that a row claims under a constraint. */
struct twin_claim {
	struct p2p_clock clock;
	bool yielded; /* comes after any other of the same clock */
};

void twin_init(struct twin *twin, const struct twin_table *tables, size_t count);
void twin_deinit(struct twin *twin);
/* Forgets all. */
void twin_clear(struct twin *twin);
/* Makes the target equal; it was initialised. Records stay borrowed. */
void twin_copy(struct twin *target, const struct twin *source);
/* Merges a record; its bytes are borrowed until clear. Column indices are those of the table. */
void twin_add(struct twin *twin, uint32_t table, const struct p2p_record *record,
	      const struct p2p_clock *clock);
/* Fills what is projected of all rows. */
void twin_project(struct twin *twin);
/* Row of an identity, NULL when no record named it. */
struct twin_row *twin_find(const struct twin *twin, uint32_t table,
			   const struct p2p_identity *identity);
/* The FOREIGN KEY by which a column names rows; NULL: none. */
const struct twin_foreign *twin_follows(const struct twin_table *table, uint32_t column);
/* The row claims a value under this constraint (an index), and since when. */
bool twin_claims(const struct twin_row *row, size_t unique, struct twin_claim *out);
/* Since when it claims its number. */
void twin_claims_number(const struct twin_row *row, struct twin_claim *out);
int twin_claim_cmp(const struct twin_claim *a, const struct twin_claim *b);
/* Both claim a value, and it is the same. */
bool twin_clash(const struct twin_row *a, const struct twin_row *b, size_t unique);
/* As SQLite compares values without a collation: 1 is 1.0. */
bool twin_value_same(const struct p2p_value *a, const struct p2p_value *b, bool nocase);
bool twin_identity_same(const struct p2p_identity *a, const struct p2p_identity *b);
/* Order of rows of one table with numbers. */
int twin_row_id_cmp(const struct twin_row *a, const struct twin_row *b);

#endif
