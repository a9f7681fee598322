"""Triggers of the application (R27): what they did to replicated tables arrives as rows and is not
done twice; what they keep in tables that are not replicated (FTS5, rtree, caches) is right on every
node."""
from lib import Shared, check, main, rows

NOTES = """
CREATE TABLE notes(id INTEGER PRIMARY KEY, title TEXT, body TEXT);
CREATE VIRTUAL TABLE fts USING fts5(title, body, content='notes', content_rowid='id');
CREATE TRIGGER notes_ai AFTER INSERT ON notes BEGIN
  INSERT INTO fts(rowid, title, body) VALUES (new.id, new.title, new.body);
END;
CREATE TRIGGER notes_ad AFTER DELETE ON notes BEGIN
  INSERT INTO fts(fts, rowid, title, body) VALUES ('delete', old.id, old.title, old.body);
END;
CREATE TRIGGER notes_au AFTER UPDATE OF title, body ON notes BEGIN
  INSERT INTO fts(fts, rowid, title, body) VALUES ('delete', old.id, old.title, old.body);
  INSERT INTO fts(rowid, title, body) VALUES (new.id, new.title, new.body);
END;
"""


def found(conn, word, fts="fts"):
    return [r[0] for r in rows(conn, "SELECT rowid FROM %s WHERE %s MATCH '%s' ORDER BY 1" % (fts, fts, word))]


def shown(conn, word):
    like = "%" + word + "%"
    return [r[0] for r in conn.execute("SELECT id FROM notes WHERE title LIKE ? OR body LIKE ? ORDER BY 1", (like, like))]


def search_is_right(conn, *words):
    """Every word finds the rows that have it, and only them; the index says it fits its table."""
    conn.execute("INSERT INTO fts(fts, rank) VALUES ('integrity-check', 1)")
    for word in words:
        check(found(conn, word) == shown(conn, word), "%s: found %s, there are %s"
              % (word, found(conn, word), shown(conn, word)))


def pair(world, schema):
    a = world.db("a.db", schema)
    first = Shared(world.node("share", "a.db"))
    joiner = world.node("join", first.ticket, "b.db")
    joiner.line("joined ")
    b = world.db("b.db")
    return a, b, first, joiner


def with_schema(world, schema, late):
    """Two members; what a join does not carry (virtual tables, triggers) each application makes."""
    a, b, first, joiner = pair(world, schema)
    a.executescript(late)
    b.executescript(late)
    return a, b, first, joiner


def split(script, marker):
    at = script.index(marker)
    return script[:at], script[at:]


def apart(world, joiner):
    world.run("wait", "b.db")
    world.run("wait", "a.db")
    joiner.stop()


def meet(world, first):
    process = world.node("run", "b.db", "--seed", first.address)
    process.line("node ")
    world.level("a.db", "b.db")
    return process


def r27_search_finds_merged_rows_on_every_node(world):
    a, b, _first, _joiner = with_schema(world, *split(NOTES, "CREATE VIRTUAL"))
    a.execute("INSERT INTO notes VALUES (1, 'apple', 'red fruit'), (2, 'pear', 'green fruit'), (3, 'stone', 'grey')")
    world.level("a.db", "b.db")
    for conn in a, b:
        check(found(conn, "fruit") == [1, 2], found(conn, "fruit"))
    b.execute("UPDATE notes SET body='hard and grey' WHERE id=3")
    b.execute("UPDATE notes SET title='plum' WHERE id=1")
    a.execute("DELETE FROM notes WHERE id=2")
    world.level("a.db", "b.db")
    for conn in a, b:
        check(found(conn, "apple") == found(conn, "pear") == [], "gone words are not found")
        check(found(conn, "plum") == [1] and found(conn, "hard") == [3], "new words are")
        search_is_right(conn, "fruit", "plum", "hard", "grey")
    world.run("verify", "b.db")


def r27_search_follows_rows_whose_numbers_move(world):
    a, b, first, joiner = with_schema(world, *split(NOTES, "CREATE VIRTUAL"))
    apart(world, joiner)
    a.executemany("INSERT INTO notes(title, body) VALUES (?, 'of alice')", [("a%d" % i,) for i in range(5)])
    b.executemany("INSERT INTO notes(title, body) VALUES (?, 'of bob')", [("b%d" % i,) for i in range(5)])
    joiner = meet(world, first)
    for conn in a, b:
        check(rows(conn, "SELECT count(*) FROM notes") == [(10,)], "all are there")
        search_is_right(conn, "alice", "bob", "a3", "b3")
    a.execute("UPDATE notes SET body='changed' WHERE title='b3'")
    b.execute("DELETE FROM notes WHERE title='a3'")
    world.level("a.db", "b.db")
    for conn in a, b:
        check(len(found(conn, "changed")) == 1 and found(conn, "a3") == [], "after the move")
        search_is_right(conn, "alice", "bob", "changed", "b3")


def r27_rows_that_are_hidden_are_not_found(world):
    schema = NOTES.replace("title TEXT,", "title TEXT UNIQUE,")
    a, b, first, joiner = with_schema(world, *split(schema, "CREATE VIRTUAL"))
    apart(world, joiner)
    a.execute("INSERT INTO notes VALUES (10, 'same', 'first'), (11, 'other', 'first')")
    world.run("vector", "a.db")
    b.execute("INSERT INTO notes VALUES (20, 'same', 'second')")
    meet(world, first)
    for conn in a, b:
        check(rows(conn, "SELECT count(*) FROM notes WHERE title='same'") == [(1,)], "one is shown")
        search_is_right(conn, "same", "first", "second", "other")
    winner = rows(a, "SELECT body FROM notes WHERE title='same'")[0][0]
    a.execute("UPDATE notes SET title='free' WHERE title='same'")
    world.level("a.db", "b.db")
    for conn in a, b:
        check(rows(conn, "SELECT count(*) FROM notes") == [(3,)], "the other came back")
        check(len(found(conn, "free")) == len(found(conn, "same")) == 1, winner)
        search_is_right(conn, "same", "free", "first", "second")


def r27_a_trigger_into_a_replicated_table_fires_once_only(world):
    a, b, _first, _joiner = with_schema(world, """
        CREATE TABLE item(id TEXT PRIMARY KEY, n INTEGER, changed TEXT);
        CREATE TABLE audit(id INTEGER PRIMARY KEY, item TEXT, was, now);
        CREATE TABLE mirror(id TEXT PRIMARY KEY, n);""", """
        CREATE TRIGGER item_audit AFTER UPDATE OF n ON item BEGIN
          INSERT INTO audit(item, was, now) VALUES (new.id, old.n, new.n);
        END;
        CREATE TRIGGER item_stamp AFTER UPDATE OF n ON item BEGIN
          UPDATE item SET changed = 'by ' || new.n WHERE id = new.id;
        END;
        CREATE TRIGGER item_mirror AFTER INSERT ON item BEGIN
          INSERT INTO mirror VALUES (new.id, new.n);
        END;""")
    a.execute("INSERT INTO item(id, n) VALUES ('x', 1), ('y', 2)")
    world.level("a.db", "b.db")
    b.execute("UPDATE item SET n = 5 WHERE id='x'")
    a.execute("UPDATE item SET n = 7 WHERE id='y'")
    world.level("a.db", "b.db")
    for conn in a, b:
        check(rows(conn, "SELECT item, was, now FROM audit ORDER BY 1") == [("x", 1, 5), ("y", 2, 7)], rows(conn, "SELECT * FROM audit"))
        check(rows(conn, "SELECT id, changed FROM item ORDER BY 1") == [("x", "by 5"), ("y", "by 7")], rows(conn, "SELECT * FROM item"))
        check(rows(conn, "SELECT * FROM mirror ORDER BY 1") == [("x", 1), ("y", 2)], rows(conn, "SELECT * FROM mirror"))


LOCAL = """
CREATE VIRTUAL TABLE place USING rtree(id, x0, x1, y0, y1);
CREATE VIRTUAL TABLE bare USING fts5(word, content='');
CREATE TABLE cache(id INTEGER PRIMARY KEY, label TEXT UNIQUE, n INTEGER);
CREATE TABLE counts(what TEXT PRIMARY KEY, n INTEGER);
CREATE TABLE log(id INTEGER PRIMARY KEY, line TEXT);
CREATE VIEW looks AS SELECT id, label FROM cache;
INSERT INTO counts VALUES ('spots', 0);
CREATE TRIGGER cache_log AFTER INSERT ON cache BEGIN INSERT INTO log(line) VALUES (new.label); END;
CREATE TRIGGER spot_cache AFTER INSERT ON spot BEGIN INSERT INTO looks VALUES (new.id, new.name); END;
CREATE TRIGGER looks_in INSTEAD OF INSERT ON looks BEGIN
  INSERT OR REPLACE INTO cache VALUES (new.id, new.label, 1) ; END;
CREATE TRIGGER spot_place AFTER INSERT ON spot WHEN new.x IS NOT NULL OR new.y IS NOT NULL BEGIN
  INSERT INTO place VALUES (new.id, new.x, new.x, new.y, new.y); END;
CREATE TRIGGER spot_place_d AFTER DELETE ON spot BEGIN DELETE FROM place WHERE id = old.id; END;
CREATE TRIGGER spot_place_u AFTER UPDATE ON spot BEGIN
  UPDATE place SET x0 = new.x, x1 = new.x, y0 = new.y, y1 = new.y WHERE id = new.id; END;
CREATE TRIGGER spot_bare AFTER INSERT ON spot BEGIN INSERT INTO bare(rowid, word) VALUES (new.id, new.name); END;
CREATE TRIGGER spot_more BEFORE INSERT ON spot BEGIN UPDATE counts SET n = n + 1 WHERE what = 'spots'; END;
CREATE TRIGGER spot_less AFTER DELETE ON spot BEGIN
  UPDATE counts SET n = n - 1 WHERE what = 'spots'; DELETE FROM cache WHERE id = old.id; END;
CREATE TRIGGER spot_stamp AFTER UPDATE OF name ON spot BEGIN UPDATE spot SET seen = 'yes' WHERE id = new.id; END;
"""


def r27_rtree_caches_and_counts_are_kept(world):
    a, b, _first, _joiner = with_schema(world, "CREATE TABLE spot(id INTEGER PRIMARY KEY, name TEXT, x REAL, y REAL, seen TEXT);", LOCAL)
    a.execute("INSERT INTO spot(id, name, x, y) VALUES (1, 'here', 1, 1), (2, 'there', 8, 8), (3, 'nowhere', NULL, NULL)")
    world.level("a.db", "b.db")
    b.execute("UPDATE spot SET x = 2, y = 2, name = 'near' WHERE id = 1")
    a.execute("DELETE FROM spot WHERE id = 2")
    world.level("a.db", "b.db")
    for name, conn in ("a", a), ("b", b):
        check(rows(conn, "SELECT id FROM place WHERE x0 < 5") == [(1,)], "%s: rtree" % name)
        check(rows(conn, "SELECT count(*) FROM place") == [(1,)], "%s: rtree is the rows with a place" % name)
        check(rows(conn, "SELECT n FROM counts") == [(2,)], "%s: %s" % (name, rows(conn, "SELECT * FROM counts")))
        check(rows(conn, "SELECT id, label FROM cache ORDER BY 1") == [(1, "here"), (3, "nowhere")], "%s: %s" % (name, rows(conn, "SELECT * FROM cache")))
        check(rows(conn, "SELECT line FROM log ORDER BY id") == [("here",), ("there",), ("nowhere",)], "%s: nested" % name)
        check(rows(conn, "SELECT rowid FROM bare WHERE bare MATCH 'nowhere'") == [(3,)], "%s: contentless" % name)
        check(rows(conn, "SELECT seen FROM spot WHERE id = 1") == [("yes",)], "%s: stamp came as a row" % name)


def r27_a_trigger_that_fails_or_refuses_does_not_stop_merging(world):
    a, b, first, joiner = pair(world, "CREATE TABLE t(id TEXT PRIMARY KEY, n INTEGER); CREATE TABLE u(id TEXT PRIMARY KEY, n UNIQUE ON CONFLICT REPLACE);")
    # as an application of another version on b
    b.executescript("""
        CREATE TABLE once(n INTEGER UNIQUE);
        CREATE TRIGGER t_once AFTER INSERT ON t BEGIN INSERT INTO once VALUES (new.n); END;
        CREATE TRIGGER u_once AFTER INSERT ON u BEGIN INSERT OR IGNORE INTO once VALUES (new.n); END;
        CREATE TRIGGER t_no BEFORE INSERT ON t WHEN new.n > 100 BEGIN SELECT RAISE(ABORT, 'too much'); END;
        CREATE TRIGGER t_call AFTER INSERT ON t BEGIN INSERT INTO once SELECT function_of_the_application(new.n); END;
        """)
    a.execute("INSERT INTO t VALUES ('a', 1), ('b', 1), ('c', 200), ('d', 2)")
    a.execute("INSERT INTO u VALUES ('a', 2), ('b', 3)")
    world.level("a.db", "b.db")
    check(rows(b, "SELECT * FROM t ORDER BY 1") == [("a", 1), ("b", 1), ("c", 200), ("d", 2)], rows(b, "SELECT * FROM t"))
    check(rows(b, "SELECT * FROM u ORDER BY 1") == [("a", 2), ("b", 3)], rows(b, "SELECT * FROM u"))
    check(rows(b, "SELECT n FROM once ORDER BY 1") == [(1,), (2,), (3,), (200,)], rows(b, "SELECT * FROM once"))
    joiner.stop()
    told = "\n".join(joiner.errors)
    check("t_call" in told and "function_of_the_application" in told, "it is told: %s" % told)
    check("a trigger failed on a merged row" in told, "it is told: %s" % told)


def r27_triggers_that_come_and_go_are_noticed(world):
    schema, late = split(NOTES, "CREATE VIRTUAL")
    a, b, _first, _joiner = pair(world, schema)
    a.execute("INSERT INTO notes VALUES (1, 'early', 'word')")
    world.level("a.db", "b.db")
    b.executescript(late + "INSERT INTO fts(fts) VALUES ('rebuild');")
    a.execute("INSERT INTO notes VALUES (2, 'later', 'word')")
    world.level("a.db", "b.db")
    search_is_right(b, "word")
    b.executescript("ALTER TABLE notes ADD COLUMN extra;")
    a.execute("UPDATE notes SET body = 'text' WHERE id = 1")
    world.level("a.db", "b.db")
    search_is_right(b, "word", "text", "early")
    # a rebuild as ORMs do it: the triggers go with the old table
    b.executescript("""BEGIN; CREATE TABLE n2(id INTEGER PRIMARY KEY, title TEXT, body TEXT, extra);
        INSERT INTO n2 SELECT * FROM notes; DROP TABLE notes; ALTER TABLE n2 RENAME TO notes; COMMIT;""")
    a.execute("INSERT INTO notes VALUES (3, 'without', 'word')")
    world.level("a.db", "b.db")
    check(found(b, "without") == [], "no trigger, no entry")
    b.executescript(late[late.index("CREATE TRIGGER"):] + "INSERT INTO fts(fts) VALUES ('rebuild');")
    a.execute("INSERT INTO notes VALUES (4, 'again', 'word')")
    a.execute("DELETE FROM notes WHERE id = 3")
    world.level("a.db", "b.db")
    search_is_right(b, "word", "again", "without")


main([
    r27_search_finds_merged_rows_on_every_node,
    r27_search_follows_rows_whose_numbers_move,
    r27_rows_that_are_hidden_are_not_found,
    r27_a_trigger_into_a_replicated_table_fires_once_only,
    r27_rtree_caches_and_counts_are_kept,
    r27_a_trigger_that_fails_or_refuses_does_not_stop_merging,
    r27_triggers_that_come_and_go_are_noticed,
])
