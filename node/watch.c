/* Commits of other programs: file events on the directory, re-checks of data_version 0, 1, 2..64
 * ms after one, and a slow safety poll (design 6). At rest it costs one microsecond a second. */
#include <string.h>

#include "node/node.h"
#include "proto/check.h"
#include "proto/mem.h"

struct p2p_watch {
	struct p2p_node *node; /* borrowed */
	uv_fs_event_t events;
	char *directory, *base; /* owned */
	struct p2p_time next;	/* re-check or safety poll */
	uint32_t step_ms;	/* of the re-checks; above the maximum: only the poll */
};

static void restart(struct p2p_watch *watch, struct p2p_time now)
{
	watch->step_ms = 0;
	watch->next = now;
}

/* The database or its WAL; -shm tells nothing, other files are not ours. */
static bool concerns(const struct p2p_watch *watch, const char *name)
{
	size_t len = strlen(watch->base);

	if (!name)
		return true;
	if (strncmp(name, watch->base, len) != 0)
		return false;
	return name[len] == 0 || strcmp(name + len, "-wal") == 0;
}

static void event_cb(uv_fs_event_t *handle, const char *name, int events, int status)
{
	struct p2p_watch *watch = handle->data;

	(void)events;
	/* after an error the safety poll goes on */
	if (status == 0 && concerns(watch, name))
		restart(watch, p2p_env_now(&watch->node->env));
}

int p2p_watch_open(struct p2p_node *node, struct p2p_error *err)
{
	struct p2p_watch *watch = p2p_calloc(1, sizeof(*watch));
	char *slash;
	int rc;

	if (!watch)
		return p2p_error_set(err, P2P_ENOMEM, "out of memory");
	watch->node = node;
	watch->directory = p2p_strdup(node->db_path);
	slash = strrchr(node->db_path, '/');
	p2p_require(slash != NULL); /* it is a real path */
	watch->base = p2p_strdup(slash + 1);
	if (!watch->directory || !watch->base || uv_fs_event_init(node->loop, &watch->events)) {
		p2p_free(watch->directory);
		p2p_free(watch->base);
		p2p_free(watch);
		return p2p_error_set(err, P2P_ENOMEM, "watch: out of memory");
	}
	watch->directory[slash == node->db_path ? 1 : slash - node->db_path] = 0;
	watch->events.data = watch;
	node->watch = watch;
	node->pending++;
	restart(watch, p2p_env_now(&node->env));
	rc = uv_fs_event_start(&watch->events, event_cb, watch->directory, 0);
	if (rc) /* too many watches on this machine: the safety poll still works */
		p2p_log(&node->log, P2P_LOG_WARN, "node",
			"cannot watch '%s' (%s): changes are seen once a second", watch->directory,
			uv_strerror(rc));
	return 0;
}

static void watch_closed(uv_handle_t *handle)
{
	struct p2p_watch *watch = handle->data;
	struct p2p_node *node = watch->node;

	p2p_free(watch->directory);
	p2p_free(watch->base);
	p2p_free(watch);
	p2p_node_part_closed(node);
}

void p2p_watch_close(struct p2p_watch *watch)
{
	watch->node->watch = NULL;
	uv_close((uv_handle_t *)&watch->events, watch_closed);
}

bool p2p_watch_run(struct p2p_watch *watch, struct p2p_time now)
{
	if (now.ms < watch->next.ms)
		return false;
	if (watch->step_ms > P2P_WATCH_RECHECK_MAX_MS) {
		watch->next.ms = now.ms + P2P_WATCH_POLL_MS;
	} else {
		watch->step_ms = watch->step_ms ? watch->step_ms * 2 : 1;
		watch->next.ms = now.ms + watch->step_ms;
	}
	return p2p_replica_file_moved(watch->node->replica);
}

struct p2p_time p2p_watch_deadline(const struct p2p_watch *watch)
{
	return watch->next;
}

void p2p_watch_again(struct p2p_watch *watch, uint64_t ms)
{
	watch->step_ms = P2P_WATCH_RECHECK_MAX_MS + 1;
	watch->next.ms = p2p_env_now(&watch->node->env).ms + ms;
}
