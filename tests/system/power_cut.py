"""Power cuts: three nodes on one machine, the database and the state of each on a file system of its
own, an application on each that commits all the time with synchronous=FULL. At random moments a file
system is stopped without its journal and without what was not synced (disks.py), the processes that
lived on it die with it, it is mounted again and the node started: what was acknowledged must be there
(real.py). Also cut: nodes that have just been made, and joins under way.

Usage: power_cut.py [--cuts N] [--seed N] [--mesh N] [--check N] [--fs ext4|xfs] [--only SEED]
  --cuts N    how many file systems are stopped in all (default 100)
  --mesh N    a new mesh after so many cuts (default 25)
  --check N   rest and check after so many cuts (default 4)
  --only S    only the mesh of this seed, as a failure named it
Needs root and loop devices: skipped without. Everything is in namespaces of its own.
"""
import argparse
import os
import signal
import sys
import time

from disks import Disk, alone, available, run
from real import Failed, Mesh, World, check, clean_up_when_ended, report


def stands_still(pid):
    """Every thread of the process is stopped, or in the kernel and will not come back from there."""
    for thread in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/stat" % (pid, thread)) as f:
            state = f.read().rsplit(")", 1)[1].split()[0]
        if state not in "TD":
            return False
    return True


class Cuts(Mesh):
    """One mesh that lives through some power cuts."""

    def __init__(self, world, seed, kind):
        self.kind, self.disks = kind, {}
        self.cuts = self.at_once = self.joins_cut = self.fresh_cut = 0
        run("mount", "-t", "tmpfs", "none", world.dir)
        super().__init__(world, seed)

    def folder(self, name):
        size = 320 if self.kind == "xfs" else 192
        self.disks[name] = Disk(self.world.path(name + ".image"), self.world.path(name), self.kind, size)
        return self.disks[name].point

    def cut(self, *sites):
        """The power of these goes at once. Their processes stand still before it, so that nobody hears
        how a system call ended that the stop of the file system met."""
        late = self.random.random() < 0.3  # they die first, and what they wrote has not come to the disk
        for site in sites:
            if late:
                self.die(site)
            else:
                self.halt(site)
        for site in sites:
            self.disks[site.name].cut()
        for site in sites:
            if not late:
                self.die(site)
            self.disks[site.name].unmount()
            self.disks[site.name].mount()
        self.cuts += len(sites)
        self.at_once += len(sites) > 1

    @staticmethod
    def die(site):
        if site.node and site.node in site.world.processes:
            site.kill()
        if site.application:
            site.kill_application()

    def halt(self, site):
        """Its processes stop, each thread at the latest when it leaves the system call that it is in."""
        for process in (site.node, site.application and site.application.process):
            if not process or process.proc.poll() is not None:
                continue
            process.proc.send_signal(signal.SIGSTOP)
            end = time.monotonic() + 10
            while not stands_still(process.proc.pid):
                check(time.monotonic() < end, "%s does not stop" % process.argv[-8:])

    # --- the beginning ----------------------------------------------------------------------------

    def begin(self):
        """As without faults, but the power goes right after what a person was told, or before."""
        ticket = self.make(uses=60)
        if self.random.random() < 0.5:
            self.fresh_cut += 1
            self.cut(self.sites[0])
            self.sites[0].run()
            self.sites[0].up()
        for site in self.sites[1:]:
            if self.random.random() < 0.5:
                self.cut_join(site, ticket)
            self.join(site, ticket)
            if self.random.random() < 0.3:  # "joined" was said: it is
                self.fresh_cut += 1
                self.cut(site)
                site.run()
                site.up()
        for site in self.sites:
            site.write()

    def cut_join(self, site, ticket):
        site.start("join", ticket, site.db)
        self.pass_time(0.15)
        self.joins_cut += 1
        self.cut(site)

    # --- and then ---------------------------------------------------------------------------------

    def round(self):
        for site in self.sites:
            site.up()
        self.pass_time(0.4)
        victims = [self.random.choice(self.sites)] if self.random.random() < 0.75 else list(self.sites)
        self.cut(*victims)
        for site in victims:
            site.run()
            if self.random.random() < 0.7:
                site.up()
            site.write()

    def rest(self):
        total = super().rest()
        for site in self.sites:
            check(len(site.replicas) == 1, "%s took a new replica id after a cut: %s" % (site.name, site.replicas))
        return total

    def __exit__(self, kind, value, trace):
        super().__exit__(kind, value, trace)
        for disk in self.disks.values():
            disk.close()
        run("umount", "-l", self.world.dir)


def one_mesh(seed, cuts, options):
    with World() as world, Cuts(world, seed, options.fs) as mesh:
        mesh.begin()
        checked = mesh.cuts
        while mesh.cuts < cuts:
            mesh.round()
            if mesh.cuts - checked >= options.check:
                checked = mesh.cuts
                mesh.rest()
        total = mesh.rest()
        mesh.commits = sum(site.commits() for site in mesh.sites)
        print("     mesh %d: %d cuts, %d commits, %d changesets, %d rows equal, "
              "level after at most %.2f s" % (seed, mesh.cuts, mesh.commits, len(mesh.logs.seen), total,
                                              mesh.slowest), flush=True)
        return mesh


def main():
    parser = argparse.ArgumentParser(prog="power_cut.py", usage=__doc__)
    parser.add_argument("--cuts", type=int, default=100)
    parser.add_argument("--mesh", type=int, default=25)
    parser.add_argument("--check", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fs", choices=("ext4", "xfs"), default="ext4")
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    clean_up_when_ended()
    why_not = alone() or available(options.fs)
    if why_not:
        print("%s: skipped" % why_not)
        return 77
    began, meshes, seed = time.monotonic(), [], options.seed
    while sum(m.cuts for m in meshes) < options.cuts:
        this = options.only if options.only is not None else seed
        left = options.cuts - sum(m.cuts for m in meshes)
        try:
            meshes.append(one_mesh(this, min(left, options.mesh), options))
        except Failed as why:
            print("FAIL a_power_cut_loses_nothing: %s\n     again: power_cut.py --only %d --cuts %d --mesh %d --check %d"
                  " --fs %s" % (why, this, options.mesh, options.mesh, options.check, options.fs))
            return 1
        seed += 1

    def total(what):
        return sum(getattr(mesh, what) for mesh in meshes)

    seconds = time.monotonic() - began
    print("ok   a_power_cut_loses_nothing (%d cuts of %s in %d meshes, several at once %d times, %d joins cut, "
          "%d right after a node was made, %d commits acknowledged, %d checks, %.0f s)"
          % (total("cuts"), options.fs, len(meshes), total("at_once"), total("joins_cut"), total("fresh_cut"),
             total("commits"), total("checks"), seconds))
    report("power_cut" if options.fs == "ext4" else "power_cut_" + options.fs, "power cuts (%s)" % options.fs,
           "tests/system/power_cut.py --cuts %d --seed %d --fs %s" % (options.cuts, options.seed, options.fs), [
        ["file systems stopped without their journal (%s)" % options.fs, total("cuts")],
        ["times that several lost power at once", total("at_once")], ["joins cut", total("joins_cut")],
        ["cut right after share or join said that it is done", total("fresh_cut")],
        ["commits acknowledged to applications (synchronous=FULL)", total("commits")],
        ["changesets signed", sum(len(m.logs.seen) for m in meshes)],
        ["acknowledged commits lost", 0], ["databases damaged", 0], ["seq used twice", 0],
        ["new replica ids taken after a cut", 0],
        ["checks of everything", total("checks")],
        ["slowest way from the last start to level, s", round(max(m.slowest for m in meshes), 2)],
        ["seconds", round(seconds)]],
        ["disks that say a sync is done before it is", "sectors that are torn: the simulator tears them"])
    return 0


sys.exit(main())
