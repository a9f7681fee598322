"""A mesh that carries its schema (share --replicate-schema): tables, columns and indexes that one
member adds are made in the files of all, by real nodes. Without the option nothing is made."""
from lib import Shared, check, main, rows

SCHEMA = """
CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, UNIQUE(a));
INSERT INTO t(a) VALUES ('x');
"""


def mesh(world, count, *options):
    conns = [world.db("a.db", SCHEMA)]
    first = Shared(world.node("share", "a.db", "--uses", str(count), *options))
    names = ["a.db"]
    for at in range(1, count):
        names.append("%s.db" % "abc"[at])
        world.node("join", first.ticket, names[-1]).line("joined ")
        conns.append(world.db(names[-1]))
    return names, conns


def eventually(world, names, question):
    """Each look is a round through the loops of the nodes."""
    for _ in range(300):
        if question():
            return
        for name in names:
            world.run("vector", name)
    check(False, "it never came: %s" % [world.run("tables", name)[0] for name in names])


def has(conn, text):
    return rows(conn, "SELECT count(*) FROM sqlite_schema WHERE sql LIKE '%%%s%%'"
                " AND name NOT LIKE 'p2p%%'" % text)[0][0] > 0


def same(world, names, conns, sql):
    world.level(*names)
    got = [rows(conn, sql) for conn in conns]
    check(all(g == got[0] for g in got), got)
    for name in names:
        world.run("verify", name)
    return got[0]


def columns_and_indexes_are_carried(world):
    names, conns = mesh(world, 3, "--replicate-schema")
    conns[0].executescript("""
        ALTER TABLE t ADD COLUMN b INTEGER DEFAULT 7 CHECK (b > 0);
        ALTER TABLE t ADD COLUMN c TEXT COLLATE NOCASE;
        CREATE INDEX t_c ON t(c);
        UPDATE t SET c = 'C';
    """)
    eventually(world, names, lambda: all(has(conn, "COLLATE NOCASE") for conn in conns))
    eventually(world, names, lambda: all(has(conn, "INDEX t_c") for conn in conns))
    text = rows(conns[0], "SELECT sql FROM sqlite_schema WHERE name = 't'")
    check(all(rows(conn, "SELECT sql FROM sqlite_schema WHERE name = 't'") == text
              for conn in conns), "not the same words")
    conns[2].execute("INSERT INTO t(a, b, c) VALUES ('y', 2, 'D')")
    got = same(world, names, conns, "SELECT a, b, c FROM t ORDER BY 1")
    check(got == [("x", 7, "C"), ("y", 2, "D")], got)
    conns[1].execute("ALTER TABLE t ADD COLUMN d DEFAULT 'it''s, here'")
    conns[1].execute("UPDATE t SET d = 1 WHERE a = 'y'")
    eventually(world, names, lambda: all(has(conn, "it''''s, here") for conn in conns))
    got = same(world, names, conns, "SELECT a, d FROM t ORDER BY 1")
    check(got == [("x", "it's, here"), ("y", 1)], got)


def tables_are_carried(world):
    names, conns = mesh(world, 2, "--replicate-schema")
    conns[0].executescript("CREATE TABLE late(id INTEGER PRIMARY KEY, q REFERENCES t(id));"
                           "INSERT INTO late VALUES (1, 1)")
    world.run("enable", "a.db", "late")
    eventually(world, names, lambda: has(conns[1], "TABLE late"))
    conns[1].execute("INSERT INTO late VALUES (2, 1)")
    same(world, names, conns, "SELECT * FROM late ORDER BY 1")


def nothing_is_dropped(world):
    names, conns = mesh(world, 2, "--replicate-schema")
    conns[0].execute("ALTER TABLE t ADD COLUMN b")
    eventually(world, names, lambda: has(conns[1], ", b)") or has(conns[1], "b, UNIQUE"))
    conns[1].execute("UPDATE t SET b = 'kept'")
    conns[0].execute("ALTER TABLE t DROP COLUMN b")
    world.level(*names)
    check(rows(conns[1], "SELECT b FROM t") == [("kept",)], "b has its column and value")


def a_transaction_is_waited_for(world):
    names, conns = mesh(world, 2, "--replicate-schema")
    conns[1].execute("BEGIN")
    conns[1].execute("SELECT * FROM t").fetchall()
    conns[0].execute("ALTER TABLE t ADD COLUMN b")
    world.run("vector", "a.db")
    for _ in range(20):
        world.run("vector", "b.db")
    other = world.db("b.db")
    check(not has(other, ", b"), "it was made beside a transaction")
    conns[1].execute("INSERT INTO t(a) VALUES ('mine')")
    conns[1].execute("COMMIT")
    eventually(world, names, lambda: has(other, ", b"))
    same(world, names, conns, "SELECT a, b FROM t ORDER BY 1")


def without_it_every_application_migrates_its_own(world):
    names, conns = mesh(world, 2)
    conns[0].execute("ALTER TABLE t ADD COLUMN b")
    conns[0].execute("UPDATE t SET b = 1")
    world.level(*names)
    check(not has(conns[1], ", b"), "a peer made a column")
    check(world.status("b.db")["waiting"] > 0, world.status("b.db"))
    share = world.db("c.db", SCHEMA)
    share.close()
    process = world.node("share", "c.db")
    Shared(process)
    process.stop()
    again = world.node("share", "c.db", "--replicate-schema")
    errors = again.ended(5)
    check("when a mesh is made" in errors, errors)


main([columns_and_indexes_are_carried, tables_are_carried, nothing_is_dropped,
      a_transaction_is_waited_for, without_it_every_application_migrates_its_own])
