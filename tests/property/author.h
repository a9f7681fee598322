/* What a replica makes of its application's writes, by rules.md: records with identities, loose
 * references, running totals and yields. Slow: tries its changeset on a copy of the twin. */
#ifndef P2P_TESTS_PROPERTY_AUTHOR_H
#define P2P_TESTS_PROPERTY_AUTHOR_H

#include "tests/property/sheet.h"
#include "tests/support/mergekit.h"

struct author {
	char letter; /* its replica; the last byte of the rows that it makes */
	uint32_t rank, members;
	uint64_t seq, stamp;
	struct twin twin; /* what it has merged, projected */
	struct twin probe;
	uint64_t rows, yields, renumbered, loose;
};

void author_init(struct author *author, const struct twin_table *tables);
void author_deinit(struct author *author);
/* Merges a changeset; it is borrowed until the twin is cleared. Not projected. */
void author_merge(struct twin *twin, const struct kit_change *change);
/* Makes a changeset of what the sheet holds after the application's transaction, and merges it.
 * False: nothing was changed. change: not initialised before, nor after false. */
bool author_write(struct author *author, const struct kit_mesh *mesh,
		  const struct sheet_rows *after, uint64_t *rng, struct kit_change *change);
/* Permanent numbers for its own rows that show temporary ones. As author_write(). */
bool author_renumber(struct author *author, const struct kit_mesh *mesh, struct kit_change *change);

#endif
