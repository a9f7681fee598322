/* See log.h. */
#include "proto/log.h"

#include <stdarg.h>
#include <stdio.h>

#include "proto/check.h"

#define LOG_LINE_MAX 512

void p2p_log(const struct p2p_log *log, enum p2p_log_level level, const char *group,
	     const char *fmt, ...)
{
	char line[LOG_LINE_MAX];
	va_list ap;

	p2p_require(group != NULL);
	if (!log || !log->sink || level > log->level)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(line, sizeof(line), fmt, ap); /* a cut line is still a line */
	va_end(ap);
	log->sink(log->ctx, level, group, line);
}
