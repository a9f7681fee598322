"""Share, join, live both ways, restarts, kill -9: with real processes and plain sqlite3 writers."""
import signal

from lib import Shared, check, main, rows

SCHEMA = """
CREATE TABLE note(id TEXT PRIMARY KEY, body TEXT, n INTEGER);
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT);
CREATE VIEW v AS SELECT * FROM note;
INSERT INTO note VALUES ('a', 'first', 1), ('b', NULL, -5);
INSERT INTO item(name) VALUES ('one'), ('two'), ('three');
"""


def pair(world):
    """A shared database and a joined copy, both live."""
    a = world.db("a.db", SCHEMA)
    first = Shared(world.node("share", "a.db"))
    second = world.node("join", first.ticket, "b.db")
    check(second.line("mesh ") == first.mesh, "the joiner prints the same mesh")
    second.line("node ")
    joined = second.line("joined ")
    check(joined == "5 rows", "joined %s" % joined)
    return a, world.db("b.db"), first, second


def same(a, b):
    for table in ("note", "item"):
        sql = "SELECT * FROM %s ORDER BY 1" % table
        check(rows(a, sql) == rows(b, sql), "%s differs: %s %s" % (table, rows(a, sql), rows(b, sql)))


def join_copies_and_both_sides_are_live(world):
    a, b, _first, _second = pair(world)
    same(a, b)
    a.execute("INSERT INTO note VALUES ('c', 'from a', 3)")
    world.level("a.db", "b.db")
    same(a, b)
    b.execute("UPDATE note SET body='from b' WHERE id='a'")
    b.execute("DELETE FROM note WHERE id='b'")
    world.level("a.db", "b.db")
    same(a, b)
    check(rows(a, "SELECT body FROM note WHERE id='a'") == [("from b",)], "b's update is at a")
    for db in ("a.db", "b.db"):
        world.run("verify", db)


def status_has_the_keys_of_the_contract(world):
    pair(world)
    world.level("a.db", "b.db")
    status = world.status("a.db")
    keys = ["schema", "running", "pid", "version", "mesh", "node", "name", "replica", "listen",
            "in_sync", "waiting", "digest", "seq", "journal", "parked", "conflicts", "tables",
            "peers"]
    check([key for key in status if key in keys] == keys, "keys: %s" % list(status))
    check(status["schema"] == 1 and status["running"] is True, "schema and running")
    check(status["in_sync"] is True, "in sync: %s" % status)
    peer = status["peers"][0]
    check(set(peer) >= {"node", "name", "address", "link", "state", "behind", "ahead", "acked_seq",
                        "rtt_ms", "last_error"}, "keys of a peer: %s" % peer)
    check(peer["state"] == "online" and peer["link"] == "tcp", "peer: %s" % peer)
    tables = {table["name"]: table for table in status["tables"]}
    check(tables["note"]["identity"] == "key" and tables["note"]["rows"] == 2, "note: %s" % tables)
    check(tables["item"]["identity"] == "generated", "item: %s" % tables)
    check(tables["v"]["state"] == "refused" and tables["v"]["reason"], "view: %s" % tables)


def sigterm_ends_in_order_and_run_goes_on(world):
    a, b, first, second = pair(world)
    world.level("a.db", "b.db")
    second.stop()
    a.execute("INSERT INTO note VALUES ('while', 'b is away', 1)")
    b.execute("INSERT INTO item(name) VALUES ('while a cannot see')")
    check(world.status("b.db")["running"] is False, "b does not run")
    again = world.node("run", "b.db")
    check(again.line("mesh ") == first.mesh, "run prints the mesh")
    again.line("node ")
    world.level("a.db", "b.db")
    same(a, b)
    again.stop(signal.SIGINT)
    first.process.stop()


def kill_nine_on_either_side_loses_nothing(world):
    a, b, first, second = pair(world)
    for i in range(20):
        a.execute("INSERT INTO note VALUES (?, 'x', ?)", ("a%d" % i, i))
        b.execute("INSERT INTO note VALUES (?, 'y', ?)", ("b%d" % i, i))
    second.kill()
    first.process.kill()
    b.execute("UPDATE note SET n=100 WHERE id='a'")
    port = str(first.port)
    third = world.start("run", "a.db", "--listen", "127.0.0.1:" + port, "--no-discovery")
    third.line("node ")
    fourth = world.node("run", "b.db")
    fourth.line("node ")
    world.level("a.db", "b.db")
    same(a, b)
    check(rows(a, "SELECT count(*) FROM note") == [(42,)], "all rows are there")
    for db in ("a.db", "b.db"):
        world.run("verify", db)


def a_third_node_joins_and_all_are_connected_through_the_first(world):
    a, b, first, _second = pair(world)
    ticket = world.run("invite", "a.db", "--uses", "2", "--expires", "1h")[0].split(" ", 1)[1].strip()
    third = world.node("join", ticket, "c.db")
    third.line("joined ")
    c = world.db("c.db")
    b.execute("INSERT INTO note VALUES ('far', 'from b to c', 9)")
    world.level("a.db", "b.db", "c.db")
    same(a, c)
    same(a, b)
    members = world.run("members", "c.db")[0].splitlines()
    check(len(members) == 3, "members: %s" % members)
    check(first.node in members[0] and "admin" in members[0], "the founder is admin: %s" % members)


def wait_times_out_with_exit_four_without_peers(world):
    world.db("a.db", SCHEMA)
    Shared(world.node("share", "a.db"))
    _out, err = world.run("wait", "a.db", "--timeout", "0.2", code=4)
    check("peers" in err, "says why: %s" % err)


def share_again_gives_a_fresh_ticket(world):
    world.db("a.db", SCHEMA)
    first = Shared(world.node("share", "a.db"))
    first.process.stop()
    again = Shared(world.node("share", "a.db"))
    check(again.mesh == first.mesh and again.node == first.node, "same mesh, same node")
    check(again.ticket != first.ticket, "fresh ticket")


def unshare_leaves_a_plain_file(world):
    a, b, first, second = pair(world)
    second.stop()
    _out, err = world.run("unshare", "a.db", code=5)
    check("pid" in err, "a running node is in the way: %s" % err)
    first.process.stop()
    before = rows(a, "SELECT * FROM note ORDER BY 1")
    world.run("unshare", "a.db")
    names = rows(a, "SELECT name FROM sqlite_schema WHERE name LIKE 'p2p%'")
    check(names == [], "left: %s" % names)
    check(rows(a, "SELECT * FROM note ORDER BY 1") == before, "rows stay")
    world.run("status", "a.db", code=1)


def tables_can_be_chosen_and_changed(world):
    world.db("a.db", SCHEMA)
    first = Shared(world.node("share", "a.db", "--table", "note"))
    status = world.status("a.db")
    check([t["name"] for t in status["tables"] if t["state"] == "live"] == ["note"], "only note")
    world.run("enable", "a.db", "item")
    names = [t["name"] for t in world.status("a.db")["tables"] if t["state"] == "live"]
    check(sorted(names) == ["item", "note"], "both: %s" % names)
    world.run("disable", "a.db", "item")
    _out, err = world.run("enable", "a.db", "v", code=5)
    check("v" in err, "a view is refused: %s" % err)
    world.run("rescan", "a.db", "note")
    first.process.stop()


if __name__ == "__main__":
    main([join_copies_and_both_sides_are_live, status_has_the_keys_of_the_contract,
          sigterm_ends_in_order_and_run_goes_on, kill_nine_on_either_side_loses_nothing,
          a_third_node_joins_and_all_are_connected_through_the_first,
          wait_times_out_with_exit_four_without_peers, share_again_gives_a_fresh_ticket,
          unshare_leaves_a_plain_file, tables_can_be_chosen_and_changed])
