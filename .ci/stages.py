"""The stages of scripts/test: runs them in turn, prints a line for each, counts the tests.

Tests are counted from meson's testlog.json and from the lines that cmocka writes; a stage that is
not a meson run counts as one test.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
JOBS = os.environ.get("P2P_JOBS") or str(os.cpu_count() or 2)
SHARED = os.environ.get("P2P_SHARED", "")
STAGE_SECONDS_MAX = 900

# Suites that start whole nodes; the others are the quick ones.
SYSTEM = ("integration", "netns")
# Uninitialised reads are what valgrind sees and the sanitizers do not: the parsers, mostly.
VALGRIND_SUITES = ("proto", "transport", "discovery")

SAN_ENV = {
    "ASAN_OPTIONS": "detect_leaks=1:halt_on_error=1:strict_string_checks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}


class Failed(Exception):
    """A stage failed; its text says how."""


class Counts:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self):
        return "%d passed, %d failed, %d skipped" % (self.passed, self.failed, self.skipped)


def run(args, env=None, cwd=ROOT, fine=(0,)):
    """Runs a command; its output, or Failed with the end of its output."""
    full = dict(os.environ, **(env or {}))
    try:
        done = subprocess.run(args, cwd=cwd, env=full, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=STAGE_SECONDS_MAX, text=True, errors="replace")
    except FileNotFoundError:
        raise Failed("%s is not installed" % args[0])
    except subprocess.TimeoutExpired as late:
        text = late.stdout or b""
        text = text if isinstance(text, str) else text.decode(errors="replace")
        raise Failed("%s\n%s: over %d s" % (text[-8000:], " ".join(args), STAGE_SECONDS_MAX))
    if done.returncode not in fine:
        raise Failed("%s\n%s: exit %d" % (done.stdout[-16000:].rstrip(), " ".join(args), done.returncode))
    return done.stdout


# --- building -------------------------------------------------------------------------------------


def build(name, compiler, *options):
    """Configures build-NAME, anew if its settings are others than last time, and compiles."""
    folder = "build-" + name
    stamp = os.path.join(ROOT, folder, "settings")
    settings = json.dumps([compiler, options, SHARED])
    try:
        with open(stamp) as f:
            fresh = f.read() != settings
    except FileNotFoundError:
        fresh = True
    if fresh:
        shutil.rmtree(os.path.join(ROOT, folder), ignore_errors=True)
        run(["meson", "setup", folder, "-Dshared=" + SHARED, *options], env={"CC": compiler})
        with open(stamp, "w") as f:
            f.write(settings)
    run(["ninja", "-C", folder, "-j", JOBS])
    return folder


def suites_of(folder):
    tests = json.loads(run(["meson", "introspect", "--tests", folder]))
    return {s.split(":")[-1] for t in tests for s in t["suite"]}


# --- tests ----------------------------------------------------------------------------------------


def allowed_skips():
    """name -> when a skip of it is all right, from tests/skips.txt."""
    skips = {}
    with open(os.path.join(ROOT, "tests", "skips.txt")) as f:
        for line in f:
            words = line.split(None, 2)
            if words and not words[0].startswith("#"):
                if len(words) < 3 or words[1] not in ("always", "no-shared", "no-root"):
                    raise Failed("tests/skips.txt: name, when, reason: " + line.strip())
                skips[words[0]] = words[1]
    return skips


def skip_is_allowed(name):
    when = allowed_skips().get(name)
    return (
        when == "always"
        or (when == "no-shared" and not SHARED)
        or (when == "no-root" and os.geteuid() != 0)
    )


def count_log(path):
    """Counts, failed names and skipped names of a testlog.json."""
    counts, failed, skipped = Counts(), [], []
    with open(path) as f:
        results = [json.loads(line) for line in f]
    for result in results:
        name = result["name"].split(" / ")[-1].split(":")[-1]
        text = (result.get("stdout") or "") + (result.get("stderr") or "")
        inner_passed = len(re.findall(r"^\[ +OK +\] ", text, re.M))
        inner_skipped = re.findall(r"^\[  SKIPPED \] (\w+)$", text, re.M)
        if result["result"] == "SKIP":
            skipped.append(name)
        elif result["result"] in ("OK", "EXPECTEDFAIL"):
            counts.passed += max(inner_passed, 1)
            skipped += ["%s.%s" % (name, inner) for inner in sorted(set(inner_skipped))]
        else:
            counts.passed += inner_passed
            failed.append("%s (%s)" % (name, result["result"]))
    counts.failed = len(failed)
    counts.skipped = len(skipped)
    return counts, failed, skipped


def meson_test(folder, suites=(), but=(), env=None, wrap=None, slower=1):
    """Runs the tests of some suites, or all; counts them. Failed carries the counts too."""
    known = suites_of(folder)
    suites = [s for s in suites if s in known]
    log = os.path.join(ROOT, folder, "meson-logs", "testlog.json")
    args = ["meson", "test", "-C", folder, "--no-rebuild", "--print-errorlogs", "--num-processes", JOBS,
            "--timeout-multiplier", str(slower)]
    args += [a for s in suites for a in ("--suite", s)]
    args += [a for s in but if s in known for a in ("--no-suite", s)]
    if wrap:
        args += ["--wrap", wrap]
        log = log.replace("testlog.json", "testlog-%s.json" % os.path.basename(wrap.split()[0]))
    if os.path.exists(log):
        os.remove(log)
    error = None
    try:
        run(args, env=env)
    except Failed as e:
        error = e
    if not os.path.exists(log):
        raise error or Failed("no test was run")
    counts, failed, skipped = count_log(log)
    surprises = [name for name in skipped if not skip_is_allowed(name)]
    text = [str(error)] if error else []
    if failed:
        text.append("failed: " + ", ".join(failed))
    if surprises:
        counts.failed += len(surprises)
        counts.skipped -= len(surprises)
        text.append("skipped, but not in tests/skips.txt: " + ", ".join(surprises))
    if text:
        problem = Failed("\n".join(text))
        problem.counts = counts
        raise problem
    return counts


# --- the stages -----------------------------------------------------------------------------------


def one():
    counts = Counts()
    counts.passed = 1
    return counts


def stage_layers():
    run([".ci/layers"])
    return one()


def stage_style():
    run([".ci/style"])
    return one()


def stage_quick():
    return meson_test(build("gcc", "gcc"), suites=("unit",))


def stage_gcc():
    return meson_test(build("gcc", "gcc"), but=SYSTEM)


def stage_clang():
    return meson_test(build("clang", "clang"), but=SYSTEM)


def stage_asan():
    folder = build("asan", "gcc", "-Db_sanitize=address,undefined")
    return meson_test(folder, but=("netns", "machine"), env=SAN_ENV, slower=4)


def stage_tsan():
    folder = build("tsan", "gcc", "-Db_sanitize=thread")
    if not suites_of(folder) & {"node", "integration"}:
        return None
    # gcc 12's runtime knows fewer address layouts than newer kernels make at random
    still = subprocess.run(["setarch", "-R", "true"], stderr=subprocess.DEVNULL).returncode == 0
    return meson_test(folder, suites=("node", "integration"), env=SAN_ENV, slower=4,
                      wrap="setarch -R" if still else None)


def stage_valgrind():
    wrap = "valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect"
    return meson_test(build("gcc", "gcc"), suites=VALGRIND_SUITES, wrap=wrap, slower=20)


def stage_integration():
    folder = build("gcc", "gcc")
    return meson_test(folder, suites=("integration",)) if "integration" in suites_of(folder) else None


def stage_netns():
    folder = build("gcc", "gcc")
    return meson_test(folder, suites=("netns",)) if "netns" in suites_of(folder) else None


def stage_install():
    if not os.path.exists(os.path.join(ROOT, "node", "p2pnode.h")):
        return None
    run([".ci/install", build("gcc", "gcc")])
    return one()


STAGES = ("layers", "style", "gcc", "clang", "asan", "tsan", "valgrind", "integration", "netns", "install")
QUICK = ("layers", "style", "quick")


def run_stage(name):
    """Runs one stage and prints its line; its counts."""
    began = time.monotonic()
    problem = ""
    try:
        counts = globals()["stage_" + name]()
    except Failed as e:
        counts = getattr(e, "counts", None) or Counts()
        counts.failed = counts.failed or 1
        problem = str(e)
    if problem:
        print(problem, flush=True)
    verdict = "FAILED" if problem else "nothing to run yet" if counts is None else "ok"
    counts = counts or Counts()
    seconds = time.monotonic() - began
    tests = "%4d passed" % counts.passed
    tests += ", %d failed" % counts.failed if counts.failed else ""
    tests += ", %d skipped" % counts.skipped if counts.skipped else ""
    print("%-12s %7.1f s  %s  %s" % (name, seconds, tests, verdict), flush=True)
    return counts


def main():
    parser = argparse.ArgumentParser(prog="scripts/test")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("stage", nargs="*", choices=[[], *STAGES, *QUICK])
    options = parser.parse_args()
    if options.list:
        print("\n".join(STAGES))
        return 0
    total = Counts()
    began = time.monotonic()
    for name in options.stage or (QUICK if options.quick else STAGES):
        total.add(run_stage(name))
    print("%-12s %7.1f s" % ("all", time.monotonic() - began))
    print(total, flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
