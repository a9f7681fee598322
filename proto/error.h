/* Errors: one list makes the enum, the names and the texts.
 *
 * Functions return 0, a negative P2P_E* code, or a positive outcome that is private to that
 * function and listed in its comment. A function whose failure a person must understand takes a
 * struct p2p_error last (NULL allowed); on the way up context is put in front of its text. */
#ifndef P2P_PROTO_ERROR_H
#define P2P_PROTO_ERROR_H

#include <stddef.h>

/* Who has to act. LOCAL: this machine (memory, disk, settings), goes up to the application.
 * PEER: the other side broke the protocol, costs only its connection. USER: misuse, refused,
 * nothing changed. */
enum p2p_blame { P2P_BLAME_LOCAL, P2P_BLAME_PEER, P2P_BLAME_USER };

// clang-format off
#define P2P_ERRORS(X) \
	X(ENOMEM,     -1, LOCAL, "out of memory") \
	X(EIO,        -2, LOCAL, "input/output error") \
	X(EFULL,      -3, LOCAL, "no space left") \
	X(EBUSY,      -4, LOCAL, "busy, try again") \
	X(ECORRUPT,   -5, LOCAL, "stored data is damaged") \
	X(EREADONLY,  -6, LOCAL, "read-only") \
	X(ENOTDB,     -7, USER,  "not an SQLite database") \
	X(ENOENT,     -8, USER,  "not found") \
	X(EEXIST,     -9, USER,  "exists already") \
	X(EINVAL,    -10, USER,  "invalid argument") \
	X(EREFUSED,  -11, USER,  "refused") \
	X(ELOCKED,   -12, USER,  "in use by another node") \
	X(ESTATE,    -13, USER,  "not possible in this state") \
	X(ETOOBIG,   -14, PEER,  "over a limit") \
	X(EPROTO,    -15, PEER,  "protocol violation") \
	X(EAUTH,     -16, PEER,  "authentication failed") \
	X(EVERSION,  -17, PEER,  "no common version") \
	X(EREVOKED,  -18, PEER,  "membership was revoked") \
	X(EMESH,     -19, PEER,  "another mesh") \
	X(ECLOCK,    -20, PEER,  "clocks differ too much") \
	X(EFORK,     -21, PEER,  "two histories under one replica id") \
	X(ECLONE,    -22, PEER,  "this node runs twice") \
	X(EDUPLICATE,-23, PEER,  "a second session with this peer") \
	X(ETIMEOUT,  -24, PEER,  "timed out") \
	X(ECLOSED,   -25, PEER,  "connection closed") \
	X(EQUOTA,    -26, PEER,  "quota used up") \
	X(ENOPEER,   -27, PEER,  "no such peer") \
	X(EEXPIRED,  -28, PEER,  "expired") \
	X(ENET,      -29, LOCAL, "network error") \
	X(ECANCELED, -30, LOCAL, "canceled") \
	X(ENEWER,    -31, USER,  "made by a newer version")
// clang-format on

enum p2p_err {
	P2P_OK = 0,
#define X(name, code, blame, text) P2P_##name = code,
	P2P_ERRORS(X)
#undef X
};

struct p2p_error {
	int code;      /* one of enum p2p_err */
	char msg[256]; /* one line, for people; cut if longer */
};

#define P2P_MUST_CHECK	    __attribute__((warn_unused_result))
#define P2P_PRINTF(fmt, at) __attribute__((format(printf, fmt, at)))

/* Text of a code, for people; never NULL, also for an unknown code. */
const char *p2p_strerror(int code);
/* Name of a code as in the source ("P2P_EIO"); never NULL. */
const char *p2p_err_name(int code);
/* Who has to act on a code; LOCAL for an unknown one. */
enum p2p_blame p2p_err_blame(int code);

/* Sets code and text; returns code, so that `return p2p_error_set(err, ...)` reads well.
 * err may be NULL. code must be negative. */
int p2p_error_set(struct p2p_error *err, int code, const char *fmt, ...) P2P_PRINTF(3, 4);
/* Puts "context: " in front of the text that is there; returns err->code or code when err is NULL.
 */
int p2p_error_wrap(struct p2p_error *err, int code, const char *fmt, ...) P2P_PRINTF(3, 4);

#endif
