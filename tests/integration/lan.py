"""Hosts of their own: network namespaces on one bridge, for tests that need a LAN.

Every packet stays in namespaces that the test made. Needs root and iproute2.
"""
import os
import shutil
import subprocess

import lib
from lib import Failed, World


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


def available():
    """None, or why there can be no LAN here."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        return "needs root and iproute2"
    try:
        Lan(1).close()
    except Failed as why:
        return "no network namespaces here (%s)" % why
    return None
