-- How other people's schemas are written: keys without a type, functions and collations that only the
-- application has, search by FTS4 and R*Tree kept by triggers, views that are written, raised errors.
CREATE TABLE value(valueID INTEGER PRIMARY KEY, value UNIQUE);
CREATE TABLE item(itemID INTEGER PRIMARY KEY AUTOINCREMENT, "type" INT NOT NULL DEFAULT 1, "key" TEXT NOT NULL COLLATE NOCASE, parent INT,
    UNIQUE("type", "key"), FOREIGN KEY(parent) REFERENCES item(itemID) ON DELETE CASCADE);
CREATE TABLE itemData(itemID INT, fieldID INT, valueID, PRIMARY KEY(itemID, fieldID),
    FOREIGN KEY(itemID) REFERENCES item(itemID) ON DELETE CASCADE, FOREIGN KEY(valueID) REFERENCES value(valueID));
CREATE TABLE itemNote(itemID INTEGER PRIMARY KEY REFERENCES item(itemID) ON DELETE CASCADE, note TEXT);
CREATE TABLE deck(id INTEGER PRIMARY KEY, name TEXT NOT NULL COLLATE unicase);
CREATE TABLE local_deck(id INTEGER PRIMARY KEY, name TEXT NOT NULL COLLATE unicase UNIQUE);
CREATE TABLE tag(guid TEXT PRIMARY KEY NOT NULL, title STRING UNIQUE, sort TEXT, used INTEGER NOT NULL DEFAULT 0);
CREATE TABLE item_tag(item INTEGER NOT NULL REFERENCES item ON DELETE CASCADE, tag TEXT NOT NULL REFERENCES tag(guid) ON DELETE CASCADE
    ON UPDATE CASCADE, PRIMARY KEY(item, tag)) WITHOUT ROWID;
CREATE TABLE watch(item INTEGER REFERENCES item ON DELETE CASCADE, who TEXT);
CREATE TABLE page(id TEXT PRIMARY KEY NOT NULL, body TEXT NOT NULL DEFAULT "");
CREATE TABLE place(id INTEGER PRIMARY KEY, x REAL NOT NULL DEFAULT 0, y REAL NOT NULL DEFAULT 0, level INT AS (CAST(x / 10 AS INT)));
CREATE UNIQUE INDEX place_level ON place(level, y) WHERE x > 20;
CREATE VIRTUAL TABLE page_fts USING fts4(content="page", notindexed="id", id, body);
CREATE VIRTUAL TABLE place_tree USING rtree(id, x0, x1, y0, y1);
CREATE TRIGGER page_bu BEFORE UPDATE ON page BEGIN DELETE FROM page_fts WHERE docid = old.rowid; END;
CREATE TRIGGER page_bd BEFORE DELETE ON page BEGIN DELETE FROM page_fts WHERE docid = old.rowid; END;
CREATE TRIGGER page_au AFTER UPDATE ON page BEGIN INSERT INTO page_fts(docid, id, body) VALUES (new.rowid, new.id, new.body); END;
CREATE TRIGGER page_ai AFTER INSERT ON page BEGIN INSERT INTO page_fts(docid, id, body) VALUES (new.rowid, new.id, new.body); END;
CREATE TRIGGER place_ai AFTER INSERT ON place BEGIN INSERT INTO place_tree VALUES (new.id, new.x, new.x, new.y, new.y); END;
CREATE TRIGGER place_au AFTER UPDATE ON place BEGIN DELETE FROM place_tree WHERE id = old.id;
    INSERT INTO place_tree VALUES (new.id, new.x, new.x, new.y, new.y); END;
CREATE TRIGGER place_ad AFTER DELETE ON place BEGIN DELETE FROM place_tree WHERE id = old.id; END;
CREATE TRIGGER tag_ai AFTER INSERT ON tag BEGIN UPDATE tag SET sort = title_sort(new.title) WHERE guid = new.guid; END;
CREATE TRIGGER item_tag_ai AFTER INSERT ON item_tag BEGIN UPDATE tag SET used = used + 1 WHERE guid = new.tag; END;
CREATE TRIGGER note_bi BEFORE INSERT ON itemNote WHEN new.note = 'forbidden' BEGIN SELECT RAISE(ABORT, 'no such note'); END;
CREATE VIEW tagged AS SELECT i."key" AS item, t.title AS tag FROM item_tag AS x JOIN item AS i ON i.itemID = x.item JOIN tag AS t ON t.guid = x.tag;
CREATE TRIGGER tagged_ii INSTEAD OF INSERT ON tagged BEGIN
    INSERT INTO item_tag SELECT i.itemID, t.guid FROM item AS i, tag AS t WHERE i."key" = new.item AND t.title = new.tag; END;
INSERT INTO value(value) VALUES ('one'), (2), (3.5);
INSERT INTO item("key") VALUES ('ABCD2345'), ('EFGH6789'), ('third');
INSERT INTO itemData VALUES (1, 1, 1), (1, 2, 2), (2, 1, 3);
INSERT INTO deck VALUES (1600000000001, 'Default'), (1600000000002, 'Español');
INSERT INTO page(id, body) VALUES ('p1', 'amber mesh'), ('p2', 'birch');
INSERT INTO place(x, y) VALUES (1, 2), (30, 4), (30.5, 5);
