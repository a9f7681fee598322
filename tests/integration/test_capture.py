"""What a wire tap sees: a packet capture of a join and a sync holds no table name, value, node key or
mesh id. The same search finds all of them in a run of a build that does not encrypt, so it can find.

Needs root, tcpdump and a network namespace: skipped without.
"""
import os
import shutil
import subprocess
import sys

import lib
from lan import available
from lib import Failed, Shared, World, check

PLAIN = os.environ.get("P2PNODE_PLAIN", "")
TABLE, VALUE, COLUMN = "quite_a_rare_table_name", "a value that nobody else writes", "strange_column"
SCHEMA = "CREATE TABLE %s(id TEXT PRIMARY KEY, %s TEXT); INSERT INTO %s VALUES('k', '%s')" % (
    TABLE, COLUMN, TABLE, VALUE)


class Tapped(World):
    """Nodes in one namespace whose loopback is captured."""

    def __init__(self, binary):
        super().__init__()
        self.binary = binary
        self.ns = "p2ptap%d" % os.getpid()
        subprocess.run(["ip", "netns", "add", self.ns], check=True)
        subprocess.run(["ip", "-n", self.ns, "link", "set", "lo", "up"], check=True)
        self.tap = self.spawn(["ip", "netns", "exec", self.ns, "tcpdump", "-i", "lo", "-Z", "root", "--immediate-mode", "-U", "-s", "0",
                               "-w", self.path("tap.pcap")], stdin=subprocess.DEVNULL)
        while not any("listening on" in line for line in self.tap.errors):
            check(self.tap.proc.poll() is None, "tcpdump ended: %s" % self.tap.errors)

    def __exit__(self, kind, value, trace):
        super().__exit__(kind, value, trace)
        subprocess.run(["ip", "netns", "del", self.ns], check=False)

    def on(self, *args):
        return self.spawn(["ip", "netns", "exec", self.ns, self.binary, *args, "--listen", "127.0.0.1:0"],
                          stdin=subprocess.DEVNULL)

    def captured(self):
        """All bytes of a join and a live write."""
        a = self.db("a.db", SCHEMA)
        first = Shared(self.on("share", "a.db"))
        self.on("join", first.ticket, "b.db").line("joined ")
        a.execute("INSERT INTO %s VALUES('later', '%s')" % (TABLE, VALUE))
        self.level("a.db", "b.db")
        status = self.status("b.db")
        self.tap.stop()
        with open(self.path("tap.pcap"), "rb") as f:
            data = f.read()
        needles = {
            "the table's name": TABLE.encode(), "a column's name": COLUMN.encode(),
            "a value": VALUE.encode(), "the mesh id": bytes.fromhex(first.mesh),
            "A's node key": bytes.fromhex(first.node), "B's node key": bytes.fromhex(status["node"]),
            "B's replica id": bytes.fromhex(status["replica"]),
        }
        found = {what for what, needle in needles.items()
                 if needle in data or needle.hex().encode() in data}
        return len(data), found, set(needles)


def a_tap_sees_nothing(_world):
    with Tapped(lib.BIN) as world:
        size, found, _all = world.captured()
        check(size > 5000, "only %d bytes were captured" % size)
        check(not found, "seen on the wire: %s" % sorted(found))
        print("     %d bytes captured, nothing found" % size)


def the_same_search_finds_all_in_a_build_without_encryption(_world):
    with Tapped(PLAIN) as world:
        size, found, needles = world.captured()
        check(found == needles, "not found: %s" % sorted(needles - found))
        print("     %d bytes captured, all %d found" % (size, len(found)))


why_not = available() or (None if shutil.which("tcpdump") else "needs tcpdump")
if why_not:
    print("%s: skipped" % why_not)
    sys.exit(77)
check(PLAIN, "P2PNODE_PLAIN names the build without encryption")
try:
    lib.main([a_tap_sees_nothing, the_same_search_finds_all_in_a_build_without_encryption])
except Failed as why:
    print("FAIL %s" % why)
    sys.exit(1)
