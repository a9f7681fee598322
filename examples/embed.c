/* A program that carries its own node:  embed DB            founds a mesh and prints a ticket,
 *                                       embed DB TICKET     joins it.   Ends at the end of stdin.
 * cc embed.c $(pkg-config --cflags --libs p2pnode) */
#include <p2pnode.h>
#include <stdio.h>
#include <string.h>

static void on_event(void *ctx, const p2p_node_event *event) /* on the node's thread */
{
	(void)ctx;
	printf("event %s\n", event->json);
	fflush(stdout);
}

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	return 1;
}

int main(int argc, char **argv)
{
	const char *listen[] = {"127.0.0.1:0"}; /* this machine only; leave it out for a LAN */
	p2p_node_options options;
	p2p_node *node;
	char error[256], line[256], *ticket, *status;

	if (argc < 2)
		return fail("usage", "embed DB [TICKET]");
	p2p_node_options_init(&options, sizeof(options));
	options.listen = listen;
	options.listen_count = 1;
	options.no_discovery = 1;
	options.create = argc > 2;
	options.on_event = on_event;
	if (p2p_node_open(argv[1], &options, &node, error, sizeof(error)))
		return fail("open", error);
	if (argc > 2 ? p2p_node_join(node, argv[2], error, sizeof(error))
		     : p2p_node_share(node, NULL, 0, NULL, 0, error, sizeof(error)))
		return fail("join or share", error);
	if (p2p_node_start(node, error, sizeof(error)))
		return fail("start", error);
	if (argc == 2 &&
	    p2p_node_invite(node, 1, 3600000, NULL, 0, &ticket, error, sizeof(error)) == 0) {
		printf("ticket %s\n", ticket);
		fflush(stdout);
		p2p_node_free(ticket);
	}
	while (fgets(line, sizeof(line), stdin)) { /* each line: show where we are */
		if (p2p_node_status(node, &status) == 0) {
			printf("status %s\n", status);
			fflush(stdout);
			p2p_node_free(status);
		}
	}
	return p2p_node_close(node) ? fail("close", "?") : 0;
}
