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

struct sim_views {
	struct author authors[REPLICAS_MAX];
	size_t count;
	struct notes notes[SIM_HOSTS_MAX];
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
	}
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
}
