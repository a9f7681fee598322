/* What every fuzz target offers, and what they share: reading of choices from the input, bounds on
 * memory and time, seeds.
 *
 * A target is one file, fuzz_NAME.c, that defines fuzz_target. The same object is linked with
 * libFuzzer (libfuzzer.c, clang) and with a small main that needs no fuzzer (replay.c, any
 * compiler). Nothing in a target depends on time, addresses or an earlier input: an input that
 * fails once fails always. */
#ifndef P2P_TESTS_FUZZ_FUZZ_H
#define P2P_TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"
#include "proto/check.h"
#include "proto/env.h"

/* Where the library's memory comes from. */
struct fuzz_heap {
	void *(*malloc)(size_t size);
	void *(*realloc)(void *ptr, size_t size); /* NULL allowed */
	void (*free)(void *ptr);
	size_t (*size)(void *ptr); /* that counts against memory_max */
};

struct fuzz_target {
	const char *name;
	size_t len_max;		      /* bytes of an input */
	size_t memory_max;	      /* bytes that one input may make the library hold at once */
	uint32_t cpu_ms_max;	      /* that one input may take, with sanitizers */
	const struct fuzz_heap *heap; /* NULL: libc's */
	bool keeps;		      /* what is allocated for one input may stay for later ones */
	void (*init)(void);	      /* once, before the first input; NULL allowed */
	void (*deinit)(void);	      /* once, at an orderly end; NULL allowed */
	void (*one)(const uint8_t *data, size_t len);
	void (*seeds)(void); /* calls fuzz_seed() for each seed */
};

/* Defined by the target. */
extern const struct fuzz_target fuzz_target;

/* --- for the two mains ------------------------------------------------------------------------ */

void fuzz_begin(void);
/* One input, within its bounds of memory and time, or the process aborts. */
void fuzz_run(const uint8_t *data, size_t len);
void fuzz_end(void);
/* Where fuzz_seed() hands seeds to. */
typedef void (*fuzz_sink)(void *ctx, const char *name, const uint8_t *data, size_t len);
void fuzz_each_seed(fuzz_sink sink, void *ctx);
/* Inputs that got as far as the target wants its seeds to get. */
uint64_t fuzz_deep_count(void);

/* --- for targets ------------------------------------------------------------------------------ */

/* Only inside seeds(). */
void fuzz_seed(const char *name, const void *data, size_t len);
/* Says that this input got deep: counted once for an input. */
void fuzz_deep(void);

/* Bytes that the library holds now; a target that puts memory back says how many came with it. */
size_t fuzz_live(void);
void fuzz_live_again(size_t live);

/* Choices from an input; past its end everything is zero. */
struct fuzz_in {
	const uint8_t *data;
	size_t len, at;
};
struct fuzz_in fuzz_in(const uint8_t *data, size_t len);
bool fuzz_more(const struct fuzz_in *in);
uint8_t fuzz_u8(struct fuzz_in *in);
uint16_t fuzz_u16(struct fuzz_in *in);
uint32_t fuzz_u32(struct fuzz_in *in);
uint64_t fuzz_u64(struct fuzz_in *in);
uint32_t fuzz_below(struct fuzz_in *in, uint32_t below); /* at most 256 */
/* A byte that says the form, then a small number, one near a power of two, or any. */
uint64_t fuzz_number(struct fuzz_in *in);
/* At most max bytes, borrowed from the input; fewer at its end. */
const uint8_t *fuzz_take(struct fuzz_in *in, size_t max, size_t *out_len);

/* A time that stands unless it is moved, and random bytes that follow from a counter. */
struct fuzz_world {
	uint64_t now_ms, wall_ms, random;
};
struct p2p_env fuzz_env(struct fuzz_world *world);

/* fails() is p2p_require() with a code that was expected to be 0. */
void fuzz_ok(int rc);

#endif
