/* What a file shows is whole: a merge takes whole groups, and nothing before what its author had
 * seen.
 *
 * Each vector that a node has after a merge is noted; headers tell where groups end and what they
 * depend on. A vector is judged once the logs were read. */
#include <stdlib.h>
#include <string.h>

#include "crdt/changeset.h"
#include "crdt/sidelog.h"
#include "crdt/vv.h"
#include "node/node.h"
#include "tests/sim/sim.h"

#define NOTES_MAX    64
#define REPLICAS_MAX 512

struct changeset {
	bool last; /* of its group */
	size_t dep_count;
	struct p2p_dot *deps; /* owned */
};

struct author {
	struct p2p_id replica;
	struct p2p_vv told; /* dependencies that its changesets name, up to: */
	uint64_t told_to;
	struct changeset *changesets; /* owned, by seq - 1 */
	uint64_t count, cap;
};

struct notes {
	struct p2p_vv
		list[NOTES_MAX]; /* oldest first; what comes when all are used is passed over */
	size_t count;
	uint64_t boot;
	uint64_t judged[REPLICAS_MAX]; /* seq up to which dependencies were found, in this life */
};

/* What a host had merged when it froze up to there. */
struct frozen {
	struct p2p_id replica;
	uint64_t seq;
	struct p2p_vv merged;
};

struct sim_views {
	struct author authors[REPLICAS_MAX];
	size_t count;
	struct notes notes[SIM_HOSTS_MAX];
	struct frozen frozen[NOTES_MAX]; /* as notes.list */
	size_t frozen_count;
};

struct sim_views *sim_views_new(void)
{
	return calloc(1, sizeof(struct sim_views));
}

static void notes_clear(struct notes *notes)
{
	while (notes->count)
		p2p_vv_deinit(&notes->list[--notes->count]);
}

void sim_views_free(struct sim_views *views)
{
	uint64_t seq;
	size_t i;

	for (i = 0; i < views->count; i++) {
		for (seq = 0; seq < views->authors[i].count; seq++)
			free(views->authors[i].changesets[seq].deps);
		free(views->authors[i].changesets);
		p2p_vv_deinit(&views->authors[i].told);
	}
	while (views->frozen_count)
		p2p_vv_deinit(&views->frozen[--views->frozen_count].merged);
	for (i = 0; i < SIM_HOSTS_MAX; i++)
		notes_clear(&views->notes[i]);
	free(views);
}

static size_t author_of(struct sim *sim, struct sim_views *views, const struct p2p_id *replica)
{
	size_t i;

	for (i = 0; i < views->count; i++)
		if (p2p_id_cmp(&views->authors[i].replica, replica) == 0)
			return i;
	if (views->count == REPLICAS_MAX)
		sim_fail(sim, "more replica ids than one history can have");
	views->authors[views->count].replica = *replica;
	return views->count++;
}

void sim_views_learn(struct sim *sim, struct sim_views *views, const struct p2p_stored *stored)
{
	struct author *author = &views->authors[author_of(sim, views, &stored->replica)];
	struct changeset *changeset;
	struct p2p_header header;

	if (p2p_header_unpack(&header, stored->raw, stored->raw_len))
		sim_fail(sim, "a header in a log cannot be read");
	if (author->count == author->cap) {
		author->cap = author->cap ? author->cap * 2 : 32;
		author->changesets =
			realloc(author->changesets, author->cap * sizeof(*author->changesets));
	}
	changeset = author->changesets ? &author->changesets[author->count++] : NULL;
	if (changeset) {
		changeset->last = header.group_last;
		changeset->dep_count = header.dep_count;
		changeset->deps = calloc(header.dep_count + 1, sizeof(*changeset->deps));
	}
	if (!changeset || !changeset->deps)
		sim_fail(sim, "out of memory");
	if (header.dep_count)
		memcpy(changeset->deps, header.deps, header.dep_count * sizeof(*header.deps));
	p2p_header_deinit(&header);
}

static struct notes *notes_of(struct sim_host *host, struct sim_views *views)
{
	struct notes *notes = &views->notes[host->index];

	/* a machine that lost power may have merged less than before */
	if (notes->boot != host->boot) {
		notes_clear(notes);
		memset(notes->judged, 0, sizeof(notes->judged));
		notes->boot = host->boot;
	}
	return notes;
}

void sim_views_note(struct sim_host *host, struct sim_views *views, const struct p2p_vv *merged)
{
	struct notes *notes = notes_of(host, views);

	if (notes->count == NOTES_MAX)
		return;
	p2p_vv_init(&notes->list[notes->count]);
	if (p2p_vv_copy(&notes->list[notes->count], merged))
		sim_fail(host->sim, "out of memory");
	notes->count++;
}

void sim_views_frozen(struct sim_host *host, struct sim_views *views, const struct p2p_id *replica,
		      uint64_t seq)
{
	struct frozen *frozen = &views->frozen[views->frozen_count];

	if (views->frozen_count == NOTES_MAX)
		return;
	p2p_vv_init(&frozen->merged);
	frozen->replica = *replica;
	frozen->seq = seq;
	if (p2p_replica_vector(host->node->replica, &frozen->merged))
		p2p_vv_deinit(&frozen->merged); /* no memory for it */
	else
		views->frozen_count++;
}

static void tell_deps(struct sim *sim, struct author *author, uint64_t seq)
{
	const struct changeset *changeset;
	struct p2p_vv_entry entry = {.log_from = 1};
	size_t i;

	for (; author->told_to < seq && author->told_to < author->count; author->told_to++) {
		changeset = &author->changesets[author->told_to];
		for (i = 0; i < changeset->dep_count; i++) {
			entry.replica = changeset->deps[i].replica;
			entry.seq = changeset->deps[i].seq;
			if (p2p_vv_seq(&author->told, &entry.replica) < entry.seq &&
			    p2p_vv_put(&author->told, &entry))
				sim_fail(sim, "out of memory");
		}
	}
}

/* false: its log was not read so far yet. */
static bool judge_frozen(struct sim *sim, struct sim_views *views, const struct frozen *frozen)
{
	struct author *author = &views->authors[author_of(sim, views, &frozen->replica)];
	size_t i;

	if (author->count < frozen->seq)
		return false;
	tell_deps(sim, author, frozen->seq);
	for (i = 0; i < frozen->merged.count; i++) {
		const struct p2p_vv_entry *entry = &frozen->merged.entries[i];

		if (p2p_id_cmp(&entry->replica, &frozen->replica) != 0 &&
		    p2p_vv_seq(&author->told, &entry->replica) < entry->seq)
			sim_fail(sim,
				 "changeset %llu of replica %02x%02x does not name what its author "
				 "had merged",
				 (unsigned long long)frozen->seq, frozen->replica.bytes[0],
				 frozen->replica.bytes[1]);
	}
	return true;
}

static void check_frozen(struct sim *sim, struct sim_views *views)
{
	size_t i, kept = 0;

	for (i = 0; i < views->frozen_count; i++)
		if (judge_frozen(sim, views, &views->frozen[i]))
			p2p_vv_deinit(&views->frozen[i].merged);
		else
			views->frozen[kept++] = views->frozen[i];
	views->frozen_count = kept;
}

static void judge_deps(struct sim_host *host, const struct changeset *changeset,
		       const struct p2p_vv *merged)
{
	size_t i;

	for (i = 0; i < changeset->dep_count; i++)
		/* what follows on a fork is not waited for */
		if (p2p_vv_seq(merged, &changeset->deps[i].replica) < changeset->deps[i].seq &&
		    sim_hostile_fork(host->sim, &changeset->deps[i].replica) == UINT64_MAX)
			sim_fail(host->sim,
				 "host %zu has merged a changeset before one that it depends on",
				 host->index);
}

static void judge(struct sim_host *host, struct sim_views *views, struct notes *notes,
		  const struct p2p_vv *merged)
{
	size_t i;

	for (i = 0; i < merged->count; i++) {
		const struct p2p_vv_entry *entry = &merged->entries[i];
		size_t at = author_of(host->sim, views, &entry->replica);
		const struct author *author = &views->authors[at];

		if (!entry->seq || entry->seq > author->count)
			continue; /* its log was not read yet, or it has two histories from there on
				   */
		if (!author->changesets[entry->seq - 1].last)
			sim_fail(host->sim, "host %zu shows a part of a group", host->index);
		for (; notes->judged[at] < entry->seq; notes->judged[at]++)
			judge_deps(host, &author->changesets[notes->judged[at]], merged);
	}
}

void sim_views_check(struct sim_host *host, struct sim_views *views)
{
	struct notes *notes = notes_of(host, views);
	size_t i;

	for (i = 0; i < notes->count; i++)
		judge(host, views, notes, &notes->list[i]);
	notes_clear(notes);
	check_frozen(host->sim, views);
}
