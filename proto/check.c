/* The one place that ends the process; see check.h. */
#include "proto/check.h"

#include <stdio.h>
#include <stdlib.h>

_Noreturn void p2p_check_failed(const char *expr, const char *file, int line)
{
	(void)fprintf(stderr, "p2pnode: broken invariant: %s (%s:%d)\n", expr, file, line);
	abort();
}
