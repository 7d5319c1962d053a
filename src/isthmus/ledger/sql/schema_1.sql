CREATE TABLE accounts (
  id      INTEGER PRIMARY KEY,
  party   TEXT NOT NULL,
  role    TEXT NOT NULL,
  unit    TEXT NOT NULL,
  balance INTEGER NOT NULL DEFAULT 0 CHECK (balance BETWEEN -9007199254740991 AND 9007199254740991),
  held    INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),
  floor   INTEGER,
  UNIQUE (party, role, unit),
  CHECK (floor IS NULL OR balance - held >= floor)
);

CREATE TABLE transfers (
  seq      INTEGER PRIMARY KEY,
  id       TEXT NOT NULL UNIQUE,
  digest   TEXT NOT NULL,
  at_ms    INTEGER NOT NULL,
  reason   TEXT NOT NULL,
  corrects TEXT REFERENCES transfers (id),
  hold     TEXT UNIQUE
);

CREATE TABLE entries (
  seq      INTEGER PRIMARY KEY,
  transfer INTEGER NOT NULL REFERENCES transfers (seq),
  account  INTEGER NOT NULL REFERENCES accounts (id),
  amount   INTEGER NOT NULL CHECK (amount <> 0)
);
CREATE INDEX entries_by_transfer ON entries (transfer);
CREATE INDEX entries_by_account ON entries (account);

CREATE TRIGGER entries_stay BEFORE UPDATE ON entries BEGIN SELECT RAISE (ABORT, 'entries are never edited'); END;
CREATE TRIGGER entries_remain BEFORE DELETE ON entries BEGIN SELECT RAISE (ABORT, 'entries are never removed'); END;
CREATE TRIGGER transfers_stay BEFORE UPDATE ON transfers BEGIN SELECT RAISE (ABORT, 'transfers are never edited'); END;
CREATE TRIGGER transfers_remain BEFORE DELETE ON transfers BEGIN SELECT RAISE (ABORT, 'transfers are never removed'); END;

CREATE TABLE holds (
  id            TEXT PRIMARY KEY,
  digest        TEXT NOT NULL,
  account       INTEGER NOT NULL REFERENCES accounts (id),
  amount        INTEGER NOT NULL CHECK (amount >= 0),
  state         TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'captured', 'voided', 'expired')),
  captured      INTEGER NOT NULL DEFAULT 0 CHECK (captured BETWEEN 0 AND amount),
  opened_at_ms  INTEGER NOT NULL,
  expires_at_ms INTEGER NOT NULL,
  ended_at_ms   INTEGER,
  CHECK ((state = 'open') = (ended_at_ms IS NULL)),
  CHECK (state = 'captured' OR captured = 0)
) WITHOUT ROWID;
CREATE INDEX holds_open ON holds (expires_at_ms) WHERE state = 'open';

CREATE TRIGGER holds_end_once BEFORE UPDATE ON holds WHEN OLD.state <> 'open' BEGIN SELECT RAISE (ABORT, 'a hold ends once'); END;
CREATE TRIGGER holds_remain BEFORE DELETE ON holds BEGIN SELECT RAISE (ABORT, 'holds are never removed'); END;

CREATE TABLE prices (
  id             TEXT PRIMARY KEY,
  series         TEXT NOT NULL,
  effective_at_s INTEGER NOT NULL,
  digest         TEXT NOT NULL,
  document       BLOB NOT NULL
);
CREATE INDEX prices_by_series ON prices (series, effective_at_s);

CREATE TABLE splits (
  id       TEXT PRIMARY KEY,
  digest   TEXT NOT NULL,
  document BLOB NOT NULL
);

CREATE TABLE attempts (
  id       TEXT PRIMARY KEY REFERENCES holds (id),
  digest   TEXT NOT NULL,
  document BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE receipts (
  leaf_index    INTEGER PRIMARY KEY,
  id            TEXT NOT NULL UNIQUE REFERENCES attempts (id),
  digest        TEXT NOT NULL,
  at_ms         INTEGER NOT NULL,
  outcome       TEXT NOT NULL,
  charge_micros INTEGER NOT NULL,
  currency      TEXT NOT NULL,
  document      BLOB NOT NULL
);
CREATE TRIGGER receipts_stay BEFORE UPDATE ON receipts BEGIN SELECT RAISE (ABORT, 'receipts are never edited'); END;
CREATE TRIGGER receipts_remain BEFORE DELETE ON receipts BEGIN SELECT RAISE (ABORT, 'receipts are never removed'); END;

CREATE TABLE receipt_parties (
  party TEXT NOT NULL,
  at_ms INTEGER NOT NULL,
  leaf_index INTEGER NOT NULL REFERENCES receipts (leaf_index),
  PRIMARY KEY (party, at_ms, leaf_index)
) WITHOUT ROWID;

CREATE TABLE log_nodes (
  level INTEGER NOT NULL,
  place INTEGER NOT NULL,
  hash  BLOB NOT NULL,
  PRIMARY KEY (level, place)
) WITHOUT ROWID;
CREATE TRIGGER log_nodes_stay BEFORE UPDATE ON log_nodes BEGIN SELECT RAISE (ABORT, 'the log only grows'); END;
CREATE TRIGGER log_nodes_remain BEFORE DELETE ON log_nodes BEGIN SELECT RAISE (ABORT, 'the log only grows'); END;

CREATE TABLE log_heads (
  tree_size INTEGER PRIMARY KEY,
  root      TEXT NOT NULL,
  envelope  BLOB NOT NULL
);
