"""Real processes on 127.0.0.1, in a directory of their own, with ports that the kernel chose.

Nothing here sleeps to wait: it reads what processes print, or asks `p2pnode wait`. The one deadline
is a bound for failures.
"""
import json
import os
import queue
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

BIN = os.environ["P2PNODE_BIN"]
DEADLINE = float(os.environ.get("P2PNODE_TEST_DEADLINE", "60"))
END_SECONDS = 10.0  # for what still runs when a test is over


class Failed(Exception):
    pass


def check(condition, text):
    if not condition:
        raise Failed(text)


class Process:
    """A child whose output lines can be awaited."""

    def __init__(self, argv, cwd, env=None, stdin=subprocess.DEVNULL):
        self.argv = argv
        self.proc = subprocess.Popen(argv, cwd=cwd, stdin=stdin, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, text=True, env=env)
        self.lines, self.errors = queue.Queue(), []
        self.seen = []
        self.readers = [threading.Thread(target=self._read, daemon=True),
                        threading.Thread(target=self._read_errors, daemon=True)]
        for reader in self.readers:
            reader.start()

    def _read(self):
        for line in self.proc.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def _read_errors(self):
        for line in self.proc.stderr:
            self.errors.append(line.rstrip("\n"))

    def line(self, prefix=""):
        """Next line that begins with prefix, without it."""
        end = time.monotonic() + DEADLINE
        while True:
            try:
                line = self.lines.get(timeout=max(0.01, end - time.monotonic()))
            except queue.Empty:
                raise Failed("%s: no line '%s...' came; so far %s, errors %s"
                             % (self.argv[1:3], prefix, self.seen, self.errors)) from None
            if line is None:
                self.readers[1].join(5)
                raise Failed("%s ended (exit %s) before '%s...': %s, errors %s"
                             % (self.argv[1:3], self.proc.wait(5), prefix, self.seen[-20:], self.errors))
            self.seen.append(line)
            if line.startswith(prefix):
                return line[len(prefix):]

    def kill(self):
        self.proc.kill()
        self.proc.wait()

    def stop(self, sig=signal.SIGTERM, code=0):
        """Ends it in order; returns what it wrote to stderr."""
        self.proc.send_signal(sig)
        return self.ended(code)

    def ended(self, code):
        try:
            got = self.proc.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed("%s did not end; errors %s" % (self.argv[1:3], self.errors)) from None
        for reader in self.readers:
            reader.join(5)
        check(got == code, "%s: exit %s, wanted %s; errors %s"
              % (self.argv[1:4], got, code, self.errors))
        return "\n".join(self.errors)


class World:
    """A temporary directory and the processes in it."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="p2pnode-it-")
        self.processes = []

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        """What still runs is asked to end, so that leaks and coverage are told; then it is killed."""
        live = [p for p in self.processes if p.proc.poll() is None]
        for process in live:
            process.proc.send_signal(signal.SIGTERM)
            process.proc.send_signal(signal.SIGCONT)  # a test may have paused it
        end = time.monotonic() + END_SECONDS
        for process in live:
            try:
                process.proc.wait(max(0.01, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.dir, name)

    def db(self, name, script=""):
        """A database in WAL mode, as another program would make it."""
        conn = sqlite3.connect(self.path(name), isolation_level=None, timeout=20)
        conn.execute("PRAGMA journal_mode=WAL")
        conn.executescript(script)
        return conn

    def start(self, *args, env=None, stdin=subprocess.DEVNULL):
        process = Process([BIN, *args], self.dir, env, stdin)
        self.processes.append(process)
        return process

    def spawn(self, argv, env=None, stdin=subprocess.PIPE, cwd=None):
        process = Process(argv, cwd or self.dir, env, stdin)
        self.processes.append(process)
        return process

    def node(self, verb, *args):
        return self.start(verb, *args, "--listen", "127.0.0.1:0", "--no-discovery")

    def run(self, *args, code=0):
        """One verb to its end: (stdout, stderr)."""
        done = subprocess.run([BIN, *args], cwd=self.dir, capture_output=True, text=True,
                              timeout=DEADLINE, check=False)
        check(done.returncode == code, "p2pnode %s: exit %s, wanted %s; out %s; errors %s"
              % (" ".join(args), done.returncode, code, done.stdout, done.stderr))
        return done.stdout, done.stderr

    def status(self, db):
        return json.loads(self.run("status", db, "--json")[0])

    def level(self, *dbs):
        """Waits until all named databases are the same."""
        for db in dbs:
            self.run("wait", db, "--timeout", str(int(DEADLINE)))
        for db in dbs:
            vector = self.run("vector", db)[0].strip()
            for other in dbs:
                self.run("wait", other, "--for", vector, "--timeout", str(int(DEADLINE)))
        digests = {db: self.status(db)["digest"] for db in dbs}
        check(len(set(digests.values())) == 1, "digests differ: %s" % digests)


class Shared:
    """The lines that share prints."""

    def __init__(self, process):
        self.process = process
        self.mesh = process.line("mesh ")
        self.node, self.address = process.line("node ").split(" ")
        self.ticket = process.line("ticket ")

    @property
    def port(self):
        return int(self.address.rsplit(":", 1)[1])


def freeze(node, path):
    """Stops a node, but not in the middle of a transaction: the application would wait for it."""
    conn = sqlite3.connect(path, isolation_level=None, timeout=0)
    held = True
    while held:
        node.proc.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, node.proc.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            conn.execute("BEGIN IMMEDIATE")
            conn.execute("ROLLBACK")
            held = False
        except sqlite3.OperationalError:
            node.proc.send_signal(signal.SIGCONT)
    conn.close()


def rows(conn, sql):
    return conn.execute(sql).fetchall()


def main(tests):
    """Runs the named tests; exit 1 if one failed."""
    failed = 0
    for test in tests:
        begin = time.monotonic()
        try:
            with World() as world:
                test(world)
            print("ok   %s (%.2f s)" % (test.__name__, time.monotonic() - begin), flush=True)
        except (Failed, AssertionError, subprocess.TimeoutExpired, sqlite3.Error, OSError) as why:
            failed += 1
            print("FAIL %s: %s: %s" % (test.__name__, type(why).__name__, why), flush=True)
    sys.exit(1 if failed else 0)
