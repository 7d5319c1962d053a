-- name: schema_1
CREATE TABLE releases (
  place INTEGER PRIMARY KEY AUTOINCREMENT,
  lineage TEXT NOT NULL,
  content TEXT NOT NULL,
  rho_nanos INTEGER NOT NULL CHECK (rho_nanos > 0),
  statistic TEXT NOT NULL,
  purpose TEXT NOT NULL,
  run_id TEXT NOT NULL,
  exchange TEXT NOT NULL,
  agreement TEXT NOT NULL,
  asset TEXT NOT NULL,
  part TEXT NOT NULL,
  at_s INTEGER NOT NULL,
  payload TEXT NOT NULL,
  share BLOB NOT NULL,
  UNIQUE (lineage, content)
) STRICT;
CREATE TRIGGER releases_never_change BEFORE UPDATE ON releases BEGIN SELECT RAISE(ABORT, 'a release cannot be changed'); END;
CREATE TRIGGER releases_never_go BEFORE DELETE ON releases BEGIN SELECT RAISE(ABORT, 'a release cannot be forgotten'); END;

-- name: spent
SELECT COALESCE(SUM(dearest), 0) AS nanos FROM (
  SELECT MAX(nanos) AS dearest FROM (
    SELECT asset, SUM(rho_nanos) AS nanos FROM releases WHERE lineage = :lineage GROUP BY asset, part
  ) GROUP BY asset
);

-- name: spent_by_split
SELECT asset, part, SUM(rho_nanos) AS nanos FROM releases WHERE lineage = :lineage GROUP BY asset, part;

-- name: release
SELECT * FROM releases WHERE lineage = :lineage AND content = :content;

-- name: releases
SELECT * FROM releases WHERE lineage = :lineage ORDER BY place;

-- name: append
INSERT INTO releases (lineage, content, rho_nanos, statistic, purpose, run_id, exchange, agreement, asset, part, at_s, payload, share)
VALUES (:lineage, :content, :rho_nanos, :statistic, :purpose, :run_id, :exchange, :agreement, :asset, :part, :at_s, :payload, :share);
