/* The real clock and the real generator, for everything below node/ (proto/env.h). */
#ifndef P2P_NODE_NODE_ENV_H
#define P2P_NODE_NODE_ENV_H

#include "proto/env.h"

void p2p_node_env_init(struct p2p_env *env);

#endif
