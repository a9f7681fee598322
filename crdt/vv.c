/* Version vectors; see vv.h. */
#include "crdt/vv.h"

#include <stdio.h>
#include <string.h>

#include "proto/limits.h"
#include "proto/mem.h"

void p2p_vv_init(struct p2p_vv *vv)
{
	memset(vv, 0, sizeof(*vv));
}

void p2p_vv_deinit(struct p2p_vv *vv)
{
	p2p_free(vv->entries);
	memset(vv, 0, sizeof(*vv));
}

/* Index of the first entry that is not below; *found: it is the one. */
static size_t vv_place(const struct p2p_vv *vv, const struct p2p_id *replica, bool *found)
{
	size_t low = 0, high = vv->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (p2p_id_cmp(&vv->entries[mid].replica, replica) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	*found = low < vv->count && p2p_id_cmp(&vv->entries[low].replica, replica) == 0;
	return low;
}

const struct p2p_vv_entry *p2p_vv_get(const struct p2p_vv *vv, const struct p2p_id *replica)
{
	bool found;
	size_t at = vv_place(vv, replica, &found);

	return found ? &vv->entries[at] : NULL;
}

uint64_t p2p_vv_seq(const struct p2p_vv *vv, const struct p2p_id *replica)
{
	const struct p2p_vv_entry *entry = p2p_vv_get(vv, replica);

	return entry ? entry->seq : 0;
}

static int vv_grow(struct p2p_vv *vv)
{
	size_t cap = vv->cap ? vv->cap * 2 : 8;
	struct p2p_vv_entry *grown;

	if (vv->count < vv->cap)
		return 0;
	if (vv->count >= P2P_REPLICAS_MAX)
		return P2P_ETOOBIG;
	grown = p2p_realloc(vv->entries, cap * sizeof(*grown));
	if (!grown)
		return P2P_ENOMEM;
	vv->entries = grown;
	vv->cap = cap;
	return 0;
}

int p2p_vv_room(struct p2p_vv *vv, const struct p2p_id *replica)
{
	bool found;

	(void)vv_place(vv, replica, &found);
	if (found)
		return 0;
	return vv->count >= P2P_REPLICAS_MAX ? P2P_ETOOBIG : vv_grow(vv);
}

int p2p_vv_put(struct p2p_vv *vv, const struct p2p_vv_entry *entry)
{
	bool found;
	size_t at;
	int rc = p2p_vv_room(vv, &entry->replica);

	if (rc)
		return rc;
	at = vv_place(vv, &entry->replica, &found);
	if (!found) {
		memmove(&vv->entries[at + 1], &vv->entries[at],
			(vv->count - at) * sizeof(*vv->entries));
		vv->count++;
	}
	vv->entries[at] = *entry;
	return 0;
}

void p2p_vv_remove(struct p2p_vv *vv, const struct p2p_id *replica)
{
	bool found;
	size_t at = vv_place(vv, replica, &found);

	if (!found)
		return;
	vv->count--;
	memmove(&vv->entries[at], &vv->entries[at + 1], (vv->count - at) * sizeof(*vv->entries));
}

int p2p_vv_copy(struct p2p_vv *target, const struct p2p_vv *source)
{
	struct p2p_vv_entry *entries;

	if (target->cap < source->count) {
		entries = p2p_realloc(target->entries, source->count * sizeof(*entries));
		if (!entries)
			return P2P_ENOMEM;
		target->entries = entries;
		target->cap = source->count;
	}
	if (source->count)
		memcpy(target->entries, source->entries, source->count * sizeof(*source->entries));
	target->count = source->count;
	return 0;
}

void p2p_vv_digest(const struct p2p_vv *vv, struct p2p_hash *out)
{
	struct p2p_hasher hasher;
	size_t i;

	p2p_hasher_init(&hasher, "p2pnode/vector/1", P2P_HASH_BYTES);
	for (i = 0; i < vv->count; i++) {
		const struct p2p_vv_entry *entry = &vv->entries[i];

		if (!entry->seq)
			continue;
		p2p_hasher_add(&hasher, entry->replica.bytes, P2P_ID_BYTES);
		p2p_hasher_add_u64(&hasher, entry->seq);
		p2p_hasher_add(&hasher, entry->head.bytes, P2P_HASH_BYTES);
	}
	p2p_hasher_final(&hasher, out->bytes, P2P_HASH_BYTES);
}

#define BASE32_ID_LEN 26 /* of 16 bytes */

void p2p_vv_text(const struct p2p_vv *vv, struct p2p_buf *out)
{
	char id[BASE32_ID_LEN + 1], text[64];
	bool first = true;
	size_t i;
	int n;

	for (i = 0; i < vv->count; i++) {
		if (!vv->entries[i].seq)
			continue;
		p2p_base32(id, vv->entries[i].replica.bytes, P2P_ID_BYTES);
		n = snprintf(text, sizeof(text), "%s%s:%llu", first ? "" : ",", id,
			     (unsigned long long)vv->entries[i].seq);
		p2p_buf_put(out, text, (size_t)n);
		first = false;
	}
}

/* "<id>:<seq>", ended by a comma or the end of the text; *at moves behind it. */
static int vv_parse_entry(const char **at, struct p2p_vv_entry *out)
{
	char id[BASE32_ID_LEN + 1];
	size_t len = 0;
	const char *p = *at;
	uint64_t seq = 0;

	memset(out, 0, sizeof(*out));
	if (strnlen(p, BASE32_ID_LEN + 1) <= BASE32_ID_LEN || p[BASE32_ID_LEN] != ':')
		return P2P_EINVAL;
	memcpy(id, p, BASE32_ID_LEN);
	id[BASE32_ID_LEN] = 0;
	if (p2p_unbase32(out->replica.bytes, P2P_ID_BYTES, &len, id) || len != P2P_ID_BYTES)
		return P2P_EINVAL;
	p += BASE32_ID_LEN + 1;
	if (*p < '1' || *p > '9')
		return P2P_EINVAL;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (seq > (INT64_MAX - 9) / 10)
			return P2P_EINVAL;
		seq = seq * 10 + (uint64_t)(*p - '0');
	}
	out->seq = seq;
	*at = p;
	return 0;
}

int p2p_vv_parse(struct p2p_vv *out, const char *text)
{
	struct p2p_vv_entry entry;
	int rc = 0;

	p2p_vv_init(out);
	while (*text && !rc) {
		rc = vv_parse_entry(&text, &entry);
		if (!rc && p2p_vv_get(out, &entry.replica))
			rc = P2P_EINVAL;
		if (!rc)
			rc = p2p_vv_put(out, &entry);
		if (!rc && *text == ',' && text[1])
			text++;
		else if (!rc && *text)
			rc = P2P_EINVAL;
	}
	if (rc)
		p2p_vv_deinit(out);
	return rc;
}

bool p2p_vv_covers(const struct p2p_vv *have, const struct p2p_vv *need)
{
	size_t i;

	for (i = 0; i < need->count; i++)
		if (p2p_vv_seq(have, &need->entries[i].replica) < need->entries[i].seq)
			return false;
	return true;
}
