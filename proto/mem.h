/* All memory of the library goes through here, so that fault tests can fail each allocation and an
 * embedder can count. Running out of memory is an error that is returned, never an abort. */
#ifndef P2P_PROTO_MEM_H
#define P2P_PROTO_MEM_H

#include <stddef.h>

#include "proto/error.h"

struct p2p_mem_hooks {
	void *(*malloc)(size_t size);
	void *(*realloc)(void *ptr, size_t size);
	void (*free)(void *ptr);
};

/* Replaces the allocator of the process. Before the first other call of the library, or never. */
void p2p_mem_set_hooks(const struct p2p_mem_hooks *hooks);

void *p2p_malloc(size_t size) P2P_MUST_CHECK;
/* Zeroed; NULL also when count * size overflows. */
void *p2p_calloc(size_t count, size_t size) P2P_MUST_CHECK;
void *p2p_realloc(void *ptr, size_t size) P2P_MUST_CHECK;
void p2p_free(void *ptr); /* NULL allowed */
/* Copy owned by the caller; NULL when out of memory. */
char *p2p_strdup(const char *text) P2P_MUST_CHECK;
void *p2p_memdup(const void *data, size_t len) P2P_MUST_CHECK; /* len 0 gives a valid pointer */

#endif
