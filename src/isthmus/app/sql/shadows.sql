-- name: schema_1
CREATE TABLE shadow (
  name TEXT PRIMARY KEY,
  document BLOB NOT NULL
) WITHOUT ROWID;

-- name: shadow_put
INSERT INTO shadow (name, document) VALUES (:name, :document) ON CONFLICT (name) DO UPDATE SET document = excluded.document;

-- name: shadow_get
SELECT document FROM shadow WHERE name = :name;

-- name: shadow_names
SELECT name FROM shadow ORDER BY name;
