"""doctor says what will happen to each table, and why; it changes nothing."""
import json
import os
import stat

from lib import Shared, check, main

SCHEMA = """
CREATE TABLE album(id INTEGER PRIMARY KEY, title TEXT);
CREATE TABLE track(id INTEGER PRIMARY KEY, album INTEGER REFERENCES album ON DELETE SET NULL,
    name TEXT, UNIQUE(album, name));
CREATE TABLE review(id INTEGER PRIMARY KEY, album_id INTEGER, stars INTEGER, CHECK(stars > 0 AND stars < 6));
CREATE TABLE tag(name TEXT PRIMARY KEY, album_id INTEGER);
CREATE TABLE log(line TEXT);
CREATE TABLE alembic_version(version_num TEXT PRIMARY KEY);
CREATE VIEW best AS SELECT * FROM review WHERE stars = 5;
CREATE TRIGGER heard AFTER INSERT ON review BEGIN INSERT INTO log VALUES (new.id); END;
CREATE TABLE cover(album INTEGER PRIMARY KEY REFERENCES album, image BLOB);
CREATE TABLE side(album INTEGER REFERENCES album, side TEXT, PRIMARY KEY(album, side));
CREATE TABLE scratch(id TEXT PRIMARY KEY, album INTEGER, side TEXT, FOREIGN KEY(album, side) REFERENCES side);
CREATE TABLE spoken(id TEXT PRIMARY KEY, album TEXT REFERENCES album(id));
CREATE TABLE code(name TEXT PRIMARY KEY);
CREATE TABLE coded(id TEXT PRIMARY KEY, code TEXT REFERENCES code);
INSERT INTO album VALUES (1, 'a'), (2, 'b');
INSERT INTO track VALUES (10, 1, 'x'), (11, 7, 'dangles');
INSERT INTO review VALUES (1, 1, 5), (2, 2, 3);
INSERT INTO tag VALUES (NULL, 900), ('t', 901);
CREATE TRIGGER counted AFTER INSERT ON review BEGIN UPDATE album SET title = title || '*' WHERE id = new.album_id; END;
CREATE TRIGGER both AFTER DELETE ON review BEGIN DELETE FROM tag; INSERT INTO log VALUES ('gone'); END;
CREATE TRIGGER calls AFTER DELETE ON review BEGIN INSERT INTO log SELECT of_the_application(old.id); END;
"""


def findings(world, db):
    out = json.loads(world.run("doctor", db, "--json")[0])
    check(out["schema"] == 1, "schema 1")
    return out["findings"]


def has(found, table, topic, level, *words):
    for at in found:
        if at["table"] == table and at["topic"] == topic and at["level"] == level:
            if all(word in at["text"] + at["advice"] for word in words):
                return
    check(False, "no %s %s %s %s in %s" % (table, topic, level, words, [f for f in found if f["table"] == table]))


def every_table_gets_what_will_happen_and_why(world):
    conn = world.db("a.db", SCHEMA)
    before = conn.execute("SELECT * FROM sqlite_schema").fetchall()
    found = findings(world, "a.db")
    has(found, "album", "identity", "note", "numbers")
    has(found, "track", "reference", "note", "album", "shows NULL")
    has(found, "track", "unique", "note", "album, name")
    has(found, "review", "reference", "warn", "--ref review.album_id=album")
    has(found, "review", "check", "note")
    has(found, "review", "trigger", "note", "heard", "rows of other machines, too")
    has(found, "review", "trigger", "note", "counted", "album")
    has(found, "review", "trigger", "warn", "both", "split it in two")
    has(found, "review", "trigger", "warn", "calls", "of_the_application")
    has(found, "tag", "identity", "note", "name are one row")
    has(found, "tag", "identity", "warn", "NULL")
    has(found, "log", "refused", "warn", "PRIMARY KEY")
    has(found, "alembic_version", "refused", "warn", "migrat")
    has(found, "", "foreign_key", "warn", "1 rows")
    has(found, "cover", "identity", "note", "are one with", "album")
    has(found, "scratch", "foreign_key", "warn", "album is the number", "does not follow")
    has(found, "spoken", "foreign_key", "warn", "album is the number", "does not follow")
    has(found, "coded", "foreign_key", "note", "code must be found")
    check(not [f for f in found if f["table"] == "tag" and f["topic"] == "reference"], "its values are no albums")
    check(before == conn.execute("SELECT * FROM sqlite_schema").fetchall(), "nothing changed")
    check(not os.path.exists(world.path("a.db-p2p")), "nothing was made")
    text = world.run("doctor", "a.db")[0]
    check("table review" in text and "warnings" in text, text)


def what_only_the_application_has_is_told(world):
    conn = world.db("a.db")
    conn.create_function("mine", 1, lambda x: x, deterministic=True)
    conn.execute("CREATE TABLE t(id TEXT PRIMARY KEY, x, y AS (mine(x)))")
    conn.create_collation("own", lambda a, b: (a > b) - (a < b))
    conn.execute("CREATE TABLE u(id TEXT PRIMARY KEY, x TEXT COLLATE own UNIQUE)")
    conn.execute("CREATE TABLE v(id TEXT PRIMARY KEY, x TEXT COLLATE own)")
    conn.execute("CREATE TRIGGER sorts AFTER INSERT ON v BEGIN UPDATE v SET x = mine(x) WHERE id = new.id; END")
    found = findings(world, "a.db")
    has(found, "t", "refused", "warn", "mine")
    has(found, "u", "refused", "warn", "own")
    has(found, "v", "identity", "note", "id are one row")
    has(found, "v", "trigger", "warn", "sorts", "mine")
    has(found, "", "integrity", "note", "own")
    check(not [f for f in found if f["level"] == "error"], "nothing is damaged")


def what_only_the_application_has_keeps_no_other_table_out(world):
    """What doctor says of a table is what share does with it."""
    conn = world.db("a.db")
    conn.create_function("mine", 1, lambda x: x, deterministic=True)
    conn.create_collation("own", lambda a, b: (a > b) - (a < b))
    conn.executescript("""
        CREATE TABLE decks(id INTEGER PRIMARY KEY, name TEXT COLLATE own UNIQUE);
        CREATE TABLE books(id TEXT PRIMARY KEY, title TEXT COLLATE own, sort TEXT);
        CREATE TRIGGER sorts AFTER INSERT ON books BEGIN UPDATE books SET sort = mine(new.title) WHERE id = new.id; END;
        INSERT INTO decks VALUES (1, 'd'); INSERT INTO books(id, title) VALUES ('b', 'Book');""")
    conn.execute("VACUUM INTO ?", (world.path("b.db"),))
    first = Shared(world.node("share", "a.db"))
    states = {t["name"]: t["state"] for t in world.status("a.db")["tables"]}
    check(states == {"books": "live", "decks": "refused"}, states)
    world.node("join", first.ticket, "b.db", "--merge").line("joined ")
    conn.execute("INSERT INTO books(id, title) VALUES ('c', 'Other')")
    conn.execute("UPDATE books SET title = 'book' WHERE id = 'b'")
    world.level("a.db", "b.db")
    other = world.db("b.db").execute("SELECT * FROM books ORDER BY id").fetchall()
    check(other == [("b", "book", "Book"), ("c", "Other", "Other")], other)


def files_of_several_users_need_their_directory(world):
    os.mkdir(world.path("d"))
    world.db("d/a.db", "CREATE TABLE t(id TEXT PRIMARY KEY)").close()
    os.chmod(world.path("d/a.db"), 0o664)
    os.chmod(world.path("d"), stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP)
    has(findings(world, "d/a.db"), "", "permissions", "error", "664", "750")


def it_works_beside_a_running_node_and_on_what_is_no_database(world):
    world.db("a.db", SCHEMA)
    Shared(world.node("share", "a.db"))
    check(len(findings(world, "a.db")) > 5, "beside a node")
    check("b.db" in world.run("doctor", "b.db", code=1)[1], "missing")
    with open(world.path("c.db"), "w", encoding="utf-8") as file:
        file.write("no database at all, however long it may be. " * 50)
    world.run("doctor", "c.db", code=1)


main([
    every_table_gets_what_will_happen_and_why,
    what_only_the_application_has_is_told,
    what_only_the_application_has_keeps_no_other_table_out,
    files_of_several_users_need_their_directory,
    it_works_beside_a_running_node_and_on_what_is_no_database,
])
