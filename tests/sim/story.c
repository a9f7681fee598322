/* The stage of a story: hosts, what is done to them, and where their words are caught: calls
 * between files of the node are wrapped at link time, so messages are seen in clear. See story.h.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/session.h"
#include "tests/sim/story.h"

#define LINK_MS	   2
#define JOIN_MS	   60000
#define QUIET_MS   60000
#define END_MS	   5000
#define SEEDS_MAX  200
#define ROWS_BYTES 500

struct story *story_running;

static const char story_schema[] = "CREATE TABLE note(k TEXT PRIMARY KEY, v, w);"
				   "CREATE TABLE item(id INTEGER PRIMARY KEY, v);"
				   "CREATE TABLE user(name TEXT PRIMARY KEY, mail UNIQUE);";

static struct sim_host *host_of(struct story *story, char letter)
{
	size_t i = (size_t)(letter - 'A');

	if (i >= story->sim.count)
		sim_fail(&story->sim, "there is no host %c", letter);
	return &story->sim.hosts[i];
}

/* --- beginning -------------------------------------------------------------------------------- */

static void host_add(struct story *story)
{
	struct sim *sim = &story->sim;

	if (sim->count == STORY_HOSTS_MAX)
		sim_fail(sim, "too many hosts for a story");
	sim_host_init(sim, &sim->hosts[sim->count], sim->count);
	sim->hosts[sim->count].app_full_sync = true;
	sim->count++;
}

void story_mesh(struct story *story, size_t hosts)
{
	struct sim *sim = &story->sim;
	size_t i;

	for (i = 0; i < hosts; i++)
		host_add(story);
	sim_host_found(&sim->hosts[0]);
	for (i = 1; i < hosts; i++) {
		uint64_t end = sim->now_ms + JOIN_MS;

		if (!sim_host_start(&sim->hosts[i]))
			sim_fail(sim, "host %c cannot start", story_letter(i));
		while (!sim->hosts[i].joined && sim->now_ms < end)
			sim_run(sim, sim->now_ms + 100);
	}
	if (hosts > 1)
		story_level(story, JOIN_MS);
	sim_run(sim, sim->now_ms + QUIET_MS);
}

void story_begin(struct story *story)
{
	story->begin_ms = story->sim.now_ms;
	story->quiet = false;
}

void story_join(struct story *story)
{
	host_add(story);
	if (!sim_host_start(&story->sim.hosts[story->sim.count - 1]))
		sim_fail(&story->sim, "the joiner cannot start");
}

/* --- what happens ----------------------------------------------------------------------------- */

static void watch(struct sim *sim, void *ctx, uint64_t arg)
{
	struct sim_host *host = ctx;

	(void)sim;
	(void)arg;
	sim_host_watch(host);
}

void story_sql(struct story *story, char letter, const char *sql)
{
	struct sim_host *host = host_of(story, letter);
	char *error = NULL;

	if (!host->app)
		sim_app_open(host);
	story_line(story, "%c: commits  %s", letter, sql);
	if (sqlite3_exec(host->app, sql, NULL, NULL, &error) != SQLITE_OK)
		sim_fail(&story->sim, "%s: %s", sql, error ? error : "?");
	sim_at(&story->sim, story->sim.now_ms + 1, watch, host, 0);
}

void story_run(struct story *story, uint64_t ms)
{
	sim_run(&story->sim, story->sim.now_ms + ms);
}

void story_level(struct story *story, uint64_t ms)
{
	struct sim *sim = &story->sim;
	uint64_t end = sim->now_ms + ms;
	char why[300] = "";

	while (!sim_check_level(sim, why, sizeof(why))) {
		if (sim->now_ms >= end)
			sim_fail(sim, "not level in time: %s", why);
		sim_run(sim, sim->now_ms + 1);
	}
}

void story_say(struct story *story, const char *text)
{
	story_line(story, "(%s)", text);
}

static void apart(struct story *story, char a, char b, bool deaf)
{
	size_t i = host_of(story, a)->index, j = host_of(story, b)->index;

	story->sim.deaf[i][j] = story->sim.deaf[j][i] = deaf;
	story_line(story, "(%c and %c %s each other)", a, b, deaf ? "do not hear" : "hear");
}

void story_apart(struct story *story, char a, char b)
{
	apart(story, a, b, true);
}

void story_together(struct story *story, char a, char b)
{
	apart(story, a, b, false);
}

void story_stop(struct story *story, char letter)
{
	sim_host_stop(host_of(story, letter));
}

static void crash(struct story *story, struct sim_host *host, bool power)
{
	story_line(story, power ? "%c: its power is cut" : "%c: is killed",
		   story_letter(host->index));
	sim_host_crash(host, power, 0);
}

void story_kill(struct story *story, char letter)
{
	crash(story, host_of(story, letter), false);
}

void story_start(struct story *story, char letter)
{
	if (!sim_host_start(host_of(story, letter)))
		sim_fail(&story->sim, "host %c cannot start", letter);
}

void story_clock(struct story *story, char letter, int64_t minutes)
{
	struct sim_host *host = host_of(story, letter);

	host->wall_skew_ms = minutes * 60000;
	if (minutes)
		story_line(story, "(the clock of %c is %lld minutes ahead)", letter,
			   (long long)minutes);
	else
		story_line(story, "(the clock of %c is set right)", letter);
}

void story_lose(struct story *story, char from, char to, enum p2p_message_type type,
		enum story_loss how)
{
	struct story_lost *lost = &story->losses[story->loss_count++];

	if (story->loss_count > STORY_LOSSES_MAX)
		sim_fail(&story->sim, "too many losses for a story");
	lost->from = host_of(story, from)->index;
	lost->to = host_of(story, to)->index;
	lost->type = type;
	lost->how = how;
	lost->due = true;
}

void story_unsynced(struct story *story, unsigned int times)
{
	story->unsynced = times;
}

/* --- what the tables show --------------------------------------------------------------------- */

static void rows_read(struct sim_host *host, const char *sql, char *out, size_t size)
{
	sqlite3_stmt *stmt = NULL;
	size_t len = 0;
	int i;

	if (!host->app)
		sim_app_open(host);
	if (sqlite3_prepare_v2(host->app, sql, -1, &stmt, NULL) != SQLITE_OK)
		sim_fail(host->sim, "%s: %s", sql, sqlite3_errmsg(host->app));
	out[0] = 0;
	while (sqlite3_step(stmt) == SQLITE_ROW)
		for (i = 0; i < sqlite3_column_count(stmt) && len < size; i++) {
			const unsigned char *text = sqlite3_column_text(stmt, i);

			len += (size_t)snprintf(out + len, size - len, "%s%s%s", i ? ", " : " (",
						text ? (const char *)text : "NULL",
						i + 1 == sqlite3_column_count(stmt) ? ")" : "");
		}
	(void)sqlite3_finalize(stmt);
	if (!len)
		(void)snprintf(out, size, " nothing");
}

void story_show(struct story *story, const char *sql)
{
	char rows[STORY_HOSTS_MAX][ROWS_BYTES];
	size_t i, j;

	for (i = 0; i < story->sim.count; i++)
		rows_read(&story->sim.hosts[i], sql, rows[i], sizeof(rows[i]));
	for (i = 0; i < story->sim.count; i++) {
		char who[3 * STORY_HOSTS_MAX + 1] = "";
		size_t len = 0;

		for (j = 0; j < i && strcmp(rows[i], rows[j]) != 0; j++)
			;
		if (j < i)
			continue; /* was shown with that one */
		for (; j < story->sim.count; j++)
			if (strcmp(rows[i], rows[j]) == 0)
				len += (size_t)snprintf(who + len, sizeof(who) - len, "%s%c",
							len ? ", " : "", story_letter(j));
		story_line(story, "%s: %s ->%s", who, sql, rows[i]);
	}
}

/* --- what is wrapped -------------------------------------------------------------------------- */

int __real_p2p_transport_send(struct p2p_session *session, enum p2p_class cls, const void *data,
			      size_t len);
int __wrap_p2p_transport_send(struct p2p_session *session, enum p2p_class cls, const void *data,
			      size_t len);
void __real_p2p_contact_up(struct p2p_node *node, struct p2p_session *session, uint32_t dial_id);
void __wrap_p2p_contact_up(struct p2p_node *node, struct p2p_session *session, uint32_t dial_id);
void __real_p2p_contact_down(struct p2p_node *node, struct p2p_session *session, int code,
			     const char *text);
void __wrap_p2p_contact_down(struct p2p_node *node, struct p2p_session *session, int code,
			     const char *text);
void __real_p2p_net_dial(struct p2p_node *node, uint32_t id, const struct sockaddr *address,
			 const char *text, const struct p2p_key *key);
void __wrap_p2p_net_dial(struct p2p_node *node, uint32_t id, const struct sockaddr *address,
			 const char *text, const struct p2p_key *key);
void __real_p2p_finder_dialed(struct p2p_finder *finder, uint32_t id, int status,
			      const struct p2p_key *key, const struct p2p_id *instance);
void __wrap_p2p_finder_dialed(struct p2p_finder *finder, uint32_t id, int status,
			      const struct p2p_key *key, const struct p2p_id *instance);
int __real_p2p_replica_harden(struct p2p_replica *replica, struct p2p_error *err);
int __wrap_p2p_replica_harden(struct p2p_replica *replica, struct p2p_error *err);
int __real_p2p_sync_set_merged(struct p2p_sync *sync, const struct p2p_vv_entry *entry);
int __wrap_p2p_sync_set_merged(struct p2p_sync *sync, const struct p2p_vv_entry *entry);

/* What a dying node does is nothing to anybody. */
static bool alive(const struct sim_host *host)
{
	return !(host->disk.dead & FAULTDISK_NODE);
}

static void crash_now(struct sim *sim, void *ctx, uint64_t power)
{
	(void)sim;
	crash(story_running, ctx, power != 0);
}

static void lose(struct story *story, const struct story_lost *lost)
{
	struct sim *sim = &story->sim;
	struct sim_host *from = &sim->hosts[lost->from], *to = &sim->hosts[lost->to];

	if (lost->how == STORY_LINK)
		sim_network_break(from, to);
	else if (lost->how != STORY_ALONE)
		sim_at(sim, sim->now_ms, crash_now, from, lost->how == STORY_POWER_CUT);
}

/* Is this message to be lost, or no more to be seen since its sender dies? */
static struct story_lost *loss_of(struct story *story, size_t from, size_t to,
				  enum p2p_message_type type)
{
	size_t i;

	for (i = 0; i < story->loss_count; i++) {
		struct story_lost *lost = &story->losses[i];

		if (lost->due && lost->from == from && lost->to == to && lost->type == type)
			return lost;
	}
	return NULL;
}

int __wrap_p2p_transport_send(struct p2p_session *session, enum p2p_class cls, const void *data,
			      size_t len)
{
	static const char *const hows[] = {"lost", "lost, and the link breaks", "not sent",
					   "not sent"};
	const struct p2p_contact *contact = p2p_session_user(session);
	struct sim_host *host = contact->node->env.ctx;
	struct story *story = story_running;
	size_t from = host->index, to = story_host_of_key(story, &contact->key);
	struct story_lost *lost;
	struct p2p_message message;
	int rc;

	if (!alive(host))
		return __real_p2p_transport_send(session, cls, data, len);
	rc = p2p_message_unpack(&message, data, len);
	if (rc)
		sim_fail(&story->sim, "a message that cannot be read: %d", rc);
	lost = loss_of(story, from, to, message.type);
	if (!lost)
		rc = __real_p2p_transport_send(session, cls, data, len);
	if (rc == 0)
		story_message(story, from, to, &message, lost ? hows[lost->how] : NULL);
	p2p_message_deinit(&message);
	if (lost) {
		lost->due = false;
		lose(story, lost);
	}
	return rc;
}

void __wrap_p2p_contact_up(struct p2p_node *node, struct p2p_session *session, uint32_t dial_id)
{
	const struct p2p_session_info *info = p2p_session_info(session);
	const struct sim_host *host = node->env.ctx;
	char self = story_letter(host->index);
	char peer = story_letter(story_host_of_key(story_running, &info->peer.node));

	if (alive(host))
		story_line(story_running, "%c: session with %c is up, %c dialled", self, peer,
			   info->dialled ? self : peer);
	__real_p2p_contact_up(node, session, dial_id);
}

void __wrap_p2p_contact_down(struct p2p_node *node, struct p2p_session *session, int code,
			     const char *text)
{
	const struct p2p_session_info *info = p2p_session_info(session);
	const struct sim_host *host = node->env.ctx;

	if (alive(host))
		story_line(story_running, "%c: session with %c ends: %s", story_letter(host->index),
			   story_letter(story_host_of_key(story_running, &info->peer.node)),
			   text && text[0] ? text : p2p_strerror(code));
	__real_p2p_contact_down(node, session, code, text);
}

/* An id of the finder stands for one address. */
static struct story_dial *dial_of(struct story *story, size_t from, uint32_t id)
{
	size_t i;

	for (i = 0; i < story->dial_count; i++)
		if (story->dials[i].from == from && story->dials[i].id == id)
			return &story->dials[i];
	if (i == STORY_DIALS_MAX)
		sim_fail(&story->sim, "too many addresses for a story");
	story->dials[i].from = from;
	story->dials[i].id = id;
	story->dials[i].to = SIZE_MAX;
	story->dial_count++;
	return &story->dials[i];
}

void __wrap_p2p_net_dial(struct p2p_node *node, uint32_t id, const struct sockaddr *address,
			 const char *text, const struct p2p_key *key)
{
	const struct sim_host *host = node->env.ctx;
	struct story_dial *dial = dial_of(story_running, host->index, id);
	unsigned int number = 0;

	(void)sscanf(text, "10.0.0.%u:", &number);
	dial->to = number - 1;
	if (alive(host))
		story_line(story_running, "%c: dials %c", story_letter(dial->from),
			   story_letter(dial->to));
	__real_p2p_net_dial(node, id, address, text, key);
}

void __wrap_p2p_finder_dialed(struct p2p_finder *finder, uint32_t id, int status,
			      const struct p2p_key *key, const struct p2p_id *instance)
{
	const struct sim_host *host = sim_host_current;

	if (status && alive(host))
		story_line(story_running, "%c: its dial of %c came to nothing: %s",
			   story_letter(host->index),
			   story_letter(dial_of(story_running, host->index, id)->to),
			   p2p_strerror(status));
	__real_p2p_finder_dialed(finder, id, status, key, instance);
}

int __wrap_p2p_sync_set_merged(struct p2p_sync *sync, const struct p2p_vv_entry *entry)
{
	story_frozen(story_running, sim_host_current, entry);
	return __real_p2p_sync_set_merged(sync, entry);
}

int __wrap_p2p_replica_harden(struct p2p_replica *replica, struct p2p_error *err)
{
	struct sim_host *host = sim_host_current;
	struct story *story = story_running;

	if (!story->unsynced || !host->node || host->node->join != P2P_JOIN_COPYING)
		return __real_p2p_replica_harden(replica, err);
	story->unsynced--;
	story_line(story, "%c: its copy is not synced: the disk fails", story_letter(host->index));
	return p2p_error_set(err, P2P_EIO, "the disk fails");
}

/* --- telling ---------------------------------------------------------------------------------- */

/* Whether keys are in the order of hosts, so that who gives way to whom is no matter of chance. */
static bool in_order(struct story *story)
{
	size_t i;

	for (i = 0; i < story->sim.count; i++)
		(void)story_host_of_key(story, &story->sim.hosts[i].node->keys.node);
	for (i = 1; i < story->sim.count; i++)
		if (p2p_key_cmp(&story->keys[i - 1], &story->keys[i]) >= 0)
			return false;
	return true;
}

static void check_losses(struct story *story)
{
	size_t i;

	for (i = 0; i < story->loss_count; i++)
		if (story->losses[i].due)
			sim_fail(&story->sim, "a message that was to be lost was never sent");
}

static char *tell_once(void (*tell)(struct story *story), uint64_t seed, bool *out_in_order)
{
	struct story *story = calloc(1, sizeof(*story));
	char *text;

	if (!story)
		return NULL;
	sim_begin(&story->sim, seed, 0);
	story->quiet = true;
	story->sim.calm = true;
	story->sim.plain = true;
	story->sim.plan.delay_least_ms = LINK_MS;
	story->sim.schema = story_schema;
	story->sim.told = story_event;
	story_running = story;
	tell(story);
	story->quiet = true;
	story_level(story, END_MS);
	check_losses(story);
	*out_in_order = in_order(story);
	sim_end(&story->sim);
	if (sim_memory_live())
		sim_fail(&story->sim, "memory of the nodes was not freed");
	text = story->text;
	story_running = NULL;
	free(story);
	return text;
}

char *story_tell(void (*tell)(struct story *story))
{
	static uint64_t good = 1; /* all stories with so many hosts find the same seed good */
	uint64_t i;

	for (i = 0; i < SEEDS_MAX; i++) {
		bool ok = false;
		char *text = tell_once(tell, good, &ok);

		if (ok)
			return text;
		free(text);
		good++;
	}
	return NULL;
}
