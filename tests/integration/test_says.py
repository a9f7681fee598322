"""What p2pnode says to people and to programs: lists as text and as JSON, of a node that runs and of one
that does not; events; progress; and that what cannot be said is an error."""
import json
import os
import pty
import sqlite3
import subprocess
import time

from lib import BIN, DEADLINE, Shared, check, main

SCHEMA = """
CREATE TABLE note(id TEXT PRIMARY KEY, body TEXT);
CREATE TABLE loose(x);
INSERT INTO note VALUES ('a', 'x'), ('b', 'y');
"""


def pair(world):
    world.db("a.db", SCHEMA)
    first = Shared(world.node("share", "a.db"))
    second = world.node("join", first.ticket, "b.db")
    second.line("joined ")
    world.level("a.db", "b.db")
    return first, second


def until(world, args, done, what):
    """Asks again until the answer is as wanted; its bound is the one of all waiting."""
    end = time.monotonic() + DEADLINE
    while True:
        out = world.run(*args)[0]
        if done(out):
            return out
        check(time.monotonic() < end, "%s never came: %s" % (what, out))


def help_and_version_are_for_everybody(world):
    out = world.run("--help")[0]
    for verb in ("share", "join", "status", "verify", "unshare"):
        check("p2pnode %s" % verb in out, "%s is not in: %s" % (verb, out))
    check("Exit codes" in out, "exit codes are told")
    check(world.run("--version")[0].startswith("p2pnode "), "a version")
    check("--json" in world.run("status", "--help")[0], "common options are told, too")
    check("p2pnode share" in world.run(code=2)[0], "without words it shows what there is")


def what_cannot_be_written_is_no_success(world):
    world.db("a.db", SCHEMA)
    Shared(world.node("share", "a.db"))
    for args in (["--help"], ["status", "a.db"]):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([BIN, *args], cwd=world.dir, stdout=full, stderr=subprocess.PIPE, text=True,
                                  timeout=DEADLINE, check=False)
        check(done.returncode == 1 and "cannot write" in done.stderr,
              "%s: exit %d, %s" % (args, done.returncode, done.stderr))


def lists_are_there_as_text_and_as_json(world):
    first, _second = pair(world)
    tables = world.run("tables", "a.db")[0]
    check("note" in tables and "loose" in tables and "PRIMARY KEY" in tables, "tables: %s" % tables)
    told = {t["name"]: t["state"] for t in json.loads(world.run("tables", "a.db", "--json")[0])["tables"]}
    check(told == {"note": "live", "loose": "refused"}, "tables: %s" % told)
    members = json.loads(world.run("members", "a.db", "--json")[0])["members"]
    check(sorted(m["self"] for m in members) == [False, True], "members: %s" % members)
    check(first.node in [m["node"] for m in members], "the first is one of them: %s" % members)
    text = world.run("members", "a.db")[0]
    check(all(m["node"][:8] in text for m in members), "members: %s" % text)
    peers = json.loads(world.run("peers", "a.db", "--json")[0])["peers"]
    check(len(peers) == 1 and peers[0]["node"] != first.node, "peers: %s" % peers)
    check("online" in world.run("peers", "a.db")[0], "the peer is online")


def who_is_away_is_told_with_the_reason(world):
    first, second = pair(world)
    second.stop()
    out = until(world, ["peers", "a.db", "--json"], lambda out: "online" not in out, "that it is away")
    peer = json.loads(out)["peers"][0]
    check(peer["state"] in ("offline", "retrying", "connecting"), "state: %s" % peer)
    # and a seed where nobody ever was, at the one that starts again
    first.process.stop()
    world.node("run", "a.db", "--seed", "127.0.0.1:1").line("node ")
    out = until(world, ["peers", "a.db"], lambda out: "127.0.0.1:1 retrying" in out, "the seed")
    check("last error: " in out and "refused" in out, "why: %s" % out)
    told = json.loads(world.run("peers", "a.db", "--json")[0])["peers"]
    nobody = [p for p in told if p["node"] == ""]
    check(len(nobody) == 1 and nobody[0]["address"] == "127.0.0.1:1", "an address of nobody: %s" % told)


def a_node_that_does_not_run_is_read_from_its_files(world):
    first, second = pair(world)
    second.stop()
    first.process.stop()
    check("not running" in world.run("status", "a.db")[0], "status as text")
    check(world.status("a.db")["running"] is False, "status as JSON")
    check("note" in world.run("tables", "a.db")[0], "tables")
    check(len(json.loads(world.run("members", "a.db", "--json")[0])["members"]) == 2, "members")
    out = world.run("verify", "a.db")[0]
    check("1 changesets" in out and "2 rows" in out, "verified: %s" % out)


def damage_is_found_and_named(world):
    first, second = pair(world)
    second.stop()
    first.process.stop()
    conn = sqlite3.connect(os.path.join(world.path("a.db-p2p"), "log.db"), isolation_level=None)
    conn.execute("UPDATE changeset SET hash = zeroblob(32)")
    conn.close()
    _out, err = world.run("verify", "a.db", code=1)
    check("changeset 1 of replica" in err and "hashed" in err, "named: %s" % err)


def events_are_lines_of_json(world):
    world.db("a.db", SCHEMA)
    first = world.node("share", "a.db", "--json")
    seen = {}
    while "ticket" not in seen:
        first.line("{")
        event = json.loads(first.seen[-1])
        seen[event["event"]] = event
    check({"mesh", "node", "ticket"} <= set(seen), "first lines: %s" % list(seen))
    check(seen["node"]["address"].startswith("127.0.0.1:"), "its address: %s" % seen["node"])
    second = world.node("join", seen["ticket"]["ticket"], "b.db", "--json")
    while "joined" not in seen:
        second.line("{")
        event = json.loads(second.seen[-1])
        seen[event["event"]] = event
    check(seen["joined"]["rows"] == 2, "joined: %s" % seen["joined"])


def a_join_at_a_terminal_shows_its_progress(world):
    conn = world.db("a.db", SCHEMA)
    conn.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)"
                 " INSERT INTO note SELECT 'n' || i, 'some text' FROM n")
    first = Shared(world.node("share", "a.db"))
    ours, theirs = pty.openpty()
    joiner = subprocess.Popen([BIN, "join", first.ticket, "b.db", "--listen", "127.0.0.1:0", "--no-discovery"],
                              cwd=world.dir, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    try:
        lines = []
        while not lines or not lines[-1].startswith("joined "):
            lines.append(joiner.stdout.readline())
            check(lines[-1], "it ended: %s" % lines)
        check(lines[-1] == "joined 60002 rows\n", "all came: %s" % lines[-1])
    finally:
        joiner.terminate()
        joiner.wait(DEADLINE)
        joiner.stdout.close()
    shown = b""
    try:
        while True:
            part = os.read(ours, 65536)
            shown += part
            if not part:
                break
    except OSError:  # the end of a terminal
        pass
    os.close(ours)
    check(b"\r[" in shown and b" % " in shown and b" rows" in shown, "a bar: %r" % shown[:200])
    check(shown.rstrip().endswith(b"\x1b[K"), "which is wiped at the end: %r" % shown[-50:])


if __name__ == "__main__":
    main([help_and_version_are_for_everybody, what_cannot_be_written_is_no_success,
          lists_are_there_as_text_and_as_json, who_is_away_is_told_with_the_reason,
          a_node_that_does_not_run_is_read_from_its_files, damage_is_found_and_named,
          events_are_lines_of_json, a_join_at_a_terminal_shows_its_progress])
