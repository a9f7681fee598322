"""The migrations of a real application (actual-migrations in the folder of sample databases), run by
each of three applications at its own time, under replication: on the first node long before the
others. All write all the while; nobody's migration fails for what peers did; rows are equal at the
end, bookkeeping stays local, and nothing waits.

Usage: test_migrations.py [SEEDS [FIRST]]: as many seeds, in which nodes are stopped, ended and killed
in the middle of it; without them the fixed order, and one seed. $P2PNODE_KEEP: a folder that gets the
files of a failure."""
import os
import random
import shutil
import signal
import sqlite3
import sys
import time

from lib import DEADLINE, Failed, Shared, check, freeze, main, rows

DATA = os.path.join(os.environ.get("P2P_SHARED", ""), "data")
FOLDER = os.path.join(DATA, "actual-migrations")
CHUNKS = 6
NAMES = ("a.db", "b.db", "c.db")


def ours(name):
    return name.startswith("p2p_") or name.startswith("sqlite_") or name.startswith("__")


def table_names(conn):
    return [name for (name,) in rows(conn, "SELECT name FROM sqlite_schema WHERE type = 'table'")
            if not ours(name)]


def columns(conn, table):
    return [r for r in rows(conn, 'PRAGMA table_xinfo("%s")' % table) if r[6] == 0]


def runnable():
    """Those that work by SQL alone, found out on a copy."""
    good = []
    conn = sqlite3.connect(":memory:", isolation_level=None)
    base = sqlite3.connect(os.path.join(DATA, "actual.db"))
    base.backup(conn)
    base.close()
    for name in sorted(os.listdir(FOLDER)):
        with open(os.path.join(FOLDER, name), encoding="utf-8") as f:
            text = f.read()
        try:
            conn.executescript(text)
            good.append((name, text))
        except sqlite3.Error:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
    conn.close()
    return good


class Application:
    """One machine's: its own migrations, and writes that fit what its file has."""

    def __init__(self, conn, seed, side):
        self.conn, self.random, self.side, self.made = conn, random.Random(seed), side, 0

    def migrate(self, steps):
        for name, text in steps:
            end = time.monotonic() + DEADLINE
            while True:
                try:
                    self.conn.executescript(text)
                    break
                except sqlite3.Error as why:
                    # one that reads first and then writes meets the lock, or a commit, of any other
                    # program, and is told so at once: it begins anew when the lock is free
                    again = self.conn.in_transaction and "locked" in str(why)
                    if self.conn.in_transaction:
                        self.conn.execute("ROLLBACK")
                    check(again and time.monotonic() < end,
                          "%s: migration %s: %s" % (self.side, name, why))
                    self.conn.execute("BEGIN IMMEDIATE")
                    self.conn.execute("ROLLBACK")

    def value(self, table, column):
        """Of a FOREIGN KEY: a parent that is there."""
        name, kind = column[1], column[2]
        for key in rows(self.conn, 'PRAGMA foreign_key_list("%s")' % table):
            if key[3] == name:
                found = rows(self.conn, 'SELECT "%s" FROM "%s" ORDER BY random() LIMIT 1'
                             % (key[4] or "id", key[2]))
                return found[0][0] if found and "INT" not in kind.upper() else None
        if "INT" in kind.upper():
            return self.random.randrange(100)
        return self.random.choice((None, "x", "text %d" % self.random.randrange(100)))

    def insert(self, table):
        names, values = [], []
        for column in columns(self.conn, table):
            _, name, kind, notnull, default, key, _ = column
            if key:
                self.made += 1
                text = "%s-%d" % (self.side, self.made)
                if "INT" in kind.upper():
                    continue
                value = text
            elif self.random.random() < 0.5 and not (notnull and default is None):
                continue
            else:
                value = self.value(table, column)
                if value is None and notnull:
                    value = "n"
            names.append('"%s"' % name)
            values.append(value)
        if names:
            self.conn.execute('INSERT OR IGNORE INTO "%s"(%s) VALUES (%s)' % (
                table, ",".join(names), ",".join("?" * len(values))), values)

    def update(self, table):
        free = [c for c in columns(self.conn, table) if not c[5] and not c[3]]
        keys = [c[1] for c in columns(self.conn, table) if c[5]]
        if not free or len(keys) != 1:
            return
        column = self.random.choice(free)
        found = rows(self.conn, 'SELECT "%s" FROM "%s" ORDER BY random() LIMIT 2'
                     % (keys[0], table))
        for (key,) in found:
            self.conn.execute('UPDATE OR IGNORE "%s" SET "%s" = ? WHERE "%s" = ?' % (
                table, column[1], keys[0]), (self.value(table, column), key))

    def write(self, tables):
        for table in table_names(self.conn):
            if table in tables:
                self.conn.execute("BEGIN IMMEDIATE")
                self.insert(table)
                self.update(table)
                self.conn.execute("COMMIT")


def live(world, name):
    return {t["name"] for t in world.status(name)["tables"] if t["state"] == "live"}


def nothing_waits(world, name, app):
    """But for a table that its application made and dropped again before its node looked."""
    for _ in range(400):
        status = world.status(name)
        if not status["waiting"] or not any("wait" in t["reason"] for t in status["tables"]
                                            if t["name"] in table_names(app.conn)):
            return
        world.run("vector", name)  # a round through the node's loop
    check(False, "%s still waits: %s" % (name, status))


def enable_new(world, app):
    """What the application of the first node made, its user shares too."""
    known = {t["name"] for t in world.status("a.db")["tables"]}
    new = [t for t in table_names(app.conn) if t not in known]
    if new:
        world.run("enable", "a.db", *new)


def each_at_its_own_time(world):
    shutil.copy(os.path.join(DATA, "actual.db"), world.path("a.db"))
    os.chmod(world.path("a.db"), 0o644)
    steps = runnable()
    check(len(steps) >= 40, "%d migrations run" % len(steps))
    first = world.db("a.db")
    share = Shared(world.node("share", "a.db", "--uses", "2"))
    for name in NAMES[1:]:
        world.node("join", share.ticket, name).line("joined ")
    apps = [Application(conn, seed, side) for seed, (side, conn) in enumerate(
        zip("abc", (first, world.db("b.db"), world.db("c.db"))))]
    size = -(-len(steps) // CHUNKS)
    chunks = [steps[i:i + size] for i in range(0, len(steps), size)]
    behind = (0, 1, 3)
    for turn in range(len(chunks) + max(behind)):
        for app, lag, name in zip(apps, behind, NAMES):
            if 0 <= turn - lag < len(chunks):
                app.migrate(chunks[turn - lag])
            if name == "a.db":
                enable_new(world, app)
            app.write(live(world, name))
        world.level(*NAMES)
    same(world, apps)
    print("     %d migrations" % len(steps))


# --- whatever befalls the nodes -------------------------------------------------------------------


class Machine:
    """A file, its node, and the application that has its own time."""

    def __init__(self, world, name, node, seed):
        self.world, self.name, self.node = world, name, node
        self.app = Application(world.db(name), seed, name[0])
        self.done, self.tables = 0, set()

    def befall(self, fate):
        if fate == "stopped":
            freeze(self.node, self.world.path(self.name))
        elif fate == "ended":
            self.node.stop()

    def act(self, steps, chosen, killed):
        """Migrates up to so many steps, and writes; its node may be killed in the middle."""
        count = chosen.choice((0, 1, 3, 6, 12))
        self.app.migrate(steps[self.done:self.done + count])
        self.done = min(self.done + count, len(steps))
        if killed:
            self.node.kill()
        for _ in range(chosen.choice((0, 1, 1, 2))):
            self.app.write(self.tables)

    def revive(self, others):
        """With the addresses of those that are up: a node that starts has another port."""
        if self.node.proc.poll() is None:
            return
        seeds = []
        for other in others:
            if other.node.proc.poll() is None:
                seeds += ["--seed", self.world.status(other.name)["listen"][0]]
        self.node = self.world.node("run", self.name, *seeds)
        self.node.line("node ")


def meet(world, seed):
    """Three machines of one mesh, each with the whole database."""
    shutil.copy(os.path.join(DATA, "actual.db"), world.path("a.db"))
    os.chmod(world.path("a.db"), 0o644)
    share = Shared(world.node("share", "a.db", "--uses", "2"))
    machines = [Machine(world, "a.db", share.process, seed * 10)]
    for index, name in enumerate(NAMES[1:], 1):
        node = world.node("join", share.ticket, name)
        node.line("joined ")
        machines.append(Machine(world, name, node, seed * 10 + index))
    return machines


def whatever_befalls_their_nodes(world, seed):
    chosen, steps = random.Random(seed), runnable()
    machines = meet(world, seed)
    turns = 0
    while turns < 6 or min(m.done for m in machines) < len(steps):
        turns += 1
        for machine in machines:
            machine.tables = live(world, machine.name)
        fates = [chosen.choice(("up", "up", "up", "stopped", "ended", "killed")) for _ in machines]
        for machine, fate in zip(machines, fates):
            machine.befall(fate)
        for machine, fate in chosen.sample(list(zip(machines, fates)), len(machines)):
            machine.act(steps, chosen, fate == "killed")
        for machine, fate in zip(machines, fates):
            if fate == "stopped":
                machine.node.proc.send_signal(signal.SIGCONT)
        for machine in machines:
            machine.revive(machines)
        enable_new(world, machines[0].app)
        if chosen.random() < 0.5:
            world.level(*NAMES)
    world.level(*NAMES)
    same(world, [m.app for m in machines])
    print("     seed %d: %d turns" % (seed, turns))


# --- what must hold -------------------------------------------------------------------------------


def same(world, apps):
    for name, app in zip(NAMES, apps):
        nothing_waits(world, name, app)
        said = rows(app.conn, "PRAGMA integrity_check")
        check(said == [("ok",)], "integrity_check of %s: %s" % (name, said[:3]))
        world.run("verify", name)
    world.level(*NAMES)
    tables = live(world, "a.db")
    check(len(tables) >= 20, tables)
    for name in NAMES[1:]:
        check(live(world, name) == tables, "%s: %s, a.db: %s" % (name, live(world, name), tables))
    check("__migrations__" not in tables, tables)
    for table in sorted(tables):
        names = sorted(c[1] for c in columns(apps[0].conn, table))
        sql = 'SELECT %s FROM "%s" ORDER BY 1' % (",".join('"%s"' % n for n in names), table)
        want = sorted(rows(apps[0].conn, sql), key=repr)
        for app in apps[1:]:
            got = sorted(rows(app.conn, sql), key=repr)
            check(got == want, "%s of %s: %d rows, %d of a; only there %s; only at a %s" % (
                table, app.side, len(got), len(want), [r for r in got if r not in want][:2],
                [r for r in want if r not in got][:2]))


def of_seed(seed):
    def test(world):
        try:
            whatever_befalls_their_nodes(world, seed)
        except (Failed, sqlite3.Error):
            folder = os.environ.get("P2PNODE_KEEP")
            if folder:
                shutil.copytree(world.dir, os.path.join(folder, "migrations-%d" % seed),
                                dirs_exist_ok=True, ignore=shutil.ignore_patterns("control"))
            raise
    test.__name__ = "whatever_befalls_their_nodes_%d" % seed
    return test


if not os.path.isdir(FOLDER):
    print("SKIP: no %s" % FOLDER)
    sys.exit(77)
SEEDS, FIRST = [int(text) for text in sys.argv[1:3]] + [1, 1][len(sys.argv) - 1:]
main([each_at_its_own_time] * (len(sys.argv) == 1) + [of_seed(s) for s in range(FIRST, FIRST + SEEDS)])
