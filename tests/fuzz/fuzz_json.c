/* JSON that is written of names and texts that others chose: always well formed, always UTF-8. */
#include <string.h>

#include "proto/json.h"
#include "tests/fuzz/fuzz.h"

#define LEN_MAX	  1024
#define DEPTH_MAX 8

/* --- a reader of its own: RFC 8259, strings must be UTF-8 ---------------------------------------
 */

struct parse {
	const uint8_t *at, *end;
};

static void need(const struct parse *p, size_t len)
{
	p2p_require((size_t)(p->end - p->at) >= len);
}

static void skip_utf8(struct parse *p)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t c = *p->at, len = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4, i, value;

	p2p_require(c >= 0x20);
	p2p_require(c != 0x7f);
	p2p_require(c < 0x80 || (c >= 0xc2 && c <= 0xf4));
	need(p, len);
	value = len == 1 ? c : c & (0xffu >> (len + 1));
	for (i = 1; i < len; i++) {
		p2p_require((p->at[i] & 0xc0) == 0x80);
		value = value << 6 | (p->at[i] & 0x3f);
	}
	p2p_require(value >= least[len]);
	p2p_require(value <= 0x10ffff);
	p2p_require(value < 0xd800 || value > 0xdfff);
	p->at += len;
}

static void parse_string(struct parse *p)
{
	size_t i;

	need(p, 2);
	p2p_require(*p->at++ == '"');
	for (;;) {
		need(p, 1);
		if (*p->at == '"')
			break;
		if (*p->at != '\\') {
			skip_utf8(p);
			continue;
		}
		need(p, 2);
		p2p_require(strchr("\"\\ntu", p->at[1]) != NULL);
		if (p->at[1] == 'u') {
			need(p, 6);
			for (i = 2; i < 6; i++)
				p2p_require(strchr("0123456789abcdef", p->at[i]) != NULL);
			p->at += 4;
		}
		p->at += 2;
	}
	p->at++;
}

static void parse_value(struct parse *p, int depth);

static void parse_list(struct parse *p, uint8_t close, int depth)
{
	p->at++;
	need(p, 1);
	if (*p->at == close) {
		p->at++;
		return;
	}
	do {
		if (close == '}') {
			parse_string(p);
			need(p, 1);
			p2p_require(*p->at++ == ':');
		}
		parse_value(p, depth + 1);
		need(p, 1);
		p2p_require(*p->at == ',' || *p->at == close);
	} while (*p->at++ == ',');
}

static void parse_value(struct parse *p, int depth)
{
	p2p_require(depth <= DEPTH_MAX + 1);
	need(p, 1);
	if (*p->at == '{') {
		parse_list(p, '}', depth);
	} else if (*p->at == '[') {
		parse_list(p, ']', depth);
	} else if (*p->at == '"') {
		parse_string(p);
	} else if (*p->at == 't' || *p->at == 'f') {
		size_t len = *p->at == 't' ? 4 : 5;

		need(p, len);
		p2p_require(memcmp(p->at, len == 4 ? "true" : "false", len) == 0);
		p->at += len;
	} else {
		p2p_require(*p->at >= '0' && *p->at <= '9');
		p2p_require(*p->at != '0' || p->end - p->at == 1 || p->at[1] < '0' ||
			    p->at[1] > '9');
		while (p->at < p->end && *p->at >= '0' && *p->at <= '9')
			p->at++;
	}
}

/* --- writing what the input says ---------------------------------------------------------------
 */

static const char *text_of(struct fuzz_in *in, char out[64])
{
	size_t len;
	const uint8_t *bytes = fuzz_take(in, fuzz_below(in, 64), &len);

	memcpy(out, bytes, len);
	out[len] = 0;
	return out;
}

static void put_value(struct p2p_json *json, struct fuzz_in *in, bool keyed)
{
	char text[64], key[64];

	if (keyed)
		text_of(in, key);
	switch (fuzz_below(in, 5)) {
	case 0:
		text_of(in, text);
		if (keyed)
			p2p_json_put_string(json, key, text);
		else
			p2p_json_string(json, text);
		return;
	case 1:
		if (keyed)
			p2p_json_put_u64(json, key, fuzz_number(in));
		else
			p2p_json_u64(json, fuzz_number(in));
		return;
	case 2:
		if (keyed)
			p2p_json_put_bool(json, key, fuzz_u8(in) & 1);
		else
			p2p_json_bool(json, fuzz_u8(in) & 1);
		return;
	case 3:
		text_of(in, text);
		if (keyed)
			p2p_json_put_hex(json, key, text, strlen(text) % 33);
		else
			p2p_json_hex(json, text, strlen(text) % 33);
		return;
	default:
		if (keyed)
			p2p_json_key(json, key);
		p2p_json_string(json, NULL);
	}
}

static void one(const uint8_t *data, size_t len)
{
	struct fuzz_in in = fuzz_in(data, len);
	bool object[DEPTH_MAX];
	struct p2p_json json;
	struct p2p_buf out;
	struct parse parse;
	size_t depth = 0;
	char key[64];

	p2p_buf_init(&out, 16 * LEN_MAX);
	p2p_json_init(&json, &out);
	p2p_json_begin_array(&json);
	object[depth++] = false;
	while (fuzz_more(&in)) {
		uint8_t op = fuzz_u8(&in) & 7;

		if (op == 0 && depth > 1) {
			if (object[--depth])
				p2p_json_end_object(&json);
			else
				p2p_json_end_array(&json);
		} else if ((op == 1 || op == 2) && depth < DEPTH_MAX) {
			if (object[depth - 1])
				p2p_json_key(&json, text_of(&in, key));
			object[depth++] = op == 1;
			if (op == 1)
				p2p_json_begin_object(&json);
			else
				p2p_json_begin_array(&json);
		} else {
			put_value(&json, &in, object[depth - 1]);
		}
	}
	while (depth)
		if (object[--depth])
			p2p_json_end_object(&json);
		else
			p2p_json_end_array(&json);
	fuzz_ok(p2p_buf_error(&out));
	parse = (struct parse){out.data, out.data + out.len};
	parse_value(&parse, 0);
	p2p_require(parse.at == parse.end);
	p2p_buf_deinit(&out);
	if (len > 8)
		fuzz_deep();
}

static void seeds(void)
{
	static const uint8_t objects[] = {1,   3,   3,	 'k', 'e', 'y', 0, 4,	 't',
					  'e', 'x', 't', 3,   1,   'n', 1, 0xbf, 3,
					  1,   'b', 2,	 1,   0,   2,	3, 1,	 5};
	static const uint8_t utf8[] = {3,    0,	   12,	 0xe4, 0xb8, 0xad, 0xf0, 0x9f,
				       0x98, 0x80, 0xc3, 0xa4, '"',  '\\', 1};
	static const uint8_t bad[] = {3,    0,	  10,	0xff, 0xc0, 0x80, 0xed,
				      0xa0, 0x80, 0xf5, 0x80, 0x1f, 0x7f, 0xe4};
	static const uint8_t deep[] = {1, 1, 'a', 2, 1, 2, 1, 1, 'b', 2, 2, 0, 0, 0, 3, 3, 8, 'h'};

	fuzz_seed("objects", objects, sizeof(objects));
	fuzz_seed("utf8", utf8, sizeof(utf8));
	fuzz_seed("not_utf8", bad, sizeof(bad));
	fuzz_seed("deep", deep, sizeof(deep));
}

const struct fuzz_target fuzz_target = {.name = "json",
					.len_max = LEN_MAX,
					.memory_max = 64 * LEN_MAX,
					.cpu_ms_max = 50,
					.one = one,
					.seeds = seeds};
