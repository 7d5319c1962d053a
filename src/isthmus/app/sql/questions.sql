-- name: schema_1
CREATE TABLE questions (
  key TEXT PRIMARY KEY,
  state BLOB NOT NULL
) STRICT;
CREATE TABLE costs (
  job TEXT NOT NULL,
  party TEXT NOT NULL,
  agreement TEXT NOT NULL,
  rho_nanos INTEGER NOT NULL,
  PRIMARY KEY (job, party)
) STRICT;

-- name: get
SELECT state FROM questions WHERE key = :key;

-- name: put
INSERT INTO questions (key, state) VALUES (:key, :state) ON CONFLICT (key) DO UPDATE SET state = excluded.state;

-- name: put_cost
INSERT INTO costs (job, party, agreement, rho_nanos) VALUES (:job, :party, :agreement, :rho_nanos) ON CONFLICT (job, party) DO NOTHING;

-- name: spent
SELECT coalesce(sum(rho_nanos), 0) AS nanos FROM costs WHERE party = :party;

-- name: runs
SELECT count(*) AS runs FROM costs WHERE agreement = :agreement;
