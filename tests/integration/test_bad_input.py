"""What people and strangers do wrong: each with its exit code and a text that helps; the node lives
on whatever arrives on its port."""
import base64
import os
import socket
import sqlite3
import stat
import time

from lib import Shared, check, main

SCHEMA = "CREATE TABLE note(id TEXT PRIMARY KEY, body TEXT); INSERT INTO note VALUES ('a', 'x');"


def says(err, *words):
    lines = err.strip().splitlines()
    check(lines and lines[0].startswith("p2pnode: "), "one line 'p2pnode: what: why': %s" % err)
    for word in words:
        check(word in err, "'%s' is not in: %s" % (word, err))


def usage_errors_exit_two_with_a_suggestion(world):
    says(world.run("shrae", "a.db", code=2)[1], "share")
    says(world.run("status", "a.db", "--jsno", code=2)[1], "--json")
    says(world.run("status", code=2)[1], "usage")
    out, _err = world.run("share", "--help")
    check("--expires" in out, "help names the options")


def files_that_cannot_be_shared(world):
    says(world.run("share", "missing.db", code=1)[1], "missing.db", "no such file")
    with open(world.path("text.db"), "w", encoding="utf-8") as file:
        file.write("this is no database, but long enough to be looked at " * 100)
    says(world.run("share", "text.db", "--listen", "127.0.0.1:0", code=1)[1], "text.db", "SQLite")
    check(not os.path.exists(world.path("text.db-p2p")), "nothing is left behind")
    says(world.run("run", "missing.db", code=1)[1], "missing.db")
    world.db("plain.db", SCHEMA)
    says(world.run("run", "plain.db", code=1)[1], "in no mesh")
    says(world.run("status", "plain.db", code=1)[1], "in no mesh")
    says(world.run("wait", "plain.db", code=3)[1], "no node runs")
    says(world.run("invite", "plain.db", code=3)[1], "no node runs")


def a_read_only_file_is_refused(world):
    if os.geteuid() == 0:
        print("     (as root nothing is read-only: skipped)")
        return
    world.db("a.db", SCHEMA).close()
    os.chmod(world.path("a.db"), stat.S_IRUSR)
    says(world.run("share", "a.db", "--listen", "127.0.0.1:0", code=5)[1], "read-only")


def a_table_without_a_key_is_refused_by_name_and_skipped_otherwise(world):
    world.db("a.db", SCHEMA + "CREATE TABLE loose(x)")
    _out, err = world.run("share", "a.db", "--table", "loose", "--listen", "127.0.0.1:0", code=5)
    says(err, "loose", "PRIMARY KEY")
    says(world.run("share", "a.db", "--table", "nope", "--listen", "127.0.0.1:0", code=1)[1], "nope")
    Shared(world.node("share", "a.db"))
    tables = {t["name"]: t for t in world.status("a.db")["tables"]}
    check(tables["loose"]["state"] == "refused" and "PRIMARY KEY" in tables["loose"]["reason"],
          "the reason is shown: %s" % tables)


def a_rollback_journal_is_switched_and_told(world):
    conn = sqlite3.connect(world.path("a.db"))
    conn.executescript(SCHEMA)
    conn.close()
    shared = Shared(world.node("share", "a.db"))
    err = shared.process.stop()
    check("WAL" in err, "told: %s" % err)
    conn = sqlite3.connect(world.path("a.db"))
    check(conn.execute("PRAGMA journal_mode").fetchone()[0] == "wal", "switched")


def a_locked_database_is_temporary(world):
    conn = sqlite3.connect(world.path("a.db"), isolation_level=None)
    conn.executescript(SCHEMA)
    conn.execute("BEGIN EXCLUSIVE")
    says(world.run("share", "a.db", "--listen", "127.0.0.1:0", code=75)[1], "lock")
    conn.execute("COMMIT")
    Shared(world.node("share", "a.db"))


def the_port_is_in_use(world):
    world.db("a.db", SCHEMA)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        _out, err = world.run("share", "a.db", "--listen", address, "--no-discovery", code=1)
    says(err, address, "in use", "--listen")
    says(world.run("share", "a.db", "--listen", "nonsense", code=2)[1], "nonsense")


def a_second_node_names_the_first_ones_pid(world):
    world.db("a.db", SCHEMA)
    shared = Shared(world.node("share", "a.db"))
    pid = "pid %d" % shared.process.proc.pid
    args = ["--listen", "127.0.0.1:0", "--no-discovery"]
    says(world.run("run", "a.db", *args, code=5)[1], pid)
    says(world.run("run", "a.db", "--state", world.path("other"), *args, code=1)[1], "in no mesh")
    os.mkdir(world.path("other"))
    says(world.run("run", "a.db", "--state", world.path("other"), *args, code=5)[1], pid)
    says(world.run("share", "a.db", *args, code=5)[1], pid)


def tickets_that_are_wrong(world):
    world.db("a.db", SCHEMA)
    shared = Shared(world.node("share", "a.db"))
    typo = shared.ticket[:40] + ("a" if shared.ticket[40] != "a" else "b") + shared.ticket[41:]
    args = ["--listen", "127.0.0.1:0", "--no-discovery"]
    says(world.run("join", typo, "b.db", *args, code=2)[1], "checksum")
    says(world.run("join", shared.ticket[:-9], "b.db", *args, code=2)[1], "ticket")
    says(world.run("join", "7-otter-marble-482", "b.db", *args, code=2)[1], "code")
    says(world.run("join", "hello", "b.db", *args, code=2)[1], "not a ticket")
    check(not os.path.exists(world.path("b.db")), "nothing was made")
    own = world.db("c.db", "CREATE TABLE mine(id TEXT PRIMARY KEY); INSERT INTO mine VALUES (1)")
    _out, err = world.run("join", shared.ticket, "c.db", *args, code=5)
    says(err, "--merge", "--replace")
    check(own.execute("SELECT count(*) FROM mine").fetchone() == (1,), "untouched")


def a_ticket_of_another_mesh(world):
    world.db("a.db", SCHEMA)
    world.db("b.db", SCHEMA)
    one = Shared(world.node("share", "a.db"))
    two = Shared(world.node("share", "b.db"))
    two.process.stop()
    args = ["--listen", "127.0.0.1:0", "--no-discovery"]
    says(world.run("join", one.ticket, "b.db", *args, code=5)[1], "another mesh")


def a_ticket_that_is_used_up_or_expired(world):
    world.db("a.db", SCHEMA)
    shared = Shared(world.node("share", "a.db"))
    first = world.node("join", shared.ticket, "b.db")
    first.line("joined ")
    second = world.node("join", shared.ticket, "c.db")
    says(second.ended(5), "used up")
    first.stop()
    repeated = world.node("join", shared.ticket, "b.db")  # the same node may
    repeated.line("joined ")
    out, _err = world.run("invite", "a.db", "--uses", "9", "--expires", "1s")
    ticket = out.split(" ", 1)[1].strip()
    expires = int.from_bytes(base64.b32decode(ticket[4:].upper() + "=" * (-(len(ticket) - 4) % 8))
                             [98:102], "big")
    while time.time() <= expires:
        time.sleep(max(0, expires - time.time()) + 0.001)  # the clock itself is what is tested
    says(world.node("join", ticket, "e.db").ended(5), "expired")


def strangers_on_the_port_cost_nothing(world):
    world.db("a.db", SCHEMA)
    shared = Shared(world.node("share", "a.db"))
    address = ("127.0.0.1", shared.port)
    open_sockets = []
    for junk in (b"", b"\x00", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 70000, os.urandom(5000)):
        conn = socket.create_connection(address)
        open_sockets.append(conn)
        try:
            conn.sendall(junk)
        except OSError:
            pass  # it was closed while we wrote: what we wanted
    for conn in open_sockets[1:]:
        conn.settimeout(30)
        try:
            got = conn.recv(1)
        except ConnectionError:
            got = b""
        check(got == b"", "a stranger got an answer: %r" % got)
    slow = socket.create_connection(address)
    slow.sendall(b"\x01")  # and nothing more
    joiner = world.node("join", shared.ticket, "b.db")
    joiner.line("joined ")
    world.level("a.db", "b.db")
    for conn in open_sockets + [slow]:
        conn.close()


def garbage_on_the_control_socket_costs_nothing(world):
    world.db("a.db", SCHEMA)
    Shared(world.node("share", "a.db"))
    path = os.path.join(world.path("a.db-p2p"), "control")
    check(stat.S_IMODE(os.stat(path).st_mode) == 0o600, "the socket is private")
    check(stat.S_IMODE(os.stat(world.path("a.db-p2p")).st_mode) == 0o700, "the directory too")
    silent = []
    for _i in range(40):
        conn = socket.socket(socket.AF_UNIX)
        try:
            conn.connect(path)
        except OSError:
            pass  # more than it takes: refused
        silent.append(conn)
    for conn in silent:
        conn.close()
    for junk in (b"nonsense\n", b"status\n", b"\n", b"\t\t\t\n", b"wait\tx\n", os.urandom(100) + b"\n",
                 b"x" * 100000):
        conn = socket.socket(socket.AF_UNIX)
        conn.settimeout(30)
        conn.connect(path)
        try:
            conn.sendall(junk)
            answer = conn.recv(100)
        except OSError:
            answer = b""
        check(not answer.startswith(b"ok"), "%r was taken: %r" % (junk[:20], answer))
        conn.close()
    world.status("a.db")


def a_state_path_longer_than_a_socket_name_works(world):
    world.db("a.db", SCHEMA)
    deep = world.path("/".join(["deep" * 10] * 4))
    os.makedirs(deep)
    state = os.path.join(deep, "state")
    first = world.node("share", "a.db", "--state", state)
    Shared(first)
    check(world.status("a.db")["running"] is True, "found without --state")
    world.run("status", "a.db", "--state", state)
    first.stop()


def what_waits_for_a_later_version_says_so(world):
    world.db("a.db", SCHEMA)
    for args in (["revoke", "a.db", "x"],
                 ["snapshot", "a.db", "f"], ["bench"]):
        says(world.run(*args, code=1)[1], "later version")


if __name__ == "__main__":
    main([usage_errors_exit_two_with_a_suggestion, files_that_cannot_be_shared,
          a_read_only_file_is_refused, a_table_without_a_key_is_refused_by_name_and_skipped_otherwise,
          a_rollback_journal_is_switched_and_told, a_locked_database_is_temporary,
          the_port_is_in_use, a_second_node_names_the_first_ones_pid, tickets_that_are_wrong,
          a_ticket_of_another_mesh, a_ticket_that_is_used_up_or_expired,
          strangers_on_the_port_cost_nothing, garbage_on_the_control_socket_costs_nothing,
          a_state_path_longer_than_a_socket_name_works, what_waits_for_a_later_version_says_so])
