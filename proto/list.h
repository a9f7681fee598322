/* Intrusive doubly linked list: the link is a member of the element, nothing is allocated. */
#ifndef P2P_PROTO_LIST_H
#define P2P_PROTO_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/check.h"

struct p2p_list {
	struct p2p_list *next, *prev;
};

static inline void p2p_list_init(struct p2p_list *list)
{
	list->next = list->prev = list;
}

static inline bool p2p_list_empty(const struct p2p_list *list)
{
	return list->next == list;
}

static inline void p2p_list_push(struct p2p_list *list, struct p2p_list *link)
{
	link->prev = list->prev;
	link->next = list;
	list->prev->next = link;
	list->prev = link;
}

/* Also right for an element that is in no list, if its link was initialised. */
static inline void p2p_list_remove(struct p2p_list *link)
{
	link->prev->next = link->next;
	link->next->prev = link->prev;
	p2p_list_init(link);
}

/* The element may be removed inside the loop; its successor may not. */
#define p2p_list_for_each(at, tmp, list)                              \
	for ((at) = (list)->next, (tmp) = (at)->next; (at) != (list); \
	     (at) = (tmp), (tmp) = (at)->next)

#endif
