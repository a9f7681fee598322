/* What waits to be sent in one session: three bounded queues of whole messages, cut into fragments
 * when they leave. Control leaves before small before bulk; between two fragments of a big message
 * a more urgent one overtakes it (decisions 43). */
#ifndef P2P_TRANSPORT_SENDQ_H
#define P2P_TRANSPORT_SENDQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/error.h"
#include "proto/list.h"
#include "proto/message.h"

struct p2p_sendq {
	struct {
		struct p2p_list messages;
		size_t bytes; /* waiting, with what each message costs to keep */
	} classes[P2P_CLASS_COUNT];
	bool refused; /* since the last p2p_sendq_relieved() that said yes */
};

struct p2p_fragment {
	enum p2p_class cls;
	bool last; /* of its message */
	const uint8_t *data;
	size_t len; /* 1 to P2P_FRAGMENT_MAX */
};

void p2p_sendq_init(struct p2p_sendq *queue);
void p2p_sendq_deinit(struct p2p_sendq *queue);
/* Copies the message. P2P_EBUSY: the class is full (one message always fits into an empty one);
 * P2P_EINVAL for 0 bytes, P2P_ETOOBIG over P2P_MESSAGE_MAX, P2P_ENOMEM. */
int p2p_sendq_push(struct p2p_sendq *queue, enum p2p_class cls, const void *data,
		   size_t len) P2P_MUST_CHECK;
/* The fragment that leaves next, borrowed until p2p_sendq_pop(). False if all is empty. */
bool p2p_sendq_peek(const struct p2p_sendq *queue, struct p2p_fragment *out);
/* Drops the fragment that p2p_sendq_peek() gives. */
void p2p_sendq_pop(struct p2p_sendq *queue);
bool p2p_sendq_empty(const struct p2p_sendq *queue);
size_t p2p_sendq_bytes(const struct p2p_sendq *queue);
/* True once after a refusal, when every class is at most half full. */
bool p2p_sendq_relieved(struct p2p_sendq *queue);

#endif
