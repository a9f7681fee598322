"""The stages of scripts/test: runs them in turn, prints a line for each, counts the tests.

Tests are counted from meson's testlog.json and from the lines that the tests write; a stage that is
not a meson run counts as one test. What a stage wrote is kept in build-logs/STAGE.txt.
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
LOGS = os.path.join(ROOT, "build-logs")
JOBS = os.environ.get("P2P_JOBS") or str(min(2, os.cpu_count() or 1))
SHARED = os.environ.get("P2P_SHARED", "")
COMMAND_SECONDS_MAX = 900
TAIL_CHARS_MAX = 12000

# What starts programs or lasts long; valgrind and the thread sanitizer take the tests that tell them most.
TSAN_SUITES = ("node", "integration")
VALGRIND_TESTS = ("buf", "ident", "message", "rowstate", "schema", "store", "preface", "pair", "secure",
                  "json", "mailbox", "ticket")

SANITIZER_ENV = {
    "ASAN_OPTIONS": "detect_leaks=1:halt_on_error=1:strict_string_checks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}


class Failed(Exception):
    """A stage failed; its text says how."""


class Counts:
    def __init__(self, passed=0):
        self.passed, self.failed, self.skipped = passed, 0, 0

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self):
        return "%d passed, %d failed, %d skipped" % (self.passed, self.failed, self.skipped)


class Stage:
    """One stage's run: where its log is, which sanitizer its tests know of."""

    def __init__(self, name):
        self.name = name
        self.sanitized = False
        os.makedirs(LOGS, exist_ok=True)
        self.log = os.path.join(LOGS, name + ".txt")
        open(self.log, "w").close()

    def run(self, args, env=None):
        """Runs a command, appends its output to the log; Failed with the end of that output."""
        with open(self.log, "a+", errors="replace") as log:
            log.write("$ %s\n" % " ".join(args))
            log.flush()
            begin = log.tell()
            try:
                code = subprocess.run(args, cwd=ROOT, env=dict(os.environ, **(env or {})), stdout=log,
                                      stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                      timeout=COMMAND_SECONDS_MAX).returncode
                why = "exit %d" % code
            except FileNotFoundError:
                code, why = 127, "not installed"
            except subprocess.TimeoutExpired:
                code, why = 124, "over %d s" % COMMAND_SECONDS_MAX
            log.seek(begin)
            text = log.read()
        if code:
            raise Failed("%s\n%s: %s" % (text[-TAIL_CHARS_MAX:].rstrip(), " ".join(args), why))
        return text

    # --- building ---------------------------------------------------------------------------------

    def build(self, name, compiler, *options):
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
            self.run(["meson", "setup", folder, "-Dshared=" + SHARED, *options], env={"CC": compiler})
            with open(stamp, "w") as f:
                f.write(settings)
        self.run(["ninja", "-C", folder, "-j", JOBS])
        return folder

    # --- tests ------------------------------------------------------------------------------------

    def skip_is_allowed(self, name):
        when = allowed_skips().get(name, set())
        return (
            "always" in when
            or ("no-shared" in when and not SHARED)
            or ("no-root" in when and os.geteuid() != 0)
            or ("no-netns" in when and not namespaces_work())
            or ("no-loop" in when and not loops_work())
            or ("no-tun" in when and not os.path.exists("/dev/net/tun"))
            or ("root" in when and os.geteuid() == 0)
            or ("sanitizer" in when and self.sanitized)
        )

    def test(self, folder, suites=(), names=(), but=(), wrap=None, slower=1):
        """Runs the tests of some suites, or of some names, or all; counts them. Failed has the counts too."""
        tests = json.loads(subprocess.run(["meson", "introspect", "--tests", folder], cwd=ROOT, check=True,
                                          capture_output=True, text=True).stdout)
        known = {s.split(":")[-1] for t in tests for s in t["suite"]}
        gone = [s for s in suites if s not in known]
        gone += [n for n in names if n not in {t["name"] for t in tests}]
        if gone:
            raise Failed("no tests of these names: " + ", ".join(gone))
        report = os.path.join(ROOT, folder, "meson-logs", "testlog.json")
        args = ["meson", "test", "-C", folder, "--no-rebuild", "--print-errorlogs", "--num-processes", JOBS,
                "--timeout-multiplier", str(slower)]
        args += [a for s in suites if s in known for a in ("--suite", s)]
        args += [a for s in but if s in known for a in ("--no-suite", s)]
        if wrap:
            args += ["--wrap", wrap]
            report = report.replace("testlog.json", "testlog-%s.json" % os.path.basename(wrap.split()[0]))
        if os.path.exists(report):
            os.remove(report)
        error = None
        try:
            self.run(args + list(names), env=SANITIZER_ENV if self.sanitized else None)
        except Failed as e:
            error = e
        if not os.path.exists(report):
            raise error or Failed("no test was run")
        return self.judge(error, *count_report(report))

    def judge(self, error, counts, failed, skipped):
        """The counts, or Failed if a test failed or was skipped without leave."""
        surprises = [name for name in skipped if not self.skip_is_allowed(name)]
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


def namespaces_work():
    """Whether this machine (a container, a chroot) lets us make network namespaces."""
    name = "p2pprobe%d" % os.getpid()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False}
    made = subprocess.run(["ip", "netns", "add", name], **quiet).returncode == 0
    works = made and subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], **quiet).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", name], **quiet)
    return works


def loops_work():
    """Whether this machine (a container) lets us mount file systems of our own from loop devices."""
    probe = "mount -t tmpfs none /tmp && cd /tmp && truncate -s 4M image && mkfs.ext4 -q image && mkdir m && mount -o loop image m"
    return subprocess.run(["unshare", "--mount", "--propagation", "private", "sh", "-c", probe],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def allowed_skips():
    """name -> when a skip of it is all right (a name may have several lines), from tests/skips.txt."""
    skips = {}
    with open(os.path.join(ROOT, "tests", "skips.txt")) as f:
        for line in f:
            words = line.split(None, 2)
            if words and not words[0].startswith("#"):
                if len(words) < 3 or words[1] not in ("always", "no-shared", "no-root", "no-netns", "no-loop", "no-tun", "root", "sanitizer"):
                    raise Failed("tests/skips.txt: name, when, reason: " + line.strip())
                skips.setdefault(words[0], set()).add(words[1])
    return skips


def count_report(path):
    """Counts, failed names and skipped names of a testlog.json."""
    counts, failed, skipped = Counts(), [], []
    with open(path) as f:
        results = [json.loads(line) for line in f]
    for result in results:
        name = result["name"].split(" / ")[-1].split(":")[-1]
        text = (result.get("stdout") or "") + (result.get("stderr") or "")
        # cmocka's lines, and those of our scripts
        inner_passed = len(re.findall(r"^(?:\[ +OK +\] |ok   )", text, re.M))
        inner_skipped = re.findall(r"^\[  SKIPPED \] (\w+)$", text, re.M)
        inner_skipped += re.findall(r"^ +\(.*skipped\)\nok   (\w+)", text, re.M)
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


# --- the stages -----------------------------------------------------------------------------------


def stage_layers(stage):
    stage.run([".ci/layers"])
    return Counts(1)


def stage_style(stage):
    stage.run([".ci/style"])
    return Counts(1)


def stage_gcc(stage):
    """Every test there is."""
    return stage.test(stage.build("gcc", "gcc"))


def stage_quick(stage):
    """The same without what takes minutes."""
    return stage.test(stage.build("gcc", "gcc"), but=("slow",))


def stage_asan(stage):
    """clang's warnings, and its address and undefined behaviour sanitizers."""
    stage.sanitized = True
    folder = stage.build("asan", "clang", "-Db_sanitize=address,undefined", "-Db_lundef=false")
    return stage.test(folder, but=("machine",), slower=4)


def stage_tsan(stage):
    """What has threads: the node."""
    stage.sanitized = True
    folder = stage.build("tsan", "gcc", "-Db_sanitize=thread")
    # gcc 12's runtime knows fewer address layouts than newer kernels make at random
    still = subprocess.run(["setarch", "-R", "true"], stderr=subprocess.DEVNULL).returncode == 0
    return stage.test(folder, suites=TSAN_SUITES, slower=4, wrap="setarch -R" if still else None)


def stage_valgrind(stage):
    """Uninitialised reads are what valgrind sees and the sanitizers do not."""
    wrap = "valgrind -q --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect"
    return stage.test(stage.build("gcc", "gcc"), names=VALGRIND_TESTS, wrap=wrap, slower=10)


def stage_replay(stage):
    """A seed of the simulator gives the same trace, run twice with gcc's build and once with clang's."""
    traces = []
    for name in ("gcc", "gcc", "asan"):
        program = os.path.join("build-" + name, "tests", "sim", "sim")
        if not os.path.exists(os.path.join(ROOT, program)):
            raise Failed("%s is not there: this stage comes after the stages gcc and asan" % program)
        text = stage.run([program, "--count", "20", "--jobs", JOBS, "--hash"])
        traces.append(sorted(re.findall(r"^\d+ [0-9a-f]{32}$", text, re.M)))
    if len(traces[0]) != 20 or traces[0] != traces[1] or traces[0] != traces[2]:
        raise Failed("the traces differ: %s" % traces)
    return Counts(1)


def stage_install(stage):
    """As a packager and an embedder do it."""
    stage.run([".ci/install", stage.build("gcc", "gcc")])
    return Counts(1)


STAGES = ("layers", "style", "gcc", "asan", "tsan", "valgrind", "replay", "install")
QUICK = ("layers", "style", "quick")


def run_stage(name):
    """Runs one stage and prints its line; its counts."""
    began = time.monotonic()
    print("%-10s ..." % name, end="\r" if sys.stdout.isatty() else "\n", flush=True)
    stage = Stage(name)
    problem = ""
    try:
        counts = globals()["stage_" + name](stage)
    except Failed as e:
        counts = getattr(e, "counts", None) or Counts()
        counts.failed = counts.failed or 1
        problem = str(e)
    if problem:
        print(problem, flush=True)
        print("%s: the whole log is %s" % (name, os.path.relpath(stage.log, os.getcwd())))
    tests = "%4d passed" % counts.passed
    tests += ", %d failed" % counts.failed if counts.failed else ""
    tests += ", %d skipped" % counts.skipped if counts.skipped else ""
    seconds = time.monotonic() - began
    print("%-10s %7.1f s  %s  %s" % (name, seconds, "FAILED" if problem else "ok", tests), flush=True)
    return counts


def main():
    parser = argparse.ArgumentParser(prog="scripts/test")
    parser.add_argument("--quick", action="store_true", help="machine checks, one build with gcc, its quick tests")
    parser.add_argument("--list", action="store_true", help="name the stages")
    parser.add_argument("--stage", action="append", choices=sorted({*STAGES, *QUICK}), default=[], help="only this one; repeatable")
    options = parser.parse_args()
    if options.list:
        print("\n".join(STAGES))
        return 0
    total = Counts()
    began = time.monotonic()
    for name in options.stage or (QUICK if options.quick else STAGES):
        total.add(run_stage(name))
    print("all        %7.1f s  %s" % (time.monotonic() - began, total), flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
