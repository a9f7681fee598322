"""What lost in a merge is listed, with both sides, and can be written back."""
import json

from lib import Shared, check, main, rows

SCHEMA = """CREATE TABLE note(id TEXT PRIMARY KEY, body TEXT, n INTEGER, data BLOB);
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT);
INSERT INTO note VALUES ('k', 'first', 1, x'00ff');
INSERT INTO item VALUES (1, 'one'), (2, 'two');"""


def pair(world):
    """Two members that were together and are apart now."""
    return pair_of(world, SCHEMA)


def pair_of(world, schema):
    one = world.db("a.db", schema)
    shared = Shared(world.node("share", "a.db"))
    joiner = world.node("join", shared.ticket, "b.db")
    joiner.line("joined ")
    world.run("wait", "b.db")
    joiner.stop()
    return one, world.db("b.db"), shared


def meet(world, shared):
    world.node("run", "b.db", "--seed", shared.address).line("node ")
    world.run("wait", "b.db")
    world.run("wait", "a.db")


def conflicts(world, db):
    out = json.loads(world.run("conflicts", db, "--json")[0])
    check(out["schema"] == 1, "schema 1")
    return out["conflicts"]


def both_sides_list_the_cell_that_lost(world):
    one, two, shared = pair(world)
    one.execute("UPDATE note SET body='of a', n=9007199254740993")
    world.run("vector", "a.db")
    two.execute("UPDATE note SET body='of b', n=7")
    meet(world, shared)
    check(rows(one, "SELECT body, n FROM note") == rows(two, "SELECT body, n FROM note") == [("of b", 7)], "b was later")
    for db in "a.db", "b.db":
        found = conflicts(world, db)
        check(len(found) == 1, "%s: %s" % (db, found))
        check(found[0]["kind"] == "cell" and found[0]["table"] == "note" and found[0]["row"] == {"id": "k"}, found)
        check(found[0]["lost"] == {"body": "of a", "n": "9007199254740993"}, found)
        check(found[0]["kept"] == {"body": "of b", "n": 7}, found)
        check(found[0]["origin"] == shared.node, "by a: %s" % found)
        check(found[0]["time"].endswith("Z"), found)
        check(world.status(db)["conflicts"] == 1, "status counts it")
    view = rows(one, 'SELECT kind, "table", json_extract(lost, \'$.body\') FROM p2p_conflicts')
    check(view == [("cell", "note", "of a")], "the view: %s" % view)
    out, _err = world.run("conflicts", "a.db")
    check("of a" in out and "--restore" in out, out)


def a_write_that_saw_the_other_is_no_conflict(world):
    one, two, shared = pair(world)
    one.execute("UPDATE note SET body='of a'")
    meet(world, shared)
    two.execute("UPDATE note SET body='then of b'")
    world.run("wait", "b.db")
    one.execute("UPDATE note SET body='then of a'")
    one.execute("DELETE FROM item WHERE id=1")
    world.run("wait", "a.db")
    check(conflicts(world, "a.db") == conflicts(world, "b.db") == [], "none")
    check("no conflicts" in world.run("conflicts", "a.db")[0], "says so")


def a_row_that_was_deleted_while_another_changed_it_can_come_back(world):
    one, two, shared = pair(world)
    one.execute("DELETE FROM note")
    one.execute("DELETE FROM item WHERE id=2")
    two.execute("UPDATE note SET body='worked on'")
    two.execute("UPDATE item SET name='deux' WHERE id=2")
    meet(world, shared)
    check(rows(two, "SELECT count(*) FROM note") == [(0,)], "a delete wins")
    for db in "a.db", "b.db":
        found = {c["table"]: c for c in conflicts(world, db)}
        check(found["note"]["kind"] == found["item"]["kind"] == "delete", found)
        check(found["note"]["lost"]["body"] == "worked on", found)
        check(found["note"]["kept"] == {}, found)
    for conflict in conflicts(world, "b.db"):
        world.run("conflicts", "b.db", "--restore", str(conflict["id"]))
    check(conflicts(world, "b.db") == [], "they are off the list")
    world.run("wait", "b.db")
    for db in one, two:
        check(rows(db, "SELECT id, body, n, data FROM note") == [("k", "worked on", 1, b"\0\xff")], rows(db, "SELECT * FROM note"))
        check(rows(db, "SELECT * FROM item") == [(1, "one"), (2, "deux")], rows(db, "SELECT * FROM item"))
    world.run("verify", "b.db")


def a_lost_cell_is_written_back_as_a_new_change(world):
    one, two, shared = pair(world)
    one.execute("UPDATE item SET name='of a' WHERE id=1")
    world.run("vector", "a.db")
    two.execute("UPDATE item SET name='of b' WHERE id=1")
    meet(world, shared)
    found = conflicts(world, "b.db")
    world.run("conflicts", "b.db", "--restore", str(found[0]["id"]))
    world.run("wait", "b.db")
    check(rows(one, "SELECT name FROM item WHERE id=1") == [("of a",)], "restored everywhere")
    world.run("conflicts", "b.db", "--restore", str(found[0]["id"]), code=1)
    world.run("conflicts", "b.db", "--restore", "x", code=2)


def a_row_that_a_constraint_keeps_out_is_listed_while_it_is(world):
    one, two, shared = pair(world)
    for conn in one, two:
        conn.execute("CREATE TABLE user(id TEXT PRIMARY KEY, mail TEXT UNIQUE)")
    world.run("enable", "a.db", "user")
    one.execute("INSERT INTO user VALUES ('1', 'x@y')")
    world.run("vector", "a.db")
    two.execute("INSERT INTO user VALUES ('2', 'x@y')")
    meet(world, shared)
    for db, conn in ("a.db", one), ("b.db", two):
        found = conflicts(world, db)
        check(len(found) == 1 and found[0]["kind"] == "unique" and found[0]["table"] == "user", "%s: %s" % (db, found))
        shown = rows(conn, "SELECT id FROM user")[0][0]
        check(found[0]["row"] == {"id": "2" if shown == "1" else "1"}, found)
        check(found[0]["lost"]["mail"] == "x@y", found)
        check(rows(conn, 'SELECT kind FROM p2p_conflicts') == [("unique",)], "the view")
    one.execute("UPDATE user SET mail = 'z'")
    world.run("wait", "a.db")
    world.run("wait", "b.db")
    check(rows(one, "SELECT count(*) FROM user") == rows(two, "SELECT count(*) FROM user") == [(2,)], "it came back")
    check(conflicts(world, "a.db") == conflicts(world, "b.db") == [], "and is off the list")


def a_number_that_was_lost_is_listed_and_stays_what_it_is(world):
    one, two, shared = pair(world)
    one.execute("INSERT INTO item(name) VALUES ('of a')")
    world.run("vector", "a.db")
    two.execute("INSERT INTO item(name) VALUES ('of b')")
    meet(world, shared)
    number = until_numbered(world, two)
    for db in "a.db", "b.db":
        found = conflicts(world, db)
        check(len(found) == 1 and found[0]["kind"] == "number" and found[0]["table"] == "item", "%s: %s" % (db, found))
        check(found[0]["lost"] == {"id": 3} and found[0]["kept"] == found[0]["row"] == {"id": number}, found)
        check(found[0]["origin"] != shared.node and found[0]["time"].endswith("Z"), found)
    _out, err = world.run("conflicts", "b.db", "--restore", str(conflicts(world, "b.db")[0]["id"]), code=5)
    check("nothing of the row was lost" in err, err)
    check(len(conflicts(world, "b.db")) == 1, "it stays on the list")


REFERENCES = """CREATE TABLE list(id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE task(id TEXT PRIMARY KEY, list INTEGER REFERENCES list(id) ON DELETE SET NULL, body TEXT);
INSERT INTO list VALUES (1, 'home'), (2, 'work'), (3, 'garden');
INSERT INTO task VALUES ('t', 1, 'dig'), ('u', 1, 'sow');"""


def a_reference_that_lost_is_listed_and_comes_back(world):
    one, two, shared = pair_of(world, REFERENCES)
    one.execute("UPDATE task SET list = 2 WHERE id = 't'")
    one.execute("UPDATE task SET list = 2 WHERE id = 'u'")
    world.run("vector", "a.db")
    two.execute("UPDATE task SET list = 3 WHERE id = 't'")
    two.execute("UPDATE task SET list = 2 WHERE id = 'u'")
    meet(world, shared)
    for db in "a.db", "b.db":
        found = conflicts(world, db)
        check(len(found) == 1 and found[0]["kind"] == "cell" and found[0]["row"] == {"id": "t"}, "%s: %s" % (db, found))
        check(found[0]["lost"] == {"list": 2} and found[0]["kept"] == {"list": 3}, found)
        check(found[0]["origin"] == shared.node, found)
    world.run("conflicts", "b.db", "--restore", str(conflicts(world, "b.db")[0]["id"]))
    world.run("wait", "b.db")
    world.run("wait", "a.db")
    for conn in one, two:
        check(rows(conn, "SELECT name FROM task JOIN list ON list.id = list WHERE task.id = 't'") == [("work",)],
              rows(conn, "SELECT * FROM task"))
    one.execute("DELETE FROM list WHERE name = 'work'")
    one.execute("UPDATE task SET list = NULL WHERE list NOT IN (SELECT id FROM list)")
    world.run("wait", "a.db")
    world.run("wait", "b.db")
    _out, err = world.run("conflicts", "a.db", "--restore", str(conflicts(world, "a.db")[-1]["id"]), code=5)
    check("'list' referred to is not in table 'list'" in err, err)


def a_row_that_was_deleted_comes_back_with_what_it_referred_to(world):
    one, two, shared = pair_of(world, REFERENCES)
    one.execute("DELETE FROM task")
    two.execute("UPDATE task SET list = 3 WHERE id = 't'")
    meet(world, shared)
    for db in "a.db", "b.db":
        found = conflicts(world, db)
        check(len(found) == 1 and found[0]["kind"] == "delete", "%s: %s" % (db, found))
        check(found[0]["lost"]["list"] == 3, found)
    world.run("conflicts", "b.db", "--restore", str(conflicts(world, "b.db")[0]["id"]))
    world.run("wait", "b.db")
    world.run("wait", "a.db")
    check(rows(one, "SELECT id, list, body FROM task") == [("t", 3, "dig")], rows(one, "SELECT * FROM task"))


SPANS = """CREATE TABLE span(id INTEGER PRIMARY KEY, low INTEGER, high INTEGER, note TEXT, wide AS (high - low),
 CONSTRAINT in_order CHECK (low <= high), CHECK (note <> 'never'));
INSERT INTO span(low, high) VALUES (1, 10), (1, 10), (1, 10);"""


def a_row_that_breaks_a_check_as_it_was_merged_is_shown_and_listed(world):
    one, two, shared = pair_of(world, SPANS)
    one.execute("UPDATE span SET low = 8 WHERE id < 3")
    two.execute("UPDATE span SET high = 5 WHERE id < 3")
    two.execute("UPDATE span SET high = 6, note = 'fine' WHERE id = 3")
    meet(world, shared)
    for db, conn in ("a.db", one), ("b.db", two):
        check(rows(conn, "SELECT id, low, high FROM span") == [(1, 8, 5), (2, 8, 5), (3, 1, 6)], rows(conn, "SELECT * FROM span"))
        found = conflicts(world, db)
        check([(c["kind"], c["table"], c["row"]["id"]) for c in found] == [("check", "span", 2), ("check", "span", 1)], "%s: %s" % (db, found))
        check(found[0]["kept"] == {"id": 2, "low": 8, "high": 5, "note": None} and found[0]["lost"] == {}, found)
        check("in_order" in found[0]["reason"], found)
        check("CHECK" in rows(conn, "PRAGMA integrity_check")[0][0], "it is broken")
        check(rows(conn, "SELECT kind, reason FROM p2p_conflicts WHERE json_extract(\"row\", '$.id') = 1")
              == [("check", found[0]["reason"])], "the view")
    _out, err = world.run("conflicts", "a.db", "--restore", str(conflicts(world, "a.db")[0]["id"]), code=5)
    check("nothing of the row was lost" in err, err)
    out, _err = world.run("conflicts", "a.db")
    check("CHECK constraint failed: in_order" in out, out)
    # what does not concern the constraint changes nothing, whoever writes it
    ids = {db: [c["id"] for c in conflicts(world, db)] for db in ("a.db", "b.db")}
    one.execute("PRAGMA ignore_check_constraints = ON")
    one.execute("UPDATE span SET note = 'of a' WHERE id = 2")
    one.execute("UPDATE span SET note = 'mine' WHERE id = 3")
    world.run("wait", "a.db")
    world.run("wait", "b.db")
    check({db: [c["id"] for c in conflicts(world, db)] for db in ("a.db", "b.db")} == ids, "listed as they were")
    check(conflicts(world, "b.db")[0]["kept"]["note"] == "of a", conflicts(world, "b.db"))
    # mended by one, deleted by another
    one.execute("UPDATE span SET high = 9 WHERE id = 2")
    world.run("wait", "a.db")
    two.execute("DELETE FROM span WHERE id = 1")
    world.run("wait", "b.db")
    world.run("wait", "a.db")
    for db, conn in ("a.db", one), ("b.db", two):
        check(conflicts(world, db) == [], "%s: %s" % (db, conflicts(world, db)))
        check(rows(conn, "PRAGMA integrity_check") == [("ok",)], "%s is whole" % db)
        world.run("verify", db)


def until_numbered(world, conn):
    """The number that the row of b was given for good."""
    for _i in range(100):
        number = rows(conn, "SELECT id FROM item WHERE name = 'of b'")[0][0]
        if number > 3:
            world.run("wait", "b.db")
            world.run("wait", "a.db")
            return number
        world.run("wait", "b.db")
    raise AssertionError("still %d" % number)


main([
    both_sides_list_the_cell_that_lost,
    a_write_that_saw_the_other_is_no_conflict,
    a_row_that_was_deleted_while_another_changed_it_can_come_back,
    a_lost_cell_is_written_back_as_a_new_change,
    a_row_that_a_constraint_keeps_out_is_listed_while_it_is,
    a_number_that_was_lost_is_listed_and_stays_what_it_is,
    a_reference_that_lost_is_listed_and_comes_back,
    a_row_that_was_deleted_comes_back_with_what_it_referred_to,
    a_row_that_breaks_a_check_as_it_was_merged_is_shown_and_listed,
])
