-- name: schema_1
CREATE TABLE withdrawals (
  digest TEXT PRIMARY KEY,
  owner TEXT NOT NULL,
  agreement TEXT NOT NULL,
  at_s INTEGER NOT NULL,
  envelope BLOB NOT NULL
) STRICT;
CREATE TABLE departures (
  seq INTEGER PRIMARY KEY,
  run TEXT NOT NULL UNIQUE,
  document BLOB NOT NULL
) STRICT;

-- name: withdrawal_add
INSERT INTO withdrawals (digest, owner, agreement, at_s, envelope) VALUES (:digest, :owner, :agreement, :at_s, :envelope)
ON CONFLICT (digest) DO NOTHING;

-- name: withdrawals
SELECT digest, envelope FROM withdrawals ORDER BY rowid;

-- name: departure_put
INSERT INTO departures (run, document) VALUES (:run, :document) ON CONFLICT (run) DO UPDATE SET document = excluded.document;

-- name: departure_get
SELECT document FROM departures WHERE run = :run;

-- name: departures
SELECT document FROM departures ORDER BY seq;
