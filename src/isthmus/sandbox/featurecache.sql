-- name: schema_1
CREATE TABLE features (
  source TEXT NOT NULL,
  condition TEXT NOT NULL,
  image TEXT NOT NULL,
  value BLOB NOT NULL,
  PRIMARY KEY (source, condition, image)
) STRICT, WITHOUT ROWID;

-- name: relax
PRAGMA synchronous = NORMAL;

-- name: get
SELECT image, value FROM features WHERE source = :source AND condition = :condition
  AND (:images IS NULL OR image IN (SELECT value FROM json_each(:images)));

-- name: put
INSERT INTO features (source, condition, image, value) VALUES (:source, :condition, :image, :value)
ON CONFLICT (source, condition, image) DO UPDATE SET value = excluded.value;
