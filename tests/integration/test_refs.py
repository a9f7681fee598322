"""References that no FOREIGN KEY declares, named by --ref. What cannot be one is refused before
anything is changed, with what to do."""
from lib import Shared, check, main

SCHEMA = """
CREATE TABLE parents(id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE child(id TEXT PRIMARY KEY, parent INTEGER, other INTEGER);
CREATE TABLE texts(id TEXT PRIMARY KEY, parent TEXT, same INTEGER);
CREATE TABLE twice(id INTEGER PRIMARY KEY, same INTEGER, p INTEGER REFERENCES parents(id));
INSERT INTO parents VALUES (1, 'one');
INSERT INTO child VALUES ('c1', 1, 1);
"""

def stopped(world, *processes):
    for process in processes:
        process.stop()


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
            ("texts.parent=parents", 5, "not declared INTEGER"),
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


main([it_may_be_said_again, what_cannot_be_one_is_refused, it_is_named_at_first_or_not_at_all])
