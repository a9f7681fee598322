/* What authors had seen; see seen.h. */
#include "crdt/seen.h"

#include <sqlite3.h>
#include <string.h>

#include "crdt/store_private.h"
#include "proto/check.h"
#include "proto/mem.h"

void p2p_seen_init(struct p2p_seen *seen)
{
	memset(seen, 0, sizeof(*seen));
}

void p2p_seen_deinit(struct p2p_seen *seen)
{
	p2p_free(seen->entries);
	p2p_seen_init(seen);
}

/* The first entry that is not before (author, other). */
static size_t place_of(const struct p2p_seen *seen, uint32_t author, uint32_t other)
{
	size_t low = 0, high = seen->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct p2p_seen_entry *at = &seen->entries[mid];

		if (at->author < author || (at->author == author && at->other < other))
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct p2p_seen_entry *entry_of(const struct p2p_seen *seen, uint32_t author, uint32_t other)
{
	size_t at = place_of(seen, author, other);

	if (at == seen->count || seen->entries[at].author != author ||
	    seen->entries[at].other != other)
		return NULL;
	return &seen->entries[at];
}

static int entry_add(struct p2p_seen *seen, uint32_t author, uint32_t other, uint64_t stamp)
{
	size_t at = place_of(seen, author, other), cap;
	struct p2p_seen_entry *grown;

	if (seen->count == seen->cap) {
		cap = seen->cap ? seen->cap * 2 : 32;
		grown = p2p_realloc(seen->entries, cap * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		seen->entries = grown;
		seen->cap = cap;
	}
	memmove(&seen->entries[at + 1], &seen->entries[at],
		(seen->count - at) * sizeof(*seen->entries));
	seen->entries[at] = (struct p2p_seen_entry){author, other, false, stamp};
	seen->count++;
	return 0;
}

/* What one author saw: (varint other, varint stamp) one after the other. */
static int load_author(struct p2p_seen *seen, sqlite3_stmt *row)
{
	uint32_t author = (uint32_t)sqlite3_column_int64(row, 0);
	struct p2p_reader reader;
	uint64_t other, stamp;
	int rc = 0;

	p2p_reader_init(&reader, sqlite3_column_blob(row, 1), (size_t)sqlite3_column_bytes(row, 1));
	while (p2p_reader_left(&reader) && !reader.failed && !rc) {
		other = p2p_read_varint(&reader);
		stamp = p2p_read_varint(&reader);
		if (!reader.failed && other <= P2P_REPLICAS_MAX)
			rc = entry_add(seen, author, (uint32_t)other, stamp);
	}
	return reader.failed ? P2P_ECORRUPT : rc;
}

static int load(struct p2p_seen *seen, struct p2p_store *store)
{
	sqlite3_stmt *stmt;
	int rc = p2p_store_statement(store, P2P_SQL_SEEN_EACH, &stmt);

	if (rc)
		return rc;
	while (p2p_store_next(store, stmt, &rc))
		rc = load_author(seen, stmt);
	seen->loaded = rc == 0;
	return rc;
}

static int save_author(const struct p2p_seen *seen, struct p2p_store *store, size_t *at)
{
	uint32_t author = seen->entries[*at].author;
	struct p2p_buf bytes;
	sqlite3_stmt *stmt;
	int rc;

	p2p_buf_init(&bytes, (size_t)P2P_REPLICAS_MAX * 20);
	for (; *at < seen->count && seen->entries[*at].author == author; ++*at) {
		p2p_buf_put_varint(&bytes, seen->entries[*at].other);
		p2p_buf_put_varint(&bytes, seen->entries[*at].stamp);
	}
	rc = p2p_buf_error(&bytes);
	if (!rc)
		rc = p2p_store_statement(store, P2P_SQL_SEEN_SET, &stmt);
	if (!rc &&
	    (sqlite3_bind_int64(stmt, 1, author) != SQLITE_OK ||
	     sqlite3_bind_blob64(stmt, 2, bytes.data, bytes.len, SQLITE_STATIC) != SQLITE_OK))
		rc = P2P_ENOMEM;
	if (!rc)
		rc = p2p_store_run(store, stmt, "note what an author saw in");
	p2p_buf_deinit(&bytes);
	return rc;
}

/* The entries of one author from *at on; *out: something of it is not in the file yet. */
static size_t author_dirty(const struct p2p_seen *seen, size_t at, bool *out)
{
	uint32_t author = seen->entries[at].author;

	for (*out = false; at < seen->count && seen->entries[at].author == author; at++)
		*out |= seen->entries[at].dirty;
	return at;
}

int p2p_seen_save(struct p2p_seen *seen, struct p2p_store *store)
{
	size_t at = 0, i;
	bool dirty;
	int rc = 0;

	p2p_require(p2p_store_in_transaction(store));
	while (seen->dirty && at < seen->count && !rc) {
		size_t next = author_dirty(seen, at, &dirty);

		if (dirty)
			rc = save_author(seen, store, &at);
		else
			at = next;
	}
	for (i = 0; i < seen->count && seen->dirty && !rc; i++)
		seen->entries[i].dirty = false;
	seen->dirty = seen->dirty && rc;
	return rc;
}

static int note_dep(struct p2p_seen *seen, struct p2p_store *store, uint32_t author,
		    const struct p2p_id *replica, struct p2p_hlc stamp)
{
	struct p2p_seen_entry *entry;
	uint32_t other;
	int rc = p2p_store_replica_number(store, replica, &other);

	if (rc)
		return rc;
	entry = entry_of(seen, author, other);
	if (!entry) {
		rc = entry_add(seen, author, other, 0);
		entry = rc ? NULL : entry_of(seen, author, other);
	}
	if (!entry || entry->stamp >= stamp.value)
		return rc;
	entry->stamp = stamp.value;
	entry->dirty = seen->dirty = true;
	return 0;
}

int p2p_seen_note(struct p2p_seen *seen, struct p2p_store *store, const struct p2p_header *header,
		  p2p_seen_stamp stamp_of, void *ctx)
{
	struct p2p_hlc stamp;
	uint32_t author;
	size_t i;
	int rc = 0;

	p2p_require(p2p_store_in_transaction(store));
	if (!seen->loaded)
		rc = load(seen, store);
	if (!rc && header->dep_count && stamp_of)
		rc = p2p_store_replica_number(store, &header->replica, &author);
	for (i = 0; i < header->dep_count && stamp_of && !rc; i++) {
		rc = stamp_of(ctx, &header->deps[i].replica, header->deps[i].seq, &stamp);
		if (!rc)
			rc = note_dep(seen, store, author, &header->deps[i].replica, stamp);
		else if (rc == P2P_ENOENT)
			rc = 0; /* gone from the log: it counts as not seen */
	}
	return rc;
}

bool p2p_seen_covers(const struct p2p_seen *seen, uint32_t author, uint32_t other, uint64_t stamp)
{
	const struct p2p_seen_entry *entry;

	if (author == other)
		return true;
	entry = entry_of(seen, author, other);
	return entry && entry->stamp >= stamp;
}
