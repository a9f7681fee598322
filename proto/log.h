/* Logging: the library never prints; it hands lines to a sink, none by default.
 *
 * The function that handles an error logs it, once; one that returns it does not. Never keys, row
 * values or SQL parameters. */
#ifndef P2P_PROTO_LOG_H
#define P2P_PROTO_LOG_H

#include "proto/error.h"

enum p2p_log_level { P2P_LOG_ERROR, P2P_LOG_WARN, P2P_LOG_INFO, P2P_LOG_DEBUG };

struct p2p_log {
	void *ctx;
	/* group: the folder ("crdt", "transport"...); text: one line, borrowed for the call. */
	void (*sink)(void *ctx, enum p2p_log_level level, const char *group, const char *text);
	enum p2p_log_level level; /* lines above it are not made */
};

/* log may be NULL. */
void p2p_log(const struct p2p_log *log, enum p2p_log_level level, const char *group,
	     const char *fmt, ...) P2P_PRINTF(4, 5);

#endif
