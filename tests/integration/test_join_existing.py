"""Joining with a database that has rows already: --merge and --replace."""
import glob
import os

from lib import Shared, check, main, rows

SCHEMA = "CREATE TABLE note(id TEXT PRIMARY KEY, body TEXT, extra TEXT);" \
         "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT);"
MESH = SCHEMA + "INSERT INTO note VALUES ('a','mesh','m'),('b','mesh','m');" \
                "INSERT INTO item VALUES (1,'one'),(2,'two');"
OWN = SCHEMA + "INSERT INTO note VALUES ('b','own','o'),('c','own','o');" \
               "INSERT INTO item VALUES (2,'zwei'),(3,'drei');" \
               "CREATE TABLE mine(id TEXT PRIMARY KEY); INSERT INTO mine VALUES ('x');"
MERGED = ([("a", "mesh", "m"), ("b", "mesh", "m"), ("c", "own", "o")],
          [(1, "one"), (2, "two"), (3, "drei")])


def content(conn):
    return (rows(conn, "SELECT * FROM note ORDER BY id"), rows(conn, "SELECT * FROM item ORDER BY id"))


def merge_keeps_the_rows_of_both_and_the_values_of_the_mesh(world):
    one, two = world.db("a.db", MESH), world.db("b.db", OWN)
    shared = Shared(world.node("share", "a.db"))
    joiner = world.node("join", shared.ticket, "b.db", "--merge")
    joiner.line("joined ")
    world.run("wait", "a.db")
    world.run("wait", "b.db")
    check(content(one) == MERGED, "at the founder: %s" % (content(one),))
    check(content(two) == MERGED, "at the joiner: %s" % (content(two),))
    check(rows(two, "SELECT * FROM mine") == [("x",)], "a table that the mesh lacks stays")
    two.execute("UPDATE note SET body='later' WHERE id='b'")
    world.run("wait", "b.db")
    world.run("wait", "a.db")
    check(rows(one, "SELECT body FROM note WHERE id='b'") == [("later",)], "then they are one mesh")
    joiner.stop()
    world.run("verify", "b.db")


def merge_of_a_row_that_the_mesh_deleted_leaves_it_deleted(world):
    one, two = world.db("a.db", MESH), world.db("b.db", OWN)
    shared = Shared(world.node("share", "a.db"))
    world.run("status", "a.db")
    one.execute("DELETE FROM item WHERE id=2")
    world.node("join", shared.ticket, "b.db", "--merge").line("joined ")
    world.run("wait", "a.db")
    world.run("wait", "b.db")
    check(content(one)[1] == content(two)[1] == [(1, "one"), (3, "drei")], "%s" % (content(two),))


def replace_puts_the_mesh_in_place_and_keeps_the_old_file(world):
    world.db("a.db", MESH)
    world.db("b.db", OWN).close()
    shared = Shared(world.node("share", "a.db"))
    joiner = world.node("join", shared.ticket, "b.db", "--replace")
    joiner.line("joined ")
    world.run("wait", "b.db")
    kept = glob.glob(world.path("b.db.before-join-*"))
    check(len(kept) == 1, "the old file is beside it: %s" % os.listdir(world.dir))
    check(content(world.db("b.db")) == content(world.db("a.db")), "the joiner has the mesh's rows")
    old = world.db(os.path.basename(kept[0]))
    check(rows(old, "SELECT * FROM item") == [(2, "zwei"), (3, "drei")], "the old rows are there")
    check("is kept as" in joiner.stop(), "it says so")
    args = ["--listen", "127.0.0.1:0", "--no-discovery"]
    _out, err = world.run("join", shared.ticket, "b.db", "--replace", *args, code=5)
    check("in a mesh already" in err, err)


def replace_waits_for_nobody_and_moves_nothing_that_is_open(world):
    world.db("a.db", MESH)
    own = world.db("b.db", OWN)
    shared = Shared(world.node("share", "a.db"))
    args = ["--listen", "127.0.0.1:0", "--no-discovery"]
    _out, err = world.run("join", shared.ticket, "b.db", "--replace", *args, code=75)
    check("process %d" % os.getpid() in err, err)
    check(content(own)[1] == [(2, "zwei"), (3, "drei")], "untouched")
    check(not glob.glob(world.path("b.db.before*")), "nothing was moved")


def a_refused_join_brings_the_old_file_back(world):
    world.db("a.db", MESH)
    world.db("b.db", OWN).close()
    shared = Shared(world.node("share", "a.db"))
    world.node("join", shared.ticket, "c.db").line("joined ")
    args = ["--listen", "127.0.0.1:0", "--no-discovery"]
    _out, err = world.run("join", shared.ticket, "b.db", "--replace", *args, code=5)
    check("is back as" in err, err)
    check(content(world.db("b.db"))[1] == [(2, "zwei"), (3, "drei")], "as it was")
    check(not glob.glob(world.path("b.db.before*")), "and nowhere else")
    world.run("run", "b.db", *args, code=1)
    _out, err = world.run("join", shared.ticket, "b.db", "--merge", "--replace", *args, code=2)
    check("only one" in err, err)


main([
    merge_keeps_the_rows_of_both_and_the_values_of_the_mesh,
    merge_of_a_row_that_the_mesh_deleted_leaves_it_deleted,
    replace_puts_the_mesh_in_place_and_keeps_the_old_file,
    replace_waits_for_nobody_and_moves_nothing_that_is_open,
    a_refused_join_brings_the_old_file_back,
])
