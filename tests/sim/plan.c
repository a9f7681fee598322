/* Swarm testing: each seed draws its own mesh, its own mix of faults and how hard each strikes
 * (A. Groce and others, "Swarm Testing", ISSTA 2012). */
#include <sqlite3.h>
#include <string.h>

#include "node/node.h"
#include "tests/sim/sim.h"

static const struct {
	enum sim_fault fault;
	uint32_t max; /* per 10 000 chances */
} by_chance[] = {
	{SIM_DELAY, 1000},	   {SIM_LOSS, 200},
	{SIM_DATAGRAM_LOSS, 5000}, {SIM_DATAGRAM_TWICE, 3000},
	{SIM_DATAGRAM_LATE, 3000}, {SIM_CORRUPT, 60},
	{SIM_RESET, 60},	   {SIM_STALL, 80},
	{SIM_WATCH_LOST, 3000},
};

/* --- the storm's events ----------------------------------------------------------------------- */

static struct sim_host *any_host(struct sim *sim)
{
	return &sim->hosts[sim_draw(sim, sim->count)];
}

static void heal_network(struct sim *sim, void *ctx, uint64_t arg)
{
	(void)ctx;
	(void)arg;
	memset(sim->deaf, 0, sizeof(sim->deaf));
	sim_note(sim, 2, "the network is whole");
}

/* Two groups: neither hears the other, or one does not hear the other. */
static void split(struct sim *sim, bool one_way)
{
	bool group[SIM_HOSTS_MAX] = {false};
	size_t i, j;

	for (i = 0; i < sim->count; i++)
		group[i] = sim_draw(sim, 2) != 0;
	for (i = 0; i < sim->count; i++)
		for (j = 0; j < sim->count; j++)
			sim->deaf[i][j] = group[i] != group[j] && (!one_way || group[i]);
	sim_at(sim, sim->now_ms + sim_draw(sim, 25000), heal_network, NULL, 0);
}

/* A disk that fails for a while; arg: the host. */
static void heal_disk(struct sim *sim, void *ctx, uint64_t arg)
{
	struct sim_host *host = &sim->hosts[arg];

	(void)ctx;
	memset(host->disk.fail_one_in, 0, sizeof(host->disk.fail_one_in));
	host->disk.full = false;
}

static void break_disk(struct sim *sim, enum sim_fault fault)
{
	struct sim_host *host = any_host(sim);
	uint32_t one_in = 2 + (uint32_t)sim_draw(sim, 30);
	uint32_t *fail = host->disk.fail_one_in;

	if (fault == SIM_DISK_READ)
		fail[FAULTDISK_READ] = fail[FAULTDISK_MAP] = one_in;
	else if (fault == SIM_DISK_WRITE)
		fail[FAULTDISK_WRITE] = fail[FAULTDISK_TRUNCATE] = fail[FAULTDISK_OPEN] =
			fail[FAULTDISK_DELETE] = one_in;
	else if (fault == SIM_DISK_SYNC)
		fail[FAULTDISK_SYNC] = 1 + one_in / 8; /* there are few of them */
	else if (fault == SIM_BUSY)
		fail[FAULTDISK_LOCK] = one_in;
	else
		host->disk.full = true;
	if (host->disk.full)
		sim_count(sim, SIM_DISK_FULL);
	sim_at(sim, sim->now_ms + sim_draw(sim, 4000), heal_disk, NULL, host->index);
}

static void jump(struct sim *sim, struct sim_host *host, bool ahead)
{
	/* mostly within what is taken at once, sometimes an hour */
	uint64_t most = sim_draw(sim, 8) == 0 ? 3600000 : 240000;
	int64_t ms = (int64_t)sim_draw(sim, most);

	if (ahead)
		host->wall_skew_ms += ms;
	else
		host->wall_skew_ms -= ms;
	if (host->wall_skew_ms > host->wall_ahead_max_ms)
		host->wall_ahead_max_ms = host->wall_skew_ms;
	sim_count(sim, ahead ? SIM_CLOCK_AHEAD : SIM_CLOCK_BACK);
	sim_note(sim, 2, "host %zu: its clock is %lld ms off", host->index,
		 (long long)host->wall_skew_ms);
}

static void crash_some(struct sim *sim, enum sim_fault fault)
{
	struct sim_host *host = any_host(sim);
	uint64_t again = sim->now_ms + 1 + sim_draw(sim, 8000);

	if (fault == SIM_CRASH_POINT) {
		/* counted when it happens */
		host->disk.crash_who = FAULTDISK_NODE | (sim_draw(sim, 2) ? FAULTDISK_APP : 0);
		host->disk.crash_after = 1 + sim_draw(sim, 60);
		return;
	}
	if (!host->node)
		return;
	if (fault == SIM_RESTART) {
		sim_count(sim, fault);
		sim_host_stop(host);
		host->restart_at_ms = again;
		return;
	}
	if (fault == SIM_KILL)
		sim_count(sim, fault);
	sim_host_crash(host, fault == SIM_POWER_CUT, again);
}

static void part(struct sim *sim, enum sim_fault fault)
{
	sim_count(sim, fault);
	split(sim, fault == SIM_ONE_WAY);
}

static void pause_one(struct sim *sim, enum sim_fault fault)
{
	struct sim_host *host = any_host(sim);

	sim_count(sim, fault);
	host->paused_until_ms = sim->now_ms + sim_draw(sim, 20000);
}

static void jump_one(struct sim *sim, enum sim_fault fault)
{
	jump(sim, any_host(sim), fault == SIM_CLOCK_AHEAD);
}

static void hold_one(struct sim *sim, enum sim_fault fault)
{
	struct sim_host *host = any_host(sim);

	sim_app_hold(host, fault == SIM_APP_WRITER, 1 + sim_draw(sim, 3000));
}

/* Counted when an allocation fails. */
static void starve(struct sim *sim, enum sim_fault fault)
{
	(void)fault;
	sim->memory_fails = 1 + (uint32_t)sim_draw(sim, 4);
	sim->memory_one_in = 1 + sim_draw(sim, sim_draw(sim, 2) ? 20 : 3000);
}

/* About so many of each in the storm, if the seed has drawn it. */
static const struct {
	enum sim_fault fault;
	uint32_t max;
	void (*strike)(struct sim *sim, enum sim_fault fault);
} by_number[] = {
	{SIM_PARTITION, 4, part},	 {SIM_ONE_WAY, 4, part},
	{SIM_KILL, 7, crash_some},	 {SIM_CRASH_POINT, 6, crash_some},
	{SIM_POWER_CUT, 4, crash_some},	 {SIM_DISK_READ, 4, break_disk},
	{SIM_DISK_WRITE, 4, break_disk}, {SIM_DISK_SYNC, 6, break_disk},
	{SIM_DISK_FULL, 3, break_disk},	 {SIM_BUSY, 4, break_disk},
	{SIM_PAUSE, 4, pause_one},	 {SIM_CLOCK_AHEAD, 5, jump_one},
	{SIM_CLOCK_BACK, 5, jump_one},	 {SIM_APP_READER, 5, hold_one},
	{SIM_APP_WRITER, 5, hold_one},	 {SIM_RESTART, 6, crash_some},
	{SIM_MEMORY, 4, starve},
};

#define BY_NUMBER (sizeof(by_number) / sizeof(by_number[0]))

static void strike(struct sim *sim, void *ctx, uint64_t arg)
{
	(void)ctx;
	if (!sim->calm)
		by_number[arg].strike(sim, by_number[arg].fault);
}

static void write_one(struct sim *sim, void *ctx, uint64_t arg)
{
	size_t i;

	(void)ctx;
	(void)arg;
	if (sim_draw(sim, 16) >= sim->plan.herds) {
		sim_app_write(any_host(sim));
		return;
	}
	for (i = 0; i < sim->count; i++)
		sim_app_write(&sim->hosts[i]);
}

/* Two to five mostly, sometimes up to sixteen. */
static size_t draw_hosts(struct sim *sim)
{
	uint64_t kind = sim_draw(sim, 100);

	if (kind < 80)
		return 2 + sim_draw(sim, 4);
	return kind < 96 ? 4 + sim_draw(sim, 5) : 8 + sim_draw(sim, SIM_HOSTS_MAX - 7);
}

void sim_plan_draw(struct sim *sim)
{
	struct sim_plan *plan = &sim->plan;
	size_t i;

	plan->hosts = draw_hosts(sim);
	plan->storm_ms = 5000 + sim_draw(sim, 40000);
	plan->commits = 15 + (uint32_t)sim_draw(sim, 30);
	plan->delay_ms = sim_draw(sim, 3) == 0 ? sim_draw(sim, 200) : sim_draw(sim, 10);
	plan->faults_while_joining = sim_draw(sim, 3) == 0;
	for (i = 0; i < sizeof(by_chance) / sizeof(by_chance[0]); i++)
		if (sim_draw(sim, 2) == 0)
			plan->rate[by_chance[i].fault] =
				1 + (uint32_t)sim_draw(sim, by_chance[i].max);
	for (i = 0; i < BY_NUMBER; i++)
		if (sim_draw(sim, 2) == 0)
			plan->rate[by_number[i].fault] =
				1 + (uint32_t)sim_draw(sim, by_number[i].max);
	plan->hostile = sim_draw(sim, 5) == 0 && plan->hosts < SIM_HOSTS_MAX;
	if (sim_draw(sim, 3) == 0)
		plan->herds = 1 + (uint32_t)sim_draw(sim, 6);
	if (sim_draw(sim, 10) == 0)
		plan->big_texts = 1 + (uint32_t)sim_draw(sim, 8);
}

void sim_plan_start(struct sim *sim)
{
	uint32_t i, n;

	for (i = 0; i < sim->plan.commits; i++)
		sim_at(sim, sim->now_ms + sim_draw(sim, sim->plan.storm_ms), write_one, NULL, 0);
	for (i = 0; i < BY_NUMBER; i++)
		for (n = 0; n < sim->plan.rate[by_number[i].fault]; n++)
			sim_at(sim, sim->now_ms + sim_draw(sim, sim->plan.storm_ms), strike, NULL,
			       i);
}

void sim_plan_heal(struct sim *sim)
{
	size_t i;

	sim->calm = true;
	heal_network(sim, NULL, 0);
	for (i = 0; i < sim->count; i++) {
		struct sim_host *host = &sim->hosts[i];

		heal_disk(sim, NULL, i);
		host->disk.crash_after = 0;
		host->wall_skew_ms = 0;
		host->paused_until_ms = 0;
		if (!host->node)
			host->restart_at_ms = sim->now_ms + 1;
	}
}
