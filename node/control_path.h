/* Address of the control socket in a state directory, also when its path is longer than the 108
 * bytes of sun_path: through a descriptor of the directory. */
#ifndef P2P_NODE_CONTROL_PATH_H
#define P2P_NODE_CONTROL_PATH_H

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define P2P_CONTROL_NAME "control"

/* Valid while dir_fd is open. */
static inline void p2p_control_path(struct sockaddr_un *out, int dir_fd)
{
	memset(out, 0, sizeof(*out));
	out->sun_family = AF_UNIX;
	(void)snprintf(out->sun_path, sizeof(out->sun_path), "/proc/self/fd/%d/" P2P_CONTROL_NAME,
		       dir_fd);
}

#endif
