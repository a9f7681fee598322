/* Figures of a run, for docs/reliability.md: written where the environment variable P2P_RELIABILITY
 * says, as <folder>/<name>.json; without it nothing is written. */
#ifndef P2P_TESTS_SUPPORT_FIGURES_H
#define P2P_TESTS_SUPPORT_FIGURES_H

#include <stddef.h>

struct figure {
	const char *label;
	double value;
};

/* Texts hold no quotes and no backslashes. */
struct figures {
	const char *name, *title;
	const char *command; /* how a user repeats it */
	const struct figure *figures;
	size_t count;
	const char *const *not_tested;
	size_t not_tested_count;
};

/* Aborts with a text when the file cannot be written. */
void figures_write(const struct figures *page);

#endif
