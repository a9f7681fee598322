"""Nodes on hosts of their own (network namespaces on one bridge) that know nobody: a ticket without
addresses, discovery by multicast alone, over IPv4, over IPv6, and after a cable was pulled.

Needs root and iproute2: skipped without. Every packet stays in namespaces that this test made.
"""
import os
import shutil
import subprocess
import sys

import lib
from lib import Failed, Shared, World, check, rows


def ip(*args, ns=None):
    argv = ["ip"] + (["-n", ns] if ns else []) + list(args)
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed("%s: %s" % (" ".join(argv), done.stderr.strip()))


class Lan:
    """A bridge in a namespace of its own, and hosts with one cable each."""

    def __init__(self, count, v4=True):
        self.base = "p2pt%d" % os.getpid()
        self.names = []
        try:
            self.switch = self.add(self.base + "s")
            ip("link", "add", "br0", "type", "bridge", "mcast_snooping", "0", ns=self.switch)
            ip("link", "set", "br0", "up", ns=self.switch)
            self.hosts = [self.host(i, v4) for i in range(count)]
        except Failed:
            self.close()
            raise

    def add(self, name):
        ip("netns", "add", name)
        self.names.append(name)
        ip("link", "set", "lo", "up", ns=name)
        return name

    def host(self, index, v4):
        name = self.add("%sh%d" % (self.base, index))
        port = "port%d" % index
        ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name, ns=self.switch)
        ip("link", "set", port, "master", "br0", ns=self.switch)
        ip("link", "set", port, "up", ns=self.switch)
        if v4:
            ip("addr", "add", "10.73.0.%d/24" % (index + 1), "dev", "eth0", ns=name)
        ip("link", "set", "eth0", "up", ns=name)
        return name

    def cable(self, index, up):
        ip("link", "set", "port%d" % index, "up" if up else "down", ns=self.switch)

    def close(self):
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


class Hosts(World):
    """A world whose nodes live on hosts of a LAN."""

    def __init__(self, lan):
        super().__init__()
        self.lan = lan

    def on(self, index, *args):
        return self.spawn(["ip", "netns", "exec", self.lan.hosts[index], lib.BIN, *args],
                          stdin=subprocess.DEVNULL)


SCHEMA = "CREATE TABLE note(id TEXT PRIMARY KEY, body TEXT); INSERT INTO note VALUES('a', 'first')"


def find_one_another(v4, listen):
    lan = Lan(3, v4)
    try:
        with Hosts(lan) as world:
            a = world.db("a.db", SCHEMA)
            Shared(world.on(0, "share", "a.db", *listen))
            ticket = world.run("invite", "a.db", "--uses", "2", "--no-addresses")[0].split()[1]
            for index, name in ((1, "b.db"), (2, "c.db")):
                node = world.on(index, "join", ticket, name, *listen)
                node.line("joined ")
            b, c = world.db("b.db"), world.db("c.db")
            # everybody finds everybody, not only who invited
            for name in ("a.db", "b.db", "c.db"):
                world.run("wait", name, "--peers", "2", "--timeout", "60")
            b.execute("INSERT INTO note VALUES('b', 'by multicast')")
            world.level("a.db", "b.db", "c.db")
            check(rows(c, "SELECT count(*) FROM note") == [(2,)], "c has b's row")
            lan.cable(2, False)
            a.execute("INSERT INTO note VALUES('d', 'while c is unplugged')")
            c.execute("INSERT INTO note VALUES('e', 'written unplugged')")
            lan.cable(2, True)
            vector = world.run("vector", "a.db")[0].strip()
            world.run("wait", "c.db", "--for", vector, "--timeout", "60")
            vector = world.run("vector", "c.db")[0].strip()
            world.run("wait", "a.db", "--for", vector, "--timeout", "60")
            want = [("a",), ("b",), ("d",), ("e",)]
            for conn in (a, c):
                check(rows(conn, "SELECT id FROM note ORDER BY 1") == want, "all rows are there")
            peers = world.status("a.db")["peers"]
            return sorted(peer["address"] for peer in peers)
    finally:
        lan.close()


def both_families_find_one_another(_world):
    find_one_another(True, ())


def ipv6_alone_is_enough(_world):
    addresses = find_one_another(False, ("--listen", "[::]:0"))
    check(all(address.startswith("[fe80::") for address in addresses), "addresses: %s" % addresses)


if os.geteuid() != 0 or not shutil.which("ip"):
    print("needs root and iproute2: skipped")
    sys.exit(77)
try:
    Lan(1).close()
except Failed as why:
    print("no network namespaces here (%s): skipped" % why)
    sys.exit(77)
lib.main([both_families_find_one_another, ipv6_alone_is_enough])
