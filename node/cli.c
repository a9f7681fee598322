/* Verbs, help, errors and exit codes of the command line. */
#include "node/cli.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "proto/check.h"

#define NODE_HELP                                                                          \
	"Options of the node:\n"                                                           \
	"  --listen ADDR:PORT    listen there; repeatable; port 0 takes a free one\n"      \
	"                        (default 0.0.0.0:7473 and [::]:7473)\n"                   \
	"  --seed HOST:PORT      dial this address; repeatable; remembered\n"              \
	"  --no-discovery        no UDP at all\n"                                          \
	"  --iface NAME          discover only on this interface; repeatable\n"            \
	"  --apply-interval MS   how long a remote change may wait for a moment when no\n" \
	"                        application is in a transaction (default 100)\n"          \
	"  --name TEXT           a name for people (default: the host's name)\n"           \
	"  --state DIR           identity and settings (default: DB-p2p)\n"                \
	"  --json                events as JSON lines on stdout instead of text\n"         \
	"  --log-level LEVEL     error, warn, info or debug, on stderr (default warn)\n"

// clang-format off
const struct cli_verb cli_verbs[] = {
	{"share", CLI_OPT_NODE | CLI_OPT_SHARE | CLI_OPT_USES | CLI_OPT_REF, 1, 1,
	 "share DB [OPTIONS]",
	 "Makes a mesh of DB and runs its node; prints mesh, node and a ticket for joiners.\n"
	 "  --table TABLE         replicate only this table; repeatable (default: all that can be)\n"
	 "  --exclude TABLE       not this one; repeatable\n"
	 "  --uses N              how many may join by the ticket (default 1)\n"
	 "  --expires DURATION    how long it is good: 30s, 10m, 24h, 7d (default 24h)\n"
	 "  --ref COL=PARENT      COL (TABLE.COL, or COL where one table has it) refers to rows of\n"
	 "                        PARENT although no FOREIGN KEY says so: it follows a row that gets\n"
	 "                        another number; repeatable (p2pnode doctor suggests some)\n"
	 "  --replicate-schema    the mesh carries its schema: tables, columns and indexes that one\n"
	 "                        member adds are made in all files (default: every application\n"
	 "                        migrates its own); only when the mesh is made\n" NODE_HELP,
	 cli_share},
	{"join", CLI_OPT_NODE | CLI_OPT_JOIN, 1, 2,
	 "join TICKET [DB] [OPTIONS]",
	 "Makes DB from the mesh of the ticket (default: the mesh's name, here) and runs its node.\n"
	 "For a DB that has rows already:\n"
	 "  --merge               its rows come into the mesh; where both have a row, by its key or\n"
	 "                        number, the mesh's values stand\n"
	 "  --replace             the mesh's database takes its place; the old file is kept beside it\n"
	 "                        as DB.before-join-<time>\n" NODE_HELP,
	 cli_join},
	{"run", CLI_OPT_NODE, 1, 1,
	 "run DB [OPTIONS]",
	 "Runs the node of a database that is in a mesh, until SIGTERM or SIGINT.\n" NODE_HELP,
	 cli_run},
	{"status", CLI_OPT_JSON | CLI_OPT_STATE, 1, 1,
	 "status DB [--json]",
	 "Shows the node, its tables and peers; also when it does not run.\n", cli_show},
	{"wait", CLI_OPT_WAIT | CLI_OPT_STATE, 1, 1,
	 "wait DB [--peers N] [--timeout SECONDS] [--for VECTOR]",
	 "Waits until peers have all that was written here and nothing of theirs is missing.\n"
	 "  --peers N             that many (default: all connected, at least 1)\n"
	 "  --timeout SECONDS     exit 4 after that (default 30)\n"
	 "  --for VECTOR          and what `p2pnode vector` of another node printed is here\n",
	 cli_wait},
	{"vector", CLI_OPT_STATE, 1, 1,
	 "vector DB",
	 "Prints the version vector as text for `p2pnode wait --for` of another node.\n", cli_vector},
	{"peers", CLI_OPT_JSON | CLI_OPT_STATE, 1, 1,
	 "peers DB [--json]", "Shows the other members and addresses that are tried.\n", cli_show},
	{"tables", CLI_OPT_JSON | CLI_OPT_STATE, 1, 1,
	 "tables DB [--json]", "Shows which tables are replicated, and why others are not.\n", cli_show},
	{"members", CLI_OPT_JSON | CLI_OPT_STATE, 1, 1,
	 "members DB [--json]", "Shows who is in the mesh.\n", cli_show},
	{"enable", CLI_OPT_REF | CLI_OPT_COUNTER | CLI_OPT_STATE, 2, CLI_LIST_MAX,
	 "enable DB TABLE... [--ref COL=PARENT] [--counter COL]",
	 "Starts replicating tables.\n"
	 "  --ref COL=PARENT      COL (or TABLE.COL) refers to rows of PARENT although no FOREIGN KEY\n"
	 "                        says so: it follows a row that gets another number; repeatable\n"
	 "  --counter COL         what nodes add to COL (or TABLE.COL) adds up, also while they do\n"
	 "                        not see one another: an INTEGER column, also of a table that is\n"
	 "                        replicated already; for all nodes, and for good; repeatable\n", cli_tables},
	{"disable", CLI_OPT_STATE, 2, CLI_LIST_MAX,
	 "disable DB TABLE...", "Stops replicating tables; their rows stay.\n", cli_tables},
	{"rescan", CLI_OPT_STATE, 1, CLI_LIST_MAX,
	 "rescan DB [TABLE]...", "Compares all rows with what is known of them.\n", cli_tables},
	{"verify", CLI_OPT_STATE, 1, 1,
	 "verify DB",
	 "Checks every stored signature, hash chain, clock and row; exit 1 names what is wrong.\n",
	 cli_verify},
	{"invite", CLI_OPT_USES | CLI_OPT_INVITE | CLI_OPT_STATE, 1, 1,
	 "invite DB [--uses N] [--expires DURATION] [--role ROLE] [--no-addresses]",
	 "Prints a fresh ticket of the running node.\n"
	 "  --uses N              how many may join by it (default 1)\n"
	 "  --expires DURATION    how long it is good: 30s, 10m, 24h, 7d (default 24h)\n"
	 "  --role ROLE           writer or admin (default writer)\n"
	 "  --no-addresses        leave out the addresses: joiners find this node by discovery\n"
	 "  --qr                  comes in a later version\n", cli_invite},
	{"unshare", CLI_OPT_STATE, 1, 1,
	 "unshare DB",
	 "Takes triggers, internal tables and state out again: a plain SQLite file as before.\n",
	 cli_unshare},
	{"conflicts", CLI_OPT_JSON | CLI_OPT_STATE | CLI_OPT_RESTORE, 1, 1,
	 "conflicts DB [--json] [--restore ID]",
	 "Shows what lost in merges, with both sides: also as the view p2p_conflicts in the database.\n"
	 "  --restore ID          writes the lost side back, as a new change made here\n", cli_conflicts},
	{"revoke", CLI_OPT_STATE, 2, 2, "revoke DB NODE", "Comes in a later version.\n", cli_later},
	{"doctor", CLI_OPT_JSON, 1, 1,
	 "doctor DB [--json]",
	 "Says what replication will do with each table of DB and why, before it is shared or after.\n"
	 "Reads only.\n", cli_doctor},
	{"snapshot", CLI_OPT_STATE, 2, 2, "snapshot DB FILE", "Comes in a later version.\n", cli_later},
	{"bench", CLI_OPT_JSON, 0, 0, "bench [--json]", "Comes in a later version.\n", cli_later},
	{NULL, 0, 0, 0, NULL, NULL, NULL},
};

/* code, exit code, next step for people */
static const struct {
	int code, exit;
	const char *hint;
} outcomes[] = {
	{P2P_EINVAL, CLI_USAGE, "see p2pnode --help"},
	{P2P_EBUSY, CLI_TEMPORARY, "another program holds the database: try again"},
	{P2P_ETIMEOUT, CLI_DEGRADED, "see p2pnode status for the peers"},
	{P2P_EREFUSED, CLI_REFUSED, NULL},
	{P2P_ELOCKED, CLI_REFUSED, "one node serves a database: use that one, or stop it first"},
	{P2P_EREADONLY, CLI_REFUSED, "the file and its directory must be writable for this user"},
	{P2P_EAUTH, CLI_REFUSED, "ask a member for a fresh ticket"},
	{P2P_EREVOKED, CLI_REFUSED, NULL},
	{P2P_EMESH, CLI_REFUSED, "p2pnode unshare takes a database out of its mesh"},
	{P2P_EEXPIRED, CLI_REFUSED, "p2pnode invite makes one at the node that issued it"},
	{P2P_EQUOTA, CLI_REFUSED, "p2pnode invite makes one; --uses says how many may join by it"},
	{P2P_EEXIST, CLI_FAILED,
	 "an address: --listen 0.0.0.0:0 takes a free port; a table: p2pnode tables shows what is replicated"},
	{P2P_ENOTDB, CLI_FAILED, "give the path of an SQLite database"},
	{P2P_EFULL, CLI_FAILED, "make room on the disk and start again: nothing is lost"},
	{P2P_ENEWER, CLI_FAILED, "update p2pnode on this machine"},
	{P2P_ECORRUPT, CLI_FAILED, "p2pnode verify says more"},
};
// clang-format on

int cli_exit_code(int code)
{
	size_t i;

	for (i = 0; i < p2p_array_len(outcomes); i++)
		if (outcomes[i].code == code)
			return outcomes[i].exit;
	return code == 0 ? CLI_OK : CLI_FAILED;
}

int cli_fail(const struct cli_args *args, int code, const char *why, const char *hint)
{
	size_t i;

	for (i = 0; !hint && i < p2p_array_len(outcomes); i++)
		if (outcomes[i].code == code)
			hint = outcomes[i].hint;
	(void)fprintf(stderr, "p2pnode: %s: %s\n", args->verb ? args->verb->name : "usage", why);
	if (hint)
		(void)fprintf(stderr, "  %s\n", hint);
	return cli_exit_code(code);
}

static void print_help(const struct cli_verb *only)
{
	const struct cli_verb *verb;

	if (only) {
		(void)printf("usage: p2pnode %s\n\n%s", only->usage, only->help);
		if (only->options & CLI_OPT_JSON)
			(void)printf("  --json                as JSON\n");
		if (only->options & CLI_OPT_STATE)
			(void)printf("  --state DIR           where identity and settings are\n");
		return;
	}
	(void)printf(
		"usage: p2pnode VERB ...\n\n"
		"Keeps the tables of an SQLite database the same on all machines of a mesh.\n\n");
	for (verb = cli_verbs; verb->name; verb++)
		(void)printf("  p2pnode %s\n", verb->usage);
	(void)printf("\np2pnode VERB --help says more. Version " P2P_VERSION ".\n"
		     "Exit codes: 0 done, 1 failed, 2 usage, 3 node not running, 4 not (yet) "
		     "converged,\n5 refused, 75 temporary, try again.\n");
}

int cli_main(int argc, char *const *argv)
{
	struct p2p_error err = {0};
	struct cli_args args;
	int rc;

	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		(void)printf("p2pnode " P2P_VERSION "\n");
		return CLI_OK;
	}
	if (sodium_init() < 0) {
		(void)fprintf(stderr, "p2pnode: this machine gives no random numbers\n");
		return CLI_FAILED;
	}
	rc = cli_parse(&args, cli_verbs, argc, argv, &err);
	if (rc) {
		(void)cli_fail(&args, rc, err.msg, NULL);
		return CLI_USAGE;
	}
	if (args.help) {
		print_help(args.verb);
		rc = argc < 2 ? CLI_USAGE : CLI_OK;
	} else {
		rc = args.verb->run(&args);
	}
	/* a full disk or a closed pipe must not look like success */
	if ((fflush(stdout) || ferror(stdout)) && rc == CLI_OK) {
		(void)fprintf(stderr, "p2pnode: %s: cannot write to stdout\n", argv[1]);
		rc = CLI_FAILED;
	}
	return rc;
}
