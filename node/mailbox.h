/* The way into the loop for other threads, and the only lock of the node: a mutexed queue and an
 * uv_async_t. */
#ifndef P2P_NODE_MAILBOX_H
#define P2P_NODE_MAILBOX_H

#include <stdbool.h>
#include <uv.h>

#include "proto/error.h"
#include "proto/list.h"

struct p2p_mailbox {
	uv_async_t async;
	uv_mutex_t mutex;
	struct p2p_list queue; /* of struct mail, on the stacks of the waiting callers */
	bool open;	       /* calls go to the loop */
	bool direct;	       /* there is no loop: calls run at once, one at a time */
	uv_thread_t owner;     /* the loop's thread, known from its first turn */
	bool owned;
	void (*closed)(void *ctx);
	void *ctx;
};

/* P2P_ENOMEM, P2P_EIO. Init once, then open and close in turn. */
int p2p_mailbox_init(struct p2p_mailbox *mailbox) P2P_MUST_CHECK;
void p2p_mailbox_deinit(struct p2p_mailbox *mailbox);
int p2p_mailbox_open(struct p2p_mailbox *mailbox, uv_loop_t *loop) P2P_MUST_CHECK;
/* On the loop's thread. Runs what waits, takes nothing more; closed(ctx) comes from the loop. */
void p2p_mailbox_close(struct p2p_mailbox *mailbox, void (*closed)(void *ctx), void *ctx);
/* There is no loop any more (true): calls run in the caller. So it begins. */
void p2p_mailbox_direct(struct p2p_mailbox *mailbox, bool direct);
/* On the loop's thread, at its beginning. */
void p2p_mailbox_own(struct p2p_mailbox *mailbox);
/* Whether the caller is on the loop's thread. */
bool p2p_mailbox_inside(struct p2p_mailbox *mailbox);
/* Runs run(ctx) on the loop's thread and waits for it; at once when the caller is on it. P2P_ESTATE
 * when the loop is just ending: nothing was run. */
int p2p_mailbox_call(struct p2p_mailbox *mailbox, void (*run)(void *ctx), void *ctx) P2P_MUST_CHECK;

#endif
