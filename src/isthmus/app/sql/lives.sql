-- name: schema_1
CREATE TABLE step (
  name TEXT NOT NULL,
  seq INTEGER NOT NULL,
  id TEXT NOT NULL,
  envelope BLOB NOT NULL,
  PRIMARY KEY (name, seq),
  UNIQUE (name, id)
) WITHOUT ROWID;

-- name: step_add
INSERT INTO step (name, seq, id, envelope) VALUES (:name, :seq, :id, :envelope);

-- name: steps_of
SELECT envelope FROM step WHERE name = :name ORDER BY seq;

-- name: names
SELECT DISTINCT name FROM step ORDER BY name;
