-- name: schema_1
CREATE TABLE notices (
  seq INTEGER PRIMARY KEY,
  digest TEXT NOT NULL UNIQUE,
  party TEXT NOT NULL,
  run TEXT NOT NULL,
  kind TEXT NOT NULL,
  envelope BLOB NOT NULL,
  seen INTEGER NOT NULL DEFAULT 0,
  UNIQUE (party, run, kind)
) STRICT;

-- name: notice_add
INSERT INTO notices (digest, party, run, kind, envelope) VALUES (:digest, :party, :run, :kind, :envelope) ON CONFLICT DO NOTHING;

-- name: notices_unseen
SELECT digest, envelope FROM notices WHERE party = :party AND seen = 0 ORDER BY seq LIMIT 16;

-- name: notices_of_run
SELECT envelope, seen FROM notices WHERE run = :run ORDER BY seq;

-- name: notice_seen
UPDATE notices SET seen = 1 WHERE digest = :digest AND party = :party;
