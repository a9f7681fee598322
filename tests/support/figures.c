/* Figures of a run as JSON; see figures.h. */
#include "tests/support/figures.h"

#include <stdio.h>
#include <stdlib.h>

void figures_write(const struct figures *page)
{
	const char *folder = getenv("P2P_RELIABILITY");
	char path[4096];
	FILE *out;
	size_t i;

	if (!folder || !folder[0])
		return;
	(void)snprintf(path, sizeof(path), "%s/%s.json", folder, page->name);
	out = fopen(path, "w");
	if (!out) {
		perror(path);
		abort();
	}
	(void)fprintf(out, "{\"title\": \"%s\", \"command\": \"%s\", \"figures\": [", page->title,
		      page->command);
	for (i = 0; i < page->count; i++)
		(void)fprintf(out, "%s[\"%s\", %.10g]", i ? ", " : "", page->figures[i].label,
			      page->figures[i].value);
	(void)fprintf(out, "], \"not_tested\": [");
	for (i = 0; i < page->not_tested_count; i++)
		(void)fprintf(out, "%s\"%s\"", i ? ", " : "", page->not_tested[i]);
	(void)fprintf(out, "]}\n");
	if (fclose(out)) {
		perror(path);
		abort();
	}
}
