/* libuv's place: the handles that a node uses, in virtual time. These functions are found before
 * those of the library. */
#include <string.h>

#include "tests/sim/sim.h"

#define ACTIVE	  1u /* in handle->flags, which is libuv's own: it has no part in this */
#define TURNS_MAX 400

struct sim_host *sim_host_of(const uv_loop_t *loop)
{
	return loop->data;
}

static void handle_init(uv_handle_t *handle, uv_loop_t *loop, uv_handle_type type)
{
	handle->loop = loop;
	handle->type = type;
	handle->flags = 0;
	handle->close_cb = NULL;
}

void uv_update_time(uv_loop_t *loop)
{
	(void)loop;
}

/* --- timers ----------------------------------------------------------------------------------- */

int uv_timer_init(uv_loop_t *loop, uv_timer_t *timer)
{
	handle_init((uv_handle_t *)timer, loop, UV_TIMER);
	return 0;
}

static void timer_remove(struct sim_host *host, const uv_timer_t *timer)
{
	size_t i;

	for (i = 0; i < host->timer_count; i++)
		if (host->timers[i] == timer) {
			host->timers[i] = host->timers[--host->timer_count];
			return;
		}
}

int uv_timer_stop(uv_timer_t *timer)
{
	timer_remove(sim_host_of(timer->loop), timer);
	return 0;
}

int uv_timer_start(uv_timer_t *timer, uv_timer_cb cb, uint64_t timeout, uint64_t repeat)
{
	struct sim_host *host = sim_host_of(timer->loop);

	timer_remove(host, timer);
	if (host->timer_count == SIM_TIMERS_MAX || repeat)
		sim_fail(host->sim, "loop: this timer cannot be simulated");
	timer->timer_cb = cb;
	timer->timeout = sim_host_now(host) + timeout;
	timer->start_id = host->timer_order++;
	host->timers[host->timer_count++] = timer;
	return 0;
}

static uv_timer_t *timer_first(const struct sim_host *host)
{
	uv_timer_t *first = NULL;
	size_t i;

	for (i = 0; i < host->timer_count; i++) {
		uv_timer_t *timer = host->timers[i];

		if (!first || timer->timeout < first->timeout ||
		    (timer->timeout == first->timeout && timer->start_id < first->start_id))
			first = timer;
	}
	return first;
}

/* --- prepare, idle, file events, async -------------------------------------------------------- */

int uv_prepare_init(uv_loop_t *loop, uv_prepare_t *prepare)
{
	handle_init((uv_handle_t *)prepare, loop, UV_PREPARE);
	return 0;
}

int uv_prepare_start(uv_prepare_t *prepare, uv_prepare_cb cb)
{
	prepare->prepare_cb = cb;
	sim_host_of(prepare->loop)->prepare = prepare;
	return 0;
}

int uv_idle_init(uv_loop_t *loop, uv_idle_t *idle)
{
	handle_init((uv_handle_t *)idle, loop, UV_IDLE);
	return 0;
}

int uv_idle_start(uv_idle_t *idle, uv_idle_cb cb)
{
	idle->idle_cb = cb;
	sim_host_of(idle->loop)->idle = idle;
	return 0;
}

int uv_idle_stop(uv_idle_t *idle)
{
	sim_host_of(idle->loop)->idle = NULL;
	return 0;
}

int uv_fs_event_init(uv_loop_t *loop, uv_fs_event_t *event)
{
	handle_init((uv_handle_t *)event, loop, UV_FS_EVENT);
	return 0;
}

int uv_fs_event_start(uv_fs_event_t *event, uv_fs_event_cb cb, const char *path, unsigned int flags)
{
	(void)path;
	(void)flags;
	event->cb = cb;
	sim_host_of(event->loop)->watch = event;
	return 0;
}

void sim_host_watch(struct sim_host *host)
{
	if (!host->node || !host->watch)
		return;
	sim_host_current = host;
	host->watch->cb(host->watch, "app.db-wal", UV_CHANGE, 0);
	host->dirty = true;
}

int uv_async_init(uv_loop_t *loop, uv_async_t *async, uv_async_cb cb)
{
	handle_init((uv_handle_t *)async, loop, UV_ASYNC);
	async->async_cb = cb;
	return 0;
}

int uv_async_send(uv_async_t *async)
{
	sim_fail(sim_host_of(async->loop)->sim, "loop: a call from another thread");
}

/* --- closing ---------------------------------------------------------------------------------- */

void uv_close(uv_handle_t *handle, uv_close_cb cb)
{
	struct sim_host *host = sim_host_of(handle->loop);

	if (handle->type == UV_TIMER)
		timer_remove(host, (const uv_timer_t *)handle);
	if ((uv_handle_t *)host->prepare == handle)
		host->prepare = NULL;
	if ((uv_handle_t *)host->idle == handle)
		host->idle = NULL;
	if ((uv_handle_t *)host->watch == handle)
		host->watch = NULL;
	if (host->closing_count == SIM_TIMERS_MAX)
		sim_fail(host->sim, "loop: too many handles close at once");
	handle->close_cb = cb;
	host->closing[host->closing_count++] = handle;
}

int uv_is_closing(const uv_handle_t *handle)
{
	return handle->close_cb != NULL;
}

void sim_host_later(struct sim_host *host, void (*run)(void *ctx), void *ctx)
{
	if (host->later_count == SIM_TIMERS_MAX)
		sim_fail(host->sim, "loop: too many things to do later");
	host->later[host->later_count] = run;
	host->later_ctx[host->later_count++] = ctx;
	host->dirty = true;
}

static bool run_closing(struct sim_host *host)
{
	bool any = host->closing_count || host->later_count;

	while (host->closing_count) {
		uv_handle_t *handle = host->closing[0];

		memmove(&host->closing[0], &host->closing[1],
			--host->closing_count * sizeof(host->closing[0]));
		if (handle->close_cb)
			handle->close_cb(handle);
	}
	while (host->later_count) {
		void (*run)(void *) = host->later[0];
		void *ctx = host->later_ctx[0];

		host->later_count--;
		memmove(&host->later[0], &host->later[1],
			host->later_count * sizeof(host->later[0]));
		memmove(&host->later_ctx[0], &host->later_ctx[1],
			host->later_count * sizeof(host->later_ctx[0]));
		run(ctx);
	}
	return any;
}

/* --- a turn ----------------------------------------------------------------------------------- */

static bool run_timers(struct sim_host *host)
{
	unsigned int runs = 0;
	uv_timer_t *timer;

	while ((timer = timer_first(host)) && timer->timeout <= sim_host_now(host) &&
	       runs++ < SIM_TIMERS_MAX) {
		timer_remove(host, timer);
		timer->timer_cb(timer);
	}
	return runs > 0;
}

void sim_host_turn(struct sim_host *host)
{
	const uv_timer_t *timer;
	unsigned int turns;
	bool busy = true;

	sim_host_current = host;
	(void)sim_inside(true);
	for (turns = 0; busy && turns < TURNS_MAX; turns++) {
		busy = run_timers(host);
		if (host->idle) {
			host->idle->idle_cb(host->idle);
			busy = true;
		}
		if (host->prepare)
			host->prepare->prepare_cb(host->prepare);
		busy = run_closing(host) || busy || host->idle;
		if (host->disk.dead)
			break;
	}
	(void)sim_inside(false);
	host->dirty = false;
	timer = timer_first(host);
	/* a computer that has more to do than there is time goes on in the next millisecond */
	host->next_ms = busy	? host->sim->now_ms + 1
			: timer ? timer->timeout - host->private_ms
				: UINT64_MAX;
	sim_host_check_dead(host);
}
