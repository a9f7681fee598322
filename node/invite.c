/* Invitations of ours: making tickets, redeeming them. Only the issuer redeems (decisions 30). */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "node/node.h"
#include "proto/check.h"

/* How long an expired or used-up ticket still gets an answer that says so. */
#define INVITE_KEEP_MS (7ull * 24 * 3600 * 1000)

#define INVITE_USES_MAX	   1000
#define INVITE_EXPIRES_MAX (366ull * 24 * 3600 * 1000)

const char *p2p_role_name(uint32_t role)
{
	switch (role) {
	case P2P__V1__ROLE__ROLE_ADMIN:
		return "admin";
	case P2P__V1__ROLE__ROLE_WRITER:
		return "writer";
	case P2P__V1__ROLE__ROLE_READER:
		return "reader";
	default:
		return "none";
	}
}

int p2p_role_parse(const char *text, uint32_t *out, struct p2p_error *err)
{
	if (strcmp(text, "admin") == 0)
		*out = P2P__V1__ROLE__ROLE_ADMIN;
	else if (strcmp(text, "writer") == 0)
		*out = P2P__V1__ROLE__ROLE_WRITER;
	else if (strcmp(text, "reader") == 0)
		return p2p_error_set(err, P2P_EREFUSED,
				     "the role 'reader' comes in a later version: give 'writer' or "
				     "'admin'");
	else
		return p2p_error_set(err, P2P_EINVAL,
				     "no role is called '%.32s': admin, writer or reader", text);
	return 0;
}

uint64_t p2p_invite_handle(const struct p2p_invite *invite)
{
	uint64_t handle;

	memcpy(&handle, invite->id.bytes, sizeof(handle));
	return handle;
}

struct loaded {
	struct p2p_invite invites[P2P_INVITE_KEYS_MAX];
	size_t count;
	uint64_t wall_ms;
};

static int load_one(void *ctx, const struct p2p_invite *invite)
{
	struct loaded *loaded = ctx;
	struct p2p_invite *invites = loaded->invites;
	size_t i, oldest = 0;

	if (invite->expires_wall_ms + INVITE_KEEP_MS < loaded->wall_ms)
		return 0;
	if (loaded->count < P2P_INVITE_KEYS_MAX) {
		invites[loaded->count++] = *invite;
		return 0;
	}
	for (i = 1; i < loaded->count; i++)
		if (invites[i].expires_wall_ms < invites[oldest].expires_wall_ms)
			oldest = i;
	if (invite->expires_wall_ms > invites[oldest].expires_wall_ms)
		invites[oldest] = *invite;
	return 0;
}

int p2p_invites_load(struct p2p_node *node)
{
	struct loaded loaded = {.wall_ms = p2p_env_wall_ms(&node->env)};
	int rc = p2p_sidelog_each_invite(p2p_replica_sidelog(node->replica), load_one, &loaded);

	/* without all of them the node goes on with those that it knew */
	if (!rc) {
		memcpy(node->invites, loaded.invites, sizeof(node->invites));
		node->invite_count = loaded.count;
	}
	sodium_memzero(&loaded, sizeof(loaded));
	return rc;
}

static int store_invite(struct p2p_node *node, const struct p2p_invite *invite,
			struct p2p_error *err)
{
	struct p2p_sidelog *log = p2p_replica_sidelog(node->replica);
	int rc = p2p_sidelog_begin(log, err);

	if (rc)
		return rc;
	rc = p2p_sidelog_put_invite(log, invite);
	if (rc) {
		p2p_sidelog_rollback(log);
		return p2p_error_set(err, rc, "store the invitation: %s", p2p_strerror(rc));
	}
	rc = p2p_sidelog_commit(log, err);
	if (!rc)
		rc = p2p_invites_load(node);
	return rc;
}

static int invite_check(struct p2p_node *node, const struct p2p_invite_request *request,
			struct p2p_error *err)
{
	if (!p2p_replica_member(node->replica) || !node->has_secret)
		return p2p_error_set(err, P2P_ENOENT, "this database is in no mesh yet");
	if (p2p_authority_role(p2p_replica_authority(node->replica), &node->keys.node) !=
	    P2P__V1__ROLE__ROLE_ADMIN)
		return p2p_error_set(err, P2P_EREFUSED,
				     "only an admin of the mesh may invite, and this node is none");
	if (request->uses < 1 || request->uses > INVITE_USES_MAX)
		return p2p_error_set(err, P2P_EINVAL, "a ticket is good for 1 to %d uses",
				     INVITE_USES_MAX);
	if (request->expires_ms < 1000 || request->expires_ms > INVITE_EXPIRES_MAX)
		return p2p_error_set(err, P2P_EINVAL, "a ticket lasts 1 second to 366 days");
	if (request->role != P2P__V1__ROLE__ROLE_ADMIN &&
	    request->role != P2P__V1__ROLE__ROLE_WRITER)
		return p2p_error_set(err, P2P_EREFUSED, "this role cannot be given yet");
	return 0;
}

int p2p_invite_make(struct p2p_node *node, const struct p2p_invite_request *request, char *text,
		    struct p2p_error *err)
{
	struct p2p_invite invite = {.uses_left = request->uses, .role = request->role};
	struct p2p_ticket ticket = {.role = (uint8_t)request->role};
	int rc = invite_check(node, request, err);

	if (rc)
		return rc;
	p2p_env_random(&node->env, invite.secret, sizeof(invite.secret));
	p2p_ticket_invite(&invite.id, invite.secret);
	/* whole seconds, rounded up, so that ticket and invite say the same */
	ticket.expires_s =
		(uint32_t)((p2p_env_wall_ms(&node->env) + request->expires_ms + 999) / 1000);
	invite.expires_wall_ms = (uint64_t)ticket.expires_s * 1000;
	rc = store_invite(node, &invite, err);
	if (!rc) {
		ticket.mesh = *p2p_node_mesh(node);
		ticket.issuer = node->keys.node;
		memcpy(ticket.secret, invite.secret, sizeof(ticket.secret));
		(void)snprintf(ticket.name, sizeof(ticket.name), "%s",
			       p2p_authority_mesh_name(p2p_replica_authority(node->replica)));
		if (node->net && !request->no_addresses)
			ticket.address_count = p2p_net_addresses(node->net, ticket.addresses,
								 P2P_TICKET_ADDRESSES_MAX);
		p2p_ticket_format(text, &ticket);
		p2p_finder_refresh(node->finder);
	}
	p2p_ticket_wipe(&ticket);
	sodium_memzero(&invite, sizeof(invite));
	return rc;
}

static struct p2p_invite *invite_by_handle(struct p2p_node *node, uint64_t handle)
{
	size_t i;

	for (i = 0; i < node->invite_count; i++)
		if (p2p_invite_handle(&node->invites[i]) == handle)
			return &node->invites[i];
	return NULL;
}

/* Counts one use down, durably, before anything is signed. */
static int use_once(struct p2p_node *node, const struct p2p_invite *invite, struct p2p_error *err)
{
	struct p2p_invite used = *invite;

	if (p2p_env_wall_ms(&node->env) >= invite->expires_wall_ms)
		return p2p_error_set(err, P2P_EEXPIRED,
				     "the ticket has expired: ask for a fresh one");
	if (invite->uses_left == 0)
		return p2p_error_set(err, P2P_EQUOTA, "the ticket is used up: ask for a fresh one");
	used.uses_left--;
	return store_invite(node, &used, err);
}

static int admit(struct p2p_node *node, struct p2p_admission *admission, struct p2p_error *err)
{
	struct p2p_authority *authority = p2p_replica_authority(node->replica);
	struct p2p_buf buf;
	int rc;

	p2p_buf_init(&buf, P2P_RECORD_BODY_MAX);
	rc = p2p_authority_make_admission(authority, &buf, &node->signer, admission);
	if (rc)
		rc = p2p_error_set(err, rc, "admission: %s", p2p_strerror(rc));
	else
		rc = p2p_replica_add_record(node->replica, buf.data, buf.len, err);
	p2p_buf_deinit(&buf);
	if (!rc && p2p_authority_role(authority, &admission->node) == P2P__V1__ROLE__ROLE_NONE)
		rc = p2p_error_set(err, P2P_EREFUSED, "the issuer of this ticket may not admit");
	return rc;
}

int p2p_invite_redeem(struct p2p_node *node, uint64_t handle, const struct p2p_key *joiner,
		      const struct p2p_key *noise, const P2p__V1__JoinRequest *request,
		      struct p2p_error *err)
{
	struct p2p_admission admission = {.node = *joiner, .noise_key = *noise};
	const struct p2p_invite *invite = invite_by_handle(node, handle);
	char name[P2P_NAME_MAX + 1];
	struct p2p_id id;
	int rc;

	if (!invite)
		return p2p_error_set(err, P2P_EEXPIRED, "the ticket is not known here any more");
	if (p2p_field_id(&id, &request->invite) || p2p_id_cmp(&id, &invite->id) != 0 ||
	    p2p_field_key(&admission.wrap_key, &request->wrap_key))
		return p2p_error_set(err, P2P_EPROTO, "a malformed join request");
	/* the same key may repeat: it was admitted, and crashed before it knew */
	if (p2p_authority_role(p2p_replica_authority(node->replica), joiner) !=
	    P2P__V1__ROLE__ROLE_NONE)
		return 0;
	admission.role = invite->role;
	admission.invite = invite->id;
	admission.max_format = request->max_format;
	(void)snprintf(name, sizeof(name), "%s", request->name);
	p2p_text_clean(name);
	admission.name = name;
	rc = use_once(node, invite, err);
	if (!rc)
		rc = admit(node, &admission, err);
	if (!rc)
		p2p_log(&node->log, P2P_LOG_INFO, "node", "admitted %.8s (%s) as %s",
			p2p_key_text(joiner).text, name, p2p_role_name(admission.role));
	return rc;
}
