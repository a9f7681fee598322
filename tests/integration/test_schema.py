"""Applications migrate their own files while nodes run: added, renamed and dropped columns, rebuilt,
dropped and late tables; VACUUM. Rows stay equal, and verify finds nothing."""
from lib import Shared, check, main, rows

SCHEMA = """
CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b REAL);
CREATE TABLE k(u TEXT PRIMARY KEY, v);
INSERT INTO t(a) VALUES ('x'), ('y'), ('z');
"""
REBUILD = """
BEGIN;
CREATE TABLE t2(id INTEGER PRIMARY KEY, a TEXT, b REAL, d TEXT);
INSERT INTO t2(id, a, b) SELECT id, a, b FROM t;
DROP TABLE t;
ALTER TABLE t2 RENAME TO t;
COMMIT;
"""


def pair(world):
    a = world.db("a.db", SCHEMA)
    first = Shared(world.node("share", "a.db"))
    world.node("join", first.ticket, "b.db").line("joined ")
    return a, world.db("b.db")


def nothing_waits(world, name):
    """Changes that waited for a table or column are merged soon after it is there."""
    for _ in range(200):
        if not world.status(name)["waiting"]:
            return
        world.run("vector", name)  # a round through the node's loop
    check(False, "%s still waits: %s" % (name, world.status(name)))


def same(world, a, b, *tables):
    world.level("a.db", "b.db")
    for name in ("a.db", "b.db"):
        nothing_waits(world, name)
        world.run("verify", name)
    for table in tables:
        sql = "SELECT * FROM %s ORDER BY 1" % table
        check(rows(a, sql) == rows(b, sql), "%s: %s %s" % (table, rows(a, sql), rows(b, sql)))


def columns_come_are_renamed_and_go(world):
    a, b = pair(world)
    for conn in (a, b):
        conn.execute("ALTER TABLE t ADD COLUMN c INTEGER DEFAULT 5")
    a.execute("UPDATE t SET c = 9 WHERE id = 1")
    b.execute("UPDATE t SET a = 'bb' WHERE id = 2")
    same(world, a, b, "t")
    for conn in (a, b):
        conn.execute("ALTER TABLE t RENAME COLUMN b TO bb")
    a.execute("UPDATE t SET bb = 1.5")
    same(world, a, b, "t")
    for conn in (a, b):
        conn.execute("ALTER TABLE t DROP COLUMN bb")
    b.execute("INSERT INTO t(a, c) VALUES ('new', 1)")
    same(world, a, b, "t")


def a_rebuilt_table_goes_on(world):
    a, b = pair(world)
    a.executescript(REBUILD)
    a.execute("INSERT INTO t(a) VALUES ('rebuilt')")
    b.executescript(REBUILD)
    b.execute("UPDATE t SET d = 'dd' WHERE id = 1")
    same(world, a, b, "t")


def a_column_that_is_dropped_and_added_comes_back(world):
    """In one go on one side, seen in between on the other; what one side writes into it stays,
    also when the other side's turn comes later."""
    a, b = pair(world)
    a.execute("UPDATE t SET a = 'old', b = id")
    world.level("a.db", "b.db")
    a.executescript("ALTER TABLE t DROP COLUMN a; ALTER TABLE t ADD COLUMN a TEXT")
    a.execute("UPDATE t SET a = 'new' WHERE id = 1")
    world.level("a.db", "b.db")
    b.execute("ALTER TABLE t DROP COLUMN a")
    world.level("a.db", "b.db")
    b.execute("ALTER TABLE t ADD COLUMN a TEXT")
    for name in ("a.db", "b.db"):
        world.level("a.db", "b.db")
        nothing_waits(world, name)
        world.run("verify", name)
    for conn in (a, b):
        got = rows(conn, "SELECT id, b, a FROM t ORDER BY 1")
        check(got == [(1, 1.0, "new"), (2, 2.0, "old"), (3, 3.0, "old")], got)


def a_dropped_table_comes_back_with_its_rows(world):
    a, b = pair(world)
    a.execute("INSERT INTO k VALUES ('both', 1)")
    world.level("a.db", "b.db")
    a.execute("DROP TABLE k")
    b.execute("INSERT INTO k VALUES ('b', 2)")
    world.level("a.db", "b.db")
    check(world.status("a.db")["waiting"] == 0, "nothing waits for what was dropped")
    out = world.run("tables", "a.db")[0]
    check("dropped it" in out, out)
    a.execute("CREATE TABLE k(u TEXT PRIMARY KEY, v)")
    a.execute("INSERT INTO k VALUES ('a', 3)")
    same(world, a, b, "k", "t")
    check(rows(a, "SELECT u FROM k ORDER BY 1") == [("a",), ("b",), ("both",)],
          rows(a, "SELECT * FROM k"))


def a_renamed_column_keeps_its_values(world):
    a, b = pair(world)
    a.execute("ALTER TABLE t RENAME COLUMN a TO name")
    world.run("rescan", "a.db", "t")
    world.level("a.db", "b.db")
    b.execute("INSERT INTO t(a) VALUES ('old name')")
    b.execute("ALTER TABLE t RENAME COLUMN a TO name")
    world.run("rescan", "b.db", "t")
    same(world, a, b, "t")
    check(rows(a, "SELECT name FROM t ORDER BY id") == [("x",), ("y",), ("z",), ("old name",)],
          rows(a, "SELECT * FROM t"))


def what_waits_is_told_by_table(world):
    a, b = pair(world)
    a.execute("ALTER TABLE t ADD COLUMN c INTEGER")
    a.execute("UPDATE t SET c = 1 WHERE id < 3")
    a.execute("CREATE TABLE late(id INTEGER PRIMARY KEY)")
    a.execute("INSERT INTO late VALUES (1)")
    world.run("enable", "a.db", "late")
    world.level("a.db", "b.db")
    out = world.run("tables", "b.db")[0]
    check("2 records wait for column c\n" in out, out)
    check("table late waiting" in out and "1 record waits for the table" in out, out)
    b.execute("ALTER TABLE t ADD COLUMN c INTEGER")
    b.execute("CREATE TABLE late(id INTEGER PRIMARY KEY)")
    same(world, a, b, "t", "late")
    check(" for " not in world.run("tables", "b.db")[0], "nothing waits")


def a_renamed_table_is_shared_under_its_new_name(world):
    a, b = pair(world)
    a.execute("ALTER TABLE k RENAME TO k2")
    a.execute("INSERT INTO k2 VALUES ('a', 1)")
    b.execute("INSERT INTO k VALUES ('b', 2)")
    world.level("a.db", "b.db")
    world.run("enable", "a.db", "k2")
    check(rows(a, "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'k2'")
          == [(3,)], "triggers of the old name are gone")
    b.execute("ALTER TABLE k RENAME TO k2")
    same(world, a, b, "k2", "t")
    check(rows(a, "SELECT u FROM k2 ORDER BY 1") == [("a",), ("b",)], rows(a, "SELECT * FROM k2"))


def a_dropped_table_stops_nothing(world):
    a, b = pair(world)
    a.execute("DROP TABLE k")
    b.execute("INSERT INTO k VALUES ('u', 1)")
    b.execute("INSERT INTO t(a) VALUES ('b')")
    a.execute("INSERT INTO t(a) VALUES ('a')")
    world.level("a.db", "b.db")
    sql = "SELECT id, a FROM t ORDER BY 1"
    check(rows(a, sql) == rows(b, sql), "t: %s %s" % (rows(a, sql), rows(b, sql)))


def a_late_table_gets_all(world):
    a, b = pair(world)
    a.execute("CREATE TABLE late(id INTEGER PRIMARY KEY, q)")
    a.execute("INSERT INTO late VALUES (1, 2)")
    world.run("enable", "a.db", "late")
    world.level("a.db", "b.db")
    b.execute("CREATE TABLE late(id INTEGER PRIMARY KEY, q)")
    b.execute("INSERT INTO late VALUES (2, 3)")
    same(world, a, b, "late", "t")


def a_disabled_table_is_taken_up_again(world):
    a, b = pair(world)
    world.run("disable", "a.db", "k")
    a.execute("INSERT INTO k VALUES ('alone', 1)")
    b.execute("INSERT INTO k VALUES ('b', 2)")
    world.level("a.db", "b.db")
    check(rows(a, "SELECT u FROM k") == [("alone",)], "a stays alone")
    world.run("enable", "a.db", "k")
    same(world, a, b, "k", "t")
    check(len(rows(a, "SELECT * FROM k")) == 2, "both rows are there")


def a_table_enabled_again_shows_no_row_twice(world):
    """Row 4 of b is in no change that a knows of; rows 1 and 2 are known on both sides."""
    a, b = pair(world)
    world.run("disable", "a.db", "t")
    b.execute("INSERT INTO t(a) VALUES ('b4')")
    b.execute("UPDATE t SET b = 2.5 WHERE id = 2")
    b.execute("DELETE FROM t WHERE id = 3")
    a.execute("INSERT INTO t(id, a) VALUES (9, 'a9')")
    a.execute("UPDATE t SET a = 'mine' WHERE id = 1")
    a.execute("DELETE FROM t WHERE id = 2")
    world.level("a.db", "b.db")
    world.run("enable", "a.db", "t")
    same(world, a, b, "t", "k")
    check(rows(a, "SELECT id, a, b FROM t ORDER BY 1") ==
          [(1, "mine", None), (2, "y", 2.5), (4, "b4", None), (9, "a9", None)],
          rows(a, "SELECT * FROM t"))


def its_own_rows_come_back_too(world):
    a, b = pair(world)
    a.execute("INSERT INTO t(a) VALUES ('own')")
    world.level("a.db", "b.db")
    world.run("disable", "a.db", "t")
    a.execute("DELETE FROM t")
    world.run("enable", "a.db", "t")
    same(world, a, b, "t")
    check(len(rows(a, "SELECT * FROM t")) == 4, rows(a, "SELECT * FROM t"))


def another_key_begins_anew(world):
    """Rows of another kind of key are other rows; nothing of them goes wrong before."""
    a, b = pair(world)
    for conn in (a, b):
        conn.execute("BEGIN")
        conn.execute("DROP TABLE t")
        conn.execute("CREATE TABLE t(id TEXT PRIMARY KEY, a TEXT)")
        conn.execute("COMMIT")
    a.execute("INSERT INTO t VALUES ('k1', 'a')")
    b.execute("INSERT INTO t VALUES ('k2', 'b')")
    world.level("a.db", "b.db")
    for name in ("a.db", "b.db"):
        out = world.run("tables", name)[0]
        check("another kind" in out, out)
        world.run("disable", name, "t")
        world.run("enable", name, "t")
    world.level("a.db", "b.db")
    for conn in (a, b):
        got = rows(conn, "SELECT * FROM t ORDER BY 1")
        check(got == [("k1", "a"), ("k2", "b")], got)


def vacuum_changes_nothing(world):
    a, b = pair(world)
    a.execute("VACUUM")
    b.execute("VACUUM")
    a.execute("INSERT INTO t(a) VALUES ('after')")
    same(world, a, b, "t", "k")


main([columns_come_are_renamed_and_go, a_rebuilt_table_goes_on,
      a_column_that_is_dropped_and_added_comes_back, a_dropped_table_comes_back_with_its_rows,
      a_renamed_column_keeps_its_values, what_waits_is_told_by_table, a_renamed_table_is_shared_under_its_new_name, a_dropped_table_stops_nothing,
      a_late_table_gets_all, a_disabled_table_is_taken_up_again,
      a_table_enabled_again_shows_no_row_twice, its_own_rows_come_back_too, another_key_begins_anew,
      vacuum_changes_nothing])
