"""An application that works in the same file hardly notices the node: its deferred transactions,
which read first and write later, must not fail because remote changes were merged in between.

Usage: test_beside.py [SECONDS]
"""
import os
import sqlite3
import sys
import threading
import time

from lib import Shared, check, main

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 6.0
SCHEMA = """
CREATE TABLE account(id TEXT PRIMARY KEY, balance INTEGER);
CREATE TABLE other(id INTEGER PRIMARY KEY, n INTEGER);
INSERT INTO account VALUES ('a', 0), ('b', 0);
"""


class Other(threading.Thread):
    """Commits 100 times a second on the other node."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path, self.ended, self.commits = path, threading.Event(), 0

    def run(self):
        conn = sqlite3.connect(self.path, isolation_level=None, timeout=20)
        while not self.ended.wait(0.01):
            conn.execute("INSERT INTO other(n) VALUES (?)", (self.commits,))
            self.commits += 1
        conn.close()


def application(path, pause):
    """(transactions, failures) of a loop BEGIN, SELECT, 5 ms, UPDATE, COMMIT, pause."""
    conn = sqlite3.connect(path, isolation_level=None, timeout=5)
    done = failed = 0
    tick = threading.Event()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        done += 1
        try:
            conn.execute("BEGIN")
            conn.execute("SELECT balance FROM account WHERE id = 'a'").fetchone()
            tick.wait(0.005)
            conn.execute("UPDATE account SET balance = balance + 1 WHERE id = 'a'")
            conn.execute("COMMIT")
        except sqlite3.OperationalError:
            failed += 1
            if conn.in_transaction:
                conn.execute("ROLLBACK")
        if pause:
            tick.wait(pause)
    total = conn.execute("SELECT balance FROM account WHERE id = 'a'").fetchone()[0]
    check(total == done - failed, "what was committed is there: %d of %d" % (total, done - failed))
    conn.close()
    return done, failed


def beside(world, pause, percent):
    world.db("a.db", SCHEMA).close()
    first = Shared(world.node("share", "a.db"))
    world.node("join", first.ticket, "b.db").line("joined ")
    other = Other(world.path("b.db"))
    other.start()
    done, failed = application(world.path("a.db"), pause)
    other.ended.set()
    other.join(20)
    world.level("a.db", "b.db")
    arrived = sqlite3.connect(world.path("a.db")).execute("SELECT count(*) FROM other").fetchone()[0]
    print("     pause %d ms: %d transactions, %d failed (%.2f %%) beside %d remote commits"
          % (pause * 1000, done, failed, 100.0 * failed / done, other.commits))
    check(arrived == other.commits, "all remote rows arrived: %d of %d" % (arrived, other.commits))
    check(failed <= done * percent / 100.0 or os.environ.get("P2PNODE_SANITIZE"),
          "%d of %d failed, at most %s %%" % (failed, done, percent))


def an_application_that_pauses_fails_under_one_percent(world):
    beside(world, 0.020, 1)


def one_that_never_pauses_fails_under_two_percent(world):
    beside(world, 0, 2)


def without_peers_nothing_fails(world):
    world.db("a.db", SCHEMA).close()
    Shared(world.node("share", "a.db"))
    done, failed = application(world.path("a.db"), 0)
    print("     alone: %d transactions, %d failed" % (done, failed))
    check(failed == 0 or os.environ.get("P2PNODE_SANITIZE"), "%d of %d failed" % (failed, done))


main([an_application_that_pauses_fails_under_one_percent,
      one_that_never_pauses_fails_under_two_percent, without_peers_nothing_fails])
