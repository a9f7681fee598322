"""Nodes and applications as processes that are killed, and what must hold afterwards.

What is checked, on every node, at rest:
  nothing that an application was told to be committed is missing: the rows of `ledger` of each run of
    each application are 1..n without a hole, n at least the last acknowledged and at most one more;
  what such an application wrote or deleted in its own rows is what is there (`own`);
  two columns that every transaction writes together are never torn (`shared`);
  PRAGMA integrity_check of the database and of log.db; `p2pnode verify`;
  all databases are equal row by row, with equal digests;
  no (replica, seq) ever had two contents, in any log at any time, and no hole is under a head.
"""
import json
import os
import queue
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
os.environ.setdefault("P2PNODE_BIN", os.path.join(ROOT, "build", "node", "p2pnode"))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))
import lib  # noqa: E402
from application import SCHEMA  # noqa: E402
from lib import Failed, Process, Shared, World, check, rows  # noqa: E402, F401

# What is killed loses nothing that the kernel holds: memory will do, and disks are left to others.
if os.path.isdir("/dev/shm") and os.access("/dev/shm", os.W_OK):
    tempfile.tempdir = "/dev/shm"
TABLES = ("ledger", "own", "shared", "item")
APPLICATION = os.path.join(HERE, "application.py")
SEQ_BITS = 40  # changeset.id in log.db: number of the replica above, seq below
PYTHON = "/usr/bin/python3"


class Application:
    """One run of application.py; what it said to be committed."""

    def __init__(self, site, run, env=None):
        self.run, self.acked, self.errors = run, 0, []
        argv = [PYTHON, "-B", APPLICATION, site.db, site.name, str(run), str(site.seed), str(site.pause_ms)]
        self.process = Process(site.prefix + argv, site.folder, env, stdin=lib.subprocess.PIPE)

    def take(self, line):
        word, text = line.split(" ", 1)
        if word == "error":
            self.errors.append(text)
        else:
            self.acked = max(self.acked, int(text))
        return word

    def alive(self):
        return self.process.proc.poll() is None

    def tell(self, text):
        try:
            self.process.proc.stdin.write(text + "\n")
            self.process.proc.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # it was killed; that is seen elsewhere

    def hear(self, word):
        """Takes its lines until one begins with word."""
        end = time.monotonic() + lib.DEADLINE
        while True:
            check(time.monotonic() < end, "%s: it never said '%s'" % (self.process.argv[-5:], word))
            line = self.process.line()
            if self.take(line) == word:
                return

    def pause(self):
        self.tell("pause")
        self.hear("paused")

    def drain(self):
        """Takes what it said so far."""
        while True:
            try:
                line = self.process.lines.get_nowait()
            except queue.Empty:
                return
            if line is not None:
                self.take(line)

    def kill(self):
        """kill -9; then takes what it had said until then."""
        self.process.kill()
        for reader in self.process.readers:
            reader.join(10)
        self.process.proc.stdin.close()
        self.drain()
        self.process.proc.stdout.close()
        self.process.proc.stderr.close()
        return self.acked


class Site:
    """A place with a database: its node, its application, and what was acknowledged there."""

    def __init__(self, world, name, folder, **options):
        self.world, self.name, self.folder = world, name, folder
        self.db = os.path.join(folder, name + ".db")
        self.prefix = options.get("prefix", [])  # a command that the programs are started by
        self.arguments = options.get("arguments", [])
        self.env = options.get("env")
        self.seed, self.pause_ms = options.get("seed", 0), options.get("pause_ms", 5)
        self.node = self.application = None
        self.acked, self.replicas = {}, []

    # --- the node ---------------------------------------------------------------------------------

    def start(self, verb, *args):
        """Starts its node without waiting for it."""
        argv = self.prefix + [lib.BIN, verb, *args, "--name", self.name, "--log-level", "warn"]
        self.node = Process(argv + self.arguments, self.folder, self.env)
        self.world.processes.append(self.node)
        return self.node

    def run(self):
        return self.start("run", self.db)

    def up(self):
        """Waits until the node listens."""
        if "node " not in " ".join(self.node.seen):
            self.node.line("node ")

    def kill(self):
        """kill -9 of the node, whatever it does."""
        self.node.kill()
        self.world.processes.remove(self.node)
        for reader in self.node.readers:
            reader.join(10)
        self.node.proc.stdout.close()
        self.node.proc.stderr.close()

    # --- the application --------------------------------------------------------------------------

    def write(self):
        self.application = Application(self, len(self.acked) + 1, self.env)
        self.acked[self.application.run] = 0
        self.world.processes.append(self.application.process)

    def kill_application(self):
        self.acked[self.application.run] = self.application.kill()
        self.world.processes.remove(self.application.process)
        self.application = None

    def pause(self):
        if self.application:
            self.application.pause()
            self.acked[self.application.run] = self.application.acked

    def go(self):
        if self.application:
            self.application.tell("go")

    def commits(self):
        if self.application:
            self.application.drain()
            self.acked[self.application.run] = self.application.acked
        return sum(self.acked.values())

    # --- questions --------------------------------------------------------------------------------

    def ask(self, *args, code=0, deadline=None):
        done = lib.subprocess.run([lib.BIN, *args], cwd=self.folder, capture_output=True, text=True,
                                  timeout=deadline or lib.DEADLINE + 10, check=False)
        check(done.returncode == code or code == (0, 4) and done.returncode in code, "%s: p2pnode %s: exit %s; out %s; errors %s; its node (exit %s): %s"
              % (self.name, " ".join(args), done.returncode, done.stdout, done.stderr, self.node.proc.poll(),
                 self.node.errors[-5:]))
        return done.stdout

    def status(self):
        return json.loads(self.ask("status", self.db, "--json"))

    def connect(self, name=None):
        """For reading only what is there."""
        return sqlite3.connect(name or self.db, isolation_level=None, timeout=30)

    def log(self):
        return os.path.join(self.folder, self.name + ".db-p2p", "log.db")

    def close(self):
        for process in (self.node, self.application and self.application.process):
            if process and process.proc.poll() is None:
                process.kill()


# --- level ----------------------------------------------------------------------------------------


def level_now(sites, told=False):
    """Why they are not all the same; with told: or do not all say so. Empty: they are."""
    states = [site.status() for site in sites]
    busy = ["%s: journal %d, waiting %d, to merge %s %s" % (site.name, s["journal"], s["waiting"], s["merge_pending"],
                                                             s["last_error"])
            for site, s in zip(sites, states) if s["journal"] or s["waiting"] or s["merge_pending"]]
    if told:
        busy += ["%s is not in sync: %s" % (site.name, [(p["name"], p["state"], p["last_error"]) for p in s["peers"]])
                 for site, s in zip(sites, states) if not s["in_sync"]]
    digests = {site.name: s["digest"][:8] for site, s in zip(sites, states)}
    return busy if len(set(digests.values())) == 1 else busy + ["digests %s" % digests]


def level(sites, seconds=None):
    """Waits until all are equal and none has work left; the seconds that it took."""
    began = time.monotonic()
    end = began + (seconds or lib.DEADLINE)
    turn = 0
    while level_now(sites):
        left = end - time.monotonic()
        if left <= 0:
            said = {site.name: site.node.errors[-5:] for site in sites if site.node.errors}
            raise Failed("not level after %.0f s: %s; nodes said %s" % (time.monotonic() - began, level_now(sites), said))
        site, other = sites[turn % len(sites)], sites[(turn + 1) % len(sites)]
        vector = site.ask("vector", site.db).strip()
        # 4: not yet, which is judged above
        other.ask("wait", other.db, "--for", vector, "--timeout", "%.1f" % min(left, 5), code=(0, 4), deadline=left + 30)
        turn += 1
    return time.monotonic() - began


def all_say_so(sites):
    """Each one's status shows every peer as equal, soon after they are."""
    end = time.monotonic() + 30
    while level_now(sites, True):
        check(time.monotonic() < end, "equal, but not told: %s" % level_now(sites, True))
        for site in sites:
            site.ask("wait", site.db, "--timeout", "30")


# --- the checks -----------------------------------------------------------------------------------


def ledger_is_whole(conn, sites, where):
    """Each run of each application, as far as it was acknowledged."""
    sql = "SELECT who, run, count(*), min(n), max(n) FROM ledger GROUP BY who, run"
    there = {(who, run): (count, low, high) for who, run, count, low, high in rows(conn, sql)}
    for site in sites:
        for run, acked in site.acked.items():
            count, low, high = there.pop((site.name, run), (0, 1, 0))
            check(count == high and low == 1, "%s: a hole in what %s wrote in its run %d: %d rows, %d to %d"
                  % (where, site.name, run, count, low, high))
            check(high >= acked, "%s: LOST: %s was told that %d of run %d are committed, there are %d"
                  % (where, site.name, acked, run, high))
            check(high <= acked + 1, "%s: %s wrote %d in run %d, was told of %d" % (where, site.name, high, run, acked))
    check(not there, "%s: nobody wrote %s" % (where, there))


def own_rows_are_the_last_written(conn, where):
    sql = """WITH last AS (SELECT who, k, op, run, n, row_number() OVER
                (PARTITION BY who, k ORDER BY run DESC, n DESC) AS place FROM ledger)
             SELECT l.who, l.k, l.op, l.run, l.n, o.run, o.n FROM last l LEFT JOIN own o USING(who, k)
             WHERE l.place = 1 AND (CASE l.op WHEN 'put' THEN o.run IS NOT l.run OR o.n IS NOT l.n
                                    ELSE o.who NOT NULL END)"""
    wrong = rows(conn, sql)
    check(not wrong, "%s: rows of their own differ from the ledger (who, k, op, run, n, there): %s" % (where, wrong[:5]))
    torn = rows(conn, "SELECT * FROM shared WHERE a IS NOT b")
    check(not torn, "%s: half a transaction is shown: %s" % (where, torn[:5]))


def content(conn):
    return {table: sorted(map(repr, rows(conn, "SELECT * FROM " + table))) for table in TABLES}


def equal(sites):
    first = None
    for site in sites:
        conn = site.connect()
        mine = content(conn)
        conn.close()
        first = first or mine
        for table in TABLES:
            check(mine[table] == first[table], "%s differs between %s and %s: %s" % (
                table, sites[0].name, site.name, sorted(set(mine[table]) ^ set(first[table]))[:6]))
    return sum(map(len, first.values()))


class Logs:
    """Every content that any (replica, seq) had in any log since the beginning."""

    def __init__(self):
        self.seen = {}

    def read(self, site):
        conn = sqlite3.connect("file:%s?mode=ro" % site.log(), uri=True, timeout=30)
        conn.execute("BEGIN")
        heads = {number: (rid, seq) for number, rid, seq in rows(conn, "SELECT number, id, seq FROM replica")}
        below = dict.fromkeys(heads, 0)
        sql = "SELECT id, hash, have >= segments FROM changeset ORDER BY id"
        for key, digest, complete in conn.execute(sql):
            number, seq = key >> SEQ_BITS, key & ((1 << SEQ_BITS) - 1)
            rid, head = heads[number]
            was = self.seen.setdefault((rid, seq), digest)
            check(was == digest, "%s: TWO CONTENTS under (%s, %d)" % (site.name, rid.hex(), seq))
            if complete and seq <= head:
                below[number] += 1
        check(rows(conn, "PRAGMA integrity_check") == [("ok",)], "%s: log.db is damaged" % site.name)
        conn.close()
        for number, (rid, head) in heads.items():
            check(below[number] == head, "%s: a HOLE: %d of the %d changesets of %s are there"
                  % (site.name, below[number], head, rid.hex()))


def at_rest(sites, logs):
    """Everything above, when all are level."""
    for site in sites:
        conn = site.connect()
        check(rows(conn, "PRAGMA integrity_check") == [("ok",)], "%s: the database is damaged" % site.name)
        conn.execute("BEGIN")
        ledger_is_whole(conn, sites, site.name)
        own_rows_are_the_last_written(conn, site.name)
        conn.close()
        logs.read(site)
        site.ask("verify", site.db)
        replica = site.status()["replica"]
        if replica not in site.replicas:
            site.replicas.append(replica)
    return equal(sites)


# --- a mesh ---------------------------------------------------------------------------------------


class Mesh:
    """Three nodes on this machine, each with an application that writes."""

    def __init__(self, world, seed, names=("a", "b", "c")):
        self.world, self.random, self.logs = world, random.Random(seed), Logs()
        self.checks, self.slowest = 0, 0.0
        self.tick = threading.Event()  # never set: applications write while this waits
        self.sites = []
        # addresses of its own on the loopback network: a port that is free there stays free
        base = "127.%d.%d." % (1 + os.urandom(1)[0] % 250, os.urandom(1)[0])
        for i, name in enumerate(names):
            site = Site(world, name, self.folder(name), seed=seed, pause_ms=4)
            site.arguments = ["--no-discovery", "--listen", "%s%d:0" % (base, 10 + i)]
            self.sites.append(site)

    def folder(self, name):
        os.mkdir(self.world.path(name))
        return self.world.path(name)

    def pass_time(self, seconds):
        """Up to so long: a random moment of what the processes do."""
        self.tick.wait(self.random.random() * seconds)

    def keep_port(self, site, address):
        """From now on it listens there, and the others know."""
        site.arguments[:] = [*site.arguments[:-1], address]
        for other in self.sites:
            if other is not site:
                other.arguments[:0] = ["--seed", address]

    def make(self, uses):
        """The first one's database, shared; the ticket."""
        first = self.sites[0]
        conn = first.connect()
        conn.execute("PRAGMA journal_mode=WAL")
        conn.executescript(SCHEMA)
        conn.close()
        shared = Shared(first.start("share", first.db, "--uses", str(uses)))
        self.keep_port(first, shared.address)
        return shared.ticket

    def join(self, site, ticket):
        site.start("join", ticket, site.db)
        self.keep_port(site, site.node.line("node ").split(" ")[1])
        site.node.line("joined ")

    def begin(self):
        ticket = self.make(uses=60)  # a join that is cut may have used one
        for site in self.sites[1:]:
            self.join(site, ticket)
        for site in self.sites:
            site.write()

    def rest(self):
        """All are level and everything is checked; then the applications go on. How many rows there are."""
        for site in self.sites:
            site.pause()
        for site in self.sites:
            site.up()
        self.slowest = max(self.slowest, level(self.sites))
        total = at_rest(self.sites, self.logs)
        all_say_so(self.sites)
        self.checks += 1
        for site in self.sites:
            site.go()
        return total

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        for site in self.sites:
            site.close()
        keep = os.environ.get("P2PNODE_KEEP")
        if kind and keep:  # what a failure left, for people
            for site in self.sites:
                shutil.copytree(site.folder, os.path.join(keep, site.name), dirs_exist_ok=True,
                                ignore=shutil.ignore_patterns("control", "lost+found"))


def interrupted(number, _frame):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: now everything is taken away
    sys.exit(128 + number)


def clean_up_when_ended():
    """What ends us takes our processes and files with it, as an error does."""
    signal.signal(signal.SIGTERM, interrupted)


# --- the report -----------------------------------------------------------------------------------


def report(name, title, command, figures, not_tested):
    """Writes the figures where P2P_RELIABILITY says, for docs/reliability.md."""
    folder = os.environ.get("P2P_RELIABILITY")
    if not folder:
        return
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name + ".json"), "w") as f:
        json.dump({"title": title, "command": command, "figures": figures, "not_tested": not_tested}, f, indent=1)
        f.write("\n")
