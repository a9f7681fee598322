/* Changesets that members make for the victim: a liar's, as an input says, with any fields and
 * bodies and his valid signature, and an honest one's. */
#ifndef P2P_TESTS_FUZZ_MADE_H
#define P2P_TESTS_FUZZ_MADE_H

#include "tests/fuzz/victim.h"

#define MADE_MAX 10

struct made {
	struct p2p_id replica;
	uint64_t seq;
	struct p2p_hash hash;
	struct p2p_signature signature;
	struct p2p_buf raw, body;
};

/* What the liar has made in this input. */
struct made_pool {
	struct made list[MADE_MAX];
	size_t count;
	/* the schema records that they name: the mesh's, or the last ones that he made */
	struct p2p_schema_ref named[VICTIM_TABLES];
};

extern struct made_pool made_pool;

void made_begin(void);
void made_end(void);
/* One more in the pool, if there is room. */
void made_by_liar(struct fuzz_in *in);
/* The first one of an honest member's replica: two bytes for each row. For made_deinit(). */
void made_by_honest(struct made *out, size_t replica, const uint8_t *rows, size_t count);
void made_deinit(struct made *made);
/* One that has a certificate, the victim's own, or one that nobody knows. */
struct p2p_id made_replica(struct fuzz_in *in);
/* The part that carries a segment, borrowed from `made`; odd says what is wrong with it, 0:
 * nothing. */
void made_part(P2p__V1__Part *part, const struct made *made, uint32_t segment, uint8_t odd);

#endif
