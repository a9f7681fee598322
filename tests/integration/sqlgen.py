"""Random transactions of an application, on any schema.

Reads the schema through PRAGMAs and makes transactions that the database itself judges: what a
constraint refuses is simply refused, as it would be for an application. Children are inserted under
the number that last_insert_rowid() gave their parent; keys, references and UNIQUE columns are
written as often as others; transactions use savepoints, conflict clauses, UPSERT, REPLACE, and are
rolled back at times. The same seed on the same database makes the same transactions.
"""
import random
import re
import sqlite3

# Rows that are written are among the first so many of a table: few enough that nodes meet.
HOT = 40
WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "Amber", "BIRCH", "cedar ", "")
OWN = ("sqlite_", "p2p_")


def quote(name):
    return '"%s"' % name.replace('"', '""')


def own_things(conn, schema_sql):
    """Stand-ins for functions and collations that only the real application has."""
    for name in set(re.findall(r"""\bCOLLATE\s+["'`\[]?(\w+)""", schema_sql, re.IGNORECASE)):
        if name.upper() not in ("BINARY", "NOCASE", "RTRIM"):
            conn.create_collation(name, lambda a, b: (a.lower() > b.lower()) - (a.lower() < b.lower()))
    known = {row[0].lower() for row in conn.execute("SELECT name FROM pragma_function_list")}
    for name in set(re.findall(r"\b([A-Za-z_]\w*)\s*\(", schema_sql)):
        if name.lower() not in known:  # a table or a keyword before a parenthesis is none the worse for it
            conn.create_function(name, -1, lambda *args: args[0] if args else "made up", deterministic=True)


class Column:
    def __init__(self, name, kind, not_null, default, key):
        self.name, self.kind, self.not_null = name, kind.upper(), bool(not_null)
        self.default, self.key = default, key

    def affinity(self):
        """By the rules of datatype3.html, 3.1."""
        for affinity, words in (("integer", ("INT",)), ("text", ("CHAR", "CLOB", "TEXT")), ("blob", ("BLOB",)),
                                ("real", ("REAL", "FLOA", "DOUB"))):
            if any(word in self.kind for word in words):
                return affinity
        return "numeric" if self.kind and self.kind != "ANY" else "blob"


class Foreign:
    def __init__(self, parent, columns, to):
        self.parent, self.columns, self.to = parent, columns, to


class Table:
    """What PRAGMAs say of one table."""

    def __init__(self, conn, name):
        self.name, self.sql = name, quote(name)
        self.columns = [Column(row[1], row[2], row[3], row[4], row[5])
                        for row in conn.execute("PRAGMA table_xinfo(%s)" % self.sql) if row[6] == 0]
        self.key = [c.name for c in sorted((c for c in self.columns if c.key), key=lambda c: c.key)]
        self.rowid = self._is_rowid_alias(conn)
        self.foreign = self._foreign(conn)
        self.unique = any(row[2] and row[3] != "pk" for row in conn.execute("PRAGMA index_list(%s)" % self.sql))

    def _is_rowid_alias(self, conn):
        """Its key is the number that last_insert_rowid() tells."""
        keys = [c for c in self.columns if c.key]
        if len(keys) != 1 or keys[0].kind != "INTEGER":
            return False
        if any(row[3] == "pk" for row in conn.execute("PRAGMA index_list(%s)" % self.sql)):
            return False  # INTEGER PRIMARY KEY DESC, WITHOUT ROWID
        return True

    def _foreign(self, conn):
        found = {}
        for row in conn.execute("PRAGMA foreign_key_list(%s)" % self.sql):
            foreign = found.setdefault(row[0], Foreign(row[2], [], []))
            foreign.columns.append(row[3])
            foreign.to.append(row[4])
        return list(found.values())


class Schema:
    """Tables that an application writes: no views, no virtual tables, none of ours."""

    def __init__(self, conn):
        tables = [row[1] for row in conn.execute("PRAGMA table_list")
                  if row[0] == "main" and row[2] == "table" and not row[1].startswith(OWN)]
        self.tables = [Table(conn, name) for name in sorted(tables)]
        self.by_name = {table.name.lower(): table for table in self.tables}
        for table in self.tables:
            for foreign in table.foreign:
                parent = self.by_name.get(foreign.parent.lower())
                if parent and None in foreign.to:
                    foreign.to = list(parent.key)
        self.search = [row[1] for row in conn.execute("PRAGMA table_list")
                       if row[0] == "main" and row[2] == "virtual"]
        self.circular = False  # its triggers fire one another, or themselves, if SQLite lets them


class Ended(Exception):
    """The database rolled the transaction back (OR ROLLBACK)."""


class Generator:
    """One application's transactions. careless: the share of them without foreign_keys."""

    def __init__(self, schema, seed, tables=None, careless=0.0):
        self.schema, self.random, self.careless = schema, random.Random(seed), careless
        self.tables = [t for t in schema.tables if tables is None or t.name in tables]
        self.made, self.refused, self.committed, self.rolled_back = 0, 0, 0, 0
        self.last = {}  # table: the last number that was inserted in this transaction
        self.dangling = set()

    # --- values -----------------------------------------------------------------------------------

    def some(self, conn, table, columns):
        """These columns of some row, or None."""
        sql = "SELECT %s FROM %s LIMIT 1 OFFSET ?" % (", ".join(map(quote, columns)), table.sql)
        return conn.execute(sql, (self.random.randrange(HOT),)).fetchone() or conn.execute(sql, (0,)).fetchone()

    def any_value(self, column):
        pick = self.random
        affinity = column.affinity()
        if pick.random() < 0.02:
            affinity = pick.choice(("integer", "text", "blob", "real"))
        if affinity == "integer":
            return pick.choice((0, 1, 2, 3, pick.randrange(50), pick.randrange(1 << 31), -1))
        if affinity == "real":
            return pick.choice((0.0, 0.5, 1.0, -2.25, float(pick.randrange(100)), 1e300))
        if affinity == "numeric":
            return pick.choice((0, 1, 2.5, pick.randrange(100), "2026-0%d-11" % pick.randrange(1, 10)))
        if affinity == "blob":
            size = pick.choice((0, 3, 16, 16, 16))
            return pick.choice((bytes(pick.randrange(4) for _ in range(size)), pick.randrange(5)))
        if pick.random() < 0.3:
            return "%s %d" % (pick.choice(WORDS), pick.randrange(100000))
        return pick.choice(WORDS)

    def value(self, conn, table, column):
        chance = self.random.random()
        # a row with NULL in its key stays where it is written: it must not hold what others want
        if not column.not_null and chance < 0.12 and not (column.key and table.unique):
            return None
        if chance < 0.35:
            row = self.some(conn, table, [column.name])
            if row and row[0] is not None:
                return row[0]
        return self.any_value(column)

    def parents(self, conn, table, values):
        """References: to what was just inserted, or to some row, or to none."""
        for foreign in sorted(table.foreign, key=lambda f: len(f.columns)):  # what several name, the longest says
            parent = self.schema.by_name.get(foreign.parent.lower())
            if not parent or not set(foreign.columns) & set(values):
                continue
            chance = self.random.random()
            if parent.name in self.last and chance < 0.5 and foreign.to == parent.key:
                target = (self.last[parent.name],)
            elif chance < 0.92:
                target = self.some(conn, parent, foreign.to)
            elif self.careless and chance < 0.96:
                target = tuple(self.random.randrange(900, 905) for _ in foreign.to)
            else:
                target = (None,) * len(foreign.to)
            for column, value in zip(foreign.columns, target or ()):
                values[column] = value

    def row(self, conn, table):
        values = {column.name: self.value(conn, table, column) for column in table.columns}
        self.parents(conn, table, values)
        for column in table.columns:
            if column.default is not None and self.random.random() < 0.2 and not column.key:
                values.pop(column.name, None)
        if table.rowid and not any(table.key == f.columns for f in table.foreign):
            # the next free number, as everyone takes it; or one that somebody chose
            values.pop(table.key[0], None)
            if self.random.random() < 0.15:
                top = conn.execute("SELECT max(%s) FROM %s" % (quote(table.key[0]), table.sql)).fetchone()[0]
                values[table.key[0]] = (top or 0) + self.random.randrange(1, 6)
        return values

    # --- statements -------------------------------------------------------------------------------

    def run(self, conn, sql, values=()):
        self.made += 1
        try:
            return conn.execute(sql, values)
        except (sqlite3.IntegrityError, OverflowError):
            self.refused += 1
        except sqlite3.OperationalError as why:
            if "trigger recursion" not in str(why):
                raise
            self.refused += 1
            self.schema.circular = True
        if not conn.in_transaction:
            raise Ended
        return None

    def clause(self, among=("", "", "", "", "OR REPLACE ", "OR REPLACE ", "OR IGNORE ", "OR FAIL ", "OR ABORT ", "OR ROLLBACK ")):
        chosen = self.random.choice(among)
        # without recursive triggers REPLACE tells none of what it deletes: an index of the application's would be wrong
        return "" if self.schema.circular and self.schema.search and "REPLACE" in chosen else chosen

    def insert(self, conn, table):
        values = self.row(conn, table)
        if not values:
            self.run(conn, "INSERT INTO %s DEFAULT VALUES" % table.sql)
            return
        sql = "INTO %s(%s) VALUES(%s)" % (table.sql, ", ".join(map(quote, values)), ", ".join("?" * len(values)))
        upsert = [c for c in values if c not in table.key]
        if upsert and self.random.random() < 0.12:
            column = quote(self.random.choice(upsert))
            sql = "INSERT %s ON CONFLICT DO UPDATE SET %s = excluded.%s" % (sql, column, column)
        else:
            sql = "INSERT %s%s" % (self.clause(), sql)
        done = self.run(conn, sql, tuple(values.values()))
        if done and done.rowcount > 0 and table.rowid:
            self.last[table.name] = done.lastrowid

    def where(self, conn, table):
        """Some row, by its key (or rowid)."""
        columns = table.key or ["rowid"]
        row = self.some(conn, table, columns)
        if row is None:
            return None
        return " AND ".join("%s IS ?" % quote(c) for c in columns), row

    def update(self, conn, table):
        where = self.where(conn, table)
        if not where:
            return
        plain = [c for c in table.columns if not c.key] or table.columns
        columns = self.random.sample(plain, min(len(plain), self.random.randint(1, 3)))
        if self.random.random() < 0.06:
            columns = [self.random.choice(table.columns)]
        values = {column.name: self.value(conn, table, column) for column in columns}
        self.parents(conn, table, values)
        sets = ", ".join("%s = ?" % quote(name) for name in values)
        clause = self.clause(("", "", "", "OR REPLACE ", "OR IGNORE "))
        self.run(conn, "UPDATE %s%s SET %s WHERE %s" % (clause, table.sql, sets, where[0]),
                 tuple(values.values()) + tuple(where[1]))

    def delete(self, conn, table):
        where = self.where(conn, table)
        if where:
            self.run(conn, "DELETE FROM %s WHERE %s" % (table.sql, where[0]), where[1])

    def statement(self, conn):
        table = self.random.choice(self.tables)
        chance = self.random.random()
        if chance < 0.45:
            self.insert(conn, table)
        elif chance < 0.88:
            self.update(conn, table)
        else:
            self.delete(conn, table)

    # --- transactions -----------------------------------------------------------------------------

    def savepoint(self, conn):
        conn.execute("SAVEPOINT inner_one")
        for _ in range(self.random.randint(1, 3)):
            self.statement(conn)
        if self.random.random() < 0.5:
            conn.execute("ROLLBACK TO inner_one")
            self.last.clear()
        conn.execute("RELEASE inner_one")

    def transaction(self, conn):
        """One; True when it was committed."""
        careless = self.random.random() < self.careless
        conn.execute("PRAGMA foreign_keys = %s" % ("OFF" if careless else "ON"))
        recursive = "ON" if self.schema.search else self.random.choice(("ON", "OFF"))
        if self.schema.circular:
            recursive = "OFF"
        conn.execute("PRAGMA recursive_triggers = %s" % recursive)
        conn.execute("BEGIN IMMEDIATE")
        self.last.clear()
        # where some dangle already, SQLite lets others dangle: it counts those that go against those that come
        before = violations(conn) if self.careless and not careless else set()
        try:
            for _ in range(self.random.choice((1, 1, 2, 3, 5))):
                if self.random.random() < 0.1:
                    self.savepoint(conn)
                else:
                    self.statement(conn)
            if self.random.random() < 0.06:
                conn.execute("ROLLBACK")
            else:
                dangling = violations(conn) - before if self.careless else set()  # after COMMIT merges may hide it for a while
                conn.execute("COMMIT")
                self.committed += 1
                self.dangling |= dangling
                return True
        except (Ended, sqlite3.IntegrityError):
            if conn.in_transaction:  # a deferred FOREIGN KEY at COMMIT
                conn.execute("ROLLBACK")
        self.rolled_back += 1
        return False


def violations(conn):
    """What foreign_key_check says, by table, key and the value that dangles. Rows with NULL in their key are
    not replicated, and nobody takes them along when their parent goes."""
    found, texts = set(), {}
    for table, rowid, _, index in conn.execute("PRAGMA foreign_key_check").fetchall():
        if rowid is None:
            found.add((table, index, None))
            continue
        if (table, index) not in texts:
            columns = [row[3] for row in conn.execute("PRAGMA foreign_key_list(%s)" % quote(table)) if row[0] == index]
            keys = [row[1] for row in conn.execute("PRAGMA table_info(%s)" % quote(table)) if row[5]]
            texts[table, index] = len(columns), "SELECT %s FROM %s WHERE rowid = ?" % (
                ", ".join(map(quote, columns + keys)), quote(table))
        count, text = texts[table, index]
        values = conn.execute(text, (rowid,)).fetchone()
        if values and None not in values[count:]:
            found.add((table, index, values[:count]))
    return found
