/* Bounded queues of what waits to be sent; see sendq.h. */
#include "transport/sendq.h"

#include <string.h>

#include "proto/check.h"
#include "proto/limits.h"
#include "proto/mem.h"

struct waiting {
	struct p2p_list link;
	size_t len;
	size_t sent; /* bytes that have left in earlier fragments */
	uint8_t data[];
};

static size_t class_max(enum p2p_class cls)
{
	switch (cls) {
	case P2P_CLASS_CONTROL:
		return P2P_SENDQ_CONTROL_MAX;
	case P2P_CLASS_SMALL:
		return P2P_SENDQ_SMALL_MAX;
	case P2P_CLASS_BULK:
		return P2P_SENDQ_BULK_MAX;
	case P2P_CLASS_COUNT:
		break;
	}
	p2p_unreachable();
}

static struct waiting *first(const struct p2p_sendq *queue, enum p2p_class cls)
{
	const struct p2p_list *messages = &queue->classes[cls].messages;

	return p2p_list_empty(messages) ? NULL
					: p2p_container_of(messages->next, struct waiting, link);
}

static void drop(struct p2p_sendq *queue, enum p2p_class cls, struct waiting *message)
{
	p2p_require(queue->classes[cls].bytes >= sizeof(*message) + message->len);
	queue->classes[cls].bytes -= sizeof(*message) + message->len;
	p2p_list_remove(&message->link);
	p2p_free(message);
}

void p2p_sendq_init(struct p2p_sendq *queue)
{
	int cls;

	memset(queue, 0, sizeof(*queue));
	for (cls = 0; cls < P2P_CLASS_COUNT; cls++)
		p2p_list_init(&queue->classes[cls].messages);
}

void p2p_sendq_deinit(struct p2p_sendq *queue)
{
	struct waiting *message;
	int cls;

	for (cls = 0; cls < P2P_CLASS_COUNT; cls++)
		while ((message = first(queue, (enum p2p_class)cls)))
			drop(queue, (enum p2p_class)cls, message);
}

int p2p_sendq_push(struct p2p_sendq *queue, enum p2p_class cls, const void *data, size_t len)
{
	size_t cost = sizeof(struct waiting) + len;
	struct waiting *message;

	p2p_require(cls < P2P_CLASS_COUNT);
	if (len == 0)
		return P2P_EINVAL;
	if (len > P2P_MESSAGE_MAX)
		return P2P_ETOOBIG;
	if (queue->classes[cls].bytes && queue->classes[cls].bytes + cost > class_max(cls)) {
		queue->refused = true;
		return P2P_EBUSY;
	}
	message = p2p_malloc(cost);
	if (!message)
		return P2P_ENOMEM;
	message->len = len;
	message->sent = 0;
	memcpy(message->data, data, len);
	p2p_list_push(&queue->classes[cls].messages, &message->link);
	queue->classes[cls].bytes += cost;
	return 0;
}

bool p2p_sendq_peek(const struct p2p_sendq *queue, struct p2p_fragment *out)
{
	const struct waiting *message = NULL;
	int cls;

	for (cls = 0; cls < P2P_CLASS_COUNT && !message; cls++) {
		message = first(queue, (enum p2p_class)cls);
		out->cls = (enum p2p_class)cls;
	}
	if (!message)
		return false;
	out->data = message->data + message->sent;
	out->len = message->len - message->sent;
	out->last = out->len <= P2P_FRAGMENT_MAX;
	if (!out->last)
		out->len = P2P_FRAGMENT_MAX;
	p2p_require(out->len > 0);
	return true;
}

void p2p_sendq_pop(struct p2p_sendq *queue)
{
	struct p2p_fragment fragment;
	struct waiting *message;

	p2p_require(p2p_sendq_peek(queue, &fragment));
	message = first(queue, fragment.cls);
	message->sent += fragment.len;
	if (fragment.last)
		drop(queue, fragment.cls, message);
}

bool p2p_sendq_empty(const struct p2p_sendq *queue)
{
	return p2p_sendq_bytes(queue) == 0;
}

size_t p2p_sendq_bytes(const struct p2p_sendq *queue)
{
	size_t bytes = 0;
	int cls;

	for (cls = 0; cls < P2P_CLASS_COUNT; cls++)
		bytes += queue->classes[cls].bytes;
	return bytes;
}

bool p2p_sendq_relieved(struct p2p_sendq *queue)
{
	int cls;

	if (!queue->refused)
		return false;
	for (cls = 0; cls < P2P_CLASS_COUNT; cls++)
		if (queue->classes[cls].bytes > class_max((enum p2p_class)cls) / 2)
			return false;
	queue->refused = false;
	return true;
}
