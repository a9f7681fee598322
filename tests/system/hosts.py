"""Eight hosts with one LAN: network namespaces on a switch of our own (lan_switch.c), whose faults
can be set for every directed link. Every packet stays in namespaces that end with the test.
"""
import glob
import os
import subprocess
import time

import lib
from disks import Disk
from lan import ip
from real import ROOT, Failed, Mesh, Process, Shared, check

SWITCH = os.environ.get("P2PNODE_SWITCH", os.path.join(ROOT, "build", "tests", "system", "lan_switch"))
FAKETIME = "".join(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")[:1])
ANY = ["--listen", "0.0.0.0:0", "--listen", "[::]:0"]


class Lan:
    def __init__(self, count, seed):
        self.names = ["h%d" % (i + 1) for i in range(count)]
        for name in self.names:
            ip("netns", "add", name)
        paths = ["/run/netns/" + name for name in self.names]
        self.switch = Process([SWITCH, str(seed), *paths], "/", stdin=subprocess.PIPE)
        self.switch.line("ready")
        for i, name in enumerate(self.names):
            ip("link", "set", "lo", "up", ns=name)
            ip("addr", "add", "10.74.0.%d/24" % (i + 1), "dev", "eth0", ns=name)
            ip("link", "set", "eth0", "up", ns=name)

    def tell(self, text):
        self.switch.proc.stdin.write(text + "\n")
        self.switch.proc.stdin.flush()
        answer = self.switch.line("")
        check(answer.startswith("ok"), "the switch: " + answer)
        return answer

    def set(self, a, b, **keys):
        """The link from a to b (0: all): up, delay_ms, jitter_ms, loss, reorder."""
        self.tell("set %d %d %s" % (a, b, " ".join("%s=%d" % item for item in keys.items())))

    def cut(self, a, b, both=True):
        self.set(a, b, up=0)
        if both:
            self.set(b, a, up=0)

    def heal(self):
        """Everything as it was at the beginning."""
        self.set(0, 0, up=1, delay_ms=0, jitter_ms=0, loss=0, reorder=0)
        for i in range(len(self.names)):
            self.tell("rate %d 0" % (i + 1))
            self.tell("carrier %d 1" % (i + 1))

    def counts(self):
        words = self.tell("stats").split()
        return int(words[2]), int(words[4])

    def close(self):
        self.switch.kill()
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


class Hosts(Mesh):
    """A node and an application on each host; they know a ticket without addresses, no more."""

    def __init__(self, world, seed, count, pause_ms, **options):
        self.lan = Lan(count, seed)
        self.disks = {}
        self.small, self.clocks = options.get("small_disks", ()), options.get("clocks", False)
        try:
            super().__init__(world, seed, self.lan.names)
        except BaseException:
            self.lan.close()
            raise
        for i, site in enumerate(self.sites):
            site.number, site.pause_ms = i + 1, pause_ms
            site.arguments = list(ANY)
            site.prefix = ["ip", "netns", "exec", site.name]
            if self.clocks:
                site.env = dict(os.environ, LD_PRELOAD=FAKETIME, FAKETIME_DONT_FAKE_MONOTONIC="1",
                                FAKETIME_TIMESTAMP_FILE=self.clock_file(site), FAKETIME_CACHE_DURATION="1",
                                NO_FAKE_STAT="1")
                self.clock(site, 0)

    def folder(self, name):
        if int(name[1:]) in self.small:
            self.disks[name] = Disk(self.world.path(name + ".image"), self.world.path(name), megabytes=48)
            return self.disks[name].point
        return super().folder(name)

    def clock_file(self, site):
        return self.world.path(site.name + ".clock")

    def clock(self, site, seconds):
        """Its clock is so far ahead from now on (within a second)."""
        temporary = self.clock_file(site) + ".new"
        with open(temporary, "w") as f:
            f.write("%+d\n" % seconds)
        os.rename(temporary, self.clock_file(site))

    def keep_port(self, site, address):
        pass  # others hear where it is

    def begin(self):
        self.make(uses=1)
        first = self.sites[0]
        ticket = first.ask("invite", first.db, "--uses", str(len(self.sites)), "--no-addresses").split()[1]
        for site in self.sites[1:]:
            site.start("join", ticket, site.db)
        for site in self.sites[1:]:
            site.node.line("node ")
            site.node.line("joined ")
        for site in self.sites:
            site.ask("wait", site.db, "--peers", str(len(self.sites) - 1), "--timeout", "60")
        for site in self.sites:
            site.write()

    def pause_all(self):
        for site in self.sites:
            site.pause()

    def peers_of(self, site):
        return {peer["name"]: peer for peer in site.status()["peers"]}

    def until(self, seconds, what, done):
        """Asks until done() is true."""
        end = time.monotonic() + seconds
        while not done():
            check(time.monotonic() < end, "it never came: " + (what if isinstance(what, str) else what()))
            self.tick.wait(0.2)

    def close(self):
        self.lan.close()
        for disk in self.disks.values():
            disk.close()

    def __exit__(self, kind, value, trace):
        super().__exit__(kind, value, trace)
        self.close()
