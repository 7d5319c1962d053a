-- name: schema_1
CREATE TABLE versions (
  id TEXT PRIMARY KEY,
  keys BLOB NOT NULL,
  splits BLOB NOT NULL
) STRICT;
CREATE TABLE asked (
  number INTEGER PRIMARY KEY,
  question TEXT NOT NULL,
  version TEXT NOT NULL REFERENCES versions (id),
  least INTEGER NOT NULL,
  answer BLOB NOT NULL,
  UNIQUE (question, version, least)
) STRICT;
CREATE TRIGGER asked_stays BEFORE UPDATE ON asked BEGIN SELECT RAISE(ABORT, 'what was answered stays'); END;
CREATE TRIGGER asked_lasts BEFORE DELETE ON asked BEGIN SELECT RAISE(ABORT, 'what was answered stays'); END;

-- name: versions
SELECT id, keys, splits FROM versions ORDER BY rowid;

-- name: put_version
INSERT INTO versions (id, keys, splits) VALUES (:id, :keys, :splits) ON CONFLICT (id) DO NOTHING;

-- name: asked
SELECT question, version, least, answer FROM asked ORDER BY number;

-- name: put_asked
INSERT INTO asked (question, version, least, answer) VALUES (:question, :version, :least, :answer);
