CREATE TABLE offers (
  id       TEXT PRIMARY KEY,
  party    TEXT NOT NULL,
  document BLOB NOT NULL,
  withdrawn INTEGER NOT NULL DEFAULT 0 CHECK (withdrawn IN (0, 1))
);
