/* Fifty nodes of one mesh in one process, all connected with all: equal after 200 writes each.
 *
 * Usage: test_fifty [NODES [WRITES]]   prints time and memory */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "tests/support/cluster.h"

static double seconds(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void write_somewhere(struct cluster *cluster, size_t node, size_t turn)
{
	char sql[256];

	if (turn % 4 == 0)
		(void)snprintf(sql, sizeof(sql),
			       "INSERT INTO item VALUES('n%zu-%zu','new',1.0,%zu)", node, turn,
			       turn);
	else if (turn % 4 == 1)
		(void)snprintf(sql, sizeof(sql), "INSERT INTO note(text) VALUES('%zu-%zu')", node,
			       turn);
	else
		(void)snprintf(sql, sizeof(sql), "UPDATE item SET stock = %zu WHERE code = 'k%u'",
			       turn, (unsigned)cluster_random(cluster, 20));
	cluster_sql(cluster, node, sql);
}

int main(int argc, char **argv)
{
	size_t nodes = argc > 1 ? strtoul(argv[1], NULL, 10) : 50;
	size_t writes = argc > 2 ? strtoul(argv[2], NULL, 10) : 200, node, turn;
	static struct cluster cluster;
	uint64_t bytes = 0, messages = 0;
	struct rusage usage;
	double begun = seconds(), wrote, level;
	bool equal;

	cluster_init(&cluster, 50);
	cluster_share(
		&cluster,
		"CREATE TABLE item(code TEXT PRIMARY KEY, name TEXT, price REAL, stock INTEGER);"
		"CREATE TABLE note(id INTEGER PRIMARY KEY, text TEXT);"
		"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 19)"
		" INSERT INTO item SELECT 'k' || i, 'item', 1.0, 0 FROM n");
	while (cluster.count < nodes)
		(void)cluster_join(&cluster);
	cluster.delay_ms = 1;
	cluster_connect_all(&cluster);
	equal = cluster_settle(&cluster, 60000);
	(void)printf("%zu nodes joined and level after %.1f s\n", nodes, seconds() - begun);
	begun = seconds();
	for (turn = 0; turn < writes && equal; turn++) {
		for (node = 0; node < nodes; node++)
			write_somewhere(&cluster, node, turn);
		cluster_run(&cluster, 20);
	}
	wrote = seconds();
	equal = equal && cluster_settle(&cluster, 120000) && cluster_equal(&cluster);
	level = seconds();
	(void)getrusage(RUSAGE_SELF, &usage);
	for (node = 0; node < nodes; node++) {
		bytes += cluster.nodes[node].bytes_sent;
		messages += cluster.nodes[node].messages_sent;
	}
	(void)printf(
		"%zu writes on each of %zu nodes in %.1f s, level %.1f s later (%.1f s of virtual "
		"time), %.1f MiB at most, %.0f messages and %.0f bytes for each write and "
		"receiver: %s\n",
		writes, nodes, wrote - begun, level - wrote, (double)cluster.now_ms / 1000,
		(double)usage.ru_maxrss / 1024,
		(double)messages / ((double)writes * (double)nodes * (double)nodes),
		(double)bytes / ((double)writes * (double)nodes * (double)nodes),
		equal ? "all equal" : "NOT EQUAL");
	cluster_deinit(&cluster);
	return equal ? 0 : 1;
}
