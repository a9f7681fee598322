/* What a run has done, for people and for docs/reliability.md. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim.h"

void sim_stats_add(struct sim_stats *sum, const struct sim_stats *one)
{
	size_t i;

	for (i = 0; i < SIM_FAULT_COUNT; i++)
		sum->faults[i] += one->faults[i];
	sum->commits += one->commits;
	sum->failed_commits += one->failed_commits;
	sum->joins += one->joins;
	sum->starts += one->starts;
	sum->dials += one->dials;
	sum->links += one->links;
	sum->datagrams += one->datagrams;
	sum->bytes += one->bytes;
	sum->virtual_ms += one->virtual_ms;
	sum->checks += one->checks;
	sum->changesets += one->changesets;
	sum->rows += one->rows;
	sum->twin_rows += one->twin_rows;
	sum->operations += one->operations;
	sum->constrained += one->constrained;
	sum->looks += one->looks;
	for (i = 0; i < SIM_CODES; i++)
		sum->refused[i] += one->refused[i];
	if (one->heal_ms_max > sum->heal_ms_max)
		sum->heal_ms_max = one->heal_ms_max;
}

static uint64_t fault_sum(const struct sim_stats *sum)
{
	uint64_t total = 0;
	size_t i;

	for (i = 0; i < SIM_FAULT_COUNT; i++)
		total += sum->faults[i];
	return total;
}

/* For docs/reliability.md, if P2P_RELIABILITY names a folder. */
static void write_figures(const struct sim_stats *sum, uint64_t seeds, uint64_t failed,
			  double seconds)
{
	const char *folder = getenv("P2P_RELIABILITY");
	char path[512];
	FILE *file;
	size_t i;

	if (!folder ||
	    (size_t)snprintf(path, sizeof(path), "%s/%s.json", folder,
			     sum->constrained ? "sim-constraints" : "sim") >= sizeof(path))
		return;
	file = fopen(path, "w");
	if (!file) {
		perror(path);
		return;
	}
	(void)fprintf(
		file,
		"{\"title\": \"Simulator%s\", \"command\": \"build/tests/sim/sim%s --count N --jobs "
		"J\", \"figures\": [[\"seeds\", %llu], [\"seeds that failed\", %llu], [\"seconds\", "
		"%.0f], [\"seeds a second\", %.1f], [\"hours of virtual time\", %.0f], "
		"[\"commits of applications\", %llu], [\"operations of disks\", %llu], [\"bytes on "
		"links\", %llu], [\"starts of nodes\", %llu], [\"safety checks of a host\", %llu], "
		"[\"rows compared with the twin\", %llu], [\"faults\", %llu]",
		sum->constrained ? ", tables with references, constraints and a counter, too" : "",
		sum->constrained ? " --constraints" : "", (unsigned long long)seeds,
		(unsigned long long)failed, seconds, (double)seeds / seconds,
		(double)sum->virtual_ms / 3600000.0, (unsigned long long)sum->commits,
		(unsigned long long)sum->operations, (unsigned long long)sum->bytes,
		(unsigned long long)sum->starts, (unsigned long long)sum->checks,
		(unsigned long long)sum->twin_rows, (unsigned long long)fault_sum(sum));
	for (i = 0; i < SIM_FAULT_COUNT; i++)
		(void)fprintf(file, ", [\"faults: %s\", %llu]", sim_fault_name((enum sim_fault)i),
			      (unsigned long long)sum->faults[i]);
	(void)fprintf(
		file,
		"], \"not_tested\": [\"schema changes are not in the simulator\", \"renames and permissions of files; a disk that tells "
		"lies about what it synced\"]}\n");
	if (fclose(file) != 0)
		perror(path);
}

void sim_report(const struct sim_stats *sum, uint64_t seeds, uint64_t failed, double seconds)
{
	size_t i;

	(void)printf("%llu seeds%s in %.1f s (%.1f/s): %.1f h of virtual "
		     "time, %llu commits (%llu failed), %llu faults\n",
		     (unsigned long long)seeds, sum->constrained ? " with constraints" : "",
		     seconds, (double)seeds / seconds, (double)sum->virtual_ms / 3600000.0,
		     (unsigned long long)sum->commits, (unsigned long long)sum->failed_commits,
		     (unsigned long long)fault_sum(sum));
	(void)printf("%llu joins, %llu starts, %llu connections, %llu datagrams, %llu bytes on "
		     "links, %llu operations of disks; %llu checks, %llu changesets, %llu rows, "
		     "%llu rows of the twin; level at most %llu ms after the last fault\n",
		     (unsigned long long)sum->joins, (unsigned long long)sum->starts,
		     (unsigned long long)sum->links, (unsigned long long)sum->datagrams,
		     (unsigned long long)sum->bytes, (unsigned long long)sum->operations,
		     (unsigned long long)sum->checks, (unsigned long long)sum->changesets,
		     (unsigned long long)sum->rows, (unsigned long long)sum->twin_rows,
		     (unsigned long long)sum->heal_ms_max);
	for (i = 0; i < SIM_FAULT_COUNT; i++)
		(void)printf("%s%s %llu", i ? ", " : "faults: ", sim_fault_name((enum sim_fault)i),
			     (unsigned long long)sum->faults[i]);
	(void)printf("\n");
	write_figures(sum, seeds, failed, seconds);
}
