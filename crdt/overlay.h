/* Rows whose state is newer than what the application's file holds: captured, maybe frozen, not
 * folded.
 *
 * In memory only: after a crash frozen rows are rebuilt from the side log and the rest from the
 * journal. Found by identity, and, for tables with generated identity, by the number that the
 * application sees. */
#ifndef P2P_CRDT_OVERLAY_H
#define P2P_CRDT_OVERLAY_H

#include "crdt/record.h"
#include "crdt/rowstate.h"

/* Place of a provisional change in the order of changesets to come; 0: not provisional. */
typedef uint32_t p2p_ordinal;

/* What of a counter cell is frozen and not folded, or is about to be frozen. */
struct p2p_counted {
	uint32_t slot;
	bool base;   /* an ordinary value, that totals are added to; else the own running total */
	bool number; /* a base can be none */
	int64_t total;
	uint64_t stamp; /* 0: not frozen yet */
};
/* What the row yielded, frozen and not folded, or about to be frozen. */
struct p2p_overlay_yield {
	struct p2p_id constraint;
	uint64_t stamp; /* 0: not frozen yet */
};
/* A cell in `refs`: nothing new; it refers to the row that shows its number; it is loose. */
enum p2p_overlay_ref { P2P_OVERLAY_REF_NONE, P2P_OVERLAY_REF_ROW, P2P_OVERLAY_REF_LOOSE };

struct p2p_overlay_row {
	struct p2p_overlay_row *next;	     /* chain by identity */
	struct p2p_overlay_row *next_number; /* chain by shown number */
	struct p2p_overlay_row *next_row;    /* all rows, in the order they came in */
	uint32_t table;			     /* local table number */
	uint8_t *key;			     /* owned: p2p_identity_put() */
	size_t key_len;
	struct p2p_identity identity; /* decoded; points into key */
	struct p2p_rowstate state;    /* stamps of provisional cells are not set yet */
	p2p_ordinal *ordinals;	      /* owned, one per slot: provisional change of that cell */
	uint8_t *refs; /* owned, one per slot, or NULL: what the fold says of a reference there */
	uint32_t scan; /* that last found it in the application's table */
	p2p_ordinal life;	     /* provisional birth or death */
	struct p2p_counted *counted; /* owned; of tables with counters */
	size_t counted_count;
	struct p2p_overlay_yield *yields; /* owned */
	uint32_t yield_count;
	p2p_ordinal yield_turn; /* in which those go that are not frozen */
	uint64_t stored_length; /* causal length that the file has */
	uint64_t frozen_length; /* causal length that is frozen or folded, and its clock: */
	uint64_t frozen_stamp;
	uint32_t frozen_replica;
	int64_t number;	     /* claimed: generated identity */
	int64_t shown;	     /* what the application's table shows, or showed at last */
	bool mapped;	     /* is in the number chain */
	bool in_file;	     /* the file has a state of it */
	bool new_life;	     /* began since */
	bool unpark;	     /* the application made a parked row visible again */
	bool number_changed; /* tell the projection at fold */
	bool renumbered;     /* was given another number, that it does not show yet */
	bool number_taken;   /* renumbered, and the application took that number for another row */
	bool provisional;    /* any provisional change */
	bool present;	     /* born of what was there when its table was enabled */
};

/* It is not in the application's table, alive as it is: all that it does is to yield. */
static inline bool p2p_overlay_kept_out(const struct p2p_overlay_row *row)
{
	return (row->state.flags & P2P_ROW_PARKED) && !row->unpark;
}

struct p2p_overlay {
	struct p2p_overlay_row **by_key;    /* owned */
	struct p2p_overlay_row **by_number; /* owned */
	size_t buckets;			    /* power of two */
	size_t count;
	struct p2p_overlay_row *first, *last;
	struct p2p_hash_key hash_key; /* against keys chosen to collide */
};

void p2p_overlay_init(struct p2p_overlay *overlay, const struct p2p_hash_key *hash_key);
void p2p_overlay_deinit(struct p2p_overlay *overlay);
void p2p_overlay_clear(struct p2p_overlay *overlay);
/* NULL when absent. */
struct p2p_overlay_row *p2p_overlay_find(const struct p2p_overlay *overlay, uint32_t table,
					 const void *key, size_t key_len);
/* The live row that shows `number`. NULL when absent. */
struct p2p_overlay_row *p2p_overlay_find_number(const struct p2p_overlay *overlay, uint32_t table,
						int64_t number);
/* Adds an absent row with an empty state. NULL: out of memory. */
struct p2p_overlay_row *p2p_overlay_add(struct p2p_overlay *overlay, uint32_t table,
					const void *key, size_t key_len) P2P_MUST_CHECK;
/* The row is shown under `number` from now on, or, with unmap, no longer. */
void p2p_overlay_map(struct p2p_overlay *overlay, struct p2p_overlay_row *row, int64_t number);
void p2p_overlay_unmap(struct p2p_overlay *overlay, struct p2p_overlay_row *row);
/* What the row is now is frozen or folded. */
void p2p_overlay_frozen(struct p2p_overlay_row *row);
/* NULL: none. frozen: the one that is, or the one that is about to be. */
const struct p2p_counted *p2p_overlay_counted(const struct p2p_overlay_row *row, uint32_t slot,
					      bool base, bool frozen);
/* Forgets what was about to be frozen of a slot. */
void p2p_overlay_count_anew(struct p2p_overlay_row *row, uint32_t slot);
/* Replaces the one of its kind. P2P_ENOMEM. */
int p2p_overlay_count(struct p2p_overlay_row *row,
		      const struct p2p_counted *counted) P2P_MUST_CHECK;
/* What was about to be frozen of a slot is. */
void p2p_overlay_count_frozen(struct p2p_overlay_row *row, uint32_t slot, uint64_t stamp);
/* Another life. */
void p2p_overlay_uncount(struct p2p_overlay_row *row);
/* Sets refs of a slot; the row has it. P2P_ENOMEM. */
int p2p_overlay_ref(struct p2p_overlay_row *row, uint32_t slot,
		    enum p2p_overlay_ref ref) P2P_MUST_CHECK;
/* Replaces the one of its constraint. P2P_ENOMEM. */
int p2p_overlay_yield(struct p2p_overlay_row *row, const struct p2p_id *constraint,
		      uint64_t stamp) P2P_MUST_CHECK;
/* A life ended: no cells, yields, ordinals, refs. */
void p2p_overlay_empty(struct p2p_overlay_row *row);
/* Slots of state and ordinals. P2P_ENOMEM, P2P_ETOOBIG. */
int p2p_overlay_resize(struct p2p_overlay_row *row, uint32_t slots) P2P_MUST_CHECK;

#endif
