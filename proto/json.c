/* JSON out; see json.h. */
#include "proto/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/check.h"
#include "proto/ident.h"

void p2p_json_init(struct p2p_json *json, struct p2p_buf *out)
{
	json->out = out;
	json->comma = false;
}

static void put(struct p2p_json *json, const char *text)
{
	p2p_buf_put(json->out, text, strlen(text));
}

static void separate(struct p2p_json *json)
{
	if (json->comma)
		p2p_buf_put_u8(json->out, ',');
	json->comma = true;
}

static void begin(struct p2p_json *json, uint8_t bracket)
{
	separate(json);
	p2p_buf_put_u8(json->out, bracket);
	json->comma = false;
}

static void end(struct p2p_json *json, uint8_t bracket)
{
	p2p_buf_put_u8(json->out, bracket);
	json->comma = true;
}

void p2p_json_begin_object(struct p2p_json *json)
{
	begin(json, '{');
}

void p2p_json_end_object(struct p2p_json *json)
{
	end(json, '}');
}

void p2p_json_begin_array(struct p2p_json *json)
{
	begin(json, '[');
}

void p2p_json_end_array(struct p2p_json *json)
{
	end(json, ']');
}

/* Length of the UTF-8 sequence at text (RFC 3629: no surrogates, shortest form, up to U+10FFFF); 0
 * when there is none in the `left` bytes (at least 1). */
static size_t utf8_len(const uint8_t *text, size_t left)
{
	uint8_t c = text[0], low = 0x80, high = 0xbf;
	size_t len, i;

	if (c < 0x80)
		return 1;
	if (c < 0xc2 || c > 0xf4)
		return 0;
	len = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	if (len > left)
		return 0;
	if (c == 0xe0)
		low = 0xa0;
	if (c == 0xed)
		high = 0x9f;
	if (c == 0xf0)
		low = 0x90;
	if (c == 0xf4)
		high = 0x8f;
	if (text[1] < low || text[1] > high)
		return 0;
	for (i = 2; i < len; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

static void put_escaped(struct p2p_json *json, uint8_t c)
{
	char escape[8];

	switch (c) {
	case '"':
		put(json, "\\\"");
		return;
	case '\\':
		put(json, "\\\\");
		return;
	case '\n':
		put(json, "\\n");
		return;
	case '\t':
		put(json, "\\t");
		return;
	default:
		(void)snprintf(escape, sizeof(escape), "\\u%04x", c);
		put(json, escape);
	}
}

static void put_quoted_bytes(struct p2p_json *json, const uint8_t *at, size_t left)
{
	p2p_buf_put_u8(json->out, '"');
	while (left) {
		size_t len = utf8_len(at, left);

		if (len == 0)
			put(json, "\xef\xbf\xbd");
		else if (*at < 0x20 || *at == '"' || *at == '\\' || *at == 0x7f)
			put_escaped(json, *at);
		else
			p2p_buf_put(json->out, at, len);
		at += len ? len : 1;
		left -= len ? len : 1;
	}
	p2p_buf_put_u8(json->out, '"');
}

static void put_quoted(struct p2p_json *json, const char *text)
{
	put_quoted_bytes(json, (const uint8_t *)text, text ? strlen(text) : 0);
}

void p2p_json_text(struct p2p_json *json, const void *text, size_t len)
{
	separate(json);
	put_quoted_bytes(json, text, len);
}

bool p2p_json_text_fits(const void *text, size_t len)
{
	const uint8_t *at = text;
	size_t step;

	for (; len; at += step, len -= step) {
		step = utf8_len(at, len);
		if (!step)
			return false;
	}
	return true;
}

void p2p_json_null(struct p2p_json *json)
{
	separate(json);
	put(json, "null");
}

void p2p_json_raw(struct p2p_json *json, const char *text, size_t len)
{
	separate(json);
	p2p_buf_put(json->out, text, len);
}

void p2p_json_i64(struct p2p_json *json, int64_t value)
{
	char text[32];
	bool big = value > 1ll << 53 || value < -(1ll << 53);

	separate(json);
	(void)snprintf(text, sizeof(text), big ? "\"%" PRId64 "\"" : "%" PRId64, value);
	put(json, text);
}

void p2p_json_key(struct p2p_json *json, const char *key)
{
	separate(json);
	put_quoted(json, key);
	p2p_buf_put_u8(json->out, ':');
	json->comma = false;
}

void p2p_json_string(struct p2p_json *json, const char *text)
{
	separate(json);
	put_quoted(json, text);
}

void p2p_json_bool(struct p2p_json *json, bool value)
{
	separate(json);
	put(json, value ? "true" : "false");
}

void p2p_json_u64(struct p2p_json *json, uint64_t value)
{
	char text[32];

	separate(json);
	if (value > 1ull << 53)
		(void)snprintf(text, sizeof(text), "\"%" PRIu64 "\"", value);
	else
		(void)snprintf(text, sizeof(text), "%" PRIu64, value);
	put(json, text);
}

void p2p_json_hex(struct p2p_json *json, const void *data, size_t len)
{
	char text[2 * P2P_KEY_BYTES + 1];

	p2p_require(len <= P2P_KEY_BYTES);
	p2p_hex(text, data, len);
	p2p_json_string(json, text);
}

void p2p_json_put_string(struct p2p_json *json, const char *key, const char *text)
{
	p2p_json_key(json, key);
	p2p_json_string(json, text);
}

void p2p_json_put_u64(struct p2p_json *json, const char *key, uint64_t value)
{
	p2p_json_key(json, key);
	p2p_json_u64(json, value);
}

void p2p_json_put_bool(struct p2p_json *json, const char *key, bool value)
{
	p2p_json_key(json, key);
	p2p_json_bool(json, value);
}

void p2p_json_put_hex(struct p2p_json *json, const char *key, const void *data, size_t len)
{
	p2p_json_key(json, key);
	p2p_json_hex(json, data, len);
}
