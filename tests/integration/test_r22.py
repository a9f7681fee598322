"""R22: tables with AUTOINCREMENT keys, written on three nodes that do not hear of one another, by a
program that knows nothing of it. Every row survives, every child keeps its own parent, the numbers
are permanent, equal everywhere, and the conflicts say which row had which.

Usage: test_r22.py [PARENTS] [CHILDREN OF EACH]
"""
import json
import sys

from lib import Shared, check, main, rows

PARENTS, CHILDREN = (int(a) for a in (sys.argv[1:] + ["1000", "5"][len(sys.argv) - 1:]))
NAMES = ("a", "b", "c")
SCHEMA = """CREATE TABLE parent(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
CREATE TABLE child(id INTEGER PRIMARY KEY AUTOINCREMENT, parent INTEGER NOT NULL REFERENCES parent(id) ON DELETE CASCADE,
 of TEXT NOT NULL, place INTEGER NOT NULL);
CREATE INDEX child_parent ON child(parent);"""
ROUNDS = 60  # of waiting, until every author has numbered its rows


def write(conn, node):
    """As a program does it: the number of the parent that it just made goes into its children."""
    conn.execute("PRAGMA foreign_keys = ON")
    for i in range(PARENTS):
        name = "%s%d" % (node, i)
        if i % 10 == 0:
            conn.execute("BEGIN")
        parent = conn.execute("INSERT INTO parent(name) VALUES (?)", (name,)).lastrowid
        conn.executemany("INSERT INTO child(parent, of, place) VALUES (?, ?, ?)",
                         [(parent, name, place) for place in range(CHILDREN)])
        if i % 10 == 9 or i == PARENTS - 1:
            conn.execute("COMMIT")


def together(world):
    """Three members, all of them stopped again."""
    conns = {"a": world.db("a.db", SCHEMA)}
    share = world.node("share", "a.db", "--uses", "2")
    first = Shared(share)
    joiners = []
    for node in NAMES[1:]:
        joiner = world.node("join", first.ticket, node + ".db")
        joiner.line("joined ")
        world.run("wait", node + ".db")
        joiners.append(joiner)
        conns[node] = world.db(node + ".db")
    for process in joiners + [share]:
        process.stop()
    return conns, first.address


def meet(world, conns, address):
    world.start("run", "a.db", "--listen", address, "--no-discovery").line("node ")
    for node in NAMES[1:]:
        world.node("run", node + ".db", "--seed", address).line("node ")
    temporary = "SELECT (SELECT count(*) FROM parent WHERE id < 0) + (SELECT count(*) FROM child WHERE id < 0)"
    for _round in range(ROUNDS):
        world.level(*(node + ".db" for node in NAMES))
        if all(rows(conn, temporary) == [(0,)] for conn in conns.values()):
            return
    check(False, "still temporary: %s" % {node: rows(conn, temporary) for node, conn in conns.items()})


def check_rows(conns):
    counts = "SELECT (SELECT count(*) FROM parent), (SELECT count(*) FROM child)"
    kept = "SELECT name, count(child.id), count(DISTINCT place) FROM parent LEFT JOIN child ON child.parent = parent.id GROUP BY name"
    every = [(node + str(i), CHILDREN, CHILDREN) for node in NAMES for i in range(PARENTS)]
    all_rows = {}
    for node, conn in conns.items():
        check(rows(conn, counts) == [(3 * PARENTS, 3 * PARENTS * CHILDREN)], "%s has %s" % (node, rows(conn, counts)))
        strangers = rows(conn, "SELECT count(*) FROM child JOIN parent ON parent.id = parent WHERE of <> name")
        check(strangers == [(0,)], "%s: %s children at another parent" % (node, strangers))
        check(rows(conn, kept) == sorted(every), "%s: every parent has its own children" % node)
        check(rows(conn, "PRAGMA foreign_key_check") == [], "%s: foreign keys" % node)
        check(rows(conn, "PRAGMA integrity_check") == [("ok",)], "%s: integrity" % node)
        all_rows[node] = rows(conn, "SELECT * FROM parent ORDER BY id") + rows(conn, "SELECT * FROM child ORDER BY id")
    check(all_rows["a"] == all_rows["b"] == all_rows["c"], "the rows are equal everywhere")


def check_conflicts(world, conns):
    """Of the three rows under a number one keeps it; each of the others is listed, and found there."""
    for node, conn in conns.items():
        found = json.loads(world.run("conflicts", node + ".db", "--json")[0])["conflicts"]
        check(all(c["kind"] == "number" and c["origin"] and c["time"] for c in found), "%s: %s" % (node, found[:3]))
        for table, wanted in ("parent", 2 * PARENTS), ("child", 2 * PARENTS * CHILDREN):
            listed = [(c["lost"]["id"], c["kept"]["id"]) for c in found if c["table"] == table]
            check(len(listed) == wanted, "%s: %d numbers of %s are listed, not %d" % (node, len(listed), table, wanted))
            there = {number for number, in rows(conn, "SELECT id FROM " + table)}
            check({kept for _lost, kept in listed} <= there, "%s: %s: a number that is listed is nobody's" % (node, table))
            check(len({kept for _lost, kept in listed}) == wanted, "%s: %s: one number twice" % (node, table))
            check({lost for lost, _kept in listed} == set(range(1, wanted // 2 + 1)), "%s: %s: what was lost" % (node, table))
        check(world.status(node + ".db")["conflicts"] == len(found), "%s: status counts them" % node)


def r22_what_three_nodes_wrote_apart_is_whole_where_they_meet(world):
    conns, address = together(world)
    for node, conn in conns.items():
        write(conn, node)
    meet(world, conns, address)
    check_rows(conns)
    check_conflicts(world, conns)
    for node in NAMES:
        world.run("verify", node + ".db")
    # permanent: nothing moves any more, and AUTOINCREMENT goes on above
    before = rows(conns["c"], "SELECT * FROM parent ORDER BY id")
    for node, conn in conns.items():
        number = conn.execute("INSERT INTO parent(name) VALUES (?)", ("new of " + node,)).lastrowid
        check(number > before[-1][0], "%s: %d is a number that was given" % (node, number))
        world.level(*(n + ".db" for n in NAMES))
    after = rows(conns["a"], "SELECT * FROM parent ORDER BY id")
    check(after[:len(before)] == before and len(after) == len(before) + 3, "they stay where they are")


main([r22_what_three_nodes_wrote_apart_is_whole_where_they_meet])
