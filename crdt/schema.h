/* Tables as the replicator sees them: which can be replicated, their key, columns, slots, schema
 * records.
 *
 * A table is described by what SQLite says (PRAGMA table_xinfo, index_list, sqlite_schema), never
 * by parsing SQL of our own. */
#ifndef P2P_CRDT_SCHEMA_H
#define P2P_CRDT_SCHEMA_H

#include <stdbool.h>

#include "crdt/record.h"
#include "proto/buf.h"
#include "proto/error.h"
#include "proto/ident.h"

struct sqlite3;

enum p2p_table_state {
	P2P_TABLE_LIVE,	   /* replicated and present here */
	P2P_TABLE_WAITING, /* replicated in the mesh, not (yet) in this file */
	P2P_TABLE_REFUSED, /* cannot be replicated; reason says why */
	P2P_TABLE_LOCAL,   /* could be, is not enabled */
};

enum p2p_collation { P2P_COLLATE_BINARY, P2P_COLLATE_NOCASE, P2P_COLLATE_RTRIM };

enum p2p_column_flags {
	P2P_COLUMN_KEY = 1,
	P2P_COLUMN_GENERATED = 2, /* computed by SQLite: not replicated */
	P2P_COLUMN_NOT_NULL = 4,
	P2P_COLUMN_COUNTER = 8,
	P2P_COLUMN_NAMED = 16, /* --ref names its parent, whatever is declared */
};

#define P2P_REFERENCE_NONE UINT32_MAX

struct p2p_column {
	char *name; /* owned; as declared */
	struct p2p_id id;
	uint32_t slot;		 /* index into rowstate cells; UINT32_MAX for generated columns */
	uint64_t default_hash;	 /* p2p_store_default_hash(); 0: not asked for yet */
	int64_t default_integer; /* p2p_store_default_integer(), when asked for */
	bool default_asked;
	uint32_t flags;
	uint32_t key_pos;	      /* 0-based place in the key, when KEY */
	enum p2p_collation collation; /* of key columns */
	uint32_t reference;	      /* index into the table's references, or NONE */
	struct p2p_id named;	      /* NAMED: table id of its parent */
	bool valued;		      /* of a FOREIGN KEY by value; filled in by the store */
	bool meant;		      /* a FOREIGN KEY by value means it; likewise */
	char affinity; /* 'A' blob/none, 'B' text, 'C' numeric, 'D' integer, 'E' real */
};

enum p2p_fk_action { P2P_FK_NO_ACTION, P2P_FK_SET_NULL, P2P_FK_SET_DEFAULT, P2P_FK_CASCADE };

/* A declared FOREIGN KEY, as PRAGMA foreign_key_list tells it. */
struct p2p_foreign {
	char *parent;	   /* owned: name of the table, as declared */
	uint32_t *columns; /* owned: child columns, count of them */
	char **to; /* owned, like what it points to: parent columns; NULL entries: its key */
	uint32_t count;
	enum p2p_fk_action on_delete; /* RESTRICT is NO_ACTION: a merge does not ask */
	/* Filled in by the store: a replicated parent, and no reference (crdt/valuekeys.h). */
	bool by_value;
	struct p2p_id parent_id;
	uint32_t *parents; /* owned: parent columns, beside columns */
};

/* A column that holds the identity of a row of another replicated table, or of its own: it shows
 * the number under which that row is shown, wherever it is. One that holds integers as such
 * (p2p_column_holds_numbers) and is a FOREIGN KEY by itself to a lone INTEGER PRIMARY KEY, or that
 * --ref names. */
enum p2p_instead { P2P_INSTEAD_NOTHING, P2P_INSTEAD_NULL, P2P_INSTEAD_NUMBER };

struct p2p_reference {
	uint32_t column;      /* index of the child column */
	struct p2p_id parent; /* table id */
	enum p2p_fk_action on_delete;
	bool declared; /* else by --ref alone */
	/* What it shows while the parent is not shown: a row that may show nothing is kept out. */
	enum p2p_instead instead;
	int64_t number; /* INSTEAD_NUMBER: the default; its row has to be shown */
};

struct p2p_table {
	uint32_t number; /* local, from 1; names the p2p_row_<number> table and journal entries */
	struct p2p_id id;
	char *name;   /* owned */
	char *reason; /* owned; why REFUSED, else NULL */
	enum p2p_table_state state;
	bool lone_number;	 /* its key is a lone INTEGER PRIMARY KEY */
	bool generated_identity; /* the same, but for one that is a reference (one to one) */
	bool without_rowid;
	bool has_unique;	    /* a UNIQUE index besides the key's */
	uint32_t counters;	    /* columns that count */
	struct p2p_column *columns; /* owned, in declared order */
	uint32_t column_count;
	struct p2p_id *dropped; /* owned: columns that were here once */
	uint32_t dropped_count;
	uint32_t slot_count; /* slots given out so far, dropped columns included */
	uint32_t key_count;
	uint32_t *key;		      /* owned: column indices in key order */
	struct p2p_foreign *foreigns; /* owned: all that are declared */
	uint32_t foreign_count;
	/* Owned; filled in by the store, which knows what is replicated. By column. */
	struct p2p_reference *references;
	uint32_t reference_count;
	bool key_references;	/* a key column is a reference */
	struct p2p_hash schema; /* hash of the schema record in force here */
};

/* Not one that the application dropped. */
static inline bool p2p_table_here(const struct p2p_table *table)
{
	return table->state != P2P_TABLE_WAITING || table->column_count > 0;
}

void p2p_table_deinit(struct p2p_table *table);

/* Reads one table of the file as it is now, without numbers and slots (all 0). Views, virtual
 * tables, shadow tables, tables without a key, keys with a collation of the application, names that
 * begin with sqlite_ or p2p_ and migration bookkeeping tables (design 4.5) come out REFUSED with
 * the reason and what to do in table->reason. P2P_ENOENT: no such object. P2P_ENOMEM, P2P_EIO,
 * P2P_ECORRUPT. */
int p2p_schema_read_table(struct sqlite3 *db, const char *name, struct p2p_table *out,
			  struct p2p_error *err) P2P_MUST_CHECK;
/* Calls each for every table, view and virtual table of the file in name order, also refused ones.
 * The callback takes over *table on 0; a non-zero result ends the walk and is returned. */
int p2p_schema_each(struct sqlite3 *db, int (*each)(void *ctx, struct p2p_table *table), void *ctx,
		    struct p2p_error *err) P2P_MUST_CHECK;

/* An integer that is written to the column is read back as one: INTEGER, NUMERIC, no type at all.
 * Not TEXT, and not REAL. */
bool p2p_column_holds_numbers(const struct p2p_column *column);
/* A FOREIGN KEY of a table is a reference to this parent, if that is the table it names. */
bool p2p_foreign_is_reference(const struct p2p_table *table, const struct p2p_foreign *foreign,
			      const struct p2p_table *parent);
/* Makes a column a reference; does nothing when it is one, or cannot be. P2P_ENOMEM. */
int p2p_reference_add(struct p2p_table *table,
		      const struct p2p_reference *reference) P2P_MUST_CHECK;

/* Why a column of a loaded table cannot be a counter; NULL: it can. */
const char *p2p_column_no_counter(const struct p2p_column *column);

/* Builds the body of a Schema record (proto) of a table: name, identity, columns with ids, the
 * CREATE texts of the table and its indexes as they stand in sqlite_schema. */
int p2p_schema_describe(struct sqlite3 *db, const struct p2p_table *table, struct p2p_buf *out_body,
			struct p2p_error *err) P2P_MUST_CHECK;
/* Checks the CREATE texts of a Schema body in an empty in-memory database under the authorizer
 * (decisions 59) and then creates table and indexes in db. P2P_EREFUSED names the reason: anything
 * but one CREATE TABLE and its CREATE [UNIQUE] INDEXes, foreign functions, reserved names, a
 * resulting sqlite_schema row that differs. P2P_EEXIST: the table is there already (nothing done).
 */
int p2p_schema_create(struct sqlite3 *db, const void *body, size_t len,
		      struct p2p_error *err) P2P_MUST_CHECK;

/* Only the checks. */
int p2p_schema_check(const void *body, size_t len, struct p2p_error *err) P2P_MUST_CHECK;
/* The same checks; then adds to the table of that name in db the columns and indexes that the body
 * has beyond it, as the CREATE text of the body has them. Nothing is ever dropped or changed. An
 * index that cannot be made (its name is taken, rows break it) is left out. P2P_EREFUSED: the text
 * is not ours with columns added, or SQLite does not add them; nothing was done. */
int p2p_schema_add(struct sqlite3 *db, const void *body, size_t len,
		   struct p2p_error *err) P2P_MUST_CHECK;

/* Text of a number: sign, 17 digits, point, exponent. */
#define P2P_NUMBER_TEXT_BYTES 64
/* Makes of a value what SQLite stores of it in a column of that affinity (datatype3.html, 3), so
 * that a value of a peer is the same on every node, whether its row can be shown or not. Values
 * that came out of such a column stay as they are; NaN becomes NULL. text: room for a number that
 * becomes TEXT, which borrows it then. P2P_ENOMEM. */
int p2p_value_as_stored(struct p2p_value *value, char affinity,
			char text[P2P_NUMBER_TEXT_BYTES]) P2P_MUST_CHECK;

/* Appends a value so that two have the same bytes exactly if SQLite compares them as equal in a
 * column of that affinity under that collation. */
int p2p_value_put_canonical(struct p2p_buf *out, const struct p2p_value *value, char affinity,
			    enum p2p_collation collation) P2P_MUST_CHECK;
/* Canonical identity bytes of a key: values folded as SQLite compares them (affinity applied,
 * NOCASE to lower case, RTRIM trimmed, integral REALs to INTEGER), encoded one after the other.
 * values in key order. Returns P2P_IDENTITY_NULL_KEY when one is NULL (such a row is not
 * replicated). */
#define P2P_IDENTITY_NULL_KEY 1
int p2p_identity_of_key(struct p2p_buf *out, const struct p2p_table *table,
			const struct p2p_value *values) P2P_MUST_CHECK;
/* A key column's part of an identity: a value, or, for a reference, the parent's row. */
struct p2p_key_part {
	bool reference;
	struct p2p_identity target; /* borrowed */
	struct p2p_value value;
};
/* The same with references: parts in key order. One that is loose is a value. */
int p2p_identity_of_parts(struct p2p_buf *out, const struct p2p_table *table,
			  const struct p2p_key_part *parts) P2P_MUST_CHECK;
/* The parts back, borrowed from key bytes; room for table->key_count. P2P_EPROTO. */
int p2p_identity_key_parts(const struct p2p_table *table, const void *key, size_t len,
			   struct p2p_key_part *parts) P2P_MUST_CHECK;
/* The canonical values back, borrowed from key bytes; room for table->key_count. P2P_EPROTO, also
 * when one is a reference. */
int p2p_identity_key_values(const struct p2p_table *table, const void *key, size_t len,
			    struct p2p_value *values) P2P_MUST_CHECK;

#endif
