/* A writer of JSON (RFC 8259) into a bounded buffer. Writer only: nothing here reads JSON. */
#ifndef P2P_PROTO_JSON_H
#define P2P_PROTO_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "proto/buf.h"

struct p2p_json {
	struct p2p_buf *out; /* borrowed; its error tells of everything below */
	bool comma;	     /* the next value or key stands after another */
};

void p2p_json_init(struct p2p_json *json, struct p2p_buf *out);
void p2p_json_begin_object(struct p2p_json *json);
void p2p_json_end_object(struct p2p_json *json);
void p2p_json_begin_array(struct p2p_json *json);
void p2p_json_end_array(struct p2p_json *json);
void p2p_json_key(struct p2p_json *json, const char *key);
/* Bytes that are not UTF-8 become U+FFFD; NULL is written as "". */
void p2p_json_string(struct p2p_json *json, const char *text);
void p2p_json_bool(struct p2p_json *json, bool value);
void p2p_json_null(struct p2p_json *json);
/* Text with its length: NUL is escaped, bytes that are not UTF-8 become U+FFFD. */
void p2p_json_text(struct p2p_json *json, const void *text, size_t len);
bool p2p_json_text_fits(const void *text, size_t len); /* it is UTF-8: nothing is replaced */
/* As it is: a number, or a value that is JSON already. */
void p2p_json_raw(struct p2p_json *json, const char *text, size_t len);
void p2p_json_i64(struct p2p_json *json, int64_t value); /* beyond +-2^53 as a string */
/* Beyond 2^53 as a string, so that readers that know only doubles lose nothing. */
void p2p_json_u64(struct p2p_json *json, uint64_t value);
void p2p_json_hex(struct p2p_json *json, const void *data, size_t len); /* at most 32 bytes */

/* Key and value. */
void p2p_json_put_string(struct p2p_json *json, const char *key, const char *text);
void p2p_json_put_u64(struct p2p_json *json, const char *key, uint64_t value);
void p2p_json_put_bool(struct p2p_json *json, const char *key, bool value);
void p2p_json_put_hex(struct p2p_json *json, const char *key, const void *data, size_t len);

#endif
