/* Messages: protobuf under a byte budget, and the one table of message types.
 *
 * protobuf-c allocates about 100 times what hostile input weighs, so every unpack runs in an
 * arena whose size is a small multiple of the wire size; freeing is one call. Field sizes (16-byte
 * ids, 32-byte keys and hashes) are checked by the receivers through p2p_msg_id() and friends. */
#ifndef P2P_PROTO_MESSAGE_H
#define P2P_PROTO_MESSAGE_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"
#include "proto/error.h"
#include "proto/ident.h"
#include "proto/p2p.pb-c.h"

/* Version of the messages below, negotiated in the handshake (R47). */
#define P2P_MESSAGE_VERSION 1
/* Greatest format of signed things that this build reads and writes (decisions 12). */
#define P2P_FORMAT 1

/* Order on a session: control overtakes small overtakes bulk (decisions 43). */
enum p2p_class { P2P_CLASS_CONTROL, P2P_CLASS_SMALL, P2P_CLASS_BULK, P2P_CLASS_COUNT };

// clang-format off
/*      name          type  protobuf name (lower, then descriptor prefix) */
#define P2P_MESSAGES(X) \
	X(HELLO,        1, hello,        Hello) \
	X(HAVE,         2, have,         Have) \
	X(WANT,         3, want,         Want) \
	X(CHANGES,      4, changes,      Changes) \
	X(ACK,          5, ack,          Ack) \
	X(REJECT,       6, reject,       Reject) \
	X(WANT_HEADER,  7, want_header,  WantHeader) \
	X(HEADER_PROOF, 8, header_proof, HeaderProof) \
	X(MEMBERS,      9, members,      Members) \
	X(RECORDS,     10, records,      Records) \
	X(JOIN_REQUEST,11, join_request, JoinRequest) \
	X(JOIN_REPLY,  12, join_reply,   JoinReply) \
	X(PING,        13, ping,         Ping) \
	X(PONG,        14, pong,         Pong) \
	X(ERROR,       15, error,        Error) \
	X(BYE,         16, bye,          Bye) \
	X(EPHEMERAL,   17, ephemeral,    Ephemeral)
// clang-format on

enum p2p_message_type {
#define X(name, type, lower, upper) P2P_MSG_##name = type,
	P2P_MESSAGES(X)
#undef X
};

/* A received message and the memory that it lives in. */
struct p2p_message {
	enum p2p_message_type type;
	union {
		const ProtobufCMessage *base;
#define X(name, type, lower, upper) const P2p__V1__##upper *lower;
		P2P_MESSAGES(X)
#undef X
	};
	void *arena; /* owned: everything above points into it */
};

/* Appends type byte and packed message to out. P2P_ETOOBIG over P2P_MESSAGE_MAX or out's maximum,
 * P2P_ENOMEM; out is then as before. */
int p2p_message_pack(struct p2p_buf *out, enum p2p_message_type type,
		     const ProtobufCMessage *message) P2P_MUST_CHECK;

/* Returns 0; P2P_MESSAGE_UNKNOWN for a type of a later version (skip it); P2P_EPROTO for bytes
 * that are no message, P2P_ETOOBIG over a limit or budget, P2P_ENOMEM. *out is set on 0 only; free
 * it with p2p_message_deinit(). The result does not point into data. */
#define P2P_MESSAGE_UNKNOWN 1
int p2p_message_unpack(struct p2p_message *out, const void *data, size_t len) P2P_MUST_CHECK;
void p2p_message_deinit(struct p2p_message *message);
/* "HELLO"; "?" for an unknown type. */
const char *p2p_message_name(enum p2p_message_type type);

/* Any one protobuf message under a budget: signed bodies, headers, handshake payloads.
 * P2P_EPROTO, P2P_ETOOBIG, P2P_ENOMEM. On 0 free *out_arena with p2p_unpack_free(). */
int p2p_unpack(const ProtobufCMessageDescriptor *descriptor, const void *data, size_t len,
	       const ProtobufCMessage **out, void **out_arena) P2P_MUST_CHECK;
void p2p_unpack_free(void *arena); /* NULL allowed */
/* Packs any one protobuf message, appended to out; as p2p_message_pack without the type byte. */
int p2p_pack(struct p2p_buf *out, const ProtobufCMessage *message) P2P_MUST_CHECK;

/* Copies a bytes field of exactly the right size. P2P_EPROTO otherwise; out untouched. */
int p2p_field_id(struct p2p_id *out, const ProtobufCBinaryData *field) P2P_MUST_CHECK;
int p2p_field_hash(struct p2p_hash *out, const ProtobufCBinaryData *field) P2P_MUST_CHECK;
int p2p_field_key(struct p2p_key *out, const ProtobufCBinaryData *field) P2P_MUST_CHECK;
int p2p_field_signature(struct p2p_signature *out, const ProtobufCBinaryData *field) P2P_MUST_CHECK;
/* A borrowing field for packing. */
ProtobufCBinaryData p2p_field(const void *data, size_t len);

#endif
