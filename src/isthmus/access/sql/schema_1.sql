CREATE TABLE keys (
  id            TEXT PRIMARY KEY,
  party         TEXT NOT NULL,
  operator      INTEGER NOT NULL CHECK (operator IN (0, 1)),
  label         TEXT NOT NULL,
  salt          BLOB NOT NULL,
  hash          BLOB NOT NULL,
  created_at_s  INTEGER NOT NULL,
  expires_at_s  INTEGER,
  revoked_at_s  INTEGER
);
CREATE INDEX keys_by_party ON keys (party);
