/* Packing and budgeted unpacking of protobuf messages; see message.h. */
#include "proto/message.h"

#include <string.h>

#include "proto/check.h"
#include "proto/limits.h"
#include "proto/mem.h"

/* One block that protobuf-c allocates from and never frees into; dropped as a whole. */
struct arena {
	size_t used;
	size_t size;
	struct arena_chunk *chunks;
	size_t budget; /* bytes that may still be allocated */
	bool starved;  /* this machine, not the message, was at fault */
};

struct arena_chunk {
	struct arena_chunk *next;
	_Alignas(16) uint8_t bytes[];
};

#define ARENA_CHUNK_BYTES 4096

static void *arena_alloc(void *ctx, size_t size)
{
	struct arena *arena = ctx;
	struct arena_chunk *chunk;
	size_t want;

	if (size > SIZE_MAX - 15)
		return NULL;
	size = (size + 15) & ~(size_t)15;
	if (size > arena->budget)
		return NULL;
	if (!arena->chunks || arena->size - arena->used < size) {
		want = size > ARENA_CHUNK_BYTES ? size : ARENA_CHUNK_BYTES;
		chunk = p2p_malloc(sizeof(*chunk) + want);
		if (!chunk) {
			arena->starved = true;
			return NULL;
		}
		chunk->next = arena->chunks;
		arena->chunks = chunk;
		arena->size = want;
		arena->used = 0;
	}
	arena->budget -= size;
	arena->used += size;
	return arena->chunks->bytes + arena->used - size;
}

static void arena_no_free(void *ctx, void *ptr)
{
	(void)ctx;
	(void)ptr; /* the arena goes as a whole */
}

void p2p_unpack_free(void *arena_ptr)
{
	struct arena *arena = arena_ptr;

	if (!arena)
		return;
	while (arena->chunks) {
		struct arena_chunk *next = arena->chunks->next;

		p2p_free(arena->chunks);
		arena->chunks = next;
	}
	p2p_free(arena);
}

int p2p_unpack(const ProtobufCMessageDescriptor *descriptor, const void *data, size_t len,
	       const ProtobufCMessage **out, void **out_arena)
{
	ProtobufCAllocator allocator = {arena_alloc, arena_no_free, NULL};
	struct arena *arena;
	ProtobufCMessage *message;

	if (len > P2P_MESSAGE_MAX)
		return P2P_ETOOBIG;
	arena = p2p_calloc(1, sizeof(*arena));
	if (!arena)
		return P2P_ENOMEM;
	arena->budget = P2P_UNPACK_FLOOR_BYTES + P2P_UNPACK_FACTOR * len;
	allocator.allocator_data = arena;
	message = protobuf_c_message_unpack(descriptor, &allocator, len, data);
	if (!message) {
		/* protobuf-c does not tell a bad message from a failed allocation */
		int rc = arena->starved ? P2P_ENOMEM : P2P_EPROTO;

		p2p_unpack_free(arena);
		return rc;
	}
	*out = message;
	*out_arena = arena;
	return 0;
}

int p2p_pack(struct p2p_buf *out, const ProtobufCMessage *message)
{
	size_t len = protobuf_c_message_get_packed_size(message);
	uint8_t *at = p2p_buf_reserve(out, len);

	if (!at)
		return p2p_buf_error(out);
	p2p_require(protobuf_c_message_pack(message, at) == len);
	out->len += len;
	return 0;
}

int p2p_message_pack(struct p2p_buf *out, enum p2p_message_type type,
		     const ProtobufCMessage *message)
{
	size_t before = out->len;
	int rc;

	if (protobuf_c_message_get_packed_size(message) + 1 > P2P_MESSAGE_MAX)
		return P2P_ETOOBIG;
	p2p_buf_put_u8(out, (uint8_t)type);
	rc = p2p_buf_error(out);
	if (!rc)
		rc = p2p_pack(out, message);
	if (rc)
		out->len = before;
	return rc;
}

static const ProtobufCMessageDescriptor *message_descriptor(uint8_t type)
{
	switch (type) {
#define X(name, value, lower, upper) \
	case value:                  \
		return &p2p__v1__##lower##__descriptor;
		P2P_MESSAGES(X)
#undef X
	default:
		return NULL;
	}
}

int p2p_message_unpack(struct p2p_message *out, const void *data, size_t len)
{
	const uint8_t *bytes = data;
	const ProtobufCMessageDescriptor *descriptor;
	const ProtobufCMessage *base;
	void *arena;
	int rc;

	if (len == 0)
		return P2P_EPROTO;
	if (len > P2P_MESSAGE_MAX)
		return P2P_ETOOBIG;
	descriptor = message_descriptor(bytes[0]);
	if (!descriptor)
		return P2P_MESSAGE_UNKNOWN;
	rc = p2p_unpack(descriptor, bytes + 1, len - 1, &base, &arena);
	if (rc)
		return rc;
	out->type = (enum p2p_message_type)bytes[0];
	out->base = base;
	out->arena = arena;
	return 0;
}

void p2p_message_deinit(struct p2p_message *message)
{
	p2p_unpack_free(message->arena);
	memset(message, 0, sizeof(*message));
}

const char *p2p_message_name(enum p2p_message_type type)
{
	switch (type) {
#define X(name, value, lower, upper) \
	case P2P_MSG_##name:         \
		return #name;
		P2P_MESSAGES(X)
#undef X
	}
	return "?";
}

static int field_copy(void *out, size_t len, const ProtobufCBinaryData *field)
{
	if (field->len != len)
		return P2P_EPROTO;
	memcpy(out, field->data, len);
	return 0;
}

int p2p_field_id(struct p2p_id *out, const ProtobufCBinaryData *field)
{
	return field_copy(out->bytes, sizeof(out->bytes), field);
}

int p2p_field_hash(struct p2p_hash *out, const ProtobufCBinaryData *field)
{
	return field_copy(out->bytes, sizeof(out->bytes), field);
}

int p2p_field_key(struct p2p_key *out, const ProtobufCBinaryData *field)
{
	return field_copy(out->bytes, sizeof(out->bytes), field);
}

int p2p_field_signature(struct p2p_signature *out, const ProtobufCBinaryData *field)
{
	return field_copy(out->bytes, sizeof(out->bytes), field);
}

ProtobufCBinaryData p2p_field(const void *data, size_t len)
{
	/* protobuf-c wants a pointer to non-const and only reads it while packing */
	union {
		const void *in;
		uint8_t *out;
	} ptr = {.in = data};
	ProtobufCBinaryData field = {len, ptr.out};

	return field;
}
