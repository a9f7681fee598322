/* What must hold at any time, and at the end. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crdt/replica_private.h"
#include "crdt/sync_private.h"
#include "node//node.h"
#include "node/session.h"
#include "tests/sim/sim.h"

#define REPLICAS_MAX 512

/* All changesets of one replica id that any log ever held whole. */
struct known {
	struct p2p_id replica;
	struct p2p_hash *hashes; /* owned, by seq - 1 */
	uint64_t count, cap;
};

struct sim_registry {
	struct known known[REPLICAS_MAX];
	size_t count;
	uint64_t looked[SIM_HOSTS_MAX][REPLICAS_MAX]; /* seq up to which a log was compared */
	uint64_t acked[SIM_HOSTS_MAX][REPLICAS_MAX];  /* told to the author as durable there */
	uint64_t boot[SIM_HOSTS_MAX];
	bool ledger_due[SIM_HOSTS_MAX];
	bool fork_known[SIM_HOSTS_MAX]; /* to its sync engine */
	uint64_t forked_at[SIM_HOSTS_MAX];
	bool begins[SIM_HOSTS_MAX]; /* its sync engine is not set up yet */
	struct sim_views *views;
	struct sim_manners *manners;
};

void sim_check_init(struct sim *sim)
{
	sim->registry = calloc(1, sizeof(*sim->registry));
	if (sim->registry) {
		sim->registry->views = sim_views_new();
		sim->registry->manners = sim_manners_new();
	}
	if (!sim->registry || !sim->registry->views || !sim->registry->manners)
		sim_fail(sim, "out of memory");
}

void sim_check_deinit(struct sim *sim)
{
	size_t i;

	for (i = 0; i < sim->registry->count; i++)
		free(sim->registry->known[i].hashes);
	sim_views_free(sim->registry->views);
	sim_manners_free(sim->registry->manners);
	free(sim->registry);
	sim->registry = NULL;
}

static size_t known_of(struct sim *sim, const struct p2p_id *replica)
{
	struct sim_registry *registry = sim->registry;
	size_t i;

	for (i = 0; i < registry->count; i++)
		if (p2p_id_cmp(&registry->known[i].replica, replica) == 0)
			return i;
	if (registry->count == REPLICAS_MAX)
		sim_fail(sim, "more replica ids than one history can have");
	registry->known[registry->count].replica = *replica;
	return registry->count++;
}

/* --- the log: one content for one number -------------------------------------------------------
 */

static void know(struct sim *sim, struct sim_host *host, struct known *known,
		 const struct p2p_stored *stored)
{
	const struct p2p_hash *hash = &stored->hash;
	uint64_t seq = stored->seq;

	if (seq <= known->count) {
		if (p2p_hash_cmp(&known->hashes[seq - 1], hash) != 0)
			sim_fail(sim, "host %zu has another changeset %llu of replica %02x%02x",
				 host->index, (unsigned long long)seq, known->replica.bytes[0],
				 known->replica.bytes[1]);
		return;
	}
	if (seq != known->count + 1)
		sim_fail(sim, "host %zu has changeset %llu before anybody had %llu", host->index,
			 (unsigned long long)seq, (unsigned long long)known->count + 1);
	if (known->count == known->cap) {
		known->cap = known->cap ? known->cap * 2 : 32;
		known->hashes = realloc(known->hashes, known->cap * sizeof(*known->hashes));
		if (!known->hashes)
			sim_fail(sim, "out of memory");
	}
	known->hashes[known->count++] = *hash;
	sim_views_learn(sim, sim->registry->views, stored);
	sim->stats.changesets++;
}

/* false: the disk fails just now. */
static bool check_log(struct sim_host *host, size_t at, uint64_t head)
{
	struct sim *sim = host->sim;
	struct known *known = &sim->registry->known[at];
	uint64_t *looked = &sim->registry->looked[host->index][at];
	struct p2p_sidelog *log = p2p_replica_sidelog(host->node->replica);

	while (*looked < head) {
		struct p2p_stored stored;

		if (p2p_sidelog_get(log, &known->replica, *looked + 1, &stored))
			return false;
		know(sim, host, known, &stored);
		p2p_stored_deinit(&stored);
		++*looked;
	}
	return true;
}

/* Up to where there is one content for one number. */
static uint64_t common(const struct sim *sim, const struct p2p_vv_entry *entry)
{
	uint64_t fork = sim_hostile_fork(sim, &entry->replica);

	return entry->seq < fork ? entry->seq : fork - 1;
}

/* Its peers were told that it has so much. */
static void check_acked(struct sim_host *host, const struct p2p_vv *has, const char *where)
{
	struct sim *sim = host->sim;
	size_t at;

	for (at = 0; at < sim->registry->count; at++)
		if (sim->registry->acked[host->index][at] >
		    p2p_vv_seq(has, &sim->registry->known[at].replica))
			sim_fail(sim, "host %zu: its %s has not what it had acknowledged",
				 host->index, where);
}

static void check_logs(struct sim_host *host)
{
	struct sim *sim = host->sim;
	struct p2p_sidelog *log = p2p_replica_sidelog(host->node->replica);
	struct p2p_vv vv;
	size_t i, at;

	p2p_vv_init(&vv);
	if (p2p_sidelog_vector(log, &vv) == 0) {
		for (i = 0; i < vv.count; i++) {
			at = known_of(sim, &vv.entries[i].replica);
			if (!check_log(host, at, common(sim, &vv.entries[i])))
				break;
		}
		check_acked(host, &vv, "log");
	}
	p2p_vv_deinit(&vv);
}

/* --- the vector: never ahead of the log, never another history ----------------------------------
 */

static void check_vector(struct sim_host *host)
{
	struct sim *sim = host->sim;
	struct p2p_sidelog *log = p2p_replica_sidelog(host->node->replica);
	struct p2p_replica_status status;
	struct p2p_vv merged;
	size_t i;

	p2p_vv_init(&merged);
	if (p2p_replica_vector(host->node->replica, &merged) == 0) {
		/* while it is read anew nothing of it is known */
		if (p2p_replica_status(host->node->replica, &status) == 0)
			check_acked(host, &merged, "file");
		for (i = 0; i < merged.count; i++) {
			const struct p2p_vv_entry *entry = &merged.entries[i];
			struct known *known = &sim->registry->known[known_of(sim, &entry->replica)];
			struct p2p_vv_entry head;

			if (p2p_sidelog_head(log, &entry->replica, &head) || !entry->seq)
				continue;
			if (entry->seq > head.seq)
				sim_fail(sim, "host %zu: its vector says %llu, its log has %llu",
					 host->index, (unsigned long long)entry->seq,
					 (unsigned long long)head.seq);
			if (entry->seq <= known->count &&
			    p2p_hash_cmp(&known->hashes[entry->seq - 1], &entry->head) != 0)
				sim_fail(sim, "host %zu: its vector names another history",
					 host->index);
		}
	}
	p2p_vv_deinit(&merged);
}

/* --- a fork that was found: nothing more of that replica, until the next start ------------------
 */

static void check_fork(struct sim_host *host)
{
	struct sim_registry *registry = host->sim->registry;
	struct p2p_sync *sync = p2p_replica_sync(host->node->replica);
	const struct p2p_id *id = sim_hostile_forked(host->sim);
	const struct sync_replica *replica = sync && id ? sync_replica_find(sync, id) : NULL;
	uint64_t seq = replica ? replica->merged.seq : 0;

	if (replica && replica->held == P2P_EFORK && !registry->fork_known[host->index]) {
		registry->fork_known[host->index] = true;
		registry->forked_at[host->index] = seq;
	}
	if (registry->fork_known[host->index] && seq > registry->forked_at[host->index])
		sim_fail(host->sim, "host %zu found a fork and took more of it: %llu after %llu",
			 host->index, (unsigned long long)seq,
			 (unsigned long long)registry->forked_at[host->index]);
}

/* --- what peers were told -----------------------------------------------------------------------
 */

static size_t host_of_key(const struct sim *sim, const struct p2p_key *key)
{
	size_t i;

	for (i = 0; i < sim->count; i++)
		if (sim->hosts[i].node && p2p_key_cmp(&sim->hosts[i].node->keys.node, key) == 0)
			return i;
	return SIZE_MAX;
}

/* Two sessions with one node would be two of everything. */
static void check_sessions(struct sim_host *host)
{
	struct p2p_list *contacts = &host->node->contacts, *a, *b;

	for (a = contacts->next; a != contacts; a = a->next)
		for (b = a->next; b != contacts; b = b->next) {
			struct p2p_contact *one = p2p_container_of(a, struct p2p_contact, link);
			struct p2p_contact *two = p2p_container_of(b, struct p2p_contact, link);

			if (one->state == P2P_CONTACT_LIVE && two->state == P2P_CONTACT_LIVE &&
			    p2p_key_cmp(&one->key, &two->key) == 0)
				sim_fail(host->sim, "host %zu has two live sessions with one node",
					 host->index);
		}
}

static void check_acks(struct sim_host *host)
{
	struct sim *sim = host->sim;
	struct p2p_sync *sync = p2p_replica_sync(host->node->replica);
	size_t own = known_of(sim, p2p_replica_id(host->node->replica)), i;
	struct p2p_sync_peer_status status;
	p2p_sync_peer peer;

	for (i = 0; sync && i < sim->count; i++) {
		size_t to;
		struct p2p_key key;

		if (!sim->hosts[i].node || i == host->index)
			continue;
		key = sim->hosts[i].node->keys.node;
		if (!sim_check_peer(host, &key, &peer) ||
		    !p2p_sync_peer_status(sync, peer, &status))
			continue;
		to = host_of_key(sim, &key);
		if (to != SIZE_MAX && status.acked_seq > sim->registry->acked[to][own])
			sim->registry->acked[to][own] = status.acked_seq;
	}
}

/* --- the ledger: what COMMIT returned for is there -----------------------------------------------
 */

static int has_ledger(sqlite3_stmt *stmt, size_t who, uint64_t n)
{
	int rc;

	(void)sqlite3_reset(stmt);
	(void)sqlite3_bind_int64(stmt, 1, (sqlite3_int64)who);
	(void)sqlite3_bind_int64(stmt, 2, (sqlite3_int64)n);
	rc = sqlite3_step(stmt);
	(void)sqlite3_reset(stmt);
	return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : -1;
}

/* Rows of `of` in the file of host. false: the disk fails just now. */
static bool check_ledger(struct sim_host *host, const struct sim_host *of)
{
	struct sim *sim = host->sim;
	sqlite3_stmt *stmt = NULL;
	bool ok = sqlite3_prepare_v2(host->app, "SELECT 1 FROM ledger WHERE id = ?1 || '-' || ?2",
				     -1, &stmt, NULL) == SQLITE_OK;
	uint64_t n;

	for (n = 0; ok && n < of->ledger_next; n++) {
		int has = of->ledger[n] == 1 ? has_ledger(stmt, of->index, n) : 1;

		if (has == 0 && of != host && of->app)
			(void)check_ledger((struct sim_host *)(uintptr_t)of, of);
		if (has == 0)
			sim_fail(sim, "host %zu lost commit %llu of host %zu", host->index,
				 (unsigned long long)n, of->index);
		ok = has > 0;
	}
	(void)sqlite3_finalize(stmt);
	return ok;
}

static bool has_app(struct sim_host *host)
{
	if (!host->app)
		sim_app_open(host);
	return host->app != NULL;
}

static void check_own_ledger(struct sim_host *host)
{
	struct sim_registry *registry = host->sim->registry;

	if (registry->boot[host->index] != host->boot) {
		registry->boot[host->index] = host->boot;
		registry->ledger_due[host->index] = true;
	}
	/* without full sync SQLite promises nothing for a power cut */
	if (!registry->ledger_due[host->index] || !host->app_full_sync || !host->joined ||
	    host->app_holds || !has_app(host))
		return;
	registry->ledger_due[host->index] = !check_ledger(host, host);
}

void sim_check_merged(struct sim_host *host)
{
	struct sim_registry *registry = host->sim->registry;
	bool inside = sim_inside(false);
	struct p2p_vv merged;

	p2p_vv_init(&merged);
	/* some runs check nothing */
	if (registry && p2p_replica_vector(host->node->replica, &merged) == 0)
		sim_views_note(host, registry->views, &merged);
	p2p_vv_deinit(&merged);
	(void)sim_inside(inside);
}

/* Some runs check nothing. */
void sim_check_engine(struct sim_host *host, bool begins)
{
	if (!host->sim->registry)
		return;
	host->sim->registry->begins[host->index] = begins;
	if (!begins)
		return;
	/* as after a start: it finds forks again */
	host->sim->registry->fork_known[host->index] = false;
	sim_manners_engine(host, host->sim->registry->manners);
}

void sim_check_set_merged(struct sim_host *host, const struct p2p_vv_entry *entry)
{
	struct sim_registry *registry = host->sim->registry;
	bool inside = sim_inside(false), frozen;

	frozen = registry && !registry->begins[host->index] && host->node &&
		 p2p_id_cmp(&entry->replica, p2p_replica_id(host->node->replica)) == 0;
	if (registry)
		sim_manners_merged(host, registry->manners, entry, frozen);
	if (frozen)
		sim_views_frozen(host, registry->views, &entry->replica, entry->seq);
	(void)sim_inside(inside);
}

void sim_check_host(struct sim_host *host)
{
	sim_host_current = host;
	if (!host->joined || host->paused_until_ms > host->sim->now_ms || host->disk.dead)
		return;
	host->sim->stats.checks++;
	check_logs(host);
	check_vector(host);
	check_fork(host);
	sim_views_check(host, host->sim->registry->views);
	check_sessions(host);
	check_acks(host);
	sim_manners_check(host, host->sim->registry->manners);
	check_own_ledger(host);
	sim_host_check_dead(host);
}

/* --- the end ------------------------------------------------------------------------------------
 */

/* What a host has merged, apart from the replica with two histories: those who took one of them
 * refuse the other. Healing, and equality past the fork, come with membership. *out_pending: what
 * is whole in its log and not merged, apart from what cannot be merged. */
static bool honest_digest(struct sim_host *host, struct p2p_hash *out, uint64_t *out_pending)
{
	struct p2p_sidelog *log = p2p_replica_sidelog(host->node->replica);
	const struct p2p_id *forked = sim_hostile_forked(host->sim);
	struct p2p_vv merged, logged;
	size_t i;
	bool ok;

	p2p_vv_init(&merged);
	p2p_vv_init(&logged);
	*out_pending = 0;
	ok = p2p_replica_vector(host->node->replica, &merged) == 0 &&
	     p2p_sidelog_vector(log, &logged) == 0;
	for (i = 0; ok && i < logged.count; i++)
		if (!sim_hostile_stuck(host->sim, &logged.entries[i].replica) &&
		    logged.entries[i].seq > p2p_vv_seq(&merged, &logged.entries[i].replica))
			++*out_pending;
	if (forked)
		p2p_vv_remove(&merged, forked);
	p2p_vv_digest(&merged, out);
	p2p_vv_deinit(&merged);
	p2p_vv_deinit(&logged);
	return ok;
}

/* Both histories were merged somewhere, and nobody has noticed. */
static bool fork_unseen(struct sim *sim)
{
	const struct p2p_id *forked = sim_hostile_forked(sim);
	bool branch[3] = {false};
	struct p2p_vv merged;
	const struct p2p_vv_entry *entry;
	size_t i;

	for (i = 0; forked && i < sim->count; i++) {
		struct p2p_sync *sync = p2p_replica_sync(sim->hosts[i].node->replica);
		const struct sync_replica *replica = sync ? sync_replica_find(sync, forked) : NULL;

		if (replica && replica->held == P2P_EFORK)
			return false;
		p2p_vv_init(&merged);
		entry = p2p_replica_vector(sim->hosts[i].node->replica, &merged) == 0
				? p2p_vv_get(&merged, forked)
				: NULL;
		if (entry && entry->seq)
			branch[sim_hostile_branch(sim, entry)] = true;
		p2p_vv_deinit(&merged);
	}
	return branch[1] && branch[2];
}

/* Every honest peer that is connected said that all of it is there. */
static bool all_acked(struct sim_host *host, const struct p2p_replica_status *status)
{
	struct p2p_sync *sync = p2p_replica_sync(host->node->replica);
	struct p2p_sync_peer_status peer;
	struct p2p_list *at;

	for (at = host->node->contacts.next; sync && at != &host->node->contacts; at = at->next) {
		struct p2p_contact *contact = p2p_container_of(at, struct p2p_contact, link);

		if (contact->state == P2P_CONTACT_LIVE &&
		    host_of_key(host->sim, &contact->key) != SIZE_MAX &&
		    p2p_sync_peer_status(sync, contact->id, &peer) && peer.acked_seq < status->seq)
			return false;
	}
	return true;
}

bool sim_check_level(struct sim *sim, char *why, size_t size)
{
	struct p2p_replica_status first = {0}, status;
	struct p2p_hash records = {{0}}, other;
	size_t i;

	for (i = 0; i < sim->count; i++) {
		struct sim_host *host = &sim->hosts[i];
		const char *what = NULL;

		if (!host->node || !host->joined)
			what = "does not run";
		else if (p2p_replica_status(host->node->replica, &status))
			what = "has no status";
		else if (host->app_holds)
			what = "has an application in a transaction";
		else if (status.looking)
			what = "looks for rows that were pushed out";
		else if (p2p_capture_unfolded(host->node->replica->capture))
			what = "has not folded what it captured";
		else if (status.journal)
			what = "has writes that are not frozen";
		else if (sim->hostile &&
			 !honest_digest(host, &status.digest, &status.merge_pending))
			what = "has no vector";
		else if (status.merge_pending)
			what = "has not merged everything";
		else if (status.waiting && !sim->hostile) /* records of a later version may wait */
			what = "has records that wait";
		else if (!all_acked(host, &status))
			what = "hears no ack of a peer that has everything";
		if (!what) {
			p2p_authority_digest(p2p_replica_authority(host->node->replica), &other);
			if (i == 0) {
				first = status;
				records = other;
			} else if (p2p_hash_cmp(&first.digest, &status.digest) != 0) {
				what = "has another vector than host 0";
			} else if (p2p_hash_cmp(&records, &other) != 0) {
				what = "has other membership records than host 0";
			}
		}
		if (what) {
			(void)snprintf(why, size, "host %zu %s", i, what);
			return false;
		}
	}
	if (fork_unseen(sim)) {
		(void)snprintf(why, size, "nobody has seen the fork");
		return false;
	}
	return true;
}

static void explain_entry(const struct sim *sim, size_t host, uint64_t merged,
			  const struct p2p_vv_entry *logged)
{
	(void)fprintf(stderr,
		      "host %zu: replica %02x%02x%s: merged %llu of %llu, stamp %lld ms ahead\n",
		      host, logged->replica.bytes[0], logged->replica.bytes[1],
		      sim_hostile_owns(sim, &logged->replica) ? " of the liar" : "",
		      (unsigned long long)merged, (unsigned long long)logged->seq,
		      (long long)(logged->stamp.value >> 16) -
			      (long long)(sim->wall_base_ms + sim->now_ms));
}

void sim_check_explain(struct sim *sim)
{
	struct p2p_vv merged, logged;
	size_t i, j;

	for (i = 0; i < sim->count; i++) {
		struct sim_host *host = &sim->hosts[i];

		if (!host->node)
			continue;
		p2p_vv_init(&merged);
		p2p_vv_init(&logged);
		if (p2p_replica_vector(host->node->replica, &merged) == 0 &&
		    p2p_sidelog_vector(p2p_replica_sidelog(host->node->replica), &logged) == 0)
			for (j = 0; j < logged.count; j++)
				explain_entry(sim, i,
					      p2p_vv_seq(&merged, &logged.entries[j].replica),
					      &logged.entries[j]);
		p2p_vv_deinit(&merged);
		p2p_vv_deinit(&logged);
	}
}

/* Every reference finds its row, unless an application left one that does not. */
static void check_references(struct sim_host *host)
{
	sqlite3_stmt *stmt = NULL;
	int rc;

	/* a liar leaves them, too */
	if (!host->sim->plan.enforced || host->sim->hostile)
		return;
	rc = sqlite3_prepare_v2(host->app, "PRAGMA foreign_key_check", -1, &stmt, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		sim_fail(host->sim, "host %zu: row %lld of %s refers to none of %s", host->index,
			 (long long)sqlite3_column_int64(stmt, 1), sqlite3_column_text(stmt, 0),
			 sqlite3_column_text(stmt, 2));
	if (rc != SQLITE_DONE)
		sim_fail(host->sim, "host %zu: foreign_key_check: %s", host->index,
			 sqlite3_errmsg(host->app));
	(void)sqlite3_finalize(stmt);
}

static void check_integrity(struct sim_host *host)
{
	sqlite3_stmt *stmt = NULL;
	const char *text = NULL;

	if (sqlite3_prepare_v2(host->app, "PRAGMA integrity_check", -1, &stmt, NULL) == SQLITE_OK &&
	    sqlite3_step(stmt) == SQLITE_ROW)
		text = (const char *)sqlite3_column_text(stmt, 0);
	if (!text || strcmp(text, "ok") != 0)
		sim_fail(host->sim, "host %zu: integrity_check: %s", host->index,
			 text ? text : sqlite3_errmsg(host->app));
	(void)sqlite3_finalize(stmt);
	check_references(host);
}

/* As many are told of as an application can read. */
static void check_conflicts(struct sim_host *host)
{
	struct p2p_replica_status status;
	sqlite3_stmt *stmt = NULL;
	uint64_t count = 0;

	if (p2p_replica_status(host->node->replica, &status) != 0)
		sim_fail(host->sim, "host %zu: has no status", host->index);
	if (sqlite3_prepare_v2(host->app, "SELECT count(*) FROM p2p_conflicts", -1, &stmt, NULL) ==
		    SQLITE_OK &&
	    sqlite3_step(stmt) == SQLITE_ROW)
		count = (uint64_t)sqlite3_column_int64(stmt, 0);
	(void)sqlite3_finalize(stmt);
	if (count != status.conflicts)
		sim_fail(host->sim, "host %zu: tells of %llu conflicts and lists %llu", host->index,
			 (unsigned long long)status.conflicts, (unsigned long long)count);
}

static void check_verify(struct sim_host *host)
{
	struct p2p_error err = {0};
	uint64_t changesets = 0, rows = 0;
	int rc = p2p_replica_verify(host->node->replica, &changesets, &rows, &err);

	if (rc)
		sim_fail(host->sim, "host %zu: verify: %d %s", host->index, rc, err.msg);
	host->sim->stats.rows += rows;
	check_conflicts(host);
}

void sim_check_end(struct sim *sim)
{
	size_t i, j;

	for (i = 0; i < sim->count; i++) {
		struct sim_host *host = &sim->hosts[i];

		sim_host_current = host;
		if (!has_app(host))
			sim_fail(sim, "host %zu: its file does not open", i);
		for (j = 0; j < sim->count; j++)
			if (!check_ledger(host, &sim->hosts[j]))
				sim_fail(sim, "host %zu: its ledger cannot be read: %s", i,
					 sqlite3_errmsg(host->app));
		check_integrity(host);
		check_verify(host);
	}
	sim_check_history(sim);
}
