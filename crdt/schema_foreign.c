/* FOREIGN KEYs as SQLite tells them, and which of them are references; see schema.h. */
#include <sqlite3.h>
#include <string.h>

#include "crdt/schema_private.h"
#include "proto/limits.h"
#include "proto/mem.h"

static const char sql_foreign[] = "SELECT id, \"table\", \"from\", \"to\", on_delete"
				  " FROM pragma_foreign_key_list(?1, 'main') ORDER BY id, seq";

static void foreign_free(struct p2p_foreign *foreign)
{
	uint32_t i;

	for (i = 0; i < foreign->count; i++)
		p2p_free(foreign->to[i]);
	p2p_free(foreign->to);
	p2p_free(foreign->columns);
	p2p_free(foreign->parents);
	p2p_free(foreign->parent);
}

void p2p_schema_foreigns_free(struct p2p_table *table)
{
	uint32_t i;

	for (i = 0; i < table->foreign_count; i++)
		foreign_free(&table->foreigns[i]);
	p2p_free(table->foreigns);
	table->foreigns = NULL;
	table->foreign_count = 0;
}

static enum p2p_fk_action action_of(const char *text)
{
	if (sqlite3_stricmp(text, "SET NULL") == 0)
		return P2P_FK_SET_NULL;
	if (sqlite3_stricmp(text, "SET DEFAULT") == 0)
		return P2P_FK_SET_DEFAULT;
	return sqlite3_stricmp(text, "CASCADE") == 0 ? P2P_FK_CASCADE : P2P_FK_NO_ACTION;
}

static int foreign_new(struct p2p_table *table, sqlite3_stmt *row)
{
	const char *parent = (const char *)sqlite3_column_text(row, 1);
	const char *on_delete = (const char *)sqlite3_column_text(row, 4);
	struct p2p_foreign *grown =
		p2p_realloc(table->foreigns, (table->foreign_count + 1) * sizeof(*grown));

	if (!grown || !parent || !on_delete)
		return P2P_ENOMEM;
	table->foreigns = grown;
	grown += table->foreign_count;
	memset(grown, 0, sizeof(*grown));
	grown->on_delete = action_of(on_delete);
	grown->parent = p2p_strdup(parent);
	if (!grown->parent)
		return P2P_ENOMEM;
	table->foreign_count++;
	return 0;
}

static int foreign_column(struct p2p_table *table, sqlite3_stmt *row)
{
	struct p2p_foreign *foreign = &table->foreigns[table->foreign_count - 1];
	const char *from = (const char *)sqlite3_column_text(row, 2);
	const char *to = (const char *)sqlite3_column_text(row, 3);
	uint32_t column, *columns;
	char **names;

	if (!from)
		return P2P_ENOMEM;
	for (column = 0; column < table->column_count; column++)
		if (sqlite3_stricmp(table->columns[column].name, from) == 0)
			break;
	if (column == table->column_count)
		return P2P_ECORRUPT;
	columns = p2p_realloc(foreign->columns, (foreign->count + 1) * sizeof(*columns));
	if (!columns)
		return P2P_ENOMEM;
	foreign->columns = columns;
	names = p2p_realloc(foreign->to, (foreign->count + 1) * sizeof(*names));
	if (!names)
		return P2P_ENOMEM;
	foreign->to = names;
	names[foreign->count] = to ? p2p_strdup(to) : NULL;
	if (to && !names[foreign->count])
		return P2P_ENOMEM;
	columns[foreign->count++] = column;
	return 0;
}

int p2p_schema_foreigns_read(sqlite3 *db, struct p2p_table *table)
{
	sqlite3_stmt *stmt = NULL;
	int64_t last = -1;
	int rc = sqlite3_prepare_v2(db, sql_foreign, -1, &stmt, NULL), result = 0;

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_text(stmt, 1, table->name, -1, SQLITE_STATIC);
	while (rc == SQLITE_OK && !result) {
		rc = sqlite3_step(stmt);
		if (rc != SQLITE_ROW)
			break;
		rc = SQLITE_OK;
		if (sqlite3_column_int64(stmt, 0) != last)
			result = foreign_new(table, stmt);
		last = sqlite3_column_int64(stmt, 0);
		if (!result)
			result = foreign_column(table, stmt);
	}
	(void)sqlite3_finalize(stmt); /* the error was seen at the step */
	if (result)
		return result;
	return rc == SQLITE_DONE ? 0 : p2p_schema_error(db, rc, NULL, table->name);
}

/* --- references ------------------------------------------------------------------------------- */

bool p2p_column_holds_numbers(const struct p2p_column *column)
{
	return column->affinity == 'D' || column->affinity == 'C' || column->affinity == 'A';
}

bool p2p_foreign_is_reference(const struct p2p_table *table, const struct p2p_foreign *foreign,
			      const struct p2p_table *parent)
{
	const struct p2p_column *column;

	if (foreign->count != 1 || !parent->lone_number)
		return false;
	column = &table->columns[foreign->columns[0]];
	if (!p2p_column_holds_numbers(column) || (column->flags & P2P_COLUMN_GENERATED))
		return false;
	return !foreign->to[0] ||
	       sqlite3_stricmp(foreign->to[0], parent->columns[parent->key[0]].name) == 0;
}

int p2p_reference_add(struct p2p_table *table, const struct p2p_reference *reference)
{
	struct p2p_column *column = &table->columns[reference->column];
	struct p2p_reference *grown;

	/* the row's own number stands for the row; a column has one parent */
	if (column->reference != P2P_REFERENCE_NONE || column->slot == UINT32_MAX ||
	    (table->generated_identity && reference->column == table->key[0]))
		return 0;
	grown = p2p_realloc(table->references, (table->reference_count + 1) * sizeof(*grown));
	if (!grown)
		return P2P_ENOMEM;
	table->references = grown;
	grown[table->reference_count] = *reference;
	column->reference = table->reference_count++;
	table->key_references |= (column->flags & P2P_COLUMN_KEY) != 0;
	return 0;
}
