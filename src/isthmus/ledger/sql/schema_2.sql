CREATE TABLE lot_receipts (
  party      TEXT NOT NULL,
  lot        TEXT NOT NULL,
  leaf_index INTEGER NOT NULL REFERENCES receipts (leaf_index),
  PRIMARY KEY (party, lot, leaf_index)
) WITHOUT ROWID;
CREATE TRIGGER lot_receipts_stay BEFORE UPDATE ON lot_receipts BEGIN SELECT RAISE (ABORT, 'a lot only grows'); END;
CREATE TRIGGER lot_receipts_remain BEFORE DELETE ON lot_receipts BEGIN SELECT RAISE (ABORT, 'a lot only grows'); END;
