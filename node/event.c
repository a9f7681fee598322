/* Events to the embedder, and what went wrong last with whom. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/json.h"
#include "node/node.h"
#include "proto/check.h"

static const char *event_name(enum p2p_node_event_type type)
{
	switch (type) {
	case P2P_EV_STARTED:
		return "started";
	case P2P_EV_PEER_UP:
		return "peer-up";
	case P2P_EV_PEER_DOWN:
		return "peer-down";
	case P2P_EV_CAUGHT_UP:
		return "caught-up";
	case P2P_EV_MERGED:
		return "merged";
	case P2P_EV_JOINED:
		return "joined";
	case P2P_EV_PROGRESS:
		return "progress";
	case P2P_EV_REFUSED:
		return "refused";
	case P2P_EV_TROUBLE:
		return "trouble";
	case P2P_EV_STOPPED:
		return "stopped";
	}
	p2p_unreachable();
}

static void emit(struct p2p_node *node, p2p_node_event *event)
{
	enum p2p_node_event_type type = (enum p2p_node_event_type)event->type;
	struct p2p_json json;
	struct p2p_buf buf;

	if (!node->on_event)
		return;
	p2p_buf_init(&buf, P2P_CONTROL_LINE_MAX);
	p2p_json_init(&json, &buf);
	p2p_json_begin_object(&json);
	p2p_json_put_string(&json, "event", event_name(type));
	if (event->node[0])
		p2p_json_put_string(&json, "node", event->node);
	if (type == P2P_EV_MERGED || type == P2P_EV_JOINED || type == P2P_EV_PROGRESS)
		p2p_json_put_u64(&json, "rows", event->rows);
	if (type == P2P_EV_PROGRESS)
		p2p_json_put_u64(&json, "percent", event->percent);
	if (event->code)
		p2p_json_put_string(&json, "code", p2p_err_name(event->code));
	if (event->text[0])
		p2p_json_put_string(&json, "text", event->text);
	p2p_json_end_object(&json);
	p2p_buf_put_u8(&buf, 0);
	event->size = sizeof(*event);
	event->json = p2p_buf_error(&buf) ? "{\"event\":\"?\"}" : (const char *)buf.data;
	node->on_event(node->ctx, event);
	p2p_buf_deinit(&buf);
}

void p2p_node_emit(struct p2p_node *node, enum p2p_node_event_type type, int code,
		   const struct p2p_key *peer, const char *fmt, ...)
{
	p2p_node_event event = {.type = (int)type, .code = code, .node = "", .text = ""};
	struct p2p_key_text key;
	char text[320];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (peer) {
		key = p2p_key_text(peer);
		event.node = key.text;
	}
	event.text = text;
	emit(node, &event);
}

void p2p_node_emit_rows(struct p2p_node *node, enum p2p_node_event_type type, uint64_t rows,
			uint64_t percent)
{
	p2p_node_event event = {
		.type = (int)type, .rows = rows, .percent = percent, .node = "", .text = ""};

	emit(node, &event);
}

void p2p_node_trouble(struct p2p_node *node, int code, const char *fmt, ...)
{
	char text[sizeof(node->last_trouble)];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (strcmp(text, node->last_trouble) == 0)
		return;
	(void)snprintf(node->last_trouble, sizeof(node->last_trouble), "%s", text);
	p2p_log(&node->log, P2P_LOG_INFO, "node", "%s", text); /* the event is what people see */
	p2p_node_emit(node, P2P_EV_TROUBLE, code, NULL, "%s", text);
}

void p2p_text_clean(char *text)
{
	unsigned char *at = (unsigned char *)text;

	for (; *at; at++)
		if (*at < 0x20 || *at == 0x7f || (at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0))
			*at = '?';
}

bool p2p_key_is_zero(const struct p2p_key *key)
{
	static const struct p2p_key zero;

	return p2p_key_cmp(key, &zero) == 0;
}

struct p2p_key_text p2p_key_text(const struct p2p_key *key)
{
	struct p2p_key_text out;

	p2p_hex(out.text, key->bytes, P2P_KEY_BYTES);
	return out;
}

static struct p2p_note *note_find(struct p2p_node *node, const struct p2p_key *key,
				  const char *address)
{
	size_t i;

	for (i = 0; i < node->note_count; i++) {
		struct p2p_note *note = &node->notes[i];

		if (key ? p2p_key_cmp(&note->node, key) == 0
			: p2p_key_is_zero(&note->node) && strcmp(note->address, address) == 0)
			return note;
	}
	return NULL;
}

void p2p_node_note(struct p2p_node *node, const struct p2p_key *key, const char *address, int code,
		   const char *text)
{
	struct p2p_note *note = note_find(node, key, address);

	if (code == 0) {
		if (note)
			*note = node->notes[--node->note_count];
		return;
	}
	if (!note && node->note_count < P2P_NOTES_MAX)
		note = &node->notes[node->note_count++];
	if (!note) {
		note = &node->notes[node->note_next];
		node->note_next = (node->note_next + 1) % P2P_NOTES_MAX;
	}
	memset(note, 0, sizeof(*note));
	if (key)
		note->node = *key;
	note->code = code;
	(void)snprintf(note->address, sizeof(note->address), "%s", address);
	(void)snprintf(note->text, sizeof(note->text), "%s", text);
}

const struct p2p_note *p2p_node_note_of(const struct p2p_node *node, const struct p2p_key *key)
{
	size_t i;

	for (i = 0; i < node->note_count; i++)
		if (p2p_key_cmp(&node->notes[i].node, key) == 0)
			return &node->notes[i];
	return NULL;
}
