"""Eight hosts that find one another by multicast alone, an application on each that writes all the
time, and one fault after the other on their LAN, processes, disks or clocks. Then the fault ends, the
applications rest, and it is measured how long it takes until all databases are the same; everything
is checked (real.py).

Usage: fault_sets.py [--hosts N] [--seconds S] [--pause MS] [--seed N] [SET...]
  SET          none, halves, ring, one_way, flapping, unplug, loss, delay, slow, kill, pause,
               disk_full, clock; without one: all of them
  --hosts N    how many hosts (default 8)
  --seconds S  how long each fault lasts (default 20)
  --pause MS   what an application waits between two transactions, on average (default 100)
Needs root, network namespaces, /dev/net/tun; disk_full loop devices; clock libfaketime: skipped
without. Everything is in namespaces of its own.
"""
import argparse
import os
import signal
import sys
import time

from disks import alone, available
from hosts import FAKETIME, SWITCH, Hosts
from real import Failed, World, all_say_so, at_rest, check, clean_up_when_ended, level, level_now, report

DAYS_30 = 30 * 86400
BOUND = 90  # seconds until all are the same, after which a set has failed


class Fault:
    """Nothing: the base of all."""

    text = "no fault"
    seconds_min = 0
    options = {}

    def __init__(self, mesh):
        self.mesh, self.lan, self.random = mesh, mesh.lan, mesh.random
        self.count = len(mesh.sites)
        self.all = range(1, self.count + 1)

    def begin(self):
        pass

    def turn(self):
        """About five times a second, while it lasts."""

    def end(self):
        self.lan.heal()

    def seen(self):
        """Before it ends: what people must be told of it."""


class Halves(Fault):
    text = "two halves that do not hear each other"

    def begin(self):
        for a in self.all:
            for b in self.all:
                if a <= self.count // 2 < b:
                    self.lan.cut(a, b)


class Ring(Fault):
    text = "a ring in which each hears a majority, no two the same"

    def begin(self):
        reach = self.count // 4  # to both sides, and itself
        for a in self.all:
            for b in self.all:
                if min((a - b) % self.count, (b - a) % self.count) > reach:
                    self.lan.cut(a, b)


class OneWay(Fault):
    text = "one half hears the other, which does not hear it"

    def begin(self):
        for a in self.all:
            for b in self.all:
                if a <= self.count // 2 < b:
                    self.lan.cut(a, b, both=False)


class Flapping(Fault):
    text = "links between all pairs go and come"

    def turn(self):
        for a in self.all:
            for b in self.all:
                if a < b and self.random.random() < 0.2:
                    up = self.random.random() < 0.5
                    self.lan.set(a, b, up=up)
                    self.lan.set(b, a, up=up)


class Unplug(Fault):
    text = "three cables are out"

    def begin(self):
        for a in self.random.sample(self.all, min(3, self.count)):
            self.lan.tell("carrier %d 0" % a)
            self.lan.cut(a, 0)


class Loss(Fault):
    text = "30 % of all frames are lost"

    def begin(self):
        self.lan.set(0, 0, loss=30)


class Delay(Fault):
    text = "50 to 150 ms of delay, frames overtake one another"

    def begin(self):
        self.lan.set(0, 0, delay_ms=50, jitter_ms=100, reorder=25)


class Slow(Fault):
    text = "each host sends at 500 kbit/s at most"

    def begin(self):
        for a in self.all:
            self.lan.tell("rate %d 500" % a)


class Kill(Fault):
    text = "nodes are killed (-9) and started again"

    def turn(self):
        site = self.random.choice(self.mesh.sites)
        site.kill()
        site.run()


class Pause(Fault):
    text = "three nodes stand still (SIGSTOP)"

    def begin(self):
        self.still = self.random.sample(self.mesh.sites, min(3, self.count))
        for site in self.still:
            site.node.proc.send_signal(signal.SIGSTOP)

    def end(self):
        for site in self.still:
            site.node.proc.send_signal(signal.SIGCONT)


class DiskFull(Fault):
    text = "the disks of three hosts are full"
    options = {"small_disks": (2, 3, 5)}

    def begin(self):
        self.filled = []
        self.fill()

    def fill(self):
        for site in self.mesh.sites:
            if site.number in self.options["small_disks"]:
                self.filled.append(os.path.join(site.folder, "ballast%d" % len(self.filled)))
                self.fill_one(self.filled[-1])

    @staticmethod
    def fill_one(path):
        with open(path, "wb", buffering=0) as f:
            for size in (1 << 20, 4096, 1):
                try:
                    while f.write(b"x" * size):
                        pass
                except OSError:
                    pass  # full, as wanted

    def turn(self):
        self.fill()  # what a checkpoint gave back

    def end(self):
        for path in self.filled:
            os.unlink(path)


class Clock(Fault):
    """One clock 30 days ahead and one 30 days behind, each alone with its error."""

    text = "one clock is 30 days ahead, one 30 days behind"
    options = {"clocks": True}

    def begin(self):
        self.ahead, self.behind = self.mesh.sites[1], self.mesh.sites[2]
        self.mesh.clock(self.ahead, DAYS_30)
        self.mesh.clock(self.behind, -DAYS_30)

    def say_so(self, site, others):
        peers = self.mesh.peers_of(site)
        return all(peers[other.name]["state"] == "error" and "clock" in peers[other.name]["last_error"]
                   for other in others)

    def all_say_so(self, site, others, seconds):
        self.mesh.until(seconds, lambda: "%s does not say that clocks differ: %s" % (
            site.name, [(p["name"], p["state"], p["last_error"]) for p in self.mesh.peers_of(site).values()]),
                        lambda: self.say_so(site, others))

    def seen(self):
        wrong = [self.ahead, self.behind]
        for site in self.mesh.sites:
            others = [o for o in (self.mesh.sites if site in wrong else wrong) if o is not site]
            self.all_say_so(site, others, 30)
            check(not site.status()["in_sync"], "%s says that all is well" % site.name)

    def end(self):
        for site in (self.ahead, self.behind):
            self.mesh.clock(site, 0)


class ClockTogether(Clock):
    """Two clocks 30 days ahead, apart from the others: these two freeze for each other. (Among others
    they would go by the clock of the majority.) Nobody takes that before its time."""

    seconds_min = 20  # their sessions must end: while they last, the majority's clock is known
    text = "two clocks are 30 days ahead, apart; their time comes"

    def begin(self):
        self.wrong = self.mesh.sites[1:3]
        for site in self.wrong:
            for other in self.all:
                if other not in (2, 3):
                    self.lan.cut(site.number, other)
            self.mesh.clock(site, DAYS_30)

    def seen(self):
        self.lan.heal()
        right = [site for site in self.mesh.sites if site not in self.wrong]
        for site in self.mesh.sites:
            others = right if site in self.wrong else self.wrong
            self.all_say_so(site, others, 60)

    def end(self):
        """Their clocks are set right: what they froze is ahead of everybody, and refused with a retry."""
        self.mesh.pause_all()
        written = {site: site.commits() for site in self.wrong}
        for site in self.wrong:
            self.mesh.clock(site, 0)
        right = [site for site in self.mesh.sites if site not in self.wrong]
        self.mesh.until(30, "the clocks are right, and sessions do not say so", lambda: all(
            peer["state"] != "error" for site in right for peer in self.mesh.peers_of(site).values()))
        why = level_now(self.mesh.sites)
        check(why, "changes of 30 days ahead were taken: %s" % written)
        # four minutes before their time it is at most 5 minutes ahead
        for site in self.mesh.sites:
            self.mesh.clock(site, DAYS_30 - 240)


SETS = {"none": Fault, "halves": Halves, "ring": Ring, "one_way": OneWay, "flapping": Flapping, "unplug": Unplug,
        "loss": Loss, "delay": Delay, "slow": Slow, "kill": Kill, "pause": Pause, "disk_full": DiskFull,
        "clock": Clock, "clock_together": ClockTogether}


def one_set(name, options):
    """Runs one set; a line of the table."""
    make = SETS[name]
    with World() as world, Hosts(world, options.seed, options.hosts, options.pause, **make.options) as mesh:
        mesh.begin()
        fault = make(mesh)
        end = time.monotonic() + max(options.seconds, make.seconds_min)
        fault.begin()
        while time.monotonic() < end:
            fault.turn()
            mesh.tick.wait(0.2)
        fault.seen()
        fault.end()
        mesh.pause_all()
        for site in mesh.sites:
            site.up()
        seconds = level(mesh.sites, BOUND)
        total = at_rest(mesh.sites, mesh.logs)
        all_say_so(mesh.sites)
        commits = sum(site.commits() for site in mesh.sites)
        _, dropped = mesh.lan.counts()
        print("     %-15s level after %6.2f s  %6d commits, %6d rows equal, %6d frames dropped: %s"
              % (name, seconds, commits, total, dropped, make.text), flush=True)
        return {"name": name, "text": make.text, "seconds": seconds, "commits": commits, "dropped": dropped}


def why_not(names):
    """None, or why these cannot be run here."""
    if not os.path.exists("/dev/net/tun"):
        return "no /dev/net/tun here"
    if not os.access(SWITCH, os.X_OK):
        return "lan_switch was not built"
    if "disk_full" in names and available():
        return available()
    if any(name.startswith("clock") for name in names) and not os.path.exists(FAKETIME):
        return "needs libfaketime"
    return None


def main():
    parser = argparse.ArgumentParser(prog="fault_sets.py", usage=__doc__)
    parser.add_argument("sets", nargs="*", metavar="SET")
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--pause", type=float, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    clean_up_when_ended()
    names = options.sets or list(SETS)
    unknown = [name for name in names if name not in SETS]
    if unknown:
        parser.error("no such set: %s; there are %s" % (unknown, ", ".join(SETS)))
    problem = alone() or why_not(names)
    if problem:
        print("%s: skipped" % problem)
        return 77
    began, done, failed = time.monotonic(), [], []
    for name in names:
        try:
            done.append(one_set(name, options))
            print("ok   all_are_equal_after_%s" % name, flush=True)
        except Failed as why:
            failed.append(name)
            print("FAIL all_are_equal_after_%s: %s\n     again: fault_sets.py --hosts %d --seconds %g --seed %d %s"
                  % (name, why, options.hosts, options.seconds, options.seed, name), flush=True)
    if len(done) > 1:
        report("fault_sets", "fault sets on %d hosts with real multicast" % options.hosts,
               "tests/system/fault_sets.py --hosts %d --seconds %g" % (options.hosts, options.seconds),
               [["level after '%s' (%s), s" % (d["name"], d["text"]), round(d["seconds"], 2)] for d in done]
               + [["commits during the faults", sum(d["commits"] for d in done)],
                  ["frames dropped", sum(d["dropped"] for d in done)],
                  ["sets that failed", len(failed)], ["seconds of each fault", options.seconds],
                  ["seconds", round(time.monotonic() - began)]],
               ["radio: several hosts that send at once", "more than one LAN, routers between"])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
