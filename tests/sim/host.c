/* A machine: its disk, its node, its application; how it dies and comes back. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "node/node.h"
#include "tests/sim/sim.h"

#define DYING_STEPS_MAX 10000

struct sim_host *sim_host_current;

uint64_t sim_host_now(const struct sim_host *host)
{
	return host->sim->now_ms + host->private_ms;
}

/* --- folders ---------------------------------------------------------------------------------- */

static void remove_file(const char *dir, const char *name)
{
	static const char *const ends[] = {"", "-wal", "-shm", "-journal"};
	char path[256];
	size_t i;

	for (i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s%s", dir, name, ends[i]);
		(void)unlink(path); /* most are not there */
	}
}

void sim_host_init(struct sim *sim, struct sim_host *host, size_t index)
{
	/* memory, if there is such a place: nothing here has to survive the machine */
	const char *base = getenv("TMPDIR");

	if (!base)
		base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

	memset(host, 0, sizeof(*host));
	host->sim = sim;
	host->index = index;
	host->loop.data = host;
	host->random = sim_next(&sim->random);
	host->app_random = sim_next(&sim->random);
	host->app_full_sync = sim_draw(sim, 4) != 0;
	host->next_ms = UINT64_MAX;
	(void)snprintf(host->dir, sizeof(host->dir), "%s/" SIM_FOLDER "XXXXXX", base);
	if (!mkdtemp(host->dir))
		sim_fail(sim, "mkdtemp %s", host->dir);
	(void)snprintf(host->db, sizeof(host->db), "%s/app.db", host->dir);
	faultdisk_attach(&host->disk, host->dir, sim_next(&sim->random));
}

static void count_disk(struct sim_host *host)
{
	static const enum sim_fault names[FAULTDISK_OPS] = {
		SIM_DISK_WRITE, SIM_DISK_READ,	SIM_DISK_WRITE, SIM_DISK_WRITE,
		SIM_DISK_SYNC,	SIM_DISK_WRITE, SIM_BUSY,	SIM_DISK_READ,
	};
	size_t i;

	for (i = 0; i < FAULTDISK_OPS; i++) {
		host->sim->stats.faults[names[i]] += host->disk.failed[i];
		host->disk.failed[i] = 0;
	}
	host->sim->stats.operations += host->disk.operations;
	host->disk.operations = 0;
}

void sim_host_deinit(struct sim_host *host)
{
	char path[160];

	sim_app_close(host);
	if (host->node)
		sim_host_stop(host);
	count_disk(host);
	faultdisk_detach(&host->disk);
	(void)snprintf(path, sizeof(path), "%s/app.db-p2p", host->dir);
	remove_file(path, "log.db");
	remove_file(path, "mark");
	remove_file(path, "identity");
	remove_file(path, "secret");
	remove_file(path, "ticket");
	(void)rmdir(path);
	remove_file(host->dir, "app.db");
	remove_file(host->dir, "app.db-p2p.lock");
	if (rmdir(host->dir) != 0)
		sim_fail(host->sim, "something unknown was left in %s", host->dir);
	free(host->ledger);
	host->ledger = NULL;
}

/* --- the node --------------------------------------------------------------------------------- */

/* Only the liar's replica has two histories. */
static void note_fork(struct sim_host *host, const char *text)
{
	const char *liar = sim_hostile_name(host->sim);

	if (!liar || !strstr(text, liar))
		sim_fail(host->sim, "host %zu: %s: the liar is %s", host->index, text,
			 liar ? liar : "nobody");
}

static void on_event(void *ctx, const p2p_node_event *event)
{
	struct sim_host *host = ctx;

	sim_note(host->sim, event->type == P2P_EV_MERGED || event->type == P2P_EV_PROGRESS ? 3 : 2,
		 "host %zu: event %d code %d %.16s %s", host->index, event->type, event->code,
		 event->node, event->text);
	if (host->sim->told)
		host->sim->told(host, event);
	switch (event->type) {
	case P2P_EV_JOINED:
		host->joined = true;
		host->sim->stats.joins++;
		break;
	case P2P_EV_STOPPED:
		host->stopped = true;
		break;
	case P2P_EV_TROUBLE:
		host->troubles++;
		if (event->code == P2P_EFORK && strstr(event->text, "two histories"))
			note_fork(host, event->text);
		break;
	case P2P_EV_MERGED:
		host->merges++;
		sim_check_merged(host);
		break;
	case P2P_EV_PROGRESS:
		sim_check_merged(host);
		break;
	default:
		break;
	}
}

static void on_log(void *ctx, int level, const char *group, const char *text)
{
	struct sim_host *host = ctx;

	sim_note(host->sim, 3, "host %zu: log %d %s: %s", host->index, level, group, text);
	if (host->node)
		sim_manners_log(host, text);
}

static bool host_open(struct sim_host *host)
{
	char listen[32], name[32], error[300] = "";
	const char *listens[] = {listen};
	p2p_node_options options;
	int rc;

	(void)snprintf(listen, sizeof(listen), "10.0.0.%zu:%d", host->index + 1, SIM_PORT);
	(void)snprintf(name, sizeof(name), "host%zu", host->index);
	p2p_node_options_init(&options, sizeof(options));
	options.listen = listens;
	options.listen_count = 1;
	options.name = name;
	options.create = 1;
	options.ctx = host;
	options.on_event = on_event;
	options.on_log = on_log;
	options.log_level = host->sim->verbose >= 3 ? P2P_NODE_LOG_DEBUG : P2P_NODE_LOG_WARN;
	options.loop = &host->loop;
	sim_host_current = host;
	rc = p2p_node_open(host->db, &options, &host->node, error, sizeof(error));
	if (rc) {
		host->node = NULL;
		host->refused = rc;
		sim_note(host->sim, 1, "host %zu cannot open: %d %s", host->index, rc, error);
	}
	return rc == 0;
}

/* Until everything of it is closed; time goes on for it alone, for the world it is an instant. */
static void host_close(struct sim_host *host)
{
	unsigned int steps = 0;
	bool calm = host->sim->calm, inside = sim_inside(true);
	int rc;

	host->sim->calm = true;
	host->private_ms = 1;
	sim_host_current = host;
	(void)p2p_node_stop(host->node);
	while (p2p_node_running(host->node) && steps++ < DYING_STEPS_MAX) {
		sim_host_turn(host);
		host->private_ms += 10;
	}
	(void)sim_inside(true);
	rc = p2p_node_close(host->node);
	(void)sim_inside(inside);
	if (rc)
		sim_fail(host->sim, "host %zu does not close: %d", host->index, rc);
	host->sim->calm = calm;
	host->node = NULL;
	host->private_ms = 0;
	host->next_ms = UINT64_MAX;
	host->boot++;
	if (host->timer_count || host->closing_count || host->later_count || host->tcp)
		sim_fail(host->sim, "host %zu: something of a closed node is left", host->index);
}

bool sim_host_start(struct sim_host *host)
{
	char error[300] = "";
	bool inside;
	int rc = 0;

	host->sim->stats.starts++;
	inside = sim_inside(true);
	if (!host_open(host)) {
		(void)sim_inside(inside);
		sim_host_check_dead(host);
		return false;
	}
	if (!p2p_node_is_member(host->node) && host->index > 0)
		rc = p2p_node_join(host->node, host->sim->ticket, error, sizeof(error));
	if (host->founder)
		rc = p2p_node_share(host->node, NULL, 0, NULL, 0, error, sizeof(error));
	if (!rc)
		rc = p2p_node_start(host->node, error, sizeof(error));
	(void)sim_inside(inside);
	if (rc) {
		host->refused = rc;
		sim_note(host->sim, 1, "host %zu cannot start: %d %s", host->index, rc, error);
		host_close(host);
		sim_host_check_dead(host);
		return false;
	}
	host->joined = p2p_node_is_member(host->node) && host->node->join == P2P_JOIN_NONE;
	sim_note(host->sim, 1, "host %zu starts%s", host->index,
		 host->joined ? "" : ", and asks to join");
	sim_host_turn(host);
	if (host->node && !host->app)
		sim_app_open(host);
	return true;
}

static void name_counter(struct sim_host *host)
{
	static const char *const counter[] = {"ware.qty"};
	struct p2p_enable wish = {.counters = counter, .counter_count = 1};
	struct p2p_error err = {0};

	if (p2p_replica_enable_as(host->node->replica, &wish, &err))
		sim_fail(host->sim, "a counter: %s", err.msg);
}

void sim_host_found(struct sim_host *host)
{
	struct sim *sim = host->sim;
	char error[300] = "", *ticket = NULL;
	int rc;

	sim_app_open(host);
	if (sqlite3_exec(host->app, sim->schema ? sim->schema : sim_schema, NULL, NULL, NULL) !=
	    SQLITE_OK)
		sim_fail(sim, "schema: %s", sqlite3_errmsg(host->app));
	host->joined = true;
	if (!host_open(host))
		sim_fail(sim, "the first host cannot open");
	rc = p2p_node_share(host->node, NULL, 0, NULL, 0, error, sizeof(error));
	if (!rc && sim->plan.constraints)
		name_counter(host);
	if (!rc && sim->plan.constraints)
		name_counter(host);
	if (!rc)
		rc = p2p_node_start(host->node, error, sizeof(error));
	if (!rc)
		rc = p2p_node_invite(host->node, SIM_HOSTS_MAX, 86400000ull * 60, NULL, 0, &ticket,
				     error, sizeof(error));
	if (rc)
		sim_fail(sim, "the first host: %d %s", rc, error);
	(void)snprintf(sim->ticket, sizeof(sim->ticket), "%s", ticket);
	p2p_node_free(ticket);
	sim_host_turn(host);
}

/* --- death ------------------------------------------------------------------------------------ */

/* With synchronous = NORMAL a power cut may take what COMMIT returned for. */
static void forget_promises(struct sim_host *host)
{
	uint64_t n;

	for (n = 0; n < host->ledger_next && !host->app_full_sync; n++)
		if (host->ledger[n] == 1)
			host->ledger[n] = 2;
}

static void crash(struct sim_host *host, bool power)
{
	uint64_t lost = 0;

	if (power)
		sim_count(host->sim, SIM_POWER_CUT);
	sim_network_cut(host, power);
	if (host->node)
		host_close(host);
	if (power) {
		sim_app_close(host);
		lost = faultdisk_power_cut(&host->disk);
		forget_promises(host);
	} else {
		faultdisk_revive(&host->disk);
	}
	sim_note(host->sim, 1, "host %zu: %s, %llu writes lost or torn", host->index,
		 power ? "power cut" : "killed", (unsigned long long)lost);
}

void sim_host_crash(struct sim_host *host, bool power, uint64_t restart_at_ms)
{
	host->disk.dead = FAULTDISK_NODE | (power ? FAULTDISK_APP : 0);
	crash(host, power);
	host->restart_at_ms = restart_at_ms;
	host->app_boot_ms = 0;
	if (power && restart_at_ms > host->sim->now_ms)
		host->app_boot_ms = host->sim->now_ms +
				    sim_draw(host->sim, 2 * (restart_at_ms - host->sim->now_ms));
	host->paused_until_ms = 0;
}

void sim_host_check_dead(struct sim_host *host)
{
	unsigned int dead = host->disk.dead;

	/* while it is closed it is dead too: then the caller goes on with it */
	if (!dead || host->private_ms)
		return;
	sim_count(host->sim, SIM_CRASH_POINT);
	sim_host_crash(host, (dead & FAULTDISK_APP) != 0,
		       host->sim->now_ms + 1 + sim_draw(host->sim, 3000));
}

void sim_host_stop(struct sim_host *host)
{
	host_close(host);
}
