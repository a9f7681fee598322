/* Checks of our own invariants. They stay on in release: a replica that goes on with broken state
 * sends it to every peer.
 *
 * Never on data from the wire, the disk or the application: those are errors, not invariants. */
#ifndef P2P_PROTO_CHECK_H
#define P2P_PROTO_CHECK_H

/* Prints expression and place to stderr and aborts. */
_Noreturn void p2p_check_failed(const char *expr, const char *file, int line);

/* Our bug if false: abort. One condition each. */
#define p2p_require(x) ((x) ? (void)0 : p2p_check_failed(#x, __FILE__, __LINE__))

#define p2p_unreachable() p2p_check_failed("unreachable", __FILE__, __LINE__)

#define p2p_array_len(a) (sizeof(a) / sizeof((a)[0]))

#define p2p_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
