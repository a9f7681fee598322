/* What the files of capture share: capture.c (life, fold), capture_scan.c (journal to keys),
 * capture_row.c (a row against what is known of it), capture_keys.c (keys with references),
 * capture_refs.c (references), capture_loosen.c (rows whose parent went), capture_count.c
 * (counters), capture_numbers.c (permanent numbers), capture_yields.c (rows that are kept out give
 * way) with capture_view.c (what a plan sees), capture_freeze.c (into the side log),
 * capture_replay.c (back from the side log). */
#ifndef P2P_CRDT_CAPTURE_PRIVATE_H
#define P2P_CRDT_CAPTURE_PRIVATE_H

#include "crdt/capture.h"
#include "crdt/counters.h"
#include "crdt/numbers.h"
#include "crdt/overlay.h"
#include "crdt/touched.h"
#include "crdt/unique.h"

struct sqlite3_stmt;

/* Changes that may share a stamp: ordinal n is turns[n - 1]. */
struct capture_turn {
	int64_t ms; /* Unix: of its latest change */
	int64_t first_ms;
	bool cut; /* a read snapshot ended after it, and nothing of it went along with later ones */
};

/* Finds which row shows a number of one table, for one pass. */
struct capture_finder {
	struct p2p_table *table; /* borrowed */
	struct p2p_apptable app;
	struct p2p_numbers numbers;
	struct sqlite3_stmt **parents; /* owned: by FOREIGN KEY by value; crdt/capture_values.c */
};

struct capture_numbers {
	int64_t *items; /* owned */
	size_t count, cap;
};

/* Rows of a query, by the values of their key. */
struct capture_each {
	int (*row)(void *ctx, struct p2p_table *table, const struct p2p_value *key);
	void *ctx;
};

/* Who a number of a table means, for many children in a row. */
struct capture_target {
	const struct p2p_table *table; /* NULL: none yet */
	int64_t number;
	bool loose; /* nobody */
	struct p2p_buf key;
};

struct p2p_capture {
	struct p2p_capture_config config;
	struct p2p_overlay overlay;
	struct p2p_touched touched;
	struct p2p_vv_entry head;
	struct p2p_hlc clock;
	uint32_t own;		    /* small number of the own replica */
	int64_t position;	    /* journal id */
	uint64_t null_keys;	    /* rows with a NULL key that were passed over */
	struct capture_turn *turns; /* owned */
	size_t turn_count, turn_cap;
	size_t provisional;
	uint32_t scan;	    /* counts those that found something in the journal */
	bool displaced_due; /* one of them did while rows were provisional */
	/* numbers that renumbered rows do not show yet are in this range; empty: from > to */
	int64_t given_from, given_to;
	bool given_twice;		 /* an application took one of them for a new row */
	struct p2p_numbering numbering;	 /* as it was last */
	struct capture_finder **finders; /* owned */
	size_t finder_count;
	/* rows that were there when their table was enabled are taken in slices; numbers of those
	 * of one table that are still to come */
	bool slices;
	uint32_t present_table;		/* 0: none */
	struct p2p_buf present_numbers; /* sorted */
	struct p2p_overlay_row **died;	/* owned: in this scan, of tables whose rows have numbers */
	size_t died_count, died_cap;
	struct capture_target target;
	size_t last_target;	/* while it is replayed: place + 1 in targets */
	struct p2p_buf targets; /* identities that the cells of a record refer to */
	/* scratch of the row that is looked at */
	struct p2p_rowstate state;
	struct p2p_buf key, bytes, body, yields;
	uint64_t *hashes;	/* owned: P2P_COLUMNS_MAX, by column index */
	bool *canonical;	/* owned: the key column has the value of the identity */
	bool *dangles;		/* owned: the column's FOREIGN KEY by value has no parent */
	struct p2p_cell *cells; /* owned: P2P_COLUMNS_MAX */
	struct p2p_counters counters;
	bool present; /* it was there when its table was enabled */
	bool stale;   /* memory is not what log and file say */
};

/* capture.c */
int p2p_capture_error(const struct p2p_capture *capture, struct p2p_error *err, int rc,
		      const char *what);
void p2p_capture_drop_finders(struct p2p_capture *capture);
/* Begins a read transaction whose snapshot has the schema of the store's tables. P2P_CAPTURE_MOVED:
 * it has another, and none is open. */
int p2p_capture_snapshot(struct p2p_capture *capture, struct p2p_error *err) P2P_MUST_CHECK;
/* capture_scan.c: inside a read transaction. */
/* The turn of a change at this time; it may go on with the last one. */
int p2p_capture_turn(struct p2p_capture *capture, int64_t ms, p2p_ordinal *out) P2P_MUST_CHECK;
/* Encodes an entry's key into capture->key, with numbers as they are: it only says which entries
 * are of one row. P2P_IDENTITY_NULL_KEY. */
int p2p_capture_entry_key(struct p2p_capture *capture, const struct p2p_table *table,
			  const struct p2p_journal_entry *entry) P2P_MUST_CHECK;
/* An entry's key is among the touched ones. P2P_IDENTITY_NULL_KEY. */
int p2p_capture_touch(struct p2p_capture *capture, const struct p2p_table *table,
		      const struct p2p_journal_entry *entry) P2P_MUST_CHECK;
/* Captures the touched rows, and there are none then. */
int p2p_capture_touched(struct p2p_capture *capture) P2P_MUST_CHECK;
/* capture_keys.c: before any touched row is captured. */
int p2p_capture_keys(struct p2p_capture *capture) P2P_MUST_CHECK;
/* Has any table a key with references? */
bool p2p_capture_key_references(const struct p2p_capture *capture);
/* Rows of tables with a lesser rank are captured first: keys of this one refer to them. */
uint32_t p2p_capture_rank(const struct p2p_capture *capture, const struct p2p_table *table);
int p2p_capture_scan(struct p2p_capture *capture, bool *out_more) P2P_MUST_CHECK;
/* capture_row.c: one touched key, in the turn `ordinal`. */
int p2p_capture_row(struct p2p_capture *capture, struct p2p_table *table,
		    const struct p2p_touch *touch, p2p_ordinal ordinal) P2P_MUST_CHECK;
/* An overlay row is not there any more. */
int p2p_capture_row_died(struct p2p_capture *capture, const struct p2p_table *table,
			 struct p2p_overlay_row *row, p2p_ordinal ordinal) P2P_MUST_CHECK;
/* capture_displaced.c */
/* Rows that are captured and not frozen, and that INSERT OR REPLACE then pushed out through a
 * UNIQUE index (no trigger of ours fires): they died. Inside a read transaction, after the scan.
 * Nothing is looked at when what is to be frozen was found by the last scan. */
int p2p_capture_displaced(struct p2p_capture *capture) P2P_MUST_CHECK;
/* What finds the rows of a table by number; kept until p2p_capture_drop_finders(). */
int p2p_capture_finder(struct p2p_capture *capture, struct p2p_table *table,
		       struct capture_finder **out) P2P_MUST_CHECK;
/* The row is provisional from now on, or no longer. */
void p2p_capture_provisional_set(struct p2p_capture *capture, struct p2p_overlay_row *row, bool is);
/* A cell goes into this turn. */
void p2p_capture_cell_turn(struct p2p_capture *capture, struct p2p_overlay_row *row, uint32_t slot,
			   p2p_ordinal ordinal);
/* The overlay's row of an identity, added with the state that the file has if it is not there. */
int p2p_capture_take(struct p2p_capture *capture, const struct p2p_table *table, const void *key,
		     size_t key_len, struct p2p_overlay_row **out) P2P_MUST_CHECK;
/* capture_count.c: cells of counter columns of a record that is about to be frozen get the own
 * total for a value, where they count. */
int p2p_capture_count(struct p2p_capture *capture, struct p2p_table *table,
		      struct p2p_overlay_row *row, struct p2p_record *record) P2P_MUST_CHECK;
/* The record says that the row was deleted: adds what others had counted in the life that ended. */
int p2p_capture_count_end(struct p2p_capture *capture, struct p2p_table *table,
			  const struct p2p_overlay_row *row,
			  struct p2p_record *record) P2P_MUST_CHECK;
/* A frozen one comes back; value: as it is in the record, then as the row shows it. */
struct p2p_counted_cell {
	uint32_t column; /* of the table */
	enum p2p_cell_tag tag;
	bool born;
	uint64_t stamp;
};
int p2p_capture_count_replay(struct p2p_capture *capture, struct p2p_table *table,
			     struct p2p_overlay_row *row, const struct p2p_counted_cell *from,
			     struct p2p_value *value) P2P_MUST_CHECK;
/* Writes what was frozen; before the row state, whose hashes it may set. */
int p2p_capture_count_fold(struct p2p_capture *capture, struct p2p_table *table,
			   struct p2p_overlay_row *row) P2P_MUST_CHECK;
/* The row that showed a number when the table was last looked at, generated identity: encoded, it
 * replaces out. P2P_ENOENT: none did. */
int p2p_capture_row_of_number(struct p2p_capture *capture, struct p2p_table *table, int64_t number,
			      struct p2p_buf *out) P2P_MUST_CHECK;

/* capture_refs.c. Values of the key columns under which the row is shown. key:
 * P2P_KEY_COLUMNS_MAX. P2P_ENOENT: a row that it refers to has no number. */
int p2p_capture_key(struct p2p_capture *capture, const struct p2p_table *table,
		    const struct p2p_overlay_row *row, struct p2p_value *key) P2P_MUST_CHECK;
/* Parent of a column that is a reference; NULL: it is none, or the parent is not here. */
struct p2p_table *p2p_capture_parent(const struct p2p_capture *capture,
				     const struct p2p_table *table, uint32_t column);
/* A row of this identity is alive and in the table. Uses capture->state. */
int p2p_capture_lives(struct p2p_capture *capture, const struct p2p_table *table, const void *key,
		      size_t len, bool *out) P2P_MUST_CHECK;
/* Encoded identity of the row with this key, of a table without generated identity: that of the row
 * that is known to show it (*out_lives), or that a new row has. P2P_IDENTITY_NULL_KEY. */
int p2p_capture_key_identity(struct p2p_capture *capture, const struct p2p_table *table,
			     const struct p2p_value *values, struct p2p_buf *out,
			     bool *out_lives) P2P_MUST_CHECK;
/* The row of a table with a lone INTEGER PRIMARY KEY that shows a number. P2P_ENOENT. */
int p2p_capture_at(struct p2p_capture *capture, struct p2p_table *table, int64_t number,
		   struct p2p_buf *out) P2P_MUST_CHECK;
/* And back. P2P_ENOENT. */
int p2p_capture_number_of(struct p2p_capture *capture, struct p2p_table *table, const void *key,
			  size_t len, int64_t *out) P2P_MUST_CHECK;
/* A cell that was read from the table: a reference says whose number it is. After the last cell of
 * a record done() puts the identities where they belong. */
int p2p_capture_cell(struct p2p_capture *capture, const struct p2p_table *table,
		     struct p2p_overlay_row *row, struct p2p_cell *cell) P2P_MUST_CHECK;
int p2p_capture_cells_done(struct p2p_capture *capture, struct p2p_record *record) P2P_MUST_CHECK;

/* capture_loosen.c */
int p2p_capture_numbers_add(struct capture_numbers *numbers, int64_t number) P2P_MUST_CHECK;
/* Rows in which a column of a table has one of the numbers. */
int p2p_capture_children(struct p2p_capture *capture, struct p2p_table *table, uint32_t column,
			 const struct capture_numbers *numbers,
			 const struct capture_each *each) P2P_MUST_CHECK;
/* Notes a row with a number that died; loosen() then says anew what its children refer to. */
int p2p_capture_died(struct p2p_capture *capture, struct p2p_overlay_row *row) P2P_MUST_CHECK;
int p2p_capture_loosen(struct p2p_capture *capture) P2P_MUST_CHECK;

/* capture_numbers.c: own rows that show a temporary number get a permanent one, as a change of
 * their own. Inside a read transaction, everything captured. */
int p2p_capture_number(struct p2p_capture *capture, struct p2p_freeze *freeze) P2P_MUST_CHECK;
/* No row has a number that it does not show: the overlay is empty. */
static inline void p2p_capture_number_none(struct p2p_capture *capture)
{
	capture->given_from = INT64_MAX;
	capture->given_to = INT64_MIN;
	capture->given_twice = false;
}
/* Notes that the row has a number that it does not show yet. */
void p2p_capture_number_given(struct p2p_capture *capture, struct p2p_overlay_row *row);
/* The application made a row under this number. */
void p2p_capture_number_taken(struct p2p_capture *capture, uint32_t table, int64_t number);
/* Rows whose number went that way get another one. After the scan. */
int p2p_capture_number_again(struct p2p_capture *capture) P2P_MUST_CHECK;
/* capture_yields.c: rows that are kept out give way where else what was captured would push a row
 * out of the table. Inside a read transaction, everything captured. */
int p2p_capture_yields(struct p2p_capture *capture) P2P_MUST_CHECK;
/* What the row yields in this turn; borrowed until the next one. */
int p2p_capture_yields_put(struct p2p_capture *capture, const struct p2p_overlay_row *row,
			   p2p_ordinal ordinal, struct p2p_record *record) P2P_MUST_CHECK;
/* After the row's references. */
int p2p_capture_yields_fold(struct p2p_capture *capture, const struct p2p_table *table,
			    const struct p2p_overlay_row *row) P2P_MUST_CHECK;

/* capture_view.c: one table, as captured. After a failed init(), too, deinit(). */
struct capture_view {
	struct p2p_capture *capture; /* borrowed, like the next two */
	struct p2p_table *table;
	struct capture_finder *finder;
	struct p2p_uniques uniques;
	/* the row that was taken up last */
	struct p2p_rowstate state;
	struct p2p_cells cells, stored;
	struct p2p_buf key, values, targets;
	struct p2p_store_yield *yields; /* owned */
	size_t yield_count;
	bool shown;
};
int p2p_capture_view_init(struct capture_view *view, struct p2p_capture *capture,
			  struct p2p_table *table) P2P_MUST_CHECK;
void p2p_capture_view_deinit(struct capture_view *view);
/* For plans about rows of this table; ctx is the view. */
void p2p_capture_view_plan(struct capture_view *view, struct p2p_plan_view *out);
/* capture_replay.c: sets position, head and clock, and fills the overlay from the side log. */
int p2p_capture_replay(struct p2p_capture *capture) P2P_MUST_CHECK;

/* The claim of a row to its number. */
static inline uint32_t capture_number_slot(const struct p2p_table *table)
{
	return table->columns[table->key[0]].slot;
}

static inline bool capture_is_number(const struct p2p_table *table, uint32_t column)
{
	return table->generated_identity && column == table->key[0];
}

/* capture_values.c: FOREIGN KEYs by value. */
/* Which columns of the row that stmt stands on dangle, into capture->dangles, before its cells are
 * frozen in turn `ordinal`: a key column that alone can say so is among them then. */
int p2p_capture_values(struct p2p_capture *capture, struct p2p_table *table,
		       struct p2p_overlay_row *row, p2p_ordinal ordinal,
		       struct sqlite3_stmt *stmt) P2P_MUST_CHECK;
/* A cell that is about to be frozen: loose if its column dangles. */
int p2p_capture_value_cell(struct p2p_capture *capture, const struct p2p_table *table,
			   struct p2p_overlay_row *row, struct p2p_cell *cell) P2P_MUST_CHECK;
/* Rows of the table died, or have other values (capture->died): calls with the key and a column of
 * each row of other tables whose FOREIGN KEY by value dangles now. */
int p2p_capture_values_left(struct p2p_capture *capture, struct p2p_table *parent,
			    int (*each)(void *ctx, struct p2p_table *table, uint32_t column,
					const struct p2p_value *key),
			    void *ctx) P2P_MUST_CHECK;
void p2p_capture_values_drop(struct capture_finder *finder);

#endif
