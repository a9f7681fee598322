/* Tables and peers as status shows them; see verbs.h. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "node/session.h"
#include "node/verbs.h"
#include "proto/check.h"
#include "proto/mem.h"

struct table_walk {
	struct p2p_node *node;
	int (*each)(void *ctx, const struct p2p_table_row *row);
	void *ctx;
};

static int refused_table(void *ctx, struct p2p_table *table)
{
	struct table_walk *walk = ctx;
	struct p2p_table_row row = {.state = "refused"};
	int rc = 0;

	if (table->state == P2P_TABLE_REFUSED && strncasecmp(table->name, "p2p_", 4) != 0 &&
	    strncasecmp(table->name, "sqlite_", 7) != 0) {
		(void)snprintf(row.name, sizeof(row.name), "%s", table->name);
		(void)snprintf(row.reason, sizeof(row.reason), "%s",
			       table->reason ? table->reason : "");
		row.generated = table->generated_identity;
		rc = walk->each(walk->ctx, &row);
	}
	if (rc == 0)
		p2p_table_deinit(table); /* taken over on 0 */
	return rc;
}

/* A table of the mesh that this file never had. */
static int missing_table(void *ctx, const struct p2p_id *id, const char *name)
{
	struct table_walk *walk = ctx;
	struct p2p_table_row row = {.state = "waiting"};
	size_t len;
	int rc;

	(void)snprintf(row.name, sizeof(row.name), "%s", name);
	rc = p2p_replica_waits_for(walk->node->replica, id, row.reason, sizeof(row.reason));
	len = strlen(row.reason);
	(void)snprintf(row.reason + len, sizeof(row.reason) - len, "%s",
		       len ? ", which is not in this file (yet)" : "it is not in this file (yet)");
	return rc ? rc : walk->each(walk->ctx, &row);
}

static int live_table(struct p2p_node *node, const struct p2p_table *table,
		      struct p2p_table_row *row)
{
	int rc = p2p_replica_table_rows(node->replica, table, &row->rows);

	if (rc == P2P_ENOENT) {
		(void)snprintf(row->reason, sizeof(row->reason), "the application just dropped it");
		return 0;
	}
	row->state = "live";
	return rc ? rc
		  : p2p_replica_waits_for(node->replica, &table->id, row->reason,
					  sizeof(row->reason));
}

int p2p_collect_tables(struct p2p_node *node,
		       int (*each)(void *ctx, const struct p2p_table_row *row), void *ctx)
{
	struct p2p_store *store = p2p_replica_store(node->replica);
	struct table_walk walk = {node, each, ctx};
	size_t i;
	int rc;

	for (i = 0; i < p2p_store_table_count(store); i++) {
		const struct p2p_table *table = p2p_store_table(store, i);
		struct p2p_table_row row = {.generated = table->generated_identity,
					    .state = "waiting"};

		(void)snprintf(row.name, sizeof(row.name), "%s", table->name);
		if (table->reason)
			(void)snprintf(row.reason, sizeof(row.reason), "%s", table->reason);
		rc = table->state == P2P_TABLE_LIVE ? live_table(node, table, &row) : 0;
		if (!rc)
			rc = each(ctx, &row);
		if (rc)
			return rc;
	}
	rc = p2p_replica_each_missing(node->replica, missing_table, &walk);
	return rc ? rc : p2p_schema_each(p2p_store_db(store), refused_table, &walk, NULL);
}

struct known_find {
	const struct p2p_key *key;
	struct p2p_peer_row *row;
};

static int known_peer(void *ctx, const struct p2p_known_peer *peer)
{
	struct known_find *find = ctx;

	if (p2p_key_cmp(&peer->node, find->key) != 0)
		return 0;
	(void)snprintf(find->row->address, sizeof(find->row->address), "%s", peer->address);
	find->row->acked_seq = peer->acked_seq;
	if (peer->name[0]) /* as it calls itself now; a founder's record has no name at all */
		(void)snprintf(find->row->name, sizeof(find->row->name), "%s", peer->name);
	return 0;
}

/* Stands as long as it is so, whatever was noted of the peer before or since. */
static void clock_part(const struct p2p_sync_peer_status *status, struct p2p_peer_row *row)
{
	int64_t offset = status->clock_offset_ms;
	uint64_t apart_s = (uint64_t)(offset < 0 ? -offset : offset) / 1000;

	row->state = "error";
	(void)snprintf(row->last_error, sizeof(row->last_error),
		       "its clock is %" PRIu64 " s %s ours: nothing is exchanged until one of them "
		       "is set right",
		       apart_s, offset < 0 ? "behind" : "ahead of");
}

static void live_part(struct p2p_node *node, const struct p2p_contact *contact,
		      struct p2p_peer_row *row)
{
	struct p2p_sync *sync = p2p_replica_sync(node->replica);
	struct p2p_sync_peer_status status;
	struct p2p_session_stats stats;

	row->state = "connecting";
	(void)snprintf(row->address, sizeof(row->address), "%s", contact->address);
	if (contact->session) {
		p2p_session_stats(contact->session, &stats);
		row->rtt_ms = stats.rtt_ms;
	}
	if (contact->state != P2P_CONTACT_LIVE || !sync ||
	    !p2p_sync_peer_status(sync, contact->id, &status))
		return;
	row->behind = status.behind;
	row->ahead = status.ahead;
	row->acked_seq = status.acked_seq;
	row->state = status.have_known && !status.behind && !status.ahead ? "online" : "syncing";
	if (status.clock_refused)
		clock_part(&status, row);
}

static void note_part(const struct p2p_note *note, struct p2p_peer_row *row)
{
	if (!row->address[0])
		(void)snprintf(row->address, sizeof(row->address), "%s", note->address);
	if (strcmp(row->state, "error") != 0)
		(void)snprintf(row->last_error, sizeof(row->last_error), "%s", note->text);
	if (strcmp(row->state, "offline") != 0)
		return;
	switch (note->code) {
	case P2P_EAUTH:
	case P2P_EREVOKED:
	case P2P_EVERSION:
	case P2P_EMESH:
	case P2P_ECLONE:
		row->state = "error";
		return;
	default:
		row->state = "retrying";
	}
}

static int member_row(struct p2p_node *node, const struct p2p_member *member,
		      struct p2p_peer_row *row)
{
	struct known_find find = {&member->node, row};
	const struct p2p_contact *contact = p2p_contact_of(node, &member->node);
	const struct p2p_note *note = p2p_node_note_of(node, &member->node);
	int rc;

	memset(row, 0, sizeof(*row));
	row->node = member->node;
	row->state = "offline";
	(void)snprintf(row->name, sizeof(row->name), "%s", member->name);
	rc = p2p_sidelog_each_peer(p2p_replica_sidelog(node->replica), known_peer, &find);
	if (rc)
		return rc;
	if (contact)
		live_part(node, contact, row);
	if (note)
		note_part(note, row);
	return 0;
}

int p2p_collect_peers(struct p2p_node *node, int (*each)(void *ctx, const struct p2p_peer_row *row),
		      void *ctx)
{
	struct p2p_authority *authority = p2p_replica_authority(node->replica);
	struct p2p_peer_row row;
	struct p2p_member member;
	size_t i;
	int rc = 0;

	for (i = 0; !rc && p2p_authority_member(authority, i, &member); i++) {
		if (p2p_key_cmp(&member.node, &node->keys.node) == 0)
			continue;
		rc = member_row(node, &member, &row);
		if (!rc)
			rc = each(ctx, &row);
	}
	/* addresses where nobody answered yet */
	for (i = 0; !rc && i < node->note_count; i++) {
		if (!p2p_key_is_zero(&node->notes[i].node))
			continue;
		memset(&row, 0, sizeof(row));
		row.state = "offline";
		note_part(&node->notes[i], &row);
		rc = each(ctx, &row);
	}
	return rc;
}

struct sync_walk {
	size_t online, others;
};

static int count_online(void *ctx, const struct p2p_peer_row *row)
{
	struct sync_walk *walk = ctx;

	walk->online += strcmp(row->state, "online") == 0;
	walk->others += strcmp(row->state, "syncing") == 0 || strcmp(row->state, "connecting") == 0;
	return 0;
}

bool p2p_collect_in_sync(struct p2p_node *node, const struct p2p_replica_status *status)
{
	struct p2p_authority *authority = p2p_replica_authority(node->replica);
	struct sync_walk walk = {0, 0};
	size_t members = p2p_authority_member_count(authority);

	if (status->journal || status->waiting || status->merge_pending ||
	    node->join != P2P_JOIN_NONE || p2p_collect_peers(node, count_online, &walk))
		return false;
	return walk.others == 0 && (walk.online > 0 || members <= 1);
}
