-- name: schema_1
CREATE TABLE box (
  id TEXT PRIMARY KEY,
  party TEXT NOT NULL,
  key_id TEXT NOT NULL DEFAULT '',
  allowance INTEGER NOT NULL,
  prepaid_micros INTEGER NOT NULL,
  returned_micros INTEGER NOT NULL DEFAULT 0,
  deployment BLOB NOT NULL,
  taken INTEGER NOT NULL DEFAULT 0,
  head TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'open',
  created_s REAL NOT NULL
);
CREATE UNIQUE INDEX box_by_key ON box (key_id) WHERE key_id <> '';
CREATE TABLE record (
  box TEXT NOT NULL REFERENCES box (id),
  seq INTEGER NOT NULL,
  digest TEXT NOT NULL,
  at_s INTEGER NOT NULL,
  image TEXT NOT NULL,
  score TEXT NOT NULL,
  verdict TEXT NOT NULL,
  decided TEXT,
  PRIMARY KEY (box, seq)
);
CREATE INDEX record_waiting ON record (box, seq) WHERE verdict = 'person' AND decided IS NULL;
CREATE TABLE batch (
  box TEXT NOT NULL REFERENCES box (id),
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  receipt TEXT,
  PRIMARY KEY (box, first)
);

-- name: box_add
INSERT INTO box (id, party, allowance, prepaid_micros, deployment, head, created_s)
VALUES (:id, :party, :allowance, :prepaid_micros, :deployment, :head, :now);

-- name: box_key
UPDATE box SET key_id = :key_id WHERE id = :id;

-- name: box_of_key
SELECT * FROM box WHERE key_id = :key_id;

-- name: box_get
SELECT * FROM box WHERE id = :id;

-- name: boxes_all
SELECT box.*,
  (SELECT COALESCE(SUM(last - first + 1), 0) FROM batch WHERE batch.box = box.id AND receipt IS NULL) AS owed,
  (SELECT COUNT(*) FROM record WHERE record.box = box.id AND verdict = 'person' AND decided IS NULL) AS waiting
FROM box ORDER BY created_s, id;

-- name: box_taken
UPDATE box SET taken = :taken, head = :head WHERE id = :id;

-- name: box_retire
UPDATE box SET state = 'retired', returned_micros = :returned_micros WHERE id = :id;

-- name: record_add
INSERT INTO record (box, seq, digest, at_s, image, score, verdict) VALUES (:box, :seq, :digest, :at_s, :image, :score, :verdict);

-- name: record_digest
SELECT digest FROM record WHERE box = :box AND seq = :seq;

-- name: batch_add
INSERT INTO batch (box, first, last) VALUES (:box, :first, :last);

-- name: batches_owed
SELECT first, last FROM batch WHERE box = :box AND receipt IS NULL ORDER BY first;

-- name: batch_paid
UPDATE batch SET receipt = :receipt WHERE box = :box AND first = :first;

-- name: boxes_owing
SELECT DISTINCT box FROM batch WHERE receipt IS NULL;

-- name: tickets
SELECT box, seq, at_s, image, score, decided FROM record WHERE verdict = 'person' AND decided IS NULL ORDER BY at_s, box, seq LIMIT :count;

-- name: ticket
SELECT box, seq, at_s, image, score, decided FROM record WHERE box = :box AND seq = :seq AND verdict = 'person';

-- name: ticket_decide
UPDATE record SET decided = :decided WHERE box = :box AND seq = :seq AND verdict = 'person' AND decided IS NULL;
