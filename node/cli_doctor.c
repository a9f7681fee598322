/* The verb doctor: reads the file itself, whether a node runs or not. */
#include <stdio.h>
#include <string.h>

#include "crdt/doctor.h"
#include "node/cli.h"
#include "proto/json.h"

struct printing {
	struct p2p_json json;
	bool as_json;
	char table[256]; /* whose heading stands */
	unsigned counts[3];
};

static const char *const levels[] = {
	[P2P_FINDING_NOTE] = "note",
	[P2P_FINDING_WARN] = "warn",
	[P2P_FINDING_ERROR] = "error",
};

static int finding_json(struct p2p_json *json, const struct p2p_finding *finding)
{
	p2p_json_begin_object(json);
	p2p_json_put_string(json, "table", finding->table);
	p2p_json_put_string(json, "level", levels[finding->level]);
	p2p_json_put_string(json, "topic", finding->topic);
	p2p_json_put_string(json, "text", finding->text);
	p2p_json_put_string(json, "advice", finding->advice);
	p2p_json_end_object(json);
	return p2p_buf_error(json->out);
}

static int print_finding(void *ctx, const struct p2p_finding *finding)
{
	struct printing *printing = ctx;

	printing->counts[finding->level]++;
	if (printing->as_json)
		return finding_json(&printing->json, finding);
	if (strncmp(printing->table, finding->table, sizeof(printing->table) - 1) != 0) {
		(void)printf("table %s\n", finding->table);
		(void)snprintf(printing->table, sizeof(printing->table), "%s", finding->table);
	}
	(void)printf("  %-5s  %s: %s\n", levels[finding->level], finding->topic, finding->text);
	if (finding->advice[0])
		(void)printf("         -> %s\n", finding->advice);
	return 0;
}

int cli_doctor(const struct cli_args *args)
{
	struct printing printing = {.as_json = args->json};
	const char *db = args->words.items[0];
	struct p2p_error err = {0};
	struct p2p_buf out;
	int rc;

	p2p_buf_init(&out, P2P_CONTROL_ANSWER_MAX);
	p2p_json_init(&printing.json, &out);
	p2p_json_begin_object(&printing.json);
	p2p_json_put_u64(&printing.json, "schema", 1);
	p2p_json_key(&printing.json, "findings");
	p2p_json_begin_array(&printing.json);
	if (!args->json)
		(void)printf("the file\n");
	rc = p2p_doctor(db, print_finding, &printing, &err);
	p2p_json_end_array(&printing.json);
	p2p_json_end_object(&printing.json);
	if (!rc)
		rc = p2p_buf_error(&out);
	if (!rc && args->json)
		(void)printf("%.*s\n", (int)out.len, (const char *)out.data);
	else if (!rc)
		(void)printf("%u errors, %u warnings, %u notes\n",
			     printing.counts[P2P_FINDING_ERROR], printing.counts[P2P_FINDING_WARN],
			     printing.counts[P2P_FINDING_NOTE]);
	p2p_buf_deinit(&out);
	return rc ? cli_fail(args, rc, err.msg[0] ? err.msg : p2p_strerror(rc), NULL) : CLI_OK;
}
