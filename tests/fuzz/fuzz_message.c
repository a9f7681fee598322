/* Every protobuf message, signed body, header and handshake payload: unpacked under its budget,
 * packed, and unpacked again. */
#include <stdio.h>
#include <string.h>

#include "proto/limits.h"
#include "proto/message.h"
#include "tests/fuzz/fuzz.h"

#define LEN_MAX 4096

static const ProtobufCMessageDescriptor *const bodies[] = {
	&p2p__v1__signed__descriptor,	       &p2p__v1__genesis__descriptor,
	&p2p__v1__admission__descriptor,       &p2p__v1__certificate__descriptor,
	&p2p__v1__schema__descriptor,	       &p2p__v1__changeset_header__descriptor,
	&p2p__v1__handshake_offer__descriptor, &p2p__v1__handshake_identity__descriptor,
};

static bool has_field_zero(const ProtobufCMessage *message);

static bool field_has_zero(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
	const char *at = (const char *)message + field->offset;
	const ProtobufCMessage *const *list;
	size_t i, count;

	if (field->label != PROTOBUF_C_LABEL_REPEATED)
		return false; /* no message of ours has another inside that is not in a list */
	memcpy(&count, (const char *)message + field->quantifier_offset, sizeof(count));
	memcpy(&list, at, sizeof(list));
	for (i = 0; i < count; i++)
		if (has_field_zero(list[i]))
			return true;
	return false;
}

/* protobuf-c takes an unknown field of number 0 if its tag has more than one byte, and writes it as
 * one byte, which it refuses: nothing of ours packs what others sent, records excepted, and those
 * are read again before they are kept. */
static bool has_field_zero(const ProtobufCMessage *message)
{
	unsigned int i;

	for (i = 0; i < message->n_unknown_fields; i++)
		if (message->unknown_fields[i].tag == 0)
			return true;
	for (i = 0; i < message->descriptor->n_fields; i++)
		if (message->descriptor->fields[i].type == PROTOBUF_C_TYPE_MESSAGE &&
		    field_has_zero(message, &message->descriptor->fields[i]))
			return true;
	return false;
}

/* After the first packing (which writes every field in its one way) nothing changes any more. */
static void check_body(const ProtobufCMessageDescriptor *descriptor, const uint8_t *data,
		       size_t len)
{
	const ProtobufCMessage *message;
	struct p2p_buf first, second;
	void *arena;
	int rc = p2p_unpack(descriptor, data, len, &message, &arena);

	if (rc) {
		p2p_require(rc == P2P_EPROTO);
		return;
	}
	p2p_require(message->descriptor == descriptor);
	if (has_field_zero(message)) {
		p2p_unpack_free(arena);
		return;
	}
	p2p_buf_init(&first, P2P_MESSAGE_MAX);
	p2p_buf_init(&second, P2P_MESSAGE_MAX);
	fuzz_ok(p2p_pack(&first, message));
	p2p_unpack_free(arena);
	fuzz_ok(p2p_unpack(descriptor, first.data, first.len, &message, &arena));
	fuzz_ok(p2p_pack(&second, message));
	p2p_unpack_free(arena);
	p2p_require(first.len == second.len);
	p2p_require(!first.len || memcmp(first.data, second.data, first.len) == 0);
	p2p_buf_deinit(&first);
	p2p_buf_deinit(&second);
	fuzz_deep();
}

static void check_fields(const struct p2p_message *message)
{
	struct p2p_id id;
	struct p2p_hash hash;

	if (message->type == P2P_MSG_WANT && p2p_field_id(&id, &message->want->replica) == 0)
		p2p_require(memcmp(id.bytes, message->want->replica.data, P2P_ID_BYTES) == 0);
	if (message->type == P2P_MSG_HAVE && p2p_field_hash(&hash, &message->have->digest))
		p2p_require(message->have->digest.len != P2P_HASH_BYTES);
	p2p_require(strcmp(p2p_message_name(message->type), "?") != 0);
}

static void check_message(const uint8_t *data, size_t len)
{
	struct p2p_message message, again;
	struct p2p_buf first, second;
	int rc = p2p_message_unpack(&message, data, len);

	if (rc) {
		p2p_require(rc == P2P_EPROTO || (rc == P2P_MESSAGE_UNKNOWN &&
						 (data[0] == 0 || data[0] > P2P_MSG_EPHEMERAL)));
		return;
	}
	check_fields(&message);
	if (has_field_zero(message.base)) {
		p2p_message_deinit(&message);
		return;
	}
	p2p_buf_init(&first, P2P_MESSAGE_MAX);
	p2p_buf_init(&second, P2P_MESSAGE_MAX);
	fuzz_ok(p2p_message_pack(&first, message.type, message.base));
	fuzz_ok(p2p_message_unpack(&again, first.data, first.len));
	p2p_require(again.type == message.type);
	fuzz_ok(p2p_message_pack(&second, again.type, again.base));
	p2p_require(first.len == second.len);
	p2p_require(memcmp(first.data, second.data, first.len) == 0);
	p2p_message_deinit(&again);
	p2p_message_deinit(&message);
	p2p_buf_deinit(&first);
	p2p_buf_deinit(&second);
	fuzz_deep();
}

static void one(const uint8_t *data, size_t len)
{
	if (len && data[0] >= 0x80)
		check_body(bodies[(data[0] - 0x80) % p2p_array_len(bodies)], data + 1, len - 1);
	else
		check_message(data, len);
}

/* --- seeds: every field of every message once --------------------------------------------------
 */

static void put_tag(struct p2p_buf *out, uint32_t id, uint32_t wire)
{
	p2p_buf_put_varint(out, id << 3 | wire);
}

static void put_filled(struct p2p_buf *out, const ProtobufCMessageDescriptor *descriptor,
		       uint32_t bytes_len);

static void put_field(struct p2p_buf *out, const ProtobufCFieldDescriptor *field,
		      uint32_t bytes_len)
{
	static const uint8_t bytes[64] = {1, 2, 3, 4};
	struct p2p_buf inner;

	if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
		p2p_buf_init(&inner, LEN_MAX);
		put_filled(&inner, field->descriptor, bytes_len);
		put_tag(out, field->id, 2);
		p2p_buf_put_bytes(out, inner.data, inner.len);
		p2p_buf_deinit(&inner);
	} else if (field->type == PROTOBUF_C_TYPE_BYTES) {
		put_tag(out, field->id, 2);
		p2p_buf_put_bytes(out, bytes, bytes_len);
	} else if (field->type == PROTOBUF_C_TYPE_STRING) {
		put_tag(out, field->id, 2);
		p2p_buf_put_bytes(out, "text", 4);
	} else {
		put_tag(out, field->id, 0);
		p2p_buf_put_varint(out, field->id);
	}
}

static void put_filled(struct p2p_buf *out, const ProtobufCMessageDescriptor *descriptor,
		       uint32_t bytes_len)
{
	unsigned int i, n;

	for (i = 0; i < descriptor->n_fields; i++)
		for (n = descriptor->fields[i].label == PROTOBUF_C_LABEL_REPEATED ? 2 : 1; n; n--)
			put_field(out, &descriptor->fields[i], bytes_len);
}

static void seed(uint8_t first, const ProtobufCMessageDescriptor *descriptor)
{
	static const uint32_t lens[] = {16, 32};
	char name[64];
	struct p2p_buf out;
	size_t i;

	for (i = 0; i < p2p_array_len(lens); i++) {
		p2p_buf_init(&out, LEN_MAX);
		p2p_buf_put_u8(&out, first);
		put_filled(&out, descriptor, lens[i]);
		(void)snprintf(name, sizeof(name), "%s_%u", descriptor->short_name, lens[i]);
		fuzz_seed(name, out.data, out.len);
		p2p_buf_deinit(&out);
	}
}

static void seeds(void)
{
	static const uint8_t expanding[257] = {P2P_MSG_HAVE, 0x12, 0, 0x12, 0, 0x12, 0};
	size_t i;

#define X(name, type, lower, upper) seed(type, &p2p__v1__##lower##__descriptor);
	P2P_MESSAGES(X)
#undef X
	for (i = 0; i < p2p_array_len(bodies); i++)
		seed((uint8_t)(0x80 + i), bodies[i]);
	fuzz_seed("expanding", expanding, sizeof(expanding));
	fuzz_seed("unknown_type", "\x7f\x08\x01", 3);
	fuzz_seed("unknown_field", "\x0d\x08\x01\xf8\x07\x01", 6);
	fuzz_seed("field_zero", "\x0d\x08\x01\x80\0\0", 6);
}

const struct fuzz_target fuzz_target = {
	.name = "message",
	.len_max = LEN_MAX,
	/* two arenas with the overhead of their chunks, two buffers */
	.memory_max = 2 * (P2P_UNPACK_FLOOR_BYTES + (P2P_UNPACK_FACTOR + 4) * LEN_MAX) + 64 * 1024,
	.cpu_ms_max = 100,
	.one = one,
	.seeds = seeds};
