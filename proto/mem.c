/* The allocator behind the library; see mem.h. */
#include "proto/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/check.h"

/* Set once before first use, as documented; the one process-wide variable, shared by all nodes as
 * the C library's own allocator is. */
static struct p2p_mem_hooks mem_hooks = {malloc, realloc, free};

void p2p_mem_set_hooks(const struct p2p_mem_hooks *hooks)
{
	p2p_require(hooks != NULL);
	mem_hooks = *hooks;
}

void *p2p_malloc(size_t size)
{
	return mem_hooks.malloc(size ? size : 1);
}

void *p2p_calloc(size_t count, size_t size)
{
	void *ptr;

	if (size && count > SIZE_MAX / size)
		return NULL;
	ptr = p2p_malloc(count * size);
	if (ptr)
		memset(ptr, 0, count * size);
	return ptr;
}

void *p2p_realloc(void *ptr, size_t size)
{
	return mem_hooks.realloc(ptr, size ? size : 1);
}

void p2p_free(void *ptr)
{
	if (ptr)
		mem_hooks.free(ptr);
}

char *p2p_strdup(const char *text)
{
	return p2p_memdup(text, strlen(text) + 1);
}

void *p2p_memdup(const void *data, size_t len)
{
	void *copy = p2p_malloc(len);

	if (copy && len)
		memcpy(copy, data, len);
	return copy;
}
