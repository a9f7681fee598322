/* Tables of the mesh are taken up here, as their schema records say; see replica_private.h. */
#include "crdt/replica_private.h"
#include "proto/mem.h"

struct adoption {
	struct p2p_replica *replica;
	bool create;
	struct p2p_error *err;
	size_t changed;
};

/* What the record says of columns beyond their declaration. */
static int choices_read(const P2p__V1__Schema *schema, struct p2p_choice *choices, size_t *out)
{
	size_t i;
	int rc = 0;

	*out = 0;
	for (i = 0; i < schema->n_columns && !rc; i++) {
		const P2p__V1__Column *column = schema->columns[i];
		struct p2p_choice *choice = &choices[*out];

		choice->flags = column->flags & (P2P_COLUMN_COUNTER | P2P_COLUMN_NAMED);
		if (!choice->flags)
			continue;
		rc = p2p_field_id(&choice->column, &column->id);
		if (!rc && (choice->flags & P2P_COLUMN_NAMED))
			rc = p2p_field_id(&choice->parent, &column->reference);
		++*out;
	}
	return rc;
}

/* Takes a table up as its record says. */
static int adopt_enable(struct p2p_replica *replica, const struct p2p_signed *record,
			enum p2p_present present, struct p2p_error *err)
{
	struct p2p_enabling enabling = {.present = present, .by_record = true};
	struct p2p_choice *choices;
	const ProtobufCMessage *base;
	const P2p__V1__Schema *schema;
	void *arena;
	int rc = p2p_unpack(&p2p__v1__schema__descriptor, record->body, record->body_len, &base,
			    &arena);

	if (rc)
		return p2p_error_set(err, rc, "read a schema record: %s", p2p_strerror(rc));
	schema = (const P2p__V1__Schema *)base;
	choices = p2p_calloc(schema->n_columns + 1, sizeof(*choices));
	rc = choices ? choices_read(schema, choices, &enabling.choice_count) : P2P_ENOMEM;
	if (rc) {
		(void)p2p_error_set(err, rc, "read a schema record: %s", p2p_strerror(rc));
	} else {
		enabling.name = schema->name;
		enabling.generated = schema->identity == 1;
		enabling.choices = choices;
		rc = p2p_store_enable_as(replica->store, &enabling, err);
	}
	p2p_free(choices);
	p2p_unpack_free(arena);
	return rc;
}

static int adopt_table(struct adoption *adoption, const struct p2p_signed *record, const char *name)
{
	struct p2p_replica *replica = adoption->replica;
	struct p2p_table table;
	bool made = false;
	int rc = p2p_schema_read_table(p2p_store_db(replica->store), name, &table, NULL);

	if (rc == P2P_ENOENT && !adoption->create)
		return 0; /* its changes wait until the application makes it */
	if (rc == P2P_ENOENT) {
		rc = p2p_schema_create(p2p_store_db(replica->store), record->body, record->body_len,
				       adoption->err);
		made = rc == 0;
	} else if (!rc) {
		p2p_table_deinit(&table);
	}
	if (!rc)
		rc = adopt_enable(replica, record, made ? P2P_PRESENT_NONE : P2P_PRESENT_OLD,
				  adoption->err);
	/* what is wrong with one member's record is no reason to do without the others' */
	if (rc && p2p_err_blame(rc) != P2P_BLAME_LOCAL) {
		p2p_log(replica->config.log, P2P_LOG_WARN, "crdt",
			"table %s of the mesh cannot be replicated here: %s", name,
			adoption->err->msg);
		return 0;
	}
	if (!rc)
		adoption->changed++;
	return rc;
}

/* Replicated here, or not wanted; or another table has the name. */
static int is_settled(struct p2p_replica *replica, const struct p2p_id *id, const char *name,
		      bool *out)
{
	*out = p2p_store_table_by_id(replica->store, id) ||
	       p2p_store_table_by_name(replica->store, name);
	return *out ? 0 : p2p_replica_is_local(replica, id, out);
}

/* What came of the table before it was here is merged again. */
static int adopt_again(struct p2p_replica *replica, const struct p2p_id *id)
{
	return p2p_store_table_by_id(replica->store, id) ? p2p_replica_again_add(replica, id) : 0;
}

static int adopt_record(void *ctx, const struct p2p_signed *record)
{
	struct adoption *adoption = ctx;
	struct p2p_replica *replica = adoption->replica;
	struct p2p_id id;
	char name[256];
	bool settled = false;
	int rc = p2p_replica_record_table(record, &id, name);

	if (rc)
		return rc == P2P_ENOMEM ? rc : 0; /* of a later version */
	if (p2p_replica_can_grow(replica, record, &id)) {
		rc = p2p_replica_grow(replica, record, name, adoption->err);
		adoption->changed += rc == 0;
	}
	if (!rc)
		rc = is_settled(replica, &id, name, &settled);
	if (!rc && settled)
		rc = p2p_replica_counters_learn(replica, record, adoption->err);
	if (rc || settled)
		return rc;
	rc = adopt_table(adoption, record, name);
	return rc ? rc : adopt_again(replica, &id);
}

static int adopt_missing(void *ctx, const struct p2p_signed *record)
{
	struct adoption *adoption = ctx;
	struct p2p_replica *replica = adoption->replica;
	struct p2p_table table;
	struct p2p_id id;
	char name[256];
	bool settled, counters = false;
	int rc = p2p_replica_record_table(record, &id, name);

	if (rc)
		return rc == P2P_ENOMEM ? rc : 0;
	adoption->changed += p2p_replica_can_grow(replica, record, &id);
	rc = is_settled(replica, &id, name, &settled);
	if (!rc && settled)
		rc = p2p_replica_counters_news(replica, record, &counters);
	adoption->changed += counters;
	if (rc || settled)
		return rc;
	rc = p2p_schema_read_table(p2p_store_db(replica->store), name, &table, NULL);
	if (!rc)
		p2p_table_deinit(&table);
	if (!rc || (rc == P2P_ENOENT && adoption->create))
		adoption->changed++;
	return rc == P2P_ENOENT ? 0 : rc;
}

/* since: only records that are in force since that many changes. */
static int adopt_since(struct adoption *adoption, uint64_t since)
{
	struct p2p_replica *replica = adoption->replica;
	int rc =
		p2p_authority_each_schema_since(replica->authority, since, adopt_missing, adoption);

	if (rc || !adoption->changed)
		return rc;
	adoption->changed = 0;
	rc = p2p_replica_change_begin(replica, adoption->err);
	if (rc)
		return rc;
	rc = p2p_authority_each_schema_since(replica->authority, since, adopt_record, adoption);
	rc = p2p_replica_change_end(replica, rc, adoption->err);
	if (!rc && adoption->changed)
		replica->more = true;
	return rc;
}

int p2p_replica_adopt_tables(struct p2p_replica *replica, bool create, struct p2p_error *err)
{
	struct p2p_error local = {0};
	struct adoption adoption = {replica, create || p2p_replica_carries(replica),
				    err ? err : &local, 0};
	uint64_t now = p2p_authority_schema_changes(replica->authority);
	int rc = adopt_since(&adoption, 0);

	if (!rc) {
		replica->adopted = now;
		replica->adopt_all = false;
	}
	return rc;
}

int p2p_replica_adopt_new(struct p2p_replica *replica, struct p2p_error *err)
{
	struct p2p_error local = {0};
	struct adoption adoption = {replica, p2p_replica_carries(replica), err ? err : &local, 0};
	uint64_t now = p2p_authority_schema_changes(replica->authority);
	int rc = now == replica->adopted ? 0 : adopt_since(&adoption, replica->adopted);

	if (!rc)
		replica->adopted = now;
	return rc;
}
