"""Every header compiles alone, twice in one file, as C; the public one as C++ too.

Usage: check.py COMPILER ROOT BUILD. The generated headers are below BUILD.
"""
import concurrent.futures
import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
compiler, root, build = sys.argv[1:4]
sys.path.insert(0, os.path.join(root, ".ci"))
import source  # noqa: E402

PACKAGES = ["libsodium", "libprotobuf-c", "libuv", "sqlite3"]
PUBLIC = "node/p2pnode.h"


def package_flags():
    done = subprocess.run(["pkg-config", "--cflags", *PACKAGES], capture_output=True, text=True, check=True)
    return done.stdout.split()


def compiles(header, args):
    """What the compiler says against the header, empty if nothing."""
    text = '#include "%s"\n#include "%s"\n' % (header, header)
    done = subprocess.run([*args, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-"],
                          input=text, capture_output=True, text=True)
    return "" if done.returncode == 0 else "%s: %s\n%s" % (header, " ".join(args[:3]), done.stderr)


def main():
    paths = ["-I" + root, "-I" + build, *package_flags()]
    as_c = [compiler, "-x", "c", "-std=c11", "-D_GNU_SOURCE", *paths]
    headers = source.files(root, (".h",), ("proto", "crdt", "transport", "discovery", "node", "tests"))
    jobs = [(header, as_c) for header in headers]
    if os.path.exists(os.path.join(root, PUBLIC)):
        alone = [compiler, "-x", "c", "-std=c99", "-I" + root]
        jobs.append((PUBLIC, alone))
        cxx = next((c for c in ("clang++", "g++", "c++") if shutil.which(c)), None)
        if not cxx:
            print("no C++ compiler for the public header")
            return 1
        jobs.append((PUBLIC, [cxx, "-x", "c++", "-std=c++11", "-I" + root]))
    if not headers:
        print("no headers found")
        return 1
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        bad = [text for text in pool.map(lambda job: compiles(*job), jobs) if text]
    print("\n".join(bad) or "%d headers, %d compilations" % (len(headers), len(jobs)))
    return 1 if bad else 0


sys.exit(main())
