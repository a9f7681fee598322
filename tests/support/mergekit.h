/* Replicas for tests of the merge: real files with real SQL, changesets made by hand.
 *
 * Everything aborts the test with a text when it fails. Nothing here is random: ids, keys and
 * stamps come from the caller. */
#ifndef P2P_TESTS_SUPPORT_MERGEKIT_H
#define P2P_TESTS_SUPPORT_MERGEKIT_H

#include "crdt/merge.h"

#define KIT_TABLES_MAX 8

/* One authority and one schema record for each table, shared by all replicas. */
struct kit_mesh {
	struct p2p_authority *authority;
	struct p2p_hash schema[KIT_TABLES_MAX];
	struct p2p_id table[KIT_TABLES_MAX];
	char name[KIT_TABLES_MAX][32];
	uint32_t columns[KIT_TABLES_MAX];
	struct p2p_choice counters[KIT_TABLES_MAX][2];
	size_t counter_count[KIT_TABLES_MAX];
	size_t table_count;
	uint8_t secret[64];
	struct p2p_signer signer;
	struct kit_key *keys; /* owned: every row that a changeset named since the last forget */
	size_t key_count, key_cap;
	bool blind; /* rows are not noted */
};

/* A row: p2p_identity_put() of it. */
struct kit_key {
	uint32_t table;
	size_t len;
	uint8_t bytes[1024];
};

void kit_mesh_init(struct kit_mesh *mesh);
void kit_mesh_deinit(struct kit_mesh *mesh);
/* Adds the schema record of a table: its columns in the order given. Returns its index. */
uint32_t kit_mesh_table(struct kit_mesh *mesh, const char *name, bool generated,
			const char *const *columns, size_t count);
/* The same with counters: a set of columns. */
uint32_t kit_mesh_counting(struct kit_mesh *mesh, const char *name, bool generated,
			   const char *const *columns, size_t count, uint32_t counters);

/* Forgets the rows seen. */
void kit_mesh_forget(struct kit_mesh *mesh);

struct kit_node {
	char path[128];
	struct kit_mesh *mesh; /* borrowed */
	struct p2p_store *store;
	struct p2p_merge *merge;
	struct p2p_merge_counts counts;
};

/* A file with these tables, made by sql, all of them enabled. */
void kit_node_init(struct kit_node *node, struct kit_mesh *mesh, const char *sql);
void kit_node_deinit(struct kit_node *node);
/* As after init, but faster: all rows and states go. */
void kit_node_clear(struct kit_node *node);
void kit_sql(struct kit_node *node, const char *sql);
struct p2p_table *kit_table(struct kit_node *node, const struct kit_mesh *mesh, uint32_t table);

/* A changeset in the making. */
struct kit_change {
	struct p2p_header header;
	struct p2p_buf body;
	struct p2p_schema_ref tables[KIT_TABLES_MAX];
	struct p2p_origin origins[4];
	size_t at; /* reading */
};

/* replica: a letter; its id is that byte 16 times. */
struct p2p_id kit_replica(char replica);
void kit_change_init(struct kit_change *change, const struct kit_mesh *mesh, char replica,
		     uint64_t seq, uint64_t stamp);
void kit_change_deinit(struct kit_change *change);
void kit_change_put(struct kit_change *change, const struct p2p_record *record);
/* Bytes as they are, after a length. */
void kit_change_put_raw(struct kit_change *change, const void *data, size_t len);
/* In one transaction, projected. try returns what apply or finish returned, after a rollback. */
void kit_apply(struct kit_node *node, struct kit_change *change);
int kit_try(struct kit_node *node, struct kit_change *change);
/* Several in one transaction. */
void kit_apply_all(struct kit_node *node, struct kit_change *const *changes, size_t count);

struct p2p_value kit_null(void);
struct p2p_value kit_int(int64_t integer);
struct p2p_value kit_real(double real);
struct p2p_value kit_text(const char *text);
struct p2p_value kit_bytes(enum p2p_value_type type, const void *bytes, size_t len);

/* All rows of a query, each value as SQLite's quote() writes it, "|" between values, ";" after
 * rows. Static, until the next call. */
const char *kit_rows(struct kit_node *node, const char *sql);
/* Hash of the application's and our tables, byte for byte but for the order of rows: what a second
 * delivery must not change. */
void kit_digest(struct kit_node *node, struct p2p_hash *out);
/* What must be equal on all nodes: rows, merged states with replica ids in full, cell hashes,
 * shown numbers, parked values. Text, "\n" after each row; appended to out. */
void kit_state(struct kit_node *node, struct p2p_buf *out);

#endif
