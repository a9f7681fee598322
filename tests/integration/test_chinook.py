"""Three real nodes, one real database, random transactions on all at once, one node killed, another
stopped: the tables are equal at the end.

Usage: test_chinook.py [RUNS [TRANSACTIONS [SEED [HOW]]]]     needs $P2P_SHARED/data/chinook.db
HOW they meet: ticket (default): A's address is in it; seed: a ticket without addresses, A named as
seed; multicast: a ticket without addresses on hosts of their own (network namespaces, root). B and C
know nobody but A in the first two: what they write reaches the other through it.
"""
import os
import random
import shutil
import signal
import sqlite3
import sys
import threading
import time

from lan import Hosts, Lan, available
from lib import Failed, Shared, World, check, rows

SHARED = os.environ.get("P2P_SHARED", "")
SOURCE = os.path.join(SHARED, "data", "chinook.db")
RUNS = int(sys.argv[1]) if len(sys.argv) > 1 else 1
TRANSACTIONS = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
SEED = int(sys.argv[3]) if len(sys.argv) > 3 else 1
HOW = sys.argv[4] if len(sys.argv) > 4 else "ticket"

TABLES = ("Album", "Artist", "Customer", "Employee", "Genre", "Invoice", "InvoiceLine", "MediaType",
          "Playlist", "PlaylistTrack", "Track")
# Rows that all nodes write, few enough that they meet.
UPDATES = (
    ("UPDATE Track SET Composer = ?, Milliseconds = ? WHERE TrackId = ?", 150),
    ("UPDATE Customer SET Company = ?, Fax = ? WHERE CustomerId = ?", 59),
    ("UPDATE Invoice SET BillingCity = ?, Total = ? WHERE InvoiceId = ?", 150),
)


class Writer(threading.Thread):
    """An application: Python's sqlite3, and nothing of ours."""

    def __init__(self, path, name, seed):
        super().__init__(daemon=True)
        self.path, self.name, self.random = path, name, random.Random(seed)
        self.cells, self.done, self.error, self.half = [], 0, None, threading.Event()

    def update(self, conn):
        sql, keys = self.random.choice(UPDATES)
        key = self.random.randint(1, keys)
        conn.execute(sql, ("%s%d" % (self.name, self.done), self.done, key))
        table = sql.split()[1]
        self.cells += [(table, key, 0), (table, key, 1)]

    def write(self, conn):
        kind = self.random.random()
        if kind < 0.7:
            self.update(conn)
        elif kind < 0.8:
            conn.execute("INSERT INTO Artist(Name) VALUES (?)", ("%s %d" % (self.name, self.done),))
        elif kind < 0.86:
            conn.execute("INSERT OR REPLACE INTO PlaylistTrack VALUES (?, ?)",
                         (self.random.randint(1, 18), self.random.randint(1, 60)))
        elif kind < 0.92:
            conn.execute("DELETE FROM PlaylistTrack WHERE PlaylistId = ? AND TrackId = ?",
                         (self.random.randint(1, 18), self.random.randint(1, 60)))
        else:
            conn.execute("DELETE FROM InvoiceLine WHERE InvoiceLineId = ?",
                         (self.random.randint(1, 2240),))

    def run(self):
        try:
            conn = sqlite3.connect(self.path, isolation_level=None, timeout=30)
            for self.done in range(TRANSACTIONS):
                conn.execute("BEGIN IMMEDIATE")
                for _ in range(self.random.randint(1, 3)):
                    self.write(conn)
                conn.execute("COMMIT")
                if self.done == TRANSACTIONS // 3:
                    self.half.set()
            conn.close()
        except Exception as e:  # told by the main thread
            self.error = e
        self.half.set()


def conflicting(writers):
    """Cells that more than one application wrote."""
    seen, met = {}, set()
    for writer in writers:
        for cell in set(writer.cells):
            if cell in seen and seen[cell] != writer.name:
                met.add(cell)
            seen[cell] = writer.name
    return len(met)


def conflicting_writes(writers):
    """Writes of cells that another application wrote too."""
    who = {}
    for writer in writers:
        for cell in writer.cells:
            who.setdefault(cell, set()).add(writer.name)
    return sum(len(who[cell]) > 1 for writer in writers for cell in writer.cells)


def same(world, names):
    conns = [sqlite3.connect(world.path(name)) for name in names]
    for table in TABLES:
        sql = "SELECT * FROM %s ORDER BY 1, 2" % table
        first = rows(conns[0], sql)
        for name, conn in zip(names[1:], conns[1:]):
            other = rows(conn, sql)
            if first != other:
                extra = sorted(set(map(repr, first)) ^ set(map(repr, other)))[:6]
                raise Failed("%s differs between %s and %s: %s" % (table, names[0], name, extra))
    counts = [rows(conns[0], "SELECT count(*) FROM " + table)[0][0] for table in TABLES]
    for conn in conns:
        conn.close()
    return sum(counts)


class Meeting:
    """How three nodes come together."""

    def __init__(self, world):
        self.world, self.seed = world, []

    def start(self, index, *args):
        if HOW == "multicast":
            return self.world.on(index, *args)
        return self.world.node(*args, *self.seed)

    def first(self):
        process = self.start(0, "share", "a.db", "--uses", "2")
        shared = Shared(process)
        ticket = shared.ticket
        if HOW != "ticket":
            ticket = self.world.run("invite", "a.db", "--uses", "2", "--no-addresses")[0].split()[1]
        if HOW == "seed":
            self.seed = ["--seed", shared.address]
        return process, ticket


def one_run(seed):
    if HOW != "multicast":
        with World() as world:
            storm(world, seed)
        return
    lan = Lan(3)
    try:
        with Hosts(lan) as world:
            storm(world, seed)
    finally:
        lan.close()


def storm(world, seed):
    names = ("a.db", "b.db", "c.db")
    began = time.monotonic()
    shutil.copy(SOURCE, world.path("a.db"))
    os.chmod(world.path("a.db"), 0o644)
    meeting = Meeting(world)
    first, ticket = meeting.first()
    nodes = [first, None, None]
    for i in (1, 2):
        nodes[i] = meeting.start(i, "join", ticket, names[i])
        nodes[i].line("joined ")
    writers = [Writer(world.path(name), name[0], seed * 10 + i) for i, name in enumerate(names)]
    for writer in writers:
        writer.start()
    writers[1].half.wait(60)
    nodes[1].kill()  # as kill -9
    nodes[2].proc.send_signal(signal.SIGSTOP)
    writers[0].join(5)
    nodes[1] = meeting.start(1, "run", "b.db")
    nodes[1].line("node ")
    nodes[2].proc.send_signal(signal.SIGCONT)
    for writer in writers:
        writer.join(240)
        check(not writer.is_alive() and not writer.error,
              "the application on %s: %s" % (writer.path, writer.error))
    wrote = time.monotonic()
    world.level(*names)
    level = time.monotonic()
    digests = {world.status(name)["digest"] for name in names}
    check(len(digests) == 1, "digests: %s" % digests)
    total = same(world, names)
    met, writes = conflicting(writers), conflicting_writes(writers)
    check(met >= 500 if TRANSACTIONS >= 2000 else met > 0, "only %d cells met" % met)
    print("seed %d: %d rows equal, %d cells written by several nodes (%d writes of them), "
          "writing %.1f s, level after %.2f s" % (seed, total, met, writes, wrote - began, level - wrote),
          flush=True)


def main():
    if not os.path.exists(SOURCE):
        print("needs P2P_SHARED with data/chinook.db: skipped")
        return 77
    why_not = available() if HOW == "multicast" else None
    if why_not:
        print("%s: skipped" % why_not)
        return 77
    for run in range(RUNS):
        try:
            one_run(SEED + run)
        except Failed as e:
            print("FAIL seed %d: %s" % (SEED + run, e))
            return 1
    print("%d runs of %d, met by %s" % (RUNS, RUNS, HOW))
    return 0


sys.exit(main())
