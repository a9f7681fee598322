/* p2pnode: the tables of one SQLite database, the same on all machines of a mesh.
 *
 * The whole public interface; it needs no other header. Link with -lp2pnode (pkg-config p2pnode).
 *
 * A node serves one database file. Any program may read and write that file with plain SQLite at
 * the same time, in this process or another; the node notices commits by itself. Several nodes may
 * live in one process, each with a database of its own. The library prints nothing, installs no
 * signal handler and keeps no global state.
 *
 * Threads. By default p2p_node_start() makes one thread, which runs the node and makes all
 * callbacks. With options.loop set, the node lives on that libuv loop instead, and start, stop and
 * close must be called on its thread, which has to ignore or block SIGPIPE, as for any use of libuv
 * (the thread that the library makes blocks it for itself). Every other function may be called from
 * any thread; one that has to ask the node waits for it (at most some milliseconds). Inside a
 * callback every function but start, stop, close and open of the same node may be called.
 *
 * Functions that return int return 0 or a negative enum p2p_node_err. `error` parameters are
 * buffers for a text that a person understands, always ended with NUL; NULL with size 0 allowed. */
#ifndef P2P_NODE_P2PNODE_H
#define P2P_NODE_P2PNODE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define P2P_API __attribute__((visibility("default")))

/* Opaque: one node. */
typedef struct p2p_node p2p_node;

/* What went wrong. The numbers are part of the ABI and never change. */
enum p2p_node_err {
	P2P_NODE_OK = 0,
	P2P_NODE_ENOMEM = -1,
	P2P_NODE_EIO = -2,
	P2P_NODE_EFULL = -3,	   /* no space left */
	P2P_NODE_EBUSY = -4,	   /* temporary: try again */
	P2P_NODE_ECORRUPT = -5,	   /* stored data is damaged */
	P2P_NODE_EREADONLY = -6,   /* the file or its directory cannot be written */
	P2P_NODE_ENOTDB = -7,	   /* the file is not an SQLite database */
	P2P_NODE_ENOENT = -8,	   /* no such file, table, or the database is in no mesh */
	P2P_NODE_EEXIST = -9,	   /* exists already; an address to listen on is in use */
	P2P_NODE_EINVAL = -10,	   /* an argument is wrong; nothing was done */
	P2P_NODE_EREFUSED = -11,   /* against a rule that the text explains */
	P2P_NODE_ELOCKED = -12,	   /* another node has this database; the text names its pid */
	P2P_NODE_ESTATE = -13,	   /* not in this state: started twice, and the like */
	P2P_NODE_ETOOBIG = -14,	   /* over a limit */
	P2P_NODE_EPROTO = -15,	   /* a peer broke the protocol */
	P2P_NODE_EAUTH = -16,	   /* not a member, or a wrong secret */
	P2P_NODE_EVERSION = -17,   /* no common version with a peer */
	P2P_NODE_EREVOKED = -18,   /* membership was revoked */
	P2P_NODE_EMESH = -19,	   /* the database belongs to another mesh */
	P2P_NODE_ECLOCK = -20,	   /* clocks differ too much */
	P2P_NODE_EFORK = -21,	   /* two histories under one replica id */
	P2P_NODE_ECLONE = -22,	   /* this node runs twice */
	P2P_NODE_EDUPLICATE = -23, /* a second session with this peer */
	P2P_NODE_ETIMEOUT = -24,
	P2P_NODE_ECLOSED = -25,
	P2P_NODE_EQUOTA = -26,	 /* used up: a ticket's number of uses */
	P2P_NODE_ENOPEER = -27,	 /* no such peer */
	P2P_NODE_EEXPIRED = -28, /* a ticket is too old */
	P2P_NODE_ENET = -29,	 /* network error of this machine */
	P2P_NODE_ECANCELED = -30,
	P2P_NODE_ENEWER = -31 /* made by a newer version of p2pnode */
};

enum p2p_node_event_type {
	P2P_EV_STARTED = 1,   /* it listens; once */
	P2P_EV_PEER_UP = 2,   /* a member is connected and agreed */
	P2P_EV_PEER_DOWN = 3, /* a session ended; the node goes on trying */
	P2P_EV_CAUGHT_UP = 4, /* all that a peer had when it connected is in the tables; once a
				 session */
	P2P_EV_MERGED = 5,    /* rows of the application's tables were changed by other nodes */
	P2P_EV_JOINED = 6,    /* p2p_node_join(): the first full copy is committed; once */
	P2P_EV_PROGRESS = 7,  /* p2p_node_join(): the first copy is on its way */
	P2P_EV_REFUSED = 8,   /* p2p_node_join(): the ticket was refused for good */
	P2P_EV_TROUBLE = 9,   /* something does not work now and is tried again; text says what */
	P2P_EV_STOPPED = 10   /* the last event; with options.loop: now call p2p_node_close() */
};

/* Borrowed for the call. Fields may be added at the end: `size` says how much is there. */
typedef struct p2p_node_event {
	size_t size;
	int type;	  /* enum p2p_node_event_type */
	int code;	  /* enum p2p_node_err, or 0 */
	uint64_t rows;	  /* MERGED, JOINED, PROGRESS: rows */
	uint64_t percent; /* PROGRESS: 0 to 100 */
	const char *node; /* hexadecimal id of the peer, or "" */
	const char *text; /* one line for people */
	const char *json; /* the event as one JSON object; its first key is "event" */
} p2p_node_event;

enum p2p_node_log_level {
	P2P_NODE_LOG_ERROR = 0,
	P2P_NODE_LOG_WARN = 1,
	P2P_NODE_LOG_INFO = 2,
	P2P_NODE_LOG_DEBUG = 3
};

/* Settings. Always begin with p2p_node_options_init(). Everything is copied by p2p_node_open()
 * except loop and ctx. */
typedef struct p2p_node_options {
	size_t size;	       /* set by p2p_node_options_init() */
	const char *state_dir; /* identity and log; NULL: DB-p2p beside the database, mode 0700 */
	const char *name;      /* for people, at most 64 bytes; NULL: the host's name */
	const char *const *listen; /* "ADDR:PORT", port 0 takes a free one; with count 0:
				      0.0.0.0:7473 and [::]:7473 */
	size_t listen_count;
	const char *const *seeds; /* "HOST:PORT" to dial; remembered */
	size_t seed_count;
	const char *const *interfaces; /* discover only there; count 0: on all */
	size_t interface_count;
	int no_discovery;	    /* not 0: no UDP at all */
	uint32_t apply_interval_ms; /* how long a remote change may wait for a moment when no
				       application is in a transaction; 100 */
	int create;		    /* not 0: make the database file if it is missing (to join) */
	int log_level;		    /* enum p2p_node_log_level; WARN */
	void *ctx;		    /* given back to both callbacks; borrowed until closed */
	void (*on_event)(void *ctx, const p2p_node_event *event);
	/* group: the part of the program that speaks; text: one line; both borrowed. */
	void (*on_log)(void *ctx, int level, const char *group, const char *text);
	void *loop; /* uv_loop_t, borrowed until closed; NULL: a loop and thread of its own */
	/* not 0: join although the database has rows. Rows that only it has come into the mesh;
	 * where both have a row, by its key or number, the mesh's values stand. */
	int merge;
	/* For p2p_node_share(): "TABLE.COLUMN=PARENT", or "COLUMN=PARENT" where one table has it:
	 * columns that refer to rows of a table with a lone INTEGER PRIMARY KEY although no FOREIGN
	 * KEY says so. They follow when a row gets another number. */
	const char *const *refs;
	size_t ref_count;
	/* not 0: the mesh that p2p_node_share() makes carries its schema: tables, columns and
	 * indexes that one member adds are made in the files of all. Nothing is ever dropped. */
	int replicate_schema;
} p2p_node_options;

/* "0.1.0" */
P2P_API const char *p2p_node_version(void);
/* Text of a code, for people; never NULL. */
P2P_API const char *p2p_node_strerror(int code);
/* Sets the defaults. size: sizeof(p2p_node_options), so that old programs go on with a new
 * library. */
P2P_API void p2p_node_options_init(p2p_node_options *options, size_t size);

/* Opens the database for a node: takes the lock of the file, makes the state directory, checks
 * what can be checked. A file in another journal mode than WAL is switched to it. No thread and no
 * socket yet. options NULL: all defaults. On success *out is owned by the caller until
 * p2p_node_close(). ELOCKED: another node, of this or another process, has the file; EREFUSED: a
 * network file system, or WAL cannot be; EREADONLY, ENOTDB, ENOENT, EBUSY, EIO, ENOMEM, ENEWER,
 * EINVAL, ECORRUPT. */
P2P_API int p2p_node_open(const char *db_path, const p2p_node_options *options, p2p_node **out,
			  char *error, size_t error_size);
/* Frees everything. Stops first if it runs (not with options.loop: there stop, wait for
 * P2P_EV_STOPPED, then close: ESTATE otherwise). NULL allowed. */
P2P_API int p2p_node_close(p2p_node *node);

/* 1 if the database is in a mesh. */
P2P_API int p2p_node_is_member(p2p_node *node);
/* Before start. Makes a mesh of a database that has none: this node founds it. tables NULL: all
 * that can be replicated, less exclude; else exactly these (a mesh that exists gets those that it
 * does not have yet). EREFUSED: a named table cannot be replicated, or options.refs names what
 * cannot be a reference, the text says why and what to do; EINVAL: a text of options.refs; ENOENT,
 * EBUSY, EIO, EFULL, ENOMEM, ESTATE. */
P2P_API int p2p_node_share(p2p_node *node, const char *const *tables, size_t table_count,
			   const char *const *exclude, size_t exclude_count, char *error,
			   size_t error_size);
/* Before start. Joins the mesh of a ticket: after start the node asks the ticket's issuer until it
 * is admitted (P2P_EV_JOINED) or refused for good (P2P_EV_REFUSED). Safe to repeat with the same
 * ticket after a crash; a node that was admitted goes on as member. EINVAL: not a ticket, the text
 * says what is wrong with it; EMESH: the database is in another mesh; EREFUSED: the database has
 * rows of its own and options.merge was not set; EEXPIRED, ESTATE, EIO. */
P2P_API int p2p_node_join(p2p_node *node, const char *ticket, char *error, size_t error_size);

/* Listens, dials, discovers, replicates. ENOENT: in no mesh and not joining; EEXIST: an address is
 * in use; ENET, ENOMEM, EINVAL (an address), ESTATE. */
P2P_API int p2p_node_start(p2p_node *node, char *error, size_t error_size);
/* Finishes the transaction in hand, says goodbye to the peers, frees sockets and thread. Returns
 * when that is done (at most some 2 seconds); with options.loop it only begins, and
 * P2P_EV_STOPPED tells the end. May be started again. ESTATE: called inside a callback. 0 when it
 * does not run. */
P2P_API int p2p_node_stop(p2p_node *node);

/* Makes an invitation and writes its ticket to *out_ticket (free with p2p_node_free()). While it
 * runs: addresses of this node are in it unless no_addresses. uses: how many nodes may join by it,
 * 1 to 1000; expires_ms: from now; role: "admin", "writer" or "reader", NULL: "writer". EREFUSED:
 * this node may not admit, or the role cannot be given yet; ENOENT: in no mesh. */
P2P_API int p2p_node_invite(p2p_node *node, uint32_t uses, uint64_t expires_ms, const char *role,
			    int no_addresses, char **out_ticket, char *error, size_t error_size);
/* State as one JSON object, the same as `p2pnode status --json`; free with p2p_node_free(). */
P2P_API int p2p_node_status(p2p_node *node, char **out_json);
/* A hint: the application has just committed. Never needed. */
P2P_API int p2p_node_poke(p2p_node *node);
/* Waits until at least `peers` connected peers (0: all, at least 1) have every change made here,
 * durably, and nothing of theirs is missing here. Not on the node's own thread or loop (ESTATE).
 * ETIMEOUT. */
P2P_API int p2p_node_wait(p2p_node *node, size_t peers, uint32_t timeout_ms);
/* Frees what a function here handed out. NULL allowed. */
P2P_API void p2p_node_free(void *ptr);

#ifdef __cplusplus
}
#endif

#endif
