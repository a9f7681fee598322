"""kill -9 at random moments: three nodes on one machine, an application on each that commits all the
time, nodes (and applications) killed again and again and started again; then everything is checked
(real.py). Kills fall in the middle of merges, freezes, handshakes and starts.

Usage: kill_loop.py [--kills N] [--seed N] [--mesh N] [--check N] [--only WORLD]
  --kills N   how many processes are killed in all (default 300)
  --mesh N    a new mesh after so many kills (default 100)
  --check N   rest and check after so many kills (default 10)
  --only W    only this mesh of the series, as a failure named it
"""
import argparse
import signal
import sys
import time

from real import Failed, Mesh, World, check, clean_up_when_ended, report


class Kills(Mesh):
    """One mesh that lives through some kills."""

    def __init__(self, world, seed):
        super().__init__(world, seed)
        self.kills = self.application_kills = self.early_kills = self.all_at_once = self.join_kills = 0

    def join(self, site, ticket):
        """Killed in the middle of it, at times, and asked again."""
        while self.random.random() < 0.5:
            site.start("join", ticket, site.db)
            self.pass_time(0.15)
            site.kill()
            self.kills += 1
            self.join_kills += 1
        super().join(site, ticket)

    def kill(self, site):
        self.early_kills += not site.node.seen
        site.kill()
        self.kills += 1
        if self.random.random() < 0.3 and site.application:
            site.kill_application()
            self.application_kills += 1

    def start(self, site):
        site.run()
        if not site.application:
            site.write()

    def round(self):
        """A random moment, one kill or several, and the start after it, sometimes killed at once."""
        self.pass_time(0.12)
        if self.random.random() < 0.6:
            for site in self.sites:
                site.up()
        victims = [self.random.choice(self.sites)]
        if self.random.random() < 0.15:
            victims = list(self.sites)
            self.all_at_once += 1
        for site in victims:
            self.kill(site)
        if self.random.random() < 0.5:
            self.pass_time(0.1)  # applications write beside a dead node
        for site in victims:
            self.start(site)

    def rest(self):
        total = super().rest()
        for site in self.sites:
            check(len(site.replicas) == 1, "%s took a new replica id after a kill: %s" % (site.name, site.replicas))
        return total


def one_mesh(seed, kills, every):
    with World() as world, Kills(world, seed) as mesh:
        mesh.begin()
        checked = 0
        while mesh.kills < kills:
            mesh.round()
            if mesh.kills - checked >= every:
                checked = mesh.kills
                mesh.rest()
        total = mesh.rest()
        for site in mesh.sites:
            site.kill_application()
            site.node.stop(signal.SIGTERM)
        commits = sum(site.commits() for site in mesh.sites)
        print("     mesh %d: %d kills, %d commits, %d changesets, %d rows equal, level after at most %.2f s"
              % (seed, mesh.kills, commits, len(mesh.logs.seen), total, mesh.slowest), flush=True)
        return mesh, commits


def main():
    parser = argparse.ArgumentParser(prog="kill_loop.py", usage=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--mesh", type=int, default=100)
    parser.add_argument("--check", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    clean_up_when_ended()
    began, meshes, commits, seed = time.monotonic(), [], 0, options.seed
    while sum(m.kills for m in meshes) < options.kills:
        this = options.only if options.only is not None else seed
        left = options.kills - sum(m.kills for m in meshes)
        try:
            mesh, wrote = one_mesh(this, min(left, options.mesh), options.check)
        except Failed as why:
            print("FAIL a_kill_loses_nothing: %s\n     again: kill_loop.py --only %d --kills %d --mesh %d --check %d"
                  % (why, this, options.mesh, options.mesh, options.check))
            return 1
        meshes.append(mesh)
        commits += wrote
        seed += 1

    def total(what):
        return sum(getattr(mesh, what) for mesh in meshes)

    seconds = time.monotonic() - began
    print("ok   a_kill_loses_nothing (%d kills in %d meshes, %d while starting, %d while joining, all nodes at once %d times, "
          "%d applications killed, %d commits acknowledged, %d checks, %.0f s)"
          % (total("kills"), len(meshes), total("early_kills"), total("join_kills"), total("all_at_once"), total("application_kills"),
             commits, total("checks"), seconds))
    report("kill_loop", "kill -9", "tests/system/kill_loop.py --kills %d --seed %d" % (options.kills, options.seed), [
        ["nodes killed (kill -9)", total("kills")], ["of these while they started", total("early_kills")],
        ["of these while they joined", total("join_kills")],
        ["times that all nodes were killed at once", total("all_at_once")],
        ["applications killed (kill -9)", total("application_kills")],
        ["commits acknowledged to applications", commits],
        ["changesets signed", sum(len(m.logs.seen) for m in meshes)],
        ["acknowledged commits lost", 0], ["databases damaged", 0], ["seq used twice", 0],
        ["checks of everything", total("checks")],
        ["slowest way from the last start to level, s", round(max(m.slowest for m in meshes), 2)],
        ["seconds", round(seconds)]], ["what the kernel held in memory survives a kill; power_cut.py cuts the power"])
    return 0


sys.exit(main())
