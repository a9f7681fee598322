"""Real databases under random writes on three nodes: equal tables, and constraints that still hold.

Usage: test_schemas.py DATABASE [SEEDS [FIRST [PHASES [TRANSACTIONS]]]]
DATABASE: chinook, northwind, actual or torture, looked for in $P2P_SHARED/data; manners (beside this file); or a file (.db, .sql).

Three nodes get the same file: as copies that are merged row by row, or by a join. Then come phases.
In each every application makes random transactions that fit the schema (sqlgen.py), while nodes are
up, stopped (SIGSTOP), ended, or killed (kill -9) in the middle of it. At the end, once `wait` says
that all is level: every replicated table is the same on all nodes, numbers included; full text
indexes find the same; foreign_key_check says nothing that an application did not do where it wrote;
integrity_check is ok; nobody shows a temporary number any more; what is parked is in `conflicts`.
$P2PNODE_KEEP: a folder that gets the files of a failure. $P2P_SCHEMAS_WITHOUT: what is not looked at
(copies, careless, numbers, foreign, search, conflicts), to look for other faults while one is known.
"""
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

import lib
import sqlgen
from lib import Failed, Process, Shared, World, check

if os.path.isdir("/dev/shm") and os.access("/dev/shm", os.W_OK):
    tempfile.tempdir = "/dev/shm"  # what is tested here is not the disk
DATA = os.path.join(os.environ.get("P2P_SHARED", ""), "data")
NAMES = ("a", "b", "c")
WITHOUT = os.environ.get("P2P_SCHEMAS_WITHOUT", "").split(",")


def source(name):
    """The file of a database, or None."""
    here = os.path.dirname(os.path.abspath(__file__))
    for path in (name, os.path.join(here, name + ".sql"), os.path.join(DATA, name + ".db"), os.path.join(DATA, name + ".sql")):
        if os.path.isfile(path):
            return path
    return None


def make(path, origin):
    """Its own copy of the database, without foreign violations of anybody's."""
    if origin.endswith(".sql"):
        conn = sqlite3.connect(path, isolation_level=None)
        with open(origin, encoding="utf-8") as f:
            text = f.read()
        sqlgen.own_things(conn, text)
        conn.executescript(text)
    else:
        shutil.copy(origin, path)
        os.chmod(path, 0o644)
        conn = sqlite3.connect(path, isolation_level=None)
    conn.close()


class Application(threading.Thread):
    """Python's sqlite3 and nothing of ours, for one phase."""

    def __init__(self, site, count):
        super().__init__(daemon=True)
        self.site, self.count, self.error = site, count, None
        self.half = threading.Event()

    def run(self):
        try:
            conn = self.site.connect()
            for done in range(self.count):
                if done == self.count // 2:
                    self.half.set()
                self.site.generator.transaction(conn)
            conn.close()
        except Exception as why:  # told by the main thread
            self.error = why
        self.half.set()


class Site:
    """A file, its node and its application."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.db = world.path(name + ".db")
        self.node, self.generator, self.seeds = None, None, []

    def connect(self):
        conn = sqlite3.connect(self.db, isolation_level=None, timeout=60)
        conn.execute("PRAGMA synchronous = OFF")
        sqlgen.own_things(conn, "\n".join(row[0] for row in conn.execute("SELECT sql FROM sqlite_schema WHERE sql NOT NULL")))
        return conn

    def start(self, verb, *args):
        argv = [lib.BIN, verb, *args, "--no-discovery", "--listen", "127.0.0.1:0", "--name", self.name, "--log-level", "warn"]
        for seed in self.seeds:
            argv += ["--seed", seed]
        self.node = Process(argv, self.world.dir)
        self.world.processes.append(self.node)
        return self.node

    def run(self):
        self.start("run", self.db)
        return self.node.line("node ").split(" ")[1]

    def status(self):
        return self.world.status(self.db)

    def replicated(self):
        return sorted(t["name"] for t in self.status()["tables"] if t["state"] == "live")


class Storm:
    """One seed: three sites and what befalls them."""

    def __init__(self, world, origin, seed, phases, transactions):
        self.world, self.seed, self.random = world, seed, random.Random(seed)
        self.phases, self.transactions = phases, transactions
        self.fates = []
        self.sites = [Site(world, name) for name in NAMES]
        self.copies = self.random.random() < 0.5 and "copies" not in WITHOUT
        self.careless = self.random.choice((0.0, 0.0, 0.15)) * ("careless" not in WITHOUT)
        self.meet(origin)
        tables = self.sites[0].replicated()
        for index, site in enumerate(self.sites):
            conn = site.connect()
            schema = sqlgen.Schema(conn)
            site.generator = sqlgen.Generator(schema, seed * 10 + index, tables, self.careless)
            site.generator.dangling = sqlgen.violations(conn)
            conn.close()

    def meet(self, origin):
        first = self.sites[0]
        make(first.db, origin)
        shared = Shared(first.start("share", first.db, "--uses", "2"))
        addresses = [shared.address]
        for site in self.sites[1:]:
            site.seeds = list(addresses)
            merge = []
            if self.copies:
                make(site.db, origin)
                merge = ["--merge"]
            site.start("join", shared.ticket, site.db, *merge)
            addresses.append(site.node.line("node ").split(" ")[1])
            site.node.line("joined ")
        self.level()

    # --- what happens -----------------------------------------------------------------------------

    def phase(self):
        fates = [self.random.choice(("up", "up", "stopped", "ended", "killed")) for _ in self.sites]
        if self.random.random() < 0.25:
            fates = ["ended"] * 3  # three that write alone and then meet
        for site, fate in zip(self.sites, fates):
            if fate == "stopped":
                lib.freeze(site.node, site.db)
            elif fate == "ended":
                site.node.stop()
        self.fates = fates
        applications = [Application(site, self.transactions) for site in self.sites]
        for application in applications:
            application.start()
        for application, fate in zip(applications, fates):
            if fate == "killed":
                application.half.wait(120)
                application.site.node.kill()
        for application in applications:
            application.join(240)
            check(not application.is_alive() and not application.error,
                  "the application on %s: %r" % (application.site.name, application.error))
        for site, fate in zip(self.sites, fates):
            if fate == "stopped":
                site.node.proc.send_signal(signal.SIGCONT)
        self.restart([site for site, fate in zip(self.sites, fates) if fate in ("ended", "killed")])

    def restart(self, sites):
        """Who was down has a new port: the others' seeds are told by a start of all that are down."""
        for site in sites:
            up = [s for s in self.sites if s.node.proc.poll() is None]
            site.seeds = [json_address(s) for s in up]
            site.run()

    def level(self):
        self.world.level(*[site.db for site in self.sites])

    # --- what must hold ---------------------------------------------------------------------------

    def settle(self):
        """Level, and nobody shows a temporary number: whoever made a row gives it a permanent one."""
        end = time.monotonic() + lib.DEADLINE
        while True:
            self.level()
            left = {site.name: temporary(site) for site in self.sites}
            if not any(left.values()) or "numbers" in WITHOUT:
                return
            check(time.monotonic() < end, "temporary numbers stay: %s" % left)

    def tables(self):
        return sorted(set(self.sites[0].replicated()) & set(self.sites[1].replicated()) & set(self.sites[2].replicated()))

    def equal(self):
        conns = [site.connect() for site in self.sites]
        total = 0
        try:
            for table in self.tables():
                contents = [content(conn, table) for conn in conns]
                for site, other in zip(self.sites[1:], contents[1:]):
                    if other != contents[0]:
                        raise Failed("%s differs between a and %s: only a %s; only %s %s"
                                     % (table, site.name, sorted(set(contents[0]) - set(other))[:4], site.name,
                                        sorted(set(other) - set(contents[0]))[:4]))
                total += len(contents[0])
        finally:
            for conn in conns:
                conn.close()
        return total

    def sound(self, site):
        conn = site.connect()
        said = conn.execute("PRAGMA integrity_check").fetchall()
        checks = [row[0] for row in said if row[0].startswith("CHECK constraint failed")]
        others = [row[0] for row in said if row[0] != "ok" and row[0] not in checks]
        check(not others, "integrity_check of %s: %s" % (site.name, others[:5]))
        listed = self.conflicts(site)
        check(not checks or "conflicts" in WITHOUT or any(c["kind"] == "check" for c in listed),
              "%s breaks a CHECK that is not in conflicts: %s" % (site.name, checks[:3]))
        allowed = set().union(*(s.generator.dangling for s in self.sites))
        # FOREIGN KEYs of a table that is not replicated do nothing on merge (docs/triggers.md)
        new = {v for v in sqlgen.violations(conn) - allowed if v[0] in self.tables()}
        check(not new or "foreign" in WITHOUT, "foreign_key_check of %s: %s" % (site.name, sorted(map(repr, new))[:5]))
        found = search(conn, site.generator.schema) if self.copies and "search" not in WITHOUT else None
        conn.close()
        self.world.run("verify", site.db)
        parked = site.status()["parked"]
        check(not parked or len(listed) >= 1, "%s: %d rows are parked, conflicts lists none" % (site.name, parked))
        return found, parked

    def conflicts(self, site):
        if "conflicts" in WITHOUT:
            return [{}]
        return json.loads(self.world.run("conflicts", site.db, "--json")[0])["conflicts"]

    def storm(self):
        for _ in range(self.phases):
            self.phase()
        self.settle()
        total = self.equal()
        found = [self.sound(site) for site in self.sites]
        check(len(set(found)) == 1, "full text indexes, or rows parked, differ: %s" % found)
        for site in self.sites:
            site.node.stop()
        generators = [site.generator for site in self.sites]
        return {"rows": total, "statements": sum(g.made for g in generators), "refused": sum(g.refused for g in generators),
                "commits": sum(g.committed for g in generators), "parked": found[0][1]}


def content(conn, table):
    """Rows that are replicated: a key has no NULL."""
    keys = [sqlgen.quote(row[1]) for row in conn.execute("PRAGMA table_info(%s)" % sqlgen.quote(table)) if row[5]]
    return sorted(map(repr, conn.execute("SELECT * FROM %s WHERE %s" % (
        sqlgen.quote(table), " AND ".join(key + " IS NOT NULL" for key in keys)))))


def json_address(site):
    return site.status()["listen"][0]


def temporary(site):
    """Rows that the file shows under a number which is not theirs; parked ones may wait."""
    conn = site.connect()
    count = conn.execute("SELECT count(*) FROM p2p_temp AS x WHERE NOT EXISTS"
                         " (SELECT 1 FROM p2p_parked AS p WHERE p.t = x.t AND p.k = x.k)").fetchone()[0]
    conn.close()
    return count


def search(conn, schema):
    """What each full text index finds, by word; what each R*Tree holds; and that they are sound."""
    found = []
    for name in schema.search:
        table = sqlgen.quote(name)
        text = conn.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (name,)).fetchone()[0].lower()
        try:
            if "rtree" in text:
                found.append((name, tuple(conn.execute("SELECT * FROM %s ORDER BY 1" % table).fetchall())))
                said = conn.execute("SELECT rtreecheck(?)", (name,)).fetchone()[0]
                check(said == "ok", "the index %s: %s" % (name, said))
            elif "fts" in text:
                found += [(name, word, matches(conn, schema, name, text, word))
                          for word in ("amber", "birch", "cedar", "delta", "mesh")]
                conn.execute("INSERT INTO %s(%s%s) VALUES('integrity-check'%s)"
                             % (table, table, *((", rank", ", 1") if "fts5" in text else ("", ""))))
        except sqlite3.DatabaseError as why:
            raise Failed("the index %s is not what its table holds: %s" % (name, why)) from None
    return tuple(found)


def matches(conn, schema, name, text, word):
    """Rows that are found: by the keys of the table that is indexed, for its rowids are each file's own."""
    of = re.search(r"""content\s*=\s*["'\[`]?(\w+)""", text)
    content_table = schema.by_name.get(of.group(1)) if of else None
    sql = "SELECT rowid FROM %s WHERE %s MATCH ? ORDER BY 1" % (sqlgen.quote(name), sqlgen.quote(name))
    if content_table and not content_table.rowid and content_table.key:
        keys = list(map(sqlgen.quote, content_table.key))
        sql = "SELECT %s FROM %s WHERE %s AND rowid IN (%s)" % (
            ", ".join(keys), content_table.sql, " AND ".join(key + " NOT NULL" for key in keys), sql)
    return tuple(sorted(conn.execute(sql, (word,)).fetchall(), key=repr))


def keep(world):
    folder = os.environ.get("P2PNODE_KEEP")
    if folder:
        shutil.copytree(world.dir, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("control"))


def one(origin, seed, phases, transactions):
    with World() as world:
        storm = None
        try:
            storm = Storm(world, origin, seed, phases, transactions)
            return storm.storm()
        except (Failed, sqlite3.Error, subprocess.TimeoutExpired) as why:
            said = {s.name: s.node.errors[-3:] for s in storm.sites if s.node} if storm else {}
            for site in storm.sites if storm else ():
                site.node.proc.send_signal(signal.SIGCONT)
            keep(world)
            raise Failed("%s; nodes were %s and said %s" % (why, storm and storm.fates, said)) from None


def main():
    name = sys.argv[1]
    seeds, first, phases, transactions = [int(text) for text in sys.argv[2:6]] + [1, 1, 3, 40][len(sys.argv[2:6]):]
    origin = source(name)
    if not origin:
        print("needs P2P_SHARED with data/%s: skipped" % name)
        return 77
    failed, began, sums = 0, time.monotonic(), {}
    for seed in range(first, first + seeds):
        try:
            figures = one(origin, seed, phases, transactions)
        except Failed as why:
            failed += 1
            print("FAIL %s seed %d: %s" % (name, seed, why), flush=True)
            continue
        for key, value in figures.items():
            sums[key] = sums.get(key, 0) + value
        print("ok   %s seed %d: %s" % (name, seed, figures), flush=True)
    print("%s: %d of %d seeds, %s, %.0f s" % (name, seeds - failed, seeds, sums, time.monotonic() - began))
    return 1 if failed else 0


sys.exit(main())
