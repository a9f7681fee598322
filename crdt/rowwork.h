/* One row on its way through a merge: its state, the values that won, and its place: in the
 * application's table, parked, or nowhere. */
#ifndef P2P_CRDT_ROWWORK_H
#define P2P_CRDT_ROWWORK_H

#include "crdt/apptable.h"
#include "crdt/checks.h"
#include "crdt/numbers.h"
#include "crdt/unique.h"

/* What a column of a FOREIGN KEY holds besides its value. */
enum p2p_refcell_kind {
	P2P_REFCELL_UNSET,
	P2P_REFCELL_PLAIN, /* an ordinary value, or NULL */
	P2P_REFCELL_ROW,   /* the identity of a row */
	P2P_REFCELL_LOOSE, /* a value that dangled where it was written */
};

struct p2p_refcell {
	enum p2p_refcell_kind kind;
	bool masked;	/* ROW, in the table: it shows something else */
	size_t at, len; /* ROW: encoded identity, in targets */
};

struct p2p_settle;
struct p2p_valuekey;

struct p2p_rowwork {
	struct p2p_identity identity; /* borrowed from the caller, or from key */
	struct p2p_buf key;	      /* p2p_identity_put() of it */
	struct p2p_rowstate state;
	int64_t number;		  /* claimed; generated identity */
	struct p2p_cells cells;	  /* values to write: borrowed from the record or from `values` */
	struct p2p_buf values;	  /* encoded values of a row that is not (any more) in the table */
	struct p2p_cells stored;  /* read back */
	struct p2p_refcell *refs; /* owned; by column, none for tables without FOREIGN KEYs */
	uint32_t ref_count, ref_cap;
	struct p2p_buf targets;
};

/* Which side tables have to do with a table; asked once in a transaction. */
struct p2p_gates {
	bool known;
	bool refs, refs_to, claims, yields;
};

/* A row that shows a number of its parent in a column. */
struct p2p_shown_child {
	int64_t number;
	size_t at; /* of its key's values, encoded */
};

/* A column without an index, read once while nothing is written. */
struct p2p_shown_children {
	uint64_t still;		       /* of the settle */
	size_t asked;		       /* for so many numbers, since then */
	bool known;		       /* else there are too many rows, or not enough numbers */
	struct p2p_shown_child *items; /* owned: by number, then as they were read */
	size_t count, cap;
	struct p2p_buf keys;
};

/* A column of another table that refers to this one. */
struct p2p_child_column {
	struct p2p_table *table; /* borrowed, like the target's */
	uint32_t reference;
	struct sqlite3_stmt *find; /* owned; NULL until needed */
	bool scans;		   /* no index finds the rows of a number */
	struct p2p_shown_children shown;
	struct p2p_child_column *next; /* of the settle's list: something is known of it */
};

/* What a merge keeps of one table. */
struct p2p_target {
	struct p2p_store *store; /* borrowed */
	struct p2p_table *table; /* borrowed until the store loads its tables again */
	struct p2p_apptable app;
	struct p2p_numbers numbers;
	struct p2p_uniques uniques;
	struct p2p_checks checks;
	struct p2p_settle *settle; /* borrowed */
	struct p2p_gates gates;
	struct p2p_child_column *children; /* owned */
	size_t child_count;
	struct p2p_valuekey *valuekeys; /* owned: crdt/valuekeys.h */
	size_t valuekey_count;
	uint8_t *named;		       /* owned: by column, 1 if a child refers to it by value */
	struct sqlite3_stmt **parents; /* owned: by FOREIGN KEY of the table */
	uint32_t table_foreigns;       /* of which there are statements */
	bool stands_in;		       /* a child shows its default for rows of this table */
	uint64_t waiting_round;	       /* of the settle, in which these were asked about */
	bool touched;		       /* parked rows may come back */
	uint64_t rows, parked;	       /* counted since they were last read */
};

void p2p_rowwork_init(struct p2p_rowwork *work);
void p2p_rowwork_deinit(struct p2p_rowwork *work);
/* Takes a row up: its state, or an empty one. No cells are set. identity is borrowed. */
int p2p_rowwork_load(struct p2p_rowwork *work, struct p2p_target *target,
		     const struct p2p_identity *identity) P2P_MUST_CHECK;
/* The same for an encoded identity, which is copied. */
int p2p_rowwork_load_key(struct p2p_rowwork *work, struct p2p_target *target, const void *key,
			 size_t key_len) P2P_MUST_CHECK;
int p2p_rowwork_save(struct p2p_rowwork *work, struct p2p_target *target) P2P_MUST_CHECK;
/* Key values under which the application's table shows the row. key: P2P_KEY_COLUMNS_MAX. */
int p2p_rowwork_key(struct p2p_rowwork *work, struct p2p_target *target,
		    struct p2p_value *key) P2P_MUST_CHECK;
/* The row's life ends: out of the table or of p2p_parked. The state is the caller's to change. */
int p2p_rowwork_remove(struct p2p_rowwork *work, struct p2p_target *target) P2P_MUST_CHECK;
/* A live row to where it belongs, with the cells that are set on top of what it has, if that can be
 * said at once; else it waits for the plan (crdt/settle.h). in_table: the row stands in the
 * application's table. Sets hashes and P2P_ROW_PARKED; does not save. */
int p2p_rowwork_place(struct p2p_rowwork *work, struct p2p_target *target,
		      bool in_table) P2P_MUST_CHECK;
/* Sets the cells that are not set to the values that the row has; they are then borrowed from
 * work->values. in_table as above. */
int p2p_rowwork_gather(struct p2p_rowwork *work, struct p2p_target *target,
		       bool in_table) P2P_MUST_CHECK;

/* A row that is about to be inserted gets an interim number if its own is another's: before
 * anything that refers to it shows that. */
int p2p_rowwork_number(struct p2p_rowwork *work, struct p2p_target *target) P2P_MUST_CHECK;
/* Inserts a row that is whole as far as it is known, under a number that is free: 0, or one of
 * P2P_APPTABLE_*, and nothing changed. Sets hashes and P2P_ROW_PARKED; does not save. */
int p2p_rowwork_insert(struct p2p_rowwork *work, struct p2p_target *target) P2P_MUST_CHECK;
/* Hashes of what SQLite stores now. all: also of columns that were not written. */
int p2p_rowwork_hashes(struct p2p_rowwork *work, struct p2p_target *target,
		       const struct p2p_value *key, bool all) P2P_MUST_CHECK;

#endif
