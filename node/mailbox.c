/* Calls from other threads; see mailbox.h. */
#include "node/mailbox.h"

#include "proto/check.h"

struct mail {
	struct p2p_list link;
	void (*run)(void *ctx);
	void *ctx;
	uv_sem_t done;
};

int p2p_mailbox_init(struct p2p_mailbox *mailbox)
{
	p2p_list_init(&mailbox->queue);
	mailbox->open = false;
	mailbox->owned = false;
	mailbox->direct = true;
	return uv_mutex_init(&mailbox->mutex) ? P2P_ENOMEM : 0;
}

void p2p_mailbox_deinit(struct p2p_mailbox *mailbox)
{
	p2p_require(!mailbox->open);
	uv_mutex_destroy(&mailbox->mutex);
}

static void deliver(struct p2p_mailbox *mailbox)
{
	struct p2p_list waiting, *at, *tmp;

	p2p_list_init(&waiting);
	uv_mutex_lock(&mailbox->mutex);
	p2p_list_for_each (at, tmp, &mailbox->queue) {
		p2p_list_remove(at);
		p2p_list_push(&waiting, at);
	}
	uv_mutex_unlock(&mailbox->mutex);
	p2p_list_for_each (at, tmp, &waiting) {
		struct mail *mail = p2p_container_of(at, struct mail, link);

		p2p_list_remove(at);
		mail->run(mail->ctx);
		uv_sem_post(&mail->done); /* its memory may be gone from here on */
	}
}

static void async_cb(uv_async_t *async)
{
	deliver(async->data);
}

int p2p_mailbox_open(struct p2p_mailbox *mailbox, uv_loop_t *loop)
{
	p2p_require(!mailbox->open);
	if (uv_async_init(loop, &mailbox->async, async_cb))
		return P2P_EIO;
	mailbox->async.data = mailbox;
	uv_mutex_lock(&mailbox->mutex);
	mailbox->open = true;
	mailbox->direct = false;
	mailbox->owned = false;
	uv_mutex_unlock(&mailbox->mutex);
	return 0;
}

static void async_closed(uv_handle_t *handle)
{
	struct p2p_mailbox *mailbox = handle->data;

	mailbox->closed(mailbox->ctx);
}

void p2p_mailbox_close(struct p2p_mailbox *mailbox, void (*closed)(void *ctx), void *ctx)
{
	uv_mutex_lock(&mailbox->mutex);
	mailbox->open = false;
	uv_mutex_unlock(&mailbox->mutex);
	deliver(mailbox);
	mailbox->closed = closed;
	mailbox->ctx = ctx;
	uv_close((uv_handle_t *)&mailbox->async, async_closed);
}

void p2p_mailbox_direct(struct p2p_mailbox *mailbox, bool direct)
{
	uv_mutex_lock(&mailbox->mutex);
	mailbox->direct = direct;
	mailbox->owned = false;
	uv_mutex_unlock(&mailbox->mutex);
}

void p2p_mailbox_own(struct p2p_mailbox *mailbox)
{
	uv_mutex_lock(&mailbox->mutex);
	mailbox->owner = uv_thread_self();
	mailbox->owned = true;
	uv_mutex_unlock(&mailbox->mutex);
}

bool p2p_mailbox_inside(struct p2p_mailbox *mailbox)
{
	uv_thread_t self = uv_thread_self();
	bool inside;

	uv_mutex_lock(&mailbox->mutex);
	inside = mailbox->owned && uv_thread_equal(&self, &mailbox->owner);
	uv_mutex_unlock(&mailbox->mutex);
	return inside;
}

int p2p_mailbox_call(struct p2p_mailbox *mailbox, void (*run)(void *ctx), void *ctx)
{
	struct mail mail = {.run = run, .ctx = ctx};

	if (p2p_mailbox_inside(mailbox)) {
		run(ctx);
		return 0;
	}
	if (uv_sem_init(&mail.done, 0))
		return P2P_ENOMEM;
	uv_mutex_lock(&mailbox->mutex);
	if (!mailbox->open) {
		bool direct = mailbox->direct;

		if (direct)
			run(ctx);
		uv_mutex_unlock(&mailbox->mutex);
		uv_sem_destroy(&mail.done);
		return direct ? 0 : P2P_ESTATE;
	}
	p2p_list_push(&mailbox->queue, &mail.link);
	(void)uv_async_send(&mailbox->async); /* fails only for a handle that is no async */
	uv_mutex_unlock(&mailbox->mutex);
	uv_sem_wait(&mail.done);
	uv_sem_destroy(&mail.done);
	return 0;
}
