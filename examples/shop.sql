-- The sample database of scripts/demo: a small shop, four related tables, 5 550 rows. Deterministic.
--   sqlite3 shop.db < examples/shop.sql
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE customer(
	id TEXT PRIMARY KEY,           -- such as 'c042': made by the application
	name TEXT NOT NULL,
	city TEXT,
	since INTEGER                  -- Unix seconds
);
CREATE TABLE product(
	id INTEGER PRIMARY KEY,
	name TEXT NOT NULL,
	price REAL NOT NULL,
	stock INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE purchase(
	id INTEGER PRIMARY KEY,
	customer TEXT NOT NULL REFERENCES customer(id),
	day TEXT NOT NULL,
	note TEXT
);
CREATE TABLE purchase_line(
	purchase INTEGER NOT NULL REFERENCES purchase(id),
	position INTEGER NOT NULL,
	product INTEGER NOT NULL REFERENCES product(id),
	amount INTEGER NOT NULL,
	PRIMARY KEY(purchase, position)
);
CREATE INDEX purchase_by_customer ON purchase(customer);

WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250)
INSERT INTO customer SELECT printf('c%03d', i), 'Customer ' || i,
	CASE i % 4 WHEN 0 THEN 'Oslo' WHEN 1 THEN 'Lyon' WHEN 2 THEN 'Graz' ELSE NULL END,
	1600000000 + i * 86400 FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)
INSERT INTO product SELECT i, 'Product ' || i, (i * 37 % 1000) / 10.0, i * 13 % 90 FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1250)
INSERT INTO purchase SELECT i, printf('c%03d', 1 + i * 7 % 250), date('2024-01-01', '+' || (i % 365) || ' days'),
	CASE WHEN i % 10 = 0 THEN 'gift' END FROM n;
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 3749)
INSERT INTO purchase_line SELECT 1 + i / 3, 1 + i % 3, 1 + i * 11 % 300, 1 + i % 5 FROM n;
COMMIT;
