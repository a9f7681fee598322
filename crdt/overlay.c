/* Rows newer than the file; see overlay.h. */
#include "crdt/overlay.h"

#include <sodium.h>
#include <string.h>

#include "proto/check.h"
#include "proto/mem.h"

#define OVERLAY_FIRST_BUCKETS 64

void p2p_overlay_init(struct p2p_overlay *overlay, const struct p2p_hash_key *hash_key)
{
	memset(overlay, 0, sizeof(*overlay));
	overlay->hash_key = *hash_key;
}

static void overlay_row_free(struct p2p_overlay_row *row)
{
	p2p_rowstate_deinit(&row->state);
	p2p_free(row->ordinals);
	p2p_free(row->counted);
	p2p_free(row->yields);
	p2p_free(row->refs);
	p2p_free(row->key);
	p2p_free(row);
}

void p2p_overlay_clear(struct p2p_overlay *overlay)
{
	struct p2p_overlay_row *row = overlay->first, *next;

	for (; row; row = next) {
		next = row->next_row;
		overlay_row_free(row);
	}
	p2p_free(overlay->by_key);
	p2p_free(overlay->by_number);
	overlay->by_key = overlay->by_number = NULL;
	overlay->buckets = overlay->count = 0;
	overlay->first = overlay->last = NULL;
}

void p2p_overlay_deinit(struct p2p_overlay *overlay)
{
	p2p_overlay_clear(overlay);
	sodium_memzero(&overlay->hash_key, sizeof(overlay->hash_key));
}

static size_t overlay_bucket(const struct p2p_overlay *overlay, uint32_t table, const void *key,
			     size_t key_len)
{
	uint8_t out[crypto_shorthash_BYTES];
	uint64_t hash;

	(void)crypto_shorthash(out, key, key_len, overlay->hash_key.bytes); /* cannot fail */
	memcpy(&hash, out, sizeof(hash));
	return (size_t)(hash ^ table) & (overlay->buckets - 1);
}

static size_t overlay_number_bucket(const struct p2p_overlay *overlay, uint32_t table,
				    int64_t number)
{
	return overlay_bucket(overlay, table, &number, sizeof(number));
}

struct p2p_overlay_row *p2p_overlay_find(const struct p2p_overlay *overlay, uint32_t table,
					 const void *key, size_t key_len)
{
	struct p2p_overlay_row *row;

	if (!overlay->count)
		return NULL;
	row = overlay->by_key[overlay_bucket(overlay, table, key, key_len)];
	while (row && (row->table != table || row->key_len != key_len ||
		       memcmp(row->key, key, key_len) != 0))
		row = row->next;
	return row;
}

struct p2p_overlay_row *p2p_overlay_find_number(const struct p2p_overlay *overlay, uint32_t table,
						int64_t number)
{
	struct p2p_overlay_row *row;

	if (!overlay->count)
		return NULL;
	row = overlay->by_number[overlay_number_bucket(overlay, table, number)];
	while (row && (row->table != table || row->shown != number))
		row = row->next_number;
	return row;
}

static void overlay_link(struct p2p_overlay *overlay, struct p2p_overlay_row *row)
{
	size_t at = overlay_bucket(overlay, row->table, row->key, row->key_len);

	row->next = overlay->by_key[at];
	overlay->by_key[at] = row;
	if (!row->mapped)
		return;
	at = overlay_number_bucket(overlay, row->table, row->shown);
	row->next_number = overlay->by_number[at];
	overlay->by_number[at] = row;
}

static int overlay_grow(struct p2p_overlay *overlay)
{
	size_t buckets = overlay->buckets ? overlay->buckets * 2 : OVERLAY_FIRST_BUCKETS;
	struct p2p_overlay_row **by_key = p2p_calloc(buckets, sizeof(struct p2p_overlay_row *));
	struct p2p_overlay_row **by_number = p2p_calloc(buckets, sizeof(struct p2p_overlay_row *));
	struct p2p_overlay_row *row;

	if (!by_key || !by_number) {
		p2p_free(by_key);
		p2p_free(by_number);
		return P2P_ENOMEM;
	}
	p2p_free(overlay->by_key);
	p2p_free(overlay->by_number);
	overlay->by_key = by_key;
	overlay->by_number = by_number;
	overlay->buckets = buckets;
	for (row = overlay->first; row; row = row->next_row)
		overlay_link(overlay, row);
	return 0;
}

static struct p2p_overlay_row *overlay_row_new(uint32_t table, const void *key, size_t key_len)
{
	struct p2p_overlay_row *row = p2p_calloc(1, sizeof(*row));
	struct p2p_reader reader;

	if (!row)
		return NULL;
	p2p_rowstate_init(&row->state);
	row->table = table;
	row->key = p2p_memdup(key, key_len);
	row->key_len = key_len;
	if (!row->key) {
		overlay_row_free(row);
		return NULL;
	}
	p2p_reader_init(&reader, row->key, key_len);
	p2p_identity_read(&reader, &row->identity);
	p2p_require(!reader.failed); /* the key was made by p2p_identity_put() */
	return row;
}

struct p2p_overlay_row *p2p_overlay_add(struct p2p_overlay *overlay, uint32_t table,
					const void *key, size_t key_len)
{
	struct p2p_overlay_row *row;

	p2p_require(!p2p_overlay_find(overlay, table, key, key_len));
	if (overlay->count >= overlay->buckets && overlay_grow(overlay))
		return NULL;
	row = overlay_row_new(table, key, key_len);
	if (!row)
		return NULL;
	if (overlay->last)
		overlay->last->next_row = row;
	else
		overlay->first = row;
	overlay->last = row;
	overlay->count++;
	overlay_link(overlay, row);
	return row;
}

void p2p_overlay_map(struct p2p_overlay *overlay, struct p2p_overlay_row *row, int64_t number)
{
	size_t at;

	p2p_overlay_unmap(overlay, row);
	row->shown = number;
	row->mapped = true;
	at = overlay_number_bucket(overlay, row->table, number);
	row->next_number = overlay->by_number[at];
	overlay->by_number[at] = row;
}

void p2p_overlay_unmap(struct p2p_overlay *overlay, struct p2p_overlay_row *row)
{
	struct p2p_overlay_row **at;

	if (!row->mapped)
		return;
	at = &overlay->by_number[overlay_number_bucket(overlay, row->table, row->shown)];
	while (*at != row)
		at = &(*at)->next_number;
	*at = row->next_number;
	row->next_number = NULL;
	row->mapped = false;
}

void p2p_overlay_frozen(struct p2p_overlay_row *row)
{
	row->frozen_length = row->state.causal_length;
	row->frozen_stamp = row->state.stamp;
	row->frozen_replica = row->state.replica;
}

static void counted_drop(struct p2p_overlay_row *row, uint32_t slot, bool base, bool frozen)
{
	size_t i, kept = 0;

	for (i = 0; i < row->counted_count; i++) {
		const struct p2p_counted *at = &row->counted[i];

		if (at->slot != slot || at->base != base || (at->stamp != 0) != frozen)
			row->counted[kept++] = *at;
	}
	row->counted_count = kept;
}

const struct p2p_counted *p2p_overlay_counted(const struct p2p_overlay_row *row, uint32_t slot,
					      bool base, bool frozen)
{
	size_t i;

	for (i = 0; i < row->counted_count; i++)
		if (row->counted[i].slot == slot && row->counted[i].base == base &&
		    (row->counted[i].stamp != 0) == frozen)
			return &row->counted[i];
	return NULL;
}

void p2p_overlay_count_anew(struct p2p_overlay_row *row, uint32_t slot)
{
	counted_drop(row, slot, false, false);
	counted_drop(row, slot, true, false);
}

int p2p_overlay_count(struct p2p_overlay_row *row, const struct p2p_counted *counted)
{
	struct p2p_counted *grown =
		p2p_realloc(row->counted, (row->counted_count + 1) * sizeof(*grown));

	if (!grown)
		return P2P_ENOMEM;
	row->counted = grown;
	counted_drop(row, counted->slot, counted->base, counted->stamp != 0);
	row->counted[row->counted_count++] = *counted;
	return 0;
}

void p2p_overlay_count_frozen(struct p2p_overlay_row *row, uint32_t slot, uint64_t stamp)
{
	const struct p2p_counted *found;
	struct p2p_counted counted;
	int base;

	for (base = 0; base < 2; base++) {
		found = p2p_overlay_counted(row, slot, base, false);
		if (!found)
			continue;
		counted = *found;
		counted.stamp = stamp;
		counted_drop(row, slot, base, false); /* which makes room */
		counted_drop(row, slot, base, true);
		row->counted[row->counted_count++] = counted;
	}
}

void p2p_overlay_uncount(struct p2p_overlay_row *row)
{
	row->counted_count = 0;
}

int p2p_overlay_yield(struct p2p_overlay_row *row, const struct p2p_id *constraint, uint64_t stamp)
{
	struct p2p_overlay_yield *grown;
	uint32_t i;

	for (i = 0; i < row->yield_count; i++)
		if (p2p_id_cmp(&row->yields[i].constraint, constraint) == 0) {
			row->yields[i].stamp = stamp;
			return 0;
		}
	grown = p2p_realloc(row->yields, (row->yield_count + 1) * sizeof(*grown));
	if (!grown)
		return P2P_ENOMEM;
	row->yields = grown;
	grown[row->yield_count].constraint = *constraint;
	grown[row->yield_count++].stamp = stamp;
	return 0;
}

void p2p_overlay_empty(struct p2p_overlay_row *row)
{
	row->yield_count = 0;
	row->yield_turn = 0;
	p2p_rowstate_deinit(&row->state);
	p2p_rowstate_init(&row->state);
	p2p_free(row->ordinals);
	p2p_free(row->refs);
	row->ordinals = NULL;
	row->refs = NULL;
	row->renumbered = false;
}

int p2p_overlay_ref(struct p2p_overlay_row *row, uint32_t slot, enum p2p_overlay_ref ref)
{
	p2p_require(slot < row->state.cell_count);
	if (!row->refs)
		row->refs = p2p_calloc(row->state.cell_count, 1);
	if (!row->refs)
		return P2P_ENOMEM;
	row->refs[slot] = (uint8_t)ref;
	return 0;
}

int p2p_overlay_resize(struct p2p_overlay_row *row, uint32_t slots)
{
	uint32_t before = row->state.cell_count;
	p2p_ordinal *ordinals;
	int rc;

	if (slots <= before && row->ordinals)
		return 0;
	if (slots < before)
		slots = before;
	ordinals = p2p_realloc(row->ordinals, (slots ? slots : 1) * sizeof(*ordinals));
	if (!ordinals)
		return P2P_ENOMEM;
	if (!row->ordinals)
		before = 0;
	row->ordinals = ordinals;
	if (row->refs && slots > before) {
		uint8_t *refs = p2p_realloc(row->refs, slots);

		if (!refs)
			return P2P_ENOMEM;
		memset(refs + before, 0, slots - before);
		row->refs = refs;
	}
	memset(ordinals + before, 0, (slots - before) * sizeof(*ordinals));
	rc = p2p_rowstate_resize(&row->state, slots);
	return rc;
}
