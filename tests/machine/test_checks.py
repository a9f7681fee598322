"""The machine checks find what they are for: each violation is planted in a copy and must be named.

Usage: test_checks.py ROOT
"""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = sys.argv.pop(1)
FOLDERS = (".ci", "proto", "crdt", "transport", "discovery", "node", "examples", "tests")


class Checks(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="p2pnode-checks-")
        self.addCleanup(shutil.rmtree, self.root)
        for name in FOLDERS:
            source = os.path.join(ROOT, name)
            if os.path.isdir(source):
                shutil.copytree(source, os.path.join(self.root, name),
                                ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(os.path.join(ROOT, ".clang-format"), self.root)

    def plant(self, path, text):
        full = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w") as f:
            f.write(text)

    def check(self, *args):
        done = subprocess.run([sys.executable, "-B", os.path.join(self.root, args[0]), *args[1:], self.root],
                              capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def layers_refuse(self, path, include):
        self.plant(path, "/* planted */\n#include %s\n" % include)
        code, text = self.check(".ci/layers")
        self.assertEqual(code, 1, text)
        self.assertIn("%s:2:" % path, text)
        os.remove(os.path.join(self.root, path))

    def style_refuses(self, path, text, part, *options):
        self.plant(path, text)
        code, said = self.check(".ci/style", *(options or ("--no-format",)))
        self.assertEqual(code, 1, said)
        self.assertIn(path + ":", said)
        self.assertIn(part, said)
        os.remove(os.path.join(self.root, path))

    def test_the_tree_as_it_is_passes(self):
        self.assertEqual(self.check(".ci/layers"), (0, ""))
        self.assertEqual(self.check(".ci/style", "--no-format"), (0, ""))

    def test_layers_refuse_every_edge_that_is_not_forward(self):
        for path, include in (
            ("proto/planted.c", '"crdt/store.h"'),
            ("proto/planted.h", '"node/p2pnode.h"'),
            ("crdt/planted.c", '"transport/channel.h"'),
            ("crdt/planted.c", "<discovery/seeds.h>"),
            ("transport/planted.c", '"crdt/store.h"'),
            ("transport/planted.c", '"node/node.h"'),
            ("discovery/planted.c", '"transport/channel.h"'),
            ("tests/unit/crdt/planted.c", '"transport/channel.h"'),
            ("crdt/planted.c", '"store.h"'),
            ("crdt/planted.c", '"crdt/../transport/channel.h"'),
            ("examples/planted.c", '"proto/buf.h"'),
        ):
            self.layers_refuse(path, include)

    def test_layers_keep_sqlite_and_libuv_in_their_rooms(self):
        for path, include in (
            ("node/planted.c", "<sqlite3.h>"),
            ("proto/planted.c", "<sqlite3.h>"),
            ("transport/planted.c", "<sqlite3.h>"),
            ("proto/planted.c", "<uv.h>"),
            ("crdt/planted.c", "<uv.h>"),
            ("transport/planted.c", "<uv.h>"),
            ("discovery/planted.c", "<uv.h>"),
        ):
            self.layers_refuse(path, include)

    def test_layers_allow_what_is_forward(self):
        self.plant("crdt/planted.c", '/* planted */\n#include <sqlite3.h>\n#include "proto/buf.h"\n')
        self.plant("node/planted.c", '/* planted */\n#include <uv.h>\n#include "crdt/planted.h"\n')
        self.plant("transport/tcp_planted.c", "/* planted */\n#include <uv.h>\n")
        self.plant("crdt/comment.c", '/* planted\n#include "node/node.h"\n*/\n')
        self.assertEqual(self.check(".ci/layers"), (0, ""))

    def test_the_public_header_includes_nothing_of_ours(self):
        path = os.path.join(self.root, "node", "p2pnode.h")
        if os.path.exists(path):
            os.remove(path)
        self.layers_refuse("node/p2pnode.h", '"proto/error.h"')
        self.layers_refuse("node/p2pnode.h", "<uv.h>")

    def test_style_refuses_banned_calls(self):
        for path, call in (
            ("crdt/planted.c", "assert(x)"),
            ("crdt/planted.c", "p = malloc(3)"),
            ("node/planted.c", "free(p)"),
            ("tests/planted.c", "strcpy(a, b)"),
            ("examples/planted.c", "sprintf(a, b)"),
            ("tests/unit/proto/planted.c", "usleep(3)"),
            ("transport/planted.c", "t = time(0)"),
            ("discovery/planted.c", "printf(a)"),
        ):
            text = "/* planted */\nvoid f(void)\n{\n\t%s;\n}\n" % call
            self.style_refuses(path, text, ":4: %s()" % call.split("(")[0].split(" ")[-1])

    def test_style_reads_code_and_not_comments_strings_or_members(self):
        self.plant("crdt/planted.c", '/* free(x) */\nvoid f(void)\n{\n\th->free("malloc(1)");\n\tp2p_free(x);\n}\n')
        self.assertEqual(self.check(".ci/style", "--no-format"), (0, ""))

    def test_style_refuses_long_files_and_functions_and_unfinished_work(self):
        self.style_refuses("crdt/planted.c", "/* planted */\n" + "int a;\n" * 800, "801 lines")
        body = "/* planted */\nvoid f(void)\n{\n" + "\tg();\n" * 101 + "}\n"
        self.style_refuses("crdt/planted.c", body, ":3: function of 101 lines")
        self.style_refuses("crdt/planted.c", "/* TO" + "DO */\n", "finish it")
        self.style_refuses("crdt/planted.c", "/* in /ho" + "me/me/sources */\n", "path of a machine")

    def test_style_refuses_a_file_without_a_comment_and_a_header_without_a_guard(self):
        self.style_refuses("crdt/planted.c", "int a;\n", "begins with a comment")
        self.style_refuses("crdt/planted.h", "/* planted */\nint f(void);\n", "no include guard")
        wrong = "/* planted */\n#ifndef A_H\n#define A_H\n#endif\n"
        self.style_refuses("crdt/planted.h", wrong, "is not named P2P_CRDT_PLANTED_H")

    def test_style_refuses_another_format(self):
        self.style_refuses("crdt/planted.c", "/* planted */\nint   a ;\n", "clang-format", "--with-format")


if __name__ == "__main__":
    unittest.main(verbosity=1)
