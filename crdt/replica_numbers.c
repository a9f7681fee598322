/* When rows get their permanent numbers; see crdt/capture_numbers.c and replica_private.h.
 *
 * A merge that left rows of ours under temporary numbers makes them due. They are frozen from a
 * read snapshot, once nothing more is ready to be merged; the rows move with the fold, in a moment
 * that a merge would take too. */
#include <string.h>

#include "crdt/replica_private.h"

/* Others whose rows have to move with them, and the projection, take their time under the lock. */
#define NUMBER_ROWS_MAX 500
/* Beside a stream of merges that never ends. */
#define NUMBER_WAIT_MS	1000
#define NUMBER_RETRY_MS 50

/* The own place among the members, in the order of their keys. */
static void place_find(const struct p2p_replica *replica, struct p2p_numbering *out)
{
	const struct p2p_key *own = &replica->config.signer->node;
	struct p2p_member member;
	size_t i;

	memset(out, 0, sizeof(*out));
	out->most = NUMBER_ROWS_MAX;
	for (i = 0; p2p_authority_member(replica->authority, i, &member); i++) {
		if (member.role == P2P__V1__ROLE__ROLE_NONE)
			continue;
		out->members++;
		out->rank += p2p_key_cmp(&member.node, own) < 0;
	}
	if (!out->members)
		out->members = 1;
}

void p2p_replica_numbers_note(struct p2p_replica *replica)
{
	if (!p2p_merge_renumbered(replica->merge))
		return;
	replica->numbers_due = true;
	replica->numbers_at = p2p_env_now(replica->config.env);
}

static int numbers_give(struct p2p_replica *replica, struct p2p_error *err)
{
	struct p2p_numbering place;
	int rc;

	place_find(replica, &place);
	replica->numbering = &place;
	rc = p2p_replica_seal(replica, NULL, err);
	replica->numbering = NULL;
	if (!rc)
		replica->numbers_due = replica->numbering_more;
	return rc;
}

int p2p_replica_numbers_turn(struct p2p_replica *replica, const bool *beside,
			     uint64_t *out_again_ms, struct p2p_error *err)
{
	struct p2p_time now = p2p_env_now(replica->config.env);
	int rc = 0;

	*out_again_ms = UINT64_MAX;
	if (p2p_capture_numbering(replica->capture)) {
		rc = beside ? p2p_replica_begin_fold(replica, 0, err) : P2P_EBUSY;
		if (!rc)
			rc = *beside ? p2p_replica_end_fold(replica, err)
				     : p2p_replica_end_fold_alone(replica, err);
	} else if (replica->numbers_due && !replica->project_due && replica->peers &&
		   p2p_sync_heard(replica->sync) && !p2p_replica_in_question(replica)) {
		/* not before a peer's vector was compared: nothing is numbered until then */
		if (!replica->ready_at.ms || now.ms - replica->numbers_at.ms >= NUMBER_WAIT_MS)
			rc = numbers_give(replica, err);
	}
	if (rc == P2P_EBUSY)
		*out_again_ms = NUMBER_RETRY_MS;
	else if (!rc && p2p_capture_numbering(replica->capture))
		*out_again_ms = 0;
	else if (!rc && replica->numbers_due && replica->peers)
		*out_again_ms = NUMBER_RETRY_MS;
	return rc == P2P_EBUSY ? 0 : rc;
}
