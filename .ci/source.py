"""What the machine checks share: which files are ours, and C text without comments and strings."""
import os
import re

PRODUCT = ("proto", "crdt", "transport", "discovery", "node", "examples")


def files(root, suffixes, folders=None):
    """Paths of our files below root, relative and sorted; build folders and hidden ones left out."""
    found = []
    for folder, names, leaves in os.walk(root):
        at_root = folder == root
        names[:] = sorted(
            n
            for n in names
            if not (n.startswith(".") and n != ".ci")
            and n != "__pycache__"
            and not (at_root and n.startswith("build"))
            and not (at_root and folders and n not in folders)
        )
        for leaf in leaves:
            path = os.path.relpath(os.path.join(folder, leaf), root)
            if leaf.endswith(suffixes) and (not folders or path.split(os.sep)[0] in folders):
                found.append(path)
    return sorted(found)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as f:
        return f.read()


TOKEN = re.compile(r'//(?:\\\n|[^\n])*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def code(text, keep_strings=False):
    """C text with comments (and strings) blanked; line numbers and columns stay as they were."""

    def blank(match):
        token = match.group(0)
        if token[0] in "\"'" and keep_strings:
            return token
        return re.sub(r"[^\n]", " ", token)

    return TOKEN.sub(blank, text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1
