/* What follows from membership records is a function of their set: random sets against a slow twin
 * that knows only the definitions, after each single record, in random orders, and after records
 * were taken back.
 *
 * Replica ids are bound to nobody's key here: keys that share an id can be found by 2^48 tries, and
 * here they are there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "crdt/authority_private.h"
#include "tests/support/membership.h"

#define NODES	    9
#define REPLICAS    5
#define TABLES	    3
#define RECORDS_MAX 70
#define SETS	    120
#define ORDERS	    4
#define NOBODY	    99

struct fact {
	struct member_record record;
	uint32_t kind, role;
	size_t by, whom, id; /* numbers of nodes, replica or table */
	struct p2p_hash before, parents[4];
	size_t parent_count;
};

static struct member members[NODES];
static struct fact facts[RECORDS_MAX];
static size_t fact_count;
static uint64_t rng;

static uint32_t dice(uint32_t sides)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)((rng >> 32) % sides);
}

bool __wrap_p2p_replica_id_fits(const struct p2p_id *id, const struct p2p_key *node);

bool __wrap_p2p_replica_id_fits(const struct p2p_id *id, const struct p2p_key *node)
{
	(void)id;
	(void)node;
	return true;
}

static struct fact *mesh(void)
{
	return &facts[0];
}

/* --- random sets ------------------------------------------------------------------------------ */

static void admission_make(struct fact *fact)
{
	struct membership_admission admission = {.nonce = (uint32_t)fact_count};
	size_t i;

	fact->kind = P2P__V1__RECORD_KIND__RECORD_ADMISSION;
	fact->by = dice(3) ? dice(NODES) : 0;
	fact->whom = dice(NODES);
	fact->role = 1 + dice(3);
	fact->parent_count = dice(5);
	for (i = 0; i < fact->parent_count; i++)
		fact->parents[i] = facts[dice((uint32_t)fact_count)].record.hash;
	admission.by = &members[fact->by];
	admission.whom = &members[fact->whom];
	admission.role = fact->role;
	admission.parents = fact->parents;
	admission.parent_count = fact->parent_count;
	membership_admit(&fact->record, &mesh()->record.hash, &admission);
}

static void certificate_make(struct fact *fact)
{
	struct p2p_id id;

	fact->kind = P2P__V1__RECORD_KIND__RECORD_CERTIFICATE;
	fact->by = dice(3) ? 1 : dice(NODES); /* one of them makes too many */
	fact->id = dice(REPLICAS);
	id = membership_id((uint32_t)fact->id);
	membership_certify(&fact->record, &mesh()->record.hash, &members[fact->by], &id,
			   (uint32_t)fact_count);
}

static void schema_make(struct fact *fact)
{
	struct membership_schema schema = {.text_len = 9, .nonce = (uint32_t)fact_count};
	struct p2p_id id;
	size_t before;

	fact->kind = P2P__V1__RECORD_KIND__RECORD_SCHEMA;
	fact->by = dice(3) ? dice(NODES) : 0;
	fact->id = dice(TABLES);
	/* also of other kinds and tables; mostly one that is young */
	before = dice(dice(3) && fact_count > 4 ? 4 : (uint32_t)fact_count);
	fact->before = facts[fact_count - 1 - before].record.hash;
	id = membership_id((uint32_t)fact->id);
	schema.by = &members[fact->by];
	schema.table = &id;
	schema.before = &fact->before;
	membership_describe(&fact->record, &mesh()->record.hash, &schema);
}

/* Each set has its own mix: of ten records so many certificates, so many schema records. */
static void set_make(uint64_t seed)
{
	static const uint32_t mixes[][2] = {{2, 2}, {6, 1}, {1, 6}};
	const uint32_t *mix = mixes[seed % 3];
	size_t want;

	rng = seed * 0x9e3779b97f4a7c15ull + 1;
	want = 4 + dice(RECORDS_MAX - 4);
	memset(facts, 0, sizeof(facts));
	facts[0].kind = P2P__V1__RECORD_KIND__RECORD_GENESIS;
	facts[0].role = P2P__V1__ROLE__ROLE_ADMIN;
	membership_genesis(&facts[0].record, &members[0]);
	for (fact_count = 1; fact_count < want; fact_count++) {
		uint32_t kind = dice(10);

		if (kind < mix[0])
			certificate_make(&facts[fact_count]);
		else if (kind < mix[0] + mix[1])
			schema_make(&facts[fact_count]);
		else
			admission_make(&facts[fact_count]);
	}
}

static void set_free(void)
{
	while (fact_count)
		membership_record_free(&facts[--fact_count].record);
}

/* --- the twin: definitions, applied until nothing changes ------------------------------------- */

struct twin {
	const struct fact *facts[RECORDS_MAX];
	size_t count;
	const struct fact *effect[NODES]; /* admission in effect */
	uint32_t depth[NODES];
};

static bool twin_role_is(const struct twin *twin, size_t node, uint32_t role)
{
	return twin->effect[node] && twin->effect[node]->role == role;
}

static bool twin_writes(const struct twin *twin, size_t node)
{
	return twin_role_is(twin, node, P2P__V1__ROLE__ROLE_ADMIN) ||
	       twin_role_is(twin, node, P2P__V1__ROLE__ROLE_WRITER);
}

static int twin_seniority(const struct twin *twin, size_t a, size_t b)
{
	if (twin->depth[a] != twin->depth[b])
		return twin->depth[a] < twin->depth[b] ? -1 : 1;
	return p2p_key_cmp(&members[a].signer.node, &members[b].signer.node);
}

static bool twin_counts(const struct twin *twin, const struct fact *fact)
{
	switch (fact->kind) {
	case P2P__V1__RECORD_KIND__RECORD_GENESIS:
		return true;
	case P2P__V1__RECORD_KIND__RECORD_ADMISSION:
		return twin_role_is(twin, fact->by, P2P__V1__ROLE__ROLE_ADMIN);
	case P2P__V1__RECORD_KIND__RECORD_SCHEMA:
		return twin_writes(twin, fact->by);
	default:
		return false;
	}
}

/* Is a, of one node, rather in effect than b? */
static bool twin_before(const struct twin *twin, const struct fact *a, const struct fact *b)
{
	int order;

	if (!b)
		return true;
	if (b->kind == P2P__V1__RECORD_KIND__RECORD_GENESIS || a == b)
		return false;
	if (a->role != b->role)
		return a->role < b->role;
	order = twin_seniority(twin, a->by, b->by);
	return order ? order < 0 : p2p_hash_cmp(&a->record.hash, &b->record.hash) < 0;
}

static void twin_settle(struct twin *twin)
{
	size_t turn, i;

	memset(twin->effect, 0, sizeof(twin->effect));
	memset(twin->depth, 0, sizeof(twin->depth));
	twin->effect[0] = mesh();
	for (turn = 0; turn < 4 * NODES; turn++)
		for (i = 0; i < twin->count; i++) {
			const struct fact *fact = twin->facts[i];

			if (fact->kind != P2P__V1__RECORD_KIND__RECORD_ADMISSION ||
			    !twin_counts(twin, fact))
				continue;
			if (twin_before(twin, fact, twin->effect[fact->whom]))
				twin->effect[fact->whom] = fact;
			if (twin->effect[fact->whom] == fact)
				twin->depth[fact->whom] = twin->depth[fact->by] + 1;
		}
}

/* The one who claims it, if there is only one. */
static size_t twin_holder(const struct twin *twin, size_t replica)
{
	size_t holder = NOBODY, i, j, less;

	for (i = 0; i < twin->count; i++) {
		const struct fact *fact = twin->facts[i];

		if (fact->kind != P2P__V1__RECORD_KIND__RECORD_CERTIFICATE || fact->id != replica ||
		    !twin->effect[fact->by])
			continue;
		for (j = less = 0; j < twin->count; j++)
			less += twin->facts[j]->kind == fact->kind &&
				twin->facts[j]->by == fact->by &&
				p2p_hash_cmp(&twin->facts[j]->record.hash, &fact->record.hash) < 0;
		if (less >= P2P_REPLICAS_PER_NODE_MAX)
			continue;
		if (holder != NOBODY && holder != fact->by)
			return NOBODY;
		holder = fact->by;
	}
	return holder;
}

static const struct fact *twin_in_force(const struct twin *twin, size_t table)
{
	const struct fact *best = NULL;
	size_t i, j;

	for (i = 0; i < twin->count; i++) {
		const struct fact *fact = twin->facts[i];
		bool followed = false;

		if (fact->kind != P2P__V1__RECORD_KIND__RECORD_SCHEMA || fact->id != table ||
		    !twin_counts(twin, fact))
			continue;
		for (j = 0; j < twin->count; j++)
			followed |= twin->facts[j]->kind == fact->kind &&
				    twin->facts[j]->id == table &&
				    twin_counts(twin, twin->facts[j]) &&
				    p2p_hash_cmp(&twin->facts[j]->before, &fact->record.hash) == 0;
		if (!followed &&
		    (!best || p2p_hash_cmp(&fact->record.hash, &best->record.hash) > 0))
			best = fact;
	}
	return best;
}

static bool twin_is_membership(const struct twin *twin, const struct fact *fact)
{
	return fact->kind <= P2P__V1__RECORD_KIND__RECORD_ADMISSION && twin_counts(twin, fact);
}

static bool twin_is_head(const struct twin *twin, const struct fact *fact)
{
	size_t i, j;

	if (!twin_is_membership(twin, fact))
		return false;
	for (i = 0; i < twin->count; i++)
		for (j = 0; j < twin->facts[i]->parent_count; j++)
			if (twin_is_membership(twin, twin->facts[i]) &&
			    p2p_hash_cmp(&twin->facts[i]->parents[j], &fact->record.hash) == 0)
				return false;
	return true;
}

/* --- comparing -------------------------------------------------------------------------------- */

static void compare_members(struct p2p_authority *authority, const struct twin *twin)
{
	char name[MEMBERSHIP_NAME_BYTES];
	size_t order[NODES], count = 0, i, j;
	struct p2p_member member;

	for (i = 0; i < NODES; i++) {
		if (!twin->effect[i])
			continue;
		for (j = count++; j && twin_seniority(twin, i, order[j - 1]) < 0; j--)
			order[j] = order[j - 1];
		order[j] = i;
	}
	assert_int_equal(p2p_authority_member_count(authority), count);
	for (i = 0; i < count; i++) {
		const struct fact *fact = twin->effect[order[i]];
		const struct p2p_key *key = &members[order[i]].signer.node;

		assert_true(p2p_authority_member(authority, i, &member));
		assert_memory_equal(&member.node, key, sizeof(*key));
		assert_memory_equal(&member.admitted_by, &members[fact->by].signer.node,
				    sizeof(member.admitted_by));
		assert_int_equal(member.role, fact->role);
		membership_name(name, (uint32_t)(fact - facts));
		assert_string_equal(member.name, order[i] ? name : "shop.db");
		assert_int_equal(p2p_authority_role(authority, key), fact->role);
	}
	assert_false(p2p_authority_member(authority, count, &member));
}

static void compare_replicas(struct p2p_authority *authority, const struct twin *twin)
{
	struct p2p_key key;
	struct p2p_id id;
	size_t i, holder;
	int rc;

	for (i = 0; i < REPLICAS; i++) {
		id = membership_id((uint32_t)i);
		holder = twin_holder(twin, i);
		rc = p2p_authority_replica_node(authority, &id, &key);
		assert_int_equal(rc, holder == NOBODY		 ? P2P_ENOENT
				     : twin_writes(twin, holder) ? 0
								 : P2P_EAUTH);
		if (holder != NOBODY)
			assert_memory_equal(&key, &members[holder].signer.node, sizeof(key));
	}
}

struct in_force {
	const struct twin *twin;
	size_t found;
};

static int compare_in_force(void *ctx, const struct p2p_signed *record)
{
	struct in_force *walk = ctx;
	size_t i;

	for (i = 0; i < TABLES; i++) {
		const struct fact *fact = twin_in_force(walk->twin, i);

		walk->found += fact && p2p_hash_cmp(&fact->record.hash, &record->hash) == 0;
	}
	return 0;
}

static void compare_schemas(struct p2p_authority *authority, const struct twin *twin)
{
	struct in_force walk = {twin, 0};
	size_t i, want = 0, all = authority->tables.count, empty = 0;

	for (i = 0; i < TABLES; i++)
		want += twin_in_force(twin, i) != NULL;
	for (i = 0; i < all; i++)
		empty += !((struct authority_group *)authority->tables.items[i])->in_force;
	assert_int_equal(all - empty, want);
	assert_int_equal(p2p_authority_each_schema(authority, compare_in_force, &walk), 0);
	assert_int_equal(walk.found, want);
	for (i = 0; i < twin->count; i++) {
		const struct fact *fact = twin->facts[i];
		bool counts = fact->kind == P2P__V1__RECORD_KIND__RECORD_SCHEMA &&
			      twin_counts(twin, fact);

		assert_int_equal(p2p_authority_schema(authority, &fact->record.hash) != NULL,
				 counts);
	}
}

static void compare_heads(struct p2p_authority *authority, const struct twin *twin)
{
	struct p2p_hash heads[RECORDS_MAX];
	size_t i, j, want = 0, count = p2p_authority_heads(authority, heads, RECORDS_MAX);

	for (i = 0; i < twin->count; i++) {
		const struct fact *fact = twin->facts[i];
		bool found = false;

		for (j = 0; j < count; j++)
			found |= p2p_hash_cmp(&heads[j], &fact->record.hash) == 0;
		assert_int_equal(found, twin_is_head(twin, fact));
		want += found;
	}
	assert_int_equal(count, want);
}

/* What each may still fill hangs on sums that are kept: they are what is below each. */
static void compare_use(struct p2p_authority *authority)
{
	size_t i, j, strangers = 0;

	for (i = 0; i < authority->nodes.count; i++) {
		const struct authority_node *node = authority->nodes.items[i], *up;
		size_t records = 0, bytes = 0;

		for (j = 0; j < authority->count; j++) {
			const struct authority_record *at = authority->records[j];

			for (up = at->signer; up && up != node; up = up->parent)
				;
			records += up == node;
			bytes += up == node ? at->record.raw_len : 0;
		}
		assert_int_equal(node->use.records, records);
		assert_int_equal(node->use.bytes, bytes);
		if (!node->admission)
			strangers += records;
	}
	assert_int_equal(authority->strangers.use.records, strangers);
}

static int by_hash(const void *a, const void *b)
{
	return p2p_hash_cmp(a, b);
}

static void compare_digest(struct p2p_authority *authority, const struct twin *twin)
{
	struct p2p_hash hashes[RECORDS_MAX], digest, expected;
	struct p2p_hasher hasher;
	size_t i, bytes = 0;

	for (i = 0; i < twin->count; i++) {
		hashes[i] = twin->facts[i]->record.hash;
		bytes += twin->facts[i]->record.raw.len;
	}
	qsort(hashes, twin->count, sizeof(hashes[0]), by_hash);
	p2p_hasher_init(&hasher, "p2pnode/members/1", P2P_HASH_BYTES);
	for (i = 0; i < twin->count; i++)
		p2p_hasher_add(&hasher, hashes[i].bytes, P2P_HASH_BYTES);
	p2p_hasher_final(&hasher, expected.bytes, P2P_HASH_BYTES);
	p2p_authority_digest(authority, &digest);
	assert_memory_equal(&digest, &expected, sizeof(digest));
	assert_int_equal(authority->bytes, bytes);
}

static void compare(struct p2p_authority *authority, struct twin *twin)
{
	assert_int_equal(p2p_authority_count(authority), twin->count);
	twin_settle(twin);
	compare_members(authority, twin);
	compare_replicas(authority, twin);
	compare_schemas(authority, twin);
	compare_heads(authority, twin);
	compare_use(authority);
	compare_digest(authority, twin);
}

/* --- the tests -------------------------------------------------------------------------------- */

static void add(struct p2p_authority *authority, const struct fact *fact)
{
	assert_int_equal(p2p_authority_add(authority, fact->record.raw.data, fact->record.raw.len),
			 0);
}

/* One order: compared after each record, taken back half way and added again. */
static void order_run(const size_t *order, struct p2p_hash *out_digest)
{
	struct p2p_authority *authority;
	struct twin twin = {.count = 0};
	size_t i, back = fact_count / 2 + dice(2);

	assert_int_equal(p2p_authority_new(&membership_env, &authority), 0);
	for (i = 0; i < fact_count; i++) {
		twin.facts[twin.count++] = &facts[order[i]];
		add(authority, &facts[order[i]]);
		compare(authority, &twin);
	}
	p2p_authority_rewind(authority, fact_count); /* nothing */
	p2p_authority_rewind(authority, back);
	twin.count = back;
	compare(authority, &twin);
	for (i = back; i < fact_count; i++) {
		twin.facts[twin.count++] = &facts[order[i]];
		add(authority, &facts[order[i]]);
	}
	compare(authority, &twin);
	p2p_authority_digest(authority, out_digest);
	p2p_authority_rewind(authority, 0);
	assert_int_equal(p2p_authority_member_count(authority), 0);
	add(authority, mesh());
	p2p_authority_free(authority);
}

static void shuffle(size_t *order)
{
	size_t i, j, swap;

	for (i = 0; i < fact_count; i++)
		order[i] = i;
	for (i = fact_count - 1; i > 1; i--) { /* the genesis stays first */
		j = 1 + dice((uint32_t)i);
		swap = order[i];
		order[i] = order[j];
		order[j] = swap;
	}
}

static void any_order_gives_what_the_definitions_say(void **state)
{
	struct p2p_hash digest, first;
	size_t order[RECORDS_MAX], turn;
	uint64_t seed;

	(void)state;
	for (seed = 1; seed <= SETS; seed++) {
		set_make(seed);
		for (turn = 0; turn < ORDERS; turn++) {
			shuffle(order);
			order_run(order, &digest);
			if (turn == 0)
				first = digest;
			assert_memory_equal(&digest, &first, sizeof(digest));
		}
		set_free();
	}
}

static const struct fact *admit(size_t by, size_t whom, uint32_t role, uint32_t nonce)
{
	struct membership_admission admission = {.by = &members[by],
						 .whom = &members[whom],
						 .role = role,
						 .nonce = nonce};
	struct fact *fact = &facts[fact_count++];

	membership_admit(&fact->record, &mesh()->record.hash, &admission);
	return fact;
}

/* The founder admits 1 as an admin, who admits 2 as one, who promotes 3, a writer of the founder's.
 * Whom 3 admits is below 3, who is below 2. It used to depend on which record had the lesser hash,
 * and that is the signer's choice. */
static void the_depth_of_a_promoted_admin_is_not_a_matter_of_luck(void **state)
{
	static const size_t expected[] = {0, 1, 2, 3, 4};
	struct p2p_authority *authority;
	struct p2p_member member;
	uint32_t nonce;
	size_t i;

	(void)state;
	for (nonce = 0; nonce < 64; nonce++) {
		set_make(1);
		while (fact_count > 1)
			membership_record_free(&facts[--fact_count].record);
		assert_int_equal(p2p_authority_new(&membership_env, &authority), 0);
		add(authority, mesh());
		add(authority, admit(0, 3, P2P__V1__ROLE__ROLE_WRITER, nonce));
		add(authority, admit(3, 4, P2P__V1__ROLE__ROLE_WRITER, nonce));
		add(authority, admit(2, 3, P2P__V1__ROLE__ROLE_ADMIN, nonce));
		add(authority, admit(1, 2, P2P__V1__ROLE__ROLE_ADMIN, nonce));
		add(authority, admit(0, 1, P2P__V1__ROLE__ROLE_ADMIN, nonce));
		for (i = 0; i < 5; i++) {
			assert_true(p2p_authority_member(authority, i, &member));
			assert_memory_equal(&member.node, &members[expected[i]].signer.node,
					    sizeof(member.node));
		}
		p2p_authority_free(authority);
		set_free();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_order_gives_what_the_definitions_say),
		cmocka_unit_test(the_depth_of_a_promoted_admin_is_not_a_matter_of_luck),
	};
	uint32_t i;

	if (sodium_init() < 0)
		return 1;
	for (i = 0; i < NODES; i++)
		membership_member(&members[i], i);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
