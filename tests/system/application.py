"""An application on one node: plain sqlite3, synchronous=FULL, and nothing of ours.

Usage: application.py DB WHO RUN SEED PAUSE_MS

Each transaction inserts one row into `ledger` and changes other tables with it. After COMMIT has
returned, and only then, it writes "ack N". It reads its orders from stdin: "pause" (answered with
"paused N" between two transactions), "go", end of file. An error of the disk is told ("error ..."),
then the file is opened anew and what is there is read before the next number is used.
"""
import os
import random
import select
import sqlite3
import sys

OWN_KEYS = 32  # rows of `own` that each application has for itself
SHARED_ROWS = 20
TAGS = 12
SCHEMA = """
CREATE TABLE ledger(id TEXT PRIMARY KEY, who TEXT NOT NULL, run INTEGER NOT NULL, n INTEGER NOT NULL,
  op TEXT NOT NULL, k INTEGER NOT NULL, pad TEXT);
CREATE TABLE own(who TEXT NOT NULL, k INTEGER NOT NULL, run INTEGER, n INTEGER, pad BLOB,
  PRIMARY KEY(who, k)) WITHOUT ROWID;
CREATE TABLE shared(id INTEGER PRIMARY KEY, a TEXT, b TEXT, other INTEGER);
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, tag TEXT UNIQUE);
""" + "".join("INSERT INTO shared VALUES(%d, '', '', 0);\n" % i for i in range(1, SHARED_ROWS + 1))


def say(text):
    os.write(1, (text + "\n").encode())


class Application:
    def __init__(self, path, who, run, seed):
        self.path, self.who, self.run = path, who, run
        self.random = random.Random("%s %s %d" % (seed, who, run))
        self.n, self.conn = 0, None

    def open(self):
        self.conn = sqlite3.connect(self.path, isolation_level=None, timeout=30)
        self.conn.execute("PRAGMA synchronous=FULL")
        sql = "SELECT coalesce(max(n), 0) FROM ledger WHERE who = ? AND run = ?"
        there = self.conn.execute(sql, (self.who, self.run)).fetchone()[0]
        if there > self.n:  # its COMMIT failed and is there all the same
            self.n = there
            say("ack %d" % self.n)

    def ledger(self, n):
        """One row for each transaction, and in the same one the row of `own` that it names."""
        op = "put" if self.random.random() < 0.75 else "del"
        k = self.random.randrange(OWN_KEYS)
        self.conn.execute("INSERT INTO ledger VALUES(?, ?, ?, ?, ?, ?, ?)",
                          ("%s:%d:%d" % (self.who, self.run, n), self.who, self.run, n, op, k,
                           "x" * self.random.randrange(200)))
        if op == "del":
            self.conn.execute("DELETE FROM own WHERE who = ? AND k = ?", (self.who, k))
            return
        size = self.random.randrange(100000) if self.random.random() < 0.02 else self.random.randrange(400)
        self.conn.execute("INSERT OR REPLACE INTO own VALUES(?, ?, ?, ?, ?)",
                          (self.who, k, self.run, n, self.random.randbytes(size)))

    def others(self, n):
        """What other applications write too: rows that meet, numbers and tags that collide."""
        text = "%s:%d:%d" % (self.who, self.run, n)
        kind = self.random.random()
        if kind < 0.5:
            self.conn.execute("UPDATE shared SET a = ?, b = ? WHERE id = ?",
                              (text, text, self.random.randint(1, SHARED_ROWS)))
        elif kind < 0.7:
            tag = "t%d" % self.random.randrange(TAGS) if self.random.random() < 0.3 else None
            self.conn.execute("INSERT OR IGNORE INTO item(name, tag) VALUES(?, ?)", (text, tag))
        elif kind < 0.85:
            self.conn.execute("DELETE FROM item WHERE id = (SELECT id FROM item ORDER BY name LIMIT 1"
                              " OFFSET ?)", (self.random.randrange(20),))
        elif kind < 0.9:
            self.conn.execute("UPDATE shared SET other = ? WHERE id <= ?",
                              (n, self.random.randint(1, SHARED_ROWS)))

    def transaction(self):
        n = self.n + 1
        self.conn.execute("BEGIN IMMEDIATE")
        self.ledger(n)
        self.others(n)
        self.conn.execute("COMMIT")
        self.n = n
        say("ack %d" % n)

    def step(self):
        """One transaction; True if a try after an error is due."""
        try:
            if not self.conn:
                self.open()
            self.transaction()
            return False
        except sqlite3.Error as why:
            say("error %s" % why)
            try:
                self.conn.close()
            except (sqlite3.Error, AttributeError):
                pass
            self.conn = None
            return True


class Orders:
    def __init__(self):
        self.text = b""

    def next(self, seconds):
        """The next order, or None when none came in time; "" at the end."""
        while b"\n" not in self.text:
            if not select.select([0], [], [], seconds)[0]:
                return None
            more = os.read(0, 64)
            if not more:
                return ""
            self.text += more
        line, self.text = self.text.split(b"\n", 1)
        return line.decode()


def main():
    path, who, run, seed, pause_ms = sys.argv[1:6]
    application = Application(path, who, int(run), seed)
    pace, orders = random.Random(seed), Orders()
    while True:
        failed = application.step()
        text = orders.next(0.05 if failed else pace.random() * 2 * float(pause_ms) / 1000)
        while text == "pause":
            say("paused %d" % application.n)
            text = orders.next(None)
        if text == "":
            return


if __name__ == "__main__":
    main()
