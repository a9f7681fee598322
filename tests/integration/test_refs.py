"""References that no FOREIGN KEY declares, named by --ref: they follow their row when it gets
another number. What cannot be one is refused before anything is changed, with what to do."""
from lib import Shared, check, main, rows

SCHEMA = """
CREATE TABLE parents(id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE child(id TEXT PRIMARY KEY, parent INTEGER, other INTEGER);
CREATE TABLE texts(id TEXT PRIMARY KEY, parent TEXT, same INTEGER);
CREATE TABLE twice(id INTEGER PRIMARY KEY, same INTEGER, p INTEGER REFERENCES parents(id));
INSERT INTO parents VALUES (1, 'one');
INSERT INTO child VALUES ('c1', 1, 1);
"""
SHOWN = """SELECT c.id, p.name FROM child c LEFT JOIN parents p ON p.id = c.parent
           WHERE c.id <> 'c1' ORDER BY 1"""


def both_write_apart(world, a, b):
    """The same number is given on both sides, and a child refers to it on each."""
    for conn, side in ((a, "a"), (b, "b")):
        conn.execute("BEGIN")
        number = conn.execute("INSERT INTO parents(name) VALUES (?)", (side,)).lastrowid
        conn.execute("INSERT INTO child VALUES (?, ?, ?)", (side, number, number))
        conn.execute("COMMIT")
    numbers = rows(a, "SELECT max(id) FROM parents"), rows(b, "SELECT max(id) FROM parents")
    check(numbers[0] == numbers[1], "no conflict was made: %s %s" % numbers)


def meet(world, address, a, b):
    first = world.start("run", "a.db", "--listen", address, "--no-discovery")
    first.line("node ")
    second = world.node("run", "b.db", "--seed", address)
    second.line("node ")
    world.level("a.db", "b.db")
    for name, conn in (("a.db", a), ("b.db", b)):
        check(rows(conn, SHOWN) == [("a", "a"), ("b", "b")], "%s: %s" % (name, rows(conn, SHOWN)))
        world.run("verify", name)
    sql = "SELECT * FROM child ORDER BY 1"
    check(rows(a, sql) == rows(b, sql), "%s %s" % (rows(a, sql), rows(b, sql)))


def stopped(world, *processes):
    for process in processes:
        process.stop()


def an_undeclared_reference_follows_its_row(world):
    a = world.db("a.db", SCHEMA)
    share = world.node("share", "a.db", "--ref", "child.parent=parents")
    first = Shared(share)
    join = world.node("join", first.ticket, "b.db")
    join.line("joined ")
    stopped(world, join, share)
    b = world.db("b.db")
    both_write_apart(world, a, b)
    meet(world, first.address, a, b)
    check(rows(a, "SELECT count(*) FROM child WHERE parent <> other") == [(1,)],
          "one row got another number, and a column that was not named does not follow")


def a_foreign_key_without_a_type_follows_its_row(world):
    """Declared without a type, or NUMERIC, a column holds the number of its parent, too."""
    a = world.db("a.db", SCHEMA + """
        CREATE TABLE loose(id TEXT PRIMARY KEY, untyped REFERENCES parents(id),
            number NUMERIC REFERENCES parents, whole DECIMAL(10,2) REFERENCES parents ON DELETE SET NULL);""")
    share = world.node("share", "a.db", "--ref", "child.parent=parents")
    first = Shared(share)
    join = world.node("join", first.ticket, "b.db")
    join.line("joined ")
    stopped(world, join, share)
    b = world.db("b.db")
    both_write_apart(world, a, b)
    for conn, side in ((a, "a"), (b, "b")):
        conn.execute("INSERT INTO loose SELECT ?, m, m, m FROM (SELECT max(id) AS m FROM parents)", (side,))
    meet(world, first.address, a, b)
    for conn in (a, b):
        said = rows(conn, """SELECT l.id, p.name, q.name, r.name FROM loose l LEFT JOIN parents p ON p.id = l.untyped
            LEFT JOIN parents q ON q.id = l.number LEFT JOIN parents r ON r.id = l.whole ORDER BY 1""")
        check(said == [("a",) * 4, ("b",) * 4], said)


def a_row_with_null_in_its_key_refers_as_it_likes(world):
    """It is not replicated, and `verify` does not look at it."""
    a = world.db("a.db", SCHEMA + """
        CREATE TABLE loose(a INTEGER, b INTEGER, p INTEGER REFERENCES parents(id), PRIMARY KEY(a, b));
        INSERT INTO loose VALUES (1, NULL, 1), (1, 1, NULL);""")
    Shared(world.node("share", "a.db"))
    a.execute("DELETE FROM parents")
    check("all is well" in world.run("verify", "a.db")[0], "a row of this file alone")


def a_reference_is_named_when_a_table_is_enabled(world):
    a = world.db("a.db", SCHEMA)
    share = world.node("share", "a.db", "--table", "parents")
    first = Shared(share)
    world.run("enable", "a.db", "child", "--ref", "parent=parents")
    join = world.node("join", first.ticket, "b.db")
    join.line("joined ")
    stopped(world, join, share)
    b = world.db("b.db")
    both_write_apart(world, a, b)
    meet(world, first.address, a, b)


def it_may_be_said_again(world):
    world.db("a.db", SCHEMA)
    share = world.node("share", "a.db", "--ref", "child.parent=parents")
    Shared(share)
    stopped(world, share)
    again = world.node("share", "a.db", "--ref", "child.parent=parents")
    Shared(again)
    stopped(world, again)


def what_cannot_be_one_is_refused(world):
    world.db("a.db", SCHEMA)
    for ref, code, words in (
            ("child.parent", 1, "TABLE.COLUMN=PARENT"),
            ("=parents", 1, "TABLE.COLUMN=PARENT"),
            ("child.parent=", 1, "TABLE.COLUMN=PARENT"),
            ("child.nothing=parents", 1, "no table that is replicated has a column"),
            ("nothing.parent=parents", 1, "no table that is replicated has a column"),
            ("same=parents", 1, "several tables have this column"),
            ("child.parent=nothing", 1, "there is no table"),
            ("child.parent=texts", 5, "lone INTEGER PRIMARY KEY"),
            ("texts.parent=parents", 5, "declared TEXT or REAL"),
            ("twice.p=twice", 5, "its FOREIGN KEY names another table"),
            ("twice.id=parents", 5, "numbers the rows of its own table")):
        share = world.node("share", "a.db", "--ref", ref)
        errors = share.ended(share.proc.wait(60))
        check(share.proc.returncode in (code, 2 if code == 1 else code),
              "%s: exit %s" % (ref, share.proc.returncode))
        check(words in errors, "%s: %s" % (ref, errors))
    out = world.run("status", "a.db", code=1)[1]
    check("in no mesh" in out, out)


def it_is_named_at_first_or_not_at_all(world):
    world.db("a.db", SCHEMA)
    share = world.node("share", "a.db", "--exclude", "parents")
    Shared(share)
    out = world.run("enable", "a.db", "child", "--ref", "parent=parents", code=5)[1]
    check("its parent is not replicated" in out, out)
    out = world.run("enable", "a.db", "child", "parents", "--ref", "child.parent=parents",
                    code=5)[1]
    check("for the first time" in out, out)
    tables = world.run("tables", "a.db")[0]
    check("table parents" not in tables, tables)
    world.run("enable", "a.db", "parents")


main([an_undeclared_reference_follows_its_row, a_foreign_key_without_a_type_follows_its_row,
      a_row_with_null_in_its_key_refers_as_it_likes,
      a_reference_is_named_when_a_table_is_enabled,
      it_may_be_said_again, what_cannot_be_one_is_refused, it_is_named_at_first_or_not_at_all])
