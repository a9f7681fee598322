/* Columns that refer to rows of another table although no FOREIGN KEY says so: named by a person
 * (--ref) when their table is enabled; see replica_private.h. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/replica_private.h"
#include "proto/mem.h"

/* One of them, while it is looked at. */
struct named {
	struct p2p_replica *replica;
	const struct p2p_enable *wish;
	const char *text;	/* as it was given */
	char column[300];	/* "COLUMN" or "TABLE.COLUMN" */
	const char *parent;	/* in text */
	struct p2p_table child; /* owned */
	uint32_t at;		/* column of child */
	struct p2p_table above; /* owned: the parent */
	struct p2p_named_ref *out;
	struct p2p_error *err;
};

static int refuse(struct named *named, int code, const char *why, const char *what)
{
	return p2p_error_set(named->err, code, "--ref '%.80s': %s%.100s", named->text, why, what);
}

static int split(struct named *named)
{
	const char *equals = strrchr(named->text, '=');
	size_t len = equals ? (size_t)(equals - named->text) : 0;

	if (!len || !equals[1] || len >= sizeof(named->column))
		return refuse(named, P2P_EINVAL, "say TABLE.COLUMN=PARENT, or COLUMN=PARENT", "");
	memcpy(named->column, named->text, len);
	named->column[len] = 0;
	named->parent = equals + 1;
	return 0;
}

static uint32_t column_named(const struct p2p_table *table, const char *name)
{
	uint32_t i;

	for (i = 0; i < table->column_count; i++)
		if (sqlite3_stricmp(table->columns[i].name, name) == 0)
			return i;
	return UINT32_MAX;
}

/* The column of a table that "COLUMN" or "TABLE.COLUMN" means; UINT32_MAX: none. */
static uint32_t column_meant(const struct p2p_table *table, const char *text)
{
	size_t len = strlen(table->name);
	uint32_t column = column_named(table, text);

	if (column == UINT32_MAX && strlen(text) > len && text[len] == '.' &&
	    sqlite3_strnicmp(text, table->name, (int)len) == 0)
		column = column_named(table, text + len + 1);
	return column;
}

static int find_child(struct named *named)
{
	const struct p2p_enable *wish = named->wish;
	struct sqlite3 *db = p2p_store_db(named->replica->store);
	struct p2p_table table;
	size_t i, found = 0;
	uint32_t column;
	int rc;

	for (i = 0; i < wish->count; i++) {
		rc = p2p_schema_read_table(db, wish->names[i], &table, named->err);
		if (rc)
			return rc;
		column = column_meant(&table, named->column);
		if (column == UINT32_MAX) {
			p2p_table_deinit(&table);
			continue;
		}
		p2p_table_deinit(&named->child);
		named->child = table;
		named->at = column;
		found++;
	}
	if (found == 1)
		return 0;
	return found ? refuse(named, P2P_EINVAL,
			      "several tables have this column: say TABLE.COLUMN=PARENT", "")
		     : refuse(named, P2P_ENOENT, "no table that is replicated has a column ",
			      named->column);
}

static bool is_wished(const struct p2p_enable *wish, const char *name)
{
	size_t i;

	for (i = 0; i < wish->count; i++)
		if (sqlite3_stricmp(wish->names[i], name) == 0)
			return true;
	return false;
}

static int find_parent(struct named *named)
{
	struct p2p_store *store = named->replica->store;
	int rc = p2p_schema_read_table(p2p_store_db(store), named->parent, &named->above, NULL);

	if (rc == P2P_ENOENT)
		return refuse(named, rc, "there is no table ", named->parent);
	if (rc)
		return refuse(named, rc, p2p_strerror(rc), "");
	if (named->above.state == P2P_TABLE_REFUSED || !named->above.lone_number)
		return refuse(named, P2P_EREFUSED,
			      "the parent needs a lone INTEGER PRIMARY KEY: rows of other keys "
			      "never get another number",
			      "");
	if (!is_wished(named->wish, named->above.name) &&
	    !p2p_store_table_by_name(store, named->above.name))
		return refuse(named, P2P_EREFUSED,
			      "its parent is not replicated: enable it too, table ",
			      named->above.name);
	return 0;
}

/* What the declaration says already, or forbids. */
static int check_declared(struct named *named)
{
	const struct p2p_table *child = &named->child;
	uint32_t i;

	for (i = 0; i < child->foreign_count; i++)
		if (child->foreigns[i].count == 1 && child->foreigns[i].columns[0] == named->at &&
		    sqlite3_stricmp(child->foreigns[i].parent, named->above.name) != 0)
			return refuse(named, P2P_EREFUSED, "its FOREIGN KEY names another table: ",
				      child->foreigns[i].parent);
	return 0;
}

static int check_column(struct named *named)
{
	const struct p2p_column *column = &named->child.columns[named->at];

	if (column->flags & P2P_COLUMN_GENERATED)
		return refuse(named, P2P_EREFUSED, "the column is computed by SQLite", "");
	if (!p2p_column_holds_numbers(column))
		return refuse(named, P2P_EREFUSED,
			      "the column is declared TEXT or REAL: it would not hold the "
			      "parent's new number as one (INTEGER, NUMERIC, or no type would)",
			      "");
	if (named->child.lone_number && named->at == named->child.key[0])
		return refuse(named, P2P_EREFUSED,
			      "the column numbers the rows of its own table: only a declared "
			      "FOREIGN KEY makes it a reference too",
			      "");
	return check_declared(named);
}

/* A table that is replicated: its cells are in the changes of others already, as plain numbers. */
static int check_replicated(struct named *named, bool *out_done)
{
	const struct p2p_table *table =
		p2p_store_table_by_name(named->replica->store, named->child.name);
	uint32_t i;

	*out_done = false;
	if (!table)
		return 0;
	for (i = 0; i < table->reference_count; i++)
		if (p2p_id_cmp(&table->columns[table->references[i].column].id,
			       &named->child.columns[named->at].id) == 0 &&
		    p2p_id_cmp(&table->references[i].parent, &named->above.id) == 0)
			*out_done = true;
	return *out_done ? 0
			 : refuse(named, P2P_EREFUSED,
				  "it has to be named when the table is shared or enabled for the "
				  "first time, and it is replicated already: ",
				  table->name);
}

struct known {
	const struct p2p_id *table;
	bool found;
};

static int find_known(void *ctx, const struct p2p_signed *record)
{
	struct known *known = ctx;
	const ProtobufCMessage *base;
	struct p2p_id id;
	void *arena;
	int rc = p2p_unpack(&p2p__v1__schema__descriptor, record->body, record->body_len, &base,
			    &arena);

	if (rc)
		return rc == P2P_ENOMEM ? rc : 0; /* of a later version */
	if (!p2p_field_id(&id, &((const P2p__V1__Schema *)base)->table))
		known->found |= p2p_id_cmp(&id, known->table) == 0;
	p2p_unpack_free(arena);
	return 0;
}

/* Others have rows of it. */
static int check_mesh(struct named *named)
{
	struct known known = {&named->child.id, false};
	int rc = p2p_authority_each_schema(named->replica->authority, find_known, &known);

	if (rc)
		return refuse(named, rc, p2p_strerror(rc), "");
	return known.found ? refuse(named, P2P_EREFUSED,
				    "it has to be named when the table is shared or enabled for "
				    "the first time, and the mesh has it already: ",
				    named->child.name)
			   : 0;
}

static int named_check(struct named *named)
{
	bool done;
	int rc = split(named);

	if (!rc)
		rc = find_child(named);
	if (!rc)
		rc = find_parent(named);
	if (!rc)
		rc = check_column(named);
	if (!rc)
		rc = check_replicated(named, &done);
	if (!rc && !done)
		rc = check_mesh(named);
	if (rc)
		return rc;
	if (sqlite3_snprintf(sizeof(named->out->child), named->out->child, "%s",
			     named->child.name) == NULL ||
	    strlen(named->child.name) >= sizeof(named->out->child) ||
	    strlen(named->above.name) >= sizeof(named->out->parent))
		return refuse(named, P2P_ETOOBIG, "the name of a table is too long", "");
	(void)sqlite3_snprintf(sizeof(named->out->parent), named->out->parent, "%s",
			       named->above.name);
	named->out->choice.column = named->child.columns[named->at].id;
	named->out->choice.flags = P2P_COLUMN_NAMED;
	named->out->choice.parent = named->above.id;
	return 0;
}

int p2p_replica_refs_read(struct p2p_replica *replica, const struct p2p_enable *wish,
			  struct p2p_named_ref **out, struct p2p_error *err)
{
	size_t i;
	int rc = 0;

	*out = p2p_calloc(wish->ref_count + 1, sizeof(**out));
	if (!*out)
		return p2p_error_set(err, P2P_ENOMEM, "out of memory");
	for (i = 0; i < wish->ref_count && !rc; i++) {
		struct named named = {.replica = replica, .wish = wish, .text = wish->refs[i]};

		named.out = &(*out)[i];
		named.err = err;
		rc = named_check(&named);
		p2p_table_deinit(&named.child);
		p2p_table_deinit(&named.above);
	}
	if (rc) {
		p2p_free(*out);
		*out = NULL;
	}
	return rc;
}
