"""Two real processes: latency from commit to visible, catch-up, bytes, what an idle node costs.

Usage: processes.py [ROWS]   prints a table
"""
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration"))
from lib import Shared, World  # noqa: E402

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 100000
SCHEMA = "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, price REAL, note TEXT)"
INSERT = "INSERT INTO item VALUES(?, ?, ?, 'a note of ordinary length')"


def cpu_and_rss(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    with open("/proc/%d/status" % pid) as f:
        rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), rss / 1024


def sent_bytes(port):
    """Bytes that TCP connections of a listening port have sent, as the kernel counts them."""
    text = subprocess.run(["ss", "-tinH", "sport = :%d" % port], capture_output=True, text=True, check=True).stdout
    return sum(int(n) for n in re.findall(r"bytes_sent:(\d+)", text))


class Reader(threading.Thread):
    """Notes when a row becomes visible in the other file."""

    def __init__(self, path, last):
        super().__init__(daemon=True)
        self.path, self.last, self.seen = path, last, {}

    def run(self):
        conn = sqlite3.connect(self.path, isolation_level=None, timeout=20)
        top = conn.execute("SELECT max(id) FROM item").fetchone()[0] or 0
        pause = threading.Event()
        while top < self.last:
            # one that never pauses would itself keep the node waiting for a moment without readers
            pause.wait(0.0003)
            now = conn.execute("SELECT max(id) FROM item").fetchone()[0] or 0
            if now != top:
                at = time.perf_counter()
                for number in range(top + 1, now + 1):
                    self.seen[number] = at
                top = now


def latency(world, conn, first, count):
    reader = Reader(world.path("b.db"), first + count - 1)
    reader.start()
    written, tick = {}, threading.Event()
    for number in range(first, first + count):
        conn.execute(INSERT, (number, "live", 1.0))
        written[number] = time.perf_counter()
        tick.wait(0.02)
    reader.join(60)
    ms = sorted((reader.seen[n] - written[n]) * 1000 for n in written if n in reader.seen)
    return statistics.median(ms), ms[int(len(ms) * 0.99)], len(ms)


def main():
    with World() as world:
        a = world.db("a.db", SCHEMA)
        share = world.node("share", "a.db")
        first = Shared(share)
        join = world.node("join", first.ticket, "b.db")
        join.line("joined ")
        p50, p99, count = latency(world, a, 1, 500)
        print("commit to visible, two processes on loopback: p50 %.2f ms, p99 %.2f ms (%d commits, 20 ms apart)"
              % (p50, p99, count))
        before = [cpu_and_rss(p.proc.pid) for p in (share, join)]
        threading.Event().wait(10)
        after = [cpu_and_rss(p.proc.pid) for p in (share, join)]
        print("idle for 10 s, one peer: %.2f %% of a processor, %.1f MiB resident"
              % (10 * (after[0][0] - before[0][0]), after[0][1]))
        join.stop()
        a.execute("BEGIN")
        a.executemany(INSERT, ((1000 + i, "item %d" % i, i / 10.0) for i in range(ROWS)))
        a.execute("COMMIT")
        began = time.perf_counter()
        join = world.node("run", "b.db")
        join.line("node ")
        vector = world.run("vector", "a.db")[0].strip()
        world.run("wait", "b.db", "--for", vector, "--timeout", "120")
        took = time.perf_counter() - began
        world.level("a.db", "b.db")
        wire = sent_bytes(first.port)
        log = os.path.getsize(world.path("b.db-p2p/log.db")) + os.path.getsize(world.path("b.db-p2p/log.db-wal"))
        print("catch-up of %d rows in one transaction: %.2f s, %.0f rows/s from start to merged"
              % (ROWS, took, ROWS / took))
        files = os.path.getsize(world.path("b.db")), log
        print("bytes a row: %.0f on the wire, %.0f in the joiner's database, %.0f in its log; resident after it %.0f MiB"
              % (wire / ROWS, files[0] / ROWS, files[1] / ROWS, cpu_and_rss(join.proc.pid)[1]))


main()
