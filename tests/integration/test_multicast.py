"""Nodes on hosts of their own (network namespaces on one bridge) that know nobody: a ticket without
addresses, discovery by multicast alone, over IPv4, over IPv6, and after a cable was pulled.

Needs root and iproute2: skipped without. Every packet stays in namespaces that this test made.
"""
import sys

import lib
from lan import Hosts, Lan, available
from lib import Shared, check, rows


SCHEMA = "CREATE TABLE note(id TEXT PRIMARY KEY, body TEXT); INSERT INTO note VALUES('a', 'first')"


def find_one_another(v4, listen):
    lan = Lan(3, v4)
    try:
        with Hosts(lan) as world:
            a = world.db("a.db", SCHEMA)
            Shared(world.on(0, "share", "a.db", *listen))
            ticket = world.run("invite", "a.db", "--uses", "2", "--no-addresses")[0].split()[1]
            for index, name in ((1, "b.db"), (2, "c.db")):
                node = world.on(index, "join", ticket, name, *listen)
                node.line("joined ")
            b, c = world.db("b.db"), world.db("c.db")
            # everybody finds everybody, not only who invited
            for name in ("a.db", "b.db", "c.db"):
                world.run("wait", name, "--peers", "2", "--timeout", "60")
            b.execute("INSERT INTO note VALUES('b', 'by multicast')")
            world.level("a.db", "b.db", "c.db")
            check(rows(c, "SELECT count(*) FROM note") == [(2,)], "c has b's row")
            lan.cable(2, False)
            a.execute("INSERT INTO note VALUES('d', 'while c is unplugged')")
            c.execute("INSERT INTO note VALUES('e', 'written unplugged')")
            lan.cable(2, True)
            vector = world.run("vector", "a.db")[0].strip()
            world.run("wait", "c.db", "--for", vector, "--timeout", "60")
            vector = world.run("vector", "c.db")[0].strip()
            world.run("wait", "a.db", "--for", vector, "--timeout", "60")
            want = [("a",), ("b",), ("d",), ("e",)]
            for conn in (a, c):
                check(rows(conn, "SELECT id FROM note ORDER BY 1") == want, "all rows are there")
            peers = world.status("a.db")["peers"]
            return sorted(peer["address"] for peer in peers)
    finally:
        lan.close()


def both_families_find_one_another(_world):
    find_one_another(True, ())


def ipv6_alone_is_enough(_world):
    addresses = find_one_another(False, ("--listen", "[::]:0"))
    check(all(address.startswith("[fe80::") for address in addresses), "addresses: %s" % addresses)


why_not = available()
if why_not:
    print("%s: skipped" % why_not)
    sys.exit(77)
lib.main([both_families_find_one_another, ipv6_alone_is_enough])
