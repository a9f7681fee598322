/* See fuzz.h. */
#include "tests/fuzz/fuzz.h"

#include <malloc.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "proto/mem.h"

static struct {
	size_t live, peak;
	bool deep;
	uint64_t deep_count;
	fuzz_sink sink;
	void *sink_ctx;
} fuzz;

/* --- memory ----------------------------------------------------------------------------------- */

static size_t libc_size(void *ptr)
{
	return malloc_usable_size(ptr);
}

static const struct fuzz_heap libc_heap = {malloc, realloc, free, libc_size};

static const struct fuzz_heap *heap(void)
{
	return fuzz_target.heap ? fuzz_target.heap : &libc_heap;
}

static void count_block(void *ptr)
{
	fuzz.live += ptr ? heap()->size(ptr) : 0;
	if (fuzz.live > fuzz.peak)
		fuzz.peak = fuzz.live;
}

static void *hook_malloc(size_t size)
{
	void *ptr = heap()->malloc(size);

	count_block(ptr);
	return ptr;
}

static void *hook_realloc(void *old, size_t size)
{
	size_t before = old ? heap()->size(old) : 0;
	void *ptr = heap()->realloc(old, size);

	if (!ptr)
		return NULL;
	fuzz.live -= before;
	count_block(ptr);
	return ptr;
}

static void hook_free(void *ptr)
{
	if (!ptr)
		return;
	fuzz.live -= heap()->size(ptr);
	heap()->free(ptr);
}

static const struct p2p_mem_hooks hooks = {hook_malloc, hook_realloc, hook_free};

size_t fuzz_live(void)
{
	return fuzz.live;
}

void fuzz_live_again(size_t live)
{
	fuzz.live = live;
	if (fuzz.live > fuzz.peak)
		fuzz.peak = fuzz.live;
}

/* --- running ---------------------------------------------------------------------------------- */

static uint64_t cpu_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void fuzz_begin(void)
{
	p2p_require(sodium_init() >= 0);
	p2p_mem_set_hooks(&hooks);
	if (fuzz_target.init)
		fuzz_target.init();
}

void fuzz_run(const uint8_t *data, size_t len)
{
	size_t before = fuzz.live;
	uint64_t begun = cpu_ms(), took;

	if (len > fuzz_target.len_max)
		return;
	fuzz.deep = false;
	fuzz.peak = before;
	fuzz_target.one(data, len);
	fuzz.deep_count += fuzz.deep;
	took = cpu_ms() - begun;
	if (fuzz.peak - before > fuzz_target.memory_max) {
		(void)fprintf(stderr, "%s: an input of %zu bytes took %zu bytes of memory\n",
			      fuzz_target.name, len, fuzz.peak - before);
		abort();
	}
	if (took > fuzz_target.cpu_ms_max) {
		(void)fprintf(stderr, "%s: an input of %zu bytes took %llu ms\n", fuzz_target.name,
			      len, (unsigned long long)took);
		abort();
	}
	if (!fuzz_target.keeps && fuzz.live != before) {
		(void)fprintf(stderr, "%s: %zd bytes of memory were lost\n", fuzz_target.name,
			      (ssize_t)(fuzz.live - before));
		abort();
	}
}

void fuzz_end(void)
{
	if (fuzz_target.deinit)
		fuzz_target.deinit();
	p2p_require(fuzz.live == 0);
}

uint64_t fuzz_deep_count(void)
{
	return fuzz.deep_count;
}

void fuzz_deep(void)
{
	fuzz.deep = true;
}

void fuzz_each_seed(fuzz_sink sink, void *ctx)
{
	fuzz.sink = sink;
	fuzz.sink_ctx = ctx;
	fuzz_target.seeds();
}

void fuzz_seed(const char *name, const void *data, size_t len)
{
	p2p_require(len <= fuzz_target.len_max);
	fuzz.sink(fuzz.sink_ctx, name, data, len);
}

void fuzz_ok(int rc)
{
	if (rc) {
		(void)fprintf(stderr, "%s: %s\n", fuzz_target.name, p2p_err_name(rc));
		abort();
	}
}

/* --- choices ---------------------------------------------------------------------------------- */

struct fuzz_in fuzz_in(const uint8_t *data, size_t len)
{
	struct fuzz_in in = {data, len, 0};

	return in;
}

bool fuzz_more(const struct fuzz_in *in)
{
	return in->at < in->len;
}

uint8_t fuzz_u8(struct fuzz_in *in)
{
	return in->at < in->len ? in->data[in->at++] : 0;
}

uint16_t fuzz_u16(struct fuzz_in *in)
{
	uint32_t high = fuzz_u8(in);

	return (uint16_t)(high << 8 | fuzz_u8(in));
}

uint32_t fuzz_u32(struct fuzz_in *in)
{
	uint32_t high = fuzz_u16(in);

	return high << 16 | fuzz_u16(in);
}

uint64_t fuzz_u64(struct fuzz_in *in)
{
	uint64_t high = fuzz_u32(in);

	return high << 32 | fuzz_u32(in);
}

uint32_t fuzz_below(struct fuzz_in *in, uint32_t below)
{
	p2p_require(below > 0 && below <= 256);
	return fuzz_u8(in) % below;
}

uint64_t fuzz_number(struct fuzz_in *in)
{
	uint8_t form = fuzz_u8(in);

	if (form < 0x80)
		return form;
	if (form < 0xc0)
		return (1ull << (form & 63)) - 2 + fuzz_below(in, 4);
	return form < 0xe0 ? fuzz_u16(in) : fuzz_u64(in);
}

const uint8_t *fuzz_take(struct fuzz_in *in, size_t max, size_t *out_len)
{
	const uint8_t *at = in->data + in->at;
	size_t left = in->len - in->at;

	*out_len = left < max ? left : max;
	in->at += *out_len;
	return at;
}

/* --- world ------------------------------------------------------------------------------------ */

static struct p2p_time world_now(void *ctx)
{
	struct fuzz_world *world = ctx;
	struct p2p_time now = {world->now_ms};

	return now;
}

static uint64_t world_wall(void *ctx)
{
	struct fuzz_world *world = ctx;

	return world->wall_ms + world->now_ms;
}

/* splitmix64 */
static void world_random(void *ctx, void *out, size_t len)
{
	struct fuzz_world *world = ctx;
	uint8_t *bytes = out;
	size_t i;

	for (i = 0; i < len; i++) {
		uint64_t z = world->random += 0x9e3779b97f4a7c15ull;

		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
		z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
		bytes[i] = (uint8_t)(z ^ (z >> 31));
	}
}

struct p2p_env fuzz_env(struct fuzz_world *world)
{
	struct p2p_env env = {world, world_now, world_wall, world_random};

	return env;
}
