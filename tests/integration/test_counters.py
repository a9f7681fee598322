"""Counters: what nodes add while they are apart adds up, whoever was there before or joins later."""
import json

from lib import Shared, check, main, rows

SCHEMA = """CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, stock INTEGER NOT NULL DEFAULT 0);
CREATE TABLE page(path TEXT PRIMARY KEY, hits INTEGER, code INTEGER UNIQUE, note TEXT);
INSERT INTO item VALUES (1, 'bolt', 100), (2, 'nut', 10);
INSERT INTO page VALUES ('/', 1000, 7, 'start');"""


def pair(world):
    """Two members that were together and are apart now."""
    one = world.db("a.db", SCHEMA)
    shared = Shared(world.node("share", "a.db"))
    joiner = world.node("join", shared.ticket, "b.db")
    joiner.line("joined ")
    world.run("wait", "b.db")
    world.run("enable", "a.db", "item", "page", "--counter", "stock", "--counter", "page.hits")
    world.run("wait", "a.db")
    joiner.stop()
    return one, world.db("b.db"), shared


def meet(world, shared):
    node = world.node("run", "b.db", "--seed", shared.address)
    node.line("node ")
    world.run("wait", "b.db")
    world.run("wait", "a.db")
    return node


def both(one, two, sql, wanted):
    for db in one, two:
        check(rows(db, sql) == wanted, "%s: %s, not %s" % (sql, rows(db, sql), wanted))


def apart_they_take_from_one_stock(world):
    one, two, shared = pair(world)
    for _ in range(30):
        one.execute("UPDATE item SET stock = stock - 1")
        two.execute("UPDATE item SET stock = stock - 2")
    one.execute("INSERT INTO page VALUES('/new', 1, 1, '') ON CONFLICT DO UPDATE SET hits = hits + 1")
    two.execute("INSERT INTO page VALUES('/new', 1, 1, '') ON CONFLICT DO UPDATE SET hits = hits + 1")
    meet(world, shared)
    both(one, two, "SELECT stock FROM item ORDER BY id", [(10,), (-80,)])
    both(one, two, "SELECT hits FROM page ORDER BY path", [(1000,), (2,)])
    one.execute("UPDATE item SET stock = 5 WHERE id = 1")
    world.run("wait", "a.db")
    both(one, two, "SELECT stock FROM item ORDER BY id", [(5,), (-80,)])
    for db in "a.db", "b.db":
        world.run("verify", db)
        check(world.status(db)["waiting"] == 0, "nothing waits")


def who_deletes_ends_it_and_the_others_read_of_it(world):
    one, two, shared = pair(world)
    one.execute("DELETE FROM item WHERE id = 1")
    two.execute("UPDATE item SET stock = stock + 7 WHERE id = 1")
    meet(world, shared)
    both(one, two, "SELECT id FROM item", [(2,)])
    for db in "a.db", "b.db":
        found = json.loads(world.run("conflicts", db, "--json")[0])["conflicts"]
        check(len(found) == 1 and found[0]["kind"] == "delete", "%s: %s" % (db, found))
        check(found[0]["lost"]["stock"] == 7, "what was added: %s: %s" % (db, found))
    # where nothing is known of the row there is nothing to add to
    _out, err = world.run("conflicts", "a.db", "--restore", str(conflict_of(world, "a.db")), code=5)
    check("its row is not in table 'item'" in err, err)
    world.run("conflicts", "b.db", "--restore", str(conflict_of(world, "b.db")))
    world.run("wait", "b.db")
    both(one, two, "SELECT name, stock FROM item ORDER BY id", [("bolt", 107), ("nut", 10)])


def what_was_lost_is_added_where_the_row_is_again(world):
    one, two, shared = pair(world)
    one.execute("DELETE FROM page")
    two.execute("UPDATE page SET hits = hits + 7")
    meet(world, shared)
    one.execute("INSERT INTO page VALUES ('/', 40, 8, 'again')")
    world.run("wait", "a.db")
    for db, hits in ("a.db", 47), ("b.db", 54):
        world.run("conflicts", db, "--restore", str(conflict_of(world, db)))
        world.run("wait", db)
        both(one, two, "SELECT hits FROM page", [(hits,)])


def conflict_of(world, db):
    return json.loads(world.run("conflicts", db, "--json")[0])["conflicts"][0]["id"]


def a_joiner_with_rows_adds_nothing(world):
    world.db("c.db", SCHEMA + "UPDATE item SET stock = 1;INSERT INTO item VALUES (9, 'own', 3);"
                              "INSERT INTO page VALUES ('/new', 50, NULL, '');")
    one, two, shared = pair(world)
    one.execute("UPDATE item SET stock = stock - 1")
    one.execute("INSERT INTO page VALUES('/new', 1, NULL, '')")
    meet(world, shared)
    ticket = world.run("invite", "a.db")[0].split("ticket ")[1].split()[0]
    joiner = world.node("join", ticket, "c.db", "--merge")
    joiner.line("joined ")
    world.run("wait", "c.db")
    world.run("wait", "a.db", "--peers", "2")
    three = world.db("c.db")
    three.execute("UPDATE item SET stock = stock - 10")
    world.run("wait", "c.db")
    world.run("wait", "a.db", "--peers", "2")
    for db in one, two, three:
        both(db, db, "SELECT name, stock FROM item ORDER BY name",
             [("bolt", 89), ("nut", -1), ("own", -7)])
        both(db, db, "SELECT hits FROM page ORDER BY path", [(1000,), (1,)])


def a_table_that_is_enabled_again_adds_what_was_done_meanwhile(world):
    one, two, shared = pair(world)
    node = meet(world, shared)
    two.execute("UPDATE item SET stock = stock - 1")
    world.run("wait", "b.db")
    world.run("disable", "b.db", "item")
    two.execute("UPDATE item SET stock = stock - 10")
    one.execute("UPDATE item SET stock = stock - 100")
    world.run("wait", "a.db")
    world.run("enable", "b.db", "item")
    world.run("wait", "b.db")
    world.run("wait", "a.db")
    both(one, two, "SELECT stock FROM item ORDER BY id", [(-11,), (-101,)])
    node.stop()


def what_cannot_count_is_refused(world):
    world.db("a.db", SCHEMA)
    Shared(world.node("share", "a.db"))
    for column, words in (("id", "primary key"), ("name", "only integers"), ("none", "no such column")):
        out = world.run("enable", "a.db", "item", "--counter", column, code=5)[1]
        check(words in out, "%s: %s" % (column, out))
    out = world.run("enable", "a.db", "page", "--counter", "code", code=5)[1]
    check("UNIQUE" in out, out)
    out = world.run("enable", "a.db", "item", code=1)[1]
    check("replicated already" in out, out)
    world.run("enable", "a.db", "item", "--counter", "item.stock")
    world.run("enable", "a.db", "item", "--counter", "stock")


main([
    apart_they_take_from_one_stock,
    who_deletes_ends_it_and_the_others_read_of_it,
    what_was_lost_is_added_where_the_row_is_again,
    a_joiner_with_rows_adds_nothing,
    a_table_that_is_enabled_again_adds_what_was_done_meanwhile,
    what_cannot_count_is_refused,
])
