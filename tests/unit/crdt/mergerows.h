/* Two nodes with tables of several kinds, and changesets of one row for them; for tests of the
 * merge. */
#ifndef P2P_TESTS_UNIT_CRDT_MERGEROWS_H
#define P2P_TESTS_UNIT_CRDT_MERGEROWS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "crdt/parked.h"
#include "proto/check.h"
#include "proto/mem.h"
#include "tests/unit/crdt/twonodes.h"

static const char sql_tables[] =
	"CREATE TABLE word(k TEXT COLLATE NOCASE, part INTEGER, v, note TEXT DEFAULT 'none',"
	" PRIMARY KEY(k, part));"
	"CREATE TABLE pair(a, b, PRIMARY KEY(a, b)) WITHOUT ROWID;"
	"CREATE TABLE user(name TEXT PRIMARY KEY, mail TEXT UNIQUE, phone TEXT UNIQUE);"
	"CREATE TABLE hard(k INTEGER, v INTEGER NOT NULL, w TEXT, PRIMARY KEY(k, w)) STRICT;"
	"CREATE TABLE soft(k TEXT PRIMARY KEY, i INTEGER, t TEXT, r REAL);";

enum { WORD, PAIR, USER, HARD, SOFT };

static inline int setup(void **state)
{
	static const char *const word[] = {"k", "part", "v", "note"};
	static const char *const pair[] = {"a", "b"};
	static const char *const user[] = {"name", "mail", "phone"};
	static const char *const hard[] = {"k", "v", "w"};
	static const char *const soft[] = {"k", "i", "t", "r", "later"};

	(void)state;
	kit_mesh_init(&mesh);
	(void)kit_mesh_table(&mesh, "word", false, word, 4);
	(void)kit_mesh_table(&mesh, "pair", false, pair, 2);
	(void)kit_mesh_table(&mesh, "user", false, user, 3);
	(void)kit_mesh_table(&mesh, "hard", false, hard, 3);
	(void)kit_mesh_table(&mesh, "soft", false, soft, 5);
	kit_node_init(&a, &mesh, sql_tables);
	kit_node_init(&b, &mesh, sql_tables);
	return 0;
}

static inline int each_setup(void **state)
{
	(void)state;
	nodes_clear();
	return 0;
}

/* A changeset of one row; its seq is its stamp. */
struct change {
	char replica;
	uint64_t stamp;
	uint32_t table;
	struct p2p_value key[2];
	uint64_t causal_length;
	bool born;
	struct p2p_value cells[5]; /* by column, where set */
	uint8_t set[5];
};

static inline void change_make(struct kit_change *out, const struct change *change)
{
	struct p2p_record record;
	struct p2p_cell cells[5];
	struct p2p_buf key;
	uint32_t i;

	memset(&record, 0, sizeof(record));
	memset(cells, 0, sizeof(cells));
	p2p_buf_init(&key, 1024);
	assert_int_equal(p2p_identity_of_key(&key, kit_table(&a, &mesh, change->table),
					     change->key),
			 0);
	record.table = change->table;
	record.identity.kind = P2P_IDENTITY_KEY;
	record.identity.key = key.data;
	record.identity.key_len = key.len;
	record.causal_length = change->causal_length;
	record.flags = change->born ? P2P_RECORD_BORN : 0;
	record.cells = cells;
	for (i = 0; i < 5; i++)
		if (change->set[i]) {
			cells[record.cell_count].column = i;
			cells[record.cell_count].tag = P2P_CELL_VALUE;
			cells[record.cell_count++].value = change->cells[i];
		}
	kit_change_init(out, &mesh, change->replica, change->stamp, change->stamp);
	kit_change_put(out, &record);
	p2p_buf_deinit(&key);
}

static inline void apply(struct kit_node *node, const struct change *change)
{
	struct kit_change made;

	change_make(&made, change);
	kit_apply(node, &made);
	kit_change_deinit(&made);
}

/* word('key', 1): v and note */
static inline struct change word(char replica, uint64_t stamp, uint64_t causal_length, bool born,
				 int64_t v)
{
	struct change change;

	memset(&change, 0, sizeof(change));
	change.replica = replica;
	change.stamp = stamp;
	change.table = WORD;
	change.key[0] = kit_text("key");
	change.key[1] = kit_int(1);
	change.causal_length = causal_length;
	change.born = born;
	if (causal_length % 2) {
		change.cells[2] = kit_int(v);
		change.set[2] = 1;
	}
	if (born) {
		change.cells[3] = kit_text("new");
		change.set[3] = 1;
	}
	return change;
}

static inline struct change word_note(char replica, uint64_t stamp, uint64_t causal_length,
				      const char *note)
{
	struct change change = word(replica, stamp, causal_length, false, 0);

	change.set[2] = 0;
	change.cells[3] = kit_text(note);
	change.set[3] = 1;
	return change;
}

static inline struct change user(char replica, uint64_t stamp, const char *name, const char *mail,
				 const char *phone)
{
	struct change change;

	memset(&change, 0, sizeof(change));
	change.replica = replica;
	change.stamp = stamp;
	change.table = USER;
	change.key[0] = kit_text(name);
	change.causal_length = 1;
	change.born = true;
	change.set[1] = change.set[2] = 1;
	change.cells[1] = mail ? kit_text(mail) : kit_null();
	change.cells[2] = phone ? kit_text(phone) : kit_null();
	return change;
}

static const char sql_word[] =
	"SELECT quote(k), quote(part), quote(v), quote(note) FROM word ORDER BY 1, 2";
static const char sql_user[] = "SELECT name, quote(mail), quote(phone) FROM user ORDER BY 1";

static inline void same_state(void)
{
	struct p2p_buf x, y;

	p2p_buf_init(&x, 1u << 20);
	p2p_buf_init(&y, 1u << 20);
	kit_state(&a, &x);
	kit_state(&b, &y);
	p2p_buf_put_u8(&x, 0);
	p2p_buf_put_u8(&y, 0);
	assert_string_equal((const char *)x.data, (const char *)y.data);
	p2p_buf_deinit(&x);
	p2p_buf_deinit(&y);
}

/* Applies all changes to a in this order and to b in every rotation of it and of its reverse: both
 * must end alike each time, and applying all once more must change no byte. */
static inline void converge(const struct change *changes, size_t count)
{
	struct p2p_hash once, twice;
	size_t i, turn;

	kit_node_clear(&a);
	for (i = 0; i < count; i++)
		apply(&a, &changes[i]);
	kit_digest(&a, &once);
	for (i = 0; i < count; i++)
		apply(&a, &changes[i]);
	kit_digest(&a, &twice);
	assert_memory_equal(&once, &twice, sizeof(once));
	for (turn = 0; turn < 2 * count; turn++) {
		kit_node_clear(&b);
		for (i = 0; i < count; i++)
			apply(&b, &changes[turn < count ? (i + turn) % count
							: (2 * count - 1 - i + turn) % count]);
		same_state();
	}
}

#endif
