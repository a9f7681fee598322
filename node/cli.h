/* The command line: arguments in, exit code out. */
#ifndef P2P_NODE_CLI_H
#define P2P_NODE_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"
#include "proto/error.h"
#include "proto/limits.h"

#define CLI_OK		0
#define CLI_FAILED	1
#define CLI_USAGE	2
#define CLI_NOT_RUNNING 3
#define CLI_DEGRADED	4
#define CLI_REFUSED	5
#define CLI_TEMPORARY	75

#define CLI_LIST_MAX 64

/* A repeatable option. */
struct cli_list {
	const char *items[CLI_LIST_MAX];
	size_t count;
};

struct cli_args {
	const struct cli_verb *verb;
	struct cli_list words; /* after the verb; more than CLI_LIST_MAX are a usage error */
	struct cli_list listen, seeds, interfaces, tables, exclude, refs, counters;
	bool no_discovery, json, replicate_schema, replace, merge, qr, no_addresses, help;
	const char *name, *state, *role, *vector, *restore;
	int log_level;		    /* enum p2p_node_log_level */
	uint32_t apply_interval_ms; /* 100 */
	uint32_t uses;		    /* 1 */
	uint64_t expires_ms;	    /* 24 h */
	uint64_t peers;		    /* 0: all */
	uint32_t timeout_ms;	    /* 30 s */
};

struct cli_verb {
	const char *name;
	uint32_t options; /* which it takes: CLI_OPT_* */
	size_t words_min, words_max;
	const char *usage; /* after "p2pnode " */
	const char *help;  /* one or more lines */
	int (*run)(const struct cli_args *args);
};

#define CLI_OPT_NODE	1u  /* of verbs that run a node */
#define CLI_OPT_SHARE	2u  /* --table, --exclude, --replicate-schema */
#define CLI_OPT_JOIN	4u  /* --replace, --merge */
#define CLI_OPT_WAIT	8u  /* --peers, --timeout, --for */
#define CLI_OPT_INVITE	16u /* --role, --qr, --no-addresses */
#define CLI_OPT_USES	32u /* --uses, --expires */
#define CLI_OPT_REF	64u
#define CLI_OPT_COUNTER 128u
#define CLI_OPT_JSON	256u
#define CLI_OPT_STATE	512u
#define CLI_OPT_RESTORE 1024u

/* cli_args.c */
/* Reads a command line (argv[0] is the program) against the table of verbs, which ends with a NULL
 * name. P2P_EINVAL with a text that suggests the nearest name. With a help option, or no verb at
 * all, out->help is set and nothing else is checked. */
int cli_parse(struct cli_args *out, const struct cli_verb *verbs, int argc, char *const *argv,
	      struct p2p_error *err) P2P_MUST_CHECK;
/* "24h", "10m", "7d", "30s", "500ms", "2w". P2P_EINVAL. */
int cli_duration(const char *text, uint64_t *out_ms) P2P_MUST_CHECK;
/* Insertions, deletions, replacements and swaps of neighbours between two names. */
size_t cli_distance(const char *a, const char *b);

/* cli.c */
extern const struct cli_verb cli_verbs[];
int cli_main(int argc, char *const *argv);
/* Exit code of an error. */
int cli_exit_code(int code);
/* Prints "p2pnode: what: why" and the next step for people; returns cli_exit_code(code). hint NULL:
 * the usual one of this code, if any. */
int cli_fail(const struct cli_args *args, int code, const char *why, const char *hint);

/* cli_node.c: verbs that are a node */
int cli_share(const struct cli_args *args);
int cli_join(const struct cli_args *args);
int cli_run(const struct cli_args *args);

/* cli_query.c: verbs that ask a node, or the files of one that does not run */
int cli_doctor(const struct cli_args *args);
int cli_conflicts(const struct cli_args *args);
int cli_show(const struct cli_args *args); /* status, peers, tables, members */
int cli_vector(const struct cli_args *args);
int cli_wait(const struct cli_args *args);
int cli_tables(const struct cli_args *args); /* enable, disable, rescan */
int cli_verify(const struct cli_args *args);
int cli_invite(const struct cli_args *args);
int cli_unshare(const struct cli_args *args);
int cli_later(const struct cli_args *args); /* says that it comes later */

/* cli_client.c */
/* Sends one request to the running node of a database and appends its answer to out. Returns 0,
 * CLI_CLIENT_NONE: no node runs, or the node's error with its text in err. timeout_ms: how long the
 * answer may take. */
#define CLI_CLIENT_NONE 1
int cli_ask(const char *db_path, const char *state_dir, const char *const *words, size_t count,
	    uint64_t timeout_ms, struct p2p_buf *out, struct p2p_error *err) P2P_MUST_CHECK;

#endif
