/* Records, peers, seeds and invites in the side log; see sidelog.h. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/sidelog_private.h"
#include "proto/check.h"

/* Walks a query. A non-zero result of row() ends it and is returned. */
static int each_row(struct p2p_sidelog *log, enum sidelog_sql which,
		    int (*row)(void *ctx, sqlite3_stmt *stmt), void *ctx)
{
	sqlite3_stmt *stmt;
	int rc = sidelog_statement(log, which, &stmt);

	if (rc)
		return rc;
	while ((rc = sidelog_row(log, stmt)) == 0) {
		rc = row(ctx, stmt);
		if (rc)
			break;
	}
	(void)sqlite3_reset(stmt); /* repeats the step's error */
	return rc == P2P_ENOENT ? 0 : rc;
}

static bool bind_bytes(sqlite3_stmt *stmt, int at, const void *bytes, size_t len)
{
	return sqlite3_bind_blob64(stmt, at, bytes, len, SQLITE_STATIC) == SQLITE_OK;
}

static bool bind_text(sqlite3_stmt *stmt, int at, const char *text)
{
	return sqlite3_bind_text(stmt, at, text, -1, SQLITE_STATIC) == SQLITE_OK;
}

static bool bind_u64(sqlite3_stmt *stmt, int at, uint64_t value)
{
	return sqlite3_bind_int64(stmt, at, (int64_t)value) == SQLITE_OK;
}

static void column_text(sqlite3_stmt *stmt, int at, char *out, size_t size)
{
	const char *text = (const char *)sqlite3_column_text(stmt, at);

	(void)sqlite3_snprintf((int)size, out, "%s", text ? text : "");
}

/* --- records ---------------------------------------------------------------------------------- */

int p2p_sidelog_put_record(struct p2p_sidelog *log, const struct p2p_hash *hash, const void *raw,
			   size_t len)
{
	sqlite3_stmt *stmt;
	int rc = sidelog_statement(log, SIDELOG_RECORD_PUT, &stmt);

	p2p_require(p2p_sidelog_in_transaction(log));
	if (rc)
		return rc;
	if (!bind_bytes(stmt, 1, hash->bytes, P2P_HASH_BYTES) || !bind_bytes(stmt, 2, raw, len))
		return P2P_ENOMEM;
	return sidelog_run(log, stmt, "write");
}

struct record_walk {
	int (*each)(void *ctx, const void *raw, size_t len);
	void *ctx;
};

static int record_row(void *ctx, sqlite3_stmt *stmt)
{
	struct record_walk *walk = ctx;

	return walk->each(walk->ctx, sqlite3_column_blob(stmt, 0),
			  (size_t)sqlite3_column_bytes(stmt, 0));
}

int p2p_sidelog_each_record(struct p2p_sidelog *log,
			    int (*each)(void *ctx, const void *raw, size_t len), void *ctx)
{
	struct record_walk walk = {each, ctx};

	return each_row(log, SIDELOG_RECORD_EACH, record_row, &walk);
}

/* --- peers and seeds -------------------------------------------------------------------------- */

int p2p_sidelog_put_peer(struct p2p_sidelog *log, const struct p2p_known_peer *peer)
{
	sqlite3_stmt *stmt;
	int rc = sidelog_statement(log, SIDELOG_PEER_PUT, &stmt);

	p2p_require(p2p_sidelog_in_transaction(log));
	if (rc)
		return rc;
	if (!bind_bytes(stmt, 1, peer->node.bytes, P2P_KEY_BYTES) ||
	    !bind_text(stmt, 2, peer->name) || !bind_text(stmt, 3, peer->address) ||
	    !bind_u64(stmt, 4, peer->seen_wall_ms) || !bind_u64(stmt, 5, peer->acked_seq))
		return P2P_ENOMEM;
	return sidelog_run(log, stmt, "write");
}

struct peer_walk {
	int (*each)(void *ctx, const struct p2p_known_peer *peer);
	void *ctx;
};

static int peer_row(void *ctx, sqlite3_stmt *stmt)
{
	struct peer_walk *walk = ctx;
	struct p2p_known_peer peer;
	int rc;

	memset(&peer, 0, sizeof(peer));
	rc = sidelog_column(stmt, 0, peer.node.bytes, P2P_KEY_BYTES);
	if (rc)
		return rc;
	column_text(stmt, 1, peer.name, sizeof(peer.name));
	column_text(stmt, 2, peer.address, sizeof(peer.address));
	peer.seen_wall_ms = (uint64_t)sqlite3_column_int64(stmt, 3);
	peer.acked_seq = (uint64_t)sqlite3_column_int64(stmt, 4);
	return walk->each(walk->ctx, &peer);
}

int p2p_sidelog_each_peer(struct p2p_sidelog *log,
			  int (*each)(void *ctx, const struct p2p_known_peer *peer), void *ctx)
{
	struct peer_walk walk = {each, ctx};

	return each_row(log, SIDELOG_PEER_EACH, peer_row, &walk);
}

int p2p_sidelog_put_seed(struct p2p_sidelog *log, const char *address)
{
	sqlite3_stmt *stmt;
	int rc = sidelog_statement(log, SIDELOG_SEED_PUT, &stmt);

	p2p_require(p2p_sidelog_in_transaction(log));
	if (rc)
		return rc;
	return bind_text(stmt, 1, address) ? sidelog_run(log, stmt, "write") : P2P_ENOMEM;
}

struct seed_walk {
	int (*each)(void *ctx, const char *address);
	void *ctx;
};

static int seed_row(void *ctx, sqlite3_stmt *stmt)
{
	struct seed_walk *walk = ctx;
	const char *text = (const char *)sqlite3_column_text(stmt, 0);

	return text ? walk->each(walk->ctx, text) : P2P_ENOMEM;
}

int p2p_sidelog_each_seed(struct p2p_sidelog *log, int (*each)(void *ctx, const char *address),
			  void *ctx)
{
	struct seed_walk walk = {each, ctx};

	return each_row(log, SIDELOG_SEED_EACH, seed_row, &walk);
}

/* --- invites ---------------------------------------------------------------------------------- */

int p2p_sidelog_put_invite(struct p2p_sidelog *log, const struct p2p_invite *invite)
{
	sqlite3_stmt *stmt;
	int rc = sidelog_statement(log, SIDELOG_INVITE_PUT, &stmt);

	p2p_require(p2p_sidelog_in_transaction(log));
	if (rc)
		return rc;
	if (!bind_bytes(stmt, 1, invite->id.bytes, P2P_ID_BYTES) ||
	    !bind_bytes(stmt, 2, invite->secret, sizeof(invite->secret)) ||
	    !bind_u64(stmt, 3, invite->uses_left) || !bind_u64(stmt, 4, invite->expires_wall_ms) ||
	    !bind_u64(stmt, 5, invite->role))
		return P2P_ENOMEM;
	return sidelog_run(log, stmt, "write");
}

static int invite_read(sqlite3_stmt *stmt, struct p2p_invite *out)
{
	int rc = sidelog_column(stmt, 0, out->id.bytes, P2P_ID_BYTES);

	if (!rc)
		rc = sidelog_column(stmt, 1, out->secret, sizeof(out->secret));
	out->uses_left = (uint32_t)sqlite3_column_int64(stmt, 2);
	out->expires_wall_ms = (uint64_t)sqlite3_column_int64(stmt, 3);
	out->role = (uint32_t)sqlite3_column_int64(stmt, 4);
	return rc;
}

struct invite_walk {
	int (*each)(void *ctx, const struct p2p_invite *invite);
	void *ctx;
};

static int invite_row(void *ctx, sqlite3_stmt *stmt)
{
	struct invite_walk *walk = ctx;
	struct p2p_invite invite;
	int rc = invite_read(stmt, &invite);

	return rc ? rc : walk->each(walk->ctx, &invite);
}

int p2p_sidelog_each_invite(struct p2p_sidelog *log,
			    int (*each)(void *ctx, const struct p2p_invite *invite), void *ctx)
{
	struct invite_walk walk = {each, ctx};

	return each_row(log, SIDELOG_INVITE_EACH, invite_row, &walk);
}
