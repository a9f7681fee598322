#!/usr/bin/env python3
"""The library from Python, with nothing but ctypes.

    ctypes_node.py DB            founds a mesh and prints a ticket
    ctypes_node.py DB TICKET     joins it

Ends at the end of stdin; every line of it prints the state. P2PNODE_LIB names the library when it
is not installed.
"""
import ctypes
import json
import os
import sys

lib = ctypes.CDLL(os.environ.get("P2PNODE_LIB", "libp2pnode.so.0"))


class Event(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("type", ctypes.c_int), ("code", ctypes.c_int),
                ("rows", ctypes.c_uint64), ("percent", ctypes.c_uint64),
                ("node", ctypes.c_char_p), ("text", ctypes.c_char_p), ("json", ctypes.c_char_p)]


ON_EVENT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(Event))
ON_LOG = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p)
TEXTS = ctypes.POINTER(ctypes.c_char_p)


class Options(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("state_dir", ctypes.c_char_p),
                ("name", ctypes.c_char_p), ("listen", TEXTS), ("listen_count", ctypes.c_size_t),
                ("seeds", TEXTS), ("seed_count", ctypes.c_size_t),
                ("interfaces", TEXTS), ("interface_count", ctypes.c_size_t),
                ("no_discovery", ctypes.c_int), ("apply_interval_ms", ctypes.c_uint32),
                ("create", ctypes.c_int), ("log_level", ctypes.c_int), ("ctx", ctypes.c_void_p),
                ("on_event", ON_EVENT), ("on_log", ON_LOG), ("loop", ctypes.c_void_p)]


def check(rc, error):
    if rc:
        sys.exit("%s (%d)" % (error.value.decode(), rc))


def take(text):
    """Copies a text of the library and gives the memory back."""
    value = ctypes.cast(text, ctypes.c_char_p).value.decode()
    lib.p2p_node_free(text)
    return value


@ON_EVENT
def on_event(_ctx, event):  # on the node's thread
    print("event", event.contents.json.decode(), flush=True)


def main():
    db, ticket = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    node, error = ctypes.c_void_p(), ctypes.create_string_buffer(256)
    lib.p2p_node_free.argtypes = [ctypes.c_void_p]
    options = Options()
    lib.p2p_node_options_init(ctypes.byref(options), ctypes.c_size_t(ctypes.sizeof(options)))
    listen = (ctypes.c_char_p * 1)(b"127.0.0.1:0")
    options.listen, options.listen_count = ctypes.cast(listen, TEXTS), 1
    options.no_discovery, options.create, options.on_event = 1, ticket is not None, on_event
    size = ctypes.c_size_t(len(error))
    check(lib.p2p_node_open(db.encode(), ctypes.byref(options), ctypes.byref(node), error, size),
          error)
    if ticket:
        check(lib.p2p_node_join(node, ticket.encode(), error, size), error)
    else:
        none = ctypes.c_size_t(0)
        check(lib.p2p_node_share(node, None, none, None, none, error, size), error)
    check(lib.p2p_node_start(node, error, size), error)
    text = ctypes.c_void_p()
    if not ticket:
        check(lib.p2p_node_invite(node, ctypes.c_uint32(1), ctypes.c_uint64(3600000), None, 0,
                                  ctypes.byref(text), error, size), error)
        print("ticket", take(text), flush=True)
    for _line in sys.stdin:
        check(lib.p2p_node_status(node, ctypes.byref(text)), error)
        print("digest", json.loads(take(text))["digest"], flush=True)
    check(lib.p2p_node_close(node), error)


main()
