/* The address book; see addrbook.h. */
#include "discovery/addrbook.h"

#include <stdio.h>
#include <string.h>

#include "proto/check.h"
#include "proto/mem.h"

#define DOWN_SOON_MS 100 /* a session that ended is made anew after about that */

int p2p_addrbook_init(struct p2p_addrbook *book, struct p2p_time now)
{
	memset(book, 0, sizeof(*book));
	p2p_bucket_init(&book->rate, now, P2P_DIALS_RATE);
	book->entries = p2p_calloc(P2P_ADDRESSES_MAX, sizeof(*book->entries));
	return book->entries ? 0 : P2P_ENOMEM;
}

void p2p_addrbook_deinit(struct p2p_addrbook *book)
{
	p2p_free(book->entries);
	book->entries = NULL;
}

/* --- entries ---------------------------------------------------------------------------------- */

static bool is_pinned(const struct p2p_addrbook_entry *entry)
{
	return entry->source == P2P_SOURCE_SEED || entry->source == P2P_SOURCE_TICKET;
}

static struct p2p_addrbook_entry *entry_find(struct p2p_addrbook *book,
					     const struct p2p_address *address)
{
	size_t i;

	for (i = 0; i < P2P_ADDRESSES_MAX; i++)
		if (book->entries[i].id && p2p_address_equal(&book->entries[i].address, address))
			return &book->entries[i];
	return NULL;
}

struct census {
	struct p2p_addrbook_entry *free, *worst;
	size_t pinned, claimed, same_host;
};

/* The greater, the sooner it makes room. 0: never. */
static uint64_t uselessness(const struct p2p_addrbook_entry *entry, struct p2p_time now)
{
	uint64_t age = now.ms - entry->heard_ms;

	if (is_pinned(entry) || entry->dialing || entry->live)
		return 0;
	if (entry->proven)
		return 1 + age / P2P_ADDRESS_FORGET_MS;
	return 1000 + 1000 * entry->failures + age / 1000;
}

static struct census census_take(struct p2p_addrbook *book, struct p2p_time now,
				 const struct p2p_address *address)
{
	struct census census = {0};
	uint64_t worst = 0;
	size_t i;

	for (i = 0; i < P2P_ADDRESSES_MAX; i++) {
		struct p2p_addrbook_entry *entry = &book->entries[i];
		uint64_t useless;

		if (!entry->id) {
			census.free = census.free ? census.free : entry;
			continue;
		}
		census.pinned += is_pinned(entry);
		census.claimed += entry->source == P2P_SOURCE_CLAIM && !entry->proven;
		census.same_host += !is_pinned(entry) && !entry->proven &&
				    p2p_address_same_host(&entry->address, address);
		useless = uselessness(entry, now);
		if (useless > worst) {
			worst = useless;
			census.worst = entry;
		}
	}
	return census;
}

static int entry_room(struct p2p_addrbook *book, struct p2p_time now,
		      const struct p2p_addrbook_claim *claim, struct p2p_addrbook_entry **out)
{
	struct census census = census_take(book, now, &claim->address);
	bool pinned = claim->source == P2P_SOURCE_SEED || claim->source == P2P_SOURCE_TICKET;

	if (pinned && census.pinned >= P2P_ADDRESSES_PINNED_MAX)
		return P2P_ETOOBIG;
	if (claim->source == P2P_SOURCE_CLAIM && census.claimed >= P2P_ADDRESSES_CLAIMED_MAX)
		return P2P_ETOOBIG;
	/* one host must not fill the book with its ports */
	if (!pinned && census.same_host >= P2P_ADDRESSES_HOST_MAX)
		return P2P_ETOOBIG;
	*out = census.free ? census.free : census.worst;
	return *out ? 0 : P2P_ETOOBIG;
}

static void entry_refresh(struct p2p_addrbook_entry *entry, struct p2p_time now,
			  const struct p2p_addrbook_claim *claim)
{
	if (claim->heard) {
		/* it is there: a long backoff has no reason any more */
		if (entry->failures > 1 && !entry->dialing &&
		    entry->next_ms > now.ms + P2P_BACKOFF_MIN_MS)
			entry->next_ms = now.ms + P2P_BACKOFF_MIN_MS;
		entry->heard_ms = now.ms;
	}
	if (claim->key && (!entry->has_key || claim->heard)) {
		entry->key = *claim->key;
		entry->has_key = true;
	}
	if (claim->secret_id)
		entry->secret_id = claim->secret_id;
	if (claim->source < entry->source)
		entry->source = claim->source;
	if (claim->text && !entry->text[0])
		(void)snprintf(entry->text, sizeof(entry->text), "%s", claim->text);
}

static bool key_is_live(const struct p2p_addrbook *book, const struct p2p_key *key)
{
	size_t i;

	for (i = 0; i < P2P_ADDRESSES_MAX; i++)
		if (book->entries[i].id && book->entries[i].live && book->entries[i].has_key &&
		    p2p_key_cmp(&book->entries[i].key, key) == 0)
			return true;
	return false;
}

int p2p_addrbook_put(struct p2p_addrbook *book, struct p2p_time now,
		     const struct p2p_addrbook_claim *claim)
{
	struct p2p_addrbook_entry *entry;
	int rc;

	if (!p2p_address_is_dialable(&claim->address))
		return P2P_EINVAL;
	entry = entry_find(book, &claim->address);
	if (!entry) {
		rc = entry_room(book, now, claim, &entry);
		if (rc)
			return rc;
		memset(entry, 0, sizeof(*entry));
		if (!++book->last_id)
			book->last_id = 1;
		entry->id = book->last_id;
		entry->address = claim->address;
		entry->source = claim->source;
		entry->next_ms = now.ms;
		entry->heard_ms = now.ms;
		if (claim->key)
			entry->live = key_is_live(book, claim->key);
	}
	entry_refresh(entry, now, claim);
	return 0;
}

/* --- dialling --------------------------------------------------------------------------------- */

static bool may_dial(const struct p2p_addrbook *book, const struct p2p_addrbook_entry *entry)
{
	if (!entry->id || entry->dialing || entry->own || entry->live)
		return false;
	return entry->proven || is_pinned(entry) || book->unproven_dialing < P2P_DIALS_MAX / 2;
}

/* Another address of the same node is being dialled: one is enough. */
static bool key_is_dialled(const struct p2p_addrbook *book, const struct p2p_addrbook_entry *entry)
{
	size_t i;

	if (!entry->has_key)
		return false;
	for (i = 0; i < P2P_ADDRESSES_MAX; i++)
		if (book->entries[i].id && book->entries[i].dialing && book->entries[i].has_key &&
		    p2p_key_cmp(&book->entries[i].key, &entry->key) == 0)
			return true;
	return false;
}

static bool is_unproven(const struct p2p_addrbook_entry *entry)
{
	return !entry->proven && !is_pinned(entry);
}

const struct p2p_addrbook_entry *p2p_addrbook_next(struct p2p_addrbook *book, struct p2p_time now)
{
	struct p2p_addrbook_entry *best = NULL;
	size_t i;

	if (book->dialing >= P2P_DIALS_MAX)
		return NULL;
	for (i = 0; i < P2P_ADDRESSES_MAX; i++) {
		struct p2p_addrbook_entry *entry = &book->entries[i];

		if (may_dial(book, entry) && entry->next_ms <= now.ms &&
		    (!best || entry->next_ms < best->next_ms) && !key_is_dialled(book, entry))
			best = entry;
	}
	if (!best || !p2p_bucket_take(&book->rate, now, P2P_DIALS_RATE, P2P_DIALS_RATE))
		return NULL;
	best->dialing = true;
	book->dialing++;
	book->unproven_dialing += is_unproven(best);
	return best;
}

struct p2p_time p2p_addrbook_deadline(const struct p2p_addrbook *book, struct p2p_time now)
{
	struct p2p_time next = {UINT64_MAX};
	size_t i;

	if (book->dialing >= P2P_DIALS_MAX)
		return next; /* a report comes first */
	for (i = 0; i < P2P_ADDRESSES_MAX; i++)
		if (may_dial(book, &book->entries[i]) && book->entries[i].next_ms < next.ms &&
		    !key_is_dialled(book, &book->entries[i]))
			next.ms = book->entries[i].next_ms;
	if (next.ms <= now.ms) {
		uint64_t wait = p2p_bucket_wait_ms(&book->rate, now, P2P_DIALS_RATE);

		next.ms = now.ms + (wait ? wait : 1);
	}
	return next;
}

static uint64_t backoff(const struct p2p_addrbook_entry *entry, uint32_t random)
{
	unsigned int shift = entry->failures < 20 ? entry->failures : 20;
	uint64_t ms = (uint64_t)P2P_BACKOFF_MIN_MS << (shift ? shift - 1 : 0);
	/* a seed's node may start any moment; others are heard when they are back */
	uint64_t max = is_pinned(entry) ? P2P_BACKOFF_MAX_MS : P2P_ADDRESS_PROBE_MS;

	if (ms > max)
		ms = max;
	return ms / 2 + random % (ms / 2 + 1);
}

static struct p2p_addrbook_entry *entry_by_id(struct p2p_addrbook *book, uint32_t id)
{
	size_t i;

	for (i = 0; i < P2P_ADDRESSES_MAX; i++)
		if (id && book->entries[i].id == id)
			return &book->entries[i];
	return NULL;
}

void p2p_addrbook_dialed(struct p2p_addrbook *book, struct p2p_time now, uint32_t id,
			 const struct p2p_addrbook_outcome *outcome)
{
	struct p2p_addrbook_entry *entry = entry_by_id(book, id);

	if (!entry || !entry->dialing)
		return;
	book->unproven_dialing -= is_unproven(entry);
	book->dialing--;
	entry->dialing = false;
	entry->own |= outcome->own;
	entry->last_status = outcome->status;
	if (outcome->key) {
		entry->key = *outcome->key;
		entry->has_key = true;
		entry->live = key_is_live(book, &entry->key);
	}
	if (outcome->status == 0 || outcome->duplicate) {
		entry->proven = true;
		entry->failures = 0;
		entry->next_ms = now.ms + P2P_BACKOFF_MIN_MS + outcome->random % 256;
		return;
	}
	entry->failures++;
	entry->next_ms = now.ms + backoff(entry, outcome->random);
	/* nobody answers, nobody speaks of it: let others have the place */
	if (!is_pinned(entry) && entry->failures > 8 &&
	    now.ms - entry->heard_ms > P2P_ADDRESS_FORGET_MS)
		entry->id = 0;
}

void p2p_addrbook_session(struct p2p_addrbook *book, struct p2p_time now, const struct p2p_key *key,
			  bool up, uint32_t random)
{
	size_t i;

	for (i = 0; i < P2P_ADDRESSES_MAX; i++) {
		struct p2p_addrbook_entry *entry = &book->entries[i];

		if (!entry->id || !entry->has_key || p2p_key_cmp(&entry->key, key) != 0)
			continue;
		if (!up && entry->live)
			entry->next_ms = now.ms + DOWN_SOON_MS + random % DOWN_SOON_MS;
		entry->live = up;
	}
}
