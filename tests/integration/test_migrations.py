"""The migrations of a real application (actual-migrations in the folder of sample databases), run by
each of three applications at its own time, under replication: on the first node long before the
others. All write all the while; nobody's migration fails for what peers did; rows are equal at the
end, bookkeeping stays local, and nothing waits."""
import os
import random
import shutil
import sqlite3
import sys
import time

from lib import DEADLINE, Shared, check, main, rows

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


def nothing_waits(world, name):
    for _ in range(400):
        if not world.status(name)["waiting"]:
            return
        world.run("vector", name)  # a round through the node's loop
    check(False, "%s still waits: %s" % (name, world.status(name)))


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
    for name in NAMES:
        nothing_waits(world, name)
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
    print("     %d migrations, %d tables, %d rows" % (len(steps), len(tables), sum(
        rows(apps[0].conn, 'SELECT count(*) FROM "%s"' % t)[0][0] for t in tables)))


if not os.path.isdir(FOLDER):
    print("SKIP: no %s" % FOLDER)
    sys.exit(77)
main([each_at_its_own_time])
