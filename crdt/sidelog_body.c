/* Bodies of changesets as streams of records over segments; see sidelog.h. */
#include <string.h>

#include "crdt/sidelog_private.h"
#include "proto/check.h"
#include "proto/limits.h"
#include "proto/mem.h"

#define VARINT_BYTES_MAX 10

/* --- reading ---------------------------------------------------------------------------------- */

struct p2p_body_reader {
	struct p2p_sidelog *log; /* borrowed */
	struct p2p_id replica;
	uint64_t seq;
	uint32_t segment, segment_count;
	struct p2p_buf data;   /* the segment that is read */
	size_t pos;	       /* in data */
	struct p2p_buf record; /* a record that spans segments */
};

int p2p_body_reader_open(struct p2p_sidelog *log, const struct p2p_stored *stored,
			 struct p2p_body_reader **out)
{
	struct p2p_body_reader *reader = p2p_calloc(1, sizeof(*reader));

	if (!reader)
		return P2P_ENOMEM;
	reader->log = log;
	reader->replica = stored->replica;
	reader->seq = stored->seq;
	reader->segment_count = stored->segment_count;
	p2p_buf_init(&reader->data, P2P_SEGMENT_BYTES);
	p2p_buf_init(&reader->record, P2P_RECORD_BYTES_MAX);
	*out = reader;
	return 0;
}

void p2p_body_reader_close(struct p2p_body_reader *reader)
{
	p2p_buf_deinit(&reader->data);
	p2p_buf_deinit(&reader->record);
	p2p_free(reader);
}

/* Next segment when this one is used up. P2P_ENOENT: there is no further one. */
static int reader_fill(struct p2p_body_reader *reader)
{
	int rc;

	while (reader->pos == reader->data.len) {
		if (reader->segment == reader->segment_count)
			return P2P_ENOENT;
		rc = p2p_sidelog_get_segment(reader->log, &reader->replica, reader->seq,
					     reader->segment, &reader->data);
		if (rc)
			return rc == P2P_ENOENT ? P2P_ECORRUPT : rc;
		reader->segment++;
		reader->pos = 0;
	}
	return 0;
}

/* Varint byte by byte, for it may span segments. *out_end: the body ends where a record may. */
static int reader_length(struct p2p_body_reader *reader, uint64_t *out, bool *out_end)
{
	uint8_t bytes[VARINT_BYTES_MAX];
	struct p2p_reader varint;
	size_t len = 0;
	int rc;

	*out_end = false;
	do {
		rc = reader_fill(reader);
		if (rc == P2P_ENOENT && len == 0) {
			*out_end = true;
			return 0;
		}
		if (rc)
			return rc == P2P_ENOENT ? P2P_EPROTO : rc;
		bytes[len++] = reader->data.data[reader->pos++];
	} while (bytes[len - 1] & 0x80 && len < sizeof(bytes));
	p2p_reader_init(&varint, bytes, len);
	*out = p2p_read_varint(&varint);
	return p2p_reader_error(&varint);
}

static int reader_gather(struct p2p_body_reader *reader, size_t len)
{
	size_t part;
	int rc;

	p2p_buf_reset(&reader->record);
	while (reader->record.len < len) {
		rc = reader_fill(reader);
		if (rc)
			return rc == P2P_ENOENT ? P2P_EPROTO : rc;
		part = reader->data.len - reader->pos;
		if (part > len - reader->record.len)
			part = len - reader->record.len;
		p2p_buf_put(&reader->record, reader->data.data + reader->pos, part);
		reader->pos += part;
		rc = p2p_buf_error(&reader->record);
		if (rc)
			return rc;
	}
	return 0;
}

int p2p_body_reader_next(struct p2p_body_reader *reader, const uint8_t **out_data, size_t *out_len)
{
	uint64_t len = 0;
	bool end;
	int rc = reader_length(reader, &len, &end);

	*out_data = NULL;
	*out_len = 0;
	if (rc || end)
		return rc;
	if (len == 0)
		return P2P_EPROTO;
	if (len > P2P_RECORD_BYTES_MAX)
		return P2P_ETOOBIG;
	*out_len = (size_t)len;
	if (reader->data.len - reader->pos >= len) {
		*out_data = reader->data.data + reader->pos;
		reader->pos += *out_len;
		return 0;
	}
	rc = reader_gather(reader, *out_len);
	*out_data = reader->record.data;
	return rc;
}

/* --- writing ---------------------------------------------------------------------------------- */

struct p2p_body_writer {
	struct p2p_sidelog *log; /* borrowed */
	struct p2p_id replica;
	uint64_t seq, total;
	int64_t key;
	struct p2p_buf data;	 /* the segment that fills */
	struct p2p_hash *hashes; /* owned: of full segments */
	size_t count, cap;
	bool early; /* segments were stored already */
};

int p2p_body_writer_open(struct p2p_sidelog *log, const struct p2p_id *replica, uint64_t seq,
			 struct p2p_body_writer **out)
{
	struct sidelog_replica *at;
	struct p2p_body_writer *writer;
	int64_t number, key;
	int rc;

	p2p_require(p2p_sidelog_in_transaction(log));
	rc = sidelog_replica(log, replica, &number, &at);
	if (!rc)
		rc = sidelog_key(number, seq, &key);
	if (rc)
		return rc;
	writer = p2p_calloc(1, sizeof(*writer));
	if (!writer)
		return P2P_ENOMEM;
	writer->log = log;
	writer->replica = *replica;
	writer->seq = seq;
	writer->key = key;
	p2p_buf_init(&writer->data, P2P_SEGMENT_BYTES);
	*out = writer;
	return 0;
}

void p2p_body_writer_close(struct p2p_body_writer *writer)
{
	if (!writer)
		return;
	p2p_buf_deinit(&writer->data);
	p2p_free(writer->hashes);
	p2p_free(writer);
}

static int writer_hash(struct p2p_body_writer *writer)
{
	struct p2p_hash *grown;
	size_t cap;

	if (writer->count == P2P_SEGMENTS_MAX)
		return P2P_ETOOBIG;
	if (writer->count == writer->cap) {
		cap = writer->cap ? writer->cap * 2 : 4;
		grown = p2p_realloc(writer->hashes, cap * sizeof(*grown));
		if (!grown)
			return P2P_ENOMEM;
		writer->hashes = grown;
		writer->cap = cap;
	}
	p2p_hash_bytes(&writer->hashes[writer->count++], writer->data.data, writer->data.len);
	return 0;
}

static int writer_flush(struct p2p_body_writer *writer)
{
	int rc = writer_hash(writer);

	if (!rc)
		rc = sidelog_put_early_segment(writer->log, writer->key,
					       (uint32_t)writer->count - 1, writer->data.data,
					       writer->data.len);
	writer->early = true;
	p2p_buf_reset(&writer->data);
	return rc;
}

int p2p_body_writer_put(struct p2p_body_writer *writer, const void *data, size_t len)
{
	const uint8_t *at = data;
	size_t part;
	int rc;

	if (len > P2P_CHANGESET_BYTES_MAX - writer->total)
		return P2P_ETOOBIG;
	writer->total += len;
	while (len) {
		/* a body of exactly one segment stays in the changeset's row */
		if (writer->data.len == P2P_SEGMENT_BYTES) {
			rc = writer_flush(writer);
			if (rc)
				return rc;
		}
		part = P2P_SEGMENT_BYTES - writer->data.len;
		if (part > len)
			part = len;
		p2p_buf_put(&writer->data, at, part);
		rc = p2p_buf_error(&writer->data);
		if (rc)
			return rc;
		at += part;
		len -= part;
	}
	return 0;
}

static int writer_store(struct p2p_body_writer *writer, const struct p2p_header *header,
			struct p2p_stored *stored)
{
	bool inlined = writer->count == 1 && !writer->early;
	int rc = 0;

	stored->replica = writer->replica;
	stored->seq = writer->seq;
	stored->stamp = header->stamp.value;
	stored->group_pos = header->group_pos;
	stored->group_last = header->group_last;
	stored->total_bytes = writer->total;
	stored->segment_count = (uint32_t)writer->count;
	stored->segments_have = inlined ? 0 : stored->segment_count;
	if (!inlined && writer->data.len)
		rc = sidelog_put_early_segment(writer->log, writer->key,
					       (uint32_t)writer->count - 1, writer->data.data,
					       writer->data.len);
	if (!rc)
		rc = p2p_sidelog_put_header(writer->log, stored);
	if (!rc && inlined)
		rc = p2p_sidelog_put_segment(writer->log, &writer->replica, writer->seq, 0,
					     writer->data.data, writer->data.len);
	return rc;
}

int p2p_body_writer_finish(struct p2p_body_writer *writer, struct p2p_header *header,
			   const struct p2p_hash *mesh, const uint8_t *secret, int64_t journal,
			   struct p2p_hash *out_hash)
{
	struct p2p_stored stored;
	struct p2p_buf raw;
	int rc = writer->data.len ? writer_hash(writer) : 0;

	if (rc)
		return rc;
	memset(&stored, 0, sizeof(stored));
	header->total_bytes = writer->total;
	header->segment_bytes = P2P_SEGMENT_BYTES;
	header->segments = writer->hashes; /* the header's from now on */
	header->segment_count = writer->count;
	writer->hashes = NULL;
	p2p_buf_init(&raw, P2P_HEADER_BYTES_MAX);
	rc = p2p_header_pack(&raw, header);
	if (!rc) {
		p2p_header_hash(&stored.hash, mesh, raw.data, raw.len);
		stored.raw = raw.data;
		stored.raw_len = raw.len;
		stored.journal = journal;
		stored.has_signature = secret != NULL;
		if (secret)
			p2p_header_sign(&stored.signature, mesh, &stored.hash, secret);
		*out_hash = stored.hash;
		rc = writer_store(writer, header, &stored);
	}
	p2p_buf_deinit(&raw);
	return rc;
}
