"""The library embedded: the C example and the ctypes example, in one mesh with the program."""
import json
import os
import re
import subprocess
import sys

from lib import BIN, Shared, check, main, rows

SCHEMA = """
CREATE TABLE note(id TEXT PRIMARY KEY, body TEXT);
INSERT INTO note VALUES ('a', 'first'), ('b', 'second');
"""
EMBED = os.environ["P2PNODE_EMBED"]
CTYPES = os.environ["P2PNODE_CTYPES"]


def event(process, name):
    while True:
        found = json.loads(process.line("event "))
        if found["event"] == name:
            return found


def finish(process):
    process.proc.stdin.close()
    process.ended(0)


def the_embed_example_joins_the_program(world):
    a = world.db("a.db", SCHEMA)
    shared = Shared(world.node("share", "a.db"))
    embed = world.spawn([EMBED, "b.db", shared.ticket])
    check(event(embed, "joined")["rows"] == 2, "two rows")
    b = world.db("b.db")
    a.execute("INSERT INTO note VALUES ('c', 'third')")
    world.level("a.db", "b.db")  # the control socket works in an embedded node too
    check(rows(b, "SELECT count(*) FROM note") == [(3,)], "three rows")
    embed.proc.stdin.write("\n")
    embed.proc.stdin.flush()
    status = json.loads(embed.line("status "))
    check(status["schema"] == 1 and status["in_sync"], "status: %s" % status)
    finish(embed)


def the_program_joins_the_embed_example(world):
    world.db("a.db", SCHEMA)
    embed = world.spawn([EMBED, "a.db"])
    ticket = embed.line("ticket ")
    os.mkdir(world.path("there"))
    joiner = world.spawn([BIN, "join", ticket, "--listen", "127.0.0.1:0", "--no-discovery"],
                         cwd=world.path("there"))
    joiner.line("joined 2")
    check(os.path.exists(world.path("there/a.db")), "the default name is the mesh's")
    finish(embed)


def the_ctypes_example_shares_and_joins(world):
    if os.environ.get("P2PNODE_SANITIZE"):
        print("     (the library needs the sanitizer's own interpreter: skipped)")
        return
    a = world.db("a.db", SCHEMA)
    first = world.spawn([sys.executable, CTYPES, "a.db"])
    ticket = first.line("ticket ")
    second = world.spawn([sys.executable, CTYPES, "b.db", ticket])
    event(second, "joined")
    b = world.db("b.db")
    b.execute("UPDATE note SET body='from b' WHERE id='a'")
    world.level("a.db", "b.db")
    check(rows(a, "SELECT body FROM note WHERE id='a'") == [("from b",)], "b's update is at a")
    digests = []
    for process in (first, second):
        process.proc.stdin.write("\n")
        process.proc.stdin.flush()
        digests.append(process.line("digest "))
    check(digests[0] == digests[1], "digests: %s" % digests)
    finish(second)
    finish(first)


def only_the_public_functions_are_exported(_world):
    lines = subprocess.run(["nm", "-D", "--defined-only", os.environ["P2PNODE_LIB"]], check=True,
                           capture_output=True, text=True).stdout.splitlines()
    names = [line.split()[-1].split("@")[0] for line in lines]
    with open(os.environ["P2PNODE_HEADER"], encoding="utf-8") as file:
        public = set(re.findall(r"^P2P_API[^(]*?(p2p_node_\w+)\(", file.read(), re.M))
    check(len(public) > 10, "the header is read: %s" % public)
    instruments = {"mangle_path"}  # libgcov's; its others, and the sanitizers', are told by their form
    ours = {name for name in names if "san" not in name and not name.startswith("__")} - instruments
    check(ours == public, "exported, not public: %s; public, not exported: %s"
          % (ours - public, public - ours))


def a_second_node_in_the_same_file_is_refused_to_the_library(world):
    world.db("a.db", SCHEMA)
    shared = Shared(world.node("share", "a.db"))
    embed = world.spawn([EMBED, "a.db"])
    err = embed.ended(1)
    check("pid %d" % shared.process.proc.pid in err, "the pid is named: %s" % err)


if __name__ == "__main__":
    main([the_embed_example_joins_the_program, the_program_joins_the_embed_example,
          the_ctypes_example_shares_and_joins,
          only_the_public_functions_are_exported,
          a_second_node_in_the_same_file_is_refused_to_the_library])
