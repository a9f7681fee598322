/* See arena.h. The memory is mapped twice: blocks are given out in a view where the sanitizer
 * watches; the arena's own notes, and what is put back, go through the other one. A block is
 * watched as it is: freed, or of the bytes that were asked for. */
#include "tests/fuzz/arena.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ARENA_BYTES (256u << 20)
#define BLOCK_MAX   (64u << 20)
#define CLASSES	    96
#define EXACT	    16	 /* classes of 16, 32 ... 256 bytes; then four for each power of two */
#define WAITING	    8	 /* freed blocks of a class that are not given out again yet */
#define WAITING_BIG 1	 /* of those above 4096 bytes */
#define FILL_MAX    1024 /* bytes of a new block that are not zero by accident */
#define SHADOW	    8	 /* bytes that one byte of the sanitizer's shadow speaks of */
#define POISON	    0xf7
#define RANGE_GAP   512

/* Before each block. */
struct head {
	uint32_t size; /* bytes that were asked for */
	uint16_t class;
	uint16_t live;
	uint64_t next; /* that was freed after it, of its class */
};

struct state {
	size_t top;
	struct {
		uint64_t first, last;
		size_t count;
	} freed[CLASSES];
};

static struct {
	uint8_t *watched, *plain;
	uint8_t *saved, *saved_shadow; /* owned; of then.top bytes */
	struct range {
		size_t from, to;
	} * ranges; /* owned; with what is worth putting back: all but freed blocks */
	size_t range_count;
	struct state now, then;
} arena;

static _Noreturn void broken(const char *what)
{
	(void)fprintf(stderr, "arena: %s\n", what);
	abort();
}

/* --- what the sanitizer watches ----------------------------------------------------------------
 * Its own calls for this take longer than all else here, and cannot copy. */

#define NOT_WATCHED __attribute__((no_sanitize("address", "undefined")))

#if defined(__has_feature)
#define HAS_FEATURE(x) __has_feature(x)
#else
#define HAS_FEATURE(x) 0
#endif

/* memcpy() would be watched, byte by byte (meson.build: this stays a loop). len is a multiple of 8.
 */
NOT_WATCHED static void copy(uint8_t *to, const uint8_t *from, size_t len)
{
	uint64_t *words = (uint64_t *)(void *)to;
	const uint64_t *source = (const uint64_t *)(const void *)from;
	size_t i;

	for (i = 0; i < len / sizeof(*words); i++)
		words[i] = source[i];
}

#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer)

void __asan_get_shadow_mapping(size_t *scale, size_t *offset);

/* volatile: these loops stay loops, and do not become calls that the sanitizer watches. */
static volatile uint8_t *shadow_at(size_t at)
{
	static size_t scale, offset;

	if (!offset)
		__asan_get_shadow_mapping(&scale, &offset);
	return (volatile uint8_t *)((((uintptr_t)arena.watched + at) >> scale) + offset);
}

/* As volatile, eight at once: blocks lie at multiples of 16, so that shadows do of 2 only. */
struct shadow_word {
	uint64_t value;
} __attribute__((packed, may_alias));

NOT_WATCHED static void shadow_fill(size_t at, size_t count, uint8_t value)
{
	volatile uint8_t *shadow = shadow_at(at);
	size_t i;

	for (i = 0; i + sizeof(struct shadow_word) <= count; i += sizeof(struct shadow_word))
		((volatile struct shadow_word *)(volatile void *)(shadow + i))->value =
			value * 0x0101010101010101ull;
	for (; i < count; i++)
		shadow[i] = value;
}

NOT_WATCHED static void poison(size_t at, size_t len)
{
	shadow_fill(at, len / SHADOW, POISON);
}

NOT_WATCHED static void unpoison(size_t at, size_t len)
{
	shadow_fill(at, len / SHADOW, 0);
	if (len % SHADOW)
		shadow_at(at)[len / SHADOW] = len % SHADOW;
}

/* of then.top bytes */
NOT_WATCHED static void shadow_save(void)
{
	volatile uint8_t *shadow = shadow_at(0);
	size_t i;

	for (i = 0; i < arena.then.top / SHADOW; i++)
		arena.saved_shadow[i] = shadow[i];
}

NOT_WATCHED static void shadow_restore(void)
{
	size_t len = arena.then.top / SHADOW, even = len & ~(size_t)7, i;

	copy((uint8_t *)(uintptr_t)shadow_at(0), arena.saved_shadow, even);
	for (i = even; i < len; i++)
		shadow_at(0)[i] = arena.saved_shadow[i];
	poison(arena.then.top, arena.now.top - arena.then.top);
}

#else

static void poison(size_t at, size_t len)
{
	(void)at;
	(void)len;
}

static void unpoison(size_t at, size_t len)
{
	(void)at;
	(void)len;
}

static void shadow_save(void)
{
}

static void shadow_restore(void)
{
}

#endif

static void arena_begin(void)
{
	int fd = memfd_create("arena", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, ARENA_BYTES) != 0)
		broken("no memory");
	arena.watched = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	arena.plain = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (arena.watched == MAP_FAILED || arena.plain == MAP_FAILED)
		broken("no memory");
	(void)close(fd);
	arena.now.top = sizeof(struct head);
}

/* --- blocks ----------------------------------------------------------------------------------- */

static size_t class_bytes(size_t class)
{
	size_t power;

	if (class < EXACT)
		return (class + 1) * 16;
	power = (size_t)256 << (class - EXACT) / 4;
	return power + power / 4 * ((class - EXACT) % 4 + 1);
}

static uint16_t class_of(size_t size)
{
	size_t class = 0;

	if (size > 256)
		class = EXACT + 4 * (size_t)(63 - __builtin_clzll(size - 1) - 8);
	else if (size > 16)
		class = (size - 1) / 16;
	while (class_bytes(class) < size)
		class ++;
	return (uint16_t) class;
}

static struct head *head_at(uint64_t at)
{
	return (struct head *)(void *)(arena.plain + at);
}

static uint64_t place_of(const void *ptr)
{
	return (uint64_t)((const uint8_t *)ptr - arena.watched) - sizeof(struct head);
}

/* Blocks are of 16 bytes, and this is not watched: see copy(). */
NOT_WATCHED static void fill(void *block, size_t len)
{
	uint64_t *words = block;
	size_t i;

	for (i = 0; i * sizeof(*words) < len; i++)
		words[i] = 0xbebebebebebebebe;
}

static void *arena_malloc(size_t size)
{
	uint16_t class;
	struct head *head;
	uint64_t at;

	if (!arena.plain)
		arena_begin();
	if (size > BLOCK_MAX)
		return NULL;
	class = class_of(size);
	at = arena.now.freed[class].first;
	if (arena.now.freed[class].count > (size > 4096 ? WAITING_BIG : WAITING)) {
		arena.now.freed[class].first = head_at(at)->next;
		arena.now.freed[class].count--;
		head = head_at(at);
	} else {
		at = arena.now.top;
		arena.now.top += sizeof(*head) + class_bytes(class);
		if (arena.now.top > ARENA_BYTES)
			broken("full");
		head = head_at(at);
		head->class = class;
		poison(at, sizeof(*head) + class_bytes(class));
	}
	head->size = (uint32_t)size;
	head->live = 1;
	fill(head + 1, size < FILL_MAX ? size : FILL_MAX);
	unpoison(at + sizeof(*head), size);
	return arena.watched + at + sizeof(*head);
}

static void arena_free(void *ptr)
{
	uint64_t at = place_of(ptr);
	struct head *head = head_at(at);
	size_t class = head->class;

	if (at >= arena.now.top || !head->live)
		broken("something is freed that is not there");
	head->live = 0;
	if (arena.now.freed[class].count++)
		head_at(arena.now.freed[class].last)->next = at;
	else
		arena.now.freed[class].first = at;
	arena.now.freed[class].last = at;
	poison(at + sizeof(*head), (head->size + 7) & ~7u);
}

static size_t arena_size(void *ptr)
{
	return head_at(place_of(ptr))->size;
}

static void *arena_realloc(void *old, size_t size)
{
	size_t before = old ? arena_size(old) : 0;
	void *ptr = arena_malloc(size);

	if (!ptr || !old)
		return ptr;
	memcpy(ptr, old, before < size ? before : size);
	arena_free(old);
	return ptr;
}

const struct fuzz_heap fuzz_arena = {arena_malloc, arena_realloc, arena_free, arena_size};

/* --- SQLite ----------------------------------------------------------------------------------- */

static void *sqlite_malloc(int size)
{
	return arena_malloc((size_t)size);
}

static void *sqlite_realloc(void *old, int size)
{
	return arena_realloc(old, (size_t)size);
}

static int sqlite_size(void *ptr)
{
	return ptr ? (int)arena_size(ptr) : 0;
}

static int sqlite_roundup(int size)
{
	return (size + 7) & ~7;
}

static int sqlite_begin(void *ctx)
{
	(void)ctx;
	return SQLITE_OK;
}

static void sqlite_end(void *ctx)
{
	(void)ctx;
}

void fuzz_arena_for_sqlite(void)
{
	sqlite3_mem_methods methods = {sqlite_malloc,  arena_free,   sqlite_realloc, sqlite_size,
				       sqlite_roundup, sqlite_begin, sqlite_end,     NULL};

	if (sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) != SQLITE_OK)
		broken("SQLite has begun already");
	/* else it hides small blocks in a big one */
	if (sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0) != SQLITE_OK)
		broken("SQLite has begun already");
}

/* --- there and back --------------------------------------------------------------------------- */

/* A gap between two is not worth a range of its own when it is small. */
static void range_add(size_t from, size_t to)
{
	struct range *last = arena.range_count ? &arena.ranges[arena.range_count - 1] : NULL;

	if (last && from - last->to < RANGE_GAP) {
		last->to = to;
		return;
	}
	arena.ranges = realloc(arena.ranges, (arena.range_count + 1) * sizeof(*arena.ranges));
	if (!arena.ranges)
		broken("no memory");
	arena.ranges[arena.range_count++] = (struct range){from, to};
}

static void ranges_set(void)
{
	size_t at, bytes;

	arena.range_count = 0;
	for (at = sizeof(struct head); at < arena.then.top; at += sizeof(struct head) + bytes) {
		const struct head *head = head_at(at);

		bytes = class_bytes(head->class);
		range_add(at, at + sizeof(*head) + (head->live ? bytes : 0));
	}
}

void fuzz_arena_save(void)
{
	arena.then = arena.now;
	free(arena.saved);
	free(arena.saved_shadow);
	arena.saved = malloc(arena.then.top);
	arena.saved_shadow = malloc(arena.then.top / SHADOW);
	if (!arena.saved || !arena.saved_shadow)
		broken("no memory");
	memcpy(arena.saved, arena.plain, arena.then.top);
	shadow_save();
	ranges_set();
}

void fuzz_arena_restore(void)
{
	size_t i;

	if (!arena.saved)
		broken("nothing is saved");
	for (i = 0; i < arena.range_count; i++)
		copy(arena.plain + arena.ranges[i].from, arena.saved + arena.ranges[i].from,
		     arena.ranges[i].to - arena.ranges[i].from);
	shadow_restore();
	arena.now = arena.then;
}
