/* What the files of capture share: capture.c (life, fold), capture_scan.c (journal to keys),
 * capture_row.c (a row against what is known of it), capture_count.c (counters),
 * capture_numbers.c (permanent numbers),
 * capture_freeze.c (into the side log), capture_replay.c (back from the side log). */
#ifndef P2P_CRDT_CAPTURE_PRIVATE_H
#define P2P_CRDT_CAPTURE_PRIVATE_H

#include "crdt/capture.h"
#include "crdt/counters.h"
#include "crdt/numbers.h"
#include "crdt/overlay.h"
#include "crdt/touched.h"

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
	/* numbers that renumbered rows do not show yet are in this range; empty: from > to */
	int64_t given_from, given_to;
	bool given_twice;		 /* an application took one of them for a new row */
	struct p2p_numbering numbering;	 /* as it was last */
	struct capture_finder **finders; /* owned */
	size_t finder_count;
	/* scratch of the row that is looked at */
	struct p2p_rowstate state;
	struct p2p_buf key, bytes, body;
	uint64_t *hashes;	/* owned: P2P_COLUMNS_MAX, by column index */
	bool *canonical;	/* owned: the key column has the value of the identity */
	struct p2p_cell *cells; /* owned: P2P_COLUMNS_MAX */
	struct p2p_counters counters;
	bool present; /* it was there when its table was enabled */
	bool stale;   /* memory is not what log and file say */
};

/* capture.c */
int p2p_capture_error(const struct p2p_capture *capture, struct p2p_error *err, int rc,
		      const char *what);
void p2p_capture_drop_finders(struct p2p_capture *capture);
/* capture_scan.c: inside a read transaction. */
/* The turn of a change at this time; it may go on with the last one. */
int p2p_capture_turn(struct p2p_capture *capture, int64_t ms, p2p_ordinal *out) P2P_MUST_CHECK;
int p2p_capture_scan(struct p2p_capture *capture, bool *out_more) P2P_MUST_CHECK;
/* capture_row.c: one touched key, in the turn `ordinal`. */
int p2p_capture_row(struct p2p_capture *capture, struct p2p_table *table,
		    const struct p2p_touch *touch, p2p_ordinal ordinal) P2P_MUST_CHECK;
/* Rows that are captured and not frozen, and that INSERT OR REPLACE then pushed out through a
 * UNIQUE index (no trigger of ours fires): they died. Inside a read transaction, after the scan. */
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
/* Values of the key columns of an identity. key: P2P_KEY_COLUMNS_MAX. */
int p2p_capture_key(const struct p2p_table *table, const struct p2p_overlay_row *row,
		    struct p2p_value *key) P2P_MUST_CHECK;
/* capture_count.c: cells of counter columns of a record that is about to be frozen get the own
 * total for a value, where they count. */
int p2p_capture_count(struct p2p_capture *capture, struct p2p_table *table,
		      struct p2p_overlay_row *row, struct p2p_record *record) P2P_MUST_CHECK;
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

#endif
